//! What follows from the entries: what is under way, and what budgets have left.
//!
//! Both are a function of the ledger. [`post`] is that function, one entry at a time; where the rows are kept is the
//! business of [`Books`].
//!
//! Time is that of the entries. What reserves says in which kind of window; [`place`] says in which one, when the entry gets
//! its time, and [`post`] holds entries to that. An account is what one budget has used and reserved in one window, and
//! stays for as long as anything can count in it: until its window is over and all that it reserved is settled. That of a
//! rolling window stays. Its use stands in slices by the time at which it was settled, and leaves with them.

use ambit_core::digest::Digest;
use ambit_core::guard;
use ambit_core::hold::{self, Vote};
use ambit_core::ledger::body::{HoldVoted, PersonEnrolled, PersonRevoked, Reservation, Settlement};
use ambit_core::ledger::{Body, Entry, VerifierKey};
use ambit_core::money::{Account, MOST, Period, Span, Window as Kind};

use super::StoreError;

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
}

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
    /// Whether `work` is under way.
    fn under_way(&mut self, work: &Work) -> Result<bool, Self::Error>;
    /// What a budget has used and reserved in a window; none where it never did, or that is over.
    fn account(&mut self, window: &Window) -> Result<Option<Account>, Self::Error>;
    /// Sets that, and the cap that it was last held against.
    fn set_account(&mut self, window: &Window, account: Account, cap: Option<u64>) -> Result<(), Self::Error>;
    /// A budget's windows in which nothing is reserved.
    fn idle(&mut self, budget: &str) -> Result<Vec<Window>, Self::Error>;
    /// Drops a window's account, in which nothing is reserved.
    fn drop_account(&mut self, window: &Window) -> Result<(), Self::Error>;
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

    /// Notes that an effect failed for good, with the entry at `index`; false where that is noted already.
    fn bury(&mut self, work: &Work, index: u64) -> Result<bool, Self::Error>;
    /// Takes an effect that failed for good from the list; false where it is not there.
    fn exhume(&mut self, work: &Work) -> Result<bool, Self::Error>;
    /// Notes that an effect is in doubt since the entry at `index`.
    fn doubt(&mut self, work: &Work, index: u64) -> Result<(), Self::Error>;
    /// Notes that it is no longer; false where it was not.
    fn undoubt(&mut self, work: &Work) -> Result<bool, Self::Error>;

    /// Enrols a person; false where there is one of that name.
    fn enrol(&mut self, name: &str, key: &str) -> Result<bool, Self::Error>;
    /// The text of an enrolled person's key.
    fn key_of(&mut self, name: &str) -> Result<Option<String>, Self::Error>;
    /// The texts of all enrolled people's keys.
    fn keys(&mut self) -> Result<Vec<String>, Self::Error>;
    /// Forgets a person.
    fn revoke(&mut self, name: &str) -> Result<(), Self::Error>;
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

/// Brings the books up to date with an entry.
///
/// # Errors
/// [`StoreError::Budget`] where a reservation passes its cap, [`StoreError::Batch`] where the entry contradicts those before it: an
/// outcome without an intent, a finish before every intent has an outcome, more settled than was reserved, a window of another time, a
/// vote that no enrolled person signed, an intent after its hold has expired.
pub(super) fn post<B: Books>(books: &mut B, entry: &Entry) -> Result<(), B::Error> {
    let work = || Work {
        call: entry.call().unwrap_or_default().to_owned(),
        ordinal: entry.body().ordinal(),
    };
    match entry.body() {
        Body::CallAccepted(body) => begin(books, &work(), entry, false, &body.reserved),
        Body::EffectIntent(body) => {
            let work = work();
            if let Some(hold) = body.hold {
                end_hold(books, &work, hold, Some(time(entry)))?;
            }
            if let Some(letter) = &body.letter {
                take_letter(books, &letter.call, letter.ordinal)?;
            }
            begin(books, &work, entry, body.changes(), &body.reserved)
        }
        Body::EffectRetried(_) => {
            let work = work();
            if !guard!("ledger.retry-open", books.under_way(&work)?) {
                return Err(contradiction(&work, "is not under way, and can't be sent again"));
            }
            Ok(())
        }
        Body::EffectRefused(body) => match body.hold {
            Some(hold) => end_hold(books, &work(), hold, None),
            None => Ok(()),
        },
        Body::EffectHeld(body) => {
            let held = Held {
                hold: body.hold,
                expires_ms: body.expires,
                index: entry.index(),
            };
            if !books.hold(&work(), &held)? {
                return Err(contradiction(&work(), "is held already"));
            }
            Ok(())
        }
        Body::HoldVoted(body) => check_vote(books, &work(), body),
        Body::PersonEnrolled(body) => enrol(books, body),
        Body::PersonRevoked(body) => revoke(books, body),
        Body::EffectOutcome(body) => {
            let work = work();
            let begun = end(books, &work, entry, &body.settled)?;
            if body.is_in_doubt() && begun.changes {
                books.doubt(&work, entry.index())?;
            }
            if body.dead && !books.bury(&work, entry.index())? {
                return Err(contradiction(&work, "is a dead letter already"));
            }
            Ok(())
        }
        Body::DeadLetterDropped(body) => take_letter(books, &body.call, body.ordinal),
        Body::EffectResolved(body) => resolve(books, &work(), entry, &body.settled),
        Body::CallFinished(body) => {
            let work = work();
            no_effect_open(books, &work)?;
            no_effect_held(books, &work)?;
            end(books, &work, entry, &body.settled).map(|_| ())
        }
        _ => Ok(()),
    }
}

