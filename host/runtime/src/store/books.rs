//! What follows from the entries: what is under way, and what budgets have left.
//!
//! Both are a function of the ledger. [`post`] is that function, one entry at a time; where the rows are kept is the
//! business of [`Books`].
//!
//! Time is that of the entries. What reserves says in which kind of window; [`place`] says in which one, when the entry gets
//! its time, and [`post`] holds entries to that. An account is what one budget has used and reserved in one window, and
//! stays for as long as anything can count in it: until its window is over and all that it reserved is settled. That of a
//! rolling window stays, and so does that of a run, which is what is known of it when it is over. Its use stands in slices by the time at which it was settled, and leaves with them.

use ambit_core::digest::Digest;
use ambit_core::guard;
use ambit_core::hold::{self, Delegation, Edit, End, Verdict, Vote};
use ambit_core::identity::key::{self, ApiKey};
use ambit_core::ledger::body::{
    BudgetWarned, CallAccepted, Doubt, EffectChecked, EffectHeld, EffectRetried, Found, HoldEdited, HoldVoted,
    KeyCreated, KeyRevoked, Once, Outcome, PersonDelegated, PersonEnrolled, PersonRevoked, Reservation, Rollback,
    RunDegraded, RunEnded, RunStarted, Settlement, StopLifted, StopSet,
};
use ambit_core::ledger::verify::subject;
use ambit_core::ledger::{Body, Entry, EntryDraft, VerifierKey};
use ambit_core::money::{Account, MOST, Period, Span, Window as Kind};
use ambit_core::run::{self, Run, RunError};
use ambit_core::scope::Tier;
use ambit_core::stop::{Scope, Stop, forbidding};

use super::{StoreError, undoing};

/// Something that is under way until an entry says that it is not: a call, or one effect of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Work {
    /// The call.
    pub call: String,
    /// The effect within the call; none for the call itself.
    pub ordinal: Option<u32>,
}

/// A budget in one of its windows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    /// The budget's name.
    pub budget: String,
    /// The text of its [`Period`]: a unit in a day, in a call.
    pub window: String,
}

/// A hold that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its id.
    pub hold: Digest,
    /// From then on it is over, in milliseconds since 1970.
    pub expires_ms: u64,
    /// The ledger index of the entry that began it.
    pub index: u64,
    /// Whose effect waits.
    pub agent: String,
}

/// A stop that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// What is stopped, and how much.
    pub stop: Stop,
    /// Its id.
    pub id: String,
    /// The ledger index of the entry that began it.
    pub index: u64,
}

/// What a person last said about another who votes in their stead for a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegated {
    /// The person, the delegate and the group.
    pub about: [String; 3],
    /// When it was said, in milliseconds since 1970.
    pub made_ms: u64,
    /// From then on it is over, in milliseconds since 1970; 0 where one of the two was revoked since.
    pub until_ms: u64,
    /// What the person signed.
    pub note: String,
}

/// How far a statement's time may be after its entry's, in milliseconds: clocks differ, and nothing else should.
const AHEAD_MS: u64 = 10 * 60_000;

/// Since when something is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    /// The ledger index of the entry that began it.
    pub(super) index: u64,
    /// Whether it matters that nobody knows if it happened.
    pub(super) changes: bool,
}

impl Window {
    /// What it is of; none for what only a damaged ledger has.
    #[must_use]
    pub fn period(&self) -> Option<Period> {
        self.window.parse().ok()
    }
}

/// The rows that [`post`] reads and writes.
pub(super) trait Books {
    /// What reading and writing rows fails with.
    type Error: From<StoreError>;

    /// Notes that `work` began; false where it is under way already.
    fn begin(&mut self, work: &Work, begun: Begun) -> Result<bool, Self::Error>;
    /// Notes that `work` is over; none where it was not under way.
    fn end(&mut self, work: &Work) -> Result<Option<Begun>, Self::Error>;
    /// How many of a call's effects are under way.
    fn effects(&mut self, call: &str) -> Result<u64, Self::Error>;
    /// Since when `work` is under way; none where it is not.
    fn begun(&mut self, work: &Work) -> Result<Option<Begun>, Self::Error>;
    /// Whether `work` is under way.
    fn under_way(&mut self, work: &Work) -> Result<bool, Self::Error> {
        Ok(self.begun(work)?.is_some())
    }
    /// What a budget has used and reserved in a window; none where it never did, or that is over.
    fn account(&mut self, window: &Window) -> Result<Option<Account>, Self::Error>;
    /// Sets that, and the cap that it was last held against.
    fn set_account(&mut self, window: &Window, account: Account, cap: Option<u64>) -> Result<(), Self::Error>;
    /// A budget's windows in which nothing is reserved.
    fn idle(&mut self, budget: &str) -> Result<Vec<Window>, Self::Error>;
    /// Drops a window's account, in which nothing is reserved.
    fn drop_account(&mut self, window: &Window) -> Result<(), Self::Error>;
    /// When people were last told that so much of a window is taken; none where they were not.
    fn warned(&mut self, window: &Window) -> Result<Option<i64>, Self::Error>;
    /// Sets that. It goes with the window's account.
    fn set_warned(&mut self, window: &Window, time_ms: i64) -> Result<(), Self::Error>;
    /// Adds to what a rolling window used in the slice that begins at `starts`.
    fn add_slice(&mut self, window: &Window, starts: i64, used: u64) -> Result<(), Self::Error>;
    /// Drops a rolling window's slices that begin at `until` or before, and gives back what was used in each.
    fn take_slices(&mut self, window: &Window, until: i64) -> Result<Vec<u64>, Self::Error>;
    /// Notes what is reserved for `work`; false where something is already.
    fn reserve(&mut self, work: &Work, window: &Window, amount: u64) -> Result<bool, Self::Error>;
    /// Takes what is reserved for `work`; none where nothing is.
    fn unreserve(&mut self, work: &Work, window: &Window) -> Result<Option<u64>, Self::Error>;

