//! Effects in doubt that are sent again under their key, in whole calls.

use ambit_core::ledger::body::Found;
use ambit_core::stop::{Kind as StopKind, Scope, Stop};

use super::flow::{DOWN, Reply, Scripted, home_with, letters, say};
use super::holds::{ONE, approve, held, reviewed};
use super::recovery::{failing, replays};
use super::*;
use crate::approvals::ApprovalError;
use crate::doubts::Retry;

pub(super) const KEY: &str = "idempotency = { header = \"Idempotency-Key\", lifetime = \"1h\" }";
const BUDGETS: &str = "[budget.all]\nunit = \"effects\"\nwindow = \"day\"\ncap = 9\n";

/// Adds to the end of a home's configuration.
pub(super) fn more(folder: &Path, more: &str) {
    let path = folder.join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, text + more).unwrap();
}

fn policy(folder: &Path, text: &str) {
    std::fs::write(folder.join("policy/main.cedar"), text).unwrap();
}

/// Makes calls in a home until one is left with an effect in doubt that the service has seen: its id.
fn unseen(folder: &Path, service: &Scripted, function: &str, seen: usize) -> String {
    let before = service.requests();
    for good in 0..12 {
        if let Ok(host) = failing(folder, good, Step::BeforeCommit) {
            let _ = host.call(request(function));
        }
        let host = open(folder).unwrap();
        for unended in host.unended().unwrap() {
            let doubts = !unended.doubts.is_empty();
            if doubts && service.requests() - before >= seen {
                return unended.story.call;
            }
            for ordinal in unended.doubts {
                host.settle_doubt(&unended.story.call, Some(ordinal), Found::NotDone, None)
                    .unwrap();
            }
            host.end(&unended.story.call).unwrap();
        }
    }
    panic!("nothing is in doubt");
}

/// A home with an idempotency key, where a write is in doubt that the service has seen.
fn doubtful(folder: &Path, service: &Scripted, change: &str) -> String {
    home_with(folder, service, "", "", change);
    more(folder, BUDGETS);
    unseen(folder, service, "post", 1)
}

