//! The keys that an issuer signs with, as it publishes them (RFC 7517, RFC 8037).
//!
//! The document comes from elsewhere. What is not understood in it is passed over, as the RFC asks; what is left is either a public
//! key of a known kind with members of the right length, or not there.

use data_encoding::BASE64URL_NOPAD;

use super::token::{Algorithm, LONGEST_KID};
use super::why::{Denied, Why};
use crate::guard;
use crate::json::{Json, Limits};

/// The largest document of keys, in bytes.
pub const LARGEST_SET: usize = 256 << 10;
/// Most keys of one issuer. What comes after them in the document is not looked at.
const MOST_KEYS: usize = 64;
/// Bits of an RSA modulus: fewer are too few, and more cost whoever verifies too much.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// RSA: modulus and exponent, big-endian, without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// A point of P-256, uncompressed.
    P256(Vec<u8>),
    /// A point of P-384, uncompressed.
    P384(Vec<u8>),
    /// Ed25519.
    Ed25519(Vec<u8>),
}

impl PublicKey {
    /// Whether such a key signs in this way. What a token says of its algorithm never decides what a key's bytes are taken for.
    #[must_use]
    pub const fn fits(&self, algorithm: Algorithm) -> bool {
        matches!(
            (self, algorithm),
            (
                Self::Rsa { .. },
                Algorithm::Rs256
                    | Algorithm::Rs384
                    | Algorithm::Rs512
                    | Algorithm::Ps256
                    | Algorithm::Ps384
                    | Algorithm::Ps512
            ) | (Self::P256(_), Algorithm::Es256)
                | (Self::P384(_), Algorithm::Es384)
                | (Self::Ed25519(_), Algorithm::EdDsa)
        )
    }
}

/// A key of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    /// Its name, where it has one.
    pub kid: Option<String>,
    /// The one algorithm that it is for, where it says so.
    pub algorithm: Option<Algorithm>,
    /// The key.
    pub key: PublicKey,
}

/// The keys of an issuer that can verify a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet(Vec<Jwk>);

impl KeySet {
    /// Reads a document of keys. Keys that are not for signatures, of other kinds, or broken are passed over.
    ///
    /// # Errors
    /// Where it is no such document, or is too large: one clause.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
        let limits = Limits {
            depth: 8,
            bytes: LARGEST_SET,
        };
        let set = Json::parse(text, limits).map_err(|error| format!("is not JSON: {error}"))?;
        let keys = set.get("keys").and_then(Json::as_array);
        let keys = keys.ok_or_else(|| "has no list of `keys`".to_owned())?;
        let read: Vec<Jwk> = keys.iter().take(MOST_KEYS).filter_map(jwk).collect();
        // Two keys of one name and kind would let whoever wrote the second choose which one counts.
        let twins = |one: &Jwk| {
            let same = |other: &&Jwk| other.kid == one.kid && one.kid.is_some() && same_kind(&one.key, &other.key);
            read.iter().filter(same).count() > 1
        };
        Ok(Self(read.iter().filter(|key| !twins(key)).cloned().collect()))
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key that verifies a token signed so, with the key of this name: one that has the name and fits the algorithm, or, for a token
    /// that names none, the only one that fits.
    ///
    /// # Errors
    /// [`Why::UnknownKey`] where there is none, or several.
    pub fn find(&self, algorithm: Algorithm, kid: Option<&str>) -> Result<&PublicKey, Denied> {
        let fits = |key: &Jwk| {
            let said = key.algorithm.is_none_or(|only| only == algorithm);
            guard!("identity.key-kind", said && key.key.fits(algorithm))
        };
        let named = |key: &Jwk| kid.is_none() || key.kid.as_deref() == kid;
        let mut found = self.0.iter().filter(|key| named(key) && fits(key));
        let first = found.next();
        // Without a name, trying keys one after another would make a forger's work cheaper and mistakes harder to see.
        if !guard!("identity.kid", kid.is_some() || found.next().is_none()) {
            return Err(Denied::new(
                Why::UnknownKey,
                "the token does not say with which of the issuer's keys it is signed (`kid`)",
            ));
        }
        first.map(|key| &key.key).ok_or_else(|| {
            Denied::new(
                Why::UnknownKey,
                "the token is signed with a key that its issuer does not publish",
            )
        })
    }
}

