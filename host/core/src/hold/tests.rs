#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{HashSet, VecDeque};

use super::*;

const NOW: u64 = 1_795_228_800_000;
const LATER: u64 = NOW + 1_000;
const EXPIRY: u64 = NOW + 10_000;

fn principal() -> Principal {
    Principal {
        agent: "bot".into(),
        team: "support".into(),
        tenant: "acme".into(),
        user: Some("ada".into()),
    }
}

fn need(groups: &[(&str, u32)]) -> Need {
    groups
        .iter()
        .map(|(group, count)| ((*group).to_owned(), *count))
        .collect()
}

fn hold(needs: &[&[(&str, u32)]]) -> Hold {
    Hold {
        id: Digest::of(b"hold"),
        principal: principal(),
        needs: needs.iter().map(|groups| need(groups)).collect(),
        expires_ms: EXPIRY,
    }
}

fn vote(person: &str, group: &str, verdict: Verdict) -> Vote {
    Vote {
        person: person.into(),
        hold: Digest::of(b"hold"),
        verdict,
        group: group.into(),
        expires_ms: EXPIRY + 1,
    }
}

fn yes(person: &str) -> Vote {
    vote(person, "finance", Verdict::Approve)
}

/// Everyone whose name says so is in the group.
fn members(person: &str, group: &str) -> bool {
    matches!(
        (person, group),
        ("ann" | "ben" | "cid" | "ada" | "bot", "finance") | ("ann" | "dot", "legal") | ("ann", "other")
    )
}

fn cast(progress: &Progress, hold: &Hold, vote: Vote) -> Result<Progress, HoldError> {
    progress.cast(hold, vote, NOW, members)
}

fn key(name: &str) -> SignerKey {
    SignerKey::from_seed(name, &[7; 32]).unwrap()
}

#[test]
fn two_of_a_group_approve() {
    let hold = hold(&[&[("finance", 2)]]);
    let none = Progress::default();
    assert_eq!(
        none.standing(&hold, NOW),
        Standing::Waiting(vec![need(&[("finance", 2)])])
    );
    let one = cast(&none, &hold, yes("ann")).unwrap();
    assert_eq!(
        one.standing(&hold, NOW),
        Standing::Waiting(vec![need(&[("finance", 1)])])
    );
    let two = cast(&one, &hold, yes("ben")).unwrap();
    assert_eq!(two.standing(&hold, NOW), Standing::Approved);
    assert_eq!(two.approvals(NOW), need(&[("finance", 2)]));
    assert_eq!(two.end(&hold, NOW, Found::Permitted).unwrap().1, End::Passed);
    assert_eq!(two.end(&hold, NOW, Found::Denied).unwrap().1, End::Denied);
    assert_eq!(two.end(&hold, NOW, Found::Changed).unwrap().1, End::Stale);
}

#[test]
fn any_of_several_ways_is_enough() {
    let hold = hold(&[&[("finance", 2)], &[("legal", 1)]]);
    let legal = vote("dot", "legal", Verdict::Approve);
    let one = cast(&Progress::default(), &hold, legal).unwrap();
    assert_eq!(one.standing(&hold, NOW), Standing::Approved);
}

#[test]
fn trap_22_a_person_counts_once_in_one_group() {
    let hold = hold(&[&[("finance", 1), ("legal", 1)]]);
    let one = cast(&Progress::default(), &hold, yes("ann")).unwrap();
    assert_eq!(cast(&one, &hold, yes("ann")), Err(HoldError::Twice("ann".into())));
    let legal = vote("ann", "legal", Verdict::Approve);
    assert_eq!(cast(&one, &hold, legal.clone()), Err(HoldError::Twice("ann".into())));
    // Both were cast, each when the other did not count: still one person.
    let both = Progress::of(vec![yes("ann"), legal], None);
    assert_eq!(both.approvals(NOW), need(&[("finance", 1)]));
    assert!(matches!(both.standing(&hold, NOW), Standing::Waiting(_)));
}

#[test]
fn a_yes_can_be_given_again_when_it_expired_and_taken_back() {
    let hold = hold(&[&[("finance", 1)]]);
    let brief = Vote {
        expires_ms: LATER,
        ..yes("ann")
    };
    let one = cast(&Progress::default(), &hold, brief).unwrap();
    let again = one.cast(&hold, yes("ann"), LATER, members).unwrap();
    assert_eq!(again.standing(&hold, LATER), Standing::Approved);
    let back = again
        .cast(&hold, vote("ann", "finance", Verdict::Reject), LATER, members)
        .unwrap();
    assert_eq!(back.standing(&hold, LATER), Standing::Rejected { by: "ann".into() });
}

#[test]
fn trap_22_nobody_approves_their_own_request() {
    let hold = hold(&[&[("finance", 1)]]);
    for own in ["ada", "bot"] {
        assert_eq!(
            cast(&Progress::default(), &hold, yes(own)),
            Err(HoldError::Own(own.into()))
        );
    }
}

