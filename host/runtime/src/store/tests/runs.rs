//! Runs in the books: who may be part of one, until when, and how much they may use.

use std::thread;

use ambit_core::ledger::body::{Doubt, Outcome, RunCap, RunDegraded, RunEnded, RunStarted, Settlement};
use ambit_core::ledger::{Body, EntryDraft};
use ambit_core::money::Account;
use ambit_core::run::RunError;

use super::super::{Batch, Faults, Store, StoreError};
use super::fixture::{Call, Home, Time, batch, request, reserve_in};
use super::holds::{enrolled, key, vote};

const RUN: &str = "r_aaaaaaaaaaaaaaaaaaaaaaaaaa";
/// 2026-11-21T12:00:00Z
const NOON: i64 = 1_795_262_400_000;
const HOUR: i64 = 3_600_000;
/// What a call of the fixture's may use, and so reserves.
const FUEL: u64 = 1_000_000_000;

/// Both kinds of store, at noon.
fn stores(test: impl Fn(&Time, &Store)) {
    let (home, time) = (Home::new(), Time::at(NOON));
    test(&time, &home.try_open(time.options(), Faults::none()).unwrap());
    home.verify();
    let time = Time::at(NOON);
    test(&time, &Store::memory(home.keys(), time.options()).unwrap());
}

fn cap(cap: u64, unit: &str) -> RunCap {
    let unit = unit.parse().unwrap();
    RunCap { cap, over: None, unit }
}

/// Starts a run of an hour.
fn start(store: &Store, caps: Vec<RunCap>) {
    let started = Call::new().run(RUN, NOON + HOUR, caps);
    store.commit(batch([EntryDraft::of_ledger(started)])).unwrap();
}

fn end() -> Batch {
    batch([EntryDraft::of_ledger(RunEnded {
        by: None,
        run: RUN.into(),
    })])
}

fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> RunError {
    match result {
        Err(StoreError::Run { run, why }) => {
            assert_eq!(run, RUN);
            why
        }
        other => panic!("{other:?}"),
    }
}

fn contradicts<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Batch { why }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_begins_in_a_run_that_is_there_and_open() {
    stores(|time, store| {
        let accepted = || batch([Call::new().accepted_in(RUN, vec![])]);
        assert_eq!(refused(store.commit(accepted())), RunError::Unknown);
        start(store, vec![]);
        store.commit(accepted()).unwrap();
        let mut other = Call::new().accepted_in(RUN, vec![]);
        other.principal.as_mut().unwrap().user = Some("ann".into());
        assert_eq!(refused(store.commit(batch([other]))), RunError::Another);
        time.set(NOON + HOUR);
        assert_eq!(refused(store.commit(accepted())), RunError::Expired);
        assert_eq!(refused(store.commit(end())), RunError::Expired);
    });
}

#[test]
fn what_is_under_way_when_a_run_ends_finishes_and_begins_nothing() {
    stores(|_, store| {
        start(store, vec![]);
        let mut call = Call::new();
        store.commit(batch([call.accepted_in(RUN, vec![])])).unwrap();
        let sent = request("/v1/refunds");
        store.commit(call.intends(1, &sent, vec![])).unwrap();
        store.commit(end()).unwrap();
        assert_eq!(refused(store.commit(end())), RunError::Ended);
        assert_eq!(refused(store.commit(call.intends(2, &sent, vec![]))), RunError::Ended);
        store.commit(batch([call.outcome(1, vec![])])).unwrap();
        store.commit(batch([call.finished(vec![])])).unwrap();
        let run = store.reader().unwrap().run(RUN).unwrap().unwrap();
        assert_eq!((run.ended, run.finished, run.failed), (true, 2, 0));
        assert!(store.reader().unwrap().run_calls().unwrap().is_empty());
    });
}

#[test]
fn what_is_in_doubt_is_not_sent_again_in_a_run_that_has_ended() {
    stores(|_, store| {
        start(store, vec![]);
        let mut call = Call::new();
        store.commit(batch([call.accepted_in(RUN, vec![])])).unwrap();
        let sent = store.commit(call.intends(1, &request("/v1/refunds"), vec![])).unwrap();
        let again = sent.durable.unwrap().again();
        store.commit(batch([call.in_doubt(1)])).unwrap();
        store.commit(end()).unwrap();
        let mut entry = call.retried(1, 2, again.request());
        if let Body::EffectRetried(body) = &mut entry.body {
            body.after = Outcome::InDoubt(Doubt::Restart);
        }
        let once_more = Batch {
            again: Some(again),
            ..batch([entry])
        };
        assert_eq!(refused(store.commit(once_more)), RunError::Ended);
        store.commit(batch([call.resolved(1, vec![])])).unwrap();
        store.commit(batch([call.finished(vec![])])).unwrap();
    });
}

