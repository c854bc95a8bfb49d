//! Effects that wait for people: who may say what, and how their call goes on.
//!
//! A held effect is rows and nothing else. A vote is an entry; what votes come to is decided by [`ambit_core::hold`], from
//! what the ledger says. On the last one needed the call is run again from its beginning: its guest is given what it was given
//! before, asks for the held effect once more, and everything about that is decided anew.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ambit_core::digest::Digest;
use ambit_core::error::{Code, Refusal};
use ambit_core::hold::{
    self, Changes, Delegation, Edit, Electorate, Hold, HoldError, Progress, Standing, Verdict, Vote,
};
use ambit_core::ledger::body::{
    Asked, By, CallAccepted, Cause, EffectHeld, EffectRefused, End, HoldVoted, OperatorShown, Refused, Stage,
    VoteRefused,
};
use ambit_core::ledger::story::{HoldStory, Opening};
use ambit_core::ledger::{Body, CallStory, EntryDraft, Principal, SignerKey, VerifierKey};
use ambit_core::object::Image;
use ambit_core::scope::Tier;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use zeroize::Zeroizing;

use crate::call::{Accepted, Answer, Asking, CallRequest, Cost, Decided, Fault, Listener, Outcome, own_budgets};
use crate::cancel::Cancel;
use crate::clock::{at_least, clock};
use crate::config::Config;
use crate::doubts::{LetterAgain, Unseen};
use crate::edits::changes;
use crate::effects::{
    Beginning, Edited, Editing, Heading, Held, Resumption, WaitingEffect, ended, is_a_stop, not_approved, refusal_json,
    refused,
};
use crate::host::{Host, ended_without_its_guest};
use crate::ids::{CallId, TraceId};
use crate::objects::{self, Seen};
use crate::offers::EndEntry;
use crate::random;
use crate::running::Alone;
use crate::store::{Batch, Delegated, Held as HeldRow, Payload, Reader, StoreError, Work};
use crate::transcript::{self, AskedFor, Record, Transcript, Unreadable, tampered};

/// How long whoever says something of a hold waits for its call, where that goes on just then.
const SAYING_WAITS: Duration = Duration::from_secs(30);
/// How often they look whether the hold is over.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

/// A held effect with what people decide on, and without the story of its call: what a list needs.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Its call.
    pub call: String,
    /// The ledger index of the entry that holds it.
    pub index: u64,
    /// What the call was asked to do, and under which policies it was permitted.
    pub accepted: CallAccepted,
    /// What is held.
    pub held: EffectHeld,
    /// The hold, as votes are about it.
    pub hold: Hold,
    /// The votes that count, by the people and groups of today.
    pub votes: Progress,
    /// The ledger's time when it was read, in milliseconds since 1970.
    ledger_ms: u64,
}

impl Pending {
    /// The effect of a row of [`Reader::holds`]; none where it was decided meanwhile.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub fn of(reader: &Reader, people: &People<'_>, work: &Work, row: &HeldRow) -> Result<Option<Pending>, StoreError> {
        let entries = reader.entries_of_hold(&work.call, row.index)?;
        let mut entries = entries.iter();
        let (Some(first), Some(held)) = (entries.next(), entries.next()) else {
            return Ok(None);
        };
        let (Body::CallAccepted(accepted), Body::EffectHeld(held), Some(principal)) =
            (first.body(), held.body(), held.principal())
        else {
            return Ok(None);
        };
        let mut voted = Vec::new();
        for entry in entries {
            let ends = match entry.body() {
                Body::HoldVoted(vote) => {
                    voted.push(vote);
                    None
                }
                Body::EffectIntent(intent) => intent.hold,
                Body::EffectRefused(refused) => refused.hold,
                Body::HoldEdited(edited) => Some(edited.hold),
                // What the host looked up when the call went on, and it waits still.
                _ => None,
            };
            if ends == Some(held.hold) {
                return Ok(None);
            }
        }
        let of_call = (work.call.clone(), row.index, accepted.clone());
        Ok(Some(Pending::new(
            of_call,
            held.clone(),
            principal.clone(),
            voted,
            people,
        )))
    }

    fn new<'v>(
        (call, index, accepted): (String, u64, CallAccepted),
        held: EffectHeld,
        principal: Principal,
        voted: impl IntoIterator<Item = &'v HoldVoted>,
        people: &People<'_>,
    ) -> Pending {
        let votes = voted.into_iter().filter_map(|vote| people.signed(&vote.vote)).collect();
        let hold = held.hold(principal);
        Pending {
            votes: Progress::of(votes, None).among(&people.electorate, at_least(people.ledger_ms)),
            ledger_ms: people.ledger_ms,
            call,
            index,
            accepted,
            held,
            hold,
        }
    }

    /// Where it stands now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.votes.standing(&self.hold, self.now_ms())
    }

    /// Now, in milliseconds since 1970, and no earlier than the ledger was when it was read: what had expired by its time counts for no clock
    /// that is behind it.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        at_least(self.ledger_ms)
    }

    /// Who broke the glass for it, if somebody did.
    #[must_use]
    pub fn broken_by(&self) -> Option<&Vote> {
        self.votes.broken_by(self.now_ms())
    }
}

/// A held effect with all that people and the host decide on.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Its call.
    pub story: CallStory,
    /// The effect.
    pub pending: Pending,
}

