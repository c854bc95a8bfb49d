//! Bundles: one call with everything that running it again takes, in one file, for whoever has the ledger's public key.
//!
//! The file is one JSON document, printed in one way, so that no byte of it can be another one:
//!
//! ```text
//! bundle       the format, 1
//! call         the call's id
//! checkpoint   the signed checkpoint that covers the entries
//! component    the component, base64
//! entries      the call's entries in order, each with its exact text (`entry`) and its audit path (`proof`)
//! values       the values that the entries commit to, by name, each with its `salt` and `value`, base64
//! ```
//!
//! [`Bundle::open`] believes nothing in it but the key it is given: the checkpoint has to be signed, every entry to stand under its root,
//! the entries to tell one call from its beginning to its end, the component and every value to be the ones that the entries
//! name. Policy and configuration are in it by their digests, which the entries have. The values are plain text.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::merkle::{Hash, verify_inclusion};
use super::{CallStory, Checkpoint, LedgerError, VerifierKey, story};
use crate::digest::Digest;
use crate::error::printable;
use crate::guard;

/// The format of bundles.
const FORMAT: u64 = 1;
/// The longest bundle that is read, in bytes: twice the largest component, and values.
pub const MAX_BUNDLE: usize = 128 << 20;
/// Bytes of the salt in a commitment.
pub const SALT: usize = 32;

/// What an entry says of a value: a digest that covers random salt, so that nobody can guess a short value from it.
#[must_use]
pub fn commitment(salt: &[u8; SALT], value: &[u8]) -> Digest {
    Digest::domain("ambit/payload/v1", &[salt, value])
}

/// An entry with its place in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The entry.
    pub entry: Entry,
    /// Its audit path in the tree of the checkpoint.
    pub proof: Vec<Hash>,
}

/// A value with the salt that its commitment covers. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Salted {
    /// The salt.
    pub salt: [u8; SALT],
    /// The value.
    pub value: Vec<u8>,
}

impl std::fmt::Debug for Salted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Salted({} bytes)", self.value.len())
    }
}

/// What a bundle is made of: the maker's word, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The call.
    pub call: String,
    /// The signed checkpoint that covers the entries.
    pub checkpoint: String,
    /// The component that ran.
    pub component: Vec<u8>,
    /// The call's entries, in order.
    pub entries: Vec<Proven>,
    /// Its values by name.
    pub values: BTreeMap<String, Salted>,
}

/// What is in a bundle of which everything was checked. Only [`Bundle::open`] makes one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Opened {
    /// The call, put together from its entries.
    pub story: CallStory,
    /// The component that ran.
    pub component: Vec<u8>,
    /// All values that the entries commit to, by name.
    pub values: BTreeMap<String, Vec<u8>>,
    /// The state of the ledger in which it is proved.
    pub checkpoint: Checkpoint,
    /// How many entries the call has.
    pub entries: usize,
}

/// The file, members in the order in which they are printed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    bundle: u64,
    call: String,
    checkpoint: String,
    component: String,
    entries: Vec<FileEntry>,
    values: BTreeMap<String, FileValue>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    entry: String,
    proof: Vec<Hash>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileValue {
    salt: String,
    value: String,
}

fn wrong(why: impl Into<String>) -> LedgerError {
    LedgerError::Bundle(why.into())
}

impl Bundle {
    /// The file. Its values are plain text.
    ///
    /// # Errors
    /// [`LedgerError::Bundle`] where it would be longer than [`MAX_BUNDLE`].
    pub fn to_json(&self) -> Result<String, LedgerError> {
        let entries = self.entries.iter().map(|proven| FileEntry {
            entry: proven.entry.text().into_owned(),
            proof: proven.proof.clone(),
        });
        let values = self.values.iter().map(|(name, salted)| {
            let value = FileValue {
                salt: BASE64.encode(&salted.salt),
                value: BASE64.encode(&salted.value),
            };
            (name.clone(), value)
        });
        let text = File {
            bundle: FORMAT,
            call: self.call.clone(),
            checkpoint: self.checkpoint.clone(),
            component: BASE64.encode(&self.component),
            entries: entries.collect(),
            values: values.collect(),
        }
        .print()?;
        if text.len() > MAX_BUNDLE {
            return Err(too_long());
        }
        Ok(text)
    }

