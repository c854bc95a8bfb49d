#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod shown;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use ambit_core::digest::Digest;
use ambit_core::hold::{Verdict, Vote};
use ambit_core::identity::operator::Scope;
use ambit_core::ledger::body::{OperatorKey, OperatorShown, ShownBy};
use ambit_core::ledger::{Body, Checkpoint, Hash, SignerKey, merkle};
use ambit_core::policy::Mode;
use ambit_runtime::api_keys::Act;
use http::Method;
use serde_json::{Value, json};

use super::openapi;
use super::routes::{self, Gives};
use crate::http::tests::{Answer, Served, bearer};

const OPERATORS: &str = r#"
scopes = { "all" = ["refunds/*"] }
[server.operators]
audience = "https://ambit.example/v1/operators"
[server.operators.issuer.staff]
issuer = "{issuer}"
jwks = "{keys}"
allow_private = true
algorithms = ["ES256"]
operators = { u-7 = "ivy" }
"#;

/// A tool whose functions do nothing, but for one that computes for as long as it may.
const TOOL: &str = r#"(component
    (core module $m (func (export "nothing")) (func (export "spin") (loop $l (br $l))))
    (core instance $i (instantiate $m))
    (func $nothing (canon lift (core func $i "nothing")))
    (func $spin (canon lift (core func $i "spin")))
    (instance $x (export "create" (func $nothing)) (export "spin" (func $spin)))
    (export "acme:refunds/refunds" (instance $x)))"#;
const NOTHING: &str = r#"@id("nothing") forbid (principal, action, resource);"#;
const ALL: &str = r#"@id("all") permit (principal, action, resource);"#;
const LONG: &str = "[limits]\nfuel = 4000000000000000\nwall_ms = 20000\n";

/// A server whose operators are served too.
struct Scene(Served);

impl Scene {
    /// Its tool is there, and policy permits nothing.
    fn new() -> Scene {
        Scene::in_mode(Mode::Execute)
    }

    fn in_mode(mode: Mode) -> Scene {
        Scene(Served::with_tool(OPERATORS, ("refunds", TOOL), NOTHING, mode))
    }

    /// Policy permits everything, and calls may take long.
    fn permitted() -> Scene {
        let more = format!("{OPERATORS}{LONG}");
        Scene(Served::with_tool(&more, ("refunds", TOOL), ALL, Mode::Execute))
    }

    fn ask(&self, word: &str, method: &str, target: &str, more: &str, body: &str) -> Answer {
        let (host, length) = (self.0.address, body.len());
        let kind = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/json\r\n"
        };
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{kind}Content-Length: {length}\r\n{}{more}\r\n",
            bearer(word)
        );
        let answer = self.0.raw(format!("{head}{body}").as_bytes());
        described(method, target, &answer);
        answer
    }

    fn get(&self, word: &str, target: &str) -> Answer {
        self.ask(word, "GET", target, "", "")
    }

    fn post(&self, word: &str, target: &str, body: &Value) -> Answer {
        self.ask(word, "POST", target, "", &body.to_string())
    }

    fn agent(&self) -> String {
        self.0.place.key(|_| {}).0
    }

    fn operator(&self, scopes: &[Scope]) -> String {
        self.operator_with_id(scopes).0
    }

    fn operator_with_id(&self, scopes: &[Scope]) -> (String, String) {
        self.0.place.key(|asked| {
            asked.agent = String::new();
            asked.operator = Some(OperatorKey {
                name: "ivy".into(),
                scopes: scopes.iter().copied().collect(),
            });
        })
    }

    fn size(&self) -> u64 {
        self.0.place.host.reader().unwrap().size().unwrap()
    }

    fn all(&self) -> String {
        self.operator(&Scope::ALL)
    }

    fn staff(&self, scope: &str) -> String {
        let changes = json!({ "aud": "https://ambit.example/v1/operators", "sub": "u-7", "scope": scope });
        self.0.place.token(changes)
    }

    /// The last entry of the ledger.
    fn last(&self) -> Body {
        let reader = self.0.place.host.reader().unwrap();
        reader.entry(reader.size().unwrap() - 1).unwrap().body().clone()
    }

    fn ends(self) {
        self.0.ends();
    }
}

/// What is answered is what the description says of it.
fn described(method: &str, target: &str, answer: &Answer) {
    let path = target.split('?').next().unwrap();
    let method: Method = method.parse().unwrap();
    if answer.status >= 400 {
        assert!(answer.is_problem(), "{target}: {}", answer.text);
        return;
    }
    let Ok((route, _)) = routes::find(&method, path) else {
        return;
    };
    let (Gives::Json(schema) | Gives::Tagged(schema)) = route.gives else {
        return;
    };
    if method == Method::HEAD || answer.status == 304 {
        return;
    }
    let whole =
        json!({ "$ref": format!("#/components/schemas/{schema}"), "components": openapi::document()["components"] });
    let validator = jsonschema::validator_for(&whole).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&answer.json())
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{target} ({schema}): {errors:?}\n{}", answer.text);
}

fn tag(answer: &Answer) -> String {
    let line = answer.head.lines().find_map(|line| line.strip_prefix("etag: "));
    line.unwrap_or_else(|| panic!("no tag: {}", answer.head)).to_owned()
}

const TOOLS: &str = "/v1/tools";
const STOPS: &str = "/v1/operators/stops";

fn call(tool: &str) -> Value {
    json!({ "tool": tool, "function": "create", "arguments": { "amount": 1 } })
}

