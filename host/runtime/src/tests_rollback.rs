//! Calls that are undone, whole: by routes, by the tool's function, in part, with people, and over the host's end.

use std::collections::VecDeque;

use ambit_core::hold::{Edit, Standing, Verdict};
use ambit_core::json::Json;
use ambit_core::ledger::CallStory;
use ambit_core::ledger::body::{By, Found, Stage};
use ambit_core::ledger::story::{EffectStory, Opening};
use ambit_core::policy::PolicySet;
use ambit_core::stop;

use super::holds::{approve, held, key, vote};
use super::*;
use crate::rollback::RollbackOptions;
use crate::whatif::{Changed, WhatIf};

/// What deleting is answered with: a status, or nothing.
type Script = Arc<Mutex<VecDeque<Option<u16>>>>;

/// A service that says what was asked of it, and deletes as it is told: with 200 where it is told nothing.
struct Kept {
    service: Service,
    lines: Arc<Mutex<Vec<String>>>,
    script: Script,
}

impl Kept {
    fn start() -> Self {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let script = Script::default();
        let (kept, deleting) = (Arc::clone(&lines), Arc::clone(&script));
        let service = Service::that(move |mut stream, seen| {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let line = head.split(" HTTP").next().unwrap().to_owned();
            let deletes = line.starts_with("DELETE");
            kept.lock().push(line);
            seen.fetch_add(1, Ordering::SeqCst);
            let status = match deletes.then(|| deleting.lock().pop_front()).flatten() {
                Some(None) => return,
                Some(Some(status)) => status,
                None => 200,
            };
            let body = r#"{"id":"1"}"#;
            let answer = format!(
                "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.shutdown(Shutdown::Write);
        });
        Self { service, lines, script }
    }

    fn will(&self, replies: impl IntoIterator<Item = Option<u16>>) {
        self.script.lock().extend(replies);
    }

    /// What was deleted, or was to be, in order.
    fn deletes(&self) -> Vec<String> {
        let lines = self.lines.lock();
        lines
            .iter()
            .filter_map(|line| Some(line.strip_prefix("DELETE ")?.to_owned()))
            .collect()
    }
}

/// `make` changes a thing and says that `cancel` undoes it; `pair` changes two; `broken` changes one and traps.
fn undoing(port: u16) -> Vec<u8> {
    let world = format!(
        r#"world tool {{
        @external-id("POST,DELETE http://127.0.0.1:{port}/things/{{id}} reads(id); POST http://127.0.0.1:{port}/others/{{id}} reads(id)")
        import things: ambit:capability/http@0.1.0;
        @external-id("commit undo(cancel)")
        export make: func(path: string) -> u16;
        @external-id("commit undo(cancel)")
        export broken: func(path: string) -> u16;
        export pair: func(path: string, other: string) -> u16;
        export cancel: func(path: string) -> u16;
    }}"#
    );
    let send = |method: u32, path: u32| {
        format!(
            "(call $send (i32.const {method}) (local.get {path}) (local.get {}) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64))",
            path + 1
        )
    };
    let done = "(i32.load8_u (i32.const 64))";
    let module = format!(
        r#"(module
        (import "things" "send" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
        {allocator}
        (func (export "make") (param i32 i32) (result i32) {post} {done})
        (func (export "broken") (param i32 i32) (result i32) {post} unreachable)
        (func (export "cancel") (param i32 i32) (result i32) {delete} {done})
        (func (export "pair") (param i32 i32 i32 i32) (result i32) {post} {other} {done}))"#,
        allocator = crate::sandbox::tests::ALLOCATOR,
        post = send(2, 0),
        other = send(2, 2),
        delete = send(5, 0),
    );
    crate::sandbox::tests::component(&world, &module)
}

const UNDO: &str = "object = { read = \"things.get\", id = \"{id}\" }\nundo = { route = \"things.delete\" }";
/// Everything is permitted, and deleting waits for one reviewer.
const REVIEWED: &str = r#"
@id("all") permit (principal, action, resource);
@id("reviewed") forbid (principal, action == Action::"commit", resource == Route::"things/things.delete")
unless { context.approvals.reviewer >= 1 };
"#;