impl Waiting {
    /// The effect that a call waits with; none where it does not wait.
    ///
    /// # Errors
    /// Where the ledger cannot be read, or has no such call.
    pub fn of(reader: &Reader, config: &Config, call: &str) -> Result<Option<Waiting>, StoreError> {
        let story = reader.story(call)?;
        let (Some(HoldStory { held, votes, .. }), Some(principal), Opening::Accepted(accepted)) =
            (story.waiting().cloned(), story.principal.clone(), &story.opening.what)
        else {
            return Ok(None);
        };
        let people = People::of(reader, config)?;
        let of_call = (story.call.clone(), held.stamp.index(), accepted.clone());
        let voted = votes.iter().map(|vote| &vote.what);
        let pending = Pending::new(of_call, held.what, principal, voted, &people);
        Ok(Some(Waiting { story, pending }))
    }

    /// Where it stands now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.pending.standing()
    }
}

/// The approvals that an intent used up, by the people of today: as they stood when it was written. They are for that effect, and serve
/// it once more where it is sent again.
pub(crate) fn approvals_of_intent(
    reader: &Reader,
    config: &Config,
    story: &CallStory,
    ordinal: u32,
    began_ms: u64,
) -> Result<hold::Need, ApprovalError> {
    let (Some(HoldStory { held, votes, .. }), Some(principal), Some(accepted)) =
        (story.holds.get(&ordinal), story.principal.clone(), accepted(story))
    else {
        return Err(not_waiting(&story.call).into());
    };
    let people = People::of(reader, config)?;
    let of_call = (story.call.clone(), held.stamp.index(), accepted.clone());
    let voted = votes.iter().map(|vote| &vote.what);
    let Pending { hold, votes, .. } = Pending::new(of_call, held.what.clone(), principal, voted, &people);
    match votes.standing(&hold, began_ms) {
        Standing::Approved => Ok(votes.approvals(&hold, began_ms)),
        standing if !ambit_core::guard!("hold.doubt-approved", false) => Err(not_approved(&standing).into()),
        _ => Ok(hold::Need::new()),
    }
}

/// The people who may say something, with their keys, and what each of them may say.
#[derive(Debug)]
pub struct People<'c> {
    keys: BTreeMap<String, VerifierKey>,
    electorate: Electorate<'c>,
    /// The time of the ledger's last entry, in milliseconds since 1970.
    ledger_ms: u64,
}

impl<'c> People<'c> {
    /// Those of today, by the ledger and the configuration.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub fn of(reader: &Reader, config: &'c Config) -> Result<People<'c>, StoreError> {
        let keys: BTreeMap<String, VerifierKey> = reader
            .persons()?
            .into_iter()
            .filter_map(|person| Some((person.name, VerifierKey::parse(&person.key).ok()?)))
            .collect();
        let said = reader.delegations()?;
        let ledger = if said.is_empty() {
            String::new()
        } else {
            reader.origin()?
        };
        let delegations = said.iter().filter_map(|said| given(said, &keys, &ledger)).collect();
        Ok(People {
            ledger_ms: reader.time_ms()?,
            keys,
            electorate: Electorate {
                groups: Some(config.groups()),
                delegations,
                break_glass: config.break_glass(),
            },
        })
    }

    /// Who may say something.
    #[must_use]
    pub fn electorate(&self) -> &Electorate<'c> {
        &self.electorate
    }

    /// A vote that its person's key signed; a no whoever signed it, as it stands whatever became of its person.
    fn signed(&self, note: &str) -> Option<Vote> {
        let claimed = Vote::claimed(note).ok()?;
        if claimed.verdict == Verdict::Reject {
            return Some(claimed);
        }
        self.opened(note, &claimed)
    }

    /// An edit that its person's key signed.
    pub(crate) fn edited(&self, note: &str, claimed: &Edit) -> Option<Edit> {
        Edit::open(note, self.keys.get(&claimed.person)?).ok()
    }

    fn opened(&self, note: &str, claimed: &Vote) -> Option<Vote> {
        Vote::open(note, self.keys.get(&claimed.person)?).ok()
    }
}

/// A delegation as it counts: for this ledger, of people who are enrolled, and not ended by a revocation since.
fn given(said: &Delegated, keys: &BTreeMap<String, VerifierKey>, ledger: &str) -> Option<Delegation> {
    let [person, delegate, _] = &said.about;
    let given = Delegation::open(&said.note, keys.get(person)?).ok()?;
    let here = ambit_core::guard!("hold.delegation-ledger", given.ledger == ledger);
    let there = keys.contains_key(delegate);
    (here && there).then_some(Delegation {
        until_ms: given.until_ms.min(said.until_ms),
        ..given
    })
}

