//! Keys of agents in the books.

use ambit_core::digest::Digest;
use ambit_core::grant::Narrowing;
use ambit_core::identity::key::{LONGEST_MS, Standing};
use ambit_core::ledger::EntryDraft;
use ambit_core::ledger::body::{KeyCreated, KeyRevoked, Replaced};

use super::super::{Batch, Store, StoreOptions};
use super::fixture::{Home, batch};
use super::holds::refused;
use crate::host::now_ms;

/// A store of each kind, which must behave alike.
fn on_both(test: impl Fn(&Store)) {
    let home = Home::new();
    test(&home.open());
    home.verify();
    test(&Store::memory(home.keys(), StoreOptions::default()).unwrap());
}

fn id(letter: char) -> String {
    format!("k_{}", letter.to_string().repeat(26))
}

fn now() -> u64 {
    u64::try_from(now_ms()).unwrap()
}

fn created(letter: char, change: impl FnOnce(&mut KeyCreated)) -> Batch {
    let mut created = KeyCreated {
        operator: None,
        agent: "assistant".into(),
        expires: now() + 60_000,
        hash: Digest::of(letter.to_string().as_bytes()),
        key: id(letter),
        name: None,
        narrowing: Narrowing::default(),
        replaces: None,
        user: None,
    };
    change(&mut created);
    batch([EntryDraft::of_ledger(created)])
}

fn replacing(letter: char, other: char, change: impl FnOnce(&mut KeyCreated)) -> Batch {
    created(letter, |created| {
        created.replaces = Some(Replaced {
            key: id(other),
            until: now() + 1_000,
        });
        change(created);
    })
}

fn revoked(letter: char) -> Batch {
    batch([EntryDraft::of_ledger(KeyRevoked { key: id(letter) })])
}

#[test]
fn a_key_is_made_once_and_for_a_time() {
    on_both(|store| {
        store.commit(created('a', |_| {})).unwrap();
        refused(store.commit(created('a', |_| {})), "is there already");
        refused(store.commit(created('b', |key| key.expires = 1)), "good for no time");
        let long = |key: &mut KeyCreated| key.expires = now() + LONGEST_MS + 60_000;
        refused(store.commit(created('b', long)), "longer than 366 days");
        let key = store.reader().unwrap().api_key(&id('a')).unwrap().unwrap();
        assert_eq!((key.standing(now()), key.index), (Standing::Active, 1));
        assert!(store.reader().unwrap().api_key(&id('b')).unwrap().is_none());
    });
}

#[test]
fn a_key_takes_the_place_of_one_of_the_same_and_no_other() {
    on_both(|store| {
        store.commit(created('a', |_| {})).unwrap();
        store.commit(created('x', |_| {})).unwrap();
        store.commit(revoked('x')).unwrap();
        refused(store.commit(replacing('b', 'c', |_| {})), "takes the place of none");
        refused(store.commit(replacing('b', 'x', |_| {})), "takes the place of none");
        let another = "takes the place of another agent's, or is for something else";
        refused(
            store.commit(replacing('b', 'a', |key| key.agent = "spy".into())),
            another,
        );
        refused(
            store.commit(replacing('b', 'a', |key| key.user = Some("ada".into()))),
            another,
        );
        let narrower = |key: &mut KeyCreated| key.narrowing.connections = Some(["stripe".to_owned()].into());
        refused(store.commit(replacing('b', 'a', narrower)), another);
        store.commit(replacing('b', 'a', |_| {})).unwrap();
        let key = |letter| store.reader().unwrap().api_key(&id(letter)).unwrap().unwrap();
        assert_eq!(key('a').standing(now() + 2_000), Standing::Expired);
        assert_eq!(key('b').standing(now() + 2_000), Standing::Active);
        // A later date than its own makes no key good for longer.
        let later = |key: &mut KeyCreated| key.replaces.as_mut().unwrap().until = now() + 600_000;
        store.commit(replacing('c', 'b', later)).unwrap();
        assert_eq!(key('b').until_ms, key('b').created.expires);
    });
}

#[test]
fn a_key_is_revoked_once() {
    on_both(|store| {
        refused(store.commit(revoked('a')), "is there to revoke");
        store.commit(created('a', |_| {})).unwrap();
        store.commit(revoked('a')).unwrap();
        refused(store.commit(revoked('a')), "is there to revoke");
        let key = store.reader().unwrap().api_key(&id('a')).unwrap().unwrap();
        assert_eq!(key.revoked, Some(2));
        assert_eq!(store.reader().unwrap().api_keys().unwrap(), [key]);
    });
}

#[test]
fn a_key_in_memory_is_as_its_row_is_at_once_and_after_a_start() {
    on_both(|store| {
        let same = |letter| {
            let kept = store.reader().unwrap().api_key(&id(letter)).unwrap();
            assert_eq!(store.api_key(&id(letter)), kept);
            kept
        };
        assert!(same('a').is_none());
        store.commit(created('a', |_| {})).unwrap();
        store.commit(replacing('b', 'a', |_| {})).unwrap();
        assert_eq!(same('a').unwrap().standing(now() + 2_000), Standing::Expired);
        store.commit(revoked('b')).unwrap();
        assert_eq!(same('b').unwrap().revoked, Some(3));
        // What is refused leaves nothing, though it came far.
        refused(
            store.commit(batch([
                EntryDraft::of_ledger(KeyRevoked { key: id('a') }),
                EntryDraft::of_ledger(KeyRevoked { key: id('a') }),
            ])),
            "is there to revoke",
        );
        assert!(same('a').unwrap().revoked.is_none());
    });
    let home = Home::new();
    let store = home.open();
    store.commit(created('a', |_| {})).unwrap();
    store.commit(revoked('a')).unwrap();
    drop(store);
    assert_eq!(home.open().api_key(&id('a')).unwrap().revoked, Some(2));
}

#[test]
fn an_audit_finds_a_key_that_no_entry_made() {
    for sql in [
        "DELETE FROM api_keys",
        "UPDATE api_keys SET state = replace(state, '\"revoked\":2', '\"revoked\":null')",
        "UPDATE api_keys SET state = replace(state, '\"agent\":\"assistant\"', '\"agent\":\"spy\"')",
    ] {
        let home = Home::new();
        let store = home.open();
        store.commit(created('a', |_| {})).unwrap();
        store.commit(revoked('a')).unwrap();
        drop(store);
        home.verify();
        home.database().execute_batch(sql).unwrap();
        let found = home.try_verify().unwrap_err().to_string();
        assert!(found.contains("the keys of agents"), "{sql}: {found}");
    }
}
