//! Paths: from what a guest wrote to decoded segments, and back to the one way in which the host writes them.

use std::borrow::Cow;

use super::percent::{Undecodable, decode, has_encoded, is_unreserved, push_encoded};
use crate::guard;

/// Why a text is not a path that the host would write.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// An absolute URL, an authority, a relative path, or nothing.
    #[error("it does not begin with `/`: a path names no scheme, host or user")]
    Start,
    /// `//`, or a `/` at the end.
    #[error("it has an empty segment")]
    Empty,
    /// `.` or `..`, in any spelling.
    #[error("it has a dot segment")]
    Dot,
    /// A slash or backslash inside a segment.
    #[error("it has an encoded slash or a backslash")]
    Slash,
    /// `?`, `#` or `;` inside a segment, which services may take for the end of the path.
    #[error("it has a query, a fragment or a `;`; queries are given apart")]
    Delimiter,
    /// A control character.
    #[error("it has a control character")]
    Control,
    /// A `%` without two hexadecimal digits.
    #[error("it has a `%` without two hexadecimal digits")]
    Percent,
    /// What is decoded is no UTF-8.
    #[error("it is not UTF-8 when decoded")]
    Utf8,
    /// What is decoded could be decoded again.
    #[error("it is percent-encoded twice")]
    Twice,
    /// A character that must be percent-encoded.
    #[error("it has a character that must be percent-encoded")]
    Raw,
    /// Too long.
    #[error("it is too long")]
    Long,
}

/// The decoded segments of a percent-encoded `path`. `/` alone has none.
pub(super) fn parse(path: &str, longest: usize) -> Result<Vec<String>, PathFault> {
    if !guard!("wire.path-length", path.len() <= longest) {
        return Err(PathFault::Long);
    }
    let below = path.strip_prefix('/');
    if !guard!("wire.path-start", below.is_some()) {
        return Err(PathFault::Start);
    }
    match below.unwrap_or(path) {
        "" => Ok(Vec::new()),
        segments => segments
            .split('/')
            .map(|raw| segment(raw).map(Cow::into_owned))
            .collect(),
    }
}

/// One decoded segment.
pub(super) fn segment(raw: &str) -> Result<Cow<'_, str>, PathFault> {
    if !guard!("wire.path-raw", raw.bytes().all(is_raw)) {
        return Err(PathFault::Raw);
    }
    let text = decode(raw).map_err(|why| match why {
        Undecodable::Percent => PathFault::Percent,
        Undecodable::Utf8 => PathFault::Utf8,
    })?;
    check_decoded(&text)?;
    Ok(text)
}

/// Whether a decoded segment means the same to every service: nothing in it is a part of URL syntax to some decoder.
fn check_decoded(text: &str) -> Result<(), PathFault> {
    if !guard!("wire.empty-segment", !text.is_empty()) {
        return Err(PathFault::Empty);
    }
    if !guard!("wire.dot-segment", !matches!(text, "." | "..")) {
        return Err(PathFault::Dot);
    }
    if !guard!("wire.encoded-slash", !text.contains(['/', '\\'])) {
        return Err(PathFault::Slash);
    }
    if !guard!("wire.path-delimiter", !text.contains(['?', '#', ';'])) {
        return Err(PathFault::Delimiter);
    }
    if !guard!("wire.path-control", !text.contains(char::is_control)) {
        return Err(PathFault::Control);
    }
    if !guard!("wire.twice-encoded", !has_encoded(text)) {
        return Err(PathFault::Twice);
    }
    Ok(())
}

/// RFC 3986's `pchar`, with `%`.
const fn is_raw(b: u8) -> bool {
    is_unreserved(b)
        || matches!(
            b,
            b'%' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        )
}

/// What the host writes plain in a segment. Fewer than RFC 3986 allows: `*`, `{` and `}` are syntax in scopes and routes,
/// and `+` and `&` are read differently by different services.
const fn is_plain(b: u8) -> bool {
    is_unreserved(b) || matches!(b, b':' | b'@' | b'$' | b',' | b'=')
}

