//! MCP: the Model Context Protocol, versions 2025-06-18, 2025-11-25 and 2026-07-28.
//!
//! A [`Door`] is one caller's: whoever is on the other side is the agent, and the user it acts for, that the operator said when it was
//! opened, and can say nothing about that. Calls are made on threads that may block; what a guest prints goes to the log and never
//! into the protocol. A call that is held or takes long is answered as its client can take it: see `tasks`.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::{Arc, Weak};

use ambit_core::error::{Code, Refusal, printable};
use ambit_core::grant::Narrowing;
use ambit_core::guard;
use ambit_core::ledger::Principal;
use ambit_core::ledger::body::ShownBy;
use ambit_core::ledger::story::Opening;
use ambit_core::policy::Mode;
use ambit_core::trace::{Arrival, Parent, Protocol, TRACEPARENT};
use ambit_runtime::call::{Answer, CallRequest, Coming, Outcome};
use ambit_runtime::contract::OwnContract;
use ambit_runtime::host::Host;
use ambit_runtime::ids::TraceId;
use ambit_runtime::offers::{Offered, Owner};
use ambit_runtime::store::StoreError;
use http::HeaderMap;
use http::request::Parts;
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, ClientRequest, CreateTaskResult,
    CustomRequest, CustomResult, ErrorCode, ErrorData, GetTaskParams, GetTaskResult, Implementation,
    InitializeRequestParams, InitializeResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult,
    RequestMetaObject, Resource, ServerCapabilities, ServerConfig, SubscriptionFilter, Tool, UpdateTaskParams,
};
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext};

use crate::calls::{Calls, Made, Whose};
use crate::frame::Arguments;
use crate::http::seats::UnderWay;
use crate::http::work::at_work;
use crate::offer::{Offer, Offers};
use crate::status::{self, RESULT, STATUS};
use crate::tasks::{self, Client, Stands};
use crate::told::Approvers;
use crate::{changes, resources, told};

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
    /// The request that it was made for, among its caller's: what is done for it has a share in that as long as it takes. The door itself
    /// has none, as it may be kept by whoever still serves a client that is gone.
    request: Weak<UnderWay>,
}

