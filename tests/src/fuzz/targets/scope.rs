use ambit_core::effect::{HttpRequest, WireLimits, fuzz as effect};
use ambit_core::scope::{HttpScope, fuzz};

use crate::fuzz::Became;

pub(super) const WORDS: &[&str] = &[
    "GET ",
    "POST ",
    "GET,HEAD ",
    "*",
    "https://a.com",
    "https://a.com:8443",
    "http://a.com",
    "/v1",
    "/{id}",
    "/**",
    "/a",
    "/b",
    "/%7Bid%7D",
    " query(",
    " fields(",
    " reads(",
    " headers(",
    ")",
    "; ",
    "a",
    "b",
    "a.b",
    "a[]",
    "a[].b",
    "a.**",
    "**",
    "\"odd (name\"",
    "if-match",
    "read",
    "draft",
    "commit",
    "undo(cancel)",
    "idempotent",
    "\n--\n",
    "{\"a\":{\"b\":1}}",
    "{\"a\":[{\"b\":1}]}",
    "\n\n",
    "\na=1",
];

/// A scope, or two scopes and a request, separated by lines `--`. Beside what a scope holds of itself: the intersection of two
/// covers exactly the requests that both cover, lets be read no more than either, and does not depend on the order.
pub(super) fn drive(bytes: &[u8]) -> Became {
    let text = String::from_utf8_lossy(bytes);
    let parts: Vec<&str> = text.split("\n--\n").collect();
    let &[first, second, asked] = parts.as_slice() else {
        return fuzz::scope(bytes);
    };
    fuzz::scope(first.as_bytes())?;
    fuzz::scope(second.as_bytes())?;
    let read = |text: &str| HttpScope::parse(text).map_err(|error| error.message);
    let (a, b) = (read(first)?, read(second)?);
    let both = a.intersect(&b);
    no_wider(&both, &a, &b);
    assert_eq!(covered_twice(&a), a.rules().len(), "a scope covers itself: {a}");
    let origin = a.rules().first().ok_or("no rule")?.origin();
    let request =
        HttpRequest::parse(origin, &effect::guest(asked), &WireLimits::default()).map_err(|refusal| refusal.message)?;
    let covers = |scope: &HttpScope| scope.covers(&request).is_ok();
    let each = covers(&a) && covers(&b);
    assert_eq!(covers(&both), each, "{a} and {b}: {both}");
    assert_eq!(covers(&b.intersect(&a)), each, "{b} and {a}");
    assert_eq!(covers(&a.intersect(&a)), covers(&a), "{a} twice");
    if let Ok(rule) = a.covers(&request) {
        let rule = a.rules().get(rule).expect("a rule that the scope has");
        assert!(rule.path().matches(request.segments()) && rule.methods().contains(request.method()));
        assert_eq!(rule.fields().uncovered(request.fields()), None);
        assert_eq!(rule.query().uncovered(request.parameters()), None);
    }
    if each {
        Ok(())
    } else {
        Err("covered by not both".to_owned())
    }
}

/// Each rule of an intersection is within a rule of either.
fn no_wider(both: &HttpScope, a: &HttpScope, b: &HttpScope) {
    for rule in both.rules() {
        for side in [a, b] {
            let within = side.rules().iter().any(|wider| {
                rule.reads().is_subset(wider.reads())
                    && rule.fields().is_subset(wider.fields())
                    && rule.query().is_subset(wider.query())
                    && rule.origin() == wider.origin()
                    && rule.methods().intersect(wider.methods()) == rule.methods()
                    && rule.headers().iter().all(|name| wider.headers().contains(name))
            });
            assert!(within, "{rule} is wider than {side}");
        }
    }
}

/// How many rules of a scope are among those of its intersection with itself.
fn covered_twice(scope: &HttpScope) -> usize {
    let twice = scope.intersect(scope);
    scope.rules().iter().filter(|rule| twice.rules().contains(rule)).count()
}
