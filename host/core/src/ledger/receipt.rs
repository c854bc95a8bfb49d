//! Receipts: one file that proves how a call ended, to anyone who has the ledger's public key.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::body::{Amount, Asked, Body, By, CallDenied, CallFinished, EffectChecked, End, Refused, Rollback, Shown};
use super::entry::{Entry, Principal};
use super::merkle::{Hash, verify_inclusion};
use super::{Checkpoint, LedgerError, VerifierKey, utc};
use crate::error::printable;
use crate::guard;

/// The format of receipts.
const FORMAT: u64 = 1;
/// Longest receipt that is read: an entry (escaped in a string), a note, 64 hashes and a summary fit.
const MAX_RECEIPT: usize = 1024 * 1024;

/// A call's last entry with its proof: that it stands in the ledger whose checkpoint this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    entry: Entry,
    proof: Vec<Hash>,
    checkpoint: String,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    receipt: u64,
    summary: Vec<String>,
    entry: String,
    proof: Vec<Hash>,
    checkpoint: String,
}

/// What a receipt proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// How the call ended: a `call-finished` or `call-denied` entry, word for word as it stands in the ledger.
    pub entry: Entry,
    /// The state of the ledger that it is proved in.
    pub checkpoint: Checkpoint,
    /// What the entry says, for people.
    pub summary: Vec<String>,
}

impl Receipt {
    /// A receipt of a call's end, from the entry, its audit path, and the note of a checkpoint that covers it.
    ///
    /// # Errors
    /// [`LedgerError::Receipt`] for an entry that is no call's end.
    pub fn new(entry: Entry, proof: Vec<Hash>, checkpoint: String) -> Result<Self, LedgerError> {
        summary(&entry)?;
        Ok(Self {
            entry,
            proof,
            checkpoint,
        })
    }

    /// The entry that it proves.
    #[must_use]
    pub const fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The receipt's file: JSON, with the entry's exact bytes in a string.
    ///
    /// # Errors
    /// None in practice: [`LedgerError::Receipt`] if JSON cannot be printed.
    pub fn to_json(&self) -> Result<String, LedgerError> {
        let file = File {
            receipt: FORMAT,
            summary: summary(&self.entry)?,
            entry: self.entry.text().into_owned(),
            proof: self.proof.clone(),
            checkpoint: self.checkpoint.clone(),
        };
        let mut text = serde_json::to_string_pretty(&file).map_err(|error| LedgerError::Receipt(error.to_string()))?;
        text.push('\n');
        Ok(text)
    }

    /// Verifies a receipt's file with nothing but the ledger's public key: the checkpoint's signature, the entry's place under its root,
    /// and that the summary says what the entry says.
    ///
    /// # Errors
    /// [`LedgerError`]: which of these is not so.
    pub fn verify(text: &str, key: &VerifierKey) -> Result<Proved, LedgerError> {
        let file = File::parse(text)?;
        let entry = Entry::parse(file.entry.as_bytes())?;
        let checkpoint = Checkpoint::parse_verified(&file.checkpoint, key)?;
        verify_inclusion(
            &entry.leaf(),
            entry.index(),
            checkpoint.size(),
            &checkpoint.root(),
            &file.proof,
        )?;
        let summary = summary(&entry)?;
        if !guard!("ledger.receipt-summary", file.summary == summary) {
            return Err(LedgerError::Receipt(
                "its summary does not say what its entry says".to_owned(),
            ));
        }
        Ok(Proved {
            entry,
            checkpoint,
            summary,
        })
    }
}

impl File {
    fn parse(text: &str) -> Result<Self, LedgerError> {
        if text.len() > MAX_RECEIPT {
            return Err(LedgerError::Receipt("it is longer than 1 MiB".to_owned()));
        }
        let file: Self =
            serde_json::from_str(text).map_err(|error| LedgerError::Receipt(printable(&error.to_string())))?;
        if !guard!("ledger.receipt-format", file.receipt == FORMAT) {
            let found = file.receipt;
            return Err(LedgerError::Receipt(format!(
                "it is of format {found}, and this Ambit reads format {FORMAT}"
            )));
        }
        Ok(file)
    }
}

/// What the entry of a call's end says, a line each, from the entry alone.
///
/// # Errors
/// [`LedgerError::Receipt`] for any other entry.
pub fn summary(entry: &Entry) -> Result<Vec<String>, LedgerError> {
    let mut lines = vec![heading(entry)];
    match entry.body() {
        Body::CallFinished(finished) => finished_lines(finished, &mut lines),
        Body::CallDenied(denied) => denied_lines(denied, &mut lines),
        _ => {
            return Err(LedgerError::Receipt(format!(
                "entry {} is {}, not a call's end",
                entry.index(),
                entry.kind()
            )));
        }
    }
    if let Some(tool) = entry.tool() {
        lines.push(format!("component {tool}"));
    }
    if let (Some(policy), Some(config)) = (entry.policy(), entry.config()) {
        lines.push(format!("under policy {policy}, configuration {config}"));
    }
    Ok(lines)
}

