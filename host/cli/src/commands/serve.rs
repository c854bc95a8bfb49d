//! `ambit serve`: the host as a server for agents.

use std::path::Path;

use ambit_runtime::config::Config;
use ambit_runtime::host::{Host, HostOptions};
use ambit_server::mcp::Who;
use ambit_server::signals::Heard;
use ambit_server::stdio::DoorError;
use ambit_server::{http, stdio};

use super::{call, opening, run};
use crate::args::Serve;
use crate::output::{Exit, Failure, count, note};

/// Standard output is the protocol's, or nobody's: all that people read goes to standard error.
pub(crate) fn run(args: &Serve, home: &Path) -> Result<Exit, Failure> {
    // Before the home is opened, which takes a while where tools are compiled: what is told to end or to reload by then is not killed.
    let heard = Heard::from_now_on().map_err(|error| Failure::internal(format!("no signal can be heard: {error}")))?;
    let config = opening::config(home)?;
    let ended = if args.stdio {
        over_stdio(args, home, config, heard)?
    } else {
        over_http(args, config, heard)?
    };
    match ended {
        Ok(()) => Ok(Exit::Done),
        Err(DoorError::Refused(refusal)) => Err(Failure::from(refusal)),
        Err(error @ (DoorError::Io(_) | DoorError::Ledger(_))) => Err(Failure::internal(error.to_string())),
    }
}

fn over_stdio(args: &Serve, home: &Path, config: Config, heard: Heard) -> Result<Result<(), DoorError>, Failure> {
    let part_of = args.run.as_deref().map(|run| run::find(home, run)).transpose()?;
    let who = Who {
        agent: call::known_agent(args.agent.as_deref(), &config)?,
        user: args.user.clone(),
        mode: call::mode(args.mode, part_of.as_ref()),
        run: part_of.map(|run| run.id().to_owned()),
    };
    let host = open(config)?;
    let _telling = host.tell_collector()?;
    let _deliveries = host.deliver_webhooks()?;
    Ok(stdio::serve(&host, who, heard))
}

fn over_http(args: &Serve, config: Config, heard: Heard) -> Result<Result<(), DoorError>, Failure> {
    let Some(server) = config.server() else {
        return Err(Failure::usage("the configuration has no [server], so no agent could show who it is").advise(
            "Add it to ambit.toml: [server], and issuers where tokens are taken. Or serve one agent's program: --stdio.",
        ));
    };
    let listen = args.listen.unwrap_or(server.listen);
    let tls = server.tls.is_some();
    let host = open(config)?;
    let _telling = host.tell_collector()?;
    let _deliveries = host.deliver_webhooks()?;
    let mode = call::mode(args.mode, None);
    Ok(http::serve(&host, listen, mode, heard, |address| {
        let scheme = if tls { "https" } else { "http" };
        note(format!("serving agents at {scheme}://{address}/mcp"));
        if !tls && !address.ip().is_loopback() {
            note("requests come in the clear: between this port and other machines has to stand what speaks TLS.");
        }
    }))
}

fn open(config: Config) -> Result<Host, Failure> {
    let options = HostOptions {
        webhooks: true,
        ..HostOptions::default()
    };
    let host = opening::host(config, options)?;
    call::interrupted(&host)?;
    let suspended = host.go_on_with_suspended()?;
    if !suspended.is_empty() {
        let calls = count(suspended.len() as u64, "call goes", "calls go");
        note(format!("{calls} on that the last host was told to end in."));
    }
    Ok(host)
}
