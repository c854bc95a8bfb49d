//! `cargo xtask demo`: from a fresh clone to the whole way of a call.

use std::process::{Command, ExitCode};

use crate::components;
use crate::failure::{Failure, Outcome};
use crate::live::{LONG, Live};
use crate::place::Place;
use crate::setup;

/// Builds what is missing, then hands over to the program that tells the story.
pub(crate) fn run(place: &Place) -> Outcome<ExitCode> {
    prepare(place)?;
    println!();
    let demo = place.program("ambit-demo");
    let status = Command::new(&demo)
        .current_dir(&place.root)
        .env("AMBIT_COMPONENTS", place.components())
        .status()
        .map_err(|error| Failure::at(&demo, &error))?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Set-up, host programs and components, each saying what it does.
pub(crate) fn prepare(place: &Place) -> Outcome {
    let mut live = Live::new("[1/3] set up");
    let toolchain = setup::toolchain(place, &mut live)?;
    live.say(&format!("components are built with {toolchain} ({})", live.elapsed()));

    let mut live = Live::new("[2/3] build");
    build_host(place, &mut live)?;
    live.say(&format!("host programs ({})", live.elapsed()));

    let mut live = Live::new("[3/3] components");
    let count = components::build(place, &mut live, &toolchain)?;
    live.say(&format!("{count} components ({})", live.elapsed()));
    Ok(())
}

/// Builds every program of the host. Always the whole workspace: with fewer packages cargo would choose other features of
/// what they share, and compile it twice.
pub(crate) fn build_host(place: &Place, live: &mut Live) -> Outcome {
    let mut cargo = place.cargo();
    live.run(place, "cargo build", cargo.args(["build", "--workspace"]), LONG)
        .map(drop)
}
