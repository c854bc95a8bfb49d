//! The ledger's entries for other systems, a line each: from any entry on, and as many as there are.
//!
//! It reads beside a host or without one, a page at a time. What is exported so is for searching and alarms, and no proof: nothing here is
//! checked but that each row is an entry.

use std::collections::BTreeMap;
use std::io;

use ambit_core::digest::Digest;
use ambit_core::ledger::{Body, Contexts, Entry};
use ambit_core::siem::{lines, ocsf};
use ambit_core::telemetry::{self, Signal, Source};

use crate::store::{Reader, StoreError};

/// How entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they are, with what a reader would have to look up beside them.
    Lines {
        /// With the values that they commit to, as far as the reader has the home's keys: arguments, requests, answers, results, logs.
        values: bool,
    },
    /// As OCSF events.
    Ocsf,
    /// As OTLP's requests with log records, one of each.
    Otlp,
}

/// Why an export ends early. What was written before stands.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The ledger.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Where the lines go.
    #[error("the lines cannot be written: {0}")]
    Write(#[from] io::Error),
    /// It is to go on after an entry that the ledger does not have.
    #[error(
        "the ledger has {size} entries, and the last that was exported is {after}: this is another ledger, or it was cut"
    )]
    Cursor {
        /// The entry after which it is to go on.
        after: u64,
        /// How many there are.
        size: u64,
    },
}

/// An export, which can be gone on with as the ledger grows.
pub struct Export<'r> {
    reader: &'r Reader,
    form: Form,
    origin: String,
    calls: Contexts,
    /// What the call that was read last commits to.
    commitments: Vec<(String, Digest)>,
    committed_by: String,
    next: u64,
    until_ms: Option<i64>,
    lines: u64,
}

impl<'r> Export<'r> {
    /// An export that begins with the first entry after `after` which is not before `since_ms`, and ends before `until_ms`, both in
    /// milliseconds since 1970.
    ///
    /// # Errors
    /// [`ExportError::Cursor`], and where the ledger cannot be read.
    pub fn new(
        reader: &'r Reader,
        form: Form,
        after: Option<u64>,
        since_ms: Option<i64>,
        until_ms: Option<i64>,
    ) -> Result<Self, ExportError> {
        let size = reader.size()?;
        if let Some(after) = after
            && !ambit_core::guard!("export.cursor", after < size)
        {
            return Err(ExportError::Cursor { after, size });
        }
        let since = since_ms.map_or(Ok(0), |since| reader.first_since(since))?;
        Ok(Self {
            reader,
            form,
            origin: reader.origin()?,
            calls: Contexts::default(),
            commitments: Vec::new(),
            committed_by: String::new(),
            next: after.map_or(0, |after| after + 1).max(since),
            until_ms,
            lines: 0,
        })
    }

    /// Writes all that there is now, a line at a time.
    ///
    /// # Errors
    /// Where reading or writing fails.
    pub fn write(&mut self, mut line: impl FnMut(&str) -> io::Result<()>) -> Result<(), ExportError> {
        let (reader, until_ms) = (self.reader, self.until_ms);
        reader.each_from(self.next, |entry| {
            if until_ms.is_some_and(|until| entry.time_ms() >= until) {
                return Ok(false);
            }
            let text = self.line(entry)?;
            line(&text)?;
            self.lines += 1;
            self.next = entry.index() + 1;
            Ok(true)
        })
    }

    /// The last entry that was exported, by this export or the one that it goes on from: where the next one goes on.
    #[must_use]
    pub const fn last(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// How many lines were written.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    fn line(&mut self, entry: &Entry) -> Result<String, StoreError> {
        if let Some(call) = self.calls.unknown(entry) {
            let before = self.reader.entries_before(call, entry.index())?;
            before.iter().for_each(|entry| self.calls.take(entry));
        }
        self.calls.take(entry);
        let line = match self.form {
            Form::Lines { values } => {
                let values = if values { self.values(entry)? } else { BTreeMap::new() };
                lines::line(entry, &self.calls, &values)
            }
            Form::Ocsf => ocsf::event(entry, &self.calls, &self.origin, env!("CARGO_PKG_VERSION")).to_string(),
            Form::Otlp => {
                let source = Source {
                    origin: self.origin.clone(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                };
                let record = telemetry::log(entry, &self.calls);
                source.request(Signal::Logs, vec![record]).to_string()
            }
        };
        if let (Body::CallFinished(_), Some(call)) = (entry.body(), entry.call()) {
            self.calls.forget(call);
        }
        Ok(line)
    }

    /// What an entry commits to, by name, as text; of what was erased that it was, and of what cannot be read why.
    fn values(&mut self, entry: &Entry) -> Result<BTreeMap<String, String>, StoreError> {
        let Some(call) = entry.call() else {
            return Ok(BTreeMap::new());
        };
        let text = entry.text();
        // All of a call's entries that are there are read once, unless it goes on meanwhile.
        let known = self
            .commitments
            .iter()
            .any(|(_, commitment)| text.contains(&commitment.to_string()));
        if self.committed_by != call || !known {
            self.committed_by = call.to_owned();
            self.commitments = self.reader.story(call)?.commitments();
        }
        let mut values = BTreeMap::new();
        for (name, commitment) in &self.commitments {
            // The last entry repeats what the first and those of effects said.
            let repeated =
                matches!(entry.body(), Body::CallFinished(_)) && !matches!(&**name, "log" | "result" | "refused");
            if repeated || !text.contains(&commitment.to_string()) {
                continue;
            }
            let value = match self.reader.payload(call, name) {
                Ok(Some(payload)) => String::from_utf8_lossy(payload.bytes()).into_owned(),
                Ok(None) => continue,
                Err(why @ (StoreError::Erased { .. } | StoreError::Payload { .. })) => format!("[not readable: {why}]"),
                Err(other) => return Err(other),
            };
            values.insert(name.clone(), value);
        }
        Ok(values)
    }
}
