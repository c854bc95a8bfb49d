//! Runs and approved overdrafts, in whole calls.

use ambit_core::hold::{Verdict, Vote};
use ambit_core::ledger::CallStory;
use ambit_core::ledger::body::{EffectIntent, ErrorBound, RunCap, Stage};
use ambit_core::ledger::story::{EffectStory, Opening};
use ambit_core::money::Over;
use ambit_core::run::Run;

use super::holds::{ONE, held, in_order, key, reviewed};
use super::*;
use crate::runs::NewRun;

const HOUR: u64 = 3_600_000;
/// Everything is permitted, and what changes something only in a run.
const IN_RUNS: &str = r#"
@id("all") permit (principal, action, resource);
@id("in-runs") forbid (principal, action == Action::"commit", resource) unless { context has run };
"#;

pub(super) fn new_run() -> NewRun {
    NewRun {
        agent: "assistant".into(),
        user: Some("ada".into()),
        mode: Mode::Execute,
        length_ms: HOUR,
        caps: vec![],
        errors: None,
    }
}

fn cap(cap: u64, unit: &str) -> RunCap {
    let unit = unit.parse().unwrap();
    RunCap { cap, over: None, unit }
}

/// A limit that so many of a group let one effect pass.
fn over(limit: u64, unit: &str, ask: &str, count: u32) -> RunCap {
    let over = Over {
        ask: ask.to_owned(),
        count,
    };
    RunCap {
        over: Some(over),
        ..cap(limit, unit)
    }
}

fn start(host: &Host, asked: &NewRun) -> Run {
    host.start_run(asked).unwrap()
}

fn within(run: &Run, function: &str) -> CallRequest {
    CallRequest {
        run: Some(run.id().to_owned()),
        ..request(function)
    }
}

fn story(host: &Host, answer: &Answer) -> CallStory {
    host.reader().unwrap().story(answer.call.as_str()).unwrap()
}

/// A home where everything is permitted.
fn opened(folder: &Path, service: &Service, more: &str) -> Host {
    home(folder, service, more);
    open(folder).unwrap()
}

fn verified(host: Host, folder: &Path) {
    drop(host);
    let key = crate::store::verifier(folder).unwrap();
    Reader::open(folder).unwrap().verify(&key, &[], |_| {}).unwrap();
}

#[test]
fn a_call_of_a_run_names_it_and_policy_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, IN_RUNS, "");
    let outside = host.call(request("post")).unwrap();
    assert_eq!(outside.refused_effects[0].rule.as_deref(), Some("in-runs"));
    assert_eq!(story(&host, &outside).run(), None);
    let run = start(&host, &new_run());
    let inside = host.call(within(&run, "post")).unwrap();
    assert!(matches!(inside.outcome, Outcome::Ok(_)), "{inside:?}");
    assert!(inside.refused_effects.is_empty(), "{inside:?}");
    assert_eq!(story(&host, &inside).run(), Some(run.id()));
    let run = host.known_run(run.id()).unwrap().unwrap();
    assert_eq!((run.finished, run.failed), (2, 0), "an effect and its call");
    drop(host);
    in_order(folder.path(), inside.call.as_str());
}

#[test]
fn a_call_is_part_of_no_run_that_is_not_its_own_or_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = opened(folder.path(), &service, "");
    let for_nobody = NewRun {
        user: None,
        ..new_run()
    };
    let suggests = NewRun {
        mode: Mode::Suggest,
        ..new_run()
    };
    let short = NewRun {
        length_ms: 2_000,
        ..new_run()
    };
    let ended = start(&host, &new_run());
    host.end_run(ended.id()).unwrap();
    let expired = start(&host, &short);
    thread::sleep(Duration::from_millis(2_100));
    let unknown = "r_zzzzzzzzzzzzzzzzzzzzzzzzzz";
    let denied = |id: &str, mode: Mode| {
        let call = CallRequest {
            run: Some(id.to_owned()),
            mode,
            ..request("get")
        };
        let answer = host.call(call).unwrap();
        let refusal = stopped(&answer).unwrap().clone();
        assert_eq!(refusal.code, Code::Run);
        let Opening::Denied(told) = story(&host, &answer).opening.what else {
            panic!("{answer:?}");
        };
        assert_eq!(told.stage, Stage::Run);
        (refusal.message, told.run)
    };
    let suggests = start(&host, &suggests);
    for (id, mode, why) in [
        (start(&host, &for_nobody).id(), Mode::Execute, "is another caller's"),
        (suggests.id(), Mode::Execute, "which a call in mode execute would widen"),
        (ended.id(), Mode::Execute, "has ended"),
        (expired.id(), Mode::Execute, "has expired"),
    ] {
        let (message, named) = denied(id, mode);
        assert!(message.contains(why), "{message}");
        assert_eq!(named.as_deref(), Some(id));
    }
    // What is no run's id is the caller's words, and not an entry's.
    for id in [unknown, "a run\u{1b}[2J"] {
        let (message, named) = denied(id, Mode::Execute);
        assert!(
            message.contains("does not exist") && !message.contains('\u{1b}'),
            "{message}"
        );
        assert_eq!(named, None);
    }
    assert_eq!(service.requests(), 0);
    for mode in [Mode::Suggest, Mode::DryRun] {
        let call = CallRequest {
            mode,
            ..within(&suggests, "get")
        };
        assert!(stopped(&host.call(call).unwrap()).is_none());
    }
    verified(host, folder.path());
}

