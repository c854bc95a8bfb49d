//! What rollbacks may undo, and what is left to undo, by the entries.

use super::*;
use crate::undo::{self, Obstacle, State};

/// A whole call: its first entry, its effects, and an end that adds up.
fn whole(letter: char, first: Body, effects: Vec<Body>, outcome: End) -> Vec<EntryDraft> {
    let mut tally = Tally::default();
    for body in &effects {
        match body {
            Body::EffectOutcome(outcome) => tally.outcome(outcome),
            Body::EffectRefused(_) => tally.refused(),
            _ => {}
        }
    }
    let Body::CallFinished(mut end) = finished(&[]) else {
        unreachable!()
    };
    end.effects = tally.counts();
    end.spent = tally.spent();
    end.outcome = outcome;
    if let Body::CallAccepted(accepted) = &first {
        end.undoes.clone_from(&accepted.undoes);
    }
    let bodies = [first].into_iter().chain(effects).chain([end.into()]);
    bodies.map(|body| of_call(letter, body)).collect()
}

fn well() -> End {
    End::Ok(Returned {
        result: digest("result"),
    })
}

/// A call of two effects that were done.
fn two() -> Vec<EntryDraft> {
    whole(
        'a',
        accepted(),
        vec![intent(1), answered(1), intent(2), answered(2)],
        well(),
    )
}

fn rolls_back(by: By) -> Body {
    let Body::CallAccepted(mut body) = accepted() else {
        unreachable!()
    };
    body.undoes = Some(Rollback {
        by,
        call: call_id('a'),
        over_changes: false,
        skip: Vec::new(),
    });
    body.into()
}

/// What takes an effect of the call `a` back.
fn takes_back(ordinal: u32, of: u32) -> Body {
    let Body::EffectIntent(mut body) = intent(ordinal) else {
        unreachable!()
    };
    body.cause = Cause::Operator;
    body.undoes = Some(Undoes {
        call: call_id('a'),
        ordinal: of,
    });
    body.into()
}

fn status(ordinal: u32, status: u16) -> Body {
    outcome(ordinal, Outcome::Answered(Answered { status }))
}

fn refuses(drafts: impl IntoIterator<Item = EntryDraft>, why: &str) {
    let mut log = Log::new();
    drafts.into_iter().for_each(|draft| log.push(draft));
    let bad = log.verify().unwrap_err();
    assert!(bad.to_string().contains(why), "{bad}");
}

fn by_routes(letter: char, effects: Vec<Body>) -> Vec<EntryDraft> {
    whole(letter, rolls_back(By::Routes), effects, well())
}

#[test]
fn each_effect_is_taken_back_once_and_only_what_happened() {
    let both = vec![takes_back(1, 2), answered(1), takes_back(2, 1), answered(2)];
    let mut log = Log::new();
    for draft in [two(), by_routes('b', both.clone())].concat() {
        log.push(draft);
    }
    log.verify().unwrap();
    let twice = [
        two(),
        by_routes('b', both),
        by_routes('d', vec![takes_back(1, 1), answered(1)]),
    ];
    refuses(twice.concat(), "the effect was taken back before");
    refuses(
        [two(), by_routes('b', vec![takes_back(1, 3), answered(1)])].concat(),
        "no such effect that happened",
    );
    let declined = whole('a', accepted(), vec![intent(1), status(1, 402)], well());
    refuses(
        [declined, by_routes('b', vec![takes_back(1, 1), answered(1)])].concat(),
        "no such effect that happened",
    );
    // What failed to take it back leaves it to the next.
    let failed = by_routes('b', vec![takes_back(1, 2), status(1, 409)]);
    let again = by_routes('d', vec![takes_back(1, 2), answered(1), takes_back(2, 1), answered(2)]);
    let mut log = Log::new();
    [two(), failed, again]
        .concat()
        .into_iter()
        .for_each(|draft| log.push(draft));
    log.verify().unwrap();
}

