//! How far a webhook has come: a row beside the ledger, that follows from nothing and proves nothing.

use std::collections::BTreeMap;

use ambit_core::error::Code;
use ambit_core::ledger::body::Message;
use serde::{Deserialize, Serialize};

/// How far a webhook has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The index of the first entry that it has not dealt with.
    pub cursor: u64,
    /// When a message was taken last, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_ms: Option<i64>,
    /// The message that was tried last, where it is to be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<Tried>,
    /// When people were told last that a budget has no room, by budget, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exhausted: BTreeMap<String, i64>,
}

/// A message that was tried, and neither taken nor given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The index of the entry that has it sent: what it is about, or the operator's word that it is sent again.
    pub at: u64,
    /// Which.
    pub message: Message,
    /// How many times it was tried.
    pub attempts: u32,
    /// The status of the last answer, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why nothing was sent the last time, where it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// When it was tried last, in milliseconds since 1970.
    pub last_ms: i64,
    /// When it is tried next, in milliseconds since 1970.
    pub next_ms: i64,
}

impl Progress {
    /// At an entry, with nothing tried.
    pub(crate) fn at(cursor: u64) -> Progress {
        Progress {
            cursor,
            ..Progress::default()
        }
    }

    /// What a row says; none where that cannot be read. Rows of before are the number of the entry alone.
    pub(super) fn parse(text: &str) -> Option<Progress> {
        match text.parse() {
            Ok(cursor) => Some(Progress::at(cursor)),
            Err(_) => serde_json::from_str(text).ok().or_else(|| Progress::place_in(text)),
        }
    }

    /// The place alone, of a row that says something of a message which this build cannot read.
    fn place_in(text: &str) -> Option<Progress> {
        let row: serde_json::Value = serde_json::from_str(text).ok()?;
        row.get("cursor")?.as_u64().map(Progress::at)
    }

    /// As a row has it.
    pub(super) fn text(&self) -> String {
        // Names, numbers and words: there is nothing in it that cannot be written.
        serde_json::to_string(self).unwrap_or_else(|_| self.cursor.to_string())
    }
}

#[cfg(test)]
mod tests {
    use ambit_core::webhook::EventType;

    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written_also_one_of_before() {
        let progress = Progress {
            cursor: 7,
            taken_ms: Some(1),
            tried: Some(Tried {
                at: 7,
                message: Message {
                    event: EventType::HoldCreated,
                    id: "msg_a".into(),
                    index: 3,
                    webhook: "pager".into(),
                },
                attempts: 2,
                status: Some(500),
                code: None,
                last_ms: 5,
                next_ms: 9,
            }),
            exhausted: BTreeMap::from([("daily".to_owned(), 4)]),
        };
        for progress in [progress, Progress::at(4)] {
            assert_eq!(Progress::parse(&progress.text()), Some(progress));
        }
        assert_eq!(Progress::parse("12"), Some(Progress::at(12)));
        let of_another_build = r#"{"cursor":5,"tried":{"at":5,"message":{"event":"of-tomorrow"}}}"#;
        assert_eq!(Progress::parse(of_another_build), Some(Progress::at(5)));
        for wrong in ["", "-1", "{}", "null"] {
            assert_eq!(Progress::parse(wrong), None, "{wrong}");
        }
    }
}