#[test]
fn a_run_that_cannot_be_is_not_started() {
    let folder = tempfile::tempdir().unwrap();
    let host = opened(folder.path(), &Service::start(), "");
    let why = |asked: NewRun| match host.start_run(&asked) {
        Err(OpenError::Refused(refusal)) => refusal.message,
        other => panic!("{other:?}"),
    };
    let size = host.reader().unwrap().size().unwrap();
    let capped = |caps| NewRun { caps, ..new_run() };
    let bound = |percent, least| NewRun {
        errors: Some(ErrorBound { least, percent }),
        ..new_run()
    };
    let length = |length_ms| NewRun { length_ms, ..new_run() };
    let agent = |agent: &str| NewRun {
        agent: agent.into(),
        ..new_run()
    };
    let user = |user: &str| NewRun {
        user: Some(user.into()),
        ..new_run()
    };
    for (asked, part) in [
        (agent("nobody"), "nobody"),
        (user("bob"), "bob"),
        (capped(vec![cap(5, "usf")]), "`usf`, which is no currency"),
        (capped(vec![cap(0, "calls")]), "the limit of calls is 0"),
        (
            capped(vec![cap(5, "calls"), cap(6, "calls")]),
            "one limit for each unit",
        ),
        (
            capped(vec![over(5, "usd", "nobody", 1)]),
            "passed by group `nobody`, and there is none",
        ),
        (
            capped(vec![over(5, "usd", "reviewer", 4)]),
            "4 people of group `reviewer`, which has 3",
        ),
        (
            capped(vec![over(5, "calls", "reviewer", 1)]),
            "cannot be passed by approvals",
        ),
        (bound(0, 5), "1 to 100 percent"),
        (bound(101, 5), "1 to 100 percent"),
        (bound(50, 0), "over at least 1"),
        (length(0), "31 days at most"),
        (length(32 * 24 * HOUR), "31 days at most"),
    ] {
        let message = why(asked);
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(host.reader().unwrap().size().unwrap(), size);
    let run = start(&host, &new_run());
    host.end_run(run.id()).unwrap();
    for id in [run.id(), "r_none"] {
        assert!(matches!(host.end_run(id), Err(OpenError::Refused(refusal)) if refusal.code == Code::Run));
    }
}

/// Answers, after a while in which a run can end.
fn slow(stream: TcpStream, seen: &AtomicUsize) {
    thread::sleep(Duration::from_millis(400));
    answer(stream, seen);
}

#[test]
fn a_run_that_ends_lets_what_is_under_way_finish() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::that(slow);
    let host = opened(folder.path(), &service, "");
    let run = start(&host, &new_run());
    let answer = thread::scope(|scope| {
        let call = scope.spawn(|| host.call(within(&run, "both")).unwrap());
        thread::sleep(Duration::from_millis(200));
        host.end_run(run.id()).unwrap();
        call.join().unwrap()
    });
    assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
    assert_eq!(answer.refused_effects.len(), 1);
    assert_eq!(answer.refused_effects[0].code, Code::Run);
    assert_eq!(service.requests(), 1);
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn trap_12_what_a_run_limits_adds_up_over_its_calls() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let budget = "[budget.changes]\nroute = \"things/things.change\"\nunit = \"effects\"\nwindow = \"run\"\ncap = 1\n";
    let host = opened(folder.path(), &service, budget);
    let limited = NewRun {
        caps: vec![cap(3, "effects"), cap(4, "calls")],
        ..new_run()
    };
    let run = start(&host, &limited);
    let refused = |run: &Run, function: &str| {
        let answer = host.call(within(run, function)).unwrap();
        match stopped(&answer) {
            Some(refusal) => vec![refusal.message.clone()],
            None => answer.refused_effects.iter().map(|one| one.message.clone()).collect(),
        }
    };
    assert!(refused(&run, "post").is_empty());
    let second = refused(&run, "both");
    assert!(
        second.len() == 1 && second[0].contains("budget `changes`"),
        "{second:?}"
    );
    let third = refused(&run, "twice");
    assert!(
        third.len() == 1 && third[0].contains("budget `run/effects` has 0 of 3 left"),
        "{third:?}"
    );
    // Another run of the same agent has its own, and so has a call of none.
    let other = start(&host, &limited);
    assert!(refused(&other, "post").is_empty());
    let outside = host.call(request("post")).unwrap();
    assert!(outside.refused_effects.is_empty(), "{outside:?}");
    refused(&run, "tell");
    let fifth = refused(&run, "tell");
    assert!(fifth[0].contains("budget `run/calls` has 0 of 4 left"), "{fifth:?}");
    // No waiting helps, and nobody raises it.
    let sixth = host.call(within(&run, "tell")).unwrap();
    let advice = stopped(&sixth).and_then(|refusal| refusal.advice.clone()).unwrap();
    assert_eq!(advice, "a run's limit stays: the operator starts another run");
    assert_eq!(service.requests(), 5);
    verified(host, folder.path());
}

