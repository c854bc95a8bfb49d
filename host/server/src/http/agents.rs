//! `/mcp`: a request, its caller, and the door that is made for both.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ambit_core::error::Refusal;
use ambit_core::guard;
use ambit_core::identity::why::Why;
use ambit_core::policy::Mode;
use ambit_core::run::Run;
use ambit_core::trace::Protocol;
use ambit_runtime::host::Host;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use http::header::{AUTHORIZATION, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parking_lot::Mutex;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, ErrorData, GetMeta, JsonRpcMessage, ProtocolVersion,
    RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::time::timeout;

use super::Asks;
use super::answer::{Answer, Serving};
use super::front::{Front, OwnNames, body_of, could_not};
use super::problem::{document, plain, problem, unauthenticated};
use super::seats::{Requests, Seat};
use super::work::{OperatorThreads, at_work, let_go};
use crate::calls::{Calls, Whose};
use crate::frame::{self, Arguments, Frame};
use crate::identity::{Authenticated, Authenticator, Operator, Operators, Peer, Unauthenticated};
use crate::mcp::{self, Credentials, Door, Who};
use crate::offer::Offers;
use crate::status::{RESULT, STATUS};
use crate::{resources, tasks};

/// The longest message about a caller's own calls that is heard beside its share, in bytes, as far as its head says.
const BESIDE_BYTES: u64 = 64 << 10;

/// The largest body that is read by the thread that took it, in bytes.
const LARGE_BODY: usize = 128 << 10;

/// What serves all agents over HTTP.
#[derive(Debug)]
pub(crate) struct Agents {
    host: Host,
    names: Vec<String>,
    origins: Vec<String>,
    mode: Mode,
    /// How long a client may take to write a request's body.
    patience: Duration,
    calls: Calls,
    requests: Arc<Requests>,
    /// Those of operators, who are served beside agents and wait for none of them.
    operators: OperatorThreads,
    now: Mutex<Arc<Now>>,
}

/// What the host has taken last: a request is served by one of these from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Now {
    host: Host,
    callers: Authenticator,
    /// Who operators are; none where they are not served.
    operators: Option<Operators>,
    /// The largest body, in bytes.
    largest: usize,
    protocol: StreamableHttpServerConfig,
    /// What functions are called, once somebody has asked.
    offers: OnceLock<Arc<Offers>>,
    /// How handshakes are done in which clients are asked who they are, and in which they are not; none where the listener speaks plain HTTP.
    tls: Option<[Arc<ServerConfig>; 2]>,
}

impl Now {
    fn new(
        host: Host,
        callers: Authenticator,
        operators: Option<Operators>,
        (names, origins): (&[String], &[String]),
    ) -> Now {
        let largest = host.config().server().map_or(0, |server| server.request_bytes);
        let largest = usize::try_from(largest).unwrap_or(usize::MAX);
        // Every version is served without sessions: a session would be one more thing to steal. An answer is one document, or, where a
        // tool says how far it is, events.
        let protocol = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_allowed_hosts(names)
            .with_allowed_origins(origins)
            .enforce_origin_validation()
            .with_max_request_body_bytes(largest);
        let tls = host.config().server().and_then(|server| server.tls.as_ref());
        let tls = tls.map(|tls| {
            [callers.in_handshakes(), WebPkiClientVerifier::no_client_auth()]
                .map(|clients| Arc::new(tls.handshakes(clients)))
        });
        Now {
            tls,
            operators,
            host,
            callers,
            largest,
            protocol,
            offers: OnceLock::new(),
        }
    }

    pub(crate) const fn callers(&self) -> &Authenticator {
        &self.callers
    }

    /// How handshakes are done; none where the listener speaks plain HTTP.
    pub(super) fn tls(&self, asks: Asks) -> Option<Arc<ServerConfig>> {
        let [who_it_is, nothing] = self.tls.as_ref()?;
        Some(Arc::clone(match asks {
            Asks::WhoItIs => who_it_is,
            Asks::Nothing => nothing,
        }))
    }

    pub(crate) const fn operators(&self) -> Option<&Operators> {
        self.operators.as_ref()
    }

    pub(crate) const fn host(&self) -> &Host {
        &self.host
    }

    /// The largest body, in bytes.
    pub(crate) const fn largest(&self) -> usize {
        self.largest
    }

    fn offers(&self, who: &Who) -> Result<Arc<Offers>, Refusal> {
        match self.offers.get() {
            Some(offers) => Ok(Arc::clone(offers)),
            None => {
                let made = Door::names(&self.host, who)?;
                Ok(Arc::clone(self.offers.get_or_init(|| made)))
            }
        }
    }

