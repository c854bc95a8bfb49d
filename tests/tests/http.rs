//! `ambit serve` as agents elsewhere have it: many at a port, each by what it shows, and ended by a signal.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use ambit_core::ledger::CallStory;
use ambit_core::ledger::body::End;
use ambit_runtime::host::now_ms;
use ambit_runtime::operators::{self, Answer, Request};
use ambit_runtime::store::{CallFilter, Keys, Reader, verifier};
use ambit_tests::home::Home;
use serde_json::{Value, json};

use super::traps::Test;

macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((concat!("http_", stringify!($name)), $name)),*] };
}

pub(crate) const TESTS: &[Test] = tests![
    an_agent_is_known_by_its_key_at_each_version,
    tenants_see_nothing_of_each_other,
    a_key_leaves_out_what_it_leaves_out,
    a_client_that_goes_takes_its_call_back_in_the_newest_version,
    a_client_that_goes_leaves_its_call_in_older_versions,
    a_notification_takes_back_its_own_caller_s_call,
    what_a_notification_takes_back_ends_at_once,
    a_task_goes_on_with_the_next_server_and_ends_when_its_caller_says_so,
    a_spinning_agent_leaves_room_for_others,
    a_signal_ends_it_and_what_runs_goes_on_with_the_next,
    what_is_taken_anew_holds_for_the_next_request,
    what_is_large_comes_back_whole,
    one_door_of_a_process_is_open,
];

const STATELESS: &str = "2026-07-28";

const CONFIGURATION: &str = r#"
[agent.assistant]
team = "support"
tenant = "acme"
users = ["ada"]
[agent.stranger]
team = "elsewhere"
tenant = "other"
[group.reviewer]
members = []
[server]
[limits]
fuel = 4000000000000000
wall_ms = 60000
"#;

const POLICY: &str = r#"
@id("support")
permit (principal in Team::"support", action == Action::"call", resource);
@id("strangers")
permit (principal in Team::"elsewhere", action == Action::"call", resource in Tool::"theirs");
"#;

/// A home with tools that reach nothing: what they are called by is what is tested.
pub(super) struct Scene {
    pub(super) home: Home,
    _folder: tempfile::TempDir,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self::with("")
    }

    /// `more` is what the configuration says besides.
    pub(super) fn with(more: &str) -> Self {
        Self::furnished(more, |_| {})
    }

    /// The same, with what is put into its folder before anything of that is read.
    pub(super) fn furnished(more: &str, furnish: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::make(&folder.path().join("home")).unwrap();
        furnish(home.folder());
        home.configure(&format!("{CONFIGURATION}{more}")).unwrap();
        home.permit(POLICY).unwrap();
        for (name, component) in [
            ("echo", "good_echo"),
            ("theirs", "good_echo"),
            ("wild", "hostile_sandbox"),
        ] {
            home.add(name, component).unwrap();
        }
        Self { home, _folder: folder }
    }

    pub(super) fn key(&self, arguments: &[&str]) -> String {
        let made = self.home.done(["keys", "create"].iter().chain(arguments)).unwrap();
        made.out.trim().to_owned()
    }

    pub(super) fn stories(&self) -> Vec<CallStory> {
        let folder = self.home.folder();
        let reader = Reader::open(folder).unwrap().with_keys(&Keys::load(folder).unwrap());
        let mut calls = reader
            .calls(&CallFilter {
                limit: Some(200),
                ..CallFilter::default()
            })
            .unwrap();
        calls.reverse();
        calls
    }

    pub(super) fn in_order(&self) {
        let reader = Reader::open(self.home.folder()).unwrap();
        reader
            .verify(&verifier(self.home.folder()).unwrap(), &[], |_| {})
            .unwrap();
        for story in self.stories() {
            if story.ran_a_guest() {
                let run = self.home.run(["replay", story.call.as_str()], "").unwrap();
                assert_eq!(run.code, Some(0), "{}: {}", story.call, run.text());
            }
        }
    }
}

