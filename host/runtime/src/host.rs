//! A host: one home opened, with its configuration, policy, tools, ledger and the way out, ready to make calls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ambit_core::digest::Digest;
use ambit_core::error::{Code, Problem, Refusal};
use ambit_core::grant::Limits;
use ambit_core::identity::Directory;
use ambit_core::ledger::body::{CallAccepted, CallFinished, ConfigChanged, End, PolicyChanged, Reservation};
use ambit_core::ledger::guests::Guests;
use ambit_core::ledger::{EntryDraft, Tally};
use ambit_core::manifest::Manifest;
use ambit_core::money::{Budget, Unit};
use ambit_core::policy::{EntityKind, PolicySet};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::approvals::ApprovalError;
use crate::call::Fault;
pub use crate::clock::now_ms;
use crate::config::{Config, LedgerConfig};
use crate::flow::Flow;
use crate::gate::{Bounds, Document, Hook, Sent, Upstream, Wire, most_received};
use crate::guests::settled;
use crate::home;
use crate::operators::Operators;
use crate::places::{Place, Places};
use crate::recovery;
use crate::run_tokens::HomeTokens;
use crate::running::{Alone, Running};
use crate::sandbox::{CompileCache, Compiler, LoadedTool, Sandbox, SandboxOptions};
use crate::secret::Process;
use crate::store::{Batch, Faults, HighWaterOptions, Keys, Reader, Store, StoreError, StoreOptions, WordKey};
use crate::suspend::GoesOn;

/// Why a home does not open, or an operator's act on it fails. Nothing was changed unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Something in the operator's files.
    #[error("{} problems in the configuration", .0.len())]
    Problems(Vec<Problem>),
    /// The ledger or the keys.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A tool that cannot be run.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The home's files.
    #[error("{0}")]
    Home(String),
}

impl OpenError {
    /// The kind of rule that refused; none where the machine or the ledger failed.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        match self {
            OpenError::Problems(_) => Some(Code::Config),
            OpenError::Refused(refusal) => Some(refusal.code),
            OpenError::Store(_) | OpenError::Home(_) => None,
        }
    }
}

impl From<ApprovalError> for OpenError {
    fn from(error: ApprovalError) -> OpenError {
        match error {
            ApprovalError::Refused(refusal) => refusal.into(),
            ApprovalError::Fault(Fault::Store(error)) => error.into(),
            ApprovalError::Fault(fault) => OpenError::Home(fault.to_string()),
        }
    }
}

/// How often a host looks for holds that have expired.
const EXPIRED_EVERY: Duration = Duration::from_secs(30);

impl From<Vec<Problem>> for OpenError {
    fn from(problems: Vec<Problem>) -> OpenError {
        OpenError::Problems(problems)
    }
}

impl From<Problem> for OpenError {
    fn from(problem: Problem) -> OpenError {
        OpenError::Problems(vec![problem])
    }
}

/// What a process chooses about its host.
#[derive(Debug, Default)]
pub struct HostOptions {
    /// Load only these tools; all that are accepted, where there are none.
    pub tools: Vec<String>,
    /// How components are compiled: by a child of this process's own program, where nothing else is said.
    pub compiler: Option<Compiler>,
    /// The way to the network, where it is not the system's. For tests.
    pub wire: Option<Wire>,
    /// How the ledger is kept, where it is not as the configuration says. For tests.
    pub store: Option<StoreOptions>,
    /// Where the ledger fails, for tests.
    pub faults: Faults,
    /// Keep the ledger in memory, for measuring what the rest of a call costs. Nothing is durable then.
    pub memory_ledger: bool,
    /// Decide each call afresh, for measuring.
    pub without_memo: bool,
    /// Read the secrets of webhooks, now and with each reload: of a process that serves, and sends their messages.
    pub webhooks: bool,
}

