//! `[server]`: how agents are served over HTTP, and who may say who they are.

mod operators;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use ambit_core::digest::Digest;
use ambit_core::effect::Scheme;
use ambit_core::error::printable;
use ambit_core::guard;
use ambit_core::identity::AgentSpec;
use ambit_core::identity::claims::{ClaimNames, Issuer, MOST_LEEWAY_S, Pointer, Subjects, USUAL_LIFETIME_S};
use ambit_core::identity::token::Algorithm;
use ambit_core::route::duration;

use super::connection::{authorities, connect_to};
use super::reader::{Located, Table};
use super::sections::unknown;
use super::{check_name, is_name};
use crate::gate::{Document, DocumentWay, split_url};
use crate::secret::Ambient;

pub use operators::OperatorsConfig;
pub use tls::{SpiffeConfig, TlsConfig};

/// Where agents are served, if nothing else is said: on this machine alone.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8787);
/// The largest body of a request, if nothing else is said: arguments of 1 MiB with what is around them.
const REQUEST_BYTES: u64 = 2 << 20;
/// The most that a body of a request may be set to.
const MOST_REQUEST_BYTES: u64 = 16 << 20;
/// How long calls go on once the process is told to end, if nothing else is said, in seconds.
pub const DRAIN_S: u64 = 10;
/// The most that this may be set to: whoever runs the process waits no longer either.
const MOST_DRAIN_S: u64 = 600;
/// Connections at a time, if nothing else is said.
const CONNECTIONS: u64 = 512;
/// The most that they may be set to: each has a file descriptor and some 50 KiB.
const MOST_CONNECTIONS: u64 = 16_384;
/// How far a clock may be off, if nothing else is said, in seconds.
const LEEWAY_S: u64 = 30;
/// The longest that a token may be good for, in seconds: a week.
const LONGEST_S: u64 = 7 * 86_400;

/// What is said of serving agents over HTTP.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The address and port that are listened on.
    pub listen: SocketAddr,
    /// What this host is to those who issue tokens for it (RFC 8707); none where it takes its own keys alone.
    pub resource: Option<String>,
    /// The largest body of a request, in bytes.
    pub request_bytes: u64,
    /// How long calls go on once the process is told to end, before they are suspended: 10 seconds, unless named.
    pub drain: Duration,
    /// Connections at a time, of whomever.
    pub connections: usize,
    /// Requests of one agent that are under way at a time.
    pub requests_per_agent: usize,
    /// Calls of one agent that run at a time, of those that the home runs at once.
    pub calls_per_agent: u32,
    /// Where metrics are served, which is not where agents are; none where nobody asked for them.
    pub metrics: Option<SocketAddr>,
    /// Who may say who an agent is, by name.
    pub issuers: Vec<IssuerConfig>,
    /// What agents' listener shows of itself; none where it speaks plain HTTP.
    pub tls: Option<TlsConfig>,
    /// The trust domains whose workloads are known by their certificates. None without TLS.
    pub spiffe: Vec<SpiffeConfig>,
    /// How operators are served beside agents; none where they are not.
    pub operators: Option<OperatorsConfig>,
}

/// An issuer of tokens, and where its keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerConfig {
    /// What its tokens have to say.
    pub rules: Issuer,
    /// Where its keys are.
    pub keys: KeysAt,
    /// How a socket gets there.
    way: DocumentWay,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysAt {
    /// At this URL.
    Url(String),
    /// Where a document says, found from the issuer's own URL: OpenID Connect Discovery, then RFC 8414.
    Discovery([String; 2]),
}

impl IssuerConfig {
    /// The document at a URL, reached as the configuration says of this issuer.
    ///
    /// # Errors
    /// One clause: what is wrong with the URL.
    pub fn document(&self, url: &str) -> Result<Document, String> {
        Document::new(&self.rules.name, url, &self.way)
    }
}

