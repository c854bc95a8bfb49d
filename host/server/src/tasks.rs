//! Calls that their requests do not wait for, over MCP since version 2026-07-28: as tasks (the extension `io.modelcontextprotocol/tasks`,
//! SEP-2663), or told of in a round trip more (SEP-2322).
//!
//! A task is a call, under the call's own id, and all that is said of it is read from the ledger whenever somebody asks: it is there after
//! a restart, and for its caller alone, by what that shows with each request. A client is told that an effect waits for people, and for
//! whom; it is asked for nothing that would be waited for, and what it answers changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use ambit_core::error::Code;
use ambit_core::guard;
use ambit_core::json::Json;
use ambit_core::ledger::story::Opening;
use ambit_core::ledger::{CallStory, utc};
use ambit_runtime::call::{Answer, Held, Outcome};
use ambit_runtime::store::StoreError;
use rmcp::model::{
    CallToolResult, ClientCapabilities, ContentBlock, CreateTaskResult, DetailedTask, ElicitRequest,
    ElicitRequestParams, ElicitationSchema, ErrorData, GetTaskResult, InputRequest, InputRequests, InputRequiredResult,
    MetaObject, ProtocolVersion, Task, TaskPayload, TaskStatus,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::Value;

use crate::mcp::Door;
use crate::told::{self, Approvers};
use ambit_core::trace::Parent;

/// How long a request waits for its call where that may go on as a task: most calls are over by then, and need no more requests.
pub(crate) const SOON: Duration = Duration::from_secs(2);
/// How often a client is to ask for a call that runs, in milliseconds.
const ASK_RUNNING_MS: u64 = 1_000;
/// The same for one that waits, for people mostly.
const ASK_WAITING_MS: u64 = 5_000;
/// What the one thing is called that a client is told by asking.
const NOTICE: &str = "held";

/// What the client of a request takes, as it says with just this request. What it said with others, or in a session's beginning, says
/// nothing: older versions have neither of the two in this form.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Client {
    /// Whether the request is of a version that is served without a session.
    pub(crate) is_stateless: bool,
    /// Whether it takes a task in the place of a result.
    pub(crate) tasks: bool,
    /// Whether it shows a person what the server says and asks in a form.
    pub(crate) asks: bool,
}

impl Client {
    pub(crate) fn of(context: &RequestContext<RoleServer>) -> Client {
        let version = context.meta.protocol_version();
        let newest = ProtocolVersion::V_2026_07_28;
        Client::saying(
            version.is_some_and(|version| version.as_str() >= newest.as_str()),
            context.meta.client_capabilities(),
        )
    }

    fn saying(is_stateless: bool, said: Option<ClientCapabilities>) -> Client {
        let said = said.filter(|_| is_stateless).unwrap_or_default();
        // One that names no form of asking has the first that there was.
        let asks = said
            .elicitation
            .as_ref()
            .is_some_and(|how| how.form.is_some() || how.url.is_none());
        Client {
            is_stateless,
            tasks: said.supports_tasks(),
            asks,
        }
    }

    /// That it takes tasks.
    ///
    /// # Errors
    /// The protocol's own, for a client that did not say so with this request.
    pub(crate) fn takes_tasks(self) -> Result<(), ErrorData> {
        if guard!("mcp.tasks-taken", self.tasks) {
            return Ok(());
        }
        let needed = ClientCapabilities::builder().enable_tasks().build();
        Err(ErrorData::missing_required_client_capability(needed))
    }
}

/// How a call stands, for its caller.
pub(crate) struct Stands {
    how: How,
    task: Task,
    /// What its request is answered with where it waits for it no longer.
    result: CallToolResult,
}

enum How {
    /// It runs, or waits.
    GoesOn,
    /// Its result is what it came to.
    Over,
    /// Its caller took it back.
    TakenBack,
}

impl Stands {
    fn new(door: &Door, story: &CallStory, runs: bool, parent: Option<&Parent>) -> Result<Stands, StoreError> {
        let answer = if runs && !story.is_over() {
            None
        } else {
            door.host().answer_again(story)?
        };
        let how = match answer.as_ref().filter(|answer| answer.end.is_some()) {
            None => How::GoesOn,
            Some(Answer {
                outcome: Outcome::Stopped(refusal),
                ..
            }) if refusal.code == Code::Cancelled => How::TakenBack,
            Some(_) => How::Over,
        };
        let result = match &answer {
            Some(answer) => {
                let by = Approvers::of(door.host());
                told::result(answer, is_wrapped(door, story, &answer.outcome), parent, by)
            }
            None => told::goes_on(story, runs),
        };
        let mut task = Task::new(
            &story.call,
            how.status(),
            utc(story.opening.stamp.time_ms()),
            updated(story),
        );
        // Over, it says so itself.
        if !matches!(how, How::Over) {
            let words = result.content.first().and_then(ContentBlock::as_text);
            task.status_message = words.map(|words| words.text.clone());
        }
        task.poll_interval_ms = match how {
            How::GoesOn if runs => Some(ASK_RUNNING_MS),
            How::GoesOn => Some(ASK_WAITING_MS),
            How::Over | How::TakenBack => None,
        };
        Ok(Stands { how, task, result })
    }

    /// Whether nothing more comes of it.
    pub(crate) const fn is_over(&self) -> bool {
        !matches!(self.how, How::GoesOn)
    }

    /// As the answer to the request that called.
    pub(crate) fn into_result(self) -> CallToolResult {
        self.result
    }

