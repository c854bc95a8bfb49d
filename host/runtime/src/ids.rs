//! Identifiers the host makes up.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};

use crate::{clock, random};

/// A call: `c_` and 26 characters of lower-case base32. Of its 128 bits the first 48 are the time in milliseconds since 1970, so that calls
/// of one time stand together in every index of the store, and share the pages that a commit writes; the rest is random.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(String);

impl CallId {
    /// A new id. Who knows when it was made has 80 bits left to guess, and has nothing by it: an id names a call, and permits nothing.
    ///
    /// # Errors
    /// Where the operating system gives no randomness.
    pub fn new() -> Result<CallId, getrandom::Error> {
        let mut bytes = [0_u8; 16];
        random::fill(&mut bytes)?;
        let [_, _, time @ ..] = clock::now_ms().to_be_bytes();
        bytes.iter_mut().zip(time).for_each(|(byte, of_time)| *byte = of_time);
        Ok(CallId(format!(
            "c_{}",
            BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()
        )))
    }

    /// The id as it is written everywhere.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CallId {
    type Err = String;

    fn from_str(text: &str) -> Result<CallId, String> {
        let digits = text.strip_prefix("c_").unwrap_or_default();
        let plain = digits
            .bytes()
            .all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b));
        if digits.len() == 26 && plain {
            Ok(CallId(text.to_owned()))
        } else {
            Err(format!("`{}` is no call's id", ambit_core::error::printable(text)))
        }
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A stop: `s_` and 26 characters of lower-case base32, as a call's id has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StopId(String);

impl StopId {
    /// A new, unpredictable id.
    ///
    /// # Errors
    /// Where the operating system gives no randomness.
    pub(crate) fn random() -> Result<StopId, getrandom::Error> {
        let mut bytes = [0_u8; 16];
        random::fill(&mut bytes)?;
        Ok(StopId(format!(
            "s_{}",
            BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()
        )))
    }

    /// The id as it is written everywhere.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A run: `r_` and 26 characters of lower-case base32 (128 random bits and two zero bits).
///
/// # Errors
/// Where the operating system gives no randomness.
pub fn random_run() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 16];
    random::fill(&mut bytes)?;
    Ok(format!("r_{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()))
}

/// A W3C trace id: 32 lower-case hex digits, not all zero (Trace Context, section 3.2.2.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TraceId(String);

impl TraceId {
    /// A new random trace id.
    ///
    /// # Errors
    /// Where the operating system gives no randomness.
    pub fn random() -> Result<TraceId, getrandom::Error> {
        let mut bytes = [0_u8; 16];
        random::fill(&mut bytes)?;
        bytes[0] |= 1; // never all zero
        Ok(TraceId(HEXLOWER.encode(&bytes)))
    }

    /// The id as it is written everywhere.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TraceId {
    type Err = String;

    fn from_str(text: &str) -> Result<TraceId, String> {
        let hex = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex && text.bytes().any(|b| b != b'0') {
            Ok(TraceId(text.to_owned()))
        } else {
            Err(format!(
                "`{text}` is no trace id: it takes 32 lower-case hex digits, not all zero"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn ids_have_their_form_and_differ() {
        let (a, b) = (CallId::new().unwrap(), CallId::new().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.as_str().len(), 28);
        // Of four minutes, the first six characters; what is random begins with the tenth.
        let (early, late) = (&a.as_str()[..8], &b.as_str()[..8]);
        assert!(early == late || clock::now_ms() & 0x3ffff < 60_000, "{a} and {b}");
        assert_ne!(a.as_str()[12..], b.as_str()[12..]);
        assert!(TraceId::random().unwrap().as_str().parse::<TraceId>().is_ok());
    }

    #[test]
    fn a_trace_id_of_zeros_or_other_letters_is_refused() {
        for bad in ["", "0", &"0".repeat(32), &"A".repeat(32), &"a".repeat(33)] {
            assert!(bad.parse::<TraceId>().is_err(), "{bad}");
        }
    }
}
