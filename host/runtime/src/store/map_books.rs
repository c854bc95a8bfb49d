//! The books in memory: for the store without a disk, and to check those of a store that has one.

use std::collections::{BTreeMap, HashMap};

use ambit_core::digest::Digest;
use ambit_core::identity::key::ApiKey;
use ambit_core::ledger::body::{Once, Rollback};
use ambit_core::money::Account;
use ambit_core::run::Run;
use ambit_core::stop::Stop;

use super::StoreError;
use super::books::{Begun, Books, Delegated, Held, InForce, Window, Work};

/// An account and the cap it was last held against.
type Row = (Account, u64);

/// The rows, and how to take back what was done to them since the last [`MapBooks::keep`].
#[derive(Default)]
pub(super) struct MapBooks {
    pub(super) unfinished: HashMap<Work, Begun>,
    pub(super) accounts: HashMap<Window, Row>,
    pub(super) reservations: HashMap<(Work, Window), u64>,
    pub(super) holds: BTreeMap<Work, Held>,
    /// How many of each agent's effects are held.
    waiting: HashMap<String, u64>,
    pub(super) letters: HashMap<Work, u64>,
    pub(super) doubts: HashMap<Work, u64>,
    /// What rollbacks are of, each with the index of the entry that says so.
    pub(super) rollbacks: HashMap<String, (Rollback, u64)>,
    /// What took effects back, and calls as a whole.
    pub(super) undone: HashMap<Work, Work>,
    pub(super) persons: HashMap<String, String>,
    /// Keys of agents, by their ids.
    pub(super) api_keys: HashMap<String, ApiKey>,
    /// Words of callers: what was asked for under each, and the call.
    pub(super) once: HashMap<Digest, (Digest, String)>,
    pub(super) stops: HashMap<Stop, InForce>,
    /// The tools of calls under way.
    tools: HashMap<String, String>,
    pub(super) runs: HashMap<String, Run>,
    /// The runs of calls under way.
    pub(super) run_calls: HashMap<String, String>,
    /// What people last said, by whom and what it is about.
    pub(super) delegations: HashMap<[String; 3], Delegated>,
    /// What rolling windows used, by the beginning of the slice.
    pub(super) slices: BTreeMap<(Window, i64), u64>,
    /// When people were told of windows.
    pub(super) warned: HashMap<Window, i64>,
    undo: Vec<Before>,
}

/// What a row was before it was changed.
enum Before {
    Unfinished(Work, Option<Begun>),
    Account(Window, Option<Row>),
    Reservation((Work, Window), Option<u64>),
    Hold(Work, Option<Held>),
    Letter(Work, Option<u64>),
    Doubt(Work, Option<u64>),
    Rollback(String, Option<(Rollback, u64)>),
    Undone(Work, Option<Work>),
    Person(String, Option<String>),
    ApiKey(String, Option<ApiKey>),
    Once(Digest, Option<(Digest, String)>),
    Stop(Stop, Option<InForce>),
    Tool(String, Option<String>),
    Run(String, Option<Run>),
    RunCall(String, Option<String>),
    Delegation([String; 3], Option<Delegated>),
    Slice((Window, i64), Option<u64>),
    Warned(Window, Option<i64>),
}

impl MapBooks {
    /// What was done stays done.
    pub(super) fn keep(&mut self) {
        self.undo.clear();
    }

    /// Takes back what was done since.
    pub(super) fn take_back(&mut self) {
        while let Some(before) = self.undo.pop() {
            match before {
                Before::Unfinished(key, row) => put_back(&mut self.unfinished, key, row),
                Before::Account(key, row) => put_back(&mut self.accounts, key, row),
                Before::Reservation(key, row) => put_back(&mut self.reservations, key, row),
                Before::Hold(key, row) => drop(self.set_hold(key, row)),
                Before::Delegation(key, row) => put_back(&mut self.delegations, key, row),
                Before::Letter(key, row) => put_back(&mut self.letters, key, row),
                Before::Doubt(key, row) => put_back(&mut self.doubts, key, row),
                Before::Rollback(key, row) => put_back(&mut self.rollbacks, key, row),
                Before::Undone(key, row) => put_back(&mut self.undone, key, row),
                Before::Person(key, row) => put_back(&mut self.persons, key, row),
                Before::ApiKey(key, row) => put_back(&mut self.api_keys, key, row),
                Before::Once(key, row) => put_back(&mut self.once, key, row),
                Before::Stop(key, row) => put_back(&mut self.stops, key, row),
                Before::Tool(key, row) => put_back(&mut self.tools, key, row),
                Before::Run(key, row) => put_back(&mut self.runs, key, row),
                Before::RunCall(key, row) => put_back(&mut self.run_calls, key, row),
                Before::Warned(key, row) => put_back(&mut self.warned, key, row),
                Before::Slice(key, Some(row)) => drop(self.slices.insert(key, row)),
                Before::Slice(key, None) => drop(self.slices.remove(&key)),
            }
        }
    }

