//! The operator's configuration: raw text becomes checked values, or every reason why not.
//!
//! A home holds `ambit.toml`, a folder of policies and `tools.lock`. [`Config::load`] reads all three and checks what can be checked without
//! a secret and without a network. Secrets are read by [`Config::upstream`], for the connections that are really used.

mod budgets;
mod canonical;
mod connection;
mod credential;
mod limits;
pub mod lock;
mod reader;
mod routes;
mod sections;
mod server;
mod telemetry;
mod template;
#[cfg(test)]
mod tests;
mod webhooks;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ambit_core::credential::ScopeWord;
use ambit_core::digest::Digest;
use ambit_core::error::{Problem, printable};
use ambit_core::flow::{BreakerRule, Rate};
use ambit_core::grant::Limits;
use ambit_core::guard;
use ambit_core::identity::AgentSpec;
use ambit_core::json::Json;
use ambit_core::money::{Budget, Currency};
use ambit_core::policy::EntityKind;
use ambit_core::route::{Connection, Route};
use toml::de::DeTable;

use self::connection::Way;
use self::credential::Credential;
use self::lock::Lock;
use self::reader::{Located, Source, Table};
use crate::gate::{Collector, Hook, Upstream};
use crate::secret::{Ambient, Process};

pub(crate) use self::limits::out_of_range as limit_out_of_range;
pub use self::reader::nearest;
pub use self::sections::{LedgerConfig, days};
pub use self::server::{DRAIN_S, IssuerConfig, KeysAt, OperatorsConfig, ServerConfig, SpiffeConfig, TlsConfig};
pub use self::telemetry::TelemetryConfig;
pub use self::template::TEMPLATE;
pub use self::webhooks::WebhookConfig;

/// The configuration's name in a home.
pub const FILE: &str = "ambit.toml";

/// A checked configuration.
#[derive(Debug)]
pub struct Config {
    home: PathBuf,
    shown: Arc<str>,
    digest: Digest,
    sections: BTreeMap<String, Digest>,
    connections: BTreeMap<String, Connected>,
    tools: BTreeMap<String, ToolConfig>,
    agents: BTreeMap<String, AgentSpec>,
    groups: BTreeMap<String, Vec<String>>,
    break_glass: Option<String>,
    budgets: Vec<Budget>,
    webhooks: BTreeMap<String, WebhookConfig>,
    limits: Limits,
    ledger: LedgerConfig,
    server: Option<ServerConfig>,
    telemetry: Option<TelemetryConfig>,
    retention: Option<u32>,
    policy_dir: PathBuf,
    policies: Vec<(String, String)>,
    lock: Lock,
}

/// A connection's two halves. Without routes the file has problems, and this is not kept.
#[derive(Debug)]
struct Connected {
    routes: Option<Arc<Connection>>,
    way: Way,
}

/// What the configuration says of one tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolConfig {
    /// Import label → connection.
    pub bind: BTreeMap<String, String>,
    /// The limits of its calls.
    pub limits: Limits,
}

impl Config {
    /// Reads and checks the configuration of a home.
    ///
    /// # Errors
    /// Every problem of every file, in the files' order.
    pub fn load(home: &Path) -> Result<Config, Vec<Problem>> {
        let text = read_config(home).map_err(|problem| vec![problem])?;
        let lock = Lock::read(home);
        let config = Config::parse(home, &text, &Process);
        match (config, lock) {
            (Ok(mut config), Ok(lock)) => {
                config.lock = lock;
                config.policies = read_policies(&config.policy_dir)?;
                Ok(config)
            }
            (config, lock) => {
                let mut problems = config.err().unwrap_or_default();
                problems.extend(lock.err().unwrap_or_default());
                Err(problems)
            }
        }
    }

    /// Checks the text of an `ambit.toml` that belongs to `home`, which relative paths start from. No policies and no lock are read.
    ///
    /// # Errors
    /// Every problem of the text.
    pub fn parse(home: &Path, text: &str, ambient: &dyn Ambient) -> Result<Config, Vec<Problem>> {
        let source = Source::new(FILE, text);
        let document = source.parse();
        // What a parser makes of the rest of a broken file would only mislead.
        if source.has_problems() {
            return Err(source.into_problems());
        }
        let config = check(home, &source, document.get_ref(), ambient);
        if source.has_problems() {
            return Err(source.into_problems());
        }
        Ok(config)
    }

    /// The home it belongs to.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Of everything that the configuration means, secrets excepted: they are not in it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The parts of the file that say something else here than in `older`, as they stand in it: `limits`, `connection.stripe`.
    pub fn changed_since(&self, older: &Config) -> Vec<String> {
        let names: BTreeSet<&String> = self.sections.keys().chain(older.sections.keys()).collect();
        let changed = names
            .into_iter()
            .filter(|name| self.sections.get(*name) != older.sections.get(*name));
        changed.cloned().collect()
    }

