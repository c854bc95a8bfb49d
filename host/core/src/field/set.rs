use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::concrete::{ConcretePath, ConcreteStep, is_empty_object};
use super::path::{FieldError, FieldPath, Reader, Step};
use crate::guard;
use crate::json::{Json, Object};

/// A set of fields. Two sets are equal if they cover the same places, however they were written.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldSet(Node);

/// What is covered from one place on down.
///
/// INVARIANT: a `subtree` has nothing else set, and no child is empty. So equal sets have equal trees.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Node {
    /// A scalar here.
    scalar: bool,
    /// Whatever is here.
    subtree: bool,
    /// In members.
    names: BTreeMap<String, Node>,
    /// In any element.
    each: Option<Box<Node>>,
}

impl FieldSet {
    /// Covers nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `**`: covers everything.
    #[must_use]
    pub fn everything() -> Self {
        Self(Node::everything())
    }

    /// Adds what `path` covers.
    pub fn insert(&mut self, path: &FieldPath) {
        self.0.insert(&path.steps, path.subtree);
    }

    /// Whether the set covers nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the set is `**`.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.0.subtree
    }

    /// Whether the set covers every place that `path` covers.
    #[must_use]
    pub fn covers(&self, path: &FieldPath) -> bool {
        Self::from_iter([path]).is_subset(self)
    }

    /// Whether the set covers the scalar at `path`.
    #[must_use]
    pub fn covers_path(&self, path: &ConcretePath<'_>) -> bool {
        let mut node = &self.0;
        for step in &path.0 {
            if node.subtree {
                return true;
            }
            match node.child(step) {
                Some(child) => node = child,
                None => return false,
            }
        }
        node.subtree || node.scalar
    }

    /// The first of the value's [`leaves`](super::leaves) that the set does not cover.
    #[must_use]
    pub fn uncovered<'j>(&self, root: &'j Json) -> Option<ConcretePath<'j>> {
        let mut path = Vec::new();
        let covered = is_empty_object(root) || covered(Some(&self.0), root, &mut path);
        (!covered).then_some(ConcretePath(path))
    }

    /// What both cover.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self(self.0.intersect(&other.0))
    }

    /// Whether `other` covers everything that this set covers.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// `value` without the scalars that the set does not cover.
    ///
    /// A container on the way to something covered stays, even if nothing is left in it, so that what a reader expects
    /// to be a list is one, and objects in lists keep their places. At the root a container stays in any case, and an
    /// uncovered scalar becomes `null`.
    #[must_use]
    pub fn project(&self, value: Json) -> Json {
        if guard!("wire.answer-reads", self.is_everything()) {
            return value;
        }
        let nothing = match value {
            Json::Object(_) => Json::Object(Object::new()),
            Json::Array(_) => Json::Array(Vec::new()),
            _ => Json::Null,
        };
        project(&self.0, value).unwrap_or(nothing)
    }

    /// The fewest fields that make up the set, in order.
    #[must_use]
    pub fn paths(&self) -> Vec<FieldPath> {
        let mut paths = Vec::new();
        self.0.paths(&mut Vec::new(), &mut paths);
        paths
    }
}

impl Node {
    fn everything() -> Self {
        Self {
            subtree: true,
            ..Self::default()
        }
    }

    fn is_empty(&self) -> bool {
        !self.scalar && !self.subtree && self.names.is_empty() && self.each.is_none()
    }

    fn child(&self, step: &ConcreteStep<'_>) -> Option<&Self> {
        match step {
            ConcreteStep::Name(name) => self.names.get(*name),
            ConcreteStep::Index(_) | ConcreteStep::None => self.each.as_deref(),
        }
    }

    fn insert(&mut self, steps: &[Step], subtree: bool) {
        if self.subtree {
            return;
        }
        match steps.split_first() {
            None if subtree => *self = Self::everything(),
            None => self.scalar = true,
            Some((Step::Name(name), rest)) => self.names.entry(name.clone()).or_default().insert(rest, subtree),
            Some((Step::Each, rest)) => self.each.get_or_insert_default().insert(rest, subtree),
        }
    }

    fn intersect(&self, other: &Self) -> Self {
        if self.subtree {
            return other.clone();
        }
        if other.subtree {
            return self.clone();
        }
        let both = |(name, node): (&String, &Self)| {
            let node = node.intersect(other.names.get(name)?);
            (!node.is_empty()).then(|| (name.clone(), node))
        };
        let each = self.each.as_ref().zip(other.each.as_ref()).map(|(a, b)| a.intersect(b));
        Self {
            scalar: self.scalar && other.scalar,
            subtree: false,
            names: self.names.iter().filter_map(both).collect(),
            each: each.filter(|node| !node.is_empty()).map(Box::new),
        }
    }

