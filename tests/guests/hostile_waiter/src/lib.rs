//! Holds its place by asking a service that does not answer, over and over.
ambit_sdk::generate!({ world: "ambit-tests:hostile-waiter/tool" });
ambit_sdk::connection!(Stripe => stripe);

use ambit_sdk::http::Connection;
use guests_shared::told;

guests_shared::cases! {
    "slow" => told(Stripe.get("/v1/charges/ch_slow")),
    "slow-again-and-again" => {
        while Stripe.get("/v1/charges/ch_slow").is_err() {}
        Ok("answered".into())
    },
    "trickle" => told(Stripe.get("/v1/charges/ch_trickle")),
}
