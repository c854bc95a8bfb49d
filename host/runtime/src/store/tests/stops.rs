//! Stops in the books: an intent that one forbids is never written after it, and nothing that it voids is sent.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

use ambit_core::digest::Digest;
use ambit_core::error::Code;
use ambit_core::ledger::body::{CallPaused, CallSuspended, StopLifted, StopSet};
use ambit_core::ledger::{Body, EntryDraft};
use ambit_core::scope::Tier;
use ambit_core::stop::{Kind, Stop, Subject};
use proptest::prelude::*;

use super::super::{Batch, Store, StoreError, StoreOptions};
use super::fixture::{Call, Home, batch, request};

/// A store of each kind, which must behave alike.
fn on_both(test: impl Fn(&Store)) {
    let home = Home::new();
    test(&home.open());
    home.verify();
    test(&Store::memory(home.keys(), StoreOptions::default()).unwrap());
}

/// The scopes that the fixture's calls are in, and some that they are not in.
const COVERING: [&str; 5] = [
    "everything",
    "tenant:tenant-1",
    "agent:agent-1",
    "tool:refunds",
    "connection:stripe",
];
const OTHERS: [&str; 5] = [
    "tenant:agent-1",
    "agent:other",
    "tool:refund",
    "connection:slack",
    "run:r1",
];

fn stop(kind: Kind, scope: &str) -> Stop {
    Stop {
        kind,
        scope: scope.parse().unwrap(),
    }
}

fn id(letter: char) -> String {
    format!("s_{}", letter.to_string().repeat(26))
}

fn set(letter: char, stop: &Stop) -> Batch {
    batch([EntryDraft::of_ledger(StopSet {
        by: None,
        id: id(letter),
        kind: stop.kind,
        reason: Digest::of(b"reason"),
        scope: stop.scope.clone(),
    })])
}

fn lift(letter: char, stop: &Stop) -> Batch {
    batch([EntryDraft::of_ledger(StopLifted {
        by: None,
        id: id(letter),
        kind: stop.kind,
        reason: None,
        scope: stop.scope.clone(),
    })])
}

/// A call's first intent, of a tier.
fn intends(call: &Call, ordinal: u32, tier: Tier) -> Batch {
    let mut batch = call.intends(ordinal, &request("/refunds"), vec![]);
    for entry in &mut batch.entries {
        if let Body::EffectIntent(intent) = &mut entry.body {
            intent.tier = tier;
        }
    }
    batch
}