    /// Notes that an effect is held; false where it is already.
    fn hold(&mut self, work: &Work, held: &Held) -> Result<bool, Self::Error>;
    /// The hold of an effect that waits.
    fn held(&mut self, work: &Work) -> Result<Option<Held>, Self::Error>;
    /// Notes that an effect is no longer held.
    fn unhold(&mut self, work: &Work) -> Result<(), Self::Error>;
    /// How many of a call's effects are held.
    fn holds(&mut self, call: &str) -> Result<u64, Self::Error>;

    /// How many effects of an agent are held.
    fn holds_of_agent(&mut self, agent: &str) -> Result<u64, Self::Error>;

    /// What a person last said about a delegate and a group.
    fn delegation(&mut self, about: &[String; 3]) -> Result<Option<Delegated>, Self::Error>;
    /// Puts a statement in place of the last one about the same.
    fn delegate(&mut self, said: &Delegated) -> Result<(), Self::Error>;
    /// Ends all delegations by and to a person.
    fn end_delegations(&mut self, name: &str) -> Result<(), Self::Error>;

    /// Notes that an effect failed for good, with the entry at `index`; false where that is noted already.
    fn bury(&mut self, work: &Work, index: u64) -> Result<bool, Self::Error>;
    /// Takes an effect that failed for good from the list; false where it is not there.
    fn exhume(&mut self, work: &Work) -> Result<bool, Self::Error>;
    /// Notes that a call rolls another back; false where it does already.
    fn note_rollback(&mut self, by: &str, of: &Rollback, index: u64) -> Result<bool, Self::Error>;
    /// What a call rolls back, if it is there for that.
    fn rolls_back(&mut self, by: &str) -> Result<Option<Rollback>, Self::Error>;
    /// Whether a rollback of the call is under way.
    fn is_rolled_back(&mut self, call: &str) -> Result<bool, Self::Error>;
    /// Notes that `by` takes `work` back, an effect or all of a call; false where something did already.
    fn undo(&mut self, work: &Work, by: &Work) -> Result<bool, Self::Error>;
    /// Whether an effect, or all of a call, was taken back.
    fn is_undone(&mut self, work: &Work) -> Result<bool, Self::Error>;
    /// Notes that `by` took nothing back after all.
    fn redo(&mut self, by: &Work) -> Result<(), Self::Error>;

    /// Notes that an effect is in doubt since the entry at `index`.
    fn doubt(&mut self, work: &Work, index: u64) -> Result<(), Self::Error>;
    /// Notes that it is no longer; false where it was not.
    fn undoubt(&mut self, work: &Work) -> Result<bool, Self::Error>;
    /// Puts a stop into force; false where the same is already.
    fn set_stop(&mut self, stop: &InForce) -> Result<bool, Self::Error>;
    /// Takes the stop of this id out of force; false where it was not.
    fn lift_stop(&mut self, stop: &Stop, id: &str) -> Result<bool, Self::Error>;
    /// The stops in force.
    fn stops(&mut self) -> Result<Vec<Stop>, Self::Error>;
    /// The name of the tool that a call under way was accepted for.
    fn tool_of(&mut self, call: &str) -> Result<Option<String>, Self::Error>;
    /// Notes that name where it could not be found otherwise, or forgets it.
    fn note_tool(&mut self, call: &str, tool: Option<&str>) -> Result<(), Self::Error>;

    /// Enrols a person; false where there is one of that name.
    fn enrol(&mut self, name: &str, key: &str) -> Result<bool, Self::Error>;
    /// The text of an enrolled person's key.
    fn key_of(&mut self, name: &str) -> Result<Option<String>, Self::Error>;
    /// The texts of all enrolled people's keys.
    fn keys(&mut self) -> Result<Vec<String>, Self::Error>;
    /// Forgets a person.
    fn revoke(&mut self, name: &str) -> Result<(), Self::Error>;

    /// The key of this id, as agents have over HTTP.
    fn api_key(&mut self, id: &str) -> Result<Option<ApiKey>, Self::Error>;
    /// Sets what a key is now.
    fn set_api_key(&mut self, key: &ApiKey) -> Result<(), Self::Error>;

    /// Notes that a call is made, or a run started, once for a word of whoever asks; gives back the one that was already, where there is one.
    fn once(&mut self, once: &Once, call: &str) -> Result<Option<String>, Self::Error>;

    /// The run of this id.
    fn run(&mut self, id: &str) -> Result<Option<Run>, Self::Error>;
    /// Sets what a run is now.
    fn set_run(&mut self, run: &Run) -> Result<(), Self::Error>;
    /// Notes that a call under way belongs to a run.
    fn join(&mut self, call: &str, run: &str) -> Result<(), Self::Error>;
    /// The run that a call under way belongs to.
    fn run_of(&mut self, call: &str) -> Result<Option<String>, Self::Error>;
    /// Notes that a call is under way no more.
    fn leave(&mut self, call: &str) -> Result<(), Self::Error>;
}

/// Says, of what an entry at `time_ms` reserves, in which window of its kind that counts: whoever made the entry could not know its
/// time.
pub(super) fn place(body: &mut Body, time_ms: i64) {
    let reserved = match body {
        Body::CallAccepted(body) => &mut body.reserved,
        Body::EffectIntent(body) => &mut body.reserved,
        _ => return,
    };
    reserved
        .iter_mut()
        .for_each(|reservation| place_one(reservation, time_ms));
}

/// The same for a reservation whose entry was written at `time_ms`: what is settled names the window.
pub(crate) fn place_one(reservation: &mut Reservation, time_ms: i64) {
    // What is no window stays as it is, for `post` to refuse.
    if let Ok(period) = reservation.window.parse::<Period>() {
        reservation.window = period.at(time_ms).to_string();
    }
}

