use super::*;
use crate::ledger::story::{EffectStory, Opening};
use crate::ledger::verify::Fault;

fn check(stored: Vec<Stored>, notes: &[String]) -> Result<Verified, Bad> {
    verify(
        stored.into_iter().map(Ok),
        notes.iter().map(String::as_str),
        key().verifier(),
    )
}

#[test]
fn a_sound_ledger() {
    let log = Log::of_everything();
    let verified = log.verify().unwrap();
    assert_eq!((verified.size, verified.root), (log.tree.size(), log.tree.root()));
    assert_eq!((verified.checkpoints, verified.calls), (log.notes.len(), 3));
    assert_eq!(verified.open, []);
    assert_eq!(verified.span_ms, (1_795_228_800_000, 1_795_228_816_000));
    // One checkpoint is enough, in whatever company and order.
    let mut notes = vec![log.notes[16].clone(), log.notes[3].clone(), log.notes[3].clone()];
    assert_eq!(check(log.stored(), &notes).unwrap().checkpoints, 2);
    notes.truncate(1);
    assert_eq!(check(log.stored(), &notes).unwrap().checkpoints, 1);
    let empty = Checkpoint::sign(0, merkle::empty_root(), &key());
    assert!(check(log.stored(), &[empty, log.notes[16].clone()]).is_ok());
}

#[test]
fn calls_under_way_are_named() {
    let mut log = Log::of_everything();
    log.push(of_call('e', accepted()));
    log.push(of_call('e', intent(0)));
    log.push(of_call('f', accepted()));
    assert_eq!(
        log.verify().unwrap().open,
        [(call_id('e'), vec![0]), (call_id('f'), vec![])]
    );
}

/// A changed byte names its entry: always with the leaf hashes a store keeps, and by the checkpoints around it without.
#[test]
fn any_changed_byte_names_its_entry() {
    let log = Log::of_everything();
    for (index, entry) in log.entries.iter().enumerate() {
        for at in (0..entry.bytes().len()).step_by(11) {
            let mut stored = log.stored();
            stored[index].bytes[at] ^= 1;
            let bad = check(stored.clone(), &log.notes).unwrap_err();
            assert_eq!((bad.index, bad.fault), (Some(index as u64), Fault::Leaf));
            stored.iter_mut().for_each(|stored| stored.leaf = None);
            let bad = check(stored.clone(), &log.notes).unwrap_err();
            assert_eq!(bad.index, Some(index as u64), "byte {at}: {bad}");
            let bad = check(stored, &log.notes[16..]).unwrap_err();
            assert!(bad.index.unwrap() <= 16, "{bad}");
        }
    }
}

/// A byte that still reads, under a leaf hash that was changed with it: the checkpoints tell.
#[test]
fn a_rewritten_entry_is_not_what_was_signed() {
    let log = Log::of_everything();
    let rewritten = log.entries[7].text().replace("\"status\":200", "\"status\":500");
    let mut stored = log.stored();
    stored[7] = Stored {
        leaf: Some(merkle::leaf_hash(rewritten.as_bytes())),
        bytes: rewritten.into_bytes(),
    };
    let bad = check(stored.clone(), &log.notes).unwrap_err();
    assert_eq!((bad.index, bad.fault), (Some(7), Fault::Root { proved: 7, size: 8 }));
    let bad = check(stored, &[log.notes[4].clone(), log.notes[16].clone()]).unwrap_err();
    assert_eq!((bad.index, bad.fault), (Some(5), Fault::Root { proved: 5, size: 17 }));
}

#[test]
fn removed_swapped_repeated_and_foreign_entries() {
    let log = Log::of_everything();
    let edit = |edit: &dyn Fn(&mut Vec<Stored>)| {
        let mut stored = log.stored();
        edit(&mut stored);
        check(stored, &log.notes).unwrap_err()
    };
    let bad = edit(&|stored| drop(stored.remove(6)));
    assert_eq!((bad.index, bad.fault), (Some(6), Fault::Sequence { found: 7 }));
    let bad = edit(&|stored| stored.swap(5, 6));
    assert_eq!((bad.index, bad.fault), (Some(5), Fault::Sequence { found: 6 }));
    let bad = edit(&|stored| stored.insert(5, stored[4].clone()));
    assert_eq!((bad.index, bad.fault), (Some(5), Fault::Sequence { found: 4 }));
    let bad = edit(&|stored| drop(stored.remove(0)));
    assert_eq!((bad.index, bad.fault), (Some(0), Fault::Sequence { found: 1 }));
}

#[test]
fn trap_13_a_cut_tail_is_seen_against_a_later_checkpoint() {
    let log = Log::of_everything();
    for size in 0..log.entries.len() {
        let cut = log.stored()[..size].to_vec();
        // The store was cut with its checkpoints; the high-water mark was not.
        let mut notes = log.notes[..size].to_vec();
        if size > 0 {
            assert!(check(cut.clone(), &notes).is_ok(), "nothing tells without the mark");
        }
        notes.push(log.notes[16].clone());
        let bad = check(cut, &notes).unwrap_err();
        assert_eq!(
            (bad.index, bad.fault),
            (Some(size as u64), Fault::Truncated { signed: 17 })
        );
    }
    assert_eq!(check(vec![], &[]).unwrap_err().fault, Fault::Empty);
}

#[test]
fn an_entry_without_a_checkpoint_is_nobodys() {
    let log = Log::of_everything();
    let bad = check(log.stored(), &log.notes[..15]).unwrap_err();
    assert_eq!((bad.index, bad.fault), (Some(15), Fault::Unsigned));
    let bad = check(log.stored(), &[]).unwrap_err();
    assert_eq!((bad.index, bad.fault), (Some(0), Fault::Unsigned));
}

