//! What a client is told: that it has to show who it is, and how (RFC 6750, RFC 9728).

use std::collections::BTreeSet;

use ambit_core::error::{Code, Refusal};
use ambit_core::guard;
use ambit_core::identity::operator::Scope;
use ambit_core::identity::why::{Denied, Why};
use ambit_runtime::config::{IssuerConfig, OperatorsConfig, ServerConfig};
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
pub(super) struct Challenge(Option<Metadata>);

/// What a resource says of itself (RFC 9728).
#[derive(Clone, Debug)]
struct Metadata {
    url: String,
    path: String,
    document: Value,
}

impl Challenge {
    /// Of agents: nothing is said where the home has no resource.
    pub(super) fn new(config: &ServerConfig) -> Challenge {
        let rules = config.issuers.iter().map(|issuer| &issuer.rules);
        let scopes = rules.flat_map(|rules| rules.scopes.keys().chain(&rules.required));
        let scopes = scopes.map(String::as_str).collect();
        let resource = config.resource.as_deref();
        Challenge(resource.and_then(|resource| Metadata::new(resource, "Ambit", &config.issuers, &scopes)))
    }

    /// Of operators: what their tokens are for need not be a URL, and only of one of this server's own is there anything to serve.
    pub(super) fn of_operators(config: &ServerConfig, operators: &OperatorsConfig) -> Challenge {
        let rules = operators.issuers.iter().map(|issuer| &issuer.rules);
        let required = rules.flat_map(|rules| rules.required.iter().map(String::as_str));
        let scopes = required.chain(Scope::ALL.map(Scope::as_str)).collect();
        let resource = operators.audience.as_deref();
        let resource = resource.filter(|audience| is_own(config.resource.as_deref(), audience));
        let metadata =
            resource.and_then(|resource| Metadata::new(resource, "Ambit for operators", &operators.issuers, &scopes));
        // Of two documents in one place agents' was there first; without a path their clients look for theirs, too.
        let agents = Challenge::new(config);
        let own = |path: &str| path != WELL_KNOWN && agents.metadata().is_none_or(|(taken, _)| path != taken);
        Challenge(metadata.filter(|metadata| own(&metadata.path)))
    }

    /// The path and the document of RFC 9728; none where there is no resource.
    pub(super) fn metadata(&self) -> Option<(&str, &Value)> {
        let metadata = self.0.as_ref()?;
        Some((&metadata.path, &metadata.document))
    }

    /// What a request is answered with whose credentials are refused; `scopes` are those that a token should have.
    pub(super) fn of(&self, denied: &Denied, scopes: &BTreeSet<String>) -> Unauthenticated {
        let (status, error) = match denied.why {
            // It is not by what the header says: there is none.
            Why::Missing | Why::Certificate => (401, None),
            Why::Header => (400, Some("invalid_request")),
            Why::Scope => (403, Some("insufficient_scope")),
            // Another token would say the same of them.
            Why::Agent | Why::User | Why::Tenant => (403, None),
            Why::Unavailable => (503, None),
            _ => (401, Some("invalid_token")),
        };
        let mut said: Vec<String> = Vec::new();
        let mut put = |name: &str, text: &str| said.push(format!("{name}=\"{}\"", quotable(text)));
        if let Some(metadata) = &self.0 {
            put("resource_metadata", &metadata.url);
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

impl Metadata {
    /// Of a resource that these give out tokens for; none where it is no URL.
    fn new(resource: &str, name: &str, issuers: &[IssuerConfig], scopes: &BTreeSet<&str>) -> Option<Metadata> {
        let (origin, path) = split_url(resource).ok()?;
        let path = format!("{WELL_KNOWN}{}", path.trim_end_matches('/'));
        let servers: BTreeSet<&str> = issuers.iter().map(|issuer| issuer.rules.issuer.as_str()).collect();
        let mut document = json!({
            "resource": resource,
            "bearer_methods_supported": ["header"],
            "resource_name": name,
        });
        if let Value::Object(members) = &mut document {
            // A list of nothing is left out (section 3.2).
            let lists = [("authorization_servers", &servers), ("scopes_supported", scopes)];
            let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
            members.extend(lists.map(|(name, list)| (name.to_owned(), json!(list))));
        }
        Some(Metadata {
            url: format!("{origin}{path}"),
            path,
            document,
        })
    }
}

/// Whether an audience is a URL of the origin that `resource` says this server has, of plain characters and without a query.
fn is_own(resource: Option<&str>, audience: &str) -> bool {
    let own = resource.and_then(|resource| split_url(resource).ok());
    let (Some((own, _)), Ok((origin, path))) = (own, split_url(audience)) else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:@".contains(&byte);
    guard!("operator.metadata-origin", origin == own) && path.bytes().all(plain)
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
