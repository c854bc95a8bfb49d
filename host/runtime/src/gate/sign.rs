//! Credentials that are a signature of the request: AWS's, and one with a shared secret.
//!
//! What is signed is what was built to be sent, to the byte; a signature adds headers and changes nothing. The texts are
//! [`ambit_core::credential::sigv4`]'s and [`ambit_core::credential::hmac`]'s.

use std::fmt;

use ambit_core::credential::hmac::{Algorithm, Encoding, string_to_sign};
use ambit_core::credential::sigv4::{ALGORITHM, Scope, Signed};
use ambit_core::digest::Digest;
use ambit_core::error::{Code, Refusal};
use ambit_core::guard;
use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Request};
use http_body_util::Full;
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

use super::mask::Masker;
use crate::secret::Secret;

const AMZ_DATE: &str = "x-amz-date";
const AMZ_CONTENT: &str = "x-amz-content-sha256";
const AMZ_TOKEN: &str = "x-amz-security-token";

/// Who signs for AWS.
#[derive(Debug)]
pub struct SigV4 {
    /// As in `eu-central-1`.
    pub region: String,
    /// As in `dynamodb`.
    pub service: String,
    /// The name of the key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: Secret,
    /// What comes with a key that was given out for a time.
    pub session_token: Option<Secret>,
}

/// Who signs with a shared secret.
#[derive(Debug)]
pub struct SharedSecret {
    /// The secret.
    pub secret: Secret,
    /// The header of the signature.
    pub header: HeaderName,
    /// The header of the moment that is signed.
    pub time_header: HeaderName,
    /// With which hash.
    pub algorithm: Algorithm,
    /// How the signature is written.
    pub encoding: Encoding,
}

/// A key that signs requests.
pub(super) enum Signer {
    Aws(SigV4),
    Shared(SharedSecret),
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// Adds what it signs with to what is covered in answers.
    pub(super) fn mask(&self, masker: &mut Masker) {
        match self {
            Signer::Aws(aws) => {
                masker.add(aws.secret_access_key.expose());
                if let Some(token) = &aws.session_token {
                    masker.add(token.expose());
                }
            }
            Signer::Shared(shared) => masker.add(shared.secret.expose()),
        }
    }

    /// Whether it sets a header of this name, in small letters.
    pub(super) fn sets(&self, name: &str) -> bool {
        match self {
            Signer::Aws(_) => is_aws_header(name),
            Signer::Shared(shared) => [&shared.header, &shared.time_header]
                .iter()
                .any(|own| own.as_str() == name),
        }
    }

    /// Signs what was built, with this body, and adds what shows it.
    ///
    /// # Errors
    /// [`Code::Internal`] where a header cannot be signed as it is sent.
    pub(super) fn sign(&self, request: &mut Request<Full<Bytes>>, body: &[u8], time_s: u64) -> Result<(), Refusal> {
        match self {
            Signer::Aws(aws) => aws.sign(request, body, time_s),
            Signer::Shared(shared) => shared.sign(request, body, time_s),
        }
    }
}

/// Whether a header is AWS's signature's, in small letters.
#[must_use]
pub fn is_aws_header(name: &str) -> bool {
    ["authorization", AMZ_CONTENT, AMZ_DATE, AMZ_TOKEN].contains(&name)
}

impl SigV4 {
    fn sign(&self, request: &mut Request<Full<Bytes>>, body: &[u8], time_s: u64) -> Result<(), Refusal> {
        let scope = Scope {
            region: &self.region,
            service: &self.service,
            time_s,
        };
        let digest = Digest::of(body);
        put(
            request.headers_mut(),
            HeaderName::from_static(AMZ_DATE),
            scope.date_time().as_bytes(),
            false,
        )?;
        put(
            request.headers_mut(),
            HeaderName::from_static(AMZ_CONTENT),
            digest.to_hex().as_bytes(),
            false,
        )?;
        if let Some(token) = &self.session_token {
            put(
                request.headers_mut(),
                HeaderName::from_static(AMZ_TOKEN),
                token.expose(),
                true,
            )?;
        }
        let headers = signed_headers(request.headers())?;
        let signed = Signed {
            method: request.method().as_str(),
            target: target(request),
            headers: &headers,
            body: digest,
        };
        let signature = HEXLOWER.encode(&self.signature(&scope, &signed.string_to_sign(&scope)));
        let shown = format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={signature}",
            self.access_key_id,
            scope.credential(),
            signed.header_names(),
        );
        put(request.headers_mut(), AUTHORIZATION, shown.as_bytes(), true)
    }

    /// Under a key of its own for the day, region and service.
    fn signature(&self, scope: &Scope<'_>, text: &str) -> Vec<u8> {
        let mut key = Zeroizing::new([b"AWS4", self.secret_access_key.expose()].concat());
        for part in [scope.date().as_str(), scope.region, scope.service, "aws4_request", text] {
            key = Zeroizing::new(code::<Hmac<Sha256>>(&key, part.as_bytes()));
        }
        key.to_vec()
    }
}

