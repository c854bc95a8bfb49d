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
        authors: vec![],
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
        in_stead_of: None,
    }
}

fn yes(person: &str) -> Vote {
    vote(person, "finance", Verdict::Approve)
}

/// Who is in which group.
fn groups() -> BTreeMap<String, Vec<String>> {
    let group = |name: &str, members: &[&str]| (name.to_owned(), members.iter().map(|m| (*m).to_owned()).collect());
    BTreeMap::from([
        group("finance", &["ann", "ben", "cid", "ada", "bot"]),
        group("legal", &["ann", "dot"]),
        group("other", &["ann"]),
        group("incident", &["ivy", "ada", "ann"]),
    ])
}

fn electorate(groups: &BTreeMap<String, Vec<String>>) -> Electorate<'_> {
    Electorate {
        groups: Some(groups),
        delegations: Vec::new(),
        break_glass: Some("incident"),
    }
}

fn cast(progress: &Progress, hold: &Hold, vote: Vote) -> Result<Progress, HoldError> {
    cast_at(progress, hold, vote, NOW)
}

fn cast_at(progress: &Progress, hold: &Hold, vote: Vote, now: u64) -> Result<Progress, HoldError> {
    progress.cast(hold, vote, now, &electorate(&groups()))
}

/// A member's word that `delegate` votes in their stead for finance.
fn given(person: &str, delegate: &str, until_ms: u64) -> Delegation {
    Delegation {
        ledger: "ledger.example/home".into(),
        person: person.into(),
        delegate: delegate.into(),
        group: "finance".into(),
        made_ms: NOW - 1,
        until_ms,
    }
}

fn in_stead_of(person: &str, delegate: &str) -> Vote {
    Vote {
        in_stead_of: Some(person.into()),
        ..yes(delegate)
    }
}

fn broken(person: &str) -> Vote {
    vote(person, "incident", Verdict::BreakGlass)
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
    assert_eq!(two.approvals(&hold, NOW), need(&[("finance", 2)]));
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
    assert_eq!(both.approvals(&hold, NOW), need(&[("finance", 1)]));
    assert!(matches!(both.standing(&hold, NOW), Standing::Waiting(_)));
    // Nor do two votes of theirs in two members' stead.
    let in_stead = Vote {
        in_stead_of: Some("ben".into()),
        ..yes("ann")
    };
    let both = Progress::of(vec![yes("ann"), in_stead], None);
    assert_eq!(both.approvals(&hold, NOW), need(&[("finance", 1)]));
}

