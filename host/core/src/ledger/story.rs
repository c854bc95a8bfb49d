//! The story of one call: its entries put together, and checked against each other on the way.
//!
//! [`verify`](super::verify()) reads every call of a ledger through this, `audit show` prints one. Printing is elsewhere.

use std::collections::BTreeMap;

use super::body::{
    Amount, Body, By, CallAccepted, CallDenied, CallFinished, CallPaused, CallSuspended, Cause, EffectChecked,
    EffectHeld, EffectIntent, EffectOutcome, EffectRefused, EffectResolved, EffectRetried, End, Found, HoldEdited,
    HoldVoted, Kind, Letter, Outcome, Rollback, Tally, before_name,
};
use super::entry::{Entry, Principal};
use super::guests::Guests;
use super::{LedgerError, Stamp};
use crate::digest::Digest;
use crate::guard;
use crate::hold::{self, Edit, Found as FoundThen, Hold, Need, Progress, Spoken, Verdict, Vote};
use crate::trace::Arrival;

/// What one call's entries say, from the first to the last there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallStory {
    /// The call.
    pub call: String,
    /// Its trace.
    pub trace: String,
    /// Who asked. A denied call may have none.
    pub principal: Option<Principal>,
    /// The tool's component. A denied call may have none.
    pub tool: Option<Digest>,
    /// The configuration in force when it began.
    pub config: Option<Digest>,
    /// The policies in force when it began.
    pub policy: Option<Digest>,
    /// How it began: what was asked, and which policies said yes or no.
    pub opening: Told<Opening>,
    /// Its effects by their numbers, refused ones among them.
    pub effects: BTreeMap<u32, EffectStory>,
    /// Its holds by the numbers of their effects: those that wait, and those that are over.
    pub holds: BTreeMap<u32, HoldStory>,
    /// Its end. None while it runs, and after the host died in it.
    pub finished: Option<Told<CallFinished>>,
    /// How often safe mode paused it, in order.
    pub pauses: Vec<Told<CallPaused>>,
    /// How often its host ended while it ran, and left it to the next, in order.
    pub suspensions: Vec<Told<CallSuspended>>,
    /// Its guests, one after another.
    pub guests: Guests,
    /// What the host looked up for effects that were held or in doubt.
    looked_up: u32,
    /// Whether the last pause is the last that is said of it.
    paused: bool,
    /// Whether the last suspension is the last that is said of it.
    suspended: bool,
    tally: Tally,
    /// An edit whose new hold has to follow.
    editing: Option<Told<HoldEdited>>,
}

/// Something an entry says, with the entry's index and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told<T> {
    /// Where and when.
    pub stamp: Stamp,
    /// What.
    pub what: T,
}

/// How a call began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It was permitted.
    Accepted(CallAccepted),
    /// It was refused, which is all there is of it.
    Denied(CallDenied),
}

/// A held effect, and what people said to it. What became of it is the effect of the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldStory {
    /// What is held.
    pub held: Told<EffectHeld>,
    /// The votes, in order. Their signatures are not checked here, as people's keys are not a call's.
    pub votes: Vec<Told<HoldVoted>>,
    /// What it was before people edited it, the first first.
    pub edits: Vec<EditStory>,
}

/// A hold that was edited: what it was, what was said to that, and the edit in whose place the next one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditStory {
    /// What was held.
    pub held: Told<EffectHeld>,
    /// The votes on that.
    pub votes: Vec<Told<HoldVoted>>,
    /// The edit.
    pub edit: Told<HoldEdited>,
}

impl HoldStory {
    /// How many votes were cast on the effect, however often it was edited: what the next one's reason is numbered by.
    #[must_use]
    pub fn votes_ever(&self) -> usize {
        let before: usize = self.edits.iter().map(|edit| edit.votes.len()).sum();
        before + self.votes.len()
    }

    /// The edit that made the effect what it is, if people edited it.
    #[must_use]
    pub fn last_edit(&self) -> Option<&HoldEdited> {
        self.edits.last().map(|edit| &edit.edit.what)
    }

    /// The votes that can count: nobody's own.
    fn votes_on(&self, hold: &Hold) -> Progress {
        self.votes_that(hold, |_, _| true)
    }

    fn votes_that(&self, hold: &Hold, count: impl Fn(&Vote, Stamp) -> bool) -> Progress {
        let votes = self.votes.iter().filter_map(|told| {
            let vote = Vote::claimed(&told.what.vote).ok()?;
            let own = hold.is_own(&vote.person) || hold.is_own(vote.seat());
            (!own && count(&vote, told.stamp)).then_some(vote)
        });
        Progress::of(votes.collect(), None)
    }

