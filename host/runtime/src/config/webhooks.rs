//! `[webhook.*]`: who is told of what, where, and under which signature.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use ambit_core::digest::Digest;
use ambit_core::error::printable;
use ambit_core::guard;
use ambit_core::route::duration;
use ambit_core::webhook::{About, EventType, Format};
use toml::de::DeValue;

use super::budgets::{Names, known};
use super::check_name;
use super::connection::{authorities, connect_to, place};
use super::credential::{hidden, source};
use super::reader::{Located, Table, nearest};
use crate::gate::{DocumentWay, Hook, HookUrl};
use crate::secret::{Ambient, Source};

/// How long a receiver has for its answer, unless it says so, and at most: in seconds.
const TIMEOUT_S: u64 = 10;
const LONGEST_TIMEOUT_S: u64 = 30;
/// For how long a message is tried, unless it says so, and at most: in seconds.
const GIVE_UP_S: u64 = 24 * 3_600;
const LONGEST_GIVE_UP_S: u64 = 7 * 24 * 3_600;
/// Most signing secrets: one, and what takes its place.
const MOST_SECRETS: usize = 4;
const SECRET_HELP: &str = "as in { env = \"…\" }: a secret does not stand in the configuration";

/// What the configuration says of a webhook. It names where its secrets are, and holds none.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    name: String,
    url: Url,
    /// What messages are signed with.
    secrets: Vec<Source>,
    way: DocumentWay,
    events: BTreeSet<EventType>,
    tenant: Option<String>,
    tool: Option<String>,
    connection: Option<String>,
    /// How messages read.
    pub format: Format,
    /// How long the receiver has for its answer.
    pub timeout: Duration,
    /// For how long a message is tried.
    pub give_up: Duration,
    url_place: Range<usize>,
    secret_place: Range<usize>,
}

#[derive(Clone, Debug)]
enum Url {
    Plain(String),
    Kept(Source),
}

impl WebhookConfig {
    /// Whether it is told of an event of this type about these.
    #[must_use]
    pub fn wants(&self, kind: EventType, about: &About) -> bool {
        let (tenant, tool) = (self.tenant.as_deref(), self.tool.as_deref());
        self.events.contains(&kind) && about.is_of(tenant, tool, self.connection.as_deref())
    }

    /// The types of events that it is told of.
    #[must_use]
    pub const fn events(&self) -> &BTreeSet<EventType> {
        &self.events
    }

    /// Of whom and what alone it is told, by the key that says so.
    pub fn only(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("tenant", &self.tenant),
            ("tool", &self.tool),
            ("connection", &self.connection),
        ];
        all.into_iter().filter_map(|(key, name)| Some((key, name.as_deref()?)))
    }

    /// Where it is, for people: a secret address by where that is read. Queries are left out.
    #[must_use]
    pub fn told(&self, home: &Path) -> String {
        match &self.url {
            Url::Plain(url) => url.split('?').next().unwrap_or_default().to_owned(),
            Url::Kept(source) => place(source, home),
        }
    }

    /// How many secrets sign its messages.
    #[must_use]
    pub fn signatures(&self) -> usize {
        self.secrets.len()
    }

    /// Reads the secrets and makes it ready.
    ///
    /// # Errors
    /// What is wrong and where the configuration speaks of it; never a secret.
    pub(super) fn open(&self, ambient: &dyn Ambient) -> Result<Hook, (Range<usize>, String)> {
        let name = &self.name;
        let url = match &self.url {
            Url::Plain(url) => HookUrl::Plain(url.clone()),
            Url::Kept(source) => {
                let read = source.read(ambient);
                HookUrl::Secret(
                    read.map_err(|why| (self.url_place.clone(), format!("the url of webhook `{name}`: {why}")))?,
                )
            }
        };
        let at_secret = |why: String| {
            (
                self.secret_place.clone(),
                format!("the secret of webhook `{name}` {why}"),
            )
        };
        let mut keys = Vec::with_capacity(self.secrets.len());
        for source in &self.secrets {
            let secret = source
                .read(ambient)
                .map_err(|why| at_secret(format!("cannot be had: {why}")))?;
            Hook::check_key(&secret).map_err(at_secret)?;
            keys.push(secret);
        }
        let label = format!("webhook {name}");
        Hook::new(&label, &url, &keys, &self.way)
            .map_err(|why| (self.url_place.clone(), format!("the url of webhook `{name}` {why}")))
    }
}

