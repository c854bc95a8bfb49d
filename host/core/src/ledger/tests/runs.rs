//! Runs in a whole ledger: what an audit finds by entries alone, with no books and no home.

use super::*;
use crate::money::Over;

const RUN: &str = "r_aaaaaaaaaaaaaaaaaaaaaaaaaa";
/// Of the fixture's first entry; each later one is a second on.
const BEGAN: u64 = 1_795_228_800_000;

fn cap(cap: u64, unit: &str) -> RunCap {
    let unit = unit.parse().unwrap();
    RunCap { cap, over: None, unit }
}

fn started(change: &dyn Fn(&mut RunStarted)) -> EntryDraft {
    let mut started = RunStarted {
        once: None,
        by: None,
        caps: vec![],
        errors: None,
        expires: BEGAN + 3_600_000,
        mode: Mode::Execute,
        principal: principal(),
        run: RUN.into(),
    };
    change(&mut started);
    EntryDraft::of_ledger(started)
}

fn capped(caps: &[RunCap]) -> EntryDraft {
    started(&|run| run.caps = caps.to_vec())
}

fn ended() -> EntryDraft {
    EntryDraft::of_ledger(RunEnded {
        by: None,
        run: RUN.into(),
    })
}

fn of_run(budget: &str, unit: &str, amount: u64, cap: u64) -> Reservation {
    Reservation {
        amount,
        budget: budget.into(),
        cap,
        over: None,
        warn: None,
        window: format!("{unit} run {RUN}"),
    }
}

/// A call of the run, with what it sets aside in the run's limits.
fn begins(letter: char, reserved: &[Reservation]) -> EntryDraft {
    let Body::CallAccepted(mut body) = accepted() else {
        unreachable!()
    };
    body.run = Some(RUN.into());
    body.reserved.extend_from_slice(reserved);
    of_call(letter, body)
}

fn intends(letter: char, ordinal: u32, change: impl FnOnce(&mut EffectIntent)) -> EntryDraft {
    let Body::EffectIntent(mut body) = intent(ordinal) else {
        unreachable!()
    };
    change(&mut body);
    of_call(letter, body)
}

fn failed(ordinal: u32) -> Body {
    let Body::EffectOutcome(mut body) = answered(ordinal) else {
        unreachable!()
    };
    body.outcome = Outcome::Answered(Answered { status: 500 });
    body.into()
}

fn ends(letter: char, settled: &[(&str, &str, u64)]) -> EntryDraft {
    let Body::CallFinished(mut body) = finished(&[]) else {
        unreachable!()
    };
    body.settled
        .extend(settled.iter().map(|(budget, unit, amount)| Settlement {
            amount: *amount,
            budget: (*budget).into(),
            window: format!("{unit} run {RUN}"),
        }));
    of_call(letter, body)
}

fn verdict(drafts: impl IntoIterator<Item = EntryDraft>) -> Result<(), String> {
    let mut log = Log::new();
    drafts.into_iter().for_each(|draft| log.push(draft));
    log.verify().map(drop).map_err(|bad| bad.to_string())
}

fn refuses(drafts: impl IntoIterator<Item = EntryDraft>, why: &str) {
    let bad = verdict(drafts).unwrap_err();
    assert!(bad.contains(why), "{bad}");
}

#[test]
fn a_call_is_within_its_run() {
    assert_eq!(verdict([started(&|_| {}), begins('a', &[])]), Ok(()));
    refuses([begins('a', &[])], "was not started before");
    refuses([started(&|_| {}), started(&|_| {})], "was started already");
    refuses([started(&|_| {}), ended(), begins('a', &[])], "has ended");
    refuses([started(&|_| {}), ended(), ended()], "has ended");
    refuses(
        [started(&|run| run.expires = BEGAN + 2_000), begins('a', &[])],
        "has expired",
    );
    refuses(
        [started(&|run| run.mode = Mode::Suggest), begins('a', &[])],
        "would widen",
    );
    refuses(
        [started(&|run| run.principal.user = None), begins('a', &[])],
        "is another caller's",
    );
}

#[test]
fn an_effect_is_within_its_run() {
    let begun = || vec![started(&|_| {}), begins('a', &[])];
    let and = |more: Vec<EntryDraft>| begun().into_iter().chain(more);
    assert_eq!(verdict(and(vec![of_call('a', intent(0))])), Ok(()));
    refuses(and(vec![ended(), of_call('a', intent(0))]), "has ended");
    // What is under way has its end.
    let under_way = vec![of_call('a', intent(0)), ended(), of_call('a', answered(0))];
    assert_eq!(verdict(and(under_way)), Ok(()));
}

