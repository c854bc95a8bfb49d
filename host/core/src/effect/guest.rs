use serde::{Deserialize, Serialize};

use super::Method;

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
