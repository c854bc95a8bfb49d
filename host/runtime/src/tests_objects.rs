//! What effects change: read before, bound to their holds, read back; in whole calls, against a service that remembers, is changed behind
//! the host's back, and lies.

use std::collections::BTreeMap;

use ambit_core::hold::Standing;
use ambit_core::ledger::CallStory;
use ambit_core::ledger::body::{Cause, EffectIntent, ErrorBound, Shown};
use ambit_core::ledger::story::EffectStory;
use serde_json::{Value, json};

use super::holds::{ONE, approve, held, in_order, key};
use super::*;
use crate::rollback::RollbackOptions;
use crate::runs::NewRun;

/// What the service has, and how it behaves.
#[derive(Default)]
pub(super) struct State {
    things: BTreeMap<String, Value>,
    /// What the version of each thing is; how often it was written.
    versions: BTreeMap<String, u32>,
    /// It says that it did what it did not.
    lies: bool,
    /// The answer to reads, in place of the thing.
    pub(super) instead: Option<(u16, String)>,
    /// What it gives out as a version, in place of a strong one.
    etag: Option<String>,
    /// Changes fail.
    fails: bool,
    /// Once something was changed, reads are never answered.
    silent: bool,
    /// All that arrived: method, path, If-Match.
    seen: Vec<(String, String, Option<String>)>,
}

impl State {
    fn version(&self, id: &str) -> String {
        format!("\"v{}\"", self.versions.get(id).copied().unwrap_or_default())
    }

    /// Somebody else changes a thing.
    pub(super) fn put(&mut self, id: &str, thing: Value) {
        self.things.insert(id.to_owned(), thing);
        *self.versions.entry(id.to_owned()).or_default() += 1;
    }

    fn answer(
        &mut self,
        method: &str,
        path: &str,
        if_match: Option<String>,
        body: &str,
    ) -> (u16, Option<String>, String) {
        self.seen.push((method.to_owned(), path.to_owned(), if_match.clone()));
        let id = path
            .trim_start_matches("/things/")
            .trim_start_matches("/things")
            .to_owned();
        let missing = || (404, None, r#"{"error":"none"}"#.to_owned());
        match method {
            "GET" => {
                if let Some((status, body)) = &self.instead {
                    return (*status, None, body.clone());
                }
                let Some(thing) = self.things.get(&id) else {
                    return missing();
                };
                let etag = self.etag.clone().unwrap_or_else(|| self.version(&id));
                (200, Some(etag), thing.to_string())
            }
            _ if self.fails => (500, None, "{}".to_owned()),
            "POST" if id.is_empty() => {
                let id = format!("new{}", self.things.len());
                if !self.lies {
                    self.change(&id, body);
                }
                (
                    201,
                    None,
                    json!({ "id": id, "email": "not to be believed" }).to_string(),
                )
            }
            _ if if_match.is_some_and(|version| version != self.version(&id)) => (412, None, "{}".to_owned()),
            "DELETE" if !self.things.contains_key(&id) => missing(),
            "DELETE" => {
                if !self.lies {
                    self.things.remove(&id);
                }
                (200, None, "{}".to_owned())
            }
            _ => {
                if !self.lies {
                    self.change(&id, body);
                }
                (200, None, json!({ "id": id }).to_string())
            }
        }
    }

    /// Whether it takes a request and never answers.
    fn swallows(&mut self, method: &str, path: &str) -> bool {
        let changed = self.seen.iter().any(|(method, ..)| method != "GET");
        let swallows = self.silent && changed && method == "GET";
        if swallows {
            self.seen.push((method.to_owned(), path.to_owned(), None));
        }
        swallows
    }

    fn change(&mut self, id: &str, body: &str) {
        let mut thing = self.things.get(id).cloned().unwrap_or_else(|| json!({ "id": id }));
        let sent: Value = serde_json::from_str(body).unwrap_or_default();
        for (name, value) in sent.as_object().into_iter().flatten() {
            thing[name] = value.clone();
        }
        self.put(id, thing);
    }
}

/// The service, with its state in reach.
pub(super) struct Things {
    service: Service,
    pub(super) state: Arc<Mutex<State>>,
}

impl Things {
    pub(super) fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        state.lock().put(
            "1",
            json!({ "id": "1", "email": "a@x", "name": "Ann", "secret": "hidden" }),
        );
        let shared = Arc::clone(&state);
        let service = Service::that(move |stream, seen| serve(stream, seen, &shared));
        Self { service, state }
    }

    /// What arrived, in words: `GET /things/1`.
    pub(super) fn seen(&self) -> Vec<String> {
        let state = self.state.lock();
        state
            .seen
            .iter()
            .map(|(method, path, _)| format!("{method} {path}"))
            .collect()
    }
}

