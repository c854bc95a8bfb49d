//! Whole calls that are held, voted on, gone on with, retried and given up, with a host that ends at each of their commits.

use std::collections::BTreeMap;

use ambit_core::hold::Standing;
use ambit_core::hold::Verdict;
use ambit_core::ledger::body::Found;
use ambit_core::ledger::story::{CallStory, EffectStory};

use super::doubts::{KEY, counted};
use super::flow::{DOWN, KEYED, Reply, Scripted, letters, say};
use super::holds::{ONE, approve, held, reviewed, vote};
use super::recovery::replays;
use super::*;
use crate::approvals::Waiting;
use crate::store::CallFilter;

const COUNTED: &str = "[budget.all]\nunit = \"effects\"\nwindow = \"day\"\ncap = 99\n\
                       [budget.calls]\nunit = \"calls\"\nwindow = \"day\"\ncap = 99\n";

/// What is done in a host that may end in it. Whatever fails, fails because it ended.
type Act = fn(&Host) -> Option<()>;

/// A home, what is done in it, and how often its service may see an effect.
struct Scene {
    policy: &'static str,
    change: &'static str,
    script: &'static [Reply],
    /// What was done before, in a host that does not end in it.
    before: fn(&Path, &Scripted),
    act: Act,
    /// Commits that there are at least.
    commits: u64,
}

/// Ends the host at each commit of the scene, before and after it is on the disk; whoever comes next finishes. Afterwards everything must
/// be as if nothing had happened.
fn at_every_commit(scene: &Scene, by_retry: bool) {
    for (step, fault) in [
        (Step::BeforeCommit, Fault::Full),
        (Step::Sync, Fault::Io),
        (Step::AfterCommit, Fault::Io),
    ] {
        let mut good = 0;
        while ends_at(scene, by_retry, Faults::after(good, step, fault)) {
            good += 1;
        }
        assert!(good >= scene.commits, "{good} commits, {step:?}");
    }
}

/// Whether the host ended in it.
fn ends_at(scene: &Scene, by_retry: bool, faults: Faults) -> bool {
    let said = format!("{faults:?}");
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start(scene.script.iter().cloned());
    let folder = folder.path();
    drop(reviewed(folder, &service.service, scene.policy, COUNTED));
    say(folder, "", "", scene.change);
    (scene.before)(folder, &service);
    let options = HostOptions {
        compiler: Some(Compiler::InProcess),
        faults,
        ..HostOptions::default()
    };
    let opened = Host::open(Config::load(folder).unwrap(), options);
    let ended = match &opened {
        Ok(host) => (scene.act)(host).is_none(),
        Err(_) => true,
    };
    assert!(
        !ended || opened.as_ref().ok().is_none_or(|host| host.failed().is_some()),
        "{said}"
    );
    drop(opened);
    let host = open(folder).unwrap();
    finish(&host, &service, by_retry);
    drop(host);
    in_order(folder, &service, &said);
    ended
}

/// What operators and reviewers do until nothing is left to do.
fn finish(host: &Host, service: &Scripted, by_retry: bool) {
    // A call that goes on may wait then.
    for _ in 0..3 {
        finish_once(host, service, by_retry);
    }
}

fn finish_once(host: &Host, service: &Scripted, by_retry: bool) {
    for (work, _) in host.reader().unwrap().holds(None, 10).unwrap() {
        let waiting = Waiting::of(&host.reader().unwrap(), &host.shared.config, &work.call);
        let waiting = waiting.unwrap().unwrap();
        if let Standing::Waiting(_) = waiting.standing() {
            let hold = &waiting.pending.hold;
            let note = ambit_core::hold::Vote {
                person: "sam".into(),
                hold: hold.id,
                verdict: Verdict::Approve,
                group: "reviewer".into(),
                expires_ms: hold.expires_ms,
                in_stead_of: None,
            };
            let note = note.sign(&holds::key("sam")).unwrap();
            let (_, standing) = host.vote(&note, None).unwrap();
            assert_eq!(standing, Standing::Approved);
        }
        host.resume(&work.call, None).unwrap();
    }
    for unended in host.unended().unwrap() {
        let call = &unended.story.call;
        match unended.doubts.first() {
            Some(ordinal) if by_retry => {
                let answer = host.retry_doubt(call, Some(*ordinal), None).unwrap();
                assert!(stopped(&answer).is_none(), "{answer:?}");
                continue;
            }
            Some(ordinal) => {
                let key = key_of(&host.reader().unwrap(), &unended.story, *ordinal);
                let found = match service.keys().contains(&key) {
                    true => Found::Done,
                    false => Found::NotDone,
                };
                host.settle_doubt(call, Some(*ordinal), found, None).unwrap();
            }
            None => {}
        }
        host.resume(call, None).unwrap();
    }
    for (call, ordinal) in letters(host.shared.config.home()) {
        // What was declined is retried.
        if host.retry_dead_letter(&call, ordinal, false).is_err() {
            panic!("the letter of {call} is not retried");
        }
    }
}

/// The key that the service knows an effect by: of a dead letter that of the effect that it was first.
fn key_of(reader: &Reader, story: &CallStory, ordinal: u32) -> String {
    let (mut call, mut ordinal) = (story.call.clone(), ordinal);
    while let Some(EffectStory::Intended { intent, .. }) = reader.story(&call).unwrap().effects.get(&ordinal).cloned()
        && let Some(letter) = &intent.what.letter
    {
        (call, ordinal) = (letter.call.clone(), letter.ordinal);
    }
    ambit_core::digest::Digest::domain("ambit/idempotency/v1", &[call.as_bytes(), &ordinal.to_be_bytes()]).to_hex()
}