/// Each credential at each part, also at MCP.
#[test]
fn what_is_good_for_one_part_is_good_for_no_other() {
    let scene = Scene::new();
    let (agent, operator) = (scene.agent(), scene.all());
    let token = scene.0.place.token(json!({ "scope": "all" }));
    let staff = scene.staff("ambit:read ambit:operate ambit:approve ambit:values");
    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" }).to_string();
    let mcp = |word: &str| {
        let more = "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n";
        scene.ask(word, "POST", "/mcp", more, &list).status
    };
    for word in [&agent, &token] {
        assert_eq!(scene.get(word, TOOLS).status, 200);
        assert_eq!(mcp(word), 200);
        for target in [
            STOPS,
            "/v1/operators/approvals",
            "/v1/operators/budgets",
            "/v1/operators/search",
            "/v1/operators/ledger/checkpoint",
        ] {
            let answer = scene.get(word, target);
            assert_eq!(answer.status, 401, "{target}");
            assert!(answer.head.contains("error=\"invalid_token\""), "{}", answer.head);
        }
        assert_eq!(
            scene
                .post(
                    word,
                    STOPS,
                    &json!({ "kind": "kill", "scope": "everything", "reason": "x" })
                )
                .status,
            401
        );
    }
    for word in [&operator, &staff] {
        assert_eq!(scene.get(word, STOPS).status, 200);
        assert_eq!(mcp(word), 401);
        for target in [TOOLS, "/v1/holds", "/v1/runs"] {
            assert_eq!(scene.get(word, target).status, 401, "{target}");
        }
        assert_eq!(scene.post(word, "/v1/calls", &call("refunds")).status, 401);
    }
    // Of an audience of both, or of another, or without one of its scopes.
    let both = json!({ "aud": ["https://ambit.example/v1/operators", crate::identity::tests::RESOURCE], "sub": "u-7", "scope": "ambit:read" });
    assert_eq!(scene.get(&scene.0.place.token(both), STOPS).status, 401);
    assert_eq!(scene.get(&scene.staff("openid"), STOPS).status, 403);
    for none in ["", "Authorization: Basic YTpi\r\n"] {
        let host = scene.0.address;
        for target in [TOOLS, STOPS] {
            let answer = scene
                .0
                .raw(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{none}\r\n").as_bytes());
            assert!([400, 401].contains(&answer.status), "{target}");
        }
    }
    scene.ends();
}

#[test]
fn operators_are_not_served_unless_it_is_said() {
    let scene = Scene(Served::with("scopes = { \"all\" = [\"refunds/*\"] }"));
    let agent = scene.agent();
    assert_eq!(scene.get(&agent, STOPS).status, 404);
    assert_eq!(scene.get("", STOPS).status, 404);
    assert_eq!(scene.get(&agent, TOOLS).status, 200);
    scene.ends();
}

#[test]
fn where_operators_tokens_come_from_is_said_of_a_url_of_this_server() {
    const AT: &str = "/.well-known/oauth-protected-resource/v1/operators";
    let of = |audience: &str| {
        let more = OPERATORS.replace("https://ambit.example/v1/operators", audience);
        Scene(Served::with(&format!("{more}required_scopes = [\"staff\"]\n")))
    };
    let get = |scene: &Scene, target: &str| {
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            scene.0.address
        );
        scene.0.raw(head.as_bytes())
    };
    let scene = of("https://ambit.example/v1/operators");
    let metadata = get(&scene, AT);
    assert_eq!(metadata.status, 200, "{}", metadata.text);
    let agents = get(&scene, "/.well-known/oauth-protected-resource").json();
    assert_eq!(
        metadata.json(),
        json!({
            "resource": "https://ambit.example/v1/operators",
            "authorization_servers": agents["authorization_servers"],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["ambit:approve", "ambit:operate", "ambit:read", "ambit:values", "staff"],
            "resource_name": "Ambit for operators",
        })
    );
    assert_eq!(agents["resource"], crate::identity::tests::RESOURCE);
    assert_eq!(get(&scene, "/.well-known/oauth-protected-resource/mcp").json(), agents);
    let named = format!("www-authenticate: bearer resource_metadata=\"https://ambit.example{AT}\", ");
    let none = get(&scene, STOPS);
    assert_eq!(none.status, 401);
    assert!(
        none.head.contains(&format!("{named}scope=\"ambit:read staff\"")),
        "{}",
        none.head
    );
    let wrong = scene.get("x", STOPS);
    assert!(
        wrong.head.contains(&format!("{named}error=\"invalid_token\"")),
        "{}",
        wrong.head
    );
    // What its issuer asks for, and what this takes.
    let few = scene.get(&scene.staff("ambit:read"), STOPS);
    assert_eq!(few.status, 403);
    assert!(few.head.contains("scope=\"ambit:read staff\""), "{}", few.head);
    let lacking = scene.ask(&scene.staff("staff ambit:read"), "POST", STOPS, "", "{}");
    assert!(
        lacking.head.contains(&format!("{named}error=\"insufficient_scope\""))
            && lacking.head.contains("scope=\"ambit:operate\""),
        "{}",
        lacking.head
    );
    scene.ends();
    for (audience, at) in [
        ("operators", AT),
        ("urn:ambit:operators", AT),
        ("https://other.example/v1/operators", AT),
        ("http://ambit.example/v1/operators", AT),
        ("https://ambit.example/v1/operators?a=b", AT),
        // Their places are those of agents' resource, with its path and without.
        ("https://ambit.example", AT),
        ("https://ambit.example/", AT),
        ("https://ambit.example/mcp/", "/.well-known/oauth-protected-resource/v1"),
    ] {
        let scene = of(audience);
        assert_eq!(get(&scene, at).status, 404, "{audience}");
        let root = get(&scene, "/.well-known/oauth-protected-resource").json();
        assert_eq!(root["resource"], crate::identity::tests::RESOURCE, "{audience}");
        let none = get(&scene, STOPS);
        assert!(
            none.status == 401
                && none.head.contains("www-authenticate: bearer realm=\"ambit\"")
                && !none.head.contains("resource_metadata"),
            "{audience}: {}",
            none.head
        );
        scene.ends();
    }
}