#[test]
fn a_run_is_started_once_and_for_a_month_at_most() {
    stores(|_, store| {
        let started = |until: i64| {
            let run: RunStarted = Call::new().run(RUN, until, vec![]);
            store.commit(batch([EntryDraft::of_ledger(run)]))
        };
        for until in [NOON - 1, NOON] {
            assert_eq!(refused(started(until)), RunError::Expired, "{until}");
        }
        assert!(contradicts(started(NOON + 32 * 24 * HOUR)).contains("31 days"));
        started(NOON + 31 * 24 * HOUR).unwrap();
        assert!(contradicts(started(NOON + HOUR)).contains("was started already"));
    });
}

/// Accepts a call that takes of the run's fuel.
fn fuelled(store: &Store) -> Option<Call> {
    let call = Call::new();
    let window = format!("fuel run {RUN}");
    let reserved = reserve_in(&window, "run/fuel", FUEL, 400 * FUEL + 6);
    match store.commit(batch([call.accepted_in(RUN, vec![reserved])])) {
        Ok(_) => Some(call),
        Err(StoreError::Budget { name, .. }) => {
            assert_eq!(name, "run/fuel");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn settled(amount: u64) -> Vec<Settlement> {
    vec![Settlement {
        amount,
        budget: "run/fuel".into(),
        window: format!("fuel run {RUN}"),
    }]
}

#[test]
fn a_thousand_spenders_spend_what_their_run_has_and_no_more() {
    stores(|_, store| {
        start(store, vec![cap(400 * FUEL + 6, "fuel")]);
        let account = |used, reserved| {
            let states = store.reader().unwrap().budgets().unwrap();
            assert_eq!(states.len(), 1);
            assert_eq!(states[0].account, Account { used, reserved });
        };
        let thousand = || -> Vec<Call> {
            thread::scope(|scope| {
                let spenders: Vec<_> = (0..1000).map(|_| scope.spawn(|| fuelled(store))).collect();
                let joined = spenders.into_iter().filter_map(|spender| spender.join().unwrap());
                joined.collect()
            })
        };
        let mut calls = thousand();
        assert_eq!(calls.len(), 400);
        account(0, 400 * FUEL);
        // Half of them use 3 of it, the others nothing: what they didn't is free again, to the last unit.
        let end = |calls: &mut [Call], used: &(dyn Fn(usize) -> u64 + Sync)| {
            thread::scope(|scope| {
                for (number, call) in calls.iter_mut().enumerate() {
                    scope.spawn(move || {
                        store.commit(batch([call.finished(settled(used(number)))])).unwrap();
                    });
                }
            });
        };
        end(&mut calls, &|number| if number % 2 == 0 { 3 } else { 0 });
        account(600, 0);
        let mut calls = thousand();
        assert_eq!(calls.len(), 399);
        end(&mut calls, &|_| FUEL);
        account(600 + 399 * FUEL, 0);
        assert!(fuelled(store).is_none());
    });
}

#[test]
fn what_a_run_limits_is_reserved_in_it_and_nowhere_else() {
    stores(|_, store| {
        start(store, vec![cap(5, "calls"), cap(3, "effects")]);
        let calls = |run: &str, cap| reserve_in(&format!("calls run {run}"), "run/calls", 1, cap);
        let accept = |reserved| store.commit(batch([Call::new().accepted_in(RUN, reserved)]));
        let limits = "does not reserve what the limits of its run say";
        assert!(contradicts(accept(vec![])).contains(limits));
        assert!(contradicts(accept(vec![calls(RUN, 6)])).contains(limits));
        let unknown = reserve_in(&format!("fuel run {RUN}"), "run/fuel", 1, 5);
        assert!(contradicts(accept(vec![calls(RUN, 5), unknown])).contains(limits));
        let other = "r_bbbbbbbbbbbbbbbbbbbbbbbbbb";
        assert!(contradicts(accept(vec![calls(other, 5)])).contains("not its own"));
        // A call outside of runs is in no window of one.
        let outside = batch([Call::new().accepted(vec![reserve_in(&format!("calls run {RUN}"), "b", 1, 5)])]);
        assert!(contradicts(store.commit(outside)).contains("not its own"));
        let outside = batch([Call::new().accepted(vec![calls(RUN, 5)])]);
        assert!(contradicts(store.commit(outside)).contains(limits));

        let call = Call::new();
        store
            .commit(batch([call.accepted_in(RUN, vec![calls(RUN, 5)])]))
            .unwrap();
        let sent = request("/v1/refunds");
        assert!(contradicts(store.commit(call.intends(1, &sent, vec![]))).contains(limits));
        let effect = reserve_in(&format!("effects run {RUN}"), "run/effects", 1, 3);
        store.commit(call.intends(1, &sent, vec![effect])).unwrap();
    });
}

#[test]
fn a_run_degrades_in_the_transaction_of_the_failure_that_is_too_much() {
    stores(|_, store| {
        start(store, vec![]);
        let mut calls: Vec<Call> = (0..5).map(|_| Call::new()).collect();
        for call in &calls {
            store.commit(batch([call.accepted_in(RUN, vec![])])).unwrap();
        }
        let said = |failed, finished| {
            let body = RunDegraded {
                failed,
                finished,
                run: RUN.into(),
            };
            batch([EntryDraft::of_ledger(body)])
        };
        assert!(contradicts(store.commit(said(3, 4))).contains("has not"));
        let last = calls.pop().unwrap();
        for (number, call) in calls.iter_mut().enumerate() {
            let committed = store.commit(batch([call.failed()])).unwrap();
            assert_eq!(committed.entries, if number == 3 { 2 } else { 1 });
        }
        let size = store.reader().unwrap().size().unwrap();
        let entry = store.reader().unwrap().entry(size - 1).unwrap();
        assert!(matches!(entry.body(), Body::RunDegraded(body) if (body.failed, body.finished) == (4, 4)));
        // It is said once, and what follows is held to it.
        assert!(contradicts(store.commit(said(4, 4))).contains("has not"));
        let sent = request("/v1/refunds");
        assert_eq!(
            refused(store.commit(last.intends(1, &sent, vec![]))),
            RunError::Degraded
        );
        store.commit(batch([Call::new().accepted_in(RUN, vec![])])).unwrap();
    });
}

#[test]
fn a_cap_is_passed_by_the_hold_that_ends_with_the_intent() {
    stores(|_, store| {
        let call = Call::new();
        let mut held = call.held(1, b"hold", u64::try_from(NOON + HOUR).unwrap());
        if let Body::EffectHeld(held) = &mut held.body {
            held.over.push("b".into());
        }
        store.commit(batch([call.accepted(vec![]), held])).unwrap();
        let over = |hold: Option<&[u8]>| {
            let mut passes = call.passes(1, b"hold");
            let mut reserved = reserve_in("effects day", "b", 7, 5);
            reserved.over = hold.map(ambit_core::digest::Digest::of);
            if let Some(Body::EffectIntent(intent)) = passes.entries.first_mut().map(|entry| &mut entry.body) {
                intent.reserved.push(reserved);
            }
            store.commit(passes)
        };
        store.commit(enrolled("ann")).unwrap();
        let yes = vote(&key("ann"), b"hold");
        store.commit(batch([call.voted(1, b"hold", yes)])).unwrap();
        assert!(matches!(over(None), Err(StoreError::Budget { .. })));
        assert!(contradicts(over(Some(b"another"))).contains("by a hold that does not end with it"));
        over(Some(b"hold")).unwrap();
        let states = store.reader().unwrap().budgets().unwrap();
        assert_eq!((states[0].cap, states[0].account.reserved), (5, 7));
    });
}

#[test]
fn what_stands_beside_the_entries_of_a_run_is_checked() {
    let home = Home::new();
    let time = Time::at(NOON);
    let store = home.try_open(time.options(), Faults::none()).unwrap();
    start(&store, vec![]);
    store.commit(batch([Call::new().accepted_in(RUN, vec![])])).unwrap();
    drop(store);
    home.verify();
    let database = home.database();
    let wrong = |sql: &str, back: &str, what: &str| {
        database.execute_batch(sql).unwrap();
        let error = home.try_verify().unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        database.execute_batch(back).unwrap();
        home.verify();
    };
    wrong(
        "UPDATE runs SET state = replace(state, '\"ended\":false', '\"ended\":true')",
        "UPDATE runs SET state = replace(state, '\"ended\":true', '\"ended\":false')",
        "the runs stored beside the ledger",
    );
    wrong(
        "CREATE TEMP TABLE kept AS SELECT * FROM run_calls; DELETE FROM run_calls",
        "INSERT INTO run_calls SELECT * FROM kept",
        "the runs of calls under way",
    );
}