/// Why a vote or a resumption does not happen.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    /// It does not count, or the call does not go on. A vote that does not count is on the ledger.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The host cannot do its work.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<StoreError> for ApprovalError {
    fn from(error: StoreError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<Unreadable> for ApprovalError {
    fn from(error: Unreadable) -> Self {
        match error {
            Unreadable::Store(error) => error.into(),
            Unreadable::Value(_) => Self::Refused(Refusal::new(Code::Stale, error.to_string())),
            Unreadable::Tampered(_) => Self::Refused(tampered(&error)),
        }
    }
}

impl Host {
    /// Counts a vote that a person signed, and says where its hold stands with it. The call does not go on by that:
    /// [`Host::resume`].
    ///
    /// # Errors
    /// [`Code::Approval`] where it does not count; nothing has changed then but that the ledger says so.
    pub fn vote(&self, note: &str, reason: Option<&str>) -> Result<(Waiting, Standing), ApprovalError> {
        self.vote_by(note, reason, None)
    }

    /// The same, for one that an operator hands in over HTTP, who stands on the ledger with it. What is about no hold that waits leaves
    /// nothing there then: such notes are made up as fast as they are sent.
    ///
    /// # Errors
    /// As [`Host::vote`].
    pub fn vote_by(
        &self,
        note: &str,
        reason: Option<&str>,
        by: Option<&OperatorShown>,
    ) -> Result<(Waiting, Standing), ApprovalError> {
        let claimed = Vote::claimed(note).map_err(|error| Refusal::new(Code::Approval, error.to_string()))?;
        let reader = self.reader()?;
        let Some((work, _)) = reader.hold(&claimed.hold)? else {
            if by.is_some() && !ambit_core::guard!("operator.vote-about-nothing", false) {
                return Err(Refusal::from(HoldError::NoSuchHold).into());
            }
            return Err(self.uncounted(claimed.hold, None, HoldError::NoSuchHold)?);
        };
        let Some(vote) = People::of(&reader, &self.shared.config)?.opened(note, &claimed) else {
            return Err(self.uncounted(claimed.hold, None, HoldError::Unsigned)?);
        };
        // A no stops what goes on by approvals that it had, up to its intent, and is counted once it has stopped.
        let objects = self.is_a_no(&reader, &work.call, vote)?;
        let _objection = objects.then(|| self.shared.running.object(claimed.hold));
        // One thing at a time about a call: what is read from here on still holds when it is written.
        let _alone = match self.alone_to_say(&work.call, &claimed.hold)? {
            Ok(alone) => alone,
            Err(why) => return Err(self.uncounted(claimed.hold, None, why)?),
        };
        let reader = self.reader()?;
        let Some(waiting) = Waiting::of(&reader, &self.shared.config, &work.call)? else {
            return Err(self.uncounted(claimed.hold, None, HoldError::Ended)?);
        };
        let people = People::of(&reader, &self.shared.config)?;
        let Some(vote) = people.opened(note, &claimed) else {
            return Err(self.uncounted(claimed.hold, None, HoldError::Unsigned)?);
        };
        let person = Some(vote.person.clone());
        let pending = &waiting.pending;
        let breaks = vote.verdict == Verdict::BreakGlass;
        let said = reason.is_some_and(|reason| !reason.trim().is_empty());
        if !ambit_core::guard!("hold.glass-reason", said || !breaks) {
            return Err(self.uncounted(claimed.hold, person, HoldError::NoReason)?);
        }
        let votes = match pending
            .votes
            .cast(&pending.hold, vote, pending.now_ms(), people.electorate())
        {
            Ok(votes) => votes,
            Err(error) => return Err(self.uncounted(claimed.hold, person, error)?),
        };
        self.write_vote(&waiting, note, breaks, (reason, by))?;
        if breaks {
            tracing::warn!(
                call = %pending.call,
                hold = %pending.hold.id,
                person = %claimed.person,
                group = %claimed.group,
                "BREAK-GLASS: one person stands for all approvals that are missing"
            );
        }
        let pending = Pending {
            votes,
            ..waiting.pending
        };
        let waiting = Waiting { pending, ..waiting };
        let standing = waiting.standing();
        Ok((waiting, standing))
    }

    /// Whether it is a no that counts, as far as can be said while its call runs.
    fn is_a_no(&self, reader: &Reader, call: &str, vote: Vote) -> Result<bool, ApprovalError> {
        if vote.verdict != Verdict::Reject {
            return Ok(false);
        }
        let Some(Waiting { pending, .. }) = Waiting::of(reader, &self.shared.config, call)? else {
            return Ok(false);
        };
        let people = People::of(reader, &self.shared.config)?;
        let cast = pending
            .votes
            .cast(&pending.hold, vote, pending.now_ms(), people.electorate());
        Ok(cast.is_ok())
    }

    /// The right to write about a call that waits for people, once it does not run: until then it may go on by what was said before, and
    /// end the hold.
    pub(crate) fn alone_to_say(
        &self,
        call: &str,
        hold: &Digest,
    ) -> Result<Result<Alone<'_>, HoldError>, ApprovalError> {
        let until = Instant::now() + SAYING_WAITS;
        loop {
            if let Some(alone) = self.shared.running.alone_within(call, LOOKS_EVERY) {
                return Ok(Ok(alone));
            }
            if self.reader()?.hold(hold)?.is_none() {
                return Ok(Err(HoldError::Ended));
            }
            if Instant::now() >= until {
                return Ok(Err(HoldError::GoesOn));
            }
        }
    }

    fn write_vote(
        &self,
        waiting: &Waiting,
        note: &str,
        breaks: bool,
        (reason, by): (Option<&str>, Option<&OperatorShown>),
    ) -> Result<(), ApprovalError> {
        let heading = self.heading_of(&waiting.story)?;
        let hold = &waiting.pending.hold;
        let ordinal = waiting.pending.held.ordinal;
        let nth = waiting.story.waiting().map_or(0, HoldStory::votes_ever) + 1;
        let reason = reason
            .map(|reason| {
                let name = format!("effect/{ordinal}/reason/{nth}");
                Payload::new(heading.call.as_str(), name, reason.as_bytes().to_vec())
            })
            .transpose()?;
        let entry = heading.entry(HoldVoted {
            by: by.cloned(),
            hold: hold.id,
            instead: hold.instead().filter(|_| breaks).cloned(),
            ordinal,
            reason: reason.as_ref().map(Payload::commitment),
            vote: note.to_owned(),
        });
        self.shared.store.commit(Batch {
            entries: vec![entry],
            payloads: reason.into_iter().collect(),
            ..Batch::default()
        })?;
        Ok(())
    }

    /// Writes down that a call which waits for people cannot go on without its component: once for each hold, as a timer may try it again and
    /// again.
    fn tool_removed(&self, stopped: &Stopped, refusal: Refusal) -> Result<ApprovalError, ApprovalError> {
        let hold = stopped.waiting().map(|waiting| waiting.pending.hold.id);
        match hold.filter(|hold| self.shared.running.is_news(*hold)) {
            Some(hold) => self.uncounted(hold, None, HoldError::ToolRemoved(Box::new(refusal))),
            None => Ok(refusal.into()),
        }
    }

    /// Writes down that a vote or an edit does not count, or nobody goes on by them, and says why. `person` is whose signature it has.
    pub(crate) fn uncounted(
        &self,
        hold: Digest,
        person: Option<String>,
        why: HoldError,
    ) -> Result<ApprovalError, ApprovalError> {
        self.shared.store.commit(Batch {
            entries: vec![EntryDraft::of_ledger(VoteRefused {
                hold,
                person,
                why: why.word().to_owned(),
            })],
            ..Batch::default()
        })?;
        Ok(Refusal::from(why).into())
    }

    /// Goes on with a call that people have decided about, or in which the host ended: from its beginning, with what its guest was
    /// given before, to where it was and on from there. Blocks as [`Host::call`] does.
    ///
    /// # Errors
    /// [`Code::Approval`] where the call is over or runs, or nothing is decided yet; [`Code::Doubt`] where an effect of it is in doubt;
    /// [`Code::Killed`] or [`Code::SafeMode`] where an operator's stop forbids it: it stays as it is, and no approvals are used up. A
    /// call that must not go on after all is an [`Answer`].
    pub fn resume(&self, call: &str, listener: Option<Listener>) -> Result<Answer, ApprovalError> {
        self.resume_for(call, listener.into())
    }

    /// The same for whoever may take it back meanwhile.
    ///
    /// # Errors
    /// Also [`Code::Cancelled`] where that came before its turn: it stays as it is.
    pub(crate) fn resume_for(&self, call: &str, asker: Asker) -> Result<Answer, ApprovalError> {
        let _alone = self.shared.alone(call).ok_or_else(|| not_waiting(call))?;
        let reader = self.reader()?;
        let stopped = match Waiting::of(&reader, &self.shared.config, call)? {
            Some(waiting) => Stopped::Held(Box::new(waiting)),
            None => Stopped::interrupted(reader.story(call)?)?,
        };
        if let Stopped::Interrupted(story) = &stopped {
            not_paused(&reader, story)?;
        }
        self.go_on(&reader, stopped, asker)
    }

    pub(crate) fn go_on(&self, reader: &Reader, stopped: Stopped, asker: Asker) -> Result<Answer, ApprovalError> {
        let started = Instant::now();
        let story = stopped.story();
        let call = &story.call;
        if let Some(Standing::Waiting(missing)) = stopped.waiting().map(Waiting::standing) {
            return Err(still_waiting(&missing).into());
        }
        if accepted(story).is_none() {
            return Err(not_waiting(call).into());
        }
        let _place = self.shared.places().take(None, asker.cancel.as_ref())?;
        let host = self.current();
        if ambit_core::guard!("reload.goes-on", self.is_as_read(&host)) {
            return self.go_on_placed(reader, stopped, started, asker);
        }
        // The home was read anew while it waited: who may approve is asked once more, and all else below.
        let stopped = match stopped {
            Stopped::Held(waiting) => {
                let call = &waiting.story.call;
                let waiting = Waiting::of(reader, &host.shared.config, call)?.ok_or_else(|| not_waiting(call))?;
                Stopped::Held(Box::new(waiting))
            }
            stopped => stopped,
        };
        if let Some(Standing::Waiting(missing)) = stopped.waiting().map(Waiting::standing) {
            return Err(still_waiting(&missing).into());
        }
        host.go_on_placed(reader, stopped, started, asker)
    }

    fn go_on_placed(
        &self,
        reader: &Reader,
        stopped: Stopped,
        started: Instant,
        asker: Asker,
    ) -> Result<Answer, ApprovalError> {
        let story = stopped.story();
        let call = &story.call;
        let accepted = accepted(story).cloned().ok_or_else(|| not_waiting(call))?;
        let edited = edited_effects(reader, story)?;
        let again = matches!(stopped, Stopped::InDoubt(_));
        let ready = match self.ready(reader, &stopped, &accepted, started, asker)? {
            Ok(ready) => ready,
            Err(refusal) => return self.void(&stopped, &accepted, &refusal),
        };
        let steps = reader.transcript(call)?.len();
        let letter = stopped.letter();
        let by_routes = ready.asking.undoes.clone().filter(|undoes| undoes.by == By::Routes);
        let accepted = going_on(ready, accepted, stopped, steps, None)?;
        let answer = match (letter, by_routes) {
            (Some(letter), _) => self.run_letter_again(accepted, letter)?,
            (None, Some(undoes)) => self.resume_rollback(reader, accepted, &undoes)?,
            (None, None) => self.run(accepted)?,
        };
        match &answer.outcome {
            // What is in doubt was not sent again: the call stays as it was.
            Outcome::Stopped(refusal) if again && !self.reader()?.story(answer.call.as_str())?.is_over() => {
                Err(refusal.clone().into())
            }
            // A stop came before the held effect was decided: the call waits on.
            Outcome::Stopped(refusal)
                if is_a_stop(refusal) && self.reader()?.story(answer.call.as_str())?.waiting().is_some() =>
            {
                Err(refusal.clone().into())
            }
            _ => Ok(Answer { edited, ..answer }),
        }
    }

    /// All that a call goes on with; or why nobody can go on with it.
    ///
    /// # Errors
    /// What may be otherwise later: the call stays as it is.
    pub(crate) fn ready(
        &self,
        reader: &Reader,
        stopped: &Stopped,
        accepted: &CallAccepted,
        started: Instant,
        asker: Asker,
    ) -> Result<Result<Ready<'_>, Refusal>, ApprovalError> {
        let story = stopped.story();
        let call = &story.call;
        let again = matches!(stopped, Stopped::InDoubt(_));
        if !ambit_core::guard!("flow.letter-resumed", again || accepted.letter.is_none()) {
            let why =
                "it is an operator's retry of a dead letter that the host's end interrupted: no guest goes on with it";
            return Ok(Err(Refusal::new(Code::Stale, why)));
        }
        // What was done of a rollback is on the ledger: the next one does what is left, by the routes of then.
        let by_routes = accepted.undoes.as_ref().filter(|undoes| undoes.by == By::Routes);
        if let Some(undoes) = by_routes.filter(|_| again) {
            let why = "what was to undo an effect is not sent again: the next rollback does it, once it is known not to be done";
            return Err(Refusal::new(Code::Doubt, why)
                .advise(format!(
                    "find out at the service, and say so: --done or --not-done; then ambit rollback {}",
                    undoes.call
                ))
                .into());
        }
        if let Some(undoes) = by_routes.filter(|_| stopped.waiting().is_none())
            && !ambit_core::guard!("undo.interrupted", false)
        {
            let why = "it is a rollback that the host's end interrupted: another does what is left";
            return Ok(Err(
                Refusal::new(Code::Stale, why).advise(format!("ambit rollback {}", undoes.call))
            ));
        }
        let recorded = match Recorded::read(reader, stopped, &self.shared.config) {
            Ok(recorded) => recorded,
            // What cannot be read right now may be later, and what was tampered with is looked into first.
            Err(why @ (Unreadable::Store(_) | Unreadable::Tampered(_))) => return Err(why.into()),
            // Without what was recorded nobody can go on with it, and it must not wait for ever.
            Err(why) => return Ok(Err(Refusal::new(Code::Stale, why.to_string()))),
        };
        let asking = Asking {
            arrival: accepted.arrival,
            letter: None,
            undoes: accepted.undoes.clone(),
            by: accepted.by.clone(),
            once: None,
            began: None,
            started,
            heading: self.heading_of(story)?,
            args: Payload::new(call.as_str(), "args", recorded.args.clone().into_bytes())?,
            limits: transcript::limits(&accepted.asked)?,
            request: request(story, &accepted.asked, &recorded, asker)?,
        };
        let decided = match self.decide(&asking) {
            Ok(decided) if story.tool != Some(decided.tool.digest) => return Ok(Err(another_component())),
            Ok(decided) if !decided.is_of(story.principal.as_ref()) => return Ok(Err(another_caller())),
            Ok(decided) => decided,
            // A stop voids nothing: the call stays as it is.
            Err(denied) if denied.stage == Stage::Stopped => return Err(denied.refusal.into()),
            // Nor does a tool that this process has not loaded.
            Err(denied) if denied.stage == Stage::Tool && self.is_accepted(&accepted.asked.tool) => {
                return Err(denied.refusal.into());
            }
            // Nor one that an operator removed: what waits is theirs to end, or to go on with once it is back.
            Err(denied)
                if denied.stage == Stage::Tool
                    && !ambit_core::guard!("hold.tool-removed", stopped.is_decided_against()) =>
            {
                let refusal = removed_tool(story, &accepted.asked.tool);
                return Err(self.tool_removed(stopped, refusal)?);
            }
            // Nor does a failure of the host's own.
            Err(denied) if denied.refusal.code == Code::Ledger => return Err(denied.refusal.into()),
            Err(denied) => return Ok(Err(denied.refusal)),
        };
        if let Some((connection, tier)) = stopped.next() {
            self.not_stopped(&decided, connection, tier)?;
        }
        Ok(Ok(Ready {
            asking,
            decided,
            recorded,
        }))
    }

    fn is_accepted(&self, tool: &str) -> bool {
        self.shared.config.lock().iter().any(|(name, _)| name == tool)
    }

    /// Safe mode refuses what is held or in doubt before anything of its call is run again. It is looked at again with the effect.
    fn not_stopped(&self, decided: &Decided<'_>, connection: &str, tier: Tier) -> Result<(), Refusal> {
        let board = self.shared.store.board();
        board.check_effect(decided.entered.running().subject(), connection, tier)
    }

    /// The call's entries from now on: under today's policy and configuration.
    pub(crate) fn heading_of(&self, story: &CallStory) -> Result<Heading, ApprovalError> {
        let named = |error: String| Refusal::new(Code::Internal, error);
        Ok(Heading {
            call: story.call.parse::<CallId>().map_err(named)?,
            trace: story.trace.parse::<TraceId>().map_err(named)?,
            principal: story.principal.clone(),
            tool: story.tool,
            run: story.run().map(str::to_owned),
            sampled: self.records(story.arrival()),
            policy: self.shared.policy.digest(),
            config: self.shared.config.digest(),
        })
    }

    /// Ends a call without running its guest, and its hold where it has one: it is no longer permitted.
    pub(crate) fn void(
        &self,
        stopped: &Stopped,
        accepted: &CallAccepted,
        refusal: &Refusal,
    ) -> Result<Answer, ApprovalError> {
        if let Stopped::InDoubt(_) = stopped {
            // What is in doubt ends by somebody's word alone.
            return Err(refusal.clone().into());
        }
        let heading = self.heading_of(stopped.story())?;
        let call = heading.call.as_str();
        let text = || refusal_json(refusal).to_canonical().into_bytes();
        let of_call = Payload::new(call, "refused", text())?;
        let mut tally = stopped.story().tally().clone();
        let mut batch = Batch::default();
        if let Some(pending) = stopped.waiting().map(|waiting| &waiting.pending) {
            let Pending { held, hold, votes, .. } = pending;
            let end = ended(votes, hold, &Refusal::new(Code::Stale, ""), pending.now_ms());
            let of_effect = Payload::new(call, format!("effect/{}/refused", held.ordinal), text())?;
            tally.refused();
            batch
                .entries
                .push(heading.entry(not_done(held, end, refused(refusal, Some(of_effect.commitment())))));
            batch.payloads.push(of_effect);
        }
        let end = End::Refused(refused(refusal, Some(of_call.commitment())));
        batch
            .entries
            .push(heading.entry(ended_without_its_guest(accepted, &stopped.story().guests, &tally, end)));
        batch.payloads.push(of_call);
        let committed = self.shared.store.commit(batch)?;
        Ok(Answer {
            call: heading.call,
            trace: heading.trace,
            outcome: Outcome::Stopped(refusal.clone()),
            refused_effects: vec![refusal.clone()],
            checked: tally.checks().to_vec(),
            edited: Vec::new(),
            cost: Cost::default(),
            end: EndEntry::of(&committed),
        })
    }

    /// Ends calls whose holds nobody decided about in time, at most so many; returns how many. A host does it when it opens.
    ///
    /// # Errors
    /// Where the ledger cannot be read or written.
    pub fn end_expired(&self, most: u32) -> Result<usize, ApprovalError> {
        let reader = self.reader()?;
        let mut ended = 0;
        for call in reader.expired(clock(), most)? {
            let Some(_alone) = self.shared.alone(&call) else {
                continue;
            };
            let Some(waiting) = Waiting::of(&reader, &self.shared.config, &call)? else {
                continue;
            };
            let standing = waiting.standing();
            let Some(accepted) = accepted(&waiting.story)
                .cloned()
                .filter(|_| standing == Standing::Expired)
            else {
                continue;
            };
            self.void(&Stopped::Held(Box::new(waiting)), &accepted, &not_approved(&standing))?;
            ended += 1;
        }
        Ok(ended)
    }
}

