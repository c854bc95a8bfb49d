//! The guests of a call, and the fuel that its end settles for them.

use super::*;

/// A call for which this much fuel is set aside.
fn accepted_with(fuel: u64) -> Body {
    let Body::CallAccepted(mut body) = accepted() else {
        unreachable!()
    };
    body.reserved.push(Reservation {
        amount: fuel,
        budget: "fuel".into(),
        cap: 10_000_000,
        over: None,
        warn: None,
        window: "fuel day 2026-11-21".into(),
    });
    body.into()
}

/// Its end: what its last guest used, and what is settled for all of them.
fn settles(last: u64, settled: u64) -> Body {
    let Body::CallFinished(mut body) = finished(&[]) else {
        unreachable!()
    };
    body.fuel = last;
    body.settled.push(Settlement {
        amount: settled,
        budget: "fuel".into(),
        window: "fuel day 2026-11-21".into(),
    });
    body.into()
}

fn verify(bodies: Vec<Body>) -> Result<(), String> {
    let mut log = Log::new();
    bodies.into_iter().for_each(|body| log.push(of_call('a', body)));
    log.verify().map(|_| ()).map_err(|bad| bad.to_string())
}

fn refuses(bodies: Vec<Body>, why: &str) {
    let told = verify(bodies).unwrap_err();
    assert!(told.contains(why), "{told}");
}

#[test]
fn a_call_s_end_settles_the_fuel_of_all_its_guests() {
    let of = |guests: Vec<Body>, end: Body| {
        let all = [vec![accepted_with(1_000)], guests, vec![end]];
        all.concat()
    };
    let waited = || vec![guest_ended(1, 300), resumed(2)];
    let less = "settles less fuel than the call's guests used";
    verify(of(vec![], settles(400, 400))).unwrap();
    refuses(of(vec![], settles(400, 399)), less);
    verify(of(waited(), settles(400, 700))).unwrap();
    refuses(of(waited(), settles(400, 400)), less);
    // No more than was set aside.
    verify(of(waited(), settles(900, 1_000))).unwrap();
    refuses(of(waited(), settles(900, 999)), less);
    // Of one that has no end nobody knows.
    verify(of(vec![resumed(2)], settles(400, 1_000))).unwrap();
    refuses(of(vec![resumed(2)], settles(400, 400)), less);
    let crashed_later = || vec![guest_ended(1, 300), resumed(2), resumed(3), guest_ended(3, 1)];
    verify(of(crashed_later(), settles(0, 1_000))).unwrap();
    refuses(of(crashed_later(), settles(0, 301)), less);
    // It ended while it waited: no guest was there.
    verify(of(vec![guest_ended(1, 300)], settles(0, 300))).unwrap();
}

#[test]
fn guests_of_a_call_come_one_after_another() {
    let after = |mut guests: Vec<Body>| {
        guests.insert(0, accepted_with(1_000));
        guests
    };
    verify(after(vec![
        guest_ended(1, 1),
        resumed(2),
        guest_ended(2, 1),
        resumed(3),
    ]))
    .unwrap();
    refuses(after(vec![resumed(3)]), "not the call's next guest");
    refuses(after(vec![guest_ended(1, 1), resumed(1)]), "not the call's next guest");
    refuses(after(vec![guest_ended(2, 1)]), "not the call's guest that runs");
    refuses(
        after(vec![guest_ended(1, 1), guest_ended(1, 1)]),
        "not the call's guest that runs",
    );
    refuses(after(vec![intent(0), resumed(2)]), "an effect of the call is under way");
    let no_guest = vec![retry_accepted(), guest_ended(0, 1)];
    refuses(no_guest, "not the call's guest that runs");
}
