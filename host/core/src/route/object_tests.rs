#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::effect::{GuestBody, GuestRequest, HttpRequest, Method, WireLimits};
use crate::error::Code;
use crate::json::{Json, Limits};
use crate::route::{Connection, RouteError};

fn connection(change: Value) -> Result<Connection, RouteError> {
    let routes: BTreeMap<&str, Value> = [
        ("customers.change", change),
        (
            "customers.get",
            json!({ "match": "GET /customers/{id}", "reads": ["id", "email"], "fresh": "10m" }),
        ),
        (
            "customers.search",
            json!({ "match": "GET /customers/search", "reads": ["id"] }),
        ),
        ("customers.blind", json!({ "match": "GET /blind/{id}" })),
        (
            "customers.list",
            json!({ "match": "GET /customers/{id}/orders/{order}", "reads": ["id"] }),
        ),
        (
            "customers.touch",
            json!({ "match": "GET /touch/{id}", "tier": "commit", "reads": ["id"] }),
        ),
    ]
    .into();
    let specs = serde_json::from_value(serde_json::to_value(routes).unwrap()).unwrap();
    Connection::new("crm", "https://crm.example".parse().unwrap(), specs)
}

fn change(object: Value) -> Value {
    json!({ "match": "POST /customers/{id}", "body": "json", "fields": ["email", "customer"], "object": object })
}

fn request(method: Method, path: &str, body: GuestBody) -> HttpRequest {
    let guest = GuestRequest {
        method,
        path: path.to_owned(),
        query: Vec::new(),
        headers: Vec::new(),
        body,
    };
    HttpRequest::parse(&"https://crm.example".parse().unwrap(), &guest, &WireLimits::default()).unwrap()
}

/// Where the object of a request is read; none where there is none before.
fn asked(connection: &Connection, request: &HttpRequest) -> Result<Option<String>, Code> {
    let route = connection.route("customers.change").unwrap();
    let question = route.object().unwrap().question(route, request);
    let Some(question) = question.map_err(|refusal| refusal.code)? else {
        return Ok(None);
    };
    let (request, route) = question.request(connection).map_err(|refusal| refusal.code)?;
    assert_eq!(route.name(), "customers.get");
    Ok(Some(request.path_and_query().to_owned()))
}

fn json_body(text: &str) -> GuestBody {
    GuestBody::Json(text.to_owned())
}

