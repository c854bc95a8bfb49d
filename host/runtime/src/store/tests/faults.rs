//! What fails, fails closed.

use std::time::Duration;

use super::super::{Batch, Fault, Faults, HighWaterOptions, Payload, Step, Store, StoreError, StoreOptions};
use super::fixture::{Call, Home, batch, note, request};

/// The third commit fails at `step`; from then on nothing is written, and nothing may leave. What was reported is there afterwards.
fn check(step: Step, fault: Fault, what: &str) {
    let home = Home::new();
    // The ledger's own first entry takes the step once.
    let store = home
        .try_open(StoreOptions::default(), Faults::after(3, step, fault))
        .unwrap();
    store.commit(note()).unwrap();
    store.commit(note()).unwrap();
    assert_eq!(store.failed(), None);
    let failed = |error: StoreError| {
        assert!(
            matches!(&error, StoreError::Failed { cause } if cause.contains(what)),
            "{error}"
        );
    };
    failed(store.commit(intent()).unwrap_err());
    failed(store.commit(intent()).unwrap_err());
    failed(store.commit(note()).unwrap_err());
    assert!(store.failed().unwrap().contains(what));
    drop(store);
    home.verify();
    let store = home.open();
    assert!(store.reader().unwrap().size().unwrap() >= 3);
    store.commit(note()).unwrap();
    home.verify();
}

fn intent() -> Batch {
    Call::new().begins(&request("/v1/refunds"), vec![])
}

#[test]
fn trap_13_a_failed_sync_is_the_end() {
    check(Step::Sync, Fault::Io, "input/output error");
}

#[test]
fn a_full_disk_before_the_commit_is_the_end() {
    check(Step::BeforeCommit, Fault::Full, "no space left");
}

#[test]
fn a_failure_after_the_commit_is_the_end() {
    check(Step::AfterCommit, Fault::Io, "input/output error");
}

#[test]
fn a_payload_file_that_cannot_be_written_is_the_end() {
    let home = Home::new();
    let store = home
        .try_open(
            StoreOptions::default(),
            Faults::after(0, Step::WritePayload, Fault::Full),
        )
        .unwrap();
    // The writer is back at its queue: it looks for failures after each group, and must not be what finds this one.
    std::thread::sleep(Duration::from_millis(50));
    let large = |call: &Call| Payload::new(&call.id, "args", vec![0; 100_000]).unwrap();
    let call = Call::new();
    let failed = store
        .commit(Batch {
            payloads: vec![large(&call)],
            ..call.whole()
        })
        .unwrap_err();
    assert!(
        matches!(&failed, StoreError::Failed { cause } if cause.contains("no space left")),
        "{failed}"
    );
    assert!(matches!(store.commit(note()), Err(StoreError::Failed { .. })));
}

/// A real full database, without a reserve: SQLite says so in the middle of a transaction.
#[test]
fn trap_13_a_full_database_is_the_end_and_loses_nothing() {
    let home = Home::new();
    let options = StoreOptions {
        quota: Some(256 << 10),
        reserve: 0,
        ..StoreOptions::default()
    };
    let store = home.try_open(options, Faults::none()).unwrap();
    let (written, failed) = fill(&store);
    assert!(
        matches!(&failed, StoreError::Failed { cause } if cause.contains("full")),
        "{failed}"
    );
    assert!(matches!(store.commit(note()), Err(StoreError::Failed { .. })));
    drop(store);
    let store = home.open();
    assert_eq!(store.reader().unwrap().size().unwrap(), written + 1);
    store.commit(note()).unwrap();
    home.verify();
}

#[test]
fn the_reserve_is_for_ending_what_is_under_way() {
    let home = Home::new();
    let options = StoreOptions {
        quota: Some(1 << 20),
        reserve: 256 << 10,
        ..StoreOptions::default()
    };
    let store = home.try_open(options, Faults::none()).unwrap();
    let mut calls: Vec<Call> = (0..50).map(|_| Call::new()).collect();
    for call in &calls {
        store.commit(call.begins(&request("/v1/refunds"), vec![])).unwrap();
    }
    let (_, full) = fill(&store);
    assert!(
        matches!(full, StoreError::NoRoom { reserve, .. } if reserve == 256 << 10),
        "{full}"
    );
    assert!(matches!(store.commit(intent()), Err(StoreError::NoRoom { .. })));
    assert!(matches!(
        store.commit(Call::new().whole()),
        Err(StoreError::NoRoom { .. })
    ));
    assert_eq!(store.failed(), None);
    for call in &mut calls {
        let answer = Payload::new(&call.id, "answer", vec![1; 1000]).unwrap();
        store
            .commit(Batch {
                payloads: vec![answer],
                ..batch([call.outcome(0, vec![])])
            })
            .unwrap();
        store.commit(batch([call.finished(vec![])])).unwrap();
    }
    assert_eq!(store.reader().unwrap().unfinished().unwrap(), []);
    home.verify();
}

/// A reserve that the file system can't give is as good as a full disk.
#[test]
fn free_space_of_the_file_system_counts() {
    let home = Home::new();
    drop(home.open());
    let options = || StoreOptions {
        reserve: u64::MAX,
        ..StoreOptions::default()
    };
    let store = home.try_open(options(), Faults::none()).unwrap();
    let call = Call::new();
    assert!(matches!(
        store.commit(batch([call.accepted(vec![])])),
        Err(StoreError::NoRoom { .. })
    ));
    let large = Payload::new(&call.id, "args", vec![0; 100_000]).unwrap();
    assert!(matches!(
        store.commit(Batch {
            payloads: vec![large],
            ..call.whole()
        }),
        Err(StoreError::NoRoom { .. })
    ));
    assert_eq!(store.failed(), None);
}

/// The batch is durable before the mark moves, so its caller hears so; the next one hears that it is the end.
#[test]
fn a_high_water_checkpoint_that_cannot_be_written_is_the_end() {
    let home = Home::new();
    let (_outside, path) = home.outside();
    let options = || StoreOptions {
        high_water: Some(HighWaterOptions {
            path: path.clone(),
            sync_every: Duration::ZERO,
        }),
        ..StoreOptions::default()
    };
    let store = home
        .try_open(options(), Faults::after(1, Step::HighWater, Fault::Full))
        .unwrap();
    store.commit(note()).unwrap();
    assert!(matches!(store.commit(note()), Err(StoreError::Failed { .. })));
    drop(store);
    assert_eq!(
        home.try_open(options(), Faults::none())
            .unwrap()
            .reader()
            .unwrap()
            .size()
            .unwrap(),
        2
    );
}

/// Commits until it is refused; tells how many entries it wrote.
fn fill(store: &Store) -> (u64, StoreError) {
    let mut written = 0;
    loop {
        match store.commit(note()) {
            Ok(done) => written += done.entries,
            Err(error) => return (written, error),
        }
    }
}