/// Who hears how far a call is that goes on, and how its caller takes it back.
#[derive(Default)]
pub(crate) struct Asker {
    pub(crate) listener: Option<Listener>,
    pub(crate) cancel: Option<Cancel>,
}

impl From<Option<Listener>> for Asker {
    fn from(listener: Option<Listener>) -> Asker {
        Asker { listener, cancel: None }
    }
}

/// A call that its guest was stopped in.
pub(crate) enum Stopped {
    /// An effect of it waits for people.
    Held(Box<Waiting>),
    /// The host ended.
    Interrupted(Box<CallStory>),
    /// The host ended, and an effect of it is sent again.
    InDoubt(Box<Unseen>),
}

impl Stopped {
    /// A call that has not ended, that waits for nobody, and of which nothing is in doubt.
    pub(crate) fn interrupted(story: CallStory) -> Result<Stopped, Refusal> {
        if story.is_over() {
            return Err(not_waiting(&story.call));
        }
        if let Some(ordinal) = story.doubts().next()
            && !ambit_core::guard!("replay.doubt-first", false)
        {
            let call = &story.call;
            return Err(Refusal::new(
                Code::Doubt,
                format!("nobody knows whether effect {ordinal} of call {call} happened"),
            )
            .advise(format!(
                "find out at the service, then `ambit calls resolve {call} --done` or `--not-done`; `--retry` sends it again where its service \
                 knows its idempotency key"
            )));
        }
        Ok(Stopped::Interrupted(Box::new(story)))
    }

