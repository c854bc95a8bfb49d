//! What operators ask for while a host runs, done by the host: the same as without one, in whole calls.

use std::io::{BufRead, BufReader};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::AtomicBool;

use ambit_core::hold::{Delegation, Edit, Verdict};
use ambit_core::ledger::Kind;
use ambit_core::ledger::Kind::{CallFinished, EffectIntent, HoldVoted, VoteRefused};
use ambit_core::ledger::body::{Dropped, Found, RunCap};
use ambit_core::money::Unit;
use ambit_core::stop;

use super::doubts::KEY;
use super::flow::{DOWN, Scripted, home_with, letters};
use super::holds::{ONE, TWO, held, key, reviewed, vote};
use super::recovery::failing;
use super::*;
use crate::edits::new_changes;
use crate::operators::{self, Answer as Said, Desk, Request};
use crate::runs::NewRun;

/// A home with a host that runs on it, or without one.
struct At<'t> {
    folder: &'t Path,
    host: Option<Host>,
    desk: Desk<'t>,
}

impl<'t> At<'t> {
    /// The same acts: over the socket of a host that runs, and by a process that opens the home for them.
    fn new(folder: &'t Path, runs: bool) -> At<'t> {
        let host = runs.then(|| open(folder).unwrap());
        let desk = Desk::new(folder, move || {
            assert!(!runs, "the home is held: nobody else opens it");
            open(folder)
        });
        At { folder, host, desk }
    }

    fn act(&mut self, request: &Request) -> Said {
        self.desk.act(request, None).unwrap()
    }

    fn refused(&mut self, request: &Request) -> Refusal {
        match self.desk.act(request, None) {
            Err(OpenError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    fn called(&mut self, request: &Request) -> Answer {
        match self.act(request) {
            Said::Called(answer) => *answer,
            other => panic!("{other:?}"),
        }
    }

    /// The home in order, and its entries of these kinds.
    fn done(self, wanted: &[Kind]) -> Vec<Kind> {
        drop((self.desk, self.host));
        verifies(self.folder);
        let entries = Reader::open(self.folder).unwrap().entries(0, 10_000).unwrap();
        let kinds = entries.iter().map(ambit_core::ledger::Entry::kind);
        kinds.filter(|kind| wanted.contains(kind)).collect()
    }
}

/// Does the same to two homes, one of which a host runs on.
fn both(act: impl Fn(&Path, bool)) {
    for runs in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        act(folder.path(), runs);
    }
}

/// A guest may compute for long.
const LONG: &str = "[limits]\nfuel = 4000000000000000\nwall_ms = 60000\n";

/// A call that waits in a home that nobody holds any more.
fn waits(folder: &Path, service: &Service, policy: &str, function: &str) -> (String, crate::call::Held) {
    let host = reviewed(folder, service, policy, LONG);
    let answer = host.call(request(function)).unwrap();
    (answer.call.to_string(), held(&answer))
}

fn cast(held: &crate::call::Held, person: &str, verdict: Verdict) -> Request {
    Request::Vote {
        note: vote(held, person, verdict),
        reason: Some("so it is".into()),
    }
}

fn resume(call: &str) -> Request {
    Request::Resume { call: call.to_owned() }
}

#[test]
fn people_vote_and_calls_go_on_while_a_host_runs() {
    both(|folder, runs| {
        let service = Service::start();
        let (call, held) = waits(folder, &service, TWO, "both");
        let mut at = At::new(folder, runs);
        let again = cast(&held, "rita", Verdict::Approve);
        let Said::Voted { call: of, missing } = at.act(&again) else {
            panic!("no vote");
        };
        assert_eq!(of, call);
        assert_eq!(missing.unwrap(), [[("reviewer".to_owned(), 1)].into()]);
        // What does not count is refused, and on the ledger.
        assert_eq!(at.refused(&again).code, Code::Approval);
        let own = cast(&held, "ada", Verdict::Approve);
        assert!(at.refused(&own).message.contains("asked for"), "{:?}", at.refused(&own));
        assert_eq!(at.refused(&resume(&call)).code, Code::Approval);
        let decided = at.act(&cast(&held, "sam", Verdict::Approve));
        assert!(matches!(decided, Said::Voted { missing: None, .. }), "{decided:?}");
        let answer = at.called(&resume(&call));
        assert_eq!(answer.call.as_str(), call);
        assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
        assert_eq!(service.requests(), 2, "the read is not sent again");
        assert!(at.refused(&resume(&call)).message.contains("waits for nothing"));
        let kinds = at.done(&[HoldVoted, VoteRefused, EffectIntent, CallFinished]);
        assert_eq!(
            kinds,
            [
                EffectIntent,
                HoldVoted,
                VoteRefused,
                VoteRefused,
                HoldVoted,
                EffectIntent,
                CallFinished
            ]
        );
    });
}

#[test]
fn a_no_is_told_to_its_tool_while_a_host_runs() {
    both(|folder, runs| {
        let service = Service::start();
        let (call, held) = waits(folder, &service, ONE, "post");
        let mut at = At::new(folder, runs);
        let said = at.act(&cast(&held, "rita", Verdict::Reject));
        assert!(matches!(said, Said::Voted { missing: None, .. }), "{said:?}");
        let answer = at.called(&resume(&call));
        assert_eq!(answer.refused_effects[0].code, Code::Approval);
        assert_eq!(service.requests(), 0);
        at.done(&[]);
    });
}

#[test]
fn an_edit_is_refused_alike_while_a_host_runs() {
    both(|folder, runs| {
        let service = Service::start();
        let (_, held) = waits(folder, &service, ONE, "post");
        let mut at = At::new(folder, runs);
        let mut changes = new_changes().unwrap();
        changes.set("amount", ambit_core::json::Json::from(1_u64)).unwrap();
        let edit = Edit {
            person: "rita".to_owned(),
            hold: held.hold,
            changes: changes.digest(),
            group: "reviewer".to_owned(),
            expires_ms: held.expires_ms,
        };
        let request = Request::Edit {
            note: edit.sign(&key("rita")).unwrap(),
            changes: changes.to_text(),
            reason: None,
        };
        // The request has no body.
        assert_eq!(at.refused(&request).code, Code::Approval);
        assert_eq!(at.done(&[VoteRefused, Kind::HoldEdited]), [VoteRefused]);
    });
}

/// Who is told nothing any more has it done all the same.
#[test]
fn an_act_goes_on_when_who_asked_for_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let (call, held) = waits(folder.path(), &service, ONE, "late");
    let host = open(folder.path()).unwrap();
    operators::act(folder.path(), &cast(&held, "rita", Verdict::Approve)).unwrap();
    let mut stream = UnixStream::connect(folder.path().join("operators.sock")).unwrap();
    let line = serde_json::to_string(&resume(&call)).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    stream.write_all(b"\n").unwrap();
    let mut begun = String::new();
    BufReader::new(&stream).read_line(&mut begun).unwrap();
    assert!(begun.contains("begun"), "{begun}");
    drop(stream);
    // A host that ends waits for what has begun.
    drop(host);
    let story = Reader::open(folder.path()).unwrap().story(&call).unwrap();
    assert!(story.is_over());
    assert_eq!(service.requests(), 2);
    verifies(folder.path());
}

/// A vote that comes while the host ends is cast by whoever opens the home next, and never lost.
#[test]
fn a_vote_for_a_host_that_ends_is_recorded_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let (call, first) = waits(folder.path(), &service, ONE, "late");
    let host = open(folder.path()).unwrap();
    let second = held(&host.call(request("post")).unwrap());
    let going_on = AtomicBool::new(false);
    thread::scope(|scope| {
        let asked = scope.spawn(|| {
            operators::act(folder.path(), &cast(&first, "rita", Verdict::Approve)).unwrap();
            going_on.store(true, Ordering::SeqCst);
            let mut desk = Desk::new(folder.path(), || panic!("it is held"));
            desk.act(&resume(&call), None).unwrap()
        });
        while host.shared.store.board().running().is_empty() {
            thread::yield_now();
        }
        let ends = scope.spawn(move || drop(host));
        let mut desk = Desk::new(folder.path(), || open(folder.path()));
        let voted = desk.act(&cast(&second, "rita", Verdict::Approve), None).unwrap();
        assert!(matches!(voted, Said::Voted { missing: None, .. }), "{voted:?}");
        assert!(matches!(asked.join().unwrap(), Said::Called(_)));
        ends.join().unwrap();
    });
    verifies(folder.path());
}

/// However many say yes and go on at once, what waits is sent once.
#[test]
fn two_operators_at_once_send_what_waits_once() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let (call, held) = waits(folder.path(), &service, ONE, "post");
    let host = open(folder.path()).unwrap();
    let ended: usize = thread::scope(|scope| {
        let operators = ["rita", "sam"].map(|person| {
            let (folder, call, held) = (folder.path(), &call, &held);
            scope.spawn(move || {
                let mut desk = Desk::new(folder, || panic!("it is held"));
                // One of the two may come when it is decided already.
                drop(desk.act(&cast(held, person, Verdict::Approve), None));
                usize::from(desk.act(&resume(call), None).is_ok())
            })
        });
        operators.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!((ended, service.requests()), (1, 1));
    drop(host);
    verifies(folder.path());
}

#[test]
fn runs_begin_and_end_while_a_host_runs() {
    both(|folder, runs| {
        let service = Service::start();
        home(folder, &service, "");
        let mut at = At::new(folder, runs);
        let run = |agent: &str| Request::StartRun {
            run: NewRun {
                agent: agent.to_owned(),
                user: Some("ada".to_owned()),
                mode: Mode::Execute,
                length_ms: 60_000,
                caps: vec![RunCap {
                    over: None,
                    cap: 1,
                    unit: Unit::Calls,
                }],
                errors: None,
            },
            once: None,
        };
        at.refused(&run("nobody"));
        let Said::Run(id) = at.act(&run("assistant")) else {
            panic!("no run");
        };
        if let Some(host) = &at.host {
            let of_run = || CallRequest {
                run: Some(id.clone()),
                ..request("get")
            };
            assert!(stopped(&host.call(of_run()).unwrap()).is_none());
            assert!(stopped(&host.call(of_run()).unwrap()).is_some(), "its limit holds");
        }
        let end = Request::EndRun { run: id.clone() };
        assert_eq!(at.act(&end), Said::Run(id));
        assert_eq!(at.refused(&end).code, Code::Run);
        assert_eq!(
            at.done(&[Kind::RunStarted, Kind::RunEnded]),
            [Kind::RunStarted, Kind::RunEnded]
        );
    });
}

#[test]
fn votes_are_given_to_others_while_a_host_runs() {
    both(|folder, runs| {
        let service = Service::start();
        drop(reviewed(folder, &service, ONE, ""));
        let mut at = At::new(folder, runs);
        let made_ms = u64::try_from(crate::host::now_ms()).unwrap();
        let said = |person: &str| Delegation {
            ledger: Reader::open(folder).unwrap().origin().unwrap(),
            person: person.to_owned(),
            delegate: "eve".to_owned(),
            group: "reviewer".to_owned(),
            made_ms,
            until_ms: made_ms + 60_000,
        };
        let request = |person: &str| Request::Delegate {
            note: said(person).sign(&key(person)).unwrap(),
        };
        assert_eq!(at.act(&request("rita")), Said::Done);
        assert_eq!(at.refused(&request("eve")).code, Code::Approval);
        let given = Reader::open(folder).unwrap().delegations().unwrap();
        assert_eq!(given.len(), 1);
        assert_eq!(at.done(&[Kind::PersonDelegated]).len(), 1);
    });
}

/// The call of a home that ended while it had an effect under way, with that in doubt where `doubtful`.
fn interrupted(folder: &Path, service: &Scripted, doubtful: bool) -> String {
    for good in 0..12 {
        if let Ok(host) = failing(folder, good, Step::BeforeCommit) {
            let _ = host.call(request("post"));
        }
        let host = open(folder).unwrap();
        for unended in host.unended().unwrap() {
            if unended.doubts.is_empty() != doubtful && (!doubtful || service.requests() > 0) {
                return unended.story.call;
            }
            for ordinal in unended.doubts {
                let call = &unended.story.call;
                host.settle_doubt(call, Some(ordinal), Found::NotDone, None).unwrap();
            }
            host.end(&unended.story.call).unwrap();
        }
    }
    panic!("nothing was interrupted");
}

#[test]
fn what_was_interrupted_goes_on_or_ends_while_a_host_runs() {
    both(|folder, runs| {
        let service = Scripted::start([]);
        home_with(folder, &service, "", "", KEY);
        let first = interrupted(folder, &service, false);
        let mut at = At::new(folder, runs);
        assert_eq!(at.act(&Request::Unended), Said::Calls(vec![first.clone()]));
        let answer = at.called(&resume(&first));
        assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
        assert_eq!(at.act(&Request::Unended), Said::Calls(Vec::new()));
        at.done(&[]);
        let second = interrupted(folder, &service, false);
        let mut at = At::new(folder, runs);
        let end = Request::EndCall { call: second };
        assert_eq!(at.act(&end), Said::Done);
        at.refused(&end);
        at.done(&[]);
    });
}

#[test]
fn what_is_in_doubt_is_resolved_or_sent_again_while_a_host_runs() {
    both(|folder, runs| {
        let service = Scripted::start([]);
        home_with(folder, &service, "", "", KEY);
        let call = interrupted(folder, &service, true);
        let mut at = At::new(folder, runs);
        assert_eq!(at.refused(&resume(&call)).code, Code::Doubt);
        let found = Request::Resolve {
            call: call.clone(),
            effect: None,
            found: Found::Done,
            reason: Some("looked it up".to_owned()),
        };
        assert_eq!(at.act(&found), Said::Resolved { effect: 1 });
        assert_eq!(at.refused(&found).code, Code::Doubt);
        assert!(matches!(at.act(&resume(&call)), Said::Called(_)));
        at.done(&[]);
        let call = interrupted(folder, &service, true);
        let sent = service.requests();
        let mut at = At::new(folder, runs);
        let again = Request::RetryDoubt { call, effect: None };
        let answer = at.called(&again);
        assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
        assert_eq!(service.requests(), sent + 1);
        assert_eq!(at.refused(&again).code, Code::Doubt);
        at.done(&[]);
    });
}

#[test]
fn dead_letters_are_retried_and_dropped_while_a_host_runs() {
    both(|folder, runs| {
        let service = Scripted::start([DOWN, DOWN]);
        home_with(folder, &service, "", "", &format!("{KEY}\ndead_letter = true"));
        let host = open(folder).unwrap();
        host.call(request("post")).unwrap();
        host.call(request("post")).unwrap();
        drop(host);
        let all = letters(folder);
        assert_eq!(all.len(), 2);
        let mut at = At::new(folder, runs);
        let retry = Request::RetryLetter {
            call: all[0].0.clone(),
            effect: all[0].1,
            new_key: false,
        };
        let answer = at.called(&retry);
        assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
        assert_eq!(at.refused(&retry).code, Code::Arguments);
        let give_up = Request::DropLetter {
            call: all[1].0.clone(),
            effect: all[1].1,
            why: Dropped::Unneeded,
        };
        assert_eq!(at.act(&give_up), Said::Done);
        assert_eq!(at.refused(&give_up).code, Code::Arguments);
        assert_eq!(letters(folder), []);
        at.done(&[]);
    });
}

/// A rollback is planned and refused alike; what is undone is in the tests of rollbacks and the scenarios.
#[test]
fn a_rollback_is_planned_and_refused_while_a_host_runs() {
    both(|folder, runs| {
        let service = Service::start();
        home(folder, &service, "");
        let host = open(folder).unwrap();
        let call = host.call(request("post")).unwrap().call.to_string();
        drop(host);
        let mut at = At::new(folder, runs);
        let Said::Plan(plan) = at.act(&Request::PlanRollback {
            call: call.clone(),
            options: crate::rollback::RollbackOptions::default(),
        }) else {
            panic!("no plan");
        };
        assert_eq!((plan.items.len(), plan.refusal().is_some()), (1, true));
        let answer = at.called(&Request::RollBack {
            call: call.clone(),
            options: crate::rollback::RollbackOptions::default(),
        });
        assert_eq!(stopped(&answer).map(|refusal| refusal.code), Some(Code::Undo));
        assert_eq!(service.requests(), 1);
        at.done(&[]);
    });
}

#[test]
fn values_are_erased_while_a_host_runs_as_they_were_shown() {
    both(|folder, runs| {
        let service = Service::start();
        home(folder, &service, "");
        let host = open(folder).unwrap();
        let call = host.call(request("get")).unwrap().call;
        drop(host);
        let mut at = At::new(folder, runs);
        let why = Reason::Subject(Subject::Agent("assistant".to_owned()));
        let found = Reader::open(folder).unwrap().erasable(why.clone(), 0).unwrap();
        let erase = Request::Erase {
            why,
            looked_ms: 0,
            found: found.digest(),
        };
        // What is there by then is something else.
        let other = match &erase {
            Request::Erase { why, .. } => Request::Erase {
                why: why.clone(),
                looked_ms: 0,
                found: ambit_core::digest::Digest::of(b"what was shown"),
            },
            _ => unreachable!(),
        };
        assert_eq!(at.refused(&other).code, Code::Stale);
        let reader = || Reader::open(folder).unwrap().with_keys(&Keys::load(folder).unwrap());
        assert!(reader().payload(call.as_str(), "args").unwrap().is_some());
        let Said::Erased(done) = at.act(&erase) else {
            panic!("not erased");
        };
        assert_eq!(done.entries, 1);
        assert!(reader().payload(call.as_str(), "args").is_err());
        at.done(&[]);
        // Finished, by now at the latest.
        drop(open(folder).unwrap());
        assert!(!Reader::open(folder).unwrap().erasing().unwrap());
    });
}

#[test]
fn a_breaker_is_closed_in_the_host_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([DOWN, DOWN]);
    let breaker = "breaker = { failures = 2, within = \"1h\", open = \"1h\" }";
    home_with(folder.path(), &service, breaker, "", "");
    let host = open(folder.path()).unwrap();
    let refused = || {
        let answer = host.call(request("get")).unwrap();
        answer.refused_effects.first().map(|refusal| refusal.code)
    };
    host.call(request("twice")).unwrap();
    assert_eq!(refused(), Some(Code::Breaker));
    let reset = |name: &str| {
        let connection = name.to_owned();
        operators::act(folder.path(), &Request::ResetConnection { connection })
    };
    assert!(reset("thing").is_err());
    assert_eq!(refused(), Some(Code::Breaker));
    assert_eq!(reset("things").unwrap(), Said::Closed(vec![None]));
    assert_eq!(refused(), None);
    assert_eq!(reset("things").unwrap(), Said::Closed(Vec::new()));
    drop(host);
    verifies(folder.path());
}

/// A process that has loaded one tool is there for one call: it counts votes, and goes on with nothing.
#[test]
fn a_process_with_some_of_the_tools_goes_on_with_no_call() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let (call, held) = waits(folder.path(), &service, ONE, "post");
    let options = HostOptions {
        compiler: Some(Compiler::InProcess),
        tools: vec!["none".to_owned()],
        ..HostOptions::default()
    };
    let host = Host::open(Config::load(folder.path()).unwrap(), options).unwrap();
    let ask = |request: &Request| operators::ask(folder.path(), request).unwrap();
    let voted = ask(&cast(&held, "rita", Verdict::Approve));
    assert!(matches!(voted, Some(Said::Voted { missing: None, .. })), "{voted:?}");
    assert_eq!(ask(&resume(&call)), Some(Said::Busy));
    // It goes on with whoever opens the home next.
    thread::scope(|scope| {
        let going_on = scope.spawn(|| {
            let mut desk = Desk::new(folder.path(), || open(folder.path()));
            desk.act(&resume(&call), None).unwrap()
        });
        thread::sleep(Duration::from_millis(100));
        drop(host);
        assert!(matches!(going_on.join().unwrap(), Said::Called(_)));
    });
    assert_eq!(service.requests(), 1);
}

