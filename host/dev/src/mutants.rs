//! Whether each rule would be missed: every guard is switched off, one at a time, and the test that stands for it must fail.
//!
//! `tests/guards.toml` names the rules. Each has one test, in the unit tests of the core, the runtime or the server. Unit tests are
//! always built with `--cfg mutants`, for this and for themselves, so they are built once. That flag goes to this workspace's own crates
//! alone, so nothing else is compiled again, and no program is built with it: a host whose guards can be switched off is never left
//! lying about.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Outcome};
use crate::live::{LONG, Live};
use crate::place::Place;
use crate::stamp::{Inputs, files_below};

/// The time that one test may take with a guard off, or four times what it takes with all of them: one that ends by its guard alone may
/// then run for ever.
const LIMIT: Duration = Duration::from_secs(20);
/// The time that it may take with all of them, on a machine that is busy.
const WHOLE_LIMIT: Duration = Duration::from_secs(180);
/// Where guards are, and where the tests of each are.
const CRATES: [(&str, &str); 3] = [
    ("core", "ambit-core"),
    ("runtime", "ambit-runtime"),
    ("server", "ambit-server"),
];

/// What the check found.
pub(crate) struct Found {
    /// Guards whose test fails without them.
    pub(crate) killed: usize,
    /// What is wrong, one line each.
    pub(crate) wrong: Vec<String>,
    /// Nothing changed since everything was right, so nothing was run.
    pub(crate) unchanged: bool,
}

/// A line of `tests/guards.toml`.
struct Rule {
    name: String,
    /// `core`, `runtime` or `server`.
    home: String,
    /// The test's path in that crate.
    test: String,
    /// Whether there is a switch. A rule that holds because something is absent has none, only a test.
    switch: bool,
}

/// Builds the tests with switches, and asks each guard's test to fail.
pub(crate) fn check(place: &Place, live: &mut Live, always: bool) -> Outcome<Found> {
    let table = place.root.join("tests/guards.toml");
    let rules = rules(&table)?;
    let mut wrong = strangers(place, &rules)?;
    let programs = build(place, live)?;
    let stamp = stamp(&table, &programs)?;
    let kept = place.scratch("stamps")?.join("mutants");
    if !always && wrong.is_empty() && fs::read_to_string(&kept).is_ok_and(|known| known == stamp) {
        return Ok(Found {
            killed: rules.iter().filter(|rule| rule.switch).count(),
            wrong,
            unchanged: true,
        });
    }
    let (broken, took) = broken_without_a_mutant(place, live, &rules, &programs);
    wrong.extend(broken);
    if !wrong.is_empty() {
        return Ok(Found {
            killed: 0,
            wrong,
            unchanged: false,
        });
    }
    let switches: Vec<&Rule> = rules.iter().filter(|rule| rule.switch).collect();
    let survivors = side_by_side(live, "guard", &switches, |rule| {
        // A test that its missing guard makes endless is ended; one that is slow on this machine is not.
        let limit = took.get(&rule.test).map_or(LIMIT, |took| LIMIT.max(*took * 4));
        let lived = matches!(run(place, &programs, rule, Some(&rule.name), limit), Verdict::Passed);
        lived.then(|| {
            format!(
                "`{}` is off and {} still passes: the rule is not tested",
                rule.name, rule.test
            )
        })
    });
    if survivors.is_empty() {
        fs::write(&kept, stamp).map_err(|error| Failure::at(&kept, &error))?;
    }
    Ok(Found {
        killed: switches.len() - survivors.len(),
        wrong: survivors,
        unchanged: false,
    })
}

fn rules(path: &Path) -> Outcome<Vec<Rule>> {
    let text = fs::read_to_string(path).map_err(|error| Failure::at(path, &error))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    let mut rules = Vec::new();
    for (area, members) in &table {
        let members = members
            .as_table()
            .ok_or_else(|| Failure::new(format!("{}: `{area}` is no table", path.display())))?;
        for (name, rule) in members {
            let rule = Rule::read(&format!("{area}.{name}"), rule)
                .ok_or_else(|| Failure::new(format!("{}: `{area}.{name}` needs {SHAPE}", path.display())))?;
            rules.push(rule);
        }
    }
    Ok(rules)
}

const SHAPE: &str = "{ rule = \"…\", test = \"core/…, runtime/… or server/…\" } and perhaps `switch = false`";

