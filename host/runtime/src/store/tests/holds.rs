//! Holds and votes in the books: what the writer refuses, and what an audit finds.

use ambit_core::digest::Digest;
use ambit_core::hold::{Verdict, Vote};
use ambit_core::ledger::body::{PersonEnrolled, PersonRevoked};
use ambit_core::ledger::{EntryDraft, SignerKey};

use super::super::{Batch, Store, StoreError, StoreOptions};
use super::fixture::{Call, Home, batch};

/// A store of each kind, which must behave alike.
fn on_both(test: impl Fn(&Store)) {
    let home = Home::new();
    test(&home.open());
    home.verify();
    test(&Store::memory(home.keys(), StoreOptions::default()).unwrap());
}

fn key(name: &str) -> SignerKey {
    let mut seed = [9; 32];
    name.bytes().zip(&mut seed).for_each(|(byte, seed)| *seed = byte);
    SignerKey::from_seed(name, &seed).unwrap()
}

fn enrolled(name: &str) -> Batch {
    batch([EntryDraft::of_ledger(PersonEnrolled {
        key: key(name).verifier().to_string(),
        name: name.into(),
    })])
}

fn vote(by: &SignerKey, hold: &[u8]) -> String {
    let vote = Vote {
        person: by.verifier().name().to_owned(),
        hold: Digest::of(hold),
        verdict: Verdict::Approve,
        group: "finance".into(),
        expires_ms: u64::MAX >> 12,
    };
    vote.sign(by).unwrap()
}

/// A store with a call whose first effect is held until `expires`, and a person who may say something.
fn with_hold(expires: u64, then: impl Fn(&Store, &Call)) {
    on_both(|store| {
        let call = Call::new();
        store.commit(enrolled("ann")).unwrap();
        store
            .commit(batch([call.accepted(vec![]), call.held(0, b"hold", expires)]))
            .unwrap();
        then(store, &call);
    });
}

const LATE: u64 = u64::MAX >> 12;

fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>, why: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn a_hold_ends_once_and_with_its_own_intent() {
    with_hold(LATE, |store, call| {
        refused(store.commit(call.passes(0, b"another")), "not held under that hold");
        store.commit(call.passes(0, b"hold")).unwrap();
        refused(
            store.commit(batch([call.unheld(0, b"hold")])),
            "not held under that hold",
        );
        assert!(store.reader().unwrap().holds(None, 9).unwrap().is_empty());
    });
}

#[test]
fn nothing_leaves_after_a_hold_expired() {
    with_hold(1, |store, call| {
        refused(store.commit(call.passes(0, b"hold")), "the hold has expired");
        // To be refused is no question of time.
        store.commit(batch([call.unheld(0, b"hold")])).unwrap();
    });
}

#[test]
fn a_call_does_not_finish_while_an_effect_is_held() {
    with_hold(LATE, |store, call| {
        refused(
            store.commit(batch([call.finished(vec![])])),
            "has an effect that is held",
        );
    });
}

#[test]
fn a_vote_is_signed_by_whoever_is_enrolled_and_about_what_waits() {
    with_hold(LATE, |store, call| {
        let cast = |note: String, hold: &[u8]| store.commit(batch([call.voted(0, hold, note)]));
        refused(cast(vote(&key("ben"), b"hold"), b"hold"), "not signed");
        let other = SignerKey::from_seed("ann", &[8; 32]).unwrap();
        refused(cast(vote(&other, b"hold"), b"hold"), "not signed");
        refused(cast(vote(&key("ann"), b"another"), b"hold"), "not signed");
        refused(cast(vote(&key("ann"), b"another"), b"another"), "about none that waits");
        cast(vote(&key("ann"), b"hold"), b"hold").unwrap();
        let revoked = PersonRevoked {
            key: key("ann").verifier().to_string(),
            name: "ann".into(),
        };
        store.commit(batch([EntryDraft::of_ledger(revoked)])).unwrap();
        refused(cast(vote(&key("ann"), b"hold"), b"hold"), "not signed");
    });
}

#[test]
fn a_person_is_enrolled_once_and_under_their_own_name() {
    on_both(|store| {
        store.commit(enrolled("ann")).unwrap();
        let changed = PersonEnrolled {
            key: SignerKey::from_seed("ann", &[8; 32]).unwrap().verifier().to_string(),
            name: "ann".into(),
        };
        refused(
            store.commit(batch([EntryDraft::of_ledger(changed)])),
            "enrolled already",
        );
        let other = PersonEnrolled {
            key: key("ben").verifier().to_string(),
            name: "cid".into(),
        };
        refused(
            store.commit(batch([EntryDraft::of_ledger(other)])),
            "a key that is not theirs",
        );
    });
}

#[test]
fn one_key_is_one_person() {
    on_both(|store| {
        store.commit(enrolled("ann")).unwrap();
        let mut seed = [9; 32];
        "ann".bytes().zip(&mut seed).for_each(|(byte, seed)| *seed = byte);
        let twin = PersonEnrolled {
            key: SignerKey::from_seed("anna", &seed).unwrap().verifier().to_string(),
            name: "anna".into(),
        };
        refused(
            store.commit(batch([EntryDraft::of_ledger(twin)])),
            "under this name or another",
        );
    });
}

#[test]
fn an_audit_finds_a_hold_that_no_entry_made() {
    let home = Home::new();
    let store = home.open();
    let call = Call::new();
    store.commit(enrolled("ann")).unwrap();
    store
        .commit(batch([call.accepted(vec![]), call.held(0, b"hold", LATE)]))
        .unwrap();
    drop(store);
    home.verify();
    let database = home.database();
    let check = || {
        let verified = home.reader().verify(home.keys().verifier(), &[], |_| ());
        verified.unwrap_err().to_string()
    };
    database.execute("UPDATE holds SET expires = expires + 1", []).unwrap();
    assert!(check().contains("the holds"));
    database.execute("UPDATE holds SET expires = expires - 1", []).unwrap();
    database.execute("UPDATE persons SET name = 'eve'", []).unwrap();
    assert!(check().contains("the people"));
}