    /// The approvals that counted for the entry of this stamp, by all that people had said and lost until then.
    #[must_use]
    pub fn approvals_at(&self, principal: Principal, people: &Spoken, at: Stamp) -> Need {
        let hold = self.held.what.hold(principal);
        let time_ms = u64::try_from(at.time_ms()).unwrap_or_default();
        let counts = |vote: &Vote, cast: Stamp| people.counts(vote, cast.index(), at.index(), time_ms);
        self.votes_that(&hold, counts).approvals(&hold, time_ms)
    }

    /// When something was said last: of votes that expire, the last moment at which all that were cast counted.
    fn last_said_ms(&self) -> u64 {
        let last = self.votes.last().map_or(0, |vote| vote.stamp.time_ms());
        u64::try_from(last).unwrap_or_default()
    }
}

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EffectStory {
    /// Waits for approvals.
    Held(Told<EffectHeld>),
    /// Refused before anything left.
    Refused(Told<EffectRefused>),
    /// Permitted.
    Intended {
        /// What was to be sent.
        intent: Box<Told<EffectIntent>>,
        /// The sendings after the first.
        retries: Vec<Told<EffectRetried>>,
        /// What became of it. None while it is under way, and after the host died in it.
        outcome: Option<Told<EffectOutcome>>,
        /// What was seen when what it changed was read back.
        checked: Option<Told<EffectChecked>>,
        /// What an operator said of it later, where it was in doubt.
        resolved: Option<Told<EffectResolved>>,
    },
}

impl EffectStory {
    /// The intent and the outcome of an effect that is in doubt, and where to put what became of it.
    fn in_doubt(&mut self) -> Option<(&EffectIntent, &EffectOutcome, &mut Option<Told<EffectResolved>>)> {
        match self {
            Self::Intended {
                intent,
                outcome: Some(outcome),
                resolved: resolved @ None,
                ..
            } if outcome.what.is_in_doubt() && intent.what.changes() => Some((&intent.what, &outcome.what, resolved)),
            _ => None,
        }
    }
}

/// Puts a call's entries together, in the ledger's order.
///
/// # Errors
/// [`LedgerError::Story`] where they are none, of several calls, or contradict each other.
pub fn story<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> Result<CallStory, LedgerError> {
    let mut entries = entries.into_iter();
    let first = entries
        .next()
        .ok_or_else(|| LedgerError::Story("there are none".to_owned()))?;
    let mut story = CallStory::begin(first)?;
    for entry in entries {
        story.follow(entry)?;
    }
    Ok(story)
}

impl CallStory {
    /// The story of a call of which this is the first entry.
    pub(super) fn begin(entry: &Entry) -> Result<Self, LedgerError> {
        let (what, guests) = match entry.body() {
            Body::CallAccepted(accepted) => (Opening::Accepted(accepted.clone()), Guests::begin(accepted)),
            Body::CallDenied(denied) => (Opening::Denied(denied.clone()), Guests::default()),
            _ => return Err(contradiction(entry, "no call-accepted comes before it")),
        };
        Ok(Self {
            call: entry.call().unwrap_or_default().to_owned(),
            trace: entry.trace().unwrap_or_default().to_owned(),
            principal: entry.principal().cloned(),
            tool: entry.tool(),
            config: entry.config(),
            policy: entry.policy(),
            opening: told(entry, what),
            effects: BTreeMap::new(),
            holds: BTreeMap::new(),
            finished: None,
            looked_up: 0,
            pauses: Vec::new(),
            suspensions: Vec::new(),
            guests,
            paused: false,
            suspended: false,
            tally: Tally::default(),
            editing: None,
        })
    }

