//! Reads TOML tables by hand, so that every mistake in a file is reported at once, each with its place.
//!
//! A [`Table`] remembers which keys were asked for. What is left when it is [done](Table::done) is unknown, and what was asked for is what
//! the nearest spelling is looked for in: there is no second list of keys that could differ from the code.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;

use ambit_core::error::{Problem, printable};
use ambit_core::guard;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file being read, and what was found wrong with it.
pub(super) struct Source {
    name: String,
    text: String,
    found: RefCell<Vec<Found>>,
    covered: RefCell<Vec<Range<usize>>>,
}

struct Found {
    span: Range<usize>,
    message: String,
    label: String,
    help: Option<String>,
}

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Source {
        Source {
            name: name.to_owned(),
            text: text.to_owned(),
            found: RefCell::default(),
            covered: RefCell::new(bare_credentials(text)),
        }
    }

    pub(super) fn problem(&self, span: Range<usize>, message: impl Into<String>, label: &str, help: Option<String>) {
        self.found.borrow_mut().push(Found {
            span,
            message: message.into(),
            label: label.to_owned(),
            help,
        });
    }

    /// Keeps a place of the file out of every problem's excerpt: a secret that was written where its source belongs.
    pub(super) fn cover(&self, span: Range<usize>) {
        self.covered.borrow_mut().push(span);
    }

    /// The text as problems show it.
    pub(super) fn shown(&self) -> String {
        let covered = self.covered.borrow();
        let hidden = |at: usize| covered.iter().any(|span| span.contains(&at));
        let shown = self
            .text
            .bytes()
            .enumerate()
            .map(|(at, byte)| if hidden(at) && byte != b'\n' { b'*' } else { byte });
        String::from_utf8_lossy(&shown.collect::<Vec<_>>()).into_owned()
    }

    /// Parses the text. What the parser could not read is left out, and reported.
    pub(super) fn parse(&self) -> Spanned<DeTable<'_>> {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            self.problem(span, format!("this is not TOML: {}", error.message()), "here", None);
        }
        table
    }

    /// The problems, in the order of the file.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let shown = self.shown();
        let mut found = self.found.into_inner();
        found.sort_by_key(|found| found.span.start);
        found
            .into_iter()
            .map(
                |Found {
                     span,
                     message,
                     label,
                     help,
                 }| { Problem::in_file(&self.name, &shown, Some(span.into()), message, label, help) },
            )
            .collect()
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.found.borrow().is_empty()
    }
}

/// Whatever of a text is most likely a secret, also where the text is not TOML: what follows a key that says where a secret is and is no
/// table, and the user name and the query of an address.
fn bare_credentials(text: &str) -> Vec<Range<usize>> {
    let mut start: usize = 0;
    let mut open = None;
    let mut bare: Vec<Range<usize>> = in_addresses(text).collect();
    for line in text.split_inclusive('\n') {
        let end = start.saturating_add(line.len());
        if let Some(closed_by) = open {
            if !line.trim_start().starts_with(['{', ']']) {
                bare.push(start..end);
            }
            open = Some(closed_by).filter(|closed_by| !line.contains(closed_by));
        } else if let Some((at, value)) = bare_value(line) {
            bare.push(start.saturating_add(at)..end);
            open = closed_later(value);
        }
        start = end;
    }
    bare
}

/// What follows a key that says where a secret is, to the end of its line, and where that begins.
fn bare_value(line: &str) -> Option<(usize, &str)> {
    const KEYS: [&str; 4] = ["credential", "secret", "secret_access_key", "session_token"];
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let values = KEYS.into_iter().flat_map(|key| line.match_indices(key));
    let values = values.filter_map(|(found, key)| {
        // A slip of the key, as in `credentials`, has the secret too.
        let after = line.get(found.saturating_add(key.len())..)?.trim_start_matches(inside);
        let value = after.trim_start_matches([' ', '\t', '"', '\'']).strip_prefix('=')?;
        (!value.trim_start().starts_with('{')).then_some((line.len().saturating_sub(value.len()), value))
    });
    values.min_by_key(|(at, _)| *at)
}