/// `ambit serve`, and where it listens.
pub(super) struct Server {
    child: Child,
    /// What it speaks there.
    pub(super) scheme: String,
    pub(super) address: String,
    /// What it says, which it could not if nobody heard.
    _err: Receiver<String>,
}

impl Drop for Server {
    /// One that did not end by itself.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    pub(super) fn start(scene: &Scene) -> Self {
        Self::of(&scene.home)
    }

    #[expect(clippy::zombie_processes, reason = "one that does not listen ends the test")]
    pub(super) fn of(home: &Home) -> Self {
        let mut child = home.start(["serve", "--listen", "127.0.0.1:0"]).unwrap();
        let errors = child.stderr.take().unwrap();
        let (says, err) = channel();
        thread::spawn(move || {
            for line in BufReader::new(errors).lines() {
                if says.send(line.unwrap()).is_err() {
                    break;
                }
            }
        });
        let mut before = String::new();
        loop {
            let line = err
                .recv_timeout(Duration::from_secs(60))
                .unwrap_or_else(|_| panic!("it does not listen: {before}"));
            let said = line.split_once("serving agents at ");
            if let Some((scheme, rest)) = said.and_then(|(_, url)| url.split_once("://")) {
                let address = rest.split('/').next().unwrap().to_owned();
                return Self {
                    child,
                    scheme: scheme.to_owned(),
                    address,
                    _err: err,
                };
            }
            before.push_str(&line);
        }
    }

    /// How many of its threads have this name.
    fn threads(&self, name: &str) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|found| found.trim_end() == name).count()
    }

    fn connect(&self, key: &str, more: &str, message: &Value) -> TcpStream {
        let (host, body) = (&self.address, message.to_string());
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\nAuthorization: Bearer {key}\r\n{more}\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        stream
    }

    fn ask_with(&self, key: &str, more: &str, message: &Value) -> (u16, Value) {
        answer(self.connect(key, more, message))
    }

    fn result(&self, key: &str, method: &str, params: Value) -> Value {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let (status, answer) = self.ask_with(key, "MCP-Protocol-Version: 2025-11-25\r\n", &message);
        assert_eq!(status, 200, "{answer:#}");
        assert!(answer["result"].is_object(), "{answer:#}");
        answer["result"].clone()
    }

    fn call(&self, key: &str, name: &str, arguments: Value) -> Value {
        self.result(key, "tools/call", json!({ "name": name, "arguments": arguments }))
    }

    fn names(&self, key: &str) -> Vec<String> {
        let listed = self.result(key, "tools/list", json!({}));
        let tools = listed["tools"].as_array().unwrap();
        tools
            .iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(super) fn signal(&mut self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = std::process::Command::new("kill").args([signal, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Ends it with a signal, and says how it ended, after how long.
    pub(super) fn end(mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        self.signal("-TERM");
        let code = self.child.wait().unwrap().code();
        (code, began.elapsed())
    }
}

fn answer(mut stream: TcpStream) -> (u16, Value) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {text}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (
        status,
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}")),
    )
}

/// The words and the call of a result.
fn told(result: &Value) -> (String, String) {
    let words = result["content"][0]["text"].as_str().unwrap_or_default().to_owned();
    let call = result["_meta"]["ambit/call"]["call"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    (words, call)
}

pub(super) fn wait_until(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not happen");
        thread::sleep(Duration::from_millis(2));
    }
}

/// How many calls run in the process that holds the home.
pub(super) fn runs(scene: &Scene) -> usize {
    match operators::ask(scene.home.folder(), &Request::Status).unwrap() {
        Some(Answer::Status(status)) => status.calls.len(),
        other => panic!("{other:?}"),
    }
}

fn spin(server: &Server, key: &str) -> TcpStream {
    spin_as(server, key, json!(1))
}

/// A guest that ends by itself when its time is over, asked for by a request of this id.
fn spin_as(server: &Server, key: &str, id: Value) -> TcpStream {
    let params = json!({ "name": "wild_try", "arguments": { "case": "spin" } });
    let message = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
    server.connect(key, "MCP-Protocol-Version: 2025-11-25\r\n", &message)
}

/// The same in the version that has no sessions.
fn spin_stateless(server: &Server, key: &str) -> TcpStream {
    let params = json!({ "name": "wild_try", "arguments": { "case": "spin" }, "_meta": meta() });
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    let more = format!("MCP-Protocol-Version: {STATELESS}\r\nMcp-Method: tools/call\r\nMcp-Name: wild_try\r\n");
    server.connect(key, &more, &message)
}

/// What each request says in the version that has no sessions.
fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": STATELESS,
        "io.modelcontextprotocol/clientInfo": { "name": "tests", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

/// Takes a request back, by its id.
fn cancel(server: &Server, key: &str, id: Value) {
    let message = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } });
    let mut stream = server.connect(key, "MCP-Protocol-Version: 2025-11-25\r\n", &message);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 202"), "{text}");
}

