//! What is served where, and what every request has to be before it is looked at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ambit_core::guard;
use ambit_core::metrics::Format;
use ambit_core::policy::Mode;
use ambit_runtime::gate::split_url;
use ambit_runtime::host::Host;
use axum::extract::{Extension, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{any, get};
use axum::{Router, body};
use http::header::{ACCEPT, FORWARDED, HOST, ORIGIN, VIA};
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::json;

use super::agents::{self, Agents};
use super::problem::{document, json, problem};
use crate::calls::Calls;
use crate::identity::Authenticator;

/// Where the resource's metadata is, for clients that ask without its path (RFC 9728).
const METADATA: &str = "/.well-known/oauth-protected-resource";

/// Who is at the other end of a connection: the client, or what stands in front of the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// The server's side of all connections.
#[derive(Debug)]
pub(super) struct Front {
    agents: Agents,
    /// What a request may be addressed to.
    own: OwnNames,
    /// No new connection is taken.
    ends: AtomicBool,
}

impl Front {
    /// `address` is where it listens.
    pub(super) fn new(host: Host, callers: Authenticator, address: SocketAddr, mode: Mode) -> Front {
        let own = OwnNames::new(
            address,
            host.config().server().and_then(|server| server.resource.as_deref()),
        );
        Front {
            agents: Agents::new(host, callers, &own.all(), mode),
            own,
            ends: AtomicBool::new(false),
        }
    }

    pub(super) fn host(&self) -> &Host {
        self.agents.host()
    }

    pub(super) fn agents(&self) -> &Agents {
        &self.agents
    }

    /// The calls that run, of all callers.
    pub(super) fn calls(&self) -> &Calls {
        self.agents.calls()
    }

    /// It is not ready for anything from now on.
    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    /// Why it is not ready; nothing where it is.
    fn unready(&self) -> Vec<&'static str> {
        let ends = self.ends.load(Ordering::Relaxed).then_some("ending");
        // Policy and tools are whole, or there would be no host.
        let ledger = self.host().failed().is_some() || self.host().reader().is_err();
        ends.into_iter().chain(ledger.then_some("ledger")).collect()
    }
}

/// The names and addresses that requests are for, as `Host` says them.
#[derive(Debug)]
struct OwnNames {
    /// Of the address that is listened on.
    near: Vec<String>,
    /// Of the resource: what clients elsewhere know.
    far: Option<String>,
}

impl OwnNames {
    fn new(address: SocketAddr, resource: Option<&str>) -> OwnNames {
        let mut near = vec![address.to_string()];
        if address.ip().is_loopback() || address.ip().is_unspecified() {
            let port = address.port();
            near.extend(["127.0.0.1", "[::1]", "localhost"].map(|name| format!("{name}:{port}")));
        }
        let origin = resource.and_then(|resource| Some(split_url(resource).ok()?.0.to_string()));
        let far = origin.and_then(|origin| Some(origin.split_once("://")?.1.to_owned()));
        OwnNames { near, far }
    }

    fn all(&self) -> Vec<String> {
        self.near.iter().chain(&self.far).cloned().collect()
    }

    fn is_near(&self, name: &str) -> bool {
        self.near.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    fn has(&self, name: &str) -> bool {
        self.is_near(name) || self.far.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name))
    }
}

/// What is served.
pub(super) fn router(front: Arc<Front>) -> Router {
    Router::new()
        .route("/mcp", any(agents::serve))
        .route("/metrics", get(metrics))
        .fallback(elsewhere)
        .layer(from_fn_with_state(Arc::clone(&front), addressed))
        // Whoever watches a process knows it by an address that may be none of its names.
        .route("/health", get(async || json(StatusCode::OK, &json!({ "status": "up" }))))
        .route("/ready", get(ready))
        .with_state(front)
}

/// A request is for this server, and does not come from a page in a browser: whoever is made to open a page has not asked for
/// anything, and a name that a page's author owns can be made to be this machine's.
async fn addressed(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    let named = host_of(request.uri(), request.headers());
    if !guard!("http.host", named.is_some_and(|name| front.own.has(name))) {
        return problem(
            StatusCode::MISDIRECTED_REQUEST,
            "the request is for a host that this is not: it is its own address, or that of `resource` in its [server]",
        );
    }
    if !guard!("http.origin", !request.headers().contains_key(ORIGIN)) {
        return problem(StatusCode::FORBIDDEN, "requests from pages in browsers are not taken");
    }
    next.run(request).await
}

/// Whom a request is for; none where it does not say, or says two.
fn host_of<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    let mut all = headers.get_all(HOST).iter();
    let name = all.next()?.to_str().ok()?;
    let same = uri.authority().is_none_or(|other| other.as_str() == name);
    (all.next().is_none() && same).then_some(name)
}

/// Whatever has no place of its own: the resource's metadata has one by the configuration.
async fn elsewhere(State(front): State<Arc<Front>>, request: Request) -> Response {
    let metadata = front.agents.callers().metadata();
    match metadata {
        Some((path, metadata))
            if *request.method() == Method::GET && [path, METADATA].contains(&request.uri().path()) =>
        {
            json(StatusCode::OK, metadata)
        }
        _ => problem(
            StatusCode::NOT_FOUND,
            "there is nothing here: agents are served at /mcp",
        ),
    }
}

async fn ready(State(front): State<Arc<Front>>) -> Response {
    let unready = tokio::task::spawn_blocking(move || front.unready()).await;
    match unready {
        Ok(why) if why.is_empty() => json(StatusCode::OK, &json!({ "status": "ready" })),
        Ok(why) => json(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "status": "not-ready", "why": why }),
        ),
        Err(error) => could_not(&error),
    }
}

/// For this machine alone: names of tools and connections are in it. What came over another machine is not of this one, though what passed
/// it on is.
async fn metrics(
    State(front): State<Arc<Front>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Response {
    let headers = request.headers();
    let passed_on = [FORWARDED.as_str(), VIA.as_str(), "x-forwarded-for", "x-real-ip"]
        .iter()
        .any(|name| headers.contains_key(*name));
    let near = host_of(request.uri(), headers).is_some_and(|name| front.own.is_near(name));
    if !guard!(
        "http.metrics",
        peer.ip().to_canonical().is_loopback() && near && !passed_on
    ) {
        return problem(
            StatusCode::FORBIDDEN,
            "metrics are for processes of the server's own machine",
        );
    }
    let open = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = match open.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
        true => Format::OpenMetrics,
        false => Format::Prometheus,
    };
    let read = tokio::task::spawn_blocking(move || front.host().metrics()).await;
    match read {
        Ok(Ok(samples)) => document(StatusCode::OK, format.media_type(), samples.text(format)),
        Ok(Err(error)) => could_not(&error),
        Err(error) => could_not(&error),
    }
}

/// What only the operator can do something about is for the operator's log.
pub(super) fn could_not(error: &dyn std::fmt::Display) -> Response {
    tracing::error!(%error, "the host could not do its work");
    problem(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the host could not do its work; its operator's log says why",
    )
}

/// A body that is there already.
pub(super) fn body_of(text: impl Into<body::Bytes>) -> body::Body {
    body::Body::from(text.into())
}
