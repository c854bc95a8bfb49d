//! Has the currency looked up on another object than the one it refunds, or on none.
ambit_sdk::generate!({ world: "ambit-tests:hostile-exchange/tool" });
ambit_sdk::connection!(Stripe => stripe);

use ambit_sdk::http::{Connection, Method, Request};
use ambit_sdk::json::json;
use guests_shared::told;

guests_shared::cases! {
    "dollars" => refund("ch_1"),
    "euros" => refund("ch_paris"),
    // The look-up goes elsewhere than the refund.
    "another-object-behind-dots" => refund("ch_paris/../ch_1"),
    "another-object-behind-encoded-dots" => refund("ch_paris%2F..%2Fch_1"),
    "another-route" => refund("../refunds/re_1"),
    "a-query" => refund("ch_paris?id=ch_1"),
    "a-fragment" => refund("ch_1#ch_paris"),
    "a-parameter" => refund("ch_1;ch_paris"),
    "a-dot" => refund("."),
    "two-dots" => refund(".."),
    "nothing" => refund(""),
    "a-nul" => refund("ch_1\0ch_paris"),
    "a-line-end" => refund("ch_1\r\nX-Other: ch_paris"),
    "a-space" => refund("ch_1 "),
    "a-long-name" => refund(&"c".repeat(10_000)),
    // Two objects, of which the host and the service may take different ones.
    "two-charges" => form(&[("charge", "ch_1"), ("charge", "ch_paris"), ("amount", "100")]),
    "a-list-of-charges" => form(&[("charge[]", "ch_1"), ("charge[]", "ch_paris"), ("amount", "100")]),
    "a-charge-in-a-charge" => form(&[("charge[id]", "ch_1"), ("amount", "100")]),
    "a-number" => told(Stripe.post_json("/v1/refunds", &json!({ "charge": 1, "amount": 100 }))),
    "in-the-query" => told(Stripe.send(
        &Request::new(Method::Post, "/v1/refunds").query("charge", "ch_1").form([("amount", "100")]),
    )),
    // A service whose answer says nothing of a currency, or too much.
    "no-currency" => refund("ch_no_currency"),
    "an-odd-currency" => refund("ch_odd_currency"),
    "members-twice" => refund("ch_duplicate"),
    "no-json" => refund("ch_html"),
    "a-redirect" => refund("ch_redirect"),
    "a-redirect-inside" => refund("ch_redirect_inside"),
    "an-error" => refund("ch_failing"),
    "too-many-requests" => refund("ch_limited"),
    "no-answer" => refund("ch_dropped"),
    "no-such-charge" => refund("ch_none"),
}

fn refund(charge: &str) -> Result<String, String> {
    form(&[("charge", charge), ("amount", "100")])
}

fn form(pairs: &[(&str, &str)]) -> Result<String, String> {
    told(Stripe.post_form("/v1/refunds", pairs.iter().copied()))
}
