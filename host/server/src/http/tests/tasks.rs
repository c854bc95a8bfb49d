//! Calls as tasks, and calls that are asked about by the request that made them, for callers who show who they are with each request.

use ambit_core::grant::Narrowing;
use ambit_core::ledger::body::ReloadedBy;
use ambit_runtime::home;
use ambit_runtime::store::CallFilter;

use super::*;

/// A tool with two functions that do nothing, and one that computes for as long as nobody stops it.
const COMPONENT: &str = r#"(component
    (core module $m (func (export "f")) (func (export "spin") (loop $on (br $on))))
    (core instance $i (instantiate $m))
    (func $f (canon lift (core func $i "f")))
    (func $spin (canon lift (core func $i "spin")))
    (instance $x (export "get" (func $f)) (export "make" (func $f)) (export "spin" (func $spin)))
    (export "acme:refunds/refunds" (instance $x)))"#;

const POLICY: &str = r#"@id("all") permit (principal, action == Action::"call", resource);"#;
const ENDLESS: &str = "[limits]\nfuel = 4000000000000000\nwall_ms = 60000\n";

fn served() -> Served {
    let component = wat::parse_str(COMPONENT).unwrap();
    Served::of(Place::with_tool(ENDLESS, "refunds", &component, POLICY), PATIENCE)
}

fn tasks() -> Value {
    json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } })
}

/// A request of the version that has no sessions, of a client that takes this.
fn ask(served: &Served, word: &str, takes: &Value, method: &str, mut params: Value) -> Value {
    let name = params["name"]
        .as_str()
        .or(params["taskId"].as_str())
        .unwrap_or_default();
    let more = format!(
        "{}MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\nMcp-Name: {name}\r\n",
        bearer(word)
    );
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "tests", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": takes,
    });
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    served.post_to("/mcp", &more, &message.to_string()).json()
}

fn call(served: &Served, word: &str, takes: &Value, name: &str) -> Value {
    ask(
        served,
        word,
        takes,
        "tools/call",
        json!({ "name": name, "arguments": {} }),
    )
}

fn calls(served: &Served) -> usize {
    let all = CallFilter {
        limit: Some(50),
        ..CallFilter::default()
    };
    served.place.host.reader().unwrap().calls(&all).unwrap().len()
}

fn id(result: &Value) -> String {
    result["_meta"]["ambit/call"]["call"].as_str().unwrap().to_owned()
}

#[test]
fn a_call_that_takes_longer_goes_on_as_a_task_of_its_caller_alone() {
    let served = served();
    let (whole, _) = served.place.key(|_| {});
    let (narrow, _) = served.place.key(|asked| {
        asked.narrowing = Narrowing {
            functions: Some(["refunds/refunds.get".to_owned()].into()),
            ..Narrowing::default()
        };
    });
    let (other, _) = served.place.key(|asked| asked.agent = "spy".into());
    let created = call(&served, &whole, &tasks(), "refunds_refunds_spin");
    let task = created["result"].clone();
    assert_eq!(
        (&task["resultType"], &task["status"], &task["ttlMs"]),
        (&json!("task"), &json!("working"), &Value::Null),
        "{created:#}"
    );
    let about = json!({ "taskId": task["taskId"] });
    let get = |word: &str| ask(&served, word, &tasks(), "tasks/get", about.clone());
    let got = get(&whole)["result"].clone();
    assert_eq!(
        (&got["resultType"], &got["status"], &got["taskId"]),
        (&json!("complete"), &json!("working"), &task["taskId"])
    );
    assert!(
        got["statusMessage"].as_str().unwrap().starts_with("running: "),
        "{got:#}"
    );
    // For others it is not there, and neither is what there is not; nobody learns which of the two it is.
    let nothing = json!({ "taskId": format!("c_{}", "a".repeat(26)) });
    let of_nothing = ask(&served, &whole, &tasks(), "tasks/get", nothing)["error"].clone();
    assert_eq!(of_nothing["code"], -32_602);
    for word in [&narrow, &other] {
        for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
            let mut params = about.clone();
            params["inputResponses"] = json!({});
            assert_eq!(
                ask(&served, word, &tasks(), method, params)["error"],
                of_nothing,
                "{method}"
            );
        }
    }
    // Nor is it for a client that does not take tasks.
    for method in ["tasks/get", "tasks/cancel"] {
        let answer = ask(&served, &whole, &json!({}), method, about.clone());
        assert_eq!(answer["error"]["code"], -32_021, "{answer:#}");
    }
    assert_eq!(get(&whole)["result"]["status"], "working", "nobody took it back");
    // Whatever a client answers that was asked for nothing changes nothing.
    let answers =
        json!({ "taskId": task["taskId"], "inputResponses": { "held": { "action": "accept", "content": {} } } });
    let taken = ask(&served, &whole, &tasks(), "tasks/update", answers);
    assert_eq!(taken["result"], json!({ "resultType": "complete" }));
    let taken = ask(&served, &whole, &tasks(), "tasks/cancel", about.clone());
    assert_eq!(taken["result"], json!({ "resultType": "complete" }));
    let began = Instant::now();
    let ended = loop {
        let got = get(&whole)["result"].clone();
        if got["status"] != "working" {
            break got;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it does not end");
    };
    assert_eq!(ended["status"], "cancelled");
    assert!(ended["statusMessage"].as_str().unwrap().contains("took the call back"));
    assert!(ended["result"].is_null() && ended["lastUpdatedAt"].as_str() > ended["createdAt"].as_str());
    served.ends();
}

