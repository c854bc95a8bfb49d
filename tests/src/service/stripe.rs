//! The service's state and rules: one request in, one answer out, no sockets.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Authorization;
use super::misbehaviour::Misbehaviour;

/// Charges at the start: id, amount, currency, already refunded; amounts in minor units. A charge with a misbehaviour's
/// name is like `ch_1`.
pub const CHARGES: [(&str, i64, &str, i64); 8] = [
    ("ch_1", 10_000, "usd", 0),
    ("ch_coffee", 450, "usd", 0),
    ("ch_shoes", 12_000, "usd", 0),
    ("ch_laptop", 240_000, "usd", 0),
    ("ch_paris", 9_900, "eur", 0),
    ("ch_partly", 10_000, "usd", 6_000),
    ("ch_returned", 2_500, "usd", 2_500),
    ("ch_ocean", 1_000_000_000_000, "usd", 0),
];

/// What somebody wants.
#[derive(Clone, Debug)]
pub struct Asked {
    /// As in the `Host` header.
    pub host: String,
    /// Upper case.
    pub method: String,
    /// Path, undecoded, without query.
    pub path: String,
    /// Query, decoded.
    pub query: Vec<(String, String)>,
    /// Without parameters.
    pub content_type: Option<String>,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// The bearer token as it came.
    pub token: Option<String>,
    /// What a client is given at `/oauth/token`, where it is one.
    pub issues: Option<String>,
    /// Whether that is the right one.
    pub authorization: Authorization,
    /// Whole.
    pub body: Bytes,
}

/// How an answer's body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// At once, with its length.
    Whole,
    /// In chunks, without announcing a length.
    Chunked,
    /// Byte by byte, with this pause between.
    Trickle(Duration),
    /// Half of it, then the connection ends.
    Broken,
    /// Not at all: the connection ends instead of an answer.
    Dropped,
}

/// A token for a client, for the scopes that it asks for: RFC 6749, 4.4.
fn give_out(token: &str, asked: &Asked) -> Answer {
    let form: Vec<(String, String)> = form_urlencoded::parse(&asked.body).into_owned().collect();
    let said = |name: &str| {
        form.iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    if asked.path != "/oauth/token" || asked.method != "POST" || said("grant_type") != Some("client_credentials") {
        return Answer::json(400, &json!({ "error": "invalid_request" }));
    }
    let answer = json!({ "access_token": token, "token_type": "Bearer", "expires_in": 300, "scope": said("scope") });
    Answer::json(200, &answer).header("cache-control", "no-store")
}

/// What somebody gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// As sent.
    pub body: Bytes,
    /// How the body is sent.
    pub delivery: Delivery,
    /// Waited before anything is sent.
    pub delay: Duration,
}

impl Answer {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.to_string().into(),
            delivery: Delivery::Whole,
            delay: Duration::ZERO,
        }
    }

    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        let kind = match status {
            429 => "rate_limit_error",
            500.. => "api_error",
            _ if code.starts_with("idempotency") => "idempotency_error",
            _ => "invalid_request_error",
        };
        Self::json(
            status,
            &json!({"error": {"type": kind, "code": code, "message": message}}),
        )
    }

    /// Adds a header, or replaces it.
    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn with(self, member: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.change(|object| object.insert(member.to_owned(), value))
    }

    pub(super) fn without(self, member: &str) -> Self {
        self.change(|object| object.remove(member))
    }

    fn change(mut self, change: impl FnOnce(&mut Map<String, Value>) -> Option<Value>) -> Self {
        if let Ok(Value::Object(mut object)) = serde_json::from_slice(&self.body) {
            change(&mut object);
            self.body = Value::Object(object).to_string().into();
        }
        self
    }
}

#[derive(Clone, Debug)]
struct Charge {
    amount: i64,
    refunded: i64,
    currency: &'static str,
}

impl Charge {
    fn left(&self) -> i64 {
        self.amount - self.refunded
    }
}

#[derive(Clone, Debug)]
struct Refund {
    charge: String,
    amount: i64,
    currency: &'static str,
    reason: Option<String>,
    canceled: bool,
}

