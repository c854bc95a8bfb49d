use proptest::prelude::*;

use super::*;

fn origin() -> Origin {
    "https://api.stripe.com".parse().unwrap()
}

fn strings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn ask(method: Method, path: &str) -> GuestRequest {
    GuestRequest {
        method,
        path: path.into(),
        query: Vec::new(),
        headers: Vec::new(),
        body: GuestBody::None,
    }
}

fn form(pairs: &[(&str, &str)]) -> GuestRequest {
    GuestRequest {
        body: GuestBody::Form(strings(pairs)),
        ..ask(Method::Post, "/v1/refunds")
    }
}

fn json(text: &str) -> GuestRequest {
    GuestRequest {
        body: GuestBody::Json(text.into()),
        ..ask(Method::Post, "/v1/refunds")
    }
}

fn parse(guest: &GuestRequest) -> Result<HttpRequest, Refusal> {
    HttpRequest::parse(&origin(), guest, &WireLimits::default())
}

/// What is sent for `guest`: target, body, and the fields read back.
#[track_caller]
fn check(guest: &GuestRequest, target: &str, body: Option<&str>, fields: &str) {
    let request = parse(guest).unwrap();
    assert_eq!(request.path_and_query(), target);
    assert_eq!(request.body_bytes(), body.map(str::as_bytes));
    assert_eq!(request.fields().to_canonical(), fields);
}

#[track_caller]
fn refused(guest: &GuestRequest, code: Code, message: &str) {
    let refusal = parse(guest).unwrap_err();
    assert_eq!((refusal.code, refusal.message.as_str()), (code, message));
}