/// What its host's end left in doubt is an effect once more when it is sent again.
#[test]
fn what_is_sent_again_after_a_doubt_is_within_its_run() {
    let again = || {
        let doubt = Outcome::InDoubt(Doubt::Restart);
        let Body::EffectOutcome(mut unseen) = outcome(0, doubt.clone()) else {
            unreachable!()
        };
        unseen.answer = None;
        let Body::EffectRetried(mut again) = retried(0, 2) else {
            unreachable!()
        };
        again.after = doubt;
        let begun = [of_call('a', intent(0)), of_call('a', unseen)];
        (begun, of_call('a', again))
    };
    let and = |ends: bool| {
        let (begun, again) = again();
        let first = [started(&|_| {}), begins('a', &[])].into_iter().chain(begun);
        let end = ends.then(ended);
        first.chain(end).chain([again]).collect::<Vec<_>>()
    };
    assert_eq!(verdict(and(false)), Ok(()));
    refuses(and(true), "has ended");
}

#[test]
fn a_run_of_which_too_much_failed_only_reads() {
    let bound = || started(&|run| run.errors = Some(ErrorBound { least: 1, percent: 50 }));
    let begun = || {
        vec![
            bound(),
            begins('a', &[]),
            of_call('a', intent(0)),
            of_call('a', failed(0)),
        ]
    };
    let and = |more: Vec<EntryDraft>| begun().into_iter().chain(more);
    let degraded = |failed| {
        EntryDraft::of_ledger(RunDegraded {
            failed,
            finished: 1,
            run: RUN.into(),
        })
    };
    let reads = |ordinal| intends('a', ordinal, |intent| intent.tier = Tier::Read);
    assert_eq!(verdict(and(vec![degraded(1), reads(1)])), Ok(()));
    refuses(and(vec![degraded(1), of_call('a', intent(1))]), "only reads");
    // Also where the entry that says so was left out.
    refuses(and(vec![of_call('a', intent(1))]), "only reads");
    refuses(and(vec![degraded(2)]), "is said to have degraded");
    refuses([bound(), degraded(1)], "is said to have degraded");
}

#[test]
fn what_a_run_limits_adds_up() {
    let calls = |cap: u64| of_run("run/calls", "calls", 1, cap);
    let two = || capped(&[cap(2, "calls")]);
    assert_eq!(
        verdict([two(), begins('a', &[calls(2)]), begins('b', &[calls(2)])]),
        Ok(())
    );
    let three = ['a', 'b', 'c'].map(|letter| begins(letter, &[calls(2)]));
    refuses(std::iter::once(two()).chain(three), "has a limit that it passes");
    // Nothing is left out of it, and no other cap is written in its place.
    refuses([two(), begins('a', &[])], "has limits that it does not reserve");
    refuses([two(), begins('a', &[calls(9)])], "has limits that it does not reserve");
    let Reservation { window, .. } = calls(2);
    let elsewhere = Reservation {
        window: window.replace("r_a", "r_b"),
        ..calls(2)
    };
    refuses([two(), begins('a', &[elsewhere])], "counts in another window");
    let Body::CallAccepted(mut outside) = accepted() else {
        unreachable!()
    };
    outside.reserved.push(calls(2));
    refuses([two(), of_call('a', outside)], "is part of no run");
    // What was set aside is settled once, and no more of it.
    let used = |amount| ends('a', &[("run/calls", "calls", amount)]);
    assert_eq!(verdict([two(), begins('a', &[calls(2)]), used(1)]), Ok(()));
    refuses(
        [two(), begins('a', &[calls(2)]), used(2)],
        "settles more of `run/calls`",
    );
    refuses(
        [started(&|_| {}), begins('a', &[]), used(1)],
        "settles more of `run/calls`",
    );
}