#[test]
fn many_callers_share_what_their_run_has() {
    const CALLS: u64 = 37;
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = opened(folder.path(), &service, "");
    let run = start(
        &host,
        &NewRun {
            caps: vec![cap(CALLS, "calls")],
            ..new_run()
        },
    );
    let ok = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let answer = host.call(within(&run, "tell")).unwrap();
                    match stopped(&answer) {
                        None => drop(ok.fetch_add(1, Ordering::SeqCst)),
                        Some(refusal) => assert_eq!(refusal.code, Code::Budget),
                    }
                }
            });
        }
    });
    assert_eq!(ok.load(Ordering::SeqCst) as u64, CALLS);
    verified(host, folder.path());
}

/// Answers every request with a failure of its own.
fn broken(mut stream: TcpStream, seen: &AtomicUsize) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    seen.fetch_add(1, Ordering::SeqCst);
    let head = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let _ = stream.shutdown(Shutdown::Write);
}

#[test]
fn a_run_that_fails_too_much_only_reads_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::that(broken);
    let host = opened(folder.path(), &service, "");
    let run = start(
        &host,
        &NewRun {
            errors: Some(ErrorBound { least: 4, percent: 40 }),
            ..new_run()
        },
    );
    // Each call ends well, and its effect does not: half of what ends fails.
    for _ in 0..2 {
        assert!(stopped(&host.call(within(&run, "post")).unwrap()).is_none());
    }
    let degraded = host.known_run(run.id()).unwrap().unwrap();
    assert!(degraded.degraded, "{degraded:?}");
    let size = host.reader().unwrap().size().unwrap();
    let last = host.reader().unwrap().entry(size - 1).unwrap();
    assert!(
        matches!(last.body(), Body::RunDegraded(body) if (body.failed, body.finished) == (2, 4)),
        "{}",
        last.text()
    );
    let changes = host.call(within(&run, "post")).unwrap();
    assert_eq!(changes.refused_effects[0].code, Code::Run);
    assert!(changes.refused_effects[0].message.contains("only reads"));
    let reads = host.call(within(&run, "get")).unwrap();
    assert!(reads.refused_effects.is_empty(), "{reads:?}");
    assert_eq!(service.requests(), 3);
    verified(host, folder.path());
}

/// A cap of one change a day, which one of finance lets pass.
const ASKS: &str = "[group.finance]\nmembers = [\"sam\", \"eve\"]\n[budget.changes]\nroute = \"things/things.change\"\n\
                    unit = \"effects\"\nwindow = \"day\"\ncap = 1\nover = { ask = \"finance\" }\n";