impl HostOptions {
    /// Of a process that only calls these tools.
    #[must_use]
    pub fn for_tools<'a>(tools: impl IntoIterator<Item = &'a str>) -> HostOptions {
        HostOptions {
            tools: tools.into_iter().map(str::to_owned).collect(),
            ..HostOptions::default()
        }
    }
}

/// A tool of a home, ready to be called.
#[derive(Debug)]
pub struct Tool {
    /// The accepted component.
    pub digest: Digest,
    pub(crate) loaded: LoadedTool,
}

impl Tool {
    /// What its component declares.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        self.loaded.manifest()
    }
}

/// What calls are made by: configuration, policies and tools, as they were read at one time, which never change; with what stays while a
/// host runs, whatever it reads anew. A call has one of these from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) policy: PolicySet,
    pub(crate) directory: Directory,
    pub(crate) tools: BTreeMap<String, Tool>,
    /// By connection: only those that a loaded tool is bound to.
    pub(crate) upstreams: BTreeMap<String, Upstream>,
    /// By name: none where the process sends no messages.
    pub(crate) hooks: BTreeMap<String, Hook>,
    pub(crate) wire: Wire,
    /// How often connections are used, and which are left alone.
    pub(crate) flow: Arc<Flow>,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) store: Arc<Store>,
    /// Under which words of callers stand on the ledger.
    pub(crate) words: Arc<WordKey>,
    /// What tokens of runs are looked at with.
    pub(crate) run_tokens: HomeTokens,
    pub(crate) io: Arc<tokio::runtime::Runtime>,
    places: Arc<Places>,
    pub(crate) running: Arc<Running>,
    warnings: Vec<Problem>,
}

/// What a host has read last, for all that have it.
#[derive(Debug)]
pub(crate) struct Live {
    /// None until it reads anything anew: then it is what it was opened with.
    now: RwLock<Option<Arc<Shared>>>,
    /// How often it has read anew.
    pub(crate) changes: watch::Sender<u64>,
    /// Whether it ends, and begins nothing more.
    pub(crate) closed: watch::Sender<bool>,
    /// Calls that go on by themselves, or are to, as the last host was told to end in them: their callers have none of this host's
    /// requests.
    pub(crate) goes_on: Mutex<BTreeMap<String, GoesOn>>,
    /// What the component declares that was asked about last of those that no tool has any more.
    pub(crate) past: Mutex<Option<(Digest, Manifest)>>,
    /// Whether a reload was asked for that has not begun: one more is that one.
    pub(crate) asked: AtomicBool,
    /// Held by whoever changes what is read, or reads it: one at a time.
    pub(crate) changing: Mutex<()>,
    /// The tools that it loads; all, where there are none.
    only: Vec<String>,
    without_memo: bool,
    webhooks: bool,
}

/// One opened home, as it was read at one time. Cheap to share; calls are made from any thread that may block.
///
/// What is asked of it is answered by that reading, and so whoever has a host for longer asks [`Host::current`] first. A call that begins
/// always begins under the last one.
#[derive(Debug, Clone)]
pub struct Host {
    /// How operators are heard while this host runs; none for what they have it do. Before all that it also has: it goes first.
    pub(crate) operators: Option<Arc<Operators>>,
    pub(crate) live: Arc<Live>,
    pub(crate) shared: Arc<Shared>,
}

/// Configuration, policies and tools that can be used together.
pub(crate) struct Readied {
    config: Config,
    policy: PolicySet,
    directory: Directory,
    tools: BTreeMap<String, Tool>,
    upstreams: BTreeMap<String, Upstream>,
    hooks: BTreeMap<String, Hook>,
    warnings: Vec<Problem>,
}

fn policies(config: &Config, without_memo: bool) -> Result<PolicySet, OpenError> {
    let policy = PolicySet::load(config.policies(), &config.group_sizes())?;
    Ok(if without_memo { policy.without_memo() } else { policy })
}