/// A home whose tool changes things that can be taken back, as `undo` says.
fn set(folder: &Path, service: &Kept, undo: &str) -> Host {
    let port = service.service.port;
    home::init(folder).unwrap();
    std::fs::write(folder.join("policy/main.cedar"), POLICY).unwrap();
    let routes = format!(
        r#"
[connection.things.route."others.change"]
match = "POST /others/{{id}}"
{undo}
[connection.things.route."things.delete"]
match = "DELETE /things/{{id}}"
"#
    );
    let text = configuration(port, "").replace("[tool.things.bind]", &format!("{routes}\n[tool.things.bind]"));
    let text = text.replace("\"POST /things/{id}\"\n", &format!("\"POST /things/{{id}}\"\n{undo}\n"));
    std::fs::write(folder.join("ambit.toml"), text).unwrap();
    let component = undoing(port);
    let manifest = Manifest::read(&component).unwrap();
    home::add_tool(folder, "things", &component, &manifest).unwrap();
    for name in ["rita", "sam"] {
        home::enrol_person(folder, &key(name).verifier().to_string()).unwrap();
    }
    open(folder).unwrap()
}

fn pair() -> CallRequest {
    CallRequest {
        args: r#"{"path":"/things/1","other":"/others/1"}"#.to_owned(),
        ..request("pair")
    }
}

fn called(host: &Host, request: CallRequest) -> String {
    host.call(request).unwrap().call.to_string()
}

fn roll_back(host: &Host, call: &str) -> Answer {
    host.roll_back(call, &RollbackOptions::default(), None).unwrap()
}

fn code(answer: &Answer) -> Option<Code> {
    stopped(answer).map(|refusal| refusal.code)
}

fn story(host: &Host, call: &str) -> CallStory {
    host.reader().unwrap().story(call).unwrap()
}

/// The effects that a rollback took back, or tried to, in order.
fn undid(host: &Host, answer: &Answer) -> Vec<u32> {
    let story = story(host, answer.call.as_str());
    let of = |effect: &EffectStory| match effect {
        EffectStory::Intended { intent, .. } => intent.what.undoes.as_ref().map(|undoes| undoes.ordinal),
        EffectStory::Held(held) => held.what.undoes.as_ref().map(|undoes| undoes.ordinal),
        EffectStory::Refused(refused) => refused.what.undoes.as_ref().map(|undoes| undoes.ordinal),
    };
    story.effects.values().filter_map(of).collect()
}

/// The numbers of the call's effects that change something.
fn changes(host: &Host, call: &str) -> Vec<u32> {
    let story = story(host, call);
    let changes = story.effects.iter().filter_map(|(ordinal, effect)| match effect {
        EffectStory::Intended { intent, .. } => intent.what.changes().then_some(*ordinal),
        _ => None,
    });
    changes.collect()
}

/// That a call cannot be undone, for this reason, and that the ledger says so.
fn not_undone(host: &Host, call: &str, expected: Code, why: &str) {
    let answer = roll_back(host, call);
    let refusal = stopped(&answer).unwrap();
    assert_eq!(refusal.code, expected, "{refusal:?}");
    assert!(refusal.message.contains(why), "{refusal:?}");
    let story = story(host, answer.call.as_str());
    let Opening::Denied(denied) = &story.opening.what else {
        panic!("{story:?}")
    };
    assert_eq!(denied.stage, Stage::Undo);
    assert_eq!(denied.undoes.as_ref().map(|undoes| undoes.call.as_str()), Some(call));
}

fn rewrite(folder: &Path, change: impl FnOnce(String) -> String) {
    let path = folder.join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, change(text)).unwrap();
}

