//! What is committed is there, once, in order, and proves itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ambit_core::digest::Digest;
use ambit_core::ledger::body::{Answered, DeadLetterDropped, Doubt, Dropped, Outcome, Shown};
use ambit_core::ledger::{Body, Checkpoint, EntryDraft, Kind, Receipt, merkle};

use super::super::{
    Again, Batch, CallFilter, Faults, Intent, Payload, Store, StoreError, StoreOptions, TranscriptRow, Work,
};
use super::fixture::{Call, Home, batch, note, request, send};

/// A store of each kind, which must behave alike.
fn check(test: impl Fn(&Store)) {
    let home = Home::new();
    test(&home.open());
    home.verify();
    test(&Store::memory(home.keys(), StoreOptions::default()).unwrap());
}

#[test]
fn a_call_from_its_beginning_to_its_receipt() {
    check(|store| {
        let mut call = Call::new();
        let args = Payload::new(&call.id, "args", br#"{"charge":"ch_1"}"#.to_vec()).unwrap();
        let row = TranscriptRow {
            call: call.id.clone(),
            step: 0,
            kind: "effect".into(),
            effect: Some(Digest::of(b"effect")),
            payload: Some("args".into()),
        };
        let request = request("/v1/refunds");
        let accepted = store.commit(batch([call.accepted(vec![])])).unwrap();
        let mut intent = call.intends(0, &request, vec![]);
        intent.payloads.push(args.clone());
        intent.transcript.push(row.clone());
        let intended = store.commit(intent).unwrap();
        let durable = intended.durable.unwrap();
        assert_eq!((accepted.first_index, durable.index()), (1, 2));
        assert_eq!(durable.take().unwrap().0.digest(), request.digest());
        let ended = store
            .commit(batch([call.outcome(0, vec![]), call.finished(vec![])]))
            .unwrap();
        assert_eq!((ended.first_index, ended.entries), (3, 2));
        assert!(ended.durable.is_none());

        let reader = store.reader().unwrap();
        assert_eq!(reader.size().unwrap(), 5);
        assert_eq!(
            reader.payload(&call.id, "args").unwrap().unwrap().commitment(),
            args.commitment()
        );
        assert_eq!(store.payload(&call.id, "args").unwrap().unwrap().bytes(), args.bytes());
        assert_eq!(
            reader
                .payload(&call.id, "result")
                .unwrap()
                .map(|payload| payload.commitment()),
            None
        );
        assert_eq!(reader.payload_names(&call.id).unwrap(), ["effect/0/request", "args"]);
        assert_eq!(reader.transcript(&call.id).unwrap(), [row]);
        assert_eq!(reader.unfinished().unwrap(), []);
        reader.verify(store.verifier(), &[], |_| ()).unwrap();
        let receipt = reader.receipt(&call.id, store.verifier()).unwrap().to_json().unwrap();
        assert_eq!(Receipt::verify(&receipt, store.verifier()).unwrap().entry.index(), 4);
    });
}

#[test]
fn a_ledger_opens_with_its_key() {
    check(|store| {
        let first = store.reader().unwrap().entry(0).unwrap();
        let Body::LedgerOpened(opened) = first.body() else {
            panic!("{first:?}")
        };
        assert_eq!(opened.key, store.verifier().to_string());
    });
}

#[test]
fn what_is_reported_is_under_a_signed_checkpoint() {
    let home = Home::new();
    let store = home.open();
    let committed = store
        .commit(batch([Call::new().accepted(vec![]), Call::new().accepted(vec![])]))
        .unwrap();
    let checkpoint = Checkpoint::parse_verified(&committed.checkpoint.unwrap(), store.verifier()).unwrap();
    assert_eq!(checkpoint.size(), committed.first_index + committed.entries);
}

#[test]
fn many_callers_share_the_ledger_and_nothing_else() {
    let home = Home::new();
    let store = home.open();
    let indices: Vec<u64> = thread::scope(|scope| {
        let caller = || {
            let whole = |_| store.commit(Call::new().whole()).unwrap();
            (0..20)
                .map(whole)
                .flat_map(|done| [done.first_index, done.first_index + 1])
                .collect::<Vec<_>>()
        };
        let callers: Vec<_> = (0..50).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    let mut sorted = indices;
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=2000).collect::<Vec<_>>());
    let verified = home.reader().verify(store.verifier(), &[], |_| ()).unwrap();
    assert_eq!((verified.size, verified.calls), (2001, 1000));
    assert!(verified.checkpoints < 2001, "no two callers ever shared a commit");
}

#[test]
fn a_batch_that_fails_takes_nothing_with_it() {
    check(|store| {
        let open = Call::new();
        store.commit(batch([open.accepted(vec![])])).unwrap();
        let size = store.reader().unwrap().size().unwrap();
        let failed = |batch: Batch| {
            let refused = store.commit(batch).unwrap_err();
            assert!(matches!(refused, StoreError::Batch { .. }), "{refused}");
            assert_eq!(store.reader().unwrap().size().unwrap(), size);
        };
        // The first entry of each is sound.
        let (call, mut other) = (Call::new(), Call::new());
        failed(batch([call.accepted(vec![]), call.accepted(vec![])]));
        failed(batch([call.accepted(vec![]), open.accepted(vec![])]));
        failed(batch([call.accepted(vec![]), other.outcome(0, vec![])]));
        failed(batch([call.accepted(vec![]), other.finished(vec![])]));
        store.commit(call.whole()).unwrap();
    });
}

#[test]
fn a_call_finishes_after_its_effects() {
    check(|store| {
        let (mut call, request) = (Call::new(), request("/v1/refunds"));
        store.commit(call.begins(&request, vec![])).unwrap();
        let work = |ordinal| Work {
            call: call.id.clone(),
            ordinal,
        };
        let open: Vec<_> = store
            .reader()
            .unwrap()
            .unfinished()
            .unwrap()
            .into_iter()
            .map(|open| open.work)
            .collect();
        assert_eq!(open, [work(None), work(Some(0))]);
        assert!(store.commit(batch([call.finished(vec![])])).is_err());
        store.commit(batch([call.outcome(0, vec![])])).unwrap();
        assert!(
            store.commit(batch([Call::numbered(0).outcome(0, vec![])])).is_err(),
            "an outcome of nothing"
        );
        store.commit(batch([call.finished(vec![])])).unwrap();
        assert_eq!(store.reader().unwrap().unfinished().unwrap(), []);
    });
}

#[test]
fn what_has_ended_is_read_back_while_its_call_goes_on() {
    check(|store| {
        let (mut call, request) = (Call::new(), request("/v1/refunds"));
        store.commit(call.begins(&request, vec![])).unwrap();
        let early = Call::numbered(0).checked(0, Shown::Shown);
        assert!(store.commit(batch([early])).is_err(), "another call's");
        let mut same = call.clone();
        assert!(
            store.commit(batch([same.checked(0, Shown::Shown)])).is_err(),
            "it is under way"
        );
        store.commit(batch([call.outcome(0, vec![])])).unwrap();
        store.commit(batch([call.checked(0, Shown::Missing)])).unwrap();
        store.commit(batch([call.finished(vec![])])).unwrap();
        let mut late = call.clone();
        assert!(
            store.commit(batch([late.checked(0, Shown::Shown)])).is_err(),
            "it is over"
        );
    });
}

#[test]
fn a_doubt_ends_once() {
    check(|store| {
        let (mut call, request) = (Call::new(), request("/v1/refunds"));
        store.commit(call.begins(&request, vec![])).unwrap();
        assert!(
            store.commit(batch([call.resolved(0, vec![])])).is_err(),
            "it is under way"
        );
        store.commit(batch([call.in_doubt(0)])).unwrap();
        let doubts = || -> Vec<Option<u32>> {
            let doubts = store.reader().unwrap().doubts().unwrap();
            doubts.into_iter().map(|(work, _)| work.ordinal).collect()
        };
        assert_eq!(doubts(), [Some(0)]);
        store.commit(batch([call.finished(vec![])])).unwrap();
        assert!(store.commit(batch([call.resolved(1, vec![])])).is_err());
        store.commit(batch([call.resolved(0, vec![])])).unwrap();
        assert_eq!(doubts(), []);
        assert!(store.commit(batch([call.resolved(0, vec![])])).is_err(), "it was said");
    });
}

#[test]
fn trap_13_only_what_is_on_the_ledger_may_leave() {
    check(|store| {
        let call = Call::new();
        store.commit(batch([call.accepted(vec![])])).unwrap();
        let (one, other) = (request("/v1/refunds"), request("/v1/charges"));
        let refused = |change: &dyn Fn(&mut Batch)| {
            let mut batch = call.intends(0, &one, vec![]);
            change(&mut batch);
            let refused = store.commit(batch).unwrap_err();
            assert!(matches!(refused, StoreError::Batch { .. }), "{refused}");
        };
        refused(&|batch| batch.intent = Some(send(other.clone())));
        refused(&|batch| batch.intent = None);
        refused(&|batch| batch.entries.clear());
        refused(&|batch| batch.payloads.clear());
        refused(&|batch| batch.payloads = call.intends(0, &other, vec![]).payloads);
        refused(&|batch| batch.entries.extend(call.intends(1, &one, vec![]).entries));
        store.commit(call.intends(0, &one, vec![])).unwrap();
    });
}

#[test]
fn what_is_sent_again_is_what_was_intended_while_it_is_under_way() {
    check(|store| {
        let (mut call, one, other) = (Call::new(), request("/v1/refunds"), Call::new());
        let durable = store.commit(call.begins(&one, vec![])).unwrap().durable.unwrap();
        store.commit(other.begins(&one, vec![])).unwrap();
        let again = durable.again();
        let batch_of = |entry| Batch {
            again: Some(again.clone()),
            ..batch([entry])
        };
        let refused = |batch: Batch| {
            let refused = store.commit(batch).unwrap_err();
            assert!(matches!(refused, StoreError::Batch { .. }), "{refused}");
        };
        let same = again.request();
        refused(batch_of(call.retried(0, 2, Digest::of(b"another request"))));
        refused(batch_of(call.retried(1, 2, same)));
        refused(batch_of(other.retried(0, 2, same)));
        refused(batch([call.retried(0, 2, same)]));
        refused(Batch {
            intent: Some(send(one.clone())),
            ..batch_of(call.retried(0, 2, same))
        });
        let once_more = store.commit(batch_of(call.retried(0, 2, same))).unwrap();
        assert!(once_more.durable.is_some());
        let mut ended = call.outcome(0, vec![]);
        if let Body::EffectOutcome(body) = &mut ended.body {
            body.attempts = 2;
        }
        store.commit(batch([ended])).unwrap();
        refused(batch_of(call.retried(0, 3, same)));
    });
}

#[test]
fn what_nobody_saw_the_end_of_is_under_way_again_once() {
    check(|store| {
        let (mut call, one) = (Call::new(), request("/v1/refunds"));
        let begun = call.begins(&one, vec![]);
        let recorded = begun.payloads.last().cloned().unwrap();
        let Some(Body::EffectIntent(intent)) = begun.entries.last().map(|entry| entry.body.clone()) else {
            unreachable!()
        };
        drop(store.commit(begun).unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        let of = |recorded: &Payload, request| Again::recorded(&call.id, &intent, recorded, request, deadline);
        assert!(of(&recorded, request("/v1/charges")).is_err(), "another request");
        let other = Payload::new(&*call.id, "other", recorded.bytes().to_vec()).unwrap();
        assert!(of(&other, one.clone()).is_err(), "not what the intent commits to");
        let again = of(&recorded, one).unwrap();
        let batch_of = |entry| Batch {
            again: Some(again.clone()),
            ..batch([entry])
        };
        store.commit(batch([call.in_doubt(0)])).unwrap();
        let (doubts, under_way) = (
            || store.reader().unwrap().doubts().unwrap().len(),
            || store.reader().unwrap().under_way().unwrap().len(),
        );
        assert_eq!((doubts(), under_way()), (1, 0));
        let mut after_an_answer = call.retried(0, 2, again.request());
        let after_restart = |call: &Call, attempt| {
            let mut entry = call.retried(0, attempt, again.request());
            if let Body::EffectRetried(body) = &mut entry.body {
                body.after = Outcome::InDoubt(Doubt::Restart);
            }
            entry
        };
        if let Body::EffectRetried(body) = &mut after_an_answer.body {
            body.after = Outcome::Answered(Answered { status: 503 });
        }
        assert!(store.commit(batch_of(after_an_answer)).is_err(), "it is not under way");
        assert!(
            store
                .commit(batch_of(after_restart(&call, 2)))
                .unwrap()
                .durable
                .is_some()
        );
        assert_eq!((doubts(), under_way()), (0, 1));
        assert!(
            store.commit(batch([call.resolved(0, vec![])])).is_err(),
            "it is under way"
        );
        let mut ended = call.in_doubt(0);
        if let Body::EffectOutcome(body) = &mut ended.body {
            body.attempts = 2;
        }
        store.commit(batch([ended])).unwrap();
        store.commit(batch([call.resolved(0, vec![])])).unwrap();
        assert!(
            store.commit(batch_of(after_restart(&call, 3))).is_err(),
            "it is known what became of it"
        );
    });
}

#[test]
fn a_dead_letter_is_taken_once() {
    check(|store| {
        let (mut call, mut again) = (Call::new(), Call::new());
        store.commit(call.begins(&request("/v1/refunds"), vec![])).unwrap();
        let dead = call.dead(0, 1);
        let to_retry = again.accepted_to_retry((&call.id, 0));
        store.commit(batch([dead, to_retry])).unwrap();
        let dropped = || {
            EntryDraft::of_ledger(DeadLetterDropped {
                call: call.id.clone(),
                ordinal: 0,
                why: Dropped::Unneeded,
            })
        };
        let letters = || store.reader().unwrap().dead_letters(None, 10).unwrap().len();
        assert_eq!(letters(), 1);
        store.commit(again.redelivers(0, (&call.id, 0))).unwrap();
        assert_eq!(letters(), 0);
        let twice = store.commit(again.redelivers(1, (&call.id, 0))).unwrap_err();
        assert!(twice.to_string().contains("no dead letter"), "{twice}");
        let twice = store.commit(batch([dropped()])).unwrap_err();
        assert!(twice.to_string().contains("no dead letter"), "{twice}");
        store.commit(batch([again.outcome(0, vec![])])).unwrap();
    });
}

#[test]
fn leave_expires() {
    check(|store| {
        let (mut call, request) = (Call::new(), request("/v1/refunds"));
        let mut late = call.begins(&request, vec![]);
        late.intent = Some(Intent {
            request,
            deadline: Instant::now(),
        });
        let durable = store.commit(late).unwrap().durable.unwrap();
        let index = durable.index();
        assert_eq!(durable.take().unwrap_err(), StoreError::Expired { index });
        store
            .commit(batch([call.outcome(0, vec![]), call.finished(vec![])]))
            .unwrap();
    });
}

#[test]
fn time_never_goes_back() {
    let home = Home::new();
    let clock = Arc::new(AtomicI64::new(5_000));
    let read = Arc::clone(&clock);
    let options = || StoreOptions {
        clock: {
            let read = Arc::clone(&read);
            Arc::new(move || read.load(Ordering::Relaxed))
        },
        ..StoreOptions::default()
    };
    let store = home.try_open(options(), Faults::none()).unwrap();
    clock.store(4_000, Ordering::Relaxed);
    assert_eq!(store.commit(note()).unwrap().time_ms, 5_000);
    drop(store);
    clock.store(3_000, Ordering::Relaxed);
    let store = home.try_open(options(), Faults::none()).unwrap();
    store.commit(note()).unwrap();
    clock.store(6_000, Ordering::Relaxed);
    store.commit(note()).unwrap();
    let stamps = store.reader().unwrap().entries(0, 10).unwrap();
    let stamps: Vec<_> = stamps
        .iter()
        .map(|entry| (entry.time_ms(), entry.stamp().clock_ms()))
        .collect();
    assert_eq!(
        stamps,
        [(5_000, None), (5_000, Some(4_000)), (5_000, Some(3_000)), (6_000, None)]
    );
    home.verify();
}

#[test]
fn large_payloads_are_files_and_orphans_are_swept() {
    let home = Home::new();
    let files = || std::fs::read_dir(home.path().join("payloads")).unwrap().count();
    let store = home.open();
    let (call, bytes) = (Call::new(), vec![7; 300_000]);
    let payload = |name| Payload::new(&call.id, name, bytes.clone()).unwrap();
    let with = |entries, name| Batch {
        payloads: vec![payload(name)],
        ..batch(entries)
    };
    store.commit(with(vec![call.accepted(vec![])], "args")).unwrap();
    assert_eq!(files(), 1);
    assert!(store.commit(with(vec![call.accepted(vec![])], "again")).is_err());
    assert!(store.commit(with(vec![], "args")).is_err(), "a payload was replaced");
    assert_eq!(files(), 1, "a batch that failed left its file");
    std::fs::write(home.path().join("payloads/orphan"), b"of a crash").unwrap();
    drop(store);
    let store = home.open();
    assert_eq!(files(), 1);
    store.commit(with(vec![call.finished(vec![])], "result")).unwrap();
    assert_eq!(store.payload(&call.id, "args").unwrap().unwrap().bytes(), bytes);
    assert_eq!(
        home.reader().payload(&call.id, "result").unwrap().unwrap().bytes(),
        bytes
    );
}

#[test]
fn a_call_keeps_its_key_over_a_restart() {
    let home = Home::new();
    let call = Call::new();
    let with = |entries, name: &str| Batch {
        payloads: vec![Payload::new(&call.id, name, name.into()).unwrap()],
        ..batch(entries)
    };
    home.open().commit(with(vec![call.accepted(vec![])], "args")).unwrap();
    home.open().commit(with(vec![call.finished(vec![])], "result")).unwrap();
    for name in ["args", "result"] {
        assert_eq!(
            home.reader().payload(&call.id, name).unwrap().unwrap().bytes(),
            name.as_bytes()
        );
    }
    let keys: i64 = home
        .database()
        .query_row("SELECT count(*) FROM data_keys", [], |row| row.get(0))
        .unwrap();
    assert_eq!(keys, 1);
}

#[test]
fn payloads_are_nowhere_in_the_clear() {
    let home = Home::new();
    let (call, secret) = (Call::new(), b"correct horse battery staple");
    let payload = |name, bytes: Vec<u8>| Payload::new(&call.id, name, bytes).unwrap();
    let payloads = vec![payload("args", secret.to_vec()), payload("large", secret.repeat(5_000))];
    home.open()
        .commit(Batch {
            payloads,
            ..call.whole()
        })
        .unwrap();
    let dirs = [home.path().to_owned(), home.path().join("payloads")];
    let files = dirs
        .iter()
        .flat_map(|dir| std::fs::read_dir(dir).unwrap())
        .map(|file| file.unwrap().path());
    for file in files.filter(|path| path.is_file()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(
            !bytes.windows(secret.len()).any(|window| window == secret),
            "{}",
            file.display()
        );
    }
}

#[test]
fn proofs_from_stored_nodes() {
    let home = Home::new();
    let store = home.open();
    thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| (0..10).for_each(|_| drop(store.commit(Call::new().whole()).unwrap())));
        }
    });
    let reader = store.reader().unwrap();
    let checkpoint = Checkpoint::parse_verified(&reader.checkpoint().unwrap(), store.verifier()).unwrap();
    assert_eq!(checkpoint.size(), 601);
    for entry in reader.entries(0, 1_000).unwrap() {
        let proof = reader.inclusion(entry.index(), 601).unwrap();
        merkle::verify_inclusion(&entry.leaf(), entry.index(), 601, &checkpoint.root(), &proof).unwrap();
    }
    assert!(reader.inclusion(601, 601).is_err());
    let mut files = std::collections::BTreeMap::new();
    reader
        .export(store.verifier(), |path, bytes| {
            files.insert(path, bytes);
            Ok::<(), StoreError>(())
        })
        .unwrap();
    let sizes: Vec<_> = files
        .iter()
        .map(|(path, bytes)| (path.as_str(), bytes.len()))
        .filter(|(path, _)| !path.contains("entries"))
        .collect();
    let note = reader.checkpoint().unwrap().len();
    assert_eq!(
        sizes,
        [
            ("checkpoint", note),
            ("tile/0/000", 8192),
            ("tile/0/001", 8192),
            ("tile/0/002.p/89", 89 * 32),
            ("tile/1/000.p/2", 64)
        ]
    );
}

