//! What is served where, and what every request has to be before it is looked at.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ambit_core::guard;
use ambit_core::identity::why::Why;
use ambit_core::metrics::Format;
use ambit_core::policy::Mode;
use ambit_runtime::gate::split_url;
use ambit_runtime::host::Host;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{any, get};
use axum::{Router, body};
use http::header::{ACCEPT, HOST, ORIGIN, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use parking_lot::Mutex;
use serde_json::json;

use super::agents::{self, Agents};
use super::problem::{document, json, problem};
use crate::api;
use crate::identity::{Authenticator, Operators};

/// Where the metadata of agents' resource is, for clients that ask without its path (RFC 9728).
const METADATA: &str = "/.well-known/oauth-protected-resource";

/// Where a page that has a browser ask something is, as the browser says: <https://www.w3.org/TR/fetch-metadata/>.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// How long it is believed what was found out about the ledger: whoever asks whether the server is ready need not show who they are.
const BELIEVED: Duration = Duration::from_secs(1);
/// What a request has once, or two readers could take one each. `Host` and `Authorization` are looked at by themselves.
const ONCE: [&str; 6] = [
    "content-type",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
];

/// The server's side of all connections.
#[derive(Debug)]
pub(crate) struct Front {
    agents: Agents,
    /// What a request may be addressed to.
    own: OwnNames,
    /// No new connection is taken.
    ends: AtomicBool,
    /// Whether the ledger can be read, and when that was looked at.
    readable: Mutex<Option<(Instant, bool)>>,
}

impl Front {
    /// `address` is where it listens; `patience` is how long a client may take to write a request's body.
    pub(super) fn new(
        host: Host,
        callers: Authenticator,
        address: SocketAddr,
        mode: Mode,
        patience: Duration,
    ) -> Front {
        let server = host.config().server();
        let own = OwnNames::new(
            address,
            server.is_some_and(|server| server.tls.is_some()),
            server.and_then(|server| server.resource.as_deref()),
        );
        Front {
            agents: Agents::new(host, callers, &own, mode, patience),
            own,
            ends: AtomicBool::new(false),
            readable: Mutex::default(),
        }
    }

    pub(crate) fn host(&self) -> &Host {
        self.agents.host()
    }

    pub(crate) fn agents(&self) -> &Agents {
        &self.agents
    }

    /// Counts a request that is refused for this.
    pub(super) fn note(&self, why: Why) {
        self.agents.now().callers().note(why);
    }

    /// It is not ready for anything from now on.
    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    /// Why it is not ready; nothing where it is.
    fn unready(&self) -> Vec<&'static str> {
        let goes_on = guard!("http.ready-ending", !self.ends.load(Ordering::Relaxed));
        // Policy and tools are whole, or there would be no host.
        let writes = guard!("http.ready-failed", self.host().failed().is_none());
        let reads = guard!("http.ready-readable", self.readable());
        let ending = (!goes_on).then_some("ending");
        ending
            .into_iter()
            .chain((!(writes && reads)).then_some("ledger"))
            .collect()
    }

    /// Whether the ledger can be read, as of a second ago at most.
    fn readable(&self) -> bool {
        let mut known = self.readable.lock();
        let believed = known.filter(|(at, _)| at.elapsed() < BELIEVED);
        let (_, readable) = *known.insert(believed.unwrap_or_else(|| (Instant::now(), self.host().reader().is_ok())));
        readable
    }
}

/// The names and addresses that requests are for, as `Host` says them.
#[derive(Debug)]
pub(super) struct OwnNames {
    /// Of the address that is listened on.
    near: Vec<String>,
    /// What the origins of those begin with: whether TLS is spoken there does not change while the process runs.
    near_scheme: &'static str,
    /// Of the resource: what clients elsewhere know.
    far: Option<String>,
    /// The origin of that: TLS may stand in front of it, and stands in front of no other.
    far_origin: Option<String>,
}