/// What ends a value that goes on in the lines after its key's.
fn closed_later(value: &str) -> Option<&'static str> {
    let begins = [("[", "]"), ("\"\"\"", "\"\"\""), ("'''", "'''")];
    let (opens, closes) = begins
        .into_iter()
        .find(|(opens, _)| value.trim_start().starts_with(opens))?;
    let rest = value.trim_start().strip_prefix(opens)?;
    (!rest.contains(closes)).then_some(closes)
}

/// The user names and the queries of addresses: keys stand in both.
fn in_addresses(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices("://").flat_map(|(at, scheme)| {
        let start = at.saturating_add(scheme.len());
        let rest = text.get(start..).unwrap_or_default();
        let end = rest.find(['"', '\'', ' ', '\n', '\r']).unwrap_or(rest.len());
        let address = rest.get(..end).unwrap_or_default();
        let host = address.find('/').unwrap_or(end);
        let user = address.get(..host).and_then(|text| text.rfind('@')).map(|at| 0..at);
        let query = address.find('?').map(|at| at.saturating_add(1)..end);
        let from_start = move |span: Range<usize>| start.saturating_add(span.start)..start.saturating_add(span.end);
        user.into_iter().chain(query).map(from_start)
    })
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// One table of a file.
pub(super) struct Table<'a> {
    source: &'a Source,
    entries: &'a DeTable<'a>,
    span: Range<usize>,
    /// As in "… of connection `stripe`".
    what: String,
    asked: RefCell<Vec<String>>,
    whole: Cell<bool>,
    of_secret: Cell<bool>,
}

