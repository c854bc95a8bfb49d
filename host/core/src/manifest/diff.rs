//! What changed from one component to the next: what an operator reads before accepting an update.

use super::{CapabilityImport, Function, ImportKind, Manifest};
use crate::json::{Json, Object};
use crate::scope::{FunctionScope, HttpRule, Scope, Tier};
use std::collections::BTreeMap;
use std::fmt;

/// One difference between two manifests.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// A new import.
    ImportAdded {
        /// The import.
        label: String,
        /// Its interface.
        interface: String,
        /// Its scope; empty where it takes none.
        scope: String,
        /// Whether it can reach something outside.
        reaches: bool,
    },
    /// An import is gone.
    ImportRemoved {
        /// The import.
        label: String,
    },
    /// An import's label now stands for another interface.
    InterfaceChanged {
        /// The import.
        label: String,
        /// Interface before.
        from: String,
        /// Interface now.
        to: String,
        /// Whether it can reach something outside.
        reaches: bool,
    },
    /// A scope is another.
    ScopeChanged {
        /// The import.
        label: String,
        /// Scope before.
        from: String,
        /// Scope now.
        to: String,
        /// Whether it covers anything that it did not cover before, as far as can be told; in doubt it does.
        widened: bool,
    },
    /// A new function.
    FunctionAdded {
        /// Its id.
        id: String,
        /// Its tier.
        tier: Tier,
    },
    /// A function is gone.
    FunctionRemoved {
        /// Its id.
        id: String,
    },
    /// A function's tier is another.
    TierChanged {
        /// Its id.
        id: String,
        /// Tier before.
        from: Tier,
        /// Tier now.
        to: Tier,
    },
    /// A function promises something else: its undo, or that it is idempotent.
    PromiseChanged {
        /// Its id.
        id: String,
        /// Declaration before.
        from: FunctionScope,
        /// Declaration now.
        to: FunctionScope,
    },
    /// The words that describe a function to an agent are others.
    DocsChanged {
        /// Its id.
        id: String,
    },
    /// A function takes or returns something else.
    SignatureChanged {
        /// Its id.
        id: String,
    },
}

impl Change {
    /// Whether the new component may do more than the old one, so that accepting it is a decision and no formality.
    #[must_use]
    pub fn widens(&self) -> bool {
        match self {
            Self::ImportAdded { reaches, .. } | Self::InterfaceChanged { reaches, .. } => *reaches,
            Self::ScopeChanged { widened, .. } => *widened,
            Self::FunctionAdded { tier, .. } => *tier > Tier::Read,
            Self::TierChanged { from, to, .. } => to > from,
            // What was relied on to take a commit back, or to repeat it, may not hold any more.
            Self::PromiseChanged { .. } => true,
            Self::ImportRemoved { .. }
            | Self::FunctionRemoved { .. }
            | Self::SignatureChanged { .. }
            | Self::DocsChanged { .. } => false,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ImportAdded {
                label,
                interface,
                scope,
                ..
            } if scope.is_empty() => {
                write!(f, "new import `{label}` of {interface}")
            }
            Self::ImportAdded {
                label,
                interface,
                scope,
                ..
            } => {
                write!(f, "new import `{label}` of {interface}: {scope}")
            }
            Self::ImportRemoved { label } => write!(f, "import `{label}` is gone"),
            Self::InterfaceChanged { label, from, to, .. } => write!(f, "import `{label}` was {from}, is {to}"),
            Self::ScopeChanged {
                label,
                from,
                to,
                widened,
            } => {
                let how = if *widened { "widened" } else { "narrowed" };
                write!(f, "scope of `{label}` {how}: was {from}, is {to}")
            }
            Self::FunctionAdded { id, tier } => write!(f, "new function `{id}` ({tier})"),
            Self::FunctionRemoved { id } => write!(f, "function `{id}` is gone"),
            Self::TierChanged { id, from, to } => write!(f, "function `{id}` was {from}, is {to}"),
            Self::PromiseChanged { id, from, to } => write!(f, "function `{id}` promised `{from}`, now `{to}`"),
            Self::DocsChanged { id } => write!(f, "function `{id}` is described in other words"),
            Self::SignatureChanged { id } => write!(f, "function `{id}` takes or returns something else"),
        }
    }
}

