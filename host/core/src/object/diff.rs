//! Differences, field by field: of what would be changed, of what was, and of what was sent and is not there.

use std::collections::BTreeMap;
use std::fmt;

use super::Image;
use crate::effect::HttpRequest;
use crate::field::{ConcretePath, ConcreteStep, FieldSet, leaves};
use crate::guard;
use crate::json::{Json, Number, Object};
use crate::ledger::body::Shown;

/// The most lines of a difference that are kept; the rest is counted.
const MOST: usize = 1_000;

/// What a request sends.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// The fields of its body.
    pub fields: &'a Json,
    /// Whether they are a form's, all texts.
    pub form: bool,
}

impl<'a> Sent<'a> {
    /// What a request that was checked sends.
    #[must_use]
    pub fn of(request: &'a HttpRequest) -> Sent<'a> {
        Sent {
            fields: request.fields(),
            form: request.body_kind() == Some(crate::effect::BodyKind::Form),
        }
    }
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// It has another value.
    Changed,
    /// It was not there.
    New,
    /// It is not there any more.
    Removed,
    /// It has the same value.
    Same,
    /// It is sent, and cannot be read: nobody knows what it was.
    NotRead,
}

impl Word {
    /// The word, as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Word::Changed => "changed",
            Word::New => "new",
            Word::Removed => "removed",
            Word::Same => "same",
            Word::NotRead => "not-read",
        }
    }
}

/// One field, before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field: `address.city`, `items[0].price`.
    pub field: String,
    /// What becomes of it.
    pub word: Word,
    /// What it was.
    pub before: Option<Json>,
    /// What it is, or would be.
    pub after: Option<Json>,
}

impl Difference {
    fn new(field: String, before: Option<&Json>, after: Option<&Json>, same: bool) -> Difference {
        let word = match (before, after) {
            _ if same => Word::Same,
            (None, _) => Word::New,
            (Some(_), None) => Word::Removed,
            (Some(_), Some(_)) => Word::Changed,
        };
        Difference {
            field,
            word,
            before: before.cloned(),
            after: after.cloned(),
        }
    }

    /// As it is kept and printed for programs.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut members = Object::from([
            ("field", Json::from(self.field.as_str())),
            ("what", self.word.as_str().into()),
        ]);
        if let Some(before) = &self.before {
            members.insert("before", before.clone());
        }
        if let Some(after) = &self.after {
            members.insert("after", after.clone());
        }
        members.into()
    }
}

/// `email: "a@x" → "b@x"`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<Json>| value.as_ref().map_or_else(String::new, Json::to_canonical);
        let (field, before, after) = (&self.field, text(&self.before), text(&self.after));
        match self.word {
            Word::Changed => write!(f, "{field}: {before} → {after}"),
            Word::New => write!(f, "{field}: {after} (new)"),
            Word::Removed => write!(f, "{field}: {before} (removed)"),
            Word::Same => write!(f, "{field}: {after} (as it is)"),
            Word::NotRead => write!(f, "{field}: {after} (what it is cannot be read)"),
        }
    }
}

/// What a request would change of an object, as far as can be said before: each field that it sends, or each that is gone with the
/// object. `reads` is what is read of it.
#[must_use]
pub fn planned(before: &Image, sent: Sent<'_>, reads: &FieldSet, gone: bool) -> Vec<Difference> {
    let object = before.object.as_ref();
    if gone {
        return changes(object, None);
    }
    let mut walk = Walk::new(reads, sent.form);
    walk.value(sent.fields, object);
    let read = walk.found.into_iter().map(|found| {
        // A list that would be another length is one difference, like any field.
        Difference::new(found.field, found.seen.as_ref(), Some(&found.sent), found.shown)
    });
    let unread = walk.unread.into_iter().map(|(field, sent)| Difference {
        field,
        word: Word::NotRead,
        before: None,
        after: Some(sent),
    });
    read.chain(unread).collect()
}

