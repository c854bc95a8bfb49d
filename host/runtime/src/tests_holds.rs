//! Effects that wait for people, in whole calls: held, voted on, gone on with, replayed.

use ambit_core::hold::{Standing, Verdict, Vote};
use ambit_core::ledger::SignerKey;
use ambit_core::ledger::story::EffectStory;
use ambit_core::scope::HttpScope;

use super::*;
use crate::approvals::{ApprovalError, Waiting};
use crate::replay::Replayer;

/// Everything is permitted, and a change waits for one reviewer.
const ONE: &str = r#"
@id("all") permit (principal, action, resource);
@id("reviewed") forbid (principal, action == Action::"commit", resource) unless { context.approvals.reviewer >= 1 };
"#;
const TWO: &str = r#"
@id("all") permit (principal, action, resource);
@id("reviewed") forbid (principal, action == Action::"commit", resource) unless { context.approvals.reviewer >= 2 };
"#;

fn key(name: &str) -> SignerKey {
    let mut seed = [7; 32];
    name.bytes().zip(&mut seed).for_each(|(byte, seed)| *seed = byte);
    SignerKey::from_seed(name, &seed).unwrap()
}

/// A home where changes wait, with its people enrolled.
fn reviewed(folder: &Path, service: &Service, policy: &str, more: &str) -> Host {
    home(folder, service, more);
    std::fs::write(folder.join("policy/main.cedar"), policy).unwrap();
    for name in ["rita", "sam", "ada", "eve"] {
        home::enrol_person(folder, &key(name).verifier().to_string()).unwrap();
    }
    open(folder).unwrap()
}