/// Brings the books up to date with an entry, and says what entry has to follow it in the same transaction.
///
/// # Errors
/// [`StoreError::Budget`] where a reservation passes its cap, [`StoreError::Run`] where the entry's run does not allow it,
/// [`StoreError::Repeated`] where a call was made for its caller's word already, [`StoreError::Batch`] where the entry contradicts those before it: an
/// outcome without an intent, a finish before every intent has an outcome, more settled than was reserved, a window of another time, a
/// vote or a delegation that no enrolled person signed, an intent after its hold has expired; [`StoreError::Holds`] where as many effects
/// of an agent wait as may; [`StoreError::Stopped`] where a stop that is in force forbids an intent.
pub(super) fn post<B: Books>(books: &mut B, entry: &Entry) -> Result<Vec<EntryDraft>, B::Error> {
    let work = || Work {
        call: entry.call().unwrap_or_default().to_owned(),
        ordinal: entry.body().ordinal(),
    };
    match entry.body() {
        Body::CallDenied(body) => once(books, entry.call().unwrap_or_default(), body.once.as_ref())?,
        Body::CallAccepted(body) => {
            once(books, entry.call().unwrap_or_default(), body.once.as_ref())?;
            let (work, run) = (work(), join(books, entry, body)?);
            books.note_tool(&work.call, Some(&body.asked.tool))?;
            if let Some(rollback) = &body.undoes {
                undoing::begin(books, &work, entry.index(), rollback)?;
            }
            let begins = Begins {
                changes: false,
                reserved: &body.reserved,
                hold: None,
            };
            return begin(books, &work, entry, run.as_ref(), begins);
        }
        Body::EffectIntent(body) => {
            let work = work();
            let run = run_of(books, &work)?;
            if let Some(stop) = stopping(books, entry, &body.connection, body.tier, run.as_ref())?
                && !guard!("stop.intent", false)
            {
                return Err(StoreError::Stopped(stop).into());
            }
            if let Some(hold) = body.hold {
                end_hold(books, &work, hold, Some(time(entry)))?;
            }
            if let Some(letter) = &body.letter {
                take_letter(books, &letter.call, letter.ordinal)?;
            }
            if let Some(undoes) = &body.undoes {
                undoing::take_back(books, &work, undoes)?;
            }
            if let Some(run) = &run {
                let admitted = run.admits_effect(body.tier, entry.time_ms());
                admitted.map_err(|why| not_of_run(run.id(), why))?;
            }
            let begins = Begins {
                changes: body.changes(),
                reserved: &body.reserved,
                hold: body.hold,
            };
            return begin(books, &work, entry, run.as_ref(), begins);
        }
        Body::EffectRefused(body) => {
            if let Some(hold) = body.hold {
                let work = work();
                let said = body.end.is_some_and(|end| !matches!(end, End::Passed | End::Edited));
                if !guard!("hold.end-said", said) {
                    return Err(contradiction(&work, "is refused, and does not say how its hold ended"));
                }
                end_hold(books, &work, hold, None)?;
            }
        }
        Body::EffectHeld(body) => hold_effect(books, &work(), entry, body)?,
        Body::HoldVoted(body) => check_vote(books, &work(), body, time(entry))?,
        Body::HoldEdited(body) => edit_hold(books, &work(), entry, body)?,
        Body::PersonEnrolled(body) => enrol(books, body)?,
        Body::PersonRevoked(body) => revoke(books, body)?,
        Body::PersonDelegated(body) => delegate(books, body, time(entry))?,
        Body::KeyCreated(body) => create_key(books, entry, body)?,
        Body::KeyRevoked(body) => revoke_key(books, entry.index(), body)?,
        Body::StopSet(body) => set_stop(books, entry.index(), body)?,
        Body::StopLifted(body) => lift_stop(books, body)?,
        Body::EffectOutcome(body) => {
            let work = work();
            let begun = end(books, &work, entry, &body.settled)?;
            if body.is_in_doubt() && begun.changes {
                books.doubt(&work, entry.index())?;
            }
            undoing::ended(books, &work, &body.outcome)?;
            if body.dead && !books.bury(&work, entry.index())? {
                return Err(contradiction(&work, "is a dead letter already"));
            }
            return Ok(count(books, &work, run::effect_failed(body))?.into_iter().collect());
        }
        Body::EffectChecked(body) => return Ok(check(books, &work(), body)?.into_iter().collect()),
        Body::EffectRetried(body) => send_again(books, &work(), entry, body)?,
        Body::DeadLetterDropped(body) => take_letter(books, &body.call, body.ordinal)?,
        Body::EffectResolved(body) => {
            let work = work();
            resolve(books, &work, entry, &body.settled)?;
            if body.dead && !books.bury(&work, entry.index())? {
                return Err(contradiction(&work, "is a dead letter already"));
            }
            if body.found == Found::NotDone {
                books.redo(&work)?;
            }
        }
        Body::CallFinished(body) => {
            let work = work();
            no_effect_open(books, &work)?;
            no_effect_held(books, &work)?;
            books.note_tool(&work.call, None)?;
            undoing::end(books, &work, body)?;
            end(books, &work, entry, &body.settled)?;
            return Ok(count(books, &work, run::call_failed(body))?.into_iter().collect());
        }
        Body::CallPaused(_) => {
            let work = work();
            no_effect_open(books, &work)?;
            no_effect_held(books, &work)?;
            if !guard!("stop.pause-open", books.under_way(&work)?) {
                return Err(contradiction(&work, "is not under way, and can't be paused"));
            }
        }
        Body::CallSuspended(_) => {
            let work = work();
            no_effect_open(books, &work)?;
            no_effect_held(books, &work)?;
            if !guard!("suspend.open", books.under_way(&work)?) {
                return Err(contradiction(&work, "is not under way, and can't be suspended"));
            }
        }
        Body::CallResumed(_) | Body::GuestEnded(_) => {
            let work = work();
            if !guard!("budget.guest-open", books.under_way(&work)?) {
                return Err(contradiction(&work, "is not under way, and has no guest"));
            }
        }
        Body::RunStarted(body) => {
            once(books, &body.run, body.once.as_ref())?;
            start_run(books, entry, body)?;
        }
        Body::RunEnded(body) => end_run(books, entry, body)?,
        Body::RunDegraded(body) => degrade_run(books, body)?,
        Body::BudgetWarned(body) => warned(books, body)?,
        _ => {}
    }
    Ok(Vec::new())
}