/// Imports first, then functions, each in the order of their names.
pub(super) fn diff(before: &Manifest, after: &Manifest) -> Vec<Change> {
    let mut changes = Vec::new();
    let imports = |manifest: &Manifest| -> BTreeMap<String, CapabilityImport> {
        manifest
            .imports
            .iter()
            .map(|import| (import.label.clone(), import.clone()))
            .collect()
    };
    for (label, pair) in pairs(imports(before), imports(after)) {
        match pair {
            (Some(_), None) => changes.push(Change::ImportRemoved { label }),
            (None, Some(new)) => changes.push(Change::ImportAdded {
                label,
                reaches: reaches(&new),
                interface: new.interface,
                scope: new.scope.map(|scope| scope.to_string()).unwrap_or_default(),
            }),
            (Some(old), Some(new)) => import(label, old, new, &mut changes),
            (None, None) => {}
        }
    }
    let functions = |manifest: &Manifest| -> BTreeMap<String, Function> {
        manifest
            .functions
            .iter()
            .map(|function| (function.id.clone(), function.clone()))
            .collect()
    };
    for (id, pair) in pairs(functions(before), functions(after)) {
        match pair {
            (Some(_), None) => changes.push(Change::FunctionRemoved { id }),
            (None, Some(new)) => changes.push(Change::FunctionAdded {
                id,
                tier: new.declared.tier,
            }),
            (Some(old), Some(new)) => function(&id, &old, &new, &mut changes),
            (None, None) => {}
        }
    }
    changes
}

fn pairs<T>(before: BTreeMap<String, T>, after: BTreeMap<String, T>) -> BTreeMap<String, (Option<T>, Option<T>)> {
    let mut pairs: BTreeMap<_, _> = before
        .into_iter()
        .map(|(name, old)| (name, (Some(old), None)))
        .collect();
    for (name, new) in after {
        pairs.entry(name).or_insert((None, None)).1 = Some(new);
    }
    pairs
}

fn reaches(import: &CapabilityImport) -> bool {
    matches!(import.kind, ImportKind::Capability(_))
}

fn import(label: String, old: CapabilityImport, new: CapabilityImport, changes: &mut Vec<Change>) {
    if old.interface != new.interface {
        let reaches = reaches(&new);
        changes.push(Change::InterfaceChanged {
            label,
            from: old.interface,
            to: new.interface,
            reaches,
        });
    } else if let (Some(from), Some(to)) = (old.scope, new.scope)
        && from != to
    {
        let widened = !within(&to, &from);
        changes.push(Change::ScopeChanged {
            label,
            from: from.to_string(),
            to: to.to_string(),
            widened,
        });
    }
}

fn function(id: &str, old: &Function, new: &Function, changes: &mut Vec<Change>) {
    let id = id.to_owned();
    let (from, to) = (&old.declared, &new.declared);
    if (&from.undo, from.idempotent) != (&to.undo, to.idempotent) {
        changes.push(Change::PromiseChanged {
            id: id.clone(),
            from: from.clone(),
            to: to.clone(),
        });
    }
    if from.tier != to.tier {
        changes.push(Change::TierChanged {
            id: id.clone(),
            from: from.tier,
            to: to.tier,
        });
    }
    let (from, to) = (schemas(old), schemas(new));
    let bare = |schemas: [Option<&Json>; 3]| schemas.map(|schema| schema.cloned().map(without_descriptions));
    if bare(from) != bare(to) {
        changes.push(Change::SignatureChanged { id });
    } else if (&old.docs, from) != (&new.docs, to) {
        changes.push(Change::DocsChanged { id });
    }
}

fn schemas(function: &Function) -> [Option<&Json>; 3] {
    [
        Some(&function.input_schema),
        Some(&function.output_schema),
        function.error_schema.as_ref(),
    ]
}

/// A schema without its prose.
fn without_descriptions(schema: Json) -> Json {
    match schema {
        Json::Array(schemas) => schemas.into_iter().map(without_descriptions).collect(),
        Json::Object(object) => {
            let keep = |(name, value): (String, Json)| match (name.as_str(), value) {
                ("description", _) => None,
                // Here names are a tool's own: a member may be called `description`.
                ("properties", Json::Object(members)) => {
                    let bare = members
                        .into_iter()
                        .map(|(name, schema)| (name, without_descriptions(schema)));
                    Some((name, bare.collect::<Object>().into()))
                }
                (_, value) => Some((name, without_descriptions(value))),
            };
            object.into_iter().filter_map(keep).collect::<Object>().into()
        }
        other => other,
    }
}

/// Whether every request that `a` covers is covered by `b`. A rule of `a` that no single rule of `b` contains counts as
/// new even where several together would: what cannot be told apart at a glance is shown as wider.
fn within(a: &Scope, b: &Scope) -> bool {
    match (a, b) {
        (Scope::Http(a), Scope::Http(b)) => {
            let contained = |rule: &HttpRule| {
                b.rules()
                    .iter()
                    .any(|wider| rule.intersect(wider).as_ref() == Some(rule))
            };
            a.rules().iter().all(contained)
        }
    }
}
