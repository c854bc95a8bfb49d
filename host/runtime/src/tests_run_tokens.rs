//! Calls that are made with tokens of runs, whole.

use std::collections::BTreeSet;

use ambit_core::identity::run_token::{Attenuation, LONGEST_MS};
use ambit_core::identity::why::Why;
use ambit_core::ledger::body::{RunTokenShown, ShownBy, Stage};
use ambit_core::ledger::story::Opening;
use ambit_core::run::Run;
use ambit_core::scope::Tier;

use super::edits::{self, paid};
use super::holds::{ONE, approve, held, in_order, reviewed};
use super::*;
use crate::offers::Owner;
use crate::run_tokens::{Biscuits, RunCaller, RunTokens, mint};
use crate::runs::NewRun;

const FREE: &str = "@id(\"all\") permit (principal, action, resource);";
const HOUR: u64 = 3_600_000;

fn started(host: &Host) -> Run {
    let asked = NewRun {
        agent: "assistant".into(),
        user: Some("ada".into()),
        mode: Mode::Execute,
        length_ms: HOUR,
        caps: vec![],
        errors: None,
    };
    host.start_run(&asked).unwrap()
}

fn token(folder: &Path, run: &Run) -> String {
    mint(folder, run, 60_000).unwrap().0.word().to_owned()
}

fn narrowed(word: &str, change: impl FnOnce(&mut Attenuation)) -> String {
    let mut by = Attenuation::default();
    change(&mut by);
    Biscuits::narrow(word, &by).unwrap().word().to_owned()
}

fn with_money(word: &str, amounts: &[(&str, u64)]) -> String {
    let amounts = amounts.iter().map(|(code, most)| (code.parse().unwrap(), *most));
    let money = amounts.collect();
    narrowed(word, |by| by.money = Some(money))
}

fn asked(caller: &RunCaller, function: &str) -> CallRequest {
    CallRequest {
        run: Some(caller.run.id().to_owned()),
        narrowing: caller.narrowing.clone(),
        ..request(function)
    }
}

fn call(host: &Host, word: &str, function: &str) -> Answer {
    let caller = host.known_run_token(word).unwrap();
    host.call_shown(asked(&caller, function), Some(caller.by.clone()))
        .unwrap()
}

fn refused(answer: &Answer) -> Vec<Code> {
    assert!(stopped(answer).is_none(), "{answer:?}");
    answer.refused_effects.iter().map(|refusal| refusal.code).collect()
}