fn is_cancelled(story: &CallStory) -> bool {
    let finished = story.finished.as_ref();
    finished.is_some_and(
        |finished| matches!(&finished.what.outcome, End::Refused(refused) if refused.code.as_str() == "cancelled"),
    )
}

fn an_agent_is_known_by_its_key_at_each_version() {
    let scene = Scene::new();
    let key = scene.key(&["--as", "assistant", "--for", "ada"]);
    let server = Server::start(&scene);
    for version in ["2025-06-18", "2025-11-25"] {
        let params = json!({
            "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "tests", "version": "1" },
        });
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
        let (status, answer) = server.ask_with(&key, "", &message);
        assert_eq!((status, &answer["result"]["protocolVersion"]), (200, &json!(version)));
        let params = json!({ "name": "wild_try", "arguments": { "case": "fine" } });
        let message = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params });
        let more = format!("MCP-Protocol-Version: {version}\r\n");
        let (status, answer) = server.ask_with(&key, &more, &message);
        assert_eq!(
            (status, &answer["result"]["isError"]),
            (200, &json!(false)),
            "{answer:#}"
        );
    }
    let params = json!({ "name": "wild_try", "arguments": { "case": "fine" }, "_meta": meta() });
    let message = json!({ "jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": params });
    let more = format!("MCP-Protocol-Version: {STATELESS}\r\nMcp-Method: tools/call\r\nMcp-Name: wild_try\r\n");
    let (status, answer) = server.ask_with(&key, &more, &message);
    assert_eq!(
        (status, &answer["result"]["isError"]),
        (200, &json!(false)),
        "{answer:#}"
    );
    // The key of a call is on the ledger, its secret nowhere.
    assert_eq!(server.end().0, Some(0));
    assert_eq!(scene.stories().len(), 3);
    assert!(scene.home.files_with(&[key]).unwrap().is_empty());
    scene.in_order();
}

fn tenants_see_nothing_of_each_other() {
    let scene = Scene::new();
    let ours = scene.key(&["--as", "assistant"]);
    let server = Server::start(&scene);
    // Given out while it serves.
    let theirs = scene.key(&["--as", "stranger"]);
    let names = server.names(&theirs);
    assert!(
        names
            .iter()
            .all(|name| !name.starts_with("echo") && !name.starts_with("wild")),
        "{names:?}"
    );
    assert!(names.iter().any(|name| name.starts_with("theirs")), "{names:?}");
    let (_, call) = told(&server.call(&ours, "wild_try", json!({ "case": "fine" })));
    let status = |key: &str, name: &str| server.call(key, name, json!({ "call": call }));
    assert_eq!(status(&ours, "ambit_call_status")["structuredContent"]["status"], "ok");
    for name in ["ambit_call_status", "ambit_call_result"] {
        let answer = status(&theirs, name);
        assert_eq!(answer["isError"], true, "{answer:#}");
        assert_eq!(told(&answer).0, format!("there is no call {call} of yours"));
    }
    let read = json!({ "jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": { "uri": format!("ambit://receipt/{call}") } });
    let (_, answer) = server.ask_with(&theirs, "MCP-Protocol-Version: 2025-11-25\r\n", &read);
    assert_eq!(answer["error"]["code"], -32002, "{answer:#}");
    let refused = server.call(&theirs, "wild_try", json!({ "case": "fine" }));
    assert_eq!(refused["isError"], true, "{refused:#}");
    // A key that is revoked is good for nothing from then on.
    let listed = scene
        .home
        .done(["--format", "json", "keys", "list"])
        .unwrap()
        .json()
        .unwrap();
    let id = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["agent"] == "stranger")
        .unwrap()["id"]
        .clone();
    scene.home.done(["keys", "revoke", id.as_str().unwrap()]).unwrap();
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    assert_eq!(server.ask_with(&theirs, "", &list).0, 401);
    assert_eq!(server.end().0, Some(0));
    scene.in_order();
}

