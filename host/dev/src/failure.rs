//! One kind of failure: a text for the person at the terminal.

use std::fmt;
use std::io;
use std::path::Path;

/// What went wrong, why, and what to do, as it is printed.
#[derive(Debug)]
pub(crate) struct Failure(String);

/// The result of everything here.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A file or folder that could not be used.
    pub(crate) fn at(path: &Path, error: &io::Error) -> Self {
        Self(format!("{}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
