//! Caps are exact.

use std::thread;

use ambit_core::money::Account;

use super::super::{BudgetState, Store, StoreError, StoreOptions};
use super::fixture::{Call, Home, batch, request, reserve, settle};

fn state(store: &Store) -> Vec<(u64, Account)> {
    let budgets = store.reader().unwrap().budgets().unwrap();
    budgets
        .into_iter()
        .map(|BudgetState { cap, account, .. }| (cap, account))
        .collect()
}

fn stores(test: impl Fn(&Store)) {
    let home = Home::new();
    test(&home.open());
    home.verify();
    test(&Store::memory(home.keys(), StoreOptions::default()).unwrap());
}

#[test]
fn a_thousand_spenders_spend_the_cap_and_no_more() {
    const CAP: u64 = 7 * 400 + 6;
    stores(|store| {
        let spend = || {
            let call = Call::new();
            match store.commit(batch([call.accepted(vec![reserve("refunds", 7, CAP)])])) {
                Ok(_) => Some(call),
                Err(StoreError::Budget {
                    name,
                    cap: CAP,
                    asked: 7,
                    used: 0,
                    reserved: 2800,
                }) => {
                    assert_eq!(name, "refunds");
                    None
                }
                Err(error) => panic!("{error}"),
            }
        };
        let calls: Vec<Call> = thread::scope(|scope| {
            let spenders: Vec<_> = (0..1000).map(|_| scope.spawn(spend)).collect();
            spenders
                .into_iter()
                .filter_map(|spender| spender.join().unwrap())
                .collect()
        });
        assert_eq!(calls.len(), 400);
        assert_eq!(
            state(store),
            [(
                CAP,
                Account {
                    used: 0,
                    reserved: 2800
                }
            )]
        );

        // Half of them spend 3 of their 7, the others nothing: what they didn't is free again, to the last unit.
        thread::scope(|scope| {
            for (number, call) in calls.iter().enumerate() {
                let spent = if number % 2 == 0 { 3 } else { 0 };
                scope.spawn(move || {
                    store
                        .commit(batch([call.finished(vec![settle("refunds", spent)])]))
                        .unwrap()
                });
            }
        });
        assert_eq!(state(store), [(CAP, Account { used: 600, reserved: 0 })]);
        let left = CAP - 600;
        let all = |amount| {
            let call = Call::new();
            let whole = [
                call.accepted(vec![reserve("refunds", amount, CAP)]),
                call.finished(vec![settle("refunds", amount)]),
            ];
            store.commit(batch(whole)).map(drop)
        };
        assert!(matches!(all(left + 1), Err(StoreError::Budget { .. })));
        all(left).unwrap();
        assert!(matches!(all(1), Err(StoreError::Budget { .. })));
        assert_eq!(state(store), [(CAP, Account { used: CAP, reserved: 0 })]);
    });
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