    pub(crate) fn story(&self) -> &CallStory {
        match self {
            Stopped::Held(waiting) => &waiting.story,
            Stopped::Interrupted(story) => story,
            Stopped::InDoubt(unseen) => &unseen.story,
        }
    }

    pub(crate) fn waiting(&self) -> Option<&Waiting> {
        match self {
            Stopped::Held(waiting) => Some(waiting),
            Stopped::Interrupted(_) | Stopped::InDoubt(_) => None,
        }
    }

    /// Whether it waited for people, and none of what they said is lost where it ends: a no, or nothing in time.
    fn is_decided_against(&self) -> bool {
        let standing = self.waiting().map(Waiting::standing);
        matches!(standing, Some(Standing::Rejected { .. } | Standing::Expired))
    }

    /// Where the effect that it goes on with would go, and of which tier it is.
    fn next(&self) -> Option<(&str, Tier)> {
        match self {
            Stopped::Held(waiting) => Some((&waiting.pending.held.connection, waiting.pending.held.tier)),
            Stopped::Interrupted(_) => None,
            Stopped::InDoubt(unseen) => Some((&unseen.intent.connection, unseen.intent.tier)),
        }
    }

    /// The dead letter that it is an operator's retry of.
    fn letter(&self) -> Option<LetterAgain> {
        match self {
            Stopped::InDoubt(unseen) => unseen.letter.clone(),
            Stopped::Held(_) | Stopped::Interrupted(_) => None,
        }
    }
}

