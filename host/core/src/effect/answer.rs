//! Answers: what of a service's answer a guest may see.

use super::{GuestResponse, HeaderSet};
use crate::field::FieldSet;
use crate::json::{Json, Limits};

/// Reduces an answer to what was declared and routed.
///
/// `reads` and `named` are what scope and route both allow. Of a JSON body the covered scalars are left. Any other body
/// is withheld, unless `reads` is everything and the body is UTF-8 text. Of the headers `content-type` is left, and those
/// that `named` has; a header that is no text is dropped.
///
/// The gate calls this, after the credential's values were masked in `headers` and `body`.
#[must_use]
pub fn answer<'a>(
    status: u16,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    body: &[u8],
    reads: &FieldSet,
    named: &HeaderSet,
    limits: Limits,
) -> GuestResponse {
    let headers = readable_headers(headers, named);
    let body = readable_body(&headers, body, reads, limits);
    GuestResponse { status, headers, body }
}

const CONTENT_TYPE: &str = "content-type";

fn readable_headers<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    named: &HeaderSet,
) -> Vec<(String, String)> {
    let text = |value: &[u8]| {
        let value = std::str::from_utf8(value).ok()?;
        (!value.contains(char::is_control)).then(|| value.to_owned())
    };
    let readable = |(name, value): (&str, &[u8])| {
        let name = name.to_ascii_lowercase();
        let allowed = crate::guard!("wire.answer-headers", name == CONTENT_TYPE || named.contains(&name));
        allowed.then(|| text(value)).flatten().map(|value| (name, value))
    };
    headers.into_iter().filter_map(readable).collect()
}

fn readable_body(headers: &[(String, String)], body: &[u8], reads: &FieldSet, limits: Limits) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    if text.is_empty() || reads.is_empty() {
        return None;
    }
    if is_json(headers)
        && let Ok(value) = Json::parse(text.trim_start_matches('\u{feff}'), limits)
    {
        return Some(reads.project(value).to_canonical());
    }
    crate::guard!("wire.answer-not-json", reads.is_everything()).then(|| text.to_owned())
}

/// Whether the one content type is JSON or a dialect of it.
fn is_json(headers: &[(String, String)]) -> bool {
    let mut types = headers.iter().filter(|(name, _)| name == CONTENT_TYPE);
    let (Some((_, value)), None) = (types.next(), types.next()) else {
        return false;
    };
    let media = value.split(';').next().unwrap_or("").trim_ascii().to_ascii_lowercase();
    media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(content_type: &str, body: &[u8], reads: &str) -> Option<String> {
        let headers: [(&str, &[u8]); 1] = [("Content-Type", content_type.as_bytes())];
        answer(
            200,
            headers,
            body,
            &reads.parse().unwrap(),
            &HeaderSet::new(),
            Limits::default(),
        )
        .body
    }

    #[track_caller]
    fn check(content_type: &str, body: &str, reads: &str, expected: Option<&str>) {
        assert_eq!(seen(content_type, body.as_bytes(), reads).as_deref(), expected);
    }

    #[test]
    fn json_is_projected() {
        let body = r#"{"id": "re_1", "secret": 1, "card": {"last4": "42", "name": "N"}}"#;
        check(
            "application/json",
            body,
            "id, card.last4",
            Some(r#"{"card":{"last4":"42"},"id":"re_1"}"#),
        );
        check("Application/JSON; charset=utf-8", body, "id", Some(r#"{"id":"re_1"}"#));
        check("application/problem+json", body, "id", Some(r#"{"id":"re_1"}"#));
        check("application/json", body, "", None);
        check("application/json", "\u{feff}{\"id\":1.50}", "id", Some(r#"{"id":1.5}"#));
        check("application/json", r#""secret""#, "id", Some("null"));
    }

    #[test]
    fn what_is_not_json_is_withheld() {
        for (content_type, body) in [
            ("text/html", "<p>id</p>"),
            ("text/plain", r#"{"id": 1}"#),
            ("", r#"{"id": 1}"#),
            ("application/jsonp", r#"{"id": 1}"#),
            ("application/json", r#"{"id": 1, "id": 2}"#),
            ("application/json", r#"{"id": 1"#),
            ("application/json", "NaN"),
        ] {
            check(content_type, body, "id", None);
            check(content_type, body, "**", Some(body));
        }
        assert_eq!(seen("application/json", b"\xff", "**"), None);
        check("application/json", "", "**", None);
    }

    #[test]
    fn only_named_headers_are_seen() {
        let headers: [(&str, &[u8]); 7] = [
            ("content-type", b"text/plain"),
            ("ETag", b"\"1\""),
            ("set-cookie", b"session=1"),
            ("x-request-id", b"req_1"),
            ("link", b"\xff"),
            ("location", b"a\x1bb"),
            ("content-type", b"application/json"),
        ];
        let named = "etag, link, location".parse().unwrap();
        let answer = answer(
            302,
            headers,
            b"{\"id\":1}",
            &"id".parse().unwrap(),
            &named,
            Limits::default(),
        );
        let seen: Vec<_> = answer
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                ("content-type", "text/plain"),
                ("etag", "\"1\""),
                ("content-type", "application/json")
            ]
        );
        assert_eq!((answer.status, answer.body), (302, None));
    }
}