/// The fields that a request sent and that an object does not show as they were sent, with what was sent. `reads` is what is read of it.
#[must_use]
pub fn not_as_sent(sent: Sent<'_>, there: &Json, reads: &FieldSet) -> Vec<(String, Json)> {
    let mut walk = Walk::new(reads, sent.form);
    walk.value(sent.fields, Some(there));
    let another = walk.found.into_iter().filter(|found| !found.shown);
    another.map(|found| (found.field, found.sent)).collect()
}

/// What was seen when an object was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// In one word.
    pub shown: Shown,
    /// The fields that were sent, as they were seen.
    sent: Vec<Field>,
    /// The fields that were sent and cannot be read.
    unread: Vec<String>,
    /// What is another than before, sent or not.
    changes: Vec<Difference>,
    /// Why nothing was seen.
    why: Option<String>,
}

impl Check {
    /// Holds what was sent against what is there now.
    #[must_use]
    pub fn of(before: Option<&Image>, sent: Sent<'_>, now: &Image, reads: &FieldSet, gone: bool) -> Check {
        let was = before.and_then(|before| before.object.as_ref());
        let object = now.object.as_ref();
        let mut walk = Walk::new(reads, sent.form);
        if !gone {
            walk.value(sent.fields, object);
        }
        let as_sent = guard!("object.shown", walk.found.iter().all(|field| field.shown));
        let shown = match object {
            None if gone => Shown::Shown,
            Some(_) if gone && !guard!("object.gone", false) => Shown::Missing,
            None if !guard!("object.there", false) => Shown::Missing,
            _ if !as_sent => Shown::Missing,
            // Where the route creates an object, that it is there is what was to be seen.
            _ if walk.found.is_empty() && before.is_some() => Shown::NothingToCompare,
            _ => Shown::Shown,
        };
        Check {
            shown,
            sent: walk.found,
            unread: walk.unread.into_iter().map(|(field, _)| field).collect(),
            changes: if before.is_some() {
                changes(was, object)
            } else {
                Vec::new()
            },
            why: None,
        }
    }

    /// How many fields were sent and are not there as they were sent.
    #[cfg(test)]
    pub(super) fn sent_but_not_seen(&self) -> usize {
        self.sent.iter().filter(|field| !field.shown).count()
    }

    /// The fields that are another than before.
    #[cfg(test)]
    pub(super) fn changed_fields(&self) -> impl Iterator<Item = &str> {
        self.changes.iter().map(|change| change.field.as_str())
    }

    /// That it could not be read back.
    #[must_use]
    pub fn unreadable(why: impl Into<String>) -> Check {
        Check {
            shown: Shown::Unreadable,
            sent: Vec::new(),
            unread: Vec::new(),
            changes: Vec::new(),
            why: Some(why.into()),
        }
    }

    /// As it is kept: the value `effect/N/diff`.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut members = Object::from([
            ("shown", Json::from(self.shown.as_str())),
            ("sent", self.sent.iter().map(Field::to_json).collect()),
            (
                "changes",
                self.changes.iter().take(MOST).map(Difference::to_json).collect(),
            ),
        ]);
        if let Some(more) = self.changes.len().checked_sub(MOST).filter(|more| *more > 0) {
            members.insert("more-changes", more as u64);
        }
        if !self.unread.is_empty() {
            members.insert("not-read", self.unread.clone());
        }
        if let Some(why) = &self.why {
            members.insert("why", why.as_str());
        }
        members.into()
    }
}

/// A field that was sent, and what was seen in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    field: String,
    sent: Json,
    seen: Option<Json>,
    shown: bool,
}

impl Field {
    fn to_json(&self) -> Json {
        let mut members = Object::from([
            ("field", Json::from(self.field.as_str())),
            ("sent", self.sent.clone()),
            ("shown", self.shown.into()),
        ]);
        if let Some(seen) = &self.seen {
            members.insert("seen", seen.clone());
        }
        members.into()
    }
}

/// Goes through what was sent, with what is at the same place beside it.
struct Walk<'s> {
    reads: &'s FieldSet,
    form: bool,
    path: Vec<ConcreteStep<'s>>,
    found: Vec<Field>,
    unread: Vec<(String, Json)>,
}

