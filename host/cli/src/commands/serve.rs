//! `ambit serve`: the host as a server for agents.

use std::path::Path;

use ambit_runtime::config::Config;
use ambit_runtime::host::{Host, HostOptions};
use ambit_server::mcp::Who;
use ambit_server::stdio::DoorError;
use ambit_server::{http, stdio};

use super::{call, run};
use crate::args::Serve;
use crate::output::{self, Exit, Failure, count, note};

/// Standard output is the protocol's, or nobody's: all that people read goes to standard error.
pub(crate) fn run(args: &Serve, home: &Path) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let ended = if args.stdio {
        over_stdio(args, home, config)?
    } else {
        over_http(args, config)?
    };
    match ended {
        Ok(()) => Ok(Exit::Done),
        Err(DoorError::Refused(refusal)) => Err(Failure::from(refusal)),
        Err(error @ (DoorError::Io(_) | DoorError::Ledger(_))) => Err(Failure::internal(error.to_string())),
    }
}

fn over_stdio(args: &Serve, home: &Path, config: Config) -> Result<Result<(), DoorError>, Failure> {
    let part_of = args.run.as_deref().map(|run| run::find(home, run)).transpose()?;
    let who = Who {
        agent: call::known_agent(args.agent.as_deref(), &config)?,
        user: args.user.clone(),
        mode: call::mode(args.mode, part_of.as_ref()),
        run: part_of.map(|run| run.id().to_owned()),
    };
    let host = open(config)?;
    let _telling = host.tell_collector()?;
    Ok(stdio::serve(&host, who))
}

fn over_http(args: &Serve, config: Config) -> Result<Result<(), DoorError>, Failure> {
    let Some(server) = config.server() else {
        return Err(Failure::usage("the configuration has no [server], so no agent could show who it is").advise(
            "Add it to ambit.toml: [server], and issuers where tokens are taken. Or serve one agent's program: --stdio.",
        ));
    };
    let listen = args.listen.unwrap_or(server.listen);
    let host = open(config)?;
    let _telling = host.tell_collector()?;
    let mode = call::mode(args.mode, None);
    Ok(http::serve(&host, listen, mode, |address| {
        note(format!("serving agents at http://{address}/mcp"));
        if !address.ip().is_loopback() {
            note("requests come in the clear: between this port and other machines has to stand what speaks TLS.");
        }
    }))
}

fn open(config: Config) -> Result<Host, Failure> {
    let opening = output::working("opening the home");
    let host = Host::open(config, HostOptions::default())?;
    drop(opening);
    host.warnings().iter().for_each(output::warn);
    call::interrupted(&host)?;
    let suspended = host.go_on_with_suspended()?;
    if !suspended.is_empty() {
        let calls = count(suspended.len() as u64, "call goes", "calls go");
        note(format!("{calls} on that the last host was told to end in."));
    }
    Ok(host)
}