impl<'a> Table<'a> {
    pub(super) fn new(
        source: &'a Source,
        entries: &'a DeTable<'a>,
        span: Range<usize>,
        what: impl Into<String>,
    ) -> Table<'a> {
        Table {
            source,
            entries,
            span,
            what: what.into(),
            asked: RefCell::default(),
            whole: Cell::new(false),
            of_secret: Cell::new(false),
        }
    }

    /// That it says where a secret is: what stands under a key that it does not have may be the secret.
    pub(super) fn is_of_secret(&self) {
        self.of_secret.set(true);
    }

    pub(super) fn source(&self) -> &'a Source {
        self.source
    }

    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(super) fn entries(&self) -> &'a DeTable<'a> {
        self.entries
    }

    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// Reports every key that nobody asked for.
    pub(super) fn done(self) {
        if self.whole.get() {
            return;
        }
        let asked = self.asked.borrow();
        for (key, value) in self.entries {
            let name = key.get_ref().as_ref();
            if guard!("config.unknown-key", asked.iter().any(|asked| asked == name)) {
                continue;
            }
            if self.of_secret.get() {
                self.source.cover(value.span());
            }
            let help = match nearest(name, asked.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", asked.join(", ")),
            };
            let message = format!("unknown key `{}` in {}", printable(name), self.what);
            self.source.problem(key.span(), message, "not known", Some(help));
        }
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.borrow_mut().push(key.to_owned());
        self.entries.get(key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Where a key stands, or the table where it does not.
    pub(super) fn key_span(&self, key: &str) -> Range<usize> {
        self.entries
            .get_key_value(key)
            .map_or(self.span.clone(), |(key, _)| key.span())
    }

    /// Reports that a key is not there. Where it is, what is wrong with its value was reported already.
    pub(super) fn missing(&self, key: &str, help: &str) {
        if self.has(key) {
            return;
        }
        self.source.problem(
            self.span.clone(),
            format!("{} has no `{key}`", self.what),
            "missing here",
            Some(help.to_owned()),
        );
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        let found = match value.get_ref() {
            DeValue::Integer(digits) => digits.to_string(),
            other => format!("{} {}", article(other.type_str()), other.type_str()),
        };
        self.source.problem(
            value.span(),
            format!("`{key}` of {} is {expected}, not {found}", self.what),
            &format!("expected {expected}"),
            None,
        );
    }

    pub(super) fn string(&self, key: &str) -> Option<Located<String>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Located {
                value: text.clone().into_owned(),
                span: value.span(),
            }),
            _ => {
                self.wrong(key, value, "a string");
                None
            }
        }
    }

    pub(super) fn bool(&self, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => {
                self.wrong(key, value, "true or false");
                None
            }
        }
    }

    /// A whole number, not negative.
    pub(super) fn number(&self, key: &str) -> Option<Located<u64>> {
        let value = self.get(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(digits) => u64::from_str_radix(digits.as_str(), digits.radix()).ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong(key, value, "a whole number, zero or more");
        }
        number.map(|number| Located {
            value: number,
            span: value.span(),
        })
    }

    pub(super) fn strings(&self, key: &str) -> Option<Vec<Located<String>>> {
        let value = self.get(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong(key, value, "an array of strings");
            return None;
        };
        let strings = items.iter().filter_map(|item| match item.get_ref() {
            DeValue::String(text) => Some(Located {
                value: text.clone().into_owned(),
                span: item.span(),
            }),
            _ => {
                self.wrong(key, item, "an array of strings");
                None
            }
        });
        Some(strings.collect())
    }

    /// A table of fixed keys, called `what` in problems.
    pub(super) fn table(&self, key: &str, what: impl Into<String>) -> Option<Table<'a>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(entries) => Some(Table::new(self.source, entries, self.place(key, value), what)),
            _ => {
                self.wrong(key, value, "a table");
                None
            }
        }
    }

    /// A value whose kind the caller looks at.
    pub(super) fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.get(key)
    }

    /// A table of tables with names of the operator's choice: `[connection.*]`. `kind` is what one of them is.
    pub(super) fn named(&self, key: &str, kind: &str) -> Vec<(Located<String>, Table<'a>)> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let DeValue::Table(entries) = value.get_ref() else {
            self.wrong(key, value, &format!("a table of tables, one for each {kind}"));
            return Vec::new();
        };
        let tables = entries.iter().filter_map(|(name, value)| {
            let place = name.span();
            let name = Located {
                value: name.get_ref().clone().into_owned(),
                span: name.span(),
            };
            let what = format!("{kind} `{}`", printable(&name.value));
            match value.get_ref() {
                DeValue::Table(entries) => Some((name, Table::new(self.source, entries, place, what))),
                _ => {
                    self.wrong(key, value, &format!("a table of tables, one for each {kind}"));
                    None
                }
            }
        });
        tables.collect()
    }

    /// Every entry with its name: strings of the operator's choice. No key of this table is unknown.
    pub(super) fn all_strings(&self) -> BTreeMap<String, (Range<usize>, Located<String>)> {
        self.whole.set(true);
        let entries = self.entries.iter().filter_map(|(key, value)| match value.get_ref() {
            DeValue::String(text) => {
                let located = Located {
                    value: text.clone().into_owned(),
                    span: value.span(),
                };
                Some((key.get_ref().clone().into_owned(), (key.span(), located)))
            }
            _ => {
                self.wrong(key.get_ref(), value, "a string");
                None
            }
        });
        entries.collect()
    }

    fn place(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Range<usize> {
        // A table under a header of its own has no text of its own: its key is where it is.
        if value.span().is_empty() {
            self.key_span(key)
        } else {
            value.span()
        }
    }
}

/// The name that `wrong` was most likely meant to be: of the configuration, or on a command line.
#[must_use]
pub fn nearest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // One slip in three letters; beyond that a suggestion is a guess.
    let slips = wrong.chars().count().div_ceil(3);
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, _)| *distance <= slips)
        .min()
        .map(|(_, name)| name)
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}