#[test]
fn only_members_of_a_group_that_is_asked_count() {
    let hold = hold(&[&[("finance", 1)]]);
    let stranger = cast(&Progress::default(), &hold, yes("eve")).unwrap_err();
    assert_eq!(stranger.to_string(), "eve is not in group `finance`");
    let other = vote("ann", "other", Verdict::Approve);
    assert_eq!(
        cast(&Progress::default(), &hold, other),
        Err(HoldError::NotAsked("other".into()))
    );
}

#[test]
fn trap_20_a_vote_is_about_one_hold() {
    let hold = hold(&[&[("finance", 1)]]);
    let other = Vote {
        hold: Digest::of(b"another"),
        ..yes("ann")
    };
    assert_eq!(cast(&Progress::default(), &hold, other), Err(HoldError::Another));
    let bound = Bound {
        call: "c_1",
        ordinal: 1,
        effect: &Digest::of(b"effect"),
        tool: &Digest::of(b"tool"),
        connection: "stripe",
        principal: &principal(),
        run: None,
    };
    let id = bound.id();
    let somebody_else = Principal {
        user: None,
        ..principal()
    };
    for other in [
        Bound { call: "c_2", ..bound },
        Bound { ordinal: 2, ..bound },
        Bound {
            effect: &Digest::of(b"tool"),
            ..bound
        },
        Bound {
            tool: &Digest::of(b"effect"),
            ..bound
        },
        Bound {
            connection: "stripe2",
            ..bound
        },
        Bound {
            principal: &somebody_else,
            ..bound
        },
        Bound {
            run: Some("r_1"),
            ..bound
        },
    ] {
        assert_ne!(other.id(), id);
    }
}

#[test]
fn what_several_ask_for_is_asked_together() {
    let need = |groups: &[(&str, u32)]| -> Need {
        groups
            .iter()
            .map(|(group, count)| ((*group).to_owned(), *count))
            .collect()
    };
    let both = |ways: &[&[(&str, u32)]], also: &[(&str, u32)]| {
        let ways: Vec<Need> = ways.iter().map(|way| need(way)).collect();
        combined(&ways, &need(also))
    };
    assert_eq!(both(&[&[]], &[("finance", 1)]), [need(&[("finance", 1)])]);
    assert_eq!(both(&[&[("finance", 1)]], &[("finance", 2)]), [need(&[("finance", 2)])]);
    assert_eq!(both(&[&[("finance", 2)]], &[("finance", 1)]), [need(&[("finance", 2)])]);
    assert_eq!(
        both(&[&[("legal", 1)], &[("reviewer", 2)]], &[("finance", 1)]),
        [
            need(&[("finance", 1), ("legal", 1)]),
            need(&[("finance", 1), ("reviewer", 2)])
        ]
    );
    // With finance asked anyway, the way that asks it too is no more than that.
    assert_eq!(
        both(&[&[("finance", 1)], &[("legal", 1)]], &[("finance", 1)]),
        [need(&[("finance", 1)])]
    );
    assert_eq!(both(&[], &[("finance", 1)]), Vec::<Need>::new());
}

#[test]
fn votes_and_holds_expire() {
    let hold = hold(&[&[("finance", 1)]]);
    let short = Vote {
        expires_ms: LATER,
        ..yes("ann")
    };
    let one = cast(&Progress::default(), &hold, short.clone()).unwrap();
    assert_eq!(one.standing(&hold, NOW), Standing::Approved);
    assert!(matches!(one.standing(&hold, LATER), Standing::Waiting(_)));
    assert_eq!(one.end(&hold, LATER, Found::Permitted), Err(HoldError::Waiting));
    let late = Progress::default().cast(&hold, short, LATER, members);
    assert_eq!(late, Err(HoldError::VoteExpired));
    assert_eq!(one.standing(&hold, EXPIRY), Standing::Expired);
    let late = Progress::default().cast(&hold, yes("ann"), EXPIRY, members);
    assert_eq!(late, Err(HoldError::Expired));
    assert_eq!(one.end(&hold, EXPIRY, Found::Permitted).unwrap().1, End::Expired);
}

#[test]
fn one_no_ends_it_until_its_effect_has_an_intent() {
    let hold = hold(&[&[("finance", 1)]]);
    let approved = cast(&Progress::default(), &hold, yes("ann")).unwrap();
    let no = vote("ben", "finance", Verdict::Reject);
    let rejected = cast(&approved, &hold, no.clone()).unwrap();
    assert_eq!(rejected.standing(&hold, NOW), Standing::Rejected { by: "ben".into() });
    assert_eq!(
        cast(&rejected, &hold, yes("cid")),
        Err(HoldError::Rejected { by: "ben".into() })
    );
    assert_eq!(rejected.end(&hold, NOW, Found::Permitted).unwrap().1, End::Rejected);
    let (passed, _) = approved.end(&hold, NOW, Found::Permitted).unwrap();
    assert_eq!(cast(&passed, &hold, no), Err(HoldError::Ended));
}