fn a_key_leaves_out_what_it_leaves_out() {
    let scene = Scene::new();
    let whole = scene.key(&["--as", "assistant"]);
    let narrow = scene.key(&["--as", "assistant", "--tool", "echo"]);
    let server = Server::start(&scene);
    let names = server.names(&narrow);
    assert!(names.iter().any(|name| name.starts_with("echo")), "{names:?}");
    assert!(
        names
            .iter()
            .all(|name| !name.starts_with("wild") && !name.starts_with("theirs")),
        "{names:?}"
    );
    let refused = server.call(&narrow, "wild_try", json!({ "case": "fine" }));
    assert_eq!(refused["isError"], true, "{refused:#}");
    let (_, call) = told(&server.call(&whole, "wild_try", json!({ "case": "fine" })));
    let result = |key: &str| server.call(key, "ambit_call_result", json!({ "call": call }));
    assert_eq!(result(&whole)["isError"], false);
    // The same agent's, but of a function that this key is not for.
    assert_eq!(result(&narrow)["isError"], true);
    assert_eq!(server.end().0, Some(0));
    scene.in_order();
}

/// That calls which go on for ever are taken back within 100 ms, by the time of their last entries: the median of some.
pub(super) fn ends_at_once<T>(scene: &Scene, begins: impl Fn() -> T, take_back: impl Fn(T)) {
    const TIMES: usize = 5;
    let mut took = Vec::new();
    for round in 0..TIMES {
        let begun = begins();
        wait_until(|| runs(scene) == 1);
        let at = now_ms();
        take_back(begun);
        wait_until(|| scene.stories().get(round).is_some_and(|story| story.finished.is_some()));
        let story = scene.stories().remove(round);
        assert!(is_cancelled(&story), "{story:?}");
        let finished = story.finished.unwrap();
        took.push(finished.stamp.time_ms() - at);
    }
    took.sort_unstable();
    assert!(took[TIMES / 2] <= 100, "{took:?} ms");
}

fn what_a_notification_takes_back_ends_at_once() {
    let scene = Scene::new();
    let key = scene.key(&["--as", "assistant"]);
    let server = Server::start(&scene);
    ends_at_once(
        &scene,
        || spin(&server, &key),
        |stream| {
            cancel(&server, &key, json!(1));
            assert_eq!(answer(stream).1["result"]["isError"], true);
        },
    );
    assert_eq!(server.end().0, Some(0));
    scene.in_order();
}

fn a_client_that_goes_takes_its_call_back_in_the_newest_version() {
    let scene = Scene::new();
    let key = scene.key(&["--as", "assistant"]);
    let server = Server::start(&scene);
    ends_at_once(&scene, || spin_stateless(&server, &key), drop);
    assert_eq!(
        server.call(&key, "wild_try", json!({ "case": "fine" }))["isError"],
        false
    );
    assert_eq!(server.end().0, Some(0));
    scene.in_order();
}

/// A network may fail: up to version 2025-11-25 a connection that ends is no word of its client.
fn a_client_that_goes_leaves_its_call_in_older_versions() {
    let scene = Scene::new();
    let key = scene.key(&["--as", "assistant"]);
    let server = Server::start(&scene);
    let gone = spin(&server, &key);
    wait_until(|| runs(&scene) == 1);
    drop(gone);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(runs(&scene), 1);
    // Its caller takes it back by a notification.
    cancel(&server, &key, json!(1));
    wait_until(|| runs(&scene) == 0);
    assert!(is_cancelled(&scene.stories()[0]));
    // What nobody waits for ends with the server, and goes on with the next.
    let gone = spin(&server, &key);
    wait_until(|| runs(&scene) == 1);
    drop(gone);
    assert_eq!(server.end().0, Some(0));
    assert!(scene.stories()[1].suspended().is_some());
    scene.in_order();
}