#[test]
fn what_is_in_doubt_may_have_taken_back() {
    let doubt = |found: Option<Found>| {
        let doubt = outcome(1, Outcome::InDoubt(Doubt::Timeout));
        let mut drafts = [two(), by_routes('b', vec![takes_back(1, 2), doubt])].concat();
        drafts.extend(found.map(|found| of_call('b', resolved(1, found))));
        drafts.extend(by_routes('d', vec![takes_back(1, 2), answered(1)]));
        drafts
    };
    refuses(doubt(None), "or may have been");
    refuses(doubt(Some(Found::Done)), "or may have been");
    let mut log = Log::new();
    doubt(Some(Found::NotDone))
        .into_iter()
        .for_each(|draft| log.push(draft));
    log.verify().unwrap();
}

#[test]
fn a_rollback_is_of_a_call_that_is_over_and_alone() {
    refuses(by_routes('b', vec![]), "no call of that id was over");
    let open = [of_call('a', accepted()), of_call('b', rolls_back(By::Routes))];
    refuses(open, "no call of that id was over");
    let doubt = vec![intent(1), outcome(1, Outcome::InDoubt(Doubt::Timeout))];
    let doubtful = [
        whole('a', accepted(), doubt, well()),
        vec![of_call('b', rolls_back(By::Routes))],
    ];
    refuses(doubtful.concat(), "with nothing of it in doubt");
    let other = [
        two(),
        vec![
            of_call('b', rolls_back(By::Routes)),
            of_call('d', rolls_back(By::Routes)),
        ],
    ];
    refuses(other.concat(), "another rollback of it has not ended");
    let of_rollback = || {
        let Body::CallAccepted(mut body) = rolls_back(By::Routes) else {
            unreachable!()
        };
        body.undoes.as_mut().unwrap().call = call_id('b');
        of_call('d', body)
    };
    refuses(
        [two(), by_routes('b', vec![]), vec![of_rollback()]].concat(),
        "no call of that id was over",
    );
    let by_function = |letter, end| whole(letter, rolls_back(By::Function), vec![intent(1), answered(1)], end);
    refuses(
        [two(), by_function('b', well()), by_function('d', well())].concat(),
        "it was undone before",
    );
    let failed = End::ToolError(Returned {
        result: digest("result"),
    });
    let mut log = Log::new();
    let again = [two(), by_function('b', failed), by_function('d', well())].concat();
    again.into_iter().for_each(|draft| log.push(draft));
    log.verify().unwrap();
}

#[test]
fn an_intent_takes_back_what_its_call_is_there_for() {
    let why = "takes back an effect that its call is not there to undo";
    let Body::EffectIntent(guest) = takes_back(1, 2) else {
        unreachable!()
    };
    let guest = EffectIntent {
        cause: Cause::Guest,
        ..guest
    };
    let wrong = [
        (accepted(), takes_back(1, 2)),
        (rolls_back(By::Function), takes_back(1, 2)),
        (rolls_back(By::Routes), intent(1)),
        (rolls_back(By::Routes), guest.into()),
    ];
    for (first, body) in wrong {
        refuses([two(), vec![of_call('b', first), of_call('b', body)]].concat(), why);
    }
}

fn stories(drafts: Vec<EntryDraft>, letters: &str) -> Vec<CallStory> {
    let mut log = Log::new();
    drafts.into_iter().for_each(|draft| log.push(draft));
    let of = |letter| {
        let id = call_id(letter);
        story(log.entries.iter().filter(|entry| entry.call() == Some(&id))).unwrap()
    };
    letters.chars().map(of).collect()
}

/// Sendings of the effect 1, each of which ended so, the last for good.
fn sendings(first: Body, ends: &[Outcome]) -> Vec<Body> {
    let (last, earlier) = ends.split_last().unwrap();
    let again = |(attempt, after): (u32, &Outcome)| {
        let Body::EffectRetried(mut again) = retried(1, attempt) else {
            unreachable!()
        };
        again.after = after.clone();
        again.into()
    };
    let Body::EffectOutcome(mut ended) = outcome(1, last.clone()) else {
        unreachable!()
    };
    ended.attempts = u32::try_from(ends.len()).unwrap();
    let again = (2..).zip(earlier).map(again);
    [first].into_iter().chain(again).chain([ended.into()]).collect()
}

const fn answer(status: u16) -> Outcome {
    Outcome::Answered(Answered { status })
}