impl Door {
    /// A door for this caller.
    ///
    /// # Errors
    /// [`Code::Caller`]: no such agent, or it may not act for the user.
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
            request: Weak::new(),
        })
    }

    /// The same for one request among others of its caller.
    pub(crate) fn of_request(self, under_way: &Arc<UnderWay>) -> Door {
        Door {
            request: Arc::downgrade(under_way),
            ..self
        }
    }

    /// What its request has of the server, for what is done for it; none where it is nobody's among others.
    pub(crate) fn share(&self) -> Option<Arc<UnderWay>> {
        self.request.upgrade()
    }

    /// The same door into what its host has taken last. What its caller is not let in for any more says so when it is asked.
    pub(crate) fn now(&self) -> Door {
        let host = self.host.current();
        if host.is_as_read(&self.host) {
            return self.clone();
        }
        let principal = host.principal(&self.who.agent, self.who.user.as_deref());
        let offers = Door::names(&host, &self.who);
        Door {
            offers: offers.unwrap_or_else(|_| Arc::clone(&self.offers)),
            principal: principal.map_or_else(|_| Arc::clone(&self.principal), Arc::new),
            host,
            ..self.clone()
        }
    }

    /// All that its caller is told there is.
    pub(crate) fn lists(&self) -> Result<(Vec<Tool>, Vec<Resource>), ErrorData> {
        let all = self.all()?;
        let tools = self.offers.listed(&all).chain(status::listed());
        Ok((tools.collect(), resources::listed(&all)))
    }

    /// The tool and the function that a name stands for.
    pub(crate) fn named(&self, name: &str) -> Option<(&str, &str)> {
        let offer = self.offers.get(name)?;
        Some((&offer.tool, &offer.function))
    }

    /// Writes down a call of a function, by its id, that policy permits this caller, and that its token has no scope for. False where
    /// policy does not, or there is no such function: then the call is made and answered as any, so that nobody learns from it what
    /// there is.
    pub(crate) async fn refused_for_scope(&self, request: CallRequest, arrival: Arrival) -> Result<bool, ErrorData> {
        let door = self.clone();
        let refused = at_work(self.share(), move || {
            if !guard!("identity.step-up", door.permits(&request)) {
                return Ok(false);
            }
            let message = format!(
                "the caller's token has no scope for calling `{}` of tool `{}`",
                request.function, request.tool
            );
            let refusal = Refusal::new(Code::Narrowing, message).advise("call again with a token that has one");
            let coming = Coming {
                by: door.shown(),
                arrival: Some(arrival),
                ..Coming::default()
            };
            door.host.refuse_left_out(request, coming, refusal).map(|_| true)
        });
        match refused.await {
            Ok(refused) => refused.map_err(|fault| self.could_not(&fault)),
            Err(not_done) => Err(self.could_not(&not_done)),
        }
    }

    /// Whether policy permits the caller a call, whatever its credentials leave out.
    fn permits(&self, request: &CallRequest) -> bool {
        let Who { agent, user, .. } = self.who.as_ref();
        let all = self
            .host
            .offers(agent, user.as_deref(), request.mode, request.run.as_deref());
        let same = |one: &Offered<'_>| one.tool == request.tool && one.function.id == request.function;
        all.is_ok_and(|all| all.iter().any(|one| same(one) && one.permitted))
    }

    /// The host that it leads to.
    pub(crate) const fn host(&self) -> &Host {
        &self.host
    }

    /// Who its caller is to the ledger.
    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What its caller showed.
    pub(crate) fn shown(&self) -> Option<ShownBy> {
        self.credentials.by.clone()
    }

    /// What its caller's calls may do at most.
    pub(crate) fn mode(&self) -> Mode {
        self.who.mode
    }

    /// What its caller asks for with this: nobody else, in no other mode, and with no more than its credentials leave.
    pub(crate) fn asks(&self, tool: &str, function: &str, args: String, trace: Option<TraceId>) -> CallRequest {
        CallRequest {
            tool: tool.to_owned(),
            function: function.to_owned(),
            args,
            agent: self.who.agent.clone(),
            user: self.who.user.clone(),
            mode: self.who.mode,
            run: self.who.run.clone(),
            trace,
            narrowing: self.credentials.narrowing.clone(),
            listener: None,
            cancel: None,
        }
    }

    /// Whose calls it looks at, and at which of them.
    pub(crate) fn owner(&self) -> Owner<'_> {
        Owner {
            principal: &self.principal,
            narrowing: &self.credentials.narrowing,
            by: self.credentials.by.as_ref(),
            run: self.own_run(),
        }
    }

    /// The run that its caller is in and in no other, by the token of it that it showed.
    pub(crate) fn own_run(&self) -> Option<&str> {
        let by_token = matches!(self.credentials.by, Some(ShownBy::RunToken(_)));
        self.who.run.as_deref().filter(|_| by_token)
    }

    /// The same, with what the token leaves of what its caller could do.
    pub(crate) fn of_run(&self) -> Option<(&str, &Narrowing)> {
        Some((self.own_run()?, &self.credentials.narrowing))
    }

    /// The calls that run for it.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Whose the calls are that are made by it.
    pub(crate) fn whose(&self) -> Whose {
        let Who { agent, user, .. } = self.who.as_ref();
        Whose::new(agent, user.as_deref(), self.credentials.by.as_ref())
    }

    /// Takes back a call that its caller began and that runs; false where it does not. That it is the caller's own was found before.
    pub(crate) fn take_back(&self, call: &str) -> bool {
        let whose = self.whose();
        if self.calls.take_back_call(&whose, call) {
            return true;
        }
        // The last process had its request: what that showed is in the call's entry.
        let story = self.host.reader().and_then(|reader| reader.story(call));
        let began = story.ok().and_then(|story| {
            let Opening::Accepted(accepted) = &story.opening.what else {
                return None;
            };
            let who = story.principal.as_ref()?;
            Some(Whose::new(&who.agent, who.user.as_deref(), accepted.by.as_ref()))
        });
        began.is_some_and(|began| began == whose) && self.host.take_back_suspended(call)
    }

    /// Waits until the host makes no calls any more, as its ledger failed.
    pub(crate) async fn failed(&self) {
        loop {
            let failed = self.calls.failed();
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
        let all = self.offered();
        all.map_err(|refusal| ErrorData::invalid_request(told::refused(&refusal), None))
    }

    /// What there is, as policy is now, and what its caller's credentials leave of it.
    ///
    /// # Errors
    /// As [`Host::offers`].
    pub(crate) fn offered(&self) -> Result<Vec<Offered<'_>>, Refusal> {
        let Who { agent, user, mode, run } = self.who.as_ref();
        let mut all = self.host.offers(agent, user.as_deref(), *mode, run.as_deref())?;
        let narrowing = &self.credentials.narrowing;
        for one in &mut all {
            one.narrow(narrowing);
        }
        Ok(all)
    }

    /// The contract of a tool as its caller may read it; none where it may call nothing of it.
    ///
    /// # Errors
    /// As [`Host::offers`].
    pub(crate) fn contract(&self, tool: &str) -> Result<Option<OwnContract>, Refusal> {
        let Who { agent, user, .. } = self.who.as_ref();
        let (all, narrowing) = (self.offered()?, &self.credentials.narrowing);
        self.host.own_contract(tool, (agent, user.as_deref()), &all, narrowing)
    }

    /// Calls a function. One that this caller may not call is refused as any call is, on the ledger and by its rule.
    ///
    /// A request that is made again for a call that is there already (`again`) makes none: it is answered with how that stands.
    async fn call(
        &self,
        name: &str,
        again: Option<String>,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(offer) = self.offers.get(name) else {
            let name = printable(name);
            let message = format!("there is no tool `{name}`: tools/list says which there are");
            return Err(ErrorData::invalid_params(message, None));
        };
        let parent = parent(context);
        let client = Client::of(context);
        if let Some(call) = again.filter(|_| !guard!("mcp.again", false)) {
            let (tool, function) = (offer.tool.clone(), offer.function.clone());
            let stands = self
                .read(move |door| tasks::stands_of(door, &call, (&tool, &function), parent.as_ref()))
                .await?;
            let stands = stands.ok_or_else(|| {
                ErrorData::invalid_params("there is no call of yours that this `requestState` is of", None)
            })?;
            return Ok(match client.tasks && !stands.is_over() {
                true => stands.into_task().into(),
                false => stands.into_result().into(),
            });
        }
        let Some(args) = sent(context) else {
            tracing::error!("a call came without its arguments");
            return Err(ErrorData::internal_error(NO_WORK, None));
        };
        let trace = trace_of(parent.as_ref());
        let request = self.asks(&offer.tool, &offer.function, args.as_str().to_owned(), trace);
        let coming = Coming {
            by: self.credentials.by.clone(),
            arrival: Some(arrival(Protocol::Mcp, parent.as_ref())),
            ..Coming::default()
        };
        let waits = client.tasks.then_some(tasks::SOON);
        match self
            .calls
            .make(&self.host, request, coming, self.share(), context, waits)
            .await
        {
            Ok(Made::Answer(answer)) => {
                let wrapped = self.is_wrapped(offer, &answer).await?;
                let (answer, result) = self.told(answer, wrapped, parent.as_ref()).await?;
                if answer.end.is_some() {
                    return Ok(result.into());
                }
                if client.tasks {
                    let task = self.task(answer.call.as_str().to_owned(), parent).await?;
                    return Ok(task.map_or_else(|| result.into(), CallToolResponse::from));
                }
                Ok(match &answer.outcome {
                    Outcome::Held(held) if client.asks => {
                        tasks::notice(held, answer.call.as_str(), result.meta, Approvers::of(&self.host)).into()
                    }
                    _ => result.into(),
                })
            }
            Ok(Made::GoesOn(call)) => {
                let task = self.task(call, parent).await?;
                let task = task.ok_or_else(|| ErrorData::internal_error(NO_WORK, None))?;
                Ok(task.into())
            }
            Err(unmade) => Err(self.could_not(&unmade)),
        }
    }

    /// What a call is answered with. A large value is written out on a thread that may take long.
    async fn told(
        &self,
        answer: Box<Answer>,
        wrapped: bool,
        parent: Option<&Parent>,
    ) -> Result<(Box<Answer>, CallToolResult), ErrorData> {
        let by = Approvers::of(&self.host);
        if !told::is_large(&answer) {
            let result = told::result(&answer, wrapped, parent, by);
            return Ok((answer, result));
        }
        let parent = parent.cloned();
        let written = at_work(self.share(), move || {
            let result = told::result(&answer, wrapped, parent.as_ref(), by);
            (answer, result)
        });
        written.await.map_err(|not_done| self.could_not(&not_done))
    }

    /// Whether the value of a call is one member of what is answered.
    async fn is_wrapped(&self, offer: &Offer, answer: &Answer) -> Result<bool, ErrorData> {
        if self.host.current().is_as_read(&self.host) {
            return Ok(offer.wrapped);
        }
        // The home was read anew since: it may have begun under that.
        let (call, outcome) = (answer.call.as_str().to_owned(), answer.outcome.clone());
        self.read(move |door| {
            let story = door.host.reader()?.story(&call)?;
            Ok(tasks::is_wrapped(door, &story, &outcome))
        })
        .await
    }

    /// A call that its request does not wait for, as a task; none of one that is not the caller's.
    async fn task(&self, call: String, parent: Option<Parent>) -> Result<Option<CreateTaskResult>, ErrorData> {
        let stands = self
            .read(move |door| tasks::stands(door, &call, parent.as_ref()))
            .await?;
        Ok(stands.map(Stands::into_task))
    }

    /// Does what reads the ledger, on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Door) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ErrorData> {
        let door = self.clone();
        match at_work(self.share(), move || act(&door)).await {
            Ok(read) => read.map_err(|error| self.could_not(&error)),
            Err(not_done) => Err(self.could_not(&not_done)),
        }
    }

    /// What only the operator can do something about is for the operator's log.
    fn could_not(&self, error: &dyn Display) -> ErrorData {
        tracing::error!(%error, "the host could not do its work");
        self.calls.fail();
        ErrorData::internal_error(NO_WORK, None)
    }
}