impl Readied {
    /// Checks and loads all that a configuration names. Nothing is changed by it.
    fn of(config: Config, sandbox: &Sandbox, live: &Live) -> Result<Readied, OpenError> {
        let policy = policies(&config, live.without_memo)?;
        Readied::under(policy, config, sandbox, (&live.only, live.webhooks))
    }

    /// The same under policies that are loaded.
    fn under(
        policy: PolicySet,
        config: Config,
        sandbox: &Sandbox,
        (only, webhooks): (&[String], bool),
    ) -> Result<Readied, OpenError> {
        let directory = Directory::new(config.agents().clone())?;
        home_limits(&config)?;
        let tools = load_tools(&config, sandbox, only)?;
        let upstreams = upstreams(&config, &tools)?;
        let hooks = if webhooks { hooks(&config)? } else { BTreeMap::new() };
        let warnings = warnings(&config, &policy, &tools);
        Ok(Readied {
            config,
            policy,
            directory,
            tools,
            upstreams,
            hooks,
            warnings,
        })
    }
}

impl Host {
    /// Opens a home: everything is checked before anything starts, and what a crash left open is ended on the ledger.
    ///
    /// # Errors
    /// Every problem of configuration and policy; a tool that is not the accepted one; a ledger that another process holds,
    /// that fails, or is shorter than it was.
    pub fn open(config: Config, options: HostOptions) -> Result<Host, OpenError> {
        // First of all: a slip in a policy leaves nothing behind.
        let policy = policies(&config, options.without_memo)?;
        let keys = Keys::load(config.home())?;
        let sandbox = sandbox(&config, &keys, options.compiler)?;
        let Readied {
            config,
            policy,
            directory,
            tools,
            upstreams,
            hooks,
            warnings,
        } = Readied::under(policy, config, &sandbox, (&options.tools, options.webhooks))?;
        let io = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("ambit-io")
            .enable_all()
            .build()
            .map_err(|e| OpenError::Home(format!("no thread for input and output: {e}")))?;
        let words = keys.words();
        let store_options = match options.store {
            Some(options) => options,
            None => store_options(Some(config.ledger()))?,
        };
        let store = if options.memory_ledger {
            Store::memory(keys, store_options)?
        } else {
            Store::open(config.home(), keys, store_options, options.faults)?
        };
        recovery::note_doubts(&store)?;
        let changed = changes(&store, &config, &policy)?;
        if !changed.is_empty() {
            store.commit(Batch {
                entries: changed,
                ..Batch::default()
            })?;
        }
        let store = Arc::new(store);
        let flow = Flow::open(&config, &store.reader()?)?;
        upstreams
            .iter()
            .for_each(|(name, upstream)| upstream.rest(flow.rest(name)));
        let wire = options.wire.unwrap_or_default();
        let places = places(&config);
        let shared = Shared {
            config,
            policy,
            directory,
            tools,
            upstreams,
            hooks,
            wire,
            flow: Arc::new(flow),
            sandbox: Arc::new(sandbox),
            store,
            words: Arc::new(words),
            run_tokens: HomeTokens::default(),
            io: Arc::new(io),
            places,
            running: Arc::default(),
            warnings,
        };
        let live = Live {
            now: RwLock::new(None),
            changes: watch::Sender::new(0),
            closed: watch::Sender::new(false),
            goes_on: Mutex::default(),
            past: Mutex::default(),
            asked: AtomicBool::new(false),
            changing: Mutex::new(()),
            only: options.tools,
            without_memo: options.without_memo,
            webhooks: options.webhooks,
        };
        let mut host = Host {
            operators: None,
            live: Arc::new(live),
            shared: Arc::new(shared),
        };
        if !options.memory_ledger {
            let operators = Operators::serve(host.shared.config.home(), host.clone())?;
            host.operators = Some(Arc::new(operators));
        }
        host.begin_counting();
        match host.end_expired(recovery::MOST_EXPIRED) {
            // They wait on; what a host is opened for may be to make room.
            Err(ApprovalError::Fault(Fault::Store(StoreError::NoRoom { .. }))) => {
                tracing::warn!("the ledger has no room to end what expired");
            }
            ended => drop(ended.map_err(OpenError::from)?),
        }
        host.end_expired_from_now_on()?;
        Ok(host)
    }