/// What was answered under an idempotency key, and to what.
#[derive(Debug)]
struct Known {
    request: (String, Vec<(String, String)>),
    answer: Answer,
}

/// The whole state.
#[derive(Debug)]
pub struct Stripe {
    charges: BTreeMap<String, Charge>,
    refunds: Vec<Refund>,
    keys: BTreeMap<String, Known>,
    admin_port: u16,
}

impl Stripe {
    /// The charges of [`CHARGES`] and no refunds. Redirects that misbehave lead to `admin_port`.
    pub fn new(admin_port: u16) -> Self {
        let charge = |(id, amount, currency, refunded): (&str, i64, &'static str, i64)| {
            (
                id.to_owned(),
                Charge {
                    amount,
                    refunded,
                    currency,
                },
            )
        };
        Self {
            charges: CHARGES.into_iter().map(charge).collect(),
            refunds: Vec::new(),
            keys: BTreeMap::new(),
            admin_port,
        }
    }

    /// Charges and refunds, for people.
    pub fn state(&self) -> Value {
        let charges = self.charges.iter().map(|(id, charge)| charge_object(id, charge));
        let refunds = self
            .refunds
            .iter()
            .enumerate()
            .map(|(number, refund)| refund_object(number, refund));
        json!({"charges": charges.collect::<Vec<_>>(), "refunds": refunds.collect::<Vec<_>>()})
    }

    /// Answers one request and remembers what it changed.
    pub fn answer(&mut self, asked: &Asked) -> Answer {
        if asked.host.starts_with("hooks.") {
            return webhook(asked);
        }
        if asked.authorization != Authorization::Right {
            return Answer::error(401, "api_key_invalid", "Invalid API Key provided");
        }
        if let Some(token) = &asked.issues {
            return give_out(token, asked);
        }
        let segments: Vec<&str> = asked.path.split('/').skip(1).collect();
        match (asked.method.as_str(), segments.as_slice()) {
            ("GET", ["v1", "charges", id]) => self.read_charge(id, asked),
            ("GET", ["v1", "refunds", id]) => self.read_refund(id, asked),
            ("POST", ["v1", "refunds"]) => self.change(asked, Self::create_refund),
            ("POST", ["v1", "refunds", id, "cancel"]) => self.change(asked, |stripe, _| stripe.cancel_refund(id)),
            (method, _) => {
                let message = format!("Unrecognized request URL ({method}: {})", asked.path);
                Answer::error(404, "url_unknown", &message)
            }
        }
    }

    fn read_charge(&self, id: &str, asked: &Asked) -> Answer {
        if let Some(unknown) = unknown_parameter(&asked.query, &["expand[]"]) {
            return unknown;
        }
        let Some(charge) = self.charge(id) else {
            return missing("charge", id);
        };
        let answer = Answer::json(200, &charge_object(id, &charge));
        match Misbehaviour::of_reading(id) {
            Some(misbehaviour) => misbehaviour.spoil(answer, asked, self.admin_port),
            None => answer,
        }
    }

    fn read_refund(&self, id: &str, asked: &Asked) -> Answer {
        if let Some(unknown) = unknown_parameter(&asked.query, &["expand[]"]) {
            return unknown;
        }
        match self
            .refund_number(id)
            .and_then(|number| self.refunds.get(number).map(|refund| (number, refund)))
        {
            Some((number, refund)) => Answer::json(200, &refund_object(number, refund)),
            None => missing("refund", id),
        }
    }

    /// A request that changes something: a form, once per idempotency key.
    fn change(&mut self, asked: &Asked, act: impl FnOnce(&mut Self, &Parameters) -> Answer) -> Answer {
        let form = match form(asked) {
            Ok(form) => form,
            Err(answer) => return answer,
        };
        let request = (asked.path.clone(), form.0.clone());
        let known = asked.idempotency_key.as_ref().and_then(|key| self.keys.get(key));
        if let Some(known) = known {
            if known.request == request {
                return known.answer.clone().header("idempotent-replayed", "true");
            }
            let message =
                "Keys for idempotent requests can only be used with the same parameters they were first used with";
            return Answer::error(400, "idempotency_key_in_use", message);
        }
        let answer = act(self, &form);
        // What was refused for its parameters did not start, and may be corrected under the same key.
        if let Some(key) = asked.idempotency_key.clone().filter(|_| answer.status == 200) {
            self.keys.insert(
                key,
                Known {
                    request,
                    answer: answer.clone(),
                },
            );
        }
        match form.get("charge").and_then(Misbehaviour::of_refunding) {
            Some(misbehaviour) => misbehaviour.spoil(answer, asked, self.admin_port),
            None => answer,
        }
    }

