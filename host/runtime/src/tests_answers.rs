//! What a call's caller is told again, from the ledger alone: what it was told first.

use super::holds::{ONE, approve, held, reviewed};
use super::*;
use crate::call::Held;

fn again(host: &Host, call: &str) -> Option<Answer> {
    let story = host.reader().unwrap().story(call).unwrap();
    host.answer_again(&story).unwrap()
}

#[test]
fn what_a_call_came_to_is_told_again_as_it_was_told_first() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "[limits]\neffects = 2\n");
    let host = open(folder.path()).unwrap();
    let with = |function: &str, args: &str| CallRequest {
        args: args.to_owned(),
        ..request(function)
    };
    let elsewhere = r#"{"path":"/elsewhere"}"#;
    let mut answers = Vec::new();
    for asked in [
        request("get"),
        request("both"),
        // An effect that has no route is refused, and its guest goes on.
        with("get", elsewhere),
        with("both", elsewhere),
        with("get", "{"),
        with("get", "{}"),
        request("nothing"),
        CallRequest {
            tool: "nothing".to_owned(),
            ..request("get")
        },
        CallRequest {
            narrowing: Narrowing {
                max_tier: Some(ambit_core::scope::Tier::Read),
                ..Narrowing::default()
            },
            ..request("both")
        },
    ] {
        answers.push(host.call(asked).unwrap());
    }
    assert!(answers.iter().any(|answer| matches!(answer.outcome, Outcome::Ok(_))));
    assert!(answers.iter().any(|answer| stopped(answer).is_some()));
    assert!(answers.iter().any(|answer| !answer.refused_effects.is_empty()));
    for answer in &answers {
        assert_eq!(again(&host, answer.call.as_str()).as_ref(), Some(answer));
    }
    // By another process too.
    drop(host);
    let host = open(folder.path()).unwrap();
    for answer in &answers {
        assert_eq!(again(&host, answer.call.as_str()).as_ref(), Some(answer));
    }
}

#[test]
fn what_waits_is_told_as_it_was_and_then_what_came_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let answer = host.call(request("both")).unwrap();
    let held = held(&answer);
    drop(host);
    let host = open(folder.path()).unwrap();
    let told = again(&host, answer.call.as_str()).unwrap();
    // What would be sent is for those who decide.
    let expected = Held {
        request: None,
        ..held.clone()
    };
    assert_eq!(told.outcome, Outcome::Held(Box::new(expected.clone())));
    assert_eq!(told.end, None);
    approve(&host, &held, "rita").unwrap();
    assert_eq!(
        again(&host, answer.call.as_str()).unwrap().outcome,
        Outcome::Held(Box::new(expected)),
        "what people say is not its caller's to know"
    );
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert_eq!(again(&host, answer.call.as_str()), Some(ended));
}

#[test]
fn what_was_erased_is_told_as_such_and_what_runs_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    let ok = host.call(request("get")).unwrap().call;
    let refused = host.call(request("nothing")).unwrap();
    let before = host.reader().unwrap().entries_of(ok.as_str()).unwrap();
    let begun = ambit_core::ledger::story::story(before.first()).unwrap();
    assert_eq!(host.answer_again(&begun).unwrap(), None);
    drop(host);
    let reader = Reader::open(folder.path()).unwrap();
    let why = Reason::Subject(Subject::Agent("assistant".to_owned()));
    let erasure = reader.erasable(why, 0).unwrap();
    drop(reader);
    home::erase(folder.path(), &erasure).unwrap();
    let host = open(folder.path()).unwrap();
    let told = again(&host, ok.as_str()).unwrap();
    assert_eq!(stopped(&told).map(|refusal| refusal.code), Some(Code::Ledger));
    assert!(told.end.is_some());
    let told = again(&host, refused.call.as_str()).unwrap();
    let (told, first) = (stopped(&told).unwrap(), stopped(&refused).unwrap());
    assert_eq!(told.code, first.code);
    assert_ne!(told.message, first.message);
}