fn refused(result: Result<Answer, ApprovalError>) -> Refusal {
    match result {
        Err(ApprovalError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn doubts(host: &Host) -> usize {
    host.reader().unwrap().doubts().unwrap().len()
}

/// What the budget of effects has used and reserved.
pub(super) fn counted(folder: &Path) -> (u64, u64) {
    let states = Reader::open(folder).unwrap().budgets().unwrap();
    let all = states.iter().filter(|state| state.window.budget == "all");
    all.fold((0, 0), |(used, reserved), state| {
        (used + state.account.used, reserved + state.account.reserved)
    })
}

#[test]
fn an_effect_in_doubt_is_sent_again_under_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([]);
    let call = doubtful(folder.path(), &service, KEY);
    let host = open(folder.path()).unwrap();
    let reader = host.reader().unwrap();
    let config = Config::load(folder.path()).unwrap();
    let story = reader.story(&call).unwrap();
    assert!(Retry::of(&reader, &config, &story, 1).unwrap().is_ok());
    assert!(Retry::of(&reader, &config, &story, 2).unwrap().is_err());
    let sent = service.requests();
    assert_eq!(refused(host.resume(&call, None)).code, Code::Doubt);
    assert_eq!(refused(host.retry_doubt(&call, Some(2), None)).code, Code::Doubt);
    let used = counted(folder.path());
    let answer = host.retry_doubt(&call, None, None).unwrap();
    assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
    assert_eq!(answer.refused_effects, []);
    assert_eq!(service.requests(), sent + 1);
    let keys = service.keys();
    assert_eq!(keys[keys.len() - 1], keys[keys.len() - 2], "{keys:?}");
    assert_eq!(doubts(&host), 0);
    assert_eq!(counted(folder.path()), used, "what it may use is set aside once");
    assert!(host.retry_doubt(&call, None, None).is_err());
    let story = host.reader().unwrap().story(&call).unwrap();
    assert_eq!(
        (story.tally().counts().answered, story.tally().counts().in_doubt),
        (1, 0)
    );
    drop((host, reader));
    verifies(folder.path());
    replays(folder.path(), &call);
}

/// Something that happens to a home before its effect is sent again.
type Change<'a> = &'a dyn Fn(&Path);

#[test]
fn what_is_not_permitted_today_stays_in_doubt() {
    let forbidden = |folder: &Path| {
        policy(
            folder,
            &format!("{POLICY}\n@id(\"no\") forbid (principal, action == Action::\"commit\", resource);"),
        );
    };
    let asks = |folder: &Path| policy(folder, ONE);
    let nothing = |folder: &Path| policy(folder, "");
    let team = |folder: &Path| {
        let path = folder.join("ambit.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replace("team = \"support\"", "team = \"sales\"")).unwrap();
    };
    let no_key = |folder: &Path| {
        let path = folder.join("ambit.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replace(KEY, "")).unwrap();
    };
    let elsewhere = |folder: &Path| {
        let route = "\n[connection.things.route.\"things.first\"]\nmatch = \"POST /things/1\"\nreads = [\"id\"]\n";
        more(folder, &format!("{route}{KEY}\n"));
    };
    let cases: [(Change<'_>, Code); 6] = [
        (&forbidden, Code::Policy),
        (&asks, Code::Policy),
        (&nothing, Code::Policy),
        (&team, Code::Stale),
        (&no_key, Code::Stale),
        (&elsewhere, Code::Stale),
    ];
    for (nth, (change, code)) in cases.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let service = Scripted::start([]);
        let call = doubtful(folder.path(), &service, KEY);
        let (sent, used) = (service.requests(), counted(folder.path()));
        let kept = std::fs::read(folder.path().join("ambit.toml")).unwrap();
        change(folder.path());
        let host = open(folder.path()).unwrap();
        let why = refused(host.retry_doubt(&call, None, None));
        assert_eq!(why.code, code, "{nth}: {why:?}");
        assert_eq!((service.requests(), doubts(&host)), (sent, 1), "{nth}");
        assert_eq!(counted(folder.path()), used);
        assert_eq!(host.reader().unwrap().holds(None, 10).unwrap().len(), 0, "{nth}");
        assert_eq!(host.unended().unwrap().len(), 1, "its call is as it was");
        drop(host);
        // What was in the way goes away.
        std::fs::write(folder.path().join("ambit.toml"), kept).unwrap();
        policy(folder.path(), POLICY);
        let host = open(folder.path()).unwrap();
        let answer = host.retry_doubt(&call, None, None).unwrap();
        assert!(matches!(answer.outcome, Outcome::Ok(_)), "{nth}: {answer:?}");
        drop(host);
        verifies(folder.path());
        replays(folder.path(), &call);
    }
}

#[test]
fn a_stop_keeps_what_is_in_doubt_from_being_sent() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([]);
    let call = doubtful(folder.path(), &service, KEY);
    let sent = service.requests();
    let host = open(folder.path()).unwrap();
    for (kind, code) in [(StopKind::Kill, Code::Killed), (StopKind::SafeMode, Code::SafeMode)] {
        let stop = Stop {
            kind,
            scope: "connection:things".parse::<Scope>().unwrap(),
        };
        host.stop(&stop, "looking into it").unwrap();
        assert_eq!(refused(host.retry_doubt(&call, None, None)).code, code);
        assert_eq!((service.requests(), doubts(&host)), (sent, 1));
        host.lift(&stop, None).unwrap();
    }
    assert!(matches!(
        host.retry_doubt(&call, None, None).unwrap().outcome,
        Outcome::Ok(_)
    ));
    drop(host);
    verifies(folder.path());
}

#[test]
fn a_key_that_the_service_forgot_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([]);
    let short = "idempotency = { header = \"Idempotency-Key\", lifetime = \"1s\" }";
    let call = doubtful(folder.path(), &service, short);
    thread::sleep(Duration::from_millis(1_100));
    let sent = service.requests();
    let host = open(folder.path()).unwrap();
    let why = refused(host.retry_doubt(&call, None, None));
    assert!(why.message.contains("too old"), "{why:?}");
    assert_eq!((service.requests(), doubts(&host)), (sent, 1));
    let reader = host.reader().unwrap();
    let config = Config::load(folder.path()).unwrap();
    let listed = Retry::of(&reader, &config, &reader.story(&call).unwrap(), 1).unwrap();
    assert!(listed.is_err(), "nobody is offered it");
    host.settle_doubt(&call, None, Found::Done, None).unwrap();
    host.resume(&call, None).unwrap();
}