#[test]
fn a_yes_can_be_given_again_when_it_expired_and_taken_back() {
    let hold = hold(&[&[("finance", 1)]]);
    let brief = Vote {
        expires_ms: LATER,
        ..yes("ann")
    };
    let one = cast(&Progress::default(), &hold, brief).unwrap();
    let again = cast_at(&one, &hold, yes("ann"), LATER).unwrap();
    assert_eq!(again.standing(&hold, LATER), Standing::Approved);
    let back = cast_at(&again, &hold, vote("ann", "finance", Verdict::Reject), LATER).unwrap();
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
        // In somebody else's stead neither.
        let in_stead = Vote {
            in_stead_of: Some("ann".into()),
            ..yes(own)
        };
        assert_eq!(
            cast(&Progress::default(), &hold, in_stead),
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
        way: None,
        before: None,
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
        Bound {
            way: Some(&Digest::of(b"effect")),
            ..bound
        },
        Bound {
            before: Some(&Digest::of(b"effect")),
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
    let late = cast_at(&Progress::default(), &hold, short, LATER);
    assert_eq!(late, Err(HoldError::VoteExpired));
    assert_eq!(one.standing(&hold, EXPIRY), Standing::Expired);
    let late = cast_at(&Progress::default(), &hold, yes("ann"), EXPIRY);
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
    long.push_str(&"x".repeat(said::LONGEST));
    assert!(Vote::open(&key("ann").sign(&long), key("ann").verifier()).is_err());
}

#[test]
fn a_member_s_vote_counts_once_whoever_casts_it() {
    let hold = hold(&[&[("finance", 2)]]);
    let groups = groups();
    let people = Electorate {
        delegations: vec![
            given("ann", "eve", EXPIRY),
            given("ann", "ben", EXPIRY),
            given("cid", "eve", EXPIRY),
        ],
        ..electorate(&groups)
    };
    let cast = |progress: &Progress, vote: Vote| progress.cast(&hold, vote, NOW, &people);
    let one = cast(&Progress::default(), in_stead_of("ann", "eve")).unwrap();
    assert_eq!(one.approvals(&hold, NOW), need(&[("finance", 1)]));
    let by_eve = HoldError::Seat {
        seat: "ann".into(),
        by: "eve".into(),
    };
    assert_eq!(cast(&one, yes("ann")), Err(by_eve.clone()));
    assert_eq!(cast(&one, in_stead_of("ann", "ben")), Err(by_eve));
    assert_eq!(
        cast(&one, in_stead_of("cid", "eve")),
        Err(HoldError::Twice("eve".into()))
    );
    let two = cast(&one, yes("ben")).unwrap();
    assert_eq!(two.standing(&hold, NOW), Standing::Approved);
    // However they came to be on the ledger together: one seat, one approval.
    for both in [
        vec![yes("ann"), in_stead_of("ann", "eve")],
        vec![in_stead_of("ann", "ben"), yes("ben")],
        vec![in_stead_of("ann", "eve"), in_stead_of("cid", "eve")],
    ] {
        let both = Progress::of(both, None);
        assert_eq!(both.approvals(&hold, NOW), need(&[("finance", 1)]), "{both:?}");
    }
}

#[test]
fn a_delegation_is_one_member_s_word_about_one_person_and_time() {
    let hold = hold(&[&[("finance", 1)]]);
    let groups = groups();
    let people = Electorate {
        delegations: vec![
            given("ann", "eve", LATER),
            given("eve", "fay", EXPIRY),
            given("ada", "eve", EXPIRY),
            given("ben", "ada", EXPIRY),
        ],
        ..electorate(&groups)
    };
    let cast = |vote: Vote, now| Progress::default().cast(&hold, vote, now, &people);
    let why = |vote: Vote, now| cast(vote, now).unwrap_err().word();
    let one = cast(in_stead_of("ann", "eve"), NOW).unwrap();
    assert_eq!(why(in_stead_of("ann", "eve"), LATER), "not-delegated");
    assert_eq!(why(in_stead_of("ann", "cid"), NOW), "not-delegated");
    let legal = Vote {
        group: "legal".into(),
        ..in_stead_of("ann", "eve")
    };
    assert_eq!(why(legal, NOW), "not-delegated");
    // Who has no vote has none to give, so nobody gives one on that was given to them.
    assert_eq!(why(in_stead_of("eve", "fay"), NOW), "not-a-member");
    // Neither by those who asked, nor in their stead.
    assert_eq!(why(in_stead_of("ada", "eve"), NOW), "own-request");
    assert_eq!(why(in_stead_of("ben", "ada"), NOW), "own-request");
    // What was said counts for as long as whoever said it may say it.
    assert_eq!(one.among(&people, NOW).standing(&hold, NOW), Standing::Approved);
    assert!(matches!(
        one.among(&people, LATER).standing(&hold, LATER),
        Standing::Waiting(_)
    ));
    let mut left = groups.clone();
    left.get_mut("finance").unwrap().retain(|name| name != "ann");
    let left = Electorate {
        groups: Some(&left),
        ..people.clone()
    };
    assert!(matches!(
        one.among(&left, NOW).standing(&hold, NOW),
        Standing::Waiting(_)
    ));
    let no = Vote {
        verdict: Verdict::Reject,
        ..in_stead_of("ann", "eve")
    };
    let no = cast(no, NOW).unwrap();
    assert_eq!(
        no.among(&left, LATER).standing(&hold, LATER),
        Standing::Rejected { by: "eve".into() }
    );
}

#[test]
fn a_delegation_is_signed_and_has_one_spelling() {
    let said = given("ann", "eve", EXPIRY);
    let note = said.sign(&key("ann")).unwrap();
    assert_eq!(Delegation::open(&note, key("ann").verifier()).unwrap(), said);
    assert_eq!(Delegation::claimed(&note).unwrap(), said);
    assert!(said.sign(&key("eve")).is_err());
    let other = SignerKey::from_seed("ann", &[8; 32]).unwrap();
    assert!(Delegation::open(&note, other.verifier()).is_err());
    let as_ben = key("ben").sign(&said.text());
    assert!(Delegation::open(&as_ben, key("ben").verifier()).is_err());
    for (from, to) in [
        ("delegation v1", "delegation v2"),
        ("delegate eve\n", ""),
        ("made 1", "made 01"),
        ("until 1", "until +1"),
        ("finance\n", "finance\nmore\n"),
    ] {
        let note = key("ann").sign(&said.text().replacen(from, to, 1));
        assert!(Delegation::open(&note, key("ann").verifier()).is_err(), "{from} → {to}");
    }
    // Neither can be taken for the other.
    assert!(Vote::open(&note, key("ann").verifier()).is_err());
    let vote = yes("ann").sign(&key("ann")).unwrap();
    assert!(Delegation::open(&vote, key("ann").verifier()).is_err());
    assert!(given("ann", "eve", NOW + LONGEST_DELEGATION_MS - 1).is_for_a_time());
    assert!(!given("ann", "eve", NOW + LONGEST_DELEGATION_MS).is_for_a_time());
    assert!(given("ann", "eve", NOW - 1).takes_back() && !said.takes_back());
}

#[test]
fn a_vote_in_another_s_stead_says_so_in_what_is_signed() {
    let vote = in_stead_of("ann", "eve");
    let note = vote.sign(&key("eve")).unwrap();
    assert_eq!(Vote::open(&note, key("eve").verifier()).unwrap(), vote);
    for (from, to) in [("in-stead-of ann\n", ""), ("in-stead-of ann", "in-stead-of ben")] {
        assert!(Vote::open(&note.replacen(from, to, 1), key("eve").verifier()).is_err());
    }
    for (from, to) in [
        ("in-stead-of ann", "in-stead-of "),
        ("in-stead-of ann", "for ann"),
        ("in-stead-of ann\n", "in-stead-of ann\nin-stead-of ben\n"),
    ] {
        let note = key("eve").sign(&vote.text().replacen(from, to, 1));
        assert!(Vote::open(&note, key("eve").verifier()).is_err(), "{from} → {to}");
    }
}

#[test]
fn one_who_breaks_the_glass_stands_for_all_that_is_missing() {
    let hold = hold(&[&[("finance", 2), ("legal", 1)], &[("other", 1)]]);
    let none = Progress::default();
    let one = cast(&none, &hold, broken("ivy")).unwrap();
    assert_eq!(one.standing(&hold, NOW), Standing::Approved);
    assert_eq!(one.broken_by(NOW), Some(&broken("ivy")));
    assert_eq!(one.approvals(&hold, NOW), need(&[("finance", 2), ("legal", 1)]));
    // No more than was shown, beside what others said.
    let more = cast(&one, &hold, vote("ann", "other", Verdict::Approve)).unwrap();
    assert_eq!(
        more.approvals(&hold, NOW),
        need(&[("finance", 2), ("legal", 1), ("other", 1)])
    );
    assert_eq!(cast(&one, &hold, broken("ivy")), Err(HoldError::Twice("ivy".into())));
    // To break the glass is no approval: whoever approved may do it.
    let approved = cast(&none, &hold, yes("ann")).unwrap();
    assert!(cast(&approved, &hold, broken("ann")).is_ok());
    for (vote, why) in [
        (broken("ada"), "own-request"),
        (broken("ben"), "not-a-member"),
        (vote("ann", "finance", Verdict::BreakGlass), "no-glass"),
        (vote("ivy", "incident", Verdict::Approve), "group-not-asked"),
    ] {
        assert_eq!(cast(&none, &hold, vote).unwrap_err().word(), why);
    }
    let groups = groups();
    let people = Electorate {
        delegations: vec![Delegation {
            group: "incident".into(),
            ..given("ivy", "eve", EXPIRY)
        }],
        ..electorate(&groups)
    };
    let for_ivy = Vote {
        in_stead_of: Some("ivy".into()),
        ..broken("eve")
    };
    assert_eq!(none.cast(&hold, for_ivy, NOW, &people).unwrap_err().word(), "no-glass");
    // A no stands, before and after; time passes for it as for others.
    let no = cast(&one, &hold, vote("ben", "finance", Verdict::Reject)).unwrap();
    assert_eq!(no.standing(&hold, NOW), Standing::Rejected { by: "ben".into() });
    let rejected = cast(&none, &hold, vote("ben", "finance", Verdict::Reject)).unwrap();
    assert_eq!(cast(&rejected, &hold, broken("ivy")).unwrap_err().word(), "rejected");
    assert_eq!(one.standing(&hold, EXPIRY), Standing::Expired);
    // The operator can take the glass away.
    let without = Electorate {
        break_glass: None,
        ..electorate(&groups)
    };
    assert!(matches!(
        one.among(&without, NOW).standing(&hold, NOW),
        Standing::Waiting(_)
    ));
}

/// What can happen to a hold, in any order, any number of times.
#[derive(Clone, Debug)]
enum Event {
    Cast(Vote),
    /// The call is gone on with, and this is found; under a stop nothing is looked at.
    Resume(Found),
    /// An operator stops it.
    Kill,
    /// The stop is lifted.
    Lift,
    /// A person edits the effect.
    Edit(Edit),
    Wait,
    /// A delegation, its end, a member who leaves or comes back.
    Become(World),
}

/// What is true of people, beside what they voted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum World {
    /// Nobody votes in another's stead.
    Plain,
    /// Ann gave her vote to eve and to ben, and ada, who asked, gave hers to eve.
    Delegated,
    /// So it was when ann left finance, and the glass was taken away.
    Left,
}

impl World {
    const ALL: [Self; 3] = [Self::Plain, Self::Delegated, Self::Left];

    fn groups(self) -> BTreeMap<String, Vec<String>> {
        let mut groups = groups();
        if self == Self::Left {
            groups.get_mut("finance").unwrap().retain(|name| name != "ann");
        }
        groups
    }

    fn electorate(self, groups: &BTreeMap<String, Vec<String>>) -> Electorate<'_> {
        let mut people = electorate(groups);
        if self != Self::Plain {
            people.delegations = vec![
                given("ann", "eve", EXPIRY),
                given("ann", "ben", LATER),
                given("ada", "eve", EXPIRY),
            ];
        }
        if self == Self::Left {
            people.break_glass = None;
        }
        people
    }
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
    for (person, delegate) in [("ann", "eve"), ("ann", "ben"), ("ada", "eve"), ("ben", "eve")] {
        events.push(Event::Cast(in_stead_of(person, delegate)));
    }
    for person in ["ivy", "ada", "ben"] {
        events.push(Event::Cast(broken(person)));
    }
    let another = Vote {
        hold: Digest::of(b"another"),
        ..yes("cid")
    };
    events.push(Event::Cast(another));
    let found = [Found::Permitted, Found::Denied, Found::Changed, Found::Edited];
    events.extend(found.map(Event::Resume));
    events.extend([Event::Kill, Event::Lift, Event::Wait]);
    events.extend(World::ALL.map(Event::Become));
    for person in ["ann", "ben", "ada", "bot", "eve"] {
        events.push(Event::Edit(edit(person, "finance")));
    }
    events.push(Event::Edit(edit("ann", "other")));
    events.push(Event::Edit(Edit {
        expires_ms: NOW,
        ..edit("ann", "finance")
    }));
    events
}

