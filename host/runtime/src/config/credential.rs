//! `credential` of a connection: what its service is shown, and where that comes from.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ambit_core::credential::hmac::{Algorithm, Encoding};
use ambit_core::credential::{Kind, ScopeWord, TokenEndpoint, TokenSpec};
use ambit_core::digest::Digest;
use ambit_core::effect::{Origin, Scheme};
use ambit_core::error::printable;
use ambit_core::guard;
use ambit_core::json::Json;
use http::HeaderName;
use toml::Spanned;
use toml::de::DeValue;

use super::connection::{authorities, connect_to, place};
use super::reader::{Located, Table};
use crate::gate::resolve::Endpoint;
use crate::gate::{
    Assertor, Authorities, ClientAuth, Minter, MinterParts, Presented, SharedSecret, Shown, SigV4, SigningKey,
    is_aws_header, is_framing, split_url,
};
use crate::secret::{Ambient, Source};

/// What a connection's service is shown. Names where secrets are; holds none.
#[derive(Clone, Debug)]
pub(super) enum Credential {
    /// A secret that stays the same.
    Kept(Presented, Source),
    /// `{ sigv4 = … }`
    SigV4(Box<Aws>),
    /// `{ hmac = … }`
    Hmac(Box<Shared>),
    /// `{ oauth2 = … }` and `{ exchange = … }`
    Minted(Box<Minted>),
}

#[derive(Clone, Debug)]
pub(super) struct Aws {
    region: String,
    service: String,
    access_key_id: String,
    secret_access_key: Source,
    session_token: Option<Source>,
}

#[derive(Clone, Debug)]
pub(super) struct Shared {
    secret: Source,
    header: HeaderName,
    time_header: HeaderName,
    algorithm: Algorithm,
    encoding: Encoding,
}

#[derive(Clone, Debug)]
pub(super) struct Minted {
    asks: TokenEndpoint,
    /// What of it decides where requests go and in whose name.
    url: String,
    scopes: BTreeSet<ScopeWord>,
    audience: Option<String>,
    resource: Option<String>,
    client: Option<Client>,
    /// What the home says about callers.
    says: Option<Says>,
    way: Near,
}

#[derive(Clone, Debug)]
struct Client {
    id: String,
    /// With its secret, and whether that stands in the form.
    secret: Option<(Source, bool)>,
}

#[derive(Clone, Debug)]
struct Says {
    issuer: String,
    audience: String,
    key: PathBuf,
}

/// How a socket gets to a service. What gives out its tokens at the same origin is reached in the same way, where nothing else is said.
#[derive(Clone, Debug, Default)]
pub(super) struct Near {
    pub(super) origin: Option<Origin>,
    pub(super) connect_to: Option<Endpoint>,
    pub(super) authorities: Authorities,
    pub(super) ca_digest: Option<Digest>,
    pub(super) allow_private: bool,
}

impl Credential {
    /// Reads the secrets.
    ///
    /// # Errors
    /// One clause for the operator; never a secret.
    pub(super) fn open(&self, name: &str, home: &Path, ambient: &dyn Ambient) -> Result<Shown, String> {
        match self {
            Self::Kept(presented, source) => Ok(Shown::Kept(presented.clone(), source.read(ambient)?)),
            Self::SigV4(aws) => Ok(Shown::SigV4(SigV4 {
                region: aws.region.clone(),
                service: aws.service.clone(),
                access_key_id: aws.access_key_id.clone(),
                secret_access_key: aws.secret_access_key.read(ambient)?,
                session_token: aws
                    .session_token
                    .as_ref()
                    .map(|source| source.read(ambient))
                    .transpose()?,
            })),
            Self::Hmac(shared) => Ok(Shown::Signed(SharedSecret {
                secret: shared.secret.read(ambient)?,
                header: shared.header.clone(),
                time_header: shared.time_header.clone(),
                algorithm: shared.algorithm,
                encoding: shared.encoding,
            })),
            Self::Minted(minted) => Ok(Shown::Minted(Box::new(minted.open(name, home, ambient)?))),
        }
    }

    /// Whether it sets a header of this name, in small letters.
    pub(super) fn sets(&self, name: &str) -> bool {
        match self {
            Self::Kept(Presented::Header(own), _) => own.as_str() == name,
            Self::Kept(Presented::Bearer | Presented::Basic(_), _) | Self::Minted(_) => name == "authorization",
            Self::Kept(Presented::Query(_) | Presented::Form(_), _) => false,
            Self::SigV4(_) => is_aws_header(name),
            Self::Hmac(shared) => [&shared.header, &shared.time_header]
                .iter()
                .any(|own| own.as_str() == name),
        }
    }

