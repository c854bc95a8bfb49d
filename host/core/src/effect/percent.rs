//! Percent-encoding (RFC 3986, 2.1), in one spelling: upper-case digits, and encoded is all that need not be plain.

use std::borrow::Cow;

/// RFC 3986's unreserved characters: plain everywhere.
pub(super) const fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')
}

/// Appends `text`, encoding the bytes that are not `plain`.
pub(super) fn push_encoded(out: &mut String, text: &str, plain: impl Fn(u8) -> bool) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    for b in text.bytes() {
        if b.is_ascii() && plain(b) {
            out.push(char::from(b));
        } else {
            out.push('%');
            out.extend(DIGITS.get(usize::from(b >> 4)));
            out.extend(DIGITS.get(usize::from(b & 15)));
        }
    }
}

/// Why a text is not percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undecodable {
    /// A `%` without two hexadecimal digits.
    Percent,
    /// Bytes that are no UTF-8.
    Utf8,
}

/// Decodes every `%XX` once.
pub(super) fn decode(text: &str) -> Result<Cow<'_, str>, Undecodable> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'%' => hex(bytes.next(), bytes.next()).ok_or(Undecodable::Percent)?,
            plain => plain,
        });
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| Undecodable::Utf8)
}

/// Whether there is a `%XX` in `text`.
pub(super) fn has_encoded(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' && hex(tail.first().copied(), tail.get(1).copied()).is_some() {
            return true;
        }
        rest = tail;
    }
    false
}

fn hex(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |b: Option<u8>| char::from(b?).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}