fn edit(person: &str, group: &str) -> Edit {
    Edit {
        person: person.into(),
        hold: Digest::of(b"hold"),
        changes: Digest::of(b"changes"),
        group: group.into(),
        expires_ms: EXPIRY,
    }
}

#[test]
fn an_edit_is_a_member_s_word_about_one_hold_and_its_changes() {
    let hold = hold(&[&[("finance", 2)]]);
    let none = Progress::default();
    let groups = groups();
    let people = electorate(&groups);
    let changes = Digest::of(b"changes");
    let ends = |edit: &Edit, now| none.edit(&hold, edit, &changes, now, &people).map(|(_, end)| end);
    let ann = edit("ann", "finance");
    assert_eq!(ends(&ann, NOW), Ok(End::Edited));
    for (wrong, why) in [
        (edit("ada", "finance"), "own-request"),
        (edit("bot", "finance"), "own-request"),
        (edit("eve", "finance"), "not-a-member"),
        (edit("ann", "other"), "group-not-asked"),
        (
            Edit {
                hold: Digest::of(b"another"),
                ..ann.clone()
            },
            "another-hold",
        ),
        (
            Edit {
                changes: Digest::of(b"others"),
                ..ann.clone()
            },
            "other-changes",
        ),
        (
            Edit {
                expires_ms: NOW,
                ..ann.clone()
            },
            "edit-expired",
        ),
    ] {
        assert_eq!(ends(&wrong, NOW).unwrap_err().word(), why);
    }
    assert_eq!(ends(&ann, EXPIRY).unwrap_err().word(), "expired");
    let no = cast(&none, &hold, vote("ben", "finance", Verdict::Reject)).unwrap();
    let late = no.edit(&hold, &ann, &changes, NOW, &people).unwrap_err();
    assert_eq!(late.word(), "rejected");
    let (over, _) = none.edit(&hold, &ann, &changes, NOW, &people).unwrap();
    assert_eq!(
        over.edit(&hold, &ann, &changes, NOW, &people).unwrap_err().word(),
        "ended"
    );
}