fn held(answer: &Answer) -> crate::call::Held {
    match &answer.outcome {
        Outcome::Held(held) => held.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}

fn vote(held: &crate::call::Held, person: &str, verdict: Verdict) -> String {
    let vote = Vote {
        person: person.to_owned(),
        hold: held.hold,
        verdict,
        group: "reviewer".to_owned(),
        expires_ms: held.expires_ms,
    };
    vote.sign(&key(person)).unwrap()
}

fn approve(host: &Host, held: &crate::call::Held, person: &str) -> Result<Standing, ApprovalError> {
    host.vote(&vote(held, person, Verdict::Approve), None)
        .map(|(_, standing)| standing)
}

fn refused(result: Result<Standing, ApprovalError>) -> String {
    match result {
        Err(ApprovalError::Refused(refusal)) => refusal.message,
        other => panic!("{other:?}"),
    }
}

/// The ledger verifies, every value is the one committed to, and the call replays the same.
fn in_order(folder: &Path, call: &str) {
    let keys = Keys::load(folder).unwrap();
    let reader = Reader::open(folder).unwrap().with_keys(&keys);
    let key = crate::store::verifier(folder).unwrap();
    reader.verify(&key, &[], |_| {}).unwrap();
    reader.check_values(|_| {}).unwrap();
    let replayed = Replayer::open(folder, Some(Compiler::InProcess))
        .unwrap()
        .replay(call)
        .unwrap();
    assert_eq!(replayed.diverged, None);
    assert!(replayed.same_engine);
    assert_eq!(replayed.fuel_recorded, replayed.fuel_used);
}

#[test]
fn a_held_effect_is_sent_once_it_is_approved() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let answer = host.call(request("both")).unwrap();
    let held = held(&answer);
    assert_eq!(
        (held.ordinal, held.route.as_str(), held.rules.as_slice()),
        (2, "things.change", &["reviewed".to_owned()][..])
    );
    assert_eq!(service.requests(), 1, "the read alone");
    // Nothing is kept but rows: another process goes on.
    drop(host);
    let host = open(folder.path()).unwrap();
    assert_eq!(host.reader().unwrap().holds(None, 10).unwrap().len(), 1);
    assert_eq!(approve(&host, &held, "rita").unwrap(), Standing::Approved);
    drop(host);
    let host = open(folder.path()).unwrap();
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert_eq!(service.requests(), 2, "the read is not sent again");
    assert!(host.reader().unwrap().holds(None, 10).unwrap().is_empty());
    let again = host.resume(answer.call.as_str(), None).unwrap_err();
    assert!(again.to_string().contains("waits for nothing"), "{again}");
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn a_rejected_effect_is_told_to_its_tool_and_never_sent() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let answer = host.call(request("post")).unwrap();
    let held = held(&answer);
    let reason = Some("not this one");
    let (_, standing) = host.vote(&vote(&held, "rita", Verdict::Reject), reason).unwrap();
    assert_eq!(standing, Standing::Rejected { by: "rita".into() });
    assert!(refused(approve(&host, &held, "sam")).contains("rejected"));
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert_eq!(ended.refused_effects[0].code, Code::Approval);
    assert_eq!(service.requests(), 0);
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn trap_22_votes_that_do_not_count_change_nothing_and_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, TWO, "");
    let answer = host.call(request("post")).unwrap();
    let held = held(&answer);
    assert!(refused(host.resume(answer.call.as_str(), None).map(|_| Standing::Approved)).contains("2 of reviewer"));
    assert!(matches!(approve(&host, &held, "rita").unwrap(), Standing::Waiting(_)));
    assert!(refused(approve(&host, &held, "rita")).contains("counts once"));
    assert!(refused(approve(&host, &held, "ada")).contains("their own request"));
    assert!(refused(approve(&host, &held, "eve")).contains("not in group"));
    assert!(refused(approve(&host, &held, "mallory")).contains("not signed"));
    let forged = vote(&held, "sam", Verdict::Approve).replace("person sam", "person rita");
    assert!(refused(host.vote(&forged, None).map(|(_, standing)| standing)).contains("not signed"));
    let other = crate::call::Held {
        hold: ambit_core::digest::Digest::of(b"another"),
        ..held.clone()
    };
    assert!(refused(approve(&host, &other, "sam")).contains("over"));
    let reader = host.reader().unwrap();
    let entries = reader.entries(0, 1_000).unwrap();
    let recorded: Vec<&str> = entries
        .iter()
        .filter_map(|entry| match entry.body() {
            Body::VoteRefused(body) => Some(body.why.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(
        recorded,
        ["twice", "own-request", "not-a-member", "unsigned", "unsigned", "ended"]
    );
    assert_eq!(service.requests(), 0);
    assert_eq!(approve(&host, &held, "sam").unwrap(), Standing::Approved);
    host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(service.requests(), 1);
}

/// Something that happens to a home between an approval and the going on.
type Change<'a> = &'a dyn Fn(&Path);

#[test]
fn at_the_end_everything_is_decided_anew() {
    // What changes between the approval and the going on, and what the call comes to.
    let no_agent = |folder: &Path| {
        let path = folder.join("ambit.toml");
        let text = std::fs::read_to_string(&path).unwrap().replace("users = [\"ada\"]", "");
        std::fs::write(path, text).unwrap();
    };
    let forbidden = |folder: &Path| {
        let policy = format!("{ONE}\n@id(\"stop\") forbid (principal, action == Action::\"commit\", resource);");
        std::fs::write(folder.join("policy/main.cedar"), policy).unwrap();
    };
    let two = |folder: &Path| std::fs::write(folder.join("policy/main.cedar"), TWO).unwrap();
    let left_group = |folder: &Path| {
        let path = folder.join("ambit.toml");
        let text = std::fs::read_to_string(&path).unwrap().replace("\"rita\", ", "");
        std::fs::write(path, text).unwrap();
    };
    let revoked = |folder: &Path| home::revoke_person(folder, "rita").unwrap();
    let renamed = |folder: &Path| {
        let path = folder.join("ambit.toml");
        let text = std::fs::read_to_string(&path)
            .unwrap()
            .replace("things.change", "things.replace");
        std::fs::write(path, text).unwrap();
    };
    let another_team = |folder: &Path| {
        let path = folder.join("ambit.toml");
        let text = std::fs::read_to_string(&path)
            .unwrap()
            .replace("team = \"support\"", "team = \"sales\"");
        std::fs::write(path, text).unwrap();
    };
    let changes: [(&str, Change<'_>, Option<Code>); 7] = [
        ("the agent is in another team", &another_team, Some(Code::Stale)),
        ("the agent may not act for the user", &no_agent, Some(Code::Caller)),
        ("policy forbids it", &forbidden, Some(Code::Policy)),
        ("policy asks for two", &two, Some(Code::Policy)),
        ("the approver left the group", &left_group, None),
        ("the approver was revoked", &revoked, None),
        ("the route is another one", &renamed, Some(Code::Stale)),
    ];
    for (what, change, code) in changes {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start();
        let host = reviewed(folder.path(), &service, ONE, "");
        let answer = host.call(request("post")).unwrap();
        approve(&host, &held(&answer), "rita").unwrap();
        drop(host);
        change(folder.path());
        let host = open(folder.path()).unwrap();
        let ended = host.resume(answer.call.as_str(), None);
        assert_eq!(service.requests(), 0, "{what}");
        match (ended, code) {
            (Ok(ended), Some(code)) => assert_eq!(ended.refused_effects[0].code, code, "{what}"),
            (Err(ApprovalError::Refused(refusal)), None) => assert!(refusal.message.contains("still waits"), "{what}"),
            (other, _) => panic!("{what}: {other:?}"),
        }
        let key = crate::store::verifier(folder.path()).unwrap();
        host.reader().unwrap().verify(&key, &[], |_| {}).unwrap();
        host.reader().unwrap().check_values(|_| {}).unwrap();
    }
}

#[test]
fn another_component_makes_a_hold_void() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let answer = host.call(request("post")).unwrap();
    approve(&host, &held(&answer), "rita").unwrap();
    drop(host);
    let mut other = component(service.port);
    // A custom section makes another component that does the same.
    other.extend([0, 3, 1, b'x', b'y']);
    let manifest = Manifest::read(&other).unwrap();
    home::accept_tool(folder.path(), "things", &other, &manifest).unwrap();
    let host = open(folder.path()).unwrap();
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(stopped(&ended).map(|refusal| refusal.code), Some(Code::Stale));
    assert_eq!(service.requests(), 0);
}

#[test]
fn a_hold_that_nobody_decides_expires() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "[limits]\nhold_ms = 1000\n");
    let answer = host.call(request("post")).unwrap();
    let held = held(&answer);
    approve(&host, &held, "rita").unwrap();
    thread::sleep(Duration::from_millis(1_100));
    assert!(refused(approve(&host, &held, "sam")).contains("expired"));
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(ended.refused_effects[0].code, Code::Approval);
    assert_eq!(service.requests(), 0);
}

