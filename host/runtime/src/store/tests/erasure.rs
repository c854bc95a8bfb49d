//! What is erased is gone from every file, the ledger says so, and nothing else is touched.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ambit_core::ledger::body::{Age, Reason, Subject, ValuesErased};
use ambit_core::ledger::{Body, EntryDraft, Kind, Principal};

use super::super::{
    Batch, Erasure, Fault, Faults, HighWaterOptions, Kept, Keys, Payload, Step, Store, StoreError, StoreOptions,
    TranscriptRow, home,
};
use super::fixture::{Call, Home, batch, note, request};

const DAY: i64 = 24 * 60 * 60 * 1000;

fn aged(days: u32) -> Reason {
    Reason::Age(Age { days })
}

/// A whole call with a value in a row, one in a file, and a transcript that refers to both.
fn with_values(call: &Call) -> Batch {
    let payload = |name: &str, size: usize| Payload::new(&call.id, name, vec![7; size]).unwrap();
    let row = |step: u32, name: &str| TranscriptRow {
        call: call.id.clone(),
        step,
        kind: "value".into(),
        effect: None,
        payload: Some(name.into()),
    };
    Batch {
        payloads: vec![payload("args", 100), payload("result", 70_000)],
        transcript: vec![row(0, "args"), row(1, "result")],
        ..call.whole()
    }
}

/// A home with whole calls that have values.
fn home_with(calls: usize) -> (Home, Vec<Call>) {
    let (home, calls) = (Home::new(), (0..calls).map(|_| Call::new()).collect::<Vec<_>>());
    let store = home.open();
    calls
        .iter()
        .for_each(|call| drop(store.commit(with_values(call)).unwrap()));
    drop(store);
    (home, calls)
}

/// Everything there is to erase of calls that are over.
fn all(home: &Home) -> Erasure {
    home.reader().erasable(aged(1), i64::MAX).unwrap()
}

fn key(home: &Home, call: &Call) -> Vec<u8> {
    let sql = "SELECT wrapped FROM data_keys WHERE call = ?1";
    home.database().query_row(sql, [&call.id], |row| row.get(0)).unwrap()
}

/// How often the bytes stand in the database and its write-ahead log.
fn found(home: &Path, bytes: &[u8]) -> usize {
    let file = |name: &str| std::fs::read(home.join(name)).unwrap_or_default();
    let log = format!("{}-wal", home::LEDGER);
    let count = |file: Vec<u8>| memchr::memmem::find_iter(&file, bytes).count();
    count(file(home::LEDGER)) + count(file(&log))
}

fn files(home: &Path) -> usize {
    std::fs::read_dir(home::payload_dir(home)).unwrap().count()
}

fn erasures(home: &Home) -> Vec<ValuesErased> {
    let entries = home.reader().entries(0, usize::MAX).unwrap();
    let of = entries.iter().filter_map(|entry| match entry.body() {
        Body::ValuesErased(body) => Some(body.clone()),
        _ => None,
    });
    of.collect()
}

#[test]
fn an_erased_key_is_in_no_file_and_the_entry_says_so() {
    let (home, calls) = home_with(40);
    let kept = Call::new();
    let keys: Vec<_> = calls.iter().map(|call| key(&home, call)).collect();
    let erasure = all(&home);
    assert_eq!((erasure.calls(), erasure.values(), erasure.open()), (40, 80, 0));
    assert!(erasure.bytes() > 40 * 70_000);
    let store = home.open();
    store.commit(with_values(&kept)).unwrap();
    assert!(keys.iter().all(|key| found(home.path(), key) > 0));
    let done = store.erase(&erasure).unwrap();
    // Told when it is done, not when the store is closed.
    assert!(keys.iter().all(|key| found(home.path(), key) == 0));
    assert_eq!(files(home.path()), 1);
    assert!(!store.reader().unwrap().erasing().unwrap());
    let reader = store.reader().unwrap();
    let entry = reader.entry(done.first_index).unwrap();
    assert_eq!((entry.kind(), done.entries), (Kind::ValuesErased, 1));
    let read = reader.payload(&calls[0].id, "args").unwrap_err();
    assert!(matches!(&read, StoreError::Erased { .. }), "{read}");
    let told = read.to_string();
    assert!(
        told.contains("payload `args`") && told.contains(&format!("(entry {}, older than 1 day)", done.first_index)),
        "{told}"
    );
    assert_eq!(
        store.payload(&kept.id, "result").unwrap().unwrap().bytes().len(),
        70_000
    );
    // What the transcript says happened is there, and refers to rows that are.
    assert_eq!(reader.transcript(&calls[0].id).unwrap().len(), 2);
    assert_eq!(reader.payload_names(&calls[0].id).unwrap(), ["args", "result"]);
    drop((reader, store));
    home.verify();
    let violations: i64 = home
        .database()
        .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(violations, 0);
    let said = erasures(&home);
    assert_eq!((said.len(), said[0].calls.len(), said[0].values), (1, 40, 80));
    assert_eq!(all(&home).calls(), 1, "what is erased is not erased again");
}

