//! Caps are exact, in every window.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use ambit_core::ledger::body::{CallResumed, GuestEnded, Reservation, Settlement};
use ambit_core::money::{Account, Period, Span, Window as Kind};
use proptest::prelude::*;

use super::super::{BudgetState, Faults, Keys, Store, StoreError, place_one};
use super::fixture::{Call, Home, Time, batch, request, reserve, reserve_in, settle, settle_in};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 2026-11-21T12:00:00Z
const NOON: i64 = 1_795_262_400_000;

fn state(store: &Store) -> Vec<(u64, Account)> {
    let budgets = store.reader().unwrap().budgets().unwrap();
    budgets
        .into_iter()
        .map(|BudgetState { cap, account, .. }| (cap, account))
        .collect()
}

/// Each account's window, with what is used and reserved in it.
fn windows(store: &Store) -> Vec<(String, u64, u64)> {
    let budgets = store.reader().unwrap().budgets().unwrap();
    budgets
        .into_iter()
        .map(|state| (state.window.window, state.account.used, state.account.reserved))
        .collect()
}

fn stores(test: impl Fn(&Store)) {
    stores_at(|_, store| test(store));
}

/// Both kinds of store, at noon.
fn stores_at(test: impl Fn(&Time, &Store)) {
    let (home, time) = (Home::new(), Time::at(NOON));
    test(&time, &home.try_open(time.options(), Faults::none()).unwrap());
    home.verify();
    let time = Time::at(NOON);
    test(&time, &Store::memory(home.keys(), time.options()).unwrap());
}

/// Accepts a call that reserves so much, with its reservation as the ledger has it.
fn spend(store: &Store, window: &str, amount: u64, cap: u64) -> Result<(Call, Settlement), StoreError> {
    let call = Call::new();
    let mut reserved = reserve_in(window, "b", amount, cap);
    let committed = store.commit(batch([call.accepted(vec![reserved.clone()])]))?;
    place_one(&mut reserved, committed.time_ms);
    Ok((call, settle_in(&reserved.window, "b", amount)))
}

/// The same, and ends it.
fn spent(store: &Store, window: &str, amount: u64, cap: u64) -> Result<(), StoreError> {
    let (call, settled) = spend(store, window, amount, cap)?;
    store.commit(batch([call.finished(vec![settled])])).map(drop)
}