/// What a request said that it is part of.
fn parent(context: &RequestContext<RoleServer>) -> Option<Parent> {
    let parts = context.extensions.get::<Parts>();
    parent_of(&context.meta, parts.map(|parts| &parts.headers))
}

/// The same: in the message, or else, over HTTP, in the head. What is malformed is as if it was not there.
pub(crate) fn parent_of(meta: &RequestMetaObject, headers: Option<&HeaderMap>) -> Option<Parent> {
    let said = meta.get_traceparent().and_then(Parent::parse);
    said.or_else(|| parent_in(headers?))
}

/// What the head of a request says that it is part of. Who says it twice has not said it.
pub(crate) fn parent_in(headers: &HeaderMap) -> Option<Parent> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let said = all.next().filter(|_| all.next().is_none())?;
    Parent::parse(said.to_str().ok()?)
}

/// The trace that a call is of by that.
pub(crate) fn trace_of(parent: Option<&Parent>) -> Option<TraceId> {
    parent.and_then(|parent| parent.trace.parse().ok())
}

/// How a call comes that is asked for so.
pub(crate) fn arrival(protocol: Protocol, parent: Option<&Parent>) -> Arrival {
    Arrival {
        parent: parent.map(|parent| parent.span),
        protocol: Some(protocol),
    }
}

