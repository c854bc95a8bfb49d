use ambit_core::effect::{GuestBody, GuestRequest, HttpRequest, WireLimits, answer as reduce, fuzz};
use ambit_core::field::FieldSet;
use ambit_core::json::{Json, Limits};
use serde_json::Value;

use crate::fuzz::Became;

pub(super) const WORDS: &[&str] = &[
    "GET ",
    "POST ",
    "DELETE ",
    "PUT ",
    "PATCH ",
    "HEAD ",
    "/v1/refunds",
    "/",
    "//",
    "/..",
    "/.",
    "%2e",
    "%2F",
    "%5c",
    "%25",
    "%C3%A9",
    "http://evil.example/",
    "@",
    "?",
    "#",
    ";",
    "\na=1",
    "\na[b]=",
    "[]",
    "[0]",
    "[1]",
    "\naccept:",
    "\nhost:",
    "\ncontent-length:",
    "\ntransfer-encoding:chunked",
    "\nX-HTTP-Method-Override:",
    "\nif-match:",
    "\n_method=",
    "\n\n",
    "{\"a\":1}",
    "{\"a\":{\"b\":[1]}}",
    "a=1&b=2",
    "a[b]=1",
    "&",
    "=",
    "+",
    "%20",
];

/// Beside what the request holds of itself: decoders that are not the host's find exactly what was asked in the bytes.
pub(super) fn request(bytes: &[u8]) -> Became {
    let became = fuzz::http(bytes);
    let guest = fuzz::guest(&String::from_utf8_lossy(bytes));
    let origin = "https://example.com".parse().expect("an origin");
    if let Ok(request) = HttpRequest::parse(&origin, &guest, &WireLimits::default()) {
        target_says_what_was_asked(&guest, &request);
        headers_are_those_given(&guest, &request);
        body_says_what_was_asked(&guest, &request);
    }
    became
}

fn target_says_what_was_asked(guest: &GuestRequest, request: &HttpRequest) {
    let target = request.path_and_query();
    assert!(target.bytes().all(|byte| byte.is_ascii_graphic()), "{target}");
    assert!(target.starts_with('/') && !target.starts_with("//"), "{target}");
    assert!(!target.contains(['#', '\\']), "{target}");
    let uri: http::Uri = target.parse().expect("a target that an HTTP library takes");
    assert_eq!(request.method(), guest.method);
    assert_eq!(decoded(uri.path()), decoded(&guest.path), "another path than was asked");
    assert!(
        uri.path()
            .split('/')
            .all(|segment| !matches!(decoded(segment).as_slice(), b"." | b"..")),
        "{target}"
    );
    let mut asked = guest.query.clone();
    // Sorted by name alone: pairs of one name stay in their order.
    asked.sort_by(|a, b| a.0.cmp(&b.0));
    let query: Vec<_> = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect();
    assert_eq!(query, asked, "another query than was asked");
    assert_eq!(request.query(), asked, "the host reads another query than is sent");
}

/// Percent-decoded, by the few lines that this takes.
fn decoded(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut out = Vec::new();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *byte == b'%');
        let escaped = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    out
}

fn headers_are_those_given(guest: &GuestRequest, request: &HttpRequest) {
    assert_eq!(request.headers().len(), guest.headers.len());
    for (name, value) in request.headers() {
        http::HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        let sent = http::HeaderValue::from_str(value).expect("a header's value");
        assert!(!sent.as_bytes().iter().any(|byte| byte.is_ascii_control()), "{name}");
        let given = |(given, text): &(String, String)| given.eq_ignore_ascii_case(name) && text == value;
        assert!(guest.headers.iter().any(given), "{name}: {value} was not given");
        let own = [
            "host",
            "content-length",
            "content-type",
            "transfer-encoding",
            "connection",
            "upgrade",
            "te",
            "trailer",
            "expect",
            "cookie",
            "authorization",
            "proxy-authorization",
            "accept-encoding",
            "x-http-method-override",
        ];
        assert!(!own.contains(&name.as_str()), "{name} is the host's");
    }
}

