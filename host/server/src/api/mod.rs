//! The HTTP API, `/v1`: for programs of agents, and, apart from them, for operators elsewhere.
//!
//! [`routes`] is a table of what there is: who it is for, which parameters it takes, what it answers. What is served is found in that
//! table, what a request may say is held against it, and the description that clients read (`/v1/openapi.json`, [`openapi`]) is printed
//! from it, so that none of the three says what another does not.
//!
//! The two parts never meet. An agent's function gets an agent's [`Door`] and an operator's an [`operators::Desk`]; each is made from
//! credentials that are no good for the other. An agent's part goes the way of any call, and its answers are those of MCP in another
//! envelope; an operator's part asks for what [`ambit_runtime::operators`] does. The API has no person's key: a vote comes signed.

mod agents;
mod ask;
mod calls;
mod give;
mod ledger;
mod openapi;
mod operators;
mod routes;
mod schemas;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderValue, StatusCode};

use crate::http::agents::{Now, whole};
use crate::http::answer::{Answer, Serving};
use crate::http::front::Front;
use crate::http::problem::{plain, unauthenticated};
use crate::http::seats::{Seat, UnderWay};
use crate::http::work::{Errand, at_work};
use crate::identity::{Authenticated, Peer};
use crate::mcp::Door;

use ask::Asked;
use give::{Given, Problem};
use routes::{Act, Route, Verb};

/// Serves a request: who makes it first, and nothing of it before that.
pub(crate) async fn serve(
    State(front): State<Arc<Front>>,
    Extension(seat): Extension<Arc<Seat>>,
    request: Request,
) -> Response {
    let tag = request.headers().get(http::header::IF_NONE_MATCH).cloned();
    match served(&front, &seat, request).await {
        Ok((given, None)) => given.into_response(tag.as_ref()),
        // It is under way until its answer is read.
        Ok((given, Some(serving))) => given
            .into_response(tag.as_ref())
            .map(|body| Body::new(Answer::new(body, serving, false))),
        Err(mut response) => {
            plain(&mut response);
            *response
        }
    }
}

type Refused = Box<Response>;

async fn served(front: &Arc<Front>, seat: &Arc<Seat>, request: Request) -> Result<(Given, Option<Serving>), Refused> {
    let (parts, body) = request.into_parts();
    let (route, path) = routes::find(&parts.method, parts.uri.path()).map_err(Problem::boxed)?;
    // By one reading of the home from its beginning to its end.
    let now = front.agents().now();
    let (given, serving) = match route.act {
        Act::Open(give) => return Ok((give(), None)),
        Act::Agents(act) => {
            let (_, door, serving) = known(front, &now, seat, &parts, route.is_own()).await?;
            let request = whole_request(front, &now, route, path, parts, body).await?;
            let act = move || act(&door, &request.read()?);
            let given = blocking(Some(serving.under_way()), act).await;
            (given.map_err(Problem::boxed)?, serving)
        }
        Act::Call => {
            let (caller, door, serving) = known(front, &now, seat, &parts, false).await?;
            let request = whole_request(front, &now, route, path, parts, body).await?;
            let asks = door.clone();
            // What was read is gone when the call is waited for.
            let wanted = move || calls::Wanted::of(&asks, &request.read()?);
            let wanted = blocking(Some(serving.under_way()), wanted).await;
            let wanted = wanted.map_err(Problem::boxed)?;
            step_up(&now, &caller, &door, &wanted).await?;
            let given = calls::start(door, wanted).await;
            (given.map_err(Problem::boxed)?, serving)
        }
        Act::Operators(scope, act) => {
            let Some(operators) = now.operators().cloned() else {
                let why = "operators are not served here: the configuration has no [server.operators]";
                return Err(Problem::new(StatusCode::NOT_FOUND, why).boxed());
            };
            let operator = operators.authenticate(&parts.headers, parts.uri.query(), scope).await;
            let operator = operator.map_err(|refused| unauthenticated(&refused))?;
            let serving = front.agents().begin_of_operator(&now, &operator, seat)?;
            if !operator.may(scope) {
                return Err(unauthenticated(&operators.lacking(scope)).into());
            }
            let request = whole_request(front, &now, route, path, parts, body).await?;
            let host = now.host().clone();
            let act = move || -> Result<Given, Refused> {
                let asked = request.read().map_err(Problem::boxed)?;
                operators
                    .check(&operator)
                    .map_err(|refused| unauthenticated(&refused))?;
                act(&operators::Desk::new(&host, &operator), &asked).map_err(Problem::boxed)
            };
            let errand = match route.verb {
                Verb::Get => Errand::Read,
                Verb::Post => Errand::Act,
            };
            let done = front
                .agents()
                .operators()
                .at_work(errand, serving.under_way(), act)
                .await;
            (done.map_err(|error| Problem::could_not(&error).boxed())??, serving)
        }
    };
    Ok((given, Some(serving)))
}

