#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::effect::{GuestBody, GuestResponse, Method};
use crate::identity::{AgentSpec, Directory};
use crate::json::{Json, Object};
use crate::manifest::ExportPath;
use crate::money::Spend;
use crate::policy::{CallFacts, Mode, PolicySet};
use crate::scope::{CapabilityKind, FunctionScope, HttpScope};

const STRIPE: u32 = 3;
const UNBOUND: u32 = 4;

const SCOPE: &str = "\
    POST https://api.stripe.com/v1/refunds fields(charge, amount, note) reads(id, status, card) headers(prefer, x-trace); \
    POST https://api.stripe.com/v1/drafts fields(charge); \
    GET https://api.stripe.com/v1/charges/{id} query(expand) reads(id); \
    POST https://api.stripe.com/v1/payouts fields(amount)";

fn connection() -> Arc<Connection> {
    let routes = json!({
        "refunds.create": {
            "match": "POST /v1/refunds",
            "body": "form",
            "fields": ["charge", "amount", "reason"],
            "required": ["charge"],
            "reads": ["id", "status", "amount"],
            "headers": ["prefer"],
            "money": { "amount": "amount", "currency": { "lookup": "charges.get", "from": "charge", "read": "currency" } },
            "idempotency": { "header": "Idempotency-Key", "lifetime": "24h" },
        },
        "drafts.create": { "match": "POST /v1/drafts", "tier": "draft", "fields": ["charge"] },
        "charges.get": { "match": "GET /v1/charges/{charge}", "reads": ["id", "amount"] },
    });
    let routes = serde_json::from_value(routes).unwrap();
    Arc::new(Connection::new("stripe", "https://api.stripe.com".parse().unwrap(), routes).unwrap())
}

fn caller(agent: &str) -> Caller {
    let spec = AgentSpec {
        team: "support".into(),
        tenant: "acme".into(),
        users: ["ana".to_owned()].into(),
    };
    let agents = ["bot", "eve"].map(|agent| (agent.to_owned(), spec.clone()));
    Directory::new(agents.into())
        .unwrap()
        .caller(agent, Some("ana"))
        .unwrap()
}

fn tool() -> ToolIdentity {
    ToolIdentity::new("refunds", Digest::of(b"component"))
}

fn function(id: &str, declared: &str) -> Function {
    Function {
        id: id.to_owned(),
        export: ExportPath {
            interface: None,
            function: id.to_owned(),
        },
        docs: None,
        declared: FunctionScope::parse(declared).unwrap(),
        undo: None,
        params: Vec::new(),
        input_schema: Json::Null,
        output_schema: Json::Null,
        error_schema: None,
    }
}

fn decision(agent: &str, tool: &ToolIdentity, function: &str) -> Arc<Decision> {
    let policy =
        r#"@id("calls") permit (principal == Agent::"bot", action == Action::"call", resource in Tool::"refunds");"#;
    let policy = PolicySet::load(&[("p.cedar".to_owned(), policy.to_owned())], &BTreeMap::new()).unwrap();
    let caller = caller(agent);
    let facts = CallFacts {
        caller: &caller,
        run: None,
        mode: Mode::Execute,
        tool: &tool.name,
        tool_digest: tool.digest,
        function,
    };
    policy.decide_call(&facts)
}

fn imports() -> Vec<BoundImport> {
    let scope = || Scope::parse(CapabilityKind::Http, SCOPE).unwrap();
    vec![
        BoundImport {
            label: "stripe".to_owned(),
            index: STRIPE,
            scope: scope(),
            connection: Some(connection()),
        },
        BoundImport {
            label: "announce".to_owned(),
            index: UNBOUND,
            scope: scope(),
            connection: None,
        },
    ]
}

fn grant(declared: &str, narrowing: Narrowing) -> Grant {
    let function = function("refunds.create", declared);
    let decision = decision("bot", &tool(), &function.id);
    Grant::mint(
        &decision,
        caller("bot"),
        tool(),
        &function,
        imports(),
        narrowing,
        Limits::default(),
    )
    .unwrap()
}

