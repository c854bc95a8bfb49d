//! Edits of effects that wait: a person who may vote on one changes fields of it, and what is held from then on is another effect.
//!
//! The call is run again to the held effect, everything about what it would be is decided as if it were asked for, and nothing of the
//! call goes on. An edit that is not permitted changes nothing, and is on the ledger as one that did not count.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use ambit_core::error::{Code, Refusal};
use ambit_core::hold::{Changes, Edit, HoldError};
use ambit_core::ledger::story::HoldStory;

use crate::approvals::{ApprovalError, Asker, People, Stopped, Waiting, accepted, going_on, not_waiting};
use crate::call::{Accepted, Fault};
use crate::effects::{CallEffects, Editing};
use crate::host::Host;
use crate::random;
use crate::sandbox::{self, Effects, Ended};
use crate::store::Reader;
use crate::transcript::{Record, Unreadable, tampered};

/// Changes that say nothing yet, with a salt of their own.
///
/// # Errors
/// Where the operating system gives no randomness.
pub fn new_changes() -> Result<Changes, Refusal> {
    let mut salt = [0; 16];
    random::fill(&mut salt).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    Ok(Changes::new(&salt))
}

impl Host {
    /// Puts what a person made of a held effect in its place, and says what waits now. `note` is the signed edit, `changes` the text of all
    /// that is to differ from what the tool asked for.
    ///
    /// # Errors
    /// [`Code::Approval`] where it does not count, or what it makes is not permitted: nothing has changed then but that the ledger says so.
    /// [`Code::Killed`] or [`Code::SafeMode`] where an operator's stop is in the way.
    pub fn edit(&self, note: &str, changes: &str, reason: Option<&str>) -> Result<Waiting, ApprovalError> {
        let claimed = Edit::claimed(note).map_err(|error| Refusal::new(Code::Approval, error.to_string()))?;
        let changes = Changes::parse(changes)?;
        let reader = self.reader()?;
        let Some((work, _)) = reader.hold(&claimed.hold)? else {
            return Err(self.uncounted(claimed.hold, None, HoldError::NoSuchHold)?);
        };
        // One thing at a time about a call: what is read from here on still holds when it is written.
        let _alone = match self.alone_to_say(&work.call, &claimed.hold)? {
            Ok(alone) => alone,
            Err(why) => return Err(self.uncounted(claimed.hold, None, why)?),
        };
        let reader = self.reader()?;
        let Some(waiting) = Waiting::of(&reader, &self.shared.config, &work.call)? else {
            return Err(self.uncounted(claimed.hold, None, HoldError::NoSuchHold)?);
        };
        let people = People::of(&reader, &self.shared.config)?;
        let Some(edit) = people.edited(note, &claimed) else {
            return Err(self.uncounted(claimed.hold, None, HoldError::Unsigned)?);
        };
        let person = Some(edit.person.clone());
        let pending = &waiting.pending;
        let may = pending.votes.edit(
            &pending.hold,
            &edit,
            &changes.digest(),
            pending.now_ms(),
            people.electorate(),
        );
        if let Err(why) = may {
            return Err(self.uncounted(claimed.hold, person, why)?);
        }
        let editing = Editing {
            edit,
            note: note.to_owned(),
            changes,
            reason: reason.map(str::to_owned),
        };
        if let Err(refusal) = self.run_to_edit(&reader, waiting, editing)? {
            if crate::effects::is_a_stop(&refusal) {
                return Err(refusal.into());
            }
            let why = HoldError::EditRefused(Box::new(refusal));
            return Err(self.uncounted(claimed.hold, person, why)?);
        }
        let now = Waiting::of(&self.reader()?, &self.shared.config, &work.call)?;
        now.ok_or_else(|| not_waiting(&work.call).into())
    }

