//! The fuzzer: runs targets, each in a process of its own, and tells how to see a failure again.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    reason = "a test program prints, and stops where it cannot go on"
)]

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use ambit_tests::fuzz::{Target, run, target, targets};

const USAGE: &str = "\
Usage: fuzz [OPTIONS] [TARGET…]

Drives each target (all of them, where none is named) with its regressions, its seeds and mutations of these.

Options:
  --seconds N      how long each target runs (default: 30)
  --seed N         of the mutations (default: 1); the same seed makes the same inputs
  --jobs N         targets at a time (default: as many as there are processors)
  --failures DIR   where failing inputs are written (default: target/fuzz)
  --replay FILE    drive this one input instead; one target is named
  --list           name the targets
";

struct Options {
    seconds: u64,
    seed: u64,
    jobs: usize,
    failures: PathBuf,
    replay: Option<PathBuf>,
    targets: Vec<&'static Target>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        targets::ALL
            .iter()
            .for_each(|target| println!("{:10} {}", target.name, target.about));
        return ExitCode::SUCCESS;
    }
    let options = match options(arguments) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let succeeded = match (&options.replay, options.targets.as_slice()) {
        (Some(file), [target]) => replay(target, file),
        (Some(_), _) => {
            eprintln!("name the one target that the input is of");
            return ExitCode::from(2);
        }
        // A target that overflows the stack ends its process, and no other's.
        (None, [target]) => fuzz(target, &options),
        (None, targets) => fuzz_all(targets, &options),
    };
    if succeeded {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn options(arguments: Vec<String>) -> Result<Options, String> {
    let mut options = Options {
        seconds: 30,
        seed: 1,
        jobs: thread::available_parallelism().map_or(2, usize::from),
        failures: failures(),
        replay: None,
        targets: Vec::new(),
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let number = |text: String| {
            text.parse::<u64>()
                .map_err(|error| format!("{argument} {text}: {error}"))
        };
        match argument.as_str() {
            "--seconds" => options.seconds = number(value()?)?,
            "--seed" => options.seed = number(value()?)?,
            "--jobs" => options.jobs = usize::try_from(number(value()?)?.max(1)).unwrap_or(1),
            "--failures" => options.failures = value()?.into(),
            "--replay" => options.replay = Some(value()?.into()),
            name => options
                .targets
                .push(target(name).ok_or(format!("there is no target `{name}`; --list names them"))?),
        }
    }
    if options.targets.is_empty() {
        options.targets = targets::ALL.iter().collect();
    }
    Ok(options)
}

/// This program, as it can be called.
fn program() -> String {
    env::current_exe().map_or_else(|_| "fuzz".to_owned(), |path| path.display().to_string())
}

/// `target/fuzz`, beside the folder this program is in.
fn failures() -> PathBuf {
    let here = env::current_exe().expect("a running program has a path");
    here.ancestors().nth(2).unwrap_or(Path::new(".")).join("fuzz")
}

fn fuzz(target: &Target, options: &Options) -> bool {
    let failures = options.failures.join(target.name);
    match run::fuzz(target, options.seed, Duration::from_secs(options.seconds), &failures) {
        Ok(report) => {
            let per_second = report.executions as f64 / report.took.as_secs_f64().max(0.001);
            println!(
                "{:10} {:>10} executions, {per_second:>8.0}/s, {:>4.1} % accepted, slowest {:?}",
                target.name,
                report.executions,
                100.0 * report.accepted as f64 / report.executions.max(1) as f64,
                report.slowest,
            );
            true
        }
        Err(found) => {
            let file = found.file.display();
            println!("{}: FAILED: {}", target.name, found.message);
            println!("  replay:  {} {} --replay {file}", program(), target.name);
            println!(
                "  once it is mended, keep it: cp {file} tests/fuzz/regressions/{}/NAME",
                target.name
            );
            false
        }
    }
}

fn replay(target: &Target, file: &Path) -> bool {
    let input = match fs::read(file) {
        Ok(input) => input,
        Err(error) => {
            eprintln!("{}: {error}", file.display());
            return false;
        }
    };
    match run::replay(target, &input) {
        Ok(Ok(())) => println!("accepted, and everything holds"),
        Ok(Err(why)) => println!("refused, and everything holds: {why}"),
        Err(message) => {
            println!("{}: FAILED: {message}", target.name);
            return false;
        }
    }
    true
}

/// Each target in a process of its own, so many at a time.
fn fuzz_all(targets: &[&'static Target], options: &Options) -> bool {
    let waiting: Mutex<VecDeque<_>> = Mutex::new(targets.iter().copied().collect());
    let failed = Mutex::new(false);
    let work = || {
        loop {
            let next = waiting.lock().expect("no worker panics").pop_front();
            let Some(target) = next else { return };
            if !child(target, options) {
                *failed.lock().expect("no worker panics") = true;
            }
        }
    };
    thread::scope(|scope| (0..options.jobs.min(targets.len())).for_each(|_| drop(scope.spawn(work))));
    !failed.into_inner().expect("no worker panics")
}

fn child(target: &Target, options: &Options) -> bool {
    let here = env::current_exe().expect("a running program has a path");
    let output = Command::new(here)
        .arg(target.name)
        .args([
            "--seconds",
            &options.seconds.to_string(),
            "--seed",
            &options.seed.to_string(),
        ])
        .arg("--failures")
        .arg(&options.failures)
        .output()
        .expect("this program can be run again");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    if output.status.code().is_none() {
        println!("{}: FAILED: {}", target.name, output.status);
        println!("  again:   {} {} --seed {}", program(), target.name, options.seed);
    }
    output.status.success()
}
