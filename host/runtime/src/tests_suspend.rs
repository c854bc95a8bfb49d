//! A host that is told to end, in whole calls: what does not end in time goes on with the next one.

use std::time::Instant;

use ambit_core::ledger::body::{Doubt, Found, Outcome as EffectOutcome};
use ambit_core::ledger::story::{EffectStory, Opening};
use ambit_core::ledger::{CallStory, Kind};

use super::*;
use crate::call::Coming;

const LONG: &str = "[limits]\nfuel = 4000000000000000\nwall_ms = 20000\nupstream_ms = 10000\n";

fn until(mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(30), "it does not happen");
        thread::sleep(Duration::from_millis(1));
    }
}

fn story(host: &Host, answer: &Answer) -> CallStory {
    host.reader().unwrap().story(answer.call.as_str()).unwrap()
}

/// Calls a function, and has its host end once that is so; what its caller is told.
fn suspended(host: &Host, function: &str, under_way: impl Fn() -> bool) -> Answer {
    let answer = thread::scope(|scope| {
        let call = scope.spawn(|| host.call(request(function)).unwrap());
        until(|| !host.is_idle() && under_way());
        thread::sleep(Duration::from_millis(20));
        let began = Instant::now();
        host.suspend();
        let answer = call.join().unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "it ends at once");
        answer
    });
    assert_eq!(
        stopped(&answer).map(|refusal| refusal.code),
        Some(Code::Suspended),
        "{answer:?}"
    );
    let story = story(host, &answer);
    assert!(story.suspended().is_some() && !story.is_over(), "{story:?}");
    answer
}

/// The next host goes on with it by itself, and it comes to an end.
fn goes_on(folder: &Path, call: &Answer) -> (Host, CallStory) {
    let host = open(folder).unwrap();
    assert_eq!(host.go_on_with_suspended().unwrap(), [call.call.to_string()]);
    until(|| story(&host, call).is_over() && host.is_idle());
    let story = story(&host, call);
    (host, story)
}

/// Leaves its first request without an answer, and answers all others.
fn silent_once() -> Service {
    Service::that(|stream, seen| {
        if seen.load(Ordering::SeqCst) > 0 {
            return answer(stream, seen);
        }
        hang_up(stream.try_clone().unwrap(), seen);
        // Open for as long as the process.
        std::mem::forget(stream);
    })
}

#[test]
fn a_guest_that_computes_is_stopped_and_goes_on_with_the_next_host() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, LONG);
    let host = open(folder.path()).unwrap();
    let answer = suspended(&host, "late", || service.requests() == 1);
    // Nothing begins any more, and nothing is lost by that.
    let refused = host.call(request("post")).unwrap();
    assert_eq!(stopped(&refused).map(|refusal| refusal.code), Some(Code::Suspended));
    assert!(matches!(story(&host, &refused).opening.what, Opening::Denied(_)));
    drop(host);
    let (host, ended) = goes_on(folder.path(), &answer);
    assert!(matches!(
        ended.finished.unwrap().what.outcome,
        ambit_core::ledger::body::End::Ok(_)
    ));
    assert_eq!(
        (ended.effects.len(), service.requests()),
        (2, 2),
        "nothing is asked for twice"
    );
    assert!(host.go_on_with_suspended().unwrap().is_empty());
    drop(host);
    holds::in_order(folder.path(), answer.call.as_str());
}

/// Its fuel is counted, over both guests.
#[test]
fn what_a_suspended_guest_used_is_settled() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let budget = "[budget.fuel]\nunit = \"fuel\"\nwindow = \"day\"\ncap = 4000000000000000\n";
    home(folder.path(), &service, &format!("{budget}{LONG}"));
    let host = open(folder.path()).unwrap();
    let answer = suspended(&host, "late", || service.requests() == 1);
    let used = story(&host, &answer).suspended().unwrap().what.fuel;
    drop(host);
    let (_, ended) = goes_on(folder.path(), &answer);
    let finished = ended.finished.unwrap().what;
    assert!(
        used > 0 && finished.settled[0].amount == used + finished.fuel,
        "{used} {finished:?}"
    );
    holds::in_order(folder.path(), answer.call.as_str());
}