#[test]
fn a_task_comes_to_what_its_request_would_have_been_answered_with() {
    let served = served();
    let (key, _) = served.place.key(|_| {});
    for (name, takes) in [("refunds_refunds_get", json!({})), ("refunds_refunds_make", tasks())] {
        // What is quick is answered at once, whatever its client takes.
        let result = call(&served, &key, &takes, name)["result"].clone();
        assert_eq!(
            (&result["resultType"], &result["isError"]),
            (&json!("complete"), &json!(false))
        );
        let got = ask(&served, &key, &tasks(), "tasks/get", json!({ "taskId": id(&result) }));
        assert_eq!(got["result"]["status"], "completed", "{got:#}");
        assert_eq!(got["result"]["result"], result);
    }
    served.ends();
}

/// A request that is made again for a call says which, and calls nothing.
#[test]
fn a_request_for_a_call_that_is_there_already_makes_none() {
    let served = served();
    let (key, _) = served.place.key(|_| {});
    let (other, _) = served.place.key(|asked| asked.agent = "spy".into());
    let first = call(&served, &key, &json!({}), "refunds_refunds_get")["result"].clone();
    let made = calls(&served);
    let again = |word: &str, name: &str, state: &str| {
        let answered = json!({ "held": { "action": "accept" } });
        let params = json!({ "name": name, "arguments": {}, "requestState": state, "inputResponses": answered });
        ask(&served, word, &json!({}), "tools/call", params)
    };
    assert_eq!(again(&key, "refunds_refunds_get", &id(&first))["result"], first);
    // Not of another function, nor for somebody else, nor of what there is not.
    for (word, name, state) in [
        (&key, "refunds_refunds_make", id(&first)),
        (&other, "refunds_refunds_get", id(&first)),
        (&key, "refunds_refunds_get", format!("c_{}", "a".repeat(26))),
        (&key, "refunds_refunds_get", "' OR 1".to_owned()),
    ] {
        let answer = again(word, name, &state);
        assert_eq!(answer["error"]["code"], -32_602, "{name}: {answer:#}");
    }
    // Answers of which nobody knows what they are to.
    let params = json!({ "name": "refunds_refunds_get", "arguments": {}, "inputResponses": {} });
    let answer = ask(&served, &key, &json!({}), "tools/call", params);
    assert_eq!(answer["error"]["code"], -32_602, "{answer:#}");
    assert_eq!(calls(&served), made);
    served.ends();
}

/// What a call came to is told in the form that it was told in first, whatever its tool is by then.
#[test]
fn a_result_is_of_the_component_that_its_call_ran_in() {
    let of = |[lifted, imported, exported]: [&str; 3]| {
        let text = format!(
            r#"(component
            (core module $m (func (export "f") (result i32) i32.const 7))
            (core instance $i (instantiate $m))
            (type $r (record (field "n" u32)))
            (component $c
                (import "import-type-r" (type $r0 (eq $r)))
                (import "import-get" (func $get (result {imported})))
                (export $r1 "r" (type $r0))
                (export "get" (func $get) (func (result {exported}))))
            (func $get (result {lifted}) (canon lift (core func $i "f")))
            (instance $x (instantiate $c (with "import-type-r" (type $r)) (with "import-get" (func $get))))
            (export "acme:refunds/refunds" (instance $x)))"#
        );
        wat::parse_str(text).unwrap()
    };
    let served = Served::of(Place::with_tool("", "refunds", &of(["u32"; 3]), POLICY), PATIENCE);
    let (key, _) = served.place.key(|_| {});
    let first = call(&served, &key, &tasks(), "refunds_refunds_get")["result"].clone();
    assert_eq!(first["structuredContent"], json!({ "value": 7 }), "{first:#}");
    let newer = of(["$r", "$r0", "$r1"]);
    let manifest = ambit_core::manifest::Manifest::read(&newer).unwrap();
    home::accept_tool(served.place.folder.path(), "refunds", &newer, &manifest).unwrap();
    served.place.host.reload(ReloadedBy::Operator).unwrap();
    let second = call(&served, &key, &tasks(), "refunds_refunds_get")["result"].clone();
    assert_eq!(second["structuredContent"], json!({ "n": 7 }), "{second:#}");
    for result in [first, second] {
        let got = ask(&served, &key, &tasks(), "tasks/get", json!({ "taskId": id(&result) }));
        assert_eq!(got["result"]["result"], result);
    }
    served.ends();
}

/// Older versions have other things of these names, or none.
#[test]
fn a_client_of_an_older_version_sees_nothing_of_tasks() {
    let served = served();
    let (key, _) = served.place.key(|_| {});
    let opened = served.post(&key, &initialize("2025-11-25")).json();
    assert!(opened["result"]["capabilities"]["extensions"].is_null(), "{opened:#}");
    let found = ask(&served, &key, &json!({}), "server/discover", json!({}));
    assert_eq!(
        found["result"]["capabilities"]["extensions"],
        tasks()["extensions"],
        "{found:#}"
    );
    let params = json!({
        "name": "refunds_refunds_get", "arguments": {}, "task": { "ttl": 60_000 }, "requestState": "x", "inputResponses": {},
    });
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    let more = format!("{}MCP-Protocol-Version: 2025-11-25\r\n", bearer(&key));
    let result = served.post_to("/mcp", &more, &message.to_string()).json()["result"].clone();
    assert_eq!(result["isError"], false, "{result:#}");
    for method in ["tasks/get", "tasks/cancel", "tasks/list", "tasks/result"] {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { "taskId": id(&result) } });
        let answer = served.post_to("/mcp", &more, &message.to_string()).json();
        assert!(
            answer["error"]["code"].is_i64() && answer["result"].is_null(),
            "{answer:#}"
        );
    }
    served.ends();
}
