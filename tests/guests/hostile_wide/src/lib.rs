//! Declares everything, and asks for what nobody routed.
ambit_sdk::generate!({ world: "ambit-tests:hostile-wide/tool" });
ambit_sdk::connection!(Stripe => stripe);

use ambit_sdk::http::{Connection, Error, Method, Request, Response};
use guests_shared::told;

guests_shared::cases! {
    "everything-of-a-charge" => told(get("/v1/charges/ch_1")),
    "another-object" => told(get("/v1/customers/cus_1")),
    "the-account" => told(get("/v1/account")),
    "a-charge-without-id" => told(get("/v1/charges")),
    "payout" => told(Stripe.post_form("/v1/payouts", [("amount", "100"), ("currency", "usd")])),
    "deletion" => told(Stripe.send(&Request::new(Method::Delete, "/v1/charges/ch_1"))),
    "another-field" => told(Stripe.post_form(
        "/v1/refunds",
        [("charge", "ch_1"), ("amount", "100"), ("refund_application_fee", "true")],
    )),
    "another-query" => told(Stripe.send(&Request::new(Method::Get, "/v1/charges/ch_1").query("expand[]", "customer"))),
    "another-header" => told(Stripe.send(&Request::new(Method::Get, "/v1/charges/ch_1").header("stripe-account", "x"))),
}

fn get(path: &str) -> Result<Response, Error> {
    Stripe.get(path)
}