const ALL: &str = POLICY;

fn approve(host: &Host, held: &crate::call::Held, person: &str, group: &str) {
    let vote = Vote {
        in_stead_of: None,
        person: person.to_owned(),
        hold: held.hold,
        verdict: Verdict::Approve,
        group: group.to_owned(),
        expires_ms: held.expires_ms,
    };
    host.vote(&vote.sign(&key(person)).unwrap(), None).unwrap();
}

fn intent(host: &Host, answer: &Answer, ordinal: u32) -> EffectIntent {
    match story(host, answer).effects.get(&ordinal) {
        Some(EffectStory::Intended { intent, .. }) => intent.what.clone(),
        other => panic!("{other:?}"),
    }
}

fn needs(held: &crate::call::Held) -> Vec<Vec<(&str, u32)>> {
    let one = |need| ambit_core::hold::Need::iter(need).map(|(group, count)| (group.as_str(), *count));
    held.needs.iter().map(|need| one(need).collect()).collect()
}

fn account(host: &Host) -> (u64, u64) {
    let states = host.reader().unwrap().budgets().unwrap();
    (states[0].account.used, states[0].account.reserved)
}

#[test]
fn an_effect_that_does_not_fit_waits_and_passes_the_cap_by_approval_alone() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ALL, ASKS);
    assert!(host.call(request("post")).unwrap().refused_effects.is_empty());
    let answer = host.call(request("both")).unwrap();
    let waits = held(&answer);
    assert_eq!(needs(&waits), [[("finance", 1)]]);
    assert_eq!(
        (waits.over.as_slice(), waits.rules.len()),
        (&["changes".to_owned()][..], 0)
    );
    assert_eq!(account(&host), (1, 0), "a hold reserves nothing");
    approve(&host, &waits, "sam", "finance");
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert!(ended.refused_effects.is_empty(), "{ended:?}");
    assert_eq!(service.requests(), 3);
    let passed = intent(&host, &answer, 2);
    assert_eq!(
        (passed.hold, passed.reserved[0].over),
        (Some(waits.hold), Some(waits.hold))
    );
    assert_eq!(account(&host), (2, 0));
    // One effect passed it: the next one waits again.
    assert_eq!(held(&host.call(request("post")).unwrap()).over, ["changes"]);
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn an_approved_overdraft_is_none_where_there_is_room_by_then() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ALL, ASKS);
    host.call(request("post")).unwrap();
    let answer = host.call(request("post")).unwrap();
    let waits = held(&answer);
    approve(&host, &waits, "sam", "finance");
    drop(host);
    let path = folder.path().join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("cap = 1", "cap = 2");
    std::fs::write(path, text).unwrap();
    let host = open(folder.path()).unwrap();
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert!(ended.refused_effects.is_empty(), "{ended:?}");
    let fits = intent(&host, &answer, 1);
    assert_eq!((fits.hold, fits.reserved[0].over), (Some(waits.hold), None));
    verified(host, folder.path());
}

#[test]
fn what_policy_asks_for_and_what_budgets_ask_for_is_asked_together() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, ASKS);
    let first = host.call(request("post")).unwrap();
    assert_eq!(needs(&held(&first)), [[("reviewer", 1)]]);
    // Held before the cap was used up: what its approvals say does not pass it.
    let early = host.call(request("post")).unwrap();
    approve(&host, &held(&first), "rita", "reviewer");
    assert!(
        host.resume(first.call.as_str(), None)
            .unwrap()
            .refused_effects
            .is_empty()
    );
    approve(&host, &held(&early), "rita", "reviewer");
    let ended = host.resume(early.call.as_str(), None).unwrap();
    assert_eq!(ended.refused_effects[0].code, Code::Budget);
    assert_eq!(service.requests(), 1);
    // Held after: both are asked, and one alone is not enough.
    let late = host.call(request("post")).unwrap();
    let waits = held(&late);
    assert_eq!(needs(&waits), [[("finance", 1), ("reviewer", 1)]]);
    assert_eq!(waits.rules, ["reviewed"]);
    approve(&host, &waits, "sam", "finance");
    let waiting = host.resume(late.call.as_str(), None).unwrap_err().to_string();
    assert!(waiting.contains("1 of reviewer"), "{waiting}");
    approve(&host, &waits, "rita", "reviewer");
    assert!(
        host.resume(late.call.as_str(), None)
            .unwrap()
            .refused_effects
            .is_empty()
    );
    assert_eq!(service.requests(), 2);
    assert_eq!(account(&host), (2, 0));
    verified(host, folder.path());
}

