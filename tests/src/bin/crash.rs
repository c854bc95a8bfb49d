//! Kills hosts under load, and holds their ledger against the service. See `ambit_tests::crash`.
#![expect(clippy::print_stderr, reason = "a command line program prints")]

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ambit_tests::crash::{self, Failed, Plan};

const USAGE: &str = "\
Usage: ambit-crash [--effects N] [--seed N]

Kills hosts at random moments until the service has received N effects, and checks that everything adds up.

  --effects N    at least so many [default: 20000]
  --seed N       of the moments and of what is called [default: AMBIT_CRASH_SEED, or 1]
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let ended = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--work", home, seed] => crash::work(&PathBuf::from(home), seed.parse().unwrap_or_default()).map(|()| true),
        options => match plan(options) {
            Some(plan) => run(plan),
            None => {
                eprint!("{USAGE}");
                return ExitCode::from(2);
            }
        },
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ambit-crash: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(plan: Plan) -> Result<bool, Failed> {
    let scratch = tempfile::Builder::new().prefix("ambit-crash-").tempdir()?;
    let path: &Path = scratch.path();
    crash::main(plan, path, &mut io::stdout())
}

fn plan(options: &[&str]) -> Option<Plan> {
    let mut plan = Plan {
        effects: 20_000,
        seed: seed()?,
    };
    for pair in options.chunks(2) {
        match pair {
            ["--effects", number] => plan.effects = number.parse().ok()?,
            ["--seed", number] => plan.seed = number.parse().ok()?,
            _ => return None,
        }
    }
    Some(plan)
}

/// What the environment says; 1 where it says nothing, and none where it is no number.
fn seed() -> Option<u64> {
    match env::var("AMBIT_CRASH_SEED") {
        Ok(text) => text.parse().ok(),
        Err(_) => Some(1),
    }
}
