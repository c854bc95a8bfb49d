//! What passes between a question and what is done by its answer: tries that come to nothing, clocks, engines, and much that waits.

use std::sync::atomic::AtomicI64;

use ambit_core::digest::Digest;
use ambit_core::hold::Standing;
use ambit_core::ledger::EntryDraft;
use ambit_core::ledger::body::EffectHeld;
use ambit_core::policy::PolicySet;

use super::flow::{DOWN, KEYED, Scripted, home_with, letters};
use super::holds::{ONE, TWO, approve, delegate, held, in_order, in_stead_of, key, reviewed};
use super::objects::{BY_PATH, Things, put, set_up, written};
use super::replayed::replayed;
use super::*;
use crate::approvals::{ApprovalError, Waiting};
use crate::clock::now_ms;
use crate::dead_letters::LetterError;
use crate::store::{Batch, Store, StoreOptions, rows_read};
use crate::whatif::{WhatIf, Word};

const HOUR_MS: i64 = 3_600_000;

/// As often as it is tried, and whatever it comes to, in whichever process: an approved effect keeps what its call may have.
#[test]
fn looking_up_what_an_approved_effect_needs_uses_up_none_of_its_call_s_effects() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    // The effect, what it changes, and that once more when it is done: there is no other.
    let mut host = set_up(folder.path(), &things, ONE, BY_PATH, "[limits]\neffects = 3\n");
    let answer = host.call(put(r#"{"email":"b@x"}"#)).unwrap();
    approve(&host, &held(&answer), "rita").unwrap();
    things.state.lock().instead = Some((503, "{}".to_owned()));
    for _ in 0..3 {
        let waits = host.resume(answer.call.as_str(), None).unwrap();
        assert_eq!(waits.refused_effects.last().unwrap().code, Code::Object, "{waits:?}");
        held(&waits);
        drop(host);
        host = open(folder.path()).unwrap();
    }
    things.state.lock().instead = None;
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
    assert_eq!((story.looked_up(), story.effects.len()), (4, 7));
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn a_currency_that_is_looked_up_again_uses_up_no_effect_of_the_call() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    drop(set_up(folder.path(), &things, ONE, BY_PATH, ""));
    let money = r#"money = { amount = "note", currency = { lookup = "things.get", from = "name", read = "email" } }"#;
    let text = written(&things, BY_PATH, "[limits]\neffects = 2\n");
    let text = text.replacen(&format!("object = {{ {BY_PATH} }}\n[tool"), "[tool", 1);
    let text = text.replace(
        &format!(
            "body = \"json\"\nfields = [\"email\", \"name\", \"note\"]\nreads = [\"id\"]\nobject = {{ {BY_PATH} }}\n"
        ),
        &format!("body = \"json\"\nfields = [\"email\", \"name\", \"note\"]\nreads = [\"id\"]\n{money}\n"),
    );
    assert!(text.contains(money), "{text}");
    std::fs::write(folder.path().join("ambit.toml"), text).unwrap();
    things
        .state
        .lock()
        .put("1", serde_json::json!({ "id": "1", "email": "usd", "name": "a" }));
    let host = open(folder.path()).unwrap();
    let answer = host.call(put(r#"{"name":"1","note":5}"#)).unwrap();
    let waits = held(&answer);
    assert_eq!(waits.spend.map(|spend| spend.minor), Some(5));
    approve(&host, &waits, "rita").unwrap();
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert_eq!(ended.refused_effects, []);
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn what_an_effect_needs_is_not_looked_up_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let host = set_up(folder.path(), &things, ONE, BY_PATH, "");
    let answer = host.call(put(r#"{"email":"b@x"}"#)).unwrap();
    approve(&host, &held(&answer), "rita").unwrap();
    things.state.lock().instead = Some((503, "{}".to_owned()));
    for _ in 0..12 {
        held(&host.resume(answer.call.as_str(), None).unwrap());
    }
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(ended.refused_effects.last().unwrap().code, Code::Stale, "{ended:?}");
    assert!(host.reader().unwrap().holds(None, 9).unwrap().is_empty());
    assert!(!things.seen().iter().any(|seen| seen.starts_with("POST")));
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

/// As many more calls that wait as a call does, of other agents.
fn more_of(host: &Host, call: &str, range: std::ops::Range<u32>) {
    let entries = host.reader().unwrap().entries_of(call).unwrap();
    let copy = |number: u32| {
        entries.iter().filter_map(move |entry| {
            let body = match entry.body() {
                Body::CallAccepted(accepted) => Body::from(accepted.clone()),
                Body::EffectHeld(held) => Body::from(EffectHeld {
                    hold: Digest::of(&number.to_be_bytes()),
                    ..held.clone()
                }),
                _ => return None,
            };
            let mut principal = entry.principal().cloned().unwrap();
            principal.agent = format!("other{}", number / 100);
            Some(EntryDraft {
                call: Some(id_of(number)),
                principal: Some(principal),
                ..EntryDraft {
                    trace: entry.trace().map(str::to_owned),
                    ..of_call(body)
                }
            })
        })
    };
    for from in range.clone().step_by(500) {
        let entries = (from..(from + 500).min(range.end)).flat_map(copy).collect();
        let batch = Batch {
            entries,
            ..Batch::default()
        };
        host.shared.store.commit(batch).unwrap();
    }
}

/// An id of a call, another for each number.
fn id_of(number: u32) -> String {
    let digits = format!("{number:026}");
    let letters = digits.bytes().map(|digit| char::from(digit - b'0' + b'a'));
    letters.fold("c_".to_owned(), |id, letter| format!("{id}{letter}"))
}

fn of_call(body: Body) -> EntryDraft {
    EntryDraft {
        body,
        call: None,
        config: Some(Digest::of(b"config")),
        policy: Some(Digest::of(b"policy")),
        principal: None,
        tool: Some(Digest::of(b"tool")),
        trace: None,
    }
}

/// To hold an effect reads no list that grows with what waits, with budgets or without.
#[test]
fn holding_reads_no_more_where_much_waits() {
    let budget = "[budget.changes]\nroute = \"things/things.change\"\nunit = \"effects\"\nwindow = \"day\"\ncap = 9\n\
                  over = { ask = \"reviewer\" }\n[budget.all]\nunit = \"effects\"\nwindow = { rolling = \"24h\" }\ncap = 99\n";
    for more in ["", budget] {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start();
        let host = reviewed(folder.path(), &service, ONE, more);
        let like = host.call(request("post")).unwrap().call.to_string();
        let rows = || {
            let before = rows_read();
            let started = std::time::Instant::now();
            held(&host.call(request("post")).unwrap());
            (rows_read() - before, started.elapsed())
        };
        more_of(&host, &like, 0..100);
        let few = rows();
        more_of(&host, &like, 100..10_000);
        let many = rows();
        assert_eq!(host.reader().unwrap().unfinished().unwrap().len(), 10_003);
        assert_eq!(few.0, many.0, "of 100 and of 10,000: {few:?} {many:?}");
    }
}

#[test]
fn a_dead_letter_whose_key_is_forgotten_while_it_waits_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([DOWN]);
    let change = "idempotency = { header = \"Idempotency-Key\", lifetime = \"3s\" }\ndead_letter = true";
    // Every five seconds one.
    let rate = "rate = { per = \"minute\", most = 12, burst = 1 }";
    home_with(folder.path(), &service, rate, "", change);
    let host = open(folder.path()).unwrap();
    let call = host.call(request("post")).unwrap().call.to_string();
    let answer = host.retry_dead_letter(&call, 1, false).unwrap();
    assert_eq!(answer.refused_effects[0].code, Code::Stale, "{answer:?}");
    assert!(
        answer.refused_effects[0]
            .message
            .contains("does not recognise the effect any more")
    );
    assert_eq!((service.requests(), letters(folder.path())), (1, vec![(call, 1)]));
    drop(host);
    verifies(folder.path());
}

#[test]
fn a_dead_letter_takes_a_place_of_those_that_calls_have() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([DOWN]);
    home_with(folder.path(), &service, "", "", &format!("{KEYED}\ndead_letter = true"));
    let path = folder.path().join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + "[limits]\nconcurrent_calls = 1\nwall_ms = 200\n").unwrap();
    let host = open(folder.path()).unwrap();
    let call = host.call(request("post")).unwrap().call.to_string();
    let place = host.shared.place().unwrap();
    match host.retry_dead_letter(&call, 1, false).unwrap_err() {
        LetterError::Refused(refusal) => assert_eq!(refusal.code, Code::Limit, "{refusal:?}"),
        LetterError::Fault(fault) => panic!("{fault:?}"),
    }
    assert_eq!((service.requests(), letters(folder.path()).len()), (1, 1));
    drop(place);
    let answer = host.retry_dead_letter(&call, 1, false).unwrap();
    assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
}

/// A ledger whose clock is so far ahead of the machine's.
fn ahead(ms: &Arc<AtomicI64>) -> StoreOptions {
    let ms = Arc::clone(ms);
    StoreOptions {
        clock: Arc::new(move || now_ms() + ms.load(Ordering::SeqCst)),
        ..StoreOptions::default()
    }
}

fn open_ahead(folder: &Path, ms: &Arc<AtomicI64>) -> Host {
    let options = HostOptions {
        compiler: Some(Compiler::InProcess),
        store: Some(ahead(ms)),
        ..HostOptions::default()
    };
    Host::open(Config::load(folder).unwrap(), options).unwrap()
}

/// The hold is over by the entry's time, which nobody knew when they asked: it ends, and that is recorded.
#[test]
fn a_hold_that_expires_right_before_its_intent_ends_by_that() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    drop(reviewed(folder.path(), &service, ONE, ""));
    let ms = Arc::new(AtomicI64::new(0));
    let host = open_ahead(folder.path(), &ms);
    let answer = host.call(request("post")).unwrap();
    approve(&host, &held(&answer), "rita").unwrap();
    ms.store(100 * HOUR_MS, Ordering::SeqCst);
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(ended.refused_effects[0].code, Code::Approval, "{ended:?}");
    assert!(ended.refused_effects[0].message.contains("in time"), "{ended:?}");
    assert!(host.reader().unwrap().holds(None, 9).unwrap().is_empty());
    assert_eq!(service.requests(), 0);
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

/// The ledger has entries of a time that the machine's clock has not come to.
fn ledger_ahead(folder: &Path, hours: i64) {
    let ms = Arc::new(AtomicI64::new(hours * HOUR_MS));
    let store = Store::open(folder, Keys::load(folder).unwrap(), ahead(&ms), Faults::none()).unwrap();
    let person = ambit_core::ledger::body::PersonEnrolled {
        key: key("zoe").verifier().to_string(),
        name: "zoe".to_owned(),
    };
    let batch = Batch {
        entries: vec![EntryDraft::of_ledger(person)],
        ..Batch::default()
    };
    store.commit(batch).unwrap();
}

#[test]
fn a_clock_behind_the_ledger_makes_no_hold_wait_again() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let answer = host.call(request("post")).unwrap();
    approve(&host, &held(&answer), "rita").unwrap();
    drop(host);
    ledger_ahead(folder.path(), 100);
    let host = open(folder.path()).unwrap();
    let reader = host.reader().unwrap();
    // Whoever opened the host, or goes on with the call, ends it.
    if let Some(waiting) = Waiting::of(&reader, &host.shared.config, answer.call.as_str()).unwrap() {
        assert_eq!(waiting.standing(), Standing::Expired);
        let ended = host.resume(answer.call.as_str(), None).unwrap();
        assert_eq!(ended.refused_effects[0].code, Code::Approval, "{ended:?}");
    }
    assert!(reader.holds(None, 9).unwrap().is_empty());
    assert_eq!(service.requests(), 0);
    // What begins to wait now waits by the ledger's time.
    let next = host.call(request("post")).unwrap();
    approve(&host, &held(&next), "rita").unwrap();
    let done = host.resume(next.call.as_str(), None).unwrap();
    assert!(matches!(done.outcome, Outcome::Ok(_)), "{done:?}");
    assert_eq!(service.requests(), 1);
    drop((host, reader));
    in_order(folder.path(), answer.call.as_str());
    in_order(folder.path(), next.call.as_str());
}

#[test]
fn a_clock_that_goes_back_brings_no_expired_vote_back() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let answer = host.call(request("post")).unwrap();
    let for_an_hour = crate::call::Held {
        expires_ms: u64::try_from(now_ms() + HOUR_MS).unwrap(),
        ..held(&answer)
    };
    assert_eq!(approve(&host, &for_an_hour, "rita").unwrap(), Standing::Approved);
    drop(host);
    ledger_ahead(folder.path(), 2);
    let host = open(folder.path()).unwrap();
    match host.resume(answer.call.as_str(), None) {
        Err(ApprovalError::Refused(refusal)) => assert!(refusal.message.contains("still waits for"), "{refusal:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(service.requests(), 0);
    approve(&host, &held(&answer), "sam").unwrap();
    let done = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(done.outcome, Outcome::Ok(_)), "{done:?}");
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

/// A vote in another's stead had been taken back when the effect was sent: it was approved by the other one alone.
#[test]
fn what_if_counts_no_vote_that_was_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    drop(reviewed(folder.path(), &service, ONE, ""));
    delegate(folder.path(), "rita", "eve", false).unwrap();
    let host = open(folder.path()).unwrap();
    let [one, both] = [(); 2].map(|()| host.call(request("post")).unwrap());
    for answer in [&one, &both] {
        host.vote(&in_stead_of(&held(answer), "rita", "eve"), None).unwrap();
        approve(&host, &held(answer), "sam").unwrap();
    }
    host.resume(both.call.as_str(), None).unwrap();
    drop(host);
    delegate(folder.path(), "rita", "eve", true).unwrap();
    let host = open(folder.path()).unwrap();
    host.resume(one.call.as_str(), None).unwrap();
    assert_eq!(service.requests(), 2);
    drop(host);
    let mut what_if = WhatIf::open(folder.path()).unwrap();
    let sources = [("main.cedar".to_owned(), TWO.to_owned())];
    let policy = PolicySet::load(&sources, &what_if.config().group_sizes()).unwrap();
    let mut sent = |call: &Answer| {
        let weighed = what_if.policy(&policy, &[call.call.to_string()], |_| {}).unwrap();
        let sent = weighed
            .changed
            .iter()
            .filter(|changed| changed.then.word == Word::Permitted);
        sent.map(|changed| changed.now.word).collect::<Vec<_>>()
    };
    assert_eq!(sent(&both), []);
    assert_eq!(sent(&one), [Word::Denied]);
    verifies(folder.path());
}

/// A call that is held on one engine and goes on on another has the fuel of the other.
#[test]
fn fuel_is_compared_on_the_engine_that_ended_the_call() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let other = |host: Host| {
        let Host {
            operators,
            live,
            shared,
        } = host;
        drop(operators);
        let mut shared = Arc::into_inner(shared).unwrap();
        Arc::get_mut(&mut shared.sandbox).unwrap().pose_as("another engine");
        Host {
            operators: None,
            live,
            shared: Arc::new(shared),
        }
    };
    let host = other(reviewed(folder.path(), &service, ONE, ""));
    let there = host.call(request("get")).unwrap();
    let back = host.call(request("post")).unwrap();
    approve(&host, &held(&back), "rita").unwrap();
    drop(host);
    let host = open(folder.path()).unwrap();
    let here = host.call(request("get")).unwrap();
    let away = host.call(request("post")).unwrap();
    approve(&host, &held(&away), "rita").unwrap();
    host.resume(back.call.as_str(), None).unwrap();
    drop(host);
    let host = other(open(folder.path()).unwrap());
    host.resume(away.call.as_str(), None).unwrap();
    drop(host);
    for (call, same) in [(&there, false), (&here, true), (&back, true), (&away, false)] {
        let again = replayed(folder.path(), call.call.as_str());
        assert_eq!(again.same_engine, same);
        assert!(again.diverged.is_none(), "{again:?}");
    }
    verifies(folder.path());
}