    /// What a call of a function is answered with that the caller's token has no scope for, where another could have: by then it is on
    /// the ledger.
    async fn step_up(
        &self,
        caller: &Authenticated,
        door: &Door,
        message: &ClientJsonRpcMessage,
        headers: &HeaderMap,
    ) -> Result<Option<Unauthenticated>, ErrorData> {
        let JsonRpcMessage::Request(request) = message else {
            return Ok(None);
        };
        let (ClientRequest::CallToolRequest(call), Some(args)) = (&request.request, Arguments::of(message)) else {
            return Ok(None);
        };
        // It makes none.
        if tasks::asks_again(&request.request) {
            return Ok(None);
        }
        let Some((tool, function)) = door.named(&call.params.name) else {
            return Ok(None);
        };
        let Some(needed) = self.callers.step_up(caller, tool, function) else {
            return Ok(None);
        };
        let parent = mcp::parent_of(request.request.get_meta(), Some(headers));
        let request = door.asks(tool, function, args.as_str().to_owned(), mcp::trace_of(parent.as_ref()));
        let arrival = mcp::arrival(Protocol::Mcp, parent.as_ref());
        Ok(door.refused_for_scope(request, arrival).await?.then_some(needed))
    }
}

impl Agents {
    /// `own` is what requests may be addressed to, and which pages may make them.
    pub(super) fn new(host: Host, callers: Authenticator, own: &OwnNames, mode: Mode, patience: Duration) -> Agents {
        let (names, origins) = (own.all(), own.origins());
        let requests = Requests::new(host.config().server().map_or(0, |server| server.requests_per_agent));
        let now = Now::new(
            host.clone(),
            callers,
            Operators::of_reading(None, &host),
            (&names, &origins),
        );
        Agents {
            host,
            names,
            origins,
            mode,
            patience,
            calls: Calls::default(),
            requests,
            operators: OperatorThreads::new(),
            now: Mutex::new(Arc::new(now)),
        }
    }

    /// By what the host has taken last.
    pub(crate) fn now(&self) -> Arc<Now> {
        let mut now = self.now.lock();
        let host = self.host.current();
        if now.host.is_as_read(&host) {
            return Arc::clone(&now);
        }
        let callers = now.callers.of_reading(&host);
        let operators = Operators::of_reading(now.operators.as_ref(), &host);
        let new = Arc::new(Now::new(host, callers, operators, (&self.names, &self.origins)));
        let old = std::mem::replace(&mut *now, Arc::clone(&new));
        drop(now);
        // With it may go all that was read before, tools included.
        let_go(old);
        new
    }

