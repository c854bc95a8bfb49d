//! What a client is told: that it has to show who it is, and how (RFC 6750, RFC 9728).

use std::collections::BTreeSet;

use ambit_core::error::{Code, Refusal};
use ambit_core::identity::why::{Denied, Why};
use ambit_runtime::config::ServerConfig;
use ambit_runtime::gate::split_url;
use serde_json::{Value, json};

/// Where a resource's metadata is, below its origin.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// A request whose caller is not known, and what it is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unauthenticated {
    /// The status: 401; 400 where the request itself is wrong, 403 where somebody is known and may not, 503 where the keys of an issuer
    /// cannot be had.
    pub status: u16,
    /// The value of `WWW-Authenticate`.
    pub www_authenticate: String,
    /// Why, for the body of the answer. It names no agent, user or tenant of this home.
    pub refusal: Refusal,
}

/// What challenges are made from.
#[derive(Clone, Debug)]
pub(super) struct Challenge {
    /// The URL of the metadata, and its path; none where the home has no resource.
    metadata: Option<(String, String)>,
    document: Value,
}

impl Challenge {
    pub(super) fn new(config: &ServerConfig) -> Challenge {
        let metadata = config.resource.as_deref().and_then(|resource| {
            let (origin, path) = split_url(resource).ok()?;
            let path = format!("{WELL_KNOWN}{}", path.trim_end_matches('/'));
            Some((format!("{origin}{path}"), path))
        });
        let issuers = config.issuers.iter().map(|issuer| &issuer.rules);
        let servers: BTreeSet<&str> = issuers.clone().map(|rules| rules.issuer.as_str()).collect();
        let scopes: BTreeSet<&str> = issuers
            .flat_map(|rules| rules.scopes.keys().chain(&rules.required))
            .map(String::as_str)
            .collect();
        let mut document = json!({
            "resource": config.resource,
            "authorization_servers": servers,
            "bearer_methods_supported": ["header"],
            "resource_name": "Ambit",
        });
        if let Value::Object(members) = &mut document
            && !scopes.is_empty()
        {
            members.insert("scopes_supported".to_owned(), json!(scopes));
        }
        Challenge { metadata, document }
    }

    /// Of operators, for whom nothing is served that says where tokens come from.
    pub(super) const fn of_operators() -> Challenge {
        Challenge {
            metadata: None,
            document: Value::Null,
        }
    }

    /// The path and the document of RFC 9728; none where the home has no resource.
    pub(super) fn metadata(&self) -> Option<(&str, &Value)> {
        let (_, path) = self.metadata.as_ref()?;
        Some((path, &self.document))
    }

    /// What a request is answered with whose credentials are refused; `scopes` are those that a token should have.
    pub(super) fn of(&self, denied: &Denied, scopes: &BTreeSet<String>) -> Unauthenticated {
        let (status, error) = match denied.why {
            Why::Missing => (401, None),
            Why::Header => (400, Some("invalid_request")),
            Why::Scope => (403, Some("insufficient_scope")),
            // Another token would say the same of them.
            Why::Agent | Why::User | Why::Tenant => (403, None),
            Why::Unavailable => (503, None),
            _ => (401, Some("invalid_token")),
        };
        let mut said: Vec<String> = Vec::new();
        let mut put = |name: &str, text: &str| said.push(format!("{name}=\"{}\"", quotable(text)));
        if let Some((url, _)) = &self.metadata {
            put("resource_metadata", url);
        }
        if let Some(error) = error {
            put("error", error);
            put("error_description", &denied.message);
        }
        if !scopes.is_empty() && matches!(denied.why, Why::Missing | Why::Scope) {
            let words: Vec<&str> = scopes.iter().map(String::as_str).collect();
            put("scope", &words.join(" "));
        }
        if said.is_empty() {
            said.push("realm=\"ambit\"".to_owned());
        }
        Unauthenticated {
            status,
            www_authenticate: format!("Bearer {}", said.join(", ")),
            refusal: Refusal::new(Code::Caller, denied.message.clone()),
        }
    }
}

/// What can stand between quotes in a header (RFC 6750, section 3).
fn quotable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '"' | '\\' => '\'',
            ' '..='~' => c,
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_its_quotes() {
        assert_eq!(quotable("a\"b\\c\r\nd\u{e9}"), "a'b'c??d?");
    }
}
