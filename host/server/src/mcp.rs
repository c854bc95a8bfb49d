//! MCP: the Model Context Protocol, versions 2025-06-18, 2025-11-25 and 2026-07-28.
//!
//! A [`Door`] is one caller's: whoever is on the other side is the agent, and the user it acts for, that the operator said when it was
//! opened, and can say nothing about that. Calls are made on threads that may block; what a guest prints goes to the log and never
//! into the protocol.

use std::borrow::Cow;
use std::sync::Arc;

use ambit_core::error::{Refusal, printable};
use ambit_core::grant::Narrowing;
use ambit_core::ledger::Principal;
use ambit_core::ledger::body::ShownBy;
use ambit_core::policy::Mode;
use ambit_runtime::call::{CallRequest, Fault};
use ambit_runtime::host::Host;
use ambit_runtime::offers::{Offered, Owner};
use ambit_runtime::store::StoreError;
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientRequest, CustomRequest, CustomResult, ErrorCode,
    ErrorData, Implementation, InitializeRequestParams, InitializeResult, JsonObject, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::Value;
use tokio::sync::Notify;

use crate::calls::{Calls, Unmade};
use crate::offer::Offers;
use crate::status::{self, RESULT, STATUS};
use crate::trace::Parent;
use crate::{resources, told};

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

/// What a caller showed of itself where nobody but it can say who it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    /// What they leave of what the caller could do.
    pub(crate) narrowing: Narrowing,
    /// What was shown, for the ledger; none where the operator said who it is.
    pub(crate) by: Option<ShownBy>,
}

/// One caller's way into a host, whatever it is reached by. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Door {
    host: Host,
    who: Arc<Who>,
    principal: Arc<Principal>,
    credentials: Arc<Credentials>,
    offers: Arc<Offers>,
    calls: Calls,
    failed: Arc<Notify>,
}

impl Door {
    /// A door for this caller.
    ///
    /// # Errors
    /// [`Code::Caller`](ambit_core::error::Code::Caller): no such agent, or it may not act for the user.
    pub fn new(host: Host, who: Who) -> Result<Door, Refusal> {
        let offers = Door::names(&host, &who)?;
        Door::open(host, who, Credentials::default(), offers, Calls::default())
    }

    /// What the functions of a host are called over MCP, which is the same for every caller.
    pub(crate) fn names(host: &Host, who: &Who) -> Result<Arc<Offers>, Refusal> {
        let all = host.offers(&who.agent, who.user.as_deref(), who.mode, who.run.as_deref())?;
        Ok(Arc::new(Offers::new(&all)))
    }

    /// A door for a caller who showed something, among others of the same host.
    pub(crate) fn open(
        host: Host,
        who: Who,
        credentials: Credentials,
        offers: Arc<Offers>,
        calls: Calls,
    ) -> Result<Door, Refusal> {
        let principal = host.principal(&who.agent, who.user.as_deref())?;
        Ok(Door {
            host,
            who: Arc::new(who),
            principal: Arc::new(principal),
            credentials: Arc::new(credentials),
            offers,
            calls,
            failed: Arc::default(),
        })
    }

    /// The tool and the function that a name stands for.
    pub(crate) fn named(&self, name: &str) -> Option<(&str, &str)> {
        let offer = self.offers.get(name)?;
        Some((&offer.tool, &offer.function))
    }

