//! `cargo xtask test`: everything that decides whether a change is good, in named phases.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use crate::checks::{documents, licences, walls};
use crate::components;
use crate::demo;
use crate::failure::{Failure, Outcome};
use crate::fuzz;
use crate::live::{LONG, Live, duration};
use crate::mutants;
use crate::peers;
use crate::place::Place;
use crate::setup;
use crate::stamp::Inputs;

/// A part of the run. Phases run in the order of [`PHASES`].
struct Phase {
    name: &'static str,
    /// What it does, for `--list`.
    about: &'static str,
    /// Phases that must have succeeded, or this one can't be run.
    needs: &'static [&'static str],
    run: fn(&Place, &mut Live) -> Outcome<Tally>,
}

/// What a phase found. Details of failures have been printed by then.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: Vec<String>,
    /// A few words for the phase's line.
    note: String,
}

impl Tally {
    /// A check that holds as a whole.
    fn holds(note: impl Into<String>) -> Self {
        Self {
            passed: 1,
            note: note.into(),
            ..Self::default()
        }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
    }
}

/// Quick checks first; then compiling, in an order in which later phases reuse what earlier ones built.
const PHASES: [Phase; 15] = [
    Phase {
        name: "format",
        about: "rustfmt agrees, in both workspaces",
        needs: &[],
        run: format,
    },
    Phase {
        name: "licences",
        about: "every dependency's licence and source is allowed",
        needs: &[],
        run: licences,
    },
    Phase {
        name: "walls",
        about: "no crate depends on what it must not, nothing is built twice",
        needs: &[],
        run: walls,
    },
    Phase {
        name: "drift",
        about: "copies are equal, links lead somewhere",
        needs: &[],
        run: drift,
    },
    Phase {
        name: "setup",
        about: "something here builds for wasm",
        needs: &[],
        run: set_up,
    },
    Phase {
        name: "build",
        about: "programs and what tests them compile",
        needs: &[],
        run: build,
    },
    Phase {
        name: "components",
        about: "tools and test guests become components",
        needs: &["setup", "build"],
        run: build_components,
    },
    Phase {
        name: "peers",
        about: "clients, suites and an OpenID provider of other people's are installed",
        needs: &[],
        run: install_peers,
    },
    Phase {
        name: "units",
        about: "unit tests pass, built with a switch for each guard",
        needs: &["components"],
        run: units,
    },
    Phase {
        name: "tests",
        about: "scenarios, other people's clients and documentation examples pass",
        needs: &["components", "peers"],
        run: tests,
    },
    Phase {
        name: "crash",
        about: "hosts killed under load leave a ledger that adds up, over 20,000 effects",
        needs: &["components"],
        run: crash,
    },
    Phase {
        name: "mutants",
        about: "each rule's test fails while its guard is switched off",
        needs: &["units"],
        run: mutants,
    },
    Phase {
        name: "fuzz",
        about: "no bent input breaks what must hold, some seconds for each target",
        needs: &["build"],
        run: fuzz,
    },
    Phase {
        name: "clippy",
        about: "no lint complains, in both workspaces",
        needs: &["setup"],
        run: clippy,
    },
    Phase {
        name: "docs",
        about: "documentation builds without warnings",
        needs: &[],
        run: docs,
    },
];

/// Prints the phases.
pub(crate) fn list() {
    for phase in &PHASES {
        println!("{:12} {}", phase.name, phase.about);
    }
}