#[test]
fn an_intent_under_a_stop_is_never_written() {
    for kind in Kind::ALL {
        for (scope, covers) in COVERING
            .map(|scope| (scope, true))
            .into_iter()
            .chain(OTHERS.map(|scope| (scope, false)))
        {
            on_both(|store| {
                let (mut call, stop) = (Call::new(), stop(kind, scope));
                store.commit(batch([call.accepted(vec![])])).unwrap();
                store.commit(intends(&call, 0, Tier::Commit)).unwrap();
                store.commit(set('a', &stop)).unwrap();
                for (ordinal, tier) in (1..).zip(Tier::ALL) {
                    let size = store.reader().unwrap().size().unwrap();
                    let forbidden = covers && (kind == Kind::Kill || tier != Tier::Read);
                    match store.commit(intends(&call, ordinal, tier)) {
                        Ok(_) => assert!(!forbidden, "{stop} {tier}"),
                        Err(StoreError::Stopped(by)) => {
                            assert!(forbidden && by == stop, "{stop} {tier}");
                            assert_eq!(store.reader().unwrap().size().unwrap(), size);
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
                // What is under way ends, whatever is stopped.
                store.commit(batch([call.outcome(0, vec![])])).unwrap();
                store.commit(lift('a', &stop)).unwrap();
                store.commit(intends(&call, 9, Tier::Commit)).unwrap();
            });
        }
    }
}

#[test]
fn nothing_is_sent_again_under_a_stop() {
    for (kind, tier, forbidden) in [
        (Kind::Kill, Tier::Read, true),
        (Kind::Kill, Tier::Commit, true),
        (Kind::SafeMode, Tier::Commit, true),
        (Kind::SafeMode, Tier::Read, false),
    ] {
        on_both(|store| {
            let (call, stop) = (Call::new(), stop(kind, "tool:refunds"));
            store.commit(batch([call.accepted(vec![])])).unwrap();
            let committed = store.commit(intends(&call, 0, tier)).unwrap();
            let again = committed.durable.unwrap().again();
            store.commit(set('a', &stop)).unwrap();
            let retried = Batch {
                entries: vec![call.retried(0, 2, again.request())],
                again: Some(again),
                ..Batch::default()
            };
            match store.commit(retried) {
                Ok(_) => assert!(!forbidden, "{stop} {tier}"),
                Err(StoreError::Stopped(by)) => assert!(forbidden && by == stop, "{stop} {tier}"),
                Err(other) => panic!("{other}"),
            }
        });
    }
}

#[test]
fn a_stop_is_in_force_once_and_lifted_once() {
    on_both(|store| {
        let (kill, safe) = (stop(Kind::Kill, "agent:a"), stop(Kind::SafeMode, "agent:a"));
        store.commit(set('a', &kill)).unwrap();
        store.commit(set('b', &safe)).unwrap();
        let refused = |batch: Batch, why: &str| {
            let error = store.commit(batch).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        refused(set('c', &kill), "in force already");
        refused(lift('b', &kill), "no kill of agent:a of that id");
        store.commit(lift('a', &kill)).unwrap();
        refused(lift('a', &kill), "no kill of agent:a of that id");
        let left = store.reader().unwrap().stops().unwrap();
        assert_eq!(
            left.iter().map(|known| known.stop.clone()).collect::<Vec<_>>(),
            std::slice::from_ref(&safe)
        );
    });
}

#[test]
fn a_stop_survives_a_restart_and_an_audit_finds_one_that_was_taken_away() {
    let home = Home::new();
    let kill = stop(Kind::Kill, "tool:refunds");
    home.open().commit(set('a', &kill)).unwrap();
    let store = home.open();
    assert_eq!(store.reader().unwrap().stops().unwrap()[0].stop, kill);
    let call = Call::new();
    let refused = store.commit(call.begins(&request("/refunds"), vec![])).unwrap_err();
    assert_eq!(refused, StoreError::Stopped(kill.clone()));
    assert!(store.board().enter(&call.id, subject(), 0).is_err());
    drop(store);
    home.verify();
    home.database().execute("DELETE FROM stops", []).unwrap();
    let error = home.reader().verify(home.keys().verifier(), &[], |_| ()).unwrap_err();
    assert!(error.to_string().contains("the stops"), "{error}");
}

fn subject() -> Subject {
    Subject {
        tenant: "tenant-1".into(),
        agent: "agent-1".into(),
        tool: "refunds".into(),
        connections: BTreeSet::from(["stripe".to_owned()]),
        run: None,
    }
}

/// The leave that a committed intent gives is void once a kill came after it, also one that was lifted since.
#[test]
fn a_durable_intent_is_void_after_a_kill() {
    for kind in Kind::ALL {
        on_both(|store| {
            let (call, stop) = (Call::new(), stop(kind, "agent:agent-1"));
            let _entered = store.board().enter(&call.id, subject(), 0).unwrap();
            let begun = store.commit(call.begins(&request("/refunds"), vec![])).unwrap();
            let read = store.commit(intends(&call, 1, Tier::Read)).unwrap();
            let (_, leave) = begun.durable.unwrap().take().unwrap();
            let (_, reads) = read.durable.unwrap().take().unwrap();
            assert!(leave.check().is_ok());
            store.commit(set('a', &stop)).unwrap();
            let void = leave.check().unwrap_err().code;
            match kind {
                Kind::Kill => assert_eq!(void, Code::Killed),
                Kind::SafeMode => assert_eq!(void, Code::SafeMode),
            }
            assert_eq!(reads.check().is_err(), kind == Kind::Kill);
            store.commit(lift('a', &stop)).unwrap();
            assert_eq!(leave.check().is_err(), kind == Kind::Kill);
        });
    }
}

/// Threads that intend as fast as they can, and a kill among them: none of theirs stands after it, and none that was committed
/// beside it keeps its leave.
#[test]
fn a_kill_is_before_or_after_every_intent() {
    const THREADS: usize = 8;
    let home = Home::new();
    let store = home.open();
    let start = Barrier::new(THREADS + 1);
    let (leaves, killed) = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let call = Call::new();
                    let entered = store.board().enter(&call.id, subject(), 0).unwrap();
                    store.commit(batch([call.accepted(vec![])])).unwrap();
                    start.wait();
                    let mut leaves = Vec::new();
                    for ordinal in 0.. {
                        match store.commit(intends(&call, ordinal, Tier::Read)) {
                            Ok(committed) => leaves.push(committed.durable.unwrap().take().unwrap().1),
                            Err(StoreError::Stopped(_)) => break,
                            Err(other) => panic!("{other}"),
                        }
                    }
                    (entered, leaves)
                })
            })
            .collect();
        start.wait();
        thread::sleep(std::time::Duration::from_millis(20));
        let killed = store
            .commit(set('a', &stop(Kind::Kill, "tool:refunds")))
            .unwrap()
            .first_index;
        let leaves: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        (leaves, killed)
    });
    let entries = store.reader().unwrap().entries(0, 1_000_000).unwrap();
    let after = entries
        .iter()
        .filter(|entry| entry.index() > killed && matches!(entry.body(), Body::EffectIntent(_)));
    assert_eq!(after.count(), 0);
    for (_, leaves) in &leaves {
        assert!(!leaves.is_empty() && leaves.iter().all(|leave| leave.check().is_err()));
    }
    drop(leaves);
    drop(store);
    home.verify();
}