    /// Takes in the call's next entry.
    pub(super) fn follow(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        let require = |holds: bool, why: &str| if holds { Ok(()) } else { Err(contradiction(entry, why)) };
        require(
            guard!("ledger.story-same-call", self.is_of(entry)),
            "its call, trace, principal or tool is another one",
        )?;
        // What became of an effect in doubt may be found out long after the call.
        let later = matches!(entry.body(), Body::EffectResolved(_));
        require(
            guard!("ledger.story-finished-once", later || !self.is_over()),
            "the call is already over",
        )?;
        let editing = self.editing.take();
        // How a guest ended says nothing of what its call waits for.
        self.paused &= matches!(entry.body(), Body::GuestEnded(_));
        // An effect in doubt that somebody found out about leaves the call where it was.
        self.suspended &= matches!(entry.body(), Body::EffectResolved(_));
        require(
            guard!(
                "ledger.story-edited",
                is_in_place(entry, editing.as_ref().map(|edit| &edit.what))
            ),
            "an edit and what is held by it do not follow each other",
        )?;
        if is_the_hosts(entry.body()) && (self.waiting().is_some() || self.is_unseen()) {
            self.looked_up = self.looked_up.saturating_add(1);
        }
        match entry.body() {
            Body::EffectRefused(refused) => {
                require(
                    guard!("ledger.story-ordinal-once", self.is_new(refused.ordinal, refused.hold)),
                    "the call had an effect of that number",
                )?;
                require(
                    guard!("ledger.story-hold-end", self.ends_so(entry, refused)),
                    "its hold did not end as it says",
                )?;
                self.tally.refused();
                self.effects
                    .insert(refused.ordinal, EffectStory::Refused(told(entry, refused.clone())));
            }
            Body::EffectIntent(intent) => {
                require(
                    guard!("ledger.story-ordinal-once", self.is_new(intent.ordinal, intent.hold)),
                    "the call had an effect of that number",
                )?;
                self.check_approved(entry, intent)?;
                require(
                    guard!("ledger.story-letter", self.takes_its_letter(intent)),
                    "it takes a dead letter, and its call is no operator's retry of that; or its call is, and it takes none",
                )?;
                require(
                    guard!("ledger.story-undoes", self.may_undo(intent)),
                    "it takes back an effect that its call is not there to undo",
                )?;
                let ordinal = intent.ordinal;
                let intent = Box::new(told(entry, intent.clone()));
                let story = EffectStory::Intended {
                    intent,
                    retries: Vec::new(),
                    outcome: None,
                    checked: None,
                    resolved: None,
                };
                self.effects.insert(ordinal, story);
            }
            Body::EffectRetried(again) => {
                let follows = match self.effects.get_mut(&again.ordinal) {
                    Some(EffectStory::Intended {
                        intent,
                        retries,
                        outcome,
                        resolved: None,
                        ..
                    }) => {
                        let next = retries.len() + 2 == again.attempt as usize && repeats(&intent.what, again);
                        let under_way = match outcome.take() {
                            None => true,
                            // What nobody saw the end of is under way again.
                            Some(ended) => {
                                self.tally.again(&ended.what);
                                let once_more = intent.what.changes() && intent.what.undoes.is_none();
                                ended.what.is_unseen() && once_more && again.after == ended.what.outcome
                            }
                        };
                        retries.push(told(entry, again.clone()));
                        next && under_way
                    }
                    _ => false,
                };
                require(
                    guard!("ledger.story-retry", follows),
                    "it is not the next sending of an intent that is under way, or whose end nobody saw",
                )?;
            }
            Body::EffectHeld(held) if editing.is_some() => self.hold_edited(entry, held, editing)?,
            Body::HoldEdited(edited) => {
                require(
                    guard!("ledger.story-edit", self.may_be_edited(entry, edited)),
                    "no such hold waits for it, or its person may not edit that",
                )?;
                self.tally.edit(edited.ordinal);
                self.editing = Some(told(entry, edited.clone()));
            }
            Body::EffectHeld(held) => {
                require(
                    guard!("ledger.story-ordinal-once", self.is_new(held.ordinal, None)),
                    "the call had an effect of that number",
                )?;
                require(
                    guard!("ledger.story-one-hold", self.waiting().is_none()),
                    "another effect of the call is held",
                )?;
                let held = told(entry, held.clone());
                self.effects.insert(held.what.ordinal, EffectStory::Held(held.clone()));
                let (votes, edits) = (Vec::new(), Vec::new());
                self.holds.insert(held.what.ordinal, HoldStory { held, votes, edits });
            }
            Body::HoldVoted(vote) => {
                let waits = matches!(self.effects.get(&vote.ordinal), Some(EffectStory::Held(held)) if held.what.hold == vote.hold);
                require(guard!("ledger.story-vote-waits", waits), "no such hold waits for it")?;
                require(
                    guard!("ledger.story-glass", self.says_for_what(vote)),
                    "it does not say for which approvals the glass was broken, or says so without that",
                )?;
                if let Some(hold) = self.holds.get_mut(&vote.ordinal) {
                    hold.votes.push(told(entry, vote.clone()));
                }
            }
            Body::EffectOutcome(ended) => {
                let effect = self.effects.get_mut(&ended.ordinal);
                let Some(EffectStory::Intended {
                    intent,
                    retries,
                    outcome,
                    ..
                }) = effect
                else {
                    return require(
                        guard!("ledger.story-intent-first", false),
                        "no effect-intent of its number comes before it",
                    );
                };
                require(
                    guard!("ledger.story-outcome-once", outcome.is_none()),
                    "its intent has an outcome already",
                )?;
                require(
                    guard!("ledger.story-attempts", retries.len() + 1 == ended.attempts as usize),
                    "it says another number of sendings than there are entries of",
                )?;
                let within = spends_within(ended.spent.as_ref(), intent.what.spend.as_ref());
                require(
                    guard!("ledger.story-spend", within),
                    "it spent what its intent did not say",
                )?;
                let no_object = intent.what.cause == Cause::Host && says_there_is_none(&ended.outcome);
                require(
                    guard!("ledger.story-absent", !ended.absent || no_object),
                    "it says that there is no object, and is no reading of the host's that was told so",
                )?;
                self.tally.outcome(ended);
                *outcome = Some(told(entry, ended.clone()));
            }
            Body::EffectChecked(seen) => {
                let follows = match self.effects.get_mut(&seen.ordinal) {
                    Some(EffectStory::Intended {
                        intent,
                        outcome: Some(outcome),
                        checked: checked @ None,
                        ..
                    }) => {
                        *checked = Some(told(entry, seen.clone()));
                        intent.what.changes() && succeeded(&outcome.what.outcome)
                    }
                    _ => false,
                };
                require(
                    guard!("ledger.story-checked", follows),
                    "no effect of that number was answered with success, changes something and was not read back yet",
                )?;
                self.tally.checked(seen);
            }
            Body::EffectResolved(found) => {
                let effect = self.effects.get_mut(&found.ordinal);
                let doubt = effect.and_then(EffectStory::in_doubt);
                let Some((intent, outcome, resolved)) = doubt else {
                    return require(
                        guard!("ledger.story-doubt", false),
                        "no effect of that number is in doubt",
                    );
                };
                let spent = (found.found == Found::Done).then_some(outcome.spent).flatten();
                require(
                    guard!("ledger.story-found-spend", found.spent == spent),
                    "it spent what its outcome did not say",
                )?;
                let told_then = outcome.answer.is_some();
                require(
                    guard!("ledger.story-told-once", !(told_then && found.answer.is_some())),
                    "the guest was told something else of it before",
                )?;
                let dead = is_letter_again(intent, outcome, found.found);
                require(
                    guard!("ledger.story-letter-again", found.dead == dead),
                    "it says otherwise whether it is a dead letter again",
                )?;
                if found.found == Found::NotDone && self.finished.is_none() {
                    self.tally.not_done(outcome);
                }
                *resolved = Some(told(entry, found.clone()));
            }
            Body::CallPaused(paused) => {
                let nothing = self.open().next().is_none() && self.waiting().is_none();
                require(
                    guard!("ledger.story-pause", nothing && self.is_new(paused.ordinal, None)),
                    "something of the call is under way or waits, or the call had an effect of that number",
                )?;
                self.pauses.push(told(entry, paused.clone()));
                self.paused = true;
            }
            Body::CallSuspended(suspended) => {
                let nothing = self.open().next().is_none() && self.waiting().is_none();
                let new = suspended
                    .before
                    .as_ref()
                    .is_none_or(|before| self.is_new(before.ordinal, None));
                require(
                    guard!("ledger.story-suspended", nothing && new),
                    "an effect of the call is under way or waits, or the call had an effect of that number",
                )?;
                self.suspensions.push(told(entry, suspended.clone()));
                self.suspended = true;
            }
            Body::CallResumed(resumed) => {
                let nothing = self.open().next().is_none();
                require(
                    guard!("ledger.story-guest", self.guests.resume(resumed) && nothing),
                    "it is not the call's next guest, or an effect of the call is under way",
                )?;
            }
            Body::GuestEnded(ended) => require(
                guard!("ledger.story-guest", self.guests.end(ended)),
                "it is not the call's guest that runs",
            )?,
            Body::CallFinished(finished) => {
                require(
                    guard!("ledger.story-fuel", self.fuel_is_settled(finished)),
                    "it settles less fuel than the call's guests used",
                )?;
                require(
                    guard!("ledger.story-asked", self.was_asked(finished)),
                    "what was asked is not what was accepted",
                )?;
                require(
                    guard!("ledger.story-end-undoes", finished.undoes.as_ref() == self.undoes()),
                    "it says otherwise which call it undoes",
                )?;
                require(
                    guard!("ledger.story-complete", self.open().next().is_none()),
                    "an intent of the call has no outcome yet",
                )?;
                require(
                    guard!("ledger.story-held", self.waiting().is_none()),
                    "an effect of the call is held",
                )?;
                let adds_up = finished.effects == self.tally.counts() && finished.spent == self.tally.spent();
                let adds_up = adds_up && finished.edited == self.tally.edited();
                require(
                    guard!("ledger.story-checks", finished.checked == self.tally.checks()),
                    "what was read back of its effects is not what the call's entries say",
                )?;
                require(
                    guard!("ledger.story-tally", adds_up),
                    "its effects, edits or money are not what the call's entries add up to",
                )?;
                self.finished = Some(told(entry, finished.clone()));
            }
            _ => return Err(contradiction(entry, "it does not continue a call")),
        }
        Ok(())
    }