#[test]
fn trap_14_checkpoints_of_another_key_or_history() {
    let log = Log::of_everything();
    let other = SignerKey::from_seed(NAME, &[8; 32]).unwrap();
    let forged = Checkpoint::sign(17, log.tree.root(), &other);
    let bad = check(log.stored(), &[forged]).unwrap_err();
    assert!(
        bad.index.is_none() && matches!(bad.fault, Fault::Checkpoint(LedgerError::Signature { .. })),
        "{bad}"
    );
    let fork = Checkpoint::sign(9, merkle::leaf_hash(b"another"), &key());
    let bad = check(log.stored(), &[log.notes[8].clone(), fork.clone()]).unwrap_err();
    assert_eq!((bad.index, bad.fault), (None, Fault::Fork { size: 9 }));
    let bad = check(log.stored(), &[fork]).unwrap_err();
    assert_eq!((bad.index, bad.fault), (Some(0), Fault::Root { proved: 0, size: 9 }));
}

/// What the key's holder signs must still make sense: each of these is a ledger whose tree and signatures are right.
fn refuses(drafts: impl IntoIterator<Item = EntryDraft>, index: u64, why: &str) {
    let mut log = Log::new();
    drafts.into_iter().for_each(|draft| log.push(draft));
    let bad = log.verify().unwrap_err();
    assert_eq!(bad.index, Some(index), "{bad}");
    assert!(bad.to_string().contains(why), "{bad}");
}

#[test]
fn nothing_of_a_call_comes_before_it_was_accepted() {
    refuses(
        [of_call('a', intent(0))],
        1,
        "effect-intent (effect 0) of call c_aaaaaaaaaaaaaaaaaaaaaaaaaa at index 1: no call-accepted",
    );
    refuses([of_call('a', refused(0))], 1, "no call-accepted");
    refuses([of_call('a', finished(&[]))], 1, "no call-accepted");
    refuses(
        [of_call('a', accepted()), of_call('b', intent(0))],
        2,
        "no call-accepted",
    );
}

#[test]
fn an_outcome_follows_its_intent_once() {
    let start = || vec![of_call('a', accepted())];
    let with = |more: Vec<Body>| {
        start()
            .into_iter()
            .chain(more.into_iter().map(|body| of_call('a', body)))
    };
    refuses(with(vec![answered(0)]), 2, "no effect-intent");
    refuses(with(vec![refused(0), answered(0)]), 3, "no effect-intent");
    refuses(with(vec![intent(0), answered(1)]), 3, "no effect-intent");
    refuses(with(vec![intent(0), answered(0), answered(0)]), 4, "an outcome already");
    refuses(with(vec![intent(0), intent(0)]), 3, "an effect of that number");
    refuses(with(vec![refused(0), intent(0)]), 3, "an effect of that number");
    refuses(
        with(vec![intent(0), answered(0), refused(0)]),
        4,
        "an effect of that number",
    );
}

#[test]
fn money_is_what_the_intent_said() {
    let spent = |amount| {
        let Body::EffectOutcome(mut body) = answered(0) else {
            unreachable!()
        };
        body.spent = amount;
        [of_call('a', accepted()), of_call('a', intent(0)), of_call('a', body)]
    };
    refuses(spent(Some(usd(5001))), 3, "spent");
    refuses(
        spent(Some(Amount {
            currency: "eur".parse().unwrap(),
            minor: 1,
        })),
        3,
        "spent",
    );
    for less in [None, Some(usd(0)), Some(usd(4999))] {
        let mut log = Log::new();
        spent(less).into_iter().for_each(|draft| log.push(draft));
        assert!(log.verify().is_ok());
    }
}

#[test]
fn a_call_ends_once_and_adds_up() {
    let with = |more: Vec<Body>| {
        std::iter::once(of_call('a', accepted())).chain(more.into_iter().map(|body| of_call('a', body)))
    };
    refuses(with(vec![finished(&[]), finished(&[])]), 3, "already over");
    refuses(with(vec![finished(&[]), intent(0)]), 3, "already over");
    refuses(with(vec![finished(&[]), accepted()]), 3, "already over");
    refuses([of_call('a', denied()), of_call('a', accepted())], 2, "already over");
    refuses(with(vec![accepted()]), 2, "does not continue");
    refuses(with(vec![denied()]), 2, "does not continue");
    refuses(with(vec![intent(0), finished(&[])]), 3, "no outcome yet");
    refuses(with(vec![intent(0), answered(0), finished(&[])]), 4, "add up");
    refuses(
        with(vec![intent(0), answered(0), refused(1), finished(&[(1, 4999)])]),
        5,
        "add up",
    );
    let Body::CallFinished(mut other) = finished(&[]) else {
        unreachable!()
    };
    other.asked.args = digest("other arguments");
    refuses(with(vec![other.into()]), 2, "what was asked");
}

