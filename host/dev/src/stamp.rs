//! Stamps: a step is skipped while nothing that it reads has changed.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome};

/// What a step reads, as one number: names and contents, not times, so a fresh checkout counts as unchanged.
#[derive(Default)]
pub(crate) struct Inputs(DefaultHasher);

impl Inputs {
    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// A file, or every file below a folder. Build folders and hidden files don't count.
    pub(crate) fn tree(&mut self, path: &Path) -> Outcome {
        for file in files_below(path)? {
            let content = fs::read(&file).map_err(|error| Failure::at(&file, &error))?;
            self.bytes(file.to_string_lossy().as_bytes());
            self.bytes(&content);
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.write_usize(bytes.len());
        self.0.write(bytes);
    }

    pub(crate) fn stamp(&self) -> String {
        format!("{:016x}", self.0.finish())
    }

    /// Whether the step passed with these inputs, as its file says. Under CI nothing is believed.
    pub(crate) fn passed(&self, file: &Path) -> bool {
        let always = env::var_os("CI").is_some_and(|value| !value.is_empty());
        !always && fs::read_to_string(file).is_ok_and(|text| text == self.stamp())
    }

    /// Notes that it passed with them.
    pub(crate) fn note_passed(&self, file: &Path) -> Outcome {
        fs::write(file, self.stamp()).map_err(|error| Failure::at(file, &error))
    }
}

/// Every file at or below `path`, sorted, without build folders and hidden files.
pub(crate) fn files_below(path: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![path.to_path_buf()];
    while let Some(path) = open.pop() {
        if path.is_file() {
            found.push(path);
            continue;
        }
        let entries = fs::read_dir(&path).map_err(|error| Failure::at(&path, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| Failure::at(&path, &error))?;
            let name = entry.file_name();
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                open.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}