#[test]
fn each_route_of_operators_is_for_no_agent_and_for_nobody_without_its_scope() {
    let (served, unserved) = (
        Scene::new(),
        Scene(Served::with("scopes = { \"all\" = [\"refunds/*\"] }")),
    );
    let agents = [served.agent(), served.0.place.token(json!({ "scope": "all" }))];
    let nowhere = unserved.agent();
    let of_operators = routes::ROUTES
        .iter()
        .filter(|route| route.path.starts_with("/v1/operators/"));
    let mut seen = Vec::new();
    for route in of_operators {
        let routes::Act::Operators(scope, _) = route.act else {
            panic!("{} is not for operators", route.path)
        };
        let others: Vec<Scope> = Scope::ALL.into_iter().filter(|other| *other != scope).collect();
        let target = route.path.replace("{*", "").replace(['{', '}'], "");
        let body = if route.takes.is_some() { "{}" } else { "" };
        let status = |scene: &Scene, word: &str| scene.ask(word, route.verb.as_str(), &target, "", body).status;
        for agent in &agents {
            assert_eq!(status(&served, agent), 401, "{target}");
        }
        assert_eq!(status(&served, &served.operator(&others)), 403, "{target}");
        assert_eq!(status(&unserved, &nowhere), 404, "{target}");
        seen.push(route.path);
    }
    assert!(seen.contains(&"/v1/operators/budgets"), "{seen:?}");
    served.ends();
    unserved.ends();
}

#[test]
fn an_operator_does_what_the_scopes_are_for_and_nothing_else() {
    let scene = Scene::new();
    let (read, operate, approve) = (
        scene.operator(&[Scope::Read]),
        scene.operator(&[Scope::Operate]),
        scene.operator(&[Scope::Approve]),
    );
    let stop = json!({ "kind": "safe-mode", "scope": "agent:assistant", "reason": "it errs" });
    let refused = scene.post(&read, STOPS, &stop);
    assert_eq!(refused.status, 403);
    assert!(
        refused.head.contains("error=\"insufficient_scope\"") && refused.head.contains("scope=\"ambit:operate\""),
        "{}",
        refused.head
    );
    assert_eq!(scene.post(&approve, STOPS, &stop).status, 403);
    assert_eq!(scene.get(&operate, STOPS).status, 403);
    let hold = format!("/v1/operators/approvals/{}/votes", "a".repeat(64));
    assert_eq!(scene.post(&operate, &hold, &json!({ "note": "x" })).status, 403);
    assert_eq!(scene.post(&approve, &hold, &json!({ "note": "x" })).status, 400);
    // Values are asked for apart.
    assert_eq!(
        scene.get(&read, "/v1/operators/search?text=amount&values=true").status,
        403
    );
    assert_eq!(scene.get(&read, "/v1/operators/search?text=amount").status, 200);
    assert_eq!(
        scene
            .get(&scene.all(), "/v1/operators/search?text=amount&values=true")
            .status,
        200
    );
    scene.ends();
}

#[test]
fn a_vote_is_for_the_hold_of_its_path() {
    let scene = Scene::new();
    let approve = scene.operator(&[Scope::Approve]);
    let vote = Vote {
        person: "rita".into(),
        hold: Digest::of(b"hold"),
        verdict: Verdict::Approve,
        group: "reviewer".into(),
        expires_ms: 4_000_000_000_000,
        in_stead_of: None,
    };
    let note = vote.sign(&SignerKey::from_seed("rita", &[7; 32]).unwrap()).unwrap();
    let votes = |hold: &str| {
        let target = format!("/v1/operators/approvals/{hold}/votes");
        scene.post(&approve, &target, &json!({ "note": note, "reason": "fine" }))
    };
    let other = votes(&Digest::of(b"other").to_hex());
    assert_eq!(other.status, 400);
    assert!(other.text.contains("another hold"), "{}", other.text);
    // Nothing of it waits: it does not count, and as anybody can make up such votes the ledger does not say so.
    let before = scene.size();
    let none = votes(&Digest::of(b"hold").to_hex());
    assert_eq!(
        (none.status, &none.json()["code"]),
        (409, &json!("approval")),
        "{}",
        none.text
    );
    assert_eq!(scene.size(), before);
    // Nobody signed the reason: it is bounded as those of stops are.
    let target = format!("/v1/operators/approvals/{}/votes", Digest::of(b"hold").to_hex());
    for reason in [String::new(), "x".repeat(4_097)] {
        let refused = scene.post(&approve, &target, &json!({ "note": note, "reason": reason }));
        assert_eq!(refused.status, 400);
        assert!(
            refused.text.contains("a reason has 1 to 4096 bytes"),
            "{}",
            refused.text
        );
    }
    scene.ends();
}

#[test]
fn a_call_is_in_no_wider_mode() {
    let scene = Scene::in_mode(Mode::Suggest);
    let agent = scene.agent();
    let in_mode = |mode: &str| {
        let body = json!({ "tool": "refunds", "function": "create", "mode": mode });
        scene.post(&agent, "/v1/calls", &body).status
    };
    assert_eq!(["suggest", "dry-run", "execute"].map(in_mode), [200, 200, 400]);
    scene.ends();
}

