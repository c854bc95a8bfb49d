//! Holds and votes in the books: what the writer refuses, and what an audit finds.

use ambit_core::digest::Digest;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ambit_core::hold::{Delegation, LONGEST_DELEGATION_MS, Verdict, Vote};
use ambit_core::ledger::body::{PersonDelegated, PersonEnrolled, PersonRevoked};
use ambit_core::ledger::{Body, EntryDraft, SignerKey};

use super::super::{Batch, Store, StoreError, StoreOptions};
use super::fixture::{Call, Home, batch};

/// A store of each kind, which must behave alike.
fn on_both(test: impl Fn(&Store)) {
    let home = Home::new();
    test(&home.open());
    home.verify();
    test(&Store::memory(home.keys(), StoreOptions::default()).unwrap());
}

pub(super) fn key(name: &str) -> SignerKey {
    let mut seed = [9; 32];
    name.bytes().zip(&mut seed).for_each(|(byte, seed)| *seed = byte);
    SignerKey::from_seed(name, &seed).unwrap()
}

pub(super) fn enrolled(name: &str) -> Batch {
    batch([EntryDraft::of_ledger(PersonEnrolled {
        key: key(name).verifier().to_string(),
        name: name.into(),
    })])
}

pub(super) fn vote(by: &SignerKey, hold: &[u8]) -> String {
    let vote = Vote {
        person: by.verifier().name().to_owned(),
        hold: Digest::of(hold),
        verdict: Verdict::Approve,
        group: "finance".into(),
        expires_ms: u64::MAX >> 12,
        in_stead_of: None,
    };
    vote.sign(by).unwrap()
}

/// A store with a call whose first effect is held until `expires`, and a person who may say something.
pub(super) fn with_hold(expires: u64, then: impl Fn(&Store, &Call)) {
    on_both(|store| {
        let call = Call::new();
        store.commit(enrolled("ann")).unwrap();
        store
            .commit(batch([call.accepted(vec![]), call.held(0, b"hold", expires)]))
            .unwrap();
        then(store, &call);
    });
}

pub(super) const LATE: u64 = u64::MAX >> 12;

pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>, why: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn a_hold_ends_once_and_with_its_own_intent() {
    with_hold(LATE, |store, call| {
        refused(store.commit(call.passes(0, b"another")), "not held under that hold");
        let yes = vote(&key("ann"), b"hold");
        store.commit(batch([call.voted(0, b"hold", yes)])).unwrap();
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

/// What ann says about ben, `made` and `until` in milliseconds from now.
fn said(made: i64, until: i64) -> Delegation {
    let now = crate::host::now_ms();
    let at = |ms: i64| u64::try_from(now + ms).unwrap();
    Delegation {
        ledger: "ledger".into(),
        person: "ann".into(),
        delegate: "ben".into(),
        group: "finance".into(),
        made_ms: at(made),
        until_ms: at(until),
    }
}

fn entered(said: &Delegation, by: &SignerKey) -> Batch {
    let delegation = said.sign(by).unwrap();
    batch([EntryDraft::of_ledger(PersonDelegated { delegation })])
}

const HOUR: i64 = 3_600_000;

#[test]
fn a_delegation_is_signed_by_whoever_gives_the_vote_and_to_somebody_else_who_is_enrolled() {
    on_both(|store| {
        let ann = key("ann");
        refused(store.commit(entered(&said(0, HOUR), &ann)), "not signed by a person");
        store.commit(enrolled("ann")).unwrap();
        refused(store.commit(entered(&said(0, HOUR), &ann)), "nobody else");
        store.commit(enrolled("ben")).unwrap();
        let herself = Delegation {
            delegate: "ann".into(),
            ..said(0, HOUR)
        };
        refused(store.commit(entered(&herself, &ann)), "nobody else");
        let other = SignerKey::from_seed("ann", &[8; 32]).unwrap();
        refused(store.commit(entered(&said(0, HOUR), &other)), "not signed by a person");
        store.commit(entered(&said(0, HOUR), &ann)).unwrap();
        assert_eq!(store.reader().unwrap().delegations().unwrap().len(), 1);
    });
}

#[test]
fn a_delegation_is_for_a_time_and_said_in_the_present() {
    on_both(|store| {
        let ann = key("ann");
        store.commit(enrolled("ann")).unwrap();
        store.commit(enrolled("ben")).unwrap();
        let longest = i64::try_from(LONGEST_DELEGATION_MS).unwrap();
        refused(
            store.commit(entered(&said(0, longest + 1), &ann)),
            "longer than 90 days",
        );
        refused(store.commit(entered(&said(HOUR, 2 * HOUR), &ann)), "in the future");
        store.commit(entered(&said(0, longest - 1), &ann)).unwrap();
    });
}

#[test]
fn what_was_said_before_does_not_count_again() {
    on_both(|store| {
        let ann = key("ann");
        store.commit(enrolled("ann")).unwrap();
        store.commit(enrolled("ben")).unwrap();
        let first = said(-1_000, HOUR);
        store.commit(entered(&first, &ann)).unwrap();
        let back = said(-500, -500);
        store.commit(entered(&back, &ann)).unwrap();
        refused(store.commit(entered(&first, &ann)), "no newer");
        refused(store.commit(entered(&back, &ann)), "no newer");
        store.commit(entered(&said(-400, HOUR), &ann)).unwrap();
        // Whoever is revoked and enrolled again begins without.
        for name in ["ben", "ann"] {
            let revoked = PersonRevoked {
                key: key(name).verifier().to_string(),
                name: name.into(),
            };
            store.commit(batch([EntryDraft::of_ledger(revoked)])).unwrap();
            store.commit(enrolled(name)).unwrap();
            let left = store.reader().unwrap().delegations().unwrap();
            assert!(left.iter().all(|said| said.until_ms == 0), "{left:?}");
            refused(store.commit(entered(&said(-10_000, HOUR), &ann)), "no newer");
            let next = if name == "ben" { -300 } else { -200 };
            store.commit(entered(&said(next, HOUR), &ann)).unwrap();
        }
    });
}

#[test]
fn a_vote_in_another_s_stead_follows_their_word_for_it() {
    with_hold(LATE, |store, call| {
        store.commit(enrolled("ben")).unwrap();
        let vote = Vote {
            person: "ben".into(),
            hold: Digest::of(b"hold"),
            verdict: Verdict::Approve,
            group: "finance".into(),
            expires_ms: LATE,
            in_stead_of: Some("ann".into()),
        };
        let voted = || store.commit(batch([call.voted(0, b"hold", vote.sign(&key("ben")).unwrap())]));
        refused(voted(), "did not give their vote");
        store.commit(entered(&said(-1_000, HOUR), &key("ann"))).unwrap();
        voted().unwrap();
        store.commit(entered(&said(-500, -500), &key("ann"))).unwrap();
        refused(voted(), "did not give their vote");
    });
}

#[test]
fn a_broken_glass_is_marked_and_has_a_reason() {
    with_hold(LATE, |store, call| {
        let vote = |verdict| Vote {
            verdict,
            person: "ann".into(),
            hold: Digest::of(b"hold"),
            group: "finance".into(),
            expires_ms: LATE,
            in_stead_of: None,
        };
        let all = || Some([("finance".to_owned(), 1)].into());
        let voted = |verdict, instead, reason: Option<&[u8]>| {
            let mut draft = call.voted(0, b"hold", vote(verdict).sign(&key("ann")).unwrap());
            if let Body::HoldVoted(body) = &mut draft.body {
                body.instead = instead;
                body.reason = reason.map(Digest::of);
            }
            store.commit(batch([draft]))
        };
        let (breaks, approves) = (Verdict::BreakGlass, Verdict::Approve);
        refused(voted(breaks, None, Some(b"why")), "what the glass was broken for");
        refused(voted(breaks, all(), None), "what the glass was broken for");
        refused(voted(approves, all(), Some(b"why")), "what the glass was broken for");
        voted(breaks, all(), Some(b"why")).unwrap();
        voted(approves, None, None).unwrap();
    });
}

/// A call whose first effect waits, where `most` of its agent may.
fn waits(most: u32, hold: &[u8]) -> (Call, Batch) {
    let call = Call::new();
    let mut held = call.held(0, hold, LATE);
    if let Body::EffectHeld(body) = &mut held.body {
        body.most = most;
    }
    let batch = batch([call.accepted(vec![]), held]);
    (call, batch)
}

#[test]
fn no_more_effects_of_an_agent_wait_than_may_however_many_ask_at_once() {
    let home = Home::new();
    let store = Arc::new(home.open());
    let threads: Vec<_> = (0..8_u32)
        .map(|thread| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                let hold = |nth: u32| [thread.to_be_bytes(), nth.to_be_bytes()].concat();
                let commit = |nth| store.commit(waits(10, &hold(nth)).1);
                (0..5).filter(|nth| commit(*nth).is_ok()).count()
            })
        })
        .collect();
    let waiting: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(waiting, 10);
    refused(store.commit(waits(10, b"more").1), "10 effects of agent");
    // One that is decided makes room for another.
    let (work, held) = store.reader().unwrap().holds(None, 1).unwrap().remove(0);
    let first = store.reader().unwrap().entry(held.index).unwrap();
    let Body::EffectHeld(body) = first.body() else {
        panic!("{first:?}")
    };
    let mut refusal = Call::new().unheld(0, b"");
    if let Body::EffectRefused(refused) = &mut refusal.body {
        refused.hold = Some(body.hold);
    }
    refusal.call = Some(work.call);
    refusal.trace = first.trace().map(str::to_owned);
    store.commit(batch([refusal])).unwrap();
    store.commit(waits(10, b"more").1).unwrap();
    drop(store);
    home.verify();
}