fn a_notification_takes_back_its_own_caller_s_call() {
    let scene = Scene::new();
    let key = scene.key(&["--as", "assistant"]);
    let (again, user) = (
        scene.key(&["--as", "assistant"]),
        scene.key(&["--as", "assistant", "--for", "ada"]),
    );
    let server = Server::start(&scene);
    let first = spin_as(&server, &key, json!("one"));
    let second = spin_as(&server, &key, json!(2));
    wait_until(|| runs(&scene) == 2);
    for other in [&again, &user] {
        cancel(&server, other, json!("one"));
    }
    for unknown in [json!("two"), json!("2"), json!(1), json!("")] {
        cancel(&server, &key, unknown);
    }
    thread::sleep(Duration::from_millis(200));
    assert_eq!(runs(&scene), 2);
    cancel(&server, &key, json!("one"));
    wait_until(|| runs(&scene) == 1);
    let (status, told) = answer(first);
    assert_eq!((status, &told["result"]["isError"]), (200, &json!(true)), "{told:#}");
    // Of two that cannot be told apart none is taken back.
    let third = spin_as(&server, &key, json!(2));
    wait_until(|| runs(&scene) == 2);
    cancel(&server, &key, json!(2));
    thread::sleep(Duration::from_millis(200));
    assert_eq!(runs(&scene), 2);
    drop((second, third));
    assert_eq!(server.end().0, Some(0));
    assert_eq!(scene.stories().iter().filter(|story| is_cancelled(story)).count(), 1);
    scene.in_order();
}

/// A request of a client that takes tasks, in the version that has no sessions.
fn ask_of_tasks(server: &Server, key: &str, method: &str, mut params: Value) -> Value {
    let name = params["name"]
        .as_str()
        .or(params["taskId"].as_str())
        .unwrap()
        .to_owned();
    params["_meta"] = meta();
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
        json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let more = format!("MCP-Protocol-Version: {STATELESS}\r\nMcp-Method: {method}\r\nMcp-Name: {name}\r\n");
    let (status, answer) = server.ask_with(key, &more, &message);
    assert_eq!(status, 200, "{answer:#}");
    answer["result"].clone()
}

fn a_task_goes_on_with_the_next_server_and_ends_when_its_caller_says_so() {
    let scene = Scene::new();
    let drained = CONFIGURATION.replace("[server]\n", "[server]\ndrain = \"1s\"\n");
    scene.home.configure(&drained).unwrap();
    let key = scene.key(&["--as", "assistant"]);
    let server = Server::start(&scene);
    let params = json!({ "name": "wild_try", "arguments": { "case": "spin" } });
    let created = ask_of_tasks(&server, &key, "tools/call", params);
    assert_eq!(
        (&created["resultType"], &created["status"]),
        (&json!("task"), &json!("working"))
    );
    // Its connection is closed, which says nothing of the task.
    thread::sleep(Duration::from_millis(200));
    assert_eq!(runs(&scene), 1);
    let about = json!({ "taskId": created["taskId"] });
    assert_eq!(server.end().0, Some(0));
    assert!(scene.stories()[0].suspended().is_some());
    let server = Server::start(&scene);
    wait_until(|| runs(&scene) == 1);
    assert_eq!(
        ask_of_tasks(&server, &key, "tasks/get", about.clone())["status"],
        "working"
    );
    assert_eq!(
        ask_of_tasks(&server, &key, "tasks/cancel", about.clone()),
        json!({ "resultType": "complete" })
    );
    wait_until(|| is_cancelled(&scene.stories()[0]));
    assert_eq!(ask_of_tasks(&server, &key, "tasks/get", about)["status"], "cancelled");
    assert_eq!(server.end().0, Some(0));
    scene.in_order();
}