#[test]
fn a_vote_is_signed_by_its_person() {
    let vote = yes("ann");
    let note = vote.sign(&key("ann")).unwrap();
    assert_eq!(signer_name(&note), Some("ann"));
    assert_eq!(Vote::open(&note, key("ann").verifier()).unwrap(), vote);
    assert!(vote.sign(&key("ben")).is_err());
    let other = SignerKey::from_seed("ann", &[8; 32]).unwrap();
    assert!(Vote::open(&note, other.verifier()).is_err());
    for (from, to) in [
        ("approve", "reject"),
        ("person ann", "person ben"),
        ("finance", "legal"),
        ("sha256:", "sha256:0"),
        ("expires 1", "expires 2"),
    ] {
        assert!(
            Vote::open(&note.replacen(from, to, 1), key("ann").verifier()).is_err(),
            "{from}"
        );
    }
}

#[test]
fn what_is_signed_has_one_spelling() {
    let text = yes("ann").text();
    for (from, to) in [
        (VOTE, "ambit vote v2"),
        ("verdict approve", "verdict yes"),
        ("person ann", "person ben"),
        ("person ann\n", ""),
        ("expires 1", "expires 01"),
        ("expires 1", "expires +1"),
        ("finance\n", "finance\nmore\n"),
        ("group finance\n", ""),
        ("\nexpires", "\n\nexpires"),
    ] {
        let note = key("ann").sign(&text.replacen(from, to, 1));
        assert!(Vote::open(&note, key("ann").verifier()).is_err(), "{from} → {to}");
    }
    let mut long = text;
    long.push_str(&"x".repeat(LONGEST_VOTE));
    assert!(Vote::open(&key("ann").sign(&long), key("ann").verifier()).is_err());
}

/// What can happen to a hold, in any order, any number of times.
#[derive(Clone, Debug)]
enum Event {
    Cast(Vote),
    End(Found),
    Wait,
}

fn events() -> Vec<Event> {
    let brief = |person: &str| Vote {
        expires_ms: LATER,
        ..yes(person)
    };
    let mut events: Vec<Event> = ["ann", "ben", "ada", "eve"]
        .into_iter()
        .map(|p| Event::Cast(yes(p)))
        .collect();
    events.push(Event::Cast(brief("cid")));
    events.push(Event::Cast(vote("ann", "legal", Verdict::Approve)));
    events.push(Event::Cast(vote("dot", "legal", Verdict::Approve)));
    events.push(Event::Cast(vote("ben", "finance", Verdict::Reject)));
    let another = Vote {
        hold: Digest::of(b"another"),
        ..yes("cid")
    };
    events.push(Event::Cast(another));
    let found = [Found::Permitted, Found::Denied, Found::Changed, Found::Killed];
    events.extend(found.map(Event::End));
    events.push(Event::Wait);
    events
}

/// What must hold of every state that can be reached.
fn check_state(hold: &Hold, progress: &Progress, now: u64) {
    let counting = || progress.votes.iter().filter(|vote| vote.counts(now));
    let people: HashSet<&str> = counting().map(|vote| vote.person.as_str()).collect();
    assert_eq!(people.len(), counting().count(), "a person counts once");
    for vote in &progress.votes {
        assert!(members(&vote.person, &vote.group) && !hold.is_own(&vote.person) && vote.hold == hold.id);
    }
    if let Standing::Approved = progress.standing(hold, now) {
        let given = progress.approvals(now);
        let met = |need: &Need| {
            need.iter()
                .all(|(group, n)| given.get(group).copied().unwrap_or(0) >= *n)
        };
        assert!(hold.needs.iter().any(met));
    }
}

/// Every order of every event, to the end: one outcome for a hold, and the effect only where enough people wanted it.
#[test]
fn every_interleaving_ends_a_hold_once() {
    let hold = hold(&[&[("finance", 2)], &[("finance", 1), ("legal", 1)]]);
    let mut seen = HashSet::new();
    let mut queue = VecDeque::from([(Progress::default(), NOW)]);
    let mut ends = HashSet::new();
    while let Some((progress, now)) = queue.pop_front() {
        // The order of votes matters to nobody: states that differ in it alone are one.
        let mut votes: Vec<String> = progress.votes.iter().map(|vote| format!("{vote:?}")).collect();
        votes.sort();
        if !seen.insert((votes, progress.ended, now)) {
            continue;
        }
        check_state(&hold, &progress, now);
        for event in events() {
            let before = progress.standing(&hold, now);
            match event {
                Event::Cast(vote) => {
                    let Ok(after) = progress.cast(&hold, vote, now, members) else {
                        continue;
                    };
                    assert!(progress.ended.is_none());
                    queue.push_back((after, now));
                }
                Event::End(found) => {
                    let Ok((after, end)) = progress.end(&hold, now, found) else {
                        continue;
                    };
                    assert!(progress.ended.is_none(), "one end");
                    if end == End::Passed {
                        assert_eq!((before, found), (Standing::Approved, Found::Permitted));
                    }
                    ends.insert(end);
                    queue.push_back((after, now));
                }
                Event::Wait => {
                    let next = match now {
                        NOW => LATER,
                        _ => EXPIRY,
                    };
                    queue.push_back((progress.clone(), next));
                }
            }
        }
    }
    assert_eq!(ends.len(), 6, "every end can be reached");
    assert!(seen.len() > 100, "{} states", seen.len());
}
