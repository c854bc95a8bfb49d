//! The fuel of calls that wait and go on: each guest's counts, as it was burnt.

use ambit_core::hold::{Standing, Verdict};
use ambit_core::stop::{Kind as StopKind, Stop};

use super::holds::{ONE, approve, held, in_order, reviewed, vote};
use super::*;
use crate::approvals::ApprovalError;

const FUEL: &str = "[budget.fuel]\nunit = \"fuel\"\nwindow = { rolling = \"1h\" }\ncap = 3_000_000_000\n";

/// What guests used whose call went on, by the ledger.
fn noted(host: &Host, call: &str) -> Vec<u64> {
    let entries = host.reader().unwrap().entries_of(call).unwrap();
    let fuel = entries.iter().filter_map(|entry| match entry.body() {
        Body::GuestEnded(ended) => Some(ended.fuel),
        _ => None,
    });
    fuel.collect()
}

fn fuel(host: &Host) -> (u64, u64) {
    accounts(host)["fuel"]
}

const ALL: u64 = 1_000_000_000;

#[test]
fn a_call_that_waited_settles_what_each_of_its_guests_used() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, FUEL);
    let answer = host.call(request("both")).unwrap();
    let (held, call) = (held(&answer), answer.call.as_str());
    let first = answer.cost.fuel;
    assert_eq!((noted(&host, call), fuel(&host)), (vec![first], (0, ALL)));
    drop(host);
    let host = open(folder.path()).unwrap();
    assert_eq!(approve(&host, &held, "rita").unwrap(), Standing::Approved);
    let ended = host.resume(call, None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert!(
        ended.cost.fuel > first && first > 0,
        "the second computes it all: {ended:?}"
    );
    assert_eq!(fuel(&host), (first + ended.cost.fuel, 0));
    drop(host);
    in_order(folder.path(), call);
}

#[test]
fn a_call_that_is_rejected_settles_what_its_guests_used() {
    let folder = tempfile::tempdir().unwrap();
    let host = reviewed(folder.path(), &Service::start(), ONE, FUEL);
    let answer = host.call(request("post")).unwrap();
    let no = vote(&held(&answer), "rita", Verdict::Reject);
    host.vote(&no, None).unwrap();
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(fuel(&host), (answer.cost.fuel + ended.cost.fuel, 0));
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

/// Safe mode pauses a call, keeps one that is approved from going on, and is lifted: whatever ran is counted.
#[test]
fn a_call_that_was_paused_settles_what_each_of_its_guests_used() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, FUEL);
    let host = open(folder.path()).unwrap();
    let safe = Stop {
        kind: StopKind::SafeMode,
        scope: "connection:things".parse().unwrap(),
    };
    host.stop(&safe, "look at it").unwrap();
    let answer = host.call(request("both")).unwrap();
    assert!(matches!(answer.outcome, Outcome::Paused(_)), "{answer:?}");
    let call = answer.call.as_str();
    let story = host.reader().unwrap().story(call).unwrap();
    assert!(story.paused().is_some(), "how its guest ended says nothing of that");
    assert!(host.resume(call, None).is_err());
    assert_eq!(noted(&host, call), [answer.cost.fuel], "nothing ran");
    host.lift(&safe, None).unwrap();
    let ended = host.resume(call, None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert_eq!(fuel(&host), (answer.cost.fuel + ended.cost.fuel, 0));
    drop(host);
    in_order(folder.path(), call);
}

/// What is approved and cannot be had right now waits on; the guest that found that out has used its fuel.
#[test]
fn a_guest_that_found_an_approved_effect_not_to_be_had_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let budget = "[budget.posts]\nunit = \"effects\"\nroute = \"things/things.change\"\nwindow = \"day\"\ncap = 1\n";
    let host = reviewed(folder.path(), &service, ONE, &format!("{FUEL}{budget}"));
    let one = host.call(request("post")).unwrap();
    let other = host.call(request("post")).unwrap();
    for answer in [&one, &other] {
        approve(&host, &held(answer), "rita").unwrap();
    }
    host.resume(one.call.as_str(), None).unwrap();
    let before = fuel(&host);
    let waits = host.resume(other.call.as_str(), None).unwrap();
    assert!(matches!(waits.outcome, Outcome::Held(_)), "{waits:?}");
    let noted = noted(&host, other.call.as_str());
    assert_eq!(noted, [other.cost.fuel, waits.cost.fuel]);
    assert_eq!(fuel(&host), before, "it is settled with the call");
    drop(host);
    let path = folder.path().join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("cap = 1\n", "cap = 2\n")).unwrap();
    let host = open(folder.path()).unwrap();
    let ended = host.resume(other.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    let all = noted.iter().sum::<u64>() + ended.cost.fuel;
    assert_eq!(fuel(&host), (before.0 + all, 0));
    drop(host);
    in_order(folder.path(), other.call.as_str());
}

/// The host ends at each of a call's commits, first and when it goes on: what a guest used that ended with it nobody knows, and it has used
/// all that was set aside.
#[test]
fn a_guest_that_ended_with_its_host_has_used_all_that_was_set_aside() {
    let mut unknown = 0;
    for good in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start();
        let host = reviewed(folder.path(), &service, ONE, FUEL);
        let answer = host.call(request("post")).unwrap();
        let call = answer.call.as_str();
        approve(&host, &held(&answer), "rita").unwrap();
        drop(host);
        let failed: Result<Answer, ApprovalError> = match recovery::failing(folder.path(), good, Step::BeforeCommit) {
            Ok(host) => host.resume(call, None),
            Err(_) => continue,
        };
        let host = open(folder.path()).unwrap();
        let resumed = host.reader().unwrap().entries_of(call).unwrap();
        let resumed = resumed.iter().any(|entry| matches!(entry.body(), Body::CallResumed(_)));
        if let Ok(ended) = failed {
            assert_eq!(fuel(&host), (answer.cost.fuel + ended.cost.fuel, 0));
            continue;
        }
        for unended in host.unended().unwrap() {
            for ordinal in &unended.doubts {
                let found = ambit_core::ledger::body::Found::Done;
                host.settle_doubt(call, Some(*ordinal), found, None).unwrap();
            }
        }
        let ended = host.resume(call, None).unwrap();
        let known = (answer.cost.fuel + ended.cost.fuel, 0);
        assert_eq!(fuel(&host), if resumed { (ALL, 0) } else { known }, "{good}");
        unknown += u32::from(resumed);
        drop(host);
        verifies(folder.path());
    }
    assert!(unknown >= 2, "{unknown}");
}

#[test]
fn a_call_whose_fuel_nothing_counts_says_nothing_of_its_guests() {
    let folder = tempfile::tempdir().unwrap();
    let host = reviewed(folder.path(), &Service::start(), ONE, "");
    let answer = host.call(request("post")).unwrap();
    approve(&host, &held(&answer), "rita").unwrap();
    host.resume(answer.call.as_str(), None).unwrap();
    let entries = host.reader().unwrap().entries_of(answer.call.as_str()).unwrap();
    let said = |entry: &ambit_core::ledger::Entry| matches!(entry.body(), Body::GuestEnded(_) | Body::CallResumed(_));
    assert!(!entries.iter().any(said));
}