    /// Numbers of intents without an outcome: under way, or left by a host that died.
    pub fn open(&self) -> impl Iterator<Item = u32> {
        self.effects.iter().filter_map(|(ordinal, effect)| {
            matches!(effect, EffectStory::Intended { outcome: None, .. }).then_some(*ordinal)
        })
    }

    /// Numbers of effects that are in doubt, and of which nobody has said what became of them. A read that got no answer is none: nothing
    /// depends on it.
    pub fn doubts(&self) -> impl Iterator<Item = u32> {
        self.effects.iter().filter_map(|(ordinal, effect)| {
            let EffectStory::Intended {
                intent,
                outcome,
                resolved,
                ..
            } = effect
            else {
                return None;
            };
            let doubt = outcome.as_ref().is_some_and(|told| told.what.is_in_doubt());
            (doubt && resolved.is_none() && intent.what.changes()).then_some(*ordinal)
        })
    }

    /// Whether the host ended while an effect that changes something was under way, and nobody has said what became of it.
    fn is_unseen(&self) -> bool {
        self.effects.values().any(|effect| match effect {
            EffectStory::Intended {
                intent,
                outcome: Some(outcome),
                resolved: None,
                ..
            } => outcome.what.is_unseen() && intent.what.changes(),
            _ => false,
        })
    }

