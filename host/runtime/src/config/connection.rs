//! `[connection.*]`: whom tools can be bound to, how a socket gets there, and with which credential.

use std::ops::Range;
use std::path::{Path, PathBuf};

use ambit_core::digest::Digest;
use ambit_core::effect::{Origin, Scheme};
use ambit_core::flow::{BreakerRule, BreakerSpec, Rate, RateSpec};
use ambit_core::guard;
use http::HeaderName;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::DeValue;

use super::reader::{Located, Table};
use super::routes;
use crate::gate::resolve::Endpoint;
use crate::gate::{Authorities, Base, Presented, Upstream, UpstreamParts, check_base, is_framing, is_hosts_own};
use crate::secret::{Ambient, Source};

/// How a connection's service is reached. Names where its secrets are; holds none.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) name: String,
    pub(super) origin: Origin,
    connect_to: Option<Endpoint>,
    authorities: Authorities,
    allow_private: bool,
    base: BaseText,
    credential: Option<(Presented, Source)>,
    /// Of the file named by `ca`.
    pub(super) ca_digest: Option<Digest>,
    /// Of all that decides where requests go and in whose name, the values of secrets excepted: of these, where they are read.
    pub(super) settings: Digest,
    /// How often it is used at most.
    pub(super) rate: Option<Rate>,
    /// When it is left alone.
    pub(super) breaker: Option<BreakerRule>,
    /// Where the configuration speaks of the credential and of the base.
    credential_place: Range<usize>,
    base_place: Range<usize>,
}

#[derive(Clone, Debug)]
enum BaseText {
    Plain(String),
    Kept(Source),
}

impl Way {
    /// Reads the secrets and makes the way usable.
    ///
    /// # Errors
    /// What is wrong and where the configuration speaks of it; never a secret.
    pub(super) fn open(&self, ambient: &dyn Ambient) -> Result<Upstream, (Range<usize>, String)> {
        let read = |source: &Source, place: &Range<usize>, what: &str| {
            source.read(ambient).map_err(|why| {
                (
                    place.clone(),
                    format!("the {what} of connection `{}`: {why}", self.name),
                )
            })
        };
        let base = match &self.base {
            BaseText::Plain(text) => Base::Plain(text.clone()),
            BaseText::Kept(source) => Base::Secret(read(source, &self.base_place, "base")?),
        };
        let credential = match &self.credential {
            None => None,
            Some((presented, source)) => Some((presented.clone(), read(source, &self.credential_place, "credential")?)),
        };
        Upstream::new(UpstreamParts {
            name: self.name.clone(),
            origin: self.origin.clone(),
            connect_to: self.connect_to.clone(),
            authorities: self.authorities.clone(),
            allow_private: self.allow_private,
            base,
            credential,
        })
        .map_err(|why| {
            (
                self.credential_place.clone(),
                format!("connection `{}` cannot be used: {why}", self.name),
            )
        })
    }

    /// Whether a header is the host's to set on this connection.
    pub(super) fn sets_header(&self, name: &str) -> bool {
        self.is_credentials(name) || is_hosts_own(name)
    }

    /// Whether an idempotency key cannot stand in a header.
    pub(super) fn cannot_hold_key(&self, name: &str) -> bool {
        self.is_credentials(name) || is_framing(name)
    }

    fn is_credentials(&self, name: &str) -> bool {
        let own = match &self.credential {
            Some((Presented::Header(own), _)) => own.as_str(),
            Some((Presented::Bearer | Presented::Basic(_), _)) => "authorization",
            Some((Presented::Query(_), _)) | None => return false,
        };
        own.eq_ignore_ascii_case(name)
    }

    /// The query parameter that the credential stands in, if it stands in one.
    pub(super) fn query_name(&self) -> Option<&str> {
        match &self.credential {
            Some((Presented::Query(name), _)) => Some(name),
            _ => None,
        }
    }
}

/// Reads one connection's own keys; its routes are the caller's.
pub(super) fn way(name: &Located<String>, table: &Table<'_>, home: &Path, ambient: &dyn Ambient) -> Option<Way> {
    let origin = origin(table);
    let connect_to = connect_to(table);
    let (authorities, ca_digest) = authorities(table, home, ambient);
    let allow_private = table.bool("allow_private").unwrap_or_default();
    let base = base(table, home);
    let credential = credential(table, home);
    let rate = checked(table, "rate", RateSpec::check);
    let breaker = checked(table, "breaker", BreakerSpec::check);
    if let Some(origin) = &origin
        && origin.scheme() == Scheme::Http
    {
        check_plain(table, allow_private, ca_digest.is_some());
    }
    let origin = origin?;
    let settings = settings(&[
        ("origin", Some(origin.to_string())),
        ("connect_to", connect_to.as_ref().map(ToString::to_string)),
        ("ca", ca_digest.map(|digest| digest.to_string())),
        ("allow_private", allow_private.then(|| "true".to_owned())),
        ("base", Some(base.told(home))),
        (
            "credential",
            credential
                .as_ref()
                .map(|(shown, from)| format!("{} {}", as_text(shown), place(from, home))),
        ),
    ]);
    Some(Way {
        name: name.value.clone(),
        origin,
        connect_to,
        authorities,
        allow_private,
        base,
        credential,
        ca_digest,
        settings,
        rate,
        breaker,
        credential_place: table.key_span("credential"),
        base_place: table.key_span("base"),
    })
}

