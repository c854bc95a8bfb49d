//! What is signed for AWS, and for what speaks its protocol: Signature Version 4.
//!
//! The canonical request is made of what will be sent: method, path and query as they stand on the request line, headers, and the digest
//! of the body. Nothing is signed that is not sent, and all that a guest can choose is signed.

use std::fmt::Write as _;

use crate::digest::Digest;
use crate::ledger::utc;

/// The algorithm's name, in the header and in what is signed.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// For which service, where, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    /// As in `eu-central-1`.
    pub region: &'a str,
    /// As in `dynamodb`. The paths of `s3` are encoded once, those of all others twice.
    pub service: &'a str,
    /// The moment, in seconds since 1970.
    pub time_s: u64,
}

impl Scope<'_> {
    /// The moment as the header `x-amz-date` has it: `20150830T123600Z`.
    #[must_use]
    pub fn date_time(&self) -> String {
        let ms = i64::try_from(self.time_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let text = utc(ms);
        let (seconds, _) = text.split_once('.').unwrap_or((&text, ""));
        let mut plain: String = seconds.chars().filter(|one| !matches!(one, '-' | ':')).collect();
        plain.push('Z');
        plain
    }

    /// Its day: `20150830`.
    #[must_use]
    pub fn date(&self) -> String {
        self.date_time().chars().take(8).collect()
    }

    /// What the signature is good for: day, region and service.
    #[must_use]
    pub fn credential(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.date(), self.region, self.service)
    }

    fn encodes_twice(&self) -> bool {
        self.service != "s3"
    }
}

/// A request as far as it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query, as they are sent.
    pub target: &'a str,
    /// Names in small letters, and values, of the headers that are signed; `host` among them. In any order.
    pub headers: &'a [(String, String)],
    /// The SHA-256 of the body.
    pub body: Digest,
}

impl Signed<'_> {
    /// The names of the signed headers, as the `Authorization` header lists them.
    #[must_use]
    pub fn header_names(&self) -> String {
        let mut names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names.join(";")
    }

    /// The canonical request.
    #[must_use]
    pub fn canonical(&self, scope: &Scope<'_>) -> String {
        let (path, query) = self.target.split_once('?').unwrap_or((self.target, ""));
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "{}\n{}\n{}\n{}\n{}\n{}",
            self.method,
            canonical_path(path, scope.encodes_twice()),
            canonical_query(query),
            self.canonical_headers(),
            self.header_names(),
            self.body.to_hex(),
        );
        text
    }

    /// The text that is signed.
    #[must_use]
    pub fn string_to_sign(&self, scope: &Scope<'_>) -> String {
        let canonical = Digest::of(self.canonical(scope).as_bytes()).to_hex();
        format!(
            "{ALGORITHM}\n{}\n{}\n{canonical}",
            scope.date_time(),
            scope.credential()
        )
    }

    /// A line for each name: values of one name in their order, each without spaces at its ends and with one in place of several.
    fn canonical_headers(&self) -> String {
        let mut sorted: Vec<&(String, String)> = self.headers.iter().collect();
        sorted.sort_by(|one, other| one.0.cmp(&other.0));
        let mut text = String::new();
        let mut last: Option<&str> = None;
        for (name, value) in sorted {
            let value = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            if last == Some(name.as_str()) {
                text.pop();
                let _ = writeln!(text, ",{value}");
            } else {
                let _ = writeln!(text, "{name}:{value}");
            }
            last = Some(name.as_str());
        }
        text
    }
}

/// The path with each segment encoded: of what is sent (so twice), or of what that stands for.
fn canonical_path(path: &str, twice: bool) -> String {
    if path.is_empty() {
        return "/".to_owned();
    }
    let segments = path.split('/').map(|segment| {
        if twice {
            encode(segment.as_bytes())
        } else {
            encode(&decode(segment))
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

/// The pairs, decoded and encoded anew, sorted by name and value. A name without `=` has an empty value.
fn canonical_query(query: &str) -> String {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (encode(&decode(name)), encode(&decode(value)))
    };
    let mut pairs: Vec<(String, String)> = query.split('&').filter(|text| !text.is_empty()).map(pair).collect();
    pairs.sort();
    let pairs = pairs.into_iter().map(|(name, value)| format!("{name}={value}"));
    pairs.collect::<Vec<_>>().join("&")
}

/// All but what RFC 3986 calls unreserved.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// What percent-encoding stands for. The host writes no `+` for a space.
fn decode(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    decoded
}
