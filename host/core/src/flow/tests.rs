use proptest::prelude::*;

use super::*;

/// The same, by counting: time in steps in which a bucket gains one, and what it holds after each of them.
struct Oracle {
    rate: Rate,
    held: u64,
    step: u64,
}

impl Oracle {
    fn steps(&mut self, until: u64) {
        while self.step < until {
            self.step += 1;
            self.held = (self.held + 1).min(self.rate.burst() * self.rate.per_ms());
        }
    }

    fn take(&mut self, now_ms: u64, patience_ms: u64) -> Result<u64, u64> {
        let asked = now_ms * self.rate.most();
        let mut turn = Self { ..*self };
        turn.steps(asked.max(turn.step));
        while turn.held < turn.rate.per_ms() {
            turn.steps(turn.step + 1);
        }
        turn.held -= turn.rate.per_ms();
        let wait = (turn.step - asked).div_ceil(turn.rate.most());
        if wait > patience_ms {
            return Err(wait);
        }
        *self = turn;
        Ok(wait)
    }
}

proptest! {
    #[test]
    fn a_bucket_does_what_counting_does(
        (per, most, burst) in (1_u64..9, 1_u64..6, 1_u64..5),
        asked in prop::collection::vec((0_u64..12, 0_u64..20), 1..40),
    ) {
        let rate = Rate::new(per, most, burst);
        let mut bucket = Bucket::full(rate);
        let mut oracle = Oracle { rate, held: burst * per, step: 0 };
        let mut now = 0;
        for (passed, patience) in asked {
            now += passed;
            prop_assert_eq!(bucket.take(now, patience), oracle.take(now, patience));
        }
    }

    #[test]
    fn no_span_has_more_than_its_rate(
        (most, burst) in (1_u64..20, 1_u64..20),
        asked in prop::collection::vec((0_u64..200, 0_u64..3_000), 1..80),
    ) {
        let rate = Rate::new(1_000, most, burst);
        let mut bucket = Bucket::full(rate);
        let (mut now, mut sent) = (0, Vec::new());
        for (passed, patience) in asked {
            now += passed;
            sent.extend(bucket.take(now, patience).map(|wait| now + wait));
        }
        for (first, from) in sent.iter().enumerate() {
            for (nth, until) in sent.iter().enumerate().skip(first) {
                let requests = (nth - first + 1) as u64;
                prop_assert!(requests * 1_000 <= burst * 1_000 + (until - from + 1) * most);
            }
        }
    }
}

#[test]
fn a_rate_lets_a_burst_through_and_then_its_share() {
    let mut bucket = Bucket::full(Rate::new(1_000, 10, 2));
    assert_eq!([bucket.take(5, 0), bucket.take(5, 0)], [Ok(0), Ok(0)]);
    assert_eq!(bucket.take(5, 99), Err(100));
    assert_eq!(bucket.take(5, 100), Ok(100));
    assert_eq!(bucket.take(5, 1_000), Ok(200), "one after the other");
    assert_eq!(bucket.take(305, 0), Ok(0));
    assert_eq!((bucket.room(405), bucket.room(100_000)), (1, 2));
    assert_eq!(bucket.take(0, 0), Ok(0), "a clock that goes back");
    assert_eq!(bucket.take(0, 0), Ok(0));
    assert_eq!(bucket.take(0, 0), Err(100));
    assert_eq!(bucket.rate().memory_ms(), 200);
}

const RULE: BreakerRule = BreakerRule {
    failures: 2,
    within_ms: 10,
    open_ms: 4,
};

/// Something that happens to a breaker.
#[derive(Clone, Copy, Debug)]
enum Event {
    Ask {
        reads: bool,
    },
    /// The oldest request that is under way ends, or the newest.
    End {
        oldest: bool,
        how: How,
    },
    Time,
}

const EVENTS: [Event; 9] = [
    Event::Ask { reads: true },
    Event::Ask { reads: false },
    Event::End {
        oldest: true,
        how: How::Good,
    },
    Event::End {
        oldest: true,
        how: How::Bad,
    },
    Event::End {
        oldest: true,
        how: How::Neither,
    },
    Event::End {
        oldest: false,
        how: How::Good,
    },
    Event::End {
        oldest: false,
        how: How::Bad,
    },
    Event::End {
        oldest: false,
        how: How::Neither,
    },
    Event::Time,
];

