//! The programs that the workspace builds, found beside the running test.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// A program of this workspace, such as `ambit`.
///
/// # Panics
/// It was not built: a single crate's tests build only their own.
pub fn program(name: &str) -> PathBuf {
    let path = folder().join(name);
    assert!(
        path.is_file(),
        "{} is not built; `cargo build --workspace` does it",
        path.display()
    );
    path
}

/// A built component: `target/components/<name>.wasm`, or below `AMBIT_COMPONENTS`.
///
/// # Panics
/// It was not built.
pub fn component(name: &str) -> PathBuf {
    let path = components().join(format!("{name}.wasm"));
    assert!(
        path.is_file(),
        "{} is not built; `cargo xtask components` does it",
        path.display()
    );
    path
}

/// The folder of built components.
///
/// # Panics
/// The running program is not in a build folder.
pub fn components() -> PathBuf {
    env::var_os("AMBIT_COMPONENTS").map_or_else(
        || {
            folder()
                .parent()
                .expect("a build folder has a parent")
                .join("components")
        },
        PathBuf::from,
    )
}

/// Counts the running test as skipped, in the list that `cargo xtask test` reads and under CI turns into failures.
///
/// # Panics
/// The list cannot be written.
pub fn skip(test: &str, reason: &str) {
    if let Some(list) = env::var_os("AMBIT_SKIPPED") {
        let mut list = OpenOptions::new()
            .append(true)
            .open(list)
            .expect("the list of skipped tests");
        // One write, so that tests running side by side don't mix their lines.
        list.write_all(format!("{test}: {reason}\n").as_bytes())
            .expect("the list of skipped tests");
    }
}

/// `target/debug`: where this program is, or one above for cargo's test programs.
fn folder() -> PathBuf {
    let here = env::current_exe().expect("a running program has a path");
    let folder = here.parent().expect("a program is in a folder");
    if folder.ends_with("deps") {
        folder.parent().expect("deps is in a folder").to_path_buf()
    } else {
        folder.to_path_buf()
    }
}