#[test]
fn an_object_is_named_by_the_path_the_body_or_the_answer() {
    let by_path = connection(change(json!({ "read": "customers.get", "id": "{id}" }))).unwrap();
    let at = |path: &str| asked(&by_path, &request(Method::Post, path, json_body("{}")));
    assert_eq!(at("/customers/c_1"), Ok(Some("/customers/c_1".into())));
    let by_field = connection(change(json!({ "read": "customers.get", "id": "customer" }))).unwrap();
    let with = |body: &str| asked(&by_field, &request(Method::Post, "/customers/x", json_body(body)));
    assert_eq!(with(r#"{"customer":"c_2"}"#), Ok(Some("/customers/c_2".into())));
    assert_eq!(with(r#"{"customer":17}"#), Ok(Some("/customers/17".into())));
    for bad in [
        r"{}",
        r#"{"customer":""}"#,
        r#"{"customer":1.5}"#,
        r#"{"customer":["c"]}"#,
        r#"{"customer":null}"#,
    ] {
        assert_eq!(with(bad), Err(Code::Object), "{bad}");
    }
    let by_answer = connection(change(json!({ "read": "customers.get", "answer": "data.id" }))).unwrap();
    let created = request(Method::Post, "/customers/x", json_body("{}"));
    assert_eq!(asked(&by_answer, &created), Ok(None));
    let object = by_answer.route("customers.change").unwrap().object().unwrap();
    let named = |answer: &str| object.question_of_answer(&Json::parse(answer, Limits::default()).unwrap());
    assert_eq!(named(r#"{"data":{"id":"c_3"}}"#).unwrap().object, "c_3");
    assert_eq!(named(r#"{"id":"c_3"}"#), None);
}

/// The guest names the object, and could try to name another path; so could its service.
#[test]
fn an_objects_name_leads_to_its_own_route_alone() {
    let by_field = connection(change(json!({ "read": "customers.get", "id": "customer" }))).unwrap();
    for bad in ["../x", "a/b", "..", ".", "a\u{0}b", "search", "a?b#c/../d", "%2e%2e"] {
        let body = json!({ "customer": bad }).to_string();
        let asked = asked(&by_field, &request(Method::Post, "/customers/x", json_body(&body)));
        let inside = asked.as_ref().is_ok_and(|path| {
            let path = path.as_deref().unwrap_or_default();
            path.starts_with("/customers/") && path.matches('/').count() == 2 && !path.contains('?')
        });
        assert!(
            asked == Err(Code::Object) || inside && bad != "search",
            "{bad}: {asked:?}"
        );
    }
    let by_answer = connection(change(json!({ "read": "customers.get", "answer": "id" }))).unwrap();
    let object = by_answer.route("customers.change").unwrap().object().unwrap();
    let answer = Json::parse(r#"{"id":"search"}"#, Limits::default()).unwrap();
    let question = object.question_of_answer(&answer).unwrap();
    assert_eq!(question.request(&by_answer).map(|_| ()).unwrap_err().code, Code::Object);
}

#[test]
fn what_is_gone_afterwards_is_what_delete_deletes_or_the_operator_says() {
    let gone = |text: &str, object: Value| {
        let spec = json!({ "match": text, "object": object });
        connection(spec)
            .unwrap()
            .route("customers.change")
            .unwrap()
            .object()
            .unwrap()
            .gone()
    };
    let by_path = || json!({ "read": "customers.get", "id": "{id}" });
    assert!(gone("DELETE /customers/{id}", by_path()));
    assert!(!gone("POST /customers/{id}", by_path()));
    assert!(!gone("POST,DELETE /customers/{id}", by_path()));
    let with = |gone: bool| json!({ "read": "customers.get", "id": "{id}", "gone": gone });
    assert!(gone("POST /customers/{id}", with(true)));
    assert!(!gone("DELETE /customers/{id}", with(false)));
}

#[test]
fn freshness_is_of_what_is_read() {
    let connection = connection(change(json!({ "read": "customers.get", "id": "{id}" }))).unwrap();
    assert_eq!(connection.route("customers.get").unwrap().fresh_ms(), Some(600_000));
    assert_eq!(connection.route("customers.search").unwrap().fresh_ms(), None);
}

#[test]
fn an_object_that_cannot_be_meant_fails_the_load() {
    let by_path = |read: &str| json!({ "read": read, "id": "{id}" });
    let mut reads_nothing_itself = change(by_path("customers.get"));
    reads_nothing_itself["tier"] = "read".into();
    let mut fresh = change(by_path("customers.get"));
    fresh["fresh"] = "1h".into();
    let mut guests_version = change(json!({ "read": "customers.get", "id": "{id}", "if_match": true }));
    guests_version["headers"] = json!(["If-Match"]);
    let mut keys_version = change(json!({ "read": "customers.get", "id": "{id}", "if_match": true }));
    keys_version["idempotency"] = json!({ "header": "If-Match", "lifetime": "1h" });
    let mut no_body = change(json!({ "read": "customers.get", "id": "customer" }));
    no_body.as_object_mut().unwrap().remove("body");
    for (spec, expected) in [
        (change(json!({ "read": "customers.get" })), "takes"),
        (
            change(json!({ "read": "customers.get", "id": "{id}", "answer": "id" })),
            "takes",
        ),
        (
            change(json!({ "read": "customers.get", "id": "{other}" })),
            "no such segment",
        ),
        (
            change(json!({ "read": "customers.get", "id": "phone" })),
            "does not allow",
        ),
        (
            change(json!({ "read": "customers.get", "id": "email[]" })),
            "not one field",
        ),
        (
            change(json!({ "read": "customers.get", "answer": "a.**" })),
            "not one field",
        ),
        (
            change(json!({ "read": "customers.get", "answer": "id", "if_match": true })),
            "if_match",
        ),
        (
            change(json!({ "read": "customers.get", "answer": "id", "gone": true })),
            "cannot be gone",
        ),
        (change(by_path("customers.none")), "no GET route"),
        (change(by_path("customers.change")), "no GET route"),
        (change(by_path("customers.search")), "no GET route"),
        (change(by_path("customers.list")), "no GET route"),
        (change(by_path("customers.touch")), "only reads"),
        (change(by_path("customers.blind")), "reads nothing"),
        (reads_nothing_itself, "its tier is `read`"),
        (fresh, "`fresh` is about what is read"),
        (guests_version, "`if-match`"),
        (keys_version, "`if-match`"),
        (no_body, "`object` depends on the body"),
    ] {
        let message = connection(spec).unwrap_err().message;
        assert!(message.contains(expected), "{message}");
    }
    let mut soon = json!({ "match": "GET /a/{id}", "fresh": "soon" });
    let error = |spec: &Value| connection(spec.clone()).unwrap_err().message;
    assert!(error(&soon).contains("no duration"));
    soon["fresh"] = "0s".into();
    assert!(error(&soon).contains("no duration"));
}