#[test]
fn a_guest_that_was_told_of_a_doubt_is_not_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([Reply::HangUp]);
    home_with(folder.path(), &service, "", "", &format!("{KEY}\ndead_letter = true"));
    let host = open(folder.path()).unwrap();
    let call = host.call(request("post")).unwrap().call.to_string();
    assert_eq!(doubts(&host), 1);
    let why = refused(host.retry_doubt(&call, None, None));
    assert_eq!(why.code, Code::Doubt);
    assert!(why.advice.as_ref().unwrap().contains("dead-letters retry"), "{why:?}");
    assert_eq!((service.requests(), doubts(&host)), (1, 1));
    drop(host);
    // One that was ended where it was neither.
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([]);
    let call = doubtful(folder.path(), &service, KEY);
    let host = open(folder.path()).unwrap();
    host.end(&call).unwrap();
    let why = refused(host.retry_doubt(&call, None, None));
    assert!(why.message.contains("its call is over"), "{why:?}");
    assert_eq!(doubts(&host), 1);
}

#[test]
fn what_does_not_leave_stays_in_doubt_and_can_be_sent_later() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([]);
    let call = doubtful(folder.path(), &service, KEY);
    let sent = service.requests();
    let path = folder.path().join("ambit.toml");
    let kept = std::fs::read_to_string(&path).unwrap();
    // Nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    say(folder.path(), &format!("connect_to = \"127.0.0.1:{closed}\""), "", "");
    let host = open(folder.path()).unwrap();
    for _ in 0..2 {
        refused(host.retry_doubt(&call, None, None));
        assert_eq!((service.requests(), doubts(&host)), (sent, 1));
    }
    drop(host);
    verifies(folder.path());
    std::fs::write(&path, kept).unwrap();
    let host = open(folder.path()).unwrap();
    let answer = host.retry_doubt(&call, None, None).unwrap();
    assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
    let story = host.reader().unwrap().story(&call).unwrap();
    assert_eq!(story.tally().counts().in_doubt, 0);
    drop(host);
    verifies(folder.path());
    replays(folder.path(), &call);
}

/// The service declines it now: what it did with the first sending nobody knows, so its money counts.
#[test]
fn an_answer_that_nobody_saw_again_is_in_doubt_for_its_guest() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([]);
    let call = doubtful(folder.path(), &service, &format!("{KEY}\ndead_letter = true"));
    service.will([Reply::HangUp]);
    let host = open(folder.path()).unwrap();
    let answer = host.retry_doubt(&call, None, None).unwrap();
    assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
    assert_eq!(doubts(&host), 1, "its guest was told that it is in doubt");
    assert_eq!(letters(folder.path()), [(call.clone(), 1)]);
    assert_eq!(refused(host.retry_doubt(&call, None, None)).code, Code::Doubt);
    let again = host.retry_dead_letter(&call, 1, false).unwrap();
    assert!(matches!(again.outcome, Outcome::Ok(_)), "{again:?}");
    let keys = service.keys();
    assert!(
        keys.iter().rev().take(3).all(|key| *key == keys[keys.len() - 1]),
        "{keys:?}"
    );
    drop(host);
    verifies(folder.path());
    replays(folder.path(), &call);
}

/// A call whose effect was approved, had its intent, and is in doubt.
fn approved_and_unseen(folder: &Path, service: &Scripted) -> String {
    drop(reviewed(folder, &service.service, ONE, ""));
    say(folder, "", "", KEY);
    for good in 0..12 {
        let host = open(folder).unwrap();
        let answer = host.call(request("post")).unwrap();
        approve(&host, &held(&answer), "rita").unwrap();
        drop(host);
        let before = service.requests();
        if let Ok(host) = failing(folder, good, Step::BeforeCommit) {
            let _ = host.resume(answer.call.as_str(), None);
        }
        let host = open(folder).unwrap();
        let unended = host.unended().unwrap();
        if service.requests() > before
            && let Some(one) = unended.iter().find(|unended| !unended.doubts.is_empty())
        {
            return one.story.call.clone();
        }
    }
    panic!("nothing is in doubt");
}

#[test]
fn the_approvals_of_an_effect_in_doubt_serve_it_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([]);
    let call = approved_and_unseen(folder.path(), &service);
    let sent = service.requests();
    let host = open(folder.path()).unwrap();
    let answer = host.retry_doubt(&call, None, None).unwrap();
    assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
    assert_eq!(service.requests(), sent + 1);
    drop(host);
    verifies(folder.path());
    replays(folder.path(), &call);
}