    /// How many of its effects the host looked up for itself while another was held or in doubt: they are apart from what its tool may ask
    /// for, as often as somebody has it go on.
    #[must_use]
    pub const fn looked_up(&self) -> u32 {
        self.looked_up
    }

    /// Whether an effect in doubt is in the list of those that failed for good again, if this is what was found out.
    #[must_use]
    pub fn is_letter_again(&self, ordinal: u32, found: Found) -> bool {
        match self.effects.get(&ordinal) {
            Some(EffectStory::Intended {
                intent,
                outcome: Some(outcome),
                ..
            }) => is_letter_again(&intent.what, &outcome.what, found),
            _ => false,
        }
    }

    /// The name of the value that has what an effect changes, as it was read before.
    #[must_use]
    pub fn before_name(&self, ordinal: u32) -> String {
        match self.holds.get(&ordinal) {
            Some(hold) => hold.held.what.before_name(),
            None => before_name(ordinal, None),
        }
    }

    fn fuel_is_settled(&self, finished: &CallFinished) -> bool {
        match &self.opening.what {
            Opening::Accepted(accepted) => self.guests.settled_by(accepted, finished),
            Opening::Denied(_) => true,
        }
    }

    /// The effect that the call waits with, if it does.
    #[must_use]
    pub fn waiting(&self) -> Option<&HoldStory> {
        let held = |effect: &EffectStory| matches!(effect, EffectStory::Held(_));
        let (ordinal, _) = self.effects.iter().find(|(_, effect)| held(effect))?;
        self.holds.get(ordinal)
    }

    /// The stop that the call is paused by, where it has not gone on since.
    #[must_use]
    pub fn paused(&self) -> Option<&Told<CallPaused>> {
        self.pauses.last().filter(|_| self.paused)
    }

    /// Its suspension, where its host ended while it ran and it has not gone on since.
    #[must_use]
    pub fn suspended(&self) -> Option<&Told<CallSuspended>> {
        self.suspensions.last().filter(|_| self.suspended)
    }

    /// The run that the call is part of, or, where it was refused, named.
    #[must_use]
    pub fn run(&self) -> Option<&str> {
        match &self.opening.what {
            Opening::Accepted(accepted) => accepted.run.as_deref(),
            Opening::Denied(denied) => denied.run.as_deref(),
        }
    }

    /// How it came, where an agent asked for it over a protocol.
    #[must_use]
    pub const fn arrival(&self) -> Option<Arrival> {
        match &self.opening.what {
            Opening::Accepted(accepted) => accepted.arrival,
            Opening::Denied(denied) => denied.arrival,
        }
    }