/// `[server]`, and the digests of the files with authorities and certificates that it names.
pub(super) fn server(
    root: &Table<'_>,
    agents: &BTreeMap<String, AgentSpec>,
    concurrent_calls: u32,
    home: &Path,
    ambient: &dyn Ambient,
) -> (Option<ServerConfig>, Vec<Digest>) {
    let Some(table) = root.table("server", "the server's settings") else {
        return (None, Vec::new());
    };
    let listen = address(&table, "listen").unwrap_or(LISTEN);
    let metrics = metrics(&table, listen);
    let connections = within(&table, "connections", CONNECTIONS, 16..=MOST_CONNECTIONS);
    // Half of them: the other half is for the others.
    let requests_per_agent = within(&table, "requests_per_agent", connections / 2, 1..=connections);
    let places = u64::from(concurrent_calls);
    let calls_per_agent = within(&table, "calls_per_agent", (places * 3).div_ceil(4), 1..=places);
    let resource = table.string("resource").and_then(|text| resource(&table, text));
    let request_bytes = within(&table, "request_bytes", REQUEST_BYTES, 1_024..=MOST_REQUEST_BYTES);
    let drain = seconds(&table, "drain", DRAIN_S, MOST_DRAIN_S, "at most ten minutes");
    let mut files = Vec::new();
    let mut issuers: Vec<IssuerConfig> = Vec::new();
    for (name, inner) in table.named("issuer", "issuer") {
        check_name(inner.source(), &name, "issuer");
        let place = inner.key_span("issuer");
        let found = issuer(&name, &inner, resource.as_deref(), agents, home, ambient, &mut files);
        let source = inner.source();
        inner.done();
        let Some(found) = found else { continue };
        let twin = issuers.iter().find(|known| known.rules.issuer == found.rules.issuer);
        if let Some(twin) = twin
            && !guard!("identity.issuer-once", false)
        {
            let message = format!(
                "issuers `{}` and `{}` are the same: `{}`",
                twin.rules.name, found.rules.name, found.rules.issuer
            );
            let help = "a token says its `iss` alone: name each issuer once, with all of its agents".to_owned();
            source.problem(place, message, "again", Some(help));
        }
        issuers.push(found);
    }
    if !issuers.is_empty() {
        table.missing(
            "resource",
            "what this host is to its issuers: resource = \"https://ambit.example.com/mcp\"",
        );
    }
    let (operators, more) = operators::operators(&table, resource.as_deref(), &issuers, home, ambient);
    files.extend(more);
    let reads = tls::Reads { agents, home, ambient };
    let tls = tls::tls(&table, &reads, &mut files);
    let spiffe = tls::spiffe(&table, &reads, &mut files);
    table.done();
    let server = ServerConfig {
        listen,
        resource,
        request_bytes,
        drain: Duration::from_secs(drain),
        connections: usize::try_from(connections).unwrap_or(usize::MAX),
        requests_per_agent: usize::try_from(requests_per_agent).unwrap_or(usize::MAX),
        calls_per_agent: u32::try_from(calls_per_agent).unwrap_or(concurrent_calls),
        metrics,
        issuers,
        tls,
        spiffe,
        operators,
    };
    (Some(server), files)
}

fn address(table: &Table<'_>, key: &str) -> Option<SocketAddr> {
    let text = table.string(key)?;
    let read: Result<SocketAddr, _> = text.value.parse();
    if read.is_err() {
        let help = "an address and a port, as in \"127.0.0.1:8787\" or \"[::1]:8787\"".to_owned();
        let message = format!("`{key}` of the server is not an address and a port");
        table.source().problem(text.span, message, "not an address", Some(help));
    }
    read.ok()
}

/// Names of tools and connections are in metrics: whoever reaches the port of agents, as what stands in front of it does, is not to have them.
fn metrics(table: &Table<'_>, listen: SocketAddr) -> Option<SocketAddr> {
    let metrics = address(table, "metrics")?;
    if !guard!("http.metrics-apart", metrics != listen || metrics.port() == 0) {
        let help = "another port, as in \"127.0.0.1:9478\", which only what collects metrics reaches".to_owned();
        let message = "`metrics` of the server is where agents are served";
        let place = table.key_span("metrics");
        table
            .source()
            .problem(place, message, "the same as `listen`", Some(help));
    }
    Some(metrics)
}

/// A number in a range, or what it is where nothing is said.
fn within(table: &Table<'_>, key: &str, usual: u64, range: RangeInclusive<u64>) -> u64 {
    let Some(number) = table.number(key) else {
        return usual;
    };
    if !guard!("identity.server-range", range.contains(&number.value)) {
        let message = format!("`{key}` of the server is {}", number.value);
        let label = format!("{} to {}", range.start(), range.end());
        table.source().problem(number.span, message, &label, None);
    }
    number.value
}