    /// Puts a hold in the place of what is there, counts it, and gives back what was there.
    fn set_hold(&mut self, work: Work, held: Option<Held>) -> Option<Held> {
        if let Some(held) = &held {
            *self.waiting.entry(held.agent.clone()).or_default() += 1;
        }
        let before = match held {
            Some(held) => self.holds.insert(work, held),
            None => self.holds.remove(&work),
        };
        if let Some(before) = &before
            && let Some(count) = self.waiting.get_mut(&before.agent)
        {
            *count = count.saturating_sub(1);
        }
        before
    }
}

fn put_back<K: Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, key: K, row: Option<V>) {
    match row {
        Some(row) => map.insert(key, row),
        None => map.remove(&key),
    };
}

impl Books for MapBooks {
    type Error = StoreError;

    fn begin(&mut self, work: &Work, begun: Begun) -> Result<bool, StoreError> {
        let before = self.unfinished.insert(work.clone(), begun);
        self.undo.push(Before::Unfinished(work.clone(), before));
        Ok(before.is_none())
    }

    fn end(&mut self, work: &Work) -> Result<Option<Begun>, StoreError> {
        let before = self.unfinished.remove(work);
        self.undo.push(Before::Unfinished(work.clone(), before));
        Ok(before)
    }

    fn effects(&mut self, call: &str) -> Result<u64, StoreError> {
        let of_call = self
            .unfinished
            .keys()
            .filter(|work| work.call == call && work.ordinal.is_some());
        Ok(of_call.count() as u64)
    }

    fn begun(&mut self, work: &Work) -> Result<Option<Begun>, StoreError> {
        Ok(self.unfinished.get(work).copied())
    }

    fn account(&mut self, window: &Window) -> Result<Option<Account>, StoreError> {
        Ok(self.accounts.get(window).map(|(account, _)| *account))
    }

    fn set_account(&mut self, window: &Window, account: Account, cap: Option<u64>) -> Result<(), StoreError> {
        let before = self.accounts.get(window).copied();
        let cap = cap.or(before.map(|(_, cap)| cap)).unwrap_or_default();
        self.accounts.insert(window.clone(), (account, cap));
        self.undo.push(Before::Account(window.clone(), before));
        Ok(())
    }

    fn warned(&mut self, window: &Window) -> Result<Option<i64>, StoreError> {
        Ok(self.warned.get(window).copied())
    }

    fn set_warned(&mut self, window: &Window, time_ms: i64) -> Result<(), StoreError> {
        let before = self.warned.insert(window.clone(), time_ms);
        self.undo.push(Before::Warned(window.clone(), before));
        Ok(())
    }

    fn idle(&mut self, budget: &str) -> Result<Vec<Window>, StoreError> {
        let accounts = self.accounts.iter();
        let mut idle: Vec<Window> = accounts
            .filter(|(window, (account, _))| window.budget == budget && account.reserved == 0)
            .map(|(window, _)| window.clone())
            .collect();
        idle.sort_unstable();
        Ok(idle)
    }

    fn drop_account(&mut self, window: &Window) -> Result<(), StoreError> {
        let before = self.accounts.remove(window);
        self.undo.push(Before::Account(window.clone(), before));
        let warned = self.warned.remove(window);
        self.undo.push(Before::Warned(window.clone(), warned));
        Ok(())
    }

    fn add_slice(&mut self, window: &Window, starts: i64, used: u64) -> Result<(), StoreError> {
        let key = (window.clone(), starts);
        let before = self.slices.get(&key).copied();
        self.slices
            .insert(key.clone(), before.unwrap_or_default().saturating_add(used));
        self.undo.push(Before::Slice(key, before));
        Ok(())
    }

    fn take_slices(&mut self, window: &Window, until: i64) -> Result<Vec<u64>, StoreError> {
        let range = (window.clone(), i64::MIN)..=(window.clone(), until);
        let taken: Vec<_> = self
            .slices
            .range(range)
            .map(|(key, used)| (key.clone(), *used))
            .collect();
        for (key, used) in &taken {
            self.slices.remove(key);
            self.undo.push(Before::Slice(key.clone(), Some(*used)));
        }
        Ok(taken.into_iter().map(|(_, used)| used).collect())
    }