const fn same_kind(one: &PublicKey, other: &PublicKey) -> bool {
    matches!(
        (one, other),
        (PublicKey::Rsa { .. }, PublicKey::Rsa { .. })
            | (PublicKey::P256(_), PublicKey::P256(_))
            | (PublicKey::P384(_), PublicKey::P384(_))
            | (PublicKey::Ed25519(_), PublicKey::Ed25519(_))
    )
}

/// One key of the list; none where it is not a public key for signatures that is known here.
fn jwk(json: &Json) -> Option<Jwk> {
    let text = |name: &str| json.get(name).and_then(Json::as_str);
    let for_signatures = match json.get("use") {
        None => true,
        Some(used) => used.as_str() == Some("sig"),
    };
    let verifies = match json.get("key_ops") {
        None => true,
        Some(operations) => operations
            .as_array()?
            .iter()
            .any(|operation| operation.as_str() == Some("verify")),
    };
    let kid = match json.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str().filter(|kid| kid.len() <= LONGEST_KID)?.to_owned()),
    };
    let algorithm = match json.get("alg") {
        None => None,
        Some(algorithm) => Some(algorithm.as_str()?.parse().ok()?),
    };
    let key = match (text("kty")?, text("crv")) {
        ("RSA", _) => rsa(text("n")?, text("e")?)?,
        ("EC", Some("P-256")) => PublicKey::P256(point(text("x")?, text("y")?, 32)?),
        ("EC", Some("P-384")) => PublicKey::P384(point(text("x")?, text("y")?, 48)?),
        ("OKP", Some("Ed25519")) => PublicKey::Ed25519(exactly(text("x")?, 32)?),
        _ => return None,
    };
    (for_signatures && verifies).then_some(Jwk { kid, algorithm, key })
}

fn exactly(text: &str, length: usize) -> Option<Vec<u8>> {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    (bytes.len() == length).then_some(bytes)
}

fn point(x: &str, y: &str, length: usize) -> Option<Vec<u8>> {
    let mut point = vec![4];
    point.extend(exactly(x, length)?);
    point.extend(exactly(y, length)?);
    Some(point)
}