#[test]
fn who_edited_an_effect_has_no_vote_on_it() {
    let hold = Hold {
        authors: vec!["ann".into()],
        ..hold(&[&[("finance", 1)]])
    };
    let none = Progress::default();
    assert_eq!(cast(&none, &hold, yes("ann")), Err(HoldError::Author("ann".into())));
    let groups = groups();
    let people = Electorate {
        delegations: vec![given("ann", "eve", EXPIRY), given("ben", "ann", EXPIRY)],
        ..electorate(&groups)
    };
    // Nor in others' hands, nor with others' votes in theirs, nor by breaking the glass.
    for (vote, own) in [(in_stead_of("ann", "eve"), "ann"), (in_stead_of("ben", "ann"), "ann")] {
        assert_eq!(none.cast(&hold, vote, NOW, &people), Err(HoldError::Author(own.into())));
    }
    assert_eq!(cast(&none, &hold, broken("ann")), Err(HoldError::Author("ann".into())));
    assert!(cast(&none, &hold, yes("ben")).is_ok());
    // They may edit it once more.
    let changes = Digest::of(b"changes");
    assert!(
        none.edit(&hold, &edit("ann", "finance"), &changes, NOW, &people)
            .is_ok()
    );
}

#[test]
fn an_effect_can_be_approved_while_enough_others_are_left() {
    let groups = BTreeMap::from([
        ("finance".to_owned(), ["ann", "ben", "ada"].map(str::to_owned).to_vec()),
        ("legal".to_owned(), vec!["cleo".to_owned()]),
    ]);
    let can = |authors: &[&str], needs: &[&[(&str, u32)]]| {
        let hold = Hold {
            authors: authors.iter().map(|author| (*author).to_owned()).collect(),
            ..hold(needs)
        };
        hold.can_be_approved(&groups)
    };
    // `ada` is whom it is done for.
    assert!(can(&[], &[&[("finance", 2)]]));
    assert!(!can(&[], &[&[("finance", 3)]]));
    assert!(can(&["ann"], &[&[("finance", 1)]]));
    assert!(!can(&["ann"], &[&[("finance", 2)]]));
    assert!(!can(&["ann", "ben"], &[&[("finance", 1)]]));
    // Any way will do, and each of its groups has to have enough.
    assert!(can(&["ann"], &[&[("finance", 2)], &[("legal", 1)]]));
    assert!(!can(&["cleo"], &[&[("finance", 1), ("legal", 1)], &[("tax", 1)]]));
    // Whoever is in two groups says yes for one of them.
    let groups = BTreeMap::from([
        ("finance".to_owned(), ["ann", "ben"].map(str::to_owned).to_vec()),
        ("legal".to_owned(), ["ann", "cleo"].map(str::to_owned).to_vec()),
    ]);
    let can = |authors: &[&str], needs: &[&[(&str, u32)]]| {
        let hold = Hold {
            authors: authors.iter().map(|author| (*author).to_owned()).collect(),
            ..hold(needs)
        };
        hold.can_be_approved(&groups)
    };
    let both: &[&[(&str, u32)]] = &[&[("finance", 1), ("legal", 1)]];
    assert!(can(&[], both) && can(&["ben"], both) && can(&["cleo"], both) && can(&["ann"], both));
    assert!(!can(&["ben", "cleo"], both), "ann alone is left");
    assert!(can(&[], &[&[("finance", 2), ("legal", 1)]]), "ann makes way for cleo");
    assert!(!can(&[], &[&[("finance", 2), ("legal", 2)]]));
    assert!(!can(&[], &[&[("finance", u32::MAX)]]));
}

