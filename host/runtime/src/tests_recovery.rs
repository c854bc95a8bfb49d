//! Hosts that end in the middle of a call, and what the next one makes of it.

use ambit_core::ledger::body::Found;
use ambit_core::scope::Tier;

use super::*;
use crate::replay::Replayer;

/// Opens the home with a disk that fails at that step, each time after it went well so often.
pub(super) fn failing(folder: &Path, good: u64, step: Step) -> Result<Host, OpenError> {
    let options = HostOptions {
        compiler: Some(Compiler::InProcess),
        faults: Faults::after(good, step, Fault::Io),
        ..HostOptions::default()
    };
    Host::open(Config::load(folder).unwrap(), options)
}

/// Calls until the host ends in it, which is what a commit that fails comes to; false where it did not.
fn ends_in(folder: &Path, function: &str, good: u64, step: Step) -> bool {
    failing(folder, good, step).map_or(true, |host| host.call(request(function)).is_err())
}

pub(super) fn replays(folder: &Path, call: &str) {
    let replayed = Replayer::open(folder, Some(Compiler::InProcess))
        .unwrap()
        .replay(call)
        .unwrap();
    assert_eq!(replayed.diverged, None);
    assert_eq!(replayed.fuel_recorded, replayed.fuel_used);
}

/// Every commit of a call fails once, before it is on the disk and after: the call goes on or is in doubt, and nothing is sent twice.
#[test]
fn a_call_goes_on_from_wherever_the_host_ended() {
    let mut went_on = 0;
    let mut in_doubt = 0;
    for (good, step) in (0..12).flat_map(|good| [Step::BeforeCommit, Step::AfterCommit].map(|step| (good, step))) {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start();
        home(folder.path(), &service, "");
        if !ends_in(folder.path(), "post", good, step) {
            assert_eq!(service.requests(), 1);
            continue;
        }
        let host = open(folder.path()).unwrap();
        for unended in host.unended().unwrap() {
            let call = unended.story.call.clone();
            if let Some(ordinal) = unended.doubts.first() {
                in_doubt += 1;
                let refused = host.resume(&call, None).unwrap_err().to_string();
                assert!(refused.contains("nobody knows"), "{refused}");
                let sent = service.requests() == 1;
                let found = if sent { Found::Done } else { Found::NotDone };
                host.settle_doubt(&call, Some(*ordinal), found, Some("looked it up"))
                    .unwrap();
            }
            let answer = host.resume(&call, None).unwrap();
            assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
            went_on += 1;
            assert!(host.unended().unwrap().is_empty());
            replays(folder.path(), &call);
        }
        assert!(service.requests() <= 1, "{good} {step:?}");
        drop(host);
        verifies(folder.path());
    }
    assert!(
        went_on >= 2 && in_doubt >= 2,
        "{went_on} went on, {in_doubt} were in doubt"
    );
}

#[test]
fn a_read_that_nobody_saw_answered_is_read_again() {
    let mut again = 0;
    for good in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start();
        home(folder.path(), &service, "");
        if !ends_in(folder.path(), "both", good, Step::BeforeCommit) {
            continue;
        }
        let before = service.requests();
        let host = open(folder.path()).unwrap();
        for unended in host
            .unended()
            .unwrap()
            .into_iter()
            .filter(|unended| unended.doubts.is_empty())
        {
            let answer = host.resume(&unended.story.call, None).unwrap();
            assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
            let reads = unended.story.effects.len();
            again += usize::from(before == 1 && service.requests() == 3 && reads == 1);
            replays(folder.path(), &unended.story.call);
        }
        drop(host);
        verifies(folder.path());
    }
    assert_eq!(again, 1, "the outcome of the read is lost once");
}

/// A home where a write is in doubt: its answer came, and its outcome could not be written down.
fn in_doubt(folder: &Path, service: &Service, more: &str) -> (Host, String) {
    home(folder, service, more);
    for good in 0..12 {
        let opened = failing(folder, good, Step::BeforeCommit);
        if let Ok(host) = opened {
            assert!(host.call(request("post")).is_err());
        }
        if service.requests() == 1 {
            break;
        }
        let host = open(folder).unwrap();
        for unended in host.unended().unwrap() {
            host.end(&unended.story.call).unwrap();
        }
    }
    let host = open(folder).unwrap();
    let unended = host.unended().unwrap();
    assert_eq!((unended.len(), unended[0].doubts.as_slice()), (1, &[1][..]));
    (host, unended[0].story.call.clone())
}

#[test]
fn what_became_of_an_effect_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let (host, call) = in_doubt(folder.path(), &service, "");
    let say = |ordinal, found| {
        host.settle_doubt(&call, ordinal, found, None)
            .map_err(|error| error.to_string())
    };
    assert!(say(Some(2), Found::Done).unwrap_err().contains("effect 2"));
    assert_eq!(say(None, Found::NotDone), Ok(1));
    assert!(say(None, Found::Done).unwrap_err().contains("no effect"));
    let answer = host.resume(&call, None).unwrap();
    assert_eq!(answer.refused_effects.len(), 1, "{answer:?}");
    assert_eq!(answer.refused_effects[0].code, Code::NotDone);
    assert!(host.resume(&call, None).is_err());
    assert!(host.end(&call).is_err());
    assert_eq!(service.requests(), 1);
}

#[test]
fn a_call_can_be_ended_where_it_is_and_its_doubt_cleared_later() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let (host, call) = in_doubt(folder.path(), &service, "");
    host.end(&call).unwrap();
    assert!(host.unended().unwrap().is_empty());
    assert_eq!(host.reader().unwrap().doubts().unwrap().len(), 1);
    host.settle_doubt(&call, None, Found::Done, Some("it is in their list"))
        .unwrap();
    assert!(host.reader().unwrap().doubts().unwrap().is_empty());
    drop(host);
    verifies(folder.path());
}

/// What a caller gave up stays given up when its call goes on.
#[test]
fn a_call_goes_on_without_what_its_caller_gave_up() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let reads = || CallRequest {
        narrowing: Narrowing {
            max_tier: Some(Tier::Read),
            ..Narrowing::default()
        },
        ..request("both")
    };
    let mut went_on = 0;
    for good in 0..12 {
        if let Ok(host) = failing(folder.path(), good, Step::BeforeCommit) {
            let _ = host.call(reads());
        }
        let host = open(folder.path()).unwrap();
        for unended in host.unended().unwrap() {
            let answer = host.resume(&unended.story.call, None).unwrap();
            assert_eq!(
                answer.refused_effects.last().map(|refusal| refusal.code),
                Some(Code::Narrowing)
            );
            went_on += 1;
        }
    }
    assert!(went_on > 0);
}
