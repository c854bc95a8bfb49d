//! Checking a whole ledger: its entries, what stands beside them, and its values.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use ambit_core::guard;
use ambit_core::ledger::body::{Cause, End};
use ambit_core::ledger::story::EffectStory;
use ambit_core::ledger::verify::{Stored, Verified};
use ambit_core::ledger::{Body, CallStory, Entry, Hash, VerifierKey, merkle, verify};

use super::{Reader, node, work};
use crate::store::StoreError;
use crate::store::books::{self, Window, Work};
use crate::store::erasure::Values;
use crate::store::map_books::MapBooks;
use crate::store::tables::begun;

impl Reader {
    /// Checks everything: each entry, the tree, every checkpoint (and `known` ones from elsewhere, such as the high-water mark), the order
    /// of every call, and that budgets and indexes say what follows from the entries. `progress` is told how many entries are checked.
    ///
    /// # Errors
    /// [`StoreError::Bad`] names the first bad entry; [`StoreError::Damaged`] what beside the entries contradicts them.
    pub fn verify(
        &self,
        key: &VerifierKey,
        known: &[String],
        mut progress: impl FnMut(u64),
    ) -> Result<Verified, StoreError> {
        // One transaction, so that entries, checkpoints and the rest are of the same moment.
        let moment = self
            .connection
            .unchecked_transaction()
            .map_err(|error| self.fail(&error))?;
        let mut notes = self.checkpoints()?;
        notes.extend_from_slice(known);
        let audit = RefCell::new(Audit::default());
        let sql = "SELECT bytes, leaf, kind, call FROM entries ORDER BY idx";
        let mut statement = moment.prepare(sql).map_err(|error| self.fail(&error))?;
        let rows = statement.query_map([], |row| {
            let (bytes, leaf): (Vec<u8>, [u8; 32]) = (row.get(0)?, row.get(1)?);
            let mut audit = audit.borrow_mut();
            audit.entry(&bytes, row.get(2)?, row.get(3)?);
            progress(audit.seen);
            Ok(Stored {
                bytes,
                leaf: Some(Hash::from_bytes(leaf)),
            })
        });
        let rows = rows.map_err(|error| self.fail(&error))?;
        let rows = rows.map(|row| row.map_err(|error| self.fail(&error)));
        let verified = verify(rows, notes.iter().map(String::as_str), key)?;
        audit.into_inner().finish(self)?;
        self.check_nodes(verified.size, verified.root)?;
        Ok(verified)
    }

