//! Edits of holds, as the writer takes them in: signed, in one piece, in the place of what waited.

use ambit_core::digest::Digest;
use ambit_core::hold::Edit;
use ambit_core::ledger::body::HoldEdited;
use ambit_core::ledger::{Body, EntryDraft};

use super::fixture::{Call, batch};
use super::holds::{LATE, enrolled, key, refused, with_hold};

fn edit(person: &str, hold: &[u8], expires_ms: u64) -> Edit {
    Edit {
        person: person.into(),
        hold: Digest::of(hold),
        changes: Digest::of(b"changes"),
        group: "finance".into(),
        expires_ms,
    }
}

fn edited(call: &Call, note: String, hold: &[u8], to: &[u8]) -> EntryDraft {
    call.draft(HoldEdited {
        changes: Digest::of(b"changed"),
        edit: note,
        hold: Digest::of(hold),
        ordinal: 0,
        reason: None,
        to: Digest::of(to),
    })
}

/// What is held in the place of something.
fn anew(call: &Call, hold: &[u8], from: &[u8], expires: u64) -> EntryDraft {
    anew_by("ann", call, hold, from, expires)
}

fn anew_by(person: &str, call: &Call, hold: &[u8], from: &[u8], expires: u64) -> EntryDraft {
    let mut draft = call.held(0, hold, expires);
    if let Body::EffectHeld(body) = &mut draft.body {
        body.edited_from = Some(Digest::of(from));
        body.authors = vec![person.into()];
        // It takes a place, and no second one.
        body.most = 1;
    }
    draft
}

#[test]
fn an_edit_is_signed_by_whoever_is_enrolled_and_of_what_waits() {
    with_hold(LATE, |store, call| {
        let both = |note: String, hold: &[u8]| {
            store.commit(batch([
                edited(call, note, hold, b"next"),
                anew_by("ben", call, b"next", b"hold", LATE),
            ]))
        };
        let by = |person: &str, edit: &Edit| edit.sign(&key(person)).unwrap();
        refused(both(by("ben", &edit("ben", b"hold", LATE)), b"hold"), "not signed");
        refused(both(by("ann", &edit("ann", b"another", LATE)), b"hold"), "not signed");
        refused(both(by("ann", &edit("ann", b"hold", 1)), b"hold"), "not signed");
        refused(
            both(by("ann", &edit("ann", b"another", LATE)), b"another"),
            "not held under",
        );
        store.commit(enrolled("ben")).unwrap();
        both(by("ben", &edit("ben", b"hold", LATE)), b"hold").unwrap();
        let waits = store.reader().unwrap().holds(None, 10).unwrap();
        assert_eq!(waits.len(), 1);
        assert_eq!(waits[0].1.hold, Digest::of(b"next"));
        // What it was is over: nobody votes on it, and nothing ends with it.
        refused(both(by("ann", &edit("ann", b"hold", LATE)), b"hold"), "not held under");
        refused(store.commit(batch([call.unheld(0, b"hold")])), "not held under");
        store.commit(batch([call.unheld(0, b"next")])).unwrap();
    });
}

#[test]
fn what_an_edit_holds_comes_right_after_it_and_for_no_longer() {
    with_hold(LATE, |store, call| {
        let note = || edit("ann", b"hold", LATE).sign(&key("ann")).unwrap();
        let wrong = "held by an edit that does not come before it";
        refused(store.commit(batch([anew(call, b"next", b"hold", LATE)])), wrong);
        refused(store.commit(batch([anew(call, b"hold", b"hold", LATE)])), wrong);
        for next in [
            anew(call, b"other", b"hold", LATE),
            anew(call, b"next", b"hold", LATE + 1),
        ] {
            refused(
                store.commit(batch([edited(call, note(), b"hold", b"next"), next])),
                wrong,
            );
        }
        let waits = store.reader().unwrap().holds(None, 10).unwrap();
        assert_eq!(waits[0].1.hold, Digest::of(b"hold"), "all or nothing");
        let both = [
            edited(call, note(), b"hold", b"next"),
            anew(call, b"next", b"hold", LATE),
        ];
        store.commit(batch(both)).unwrap();
    });
}

#[test]
fn a_hold_that_is_refused_says_how_it_ended() {
    with_hold(LATE, |store, call| {
        let mut refusal = call.unheld(0, b"hold");
        if let Body::EffectRefused(body) = &mut refusal.body {
            body.end = None;
        }
        refused(store.commit(batch([refusal])), "does not say how its hold ended");
        store.commit(batch([call.unheld(0, b"hold")])).unwrap();
    });
}
