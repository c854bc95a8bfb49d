//! Every name that telemetry uses and that is not this host's own: one place to change when the conventions do.
//!
//! Source: OpenTelemetry semantic conventions, and those for generative AI and MCP (`semantic-conventions-genai`: `docs/gen-ai/mcp.md`,
//! `docs/gen-ai/gen-ai-spans.md`, "Execute tool span"), which were in development in November 2026. What is stable of them: `service.*`,
//! `error.type`, `http.*`. Names of this host begin with `ambit.`, and stand here too.

/// What a resource is.
pub mod resource {
    /// Name of the service: `ambit`.
    pub const SERVICE_NAME: &str = "service.name";
    /// Its version.
    pub const SERVICE_VERSION: &str = "service.version";
    /// Which one it is: the ledger's name.
    pub const SERVICE_INSTANCE: &str = "service.instance.id";
}

/// Of generative AI.
pub mod gen_ai {
    /// What is done.
    pub const OPERATION: &str = "gen_ai.operation.name";
    /// A tool is executed. Without a protocol it begins the span's name.
    pub const EXECUTE_TOOL: &str = "execute_tool";
    /// The tool, as a model knows it: here a tool with its function, as policies name it.
    pub const TOOL: &str = "gen_ai.tool.name";
    /// The agent.
    pub const AGENT: &str = "gen_ai.agent.name";
}

/// Of MCP.
pub mod mcp {
    /// The request's method.
    pub const METHOD: &str = "mcp.method.name";
    /// What calls are asked for with. It begins the span's name.
    pub const TOOLS_CALL: &str = "tools/call";
    /// The class of error of a result that is one.
    pub const TOOL_ERROR: &str = "tool_error";
}

/// Of everything.
pub mod general {
    /// The class of error, where there is one.
    pub const ERROR_TYPE: &str = "error.type";
    /// The status of an answer.
    pub const HTTP_STATUS: &str = "http.response.status_code";
    /// How often a request was sent before.
    pub const HTTP_RESENDS: &str = "http.request.resend_count";
    /// The user that somebody acts for.
    pub const END_USER: &str = "enduser.id";
}

/// This host's own.
pub mod own {
    /// The call's id.
    pub const CALL: &str = "ambit.call.id";
    /// The component's digest.
    pub const COMPONENT: &str = "ambit.component";
    /// The connection's name.
    pub const CONNECTION: &str = "ambit.connection";
    /// What was decided: permitted, denied or held.
    pub const DECISION: &str = "ambit.decision";
    /// Number of an effect in its call.
    pub const EFFECT: &str = "ambit.effect";
    /// Who wanted the effect: guest, host or operator.
    pub const CAUSE: &str = "ambit.effect.cause";
    /// Effects of the call that were answered.
    pub const EFFECTS_ANSWERED: &str = "ambit.effects.answered";
    /// Effects of the call that are in doubt.
    pub const EFFECTS_IN_DOUBT: &str = "ambit.effects.in_doubt";
    /// Effects of the call that were refused.
    pub const EFFECTS_REFUSED: &str = "ambit.effects.refused";
    /// Index of the entry in its ledger.
    pub const ENTRY: &str = "ambit.entry.index";
    /// The entry's kind.
    pub const ENTRY_KIND: &str = "ambit.entry.kind";
    /// Digest of the entry as the ledger has it, in hexadecimal.
    pub const ENTRY_LEAF: &str = "ambit.entry.leaf";
    /// Fuel that the guest used.
    pub const FUEL: &str = "ambit.fuel";
    /// The function's id.
    pub const FUNCTION: &str = "ambit.function";
    /// Minor units of money.
    pub const MONEY: &str = "ambit.money.minor";
    /// Its currency.
    pub const CURRENCY: &str = "ambit.money.currency";
    /// What came of it, in a word.
    pub const OUTCOME: &str = "ambit.outcome";
    /// The code of a refusal.
    pub const REFUSAL: &str = "ambit.refusal";
    /// The route's name.
    pub const ROUTE: &str = "ambit.route";
    /// The `@id`s of the policies that decided.
    pub const RULES: &str = "ambit.rules";
    /// The run.
    pub const RUN: &str = "ambit.run.id";
    /// The agent's team.
    pub const TEAM: &str = "ambit.team";
    /// The team's tenant.
    pub const TENANT: &str = "ambit.tenant";
    /// read, draft or commit.
    pub const TIER: &str = "ambit.tier";
    /// The tool's name.
    pub const TOOL: &str = "ambit.tool";
    /// Time that the call waited for services, in milliseconds.
    pub const WAITED: &str = "ambit.upstream_ms";
    /// Before the kind of an entry: the name of an event.
    pub const EVENT: &str = "ambit.";
}
