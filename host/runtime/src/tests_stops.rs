//! What operators stop, in whole calls: guests that compute, guests that wait, what waits for people, and how operators are heard.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use ambit_core::hold::{Standing, Verdict, Vote};
use ambit_core::ledger::SignerKey;
use ambit_core::ledger::body::{Doubt, End, Outcome as EffectOutcome};
use ambit_core::ledger::story::EffectStory;
use ambit_core::stop::{Kind, Stop};

use super::*;
use crate::approvals::ApprovalError;
use crate::operators::{self, Request};
use crate::stops;

/// A guest may compute for as long as nobody stops it.
const ENDLESS: &str = "[limits]\nfuel = 4000000000000000\nwall_ms = 60000\nupstream_ms = 60000\n";
/// What a stop has to end a call in.
const AT_ONCE: Duration = Duration::from_millis(100);
/// How many calls are killed to know that.
const KILLS: usize = 21;

fn stop(kind: Kind, scope: &str) -> Stop {
    Stop {
        kind,
        scope: scope.parse().unwrap(),
    }
}

fn kill(scope: &str) -> Stop {
    stop(Kind::Kill, scope)
}

/// Takes a request and never answers.
fn silent(stream: TcpStream, seen: &AtomicUsize) {
    let seen_by = stream.try_clone().unwrap();
    hang_up(seen_by, seen);
    // Open for as long as the process: nobody waits for this thread.
    std::mem::forget(stream);
}

fn wait_until(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not happen");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Kills a call once `under_way`, and says how long after the stop was durable it had its end on the ledger.
fn killed(host: &Host, function: &str, under_way: impl Fn() -> bool) -> (Answer, Duration) {
    thread::scope(|scope| {
        let call = scope.spawn(|| {
            let answer = host.call(request(function)).unwrap();
            (answer, Instant::now())
        });
        wait_until(|| !host.shared.store.board().running().is_empty() && under_way());
        let done = host
            .stop(&kill("agent:assistant"), "it does what it should not")
            .unwrap();
        let durable = Instant::now();
        let (answer, ended) = call.join().unwrap();
        assert_eq!(done.ended, [answer.call.as_str()]);
        host.lift(&kill("agent:assistant"), None).unwrap();
        (answer, ended.saturating_duration_since(durable))
    })
}

/// Of many kills half have to be that quick, and nine in ten within five times that: a machine that is busy with something else delays
/// one or the other, and never most of them.
fn at_once(mut measure: impl FnMut() -> Duration) {
    let mut took: Vec<Duration> = (0..KILLS).map(|_| measure()).collect();
    took.sort_unstable();
    assert!(took[KILLS / 2] < AT_ONCE, "{took:?}");
    assert!(took[KILLS * 9 / 10] < 5 * AT_ONCE, "{took:?}");
}

#[test]
fn a_kill_ends_a_guest_that_computes() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, ENDLESS);
    let host = open(folder.path()).unwrap();
    at_once(|| {
        let began = Instant::now();
        let (answer, took) = killed(&host, "spin", || began.elapsed() > Duration::from_millis(30));
        assert_eq!(stopped(&answer).map(|refusal| refusal.code), Some(Code::Killed));
        let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
        let end = story.finished.unwrap().what.outcome;
        assert!(matches!(end, End::Refused(refused) if refused.code == Code::Killed));
        took
    });
    drop(host);
    verifies(folder.path());
}

/// A request that has left is in doubt, and the ledger says so.
#[test]
fn a_kill_ends_a_guest_that_waits_for_its_service() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::that(silent);
    home(folder.path(), &service, ENDLESS);
    let host = open(folder.path()).unwrap();
    at_once(|| {
        let before = service.requests();
        let (answer, took) = killed(&host, "both", || service.requests() > before);
        assert_eq!(stopped(&answer).map(|refusal| refusal.code), Some(Code::Killed));
        let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
        assert_eq!(story.effects.len(), 1, "it does not go on to the next");
        let Some(EffectStory::Intended {
            outcome: Some(outcome), ..
        }) = story.effects.get(&1)
        else {
            panic!("{story:?}");
        };
        assert_eq!(outcome.what.outcome, EffectOutcome::InDoubt(Doubt::Stopped));
        assert!(outcome.what.sent > 0);
        took
    });
    drop(host);
    verifies(folder.path());
}