/// Runs all phases, or those named with what they need, and ends with the line `N passed, N failed`.
pub(crate) fn run(place: &Place, names: &[&str]) -> Outcome<ExitCode> {
    let started = Instant::now();
    let chosen = chosen(names)?;
    let mut broken = BTreeSet::new();
    let mut total = Tally::default();
    for (number, phase) in chosen.iter().enumerate() {
        let label = format!("[{:2}/{}] {}", number + 1, chosen.len(), phase.name);
        let tally = run_phase(place, phase, label, &broken);
        if tally.failed > 0 {
            broken.insert(phase.name);
        }
        total.add(tally);
    }
    let strict = strict();
    if !total.skipped.is_empty() {
        println!(
            "\n{} skipped{}:",
            total.skipped.len(),
            if strict { ", which counts as failed here" } else { "" }
        );
        total.skipped.iter().for_each(|test| println!("  {test}"));
    }
    if strict {
        total.failed += total.skipped.len();
    }
    println!("\nin {}", duration(started.elapsed()));
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether this run decides for everyone: nothing is skipped, nothing is taken from an earlier run.
fn strict() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty())
}

/// The named phases and, before them, what they need; all when none is named.
fn chosen(names: &[&str]) -> Outcome<Vec<&'static Phase>> {
    if let Some(unknown) = names
        .iter()
        .find(|name| PHASES.iter().all(|phase| phase.name != **name))
    {
        return Err(Failure::new(format!(
            "`{unknown}` is no phase; `cargo xtask test --list` names them"
        )));
    }
    let mut wanted: BTreeSet<&str> = names.iter().copied().collect();
    // What a phase needs stands before it, so one pass from the end finds everything.
    for phase in PHASES.iter().rev().filter(|_| !names.is_empty()) {
        if wanted.contains(phase.name) {
            wanted.extend(phase.needs);
        }
    }
    Ok(PHASES
        .iter()
        .filter(|phase| names.is_empty() || wanted.contains(phase.name))
        .collect())
}

fn run_phase(place: &Place, phase: &Phase, label: String, broken: &BTreeSet<&str>) -> Tally {
    let mut live = Live::new(&label);
    let failed = Tally {
        failed: 1,
        ..Tally::default()
    };
    if let Some(missing) = phase.needs.iter().find(|need| broken.contains(**need)) {
        println!("{label:20} not run: {missing} failed");
        return failed;
    }
    match (phase.run)(place, &mut live) {
        Ok(tally) => {
            let word = if tally.failed == 0 { "ok" } else { "FAILED" };
            println!("{label:20} {word:6} {:>9}  {}", live.elapsed(), tally.note);
            tally
        }
        Err(failure) => {
            println!("{label:20} FAILED {:>9}\n{failure}", live.elapsed());
            failed
        }
    }
}

/// The guests' workspace, when there is one.
fn guest_manifest(place: &Place) -> Option<PathBuf> {
    Some(place.root.join("tools/Cargo.toml")).filter(|manifest| manifest.is_file())
}

fn format(place: &Place, live: &mut Live) -> Outcome<Tally> {
    let plain = ["--", "--color", "never"];
    live.run(
        place,
        "cargo fmt",
        place.cargo().args(["fmt", "--all", "--check"]).args(plain),
        LONG,
    )?;
    if let Some(manifest) = guest_manifest(place) {
        let mut cargo = place.cargo();
        cargo
            .args(["fmt", "--all", "--check", "--manifest-path"])
            .arg(manifest)
            .args(plain);
        live.run(place, "cargo fmt of guests", &mut cargo, LONG)?;
    }
    Ok(Tally::holds(""))
}

fn licences(place: &Place, live: &mut Live) -> Outcome<Tally> {
    licences::check(place, live).map(|count| Tally::holds(format!("{count} packages")))
}

fn walls(place: &Place, _: &mut Live) -> Outcome<Tally> {
    walls::check(place).map(|()| Tally::holds(""))
}

fn drift(place: &Place, _: &mut Live) -> Outcome<Tally> {
    documents::check(place).map(|count| Tally::holds(format!("{count} files")))
}

fn set_up(place: &Place, live: &mut Live) -> Outcome<Tally> {
    setup::toolchain(place, live).map(|toolchain| Tally::holds(toolchain.to_string()))
}

/// Tests of programs and of the whole. Unit tests of libraries are built once, for [`units`].
const WHOLE: [&str; 5] = ["test", "--workspace", "--bins", "--test", "*"];

