//! What a token's scopes leave out, as its caller is told and as the ledger has it; and names that hosts go by.

use ambit_core::ledger::CallStory;
use ambit_core::ledger::body::{ShownBy, Stage};
use ambit_core::ledger::story::Opening;
use ambit_core::trace::Protocol;
use ambit_runtime::store::CallFilter;

use super::*;
use crate::http::front::OwnNames;

/// A tool whose functions do nothing.
const COMPONENT: &str = r#"(component
    (core module $m (func (export "f")))
    (core instance $i (instantiate $m))
    (func $f (canon lift (core func $i "f")))
    (instance $x (export "get" (func $f)) (export "make" (func $f)) (export "hidden" (func $f)))
    (export "acme:refunds/refunds" (instance $x)))"#;

const POLICY: &str = r#"
@id("most")
permit (principal, action == Action::"call", resource)
unless { resource == Function::"refunds/refunds.hidden" };
"#;

fn call(name: &str, arguments: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{arguments}}}}}"#)
}

/// The calls on the ledger, the last first: where each was refused, or that it was not.
fn stages(served: &Served) -> Vec<Option<(Stage, Option<String>)>> {
    let calls = served.place.host.reader().unwrap().calls(&CallFilter {
        limit: Some(50),
        ..CallFilter::default()
    });
    let stage = |opening: &Opening| match opening {
        Opening::Denied(denied) => {
            assert!(matches!(denied.by, Some(ShownBy::Token(_))), "{denied:?}");
            Some((denied.stage, denied.function.clone()))
        }
        Opening::Accepted(_) => None,
    };
    calls.unwrap().iter().map(|story| stage(&story.opening.what)).collect()
}

/// The last calls, the last first.
fn last(served: &Served, many: usize) -> Vec<CallStory> {
    let calls = CallFilter {
        limit: Some(many),
        ..CallFilter::default()
    };
    served.place.host.reader().unwrap().calls(&calls).unwrap()
}

#[test]
fn a_scope_is_asked_for_where_it_would_help_and_that_is_recorded() {
    let component = wat::parse_str(COMPONENT).unwrap();
    let more = "scopes = { reads = [\"refunds/refunds.get\"], all = [\"refunds/*\"] }";
    let served = Served::of(Place::with_tool(more, "refunds", &component, POLICY), PATIENCE);
    let few = served.place.token(json!({ "scope": "reads" }));
    assert_eq!(served.post(&few, &call("refunds_refunds_get", "{}")).status, 200);
    assert_eq!(stages(&served), [None]);

    // Policy permits it, and a token with another scope would do: who asks is told which, and that it asked is on the ledger.
    let step = served.post(&few, &call("refunds_refunds_make", "{}"));
    assert!(step.status == 403 && step.is_problem(), "{}", step.text);
    assert!(step.head.contains("error=\"insufficient_scope\""), "{}", step.head);
    assert!(step.head.contains("scope=\"all reads\""), "{}", step.head);
    let denied = Some((Stage::Grant, Some("refunds.make".to_owned())));
    assert_eq!(stages(&served), [denied.clone(), None]);

    // No scope would help: it is refused by policy as it is for anybody, and a name that means nothing as nothing.
    let hidden = served.post(&few, &call("refunds_refunds_hidden", "{}"));
    assert_eq!(hidden.status, 200);
    let all = served.place.token(json!({ "scope": "all" }));
    let to_others = served.post(&all, &call("refunds_refunds_hidden", "{}"));
    let words = |answer: &Answer| answer.json()["result"]["content"][0]["text"].clone();
    assert_eq!(words(&hidden), words(&to_others));
    assert!(!hidden.head.contains("scope"), "{}", hidden.head);
    let policy = Some((Stage::Policy, Some("refunds.hidden".to_owned())));
    assert_eq!(stages(&served), [policy.clone(), policy, denied, None]);
    let none = served.post(&few, &call("refunds_refunds_nothing", "{}"));
    assert_eq!(none.json()["error"]["code"], -32_602, "{}", none.text);
    served.ends();
}