    /// The same home as it was read last.
    #[must_use]
    pub fn current(&self) -> Host {
        let now = self.live.now.read().clone();
        Host {
            shared: now.unwrap_or_else(|| Arc::clone(&self.shared)),
            ..self.clone()
        }
    }

    /// Whether this is the same reading of the same home as another.
    #[must_use]
    pub fn is_as_read(&self, other: &Host) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// That the home was not read anew while an operator's act waited for its turn: what it was shown was by the files of before.
    ///
    /// # Errors
    /// [`Code::Stale`] where it was: nothing was done.
    pub(crate) fn is_read_last(&self) -> Result<(), Refusal> {
        if ambit_core::guard!("reload.acts", self.is_as_read(&self.current())) {
            return Ok(());
        }
        let why = "the home's files were taken anew while this waited for its turn: nothing was done";
        Err(Refusal::new(Code::Stale, why).advise("look at it again, and say it again if it is still what is wanted"))
    }

    /// Says how often this host has read its files anew, now and whenever it does.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.live.changes.subscribe()
    }

    /// Loads what a configuration names beside what is in use. Nothing is changed by it.
    pub(crate) fn readied(&self, config: Config) -> Result<Readied, OpenError> {
        Readied::of(config, &self.shared.sandbox, &self.live)
    }

    /// What calls begin under from now on. What runs keeps what it has.
    pub(crate) fn take(&self, readied: Readied) -> Host {
        let Readied {
            config,
            policy,
            directory,
            tools,
            mut upstreams,
            hooks,
            warnings,
        } = readied;
        let old = &self.shared;
        for (name, upstream) in &mut upstreams {
            match old.upstreams.get(name) {
                Some(older) => upstream.goes_on_as(older),
                None => upstream.rest(old.flow.rest(name)),
            }
        }
        let shared = Arc::new(Shared {
            config,
            policy,
            directory,
            tools,
            upstreams,
            hooks,
            wire: old.wire.clone(),
            flow: Arc::clone(&old.flow),
            sandbox: Arc::clone(&old.sandbox),
            store: Arc::clone(&old.store),
            words: Arc::clone(&old.words),
            run_tokens: HomeTokens::default(),
            io: Arc::clone(&old.io),
            places: Arc::clone(&old.places),
            running: Arc::clone(&old.running),
            warnings,
        });
        *self.live.now.write() = Some(Arc::clone(&shared));
        self.live.changes.send_modify(|changes| *changes += 1);
        Host { shared, ..self.clone() }
    }

    /// Looks every half minute for holds that nobody decided about in time, for as long as this host is there: each holds a place of its
    /// agent, and whoever waits for it learns how it ended.
    ///
    /// # Errors
    /// Where there is no thread for it.
    fn end_expired_from_now_on(&self) -> Result<(), OpenError> {
        let (live, shared) = (Arc::downgrade(&self.live), Arc::downgrade(&self.shared));
        let look = move || {
            loop {
                std::thread::sleep(EXPIRED_EVERY);
                let (Some(live), Some(shared)) = (live.upgrade(), shared.upgrade()) else {
                    return;
                };
                let began = Host {
                    operators: None,
                    live,
                    shared,
                };
                // By what was taken last.
                let host = began.current();
                // What fails now is tried again, and a ledger that fails ends the process elsewhere.
                if let Err(error) = host.end_expired(recovery::MOST_EXPIRED) {
                    tracing::warn!(%error, "holds that expired are not ended yet");
                }
            }
        };
        // A thread of its own: what it drops last may be the runtime, which none of the runtime's own threads can.
        let begun = std::thread::Builder::new().name("ambit-expiry".to_owned()).spawn(look);
        begun
            .map(drop)
            .map_err(|error| OpenError::Home(format!("no thread to end what expires: {error}")))
    }

    /// The tools that are loaded, by name.
    pub fn tools(&self) -> impl Iterator<Item = (&str, &Tool)> {
        self.shared.tools.iter().map(|(name, tool)| (name.as_str(), tool))
    }

    /// Whether every accepted tool is loaded: whatever call goes on finds its own.
    pub(crate) fn has_all_tools(&self) -> bool {
        let accepted = self.shared.config.lock().iter();
        accepted
            .into_iter()
            .all(|(name, _)| self.shared.tools.contains_key(name))
    }

    /// What was found at the start that is no error and most likely a slip: rules and budgets for something that is not there, and a
    /// certificate of the server's that is over, or soon.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.shared.warnings
    }

    /// The first failure of the ledger, after which no call is made any more: the process should end.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        self.shared.store.failed()
    }

    /// What the home's configuration says.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The agents of this home.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.shared.directory
    }

    /// Reads a document that the configuration names, for the host itself: see [`Document`]. On the host's own threads, so that it may be
    /// waited for anywhere.
    ///
    /// # Errors
    /// One sentence: why there is no answer that can be used.
    pub async fn read_document(&self, document: Document, bounds: Bounds) -> Result<Sent, String> {
        let wire = self.shared.wire.clone();
        let read = self.shared.io.spawn(async move { wire.read(&document, bounds).await });
        match read.await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(error) => Err(format!("it was not read: {error}")),
        }
    }

    /// A view of the ledger.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        self.shared.store.reader()
    }
}