    fn reserve(&mut self, work: &Work, window: &Window, amount: u64) -> Result<bool, StoreError> {
        let key = (work.clone(), window.clone());
        let before = self.reservations.insert(key.clone(), amount);
        self.undo.push(Before::Reservation(key, before));
        Ok(before.is_none())
    }

    fn unreserve(&mut self, work: &Work, window: &Window) -> Result<Option<u64>, StoreError> {
        let key = (work.clone(), window.clone());
        let before = self.reservations.remove(&key);
        self.undo.push(Before::Reservation(key, before));
        Ok(before)
    }

    fn hold(&mut self, work: &Work, held: &Held) -> Result<bool, StoreError> {
        let before = self.set_hold(work.clone(), Some(held.clone()));
        let new = before.is_none();
        self.undo.push(Before::Hold(work.clone(), before));
        Ok(new)
    }

    fn held(&mut self, work: &Work) -> Result<Option<Held>, StoreError> {
        Ok(self.holds.get(work).cloned())
    }

    fn unhold(&mut self, work: &Work) -> Result<(), StoreError> {
        let before = self.set_hold(work.clone(), None);
        self.undo.push(Before::Hold(work.clone(), before));
        Ok(())
    }

    fn holds(&mut self, call: &str) -> Result<u64, StoreError> {
        let work = |ordinal| Work {
            call: call.to_owned(),
            ordinal,
        };
        Ok(self.holds.range(work(None)..=work(Some(u32::MAX))).count() as u64)
    }

    fn holds_of_agent(&mut self, agent: &str) -> Result<u64, StoreError> {
        Ok(self.waiting.get(agent).copied().unwrap_or_default())
    }

    fn delegation(&mut self, about: &[String; 3]) -> Result<Option<Delegated>, StoreError> {
        Ok(self.delegations.get(about).cloned())
    }

    fn delegate(&mut self, said: &Delegated) -> Result<(), StoreError> {
        let before = self.delegations.insert(said.about.clone(), said.clone());
        self.undo.push(Before::Delegation(said.about.clone(), before));
        Ok(())
    }

    fn end_delegations(&mut self, name: &str) -> Result<(), StoreError> {
        let of_person = |said: &&mut Delegated| {
            let [person, delegate, _] = &said.about;
            person == name || delegate == name
        };
        for said in self.delegations.values_mut().filter(of_person) {
            self.undo
                .push(Before::Delegation(said.about.clone(), Some(said.clone())));
            said.until_ms = 0;
        }
        Ok(())
    }

    fn bury(&mut self, work: &Work, index: u64) -> Result<bool, StoreError> {
        let before = self.letters.insert(work.clone(), index);
        self.undo.push(Before::Letter(work.clone(), before));
        Ok(before.is_none())
    }

    fn exhume(&mut self, work: &Work) -> Result<bool, StoreError> {
        let before = self.letters.remove(work);
        self.undo.push(Before::Letter(work.clone(), before));
        Ok(before.is_some())
    }

    fn note_rollback(&mut self, by: &str, of: &Rollback, index: u64) -> Result<bool, StoreError> {
        // As the rows have it.
        let of = Rollback {
            over_changes: false,
            skip: Vec::new(),
            ..of.clone()
        };
        let before = self.rollbacks.insert(by.to_owned(), (of, index));
        let new = before.is_none();
        self.undo.push(Before::Rollback(by.to_owned(), before));
        Ok(new)
    }

    fn rolls_back(&mut self, by: &str) -> Result<Option<Rollback>, StoreError> {
        Ok(self.rollbacks.get(by).map(|(of, _)| of.clone()))
    }

    fn is_rolled_back(&mut self, call: &str) -> Result<bool, StoreError> {
        let work = |call: &str| Work {
            call: call.to_owned(),
            ordinal: None,
        };
        let mut of_call = self.rollbacks.iter().filter(|(_, (of, _))| of.call == call);
        Ok(of_call.any(|(by, _)| self.unfinished.contains_key(&work(by))))
    }

    fn undo(&mut self, work: &Work, by: &Work) -> Result<bool, StoreError> {
        if self.undone.contains_key(work) {
            return Ok(false);
        }
        self.undone.insert(work.clone(), by.clone());
        self.undo.push(Before::Undone(work.clone(), None));
        Ok(true)
    }

    fn is_undone(&mut self, work: &Work) -> Result<bool, StoreError> {
        Ok(self.undone.contains_key(work))
    }

