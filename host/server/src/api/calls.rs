//! Making a call: once for a word of its caller, and to its end, whoever waits for it.

use std::sync::Arc;
use std::time::Duration;

use ambit_core::guard;
use ambit_core::json::Json;
use ambit_core::ledger::body::Once;
use ambit_core::policy::Mode;
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
use crate::http::seats::UnderWay;
use crate::mcp::Door;
use crate::trace::{self, Parent};

use super::agents::{place, told};
use super::ask::Asked;
use super::give::{Given, Problem};

/// How long a request waits for its call, if it does not say, in seconds: what stands in front of a server waits longer.
const WAIT_S: u64 = 25;
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

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
}

impl Wanted {
    /// What a request wants, as its caller can.
    pub(super) fn of(door: &Door, asked: &Asked) -> Result<Wanted, Problem> {
        let written: Written = asked.body()?;
        let whole = asked.json().unwrap_or(&Json::Null);
        // Exactly as it was written: the type above has read it and rounds numbers.
        let args = match whole.get("arguments") {
            Some(args) => args.to_canonical(),
            None => "{}".to_owned(),
        };
        drop(written.arguments);
        let trace = asked.parent.as_ref().map(|parent| parent.trace.clone());
        let function = id_of(door, &written.tool, &written.function);
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
                .once(door.principal(), word, whole.to_canonical().as_bytes())
        };
        Ok(Wanted {
            request,
            once: asked.word.as_ref().map(once),
            wait: Duration::from_secs(asked.number("wait").unwrap_or(WAIT_S)),
            parent: asked.parent.clone(),
        })
    }

    /// The call itself.
    pub(super) const fn request(&self) -> &CallRequest {
        &self.request
    }
}

/// The id of a function that may be named by its last part; the name itself where there is none.
fn id_of(door: &Door, tool: &str, function: &str) -> String {
    let mut tools = door.host().tools();
    let found = tools.find(|(name, _)| *name == tool);
    let found = found.and_then(|(_, tool)| tool.manifest().function(function).ok());
    found.map_or_else(|| function.to_owned(), |function| function.id.clone())
}

/// Makes a call, and waits for it as long as the request does: longer ones, and those that wait for people, are looked at where the
/// answer says.
///
/// The call is under way until its end, not only until its answer is sent: nobody has more of them by not waiting.
pub(super) async fn start(door: Door, wanted: Wanted, under_way: Arc<UnderWay>) -> Result<Given, Problem> {
    let Wanted {
        request,
        once,
        wait,
        parent,
    } = wanted;
    if let Some(once) = once
        && let Some(given) = again(&door, once, parent.clone()).await?
    {
        return Ok(given);
    }
    let (says, hears) = oneshot::channel();
    let coming = Coming {
        by: door.shown(),
        once,
        began: Some(Began::new(move |call| drop(says.send(call.as_str().to_owned())))),
    };
    let start = Start {
        asked: None,
        cancel: Cancel::new(),
        takes: under_way,
    };
    let mut made = door.calls().start(door.host(), request, coming, start);
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
    match blocking(move || host.known(&once).map_err(Problem::from)).await? {
        Known::No => Ok(None),
        Known::Same(call) => answer(door, call, parent, true).await.map(Some),
        Known::Other(_) => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "another request was made with this Idempotency-Key: a new one takes another key",
        )),
    }
}

/// How a call stands, and what came of it, as `GET` of its result says.
async fn answer(door: &Door, call: String, parent: Option<Parent>, replayed: bool) -> Result<Given, Problem> {
    let looked = door.clone();
    let (place, id) = (place(&call), call.clone());
    let (document, over) = blocking(move || told(&looked, &call, true)).await?;
    let status = match over {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    let mut given = Given::json(&document).status(status).with(LOCATION, &place);
    let trace = document.get("trace").and_then(serde_json::Value::as_str);
    if let Some(trace) = trace.and_then(|trace| trace.parse().ok()) {
        given = given.with(TRACEPARENT, &trace::of_call(&trace, &id, parent.as_ref()));
    }
    if replayed {
        given = given.with(REPLAYED, "true");
    }
    Ok(given)
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(act).await {
        Ok(done) => done,
        Err(panic) => Err(Problem::could_not(&panic)),
    }
}
