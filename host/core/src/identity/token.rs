//! Signed tokens (RFC 7519, in the compact form of RFC 7515): what is looked at before any key is.
//!
//! A token is read strictly: three parts of base64url, JSON without duplicate members, within bounds. Of its header three members
//! mean something here: `alg`, which the issuer's list must have, `typ` and `kid`. A key or an address of one that a token brings along
//! (`jwk`, `jku`, `x5c`, `x5u`) is never looked at, and what must be understood (`crit`) is refused.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use super::why::{Denied, Why};
use crate::guard;
use crate::json::{Json, Limits};

/// The longest token, in bytes.
pub const LONGEST_TOKEN: usize = 8 << 10;
/// The longest name of a key, in bytes.
pub const LONGEST_KID: usize = 256;
/// Objects and arrays of a token within each other. An actor of an actor is one more.
const DEPTH: usize = 16;

/// How a token is signed. Those that are not here do not exist: `none`, and all with a shared secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA, P-256, SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA, P-384, SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// RSASSA-PSS, SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// RSASSA-PSS, SHA-384.
    #[serde(rename = "PS384")]
    Ps384,
    /// RSASSA-PSS, SHA-512.
    #[serde(rename = "PS512")]
    Ps512,
    /// RSASSA-PKCS1-v1_5, SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSASSA-PKCS1-v1_5, SHA-384.
    #[serde(rename = "RS384")]
    Rs384,
    /// RSASSA-PKCS1-v1_5, SHA-512.
    #[serde(rename = "RS512")]
    Rs512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::EdDsa,
        Self::Es256,
        Self::Es384,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
    ];
    /// What issuers use, where a configuration says nothing.
    pub const USUAL: [Self; 3] = [Self::EdDsa, Self::Es256, Self::Rs256];

    /// The word of RFC 7518 and RFC 8037.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // RFC 9864 says which of the curves it is; here there is one.
        if text == "Ed25519" {
            return Ok(Self::EdDsa);
        }
        let known = Self::ALL.into_iter().find(|known| known.as_str() == text);
        known.ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str).join(", ");
            format!("one of {all}; `none` and shared secrets (HS256 …) are never accepted")
        })
    }
}

/// A token that was read and not yet verified. Nothing in it is to be believed.
#[derive(Clone, Debug, PartialEq)]
pub struct Token<'t> {
    /// What is signed: header and claims as they came.
    pub signed: &'t str,
    /// The signature's bytes.
    pub signature: Vec<u8>,
    /// How it says that it is signed.
    pub algorithm: Algorithm,
    /// The name of the key that it says it is signed with.
    pub kid: Option<String>,
    /// What it says.
    pub claims: Json,
}

impl<'t> Token<'t> {
    /// Reads a token.
    ///
    /// # Errors
    /// [`Why::Malformed`], [`Why::Algorithm`] for one that is not in [`Algorithm`], [`Why::Critical`], [`Why::Type`].
    pub fn parse(text: &'t str) -> Result<Self, Denied> {
        if !guard!("identity.token-size", text.len() <= LONGEST_TOKEN) {
            return Err(malformed("is longer than 8 KiB"));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or_else(|| malformed("has no signature"))?;
        let (header, claims) = signed.split_once('.').ok_or_else(|| malformed("has two parts"))?;
        if claims.contains('.') {
            return Err(malformed("has more than three parts"));
        }
        let header = part(header, "header")?;
        let (algorithm, kid) = check_header(&header)?;
        Ok(Self {
            signed,
            signature: decode(signature, "signature")?,
            algorithm,
            kid,
            claims: part(claims, "claims")?,
        })
    }

    /// Who says that they issued it.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }
}

fn malformed(what: &str) -> Denied {
    Denied::new(Why::Malformed, format!("the token {what}"))
}

fn decode(text: &str, what: &str) -> Result<Vec<u8>, Denied> {
    BASE64URL_NOPAD
        .decode(text.as_bytes())
        .map_err(|_| malformed(&format!("has a {what} that is not base64url")))
}

/// A part of the token, an object of JSON.
fn part(text: &str, what: &str) -> Result<Json, Denied> {
    let bytes = decode(text, what)?;
    let limits = Limits {
        depth: DEPTH,
        bytes: LONGEST_TOKEN,
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| malformed(&format!("has a {what} that is not UTF-8")))?;
    // What exactly is wrong would quote it.
    let json = Json::parse(text, limits).map_err(|_| malformed(&format!("has a {what} that is no JSON of a token")))?;
    match json {
        Json::Object(_) => Ok(json),
        _ => Err(malformed(&format!("has a {what} that is no object"))),
    }
}

fn check_header(header: &Json) -> Result<(Algorithm, Option<String>), Denied> {
    if !guard!("identity.crit", header.get("crit").is_none()) {
        return Err(Denied::new(
            Why::Critical,
            "the token has a header that must be understood (`crit`), and none is here",
        ));
    }
    let typ = match header.get("typ") {
        None => None,
        Some(typ) => Some(typ.as_str().ok_or_else(|| malformed("has a `typ` that is no text"))?),
    };
    // Without a type it may be an access token: many are sent so. With another one it was made for something else.
    if !guard!("identity.typ", typ.is_none_or(is_access_token)) {
        return Err(Denied::new(
            Why::Type,
            "the token is of another type: an access token is `at+jwt` or `JWT`",
        ));
    }
    let kid = match header.get("kid") {
        None => None,
        Some(Json::String(kid)) if kid.len() <= LONGEST_KID => Some(kid.clone()),
        Some(_) => return Err(malformed("has a `kid` that is no text of up to 256 bytes")),
    };
    let algorithm = header.get("alg").and_then(Json::as_str);
    let algorithm = algorithm.ok_or_else(|| malformed("has no `alg`"))?;
    let algorithm = algorithm.parse().map_err(|_| {
        Denied::new(
            Why::Algorithm,
            "the token is signed in a way that is never accepted: not at all, with a shared secret, or unknown",
        )
    })?;
    Ok((algorithm, kid))
}

/// As RFC 9068 and RFC 7519 name the types, in any case.
fn is_access_token(typ: &str) -> bool {
    let short = typ.get(..12).filter(|start| start.eq_ignore_ascii_case("application/"));
    let name = short.and_then(|start| typ.get(start.len()..)).unwrap_or(typ);
    name.eq_ignore_ascii_case("at+jwt") || name.eq_ignore_ascii_case("JWT")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        format!("{}.{}.c2ln", part(header), part(claims))
    }