#[test]
fn a_call_is_undone_in_reverse_once() {
    let folder = tempfile::tempdir().unwrap();
    let service = Kept::start();
    let host = set(folder.path(), &service, UNDO);
    let call = called(&host, pair());
    let mut changed = changes(&host, &call);
    assert_eq!(changed.len(), 2);
    let plan = host.plan_rollback(&call, &RollbackOptions::default()).unwrap();
    assert_eq!((plan.by(), plan.items.len()), (By::Routes, 2));
    assert!(service.deletes().is_empty(), "a plan does nothing");
    let answer = roll_back(&host, &call);
    assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
    changed.reverse();
    assert_eq!(undid(&host, &answer), changed);
    assert_eq!(service.deletes(), ["/things/1", "/things/1"]);
    not_undone(&host, &call, Code::Undo, "was undone already");
    not_undone(&host, answer.call.as_str(), Code::Undo, "is a rollback itself");
    assert_eq!(service.deletes().len(), 2);
    drop(host);
    verifies(folder.path());
    let mut replayer = crate::replay::Replayer::open(folder.path(), Some(Compiler::InProcess)).unwrap();
    let refused = replayer.replay(answer.call.as_str()).unwrap_err().to_string();
    assert!(refused.contains("no guest ran"), "{refused}");
}

#[test]
fn the_tool_s_own_function_undoes_what_routes_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let service = Kept::start();
    let host = set(folder.path(), &service, "");
    let call = called(&host, request("make"));
    let answer = roll_back(&host, &call);
    assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
    let undoing = story(&host, answer.call.as_str());
    let Opening::Accepted(accepted) = &undoing.opening.what else {
        panic!("{undoing:?}")
    };
    assert_eq!(accepted.asked.function, "cancel");
    assert_eq!(undoing.undoes().map(|undoes| undoes.by), Some(By::Function));
    assert_eq!(service.deletes(), ["/things/1"]);
    not_undone(&host, &call, Code::Undo, "was undone already");
    drop(host);
    verifies(folder.path());
    let mut replayer = crate::replay::Replayer::open(folder.path(), Some(Compiler::InProcess)).unwrap();
    assert_eq!(replayer.replay(answer.call.as_str()).unwrap().diverged, None);
}

#[test]
fn what_cannot_be_undone_is_told_with_why() {
    let folder = tempfile::tempdir().unwrap();
    let service = Kept::start();
    let host = set(folder.path(), &service, "");
    let call = called(&host, pair());
    not_undone(
        &host,
        &call,
        Code::Undo,
        "no `undo` on its route; the function declares none",
    );
    // A function undoes what went well.
    let broken = called(&host, request("broken"));
    not_undone(
        &host,
        &broken,
        Code::Undo,
        "undoes a call that ended well, and this did not",
    );
    assert!(service.deletes().is_empty());
    drop(host);
    // Of two, one can be undone.
    rewrite(folder.path(), |text| {
        text.replace("\"POST /others/{id}\"\n", &format!("\"POST /others/{{id}}\"\n{UNDO}\n"))
    });
    let host = open(folder.path()).unwrap();
    let answer = roll_back(&host, &call);
    let Outcome::ToolError(told) = &answer.outcome else {
        panic!("{answer:?}")
    };
    let told = told.to_canonical();
    assert!(
        told.contains("\"undone\":true") && told.contains("no `undo` on its route"),
        "{told}"
    );
    assert_eq!(service.deletes().len(), 1);
    drop(host);
    verifies(folder.path());
}

/// Somebody took the later effect back by hand, so the service has nothing to take back any more.
#[test]
fn what_the_operator_leaves_out_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let service = Kept::start();
    let host = set(folder.path(), &service, UNDO);
    let call = called(&host, pair());
    let plan = host.plan_rollback(&call, &RollbackOptions::default()).unwrap();
    let [last, first] = [0, 1].map(|nth: usize| plan.items[nth].ordinal);
    service.will([Some(404)]);
    let Outcome::ToolError(told) = roll_back(&host, &call).outcome else {
        panic!("it is not undone");
    };
    assert!(
        told.to_canonical()
            .contains(&format!("leave it out with --skip {last}")),
        "{told:?}"
    );
    let skipping = |skip: &[u32]| RollbackOptions {
        skip: skip.iter().copied().collect(),
        ..RollbackOptions::default()
    };
    for wrong in [last + 1, 0] {
        let why = host.plan_rollback(&call, &skipping(&[wrong])).unwrap_err();
        assert!(why.to_string().contains("is not one that would be undone"), "{why}");
        let answer = host.roll_back(&call, &skipping(&[wrong]), None).unwrap();
        assert_eq!(code(&answer), Some(Code::Arguments));
    }
    let answer = host.roll_back(&call, &skipping(&[first, last]), None).unwrap();
    assert_eq!(code(&answer), Some(Code::Undo), "nothing is left to do");
    assert_eq!(service.deletes().len(), 1);
    let answer = host.roll_back(&call, &skipping(&[last]), None).unwrap();
    let Outcome::ToolError(told) = &answer.outcome else {
        panic!("{answer:?}")
    };
    assert!(told.to_canonical().contains("left as it is"), "{told:?}");
    assert_eq!(undid(&host, &answer).len(), 1);
    assert_eq!(service.deletes().len(), 2);
    let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
    assert_eq!(story.undoes().unwrap().skip, [last]);
    drop(host);
    verifies(folder.path());
}

