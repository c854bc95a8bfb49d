//! What the service received, held against the ledger.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use ambit_core::digest::Digest;
use ambit_core::ledger::CallStory;
use ambit_core::ledger::body::{EffectIntent, Found, Outcome};
use ambit_core::ledger::story::{EffectStory, Opening};
use ambit_runtime::store::{CallFilter, Keys, Reader, verifier};

use super::load::{Asked, POOR};
use super::{Failed, Report};
use crate::service::{Event, Request, Service};

/// What a request is known by at the service: its idempotency key, or, where its route has none, its amount, which no other has.
type Key = String;

/// What the service received: how often, and whether it did it.
#[derive(Default)]
pub(super) struct Received {
    keys: HashMap<Key, Seen>,
    seen: usize,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    times: usize,
    status: u16,
}

impl Received {
    pub(super) fn read(&mut self, service: &Service) -> Result<(), Failed> {
        let events = service.events()?;
        for event in events.iter().skip(self.seen) {
            let Event::Request(request) = event else { continue };
            let seen = self.keys.entry(known_by(request)).or_default();
            seen.times += 1;
            seen.status = request.status;
        }
        self.seen = events.len();
        Ok(())
    }

    /// How many different effects.
    pub(super) fn effects(&self) -> usize {
        self.keys.len()
    }
}

/// The service, with what is known of it so far.
pub(super) struct Known<'a> {
    pub(super) received: &'a mut Received,
    pub(super) service: &'a Service,
}

impl Asked for Known<'_> {
    fn look(&mut self) -> Result<(), Failed> {
        self.received.read(self.service)
    }

    fn has(&self, story: &CallStory, ordinal: u32) -> bool {
        let Some(EffectStory::Intended { intent, .. }) = story.effects.get(&ordinal) else {
            return false;
        };
        self.received.keys.contains_key(&key(&story.call, &intent.what))
    }
}

fn known_by(request: &Request) -> Key {
    let amount = || request.form.iter().find(|(name, _)| name == "amount");
    match request.headers.get("idempotency-key") {
        Some(key) => key.clone(),
        None => amount().map(|(_, amount)| format!("of {amount}")).unwrap_or_default(),
    }
}

/// What the service knows an effect by: a dead letter's retry goes under the letter's key.
fn key(call: &str, intent: &EffectIntent) -> Key {
    if intent.connection == "keyless" {
        return intent
            .spend
            .map(|spend| format!("of {}", spend.minor))
            .unwrap_or_default();
    }
    let (call, ordinal) = match &intent.letter {
        Some(letter) => (letter.call.as_str(), letter.ordinal),
        None => (call, intent.ordinal),
    };
    Digest::domain("ambit/idempotency/v1", &[call.as_bytes(), &ordinal.to_be_bytes()]).to_hex()
}

/// What the ledger's effects come to.
#[derive(Default)]
struct Sums {
    /// How often each may have been sent, by what its intents and their retries say.
    sendings: HashMap<Key, usize>,
    /// Cents that were spent; by the agent `poor` too.
    spent: u64,
    poor: u64,
    /// Intents that left, or may have.
    sent: u64,
    intents: usize,
    retried: usize,
    calls: u64,
}