    fn redo(&mut self, by: &Work) -> Result<(), StoreError> {
        let of = self.undone.iter().find(|(_, found)| *found == by);
        if let Some(of) = of.map(|(of, _)| of.clone()) {
            let before = self.undone.remove(&of);
            self.undo.push(Before::Undone(of, before));
        }
        Ok(())
    }

    fn doubt(&mut self, work: &Work, index: u64) -> Result<(), StoreError> {
        let before = self.doubts.insert(work.clone(), index);
        self.undo.push(Before::Doubt(work.clone(), before));
        Ok(())
    }

    fn undoubt(&mut self, work: &Work) -> Result<bool, StoreError> {
        let before = self.doubts.remove(work);
        self.undo.push(Before::Doubt(work.clone(), before));
        Ok(before.is_some())
    }

    fn set_stop(&mut self, stop: &InForce) -> Result<bool, StoreError> {
        let before = self.stops.insert(stop.stop.clone(), stop.clone());
        let new = before.is_none();
        self.undo.push(Before::Stop(stop.stop.clone(), before));
        Ok(new)
    }

    fn lift_stop(&mut self, stop: &Stop, id: &str) -> Result<bool, StoreError> {
        if self.stops.get(stop).is_none_or(|known| known.id != id) {
            return Ok(false);
        }
        let before = self.stops.remove(stop);
        self.undo.push(Before::Stop(stop.clone(), before));
        Ok(true)
    }

    fn stops(&mut self) -> Result<Vec<Stop>, StoreError> {
        let mut stops: Vec<Stop> = self.stops.keys().cloned().collect();
        stops.sort_unstable();
        Ok(stops)
    }

    fn tool_of(&mut self, call: &str) -> Result<Option<String>, StoreError> {
        Ok(self.tools.get(call).cloned())
    }

    fn note_tool(&mut self, call: &str, tool: Option<&str>) -> Result<(), StoreError> {
        let before = match tool {
            Some(tool) => self.tools.insert(call.to_owned(), tool.to_owned()),
            None => self.tools.remove(call),
        };
        self.undo.push(Before::Tool(call.to_owned(), before));
        Ok(())
    }

    fn enrol(&mut self, name: &str, key: &str) -> Result<bool, StoreError> {
        let before = self.persons.insert(name.to_owned(), key.to_owned());
        let new = before.is_none();
        self.undo.push(Before::Person(name.to_owned(), before));
        Ok(new)
    }

    fn key_of(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.persons.get(name).cloned())
    }

    fn keys(&mut self) -> Result<Vec<String>, StoreError> {
        Ok(self.persons.values().cloned().collect())
    }

    fn revoke(&mut self, name: &str) -> Result<(), StoreError> {
        let before = self.persons.remove(name);
        self.undo.push(Before::Person(name.to_owned(), before));
        Ok(())
    }

    fn api_key(&mut self, id: &str) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.api_keys.get(id).cloned())
    }

    fn set_api_key(&mut self, key: &ApiKey) -> Result<(), StoreError> {
        let before = self.api_keys.insert(key.id().to_owned(), key.clone());
        self.undo.push(Before::ApiKey(key.id().to_owned(), before));
        Ok(())
    }

    fn once(&mut self, once: &Once, call: &str) -> Result<Option<String>, StoreError> {
        let before = self.once.get(&once.key).cloned();
        if let Some((_, call)) = before {
            return Ok(Some(call));
        }
        self.once.insert(once.key, (once.request, call.to_owned()));
        self.undo.push(Before::Once(once.key, None));
        Ok(None)
    }

    fn run(&mut self, id: &str) -> Result<Option<Run>, StoreError> {
        Ok(self.runs.get(id).cloned())
    }

    fn set_run(&mut self, run: &Run) -> Result<(), StoreError> {
        let before = self.runs.insert(run.id().to_owned(), run.clone());
        self.undo.push(Before::Run(run.id().to_owned(), before));
        Ok(())
    }

    fn join(&mut self, call: &str, run: &str) -> Result<(), StoreError> {
        let before = self.run_calls.insert(call.to_owned(), run.to_owned());
        self.undo.push(Before::RunCall(call.to_owned(), before));
        Ok(())
    }

    fn run_of(&mut self, call: &str) -> Result<Option<String>, StoreError> {
        Ok(self.run_calls.get(call).cloned())
    }

    fn leave(&mut self, call: &str) -> Result<(), StoreError> {
        let before = self.run_calls.remove(call);
        self.undo.push(Before::RunCall(call.to_owned(), before));
        Ok(())
    }
}
