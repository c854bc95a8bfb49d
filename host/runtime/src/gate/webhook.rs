//! Messages of the host itself, to an address of the operator's.
//!
//! They go the way of every request: to a checked address, with TLS as their origin, once, without following anything. As with a
//! [`Document`](super::Document) the operator's configuration says where they go, and no caller or guest has a word in them; so they are
//! no effect, and leave without a [`Durable`](crate::store::Durable). What they say is on the ledger before, and they are signed as
//! [Standard Webhooks](ambit_core::webhook::STANDARD) has it. Of what is answered nothing but the status is of use.

use std::fmt;
use std::time::Duration;

use ambit_core::effect::Scheme;
use ambit_core::error::{Code, Refusal};
use ambit_core::webhook::{signed, signing_key};
use bytes::Bytes;
use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use http_body_util::Full;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::document::{DocumentWay, split_url};
use super::request::AGENT;
use super::send::{Bounds, SendError, Sent, Wire};
use super::upstream::{Base, Upstream, UpstreamParts};
use crate::secret::Secret;

/// The most that is read of an answer: of what is in it nothing is of use.
const ANSWER_BYTES: usize = 64 << 10;

/// The address of a webhook.
#[derive(Debug)]
pub enum HookUrl {
    /// As it stands in the configuration.
    Plain(String),
    /// The address is the credential: it is read from where secrets are.
    Secret(Secret),
}

/// A webhook, ready to be sent to.
pub struct Hook {
    up: Upstream,
    target: Zeroizing<String>,
    keys: Vec<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hook({})", self.up.name())
    }
}

impl Hook {
    /// The webhook of this name, whose messages are signed with each of `keys`: several, while one takes the place of another.
    ///
    /// # Errors
    /// One clause, without any secret: the address is no URL, not https where addresses are not the machine's own, or cannot be sent to;
    /// a key is none.
    pub fn new(name: &str, url: &HookUrl, keys: &[Secret], way: &DocumentWay) -> Result<Hook, String> {
        let (text, is_secret) = match url {
            HookUrl::Plain(text) => (text.as_str(), false),
            // A secret is UTF-8, or it would not be one.
            HookUrl::Secret(secret) => (std::str::from_utf8(secret.expose()).unwrap_or_default(), true),
        };
        let (origin, rest) = split_url(text).map_err(|why| match is_secret {
            // The reason may quote what stands there.
            true => "is no URL of https".to_owned(),
            false => why,
        })?;
        if origin.scheme() == Scheme::Http && !way.allow_private {
            return Err("is not https".into());
        }
        let target = Zeroizing::new(match rest {
            "" => "/".to_owned(),
            query if query.starts_with('?') => format!("/{query}"),
            path => path.to_owned(),
        });
        uri(&target)?;
        let read = |key: &Secret| {
            let text = std::str::from_utf8(key.expose()).unwrap_or_default();
            signing_key(text).map(Zeroizing::new)
        };
        let keys = keys.iter().map(read).collect::<Result<_, _>>()?;
        let mut up = Upstream::new(UpstreamParts {
            trace: false,
            name: name.to_owned(),
            origin,
            connect_to: way.connect_to.clone(),
            authorities: way.authorities.clone(),
            allow_private: way.allow_private,
            base: Base::Plain(String::new()),
            credential: None,
        })
        .map_err(|why| match is_secret {
            true => "cannot be connected to".to_owned(),
            false => why,
        })?;
        if is_secret {
            up.hide(text.as_bytes());
            up.hide(target.as_bytes());
            let host = up.origin().host().to_owned();
            up.hide(host.as_bytes());
        }
        Ok(Hook { up, target, keys })
    }

    /// Whether a secret can sign messages.
    ///
    /// # Errors
    /// One clause, without the secret.
    pub fn check_key(secret: &Secret) -> Result<(), String> {
        let text = std::str::from_utf8(secret.expose()).unwrap_or_default();
        signing_key(text).map(|key| drop(Zeroizing::new(key)))
    }

    /// The signatures of a message, one of each key; none where it has none.
    fn signatures(&self, id: &str, time_s: u64, body: &str) -> Option<String> {
        let text = signed(id, time_s, body);
        let one = |key: &Zeroizing<Vec<u8>>| {
            // A key of any length is one for HMAC.
            let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
            mac.update(text.as_bytes());
            Some(format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes())))
        };
        let all: Vec<String> = self.keys.iter().filter_map(one).collect();
        (!all.is_empty()).then(|| all.join(" "))
    }

    fn request(&self, id: &str, time_s: u64, body: &str) -> Result<Request<Full<Bytes>>, Refusal> {
        let wrong = || Refusal::new(Code::Internal, "the message cannot be put together");
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(uri(&self.target).map_err(|_| wrong())?)
            .header(HOST, self.up.origin().authority())
            .header(USER_AGENT, AGENT)
            .header(ACCEPT_ENCODING, "identity")
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, body.len())
            .header("webhook-id", id)
            .header("webhook-timestamp", time_s)
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .map_err(|_| wrong())?;
        if let Some(signatures) = self.signatures(id, time_s, body) {
            let value = HeaderValue::from_str(&signatures).map_err(|_| wrong())?;
            request.headers_mut().insert("webhook-signature", value);
        }
        Ok(request)
    }
}