#[test]
fn a_hold_ends_once_with_what_names_it() {
    let with = |more: Vec<Body>| {
        std::iter::once(of_call('a', accepted())).chain(more.into_iter().map(|body| of_call('a', body)))
    };
    let another_hold = |body: Body| {
        let Body::EffectIntent(mut body) = body else {
            unreachable!()
        };
        body.hold = Some(digest("another hold"));
        Body::from(body)
    };
    refuses(with(vec![held(0), intent(0)]), 3, "an effect of that number");
    refuses(with(vec![held(0), refused(0)]), 3, "an effect of that number");
    refuses(
        with(vec![held(0), another_hold(intent(0))]),
        3,
        "an effect of that number",
    );
    refuses(with(vec![passed(0)]), 2, "an effect of that number");
    refuses(
        with(held_and(vec![passed(0), answered(0), passed(0)])),
        8,
        "an effect of that number",
    );
    refuses(with(vec![held(0), held(0)]), 3, "an effect of that number");
    refuses(with(vec![held(0), held(1)]), 3, "another effect of the call is held");
    refuses(with(vec![voted(0)]), 2, "no such hold");
    refuses(with(vec![held(0), voted(1)]), 3, "no such hold");
    refuses(with(held_and(vec![passed(0), voted(0)])), 7, "no such hold");
    refuses(with(vec![held(0), finished(&[])]), 3, "is held");
}

/// A hold with all its approvals, and what comes after that.
fn held_and(more: Vec<Body>) -> Vec<Body> {
    std::iter::once(held(0)).chain(approvals(0)).chain(more).collect()
}

#[test]
fn what_ends_a_hold_was_approved() {
    let with = |more: Vec<Body>| std::iter::once(accepted()).chain(more).map(|body| of_call('a', body));
    let over = |budget: &str, hold: Option<&str>| {
        let Body::EffectIntent(mut body) = (match hold {
            Some(_) => passed(0),
            None => intent(0),
        }) else {
            unreachable!()
        };
        body.reserved[0].budget = budget.to_owned();
        body.reserved[0].over = Some(digest("hold"));
        Body::from(body)
    };
    let mut log = Log::new();
    with(held_and(vec![passed(0)])).for_each(|draft| log.push(draft));
    assert!(log.verify().is_ok());
    let few = "not approved by as many";
    let of = |people: &[(&str, &str)]| {
        let votes = people.iter().map(|(person, group)| approved(0, person, group));
        std::iter::once(held(0))
            .chain(votes)
            .chain([passed(0)])
            .collect::<Vec<_>>()
    };
    refuses(with(of(&[])), 3, few);
    refuses(with(of(&[("ann", "finance"), ("cid", "legal")])), 5, few);
    // One person twice, and the user that it is done for.
    refuses(
        with(of(&[("ann", "finance"), ("ann", "finance"), ("cid", "legal")])),
        6,
        few,
    );
    refuses(
        with(of(&[("ann", "finance"), ("alice", "finance"), ("cid", "legal")])),
        6,
        few,
    );
    refuses(with(held_and(vec![over("another", Some("hold"))])), 6, "did not name");
    refuses(with(vec![over("refunds", None)]), 2, "was not held");
}

/// A call whose one effect is in doubt, and what comes after that.
fn doubtful(more: Vec<Body>) -> impl Iterator<Item = EntryDraft> {
    let doubt = outcome(0, Outcome::InDoubt(Doubt::Timeout));
    [accepted(), intent(0), doubt]
        .into_iter()
        .chain(more)
        .map(|body| of_call('a', body))
}

fn ended_in_doubt(cents: u64) -> Body {
    let Body::CallFinished(mut body) = finished(&[]) else {
        unreachable!()
    };
    body.effects.in_doubt = 1;
    body.spent = if cents == 0 { vec![] } else { vec![usd(cents)] };
    body.into()
}

#[test]
fn what_became_of_a_doubt_is_said_once() {
    let said = |change: &dyn Fn(&mut EffectResolved)| {
        let Body::EffectResolved(mut body) = resolved(0, Found::Done) else {
            unreachable!()
        };
        change(&mut body);
        Body::from(body)
    };
    for (found, cents) in [(Found::Done, 5000), (Found::NotDone, 0)] {
        let mut log = Log::new();
        doubtful(vec![resolved(0, found), ended_in_doubt(cents)]).for_each(|draft| log.push(draft));
        assert_eq!(log.verify().unwrap().doubtful, 0);
        // It may come after the end, which said what was known then.
        let mut log = Log::new();
        doubtful(vec![ended_in_doubt(5000)]).for_each(|draft| log.push(draft));
        assert_eq!(log.verify().unwrap().doubtful, 1);
        log.push(of_call('a', resolved(0, found)));
        assert_eq!(log.verify().unwrap().doubtful, 0);
    }
    let twice = vec![resolved(0, Found::Done), resolved(0, Found::Done)];
    refuses(doubtful(twice), 5, "no effect of that number is in doubt");
    refuses(
        doubtful(vec![resolved(1, Found::Done)]),
        4,
        "no effect of that number is in doubt",
    );
    refuses(
        doubtful(vec![said(&|said| said.spent = Some(usd(5001)))]),
        4,
        "its outcome did not say",
    );
    refuses(
        doubtful(vec![said(&|said| said.found = Found::NotDone)]),
        4,
        "its outcome did not say",
    );
    refuses(
        doubtful(vec![said(&|said| said.answer = Some(digest("answer")))]),
        4,
        "told something else",
    );
    refuses(doubtful(vec![ended_in_doubt(5000), intent(1)]), 5, "already over");
    let known = [accepted(), intent(0), answered(0), resolved(0, Found::Done)];
    refuses(
        known.map(|body| of_call('a', body)),
        4,
        "no effect of that number is in doubt",
    );
}

