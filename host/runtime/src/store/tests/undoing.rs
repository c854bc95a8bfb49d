//! What was undone: each effect once, by the one rollback of its call that is under way.

use std::time::{Duration, Instant};

use ambit_core::ledger::Body;
use ambit_core::ledger::body::{Answered, By, Found, Outcome};

use super::super::{Again, Batch, Store, StoreOptions};
use super::fixture::{Call, Home, batch, request};

/// A store of each kind, which must behave alike.
fn check(test: impl Fn(&Store)) {
    let home = Home::new();
    test(&home.open());
    home.verify();
    test(&Store::memory(home.keys(), StoreOptions::default()).unwrap());
}

/// A call of two effects that were done.
fn two(store: &Store) -> Call {
    let mut call = Call::new();
    store.commit(call.begins(&request("/v1/refunds"), vec![])).unwrap();
    store.commit(batch([call.outcome(0, vec![])])).unwrap();
    store.commit(call.intends(1, &request("/v1/refunds"), vec![])).unwrap();
    let ended = call.outcome(1, vec![]);
    store.commit(batch([ended, call.finished(vec![])])).unwrap();
    call
}

/// A rollback of a call that has begun.
fn rollback(store: &Store, by: By, call: &Call) -> Call {
    let rollback = Call::new();
    store.commit(batch([rollback.accepted_to_undo(by, &call.id)])).unwrap();
    rollback
}

fn refused(result: Result<super::super::Committed, super::super::StoreError>, why: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn an_effect_is_taken_back_once() {
    check(|store| {
        let call = two(store);
        let mut by = rollback(store, By::Routes, &call);
        store.commit(by.takes_back(0, &call.id, 1)).unwrap();
        refused(store.commit(by.takes_back(1, &call.id, 1)), "was taken back before");
        refused(store.commit(by.takes_back(1, &by.id.clone(), 0)), "does not roll back");
        let mut failed = by.outcome(0, vec![]);
        if let Body::EffectOutcome(body) = &mut failed.body {
            body.outcome = Outcome::Answered(Answered { status: 409 });
        }
        store.commit(batch([failed])).unwrap();
        // It took nothing back: the next may.
        store.commit(by.takes_back(1, &call.id, 1)).unwrap();
        store.commit(batch([by.in_doubt(1)])).unwrap();
        refused(store.commit(by.takes_back(2, &call.id, 1)), "or may have been");
        let mut not_done = by.resolved(1, vec![]);
        if let Body::EffectResolved(body) = &mut not_done.body {
            body.found = Found::NotDone;
        }
        store.commit(batch([not_done])).unwrap();
        store.commit(by.takes_back(2, &call.id, 1)).unwrap();
        let done = by.outcome(2, vec![]);
        let ended = Call::ended_to_undo(by.finished(vec![]), By::Routes, &call.id);
        store.commit(batch([done, ended])).unwrap();
        let next = rollback(store, By::Routes, &call);
        refused(store.commit(next.takes_back(0, &call.id, 1)), "was taken back before");
        assert_eq!(
            store.reader().unwrap().rollbacks_of(&call.id).unwrap(),
            [by.id.clone(), next.id]
        );
    });
}

/// How what takes an effect back ended, and whether another may.
fn declined(store: &Store, ends: &[u16], free: bool) {
    let call = two(store);
    let mut by = rollback(store, By::Routes, &call);
    for nth in [0, 1] {
        let intent = by.takes_back(nth, &call.id, nth);
        let Some(Body::EffectIntent(intended)) = intent.entries.first().map(|entry| entry.body.clone()) else {
            unreachable!()
        };
        let recorded = intent.payloads.last().cloned().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let sent = Again::recorded(&by.id, &intended, &recorded, request("/back"), deadline).unwrap();
        store.commit(intent).unwrap();
        let (last, earlier) = ends.split_last().unwrap();
        for (attempt, status) in (2..).zip(earlier) {
            let mut again = by.retried(nth, attempt, sent.request());
            if let Body::EffectRetried(body) = &mut again.body {
                body.after = Outcome::Answered(Answered { status: *status });
            }
            let again = Batch {
                again: Some(sent.clone()),
                ..batch([again])
            };
            store.commit(again).unwrap();
        }
        let mut ended = by.outcome(nth, vec![]);
        if let Body::EffectOutcome(body) = &mut ended.body {
            body.outcome = Outcome::Answered(Answered { status: *last });
            body.attempts = u32::try_from(ends.len()).unwrap();
        }
        store.commit(batch([ended])).unwrap();
    }
    for nth in [0, 1] {
        let again = store.commit(by.takes_back(2 + nth, &call.id, nth));
        match free {
            true => drop(again.unwrap()),
            false => refused(again, "or may have been"),
        }
    }
}

#[test]
fn an_effect_is_free_where_nothing_of_it_can_have_happened() {
    check(|store| {
        for (ends, free) in [
            (&[409][..], true),
            (&[408], false),
            (&[504], false),
            (&[429, 409], true),
            (&[503, 409], false),
            (&[503, 429, 503, 409], false),
        ] {
            declined(store, ends, free);
        }
    });
}

#[test]
fn a_call_has_one_rollback_at_a_time() {
    check(|store| {
        let begins = |by, call: &str| store.commit(batch([Call::new().accepted_to_undo(by, call)]));
        let mut open = Call::new();
        store.commit(open.begins(&request("/v1/refunds"), vec![])).unwrap();
        refused(begins(By::Routes, &open.id), "has not ended");
        let ended = open.outcome(0, vec![]);
        store.commit(batch([ended, open.finished(vec![])])).unwrap();
        let first = rollback(store, By::Routes, &open);
        refused(begins(By::Routes, &open.id), "is being undone");
        let ends = |draft, by| store.commit(batch([Call::ended_to_undo(draft, by, &open.id)])).unwrap();
        ends(first.failed(), By::Routes);
        refused(begins(By::Routes, &first.id), "is a rollback itself");
        let second = rollback(store, By::Function, &open);
        ends(second.failed(), By::Function);
        let third = rollback(store, By::Function, &open);
        ends(third.finished(vec![]), By::Function);
        refused(begins(By::Function, &open.id), "was undone");
        refused(begins(By::Routes, &open.id), "was undone");
    });
}