#[test]
fn a_rollback_stops_at_the_first_that_fails_and_the_next_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let service = Kept::start();
    let host = set(folder.path(), &service, UNDO);
    let call = called(&host, pair());
    service.will([Some(409)]);
    let answer = roll_back(&host, &call);
    assert!(matches!(answer.outcome, Outcome::ToolError(_)), "{answer:?}");
    assert_eq!(service.deletes().len(), 1, "what was before it is left alone");
    service.will([Some(200), Some(404)]);
    let answer = roll_back(&host, &call);
    let Outcome::ToolError(told) = &answer.outcome else {
        panic!("{answer:?}")
    };
    assert!(told.to_canonical().contains("the service answered 404"), "{told:?}");
    assert_eq!(service.deletes().len(), 3);
    let answer = roll_back(&host, &call);
    assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
    assert_eq!(undid(&host, &answer).len(), 1, "what was undone is not undone again");
    assert_eq!(service.deletes().len(), 4);
    drop(host);
    verifies(folder.path());
}

#[test]
fn what_may_have_been_undone_is_not_undone_again() {
    // Two that routes undo, and one that the tool's function would undo too.
    for request in [pair(), request("make")] {
        let folder = tempfile::tempdir().unwrap();
        let service = Kept::start();
        let host = set(folder.path(), &service, UNDO);
        let call = called(&host, request);
        service.will([Some(504)]);
        let answer = roll_back(&host, &call);
        assert!(matches!(answer.outcome, Outcome::ToolError(_)), "{answer:?}");
        assert_eq!(service.deletes().len(), 1);
        let why = format!(
            "the service answered 504 when {} was to take it back: nobody knows whether it is undone",
            answer.call
        );
        not_undone(&host, &call, Code::Undo, &why);
        assert_eq!(
            service.deletes().len(),
            1,
            "nothing is sent again, nor what is under it"
        );
        drop(host);
        verifies(folder.path());
    }
}

#[test]
fn what_undoes_and_is_in_doubt_is_resolved_first() {
    for found in [Found::Done, Found::NotDone] {
        let folder = tempfile::tempdir().unwrap();
        let service = Kept::start();
        let host = set(folder.path(), &service, UNDO);
        let call = called(&host, pair());
        service.will([None]);
        let answer = roll_back(&host, &call);
        assert!(matches!(answer.outcome, Outcome::ToolError(_)), "{answer:?}");
        not_undone(&host, &call, Code::Doubt, "nobody knows whether effect");
        host.settle_doubt(answer.call.as_str(), None, found, None).unwrap();
        let answer = roll_back(&host, &call);
        assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
        let expected = if found == Found::Done { 2 } else { 3 };
        assert_eq!(service.deletes().len(), expected);
        not_undone(&host, &call, Code::Undo, "was undone already");
        drop(host);
        verifies(folder.path());
    }
}

#[test]
fn a_call_that_is_not_over_or_did_nothing_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let service = Kept::start();
    let host = set(folder.path(), &service, UNDO);
    let denied = called(
        &host,
        CallRequest {
            agent: "nobody".to_owned(),
            ..pair()
        },
    );
    not_undone(&host, &denied, Code::Undo, "was denied");
    let nothing = called(
        &host,
        CallRequest {
            args: r#"{"path":"/none"}"#.to_owned(),
            ..request("make")
        },
    );
    not_undone(&host, &nothing, Code::Undo, "changed anything");
    drop(host);
    // Changing waits too.
    let policy = REVIEWED.replace(" == Route::\"things/things.delete\"", "");
    std::fs::write(folder.path().join("policy/main.cedar"), policy).unwrap();
    let host = open(folder.path()).unwrap();
    let waits = called(&host, pair());
    not_undone(&host, &waits, Code::Undo, "waits for approvals");
    assert_eq!(
        host.reader().unwrap().holds(None, 10).unwrap().len(),
        1,
        "its hold stays"
    );
    assert!(service.deletes().is_empty());
    drop(host);
    verifies(folder.path());
}