#[test]
fn each_scope_stops_its_own_until_it_is_lifted() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let scopes = [
        ("everything", true),
        ("tenant:acme", true),
        ("agent:assistant", true),
        ("tool:things", true),
        ("connection:things", true),
        ("tenant:assistant", false),
        ("agent:acme", false),
        ("tool:thing", false),
        ("connection:stripe", false),
        ("run:things", false),
    ];
    for (scope, covers) in scopes {
        let host = open(folder.path()).unwrap();
        let before = service.requests();
        host.stop(&kill(scope), "a drill").unwrap();
        // Also for the next process.
        drop(host);
        let host = open(folder.path()).unwrap();
        let answer = host.call(request("get")).unwrap();
        let code = stopped(&answer).map(|refusal| refusal.code);
        assert_eq!(code, covers.then_some(Code::Killed), "{scope}");
        assert_eq!(service.requests() - before, usize::from(!covers), "{scope}");
        // A stop that is there stays as it is, and lifting it is one act.
        assert!(host.stop(&kill(scope), "again").unwrap().already);
        host.lift(&kill(scope), Some("the drill is over")).unwrap();
        assert!(host.lift(&kill(scope), None).is_err());
        assert!(stopped(&host.call(request("get")).unwrap()).is_none(), "{scope}");
    }
    verifies(folder.path());
}

#[test]
fn safe_mode_lets_reads_through_and_pauses_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    for scope in [
        "everything",
        "tenant:acme",
        "agent:assistant",
        "tool:things",
        "connection:things",
    ] {
        let host = open(folder.path()).unwrap();
        let before = service.requests();
        host.stop(&stop(Kind::SafeMode, scope), "to be safe").unwrap();
        let answer = host.call(request("both")).unwrap();
        let paused = paused(&answer);
        let in_force = host.reader().unwrap().stops().unwrap();
        assert_eq!(
            in_force.iter().map(|stop| &stop.id).collect::<Vec<_>>(),
            [&paused.stop],
            "{scope}"
        );
        assert_eq!(paused.refusal.code, Code::SafeMode, "{scope}");
        assert!(answer.refused_effects.is_empty(), "nothing is recorded as refused");
        assert_eq!(service.requests() - before, 1, "the read alone");
        let call = answer.call.as_str();
        let unended = host.unended().unwrap();
        assert_eq!(unended.len(), 1);
        assert_eq!(unended[0].story.paused().unwrap().what.stop, paused.stop);
        // Another process neither, until it is lifted.
        drop(host);
        let host = open(folder.path()).unwrap();
        assert_eq!(code(host.resume(call, None)), Code::SafeMode);
        assert_eq!(service.requests() - before, 1);
        host.lift(&stop(Kind::SafeMode, scope), None).unwrap();
        let ended = host.resume(call, None).unwrap();
        assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
        assert_eq!(service.requests() - before, 2, "the read is not sent again");
        assert!(host.unended().unwrap().is_empty());
        assert!(host.call(request("both")).unwrap().refused_effects.is_empty());
        drop(host);
        verifies(folder.path());
    }
    verifies(folder.path());
}

