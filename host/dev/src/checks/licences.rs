//! Under which licences, and from where, everything is that we build.
//!
//! `cargo deny` does this and more, and is run where it is installed; this part needs nothing but cargo.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::live::{LONG, Live};
use crate::place::Place;

/// The workspaces, by their folders.
const WORKSPACES: [&str; 2] = ["", "tools"];

/// Checks every package of both workspaces against `deny.toml`. Returns how many there are.
pub(crate) fn check(place: &Place, live: &mut Live) -> Outcome<usize> {
    let rules = Rules::read(&place.root.join("deny.toml"))?;
    let mut all = Vec::new();
    for manifest in WORKSPACES.map(|folder| place.root.join(folder).join("Cargo.toml")) {
        all.extend(packages(place, &manifest)?);
    }
    let complaints: String = all
        .iter()
        .filter_map(|package| rules.complaint(package))
        .chain(strays(&all))
        .collect();
    if !complaints.is_empty() {
        return Err(Failure::new(complaints));
    }
    if Command::new("cargo-deny")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        let mut deny = place.cargo();
        live.run(place, "cargo deny", deny.args(["deny", "--workspace", "check"]), LONG)?;
    }
    Ok(all.len())
}

/// Packages of another registry than the one that nearly all are of.
fn strays(packages: &[Package]) -> Vec<String> {
    let mut registries: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        if let Some(registry) = package
            .source
            .as_deref()
            .and_then(|source| source.strip_prefix("registry+"))
        {
            registries.entry(registry).or_default().push(&package.name);
        }
    }
    let usual = registries.values().map(Vec::len).max();
    let others = registries.into_iter().filter(|(_, names)| Some(names.len()) != usual);
    others
        .map(|(registry, names)| {
            format!(
                "from {registry}, and not from where the others are: {}\n",
                names.join(", ")
            )
        })
        .collect()
}

/// What `deny.toml` allows.
struct Rules {
    licences: BTreeSet<String>,
}

impl Rules {
    fn read(path: &Path) -> Outcome<Self> {
        let text = fs::read_to_string(path).map_err(|error| Failure::at(path, &error))?;
        Self::parse(&text).ok_or_else(|| Failure::new(format!("{} lists no licences", path.display())))
    }

    fn parse(text: &str) -> Option<Self> {
        let table: toml::Table = text.parse().ok()?;
        let list = |section: &str, key: &str| {
            let entries = table.get(section)?.get(key)?.as_array()?;
            entries
                .iter()
                .map(|entry| entry.as_str().map(str::to_owned))
                .collect::<Option<BTreeSet<_>>>()
        };
        Some(Self {
            licences: list("licenses", "allow")?,
        })
    }

    /// What is wrong with a package, as a line.
    fn complaint(&self, package: &Package) -> Option<String> {
        let Package { name, licence, source } = package;
        if let Some(source) = source
            && !source.starts_with("registry+")
        {
            return Some(format!(
                "{name} comes from {source}: only a registry keeps what it once gave out\n"
            ));
        }
        let Some(licence) = licence else {
            return Some(format!("{name} names no licence\n"));
        };
        match allowed(licence, &self.licences) {
            Some(true) => None,
            Some(false) => Some(format!("{name} is under {licence}, which deny.toml does not allow\n")),
            None => Some(format!("{name}: its licence `{licence}` is no SPDX expression\n")),
        }
    }
}

struct Package {
    name: String,
    licence: Option<String>,
    /// None for what is in this repository.
    source: Option<String>,
}

fn packages(place: &Place, manifest: &Path) -> Outcome<Vec<Package>> {
    let mut cargo = place.cargo();
    cargo
        .args(["metadata", "--locked", "--format-version", "1", "--manifest-path"])
        .arg(manifest);
    let output = cargo
        .output()
        .map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
    let text = |package: &Value, key: &str| package.get(key).and_then(Value::as_str).map(str::to_owned);
    let listed = metadata.get("packages").and_then(Value::as_array).into_iter().flatten();
    Ok(listed
        .map(|package| Package {
            name: text(package, "name").unwrap_or_default(),
            licence: text(package, "license"),
            source: text(package, "source"),
        })
        .collect())
}

