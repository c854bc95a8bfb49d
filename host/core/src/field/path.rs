use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::json::{Json, Limits};

/// The most steps in a path: no JSON that the host reads is deeper.
const LONGEST: usize = 64;

/// A pattern for the places of scalars in a JSON value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath {
    pub(super) steps: Vec<Step>,
    pub(super) subtree: bool,
}

/// One step down from a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// To the member of that name.
    Name(String),
    /// To any element.
    Each,
}

/// Why a text is not a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FieldError {
    /// Where, in bytes from the start of the text.
    pub offset: usize,
    /// What, in one sentence.
    pub message: &'static str,
}

impl FieldPath {
    /// The steps from the root.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether the path ends in `**`.
    #[must_use]
    pub const fn is_subtree(&self) -> bool {
        self.subtree
    }

    /// Whether the path can only stand for one place: no `[]`, no `**`, and not the root.
    #[must_use]
    pub fn is_single(&self) -> bool {
        !self.subtree && !self.steps.is_empty() && !self.steps.contains(&Step::Each)
    }

    /// The values in `root` where the path leads, of whatever kind.
    #[must_use]
    pub fn select<'j>(&self, root: &'j Json) -> Vec<&'j Json> {
        let mut found = Vec::new();
        select(&self.steps, root, &mut found);
        found
    }
}

fn select<'j>(steps: &[Step], value: &'j Json, found: &mut Vec<&'j Json>) {
    match (steps.split_first(), value) {
        (None, _) => found.push(value),
        (Some((Step::Name(name), rest)), Json::Object(members)) => {
            if let Some(member) = members.get(name) {
                select(rest, member, found);
            }
        }
        (Some((Step::Each, rest)), Json::Array(elements)) => {
            for element in elements {
                select(rest, element, found);
            }
        }
        _ => {}
    }
}

impl FromStr for FieldPath {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let mut reader = Reader { text, at: 0 };
        let path = reader.path()?;
        if reader.at == text.len() {
            Ok(path)
        } else {
            Err(reader.fail(NOT_A_NAME))
        }
    }
}

const NOT_A_NAME: &str =
    "expected a field: names joined by `.`, `[]` for elements, `**` at the end; a name with other characters is quoted";

/// Reads fields off the front of a text.
pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    pub(super) fn fail(&self, message: &'static str) -> FieldError {
        FieldError {
            offset: self.at,
            message,
        }
    }

    pub(super) fn take(&mut self, word: &str) -> bool {
        let next = self.rest().starts_with(word);
        self.at += if next { word.len() } else { 0 };
        next
    }

    pub(super) fn path(&mut self) -> Result<FieldPath, FieldError> {
        let path = self.steps()?;
        self.short_enough(path.steps.len()).map(|()| path)
    }

    pub(super) fn short_enough(&self, steps: usize) -> Result<(), FieldError> {
        if steps > LONGEST {
            return Err(self.fail("a field has at most 64 steps"));
        }
        Ok(())
    }

    fn steps(&mut self) -> Result<FieldPath, FieldError> {
        let mut steps = Vec::new();
        if self.take("**") {
            return Ok(FieldPath { steps, subtree: true });
        }
        if !self.take("[]") {
            steps.push(Step::Name(self.name()?));
        } else {
            steps.push(Step::Each);
        }
        loop {
            if self.take("[]") {
                steps.push(Step::Each);
            } else if self.take(".**") {
                return Ok(FieldPath { steps, subtree: true });
            } else if self.take(".") {
                steps.push(Step::Name(self.name()?));
            } else if self.rest().starts_with('[') {
                return Err(self.fail("`a[b]` of a form is the field `a.b`, and only `[]` stands in brackets"));
            } else {
                return Ok(FieldPath { steps, subtree: false });
            }
        }
    }

    pub(super) fn name(&mut self) -> Result<String, FieldError> {
        if self.rest().starts_with('"') {
            return self.quoted();
        }
        let length = self.rest().bytes().take_while(|b| is_bare(*b)).count();
        match self.rest().get(..length) {
            Some(name) if !name.is_empty() => {
                self.at += length;
                Ok(name.to_owned())
            }
            _ => Err(self.fail(NOT_A_NAME)),
        }
    }

    fn quoted(&mut self) -> Result<String, FieldError> {
        let wrong = self.fail("a quoted name is a JSON string");
        let length = quoted_length(self.rest()).ok_or_else(|| wrong.clone())?;
        let text = self.rest().get(..length).unwrap_or("");
        let Ok(Json::String(name)) = Json::parse(text, Limits::default()) else {
            return Err(wrong);
        };
        self.at += length;
        Ok(name)
    }
}

/// The length of the JSON string that `text` begins with, quotes included.
fn quoted_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|b| {
        let ends = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        ends
    });
    end.map(|end| end + 2)
}

const fn is_bare(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'$' | b'@' | b':')
}

/// Writes a name as it is spelled in fields: bare or quoted.
pub(super) fn write_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    if !name.is_empty() && name.bytes().all(is_bare) {
        f.write_str(name)
    } else {
        f.write_str(&Json::from(name).to_canonical())
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.steps.iter().enumerate() {
            match step {
                Step::Each => f.write_str("[]")?,
                Step::Name(name) => {
                    f.write_str(if i > 0 { "." } else { "" })?;
                    write_name(f, name)?;
                }
            }
        }
        match (self.subtree, self.steps.is_empty()) {
            (true, true) => f.write_str("**"),
            (true, false) => f.write_str(".**"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for FieldPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FieldPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