/// The digest of a connection's settings by name: what is not set is told apart from what is empty.
fn settings(said: &[(&str, Option<String>)]) -> Digest {
    let said: serde_json::Value = said
        .iter()
        .map(|(name, text)| ((*name).to_owned(), serde_json::Value::from(text.clone())))
        .collect::<serde_json::Map<_, _>>()
        .into();
    Digest::domain("ambit/connection/v1", &[said.to_string().as_bytes()])
}

impl BaseText {
    /// As the settings have it.
    fn told(&self, home: &Path) -> String {
        match self {
            Self::Plain(text) => format!("is {text}"),
            Self::Kept(source) => place(source, home),
        }
    }
}

/// Where a secret is read from. A home that moved reads its own files as before.
fn place(source: &Source, home: &Path) -> String {
    match source {
        Source::Env(name) => format!("env {name}"),
        Source::File(path) => format!("file {}", path.strip_prefix(home).unwrap_or(path).display()),
        Source::Command(words) => format!("command {words:?}"),
    }
}

fn as_text(presented: &Presented) -> String {
    match presented {
        Presented::Bearer => "bearer".to_owned(),
        Presented::Header(name) => format!("header {name}"),
        Presented::Basic(user) => format!("basic {user}"),
        Presented::Query(name) => format!("query {name}"),
    }
}

/// A small table of a connection, as routes have it too.
fn checked<S: DeserializeOwned, T>(
    table: &Table<'_>,
    key: &str,
    check: impl FnOnce(&S) -> Result<T, String>,
) -> Option<T> {
    let spec: S = routes::small(table, key)?;
    check(&spec)
        .map_err(|why| {
            let message = format!("{}: {why}", table.what());
            table.source().problem(table.key_span(key), message, "here", None);
        })
        .ok()
}

fn origin(table: &Table<'_>) -> Option<Origin> {
    let Some(text) = table.string("origin") else {
        let help = "say whom requests are for: origin = \"https://api.example.com\"";
        table.missing("origin", help);
        return None;
    };
    let problem = match text.value.parse() {
        Ok(origin) => return Some(origin),
        Err(problem) => problem,
    };
    let message = format!("`origin` of {} is not an origin", table.what());
    table.source().problem(text.span, message, &format!("{problem}"), None);
    None
}

pub(super) fn connect_to(table: &Table<'_>) -> Option<Endpoint> {
    let text = table.string("connect_to")?;
    Endpoint::parse(&text.value)
        .map_err(|why| {
            let message = format!("`connect_to` of {} is not a host and port", table.what());
            let help = "as in \"127.0.0.1:8443\" or \"[::1]:8443\"".to_owned();
            table.source().problem(text.span, message, &why, Some(help));
        })
        .ok()
}

pub(super) fn authorities(table: &Table<'_>, home: &Path, ambient: &dyn Ambient) -> (Authorities, Option<Digest>) {
    let Some(path) = table.string("ca") else {
        return (Authorities::Public, None);
    };
    let read = ambient
        .read(&home.join(&path.value))
        .map_err(|error| format!("cannot be read: {error}"))
        .and_then(|pem| Ok((Authorities::from_pem(&pem)?, Digest::of(&pem))));
    match read {
        Ok((authorities, digest)) => (authorities, Some(digest)),
        Err(why) => {
            let message = format!("the authorities of {} cannot be used", table.what());
            let help = "a file with certificates in PEM form, its path from the home".to_owned();
            table.source().problem(path.span, message, &why, Some(help));
            (Authorities::Public, None)
        }
    }
}

/// Plain http has neither a proof of who answers nor anything to hide a credential in.
fn check_plain(table: &Table<'_>, allow_private: bool, has_ca: bool) {
    if !guard!("config.plaintext", allow_private) {
        table.source().problem(
            table.key_span("origin"),
            format!("{} speaks plain http", table.what()),
            "not protected",
            Some(
                "use an https origin; for a service on this machine or network set `allow_private = true`: plain http goes nowhere else"
                    .into(),
            ),
        );
    }
    if has_ca {
        table.source().problem(
            table.key_span("ca"),
            format!("{} has a `ca` and a plain http origin", table.what()),
            "would not be used",
            None,
        );
    }
}