#[test]
fn a_broken_glass_says_what_it_was_broken_for() {
    let with = |more: Body| [accepted(), held(0), more].map(|body| of_call('a', body));
    let voted = |verdict, instead| {
        let vote = Vote {
            person: "ann".into(),
            hold: digest("hold"),
            verdict,
            group: "incident".into(),
            expires_ms: 1_795_228_900_000,
            in_stead_of: None,
        };
        let Body::HoldVoted(mut body) = voted(0) else {
            unreachable!()
        };
        body.vote = vote.sign(&SignerKey::from_seed("ann", &[7; 32]).unwrap()).unwrap();
        body.instead = instead;
        Body::from(body)
    };
    let (breaks, approves) = (Verdict::BreakGlass, Verdict::Approve);
    let all = Some([("finance".to_owned(), 2), ("legal".to_owned(), 1)].into());
    let less = Some([("finance".to_owned(), 1)].into());
    for (verdict, instead) in [(breaks, None), (breaks, less), (approves, all.clone())] {
        refuses(with(voted(verdict, instead)), 3, "which approvals the glass was broken");
    }
    for (verdict, instead) in [(breaks, all), (approves, None)] {
        let mut log = Log::new();
        with(voted(verdict, instead))
            .into_iter()
            .for_each(|draft| log.push(draft));
        log.verify().unwrap();
    }
}

#[test]
fn values_are_erased_once_and_of_calls_that_are_over() {
    let mut log = Log::of_everything();
    log.push(erased(&['a', 'd']));
    log.push(of_call('b', resolved(1, Found::Done)));
    log.push(erased(&['b']));
    assert_eq!(log.verify().unwrap().erased, 3);
    refuses([erased(&['a'])], 1, "no call of that id was over");
    refuses(
        [of_call('a', accepted()), erased(&['a'])],
        2,
        "no call of that id was over",
    );
    refuses(
        [of_call('d', denied()), erased(&['d']), erased(&['d'])],
        3,
        "they were erased before",
    );
}

#[test]
fn what_is_sent_again_is_counted_and_the_same() {
    let begun = || [of_call('a', accepted()), of_call('a', intent(1))];
    let of = |bodies: Vec<Body>| {
        begun()
            .into_iter()
            .chain(bodies.into_iter().map(|body| of_call('a', body)))
    };
    let mut log = Log::new();
    of(vec![retried(1, 2), retried(1, 3), after(1, 3)]).for_each(|draft| log.push(draft));
    log.verify().unwrap();
    let not_next = "not the next sending";
    refuses(of(vec![retried(1, 3)]), 3, not_next);
    refuses(of(vec![retried(1, 2), retried(1, 2)]), 4, not_next);
    refuses(of(vec![retried(2, 2)]), 3, not_next);
    refuses(of(vec![after(1, 1), retried(1, 2)]), 4, not_next);
    let Body::EffectRetried(mut other) = retried(1, 2) else {
        unreachable!()
    };
    other.request = digest("another");
    refuses(of(vec![other.into()]), 3, not_next);
    refuses(of(vec![retried(1, 2), after(1, 1)]), 4, "another number of sendings");
    refuses(of(vec![after(1, 2)]), 3, "another number of sendings");
}

/// A call with an effect that was answered, and what follows.
fn answered_and(more: Vec<Body>) -> impl Iterator<Item = EntryDraft> {
    let begun = [accepted(), intent(1), answered(1)];
    begun.into_iter().chain(more).map(|body| of_call('a', body))
}

/// The end of a call with one answered effect that was read back so.
fn finished_with(checked: &[Shown]) -> Body {
    let Body::CallFinished(mut body) = finished(&[(1, 5000)]) else {
        unreachable!()
    };
    body.effects.refused = 0;
    body.effects.unverified = checked.iter().filter(|shown| shown.is_unverified()).count() as u32;
    let entry = |shown: &Shown| EffectChecked {
        diff: digest("diff"),
        ordinal: 1,
        shown: *shown,
    };
    body.checked = checked.iter().map(entry).collect();
    body.into()
}

#[test]
fn what_was_read_back_is_said_once_and_added_up() {
    for shown in [Shown::Shown, Shown::NothingToCompare, Shown::Missing, Shown::Unreadable] {
        let mut log = Log::new();
        answered_and(vec![checked(1, shown), finished_with(&[shown])]).for_each(|draft| log.push(draft));
        log.verify().unwrap();
    }
    // A crash may come before it.
    let mut log = Log::new();
    answered_and(vec![finished_with(&[])]).for_each(|draft| log.push(draft));
    log.verify().unwrap();
    let missing = || checked(1, Shown::Missing);
    let no_such = "was not read back yet";
    refuses(answered_and(vec![missing(), missing()]), 5, no_such);
    refuses(answered_and(vec![checked(2, Shown::Shown)]), 4, no_such);
    let begun = || [of_call('a', accepted()), of_call('a', intent(1))];
    refuses(begun().into_iter().chain([of_call('a', missing())]), 3, no_such);
    let failed = outcome(1, Outcome::Answered(Answered { status: 500 }));
    let drafts = begun()
        .into_iter()
        .chain([of_call('a', failed), of_call('a', missing())]);
    refuses(drafts, 4, no_such);
    let Body::EffectIntent(mut read) = intent(1) else {
        unreachable!()
    };
    read.tier = Tier::Read;
    let drafts = [accepted(), read.into(), answered(1), missing()].map(|body| of_call('a', body));
    refuses(drafts, 4, no_such);
    let others = "not what the call's entries say";
    refuses(answered_and(vec![missing(), finished_with(&[])]), 5, others);
    refuses(answered_and(vec![finished_with(&[Shown::Shown])]), 4, others);
    refuses(
        answered_and(vec![checked(1, Shown::Shown), finished_with(&[Shown::Missing])]),
        5,
        others,
    );
    let Body::CallFinished(mut uncounted) = finished_with(&[Shown::Missing]) else {
        unreachable!()
    };
    uncounted.effects.unverified = 0;
    refuses(answered_and(vec![missing(), uncounted.into()]), 5, "add up to");
}