fn heading(entry: &Entry) -> String {
    let call = entry.call().unwrap_or_default();
    let who = entry.principal().map_or_else(|| "someone unknown".to_owned(), who);
    format!(
        "call {call} by {who}, ended {} (ledger index {})",
        utc(entry.time_ms()),
        entry.index()
    )
}

/// A principal in words.
fn who(principal: &Principal) -> String {
    let Principal {
        agent,
        team,
        tenant,
        user,
    } = principal;
    let mut who = format!(
        "agent {} of team {}, tenant {}",
        printable(agent),
        printable(team),
        printable(tenant)
    );
    if let Some(user) = user {
        who.push_str(", for user ");
        who.push_str(&printable(user));
    }
    who
}

fn finished_lines(finished: &CallFinished, lines: &mut Vec<String>) {
    let Asked {
        tool,
        function,
        tier,
        mode,
        limits,
        ..
    } = &finished.asked;
    lines.push(format!(
        "asked: {} of tool {} ({tier}, mode {mode})",
        printable(function),
        printable(tool)
    ));
    lines.extend(finished.undoes.as_ref().map(undoes));
    lines.push(format!("ended: {}", ending(&finished.outcome)));
    let effects = finished.effects;
    lines.push(format!(
        "effects: {} answered, {} refused, {} in doubt, {} not sent",
        effects.answered, effects.refused, effects.in_doubt, effects.not_sent
    ));
    for EffectChecked { diff, ordinal, shown } in &finished.checked {
        let seen = match shown {
            Shown::Shown => "is there as it was sent",
            Shown::NothingToCompare => "changed what is there; nothing that it sent is read of that",
            Shown::Missing => "UNVERIFIED: is not there as it was sent",
            Shown::Unreadable => "UNVERIFIED: could not be read back",
        };
        lines.push(format!("read back: effect {ordinal} {seen} (difference {diff})"));
    }
    lines.push(format!("spent: {}", money(&finished.spent)));
    lines.push(format!(
        "used: {} fuel, {} bytes of memory, {} ms, and {} ms waiting for services",
        finished.fuel, finished.memory, finished.ms, finished.upstream
    ));
    let limits: Vec<_> = limits
        .iter()
        .map(|(name, limit)| format!("{} {limit}", printable(name)))
        .collect();
    lines.push(format!("limits: {}", limits.join(", ")));
}

fn denied_lines(denied: &CallDenied, lines: &mut Vec<String>) {
    if let (Some(function), Some(tool)) = (&denied.function, &denied.tool) {
        lines.push(format!("asked: {} of tool {}", printable(function), printable(tool)));
    }
    let undoes = denied.undoes.as_ref();
    lines.extend(undoes.map(|rollback| format!("rollback: was to undo call {}", printable(&rollback.call))));
    lines.push(format!("denied: {}", why(&denied.refused)));
    lines.push("effects: none".to_owned());
}

/// Which call a rollback is of: a receipt would else read as if what it names had been done once more.
fn undoes(rollback: &Rollback) -> String {
    let how = match rollback.by {
        By::Function => "by a function of its tool",
        By::Routes => "effect by effect",
    };
    let over = if rollback.over_changes {
        ", over what changed since"
    } else {
        ""
    };
    format!(
        "rollback: undoes call {}, {how}{over}{}",
        printable(&rollback.call),
        rollback.left()
    )
}

fn ending(end: &End) -> String {
    match end {
        End::Ok(_) => "ok".to_owned(),
        End::ToolError(_) => "with the tool's own error".to_owned(),
        End::Refused(refused) => format!("refused, {}", why(refused)),
        End::Trapped(refused) => format!("the guest failed, {}", why(refused)),
        End::Interrupted => "interrupted: the host ended before the call did".to_owned(),
    }
}

fn why(refused: &Refused) -> String {
    let mut why = format!("code `{}`", refused.code);
    if let Some(rule) = &refused.rule {
        // Writing to a String cannot fail.
        let _ = write!(why, ", by policy rule `{}`", printable(rule));
    }
    why
}

/// Sums in minor units, which are exact whatever the currency's decimals are.
fn money(spent: &[Amount]) -> String {
    if spent.is_empty() {
        return "nothing".to_owned();
    }
    let sums: Vec<_> = spent
        .iter()
        .map(|amount| format!("{} minor units of {}", amount.minor, amount.currency))
        .collect();
    sums.join(", ")
}