/// An agent whose guests never end takes its share of what runs, and no more of it.
fn a_spinning_agent_leaves_room_for_others() {
    let scene = Scene::new();
    let shares = "[server]\ncalls_per_agent = 4\n";
    let few = CONFIGURATION
        .replace("[server]\n", shares)
        .replace("wall_ms = 60000", "wall_ms = 1500\nconcurrent_calls = 6");
    scene.home.configure(&few).unwrap();
    let (key, other) = (scene.key(&["--as", "assistant"]), scene.key(&["--as", "stranger"]));
    let server = Server::start(&scene);
    let spinning: Vec<TcpStream> = (0..9).map(|id| spin_as(&server, &key, json!(id))).collect();
    wait_until(|| runs(&scene) == 4);
    // Who waits for a place does so without a thread.
    assert_eq!(server.threads("ambit-call"), 4);
    let others = server.threads("ambit-http");
    assert!(others <= 3, "{others} threads");
    // While they run, and not when one of them is over.
    let began = Instant::now();
    let told = server.call(&other, "theirs_hash", json!({ "json": "{}" }));
    assert!(began.elapsed() < Duration::from_millis(1_400), "{:?}", began.elapsed());
    assert_eq!(told["isError"], false, "{told:#}");
    // Of its own five that wait, who waited for nothing is told why.
    let told: Vec<Value> = spinning.into_iter().map(|stream| answer(stream).1).collect();
    let waited_in_vain = told
        .iter()
        .filter(|told| told.to_string().contains("calls_per_agent"))
        .count();
    assert!(waited_in_vain >= 1, "{told:#?}");
    assert_eq!(server.end().0, Some(0));
    scene.in_order();
}

fn a_signal_ends_it_and_what_runs_goes_on_with_the_next() {
    let scene = Scene::new();
    let drained = CONFIGURATION.replace("[server]\n", "[server]\ndrain = \"2s\"\n");
    scene.home.configure(&drained).unwrap();
    let key = scene.key(&["--as", "assistant"]);
    let server = Server::start(&scene);
    let stream = spin(&server, &key);
    wait_until(|| runs(&scene) == 1);
    let (code, took) = server.end();
    assert_eq!(code, Some(0));
    // It may go on for two seconds, and is then suspended.
    let allowed = Duration::from_millis(1_800)..Duration::from_secs(15);
    assert!(allowed.contains(&took), "{took:?}");
    let (status, answer) = answer(stream);
    let (words, call) = told(&answer["result"]);
    assert_eq!(
        (status, &answer["result"]["isError"]),
        (200, &json!(true)),
        "{answer:#}"
    );
    assert!(words.starts_with("suspended: ") && words.contains(&call), "{words}");
    assert!(scene.stories()[0].suspended().is_some());
    let listed = scene.home.done(["calls"]).unwrap();
    assert!(
        listed.out.contains("suspended") && listed.out.contains("next `ambit serve`"),
        "{}",
        listed.text()
    );
    // The next one goes on with it by itself.
    let mut server = Server::start(&scene);
    wait_until(|| runs(&scene) == 1);
    let status = server.call(&key, "ambit_call_status", json!({ "call": call }));
    assert_eq!(status["structuredContent"]["status"], "running", "{status:#}");
    // A second signal ends it at once, as a crash would: that goes on when the operator says so.
    server.signal("-TERM");
    thread::sleep(Duration::from_millis(200));
    server.signal("-TERM");
    let began = Instant::now();
    assert_eq!(server.child.wait().unwrap().code(), None, "the signal ended it");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let server = Server::start(&scene);
    let status = server.call(&key, "ambit_call_status", json!({ "call": call }));
    assert_eq!(status["structuredContent"]["status"], "interrupted", "{status:#}");
    assert_eq!(server.end().0, Some(0));
    scene.in_order();
}

