use proptest::prelude::*;

use super::*;
use crate::effect::{GuestBody, GuestRequest, Method, WireLimits};
use crate::field::tests::{any_set, any_value};

fn scope(text: &str) -> HttpScope {
    HttpScope::parse(text).unwrap()
}

const STRIPE: &str = "POST https://api.stripe.com/v1/refunds fields(charge, amount) reads(id, status) headers(if-match); \
     GET,HEAD https://api.stripe.com/v1/charges/{id} query(expand[]) reads(id); \
     POST https://hooks.slack.com/ fields(text)";

fn request(
    method: Method,
    url: &str,
    query: &[(&str, &str)],
    headers: &[(&str, &str)],
    body: GuestBody,
) -> HttpRequest {
    let strings = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let slash = url.match_indices('/').nth(2).map_or(url.len(), |(at, _)| at);
    let (origin, path) = url.split_at(slash);
    let guest = GuestRequest {
        method,
        path: path.into(),
        query: strings(query),
        headers: strings(headers),
        body,
    };
    HttpRequest::parse(&origin.parse().unwrap(), &guest, &WireLimits::default()).unwrap()
}

fn json(text: &str) -> GuestBody {
    GuestBody::Json(text.into())
}

#[track_caller]
fn covered(request: &HttpRequest, rule: usize) {
    assert_eq!(scope(STRIPE).covers(request), Ok(rule));
}

#[track_caller]
fn refused(request: &HttpRequest, code: Code, message: &str, advice: &str) {
    let refusal = scope(STRIPE).covers(request).unwrap_err();
    assert_eq!((refusal.code, refusal.message.as_str()), (code, message));
    let advice_given = refusal.advice.unwrap();
    assert!(advice_given.contains(advice), "{advice_given}");
}

const REFUNDS: &str = "https://api.stripe.com/v1/refunds";
const CHARGE: &str = "https://api.stripe.com/v1/charges/ch_1";

#[test]
fn canonical_text() {
    assert_eq!(
        scope(STRIPE).to_string(),
        "POST https://api.stripe.com/v1/refunds fields(amount, charge) reads(id, status) headers(if-match); \
         GET,HEAD https://api.stripe.com/v1/charges/{id} query(expand[]) reads(id); \
         POST https://hooks.slack.com/ fields(text)"
    );
    for text in [
        "GET http://localhost:8080/**",
        r#"PUT https://a.com/x%20y fields("a)b;c", "d\"e)".f)"#,
        "DELETE https://[::1]/%7Bx%7D/{y}/** reads(**)",
    ] {
        assert_eq!(scope(text).to_string(), text);
    }
    assert_eq!(
        scope("\n  HEAD,GET\thttps://a.com/  reads( b ,a )\n").to_string(),
        "GET,HEAD https://a.com/ reads(a, b)"
    );
}