/// A stop is heard while what was asked for before still computes.
#[test]
fn an_act_under_way_is_stopped_by_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let (call, held) = waits(folder.path(), &service, ONE, "late");
    let host = open(folder.path()).unwrap();
    operators::act(folder.path(), &cast(&held, "rita", Verdict::Approve)).unwrap();
    let kill = Request::Stop {
        kind: stop::Kind::Kill,
        scope: "everything".parse().unwrap(),
        reason: "a drill".to_owned(),
    };
    thread::scope(|scope| {
        let going_on = scope.spawn(|| {
            let mut desk = Desk::new(folder.path(), || panic!("it is held"));
            desk.act(&resume(&call), None)
        });
        while host.shared.store.board().running().is_empty() {
            thread::yield_now();
        }
        operators::act(folder.path(), &kill).unwrap();
        let Err(OpenError::Refused(refusal)) = going_on.join().unwrap() else {
            panic!("it went on");
        };
        assert_eq!(refusal.code, Code::Killed);
    });
    assert_eq!(service.requests(), 1, "the read alone");
    drop(host);
    verifies(folder.path());
}

/// What a call came to is the same after it was told over the socket.
#[test]
fn answers_are_told_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let dry = CallRequest {
        mode: Mode::DryRun,
        ..request("post")
    };
    let mut answers: Vec<Answer> = [request("get"), request("post"), dry, request("missing")]
        .into_iter()
        .map(|request| host.call(request).unwrap())
        .collect();
    let json = r#"{"a":18446744073709551615,"b":[-0.5,1e-7,null,true],"c":"\u0000\u2028é","d":{}}"#;
    let value = ambit_core::json::Json::parse(json, ambit_core::json::Limits::default()).unwrap();
    for outcome in [Outcome::Ok(value.clone()), Outcome::ToolError(value)] {
        let answer = host.call(request("get")).unwrap();
        answers.push(Answer { outcome, ..answer });
    }
    for answer in answers {
        // Where its end stands is for doors of the same process.
        let said = Said::Called(Box::new(Answer { end: None, ..answer }));
        let text = serde_json::to_string(&said).unwrap();
        assert_eq!(serde_json::from_str::<Said>(&text).unwrap(), said, "{text}");
    }
}