/// Rules and budgets for something that is not there: such a permit never permits, such a forbid never forbids, such a budget caps nothing.
/// And a certificate that clients refuse, or will before long.
fn warnings(config: &Config, policy: &PolicySet, tools: &BTreeMap<String, Tool>) -> Vec<Problem> {
    // Functions are known of tools that are loaded. A process that calls one tool loads that one.
    let all = config.lock().iter().all(|(name, _)| tools.contains_key(name));
    let mut names = config.names();
    if all {
        let functions = tools.iter().flat_map(|(name, tool)| {
            let functions = &tool.loaded.manifest().functions;
            functions.iter().map(move |function| format!("{name}/{}", function.id))
        });
        names.insert(EntityKind::Function, functions.collect());
    }
    let mut warnings = policy.unknown_names(&names);
    warnings.extend(config.budgets().iter().filter_map(|budget| idle(budget, tools, all)));
    warnings.extend(config.budgets().iter().filter_map(|budget| too_small(budget, config)));
    let tls = config.server().and_then(|server| server.tls.as_ref());
    warnings.extend(tls.and_then(|tls| tls.warning(now_ms())));
    warnings
}

/// Why a budget lets nothing through that it is for: what is reserved is the most that can be used, and that does not fit.
fn too_small(budget: &Budget, config: &Config) -> Option<Problem> {
    let named = budget.covers.tool.as_deref().and_then(|name| config.tool(name));
    let all = config.tools().values().map(|tool| &tool.limits);
    let limits: Vec<&Limits> = match named {
        Some(tool) => vec![&tool.limits],
        None => all.chain([config.limits()]).collect(),
    };
    let (what, limit, least) = match budget.unit {
        Unit::Fuel => ("one call", "fuel", limits.iter().map(|limits| limits.fuel).min()?),
        Unit::Bytes => {
            let least = limits.iter().map(|limits| limits.response_body_bytes).min()?;
            let least = usize::try_from(least).unwrap_or(usize::MAX);
            ("one effect", "response_body_bytes", most_received(least))
        }
        Unit::Money(_) | Unit::Calls | Unit::Effects => return None,
    };
    let message = format!(
        "budget `{}` has {} {}, and {what} sets at least {least} aside: none will fit",
        budget.name, budget.cap, budget.unit
    );
    (budget.cap < least)
        .then(|| Problem::without_source(message, Some(format!("raise the cap, or lower `{limit}` in [limits]"))))
}