    /// Whose calls it looks at, and at which of them.
    fn owner(&self) -> Owner<'_> {
        Owner {
            principal: &self.principal,
            narrowing: &self.credentials.narrowing,
        }
    }

    /// The calls that run for it.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Waits until the host makes no calls any more, as its ledger failed.
    pub(crate) async fn failed(&self) {
        loop {
            let failed = self.failed.notified();
            tokio::pin!(failed);
            failed.as_mut().enable();
            if self.host.failed().is_some() {
                return;
            }
            failed.await;
        }
    }

    /// What there is, as policy is now.
    fn all(&self) -> Result<Vec<Offered<'_>>, ErrorData> {
        let Who { agent, user, mode, run } = self.who.as_ref();
        let all = self.host.offers(agent, user.as_deref(), *mode, run.as_deref());
        let mut all = all.map_err(|refusal| ErrorData::invalid_request(told::refused(&refusal), None))?;
        let narrowing = &self.credentials.narrowing;
        for one in &mut all {
            one.narrow(narrowing);
        }
        Ok(all)
    }

    /// Calls a function. One that this caller may not call is refused as any call is, on the ledger and by its rule.
    async fn call(
        &self,
        name: &str,
        args: Option<JsonObject>,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let Some(offer) = self.offers.get(name) else {
            let name = printable(name);
            let message = format!("there is no tool `{name}`: tools/list says which there are");
            return Err(ErrorData::invalid_params(message, None));
        };
        let parent = context.meta.get_traceparent().and_then(Parent::parse);
        let request = CallRequest {
            tool: offer.tool.clone(),
            function: offer.function.clone(),
            args: Value::Object(args.unwrap_or_default()).to_string(),
            agent: self.who.agent.clone(),
            user: self.who.user.clone(),
            mode: self.who.mode,
            run: self.who.run.clone(),
            trace: parent.as_ref().map(|parent| parent.trace.clone()),
            narrowing: self.credentials.narrowing.clone(),
            listener: None,
            cancel: None,
        };
        match self
            .calls
            .make(&self.host, request, self.credentials.by.clone(), context)
            .await
        {
            Ok(made) => Ok(told::result(&made, offer.wrapped, parent.as_ref())),
            Err(Unmade::Fault(fault)) => Err(self.could_not(&fault)),
            Err(Unmade::Panic(panic)) => {
                tracing::error!(%panic, "a call ended in a panic");
                Err(ErrorData::internal_error(NO_WORK, None))
            }
        }
    }

    /// Does what reads the ledger, on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Door) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ErrorData> {
        let door = self.clone();
        match tokio::task::spawn_blocking(move || act(&door)).await {
            Ok(read) => read.map_err(|error| self.could_not(&error.into())),
            Err(panic) => {
                tracing::error!(%panic, "reading ended in a panic");
                Err(ErrorData::internal_error(NO_WORK, None))
            }
        }
    }

    /// What only the operator can do something about is for the operator's log.
    fn could_not(&self, fault: &Fault) -> ErrorData {
        tracing::error!(%fault, "the host could not do its work");
        self.failed.notify_waiters();
        ErrorData::internal_error(NO_WORK, None)
    }
}

const NO_WORK: &str = "the host could not do its work; its operator's log says why";

impl ServerHandler for Door {
    fn get_info(&self) -> ServerConfig {
        // Tools and policy do not change under a running host: nothing is ever told of a change, so none is promised.
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources().build();
        let mut server = Implementation::new("ambit", env!("CARGO_PKG_VERSION"));
        server.title = Some("Ambit".to_owned());
        ServerConfig::new(capabilities)
            .with_server_info(server)
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

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        let result = self.negotiate_initialize(&request)?;
        let mut info = request;
        info.protocol_version = result.protocol_version.clone();
        context.peer.set_peer_info(info);
        Ok(result)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        one_page(request.as_ref())?;
        let all = self.all()?;
        let tools: Vec<Tool> = self.offers.listed(&all).chain(status::listed()).collect();
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let CallToolRequestParams { name, arguments, .. } = request;
        let result = match name.as_ref() {
            STATUS | RESULT => {
                let with_result = name == RESULT;
                let about =
                    move |door: &Door| status::answer(&door.host, door.owner(), arguments.as_ref(), with_result);
                self.read(about).await?
            }
            name => self.call(name, arguments, &context).await?,
        };
        Ok(result.into())
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        one_page(request.as_ref())?;
        Ok(ListResourcesResult::with_all_items(resources::listed(&self.all()?)))
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        one_page(request.as_ref())?;
        Ok(ListResourceTemplatesResult::with_all_items(resources::templates()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri;
        let none = printable(&uri);
        let contents = self
            .read(move |door| match door.all() {
                Ok(all) => resources::read(&door.host, door.owner(), &all, &uri),
                Err(_) => Ok(None),
            })
            .await?;
        match contents {
            Some(contents) => Ok(ReadResourceResult::new(vec![contents]).into()),
            None => Err(ErrorData::resource_not_found(
                format!("there is no `{none}` for you; a call has a receipt once it has ended"),
                None,
            )),
        }
    }

    /// What the protocol's library could not read: a method that there is not, or parameters that are not the method's.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let method = request.method;
        if is_a_method(&method) {
            let message = format!("the parameters of `{method}` are not what it takes");
            return Err(ErrorData::invalid_params(message, None));
        }
        let message = format!("there is no method `{}`", printable(&method));
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None))
    }
}

/// Whether a request of this method could be one that is served.
fn is_a_method(method: &str) -> bool {
    matches!(
        method,
        "initialize"
            | "server/discover"
            | "ping"
            | "tools/list"
            | "tools/call"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
    )
}

/// Whether a request opens a session, or needs none.
pub(crate) fn needs_no_session(request: &ClientRequest) -> bool {
    matches!(
        request,
        ClientRequest::InitializeRequest(_) | ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_)
    )
}

/// Lists are one page, so there is no cursor that anybody was given.
fn one_page(request: Option<&PaginatedRequestParams>) -> Result<(), ErrorData> {
    match request.and_then(|request| request.cursor.as_ref()) {
        None => Ok(()),
        Some(_) => Err(ErrorData::invalid_params(
            "there is no such cursor: the list is one page",
            None,
        )),
    }
}
