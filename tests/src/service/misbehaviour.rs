//! Ways in which a service goes wrong or turns hostile, chosen by the name of the charge that is asked for.

use std::time::Duration;

use bytes::Bytes;
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};

use super::stripe::{Answer, Asked, Delivery};

/// One way to go wrong. The word in a charge's name is the variant's in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// 302 to a plain HTTP address on loopback: the service's own admin port.
    Redirect,
    /// 307 to another path of the same origin, with the method and body to be sent again.
    RedirectInside,
    /// No answer for twenty seconds.
    Slow,
    /// The head of an answer, then one byte every 200 ms.
    Trickle,
    /// 64 MiB in chunks, no length announced.
    Huge,
    /// A length of 64 MiB announced, and sent.
    Long,
    /// A body in gzip that nobody asked for.
    Gzip,
    /// The bearer token in the body and a header: plain, base64, hex, URL-encoded.
    Echo,
    /// 429 with `Retry-After: 0`: a pause would outlast the call, and hold up the next one.
    Limited,
    /// The connection ends in the middle of a body.
    Broken,
    /// The connection ends instead of an answer; what was asked for is done.
    Dropped,
    /// 200 with HTML.
    Html,
    /// `application/json` that does not parse.
    Garbled,
    /// JSON that names a member twice.
    Duplicate,
    /// JSON 100,000 levels deep.
    Deep,
    /// 500 with an error object.
    Failing,
    /// A header of 256 KiB.
    Headers,
    /// The charge, without its currency.
    NoCurrency,
    /// The charge, with `US Dollars` for a currency.
    OddCurrency,
    /// 200 and a refund that was never made.
    Lying,
}

const NAMES: [(&str, Misbehaviour); 20] = [
    ("redirect", Misbehaviour::Redirect),
    ("redirect_inside", Misbehaviour::RedirectInside),
    ("slow", Misbehaviour::Slow),
    ("trickle", Misbehaviour::Trickle),
    ("huge", Misbehaviour::Huge),
    ("long", Misbehaviour::Long),
    ("gzip", Misbehaviour::Gzip),
    ("echo", Misbehaviour::Echo),
    ("limited", Misbehaviour::Limited),
    ("broken", Misbehaviour::Broken),
    ("dropped", Misbehaviour::Dropped),
    ("html", Misbehaviour::Html),
    ("garbled", Misbehaviour::Garbled),
    ("duplicate", Misbehaviour::Duplicate),
    ("deep", Misbehaviour::Deep),
    ("failing", Misbehaviour::Failing),
    ("headers", Misbehaviour::Headers),
    ("no_currency", Misbehaviour::NoCurrency),
    ("odd_currency", Misbehaviour::OddCurrency),
    ("lying", Misbehaviour::Lying),
];

const MIB: usize = 1 << 20;

impl Misbehaviour {
    /// What reading this charge does.
    pub fn of_reading(charge: &str) -> Option<Self> {
        Self::named(charge.strip_prefix("ch_")?)
    }

    /// What refunding this charge does.
    pub fn of_refunding(charge: &str) -> Option<Self> {
        Self::named(charge.strip_prefix("ch_refund_")?)
    }

    fn named(word: &str) -> Option<Self> {
        NAMES.iter().find(|(name, _)| *name == word).map(|(_, kind)| *kind)
    }

    /// Spoils an answer.
    pub(super) fn spoil(self, honest: Answer, asked: &Asked, admin_port: u16) -> Answer {
        match self {
            Self::Redirect => redirect(302, format!("http://127.0.0.1:{admin_port}/latest/meta-data/")),
            Self::RedirectInside => redirect(307, "/v1/payouts".to_owned()),
            Self::Slow => Answer {
                delay: Duration::from_secs(20),
                ..honest
            },
            Self::Trickle => Answer {
                delivery: Delivery::Trickle(Duration::from_millis(200)),
                ..honest
            },
            Self::Huge => Answer {
                delivery: Delivery::Chunked,
                ..text(filler())
            },
            Self::Long => text(filler()),
            Self::Gzip => text(gzipped(&honest.body)).header("content-encoding", "gzip"),
            Self::Echo => echo(honest, asked),
            Self::Limited => Answer::error(429, "rate_limit", "Too many requests").header("retry-after", "0"),
            Self::Broken => Answer {
                delivery: Delivery::Broken,
                ..honest
            },
            Self::Dropped => Answer {
                delivery: Delivery::Dropped,
                ..honest
            },
            Self::Html => text("<html><body>Scheduled maintenance</body></html>").header("content-type", "text/html"),
            Self::Garbled => text("{\"id\":\"ch_garbled\",\"amount\":"),
            Self::Duplicate => text(r#"{"id":"ch_duplicate","amount":1,"amount":1000000,"currency":"usd"}"#),
            Self::Deep => text(format!("{{\"id\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000))),
            Self::Failing => Answer::error(500, "api_error", "Something went wrong on our end"),
            Self::Headers => honest.header("x-filler", "x".repeat(256 << 10)),
            Self::NoCurrency => honest.without("currency"),
            Self::OddCurrency => honest.with("currency", "US Dollars"),
            Self::Lying => honest,
        }
    }
}

fn text(body: impl Into<Bytes>) -> Answer {
    Answer {
        body: body.into(),
        ..Answer::json(200, &serde_json::Value::Null)
    }
}

fn redirect(status: u16, location: String) -> Answer {
    Answer { status, ..text("") }.header("location", location)
}

fn filler() -> Bytes {
    let mut body = b"{\"id\":\"ch_huge\",\"filler\":\"".to_vec();
    body.resize(64 * MIB - 2, b'x');
    body.extend(b"\"}");
    body.into()
}

/// The token in every spelling that must be masked, in a member that tools may read.
fn echo(honest: Answer, asked: &Asked) -> Answer {
    let token = asked.token.as_deref().unwrap_or_default();
    let bytes = token.as_bytes();
    let encoded: String = form_urlencoded::byte_serialize(bytes).collect();
    let spellings = format!(
        "plain {token} base64 {} base64url {} hex {} url {encoded}",
        BASE64.encode(bytes),
        BASE64URL_NOPAD.encode(bytes),
        HEXLOWER.encode(bytes),
    );
    honest.with("status", spellings).header("x-echo", token)
}

/// A gzip file whose only block is stored as it is: no compressor is needed to make one (RFC 1951, 3.2.4).
fn gzipped(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("answers are small");
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    file.extend(length.to_le_bytes());
    file.extend((!length).to_le_bytes());
    file.extend(body);
    file.extend(crc32(body).to_le_bytes());
    file.extend(u32::from(length).to_le_bytes());
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| {
        if crc & 1 == 1 {
            (crc >> 1) ^ 0xedb8_8320
        } else {
            crc >> 1
        }
    };
    !bytes
        .iter()
        .fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_and_refunding_go_wrong_apart() {
        assert_eq!(Misbehaviour::of_reading("ch_slow"), Some(Misbehaviour::Slow));
        assert_eq!(Misbehaviour::of_refunding("ch_slow"), None);
        assert_eq!(Misbehaviour::of_reading("ch_refund_slow"), None);
        assert_eq!(Misbehaviour::of_refunding("ch_refund_slow"), Some(Misbehaviour::Slow));
        assert_eq!(Misbehaviour::of_reading("ch_1"), None);
    }

    #[test]
    fn checksums_are_those_of_gzip() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
