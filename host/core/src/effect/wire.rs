//! A recorded request, read back.

use super::{BodyKind, GuestBody, GuestRequest, HttpRequest, Method, WireLimits, pairs};
use crate::json::Json;

impl HttpRequest {
    /// The request that [`wire`](Self::wire) made this value of: checked as when it was first written, and the same to the byte. None
    /// where the value is no such request, or not one that this version would write. For whoever goes on from a record.
    #[must_use]
    pub fn of_wire(wire: &Json, limits: &WireLimits) -> Option<Self> {
        let text = |name: &str| wire.get(name).and_then(Json::as_str);
        let (path, query) = text("target")?.split_once('?').unwrap_or((text("target")?, ""));
        let body = match (text("content-type"), text("body")) {
            (None, None) => GuestBody::None,
            (Some(kind), Some(body)) if kind == BodyKind::Json.media_type() => GuestBody::Json(body.to_owned()),
            (Some(kind), Some(body)) if kind == BodyKind::Form.media_type() => GuestBody::Form(pairs::read(body).ok()?),
            _ => return None,
        };
        let header = |pair: &Json| match pair.as_array()? {
            [name, value] => Some((name.as_str()?.to_owned(), value.as_str()?.to_owned())),
            _ => None,
        };
        let words = GuestRequest {
            method: text("method")?.parse::<Method>().ok()?,
            path: path.to_owned(),
            query: pairs::read(query).ok()?,
            headers: wire
                .get("headers")?
                .as_array()?
                .iter()
                .map(header)
                .collect::<Option<_>>()?,
            body,
        };
        // Written, a path can be three times as long as it was given.
        let limits = WireLimits {
            path_bytes: usize::MAX,
            ..*limits
        };
        let request = Self::parse(&text("origin")?.parse().ok()?, &words, &limits).ok()?;
        (request.wire() == *wire).then_some(request)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_recorded_request_is_the_same_again_or_none() {
        let origin = "https://api.example.com".parse().unwrap();
        for body in [
            GuestBody::None,
            GuestBody::Json(r#"{"b":1.50,"a":["é"]}"#.to_owned()),
            GuestBody::Form(pairs(&[("a[b]", "x y"), ("c", "&=")])),
        ] {
            let words = GuestRequest {
                method: Method::Post,
                path: "/v1/things/a%20b".to_owned(),
                query: pairs(&[("q", "1 2")]),
                headers: pairs(&[("Prefer", "x")]),
                body,
            };
            let limits = WireLimits::default();
            let request = HttpRequest::parse(&origin, &words, &limits).unwrap();
            assert_eq!(HttpRequest::of_wire(&request.wire(), &limits), Some(request.clone()));
            let Json::Object(mut wire) = request.wire() else {
                unreachable!()
            };
            wire.insert("target", "/v1/things/../other");
            assert_eq!(HttpRequest::of_wire(&wire.into(), &limits), None);
        }
    }
}
