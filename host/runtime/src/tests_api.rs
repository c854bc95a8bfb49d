//! What the HTTP API stands on: calls that are made once for a word, calls that somebody is told of while they run, operators who are heard
//! over HTTP, and entries that are looked for.

use std::sync::mpsc::channel;

use ambit_core::digest::Digest;
use ambit_core::hold::{Verdict, Vote};
use ambit_core::identity::operator::Scope;
use ambit_core::identity::why::{Denied, Why};
use ambit_core::ledger::Principal;
use ambit_core::ledger::body::{OperatorKey, OperatorShown, ShownBy};
use ambit_core::search::Query;
use ambit_core::stop::{Kind, Stop};
use serde_json::json;

use super::holds::{ONE, held, in_order, key, reviewed, vote};
use super::*;
use crate::api_keys::{self, Act, Asked, perform, random_key};
use crate::call::{self, Began, Coming, Known};
use crate::cancel::Cancel;
use crate::operators::{Answer as Answered, Request};
use crate::search::{Page, SearchError, search};
use crate::store::StoreError;

fn principal(host: &Host) -> Principal {
    host.principal("assistant", Some("ada")).unwrap()
}

fn coming(host: &Host, word: &str, request: &str) -> Coming {
    Coming {
        once: Some(host.once(&principal(host), None, word, request.as_bytes())),
        ..Coming::default()
    }
}

#[test]
fn a_call_is_made_once_for_a_word_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    let first = host.call_coming(request("get"), coming(&host, "w", "one")).unwrap();
    assert!(matches!(first.outcome, Outcome::Ok(_)), "{first:?}");
    let before = service.requests();
    let again = host.call_coming(request("get"), coming(&host, "w", "one"));
    let Err(call::Fault::Store(StoreError::Repeated { call })) = again else {
        panic!("{again:?}")
    };
    assert_eq!((call.as_str(), service.requests()), (first.call.as_str(), before));
    drop(host);
    let host = open(folder.path()).unwrap();
    let known = |word: &str, request: &str| {
        host.known(&host.once(&principal(&host), None, word, request.as_bytes()))
            .unwrap()
    };
    let call = first.call.as_str().to_owned();
    assert_eq!(known("w", "one"), Known::Same(call.clone()));
    assert_eq!(known("w", "other"), Known::Other(call));
    assert_eq!(known("v", "one"), Known::No);
    let other = host.principal("assistant", None).unwrap();
    assert_eq!(host.known(&host.once(&other, None, "w", b"one")).unwrap(), Known::No);
    // One that is refused is one for its word too.
    let denied = CallRequest {
        tool: "none".to_owned(),
        ..request("get")
    };
    let refused = host.call_coming(denied.clone(), coming(&host, "v", "one")).unwrap();
    assert!(stopped(&refused).is_some());
    assert!(host.call_coming(denied, coming(&host, "v", "one")).is_err());
    drop(host);
    in_order(folder.path(), first.call.as_str());
}

/// The call is on the ledger by then, as one that runs.
#[test]
fn who_is_told_of_a_call_finds_it_on_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    let (says, hears) = channel();
    let reads = host.clone();
    let cancel = Cancel::new();
    let ends = cancel.clone();
    let began = Began::new(move |call| {
        let story = reads.reader().unwrap().story(call.as_str()).unwrap();
        let other = format!("c_{}", "a".repeat(26));
        let runs = story.finished.is_none() && ends.ends(call.as_str()) && !ends.ends(&other);
        says.send((call.clone(), runs)).unwrap();
    });
    let coming = Coming {
        began: Some(began),
        ..Coming::default()
    };
    let request = CallRequest {
        cancel: Some(cancel.clone()),
        ..request("get")
    };
    let answer = host.call_coming(request, coming).unwrap();
    assert_eq!(hears.recv().unwrap(), (answer.call.clone(), true));
    // One that has ended is not there to be taken back.
    assert!(!cancel.ends(answer.call.as_str()));
}

