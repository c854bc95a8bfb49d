//! `ambit serve`: the host as a server for an agent.

use std::path::Path;

use ambit_runtime::config::Config;
use ambit_runtime::host::{Host, HostOptions};
use ambit_server::mcp::Who;
use ambit_server::stdio::{self, DoorError};

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
    match stdio::serve(&host, who) {
        Ok(()) => Ok(Exit::Done),
        Err(DoorError::Refused(refusal)) => Err(Failure::from(refusal)),
        Err(error @ (DoorError::Io(_) | DoorError::Ledger(_))) => Err(Failure::internal(error.to_string())),
    }
}
