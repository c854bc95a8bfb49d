//! Everything that can be checked about a whole ledger, from its entries and the checkpoints that its key signed.

mod runs;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::body::{
    Body, BreakerClosed, BreakerOpened, CallDiverged, CallPaused, HostReloaded, LedgerOpened, Part, ValuesErased,
};
use super::entry::{Entry, Stamp};
use super::merkle::{Frontier, Hash, leaf_hash};
use super::story::{CallStory, EffectStory, Opening};
use super::undone::Undone;
use super::{Checkpoint, LedgerError, VerifierKey};
use crate::digest::Digest;
use crate::guard;
use crate::scope::Tier;
use crate::stop::{Kind, Stop, Subject, forbidding};
use runs::Runs;

/// A ledger's row as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The entry's bytes.
    pub bytes: Vec<u8>,
    /// The leaf hash beside it, where the store keeps one. It proves nothing, but tells which of several entries was changed.
    pub leaf: Option<Hash>,
}

/// What is wrong with a ledger, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{fault}", .index.map(|index| format!("entry {index}: ")).unwrap_or_default())]
pub struct Bad {
    /// The first bad entry. None where a checkpoint itself is bad.
    pub index: Option<u64>,
    /// What is wrong.
    pub fault: Fault,
}

impl Bad {
    /// A fault found at an entry. A root says only that something since the last checkpoint is wrong: the first of these is named.
    fn at(index: u64, fault: Fault) -> Self {
        let index = match fault {
            Fault::Root { proved, .. } => proved,
            _ => index,
        };
        Self {
            index: Some(index),
            fault,
        }
    }
}

/// What is wrong with a ledger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A checkpoint is not one, or not of this key.
    #[error("{0}")]
    Checkpoint(LedgerError),
    /// Two checkpoints of one size differ: the key signed two histories.
    #[error("two checkpoints of size {size} have different roots: two histories were signed")]
    Fork {
        /// Their size.
        size: u64,
    },
    /// The entry cannot be read, or contradicts those before it.
    #[error("{0}")]
    Entry(LedgerError),
    /// The bytes don't have the hash that stands beside them.
    #[error("its bytes do not have the hash that was stored with it")]
    Leaf,
    /// Another index than its place.
    #[error("it says that its index is {found}")]
    Sequence {
        /// The index it has in it.
        found: u64,
    },
    /// Time went back.
    #[error("its time is before that of the entry before it")]
    Time,
    /// The first entry does not open this ledger, or a later one opens another.
    #[error("{0}")]
    Opening(&'static str),
    /// The entries are not those that were signed.
    #[error("it or another before entry {size} is not what was signed: the root for {size} entries is another one")]
    Root {
        /// How many entries earlier checkpoints prove: the first bad one is not among them.
        proved: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// The ledger is shorter than it was.
    #[error(
        "the ledger ends here, but a checkpoint proves that it had {signed} entries: its tail was cut off, or it was restored from an older copy"
    )]
    Truncated {
        /// The checkpoint's size.
        signed: u64,
    },
    /// Entries follow that no checkpoint covers.
    #[error("no checkpoint covers it or what follows: it was not written by the holder of the key")]
    Unsigned,
    /// There is nothing.
    #[error("the ledger is empty")]
    Empty,
}

/// What a sound ledger holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Entries.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// Checkpoints that were given and met.
    pub checkpoints: usize,
    /// Calls that ended or were denied.
    pub calls: u64,
    /// Calls of which an entry says that their values were erased.
    pub erased: u64,
    /// Calls that ended with effects of which nobody knows whether they happened.
    pub doubtful: u64,
    /// Calls without an end, each with the numbers of its intents without an outcome: under way, or left by a host that died. Sorted.
    pub open: Vec<(String, Vec<u32>)>,
    /// Time of the first and of the last entry, in milliseconds since 1970.
    pub span_ms: (i64, i64),
}