#[test]
fn approvals_of_people_who_may_not_approve_any_more_serve_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([]);
    let call = approved_and_unseen(folder.path(), &service);
    let sent = service.requests();
    home::revoke_person(folder.path(), "rita").unwrap();
    // Policy would permit it now; what was approved is not any more.
    policy(folder.path(), POLICY);
    let host = open(folder.path()).unwrap();
    let why = refused(host.retry_doubt(&call, None, None));
    assert_eq!(why.code, Code::Approval, "{why:?}");
    assert_eq!((service.requests(), doubts(&host)), (sent, 1));
}

/// A home where an operator's retry of a dead letter is in doubt: its call.
fn letter_unseen(folder: &Path, service: &Scripted) -> String {
    home_with(folder, service, "", "", &format!("{KEY}\ndead_letter = true"));
    more(folder, "[budget.calls]\nunit = \"calls\"\nwindow = \"day\"\ncap = 99\n");
    service.will([DOWN]);
    let host = open(folder).unwrap();
    let call = host.call(request("post")).unwrap().call.to_string();
    drop(host);
    assert_eq!(letters(folder), [(call.clone(), 1)]);
    for good in 0..12 {
        if let Ok(host) = failing(folder, good, Step::BeforeCommit) {
            let _ = host.retry_dead_letter(&call, 1, false);
        }
        let host = open(folder).unwrap();
        for unended in host.unended().unwrap() {
            if !unended.doubts.is_empty() {
                return unended.story.call;
            }
            host.resume(&unended.story.call, None).unwrap();
        }
    }
    panic!("nothing is in doubt");
}

#[test]
fn a_retry_of_a_dead_letter_that_was_not_done_is_in_the_list_again() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([]);
    let call = letter_unseen(folder.path(), &service);
    assert_eq!(letters(folder.path()), []);
    let host = open(folder.path()).unwrap();
    host.settle_doubt(&call, None, Found::NotDone, None).unwrap();
    assert_eq!(letters(folder.path()), [(call.clone(), 1)]);
    assert!(stopped(&host.resume(&call, None).unwrap()).is_some());
    let again = host.retry_dead_letter(&call, 1, false).unwrap();
    assert!(matches!(again.outcome, Outcome::Ok(_)), "{again:?}");
    assert_eq!(letters(folder.path()), []);
    let keys = service.keys();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    drop(host);
    verifies(folder.path());
}

#[test]
fn a_retry_of_a_dead_letter_is_sent_again_without_a_guest() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([]);
    let call = letter_unseen(folder.path(), &service);
    let sent = service.requests();
    let host = open(folder.path()).unwrap();
    let answer = host.retry_doubt(&call, None, None).unwrap();
    assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
    assert_eq!((service.requests(), doubts(&host)), (sent + 1, 0));
    assert_eq!(letters(folder.path()), []);
    let keys = service.keys();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    drop(host);
    verifies(folder.path());
}

#[test]
fn values_of_a_doubt_are_kept_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([]);
    let call = doubtful(folder.path(), &service, KEY);
    let host = open(folder.path()).unwrap();
    host.end(&call).unwrap();
    drop(host);
    let why = || Reason::Subject(Subject::Agent("assistant".into()));
    let found = Reader::open(folder.path()).unwrap().erasable(why(), 0).unwrap();
    assert!(found.kept(crate::store::Kept::InDoubt).eq([call.as_str()]));
    if found.calls() > 0 {
        home::erase(folder.path(), &found).unwrap();
    }
    verifies(folder.path());
}

/// A wait for its turn passes between the question whether its approvals stand and the entry that it is sent again.
#[test]
fn who_is_revoked_while_a_doubt_waits_for_its_turn_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([]);
    let call = approved_and_unseen(folder.path(), &service);
    // Every three seconds one: long enough for a busy machine to revoke in.
    say(
        folder.path(),
        "rate = { per = \"minute\", most = 20, burst = 1 }",
        "",
        "",
    );
    let host = open(folder.path()).unwrap();
    host.call(request("get")).unwrap();
    let sent = service.requests();
    let home = folder.path().to_owned();
    let revoking = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        let revoke = crate::operators::Request::Revoke {
            name: "rita".to_owned(),
        };
        crate::operators::act(&home, &revoke).unwrap();
    });
    let why = refused(host.retry_doubt(&call, None, None));
    revoking.join().unwrap();
    assert_eq!(why.code, Code::Approval, "{why:?}");
    assert_eq!((service.requests(), doubts(&host)), (sent, 1));
}