fn paused(answer: &Answer) -> crate::call::Paused {
    match &answer.outcome {
        Outcome::Paused(paused) => paused.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_is_paused_as_often_as_it_is_stopped_and_keeps_what_it_reserved() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(
        folder.path(),
        &service,
        "[budget.calls]\nwindow = \"day\"\nunit = \"calls\"\ncap = 1\n",
    );
    let host = open(folder.path()).unwrap();
    let safe = stop(Kind::SafeMode, "everything");
    host.stop(&safe, "look first").unwrap();
    let answer = host.call(request("both")).unwrap();
    let first = paused(&answer).stop;
    let call = answer.call.as_str();
    host.lift(&safe, None).unwrap();
    host.stop(&stop(Kind::SafeMode, "tool:things"), "look again").unwrap();
    // Another stop is in force by now: it goes on, and is paused once more.
    let again = host.resume(call, None).unwrap();
    let second = paused(&again).stop;
    assert_ne!(first, second);
    assert_eq!(code(host.resume(call, None)), Code::SafeMode);
    let story = host.reader().unwrap().story(call).unwrap();
    let stops: Vec<&String> = story.pauses.iter().map(|pause| &pause.what.stop).collect();
    assert_eq!(stops, [&first, &second], "an entry for each");
    let full = host.call(request("get")).unwrap();
    assert_eq!(stopped(&full).map(|refusal| refusal.code), Some(Code::Budget));
    host.lift(&stop(Kind::SafeMode, "tool:things"), None).unwrap();
    host.resume(call, None).unwrap();
    assert_eq!(service.requests(), 2);
    drop(host);
    verifies(folder.path());
    verifies(folder.path());
}

/// Everything is permitted, and a change waits for one reviewer.
const REVIEWED: &str = r#"
@id("all") permit (principal, action, resource);
@id("reviewed") forbid (principal, action == Action::"commit", resource) unless { context.approvals.reviewer >= 1 };
"#;

fn rita() -> SignerKey {
    SignerKey::from_seed("rita", &[3; 32]).unwrap()
}

/// A host with a call whose change was held and approved, and has not gone on.
fn approved(folder: &Path, service: &Service, function: &str) -> (Host, Answer) {
    home(folder, service, ENDLESS);
    fs::write(folder.join("policy/main.cedar"), REVIEWED).unwrap();
    home::enrol_person(folder, &rita().verifier().to_string()).unwrap();
    let host = open(folder).unwrap();
    let answer = host.call(request(function)).unwrap();
    let Outcome::Held(held) = &answer.outcome else {
        panic!("{answer:?}");
    };
    let vote = Vote {
        in_stead_of: None,
        person: "rita".to_owned(),
        hold: held.hold,
        verdict: Verdict::Approve,
        group: "reviewer".to_owned(),
        expires_ms: held.expires_ms,
    };
    let (_, standing) = host.vote(&vote.sign(&rita()).unwrap(), None).unwrap();
    assert_eq!(standing, Standing::Approved);
    (host, answer)
}

fn code(result: Result<Answer, ApprovalError>) -> Code {
    match result {
        Err(ApprovalError::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stop_uses_no_approvals_up() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let (host, answer) = approved(folder.path(), &service, "both");
    let call = answer.call.as_str();
    for stop in [
        kill("tenant:acme"),
        kill("connection:things"),
        stop(Kind::SafeMode, "everything"),
    ] {
        host.stop(&stop, "wait").unwrap();
        let expected = match stop.kind {
            Kind::Kill => Code::Killed,
            Kind::SafeMode => Code::SafeMode,
        };
        assert_eq!(code(host.resume(call, None)), expected);
        assert_eq!(host.reader().unwrap().holds(None, 9).unwrap().len(), 1, "it waits on");
        host.lift(&stop, None).unwrap();
    }
    assert_eq!(service.requests(), 1);
    let ended = host.resume(call, None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert_eq!(service.requests(), 2);
    drop(host);
    verifies(folder.path());
}

/// A kill that comes while the call goes on, before its guest is at the held effect again.
#[test]
fn a_call_that_is_stopped_on_its_way_to_what_is_held_waits_on() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let (host, answer) = approved(folder.path(), &service, "late");
    let call = answer.call.as_str();
    thread::scope(|scope| {
        let going_on = scope.spawn(|| host.resume(call, None));
        wait_until(|| !host.shared.store.board().running().is_empty());
        host.stop(&kill("everything"), "wait").unwrap();
        assert_eq!(code(going_on.join().unwrap()), Code::Killed);
    });
    assert_eq!(host.reader().unwrap().holds(None, 9).unwrap().len(), 1, "it waits on");
    host.lift(&kill("everything"), None).unwrap();
    assert_eq!(service.requests(), 1);
    host.resume(call, None).unwrap();
    assert_eq!(service.requests(), 2);
    drop(host);
    verifies(folder.path());
}

/// Under safe mode, what policy would hold is paused: nobody is asked for what cannot be done.
#[test]
fn what_is_stopped_waits_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    fs::write(folder.path().join("policy/main.cedar"), REVIEWED).unwrap();
    home::enrol_person(folder.path(), &rita().verifier().to_string()).unwrap();
    let host = open(folder.path()).unwrap();
    host.stop(&stop(Kind::SafeMode, "everything"), "to be safe").unwrap();
    let answer = host.call(request("post")).unwrap();
    paused(&answer);
    assert!(host.reader().unwrap().holds(None, 9).unwrap().is_empty());
}

#[test]
fn a_reason_is_the_one_that_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    host.stop(&kill("everything"), "a drill").unwrap();
    host.lift(&kill("everything"), Some("it is over")).unwrap();
    drop(host);
    verifies(folder.path());
    let database = rusqlite::Connection::open(folder.path().join("ledger.db")).unwrap();
    let gone = database.execute(
        "DELETE FROM payloads WHERE call LIKE 's\\_%' ESCAPE '\\' AND name = 'lifted'",
        [],
    );
    assert_eq!(gone.unwrap(), 1);
    drop(database);
    let reader = Reader::open(folder.path()).unwrap();
    let reader = reader.with_keys(&Keys::load(folder.path()).unwrap());
    let error = reader.check_values(|_| {}).unwrap_err().to_string();
    assert!(error.contains("lifted"), "{error}");
}

fn socket(folder: &Path) -> std::path::PathBuf {
    folder.join("operators.sock")
}

/// One line to the socket, and what comes back.
fn say(folder: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket(folder)).unwrap();
    // Too much of it is not read to its end.
    drop(stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write)));
    let mut answer = String::new();
    // A connection that was closed over what it sent too much of has no answer.
    drop(stream.read_to_string(&mut answer));
    answer
}