#[test]
fn a_call_with_a_token_is_its_run_s_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    let run = started(&host);
    let whole = token(folder.path(), &run);
    let reads = narrowed(&whole, |by| by.max_tier = Some(Tier::Read));
    let caller = host.known_run_token(&reads).unwrap();
    assert_eq!(
        (caller.caller.agent(), caller.caller.user()),
        ("assistant", Some("ada"))
    );
    assert_eq!(caller.run.id(), run.id());
    let answer = call(&host, &reads, "both");
    assert_eq!(refused(&answer), [Code::Narrowing]);
    let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
    assert_eq!(story.run(), Some(run.id()));
    let Opening::Accepted(accepted) = story.opening.what else {
        panic!("accepted")
    };
    assert_eq!(accepted.by.as_ref(), Some(&caller.by));
    assert_eq!(refused(&call(&host, &whole, "both")), []);
    assert_eq!(service.requests(), 3);
    // What it was narrowed to is with the call.
    let none = narrowed(&whole, |by| by.functions = Some(BTreeSet::from(["mail/*".to_owned()])));
    assert_eq!(stopped(&call(&host, &none, "get")).unwrap().code, Code::Narrowing);
    host.end_run(run.id()).unwrap();
    for word in [&whole, &reads] {
        assert_eq!(host.known_run_token(word).unwrap_err().why, Why::Revoked);
    }
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn a_token_is_of_its_home_and_of_a_run_that_is_there() {
    let folders = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let service = Service::start();
    let hosts = folders.each_ref().map(|folder| {
        home(folder.path(), &service, "");
        open(folder.path()).unwrap()
    });
    let run = started(&hosts[0]);
    let word = token(folders[0].path(), &run);
    let why = |host: &Host| host.known_run_token(&word).unwrap_err().why;
    assert_eq!(why(&hosts[1]), Why::UnknownKey, "no token was ever made there");
    token(folders[1].path(), &started(&hosts[1]));
    assert_eq!(why(&hosts[1]), Why::Signature);
    // A home whose key somebody copied is another one all the same.
    let key = folders
        .each_ref()
        .map(|folder| folder.path().join("keys/run-token.key"));
    std::fs::remove_file(&key[1]).unwrap();
    std::fs::copy(&key[0], &key[1]).unwrap();
    let [first, second] = hosts;
    drop(second);
    let second = open(folders[1].path()).unwrap();
    assert_eq!(why(&second), Why::Audience);
    assert_eq!(first.known_run_token(&word).unwrap().run.id(), run.id());
    for good_for_ms in [0, 999, LONGEST_MS + 1] {
        assert!(mint(folders[0].path(), &run, good_for_ms).is_err(), "{good_for_ms}");
    }
    let (_, longest) = mint(folders[0].path(), &run, LONGEST_MS).unwrap();
    assert!(
        longest.expires_s * 1_000 < run.started.expires,
        "no longer than its run"
    );
    first.end_run(run.id()).unwrap();
    let ended = first.known_run(run.id()).unwrap().unwrap();
    assert!(mint(folders[0].path(), &ended, 60_000).is_err());
}

#[test]
fn a_token_s_money_is_that_of_all_its_calls_and_of_all_that_came_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = paid(folder.path(), &service, FREE, "");
    let run = started(&host);
    let parent = with_money(&token(folder.path(), &run), &[("usd", 20_000)]);
    let child = with_money(&parent, &[("usd", 17_999)]);
    let posts = || service.requests();
    // Each effect is of 9000.
    assert_eq!(refused(&call(&host, &child, "pay")), []);
    assert_eq!(posts(), 2);
    assert_eq!(refused(&call(&host, &child, "pay")), [Code::Budget]);
    assert_eq!(posts(), 3, "the read alone");
    assert_eq!(refused(&call(&host, &parent, "pays")), [Code::Budget], "one of two");
    assert_eq!(posts(), 4);
    assert_eq!(refused(&call(&host, &parent, "pays")), [Code::Budget, Code::Budget]);
    // A sibling has an amount of its own, and no more than what came before it.
    let sibling = with_money(&parent, &[("usd", 17_999)]);
    assert_eq!(refused(&call(&host, &sibling, "pay")), [Code::Budget]);
    let whole = token(folder.path(), &run);
    assert_eq!(refused(&call(&host, &whole, "pays")), []);
    // What no effect alone may spend is refused before anybody is asked.
    for amounts in [&[("usd", 8_999)][..], &[("eur", 1_000_000)]] {
        let less = with_money(&whole, amounts);
        assert_eq!(refused(&call(&host, &less, "pay")), [Code::Narrowing], "{amounts:?}");
    }
    let uncounted = CallRequest {
        run: None,
        ..asked(&host.known_run_token(&parent).unwrap(), "pay")
    };
    assert_eq!(stopped(&host.call(uncounted).unwrap()).unwrap().code, Code::Run);
    let both = with_money(
        &with_money(&whole, &[("eur", 50_000), ("usd", 50_000)]),
        &[("eur", 50_000)],
    );
    assert_eq!(refused(&call(&host, &both, "pay")), [Code::Narrowing]);
    let state = host.reader().unwrap().budgets().unwrap();
    assert!(state.iter().all(|one| one.account.used <= one.cap), "{state:?}");
    drop(host);
    let key = crate::store::verifier(folder.path()).unwrap();
    Reader::open(folder.path()).unwrap().verify(&key, &[], |_| {}).unwrap();
}

