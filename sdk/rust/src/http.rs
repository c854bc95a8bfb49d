//! A small client over any HTTP import.
//!
//! Each labelled import of `ambit:capability/http` gets types of its own from the bindings. [`connection!`] puts one of
//! them behind [`Connection`], so that a tool's logic is written once, and can be tested without a host.
//!
//! Nothing here grants anything: the host reads every request, and refuses what the world did not declare, the operator
//! did not route, or policy does not permit.

use core::fmt;
use std::borrow::Cow;

/// The methods a tool can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are HTTP's own")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

/// What is sent after the headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// No body.
    None,
    /// JSON text. The host sends its canonical form.
    Json(String),
    /// Name and value pairs, unencoded. Names may use brackets (`metadata[order]`, `items[]`).
    Form(Vec<(String, String)>),
}

/// One request. The origin is not part of it: that is the connection's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Path below the connection's base, from its leading `/`, percent-encoded: see [`segment`].
    pub path: String,
    /// Query pairs, unencoded.
    pub query: Vec<(String, String)>,
    /// Headers that both the declaration and the operator's route name; and `accept`, with one common type such as
    /// `application/json`.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Body,
}

impl Request {
    /// A request with nothing but a method and a path.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Body::None,
        }
    }

    /// With one more query pair.
    #[must_use]
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With a form as its body.
    #[must_use]
    pub fn form<N: Into<String>, V: Into<String>>(mut self, pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        self.body = Body::Form(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        );
        self
    }

    /// With JSON as its body.
    #[must_use]
    pub fn json(mut self, value: &serde_json::Value) -> Self {
        self.body = Body::Json(value.to_string());
        self
    }
}

/// An answer, as far as the declaration's `reads` and the operator's route let it through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status. A redirect is an answer like any other; it is never followed.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Body text, if there was one that may be read.
    pub body: Option<String>,
}

impl Response {
    /// Whether the status is one of success, 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`Error::Failed`] where there is no body or it is not JSON.
    pub fn json(&self) -> Result<serde_json::Value, Error> {
        let text = self
            .body
            .as_deref()
            .ok_or_else(|| Error::Failed("the answer has no readable body".into()))?;
        serde_json::from_str(text).map_err(|error| Error::Failed(format!("the answer is not JSON: {error}")))
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The host refused the request; nothing left.
    Refused {
        /// A word of the host's vocabulary, such as `scope` or `policy`.
        code: String,
        /// One sentence for people.
        message: String,
    },
    /// The request may have left, and no usable answer came.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, message } => write!(f, "refused ({code}): {message}"),
            Self::Failed(message) => f.write_str(message),
        }
    }
}

impl core::error::Error for Error {}

/// One HTTP import. Implemented by [`connection!`](crate::connection), or by a test's stand-in.
pub trait Connection {
    /// Sends one request and waits for the answer, whatever its status.
    ///
    /// # Errors
    /// See [`Error`].
    fn send(&self, request: &Request) -> Result<Response, Error>;

    /// GET.
    ///
    /// # Errors
    /// As [`Connection::send`].
    fn get(&self, path: &str) -> Result<Response, Error> {
        self.send(&Request::new(Method::Get, path))
    }

    /// POST of a form.
    ///
    /// # Errors
    /// As [`Connection::send`].
    fn post_form<N: Into<String>, V: Into<String>>(
        &self,
        path: &str,
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Response, Error> {
        self.send(&Request::new(Method::Post, path).form(pairs))
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// As [`Connection::send`].
    fn post_json(&self, path: &str, value: &serde_json::Value) -> Result<Response, Error> {
        self.send(&Request::new(Method::Post, path).json(value))
    }
}

/// Text as one segment of a path: everything but letters, digits and `-._~` percent-encoded, so that no value can add
/// a segment, a query or a fragment.
///
/// ```
/// assert_eq!(ambit_sdk::http::segment("a/b?c"), "a%2Fb%3Fc");
/// ```
pub fn segment(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let encode = |out: String, byte: u8| {
        if plain(byte) {
            out + char::from(byte).encode_utf8(&mut [0])
        } else {
            format!("{out}%{byte:02X}")
        }
    };
    Cow::Owned(text.bytes().fold(String::with_capacity(text.len() + 8), encode))
}

/// Declares a [`Connection`](crate::http::Connection) over one labelled HTTP import of the world:
/// `connection!(Stripe => stripe)` makes a unit struct `Stripe` over the generated module `stripe`.
#[macro_export]
macro_rules! connection {
    ($(#[$attribute:meta])* $visibility:vis $name:ident => $label:path) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug)]
        $visibility struct $name;

        const _: () = {
            use $label as import;

            impl $crate::http::Connection for $name {
                fn send(
                    &self,
                    request: &$crate::http::Request,
                ) -> ::core::result::Result<$crate::http::Response, $crate::http::Error> {
                    use $crate::http::{Body, Error, Method, Response};

                    fn pairs(pairs: &[(String, String)]) -> Vec<import::Pair> {
                        let pair = |(name, value): &(String, String)| import::Pair { name: name.clone(), value: value.clone() };
                        pairs.iter().map(pair).collect()
                    }

                    let request = import::Request {
                        method: match request.method {
                            Method::Get => import::Method::Get,
                            Method::Head => import::Method::Head,
                            Method::Post => import::Method::Post,
                            Method::Put => import::Method::Put,
                            Method::Patch => import::Method::Patch,
                            Method::Delete => import::Method::Delete,
                        },
                        path: request.path.clone(),
                        query: pairs(&request.query),
                        headers: pairs(&request.headers),
                        body: match &request.body {
                            Body::None => import::Body::None,
                            Body::Json(text) => import::Body::Json(text.clone()),
                            Body::Form(fields) => import::Body::Form(pairs(fields)),
                        },
                    };
                    match import::send(&request) {
                        Ok(answer) => Ok(Response {
                            status: answer.status,
                            headers: answer.headers.into_iter().map(|pair| (pair.name, pair.value)).collect(),
                            body: answer.body,
                        }),
                        Err(import::Error::Refused(refusal)) => {
                            Err(Error::Refused { code: refusal.code, message: refusal.message })
                        }
                        Err(import::Error::Failed(message)) => Err(Error::Failed(message)),
                    }
                }
            }
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_stays_one_segment() {
        for (text, encoded) in [
            ("re_1", "re_1"),
            ("../x", "..%2Fx"),
            ("a b#", "a%20b%23"),
            ("é", "%C3%A9"),
            ("%2F", "%252F"),
        ] {
            assert_eq!(segment(text), encoded);
        }
    }

    #[test]
    fn only_2xx_is_success() {
        for (status, success) in [(199, false), (200, true), (299, true), (302, false), (404, false)] {
            assert_eq!(
                Response {
                    status,
                    headers: Vec::new(),
                    body: None
                }
                .is_success(),
                success
            );
        }
    }

    #[test]
    fn an_answer_that_is_not_json_is_an_error() {
        let answer = |body: Option<&str>| Response {
            status: 200,
            headers: Vec::new(),
            body: body.map(Into::into),
        };
        assert_eq!(answer(Some(r#"{"id":1}"#)).json().expect("JSON")["id"], 1);
        assert!(matches!(answer(Some("{")).json(), Err(Error::Failed(_))));
        assert!(matches!(answer(None).json(), Err(Error::Failed(_))));
    }
}