/// Appends a decoded segment as the host writes it.
pub(super) fn push_segment(out: &mut String, segment: &str) {
    push_encoded(out, segment, is_plain);
}

/// The path that the host writes for `segments`.
pub(super) fn write(segments: &[String]) -> String {
    let mut path = String::with_capacity(64);
    for segment in segments {
        path.push('/');
        push_segment(&mut path, segment);
    }
    if path.is_empty() {
        path.push('/');
    }
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(path: &str, segments: &[&str], written: &str) {
        let parsed = parse(path, 2048).unwrap();
        assert_eq!(parsed, segments);
        assert_eq!(write(&parsed), written);
    }

    #[test]
    fn one_spelling() {
        check("/", &[], "/");
        check("/v1/refunds", &["v1", "refunds"], "/v1/refunds");
        check("/%76%31/a%20b", &["v1", "a b"], "/v1/a%20b");
        check("/caf%c3%a9", &["café"], "/caf%C3%A9");
        check("/a:b@c,d=$1", &["a:b@c,d=$1"], "/a:b@c,d=$1");
        check(
            "/Users('x')*+&!",
            &["Users('x')*+&!"],
            "/Users%28%27x%27%29%2A%2B%26%21",
        );
        check("/100%25/%7Bid%7D", &["100%", "{id}"], "/100%25/%7Bid%7D");
        check("/.../.a/a..b", &["...", ".a", "a..b"], "/.../.a/a..b");
    }

    #[test]
    fn refused() {
        use PathFault::*;
        for (path, why) in [
            ("", Start),
            ("v1/refunds", Start),
            ("https://api.stripe.com/v1", Start),
            ("@evil.example/v1", Start),
            ("*", Start),
            ("?x", Start),
            ("//evil.example", Empty),
            ("/v1//refunds", Empty),
            ("/v1/", Empty),
            ("/v1/..", Dot),
            ("/./v1", Dot),
            ("/%2e%2E/v1", Dot),
            ("/v1/.%2e", Dot),
            ("/v1/a%2fb", Slash),
            ("/v1/a%5Cb", Slash),
            ("/v1/\\evil", Raw),
            ("/v1?x=1", Raw),
            ("/v1#x", Raw),
            ("/v1/a b", Raw),
            ("/v1/é", Raw),
            ("/v1\r\nHost: x", Raw),
            ("/v1/\u{7f}", Raw),
            ("/v1/\"", Raw),
            ("/v1/{id}", Raw),
            ("/v1/a%3Fb", Delimiter),
            ("/v1/a%23b", Delimiter),
            ("/v1;x=1", Delimiter),
            ("/..;/v1", Delimiter),
            ("/v1/%00", Control),
            ("/v1/a%0D%0Ab", Control),
            ("/v1/%C2%85", Control),
            ("/v1/%", Percent),
            ("/v1/%2", Percent),
            ("/v1/%2g", Percent),
            ("/v1/%+1", Percent),
            ("/v1/%ff", Utf8),
            ("/v1/%c0%ae", Utf8),
            ("/v1/%ed%a0%80", Utf8),
            ("/v1/%252e%252e", Twice),
            ("/v1/%252F", Twice),
        ] {
            assert_eq!(parse(path, 2048), Err(why), "{path}");
        }
        assert_eq!(parse(&format!("/{}", "x".repeat(2048)), 2048), Err(Long));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(path in r"(/([a-c.]|%[2-57c][0-9a-f]|[:@;*é%]){1,4}){0,3}/?") {
            if let Ok(segments) = parse(&path, 2048) {
                let written = write(&segments);
                prop_assert_eq!(parse(&written, 4096).unwrap(), segments);
            }
        }

        #[test]
        fn any_path(path in any::<String>()) {
            let _ = parse(&format!("/{path}"), 2048);
        }
    }
}