#[test]
fn only_the_host_reads_that_there_is_no_object() {
    let ended = |cause: Cause, status: u16| {
        let Body::EffectIntent(mut read) = intent(1) else {
            unreachable!()
        };
        read.cause = cause;
        let Body::EffectOutcome(mut ended) = outcome(1, Outcome::Answered(Answered { status })) else {
            unreachable!()
        };
        ended.absent = true;
        [accepted(), read.into(), ended.into()].map(|body| of_call('a', body))
    };
    for status in [404, 410] {
        let mut log = Log::new();
        ended(Cause::Host, status).into_iter().for_each(|draft| log.push(draft));
        log.verify().unwrap();
    }
    let why = "no reading of the host's";
    refuses(ended(Cause::Guest, 404), 3, why);
    refuses(ended(Cause::Host, 403), 3, why);
}

#[test]
fn what_is_sent_changes_what_was_shown_when_it_was_held() {
    let with = |held_before: Option<&str>, before: Option<&str>| {
        let (Body::EffectHeld(mut held), Body::EffectIntent(mut intent)) = (held(1), passed(1)) else {
            unreachable!()
        };
        held.before = held_before.map(digest);
        intent.before = before.map(digest);
        let mut bodies = vec![accepted(), held.into()];
        bodies.extend(approvals(1));
        bodies.push(intent.into());
        bodies.into_iter().map(|body| of_call('a', body)).collect::<Vec<_>>()
    };
    let mut log = Log::new();
    with(Some("before"), Some("before"))
        .into_iter()
        .for_each(|draft| log.push(draft));
    log.verify().unwrap();
    let index = log.entries.len() as u64 - 1;
    for (held, sent) in [
        (Some("before"), None),
        (None, Some("before")),
        (Some("before"), Some("other")),
    ] {
        refuses(with(held, sent), index, "another thing when it was held");
    }
}

/// A host ended after an intent, and what comes after that.
fn unseen(intent: Body, more: Vec<Body>) -> impl Iterator<Item = EntryDraft> {
    let Body::EffectOutcome(mut doubt) = outcome(1, Outcome::InDoubt(Doubt::Restart)) else {
        unreachable!()
    };
    doubt.answer = None;
    let letter = matches!(&intent, Body::EffectIntent(intent) if intent.letter.is_some());
    let accepted = if letter { retry_accepted() } else { accepted() };
    let begun = [accepted, intent, doubt.into()];
    begun.into_iter().chain(more).map(|body| of_call('a', body))
}

fn after_restart(attempt: u32) -> Body {
    let Body::EffectRetried(mut again) = retried(1, attempt) else {
        unreachable!()
    };
    again.after = Outcome::InDoubt(Doubt::Restart);
    again.into()
}

#[test]
fn what_nobody_saw_the_end_of_is_sent_again_and_ends_anew() {
    let ended = || {
        let Body::CallFinished(mut body) = finished(&[(1, 5000)]) else {
            unreachable!()
        };
        body.effects.refused = 0;
        Body::from(body)
    };
    let mut log = Log::new();
    let again = vec![after_restart(2), after(1, 2), ended()];
    unseen(intent(1), again).for_each(|draft| log.push(draft));
    assert_eq!(log.verify().unwrap().doubtful, 0);
    // Its host may end once more.
    let Body::EffectOutcome(mut once_more) = after(1, 2) else {
        unreachable!()
    };
    (once_more.answer, once_more.outcome) = (None, Outcome::InDoubt(Doubt::Restart));
    let mut log = Log::new();
    let again = vec![
        after_restart(2),
        once_more.into(),
        after_restart(3),
        after(1, 3),
        ended(),
    ];
    unseen(intent(1), again).for_each(|draft| log.push(draft));
    log.verify().unwrap();
    let not_next = "not the next sending";
    refuses(unseen(intent(1), vec![retried(1, 2)]), 4, not_next);
    refuses(unseen(intent(1), vec![after_restart(3)]), 4, not_next);
    let found = resolved(1, Found::NotDone);
    refuses(unseen(intent(1), vec![found, after_restart(2)]), 5, not_next);
    // Its guest was told that it is in doubt.
    let told = outcome(1, Outcome::InDoubt(Doubt::Restart));
    let drafts = [accepted(), intent(1), told, after_restart(2)];
    refuses(drafts.map(|body| of_call('a', body)), 4, not_next);
    let over = vec![ended_in_doubt(5000), after_restart(2)];
    refuses(unseen(intent(1), over), 5, "already over");
}

#[test]
fn a_retry_of_a_dead_letter_that_was_not_done_is_a_dead_letter_again() {
    let found = |found, dead| {
        let Body::EffectResolved(mut body) = resolved(1, found) else {
            unreachable!()
        };
        body.dead = dead;
        Body::from(body)
    };
    let letter = || redelivered(1, Cause::Operator);
    let otherwise = "whether it is a dead letter again";
    for (intent, word, dead) in [
        (letter(), Found::NotDone, true),
        (letter(), Found::Done, false),
        (intent(1), Found::NotDone, false),
    ] {
        let mut log = Log::new();
        unseen(intent.clone(), vec![found(word, dead)]).for_each(|draft| log.push(draft));
        log.verify().unwrap();
        refuses(unseen(intent, vec![found(word, !dead)]), 4, otherwise);
    }
}