/// `[webhook.*]`, by name; and the digests of the files that they name.
pub(super) fn webhooks(
    root: &Table<'_>,
    names: &Names<'_>,
    home: &Path,
    ambient: &dyn Ambient,
) -> (BTreeMap<String, WebhookConfig>, Vec<Digest>) {
    let mut digests = Vec::new();
    let webhooks = root
        .named("webhook", "webhook")
        .into_iter()
        .filter_map(|(name, table)| {
            check_name(table.source(), &name, "webhook");
            let (authorities, ca) = authorities(&table, home, ambient);
            digests.extend(ca);
            let way = DocumentWay {
                connect_to: connect_to(&table),
                authorities,
                allow_private: table.bool("allow_private").unwrap_or_default(),
            };
            let format = format(&table);
            let url = url(&table, home, &way);
            let secrets = secrets(&table, home, format);
            let (events, words) = events(&table);
            let agents = || names.agents.values();
            let webhook = WebhookConfig {
                tenant: known(&table, "tenant", agents().map(|spec| &spec.tenant)),
                tool: known(&table, "tool", names.tools.keys()),
                connection: known(&table, "connection", names.connections.keys()),
                timeout: seconds(&table, "timeout", TIMEOUT_S, 1..=LONGEST_TIMEOUT_S, "from 1s to 30s"),
                give_up: seconds(&table, "give_up", GIVE_UP_S, 1..=LONGEST_GIVE_UP_S, "from 1s to 7d"),
                url_place: table.key_span("url"),
                secret_place: table.key_span("secret"),
                name: name.value.clone(),
                url: url.clone().unwrap_or(Url::Plain(String::new())),
                secrets,
                way,
                events,
                format,
            };
            check_filters(&table, &words, &webhook);
            table.done();
            url.map(|_| (name.value, webhook))
        });
    let webhooks = webhooks.collect();
    (webhooks, digests)
}

fn url(table: &Table<'_>, home: &Path, way: &DocumentWay) -> Option<Url> {
    let value = table.value("url");
    if value.is_none() {
        table.missing(
            "url",
            "where messages are sent: \"https://…\", or where that is read: { env = \"…\" }",
        );
    }
    if matches!(value?.get_ref(), DeValue::Table(_)) {
        let kept = table.table("url", format!("the url of {}", table.what()))?;
        let source = source(&kept, home);
        kept.done();
        return source.map(Url::Kept);
    }
    let text = table.string("url")?;
    if let Err(why) = Hook::new("", &HookUrl::Plain(text.value.clone()), &[], way) {
        let message = format!("`url` of {} is no address of a webhook", table.what());
        let help = "an https URL; for a receiver on this machine or network set `allow_private = true`".to_owned();
        table.source().problem(text.span.clone(), message, &why, Some(help));
    }
    Some(Url::Plain(text.value))
}

/// `secret = { env = "…" }`, or several while one takes the place of another. Who reads messages as programs do has to be able to tell
/// whose they are.
fn secrets(table: &Table<'_>, home: &Path, format: Format) -> Vec<Source> {
    let what = || format!("the secret of {}", table.what());
    let Some(value) = table.value("secret") else {
        if !guard!("webhook.secret", format != Format::Standard) {
            let help = "what messages are signed with, whsec_ and base64: secret = { env = \"…\" }";
            table.missing("secret", help);
        }
        return Vec::new();
    };
    let DeValue::Array(items) = value.get_ref() else {
        let Some(kept) = hidden(table, "secret", what(), SECRET_HELP) else {
            return Vec::new();
        };
        let source = source(&kept, home);
        kept.done();
        return source.into_iter().collect();
    };
    let several = items.iter().filter_map(|item| match item.get_ref() {
        DeValue::Table(entries) => {
            let kept = Table::new(table.source(), entries, item.span(), what());
            let source = source(&kept, home);
            kept.done();
            source
        }
        _ => {
            table.source().cover(item.span());
            let message = format!("{} is no table", what());
            let help = Some(SECRET_HELP.to_owned());
            table.source().problem(item.span(), message, "expected a table", help);
            None
        }
    });
    let several: Vec<Source> = several.collect();
    if items.is_empty() || items.len() > MOST_SECRETS {
        let message = format!("{} are {}", what(), items.len());
        let label = format!("1 to {MOST_SECRETS}");
        table.source().problem(value.span(), message, &label, None);
    }
    several
}

