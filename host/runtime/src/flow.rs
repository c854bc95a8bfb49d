//! How often services are used, and when they are left alone: the rates and breakers of the connections, in this process.
//!
//! The arithmetic is [`ambit_core::flow`]'s; here are the clock, the locks and the ledger. A breaker's changes are entries, written
//! while it is locked, so that the ledger has them in the order in which they happened. What a new process goes on from is read from
//! the ledger ([`Past`]): open breakers, the failures that a closed one still counts, and what was sent. What a failure is says
//! [`How::of`] alone, of a sending that ends here as of one that is read back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ambit_core::credential::ROUTE;
use ambit_core::error::{Code, Refusal};
use ambit_core::flow::{Attempt, Blocked, Breaker, Bucket, Change, How, Jitter, Pass, Standing, is_unreached};
use ambit_core::ledger::EntryDraft;
use ambit_core::ledger::body::{BreakerClosed, BreakerOpened, ClosedBy};
use ambit_core::scope::Tier;
use parking_lot::{Mutex, RwLock};

use crate::clock::clock;
use crate::config::Config;
use crate::effects::one_outcome;
use crate::gate::{LONGEST_PAUSE, SendError, Sent};
use crate::random;
use crate::store::{Batch, Past, Reader, Since, Store, StoreError};

/// How long an effect waits for its turn at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// The state of every connection.
#[derive(Debug)]
pub struct Flow {
    connections: RwLock<BTreeMap<String, Arc<Mutex<State>>>>,
    paused: RwLock<BTreeMap<String, u64>>,
}

/// The state of one connection. What is of a route has its name.
#[derive(Debug, Default)]
struct State {
    rates: BTreeMap<Option<String>, Bucket>,
    circuits: BTreeMap<Option<String>, Circuit>,
}

#[derive(Debug)]
struct Circuit {
    breaker: Breaker,
    /// Whether one of its own routes reads. Where none does, any read of the connection shows whether it works.
    reads: bool,
}

/// Where a connection stands: what `ambit connections list` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its name.
    pub name: String,
    /// Until when it asked to be left alone, in milliseconds since 1970.
    pub paused_until_ms: Option<u64>,
    /// Its breaker, and those of its routes that have one.
    pub breakers: Vec<(Option<String>, Standing)>,
    /// Its rate, and those of its routes that have one, with how many requests could be made at once.
    pub rates: Vec<(Option<String>, ambit_core::flow::Rate, u64)>,
}

