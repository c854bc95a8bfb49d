//! `ambit serve --stdio` as an agent's program has it: started, spoken to over its pipes, and closed.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ambit_core::ledger::CallStory;
use ambit_core::ledger::body::End;
use ambit_runtime::host::now_ms;
use ambit_runtime::store::{CallFilter, Keys, Reader, verifier};
use ambit_tests::home::{Home, Run};
use ambit_tests::mcp::Server;
use ambit_tests::scenario::TOKEN_VARIABLE;
use ambit_tests::service::Service;
use serde_json::{Value, json};

use super::traps::Test;

macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((concat!("mcp_", stringify!($name)), $name)),*] };
}

pub(crate) const TESTS: &[Test] = tests![
    each_version_is_spoken,
    a_request_without_a_session_is_told_so,
    what_may_be_called_is_listed_in_a_fixed_order,
    a_value_is_structured_and_proved,
    what_goes_wrong_is_told_in_words_and_as_data,
    what_is_held_waits_without_its_caller,
    what_is_held_is_a_task_until_people_decide,
    what_is_held_is_told_at_the_client_and_no_answer_decides,
    a_task_goes_on_without_its_connection_until_its_caller_takes_it_back,
    calls_of_others_are_not_there,
    progress_is_passed_on,
    a_call_that_is_taken_back_ends_at_once,
    contracts_and_receipts_are_read,
    malformed_lines_get_their_error_and_end_nothing,
    a_huge_line_is_not_kept,
    trap_02_a_guest_cannot_forge_an_answer_on_the_pipe,
    trap_03_spinning_guests_do_not_freeze_a_server,
    trap_05_nothing_on_the_channel_administers,
    what_runs_when_the_input_closes_ends,
    a_kill_is_told_to_who_waits,
    a_home_that_does_not_open_says_nothing_on_the_pipe,
    what_is_taken_anew_is_told_to_who_listens,
    a_tool_that_comes_and_goes_is_told_in_each_session,
    what_runs_when_the_process_is_told_to_end_goes_on_with_the_next,
];

/// Versions with a session.
const SESSIONS: [&str; 2] = ["2025-06-18", "2025-11-25"];
const STATELESS: &str = "2026-07-28";

const CONFIGURATION: &str = r#"
[agent.assistant]
team = "support"
tenant = "acme"
users = ["ada"]
[agent.clerk]
team = "accounts"
tenant = "acme"
[group.reviewer]
members = []
[group.finance]
members = ["rita"]
[connection.stripe]
origin = "https://api.stripe.com"
connect_to = "127.0.0.1:PORT"
ca = "CA"
allow_private = true
credential = { env = "STRIPE_KEY", as = "bearer" }
[connection.stripe.route."refunds.create"]
match = "POST /v1/refunds"
tier = "commit"
fields = ["charge", "amount", "reason"]
required = ["charge", "amount"]
reads = ["id", "charge", "amount", "currency", "status", "error.code", "error.message"]
body = "form"
money = { amount = "amount", currency = { constant = "usd" } }
idempotency = { header = "Idempotency-Key", lifetime = "24h" }
[connection.stripe.route."charges.get"]
match = "GET /v1/charges/{id}"
reads = ["id", "amount", "amount_refunded", "currency", "status", "refunded", "error.code", "error.message"]
[tool.pay.bind]
stripe = "stripe"
"#;

/// A guest may compute for as long as nobody stops it.
const ENDLESS: &str = "[limits]\nfuel = 4000000000000000\nwall_ms = 60000\n";

const POLICY: &str = r#"
@id("support-calls")
permit (principal in Team::"support", action == Action::"call", resource)
unless { resource == Function::"pay/refunds.cancel" };
@id("clerks-echo")
permit (principal in Team::"accounts", action == Action::"call", resource in Tool::"echo");
@id("support-reads")
permit (principal in Team::"support", action == Action::"read", resource);
@id("support-refunds")
permit (principal in Team::"support", action == Action::"commit", resource);
@id("dual-control")
forbid (principal, action == Action::"commit", resource)
when { context.spend.kind == "known" && context.spend.minor > 5000 && context.spend.minor <= 50000 }
unless { context.approvals.finance >= 1 };
@id("never")
forbid (principal, action == Action::"commit", resource)
when { context.spend.kind == "known" && context.spend.minor > 50000 };
"#;

/// A home with tools, a service that they pay through, and a person of finance.
pub(super) struct Scene {
    pub(super) home: Home,
    service: Service,
    folder: tempfile::TempDir,
}

impl Scene {
    pub(super) fn with(tools: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start(folder.path()).unwrap();
        let mut home = Home::make(&folder.path().join("home")).unwrap();
        home.set(TOKEN_VARIABLE, service.token.as_str());
        let configuration = CONFIGURATION
            .replace("PORT", &service.port.to_string())
            .replace("CA", &service.ca.display().to_string());
        // A connection is bound to what is there.
        let bound = tools.iter().any(|(name, _)| *name == "pay");
        let configuration = match configuration.split_once("[tool.pay.bind]") {
            Some((rest, _)) if !bound => rest.to_owned(),
            _ => configuration,
        };
        home.configure(&format!("{configuration}\n{ENDLESS}")).unwrap();
        home.permit(POLICY).unwrap();
        for (name, component) in tools {
            home.add(name, component).unwrap();
        }
        Self { home, service, folder }
    }

    fn server(&self) -> Server {
        self.session(&["--as", "assistant", "--for", "ada"])
    }

    fn session(&self, arguments: &[&str]) -> Server {
        Server::session(&self.home, arguments, "2025-11-25").unwrap()
    }

    fn ambit(&self, arguments: &[&str]) -> Run {
        self.home.done(arguments).unwrap()
    }

    /// A person of finance with a key of her own.
    pub(super) fn enrol_rita(&self) -> String {
        let key = self.folder.path().join("rita.key").display().to_string();
        let made = self.ambit(&["person", "key", "rita", "--output", &key]);
        self.ambit(&["person", "enrol", made.out.trim()]);
        key
    }

    fn reader(&self) -> Reader {
        let folder = self.home.folder();
        Reader::open(folder).unwrap().with_keys(&Keys::load(folder).unwrap())
    }

    /// Every call on the ledger, the oldest first.
    fn stories(&self) -> Vec<CallStory> {
        let all = CallFilter {
            limit: Some(200),
            ..CallFilter::default()
        };
        let mut calls = self.reader().calls(&all).unwrap();
        calls.reverse();
        calls
    }

    /// That the ledger is whole, and every call can be run again.
    pub(super) fn in_order(&self) {
        let reader = self.reader();
        reader
            .verify(&verifier(self.home.folder()).unwrap(), &[], |_| {})
            .unwrap();
        for story in self.stories() {
            if story.ran_a_guest() {
                let run = self.home.run(["replay", story.call.as_str()], "").unwrap();
                assert_eq!(run.code, Some(0), "{}: {}", story.call, run.text());
            }
        }
    }

    pub(super) fn requests(&self) -> usize {
        self.service.requests().unwrap().len()
    }
}

fn refund(amount: u64) -> Value {
    json!({ "charge": "ch_laptop", "amount": amount })
}