#[test]
fn a_page_of_very_many_holds_is_read_by_an_index() {
    const MANY: u32 = 100_000;
    let home = Home::new();
    let store = home.open();
    for chunk in (0..MANY).collect::<Vec<_>>().chunks(2_000) {
        let entries = chunk.iter().flat_map(|nth| {
            let mut waiting = waits(1_000, &nth.to_be_bytes()).1;
            for entry in &mut waiting.entries {
                entry.principal.as_mut().unwrap().agent = format!("agent-{}", nth / 1_000);
            }
            waiting.entries
        });
        store.commit(batch(entries.collect::<Vec<_>>())).unwrap();
    }
    drop(store);
    let reader = home.reader();
    let timed = |after| {
        let begun = Instant::now();
        let page = reader.holds(after, 20).unwrap();
        for (work, held) in &page {
            let entries = reader.entries_of_hold(&work.call, held.index).unwrap();
            assert_eq!(entries.len(), 2);
        }
        assert_eq!(page.len(), 20);
        (begun.elapsed(), page.last().unwrap().1.clone())
    };
    let (_, first) = timed(None);
    let took = [None, Some(first.index), Some(u64::from(MANY))].map(|after| timed(after).0);
    assert!(took.iter().all(|took| *took < Duration::from_millis(50)), "{took:?}");
    let begun = Instant::now();
    let found = reader.holds_like(&first.hold.to_hex()[..12]).unwrap();
    assert_eq!(found, [(found[0].0.clone(), first)]);
    assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
    // Nothing is sorted, and nothing but an index looks for anything.
    let database = home.database();
    for sql in [
        "SELECT call, ordinal, hold, expires, idx, agent FROM holds WHERE idx > 5 ORDER BY idx LIMIT 20",
        "SELECT count(*) FROM holds WHERE agent = 'a'",
        "SELECT bytes FROM entries WHERE call = 'c' AND idx >= 7",
    ] {
        let plan: Vec<String> = database
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap()
            .query_map([], |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert!(plan.iter().all(|step| step.starts_with("SEARCH")), "{sql}: {plan:?}");
    }
}
