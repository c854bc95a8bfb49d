//! Documents that the host reads for itself: the keys of whoever signs its callers' tokens.
//!
//! They go the way of every request, to a checked address and with TLS as their origin, and are no effect: the operator's configuration
//! says where they are, nothing of a caller or a guest is in the request, and it changes nothing. So there is no intent to commit.
//! With messages to people ([`Hook`](super::Hook)) and what a collector is told ([`Collector`](super::Collector)) this is all that leaves
//! without a [`Durable`](crate::store::Durable): a GET without a credential, of an address that was fixed when the document was named.

use ambit_core::effect::{GuestBody, GuestRequest, HttpRequest, Method, Origin, WireLimits};

use super::resolve::Endpoint;
use super::send::{Bounds, SendError, Sent, Wire};
use super::tls::Authorities;
use super::upstream::{Base, Upstream, UpstreamParts};

/// Where a document is, and how a socket gets there.
#[derive(Debug)]
pub struct Document {
    up: Upstream,
    request: HttpRequest,
}

/// How a socket gets to documents, as a connection's does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DocumentWay {
    /// Where the socket goes instead of the origin.
    pub connect_to: Option<Endpoint>,
    /// Who may sign the certificate.
    pub authorities: Authorities,
    /// Whether addresses on this machine and its networks may be connected to; plain http goes nowhere else.
    pub allow_private: bool,
}

/// The origin of a URL, and its path and query, as it stands.
///
/// # Errors
/// One clause: it is no absolute URL of http or https, or has a user name or a fragment.
pub fn split_url(url: &str) -> Result<(Origin, &str), String> {
    if url.contains('#') {
        return Err("has a fragment".into());
    }
    let scheme = url.find("://").map(|at| at.saturating_add(3)).ok_or("is no URL")?;
    let rest = url.get(scheme..).unwrap_or_default();
    let end = rest.find(['/', '?']).map_or(url.len(), |at| scheme.saturating_add(at));
    let origin: Origin = url
        .get(..end)
        .unwrap_or_default()
        .parse()
        .map_err(|problem| format!("has no origin: {problem}"))?;
    Ok((origin, url.get(end..).unwrap_or_default()))
}

impl Document {
    /// The document at a URL, called `name` in messages.
    ///
    /// # Errors
    /// One clause: it is no URL, not https where addresses are not the machine's own, or cannot be asked for.
    pub fn new(name: &str, url: &str, way: &DocumentWay) -> Result<Document, String> {
        let (origin, rest) = split_url(url)?;
        if origin.scheme() == ambit_core::effect::Scheme::Http && !way.allow_private {
            return Err("is not https".into());
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let pair = |text: &str| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (name.to_owned(), value.to_owned())
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~=&/:".contains(&byte);
        if !query.bytes().all(plain) {
            return Err("has a query that is not plain: letters, digits and -._~".into());
        }
        let guest = GuestRequest {
            method: Method::Get,
            path: if path.is_empty() { "/" } else { path }.to_owned(),
            query: query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect(),
            headers: vec![("accept".to_owned(), "application/json".to_owned())],
            body: GuestBody::None,
        };
        let request = HttpRequest::parse(&origin, &guest, &WireLimits::default()).map_err(|refusal| refusal.message)?;
        let up = Upstream::new(UpstreamParts {
            name: name.to_owned(),
            origin,
            connect_to: way.connect_to.clone(),
            authorities: way.authorities.clone(),
            allow_private: way.allow_private,
            trace: false,
            base: Base::Plain(String::new()),
            credential: None,
        })?;
        Ok(Document { up, request })
    }
}

impl Wire {
    /// Reads a document, once, without following anything.
    ///
    /// # Errors
    /// As [`Wire::send`].
    pub async fn read(&self, document: &Document, bounds: Bounds) -> Result<Sent, SendError> {
        self.exchange(&document.up, &document.request, (&[], None), bounds, None)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_one_address() {
        let way = DocumentWay::default();
        for (url, path) in [
            ("https://id.example", "/"),
            ("https://id.example/.well-known/jwks.json", "/.well-known/jwks.json"),
            (
                "https://id.example:8443/discovery/v2.0/keys?p=b2c_1",
                "/discovery/v2.0/keys?p=b2c_1",
            ),
            ("https://id.example?a=b", "/?a=b"),
        ] {
            let document = Document::new("id", url, &way).unwrap();
            assert_eq!(document.request.path_and_query(), path, "{url}");
        }
        for bad in [
            "",
            "id.example",
            "/jwks",
            "http://id.example/jwks",
            "ftp://id.example/jwks",
            "https://user@id.example/jwks",
            "https://id.example/jwks#keys",
            "https://id.example/../jwks",
            "https://id.example//jwks",
            "https://id.example/jwks?a=%00",
            "https://",
        ] {
            assert!(Document::new("id", bad, &way).is_err(), "{bad}");
        }
        let near = DocumentWay {
            allow_private: true,
            ..DocumentWay::default()
        };
        assert!(Document::new("id", "http://127.0.0.1:9/jwks", &near).is_ok());
    }
}
