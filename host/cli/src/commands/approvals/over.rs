//! Holds that do not wait any more because their effect was edited: which one waits in their place.

use ambit_core::digest::Digest;
use ambit_core::hold::Edit;
use ambit_core::ledger::body::HoldEdited;
use ambit_runtime::store::Reader;

use super::{LISTED, short};
use crate::output::{Failure, untrusted};

/// A hold in whose place there is another one.
pub(super) struct Edited {
    /// The hold that was named.
    pub(super) hold: Digest,
    /// What came of it: the last one, where that was edited too.
    now: Digest,
    /// Whether that still waits.
    waits: bool,
    /// Who edited the one that was named.
    by: Option<String>,
}

/// The edited hold that `given` names: its digest, or a beginning of it that no other edited hold has.
pub(super) fn edited(reader: &Reader, given: &str) -> Result<Option<Edited>, Failure> {
    let hex = given.strip_prefix("sha256:").unwrap_or(given);
    let plain = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    // So few digits are of many, and most likely none of a hold's at all.
    if !plain || hex.len() < 4 {
        return Ok(None);
    }
    let edits = reader.edits()?;
    let mut named = edits.iter().filter(|edit| edit.hold.to_hex().starts_with(hex));
    let (Some(first), None) = (named.next(), named.next()) else {
        return Ok(None);
    };
    let now = last(&edits, first);
    let by = Edit::claimed(&first.edit).ok().map(|edit| edit.person);
    Ok(Some(Edited {
        hold: first.hold,
        now,
        waits: reader.hold(&now)?.is_some(),
        by,
    }))
}

/// What came of an edited hold in the end. Each edit is after the one that made its hold, so there is an end.
fn last(edits: &[HoldEdited], first: &HoldEdited) -> Digest {
    let mut at = first;
    for edit in edits {
        if edit.hold == at.to {
            at = edit;
        }
    }
    at.to
}

impl Edited {
    /// What the hold that was named cannot be asked for any more.
    pub(super) fn failure(&self) -> Failure {
        let by = self.by.as_deref().map(|by| format!(" by {}", untrusted(by)));
        let (old, now) = (short(&self.hold), short(&self.now));
        let failure = Failure::refused(format!(
            "hold {old} was edited{}, and is replaced by hold {now}",
            by.unwrap_or_default()
        ));
        failure.advise(self.advice())
    }

    /// Where to look instead.
    pub(super) fn advice(&self) -> String {
        let now = short(&self.now);
        match self.waits {
            true => format!("What waits now: `ambit approvals show {now}`."),
            false => format!("It was edited, and hold {now} in its place does not wait any more either. {LISTED}"),
        }
    }
}