#[test]
fn an_approval_of_finance_passes_no_cap_that_its_hold_did_not_name() {
    // Policy asks finance too: what finance said yes to had room then.
    const FINANCE: &str = r#"
@id("all") permit (principal, action, resource);
@id("paid") forbid (principal, action == Action::"commit", resource) unless { context.approvals.finance >= 1 };
"#;
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, FINANCE, ASKS);
    let (one, other) = (host.call(request("post")).unwrap(), host.call(request("post")).unwrap());
    for (answer, codes) in [(&one, vec![]), (&other, vec![Code::Budget])] {
        approve(&host, &held(answer), "sam", "finance");
        let ended = host.resume(answer.call.as_str(), None).unwrap();
        assert_eq!(
            ended.refused_effects.iter().map(|one| one.code).collect::<Vec<_>>(),
            codes
        );
    }
    assert_eq!(service.requests(), 1);
    verified(host, folder.path());
}

#[test]
fn nothing_waits_for_a_cap_that_nobody_may_pass_or_against_policy() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let hard = "[budget.hard]\nconnection = \"things\"\nunit = \"effects\"\nwindow = \"day\"\ncap = 1\n";
    let host = reviewed(folder.path(), &service, ALL, &format!("{ASKS}{hard}"));
    host.call(request("post")).unwrap();
    let answer = host.call(request("post")).unwrap();
    assert_eq!(answer.refused_effects[0].code, Code::Budget);
    drop(host);
    let folder = tempfile::tempdir().unwrap();
    let exhausted = r#"
@id("all") permit (principal, action, resource);
@id("hard") forbid (principal, action == Action::"commit", resource) when { context.exhausted.contains("changes") };
"#;
    let host = reviewed(folder.path(), &service, exhausted, ASKS);
    host.call(request("post")).unwrap();
    let answer = host.call(request("post")).unwrap();
    assert_eq!(answer.refused_effects[0].rule.as_deref(), Some("hard"));
    assert!(host.reader().unwrap().holds(None, 10).unwrap().is_empty());
}

#[test]
fn a_call_that_waited_goes_on_while_its_run_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    for ends in [false, true] {
        let run = start(&host, &new_run());
        let answer = host.call(within(&run, "post")).unwrap();
        approve(&host, &held(&answer), "rita", "reviewer");
        if ends {
            host.end_run(run.id()).unwrap();
        }
        let ended = host.resume(answer.call.as_str(), None).unwrap();
        let codes: Vec<Code> = ended.refused_effects.iter().map(|one| one.code).collect();
        assert_eq!(codes, if ends { vec![Code::Run] } else { vec![] });
        assert_eq!(story(&host, &answer).run(), Some(run.id()));
    }
    assert_eq!(service.requests(), 1);
    verified(host, folder.path());
}

/// At a run's limit an effect is refused, or held where the limit says who lets it pass: then for that one effect.
#[test]
fn at_a_run_s_limit_an_effect_waits_where_the_limit_says_for_whom() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, POLICY, "");
    let limited = |caps| NewRun { caps, ..new_run() };
    let strict = start(&host, &limited(vec![cap(1, "effects")]));
    host.call(within(&strict, "post")).unwrap();
    let refused = host.call(within(&strict, "post")).unwrap();
    assert_eq!(refused.refused_effects[0].code, Code::Budget, "{refused:?}");

    let run = start(&host, &limited(vec![over(1, "effects", "reviewer", 1)]));
    host.call(within(&run, "post")).unwrap();
    let sent = service.requests();
    let waits = host.call(within(&run, "post")).unwrap();
    let hold = held(&waits);
    assert_eq!(hold.over, ["run/effects"]);
    assert_eq!(hold.needs, [[("reviewer".to_owned(), 1)].into()]);
    approve(&host, &hold, "rita", "reviewer");
    let ended = host.resume(waits.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert_eq!(service.requests(), sent + 1);
    // It passed for that one: the next waits again.
    let again = host.call(within(&run, "post")).unwrap();
    assert_eq!(held(&again).over, ["run/effects"]);
    drop(host);
    in_order(folder.path(), waits.call.as_str());
}