#[test]
fn values_of_a_call_in_doubt_are_not_erased() {
    let mut log = Log::new();
    doubtful(vec![ended_in_doubt(5000)]).for_each(|draft| log.push(draft));
    log.push(erased(&['a']));
    let wrong = log.verify().unwrap_err().to_string();
    assert!(wrong.contains("in doubt"), "{wrong}");
    let mut log = Log::new();
    doubtful(vec![ended_in_doubt(5000), resolved(0, Found::Done)]).for_each(|draft| log.push(draft));
    log.push(erased(&['a']));
    log.verify().unwrap();
}

#[test]
fn a_dead_letter_is_taken_by_the_operator() {
    let mut log = Log::new();
    log.push(of_call('a', retry_accepted()));
    log.push(of_call('a', redelivered(1, Cause::Operator)));
    log.verify().unwrap();
    let another = "no operator's retry of that";
    for cause in [Cause::Guest, Cause::Host] {
        let drafts = [of_call('a', retry_accepted()), of_call('a', redelivered(1, cause))];
        refuses(drafts, 2, another);
    }
    let drafts = [of_call('a', accepted()), of_call('a', redelivered(1, Cause::Operator))];
    refuses(drafts, 2, another);
    // Nor does the call by which it is retried send anything else.
    refuses([of_call('a', retry_accepted()), of_call('a', intent(1))], 2, another);
    let Body::EffectIntent(mut other) = redelivered(1, Cause::Operator) else {
        unreachable!()
    };
    other.letter.as_mut().unwrap().ordinal += 1;
    refuses([of_call('a', retry_accepted()), of_call('a', other)], 2, another);
    // What the host looks up for it takes none.
    let Body::EffectIntent(mut looked_up) = intent(1) else {
        unreachable!()
    };
    looked_up.cause = Cause::Host;
    let mut log = Log::new();
    log.push(of_call('a', retry_accepted()));
    log.push(of_call('a', looked_up));
    log.verify().unwrap();
}

#[test]
fn what_diverged_is_a_call_that_there_is() {
    let mut log = Log::of_everything();
    log.push(diverged('a', Some(1)));
    log.push(diverged('a', None));
    log.push(of_call('e', accepted()));
    log.push(diverged('e', Some(7)));
    log.verify().unwrap();
    refuses([diverged('a', Some(1))], 1, "there is no such call");
    let EntryDraft {
        body: Body::CallDiverged(mut other),
        ..
    } = diverged('a', None)
    else {
        unreachable!()
    };
    other.part = Part::Effect;
    let drafts = [of_call('a', accepted()), EntryDraft::of_ledger(other)];
    refuses(drafts, 2, "does not say which effect");
}

#[test]
fn a_breaker_opens_and_closes_in_turn() {
    let mut log = Log::of_everything();
    log.push(breaker_opened(1));
    log.push(breaker_opened(2));
    log.push(breaker_closed(ClosedBy::Probe));
    log.push(breaker_opened(1));
    log.push(breaker_closed(ClosedBy::Operator));
    log.verify().unwrap();
    refuses([breaker_closed(ClosedBy::Probe)], 1, "it was not open");
    refuses([breaker_opened(2)], 1, "2 in a row");
    refuses([breaker_opened(1), breaker_opened(1)], 2, "1 in a row");
}

#[test]
fn a_call_stays_its_own() {
    let follow = |change: &dyn Fn(&mut EntryDraft)| {
        let mut second = of_call('a', intent(0));
        change(&mut second);
        refuses([of_call('a', accepted()), second], 2, "is another one");
    };
    follow(&|draft| draft.principal.as_mut().unwrap().user = None);
    follow(&|draft| draft.tool = Some(digest("other tool")));
    follow(&|draft| draft.trace = Some("1af7651916cd43dd8448eb211c80319c".into()));
}

#[test]
fn the_first_entry_opens_this_ledger() {
    let mut log = Log {
        entries: vec![],
        nodes: HashMap::new(),
        tree: Frontier::new(),
        notes: vec![],
    };
    log.push(EntryDraft::of_ledger(ConfigChanged {
        from: None,
        to: digest("config"),
    }));
    assert_eq!(
        log.verify().unwrap_err().fault,
        Fault::Opening("only the first entry, and it alone, is ledger-opened")
    );

    let other = SignerKey::from_seed(NAME, &[8; 32]).unwrap();
    for foreign in [
        LedgerOpened {
            key: other.verifier().to_string(),
            ..opened()
        },
        LedgerOpened {
            origin: "another.example/home".into(),
            ..opened()
        },
    ] {
        let mut log = Log {
            entries: vec![],
            nodes: HashMap::new(),
            tree: Frontier::new(),
            notes: vec![],
        };
        log.push(EntryDraft::of_ledger(foreign));
        let bad = log.verify().unwrap_err();
        assert_eq!(
            (bad.index, bad.fault),
            (Some(0), Fault::Opening("the ledger was opened under another key"))
        );
    }
    refuses([EntryDraft::of_ledger(opened())], 1, "only the first entry");
}

#[test]
fn time_that_goes_back() {
    let mut log = Log::new();
    let earlier = Stamp::first(0).next(1000);
    log.put(
        EntryDraft::of_ledger(ConfigChanged {
            from: None,
            to: digest("config"),
        })
        .seal(earlier)
        .unwrap(),
    );
    let bad = log.verify().unwrap_err();
    assert_eq!((bad.index, bad.fault), (Some(1), Fault::Time));
}

