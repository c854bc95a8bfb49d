//! What a request is answered with that is not served: a problem (RFC 9457), in the words of whoever is to do something about it.

use ambit_core::error::printable;
use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use crate::identity::Unauthenticated;

/// A problem of this status.
pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    problem_with(status, detail, Map::new())
}

/// The same, with more members about it.
pub(crate) fn problem_with(status: StatusCode, detail: &str, more: Map<String, Value>) -> Response {
    let mut body = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": printable(detail),
    });
    if let Value::Object(body) = &mut body {
        body.extend(more);
    }
    document(status, "application/problem+json", body.to_string())
}

/// A request whose caller is not known.
pub(crate) fn unauthenticated(refused: &Unauthenticated) -> Response {
    let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::UNAUTHORIZED);
    let mut response = problem(status, &refused.refusal.message);
    match HeaderValue::from_str(&refused.www_authenticate) {
        Ok(challenge) => drop(response.headers_mut().insert(WWW_AUTHENTICATE, challenge)),
        Err(error) => tracing::error!(%error, "a challenge is no header"),
    }
    response
}

/// A JSON document.
pub(super) fn json(status: StatusCode, document_of: &Value) -> Response {
    document(status, "application/json", document_of.to_string())
}

/// A text that nobody keeps, of this type and no other.
pub(super) fn document(status: StatusCode, content_type: &'static str, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    plain(&mut response);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Answers are for whoever asked, and are what they say they are.
pub(crate) fn plain(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