/// RFC 8707: an absolute URL without a fragment. In the clear only on this machine, where a token goes over no network.
fn resource(table: &Table<'_>, text: Located<String>) -> Option<String> {
    let why = match split_url(&text.value) {
        Err(why) => why,
        Ok((_, rest)) if rest.contains('?') => "has a query".to_owned(),
        Ok((origin, _)) if origin.scheme() == Scheme::Http && !is_loopback(origin.host()) => "is not https".to_owned(),
        Ok(_) => return Some(text.value),
    };
    let help = "the URL that agents use, as in \"https://ambit.example.com/mcp\"".to_owned();
    table.source().problem(
        text.span,
        "`resource` of the server is not a resource's URL",
        &why,
        Some(help),
    );
    None
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host == "[::1]"
        || host
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}

fn issuer(
    name: &Located<String>,
    table: &Table<'_>,
    resource: Option<&str>,
    agents: &BTreeMap<String, AgentSpec>,
    home: &Path,
    ambient: &dyn Ambient,
    files: &mut Vec<Digest>,
) -> Option<IssuerConfig> {
    let any = AnyIssuer::read(table, home, ambient, files);
    let audience = audience(table);
    let claims = claim_names(table);
    let subjects = subjects(table, &claims, "claims = { agent = \"client_id\" }");
    let help = "say which agents its tokens are of: agents = { \"client id\" = \"assistant\" }";
    let mapped = mapped_agents(table, agents, help);
    let mapped = mapped.into_iter().map(|(said, (_, agent))| (said, agent)).collect();
    let users = mapped_users(table, agents);
    let scopes = scopes(table);
    let (issuer, keys) = any.keys(table)?;
    Some(IssuerConfig {
        rules: Issuer {
            name: name.value.clone(),
            audience: audience.or_else(|| resource.map(str::to_owned)).unwrap_or_default(),
            issuer,
            algorithms: any.algorithms,
            claims,
            subjects,
            agents: mapped,
            users,
            scopes,
            required: any.required,
            leeway_s: any.leeway_s,
            longest_s: any.longest_s,
        },
        keys,
        way: any.way,
    })
}

/// What is said alike of every issuer, whoever its tokens are for: where it is, how it signs, and what its tokens have to be.
struct AnyIssuer {
    way: DocumentWay,
    issuer: Option<Located<String>>,
    jwks: Option<Located<String>>,
    algorithms: BTreeSet<Algorithm>,
    required: BTreeSet<String>,
    leeway_s: u64,
    longest_s: u64,
}

impl AnyIssuer {
    fn read(table: &Table<'_>, home: &Path, ambient: &dyn Ambient, files: &mut Vec<Digest>) -> AnyIssuer {
        let connect_to = connect_to(table);
        let (authorities, file) = authorities(table, home, ambient);
        files.extend(file);
        let issuer = table.string("issuer");
        table.missing(
            "issuer",
            "its `iss`, to the letter: issuer = \"https://id.example.com\"",
        );
        let required = table.strings("required_scopes").unwrap_or_default();
        AnyIssuer {
            way: DocumentWay {
                connect_to,
                authorities,
                allow_private: table.bool("allow_private").unwrap_or_default(),
            },
            issuer,
            jwks: table.string("jwks"),
            algorithms: algorithms(table),
            required: required
                .into_iter()
                .filter_map(|word| scope_word(table, word))
                .collect(),
            leeway_s: seconds(table, "leeway", LEEWAY_S, MOST_LEEWAY_S, "at most a minute"),
            longest_s: seconds(table, "longest", USUAL_LIFETIME_S, LONGEST_S, "at most a week"),
        }
    }

    /// Its name in tokens, and where its keys are; nothing where one of them cannot be, which is told.
    fn keys(&self, table: &Table<'_>) -> Option<(String, KeysAt)> {
        let issuer = self.issuer.as_ref()?;
        let keys = keys_at(table, issuer, self.jwks.as_ref(), &self.way)?;
        Some((issuer.value.clone(), keys))
    }
}

/// Where the keys are, with each address looked at now: a slip is found at the start and not at the first token.
fn keys_at(
    table: &Table<'_>,
    issuer: &Located<String>,
    jwks: Option<&Located<String>>,
    way: &DocumentWay,
) -> Option<KeysAt> {
    let check = |url: &str, place: &Range<usize>, key: &str| {
        let checked = Document::new("issuer", url, way).map(drop);
        checked
            .map_err(|why| {
                let help = "an https URL; a plain http one is for addresses of this machine and its networks, with `allow_private = true`";
                let message = format!("`{key}` of {} {why}", table.what());
                table
                    .source()
                    .problem(place.clone(), message, "cannot be read", Some(help.to_owned()));
            })
            .ok()
    };
    if let Some(url) = jwks {
        check(&url.value, &url.span, "jwks")?;
        return Some(KeysAt::Url(url.value.clone()));
    }
    let base = issuer.value.trim_end_matches('/');
    let (origin, path) = split_url(base).ok().unzip();
    let path = path.unwrap_or_default();
    let origin = origin.map(|origin| origin.to_string()).unwrap_or_default();
    let urls = [
        format!("{base}/.well-known/openid-configuration"),
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
    ];
    urls.iter()
        .try_for_each(|url| check(url, &issuer.span, "issuer"))
        .map(|()| KeysAt::Discovery(urls))
}