/// Rows that moved to other pages leave copies behind, where nobody asked SQLite to overwrite what it drops.
#[test]
fn copies_in_pages_that_were_split_go_too() {
    let (home, calls) = home_with(1);
    let database = home.database();
    database.execute_batch("PRAGMA secure_delete = OFF").unwrap();
    let mut strewn = Vec::new();
    for number in 1..4000u64 {
        // In no order, as the names of calls are.
        let name = format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let key: [u8; 72] = std::array::from_fn(|at| (number.wrapping_mul(31 + at as u64 * 7919) >> 5) as u8);
        database
            .execute("INSERT INTO data_keys VALUES (?1, ?2)", rusqlite::params![name, key])
            .unwrap();
        strewn.push(key);
    }
    let overwrite = "PRAGMA secure_delete = ON;
        UPDATE data_keys SET wrapped = x'' WHERE call NOT LIKE 'c!_%' ESCAPE '!';
        PRAGMA wal_checkpoint(TRUNCATE);";
    database.execute_batch(overwrite).unwrap();
    drop(database);
    let left = || strewn.iter().filter(|key| found(home.path(), *key) > 0).count();
    assert!(left() > 0, "nothing to look for");
    let (gone, erasure) = (key(&home, &calls[0]), all(&home));
    home.open().erase(&erasure).unwrap();
    assert_eq!((left(), found(home.path(), &gone)), (0, 0));
}

