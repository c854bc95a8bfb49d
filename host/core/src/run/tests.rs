#![allow(clippy::unwrap_used, reason = "tests")]
use proptest::prelude::*;

use super::*;
use crate::ledger::body::ErrorBound;

const ID: &str = "r_aaaaaaaaaaaaaaaaaaaaaaaaaa";
const START: i64 = 1_000_000;
const END: i64 = 2_000_000;

fn principal() -> Principal {
    Principal {
        agent: "bot".into(),
        team: "support".into(),
        tenant: "acme".into(),
        user: Some("ann".into()),
    }
}

fn started(mode: Mode) -> RunStarted {
    RunStarted {
        once: None,
        by: None,
        caps: vec![],
        errors: Some(ErrorBound { least: 4, percent: 50 }),
        expires: u64::try_from(END).unwrap(),
        mode,
        principal: principal(),
        run: ID.into(),
    }
}

fn run(mode: Mode) -> Run {
    Run::new(started(mode), 3, START)
}

#[test]
fn a_run_is_its_principal_s_alone() {
    let run = run(Mode::Execute);
    let admitted = |principal: &Principal| run.admits_call(principal, Mode::Execute, START);
    assert_eq!(admitted(&principal()), Ok(()));
    for other in [
        Principal {
            agent: "other".into(),
            ..principal()
        },
        Principal {
            team: "other".into(),
            ..principal()
        },
        Principal {
            tenant: "other".into(),
            ..principal()
        },
        Principal {
            user: None,
            ..principal()
        },
        Principal {
            user: Some("bob".into()),
            ..principal()
        },
    ] {
        assert_eq!(admitted(&other), Err(RunError::Another));
    }
}

#[test]
fn a_call_is_as_strict_as_its_run_or_stricter() {
    let modes = [Mode::Execute, Mode::Suggest, Mode::DryRun];
    for (at, of_run) in modes.into_iter().enumerate() {
        for (strictness, of_call) in modes.into_iter().enumerate() {
            let admitted = run(of_run).admits_call(&principal(), of_call, START);
            assert_eq!(admitted.is_ok(), strictness >= at, "{of_call} in {of_run}");
        }
    }
}

#[test]
fn a_run_that_has_ended_begins_nothing() {
    let mut run = run(Mode::Execute);
    assert_eq!(run.admits_effect(Tier::Commit, START), Ok(()));
    run.ended = true;
    assert_eq!(
        run.admits_call(&principal(), Mode::Execute, START),
        Err(RunError::Ended)
    );
    assert_eq!(run.admits_effect(Tier::Read, START), Err(RunError::Ended));
}

#[test]
fn a_run_expires() {
    let run = run(Mode::Execute);
    assert_eq!(run.admits_call(&principal(), Mode::Execute, END - 1), Ok(()));
    assert_eq!(
        run.admits_call(&principal(), Mode::Execute, END),
        Err(RunError::Expired)
    );
    assert_eq!(run.admits_effect(Tier::Read, END), Err(RunError::Expired));
}

#[test]
fn a_run_of_which_too_much_failed_only_reads() {
    let mut run = run(Mode::Execute);
    let mut counted = |failed: bool| {
        run.count(failed);
        (run.degrades().is_some(), run.admits_effect(Tier::Draft, START))
    };
    // Three of three failed, and that is too few to look at.
    for _ in 0..3 {
        assert_eq!(counted(true), (false, Ok(())));
    }
    assert_eq!(counted(false), (true, Err(RunError::Degraded)));
    assert_eq!(
        run.degrades().unwrap(),
        RunDegraded {
            failed: 3,
            finished: 4,
            run: ID.into()
        }
    );
    assert_eq!(run.admits_effect(Tier::Read, START), Ok(()));
    assert_eq!(run.admits_call(&principal(), Mode::Execute, START), Ok(()));
    // Once an entry says so, it stays so, whatever the share is later.
    run.degraded = true;
    for _ in 0..100 {
        run.count(false);
    }
    assert_eq!(run.degrades(), None);
    assert_eq!(run.admits_effect(Tier::Commit, START), Err(RunError::Degraded));
}

