//! The `ambit` command.

mod allocator;
mod args;
mod build;
mod commands;
mod exits;
mod export;
mod ids;
mod log;
mod output;
mod proposal;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use output::{Exit, Failure, Output};

#[cfg(windows)]
compile_error!("Ambit does not run on Windows yet: build it on Linux or macOS, or in WSL.");

fn main() -> ExitCode {
    allocator::purge_soon();
    no_core_dumps();
    // Clap prints its own errors and exits with 2, which is what Exit::Usage is.
    let cli = Cli::parse();
    output::set_color(cli.global.color);
    let exit = match log::start(&cli.global).and_then(|()| run(&cli)) {
        Ok(exit) => exit,
        Err(failure) => {
            output::report(&failure);
            failure.exit()
        }
    };
    ExitCode::from(exit as u8)
}

/// The process holds keys and credentials, which no file may.
fn no_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Lowering a limit is refused to nobody; where it is, there is no way to have none.
    let _ = setrlimit(Resource::Core, none);
}

fn run(cli: &Cli) -> Result<Exit, Failure> {
    let home = cli.global.home.as_path();
    let out = Output {
        format: cli.global.format,
    };
    match &cli.command {
        Command::Init => commands::init::run(home, out),
        Command::Build(args) => commands::build::run(args, out),
        Command::Inspect(args) => commands::inspect::run(args, home, out),
        Command::Contract(args) => commands::contract::run(args, home, out),
        Command::Call(args) => commands::call::run(args, home, out),
        Command::Serve(args) => commands::serve::run(args, home),
        Command::Tools { command } => commands::tools::run(command, home, out),
        Command::Policy { command } => commands::policy::run(command, home, out),
        Command::Calls(args) => commands::calls::run(args, home, out),
        Command::Approvals { command } => commands::approvals::run(command, home, out),
        Command::Person { command } => commands::person::run(command, home, out),
        Command::Keys { command } => commands::keys::run(command, home, out),
        Command::Kill(args) => commands::kill::kill(args, home, out),
        Command::Unkill(args) => commands::kill::unkill(args, home, out),
        Command::Status => commands::kill::status(home, out),
        Command::Reload => commands::reload::run(home, out),
        Command::Run { command } => commands::run::run(command, home, out),
        Command::Token { command } => commands::token::run(command, home, out),
        Command::Replay(args) => commands::replay::run(args, home, out),
        Command::WhatIf(args) => commands::what_if::run(args, home, out),
        Command::Connections { command } => commands::connections::run(command, home, out),
        Command::Rollback(args) => commands::rollback::run(args, home, out),
        Command::DeadLetters { command } => commands::dead_letters::run(command, home, out),
        Command::Webhooks { command } => commands::webhooks::run(command, home, out),
        Command::Budgets => commands::budgets::run(home, out),
        Command::Audit { command } => commands::audit::run(command, home, out),
        Command::Metrics(args) => commands::metrics::run(args, home, out),
        Command::Export(args) => commands::export::run(args, home),
        Command::Erase(args) => commands::erase::run(args, home, out),
        Command::Receipt { command } => commands::receipt::run(command, out),
        Command::Completions { shell } => commands::completions::run(*shell),
        Command::Man => commands::completions::man(),
        Command::CompileChild => commands::compile_child::run(),
    }
}