fn base(table: &Table<'_>, home: &Path) -> BaseText {
    match table.value("base") {
        None => BaseText::Plain(String::new()),
        Some(value) if matches!(value.get_ref(), DeValue::Table(_)) => table
            .table("base", format!("the base of {}", table.what()))
            .and_then(|kept| {
                let source = source(&kept, home);
                kept.done();
                source
            })
            .map_or(BaseText::Plain(String::new()), BaseText::Kept),
        Some(_) => {
            let text = table.string("base");
            if let Some(text) = &text
                && let Err(why) = check_base(&text.value)
            {
                let message = format!("`base` of {} is not a path", table.what());
                let help = "as in \"/v1\", or where to read it: { env = \"…\" }".to_owned();
                table.source().problem(text.span.clone(), message, why, Some(help));
            }
            BaseText::Plain(text.map(|text| text.value).unwrap_or_default())
        }
    }
}

const CREDENTIAL_HELP: &str = "say where to read it and how to show it: { env = \"API_KEY\", as = \"bearer\" }";

fn credential(table: &Table<'_>, home: &Path) -> Option<(Presented, Source)> {
    let value = table.value("credential")?;
    if !matches!(value.get_ref(), DeValue::Table(_)) {
        // Most likely the secret itself: it must not be shown.
        table.source().cover(value.span());
        let message = format!("`credential` of {} is not the secret itself", table.what());
        table
            .source()
            .problem(value.span(), message, "expected a table", Some(CREDENTIAL_HELP.into()));
        return None;
    }
    let inner = table.table("credential", format!("the credential of {}", table.what()))?;
    let source = source(&inner, home);
    let presented = presented(&inner);
    inner.done();
    Some((presented?, source?))
}

/// `env`, `file` or `command`: exactly one.
fn source(table: &Table<'_>, home: &Path) -> Option<Source> {
    let env = table.string("env").map(|name| Source::Env(name.value));
    let file = table
        .string("file")
        .map(|path| Source::File(home.join(PathBuf::from(path.value))));
    let command = table
        .strings("command")
        .map(|words| Source::Command(words.into_iter().map(|word| word.value).collect()));
    if matches!(&command, Some(Source::Command(words)) if words.is_empty()) {
        let message = format!("`command` of {} names no program", table.what());
        table
            .source()
            .problem(table.key_span("command"), message, "empty", None);
    }
    let mut named = [env, file, command].into_iter().flatten();
    match (named.next(), named.next()) {
        (Some(source), None) => Some(source),
        (None, _) => {
            if !["env", "file", "command"].into_iter().any(|key| table.has(key)) {
                table.missing(
                    "env",
                    "one of: env = \"NAME\", file = \"path\", command = [\"program\", \"argument\"]",
                );
            }
            None
        }
        (Some(_), Some(_)) => {
            let message = format!("{} is read from two places", table.what());
            table
                .source()
                .problem(table.span(), message, "one of these is enough", None);
            None
        }
    }
}

const AS_HELP: &str = "\"bearer\", { header = \"X-Api-Key\" }, { basic = \"user name\" } or { query = \"parameter\" }";

fn presented(table: &Table<'_>) -> Option<Presented> {
    let Some(value) = table.value("as") else {
        table.missing("as", &format!("how the service wants to see it: {AS_HELP}"));
        return None;
    };
    match value.get_ref() {
        DeValue::String(word) if word == "bearer" => Some(Presented::Bearer),
        DeValue::Table(_) => {
            let inner = table.table("as", "`as`")?;
            let presented = presented_in(&inner, value);
            inner.done();
            presented
        }
        _ => {
            wrong_as(table, value);
            None
        }
    }
}

fn presented_in(table: &Table<'_>, value: &Spanned<DeValue<'_>>) -> Option<Presented> {
    let header = table.string("header");
    let basic = table.string("basic").map(|user| Presented::Basic(user.value));
    let query = table.string("query").map(|name| Presented::Query(name.value));
    let header = header.and_then(|name| {
        let parsed = HeaderName::from_bytes(name.value.as_bytes()).ok();
        let usable = parsed.filter(|name| !is_framing(name.as_str()));
        if usable.is_none() {
            let message = format!("`{}` cannot be a credential's header", name.value.escape_debug());
            table
                .source()
                .problem(name.span, message, "not a header that can be set", None);
        }
        usable.map(Presented::Header)
    });
    let mut named = [header, basic, query].into_iter().flatten();
    let first = named.next();
    if named.next().is_some() || (first.is_none() && !table.has("header")) {
        wrong_as(table, value);
        return None;
    }
    if let Some(Presented::Basic(user)) = &first
        && user.contains([':', '\r', '\n'])
    {
        let message = "a user name of Basic authentication has no colon and no line end";
        table.source().problem(value.span(), message, "not a user name", None);
    }
    first
}

fn wrong_as(table: &Table<'_>, value: &Spanned<DeValue<'_>>) {
    let help = format!("one of: {AS_HELP}");
    table.source().problem(
        value.span(),
        "`as` does not say how the credential is shown",
        "not known",
        Some(help),
    );
}