    /// A connection's routes.
    pub fn connection(&self, name: &str) -> Option<&Arc<Connection>> {
        self.connections.get(name)?.routes.as_ref()
    }

    /// All connections' routes, by name.
    pub fn connections(&self) -> impl Iterator<Item = (&str, &Arc<Connection>)> {
        self.connections
            .iter()
            .filter_map(|(name, connected)| Some((name.as_str(), connected.routes.as_ref()?)))
    }

    /// How often a connection is used at most, and when it is left alone. Its routes can say so for themselves too.
    pub fn flow(&self, name: &str) -> (Option<Rate>, Option<BreakerRule>) {
        let way = self.connections.get(name).map(|connected| &connected.way);
        way.map_or((None, None), |way| (way.rate, way.breaker))
    }

    /// Whether tokens are asked for to use a connection.
    pub fn has_tokens(&self, name: &str) -> bool {
        let way = self.connections.get(name).map(|connected| &connected.way);
        way.is_some_and(Way::takes_scopes)
    }

    /// The digest of what decides where a route's requests go and in whose name: origin, address, authorities and base of its connection,
    /// where its credential is read, and the scopes of the route's tokens. Approvals are for that too.
    pub fn way(&self, name: &str, route: &str) -> Option<Digest> {
        let connected = self.connections.get(name)?;
        let settings = connected.way.settings;
        let scopes = connected.routes.as_ref()?.route(route).map(Route::scopes);
        let Some(scopes) = scopes.filter(|scopes| !scopes.is_empty()) else {
            return Some(settings);
        };
        // In their order, and no word has a space in it.
        let scopes: Vec<&str> = scopes.iter().map(ScopeWord::as_str).collect();
        let scopes = scopes.join(" ");
        Some(Digest::domain(
            "ambit/connection-scopes/v1",
            &[settings.as_bytes(), scopes.as_bytes()],
        ))
    }

    /// Reads a connection's secrets and makes the way to its service.
    ///
    /// # Errors
    /// No such connection, or which secret cannot be had, with its place in the configuration.
    pub fn upstream(&self, name: &str, ambient: &dyn Ambient) -> Result<Upstream, Problem> {
        let Some(connected) = self.connections.get(name) else {
            return Err(Problem::without_source(
                format!("there is no connection `{}`", printable(name)),
                None,
            ));
        };
        connected.way.open(ambient).map_err(|(place, why)| {
            let help = "the host reads it when it starts; nothing was sent".to_owned();
            Problem::in_file(FILE, &self.shown, Some(place.into()), why, "read here", Some(help))
        })
    }

    /// The public half of the key with which the home says to a connection's token service who calls (RFC 7517); none where it says nothing.
    ///
    /// # Errors
    /// No such connection, or the key cannot be read.
    pub fn jwks(&self, name: &str, ambient: &dyn Ambient) -> Result<Option<Json>, Problem> {
        let Some(connected) = self.connections.get(name) else {
            return Err(Problem::without_source(
                format!("there is no connection `{}`", printable(name)),
                None,
            ));
        };
        let credential = connected.way.credential.as_ref();
        credential
            .map_or(Ok(None), |credential| credential.jwks(&self.home, ambient))
            .map_err(|why| Problem::without_source(format!("the credential of connection `{name}`: {why}"), None))
    }

    /// What is said of a tool; `None` where nothing is: it has no bindings then and the limits of every call.
    pub fn tool(&self, name: &str) -> Option<&ToolConfig> {
        self.tools.get(name)
    }

    /// All that is said of tools, by name.
    pub fn tools(&self) -> &BTreeMap<String, ToolConfig> {
        &self.tools
    }

    /// The agents, by name.
    pub fn agents(&self) -> &BTreeMap<String, AgentSpec> {
        &self.agents
    }

    /// The groups of people and their members.
    pub fn groups(&self) -> &BTreeMap<String, Vec<String>> {
        &self.groups
    }

    /// How many members each group has, as policies are checked against.
    pub fn group_sizes(&self) -> BTreeMap<String, usize> {
        self.groups
            .iter()
            .map(|(name, members)| (name.clone(), members.len()))
            .collect()
    }

    /// Whether money can be counted in it: ISO 4217 has it, or a route.
    #[must_use]
    pub fn has_currency(&self, currency: Currency) -> bool {
        budgets::is_currency(currency, &self.connections)
    }

    /// The group whose members may let an effect pass alone, in place of the approvals that are missing; none where nobody may.
    pub fn break_glass(&self) -> Option<&str> {
        self.break_glass.as_deref()
    }

    /// The budgets, by name.
    pub fn budgets(&self) -> &[Budget] {
        &self.budgets
    }