#[test]
fn policy_stops_and_callers_are_those_of_today() {
    let folder = tempfile::tempdir().unwrap();
    let service = Kept::start();
    let host = set(folder.path(), &service, UNDO);
    let call = called(&host, pair());
    let everything = stop::Stop {
        kind: stop::Kind::Kill,
        scope: "everything".parse().unwrap(),
    };
    host.stop(&everything, "not now").unwrap();
    assert_eq!(code(&roll_back(&host, &call)), Some(Code::Killed));
    host.lift(&everything, None).unwrap();
    let safe = stop::Stop {
        kind: stop::Kind::SafeMode,
        scope: "everything".parse().unwrap(),
    };
    host.stop(&safe, "only look").unwrap();
    let answer = roll_back(&host, &call);
    assert_eq!(answer.refused_effects[0].code, Code::SafeMode, "{answer:?}");
    host.lift(&safe, None).unwrap();
    drop(host);
    let policy = |text: &str| std::fs::write(folder.path().join("policy/main.cedar"), text).unwrap();
    policy(&format!(
        "{POLICY}\n@id(\"stays\") forbid (principal, action == Action::\"commit\", resource == Route::\"things/things.delete\");"
    ));
    let host = open(folder.path()).unwrap();
    let answer = roll_back(&host, &call);
    assert!(matches!(answer.outcome, Outcome::ToolError(_)), "{answer:?}");
    assert_eq!(answer.refused_effects[0].rule.as_deref(), Some("stays"));
    assert_eq!(undid(&host, &answer).len(), 1, "it stops at the first");
    drop(host);
    policy(&format!(
        "{POLICY}\n@id(\"no\") forbid (principal, action == Action::\"call\", resource);"
    ));
    let host = open(folder.path()).unwrap();
    assert_eq!(code(&roll_back(&host, &call)), Some(Code::Policy));
    drop(host);
    policy(POLICY);
    rewrite(folder.path(), |text| {
        text.replace("team = \"support\"", "team = \"sales\"")
    });
    let host = open(folder.path()).unwrap();
    let answer = roll_back(&host, &call);
    assert!(stopped(&answer).unwrap().message.contains("another team"), "{answer:?}");
    assert!(service.deletes().is_empty());
    drop(host);
    verifies(folder.path());
}

/// A call that was made, and a rollback of it that waits.
fn waiting(folder: &Path, service: &Kept) -> (Host, String, Answer) {
    let host = set(folder, service, UNDO);
    let call = called(&host, pair());
    drop(host);
    std::fs::write(folder.join("policy/main.cedar"), REVIEWED).unwrap();
    let host = open(folder).unwrap();
    let answer = roll_back(&host, &call);
    (host, call, answer)
}

#[test]
fn what_undoes_waits_for_people_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let service = Kept::start();
    let (host, call, answer) = waiting(folder.path(), &service);
    let first = held(&answer);
    assert_eq!(first.route, "things.delete");
    not_undone(&host, &call, Code::Undo, "waits for approvals");
    // Nobody makes another request of it.
    let mut other = crate::edits::new_changes().unwrap();
    other.set("note", Json::from("x")).unwrap();
    let edit = Edit {
        person: "rita".to_owned(),
        hold: first.hold,
        changes: other.digest(),
        group: "reviewer".to_owned(),
        expires_ms: first.expires_ms,
    };
    let edited = host.edit(&edit.sign(&key("rita")).unwrap(), &other.to_text(), None);
    let why = edited.unwrap_err().to_string();
    assert!(why.contains("approved or rejected as it is"), "{why}");
    assert_eq!(approve(&host, &first, "rita").unwrap(), Standing::Approved);
    drop(host);
    let host = open(folder.path()).unwrap();
    let on = host.resume(answer.call.as_str(), None).unwrap();
    let second = held(&on);
    assert_eq!(service.deletes().len(), 1);
    assert_eq!(approve(&host, &second, "sam").unwrap(), Standing::Approved);
    let done = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(done.outcome, Outcome::Ok(_)), "{done:?}");
    assert_eq!(service.deletes().len(), 2, "each once");
    let mut changed = changes(&host, &call);
    changed.reverse();
    assert_eq!(undid(&host, &done), changed);
    drop(host);
    verifies(folder.path());
}

