//! MCP: the Model Context Protocol, versions 2025-06-18, 2025-11-25 and 2026-07-28.
//!
//! A [`Door`] is one caller's: whoever is on the other side is the agent, and the user it acts for, that the operator said when it was
//! opened, and can say nothing about that. Calls are made on threads that may block; what a guest prints goes to the log and never
//! into the protocol.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use ambit_core::error::{Refusal, printable};
use ambit_core::grant::Narrowing;
use ambit_core::ledger::Principal;
use ambit_core::ledger::body::End;
use ambit_core::ledger::story::{CallStory, Opening};
use ambit_core::policy::Mode;
use ambit_runtime::approvals;
use ambit_runtime::call::{CallRequest, Fault, Listener};
use ambit_runtime::host::Host;
use ambit_runtime::ids::TraceId;
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation, JsonObject,
    ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion, ServerCapabilities,
    ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::{RequestContext, RoleServer, ServiceExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::offer::{Offer, offers};
use crate::told;

/// The tool that says how a call stands.
pub(crate) const STATUS: &str = "ambit_call_status";
/// The tool that says what came of a call.
pub(crate) const RESULT: &str = "ambit_call_result";
/// Progress that a client has not read yet: what is beyond it is left out, as the next says more.
const PROGRESS: usize = 16;

/// Whose door it is.
#[derive(Debug, Clone)]
pub struct Who {
    /// The agent.
    pub agent: String,
    /// Whom it acts for.
    pub user: Option<String>,
    /// What its calls may do at most.
    pub mode: Mode,
    /// The run that its calls are part of.
    pub run: Option<String>,
}

/// Why a door does not open, or closed.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// There is no such caller.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The other side speaks something else.
    #[error("the other side does not speak MCP: {0}")]
    Protocol(String),
    /// No thread could be had.
    #[error("the protocol could not be served: {0}")]
    Io(#[from] io::Error),
}

/// Serves one agent over standard input and output until that closes it.
///
/// # Errors
/// Where there is no such caller, or the other side does not speak the protocol.
pub fn serve_stdio(host: Host, who: Who) -> Result<(), DoorError> {
    let door = Door::new(host, who)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("ambit-mcp")
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let transport = (tokio::io::stdin(), tokio::io::stdout());
        let running = match door.serve(transport).await {
            Ok(running) => running,
            // Closed before a word was said: nobody wanted anything.
            Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            Err(error) => return Err(DoorError::Protocol(printable(&error.to_string()))),
        };
        let ended = running.waiting().await;
        ended.map(drop).map_err(|error| DoorError::Protocol(error.to_string()))
    })
}

/// One caller's way into a host.
#[derive(Debug, Clone)]
pub struct Door {
    host: Host,
    who: Arc<Who>,
    principal: Arc<Principal>,
}

impl Door {
    /// A door for this caller.
    ///
    /// # Errors
    /// [`Code::Caller`](ambit_core::error::Code::Caller): no such agent, or it may not act for the user.
    pub fn new(host: Host, who: Who) -> Result<Door, Refusal> {
        let principal = host.principal(&who.agent, who.user.as_deref())?;
        Ok(Door {
            host,
            who: Arc::new(who),
            principal: Arc::new(principal),
        })
    }

    fn offers(&self) -> Result<Vec<Offer>, ErrorData> {
        let all = self
            .host
            .offers(&self.who.agent, self.who.user.as_deref(), self.who.mode)
            .map_err(|refusal| ErrorData::invalid_request(told::refused(&refusal), None))?;
        Ok(offers(&all))
    }

    /// Calls a function, on a thread that may block.
    async fn call(
        &self,
        offer: Offer,
        args: Option<JsonObject>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let (progress, mut reports) = mpsc::channel(PROGRESS);
        let request = CallRequest {
            tool: offer.tool,
            function: offer.function,
            args: Value::Object(args.unwrap_or_default()).to_string(),
            agent: self.who.agent.clone(),
            user: self.who.user.clone(),
            mode: self.who.mode,
            run: self.who.run.clone(),
            trace: context.meta.get_traceparent().and_then(trace),
            narrowing: Narrowing::default(),
            listener: Some(Listener::new(move |report| {
                let message = printable(report.message);
                drop(progress.try_send((report.done, report.total, message)));
            })),
        };
        let host = self.host.clone();
        let mut calling = tokio::task::spawn_blocking(move || host.call(request));
        let token = context.meta.get_progress_token();
        let answer = loop {
            tokio::select! {
                ended = &mut calling => break ended,
                Some((done, total, message)) = reports.recv() => {
                    let Some(token) = token.clone() else { continue };
                    let mut report = ProgressNotificationParam::new(token, exact(done));
                    report.total = (total > 0).then(|| exact(total));
                    report.message = (!message.is_empty()).then_some(message);
                    // A client that does not listen does not stop a call.
                    drop(context.peer.notify_progress(report).await);
                }
            }
        };
        match answer {
            Ok(Ok(answer)) => Ok(told::result(&answer, offer.wrapped)),
            Ok(Err(fault)) => Err(failed(&fault)),
            Err(panic) => {
                tracing::error!(%panic, "a call ended in a panic");
                Err(ErrorData::internal_error("the host could not do its work", None))
            }
        }
    }

