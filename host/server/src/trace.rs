//! W3C Trace Context, as `traceparent` in `_meta`: a call is part of its caller's trace, and its caller learns the call's own place in it.

use ambit_core::digest::Digest;
use ambit_runtime::ids::TraceId;

/// What a request said that it is part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parent {
    /// The trace.
    pub(crate) trace: TraceId,
    /// Whether the caller records it: `01` where it does.
    flags: u8,
}

impl Parent {
    /// From a header's text: version, trace, parent and flags, in lower-case hexadecimal. What is malformed is as if it was not there, as
    /// the recommendation has it.
    pub(crate) fn parse(text: &str) -> Option<Parent> {
        let mut parts = text.split('-');
        let (version, trace) = (hex(parts.next()?, 2)?, parts.next()?);
        let (parent, flags) = (hex(parts.next()?, 16)?, hex(parts.next()?, 2)?);
        // A later version may have more behind; this one has not, and 255 is none.
        let whole = version != 0xff && (version != 0 || parts.next().is_none());
        let trace = trace.parse().ok()?;
        (whole && parent != 0).then(|| Parent {
            trace,
            flags: u8::try_from(flags).unwrap_or_default() & 1,
        })
    }
}

/// The `traceparent` of a call: its trace, a span that is the call's alone, and whether the caller records it.
pub(crate) fn of_call(trace: &TraceId, call: &str, parent: Option<&Parent>) -> String {
    let span = Digest::domain("ambit/span/v1", &[call.as_bytes()]).to_hex();
    let span: String = span.chars().take(16).collect();
    // All zero is no span, and one in 2^64 digests begins so.
    let span = if span.bytes().all(|b| b == b'0') {
        "0000000000000001"
    } else {
        &span
    };
    format!("00-{trace}-{span}-{:02x}", parent.map_or(0, |parent| parent.flags))
}

fn hex(text: &str, digits: usize) -> Option<u64> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let plain = text.len() == digits && text.bytes().all(lower);
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
        assert_eq!(parent.trace.as_str(), TRACE);
        let own = of_call(&parent.trace, "c_x", Some(&parent));
        assert_eq!(Parent::parse(&own).unwrap(), parent);
        assert_ne!(own, of_call(&parent.trace, "c_y", Some(&parent)));
        assert!(own.ends_with("-01") && of_call(&parent.trace, "c_x", None).ends_with("-00"));
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
}