/// What is asked for, in origin form, and exactly as it stands.
fn uri(target: &str) -> Result<Uri, String> {
    let wrong = || "has a path or query that cannot be sent as it is: percent-encode it".to_owned();
    let parsed: PathAndQuery = target.try_into().map_err(|_| wrong())?;
    if parsed.as_str() != target {
        return Err(wrong());
    }
    Ok(Uri::from(parsed))
}

impl Wire {
    /// Sends a message of this id, once. Called by the deliveries of a host that serves; what the receiver answered is in the status alone.
    ///
    /// # Errors
    /// As [`Wire::send`].
    pub async fn deliver(
        &self,
        hook: &Hook,
        id: &str,
        time_s: u64,
        body: &str,
        time: Duration,
    ) -> Result<Sent, SendError> {
        let request = hook.request(id, time_s, body).map_err(SendError::NotSent)?;
        let bounds = Bounds {
            time,
            answer_bytes: ANSWER_BYTES,
        };
        let sent = self.exchange_built(&hook.up, request, bounds, None).await;
        sent.map_err(|error| match error {
            // What was not sent is told with its address, which may be secret.
            SendError::NotSent(refusal) => SendError::NotSent(Refusal {
                message: hook.up.mask_str(&refusal.message),
                advice: refusal.advice.map(|advice| hook.up.mask_str(&advice)),
                ..refusal
            }),
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec()).unwrap()
    }

    fn plain(url: &str) -> HookUrl {
        HookUrl::Plain(url.to_owned())
    }

    /// The vector that the specification's own libraries are tested with.
    #[test]
    fn a_signature_is_the_specification_s() {
        let key = secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let way = DocumentWay::default();
        let hook = Hook::new("pager", &plain("https://hooks.example/in"), &[key], &way).unwrap();
        let signed = hook.signatures("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(
            signed.as_deref(),
            Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        );
    }

    #[test]
    fn while_a_key_takes_the_place_of_another_both_sign() {
        let keys = [
            secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            secret("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ];
        let way = DocumentWay::default();
        let hook = Hook::new("pager", &plain("https://hooks.example"), &keys, &way).unwrap();
        let signed = hook.signatures("msg_a", 1, "{}").unwrap();
        let both: Vec<&str> = signed.split(' ').collect();
        assert!(
            matches!(both.as_slice(), [one, two] if one.starts_with("v1,") && two.starts_with("v1,") && one != two)
        );
        let bare = Hook::new("chat", &plain("https://hooks.example"), &[], &way).unwrap();
        assert_eq!(bare.signatures("msg_a", 1, "{}"), None);
    }

    #[test]
    fn a_message_goes_to_the_address_as_it_stands() {
        let way = DocumentWay::default();
        for (url, target) in [
            ("https://hooks.example", "/"),
            ("https://hooks.example/", "/"),
            ("https://hooks.example/services/T0/B0/x", "/services/T0/B0/x"),
            ("https://hooks.example?sig=a%2Bb&v=1", "/?sig=a%2Bb&v=1"),
        ] {
            let hook = Hook::new("pager", &plain(url), &[], &way).unwrap();
            let request = hook.request("msg_a", 1, "{}").unwrap();
            assert_eq!(request.uri().to_string(), target, "{url}");
            assert_eq!(request.headers().get(HOST).unwrap(), "hooks.example");
        }
        for bad in [
            "",
            "hooks.example/in",
            "http://hooks.example/in",
            "ftp://hooks.example",
            "https://user@hooks.example/in",
            "https://hooks.example/in#top",
            "https://hooks.example/a b",
        ] {
            assert!(Hook::new("pager", &plain(bad), &[], &way).is_err(), "{bad}");
        }
        let near = DocumentWay {
            allow_private: true,
            ..DocumentWay::default()
        };
        assert!(Hook::new("pager", &plain("http://127.0.0.1:9/in"), &[], &near).is_ok());
    }

    #[test]
    fn a_secret_address_is_in_no_message() {
        let way = DocumentWay::default();
        for bad in [
            "https://user:hunter2hunter2@hooks.example/services/T0",
            "hunter2hunter2hunter2",
            "http://hooks.example/hunter2hunter2",
        ] {
            let why = Hook::new("chat", &HookUrl::Secret(secret(bad)), &[], &way).unwrap_err();
            assert!(!why.contains("hunter2") && !why.contains("hooks"), "{why}");
        }
        let url = secret("https://hooks.example/services/T0/B0/hunter2hunter2hunter2");
        let hook = Hook::new("chat", &HookUrl::Secret(url), &[], &way).unwrap();
        assert!(!format!("{hook:?}").contains("hunter2"));
        let told = hook
            .up
            .mask_str("hooks.example:443 and /services/T0/B0/hunter2hunter2hunter2");
        assert!(!told.contains("hunter2") && !told.contains("hooks.example"), "{told}");
    }

    #[test]
    fn a_key_that_is_none_signs_nothing() {
        let way = DocumentWay::default();
        for bad in ["hunter2hunter2", "whsec_!!!!!!!!", "whsec_c2hvcnQ="] {
            let why = Hook::new("pager", &plain("https://hooks.example"), &[secret(bad)], &way).unwrap_err();
            assert!(!why.contains(bad.trim_start_matches("whsec_")), "{why}");
        }
    }
}