/// Whether an SPDX expression can be satisfied with the allowed licences; none where it can't be read.
///
/// `AND` binds closer than `OR`; the slash of old manifests means `OR`.
fn allowed(expression: &str, licences: &BTreeSet<String>) -> Option<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let value = any_of(&mut rest, licences)?;
    rest.is_empty().then_some(value)
}

fn any_of(rest: &mut &[&str], licences: &BTreeSet<String>) -> Option<bool> {
    let mut value = all_of(rest, licences)?;
    while take(rest, "OR") {
        value |= all_of(rest, licences)?;
    }
    Some(value)
}

fn all_of(rest: &mut &[&str], licences: &BTreeSet<String>) -> Option<bool> {
    let mut value = one(rest, licences)?;
    while take(rest, "AND") {
        value &= one(rest, licences)?;
    }
    Some(value)
}

fn one(rest: &mut &[&str], licences: &BTreeSet<String>) -> Option<bool> {
    if take(rest, "(") {
        let value = any_of(rest, licences)?;
        return take(rest, ")").then_some(value);
    }
    let name = licence_name(rest)?;
    if take(rest, "WITH") {
        let exception = licence_name(rest)?;
        return Some(licences.contains(&format!("{name} WITH {exception}")));
    }
    Some(licences.contains(name))
}

fn take(rest: &mut &[&str], word: &str) -> bool {
    let found = rest.first() == Some(&word);
    if found {
        *rest = rest.get(1..).unwrap_or_default();
    }
    found
}

fn licence_name<'a>(rest: &mut &[&'a str]) -> Option<&'a str> {
    let (first, others) = rest.split_first()?;
    *rest = others;
    (!["AND", "OR", "WITH", "(", ")"].contains(first)).then_some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, expected: Option<bool>) {
        let licences = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]
            .map(str::to_owned)
            .into();
        assert_eq!(allowed(expression, &licences), expected, "{expression}");
    }

    #[test]
    fn expressions_are_evaluated() {
        check("MIT", Some(true));
        check("GPL-3.0-only", Some(false));
        check("GPL-3.0-only OR MIT", Some(true));
        check("GPL-3.0-only/MIT", Some(true));
        check("GPL-3.0-only AND MIT", Some(false));
        check("MIT AND GPL-3.0-only OR ISC", Some(true));
        check("MIT AND (GPL-3.0-only OR Zlib)", Some(false));
        check("(MIT OR GPL-3.0-only) AND ISC", Some(true));
        check("Apache-2.0 WITH LLVM-exception", Some(true));
        check("Apache-2.0", Some(false));
    }

    #[test]
    fn what_is_no_expression_is_not_allowed() {
        for broken in ["", "MIT OR", "MIT ISC", "(MIT", "MIT)", "OR MIT", "MIT WITH"] {
            check(broken, None);
        }
    }

    fn package(name: &str, source: Option<&str>) -> Package {
        Package {
            name: name.to_owned(),
            licence: Some("MIT".to_owned()),
            source: source.map(str::to_owned),
        }
    }

    #[test]
    fn what_no_registry_keeps_is_refused() {
        let rules = Rules::parse("[licenses]\nallow = [\"MIT\"]").unwrap();
        assert_eq!(rules.complaint(&package("a", None)), None);
        assert_eq!(rules.complaint(&package("a", Some("registry+https://one"))), None);
        for source in ["git+https://one", "sparse+https://one"] {
            assert!(rules.complaint(&package("a", Some(source))).is_some(), "{source}");
        }
    }

    #[test]
    fn a_second_registry_is_refused() {
        let (one, two) = (Some("registry+https://one"), Some("registry+https://two"));
        let mut packages = vec![package("ours", None), package("a", one), package("b", one)];
        assert!(strays(&packages).is_empty());
        packages.push(package("c", two));
        assert_eq!(
            strays(&packages),
            ["from https://two, and not from where the others are: c\n"]
        );
    }
}