fn post(path: &str, fields: &[(&str, &str)]) -> GuestRequest {
    let fields = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    GuestRequest {
        body: GuestBody::Form(fields.collect()),
        ..get(path)
    }
    .with(Method::Post)
}

fn get(path: &str) -> GuestRequest {
    GuestRequest {
        method: Method::Get,
        path: path.to_owned(),
        query: Vec::new(),
        headers: Vec::new(),
        body: GuestBody::None,
    }
}

impl GuestRequest {
    fn with(self, method: Method) -> GuestRequest {
        GuestRequest { method, ..self }
    }
}

fn refund() -> GuestRequest {
    post("/v1/refunds", &[("charge", "ch_1"), ("amount", "1000")])
}

#[track_caller]
fn check_refused(grant: &Grant, import: u32, guest: &GuestRequest, code: Code, message: &str) {
    let refusal = grant
        .admit(import, guest)
        .map(|admitted| admitted.route().name().to_owned())
        .unwrap_err();
    assert_eq!((refusal.code, refusal.message.as_str()), (code, message));
}

#[test]
fn what_is_declared_connected_and_kept_is_admitted() {
    let grant = grant("commit", Narrowing::default());
    let guest = GuestRequest {
        headers: vec![("Prefer".to_owned(), "x".to_owned())],
        ..refund()
    };
    let admitted = grant.admit(STRIPE, &guest).unwrap();
    assert_eq!(
        (admitted.connection().name(), admitted.route().name(), admitted.tier()),
        ("stripe", "refunds.create", Tier::Commit)
    );
    assert_eq!(admitted.request().path_and_query(), "/v1/refunds");
    assert_eq!(admitted.idempotency_header(), Some("idempotency-key"));
    // Of the answer: what scope and route both name.
    assert_eq!(admitted.reads(), &"id, status".parse().unwrap());
    assert_eq!(admitted.headers().iter().collect::<Vec<_>>(), ["prefer"]);
    let headers = [("content-type", "application/json"), ("prefer", "y"), ("x-trace", "z")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let answer = admitted.answer(
        200,
        &headers,
        br#"{"id": "re_1", "status": "ok", "amount": 5, "card": 4}"#,
    );
    assert_eq!(answer.body.as_deref(), Some(r#"{"id":"re_1","status":"ok"}"#));
    assert_eq!(
        answer.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["content-type", "prefer"]
    );

    let admitted = grant.admit(STRIPE, &get("/v1/charges/ch_1")).unwrap();
    assert_eq!(
        (admitted.tier(), admitted.captures().get("charge").map(String::as_str)),
        (Tier::Read, Some("ch_1"))
    );
}

#[test]
fn the_first_thing_that_fails_refuses() {
    let narrowing = Narrowing {
        max_tier: Some(Tier::Read),
        ..Narrowing::default()
    };
    let grant = grant("draft", narrowing);
    let payout = [("amount", "1")];
    let refund = [("charge", "ch_1"), ("amount", "1"), ("note", "x")];
    check_refused(
        &grant,
        UNBOUND,
        &get("//x"),
        Code::Binding,
        "the import `announce` is not bound to a connection",
    );
    check_refused(
        &grant,
        0,
        &get("//x"),
        Code::Binding,
        "the component's import 0 is no capability of this call",
    );
    let written = grant.admit(STRIPE, &post("//x", &refund)).unwrap_err();
    assert_eq!(written.code, Code::Path);
    check_refused(
        &grant,
        STRIPE,
        &post("/v1/x", &refund),
        Code::Scope,
        "the tool does not declare the path `/v1/x` at `https://api.stripe.com`",
    );
    check_refused(
        &grant,
        STRIPE,
        &post("/v1/payouts", &payout),
        Code::Route,
        "connection `stripe` has no route for POST /v1/payouts",
    );
    check_refused(
        &grant,
        STRIPE,
        &post("/v1/refunds", &refund),
        Code::Field,
        "route `stripe/refunds.create`: the field `note` may not be sent",
    );
    check_refused(
        &grant,
        STRIPE,
        &post("/v1/refunds", &refund[..2]),
        Code::Tier,
        "function `refunds.create` is declared `draft`, and route `stripe/refunds.create` is `commit`",
    );
    check_refused(
        &grant,
        STRIPE,
        &post("/v1/drafts", &refund[..1]),
        Code::Narrowing,
        "the caller gave up effects of tier `draft` for this call",
    );
    assert!(grant.admit(STRIPE, &get("/v1/charges/ch_1")).is_ok());
}

#[test]
fn an_effect_is_no_more_than_its_function_declares() {
    for (declared, most) in [
        ("read", Tier::Read),
        ("draft", Tier::Draft),
        ("commit", Tier::Commit),
        ("", Tier::Commit),
    ] {
        let grant = grant(declared, Narrowing::default());
        assert_eq!(grant.tier(), most);
        let charge = [("charge", "ch_1")];
        for (guest, tier) in [
            (get("/v1/charges/1"), Tier::Read),
            (post("/v1/drafts", &charge), Tier::Draft),
            (refund(), Tier::Commit),
        ] {
            let admitted = grant
                .admit(STRIPE, &guest)
                .map(|admitted| admitted.tier())
                .map_err(|refusal| refusal.code);
            assert_eq!(
                admitted,
                if tier <= most { Ok(tier) } else { Err(Code::Tier) },
                "{declared} {tier}"
            );
        }
    }
}

#[test]
fn what_the_caller_gave_up_is_refused() {
    let names = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
    let elsewhere = Narrowing {
        connections: names(&["slack"]),
        ..Narrowing::default()
    };
    check_refused(
        &grant("commit", elsewhere),
        STRIPE,
        &refund(),
        Code::Narrowing,
        "the caller gave up connection `stripe` for this call",
    );
    let here = Narrowing {
        connections: names(&["stripe"]),
        max_tier: Some(Tier::Commit),
        ..Narrowing::default()
    };
    assert!(grant("commit", here).admit(STRIPE, &refund()).is_ok());

    let scope = HttpScope::parse("POST,GET https://api.stripe.com/v1/refunds fields(charge) reads(id, card)").unwrap();
    let narrowed = || Narrowing {
        scopes: [("stripe".to_owned(), scope.clone())].into(),
        ..Narrowing::default()
    };
    let grant_of_one = grant("commit", narrowed());
    check_refused(
        &grant_of_one,
        STRIPE,
        &refund(),
        Code::Narrowing,
        "the caller gave up this request of import `stripe` for this call",
    );
    let admitted = grant_of_one
        .admit(STRIPE, &post("/v1/refunds", &[("charge", "ch_1")]))
        .unwrap();
    assert_eq!(
        (admitted.reads(), admitted.headers().is_empty()),
        (&"id".parse().unwrap(), true)
    );
}

#[test]
fn what_takes_an_effect_back_goes_by_its_route_alone() {
    let grant = grant("read", Narrowing::default());
    let inverse = |route: &str, words: GuestRequest| Inverse {
        route: route.to_owned(),
        words,
        wrote: None,
    };
    // The function only reads, and the scope says nothing of reading through this route by the host.
    let admitted = grant
        .admit_inverse("stripe", &inverse("refunds.create", refund()))
        .unwrap();
    assert_eq!(
        (admitted.route().name(), admitted.tier()),
        ("refunds.create", Tier::Commit)
    );
    let refused = |connection: &str, inverse| grant.admit_inverse(connection, &inverse).unwrap_err().code;
    assert_eq!(refused("stripe", inverse("refunds.get", refund())), Code::Undo);
    assert_eq!(refused("other", inverse("refunds.create", refund())), Code::Binding);
    assert_eq!(
        refused("stripe", inverse("refunds.create", post("/v1/none", &[]))),
        Code::Route
    );
}

#[test]
fn a_function_that_was_given_up_has_no_grant() {
    let mint = |functions: &[&str]| {
        let functions = Some(functions.iter().map(|&name| name.to_owned()).collect());
        let function = function("refunds.create", "commit");
        let decision = decision("bot", &tool(), &function.id);
        let narrowing = Narrowing {
            functions,
            ..Narrowing::default()
        };
        Grant::mint(
            &decision,
            caller("bot"),
            tool(),
            &function,
            imports(),
            narrowing,
            Limits::default(),
        )
        .map(|_| ())
        .map_err(|r| r.code)
    };
    assert_eq!(mint(&["refunds/refunds.create"]), Ok(()));
    assert_eq!(mint(&["refunds.create"]), Err(Code::Narrowing));
    assert_eq!(mint(&[]), Err(Code::Narrowing));
}

#[test]
fn trap_14_a_grant_is_minted_from_the_decision_on_this_call_only() {
    let mint = |decision: &Decision, agent: &str, tool: ToolIdentity, name: &str| {
        let function = function(name, "commit");
        Grant::mint(
            decision,
            caller(agent),
            tool,
            &function,
            imports(),
            Narrowing::default(),
            Limits::default(),
        )
        .map(|_| ())
        .map_err(|r| r.code)
    };
    let permit = decision("bot", &tool(), "refunds.create");
    assert_eq!(mint(&permit, "bot", tool(), "refunds.create"), Ok(()));
    assert_eq!(mint(&permit, "eve", tool(), "refunds.create"), Err(Code::Policy));
    assert_eq!(mint(&permit, "bot", tool(), "refunds.get"), Err(Code::Policy));
    assert_eq!(
        mint(
            &permit,
            "bot",
            ToolIdentity::new("payouts", tool().digest),
            "refunds.create"
        ),
        Err(Code::Policy)
    );
    assert_eq!(
        mint(
            &permit,
            "bot",
            ToolIdentity::new("refunds", Digest::of(b"other")),
            "refunds.create"
        ),
        Err(Code::Policy)
    );
    let denial = decision("eve", &tool(), "refunds.create");
    assert_eq!(mint(&denial, "eve", tool(), "refunds.create"), Err(Code::Policy));
}

#[test]
fn a_grant_that_makes_no_sense_is_not_minted() {
    let function = function("refunds.create", "commit");
    let permit = decision("bot", &tool(), &function.id);
    let mint = |imports: Vec<BoundImport>, limits: Limits| {
        Grant::mint(
            &permit,
            caller("bot"),
            tool(),
            &function,
            imports,
            Narrowing::default(),
            limits,
        )
        .map(|_| ())
        .map_err(|r| r.code)
    };
    assert_eq!(
        mint([imports(), imports()].concat(), Limits::default()),
        Err(Code::Internal)
    );
    assert_eq!(
        mint(
            imports(),
            Limits {
                request_body_bytes: LARGEST_BODY + 1,
                ..Limits::default()
            }
        ),
        Err(Code::Config)
    );
}

#[test]
fn the_call_s_limits_are_the_request_s() {
    let function = function("refunds.create", "commit");
    let permit = decision("bot", &tool(), &function.id);
    let limits = Limits {
        request_body_bytes: 10,
        response_body_bytes: 10,
        ..Limits::default()
    };
    let grant = Grant::mint(
        &permit,
        caller("bot"),
        tool(),
        &function,
        imports(),
        Narrowing::default(),
        limits,
    )
    .unwrap();
    assert!(grant.admit(STRIPE, &post("/v1/drafts", &[("charge", "c")])).is_ok());
    assert_eq!(grant.admit(STRIPE, &refund()).unwrap_err().code, Code::Body);
}

#[test]
fn a_grant_says_whose_it_is() {
    let grant = grant("commit", Narrowing::default());
    assert_eq!(
        (grant.label(STRIPE), grant.label(UNBOUND), grant.label(9)),
        (Some("stripe"), Some("announce"), None)
    );
    let used = grant.used("c_1", Some("r_1"), Some(("stripe", "refunds.create")));
    assert_eq!(
        (used.tenant, used.team, used.agent, used.user),
        ("acme", "support", "bot", Some("ana"))
    );
    assert_eq!(
        (used.tool, used.function, used.route),
        ("refunds", "refunds.create", Some(("stripe", "refunds.create")))
    );
}

#[test]
fn a_currency_is_looked_up_and_nothing_else_of_the_answer_is_seen() {
    let admitted = grant("commit", Narrowing::default()).admit(STRIPE, &refund()).unwrap();
    let lookup = admitted.currency_lookup().unwrap().unwrap();
    assert_eq!(
        (
            lookup.admitted().route().name(),
            lookup.admitted().request().path_and_query()
        ),
        ("charges.get", "/v1/charges/ch_1")
    );
    let answered = |status, body: Json| {
        let json = [("content-type".to_owned(), "application/json".to_owned())];
        lookup.admitted().answer(status, &json, body.to_canonical().as_bytes())
    };
    let charge = || {
        Json::from(Object::from([
            ("currency", Json::from("usd")),
            ("id", Json::from("ch_1")),
        ]))
    };
    let answer = answered(200, charge());
    assert_eq!(answer.body.as_deref(), Some(r#"{"currency":"usd"}"#));
    assert_eq!(lookup.read(&answer), Ok("usd".to_owned()));
    assert_eq!(
        admitted.spend(Some("usd")),
        Ok(Spend::Known {
            currency: "usd".parse().unwrap(),
            minor: 1000
        })
    );

    let refused = |answer: &GuestResponse| lookup.read(answer).unwrap_err().code;
    assert_eq!(refused(&answered(404, charge())), Code::Money);
    assert_eq!(refused(&answered(200, Json::Null)), Code::Money);
    assert_eq!(
        refused(&GuestResponse {
            status: 200,
            headers: Vec::new(),
            body: None
        }),
        Code::Money
    );
    assert_eq!(admitted.spend(None).unwrap_err().code, Code::Money);
}

fn any_guest() -> impl Strategy<Value = GuestRequest> {
    let path = proptest::sample::select(&["/v1/refunds", "/v1/drafts", "/v1/charges/1", "/v1/payouts", "/v1/../x"][..]);
    let fields = proptest::sample::subsequence(vec![("charge", "ch_1"), ("amount", "7"), ("note", "x")], 0..=3);
    (proptest::bool::ANY, path, fields)
        .prop_map(|(read, path, fields)| if read { get(path) } else { post(path, &fields) })
}

fn any_narrowing() -> impl Strategy<Value = Narrowing> {
    let scopes = [
        SCOPE,
        "POST https://api.stripe.com/v1/** fields(charge, amount) reads(id)",
        "GET https://api.stripe.com/v1/charges/{id} reads(**); POST https://api.stripe.com/v1/refunds fields(**) reads(status)",
        "GET https://hooks.slack.com/** reads(**)",
    ];
    let scope = proptest::option::of(proptest::sample::select(scopes.to_vec()));
    let tier = proptest::option::of(proptest::sample::select(Tier::ALL.to_vec()));
    let connections = proptest::option::of(proptest::sample::subsequence(vec!["stripe", "slack"], 0..=2));
    (scope, tier, connections).prop_map(|(scope, max_tier, connections)| Narrowing {
        connections: connections.map(|names| names.into_iter().map(str::to_owned).collect()),
        functions: None,
        max_tier,
        scopes: scope
            .map(|scope| ("stripe".to_owned(), HttpScope::parse(scope).unwrap()))
            .into_iter()
            .collect(),
        money: Vec::new(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is admitted is declared and connected and within the function's tier; narrowing only takes away.
    #[test]
    fn trap_17_admitted_is_declared_and_connected_and_kept(guest in any_guest(), narrowing in any_narrowing(), tier in proptest::sample::select(Tier::ALL.to_vec())) {
        let narrow = grant(tier.as_str(), narrowing);
        let wide = grant(tier.as_str(), Narrowing::default());
        if let Ok(admitted) = narrow.admit(STRIPE, &guest) {
            let scope = HttpScope::parse(SCOPE).unwrap();
            let rule = &scope.rules()[scope.covers(admitted.request()).unwrap()];
            let connection = connection();
            let matched = connection.find(admitted.request()).unwrap();
            prop_assert!(matched.route.name() == admitted.route().name() && matched.tier == admitted.tier() && admitted.tier() <= tier);
            prop_assert!(admitted.reads().is_subset(rule.reads()) && admitted.reads().is_subset(matched.route.reads()));
            let before = wide.admit(STRIPE, &guest);
            prop_assert!(before.is_ok_and(|before| admitted.reads().is_subset(before.reads()) && before.request() == admitted.request()));
        }
    }
}