#[test]
fn nothing_waits_in_a_dry_run() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let dry = CallRequest {
        mode: Mode::DryRun,
        ..request("post")
    };
    assert_eq!(host.call(dry).unwrap().refused_effects[0].code, Code::Tier);
    assert!(host.reader().unwrap().holds(None, 10).unwrap().is_empty());
}

/// What a caller gave up is recorded, and the call goes on without it.
#[test]
fn a_call_that_waits_goes_on_without_what_its_caller_gave_up() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let narrowed = |scope: &str| CallRequest {
        narrowing: Narrowing {
            connections: Some(["things".to_owned()].into()),
            scopes: [("things".to_owned(), HttpScope::parse(scope).unwrap())].into(),
            ..Narrowing::default()
        },
        ..request("both")
    };
    let only = |methods: &str| format!("{methods} http://127.0.0.1:{}/things/{{id}}", service.port);
    let answer = host.call(narrowed(&only("GET"))).unwrap();
    assert_eq!(answer.refused_effects[0].code, Code::Narrowing);
    let answer = host.call(narrowed(&only("POST"))).unwrap();
    assert_eq!(answer.refused_effects[0].code, Code::Narrowing);
    approve(&host, &held(&answer), "rita").unwrap();
    drop(host);
    let host = open(folder.path()).unwrap();
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert_eq!(ended.refused_effects.len(), 1, "the read, once more");
    assert_eq!(service.requests(), 2);
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn a_refusal_that_passes_uses_up_no_approval() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let budget = |cap: u32| {
        format!(
            "[budget.changes]\nroute = \"things/things.change\"\nunit = \"effects\"\nwindow = {{ rolling = \"24h\" }}\ncap = {cap}\n"
        )
    };
    let host = reviewed(folder.path(), &service, ONE, &budget(1));
    let (one, other) = (host.call(request("post")).unwrap(), host.call(request("post")).unwrap());
    for answer in [&one, &other] {
        assert_eq!(approve(&host, &held(answer), "rita").unwrap(), Standing::Approved);
    }
    host.resume(one.call.as_str(), None).unwrap();
    let waits = host.resume(other.call.as_str(), None).unwrap();
    assert_eq!(held(&waits), held(&other));
    assert_eq!(waits.refused_effects[0].code, Code::Budget);
    assert_eq!(service.requests(), 1);
    drop(host);
    std::fs::write(
        folder.path().join("ambit.toml"),
        configuration(service.port, &budget(2)),
    )
    .unwrap();
    let host = open(folder.path()).unwrap();
    let ended = host.resume(other.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert_eq!(service.requests(), 2);
    drop(host);
    in_order(folder.path(), other.call.as_str());
}