#[test]
fn a_token_of_a_run_is_good_in_that_run_alone() {
    let scene = Scene::new();
    let [run, other] = [0, 1].map(|_| scene.0.place.run("assistant", None));
    let (word, agent) = (scene.0.place.run_token(&run), scene.agent());
    let made = scene.post(&word, "/v1/calls", &call("refunds"));
    assert_eq!(made.status, 200, "{}", made.text);
    let Body::CallDenied(denied) = scene.last() else {
        panic!("no call")
    };
    // There is no such tool: it is refused in the run, in the run's mode, and with what was shown.
    assert_eq!(
        (denied.run.as_deref(), denied.mode),
        (Some(run.id()), Some(Mode::Suggest))
    );
    assert!(matches!(denied.by, Some(ShownBy::RunToken(_))), "{denied:?}");
    let named = |run: &str| json!({ "tool": "refunds", "function": "create", "run": run });
    assert_eq!(scene.post(&word, "/v1/calls", &named(run.id())).status, 200);
    let elsewhere = scene.post(&word, "/v1/calls", &named(other.id()));
    assert_eq!(elsewhere.status, 400, "{}", elsewhere.text);
    assert!(matches!(scene.last(), Body::CallDenied(denied) if denied.run.as_deref() == Some(run.id())));
    // In that run's mode, or a stricter one.
    let executes = json!({ "tool": "refunds", "function": "create", "mode": "execute" });
    assert_eq!(scene.post(&word, "/v1/calls", &executes).status, 400);
    // And it is shown nothing of others.
    let runs = scene.get(&word, "/v1/runs").json();
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "{runs}");
    assert_eq!(scene.get(&word, &format!("/v1/runs/{}", run.id())).status, 200);
    assert_eq!(scene.get(&word, &format!("/v1/runs/{}", other.id())).status, 404);
    assert_eq!(
        scene.get(&agent, "/v1/runs").json()["runs"].as_array().map(Vec::len),
        Some(2)
    );
    let own = made.json()["call"].as_str().unwrap().to_owned();
    let outside = scene.post(&agent, "/v1/calls", &call("refunds")).json();
    let outside = outside["call"].as_str().unwrap();
    let status = |word: &str, call: &str| scene.get(word, &format!("/v1/calls/{call}")).status;
    assert_eq!(
        [status(&word, &own), status(&word, outside), status(&agent, &own)],
        [200, 404, 200]
    );
    for target in [STOPS, "/v1/operators/runs"] {
        assert_eq!(scene.get(&word, target).status, 401, "{target}");
    }
    scene.0.place.host.end_run(run.id()).unwrap();
    let ended = scene.post(&word, "/v1/calls", &call("refunds"));
    assert_eq!(ended.status, 401);
    assert!(
        ended.head.contains("www-authenticate: bearer") && ended.head.contains("invalid_token"),
        "{}",
        ended.head
    );
    scene.ends();
}

#[test]
fn what_an_operator_does_is_on_the_ledger_with_who_it_was() {
    let scene = Scene::new();
    let staff = scene.staff("ambit:read ambit:operate");
    let is_ivy = |by: &Option<OperatorShown>| {
        let by = by.as_ref().unwrap();
        assert_eq!(by.name, "ivy");
        assert!(
            matches!(&by.shown, ShownBy::Token(token) if token.issuer == "staff"),
            "{by:?}"
        );
    };
    let stop = json!({ "kind": "kill", "scope": "agent:assistant", "reason": "it errs" });
    let stopped = scene.post(&staff, STOPS, &stop);
    assert_eq!(
        (stopped.status, &stopped.json()["already"]),
        (200, &json!(false)),
        "{}",
        stopped.text
    );
    let Body::StopSet(set) = scene.last() else {
        panic!("no stop")
    };
    is_ivy(&set.by);
    assert_eq!(scene.post(&staff, STOPS, &stop).json()["already"], true);
    let listed = scene.get(&staff, STOPS).json();
    assert_eq!(
        (&listed["stops"][0]["reason"], &listed["stops"][0]["scope"]),
        (&json!("it errs"), &json!("agent:assistant"))
    );
    assert_eq!(
        scene
            .post(&staff, STOPS, &json!({ "kind": "kill", "scope": "everything" }))
            .status,
        400
    );
    assert_eq!(
        scene
            .post(&staff, STOPS, &json!({ "kind": "kill", "scope": "all", "reason": "x" }))
            .status,
        400
    );
    let lift = json!({ "kind": "kill", "scope": "agent:assistant", "reason": "mended" });
    assert_eq!(scene.post(&staff, "/v1/operators/stops/lift", &lift).status, 200);
    let Body::StopLifted(lifted) = scene.last() else {
        panic!("not lifted")
    };
    is_ivy(&lifted.by);
    assert_eq!(scene.post(&staff, "/v1/operators/stops/lift", &lift).status, 400);
    let run = json!({ "agent": "assistant", "mode": "suggest", "length_ms": 60_000, "caps": [] });
    let started = scene.post(&staff, "/v1/operators/runs", &run);
    assert_eq!(started.status, 201, "{}", started.text);
    let Body::RunStarted(begun) = scene.last() else {
        panic!("no run")
    };
    is_ivy(&begun.by);
    let id = started.json()["run"].as_str().unwrap().to_owned();
    // Its agent sees it, and no other does.
    let (agent, spy) = (scene.agent(), scene.0.place.key(|asked| asked.agent = "spy".into()).0);
    assert_eq!(scene.get(&agent, &format!("/v1/runs/{id}")).json()["standing"], "open");
    assert_eq!(scene.get(&agent, "/v1/runs").json()["runs"][0]["run"], json!(id));
    assert_eq!(scene.get(&spy, &format!("/v1/runs/{id}")).status, 404);
    assert_eq!(scene.get(&spy, "/v1/runs").json()["runs"], json!([]));
    let ended = scene.ask(&staff, "POST", &format!("/v1/operators/runs/{id}/end"), "", "");
    assert_eq!((ended.status, &ended.json()["standing"]), (200, &json!("ended")));
    let Body::RunEnded(over) = scene.last() else {
        panic!("no end")
    };
    is_ivy(&over.by);
    assert_eq!(
        scene
            .ask(&staff, "POST", &format!("/v1/operators/runs/{id}/end"), "", "")
            .status,
        409
    );
    assert_eq!(
        scene.get(&staff, "/v1/operators/runs?limit=1").json()["runs"][0]["run"],
        json!(id)
    );
    assert_eq!(scene.get(&staff, "/v1/operators/budgets").status, 200);
    assert_eq!(
        scene.get(&staff, "/v1/operators/approvals").json()["approvals"],
        json!([])
    );
    scene.ends();
}

