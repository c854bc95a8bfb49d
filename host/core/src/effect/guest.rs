use serde::{Deserialize, Serialize};

use super::{Method, pairs};
use crate::json::{Json, Object};

/// A request as the guest gave it: nothing in it has been looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestRequest {
    /// The method.
    pub method: Method,
    /// The percent-encoded path below the connection's base.
    pub path: String,
    /// Query pairs, unencoded.
    pub query: Vec<(String, String)>,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: GuestBody,
}

/// A request's body as the guest gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestBody {
    /// No body.
    #[default]
    None,
    /// JSON text.
    Json(String),
    /// Form pairs, unencoded.
    Form(Vec<(String, String)>),
}

/// What the guest is told of a service's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestResponse {
    /// HTTP status, 100 to 599.
    pub status: u16,
    /// `content-type` and the declared headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The readable part of the body.
    pub body: Option<String>,
}

impl GuestRequest {
    /// How much it is, in bytes: its texts, and a little for each pair.
    #[must_use]
    pub fn size(&self) -> usize {
        const PAIR: usize = 16;
        let pairs = |pairs: &[(String, String)]| -> usize {
            pairs.iter().map(|(name, value)| name.len() + value.len() + PAIR).sum()
        };
        let body = match &self.body {
            GuestBody::None => 0,
            GuestBody::Json(text) => text.len(),
            GuestBody::Form(form) => pairs(form),
        };
        self.path.len() + pairs(&self.query) + pairs(&self.headers) + body
    }

    /// The request as it is, for the transcript. It reads back by serde.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let body = match &self.body {
            GuestBody::None => Json::from("none"),
            GuestBody::Json(text) => Object::from([("json", text.as_str())]).into(),
            GuestBody::Form(form) => Object::from([("form", pairs::to_json(form))]).into(),
        };
        Object::from([
            ("method", Json::from(self.method.as_str())),
            ("path", self.path.as_str().into()),
            ("query", pairs::to_json(&self.query)),
            ("headers", pairs::to_json(&self.headers)),
            ("body", body),
        ])
        .into()
    }
}

impl GuestResponse {
    /// The answer as it is, for the transcript. It reads back by serde.
    #[must_use]
    pub fn to_json(&self) -> Json {
        Object::from([
            ("status", Json::from(self.status)),
            ("headers", pairs::to_json(&self.headers)),
            ("body", self.body.as_deref().into()),
        ])
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn transcripts_read_back() {
        for body in [
            GuestBody::None,
            GuestBody::Json("{ \"a\": 1.0 }".into()),
            GuestBody::Form(strings(&[("a[]", "é\n")])),
        ] {
            let request = GuestRequest {
                method: Method::Patch,
                path: "//\u{1b}?".into(),
                query: strings(&[("b", "1"), ("a", "2")]),
                headers: strings(&[("A", "x\r\n")]),
                body,
            };
            assert_eq!(
                serde_json::from_str::<GuestRequest>(&request.to_json().to_canonical()).unwrap(),
                request
            );
        }
        for body in [None, Some("x".to_owned())] {
            let answer = GuestResponse {
                status: 302,
                headers: strings(&[("b", "1"), ("a", "2")]),
                body,
            };
            assert_eq!(
                serde_json::from_str::<GuestResponse>(&answer.to_json().to_canonical()).unwrap(),
                answer
            );
        }
    }
}
