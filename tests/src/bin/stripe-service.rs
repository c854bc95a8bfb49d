//! The payment service as a process. See `ambit_tests::service`.
#![expect(clippy::print_stderr, reason = "a command line program prints")]

use std::env;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use ambit_tests::service::{Options, server};

const USAGE: &str = "\
Usage: stripe-service FOLDER [--name NAME]… [--only] [--expired]

Serves on loopback until its standard input ends, and writes to FOLDER:
  service.json     ports and the bearer token, once it listens
  ca.pem           the authority that signed its certificate
  requests.jsonl   every request that arrived, one line each

  --name NAME      a name for the certificate, besides api.stripe.com and hooks.slack.com
  --only           no names but the given ones
  --expired        a certificate that ran out
";

fn main() -> ExitCode {
    let Some((folder, options)) = parse(env::args().skip(1)) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    thread::spawn(end_with_input);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(server::run(&folder, &options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stripe-service: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<(PathBuf, Options)> {
    let mut folder = None;
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--name" => options.names.push(arguments.next()?),
            "--only" => options.only = true,
            "--expired" => options.expired = true,
            _ if folder.is_none() && !argument.starts_with('-') => folder = Some(PathBuf::from(argument)),
            _ => return None,
        }
    }
    Some((folder?, options))
}

/// Whoever started us holds the other end: when that process is gone, however it went, so are we.
fn end_with_input() {
    let mut ignored = [0; 64];
    while io::stdin().read(&mut ignored).is_ok_and(|length| length > 0) {}
    std::process::exit(0);
}