/// What an entry begins: whether it changes something, what is set aside for it, and the hold whose approvals it uses up.
struct Begins<'a> {
    changes: bool,
    reserved: &'a [Reservation],
    hold: Option<Digest>,
}

/// The stop that forbids what an entry sends: a stop comes before or after it, never beside it.
fn stopping<B: Books>(
    books: &mut B,
    entry: &Entry,
    connection: &str,
    tier: Tier,
    run: Option<&Run>,
) -> Result<Option<Stop>, B::Error> {
    let stops = books.stops()?;
    if stops.is_empty() {
        return Ok(None);
    }
    // The call's tool is looked for only where it matters.
    let by_tool = stops.iter().any(|stop| matches!(stop.scope, Scope::Tool(_)));
    let tool = match by_tool {
        true => books.tool_of(entry.call().unwrap_or_default())?,
        false => None,
    };
    let subject = subject(entry, connection, tool, run.map(|run| run.id().to_owned()));
    Ok(forbidding(&stops, &subject, tier).cloned())
}

/// For a word of a caller one call is made, or one run started, whatever becomes of it.
fn once<B: Books>(books: &mut B, made: &str, once: Option<&Once>) -> Result<(), B::Error> {
    let Some(once) = once else { return Ok(()) };
    let before = books.once(once, made)?;
    if let Some(call) = before
        && !guard!("call.once", false)
    {
        return Err(StoreError::Repeated { call }.into());
    }
    Ok(())
}

fn set_stop<B: Books>(books: &mut B, index: u64, set: &StopSet) -> Result<(), B::Error> {
    let stop = InForce {
        stop: set.stop(),
        id: set.id.clone(),
        index,
    };
    if !books.set_stop(&stop)? {
        return Err(StoreError::batch(format!("a {} is in force already", stop.stop)).into());
    }
    Ok(())
}

fn lift_stop<B: Books>(books: &mut B, lifted: &StopLifted) -> Result<(), B::Error> {
    let stop = lifted.stop();
    let was = books.lift_stop(&stop, &lifted.id)?;
    if !guard!("stop.lifted", was) {
        return Err(StoreError::batch(format!("no {stop} of that id is in force")).into());
    }
    Ok(())
}

/// Something begins, in its run where it is part of one. Gives back the warnings that follow it, of budgets that it takes so much of.
fn begin<B: Books>(
    books: &mut B,
    work: &Work,
    entry: &Entry,
    run: Option<&Run>,
    begins: Begins<'_>,
) -> Result<Vec<EntryDraft>, B::Error> {
    let Begins {
        changes,
        reserved,
        hold,
    } = begins;
    let begun = Begun {
        index: entry.index(),
        changes,
    };
    if !books.begin(work, begun)? {
        return Err(contradiction(work, "has begun already"));
    }
    let whole = match run {
        Some(run) => run.is_reserved(entry.body()),
        None => !reserved.iter().any(|one| run::is_own(&one.budget)),
    };
    if !guard!("run.reserved", whole) {
        return Err(contradiction(work, "does not reserve what the limits of its run say"));
    }
    let within = Within {
        work,
        run: run.map(Run::id),
        hold,
        time_ms: entry.time_ms(),
    };
    let mut warnings = Vec::new();
    for reservation in reserved {
        warnings.extend(reserve(books, &within, reservation)?);
    }
    Ok(warnings)
}

/// What a reservation is part of.
struct Within<'a> {
    work: &'a Work,
    run: Option<&'a str>,
    hold: Option<Digest>,
    time_ms: i64,
}

/// The run of a call under way, or of an effect of it.
fn run_of<B: Books>(books: &mut B, work: &Work) -> Result<Option<Run>, B::Error> {
    match books.run_of(&work.call)? {
        None => Ok(None),
        Some(id) => Ok(Some(known_run(books, &id)?)),
    }
}

fn known_run<B: Books>(books: &mut B, id: &str) -> Result<Run, B::Error> {
    let run = books.run(id)?;
    run.ok_or_else(|| not_of_run(id, RunError::Unknown))
}

fn not_of_run<E: From<StoreError>>(run: &str, why: RunError) -> E {
    let run = run.to_owned();
    StoreError::Run { run, why }.into()
}

/// A call that names a run becomes part of it, where it may.
fn join<B: Books>(books: &mut B, entry: &Entry, accepted: &CallAccepted) -> Result<Option<Run>, B::Error> {
    let Some(id) = &accepted.run else { return Ok(None) };
    let run = known_run(books, id)?;
    let Some(principal) = entry.principal() else {
        return Err(not_of_run(id, RunError::Another));
    };
    run.admits_call(principal, accepted.asked.mode, entry.time_ms())
        .map_err(|why| not_of_run(id, why))?;
    books.join(entry.call().unwrap_or_default(), id)?;
    Ok(Some(run))
}