/// Compiles what the tests phase runs, and first the programs alone: with the same features, or cargo would compile what
/// they share twice.
fn build(place: &Place, live: &mut Live) -> Outcome<Tally> {
    demo::build_host(place, live)?;
    let mut cargo = place.cargo();
    cargo.args(WHOLE).arg("--no-run");
    live.run(place, "cargo build of tests", &mut cargo, LONG)?;
    Ok(Tally::holds(""))
}

fn build_components(place: &Place, live: &mut Live) -> Outcome<Tally> {
    let toolchain = setup::toolchain(place, live)?;
    components::build(place, live, &toolchain).map(|count| Tally::holds(format!("{count} components")))
}

/// What could not be installed is skipped, and the tests that need it with it: elsewhere they decide.
fn install_peers(place: &Place, live: &mut Live) -> Outcome<Tally> {
    let (passed, skipped) = peers::install(place, live)?;
    Ok(Tally {
        passed,
        skipped,
        ..Tally::default()
    })
}

/// The unit tests, as the mutants phase has them built: with guards that can be switched off, and none of them off.
fn units(place: &Place, live: &mut Live) -> Outcome<Tally> {
    let mut cargo = mutants::unit_tests(place)?;
    cargo.arg("--no-fail-fast");
    run_tests(place, live, "cargo test of units", vec![cargo])
}

fn tests(place: &Place, live: &mut Live) -> Outcome<Tally> {
    let mut whole = place.cargo();
    whole.args(WHOLE).arg("--no-fail-fast");
    let mut examples = place.cargo();
    examples.args(["test", "--workspace", "--doc", "--no-fail-fast"]);
    run_tests(place, live, "cargo test", vec![whole, examples])
}

fn run_tests(place: &Place, live: &mut Live, what: &str, commands: Vec<Command>) -> Outcome<Tally> {
    let skips = place.scratch("")?.join("skipped");
    fs::write(&skips, "").map_err(|error| Failure::at(&skips, &error))?;
    let mut tally = Tally::default();
    for mut cargo in commands {
        cargo
            .env("AMBIT_COMPONENTS", place.components())
            .env("AMBIT_PEERS", peers::folder(place))
            .env("AMBIT_SKIPPED", &skips);
        let (succeeded, text) = live.run_any(place, what, &mut cargo, LONG)?;
        let mut counted = count(&text);
        if !succeeded {
            // A test program that died has no result line; it must not go uncounted.
            counted.failed = counted.failed.max(1);
            println!("{}", failures(&text));
        }
        tally.add(counted);
    }
    let skipped = fs::read_to_string(&skips).map_err(|error| Failure::at(&skips, &error))?;
    tally.skipped.extend(skipped.lines().map(str::to_owned));
    tally.passed = tally.passed.saturating_sub(skipped.lines().count());
    tally.note = format!(
        "{} passed, {} failed, {} skipped",
        tally.passed,
        tally.failed,
        tally.skipped.len()
    );
    Ok(tally)
}

/// Adds up the result lines of every test program.
fn count(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines() {
        if let Some(result) = line.trim_start().strip_prefix("test result: ") {
            tally.passed += number_before(result, " passed");
            tally.failed += number_before(result, " failed");
        } else if let Some(test) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... ignored"))
        {
            tally.skipped.push(test.0.to_owned());
        }
    }
    tally
}