fn begin<B: Books>(
    books: &mut B,
    work: &Work,
    entry: &Entry,
    changes: bool,
    reserved: &[Reservation],
) -> Result<(), B::Error> {
    let begun = Begun {
        index: entry.index(),
        changes,
    };
    if !books.begin(work, begun)? {
        return Err(contradiction(work, "has begun already"));
    }
    reserved
        .iter()
        .try_for_each(|reservation| reserve(books, work, entry.time_ms(), reservation))
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

/// A hold ends once, by the entry that names it; with an intent before it expires.
fn end_hold<B: Books>(books: &mut B, work: &Work, hold: Digest, before_ms: Option<u64>) -> Result<(), B::Error> {
    let held = books.held(work)?;
    if !guard!("hold.single-use", held.as_ref().is_some_and(|held| held.hold == hold)) {
        return Err(contradiction(work, "is not held under that hold"));
    }
    let expired = before_ms.zip(held).is_some_and(|(now, held)| held.expires_ms <= now);
    if !guard!("hold.expired", !expired) {
        return Err(contradiction(work, "was held, and the hold has expired"));
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

/// A vote is about a hold that waits, and signed by a person who is enrolled.
fn check_vote<B: Books>(books: &mut B, work: &Work, body: &HoldVoted) -> Result<(), B::Error> {
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
    if !guard!("hold.signed", vote.is_some_and(|vote| vote.hold == body.hold)) {
        return Err(wrong("is not signed by a person who is enrolled").into());
    }
    Ok(())
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
    books.revoke(&person.name)
}

fn time(entry: &Entry) -> u64 {
    u64::try_from(entry.time_ms()).unwrap_or_default()
}

fn reserve<B: Books>(books: &mut B, work: &Work, time_ms: i64, asked: &Reservation) -> Result<(), B::Error> {
    if asked.amount == 0 || asked.cap.max(asked.amount) > MOST {
        return Err(contradiction(work, "reserves nothing, or more than can be counted"));
    }
    let window = Window {
        budget: asked.budget.clone(),
        window: asked.window.clone(),
    };
    let period = window.period().filter(|period| period.is_of(&work.call, time_ms));
    let kind = period.map(|period| period.window());
    let kind = kind.ok_or_else(|| contradiction::<B::Error>(work, "reserves in a window that is not its own"))?;
    let account = match (books.account(&window)?, kind) {
        (Some(account), Kind::Rolling(span)) => aged(books, work, &window, span, account, time_ms)?,
        (Some(account), _) => account,
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
    let after = account.reserve(asked.amount, asked.cap).map_err(|_| over())?;
    books.set_account(&window, after, Some(asked.cap))?;
    if !books.reserve(work, &window, asked.amount)? {
        return Err(contradiction(work, "reserves twice in one budget"));
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
        // Time does not come back to another one than it is in.
        _ => Ok(!period.is_of(&work.call, time_ms)),
    }
}

fn contradiction<E: From<StoreError>>(work: &Work, what: &str) -> E {
    let effect = work
        .ordinal
        .map(|ordinal| format!("effect {ordinal} of "))
        .unwrap_or_default();
    StoreError::batch(format!("{effect}call {} {what}", work.call)).into()
}