#[test]
fn operators_are_heard_while_a_host_runs() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, ENDLESS);
    let host = open(folder.path()).unwrap();
    let there = fs::symlink_metadata(socket(folder.path())).unwrap();
    assert!(there.file_type().is_socket());
    assert_eq!(there.permissions().mode() & 0o777, 0o600);
    let request_of = |kind, scope: &str| Request::Stop {
        kind,
        scope: scope.parse().unwrap(),
        reason: "a drill".into(),
    };
    thread::scope(|scope| {
        let call = scope.spawn(|| host.call(request("spin")).unwrap());
        wait_until(|| !host.shared.store.board().running().is_empty());
        let status = operators::act(folder.path(), &Request::Status).unwrap();
        let operators::Answer::Status(status) = status else {
            panic!("{status:?}");
        };
        assert_eq!((status.pid, status.calls.len()), (std::process::id(), 1));
        assert_eq!(
            (status.calls[0].tool.as_str(), status.calls[0].stopped),
            ("things", false)
        );
        operators::act(folder.path(), &request_of(Kind::Kill, "tool:things")).unwrap();
        let answer = call.join().unwrap();
        assert_eq!(stopped(&answer).map(|refusal| refusal.code), Some(Code::Killed));
    });
    let enrol = Request::Enrol {
        key: rita().verifier().to_string(),
    };
    operators::act(folder.path(), &enrol).unwrap();
    assert!(operators::act(folder.path(), &enrol).is_err());
    // The same acts without a host, on a home that nobody holds.
    drop(host);
    assert!(!socket(folder.path()).exists());
    assert_eq!(operators::ask(folder.path(), &Request::Status).unwrap(), None);
    operators::act(folder.path(), &request_of(Kind::SafeMode, "everything")).unwrap();
    let reader = Reader::open(folder.path()).unwrap();
    let standing = stops::standing(&reader).unwrap();
    assert_eq!(standing.len(), 2);
    assert_eq!(standing[0].reason, None, "reasons need the home's keys");
    let reader = reader.with_keys(&Keys::load(folder.path()).unwrap());
    assert_eq!(stops::standing(&reader).unwrap()[0].reason.as_deref(), Some("a drill"));
    verifies(folder.path());
}