    /// Opens every value of every call and holds it against the entry that commits to it; what an entry says is erased has to be
    /// gone. Returns how many there are. Needs the keys. `progress` is told how many of the ledger's entries are behind.
    ///
    /// # Errors
    /// [`StoreError::Payload`] names the first value that is gone without an entry that says so, is still there with one, cannot be
    /// opened, is another one, or that no entry commits to.
    pub fn check_values(&self, mut progress: impl FnMut(u64)) -> Result<Values, StoreError> {
        let sql = "SELECT call, count(*) FROM entries WHERE call IS NOT NULL GROUP BY call ORDER BY min(idx)";
        let said = self.erasures()?;
        let mut found = HashMap::new();
        let (mut values, mut behind) = (Values::default(), 0);
        for (call, entries) in self.all(sql, [], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?)))? {
            if let Some(index) = said.calls.get(&call) {
                let gone = self.check_erased(&call, *index)?;
                values.erased += gone;
                *found.entry(*index).or_default() += gone;
            } else {
                values.checked += self.check_call(&call)?;
            }
            behind += entries;
            progress(behind);
        }
        values.checked += self.check_reasons()?;
        if !guard!("ledger.erased-count", said.values == found) {
            return Err(StoreError::damaged(
                "the values that were erased are not as many as its entries say",
            ));
        }
        Ok(values)
    }

    /// The reasons that operators gave for stops and for lifting them; returns how many there are.
    fn check_reasons(&self) -> Result<u64, StoreError> {
        let mut said = Vec::new();
        let sql = "SELECT bytes FROM entries WHERE call IS NULL AND kind IN ('stop-set', 'stop-lifted') ORDER BY idx";
        self.each_entry(sql, |entry| {
            match entry.body() {
                Body::StopSet(set) => said.push((set.id.clone(), "reason", set.reason)),
                Body::StopLifted(lifted) => {
                    said.extend(lifted.reason.map(|reason| (lifted.id.clone(), "lifted", reason)))
                }
                _ => {}
            }
            Ok(true)
        })?;
        for (id, name, commitment) in &said {
            let same = self
                .payload(id, name)?
                .is_some_and(|value| value.commitment() == *commitment);
            if !guard!("ledger.reason", same) {
                return Err(StoreError::Payload {
                    call: id.clone(),
                    name: (*name).to_owned(),
                    why: "is not the value that the ledger commits to".into(),
                });
            }
        }
        Ok(said.len() as u64)
    }

    /// The values of one call; returns how many entries commit to.
    fn check_call(&self, call: &str) -> Result<u64, StoreError> {
        let wrong = |name: &str, why: &str| StoreError::Payload {
            call: call.to_owned(),
            name: name.to_owned(),
            why: why.into(),
        };
        let story = self.story(call)?;
        let mut stored: BTreeSet<String> = self.payload_names(call)?.into_iter().collect();
        let mut checked = 0;
        for (name, commitment) in story.commitments() {
            stored.remove(&name);
            let found = self.payload(call, &name)?;
            let value = found.ok_or_else(|| wrong(&name, "is gone, and the ledger commits to it"))?;
            if !guard!("ledger.value", value.commitment() == commitment) {
                return Err(wrong(&name, "is not the value that the ledger commits to"));
            }
            checked += 1;
        }
        // What a guest asked for can be durable before the entry that commits to it: with a look-up of the host's. So a call
        // has all its commitments when it came to its own end.
        let added = stored.iter().find(|name| !is_of_a_broken_look_up(&story, name));
        let added = added.filter(|_| story.is_over() && !interrupted(&story));
        if let Some(name) = added
            && !guard!("ledger.value-added", false)
        {
            return Err(wrong(name, "is stored, and no entry of the ledger commits to it"));
        }
        Ok(checked)
    }

    /// Nothing is left of a call that the entry at `index` says was erased; returns how many values it had.
    fn check_erased(&self, call: &str, index: u64) -> Result<u64, StoreError> {
        let left = self.left_of(call)?;
        if let Some(name) = left
            && !guard!("ledger.erased-gone", false)
        {
            return Err(StoreError::Payload {
                call: call.to_owned(),
                name,
                why: format!("is still there, and entry {index} says that it was erased"),
            });
        }
        Ok(self.payload_names(call)?.len() as u64)
    }

    /// The stored nodes are those of the tree, as far as proofs of this size are made from them.
    fn check_nodes(&self, size: u64, root: Hash) -> Result<(), StoreError> {
        let stored = merkle::root(size, |at| node(&self.connection, at))?;
        if stored == root {
            Ok(())
        } else {
            Err(StoreError::damaged(
                "the stored nodes of the tree are not those of its entries",
            ))
        }
    }

    fn reservations(&self) -> Result<Vec<Reserved>, StoreError> {
        self.all(
            "SELECT call, ordinal, budget, window, amount FROM reservations",
            [],
            |row| {
                Ok((
                    (
                        work(row)?,
                        Window {
                            budget: row.get(2)?,
                            window: row.get(3)?,
                        },
                    ),
                    row.get(4)?,
                ))
            },
        )
    }
}

/// What is set aside for work, in a window.
type Reserved = ((Work, Window), u64);

/// What stands beside the entries, made again from them.
#[derive(Default)]
struct Audit {
    books: MapBooks,
    seen: u64,
    /// The first thing found wrong.
    wrong: Option<String>,
}

impl Audit {
    /// Takes in an entry with the columns beside it. What is no entry is `verify`'s to name.
    fn entry(&mut self, bytes: &[u8], kind: String, call: Option<String>) {
        self.seen += 1;
        let Ok(entry) = Entry::parse(bytes) else { return };
        if kind != entry.kind().as_str() || call.as_deref() != entry.call() {
            self.note(format!(
                "the index beside entry {} does not say what the entry says",
                entry.index()
            ));
        }
        if let Err(error) = books::post(&mut self.books, &entry) {
            self.note(format!("entry {}: {error}", entry.index()));
        }
        self.books.keep();
    }