    fn is_subset(&self, other: &Self) -> bool {
        if other.subtree {
            return true;
        }
        let each = || match (&self.each, &other.each) {
            (None, _) => true,
            (Some(a), Some(b)) => a.is_subset(b),
            (Some(_), None) => false,
        };
        let names = || {
            self.names
                .iter()
                .all(|(name, a)| other.names.get(name).is_some_and(|b| a.is_subset(b)))
        };
        !self.subtree && (!self.scalar || other.scalar) && each() && names()
    }

    fn paths(&self, steps: &mut Vec<Step>, paths: &mut Vec<FieldPath>) {
        if self.scalar || self.subtree {
            paths.push(FieldPath {
                steps: steps.clone(),
                subtree: self.subtree,
            });
        }
        if let Some(node) = &self.each {
            steps.push(Step::Each);
            node.paths(steps, paths);
            steps.pop();
        }
        for (name, node) in &self.names {
            steps.push(Step::Name(name.clone()));
            node.paths(steps, paths);
            steps.pop();
        }
    }
}

/// Whether all of `value` is covered; if not, `path` leads to what is not.
fn covered<'j>(node: Option<&Node>, value: &'j Json, path: &mut Vec<ConcreteStep<'j>>) -> bool {
    if node.is_some_and(|node| node.subtree) {
        return true;
    }
    let mut below = |step: ConcreteStep<'j>, value: Option<&'j Json>| {
        path.push(step);
        let child = node.and_then(|node| node.child(&step));
        let holds = match value {
            Some(value) => covered(child, value, path),
            None => child.is_some_and(|child| child.scalar || child.subtree),
        };
        if holds {
            path.pop();
        }
        holds
    };
    match value {
        Json::Array(elements) if elements.is_empty() => below(ConcreteStep::None, None),
        Json::Array(elements) => elements
            .iter()
            .enumerate()
            .all(|(index, element)| below(ConcreteStep::Index(index), Some(element))),
        Json::Object(members) if !members.is_empty() => members
            .iter()
            .all(|(name, member)| below(ConcreteStep::Name(name), Some(member))),
        _ => node.is_some_and(|node| node.scalar),
    }
}

fn project(node: &Node, value: Json) -> Option<Json> {
    if node.subtree {
        return Some(value);
    }
    match value {
        Json::Array(elements) => {
            let each = node.each.as_ref()?;
            Some(Json::Array(
                elements
                    .into_iter()
                    .filter_map(|element| project(each, element))
                    .collect(),
            ))
        }
        Json::Object(members) if !node.names.is_empty() => {
            let kept = members.into_iter().filter_map(|(name, member)| {
                let member = project(node.names.get(&name)?, member)?;
                Some((name, member))
            });
            Some(Json::Object(kept.collect()))
        }
        Json::Object(members) if !members.is_empty() => None,
        scalar => node.scalar.then_some(scalar),
    }
}

impl<'a> FromIterator<&'a FieldPath> for FieldSet {
    fn from_iter<I: IntoIterator<Item = &'a FieldPath>>(paths: I) -> Self {
        let mut set = Self::new();
        for path in paths {
            set.insert(path);
        }
        set
    }
}

/// Reads fields separated by commas; nothing is the empty set.
impl FromStr for FieldSet {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let mut set = Self::new();
        let mut reader = Reader { text, at: 0 };
        reader.space();
        if reader.rest().is_empty() {
            return Ok(set);
        }
        loop {
            set.insert(&reader.path()?);
            reader.space();
            if reader.rest().is_empty() {
                return Ok(set);
            }
            if !reader.take(",") {
                return Err(FieldError {
                    offset: reader.at,
                    message: "expected `,` between fields",
                });
            }
            reader.space();
        }
    }
}

impl Reader<'_> {
    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_ascii_start().len();
    }
}

impl fmt::Display for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, path) in self.paths().iter().enumerate() {
            write!(f, "{}{path}", if i > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({self})")
    }
}

/// A list of fields, each a string.
impl Serialize for FieldSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.paths().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FieldSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<FieldPath>::deserialize(deserializer)?.iter().collect())
    }
}
