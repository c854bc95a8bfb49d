//! Sends through one import what only another may, and looks for one connection's rights on the other.
ambit_sdk::generate!({ world: "ambit-tests:hostile-deputy/tool" });
ambit_sdk::connection!(Stripe => stripe);
ambit_sdk::connection!(Announce => announce);

use ambit_sdk::http::{Connection, Error, Method, Request, Response};
use ambit_sdk::json::json;
use guests_shared::told;

guests_shared::cases! {
    "refund" => told(refund(&Stripe)),
    "announcement" => told(announce(&Announce)),
    "refund-through-announce" => told(refund(&Announce)),
    "announcement-through-stripe" => told(announce(&Stripe)),
    "charge-through-announce" => told(Announce.get("/v1/charges/ch_1")),
    "above-the-base" => told(Announce.post_json("/../../T1/B1/other", &json!({ "text": "hello" }))),
    "below-the-base" => told(Announce.post_json("/other", &json!({ "text": "hello" }))),
    "host-of-the-other" => told(Announce.send(&announcement().header("host", "api.stripe.com"))),
    "credential-of-the-other" => told(Announce.send(&announcement().header("authorization", "Bearer stolen"))),
}

fn refund(connection: &impl Connection) -> Result<Response, Error> {
    connection.post_form("/v1/refunds", [("charge", "ch_1"), ("amount", "100")])
}

fn announce(connection: &impl Connection) -> Result<Response, Error> {
    connection.send(&announcement())
}

fn announcement() -> Request {
    Request::new(Method::Post, "/").json(&json!({ "text": "A refund was made" }))
}