pub(super) fn judge(home: &Path, received: &Received, report: &mut Report) -> Result<(), Failed> {
    let reader = Reader::open(home)?.with_keys(&Keys::load(home)?);
    reader.verify(&verifier(home)?, &[], |_| {})?;
    reader.check_values(|_| {})?;
    let mut sums = Sums::default();
    for story in reader.calls(&CallFilter::default())? {
        add(&story, received, &mut sums, &mut report.wrong);
    }
    report.received = received.keys.values().map(|seen| seen.times).sum();
    (report.intents, report.retried) = (sums.intents, sums.retried);
    let wrong = &mut report.wrong;
    for (key, seen) in &received.keys {
        match sums.sendings.get(key) {
            None => wrong.push(format!("{key} was received and has no intent")),
            Some(most) if seen.times > *most => wrong.push(format!(
                "{key} was received {} times, where the ledger has {most} sendings",
                seen.times
            )),
            Some(_) => {}
        }
    }
    let left = [
        ("holds", reader.holds(None, 10)?.len()),
        ("doubts", reader.doubts()?.len()),
        ("calls or effects under way", reader.unfinished()?.len()),
    ];
    wrong.extend(
        left.iter()
            .filter(|(_, left)| *left > 0)
            .map(|(what, left)| format!("{left} {what} are left")),
    );
    let mut used: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for state in reader.budgets()? {
        let sums = used.entry(state.window.budget).or_default();
        *sums = (sums.0 + state.account.used, sums.1 + state.account.reserved);
    }
    if sums.poor > POOR {
        wrong.push(format!("an agent spent {} of {POOR}", sums.poor));
    }
    for (budget, expected) in [
        ("money", sums.spent),
        ("poor", sums.poor),
        ("effects", sums.sent),
        ("calls", sums.calls),
    ] {
        let (used, reserved) = used.get(budget).copied().unwrap_or_default();
        if (used, reserved) != (expected, 0) {
            let found = format!("budget {budget} has used {used} and reserved {reserved}, where {expected} happened");
            wrong.push(found);
        }
    }
    Ok(())
}

fn add(story: &CallStory, received: &Received, sums: &mut Sums, wrong: &mut Vec<String>) {
    if matches!(story.opening.what, Opening::Accepted(_)) {
        sums.calls += 1;
    }
    if !story.is_over() {
        wrong.push(format!("call {} has not ended", story.call));
    }
    let poor = story
        .principal
        .as_ref()
        .is_some_and(|principal| principal.agent == "poor");
    let mut held = HashSet::new();
    for (ordinal, effect) in &story.effects {
        let EffectStory::Intended { intent, retries, .. } = effect else {
            if matches!(effect, EffectStory::Held(_)) {
                wrong.push(format!("effect {ordinal} of call {} waits", story.call));
            }
            continue;
        };
        if intent.what.hold.is_some_and(|hold| !held.insert(hold)) {
            wrong.push(format!("effect {ordinal} of call {} has another's hold", story.call));
        }
        let key = key(&story.call, &intent.what);
        let seen = received.keys.get(&key).copied();
        *sums.sendings.entry(key).or_default() += 1 + retries.len();
        sums.intents += 1;
        sums.retried += retries.len();
        match verdict(effect, seen) {
            Ok(happened) => {
                let cents = intent.what.spend.map_or(0, |spend| spend.minor);
                let cents = if happened == Some(true) { cents } else { 0 };
                sums.spent += cents;
                sums.poor += if poor { cents } else { 0 };
                sums.sent += u64::from(happened.is_some());
            }
            Err(why) => wrong.push(format!("effect {ordinal} of call {}: {why}", story.call)),
        }
    }
}

/// Whether an effect counts as done, where ledger and service agree on that; none of one that was known not to leave.
fn verdict(effect: &EffectStory, seen: Option<Seen>) -> Result<Option<bool>, String> {
    let EffectStory::Intended {
        retries,
        outcome,
        resolved,
        ..
    } = effect
    else {
        return Err("it was refused".to_owned());
    };
    let outcome = outcome.as_ref().ok_or("it has no outcome")?;
    // A service that declines says nothing of what it did with what was sent before.
    let doubted = retries
        .iter()
        .any(|again| matches!(again.what.after, Outcome::InDoubt(_)));
    match (&outcome.what.outcome, resolved, seen) {
        (Outcome::Answered(answered), _, Some(seen)) if answered.status == seen.status => {
            Ok(Some(seen.status == 200 || doubted))
        }
        (Outcome::NotSent(_), _, None) => Ok(None),
        (Outcome::InDoubt(_), Some(resolved), seen) => match (resolved.what.found, seen) {
            (Found::Done, Some(_)) => Ok(Some(true)),
            (Found::NotDone, None) => Ok(Some(false)),
            (found, seen) => Err(format!(
                "it was found {}, and the service has it {} times",
                found.as_str(),
                seen.unwrap_or_default().times
            )),
        },
        (outcome, _, seen) => Err(format!(
            "{outcome:?} on the ledger, {:?} at the service",
            seen.map(|seen| seen.status)
        )),
    }
}