/// What has to hold, whatever happens in whatever order.
fn holds(events: impl IntoIterator<Item = Event>) {
    let mut breaker = Breaker::opened(RULE, 3, 1);
    let mut under_way: Vec<(Pass, u64)> = Vec::new();
    // How often it changed: a pass of an earlier state says nothing.
    let (mut now, mut era) = (0, 0);
    for event in events {
        let before = breaker.standing(now);
        match event {
            Event::Time => now += 3,
            Event::Ask { reads } => {
                let probing = under_way.iter().any(|(pass, of)| pass.is_probe() && *of == era);
                match (breaker.ask(now, reads), before) {
                    (Ok(pass), Standing::Closed(_)) => {
                        assert!(!pass.is_probe());
                        under_way.push((pass, era));
                    }
                    (Ok(pass), Standing::HalfOpen { .. }) => {
                        assert!(pass.is_probe() && reads && !probing, "a write, or a second probe");
                        under_way.push((pass, era));
                    }
                    (Err(Blocked::Open(left)), Standing::Open { until_ms, .. }) => assert_eq!(left, until_ms - now),
                    (Err(Blocked::NotARead), Standing::HalfOpen { .. }) => assert!(!reads),
                    (Err(Blocked::Probing), Standing::HalfOpen { .. }) => assert!(probing),
                    other => panic!("{other:?}"),
                }
            }
            Event::End { oldest, how } => {
                let Some(last) = under_way.len().checked_sub(1) else {
                    continue;
                };
                let (pass, of) = under_way.remove(if oldest { 0 } else { last });
                let change = breaker.end(&pass, now, how, Jitter::default());
                let after = breaker.standing(now);
                match change {
                    None => assert_eq!(
                        std::mem::discriminant(&before),
                        std::mem::discriminant(&after),
                        "a change that nobody is told of"
                    ),
                    Some(Change::Closed) => {
                        assert!(
                            pass.is_probe() && of == era && how == How::Good,
                            "closed without a probe"
                        );
                        assert_eq!(after, Standing::Closed(0));
                    }
                    Some(Change::Opened {
                        until_ms,
                        in_a_row,
                        failures,
                    }) => {
                        assert!(of == era && how == How::Bad, "opened by what did not fail now");
                        assert_eq!(after, Standing::Open { until_ms, in_a_row });
                        assert_eq!(until_ms - now, RULE.open_ms << (in_a_row - 1));
                        assert_eq!(pass.is_probe(), in_a_row > 1);
                        assert_eq!(failures, if pass.is_probe() { 1 } else { RULE.failures });
                    }
                }
                era += u64::from(change.is_some());
            }
        }
    }
}

#[test]
fn every_order_of_events_keeps_a_breaker_s_rules() {
    const LENGTH: u32 = 6;
    for number in 0..EVENTS.len().pow(LENGTH) {
        let nth = |at| EVENTS[number / EVENTS.len().pow(at) % EVENTS.len()];
        holds((0..LENGTH).map(nth));
    }
}

proptest! {
    #[test]
    fn long_orders_of_events_too(events in prop::collection::vec(0..EVENTS.len(), 1..200)) {
        holds(events.into_iter().map(|nth| EVENTS[nth]));
    }
}

/// What a ledger says of a breaker while all this happens to it: the failures, each after the change that it brought, as a breaker's
/// change is written while it is locked.
fn recorded(events: impl IntoIterator<Item = Event>) -> (Breaker, Breaker, u64) {
    let mut live = Breaker::closed(RULE);
    let mut under_way: Vec<(Pass, u64)> = Vec::new();
    let (mut now, mut index, mut changed, mut failures) = (0, 0, None, Vec::new());
    for event in events {
        index += 1;
        match event {
            Event::Time => now += 3,
            Event::Ask { reads } => under_way.extend(live.ask(now, reads).ok().map(|pass| (pass, index))),
            Event::End { oldest, how } => {
                let Some(last) = under_way.len().checked_sub(1) else {
                    continue;
                };
                let (pass, began) = under_way.remove(if oldest { 0 } else { last });
                let open = match live.end(&pass, now, how, Jitter::default()) {
                    None => None,
                    Some(Change::Closed) => Some(None),
                    Some(Change::Opened { until_ms, in_a_row, .. }) => Some(Some((until_ms, in_a_row))),
                };
                changed = open.map(|open| Changed { index, open }).or(changed);
                failures.extend((how == How::Bad).then_some(Failure { began, at_ms: now }));
            }
        }
    }
    (live, Breaker::recorded(RULE, changed, failures), now)
}

/// One that goes on from the record stands where the other does, and opens when that does, but for what is under way: that ends with
/// its process.
fn goes_on(events: impl IntoIterator<Item = Event>) {
    let (mut live, mut rebuilt, mut now) = recorded(events);
    assert_eq!(rebuilt.standing(now), live.standing(now));
    for _ in 0..4 {
        if !matches!(live.standing(now), Standing::Closed(_)) {
            break;
        }
        assert_eq!(fail(&mut rebuilt, now), fail(&mut live, now));
        assert_eq!(rebuilt.standing(now), live.standing(now));
        now += 4;
    }
}

