//! `tools.lock`: which component each tool's name stands for.
//!
//! Written by the host alone, when an operator accepts a component. A name that is not in here cannot be called, and a component whose
//! digest is another is not the tool.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ambit_core::digest::Digest;
use ambit_core::error::{Problem, printable};

use super::is_name;
use super::reader::{Located, Source, Table};

/// The file's name in a home.
pub const FILE: &str = "tools.lock";

/// Version of the file's form.
const VERSION: u64 = 1;

/// The accepted tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    tools: BTreeMap<String, Pin>,
}

/// An accepted component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Of the component's bytes.
    pub digest: Digest,
    /// The world it was built for, for people.
    pub world: String,
    /// When it was accepted, in milliseconds since 1970.
    pub accepted_ms: u64,
}

impl Lock {
    /// The pin of a tool.
    pub fn get(&self, tool: &str) -> Option<&Pin> {
        self.tools.get(tool)
    }

    /// All pins, by the tools' names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Pin)> {
        self.tools.iter().map(|(name, pin)| (name.as_str(), pin))
    }

    /// Accepts a component under a name, in place of the one before; returns that.
    ///
    /// # Errors
    /// The name is not one: 1 to 64 letters, digits, `-` and `_`, a letter or digit first.
    pub fn accept(&mut self, tool: &str, pin: Pin) -> Result<Option<Pin>, InvalidName> {
        if !is_name(tool) {
            return Err(InvalidName(printable(tool)));
        }
        Ok(self.tools.insert(tool.to_owned(), pin))
    }

    /// Forgets a tool; returns its pin.
    pub fn remove(&mut self, tool: &str) -> Option<Pin> {
        self.tools.remove(tool)
    }

    /// Reads a home's lock; empty where there is none yet.
    ///
    /// # Errors
    /// Every problem of the file.
    pub fn read(home: &Path) -> Result<Lock, Vec<Problem>> {
        let path = home.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Lock::parse(FILE, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Lock::default()),
            Err(error) => Err(vec![Problem::without_source(
                format!("{} cannot be read: {error}", path.display()),
                None,
            )]),
        }
    }

    /// Reads the text of a lock file called `name`.
    ///
    /// # Errors
    /// Every problem of the text.
    pub fn parse(name: &str, text: &str) -> Result<Lock, Vec<Problem>> {
        let source = Source::new(name, text);
        let document = source.parse();
        if source.has_problems() {
            return Err(source.into_problems());
        }
        let root = Table::new(&source, document.get_ref(), 0..0, "the lock");
        match root.number("version") {
            Some(version) if version.value != VERSION => source.problem(
                version.span,
                format!(
                    "this lock has version {}, and this ambit reads {VERSION}",
                    version.value
                ),
                "another version",
                Some("use the ambit that wrote it, or accept the tools again".into()),
            ),
            Some(_) => {}
            None => root.missing(
                "version",
                "the file is written by `ambit tools accept`, and not by hand",
            ),
        }
        let tools = root.named("tool", "tool");
        let tools = tools.into_iter().filter_map(|(name, table)| pin(name, table)).collect();
        root.done();
        if source.has_problems() {
            return Err(source.into_problems());
        }
        Ok(Lock { tools })
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text =
            format!("# Written by `ambit tools`. The components these names stand for.\nversion = {VERSION}\n");
        for (
            name,
            Pin {
                digest,
                world,
                accepted_ms,
            },
        ) in &self.tools
        {
            let world = toml::Value::String(world.clone());
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "\n[tool.{name}]\ndigest = \"{digest}\"\nworld = {world}\naccepted_ms = {accepted_ms}\n"
            );
        }
        text
    }

    /// Writes a home's lock: whole or not at all, and on disk when this returns.
    ///
    /// # Errors
    /// As writing, syncing and renaming do.
    pub fn write(&self, home: &Path) -> io::Result<()> {
        let path = home.join(FILE);
        let beside = Beside(home.join(format!("{FILE}.{}.new", std::process::id())));
        let mut file = File::create(&beside.0)?;
        file.write_all(self.to_text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside.0, &path)?;
        // The rename is in the directory, which is synced by itself.
        File::open(home)?.sync_all()
    }
}

