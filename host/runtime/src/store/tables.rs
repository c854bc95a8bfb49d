//! One batch into the database's tables. Knows the rows; the transaction around it is the writer's.

use std::sync::Arc;

use ambit_core::digest::Digest;
use ambit_core::error::Refusal;
use ambit_core::guard;
use ambit_core::identity::key::ApiKey;
use ambit_core::ledger::body::{By, Once, Rollback, ValuesErased};
use ambit_core::ledger::{Body, Entry, EntryDraft, Frontier, Hash, Node};
use ambit_core::money::Account;
use ambit_core::run::Run;
use ambit_core::stop::Stop;
use rusqlite::{Connection, OptionalExtension as _, Statement, ToSql, ffi, params};

use super::StoreError;
use super::batch::TranscriptRow;
use super::books::{self, Begun, Books, Delegated, Held, InForce, Window, Work};
use super::erasure::ERASING;
use super::progress::Progress;

/// The `ordinal` of a row that is of the call itself.
pub(super) const CALL: i64 = -1;

/// In `meta`: when people were told of a budget in a window, in milliseconds since 1970. Its name and the window's follow, a line each.
pub(super) const WARNED: &str = "warned\n";
/// In `meta`: how far a webhook, whose name follows, has come.
pub(super) const WEBHOOK: &str = "webhook\n";

fn warned_name(window: &Window) -> String {
    format!("{WARNED}{}\n{}", window.budget, window.window)
}

/// A payload as it goes into its row.
pub(super) struct StoredPayload {
    pub(super) call: String,
    pub(super) name: String,
    pub(super) wrapped: Arc<[u8]>,
    pub(super) place: Place,
}

/// Where an encrypted payload is.
pub(super) enum Place {
    Row(Vec<u8>),
    /// A file of this name, on the disk already.
    File(String),
}

/// Why a batch is not in the tables.
#[derive(Debug)]
pub(super) enum Fail {
    /// The batch is at fault; the store goes on without it.
    Batch(StoreError),
    /// The store is at fault.
    Store(String),
}

impl From<StoreError> for Fail {
    fn from(error: StoreError) -> Self {
        Self::Batch(error)
    }
}

impl From<rusqlite::Error> for Fail {
    fn from(error: rusqlite::Error) -> Self {
        match &error {
            rusqlite::Error::SqliteFailure(code, _) if code.code == ffi::ErrorCode::ConstraintViolation => {
                Self::Batch(StoreError::batch(format!("it contradicts what is there ({error})")))
            }
            // A number beyond SQLite's: the batch's fault, and nothing was written by it.
            rusqlite::Error::ToSqlConversionFailure(_) => Self::Batch(StoreError::batch(error.to_string())),
            _ => Self::Store(error.to_string()),
        }
    }
}

impl From<Fail> for StoreError {
    fn from(fail: Fail) -> Self {
        match fail {
            Fail::Batch(error) => error,
            Fail::Store(cause) => Self::Failed { cause },
        }
    }
}