#[test]
fn what_people_do_not_want_undone_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let service = Kept::start();
    let (host, call, answer) = waiting(folder.path(), &service);
    host.vote(&vote(&held(&answer), "rita", Verdict::Reject), None).unwrap();
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::ToolError(_)), "{ended:?}");
    assert_eq!(ended.refused_effects[0].code, Code::Approval);
    assert!(service.deletes().is_empty());
    // It can be asked for once more.
    assert!(matches!(roll_back(&host, &call).outcome, Outcome::Held(_)));
    drop(host);
    verifies(folder.path());
}

/// What was approved is one effect's undoing: where its route says otherwise by then, another's is not done in its place.
#[test]
fn an_approval_is_for_the_effect_that_is_undone() {
    let folder = tempfile::tempdir().unwrap();
    let service = Kept::start();
    let (host, call, answer) = waiting(folder.path(), &service);
    approve(&host, &held(&answer), "rita").unwrap();
    drop(host);
    // The last effect has no undo any more; that of the first is the same request.
    rewrite(folder.path(), |text| {
        text.replace(&format!("\"POST /others/{{id}}\"\n{UNDO}\n"), "\"POST /others/{id}\"\n")
    });
    let host = open(folder.path()).unwrap();
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(code(&ended), Some(Code::Stale), "{ended:?}");
    assert!(service.deletes().is_empty());
    assert!(matches!(roll_back(&host, &call).outcome, Outcome::Held(_)), "anew");
    drop(host);
    verifies(folder.path());
}

/// The host ends anywhere in a rollback: the next one does what is left, and nothing is undone twice.
#[test]
fn a_rollback_goes_on_from_wherever_the_host_ended() {
    let (mut ended, mut doubted) = (0, 0);
    for (good, step) in (0..14).flat_map(|good| [Step::BeforeCommit, Step::AfterCommit].map(|step| (good, step))) {
        let folder = tempfile::tempdir().unwrap();
        let service = Kept::start();
        let call = called(&set(folder.path(), &service, UNDO), pair());
        let options = HostOptions {
            compiler: Some(Compiler::InProcess),
            faults: Faults::after(good, step, Fault::Io),
            ..HostOptions::default()
        };
        let failing = Host::open(Config::load(folder.path()).unwrap(), options);
        let whole = failing.is_ok_and(|host| host.roll_back(&call, &RollbackOptions::default(), None).is_ok());
        let host = open(folder.path()).unwrap();
        if !whole {
            ended += 1;
            if let Some(unended) = host.unended().unwrap().first()
                && let Some(ordinal) = unended.doubts.first()
            {
                doubted += 1;
                not_undone(&host, &call, Code::Doubt, "nobody knows");
                let known = unended.story.effects.len() - 1;
                let found = if service.deletes().len() > known {
                    Found::Done
                } else {
                    Found::NotDone
                };
                host.settle_doubt(&unended.story.call, Some(*ordinal), found, None)
                    .unwrap();
            }
            let answer = roll_back(&host, &call);
            let undone = matches!(&answer.outcome, Outcome::Ok(_));
            assert!(
                undone || code(&answer) == Some(Code::Undo),
                "{good} {step:?}: {answer:?}"
            );
        }
        assert_eq!(service.deletes().len(), 2, "{good} {step:?}");
        assert!(host.unended().unwrap().is_empty(), "{good} {step:?}");
        not_undone(&host, &call, Code::Undo, "was undone already");
        drop(host);
        verifies(folder.path());
    }
    assert!(ended >= 4 && doubted >= 2, "{ended} ended, {doubted} were in doubt");
}

