//! A component's documentation, in custom sections beside its type.
//!
//! The binary form of a component has no place for doc comments. WIT tools agree on one section, `package-docs`, but what
//! decodes it only knows the component's own world (as `root:component/root`): the docs of an exported interface, which are
//! the docs of the functions an agent calls, belong to another package and cannot be in it. So they go into a second
//! section, [`SECTION`], one document of the same form for each such package. Both hold prose only: nothing in them
//! changes what a component may do, and both are covered by its digest.

use super::decode::{Decoded, decode_type, panic_free};
use crate::error::{Code, Refusal, printable};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wasmparser::{Parser, Payload};
use wit_parser::{
    Docs, Function, InterfaceId, PackageMetadata, Resolve, TypeDefKind, TypeId, WorldId, WorldItem, WorldKey,
};

/// Name of the section with the documentation of packages other than the component's own.
pub const SECTION: &str = "ambit-docs";

/// A custom section to be appended to a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Name.
    pub name: &'static str,
    /// Contents.
    pub contents: Vec<u8>,
}

/// What [`SECTION`] holds, as JSON.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    /// The world the component was made from, such as `acme:refunds/tool@1.2.0`.
    pub(super) world: String,
    /// By package name with version: what `package-docs` would hold.
    packages: BTreeMap<String, serde_json::Value>,
}

/// The sections that document `component` with the doc comments of the `world` that it was made from. Called by
/// `ambit build`, which appends them to the component.
///
/// Only what the component still has is documented: an imported function that it never calls is gone from its type.
///
/// # Errors
/// [`Code::Load`] if `component` is not a component.
pub fn sections(component: &[u8], source: &Resolve, world: WorldId) -> Result<Vec<Section>, Refusal> {
    let mut decoded = decode_type(component)?;
    copy(source, world, &mut decoded);
    let root = decoded.resolve.worlds[decoded.world].package;
    let mut document = Document {
        world: world_name(source, world),
        packages: BTreeMap::new(),
    };
    let mut sections = Vec::new();
    for (id, package) in decoded.resolve.packages.iter() {
        let contents = PackageMetadata::extract(&decoded.resolve, id)
            .encode()
            .map_err(|error| unwritable(&error))?;
        if Some(id) == root {
            sections.push(Section {
                name: PackageMetadata::SECTION_NAME,
                contents,
            });
        } else if let Some(json) = contents.get(1..) {
            let json = serde_json::from_slice(json).map_err(|error| unwritable(&error))?;
            document.packages.insert(package.name.to_string(), json);
        }
    }
    let contents = serde_json::to_vec(&document).map_err(|error| unwritable(&error))?;
    sections.push(Section {
        name: SECTION,
        contents,
    });
    Ok(sections)
}

fn unwritable(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(
        Code::Internal,
        format!("the documentation section could not be written: {error}"),
    )
}

/// Reads [`SECTION`] of a component and puts its docs into the decoded type. `package-docs` is already there.
pub(super) fn attach(component: &[u8], decoded: &mut Decoded) -> Result<(), Refusal> {
    let Some(contents) = find(component)? else {
        return Ok(());
    };
    let document: Document = serde_json::from_slice(contents).map_err(|error| unfit(&error))?;
    for (name, json) in &document.packages {
        let package = decoded
            .resolve
            .packages
            .iter()
            .find(|(_, package)| package.name.to_string() == *name);
        let Some((id, _)) = package else {
            return Err(unfit(&format_args!("no package `{}`", printable(name))));
        };
        let mut encoded = vec![1];
        serde_json::to_writer(&mut encoded, json).map_err(|error| unfit(&error))?;
        panic_free(|| PackageMetadata::decode(&encoded)?.inject(&mut decoded.resolve, id))
            .map_err(|error| unfit(&error))?;
    }
    decoded.origin = Some(printable(&document.world));
    Ok(())
}

fn unfit(error: &dyn std::fmt::Display) -> Refusal {
    let message = format!("the component's `{SECTION}` section does not fit the component: {error}");
    Refusal::new(Code::Load, message).advise("build it again with `ambit build`")
}

