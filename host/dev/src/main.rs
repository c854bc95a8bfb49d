//! `cargo xtask`: everything that is done to this repository, on any machine, in one place.
//!
//! It builds with the standard library and two parsers and depends on no crate of the host, so it runs before anything
//! else compiles and cannot share a defect with what it checks.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program prints")]

mod bench;
mod checks;
mod components;
mod demo;
mod failure;
mod fuzz;
mod live;
mod mutants;
mod peers;
mod place;
mod seeded;
mod setup;
mod stamp;
mod test;

use std::process::ExitCode;

use failure::{Failure, Outcome};
use live::Live;
use place::Place;

const USAGE: &str = "\
Usage: cargo xtask <COMMAND>

Commands:
  setup               find or install what builds components for wasm
  components          build every tool and test guest into target/components
  demo                set up, build, and show the way of a call from end to end
  bench               set up, build, measure the figures to reach, and write the README's table of them
  bench --quick       only see that all of them can be measured, in a few seconds
  test [PHASE…]       set up and run every check, or only the named phases and what they need
  test --list         name the phases of `test`
  fuzz [TARGET…] [--seconds N]
                      bend inputs of every target, or of those named, for longer than `test` does
  seeded [FAULT…]     sow faults into a copy of the host, and see that each is caught; long

Environment:
  CARGO_TARGET_DIR        where everything is built (default: target)
  AMBIT_GUEST_TOOLCHAIN   installed | rustup | debian | debian-unpacked: use this one way to build for wasm
  CI                      when set, a skipped test fails `test`
";

fn main() -> ExitCode {
    if cfg!(windows) {
        eprintln!(
            "Ambit is built and run on Linux and macOS. On Windows, use it inside WSL 2, where these commands work."
        );
        return ExitCode::FAILURE;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("\n{failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Outcome<ExitCode> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["setup"] => {
            let place = Place::find()?;
            let toolchain = setup::toolchain(&place, &mut Live::new("setup"))?;
            println!("components are built with {toolchain}");
            Ok(ExitCode::SUCCESS)
        }
        ["components"] => {
            let place = Place::find()?;
            demo::prepare(&place)?;
            Ok(ExitCode::SUCCESS)
        }
        ["demo"] => demo::run(&Place::find()?),
        ["bench"] => bench::run(&Place::find()?, false),
        ["bench", "--quick"] => bench::run(&Place::find()?, true),
        ["seeded", names @ ..] => seeded::run(&Place::find()?, names),
        ["fuzz", words @ ..] => fuzz::run(&Place::find()?, words),
        ["test", "--list"] => {
            test::list();
            Ok(ExitCode::SUCCESS)
        }
        ["test", phases @ ..] => test::run(&Place::find()?, phases),
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(Failure::new(format!(
            "`{}` is not a command of xtask\n\n{USAGE}",
            words.join(" ")
        ))),
    }
}