/// The arguments of a call as they were sent: over HTTP with what else came with the request.
fn sent(context: &RequestContext<RoleServer>) -> Option<&Arguments> {
    let over_http = || context.extensions.get::<Parts>()?.extensions.get();
    context.extensions.get().or_else(over_http)
}

const NO_WORK: &str = "the host could not do its work; its operator's log says why";

impl ServerHandler for Door {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_tasks()
            .build();
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
        let mut result = self.negotiate_initialize(&request)?;
        // Those of a session have no such tasks.
        result.capabilities.extensions = None;
        // Over HTTP there is no session that such a client could be told anything in.
        if self.credentials.by.is_some() {
            let ServerCapabilities { tools, resources, .. } = &mut result.capabilities;
            if let Some(tools) = tools {
                tools.list_changed = None;
            }
            if let Some(resources) = resources {
                resources.list_changed = None;
            }
        }
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
        Ok(ListToolsResult::with_all_items(self.lists()?.0))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let CallToolRequestParams {
            name,
            arguments,
            request_state,
            input_responses,
            ..
        } = request;
        Ok(match name.as_ref() {
            STATUS | RESULT => {
                let with_result = name == RESULT;
                let about =
                    move |door: &Door| status::answer(&door.host, door.owner(), arguments.as_ref(), with_result);
                self.read(about).await?.into()
            }
            name => {
                // In older versions these say nothing.
                let says = Client::of(&context).is_stateless;
                if says && input_responses.is_some() && request_state.is_none() {
                    let message =
                        "`inputResponses` came without the `requestState` that they belong to: nothing was called";
                    return Err(ErrorData::invalid_params(message, None));
                }
                let again = request_state.filter(|_| says);
                // The library moves what it is given some five times, and this is large.
                Box::pin(self.call(name, again, &context)).await?
            }
        })
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        Client::of(&context).takes_tasks()?;
        let parent = parent(&context);
        let stands = self
            .read(move |door| tasks::stands(door, &request.task_id, parent.as_ref()))
            .await?;
        stands.ok_or_else(no_task)?.into_got()
    }

    /// A client is asked for nothing in a task, so whatever it answers is an answer to nothing: it is taken, and dropped.
    async fn update_task(
        &self,
        request: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Client::of(&context).takes_tasks()?;
        let own = self.read(move |door| tasks::is_own(door, &request.task_id)).await?;
        own.then_some(()).ok_or_else(no_task)
    }

    /// Takes a call back that runs. What waits for people, waits on: they end it.
    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Client::of(&context).takes_tasks()?;
        let own = self
            .read(move |door| {
                let own = tasks::is_own(door, &request.task_id)?;
                if own && !door.take_back(&request.task_id) {
                    tracing::debug!("a task that does not run was taken back");
                }
                Ok(own)
            })
            .await?;
        own.then_some(()).ok_or_else(no_task)
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        one_page(request.as_ref())?;
        Ok(ListResourcesResult::with_all_items(self.lists()?.1))
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
        let contents = self.read(move |door| resources::read(door, &uri)).await?;
        match contents {
            Some(contents) => Ok(ReadResourceResult::new(vec![contents]).into()),
            None => Err(ErrorData::resource_not_found(
                format!("there is no `{none}` for you; a call has a receipt once it has ended"),
                None,
            )),
        }
    }

    fn accepted_subscription_filter(&self, _: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let lists = SubscriptionFilter::builder();
        Some(lists.tools_list_changed().resources_list_changed().build())
    }

    async fn listen(&self, asked: SubscriptionContext) -> Result<(), ErrorData> {
        changes::listen(self, &asked).await
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
            | "subscriptions/listen"
            | "tasks/get"
            | "tasks/update"
            | "tasks/cancel"
    )
}

/// Whether there is none, or it is somebody else's, nobody is told.
fn no_task() -> ErrorData {
    ErrorData::invalid_params("there is no such task of yours", None)
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