impl Flow {
    /// Of all connections of a configuration, as the ledger says they were used.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub fn open(config: &Config, reader: &Reader) -> Result<Flow, StoreError> {
        let now = clock();
        let mut connections = states(config);
        let past = reader.past(since(now, connections.values()))?;
        for (name, state) in &mut connections {
            state.go_on(name, &past);
        }
        Ok(Flow {
            connections: RwLock::new(
                connections
                    .into_iter()
                    .map(|(name, state)| (name, Arc::new(Mutex::new(state))))
                    .collect(),
            ),
            paused: RwLock::new(paused(now, past)),
        })
    }

    /// Goes by another configuration from here on, while effects go on. What is under the rules that it was under keeps what it counted;
    /// what is new or under other rules goes on from the ledger. What the configuration has no more stays, for what is under way.
    ///
    /// # Errors
    /// Where the ledger cannot be read: what was not done by then stays as it was.
    pub(crate) fn take(&self, config: &Config, reader: &Reader) -> Result<(), StoreError> {
        let now = clock();
        for (name, mut fresh) in states(config) {
            let known = {
                let mut connections = self.connections.write();
                Arc::clone(connections.entry(name.clone()).or_default())
            };
            let mut known = known.lock();
            if known.rules() == fresh.rules() {
                continue;
            }
            // A breaker's changes are written while it is locked: this sees all of them.
            let past = reader.past(since(now, [&fresh]))?;
            fresh.go_on(&name, &past);
            for (of, circuit) in &mut fresh.circuits {
                if let Some(older) = known.circuits.get(of) {
                    circuit.breaker.comes_after(&older.breaker);
                }
            }
            *known = fresh;
        }
        let past = reader.past(since(now, []))?;
        *self.paused.write() = paused(now, past);
        Ok(())
    }

    /// The state of a connection; none of one without rates and breakers.
    fn of(&self, connection: &str) -> Option<Arc<Mutex<State>>> {
        self.connections.read().get(connection).cloned()
    }

    /// How long a connection still wants to be left alone, by what it said to an earlier process.
    pub(crate) fn rest(&self, connection: &str) -> Duration {
        let until = self.paused.read().get(connection).copied().unwrap_or_default();
        Duration::from_millis(until.saturating_sub(clock()))
    }

    /// Whether a breaker lets an effect go, as far as is known now. Asked before an effect waits for its turn.
    ///
    /// # Errors
    /// [`Code::Breaker`].
    pub(crate) fn check(&self, connection: &str, route: &str, tier: Tier) -> Result<(), Refusal> {
        let Some(state) = self.of(connection) else {
            return Ok(());
        };
        let mut state = state.lock();
        let of = state.circuit_of(route);
        match state.circuits.get_mut(&of) {
            Some(circuit) => circuit
                .breaker
                .check(clock(), tier == Tier::Read)
                .map_err(|blocked| blocked_refusal(connection, of.as_deref(), blocked)),
            None => Ok(()),
        }
    }

    /// A place under the rates of a connection and a route: how long until its turn comes, at most `most`.
    ///
    /// # Errors
    /// [`Code::Rate`]: which rate, and when there is room.
    pub(crate) fn turn(&self, connection: &str, route: &str, most: Duration) -> Result<Duration, Refusal> {
        let Some(state) = self.of(connection) else {
            return Ok(Duration::ZERO);
        };
        let mut state = state.lock();
        let patience = u64::try_from(most.min(PATIENCE).as_millis()).unwrap_or(u64::MAX);
        let now = clock();
        let rates = state.rates.iter_mut();
        let ours = rates.filter(|(of, _)| of.as_deref().is_none_or(|of| of == route));
        let mut ours: Vec<_> = ours.collect();
        let buckets = ours.iter_mut().map(|(_, bucket)| &mut **bucket);
        match Bucket::take_all(buckets, now, patience) {
            Ok(wait) => Ok(Duration::from_millis(wait)),
            Err(wait) => {
                let waits = ours
                    .into_iter()
                    .map(|(of, bucket)| (bucket.wait(now), named(connection, of.as_deref()), bucket.rate()));
                let longest = waits.max_by_key(|(wait, ..)| *wait);
                Err(rate_refusal(longest.map(|(_, name, rate)| (name, rate)), wait))
            }
        }
    }

    /// Leave for one sending. What became of it has to be told to [`Leave::end`]; a leave that is dropped says nothing.
    ///
    /// # Errors
    /// [`Code::Breaker`].
    pub(crate) fn enter(&self, connection: &str, route: &str, tier: Tier) -> Result<Leave<'_>, Refusal> {
        let mut leave = Leave {
            flow: self,
            connection: connection.to_owned(),
            passes: Vec::new(),
        };
        let Some(state) = self.of(connection) else {
            return Ok(leave);
        };
        let mut state = state.lock();
        let now = clock();
        let reads = tier == Tier::Read;
        let own = state.circuit_of(route);
        // Whoever gives out tokens is another service: it shows nothing of this one.
        let reads_here = reads && route != ROUTE;
        for (of, circuit) in &mut state.circuits {
            if *of == own {
                let pass = circuit.breaker.ask(now, reads);
                let pass = pass.map_err(|blocked| blocked_refusal(connection, of.as_deref(), blocked))?;
                leave.passes.push((of.clone(), pass));
            } else if reads_here && !circuit.reads && matches!(circuit.breaker.standing(now), Standing::HalfOpen { .. })
            {
                leave
                    .passes
                    .extend(circuit.breaker.ask(now, reads).ok().map(|pass| (of.clone(), pass)));
            }
        }
        Ok(leave)
    }

    /// Where every connection stands, by name.
    #[must_use]
    pub fn standing(&self) -> Vec<Connection> {
        let now = clock();
        let paused = self.paused.read().clone();
        let of = |(name, state): (&String, &Arc<Mutex<State>>)| {
            let mut state = state.lock();
            Connection {
                name: name.clone(),
                paused_until_ms: paused.get(name).copied().filter(|until| *until > now),
                breakers: state
                    .circuits
                    .iter_mut()
                    .map(|(of, circuit)| (of.clone(), circuit.breaker.standing(now)))
                    .collect(),
                rates: state
                    .rates
                    .iter_mut()
                    .map(|(of, bucket)| (of.clone(), bucket.rate(), bucket.room(now)))
                    .collect(),
            }
        };
        self.connections.read().iter().map(of).collect()
    }

    /// Closes breakers of a connection that are open: those that `reset` has written down, while nothing about them changes.
    ///
    /// # Errors
    /// As `reset`.
    pub(crate) fn reset<E>(
        &self,
        connection: &str,
        reset: impl FnOnce() -> Result<Vec<Option<String>>, E>,
    ) -> Result<Vec<Option<String>>, E> {
        let Some(state) = self.of(connection) else {
            return reset();
        };
        let mut state = state.lock();
        let closed = reset()?;
        for of in &closed {
            if let Some(circuit) = state.circuits.get_mut(of) {
                circuit.breaker.close();
            }
        }
        Ok(closed)
    }

    /// What became of a sending, for each breaker that let it go.
    fn end(
        &self,
        connection: &str,
        passes: Vec<(Option<String>, Pass)>,
        how: How,
        store: Option<&Store>,
    ) -> Result<(), StoreError> {
        let Some(state) = self.of(connection) else {
            return Ok(());
        };
        let mut state = state.lock();
        for (of, pass) in passes {
            let Some(circuit) = state.circuits.get_mut(&of) else {
                continue;
            };
            let Some(change) = circuit.breaker.end(&pass, clock(), how, jitter()) else {
                continue;
            };
            if let Some(store) = store {
                store.commit(Batch {
                    entries: vec![entry(connection, of, change)],
                    ..Batch::default()
                })?;
            }
        }
        Ok(())
    }
}