/// A call that goes on does so by whoever has it go on: what its caller began it with ends it no more.
#[test]
fn what_an_operator_has_go_on_is_not_its_caller_s_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let cancel = Cancel::new();
    let begun = CallRequest {
        cancel: Some(cancel.clone()),
        ..request("both")
    };
    let answer = host.call(begun).unwrap();
    host.vote(&vote(&held(&answer), "rita", Verdict::Approve), None)
        .unwrap();
    cancel.cancel();
    assert!(!cancel.ends(answer.call.as_str()));
    let resumed = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(resumed.outcome, Outcome::Ok(_)), "{resumed:?}");
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

/// A stop, a key or a narrower credential refuses a call today: the word is good for the next attempt.
#[test]
fn a_refusal_that_passes_uses_up_no_word() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    let known = |word: &str| host.known(&host.once(&principal(&host), None, word, b"one")).unwrap();
    let kill = Stop {
        kind: Kind::Kill,
        scope: "agent:assistant".parse().unwrap(),
    };
    host.stop(&kill, "it errs").unwrap();
    let refused = host.call_coming(request("get"), coming(&host, "w", "one")).unwrap();
    assert_eq!(stopped(&refused).map(|refusal| refusal.code), Some(Code::Killed));
    assert_eq!(known("w"), Known::No);
    host.lift(&kill, Some("mended")).unwrap();
    let narrow = CallRequest {
        narrowing: Narrowing {
            functions: Some(std::collections::BTreeSet::new()),
            ..Narrowing::default()
        },
        ..request("get")
    };
    let refused = host.call_coming(narrow, coming(&host, "w", "one")).unwrap();
    assert_eq!(stopped(&refused).map(|refusal| refusal.code), Some(Code::Narrowing));
    assert_eq!(known("w"), Known::No);
    let made = host.call_coming(request("get"), coming(&host, "w", "one")).unwrap();
    assert!(matches!(made.outcome, Outcome::Ok(_)), "{made:?}");
    // One that was asked for at the same time and is refused by what passes is that call, and is not written down.
    host.stop(&kill, "it errs again").unwrap();
    let size = || host.reader().unwrap().size().unwrap();
    let before = size();
    let again = host.call_coming(request("get"), coming(&host, "w", "one"));
    let Err(call::Fault::Store(StoreError::Repeated { call })) = again else {
        panic!("{again:?}")
    };
    assert_eq!((call.as_str(), size()), (made.call.as_str(), before));
    drop(host);
    in_order(folder.path(), made.call.as_str());
}

fn ivy() -> OperatorShown {
    OperatorShown {
        name: "ivy".into(),
        shown: ShownBy::Key(format!("k_{}", "a".repeat(26))),
    }
}