/// Checks a whole ledger in one pass, keeping only its open calls in memory, and those with effects in doubt.
///
/// `checkpoints` are signed notes in any order; among them should be the last one known from elsewhere (the high-water mark), or a cut
/// tail looks like a shorter ledger. That every checkpoint is of the same tree is what makes them consistent with each other. To show
/// progress, count in `entries`.
///
/// # Errors
/// A [`Bad`] that names the first bad entry; and whatever `entries` fails with.
pub fn verify<'n, E: From<Bad>>(
    entries: impl IntoIterator<Item = Result<Stored, E>>,
    checkpoints: impl IntoIterator<Item = &'n str>,
    key: &VerifierKey,
) -> Result<Verified, E> {
    let mut pass = Pass::new(key, checkpoints)?;
    for stored in entries {
        let index = pass.tree.size();
        pass.entry(&stored?).map_err(|fault| Bad::at(index, fault))?;
    }
    Ok(pass.finish()?)
}

struct Pass<'k> {
    key: &'k VerifierKey,
    /// By size, each size once.
    checkpoints: Vec<Checkpoint>,
    /// How many of them were met.
    met: usize,
    tree: Frontier,
    first: Option<Stamp>,
    last: Option<Stamp>,
    open: HashMap<String, CallStory>,
    /// Calls that are over with effects in doubt: an operator may say later what became of these.
    doubtful: HashMap<String, CallStory>,
    /// Calls that are over, by the head of a digest: all that is needed is that they don't go on.
    over: HashSet<[u8; 16]>,
    /// Calls whose values were erased, likewise.
    erased: HashSet<[u8; 16]>,
    /// The stops in force, with their ids.
    stops: BTreeMap<Stop, String>,
    /// Breakers that are open, by connection and route.
    broken: HashSet<(String, Option<String>)>,
    /// The configuration and the policies that entries say are in force.
    in_force: (Option<Digest>, Option<Digest>),
    /// Runs, and what is part of them.
    runs: Runs,
    /// What rollbacks undid.
    undone: Undone,
}