#[test]
fn a_call_is_made_once_for_a_word_of_its_caller() {
    let scene = Scene::new();
    let (agent, spy) = (scene.agent(), scene.0.place.key(|asked| asked.agent = "spy".into()).0);
    let post = |word: &str, key: &str, body: &Value| {
        let more = if key.is_empty() {
            String::new()
        } else {
            format!("Idempotency-Key: {key}\r\n")
        };
        scene.ask(word, "POST", "/v1/calls?wait=20", &more, &body.to_string())
    };
    let id = |answer: &Answer| answer.json()["call"].as_str().unwrap().to_owned();
    let first = post(&agent, "k-1", &call("refunds"));
    assert_eq!(
        (first.status, &first.json()["status"], &first.json()["code"]),
        (200, &json!("refused"), &json!("policy")),
        "{}",
        first.text
    );
    assert!(
        first.head.contains(&format!("location: /v1/calls/{}", id(&first))),
        "{}",
        first.head
    );
    assert!(
        first.head.contains("traceparent: 00-") && !first.head.contains("idempotency-replayed"),
        "{}",
        first.head
    );
    let again = post(&agent, "k-1", &call("refunds"));
    assert_eq!((again.status, id(&again)), (200, id(&first)));
    assert!(again.head.contains("idempotency-replayed: true"), "{}", again.head);
    // Members in another order are the same request; another amount is another.
    let body = r#"{"arguments":{"amount":1},"function":"create","tool":"refunds"}"#;
    let same = scene.ask(&agent, "POST", "/v1/calls", "Idempotency-Key: k-1\r\n", body);
    assert_eq!(id(&same), id(&first));
    let other = json!({ "tool": "refunds", "function": "create", "arguments": { "amount": 2 } });
    assert_eq!(post(&agent, "k-1", &other).status, 422);
    // Nobody's word is another's, and without one each is a call of its own.
    assert_ne!(id(&post(&spy, "k-1", &call("refunds"))), id(&first));
    assert_ne!(
        id(&post(&agent, "", &call("refunds"))),
        id(&post(&agent, "", &call("refunds")))
    );
    assert_eq!(post(&agent, "a b", &call("refunds")).status, 400);
    // Where it would keep nothing from being done twice it is not taken.
    let word = "Idempotency-Key: k-2\r\n";
    let stop = json!({ "kind": "kill", "scope": "everything", "reason": "x" }).to_string();
    let before = scene.size();
    let stopped = scene.ask(&scene.all(), "POST", STOPS, word, &stop);
    assert_eq!(stopped.status, 400);
    assert!(
        stopped
            .text
            .contains("Idempotency-Key is kept for POST /v1/calls and POST /v1/operators/runs alone"),
        "{}",
        stopped.text
    );
    assert_eq!(scene.ask(&agent, "GET", TOOLS, word, "").status, 400);
    // The operator's key is all that is new.
    assert_eq!(scene.size(), before + 1);
    // The word is in no entry.
    let reader = scene.0.place.host.reader().unwrap();
    for entry in reader.entries(0, 1_000).unwrap() {
        assert!(!entry.text().contains("k-1"), "{}", entry.text());
    }
    scene.ends();
}

/// Who may call nothing of a tool learns nothing of it from the answer either.
#[test]
fn what_is_no_function_is_nothing_and_nobody_is_told_what_comes_near() {
    let scene = Scene::new();
    let agent = scene.agent();
    let before = scene.size();
    for (tool, function) in [
        ("refund", "create"),
        ("refunds", "creat"),
        ("", ""),
        ("refunds", "refunds.create2"),
        ("\u{202e}x", "y"),
    ] {
        let body = json!({ "tool": tool, "function": function, "arguments": {} });
        let answer = scene.ask(&agent, "POST", "/v1/calls", "Idempotency-Key: n\r\n", &body.to_string());
        assert_eq!(answer.status, 404, "{tool}/{function}: {}", answer.text);
        for told in ["did you mean", "refunds.create`", "spin", "advice"] {
            assert!(!answer.text.contains(told), "{tool}/{function}: {}", answer.text);
        }
    }
    assert_eq!(scene.size(), before, "nothing was asked of anything");
    // What is there is refused by policy, on the ledger, also by its last part.
    for function in ["create", "refunds.create"] {
        let body = json!({ "tool": "refunds", "function": function });
        let refused = scene.post(&agent, "/v1/calls", &body);
        assert_eq!(
            (refused.status, &refused.json()["rule"]),
            (200, &json!("nothing")),
            "{}",
            refused.text
        );
    }
    assert_eq!(scene.size(), before + 2);
    scene.ends();
}

