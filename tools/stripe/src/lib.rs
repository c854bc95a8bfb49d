//! Refunds and charges of a Stripe account. What this may touch is in `wit/world.wit`.

ambit_sdk::generate!({ world: "ambit:stripe/tool" });
ambit_sdk::connection!(Stripe => stripe);

mod charges;
mod refunds;

use ambit::stripe::types::Failure;
use ambit_sdk::http::{Connection, Error, Request};
use ambit_sdk::json::Value;

struct Tool;

export!(Tool);

/// Sends a request and reads the object that Stripe answers with.
fn object(request: &Request) -> Result<Value, Failure> {
    let answer = Stripe.send(request).map_err(failure)?;
    let body = answer.json().map_err(failure)?;
    if answer.is_success() {
        return Ok(body);
    }
    let message = text(&body["error"], "message").unwrap_or_else(|_| "no explanation given".into());
    Err(Failure::Declined(format!(
        "Stripe answered {}: {message}",
        answer.status
    )))
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Refused { .. } => Failure::Refused(error.to_string()),
        Error::Failed(message) => Failure::Unknown(message),
    }
}

fn text(object: &Value, member: &str) -> Result<String, Failure> {
    object[member]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| missing(member))
}

fn number(object: &Value, member: &str) -> Result<u64, Failure> {
    object[member].as_u64().ok_or_else(|| missing(member))
}

fn flag(object: &Value, member: &str) -> Result<bool, Failure> {
    object[member].as_bool().ok_or_else(|| missing(member))
}

/// The answer came but cannot be believed, so neither can what it says about the request.
fn missing(member: &str) -> Failure {
    Failure::Unknown(format!("Stripe's answer has no usable `{member}`"))
}