impl OwnNames {
    /// `tls` is whether that is spoken at the address.
    pub(super) fn new(address: SocketAddr, tls: bool, resource: Option<&str>) -> OwnNames {
        let (near_scheme, usual_port) = if tls { ("https://", ":443") } else { ("http://", ":80") };
        let mut near = vec![address.to_string()];
        if address.ip().is_loopback() || address.ip().is_unspecified() {
            let port = address.port();
            near.extend(["127.0.0.1", "[::1]", "localhost"].map(|name| format!("{name}:{port}")));
        }
        // Clients leave out the port that is the usual one.
        let bare = |name: &String| name.strip_suffix(usual_port).map(str::to_owned);
        let usual: Vec<String> = near.iter().filter_map(bare).collect();
        near.extend(usual);
        let origin = resource.and_then(|resource| Some(split_url(resource).ok()?.0.to_string()));
        let far = origin
            .as_deref()
            .and_then(|origin| Some(origin.split_once("://")?.1.to_owned()));
        OwnNames {
            near,
            near_scheme,
            far,
            far_origin: origin,
        }
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.near.iter().chain(&self.far).cloned().collect()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.is_near(name) || self.far.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    fn is_near(&self, name: &str) -> bool {
        self.near.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Whether an `Origin` is that of this server, by the names that it was given: never by what a request says that it is for.
    pub(super) fn has_origin(&self, origin: &str) -> bool {
        let near = origin
            .strip_prefix(self.near_scheme)
            .is_some_and(|name| self.is_near(name));
        near || self
            .far_origin
            .as_deref()
            .is_some_and(|own| own.eq_ignore_ascii_case(origin))
    }

    /// The same for whoever asks once more, each with its port.
    pub(super) fn origins(&self) -> Vec<String> {
        let near = self.near.iter().map(|name| format!("{}{name}", self.near_scheme));
        let all = near.chain(self.far_origin.clone());
        all.map(|origin| {
            let (scheme, name) = origin.split_once("://").unwrap_or_default();
            let has_port = name
                .rsplit_once(':')
                .is_some_and(|(_, port)| port.bytes().all(|digit| digit.is_ascii_digit()));
            match (has_port, scheme) {
                (true, _) => origin,
                (false, "https") => format!("{origin}:443"),
                (false, _) => format!("{origin}:80"),
            }
        })
        .collect()
    }
}

/// What is served.
pub(super) fn router(front: Arc<Front>) -> Router {
    Router::new()
        .route("/mcp", any(agents::serve))
        .route("/v1/{*path}", any(api::serve))
        .fallback(elsewhere)
        .layer(from_fn_with_state(Arc::clone(&front), addressed))
        .merge(watched())
        .with_state(front)
}

/// What is served at the address of metrics. Names of tools and connections are in them: whoever reaches the agents' address, as what stands
/// in front of it does, whatever it says of whom it asks for, does not reach this one.
pub(super) fn metrics_router(front: Arc<Front>) -> Router {
    let nothing = async || problem(StatusCode::NOT_FOUND, "there is nothing here: metrics are at /metrics");
    Router::new()
        .route("/metrics", get(metrics))
        .fallback(nothing)
        .layer(from_fn_with_state(Arc::clone(&front), named_by_address))
        .merge(watched())
        .with_state(front)
}

/// Whoever watches a process knows it by an address that may be none of its names.
fn watched() -> Router<Arc<Front>> {
    Router::new()
        .route(
            "/health",
            get(async || json(StatusCode::OK, &json!({ "status": "up" }))),
        )
        .route("/ready", get(ready))
}

/// What every connection is answered with that comes when all seats are busy.
pub(super) fn full() -> Router {
    Router::new().fallback(async || {
        let detail = "the server serves as many requests as it may: come again later";
        let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, detail);
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        response
    })
}

/// A request is for this server, and does not come from a page in a browser: whoever is made to open a page has not asked for
/// anything, and a name that a page's author owns can be made to be this machine's.
async fn addressed(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    let named = host_of(request.uri(), request.headers());
    if !guard!("http.host", named.is_some_and(|name| front.own.has(name))) {
        front.note(Why::Host);
        return problem(
            StatusCode::MISDIRECTED_REQUEST,
            "the request is for a host that this is not: it is its own address, or that of `resource` in its [server]",
        );
    }
    // A page of this server's own is none that anybody was made to open, and of its own names none can be had by somebody else.
    let mut origins = request.headers().get_all(ORIGIN).iter();
    let own = |origin: &HeaderValue| origin.to_str().is_ok_and(|origin| front.own.has_origin(origin));
    // What a page only has loaded has no origin, and the client's certificate all the same (Fetch Metadata).
    let mut sites = request.headers().get_all(SEC_FETCH_SITE).iter();
    let near = |site: &HeaderValue| site == "same-origin" || site == "none";
    if !guard!("http.origin", origins.all(own) && sites.all(near)) {
        front.note(Why::Origin);
        return problem(StatusCode::FORBIDDEN, "requests from pages in browsers are not taken");
    }
    if let Some(twice) = twice(request.headers()) {
        front.note(Why::Header);
        return problem(
            StatusCode::BAD_REQUEST,
            &format!("the request has more than one `{twice}`"),
        );
    }
    next.run(request).await
}

/// The name of what a request has twice and may have once.
fn twice(headers: &HeaderMap) -> Option<&'static str> {
    let is_twice = |name: &&str| headers.get_all(*name).iter().nth(1).is_some();
    ONCE.into_iter()
        .find(is_twice)
        .filter(|_| !guard!("http.single-headers", false))
}

