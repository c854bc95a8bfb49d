//! What is signed with a shared secret: `credential = { hmac = … }`.
//!
//! The text is four lines, without a line end after the last:
//!
//! ```text
//! 1763769600                 the moment, in whole seconds since 1970, as it stands in the header of the time
//! POST                       the method
//! /v1/refunds?expand=charge  path and query, as they stand on the request line, with the connection's base
//! e3b0c442…                  SHA-256 of the body's bytes, in hexadecimal, small; of nothing where there is no body
//! ```
//!
//! The header has HMAC of these bytes under the secret, with SHA-256 or SHA-512, in small hexadecimal or padded base64.

use std::fmt;

use crate::digest::Digest;

/// With which hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// HMAC-SHA-256.
    Sha256,
    /// HMAC-SHA-512.
    Sha512,
}

/// How the signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal, in small letters.
    Hex,
    /// Base64 with padding.
    Base64,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        })
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hex => "hex",
            Self::Base64 => "base64",
        })
    }
}

/// The text that is signed. `target` is path and query as they are sent.
#[must_use]
pub fn string_to_sign(time_s: u64, method: &str, target: &str, body: &[u8]) -> String {
    format!("{time_s}\n{method}\n{target}\n{}", Digest::of(body).to_hex())
}