impl<'k> Pass<'k> {
    fn new<'n>(key: &'k VerifierKey, notes: impl IntoIterator<Item = &'n str>) -> Result<Self, Bad> {
        let bad = |fault| Bad { index: None, fault };
        let mut checkpoints = notes
            .into_iter()
            .map(|note| Checkpoint::parse_verified(note, key))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| bad(Fault::Checkpoint(error)))?;
        checkpoints.sort_by_key(Checkpoint::size);
        checkpoints.dedup();
        // That of an empty ledger is met before it begins.
        checkpoints.retain(|checkpoint| checkpoint.size() > 0);
        let fork = checkpoints.windows(2).find_map(|pair| match pair {
            [one, other] if one.size() == other.size() => Some(one.size()),
            _ => None,
        });
        if let Some(size) = fork {
            return Err(bad(Fault::Fork { size }));
        }
        Ok(Self {
            key,
            checkpoints,
            met: 0,
            tree: Frontier::new(),
            first: None,
            last: None,
            open: HashMap::new(),
            doubtful: HashMap::new(),
            over: HashSet::new(),
            erased: HashSet::new(),
            stops: BTreeMap::new(),
            broken: HashSet::new(),
            in_force: (None, None),
            runs: Runs::default(),
            undone: Undone::default(),
        })
    }

    /// How many entries the checkpoints met so far prove.
    fn proved(&self) -> u64 {
        self.met
            .checked_sub(1)
            .and_then(|met| self.checkpoints.get(met))
            .map_or(0, Checkpoint::size)
    }

    fn entry(&mut self, stored: &Stored) -> Result<(), Fault> {
        let index = self.tree.size();
        let leaf = leaf_hash(&stored.bytes);
        if !guard!("ledger.leaf", stored.leaf.is_none_or(|stored| stored == leaf)) {
            return Err(Fault::Leaf);
        }
        let entry = Entry::parse(&stored.bytes).map_err(Fault::Entry)?;
        if !guard!("ledger.sequence", entry.index() == index) {
            return Err(Fault::Sequence { found: entry.index() });
        }
        let after = self.last.is_none_or(|last| last.time_ms() <= entry.time_ms());
        if !guard!("ledger.time", after) {
            return Err(Fault::Time);
        }
        self.check_opening(&entry)?;
        self.tell(&entry).map_err(Fault::Entry)?;
        self.first.get_or_insert(entry.stamp());
        self.last = Some(entry.stamp());
        self.tree.append(leaf, |_, _| ());
        self.meet()
    }

    /// The first entry opens this key's ledger; no other entry opens one.
    fn check_opening(&self, entry: &Entry) -> Result<(), Fault> {
        let opened = match entry.body() {
            Body::LedgerOpened(opened) => Some(opened),
            _ => None,
        };
        if !guard!("ledger.opening", opened.is_some() == (entry.index() == 0)) {
            return Err(Fault::Opening("only the first entry, and it alone, is ledger-opened"));
        }
        let ours = |opened: &LedgerOpened| opened.key == self.key.to_string() && opened.origin == self.key.name();
        if !guard!("ledger.opening-key", opened.is_none_or(ours)) {
            return Err(Fault::Opening("the ledger was opened under another key"));
        }
        Ok(())
    }

    /// Values are erased of calls that are over, and once.
    fn erase(&mut self, erased: &ValuesErased) -> Result<(), LedgerError> {
        let wrong = |call: &str, why: &str| Err(LedgerError::Story(format!("values of call {call} erased: {why}")));
        for call in &erased.calls {
            if !guard!("ledger.erased-over", self.over.contains(&short(call))) {
                return wrong(call, "no call of that id was over");
            }
            if !guard!("ledger.erased-doubt", !self.doubtful.contains_key(call)) {
                return wrong(call, "an effect of it was in doubt");
            }
            let first = self.erased.insert(short(call));
            if !guard!("ledger.erased-once", first) {
                return wrong(call, "they were erased before");
            }
        }
        Ok(())
    }

    /// A stop is in force once, and the one that is lifted is in force.
    fn stop(&mut self, stop: Stop, id: &str, begins: bool) -> Result<(), LedgerError> {
        let wrong = |why: &str| LedgerError::Story(format!("a {stop}: {why}"));
        let known = self.stops.get(&stop);
        if begins {
            if !guard!("ledger.stop-once", known.is_none()) {
                return Err(wrong("it was in force already"));
            }
            self.stops.insert(stop, id.to_owned());
            return Ok(());
        }
        if !guard!("ledger.lift-in-force", known.is_some_and(|known| known == id)) {
            return Err(wrong("it was lifted and not in force under that id"));
        }
        self.stops.remove(&stop);
        Ok(())
    }

    /// Nothing is sent under a stop, for the first time or again.
    fn not_stopped(&self, entry: &Entry, connection: &str, tier: Tier) -> Result<(), LedgerError> {
        if self.stops.is_empty() {
            return Ok(());
        }
        let story = entry.call().and_then(|call| self.open.get(call));
        let accepted = story.and_then(|story| match &story.opening.what {
            Opening::Accepted(accepted) => Some(accepted),
            Opening::Denied(_) => None,
        });
        let tool = accepted.map(|accepted| accepted.asked.tool.clone());
        let run = accepted.and_then(|accepted| accepted.run.clone());
        let subject = subject(entry, connection, tool, run);
        let Some(stop) = forbidding(self.stops.keys(), &subject, tier) else {
            return Ok(());
        };
        let ordinal = entry.body().ordinal().unwrap_or_default();
        let call = entry.call().unwrap_or_default();
        let said = |what: &str| LedgerError::Story(format!("effect {ordinal} of call {call} {what} under a {stop}"));
        match entry.body() {
            Body::EffectRetried(_) if !guard!("ledger.retry-stopped", false) => Err(said("is sent again")),
            Body::EffectIntent(_) if !guard!("ledger.intent-stopped", false) => Err(said("has an intent")),
            _ => Ok(()),
        }
    }

    /// The tier of an effect that is under way; the highest where there is none, which its call's story refuses.
    fn tier_of(&self, entry: &Entry, ordinal: u32) -> Tier {
        let story = entry.call().and_then(|call| self.open.get(call));
        match story.and_then(|story| story.effects.get(&ordinal)) {
            Some(EffectStory::Intended { intent, .. }) => intent.what.tier,
            _ => Tier::Commit,
        }
    }

    /// What diverged is a call that there was, and an effect where it says which.
    fn diverged(&self, diverged: &CallDiverged) -> Result<(), LedgerError> {
        let call = &diverged.call;
        let known = self.over.contains(&short(call)) || self.open.contains_key(call);
        let told = diverged.ordinal.is_some() == (diverged.part == Part::Effect);
        if !guard!("ledger.diverged-call", known && told) {
            return Err(LedgerError::Story(format!(
                "call {call} diverged: there is no such call, or it does not say which effect"
            )));
        }
        Ok(())
    }

    /// A call is paused by safe mode that is in force.
    fn is_paused(&self, paused: &CallPaused) -> Result<(), LedgerError> {
        let safe = |(stop, id): (&Stop, &String)| stop.kind == Kind::SafeMode && *id == paused.stop;
        if !guard!("ledger.pause-stop", self.stops.iter().any(safe)) {
            return Err(LedgerError::Story(format!(
                "a call is paused by {}, which is no safe mode that is in force",
                paused.stop
            )));
        }
        Ok(())
    }

    /// A breaker opens for the first time in a row exactly where it was closed.
    fn breaker_opens(&mut self, opened: &BreakerOpened) -> Result<(), LedgerError> {
        let first = self.broken.insert((opened.connection.clone(), opened.route.clone()));
        if !guard!("ledger.breaker-order", first == (opened.in_a_row == 1)) {
            return Err(LedgerError::Story(format!(
                "breaker of {} opened: it says {} in a row",
                opened.connection, opened.in_a_row
            )));
        }
        Ok(())
    }

    /// A breaker closes that was open.
    fn breaker_closes(&mut self, closed: &BreakerClosed) -> Result<(), LedgerError> {
        let open = self.broken.remove(&(closed.connection.clone(), closed.route.clone()));
        if !guard!("ledger.breaker-order", open) {
            return Err(LedgerError::Story(format!(
                "breaker of {} closed: it was not open",
                closed.connection
            )));
        }
        Ok(())
    }

    /// What a host took anew is what the entries before it say is in force.
    fn reloaded(&self, reloaded: &HostReloaded) -> Result<(), LedgerError> {
        let said = (Some(reloaded.config), Some(reloaded.policy));
        if !guard!("ledger.reloaded", self.in_force == said) {
            return Err(LedgerError::Story(
                "a host took its files anew: they are not the configuration and policies that the entries before say"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Holds the entry against all that came before it: its call's entries, and its run's.
    fn tell(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        let over = self.tell_call(entry)?;
        let call = entry.call().unwrap_or_default();
        self.runs.entry(entry, self.open.get(call))?;
        if over {
            let doubtful = self.open.remove(call).filter(|story| story.doubts().next().is_some());
            self.doubtful.extend(doubtful.map(|story| (call.to_owned(), story)));
            self.over.insert(short(call));
        }
        Ok(())
    }

    /// Puts the entry into its call's story; whether the call is over with it.
    fn tell_call(&mut self, entry: &Entry) -> Result<bool, LedgerError> {
        match entry.body() {
            Body::ValuesErased(erased) => self.erase(erased)?,
            Body::StopSet(set) => self.stop(set.stop(), &set.id, true)?,
            Body::StopLifted(lifted) => self.stop(lifted.stop(), &lifted.id, false)?,
            Body::BreakerOpened(opened) => self.breaker_opens(opened)?,
            Body::BreakerClosed(closed) => self.breaker_closes(closed)?,
            Body::CallDiverged(diverged) => self.diverged(diverged)?,
            Body::EffectIntent(intent) => self.not_stopped(entry, &intent.connection, intent.tier)?,
            Body::EffectRetried(again) => {
                self.not_stopped(entry, &again.connection, self.tier_of(entry, again.ordinal))?;
            }
            Body::CallPaused(paused) => self.is_paused(paused)?,
            Body::ConfigChanged(changed) => self.in_force.0 = Some(changed.to),
            Body::PolicyChanged(changed) => self.in_force.1 = Some(changed.to),
            Body::HostReloaded(reloaded) => self.reloaded(reloaded)?,
            _ => {}
        }
        let Some(call) = entry.call() else { return Ok(false) };
        let before = self.doubtful.get(call).or_else(|| self.open.get(call));
        self.undone.tell(entry, before, |call| {
            self.over.contains(&short(call)) && !self.doubtful.contains_key(call)
        })?;
        if let Some(story) = self.doubtful.get_mut(call) {
            story.follow(entry)?;
            if story.doubts().next().is_none() {
                self.doubtful.remove(call);
            }
            return Ok(false);
        }
        if !guard!("ledger.story-finished-once", !self.over.contains(&short(call))) {
            return Err(LedgerError::Story(format!(
                "{} of call {call}: the call is already over",
                entry.kind()
            )));
        }
        if let Some(story) = self.open.get_mut(call) {
            story.follow(entry)?;
            return Ok(story.is_over());
        }
        let story = CallStory::begin(entry)?;
        let over = story.is_over();
        self.open.insert(call.to_owned(), story);
        Ok(over)
    }

    /// Compares the root with the checkpoint of this size, if there is one.
    fn meet(&mut self) -> Result<(), Fault> {
        let Some(checkpoint) = self.checkpoints.get(self.met) else {
            return Ok(());
        };
        if checkpoint.size() != self.tree.size() {
            return Ok(());
        }
        if !guard!("ledger.root", checkpoint.root() == self.tree.root()) {
            return Err(Fault::Root {
                proved: self.proved(),
                size: checkpoint.size(),
            });
        }
        self.met += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<Verified, Bad> {
        let size = self.tree.size();
        let bad = |index, fault| Err(Bad::at(index, fault));
        if let Some(last) = self.checkpoints.last().map(Checkpoint::size)
            && !guard!("ledger.truncated", last <= size)
        {
            return bad(size, Fault::Truncated { signed: last });
        }
        let (Some(first), Some(last)) = (self.first, self.last) else {
            return bad(0, Fault::Empty);
        };
        let proved = self.proved();
        if !guard!("ledger.unsigned", proved == size) {
            return bad(proved, Fault::Unsigned);
        }
        let mut open: Vec<_> = self
            .open
            .drain()
            .map(|(call, story)| (call, story.open().collect()))
            .collect();
        open.sort();
        Ok(Verified {
            size,
            root: self.tree.root(),
            checkpoints: self.met,
            calls: self.over.len() as u64,
            doubtful: self.doubtful.len() as u64,
            erased: self.erased.len() as u64,
            open,
            span_ms: (first.time_ms(), last.time_ms()),
        })
    }
}

/// What is sent by an entry through a connection, as stops look at it. `tool` is the name that its call was accepted for, `run` what it
/// is part of.
#[must_use]
pub fn subject(entry: &Entry, connection: &str, tool: Option<String>, run: Option<String>) -> Subject {
    let principal = entry.principal();
    Subject {
        tenant: principal.map(|principal| principal.tenant.clone()).unwrap_or_default(),
        agent: principal.map(|principal| principal.agent.clone()).unwrap_or_default(),
        tool: tool.unwrap_or_default(),
        connections: BTreeSet::from([connection.to_owned()]),
        run,
    }
}

/// The head of a digest of a call's id.
fn short(call: &str) -> [u8; 16] {
    let digest = Digest::of(call.as_bytes());
    let [head, _] = digest.as_bytes().as_chunks::<16>().0 else {
        return [0; 16];
    };
    *head
}