    fn create_refund(&mut self, form: &Parameters) -> Answer {
        if let Some(unknown) = unknown_parameter(&form.0, &["charge", "amount", "reason", "metadata["]) {
            return unknown;
        }
        let Some(id) = form.get("charge") else {
            return Answer::error(400, "parameter_missing", "Missing required param: charge");
        };
        let Some(mut charge) = self.charge(id) else {
            return missing("charge", id);
        };
        let reason = form.get("reason");
        if reason.is_some_and(|reason| !["duplicate", "fraudulent", "requested_by_customer"].contains(&reason)) {
            return Answer::error(400, "parameter_invalid", "Invalid reason");
        }
        let amount = match form.get("amount").map(|text| (text, text.parse::<i64>())) {
            None => charge.left(),
            Some((text, Ok(amount))) if amount > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => amount,
            Some((text, _)) => {
                return Answer::error(400, "parameter_invalid_integer", &format!("Invalid integer: {text}"));
            }
        };
        if charge.left() == 0 {
            return Answer::error(
                400,
                "charge_already_refunded",
                &format!("Charge {id} has already been refunded."),
            );
        }
        if amount > charge.left() {
            let message = format!(
                "Refund amount ({amount}) is greater than unrefunded amount on charge ({})",
                charge.left()
            );
            return Answer::error(400, "amount_too_large", &message);
        }
        charge.refunded += amount;
        let refund = Refund {
            charge: id.to_owned(),
            amount,
            currency: charge.currency,
            reason: reason.map(str::to_owned),
            canceled: false,
        };
        let answer = Answer::json(200, &refund_object(self.refunds.len(), &refund));
        if Misbehaviour::of_refunding(id) == Some(Misbehaviour::Lying) {
            return answer;
        }
        self.charges.insert(id.to_owned(), charge);
        self.refunds.push(refund);
        answer
    }

    fn cancel_refund(&mut self, id: &str) -> Answer {
        let number = self.refund_number(id);
        let Some((number, refund)) = number.and_then(|number| Some((number, self.refunds.get_mut(number)?))) else {
            return missing("refund", id);
        };
        if refund.canceled {
            return Answer::error(
                400,
                "refund_not_cancelable",
                &format!("Refund {id} is canceled already."),
            );
        }
        refund.canceled = true;
        if let Some(charge) = self.charges.get_mut(&refund.charge) {
            charge.refunded -= refund.amount;
        }
        Answer::json(200, &refund_object(number, refund))
    }

    /// A known charge, or a fresh one for a misbehaviour's name.
    fn charge(&self, id: &str) -> Option<Charge> {
        let misbehaves = Misbehaviour::of_reading(id).is_some() || Misbehaviour::of_refunding(id).is_some();
        let fresh = misbehaves.then_some(Charge {
            amount: 10_000,
            refunded: 0,
            currency: "usd",
        });
        self.charges.get(id).cloned().or(fresh)
    }

    fn refund_number(&self, id: &str) -> Option<usize> {
        id.strip_prefix("re_")?.parse::<usize>().ok()?.checked_sub(1)
    }
}

/// The pairs of a form, each name once.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The form in a body. Anything else that has content is refused, JSON too.
fn form(asked: &Asked) -> Result<Parameters, Answer> {
    if !asked.query.is_empty() {
        return Err(Answer::error(
            400,
            "parameter_unknown",
            "Parameters of a POST request belong in its body",
        ));
    }
    if asked.body.is_empty() {
        return Ok(Parameters(Vec::new()));
    }
    if asked.content_type.as_deref() != Some("application/x-www-form-urlencoded") {
        let message = "Invalid request body: this endpoint takes application/x-www-form-urlencoded";
        return Err(Answer::error(415, "content_type_invalid", message));
    }
    let pairs: Vec<(String, String)> = form_urlencoded::parse(&asked.body).into_owned().collect();
    for (number, (name, _)) in pairs.iter().enumerate() {
        if pairs.iter().take(number).any(|(earlier, _)| earlier == name) {
            return Err(Answer::error(
                400,
                "parameter_duplicate",
                &format!("Received twice: {name}"),
            ));
        }
    }
    Ok(Parameters(pairs))
}

