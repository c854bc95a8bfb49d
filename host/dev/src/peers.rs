//! What Ambit is tested against and other people made: official clients, the conformance suite, an OpenID provider.
//!
//! `tests/peers` says which, to the version where there is more than one. They are installed below the build folder, once for each state of
//! those files, by the `npm`, the `python3` and the `apt-get` that are here. Where there is none of them, nor a registry, the tests that need
//! them are skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::failure::{Failure, Outcome};
use crate::live::Live;
use crate::place::Place;
use crate::stamp::Inputs;

/// The time that one of them may take, on a slow line.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// A kind of peers: its name, the files that say what it is, and how it is installed into its folder.
struct Kind {
    name: &'static str,
    files: &'static [&'static str],
    install: fn(&Installing<'_>, &mut Live) -> Outcome,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "node",
        files: &["package.json", "package-lock.json"],
        install: node,
    },
    Kind {
        name: "python",
        files: &["requirements.txt"],
        install: python,
    },
    Kind {
        name: "debian",
        files: &["debian.txt"],
        install: debian,
    },
];

/// Where they come from and go to.
struct Installing<'p> {
    place: &'p Place,
    from: PathBuf,
    to: PathBuf,
}

/// Where they are: tests find them by `AMBIT_PEERS`.
pub(crate) fn folder(place: &Place) -> PathBuf {
    place.target.join("peers")
}

/// Installs what is not installed yet, or was to another version. Says how many kinds there are, and why some are not, a line each.
pub(crate) fn install(place: &Place, live: &mut Live) -> Outcome<(usize, Vec<String>)> {
    let folder = folder(place);
    fs::create_dir_all(&folder).map_err(|error| Failure::at(&folder, &error))?;
    let mut missing = Vec::new();
    for kind in &KINDS {
        if let Err(failure) = one(kind, place, &folder, live) {
            let reason = failure.to_string();
            missing.push(format!(
                "peers {}: {}",
                kind.name,
                reason.lines().next().unwrap_or_default()
            ));
        }
    }
    Ok((KINDS.len() - missing.len(), missing))
}

fn one(kind: &Kind, place: &Place, folder: &Path, live: &mut Live) -> Outcome {
    let from = place.root.join("tests/peers");
    let mut inputs = Inputs::default();
    for file in kind.files {
        inputs.tree(&from.join(file))?;
    }
    let stamp = folder.join(format!("{}.stamp", kind.name));
    let to = folder.join(kind.name);
    if to.is_dir() && fs::read_to_string(&stamp).is_ok_and(|known| known == inputs.stamp()) {
        return Ok(());
    }
    live.say(&format!("installing what {} names", kind.files.join(" and ")));
    // What is of two versions is of none: from here on it is not installed, until it is whole.
    for old in [&stamp, &to] {
        remove(old)?;
    }
    fs::create_dir_all(&to).map_err(|error| Failure::at(&to, &error))?;
    let installing = Installing { place, from, to };
    (kind.install)(&installing, live).inspect_err(|_| drop(remove(&installing.to)))?;
    fs::write(&stamp, inputs.stamp()).map_err(|error| Failure::at(&stamp, &error))
}

fn remove(path: &Path) -> Outcome {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else if path.exists() {
        fs::remove_file(path)
    } else {
        Ok(())
    };
    removed.map_err(|error| Failure::at(path, &error))
}

/// Exactly what the lock file has, and none of the packages' own scripts: nothing of them runs before a test runs it.
fn node(installing: &Installing<'_>, live: &mut Live) -> Outcome {
    for file in ["package.json", "package-lock.json"] {
        let (from, to) = (installing.from.join(file), installing.to.join(file));
        fs::copy(&from, &to).map_err(|error| Failure::at(&from, &error))?;
    }
    let mut npm = Command::new("npm");
    npm.current_dir(&installing.to).args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--loglevel=error",
    ]);
    live.run(installing.place, "npm ci", &mut npm, LIMIT).map(drop)
}

/// Exactly the packages that stand in the file: what they need stands there too.
fn python(installing: &Installing<'_>, live: &mut Live) -> Outcome {
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&installing.to);
    live.run(installing.place, "python3 -m venv", &mut venv, LIMIT)?;
    let pip = |arguments: &[&str]| {
        let mut pip = Command::new(installing.to.join("bin/python"));
        pip.args(["-m", "pip", "--disable-pip-version-check"]).args(arguments);
        pip
    };
    let mut install = pip(&[
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--requirement",
    ]);
    install.arg(installing.from.join("requirements.txt"));
    live.run(installing.place, "pip install", &mut install, LIMIT)?;
    live.run(installing.place, "pip check", &mut pip(&["check"]), LIMIT)
        .map(drop)
}

/// The packages that stand in the file, as Debian's archive has them for the release that runs here. They are unpacked, and none of their
/// own scripts run; so what they need has to be there.
fn debian(installing: &Installing<'_>, live: &mut Live) -> Outcome {
    let file = installing.from.join("debian.txt");
    let text = fs::read_to_string(&file).map_err(|error| Failure::at(&file, &error))?;
    let packages = text.lines().filter(|line| !line.starts_with('#'));
    let mut download = Command::new("apt-get");
    download
        .current_dir(&installing.to)
        .args(["download", "--quiet"])
        .args(packages);
    live.run(installing.place, "apt-get download", &mut download, LIMIT)?;
    let files = fs::read_dir(&installing.to).map_err(|error| Failure::at(&installing.to, &error))?;
    let archives: Vec<PathBuf> = files
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    for archive in archives {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(&archive).arg(&installing.to);
        live.run(installing.place, "dpkg-deb --extract", &mut unpack, LIMIT)?;
        remove(&archive)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_fixed_to_the_version() {
        let place = Place::find().unwrap();
        let read = |name: &str| fs::read_to_string(place.root.join("tests/peers").join(name)).unwrap();
        for kind in &KINDS {
            kind.files.iter().for_each(|file| drop(read(file)));
        }
        let packages = read("requirements.txt");
        let packages = packages.lines().filter(|line| !line.starts_with('#'));
        packages.for_each(|line| assert!(line.contains("=="), "{line}"));
        let package: serde_json::Value = serde_json::from_str(&read("package.json")).unwrap();
        for part in ["dependencies", "optionalDependencies"] {
            for (name, version) in package[part].as_object().unwrap() {
                let fixed = version
                    .as_str()
                    .is_some_and(|text| text.starts_with(|c: char| c.is_ascii_digit()));
                assert!(fixed, "{name}: {version}");
            }
        }
        // Whoever installs has a registry of their own.
        assert!(!read("package-lock.json").contains("\"resolved\""));
    }

    #[test]
    fn what_cannot_be_installed_is_told_and_left_nowhere() {
        let place = Place::find().unwrap();
        let folder = place.scratch("peers-test").unwrap();
        let kind = Kind {
            name: "nothing",
            files: &["requirements.txt"],
            install: |_, _| Err(Failure::new("there is no such thing")),
        };
        let failure = one(&kind, &place, &folder, &mut Live::new("test")).unwrap_err();
        assert!(failure.to_string().contains("no such thing"));
        assert!(!folder.join("nothing").exists() && !folder.join("nothing.stamp").exists());
    }
}