#[test]
fn a_breaker_that_goes_on_from_the_record_is_the_one_that_was_there() {
    const LENGTH: u32 = 6;
    for number in 0..EVENTS.len().pow(LENGTH) {
        let nth = |at| EVENTS[number / EVENTS.len().pow(at) % EVENTS.len()];
        goes_on((0..LENGTH).map(nth));
    }
}

proptest! {
    #[test]
    fn so_it_is_after_long_orders_of_events(events in prop::collection::vec(0..EVENTS.len(), 1..200)) {
        goes_on(events.into_iter().map(|nth| EVENTS[nth]));
    }
}

#[test]
fn what_was_under_way_when_a_breaker_changed_is_not_counted_from_the_record() {
    let changed = Some(Changed { index: 7, open: None });
    let of = |began| Failure { began, at_ms: 1 };
    let mut breaker = Breaker::recorded(RULE, changed, [of(6), of(8)]);
    assert_eq!(breaker.standing(1), Standing::Closed(1));
    let mut breaker = Breaker::recorded(RULE, None, [of(6), of(8)]);
    assert_eq!(breaker.standing(1), Standing::Closed(2));
    assert_eq!(breaker.standing(11), Standing::Closed(0), "too long ago");
}

#[test]
fn what_a_failure_is() {
    use crate::error::{Code, Refusal};
    use crate::ledger::body::{Answered, Doubt, Outcome, Refused};
    let not_sent = |code| Outcome::NotSent(Refused::of(&Refusal::new(code, "no"), None));
    let answered = |status| Outcome::Answered(Answered { status });
    let bad = [
        answered(500),
        answered(599),
        Outcome::InDoubt(Doubt::Connection),
        Outcome::InDoubt(Doubt::Timeout),
        not_sent(Code::Address),
        not_sent(Code::Tls),
        not_sent(Code::Limit),
    ];
    let neither = [
        answered(429),
        Outcome::InDoubt(Doubt::Answer),
        Outcome::InDoubt(Doubt::Restart),
        Outcome::InDoubt(Doubt::Stopped),
        not_sent(Code::Credential),
        not_sent(Code::Killed),
    ];
    let good = [answered(200), answered(302), answered(400), answered(499)];
    assert!(bad.iter().all(|sending| How::of(sending) == How::Bad));
    assert!(neither.iter().all(|sending| How::of(sending) == How::Neither));
    assert!(good.iter().all(|sending| How::of(sending) == How::Good));
}

/// Fails once, at this time, as whatever goes when it is closed.
fn fail(breaker: &mut Breaker, at: u64) -> Option<Change> {
    let pass = breaker.ask(at, true).unwrap();
    breaker.end(&pass, at, How::Bad, Jitter::default())
}

#[test]
fn failures_count_within_their_time() {
    let mut breaker = Breaker::closed(RULE);
    assert_eq!(fail(&mut breaker, 0), None);
    assert_eq!(fail(&mut breaker, 10), None, "the first is too long ago");
    assert_eq!(breaker.standing(19), Standing::Closed(1));
    assert!(matches!(
        fail(&mut breaker, 19),
        Some(Change::Opened {
            failures: 2,
            until_ms: 23,
            in_a_row: 1
        })
    ));
    assert_eq!(breaker.ask(22, true).unwrap_err(), Blocked::Open(1));
}

#[test]
fn half_open_lets_one_read_through_and_no_write() {
    let mut breaker = Breaker::opened(RULE, 5, 1);
    assert_eq!(breaker.ask(5, false).unwrap_err(), Blocked::NotARead);
    let probe = breaker.ask(5, true).unwrap();
    assert_eq!(breaker.ask(5, true).unwrap_err(), Blocked::Probing);
    assert_eq!(
        breaker.end(&probe, 6, How::Good, Jitter::default()),
        Some(Change::Closed)
    );
    assert!(!breaker.ask(6, false).unwrap().is_probe());
}

#[test]
fn what_began_before_a_change_says_nothing_any_more() {
    let mut breaker = Breaker::closed(RULE);
    let early = breaker.ask(0, false).unwrap();
    fail(&mut breaker, 0);
    fail(&mut breaker, 0);
    assert_eq!(breaker.end(&early, 100, How::Good, Jitter::default()), None, "no probe");
    assert_eq!(breaker.standing(100), Standing::HalfOpen { in_a_row: 1 });
}