#[test]
fn no_guest_goes_on_with_a_rollback_that_was_interrupted() {
    let interrupted = (0..14).find_map(|good| {
        let folder = tempfile::tempdir().unwrap();
        let service = Kept::start();
        let call = called(&set(folder.path(), &service, UNDO), pair());
        let options = HostOptions {
            compiler: Some(Compiler::InProcess),
            faults: Faults::after(good, Step::BeforeCommit, Fault::Io),
            ..HostOptions::default()
        };
        let host = Host::open(Config::load(folder.path()).unwrap(), options).ok()?;
        host.roll_back(&call, &RollbackOptions::default(), None).err()?;
        drop(host);
        let host = open(folder.path()).unwrap();
        let unended = host.unended().unwrap();
        let one = unended.first().filter(|one| one.doubts.is_empty())?;
        Some((one.story.call.clone(), host, folder))
    });
    let (by, host, folder) = interrupted.unwrap();
    let answer = host.resume(&by, None).unwrap();
    let refusal = stopped(&answer).unwrap();
    assert!(
        refusal.advice.as_ref().unwrap().contains("ambit rollback"),
        "{refusal:?}"
    );
    assert!(host.unended().unwrap().is_empty());
    drop(host);
    verifies(folder.path());
}

/// What another policy would say of the calls that the operator's commands made.
fn weighed(folder: &Path, policy: &str) -> Vec<String> {
    let mut what_if = WhatIf::open(folder).unwrap();
    let sources = [("main.cedar".to_owned(), policy.to_owned())];
    let policy = PolicySet::load(&sources, &what_if.config().group_sizes()).unwrap();
    let calls = what_if.reader().begun_since(None).unwrap();
    let weighed = what_if.policy(&policy, &calls, |_| {}).unwrap();
    assert!(weighed.undecided.is_empty(), "{weighed:?}");
    let changed = weighed.changed.iter();
    let line = |changed: &Changed| {
        format!(
            "{}: {:?}, {:?}",
            changed.place.what, changed.then.word, changed.now.word
        )
    };
    changed.map(line).collect()
}

const NO_DELETES: &str = r#"@id("all") permit (principal, action, resource)
unless { resource == Route::"things/things.delete" };"#;

#[test]
fn what_a_rollback_did_is_decided_again_under_another_policy() {
    let folder = tempfile::tempdir().unwrap();
    let service = Kept::start();
    let host = set(folder.path(), &service, UNDO);
    let call = called(&host, pair());
    assert!(matches!(roll_back(&host, &call).outcome, Outcome::Ok(_)));
    drop(host);
    assert!(weighed(folder.path(), POLICY).is_empty());
    let denied = "commit things/things.delete: Permitted, Denied";
    assert_eq!(weighed(folder.path(), NO_DELETES), [denied, denied]);
    let held = "commit things/things.delete: Permitted, Held";
    assert_eq!(weighed(folder.path(), REVIEWED), [held, held]);
}

#[test]
fn what_a_rollback_waited_for_is_decided_again_under_another_policy() {
    let folder = tempfile::tempdir().unwrap();
    let service = Kept::start();
    let (host, call, answer) = waiting(folder.path(), &service);
    approve(&host, &held(&answer), "rita").unwrap();
    let second = host.resume(answer.call.as_str(), None).unwrap();
    host.vote(&vote(&held(&second), "rita", Verdict::Reject), None).unwrap();
    host.resume(answer.call.as_str(), None).unwrap();
    drop(host);
    std::fs::write(folder.path().join("policy/main.cedar"), NO_DELETES).unwrap();
    let host = open(folder.path()).unwrap();
    assert!(matches!(roll_back(&host, &call).outcome, Outcome::ToolError(_)));
    drop(host);
    // The last was denied: reviewers would have been asked about it.
    let held = "commit things/things.delete: Denied, Held";
    assert_eq!(weighed(folder.path(), REVIEWED), [held]);
    let (waited, sent) = ("Held, Permitted", "Denied, Permitted");
    let place = "commit things/things.delete";
    assert_eq!(
        weighed(folder.path(), POLICY),
        [
            format!("{place}: {waited}"),
            format!("{place}: {waited}"),
            format!("{place}: {sent}")
        ]
    );
}
