//! Writes amounts that a person, a host and a service read differently.
ambit_sdk::generate!({ world: "ambit-tests:hostile-amounts/tool" });
ambit_sdk::connection!(Stripe => stripe);

use ambit_sdk::http::{Body, Connection, Method, Request};
use guests_shared::told;

guests_shared::cases! {
    "honest" => json("100"),
    "honest-form" => form(&[("amount", "100")]),
    // More than the operator's cap of 5000, in ways that look like less.
    "exponent" => json("1e6"),
    "negative-exponent" => json("10000000e-1"),
    "fraction-of-nothing" => json("1000000.0"),
    "fraction" => json("100.5"),
    "capital-exponent" => json("1E6"),
    "two-to-the-63" => json("9223372036854775808"),
    "two-to-the-64" => json("18446744073709551616"),
    "two-to-the-64-and-100" => json("18446744073709551716"),
    "beyond-exact-doubles" => json("9007199254740993"),
    "a-thousand-digits" => json(&"9".repeat(1000)),
    "negative" => json("-100"),
    "nothing" => json("0"),
    "less-than-nothing" => json("-0"),
    "text" => json("\"100\""),
    "true" => json("true"),
    "null" => json("null"),
    "a-list" => json("[100]"),
    "an-object" => json(r#"{"value": 100}"#),
    "leading-zero" => json("0100"),
    "plus" => json("+100"),
    "hexadecimal" => json("0x64"),
    "not-a-number" => json("NaN"),
    "infinity" => json("Infinity"),
    "underscores" => json("1_000_000"),
    "full-width" => json("５"),
    "two-members" => raw(r#"{"amount": 100, "amount": 1000000}"#),
    "two-spellings" => raw(r#"{"amount": 100, "Amount": 1000000}"#),
    "escaped-member" => raw(r#"{"amount": 100, "amoun\u0074": 1000000}"#),
    "no-amount" => raw(r#"{"destination": "acct_1"}"#),
    // As a form, to a route that reads forms; and each where the other is read.
    "form-to-json" => told(Stripe.post_form("/v1/transfers", [("amount", "100")])),
    "json-to-form" => told(Stripe.send(&Request {
        body: Body::Json(r#"{"amount": 100}"#.into()),
        ..Request::new(Method::Post, "/v1/payouts")
    })),
    "form-nothing" => form(&[("amount", "0")]),
    "form-exponent" => form(&[("amount", "1e6")]),
    "form-leading-zero" => form(&[("amount", "0100")]),
    "form-plus" => form(&[("amount", "+5")]),
    "form-full-width" => form(&[("amount", "５")]),
    "form-arabic-digits" => form(&[("amount", "١٠٠")]),
    "form-two-to-the-63" => form(&[("amount", "9223372036854775808")]),
    "form-comma" => form(&[("amount", "1,000")]),
    "form-no-break-space" => form(&[("amount", "100\u{a0}")]),
    "form-zero-width-space" => form(&[("amount", "100\u{200b}")]),
    "form-nul" => form(&[("amount", "100\0")]),
    "form-list" => form(&[("amount[]", "100")]),
    "form-two" => form(&[("amount", "100"), ("amount", "1000000")]),
    "form-value-and-list" => form(&[("amount", "100"), ("amount[]", "1000000")]),
    "form-indexed" => form(&[("amount[0]", "100")]),
    // In the query, beside the body or in its place.
    "in-the-query" => told(Stripe.send(&Request::new(Method::Post, "/v1/transfers").query("amount", "1000000"))),
    "in-both" => told(Stripe.send(
        &Request::new(Method::Post, "/v1/transfers").query("amount", "1000000").form([("amount", "100")]),
    )),
}

fn json(amount: &str) -> Result<String, String> {
    raw(&format!("{{\"amount\": {amount}, \"destination\": \"acct_1\"}}"))
}

fn raw(text: &str) -> Result<String, String> {
    let body = Body::Json(text.into());
    told(Stripe.send(&Request {
        body,
        ..Request::new(Method::Post, "/v1/transfers")
    }))
}

fn form(pairs: &[(&str, &str)]) -> Result<String, String> {
    told(Stripe.post_form("/v1/payouts", pairs.iter().copied()))
}
