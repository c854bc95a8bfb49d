//! Edits of held effects, and how holds end: what an audit takes, and what not.

use super::*;
use crate::hold::{Edit, End as HoldEnd};
use crate::ledger::story::EditStory;

fn edit_by(person: &str, group: &str) -> String {
    let edit = Edit {
        person: person.to_owned(),
        hold: digest("hold"),
        changes: digest("changes"),
        group: group.to_owned(),
        expires_ms: 1_795_228_900_000,
    };
    edit.sign(&SignerKey::from_seed(person, &[9; 32]).unwrap()).unwrap()
}

pub(super) fn edited(ordinal: u32) -> Body {
    edited_by(ordinal, "ann")
}

fn edited_by(ordinal: u32, person: &str) -> Body {
    HoldEdited {
        changes: digest("changed"),
        edit: edit_by(person, "finance"),
        hold: digest("hold"),
        ordinal,
        reason: Some(digest("because")),
        to: digest("edited hold"),
    }
    .into()
}

/// What is held in the place of [`held`].
pub(super) fn held_anew(change: impl FnOnce(&mut EffectHeld)) -> Body {
    let Body::EffectHeld(mut body) = held(0) else {
        unreachable!()
    };
    body.authors = vec!["ann".into()];
    body.edited_from = Some(digest("hold"));
    body.hold = digest("edited hold");
    body.request = digest("edited request");
    change(&mut body);
    body.into()
}

fn vote_on_it(person: &str, group: &str) -> Body {
    let vote = Vote {
        person: person.to_owned(),
        hold: digest("edited hold"),
        verdict: Verdict::Approve,
        group: group.to_owned(),
        expires_ms: 1_795_228_900_000,
        in_stead_of: None,
    };
    let Body::HoldVoted(mut body) = voted(0) else {
        unreachable!()
    };
    body.hold = digest("edited hold");
    body.vote = vote.sign(&SignerKey::from_seed(person, &[9; 32]).unwrap()).unwrap();
    body.into()
}

fn passed_edited() -> Body {
    let Body::EffectIntent(mut body) = intent(0) else {
        unreachable!()
    };
    body.hold = Some(digest("edited hold"));
    body.into()
}

fn with(more: Vec<Body>) -> impl Iterator<Item = EntryDraft> {
    std::iter::once(accepted()).chain(more).map(|body| of_call('a', body))
}

fn log(more: Vec<Body>) -> Log {
    let mut log = Log::new();
    with(more).for_each(|draft| log.push(draft));
    log
}

fn refuses(more: Vec<Body>, why: &str) {
    let index = more.len() as u64 + 1;
    let bad = log(more).verify().unwrap_err();
    assert!(bad.to_string().contains(why), "{bad}");
    assert_eq!(bad.index, Some(index), "{bad}");
}

fn anew() -> Body {
    held_anew(|_| {})
}

#[test]
fn an_edit_puts_another_hold_in_the_place_of_one() {
    let votes = [("ben", "finance"), ("dan", "finance"), ("cid", "legal")];
    let votes = votes.map(|(person, group)| vote_on_it(person, group));
    let before = [held(0), approved(0, "ben", "finance"), edited(0), anew()];
    let all: Vec<Body> = before.into_iter().chain(votes).chain([passed_edited()]).collect();
    let log = log(all);
    log.verify().unwrap();
    let story = story(&log.entries[1..]).unwrap();
    let [EditStory { held, votes, edit }] = story.holds[&0].edits.as_slice() else {
        panic!("{story:?}");
    };
    assert_eq!((held.what.hold, votes.len()), (digest("hold"), 1));
    assert_eq!((edit.stamp.index(), edit.what.to), (4, digest("edited hold")));
    assert_eq!(story.tally().edited(), [0]);
    let names: Vec<String> = story.commitments().into_iter().map(|(name, _)| name).collect();
    let from = digest("hold").to_hex();
    for name in [
        "held".to_owned(),
        format!("held/{from}"),
        format!("edit/{from}"),
        format!("edit-reason/{from}"),
        "reason/4".to_owned(),
    ] {
        let name = format!("effect/0/{name}");
        assert_eq!(
            names.iter().filter(|one| **one == name).count(),
            1,
            "{name} of {names:?}"
        );
    }
}

#[test]
fn an_edit_and_what_is_held_by_it_stand_together() {
    let together = "do not follow each other";
    refuses(vec![held(0), edited(0), approved(0, "ben", "finance")], together);
    refuses(vec![held(0), edited(0), held(1)], together);
    refuses(vec![held(0), anew()], together);
    refuses(
        vec![held(0), edited(0), held_anew(|held| held.hold = digest("third"))],
        together,
    );
    refuses(
        vec![
            held(0),
            edited(0),
            held_anew(|held| held.edited_from = Some(digest("third"))),
        ],
        together,
    );
    refuses(vec![edited(0)], "no such hold waits");
    refuses(vec![held(0), edited(1)], "no such hold waits");
    refuses(vec![held(0), edited(0), anew(), edited(0)], "no such hold waits");
}