/// Why a budget for a function caps nothing, if that is known.
fn idle(budget: &Budget, tools: &BTreeMap<String, Tool>, all: bool) -> Option<Problem> {
    let function = budget.covers.function.as_deref()?;
    let meant: Vec<&Tool> = match &budget.covers.tool {
        Some(tool) => vec![tools.get(tool)?],
        None if all => tools.values().collect(),
        None => return None,
    };
    let ids = || {
        meant
            .iter()
            .flat_map(|tool| &tool.loaded.manifest().functions)
            .map(|function| function.id.as_str())
    };
    if ids().any(|id| id == function) {
        return None;
    }
    let message = format!(
        "budget `{}` is for the function `{}`, which no accepted tool has: it caps nothing",
        budget.name,
        ambit_core::error::printable(function)
    );
    let nearest = ids().max_by(|a, b| strsim::jaro_winkler(a, function).total_cmp(&strsim::jaro_winkler(b, function)));
    Some(Problem::without_source(
        message,
        nearest.map(|id| format!("did you mean `{id}`?")),
    ))
}

/// The store's options from the configuration.
pub(crate) fn store_options(ledger: Option<&LedgerConfig>) -> Result<StoreOptions, OpenError> {
    /// A power failure may lose this much of the protection against a restored ledger, never of the ledger.
    const SYNC_EVERY: Duration = Duration::from_secs(1);
    let mut options = StoreOptions::default();
    let Some(ledger) = ledger else { return Ok(options) };
    options.quota = ledger.quota;
    options.reserve = ledger.reserve.unwrap_or(options.reserve);
    options.high_water = ledger.high_water.clone().map(|path| HighWaterOptions {
        path,
        sync_every: SYNC_EVERY,
    });
    Ok(options)
}

/// What is known from outside of a home how far its ledger has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// The configuration keeps nothing outside.
    NotKept,
    /// The configuration keeps it in this file, which is not there.
    Missing(PathBuf),
    /// The signed checkpoints that are kept.
    Checkpoints(Vec<String>),
}

/// Checkpoints that are known from outside the home's ledger: what `audit verify` holds the ledger against.
///
/// # Errors
/// Where the configuration, or the file it names, cannot be read.
pub fn known_checkpoints(home: &Path) -> Result<Known, OpenError> {
    let config = Config::load(home)?;
    let Some(path) = &config.ledger().high_water else {
        return Ok(Known::NotKept);
    };
    let notes = crate::store::high_water_notes(path, &crate::store::verifier(home)?)?;
    Ok(notes.map_or_else(|| Known::Missing(path.clone()), Known::Checkpoints))
}

/// A sandbox with the home's limits and its cache of compiled code.
pub(crate) fn sandbox(config: &Config, keys: &Keys, compiler: Option<Compiler>) -> Result<Sandbox, OpenError> {
    let mut options = SandboxOptions::new(own_compiler(compiler)?);
    let cache = config.home().join("cache");
    home::make_private(&cache).map_err(|e| StoreError::ReadOnly {
        home: config.home().to_owned(),
        why: e.to_string(),
    })?;
    options.cache = Some(CompileCache::new(cache, *keys.cache_key()));
    home_limits(config)?;
    options.slots = config.limits().concurrent_calls;
    options.stack_bytes = stack_bytes(config.limits())?;
    Ok(Sandbox::new(options)?)
}

/// A sandbox for one call of another home's: its limits, no cache, nothing of this machine.
pub(crate) fn lone_sandbox(limits: &Limits, compiler: Option<Compiler>) -> Result<Sandbox, OpenError> {
    let mut options = SandboxOptions::new(own_compiler(compiler)?);
    options.slots = 1;
    options.stack_bytes = stack_bytes(limits)?;
    Ok(Sandbox::new(options)?)
}

