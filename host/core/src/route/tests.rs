#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use super::*;
use crate::effect::{GuestBody, GuestRequest, WireLimits};

fn spec(json: serde_json::Value) -> RouteSpec {
    serde_json::from_value(json).unwrap()
}

fn connection(routes: &[(&str, serde_json::Value)]) -> Result<Connection, RouteError> {
    let specs: BTreeMap<String, RouteSpec> = routes
        .iter()
        .map(|(name, json)| ((*name).to_owned(), spec(json.clone())))
        .collect();
    Connection::new("stripe", "https://api.stripe.com".parse().unwrap(), specs)
}

fn stripe() -> Connection {
    let reads = serde_json::json!(["id", "status"]);
    connection(&[
        (
            "refunds.create",
            serde_json::json!({
                "match": "POST /v1/refunds",
                "body": "form",
                "fields": ["charge", "amount", "reason"],
                "required": ["charge", "amount"],
                "reads": reads,
                "money": { "amount": "amount", "currency": { "lookup": "charges.get", "from": "charge", "read": "currency" } },
                "idempotency": { "header": "Idempotency-Key", "lifetime": "24h" },
            }),
        ),
        ("refunds.get", serde_json::json!({ "match": "GET /v1/refunds/{id}", "reads": reads, "query": ["expand[]"] })),
        ("refunds.list", serde_json::json!({ "match": "GET /v1/refunds/search" })),
        ("charges.get", serde_json::json!({ "match": "GET /v1/charges/{id}", "reads": ["id"] })),
        ("charges.search", serde_json::json!({ "match": "GET /v1/charges/search" })),
        ("all", serde_json::json!({ "match": "GET,HEAD /v1/**" })),
    ])
    .unwrap()
}

fn request(method: Method, path: &str, body: GuestBody) -> HttpRequest {
    let guest = GuestRequest {
        method,
        path: path.to_owned(),
        query: Vec::new(),
        headers: Vec::new(),
        body,
    };
    HttpRequest::parse(
        &"https://api.stripe.com".parse().unwrap(),
        &guest,
        &WireLimits::default(),
    )
    .unwrap()
}

