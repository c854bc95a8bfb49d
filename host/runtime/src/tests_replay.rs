//! Calls that were stopped from outside, run again up to there; what diverges, and where that is written down.

use ambit_core::ledger::body::{CallsReplayed, Part};
use ambit_core::stop::{Kind, Stop};

use super::holds::{ONE, held, reviewed};
use super::*;
use crate::operators::{self, Request};
use crate::replay::{By, Replayed, Replayer};
use crate::transcript::Divergence;

/// A guest may compute for as long as nobody stops it.
const ENDLESS: &str = "[limits]\nfuel = 4000000000000000\nwall_ms = 60000\nupstream_ms = 60000\n";

pub(super) fn replayed(folder: &Path, call: &str) -> Replayed {
    Replayer::open(folder, Some(Compiler::InProcess))
        .unwrap()
        .replay(call)
        .unwrap()
}

/// What stopped it, and after which effect; nothing up to there is otherwise.
fn up_to(folder: &Path, call: &str) -> (By, Option<u32>) {
    let replayed = replayed(folder, call);
    assert_eq!(replayed.diverged, None, "{replayed:?}");
    assert!(replayed.same_engine);
    let stopped = replayed.stopped.unwrap();
    (stopped.by, stopped.effect)
}

fn wait_until(what: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not happen");
        thread::sleep(Duration::from_millis(1));
    }
}

fn everything() -> Stop {
    Stop {
        kind: Kind::Kill,
        scope: "everything".parse().unwrap(),
    }
}

/// Kills the call of a function a while after the service has seen so many requests.
fn killed(host: &Host, service: &Service, function: &str, requests: usize) -> Answer {
    let answer = thread::scope(|scope| {
        let call = scope.spawn(|| host.call(request(function)).unwrap());
        wait_until(|| !host.shared.store.board().running().is_empty() && service.requests() >= requests);
        thread::sleep(Duration::from_millis(20));
        host.stop(&everything(), "enough").unwrap();
        call.join().unwrap()
    });
    host.lift(&everything(), None).unwrap();
    assert_eq!(stopped(&answer).map(|refusal| refusal.code), Some(Code::Killed));
    answer
}

#[test]
fn a_call_that_an_operator_stopped_is_the_same_up_to_there() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, ENDLESS);
    let host = open(folder.path()).unwrap();
    let spins = killed(&host, &service, "spin", 0);
    let late = killed(&host, &service, "late", 1);
    drop(host);
    assert_eq!(up_to(folder.path(), spins.call.as_str()), (By::Operator, None));
    assert_eq!(up_to(folder.path(), late.call.as_str()), (By::Operator, Some(1)));
    // It is run no longer than it ran.
    let again = replayed(folder.path(), spins.call.as_str());
    assert!(
        again.fuel_recorded > 0 && again.fuel_used >= again.fuel_recorded,
        "{again:?}"
    );
    assert!(again.fuel_used < again.fuel_recorded + 2_000_000, "{again:?}");
}

#[test]
fn a_call_whose_time_was_up_is_the_same_up_to_there() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(
        folder.path(),
        &service,
        "[limits]\nfuel = 4000000000000000\nwall_ms = 100\n",
    );
    let host = open(folder.path()).unwrap();
    let answer = host.call(request("spin")).unwrap();
    assert_eq!(stopped(&answer).map(|refusal| refusal.code), Some(Code::Time));
    drop(host);
    assert_eq!(up_to(folder.path(), answer.call.as_str()), (By::Time, None));
}

#[test]
fn a_call_that_waits_is_the_same_up_to_what_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let answer = host.call(request("both")).unwrap();
    assert_eq!(held(&answer).ordinal, 2);
    drop(host);
    assert_eq!(up_to(folder.path(), answer.call.as_str()), (By::Waits, Some(2)));
    // It can be looked at, and not be taken elsewhere before it has ended.
    let replayer = Replayer::open(folder.path(), Some(Compiler::InProcess)).unwrap();
    let refused = replayer.bundle(answer.call.as_str()).unwrap_err().to_string();
    assert!(refused.contains("it has not ended"), "{refused}");
}