    /// The query parameter that it stands in, if it stands in one.
    pub(super) fn query_name(&self) -> Option<&str> {
        match self {
            Self::Kept(Presented::Query(name), _) => Some(name),
            _ => None,
        }
    }

    /// Whether tokens are asked for, so that routes have scopes.
    pub(super) const fn is_minted(&self) -> bool {
        matches!(self, Self::Minted(_))
    }

    /// Whether each token that is asked for has scopes.
    pub(super) fn has_scopes(&self) -> bool {
        matches!(self, Self::Minted(minted) if !minted.scopes.is_empty())
    }

    /// The digest of the file of authorities that its own way names.
    pub(super) fn ca_digest(&self) -> Option<Digest> {
        match self {
            Self::Minted(minted) => minted.way.ca_digest,
            _ => None,
        }
    }

    /// The public half of the key that it signs with what the home says about callers, as services take it; none where it says nothing.
    ///
    /// # Errors
    /// One clause: the key cannot be read.
    pub(super) fn jwks(&self, home: &Path, ambient: &dyn Ambient) -> Result<Option<Json>, String> {
        match self {
            Self::Minted(minted) => match &minted.says {
                Some(says) => Ok(Some(says.key(home, ambient)?.jwks())),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// As the settings have it: all that decides in whose name requests go, but for secrets.
    pub(super) fn told(&self, home: &Path) -> String {
        match self {
            Self::Kept(shown, from) => format!("{} {}", as_text(shown), place(from, home)),
            Self::SigV4(aws) => format!(
                "sigv4 {} {} {} {} {:?}",
                aws.region,
                aws.service,
                aws.access_key_id,
                place(&aws.secret_access_key, home),
                aws.session_token.as_ref().map(|source| place(source, home)),
            ),
            Self::Hmac(shared) => format!(
                "hmac {} {} {} {} {}",
                shared.header,
                shared.time_header,
                shared.algorithm,
                shared.encoding,
                place(&shared.secret, home),
            ),
            Self::Minted(minted) => minted.told(home),
        }
    }
}

impl Minted {
    fn open(&self, name: &str, home: &Path, ambient: &dyn Ambient) -> Result<Minter, String> {
        let client = match &self.client {
            None | Some(Client { secret: None, .. }) => ClientAuth::None,
            Some(Client {
                id,
                secret: Some((source, in_form)),
            }) => {
                let secret = source.read(ambient)?;
                if *in_form {
                    ClientAuth::Form(secret)
                } else {
                    ClientAuth::Basic(id.clone(), secret)
                }
            }
        };
        let assertor = match &self.says {
            None => None,
            Some(says) => Some(Assertor {
                issuer: says.issuer.clone(),
                audience: says.audience.clone(),
                key: says.key(home, ambient)?,
            }),
        };
        Minter::new(MinterParts {
            name: name.to_owned(),
            asks: self.asks.clone(),
            client,
            assertor,
            connect_to: self.way.connect_to.clone(),
            authorities: self.way.authorities.clone(),
            allow_private: self.way.allow_private,
        })
    }

    fn told(&self, home: &Path) -> String {
        let says = self.says.as_ref().map(|says| (&says.issuer, &says.audience, &says.key));
        let client = self.client.as_ref().map(|client| {
            let secret = client.secret.as_ref();
            (
                &client.id,
                secret.map(|(source, in_form)| (place(source, home), *in_form)),
            )
        });
        let way = &self.way;
        format!(
            "{:?} {} {:?} {:?} {:?} {client:?} {says:?} {:?} {:?} {}",
            self.asks.kind(),
            self.url,
            self.scopes,
            self.audience,
            self.resource,
            way.connect_to.as_ref().map(ToString::to_string),
            way.ca_digest,
            way.allow_private,
        )
    }
}

impl Says {
    fn key(&self, home: &Path, ambient: &dyn Ambient) -> Result<SigningKey, String> {
        let path = home.join(&self.key);
        let pem = ambient
            .read(&path)
            .map(zeroize::Zeroizing::new)
            .map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?;
        SigningKey::from_pem(&pem).map_err(|why| format!("the file {} {why}", path.display()))
    }
}

const CREDENTIAL_HELP: &str = "say where to read it and how to show it: { env = \"API_KEY\", as = \"bearer\" }";

/// The ways beside a secret that stays the same.
const MADE: [&str; 4] = ["oauth2", "exchange", "sigv4", "hmac"];

/// Reads `credential` of a connection.
pub(super) fn credential(
    name: &str,
    table: &Table<'_>,
    home: &Path,
    ambient: &dyn Ambient,
    near: &Near,
) -> Option<Credential> {
    let inner = hidden(
        table,
        "credential",
        format!("the credential of {}", table.what()),
        CREDENTIAL_HELP,
    )?;
    let of = |key: &str| inner.table(key, format!("`{key}` of the credential of {}", table.what()));
    let made: Vec<&str> = MADE.into_iter().filter(|key| inner.has(key)).collect();
    let credential = match made.as_slice() {
        [] => {
            let source = source(&inner, home);
            let presented = presented(&inner);
            // Asked for, so that a key which is nearly one of them is told.
            for key in MADE {
                let _ = inner.value(key);
            }
            presented
                .zip(source)
                .map(|(presented, source)| Credential::Kept(presented, source))
        }
        [one] => of(one).and_then(|way| {
            way.is_of_secret();
            let read = match *one {
                "sigv4" => sigv4(&way, home).map(|aws| Credential::SigV4(Box::new(aws))),
                "hmac" => hmac(&way, home).map(|shared| Credential::Hmac(Box::new(shared))),
                kind => minted((name, &way), kind == "exchange", home, ambient, near)
                    .map(|minted| Credential::Minted(Box::new(minted))),
            };
            way.done();
            read
        }),
        [_, second, ..] => {
            let message = format!("the credential of {} is shown in two ways", table.what());
            inner
                .source()
                .problem(inner.key_span(second), message, "one of these is enough", None);
            return None;
        }
    };
    inner.done();
    credential
}

/// A table that says where a secret is. What stands there in its place is most likely the secret itself, and is not shown.
pub(super) fn hidden<'a>(table: &Table<'a>, key: &str, what: String, help: &str) -> Option<Table<'a>> {
    let value = table.value(key)?;
    if !matches!(value.get_ref(), DeValue::Table(_)) {
        table.source().cover(value.span());
        let message = format!("`{key}` of {} is not the secret itself", table.what());
        table
            .source()
            .problem(value.span(), message, "expected a table", Some(help.to_owned()));
        return None;
    }
    let inner = table.table(key, what);
    inner.iter().for_each(Table::is_of_secret);
    inner
}

/// Where a secret of a credential is read.
fn secret(table: &Table<'_>, key: &str, home: &Path) -> Option<Source> {
    let help = format!("say where to read it: {key} = {{ env = \"NAME\" }}");
    let inner = hidden(table, key, format!("`{key}` of {}", table.what()), &help)?;
    let source = source(&inner, home);
    inner.done();
    source
}

fn needed(table: &Table<'_>, key: &str, home: &Path) -> Option<Source> {
    table.missing(
        key,
        &format!("{key} = {{ env = \"NAME\" }}, {{ file = \"path\" }} or {{ command = [\"program\"] }}"),
    );
    secret(table, key, home)
}

/// A text that stands in a request: without control characters, and not empty.
fn text(table: &Table<'_>, key: &str) -> Option<String> {
    let text = table.string(key)?;
    let plain = !text.value.is_empty() && text.value.len() <= 2048 && !text.value.chars().any(char::is_control);
    if !plain {
        let message = format!(
            "`{key}` of {} is empty, too long, or has a control character",
            table.what()
        );
        // A key that stands where its path belongs has line ends.
        table.source().cover(text.span.clone());
        table.source().problem(text.span, message, "cannot be sent", None);
        return None;
    }
    Some(text.value)
}

fn needed_text(table: &Table<'_>, key: &str, help: &str) -> Option<String> {
    table.missing(key, help);
    text(table, key)
}

/// A word of a signature's scope.
fn word(table: &Table<'_>, key: &str, help: &str) -> Option<String> {
    let text = needed_text(table, key, help)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !text.bytes().all(plain) {
        let message = format!(
            "`{key}` of {} has other characters than letters, digits and -_.",
            table.what()
        );
        table
            .source()
            .problem(table.key_span(key), message, "cannot be signed", None);
        return None;
    }
    Some(text)
}

fn sigv4(table: &Table<'_>, home: &Path) -> Option<Aws> {
    let region = word(table, "region", "region = \"eu-central-1\"");
    let service = word(table, "service", "service = \"dynamodb\"");
    let access_key_id = word(
        table,
        "access_key_id",
        "the key's name, which is no secret: access_key_id = \"AKIA…\"",
    );
    let secret_access_key = needed(table, "secret_access_key", home);
    let session_token = secret(table, "session_token", home);
    if table.has("session_token") && session_token.is_none() {
        return None;
    }
    Some(Aws {
        region: region?,
        service: service?,
        access_key_id: access_key_id?,
        secret_access_key: secret_access_key?,
        session_token,
    })
}

fn hmac(table: &Table<'_>, home: &Path) -> Option<Shared> {
    let secret = needed(table, "secret", home);
    let header = needed_header(table, "header", "the signature's: header = \"X-Signature\"");
    let time_header = needed_header(
        table,
        "time_header",
        "that of the moment that is signed: time_header = \"X-Timestamp\"",
    );
    let algorithm = choice(
        table,
        "algorithm",
        &[("sha256", Algorithm::Sha256), ("sha512", Algorithm::Sha512)],
    );
    let encoding = choice(
        table,
        "encoding",
        &[("hex", Encoding::Hex), ("base64", Encoding::Base64)],
    );
    let (header, time_header) = (header?, time_header?);
    if header == time_header {
        let message = format!("`header` and `time_header` of {} are one", table.what());
        table
            .source()
            .problem(table.key_span("time_header"), message, "the same header", None);
        return None;
    }
    Some(Shared {
        secret: secret?,
        header,
        time_header,
        algorithm: algorithm?,
        encoding: encoding?,
    })
}

/// One of some words; the first, where nothing is said.
fn choice<T: Copy>(table: &Table<'_>, key: &str, words: &[(&str, T)]) -> Option<T> {
    let Some(said) = table.string(key) else {
        return words.first().filter(|_| !table.has(key)).map(|(_, value)| *value);
    };
    let found = words.iter().find(|(word, _)| *word == said.value);
    if found.is_none() {
        let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let message = format!("`{key}` of {} is `{}`", table.what(), printable(&said.value));
        table.source().problem(
            said.span,
            message,
            "not known",
            Some(format!("one of: {}", known.join(", "))),
        );
    }
    found.map(|(_, value)| *value)
}

fn minted(
    (name, table): (&str, &Table<'_>),
    exchange: bool,
    home: &Path,
    ambient: &dyn Ambient,
    near: &Near,
) -> Option<Minted> {
    table.missing(
        "token_url",
        "where tokens are given out: token_url = \"https://id.example.com/oauth/token\"",
    );
    let url = table.string("token_url");
    let place = url.as_ref().and_then(|url| {
        let problem = |why: String| {
            let message = format!("`token_url` of {} {why}", table.what());
            table.source().problem(url.span.clone(), message, "not usable", None);
        };
        let (origin, path) = split_url(&url.value).map_err(problem).ok()?;
        if path.contains('?') {
            problem("has a query".to_owned());
            return None;
        }
        let path = if path.is_empty() { "/" } else { path };
        Some((origin, path.to_owned()))
    });
    let way = way(table, home, ambient, place.as_ref().map(|(origin, _)| origin), near);
    let scopes = scopes(table);
    let (audience, resource) = (text(table, "audience"), text(table, "resource"));
    let client = client(table, exchange, home);
    let says = if exchange {
        Some(says(table, url.as_ref()))
    } else {
        None
    };
    let (origin, path) = place?;
    if origin.scheme() == Scheme::Http && !guard!("config.token-plaintext", way.allow_private) {
        let message = format!("`token_url` of {} is plain http", table.what());
        let help =
            "use an https address; for a service on this machine or network set `allow_private = true`".to_owned();
        table
            .source()
            .problem(table.key_span("token_url"), message, "not protected", Some(help));
        return None;
    }
    let (client, scopes) = (client.ok()?, scopes?);
    let spec = TokenSpec {
        kind: if exchange {
            Kind::Exchange
        } else {
            Kind::ClientCredentials
        },
        origin,
        path,
        scopes: scopes.clone(),
        audience: audience.clone(),
        resource: resource.clone(),
        // Where it stands in no header, it stands in the form.
        client_id: client
            .as_ref()
            .filter(|client| !matches!(client.secret, Some((_, false))))
            .map(|client| client.id.clone()),
    };
    let asks = TokenEndpoint::new(name, spec)
        .map_err(|why| {
            let message = format!("{}: {why}", table.what());
            table.source().problem(table.span(), message, "cannot be asked", None);
        })
        .ok()?;
    Some(Minted {
        asks,
        url: url?.value,
        scopes,
        audience,
        resource,
        client,
        says: match says {
            None => None,
            Some(says) => Some(says?),
        },
        way,
    })
}

/// How a socket gets to whoever gives out tokens.
fn way(table: &Table<'_>, home: &Path, ambient: &dyn Ambient, origin: Option<&Origin>, near: &Near) -> Near {
    let said = ["connect_to", "ca", "allow_private"]
        .into_iter()
        .any(|key| table.has(key));
    let own = Near {
        origin: None,
        connect_to: connect_to(table),
        allow_private: table.bool("allow_private").unwrap_or_default(),
        ..Near::default()
    };
    let (authorities, ca_digest) = authorities(table, home, ambient);
    if !said && origin.is_some() && origin == near.origin.as_ref() {
        return near.clone();
    }
    Near {
        authorities,
        ca_digest,
        ..own
    }
}

fn scopes(table: &Table<'_>) -> Option<BTreeSet<ScopeWord>> {
    let Some(texts) = table.strings("scopes") else {
        return (!table.has("scopes")).then(BTreeSet::new);
    };
    let word = |text: Located<String>| {
        let parsed = text.value.parse::<ScopeWord>();
        parsed
            .map_err(|why| {
                let message = format!("`scopes` of {} has `{}`", table.what(), printable(&text.value));
                table.source().problem(text.span, message, &why, None);
            })
            .ok()
    };
    // All that are wrong are told.
    let words: Vec<Option<ScopeWord>> = texts.into_iter().map(word).collect();
    words.into_iter().collect()
}

/// Who asks for tokens: nobody in particular, where what is exchanged says enough.
///
/// # Errors
/// Where something about it is wrong, which is reported.
fn client(table: &Table<'_>, exchange: bool, home: &Path) -> Result<Option<Client>, ()> {
    let in_form = choice(table, "client_auth", &[("basic", false), ("post", true)]);
    if exchange && table.has("client_auth") && !table.has("client_secret") {
        let message = format!("`client_auth` of {} means nothing here", table.what());
        let help = "it is how a secret is shown: name that as `client_secret`, or leave it out".to_owned();
        let place = table.key_span("client_auth");
        table.source().problem(place, message, "of no secret", Some(help));
    }
    let alone = exchange && !table.has("client_id") && !table.has("client_secret");
    if alone {
        // Asked for, so that they are known.
        let _ = (table.value("client_id"), table.value("client_secret"));
        return Ok(None);
    }
    let id = needed_text(table, "client_id", "the name that the issuer knows this host by");
    if exchange && !table.has("client_secret") {
        let _ = table.value("client_secret");
        return id.map(|id| Some(Client { id, secret: None })).ok_or(());
    }
    let secret = needed(table, "client_secret", home);
    match (id, secret, in_form) {
        (Some(id), Some(secret), Some(in_form)) => Ok(Some(Client {
            id,
            secret: Some((secret, in_form)),
        })),
        _ => Err(()),
    }
}

/// What the home says about callers, and with which key.
fn says(table: &Table<'_>, url: Option<&Located<String>>) -> Option<Says> {
    let issuer = needed_text(
        table,
        "issuer",
        "what the service knows this home by: issuer = \"https://ambit.example.com\"",
    );
    let audience = text(table, "assertion_audience");
    let key = needed_text(
        table,
        "key",
        "a private key in PEM form, its path from the home; `ambit connections jwks` prints its public half",
    );
    let audience = match audience {
        Some(audience) => audience,
        None => url.filter(|_| !table.has("assertion_audience"))?.value.clone(),
    };
    Some(Says {
        issuer: issuer?,
        audience,
        key: PathBuf::from(key?),
    })
}

/// `env`, `file` or `command`: exactly one.
pub(super) fn source(table: &Table<'_>, home: &Path) -> Option<Source> {
    table.is_of_secret();
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
    let header = header(table, "header").map(Presented::Header);
    let basic = table.string("basic").map(|user| Presented::Basic(user.value));
    let query = table.string("query").map(|name| Presented::Query(name.value));
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

/// A header that can be set.
fn header(table: &Table<'_>, key: &str) -> Option<HeaderName> {
    let name = table.string(key)?;
    let parsed = HeaderName::from_bytes(name.value.as_bytes()).ok();
    let usable = parsed.filter(|name| !is_framing(name.as_str()));
    if usable.is_none() {
        let message = format!("`{}` cannot be a credential's header", name.value.escape_debug());
        table
            .source()
            .problem(name.span, message, "not a header that can be set", None);
    }
    usable
}

fn needed_header(table: &Table<'_>, key: &str, help: &str) -> Option<HeaderName> {
    table.missing(key, help);
    header(table, key)
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

fn as_text(presented: &Presented) -> String {
    match presented {
        Presented::Bearer => "bearer".to_owned(),
        Presented::Header(name) => format!("header {name}"),
        Presented::Basic(user) => format!("basic {user}"),
        Presented::Query(name) => format!("query {name}"),
        Presented::Form(name) => format!("form {name}"),
    }
}

#[cfg(test)]
#[path = "credential_tests.rs"]
mod tests;