#[test]
fn an_operator_over_http_hands_in_a_vote_and_has_the_call_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let answer = host.call(request("both")).unwrap();
    let held = held(&answer);
    let request = |note: String| Request::Vote { note, reason: None };
    // Whoever hands it in, it is its person's: one that nobody signed counts nothing.
    let forged = vote(&held, "rita", Verdict::Approve).replace("rita", "sam");
    let refused = host.operate(request(forged), &ivy());
    assert!(matches!(refused, Err(OpenError::Refused(_))), "{refused:?}");
    // Nothing is kept of one about a hold that there is not.
    let size = || host.reader().unwrap().size().unwrap();
    let before = size();
    let about_nothing = Vote {
        person: "rita".to_owned(),
        hold: Digest::of(b"nothing"),
        verdict: Verdict::Approve,
        group: "reviewer".to_owned(),
        expires_ms: held.expires_ms,
        in_stead_of: None,
    };
    let refused = host.operate(request(about_nothing.sign(&key("rita")).unwrap()), &ivy());
    assert!(matches!(refused, Err(OpenError::Refused(_))), "{refused:?}");
    assert_eq!(size(), before);
    let counted = host
        .operate(request(vote(&held, "rita", Verdict::Approve)), &ivy())
        .unwrap();
    assert!(matches!(counted, Answered::Voted { missing: None, .. }), "{counted:?}");
    let entry = host.reader().unwrap().entry(size() - 1).unwrap();
    assert!(
        matches!(entry.body(), Body::HoldVoted(voted) if voted.by == Some(ivy())),
        "who handed it in is there: {}",
        entry.text()
    );
    let resume = Request::Resume {
        call: answer.call.as_str().to_owned(),
    };
    let Answered::Called(called) = host.operate(resume, &ivy()).unwrap() else {
        panic!("not called")
    };
    assert!(matches!(called.outcome, Outcome::Ok(_)), "{called:?}");
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn a_key_is_an_agent_s_or_an_operator_s() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    let asked = |operator: Option<OperatorKey>| Asked {
        agent: if operator.is_some() {
            String::new()
        } else {
            "assistant".into()
        },
        user: None,
        name: None,
        narrowing: Narrowing::default(),
        operator,
        good_for_ms: 60_000,
    };
    let ivy = OperatorKey {
        name: "ivy".into(),
        scopes: [Scope::Read].into(),
    };
    let make = |asked: Asked| {
        let new = random_key().unwrap();
        perform(&host.shared.store, Act::Create(new.shown.clone(), asked)).unwrap();
        new.shown
    };
    let why = |denied: Denied| denied.why;
    let (agent, operator) = (make(asked(None)), make(asked(Some(ivy.clone()))));
    assert_eq!(host.known_operator(&operator).unwrap(), ivy);
    assert_eq!(why(host.known_key(&operator).unwrap_err()), Why::Audience);
    assert_eq!(why(host.known_operator(&agent).unwrap_err()), Why::Audience);
    assert!(host.known_key(&agent).is_ok());
    // Without [server.operators] it is good for nothing, and not made by the command.
    assert!(api_keys::check(host.config(), &asked(Some(ivy))).is_err());
    // One that takes its place is the same operator's, for the same.
    let next = random_key().unwrap();
    let rotation = api_keys::Rotation {
        key: operator.id.clone(),
        overlap_ms: 0,
        good_for_ms: None,
    };
    perform(&host.shared.store, Act::Rotate(next.shown.clone(), rotation)).unwrap();
    assert_eq!(host.known_operator(&next.shown).unwrap().name, "ivy");
    assert_eq!(why(host.known_operator(&operator).unwrap_err()), Why::Expired);
    drop(host);
    verifies(folder.path());
}

/// A query of these members.
fn query(change: impl FnOnce(&mut Query)) -> Query {
    let mut query = Query::default();
    change(&mut query);
    query
}

fn page(limit: usize) -> Page {
    Page {
        limit,
        ..Page::default()
    }
}

#[test]
fn entries_are_found_by_what_they_and_their_calls_say() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    let answer = host.call(request("post")).unwrap();
    let reader = host.reader().unwrap();
    let found = |query: &Query, values: bool| {
        let page = Page { values, ..page(100) };
        search(&reader, query, page).unwrap().found
    };
    let kinds = |query: &Query| -> Vec<String> {
        let all = found(query, false);
        all.iter()
            .map(|found| found.entry["kind"].as_str().unwrap().to_owned())
            .collect()
    };
    // What an outcome leaves to its intent is known of it.
    let by_connection = kinds(&query(|query| query.connection = Some("things".into())));
    assert_eq!(
        by_connection.first().map(String::as_str),
        Some("effect-outcome"),
        "{by_connection:?}"
    );
    assert_eq!(
        by_connection.last().map(String::as_str),
        Some("effect-intent"),
        "{by_connection:?}"
    );
    let of_trace = kinds(&query(|query| query.trace = Some(answer.trace.to_string())));
    assert_eq!(
        of_trace.first().map(String::as_str),
        Some("call-finished"),
        "the newest first"
    );
    assert_eq!(of_trace.last().map(String::as_str), Some("call-accepted"));
    assert!(of_trace.len() >= 4, "{of_trace:?}");
    let path = query(|query| query.text = Some("/things/1".into()));
    assert!(found(&path, false).is_empty(), "entries say no one's words");
    let with = found(&path, true);
    assert_eq!(with.len(), 1);
    assert!(with[0].values.iter().any(|name| name == "args"), "{:?}", with[0].values);
}

