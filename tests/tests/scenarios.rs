//! Runs every scenario folder, what needs the whole host besides, and the command as a newcomer sees it; holds that every
//! component has a scenario, and everything that goes wrong in such hosts a test.
//!
//! The folders are only known when this runs, so it brings its own small harness, which reports as the standard one does.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test program prints, and stops where it cannot go on"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use ambit_tests::{raw, scenario};

mod api;
mod cli;
mod doubts;
mod http;
mod load;
mod mcp;
mod peers;
mod tls;
mod traps;

type Verdict = Result<(), String>;

/// A named test.
struct Trial {
    name: String,
    test: Box<dyn Fn() -> Verdict + Send + Sync>,
}

fn main() -> ExitCode {
    let (flags, filters): (Vec<String>, Vec<String>) =
        env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let mut trials = trials();
    trials.retain(|trial| filters.is_empty() || filters.iter().any(|filter| trial.name.contains(filter.as_str())));
    if flags.iter().any(|flag| flag == "--list") {
        trials.iter().for_each(|trial| println!("{}: test", trial.name));
        return ExitCode::SUCCESS;
    }
    report(run_all(trials))
}

fn trials() -> Vec<Trial> {
    let mut trials = vec![Trial {
        name: "every_component_has_a_scenario".to_owned(),
        test: Box::new(every_component_has_a_scenario),
    }];
    trials.push(Trial {
        name: "every_trap_has_its_tests".to_owned(),
        test: Box::new(|| traps::every_trap_has_its_tests(&repository())),
    });
    trials.extend(
        traps::TESTS
            .iter()
            .chain(doubts::TESTS)
            .chain(mcp::TESTS)
            .chain(http::TESTS)
            .chain(tls::TESTS)
            .chain(peers::TESTS)
            .chain(load::TESTS)
            .chain(api::TESTS)
            .copied()
            .map(|(name, test)| Trial {
                name: name.to_owned(),
                test: Box::new(move || {
                    test();
                    Ok(())
                }),
            }),
    );
    trials.extend(folders(&scenarios()).into_iter().map(|folder| Trial {
        name: format!("scenario::{}", folder.file_name().unwrap().to_string_lossy()),
        test: Box::new(move || {
            let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
            scenario::run(&folder, scratch.path())
        }),
    }));
    let operated = |folder: &PathBuf| scenario::case(folder).is_ok_and(|case| case.is_operated());
    let operated = folders(&scenarios()).into_iter().filter(operated);
    trials.extend(operated.map(|folder| Trial {
        name: format!("served::{}", folder.file_name().unwrap().to_string_lossy()),
        test: Box::new(move || {
            let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
            scenario::run_served(&folder, scratch.path())
        }),
    }));
    trials.extend(cli::trials());
    trials
}

/// As many at once as there are processors: most of a scenario is other processes at work.
fn run_all(trials: Vec<Trial>) -> (BTreeMap<String, Verdict>, Instant) {
    let started = Instant::now();
    println!("\nrunning {} tests", trials.len());
    let waiting = Mutex::new(trials.into_iter());
    let verdicts = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some(trial) = next(&waiting) {
            let verdict = catch_unwind(AssertUnwindSafe(&trial.test)).unwrap_or_else(|_| Err("it panicked".to_owned()));
            println!(
                "test {} ... {}",
                trial.name,
                if verdict.is_ok() { "ok" } else { "FAILED" }
            );
            verdicts.lock().unwrap().insert(trial.name, verdict);
        }
    };
    let workers = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    (verdicts.into_inner().unwrap(), started)
}

fn next(waiting: &Mutex<std::vec::IntoIter<Trial>>) -> Option<Trial> {
    waiting.lock().unwrap().next()
}

fn report((verdicts, started): (BTreeMap<String, Verdict>, Instant)) -> ExitCode {
    let failures: Vec<(&String, &String)> = verdicts
        .iter()
        .filter_map(|(name, verdict)| verdict.as_ref().err().map(|why| (name, why)))
        .collect();
    for (name, why) in &failures {
        println!("\n---- {name} ----\n{why}");
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
        if failures.is_empty() { "ok" } else { "FAILED" },
        verdicts.len() - failures.len(),
        failures.len(),
        started.elapsed().as_secs_f64()
    );
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A component that no scenario calls could do anything, and nobody would know.
fn every_component_has_a_scenario() -> Verdict {
    let mut called = BTreeSet::new();
    for folder in folders(&scenarios()) {
        called.extend(scenario::case(&folder)?.tools.into_values());
    }
    let components = ["tools", "tests/guests"]
        .map(|home| folders(&repository().join(home)))
        .concat();
    let built = components
        .iter()
        .filter(|folder| folder.join("wit").is_dir())
        .map(|folder| folder.file_name().unwrap().to_string_lossy().into_owned());
    let raw = raw::names().map_err(|error| error.to_string())?;
    let forgotten: Vec<String> = built.chain(raw).filter(|name| !called.contains(name)).collect();
    if forgotten.is_empty() {
        Ok(())
    } else {
        Err(format!("no scenario calls {}", forgotten.join(", ")))
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn scenarios() -> PathBuf {
    repository().join("tests/scenarios")
}

/// The folders in a folder, sorted.
fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}
