//! Building every tool and test guest, the way a tool author does: with `ambit build`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Outcome};
use crate::live::{LONG, Live};
use crate::place::Place;
use crate::setup::Toolchain;
use crate::stamp::Inputs;

/// Folders whose subfolders are components.
const HOMES: [&str; 2] = ["tools", "tests/guests"];

/// One crate that becomes a component.
pub(crate) struct Source {
    /// The folder's name: also the component's, and what scenarios call it.
    pub(crate) name: String,
    folder: PathBuf,
}

/// Every component of the repository, sorted by name.
pub(crate) fn sources(place: &Place) -> Outcome<Vec<Source>> {
    let mut found = Vec::new();
    for home in HOMES
        .map(|home| place.root.join(home))
        .iter()
        .filter(|home| home.is_dir())
    {
        let entries = fs::read_dir(home).map_err(|error| Failure::at(home, &error))?;
        for folder in entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|folder| folder.join("wit").is_dir())
        {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push(Source { name, folder });
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    match found
        .windows(2)
        .find(|pair| matches!(pair, [one, other] if one.name == other.name))
    {
        Some([one, other]) => Err(Failure::new(format!(
            "two components are called `{}`: {} and {}",
            one.name,
            one.folder.display(),
            other.folder.display()
        ))),
        _ => Ok(found),
    }
}

/// Builds the components whose sources, or whose builder, changed since their last build. Returns how many there are.
pub(crate) fn build(place: &Place, live: &mut Live, toolchain: &Toolchain) -> Outcome<usize> {
    let folder = place.components();
    fs::create_dir_all(&folder).map_err(|error| Failure::at(&folder, &error))?;
    let stamps = place.scratch("stamps")?;
    let shared = shared_inputs(place, toolchain)?;
    let sources = sources(place)?;
    for source in &sources {
        let mut inputs = Inputs::default();
        inputs.text(&shared);
        inputs.tree(&source.folder)?;
        let stamp = stamps.join(&source.name);
        let component = folder.join(format!("{}.wasm", source.name));
        if component.is_file() && fs::read_to_string(&stamp).is_ok_and(|known| known == inputs.stamp()) {
            continue;
        }
        build_one(place, live, toolchain, source, &component)?;
        fs::write(&stamp, inputs.stamp()).map_err(|error| Failure::at(&stamp, &error))?;
    }
    remove_strangers(&folder, &sources)?;
    Ok(sources.len())
}

/// What every component depends on besides its own folder: the interfaces, the SDK, the workspace and what builds them.
fn shared_inputs(place: &Place, toolchain: &Toolchain) -> Outcome<String> {
    let mut inputs = Inputs::default();
    inputs.text(&format!("{toolchain}"));
    for path in [
        "wit",
        "sdk/rust",
        "tools/Cargo.toml",
        "tools/Cargo.lock",
        "host/cli/src/build.rs",
        "host/core/src/manifest",
    ] {
        let path = place.root.join(path);
        if path.exists() {
            inputs.tree(&path)?;
        }
    }
    Ok(inputs.stamp())
}

fn build_one(place: &Place, live: &mut Live, toolchain: &Toolchain, source: &Source, component: &Path) -> Outcome {
    let mut ambit = Command::new(place.program("ambit"));
    ambit
        .current_dir(&place.root)
        .arg("build")
        .arg(&source.folder)
        .arg("--output")
        .arg(component);
    // One target folder for all of them, so that what they share is compiled once.
    ambit
        .env("CARGO_TARGET_DIR", place.target.join("guests"))
        .env("CARGO_TERM_COLOR", "never");
    toolchain.apply(&mut ambit);
    live.run(place, &format!("component {}", source.name), &mut ambit, LONG)
        .map(drop)
}

/// A component whose source is gone would still be there for tests to use.
fn remove_strangers(folder: &Path, sources: &[Source]) -> Outcome {
    let entries = fs::read_dir(folder).map_err(|error| Failure::at(folder, &error))?;
    for file in entries.flatten().map(|entry| entry.path()) {
        let known = sources
            .iter()
            .any(|source| file.file_stem().is_some_and(|stem| stem == source.name.as_str()));
        if file.extension().is_some_and(|kind| kind == "wasm") && !known {
            fs::remove_file(&file).map_err(|error| Failure::at(&file, &error))?;
        }
    }
    Ok(())
}
