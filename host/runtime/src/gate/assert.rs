//! What the home says about a caller, signed with a key of the operator's: see [`ambit_core::credential::assertion`].

use std::fmt;

use ambit_core::credential::assertion::{self, Assertion};
use ambit_core::identity::Caller;
use ambit_core::identity::jwk::PublicKey;
use ambit_core::identity::token::Algorithm;
use ambit_core::json::Json;
use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;

use crate::random;
use crate::secret::Secret;

/// A key that signs what the home says.
pub struct SigningKey(Pair);

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm())
    }
}

impl SigningKey {
    /// Reads a private key as `openssl genpkey` writes it: PKCS #8 in PEM form.
    ///
    /// # Errors
    /// One clause, without anything of the key.
    pub fn from_pem(pem: &[u8]) -> Result<SigningKey, String> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem)
            .map_err(|_| "has no private key in PEM form (-----BEGIN PRIVATE KEY-----)".to_owned())?;
        let der = key.secret_pkcs8_der();
        let random = SystemRandom::new();
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(SigningKey(Pair::Ed25519(pair)));
        }
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random) {
            return Ok(SigningKey(Pair::P256(pair)));
        }
        match RsaKeyPair::from_pkcs8(der) {
            Ok(pair) => Ok(SigningKey(Pair::Rsa(Box::new(pair)))),
            Err(_) => Err("is no key of Ed25519, P-256 or RSA (2048 to 4096 bits)".to_owned()),
        }
    }

    /// What it signs as.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match &self.0 {
            Pair::Ed25519(_) => Algorithm::EdDsa,
            Pair::P256(_) => Algorithm::Es256,
            Pair::Rsa(_) => Algorithm::Rs256,
        }
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        match &self.0 {
            Pair::Ed25519(pair) => PublicKey::Ed25519(pair.public_key().as_ref().to_vec()),
            Pair::P256(pair) => PublicKey::P256(pair.public_key().as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                PublicKey::Rsa { n, e }
            }
        }
    }

    /// The document by which a service verifies what it signs (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> Json {
        let key = assertion::jwk(&self.public(), self.algorithm());
        let keys = ambit_core::json::Object::from([("keys", Json::from(vec![key]))]);
        keys.into()
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, String> {
        let failed = |_| "the key does not sign".to_owned();
        match &self.0 {
            Pair::Ed25519(pair) => Ok(pair.sign(text).as_ref().to_vec()),
            Pair::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), text).map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

/// Who says things about callers.
#[derive(Debug)]
pub struct Assertor {
    /// What the home is called: the `iss`.
    pub issuer: String,
    /// To whom it is said: the `aud`.
    pub audience: String,
    /// The key.
    pub key: SigningKey,
}

impl Assertor {
    /// Says who a caller is, for [`assertion::LIFETIME_S`] seconds from `now_s`, under a name that no other has.
    ///
    /// # Errors
    /// One clause: there is no randomness, or the key does not sign.
    pub(super) fn say(&self, caller: &Caller, now_s: u64) -> Result<Secret, String> {
        let mut id = [0; 16];
        random::fill(&mut id).map_err(|error| format!("there is no randomness: {error}"))?;
        let said = Assertion {
            issuer: &self.issuer,
            audience: &self.audience,
            caller,
            now_s,
            id: &BASE64URL_NOPAD.encode(&id),
        };
        let kid = assertion::thumbprint(&self.key.public());
        let input = said.signing_input(self.key.algorithm(), &kid);
        let signature = self.key.sign(input.as_bytes())?;
        Secret::new(assertion::token(&input, &signature).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use data_encoding::BASE64;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    fn pem(der: &[u8]) -> String {
        let text = BASE64.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    }

    #[test]
    fn what_a_key_signs_its_public_half_verifies() {
        let random = SystemRandom::new();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let rsa = include_str!("../../../server/src/identity/test_rsa_key.txt");
        let rsa = BASE64.decode(rsa.replace('\n', "").as_bytes()).unwrap();
        for (der, algorithm) in [
            (ed25519.as_ref(), Algorithm::EdDsa),
            (p256.as_ref(), Algorithm::Es256),
            (rsa.as_slice(), Algorithm::Rs256),
        ] {
            let key = SigningKey::from_pem(pem(der).as_bytes()).unwrap();
            assert_eq!(key.algorithm(), algorithm);
            let signature = key.sign(b"text").unwrap();
            let verified = match key.public() {
                PublicKey::Ed25519(x) => UnparsedPublicKey::new(&ED25519, x).verify(b"text", &signature),
                PublicKey::P256(point) => {
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(b"text", &signature)
                }
                PublicKey::Rsa { n, e } => {
                    PublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, b"text", &signature)
                }
                PublicKey::P384(_) => panic!("none of these"),
            };
            assert!(verified.is_ok(), "{algorithm}");
            let shown = key.jwks().to_canonical();
            assert!(!shown.contains("\"d\"") && !shown.contains("\"p\""), "{shown}");
        }
    }

    #[test]
    fn what_is_no_key_is_told_without_it() {
        for bad in [
            "",
            "hunter2",
            &pem(b"hunter2"),
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let why = SigningKey::from_pem(bad.as_bytes()).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
