//! The books in memory: for the store without a disk, and to check those of a store that has one.

use std::collections::{BTreeMap, HashMap};

use ambit_core::money::Account;

use super::StoreError;
use super::books::{Begun, Books, Held, Window, Work};

/// An account and the cap it was last held against.
type Row = (Account, u64);

/// The rows, and how to take back what was done to them since the last [`MapBooks::keep`].
#[derive(Default)]
pub(super) struct MapBooks {
    pub(super) unfinished: HashMap<Work, Begun>,
    pub(super) accounts: HashMap<Window, Row>,
    pub(super) reservations: HashMap<(Work, Window), u64>,
    pub(super) holds: HashMap<Work, Held>,
    pub(super) letters: HashMap<Work, u64>,
    pub(super) doubts: HashMap<Work, u64>,
    pub(super) persons: HashMap<String, String>,
    /// What rolling windows used, by the beginning of the slice.
    pub(super) slices: BTreeMap<(Window, i64), u64>,
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
    Person(String, Option<String>),
    Slice((Window, i64), Option<u64>),
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
                Before::Hold(key, row) => put_back(&mut self.holds, key, row),
                Before::Letter(key, row) => put_back(&mut self.letters, key, row),
                Before::Doubt(key, row) => put_back(&mut self.doubts, key, row),
                Before::Person(key, row) => put_back(&mut self.persons, key, row),
                Before::Slice(key, Some(row)) => drop(self.slices.insert(key, row)),
                Before::Slice(key, None) => drop(self.slices.remove(&key)),
            }
        }
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

    fn under_way(&mut self, work: &Work) -> Result<bool, StoreError> {
        Ok(self.unfinished.contains_key(work))
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
        let before = self.holds.insert(work.clone(), held.clone());
        let new = before.is_none();
        self.undo.push(Before::Hold(work.clone(), before));
        Ok(new)
    }

    fn held(&mut self, work: &Work) -> Result<Option<Held>, StoreError> {
        Ok(self.holds.get(work).cloned())
    }

    fn unhold(&mut self, work: &Work) -> Result<(), StoreError> {
        let before = self.holds.remove(work);
        self.undo.push(Before::Hold(work.clone(), before));
        Ok(())
    }

    fn holds(&mut self, call: &str) -> Result<u64, StoreError> {
        Ok(self.holds.keys().filter(|work| work.call == call).count() as u64)
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
}
