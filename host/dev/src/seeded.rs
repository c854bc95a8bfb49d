//! `cargo xtask seeded`: faults sown into a copy of the host, each of which a test must catch.
//!
//! Guards switch rules off one at a time; what is sown here is no rule that could be switched off, but the order of things: what is
//! durable when. `tests/seeded.toml` says what to change where, and what catches it. The copy is built in a folder of its own, so no
//! program with a fault in it stands where the others are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::demo;
use crate::failure::{Failure, Outcome};
use crate::live::{LONG, Live};
use crate::place::Place;
use crate::stamp::files_below;

/// What a copy needs of the repository to be built and run.
const PARTS: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "clippy.toml",
    "host",
    "wit",
    "sdk",
    "tools",
    "tests",
    "examples",
];

/// One fault.
struct Fault {
    name: String,
    says: String,
    /// File, what stands there once, and what stands there then.
    edits: Vec<(String, String, String)>,
    /// A test of the runtime, or a run of `ambit-crash`.
    caught_by: Catcher,
}

enum Catcher {
    Test(String),
    Crash(Vec<String>),
}

/// Sows every fault, or those that are named.
pub(crate) fn run(place: &Place, names: &[&str]) -> Outcome<ExitCode> {
    let table = place.root.join("tests/seeded.toml");
    let faults = read(&table)?;
    if let Some(unknown) = names
        .iter()
        .find(|name| faults.iter().all(|fault| fault.name != **name))
    {
        return Err(Failure::new(format!("{} has no fault `{unknown}`", table.display())));
    }
    demo::prepare(place)?;
    let mut live = Live::new("seeded");
    let mut missed = 0;
    for fault in faults
        .iter()
        .filter(|fault| names.is_empty() || names.contains(&fault.name.as_str()))
    {
        let caught = sow(place, &mut live, fault)?;
        live.clear();
        println!(
            "{} {}: {}",
            if caught { "caught" } else { "MISSED" },
            fault.name,
            fault.says
        );
        missed += usize::from(!caught);
    }
    Ok(if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn read(path: &Path) -> Outcome<Vec<Fault>> {
    let text = fs::read_to_string(path).map_err(|error| Failure::at(path, &error))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    let of = |name: &String, value: &toml::Value| {
        Fault::read(name, value).ok_or_else(|| {
            Failure::new(format!(
                "{}: `{name}` needs says, edits = [{{ file, find, put }}] and test or crash",
                path.display()
            ))
        })
    };
    table.iter().map(|(name, value)| of(name, value)).collect()
}

impl Fault {
    fn read(name: &str, value: &toml::Value) -> Option<Self> {
        let text = |table: &toml::Value, key: &str| Some(table.get(key)?.as_str()?.to_owned());
        let edit = |edit: &toml::Value| Some((text(edit, "file")?, text(edit, "find")?, text(edit, "put")?));
        let edits = value
            .get("edits")?
            .as_array()?
            .iter()
            .map(edit)
            .collect::<Option<_>>()?;
        let crash = || Some(text(value, "crash")?.split(' ').map(str::to_owned).collect());
        let caught_by = text(value, "test")
            .map(Catcher::Test)
            .or_else(|| crash().map(Catcher::Crash))?;
        Some(Self {
            name: name.to_owned(),
            says: text(value, "says")?,
            edits,
            caught_by,
        })
    }

    /// Changes the copy.
    fn sow(&self, copy: &Path) -> Outcome {
        for (file, find, put) in &self.edits {
            let path = copy.join(file);
            let text = fs::read_to_string(&path).map_err(|error| Failure::at(&path, &error))?;
            if text.matches(find.as_str()).count() != 1 {
                return Err(Failure::new(format!(
                    "fault `{}`: {file} does not have exactly once:\n{find}",
                    self.name
                )));
            }
            fs::write(&path, text.replace(find.as_str(), put)).map_err(|error| Failure::at(&path, &error))?;
        }
        Ok(())
    }
}

/// Whether a copy with the fault in it fails what is said to catch it.
fn sow(place: &Place, live: &mut Live, fault: &Fault) -> Outcome<bool> {
    let folder = place.scratch("seeded")?;
    let copy = copy(place, &folder)?;
    fault.sow(&copy)?;
    let target = folder.join("target");
    let mut cargo = place.cargo();
    cargo
        .current_dir(&copy)
        .env("CARGO_TARGET_DIR", &target)
        .env("AMBIT_COMPONENTS", place.components());
    let passed = match &fault.caught_by {
        Catcher::Test(test) => {
            let (built, text) = live.run_any(
                place,
                "cargo test --no-run",
                cargo.args(["test", "--workspace", "--lib", "--no-run"]),
                LONG,
            )?;
            built_or(built, &text, fault)?;
            let mut again = place.cargo();
            again.current_dir(&copy).env("CARGO_TARGET_DIR", &target).args([
                "test",
                "--workspace",
                "--lib",
                "--",
                "--exact",
                test,
            ]);
            live.run_any(place, "cargo test", &mut again, LONG)?.0
        }
        Catcher::Crash(options) => {
            let (built, text) = live.run_any(place, "cargo build", cargo.args(["build", "--workspace"]), LONG)?;
            built_or(built, &text, fault)?;
            let mut crash = Command::new(target.join("debug/ambit-crash"));
            crash.env("AMBIT_COMPONENTS", place.components()).args(options);
            live.run_any(place, "ambit-crash", &mut crash, LONG)?.0
        }
    };
    Ok(!passed)
}

/// A fault that does not compile is caught by nothing.
fn built_or(built: bool, text: &str, fault: &Fault) -> Outcome {
    if built {
        return Ok(());
    }
    Err(Failure::new(format!(
        "fault `{}` does not compile:\n{text}",
        fault.name
    )))
}

/// The repository's sources as they are, without what was built. Files keep their times where they did not change.
fn copy(place: &Place, folder: &Path) -> Outcome<PathBuf> {
    let copy = folder.join("tree");
    for part in PARTS {
        let from = place.root.join(part);
        for file in files_below(&from)? {
            let Ok(name) = file.strip_prefix(&place.root) else {
                continue;
            };
            let to = copy.join(name);
            let bytes = fs::read(&file).map_err(|error| Failure::at(&file, &error))?;
            if fs::read(&to).is_ok_and(|known| known == bytes) {
                continue;
            }
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).map_err(|error| Failure::at(parent, &error))?;
            }
            fs::write(&to, bytes).map_err(|error| Failure::at(&to, &error))?;
        }
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A copy is whole: what a source takes in when it is compiled is in a part that is copied.
    #[test]
    fn what_sources_include_is_copied() {
        let root = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap();
        let mut included = 0;
        for file in PARTS.iter().flat_map(|part| files_below(&root.join(part)).unwrap()) {
            let Some(text) = fs::read_to_string(&file)
                .ok()
                .filter(|_| file.extension().is_some_and(|kind| kind == "rs"))
            else {
                continue;
            };
            for rest in text.split("include_str!(\"").skip(1) {
                let (path, _) = rest.split_once('"').unwrap();
                let target = fs::canonicalize(file.parent().unwrap().join(path));
                let Some(target) = target.ok().filter(|target| target.starts_with(&root)) else {
                    continue;
                };
                let part = target.strip_prefix(&root).unwrap().iter().next().unwrap();
                assert!(PARTS.iter().any(|known| part == *known), "{}", target.display());
                included += 1;
            }
        }
        assert!(included > 3, "{included}");
    }

    /// What catches a fault is there still: a test of that name in a file of its module, a program that knows the options.
    #[test]
    fn every_fault_has_its_catcher() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let crash = fs::read_to_string(root.join("tests/src/bin/crash.rs")).unwrap();
        let mut sources = Vec::new();
        for host in ["core", "runtime"] {
            sources.extend(files_below(&root.join("host").join(host).join("src")).unwrap());
        }
        for fault in read(&root.join("tests/seeded.toml")).unwrap() {
            match &fault.caught_by {
                Catcher::Test(test) => {
                    let found = sources.iter().filter(|file| has_test(file, test)).count();
                    assert_eq!(found, 1, "{}: {test}", fault.name);
                }
                Catcher::Crash(options) => {
                    let options = options.iter().filter(|word| word.starts_with("--"));
                    for option in options {
                        assert!(crash.contains(&format!("\"{option}\"")), "{}: {option}", fault.name);
                    }
                }
            }
        }
    }

    /// Whether a file of the test's module, `store/tests/faults.rs` or `tests_faults.rs`, has a test of that name.
    fn has_test(file: &Path, test: &str) -> bool {
        let mut path = test.rsplit("::");
        let (name, module) = (path.next().unwrap(), path.next().unwrap());
        let text = fs::read_to_string(file).unwrap();
        let stem = file.file_stem().unwrap().to_str().unwrap();
        let of_module = match module {
            "tests" => true,
            module => stem == module || stem.ends_with(&format!("_{module}")),
        };
        let is_there = |indent: &str| text.contains(&format!("#[test]\n{indent}fn {name}("));
        of_module && (is_there("") || is_there("    "))
    }

    /// Every fault finds its place: a change of the code that moves it is told here, and not when somebody sows.
    #[test]
    fn every_fault_has_its_place() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let faults = read(&root.join("tests/seeded.toml")).unwrap();
        assert!(faults.len() >= 4);
        for fault in faults {
            for (file, find, put) in &fault.edits {
                let text = fs::read_to_string(root.join(file)).unwrap();
                assert_eq!(text.matches(find.as_str()).count(), 1, "{}: {file}", fault.name);
                assert_ne!(find, put);
            }
        }
    }
}