fn number_before(text: &str, word: &str) -> usize {
    let before = text.split(word).next().unwrap_or_default();
    before
        .rsplit(|character: char| !character.is_ascii_digit())
        .next()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

/// The part of a test run's output that says what went wrong: all but passed tests and empty programs.
fn failures(text: &str) -> String {
    let boring = |line: &&str| line.ends_with(" ... ok") || line.starts_with("running ") || line.trim().is_empty();
    text.lines().filter(|line| !boring(line)).collect::<Vec<_>>().join("\n")
}

fn mutants(place: &Place, live: &mut Live) -> Outcome<Tally> {
    let found = mutants::check(place, live, strict())?;
    found.wrong.iter().for_each(|line| println!("{line}"));
    Ok(Tally {
        passed: found.killed,
        failed: found.wrong.len(),
        skipped: Vec::new(),
        note: format!(
            "{} guards, each missed by its test{}",
            found.killed,
            if found.unchanged { ", unchanged since" } else { "" }
        ),
    })
}

/// Not again where neither the host nor the program changed since it passed.
fn crash(place: &Place, live: &mut Live) -> Outcome<Tally> {
    let program = place.program("ambit-crash");
    let mut inputs = Inputs::default();
    inputs.tree(&program)?;
    let passed = place.scratch("")?.join("crash.stamp");
    if inputs.passed(&passed) {
        return Ok(Tally::holds("unchanged since it passed"));
    }
    let mut crash = Command::new(&program);
    crash.env("AMBIT_COMPONENTS", place.components());
    let text = live.run(place, "ambit-crash", &mut crash, LONG)?;
    inputs.note_passed(&passed)?;
    let told = text.lines().find(|line| line.contains("killed under load"));
    Ok(Tally::holds(told.unwrap_or_default().trim()))
}

fn fuzz(place: &Place, live: &mut Live) -> Outcome<Tally> {
    fuzz::phase(place, live).map(Tally::holds)
}

fn clippy(place: &Place, live: &mut Live) -> Outcome<Tally> {
    let deny = ["--", "-D", "warnings"];
    let mut host = place.cargo();
    live.run(
        place,
        "cargo clippy",
        host.args(["clippy", "--workspace", "--all-targets"]).args(deny),
        LONG,
    )?;
    let Some(manifest) = guest_manifest(place) else {
        return Ok(Tally::holds(""));
    };
    let mut guests = place.cargo();
    guests
        .env("CARGO_TARGET_DIR", place.target.join("guests"))
        .args(["clippy", "--workspace", "--manifest-path"])
        .arg(manifest);
    // Debian's compiler has no clippy of its own, and ours has no std for wasm then: the guests' code is linted as the host's.
    if setup::toolchain(place, live)?.is_host_compiler() {
        guests.args(["--target", setup::TARGET]);
    }
    live.run(place, "cargo clippy of guests", guests.args(deny), LONG)?;
    Ok(Tally::holds(""))
}

fn docs(place: &Place, live: &mut Live) -> Outcome<Tally> {
    let mut cargo = place.cargo();
    cargo
        .env("RUSTDOCFLAGS", "-D warnings")
        .args(["doc", "--workspace", "--no-deps"]);
    live.run(place, "cargo doc", &mut cargo, LONG)?;
    Ok(Tally::holds(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let text = "running 3 tests\ntest a ... ok\ntest b ... ignored, needs a disk\ntest c ... FAILED\n\
                    test result: FAILED. 12 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
                    test result: ok. 30 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s\n";
        let tally = count(text);
        assert_eq!((tally.passed, tally.failed), (42, 1));
        assert_eq!(tally.skipped, ["b"]);
    }

    #[test]
    fn a_phase_brings_what_it_needs() {
        let names: Vec<&str> = chosen(&["tests"]).unwrap().iter().map(|phase| phase.name).collect();
        assert_eq!(names, ["setup", "build", "components", "peers", "tests"]);
        assert_eq!(chosen(&[]).unwrap().len(), PHASES.len());
        assert!(chosen(&["nothing"]).is_err());
    }

    #[test]
    fn needs_stand_before_what_needs_them() {
        for (number, phase) in PHASES.iter().enumerate() {
            for need in phase.needs {
                let place = PHASES.iter().position(|other| other.name == *need);
                assert!(place.is_some_and(|place| place < number), "{} needs {need}", phase.name);
            }
        }
    }
}