#[test]
fn a_run_s_limit_is_passed_by_those_whom_it_names() {
    let over = |ask: &str, count| Some(Over { ask: ask.into(), count });
    let limited = |over: Option<Over>| {
        capped(&[RunCap {
            cap: 1_000,
            over,
            unit: "usd".parse().unwrap(),
        }])
    };
    // The fixture's intent moves 50.00, held for two of finance and one of legal.
    let passes = || {
        let Body::EffectIntent(mut body) = passed(0) else {
            unreachable!()
        };
        body.reserved.push(Reservation {
            over: Some(digest("hold")),
            ..of_run("run/usd", "usd", 5_000, 1_000)
        });
        of_call('a', body)
    };
    let waits = || {
        let Body::EffectHeld(mut body) = held(0) else {
            unreachable!()
        };
        body.over = vec!["run/usd".into()];
        of_call('a', body)
    };
    let with = |over: Option<Over>| {
        let votes = approvals(0).into_iter().map(|vote| of_call('a', vote));
        [limited(over), begins('a', &[]), waits()]
            .into_iter()
            .chain(votes)
            .chain([passes()])
    };
    assert_eq!(verdict(with(over("finance", 2))), Ok(()));
    refuses(with(over("finance", 3)), "its approvals were not for");
    refuses(with(over("reviewer", 1)), "its approvals were not for");
    refuses(with(None), "has limits that it does not reserve");
    let over_nothing = intends('a', 0, |intent| {
        intent.reserved.push(of_run("run/usd", "usd", 5_000, 1_000));
    });
    refuses(
        [limited(over("finance", 2)), begins('a', &[]), over_nothing],
        "has a limit that it passes",
    );
}

/// A call of the run, made with a token that this money goes with.
fn with_token(letter: char, money: &[(char, &str, u64)]) -> EntryDraft {
    let Body::CallAccepted(mut body) = accepted() else {
        unreachable!()
    };
    let money = money.iter().map(|(token, currency, minor)| TokenMoney {
        most: vec![Amount {
            currency: currency.parse().unwrap(),
            minor: *minor,
        }],
        token: digest(&token.to_string()),
    });
    body.by = Some(ShownBy::RunToken(RunTokenShown {
        expires: BEGAN + 60_000,
        money: money.collect(),
        token: digest("token"),
    }));
    body.run = Some(RUN.into());
    of_call(letter, body)
}

#[test]
fn what_is_spent_with_a_token_is_counted_in_its_money() {
    let begun = |money: &[(char, &str, u64)]| vec![started(&|_| {}), with_token('a', money)];
    let and = |money: &[(char, &str, u64)], more: Vec<EntryDraft>| begun(money).into_iter().chain(more);
    let of_token = |token: char, amount: u64, cap: u64| {
        let budget = crate::grant::token_budget(&digest(&token.to_string()), "usd".parse().unwrap());
        of_run(&budget, "usd", amount, cap)
    };
    // The fixture's intent moves 50.00.
    let spends =
        |ordinal: u32, reserved: Vec<Reservation>| intends('a', ordinal, |intent| intent.reserved.extend(reserved));
    let one = &[('x', "usd", 9_000)][..];
    assert_eq!(
        verdict(and(one, vec![spends(0, vec![of_token('x', 5_000, 9_000)])])),
        Ok(())
    );
    assert_eq!(
        verdict(and(&[], vec![spends(0, vec![])])),
        Ok(()),
        "no money goes with it"
    );
    let free = intends('a', 0, |intent| intent.spend = None);
    assert_eq!(verdict(and(one, vec![free])), Ok(()));
    for reserved in [
        vec![],
        vec![of_token('y', 5_000, 9_000)],
        vec![of_token('x', 4_999, 9_000)],
        vec![of_token('x', 5_000, 9_001)],
    ] {
        refuses(and(one, vec![spends(0, reserved)]), "its own does not count");
    }
    refuses(
        and(&[('x', "eur", 9_000)], vec![spends(0, vec![])]),
        "its own does not count",
    );
    // Of each block that says so.
    let two = &[('x', "usd", 9_000), ('y', "usd", 5_000)][..];
    let both = || vec![of_token('x', 5_000, 9_000), of_token('y', 5_000, 5_000)];
    assert_eq!(verdict(and(two, vec![spends(0, both())])), Ok(()));
    refuses(
        and(two, vec![spends(0, vec![of_token('x', 5_000, 9_000)])]),
        "its own does not count",
    );
    // And all together, of whichever call.
    refuses(
        and(
            one,
            vec![
                spends(0, vec![of_token('x', 5_000, 9_000)]),
                spends(1, vec![of_token('x', 5_000, 9_000)]),
            ],
        ),
        "has a limit that it passes",
    );
    let passing = Reservation {
        over: Some(digest("hold")),
        ..of_token('x', 5_000, 9_000)
    };
    refuses(
        and(one, vec![spends(0, vec![passing])]),
        "it passes a cap, and was not held",
    );
    // A call with a token is of a run.
    let Body::CallAccepted(mut outside) = accepted() else {
        unreachable!()
    };
    outside.by = Some(ShownBy::RunToken(RunTokenShown {
        expires: BEGAN,
        money: vec![],
        token: digest("token"),
    }));
    refuses([of_call('a', outside)], "is part of none");
}
