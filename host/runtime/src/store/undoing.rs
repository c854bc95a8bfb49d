//! What follows from the entries about undoing: which call rolls which back, and what was taken back by what.
//!
//! A row for each rollback, for ever, so that what was undone of a call is found without reading the ledger; and one for each effect that
//! was taken back, or may have been, by which no other effect takes it back. What cannot have happened gives it free again.

use ambit_core::guard;
use ambit_core::ledger::body::{By, CallFinished, End, Outcome, Rollback, Undoes};
use ambit_core::undo::may_have_happened;

use super::books::{Books, Work, contradiction};

/// A rollback begins: of a call that has none under way, that is none itself, and that was not undone whole.
pub(super) fn begin<B: Books>(books: &mut B, work: &Work, index: u64, rollback: &Rollback) -> Result<(), B::Error> {
    let whole = whole(&rollback.call);
    let free = !books.is_rolled_back(&rollback.call)? && !books.under_way(&whole)?;
    if !guard!("ledger.undo-free", free) {
        return Err(contradiction(&whole, "has not ended, or is being undone"));
    }
    let can = books.rolls_back(&rollback.call)?.is_none() && !books.is_undone(&whole)?;
    if !guard!("ledger.undo-can", can) {
        return Err(contradiction(&whole, "is a rollback itself, or was undone"));
    }
    if !books.note_rollback(&work.call, rollback, index)? {
        return Err(contradiction(work, "is a rollback already"));
    }
    Ok(())
}

/// An effect is taken back once, by the rollback of its call.
pub(super) fn take_back<B: Books>(books: &mut B, work: &Work, undoes: &Undoes) -> Result<(), B::Error> {
    let of = Work {
        call: undoes.call.clone(),
        ordinal: Some(undoes.ordinal),
    };
    let rolls_back = books.rolls_back(&work.call)?;
    if !guard!(
        "ledger.undo-own",
        rolls_back.is_some_and(|rollback| rollback.call == undoes.call)
    ) {
        return Err(contradiction(
            work,
            "undoes an effect of a call that it does not roll back",
        ));
    }
    let first = books.undo(&of, work)?;
    if !guard!("ledger.undo-first", first) {
        return Err(contradiction(&of, "was taken back before, or may have been"));
    }
    Ok(())
}

/// What takes an effect back is sent again: where the sending before may have done it, no later answer gives the effect free.
pub(super) fn sent_before<B: Books>(books: &mut B, work: &Work, after: &Outcome) -> Result<(), B::Error> {
    let may = may_have_happened(after, []) && !books.is_undone(work)?;
    if may
        && books
            .rolls_back(&work.call)?
            .is_some_and(|rollback| rollback.by == By::Routes)
    {
        books.undo(work, &sending(work))?;
    }
    Ok(())
}

/// What takes an effect back has ended: where nothing of it happened, another rollback may take the effect back.
pub(super) fn ended<B: Books>(books: &mut B, work: &Work, outcome: &Outcome) -> Result<(), B::Error> {
    if !may_have_happened(outcome, []) && guard!("ledger.undo-sent", !books.is_undone(work)?) {
        books.redo(work)?;
    }
    Ok(())
}

/// A function of the tool that ended well has undone all of a call.
pub(super) fn end<B: Books>(books: &mut B, work: &Work, finished: &CallFinished) -> Result<(), B::Error> {
    if let Some(rollback) = books.rolls_back(&work.call)?
        && rollback.by == By::Function
        && matches!(finished.outcome, End::Ok(_))
    {
        books.undo(&whole(&rollback.call), work)?;
    }
    Ok(())
}

/// The earlier sending of what takes an effect back. No rollback is undone itself, so that a row of one of its effects can say that such a
/// sending may have happened; and as no call has this id, nothing gives that row up.
fn sending(work: &Work) -> Work {
    Work {
        call: format!("{} sent before", work.call),
        ordinal: work.ordinal,
    }
}

fn whole(call: &str) -> Work {
    Work {
        call: call.to_owned(),
        ordinal: None,
    }
}