#[test]
fn what_began_under_another_rule_closes_no_breaker() {
    let mut older = Breaker::closed(RULE);
    let early = older.ask(0, false).unwrap();
    let mut fresh = Breaker::opened(BreakerRule { open_ms: 50, ..RULE }, 60, 1);
    fresh.comes_after(&older);
    assert_eq!(fresh.end(&early, 30, How::Good, Jitter::default()), None);
    assert!(matches!(fresh.standing(30), Standing::Open { .. }));
}

#[test]
fn a_breaker_stays_open_longer_each_time_up_to_a_bound() {
    let mut breaker = Breaker::opened(RULE, 0, 1);
    let mut now = 0;
    let mut times = Vec::new();
    for _ in 0..9 {
        let pass = breaker.ask(now, true).unwrap();
        let Some(Change::Opened { until_ms, .. }) = breaker.end(&pass, now, How::Bad, Jitter::default()) else {
            panic!("a probe that failed");
        };
        times.push((until_ms - now) / RULE.open_ms);
        now = until_ms;
    }
    assert_eq!(times, [2, 4, 8, 16, 32, 64, 64, 64, 64]);
    let long = BreakerRule { open_ms: 4_000, ..RULE };
    let mut breaker = Breaker::opened(long, 0, 1);
    let pass = breaker.ask(0, true).unwrap();
    let most = breaker.end(&pass, 0, How::Bad, Jitter::of(u64::MAX));
    assert!(matches!(most, Some(Change::Opened { until_ms: 9_998, .. })), "{most:?}");
}

#[test]
fn what_may_be_sent_again_is() {
    let retries = Retries {
        most: 3,
        backoff_ms: 200,
    };
    let after = |attempts, last| retries.after(attempts, last, Jitter::default());
    let answered = |status, later_ms| Attempt::Answered { status, later_ms };
    for last in [
        Attempt::Unreached,
        Attempt::Lost,
        answered(502, None),
        answered(503, None),
        answered(504, None),
    ] {
        assert_eq!(after(1, last), Some(100), "{last:?}");
        assert_eq!(after(2, last), Some(200), "{last:?}");
        assert_eq!(after(3, last), Some(400), "{last:?}");
        assert_eq!(after(4, last), None, "{last:?}");
    }
    assert_eq!(after(1, answered(429, Some(1_000))), Some(1_100));
    assert_eq!(after(1, answered(503, Some(1_000))), Some(1_100));
    for last in [
        Attempt::Final,
        answered(200, None),
        answered(400, None),
        answered(429, None),
        answered(500, Some(1)),
    ] {
        assert_eq!(after(1, last), None, "{last:?}");
    }
    for random in [0, 511, u64::MAX] {
        let wait = retries.after(1, Attempt::Lost, Jitter::of(random)).unwrap();
        assert!((100..200).contains(&wait), "{wait}");
    }
}

#[test]
fn what_is_no_rate_breaker_or_retry_is_told() {
    let rate = |json| serde_json::from_value::<RateSpec>(json).unwrap().check();
    let breaker = |json| serde_json::from_value::<BreakerSpec>(json).unwrap().check();
    let retries = |json| serde_json::from_value::<RetrySpec>(json).unwrap().check();
    let minute = rate(serde_json::json!({ "per": "minute", "most": 6 })).unwrap();
    assert_eq!((minute.burst(), minute.memory_ms()), (6, 60_000));
    let rule = breaker(serde_json::json!({ "failures": 5, "within": "1m", "open": "500ms" })).unwrap();
    assert_eq!((rule.failures, rule.within_ms, rule.open_ms), (5, 60_000, 500));
    let told = [
        rate(serde_json::json!({ "per": "hour", "most": 0 })).unwrap_err(),
        rate(serde_json::json!({ "per": "hour", "most": 1, "burst": 0 })).unwrap_err(),
        breaker(serde_json::json!({ "failures": 0, "within": "1m", "open": "1s" })).unwrap_err(),
        breaker(serde_json::json!({ "failures": 1, "within": "soon", "open": "1s" })).unwrap_err(),
        breaker(serde_json::json!({ "failures": 1, "within": "1m", "open": "2d" })).unwrap_err(),
        breaker(serde_json::json!({ "failures": 1, "within": "1m", "open": "1ms" })).unwrap_err(),
        retries(serde_json::json!({ "most": 11, "backoff": "1s" })).unwrap_err(),
        retries(serde_json::json!({ "most": 1, "backoff": "2m" })).unwrap_err(),
    ];
    let keys = [
        "rate.most",
        "rate.burst",
        "breaker.failures",
        "breaker.within",
        "breaker.open",
        "breaker.open",
        "retries.most",
        "retries.backoff",
    ];
    for (told, key) in told.iter().zip(keys) {
        assert!(told.starts_with(&format!("`{key}` is")), "{told}");
    }
}