/// A request for metrics names this server by an address: a name that a page's author owns can be made to be this machine's, an address
/// cannot.
async fn named_by_address(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    let named = host_of(request.uri(), request.headers());
    let from_page = request.headers().contains_key(ORIGIN);
    let by_address = named.is_some_and(is_address);
    if !guard!("http.metrics", by_address && !from_page) {
        front.note(if by_address { Why::Origin } else { Why::Host });
        return problem(
            StatusCode::MISDIRECTED_REQUEST,
            "metrics are asked for by the server's address, or as `localhost`, and not from a page",
        );
    }
    next.run(request).await
}

/// Whether a `Host` is an address, or what every machine calls itself; with a port or without.
fn is_address(name: &str) -> bool {
    let host = match name.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => name,
    };
    let plain = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || plain.parse::<IpAddr>().is_ok()
}

/// Whom a request is for; none where it does not say, or says two.
fn host_of<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    let mut all = headers.get_all(HOST).iter();
    let name = all.next()?.to_str().ok()?;
    let same = uri.authority().is_none_or(|other| other.as_str() == name);
    (all.next().is_none() && same).then_some(name)
}

/// Whatever has no place of its own: metadata of resources has one by the configuration.
async fn elsewhere(State(front): State<Arc<Front>>, request: Request) -> Response {
    let now = front.agents.now();
    let path = request.uri().path();
    let (agents, operators) = (now.callers().metadata(), now.operators().and_then(Operators::metadata));
    let mut both = agents.into_iter().chain(operators);
    let metadata = both.find(|(at, _)| *at == path);
    match metadata.or(agents.filter(|_| path == METADATA)) {
        Some((_, metadata)) if *request.method() == Method::GET => json(StatusCode::OK, metadata),
        _ => problem(
            StatusCode::NOT_FOUND,
            "there is nothing here: agents are served at /mcp and at /v1, which /v1/openapi.json describes",
        ),
    }
}

pub(super) async fn ready(State(front): State<Arc<Front>>) -> Response {
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

async fn metrics(State(front): State<Arc<Front>>, request: Request) -> Response {
    let headers = request.headers();
    let open = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = match open.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
        true => Format::OpenMetrics,
        false => Format::Prometheus,
    };
    let read = tokio::task::spawn_blocking(move || front.host().current().metrics()).await;
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