/// The words of a result that is an error.
#[track_caller]
fn words(result: &Value) -> String {
    assert_eq!(result["isError"], true, "{result:#}");
    assert!(result["structuredContent"].is_null(), "{result:#}");
    let content = result["content"].as_array().unwrap();
    let words: Vec<&str> = content.iter().map(|block| block["text"].as_str().unwrap()).collect();
    words.join("\n")
}

fn about(result: &Value) -> &Value {
    &result["_meta"]["ambit/call"]
}

fn call_of(result: &Value) -> String {
    about(result)["call"].as_str().unwrap().to_owned()
}

#[track_caller]
fn refused(answer: &Value, code: i64) -> String {
    assert_eq!(answer["error"]["code"], code, "{answer:#}");
    answer["error"]["message"].as_str().unwrap().to_owned()
}

fn wait_until(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not happen");
        thread::sleep(Duration::from_millis(2));
    }
}

fn each_version_is_spoken() {
    let scene = Scene::with(&[("echo", "good_echo")]);
    for version in SESSIONS {
        let mut server = Server::start(&scene.home, &["--as", "assistant"]).unwrap();
        // A ping may come first, and what nobody waits for changes nothing.
        server.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 9 } }));
        server.result("ping", json!({}));
        let opened = server.initialize(version)["result"].clone();
        assert_eq!(opened["protocolVersion"], version);
        assert_eq!(opened["serverInfo"]["name"], "ambit");
        // Nothing is promised that is not kept.
        let told = json!({ "listChanged": true });
        assert_eq!(opened["capabilities"], json!({ "resources": told, "tools": told }));
        let again = server.initialize(version);
        assert!(refused(&again, -32600).contains("initialized before"));
        let value = server.call("echo_echo_a-u8", json!({ "value": 7 }));
        assert_eq!(value["structuredContent"], json!({ "value": 7 }));
        let ended = server.close();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    // A version that nobody speaks gets the newest that has a session.
    let mut server = Server::start(&scene.home, &["--as", "assistant"]).unwrap();
    assert_eq!(
        server.initialize("1999-01-01")["result"]["protocolVersion"],
        "2025-11-25"
    );
    drop(server.close());

    let mut server = Server::stateless(&scene.home, &["--as", "assistant"], STATELESS).unwrap();
    let found = server.result("server/discover", json!({}));
    let versions: Vec<&str> = found["supportedVersions"]
        .as_array()
        .unwrap_or_else(|| panic!("{found:#}"))
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(versions, ["2025-06-18", "2025-11-25", STATELESS]);
    assert!(server.tools().len() > 2);
    let value = server.call("echo_echo_a-u8", json!({ "value": 8 }));
    assert_eq!(value["structuredContent"], json!({ "value": 8 }));
    assert_eq!(value["resultType"], "complete");
    let listed = server.result("tools/list", json!({}));
    assert_eq!(listed["cacheScope"], "private", "what is listed is this caller's");
    drop(server.close());
    let mut server = Server::stateless(&scene.home, &["--as", "assistant"], "2031-01-01").unwrap();
    let answer = server.request("tools/list", json!({}));
    refused(&answer, -32022);
    assert!(answer["error"]["data"]["supported"].to_string().contains(STATELESS));
    drop(server.close());
    scene.in_order();
}

fn a_request_without_a_session_is_told_so() {
    let scene = Scene::with(&[("echo", "good_echo")]);
    let mut server = Server::start(&scene.home, &["--as", "assistant"]).unwrap();
    for method in ["tools/list", "tools/call", "resources/list"] {
        let answer = server.request(method, json!({ "name": "echo_hash", "arguments": { "json": "x" } }));
        assert!(refused(&answer, -32600).contains("initialize"), "{answer}");
    }
    // And may begin after all.
    assert_eq!(
        server.initialize("2025-11-25")["result"]["protocolVersion"],
        "2025-11-25"
    );
    assert!(scene.stories().is_empty());
    assert_eq!(server.close().code, Some(0));
}

fn what_may_be_called_is_listed_in_a_fixed_order() {
    let scene = Scene::with(&[("pay", "stripe"), ("echo", "good_echo")]);
    let mut server = scene.server();
    let tools = server.tools();
    let names: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    assert!(
        names.contains(&"echo_hash") && names.contains(&"pay_refunds_create"),
        "{names:?}"
    );
    assert!(
        !names.contains(&"pay_refunds_cancel"),
        "it may not be called: {names:?}"
    );
    assert_eq!(names[names.len() - 2..], ["ambit_call_status", "ambit_call_result"]);
    let tool = |name: &str| tools.iter().find(|tool| tool["name"] == name).unwrap();
    let create = tool("pay_refunds_create");
    assert_eq!(create["title"], "pay: refunds.create");
    let told = create["description"].as_str().unwrap();
    assert!(told.starts_with("Refund a charge, in full or in part."), "{told}");
    assert_eq!(
        create["annotations"],
        json!({ "readOnlyHint": false, "destructiveHint": true, "idempotentHint": false, "openWorldHint": true })
    );
    assert_eq!(tool("pay_charges_get")["annotations"]["readOnlyHint"], true);
    assert_eq!(create["inputSchema"]["required"], json!(["charge"]));
    assert_eq!(create["inputSchema"]["additionalProperties"], false);
    assert_eq!(create["outputSchema"]["properties"]["amount"]["minimum"], 0);
    for tool in &tools {
        for schema in ["inputSchema", "outputSchema"] {
            jsonschema::draft202012::meta::validate(&tool[schema]).unwrap_or_else(|error| panic!("{tool}: {error}"));
            assert_eq!(tool[schema]["type"], "object", "{tool}");
        }
    }
    // There is one page.
    refused(&server.request("tools/list", json!({ "cursor": "next" })), -32602);
    drop(server.close());
    // The same again, and for another caller what that one may call.
    assert_eq!(scene.server().tools(), tools);
    let names: Vec<Value> = scene
        .session(&["--as", "clerk"])
        .tools()
        .iter()
        .map(|tool| tool["name"].clone())
        .collect();
    assert!(
        names.iter().all(|name| !name.as_str().unwrap().starts_with("pay_")),
        "{names:?}"
    );
    assert!(names.contains(&json!("echo_hash")));
}