/// Counts a call or an effect that came to an end towards its run, and says so where that was one failure too many.
fn count<B: Books>(books: &mut B, work: &Work, failed: bool) -> Result<Option<EntryDraft>, B::Error> {
    let Some(mut run) = run_of(books, work)? else {
        return Ok(None);
    };
    run.count(failed);
    books.set_run(&run)?;
    if work.ordinal.is_none() {
        books.leave(&work.call)?;
    }
    Ok(run.degrades().map(EntryDraft::of_ledger))
}

/// What was read back of an effect that has ended. One that is not seen counts as a failure of its call's run.
fn check<B: Books>(books: &mut B, work: &Work, checked: &EffectChecked) -> Result<Option<EntryDraft>, B::Error> {
    let call = Work {
        call: work.call.clone(),
        ordinal: None,
    };
    let ended = books.under_way(&call)? && !books.under_way(work)?;
    if !guard!("object.check-ended", ended) {
        return Err(contradiction(
            work,
            "is under way, or its call is not, and can't be read back",
        ));
    }
    let Some(mut run) = run_of(books, work)?.filter(|_| checked.shown.is_unverified()) else {
        return Ok(None);
    };
    run.count_unverified();
    books.set_run(&run)?;
    Ok(run.degrades().map(EntryDraft::of_ledger))
}

fn start_run<B: Books>(books: &mut B, entry: &Entry, started: &RunStarted) -> Result<(), B::Error> {
    let refuse = |why: &str| StoreError::batch(format!("run {} {why}", started.run));
    if books.run(&started.run)?.is_some() {
        return Err(refuse("was started already").into());
    }
    let now = time(entry);
    let length = started.expires.saturating_sub(now);
    // The clock that said when it expires can be a little ahead of the ledger's.
    if !guard!("run.length", (1..=run::LONGEST_MS + 60_000).contains(&length)) {
        return Err(refuse("would be over already, or be open for more than 31 days").into());
    }
    books.set_run(&Run::new(started.clone(), entry.index(), entry.time_ms()))
}

fn end_run<B: Books>(books: &mut B, entry: &Entry, ended: &RunEnded) -> Result<(), B::Error> {
    let mut run = known_run(books, &ended.run)?;
    run.is_open(entry.time_ms())
        .map_err(|why| not_of_run(&ended.run, why))?;
    run.ended = true;
    books.set_run(&run)
}

/// A run degrades when as much of it failed as the entry says, and not otherwise.
fn degrade_run<B: Books>(books: &mut B, degraded: &RunDegraded) -> Result<(), B::Error> {
    let mut run = known_run(books, &degraded.run)?;
    if !guard!("run.degrades", run.degrades().as_ref() == Some(degraded)) {
        let why = format!("run {} is said to have degraded, and has not", degraded.run);
        return Err(StoreError::batch(why).into());
    }
    run.degraded = true;
    books.set_run(&run)
}

fn end<B: Books>(books: &mut B, work: &Work, entry: &Entry, settled: &[Settlement]) -> Result<Begun, B::Error> {
    let begun = books.end(work)?;
    if !guard!("ledger.one-outcome", begun.is_some()) {
        return Err(contradiction(work, "is not under way"));
    }
    settled
        .iter()
        .try_for_each(|settlement| settle(books, work, entry.time_ms(), settlement))?;
    let index = entry.index();
    Ok(begun.unwrap_or(Begun { index, changes: false }))
}

/// What is under way may be sent again, and what is in doubt since its host ended, in a call that has not: that is under way with it, and
/// what is set aside for it stays. Not under a stop.
fn send_again<B: Books>(books: &mut B, work: &Work, entry: &Entry, again: &EffectRetried) -> Result<(), B::Error> {
    let begun = books.begun(work)?;
    undoing::sent_before(books, work, &again.after)?;
    // Only what changes something is ever in doubt.
    let tier = match begun {
        Some(Begun { changes: false, .. }) => Tier::Read,
        _ => Tier::Commit,
    };
    let run = run_of(books, work)?;
    if let Some(stop) = stopping(books, entry, &again.connection, tier, run.as_ref())?
        && !guard!("stop.retry", false)
    {
        return Err(StoreError::Stopped(stop).into());
    }
    if begun.is_some() {
        return Ok(());
    }
    let call = Work {
        call: work.call.clone(),
        ordinal: None,
    };
    let unseen = again.after == Outcome::InDoubt(Doubt::Restart) && books.under_way(&call)? && books.undoubt(work)?;
    if !guard!("ledger.retry-open", unseen) {
        return Err(contradiction(work, "is not under way, and can't be sent again"));
    }
    // Its run must be one that may.
    if let Some(run) = run {
        let admitted = run.admits_effect(tier, entry.time_ms());
        admitted.map_err(|why| not_of_run(run.id(), why))?;
    }
    let begun = Begun {
        index: entry.index(),
        changes: true,
    };
    if !books.begin(work, begun)? {
        return Err(contradiction(work, "has begun already"));
    }
    Ok(())
}

/// What an operator says of an effect in doubt is said once, and settles all that was still set aside for it.
fn resolve<B: Books>(books: &mut B, work: &Work, entry: &Entry, settled: &[Settlement]) -> Result<(), B::Error> {
    let was_in_doubt = books.undoubt(work)?;
    if !guard!("ledger.resolved-once", was_in_doubt) {
        return Err(contradiction(work, "is not in doubt"));
    }
    settled
        .iter()
        .try_for_each(|settlement| settle(books, work, entry.time_ms(), settlement))
}

fn no_effect_open<B: Books>(books: &mut B, work: &Work) -> Result<(), B::Error> {
    if !guard!("ledger.every-outcome", books.effects(&work.call)? == 0) {
        return Err(contradiction(
            work,
            "has an intent without an outcome, and can't finish",
        ));
    }
    Ok(())
}