#[test]
fn a_read_that_nobody_saw_answered_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let service = silent_once();
    home(folder.path(), &service, LONG);
    let host = open(folder.path()).unwrap();
    let answer = suspended(&host, "get", || service.requests() == 1);
    let left = story(&host, &answer);
    let EffectStory::Intended {
        outcome: Some(outcome), ..
    } = &left.effects[&1]
    else {
        panic!("it left");
    };
    assert_eq!(outcome.what.outcome, EffectOutcome::InDoubt(Doubt::Restart));
    assert_eq!((outcome.what.answer, outcome.what.dead), (None, false));
    drop(host);
    let (_, ended) = goes_on(folder.path(), &answer);
    assert!(matches!(
        ended.finished.unwrap().what.outcome,
        ambit_core::ledger::body::End::Ok(_)
    ));
    assert_eq!(service.requests(), 2);
    holds::in_order(folder.path(), answer.call.as_str());
}

#[test]
fn a_change_on_the_wire_is_in_doubt_and_its_call_waits_for_somebody_to_say_what_became_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let service = silent_once();
    home(folder.path(), &service, LONG);
    let host = open(folder.path()).unwrap();
    let answer = suspended(&host, "post", || service.requests() == 1);
    drop(host);
    let host = open(folder.path()).unwrap();
    assert!(
        host.go_on_with_suspended().unwrap().is_empty(),
        "nobody knows what became of it"
    );
    assert_eq!(story(&host, &answer).doubts().collect::<Vec<_>>(), [1]);
    host.settle_doubt(answer.call.as_str(), None, Found::NotDone, None)
        .unwrap();
    drop(host);
    let (_, ended) = goes_on(folder.path(), &answer);
    assert!(ended.is_over());
    assert_eq!(service.requests(), 1, "it is not sent again by itself");
    holds::in_order(folder.path(), answer.call.as_str());
}

/// Nothing of the effect is on the ledger but its call: its guest asks for it again, under the same number.
#[test]
fn what_waits_for_its_turn_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, LONG);
    let rate = "allow_private = true\nrate = { per = \"minute\", most = 30, burst = 1 }";
    let text = configuration(service.port, LONG).replace("allow_private = true", rate);
    std::fs::write(folder.path().join("ambit.toml"), text).unwrap();
    let host = open(folder.path()).unwrap();
    let answer = suspended(&host, "twice", || service.requests() == 1);
    assert_eq!(story(&host, &answer).effects.len(), 1);
    drop(host);
    let (_, ended) = goes_on(folder.path(), &answer);
    assert_eq!((ended.effects.len(), service.requests()), (2, 2));
    holds::in_order(folder.path(), answer.call.as_str());
}

#[test]
fn a_crash_after_it_went_on_leaves_it_to_the_operator() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, LONG);
    let host = open(folder.path()).unwrap();
    let answer = suspended(&host, "spin", || true);
    drop(host);
    let host = open(folder.path()).unwrap();
    assert_eq!(host.go_on_with_suspended().unwrap().len(), 1);
    until(|| !host.is_idle() && story(&host, &answer).suspended().is_none());
    // As a process finds it that begins after this one was killed.
    let kinds: Vec<Kind> = host
        .reader()
        .unwrap()
        .entries(0, 1_000)
        .unwrap()
        .iter()
        .filter(|entry| entry.call().is_some())
        .map(|entry| entry.kind())
        .collect();
    assert_eq!(
        kinds,
        [
            Kind::CallAccepted,
            Kind::GuestEnded,
            Kind::CallSuspended,
            Kind::CallResumed
        ]
    );
    host.suspend();
    until(|| host.is_idle());
    drop(host);
    // The thread that went on with it may have the home for a moment still.
    let mut opened = None;
    until(|| {
        opened = open(folder.path()).ok();
        opened.is_some()
    });
    let host = opened.unwrap();
    assert_eq!(host.unended().unwrap().len(), 1);
    host.end(answer.call.as_str()).unwrap();
    drop(host);
    verifies(folder.path());
}

/// An operator's stop is in force over a restart: a call that it covers does not go on by itself.
#[test]
fn a_stop_keeps_what_was_suspended_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, LONG);
    let host = open(folder.path()).unwrap();
    let answer = suspended(&host, "late", || service.requests() == 1);
    drop(host);
    let host = open(folder.path()).unwrap();
    let stop = ambit_core::stop::Stop {
        kind: ambit_core::stop::Kind::Kill,
        scope: "tool:things".parse().unwrap(),
    };
    crate::stops::set(&host.shared.store, &stop, "for a test", None).unwrap();
    assert_eq!(host.go_on_with_suspended().unwrap().len(), 1);
    thread::sleep(Duration::from_millis(300));
    assert!(story(&host, &answer).suspended().is_some());
    assert_eq!(service.requests(), 1);
}

