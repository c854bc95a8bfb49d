//! `cargo xtask fuzz`, and the phase of `cargo xtask test` that runs it: the fuzzer is a program of `ambit-tests`.

use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::demo;
use crate::failure::{Failure, Outcome};
use crate::live::Live;
use crate::place::Place;
use crate::stamp::Inputs;

/// How long the phase runs each target, and how long `cargo xtask fuzz` does where nothing is said.
const BRIEF: u64 = 12;
const LONG: u64 = 300;

/// Runs the named targets (all, where none is named) for `--seconds N` each.
pub(crate) fn run(place: &Place, words: &[&str]) -> Outcome<ExitCode> {
    demo::build_host(place, &mut Live::new("fuzz"))?;
    let mut fuzzer = Command::new(place.program("fuzz"));
    if !words.contains(&"--seconds") {
        fuzzer.args(["--seconds", &LONG.to_string()]);
    }
    let status = fuzzer
        .args(words)
        .status()
        .map_err(|error| Failure::at(&place.program("fuzz"), &error))?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Every target for a short time; nothing where neither the fuzzer nor its files changed since it passed. Returns what there
/// is to say.
pub(crate) fn phase(place: &Place, live: &mut Live) -> Outcome<String> {
    let program = place.program("fuzz");
    let mut inputs = Inputs::default();
    inputs.text(&BRIEF.to_string());
    inputs.tree(&program)?;
    inputs.tree(&place.root.join("tests/fuzz"))?;
    let passed = place.scratch("")?.join("fuzz.stamp");
    if inputs.passed(&passed) {
        return Ok("unchanged since it passed".to_owned());
    }
    let mut fuzzer = Command::new(&program);
    fuzzer
        .current_dir(&place.root)
        .args(["--seconds", &BRIEF.to_string()])
        .arg("--failures")
        .arg(place.target.join("fuzz"));
    let text = live.run(place, "fuzz", &mut fuzzer, Duration::from_secs(30 * 60))?;
    inputs.note_passed(&passed)?;
    Ok(told(&text))
}

/// How many targets there are, and what they did together.
fn told(text: &str) -> String {
    let executions = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let count = words.nth(1)?.parse::<u64>().ok()?;
        (words.next() == Some("executions,")).then_some(count)
    });
    let (targets, sum) = executions.fold((0, 0), |(targets, sum), count| (targets + 1, sum + count));
    format!("{targets} targets, {sum} executions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_fuzzer_says_is_added_up() {
        let text = "json           398661 executions,    49832/s, 41.2 % accepted, slowest 60ms\n\
                    a line of another kind\n\
                    lock             1339 executions,      219/s,  0.4 % accepted, slowest 22ms\n";
        assert_eq!(told(text), "2 targets, 400000 executions");
    }
}