/// What is said of every connection, as if none was ever used.
fn states(config: &Config) -> BTreeMap<String, State> {
    let connections = config.connections();
    connections
        .map(|(name, connection)| (name.to_owned(), State::of(config, name, connection)))
        .collect()
}

/// From when on these go on from what the ledger says.
fn since<'s>(now_ms: u64, states: impl IntoIterator<Item = &'s State>) -> Since {
    let ago = |ms: u64| i64::try_from(now_ms.saturating_sub(ms)).unwrap_or(i64::MAX);
    let (mut memory, mut within) = (None, None);
    for state in states {
        memory = memory.max(state.rates.values().map(|bucket| bucket.rate().memory_ms()).max());
        let rules = state.circuits.values().map(|circuit| circuit.breaker.rule());
        within = within.max(rules.map(|rule| rule.within_ms).max());
    }
    Since {
        paused_ms: ago(longest_pause_ms()),
        sent_ms: memory.map(ago),
        failed_ms: within.map(ago),
    }
}

/// How long a service's own word is taken for at most, in milliseconds.
fn longest_pause_ms() -> u64 {
    u64::try_from(LONGEST_PAUSE.as_millis()).unwrap_or(u64::MAX)
}

fn paused(now_ms: u64, past: Past) -> BTreeMap<String, u64> {
    let latest = now_ms.saturating_add(longest_pause_ms());
    let paused = past.paused.into_iter();
    paused.map(|(name, until)| (name, until.min(latest))).collect()
}

/// What a connection or a route is held to; and of a breaker, whether a read of its own shows that its service works.
type Rules = (
    BTreeMap<Option<String>, ambit_core::flow::Rate>,
    BTreeMap<Option<String>, (ambit_core::flow::BreakerRule, bool)>,
);