#[test]
fn an_effect_is_free_where_nothing_of_it_can_have_happened() {
    let one = || whole('a', accepted(), vec![intent(1), answered(1)], well());
    let restart = Outcome::InDoubt(Doubt::Restart);
    let cases = [
        (vec![answer(409)], true),
        (vec![answer(408)], false),
        (vec![answer(504)], false),
        (vec![answer(302)], false),
        (vec![answer(429), answer(409)], true),
        (vec![answer(503), answer(409)], false),
        (vec![answer(503), answer(429), answer(409)], false),
        (vec![restart, answer(409)], false),
    ];
    for (ends, free) in cases {
        let (last, earlier) = ends.split_last().unwrap();
        assert_eq!(undo::may_have_happened(last, earlier), !free, "{ends:?}");
        let again = by_routes('d', vec![takes_back(1, 1), answered(1)]);
        let drafts = [one(), by_routes('b', sendings(takes_back(1, 1), &ends))].concat();
        let stories = stories(drafts.clone(), "ab");
        let state = undo::effects(&stories[0], &stories[1..]).remove(0).1;
        assert_eq!(state == State::Done, free, "{ends:?} {state:?}");
        let drafts = [drafts, again].concat();
        if free {
            let mut log = Log::new();
            drafts.into_iter().for_each(|draft| log.push(draft));
            log.verify().unwrap();
        } else {
            assert!(matches!(state, State::MaybeUndone(..)), "{ends:?} {state:?}");
            refuses(drafts, "or may have been");
        }
    }
}

#[test]
fn what_an_earlier_sending_may_have_done_is_not_known() {
    let state = |ends: &[Outcome]| {
        let stories = stories(whole('a', accepted(), sendings(intent(1), ends), well()), "a");
        let mut effects = undo::effects(&stories[0], &[]);
        effects.pop().map(|(_, state)| state)
    };
    assert_eq!(state(&[answer(503), answer(402)]), Some(State::Unsure(Some(503))));
    assert_eq!(
        state(&[Outcome::InDoubt(Doubt::Restart), answer(402)]),
        Some(State::Unsure(None))
    );
    assert_eq!(state(&[answer(429), answer(402)]), None);
    assert_eq!(state(&[answer(503), answer(201)]), Some(State::Done));
}

/// What is in the way of undoing the call `a`, whose rollbacks are the others.
fn obstacle(drafts: Vec<EntryDraft>, rollbacks: &str) -> Option<Obstacle> {
    let call = stories(drafts.clone(), "a").remove(0);
    undo::obstacle(&call, &stories(drafts, rollbacks))
}

#[test]
fn what_is_left_to_undo() {
    let effects = vec![
        intent(1),
        answered(1),
        intent(2),
        status(2, 402),
        intent(3),
        status(3, 500),
        intent(4),
        status(4, 201),
        refused(5),
    ];
    let call = whole('a', accepted(), effects, well());
    let all = [
        call,
        by_routes(
            'b',
            vec![takes_back(1, 4), answered(1), takes_back(2, 1), status(2, 404)],
        ),
    ]
    .concat();
    let stories = stories(all.clone(), "ab");
    let left = undo::effects(&stories[0], &stories[1..]);
    let expected = [
        (4, State::Undone(call_id('b'), 1)),
        (3, State::Unsure(Some(500))),
        (1, State::Done),
    ];
    assert_eq!(left, expected);
    assert_eq!(obstacle(all, "b"), None);
}