#[test]
fn nothing_that_is_sent_to_the_socket_hurts_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    let size = host.reader().unwrap().size().unwrap();
    let long = vec![b'x'; 1 << 20];
    let garbage: [&[u8]; 12] = [
        b"",
        b"\n",
        b"{}\n",
        b"{\"act\":\"status\"}",
        b"{\"act\":\"halt\"}\n",
        b"{\"act\":\"stop\",\"kind\":\"kill\",\"scope\":\"everything\"}\n",
        b"{\"act\":\"stop\",\"kind\":\"kill\",\"scope\":\"all\",\"reason\":\"x\"}\n",
        b"{\"act\":\"stop\",\"kind\":\"kill\",\"scope\":\"everything\",\"reason\":\" \"}\n",
        b"{\"act\":\"lift\",\"kind\":\"kill\",\"scope\":\"everything\",\"reason\":null}\n",
        b"{\"act\":\"enrol\",\"key\":\"\\u0000\"}\n",
        b"\xff\xfe\x00[[[[[[[[\n",
        &long,
    ];
    for bytes in garbage {
        let answer = say(folder.path(), bytes);
        assert!(answer.is_empty() || answer.contains("refused"), "{answer}");
        assert_eq!(host.reader().unwrap().size().unwrap(), size, "nothing was done");
    }
    // Half lines that stay open, more than are served at once; each gives its place up in time.
    let mut open_ends = Vec::new();
    for _ in 0..40 {
        let mut stream = UnixStream::connect(socket(folder.path())).unwrap();
        stream.write_all(b"{\"act\":").unwrap();
        open_ends.push(stream);
    }
    assert!(stopped(&host.call(request("get")).unwrap()).is_none(), "calls go on");
    let kill_all = Request::Stop {
        kind: Kind::Kill,
        scope: "everything".parse().unwrap(),
        reason: "a drill".into(),
    };
    operators::act(folder.path(), &kill_all).unwrap();
    assert_eq!(
        stopped(&host.call(request("get")).unwrap()).map(|refusal| refusal.code),
        Some(Code::Killed)
    );
}

#[test]
fn a_socket_that_was_left_behind_is_replaced_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    drop(UnixListener::bind(socket(folder.path())).unwrap());
    assert!(socket(folder.path()).exists(), "as a process leaves it that was killed");
    let host = open(folder.path()).unwrap();
    assert!(operators::ask(folder.path(), &Request::Status).unwrap().is_some());
    drop(host);
    fs::write(socket(folder.path()), "somebody's notes").unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("in the way"), "{error}");
    assert_eq!(fs::read_to_string(socket(folder.path())).unwrap(), "somebody's notes");
}

#[test]
fn a_home_whose_path_is_too_long_for_a_socket_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("d".repeat(100));
    let service = Service::start();
    home(&deep, &service, "");
    let error = open(&deep).unwrap_err().to_string();
    assert!(error.contains("longer path than a socket can have"), "{error}");
}
