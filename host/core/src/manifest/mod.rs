//! What a component declares: the ceiling of what it may ever touch, and the functions it offers.
//!
//! The world is the manifest. Everything here is read from the component's own type, which any WIT tool reads as well and
//! which its digest covers. A declaration grants nothing; it only says what is asked for.
//!
//! [`Manifest::read`] takes a component as a whole or not at all. What cannot be served, does not say what it is for, or
//! would be read differently from how it was meant fails here, before an operator accepts it, by name and with a way out.
//!
//! # The JSON form of values
//!
//! | WIT | JSON |
//! |---|---|
//! | `bool`, `string` | the same |
//! | `s8`…`u32` | integer in range |
//! | `s64`, `u64` | integer; beyond ±(2^53 − 1) a decimal string, which is also accepted for smaller ones |
//! | `f32`, `f64` | number, or `"NaN"`, `"Infinity"`, `"-Infinity"`, `"-0"` |
//! | `char` | string of one character |
//! | `list<u8>` | base64 string, padded |
//! | `list<T>`, `tuple<…>` | array |
//! | `record` | object; unknown members are refused; a member that is an `option` may be left out |
//! | `option<T>` | `null` or T; around another `option`: `null` or `{"some": …}` |
//! | `variant` | `"case"`, or `{"case": payload}` |
//! | `enum` | string |
//! | `flags` | array of distinct strings |
//! | `result<T, E>` | `{"ok": T}` or `{"err": E}`, `null` where there is no payload |
//!
//! The `result` that a function returns is taken apart instead: `ok` is its value, `err` the tool's error. Resources,
//! streams, futures, maps and lists of fixed length have no JSON form.

#![expect(
    clippy::indexing_slicing,
    reason = "ids of wit-parser's arenas index the Resolve they came from"
)]

mod contract;
mod decode;
mod diff;
mod docs;
mod functions;
#[doc(hidden)]
pub mod fuzz;
mod imports;
mod schema;
mod words;

pub use decode::MAX_COMPONENT_BYTES;
pub use diff::Change;
pub use docs::{SECTION, Section, sections};
pub use functions::{ExportPath, Function, Source, Undo};
pub use imports::{CAPABILITY_PACKAGE, CapabilityImport, ImportKind, Plain};

use crate::digest::Digest;
use crate::error::{Code, Refusal, printable};
use decode::Decoded;
use std::fmt;

/// What a component declares.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Digest of the component's bytes: what an operator accepts and binds.
    pub digest: Digest,
    /// Package of the world it was made from, such as `acme:refunds`. The component's own word.
    pub package: Option<String>,
    /// Version of that package.
    pub version: Option<String>,
    /// Name of the world; `root` where the component does not say.
    pub world: String,
    /// The world's doc comment. Docs here, and in what is made of this, hide nothing and have 4 KiB at most each.
    pub docs: Option<String>,
    /// What it asks of the host, in the component's order.
    pub imports: Vec<CapabilityImport>,
    /// What can be called, in the component's order; ids are distinct.
    pub functions: Vec<Function>,
}

impl Manifest {
    /// Reads what a component declares.
    ///
    /// # Errors
    /// [`Code::Load`] if the file is not a component of at most [`MAX_COMPONENT_BYTES`] that validates, imports what no
    /// host serves, has a capability without label, or without a scope that parses, has a function whose types have no
    /// JSON form, or one that is longer than anybody should be shown, or promises an undo that could not be called.
    pub fn read(component: &[u8]) -> Result<Self, Refusal> {
        let decoded = decode::decode(component)?;
        let (package, version, world) = name(&decoded);
        Ok(Self {
            digest: Digest::of(component),
            package,
            version,
            world,
            docs: decoded.resolve.worlds[decoded.world].docs.contents.clone(),
            imports: imports::read(&decoded)?,
            functions: functions::read(&decoded)?,
        })
    }

