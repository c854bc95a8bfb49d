//! W3C Trace Context: a call is part of its caller's trace, and a sending of its call's, where the service may know.
//!
//! Ids of spans are not drawn: that of a call is a digest of its id, and that of a sending one of call, effect and attempt. So the
//! ledger needs no room for them, a replay has the same ones, and whoever reads the ledger later says which span it was that a service saw.
//!
//! Source: the W3C recommendation Trace Context (level 1, 2021), section 3.2, which later levels keep.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The header, and the member of an MCP request's `_meta`.
pub const TRACEPARENT: &str = "traceparent";
/// The header beside it, in which others keep what is theirs. It is read from nobody and sent to nobody: it would carry a caller's words to
/// a service past everything that is decided on.
pub const TRACESTATE: &str = "tracestate";

/// A span's id: 16 lower-case hexadecimal digits, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpanId(u64);

impl SpanId {
    /// Of a call, by its id.
    #[must_use]
    pub fn of_call(call: &str) -> Self {
        Self::of(&[call.as_bytes()])
    }

    /// Of one sending of an effect of a call. The first attempt is 1.
    #[must_use]
    pub fn of_sending(call: &str, ordinal: u32, attempt: u32) -> Self {
        Self::of(&[call.as_bytes(), &ordinal.to_be_bytes(), &attempt.to_be_bytes()])
    }

    fn of(parts: &[&[u8]]) -> Self {
        let digest = Digest::domain("ambit/span/v1", parts);
        let (head, _) = digest.as_bytes().split_first_chunk().unwrap_or((&[0; 8], &[]));
        // All zero is no span, and one in 2^64 digests begins so.
        Self(u64::from_be_bytes(*head).max(1))
    }

    /// Reads an id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        hex(text, 16).filter(|id| *id != 0).map(Self)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<SpanId> for String {
    fn from(id: SpanId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for SpanId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("no span id: 16 lower-case hexadecimal digits, not all zero")
    }
}

/// What a request said that it is part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace: 32 lower-case hexadecimal digits, not all zero.
    pub trace: String,
    /// The caller's span in it.
    pub span: ParentSpan,
}

/// The span of a caller that a call was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParentSpan {
    /// Whether the caller records the trace.
    pub sampled: bool,
    /// Its id.
    pub span: SpanId,
}

impl Parent {
    /// From a header's text: version, trace, parent and flags, in lower-case hexadecimal. What is malformed is as if it was not there, as
    /// the recommendation has it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace) = (hex(parts.next()?, 2)?, parts.next()?);
        let (span, flags) = (SpanId::parse(parts.next()?)?, hex(parts.next()?, 2)?);
        // A later version may have more behind; this one has not, and 255 is none.
        let whole = version != 0xff && (version != 0 || parts.next().is_none());
        let sampled = flags & 1 == 1;
        (whole && is_trace(trace)).then(|| Self {
            trace: trace.to_owned(),
            span: ParentSpan { sampled, span },
        })
    }
}

/// The text of `traceparent`: 55 characters.
#[must_use]
pub fn traceparent(trace: &str, span: SpanId, sampled: bool) -> String {
    format!("00-{trace}-{span}-{:02x}", u8::from(sampled))
}

/// How a call came to the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrival {
    /// The caller's span, where it said one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentSpan>,
    /// The protocol that it was asked for with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// With what agents ask for calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// The HTTP API.
    Api,
    /// The Model Context Protocol.
    Mcp,
}

impl Protocol {
    /// The word, as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Mcp => "mcp",
        }
    }
}

fn is_trace(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(is_digit) && text.bytes().any(|byte| byte != b'0')
}

const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'a'..=b'f')
}

fn hex(text: &str, digits: usize) -> Option<u64> {
    let plain = text.len() == digits && text.bytes().all(is_digit);
    plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_parent_is_read_as_the_recommendation_says() {
        let parent = Parent::parse(&format!("00-{TRACE}-00f067aa0ba902b7-01")).unwrap();
        assert_eq!(parent.trace, TRACE);
        assert_eq!(parent.span.span.to_string(), "00f067aa0ba902b7");
        assert!(parent.span.sampled);
        let again = traceparent(&parent.trace, parent.span.span, parent.span.sampled);
        assert_eq!(Parent::parse(&again).unwrap(), parent);
        let not = Parent::parse(&format!("00-{TRACE}-00f067aa0ba902b7-02")).unwrap();
        assert!(!not.span.sampled);
        assert!(Parent::parse(&format!("cc-{TRACE}-00f067aa0ba902b7-01-what")).is_some());
    }

    #[test]
    fn what_is_malformed_is_not_there() {
        let zeros = "0".repeat(32);
        for bad in [
            "",
            TRACE,
            &format!("00-{TRACE}-00f067aa0ba902b7"),
            &format!("00-{TRACE}-00f067aa0ba902b7-01-what"),
            &format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            &format!("00-{TRACE}-0000000000000000-01"),
            &format!("00-{zeros}-00f067aa0ba902b7-01"),
            &format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            &format!("00-{TRACE}-00F067AA0BA902B7-01"),
            &format!("0x-{TRACE}-00f067aa0ba902b7-01"),
        ] {
            assert_eq!(Parent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_sending_has_a_span_of_its_own_and_the_same_one_again() {
        let ids = [
            SpanId::of_call("c_x"),
            SpanId::of_call("c_y"),
            SpanId::of_sending("c_x", 1, 1),
            SpanId::of_sending("c_x", 1, 2),
            SpanId::of_sending("c_x", 2, 1),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(ids.iter().position(|other| other == id), Some(at));
            assert_eq!(SpanId::parse(&id.to_string()), Some(*id));
        }
        assert_eq!(ids.last(), Some(&SpanId::of_sending("c_x", 2, 1)));
    }
}