    /// Opens a bundle with nothing but the ledger's public key, and checks every part of it.
    ///
    /// # Errors
    /// [`LedgerError`]: the first part that is not what it should be.
    pub fn open(text: &str, key: &VerifierKey) -> Result<Opened, LedgerError> {
        let file = File::parse(text)?;
        let checkpoint = Checkpoint::parse_verified(&file.checkpoint, key)?;
        let entries = file.proven(&checkpoint)?;
        let story = whole_story(&file.call, &entries)?;
        let component = decode("component", &file.component)?;
        let found = Digest::of(&component);
        if !guard!("replay.bundle-component", story.tool == Some(found)) {
            return Err(wrong("its component is another one than its entries name"));
        }
        let values = opened_values(&story, file.values)?;
        Ok(Opened {
            story,
            component,
            values,
            checkpoint,
            entries: entries.len(),
        })
    }
}

impl File {
    fn print(&self) -> Result<String, LedgerError> {
        let mut text = serde_json::to_string_pretty(self).map_err(|error| wrong(error.to_string()))?;
        text.push('\n');
        Ok(text)
    }

    fn parse(text: &str) -> Result<Self, LedgerError> {
        if !guard!("replay.bundle-size", text.len() <= MAX_BUNDLE) {
            return Err(too_long());
        }
        let file: Self = serde_json::from_str(text).map_err(|error| wrong(printable(&error.to_string())))?;
        if file.bundle != FORMAT {
            let found = file.bundle;
            return Err(wrong(format!(
                "it is of format {found}, and this Ambit reads format {FORMAT}"
            )));
        }
        if !guard!("replay.bundle-print", file.print()? == text) {
            return Err(wrong("it is not written as a bundle is: something was changed in it"));
        }
        Ok(file)
    }

    /// The entries, each in its place under the checkpoint's root.
    fn proven(&self, checkpoint: &Checkpoint) -> Result<Vec<Entry>, LedgerError> {
        let mut entries: Vec<Entry> = Vec::new();
        for FileEntry { entry, proof } in &self.entries {
            let entry = Entry::parse(entry.as_bytes())?;
            verify_inclusion(
                &entry.leaf(),
                entry.index(),
                checkpoint.size(),
                &checkpoint.root(),
                proof,
            )?;
            let follows = entries.last().is_none_or(|last| last.index() < entry.index());
            if !guard!("replay.bundle-order", follows) {
                return Err(wrong(format!("entry {} is not in its place", entry.index())));
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// One call from its beginning to its end. That no effect is left out shows by its last entry, which counts them.
fn whole_story(call: &str, entries: &[Entry]) -> Result<CallStory, LedgerError> {
    let story = story(entries)?;
    if !guard!("replay.bundle-call", story.call == call) {
        return Err(wrong("its entries are those of another call"));
    }
    if !guard!("replay.bundle-whole", story.is_over()) {
        return Err(wrong("the end of the call is not among its entries"));
    }
    Ok(story)
}

/// The values, exactly those that the entries commit to.
fn opened_values(
    story: &CallStory,
    mut values: BTreeMap<String, FileValue>,
) -> Result<BTreeMap<String, Vec<u8>>, LedgerError> {
    let mut opened = BTreeMap::new();
    for (name, committed) in story.commitments() {
        let Some(found) = values.remove(&name) else {
            return Err(wrong(format!("its value `{name}` is missing")));
        };
        let salt: Option<[u8; SALT]> = decode(&name, &found.salt)?.try_into().ok();
        let salt = salt.ok_or_else(|| wrong(format!("the salt of its value `{name}` is none")))?;
        let value = decode(&name, &found.value)?;
        if !guard!("replay.bundle-value", commitment(&salt, &value) == committed) {
            return Err(wrong(format!(
                "its value `{name}` is not the one that its entry commits to"
            )));
        }
        opened.insert(name, value);
    }
    match values.keys().next() {
        Some(name) if !guard!("replay.bundle-added", false) => {
            Err(wrong(format!("no entry commits to its value `{}`", printable(name))))
        }
        _ => Ok(opened),
    }
}

fn decode(name: &str, text: &str) -> Result<Vec<u8>, LedgerError> {
    BASE64
        .decode(text.as_bytes())
        .map_err(|error| wrong(format!("its {} is not base64: {error}", printable(name))))
}

fn too_long() -> LedgerError {
    wrong(format!("a bundle has at most {MAX_BUNDLE} bytes"))
}