fn serve(mut stream: TcpStream, seen: &AtomicUsize, state: &Mutex<State>) {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let length = header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    let mut line = head.split(' ');
    let (method, path) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
    seen.fetch_add(1, Ordering::SeqCst);
    if state.lock().swallows(method, path) {
        // Open for as long as the process: nobody waits for this thread.
        std::mem::forget(stream);
        return;
    }
    let (status, etag, body) = state
        .lock()
        .answer(method, path, header("if-match"), &String::from_utf8_lossy(&body));
    let etag = etag.map(|etag| format!("ETag: {etag}\r\n")).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\n{etag}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all((head + &body).as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
}

/// `put` posts a body to a path, `read-and-put` reads it first, `remove` deletes it, `many` reads a path until it may no more, and then
/// changes it.
fn component(port: u16) -> Vec<u8> {
    let world = format!(
        r#"world tool {{
        @external-id("GET http://127.0.0.1:{port}/things/{{id}} reads(id); POST http://127.0.0.1:{port}/things/{{id}} fields(email, name, note) reads(id); POST http://127.0.0.1:{port}/things fields(email, name, note) reads(id); DELETE http://127.0.0.1:{port}/things/{{id}}")
        import things: ambit:capability/http@0.1.0;
        export put: func(path: string, body: string) -> u16;
        export read-and-put: func(path: string, body: string) -> u16;
        export remove: func(path: string, body: string) -> u16;
    }}"#
    );
    let send = |method: u32, kind: u32, body: &str| {
        format!(
            "(call $send (i32.const {method}) (local.get 0) (local.get 1) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const {kind}) {body} (i32.const 64))"
        )
    };
    let none = "(i32.const 0) (i32.const 0)";
    let (get, delete) = (send(0, 0, none), send(5, 0, none));
    let post = send(2, 1, "(local.get 2) (local.get 3)");
    let module = format!(
        r#"(module
        (import "things" "send" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
        {allocator}
        (func (export "put") (param i32 i32 i32 i32) (result i32) {post} (i32.load8_u (i32.const 64)))
        (func (export "read-and-put") (param i32 i32 i32 i32) (result i32) {get} {post} (i32.load8_u (i32.const 64)))
        (func (export "remove") (param i32 i32 i32 i32) (result i32) {delete} (i32.load8_u (i32.const 64))))"#,
        allocator = crate::sandbox::tests::ALLOCATOR,
    );
    crate::sandbox::tests::component(&world, &module)
}

pub(super) const BY_PATH: &str = r#"read = "things.get", id = "{id}""#;

/// A home with the tool, where `object` says how what is changed is read, `fresh` how old reads may be, and with `more` beside.
pub(super) fn set_up(folder: &Path, things: &Things, policy: &str, object: &str, more: &str) -> Host {
    home::init(folder).unwrap();
    std::fs::write(folder.join("policy/main.cedar"), policy).unwrap();
    std::fs::write(folder.join("ambit.toml"), written(things, object, more)).unwrap();
    let component = component(things.service.port);
    let manifest = Manifest::read(&component).unwrap();
    home::add_tool(folder, "things", &component, &manifest).unwrap();
    for name in ["rita", "sam"] {
        home::enrol_person(folder, &key(name).verifier().to_string()).unwrap();
    }
    open(folder).unwrap()
}

pub(super) fn written(things: &Things, object: &str, more: &str) -> String {
    let port = things.service.port;
    format!(
        r#"
[agent.assistant]
team = "support"
tenant = "acme"
users = ["ada"]
[group.reviewer]
members = ["rita", "sam"]
[connection.things]
origin = "http://127.0.0.1:{port}"
allow_private = true
[connection.things.route."things.get"]
match = "GET /things/{{id}}"
reads = ["id", "email", "name"]
fresh = "1h"
[connection.things.route."things.search"]
match = "GET /things/search"
reads = ["id"]
[connection.things.route."things.create"]
match = "POST /things"
fields = ["email", "name", "note"]
object = {{ read = "things.get", answer = "id" }}
[connection.things.route."things.change"]
match = "POST /things/{{id}}"
body = "json"
fields = ["email", "name", "note"]
reads = ["id"]
object = {{ {object} }}
[connection.things.route."things.remove"]
match = "DELETE /things/{{id}}"
object = {{ read = "things.get", id = "{{id}}" }}
[tool.things.bind]
things = "things"
{more}"#
    )
}

fn ask(function: &str, path: &str, body: &str) -> CallRequest {
    CallRequest {
        args: json!({ "path": path, "body": body }).to_string(),
        ..request(function)
    }
}

pub(super) fn put(body: &str) -> CallRequest {
    ask("put", "/things/1", body)
}

fn story(folder: &Path, answer: &Answer) -> CallStory {
    reader(folder).story(answer.call.as_str()).unwrap()
}

fn reader(folder: &Path) -> Reader {
    Reader::open(folder).unwrap().with_keys(&Keys::load(folder).unwrap())
}

fn value(folder: &Path, answer: &Answer, name: &str) -> Option<Value> {
    let payload = reader(folder).payload(answer.call.as_str(), name).unwrap()?;
    Some(serde_json::from_slice(payload.bytes()).unwrap())
}

fn intent(story: &CallStory, ordinal: u32) -> &EffectIntent {
    match &story.effects[&ordinal] {
        EffectStory::Intended { intent, .. } => &intent.what,
        other => panic!("{other:?}"),
    }
}

/// What was seen of each effect that was read back.
fn shown(answer: &Answer) -> Vec<(u32, Shown)> {
    answer
        .checked
        .iter()
        .map(|checked| (checked.ordinal, checked.shown))
        .collect()
}

