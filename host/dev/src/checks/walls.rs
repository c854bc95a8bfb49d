//! The walls between the crates: what one may never depend on, even through others.

use std::collections::BTreeSet;

use crate::failure::{Failure, Outcome};
use crate::place::Place;

/// A crate, and what must not be among its dependencies.
struct Wall {
    package: &'static str,
    never: &'static [&'static str],
    why: &'static str,
}

const WALLS: [Wall; 3] = [
    Wall {
        package: "ambit-core",
        never: &[
            "wasmtime", "tokio", "mio", "socket2", "hyper", "rustls", "ring", "rusqlite", "cap-std", "reqwest", "ureq",
        ],
        why: "what a reviewer must believe is pure: no engine, sockets, files or storage",
    },
    Wall {
        package: "ambit-core",
        never: &["ambit-runtime", "ambit-server", "ambit", "ambit-tests"],
        why: "the core knows nothing of what uses it",
    },
    Wall {
        package: "xtask",
        never: &[
            "ambit-core",
            "ambit-runtime",
            "ambit-server",
            "ambit",
            "ambit-tests",
            "wasmtime",
            "tokio",
        ],
        why: "what checks the host must not depend on it",
    },
];

/// Refuses a dependency that goes through a wall, and tests that would be built apart from the programs.
pub(crate) fn check(place: &Place) -> Outcome {
    let mut broken = String::new();
    for wall in &WALLS {
        let dependencies = dependencies(place, wall.package)?;
        for name in wall
            .never
            .iter()
            .filter(|name| dependencies.iter().any(|found| found == *name))
        {
            broken.push_str(&format!(
                "{} depends on {name}: {}\n  see how: cargo tree -p {} -e normal,build --target all -i {name}\n",
                wall.package, wall.why, wall.package
            ));
        }
    }
    for package in built_twice(place)? {
        broken.push_str(&format!(
            "{package} would be compiled twice, as tests want other features of it: name what brings them in tests/Cargo.toml\n"
        ));
    }
    if broken.is_empty() {
        return Ok(());
    }
    Err(Failure::new(broken))
}

/// The names of everything `package` is built with, itself not included, for every platform; not what only its tests use.
fn dependencies(place: &Place, package: &str) -> Outcome<Vec<String>> {
    let text = tree(
        place,
        &[
            "--package",
            package,
            "--edges",
            "normal,build",
            "--target",
            "all",
            "--format",
            "{p}",
        ],
    )?;
    Ok(text
        .lines()
        .skip(1)
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect())
}

/// Packages of which the programs and the tests use different features. With everything that depends on them, they would
/// be compiled once for `cargo build` and once more for `cargo test`.
fn built_twice(place: &Place) -> Outcome<Vec<String>> {
    let features = |edges: &str| {
        let text = tree(place, &["--workspace", "--edges", edges, "--format", "{p} {f}"])?;
        let lines = text.lines().map(|line| line.trim_end_matches(" (*)").to_owned());
        Ok::<BTreeSet<String>, Failure>(lines.collect())
    };
    let (programs, tests) = (features("normal,build")?, features("normal,build,dev")?);
    Ok(programs
        .difference(&tests)
        .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect())
}

fn tree(place: &Place, arguments: &[&str]) -> Outcome<String> {
    let mut cargo = place.cargo();
    cargo.args(["tree", "--locked", "--prefix", "none"]).args(arguments);
    let output = cargo
        .output()
        .map_err(|error| Failure::new(format!("cargo tree: {error}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!(
            "cargo tree: {}",
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