fn no_effect_held<B: Books>(books: &mut B, work: &Work) -> Result<(), B::Error> {
    if !guard!("ledger.no-held", books.holds(&work.call)? == 0) {
        return Err(contradiction(work, "has an effect that is held, and can't finish"));
    }
    Ok(())
}

/// An effect waits, where its agent has room for one more that does.
fn hold_effect<B: Books>(books: &mut B, work: &Work, entry: &Entry, body: &EffectHeld) -> Result<(), B::Error> {
    if let Some(from) = body.edited_from {
        take_edited(books, work, entry, body, from)?;
    }
    let agent = entry.principal().map(|principal| principal.agent.clone());
    let held = Held {
        hold: body.hold,
        expires_ms: body.expires,
        index: entry.index(),
        agent: agent.unwrap_or_default(),
    };
    let waiting = books.holds_of_agent(&held.agent)?;
    if !guard!("hold.open-holds", waiting < u64::from(body.most)) {
        return Err(StoreError::Holds {
            agent: held.agent,
            most: body.most,
        }
        .into());
    }
    if !books.hold(work, &held)? {
        return Err(contradiction(work, "is held already"));
    }
    Ok(())
}

/// An edit is signed by a person who is enrolled, of a hold that waits and has not expired. The hold's row is its successor's from here on,
/// of which the next entry is.
fn edit_hold<B: Books>(books: &mut B, work: &Work, entry: &Entry, body: &HoldEdited) -> Result<(), B::Error> {
    let wrong = |why: &str| StoreError::batch(format!("an edit of a hold of call {} {why}", work.call));
    let now_ms = time(entry);
    let person = hold::signer_name(&body.edit).unwrap_or_default();
    let key = books.key_of(person)?;
    let edit = key
        .and_then(|key| VerifierKey::parse(&key).ok())
        .and_then(|key| Edit::open(&body.edit, &key).ok());
    let signed = edit.is_some_and(|edit| edit.hold == body.hold && edit.expires_ms > now_ms);
    if !guard!("hold.edit-signed", signed) {
        return Err(wrong("is not signed by a person who is enrolled, for this hold and time").into());
    }
    let held = books.held(work)?;
    end_hold(books, work, body.hold, Some(now_ms))?;
    let Some(held) = held else { return Ok(()) };
    let next = Held {
        hold: body.to,
        index: entry.index(),
        ..held
    };
    if !books.hold(work, &next)? {
        return Err(contradiction(work, "is held already"));
    }
    Ok(())
}

/// What is held by an edit comes right after it, and takes its place: of its id, for no longer.
fn take_edited<B: Books>(
    books: &mut B,
    work: &Work,
    entry: &Entry,
    body: &EffectHeld,
    from: Digest,
) -> Result<(), B::Error> {
    let held = books.held(work)?;
    let in_place = held.is_some_and(|held| {
        held.hold == body.hold && held.index + 1 == entry.index() && held.expires_ms >= body.expires
    });
    if !guard!("hold.edit-in-place", in_place && from != body.hold) {
        return Err(contradiction(work, "is held by an edit that does not come before it"));
    }
    books.unhold(work)
}

/// A hold ends once, by the entry that names it; with an intent before it expires.
fn end_hold<B: Books>(books: &mut B, work: &Work, hold: Digest, before_ms: Option<u64>) -> Result<(), B::Error> {
    let held = books.held(work)?;
    if !guard!("hold.single-use", held.as_ref().is_some_and(|held| held.hold == hold)) {
        return Err(contradiction(work, "is not held under that hold"));
    }
    let expired = before_ms.zip(held).is_some_and(|(now, held)| held.expires_ms <= now);
    if !guard!("hold.expired", !expired) {
        return Err(StoreError::HoldExpired.into());
    }
    books.unhold(work)
}

/// A dead letter is retried or dropped, once.
fn take_letter<B: Books>(books: &mut B, call: &str, ordinal: u32) -> Result<(), B::Error> {
    let work = Work {
        call: call.to_owned(),
        ordinal: Some(ordinal),
    };
    let there = books.exhume(&work)?;
    if !guard!("ledger.letter-once", there) {
        return Err(contradiction(&work, "is no dead letter"));
    }
    Ok(())
}

/// A vote is about a hold that waits, and signed by a person who is enrolled; one in another's stead by whom they gave their vote.
fn check_vote<B: Books>(books: &mut B, work: &Work, body: &HoldVoted, now_ms: u64) -> Result<(), B::Error> {
    let wrong = |why: &str| StoreError::batch(format!("a vote on a hold of call {} {why}", work.call));
    let waits = books.held(work)?.is_some_and(|held| held.hold == body.hold);
    if !guard!("hold.waits", waits) {
        return Err(wrong("is about none that waits").into());
    }
    let person = hold::signer_name(&body.vote).unwrap_or_default();
    let key = books.key_of(person)?;
    let vote = key
        .and_then(|key| VerifierKey::parse(&key).ok())
        .and_then(|key| Vote::open(&body.vote, &key).ok());
    let stead = vote.as_ref().and_then(|vote| {
        let member = vote.in_stead_of.clone()?;
        Some([member, vote.person.clone(), vote.group.clone()])
    });
    let given = match stead {
        Some(about) => books.delegation(&about)?.is_some_and(|given| given.until_ms > now_ms),
        None => true,
    };
    let breaks = vote.as_ref().is_some_and(|vote| vote.verdict == Verdict::BreakGlass);
    if !guard!("hold.signed", vote.is_some_and(|vote| vote.hold == body.hold)) {
        return Err(wrong("is not signed by a person who is enrolled").into());
    }
    if !guard!("hold.stead-given", given) {
        return Err(wrong("is in the stead of somebody who did not give their vote").into());
    }
    let marked = body.instead.is_some() == breaks && (body.reason.is_some() || !breaks);
    if !guard!("hold.glass-marked", marked) {
        return Err(wrong("does not say what the glass was broken for, or says it without that").into());
    }
    Ok(())
}