/// The statements that write a batch, prepared once. None has a `RETURNING`: SQLite makes a table of its own for each row that comes back so,
/// which costs more than to look first.
pub(super) struct Tables<'c> {
    entry: Statement<'c>,
    node: Statement<'c>,
    checkpoint: Statement<'c>,
    data_key: Statement<'c>,
    stored_key: Statement<'c>,
    payload: Statement<'c>,
    transcript: Statement<'c>,
    begin: Statement<'c>,
    end: Statement<'c>,
    effects: Statement<'c>,
    begun: Statement<'c>,
    open: Statement<'c>,
    doubtful: Statement<'c>,
    erase_key: Statement<'c>,
    erase_payloads: Statement<'c>,
    mark: Statement<'c>,
    account: Statement<'c>,
    set_account: Statement<'c>,
    idle: Statement<'c>,
    drop_account: Statement<'c>,
    meta: Statement<'c>,
    set_meta: Statement<'c>,
    drop_meta: Statement<'c>,
    add_slice: Statement<'c>,
    slices: Statement<'c>,
    take_slices: Statement<'c>,
    reserve: Statement<'c>,
    reserved: Statement<'c>,
    unreserve: Statement<'c>,
    hold: Statement<'c>,
    held: Statement<'c>,
    unhold: Statement<'c>,
    holds: Statement<'c>,
    holds_of_agent: Statement<'c>,
    delegation: Statement<'c>,
    delegate: Statement<'c>,
    end_delegations: Statement<'c>,
    bury: Statement<'c>,
    exhume: Statement<'c>,
    note_rollback: Statement<'c>,
    rolls_back: Statement<'c>,
    is_rolled_back: Statement<'c>,
    undo: Statement<'c>,
    is_undone: Statement<'c>,
    redo: Statement<'c>,
    doubt: Statement<'c>,
    undoubt: Statement<'c>,
    set_stop: Statement<'c>,
    lift_stop: Statement<'c>,
    stops: Statement<'c>,
    accepted: Statement<'c>,
    enrol: Statement<'c>,
    key_of: Statement<'c>,
    keys: Statement<'c>,
    revoke: Statement<'c>,
    api_key: Statement<'c>,
    set_api_key: Statement<'c>,
    set_once: Statement<'c>,
    once: Statement<'c>,
    run: Statement<'c>,
    set_run: Statement<'c>,
    join: Statement<'c>,
    run_of: Statement<'c>,
    leave: Statement<'c>,
    /// The keys of agents that were written, in order, for whoever has them in memory.
    pub(super) keys_changed: Vec<ApiKey>,
}