#[test]
fn only_what_is_over_and_as_it_was_found_is_erased() {
    let (home, calls) = home_with(2);
    let store = home.open();
    let mut open = Call::new();
    store.commit(open.begins(&request("/v1/refunds"), vec![])).unwrap();
    let erasure = all(&home);
    assert_eq!((erasure.calls(), erasure.open()), (2, 1));
    let erase = |calls: Vec<&Call>, values| {
        let mut calls: Vec<String> = calls.into_iter().map(|call| call.id.clone()).collect();
        calls.sort();
        let why = aged(1);
        let entry = EntryDraft::of_ledger(ValuesErased { calls, values, why });
        store
            .commit(batch([entry]))
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let refused = |result: Result<(), String>, why: &str| {
        let error = result.unwrap_err();
        assert!(error.contains(why), "{error}");
    };
    refused(erase(vec![&calls[0], &open], 3), "is not over");
    refused(erase(vec![&calls[0], &Call::new()], 2), "has no values");
    refused(
        erase(vec![&calls[0]], 1),
        "2 values would be erased, where 1 are said to be",
    );
    // Nothing of what was refused is done.
    assert_eq!((erasures(&home).len(), files(home.path())), (0, 2));
    assert!(store.payload(&calls[0].id, "args").unwrap().is_some());
    erase(vec![&calls[0]], 2).unwrap();
    refused(erase(vec![&calls[0]], 2), "erased already");
    // One of the two that were found is erased meanwhile.
    refused(
        store.erase(&erasure).map(drop).map_err(|error| error.to_string()),
        "erased already",
    );
    assert!(store.payload(&calls[1].id, "args").unwrap().is_some());
    assert_eq!(store.failed(), None);
    store
        .commit(batch([open.outcome(0, vec![]), open.finished(vec![])]))
        .unwrap();
    erase(vec![&open], 1).unwrap();
    drop(store);
    home.verify();
}

#[test]
fn nothing_is_stored_for_a_call_that_was_erased() {
    let (home, calls) = home_with(1);
    let store = home.open();
    store.erase(&all(&home)).unwrap();
    let more = Batch {
        payloads: vec![Payload::new(&calls[0].id, "more", vec![1]).unwrap()],
        ..note()
    };
    assert!(matches!(store.commit(more), Err(StoreError::Erased { .. })));
    assert!(matches!(
        store.erase(&all(&home)),
        Err(StoreError::Batch { why }) if why.contains("nothing to erase")
    ));
}

/// A call is as old as its end, and as long as it has none it is not old.
#[test]
fn an_age_is_counted_from_the_end() {
    let home = Home::new();
    let now = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let clock = Arc::clone(&now);
    let options = StoreOptions {
        clock: Arc::new(move || clock.load(std::sync::atomic::Ordering::Relaxed)),
        ..StoreOptions::default()
    };
    let store = home.try_open(options, Faults::none()).unwrap();
    let at = |day: i64| now.store(day * DAY, std::sync::atomic::Ordering::Relaxed);
    let (first, mut slow, last) = (Call::new(), Call::new(), Call::new());
    at(1);
    store.commit(with_values(&first)).unwrap();
    store.commit(slow.begins(&request("/v1/refunds"), vec![])).unwrap();
    at(5);
    store.commit(with_values(&last)).unwrap();
    let check = |days: u32, today: i64, calls: u64, open: u64| {
        let found = home.reader().erasable(aged(days), today * DAY).unwrap();
        assert_eq!(
            (found.calls(), found.open()),
            (calls, open),
            "{days} days on day {today}"
        );
    };
    check(3, 4, 0, 0);
    check(3, 5, 1, 1);
    check(3, 8, 1, 1);
    check(3, 9, 2, 1);
    store
        .commit(batch([slow.outcome(0, vec![]), slow.finished(vec![])]))
        .unwrap();
    check(3, 8, 1, 0);
    check(3, 9, 3, 0);
    let found = home.reader().erasable(aged(3), 9 * DAY).unwrap();
    assert_eq!(found.span_ms(), Some((DAY, 5 * DAY)));
}

/// Finding out what became of an effect takes what was sent: its values stay until somebody has.
#[test]
fn values_stay_as_long_as_an_effect_is_in_doubt() {
    let home = Home::new();
    let store = home.open();
    let mut call = Call::new();
    store.commit(call.begins(&request("/v1/refunds"), vec![])).unwrap();
    store.commit(batch([call.in_doubt(0)])).unwrap();
    let kept = |why| all(&home).kept(why).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(kept(Kept::NotOver), std::slice::from_ref(&call.id));
    store.commit(batch([call.finished(vec![])])).unwrap();
    assert_eq!(kept(Kept::InDoubt), std::slice::from_ref(&call.id));
    assert_eq!(all(&home).calls(), 0);
    let values = home.reader().payload_names(&call.id).unwrap().len() as u64;
    let entry = EntryDraft::of_ledger(ValuesErased {
        calls: vec![call.id.clone()],
        values,
        why: aged(1),
    });
    let refused = store.commit(batch([entry])).unwrap_err().to_string();
    assert!(refused.contains("in doubt"), "{refused}");
    store.commit(batch([call.resolved(0, vec![])])).unwrap();
    // What was said of it after its end does not make it one that has not ended.
    let found = all(&home);
    assert_eq!((found.calls(), found.open()), (1, 0));
    store.erase(&found).unwrap();
    drop(store);
    home.verify();
}

#[test]
fn a_subject_is_the_agent_or_the_user_that_entries_name() {
    let home = Home::new();
    let store = home.open();
    let of = |agent: &str, user: Option<&str>| {
        let call = Call::new();
        let mut batch = with_values(&call);
        for entry in &mut batch.entries {
            entry.principal = Some(Principal {
                agent: agent.into(),
                team: "team".into(),
                tenant: "tenant".into(),
                user: user.map(str::to_owned),
            });
        }
        store.commit(batch).unwrap();
    };
    of("clerk", Some("ada"));
    of("clerk", None);
    of("ada", Some("grace"));
    let check = |subject: Subject, calls: u64| {
        let found = home.reader().erasable(Reason::Subject(subject), 0).unwrap();
        assert_eq!(found.calls(), calls);
    };
    check(Subject::User("ada".into()), 1);
    check(Subject::Agent("ada".into()), 1);
    check(Subject::Agent("clerk".into()), 2);
    check(Subject::User("clerk".into()), 0);
    let ada = home
        .reader()
        .erasable(Reason::Subject(Subject::User("ada".into())), 0)
        .unwrap();
    store.erase(&ada).unwrap();
    assert_eq!(erasures(&home)[0].why, Reason::Subject(Subject::User("ada".into())));
    check(Subject::User("ada".into()), 0);
    check(Subject::Agent("clerk".into()), 1);
}

#[test]
fn many_calls_are_several_entries_and_one_erasure() {
    let home = Home::new();
    let store = home.open();
    for _ in 0..3 {
        let mut many = Batch::default();
        for call in (0..700).map(|_| Call::new()) {
            many.payloads.push(Payload::new(&call.id, "args", vec![1; 10]).unwrap());
            many.entries.extend(call.whole().entries);
        }
        store.commit(many).unwrap();
    }
    let done = store.erase(&all(&home)).unwrap();
    assert_eq!(done.entries, 2);
    drop(store);
    home.verify();
    let said: Vec<_> = erasures(&home)
        .into_iter()
        .map(|body| (body.calls.len(), body.values))
        .collect();
    assert_eq!(said, [(2000, 2000), (100, 100)]);
}

/// A process that goes on for long finishes what it erased once nobody reads any more, with what it writes next.
#[test]
fn what_a_reader_delayed_is_finished_by_the_same_process() {
    let (home, calls) = home_with(1);
    let (gone, erasure) = (key(&home, &calls[0]), all(&home));
    let store = home.open();
    let audit = home.database();
    audit.execute_batch("BEGIN; SELECT count(*) FROM entries;").unwrap();
    store.erase(&erasure).unwrap();
    assert!(store.reader().unwrap().erasing().unwrap());
    drop(audit);
    std::thread::sleep(Duration::from_millis(1_100));
    // It is finished after whoever wrote is answered: the second waits for that.
    store.commit(note()).unwrap();
    store.commit(note()).unwrap();
    assert!(!store.reader().unwrap().erasing().unwrap());
    assert_eq!(found(home.path(), &gone), 0);
    drop(store);
    home.verify();
}

/// Where somebody reads, the log cannot be emptied: the erasure stands, says that it is not finished, and the next opening finishes it.
#[test]
fn a_reader_delays_the_end_and_not_the_erasure() {
    let (home, calls) = home_with(1);
    let (gone, erasure) = (key(&home, &calls[0]), all(&home));
    let store = home.open();
    let audit = home.database();
    audit.execute_batch("BEGIN; SELECT count(*) FROM entries;").unwrap();
    store.erase(&erasure).unwrap();
    assert!(store.reader().unwrap().erasing().unwrap());
    assert!(matches!(
        store.payload(&calls[0].id, "args"),
        Err(StoreError::Erased { .. })
    ));
    assert!(found(home.path(), &gone) > 0, "nothing to finish");
    store.commit(note()).unwrap();
    drop((audit, store));
    let store = home.open();
    assert!(!store.reader().unwrap().erasing().unwrap());
    assert_eq!(found(home.path(), &gone), 0);
    drop(store);
    home.verify();
}

/// Whoever erases to hide says so: an erasure that is taken back, or made without an entry, is found.
#[test]
fn an_erasure_cannot_be_hidden() {
    let (home, calls) = home_with(3);
    let (_outside, path) = home.outside();
    let options = || StoreOptions {
        high_water: Some(HighWaterOptions {
            path: path.clone(),
            sync_every: Duration::ZERO,
        }),
        ..StoreOptions::default()
    };
    let store = home.try_open(options(), Faults::none()).unwrap();
    let done = store.erase(&all(&home)).unwrap();
    drop(store);
    let said = erasures(&home);
    assert_eq!((said[0].calls.len(), said[0].values), (3, 6));
    drop(home.try_open(options(), Faults::none()).unwrap());
    let at = done.first_index;
    home.database()
        .execute_batch(&format!(
            "DELETE FROM entries WHERE idx >= {at}; DELETE FROM checkpoints WHERE size > {at};"
        ))
        .unwrap();
    let refused = home.try_open(options(), Faults::none()).unwrap_err();
    assert!(matches!(refused, StoreError::Shorter { .. }), "{refused}");
    let read = home.reader().payload(&calls[0].id, "args").unwrap_err();
    assert!(
        read.to_string()
            .contains("no entry of the ledger says that it was erased"),
        "{read}"
    );
}

/// The disk fails at a step: the erasure is there or not, and the next opening finishes what is there.
#[test]
fn a_failure_at_any_step_erases_nothing_or_all() {
    for (step, done) in STEPS {
        let (home, calls) = home_with(2);
        let keys: Vec<_> = calls.iter().map(|call| key(&home, call)).collect();
        let store = home
            .try_open(StoreOptions::default(), Faults::after(0, step, Fault::Io))
            .unwrap();
        assert!(store.erase(&all(&home)).is_err(), "{step:?}");
        drop(store);
        check_after(&home, &calls, &keys, step, done);
    }
}

#[test]
fn a_process_that_ends_at_any_step_erases_nothing_or_all() {
    for (step, done) in STEPS {
        let (home, calls) = home_with(2);
        let keys: Vec<_> = calls.iter().map(|call| key(&home, call)).collect();
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::erasure::child", "--nocapture"])
            .env(STEP, format!("{step:?}"))
            .env(HOME, home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(!ended.success(), "{step:?}");
        check_after(&home, &calls, &keys, step, done);
    }
}

/// Each step of an erasure, and whether it is on the ledger by then.
const STEPS: [(Step, bool); 6] = [
    (Step::BeforeCommit, false),
    (Step::Sync, false),
    (Step::AfterCommit, true),
    (Step::RewriteKeys, true),
    (Step::EmptyLog, true),
    (Step::RemovePayload, true),
];
const STEP: &str = "AMBIT_TEST_ERASURE_STEP";
const HOME: &str = "AMBIT_TEST_ERASURE_HOME";

/// The child's side: nothing, when run as a test.
#[test]
fn child() {
    let (Ok(name), Ok(home)) = (std::env::var(STEP), std::env::var(HOME)) else {
        return;
    };
    let home = PathBuf::from(home);
    let (step, _) = STEPS.into_iter().find(|(step, _)| format!("{step:?}") == name).unwrap();
    let faults = Faults::after(0, step, Fault::Abort);
    let store = Store::open(&home, Keys::load(&home).unwrap(), StoreOptions::default(), faults).unwrap();
    let erasure = store.reader().unwrap().erasable(aged(1), i64::MAX).unwrap();
    store.erase(&erasure).unwrap();
}

fn check_after(home: &Home, calls: &[Call], keys: &[Vec<u8>], step: Step, done: bool) {
    home.verify();
    assert_eq!(erasures(home).len(), usize::from(done), "{step:?}");
    let store = home.open();
    assert!(!store.reader().unwrap().erasing().unwrap(), "{step:?}");
    for (call, key) in calls.iter().zip(keys) {
        assert_eq!(found(home.path(), key) == 0, done, "{step:?}");
        for name in ["args", "result"] {
            let read = store.payload(&call.id, name);
            assert_eq!(
                matches!(read, Err(StoreError::Erased { .. })),
                done,
                "{step:?}: {read:?}"
            );
            assert_eq!(matches!(read, Ok(Some(_))), !done, "{step:?}: {read:?}");
        }
    }
    assert_eq!(files(home.path()), if done { 0 } else { calls.len() }, "{step:?}");
    store.commit(Call::new().whole()).unwrap();
    drop(store);
    home.verify();
}
