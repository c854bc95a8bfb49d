//! `/mcp`: a request, its caller, and the door that is made for both.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ambit_core::error::Refusal;
use ambit_core::guard;
use ambit_core::policy::Mode;
use ambit_runtime::host::Host;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use http::header::AUTHORIZATION;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::time::timeout;

use super::front::{Front, body_of, could_not};
use super::problem::{document, plain, problem, unauthenticated};
use crate::calls::Calls;
use crate::frame::{self, Frame};
use crate::identity::{Authenticated, Authenticator, Unauthenticated};
use crate::mcp::{Credentials, Door, Who};
use crate::offer::Offers;

/// How long a client may take to write a request's body.
const BODY: Duration = Duration::from_secs(30);

/// What serves all agents over HTTP.
#[derive(Debug)]
pub(super) struct Agents {
    host: Host,
    callers: Authenticator,
    mode: Mode,
    /// The largest body, in bytes.
    largest: usize,
    protocol: StreamableHttpServerConfig,
    /// What functions are called, once somebody has asked.
    offers: OnceLock<Arc<Offers>>,
    calls: Calls,
}

impl Agents {
    /// `names` is what requests may be addressed to.
    pub(super) fn new(host: Host, callers: Authenticator, names: &[String], mode: Mode) -> Agents {
        let largest = host.config().server().map_or(0, |server| server.request_bytes);
        let largest = usize::try_from(largest).unwrap_or(usize::MAX);
        // Every version is served without sessions: a session would be one more thing to steal. An answer is one document, or, where a
        // tool says how far it is, events.
        let protocol = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_allowed_hosts(names)
            .enforce_origin_validation()
            .with_max_request_body_bytes(largest);
        Agents {
            host,
            callers,
            mode,
            largest,
            protocol,
            offers: OnceLock::new(),
            calls: Calls::default(),
        }
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn callers(&self) -> &Authenticator {
        &self.callers
    }

    pub(super) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// A door for this caller and no other, with what its credentials leave.
    fn door(&self, caller: &Authenticated) -> Result<Door, Refusal> {
        let who = Who {
            agent: caller.caller.agent().to_owned(),
            user: caller.caller.user().map(str::to_owned),
            mode: self.mode,
            run: None,
        };
        let credentials = Credentials {
            narrowing: caller.narrowing.clone(),
            by: Some(caller.by.clone()),
        };
        let offers = self.offers(&who)?;
        Door::open(self.host.clone(), who, credentials, offers, self.calls.clone())
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

    /// What a call of a function is answered with that the caller's token has no scope for, where another could have.
    fn step_up(&self, caller: &Authenticated, door: &Door, message: &ClientJsonRpcMessage) -> Option<Unauthenticated> {
        let JsonRpcMessage::Request(request) = message else {
            return None;
        };
        let ClientRequest::CallToolRequest(call) = &request.request else {
            return None;
        };
        let (tool, function) = door.named(&call.params.name)?;
        self.callers.step_up(caller, tool, function)
    }
}

/// Serves a request: its caller first, and nothing of it before that.
pub(super) async fn serve(State(front): State<Arc<Front>>, request: Request) -> Response {
    let mut response = served(front.agents(), request).await.unwrap_or_else(|answer| *answer);
    plain(&mut response);
    response
}

async fn served(agents: &Agents, request: Request) -> Result<Response, Box<Response>> {
    let (mut parts, body) = request.into_parts();
    let caller = agents.callers.authenticate(&parts.headers, parts.uri.query()).await;
    let caller = caller.map_err(|refused| unauthenticated(&refused))?;
    let door = agents
        .door(&caller)
        .map_err(|refusal| problem(StatusCode::FORBIDDEN, &refusal.message))?;
    let text = whole(body, agents.largest).await?;
    match frame::read(&text) {
        Frame::Message(message) => {
            if let Some(refused) = agents.step_up(&caller, &door, &message) {
                return Err(unauthenticated(&refused).into());
            }
        }
        // The protocol's library says what it makes of other methods than POST.
        Frame::Nothing => {}
        Frame::Wrong(id, error) => return Err(wrong(id, error).into()),
    }
    // Nobody needs it from here on.
    parts.headers.remove(AUTHORIZATION);
    let sessions = Arc::new(NeverSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(door.clone()), sessions, agents.protocol.clone());
    let request = Request::from_parts(parts, body_of(text));
    Ok(service.handle(request).await.map(Body::new))
}

/// The whole of a body, where it is no larger than it may be and comes in time. Of one that says that it is larger nothing is read.
async fn whole(body: Body, largest: usize) -> Result<Bytes, Box<Response>> {
    let too_large = || {
        let detail = format!("the body of a request is at most {largest} bytes (`request_bytes` of the server)");
        Box::new(problem(StatusCode::PAYLOAD_TOO_LARGE, &detail))
    };
    let limit = if guard!("http.body", false) {
        usize::MAX
    } else {
        largest
    };
    match timeout(BODY, Limited::new(body, limit).collect()).await {
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