impl Rule {
    fn read(name: &str, value: &toml::Value) -> Option<Self> {
        let table = value.as_table()?;
        let (home, test) = table.get("test")?.as_str()?.split_once('/')?;
        let said = table.get("rule")?.as_str()?;
        let known = table
            .keys()
            .all(|key| matches!(key.as_str(), "rule" | "test" | "switch"));
        let home_known = CRATES.iter().any(|(known, _)| *known == home);
        (known && home_known && !said.is_empty()).then(|| Self {
            name: name.to_owned(),
            home: home.to_owned(),
            test: test.to_owned(),
            switch: table.get("switch").and_then(toml::Value::as_bool).unwrap_or(true),
        })
    }
}

/// Guards that the table does not have, and rules whose guard is gone.
fn strangers(place: &Place, rules: &[Rule]) -> Outcome<Vec<String>> {
    let mut guards = BTreeSet::new();
    for file in files_below(&place.root.join("host"))? {
        let own = file.starts_with(place.root.join("host/dev")) || file.ends_with("guard.rs");
        if !own && file.extension().is_some_and(|kind| kind == "rs") {
            let text = fs::read_to_string(&file).map_err(|error| Failure::at(&file, &error))?;
            guards.extend(names(&text).map(str::to_owned));
        }
    }
    let known: BTreeSet<String> = rules
        .iter()
        .filter(|rule| rule.switch)
        .map(|rule| rule.name.clone())
        .collect();
    let missing = guards
        .difference(&known)
        .map(|name| format!("`{name}` is a guard of the code, and tests/guards.toml has no rule for it"));
    let gone = known
        .difference(&guards)
        .map(|name| format!("`{name}` is a rule of tests/guards.toml, and no guard of the code has this name"));
    Ok(missing.chain(gone).collect())
}

/// The names in `guard!("…"`, wherever the line is broken.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split("guard!(").skip(1).filter_map(|rest| {
        let (name, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
        Some(name)
    })
}

/// `cargo test` of the unit tests of all libraries, with `--cfg mutants`. Of this workspace's own crates nothing built so is measured, so
/// they are optimised for a short build.
pub(crate) fn unit_tests(place: &Place) -> Outcome<Command> {
    let mut cargo = place.cargo();
    for (_, package) in CRATES {
        let quickly = format!("profile.dev.package.{package}.opt-level=1");
        cargo.args(["--config", &quickly]);
    }
    // All of them, though guards are in three: another selection would have other features of the dependencies, and build them again.
    cargo
        .args(["test", "--workspace", "--lib"])
        .env("RUSTC_WORKSPACE_WRAPPER", wrapper(place)?)
        .env_remove("AMBIT_MUTANT");
    Ok(cargo)
}

/// Builds the unit tests, and returns the program of each crate.
fn build(place: &Place, live: &mut Live) -> Outcome<BTreeMap<String, PathBuf>> {
    let mut cargo = unit_tests(place)?;
    cargo.args(["--no-run", "--message-format", "json-render-diagnostics"]);
    let text = live.run(place, "cargo build of mutants", &mut cargo, LONG)?;
    let mut programs = BTreeMap::new();
    for line in text.lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let target = message.get("target").and_then(|target| target.get("name"));
        let (Some(target), Some(program)) = (
            target.and_then(|name| name.as_str()),
            message.get("executable").and_then(|path| path.as_str()),
        ) else {
            continue;
        };
        let home = CRATES.iter().find(|(_, package)| package.replace('-', "_") == target);
        if let Some((home, _)) = home {
            programs.insert((*home).to_owned(), PathBuf::from(program));
        }
    }
    match CRATES.iter().find(|(home, _)| !programs.contains_key(*home)) {
        Some((_, package)) => Err(Failure::new(format!("cargo named no test program of {package}"))),
        None => Ok(programs),
    }
}

/// What cargo calls in place of the compiler for this workspace's crates, and only for them.
fn wrapper(place: &Place) -> Outcome<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = place.scratch("")?.join("rustc-with-mutants");
    let script = "#!/bin/sh\nexec \"$@\" --cfg mutants\n";
    // Written only where it differs: cargo asks a changed compiler everything anew.
    if fs::read_to_string(&path).ok().as_deref() != Some(script) {
        fs::write(&path, script).map_err(|error| Failure::at(&path, &error))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(|error| Failure::at(&path, &error))?;
    }
    Ok(path)
}

fn stamp(table: &Path, programs: &BTreeMap<String, PathBuf>) -> Outcome<String> {
    let mut inputs = Inputs::default();
    inputs.tree(table)?;
    for program in programs.values() {
        inputs.tree(program)?;
    }
    Ok(inputs.stamp())
}