/// That the safe mode which paused a call is lifted.
fn not_paused(reader: &Reader, story: &CallStory) -> Result<(), ApprovalError> {
    let Some(paused) = story.paused() else { return Ok(()) };
    let stops = reader.stops()?;
    let stop = stops.iter().find(|stop| stop.id == paused.what.stop);
    if let Some(stop) = stop
        && !ambit_core::guard!("stop.paused", false)
    {
        let (call, id, scope) = (&story.call, &stop.id, &stop.stop.scope);
        let why = format!("call {call} is paused by {id}, safe mode of {scope}, which is in force");
        let refusal = Refusal::new(Code::SafeMode, why);
        return Err(refusal
            .advise("it goes on once an operator has lifted that: `ambit unkill`")
            .into());
    }
    Ok(())
}

/// What was accepted of a call that began.
pub(crate) fn accepted(story: &CallStory) -> Option<&CallAccepted> {
    match &story.opening.what {
        Opening::Accepted(accepted) => Some(accepted),
        Opening::Denied(_) => None,
    }
}

/// The end of a hold whose effect does not happen.
fn not_done(held: &EffectHeld, end: Option<hold::End>, refused: Refused) -> EffectRefused {
    EffectRefused {
        asked: held.asked,
        cause: match held.undoes {
            None => Cause::Guest,
            Some(_) => Cause::Operator,
        },
        connection: Some(held.connection.clone()),
        effect: Some(held.effect),
        end,
        exhausted: Vec::new(),
        hold: Some(held.hold),
        import: held.import.clone(),
        ordinal: held.ordinal,
        refused,
        route: Some(held.route.clone()),
        rules: held.rules.clone(),
        spend: held.spend,
        tier: Some(held.tier),
        undoes: held.undoes.clone(),
    }
}