    /// The threads of operators.
    pub(crate) const fn operators(&self) -> &OperatorThreads {
        &self.operators
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// How long a client may take to write a request's body.
    pub(crate) const fn patience(&self) -> Duration {
        self.patience
    }

    /// A door for this caller and no other, with what its credentials leave, for a request that is served.
    pub(crate) fn door(&self, now: &Now, caller: &Authenticated, serving: &Serving) -> Result<Door, Refusal> {
        let who = Who {
            agent: caller.caller.agent().to_owned(),
            user: caller.caller.user().map(str::to_owned),
            mode: mode_in(self.mode, caller.run.as_ref()),
            run: caller.run.as_ref().map(|run| run.id().to_owned()),
        };
        let credentials = Credentials {
            narrowing: caller.narrowing.clone(),
            by: Some(caller.by.clone()),
        };
        let offers = now.offers(&who)?;
        let door = Door::open(now.host.clone(), who, credentials, offers, self.calls.clone())?;
        Ok(door.of_request(&serving.under_way()))
    }

    /// A request of a caller who is known: its connection is kept, and it counts among its agent's; or, and that is said, beside them,
    /// where there are as many as there may be. There it is served only where it is about its caller's own calls.
    pub(crate) fn begin(
        &self,
        now: &Now,
        caller: &Authenticated,
        seat: &Arc<Seat>,
    ) -> Result<(Serving, bool), Box<Response>> {
        let agent = caller.caller.agent();
        if let Some(under_way) = self.requests.begin(agent) {
            return Ok((Serving::new(seat.busy(), under_way), false));
        }
        match self.requests.begin_beside(agent) {
            Some(under_way) => Ok((Serving::new(seat.busy(), under_way), true)),
            None => Err(self.full(now, "agent").into()),
        }
    }

    /// Whether a request may go on: in its agent's share, or `beside` it where it is about that one's own calls.
    pub(crate) fn check_beside(&self, now: &Now, beside: bool, own: bool) -> Result<(), Box<Response>> {
        if !beside || guard!("http.share-beside", own) {
            return Ok(());
        }
        Err(self.full(now, "agent").into())
    }

    /// The same of an operator, whose requests are no agent's: no agent's name has a space in it.
    pub(crate) fn begin_of_operator(
        &self,
        now: &Now,
        operator: &Operator,
        seat: &Arc<Seat>,
    ) -> Result<Serving, Box<Response>> {
        match self.requests.begin(&format!("operator {}", operator.shown.name)) {
            Some(under_way) => Ok(Serving::new(seat.busy(), under_way)),
            None => Err(self.full(now, "operator").into()),
        }
    }

    fn full(&self, now: &Now, kind: &str) -> Response {
        now.callers.note(Why::Share);
        let most = self.requests.most();
        let detail = format!("{most} requests of this {kind} are under way: wait until one is answered");
        let mut response = problem(StatusCode::TOO_MANY_REQUESTS, &detail);
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        response
    }

    /// What a notification takes back that its caller asked for over another connection.
    fn take_back(&self, caller: &Authenticated, message: &ClientJsonRpcMessage) {
        if let JsonRpcMessage::Notification(told) = message
            && let ClientNotification::CancelledNotification(cancelled) = &told.notification
            && let Some(request) = &cancelled.params.request_id
        {
            let whose = Whose::new(caller.caller.agent(), caller.caller.user(), Some(&caller.by));
            self.calls.take_back(&whose, request);
        }
    }
}

/// The stricter of the mode that agents are served in and that of a run.
fn mode_in(served: Mode, run: Option<&Run>) -> Mode {
    match run.map(|run| run.started.mode) {
        Some(mode) if !served.is_within(mode) => mode,
        _ => served,
    }
}

/// Serves a request: its caller first, and nothing of it before that.
pub(super) async fn serve(
    State(front): State<Arc<Front>>,
    Extension(seat): Extension<Arc<Seat>>,
    request: Request,
) -> Response {
    let response = served(front.agents(), &seat, request).await;
    let mut response = response.unwrap_or_else(|answer| *answer);
    plain(&mut response);
    response
}

async fn served(agents: &Agents, seat: &Arc<Seat>, request: Request) -> Result<Response, Box<Response>> {
    let (mut parts, body) = request.into_parts();
    let now = agents.now();
    let peer = parts.extensions.remove::<Arc<Peer>>();
    let caller = now
        .callers
        .authenticate(&parts.headers, parts.uri.query(), peer.as_deref())
        .await;
    let caller = caller.map_err(|refused| unauthenticated(&refused))?;
    let (serving, beside) = agents.begin(&now, &caller, seat)?;
    agents.check_beside(&now, beside, body.size_hint().lower() <= BESIDE_BYTES)?;
    let door = agents
        .door(&now, &caller, &serving)
        .map_err(|refusal| problem(StatusCode::FORBIDDEN, &refusal.message))?;
    // A body need not say how long it is.
    let most = usize::try_from(BESIDE_BYTES).unwrap_or(usize::MAX);
    let largest = if beside { now.largest.min(most) } else { now.largest };
    let text = whole(body, largest, agents.patience).await?;
    let mut outlives = false;
    let frame = match text.len() > LARGE_BODY {
        false => frame::read(&text),
        // Whoever else is served by this thread does not wait until it is read.
        true => {
            let text = text.clone();
            let read = at_work(Some(serving.under_way()), move || frame::read(&text)).await;
            read.map_err(|error| could_not(&error))?
        }
    };
    agents.check_beside(&now, beside, is_about_own(&frame))?;
    match frame {
        Frame::Message(message) => {
            match now.step_up(&caller, &door, &message, &parts.headers).await {
                Ok(None) => {}
                Ok(Some(refused)) => return Err(unauthenticated(&refused).into()),
                Err(error) => return Err(problem(StatusCode::INTERNAL_SERVER_ERROR, &error.message).into()),
            }
            // The protocol's library reads the body once more, and these not to the letter.
            if let Some(args) = Arguments::of(&message) {
                parts.extensions.insert(args.clone());
            }
            agents.take_back(&caller, &message);
            outlives = outlives_its_client(&parts, &message);
        }
        // The protocol's library says what it makes of other methods than POST.
        Frame::Nothing => {}
        Frame::Wrong(id, error) => return Err(wrong(id, error).into()),
    }
    // Nobody needs it from here on.
    parts.headers.remove(AUTHORIZATION);
    let sessions = Arc::new(NeverSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(door.clone()), sessions, now.protocol.clone());
    let request = Request::from_parts(parts, body_of(text));
    // Boxed, as it is large and is moved.
    let answer = Box::pin(async move {
        let response = service.handle(request).await;
        response.map(|body| Body::new(Answer::new(Body::new(body), serving, outlives)))
    });
    if !outlives {
        return Ok(answer.await);
    }
    match tokio::spawn(answer).await {
        Ok(response) => Ok(response),
        Err(error) => Err(could_not(&error).into()),
    }
}

/// Whether a message reads or takes back what its caller has already: its own calls may be all that it may have under way.
fn is_about_own(frame: &Frame) -> bool {
    let Frame::Message(message) = frame else { return false };
    match message.as_ref() {
        JsonRpcMessage::Notification(told) => {
            matches!(told.notification, ClientNotification::CancelledNotification(_))
        }
        JsonRpcMessage::Request(request) => match &request.request {
            ClientRequest::GetTaskRequest(_) | ClientRequest::CancelTaskRequest(_) => true,
            ClientRequest::CallToolRequest(call) => {
                matches!(call.params.name.as_ref(), STATUS | RESULT) || tasks::asks_again(&request.request)
            }
            ClientRequest::ReadResourceRequest(read) => resources::is_receipt(&read.params.uri),
            _ => false,
        },
        _ => false,
    }
}

/// Whether what was asked goes on where its client goes away. Up to version 2025-11-25 of the protocol a connection that ends says nothing,
/// and a client that wants no answer any more says so in a notification; since 2026-07-28 its closing says just that.
fn outlives_its_client(parts: &Parts, message: &ClientJsonRpcMessage) -> bool {
    let JsonRpcMessage::Request(request) = message else {
        return false;
    };
    // All else is over before anybody can go.
    let is_call = matches!(&request.request, ClientRequest::CallToolRequest(_));
    let named = parts.headers.get("mcp-protocol-version");
    let newest = ProtocolVersion::V_2026_07_28;
    let says_each_time = named.is_some_and(|version| version.as_bytes() == newest.as_str().as_bytes())
        || request.request.get_meta().protocol_version().is_some();
    is_call && guard!("http.outlives", !says_each_time)
}

/// The whole of a body, where it is no larger than it may be and comes in time. Of one that says that it is larger nothing is read.
pub(crate) async fn whole(body: Body, largest: usize, patience: Duration) -> Result<Bytes, Box<Response>> {
    let too_large = || {
        let detail = format!("the body of a request is at most {largest} bytes (`request_bytes` of the server)");
        Box::new(problem(StatusCode::PAYLOAD_TOO_LARGE, &detail))
    };
    if !guard!("http.body-said", body.size_hint().lower() <= largest as u64) {
        return Err(too_large());
    }
    let limit = if guard!("http.body", false) {
        usize::MAX
    } else {
        largest
    };
    match timeout(patience, Limited::new(body, limit).collect()).await {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(problem(StatusCode::BAD_REQUEST, "the body of the request ended early").into()),
        Err(_) => Err(problem(
            StatusCode::REQUEST_TIMEOUT,
            "the body of the request did not come in time",
        )
        .into()),
    }
}

/// What is no message of the protocol.
fn wrong(id: Option<RequestId>, error: ErrorData) -> Response {
    match serde_json::to_string(&ServerJsonRpcMessage::error(error, id)) {
        Ok(text) => document(StatusCode::BAD_REQUEST, "application/json", text),
        Err(error) => could_not(&error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_connection_that_ends_says_something_since_the_newest_version() {
        let outlives = |method: &str, header: Option<&str>, meta: Option<&str>| {
            let mut request = http::Request::builder();
            if let Some(version) = header {
                request = request.header("MCP-Protocol-Version", version);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let mut params = json!({ "name": "f", "arguments": {} });
            if let Some(version) = meta {
                params["_meta"] = json!({ "io.modelcontextprotocol/protocolVersion": version });
            }
            let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
            outlives_its_client(&parts, &serde_json::from_value(message).unwrap())
        };
        assert!(outlives("tools/call", None, None));
        assert!(outlives("tools/call", Some("2025-06-18"), None));
        assert!(outlives("tools/call", Some("2025-11-25"), None));
        assert!(!outlives("tools/call", Some("2026-07-28"), None));
        assert!(!outlives("tools/call", None, Some("2026-07-28")));
        assert!(!outlives("tools/list", Some("2025-11-25"), None));
    }
}