impl SharedSecret {
    fn sign(&self, request: &mut Request<Full<Bytes>>, body: &[u8], time_s: u64) -> Result<(), Refusal> {
        let text = string_to_sign(time_s, request.method().as_str(), target(request), body);
        let code = match self.algorithm {
            Algorithm::Sha256 => code::<Hmac<Sha256>>(self.secret.expose(), text.as_bytes()),
            Algorithm::Sha512 => code::<Hmac<Sha512>>(self.secret.expose(), text.as_bytes()),
        };
        let signature = match self.encoding {
            Encoding::Hex => HEXLOWER.encode(&code),
            Encoding::Base64 => BASE64.encode(&code),
        };
        put(
            request.headers_mut(),
            self.time_header.clone(),
            time_s.to_string().as_bytes(),
            false,
        )?;
        put(request.headers_mut(), self.header.clone(), signature.as_bytes(), true)
    }
}

/// HMAC of a text. Keys have any length.
fn code<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> Vec<u8> {
    <M as KeyInit>::new_from_slice(key).map_or_else(
        |_| Vec::new(),
        |mut mac| {
            mac.update(text);
            mac.finalize().into_bytes().to_vec()
        },
    )
}

/// Path and query as they are sent.
fn target(request: &Request<Full<Bytes>>) -> &str {
    request.uri().path_and_query().map_or("/", |target| target.as_str())
}

/// Every header of the request but those that proxies may write anew.
fn signed_headers(headers: &HeaderMap) -> Result<Vec<(String, String)>, Refusal> {
    let left_out = [USER_AGENT, ACCEPT_ENCODING, CONTENT_LENGTH];
    let signed = headers.iter().filter(|(name, _)| !left_out.contains(name));
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = value
            .to_str()
            .map_err(|_| Refusal::new(Code::Header, format!("the value of `{name}` cannot be signed")))?;
        Ok((name.as_str().to_owned(), value.to_owned()))
    };
    signed.map(text).collect()
}

/// Sets a header that the request must not have yet.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &[u8], sensitive: bool) -> Result<(), Refusal> {
    if !guard!("gate.signature-headers", !headers.contains_key(&name)) {
        return Err(Refusal::new(
            Code::Header,
            format!("`{name}` is set by the host and cannot be given"),
        ));
    }
    let mut value = HeaderValue::from_bytes(value)
        .map_err(|_| Refusal::new(Code::Internal, format!("the signature cannot stand in `{name}`")))?;
    value.set_sensitive(sensitive);
    headers.append(name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec()).unwrap()
    }

    fn aws(service: &str, key: &str) -> SigV4 {
        SigV4 {
            region: "us-east-1".to_owned(),
            service: service.to_owned(),
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: secret(key),
            session_token: None,
        }
    }

    /// Signatures of AWS's published test suite, which signs no digest of the body, and of its references.
    #[test]
    fn signatures_are_those_of_the_published_vectors() {
        const KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let check =
            |service: &str, time_s, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8], expected| {
                let key = if service == "s3" {
                    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
                } else {
                    KEY
                };
                let aws = aws(service, key);
                let scope = Scope {
                    region: "us-east-1",
                    service,
                    time_s,
                };
                let headers: Vec<(String, String)> = headers
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect();
                let signed = Signed {
                    method,
                    target,
                    headers: &headers,
                    body: Digest::of(body),
                };
                let signature = aws.signature(&scope, &signed.string_to_sign(&scope));
                assert_eq!(HEXLOWER.encode(&signature), expected, "{method} {target}");
            };
        let at = 1_440_938_160;
        let host = ("host", "example.amazonaws.com");
        let date = ("x-amz-date", "20150830T123600Z");
        let plain = [host, date];
        check(
            "service",
            at,
            "GET",
            "/",
            &plain,
            b"",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        );
        check(
            "service",
            at,
            "POST",
            "/",
            &plain,
            b"",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        );
        check(
            "service",
            at,
            "GET",
            "/?Param2=value2&Param1=value1",
            &plain,
            b"",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        );
        check(
            "service",
            at,
            "GET",
            "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            &plain,
            b"",
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        );
        check(
            "service",
            at,
            "POST",
            "/",
            &[host, date, ("content-type", "application/x-www-form-urlencoded")],
            b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        );
        check(
            "iam",
            at,
            "GET",
            "/?Action=ListUsers&Version=2010-05-08",
            &[
                ("host", "iam.amazonaws.com"),
                date,
                ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ],
            b"",
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        );
        let empty = Digest::of(b"").to_hex();
        check(
            "s3",
            1_369_353_600,
            "GET",
            "/test.txt",
            &[
                ("host", "examplebucket.s3.amazonaws.com"),
                ("range", "bytes=0-9"),
                ("x-amz-content-sha256", &empty),
                ("x-amz-date", "20130524T000000Z"),
            ],
            b"",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        );
    }

    #[test]
    fn a_header_of_the_signature_is_the_host_s_alone() {
        let aws = Signer::Aws(aws("s3", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"));
        let request = |name: &str| {
            let builder = Request::builder().uri("/").header("host", "h").header(name, "1");
            builder.body(Full::new(Bytes::new())).unwrap()
        };
        assert!(aws.sign(&mut request("accept"), b"", 0).is_ok());
        for name in ["authorization", AMZ_CONTENT, AMZ_DATE] {
            let refused = aws.sign(&mut request(name), b"", 0).unwrap_err();
            assert_eq!(refused.code, Code::Header, "{name}");
        }
    }

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        let shown = |bytes: Vec<u8>| HEXLOWER.encode(&bytes);
        let text = b"what do ya want for nothing?";
        assert_eq!(
            shown(code::<Hmac<Sha256>>(b"Jefe", text)),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            shown(code::<Hmac<Sha512>>(b"Jefe", text)),
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        );
    }
}