fn a_value_is_structured_and_proved() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let scene = Scene::with(&[("pay", "stripe"), ("echo", "good_echo")]);
    let mut server = scene.server();
    let tools = server.tools();
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let result = server.result(
        "tools/call",
        json!({ "name": "pay_refunds_create", "arguments": refund(4000), "_meta": { "traceparent": parent } }),
    );
    let value = &result["structuredContent"];
    assert_eq!(
        (&value["amount"], &value["currency"]),
        (&json!(4000), &json!("usd")),
        "{result:#}"
    );
    assert!(result["isError"].is_null() || result["isError"] == false);
    let text: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(text, *value);
    let schema = &tools.iter().find(|tool| tool["name"] == "pay_refunds_create").unwrap()["outputSchema"];
    jsonschema::draft202012::validate(schema, value).unwrap();
    // It is part of its caller's trace, with a span of its own.
    let own = result["_meta"]["traceparent"].as_str().unwrap();
    assert!(
        own.starts_with(&format!("00-{TRACE}-")) && own.ends_with("-01") && own != parent,
        "{own}"
    );
    let call = call_of(&result);
    let story = scene.reader().story(&call).unwrap();
    assert_eq!(story.trace, TRACE);
    assert_eq!(about(&result)["outcome"], "ok");
    assert_eq!(about(&result)["cost"]["effects"], 1);
    // The receipt is of just the entry that the result named.
    let receipt = about(&result)["receipt"].clone();
    let read = server.result("resources/read", json!({ "uri": receipt["uri"] }));
    let read: Value = serde_json::from_str(read["contents"][0]["text"].as_str().unwrap()).unwrap();
    let entry = read["entry"].as_str().unwrap();
    let digest = ambit_core::digest::Digest::of(entry.as_bytes());
    assert_eq!(receipt["digest"], json!(digest));
    assert_eq!(receipt["entry"], story.finished.unwrap().stamp.index());
    // A traceparent that is none is as if it was not there.
    let result = server.result(
        "tools/call",
        json!({ "name": "echo_hash", "arguments": { "json": "x" }, "_meta": { "traceparent": "00-x-y-01" } }),
    );
    assert!(result["_meta"]["traceparent"].as_str().unwrap().ends_with("-00"));
    assert_eq!(server.close().code, Some(0));
    scene.in_order();
}

fn what_goes_wrong_is_told_in_words_and_as_data() {
    let scene = Scene::with(&[("pay", "stripe"), ("echo", "good_echo"), ("wild", "hostile_sandbox")]);
    let mut server = scene.server();
    // The tool's own error.
    let result = server.call("wild_try", json!({ "case": "nothing of the kind" }));
    assert!(words(&result).contains("no case"));
    assert_eq!(about(&result)["outcome"], "tool-error");
    // A rule of policy, with its name; the effect is told though its guest made an error of it.
    let before = scene.requests();
    let result = server.call("pay_refunds_create", refund(60_000));
    let told = words(&result);
    assert!(told.contains("rule never"), "{told}");
    assert_eq!(about(&result)["refused_effects"][0]["rule"], "never");
    assert_eq!(scene.requests(), before);
    // A function that may not be called is refused as any call is: recorded, and by policy.
    let result = server.call("pay_refunds_cancel", json!({ "id": "re_1" }));
    assert!(words(&result).starts_with("refused (policy"), "{result:#}");
    assert_eq!(about(&result)["refused"]["code"], "policy");
    let call = call_of(&result);
    assert!(scene.reader().story(&call).is_ok());
    // Arguments are the host's to check.
    for (arguments, part) in [
        (json!({ "json": "x", "approve": true }), "approve"),
        (json!({}), "json"),
        (json!({ "json": 7 }), "json"),
    ] {
        let told = words(&server.call("echo_hash", arguments));
        assert!(told.starts_with("refused (arguments)") && told.contains(part), "{told}");
    }
    let range = server.call("echo_echo_a-u8", json!({ "value": 256 }));
    assert!(words(&range).starts_with("refused (arguments)"));
    // What the guest does to itself.
    let result = server.call("wild_try", json!({ "case": "unreachable" }));
    assert!(words(&result).starts_with("refused (trap)"), "{result:#}");
    // What there is not is an error of the protocol.
    let none = server.request("tools/call", json!({ "name": "pay_refunds", "arguments": {} }));
    assert!(refused(&none, -32602).contains("no tool `pay_refunds`"));
    assert_eq!(server.close().code, Some(0));
    scene.in_order();
}

fn what_is_held_waits_without_its_caller() {
    let scene = Scene::with(&[("pay", "stripe")]);
    let key = scene.enrol_rita();
    let mut server = scene.server();
    let began = Instant::now();
    let result = server.call("pay_refunds_create", refund(9000));
    assert!(began.elapsed() < Duration::from_secs(5), "nobody waits for people");
    let call = call_of(&result);
    let told = words(&result);
    for part in [
        "held",
        "1 of finance",
        &format!("ambit approvals show {call}"),
        "ambit_call_status",
        "dual-control",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let hold = about(&result)["held"]["hold"].as_str().unwrap().to_owned();
    assert!(told.contains(&hold));
    assert!(about(&result)["receipt"].is_null(), "it has not ended");
    let tools = server.tools();
    let status = |server: &mut Server, tool: &str| {
        let result = server.call(tool, json!({ "call": call }));
        let schema = &tools.iter().find(|listed| listed["name"] == tool).unwrap()["outputSchema"];
        jsonschema::draft202012::validate(schema, &result["structuredContent"]).unwrap();
        result["structuredContent"].clone()
    };
    for tool in ["ambit_call_status", "ambit_call_result"] {
        let status = status(&mut server, tool);
        assert_eq!((&status["status"], &status["hold"]), (&json!("held"), &json!(hold)));
        assert!(status["value"].is_null());
    }
    assert_eq!(scene.requests(), 0);
    // People decide elsewhere, and what came of it is there for its caller.
    drop(server.close());
    scene.ambit(&["approvals", "approve", &hold, "--key", &key]);
    assert_eq!(scene.requests(), 1);
    let mut server = scene.server();
    assert_eq!(status(&mut server, "ambit_call_status")["status"], "ok");
    let ended = status(&mut server, "ambit_call_result");
    assert_eq!(ended["value"]["amount"], 9000);
    let receipt = server.result("resources/read", json!({ "uri": ended["receipt"] }));
    assert!(receipt["contents"][0]["text"].as_str().unwrap().contains(&call));
    assert_eq!(server.close().code, Some(0));
    scene.in_order();
}

fn tasks() -> Value {
    json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } })
}

/// A client of the version without sessions that takes these.
fn client(scene: &Scene, who: &[&str], takes: Value) -> Server {
    let mut server = Server::stateless(&scene.home, who, STATELESS).unwrap();
    server.takes(takes);
    server
}

fn task(server: &mut Server, id: &Value) -> Value {
    server.result("tasks/get", json!({ "taskId": id }))
}

