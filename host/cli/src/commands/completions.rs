//! `ambit completions` and the manual page, from the same definitions as the parser.

use clap::CommandFactory;

use crate::args::Cli;
use crate::output::{Exit, Failure};

pub(crate) fn run(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    clap_complete::generate(shell, &mut Cli::command(), "ambit", &mut std::io::stdout());
    Ok(Exit::Done)
}

pub(crate) fn man() -> Result<Exit, Failure> {
    clap_mangen::Man::new(Cli::command())
        .render(&mut std::io::stdout())
        .map_err(|e| Failure::internal(format!("standard output cannot be written: {e}")))?;
    Ok(Exit::Done)
}