/// Tests that fail, or do not exist, with every guard in place: they would say nothing about a mutant. And how long each takes.
fn broken_without_a_mutant(
    place: &Place,
    live: &mut Live,
    rules: &[Rule],
    programs: &BTreeMap<String, PathBuf>,
) -> (Vec<String>, BTreeMap<String, Duration>) {
    let mut seen = BTreeSet::new();
    let once: Vec<&Rule> = rules
        .iter()
        .filter(|rule| seen.insert((&rule.home, &rule.test)))
        .collect();
    let took = Mutex::new(BTreeMap::new());
    let broken = side_by_side(live, "test", &once, |rule| {
        let started = Instant::now();
        let verdict = run(place, programs, rule, None, WHOLE_LIMIT);
        if let Ok(mut took) = took.lock() {
            took.insert(rule.test.clone(), started.elapsed());
        }
        match verdict {
            Verdict::Passed => None,
            Verdict::Failed => Some(format!("`{}`: {} fails with every guard on", rule.name, rule.test)),
            Verdict::NoSuchTest => Some(format!("`{}`: there is no test {}", rule.name, rule.test)),
        }
    });
    (broken, took.into_inner().unwrap_or_default())
}

enum Verdict {
    Passed,
    Failed,
    NoSuchTest,
}

/// Runs a rule's test with a guard switched off. A test that does not end counts as failed.
fn run(
    place: &Place,
    programs: &BTreeMap<String, PathBuf>,
    rule: &Rule,
    mutant: Option<&str>,
    limit: Duration,
) -> Verdict {
    let Some(program) = programs.get(&rule.home) else {
        return Verdict::NoSuchTest;
    };
    // As cargo runs a test: in its crate's folder.
    let folder = place.root.join("host").join(&rule.home);
    let mut test = Command::new(program);
    test.current_dir(&folder)
        .env("CARGO_MANIFEST_DIR", &folder)
        .env("AMBIT_COMPONENTS", place.components())
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
        .args(["--exact", &rule.test, "--test-threads", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env_remove("AMBIT_MUTANT");
    if let Some(mutant) = mutant {
        test.env("AMBIT_MUTANT", mutant);
    }
    let Ok(mut child) = test.spawn() else {
        return Verdict::NoSuchTest;
    };
    let started = Instant::now();
    // What a test prints on success is a few lines, which a pipe holds; with more it is failing, or as good as that.
    while matches!(child.try_wait(), Ok(None)) {
        if started.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            return Verdict::Failed;
        }
        thread::sleep(Duration::from_millis(2));
    }
    let Ok(output) = child.wait_with_output() else {
        return Verdict::Failed;
    };
    match (
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).contains("1 passed"),
    ) {
        (true, true) => Verdict::Passed,
        (true, false) => Verdict::NoSuchTest,
        (false, _) => Verdict::Failed,
    }
}

/// Runs `work` on every rule, as many at once as there are processors, and returns what it complained of, in order.
fn side_by_side<F>(live: &mut Live, what: &str, rules: &[&Rule], work: F) -> Vec<String>
where
    F: Fn(&Rule) -> Option<String> + Sync,
{
    let waiting = Mutex::new(rules.iter().enumerate());
    let complaints = Mutex::new(BTreeMap::new());
    let next = || waiting.lock().ok()?.next();
    let workers = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        let helpers: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    while let Some((number, rule)) = next() {
                        if let (Some(complaint), Ok(mut complaints)) = (work(rule), complaints.lock()) {
                            complaints.insert(number, complaint);
                        }
                    }
                })
            })
            .collect();
        while helpers.iter().any(|helper| !helper.is_finished()) {
            let left = waiting.lock().map_or(0, |waiting| waiting.len());
            live.beat(&format!("{what} {}/{}", rules.len() - left, rules.len()));
            thread::sleep(Duration::from_millis(25));
        }
    });
    live.clear();
    complaints.into_inner().unwrap_or_default().into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_are_found_in_the_code() {
        let text = "if !guard!(\"a.b\", x) {} ambit_core::guard!(\n    \"c.d\", y) guard!($name, z)";
        assert_eq!(names(text).collect::<Vec<_>>(), ["a.b", "c.d"]);
    }

    #[test]
    fn a_rule_names_its_test() {
        let rule = |text: &str| Rule::read("a.b", &toml::Value::Table(text.parse().unwrap()));
        assert!(rule("rule = \"r\"\ntest = \"core/x::y\"").unwrap().switch);
        assert!(
            !rule("rule = \"r\"\ntest = \"runtime/x\"\nswitch = false")
                .unwrap()
                .switch
        );
        assert!(rule("test = \"core/x::y\"").is_none());
        assert!(rule("rule = \"r\"\ntest = \"nowhere/x\"").is_none());
        assert!(rule("rule = \"r\"\ntest = \"core/x\"\nmore = 1").is_none());
    }
}
