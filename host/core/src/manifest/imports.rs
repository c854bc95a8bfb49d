//! What a component asks of its host: capabilities under scopes, plain services, WASI, and nothing else.

use super::decode::Decoded;
use crate::error::{Code, Refusal, printable};
use crate::guard;
use crate::scope::{CapabilityKind, Scope};
use wit_parser::{InterfaceId, Resolve, WorldItem, WorldKey};

/// The package whose interfaces this host serves, with its version.
pub const CAPABILITY_PACKAGE: &str = "ambit:capability@0.1.0";

/// The longest label, function or interface name that is taken.
pub(super) const MAX_NAME: usize = 64;

/// One import of a component.
#[derive(Clone, Debug, PartialEq)]
pub struct CapabilityImport {
    /// Position among all of the component's imports, from 0: what tells one import from another in host calls.
    pub index: u32,
    /// The component's name for it: what an operator binds to a connection. The interface's name where it has no label.
    pub label: String,
    /// Full name of the interface, such as `ambit:capability/http@0.1.0`.
    pub interface: String,
    /// What it is.
    pub kind: ImportKind,
    /// The most it may be used for. Always there for a capability, never for anything else.
    pub scope: Option<Scope>,
    /// The scope as it is written in the world; empty where there is none.
    pub scope_text: String,
    /// Its doc comment in the world.
    pub docs: Option<String>,
}

impl CapabilityImport {
    /// Whether it is listed elsewhere, or nothing can be called through it.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.kind, ImportKind::Capability(_) | ImportKind::Types)
    }
}

/// What an import is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportKind {
    /// Reaches something outside, as far as its scope, its binding and policy let it.
    Capability(CapabilityKind),
    /// A service of the host that reaches nothing.
    Plain(Plain),
    /// An interface of WASI 0.2, such as `wasi:cli/environment`, served with nothing in it.
    Wasi(String),
    /// Types alone: there is nothing to call.
    Types,
}

/// Services of the host that reach nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// Lines for the people who run the tool.
    Log,
    /// How far the tool is.
    Progress,
    /// The call's own clock.
    Clock,
    /// The call's own stream of random numbers.
    Random,
}

impl Plain {
    const ALL: [Self; 4] = [Self::Log, Self::Progress, Self::Clock, Self::Random];

    /// Name of the interface in `ambit:capability`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Progress => "progress",
            Self::Clock => "clock",
            Self::Random => "random",
        }
    }
}

/// The packages of WASI 0.2 that are served empty.
const WASI: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];

/// Reads all imports, in the component's order.
pub(super) fn read(decoded: &Decoded) -> Result<Vec<CapabilityImport>, Refusal> {
    let world = &decoded.resolve.worlds[decoded.world];
    let mut imports = Vec::with_capacity(world.imports.len());
    for (index, (key, item)) in (0..).zip(&world.imports) {
        let name = decoded.resolve.name_world_key(key);
        match item {
            WorldItem::Interface {
                id, external_id, docs, ..
            } => {
                let import = Import {
                    resolve: &decoded.resolve,
                    index,
                    key,
                    interface: *id,
                    declared: external_id,
                };
                imports.push(CapabilityImport {
                    docs: docs.contents.clone(),
                    ..import.read()?
                });
            }
            WorldItem::Function(_) => {
                return Err(unknown(&format!(
                    "`{}`, a function outside any interface",
                    printable(&name)
                )));
            }
            WorldItem::Type { .. } => {}
        }
    }
    Ok(imports)
}

struct Import<'a> {
    resolve: &'a Resolve,
    index: u32,
    key: &'a WorldKey,
    interface: InterfaceId,
    declared: &'a Option<String>,
}