    /// The same, for a client that takes a task in its place.
    pub(crate) fn into_task(self) -> CreateTaskResult {
        let mut created = CreateTaskResult::new(self.task);
        created.meta = self.result.meta;
        created
    }

    /// As the answer to the request that asks how it stands.
    pub(crate) fn into_got(mut self) -> Result<GetTaskResult, ErrorData> {
        let (payload, meta) = match self.how {
            How::GoesOn => (TaskPayload::Working, self.result.meta.take()),
            How::TakenBack => (TaskPayload::Cancelled, self.result.meta.take()),
            How::Over => match serde_json::to_value(self.result) {
                Ok(Value::Object(result)) => (TaskPayload::Completed { result }, None),
                Ok(_) | Err(_) => return Err(ErrorData::internal_error("a result cannot be written", None)),
            },
        };
        let mut got = GetTaskResult::new(DetailedTask::new(self.task, payload));
        got.meta = meta;
        Ok(got)
    }
}

impl How {
    const fn status(&self) -> TaskStatus {
        match self {
            // What a held effect waits for is no word of the client, so the client is not what is waited for.
            How::GoesOn => TaskStatus::Working,
            How::Over => TaskStatus::Completed,
            How::TakenBack => TaskStatus::Cancelled,
        }
    }
}

/// How a call of the caller's own stands; none where there is no such call, or it is somebody else's.
///
/// # Errors
/// Where the ledger cannot be read.
pub(crate) fn stands(door: &Door, call: &str, parent: Option<&Parent>) -> Result<Option<Stands>, StoreError> {
    let own = door.host().own_call(call, door.owner())?;
    own.map(|(story, runs)| Stands::new(door, &story, runs, parent))
        .transpose()
}

/// The same of a call of this function, and of no other.
///
/// # Errors
/// Where the ledger cannot be read.
pub(crate) fn stands_of(
    door: &Door,
    call: &str,
    (tool, function): (&str, &str),
    parent: Option<&Parent>,
) -> Result<Option<Stands>, StoreError> {
    let own = door.host().own_call(call, door.owner())?;
    let own = own.filter(|(story, _)| guard!("mcp.again-same", called(story) == Some((tool, function))));
    own.map(|(story, runs)| Stands::new(door, &story, runs, parent))
        .transpose()
}

/// Whether a call is the caller's own.
///
/// # Errors
/// Where the ledger cannot be read.
pub(crate) fn is_own(door: &Door, call: &str) -> Result<bool, StoreError> {
    Ok(door.host().own_call(call, door.owner())?.is_some())
}

/// That an effect waits for people, for whoever sits at the client: as something that the client asks them, the one way in which the
/// protocol lets a server say anything to a person. The request is over with it, and whatever they answer, the next one for this call
/// only says how it stands.
pub(crate) fn notice(held: &Held, call: &str, meta: Option<MetaObject>, by: Approvers) -> InputRequiredResult {
    let ask = ElicitRequest::new(ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: told::notice(held, call, by),
        // There is nothing to fill in.
        requested_schema: ElicitationSchema::new(BTreeMap::new()),
    });
    let requests = InputRequests::from([(NOTICE.to_owned(), InputRequest::Elicitation(ask))]);
    // The call's id is no secret and no right: whose it is, is asked again.
    let mut result = InputRequiredResult::new(Some(requests), Some(call.to_owned()));
    result.meta = meta;
    result
}

/// The function that was called, where there was one.
fn called(story: &CallStory) -> Option<(&str, &str)> {
    match &story.opening.what {
        Opening::Accepted(accepted) => Some((&accepted.asked.tool, &accepted.asked.function)),
        Opening::Denied(denied) => denied.tool.as_deref().zip(denied.function.as_deref()),
    }
}

/// Whether a value is one member of what is answered. Of a function that is there no more nobody knows: then an object is not.
fn is_wrapped(door: &Door, story: &CallStory, outcome: &Outcome) -> bool {
    let offer = called(story).and_then(|(tool, function)| door.offer_of(tool, function));
    match (offer, outcome) {
        (Some(offer), _) => offer.wrapped,
        (None, Outcome::Ok(value)) => !matches!(value, Json::Object(_)),
        (None, _) => false,
    }
}

/// When a call's standing was last another one. What people said meanwhile is theirs.
fn updated(story: &CallStory) -> String {
    let finished = story.finished.as_ref().map(|finished| finished.stamp);
    let waits = || story.waiting().map(|hold| hold.held.stamp);
    let paused = || story.paused().map(|paused| paused.stamp);
    let suspended = || story.suspended().map(|suspended| suspended.stamp);
    let last = finished.or_else(waits).or_else(paused).or_else(suspended);
    utc(last.unwrap_or(story.opening.stamp).time_ms())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_client_takes_what_it_says_with_the_request_itself() {
        let client = |is_stateless: bool, said: Value| {
            let client = Client::saying(is_stateless, serde_json::from_value(said).ok());
            (client.tasks, client.asks)
        };
        let tasks = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
        assert_eq!(client(true, tasks.clone()), (true, false));
        assert_eq!(client(false, tasks), (false, false));
        for (how, asks) in [
            (json!({}), true),
            (json!({ "form": {} }), true),
            (json!({ "form": {}, "url": {} }), true),
            (json!({ "url": {} }), false),
        ] {
            assert_eq!(client(true, json!({ "elicitation": how })), (false, asks), "{how}");
            assert_eq!(client(false, json!({ "elicitation": how })), (false, false));
        }
        assert_eq!(client(true, json!({})), (false, false));
        assert_eq!(client(true, json!(7)), (false, false));
        assert!(Client::default().takes_tasks().is_err());
    }
}
