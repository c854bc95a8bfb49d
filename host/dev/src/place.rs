//! Where things are, and how cargo is called.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Outcome};

/// The repository and its build folder.
pub(crate) struct Place {
    /// The repository's top folder.
    pub(crate) root: PathBuf,
    /// Where cargo builds: `CARGO_TARGET_DIR`, else `target`.
    pub(crate) target: PathBuf,
}

impl Place {
    /// Finds the repository from where this program was built, so that the working directory does not matter.
    pub(crate) fn find() -> Outcome<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here
            .ancestors()
            .nth(2)
            .filter(|root| root.join("Cargo.lock").is_file())
            .ok_or_else(|| {
                Failure::new(format!(
                    "{} is no longer the repository this was built in",
                    here.display()
                ))
            })?;
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => {
                let current =
                    env::current_dir().map_err(|error| Failure::new(format!("working directory: {error}")))?;
                current.join(folder)
            }
            None => root.join("target"),
        };
        Ok(Self {
            root: root.to_path_buf(),
            target,
        })
    }

    /// A folder of xtask's own below the build folder, made when missing.
    pub(crate) fn scratch(&self, name: &str) -> Outcome<PathBuf> {
        let folder = self.target.join("xtask").join(name);
        fs::create_dir_all(&folder).map_err(|error| Failure::at(&folder, &error))?;
        Ok(folder)
    }

    /// Where the built components are, one `<name>.wasm` each.
    pub(crate) fn components(&self) -> PathBuf {
        self.target.join("components")
    }

    /// A program that the workspace builds.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.target.join("debug").join(name)
    }

    /// The cargo that runs this program, at the repository's top, with a progress bar that [`crate::live`] reads.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_TERM_PROGRESS_WHEN", "always")
            .env("CARGO_TERM_PROGRESS_WIDTH", "100");
        forget_own_package(&mut cargo);
        cargo
    }
}

/// `cargo run` describes this package in the environment. Build scripts watch some of those variables, so passing them on
/// would build their crates anew each time cargo is called in another way.
fn forget_own_package(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let own = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if own {
            command.env_remove(name);
        }
    }
}