/// What people changed about a call's effects.
pub(crate) fn edited_effects(reader: &Reader, story: &CallStory) -> Result<Vec<Edited>, Unreadable> {
    let record = Record::new(reader, story);
    let mut edited = Vec::new();
    for (ordinal, hold) in &story.holds {
        match changes(&record, hold) {
            Ok(Some(changes)) => edited.push(Edited::new(*ordinal, &hold.held.what.authors, &changes)),
            // A call without what was recorded does not go on, which is told there.
            Ok(None) | Err(Unreadable::Value(_)) => {}
            Err(why) => return Err(why),
        }
    }
    Ok(edited)
}

/// A call that can go on.
pub(crate) struct Ready<'h> {
    asking: Asking,
    decided: Decided<'h>,
    recorded: Recorded,
}

/// What a call goes on with.
struct Recorded {
    transcript: Transcript,
    args: String,
    /// The request that was approved, word for word, where one was held.
    wire: Option<String>,
    /// What that would change, as it was then.
    before: Option<(Digest, Image)>,
    /// What the call had read by then.
    reads: Vec<Seen>,
    /// What people changed about it.
    changes: Option<Changes>,
}

impl Recorded {
    fn read(reader: &Reader, stopped: &Stopped, config: &Config) -> Result<Recorded, Unreadable> {
        let story = stopped.story();
        let record = Record::new(reader, story);
        let there = |name: &str| {
            let text = record.text(name)?;
            text.ok_or_else(|| Unreadable::value(format!("its value `{name}` is gone")))
        };
        let wire = match stopped.waiting() {
            Some(waiting) => Some(there(&waiting.pending.held.request_name())?),
            None => None,
        };
        let changes = match story.waiting() {
            Some(hold) => changes(&record, hold)?,
            None => None,
        };
        let held = stopped.waiting().map(|waiting| &waiting.pending.held);
        let before = match held.and_then(|held| Some((held.before_name(), held.before?))) {
            Some((name, kept)) => Some((kept, objects::before(&record, &name)?)),
            None => None,
        };
        let reads = held.map(|held| objects::seen_before(story, held.ordinal, config));
        Ok(Recorded {
            transcript: Transcript::read(&record, story)?,
            args: there("args")?,
            wire,
            before,
            reads: reads.unwrap_or_default(),
            changes,
        })
    }
}

fn another_caller() -> Refusal {
    Refusal::new(
        Code::Stale,
        "the agent is in another team or tenant than when the call began: its approvals are void",
    )
    .advise("call the tool again")
}

/// What was asked for, once more.
fn request(story: &CallStory, asked: &Asked, recorded: &Recorded, asker: Asker) -> Result<CallRequest, Refusal> {
    let trace = story.trace.parse::<TraceId>();
    let principal = story.principal.clone().ok_or_else(|| not_waiting(&story.call))?;
    Ok(CallRequest {
        tool: asked.tool.clone(),
        function: asked.function.clone(),
        args: recorded.args.clone(),
        agent: principal.agent,
        user: principal.user,
        mode: asked.mode,
        run: story.run().map(str::to_owned),
        trace: Some(trace.map_err(|error| Refusal::new(Code::Internal, error))?),
        narrowing: recorded.transcript.start.narrowing.clone(),
        listener: asker.listener,
        cancel: asker.cancel,
    })
}

