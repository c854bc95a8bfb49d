//! SHA-256 digests, written `sha256:<64 lower-case hexadecimal digits>` everywhere.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "sha256:";

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes` alone, as `sha256sum` prints it.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of a sequence of `parts` under a `tag` that says what they are.
    ///
    /// The tag and each part go in behind their length (64 bits, big-endian), and the number of parts comes first, so
    /// two different sequences never hash the same bytes and a digest made for one purpose means nothing for another.
    #[must_use]
    pub fn domain(tag: &str, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update((tag.len() as u64).to_be_bytes());
        hash.update(tag.as_bytes());
        hash.update((parts.len() as u64).to_be_bytes());
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// A digest read from elsewhere, such as a database row.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits without `sha256:`, for file names.
    #[must_use]
    pub fn to_hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

/// A digest's text, on the stack: every ledger entry prints half a dozen.
struct Text([u8; Text::LEN]);

impl Text {
    const LEN: usize = PREFIX.len() + 64;

    fn of(digest: &Digest) -> Self {
        let mut text = [0; Self::LEN];
        let (prefix, digits) = text.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX.as_bytes());
        // The encoder for any alphabet takes three times as long.
        let (pairs, _) = digits.as_chunks_mut::<2>();
        for (pair, byte) in pairs.iter_mut().zip(digest.0) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        Self(text)
    }

    fn as_str(&self) -> &str {
        // It is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The digit of a number below 16.
const fn digit(number: u8) -> u8 {
    match number {
        0..=9 => b'0' + number,
        _ => b'a' - 10 + number,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Text::of(self).as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is `sha256:` and 64 lower-case hexadecimal digits")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let hex = text.strip_prefix(PREFIX).ok_or(NotADigest)?;
        let bytes = HEXLOWER.decode(hex.as_bytes()).map_err(|_| NotADigest)?;
        bytes.try_into().map(Self).map_err(|_| NotADigest)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Text::of(self).as_str())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_empty_input_is_the_published_value() {
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), text);
        assert_eq!(text.parse(), Ok(Digest::of(b"")));
        assert_eq!(serde_json::to_string(&Digest::of(b"")).unwrap(), format!("\"{text}\""));
        assert_eq!(
            serde_json::from_str::<Digest>(&format!("\"{text}\"")).unwrap(),
            Digest::of(b"")
        );
    }

    #[test]
    fn every_byte_has_its_two_digits() {
        for first in (0..=u8::MAX).step_by(32) {
            let digest = Digest::from_bytes(std::array::from_fn(|at| first + at as u8));
            assert_eq!(digest.to_string(), format!("{PREFIX}{}", digest.to_hex()));
            assert_eq!(digest.to_string().parse(), Ok(digest));
        }
    }

    #[test]
    fn one_spelling() {
        let text = Digest::of(b"x").to_string();
        for wrong in [
            text.to_uppercase(),
            text.replace(PREFIX, ""),
            format!("{text}0"),
            String::new(),
        ] {
            assert_eq!(wrong.parse::<Digest>(), Err(NotADigest), "{wrong}");
        }
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let whole = Digest::domain("t", &[b"ab"]);
        assert_ne!(whole, Digest::domain("t", &[b"a", b"b"]));
        assert_ne!(whole, Digest::domain("t", &[b"", b"ab"]));
        assert_ne!(whole, Digest::domain("ta", &[b"b"]));
        assert_ne!(whole, Digest::of(b"ab"));
    }
}