fn form(pairs: &[(&str, &str)]) -> GuestBody {
    GuestBody::Form(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
}

/// The route that a request takes, or the code that it is refused with.
fn check(method: Method, path: &str, body: GuestBody) -> Result<String, Code> {
    let connection = stripe();
    connection
        .find(&request(method, path, body))
        .map(|found| found.route.name().to_owned())
        .map_err(|refusal| refusal.code)
}

#[test]
fn the_most_specific_route_matches() {
    let get = |path| check(Method::Get, path, GuestBody::None);
    assert_eq!(get("/v1/refunds/search"), Ok("refunds.list".into()));
    assert_eq!(get("/v1/refunds/re_1"), Ok("refunds.get".into()));
    assert_eq!(get("/v1/refunds/re_1/more"), Ok("all".into()));
    assert_eq!(
        check(Method::Head, "/v1/refunds/re_1", GuestBody::None),
        Ok("all".into())
    );
    assert_eq!(get("/v2/refunds"), Err(Code::Route));
    assert_eq!(
        check(Method::Delete, "/v1/refunds/re_1", GuestBody::None),
        Err(Code::Route)
    );
}

#[test]
fn captures_are_decoded_segments() {
    let connection = stripe();
    let found = connection
        .find(&request(Method::Get, "/v1/refunds/a%20b", GuestBody::None))
        .unwrap();
    assert_eq!(found.captures, BTreeMap::from([("id".to_owned(), "a b".to_owned())]));
    assert_eq!(found.tier, Tier::Read);
}

#[test]
fn a_body_has_what_the_route_allows_and_requires() {
    let post = |pairs: &[(&str, &str)]| check(Method::Post, "/v1/refunds", form(pairs));
    assert_eq!(
        post(&[("charge", "ch_1"), ("amount", "5")]),
        Ok("refunds.create".into())
    );
    assert_eq!(post(&[("charge", "ch_1")]), Err(Code::Field));
    let json = connection(&[(
        "pay",
        serde_json::json!({ "match": "POST /pay", "required": ["amount"] }),
    )])
    .unwrap();
    let null = GuestBody::Json(r#"{"amount":null}"#.to_owned());
    let refused = json.find(&request(Method::Post, "/pay", null)).unwrap_err();
    assert_eq!(refused.code, Code::Field);
    assert_eq!(
        post(&[("charge", "ch_1"), ("amount", "5"), ("destination", "me")]),
        Err(Code::Field)
    );
}

#[test]
fn a_query_and_a_header_are_sent_only_where_the_route_names_them() {
    let connection = stripe();
    let with = |path: &str, query: &[(&str, &str)], headers: &[(&str, &str)]| {
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let guest = GuestRequest {
            method: Method::Get,
            path: path.to_owned(),
            query: owned(query),
            headers: owned(headers),
            body: GuestBody::None,
        };
        let request = HttpRequest::parse(connection.origin(), &guest, &WireLimits::default()).unwrap();
        connection.find(&request).map(|_| ()).map_err(|refusal| refusal.code)
    };
    assert_eq!(
        with(
            "/v1/refunds/re_1",
            &[("expand[]", "charge")],
            &[("accept", "application/json")]
        ),
        Ok(())
    );
    assert_eq!(with("/v1/refunds/re_1", &[("limit", "9")], &[]), Err(Code::Query));
    assert_eq!(with("/v1/refunds/re_1", &[], &[("prefer", "x")]), Err(Code::Header));
    assert_eq!(
        with("/v1/refunds/re_1", &[], &[("accept", "text/what-was-read")]),
        Err(Code::Header)
    );
}

#[test]
fn routes_that_tie_fail_the_load_by_name() {
    let tie = |one: &str, other: &str| {
        connection(&[
            ("one", serde_json::json!({ "match": one })),
            ("other", serde_json::json!({ "match": other })),
        ])
        .map_err(|e| e.names)
    };
    let both = Err(vec!["other".to_owned(), "one".to_owned()]);
    assert_eq!(tie("GET /a/{x}", "GET /a/{y}").map(|_| ()), both);
    assert_eq!(tie("GET,POST /a", "POST /a").map(|_| ()), both);
    assert!(tie("GET /a/{x}", "GET /a/b").is_ok());
    assert!(tie("GET /a/{x}", "POST /a/{x}").is_ok());
    assert!(tie("GET /a/{x}/b", "GET /a/b/{x}").is_ok());
    assert!(tie("GET /a/**", "GET /a/{x}").is_ok());
}

fn spend_of(
    route: &str,
    connection: &Connection,
    request: &HttpRequest,
    currency: Option<&str>,
) -> Result<Spend, Code> {
    connection
        .route(route)
        .unwrap()
        .spend(request, currency)
        .map_err(|refusal| refusal.code)
}

fn usd(minor: i64) -> Spend {
    Spend::Known {
        currency: "usd".parse().unwrap(),
        minor,
    }
}

#[test]
fn an_amount_is_exactly_one_whole_number() {
    let connection = stripe();
    let amount = |text: &str| {
        let request = request(
            Method::Post,
            "/v1/refunds",
            form(&[("charge", "ch_1"), ("amount", text)]),
        );
        spend_of("refunds.create", &connection, &request, Some("usd"))
    };
    assert_eq!(amount("5000"), Ok(usd(5000)));
    assert_eq!(amount("1"), Ok(usd(1)));
    for bad in [
        "",
        "0",
        "00",
        "-5",
        "+5",
        "5.0",
        "5e3",
        "050",
        " 5",
        "0x5",
        "９",
        "99999999999999999999",
    ] {
        assert_eq!(amount(bad), Err(Code::Money), "{bad}");
    }
    let none = request(Method::Post, "/v1/refunds", form(&[("charge", "ch_1")]));
    assert_eq!(
        spend_of("refunds.create", &connection, &none, Some("usd")),
        Err(Code::Money)
    );
}

#[test]
fn a_json_amount_is_a_number_and_a_string_is_none() {
    let connection = connection(&[(
        "pay",
        serde_json::json!({ "match": "POST /pay", "body": "json", "fields": ["amount", "currency"], "money": { "amount": "amount", "currency": { "field": "currency" }, "cap": { "usd": 100 } } }),
    )])
    .unwrap();
    let pay = |json: &str| {
        spend_of(
            "pay",
            &connection,
            &request(Method::Post, "/pay", GuestBody::Json(json.to_owned())),
            None,
        )
    };
    assert_eq!(pay(r#"{"amount": 100, "currency": "USD"}"#), Ok(usd(100)));
    assert_eq!(pay(r#"{"amount": 101, "currency": "usd"}"#), Err(Code::Money));
    assert_eq!(pay(r#"{"amount": 1, "currency": "eur"}"#), Err(Code::Money));
    assert_eq!(pay(r#"{"amount": "100", "currency": "usd"}"#), Err(Code::Money));
    assert_eq!(pay(r#"{"amount": 1.5, "currency": "usd"}"#), Err(Code::Money));
    assert_eq!(pay(r#"{"amount": 1e2, "currency": "usd"}"#), Ok(usd(100)));
    assert_eq!(
        pay(r#"{"amount": 9223372036854775808, "currency": "usd"}"#),
        Err(Code::Money)
    );
    assert_eq!(pay(r#"{"amount": 100}"#), Err(Code::Money));
    assert_eq!(pay(r#"{"amount": 100, "currency": ["usd"]}"#), Err(Code::Money));
}

#[test]
fn without_a_cap_an_amount_is_still_above_zero() {
    let connection = connection(&[(
        "pay",
        serde_json::json!({ "match": "POST /pay", "body": "json", "fields": ["amount"], "money": { "amount": "amount", "currency": { "constant": "usd" } } }),
    )])
    .unwrap();
    for amount in ["-1", "0", "-0", "0.0", "0e5"] {
        let body = GuestBody::Json(format!(r#"{{"amount": {amount}}}"#));
        let spend = spend_of("pay", &connection, &request(Method::Post, "/pay", body), None);
        assert_eq!(spend, Err(Code::Money), "{amount}");
    }
}

#[test]
fn a_look_up_reads_one_object_through_its_own_route() {
    let connection = stripe();
    let lookup = |charge: &str| {
        let request = request(
            Method::Post,
            "/v1/refunds",
            form(&[("charge", charge), ("amount", "5")]),
        );
        connection
            .route("refunds.create")
            .unwrap()
            .lookup(&request)
            .unwrap()
            .unwrap()
            .request(&connection)
            .map_err(|r| r.code)
    };
    let (found, route) = lookup("ch_1").unwrap();
    assert_eq!(
        (found.path_and_query(), route.name()),
        ("/v1/charges/ch_1", "charges.get")
    );
    // The guest names the object, and could try to name another path.
    for bad in ["../refunds", "a/b", "..", "a\u{0}b", "search"] {
        assert_eq!(lookup(bad).map(|_| ()), Err(Code::Money), "{bad}");
    }
    let request = request(
        Method::Post,
        "/v1/refunds",
        form(&[("charge", "ch_1"), ("amount", "5")]),
    );
    assert_eq!(
        spend_of("refunds.create", &connection, &request, None),
        Err(Code::Money)
    );
    assert_eq!(
        spend_of("refunds.create", &connection, &request, Some("dollars")),
        Err(Code::Money)
    );
}

#[test]
fn a_tier_can_depend_on_a_field_and_a_missing_one_is_the_rest() {
    let tier = |kind: &str, body: GuestBody| {
        let spec = serde_json::json!({
            "match": "POST /mail", "body": kind, "fields": ["draft", "to"],
            "tier": { "if": "draft == true", "then": "draft", "else": "commit" },
        });
        let connection = connection(&[("mail", spec)]).unwrap();
        connection.find(&request(Method::Post, "/mail", body)).unwrap().tier
    };
    let json = |text: &str| tier("json", GuestBody::Json(text.to_owned()));
    assert_eq!(json(r#"{"draft": true}"#), Tier::Draft);
    assert_eq!(json(r#"{"draft": "true"}"#), Tier::Commit);
    assert_eq!(json(r#"{"to": "x"}"#), Tier::Commit);
    assert_eq!(tier("form", form(&[("draft", "true")])), Tier::Draft);
    assert_eq!(tier("form", form(&[("draft", "1")])), Tier::Commit);
}

#[test]
fn a_body_is_sent_as_the_service_reads_it() {
    let json = || GuestBody::Json(r#"{"charge": "ch_1", "amount": 5}"#.to_owned());
    assert_eq!(check(Method::Post, "/v1/refunds", json()), Err(Code::Body));
    let fields = serde_json::json!(["a"]);
    for (kind, other) in [
        ("form", GuestBody::Json(r#"{"a": 1}"#.to_owned())),
        ("json", form(&[("a", "1")])),
    ] {
        let spec = serde_json::json!({ "match": "POST /x", "body": kind, "fields": fields });
        let strict = connection(&[("x", spec)]).unwrap();
        assert_eq!(
            strict
                .find(&request(Method::Post, "/x", other.clone()))
                .unwrap_err()
                .code,
            Code::Body,
            "{kind}"
        );
        assert!(strict.find(&request(Method::Post, "/x", GuestBody::None)).is_ok());
        let either = connection(&[("x", serde_json::json!({ "match": "POST /x", "fields": fields }))]).unwrap();
        assert!(either.find(&request(Method::Post, "/x", other)).is_ok());
    }
}

#[test]
fn what_a_route_cannot_mean_fails_the_load() {
    let fails = |json: serde_json::Value| connection(&[("r", json)]).unwrap_err().message;
    for (json, expected) in [
        (serde_json::json!({ "match": "/v1" }), "no path"),
        (serde_json::json!({ "match": "FETCH /v1" }), "FETCH"),
        (
            serde_json::json!({ "match": "POST /v1", "fields": ["a"], "required": ["b"] }),
            "`b`",
        ),
        (
            serde_json::json!({ "match": "POST /v1", "headers": ["authorization"] }),
            "authorization",
        ),
        (
            serde_json::json!({ "match": "POST /v1", "headers": ["x-key"], "idempotency": { "header": "X-Key", "lifetime": "1h" } }),
            "`x-key`",
        ),
        (serde_json::json!({ "match": "POST /v1/{a}/{a}" }), "`{a}` twice"),
        (
            serde_json::json!({ "match": "POST /v1", "body": "form", "fields": ["a"], "money": { "amount": "b", "currency": { "constant": "usd" } } }),
            "`b`",
        ),
        (
            serde_json::json!({ "match": "POST /v1", "body": "form", "fields": ["a[]"], "money": { "amount": "a[]", "currency": { "constant": "usd" } } }),
            "not one field",
        ),
        (
            serde_json::json!({ "match": "POST /v1", "body": "form", "fields": ["a"], "money": { "amount": "a", "currency": { "constant": "usd", "field": "a" } } }),
            "takes",
        ),
        (
            serde_json::json!({ "match": "POST /v1", "body": "form", "fields": ["a"], "money": { "amount": "a", "currency": { "lookup": "r", "from": "a", "read": "b" } } }),
            "no GET route",
        ),
        (
            serde_json::json!({ "match": "POST /v1", "fields": ["a"], "money": { "amount": "a", "currency": { "constant": "usd" } } }),
            "`money` depends on the body",
        ),
        (
            serde_json::json!({ "match": "POST /v1", "fields": ["a"], "tier": { "if": "a == 1", "then": "draft", "else": "commit" } }),
            "`tier` depends on the body",
        ),
        (
            serde_json::json!({ "match": "POST /v1", "idempotency": { "header": "Idempotency-Key", "lifetime": "soon" } }),
            "duration",
        ),
        (
            serde_json::json!({ "match": "POST /v1", "retries": { "most": 1, "backoff": "1s" } }),
            "`retries` needs `idempotency`",
        ),
        (
            serde_json::json!({ "match": "GET /v1", "tier": "commit", "retries": { "most": 1, "backoff": "1s" } }),
            "`retries` needs `idempotency`",
        ),
        (
            serde_json::json!({ "match": "GET /v1", "retries": { "most": 0, "backoff": "1s" } }),
            "`retries.most` is 0",
        ),
        (
            serde_json::json!({ "match": "GET /v1", "rate": { "per": "hour", "most": 0 } }),
            "`rate.most` is 0",
        ),
        (
            serde_json::json!({ "match": "GET /v1", "breaker": { "failures": 1, "within": "1s", "open": "0s" } }),
            "`breaker.open` is `0s`",
        ),
    ] {
        let message = fails(json);
        assert!(message.contains(expected), "{message}");
    }
}