impl State {
    fn rules(&self) -> Rules {
        let rates = self.rates.iter().map(|(of, bucket)| (of.clone(), bucket.rate()));
        let circuits = self.circuits.iter();
        let circuits = circuits.map(|(of, circuit)| (of.clone(), (circuit.breaker.rule(), circuit.reads)));
        (rates.collect(), circuits.collect())
    }

    fn of(config: &Config, name: &str, connection: &ambit_core::route::Connection) -> State {
        let (rate, breaker) = config.flow(name);
        let reads: BTreeSet<Option<String>> = connection
            .routes()
            .filter(|route| route.tiers().contains(&Tier::Read))
            .map(|route| route.breaker().map(|_| route.name().to_owned()))
            .collect();
        let routes = || connection.routes().map(|route| (Some(route.name().to_owned()), route));
        let rates = routes().filter_map(|(of, route)| Some((of, route.rate()?)));
        let breakers = routes().filter_map(|(of, route)| Some((of, route.breaker()?)));
        // Whoever gives out tokens fails by itself, and is asked again by itself.
        let tokens = breaker.filter(|_| config.has_tokens(name));
        let tokens = tokens.map(|rule| (Some(ROUTE.to_owned()), rule));
        State {
            rates: rate
                .map(|rate| (None, rate))
                .into_iter()
                .chain(rates)
                .map(|(of, rate)| (of, Bucket::full(rate)))
                .collect(),
            circuits: breaker
                .map(|rule| (None, rule))
                .into_iter()
                .chain(tokens)
                .chain(breakers)
                .map(|(of, rule)| {
                    let circuit = Circuit {
                        breaker: Breaker::closed(rule),
                        reads: reads.contains(&of) || of.as_deref() == Some(ROUTE),
                    };
                    (of, circuit)
                })
                .collect(),
        }
    }

    /// Goes on from what the ledger says.
    fn go_on(&mut self, name: &str, past: &Past) {
        let own: BTreeSet<Option<String>> = self.circuits.keys().cloned().collect();
        for (of, circuit) in &mut self.circuits {
            let changed = past.changed.get(&(name.to_owned(), of.clone())).copied();
            let failures = past.failed.iter().filter(|(_, connection, route)| {
                let route = Some(route.clone());
                let of_tokens = route.as_deref() == Some(ROUTE);
                let under = if of_tokens || own.contains(&route) { route } else { None };
                connection == name && under == *of
            });
            let failures = failures.map(|(failure, ..)| *failure);
            circuit.breaker = Breaker::recorded(circuit.breaker.rule(), changed, failures);
        }
        for (of, bucket) in &mut self.rates {
            past.sent
                .iter()
                .filter(|(_, connection, route)| {
                    connection == name && route != ROUTE && of.as_ref().is_none_or(|of| of == route)
                })
                .for_each(|(at, ..)| bucket.remember(*at));
        }
    }

    /// Whose breaker a route's effects are under.
    fn circuit_of(&self, route: &str) -> Option<String> {
        let own = Some(route.to_owned());
        own.filter(|_| route == ROUTE || self.circuits.contains_key(&Some(route.to_owned())))
    }
}

/// Leave for one sending, as far as breakers are concerned.
#[derive(Debug)]
#[must_use = "a breaker waits for what became of a probe"]
pub(crate) struct Leave<'f> {
    flow: &'f Flow,
    connection: String,
    passes: Vec<(Option<String>, Pass)>,
}

impl Leave<'_> {
    /// What became of it. A change of a breaker is on the ledger when this returns.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub(crate) fn end(mut self, how: How, store: &Store) -> Result<(), StoreError> {
        let passes = std::mem::take(&mut self.passes);
        self.flow.end(&self.connection, passes, how, Some(store))
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let passes = std::mem::take(&mut self.passes);
        // A pass that says nothing changes nothing, so nothing is written that could fail.
        let _ = self.flow.end(&self.connection, passes, How::Neither, None);
    }
}