/// A call as it goes on: accepted before, with its answers so far.
pub(crate) fn going_on<'h>(
    ready: Ready<'h>,
    accepted: CallAccepted,
    stopped: Stopped,
    steps: usize,
    editing: Option<Editing>,
) -> Result<Accepted<'h>, ApprovalError> {
    let Ready {
        asking,
        decided,
        recorded,
    } = ready;
    let Recorded {
        transcript,
        wire,
        before,
        reads,
        changes,
        ..
    } = recorded;
    let random = ChaCha20Rng::from_seed(transcript.start.seed()?);
    let last = stopped.story().effects.keys().next_back().copied();
    let apart = stopped.story().looked_up();
    let tally = stopped.story().tally().clone();
    let call = stopped.story().call.clone();
    let (guest, used_before) = (stopped.story().guests.next(), stopped.story().guests.used());
    let suspended = stopped.story().suspended().is_some();
    let (waiting, unseen) = match stopped {
        Stopped::Held(waiting) => {
            let asked = transcript.held.zip(wire).ok_or_else(|| not_waiting(&call))?;
            let waiting = waiting_effect(*waiting, asked, transcript.held_clock_ms);
            let edited = changes
                .as_ref()
                .map(|changes| Edited::new(waiting.held.ordinal, &waiting.hold.authors, changes));
            let waiting = WaitingEffect {
                held: Held { edited, ..waiting.held },
                before,
                reads,
                changes,
                editing,
                ..waiting
            };
            (Some(waiting), None)
        }
        Stopped::Interrupted(_) => (None, None),
        Stopped::InDoubt(unseen) => (None, Some(unseen.effect)),
    };
    let resumption = Resumption {
        past: transcript.answers,
        waiting,
        unseen,
        steps: u32::try_from(steps).unwrap_or(u32::MAX),
        ordinal: last.unwrap_or_default(),
        apart,
        tally,
        guest,
        used_before,
        suspended,
        began_on: Some(transcript.start.engine),
    };
    let beginning = Beginning {
        entered: decided.entered,
        run_budgets: own_budgets(decided.run.as_ref(), &decided.grant),
        grant: decided.grant,
        heading: asking.heading,
        mode: asking.request.mode,
        pending: Batch::default(),
        clock_ms: transcript.start.clock,
        random,
        listener: asking.request.listener,
        resumption: Some(resumption),
    };
    Ok(Accepted {
        tool: decided.tool,
        function: decided.function,
        args: decided.args,
        beginning,
        asked: accepted.asked,
        reserved: accepted.reserved,
        started: asking.started,
    })
}

fn waiting_effect(waiting: Waiting, (asked, wire): (AskedFor, String), clock_ms: u64) -> WaitingEffect {
    let missing = match waiting.standing() {
        Standing::Waiting(missing) => missing,
        _ => Vec::new(),
    };
    let Pending {
        held,
        hold,
        votes,
        ledger_ms,
        ..
    } = waiting.pending;
    WaitingEffect {
        ledger_ms,
        changes: None,
        editing: None,
        asked,
        clock_ms,
        wire,
        effect: held.effect,
        request: held.request,
        commitment: held.asked,
        way: held.way,
        before: None,
        reads: Vec::new(),
        held: Held {
            hold: held.hold,
            ordinal: held.ordinal,
            connection: held.connection,
            route: held.route,
            tier: held.tier,
            spend: held.spend,
            needs: held.needs,
            over: held.over,
            rules: held.rules,
            expires_ms: held.expires,
            request: None,
            missing,
            edited: None,
        },
        undoes: held.undoes,
        hold,
        votes,
    }
}

pub(crate) fn not_waiting(call: &str) -> Refusal {
    Refusal::new(
        Code::Approval,
        format!("call {call} waits for nothing: it is over, or it runs"),
    )
    .advise("`ambit approvals list` prints what waits, `ambit calls` what was interrupted")
}

fn still_waiting(missing: &[hold::Need]) -> Refusal {
    Refusal::new(Code::Approval, format!("the call still waits for {}", told(missing)))
}

/// Needs for people: `2 of finance, or 1 of legal and 1 of finance`.
#[must_use]
pub fn told(needs: &[hold::Need]) -> String {
    let one = |need: &hold::Need| {
        let groups: Vec<String> = need
            .iter()
            .map(|(group, count)| format!("{count} of {group}"))
            .collect();
        groups.join(" and ")
    };
    needs.iter().map(one).collect::<Vec<_>>().join(", or ")
}

fn removed_tool(story: &CallStory, tool: &str) -> Refusal {
    let component = story.tool.map(|digest| format!(" ({digest})")).unwrap_or_default();
    Refusal::new(
        Code::Tool,
        format!(
            "the home has no tool `{tool}` any more: call {} stays as it is",
            story.call
        ),
    )
    .advise(format!(
        "add the component back that the call began with{component}: ambit tools add {tool} COMPONENT.wasm"
    ))
}

fn another_component() -> Refusal {
    Refusal::new(
        Code::Stale,
        "the tool's component is another one than when the call began: its approvals are void",
    )
    .advise("call the tool again")
}

/// A new key pair for a person.
///
/// # Errors
/// Where the name cannot be a key's, or the operating system gives no randomness.
pub fn new_person_key(name: &str) -> Result<SignerKey, Refusal> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    random::fill(seed.as_mut()).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    SignerKey::from_seed(name, &seed).map_err(|error| Refusal::new(Code::Config, error.to_string()))
}

/// A person's secret key, from a file that they alone can read.
///
/// # Errors
/// Where it cannot be read, is no such key, or others can read it.
pub fn read_person_key(path: &Path) -> Result<SignerKey, Refusal> {
    let refuse = |why: String| Refusal::new(Code::Credential, format!("the key {}: {why}", path.display()));
    let mode = fs::metadata(path)
        .map_err(|error| refuse(error.to_string()))?
        .permissions()
        .mode();
    if !ambit_core::guard!("hold.key-file", mode & 0o077 == 0) {
        let why = format!("others than its owner can read it (mode {:04o})", mode & 0o7777);
        return Err(refuse(why).advise("make it yours alone: chmod 600, and think about who may have it"));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?);
    SignerKey::parse(&text)
        .map_err(|error| refuse(error.to_string()).advise("`ambit person key NAME --output FILE` makes one"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_person_s_key_is_theirs_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rita.key");
        let key = new_person_key("rita").unwrap();
        fs::write(&path, key.to_text().as_bytes()).unwrap();
        for (mode, read) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_person_key(&path).is_ok(), read, "{mode:o}");
        }
    }
}