/// What nobody decided about in time is ended by the next host that opens.
#[test]
fn expired_holds_are_ended_when_a_host_opens() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "[limits]\nhold_ms = 1000\n");
    let answer = host.call(request("post")).unwrap();
    assert_eq!(host.end_expired(10).unwrap(), 0);
    thread::sleep(Duration::from_millis(1_100));
    drop(host);
    let host = open(folder.path()).unwrap();
    let reader = host.reader().unwrap();
    assert!(reader.holds(None, 10).unwrap().is_empty());
    assert!(reader.story(answer.call.as_str()).unwrap().is_over());
    assert!(host.resume(answer.call.as_str(), None).is_err());
}

#[test]
fn the_ledger_tells_what_was_held_and_who_said_what() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let answer = host.call(request("post")).unwrap();
    let note = vote(&held(&answer), "rita", Verdict::Approve);
    host.vote(&note, Some("as agreed")).unwrap();
    let config = Config::load(folder.path()).unwrap();
    let reader = host.reader().unwrap();
    let waiting = Waiting::of(&reader, &config, answer.call.as_str()).unwrap().unwrap();
    assert_eq!(waiting.standing(), Standing::Approved);
    host.resume(answer.call.as_str(), None).unwrap();
    let story = reader.story(answer.call.as_str()).unwrap();
    let hold = &story.holds[&1];
    assert_eq!(hold.votes[0].what.vote, note);
    let Some(EffectStory::Intended { intent, .. }) = story.effects.get(&1) else {
        panic!("{story:?}");
    };
    assert_eq!(intent.what.hold, Some(hold.held.what.hold));
    let reason = reader
        .payload(answer.call.as_str(), "effect/1/reason/1")
        .unwrap()
        .unwrap();
    assert_eq!(reason.bytes(), b"as agreed");
}

#[test]
fn a_replay_finds_what_is_not_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), &Service::start(), "");
    let host = open(folder.path()).unwrap();
    let call = host.call(request("both")).unwrap().call;
    drop(host);
    in_order(folder.path(), call.as_str());
    let keys = Keys::load(folder.path()).unwrap();
    let reader = || Reader::open(folder.path()).unwrap().with_keys(&keys);
    let database = rusqlite::Connection::open(folder.path().join("ledger.db")).unwrap();
    let replayed = || {
        Replayer::open(folder.path(), Some(Compiler::InProcess))
            .unwrap()
            .replay(call.as_str())
    };
    let diverged = || replayed().unwrap().diverged.map(|divergence| divergence.what);
    let put = |name: &str, bytes: &[u8]| {
        let payload = Payload::new(call.as_str(), name, bytes.to_vec()).unwrap();
        let sealed = reader().sealed(&payload, call.as_str());
        let sql = "INSERT INTO payloads (call, name, sealed) VALUES (?1, ?2, ?3)
                   ON CONFLICT (call, name) DO UPDATE SET sealed = excluded.sealed";
        database.execute(sql, (call.as_str(), name, sealed)).unwrap();
    };
    let was = |name: &str| reader().payload(call.as_str(), name).unwrap().unwrap().bytes().to_vec();
    let cases: [(&str, &[u8], &str); 3] = [
        ("effect/2/asked", br#"{"method":"delete"}"#, "effect 2"),
        ("result", b"7", "result"),
        ("args", br#"{"path":"/things/2"}"#, "effect 1"),
    ];
    for (name, bytes, what) in cases {
        let before = was(name);
        put(name, bytes);
        assert_eq!(diverged().as_deref(), Some(what), "{name}");
        put(name, &before);
        assert_eq!(diverged(), None);
    }
    put("log", b"info something\n");
    assert_eq!(diverged().as_deref(), Some("log"));
}