/// A child of this program, where no other compiler is chosen.
fn own_compiler(chosen: Option<Compiler>) -> Result<Compiler, OpenError> {
    match chosen {
        Some(compiler) => Ok(compiler),
        None => std::env::current_exe()
            .map(Compiler::Child)
            .map_err(|e| OpenError::Home(format!("this program's own file is not known: {e}"))),
    }
}

/// The guests' stack, which is taken from that of the calling thread: 2 MiB where nobody says otherwise.
fn stack_bytes(limits: &Limits) -> Result<usize, Refusal> {
    const MOST: u64 = 1 << 20;
    let bytes = limits.stack_bytes;
    if !ambit_core::guard!("config.stack", bytes <= MOST) {
        return Err(Refusal::new(
            Code::Config,
            format!("[limits] stack_bytes is {bytes}; the most is {MOST}"),
        ));
    }
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// All calls share one engine and its places, and an agent's holds are counted over all tools: these limits are the home's, and no tool
/// has one of its own.
fn of_the_home(config: &Config, name: &str, limit: impl Fn(&Limits) -> u64) -> Result<(), Refusal> {
    let whole = limit(config.limits());
    let other = config.tools().iter().find(|(_, tool)| limit(&tool.limits) != whole);
    match other {
        None => Ok(()),
        Some((tool, _)) => Err(Refusal::new(
            Code::Config,
            format!("[tool.{tool}.limits] sets {name}, which is the same for all tools of a home"),
        )
        .advise("set it in [limits]")),
    }
}

/// That no tool has a limit of its own which is the home's.
fn home_limits(config: &Config) -> Result<(), Refusal> {
    of_the_home(config, "stack_bytes", |limits| limits.stack_bytes)?;
    of_the_home(config, "concurrent_calls", |limits| limits.concurrent_calls.into())?;
    of_the_home(config, "open_holds", |limits| limits.open_holds.into())
}

fn load_tools(config: &Config, sandbox: &Sandbox, only: &[String]) -> Result<BTreeMap<String, Tool>, OpenError> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    config
        .lock()
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, pin)| {
            let component = home::read_component(config.home(), name, pin)?;
            let loaded = sandbox.load(&component).map_err(|refusal| named(name, refusal))?;
            check_bindings(config, name, &loaded)?;
            Ok((
                name.to_owned(),
                Tool {
                    digest: pin.digest,
                    loaded,
                },
            ))
        })
        .collect()
}

/// A refusal to load says which tool it is about.
fn named(name: &str, refusal: Refusal) -> Refusal {
    Refusal {
        message: format!("tool `{name}`: {}", refusal.message),
        ..refusal
    }
}

/// A binding of a label that the component does not have is a slip that would otherwise go unseen.
fn check_bindings(config: &Config, name: &str, tool: &LoadedTool) -> Result<(), Refusal> {
    let Some(bound) = config.tool(name) else { return Ok(()) };
    let labels: Vec<&str> = tool
        .manifest()
        .capabilities()
        .map(|import| import.label.as_str())
        .collect();
    match bound.bind.keys().find(|label| !labels.contains(&label.as_str())) {
        None => Ok(()),
        Some(label) => Err(Refusal::new(
            Code::Binding,
            format!("[tool.{name}.bind] binds `{label}`, which its component does not import"),
        )
        .advise(format!("its capabilities: {}", labels.join(", ")))),
    }
}