    /// The function with this id, or the only one with this short name: `create` for `refunds.create`.
    ///
    /// # Errors
    /// [`Code::Function`] if there is none, or more than one, with the names that may be meant.
    pub fn function(&self, name: &str) -> Result<&Function, Refusal> {
        if let Some(function) = self.functions.iter().find(|function| function.id == name) {
            return Ok(function);
        }
        let short: Vec<&Function> = self
            .functions
            .iter()
            .filter(|function| function.export.function == name)
            .collect();
        match short.as_slice() {
            [function] => Ok(function),
            [] => Err(
                Refusal::new(Code::Function, format!("there is no function `{}`", printable(name)))
                    .advise(format!("did you mean {}?", self.nearest(name))),
            ),
            several => Err(
                Refusal::new(Code::Function, format!("`{name}` is the name of several functions")).advise(format!(
                    "call one of {}",
                    quoted(several.iter().map(|function| function.id.as_str()))
                )),
            ),
        }
    }

    /// The up to three functions whose names are most like this one.
    fn nearest(&self, name: &str) -> String {
        let likeness = |function: &Function| {
            let of = |candidate: &str| strsim::jaro_winkler(name, candidate);
            of(&function.id).max(of(&function.export.function))
        };
        let mut functions: Vec<(f64, &str)> = self.functions.iter().map(|f| (likeness(f), f.id.as_str())).collect();
        functions.sort_by(|a, b| b.0.total_cmp(&a.0));
        quoted(functions.into_iter().take(3).map(|(_, id)| id))
    }

    /// The imports that can reach something outside.
    pub fn capabilities(&self) -> impl Iterator<Item = &CapabilityImport> {
        self.imports
            .iter()
            .filter(|import| matches!(import.kind, ImportKind::Capability(_)))
    }

    /// What is different in `newer`, as an operator should see it before accepting it in this one's place.
    #[must_use]
    pub fn diff(&self, newer: &Self) -> Vec<Change> {
        diff::diff(self, newer)
    }
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Package, version and world: from the documentation section, else from what it exports.
fn name(decoded: &Decoded) -> (Option<String>, Option<String>, String) {
    if let Some(origin) = &decoded.origin
        && let Some((package, world)) = origin.split_once('/')
    {
        let (world, version) = match world.split_once('@') {
            Some((world, version)) => (world, Some(version.to_owned())),
            None => (world, None),
        };
        return (Some(package.to_owned()), version, world.to_owned());
    }
    let resolve = &decoded.resolve;
    let world = &resolve.worlds[decoded.world];
    let package = world.exports.values().find_map(|item| match item {
        wit_parser::WorldItem::Interface { id, .. } => resolve.interfaces[*id].package,
        _ => None,
    });
    let package = package
        .filter(|package| Some(*package) != world.package)
        .map(|id| &resolve.packages[id].name);
    (
        package.map(|name| format!("{}:{}", name.namespace, name.name)),
        package.and_then(|name| name.version.as_ref()).map(ToString::to_string),
        world.name.clone(),
    )
}

/// What is declared, for people: the capabilities with one line for each rule, then the functions.
impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self
            .version
            .as_ref()
            .map(|version| format!("@{version}"))
            .unwrap_or_default();
        let package = self.package.as_deref().unwrap_or("(no package)");
        writeln!(
            f,
            "{}/{}{}",
            printable(package),
            printable(&self.world),
            printable(&version)
        )?;
        writeln!(f, "{}", self.digest)?;
        if let Some(docs) = self.docs.as_deref().and_then(|docs| docs.lines().next()) {
            writeln!(f, "{}", printable(docs))?;
        }
        writeln!(f, "\ncan reach:")?;
        for import in self.capabilities() {
            writeln!(f, "  {}  ({})", import.label, import.interface)?;
            let scope = import.scope.as_ref().map(ToString::to_string).unwrap_or_default();
            for rule in scope.split("; ") {
                writeln!(f, "    {rule}")?;
            }
        }
        if self.capabilities().next().is_none() {
            writeln!(f, "  nothing")?;
        }
        let also: Vec<&CapabilityImport> = self.imports.iter().filter(|import| !import.is_silent()).collect();
        if !also.is_empty() {
            writeln!(
                f,
                "also imports: {}",
                quoted(also.iter().map(|import| import.interface.as_str()))
            )?;
        }
        writeln!(f, "\noffers:")?;
        let width = self
            .functions
            .iter()
            .map(|function| function.id.len())
            .max()
            .unwrap_or_default();
        for function in &self.functions {
            let about = function
                .docs
                .as_deref()
                .and_then(|docs| docs.lines().next())
                .unwrap_or_default();
            let declared = function.declared.to_string();
            writeln!(
                f,
                "{}",
                format!("  {:width$}  {declared:20}  {}", function.id, printable(about)).trim_end()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
