#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::effect::{GuestBody, GuestRequest, HttpRequest, Method, WireLimits};
use crate::manifest::Source;
use crate::route::{Connection, RouteError, RouteSpec};

fn connection(routes: &[(&str, serde_json::Value)]) -> Result<Connection, RouteError> {
    let specs: BTreeMap<String, RouteSpec> = routes
        .iter()
        .map(|(name, json)| ((*name).to_owned(), serde_json::from_value(json.clone()).unwrap()))
        .collect();
    Connection::new("crm", "https://crm.example".parse().unwrap(), specs)
}

/// The routes of a service with an undo for what changes something.
fn crm() -> Connection {
    let get =
        json!({ "match": "GET /customers/{id}", "reads": ["id", "email", "name", "address.**", "tags[].name", "vip"] });
    let object = json!({ "read": "get", "id": "{id}" });
    let update = |matches: &str| {
        json!({
            "match": matches, "fields": ["email", "name", "address.**", "tags[].name", "vip", "secret"],
            "object": object, "undo": "write-back", "query": ["note"], "headers": ["x-account"],
        })
    };
    connection(&[
        ("get", get),
        ("update", update("PATCH /customers/{id}")),
        ("replace", update("PUT /customers/{id}")),
        (
            "named",
            json!({
                "match": "POST /update", "body": "json", "fields": ["customer", "email"],
                "object": { "read": "get", "id": "customer" }, "undo": "write-back",
            }),
        ),
        (
            "create",
            json!({
                "match": "POST /customers", "fields": ["email"], "headers": ["x-account", "prefer"],
                "object": { "read": "get", "answer": "id" }, "undo": { "route": "delete" },
            }),
        ),
        (
            "delete",
            json!({ "match": "DELETE /customers/{id}", "headers": ["x-account"] }),
        ),
        ("all", json!({ "match": "DELETE /customers/all" })),
        ("plain", json!({ "match": "POST /plain" })),
    ])
    .unwrap()
}

fn sent(method: Method, path: &str, body: GuestBody) -> HttpRequest {
    let words = GuestRequest {
        method,
        path: path.to_owned(),
        query: Vec::new(),
        headers: vec![("X-Account".to_owned(), "7".to_owned())],
        body,
    };
    HttpRequest::parse(&"https://crm.example".parse().unwrap(), &words, &WireLimits::default()).unwrap()
}

fn parsed(value: &serde_json::Value) -> Json {
    Json::parse(&value.to_string(), crate::json::Limits::default()).unwrap()
}

/// What takes back what was sent through a route, as it is written; or why nothing does.
fn undone(route: &str, request: &HttpRequest, answer: Option<Json>, before: Option<Json>) -> Result<String, String> {
    let crm = crm();
    let recorded = Recorded {
        request,
        answer: answer.as_ref(),
        before: before.as_ref(),
    };
    let inverse = inverse(&crm, crm.route(route).unwrap(), &recorded)?;
    let request = HttpRequest::parse(crm.origin(), &inverse.words, &WireLimits::default()).unwrap();
    assert_eq!(crm.find(&request).unwrap().route.name(), inverse.route);
    let body = request
        .body_bytes()
        .map(|body| String::from_utf8_lossy(body).into_owned());
    let headers: Vec<&str> = request.headers().iter().map(|(name, _)| name.as_str()).collect();
    Ok(format!(
        "{} {} {} {}",
        request.method(),
        request.path_and_query(),
        headers.join(","),
        body.unwrap_or_default()
    ))
}

/// What a patch is written back as, by what there was before.
fn patched(fields: serde_json::Value, before: serde_json::Value) -> Result<String, String> {
    let request = sent(Method::Patch, "/customers/c%201", GuestBody::Json(fields.to_string()));
    let written = undone("update", &request, None, Some(parsed(&json!({ "object": before }))))?;
    Ok(written
        .strip_prefix("PATCH /customers/c%201 x-account ")
        .unwrap()
        .to_owned())
}