    /// What its effects came to so far.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether nothing more can follow.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.finished.is_some() || matches!(self.opening.what, Opening::Denied(_))
    }

    /// The values that the call's entries commit to, by name: each that is stored, and nothing else.
    #[must_use]
    pub fn commitments(&self) -> Vec<(String, Digest)> {
        let mut values = Vec::new();
        let mut add = |name: &str, commitment: Option<Digest>| {
            values.extend(commitment.map(|commitment| (name.to_owned(), commitment)));
        };
        match &self.opening.what {
            Opening::Accepted(accepted) => {
                add("args", Some(accepted.asked.args));
                add("start", Some(accepted.seed));
            }
            Opening::Denied(denied) => {
                add("args", denied.args);
                add("denied", denied.refused.detail);
            }
        }
        for (ordinal, effect) in &self.effects {
            let name = |what: &str| format!("effect/{ordinal}/{what}");
            // What was held has its commitments in the entry that held it; what it ended with may say the same of what was asked.
            let held_before = self.holds.get(ordinal).and_then(|hold| hold.held.what.before);
            if let Some(hold) = self.holds.get(ordinal) {
                for EditStory { held, edit, .. } in &hold.edits {
                    add(&held.what.request_name(), Some(held.what.request));
                    add(&held.what.before_name(), held.what.before);
                    add(&edit.what.changes_name(), Some(edit.what.changes));
                    add(&edit.what.reason_name(), edit.what.reason);
                }
                add(&hold.held.what.request_name(), Some(hold.held.what.request));
                add(&hold.held.what.before_name(), hold.held.what.before);
                let before = hold.edits.iter().flat_map(|edit| &edit.votes);
                for (nth, vote) in (1..).zip(before.chain(&hold.votes)) {
                    add(&name(&format!("reason/{nth}")), vote.what.reason);
                }
            }
            match effect {
                EffectStory::Held(held) => add(&name("asked"), held.what.asked),
                EffectStory::Refused(refused) => {
                    add(&name("asked"), refused.what.asked);
                    add(&name("refused"), refused.what.refused.detail);
                }
                EffectStory::Intended {
                    intent,
                    outcome,
                    checked,
                    resolved,
                    ..
                } => {
                    if held_before.is_none() {
                        add(&name("before"), intent.what.before);
                    }
                    add(&name("diff"), checked.as_ref().map(|checked| checked.what.diff));
                    add(&name("asked"), intent.what.asked);
                    add(&name("request"), Some(intent.what.request));
                    let outcome = outcome.as_ref().map(|outcome| &outcome.what);
                    let resolved = resolved.as_ref().map(|resolved| &resolved.what);
                    let found = resolved.and_then(|resolved| resolved.answer);
                    add(&name("answer"), outcome.and_then(|outcome| outcome.answer).or(found));
                    add(&name("found"), resolved.and_then(|resolved| resolved.reason));
                    if let Some(Outcome::NotSent(refused)) = outcome.map(|outcome| &outcome.outcome) {
                        add(&name("refused"), refused.detail);
                    }
                }
            }
        }
        for before in self.suspensions.iter().filter_map(|told| told.what.before.as_ref()) {
            add(&format!("effect/{}/asked", before.ordinal), Some(before.asked));
        }
        for pause in &self.pauses {
            add(&format!("effect/{}/asked", pause.what.ordinal), pause.what.asked);
        }
        add("log", self.finished.as_ref().and_then(|finished| finished.what.log));
        match self.finished.as_ref().map(|finished| &finished.what.outcome) {
            Some(End::Ok(returned) | End::ToolError(returned)) => add("result", Some(returned.result)),
            Some(End::Refused(refused) | End::Trapped(refused)) => add("refused", refused.detail),
            Some(End::Interrupted) | None => {}
        }
        values
    }

    /// The dead letter that the operator tries again by this call, if that is what it is: no guest ran then.
    #[must_use]
    pub const fn letter(&self) -> Option<&Letter> {
        match &self.opening.what {
            Opening::Accepted(accepted) => accepted.letter.as_ref(),
            Opening::Denied(_) => None,
        }
    }

    /// Whether an intent takes the dead letter that its call is a retry of, or none where it is no retry. What the host asks for itself
    /// takes none.
    fn takes_its_letter(&self, intent: &EffectIntent) -> bool {
        let due = self.letter().filter(|_| intent.cause != Cause::Host);
        let by_operator = due.is_none() || intent.cause == Cause::Operator;
        intent.letter.as_ref() == due && by_operator
    }

    /// What the call is there to undo, or was when it was refused, where it is an operator's rollback.
    #[must_use]
    pub const fn undoes(&self) -> Option<&Rollback> {
        match &self.opening.what {
            Opening::Accepted(accepted) => accepted.undoes.as_ref(),
            Opening::Denied(denied) => denied.undoes.as_ref(),
        }
    }

    /// Whether a guest ran in the call: none did where it was denied, in an operator's retry of a dead letter and in a rollback by routes.
    #[must_use]
    pub fn ran_a_guest(&self) -> bool {
        matches!(&self.opening.what, Opening::Accepted(accepted) if accepted.runs_a_guest())
    }

    /// Whether an intent takes back what its call is there to undo. In a rollback by routes, every effect that changes something does.
    fn may_undo(&self, intent: &EffectIntent) -> bool {
        let by_routes = self.undoes().filter(|undoes| undoes.by == By::Routes);
        match (by_routes, &intent.undoes) {
            (Some(rollback), Some(undoes)) => intent.cause == Cause::Operator && rollback.call == undoes.call,
            (Some(_), None) => !intent.changes(),
            (None, undoes) => undoes.is_none(),
        }
    }

    fn is_of(&self, entry: &Entry) -> bool {
        entry.call() == Some(&self.call)
            && entry.trace() == Some(&self.trace)
            && entry.principal() == self.principal.as_ref()
            && entry.tool() == self.tool
    }

    /// Whether a vote that breaks the glass says what it stands for, and no other does.
    fn says_for_what(&self, voted: &HoldVoted) -> bool {
        let breaks = Vote::claimed(&voted.vote).is_ok_and(|vote| vote.verdict == Verdict::BreakGlass);
        let needs = self.holds.get(&voted.ordinal).map(|hold| &hold.held.what.needs);
        let first = needs.and_then(|needs| needs.first()).filter(|_| breaks);
        voted.instead.as_ref() == first
    }

    /// Whether an effect of that number can begin: it is the first, or ends the hold that it names.
    fn is_new(&self, ordinal: u32, hold: Option<Digest>) -> bool {
        match self.effects.get(&ordinal) {
            None => hold.is_none(),
            Some(EffectStory::Held(held)) => hold == Some(held.what.hold),
            Some(_) => false,
        }
    }

    /// An intent that ends a hold has the approvals that the hold waited for, and passes no cap but those that it named.
    ///
    /// Whether a vote still counted at that moment, by people and groups, the ledger does not say; that enough stood when the last of them
    /// was cast, it does. Votes are taken by then, as they expire.
    fn check_approved(&self, entry: &Entry, intent: &EffectIntent) -> Result<(), LedgerError> {
        let over = || intent.reserved.iter().filter(|reservation| reservation.over.is_some());
        let Some((story, principal)) = self.holds.get(&intent.ordinal).zip(self.principal.clone()) else {
            return match over().next() {
                Some(_) if !guard!("ledger.story-over", false) => {
                    Err(contradiction(entry, "it passes a cap, and was not held"))
                }
                _ => Ok(()),
            };
        };
        let held = &story.held.what;
        if !guard!("ledger.story-before", held.before == intent.before) {
            return Err(contradiction(
                entry,
                "what it changes was another thing when it was held",
            ));
        }
        let hold = held.hold(principal);
        let ended = story
            .votes_on(&hold)
            .end(&hold, story.last_said_ms(), FoundThen::Permitted);
        let passed = ended.is_ok_and(|(_, end)| end == hold::End::Passed);
        if !guard!("ledger.story-approved", passed) {
            return Err(contradiction(
                entry,
                "its hold was not approved by as many as it waited for",
            ));
        }
        let named = over().all(|reservation| held.over.contains(&reservation.budget));
        if !guard!("ledger.story-over", named) {
            return Err(contradiction(entry, "it passes a cap that its hold did not name"));
        }
        Ok(())
    }

    /// Whether the refusal that ends a hold says how it ended, and it is how the hold ends by what was said, at the last vote or at the
    /// entry. Who was in which group then the ledger does not say.
    fn ends_so(&self, entry: &Entry, refused: &EffectRefused) -> bool {
        let (Some(_), Some(end)) = (refused.hold, refused.end) else {
            return refused.end.is_none();
        };
        let Some((story, principal)) = self.holds.get(&refused.ordinal).zip(self.principal.clone()) else {
            return false;
        };
        let hold = story.held.what.hold(principal);
        let votes = story.votes_on(&hold);
        let now_ms = u64::try_from(entry.time_ms()).unwrap_or_default();
        [story.last_said_ms(), now_ms].into_iter().any(|at_ms| {
            [FoundThen::Denied, FoundThen::Changed]
                .into_iter()
                .any(|found| votes.end(&hold, at_ms, found).is_ok_and(|(_, then)| then == end))
        })
    }

    /// Whether a hold waits that an edit is of, and its person is one who could.
    fn may_be_edited(&self, entry: &Entry, edited: &HoldEdited) -> bool {
        let Some(EffectStory::Held(held)) = self.effects.get(&edited.ordinal) else {
            return false;
        };
        let (Some(story), Some(principal)) = (self.holds.get(&edited.ordinal), self.principal.clone()) else {
            return false;
        };
        let Ok(edit) = Edit::claimed(&edited.edit) else {
            return false;
        };
        let hold = held.what.hold(principal);
        let now_ms = u64::try_from(entry.time_ms()).unwrap_or_default();
        // An edit that was in time can stand a moment after its hold's expiry.
        let ended = [story.last_said_ms(), now_ms]
            .into_iter()
            .any(|at_ms| story.votes_on(&hold).end(&hold, at_ms, FoundThen::Edited).is_ok());
        let own = hold.asked_by(&edit.person);
        ended && !own && held.what.hold == edited.hold && edit.hold == edited.hold && hold.asks_for(&edit.group)
    }

    /// What an edit put in the place of what was held: its people are its authors, it asks for no less, and gets no more time.
    fn hold_edited(
        &mut self,
        entry: &Entry,
        held: &EffectHeld,
        by: Option<Told<HoldEdited>>,
    ) -> Result<(), LedgerError> {
        let (Some(story), Some(by)) = (self.holds.get_mut(&held.ordinal), by) else {
            return Err(contradiction(entry, "nothing was held that was edited"));
        };
        let before = &story.held.what;
        let person = Edit::claimed(&by.what.edit).map(|edit| edit.person).unwrap_or_default();
        let mut authors = before.authors.clone();
        authors.push(person);
        authors.sort();
        authors.dedup();
        if !guard!("ledger.story-authors", held.authors == authors) {
            return Err(contradiction(entry, "it does not name all who edited it"));
        }
        let no_less = hold::asks_no_less(&held.needs, &before.needs);
        if !guard!("ledger.story-edit-asks", no_less && held.expires <= before.expires) {
            return Err(contradiction(
                entry,
                "it asks for less than before it was edited, or for longer",
            ));
        }
        let same_asker = held.asked == before.asked && held.import == before.import;
        if !guard!("ledger.story-edit-asked", same_asker) {
            return Err(contradiction(entry, "the guest asked for something else"));
        }
        let edit = EditStory {
            held: std::mem::replace(&mut story.held, told(entry, held.clone())),
            votes: std::mem::take(&mut story.votes),
            edit: by,
        };
        story.edits.push(edit);
        self.effects
            .insert(held.ordinal, EffectStory::Held(told(entry, held.clone())));
        Ok(())
    }

    fn was_asked(&self, finished: &CallFinished) -> bool {
        matches!(&self.opening.what, Opening::Accepted(accepted) if accepted.asked == finished.asked)
    }
}