#[test]
fn a_call_is_taken_back_by_whom_it_was_begun_by() {
    let scene = Scene::permitted();
    let (own, same, spy) = (
        scene.agent(),
        scene.agent(),
        scene.0.place.key(|asked| asked.agent = "spy".into()).0,
    );
    let began = scene.post(
        &own,
        "/v1/calls?wait=0",
        &json!({ "tool": "refunds", "function": "spin" }),
    );
    assert_eq!(
        (began.status, &began.json()["status"]),
        (202, &json!("running")),
        "{}",
        began.text
    );
    let place = format!("/v1/calls/{}", began.json()["call"].as_str().unwrap());
    let cancel = |word: &str| scene.ask(word, "POST", &format!("{place}/cancel"), "", "").status;
    assert_eq!(cancel(&spy), 404);
    assert_eq!(cancel(&same), 409);
    assert_eq!(scene.get(&own, &place).json()["status"], "running");
    assert_eq!(cancel(&own), 202);
    let began = Instant::now();
    while scene.get(&own, &place).json()["status"] == "running" {
        assert!(began.elapsed() < Duration::from_secs(10), "it goes on");
    }
    assert_eq!(scene.get(&own, &place).json()["code"], "cancelled");
    assert_eq!(cancel(&own), 409);
    scene.ends();
}

#[test]
fn operators_are_heard_while_all_threads_of_agents_are_taken() {
    let (served, ends) = Served::without_threads(OPERATORS);
    let scene = Scene(served);
    let operator = scene.all();
    let stop = json!({ "kind": "kill", "scope": "everything", "reason": "they have taken all threads" });
    let stopped = scene.post(&operator, STOPS, &stop);
    assert_eq!(stopped.status, 200, "{}", stopped.text);
    assert!(matches!(scene.last(), Body::StopSet(_)));
    assert_eq!(scene.get(&operator, STOPS).status, 200);
    drop(ends);
    scene.ends();
}