#[test]
fn what_was_sent_is_written_back_as_it_was() {
    let before =
        json!({ "id": "c 1", "email": "old@x", "name": null, "address": { "city": "A", "zip": "1" }, "vip": false });
    let back = |fields: serde_json::Value| patched(fields, before.clone());
    assert_eq!(back(json!({ "email": "new@x" })).unwrap(), r#"{"email":"old@x"}"#);
    assert_eq!(
        back(json!({ "email": "n", "name": "N", "vip": true })).unwrap(),
        r#"{"email":"old@x","name":null,"vip":false}"#
    );
    assert_eq!(
        back(json!({ "address": { "city": "B" } })).unwrap(),
        r#"{"address":{"city":"A"}}"#,
        "no more than was sent"
    );
    assert_eq!(
        back(json!({ "address": null })).unwrap(),
        r#"{"address":{"city":"A","zip":"1"}}"#,
        "what is read whole"
    );
}

#[test]
fn what_was_not_read_whole_is_not_written_back() {
    let why = |fields: serde_json::Value, before: serde_json::Value| patched(fields, before).unwrap_err();
    assert_eq!(
        why(json!({ "email": "n", "secret": "s" }), json!({ "email": "o" })),
        "its before-image has no `secret`"
    );
    assert_eq!(
        why(json!({ "address": { "city": "B" } }), json!({ "address": {} })),
        "its before-image has no `address.city`"
    );
    assert_eq!(
        why(
            json!({ "tags": [{ "name": "b" }] }),
            json!({ "tags": [{ "name": "a" }] })
        ),
        "its before-image has `tags` in part: `reads` would need `tags.**`"
    );
    assert_eq!(why(json!({}), json!({ "email": "o" })), "it sent no field");
    let request = sent(
        Method::Patch,
        "/customers/1",
        GuestBody::Json(r#"{"email":"n"}"#.to_owned()),
    );
    let not = |before| undone("update", &request, None, before).unwrap_err();
    assert_eq!(not(None), "how it was before was not read");
    assert_eq!(
        not(Some(parsed(&json!({ "object": null })))),
        "there was no such object before"
    );
}

#[test]
fn a_credential_is_not_written_back() {
    let why = patched(json!({ "email": "n" }), json!({ "email": "a [masked] b" })).unwrap_err();
    assert_eq!(
        why,
        "its before-image has a credential in `email`, which is not recorded"
    );
    let request = sent(
        Method::Post,
        "/customers",
        GuestBody::Json(r#"{"email":"n"}"#.to_owned()),
    );
    let answer = Some(parsed(&json!({ "id": "[masked]" })));
    let why = undone("create", &request, answer, None).unwrap_err();
    assert!(why.contains("has a credential in it"), "{why}");
}

#[test]
fn what_replaces_is_written_back_only_where_all_of_it_was_sent() {
    let put = |fields: serde_json::Value| {
        let request = sent(Method::Put, "/customers/1", GuestBody::Json(fields.to_string()));
        let before = parsed(&json!({ "object": { "id": "1", "email": "o", "name": "O", "vip": null } }));
        undone("replace", &request, None, Some(before))
    };
    assert_eq!(
        put(json!({ "email": "n", "name": "N" })).unwrap(),
        r#"PUT /customers/1 x-account {"email":"o","name":"O"}"#
    );
    assert_eq!(
        put(json!({ "email": "n" })).unwrap_err(),
        "it replaced the object, and its before-image has `name`, which was not sent"
    );
}

#[test]
fn a_form_is_written_back_as_a_form() {
    let form = |pairs: &[(&str, &str)], before: serde_json::Value| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let request = sent(Method::Patch, "/customers/1", GuestBody::Form(pairs.collect()));
        undone("update", &request, None, Some(parsed(&json!({ "object": before }))))
    };
    assert_eq!(
        form(
            &[("email", "n"), ("address[city]", "B"), ("vip", "true")],
            json!({ "email": "a&b", "address": { "city": "A" }, "vip": false })
        )
        .unwrap(),
        "PATCH /customers/1 x-account address%5Bcity%5D=A&email=a%26b&vip=false"
    );
    assert_eq!(
        form(&[("name", "n")], json!({ "name": null })).unwrap_err(),
        "`name` was empty before, which a form cannot say"
    );
}

#[test]
fn the_field_that_names_the_object_stays() {
    let words = GuestRequest {
        method: Method::Post,
        path: "/update".to_owned(),
        query: Vec::new(),
        headers: Vec::new(),
        body: GuestBody::Json(json!({ "customer": "c1", "email": "n" }).to_string()),
    };
    let request = HttpRequest::parse(&"https://crm.example".parse().unwrap(), &words, &WireLimits::default()).unwrap();
    let before = Some(parsed(&json!({ "object": { "id": "c1", "email": "o" } })));
    assert_eq!(
        undone("named", &request, None, before).unwrap(),
        r#"POST /update  {"customer":"c1","email":"o"}"#
    );
}

#[test]
fn what_was_made_is_taken_back_by_its_route() {
    let request = sent(
        Method::Post,
        "/customers",
        GuestBody::Json(r#"{"email":"n"}"#.to_owned()),
    );
    let made = |id: serde_json::Value| undone("create", &request, Some(parsed(&json!({ "id": id }))), None);
    assert_eq!(made(json!("c 1")).unwrap(), "DELETE /customers/c%201 x-account ");
    assert!(made(json!("c/1")).unwrap_err().contains("encoded slash"));
    assert_eq!(made(json!(12)).unwrap(), "DELETE /customers/12 x-account ");
    assert_eq!(
        made(json!(null)).unwrap_err(),
        "its recorded answer does not name the object"
    );
    assert_eq!(
        undone("create", &request, None, None).unwrap_err(),
        "nobody saw its answer, which names the object"
    );
}

#[test]
fn what_was_sent_through_another_route_is_left_alone() {
    let request = sent(
        Method::Post,
        "/customers",
        GuestBody::Json(r#"{"email":"n"}"#.to_owned()),
    );
    let not = |route: &str, request: &HttpRequest| undone(route, request, Some(parsed(&json!({ "id": "1" }))), None);
    assert_eq!(
        not("plain", &request).unwrap_err(),
        "what was sent would take another route now"
    );
    // Its route lets no header be set today.
    let plain = sent(Method::Post, "/plain", GuestBody::None);
    assert_eq!(
        not("plain", &plain).unwrap_err(),
        "what was sent would take another route now"
    );
}

/// The name is the service's word. `Grant::admit_inverse` looks again.
#[test]
fn a_name_that_leads_to_another_route_undoes_nothing() {
    let words = GuestRequest {
        method: Method::Post,
        path: "/customers".to_owned(),
        query: Vec::new(),
        headers: Vec::new(),
        body: GuestBody::Json(r#"{"email":"n"}"#.to_owned()),
    };
    let request = HttpRequest::parse(&"https://crm.example".parse().unwrap(), &words, &WireLimits::default()).unwrap();
    let made = |id: &str| undone("create", &request, Some(parsed(&json!({ "id": id }))), None);
    assert_eq!(made("al").unwrap(), "DELETE /customers/al  ");
    assert_eq!(
        made("all").unwrap_err(),
        "the object's name makes it no request of route `delete`"
    );
}

#[test]
fn what_goes_elsewhere_now_is_left_alone() {
    let words = GuestRequest {
        method: Method::Post,
        path: "/plain".to_owned(),
        query: Vec::new(),
        headers: Vec::new(),
        body: GuestBody::None,
    };
    let other = "https://other.example".parse().unwrap();
    let request = HttpRequest::parse(&other, &words, &WireLimits::default()).unwrap();
    let why = undone("plain", &request, None, None).unwrap_err();
    assert_eq!(why, "its connection leads to another origin now");
    let request = HttpRequest::parse(&"https://crm.example".parse().unwrap(), &words, &WireLimits::default()).unwrap();
    assert_eq!(
        undone("plain", &request, None, None).unwrap_err(),
        "no `undo` on its route"
    );
}

/// A route, one that it is undone by, and what is wrong with that.
#[test]
fn an_undo_is_one_that_can_be_done() {
    let get = json!({ "match": "GET /c/{id}", "reads": ["id"] });
    let object = json!({ "read": "get", "id": "{id}" });
    let made = json!({ "read": "get", "answer": "id" });
    let cases = [
        (
            json!({ "match": "GET /x/{id}", "undo": "write-back" }),
            "and only reads",
        ),
        (
            json!({ "match": "POST /x/{id}", "fields": ["a"], "undo": "write-back" }),
            "needs to know how it was",
        ),
        (
            json!({ "match": "POST /x", "fields": ["a"], "object": made, "undo": "write-back" }),
            "needs to know how it was",
        ),
        (
            json!({ "match": "POST /x/{id}", "object": object, "undo": "write-back" }),
            "with `fields`",
        ),
        (
            json!({ "match": "DELETE /x/{id}", "fields": ["a"], "object": object, "undo": "write-back" }),
            "with `fields`",
        ),
        (
            json!({ "match": "POST /x", "object": made, "undo": { "route": "none" } }),
            "no route of this connection",
        ),
        (
            json!({ "match": "POST /x", "object": made, "undo": { "route": "get" } }),
            "no route of this connection",
        ),
        (
            json!({ "match": "POST /x", "object": made, "undo": { "route": "two" } }),
            "no route of this connection",
        ),
        (
            json!({ "match": "POST /x", "object": made, "undo": { "route": "body" } }),
            "no route of this connection",
        ),
        (
            json!({ "match": "POST /x", "object": made, "undo": { "route": "rest" } }),
            "no route of this connection",
        ),
        (
            json!({ "match": "POST /x", "undo": { "route": "delete" } }),
            "which object",
        ),
    ];
    for (route, why) in cases {
        let all = [
            ("get", get.clone()),
            ("delete", json!({ "match": "DELETE /c/{id}" })),
            ("two", json!({ "match": "DELETE,POST /two/{id}" })),
            ("body", json!({ "match": "POST /body/{id}", "required": ["a"] })),
            ("rest", json!({ "match": "POST /rest/{id}/**" })),
            ("x", route),
        ];
        let error = connection(&all).unwrap_err();
        assert!(error.message.contains(why), "{}", error.message);
        assert_eq!(error.names, ["x"]);
    }
    for undo in [json!("take-back"), json!({ "route": "get", "by": "me" }), json!(1)] {
        let spec = json!({ "match": "POST /x/{id}", "undo": undo });
        assert!(serde_json::from_value::<RouteSpec>(spec).is_err());
    }
}

#[test]
fn arguments_come_from_what_was_asked_and_returned() {
    let undo = manifest::Undo {
        function: "refunds.cancel".to_owned(),
        params: vec![
            ("id".to_owned(), Source::Result),
            ("reason".to_owned(), Source::Argument),
        ],
    };
    let args = parsed(&json!({ "reason": "twice", "id": "not this" }));
    let result = parsed(&json!({ "id": "re_1", "reason": "nor this" }));
    let of = |args: &Json, result: &Json| arguments(&undo, args, result).map(|args| args.to_canonical());
    assert_eq!(of(&args, &result).unwrap(), r#"{"id":"re_1","reason":"twice"}"#);
    assert_eq!(of(&parsed(&json!({})), &result).unwrap(), r#"{"id":"re_1"}"#);
    let why = of(&args, &parsed(&json!({}))).unwrap_err();
    assert_eq!(why, "its recorded result has no `id`, which `refunds.cancel` takes");
}

#[test]
fn what_is_not_as_the_effect_wrote_it_is_found() {
    let crm = crm();
    let wrote = |body: GuestBody, before: serde_json::Value| {
        let request = sent(Method::Patch, "/customers/7", body);
        let before = parsed(&json!({ "object": before }));
        let recorded = Recorded {
            request: &request,
            answer: None,
            before: Some(&before),
        };
        let inverse = inverse(&crm, crm.route("update").unwrap(), &recorded).unwrap();
        inverse.wrote.unwrap()
    };
    let body = json!({ "email": "new@x", "vip": true }).to_string();
    let of_json = wrote(GuestBody::Json(body), json!({ "email": "old@x", "vip": false }));
    let form = GuestBody::Form(vec![("vip".to_owned(), "true".to_owned())]);
    let of_form = wrote(form, json!({ "vip": false }));
    let reads = crm.route("get").unwrap().reads();
    let changed = |wrote: &Wrote, now: Option<serde_json::Value>| {
        let image = crate::object::Image {
            object: now.as_ref().map(parsed),
            etag: None,
        };
        wrote.changed(&image, reads)
    };
    assert_eq!(
        changed(
            &of_json,
            Some(json!({ "email": "new@x", "vip": true, "name": "other" }))
        ),
        None
    );
    let why = Some("`email` is not as the effect wrote it".to_owned());
    assert_eq!(changed(&of_json, Some(json!({ "email": "their@x", "vip": true }))), why);
    assert_eq!(changed(&of_json, Some(json!({ "vip": true }))), why);
    assert_eq!(changed(&of_json, None), Some("it is not there any more".to_owned()));
    assert_eq!(
        changed(&of_form, Some(json!({ "vip": true }))),
        None,
        "a form's text for a truth"
    );
    assert!(changed(&of_form, Some(json!({ "vip": false }))).is_some());
}