    /// Runs the call again to its held effect, and holds what the edit makes of that; or says why that cannot be.
    fn run_to_edit(
        &self,
        reader: &Reader,
        waiting: Waiting,
        editing: Editing,
    ) -> Result<Result<(), Refusal>, ApprovalError> {
        let started = Instant::now();
        let call = waiting.story.call.clone();
        let accepted = accepted(&waiting.story).cloned().ok_or_else(|| not_waiting(&call))?;
        if !ambit_core::guard!("undo.edited", accepted.runs_a_guest()) {
            let why = "what undoes an effect is made from the record, and is approved or rejected as it is";
            return Ok(Err(Refusal::new(Code::Undo, why)));
        }
        let stopped = Stopped::Held(Box::new(waiting));
        let _place = self.shared.place()?;
        self.is_read_last()?;
        let ready = match self.ready(reader, &stopped, &accepted, started, Asker::default()) {
            Ok(Ok(ready)) => ready,
            Ok(Err(refusal)) => return Ok(Err(refusal)),
            Err(ApprovalError::Refused(refusal)) if refusal.code == Code::Tool => return Ok(Err(refusal)),
            Err(error) => return Err(error),
        };
        let steps = reader.transcript(&call)?.len();
        let accepted = going_on(ready, accepted, stopped, steps, Some(editing))?;
        Ok(self.edited(accepted)?)
    }

    /// Runs the guest. Whatever it comes to, the call has not ended: of this run nothing is written but the edit.
    fn edited(&self, accepted: Accepted<'_>) -> Result<Result<(), Refusal>, Fault> {
        let Accepted {
            tool,
            function,
            args,
            beginning,
            reserved,
            ..
        } = accepted;
        let limits = beginning.grant.limits().clone();
        let guest = self.guest_begins(&beginning, &reserved)?;
        let effects: Box<dyn Effects> = Box::new(CallEffects::new(Arc::clone(&self.shared), beginning));
        let ended = self.shared.sandbox.run(&tool.loaded, function, &args, &limits, effects);
        let Ended {
            outcome,
            fuel_used,
            effects,
            ..
        } = ended;
        let effects: Box<dyn Any> = effects;
        let mut effects = effects.downcast::<CallEffects>().map_err(|_| Fault::Lost)?;
        if let Some(fault) = effects.take_fault() {
            return Err(fault.into());
        }
        self.guest_ended(&guest, fuel_used)?;
        Ok(match (effects.take_edited(), outcome) {
            (Some(edited), _) => edited.map(|_| ()),
            (None, sandbox::Outcome::Stopped(refusal)) => Err(refusal),
            (None, _) => Err(Refusal::new(
                Code::Diverged,
                "the tool ended without asking for the effect that it was held for",
            )),
        })
    }
}

/// The changes that made a held effect what it is, as they were recorded: for whoever goes on editing it, or shows what was edited.
///
/// # Errors
/// Where they cannot be read, or are not what the ledger commits to.
pub fn changes_of(reader: &Reader, hold: &HoldStory, call: &str) -> Result<Option<Changes>, Refusal> {
    let said = hold.last_edit().map(|edit| (edit.changes_name(), edit.changes));
    changes(&Record::of_values(reader, call, said), hold).map_err(|error| match error {
        Unreadable::Store(error) => error.into(),
        Unreadable::Value(_) => Refusal::new(Code::Ledger, error.to_string()),
        Unreadable::Tampered(_) => tampered(&error),
    })
}

/// The same, from the values of the call: what people changed of what the guest asked for, if they did.
pub(crate) fn changes(record: &Record<'_>, hold: &HoldStory) -> Result<Option<Changes>, Unreadable> {
    let Some(edit) = hold.last_edit() else { return Ok(None) };
    let name = edit.changes_name();
    let text = record.text(&name)?;
    let text = text.ok_or_else(|| Unreadable::value(format!("its value `{name}` is gone")))?;
    let changes = Changes::parse(&text).map_err(|refusal| Unreadable::value(refusal.message))?;
    Ok(Some(changes))
}