#[test]
fn what_is_in_the_way_of_undoing() {
    let under_way = |waits| {
        Some(Obstacle::UnderWay {
            call: call_id('b'),
            waits,
            by: By::Routes,
        })
    };
    let doubt = || outcome(1, Outcome::InDoubt(Doubt::Timeout));
    let both = || vec![takes_back(1, 2), answered(1), takes_back(2, 1), answered(2)];
    let cases = [
        (vec![of_call('a', denied())], "", Some(Obstacle::Denied)),
        (vec![of_call('a', rolls_back(By::Routes))], "", Some(Obstacle::Rollback)),
        (
            vec![of_call('a', accepted()), of_call('a', held(1))],
            "",
            Some(Obstacle::Waits),
        ),
        (vec![of_call('a', accepted())], "", Some(Obstacle::Unfinished)),
        (
            whole('a', accepted(), vec![intent(1), doubt()], well()),
            "",
            Some(Obstacle::Doubt(call_id('a'), 1)),
        ),
        (whole('a', accepted(), vec![], well()), "", Some(Obstacle::Nothing)),
        (two(), "", None),
        (
            [two(), vec![of_call('b', rolls_back(By::Routes))]].concat(),
            "b",
            under_way(false),
        ),
        (
            [two(), by_routes('b', vec![takes_back(1, 2), doubt()])].concat(),
            "b",
            Some(Obstacle::Doubt(call_id('b'), 1)),
        ),
        (
            [two(), by_routes('b', both())].concat(),
            "b",
            Some(Obstacle::Undone(call_id('b'))),
        ),
        (
            [two(), whole('b', rolls_back(By::Function), vec![], well())].concat(),
            "b",
            Some(Obstacle::Undone(call_id('b'))),
        ),
    ];
    for (drafts, rollbacks, expected) in cases {
        let told = obstacle(drafts, rollbacks);
        assert_eq!(told, expected);
        if let Some(obstacle) = told {
            let refusal = obstacle.refusal(&call_id('a'));
            assert!(refusal.message.contains("c_"), "{refusal:?}");
            assert!(refusal.advice.is_some(), "{refusal:?}");
        }
    }
}

/// A function that ended without a good end, and whose last effect was found to be done, undid the call.
#[test]
fn what_an_operator_found_counts() {
    let ended = |found: Option<Found>| {
        let doubt = outcome(1, Outcome::InDoubt(Doubt::Timeout));
        let failed = End::ToolError(Returned {
            result: digest("result"),
        });
        let by = whole('b', rolls_back(By::Function), vec![intent(1), doubt], failed);
        let found = found.map(|found| of_call('b', resolved(1, found)));
        obstacle([two(), by, found.into_iter().collect()].concat(), "b")
    };
    assert_eq!(ended(None), Some(Obstacle::Doubt(call_id('b'), 1)));
    assert_eq!(ended(Some(Found::Done)), Some(Obstacle::Undone(call_id('b'))));
    assert_eq!(ended(Some(Found::NotDone)), None);
}

#[test]
fn a_rollback_s_end_and_its_receipt_say_what_it_undoes() {
    let mut rollback = by_routes('b', vec![takes_back(1, 2), answered(1)]);
    let last = rollback.last_mut().unwrap();
    let lines = receipt::summary(&last.clone().seal(Stamp::first(0)).unwrap()).unwrap();
    let said = format!("rollback: undoes call {}, effect by effect", call_id('a'));
    assert!(lines.contains(&said), "{lines:?}");
    let Body::CallFinished(end) = &mut last.body else {
        unreachable!()
    };
    end.undoes = None;
    refuses(two().into_iter().chain(rollback), "which call it undoes");
    let mut other = two();
    let Some(Body::CallFinished(end)) = other.last_mut().map(|draft| &mut draft.body) else {
        unreachable!()
    };
    end.undoes = Some(Rollback {
        by: By::Routes,
        call: call_id('c'),
        over_changes: false,
        skip: Vec::new(),
    });
    refuses(other, "which call it undoes");
}

/// A function that failed half-way is not run again, nor do routes do what it may have done.
#[test]
fn what_a_function_did_by_half_is_left_to_people() {
    let ended = |effects: Vec<Body>| {
        let failed = End::ToolError(Returned {
            result: digest("result"),
        });
        let by = whole('b', rolls_back(By::Function), effects, failed);
        obstacle([two(), by].concat(), "b")
    };
    let half = Some(Obstacle::Half(call_id('b')));
    assert_eq!(ended(vec![intent(1), answered(1), intent(2), status(2, 409)]), half);
    assert_eq!(ended(vec![intent(1), status(1, 504)]), half);
    assert_eq!(ended(sendings(intent(1), &[answer(503), answer(409)])), half);
    assert_eq!(ended(vec![intent(1), status(1, 409)]), None);
    let refusal = Obstacle::Half(call_id('b')).refusal(&call_id('a'));
    assert_eq!(refusal.code, Code::Undo);
    assert!(refusal.message.contains(&call_id('b')), "{refusal:?}");
    assert!(refusal.advice.unwrap().contains("by hand"));
}