    fn why(text: &str) -> Option<Why> {
        Token::parse(text).err().map(|denied| denied.why)
    }

    #[test]
    fn a_token_is_read_in_its_three_parts() {
        // RFC 7515, appendix A.2: an expired token of another world, which is read all the same.
        let text = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.c2ln";
        let token = Token::parse(text).unwrap();
        assert_eq!((token.algorithm, token.kid.as_deref()), (Algorithm::Rs256, None));
        assert_eq!(token.issuer(), Some("joe"));
        assert_eq!(token.signature, b"sig");
        assert_eq!(format!("{}.c2ln", token.signed), text);
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = r#"{"alg":"RS256"}"#;
        for text in [
            "",
            "a",
            "a.b",
            "a.b.c.d",
            "..",
            &token(good, "[]"),
            &token(good, "1"),
            &token(good, r#"{"iss":"a","iss":"b"}"#),
            &token(r#"{"alg":"RS256","alg":"none"}"#, "{}"),
            &token(r#"{"alg":"RS256","\u0061lg":"none"}"#, "{}"),
            &token("{}", "{}"),
            &token(r#"{"alg":1}"#, "{}"),
            &token(r#"{"alg":"RS256","typ":1}"#, "{}"),
            &token(r#"{"alg":"RS256","kid":7}"#, "{}"),
            &token(&format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(257)), "{}"),
            &token(good, "{}").replace(".c2ln", ".c2l="),
            &token(good, "{}").replace(".c2ln", ".c2+n"),
            &token(good, "\u{0}"),
        ] {
            assert_eq!(why(text), Some(Why::Malformed), "{text}");
        }
    }

    #[test]
    fn a_token_has_a_size_and_a_depth() {
        let header = r#"{"alg":"RS256"}"#;
        let padded = |bytes: usize| token(header, &format!(r#"{{"x":"{}"}}"#, "x".repeat(bytes)));
        assert_eq!(why(&padded(6_000)), None);
        assert_eq!(why(&padded(6_200)), Some(Why::Malformed));
        assert!(padded(6_200).len() > LONGEST_TOKEN);
        let deep = |levels: usize| {
            token(
                header,
                &format!("{}1{}", r#"{"act":"#.repeat(levels), "}".repeat(levels)),
            )
        };
        assert_eq!(why(&deep(16)), None);
        assert_eq!(why(&deep(17)), Some(Why::Malformed));
        assert_eq!(why(&deep(700)), Some(Why::Malformed));
    }

    #[test]
    fn what_must_be_understood_is_not() {
        for header in [
            r#"{"alg":"RS256","crit":["exp"],"exp":1}"#,
            r#"{"alg":"RS256","crit":[]}"#,
            r#"{"alg":"RS256","crit":null}"#,
            r#"{"alg":"RS256","b64":false,"crit":["b64"]}"#,
        ] {
            assert_eq!(why(&token(header, "{}")), Some(Why::Critical), "{header}");
        }
    }

    #[test]
    fn a_token_for_something_else_is_no_access_token() {
        let typed = |typ: &str| why(&token(&format!(r#"{{"alg":"RS256","typ":"{typ}"}}"#), "{}"));
        for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "JWT", "jwt"] {
            assert_eq!(typed(typ), None, "{typ}");
        }
        for typ in [
            "logout+jwt",
            "secevent+jwt",
            "dpop+jwt",
            "JWE",
            "",
            "application/",
            "é+jwt",
        ] {
            assert_eq!(typed(typ), Some(Why::Type), "{typ}");
        }
    }

    #[test]
    fn no_signature_and_shared_secrets_are_no_algorithms() {
        for alg in [
            "none", "None", "NONE", "HS256", "HS384", "HS512", "rs256", "ES256K", "RSA-OAEP", "",
        ] {
            let found = why(&token(&format!(r#"{{"alg":"{alg}"}}"#), "{}"));
            assert_eq!(found, Some(Why::Algorithm), "{alg}");
        }
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
            assert_eq!(serde_json::to_value(algorithm).unwrap(), algorithm.as_str());
        }
    }
}