#[test]
fn an_operator_s_key_that_is_revoked_while_a_body_is_read_does_nothing_more() {
    let scene = Scene::new();
    let (word, id) = scene.operator_with_id(&[Scope::Operate]);
    let body = json!({ "kind": "safe-mode", "scope": "agent:assistant", "reason": "it errs" }).to_string();
    let mut client = scene.0.client();
    let head = format!(
        "POST {STOPS} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{}\r\n",
        scene.0.address,
        body.len(),
        bearer(&word)
    );
    client.write_all(head.as_bytes()).unwrap();
    // It goes on once the operator is known and the body is read.
    let mut goes_on = [0; 25];
    client.read_exact(&mut goes_on).unwrap();
    assert_eq!(&goes_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    scene.0.place.operator(Act::Revoke(id));
    client.write_all(body.as_bytes()).unwrap();
    let answer = Served::answer(&mut client);
    assert!(answer.status == 401 && answer.is_problem(), "{}", answer.text);
    assert!(answer.head.contains("error=\"invalid_token\""), "{}", answer.head);
    assert!(matches!(scene.last(), Body::KeyRevoked(_)), "{:?}", scene.last());
    assert_eq!(scene.get(&scene.all(), STOPS).json()["stops"], json!([]));
    scene.ends();
}

#[test]
fn calls_are_listed_a_page_at_a_time_and_their_values_as_far_as_there_is_room() {
    let scene = Scene::new();
    let (agent, all) = (scene.agent(), scene.all());
    let made: Vec<String> = (0..3)
        .map(|length| {
            let body =
                json!({ "tool": "refunds", "function": "create", "arguments": { "note": "x".repeat(2_500 * length) } });
            let made = scene.post(&agent, "/v1/calls", &body).json();
            made["call"].as_str().unwrap().to_owned()
        })
        .collect();
    let (mut seen, mut before) = (Vec::new(), String::new());
    loop {
        let page = scene.get(&all, &format!("/v1/operators/calls?limit=1{before}")).json();
        let rows = page["calls"].as_array().unwrap();
        seen.extend(rows.iter().map(|row| row["call"].as_str().unwrap().to_owned()));
        match page["next"].as_u64() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    seen.reverse();
    assert_eq!(seen, made);
    // In tests 4 KiB are shown.
    let shown = |call: &str| scene.get(&all, &format!("/v1/operators/calls/{call}")).json();
    assert!(shown(&made[1]).get("truncated").is_none());
    let large = shown(&made[2]);
    assert_eq!(large["truncated"], true);
    assert!(large["values"].get("args").is_none(), "{large:#}");
    scene.ends();
}

#[test]
fn another_s_call_is_not_there() {
    let scene = Scene::new();
    let (agent, spy) = (scene.agent(), scene.0.place.key(|asked| asked.agent = "spy".into()).0);
    let made = scene.post(&agent, "/v1/calls", &call("refunds"));
    let id = made.json()["call"].as_str().unwrap().to_owned();
    let nobody = format!("c_{}", "a".repeat(26));
    for end in ["", "/result", "/receipt"] {
        assert_eq!(scene.get(&agent, &format!("/v1/calls/{id}{end}")).status, 200, "{end}");
        for (word, id) in [(&spy, &id), (&agent, &nobody), (&spy, &nobody)] {
            let answer = scene.get(word, &format!("/v1/calls/{id}{end}"));
            assert_eq!(answer.status, 404, "{end}: {}", answer.text);
        }
    }
    let cancel = format!("/v1/calls/{id}/cancel");
    assert_eq!(scene.ask(&spy, "POST", &cancel, "", "").status, 404);
    assert_eq!(scene.ask(&agent, "POST", &cancel, "", "").status, 409);
    for target in [
        "/v1/calls/x",
        "/v1/calls/..",
        "/v1/calls/c_%61",
        "/v1/tools/refunds",
        "/v1/runs/r_x",
    ] {
        assert_eq!(scene.get(&agent, target).status, 404, "{target}");
    }
    assert_eq!(
        scene.get(&agent, "/v1/holds").json(),
        json!({ "holds": [], "next": null })
    );
    // An operator sees it, and its values with the scope for them.
    let (read, all) = (scene.operator(&[Scope::Read]), scene.all());
    let target = format!("/v1/operators/calls/{id}");
    let shown = scene.get(&read, &target).json();
    assert_eq!((&shown["outcome"], shown.get("values")), (&json!("denied"), None));
    assert_eq!(scene.get(&all, &target).json()["values"]["args"], "{\"amount\":1}");
    assert_eq!(scene.get(&read, &format!("{target}/receipt")).status, 200);
    assert_eq!(scene.get(&read, &format!("/v1/operators/calls/{nobody}")).status, 404);
    assert_eq!(
        scene.get(&read, "/v1/operators/calls?agent=assistant").json()["calls"][0]["call"],
        json!(id)
    );
    assert_eq!(
        scene.get(&read, "/v1/operators/calls?agent=spy").json()["calls"],
        json!([])
    );
    // It is over, so there is nothing to go on with.
    assert_eq!(scene.ask(&all, "POST", &format!("{target}/resume"), "", "").status, 409);
    scene.ends();
}

#[test]
fn the_ledger_proves_itself_over_http() {
    let scene = Scene::new();
    let (agent, read) = (scene.agent(), scene.operator(&[Scope::Read]));
    scene.post(&agent, "/v1/calls", &call("refunds"));
    let get = |target: &str| scene.get(&read, &format!("/v1/operators/{target}"));
    let key = get("ledger/key");
    let key = ambit_core::ledger::VerifierKey::parse(key.text.trim()).unwrap();
    let checkpoint = Checkpoint::parse_verified(&get("ledger/checkpoint").text, &key).unwrap();
    let size = checkpoint.size();
    let hashes = |answer: &Answer| -> Vec<Hash> {
        let json = answer.json();
        let all = json["proof"].as_array().unwrap().iter();
        all.map(|hash| Hash::parse(hash.as_str().unwrap()).unwrap()).collect()
    };
    for index in 0..size {
        let entry = get(&format!("entries/{index}"));
        assert!(
            entry
                .head
                .contains("cache-control: private, max-age=31536000, immutable"),
            "{}",
            entry.head
        );
        assert!(entry.head.contains("vary: authorization"), "{}", entry.head);
        let leaf = merkle::leaf_hash(entry.text.as_bytes());
        let proof = hashes(&get(&format!("proofs/inclusion?index={index}&size={size}")));
        assert!(merkle::verify_inclusion(&leaf, index, size, &checkpoint.root(), &proof).is_ok());
    }
    let consistency = get(&format!("proofs/consistency?old=2&new={size}"));
    assert_eq!((consistency.status, consistency.json()["old"].as_u64()), (200, Some(2)));
    assert!(!hashes(&consistency).is_empty());
    // Tiles: that of this size, and none beyond.
    let tile = get(&format!("ledger/tile/0/000.p/{size}"));
    assert!(
        tile.head.contains("cache-control: private, no-cache") && tile.head.contains("application/octet-stream"),
        "{}",
        tile.head
    );
    for none in [
        "0/000".to_owned(),
        format!("0/000.p/{}", size + 1),
        "entries/001".to_owned(),
        "9/000".to_owned(),
        "../../keys/ledger.key".to_owned(),
    ] {
        assert_eq!(get(&format!("ledger/tile/{none}")).status, 404, "{none}");
    }
    for wrong in ["proofs/inclusion", "proofs/consistency"] {
        assert_eq!(get(wrong).status, 400);
    }
    for beyond in [
        format!("entries/{size}"),
        "entries/-1".to_owned(),
        format!("proofs/inclusion?index={size}"),
        format!("proofs/inclusion?index=0&size={}", size + 1),
        "proofs/consistency?old=3&new=2".to_owned(),
    ] {
        assert_eq!(get(&beyond).status, 404, "{beyond}");
    }
    // What somebody has is not sent again.
    for target in ["entries/0", "ledger/checkpoint", "ledger/key"] {
        let target = format!("/v1/operators/{target}");
        let tag = tag(&scene.get(&read, &target));
        let again = scene.ask(&read, "GET", &target, &format!("If-None-Match: {tag}\r\n"), "");
        assert_eq!((again.status, again.text.as_str()), (304, ""), "{target}");
        let other = scene.ask(&read, "GET", &target, "If-None-Match: \"x\"\r\n", "");
        assert_eq!(other.status, 200, "{target}");
    }
    let page = get("entries?limit=2").json();
    assert_eq!(
        (page["entries"].as_array().unwrap().len(), &page["next"]),
        (2, &json!(2))
    );
    scene.ends();
}

#[test]
fn what_is_looked_for_is_found_a_page_at_a_time() {
    let scene = Scene::new();
    let (agent, spy, all) = (
        scene.agent(),
        scene.0.place.key(|asked| asked.agent = "spy".into()).0,
        scene.all(),
    );
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let more = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n");
    for amount in 0..3 {
        let body =
            json!({ "tool": "refunds", "function": "create", "arguments": { "amount": amount, "note": "CANARY" } });
        scene.ask(&agent, "POST", "/v1/calls", &more, &body.to_string());
    }
    scene.post(&spy, "/v1/calls", &call("refunds"));
    let found = |query: &str| scene.get(&all, &format!("/v1/operators/search?{query}")).json();
    let count = |query: &str| found(query)["found"].as_array().unwrap().len();
    assert_eq!(count("kind=call-denied"), 4);
    assert_eq!(count(&format!("trace={trace}")), 3);
    assert_eq!(count("agent=spy"), 1);
    assert_eq!(count("agent=assistant&decision=denied"), 3);
    assert_eq!(count("agent=assistant&decision=permitted"), 0);
    assert_eq!(count("tenant=other"), 1);
    let code = found("kind=call-denied&agent=spy")["found"][0]["code"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(count(&format!("code={code}&agent=spy")), 1);
    assert_eq!(count("code=budget"), 0);
    for outcome in ambit_runtime::documents::OUTCOMES {
        let calls = scene.get(&all, &format!("/v1/operators/calls?outcome={outcome}"));
        assert_eq!(calls.status, 200, "{}", calls.text);
    }
    assert_eq!(
        scene.get(&all, "/v1/operators/calls?outcome=denied").json()["calls"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    assert_eq!(count("since=2020-01-01&until=2020-01-02"), 0);
    assert_eq!(count("text=CANARY"), 0);
    let values = found("text=CANARY&values=true");
    assert_eq!(values["found"].as_array().unwrap().len(), 3);
    assert_eq!(values["found"][0]["in_values"], json!(["args"]));
    // The newest first, each once, however small the pages.
    let (mut seen, mut before) = (Vec::new(), String::new());
    loop {
        let page = found(&format!("kind=call-denied&limit=1{before}"));
        seen.extend(
            page["found"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["index"].as_u64().unwrap()),
        );
        match page["next"].as_u64() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 4);
    assert!(seen.is_sorted_by(|newer, older| newer > older), "{seen:?}");
    // What was made up is told.
    for wrong in [
        "before=999999",
        "before=-1",
        "before=1e3",
        "limit=0",
        "limit=100000",
        "kind=call-denid",
        "code=budgett",
        "decision=allow",
        "agnet=spy",
        "limit=1&limit=2",
        "text=",
    ] {
        let answer = scene.get(&all, &format!("/v1/operators/search?{wrong}"));
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text);
    }
    assert!(
        scene
            .get(&all, "/v1/operators/search?agnet=spy")
            .text
            .contains("did you mean `agent`")
    );
    scene.ends();
}

#[test]
fn what_is_no_request_is_told_so() {
    let scene = Scene::new();
    let agent = scene.agent();
    let ask = |body: &str| scene.ask(&agent, "POST", "/v1/calls", "", body);
    for (body, part) in [
        ("{", "not JSON"),
        (r#"{"tool":"a","tool":"b","function":"f"}"#, "comes twice"),
        (r#"{"tool":"a"}"#, "function"),
        (r#"{"tool":"a","function":"f","approve":true}"#, "approve"),
        (r#"{"tool":"a","function":"f","mode":"god"}"#, "god"),
        (r#"{"tool":"a","function":"f","arguments":[]}"#, "invalid type"),
        (r#"{"tool":"a","function":"f","agent":"spy"}"#, "agent"),
        ("[]", "a JSON object"),
    ] {
        let answer = ask(body);
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.text.contains(part), "{body}: {}", answer.text);
    }
    let host = scene.0.address;
    let head = format!(
        "POST /v1/calls HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{}",
        bearer(&agent)
    );
    let text = scene
        .0
        .raw(format!("{head}Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes());
    assert_eq!(text.status, 415);
    let mut large = format!("{head}Content-Type: application/json\r\nContent-Length: 100000000\r\n\r\n").into_bytes();
    large.extend(std::iter::repeat_n(b' ', (2 << 20) + (64 << 10)));
    let large = scene.0.raw(&large);
    assert_eq!(large.status, 413);
    let deep = format!(
        "{{\"tool\":\"a\",\"function\":\"f\",\"arguments\":{{\"a\":{}{}}}}}",
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    assert_eq!(ask(&deep).status, 400);
    for (method, target, status) in [
        ("DELETE", "/v1/tools", 405),
        ("PUT", "/v1/calls", 405),
        ("GET", "/v1/calls", 405),
        ("GET", "/v1/", 404),
        ("GET", "/v1/approvals", 404),
        ("GET", "/v1/tools/", 404),
        ("GET", "/v1/tools?limit=5", 400),
        ("GET", "/v1/holds?limit=0", 400),
        ("GET", "/v1/holds?limit=201", 400),
        ("GET", "/v1/tools?access_token=x", 400),
    ] {
        let answer = scene.ask(&agent, method, target, "", "");
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.text);
        if status == 405 {
            assert!(answer.head.contains("allow: "), "{}", answer.head);
        }
    }
    let page = scene.ask(&agent, "GET", TOOLS, "Origin: https://evil.example\r\n", "");
    assert_eq!(page.status, 403);
    scene.ends();
}

#[test]
fn anybody_can_read_what_there_is() {
    let scene = Scene::new();
    let host = scene.0.address;
    let get = |more: &str| {
        scene
            .0
            .raw(format!("GET /v1/openapi.json HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n").as_bytes())
    };
    let answer = get("");
    assert_eq!((answer.status, answer.json()), (200, openapi::document()));
    assert_eq!(get(&format!("If-None-Match: {}\r\n", tag(&answer))).status, 304);
    scene.ends();
}
