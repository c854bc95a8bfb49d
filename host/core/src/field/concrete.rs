use std::fmt;

use super::path::{FieldPath, Step, write_name};
use crate::json::Json;

/// The place of one value, such as `items[0].price`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConcretePath<'j>(pub Vec<ConcreteStep<'j>>);

/// One step down to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConcreteStep<'j> {
    /// To the member of that name.
    Name(&'j str),
    /// To the element at that place, from 0.
    Index(usize),
    /// To the missing element that an empty list counts as.
    None,
}

impl ConcretePath<'_> {
    /// The narrowest field that covers this place.
    #[must_use]
    pub fn to_field(&self) -> FieldPath {
        let step = |step: &ConcreteStep<'_>| match step {
            ConcreteStep::Name(name) => Step::Name((*name).to_owned()),
            ConcreteStep::Index(_) | ConcreteStep::None => Step::Each,
        };
        FieldPath {
            steps: self.0.iter().map(step).collect(),
            subtree: self.0.is_empty(),
        }
    }
}

impl fmt::Display for ConcretePath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("(the whole value)");
        }
        for (i, step) in self.0.iter().enumerate() {
            match step {
                ConcreteStep::Index(index) => write!(f, "[{index}]")?,
                ConcreteStep::None => f.write_str("[]")?,
                ConcreteStep::Name(name) => {
                    f.write_str(if i > 0 { "." } else { "" })?;
                    write_name(f, name)?;
                }
            }
        }
        Ok(())
    }
}

/// Everything in `root` that a [`FieldSet`](super::FieldSet) must cover, in order: the scalars, empty lists as one
/// element, empty objects as scalars. An object without members at the root has none.
#[must_use]
pub fn leaves(root: &Json) -> Vec<(ConcretePath<'_>, &Json)> {
    let mut found = Vec::new();
    if !is_empty_object(root) {
        collect(root, &mut Vec::new(), &mut found);
    }
    found
}

pub(super) fn is_empty_object(value: &Json) -> bool {
    value.as_object().is_some_and(|members| members.is_empty())
}

fn collect<'j>(value: &'j Json, path: &mut Vec<ConcreteStep<'j>>, found: &mut Vec<(ConcretePath<'j>, &'j Json)>) {
    match value {
        Json::Array(elements) if !elements.is_empty() => {
            for (index, element) in elements.iter().enumerate() {
                path.push(ConcreteStep::Index(index));
                collect(element, path, found);
                path.pop();
            }
        }
        Json::Array(_) => {
            path.push(ConcreteStep::None);
            found.push((ConcretePath(path.clone()), value));
            path.pop();
        }
        Json::Object(members) if !members.is_empty() => {
            for (name, member) in members.iter() {
                path.push(ConcreteStep::Name(name));
                collect(member, path, found);
                path.pop();
            }
        }
        _ => found.push((ConcretePath(path.clone()), value)),
    }
}