#[test]
fn a_ledger_of_another_format_is_refused_by_name() {
    let log = Log::new();
    let mut stored = log.stored();
    let later = log.entries[0].text().replace("\"format\":1", "\"format\":7");
    stored[0] = Stored {
        bytes: later.into_bytes(),
        leaf: None,
    };
    let bad = check(stored, &[]).unwrap_err();
    assert_eq!(bad.fault, Fault::Entry(LedgerError::Format { found: 7 }));
    assert!(
        bad.to_string().starts_with("entry 0: the ledger is of format 7"),
        "{bad}"
    );
}

#[test]
fn a_failing_reader_ends_it() {
    #[derive(Debug, PartialEq)]
    struct Broken;
    impl From<Bad> for Broken {
        fn from(bad: Bad) -> Self {
            panic!("{bad}")
        }
    }
    assert_eq!(verify([Err(Broken)], [], key().verifier()), Err(Broken));
}

#[test]
fn the_story_of_a_call() {
    let log = Log::of_everything();
    let of = |letter| {
        story(
            log.entries
                .iter()
                .filter(|entry| entry.call() == Some(&call_id(letter))),
        )
        .unwrap()
    };
    let told = of('a');
    assert_eq!(
        (told.call.as_str(), told.principal.clone()),
        (call_id('a').as_str(), Some(principal()))
    );
    assert!(matches!(&told.opening.what, Opening::Accepted(accepted) if accepted.rules == ["support-calls"]));
    assert!(matches!(
        &told.effects[&0],
        EffectStory::Intended { intent, outcome: Some(outcome), .. } if intent.stamp.index() == 5 && outcome.stamp.index() == 7
    ));
    assert!(matches!(&told.effects[&1], EffectStory::Refused(refused) if refused.what.refused.code == Code::Money));
    assert_eq!(told.finished.as_ref().unwrap().what.fuel, 123_456);
    assert!(told.is_over());

    let denied = of('d');
    assert!(denied.is_over() && denied.finished.is_none() && matches!(denied.opening.what, Opening::Denied(_)));

    let running = story(&log.entries[11..12]).unwrap_err();
    assert!(running.to_string().contains("no call-accepted"), "{running}");
    assert!(story([]).is_err());
    assert!(
        story([&log.entries[4], &log.entries[6]])
            .unwrap_err()
            .to_string()
            .contains("is another one")
    );
    let under_way = story([&log.entries[6], &log.entries[11]]).unwrap();
    assert!(!under_way.is_over() && under_way.open().eq([0]));
}

fn stop_id(letter: char) -> String {
    format!("s_{}", letter.to_string().repeat(26))
}

fn set(letter: char, kind: crate::stop::Kind, scope: &str) -> EntryDraft {
    EntryDraft::of_ledger(StopSet {
        by: None,
        id: stop_id(letter),
        kind,
        reason: digest("reason"),
        scope: scope.parse().unwrap(),
    })
}

fn lifted(letter: char, kind: crate::stop::Kind, scope: &str) -> EntryDraft {
    EntryDraft::of_ledger(StopLifted {
        by: None,
        id: stop_id(letter),
        kind,
        reason: None,
        scope: scope.parse().unwrap(),
    })
}

/// Whoever audits an export needs no host for it.
#[test]
fn no_intent_stands_under_a_stop() {
    use crate::stop::Kind::{Kill, SafeMode};
    let with = |kind, scope: &str, lift: bool| {
        let mut log = Log::new();
        log.push(of_call('a', accepted()));
        log.push(set('a', kind, scope));
        if lift {
            log.push(lifted('a', kind, scope));
        }
        log.push(of_call('a', intent(0)));
        log.verify()
    };
    for kind in [Kill, SafeMode] {
        for scope in [
            "everything",
            "tenant:acme",
            "agent:support-bot",
            "tool:refunds",
            "connection:stripe",
        ] {
            let bad = with(kind, scope, false).unwrap_err();
            assert_eq!(bad.index, Some(3), "{scope}");
            assert!(bad.to_string().contains("has an intent under a"), "{bad}");
            with(kind, scope, true).unwrap();
        }
        for scope in ["tenant:other", "agent:acme", "tool:refund", "connection:slack", "run:a"] {
            with(kind, scope, false).unwrap();
        }
    }
    // What was under way when the stop came has its end.
    let mut log = Log::new();
    log.push(of_call('a', accepted()));
    log.push(of_call('a', intent(0)));
    log.push(set('a', Kill, "everything"));
    log.push(of_call('a', outcome(0, Outcome::InDoubt(Doubt::Stopped))));
    log.verify().unwrap();
}

#[test]
fn nothing_is_sent_again_under_a_stop() {
    use crate::stop::Kind::{Kill, SafeMode};
    let with = |kind, scope: &str, tier| {
        let Body::EffectIntent(mut sent) = intent(0) else {
            unreachable!()
        };
        sent.tier = tier;
        let mut log = Log::new();
        log.push(of_call('a', accepted()));
        log.push(of_call('a', sent));
        log.push(set('a', kind, scope));
        log.push(of_call('a', retried(0, 2)));
        log.verify()
    };
    for (kind, scope, tier) in [
        (Kill, "everything", Tier::Read),
        (Kill, "connection:stripe", Tier::Commit),
        (SafeMode, "tool:refunds", Tier::Commit),
        (SafeMode, "agent:support-bot", Tier::Draft),
    ] {
        let bad = with(kind, scope, tier).unwrap_err();
        assert_eq!(bad.index, Some(4), "{scope}");
        assert!(bad.to_string().contains("is sent again under a"), "{bad}");
    }
    with(SafeMode, "everything", Tier::Read).unwrap();
    with(Kill, "connection:slack", Tier::Commit).unwrap();
}

