//! What exit codes mean, as help says it: the rule once, and of each command that makes a call or goes on with one what that comes to.
//!
//! The codes themselves are [`Exit`](crate::output::Exit). Lines end before the hundredth column, where help would break them.

/// The rule, under `ambit help`.
pub(crate) const ALL: &str = "\
Exit codes:
  0  done
  1  refused or failed: policy, a limit, a check, the tool's own error, a difference that was looked
     for; nothing more than the ledger says has happened
  2  usage: arguments or configuration that cannot be used, an id or a name of nothing among them
  3  internal: the host itself failed
  4  waits: an effect for approvals, or in a dry run it would; or a call until safe mode is lifted

A command that makes a call, or goes on with one, says first what it did itself, and exits as the
call ended. A rejection is done once it is recorded, whatever its call comes to.";

/// Of `ambit call`.
pub(crate) const OF_A_CALL: &str = "\
Exit codes:
  0  the call came to a result
  1  it was refused, or its tool gave an error
  2  the arguments or the configuration cannot be used, and there was no call
  4  it waits: for approvals, or until safe mode is lifted
A dry run exits as its first change would have ended: 0 done, 1 refused, 4 waiting.";

/// Of what goes on with a call.
pub(crate) const OF_GOING_ON: &str = "\
Exit codes:
  0  the call came to a result
  1  it does not go on, or it did and was refused, or its tool gave an error
  2  the arguments or the configuration cannot be used, or nothing has that id
  4  it waits: for approvals, or until safe mode is lifted
With --all: 1 where one of them did not come to what was meant, else 4 where one of them waits.";

/// Of a yes.
pub(crate) const OF_A_YES: &str = "\
Exit codes:
  0  the yes is recorded: others are missing, or the call went on and came to a result
  1  the yes does not count; or it is recorded, and the call did not go on, or did and was refused
     or failed: what is printed says which
  2  the arguments or the configuration cannot be used, or nothing waits under that id
  4  the yes is recorded, and the call that went on waits for something else
With --all: 1 where one of them did not come to what was meant, else 4 where one of them waits.";

/// Of one person's yes in place of all that are missing.
pub(crate) const OF_A_YES_ALONE: &str = "\
Exit codes:
  0  it is recorded, and the call went on and came to a result
  1  it does not count; or it is recorded, and the call did not go on, or did and was refused or
     failed: what is printed says which
  2  the arguments or the configuration cannot be used, or nothing waits under that id
  4  it is recorded, and the call that went on waits for something else";

/// Of a no.
pub(crate) const OF_A_NO: &str = "\
Exit codes:
  0  the no is recorded, whatever the call then comes to, which is told, too
  1  the no does not count; with --all, one of them
  2  the arguments or the configuration cannot be used, or nothing waits under that id";

/// Of an edit.
pub(crate) const OF_AN_EDIT: &str = "\
Exit codes:
  0  the edit is recorded, and another hold waits in place of the old one
  1  it does not count, or what would come of it is refused: the hold stays as it was
  2  the arguments or the configuration cannot be used, or nothing waits under that id";

/// Of the retry of a dead letter.
pub(crate) const OF_A_LETTER: &str = "\
Exit codes:
  0  the effect was sent, and its service did it
  1  it was refused, or it failed again and is another dead letter, which is named
  2  the arguments or the configuration cannot be used, or there is no dead letter of that id";

/// Of what is said of an effect in doubt.
pub(crate) const OF_A_DOUBT: &str = "\
Exit codes:
  0  it is recorded; with --retry, the call came to a result
  1  it is refused; with --retry, the call is, or its tool gave an error
  2  the arguments or the configuration cannot be used, or no call has that id
  4  with --retry, the call waits: for approvals, or until safe mode is lifted";