/// A file that is removed again if it did not become another.
struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        // After the rename there is none.
        let _ = fs::remove_file(&self.0);
    }
}

/// A tool's name is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be a tool's name: 1 to 64 letters, digits, `-` and `_`, a letter or digit first")]
pub struct InvalidName(String);

fn pin(name: Located<String>, table: Table<'_>) -> Option<(String, Pin)> {
    super::check_name(table.source(), &name, "tool");
    let digest = table.string("digest");
    let world = table.string("world");
    let accepted = table.number("accepted_ms");
    for (key, there) in [
        ("digest", digest.is_some()),
        ("world", world.is_some()),
        ("accepted_ms", accepted.is_some()),
    ] {
        if !there {
            table.missing(key, "accept the tool again with `ambit tools accept`");
        }
    }
    let digest = digest.and_then(|text| match text.value.parse() {
        Ok(digest) => Some(digest),
        Err(error) => {
            let message = format!("{} has a digest that is none", table.what());
            table
                .source()
                .problem(text.span, message, "not a digest", Some(format!("{error}")));
            None
        }
    });
    table.done();
    let pin = Pin {
        digest: digest?,
        world: world?.value,
        accepted_ms: accepted?.value,
    };
    Some((name.value, pin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lock {
        let mut lock = Lock::default();
        for name in ["refunds", "a-b_C9"] {
            let pin = Pin {
                digest: Digest::of(name.as_bytes()),
                world: format!("acme:{name}/tool@1.2.0 \"quoted\"\\"),
                accepted_ms: 1_763_690_400_000,
            };
            lock.accept(name, pin).unwrap();
        }
        lock
    }

    #[test]
    fn what_is_written_reads_back() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(Lock::read(home.path()).unwrap(), Lock::default());
        lock().write(home.path()).unwrap();
        assert_eq!(Lock::read(home.path()).unwrap(), lock());
        let files: Vec<_> = fs::read_dir(home.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(files, [FILE]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let home = tempfile::tempdir().unwrap();
        lock().write(home.path()).unwrap();
        let blocked = home.path().join(format!("{FILE}.{}.new", std::process::id()));
        fs::create_dir(&blocked).unwrap();
        Lock::default().write(home.path()).unwrap_err();
        assert_eq!(Lock::read(home.path()).unwrap(), lock());
    }

    fn check(text: &str, expected: &[&str]) {
        let problems = Lock::parse(FILE, text).unwrap_err();
        let messages: Vec<_> = problems.iter().map(Problem::message).collect();
        assert_eq!(messages, expected);
    }

    #[test]
    fn every_mistake_is_told() {
        check("", &["the lock has no `version`"]);
        check("version = 2", &["this lock has version 2, and this ambit reads 1"]);
        check(
            "version = 1\n[tool.refunds]\ndigest = \"sha256:00\"\nworld = 1\nacepted_ms = 1\n",
            &[
                "tool `refunds` has no `accepted_ms`",
                "tool `refunds` has a digest that is none",
                "`world` of tool `refunds` is a string, not 1",
                "unknown key `acepted_ms` in tool `refunds`",
            ],
        );
        check(
            "version = 1\n[tool.\"../x\"]\ndigest = \"\"",
            &[
                "`../x` cannot be the name of a tool",
                "tool `../x` has no `world`",
                "tool `../x` has no `accepted_ms`",
                "tool `../x` has a digest that is none",
            ],
        );
    }

    #[test]
    fn names_are_not_paths() {
        let pin = Pin {
            digest: Digest::of(b""),
            world: String::new(),
            accepted_ms: 0,
        };
        for name in ["", "../x", "a/b", ".hidden", "-x", "a b", "ä", &"x".repeat(65)] {
            Lock::default().accept(name, pin.clone()).unwrap_err();
        }
    }
}