/// The contents of the component's own [`SECTION`]; those of components and modules inside it are not looked at.
fn find(component: &[u8]) -> Result<Option<&[u8]>, Refusal> {
    let mut found = None;
    let mut depth = 0u32;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|error| unfit(&error))? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 0 && section.name() == SECTION => {
                let twice = found.replace(section.data()).is_some();
                if twice {
                    return Err(unfit(&"it is there twice"));
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn world_name(resolve: &Resolve, world: WorldId) -> String {
    let world = &resolve.worlds[world];
    match world.package {
        Some(package) => resolve.packages[package].name.interface_id(&world.name),
        None => world.name.clone(),
    }
}

/// Copies doc comments from the world a component was made from to the component's decoded type.
fn copy(source: &Resolve, world: WorldId, decoded: &mut Decoded) {
    let (from, into) = (&source.worlds[world], decoded.world);
    decoded.resolve.worlds[into].docs = from.docs.clone();
    copy_items(source, &from.imports, &mut decoded.resolve, |resolve| {
        &mut resolve.worlds[into].imports
    });
    copy_items(source, &from.exports, &mut decoded.resolve, |resolve| {
        &mut resolve.worlds[into].exports
    });
    copy_packages(source, &mut decoded.resolve);
}

type Items = wit_parser::IndexMap<WorldKey, WorldItem>;

fn copy_items(source: &Resolve, from: &Items, resolve: &mut Resolve, items: impl Fn(&mut Resolve) -> &mut Items) {
    let by_name: BTreeMap<String, &WorldItem> = from
        .iter()
        .map(|(key, item)| (source.name_world_key(key), item))
        .collect();
    let keys: Vec<WorldKey> = items(resolve).keys().cloned().collect();
    for key in keys {
        let Some(&original) = by_name.get(&resolve.name_world_key(&key)) else {
            continue;
        };
        let mut inline = None;
        match (items(resolve).get_mut(&key), original) {
            (
                Some(WorldItem::Interface { id, docs, .. }),
                WorldItem::Interface {
                    id: from,
                    docs: original,
                    ..
                },
            ) => {
                docs.clone_from(original);
                inline = Some((*from, *id));
            }
            (Some(WorldItem::Function(function)), WorldItem::Function(original)) => {
                function.docs.clone_from(&original.docs);
            }
            _ => {}
        }
        // An interface written inside the world has no package to be found by.
        if let Some((from, into)) = inline.filter(|(from, _)| source.interfaces[*from].name.is_none()) {
            copy_interface(source, from, resolve, into);
        }
    }
}

fn copy_packages(source: &Resolve, resolve: &mut Resolve) {
    let pairs: Vec<(InterfaceId, InterfaceId)> = resolve
        .packages
        .iter()
        .filter_map(|(_, package)| {
            let original = source.packages.get(*source.package_names.get(&package.name)?)?;
            Some(
                package
                    .interfaces
                    .iter()
                    .filter_map(|(name, into)| Some((*original.interfaces.get(name)?, *into))),
            )
        })
        .flatten()
        .collect();
    for (from, into) in pairs {
        copy_interface(source, from, resolve, into);
    }
}

fn copy_interface(source: &Resolve, from: InterfaceId, resolve: &mut Resolve, into: InterfaceId) {
    let original = &source.interfaces[from];
    let interface = &mut resolve.interfaces[into];
    interface.docs.clone_from(&original.docs);
    let same_name = |(name, function): (&String, &mut Function)| {
        if let Some(original) = original.functions.get(name) {
            function.docs.clone_from(&original.docs);
        }
    };
    interface.functions.iter_mut().for_each(same_name);
    let types: Vec<(String, TypeId)> = interface.types.iter().map(|(name, id)| (name.clone(), *id)).collect();
    for (name, into) in types {
        if let Some(&from) = original.types.get(&name) {
            copy_type(source, from, resolve, into);
        }
    }
}

fn copy_type(source: &Resolve, from: TypeId, resolve: &mut Resolve, into: TypeId) {
    let original = &source.types[from];
    let ty = &mut resolve.types[into];
    ty.docs.clone_from(&original.docs);
    let members = member_docs(&original.kind);
    let put = |name: &str, docs: &mut Docs| {
        if let Some(original) = members.get(name) {
            docs.clone_from(original);
        }
    };
    match &mut ty.kind {
        TypeDefKind::Record(record) => record
            .fields
            .iter_mut()
            .for_each(|field| put(&field.name, &mut field.docs)),
        TypeDefKind::Variant(variant) => variant
            .cases
            .iter_mut()
            .for_each(|case| put(&case.name, &mut case.docs)),
        TypeDefKind::Enum(cases) => cases.cases.iter_mut().for_each(|case| put(&case.name, &mut case.docs)),
        TypeDefKind::Flags(flags) => flags.flags.iter_mut().for_each(|flag| put(&flag.name, &mut flag.docs)),
        _ => {}
    }
}

fn member_docs(kind: &TypeDefKind) -> BTreeMap<&str, &Docs> {
    match kind {
        TypeDefKind::Record(record) => record
            .fields
            .iter()
            .map(|field| (field.name.as_str(), &field.docs))
            .collect(),
        TypeDefKind::Variant(variant) => variant
            .cases
            .iter()
            .map(|case| (case.name.as_str(), &case.docs))
            .collect(),
        TypeDefKind::Enum(cases) => cases
            .cases
            .iter()
            .map(|case| (case.name.as_str(), &case.docs))
            .collect(),
        TypeDefKind::Flags(flags) => flags
            .flags
            .iter()
            .map(|flag| (flag.name.as_str(), &flag.docs))
            .collect(),
        _ => BTreeMap::new(),
    }
}