fn rsa(n: &str, e: &str) -> Option<PublicKey> {
    let number = |text: &str| -> Option<Vec<u8>> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Some(bytes.get(zeros..)?.to_vec())
    };
    let (n, e) = (number(n)?, number(e)?);
    // Whether the exponent is a sound one is the verifier's to judge; one this long is none.
    (RSA_BYTES.contains(&n.len()) && (1..=5).contains(&e.len())).then_some(PublicKey::Rsa { n, e })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 8037, appendix A.2.
    const ED25519: &str =
        r#"{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    /// RFC 7515, appendix A.3.
    const P256: &str = r#"{"kty":"EC","crv":"P-256","kid":"ec","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

    fn rsa_key(kid: &str) -> String {
        let n = BASE64URL_NOPAD.encode(&[0xc1; 256]);
        format!(r#"{{"kty":"RSA","kid":"{kid}","n":"{n}","e":"AQAB"}}"#)
    }

    fn set(keys: &[&str]) -> KeySet {
        KeySet::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes()).unwrap()
    }

    #[test]
    fn a_key_is_found_by_its_name_and_its_kind() {
        let keys = set(&[ED25519, P256, &rsa_key("rsa")]);
        assert_eq!(keys.len(), 3);
        assert!(matches!(
            keys.find(Algorithm::EdDsa, Some("ed")),
            Ok(PublicKey::Ed25519(_))
        ));
        assert!(matches!(keys.find(Algorithm::Es256, None), Ok(PublicKey::P256(_))));
        assert!(matches!(
            keys.find(Algorithm::Ps512, Some("rsa")),
            Ok(PublicKey::Rsa { .. })
        ));
        for (algorithm, kid) in [
            // A key of one kind is never taken for one of another.
            (Algorithm::Rs256, Some("ec")),
            (Algorithm::Es256, Some("rsa")),
            (Algorithm::Es384, Some("ec")),
            (Algorithm::EdDsa, Some("ec")),
            (Algorithm::EdDsa, Some("other")),
            (Algorithm::Es384, None),
        ] {
            assert_eq!(
                keys.find(algorithm, kid).unwrap_err().why,
                Why::UnknownKey,
                "{algorithm} {kid:?}"
            );
        }
    }

    #[test]
    fn a_key_for_one_algorithm_is_for_no_other() {
        let only = rsa_key("rsa").replace(r#""e""#, r#""alg":"RS256","e""#);
        let keys = set(&[&only]);
        assert!(keys.find(Algorithm::Rs256, Some("rsa")).is_ok());
        assert!(keys.find(Algorithm::Rs512, Some("rsa")).is_err());
    }

    /// RFC 9864.
    #[test]
    fn a_key_that_says_its_curve_is_for_tokens_of_either_word() {
        let keys = set(&[&ED25519.replace(r#""kid""#, r#""alg":"Ed25519","kid""#)]);
        for word in ["EdDSA", "Ed25519"] {
            assert!(keys.find(word.parse().unwrap(), Some("ed")).is_ok(), "{word}");
        }
        assert!(set(&[&ED25519.replace(r#""kid""#, r#""alg":"Ed448","kid""#)]).is_empty());
    }

    #[test]
    fn of_several_keys_a_token_names_one() {
        let keys = set(&[&rsa_key("one"), &rsa_key("two")]);
        assert!(keys.find(Algorithm::Rs256, None).is_err());
        assert!(keys.find(Algorithm::Rs256, Some("two")).is_ok());
    }

    #[test]
    fn what_is_no_key_for_signatures_is_passed_over() {
        let x = BASE64URL_NOPAD.encode(&[1; 32]);
        for bad in [
            r#"{"kty":"oct","kid":"s","k":"c2VjcmV0"}"#.to_owned(),
            rsa_key("r").replace(r#""e""#, r#""use":"enc","e""#),
            rsa_key("r").replace(r#""e""#, r#""use":1,"e""#),
            rsa_key("r").replace(r#""e""#, r#""key_ops":["encrypt"],"e""#),
            rsa_key("r").replace(r#""e""#, r#""key_ops":"verify","e""#),
            rsa_key("r").replace(r#""e""#, r#""alg":"HS256","e""#),
            rsa_key("r").replace(r#""e""#, r#""alg":7,"e""#),
            rsa_key("r").replace("AQAB", "AQABAQABAQAB"),
            rsa_key("r").replace("AQAB", ""),
            format!(
                r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#,
                BASE64URL_NOPAD.encode(&[9; 128])
            ),
            format!(
                r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#,
                BASE64URL_NOPAD.encode(&[9; 2048])
            ),
            format!(r#"{{"kty":"OKP","crv":"X25519","x":"{x}"}}"#),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}AA"}}"#),
            format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}"}}"#),
            format!(r#"{{"kty":"EC","crv":"P-521","x":"{x}","y":"{x}"}}"#),
            rsa_key(&"k".repeat(300)),
            "7".into(),
            "null".into(),
            "[]".into(),
            "{}".into(),
        ] {
            assert!(set(&[&bad]).is_empty(), "{bad}");
            assert_eq!(set(&[&bad, ED25519]).len(), 1, "{bad}");
        }
    }

    #[test]
    fn two_keys_of_one_name_are_none() {
        assert!(set(&[&rsa_key("same"), &rsa_key("same")]).is_empty());
    }

    #[test]
    fn a_document_has_a_form_and_a_size() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"keys":{}}"#,
            r#"{"keys":[],"keys":[]}"#,
            "\u{feff}{}",
        ] {
            assert!(KeySet::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(KeySet::parse(&[0xff, 0xfe]).is_err());
        let many = vec![ED25519.replace("\"ed\"", "null"); 3];
        assert!(set(&many.iter().map(String::as_str).collect::<Vec<_>>()).is_empty());
        let long = format!(r#"{{"keys":[{}]}}"#, vec![P256; 2_000].join(","));
        assert!(KeySet::parse(long.as_bytes()).is_err());
        let some: Vec<String> = (0..200).map(|n| P256.replace("\"ec\"", &format!("\"{n}\""))).collect();
        assert_eq!(
            set(&some.iter().map(String::as_str).collect::<Vec<_>>()).len(),
            MOST_KEYS
        );
    }

    proptest! {
        #[test]
        fn no_document_ends_the_host(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(KeySet::parse(&bytes));
        }
    }
}