/// Requests that are no acts, or too long, do nothing; nor do a thousand connections that say nothing.
#[test]
fn no_client_hurts_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let (call, _) = waits(folder.path(), &service, ONE, "post");
    let host = open(folder.path()).unwrap();
    let size = host.reader().unwrap().size().unwrap();
    let long = Request::Edit {
        note: String::new(),
        changes: "x".repeat(300 << 10),
        reason: None,
    };
    let refused = operators::act(folder.path(), &long).unwrap_err().to_string();
    assert!(refused.contains("262144"), "{refused}");
    let say = |line: &str| {
        let mut stream = UnixStream::connect(folder.path().join("operators.sock")).unwrap();
        drop(stream.write_all(line.as_bytes()));
        let mut said = String::new();
        drop(stream.read_to_string(&mut said));
        said
    };
    for line in [
        "{\"act\":\"resume\"}\n".to_owned(),
        "{\"act\":\"resume\",\"call\":\"c_\"}\n".to_owned(),
        format!("{{\"act\":\"resume\",\"call\":\"{call}\",\"as\":\"root\"}}\n"),
        format!("{{\"act\":\"end-call\",\"call\":\"{call}\"}}\n"),
        "{\"act\":\"roll-back\",\"call\":\"\"}\n".to_owned(),
        "{\"act\":\"vote\",\"note\":\"\",\"reason\":null}\n".to_owned(),
        format!("{{\"act\":\"vote\",\"note\":\"{}\"}}\n", "n".repeat(1 << 20)),
    ] {
        let said = say(&line);
        let done = said.contains("called") || said.contains("voted") || said.contains("done");
        assert!(!done, "{line}: {said}");
    }
    assert_eq!(host.reader().unwrap().size().unwrap(), size, "nothing was done");
    let path = folder.path().join("operators.sock");
    for _ in 0..1_000 {
        // The kernel's queue may be full: those are refused there.
        drop(UnixStream::connect(&path));
    }
    assert!(stopped(&host.call(request("get")).unwrap()).is_none(), "calls go on");
    assert!(operators::ask(folder.path(), &Request::Status).unwrap().is_some());
}

/// Whether something began is known: what did not is tried again, and of what did the ledger says what came of it.
#[test]
fn a_process_that_ends_in_the_middle_is_told_from_one_that_did_not_begin() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("operators.sock")).unwrap();
    for (says, begins) in [("", false), ("{\"begun\":{\"within_ms\":60000}}\n", true)] {
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                if begins {
                    BufReader::new(&stream).read_line(&mut String::new()).unwrap();
                    stream.write_all(says.as_bytes()).unwrap();
                }
            });
            let said = operators::ask(folder.path(), &resume("c_x"));
            match begins {
                false => assert_eq!(said.unwrap(), Some(Said::Busy)),
                true => {
                    let why = said.unwrap_err().to_string();
                    assert!(why.contains("began, and ended before it said"), "{why}");
                }
            }
        });
    }
}