#[test]
fn the_host_writes_every_byte() {
    check(&ask(Method::Get, "/v1/%72efunds"), "/v1/refunds", None, "{}");
    check(&ask(Method::Post, "/"), "/", None, "{}");
    check(
        &form(&[("charge", "ch_1&amount=9"), ("amount", "100"), ("meta[a]", "x y")]),
        "/v1/refunds",
        Some("amount=100&charge=ch_1%26amount%3D9&meta%5Ba%5D=x%20y"),
        r#"{"amount":"100","charge":"ch_1&amount=9","meta":{"a":"x y"}}"#,
    );
    check(
        &json("{ \"b\": 1.0e2,\n \"a\": \"\\u0041\" }"),
        "/v1/refunds",
        Some(r#"{"a":"A","b":100}"#),
        r#"{"a":"A","b":100}"#,
    );
    let query = GuestRequest {
        query: strings(&[("limit", "3"), ("created[gte]", "1&2#"), ("e[]", "y"), ("e[]", "x")]),
        ..ask(Method::Get, "/v1/refunds")
    };
    check(
        &query,
        "/v1/refunds?created%5Bgte%5D=1%262%23&e%5B%5D=y&e%5B%5D=x&limit=3",
        None,
        "{}",
    );
    assert_eq!(
        parse(&query).unwrap().parameters().to_canonical(),
        r#"{"created":{"gte":"1&2#"},"e":["y","x"],"limit":"3"}"#
    );
}

#[test]
fn bodies_say_what_they_are() {
    let kind = |guest: &GuestRequest| parse(guest).unwrap().content_type();
    assert_eq!(kind(&json("{}")), Some("application/json"));
    assert_eq!(kind(&form(&[])), Some("application/x-www-form-urlencoded"));
    assert_eq!(kind(&ask(Method::Post, "/")), None);
    assert_eq!(parse(&form(&[])).unwrap().body_bytes(), Some(&b""[..]));
}

#[test]
fn what_services_read_differently_is_refused() {
    refused(
        &GuestRequest {
            method: Method::Get,
            ..form(&[("a", "1")])
        },
        Code::Body,
        "a GET request has no body",
    );
    refused(
        &GuestRequest {
            method: Method::Head,
            ..json("{}")
        },
        Code::Body,
        "a HEAD request has no body",
    );
    let both = |body: GuestRequest| GuestRequest {
        query: strings(&[("amount[x]", "1")]),
        ..body
    };
    refused(
        &both(form(&[("amount", "1")])),
        Code::Query,
        "`amount` is in the query and in the body",
    );
    refused(
        &both(json(r#"{"amount":1}"#)),
        Code::Query,
        "`amount` is in the query and in the body",
    );
    assert!(parse(&both(json(r#"{"a":{"amount":1}}"#))).is_ok());
    let message = "the parameter `_method` asks services for another method than the one that was checked";
    refused(&form(&[("_method", "DELETE")]), Code::Field, message);
    refused(&json(r#"{"_Method":"DELETE"}"#), Code::Field, message);
    refused(
        &GuestRequest {
            query: strings(&[("_method", "DELETE")]),
            ..form(&[])
        },
        Code::Field,
        message,
    );
    refused(
        &json("{\"amount\\u0000\":1}"),
        Code::Body,
        "a member's name has a control character",
    );
    refused(
        &json("[{\"a\":{\"b\\n\":1}}]"),
        Code::Body,
        "a member's name has a control character",
    );
    refused(
        &form(&[("a", "1"), ("a", "1")]),
        Code::Body,
        "the form is refused: `a` comes twice",
    );
    refused(
        &json(r#"{"amount":1,"amount":2}"#),
        Code::Body,
        "the JSON body is refused: the member `amount` comes twice at byte 0",
    );
    let twice = GuestRequest {
        query: strings(&[("a", "1"), ("a", "2")]),
        ..ask(Method::Get, "/")
    };
    refused(&twice, Code::Query, "the query is refused: `a` comes twice");
    let control = GuestRequest {
        query: strings(&[("a", "1\r\nx: y")]),
        ..ask(Method::Get, "/")
    };
    refused(
        &control,
        Code::Query,
        "the query is refused: the value of `a` has control characters",
    );
}

#[test]
fn paths_are_quoted_harmlessly() {
    refused(
        &ask(Method::Get, "/v1\r\nHost: evil"),
        Code::Path,
        "the path `/v1\\u{d}\\u{a}Host: evil` is refused: it has a character that must be percent-encoded",
    );
    refused(
        &ask(Method::Get, "https://evil.example/"),
        Code::Path,
        "the path `https://evil.example/` is refused: it does not begin with `/`: a path names no scheme, host or user",
    );
}

#[test]
fn limits() {
    let small = WireLimits {
        path_bytes: 8,
        query_bytes: 4,
        parameters: 2,
        headers: 1,
        header_bytes: 8,
        body_bytes: 16,
        json_depth: 2,
    };
    let code = |guest: &GuestRequest| {
        HttpRequest::parse(&origin(), guest, &small)
            .map_err(|refusal| refusal.code)
            .err()
    };
    let at = |method, path: &str| ask(method, path);
    let values = |text: &str| GuestRequest {
        body: GuestBody::Json(text.to_owned()),
        ..ask(Method::Post, "/")
    };
    assert_eq!(code(&values("[1,2]")), None);
    assert_eq!(code(&values("[1,2,3]")), Some(Code::Body));
    assert_eq!(code(&values("[[],[],[]]")), Some(Code::Body));
    assert_eq!(code(&at(Method::Get, "/1234567")), None);
    assert_eq!(code(&at(Method::Get, "/12345678")), Some(Code::Path));
    let query = |pairs: &[(&str, &str)]| GuestRequest {
        query: strings(pairs),
        ..ask(Method::Get, "/")
    };
    assert_eq!(code(&query(&[("a", "1"), ("b", "2")])), None);
    assert_eq!(code(&query(&[("a", "1"), ("b", "23")])), Some(Code::Query));
    assert_eq!(code(&query(&[("a", ""), ("b", ""), ("c", "")])), Some(Code::Query));
    let body = |body| GuestRequest {
        body,
        ..ask(Method::Post, "/")
    };
    assert_eq!(code(&body(GuestBody::Json("[[123456789012]]".into()))), None);
    assert_eq!(
        code(&body(GuestBody::Json("[[1234567890123]]".into()))),
        Some(Code::Body)
    );
    assert_eq!(code(&body(GuestBody::Json("[[[]]]".into()))), Some(Code::Body));
    assert_eq!(code(&body(GuestBody::Json("[1e20]".into()))), Some(Code::Body));
    assert_eq!(code(&body(GuestBody::Form(strings(&[("a", "12345678901234")])))), None);
    // Few characters that are many when written.
    assert_eq!(code(&body(GuestBody::Form(strings(&[("a", "ééé")])))), Some(Code::Body));
    assert_eq!(
        code(&body(GuestBody::Form(strings(&[("a", ""), ("b", ""), ("c", "")])))),
        Some(Code::Body)
    );
    let headers = |pairs: &[(&str, &str)]| GuestRequest {
        headers: strings(pairs),
        ..ask(Method::Get, "/")
    };
    assert_eq!(code(&headers(&[("accept", "xx")])), None);
    assert_eq!(code(&headers(&[("accept", "xxx")])), Some(Code::Header));
}

#[test]
fn digests_tell_requests_apart() {
    let base = form(&[("a", "1")]);
    let digest = |guest: &GuestRequest| parse(guest).unwrap().digest();
    assert_eq!(
        digest(&base),
        digest(&GuestRequest {
            path: "/v1/%72efunds".into(),
            ..base.clone()
        })
    );
    for other in [
        GuestRequest {
            method: Method::Put,
            ..base.clone()
        },
        GuestRequest {
            path: "/v1/refund".into(),
            ..base.clone()
        },
        GuestRequest {
            query: strings(&[("b", "1")]),
            ..base.clone()
        },
        GuestRequest {
            headers: strings(&[("accept", "x")]),
            ..base.clone()
        },
        form(&[("a", "2")]),
        json(r#"{"a":"1"}"#),
        ask(Method::Post, "/v1/refunds"),
    ] {
        assert_ne!(digest(&base), digest(&other), "{other:?}");
    }
    assert_ne!(digest(&form(&[])), digest(&ask(Method::Post, "/v1/refunds")));
    let elsewhere = HttpRequest::parse(
        &"https://api.stripe.com:8443".parse().unwrap(),
        &base,
        &WireLimits::default(),
    );
    assert_ne!(digest(&base), elsewhere.unwrap().digest());
}

#[test]
fn the_wire_is_told_whole() {
    let guest = GuestRequest {
        headers: strings(&[("Accept", "a/b")]),
        query: strings(&[("q", "1")]),
        ..form(&[("a", "1")])
    };
    assert_eq!(
        parse(&guest).unwrap().wire().to_canonical(),
        r#"{"body":"a=1","content-type":"application/x-www-form-urlencoded","headers":[["accept","a/b"]],"method":"POST","origin":"https://api.stripe.com","target":"/v1/refunds?q=1"}"#
    );
}

fn any_guest() -> impl Strategy<Value = GuestRequest> {
    let method = proptest::sample::select(Method::ALL.to_vec());
    let name = prop_oneof![4 => r"[ab](\[[a0]?\]){0,2}", 1 => any::<String>()];
    let pairs = proptest::collection::vec((name, prop_oneof!["[a-z0-9 é%&=]{0,4}", any::<String>()]), 0..4);
    let body = prop_oneof![
        Just(GuestBody::None),
        crate::json::any_json().prop_map(|value| GuestBody::Json(value.to_canonical())),
        any::<String>().prop_map(GuestBody::Json),
        pairs.clone().prop_map(GuestBody::Form),
    ];
    let path = prop_oneof![4 => r"(/([a-c.]|%[2-57][0-9a-f]|[:@;*%]){1,3}){0,3}", 1 => any::<String>()];
    let headers = proptest::collection::vec(("[a-cA-C-]{1,3}", "[ -~]{0,4}"), 0..3);
    (method, path, pairs, headers, body).prop_map(|(method, path, query, headers, body)| GuestRequest {
        method,
        path,
        query,
        headers,
        body,
    })
}

proptest! {
    #[test]
    fn what_is_accepted_is_itself_when_asked_again(guest in any_guest()) {
        if let Ok(request) = parse(&guest) {
            prop_assert_eq!(parse(&fuzz::again(&request)), Ok(request.clone()));
            let target = request.path_and_query();
            prop_assert!(target.starts_with('/') && !target.starts_with("//"));
            prop_assert!(target.bytes().all(|b| matches!(b, b'!'..=b'~')));
            prop_assert_eq!(target.matches('?').count(), usize::from(!request.query().is_empty()));
            prop_assert!(!target.contains("/.") || request.segments().iter().any(|segment| segment.starts_with('.')));
        }
    }

    #[test]
    fn canonical_bodies_hold_the_same_tree(value in crate::json::any_json()) {
        if let Ok(request) = parse(&json(&value.to_canonical())) {
            prop_assert_eq!(request.fields(), &value);
        }
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = fuzz::http(&bytes);
    }

    #[test]
    fn any_lines(text in r#"((GET|POST) )?(/[a-c.%0-9]{0,3}){0,3}(\n[ab]\[?[]=:][ -~]{0,3}){0,3}(\n\n([{\["a:1,}\]]{0,9}|([ab](\[[a0]?\])?=[ -~]{0,2}&?){0,3}))?"#) {
        let _ = fuzz::http(text.as_bytes());
    }
}