    /// How one of the caller's own calls stands. One of somebody else's is not there.
    fn status(&self, args: Option<&JsonObject>, with_result: bool) -> Result<CallToolResult, ErrorData> {
        let id = args.and_then(|args| args.get("call")).and_then(Value::as_str);
        let Some(id) = id else {
            return Ok(told::error(
                "it takes `call`: the id of a call, c_ and 26 characters".to_owned(),
            ));
        };
        let own = self.host.own_call(id, &self.principal);
        let Some((story, runs)) = own.map_err(|error| failed(&error.into()))? else {
            return Ok(told::error(format!("there is no call {} of yours", printable(id))));
        };
        let mut status = standing(&story, runs);
        if with_result && let (Value::Object(status), Some(value)) = (&mut status, self.result_of(&story)?) {
            status.insert("value".to_owned(), value);
        }
        let mut result = CallToolResult::success(vec![ContentBlock::text(status.to_string())]);
        result.structured_content = Some(status);
        Ok(result)
    }

    fn result_of(&self, story: &CallStory) -> Result<Option<Value>, ErrorData> {
        let reader = self.host.reader().map_err(|error| failed(&error.into()))?;
        let text = reader
            .payload(&story.call, "result")
            .map_err(|error| failed(&error.into()))?;
        Ok(text.and_then(|text| serde_json::from_slice(text.bytes()).ok()))
    }
}

impl ServerHandler for Door {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("ambit", env!("CARGO_PKG_VERSION")))
            .with_instructions(
                "Each tool runs in a sandbox, and what it does is decided by the operator's policy and recorded. A refusal says why: do \
                 not try to go around it. What is held waits for people: go on with something else, and ask ambit_call_status later.",
            )
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(&[
            ProtocolVersion::V_2025_06_18,
            ProtocolVersion::V_2025_11_25,
            ProtocolVersion::V_2026_07_28,
        ])
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let mut tools: Vec<Tool> = self.offers()?.into_iter().map(|offer| offer.listed).collect();
        tools.extend(own_tools());
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let result = match request.name.as_ref() {
            STATUS => self.status(request.arguments.as_ref(), false)?,
            RESULT => self.status(request.arguments.as_ref(), true)?,
            name => {
                let offer = self.offers()?.into_iter().find(|offer| offer.listed.name == name);
                let Some(offer) = offer else {
                    let name = printable(name);
                    return Err(ErrorData::invalid_params(
                        format!("there is no tool `{name}` for this caller"),
                        None,
                    ));
                };
                self.call(offer, request.arguments, context).await?
            }
        };
        Ok(result.into())
    }
}

/// Whole numbers up to 2^53 are exact, and no tool has more steps.
#[expect(clippy::cast_precision_loss, reason = "a progress bar's")]
const fn exact(steps: u64) -> f64 {
    steps as f64
}

/// The trace of a W3C `traceparent`: version, trace, parent, flags.
fn trace(parent: &str) -> Option<TraceId> {
    parent.split('-').nth(1)?.parse().ok()
}

fn failed(fault: &Fault) -> ErrorData {
    tracing::error!(%fault, "the host could not do its work");
    ErrorData::internal_error("the host could not do its work; its operator's log says why", None)
}

/// How a call stands, without a word of what people or services said.
fn standing(story: &CallStory, runs: bool) -> Value {
    let of = |word: &str| json!({ "call": story.call, "status": word });
    let with = |word: &str, name: &str, more: Value| json!({ "call": story.call, "status": word, name: more });
    if let Opening::Denied(denied) = &story.opening.what {
        return with("refused", "code", json!(denied.refused.code));
    }
    if let Some(finished) = &story.finished {
        return match &finished.what.outcome {
            End::Ok(_) => of("ok"),
            End::ToolError(_) => of("tool-error"),
            End::Refused(refused) => with("refused", "code", json!(refused.code)),
            End::Trapped(refused) => with("failed", "code", json!(refused.code)),
            End::Interrupted => of("interrupted"),
        };
    }
    match story.waiting() {
        _ if runs => of("running"),
        Some(hold) => with("held", "waits_for", json!(approvals::told(&hold.held.what.needs))),
        None => of("interrupted"),
    }
}

/// The host's own tools: they read, and nothing else.
fn own_tools() -> [Tool; 2] {
    let of = |name: &'static str, title: &str, description: &'static str| {
        let schema = |properties: Value, required: Value| {
            let schema = json!({
                "type": "object",
                "properties": properties,
                "required": required,
            });
            match schema {
                Value::Object(schema) => Arc::new(schema),
                _ => Arc::default(),
            }
        };
        let call = json!({ "call": { "type": "string", "description": "The call's id, as a result had it." } });
        let mut tool = Tool::new_with_raw(name, Some(description.into()), schema(call, json!(["call"])));
        tool.title = Some(title.to_owned());
        let status = json!({
            "call": { "type": "string" },
            "status": { "type": "string", "enum": ["running", "held", "interrupted", "ok", "tool-error", "refused", "failed"] },
        });
        tool.output_schema = Some(schema(status, json!(["call", "status"])));
        tool.annotations = Some(ToolAnnotations::new().read_only(true).open_world(false));
        tool
    };
    [
        of(
            STATUS,
            "How a call stands",
            "Says how one of your calls stands: running, held for people, or how it ended.",
        ),
        of(
            RESULT,
            "What came of a call",
            "Says how one of your calls stands, with its value once it has one.",
        ),
    ]
}
