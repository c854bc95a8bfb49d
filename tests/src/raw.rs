//! Components that no compiler would make, written by hand and assembled when a test wants them.
//!
//! `tests/guests/raw/NAME.wat` is a component in text form; where `NAME.wit` lies beside it, it is the core module of a
//! component with that world. In both, a comment `;;repeat 3: TEXT` (`//repeat 1..4: TEXT` in WIT) stands for as many
//! lines of TEXT, in which `{n}` is the line's number and `{n-1}` the one before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const CAPABILITY: &str = include_str!("../../wit/capability.wit");

/// Where they are.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/raw")
}

/// The names of all of them.
///
/// # Errors
/// The folder can't be read.
pub fn names() -> io::Result<Vec<String>> {
    let files = fs::read_dir(folder())?.map(|entry| entry.map(|entry| entry.path()));
    let files = files.collect::<io::Result<Vec<_>>>()?.into_iter();
    Ok(files
        .filter(|path| path.extension().is_some_and(|kind| kind == "wat"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect())
}

/// Assembles one into `target`; says whether there is one of this name.
///
/// # Errors
/// Its text does not parse, or the file can't be written.
pub fn assemble(name: &str, target: &Path) -> io::Result<bool> {
    let text = match fs::read_to_string(folder().join(name).with_extension("wat")) {
        Ok(text) => repeated(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut wasm = wat::parse_str(&text).map_err(|error| io::Error::other(format!("{name}.wat: {error}")))?;
    let world = folder().join(name).with_extension("wit");
    if world.exists() {
        let world = repeated(&fs::read_to_string(world)?);
        wasm = component(&mut wasm, &world).map_err(|error| io::Error::other(format!("{name}.wit: {error}")))?;
    }
    fs::write(target, wasm).map(|()| true)
}

/// Makes a component of a module, as tool chains do. Nothing is validated: that is for the host.
fn component(module: &mut Vec<u8>, world: &str) -> Result<Vec<u8>, String> {
    let told = |error: &dyn std::fmt::Display| format!("{error:#}");
    let mut resolve = Resolve::default();
    resolve.push_str("capability.wit", CAPABILITY).map_err(|e| told(&e))?;
    let package = resolve.push_str("world.wit", world).map_err(|e| told(&e))?;
    let world = resolve.select_world(&[package], Some("tool")).map_err(|e| told(&e))?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8, false).map_err(|e| told(&e))?;
    let mut encoder = ComponentEncoder::default();
    let encoder = encoder.validate(false).module(module).map_err(|e| told(&e))?;
    encoder.encode().map_err(|e| told(&e))
}

fn repeated(text: &str) -> String {
    text.lines()
        .map(|line| repeat(line).unwrap_or_else(|| format!("{line}\n")))
        .collect()
}

fn repeat(line: &str) -> Option<String> {
    let line = line.trim_start();
    let rest = line
        .strip_prefix(";;repeat ")
        .or_else(|| line.strip_prefix("//repeat "))?;
    let (count, text) = rest.split_once(':')?;
    let (first, end) = count.split_once("..").unwrap_or(("0", count));
    let numbers = first.parse::<u32>().ok()?..end.parse().ok()?;
    let line = |n: u32| {
        text.replace("{n}", &n.to_string())
            .replace("{n-1}", &n.wrapping_sub(1).to_string())
            + "\n"
    };
    Some(numbers.map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_repeated_with_their_numbers() {
        assert_eq!(repeated("a\n  ;;repeat 2: b{n}\nc\n"), "a\n b0\n b1\nc\n");
        assert_eq!(repeated("//repeat 1..3: {n} after {n-1}"), " 1 after 0\n 2 after 1\n");
        assert_eq!(repeated(";; repeat after me: {n}"), ";; repeat after me: {n}\n");
    }
}