/// What it is told of, and the words that say so.
fn events(table: &Table<'_>) -> (BTreeSet<EventType>, Vec<Located<String>>) {
    let words = table.strings("events");
    let all = || EventType::ALL.iter().map(|kind| kind.as_str());
    if words.as_ref().is_none_or(Vec::is_empty) {
        let help = "what it is told of, as in events = [\"hold.*\", \"stop.placed\"]";
        match table.has("events") {
            true => {
                let message = format!("{} is told of nothing", table.what());
                let span = table.key_span("events");
                table.source().problem(span, message, "empty", Some(help.to_owned()));
            }
            false => table.missing("events", help),
        }
    }
    let (words, mut events) = (words.unwrap_or_default(), BTreeSet::new());
    for word in &words {
        let meant = EventType::meant(&word.value);
        if !guard!("webhook.event", !meant.is_empty()) {
            unknown_event(table, word, nearest(&word.value, all()));
        }
        events.extend(meant);
    }
    (events, words)
}

/// A webhook that is to be told of something, and never can be, is a mistake that nobody would hear of.
fn check_filters(table: &Table<'_>, words: &[Located<String>], webhook: &WebhookConfig) {
    for word in words {
        let meant = EventType::meant(&word.value);
        for (key, name) in webhook.only() {
            let can_be = meant.is_empty() || meant.iter().any(|kind| kind.is_ever_of(key));
            if guard!("webhook.filter", can_be) {
                continue;
            }
            let message = format!(
                "{} is told of `{}` of {key} `{}` alone, and that is of no {key}",
                table.what(),
                printable(&word.value),
                printable(name)
            );
            let help = format!("leave it out, or tell it by another webhook without `{key}`");
            let source = table.source();
            source.problem(word.span.clone(), message, "never told", Some(help));
        }
    }
}

fn unknown_event(table: &Table<'_>, word: &Located<String>, near: Option<&str>) {
    let message = format!(
        "{} is told of `{}`, and there is no such event",
        table.what(),
        printable(&word.value)
    );
    let help = match near {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => {
            let all: Vec<&str> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("it is one of {}, or all that begin as in \"hold.*\"", all.join(", "))
        }
    };
    table
        .source()
        .problem(word.span.clone(), message, "not known", Some(help));
}

fn format(table: &Table<'_>) -> Format {
    let Some(word) = table.string("format") else {
        return Format::default();
    };
    if let Some(format) = Format::ALL.into_iter().find(|format| format.as_str() == word.value) {
        return format;
    }
    let words = Format::ALL.map(Format::as_str);
    let message = format!(
        "`format` of {} is `{}`, and there is none such",
        table.what(),
        printable(&word.value)
    );
    let help = match nearest(&word.value, words) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("it is one of {}", words.join(", ")),
    };
    table.source().problem(word.span, message, "not known", Some(help));
    Format::default()
}

fn seconds(table: &Table<'_>, key: &str, usual: u64, within: RangeInclusive<u64>, range: &str) -> Duration {
    let usual = Duration::from_secs(usual);
    let Some(text) = table.string(key) else { return usual };
    let why = match duration(&text.value) {
        Ok(seconds) if guard!("webhook.time-range", within.contains(&seconds)) => return Duration::from_secs(seconds),
        Ok(_) => range.to_owned(),
        Err(why) => why,
    };
    let message = format!("`{key}` of {} is not a time that it can have", table.what());
    table.source().problem(text.span, message, &why, None);
    usual
}