/// How a call ended; none of one that has not.
fn refused(host: &Host, call: &str) -> Option<Code> {
    let finished = host.reader().unwrap().story(call).unwrap().finished?;
    match finished.what.outcome {
        ambit_core::ledger::body::End::Refused(refused) => Some(refused.code),
        other => panic!("{other:?}"),
    }
}

/// There may be many before it, and none of them need end.
#[test]
fn what_waits_for_its_turn_to_go_on_is_taken_back_at_once() {
    const MANY: usize = 6;
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), &Service::start(), LONG);
    let host = open(folder.path()).unwrap();
    thread::scope(|scope| {
        for _ in 0..MANY {
            scope.spawn(|| host.call(request("spin")).unwrap());
        }
        until(|| host.shared.store.board().running().len() == MANY);
        host.suspend();
    });
    drop(host);
    let host = open(folder.path()).unwrap();
    let calls = host.go_on_with_suspended().unwrap();
    assert_eq!(calls.len(), MANY);
    let runs = |call: &String| host.shared.store.board().call(call).is_some();
    until(|| calls.iter().filter(|call| runs(call)).count() == 4);
    let waits: Vec<&String> = calls.iter().filter(|call| !runs(call)).collect();
    assert!(host.take_back_suspended(waits[0]));
    assert_eq!(refused(&host, waits[0]), Some(Code::Cancelled));
    assert!(
        host.reader().unwrap().story(waits[1]).unwrap().suspended().is_some(),
        "the other waits on"
    );
    // Those that run are taken back as ever.
    for call in &calls {
        if call != waits[0] {
            until(|| host.take_back_suspended(call) || refused(&host, call).is_some());
        }
        until(|| refused(&host, call) == Some(Code::Cancelled));
        // It is over.
        until(|| !host.take_back_suspended(call));
    }
    until(|| host.is_idle());
    drop(host);
    verifies(folder.path());
}

#[test]
fn what_waits_for_a_place_to_go_on_in_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, &format!("{LONG}concurrent_calls = 1\n"));
    let host = open(folder.path()).unwrap();
    let answer = suspended(&host, "late", || service.requests() == 1);
    drop(host);
    let host = open(folder.path()).unwrap();
    let place = host.shared.place().unwrap();
    host.go_on_with_suspended().unwrap();
    // It has begun to wait.
    until(|| host.shared.is_running(answer.call.as_str()));
    assert!(host.take_back_suspended(answer.call.as_str()));
    until(|| refused(&host, answer.call.as_str()) == Some(Code::Cancelled));
    drop(place);
    until(|| host.is_idle());
    assert_eq!(service.requests(), 1);
}

/// A process ends when nothing runs any more.
#[test]
fn what_is_suspended_runs_until_that_is_on_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, LONG);
    let host = open(folder.path()).unwrap();
    thread::scope(|scope| {
        let call = scope.spawn(|| host.call(request("late")).unwrap());
        until(|| !host.is_idle() && service.requests() == 1);
        thread::sleep(Duration::from_millis(20));
        let reader = host.reader().unwrap();
        let before = reader.size().unwrap();
        host.suspend();
        let began = Instant::now();
        while !host.is_idle() && began.elapsed() < Duration::from_secs(10) {
            std::hint::spin_loop();
        }
        let after = reader.size().unwrap();
        let answer = call.join().unwrap();
        assert!(after > before, "it is not written that it is suspended");
        assert!(story(&host, &answer).suspended().is_some());
    });
}

/// It has no thread to find that out by itself, and would wait until its time is over.
#[test]
fn what_waits_for_a_place_without_a_thread_is_told_that_the_host_ends() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, &format!("{LONG}concurrent_calls = 1\n"));
    let host = open(folder.path()).unwrap();
    let place = host.shared.place().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let began = Instant::now();
    let placed = runtime.block_on(async {
        let waits = tokio::spawn(host.place_for(&request("post"), &Coming::default()));
        while host.shared.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        host.close();
        waits.await.unwrap()
    });
    assert!(began.elapsed() < Duration::from_secs(5), "it waits on");
    assert_eq!(host.shared.waiting(), 0);
    let answer = host.call_placed(request("post"), Coming::default(), &placed).unwrap();
    assert_eq!(stopped(&answer).map(|refusal| refusal.code), Some(Code::Suspended));
    drop(place);
    assert_eq!(service.requests(), 0);
    drop(host);
    verifies(folder.path());
}