#[test]
fn what_waited_spends_of_its_token_s_money_too() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = paid(folder.path(), &service, edits::POLICY, "");
    let word = with_money(&token(folder.path(), &started(&host)), &[("usd", 9_000)]);
    let calls = [0, 1].map(|_| {
        let answer = call(&host, &word, "pay");
        approve(&host, &held(&answer), "rita").unwrap();
        answer.call
    });
    assert_eq!(service.requests(), 2, "the reads");
    let ended = host.resume(calls[0].as_str(), None).unwrap();
    assert_eq!(refused(&ended), []);
    assert_eq!(service.requests(), 3);
    // Its approvals are not for that, and it goes on waiting or ends: nothing is sent.
    drop(host.resume(calls[1].as_str(), None));
    assert_eq!(service.requests(), 3);
}

#[test]
fn what_waits_does_not_go_on_once_its_token_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let run = started(&host);
    let (short, _) = mint(folder.path(), &run, 3_000).unwrap();
    let long = token(folder.path(), &run);
    let calls = [short.word(), long.as_str()].map(|word| {
        let answer = call(&host, word, "post");
        approve(&host, &held(&answer), "rita").unwrap();
        answer.call
    });
    thread::sleep(Duration::from_millis(3_100));
    assert_eq!(host.known_run_token(short.word()).unwrap_err().why, Why::Expired);
    let over = host.resume(calls[0].as_str(), None).unwrap();
    let refusal = stopped(&over).expect("stopped");
    assert_eq!(refusal.code, Code::Caller);
    assert!(refusal.message.contains("is over"), "{}", refusal.message);
    assert_eq!(service.requests(), 0);
    assert!(stopped(&host.resume(calls[1].as_str(), None).unwrap()).is_none());
    assert_eq!(service.requests(), 1);
    // Nor does a call begin.
    let late = ShownBy::RunToken(RunTokenShown {
        expires: 1_000,
        money: Vec::new(),
        token: ambit_core::digest::Digest::of(b"late"),
    });
    let late = host.call_shown(request("get"), Some(late)).unwrap();
    let opening = host.reader().unwrap().story(late.call.as_str()).unwrap().opening.what;
    assert!(matches!(opening, Opening::Denied(denied) if denied.stage == Stage::Caller));
}

#[test]
fn a_token_shows_the_calls_of_its_run_and_what_it_could_have_made() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), &Service::start(), "");
    let host = open(folder.path()).unwrap();
    let (run, other) = (started(&host), started(&host));
    let whole = token(folder.path(), &run);
    let reads = narrowed(&whole, |by| by.max_tier = Some(Tier::Read));
    let paying = with_money(&whole, &[("usd", 5)]);
    let outside = host.call(request("get")).unwrap().call;
    let elsewhere = call(&host, &token(folder.path(), &other), "get").call;
    let made = [&whole, &reads, &paying].map(|word| call(&host, word, "post").call);
    let sees = |word: &str, seen: &crate::ids::CallId| {
        let caller = host.known_run_token(word).unwrap();
        let principal = host.principal("assistant", Some("ada")).unwrap();
        let owner = Owner {
            principal: &principal,
            narrowing: &caller.narrowing,
            by: Some(&caller.by),
            run: Some(caller.run.id()),
        };
        host.own_call(seen.as_str(), owner).unwrap().is_some()
    };
    for word in [&whole, &reads, &paying] {
        assert!(!sees(word, &outside) && !sees(word, &elsewhere));
    }
    let rows = [&whole, &reads, &paying].map(|word| made.each_ref().map(|seen| sees(word, seen)));
    // Who may do all of it sees all of it; others what they made, and nothing that reached further.
    assert_eq!(rows, [[true, true, true], [false, true, false], [false, false, true]]);
}