fn what_is_held_is_a_task_until_people_decide() {
    let scene = Scene::with(&[("pay", "stripe")]);
    let key = scene.enrol_rita();
    let who = ["--as", "assistant", "--for", "ada"];
    let mut server = client(&scene, &who, tasks());
    // It has begun by then.
    server.tools();
    let began = Instant::now();
    let params = json!({ "name": "pay_refunds_create", "arguments": refund(9000) });
    let created = server.result("tools/call", params);
    assert!(began.elapsed() < Duration::from_secs(5), "nobody waits for people");
    assert_eq!(
        (&created["resultType"], &created["status"]),
        (&json!("task"), &json!("working"))
    );
    let (id, call) = (created["taskId"].clone(), call_of(&created));
    assert_eq!(id, json!(call));
    let hold = about(&created)["held"]["hold"].as_str().unwrap().to_owned();
    let show = format!("ambit approvals show {call}");
    for part in ["held", "1 of finance", &show, &hold, "dual-control"] {
        let told = created["statusMessage"].as_str().unwrap();
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(task(&mut server, &id)["status"], "working");
    assert_eq!(server.close().code, Some(0));
    // It is its caller's alone.
    let none = json!({ "taskId": format!("c_{}", "a".repeat(26)) });
    for other in [&["--as", "clerk"][..], &["--as", "assistant"]] {
        let mut server = client(&scene, other, tasks());
        let of_none = refused(&server.request("tasks/get", none.clone()), -32602);
        for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
            let about = json!({ "taskId": id, "inputResponses": {} });
            assert_eq!(refused(&server.request(method, about), -32602), of_none, "{method}");
        }
        drop(server.close());
    }
    // Nothing that its client says or takes back decides anything.
    let mut server = client(&scene, &who, tasks());
    let accept = json!({ "action": "accept", "content": { "approve": true, "approvals": { "finance": 1 } } });
    let answers = json!({ "taskId": id, "inputResponses": { "held": accept, hold.clone(): accept } });
    assert_eq!(
        server.result("tasks/update", answers),
        json!({ "resultType": "complete" })
    );
    assert_eq!(
        server.result("tasks/cancel", json!({ "taskId": id })),
        json!({ "resultType": "complete" })
    );
    assert_eq!(task(&mut server, &id)["status"], "working");
    assert_eq!(server.close().code, Some(0));
    // Another process knows it as well, and so does one in which people decide.
    let mut server = client(&scene, &who, tasks());
    let waits = task(&mut server, &id);
    assert_eq!(waits["statusMessage"], created["statusMessage"]);
    assert_eq!(waits["_meta"]["ambit/call"]["held"]["hold"], json!(hold));
    assert_eq!(scene.requests(), 0);
    scene.ambit(&["approvals", "approve", &hold, "--key", &key]);
    let began = Instant::now();
    let ended = loop {
        let now = task(&mut server, &id);
        if now["status"] != "working" {
            break now;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{now:#}");
        thread::sleep(Duration::from_millis(5));
    };
    assert_eq!((&ended["status"], scene.requests()), (&json!("completed"), 1));
    let result = &ended["result"];
    assert_eq!(
        (&result["resultType"], &result["isError"]),
        (&json!("complete"), &json!(false))
    );
    assert_eq!(result["structuredContent"]["amount"], 9000);
    let known = server.call("ambit_call_result", json!({ "call": call }))["structuredContent"].clone();
    assert_eq!(result["structuredContent"], known["value"]);
    assert_eq!(about(result)["receipt"]["uri"], known["receipt"]);
    // What needs nobody is answered at once, and is the same when it is asked about.
    for (function, arguments) in [
        ("pay_refunds_create", refund(100)),
        ("pay_refunds_create", refund(60_000)),
        ("pay_refunds_create", json!({ "charge": 7 })),
        ("pay_refunds_cancel", json!({ "id": "re_1" })),
    ] {
        let result = server.result("tools/call", json!({ "name": function, "arguments": arguments }));
        assert_eq!(result["resultType"], "complete", "{result:#}");
        let ended = task(&mut server, &json!(call_of(&result)));
        assert_eq!(ended["status"], "completed");
        assert_eq!(ended["result"], result);
    }
    assert_eq!(server.close().code, Some(0));
    scene.in_order();
}

fn what_is_held_is_told_at_the_client_and_no_answer_decides() {
    let scene = Scene::with(&[("pay", "stripe")]);
    let key = scene.enrol_rita();
    let who = ["--as", "assistant", "--for", "ada"];
    let asks = json!({ "elicitation": { "form": {} } });
    let mut server = client(&scene, &who, asks.clone());
    let params = json!({ "name": "pay_refunds_create", "arguments": refund(9000) });
    let told = server.result("tools/call", params.clone());
    assert_eq!(told["resultType"], "input_required", "{told:#}");
    let call = call_of(&told);
    assert_eq!(told["requestState"], json!(call));
    let asked = &told["inputRequests"]["held"];
    assert_eq!(
        (&asked["method"], &asked["params"]["mode"]),
        (&json!("elicitation/create"), &json!("form"))
    );
    let schema = json!({ "type": "object", "properties": {} });
    assert_eq!(
        asked["params"]["requestedSchema"], schema,
        "there is nothing to fill in"
    );
    let message = asked["params"]["message"].as_str().unwrap();
    for part in [
        "1 of finance",
        &format!("ambit approvals show {call}"),
        "approves nothing",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let hold = about(&told)["held"]["hold"].as_str().unwrap().to_owned();
    let again = |server: &mut Server, action: &str| {
        let mut params = params.clone();
        params["requestState"] = json!(call);
        params["inputResponses"] =
            json!({ "held": { "action": action, "content": { "approve": true, "hold": hold } } });
        server.request("tools/call", params)
    };
    for action in ["accept", "decline", "cancel", "approve"] {
        let result = again(&mut server, action)["result"].clone();
        assert!(words(&result).starts_with("held: "), "{result:#}");
        assert_eq!(
            (about(&result)["call"].as_str(), scene.requests()),
            (Some(call.as_str()), 0)
        );
    }
    assert_eq!(scene.stories().len(), 1, "nothing was called again");
    assert_eq!(server.close().code, Some(0));
    let mut other = client(&scene, &["--as", "assistant"], asks);
    refused(&again(&mut other, "accept"), -32602);
    drop(other.close());
    // One that asks nobody, or takes a task instead, is told by no such thing.
    for (takes, kind) in [
        (json!({ "elicitation": { "url": {} } }), "complete"),
        (
            json!({ "elicitation": { "form": {} }, "extensions": tasks()["extensions"] }),
            "task",
        ),
    ] {
        let mut server = client(&scene, &who, takes);
        assert_eq!(server.result("tools/call", params.clone())["resultType"], kind);
        drop(server.close());
    }
    scene.ambit(&["approvals", "approve", &hold, "--key", &key]);
    assert_eq!(scene.requests(), 1);
    let mut server = client(&scene, &who, json!({}));
    let result = again(&mut server, "decline")["result"].clone();
    assert_eq!(result["structuredContent"]["amount"], 9000, "{result:#}");
    assert_eq!(scene.requests(), 1, "whatever the answer was");
    assert_eq!(server.close().code, Some(0));
    let key = verifier(scene.home.folder()).unwrap();
    scene.reader().verify(&key, &[], |_| {}).unwrap();
}

/// Taken back in the middle of computing, a task has its end on the ledger within 100 ms, by the best of several: whose task it is, is read
/// first, and a machine that is busy with something else says nothing about that.
fn a_task_goes_on_without_its_connection_until_its_caller_takes_it_back() {
    const TIMES: usize = 5;
    let scene = Scene::with(&[("wild", "hostile_sandbox")]);
    let who = ["--as", "assistant", "--for", "ada"];
    let spin = json!({ "name": "wild_try", "arguments": { "case": "spin" } });
    let mut took = Vec::new();
    let mut server = client(&scene, &who, tasks());
    for round in 0..TIMES {
        let request = server.begin("tools/call", spin.clone());
        let created = server.answer(request)["result"].clone();
        assert_eq!(
            (&created["resultType"], &created["status"]),
            (&json!("task"), &json!("working"))
        );
        // The request is over: it is nothing to take back any more.
        server.cancel(request);
        if round == 0 {
            // Nor does its connection's end take it back: the next process goes on with it.
            assert_eq!(server.close().code, Some(0));
            assert!(scene.stories()[0].suspended().is_some());
            server = client(&scene, &who, tasks());
            let began = Instant::now();
            while !task(&mut server, &created["taskId"])["statusMessage"]
                .as_str()
                .unwrap()
                .starts_with("running")
            {
                assert!(began.elapsed() < Duration::from_secs(20), "it does not go on");
                thread::sleep(Duration::from_millis(5));
            }
        }
        thread::sleep(Duration::from_millis(100));
        assert_eq!(task(&mut server, &created["taskId"])["status"], "working");
        let at = now_ms();
        server.result("tasks/cancel", json!({ "taskId": created["taskId"] }));
        wait_until(|| scene.stories().get(round).is_some_and(|story| story.finished.is_some()));
        took.push(scene.stories().remove(round).finished.unwrap().stamp.time_ms() - at);
        let ended = task(&mut server, &created["taskId"]);
        assert_eq!(ended["status"], "cancelled", "{ended:#}");
        assert!(
            ended["statusMessage"]
                .as_str()
                .unwrap()
                .starts_with("refused (cancelled)")
        );
    }
    assert!(took.iter().any(|took| *took <= 100), "{took:?} ms");
    assert_eq!(server.close().code, Some(0));
    scene.in_order();
}

fn calls_of_others_are_not_there() {
    let scene = Scene::with(&[("echo", "good_echo")]);
    let mut server = scene.session(&["--as", "assistant", "--for", "ada"]);
    let call = call_of(&server.call("echo_hash", json!({ "json": "x" })));
    let own = server.call("ambit_call_result", json!({ "call": call }));
    assert_eq!(own["structuredContent"]["status"], "ok");
    let uri = format!("ambit://receipt/{call}");
    drop(server.close());
    let none = format!("c_{}", "a".repeat(26));
    // Another agent, and the same one for nobody.
    for other in [["--as", "clerk"], ["--as", "assistant"]] {
        let mut server = scene.session(&other);
        for tool in ["ambit_call_status", "ambit_call_result"] {
            let told = words(&server.call(tool, json!({ "call": call })));
            let of_none = words(&server.call(tool, json!({ "call": none })));
            assert_eq!(
                told,
                of_none.replace(&none, &call),
                "which of the two it is nobody learns"
            );
        }
        let told = refused(&server.request("resources/read", json!({ "uri": uri })), -32002);
        let of_none = refused(
            &server.request("resources/read", json!({ "uri": format!("ambit://receipt/{none}") })),
            -32002,
        );
        assert_eq!(told, of_none.replace(&none, &call));
        // Nor does a part of an id find anything.
        words(&server.call("ambit_call_status", json!({ "call": call[..20] })));
        drop(server.close());
    }
}

fn progress_is_passed_on() {
    let scene = Scene::with(&[("forger", "hostile_forger"), ("wild", "hostile_sandbox")]);
    let mut server = scene.server();
    let params = json!({
        "name": "forger_try", "arguments": { "case": "answer-in-the-log" }, "_meta": { "progressToken": "p1" },
    });
    let answer = server.request("tools/call", params);
    assert_eq!(answer["result"]["structuredContent"], json!({ "value": "logged" }));
    let [told] = server.told.as_slice() else {
        panic!("{:?}", server.told);
    };
    assert_eq!(told["method"], "notifications/progress");
    let params = &told["params"];
    assert_eq!(
        (&params["progressToken"], &params["progress"], &params["total"]),
        (&json!("p1"), &json!(1.0), &json!(2.0))
    );
    assert!(
        params["message"].as_str().unwrap().contains("jsonrpc"),
        "its words are a string in a message of ours"
    );
    // Nobody asked: nobody is told.
    server.told.clear();
    server.call("forger_try", json!({ "case": "answer-in-the-log" }));
    assert!(server.told.is_empty());
    // The same step over and over is told once.
    let flood =
        json!({ "name": "wild_try", "arguments": { "case": "progress-flood" }, "_meta": { "progressToken": 7 } });
    server.request("tools/call", flood);
    assert_eq!(server.told.len(), 1, "{:?}", server.told);
    assert_eq!(server.close().code, Some(0));
}

/// Cancelled in the middle of computing, it has its end on the ledger within 100 ms, by the median of several.
fn a_call_that_is_taken_back_ends_at_once() {
    const TIMES: usize = 5;
    let scene = Scene::with(&[("wild", "hostile_sandbox")]);
    let mut server = scene.server();
    let mut took = Vec::new();
    for round in 0..TIMES {
        let id = server.begin(
            "tools/call",
            json!({ "name": "wild_try", "arguments": { "case": "spin" } }),
        );
        // It computes by then; and one that is under way answers nothing.
        assert_eq!(server.next_within(Duration::from_millis(150)), None);
        let at = now_ms();
        server.cancel(id);
        wait_until(|| scene.stories().get(round).is_some_and(|story| story.finished.is_some()));
        let story = scene.stories().remove(round);
        let finished = story.finished.unwrap();
        assert!(
            matches!(&finished.what.outcome, End::Refused(refused) if refused.code.as_str() == "cancelled"),
            "{finished:?}"
        );
        took.push(finished.stamp.time_ms() - at);
        assert_eq!(
            server.next_within(Duration::from_millis(50)),
            None,
            "a request that was taken back has no answer"
        );
    }
    took.sort_unstable();
    assert!(took[TIMES / 2] <= 100, "{took:?} ms");
    // What is over, or was never there, is nothing to take back; and the connection goes on.
    server.cancel(1);
    server.cancel(4_711);
    assert_eq!(
        server.call("wild_try", json!({ "case": "fine" }))["isError"],
        json!(false)
    );
    // An id may be used again once what it named has ended.
    assert_eq!(server.close().code, Some(0));
    scene.in_order();
}

fn contracts_and_receipts_are_read() {
    let scene = Scene::with(&[("pay", "stripe"), ("echo", "good_echo")]);
    let mut server = scene.server();
    let listed = server.result("resources/list", json!({}));
    let uris: Vec<&str> = listed["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["uri"].as_str().unwrap())
        .collect();
    assert_eq!(uris, ["ambit://tool/echo", "ambit://tool/pay"]);
    let templates = server.result("resources/templates/list", json!({}));
    let templates: Vec<&Value> = templates["resourceTemplates"].as_array().unwrap().iter().collect();
    assert_eq!(
        templates
            .iter()
            .map(|one| one["uriTemplate"].as_str().unwrap())
            .collect::<Vec<_>>(),
        [
            "ambit://tool/{name}",
            "ambit://tool/{name}/page",
            "ambit://receipt/{call}"
        ]
    );
    let contract = |server: &mut Server, name: &str| -> Value {
        let read = server.result("resources/read", json!({ "uri": format!("ambit://tool/{name}") }));
        assert_eq!(read["contents"][0]["mimeType"], "application/json");
        serde_json::from_str(read["contents"][0]["text"].as_str().unwrap()).unwrap()
    };
    let echo = contract(&mut server, "echo");
    let pay = contract(&mut server, "pay");
    let page = server.result("resources/read", json!({ "uri": "ambit://tool/pay/page" }));
    let page = page["contents"][0]["text"].as_str().unwrap().to_owned();
    for none in [
        "ambit://tool/none",
        "ambit://tool/none/page",
        "ambit://tool/",
        "file:///etc/passwd",
        "ambit://hold/x",
        "ambit://receipt/c_x",
    ] {
        refused(&server.request("resources/read", json!({ "uri": none })), -32002);
    }
    drop(server.close());
    // As `ambit contract` has it for agents, with what `ambit inspect` has beside it, but for what the caller may not call.
    for (name, own) in [("echo", &echo), ("pay", &pay)] {
        let command = [
            "contract",
            name,
            "--for",
            "assistant",
            "--for-agents",
            "--format",
            "json",
        ];
        let mut expected = scene.ambit(&command).json().unwrap()["tools"][0].take();
        let inspected = scene.ambit(&["inspect", name, "--format", "json"]).json().unwrap();
        for member in ["package", "version", "docs", "imports"] {
            expected[member] = inspected[member].clone();
        }
        let functions = expected["functions"].as_array_mut().unwrap();
        for (function, declared) in functions.iter_mut().zip(inspected["functions"].as_array().unwrap()) {
            for member in ["docs", "input_schema", "output_schema", "error_schema"] {
                function[member] = declared[member].clone();
            }
        }
        functions.retain(|function| function["id"] != "refunds.cancel");
        // The rule that it is denied by is another function's, and told of no more than any.
        assert_eq!(*own, expected, "{name}");
    }
    assert!(
        page.contains("### What it can never do") && page.contains("`dual-control`, a forbid"),
        "{page}"
    );
    for (none, text) in [
        ("permit (", &page),
        ("refunds.cancel`", &page),
        ("context.spend", &pay.to_string()),
    ] {
        assert!(!text.contains(none), "{none}: {text}");
    }
    let mut clerk = scene.session(&["--as", "clerk"]);
    for none in ["ambit://tool/pay", "ambit://tool/pay/page"] {
        refused(&clerk.request("resources/read", json!({ "uri": none })), -32002);
    }
    drop(clerk.close());
    // A version whose clients want another code for it.
    let mut server = Server::stateless(&scene.home, &["--as", "assistant"], STATELESS).unwrap();
    refused(
        &server.request("resources/read", json!({ "uri": "ambit://tool/none" })),
        -32602,
    );
    drop(server.close());
}

fn malformed_lines_get_their_error_and_end_nothing() {
    let scene = Scene::with(&[("echo", "good_echo"), ("wild", "hostile_sandbox")]);
    let mut server = scene.server();
    for (line, id, code) in [
        ("{", Value::Null, -32700),
        ("no JSON at all", Value::Null, -32700),
        (
            r#"{"jsonrpc":"2.0","id":90,"method":"ping","method":"tools/list"}"#,
            Value::Null,
            -32700,
        ),
        ("[]", Value::Null, -32600),
        (r#"[{"jsonrpc":"2.0","id":91,"method":"ping"}]"#, Value::Null, -32600),
        (r#"{"jsonrpc":"1.0","id":92,"method":"ping"}"#, json!(92), -32600),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, Value::Null, -32600),
        (r#"{"jsonrpc":"2.0","id":93}"#, json!(93), -32600),
        (
            r#"{"jsonrpc":"2.0","id":94,"method":"ping","params":[1]}"#,
            json!(94),
            -32602,
        ),
        (r#"{"jsonrpc":"2.0","id":95,"method":"tools/make"}"#, json!(95), -32601),
        (
            r#"{"jsonrpc":"2.0","id":96,"method":"tools/call","params":{"name":7}}"#,
            json!(96),
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":97,"method":"tools/call","params":{"name":"echo_hash","arguments":[]}}"#,
            json!(97),
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":"x","method":"resources/read"}"#,
            json!("x"),
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":98,"method":"prompts/get","params":{"name":"x"}}"#,
            json!(98),
            -32601,
        ),
        (
            r#"{"jsonrpc":"2.0","id":99,"method":"logging/setLevel","params":{"level":"debug"}}"#,
            json!(99),
            -32601,
        ),
    ] {
        server.write(format!("{line}\n").as_bytes());
        let answer = server.next_message();
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&id, &json!(code)),
            "{line}: {answer}"
        );
        assert!(
            answer["error"]["message"]
                .as_str()
                .is_some_and(|message| message.len() > 10),
            "{answer}"
        );
    }
    server.write(b"\xff\xfe\n");
    refused(&server.next_message(), -32700);
    // What nobody waits for gets nothing.
    for silent in [
        "",
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/none"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":[]}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#,
    ] {
        server.write(format!("{silent}\n").as_bytes());
    }
    // One id is one request.
    let id = server.begin(
        "tools/call",
        json!({ "name": "wild_try", "arguments": { "case": "spin" } }),
    );
    server.send(&json!({ "jsonrpc": "2.0", "id": id, "method": "ping" }));
    let answer = server.next_message();
    assert!(answer["id"].is_null() && refused(&answer, -32600).contains("an id is used once"));
    server.cancel(id);
    assert_eq!(
        server.call("echo_hash", json!({ "json": "x" }))["isError"],
        json!(false)
    );
    let ended = server.close();
    assert_eq!((ended.code, ended.rest.len()), (Some(0), 0), "{ended:?}");
}

/// A line of 100 MiB: it is told to be too long, and the process has grown by no more than a line may have.
fn a_huge_line_is_not_kept() {
    let scene = Scene::with(&[("echo", "good_echo")]);
    let mut server = scene.server();
    let before = peak_bytes(server.id());
    let piece = vec![b'x'; 1 << 20];
    server.write(b"{\"jsonrpc\":\"2.0\",\"id\":50,\"method\":\"");
    for _ in 0..100 {
        server.write(&piece);
    }
    server.write(b"\"}\n");
    let answer = server.next_message();
    assert!(
        answer["id"].is_null() && refused(&answer, -32600).contains("at most 4194304 bytes"),
        "{answer}"
    );
    let grown = peak_bytes(server.id()).saturating_sub(before);
    assert!(grown < 24 << 20, "it grew by {grown} bytes");
    // A long one that may be is read, and its argument is the host's to refuse.
    let long = server.call("echo_hash", json!({ "json": "x".repeat(2 << 20) }));
    assert!(words(&long).starts_with("refused (arguments)"), "{long}");
    // What is large and may be comes back whole.
    let text = "\u{e9}".repeat(200_000);
    let large = server.call("echo_echo_a-string", json!({ "value": text }));
    assert_eq!(large["structuredContent"]["value"], json!(text));
    assert_eq!(server.close().code, Some(0));
}

/// The most memory that a process has had, as the kernel counts it; 0 where it does not say.
fn peak_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or_default() * 1_024
}

fn trap_02_a_guest_cannot_forge_an_answer_on_the_pipe() {
    let scene = Scene::with(&[("snoop", "hostile_wasi"), ("forger", "hostile_forger")]);
    let mut server = scene.server();
    let cases: Vec<(&str, Value)> = [
        "answer-in-a-value",
        "answer-in-an-error",
        "answer-in-the-log",
        "escapes-in-a-panic",
    ]
    .into_iter()
    .map(|case| ("forger_try", json!({ "case": case })))
    .chain([("snoop_try", json!({ "case": "forged-answer" }))])
    .collect();
    for (tool, arguments) in cases {
        // The client holds every line to be a message; what comes is the answer to the one request, and nothing else.
        let id = server.begin("tools/call", json!({ "name": tool, "arguments": arguments }));
        let answer = server.next_message();
        assert_eq!(answer["id"], id, "{answer}");
        assert!(answer["result"]["content"].is_array(), "{answer}");
        assert_eq!(server.next_within(Duration::from_millis(50)), None);
    }
    let ended = server.close();
    assert_eq!((ended.code, ended.rest.len()), (Some(0), 0));
    assert!(
        !ended.err.lines().any(|line| line.starts_with("{\"jsonrpc\"")),
        "{}",
        ended.err
    );
}

fn trap_03_spinning_guests_do_not_freeze_a_server() {
    let scene = Scene::with(&[("echo", "good_echo"), ("wild", "hostile_sandbox")]);
    let mut server = scene.server();
    let spin = json!({ "name": "wild_try", "arguments": { "case": "spin" } });
    let spinning: Vec<i64> = (0..8).map(|_| server.begin("tools/call", spin.clone())).collect();
    for value in 0..5 {
        let began = Instant::now();
        let result = server.call("echo_echo_a-u8", json!({ "value": value }));
        assert_eq!(result["structuredContent"], json!({ "value": value }));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    // No more than so many requests wait at a time, and the rest is told so.
    let more: Vec<i64> = (0..130).map(|_| server.begin("tools/call", spin.clone())).collect();
    let answer = server.answer(*more.last().unwrap());
    assert!(refused(&answer, -32000).contains("under way"), "{answer}");
    for id in spinning.iter().chain(&more) {
        server.cancel(*id);
    }
    // What was taken back counts until it has ended.
    let began = Instant::now();
    while server.request("ping", json!({}))["result"] != json!({}) {
        assert!(began.elapsed() < Duration::from_secs(20), "it is frozen");
        thread::sleep(Duration::from_millis(20));
    }
    let ended = server.close();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
}

/// Whatever an agent asks for, the files that say what it may do stay as they are, and nothing is approved.
fn trap_05_nothing_on_the_channel_administers() {
    let scene = Scene::with(&[("pay", "stripe")]);
    let key = scene.enrol_rita();
    let files = ["ambit.toml", "tools.lock", "policy/main.cedar", "keys/ledger.pub"];
    let rules = || files.map(|file| fs::read(scene.home.folder().join(file)).unwrap());
    let before = rules();
    let mut server = scene.server();
    let held = server.call("pay_refunds_create", refund(9000));
    let hold = about(&held)["held"]["hold"].clone();
    for method in [
        "approvals/approve",
        "ambit/approve",
        "policy/set",
        "tools/add",
        "completion/complete",
        "elicitation/create",
        "sampling/createMessage",
        "roots/list",
        "tasks/update",
        "skills/list",
        "subscriptions/listen",
        "resources/subscribe",
    ] {
        let answer = server.request(
            method,
            json!({ "hold": hold, "key": fs::read_to_string(&key).unwrap() }),
        );
        assert!(
            answer["error"]["code"].is_i64() || answer["result"]["completion"]["values"] == json!([]),
            "{answer}"
        );
    }
    for (tool, arguments) in [
        ("ambit_call_status", json!({ "call": call_of(&held), "approve": true })),
        (
            "ambit_call_result",
            json!({ "call": call_of(&held), "verdict": "approve" }),
        ),
        (
            "pay_refunds_create",
            json!({ "charge": "ch_laptop", "amount": 9000, "approvals": { "finance": 1 } }),
        ),
    ] {
        words(&server.call(tool, arguments));
    }
    // Nor does a request's own word about its caller count for anything.
    let result = server.result(
        "tools/call",
        json!({ "name": "pay_refunds_cancel", "arguments": { "id": "re_1" },
                "_meta": { "ambit/call": { "as": "admin", "mode": "execute" }, "as": "admin" } }),
    );
    assert!(words(&result).starts_with("refused (policy"));
    assert_eq!(
        server.call("ambit_call_status", json!({ "call": call_of(&held) }))["structuredContent"]["status"],
        "held"
    );
    assert_eq!(server.close().code, Some(0));
    assert_eq!(rules(), before);
    assert_eq!(scene.requests(), 0);
}

fn what_runs_when_the_input_closes_ends() {
    let scene = Scene::with(&[("echo", "good_echo"), ("wild", "hostile_sandbox")]);
    // What is quick is answered still.
    let mut server = scene.server();
    let id = server.begin(
        "tools/call",
        json!({ "name": "echo_hash", "arguments": { "json": "x" } }),
    );
    let ended = server.close();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        ended.rest.iter().map(|message| &message["id"]).collect::<Vec<_>>(),
        [id]
    );
    // What would go on for ever is taken back.
    let mut server = scene.server();
    server.begin(
        "tools/call",
        json!({ "name": "wild_try", "arguments": { "case": "spin" } }),
    );
    assert_eq!(server.next_within(Duration::from_millis(150)), None);
    let ended = server.close();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!((1..10).contains(&ended.took.as_secs()), "{:?}", ended.took);
    let stories = scene.stories();
    let end = &stories.last().unwrap().finished.as_ref().unwrap().what.outcome;
    assert!(
        matches!(end, End::Refused(refused) if refused.code.as_str() == "cancelled"),
        "{end:?}"
    );
    // Nobody ever said a word, or closed in the middle of one.
    let server = Server::start(&scene.home, &["--as", "assistant"]).unwrap();
    assert_eq!(server.close().code, Some(0));
    let mut server = Server::start(&scene.home, &["--as", "assistant"]).unwrap();
    server.write(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"met");
    let ended = server.close();
    assert_eq!((ended.code, ended.rest.len()), (Some(0), 0));
    // A machine that loses power: the call is interrupted, and the next server says so and serves.
    let mut server = scene.server();
    server.begin(
        "tools/call",
        json!({ "name": "wild_try", "arguments": { "case": "spin" } }),
    );
    assert_eq!(server.next_within(Duration::from_millis(150)), None);
    server.kill();
    let mut server = scene.server();
    server.call("echo_hash", json!({ "json": "x" }));
    assert_eq!(server.close().code, Some(0));
    scene.in_order();
}

fn a_kill_is_told_to_who_waits() {
    let scene = Scene::with(&[("wild", "hostile_sandbox")]);
    let mut server = scene.server();
    let id = server.begin(
        "tools/call",
        json!({ "name": "wild_try", "arguments": { "case": "spin" } }),
    );
    assert_eq!(server.next_within(Duration::from_millis(150)), None);
    scene.ambit(&["kill", "agent:assistant", "--reason", "a drill"]);
    let answer = server.answer(id);
    assert!(words(&answer["result"]).starts_with("refused (killed)"), "{answer}");
    let next = server.call("wild_try", json!({ "case": "fine" }));
    assert!(words(&next).starts_with("refused (killed)"));
    scene.ambit(&["unkill", "agent:assistant"]);
    assert_eq!(
        server.call("wild_try", json!({ "case": "fine" }))["isError"],
        json!(false)
    );
    assert_eq!(server.close().code, Some(0));
    scene.in_order();
}

fn signal(server: &Server, signal: &str) {
    let sent = Command::new("kill").args([signal, &server.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// The next notification, whose method it is.
#[track_caller]
fn notified(server: &mut Server) -> String {
    let message = server.next_message();
    message["method"]
        .as_str()
        .unwrap_or_else(|| panic!("{message}"))
        .to_owned()
}

fn what_is_taken_anew_is_told_to_who_listens() {
    let scene = Scene::with(&[("echo", "good_echo"), ("wild", "hostile_sandbox")]);
    let narrower = POLICY.replace("resource)\nunless", "resource in Tool::\"echo\")\nunless");
    assert_ne!(narrower, POLICY);
    let mut server = scene.server();
    let before = server.tools().len();
    scene.home.permit(&narrower).unwrap();
    signal(&server, "-HUP");
    assert_eq!(notified(&mut server), "notifications/tools/list_changed");
    assert_eq!(notified(&mut server), "notifications/resources/list_changed");
    assert!(server.tools().len() < before);
    let refused = server.call("wild_try", json!({ "case": "fine" }));
    assert!(words(&refused).starts_with("refused (policy)"));
    // What is no change to its caller is not told, and nothing is where the files cannot be used.
    scene
        .home
        .permit(&format!(
            "{narrower}\n@id(\"more\") forbid (principal == Agent::\"clerk\", action, resource);"
        ))
        .unwrap();
    scene.ambit(&["reload"]);
    scene.home.permit("permit (").unwrap();
    assert_eq!(scene.home.run(["reload"], "").unwrap().code, Some(2));
    assert_eq!(server.next_within(Duration::from_millis(200)), None);
    assert_eq!(server.close().code, Some(0));
    scene.home.permit(&narrower).unwrap();
    // A client that says its version with each request asks to be told.
    let mut server = Server::stateless(&scene.home, &["--as", "assistant", "--for", "ada"], STATELESS).unwrap();
    let wants = json!({ "notifications": { "toolsListChanged": true } });
    let listens = server.begin("subscriptions/listen", wants);
    assert_eq!(notified(&mut server), "notifications/subscriptions/acknowledged");
    scene.home.permit(POLICY).unwrap();
    scene.ambit(&["reload"]);
    assert_eq!(notified(&mut server), "notifications/tools/list_changed");
    server.cancel(listens);
    assert_eq!(server.tools().len(), before);
    assert_eq!(server.close().code, Some(0));
    scene.in_order();
}

/// What is offered is told to whoever has a session, whoever changed it: a tool that comes and one that goes, as policy does.
fn a_tool_that_comes_and_goes_is_told_in_each_session() {
    let scene = Scene::with(&[("echo", "good_echo")]);
    for version in SESSIONS {
        let mut server = Server::session(&scene.home, &["--as", "assistant", "--for", "ada"], version).unwrap();
        let before = server.tools().len();
        for comes in [true, false] {
            if comes {
                scene.home.add("wild", "hostile_sandbox").unwrap();
            } else {
                scene.ambit(&["tools", "remove", "wild"]);
            }
            scene.ambit(&["reload"]);
            let told = [notified(&mut server), notified(&mut server)];
            let changed = ["tools", "resources"].map(|what| format!("notifications/{what}/list_changed"));
            assert_eq!(told, changed, "{version}: {comes}");
            let tools = server.tools();
            let is_wild = |tool: &Value| tool["name"] == "wild_try";
            assert_eq!(tools.iter().any(is_wild), comes, "{version}: {tools:#?}");
            assert_eq!(tools.len() > before, comes, "{version}");
        }
        assert_eq!(server.close().code, Some(0));
    }
    scene.in_order();
}

fn what_runs_when_the_process_is_told_to_end_goes_on_with_the_next() {
    let scene = Scene::with(&[("pay", "stripe"), ("wild", "hostile_sandbox")]);
    let text = fs::read_to_string(scene.home.folder().join("ambit.toml")).unwrap();
    scene
        .home
        .configure(&format!("{text}\n[server]\ndrain = \"1s\"\n"))
        .unwrap();
    let mut server = scene.server();
    let spins = server.begin(
        "tools/call",
        json!({ "name": "wild_try", "arguments": { "case": "spin" } }),
    );
    assert_eq!(server.next_within(Duration::from_millis(150)), None);
    signal(&server, "-TERM");
    thread::sleep(Duration::from_millis(200));
    // Nothing begins any more, and who asks is told so.
    let refused = server.call("wild_try", json!({ "case": "fine" }));
    assert!(words(&refused).starts_with("refused (suspended)"), "{refused:#}");
    let answer = server.answer(spins);
    let call = call_of(&answer["result"]);
    assert!(words(&answer["result"]).starts_with("suspended: "), "{answer:#}");
    assert_eq!(about(&answer["result"])["outcome"], "suspended");
    let ended = server.close();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // The next one goes on with it, and says how it stands.
    let mut server = scene.server();
    let status = |server: &mut Server| {
        let status = server.call("ambit_call_status", json!({ "call": call }));
        status["structuredContent"]["status"].as_str().unwrap().to_owned()
    };
    let began = Instant::now();
    while status(&mut server) != "running" {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not go on");
        thread::sleep(Duration::from_millis(5));
    }
    scene.ambit(&["kill", "tool:wild", "--reason", "it has gone on for long enough"]);
    while status(&mut server) != "refused" {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not end");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(server.close().code, Some(0));
    scene.in_order();
}

fn a_home_that_does_not_open_says_nothing_on_the_pipe() {
    let scene = Scene::with(&[("echo", "good_echo")]);
    let serve = |arguments: &[&str]| {
        let all: Vec<&str> = ["serve"].iter().chain(arguments).copied().collect();
        scene.home.run(all, "").unwrap()
    };
    let nobody = serve(&["--stdio", "--as", "nobody"]);
    let several = serve(&["--stdio"]);
    let not_for = serve(&["--stdio", "--as", "assistant", "--for", "bob"]);
    let no_run = serve(&["--stdio", "--as", "assistant", "--run", "r_none"]);
    let no_way = serve(&["--as", "assistant"]);
    let running = scene.server();
    let second = serve(&["--stdio", "--as", "assistant"]);
    drop(running.close());
    fs::write(scene.home.folder().join("policy/main.cedar"), "permit (principal").unwrap();
    let bad_policy = serve(&["--stdio", "--as", "assistant"]);
    scene.home.configure("[agent.assistant]\nteem = \"support\"\n").unwrap();
    let bad_configuration = serve(&["--stdio", "--as", "assistant"]);
    let missing = scene
        .home
        .moved(Path::new("/nowhere"))
        .run(["serve", "--stdio"], "")
        .unwrap();
    for (run, part) in [
        (&nobody, "nobody"),
        (&several, "--as AGENT"),
        (&not_for, "bob"),
        (&no_run, "r_none"),
        (&no_way, "--stdio"),
        (&second, "process"),
        (&bad_policy, "main.cedar"),
        (&bad_configuration, "teem"),
        (&missing, "/nowhere"),
    ] {
        assert!(run.code.is_some_and(|code| code != 0), "{part}: {}", run.text());
        assert_eq!(run.out, "", "{part}: {}", run.text());
        assert!(run.err.contains(part), "{part}: {}", run.text());
    }
}