    /// The webhooks, by name.
    pub fn webhooks(&self) -> &BTreeMap<String, WebhookConfig> {
        &self.webhooks
    }

    /// Reads a webhook's secrets and makes it ready to be sent to.
    ///
    /// # Errors
    /// No such webhook, or which secret cannot be had or is none, with its place in the configuration; never a secret.
    pub fn hook(&self, name: &str, ambient: &dyn Ambient) -> Result<Hook, Problem> {
        let Some(webhook) = self.webhooks.get(name) else {
            return Err(Problem::without_source(
                format!("there is no webhook `{}`", printable(name)),
                nearest(name, self.webhooks.keys().map(String::as_str)).map(|near| format!("did you mean `{near}`?")),
            ));
        };
        webhook.open(ambient).map_err(|(place, why)| {
            let help = "a host that serves reads it when it starts and when it takes its files anew".to_owned();
            Problem::in_file(FILE, &self.shown, Some(place.into()), why, "read here", Some(help))
        })
    }

    /// The limits of calls whose tool says nothing else.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What is said of the ledger.
    pub fn ledger(&self) -> &LedgerConfig {
        &self.ledger
    }

    /// What is said of serving agents over HTTP; none where nothing is.
    pub fn server(&self) -> Option<&ServerConfig> {
        self.server.as_ref()
    }

    /// Where telemetry goes; none where nobody is told.
    pub fn telemetry(&self) -> Option<&TelemetryConfig> {
        self.telemetry.as_ref()
    }

    /// Reads the secret of the collector and makes the way to it; none where there is none.
    ///
    /// # Errors
    /// The secret cannot be had, with its place in the configuration.
    pub fn collector(&self, ambient: &dyn Ambient) -> Result<Option<Collector>, Problem> {
        let opened = self.telemetry.as_ref().map(|telemetry| telemetry.open(ambient));
        opened.transpose().map_err(|(place, why)| {
            let help = "the host reads it when it begins to tell; nothing was sent".to_owned();
            Problem::in_file(FILE, &self.shown, Some(place.into()), why, "read here", Some(help))
        })
    }

    /// After how many days the values of calls may be erased. Nothing erases them by itself: `ambit erase --by-configuration` does.
    pub fn retention(&self) -> Option<u32> {
        self.retention
    }

    /// The policies' files: name and text, by name.
    pub fn policies(&self) -> &[(String, String)] {
        &self.policies
    }

    /// The folder of the policies: its `*.cedar` files are in force.
    pub fn policy_dir(&self) -> &Path {
        &self.policy_dir
    }

    /// The accepted tools.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// What policies can name here, as far as the configuration says it: functions are the components'.
    pub fn names(&self) -> BTreeMap<EntityKind, BTreeSet<String>> {
        let of_agents = |name: fn(&AgentSpec) -> &String| self.agents.values().map(name).cloned().collect();
        let routes = self
            .connections()
            .flat_map(|(name, connection)| connection.routes().map(move |route| format!("{name}/{}", route.name())));
        BTreeMap::from([
            (EntityKind::Agent, self.agents.keys().cloned().collect()),
            (EntityKind::Team, of_agents(|agent| &agent.team)),
            (EntityKind::Tenant, of_agents(|agent| &agent.tenant)),
            (
                EntityKind::Tool,
                self.lock.iter().map(|(name, _)| name.to_owned()).collect(),
            ),
            (EntityKind::Connection, self.connections.keys().cloned().collect()),
            (EntityKind::Route, routes.collect()),
        ])
    }
}

/// Orders the sections; each reads and checks its own.
fn check(home: &Path, source: &Source, document: &DeTable<'_>, ambient: &dyn Ambient) -> Config {
    let root = Table::new(source, document, 0..0, "the configuration");

    let connections = connections(&root, home, ambient);
    let limits = limits::of(root.table("limits", "the limits"), &Limits::default());
    let tools = sections::tools(&root, &limits, &connections);
    let agents = sections::agents(&root);
    let groups = sections::groups(&root);
    let break_glass = sections::break_glass(&root, &groups);
    let names = budgets::Names {
        connections: &connections,
        tools: &tools,
        agents: &agents,
        groups: &groups,
    };
    let budgets = budgets::budgets(&root, &names);
    let (webhooks, of_webhooks) = webhooks::webhooks(&root, &names, home, ambient);
    let ledger = sections::ledger(&root, home);
    let (server, authorities) = server::server(&root, &agents, limits.concurrent_calls, home, ambient);
    let telemetry = telemetry::telemetry(&root, home, ambient);
    let retention = sections::retention(&root);
    let policy_dir = sections::policy_dir(&root, home);
    root.done();

    let named: Vec<Digest> = connections
        .values()
        .flat_map(|connected| {
            let credential = connected.way.credential.as_ref();
            [connected.way.ca_digest, credential.and_then(Credential::ca_digest)]
        })
        .flatten()
        .chain(authorities)
        .chain(of_webhooks)
        .chain(telemetry.iter().filter_map(TelemetryConfig::file))
        .collect();
    let digest = canonical::digest(document, &named, &limits::text(&Limits::default()));
    Config {
        home: home.to_owned(),
        shown: source.shown().into(),
        digest,
        sections: canonical::sections(document),
        connections,
        tools,
        agents,
        groups,
        break_glass,
        budgets,
        webhooks,
        limits,
        ledger,
        server,
        telemetry,
        retention,
        policy_dir,
        policies: Vec::new(),
        lock: Lock::default(),
    }
}