/// The answer to a parameter that is not among `known`; one that ends in a bracket covers what it begins.
fn unknown_parameter(pairs: &[(String, String)], known: &[&str]) -> Option<Answer> {
    let covered = |name: &str| {
        known.iter().any(|known| {
            if known.ends_with('[') {
                name.starts_with(known)
            } else {
                name == *known
            }
        })
    };
    let (name, _) = pairs.iter().find(|(name, _)| !covered(name))?;
    Some(Answer::error(
        400,
        "parameter_unknown",
        &format!("Received unknown parameter: {name}"),
    ))
}

/// Slack's incoming webhooks: a path that is a secret, JSON with a text, `ok`.
fn webhook(asked: &Asked) -> Answer {
    let plain = |status, text: &'static str| {
        Answer {
            body: text.into(),
            ..Answer::json(status, &Value::Null)
        }
        .header("content-type", "text/plain")
    };
    if asked.method != "POST" || !asked.path.starts_with("/services/T0/B0/") {
        return plain(404, "no_service");
    }
    let message: Option<Value> = serde_json::from_slice(&asked.body).ok();
    let is_json = asked.content_type.as_deref() == Some("application/json");
    match message.filter(|message| is_json && message.get("text").is_some_and(Value::is_string)) {
        Some(_) => plain(200, "ok"),
        None => plain(400, "invalid_payload"),
    }
}

fn missing(kind: &str, id: &str) -> Answer {
    Answer::error(404, "resource_missing", &format!("No such {kind}: '{id}'"))
}

/// As the API shows it: with much that a tool for refunds has no need to see.
fn charge_object(id: &str, charge: &Charge) -> Value {
    json!({
        "id": id,
        "object": "charge",
        "amount": charge.amount,
        "amount_refunded": charge.refunded,
        "currency": charge.currency,
        "status": "succeeded",
        "refunded": charge.left() == 0,
        "billing_details": {"email": "ann@example.com", "name": "Ann Example", "address": {"city": "Paris"}},
        "payment_method_details": {"card": {"brand": "visa", "last4": "4242"}, "type": "card"},
        "metadata": {"order": "A-1001"},
    })
}