#[test]
fn what_an_effect_changes_is_read_before_and_after() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let host = set_up(folder.path(), &things, POLICY, BY_PATH, "");
    let answer = host.call(put(r#"{"email":"b@x","note":"n"}"#)).unwrap();
    assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
    assert_eq!(things.seen(), ["GET /things/1", "POST /things/1", "GET /things/1"]);
    assert_eq!(shown(&answer), [(1, Shown::Shown)]);
    let told = story(folder.path(), &answer);
    assert_eq!(
        [2, 3].map(|ordinal| intent(&told, ordinal).cause),
        [Cause::Host, Cause::Host]
    );
    assert!(intent(&told, 1).before.is_some());
    let before = value(folder.path(), &answer, "effect/1/before").unwrap();
    assert_eq!(
        before,
        json!({ "object": { "id": "1", "email": "a@x", "name": "Ann" } })
    );
    assert_eq!(
        value(folder.path(), &answer, "effect/1/diff").unwrap(),
        json!({
            "changes": [{ "field": "email", "what": "changed", "before": "a@x", "after": "b@x" }],
            "not-read": ["note"],
            "sent": [{ "field": "email", "sent": "b@x", "seen": "b@x", "shown": true }],
            "shown": "shown",
        })
    );
    // The guest is told what its own scope reads.
    let answered = value(folder.path(), &answer, "effect/1/answer").unwrap();
    assert_eq!(answered["answered"]["body"], r#"{"id":"1"}"#);
    let finished = &told.finished.as_ref().unwrap().what;
    assert_eq!(finished.checked, answer.checked);
    assert_eq!(finished.effects.unverified, 0);
    let receipt = host.receipt(&answer.call).unwrap();
    assert!(
        receipt.contains("read back: effect 1 is there as it was sent"),
        "{receipt}"
    );
    assert!(!receipt.contains("b@x"), "{receipt}");
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn what_is_not_there_before_is_none_and_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let host = set_up(folder.path(), &things, POLICY, BY_PATH, "");
    let run = bounded_run(&host, 50);
    let answer = host
        .call(within(&run, ask("put", "/things/2", r#"{"email":"b@x"}"#)))
        .unwrap();
    assert_eq!(shown(&answer), [(1, Shown::Shown)]);
    let before = value(folder.path(), &answer, "effect/1/before").unwrap();
    assert_eq!(before, json!({ "object": null }));
    // To be gone is what is wanted of what is deleted.
    let removed = host.call(within(&run, ask("remove", "/things/2", ""))).unwrap();
    assert_eq!(shown(&removed), [(1, Shown::Shown)]);
    let run = host.known_run(&run).unwrap().unwrap();
    assert_eq!(
        (run.finished, run.failed),
        (8, 0),
        "three effects each, and their calls"
    );
    drop(host);
    in_order(folder.path(), answer.call.as_str());
    in_order(folder.path(), removed.call.as_str());
}

#[test]
fn what_is_created_is_read_back_by_the_answers_name() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let host = set_up(folder.path(), &things, POLICY, BY_PATH, "");
    let create = || ask("put", "/things", r#"{"email":"new@x"}"#);
    let made = host.call(create()).unwrap();
    assert_eq!(things.seen(), ["POST /things", "GET /things/new1"]);
    assert_eq!(shown(&made), [(1, Shown::Shown)]);
    assert_eq!(value(folder.path(), &made, "effect/1/before"), None);
    things.state.lock().lies = true;
    let lied = host.call(create()).unwrap();
    assert_eq!(shown(&lied), [(1, Shown::Missing)]);
    drop(host);
    in_order(folder.path(), made.call.as_str());
    in_order(folder.path(), lied.call.as_str());
}

fn bounded_run(host: &Host, percent: u32) -> String {
    let run = host.start_run(&NewRun {
        agent: "assistant".into(),
        user: Some("ada".into()),
        mode: Mode::Execute,
        length_ms: 3_600_000,
        caps: vec![],
        errors: Some(ErrorBound { least: 4, percent }),
    });
    run.unwrap().id().to_owned()
}

fn within(run: &str, request: CallRequest) -> CallRequest {
    CallRequest {
        run: Some(run.to_owned()),
        ..request
    }
}

#[test]
fn what_is_not_seen_is_unverified_and_an_error_of_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let host = set_up(folder.path(), &things, POLICY, BY_PATH, "");
    let run = bounded_run(&host, 20);
    things.state.lock().lies = true;
    let answer = host.call(within(&run, put(r#"{"email":"b@x"}"#))).unwrap();
    // Its service said yes, and so the guest is told.
    assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
    assert_eq!(shown(&answer), [(1, Shown::Missing)]);
    let told = story(folder.path(), &answer);
    assert_eq!(told.finished.as_ref().unwrap().what.effects.unverified, 1);
    let known = host.known_run(&run).unwrap().unwrap();
    assert_eq!(
        (known.finished, known.failed, known.degraded),
        (4, 1, true),
        "a fourth is more than a fifth"
    );
    let next = host.call(within(&run, put(r#"{"email":"b@x"}"#))).unwrap();
    assert_eq!(next.refused_effects.last().map(|refusal| refusal.code), Some(Code::Run));
    // Also what is deleted and still there.
    let kept = host.call(ask("remove", "/things/1", "")).unwrap();
    assert_eq!(shown(&kept), [(1, Shown::Missing)]);
    drop(host);
    in_order(folder.path(), answer.call.as_str());
    in_order(folder.path(), kept.call.as_str());
}

#[test]
fn what_cannot_be_read_before_refuses_and_after_is_unverified() {
    let huge = format!(r#"{{"id":"{}"}}"#, "x".repeat(100_000));
    for (status, body) in [(500, "{}"), (200, "no JSON"), (200, "[1]"), (200, huge.as_str())] {
        let folder = tempfile::tempdir().unwrap();
        let things = Things::start();
        let limits = "[limits]\nresponse_body_bytes = 50_000\n";
        let host = set_up(folder.path(), &things, POLICY, BY_PATH, limits);
        things.state.lock().instead = Some((status, body.to_owned()));
        let answer = host.call(put(r#"{"email":"b@x"}"#)).unwrap();
        assert_eq!(
            answer.refused_effects.last().map(|refusal| refusal.code),
            Some(Code::Object),
            "{status}"
        );
        assert_eq!(things.seen(), ["GET /things/1"]);
        // What is created has nothing to read before.
        let made = host.call(ask("put", "/things", r#"{"email":"new@x"}"#)).unwrap();
        assert_eq!(shown(&made), [(1, Shown::Unreadable)], "{status}");
        drop(host);
        in_order(folder.path(), answer.call.as_str());
        in_order(folder.path(), made.call.as_str());
    }
}

#[test]
fn nothing_is_read_for_what_policy_denies_or_a_dry_run() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let policy = format!("{POLICY}\n@id(\"no\") forbid (principal, action == Action::\"commit\", resource);");
    let host = set_up(folder.path(), &things, &policy, BY_PATH, "");
    let denied = host.call(put(r#"{"email":"b@x"}"#)).unwrap();
    assert_eq!(denied.refused_effects[0].code, Code::Policy);
    let dry = CallRequest {
        mode: Mode::DryRun,
        ..put(r#"{"email":"b@x"}"#)
    };
    assert!(matches!(host.call(dry).unwrap().outcome, Outcome::FirstWrite(_)));
    assert_eq!(things.seen(), Vec::<String>::new());
}

#[test]
fn a_guests_name_leads_to_no_other_route() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let host = set_up(
        folder.path(),
        &things,
        POLICY,
        r#"read = "things.get", id = "name""#,
        "",
    );
    for name in ["search", "..", "a/b", ""] {
        let body = json!({ "name": name }).to_string();
        let answer = host.call(put(&body)).unwrap();
        assert_eq!(
            answer.refused_effects.last().map(|refusal| refusal.code),
            Some(Code::Object),
            "{name}"
        );
    }
    assert_eq!(things.seen(), Vec::<String>::new());
}

#[test]
fn a_guest_cannot_use_up_what_reading_back_takes() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let host = set_up(folder.path(), &things, POLICY, BY_PATH, "[limits]\neffects = 3\n");
    let answer = host.call(put(r#"{"email":"b@x"}"#)).unwrap();
    assert_eq!(shown(&answer), [(1, Shown::Shown)]);
    let beyond = host
        .call(ask("read-and-put", "/things/1", r#"{"email":"c@x"}"#))
        .unwrap();
    assert_eq!(
        beyond.refused_effects.last().map(|refusal| refusal.code),
        Some(Code::Effects)
    );
    assert_eq!(things.seen().len(), 4, "{:?}", things.seen());
}

#[test]
fn a_secret_in_an_object_is_covered() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let host = set_up(folder.path(), &things, POLICY, BY_PATH, "");
    drop(host);
    let path = folder.path().join("ambit.toml");
    std::fs::write(folder.path().join("token"), "sk_very_secret_token").unwrap();
    let text = std::fs::read_to_string(&path).unwrap().replace(
        "allow_private = true\n",
        "allow_private = true\ncredential = { file = \"token\", as = \"bearer\" }\n",
    );
    std::fs::write(&path, text).unwrap();
    let secret = json!({ "id": "1", "email": "sk_very_secret_token", "name": "Ann" });
    things.state.lock().put("1", secret);
    let host = open(folder.path()).unwrap();
    let answer = host.call(put(r#"{"name":"Bob"}"#)).unwrap();
    assert_eq!(shown(&answer), [(1, Shown::Shown)], "{answer:?}");
    for name in ["effect/1/before", "effect/1/diff", "effect/2/answer", "effect/3/answer"] {
        let kept = value(folder.path(), &answer, name).unwrap().to_string();
        assert!(!kept.contains("very_secret"), "{name}: {kept}");
    }
}

#[test]
fn a_version_is_sent_back_and_the_service_has_its_say() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let host = set_up(
        folder.path(),
        &things,
        POLICY,
        &format!("{BY_PATH}, if_match = true"),
        "",
    );
    let answer = host.call(put(r#"{"email":"b@x"}"#)).unwrap();
    assert_eq!(shown(&answer), [(1, Shown::Shown)], "{answer:?}");
    let before = value(folder.path(), &answer, "effect/1/before").unwrap();
    assert_eq!(before["etag"], "\"v1\"");
    let versions: Vec<_> = things
        .state
        .lock()
        .seen
        .iter()
        .map(|(.., version)| version.clone())
        .collect();
    assert_eq!(versions, [None, Some("\"v1\"".to_owned()), None]);
    // Somebody is faster: what the service then says is the guest's answer, and nothing is read back.
    things.state.lock().etag = Some("\"v7\"".to_owned());
    let late = host.call(put(r#"{"email":"c@x"}"#)).unwrap();
    assert_eq!(
        value(folder.path(), &late, "effect/1/answer").unwrap()["answered"]["status"],
        412
    );
    assert_eq!(shown(&late), []);
    for etag in ["W/\"v2\"", "v2"] {
        things.state.lock().etag = Some(etag.to_owned());
        let weak = host.call(put(r#"{"email":"c@x"}"#)).unwrap();
        assert_eq!(
            weak.refused_effects.last().map(|refusal| refusal.code),
            Some(Code::Object),
            "{etag}"
        );
    }
    drop(host);
    in_order(folder.path(), answer.call.as_str());
    in_order(folder.path(), late.call.as_str());
}

#[test]
fn a_hold_is_for_what_was_there_and_is_sent_while_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let host = set_up(folder.path(), &things, ONE, BY_PATH, "");
    let answer = host.call(put(r#"{"email":"b@x"}"#)).unwrap();
    let hold = held(&answer);
    let kept = story(folder.path(), &answer).holds[&1].held.what.clone();
    assert!(kept.before.is_some());
    // The agent is told nothing of it.
    assert!(!serde_json::to_string(&hold).unwrap().contains("a@x"));
    let planned = crate::objects::planned(
        &reader(folder.path()),
        &story(folder.path(), &answer),
        &kept,
        &Config::load(folder.path()).unwrap(),
    );
    let lines = planned.unwrap().unwrap().differences.unwrap();
    assert_eq!(lines[0].to_string(), r#"email: "a@x" → "b@x""#);
    assert_eq!(approve(&host, &hold, "rita").unwrap(), Standing::Approved);
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(shown(&ended), [(1, Shown::Shown)], "{ended:?}");
    assert_eq!(
        things.seen(),
        ["GET /things/1", "GET /things/1", "POST /things/1", "GET /things/1"]
    );
    let told = story(folder.path(), &ended);
    assert_eq!(intent(&told, 1).before, kept.before);
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn approvals_are_void_once_what_they_were_for_has_changed() {
    let changes: [&dyn Fn(&mut State); 3] = [
        &|state| state.put("1", json!({ "id": "1", "email": "c@x", "name": "Ann" })),
        &|state| state.put("1", json!({ "id": "1", "email": "a@x", "name": "Bob" })),
        &|state| drop(state.things.remove("1")),
    ];
    for change in changes {
        let folder = tempfile::tempdir().unwrap();
        let things = Things::start();
        let host = set_up(folder.path(), &things, ONE, BY_PATH, "");
        let answer = host.call(put(r#"{"email":"b@x"}"#)).unwrap();
        approve(&host, &held(&answer), "rita").unwrap();
        change(&mut things.state.lock());
        let ended = host.resume(answer.call.as_str(), None).unwrap();
        let refusal = &ended.refused_effects[0];
        assert_eq!(refusal.code, Code::Stale, "{refusal:?}");
        assert!(!refusal.message.contains("@x"), "{refusal:?}");
        assert_eq!(things.seen(), ["GET /things/1", "GET /things/1"]);
        assert!(host.reader().unwrap().holds(None, 10).unwrap().is_empty());
        drop(host);
        in_order(folder.path(), answer.call.as_str());
    }
}

/// What is not read of an object is another version of it, where the service has versions.
#[test]
fn with_versions_any_change_voids() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let host = set_up(folder.path(), &things, ONE, &format!("{BY_PATH}, if_match = true"), "");
    let answer = host.call(put(r#"{"email":"b@x"}"#)).unwrap();
    approve(&host, &held(&answer), "rita").unwrap();
    things.state.lock().put(
        "1",
        json!({ "id": "1", "email": "a@x", "name": "Ann", "secret": "another" }),
    );
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(ended.refused_effects[0].code, Code::Stale);
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn what_cannot_be_read_right_now_waits_on() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let host = set_up(folder.path(), &things, ONE, BY_PATH, "");
    let answer = host.call(put(r#"{"email":"b@x"}"#)).unwrap();
    approve(&host, &held(&answer), "rita").unwrap();
    things.state.lock().instead = Some((503, "{}".to_owned()));
    let waits = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(waits.outcome, Outcome::Held(_)), "{waits:?}");
    things.state.lock().instead = None;
    drop(host);
    let host = open(folder.path()).unwrap();
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(shown(&ended), [(1, Shown::Shown)], "{ended:?}");
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn a_route_that_reads_what_it_changes_only_since_voids() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    drop(set_up(folder.path(), &things, ONE, BY_PATH, ""));
    let path = folder.path().join("ambit.toml");
    let with = std::fs::read_to_string(&path).unwrap();
    let object = format!("object = {{ {BY_PATH} }}\n[connection.things.route.\"things.remove\"]");
    let without = with.replace(&object, "[connection.things.route.\"things.remove\"]");
    assert_ne!(with, without);
    for (then, now) in [(&without, &with), (&with, &without)] {
        std::fs::write(&path, then).unwrap();
        let host = open(folder.path()).unwrap();
        let answer = host.call(put(r#"{"email":"b@x"}"#)).unwrap();
        approve(&host, &held(&answer), "rita").unwrap();
        drop(host);
        std::fs::write(&path, now).unwrap();
        let host = open(folder.path()).unwrap();
        let ended = host.resume(answer.call.as_str(), None).unwrap();
        assert_eq!(ended.refused_effects[0].code, Code::Stale, "{ended:?}");
        drop(host);
        in_order(folder.path(), answer.call.as_str());
    }
}

#[test]
fn what_was_read_too_long_ago_voids_too() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let host = set_up(folder.path(), &things, ONE, BY_PATH, "");
    let approved = |host: &Host| {
        let answer = host
            .call(ask("read-and-put", "/things/1", r#"{"email":"b@x"}"#))
            .unwrap();
        approve(host, &held(&answer), "rita").unwrap();
        answer
    };
    let answer = approved(&host);
    let config = Config::load(folder.path()).unwrap();
    let seen = crate::objects::seen_before(&story(folder.path(), &answer), 2, &config);
    assert_eq!(
        (seen.len(), seen[0].route.as_str(), seen[0].fresh_ms),
        (1, "things.get", Some(3_600_000))
    );
    // Within an hour it goes on.
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(shown(&ended), [(2, Shown::Shown)], "{ended:?}");
    things
        .state
        .lock()
        .put("1", json!({ "id": "1", "email": "a@x", "name": "Ann" }));
    let late = approved(&host);
    drop(host);
    let path = folder.path().join("ambit.toml");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("fresh = \"1h\"", "fresh = \"1s\"");
    std::fs::write(&path, text).unwrap();
    thread::sleep(Duration::from_millis(1_100));
    let arrived = things.seen().len();
    let host = open(folder.path()).unwrap();
    let ended = host.resume(late.call.as_str(), None).unwrap();
    let refusal = &ended.refused_effects[0];
    assert_eq!(refusal.code, Code::Stale);
    assert!(refusal.message.contains("older than the route allows"), "{refusal:?}");
    assert_eq!(things.seen().len(), arrived, "nothing is asked for it");
    drop(host);
    in_order(folder.path(), answer.call.as_str());
    in_order(folder.path(), late.call.as_str());
}

/// What is kept of the object cannot be exchanged for another before somebody goes on with the hold.
#[test]
fn what_was_there_before_is_what_the_ledger_commits_to() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let host = set_up(folder.path(), &things, ONE, BY_PATH, "");
    let answer = host.call(put(r#"{"email":"b@x"}"#)).unwrap();
    approve(&host, &held(&answer), "rita").unwrap();
    drop(host);
    let call = answer.call.as_str();
    let forged = Payload::new(call, "effect/1/before", br#"{"object":{"email":"z@x"}}"#.to_vec()).unwrap();
    let sealed = reader(folder.path()).sealed(&forged, call);
    let database = rusqlite::Connection::open(folder.path().join("ledger.db")).unwrap();
    database.pragma_update(None, "foreign_keys", false).unwrap();
    let sql = "UPDATE payloads SET sealed = ?1 WHERE call = ?2 AND name = 'effect/1/before'";
    assert_eq!(database.execute(sql, (sealed, call)).unwrap(), 1);
    drop(database);
    let host = open(folder.path()).unwrap();
    let refused = host.resume(call, None).unwrap_err().to_string();
    assert!(refused.contains("tampered with"), "{refused}");
    assert_eq!(host.reader().unwrap().holds(None, 10).unwrap().len(), 1);
}

/// An operator's retry is for what there is by then, and is read back like any effect.
#[test]
fn a_retry_reads_before_and_after_too() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let keyed =
        format!("{BY_PATH} }}\ndead_letter = true\nidempotency = {{ header = \"Idempotency-Key\", lifetime = \"1h\"");
    let host = set_up(folder.path(), &things, POLICY, &keyed, "");
    things.state.lock().fails = true;
    let failed = host.call(put(r#"{"email":"b@x"}"#)).unwrap();
    assert_eq!(shown(&failed), []);
    let mut state = things.state.lock();
    state.fails = false;
    state.seen.clear();
    state.put("1", json!({ "id": "1", "email": "c@x", "name": "Ann" }));
    drop(state);
    let again = host.retry_dead_letter(failed.call.as_str(), 1, false).unwrap();
    assert_eq!(shown(&again), [(1, Shown::Shown)], "{again:?}");
    assert_eq!(things.seen(), ["GET /things/1", "POST /things/1", "GET /things/1"]);
    let before = value(folder.path(), &again, "effect/1/before").unwrap();
    assert_eq!(before["object"]["email"], "c@x");
    drop(host);
    let key = crate::store::verifier(folder.path()).unwrap();
    reader(folder.path()).verify(&key, &[], |_| {}).unwrap();
    reader(folder.path()).check_values(|_| {}).unwrap();
}

/// Every commit of a call fails once: what was changed and not read back stays unchecked, and is not in doubt for that.
#[test]
fn a_crash_leaves_an_effect_unchecked_at_most() {
    let (mut unchecked, mut went_on) = (0, 0);
    for good in 0..14 {
        let folder = tempfile::tempdir().unwrap();
        let things = Things::start();
        drop(set_up(folder.path(), &things, POLICY, BY_PATH, ""));
        let options = HostOptions {
            compiler: Some(Compiler::InProcess),
            faults: Faults::after(good, Step::BeforeCommit, Fault::Io),
            ..HostOptions::default()
        };
        let ended = Host::open(Config::load(folder.path()).unwrap(), options)
            .map_or(true, |host| host.call(put(r#"{"email":"b@x"}"#)).is_err());
        if !ended {
            continue;
        }
        let host = open(folder.path()).unwrap();
        for unended in host.unended().unwrap() {
            if !unended.doubts.is_empty() {
                continue;
            }
            let answer = host.resume(&unended.story.call, None).unwrap();
            assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
            went_on += 1;
            unchecked += usize::from(answer.checked.is_empty());
            in_order(folder.path(), &unended.story.call);
        }
        let posts = things.seen().iter().filter(|line| line.starts_with("POST")).count();
        assert!(posts <= 1, "{good}: {:?}", things.seen());
        drop(host);
        let key = crate::store::verifier(folder.path()).unwrap();
        reader(folder.path()).verify(&key, &[], |_| {}).unwrap();
        reader(folder.path()).check_values(|_| {}).unwrap();
    }
    assert!(
        went_on >= 3 && unchecked >= 2,
        "{went_on} went on, {unchecked} unchecked"
    );
}

/// A kill ends what the host itself waits for; what had happened has happened, and was not seen.
#[test]
fn a_kill_while_it_is_read_back_leaves_an_effect_unverified() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let host = set_up(folder.path(), &things, POLICY, BY_PATH, "");
    things.state.lock().silent = true;
    let answer = thread::scope(|scope| {
        let call = scope.spawn(|| host.call(put(r#"{"email":"b@x"}"#)).unwrap());
        let began = std::time::Instant::now();
        while things.seen().len() < 3 {
            assert!(began.elapsed() < Duration::from_secs(20), "it is not read back");
            thread::sleep(Duration::from_millis(1));
        }
        let stop = ambit_core::stop::Stop {
            kind: ambit_core::stop::Kind::Kill,
            scope: "agent:assistant".parse().unwrap(),
        };
        host.stop(&stop, "enough").unwrap();
        call.join().unwrap()
    });
    assert_eq!(stopped(&answer).map(|refusal| refusal.code), Some(Code::Killed));
    assert_eq!(shown(&answer), [(1, Shown::Unreadable)]);
    let told = story(folder.path(), &answer);
    assert_eq!(told.finished.as_ref().unwrap().what.effects.unverified, 1);
    drop(host);
    let key = crate::store::verifier(folder.path()).unwrap();
    reader(folder.path()).verify(&key, &[], |_| {}).unwrap();
    reader(folder.path()).check_values(|_| {}).unwrap();
}

/// What a person makes of a held effect is another hold, for what there is to change by then.
#[test]
fn an_edited_effect_is_held_for_what_is_there_by_then() {
    let folder = tempfile::tempdir().unwrap();
    let things = Things::start();
    let host = set_up(folder.path(), &things, ONE, BY_PATH, "");
    let answer = host.call(put(r#"{"email":"b@x"}"#)).unwrap();
    let hold = held(&answer);
    things
        .state
        .lock()
        .put("1", json!({ "id": "1", "email": "c@x", "name": "Ann" }));
    let mut changes = crate::edits::new_changes().unwrap();
    changes.set("email", "d@x".into()).unwrap();
    let edit = ambit_core::hold::Edit {
        person: "sam".to_owned(),
        hold: hold.hold,
        changes: changes.digest(),
        group: "reviewer".to_owned(),
        expires_ms: hold.expires_ms,
    };
    let waiting = host
        .edit(&edit.sign(&key("sam")).unwrap(), &changes.to_text(), None)
        .unwrap();
    let now = &waiting.pending.held;
    assert_ne!(now.hold, hold.hold);
    let name = now.before_name();
    assert_ne!(name, "effect/1/before");
    for (name, email) in [("effect/1/before", "a@x"), (name.as_str(), "c@x")] {
        assert_eq!(value(folder.path(), &answer, name).unwrap()["object"]["email"], email);
    }
    let again = crate::call::Held { hold: now.hold, ..hold };
    approve(&host, &again, "rita").unwrap();
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(shown(&ended), [(1, Shown::Shown)], "{ended:?}");
    assert_eq!(things.state.lock().things["1"]["email"], "d@x");
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

/// What is sent again is the same request, with the version that it had, and is read back.
#[test]
fn what_is_sent_again_is_for_what_was_read_at_first() {
    let mut again = 0;
    for good in 0..14 {
        let folder = tempfile::tempdir().unwrap();
        let things = Things::start();
        let keyed =
            format!("{BY_PATH}, if_match = true }}\nidempotency = {{ header = \"Idempotency-Key\", lifetime = \"1h\"");
        drop(set_up(folder.path(), &things, POLICY, &keyed, ""));
        things.state.lock().lies = true;
        if let Ok(host) = recovery::failing(folder.path(), good, Step::BeforeCommit) {
            let _ = host.call(put(r#"{"email":"b@x"}"#));
        }
        let host = open(folder.path()).unwrap();
        let left = host.unended().unwrap();
        let Some(unended) = left.into_iter().find(|unended| !unended.doubts.is_empty()) else {
            continue;
        };
        let mut state = things.state.lock();
        if !state.seen.iter().any(|(method, ..)| method == "POST") {
            continue;
        }
        state.lies = false;
        // What a reading would say now is another version.
        state.etag = Some("\"v9\"".to_owned());
        state.seen.clear();
        drop(state);
        let answer = host.retry_doubt(&unended.story.call, None, None).unwrap();
        assert_eq!(shown(&answer), [(1, Shown::Shown)], "{answer:?}");
        assert_eq!(things.seen(), ["POST /things/1", "GET /things/1"]);
        assert_eq!(things.state.lock().seen[0].2.as_deref(), Some("\"v1\""));
        again += 1;
        drop(host);
        in_order(folder.path(), &unended.story.call);
    }
    assert!(again >= 1, "nothing was in doubt");
}

/// A home whose changes are written back, a call that changed a thing, and its service.
fn written_once(folder: &Path, policy: &str) -> (Things, Host, String) {
    let things = Things::start();
    drop(set_up(folder, &things, policy, BY_PATH, ""));
    let path = folder.join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let change = "\"POST /things/{id}\"\n";
    assert!(text.contains(change), "{text}");
    std::fs::write(&path, text.replace(change, &format!("{change}undo = \"write-back\"\n"))).unwrap();
    let host = open(folder).unwrap();
    let answer = host.call(put(r#"{"email":"b@x"}"#)).unwrap();
    assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
    (things, host, answer.call.to_string())
}

fn thing(things: &Things) -> Value {
    things.state.lock().things["1"].clone()
}

#[test]
fn what_somebody_changed_since_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (things, host, call) = written_once(folder.path(), POLICY);
    let theirs = json!({ "id": "1", "email": "theirs@x", "name": "Ann" });
    things.state.lock().put("1", theirs.clone());
    let plan = host.plan_rollback(&call, &over(false)).unwrap();
    assert!(plan.items[0].inverse.as_ref().unwrap().wrote.is_some());
    let answer = host.roll_back(&call, &over(false), None).unwrap();
    let Outcome::ToolError(told) = &answer.outcome else {
        panic!("{answer:?}")
    };
    let told = told.to_canonical();
    assert!(
        told.contains("the object changed since: `email` is not as the effect wrote it"),
        "{told}"
    );
    assert!(!told.contains("theirs"), "no value is told");
    let refused = &answer.refused_effects[0];
    assert_eq!(refused.code, Code::Stale);
    assert!(
        refused.advice.as_ref().unwrap().contains("--over-changes"),
        "{refused:?}"
    );
    assert_eq!(thing(&things), theirs);
    // Gone is another change.
    things.state.lock().things.clear();
    let answer = host.roll_back(&call, &over(false), None).unwrap();
    assert!(
        answer.refused_effects[0].message.contains("not there any more"),
        "{answer:?}"
    );
    things.state.lock().put("1", theirs);
    // The operator says so: it is on the ledger.
    let answer = host.roll_back(&call, &over(true), None).unwrap();
    assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
    assert_eq!(thing(&things)["email"], "a@x");
    let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
    assert!(story.undoes().unwrap().over_changes);
    drop(host);
    verifies(folder.path());
}

#[test]
fn what_somebody_changed_beside_it_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (things, host, call) = written_once(folder.path(), POLICY);
    let beside = json!({ "id": "1", "email": "b@x", "name": "Beth" });
    things.state.lock().put("1", beside);
    let answer = host.roll_back(&call, &over(false), None).unwrap();
    assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
    assert_eq!(thing(&things), json!({ "id": "1", "email": "a@x", "name": "Beth" }));
    let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
    assert!(!story.undoes().unwrap().over_changes);
    drop(host);
    verifies(folder.path());
}

fn over(over_changes: bool) -> RollbackOptions {
    RollbackOptions {
        over_changes,
        ..RollbackOptions::default()
    }
}

/// Also what people approved: it is read again when it goes on.
#[test]
fn an_approved_writing_back_is_for_what_the_effect_wrote() {
    for writes_over in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (things, host, call) = written_once(folder.path(), POLICY);
        drop(host);
        std::fs::write(folder.path().join("policy/main.cedar"), ONE).unwrap();
        let host = open(folder.path()).unwrap();
        let answer = host.roll_back(&call, &over(writes_over), None).unwrap();
        assert_eq!(approve(&host, &held(&answer), "rita").unwrap(), Standing::Approved);
        if !writes_over {
            let theirs = json!({ "id": "1", "email": "theirs@x", "name": "Ann" });
            things.state.lock().put("1", theirs);
        }
        let ended = host.resume(answer.call.as_str(), None).unwrap();
        assert_eq!(matches!(ended.outcome, Outcome::Ok(_)), writes_over, "{ended:?}");
        assert_eq!(thing(&things)["email"], if writes_over { "a@x" } else { "theirs@x" });
        drop(host);
        verifies(folder.path());
    }
}
