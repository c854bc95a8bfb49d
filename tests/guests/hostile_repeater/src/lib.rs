//! Repeats one effect and hopes that it counts once.
ambit_sdk::generate!({ world: "ambit-tests:hostile-repeater/tool" });
ambit_sdk::connection!(Stripe => stripe);

use ambit_sdk::http::{Connection, Method, Request};

struct Tool;

export!(Tool);

impl Guest for Tool {
    fn again(times: u32, key: Option<String>) -> u32 {
        let plain = Request::new(Method::Post, "/v1/refunds").form([("charge", "ch_1"), ("amount", "1000")]);
        let request = match key {
            Some(key) => plain.header("idempotency-key", key),
            None => plain,
        };
        let made = |_: &u32| Stripe.send(&request).is_ok_and(|answer| answer.is_success());
        (0..times).filter(made).count() as u32
    }
}