#[test]
fn an_edit_is_by_somebody_who_could_vote() {
    // Alice is whom it is done for, and the bot asked.
    for person in ["alice", "support-bot"] {
        refuses(vec![held(0), edited_by(0, person)], "may not edit that");
    }
    let other = |change: &dyn Fn(&mut HoldEdited)| {
        let Body::HoldEdited(mut body) = edited(0) else {
            unreachable!()
        };
        change(&mut body);
        Body::from(body)
    };
    let group = other(&|body| body.edit = edit_by("ann", "others"));
    refuses(vec![held(0), group], "may not edit that");
    let note = other(&|body| body.edit = "a note".into());
    refuses(vec![held(0), note], "may not edit that");
    let hold = other(&|body| body.hold = digest("another"));
    refuses(vec![held(0), hold], "may not edit that");
}

#[test]
fn who_edited_an_effect_does_not_approve_it() {
    let of = |people: &[(&str, &str)]| -> Vec<Body> {
        let votes = people.iter().map(|(person, group)| vote_on_it(person, group));
        [held(0), edited(0), anew()]
            .into_iter()
            .chain(votes)
            .chain([passed_edited()])
            .collect()
    };
    let few = "not approved by as many";
    refuses(of(&[("ann", "finance"), ("ben", "finance"), ("cid", "legal")]), few);
    // Nor by what was said to what it was.
    let mut before = approvals(0);
    before.insert(0, held(0));
    before.extend([edited(0), anew(), passed_edited()]);
    refuses(before, few);
    let names = "does not name all who edited it";
    refuses(vec![held(0), edited(0), held_anew(|held| held.authors.clear())], names);
    refuses(
        vec![held(0), edited(0), held_anew(|held| held.authors = vec!["ben".into()])],
        names,
    );
}

#[test]
fn what_was_edited_waits_for_no_less() {
    let less = "asks for less";
    let fewer = |held: &mut EffectHeld| held.needs = vec![[("finance".to_owned(), 2)].into()];
    refuses(vec![held(0), edited(0), held_anew(fewer)], less);
    let none = |held: &mut EffectHeld| held.needs = vec![[].into()];
    refuses(vec![held(0), edited(0), held_anew(none)], less);
    let longer = |held: &mut EffectHeld| held.expires += 1;
    refuses(vec![held(0), edited(0), held_anew(longer)], less);
    let more = |held: &mut EffectHeld| {
        held.needs = vec![
            [
                ("finance".to_owned(), 3),
                ("legal".to_owned(), 1),
                ("tax".to_owned(), 1),
            ]
            .into(),
        ];
    };
    log(vec![held(0), edited(0), held_anew(more)]).verify().unwrap();
    let other = |held: &mut EffectHeld| held.asked = Some(digest("another"));
    refuses(vec![held(0), edited(0), held_anew(other)], "asked for something else");
}

#[test]
fn a_refusal_says_how_its_hold_ended() {
    let ended = |end| {
        let Body::EffectRefused(mut body) = refused(0) else {
            unreachable!()
        };
        body.hold = Some(digest("hold"));
        body.end = end;
        Body::from(body)
    };
    let rejected = || {
        let vote = Vote {
            person: "ann".into(),
            hold: digest("hold"),
            verdict: Verdict::Reject,
            group: "finance".into(),
            expires_ms: 1_795_228_900_000,
            in_stead_of: None,
        };
        let Body::HoldVoted(mut body) = voted(0) else {
            unreachable!()
        };
        body.vote = vote.sign(&SignerKey::from_seed("ann", &[9; 32]).unwrap()).unwrap();
        Body::from(body)
    };
    let wrong = "did not end as it says";
    let ends = [
        HoldEnd::Passed,
        HoldEnd::Rejected,
        HoldEnd::Expired,
        HoldEnd::Stale,
        HoldEnd::Denied,
        HoldEnd::Edited,
    ];
    let approved: Vec<Body> = std::iter::once(held(0)).chain(approvals(0)).collect();
    let states: [(Vec<Body>, &[HoldEnd]); 3] = [
        (vec![held(0)], &[HoldEnd::Stale]),
        (vec![held(0), rejected()], &[HoldEnd::Rejected]),
        (approved, &[HoldEnd::Stale, HoldEnd::Denied]),
    ];
    for (before, right) in states {
        for end in ends {
            let mut all = before.clone();
            all.push(ended(Some(end)));
            if right.contains(&end) {
                log(all).verify().unwrap();
            } else {
                refuses(all, wrong);
            }
        }
        // An earlier version did not say it.
        let mut all = before;
        all.push(ended(None));
        log(all).verify().unwrap();
    }
    let Body::EffectRefused(mut body) = refused(0) else {
        unreachable!()
    };
    body.end = Some(HoldEnd::Stale);
    refuses(vec![body.into()], wrong);
}

#[test]
fn a_call_s_end_says_what_was_edited() {
    let Body::CallFinished(mut body) = one_answered() else {
        unreachable!()
    };
    let votes = [("ben", "finance"), ("dan", "finance"), ("cid", "legal")];
    let votes = votes.map(|(person, group)| vote_on_it(person, group));
    let mut all = vec![held(0), edited(0), anew()];
    all.extend(votes);
    all.extend([passed_edited(), answered(0)]);
    let mut without = all.clone();
    without.push(body.clone().into());
    refuses(without, "edits or money");
    body.edited = vec![0];
    all.push(body.into());
    log(all).verify().unwrap();
}