#[test]
fn what_is_not_seen_counts_as_failed_and_not_twice() {
    let mut run = run(Mode::Execute);
    for _ in 0..4 {
        run.count(false);
    }
    run.count_unverified();
    run.count_unverified();
    assert_eq!(((run.finished, run.failed), run.degrades()), ((4, 2), None));
    run.count_unverified();
    assert_eq!(
        run.degrades().map(|degraded| (degraded.finished, degraded.failed)),
        Some((4, 3))
    );
    run.count_unverified();
    run.count_unverified();
    assert_eq!((run.finished, run.failed), (4, 4), "no more failed than ended");
}

#[test]
fn exactly_the_share_is_within_it() {
    let mut run = run(Mode::Execute);
    for failed in [true, true, false, false] {
        run.count(failed);
    }
    assert_eq!(run.degrades(), None);
    run.started.errors = Some(ErrorBound { least: 1, percent: 100 });
    for _ in 0..1_000 {
        run.count(true);
    }
    assert_eq!(run.degrades(), None, "all may fail");
    run.started.errors = None;
    assert_eq!(run.degrades(), None);
}

#[test]
fn a_run_is_started_with_what_it_can_have() {
    let check = |change: &dyn Fn(&mut RunStarted)| {
        let mut started = started(Mode::Execute);
        change(&mut started);
        started.check()
    };
    let cap = |cap: u64, unit: &str| RunCap {
        cap,
        over: None,
        unit: unit.parse().unwrap(),
    };
    assert_eq!(check(&|_| ()), Ok(()));
    assert_eq!(
        check(&|run| run.caps = vec![cap(1, "calls"), cap(MOST, "fuel"), cap(5, "usd")]),
        Ok(())
    );
    assert_eq!(
        check(&|run| run.caps = vec![cap(1, "fuel"), cap(1, "calls")]),
        Err(NotARun::Units)
    );
    assert_eq!(
        check(&|run| run.caps = vec![cap(1, "usd"), cap(2, "usd")]),
        Err(NotARun::Units)
    );
    for bad in [0, MOST + 1] {
        let unit = Unit::Calls;
        assert_eq!(
            check(&|run| run.caps = vec![cap(bad, "calls")]),
            Err(NotARun::Cap { unit, cap: bad })
        );
    }
    for id in [
        "",
        "r_",
        "c_aaaaaaaaaaaaaaaaaaaaaaaaaa",
        "r_AAAAAAAAAAAAAAAAAAAAAAAAAA",
        "r_aaaaaaaaaaaaaaaaaaaaaaaaa1",
    ] {
        assert_eq!(check(&|run| run.run = id.into()), Err(NotARun::Id), "{id}");
    }
}

#[test]
fn an_error_bound_is_a_share_of_some() {
    for (percent, least, good) in [
        (1, 1, true),
        (100, u32::MAX, true),
        (0, 1, false),
        (101, 1, false),
        (50, 0, false),
    ] {
        let mut started = started(Mode::Execute);
        started.errors = Some(ErrorBound { least, percent });
        assert_eq!(started.check().is_ok(), good, "{percent} of {least}");
    }
}

proptest! {
    #[test]
    fn a_run_degrades_exactly_where_the_share_is_passed(percent in 1_u32..=100, least in 1_u32..40, ends in prop::collection::vec(any::<bool>(), 0..80)) {
        let mut run = run(Mode::Execute);
        run.started.errors = Some(ErrorBound { least, percent });
        let (mut failed, mut all) = (0_u64, 0_u64);
        for end in ends {
            run.count(end);
            all += 1;
            failed += u64::from(end);
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let share = failed as f64 / all as f64;
            let above = share > f64::from(percent) / 100.0 + 1e-12 && all >= u64::from(least);
            prop_assert_eq!(run.degrades().is_some(), above);
        }
    }
}

#[test]
fn a_limit_is_passed_where_an_effect_can_wait() {
    let check = |unit: &str, count| {
        let mut started = run(Mode::Execute).started;
        started.caps = vec![RunCap {
            cap: 5,
            over: Some(crate::money::Over {
                ask: "finance".into(),
                count,
            }),
            unit: unit.parse().unwrap(),
        }];
        started.check()
    };
    for unit in ["bytes", "effects", "usd"] {
        assert_eq!(check(unit, 1), Ok(()));
        let over = NotARun::Over {
            unit: unit.parse().unwrap(),
        };
        assert_eq!(check(unit, 0), Err(over));
    }
    for unit in ["calls", "fuel"] {
        let over = NotARun::Over {
            unit: unit.parse().unwrap(),
        };
        assert_eq!(check(unit, 1), Err(over));
    }
}
