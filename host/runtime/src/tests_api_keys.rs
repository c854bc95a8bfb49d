//! Calls that are made with a key of the home, whole.

use std::collections::BTreeSet;

use ambit_core::identity::key::NewKey;
use ambit_core::identity::why::Why;
use ambit_core::ledger::body::{ShownBy, Stage};
use ambit_core::ledger::story::Opening;

use super::holds::{ONE, approve, held, in_order, reviewed};
use super::*;
use crate::api_keys::{Act, Asked, Rotation, perform, random_key};

pub(super) fn key(host: &Host, change: impl FnOnce(&mut Asked)) -> NewKey {
    let mut asked = Asked {
        agent: "assistant".into(),
        user: Some("ada".into()),
        name: None,
        narrowing: Narrowing::default(),
        operator: None,
        good_for_ms: 60_000,
    };
    change(&mut asked);
    let new = random_key().unwrap();
    perform(&host.shared.store, Act::Create(new.shown.clone(), asked)).unwrap();
    new
}

pub(super) fn revoke(host: &Host, key: &NewKey) {
    perform(&host.shared.store, Act::Revoke(key.shown.id.clone())).unwrap();
}

fn by(key: &NewKey) -> Option<ShownBy> {
    Some(ShownBy::Key(key.shown.id.clone()))
}

#[test]
fn a_call_says_with_which_key_it_was_made_and_a_revoked_one_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    let key = key(&host, |_| {});
    let (caller, known) = host.known_key(&key.shown).unwrap();
    assert_eq!(
        (caller.agent(), caller.user(), known.id()),
        ("assistant", Some("ada"), key.shown.id.as_str())
    );
    let answer = host.call_shown(request("get"), by(&key)).unwrap();
    assert!(stopped(&answer).is_none(), "{answer:?}");
    let opening = |answer: &Answer| host.reader().unwrap().story(answer.call.as_str()).unwrap().opening.what;
    let Opening::Accepted(accepted) = opening(&answer) else {
        panic!("accepted")
    };
    assert_eq!(accepted.by, by(&key));
    // Another caller than the key's has not shown it.
    let alone = CallRequest {
        user: None,
        ..request("get")
    };
    assert_eq!(
        stopped(&host.call_shown(alone, by(&key)).unwrap()).unwrap().code,
        Code::Caller
    );
    revoke(&host, &key);
    assert_eq!(host.known_key(&key.shown).unwrap_err().why, Why::Revoked);
    let late = host.call_shown(request("get"), by(&key)).unwrap();
    let Opening::Denied(denied) = opening(&late) else {
        panic!("denied")
    };
    assert_eq!((denied.by, denied.stage), (by(&key), Stage::Caller));
    assert_eq!(service.requests(), 1);
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn no_key_is_named_like_an_id() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), &Service::start(), "");
    let host = open(folder.path()).unwrap();
    let named = |name: &str| {
        let asked = Asked {
            agent: "assistant".into(),
            user: None,
            name: Some(name.to_owned()),
            narrowing: Narrowing::default(),
            good_for_ms: 60_000,
            operator: None,
        };
        perform(&host.shared.store, Act::Create(random_key().unwrap().shown, asked)).map(drop)
    };
    for bad in ["k_", "k_laptop", "a b", ""] {
        let error = named(bad).expect_err(bad).to_string();
        assert!(error.contains("cannot be the name of a key"), "{error}");
    }
    named("laptop").unwrap();
    named("K_").unwrap();
}

#[test]
fn what_waits_does_not_go_on_once_its_key_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let (good, bad) = (key(&host, |_| {}), key(&host, |_| {}));
    for (key, is_revoked) in [(&good, false), (&bad, true)] {
        let answer = host.call_shown(request("post"), by(key)).unwrap();
        approve(&host, &held(&answer), "rita").unwrap();
        if is_revoked {
            revoke(&host, key);
        }
        let ended = host.resume(answer.call.as_str(), None).unwrap();
        assert_eq!(stopped(&ended).is_some(), is_revoked, "{ended:?}");
        assert_eq!(service.requests(), 1);
    }
    assert!(host.reader().unwrap().holds(None, 10).unwrap().is_empty());
}

#[test]
fn what_waits_does_not_go_on_once_its_key_is_over_or_another_took_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let (short, old) = (key(&host, |asked| asked.good_for_ms = 1_500), key(&host, |_| {}));
    let calls = [&short, &old].map(|key| {
        let answer = host.call_shown(request("post"), by(key)).unwrap();
        approve(&host, &held(&answer), "rita").unwrap();
        answer.call
    });
    let rotation = Rotation {
        key: old.shown.id.clone(),
        overlap_ms: 0,
        good_for_ms: None,
    };
    let new = random_key().unwrap();
    perform(&host.shared.store, Act::Rotate(new.shown.clone(), rotation)).unwrap();
    thread::sleep(Duration::from_millis(1_600));
    for call in &calls {
        let ended = host.resume(call.as_str(), None).unwrap();
        let refusal = stopped(&ended).expect("stopped");
        assert_eq!(refusal.code, Code::Caller);
        assert!(refusal.message.contains("is over"), "{}", refusal.message);
    }
    // Nor does a call begin.
    let late = host.call_shown(request("get"), by(&old)).unwrap();
    assert_eq!(stopped(&late).unwrap().code, Code::Caller);
    assert_eq!(service.requests(), 0);
    assert!(host.reader().unwrap().holds(None, 10).unwrap().is_empty());
    assert!(stopped(&host.call_shown(request("get"), by(&new)).unwrap()).is_none());
}

#[test]
fn a_key_s_scope_is_all_that_its_calls_have() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    let key = key(&host, |asked| {
        asked.narrowing.functions = Some(BTreeSet::from(["things/get".to_owned(), "things/both".to_owned()]));
        asked.narrowing.max_tier = Some(ambit_core::scope::Tier::Read);
    });
    let (_, known) = host.known_key(&key.shown).unwrap();
    // What the caller gives up besides is gone too, and nothing that it says gives anything back.
    let own = Narrowing {
        functions: Some(BTreeSet::from(["things/*".to_owned()])),
        max_tier: Some(ambit_core::scope::Tier::Commit),
        ..Narrowing::default()
    };
    let call = |function: &str| {
        let narrowed = CallRequest {
            narrowing: known.narrowing().and(&own),
            ..request(function)
        };
        host.call_shown(narrowed, by(&key)).unwrap()
    };
    assert!(stopped(&call("get")).is_none());
    assert_eq!(stopped(&call("post")).unwrap().code, Code::Narrowing);
    assert_eq!(call("both").refused_effects[0].code, Code::Narrowing);
    assert_eq!(service.requests(), 2);
}
