//! `ambit serve`: the host as a server for an agent.

use std::path::Path;

use ambit_runtime::config::Config;
use ambit_runtime::host::{Host, HostOptions};
use ambit_server::mcp::{self, DoorError, Who};

use super::{call, run};
use crate::args::Serve;
use crate::output::{self, Exit, Failure};

/// Standard output is the protocol's: all that people read goes to standard error.
pub(crate) fn run(args: &Serve, home: &Path) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let part_of = args.run.as_deref().map(|run| run::find(home, run)).transpose()?;
    let who = Who {
        agent: call::known_agent(args.agent.as_deref(), &config)?,
        user: args.user.clone(),
        mode: call::mode(args.mode, part_of.as_ref()),
        run: part_of.map(|run| run.id().to_owned()),
    };
    let opening = output::working("opening the home");
    let host = Host::open(config, HostOptions::default())?;
    drop(opening);
    host.warnings().iter().for_each(output::warn);
    call::interrupted(&host)?;
    match mcp::serve_stdio(host, who) {
        Ok(()) => Ok(Exit::Done),
        Err(DoorError::Refused(refusal)) => Err(Failure::from(refusal)),
        Err(error @ DoorError::Protocol(_)) => Err(Failure::usage(error.to_string()).advise(
            "ambit serve --stdio is started by an agent's program, which speaks MCP over its input and output.",
        )),
        Err(error @ DoorError::Io(_)) => Err(Failure::internal(error.to_string())),
    }
}