fn what_is_taken_anew_holds_for_the_next_request() {
    let scene = Scene::new();
    let key = scene.key(&["--as", "assistant"]);
    let mut server = Server::start(&scene);
    // A client of earlier versions is promised nothing that it could not be told.
    let params = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "tests", "version": "1" },
    });
    let began = server.result(&key, "initialize", params);
    assert_eq!(began["capabilities"]["tools"], json!({}), "{began:#}");
    // One of this version asks.
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": STATELESS,
        "io.modelcontextprotocol/clientInfo": { "name": "tests", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let wants = json!({ "toolsListChanged": true, "resourcesListChanged": true });
    let params = json!({ "notifications": wants, "_meta": meta });
    let message = json!({ "jsonrpc": "2.0", "id": 7, "method": "subscriptions/listen", "params": params });
    let more = format!("MCP-Protocol-Version: {STATELESS}\r\nMcp-Method: subscriptions/listen\r\n");
    let mut heard = BufReader::new(server.connect(&key, &more, &message)).lines();
    let mut hears = |what: &str| {
        let found = heard.by_ref().map(Result::unwrap).find(|line| line.contains(what));
        assert!(found.is_some(), "{what}");
    };
    hears("notifications/subscriptions/acknowledged");
    assert!(server.names(&key).iter().any(|name| name.starts_with("theirs")));
    scene
        .home
        .permit(&POLICY.replace("resource);", "resource in Tool::\"wild\");"))
        .unwrap();
    server.signal("-HUP");
    hears("notifications/tools/list_changed");
    hears("notifications/resources/list_changed");
    assert!(!server.names(&key).iter().any(|name| name.starts_with("theirs")));
    // What cannot be used leaves it as it is.
    scene.home.permit("permit (").unwrap();
    let refused = scene.home.run(["reload"], "").unwrap();
    assert_eq!(refused.code, Some(2), "{}", refused.text());
    assert!(server.names(&key).iter().any(|name| name.starts_with("wild")));
    scene.home.permit(POLICY).unwrap();
    scene.home.done(["reload"]).unwrap();
    hears("notifications/tools/list_changed");
    assert!(server.names(&key).iter().any(|name| name.starts_with("theirs")));
    // And a tool that goes, and one that comes.
    scene.home.done(["tools", "remove", "theirs"]).unwrap();
    scene.home.done(["reload"]).unwrap();
    hears("notifications/tools/list_changed");
    assert!(!server.names(&key).iter().any(|name| name.starts_with("theirs")));
    scene.home.add("more", "good_echo").unwrap();
    scene.home.done(["reload"]).unwrap();
    hears("notifications/tools/list_changed");
    assert!(server.names(&key).iter().any(|name| name.starts_with("more")));
    assert_eq!(server.end().0, Some(0));
    scene.in_order();
}

/// What is large is read and written out by other threads than what is small.
fn what_is_large_comes_back_whole() {
    let scene = Scene::new();
    let key = scene.key(&["--as", "assistant", "--for", "ada"]);
    let server = Server::start(&scene);
    let names = server.names(&key);
    let name = names
        .iter()
        .find(|name| name.starts_with("echo") && name.ends_with("a-string"));
    for length in [1_000, 30_000, 70_000, 400_000] {
        let text = "\u{e9}".repeat(length / 2);
        let result = server.call(&key, name.unwrap(), json!({ "value": text }));
        assert_eq!(result["structuredContent"]["value"], json!(text), "{length} bytes");
        assert_eq!(result["isError"], false);
    }
    assert_eq!(server.end().0, Some(0));
    scene.in_order();
}

fn one_door_of_a_process_is_open() {
    let scene = Scene::new();
    let run = |arguments: &[&str]| scene.home.run(arguments, "").unwrap();
    for wrong in [
        &["serve", "--stdio", "--listen", "127.0.0.1:0"][..],
        &["serve", "--as", "assistant"],
        &["serve", "--listen", "here"],
    ] {
        let ended = run(wrong);
        assert_eq!(ended.code, Some(2), "{wrong:?}: {}", ended.text());
        assert!(ended.out.is_empty());
    }
    scene.home.configure(&CONFIGURATION.replace("[server]\n", "")).unwrap();
    let ended = run(&["serve"]);
    assert_eq!(ended.code, Some(2), "{}", ended.text());
    assert!(ended.err.contains("no [server]"), "{}", ended.err);
}
