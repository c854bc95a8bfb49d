//! `[connection.*]`: whom tools can be bound to, how a socket gets there, and with which credential.

use std::ops::Range;
use std::path::{Path, PathBuf};

use ambit_core::digest::Digest;
use ambit_core::effect::{Origin, Scheme};
use ambit_core::flow::{BreakerRule, BreakerSpec, Rate, RateSpec};
use ambit_core::guard;
use ambit_core::trace::{TRACEPARENT, TRACESTATE};
use serde::de::DeserializeOwned;
use toml::de::DeValue;

use super::credential::{Credential, Near, credential, source};
use super::reader::{Located, Table};
use super::routes;
use crate::gate::resolve::Endpoint;
use crate::gate::{Authorities, Base, Upstream, UpstreamParts, check_base, is_framing, is_hosts_own};
use crate::secret::{Ambient, Source};

/// How a connection's service is reached. Names where its secrets are; holds none.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) name: String,
    /// What paths of files start from.
    home: PathBuf,
    pub(super) origin: Origin,
    connect_to: Option<Endpoint>,
    authorities: Authorities,
    allow_private: bool,
    /// Whether the service learns which trace a request is part of.
    trace: bool,
    base: BaseText,
    pub(super) credential: Option<Credential>,
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
pub(super) enum BaseText {
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
            Some(credential) => Some(credential.open(&self.name, &self.home, ambient).map_err(|why| {
                (
                    self.credential_place.clone(),
                    format!("the credential of connection `{}`: {why}", self.name),
                )
            })?),
        };
        Upstream::new(UpstreamParts {
            name: self.name.clone(),
            origin: self.origin.clone(),
            connect_to: self.connect_to.clone(),
            authorities: self.authorities.clone(),
            allow_private: self.allow_private,
            trace: self.trace,
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
        self.is_credentials(name) || is_hosts_own(name) || self.is_traces(name)
    }

    /// Whether tokens are asked for, so that its routes have scopes.
    pub(super) fn takes_scopes(&self) -> bool {
        self.credential.as_ref().is_some_and(Credential::is_minted)
    }

    /// Whether each of its tokens has scopes, whatever its route says.
    pub(super) fn has_scopes(&self) -> bool {
        self.credential.as_ref().is_some_and(Credential::has_scopes)
    }

    /// Whether an idempotency key cannot stand in a header.
    pub(super) fn cannot_hold_key(&self, name: &str) -> bool {
        self.is_credentials(name) || is_framing(name) || self.is_traces(name)
    }

    /// Whether it says which trace a request is part of, and the host says so here. What others keep in a trace is no guest's beside that.
    fn is_traces(&self, name: &str) -> bool {
        self.trace
            && [TRACEPARENT, TRACESTATE]
                .iter()
                .any(|own| name.eq_ignore_ascii_case(own))
    }

    fn is_credentials(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.credential
            .as_ref()
            .is_some_and(|credential| credential.sets(&name))
    }

    /// The query parameter that the credential stands in, if it stands in one.
    pub(super) fn query_name(&self) -> Option<&str> {
        self.credential.as_ref().and_then(Credential::query_name)
    }
}

/// Reads one connection's own keys; its routes are the caller's.
pub(super) fn way(name: &Located<String>, table: &Table<'_>, home: &Path, ambient: &dyn Ambient) -> Option<Way> {
    let to = To {
        origin: origin(table),
        base: base(table, home),
        allow_private: table.bool("allow_private").unwrap_or_default(),
        key: "origin",
    };
    let rate = checked(table, "rate", RateSpec::check);
    let breaker = checked(table, "breaker", BreakerSpec::check);
    let trace = table.bool("trace").unwrap_or_default();
    Some(Way {
        trace,
        rate,
        breaker,
        ..way_to(&name.value, to, table, home, ambient)?
    })
}

/// Where a way leads, as far as each kind says it in its own words.
pub(super) struct To {
    pub(super) origin: Option<Origin>,
    pub(super) base: BaseText,
    pub(super) allow_private: bool,
    /// The key that the origin is from.
    pub(super) key: &'static str,
}

/// The rest of a way, which is the same for all: where the socket goes, who may be there, and what they are shown.
pub(super) fn way_to(name: &str, to: To, table: &Table<'_>, home: &Path, ambient: &dyn Ambient) -> Option<Way> {
    let To {
        origin,
        base,
        allow_private,
        key,
    } = to;
    let connect_to = connect_to(table);
    let (authorities, ca_digest) = authorities(table, home, ambient);
    let near = Near {
        origin: origin.clone(),
        connect_to: connect_to.clone(),
        authorities: authorities.clone(),
        ca_digest,
        allow_private,
    };
    let credential = credential(name, table, home, ambient, &near);
    if let Some(origin) = &origin
        && origin.scheme() == Scheme::Http
    {
        check_plain(table, key, allow_private, ca_digest.is_some());
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
            credential.as_ref().map(|credential| credential.told(home)),
        ),
    ]);
    Some(Way {
        name: name.to_owned(),
        home: home.to_owned(),
        origin,
        connect_to,
        authorities,
        allow_private,
        trace: false,
        base,
        credential,
        ca_digest,
        settings,
        rate: None,
        breaker: None,
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
pub(super) fn place(source: &Source, home: &Path) -> String {
    match source {
        Source::Env(name) => format!("env {name}"),
        Source::File(path) => format!("file {}", path.strip_prefix(home).unwrap_or(path).display()),
        Source::Command(words) => format!("command {words:?}"),
    }
}

/// A small table of a connection, as routes have it too.
pub(super) fn checked<S: DeserializeOwned, T>(
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
fn check_plain(table: &Table<'_>, key: &str, allow_private: bool, has_ca: bool) {
    if !guard!("config.plaintext", allow_private) {
        table.source().problem(
            table.key_span(key),
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