/// For whom tokens have to be, where it is not `resource`.
fn audience(table: &Table<'_>) -> Option<String> {
    let text = table.string("audience")?;
    if guard!("identity.audience-some", !text.value.is_empty()) {
        return Some(text.value);
    }
    let message = format!("`audience` of {} is empty", table.what());
    let help = "what its tokens say in `aud`; without it that is `resource` of the server".to_owned();
    table.source().problem(
        text.span,
        message,
        "tokens for nobody would be for this host",
        Some(help),
    );
    None
}

/// `subjects = ["svc-7"]`, or `any_subject = true`
///
/// `named` is how the configuration says where the agent, or the operator, is named.
fn subjects(table: &Table<'_>, claims: &ClaimNames, named: &str) -> Subjects {
    let listed = table.strings("subjects");
    let any = table.bool("any_subject").unwrap_or_default();
    let key = if listed.is_some() { "subjects" } else { "any_subject" };
    let problem = |message: String, label: &str, help: &str| {
        table
            .source()
            .problem(table.key_span(key), message, label, Some(help.to_owned()));
    };
    let said = listed.is_some() || table.has("any_subject");
    if said && (claims.agent.is_none() || claims.user.is_some()) {
        problem(
            format!("`{key}` of {} means nothing here", table.what()),
            "of no token",
            &format!("it is for tokens that say by a claim of its own who calls, and name no user: {named}"),
        );
    }
    match (listed, any) {
        (Some(_), true) => {
            let message = format!("{} has both `subjects` and `any_subject`", table.what());
            problem(
                message,
                "one of them",
                "`any_subject` is for tokens of whomever: leave it out",
            );
            Subjects::Own
        }
        (Some(listed), false) => Subjects::Listed(listed.into_iter().map(|subject| subject.value).collect()),
        (None, true) => Subjects::Any,
        (None, false) => Subjects::Own,
    }
}

fn algorithms(table: &Table<'_>) -> BTreeSet<Algorithm> {
    let Some(words) = table.strings("algorithms") else {
        return Algorithm::USUAL.into();
    };
    if words.is_empty() {
        let message = format!("`algorithms` of {} is empty", table.what());
        table
            .source()
            .problem(table.key_span("algorithms"), message, "nothing would be accepted", None);
    }
    let read = words.into_iter().filter_map(|word| {
        word.value
            .parse()
            .map_err(|help| {
                let message = format!("`{}` is no algorithm of tokens here", printable(&word.value));
                table.source().problem(word.span, message, "not accepted", Some(help));
            })
            .ok()
    });
    read.collect()
}

/// `claims = { agent = "client_id", user = "sub" }`
fn claim_names(table: &Table<'_>) -> ClaimNames {
    let Some(inner) = table.table("claims", format!("the claims of {}", table.what())) else {
        return ClaimNames::default();
    };
    let pointer = |key: &str| -> Option<Pointer> {
        let text = inner.string(key)?;
        text.value
            .parse()
            .map_err(|why: &str| {
                let message = format!("`{key}` of {} is no claim", inner.what());
                let help = "the name of a claim, as in \"client_id\", or a path, as in \"/act/sub\"".to_owned();
                inner.source().problem(text.span, message, why, Some(help));
            })
            .ok()
    };
    let names = ClaimNames {
        agent: pointer("agent"),
        user: pointer("user"),
        tenant: pointer("tenant"),
        team: pointer("team"),
        scopes: pointer("scopes").unwrap_or(ClaimNames::default().scopes),
    };
    inner.done();
    names
}

/// `agents = { "0oa7…" = "assistant" }`: what others call an agent, where that stands, and the agent. `help` is what to write where
/// there is nothing.
fn mapped_agents(
    table: &Table<'_>,
    agents: &BTreeMap<String, AgentSpec>,
    help: &str,
) -> BTreeMap<String, (Range<usize>, String)> {
    table.missing("agents", help);
    let Some(inner) = table.table("agents", format!("the agents of {}", table.what())) else {
        return BTreeMap::new();
    };
    let named = inner.all_strings();
    for (said, (_, agent)) in &named {
        if !guard!("identity.agent-known", agents.contains_key(&agent.value)) {
            let message = format!(
                "`{}` of {} is agent `{}`, and there is none",
                printable(said),
                table.what(),
                printable(&agent.value)
            );
            unknown(&inner, agent, message, "agent", agents.keys());
        }
    }
    named
        .into_iter()
        .map(|(said, (place, agent))| (said, (place, agent.value)))
        .collect()
}