fn body_says_what_was_asked(guest: &GuestRequest, request: &HttpRequest) {
    let body = request.body_bytes();
    match &guest.body {
        GuestBody::None => assert_eq!(body, None),
        GuestBody::Json(text) => {
            assert_eq!(request.content_type(), Some("application/json"));
            let text_sent = std::str::from_utf8(body.expect("a body")).expect("UTF-8");
            // Numbers stay exact, which is more than serde_json can tell of all of them.
            let (asked, sent): (Result<Value, _>, Result<Value, _>) =
                (serde_json::from_str(text), serde_json::from_str(text_sent));
            if let (Ok(asked), Ok(sent)) = (asked, sent) {
                assert!(alike(&asked, &sent), "{text} is sent as {text_sent}");
            }
            assert_eq!(
                Json::parse(text, Limits::default()).as_ref(),
                Ok(request.fields()),
                "the host reads other fields than are sent"
            );
        }
        GuestBody::Form(pairs) => {
            assert_eq!(request.content_type(), Some("application/x-www-form-urlencoded"));
            let mut asked = pairs.clone();
            asked.sort_by(|a, b| a.0.cmp(&b.0));
            let sent: Vec<_> = form_urlencoded::parse(body.expect("a body")).into_owned().collect();
            assert_eq!(sent, asked, "another form than was asked");
        }
    }
}

/// Equal, but for the last digit of a float and the sign of zero.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            a == b || (a - b).abs() <= a.abs() * 1e-14 || (a.abs() < 1e-300 && b.abs() < 1e-300)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| alike(a, b)))
        }
        _ => a == b,
    }
}

pub(super) const ANSWER_WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"id\":",
    "\"status\":",
    "\"items\":",
    "\"name\":",
    "\"secret\":",
    "\"SECRET\"",
    "null",
    "1e400",
    "true",
    "id",
    "status",
    "items[].name",
    "items",
    "items.**",
    "**",
    "\n",
    ",",
    "\u{feff}",
    "{\"id\":1,\"id\":2}",
    "application/json",
    "text/plain",
    "application/problem+json",
    ";charset=utf-8",
];

/// The fields that may be read, a line; the content type, a line; the body. A guest sees scalars of the body in their places,
/// and only those that the fields cover.
pub(super) fn answer(bytes: &[u8]) -> Became {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.splitn(3, '\n');
    let (reads, kind, body) = (parts.next(), parts.next(), parts.next());
    let reads: FieldSet = reads
        .unwrap_or_default()
        .parse()
        .map_err(|error: ambit_core::field::FieldError| error.to_string())?;
    let body = body.unwrap_or_default();
    let headers = [
        ("content-type", kind.unwrap_or_default().as_bytes()),
        ("x-secret", b"SECRET"),
    ];
    let seen = reduce(
        200,
        headers,
        body.as_bytes(),
        &reads,
        &Default::default(),
        Limits::default(),
    );
    assert!(seen.headers.iter().all(|(name, _)| name == "content-type"));
    let Some(shown) = seen.body else {
        return Err("withheld".to_owned());
    };
    assert!(!reads.is_empty(), "seen without any field");
    if reads.is_everything() {
        return Ok(());
    }
    let shown = Json::parse(&shown, Limits::default()).expect("JSON where fields are chosen");
    let given = Json::parse(body.trim_start_matches('\u{feff}'), Limits::default()).expect("JSON that was projected");
    for (path, value) in ambit_core::field::leaves(&shown) {
        let empty = matches!(value, Json::Array(elements) if elements.is_empty())
            || value.as_object().is_some_and(|members| members.is_empty())
            || (value.is_null() && path.0.is_empty());
        assert!(
            empty || reads.covers_path(&path),
            "{path} is seen and not among {reads}"
        );
    }
    assert_eq!(reads.project(shown.clone()), shown, "what is seen can be seen");
    let scalars = |value: &Json| -> Vec<Json> {
        ambit_core::field::leaves(value)
            .into_iter()
            .map(|(_, leaf)| leaf.clone())
            .filter(|leaf| !matches!(leaf, Json::Null | Json::Array(_) | Json::Object(_)))
            .collect()
    };
    let mut left = scalars(&given);
    for scalar in scalars(&shown) {
        let at = left
            .iter()
            .position(|other| *other == scalar)
            .expect("a scalar that the service sent");
        left.swap_remove(at);
    }
    Ok(())
}