/// The ways out that the loaded tools can use. A connection that no tool is bound to keeps its secret unread.
fn upstreams(config: &Config, tools: &BTreeMap<String, Tool>) -> Result<BTreeMap<String, Upstream>, OpenError> {
    let mut upstreams = BTreeMap::new();
    let mut problems = Vec::new();
    let bound = tools
        .keys()
        .filter_map(|name| config.tool(name))
        .flat_map(|tool| tool.bind.values());
    for connection in bound {
        if upstreams.contains_key(connection) {
            continue;
        }
        match config.upstream(connection, &Process) {
            Ok(upstream) => {
                upstreams.insert(connection.clone(), upstream);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(upstreams)
    } else {
        Err(OpenError::Problems(problems))
    }
}

/// The webhooks, ready to be sent to.
fn hooks(config: &Config) -> Result<BTreeMap<String, Hook>, OpenError> {
    let (mut hooks, mut problems) = (BTreeMap::new(), Vec::new());
    for name in config.webhooks().keys() {
        match config.hook(name, &Process) {
            Ok(hook) => drop(hooks.insert(name.clone(), hook)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(hooks)
    } else {
        Err(OpenError::Problems(problems))
    }
}

/// The end of a call whose guest did not come to one. Where it ended with its host, nobody knows how far it came, and it has used all
/// that it could; what guests used that waited is known. `tally` is of all that its entries say, those of its end among them.
pub(crate) fn ended_without_its_guest(
    accepted: &CallAccepted,
    guests: &Guests,
    tally: &Tally,
    outcome: End,
) -> CallFinished {
    let settle = |reservation: &Reservation| settled(reservation.clone(), guests.used());
    CallFinished {
        asked: accepted.asked.clone(),
        checked: tally.checks().to_vec(),
        edited: tally.edited(),
        effects: tally.counts(),
        engine: None,
        fuel: 0,
        log: None,
        memory: 0,
        ms: 0,
        outcome,
        settled: accepted.reserved.iter().map(settle).collect(),
        spent: tally.spent(),
        undoes: accepted.undoes.clone(),
        upstream: 0,
    }
}

impl Readied {
    /// What the ledger is to say of it before it is used.
    pub(crate) fn changes(&self, store: &Store) -> Result<Vec<EntryDraft>, OpenError> {
        changes(store, &self.config, &self.policy)
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) const fn policy(&self) -> &PolicySet {
        &self.policy
    }

    pub(crate) const fn tools(&self) -> &BTreeMap<String, Tool> {
        &self.tools
    }
}

/// Entries that say that configuration or policy are other ones than the last on the ledger.
fn changes(store: &Store, config: &Config, policy: &PolicySet) -> Result<Vec<EntryDraft>, OpenError> {
    let reader = store.reader()?;
    let (last_config, last_policy) = reader.in_force()?;
    let mut entries = Vec::new();
    if last_config != Some(config.digest()) {
        entries.push(EntryDraft::of_ledger(ConfigChanged {
            from: last_config,
            to: config.digest(),
        }));
    }
    if last_policy != Some(policy.digest()) {
        let rules = u32::try_from(policy.rules().len()).unwrap_or(u32::MAX);
        entries.push(EntryDraft::of_ledger(PolicyChanged {
            from: last_policy,
            rules,
            to: policy.digest(),
        }));
    }
    Ok(entries)
}

/// As many places as the configuration says, with the share of an agent over HTTP.
fn places(config: &Config) -> Arc<Places> {
    let limits = config.limits();
    let all = limits.concurrent_calls;
    let share = config.server().map_or(all, |server| server.calls_per_agent);
    Places::new(all, share, Duration::from_millis(limits.wall_ms))
}

impl Shared {
    /// The right to run a call, or to write about one that does not run; none where it runs already.
    pub(crate) fn alone(&self, call: &str) -> Option<Alone<'_>> {
        self.running.alone(call)
    }

    /// Whether a call runs right now.
    pub(crate) fn is_running(&self, call: &str) -> bool {
        self.running.has(call)
    }

    /// A place to run in, waited for.
    ///
    /// # Errors
    /// [`Code::Limit`] where none is free in time.
    pub(crate) fn place(&self) -> Result<Place, Refusal> {
        self.places.take(None, None)
    }

    /// How many calls wait for a place.
    pub(crate) fn waiting(&self) -> usize {
        self.places.waiting()
    }

    pub(crate) const fn places(&self) -> &Arc<Places> {
        &self.places
    }
}
