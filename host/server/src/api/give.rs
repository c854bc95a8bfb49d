//! What is answered: a document with how long it may be kept, or a problem.

use ambit_core::contract::{self, Contract};
use ambit_core::digest::Digest;
use ambit_core::error::{Code, Refusal};
use ambit_runtime::host::OpenError;
use ambit_runtime::store::StoreError;
use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, VARY};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use crate::http::problem::{plain, problem_with};

use super::header;

/// JSON, as most of it is.
pub(super) const JSON: &str = "application/json";
/// A page for people, in a browser.
pub(super) const HTML: &str = "text/html; charset=utf-8";
/// A page for people, and for models.
pub(super) const MARKDOWN: &str = "text/markdown; charset=utf-8";

/// That it is what was answered before for the same word of its caller.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// For how long an answer may be kept, by whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Not at all.
    No,
    /// Until it is asked for again, with its tag.
    Tagged,
    /// For ever: it never changes.
    Forever,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Given {
    status: StatusCode,
    kind: &'static str,
    bytes: Vec<u8>,
    keep: Keep,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Given {
    /// A document that nobody keeps.
    pub(super) fn json(document: &Value) -> Given {
        Given::bytes(JSON, document.to_string().into_bytes(), Keep::No)
    }

    /// Bytes of a type.
    pub(super) const fn bytes(kind: &'static str, bytes: Vec<u8>, keep: Keep) -> Given {
        Given {
            status: StatusCode::OK,
            kind,
            bytes,
            keep,
            headers: Vec::new(),
        }
    }

    /// A contract as a page, of HTML or of Markdown.
    pub(super) fn page(contract: &Contract, html: bool) -> Given {
        let (one, of) = (std::slice::from_ref(contract), contract.caller.as_ref());
        let page = match html {
            true => Given::bytes(HTML, contract::html(one, of).into_bytes(), Keep::Tagged)
                .with(CONTENT_SECURITY_POLICY, &contract::html_policy()),
            false => Given::bytes(MARKDOWN, contract::markdown(one, of).into_bytes(), Keep::Tagged),
        };
        // Which of the two it is was asked for.
        page.with(VARY, "Authorization, Accept")
    }

    pub(super) fn status(self, status: StatusCode) -> Given {
        Given { status, ..self }
    }

    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Given {
        self.headers.push((name, header(value)));
        self
    }

    /// For a request that may have it already: `known` is its `If-None-Match`.
    pub(super) fn into_response(self, known: Option<&HeaderValue>) -> Response {
        // What nobody keeps has no tag: it can be long.
        let tag = (self.keep != Keep::No).then(|| format!("\"{}\"", Digest::of(&self.bytes).to_hex()));
        let same = matches!((&tag, known), (Some(tag), Some(known)) if names(known, tag));
        let (status, body) = match same {
            true => (StatusCode::NOT_MODIFIED, Body::empty()),
            false => (self.status, Body::from(self.bytes)),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        plain(&mut response);
        let headers = response.headers_mut();
        if !same {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        }
        // Whoever stands between has no business with it.
        let keep = match self.keep {
            Keep::No => None,
            Keep::Tagged => Some("private, no-cache"),
            Keep::Forever => Some("private, max-age=31536000, immutable"),
        };
        if let (Some(keep), Some(tag)) = (keep, tag) {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
            headers.insert(ETAG, header(&tag));
            // Whoever keeps it for several who ask keeps it for each by itself.
            headers.insert(VARY, HeaderValue::from_static("Authorization"));
        }
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response
    }
}

/// Whether an `If-None-Match` names a tag, compared weakly (RFC 9110, section 13.1.2).
fn names(known: &HeaderValue, tag: &str) -> bool {
    let text = known.to_str().unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    more: Map<String, Value>,
    allow: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            status,
            detail: detail.into(),
            more: Map::new(),
            allow: None,
        }
    }

    /// Something in the request is not what it takes.
    pub(super) fn wrong(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// There is nothing of that name for whoever asks, whatever there is for others.
    pub(super) fn none(what: &str, name: &str) -> Problem {
        let name = ambit_core::error::printable(name);
        Problem::new(StatusCode::NOT_FOUND, format!("there is no {what} `{name}` for you"))
    }

    /// The resource is there, and has other methods.
    pub(super) fn method(allow: &'static str) -> Problem {
        Problem {
            allow: Some(allow),
            ..Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("this takes {allow}"))
        }
    }

    /// What was asked for under the same word was something else.
    pub(super) fn other_request() -> Problem {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "another request was made with this Idempotency-Key: a new one takes another key",
        )
    }

    /// What only the operator can do something about is for the operator's log.
    pub(super) fn could_not(error: &dyn std::fmt::Display) -> Problem {
        tracing::error!(%error, "the host could not do its work");
        let why = "the host could not do its work; its operator's log says why";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, why)
    }

    pub(super) fn with(mut self, name: &str, value: Value) -> Problem {
        self.more.insert(name.to_owned(), value);
        self
    }

    pub(super) fn boxed(self) -> Box<Response> {
        let mut response = problem_with(self.status, &self.detail, self.more);
        if let Some(allow) = self.allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        Box::new(response)
    }
}

/// A refusal, with its code and what to do.
impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let status = match refusal.code {
            Code::Arguments => StatusCode::BAD_REQUEST,
            Code::Caller => StatusCode::FORBIDDEN,
            Code::Limit => StatusCode::TOO_MANY_REQUESTS,
            Code::Ledger | Code::Internal => return Problem::could_not(&refusal.message),
            _ => StatusCode::CONFLICT,
        };
        let problem = Problem::new(status, refusal.message).with("code", json!(refusal.code));
        match refusal.advice {
            Some(advice) => problem.with("advice", json!(ambit_core::error::printable(&advice))),
            None => problem,
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        match error {
            StoreError::NoRoom { .. } => Problem::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string()),
            StoreError::Repeated { .. } => Problem::new(StatusCode::CONFLICT, error.to_string()),
            error => Problem::could_not(&error),
        }
    }
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Problem {
        match error {
            OpenError::Refused(refusal) => refusal.into(),
            OpenError::Store(error) => error.into(),
            error => Problem::could_not(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_compared_weakly_and_whole() {
        let is = |known: &'static str| names(&HeaderValue::from_static(known), "\"ab\"");
        assert!(is("\"ab\"") && is("W/\"ab\"") && is("\"x\", \"ab\"") && is("*"));
        assert!(!is("ab") && !is("\"a\"") && !is("\"abc\"") && !is(""));
    }

    #[test]
    fn what_is_kept_nowhere_has_no_tag() {
        let given = Given::json(&json!({})).into_response(Some(&HeaderValue::from_static("*")));
        assert_eq!(given.status(), 200);
        assert!(given.headers().get(ETAG).is_none());
        assert!(given.headers().get(VARY).is_none());
        let given = Given::bytes(JSON, b"x".to_vec(), Keep::Tagged).into_response(Some(&HeaderValue::from_static("*")));
        assert_eq!(given.status(), 304);
        assert_eq!(
            given.headers().get(VARY).map(HeaderValue::as_bytes),
            Some(&b"Authorization"[..])
        );
    }
}