/// A delegation is signed by the person who gives their vote, to another who is enrolled, and newer than what they said before.
fn delegate<B: Books>(books: &mut B, body: &PersonDelegated, now_ms: u64) -> Result<(), B::Error> {
    let wrong = |why: &str| StoreError::batch(format!("a delegation {why}"));
    let person = hold::signer_name(&body.delegation).unwrap_or_default();
    let key = books.key_of(person)?;
    let said = key
        .and_then(|key| VerifierKey::parse(&key).ok())
        .and_then(|key| Delegation::open(&body.delegation, &key).ok());
    let said = said.ok_or_else(|| wrong("is not signed by a person who is enrolled"))?;
    let other = said.delegate != said.person && books.key_of(&said.delegate)?.is_some();
    if !guard!("hold.delegate-enrolled", other) {
        return Err(wrong("is to nobody else who is enrolled").into());
    }
    if !guard!(
        "hold.delegation-time",
        said.is_for_a_time() && said.made_ms <= now_ms.saturating_add(AHEAD_MS)
    ) {
        return Err(wrong("is for longer than 90 days, or said in the future").into());
    }
    let about = [said.person, said.delegate, said.group];
    let before = books.delegation(&about)?;
    if !guard!(
        "hold.delegation-newer",
        before.is_none_or(|before| before.made_ms < said.made_ms)
    ) {
        return Err(wrong("is no newer than what the person said about it last").into());
    }
    books.delegate(&Delegated {
        about,
        made_ms: said.made_ms,
        until_ms: said.until_ms,
        note: body.delegation.clone(),
    })
}

fn enrol<B: Books>(books: &mut B, person: &PersonEnrolled) -> Result<(), B::Error> {
    let refuse = |why: &str| StoreError::batch(format!("the person {} {why}", person.name));
    let key = VerifierKey::parse(&person.key)
        .ok()
        .filter(|key| key.name() == person.name);
    let key = key.ok_or_else(|| refuse("comes with a key that is not theirs"))?;
    let known = books.keys()?;
    let taken = known
        .iter()
        .filter_map(|known| VerifierKey::parse(known).ok())
        .any(|known| known.is_key_of(&key));
    if !guard!("hold.one-key", !taken) {
        return Err(refuse("comes with a key that is enrolled already, under this name or another").into());
    }
    if !books.enrol(&person.name, &person.key)? {
        return Err(refuse("is enrolled already").into());
    }
    Ok(())
}

fn revoke<B: Books>(books: &mut B, person: &PersonRevoked) -> Result<(), B::Error> {
    if books.key_of(&person.name)?.as_ref() != Some(&person.key) {
        return Err(StoreError::batch(format!("no person {} has that key", person.name)).into());
    }
    books.end_delegations(&person.name)?;
    books.revoke(&person.name)
}

/// A key is new, and good for a time. One in another's place is the same agent's, for the same and no more, and ends that one.
fn create_key<B: Books>(books: &mut B, entry: &Entry, created: &KeyCreated) -> Result<(), B::Error> {
    let refuse = |why: &str| StoreError::batch(format!("the key {} {why}", created.key));
    if books.api_key(&created.key)?.is_some() {
        return Err(refuse("is there already").into());
    }
    let good_for = created.expires.saturating_sub(time(entry));
    if !guard!("identity.key-time", (1..=key::LONGEST_MS).contains(&good_for)) {
        return Err(refuse("is good for no time, or for longer than 366 days").into());
    }
    if let Some(replaced) = &created.replaces {
        let before = books.api_key(&replaced.key)?.filter(|before| before.revoked.is_none());
        let before = before.ok_or_else(|| refuse("takes the place of none that is good"))?;
        let whose = |key: &KeyCreated| {
            let KeyCreated {
                agent,
                user,
                narrowing,
                operator,
                ..
            } = key.clone();
            (agent, user, narrowing, operator)
        };
        if !guard!("identity.key-same", whose(&before.created) == whose(created)) {
            return Err(refuse("takes the place of another agent's, or is for something else").into());
        }
        books.set_api_key(&ApiKey {
            until_ms: before.until_ms.min(replaced.until),
            ..before
        })?;
    }
    books.set_api_key(&ApiKey {
        created: created.clone(),
        index: entry.index(),
        time_ms: entry.time_ms(),
        until_ms: created.expires,
        revoked: None,
    })
}

fn revoke_key<B: Books>(books: &mut B, index: u64, revoked: &KeyRevoked) -> Result<(), B::Error> {
    let known = books.api_key(&revoked.key)?.filter(|known| known.revoked.is_none());
    let known = known.ok_or_else(|| StoreError::batch(format!("no key {} is there to revoke", revoked.key)))?;
    books.set_api_key(&ApiKey {
        revoked: Some(index),
        ..known
    })
}

fn time(entry: &Entry) -> u64 {
    u64::try_from(entry.time_ms()).unwrap_or_default()
}