impl<'s> Walk<'s> {
    fn new(reads: &'s FieldSet, form: bool) -> Walk<'s> {
        Walk {
            reads,
            form,
            path: Vec::new(),
            found: Vec::new(),
            unread: Vec::new(),
        }
    }

    fn value(&mut self, sent: &'s Json, seen: Option<&Json>) {
        match sent {
            Json::Object(members) if !members.is_empty() => {
                for (name, member) in members.iter() {
                    self.at(ConcreteStep::Name(name), member, seen.and_then(|seen| seen.get(name)));
                }
            }
            // A body without members sends nothing.
            Json::Object(_) if self.path.is_empty() => {}
            Json::Array(elements) if !elements.is_empty() => self.list(sent, elements, seen),
            Json::Array(_) => {
                self.path.push(ConcreteStep::None);
                let empty = seen.is_none_or(|seen| seen.is_null() || seen.as_array().is_some_and(<[Json]>::is_empty));
                self.leaf(sent, seen, empty);
                self.path.pop();
            }
            scalar => self.leaf(scalar, seen, same(scalar, seen, self.form)),
        }
    }

    /// Lists are the same length, and the same one by one.
    fn list(&mut self, sent: &'s Json, elements: &'s [Json], seen: Option<&Json>) {
        let theirs = seen.and_then(Json::as_array).unwrap_or_default();
        let first = self.found.len();
        for (index, element) in elements.iter().enumerate() {
            self.at(ConcreteStep::Index(index), element, theirs.get(index));
        }
        if self.found.len() > first && theirs.len() != elements.len() {
            self.found.truncate(first);
            self.found.push(Field {
                field: self.place(),
                sent: sent.clone(),
                seen: seen.cloned(),
                shown: false,
            });
        }
    }

    fn at(&mut self, step: ConcreteStep<'s>, sent: &'s Json, seen: Option<&Json>) {
        self.path.push(step);
        self.value(sent, seen);
        self.path.pop();
    }

    fn leaf(&mut self, sent: &Json, seen: Option<&Json>, shown: bool) {
        let path = ConcretePath(self.path.clone());
        let field = path.to_string();
        if self.reads.covers_path(&path) {
            self.found.push(Field {
                field,
                sent: sent.clone(),
                seen: seen.cloned(),
                shown,
            });
        } else {
            self.unread.push((field, sent.clone()));
        }
    }

    fn place(&self) -> String {
        ConcretePath(self.path.clone()).to_string()
    }
}

/// Whether a value is there as it was sent. A form's values are texts, and its service may show a number or a truth for one; what was
/// sent as nothing may be shown as nothing.
fn same(sent: &Json, seen: Option<&Json>, form: bool) -> bool {
    match (sent, seen) {
        (Json::Null, None) => true,
        (Json::Object(_), None) => true,
        (Json::Object(sent), Some(seen)) if sent.is_empty() => seen.as_object().is_some(),
        (Json::String(text), seen) if form => match seen {
            None | Some(Json::Null) => text.is_empty(),
            Some(Json::Bool(value)) => *text == value.to_string(),
            Some(Json::Number(number)) => text.parse::<Number>().is_ok_and(|text| text == *number),
            Some(seen) => seen.as_str() == Some(text),
        },
        (sent, Some(seen)) => sent == seen,
        (_, None) => false,
    }
}

/// What is another in one object than in the other, as far as both were read.
fn changes(before: Option<&Json>, after: Option<&Json>) -> Vec<Difference> {
    let fields = |object: Option<&Json>| -> BTreeMap<String, Json> {
        let found = object.map(leaves).unwrap_or_default();
        found
            .into_iter()
            .map(|(path, value)| (path.to_string(), value.clone()))
            .collect()
    };
    let (was, is) = (fields(before), fields(after));
    let mut names: Vec<&String> = was.keys().chain(is.keys()).collect();
    names.sort();
    names.dedup();
    let differ = names.into_iter().filter(|name| was.get(*name) != is.get(*name));
    differ
        .map(|name| Difference::new(name.clone(), was.get(name), is.get(name), false))
        .collect()
}