/// `[connection.*]`
fn connections(root: &Table<'_>, home: &Path, ambient: &dyn Ambient) -> BTreeMap<String, Connected> {
    let connections = root
        .named("connection", "connection")
        .into_iter()
        .filter_map(|(name, table)| {
            check_name(table.source(), &name, "connection");
            let way = connection::way(&name, &table, home, ambient);
            let specs = routes::specs(&table);
            let source = table.source();
            table.done();
            let way = way?;
            let routes = routes::check(&name, &way, specs, source).map(Arc::new);
            Some((name.value, Connected { routes, way }))
        });
    connections.collect()
}

/// Names of the operator's choice: they stand in file names, policies, and for models to call.
pub(crate) fn is_name(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&name.len())
        && name.bytes().all(inside)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

fn check_name(source: &Source, name: &Located<String>, kind: &str) {
    if !guard!("config.name", is_name(&name.value)) {
        let message = format!("`{}` cannot be the name of a {kind}", printable(&name.value));
        let help = "1 to 64 letters, digits, `-` and `_`, a letter or digit first".to_owned();
        source.problem(name.span.clone(), message, "not a name", Some(help));
    }
}

fn read_config(home: &Path) -> Result<String, Problem> {
    let path = home.join(FILE);
    read_text(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Problem::without_source(
            format!("{} is no home: it has no {FILE}", home.display()),
            Some("`ambit init` makes a home; `--home DIR` or AMBIT_HOME name another one".into()),
        ),
        _ => Problem::without_source(format!("{} cannot be read: {error}", path.display()), None),
    })
}

/// The policies of a folder: the name and text of each `*.cedar` file in it, by name.
///
/// # Errors
/// What cannot be read.
pub fn read_policies(dir: &Path) -> Result<Vec<(String, String)>, Vec<Problem>> {
    let unreadable = |path: &Path, error: io::Error| {
        let help = "the `dir` of [policy] is where the policies are; without them nothing is permitted".to_owned();
        vec![Problem::without_source(
            format!("{} cannot be read: {error}", path.display()),
            Some(help),
        )]
    };
    let entries = fs::read_dir(dir).map_err(|error| unreadable(dir, error))?;
    let mut policies = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(dir, error))?.path();
        if path.extension().is_none_or(|extension| extension != "cedar") {
            continue;
        }
        let text = read_text(&path).map_err(|error| unreadable(&path, error))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        policies.push((name.unwrap_or_default(), text));
    }
    policies.sort_unstable();
    Ok(policies)
}

fn read_text(path: &Path) -> io::Result<String> {
    let bytes = Process.read(path)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Checks any bytes as a configuration. For fuzzing: it must neither panic nor reach outside.
///
/// # Errors
/// The problems of the text, each within it.
///
/// # Panics
/// One text means two things, or means another with a comment after it; or a problem is not within the text.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) -> Result<(), Vec<Problem>> {
    let text = std::str::from_utf8(bytes).map_err(|error| vec![Problem::without_source(error.to_string(), None)])?;
    let home = Path::new("/nowhere");
    let config = Config::parse(home, text, &Nothing).inspect_err(|problems| {
        assert!(!problems.is_empty(), "refused without a reason");
        let within = |problem: &Problem| {
            problem
                .span()
                .is_none_or(|span| text.get(span.offset()..span.offset() + span.len()).is_some())
        };
        assert!(
            problems.iter().all(within),
            "a problem outside of the text, or within a character"
        );
    })?;
    let again = Config::parse(home, &format!("{text}\n# the same\n"), &Nothing).map(|config| config.digest());
    assert!(
        again.is_ok_and(|digest| digest == config.digest()),
        "a comment changes what the text means"
    );
    Ok(())
}

/// A world with nothing in it.
struct Nothing;

impl Ambient for Nothing {
    fn env(&self, _: &str) -> Option<std::ffi::OsString> {
        None
    }

    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn read_private(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn run(&self, _: &[String]) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
}
