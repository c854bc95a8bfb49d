//! Things that are written twice, or that point to others, and could drift apart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Outcome};
use crate::place::Place;

/// Checks what is kept in more than one place. Returns how many files were read.
pub(crate) fn check(place: &Place) -> Outcome<usize> {
    let files = kept_files(place)?;
    let mut complaints = copies_of_interfaces(place, &files)?;
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|kind| kind == "md"))
    {
        complaints.push_str(&broken_links(place, file)?);
    }
    if complaints.is_empty() {
        return Ok(files.len());
    }
    Err(Failure::new(complaints))
}

/// Every file that git keeps or would keep.
fn kept_files(place: &Place) -> Outcome<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(&place.root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = git.output().map_err(|error| Failure::new(format!("git: {error}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!(
            "git ls-files: {}",
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    Ok(paths.filter(|path| place.root.join(path).is_file()).collect())
}

/// The capability interfaces are written in `wit`; copies below a tool's `wit/deps` must say the same.
fn copies_of_interfaces(place: &Place, files: &[PathBuf]) -> Outcome<String> {
    let original = read(place, Path::new("wit/capability.wit"))?;
    let mut complaints = String::new();
    for copy in files
        .iter()
        .filter(|file| file.ends_with("capability.wit") && file.components().count() > 2)
    {
        if read(place, copy)? != original {
            complaints.push_str(&format!(
                "{} is no longer what wit/capability.wit says: copy it again\n",
                copy.display()
            ));
        }
    }
    Ok(complaints)
}

/// Links of a document to files that are not there.
fn broken_links(place: &Place, document: &Path) -> Outcome<String> {
    let text = read(place, document)?;
    let folder = document.parent().unwrap_or(Path::new(""));
    let mut complaints = String::new();
    for link in links(&text) {
        if !place.root.join(folder).join(link).exists() {
            complaints.push_str(&format!("{} links to {link}, which is not there\n", document.display()));
        }
    }
    Ok(complaints)
}

/// The targets of a document's links within the repository, without their fragments.
fn links(text: &str) -> Vec<&str> {
    let after_brackets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local =
        after_brackets.filter(|link| !link.contains("://") && !link.starts_with('#') && !link.starts_with("mailto:"));
    local.filter_map(|link| link.split('#').next()).collect()
}

fn read(place: &Place, file: &Path) -> Outcome<String> {
    let path = place.root.join(file);
    fs::read_to_string(&path).map_err(|error| Failure::at(&path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_into_the_repository_are_followed() {
        let text = "[a](README.md#two) [b](https://example.org/x) [c](#here) [d](tests/src)";
        assert_eq!(links(text), ["README.md", "tests/src"]);
    }
}