/// Takes a reservation in, and gives back the warning that is due with it.
fn reserve<B: Books>(books: &mut B, within: &Within<'_>, asked: &Reservation) -> Result<Option<EntryDraft>, B::Error> {
    let (work, time_ms) = (within.work, within.time_ms);
    if asked.amount == 0 || asked.cap.max(asked.amount) > MOST {
        return Err(contradiction(work, "reserves nothing, or more than can be counted"));
    }
    let window = Window {
        budget: asked.budget.clone(),
        window: asked.window.clone(),
    };
    let period = window
        .period()
        .filter(|period| period.is_of(&work.call, within.run, time_ms));
    let kind = period.map(|period| period.window());
    let kind = kind.ok_or_else(|| contradiction::<B::Error>(work, "reserves in a window that is not its own"))?;
    let account = match (books.account(&window)?, kind) {
        (Some(account), Kind::Rolling(span)) => aged(books, work, &window, span, account, time_ms)?,
        (Some(account), _) => account,
        // Those of other runs stay.
        (None, Kind::Run) => Account::default(),
        (None, _) => {
            prune(books, work, &window.budget, time_ms)?;
            Account::default()
        }
    };
    let over = || StoreError::Budget {
        name: asked.budget.clone(),
        cap: asked.cap,
        used: account.used,
        reserved: account.reserved,
        asked: asked.amount,
    };
    let after = match asked.over {
        None => account.reserve(asked.amount, asked.cap),
        Some(hold) => {
            if !guard!("budget.overdraft", within.hold == Some(hold)) {
                return Err(contradiction(work, "passes a cap by a hold that does not end with it"));
            }
            account.reserve_over(asked.amount)
        }
    };
    let after = after.map_err(|_| over())?;
    books.set_account(&window, after, Some(asked.cap))?;
    if !books.reserve(work, &window, asked.amount)? {
        return Err(contradiction(work, "reserves twice in one budget"));
    }
    let taken = after.used.saturating_add(after.reserved);
    let Some(from) = asked.warn.filter(|from| taken >= *from) else {
        return Ok(None);
    };
    if is_warned(books, &window, time_ms)? {
        return Ok(None);
    }
    books.set_warned(&window, time_ms)?;
    Ok(Some(EntryDraft::of_ledger(BudgetWarned {
        budget: window.budget,
        cap: asked.cap,
        taken,
        warn: from,
        window: window.window,
    })))
}

/// Whether people were told of this window already. A rolling one has no end: of that they are told again after its length.
fn is_warned<B: Books>(books: &mut B, window: &Window, time_ms: i64) -> Result<bool, B::Error> {
    let Some(told_ms) = books.warned(window)? else {
        return Ok(false);
    };
    Ok(match window.period().map(|period| period.window()) {
        Some(Kind::Rolling(span)) => time_ms.saturating_sub(told_ms) < span.ms(),
        _ => true,
    })
}

/// A warning follows the reservation that it is due with, and nothing else.
fn warned<B: Books>(books: &mut B, warned: &BudgetWarned) -> Result<(), B::Error> {
    let window = Window {
        budget: warned.budget.clone(),
        window: warned.window.clone(),
    };
    let due = warned.taken >= warned.warn && books.warned(&window)?.is_some();
    if !guard!("budget.warned", due) {
        let why = format!("budget {} is said to be nearly used up, and is not", warned.budget);
        return Err(StoreError::batch(why).into());
    }
    Ok(())
}

fn settle<B: Books>(books: &mut B, work: &Work, time_ms: i64, settled: &Settlement) -> Result<(), B::Error> {
    let window = Window {
        budget: settled.budget.clone(),
        window: settled.window.clone(),
    };
    let reserved = books
        .unreserve(work, &window)?
        .ok_or_else(|| contradiction::<B::Error>(work, "settles what it did not reserve"))?;
    let after = books.account(&window)?.unwrap_or_default();
    let after = after
        .settle(reserved, settled.amount)
        .map_err(|_| contradiction::<B::Error>(work, "settles more than it reserved"))?;
    if let Some(Kind::Rolling(span)) = window.period().map(|period| period.window())
        && settled.amount > 0
    {
        books.add_slice(&window, span.slice(time_ms), settled.amount)?;
    }
    books.set_account(&window, after, None)
}

/// A rolling window's account without what it has no more at `time_ms`. The slices that have left are dropped with it.
fn aged<B: Books>(
    books: &mut B,
    work: &Work,
    window: &Window,
    span: Span,
    account: Account,
    time_ms: i64,
) -> Result<Account, B::Error> {
    let left = books.take_slices(window, span.free_until(time_ms))?;
    let aged = left
        .into_iter()
        .try_fold(account, Account::free)
        .ok_or_else(|| contradiction::<B::Error>(work, "finds more in slices than was used"))?;
    if aged != account {
        books.set_account(window, aged, None)?;
    }
    Ok(aged)
}

/// Drops those of a budget's accounts that nothing can count in any more: looked for whenever it gets a new one, so that there are never
/// more than are in use, in doubt, or were left by the last use.
fn prune<B: Books>(books: &mut B, work: &Work, budget: &str, time_ms: i64) -> Result<(), B::Error> {
    for window in books.idle(budget)? {
        if is_over(books, work, &window, time_ms)? {
            books.drop_account(&window)?;
        }
    }
    Ok(())
}

/// Whether no later entry can count in a window in which nothing is reserved.
fn is_over<B: Books>(books: &mut B, work: &Work, window: &Window, time_ms: i64) -> Result<bool, B::Error> {
    let Some(period) = window.period() else {
        return Ok(false);
    };
    match (period.window(), period.call()) {
        (Kind::Rolling(span), _) => {
            let account = books.account(window)?.unwrap_or_default();
            Ok(aged(books, work, window, span, account, time_ms)?.used == 0)
        }
        (_, Some(call)) => {
            let call = Work {
                call: call.to_owned(),
                ordinal: None,
            };
            Ok(!books.under_way(&call)?)
        }
        // What a run used is kept with it.
        (Kind::Run, _) => Ok(false),
        // Time does not come back to another one than it is in.
        _ => Ok(!period.is_of(&work.call, None, time_ms)),
    }
}

pub(super) fn contradiction<E: From<StoreError>>(work: &Work, what: &str) -> E {
    let effect = work
        .ordinal
        .map(|ordinal| format!("effect {ordinal} of "))
        .unwrap_or_default();
    StoreError::batch(format!("{effect}call {} {what}", work.call)).into()
}