    fn note(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    fn finish(mut self, reader: &Reader) -> Result<(), StoreError> {
        let sql = "SELECT call, ordinal, idx, changes FROM unfinished";
        let unfinished = reader.all(sql, [], |row| Ok((work(row)?, begun(row, 2)?)))?;
        let unfinished = unfinished.into_iter().collect();
        self.same("what is under way", |books| books.unfinished == unfinished);
        let accounts = reader
            .budgets()?
            .into_iter()
            .map(|row| (row.window, (row.account, row.cap)))
            .collect();
        self.same("the budgets", |books| books.accounts == accounts);
        let slices = reader
            .slices()?
            .into_iter()
            .map(|row| ((row.window, row.starts), row.used))
            .collect();
        self.same("the slices of rolling windows", |books| books.slices == slices);
        let warned = reader.warned()?.into_iter().collect();
        self.same("what people were told of budgets", |books| books.warned == warned);
        let reservations = reader.reservations()?.into_iter().collect();
        self.same("the reservations", |books| books.reservations == reservations);
        let holds = reader.holds(None, usize::MAX)?.into_iter().collect();
        self.same("the holds", |books| books.holds == holds);
        let letters = reader.dead_letters(None, usize::MAX)?.into_iter().collect();
        self.same("the dead letters", |books| books.letters == letters);
        let doubts = reader.doubts()?.into_iter().collect();
        self.same("the effects in doubt", |books| books.doubts == doubts);
        let rollbacks = reader.rollbacks()?.into_iter().collect();
        self.same("the rollbacks", |books| books.rollbacks == rollbacks);
        let undone = reader.undone()?.into_iter().collect();
        self.same("what was undone", |books| books.undone == undone);
        let stops = reader.stops()?.into_iter();
        let stops = stops.map(|row| (row.stop.clone(), row)).collect();
        self.same("the stops", |books| books.stops == stops);
        let persons = reader.persons()?.into_iter().map(|row| (row.name, row.key)).collect();
        let runs = reader
            .runs("", None, usize::MAX)?
            .into_iter()
            .map(|run| (run.id().to_owned(), run))
            .collect();
        self.same("the runs", |books| books.runs == runs);
        let run_calls = reader.run_calls()?.into_iter().collect();
        self.same("the runs of calls under way", |books| books.run_calls == run_calls);
        self.same("the people who may approve", |books| books.persons == persons);
        let api_keys = reader.api_keys()?.into_iter();
        let api_keys = api_keys.map(|key| (key.id().to_owned(), key)).collect();
        self.same("the keys of agents", |books| books.api_keys == api_keys);
        let once = reader.all_once()?;
        self.same("the words of callers", |books| books.once == once);
        let delegations = reader.delegations()?.into_iter();
        let delegations = delegations.map(|said| (said.about.clone(), said)).collect();
        self.same("the delegations", |books| books.delegations == delegations);
        self.wrong.map_or(Ok(()), |what| Err(StoreError::damaged(what)))
    }

    fn same(&mut self, what: &str, same: impl FnOnce(&MapBooks) -> bool) {
        if !same(&self.books) {
            self.note(format!(
                "{what} stored beside the ledger are not what follows from its entries"
            ));
        }
    }
}

/// Whether the host ended before the call did.
fn interrupted(story: &CallStory) -> bool {
    let end = story.finished.as_ref().map(|finished| &finished.what.outcome);
    matches!(end, Some(End::Interrupted))
}

/// Whether a value is what a guest asked for when the host ended after its own look-up for it had begun: nothing of that effect is on the
/// ledger, and when the call went on it had another number.
fn is_of_a_broken_look_up(story: &CallStory, name: &str) -> bool {
    let ordinal = name
        .strip_prefix("effect/")
        .and_then(|rest| rest.strip_suffix("/asked"));
    let Some(ordinal) = ordinal.and_then(|ordinal| ordinal.parse::<u32>().ok()) else {
        return false;
    };
    let look_up = ordinal.checked_add(1).and_then(|next| story.effects.get(&next));
    let of_the_host = matches!(look_up, Some(EffectStory::Intended { intent, .. }) if intent.what.cause == Cause::Host);
    of_the_host && !story.effects.contains_key(&ordinal)
}
