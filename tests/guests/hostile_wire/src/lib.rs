//! Asks for more than it declared, one way for each case. Each case differs from an honest request in one thing, so
//! that a refusal shows the rule that made it.

ambit_sdk::generate!({ world: "ambit-tests:hostile-wire/tool" });
ambit_sdk::connection!(Stripe => stripe);

use ambit_sdk::http::{Body, Connection, Error, Method, Request};

struct Tool;

export!(Tool);

type Case = (&'static str, fn() -> Request);

const CASES: &[Case] = &[
    // What the declaration allows, to show that the rest fails for its own reason.
    ("honest", honest),
    ("honest-read", || get("/v1/charges/ch_1")),
    // Its service sends it on to this machine.
    ("redirected", || get("/v1/charges/ch_redirect")),
    // Another host.
    ("absolute-url", || path("https://evil.example/v1/refunds")),
    ("absolute-own-url", || path("https://api.stripe.com/v1/refunds")),
    ("other-scheme", || path("file:///etc/passwd")),
    ("double-slash", || path("//evil.example/v1/refunds")),
    ("triple-slash", || path("///v1/refunds")),
    ("inner-double-slash", || path("/v1//refunds")),
    ("backslash-host", || path("/\\evil.example/v1/refunds")),
    ("userinfo", || path("https://api.stripe.com@evil.example/v1/refunds")),
    ("userinfo-path", || path("@evil.example/v1/refunds")),
    ("no-leading-slash", || path("v1/refunds")),
    ("empty-path", || path("")),
    ("asterisk", || path("*")),
    ("authority-port", || path(":8080/v1/refunds")),
    ("host-header", || honest().header("host", "evil.example")),
    ("forwarded-host-header", || {
        honest().header("x-forwarded-host", "evil.example")
    }),
    ("absolute-in-query-name", || {
        get("/v1/charges/ch_1").query("https://evil.example", "x")
    }),
    // Another path.
    ("other-path", || path("/v1/payouts")),
    ("longer-path", || path("/v1/refunds/re_1")),
    ("shorter-path", || path("/v1")),
    ("trailing-slash", || path("/v1/refunds/")),
    ("upper-case-path", || path("/V1/refunds")),
    ("empty-segment-capture", || get("/v1/charges/")),
    ("encoded-slash", || get("/v1/charges/ch_1%2Frefund")),
    ("encoded-slash-lower", || get("/v1/charges/ch_1%2frefund")),
    ("double-encoded-slash", || get("/v1/charges/ch_1%252Frefund")),
    ("encoded-backslash", || get("/v1/charges/ch_1%5crefund")),
    ("dot-segments", || get("/v1/charges/../payouts")),
    ("single-dot", || get("/v1/charges/.")),
    ("trailing-dots", || path("/v1/payouts/../refunds/..")),
    ("encoded-dots", || get("/v1/charges/%2e%2e")),
    ("half-encoded-dots", || get("/v1/charges/.%2E")),
    ("overlong-dot", || get("/v1/charges/%c0%ae%c0%ae")),
    ("encoded-nul", || get("/v1/charges/ch_1%00")),
    ("encoded-newline", || get("/v1/charges/ch_1%0d%0aX:%20y")),
    ("bad-percent", || get("/v1/charges/ch_1%2")),
    ("bad-utf8", || get("/v1/charges/%ff")),
    ("semicolon-parameter", || path("/v1/refunds;jsessionid=1")),
    ("query-in-path", || path("/v1/refunds?expand=charge")),
    ("encoded-query-in-path", || get("/v1/charges/ch_1%3Fexpand=x")),
    ("fragment", || path("/v1/refunds#x")),
    ("space", || path("/v1/refunds x")),
    ("newline", || path("/v1/refunds HTTP/1.1\r\nHost: evil.example\r\n\r\n")),
    ("nul", || path("/v1/refunds\0")),
    ("tab", || path("/v1/refunds\t")),
    ("delete-character", || path("/v1/refunds\u{7f}")),
    ("bidi-override", || get("/v1/charges/\u{202e}ch_1")),
    ("long-path", || get(&format!("/v1/charges/{}", "x".repeat(1 << 20)))),
    // Other fields, and other amounts.
    ("other-field", || {
        form(&[
            ("charge", "ch_1"),
            ("amount", "100"),
            ("refund_application_fee", "true"),
        ])
    }),
    ("nested-field", || {
        form(&[("charge", "ch_1"), ("amount", "100"), ("metadata[order]", "1")])
    }),
    ("array-field", || {
        form(&[("charge", "ch_1"), ("amount", "100"), ("amount[]", "1")])
    }),
    ("bracketed-name", || form(&[("charge", "ch_1"), ("amount[x]", "100")])),
    ("broken-brackets", || {
        form(&[("charge", "ch_1"), ("amount", "100"), ("a[b", "1")])
    }),
    ("upper-case-field", || form(&[("charge", "ch_1"), ("Amount", "100")])),
    ("spaced-field", || form(&[("charge", "ch_1"), ("amount ", "100")])),
    ("empty-name", || {
        form(&[("charge", "ch_1"), ("amount", "100"), ("", "1")])
    }),
    ("duplicate-key", || {
        form(&[("charge", "ch_1"), ("amount", "100"), ("amount", "99999")])
    }),
    ("no-amount", || form(&[("charge", "ch_1")])),
    ("large-amount", || form(&[("charge", "ch_1"), ("amount", "1000000")])),
    ("negative-amount", || form(&[("charge", "ch_1"), ("amount", "-100")])),
    ("zero-amount", || form(&[("charge", "ch_1"), ("amount", "0")])),
    ("fraction-amount", || form(&[("charge", "ch_1"), ("amount", "100.5")])),
    ("exponent-amount", || form(&[("charge", "ch_1"), ("amount", "1e3")])),
    ("plus-amount", || form(&[("charge", "ch_1"), ("amount", "+100")])),
    ("leading-zero-amount", || {
        form(&[("charge", "ch_1"), ("amount", "0100")])
    }),
    ("spaced-amount", || form(&[("charge", "ch_1"), ("amount", " 100")])),
    ("hexadecimal-amount", || form(&[("charge", "ch_1"), ("amount", "0x64")])),
    ("huge-amount", || {
        form(&[("charge", "ch_1"), ("amount", "18446744073709551616")])
    }),
    ("full-width-amount", || {
        form(&[("charge", "ch_1"), ("amount", "１００")])
    }),
    ("empty-amount", || form(&[("charge", "ch_1"), ("amount", "")])),
    ("ampersand-value", || {
        form(&[("charge", "ch_1&amount=999999"), ("amount", "100")])
    }),
    // JSON where a form was declared, and tricks of JSON.
    ("json-body", || json(r#"{"charge":"ch_1","amount":100}"#)),
    ("json-duplicate-key", || {
        json(r#"{"charge":"ch_1","amount":100,"amount":99999}"#)
    }),
    ("json-escaped-duplicate", || {
        json(r#"{"charge":"ch_1","amount":100,"\u0061mount":99999}"#)
    }),
    ("json-exponent", || json(r#"{"charge":"ch_1","amount":1e2}"#)),
    ("json-string-amount", || json(r#"{"charge":"ch_1","amount":"100"}"#)),
    ("json-nested", || json(r#"{"charge":"ch_1","amount":{"value":100}}"#)),
    ("json-array", || json(r#"[{"charge":"ch_1","amount":100}]"#)),
    ("json-trailing", || json(r#"{"charge":"ch_1","amount":100} {}"#)),
    ("json-lone-surrogate", || json(r#"{"charge":"\ud800","amount":100}"#)),
    ("json-comment", || json("{\"charge\":\"ch_1\",/**/\"amount\":100}")),
    ("json-deep", || {
        json(&format!("{}1{}", "[".repeat(5000), "]".repeat(5000)))
    }),
    ("large-body", || {
        form(&[("charge", &"x".repeat(9 << 20)), ("amount", "100")])
    }),
    // Query.
    ("undeclared-query", || honest().query("idempotency", "off")),
    ("duplicate-query", || {
        get("/v1/charges/ch_1").query("expand", "a").query("expand", "b")
    }),
    ("query-and-body", || honest().query("amount", "100")),
    ("query-newline", || get("/v1/charges/ch_1").query("expand", "a\r\nX: y")),
    ("query-name-ampersand", || {
        get("/v1/charges/ch_1").query("expand=a&limit", "100")
    }),
    // Headers.
    ("extra-header", || honest().header("stripe-account", "acct_other")),
    ("authorization-header", || {
        honest().header("authorization", "Bearer stolen")
    }),
    ("idempotency-header", || honest().header("idempotency-key", "mine")),
    ("content-type-header", || {
        honest().header("content-type", "application/json")
    }),
    ("content-length-header", || honest().header("content-length", "0")),
    ("transfer-encoding-header", || {
        honest().header("transfer-encoding", "chunked")
    }),
    ("method-override-header", || {
        honest().header("x-http-method-override", "DELETE")
    }),
    ("cookie-header", || honest().header("cookie", "a=b")),
    ("connection-header", || honest().header("connection", "upgrade")),
    ("accept-encoding-header", || honest().header("accept-encoding", "br")),
    ("header-newline", || honest().header("accept", "a\r\nX-Evil: 1")),
    ("header-name-newline", || honest().header("accept\r\nX-Evil", "1")),
    ("duplicate-header", || {
        honest().header("accept", "a/b").header("Accept", "c/d")
    }),
    // Methods.
    ("other-method", || Request {
        method: Method::Delete,
        ..honest()
    }),
    ("put", || Request {
        method: Method::Put,
        ..honest()
    }),
    ("patch", || Request {
        method: Method::Patch,
        ..honest()
    }),
    ("get-with-body", || Request {
        method: Method::Get,
        ..honest()
    }),
    ("head", || Request {
        method: Method::Head,
        ..get("/v1/charges/ch_1")
    }),
    ("head-with-body", || Request {
        method: Method::Head,
        ..honest()
    }),
    ("read-with-form", || Request {
        body: honest().body,
        ..get("/v1/charges/ch_1")
    }),
    ("post-without-body", || Request {
        body: Body::None,
        ..honest()
    }),
];

impl Guest for Tool {
    fn try_(case: String) -> Result<String, String> {
        send(&case)
    }

    fn try_reading(case: String) -> Result<String, String> {
        send(&case)
    }

    fn cases() -> Vec<String> {
        CASES.iter().map(|(name, _)| (*name).to_owned()).collect()
    }
}

fn send(case: &str) -> Result<String, String> {
    let request = match CASES.iter().find(|(name, _)| *name == case) {
        Some((_, request)) => request(),
        None => return Err(format!("no case `{case}`")),
    };
    match Stripe.send(&request) {
        Ok(answer) => Ok(format!("{} {}", answer.status, answer.body.unwrap_or_default())),
        Err(Error::Refused { code, message }) => Err(format!("{code}: {message}")),
        Err(Error::Failed(message)) => Err(format!("failed: {message}")),
    }
}

fn honest() -> Request {
    form(&[("charge", "ch_1"), ("amount", "100")])
}

fn form(pairs: &[(&str, &str)]) -> Request {
    Request::new(Method::Post, "/v1/refunds").form(pairs.iter().copied())
}

fn path(path: &str) -> Request {
    Request {
        path: path.into(),
        ..honest()
    }
}

fn get(path: &str) -> Request {
    Request::new(Method::Get, path)
}

fn json(text: &str) -> Request {
    Request {
        body: Body::Json(text.into()),
        ..honest()
    }
}