impl Import<'_> {
    fn read(&self) -> Result<CapabilityImport, Refusal> {
        let interface = self.resolve.id_of(self.interface);
        let label = match self.key {
            WorldKey::Name(label) => label.clone(),
            WorldKey::Interface(_) => interface.clone().unwrap_or_default(),
        };
        let Some(interface) = interface else {
            return Err(unknown(&format!("`{}`, an interface of its own", printable(&label))));
        };
        let kind = self.kind(&label, &interface)?;
        let scope = match kind {
            ImportKind::Capability(kind) => self.scope(kind, &label, &interface)?,
            _ => self.no_scope(&label)?,
        };
        let scope_text = self.declared.clone().unwrap_or_default();
        Ok(CapabilityImport {
            index: self.index,
            label,
            interface,
            kind,
            scope,
            scope_text,
            docs: None,
        })
    }

    fn kind(&self, label: &str, interface: &str) -> Result<ImportKind, Refusal> {
        if self.resolve.interfaces[self.interface].functions.is_empty() {
            return Ok(ImportKind::Types);
        }
        match self.known(interface) {
            Some(kind) => Ok(kind),
            None if guard!("sandbox.known-import", false) => Ok(ImportKind::Types),
            None if label == interface => Err(unknown(&format!("`{}`", printable(interface)))),
            None => Err(unknown(&format!(
                "`{}`, which is {}",
                printable(label),
                printable(interface)
            ))),
        }
    }

    fn known(&self, interface: &str) -> Option<ImportKind> {
        let data = &self.resolve.interfaces[self.interface];
        let name = data.name.as_deref()?;
        let package = &self.resolve.packages[data.package?].name;
        if package.to_string() == CAPABILITY_PACKAGE {
            if name == "http" {
                return Some(ImportKind::Capability(CapabilityKind::Http));
            }
            return Plain::ALL
                .into_iter()
                .find(|plain| plain.as_str() == name)
                .map(ImportKind::Plain);
        }
        let version = package.version.as_ref()?;
        let wasi = package.namespace == "wasi" && WASI.contains(&package.name.as_str());
        (wasi && (version.major, version.minor) == (0, 2)).then(|| ImportKind::Wasi(interface.to_owned()))
    }

    /// The scope of a capability: without a label there is nothing to bind, without a scope nothing is declared.
    fn scope(&self, kind: CapabilityKind, label: &str, interface: &str) -> Result<Option<Scope>, Refusal> {
        const EXAMPLE: &str = "declare it as `@external-id(\"GET https://api.example.com/v1/things/{id} reads(id)\") \
                               import example: ambit:capability/http@0.1.0;`";
        let labelled = matches!(self.key, WorldKey::Name(_));
        if !guard!("scope.label", labelled) {
            let message = format!("the import `{interface}` has no label: nothing could be bound to it");
            return Err(Refusal::new(Code::Load, message).advise(EXAMPLE));
        }
        if label.len() > MAX_NAME {
            let message = format!(
                "the import `{}` has a label of more than {MAX_NAME} characters",
                printable(label)
            );
            return Err(Refusal::new(Code::Load, message).advise("give it a shorter one"));
        }
        let Some(text) = self.declared else {
            if guard!("scope.declared", false) {
                return Ok(None);
            }
            let message = format!("the import `{label}` has no scope: it does not say what it needs of {interface}");
            return Err(Refusal::new(Code::Load, message).advise(EXAMPLE));
        };
        Scope::parse(kind, text).map(Some).map_err(|error| {
            let marked = mark(text, error.offset);
            let message = format!(
                "the scope of the import `{label}` does not parse: {} ({marked})",
                error.message
            );
            let refusal = Refusal::new(Code::Load, message);
            match error.help {
                Some(help) => refusal.advise(help),
                None => refusal,
            }
        })
    }

    /// A scope where none is read would look like a limit and be none.
    fn no_scope(&self, label: &str) -> Result<Option<Scope>, Refusal> {
        if !guard!("scope.meaningless", self.declared.is_none()) {
            let message = format!("the import `{}` has a scope, but takes none", printable(label));
            return Err(Refusal::new(Code::Load, message).advise("remove its `@external-id`"));
        }
        Ok(None)
    }
}

fn unknown(import: &str) -> Refusal {
    let message = format!("this host does not serve the import {import}");
    let plain = Plain::ALL.map(Plain::as_str).join(", ");
    Refusal::new(Code::Load, message).advise(format!(
        "served are http (under a label, with a scope) and {plain} of {CAPABILITY_PACKAGE}, and these packages of WASI 0.2, \
         with nothing in them: {}",
        WASI.join(", ")
    ))
}

/// The place in a scope's text, with some of what is around it.
pub(super) fn mark(text: &str, offset: usize) -> String {
    let (before, after) = text.split_at(text.floor_char_boundary(offset));
    let start = before.char_indices().rev().nth(23).map_or(0, |(at, _)| at);
    let end = after.char_indices().nth(24).map_or(after.len(), |(at, _)| at);
    let (before, after) = (
        before.get(start..).unwrap_or_default(),
        after.get(..end).unwrap_or_default(),
    );
    format!("at `{}⟨here⟩{}`", printable(before), printable(after))
}