/// Whoever makes a request, the door that is made for it, and its place among those that are served; beside them, where that is full and
/// it is about what is `own` already.
async fn known(
    front: &Front,
    now: &Now,
    seat: &Arc<Seat>,
    parts: &Parts,
    own: bool,
) -> Result<(Authenticated, Door, Serving), Refused> {
    let agents = front.agents();
    let peer = parts.extensions.get::<Arc<Peer>>();
    let caller = now
        .callers()
        .authenticate(&parts.headers, parts.uri.query(), peer.map(Arc::as_ref))
        .await;
    let caller = caller.map_err(|refused| unauthenticated(&refused))?;
    let (serving, beside) = agents.begin(now, &caller, seat)?;
    agents.check_beside(now, beside, own)?;
    let door = agents.door(now, &caller, &serving).map_err(not_known)?;
    Ok((caller, door, serving))
}

/// A call that the caller's token has no scope for, where another could have, is on the ledger and not made.
async fn step_up(now: &Now, caller: &Authenticated, door: &Door, wanted: &calls::Wanted) -> Result<(), Refused> {
    let request = wanted.request();
    let Some(needed) = now.callers().step_up(caller, &request.tool, &request.function) else {
        return Ok(());
    };
    match door.refused_for_scope(request.clone(), wanted.arrival()).await {
        Ok(true) => Err(unauthenticated(&needed).into()),
        Ok(false) => Ok(()),
        Err(error) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.message).boxed()),
    }
}

fn not_known(refusal: ambit_core::error::Refusal) -> Refused {
    Problem::new(StatusCode::FORBIDDEN, refusal.message).boxed()
}

/// A request of a known caller with all of its body, of which nothing is read yet: that is for a thread that may block.
struct Whole {
    route: &'static Route,
    path: Vec<(&'static str, String)>,
    parts: Parts,
    body: Option<Bytes>,
}

impl Whole {
    /// What it says.
    fn read(self) -> Result<Asked, Problem> {
        Asked::read(self.route, self.path, &self.parts, self.body)
    }
}

async fn whole_request(
    front: &Front,
    now: &Now,
    route: &'static Route,
    path: Vec<(&'static str, String)>,
    mut parts: Parts,
    body: Body,
) -> Result<Whole, Refused> {
    // Nobody needs it from here on.
    parts.headers.remove(AUTHORIZATION);
    let body = match route.takes {
        Some(_) => Some(whole(body, now.largest(), front.agents().patience()).await?),
        None => None,
    };
    Ok(Whole {
        route,
        path,
        parts,
        body,
    })
}

/// Does what reads a request or the ledger, or writes to that, on a thread that may block; `share` is that of the request.
async fn blocking<T: Send + 'static>(
    share: Option<Arc<UnderWay>>,
    act: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match at_work(share, act).await {
        Ok(done) => done,
        Err(panic) => Err(Problem::could_not(&panic)),
    }
}

/// A header's value of what was checked to be one.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
