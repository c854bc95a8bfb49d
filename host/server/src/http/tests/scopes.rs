//! What a token's scopes leave out, as its caller is told and as the ledger has it; and names that hosts go by.

use ambit_core::ledger::body::{ShownBy, Stage};
use ambit_core::ledger::story::Opening;
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
    let names = OwnNames::new("127.0.0.1:80".parse().unwrap(), None);
    for own in ["localhost", "localhost:80", "127.0.0.1", "[::1]", "LOCALHOST"] {
        assert!(names.has(own), "{own}");
        assert!(names.all().iter().any(|name| name.eq_ignore_ascii_case(own)), "{own}");
    }
    for other in ["localhost:8080", "localhost:", "evil.example", "127.0.0.1:8"] {
        assert!(!names.has(other), "{other}");
    }
    let other = OwnNames::new("127.0.0.1:8080".parse().unwrap(), None);
    assert!(other.has("localhost:8080") && !other.has("localhost"));
}