fn refund_object(number: usize, refund: &Refund) -> Value {
    json!({
        "id": format!("re_{}", number + 1),
        "object": "refund",
        "charge": refund.charge,
        "amount": refund.amount,
        "currency": refund.currency,
        "reason": refund.reason,
        "status": if refund.canceled { "canceled" } else { "pending" },
        "destination_details": {"type": "card", "card": {"reference": "424242"}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, path: &str, body: &str) -> Asked {
        Asked {
            issues: None,
            host: "api.stripe.com".to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            query: Vec::new(),
            content_type: (!body.is_empty()).then(|| "application/x-www-form-urlencoded".to_owned()),
            idempotency_key: None,
            token: Some("sk".to_owned()),
            authorization: Authorization::Right,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn keyed(body: &str, key: &str) -> Asked {
        Asked {
            idempotency_key: Some(key.to_owned()),
            ..asked("POST", "/v1/refunds", body)
        }
    }

    /// Asks in turn and compares each status and error code, or the refund's amount.
    fn check(steps: &[(Asked, u16, &str)]) {
        let mut stripe = Stripe::new(1);
        for (asked, status, expected) in steps {
            let answer = stripe.answer(asked);
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            let code = body["error"]["code"].as_str().map(str::to_owned);
            let found = code.unwrap_or_else(|| body["amount"].to_string());
            assert_eq!(
                (answer.status, found.as_str()),
                (*status, *expected),
                "{} {} {:?}",
                asked.method,
                asked.path,
                asked.body
            );
        }
    }

    #[test]
    fn refunds_are_made_from_forms_alone() {
        let mut json = asked("POST", "/v1/refunds", r#"{"charge":"ch_1"}"#);
        json.content_type = Some("application/json".to_owned());
        check(&[
            (json, 415, "content_type_invalid"),
            (asked("POST", "/v1/refunds", "charge=ch_1&amount=100"), 200, "100"),
            (asked("GET", "/v1/refunds/re_1", ""), 200, "100"),
            (asked("GET", "/v1/refunds/re_2", ""), 404, "resource_missing"),
        ]);
    }

    #[test]
    fn parameters_are_strict() {
        check(&[
            (asked("POST", "/v1/refunds", "amount=100"), 400, "parameter_missing"),
            (
                asked("POST", "/v1/refunds", "charge=ch_1&fee=1"),
                400,
                "parameter_unknown",
            ),
            (
                asked("POST", "/v1/refunds", "charge=ch_1&amount=1&amount=2"),
                400,
                "parameter_duplicate",
            ),
            (
                asked("POST", "/v1/refunds", "charge=ch_1&amount=%2B5"),
                400,
                "parameter_invalid_integer",
            ),
            (
                asked("POST", "/v1/refunds", "charge=ch_1&amount=0"),
                400,
                "parameter_invalid_integer",
            ),
            (
                asked("POST", "/v1/refunds", "charge=ch_1&reason=whim"),
                400,
                "parameter_invalid",
            ),
            (asked("POST", "/v1/refunds", "charge=ch_none"), 404, "resource_missing"),
            (asked("GET", "/v1/payouts", ""), 404, "url_unknown"),
        ]);
    }

    #[test]
    fn no_more_than_what_is_left_goes_back() {
        check(&[
            (
                asked("POST", "/v1/refunds", "charge=ch_partly&amount=4001"),
                400,
                "amount_too_large",
            ),
            (
                asked("POST", "/v1/refunds", "charge=ch_partly&amount=3000"),
                200,
                "3000",
            ),
            (asked("POST", "/v1/refunds", "charge=ch_partly"), 200, "1000"),
            (
                asked("POST", "/v1/refunds", "charge=ch_partly"),
                400,
                "charge_already_refunded",
            ),
            (asked("POST", "/v1/refunds/re_2/cancel", ""), 200, "1000"),
            (
                asked("POST", "/v1/refunds/re_2/cancel", ""),
                400,
                "refund_not_cancelable",
            ),
            (
                asked("POST", "/v1/refunds", "charge=ch_partly&amount=1000"),
                200,
                "1000",
            ),
        ]);
    }

    #[test]
    fn a_key_stands_for_one_request() {
        check(&[
            (keyed("charge=ch_1&amount=100", "a"), 200, "100"),
            (keyed("charge=ch_1&amount=100", "a"), 200, "100"),
            (keyed("charge=ch_1&amount=200", "a"), 400, "idempotency_key_in_use"),
            (
                asked("POST", "/v1/refunds", "charge=ch_1&amount=9901"),
                400,
                "amount_too_large",
            ),
            (asked("POST", "/v1/refunds", "charge=ch_1"), 200, "9900"),
        ]);
    }

    #[test]
    fn a_dropped_refund_was_made() {
        let mut stripe = Stripe::new(1);
        let first = stripe.answer(&keyed("charge=ch_refund_dropped&amount=700", "a"));
        assert_eq!(first.delivery, Delivery::Dropped);
        let refund = stripe.answer(&asked("GET", "/v1/refunds/re_1", ""));
        assert_eq!(refund.status, 200);
        // The retry under the same key gets the first refund, not a second one.
        let second = stripe.answer(&keyed("charge=ch_refund_dropped&amount=700", "a"));
        assert_eq!((second.delivery, second.status), (Delivery::Whole, 200));
        assert_eq!(stripe.state()["refunds"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn nobody_without_the_token() {
        let mut stranger = asked("GET", "/v1/charges/ch_1", "");
        stranger.authorization = Authorization::Wrong;
        check(&[
            (stranger, 401, "api_key_invalid"),
            (asked("GET", "/v1/charges/ch_1", ""), 200, "10000"),
        ]);
    }
}
