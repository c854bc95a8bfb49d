//! Making a call: once for a word of its caller, and to its end, whoever waits for it.

use std::time::Duration;

use ambit_core::guard;
use ambit_core::json::Json;
use ambit_core::ledger::body::Once;
use ambit_core::policy::Mode;
use ambit_core::trace::{self, Arrival, Parent, Protocol, SpanId};
use ambit_runtime::call::{Answer, Began, CallRequest, Coming, Fault, Known};
use ambit_runtime::cancel::Cancel;
use ambit_runtime::store::StoreError;
use http::StatusCode;
use http::header::{HeaderName, LOCATION};
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::task::JoinError;
use tokio::time::sleep;

use crate::calls::Start;
use crate::mcp::Door;

use super::agents::{place, told};
use super::ask::Asked;
use super::blocking;
use super::give::{Given, Problem, REPLAYED};

/// How long a request waits for its call, if it does not say, in seconds: what stands in front of a server waits longer.
const WAIT_S: u64 = 25;
const TRACEPARENT: HeaderName = HeaderName::from_static(trace::TRACEPARENT);

/// What a client writes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    tool: String,
    function: String,
    #[serde(default)]
    arguments: serde_json::Map<String, serde_json::Value>,
    mode: Option<Mode>,
    run: Option<String>,
}

/// A call that is wanted.
#[derive(Debug)]
pub(super) struct Wanted {
    request: CallRequest,
    once: Option<Once>,
    wait: Duration,
    parent: Option<Parent>,
    /// That there is no such function, where there is none: for a word that was said before, what came of that is answered all the same.
    none: Option<Problem>,
}

impl Wanted {
    /// What a request wants, as its caller can. Blocks as long as it takes to read it.
    pub(super) fn of(door: &Door, asked: &Asked) -> Result<Wanted, Problem> {
        let written: Written = asked.body()?;
        let whole = asked.json().unwrap_or(&Json::Null);
        // Exactly as it was written: the type above has read it and rounds numbers.
        let args = match whole.get("arguments") {
            Some(args) => args.to_canonical(),
            None => "{}".to_owned(),
        };
        drop(written.arguments);
        let trace = asked.parent.as_ref().and_then(|parent| parent.trace.parse().ok());
        let function = id_of(door, &written.tool, &written.function);
        let none = function.is_none().then(|| {
            let name = format!("{}/{}", written.tool, written.function);
            Problem::none("function", &name)
        });
        let function = function.unwrap_or(written.function);
        let mut request = door.asks(&written.tool, &function, args, trace);
        if let Some(mode) = written.mode {
            if !guard!("api.mode", mode.is_within(door.mode())) {
                let most = door.mode();
                return Err(Problem::wrong(format!(
                    "`mode` is {mode}: agents are served in {most} here, or a stricter one"
                )));
            }
            request.mode = mode;
        }
        if let Some(own) = door.own_run()
            && !guard!(
                "api.token-call",
                written.run.as_deref().is_none_or(|named| named == own)
            )
        {
            return Err(Problem::wrong("`run` is another than that of the token: leave it out"));
        }
        request.run = written.run.or(request.run);
        let once = |word: &String| {
            door.host()
                .once(door.principal(), door.of_run(), word, whole.to_canonical().as_bytes())
        };
        Ok(Wanted {
            request,
            once: asked.word.as_ref().map(once),
            wait: Duration::from_secs(asked.number("wait").unwrap_or(WAIT_S)),
            parent: asked.parent.clone(),
            none,
        })
    }

    /// The call itself.
    pub(super) const fn request(&self) -> &CallRequest {
        &self.request
    }
}

/// The id of a function that may be named by its last part; none where there is no such tool, or function of it.
///
/// What comes near a name is told to nobody: the names of all tools would be read off the answers. A function that is there and not the
/// caller's is refused by policy, on the ledger, as over MCP.
fn id_of(door: &Door, tool: &str, function: &str) -> Option<String> {
    let mut tools = door.host().tools();
    let (_, tool) = tools.find(|(name, _)| *name == tool)?;
    let found = tool.manifest().function(function).ok()?;
    Some(found.id.clone())
}