/// Whether it is an effect of the host's own, sent or refused.
const fn is_the_hosts(body: &Body) -> bool {
    match body {
        Body::EffectIntent(intent) => matches!(intent.cause, Cause::Host),
        Body::EffectRefused(refused) => matches!(refused.cause, Cause::Host),
        _ => false,
    }
}

/// Whether an effect that was in doubt is in the list of those that failed for good again, by what was found out: it was an operator's
/// retry of one, did not happen, and is not in the list by its outcome.
fn is_letter_again(intent: &EffectIntent, outcome: &EffectOutcome, found: Found) -> bool {
    intent.letter.is_some() && !outcome.dead && found == Found::NotDone
}

/// Whether what is held by an edit follows that edit, and nothing else does.
fn is_in_place(entry: &Entry, editing: Option<&HoldEdited>) -> bool {
    let held = match entry.body() {
        Body::EffectHeld(held) => held.edited_from.map(|from| (held.ordinal, from, held.hold)),
        _ => None,
    };
    held == editing.map(|edit| (edit.ordinal, edit.hold, edit.to))
}

/// Whether an outcome spent at most what its intent said, in the same currency.
fn spends_within(spent: Option<&Amount>, intended: Option<&Amount>) -> bool {
    match (spent, intended) {
        (None, _) => true,
        (Some(spent), Some(intended)) => spent.currency == intended.currency && spent.minor <= intended.minor,
        (Some(_), None) => false,
    }
}

/// Whether the service said that it did it.
const fn succeeded(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Answered(answered) if answered.status >= 200 && answered.status < 300)
}

/// Whether the service said that there is no such thing, or no more.
const fn says_there_is_none(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Answered(answered) if matches!(answered.status, 404 | 410))
}

/// Whether a sending is of the intent's own request.
fn repeats(intent: &EffectIntent, again: &EffectRetried) -> bool {
    intent.request == again.request && intent.connection == again.connection && intent.route == again.route
}

fn told<T>(entry: &Entry, what: T) -> Told<T> {
    Told {
        stamp: entry.stamp(),
        what,
    }
}

fn contradiction(entry: &Entry, why: &str) -> LedgerError {
    let kind: Kind = entry.kind();
    let ordinal = entry
        .body()
        .ordinal()
        .map(|ordinal| format!(" (effect {ordinal})"))
        .unwrap_or_default();
    let call = entry.call().unwrap_or("none");
    LedgerError::Story(format!(
        "{kind}{ordinal} of call {call} at index {}: {why}",
        entry.index()
    ))
}