fn is_over(result: Result<impl Sized, StoreError>) -> bool {
    match result {
        Ok(_) => false,
        Err(StoreError::Budget { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn only_a_call_under_way_has_guests() {
    stores(|store| {
        let call = Call::new();
        let ends = || call.draft(GuestEnded { fuel: 1, guest: 1 });
        let resumes = || call.draft(CallResumed { guest: 2 });
        assert!(matches!(store.commit(batch([ends()])), Err(StoreError::Batch { .. })));
        store.commit(batch([call.accepted(vec![])])).unwrap();
        store.commit(batch([ends()])).unwrap();
        store.commit(batch([resumes()])).unwrap();
        store.commit(batch([call.finished(vec![])])).unwrap();
        assert!(matches!(
            store.commit(batch([resumes()])),
            Err(StoreError::Batch { .. })
        ));
    });
}

#[test]
fn a_thousand_spenders_spend_the_cap_and_no_more() {
    for window in [
        "usd day",
        "calls hour",
        "fuel month",
        "effects rolling 1h",
        "bytes rolling 31d",
    ] {
        stores(|store| a_thousand_spenders(store, window));
    }
}

fn a_thousand_spenders(store: &Store, window: &str) {
    const CAP: u64 = 7 * 400 + 6;
    let spend = || match spend(store, window, 7, CAP) {
        Ok(spent) => Some(spent),
        Err(StoreError::Budget {
            name,
            cap: CAP,
            asked: 7,
            used: 0,
            reserved: 2800,
        }) => {
            assert_eq!(name, "b");
            None
        }
        Err(error) => panic!("{error}"),
    };
    let calls: Vec<(Call, Settlement)> = thread::scope(|scope| {
        let spenders: Vec<_> = (0..1000).map(|_| scope.spawn(spend)).collect();
        spenders
            .into_iter()
            .filter_map(|spender| spender.join().unwrap())
            .collect()
    });
    assert_eq!(calls.len(), 400);
    let account = |used, reserved| [(CAP, Account { used, reserved })];
    assert_eq!(state(store), account(0, 2800));

    // Half of them spend 3 of their 7, the others nothing: what they didn't is free again, to the last unit.
    thread::scope(|scope| {
        for (number, (call, reserved)) in calls.iter().enumerate() {
            let amount = if number % 2 == 0 { 3 } else { 0 };
            let settled = Settlement {
                amount,
                ..reserved.clone()
            };
            scope.spawn(move || store.commit(batch([call.finished(vec![settled])])).unwrap());
        }
    });
    assert_eq!(state(store), account(600, 0));
    let left = CAP - 600;
    assert!(is_over(spent(store, window, left + 1, CAP)));
    spent(store, window, left, CAP).unwrap();
    assert!(is_over(spent(store, window, 1, CAP)));
    assert_eq!(state(store), account(CAP, 0));
}

#[test]
fn a_thousand_effects_of_one_call_spend_its_cap_and_no_more() {
    stores(|store| {
        let (call, request) = (Call::new(), request("/v1/refunds"));
        store.commit(batch([call.accepted(vec![])])).unwrap();
        let window = format!("effects call {}", call.id);
        let intend = |ordinal| {
            let intent = call.intends(ordinal, &request, vec![reserve_in(&window, "b", 1, 400)]);
            !is_over(store.commit(intent))
        };
        let taken = thread::scope(|scope| {
            let spenders: Vec<_> = (0..1000)
                .map(|ordinal| {
                    let intend = &intend;
                    scope.spawn(move || intend(ordinal))
                })
                .collect();
            spenders
                .into_iter()
                .filter_map(|spender| spender.join().unwrap().then_some(()))
                .count()
        });
        assert_eq!((taken, windows(store)), (400, vec![(window.clone(), 0, 400)]));
    });
}

#[test]
fn a_call_s_window_is_its_own_and_goes_with_it() {
    stores(|store| {
        let (mut one, other) = (Call::new(), Call::new());
        let of = |call: &Call, amount| vec![reserve_in(&format!("usd call {}", call.id), "b", amount, 10)];
        let settled = |call: &Call, amount| vec![settle_in(&format!("usd call {}", call.id), "b", amount)];
        store
            .commit(batch([one.accepted(vec![]), other.accepted(vec![])]))
            .unwrap();
        let request = request("/v1/refunds");
        let intend = |call: &Call, ordinal, amount| {
            let intent = call.intends(ordinal, &request, of(call, amount));
            store.commit(intent).map(drop)
        };
        intend(&one, 1, 6).unwrap();
        intend(&other, 1, 10).unwrap();
        assert!(is_over(intend(&one, 2, 5)));
        let outcome = one.outcome(1, settled(&one, 6));
        store.commit(batch([outcome])).unwrap();
        // What its first effect used counts for its second.
        assert!(is_over(intend(&one, 2, 5)));
        intend(&one, 2, 4).unwrap();
        // Another call's window cannot be used.
        let foreign = Call::new();
        let refused = store.commit(batch([foreign.accepted(of(&one, 1))]));
        assert!(matches!(refused, Err(StoreError::Batch { .. })));
        // One ends with nothing reserved, the other has an effect in doubt: that stays.
        let outcome = one.outcome(2, settled(&one, 4));
        store.commit(batch([outcome, one.finished(vec![])])).unwrap();
        let mut other = other;
        let outcome = other.outcome(1, vec![]);
        store.commit(batch([outcome, other.finished(vec![])])).unwrap();
        let next = Call::new();
        store.commit(batch([next.accepted(of(&next, 1))])).unwrap();
        let mut expected = [
            (format!("usd call {}", other.id), 0, 10),
            (format!("usd call {}", next.id), 0, 1),
        ];
        expected.sort();
        assert_eq!(windows(store), expected);
    });
}

#[test]
fn a_calendar_window_is_full_until_it_turns() {
    for (window, before, name, next) in [
        (
            "usd hour",
            NOON + HOUR - 1,
            "usd hour 2026-11-21T12",
            "usd hour 2026-11-21T13",
        ),
        (
            "usd day",
            NOON + DAY / 2 - 1,
            "usd day 2026-11-21",
            "usd day 2026-11-22",
        ),
        (
            "usd month",
            NOON + 9 * DAY + DAY / 2 - 1,
            "usd month 2026-11",
            "usd month 2026-12",
        ),
    ] {
        stores_at(|time, store| {
            time.set(before);
            spent(store, window, 60, 100).unwrap();
            let (call, reserved) = spend(store, window, 40, 100).unwrap();
            assert_eq!(reserved.window, name);
            assert!(is_over(spend(store, window, 1, 100)));
            time.set(before + 1);
            spent(store, window, 100, 100).unwrap();
            assert!(is_over(spend(store, window, 1, 100)));
            // What was reserved before the turn is settled where it was reserved.
            assert_eq!(windows(store), [(name.into(), 60, 40), (next.into(), 100, 0)]);
            store.commit(batch([call.finished(vec![reserved])])).unwrap();
            assert_eq!(windows(store), [(name.into(), 100, 0), (next.into(), 100, 0)]);
            // Both are over after a month; whatever is reserved next drops them.
            time.set(before + 40 * DAY);
            let (_, last) = spend(store, window, 1, 100).unwrap();
            assert_eq!(windows(store), [(last.window, 0, 1)]);
        });
    }
}

#[test]
fn what_is_in_doubt_keeps_its_window_until_it_is_settled() {
    stores_at(|time, store| {
        let (call, reserved) = spend(store, "usd day", 40, 100).unwrap();
        for days in 1..4 {
            time.set(NOON + days * DAY);
            spent(store, "usd day", 100, 100).unwrap();
        }
        let doubt = ("usd day 2026-11-21".to_owned(), 0, 40);
        assert_eq!(windows(store), [doubt, ("usd day 2026-11-24".into(), 100, 0)]);
        store.commit(batch([call.finished(vec![reserved])])).unwrap();
        time.set(NOON + 4 * DAY);
        spent(store, "usd day", 1, 100).unwrap();
        assert_eq!(windows(store), [("usd day 2026-11-25".into(), 1, 0)]);
    });
}

#[test]
fn a_clock_that_goes_back_opens_no_window_again() {
    for window in ["usd hour", "usd day", "usd month", "usd rolling 1h"] {
        stores_at(|time, store| {
            spent(store, window, 100, 100).unwrap();
            for back in [1, HOUR, DAY, 40 * DAY, NOON] {
                time.set(NOON - back);
                assert!(is_over(spend(store, window, 1, 100)), "{window} {back}");
            }
            time.set(NOON + 40 * DAY);
            spent(store, window, 100, 100).unwrap();
            time.set(NOON);
            assert!(is_over(spend(store, window, 1, 100)), "{window}");
        });
    }
}

#[test]
fn a_window_of_another_time_is_refused() {
    stores(|store| {
        for window in [
            "usd day 2026-11-20",
            "usd day 2026-11-22",
            "usd hour 2026-11-21T11",
            "usd month 2026-12",
        ] {
            let refused = spend(store, window, 1, 100).map(drop).unwrap_err();
            assert!(matches!(refused, StoreError::Batch { .. }), "{window}: {refused}");
        }
        for window in [
            "",
            "day",
            "2026-11-21",
            "usd week",
            "usd rolling 1d",
            "usd call",
            "usd run r_1",
        ] {
            let refused = spend(store, window, 1, 100).map(drop).unwrap_err();
            assert!(matches!(refused, StoreError::Batch { .. }), "{window}: {refused}");
        }
        let nothing = spend(store, "usd day", 0, 100).map(drop).unwrap_err();
        assert!(matches!(nothing, StoreError::Batch { .. }), "{nothing}");
        assert_eq!(windows(store), []);
    });
}

#[test]
fn a_rolling_window_counts_from_the_settlement_and_frees_a_slice_at_a_time() {
    const WINDOW: &str = "usd rolling 1h";
    let span: Span = "1h".parse().unwrap();
    stores_at(|time, store| {
        let (call, reserved) = spend(store, WINDOW, 100, 100).unwrap();
        // However long it takes, what is reserved counts.
        time.set(NOON + 3 * HOUR);
        assert!(is_over(spend(store, WINDOW, 1, 100)));
        let settled = Settlement { amount: 70, ..reserved };
        store.commit(batch([call.finished(vec![settled])])).unwrap();
        time.set(NOON + 3 * HOUR + 20 * MINUTE);
        spent(store, WINDOW, 30, 100).unwrap();
        let frees = [(0, 70), (20 * MINUTE, 30)];
        for (after, amount) in frees {
            let at = span.frees(span.slice(NOON + 3 * HOUR + after));
            assert!(
                at > NOON + 3 * HOUR + after + HOUR,
                "not a moment before the window has left it"
            );
            time.set(at - 1);
            assert!(is_over(spend(store, WINDOW, 1, 100)));
            time.set(at);
            assert!(is_over(spend(store, WINDOW, amount + 1, 100)));
            // What is asked for fits, to the unit; it uses nothing.
            let (call, reserved) = spend(store, WINDOW, amount, 100).unwrap();
            let nothing = Settlement { amount: 0, ..reserved };
            store.commit(batch([call.finished(vec![nothing])])).unwrap();
            spent(store, WINDOW, amount, 100).unwrap();
        }
        let reader = store.reader().unwrap();
        let slices: Vec<u64> = reader.slices().unwrap().into_iter().map(|slice| slice.used).collect();
        assert_eq!(slices, [70, 30], "slices that are free are dropped");
    });
}

#[test]
fn five_budgets_that_overlap_are_reserved_together_or_not_at_all() {
    let five = [
        ("agent", "usd day", 100),
        ("connection", "effects hour", 100),
        ("everything", "bytes rolling 24h", 100),
        ("route", "usd month", 100),
        ("tool", "usd rolling 7d", 100),
    ];
    let reserved = |full: &str| -> Vec<Reservation> {
        let one = |(budget, window, cap): &(&str, &str, u64)| {
            reserve_in(window, budget, 60, if *budget == full { 59 } else { *cap })
        };
        five.iter().map(one).collect()
    };
    stores(|store| {
        let (mut call, request) = (Call::new(), request("/v1/refunds"));
        store.commit(batch([call.accepted(vec![])])).unwrap();
        for (full, _, _) in five {
            let refused = store.commit(call.intends(0, &request, reserved(full)));
            assert!(matches!(refused, Err(StoreError::Budget { name, .. }) if name == full));
            assert_eq!(windows(store), [], "{full}: the refused intent reserved something");
        }
        let committed = store.commit(call.intends(0, &request, reserved(""))).unwrap();
        let shown = |store: &Store| {
            let accounts = windows(store).into_iter();
            accounts.map(|(_, used, reserved)| (used, reserved)).collect::<Vec<_>>()
        };
        assert_eq!(shown(store), [(0, 60); 5]);
        // Each is settled for itself; what nobody knows of stays.
        let settled = reserved("").into_iter().zip([60, 0, 17, 60]).map(|(mut one, amount)| {
            place_one(&mut one, committed.time_ms);
            settle_in(&one.window, &one.budget, amount)
        });
        let outcome = call.outcome(0, settled.collect());
        store.commit(batch([outcome, call.finished(vec![])])).unwrap();
        assert_eq!(shown(store), [(60, 0), (0, 0), (17, 0), (60, 0), (0, 60)]);
    });
}

/// What budgets should do, by the whole history and nothing cleverer.
struct Model {
    cap: u64,
    window: &'static str,
    kind: Kind,
    /// Reserved and not settled: the calendar's name for when it was reserved, and the amount.
    open: BTreeMap<usize, (Option<String>, u64)>,
    /// Used: when it was settled, the same name, and the amount.
    used: Vec<(i64, Option<String>, u64)>,
}

/// Whether a reservation has to be taken.
#[derive(Debug, PartialEq)]
enum Must {
    Take,
    Refuse,
    /// Within a slice of being free: either is right.
    May,
}

impl Model {
    fn new(window: &'static str, cap: u64) -> Self {
        let period: Period = window.parse().unwrap();
        Self {
            cap,
            window,
            kind: period.window(),
            open: BTreeMap::new(),
            used: Vec::new(),
        }
    }

    /// What counts at `now` where use of `since` or later does.
    fn total(&self, name: Option<&String>, since: i64) -> u64 {
        let open = self.open.values().filter(|(of, _)| of.as_ref() == name);
        let used = self.used.iter();
        let used = used.filter(|(at, of, _)| of.as_ref() == name && *at >= since);
        open.map(|(_, amount)| amount).sum::<u64>() + used.map(|(_, _, amount)| amount).sum::<u64>()
    }

    fn must(&self, now: i64, amount: u64) -> Must {
        let name = self.kind.name(now);
        let (longest, shortest) = match self.kind {
            Kind::Rolling(span) => (now - span.ms() - span.slice_ms(), now - span.ms()),
            _ => (i64::MIN, i64::MIN),
        };
        if self.total(name.as_ref(), shortest) + amount > self.cap {
            Must::Refuse
        } else if self.total(name.as_ref(), longest) + amount <= self.cap {
            Must::Take
        } else {
            Must::May
        }
    }

    /// In no window of its kind, wherever it begins, is more used than the cap.
    fn check(&self) {
        let from = |begins: i64, name: Option<&String>| -> u64 {
            let ends = match self.kind {
                Kind::Rolling(span) => begins + span.ms(),
                _ => i64::MAX,
            };
            let used = self.used.iter();
            used.filter(|(at, of, _)| of.as_ref() == name && (begins..=ends).contains(at))
                .map(|(_, _, amount)| amount)
                .sum()
        };
        for (at, name, _) in &self.used {
            let begins = if matches!(self.kind, Kind::Rolling(_)) { *at } else { 0 };
            assert!(from(begins, name.as_ref()) <= self.cap, "{} from {at}", self.window);
        }
    }
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Happens {
    /// A call that reserves so much in every budget.
    Reserve(u64),
    /// One of the open calls ends, having used this part of what it reserved; or nobody knows.
    Settle(usize, Option<u8>),
    /// The clock moves by so many milliseconds.
    Wait(i64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let time = prop_oneof![
        4 => 0_i64..2 * MINUTE,
        4 => 0_i64..2 * HOUR,
        2 => 0_i64..2 * DAY,
        1 => -DAY..0_i64,
        // Just about when something is free.
        2 => (HOUR - MINUTE)..(HOUR + MINUTE),
    ];
    prop_oneof![
        4 => (1_u64..60).prop_map(Happens::Reserve),
        4 => (any::<usize>(), prop::option::weighted(0.95, 0_u8..=4)).prop_map(|(which, used)| Happens::Settle(which, used)),
        3 => time.prop_map(Happens::Wait),
    ]
}

fn as_the_model(store: &Store, time: &Time, steps: &[Happens]) {
    let windows = ["usd hour", "usd day", "usd month", "usd rolling 1h", "usd rolling 2d"];
    let mut models: Vec<Model> = windows
        .into_iter()
        .zip([100, 150, 400, 100, 200])
        .map(|(window, cap)| Model::new(window, cap))
        .collect();
    let mut open: Vec<(usize, Call, Vec<Settlement>)> = Vec::new();
    // The ledger's time: that of its last entry. It does not go back, and what is refused does not move it.
    let mut now = time.get();
    for (step, happens) in steps.iter().enumerate() {
        match happens {
            Happens::Wait(ms) => time.set((time.get() + ms).max(0)),
            Happens::Reserve(amount) => {
                let at = now.max(time.get());
                let call = Call::new();
                let asked = models
                    .iter()
                    .map(|model| reserve_in(model.window, model.window, *amount, model.cap));
                let mut asked: Vec<Reservation> = asked.collect();
                let result = store.commit(batch([call.accepted(asked.clone())]));
                let must: Vec<Must> = models.iter().map(|model| model.must(at, *amount)).collect();
                match result {
                    Ok(committed) => {
                        now = at;
                        assert_eq!(committed.time_ms, now);
                        assert!(
                            !must.contains(&Must::Refuse),
                            "step {step}: taken beyond a cap: {must:?}"
                        );
                        asked.iter_mut().for_each(|one| place_one(one, now));
                        for model in &mut models {
                            model.open.insert(step, (model.kind.name(now), *amount));
                        }
                        let settle = |one: &Reservation| settle_in(&one.window, &one.budget, one.amount);
                        open.push((step, call, asked.iter().map(settle).collect()));
                    }
                    Err(StoreError::Budget { name, .. }) => {
                        let refused = models.iter().position(|model| model.window == name).unwrap();
                        assert_ne!(must[refused], Must::Take, "step {step}: {name} had room");
                    }
                    Err(error) => panic!("step {step}: {error}"),
                }
            }
            Happens::Settle(..) if open.is_empty() => {}
            Happens::Settle(which, used) => {
                now = now.max(time.get());
                let (begun, call, mut settled) = open.swap_remove(which % open.len());
                let Some(quarters) = used else {
                    store.commit(batch([call.finished(vec![])])).unwrap();
                    continue;
                };
                settled
                    .iter_mut()
                    .for_each(|one| one.amount = one.amount * u64::from(*quarters) / 4);
                store.commit(batch([call.finished(settled.clone())])).unwrap();
                for (model, settled) in models.iter_mut().zip(&settled) {
                    let (name, _) = model.open.remove(&begun).unwrap();
                    model.used.push((now, name, settled.amount));
                }
            }
        }
    }
    compare(store, &models, now);
    nothing_piles_up(store, time, &models);
}

/// The books say what the model does, and keep no more than can still matter.
fn compare(store: &Store, models: &[Model], now: i64) {
    let reader = store.reader().unwrap();
    let states = reader.budgets().unwrap();
    for model in models {
        model.check();
        let mine = || states.iter().filter(|state| state.window.budget == model.window);
        let reserved: u64 = mine().map(|state| state.account.reserved).sum();
        let open: u64 = model.open.values().map(|(_, amount)| amount).sum();
        assert_eq!(reserved, open, "{}", model.window);
        if let Kind::Rolling(span) = model.kind {
            let slices = reader.slices().unwrap();
            let mine = slices.iter().filter(|slice| slice.window.budget == model.window);
            let held: u64 = mine
                .filter(|slice| now < span.frees(slice.starts))
                .map(|slice| slice.used)
                .sum();
            let used = model.used.iter().filter(|(at, _, _)| now < span.frees(span.slice(*at)));
            assert_eq!(held, used.map(|(_, _, amount)| amount).sum::<u64>(), "{}", model.window);
        } else {
            let name = model.kind.name(now);
            let text = format!("{} {}", model.window, name.as_deref().unwrap_or_default());
            let used = mine()
                .find(|state| state.window.window == text)
                .map(|state| state.account.used);
            let of = model.used.iter().filter(|(_, of, _)| *of == name);
            assert_eq!(
                used.unwrap_or_default(),
                of.map(|(_, _, amount)| amount).sum::<u64>(),
                "{text}"
            );
        }
    }
}

/// After a month and a half, one more use of each budget leaves only what is still reserved, and itself.
fn nothing_piles_up(store: &Store, time: &Time, models: &[Model]) {
    time.set(time.get().max(NOON) + 60 * DAY);
    for model in models {
        let call = Call::new();
        let taken = store.commit(batch([call.accepted(vec![reserve_in(
            model.window,
            model.window,
            1,
            model.cap,
        )])]));
        // A rolling window has what is in doubt for as long as that is: it may be full.
        if is_over(taken) {
            assert_eq!(model.must(time.get(), 1), Must::Refuse, "{}", model.window);
            continue;
        }
        let reader = store.reader().unwrap();
        let mut names: BTreeSet<_> = model.open.values().map(|(name, _)| name.clone()).collect();
        names.insert(model.kind.name(time.get()));
        let states = reader.budgets().unwrap();
        let mine = states.iter().filter(|state| state.window.budget == model.window);
        assert_eq!(mine.count(), names.len(), "{}", model.window);
        let slices = reader.slices().unwrap();
        assert!(
            slices.iter().all(|slice| slice.window.budget != model.window),
            "{slices:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn budgets_do_what_the_whole_history_says(steps in prop::collection::vec(happens(), 1..160)) {
        let time = Time::at(NOON);
        let store = Store::memory(Keys::generate().unwrap(), time.options()).unwrap();
        as_the_model(&store, &time, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn budgets_on_a_disk_do_too_and_their_books_verify(steps in prop::collection::vec(happens(), 80..160)) {
        let (home, time) = (Home::new(), Time::at(NOON));
        let store = home.try_open(time.options(), Faults::none()).unwrap();
        as_the_model(&store, &time, &steps);
        home.verify();
    }
}

#[test]
fn one_budget_of_several_is_enough_to_refuse() {
    stores(|store| {
        let call = Call::new();
        let refused = store.commit(batch([call.accepted(vec![reserve("a", 5, 10), reserve("b", 5, 4)])]));
        assert!(matches!(refused, Err(StoreError::Budget { name, .. }) if name == "b"));
        assert_eq!(state(store), [], "the refused batch reserved something");
        store
            .commit(batch([call.accepted(vec![reserve("a", 5, 10), reserve("b", 5, 5)])]))
            .unwrap();
    });
}

#[test]
fn more_than_reserved_is_never_settled() {
    stores(|store| {
        let call = Call::new();
        store.commit(batch([call.accepted(vec![reserve("a", 5, 10)])])).unwrap();
        for settled in [
            vec![settle("a", 6)],
            vec![settle("b", 1)],
            vec![settle("a", 2), settle("a", 2)],
        ] {
            let refused = store.commit(batch([call.finished(settled)])).unwrap_err();
            assert!(matches!(refused, StoreError::Batch { .. }), "{refused}");
        }
        let twice = Call::new();
        let refused = store.commit(batch([twice.accepted(vec![reserve("a", 1, 10), reserve("a", 1, 10)])]));
        assert!(matches!(refused, Err(StoreError::Batch { .. })));
        assert_eq!(state(store), [(10, Account { used: 0, reserved: 5 })]);
    });
}

#[test]
fn amounts_do_not_wrap() {
    const MOST: u64 = i64::MAX as u64;
    stores(|store| {
        let accept = |amount, cap| store.commit(batch([Call::new().accepted(vec![reserve("a", amount, cap)])]));
        for (amount, cap) in [(u64::MAX, u64::MAX), (MOST + 1, u64::MAX), (1, MOST + 1)] {
            assert!(
                matches!(accept(amount, cap), Err(StoreError::Batch { .. })),
                "{amount} of {cap}"
            );
        }
        accept(MOST, MOST).unwrap();
        assert!(matches!(accept(MOST, MOST), Err(StoreError::Budget { .. })));
        assert_eq!(
            state(store),
            [(
                MOST,
                Account {
                    used: 0,
                    reserved: MOST
                }
            )]
        );
    });
}

#[test]
fn what_is_in_doubt_stays_reserved_over_a_restart() {
    let home = Home::new();
    let (mut call, request) = (Call::new(), request("/v1/refunds"));
    home.open()
        .commit(call.begins(&request, vec![reserve("refunds", 40, 100)]))
        .unwrap();
    let store = home.open();
    assert_eq!(state(&store), [(100, Account { used: 0, reserved: 40 })]);
    assert_eq!(store.reader().unwrap().unfinished().unwrap().len(), 2);
    let more = store.commit(batch([Call::new().accepted(vec![reserve("refunds", 61, 100)])]));
    assert!(matches!(more, Err(StoreError::Budget { reserved: 40, .. })));
    // An outcome that settles nothing leaves it reserved for good; this is what in doubt means.
    store
        .commit(batch([call.outcome(0, vec![]), call.finished(vec![])]))
        .unwrap();
    assert_eq!(state(&store), [(100, Account { used: 0, reserved: 40 })]);
    home.verify();
}