/// `users = { "00u9…" = "ada" }`
fn mapped_users(table: &Table<'_>, agents: &BTreeMap<String, AgentSpec>) -> Option<BTreeMap<String, String>> {
    let inner = table.table("users", format!("the users of {}", table.what()))?;
    let known: BTreeSet<&String> = agents.values().flat_map(|agent| &agent.users).collect();
    let named = inner.all_strings();
    for (said, (_, user)) in &named {
        if !guard!("identity.user-known", known.contains(&user.value)) {
            let message = format!(
                "`{}` of {} is user `{}`, and no agent acts for them",
                printable(said),
                table.what(),
                printable(&user.value)
            );
            unknown(&inner, user, message, "user", known.iter().copied());
        }
    }
    Some(named.into_iter().map(|(said, (_, user))| (said, user.value)).collect())
}

/// `scopes = { "refunds:read" = ["refunds/refunds.get"] }`
fn scopes(table: &Table<'_>) -> BTreeMap<String, BTreeSet<String>> {
    let Some(inner) = table.table("scopes", format!("the scopes of {}", table.what())) else {
        return BTreeMap::new();
    };
    let words: Vec<Located<String>> = inner
        .entries()
        .keys()
        .map(|key| Located {
            value: key.get_ref().clone().into_owned(),
            span: key.span(),
        })
        .collect();
    let none = words.is_empty();
    let mut scopes = BTreeMap::new();
    for word in words {
        let functions = inner.strings(&word.value).unwrap_or_default();
        let functions = functions
            .into_iter()
            .filter_map(|function| scope_function(&inner, function));
        let functions: BTreeSet<String> = functions.collect();
        if let Some(word) = scope_word(&inner, word) {
            scopes.insert(word, functions);
        }
    }
    inner.done();
    if !guard!("identity.scopes-some", !none) {
        let message = format!("`scopes` of {} is empty", table.what());
        let help = "say what each scope is for; where scopes are to narrow nothing, leave the table out".to_owned();
        table
            .source()
            .problem(table.key_span("scopes"), message, "would narrow nothing", Some(help));
    }
    scopes
}

fn scope_function(table: &Table<'_>, function: Located<String>) -> Option<String> {
    let named = function.value.split_once('/');
    // A `*` stands for all of a tool. In another place it would look as if it stood for some, and be for none.
    let whole = |function: &str| function == "*" || !function.contains('*');
    let sound = named.is_some_and(|(tool, function)| {
        is_name(tool) && !function.is_empty() && function.len() <= 256 && whole(function)
    });
    if !sound {
        let message = format!("`{}` is no function of a tool", printable(&function.value));
        let help =
            "a tool and a function, as in \"refunds/refunds.get\", or \"refunds/*\" for all of a tool".to_owned();
        table
            .source()
            .problem(function.span, message, "not a function", Some(help));
    }
    sound.then_some(function.value)
}

/// RFC 6749, section 3.3: printable characters without a space, a quote or a backslash. It is written into answers as it stands.
fn scope_word(table: &Table<'_>, word: Located<String>) -> Option<String> {
    let plain = |byte: u8| (0x21..=0x7e).contains(&byte) && byte != b'"' && byte != b'\\';
    let sound = (1..=128).contains(&word.value.len()) && word.value.bytes().all(plain);
    if !guard!("identity.scope-word", sound) {
        let message = format!("`{}` is no scope", printable(&word.value));
        let label = "1 to 128 characters without space, quote or backslash";
        table.source().problem(word.span.clone(), message, label, None);
        return None;
    }
    Some(word.value)
}

fn seconds(table: &Table<'_>, key: &str, usual: u64, most: u64, range: &str) -> u64 {
    let Some(text) = table.string(key) else { return usual };
    let why = match duration(&text.value) {
        Ok(seconds) if guard!("identity.time-range", seconds <= most) => return seconds,
        Ok(_) => range.to_owned(),
        Err(why) => why,
    };
    let message = format!("`{key}` of {} is not a time that it can have", table.what());
    table.source().problem(text.span, message, &why, None);
    usual
}

#[cfg(test)]
mod tests;