#[test]
fn what_is_edited_asks_for_no_less() {
    let one = |groups: &[(&str, u32)]| need(groups);
    let before = [one(&[("finance", 2)]), one(&[("finance", 1), ("legal", 1)])];
    assert_eq!(combined_with_all(&[Need::new()], &before), {
        let mut sorted = before.to_vec();
        sorted.sort();
        sorted
    });
    let more = combined_with_all(&[one(&[("tax", 1)]), one(&[("finance", 3)])], &before);
    assert!(asks_no_less(&more, &before));
    assert!(asks_no_less(&before, &before));
    assert!(!asks_no_less(&[one(&[("finance", 1)])], &before));
    assert!(!asks_no_less(&[Need::new()], &before));
    assert!(more.contains(&one(&[("finance", 3)])), "{more:?}");
}

/// What must hold of every state that can be reached: `progress` is what counts of it.
fn check_state(hold: &Hold, progress: &Progress, people: &Electorate<'_>, now: u64) {
    for vote in &progress.votes {
        assert!(!hold.is_own(&vote.person) && !hold.is_own(vote.seat()) && vote.hold == hold.id);
        assert!(vote.verdict == Verdict::Reject || people.counts(vote, now));
    }
    if let Standing::Approved = progress.standing(hold, now) {
        let given = progress.approvals(hold, now);
        let met = |need: &Need| {
            need.iter()
                .all(|(group, n)| given.get(group).copied().unwrap_or(0) >= *n)
        };
        assert!(hold.needs.iter().any(met));
    }
    if progress.broken_by(now).is_none() {
        // As many approvals as there are people, and as there are members whose votes they are.
        let counting = || progress.votes.iter().filter(|vote| vote.counts(now));
        let persons: HashSet<&str> = counting().map(|vote| vote.person.as_str()).collect();
        let seats: HashSet<&str> = counting().map(Vote::seat).collect();
        let given: u32 = progress.approvals(hold, now).values().sum();
        assert!(given as usize <= persons.len().min(seats.len()));
    }
}