#[test]
fn covers() {
    let body = json(r#"{"charge":"ch_1","amount":100}"#);
    covered(
        &request(
            Method::Post,
            REFUNDS,
            &[],
            &[("accept", "*/*"), ("If-Match", "x")],
            body,
        ),
        0,
    );
    covered(&request(Method::Post, REFUNDS, &[], &[], GuestBody::None), 0);
    covered(
        &request(
            Method::Head,
            CHARGE,
            &[("expand[]", "a"), ("expand[]", "b")],
            &[],
            GuestBody::None,
        ),
        1,
    );
    covered(
        &request(
            Method::Post,
            "https://hooks.slack.com/",
            &[],
            &[],
            json(r#"{"text":"hi"}"#),
        ),
        2,
    );
}

#[test]
fn trap_17_one_rule_covers_the_whole_request() {
    let refunds = |method, query: &[_], headers: &[_], body| request(method, REFUNDS, query, headers, body);
    refused(
        &request(
            Method::Get,
            "https://api.stripe.com:8443/v1/charges/ch_1",
            &[],
            &[],
            GuestBody::None,
        ),
        Code::Scope,
        "the tool does not declare requests to `https://api.stripe.com:8443`",
        "nearest rule is `POST https://api.stripe.com/v1/refunds",
    );
    refused(
        &request(
            Method::Post,
            "https://api.stripe.com/v1/payouts",
            &[],
            &[],
            GuestBody::None,
        ),
        Code::Scope,
        "the tool does not declare the path `/v1/payouts` at `https://api.stripe.com`",
        "nearest rule",
    );
    refused(
        &refunds(Method::Delete, &[], &[], GuestBody::None),
        Code::Scope,
        "the tool does not declare DELETE of `/v1/refunds`",
        "nearest rule is `POST https://api.stripe.com/v1/refunds",
    );
    refused(
        &refunds(Method::Post, &[("expand[]", "x")], &[], GuestBody::None),
        Code::Query,
        "the tool does not declare the query parameter `expand[0]` of POST `/v1/refunds`",
        "which would need `query(expand[])`",
    );
    refused(
        &refunds(Method::Post, &[], &[], json(r#"{"charge":"x","metadata":{"a":1}}"#)),
        Code::Field,
        "the tool does not declare the field `metadata.a` of POST `/v1/refunds`",
        "which would need `fields(metadata.a)`",
    );
    refused(
        &refunds(Method::Post, &[], &[("stripe-account", "x")], json(r#"{"charge":"x"}"#)),
        Code::Header,
        "the tool does not declare the header `stripe-account` of POST `/v1/refunds`",
        "which would need `headers(stripe-account)`",
    );
    refused(
        &refunds(
            Method::Post,
            &[],
            &[("accept", "text/what-was-read")],
            json(r#"{"charge":"x"}"#),
        ),
        Code::Header,
        "the tool does not declare the header `accept` of POST `/v1/refunds`",
        "which would need `headers(accept)`",
    );
    refused(
        &request(Method::Get, CHARGE, &[], &[("if-match", "x")], GuestBody::None),
        Code::Header,
        "the tool does not declare the header `if-match` of GET `/v1/charges/ch_1`",
        "nearest rule is `GET,HEAD",
    );
}

#[test]
fn refused_texts() {
    for (text, offset, message) in [
        ("", 0, "expected a rule"),
        (" ; ", 1, "expected a rule"),
        ("GET https://a.com/;", 19, "expected a rule"),
        (
            "get https://a.com/",
            0,
            "`get` is not one of GET, HEAD, POST, PUT, PATCH, DELETE",
        ),
        (
            "GET, POST https://a.com/",
            0,
            "`` is not one of GET, HEAD, POST, PUT, PATCH, DELETE",
        ),
        (
            "* https://a.com/",
            0,
            "`*` is not one of GET, HEAD, POST, PUT, PATCH, DELETE",
        ),
        ("GET", 3, "an origin begins with `https://` or `http://`, in lower case"),
        (
            "GET /v1",
            4,
            "an origin begins with `https://` or `http://`, in lower case",
        ),
        (
            "GET ftp://a.com/",
            4,
            "an origin begins with `https://` or `http://`, in lower case",
        ),
        (
            "GET https://user@a.com/",
            4,
            "an origin is only scheme, host and port: no user, path, query or fragment",
        ),
        ("GET https://a.com:443/", 4, "the scheme's default port is left out"),
        ("GET https://a.com", 17, "expected a path after the origin"),
        (
            "GET https://a.com/../b",
            17,
            "the path is refused: it has a dot segment",
        ),
        (
            "GET https://a.com/x?y=1",
            17,
            "the path is refused: it has a character that must be percent-encoded",
        ),
        (
            "GET https://a.com/a/*",
            17,
            "`**` is the whole last segment, and there is no other wildcard",
        ),
        ("GET https://a.com/ body(x)", 19, "`body` is not a part of a rule"),
        ("GET https://a.com/ reads", 24, "expected `(`"),
        ("GET https://a.com/ reads (a)", 24, "expected `(`"),
        ("GET https://a.com/ reads(a", 24, "the `(` is not closed"),
        ("GET https://a.com/ reads(\"a)", 24, "the `(` is not closed"),
        ("GET https://a.com/ reads()", 25, "the list is empty"),
        ("GET https://a.com/ reads(a) reads(b)", 28, "`reads` comes twice"),
        (
            "GET https://a.com/ reads(a,, b)",
            27,
            "expected a field: names joined by `.`, `[]` for elements, `**` at the end; a name with other characters is quoted",
        ),
        (
            "GET https://a.com/ headers(cookie)",
            27,
            "the header `cookie` belongs to the host: it frames, routes or authenticates the request",
        ),
        (
            "GET https://a.com/ reads(a) GET https://b.com/",
            28,
            "`GET` is not a part of a rule",
        ),
    ] {
        let error = HttpScope::parse(text).unwrap_err();
        assert_eq!((error.offset, error.message.as_str()), (offset, message), "{text}");
    }
    let many = vec!["GET https://a.com/"; 65].join(";");
    assert!(HttpScope::parse(&many).is_err());
    assert!(HttpScope::parse(&many[19..]).is_ok());
    assert!(HttpScope::parse(&format!("GET https://a.com/{}", "x".repeat(LONGEST))).is_err());
}

#[test]
fn intersects() {
    let both = |a: &str, b: &str| scope(a).intersect(&scope(b)).to_string();
    assert_eq!(
        both(
            "GET,POST https://a.com/v1/{x} fields(a, b) reads(**)",
            "POST,PUT https://a.com/v1/** fields(b, c) reads(id) headers(etag); GET https://b.com/**"
        ),
        "POST https://a.com/v1/{x} fields(b) reads(id)"
    );
    assert_eq!(both("GET https://a.com/a", "GET https://a.com/b"), "nothing");
    assert_eq!(both("GET https://a.com/a", "POST https://a.com/a"), "nothing");
    assert_eq!(both("GET https://a.com/a", "GET http://a.com/a"), "nothing");
    let narrow = scope("GET https://a.com/a").intersect(&scope("GET https://a.com/b"));
    assert!(
        narrow
            .covers(&request(Method::Get, "https://a.com/a", &[], &[], GuestBody::None))
            .is_err()
    );
}

pub(crate) fn any_scope() -> impl Strategy<Value = HttpScope> {
    proptest::collection::vec(any_rule(), 1..4).prop_map(|rules| HttpScope { rules })
}

fn any_rule() -> impl Strategy<Value = HttpRule> {
    let methods = prop_oneof!["GET", "POST", "GET,POST", "POST,DELETE"].prop_map(|text| text.parse().unwrap());
    let origin = any_origin();
    let headers =
        prop_oneof![Just(""), Just("if-match"), Just("if-match, etag")].prop_map(|text| text.parse().unwrap());
    let path = crate::effect::pattern_tests::any_pattern();
    (methods, origin, path, any_set(), any_set(), any_set(), headers).prop_map(
        |(methods, origin, path, query, fields, reads, headers)| HttpRule {
            methods,
            origin,
            path,
            query,
            fields,
            reads,
            headers,
        },
    )
}

fn any_origin() -> impl Strategy<Value = Origin> {
    prop_oneof![5 => Just("https://a.com"), 1 => Just("https://a.com:8443")].prop_map(|text| text.parse().unwrap())
}

/// Requests over the words of [`any_rule`].
pub(crate) fn any_request() -> impl Strategy<Value = HttpRequest> {
    let method = proptest::sample::select(vec![Method::Get, Method::Post, Method::Delete]);
    let query =
        prop_oneof![4 => Just(vec![]), 1 => Just(vec![("b", "1")]), 1 => Just(vec![("a[b]", "1"), ("b[]", "2")])];
    let headers = prop_oneof![3 => Just(vec![]), 1 => Just(vec![("accept", "*/*")]), 1 => Just(vec![("accept", "x")]), 1 => Just(vec![("if-match", "x")])];
    let path = crate::effect::pattern_tests::any_segments().prop_map(|segments| format!("/{}", segments.join("/")));
    (method, any_origin(), path, query, headers, any_value()).prop_map(
        |(method, origin, path, query, headers, body)| {
            let body = match method {
                Method::Get => GuestBody::None,
                _ => GuestBody::Json(body.to_canonical()),
            };
            let query: Vec<_> = if body_has(&body, &query) { Vec::new() } else { query };
            request(method, &format!("{origin}{path}"), &query, &headers, body)
        },
    )
}

/// Whether the host would refuse these parameters beside that body.
fn body_has(body: &GuestBody, query: &[(&str, &str)]) -> bool {
    matches!(body, GuestBody::Json(text) if text.starts_with('{') && !query.is_empty())
}

proptest! {
    #[test]
    fn reads_back_as_itself(scope in any_scope()) {
        prop_assert_eq!(HttpScope::parse(&scope.to_string()), Ok(scope));
    }

    #[test]
    fn any_text(text in any::<String>()) {
        let _ = crate::scope::fuzz::scope(text.as_bytes());
    }

    #[test]
    fn any_words(text in r#"((GET|POST|,|https://a.com|:[0-9]{1,2}|/[a{}*%2]{0,3}|(reads|fields|query)\([a.\[\]*", ]{0,5}\)|[; ]|read|undo\(a\)){1,8})"#) {
        let _ = crate::scope::fuzz::scope(text.as_bytes());
    }
}

proptest! {
    // One in a hundred requests is covered by both scopes.
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn trap_17_the_intersection_of_scopes_is_exact(a in any_scope(), b in any_scope(), request in any_request()) {
        let both = a.intersect(&b);
        prop_assert_eq!(both.covers(&request).is_ok(), a.covers(&request).is_ok() && b.covers(&request).is_ok());
        for rule in &both.rules {
            prop_assert!(a.rules.iter().any(|a| rule.reads.is_subset(&a.reads)));
            prop_assert!(b.rules.iter().any(|b| rule.reads.is_subset(&b.reads)));
        }
    }
}