/// Nothing left without an intent, nothing left more often than the ledger says, no hold is left or was used twice, budgets are exact,
/// and the ledger is sound.
fn in_order(folder: &Path, service: &Scripted, said: &str) {
    verifies(folder);
    let reader = Reader::open(folder).unwrap();
    assert_eq!(reader.holds(None, 10).unwrap().len(), 0, "{said}");
    assert_eq!(reader.doubts().unwrap(), [], "{said}");
    assert_eq!(reader.unfinished().unwrap(), [], "{said}");
    let mut sendings: BTreeMap<String, usize> = BTreeMap::new();
    let stories = reader.calls(&CallFilter::default()).unwrap();
    let mut intents = 0;
    for story in &stories {
        for (ordinal, effect) in &story.effects {
            if let EffectStory::Intended { retries, outcome, .. } = effect {
                *sendings.entry(key_of(&reader, story, *ordinal)).or_default() += 1 + retries.len();
                let left = outcome.as_ref().is_none_or(|outcome| {
                    !matches!(outcome.what.outcome, ambit_core::ledger::body::Outcome::NotSent(_))
                });
                intents += u64::from(left);
            }
        }
    }
    let mut received: BTreeMap<String, usize> = BTreeMap::new();
    for key in service.keys() {
        *received.entry(key).or_default() += 1;
    }
    for (key, times) in &received {
        let most = sendings.get(key).copied().unwrap_or_default();
        assert!(*times <= most, "{said}: {times} sendings, {most} on the ledger");
    }
    assert_eq!(counted(folder), (intents, 0), "{said}");
    let guests = stories.iter().filter(|story| story.letter().is_none());
    for story in guests.filter(|story| matches!(story.opening.what, ambit_core::ledger::story::Opening::Accepted(_))) {
        replays(folder, &story.call);
    }
}

fn approved(host: &Host) -> Option<()> {
    let answer = host.call(request("both")).ok()?;
    approve(host, &held(&answer), "rita").ok()?;
    host.resume(answer.call.as_str(), None).ok().map(drop)
}

const APPROVED: Scene = Scene {
    policy: ONE,
    change: KEY,
    script: &[],
    before: |_, _| {},
    act: approved,
    commits: 7,
};

#[test]
fn a_held_call_comes_to_its_end_from_wherever_the_host_ended() {
    at_every_commit(&APPROVED, false);
}

#[test]
fn a_held_call_comes_to_its_end_by_a_retry() {
    at_every_commit(&APPROVED, true);
}

#[test]
fn a_rejected_call_comes_to_its_end_from_wherever_the_host_ended() {
    fn act(host: &Host) -> Option<()> {
        let answer = host.call(request("post")).ok()?;
        host.vote(&vote(&held(&answer), "rita", Verdict::Reject), Some("not this one"))
            .ok()?;
        host.resume(answer.call.as_str(), None).ok().map(drop)
    }
    let scene = Scene {
        act,
        commits: 3,
        ..APPROVED
    };
    at_every_commit(&scene, false);
}

#[test]
fn a_call_that_is_sent_several_times_comes_to_its_end() {
    let scene = Scene {
        policy: POLICY,
        change: KEYED,
        script: &[DOWN, DOWN],
        before: |_, _| {},
        act: |host| host.call(request("post")).ok().map(drop),
        commits: 5,
    };
    at_every_commit(&scene, true);
    at_every_commit(&scene, false);
}

#[test]
fn a_dead_letter_comes_to_its_end_from_wherever_the_host_ended() {
    fn act(host: &Host) -> Option<()> {
        let answer = host.call(request("post")).ok()?;
        host.retry_dead_letter(answer.call.as_str(), 1, false).ok().map(drop)
    }
    let scene = Scene {
        policy: POLICY,
        change: "idempotency = { header = \"Idempotency-Key\", lifetime = \"1h\" }\ndead_letter = true",
        script: &[DOWN],
        before: |_, _| {},
        act,
        commits: 6,
    };
    at_every_commit(&scene, false);
    at_every_commit(&scene, true);
}

/// The host that sends an effect in doubt again ends in that too.
#[test]
fn a_retry_in_doubt_comes_to_its_end_from_wherever_the_host_ended() {
    fn before(folder: &Path, _: &Scripted) {
        for good in 0..12 {
            if let Ok(host) = recovery::failing(folder, good, Step::AfterCommit) {
                let _ = host.call(request("post"));
            }
            let host = open(folder).unwrap();
            for unended in host.unended().unwrap() {
                if !unended.doubts.is_empty() {
                    return;
                }
                host.resume(&unended.story.call, None).unwrap();
            }
        }
        panic!("nothing is in doubt");
    }
    fn act(host: &Host) -> Option<()> {
        let call = host.unended().ok()?.pop()?.story.call;
        host.retry_doubt(&call, None, None).ok().map(drop)
    }
    let scene = Scene {
        policy: POLICY,
        change: KEY,
        script: &[],
        before,
        act,
        commits: 3,
    };
    at_every_commit(&scene, true);
    at_every_commit(&scene, false);
}