#[derive(Clone, Debug)]
enum Act {
    Set(usize),
    Lift(usize),
    Intend(Tier),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let tier = prop_oneof![Just(Tier::Read), Just(Tier::Draft), Just(Tier::Commit)];
    prop::collection::vec(
        prop_oneof![
            (0..20_usize).prop_map(Act::Set),
            (0..20_usize).prop_map(Act::Lift),
            tier.prop_map(Act::Intend),
        ],
        1..40,
    )
}

/// Every kind of stop of every scope here, by number.
fn numbered(number: usize) -> (char, Stop) {
    let scopes: Vec<&str> = COVERING.into_iter().chain(OTHERS).collect();
    let letter = char::from(b"abcdefghijklmnopqrst"[number]);
    (letter, stop(Kind::ALL[number % 2], scopes[number / 2]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Against the simplest account of it: a set of stops, and whether one of them forbids.
    #[test]
    fn whatever_operators_do_no_intent_stands_under_a_stop(acts in acts()) {
        let store = Store::memory(super::super::Keys::generate().unwrap(), StoreOptions::default()).unwrap();
        let call = Call::new();
        store.commit(batch([call.accepted(vec![])])).unwrap();
        let mut in_force: BTreeSet<usize> = BTreeSet::new();
        for (ordinal, act) in (0..).zip(acts) {
            match act {
                Act::Set(number) => {
                    let (letter, stop) = numbered(number);
                    prop_assert_eq!(store.commit(set(letter, &stop)).is_ok(), in_force.insert(number));
                }
                Act::Lift(number) => {
                    let (letter, stop) = numbered(number);
                    prop_assert_eq!(store.commit(lift(letter, &stop)).is_ok(), in_force.remove(&number));
                }
                Act::Intend(tier) => {
                    // The first ten are of scopes that the call is in; the even ones are kills.
                    let forbidden = in_force.iter().any(|number| *number < 10 && (number % 2 == 0 || tier != Tier::Read));
                    prop_assert_eq!(store.commit(intends(&call, ordinal, tier)).is_err(), forbidden);
                }
            }
        }
    }
}

#[test]
fn a_call_is_suspended_while_it_is_under_way_and_nothing_of_it_is() {
    on_both(|store| {
        let call = Call::new();
        let suspended = || {
            let body = CallSuspended { before: None, fuel: 9 };
            store.commit(batch([call.draft(body)])).map(drop)
        };
        let refused = |why: &str| {
            let error = suspended().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        refused("is not under way");
        store.commit(batch([call.accepted(vec![])])).unwrap();
        suspended().unwrap();
        store.commit(call.intends(0, &request("/x"), vec![])).unwrap();
        refused("intent without an outcome");
    });
}

#[test]
fn a_call_is_paused_while_it_is_under_way_and_nothing_of_it_is() {
    on_both(|store| {
        let safe = stop(Kind::SafeMode, "everything");
        let call = Call::new();
        let paused = || {
            store.commit(batch([call.draft(CallPaused {
                asked: None,
                ordinal: 1,
                stop: id('a'),
            })]))
        };
        let refused = |result: Result<_, StoreError>, why: &str| {
            let error = result.map(|_: crate::store::Committed| ()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        store.commit(set('a', &safe)).unwrap();
        refused(paused(), "is not under way");
        store.commit(batch([call.accepted(vec![])])).unwrap();
        paused().unwrap();
        store.commit(lift('a', &safe)).unwrap();
        store.commit(call.intends(0, &request("/x"), vec![])).unwrap();
        refused(paused(), "intent without an outcome");
    });
}