/// Every order of every event, to the end: one outcome for a hold, and the effect only where enough people wanted it.
#[test]
fn every_interleaving_ends_a_hold_once() {
    let hold = hold(&[&[("finance", 2)], &[("finance", 1), ("legal", 1)]]);
    ends_once(&hold);
    // The same of what somebody edited.
    ends_once(&Hold {
        authors: vec!["dot".into()],
        ..hold
    });
}

fn ends_once(hold: &Hold) {
    let mut seen = HashSet::new();
    let mut queue = VecDeque::from([(Progress::default(), NOW, World::Plain, false)]);
    let mut ends = HashSet::new();
    let (events, mut passed_alone) = (events(), false);
    while let Some((progress, now, world, stopped)) = queue.pop_front() {
        // The order of votes matters to nobody: states that differ in it alone are one.
        let mut votes: Vec<String> = progress.votes.iter().map(Vote::text).collect();
        votes.sort();
        if !seen.insert((votes, progress.ended, now, world, stopped)) {
            continue;
        }
        let groups = world.groups();
        let people = world.electorate(&groups);
        // What is decided on is what counts by the people of now; what was said stays on the ledger.
        let counting = progress.among(&people, now);
        check_state(hold, &counting, &people, now);
        let before = counting.standing(hold, now);
        for event in &events {
            match event.clone() {
                Event::Cast(vote) => {
                    if counting.cast(hold, vote.clone(), now, &people).is_err() {
                        continue;
                    }
                    assert!(progress.ended.is_none());
                    let mut after = progress.clone();
                    // Who says the same again, when it no longer counted, has said it.
                    if !after.votes.contains(&vote) {
                        after.votes.push(vote);
                    }
                    queue.push_back((after, now, world, stopped));
                }
                Event::Resume(found) => {
                    let found = if stopped { Found::Stopped } else { found };
                    let Ok((_, end)) = counting.end(hold, now, found) else {
                        continue;
                    };
                    assert!(progress.ended.is_none(), "one end");
                    assert!(!stopped, "a stop ends none");
                    if end == End::Passed {
                        assert_eq!((&before, found), (&Standing::Approved, Found::Permitted));
                        passed_alone |= counting.broken_by(now).is_some() && counting.votes.len() == 1;
                    }
                    ends.insert(end);
                    let after = Progress::of(progress.votes.clone(), Some(end));
                    queue.push_back((after, now, world, stopped));
                }
                Event::Edit(edit) => {
                    let changes = Digest::of(b"changes");
                    let Ok((_, end)) = counting.edit(hold, &edit, &changes, now, &people) else {
                        continue;
                    };
                    assert!(progress.ended.is_none(), "one end");
                    assert!(matches!(before, Standing::Waiting(_) | Standing::Approved));
                    assert!(people.is_member(&edit.person, &edit.group) && !hold.asked_by(&edit.person));
                    assert_eq!(end, End::Edited);
                    ends.insert(end);
                    let after = Progress::of(progress.votes.clone(), Some(end));
                    queue.push_back((after, now, world, stopped));
                }
                Event::Wait => {
                    let next = match now {
                        NOW => LATER,
                        _ => EXPIRY,
                    };
                    queue.push_back((progress.clone(), next, world, stopped));
                }
                Event::Kill => queue.push_back((progress.clone(), now, world, true)),
                Event::Lift => queue.push_back((progress.clone(), now, world, false)),
                Event::Become(world) => queue.push_back((progress.clone(), now, world, stopped)),
            }
        }
    }
    assert_eq!(ends.len(), 6, "every end can be reached");
    assert!(passed_alone, "the glass can be broken");
    assert!(seen.len() > 1_000, "{} states", seen.len());
}