#[test]
fn a_page_is_no_larger_than_it_may_be_and_costs_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    for _ in 0..40 {
        host.call(request("get")).unwrap();
    }
    let reader = host.reader().unwrap();
    let nothing = query(|query| query.agent = Some("nobody".into()));
    // In tests a page looks at 64 entries.
    let (mut pages, mut before) = (0, None);
    loop {
        let searched = search(&reader, &nothing, Page { before, ..page(10) }).unwrap();
        assert!(searched.found.is_empty());
        pages += 1;
        match searched.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    let size = reader.size().unwrap();
    assert_eq!(pages, size.div_ceil(64), "{size}");
    let ended = query(|query| query.kind = Some(ambit_core::ledger::Kind::CallFinished));
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let searched = search(&reader, &ended, Page { before, ..page(3) }).unwrap();
        assert!(searched.found.len() <= 3);
        seen.extend(searched.found.iter().map(|found| found.index));
        match searched.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    assert_eq!(seen.len(), 40);
    assert!(seen.is_sorted_by(|newer, older| newer > older));
    let refused = |page: Page| match search(&reader, &ended, page) {
        Err(SearchError::Refused(refusal)) => refusal.message,
        other => panic!("{other:?}"),
    };
    assert!(refused(page(0)).contains("limit") && refused(page(201)).contains("limit"));
    let forged = Page {
        before: Some(size + 1),
        ..page(1)
    };
    assert!(refused(forged).contains("none was looked at"));
}

/// What a caller is shown of a tool is what its credentials leave of what the tool reaches.
#[test]
fn a_contract_leaves_out_what_its_caller_gave_up() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let budgets = r#"
[agent.other]
team = "support"
tenant = "acme"
users = ["someone"]
[budget.adas]
user = "ada"
unit = "calls"
window = "day"
cap = 5
[budget.someones]
user = "someone"
unit = "calls"
window = "day"
cap = 7
"#;
    home(folder.path(), &service, budgets);
    let host = open(folder.path()).unwrap();
    let own = |narrowing: Narrowing| {
        let mut offered = host.offers("assistant", Some("ada"), Mode::Execute, None).unwrap();
        for one in &mut offered {
            one.narrow(&narrowing);
        }
        let own = host.own_contract("things", ("assistant", Some("ada")), &offered, &narrowing);
        own.unwrap().map(|own| (own.document(), own.page()))
    };
    let (whole, page) = own(Narrowing::default()).unwrap();
    let routes = |document: &serde_json::Value| document["reaches"][0]["routes"].as_array().unwrap().len();
    assert_eq!((whole["functions"].as_array().unwrap().len(), routes(&whole)), (7, 2));
    assert!(whole["reaches"][0]["origin"].is_string());
    let imports = whole["imports"].as_array().unwrap();
    assert!(imports.iter().any(|import| import["scope"].is_string()), "{whole:#}");
    assert!(whole["functions"][0]["input_schema"].is_object(), "{whole:#}");
    // What there is for others is not told.
    assert!(page.contains("`adas`") && !page.contains("someones"), "{page}");
    assert!(
        whole["rules"][0].get("text").is_none() && !page.contains("permit ("),
        "{page}"
    );
    // Without its connection it reaches nothing, and is not told where that is.
    let (cut, page) = own(Narrowing {
        connections: Some(std::collections::BTreeSet::new()),
        ..Narrowing::default()
    })
    .unwrap();
    assert_eq!(
        (routes(&cut), &cut["reaches"][0]["origin"]),
        (0, &serde_json::Value::Null)
    );
    assert!(page.contains("Reach any service: it is connected to none."), "{page}");
    // Of a narrower scope only what that covers too.
    let scope = format!("GET http://127.0.0.1:{}/things/{{id}}", service.port);
    let scope = ambit_core::scope::HttpScope::parse(&scope).unwrap();
    let (reads, _) = own(Narrowing {
        scopes: [("things".to_owned(), scope)].into(),
        ..Narrowing::default()
    })
    .unwrap();
    assert_eq!(
        (routes(&reads), &reads["reaches"][0]["routes"][0]["route"]),
        (1, &json!("things.get"))
    );
    // Nothing of it is permitted, and there is nothing of another name.
    let none = Narrowing {
        functions: Some(std::collections::BTreeSet::new()),
        ..Narrowing::default()
    };
    assert!(own(none).is_none());
    assert!(host.contract("things", Some("assistant")).unwrap().is_some());
    assert!(host.contract("none", None).unwrap().is_none());
    assert!(host.contract("things", Some("nobody")).is_err());
}