/// What a sending says of its service. That a probe was answered, and nobody could read it, shows nothing: its size and form can be the
/// guest's doing.
pub(crate) fn how(sent: &Result<Sent, SendError>) -> How {
    match (How::of(&one_outcome(sent)), sent) {
        (How::Good, Err(_)) => How::Neither,
        (how, _) => how,
    }
}

/// What a sending came to, as far as sending again cares.
pub(crate) fn attempt(sent: &Result<Sent, SendError>) -> Attempt {
    let later_ms = later(sent).map(|later| u64::try_from(later.as_millis()).unwrap_or(u64::MAX));
    match sent {
        Ok(Sent { status, .. }) | Err(SendError::Unusable { status, .. }) => Attempt::Answered {
            status: *status,
            later_ms,
        },
        Err(SendError::NotSent(refusal)) if is_unreached(refusal.code) => Attempt::Unreached,
        Err(SendError::NotSent(_) | SendError::Stopped(_)) => Attempt::Final,
        Err(SendError::Unknown(_) | SendError::Late(_)) => Attempt::Lost,
    }
}

/// How long the service asked to be left alone.
pub(crate) fn later(sent: &Result<Sent, SendError>) -> Option<Duration> {
    match sent {
        Ok(sent) => sent.later,
        Err(SendError::Unusable { later, .. }) => *later,
        Err(_) => None,
    }
}

/// Where the operating system gives no randomness nothing is spread: nothing is at stake but load.
pub(crate) fn jitter() -> Jitter {
    let mut bytes = [0; 8];
    match random::fill(&mut bytes) {
        Ok(()) => Jitter::of(u64::from_le_bytes(bytes)),
        Err(_) => Jitter::default(),
    }
}

fn entry(connection: &str, route: Option<String>, change: Change) -> EntryDraft {
    let connection = connection.to_owned();
    match change {
        Change::Opened {
            failures,
            until_ms,
            in_a_row,
        } => EntryDraft::of_ledger(BreakerOpened {
            connection,
            failures,
            in_a_row,
            route,
            until: until_ms,
        }),
        Change::Closed => EntryDraft::of_ledger(BreakerClosed {
            connection,
            route,
            why: ClosedBy::Probe,
        }),
    }
}

fn named(connection: &str, route: Option<&str>) -> String {
    match route {
        None => format!("connection `{connection}`"),
        Some(route) => format!("route `{connection}/{route}`"),
    }
}

fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1_000)
}

fn rate_refusal(what: Option<(String, ambit_core::flow::Rate)>, wait_ms: u64) -> Refusal {
    let (name, rate) = match what {
        Some((name, rate)) => (name, format!("{} in {} s", rate.most(), rate.per_ms() / 1_000)),
        None => ("the connection".to_owned(), "none".to_owned()),
    };
    let wait = seconds(wait_ms);
    Refusal::new(
        Code::Rate,
        format!("{name} takes {rate}, and has no room for another {wait} s"),
    )
    .advise("call again after that time; nothing was sent. The operator's `rate` in ambit.toml says how many")
}

fn blocked_refusal(connection: &str, route: Option<&str>, blocked: Blocked) -> Refusal {
    let what = named(connection, route);
    let (message, advice) = match blocked {
        Blocked::Open(left) => (
            format!(
                "{what} failed too often, and is left alone for another {} s",
                seconds(left)
            ),
            "call again after that time; nothing was sent".to_owned(),
        ),
        Blocked::NotARead => (
            format!("{what} failed too often, and no read has shown yet that it works again"),
            format!(
                "nothing was sent; a read through `{connection}` shows it, or the operator says so: ambit connections reset {connection}"
            ),
        ),
        Blocked::Probing => (
            format!("{what} failed too often, and a read is under way that shows whether it works again"),
            "call again in a moment; nothing was sent".to_owned(),
        ),
    };
    Refusal::new(Code::Breaker, message).advise(advice)
}