impl<'c> Tables<'c> {
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let prepare = |sql: &str| connection.prepare(sql);
        Ok(Self {
            entry: prepare("INSERT INTO entries(idx, kind, call, leaf, bytes) VALUES (?1, ?2, ?3, ?4, ?5)")?,
            node: prepare("INSERT INTO nodes(level, idx, hash) VALUES (?1, ?2, ?3)")?,
            checkpoint: prepare("INSERT INTO checkpoints(size, note) VALUES (?1, ?2)")?,
            data_key: prepare("INSERT INTO data_keys(call, wrapped) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?,
            stored_key: prepare("SELECT wrapped FROM data_keys WHERE call = ?1")?,
            payload: prepare("INSERT INTO payloads(call, name, sealed, file) VALUES (?1, ?2, ?3, ?4)")?,
            transcript: prepare(
                "INSERT INTO transcript(call, step, kind, effect, payload) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
            begin: prepare(
                "INSERT INTO unfinished(call, ordinal, idx, changes) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )?,
            end: prepare("DELETE FROM unfinished WHERE call = ?1 AND ordinal = ?2")?,
            effects: prepare("SELECT count(*) FROM unfinished WHERE call = ?1 AND ordinal >= 0")?,
            begun: prepare("SELECT idx, changes FROM unfinished WHERE call = ?1 AND ordinal = ?2")?,
            open: prepare("SELECT count(*) FROM unfinished WHERE call = ?1")?,
            doubtful: prepare("SELECT 1 FROM doubts WHERE call = ?1")?,
            erase_key: prepare("UPDATE data_keys SET wrapped = x'' WHERE call = ?1 AND length(wrapped) > 0")?,
            erase_payloads: prepare("UPDATE payloads SET sealed = x'', file = NULL WHERE call = ?1")?,
            mark: prepare("INSERT INTO meta(name, value) VALUES (?1, '1') ON CONFLICT DO NOTHING")?,
            account: prepare("SELECT used, reserved FROM accounts WHERE budget = ?1 AND window = ?2")?,
            set_account: prepare(
                "INSERT INTO accounts(budget, window, used, reserved, cap) VALUES (?1, ?2, ?3, ?4, coalesce(?5, 0))
                 ON CONFLICT DO UPDATE SET used = excluded.used, reserved = excluded.reserved, cap = coalesce(?5, cap)",
            )?,
            idle: prepare("SELECT window FROM accounts WHERE budget = ?1 AND reserved = 0 ORDER BY window")?,
            drop_account: prepare("DELETE FROM accounts WHERE budget = ?1 AND window = ?2")?,
            meta: prepare("SELECT value FROM meta WHERE name = ?1")?,
            set_meta: prepare(
                "INSERT INTO meta(name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            )?,
            drop_meta: prepare("DELETE FROM meta WHERE name = ?1")?,
            add_slice: prepare(
                "INSERT INTO slices(budget, window, starts, used) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET used = used + excluded.used",
            )?,
            slices: prepare("SELECT used FROM slices WHERE budget = ?1 AND window = ?2 AND starts <= ?3")?,
            take_slices: prepare("DELETE FROM slices WHERE budget = ?1 AND window = ?2 AND starts <= ?3")?,
            reserve: prepare(
                "INSERT INTO reservations(call, ordinal, budget, window, amount) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO NOTHING",
            )?,
            reserved: prepare(
                "SELECT amount FROM reservations WHERE call = ?1 AND ordinal = ?2 AND budget = ?3 AND window = ?4",
            )?,
            unreserve: prepare(
                "DELETE FROM reservations WHERE call = ?1 AND ordinal = ?2 AND budget = ?3 AND window = ?4",
            )?,
            hold: prepare(
                "INSERT INTO holds(call, ordinal, hold, expires, idx, agent) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO NOTHING",
            )?,
            held: prepare("SELECT hold, expires, idx, agent FROM holds WHERE call = ?1 AND ordinal = ?2")?,
            unhold: prepare("DELETE FROM holds WHERE call = ?1 AND ordinal = ?2")?,
            holds: prepare("SELECT count(*) FROM holds WHERE call = ?1")?,
            holds_of_agent: prepare("SELECT count(*) FROM holds WHERE agent = ?1")?,
            delegation: prepare(
                "SELECT person, delegate, grp, made, until, note FROM delegations
                 WHERE person = ?1 AND delegate = ?2 AND grp = ?3",
            )?,
            delegate: prepare(
                "INSERT INTO delegations(person, delegate, grp, made, until, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO UPDATE SET made = excluded.made, until = excluded.until, note = excluded.note",
            )?,
            end_delegations: prepare("UPDATE delegations SET until = 0 WHERE person = ?1 OR delegate = ?1")?,
            bury: prepare("INSERT INTO dead_letters(call, ordinal, idx) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?,
            exhume: prepare("DELETE FROM dead_letters WHERE call = ?1 AND ordinal = ?2")?,
            note_rollback: prepare(
                "INSERT INTO rollbacks(by, call, how, idx) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )?,
            rolls_back: prepare("SELECT call, how FROM rollbacks WHERE by = ?1")?,
            is_rolled_back: prepare(
                "SELECT 1 FROM rollbacks JOIN unfinished ON unfinished.call = rollbacks.by AND unfinished.ordinal = -1
                 WHERE rollbacks.call = ?1",
            )?,
            undo: prepare(
                "INSERT INTO undone(call, ordinal, by, nth) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (call, ordinal) DO NOTHING",
            )?,
            is_undone: prepare("SELECT 1 FROM undone WHERE call = ?1 AND ordinal = ?2")?,
            redo: prepare("DELETE FROM undone WHERE by = ?1 AND nth = ?2")?,
            doubt: prepare("INSERT INTO doubts(call, ordinal, idx) VALUES (?1, ?2, ?3)")?,
            undoubt: prepare("DELETE FROM doubts WHERE call = ?1 AND ordinal = ?2")?,
            set_stop: prepare(
                "INSERT INTO stops(kind, scope, id, idx) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )?,
            lift_stop: prepare("DELETE FROM stops WHERE kind = ?1 AND scope = ?2 AND id = ?3")?,
            stops: prepare("SELECT kind, scope FROM stops ORDER BY kind, scope")?,
            accepted: prepare(
                "SELECT bytes FROM entries WHERE idx = (SELECT idx FROM unfinished WHERE call = ?1 AND ordinal = -1)",
            )?,
            enrol: prepare("INSERT INTO persons(name, key) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?,
            key_of: prepare("SELECT key FROM persons WHERE name = ?1")?,
            keys: prepare("SELECT key FROM persons")?,
            revoke: prepare("DELETE FROM persons WHERE name = ?1")?,
            api_key: prepare("SELECT state FROM api_keys WHERE key = ?1")?,
            set_api_key: prepare(
                "INSERT INTO api_keys(key, idx, state) VALUES (?1, ?2, ?3)
                 ON CONFLICT (key) DO UPDATE SET state = excluded.state",
            )?,
            set_once: prepare("INSERT INTO once(key, request, call) VALUES (?1, ?2, ?3) ON CONFLICT (key) DO NOTHING")?,
            once: prepare("SELECT call FROM once WHERE key = ?1")?,
            run: prepare("SELECT state FROM runs WHERE run = ?1")?,
            set_run: prepare(
                "INSERT INTO runs(run, idx, state) VALUES (?1, ?2, ?3) ON CONFLICT (run) DO UPDATE SET state = excluded.state",
            )?,
            join: prepare("INSERT INTO run_calls(call, run) VALUES (?1, ?2)")?,
            run_of: prepare("SELECT run FROM run_calls WHERE call = ?1")?,
            leave: prepare("DELETE FROM run_calls WHERE call = ?1")?,
            keys_changed: Vec::new(),
        })
    }

    /// Writes a batch: what its entries commit to, the entries, what follows from them, and the tree that they make grow. Gives back
    /// the entries that have to follow in the same transaction.
    pub(super) fn write(
        &mut self,
        tree: &mut Frontier,
        entries: &[Entry],
        payloads: &[StoredPayload],
        transcript: &[TranscriptRow],
    ) -> Result<Vec<EntryDraft>, Fail> {
        let mut follow = Vec::new();
        let mut keyed: Option<&StoredPayload> = None;
        for payload in payloads {
            // One call's payloads stand together: its key is looked for once.
            if !keyed.is_some_and(|one| one.call == payload.call && one.wrapped == payload.wrapped) {
                self.add_key(payload)?;
            }
            keyed = Some(payload);
            self.add_payload(payload)?;
        }
        transcript.iter().try_for_each(|row| self.add_transcript(row))?;
        for entry in entries {
            follow.extend(self.add_entry(entry)?);
            let mut nodes = Vec::new();
            tree.append(entry.leaf(), |node, hash| nodes.push((node, hash)));
            nodes
                .into_iter()
                .try_for_each(|(node, hash)| self.add_node(node, hash))?;
        }
        Ok(follow)
    }

    /// Writes the nodes that the reader can't compute from others: every eighth level, the leaves apart, which are in their entries' rows.
    fn add_node(&mut self, node: Node, hash: Hash) -> Result<(), Fail> {
        if node.level > 0 && node.level.is_multiple_of(8) {
            self.node
                .execute(params![node.level, index(node.index)?, hash.as_bytes()])?;
        }
        Ok(())
    }

    pub(super) fn add_checkpoint(&mut self, size: u64, note: &str) -> Result<(), Fail> {
        self.checkpoint.execute(params![index(size)?, note])?;
        Ok(())
    }

    /// Sets how far webhooks have come, or forgets it.
    pub(super) fn set_webhooks(&mut self, webhooks: &[(String, Option<Progress>)]) -> Result<(), Fail> {
        for (webhook, progress) in webhooks {
            let name = format!("{WEBHOOK}{webhook}");
            match progress {
                Some(progress) => self.set_meta.execute(params![name, progress.text()])?,
                None => self.drop_meta.execute([name])?,
            };
        }
        Ok(())
    }

    fn add_entry(&mut self, entry: &Entry) -> Result<Vec<EntryDraft>, Fail> {
        let (at, leaf) = (index(entry.index())?, entry.leaf());
        self.entry.execute(params![
            at,
            entry.kind().as_str(),
            entry.call(),
            leaf.as_bytes(),
            entry.bytes()
        ])?;
        if let Body::ValuesErased(erased) = entry.body() {
            self.erase(erased)?;
        }
        books::post(self, entry)
    }

    /// What the entry says is erased, is: the calls' keys, and with them what was sealed. Their rows stay, which transcripts refer to.
    fn erase(&mut self, erased: &ValuesErased) -> Result<(), Fail> {
        let refuse = |call: &str, why: &str| Err(StoreError::batch(format!("call {call} {why}")).into());
        let mut values = 0;
        for call in &erased.calls {
            let open: u64 = self.open.query_row([call], |row| row.get(0))?;
            if !guard!("ledger.erase-over", open == 0) {
                return refuse(call, "is not over: its values stay");
            }
            if !guard!("ledger.erase-doubt", !self.doubtful.exists([call])?) {
                return refuse(call, "has an effect in doubt: its values stay");
            }
            let keys = self.erase_key.execute([call])?;
            if !guard!("ledger.erase-there", keys == 1) {
                return refuse(call, "has no values, or they are erased already");
            }
            values += self.erase_payloads.execute([call])? as u64;
        }
        if !guard!("ledger.erase-count", values == erased.values) {
            let said = erased.values;
            return Err(
                StoreError::batch(format!("{values} values would be erased, where {said} are said to be")).into(),
            );
        }
        self.mark.execute([ERASING])?;
        Ok(())
    }

    /// Writes the key of a payload's call, or finds that it is there.
    fn add_key(&mut self, payload: &StoredPayload) -> Result<(), Fail> {
        if self.data_key.execute(params![payload.call, &*payload.wrapped])? == 0 {
            let stored: Vec<u8> = self.stored_key.query_row([&payload.call], |row| row.get(0))?;
            if stored != *payload.wrapped {
                return Err(StoreError::batch(format!("call {} has another data key", payload.call)).into());
            }
        }
        Ok(())
    }

    fn add_payload(&mut self, payload: &StoredPayload) -> Result<(), Fail> {
        let (sealed, file) = match &payload.place {
            Place::Row(sealed) => (Some(sealed), None),
            Place::File(file) => (None, Some(file)),
        };
        self.payload
            .execute(params![payload.call, payload.name, sealed, file])?;
        Ok(())
    }

    fn add_transcript(&mut self, row: &TranscriptRow) -> Result<(), Fail> {
        let effect = row.effect.as_ref().map(Digest::as_bytes);
        self.transcript
            .execute(params![row.call, row.step, row.kind, effect, row.payload])?;
        Ok(())
    }
}

impl Books for Tables<'_> {
    type Error = Fail;

    fn begin(&mut self, work: &Work, begun: Begun) -> Result<bool, Fail> {
        let row = params![work.call, ordinal(work), index(begun.index)?, begun.changes];
        Ok(self.begin.execute(row)? == 1)
    }

    fn end(&mut self, work: &Work) -> Result<Option<Begun>, Fail> {
        let begun = self.begun(work)?;
        if begun.is_some() {
            self.end.execute(params![work.call, ordinal(work)])?;
        }
        Ok(begun)
    }

    fn effects(&mut self, call: &str) -> Result<u64, Fail> {
        Ok(self.effects.query_row([call], |row| row.get(0))?)
    }

    fn begun(&mut self, work: &Work) -> Result<Option<Begun>, Fail> {
        let key = params![work.call, ordinal(work)];
        Ok(self.begun.query_row(key, |row| begun(row, 0)).optional()?)
    }

    fn account(&mut self, window: &Window) -> Result<Option<Account>, Fail> {
        let row = |row: &rusqlite::Row<'_>| {
            Ok(Account {
                used: row.get(0)?,
                reserved: row.get(1)?,
            })
        };
        let key = [&window.budget, &window.window];
        Ok(self.account.query_row(key, row).optional()?)
    }

    fn set_account(&mut self, window: &Window, account: Account, cap: Option<u64>) -> Result<(), Fail> {
        self.set_account.execute(params![
            window.budget,
            window.window,
            account.used,
            account.reserved,
            cap
        ])?;
        Ok(())
    }

    fn idle(&mut self, budget: &str) -> Result<Vec<Window>, Fail> {
        let window = |row: &rusqlite::Row<'_>| {
            Ok(Window {
                budget: budget.to_owned(),
                window: row.get(0)?,
            })
        };
        Ok(self.idle.query_map([budget], window)?.collect::<Result<_, _>>()?)
    }

    fn drop_account(&mut self, window: &Window) -> Result<(), Fail> {
        self.drop_account.execute([&window.budget, &window.window])?;
        self.drop_meta.execute([warned_name(window)])?;
        Ok(())
    }

    fn warned(&mut self, window: &Window) -> Result<Option<i64>, Fail> {
        let told: Option<String> = self
            .meta
            .query_row([warned_name(window)], |row| row.get(0))
            .optional()?;
        Ok(told.and_then(|told| told.parse().ok()))
    }

    fn set_warned(&mut self, window: &Window, time_ms: i64) -> Result<(), Fail> {
        self.set_meta
            .execute(params![warned_name(window), time_ms.to_string()])?;
        Ok(())
    }

    fn add_slice(&mut self, window: &Window, starts: i64, used: u64) -> Result<(), Fail> {
        self.add_slice
            .execute(params![window.budget, window.window, starts, used])?;
        Ok(())
    }

    fn take_slices(&mut self, window: &Window, until: i64) -> Result<Vec<u64>, Fail> {
        let key = params![window.budget, window.window, until];
        let used = self.slices.query_map(key, |row| row.get(0))?;
        let used: Vec<u64> = used.collect::<Result<_, _>>()?;
        if !used.is_empty() {
            self.take_slices.execute(key)?;
        }
        Ok(used)
    }

    fn reserve(&mut self, work: &Work, window: &Window, amount: u64) -> Result<bool, Fail> {
        Ok(self
            .reserve
            .execute(params![work.call, ordinal(work), window.budget, window.window, amount])?
            == 1)
    }

    fn unreserve(&mut self, work: &Work, window: &Window) -> Result<Option<u64>, Fail> {
        let key: [&dyn ToSql; 4] = [&work.call, &ordinal(work), &window.budget, &window.window];
        let amount = self.reserved.query_row(key, |row| row.get(0)).optional()?;
        if amount.is_some() {
            self.unreserve.execute(key)?;
        }
        Ok(amount)
    }

    fn hold(&mut self, work: &Work, held: &Held) -> Result<bool, Fail> {
        let (hold, at) = (held.hold.as_bytes(), index(held.index)?);
        Ok(self
            .hold
            .execute(params![work.call, ordinal(work), hold, held.expires_ms, at, held.agent])?
            == 1)
    }

    fn held(&mut self, work: &Work) -> Result<Option<Held>, Fail> {
        let held = self
            .held
            .query_row(params![work.call, ordinal(work)], |row| held(row, 0));
        Ok(held.optional()?)
    }

    fn unhold(&mut self, work: &Work) -> Result<(), Fail> {
        self.unhold.execute(params![work.call, ordinal(work)])?;
        Ok(())
    }

    fn holds(&mut self, call: &str) -> Result<u64, Fail> {
        Ok(self.holds.query_row([call], |row| row.get(0))?)
    }

    fn holds_of_agent(&mut self, agent: &str) -> Result<u64, Fail> {
        Ok(self.holds_of_agent.query_row([agent], |row| row.get(0))?)
    }

    fn delegation(&mut self, about: &[String; 3]) -> Result<Option<Delegated>, Fail> {
        let [person, delegate, group] = about;
        Ok(self
            .delegation
            .query_row([person, delegate, group], delegated)
            .optional()?)
    }

    fn delegate(&mut self, said: &Delegated) -> Result<(), Fail> {
        let [person, delegate, group] = &said.about;
        self.delegate
            .execute(params![person, delegate, group, said.made_ms, said.until_ms, said.note])?;
        Ok(())
    }

    fn end_delegations(&mut self, name: &str) -> Result<(), Fail> {
        self.end_delegations.execute([name])?;
        Ok(())
    }

    fn bury(&mut self, work: &Work, at: u64) -> Result<bool, Fail> {
        Ok(self.bury.execute(params![work.call, ordinal(work), index(at)?])? == 1)
    }

    fn exhume(&mut self, work: &Work) -> Result<bool, Fail> {
        Ok(self.exhume.execute(params![work.call, ordinal(work)])? == 1)
    }

    fn note_rollback(&mut self, by: &str, of: &Rollback, at: u64) -> Result<bool, Fail> {
        let row = params![by, of.call, of.by.as_str(), index(at)?];
        Ok(self.note_rollback.execute(row)? == 1)
    }

    fn rolls_back(&mut self, by: &str) -> Result<Option<Rollback>, Fail> {
        Ok(self.rolls_back.query_row([by], |row| rollback(row, 0)).optional()?)
    }

    fn is_rolled_back(&mut self, call: &str) -> Result<bool, Fail> {
        Ok(self.is_rolled_back.exists([call])?)
    }

    fn undo(&mut self, work: &Work, by: &Work) -> Result<bool, Fail> {
        let row = params![work.call, ordinal(work), by.call, ordinal(by)];
        Ok(self.undo.execute(row)? == 1)
    }

    fn is_undone(&mut self, work: &Work) -> Result<bool, Fail> {
        Ok(self.is_undone.exists(params![work.call, ordinal(work)])?)
    }

    fn redo(&mut self, by: &Work) -> Result<(), Fail> {
        self.redo.execute(params![by.call, ordinal(by)])?;
        Ok(())
    }

    fn doubt(&mut self, work: &Work, at: u64) -> Result<(), Fail> {
        self.doubt.execute(params![work.call, ordinal(work), index(at)?])?;
        Ok(())
    }

    fn undoubt(&mut self, work: &Work) -> Result<bool, Fail> {
        Ok(self.undoubt.execute(params![work.call, ordinal(work)])? == 1)
    }

    fn set_stop(&mut self, stop: &InForce) -> Result<bool, Fail> {
        let (kind, scope) = (stop.stop.kind.as_str(), stop.stop.scope.to_string());
        let at = index(stop.index)?;
        Ok(self.set_stop.execute(params![kind, scope, stop.id, at])? == 1)
    }

    fn lift_stop(&mut self, stop: &Stop, id: &str) -> Result<bool, Fail> {
        let (kind, scope) = (stop.kind.as_str(), stop.scope.to_string());
        Ok(self.lift_stop.execute(params![kind, scope, id])? == 1)
    }

    fn stops(&mut self) -> Result<Vec<Stop>, Fail> {
        let rows = self.stops.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let rows: Vec<(String, String)> = rows.collect::<Result<_, _>>()?;
        // A row that cannot be read is not passed over: what it stops would go on.
        let stops = rows.iter().map(|(kind, scope)| stop(kind, scope));
        stops
            .collect::<Result<_, _>>()
            .map_err(|error: StoreError| Fail::Store(error.to_string()))
    }

    fn tool_of(&mut self, call: &str) -> Result<Option<String>, Fail> {
        let bytes: Option<Vec<u8>> = self.accepted.query_row([call], |row| row.get(0)).optional()?;
        let Some(bytes) = bytes else { return Ok(None) };
        let entry = Entry::parse(&bytes).map_err(|error| Fail::Store(error.to_string()))?;
        Ok(match entry.body() {
            Body::CallAccepted(accepted) => Some(accepted.asked.tool.clone()),
            _ => None,
        })
    }

    /// It is in the call's first entry, which [`Books::tool_of`] reads.
    fn note_tool(&mut self, _: &str, _: Option<&str>) -> Result<(), Fail> {
        Ok(())
    }

    fn enrol(&mut self, name: &str, key: &str) -> Result<bool, Fail> {
        Ok(self.enrol.execute([name, key])? == 1)
    }

    fn key_of(&mut self, name: &str) -> Result<Option<String>, Fail> {
        Ok(self.key_of.query_row([name], |row| row.get(0)).optional()?)
    }

    fn keys(&mut self) -> Result<Vec<String>, Fail> {
        Ok(self.keys.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    fn revoke(&mut self, name: &str) -> Result<(), Fail> {
        self.revoke.execute([name])?;
        Ok(())
    }

    fn api_key(&mut self, id: &str) -> Result<Option<ApiKey>, Fail> {
        let state: Option<String> = self.api_key.query_row([id], |row| row.get(0)).optional()?;
        Ok(state.map(|state| api_key_of_row(&state)).transpose()?)
    }

    fn set_api_key(&mut self, key: &ApiKey) -> Result<(), Fail> {
        let state = serde_json::to_string(key).map_err(|error| StoreError::batch(error.to_string()))?;
        self.set_api_key.execute(params![key.id(), index(key.index)?, state])?;
        self.keys_changed.push(key.clone());
        Ok(())
    }

    fn once(&mut self, once: &Once, call: &str) -> Result<Option<String>, Fail> {
        let row = params![once.key.as_bytes(), once.request.as_bytes(), call];
        if self.set_once.execute(row)? == 1 {
            return Ok(None);
        }
        let before = self.once.query_row([once.key.as_bytes()], |row| row.get(0))?;
        Ok(Some(before))
    }

    fn run(&mut self, id: &str) -> Result<Option<Run>, Fail> {
        let state: Option<String> = self.run.query_row([id], |row| row.get(0)).optional()?;
        Ok(state.map(|state| run_of_row(&state)).transpose()?)
    }

    fn set_run(&mut self, run: &Run) -> Result<(), Fail> {
        let state = serde_json::to_string(run).map_err(|error| StoreError::batch(error.to_string()))?;
        self.set_run.execute(params![run.id(), index(run.index)?, state])?;
        Ok(())
    }

    fn join(&mut self, call: &str, run: &str) -> Result<(), Fail> {
        self.join.execute([call, run])?;
        Ok(())
    }

    fn run_of(&mut self, call: &str) -> Result<Option<String>, Fail> {
        Ok(self.run_of.query_row([call], |row| row.get(0)).optional()?)
    }

    fn leave(&mut self, call: &str) -> Result<(), Fail> {
        self.leave.execute([call])?;
        Ok(())
    }
}

/// A key as its row has it.
pub(super) fn api_key_of_row(state: &str) -> Result<ApiKey, StoreError> {
    serde_json::from_str(state).map_err(|error| StoreError::damaged(format!("a key's row cannot be read: {error}")))
}

/// A run as its row has it.
pub(super) fn run_of_row(state: &str) -> Result<Run, StoreError> {
    serde_json::from_str(state).map_err(|error| StoreError::damaged(format!("a run's row cannot be read: {error}")))
}

/// A delegation from a row of all columns.
pub(super) fn delegated(row: &rusqlite::Row<'_>) -> rusqlite::Result<Delegated> {
    Ok(Delegated {
        about: [row.get(0)?, row.get(1)?, row.get(2)?],
        made_ms: row.get(3)?,
        until_ms: row.get(4)?,
        note: row.get(5)?,
    })
}

/// A hold from four columns of a row, from `first` on: its id, its expiry, its index and whose it is.
pub(super) fn held(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Held> {
    let id: [u8; 32] = row.get(first)?;
    Ok(Held {
        hold: Digest::from_bytes(id),
        expires_ms: row.get(first + 1)?,
        index: row.get(first + 2)?,
        agent: row.get(first + 3)?,
    })
}

/// A stop as its row says it.
pub(super) fn stop(kind: &str, scope: &str) -> Result<Stop, StoreError> {
    let unreadable = |refusal: Refusal| StoreError::damaged(refusal.message);
    Ok(Stop {
        kind: kind.parse().map_err(unreadable)?,
        scope: scope.parse().map_err(unreadable)?,
    })
}

/// What is rolled back, from two columns of a row, of which this is the first.
pub(super) fn rollback(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Rollback> {
    let how: String = row.get(first + 1)?;
    let by = if how == By::Function.as_str() {
        By::Function
    } else {
        By::Routes
    };
    Ok(Rollback {
        by,
        call: row.get(first)?,
        // Its entry says; nothing follows from it here.
        over_changes: false,
        skip: Vec::new(),
    })
}

/// Reads what began from two columns, of which this is the first.
pub(super) fn begun(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Begun> {
    Ok(Begun {
        index: row.get(first)?,
        changes: row.get(first + 1)?,
    })
}

fn ordinal(work: &Work) -> i64 {
    work.ordinal.map_or(CALL, i64::from)
}

/// An index as SQLite has it.
pub(super) fn index(index: u64) -> Result<i64, StoreError> {
    i64::try_from(index).map_err(|_| StoreError::batch("the ledger is full"))
}