#[test]
fn a_host_takes_what_the_entries_before_say() {
    let [taken, refused, _] = reloads();
    let mut log = Log::of_everything();
    log.push(taken.clone());
    log.push(refused);
    assert!(log.verify().is_ok());
    for body in [
        Body::from(ConfigChanged {
            from: Some(digest("config")),
            to: digest("another"),
        }),
        Body::from(PolicyChanged {
            from: Some(digest("policy")),
            rules: 1,
            to: digest("another"),
        }),
    ] {
        let mut log = Log::of_everything();
        log.push(EntryDraft::of_ledger(body));
        log.push(taken.clone());
        let why = log.verify().unwrap_err().to_string();
        assert!(why.contains("a host took its files anew"), "{why}");
    }
    let mut log = Log::new();
    log.push(taken);
    assert!(log.verify().is_err(), "of what is in force nothing was said");
}

#[test]
fn a_call_is_suspended_where_nothing_of_it_is_under_way() {
    let of_a = |bodies: Vec<Body>| {
        let mut log = Log::new();
        log.push(of_call('a', accepted()));
        bodies.into_iter().for_each(|body| log.push(of_call('a', body)));
        log
    };
    for under_way in [intent(1), held(1)] {
        let bad = of_a(vec![under_way, suspended(9)]).verify().unwrap_err().to_string();
        assert!(bad.contains("is under way or waits"), "{bad}");
    }
    let answered = || outcome(1, Outcome::Answered(Answered { status: 200 }));
    let told = |bodies: Vec<Body>| {
        let log = of_a(bodies);
        log.verify().unwrap();
        let ours = log.entries.iter().filter(|entry| entry.call().is_some());
        story(&ours.cloned().collect::<Vec<_>>()).unwrap()
    };
    let waits = told(vec![intent(1), answered(), guest_ended(1, 9), suspended(9)]);
    assert_eq!(waits.suspended().map(|told| told.what.fuel), Some(9));
    let on = told(vec![intent(1), answered(), guest_ended(1, 9), suspended(9), resumed(2)]);
    assert!(on.suspended().is_none(), "it went on");
    assert_eq!(on.suspensions.len(), 1);
}

#[test]
fn a_call_is_paused_by_safe_mode_that_is_in_force() {
    use crate::stop::Kind::{Kill, SafeMode};
    let id = |letter: char| format!("s_{}", letter.to_string().repeat(26));
    let with = |before: Vec<EntryDraft>, after: Vec<EntryDraft>| {
        let mut log = Log::new();
        let paused = of_call('a', paused_by(&id('a')));
        std::iter::once(of_call('a', accepted()))
            .chain(before)
            .chain([paused])
            .chain(after)
            .for_each(|draft| log.push(draft));
        log
    };
    let safe = || set('a', SafeMode, "everything");
    let end = || {
        let Body::CallFinished(mut body) = finished(&[]) else {
            unreachable!()
        };
        body.spent = vec![];
        of_call('a', body)
    };
    for (before, why) in [
        (vec![], "no safe mode that is in force"),
        (vec![set('a', Kill, "everything")], "no safe mode that is in force"),
        (vec![set('b', SafeMode, "everything")], "no safe mode that is in force"),
        (
            vec![safe(), lifted('a', SafeMode, "everything")],
            "no safe mode that is in force",
        ),
        (vec![of_call('a', intent(0)), safe()], "under way or waits"),
        (vec![of_call('a', held(0)), safe()], "under way or waits"),
        (vec![of_call('a', refused(1)), safe()], "an effect of that number"),
    ] {
        let bad = with(before, vec![]).verify().unwrap_err().to_string();
        assert!(bad.contains(why), "{bad}");
    }
    let log = with(vec![safe()], vec![]);
    log.verify().unwrap();
    let of_a = |log: &Log| {
        let entries: Vec<Entry> = log
            .entries
            .iter()
            .filter(|entry| entry.call().is_some())
            .cloned()
            .collect();
        story(&entries).unwrap()
    };
    assert_eq!(of_a(&log).paused().unwrap().what.stop, id('a'));
    // It goes on, and what it was paused before has the number that it would have had.
    let on = with(
        vec![safe()],
        vec![lifted('a', SafeMode, "everything"), of_call('a', intent(1))],
    );
    on.verify().unwrap();
    assert_eq!(of_a(&on).paused(), None);
    assert_eq!(of_a(&on).pauses.len(), 1);
    // Or is ended as it is.
    with(vec![safe()], vec![end()]).verify().unwrap();
}

#[test]
fn a_stop_is_in_force_once() {
    use crate::stop::Kind::{Kill, SafeMode};
    let fails = |drafts: Vec<EntryDraft>, why: &str| {
        let mut log = Log::new();
        drafts.into_iter().for_each(|draft| log.push(draft));
        let bad = log.verify().unwrap_err().to_string();
        assert!(bad.contains(why), "{bad}");
    };
    let agent = "agent:a";
    fails(vec![set('a', Kill, agent), set('b', Kill, agent)], "in force already");
    fails(vec![lifted('a', Kill, agent)], "not in force");
    fails(vec![set('a', Kill, agent), lifted('b', Kill, agent)], "not in force");
    fails(
        vec![set('a', Kill, agent), lifted('a', SafeMode, agent)],
        "not in force",
    );
    let mut log = Log::new();
    for draft in [
        set('a', Kill, agent),
        set('b', SafeMode, agent),
        lifted('a', Kill, agent),
        set('c', Kill, agent),
    ] {
        log.push(draft);
    }
    log.verify().unwrap();
}
