//! What there is: the one table that requests are served by, held against, and described from.

use ambit_core::error::Code;
use ambit_core::identity::operator::Scope;
use ambit_core::ledger::Kind;
use http::{Method, StatusCode};

use crate::mcp::Door;

use super::ask::Asked;
use super::give::{Given, Problem};
use super::operators::Desk;
use super::{agents, ledger, openapi, operators};

/// A way to ask for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Post,
}

impl Verb {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
        }
    }

    /// What a request's method is here: a head is asked for as the whole is, and sent without a body.
    fn of(method: &Method) -> Option<Verb> {
        match *method {
            Method::GET | Method::HEAD => Some(Verb::Get),
            Method::POST => Some(Verb::Post),
            _ => None,
        }
    }
}

/// What a parameter of a query can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A text of 1 to 256 bytes.
    Text,
    /// One of these.
    Word(&'static [&'static str]),
    /// A whole number from the one to the other.
    Number(u64, u64),
    /// A time in UTC.
    Time,
    /// `true` or `false`.
    Flag,
}

/// A parameter of a query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) what: What,
    /// Whether nothing is asked for without it.
    pub(super) needed: bool,
    pub(super) about: &'static str,
}

/// What a route answers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Gives {
    /// JSON of this schema.
    Json(&'static str),
    /// JSON of this schema, with a tag.
    Tagged(&'static str),
    /// Something else, of this type, with a tag.
    Raw(&'static str),
    /// A page of Markdown, or of HTML where that is asked for rather, with a tag.
    Page,
}

/// Who it is for, and what is done.
#[derive(Clone, Copy)]
pub(super) enum Act {
    /// For anybody.
    Open(fn() -> Given),
    /// For agents.
    Agents(fn(&Door, &Asked) -> Result<Given, Problem>),
    /// For agents: a call.
    Call,
    /// For operators who may do that.
    Operators(Scope, fn(&Desk<'_>, &Asked) -> Result<Given, Problem>),
}

/// One thing that there is.
pub(super) struct Route {
    pub(super) verb: Verb,
    /// Below the server's origin: `{name}` is one segment, `{*name}` all that follow.
    pub(super) path: &'static str,
    /// What clients' programs call it.
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) query: &'static [Param],
    /// The schema of its body, where it has one.
    pub(super) takes: Option<&'static str>,
    pub(super) gives: Gives,
    pub(super) act: Act,
}

impl Route {
    /// Whether it reads or takes back one of an agent's own calls: that is heard also where these are all that it may have under way.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.act, Agents(_)) && self.path.starts_with("/v1/calls/")
    }

    /// Whether what is done for a word of its caller is done once.
    pub(super) fn keeps_word(&self) -> bool {
        matches!(self.act, Call) || self.name == "startRun"
    }
}

const MOST: u64 = (1 << 53) - 1;

const fn param(name: &'static str, what: What, about: &'static str) -> Param {
    Param {
        name,
        what,
        needed: false,
        about,
    }
}

const fn needed(name: &'static str, what: What, about: &'static str) -> Param {
    Param {
        needed: true,
        ..param(name, what, about)
    }
}

const LIMIT: Param = param(
    "limit",
    What::Number(1, 200),
    "At most so many on a page; 50, unless said.",
);
const AFTER: Param = param(
    "after",
    What::Number(0, MOST),
    "Only those after this one: `next` of the page before.",
);
const BEFORE: Param = param(
    "before",
    What::Number(0, MOST),
    "Only those before this one: `next` of the page before.",
);
const FOR: Param = param("for", What::Text, "For this agent; for any, unless said.");
const SINCE: Param = param("since", What::Time, "At this time or later.");
const UNTIL: Param = param("until", What::Time, "Before this time.");
const WAIT: Param = param(
    "wait",
    What::Number(0, 60),
    "How long to wait for the call, in seconds; 25, unless said. A call goes on, whoever waits for it.",
);
const CALLS: &[Param] = &[
    param("agent", What::Text, "By this agent."),
    param("user", What::Text, "For this user."),
    param("run", What::Text, "Of this run."),
    param("tool", What::Text, "To this tool."),
    param("function", What::Text, "To this function, by its whole id."),
    param(
        "outcome",
        What::Word(ambit_runtime::documents::OUTCOMES),
        "That ended, or stand, so.",
    ),
    SINCE,
    BEFORE,
    LIMIT,
];
const SEARCH: &[Param] = &[
    param("trace", What::Text, "Of this trace: 32 hexadecimal digits."),
    param("call", What::Text, "Of this call."),
    param("agent", What::Text, "Asked for by this agent."),
    param("user", What::Text, "For this user."),
    param("team", What::Text, "By an agent of this team."),
    param("tenant", What::Text, "By an agent of this tenant."),
    param("tool", What::Text, "About this tool."),
    param("function", What::Text, "About this function, by its whole id."),
    param("connection", What::Text, "About this connection."),
    param("route", What::Text, "About this route."),
    param("run", What::Text, "Of this run."),
    param(
        "decision",
        What::Word(&ambit_core::search::DECISIONS),
        "That decided so.",
    ),
    param("rule", What::Text, "Decided by the policy of this `@id`."),
    param(
        "code",
        What::Word(Code::WORDS),
        "Refused by this kind of rule, such as `policy` or `budget`.",
    ),
    param(
        "kind",
        What::Word(Kind::WORDS),
        "Of this kind, such as `effect-intent`.",
    ),
    SINCE,
    UNTIL,
    param(
        "text",
        What::Text,
        "With this text in the entry; with `values` also in a value of its call.",
    ),
    param(
        "values",
        What::Flag,
        "Look for the text in the values of calls too: the entry that begins such a call is found. Takes `ambit:values`.",
    ),
    BEFORE,
    LIMIT,
];

macro_rules! routes {
    ($($verb:ident $path:literal $name:literal $about:literal [$query:expr] ($takes:expr) => $gives:expr, $act:expr;)*) => {
        &[$(Route {
            verb: Verb::$verb, path: $path, name: $name, about: $about, query: $query, takes: $takes, gives: $gives, act: $act,
        }),*]
    };
}

use Act::{Agents, Call, Open, Operators};
use Gives::{Json, Page, Raw, Tagged};
use Scope::{Approve, Operate, Read};

/// All that there is.
pub(super) static ROUTES: &[Route] = routes! {
    Get "/v1/openapi.json" "describe" "This description." [&[]] (None) => Raw("application/json"), Open(openapi::given);

    Get "/v1/tools" "listTools" "The tools that you may call something of." [&[]] (None) => Json("Tools"), Agents(agents::tools);
    Get "/v1/tools/{tool}" "getContract" "What a tool can do for you and can never do, who is asked, its limits, and the functions that you may call, with their schemas." [&[]] (None)
        => Tagged("Contract"), Agents(agents::contract);
    Get "/v1/tools/{tool}/page" "getContractPage" "The same as a page, without the schemas: of Markdown, or of HTML for who would rather have that (`Accept`)." [&[]] (None)
        => Page, Agents(agents::contract_page);
    Post "/v1/calls" "startCall" "Call a function. 200 says how it ended; 202 that it runs, or waits for people, and `Location` where to look." [&[WAIT]]
        (Some("NewCall")) => Json("Call"), Call;
    Get "/v1/calls/{call}" "getCall" "How one of your calls stands." [&[]] (None) => Json("Call"), Agents(agents::call_status);
    Get "/v1/calls/{call}/result" "getResult" "How one of your calls stands, with what came of it: 202 while it has not ended." [&[]] (None)
        => Json("Call"), Agents(agents::call_result);
    Get "/v1/calls/{call}/receipt" "getReceipt" "The proof of how one of your calls ended, against the newest checkpoint." [&[]] (None)
        => Tagged("Receipt"), Agents(agents::receipt);
    Post "/v1/calls/{call}/cancel" "cancelCall" "Take back one of your calls that runs, by the key or issuer that you began it with. What it has done stays done." [&[]] (None)
        => Json("TakenBack"), Agents(agents::cancel);
    Get "/v1/holds" "listHolds" "Your effects that wait for people. You can do nothing to bring it about." [&[AFTER, LIMIT]] (None)
        => Json("Holds"), Agents(agents::holds);
    Get "/v1/runs" "listRuns" "Your runs, the newest first. A page may be short and have a `next`." [&[BEFORE, LIMIT]] (None) => Json("Runs"), Agents(agents::runs);
    Get "/v1/runs/{run}" "getRun" "One of your runs." [&[]] (None) => Json("Run"), Agents(agents::run);

    Get "/v1/operators/approvals" "listApprovals" "What waits for people, the oldest first." [&[AFTER, LIMIT]] (None)
        => Json("Approvals"), Operators(Read, operators::approvals);
    Get "/v1/operators/approvals/{hold}" "getApproval" "One effect that waits; with `ambit:values` also what would be sent." [&[]] (None)
        => Json("Hold"), Operators(Read, operators::approval);
    Post "/v1/operators/approvals/{hold}/votes" "vote" "Hand in a vote that a person signed with their own key. The call does not go on by it. It counts once: again it is refused (409)."
        [&[]] (Some("SignedVote")) => Json("Voted"), Operators(Approve, operators::vote);
    Get "/v1/operators/calls" "listCalls" "Calls, the newest first. A page may be short and have a `next`." [CALLS] (None)
        => Json("Calls"), Operators(Read, operators::calls);
    Get "/v1/operators/calls/{call}" "showCall" "A call with its entries; with `ambit:values` also its recorded values." [&[]] (None)
        => Json("CallWithEntries"), Operators(Read, operators::call);
    Get "/v1/operators/calls/{call}/receipt" "showReceipt" "The proof of how a call ended, against the newest checkpoint." [&[]] (None)
        => Tagged("Receipt"), Operators(Read, operators::call_receipt);
    Post "/v1/operators/calls/{call}/resume" "resumeCall" "Go on with a call that people decided about, or that was interrupted or paused. Nothing is done twice: where it runs or is over, that is refused (409)."
        [&[]] (None) => Json("CallRow"), Operators(Operate, operators::resume);
    Get "/v1/operators/runs" "listAllRuns" "Runs, the newest first." [&[BEFORE, LIMIT]] (None) => Json("Runs"), Operators(Read, operators::runs);
    Post "/v1/operators/runs" "startRun" "Start a run: each time anew, but once for an `Idempotency-Key`." [&[]] (Some("NewRun")) => Json("Run"), Operators(Operate, operators::start_run);
    Get "/v1/operators/runs/{run}" "showRun" "A run." [&[]] (None) => Json("Run"), Operators(Read, operators::run);
    Post "/v1/operators/runs/{run}/end" "endRun" "End a run: what is under way finishes, and nothing more begins. Again it is refused (409), and nothing changes." [&[]] (None)
        => Json("Run"), Operators(Operate, operators::end_run);
    Get "/v1/operators/contracts/{tool}" "showContract" "What a tool can do and can never do, with the rules that decide it." [&[FOR]] (None)
        => Tagged("WholeContract"), Operators(Read, operators::contract);
    Get "/v1/operators/contracts/{tool}/page" "showContractPage" "The same as a page, for reviewers: of Markdown, or of HTML for who would rather have that (`Accept`)." [&[FOR]] (None)
        => Page, Operators(Read, operators::contract_page);
    Get "/v1/operators/budgets" "listBudgets" "How all budgets stand." [&[]] (None) => Json("Budgets"), Operators(Read, operators::budgets);
    Get "/v1/operators/webhooks" "listWebhooks" "The webhooks: of what each is told, how far it has come, what waits, and how much of it nobody took." [&[]] (None)
        => Json("Webhooks"), Operators(Read, operators::webhooks);
    Get "/v1/operators/webhooks/dead" "listDeadMessages" "The messages of webhooks that nobody took, the oldest first." [&[AFTER, LIMIT]] (None)
        => Json("DeadMessages"), Operators(Read, operators::dead_messages);
    Post "/v1/operators/webhooks/dead/{message}/retry" "retryMessage" "Have a message that nobody took sent again, under its own id. Then it is left no more: again there is none (404)." [&[]] (None)
        => Json("Message"), Operators(Operate, operators::retry_message);
    Post "/v1/operators/webhooks/dead/{message}/drop" "dropMessage" "Give up a message that nobody took. Again there is none (404)." [&[]] (None)
        => Json("Message"), Operators(Operate, operators::drop_message);
    Get "/v1/operators/stops" "listStops" "What is stopped, and what runs." [&[]] (None) => Json("Stops"), Operators(Read, operators::stops);
    Post "/v1/operators/stops" "stop" "Put a stop into force: a kill, or safe mode. Again it is `already`, and nothing changes." [&[]] (Some("NewStop"))
        => Json("Stopped"), Operators(Operate, operators::stop);
    Post "/v1/operators/stops/lift" "liftStop" "Lift a stop. Again it is refused (409), as there is none." [&[]] (Some("Lift")) => Json("Stopped"), Operators(Operate, operators::lift);
    Get "/v1/operators/search" "search" "Entries by what they are about, the newest first. A page may be short and have a `next`." [SEARCH] (None)
        => Json("Searched"), Operators(Read, ledger::search);
    Get "/v1/operators/entries" "listEntries" "Entries of the ledger, in order."
        [&[param("from", What::Number(0, MOST), "From this index on."), LIMIT]] (None) => Json("Entries"), Operators(Read, ledger::entries);
    Get "/v1/operators/entries/{index}" "getEntry" "The bytes of an entry, as they are hashed." [&[]] (None)
        => Tagged("Entry"), Operators(Read, ledger::entry);
    Get "/v1/operators/proofs/inclusion" "proveInclusion" "That an entry is in the tree of the first `size` entries (RFC 6962)."
        [&[needed("index", What::Number(0, MOST), "Which entry."), param("size", What::Number(1, MOST), "Of the first so many; all, unless said.")]]
        (None) => Tagged("Inclusion"), Operators(Read, ledger::inclusion);
    Get "/v1/operators/proofs/consistency" "proveConsistency" "That the first `new` entries begin with the first `old` (RFC 6962)."
        [&[needed("old", What::Number(0, MOST), "The first so many."), param("new", What::Number(0, MOST), "Of so many; all, unless said.")]]
        (None) => Tagged("Consistency"), Operators(Read, ledger::consistency);
    Get "/v1/operators/ledger/key" "getKey" "What verifies the ledger's checkpoints. Compare it with one that you had elsewhere." [&[]] (None)
        => Raw("text/plain; charset=utf-8"), Operators(Read, ledger::key);
    Get "/v1/operators/ledger/checkpoint" "getCheckpoint" "The newest checkpoint (C2SP)." [&[]] (None)
        => Raw("text/plain; charset=utf-8"), Operators(Read, ledger::checkpoint);
    Get "/v1/operators/ledger/tile/{*tile}" "getTile" "A tile of hashes or a bundle of entries (C2SP tlog-tiles). Full ones never change." [&[]] (None)
        => Raw("application/octet-stream"), Operators(Read, ledger::tile);
};

/// A route, with what stands in the places of its path.
type Found = (&'static Route, Vec<(&'static str, String)>);

/// What a request is for, with what stands in its path.
///
/// # Errors
/// There is nothing of that path, or it is not asked for so.
pub(super) fn find(method: &Method, path: &str) -> Result<Found, Problem> {
    find_in(ROUTES, method, path)
}

fn find_in(routes: &'static [Route], method: &Method, path: &str) -> Result<Found, Problem> {
    let matching = routes
        .iter()
        .filter_map(|route| Some((route, matched(route.path, path)?)));
    let all: Vec<_> = matching.collect();
    if all.is_empty() {
        let why = "there is nothing here: /v1/openapi.json says what there is";
        return Err(Problem::new(StatusCode::NOT_FOUND, why));
    }
    let verb = Verb::of(method);
    let takes = |verb: Verb| all.iter().any(|(route, _)| route.verb == verb);
    let allow = match (takes(Verb::Get), takes(Verb::Post)) {
        (true, true) => "GET, HEAD, POST",
        (true, false) => "GET, HEAD",
        _ => "POST",
    };
    let found = all.into_iter().find(|(route, _)| Some(route.verb) == verb);
    found.ok_or_else(|| Problem::method(allow))
}

/// What stands in a path where a pattern has names; none where it is another path.
fn matched(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let (mut names, mut rest) = (Vec::new(), path.split('/'));
    for part in pattern.split('/') {
        if let Some(name) = part.strip_prefix("{*").and_then(|part| part.strip_suffix('}')) {
            let whole: Vec<&str> = rest.by_ref().collect();
            let whole = whole.join("/");
            return (!whole.is_empty()).then(|| {
                names.push((name, whole));
                names
            });
        }
        let segment = rest.next()?;
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            // What is escaped is the name of nothing here.
            Some(_) if segment.is_empty() || segment.contains('%') => return None,
            Some(name) => names.push((name, segment.to_owned())),
            None if part == segment => {}
            None => return None,
        }
    }
    rest.next().is_none().then_some(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_path_is_matched_whole() {
        assert_eq!(matched("/v1/tools", "/v1/tools"), Some(vec![]));
        let named = matched("/v1/calls/{call}/result", "/v1/calls/c_a/result");
        assert_eq!(named, Some(vec![("call", "c_a".to_owned())]));
        let tile = matched("/v1/t/{*tile}", "/v1/t/0/x001/000.p/5");
        assert_eq!(tile, Some(vec![("tile", "0/x001/000.p/5".to_owned())]));
        for (pattern, path) in [
            ("/v1/tools", "/v1/tools/"),
            ("/v1/tools/{tool}", "/v1/tools/"),
            ("/v1/tools/{tool}", "/v1/tools/a/b"),
            ("/v1/tools/{tool}", "/v1/tools/a%2fb"),
            ("/v1/tools", "/v1/Tools"),
            ("/v1/t/{*tile}", "/v1/t/"),
        ] {
            assert_eq!(matched(pattern, path), None, "{pattern} {path}");
        }
    }

    #[test]
    fn what_there_is_has_one_name_and_one_place() {
        let names: BTreeSet<&str> = ROUTES.iter().map(|route| route.name).collect();
        let places: BTreeSet<_> = ROUTES.iter().map(|route| (route.path, route.verb.as_str())).collect();
        assert_eq!((names.len(), places.len()), (ROUTES.len(), ROUTES.len()));
        assert!(find(&Method::GET, "/v1/calls").is_err() && find(&Method::POST, "/v1/calls").is_ok());
        assert!(find(&Method::DELETE, "/v1/tools").is_err() && find(&Method::HEAD, "/v1/tools").is_ok());
    }

    /// The two parts are told apart by their paths too, and whatever changes something for operators takes more than to read.
    #[test]
    fn each_route_is_of_one_part() {
        for route in ROUTES {
            let of_operators = route.path.starts_with("/v1/operators/");
            assert_eq!(matches!(route.act, Operators(..)), of_operators, "{}", route.path);
            if let (Verb::Post, Operators(scope, _)) = (route.verb, &route.act) {
                assert!(matches!(scope, Operate | Approve), "{}", route.path);
            }
        }
    }
}
