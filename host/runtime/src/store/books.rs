//! What follows from the entries: what is under way, and what budgets have left.
//!
//! Both are a function of the ledger. [`post`] is that function, one entry at a time; where the rows are kept is the
//! business of [`Books`].

use ambit_core::digest::Digest;
use ambit_core::guard;
use ambit_core::hold::{self, Vote};
use ambit_core::ledger::body::{HoldVoted, PersonEnrolled, PersonRevoked, Reservation, Settlement};
use ambit_core::ledger::{Body, Entry, VerifierKey};
use ambit_core::money::Account;

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
    /// The window's key: a day, a call.
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

/// The largest amount or cap: more has no place in a row.
const COUNTABLE: u64 = i64::MAX as u64;

/// The rows that [`post`] reads and writes.
pub(super) trait Books {
    /// What reading and writing rows fails with.
    type Error: From<StoreError>;

    /// Notes that `work` began with the entry at `index`; false where it is under way already.
    fn begin(&mut self, work: &Work, index: u64) -> Result<bool, Self::Error>;
    /// Notes that `work` is over; false where it was not under way.
    fn end(&mut self, work: &Work) -> Result<bool, Self::Error>;
    /// How many of a call's effects are under way.
    fn effects(&mut self, call: &str) -> Result<u64, Self::Error>;
    /// What a budget has used and reserved in a window.
    fn account(&mut self, window: &Window) -> Result<Account, Self::Error>;
    /// Sets that, and the cap that it was last held against.
    fn set_account(&mut self, window: &Window, account: Account, cap: Option<u64>) -> Result<(), Self::Error>;
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

    /// Enrols a person; false where there is one of that name.
    fn enrol(&mut self, name: &str, key: &str) -> Result<bool, Self::Error>;
    /// The text of an enrolled person's key.
    fn key_of(&mut self, name: &str) -> Result<Option<String>, Self::Error>;
    /// Forgets a person.
    fn revoke(&mut self, name: &str) -> Result<(), Self::Error>;
}

/// Brings the books up to date with an entry.
///
/// # Errors
/// [`StoreError::Budget`] where a reservation passes its cap, [`StoreError::Batch`] where the entry contradicts those before it: an
/// outcome without an intent, a finish before every intent has an outcome, more settled than was reserved, a vote that no enrolled person
/// signed, an intent after its hold has expired.
pub(super) fn post<B: Books>(books: &mut B, entry: &Entry) -> Result<(), B::Error> {
    let work = || Work {
        call: entry.call().unwrap_or_default().to_owned(),
        ordinal: entry.body().ordinal(),
    };
    match entry.body() {
        Body::CallAccepted(body) => begin(books, &work(), entry.index(), &body.reserved),
        Body::EffectIntent(body) => {
            let work = work();
            if let Some(hold) = body.hold {
                end_hold(books, &work, hold, Some(time(entry)))?;
            }
            begin(books, &work, entry.index(), &body.reserved)
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
        Body::EffectOutcome(body) => end(books, &work(), &body.settled),
        Body::CallFinished(body) => {
            let work = work();
            no_effect_open(books, &work)?;
            no_effect_held(books, &work)?;
            end(books, &work, &body.settled)
        }
        _ => Ok(()),
    }
}

fn begin<B: Books>(books: &mut B, work: &Work, index: u64, reserved: &[Reservation]) -> Result<(), B::Error> {
    if !books.begin(work, index)? {
        return Err(contradiction(work, "has begun already"));
    }
    reserved
        .iter()
        .try_for_each(|reservation| reserve(books, work, reservation))
}

fn end<B: Books>(books: &mut B, work: &Work, settled: &[Settlement]) -> Result<(), B::Error> {
    let was_open = books.end(work)?;
    if !guard!("ledger.one-outcome", was_open) {
        return Err(contradiction(work, "is not under way"));
    }
    settled
        .iter()
        .try_for_each(|settlement| settle(books, work, settlement))
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
    let named = VerifierKey::parse(&person.key).is_ok_and(|key| key.name() == person.name);
    if !named || !books.enrol(&person.name, &person.key)? {
        let why = "is enrolled already, or the key is not theirs";
        return Err(StoreError::batch(format!("the person {} {why}", person.name)).into());
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

fn reserve<B: Books>(books: &mut B, work: &Work, asked: &Reservation) -> Result<(), B::Error> {
    if asked.cap.max(asked.amount) > COUNTABLE {
        return Err(contradiction(work, "reserves more than can be counted"));
    }
    let window = Window {
        budget: asked.budget.clone(),
        window: asked.window.clone(),
    };
    let account = books.account(&window)?;
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

fn settle<B: Books>(books: &mut B, work: &Work, settled: &Settlement) -> Result<(), B::Error> {
    let window = Window {
        budget: settled.budget.clone(),
        window: settled.window.clone(),
    };
    let reserved = books
        .unreserve(work, &window)?
        .ok_or_else(|| contradiction::<B::Error>(work, "settles what it did not reserve"))?;
    let account = books.account(&window)?;
    let after = account
        .settle(reserved, settled.amount)
        .map_err(|_| contradiction::<B::Error>(work, "settles more than it reserved"))?;
    books.set_account(&window, after, None)
}

fn contradiction<E: From<StoreError>>(work: &Work, what: &str) -> E {
    let effect = work
        .ordinal
        .map(|ordinal| format!("effect {ordinal} of "))
        .unwrap_or_default();
    StoreError::batch(format!("{effect}call {} {what}", work.call)).into()
}