/// Makes a call, and waits for it as long as the request does: longer ones, and those that wait for people, are looked at where the
/// answer says.
///
/// The call is under way until its end, not only until its answer is sent: nobody has more of them by not waiting.
pub(super) async fn start(door: Door, wanted: Wanted) -> Result<Given, Problem> {
    let Wanted {
        request,
        once,
        wait,
        parent,
        none,
    } = wanted;
    if let Some(once) = once
        && let Some(given) = again(&door, once, parent.clone()).await?
    {
        return Ok(given);
    }
    if let Some(none) = none
        && !guard!("api.no-names", false)
    {
        return Err(none);
    }
    let (says, hears) = oneshot::channel();
    let coming = Coming {
        by: door.shown(),
        arrival: Some(Arrival {
            parent: parent.as_ref().map(|parent| parent.span),
            protocol: Some(Protocol::Api),
        }),
        once,
        began: Some(Began::new(move |call| drop(says.send(call.as_str().to_owned())))),
    };
    let start = Start {
        asked: None,
        cancel: Cancel::new(),
        takes: door.share(),
    };
    let mut made = door.calls().start(door.host(), request, coming, start).over;
    let late = async {
        sleep(wait).await;
        // Before it is on the ledger there is nothing to look at.
        hears.await
    };
    let ended = tokio::select! {
        ended = &mut made => Some(ended),
        call = late => match call {
            Ok(call) => return answer(&door, call, parent, false).await,
            Err(_) => None,
        },
    };
    let ended = match ended {
        Some(ended) => ended,
        None => made.await,
    };
    over(&door, ended, once, parent).await
}

/// A call that is over, or waits; or that was not made, as another was for its caller's word.
async fn over(
    door: &Door,
    ended: Result<Result<Answer, Fault>, JoinError>,
    once: Option<Once>,
    parent: Option<Parent>,
) -> Result<Given, Problem> {
    match ended {
        Ok(Ok(made)) => answer(door, made.call.as_str().to_owned(), parent, false).await,
        Ok(Err(Fault::Store(error @ StoreError::Repeated { .. }))) => {
            let given = match once {
                Some(once) => again(door, once, parent).await?,
                None => None,
            };
            given.ok_or_else(|| error.into())
        }
        Ok(Err(fault)) => Err(Problem::could_not(&fault)),
        Err(panic) => Err(Problem::could_not(&panic)),
    }
}

/// What came of the call that was made before for the same word; none where there is none.
async fn again(door: &Door, once: Once, parent: Option<Parent>) -> Result<Option<Given>, Problem> {
    let host = door.host().clone();
    match blocking(door.share(), move || host.known(&once).map_err(Problem::from)).await? {
        Known::No => Ok(None),
        Known::Same(call) => answer(door, call, parent, true).await.map(Some),
        Known::Other(_) => Err(Problem::other_request()),
    }
}

/// How a call stands, and what came of it, as `GET` of its result says.
async fn answer(door: &Door, call: String, parent: Option<Parent>, replayed: bool) -> Result<Given, Problem> {
    let looked = door.clone();
    let (place, id) = (place(&call), call.clone());
    let (document, over) = blocking(door.share(), move || told(&looked, &call, true)).await?;
    let status = match over {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    let mut given = Given::json(&document).status(status).with(LOCATION, &place);
    let trace = document.get("trace").and_then(serde_json::Value::as_str);
    if let Some(trace) = trace {
        let sampled = parent.is_some_and(|parent| parent.span.sampled);
        let of_call = trace::traceparent(trace, SpanId::of_call(&id), sampled);
        given = given.with(TRACEPARENT, &of_call);
    }
    if replayed {
        given = given.with(REPLAYED, "true");
    }
    Ok(given)
}
