//! Budgets and runs as the entries left them.

use std::collections::BTreeSet;

use ambit_core::money::Account;
use ambit_core::run::Run;
use rusqlite::{Row, params};

use super::{Reader, entry, size};
use crate::store::StoreError;
use crate::store::books::{Window, Work};
use crate::store::tables::{CALL, run_of_row};

/// A budget in one window, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetState {
    /// The budget and its window.
    pub window: Window,
    /// The cap that it was last held against.
    pub cap: u64,
    /// What is spent and what is reserved.
    pub account: Account,
}

/// What a rolling window used in one slice of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The budget and its window.
    pub window: Window,
    /// When the slice begins, in milliseconds since 1970. Its length, and when it is free, are the window's to say.
    pub starts: i64,
    /// What was settled in it.
    pub used: u64,
}

/// Budgets as the last entry about each left them, all of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// The time of the ledger's last entry, in milliseconds since 1970: its own, which never goes back.
    pub time_ms: i64,
    /// By name and window. One of a rolling window has all that its slices have, free since or not.
    pub states: Vec<BudgetState>,
    /// By budget, window and time.
    pub slices: Vec<Slice>,
    /// Calls that are under way.
    pub calls: BTreeSet<String>,
    /// Runs that are open.
    pub runs: BTreeSet<String>,
}

impl Reader {
    /// All that is known of budgets, of one moment: [`crate::budgets`] makes of it how they stand.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where the last row is not an entry.
    pub fn accounts(&self) -> Result<Accounts, StoreError> {
        let moment = self
            .connection
            .unchecked_transaction()
            .map_err(|error| self.fail(&error))?;
        let last = size(&moment)?
            .checked_sub(1)
            .map(|last| entry(&moment, last))
            .transpose()?;
        let calls = self.unfinished()?.into_iter().map(|unfinished| unfinished.work);
        let time_ms = last.map_or(0, |last| last.time_ms());
        let open = self.runs("", None, usize::MAX)?.into_iter();
        Ok(Accounts {
            time_ms,
            runs: open
                .filter(|run| run.is_open(time_ms).is_ok())
                .map(|run| run.id().to_owned())
                .collect(),
            states: self.budgets()?,
            slices: self.slices()?,
            calls: calls
                .filter(|work| work.ordinal.is_none())
                .map(|work| work.call)
                .collect(),
        })
    }

    /// The same of some windows alone, for one call and its run, which are under way: of these no more is read than they have. `windows` says
    /// which, at the later of `clock_ms` and the time of the ledger's last entry, both in milliseconds since 1970.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where the last row is not an entry.
    pub(crate) fn accounts_in(
        &self,
        windows: impl FnOnce(i64) -> Vec<Window>,
        clock_ms: i64,
        call: &str,
        run: Option<&str>,
    ) -> Result<Accounts, StoreError> {
        let _moment = self
            .connection
            .unchecked_transaction()
            .map_err(|error| self.fail(&error))?;
        let time_ms = i64::try_from(self.time_ms()?).unwrap_or(i64::MAX);
        let mut accounts = Accounts {
            time_ms,
            calls: BTreeSet::from([call.to_owned()]),
            runs: run.map(str::to_owned).into_iter().collect(),
            ..Accounts::default()
        };
        for window in windows(time_ms.max(clock_ms)) {
            let of = params![window.budget, window.window];
            let sql = "SELECT budget, window, cap, used, reserved FROM accounts WHERE budget = ?1 AND window = ?2";
            accounts.states.extend(self.all(sql, of, state)?);
            let sql =
                "SELECT budget, window, starts, used FROM slices WHERE budget = ?1 AND window = ?2 ORDER BY starts";
            accounts.slices.extend(self.all(sql, of, slice)?);
        }
        Ok(accounts)
    }

    /// Budgets as the last entry about each left them, by name and window. A rolling window may have use that has become free since: see
    /// [`Reader::slices`].
    ///
    /// # Errors
    /// Where reading fails.
    pub fn budgets(&self) -> Result<Vec<BudgetState>, StoreError> {
        self.all(
            "SELECT budget, window, cap, used, reserved FROM accounts ORDER BY budget, window",
            [],
            state,
        )
    }

    /// What rolling windows used, by budget, window and time.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn slices(&self) -> Result<Vec<Slice>, StoreError> {
        self.all(
            "SELECT budget, window, starts, used FROM slices ORDER BY budget, window, starts",
            [],
            slice,
        )
    }

    /// What is still set aside for an effect, by budget and window.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn reserved(&self, work: &Work) -> Result<Vec<(Window, u64)>, StoreError> {
        let ordinal = work.ordinal.map_or(CALL, i64::from);
        let sql =
            "SELECT budget, window, amount FROM reservations WHERE call = ?1 AND ordinal = ?2 ORDER BY budget, window";
        self.all(sql, params![work.call, ordinal], |row| {
            let window = Window {
                budget: row.get(0)?,
                window: row.get(1)?,
            };
            Ok((window, row.get(2)?))
        })
    }

    /// The run of this id.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn run(&self, id: &str) -> Result<Option<Run>, StoreError> {
        let state: Option<String> = self.one("SELECT state FROM runs WHERE run = ?1", [id], |row| row.get(0))?;
        state.map(|state| run_of_row(&state)).transpose()
    }

    /// The runs whose id begins with `prefix`, the newest first: at most `limit`, and only those that were started before this entry, where
    /// one is named.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn runs(&self, prefix: &str, before: Option<u64>, limit: usize) -> Result<Vec<Run>, StoreError> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (before, limit) = (
            number(before.unwrap_or(u64::MAX)),
            i64::try_from(limit).unwrap_or(i64::MAX),
        );
        // Ids are ASCII, so `~` comes after all of them.
        let sql = "SELECT state FROM runs WHERE run >= ?1 AND run < ?1 || '~' AND idx < ?2 ORDER BY idx DESC LIMIT ?3";
        let states: Vec<String> = self.all(sql, params![prefix, before, limit], |row| row.get(0))?;
        states.iter().map(|state| run_of_row(state)).collect()
    }

    /// The runs of calls under way, by call.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn run_calls(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.all("SELECT call, run FROM run_calls ORDER BY call", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    }
}

fn state(row: &Row<'_>) -> rusqlite::Result<BudgetState> {
    Ok(BudgetState {
        window: Window {
            budget: row.get(0)?,
            window: row.get(1)?,
        },
        cap: row.get(2)?,
        account: Account {
            used: row.get(3)?,
            reserved: row.get(4)?,
        },
    })
}

fn slice(row: &Row<'_>) -> rusqlite::Result<Slice> {
    Ok(Slice {
        window: Window {
            budget: row.get(0)?,
            window: row.get(1)?,
        },
        starts: row.get(2)?,
        used: row.get(3)?,
    })
}
