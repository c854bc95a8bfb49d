//! Asks for effects without end, counting on none of them being too many.
ambit_sdk::generate!({ world: "ambit-tests:hostile-flood/tool" });
ambit_sdk::connection!(Stripe => stripe);
ambit_sdk::connection!(Nowhere => nowhere);

use ambit_sdk::http::Connection;

guests_shared::cases! {
    "reads" => flood(&Stripe, "/v1/charges/ch_1"),
    "out-of-scope" => flood(&Stripe, "/v1/payouts"),
    "no-path-at-all" => flood(&Stripe, ""),
    "unbound" => flood(&Nowhere, "/v1/charges/ch_1"),
}

/// A thousand requests, whatever they are answered.
fn flood(connection: &impl Connection, path: &str) -> Result<String, String> {
    let answered = (0..1000).filter(|_| connection.get(path).is_ok()).count();
    Ok(format!("{answered} of 1000 were answered"))
}