/// Wherever the host ends, what was recorded by then comes to the same again.
#[test]
fn a_call_that_the_host_s_end_stopped_is_the_same_up_to_there() {
    let mut seen = std::collections::BTreeSet::new();
    for good in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start();
        home(folder.path(), &service, "");
        let options = HostOptions {
            compiler: Some(Compiler::InProcess),
            faults: Faults::after(good, Step::AfterCommit, Fault::Io),
            ..HostOptions::default()
        };
        let Ok(host) = Host::open(Config::load(folder.path()).unwrap(), options) else {
            continue;
        };
        if host.call(request("both")).is_ok() {
            continue;
        }
        drop(host);
        // Before anybody wrote down what is in doubt, after that, and once it was ended where it is.
        let unfinished = Reader::open(folder.path()).unwrap().unfinished().unwrap();
        let Some(call) = unfinished.first().map(|unfinished| unfinished.work.call.clone()) else {
            continue;
        };
        let (by, first) = up_to(folder.path(), &call);
        assert_eq!(by, By::Open);
        let host = open(folder.path()).unwrap();
        assert_eq!(up_to(folder.path(), &call), (By::Open, first));
        host.end(&call).unwrap();
        drop(host);
        assert_eq!(up_to(folder.path(), &call), (By::HostEnd, first));
        seen.insert(first);
    }
    assert!(seen.contains(&Some(1)) && seen.contains(&Some(2)), "{seen:?}");
}

/// What a bundle of a stopped call says was asked for is held against what is asked for now.
#[test]
fn a_stopped_call_that_asks_for_something_else_diverges() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, ENDLESS);
    let host = open(folder.path()).unwrap();
    let late = killed(&host, &service, "late", 1);
    drop(host);
    let replayer = Replayer::open(folder.path(), Some(Compiler::InProcess)).unwrap();
    let text = replayer.bundle(late.call.as_str()).unwrap();
    let key = crate::store::verifier(folder.path()).unwrap();
    let mut opened = ambit_core::ledger::bundle::Bundle::open(&text, &key).unwrap();
    let again = |opened: &_| crate::replay::replay_bundle(opened, Some(Compiler::InProcess)).unwrap();
    assert_eq!(again(&opened).diverged, None);
    let asked = opened.values.get_mut("effect/1/asked").unwrap();
    *asked = String::from_utf8(asked.clone())
        .unwrap()
        .replace("/things/1", "/things/2")
        .into_bytes();
    let diverged = again(&opened).diverged.unwrap();
    assert_eq!((diverged.part, diverged.ordinal), (Part::Effect, Some(1)));
}

#[test]
fn what_diverged_is_written_down_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    let call = host.call(request("get")).unwrap().call;
    drop(host);
    let mut replayer = Replayer::open(folder.path(), Some(Compiler::InProcess)).unwrap();
    let size = replayer.reader().size().unwrap();
    let mut replayed = replayer.replay(call.as_str()).unwrap();
    assert!(replayer.entry_of(&replayed).unwrap().is_none());
    replayed.diverged = Some(Divergence {
        part: Part::Effect,
        ordinal: Some(1),
        what: "effect 1".to_owned(),
        recorded: "one".to_owned(),
        seen: "another".to_owned(),
    });
    let entry = replayer.entry_of(&replayed).unwrap().unwrap();
    assert_ne!(entry.expected, entry.seen);
    // What is told cannot be guessed from the entry: the same words of another call have another digest.
    let same = Divergence {
        seen: "one".to_owned(),
        ..replayed.diverged.clone().unwrap()
    };
    replayed.diverged = Some(same);
    let equal = replayer.entry_of(&replayed).unwrap().unwrap();
    assert_eq!((equal.expected, equal.seen), (entry.expected, entry.expected));
    assert_ne!(entry.expected, ambit_core::digest::Digest::of(b"one"));
    assert_eq!(replayer.reader().size().unwrap(), size, "a replay writes nothing");
    let write = || {
        let calls = vec![entry.clone()];
        operators::act(folder.path(), &Request::Diverged { calls })
    };
    assert_eq!(write().unwrap(), operators::Answer::Written(size));
    let told = replayer.reader().divergences(call.as_str()).unwrap();
    assert!(matches!(told[0].body(), Body::CallDiverged(diverged) if *diverged == entry));
    let key = crate::store::verifier(folder.path()).unwrap();
    replayer.reader().verify(&key, &[], |_| {}).unwrap();
    replayer.reader().check_values(|_| {}).unwrap();
    // What came of all is counted, and a count of nothing is none.
    let counted = |same, partial, diverged| {
        let replayed = CallsReplayed {
            diverged,
            partial,
            same,
        };
        operators::act(folder.path(), &Request::Replayed { replayed })
    };
    assert_eq!(counted(3, 1, 1).unwrap(), operators::Answer::Written(size + 1));
    assert!(counted(0, 0, 0).is_err());
    let samples = crate::metrics::of_ledger(folder.path(), None).unwrap();
    let text = samples.text(ambit_core::metrics::Format::Prometheus);
    for line in [
        "{result=\"same\"} 3",
        "{result=\"partial\"} 1",
        "{result=\"diverged\"} 1",
    ] {
        assert!(text.contains(&format!("ambit_replays_total{line}\n")), "{line}: {text}");
    }
    // While a host runs, it writes that.
    let host = open(folder.path()).unwrap();
    let size = host.reader().unwrap().size().unwrap();
    assert_eq!(write().unwrap(), operators::Answer::Written(size));
    drop(host);
}
