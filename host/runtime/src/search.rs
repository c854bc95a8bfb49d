//! Looking for entries of the ledger: newest first, a page at a time, with so much work for each page and no more.
//!
//! There is no index but the ledger's own order, so a page may be short, or empty, and say where to look on: the cursor is the index of
//! the last entry that was looked at. Nothing here is proved; an entry that is found is, by its index.

use std::collections::BTreeMap;

use ambit_core::error::{Code, Refusal};
use ambit_core::guard;
use ambit_core::ledger::{Body, Contexts, Entry};
use ambit_core::search::Query;
use ambit_core::siem::lines;
use serde_json::Value;

use crate::store::{Reader, StoreError};

/// Entries that are looked at for one page.
const MOST_ENTRIES: u64 = if cfg!(test) { 64 } else { 4_096 };
/// Entries that are found for one page, at most.
pub const MOST_FOUND: usize = 200;
/// Bytes of values that are opened for one page; a call's are opened whole.
const MOST_VALUES: usize = 32 << 20;
/// Entries that are read at a time.
const STEP: u64 = 32;

/// Why nothing is looked for.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// What is asked for is none.
    #[error("{0}")]
    Refused(Refusal),
    /// The ledger cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which page.
#[derive(Debug, Clone, Copy, Default)]
pub struct Page {
    /// Only entries before this index: where the page before ended. None for the first page.
    pub before: Option<u64>,
    /// At most so many, 1 to [`MOST_FOUND`].
    pub limit: usize,
    /// Whether a text is looked for in the values of calls too: the reader needs the home's keys.
    pub values: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The entry's index.
    pub index: u64,
    /// The entry, with what a reader would have to look up beside it: as `ambit export --jsonl` has it.
    pub entry: Value,
    /// The names of the values of its call that the text stands in: of an entry that begins a call, where values were looked at.
    pub values: Vec<String>,
}

/// A page of what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Searched {
    /// The newest first.
    pub found: Vec<Found>,
    /// Where to look on: none where there is nothing more.
    pub next: Option<u64>,
}

/// Looks for entries.
///
/// # Errors
/// [`SearchError::Refused`] where the query or the page is none, with what it takes.
pub fn search(reader: &Reader, query: &Query, page: Page) -> Result<Searched, SearchError> {
    query.check().map_err(SearchError::Refused)?;
    let refuse =
        |why: String, advice: &str| SearchError::Refused(Refusal::new(Code::Arguments, why).advise(advice.to_owned()));
    if !guard!("search.limit", (1..=MOST_FOUND).contains(&page.limit)) {
        return Err(refuse(format!("the limit is {}", page.limit), "it is 1 to 200"));
    }
    let size = reader.size()?;
    if let Some(before) = page.before
        && !guard!("search.cursor", before <= size)
    {
        let why = format!("the ledger has {size} entries, and none was looked at before {before}");
        return Err(refuse(why, "leave the cursor out to begin with the newest"));
    }
    // The ledger's time never goes back: both ends are found, and not walked to.
    let first = query.since_ms.map_or(Ok(0), |since| reader.first_since(since))?;
    let end = query.until_ms.map_or(Ok(size), |until| reader.first_since(until))?;
    let end = end.min(page.before.unwrap_or(size));
    Looking {
        reader,
        query,
        page,
        calls: Contexts::default(),
        searched: Searched {
            found: Vec::new(),
            next: None,
        },
        opened: 0,
    }
    .back(first, end)
}

/// What a page is made with.
struct Looking<'a> {
    reader: &'a Reader,
    query: &'a Query,
    page: Page,
    calls: Contexts,
    searched: Searched,
    /// Bytes of values so far.
    opened: usize,
}

impl Looking<'_> {
    /// Looks at the entries from `first` to before `end`, the last first.
    fn back(mut self, first: u64, end: u64) -> Result<Searched, SearchError> {
        let most = if guard!("search.work", false) {
            end
        } else {
            MOST_ENTRIES
        };
        let last = end.saturating_sub(most);
        let stop = last.max(first);
        let mut at = end;
        while at > stop {
            let from = at.saturating_sub(STEP).max(stop);
            let count = usize::try_from(at - from).unwrap_or(usize::MAX);
            let entries = self.reader.entries(from, count)?;
            for entry in entries.iter().rev() {
                if self.is_full() {
                    self.searched.next = Some(entry.index() + 1);
                    return Ok(self.searched);
                }
                self.look_at(entry)?;
            }
            at = from;
        }
        self.searched.next = (stop > first).then_some(stop);
        Ok(self.searched)
    }

    fn is_full(&self) -> bool {
        self.searched.found.len() >= self.page.limit || self.opened >= MOST_VALUES
    }

    fn look_at(&mut self, entry: &Entry) -> Result<(), StoreError> {
        if let Some(call) = self.calls.unknown(entry) {
            for before in self.reader.entries_before(call, entry.index())? {
                self.calls.take(&before);
            }
        }
        self.calls.take(entry);
        if !self.query.matches(entry, &self.calls) {
            return Ok(());
        }
        let values = self.in_values(entry)?;
        if values.is_empty() && !self.query.text_in(entry.bytes()) {
            return Ok(());
        }
        let line = lines::line(entry, &self.calls, &BTreeMap::new());
        self.searched.found.push(Found {
            index: entry.index(),
            entry: serde_json::from_str(&line).unwrap_or_default(),
            values,
        });
        Ok(())
    }

    /// In which values of its call the text stands, where an entry begins one. What was erased has none.
    fn in_values(&mut self, entry: &Entry) -> Result<Vec<String>, StoreError> {
        let begins = matches!(entry.body(), Body::CallAccepted(_) | Body::CallDenied(_));
        let (true, true, true, Some(call)) = (self.page.values, self.query.text.is_some(), begins, entry.call()) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for name in self.reader.payload_names(call)? {
            // Where its guest's randomness came from is nobody's text.
            if name == "start" {
                continue;
            }
            match self.reader.payload(call, &name) {
                Ok(Some(payload)) => {
                    self.opened = self.opened.saturating_add(payload.bytes().len());
                    if self.query.text_in(payload.bytes()) {
                        found.push(name);
                    }
                }
                Ok(None) => {}
                Err(StoreError::Erased { .. }) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}
