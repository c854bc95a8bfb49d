//! What the home says about a caller, for a service that exchanges it for a token: a JWT (RFC 7519) about the user, or the agent where
//! there is none, with the agent as the actor (RFC 8693, 4.1).
//!
//! The home says it anew for each token, and for a minute. What the caller itself showed is never passed on: a call may go on days later,
//! and a token of the agent's is no business of a service's.

use data_encoding::BASE64URL_NOPAD;

use crate::digest::Digest;
use crate::identity::Caller;
use crate::identity::jwk::PublicKey;
use crate::identity::token::Algorithm;
use crate::json::{Json, Object};

/// For how long what is said is good, in seconds.
pub const LIFETIME_S: u64 = 60;

/// What is said.
#[derive(Clone, Debug)]
pub struct Assertion<'a> {
    /// Who says it: what the configuration calls this home.
    pub issuer: &'a str,
    /// To whom.
    pub audience: &'a str,
    /// About whom.
    pub caller: &'a Caller,
    /// When, in seconds since 1970.
    pub now_s: u64,
    /// Its own name: random, and never the same twice.
    pub id: &'a str,
}

impl Assertion<'_> {
    /// The claims.
    #[must_use]
    pub fn claims(&self) -> Json {
        let agent = self.caller.agent();
        let mut claims = Object::from([
            ("aud", Json::from(self.audience)),
            ("exp", self.now_s.saturating_add(LIFETIME_S).into()),
            ("iat", self.now_s.into()),
            ("iss", self.issuer.into()),
            ("jti", self.id.into()),
            ("nbf", self.now_s.into()),
            ("sub", self.caller.user().unwrap_or(agent).into()),
            ("team", self.caller.team().into()),
            ("tenant", self.caller.tenant().into()),
        ]);
        if self.caller.user().is_some() {
            claims.insert("act", Json::from(Object::from([("sub", Json::from(agent))])));
        }
        claims.into()
    }

    /// Header and claims, as they are signed.
    #[must_use]
    pub fn signing_input(&self, algorithm: Algorithm, kid: &str) -> String {
        let header = Json::from(Object::from([
            ("alg", Json::from(algorithm.as_str())),
            ("kid", kid.into()),
            ("typ", "JWT".into()),
        ]));
        let part = |json: &Json| BASE64URL_NOPAD.encode(json.to_canonical().as_bytes());
        format!("{}.{}", part(&header), part(&self.claims()))
    }
}

/// The token of a signing input and its signature.
#[must_use]
pub fn token(signing_input: &str, signature: &[u8]) -> String {
    format!("{signing_input}.{}", BASE64URL_NOPAD.encode(signature))
}

/// A public key as RFC 7517 has it, with its thumbprint (RFC 7638) for a name, and the algorithm that it is used with.
#[must_use]
pub fn jwk(key: &PublicKey, algorithm: Algorithm) -> Json {
    let mut jwk = required(key);
    jwk.insert("alg", algorithm.as_str());
    jwk.insert("kid", thumbprint(key));
    jwk.insert("use", "sig");
    jwk.into()
}

/// The name of a key: its thumbprint.
#[must_use]
pub fn thumbprint(key: &PublicKey) -> String {
    let text = Json::from(required(key)).to_canonical();
    BASE64URL_NOPAD.encode(Digest::of(text.as_bytes()).as_bytes())
}

/// The members that a thumbprint is made of.
fn required(key: &PublicKey) -> Object {
    let text = |bytes: &[u8]| Json::from(BASE64URL_NOPAD.encode(bytes));
    // A point is a byte that says that it is uncompressed, and two coordinates of the same length.
    let point = |curve: &'static str, point: &[u8]| {
        let coordinates = point.get(1..).unwrap_or_default();
        let (x, y) = coordinates.split_at_checked(coordinates.len() / 2).unwrap_or_default();
        Object::from([
            ("crv", Json::from(curve)),
            ("kty", "EC".into()),
            ("x", text(x)),
            ("y", text(y)),
        ])
    };
    match key {
        PublicKey::Rsa { n, e } => Object::from([("e", text(e)), ("kty", "RSA".into()), ("n", text(n))]),
        PublicKey::P256(bytes) => point("P-256", bytes),
        PublicKey::P384(bytes) => point("P-384", bytes),
        PublicKey::Ed25519(bytes) => Object::from([
            ("crv", Json::from("Ed25519")),
            ("kty", "OKP".into()),
            ("x", text(bytes)),
        ]),
    }
}
