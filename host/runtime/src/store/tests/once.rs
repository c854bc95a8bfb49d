//! Calls that are made once for a word of their caller, in the books.

use ambit_core::digest::Digest;
use ambit_core::ledger::body::Once;
use ambit_core::ledger::{Body, EntryDraft};

use crate::host::now_ms;

use super::super::{Store, StoreError, StoreOptions};
use super::fixture::{Call, Home, batch};

fn once(word: &str, request: &str) -> Once {
    Once {
        key: Digest::of(word.as_bytes()),
        request: Digest::of(request.as_bytes()),
    }
}

fn accepted(call: &Call, once: Once) -> EntryDraft {
    let mut draft = call.accepted(vec![]);
    if let Body::CallAccepted(accepted) = &mut draft.body {
        accepted.once = Some(once);
    }
    draft
}

#[test]
fn for_a_word_one_call_is_made() {
    let test = |store: &Store| {
        let (one, other) = (Call::new(), Call::new());
        store.commit(batch([accepted(&one, once("w", "r"))])).unwrap();
        for request in ["r", "s"] {
            let refused = store.commit(batch([accepted(&other, once("w", request))])).unwrap_err();
            assert_eq!(refused, StoreError::Repeated { call: one.id.clone() });
        }
        store.commit(batch([accepted(&other, once("v", "r"))])).unwrap();
        let known = store.reader().unwrap().once(&Digest::of(b"w")).unwrap();
        assert_eq!(known, Some((Digest::of(b"r"), one.id)));
        assert_eq!(store.reader().unwrap().once(&Digest::of(b"x")).unwrap(), None);
    };
    let home = Home::new();
    test(&home.open());
    home.verify();
    test(&Store::memory(home.keys(), StoreOptions::default()).unwrap());
}

#[test]
fn for_a_word_one_run_is_started() {
    let test = |store: &Store| {
        let run = |letter: &str, word: &str| {
            let mut started = Call::new().run(&format!("r_{}", letter.repeat(26)), now_ms() + 3_600_000, vec![]);
            started.once = Some(once(word, "r"));
            store.commit(batch([EntryDraft::of_ledger(started)]))
        };
        run("a", "w").unwrap();
        let call = format!("r_{}", "a".repeat(26));
        assert_eq!(run("b", "w").unwrap_err(), StoreError::Repeated { call: call.clone() });
        run("b", "v").unwrap();
        let known = store.reader().unwrap().once(&Digest::of(b"w")).unwrap();
        assert_eq!(known, Some((Digest::of(b"r"), call)));
    };
    let home = Home::new();
    test(&home.open());
    home.verify();
    test(&Store::memory(home.keys(), StoreOptions::default()).unwrap());
}

#[test]
fn an_audit_finds_a_word_that_no_entry_has() {
    for sql in [
        "DELETE FROM once",
        "UPDATE once SET request = zeroblob(32)",
        "INSERT INTO once(key, request, call) VALUES (zeroblob(32), zeroblob(32), 'c_x')",
    ] {
        let home = Home::new();
        let store = home.open();
        store.commit(batch([accepted(&Call::new(), once("w", "r"))])).unwrap();
        drop(store);
        home.verify();
        home.database().execute_batch(sql).unwrap();
        let found = home.try_verify().unwrap_err().to_string();
        assert!(found.contains("the words of callers"), "{sql}: {found}");
    }
}
