//! Whatever is changed behind the store's back is found, and the first bad entry named.

use ambit_core::digest::Digest;
use ambit_core::ledger::body::ConfigChanged;
use ambit_core::ledger::{Bad, EntryDraft};

use super::super::{Batch, StoreError};
use super::fixture::{Call, Home, batch, note, request, reserve, settle};

/// A home with 301 entries, money reserved and spent, and something under way.
fn home() -> Home {
    let home = Home::new();
    let store = home.open();
    let (mut call, request) = (Call::new(), request("/v1/refunds"));
    let mut begins = call.intends(0, &request, vec![reserve("usd", 5, 10)]);
    begins.entries.insert(0, call.accepted(vec![reserve("calls", 1, 10)]));
    store.commit(begins).unwrap();
    store.commit(batch([call.outcome(0, vec![settle("usd", 4)])])).unwrap();
    (4..301).for_each(|_| drop(store.commit(note()).unwrap()));
    drop(store);
    home
}

fn check(sql: &str, first_bad: Option<u64>) {
    let home = home();
    home.verify();
    let database = home.database();
    database.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    assert!(database.execute(sql, []).unwrap() > 0, "{sql}");
    let found = home.reader().verify(home.keys().verifier(), &[], |_| ()).unwrap_err();
    match (&found, first_bad) {
        (StoreError::Bad(Bad { index, .. }), _) => assert_eq!(*index, first_bad, "{sql}: {found}"),
        (_, Some(_)) => panic!("{sql}: {found}"),
        (_, None) => {}
    }
}

#[test]
fn entries() {
    check(
        "UPDATE entries SET bytes = CAST(replace(bytes, 'call-accepted', 'call-accepteb') AS BLOB) WHERE idx = 1",
        Some(1),
    );
    check(
        "UPDATE entries SET bytes = CAST(replace(bytes, '\"cap\":10', '\"cap\":99') AS BLOB) WHERE idx = 1",
        Some(1),
    );
    check("UPDATE entries SET leaf = zeroblob(32) WHERE idx = 20", Some(20));
    check("DELETE FROM entries WHERE idx = 20", Some(20));
    check("DELETE FROM entries WHERE idx > 200", Some(201));
    check(
        "UPDATE entries SET bytes = (SELECT bytes FROM entries WHERE idx = 10), leaf = (SELECT leaf FROM entries WHERE idx = 10) WHERE idx = 9",
        Some(9),
    );
}

/// A change with a leaf hash to match is found by the first checkpoint over it.
#[test]
fn a_careful_forger() {
    let home = home();
    let reader = home.reader();
    let forged = EntryDraft::of_ledger(ConfigChanged {
        from: None,
        to: Digest::of(b"another"),
    });
    let forged = forged
        .seal(
            reader
                .entry(99)
                .unwrap()
                .stamp()
                .next(reader.entry(100).unwrap().time_ms()),
        )
        .unwrap();
    assert_ne!(forged, reader.entry(100).unwrap());
    home.database()
        .execute(
            "UPDATE entries SET bytes = ?1, leaf = ?2 WHERE idx = 100",
            rusqlite::params![forged.bytes(), forged.leaf().as_bytes()],
        )
        .unwrap();
    let found = reader.verify(home.keys().verifier(), &[], |_| ()).unwrap_err();
    assert!(
        matches!(found, StoreError::Bad(Bad { index: Some(100), .. })),
        "{found}"
    );
}

#[test]
fn checkpoints() {
    check(
        "UPDATE checkpoints SET note = replace(note, char(10) || '301' || char(10), char(10) || '302' || char(10)) WHERE size = 301",
        None,
    );
    check("UPDATE checkpoints SET note = 'x' WHERE size = 100", None);
    check("DELETE FROM checkpoints WHERE size > 200", Some(200));
}

#[test]
fn what_stands_beside() {
    check("UPDATE entries SET kind = 'call-denied' WHERE idx = 1", None);
    check("UPDATE entries SET call = NULL WHERE idx = 1", None);
    check("UPDATE accounts SET used = 0 WHERE budget = 'usd'", None);
    check("UPDATE accounts SET cap = 1000 WHERE budget = 'usd'", None);
    check(
        "UPDATE accounts SET window = 'usd rolling 2d' WHERE budget = 'usd'",
        None,
    );
    check("DELETE FROM slices", None);
    check("UPDATE slices SET starts = starts - 720000", None);
    check("DELETE FROM reservations", None);
    check("DELETE FROM unfinished", None);
    check("UPDATE nodes SET hash = zeroblob(32)", None);
}

#[test]
fn payloads() {
    let home = Home::new();
    let call = Call::new();
    let payload = super::super::Payload::new(&call.id, "args", b"value".to_vec()).unwrap();
    home.open()
        .commit(Batch {
            payloads: vec![payload],
            ..call.whole()
        })
        .unwrap();
    let read = || home.reader().payload(&call.id, "args");
    read().unwrap().unwrap();
    assert!(matches!(
        super::super::Reader::open(home.path())
            .unwrap()
            .payload(&call.id, "args"),
        Err(StoreError::Payload { .. })
    ));
    home.database()
        .execute_batch("UPDATE payloads SET sealed = CAST(sealed || x'00' AS BLOB)")
        .unwrap();
    assert!(matches!(read(), Err(StoreError::Payload { .. })));
    home.verify();
}

/// What the key signed elsewhere is held against the ledger too.
#[test]
fn a_checkpoint_from_elsewhere() {
    let home = Home::new();
    let store = home.open();
    let known = store.commit(note()).unwrap().checkpoint.unwrap().to_string();
    drop(store);
    home.database()
        .execute_batch("DELETE FROM entries WHERE idx = 1; DELETE FROM checkpoints WHERE size = 2")
        .unwrap();
    home.verify();
    let found = home
        .reader()
        .verify(home.keys().verifier(), &[known], |_| ())
        .unwrap_err();
    assert!(matches!(found, StoreError::Bad(Bad { index: Some(1), .. })), "{found}");
}