/// Which request of its caller's a refusal belongs to is what a search by trace finds.
#[test]
fn what_a_scope_is_asked_for_is_of_its_request_s_trace() {
    let component = wat::parse_str(COMPONENT).unwrap();
    let more = "scopes = { reads = [\"refunds/refunds.get\"], all = [\"refunds/*\"] }";
    let served = Served::of(Place::with_tool(more, "refunds", &component, POLICY), PATIENCE);
    let few = served.place.token(json!({ "scope": "reads" }));
    let (said, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let more = format!("{}traceparent: 00-{said}-{span}-01\r\n", bearer(&few));
    assert_eq!(
        served
            .post_to("/mcp", &more, &call("refunds_refunds_make", "{}"))
            .status,
        403
    );
    let made = json!({ "tool": "refunds", "function": "make" }).to_string();
    assert_eq!(served.post_to("/v1/calls", &more, &made).status, 403);
    for (protocol, story) in [Protocol::Api, Protocol::Mcp].into_iter().zip(last(&served, 2)) {
        assert!(matches!(&story.opening.what, Opening::Denied(denied) if denied.stage == Stage::Grant));
        let arrival = story.arrival().unwrap();
        assert_eq!((story.trace.as_str(), arrival.protocol), (said, Some(protocol)));
        assert!(
            arrival
                .parent
                .is_some_and(|parent| parent.sampled && parent.span.to_string() == span)
        );
    }
    served.ends();
}

/// A request that is made again for a call makes none, so there is none to refuse.
#[test]
fn who_asks_again_is_asked_for_no_scope() {
    let component = wat::parse_str(COMPONENT).unwrap();
    let more = "scopes = { reads = [\"refunds/refunds.get\"], all = [\"refunds/*\"] }";
    let served = Served::of(Place::with_tool(more, "refunds", &component, POLICY), PATIENCE);
    let few = served.place.token(json!({ "scope": "reads" }));
    let again = |version: &str, member: &str| {
        let mut message: Value = serde_json::from_str(&call("refunds_refunds_make", "{}")).unwrap();
        message["params"][member] = match member {
            "requestState" => json!("c_aaaaaaaaaaaaaaaaaaaaaaaaaa"),
            _ => json!({}),
        };
        let mut more = format!("{}MCP-Protocol-Version: {version}\r\n", bearer(&few));
        if version == "2026-07-28" {
            more += "Mcp-Method: tools/call\r\nMcp-Name: refunds_refunds_make\r\n";
            message["params"]["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": version,
                "io.modelcontextprotocol/clientInfo": { "name": "tests", "version": "1" },
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        served.post_to("/mcp", &more, &message.to_string())
    };
    for member in ["requestState", "inputResponses"] {
        let answer = again("2026-07-28", member);
        assert_eq!(answer.json()["error"]["code"], -32_602, "{}", answer.text);
    }
    assert_eq!(stages(&served), []);
    // In an older version it says nothing, and a call is what is asked for.
    assert_eq!(again("2025-11-25", "requestState").status, 403);
    assert_eq!(stages(&served).len(), 1);
    served.ends();
}

/// Proxies and clients that know no `_meta` say in the head what a request is part of.
#[test]
fn a_call_is_of_the_trace_that_its_message_or_its_head_says() {
    let component = wat::parse_str(COMPONENT).unwrap();
    let served = Served::of(Place::with_tool("", "refunds", &component, POLICY), PATIENCE);
    let (key, _) = served.place.key(|_| {});
    let parent = |digit: &str| format!("00-{}-00f067aa0ba902b7-01", digit.repeat(32));
    let trace = |headers: &[String], said: Option<String>| {
        let mut message: Value = serde_json::from_str(&call("refunds_refunds_get", "{}")).unwrap();
        if let Some(said) = said {
            message["params"]["_meta"] = json!({ "traceparent": said });
        }
        let headers: String = headers.iter().map(|one| format!("traceparent: {one}\r\n")).collect();
        let answer = served.post_to("/mcp", &format!("{}{headers}", bearer(&key)), &message.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text);
        let of_call = last(&served, 1)[0].trace.clone();
        let told = answer.json()["result"]["_meta"]["ambit/call"]["trace"].clone();
        assert_eq!(told, of_call.as_str());
        of_call
    };
    let none = ["a", "b"].map(|digit| digit.repeat(32));
    assert_eq!(trace(&[parent("a")], None), none[0]);
    assert_eq!(trace(&[parent("a")], Some(parent("b"))), none[1]);
    assert_eq!(trace(&[parent("a")], Some("not one".to_owned())), none[0]);
    for headers in [
        vec![],
        vec!["not one".to_owned()],
        vec![parent("a"), parent("b")],
        vec![parent("0")],
    ] {
        assert!(!none.contains(&trace(&headers, None)), "{headers:?}");
    }
    served.ends();
}

/// What is on the ledger is what was sent.
#[test]
fn arguments_reach_a_call_to_the_letter() {
    let component = wat::parse_str(COMPONENT).unwrap();
    let served = Served::of(Place::with_tool("", "refunds", &component, POLICY), PATIENCE);
    let token = served.place.token(json!({}));
    let arguments = r#"{"n": 123456789012345678901234567890, "m":-0,"d":0.10}"#;
    let answer = served.post(&token, &call("refunds_refunds_get", arguments));
    // It takes none.
    assert_eq!(answer.json()["result"]["isError"], true, "{}", answer.text);
    let reader = served.place.host.reader().unwrap();
    let stories = reader.calls(&CallFilter {
        limit: Some(1),
        ..CallFilter::default()
    });
    let call = stories.unwrap()[0].call.clone();
    let kept = reader.payload(&call, "args").unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(kept.bytes()), arguments);
    drop(reader);
    served.ends();
}

/// Clients leave the port out where it is the usual one.
#[test]
fn a_name_at_the_usual_port_is_its_own_without_it() {
    let names = OwnNames::new("127.0.0.1:80".parse().unwrap(), false, None);
    for own in ["localhost", "localhost:80", "127.0.0.1", "[::1]", "LOCALHOST"] {
        assert!(names.has(own), "{own}");
        assert!(names.all().iter().any(|name| name.eq_ignore_ascii_case(own)), "{own}");
    }
    for other in ["localhost:8080", "localhost:", "evil.example", "127.0.0.1:8"] {
        assert!(!names.has(other), "{other}");
    }
    let other = OwnNames::new("127.0.0.1:8080".parse().unwrap(), false, None);
    assert!(other.has("localhost:8080") && !other.has("localhost"));
}
