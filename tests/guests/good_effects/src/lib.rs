//! Sends as many requests as it is told to, all alike: what effects cost is seen in the difference.

ambit_sdk::generate!({ world: "ambit-tests:good-effects/tool" });
ambit_sdk::connection!(Stripe => stripe);

use ambit_sdk::http::{Connection, Method, Request, segment};

struct Tool;

export!(Tool);

impl Guest for Tool {
    fn refund(charge: String, amount: u64, count: u32) -> Result<u32, String> {
        let amount = amount.to_string();
        let form = [
            ("charge", charge.as_str()),
            ("amount", &amount),
            ("reason", "duplicate"),
        ];
        send(&Request::new(Method::Post, "/v1/refunds").form(form), count)
    }

    fn look(charge: String, count: u32) -> Result<u32, String> {
        let path = format!("/v1/charges/{}", segment(&charge));
        send(&Request::new(Method::Get, path), count)
    }
}

/// How many of `count` requests are answered with success.
fn send(request: &Request, count: u32) -> Result<u32, String> {
    let mut succeeded = 0;
    for _ in 0..count {
        let answer = Stripe.send(request).map_err(|error| error.to_string())?;
        succeeded += u32::from(answer.is_success());
    }
    Ok(succeeded)
}
