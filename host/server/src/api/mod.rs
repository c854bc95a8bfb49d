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

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderValue, StatusCode};

use crate::http::agents::{Now, whole};
use crate::http::answer::{Answer, Serving};
use crate::http::front::Front;
use crate::http::problem::{plain, unauthenticated};
use crate::http::seats::Seat;
use crate::identity::Authenticated;
use crate::mcp::Door;

use ask::Asked;
use give::{Given, Problem};
use routes::{Act, Route};

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
    let (mut parts, body) = request.into_parts();
    let (route, path) = routes::find(&parts.method, parts.uri.path()).map_err(Problem::boxed)?;
    // By one reading of the home from its beginning to its end.
    let now = front.agents().now();
    let (given, serving) = match route.act {
        Act::Open(give) => return Ok((give(), None)),
        Act::Agents(act) => {
            let (_, door, serving) = known(front, &now, seat, &parts).await?;
            let asked = asked(front, &now, route, path, &mut parts, body).await?;
            (blocking(move || act(&door, &asked)).await?, serving)
        }
        Act::Call => {
            let (caller, door, serving) = known(front, &now, seat, &parts).await?;
            let asked = asked(front, &now, route, path, &mut parts, body).await?;
            let wanted = calls::Wanted::of(&door, &asked).map_err(Problem::boxed)?;
            step_up(&now, &caller, &door, &wanted).await?;
            let given = calls::start(door, wanted, serving.under_way()).await;
            (given.map_err(Problem::boxed)?, serving)
        }
        Act::Operators(scope, act) => {
            let Some(operators) = now.operators() else {
                let why = "operators are not served here: the configuration has no [server.operators]";
                return Err(Problem::new(StatusCode::NOT_FOUND, why).boxed());
            };
            let operator = operators.authenticate(&parts.headers, parts.uri.query()).await;
            let operator = operator.map_err(|refused| unauthenticated(&refused))?;
            let serving = front.agents().begin_of_operator(&now, &operator, seat)?;
            if !operator.may(scope) {
                return Err(unauthenticated(&operators.lacking(scope)).into());
            }
            let asked = asked(front, &now, route, path, &mut parts, body).await?;
            let host = now.host().clone();
            let given = blocking(move || act(&operators::Desk::new(&host, &operator), &asked)).await?;
            (given, serving)
        }
    };
    Ok((given, Some(serving)))
}

/// Whoever makes a request, the door that is made for it, and its place among those that are served.
async fn known(
    front: &Front,
    now: &Now,
    seat: &Arc<Seat>,
    parts: &Parts,
) -> Result<(Authenticated, Door, Serving), Refused> {
    let agents = front.agents();
    let caller = now.callers().authenticate(&parts.headers, parts.uri.query()).await;
    let caller = caller.map_err(|refused| unauthenticated(&refused))?;
    let serving = agents.begin(now, &caller, seat)?;
    let door = agents.door(now, &caller).map_err(not_known)?;
    Ok((caller, door, serving))
}

/// A call that the caller's token has no scope for, where another could have, is on the ledger and not made.
async fn step_up(now: &Now, caller: &Authenticated, door: &Door, wanted: &calls::Wanted) -> Result<(), Refused> {
    let request = wanted.request();
    let Some(needed) = now.callers().step_up(caller, &request.tool, &request.function) else {
        return Ok(());
    };
    match door.refused_for_scope(request.clone()).await {
        Ok(true) => Err(unauthenticated(&needed).into()),
        Ok(false) => Ok(()),
        Err(error) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.message).boxed()),
    }
}

fn not_known(refusal: ambit_core::error::Refusal) -> Refused {
    Problem::new(StatusCode::FORBIDDEN, refusal.message).boxed()
}

/// What a request says, once its caller is known.
async fn asked(
    front: &Front,
    now: &Now,
    route: &'static Route,
    path: Vec<(&'static str, String)>,
    parts: &mut Parts,
    body: Body,
) -> Result<Asked, Refused> {
    // Nobody needs it from here on.
    parts.headers.remove(AUTHORIZATION);
    let body = match route.takes {
        Some(_) => Some(whole(body, now.largest(), front.agents().patience()).await?),
        None => None,
    };
    Asked::read(route, path, parts, body).map_err(Problem::boxed)
}

/// Does what reads the ledger, or writes to it, on a thread that may block.
async fn blocking(act: impl FnOnce() -> Result<Given, Problem> + Send + 'static) -> Result<Given, Refused> {
    match tokio::task::spawn_blocking(act).await {
        Ok(given) => given.map_err(Problem::boxed),
        Err(panic) => Err(Problem::could_not(&panic).boxed()),
    }
}

/// A header's value of what was checked to be one.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