#[test]
fn calls_are_listed_newest_first() {
    check(|store| {
        let calls: Vec<_> = (0..5).map(|_| Call::new()).collect();
        calls.iter().for_each(|call| drop(store.commit(call.whole()).unwrap()));
        let reader = store.reader().unwrap();
        let list = |filter| {
            reader
                .calls(&filter)
                .unwrap()
                .into_iter()
                .map(|call| call.call)
                .collect::<Vec<_>>()
        };
        let ids: Vec<_> = calls.iter().rev().map(|call| call.id.clone()).collect();
        assert_eq!(list(CallFilter::default()), ids);
        assert_eq!(
            list(CallFilter {
                limit: Some(2),
                ..CallFilter::default()
            }),
            ids[..2]
        );
        assert_eq!(
            list(CallFilter {
                before: Some(7),
                ..CallFilter::default()
            }),
            ids[2..]
        );
        assert_eq!(
            list(CallFilter {
                agent: Some("agent-1".into()),
                ..CallFilter::default()
            }),
            ids
        );
        for none in [
            CallFilter {
                agent: Some("agent".into()),
                ..CallFilter::default()
            },
            CallFilter {
                user: Some("agent-1".into()),
                ..CallFilter::default()
            },
            CallFilter {
                tool: Some("stripe".into()),
                ..CallFilter::default()
            },
            CallFilter {
                function: Some("refunds".into()),
                ..CallFilter::default()
            },
            CallFilter {
                since_ms: Some(i64::MAX),
                ..CallFilter::default()
            },
            CallFilter {
                until_ms: Some(0),
                ..CallFilter::default()
            },
        ] {
            assert_eq!(list(none.clone()), Vec::<String>::new(), "{none:?}");
        }
        assert_eq!(reader.calls_like(&ids[0], 2).unwrap(), [ids[0].clone()]);
        assert_eq!(
            reader.entries_of(&ids[0]).unwrap().last().unwrap().kind(),
            Kind::CallFinished
        );
    });
}

#[test]
fn appends_are_measured() {
    let home = Home::new();
    let store = home.open();
    let during = Duration::from_millis(100);
    for rate in [
        super::super::appends(&store, 4, during).unwrap(),
        super::super::file_appends(home.path(), 4, during).unwrap(),
    ] {
        assert!(rate.per_second > 0.0 && rate.p50 <= rate.p99, "{rate:?}");
    }
    home.verify();
}
