//! `ambit serve` as agents elsewhere have it: many at a port, each by what it shows, and ended by a signal.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
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
    a_client_that_goes_takes_its_call_back,
    a_signal_ends_it_and_what_runs,
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
struct Scene {
    home: Home,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::make(&folder.path().join("home")).unwrap();
        home.configure(CONFIGURATION).unwrap();
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

    fn key(&self, arguments: &[&str]) -> String {
        let made = self.home.done(["keys", "create"].iter().chain(arguments)).unwrap();
        made.out.trim().to_owned()
    }

    fn stories(&self) -> Vec<CallStory> {
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

    fn in_order(&self) {
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
struct Server {
    child: Child,
    address: String,
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
    #[expect(clippy::zombie_processes, reason = "one that does not listen ends the test")]
    fn start(scene: &Scene) -> Self {
        let mut child = scene.home.start(["serve", "--listen", "127.0.0.1:0"]).unwrap();
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
            if let Some((_, rest)) = line.split_once("http://") {
                let address = rest.split('/').next().unwrap().to_owned();
                return Self {
                    child,
                    address,
                    _err: err,
                };
            }
            before.push_str(&line);
        }
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

    /// Ends it with a signal, and says how it ended, after how long.
    fn end(mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        let id = self.child.id().to_string();
        assert!(
            std::process::Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
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

fn wait_until(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not happen");
        thread::sleep(Duration::from_millis(2));
    }
}

/// How many calls run in the process that holds the home.
fn runs(scene: &Scene) -> usize {
    match operators::ask(scene.home.folder(), &Request::Status).unwrap() {
        Some(Answer::Status(status)) => status.calls.len(),
        other => panic!("{other:?}"),
    }
}

fn spin(server: &Server, key: &str) -> TcpStream {
    let params = json!({ "name": "wild_try", "arguments": { "case": "spin" } });
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    server.connect(key, "MCP-Protocol-Version: 2025-11-25\r\n", &message)
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
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": STATELESS,
        "io.modelcontextprotocol/clientInfo": { "name": "tests", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({ "name": "wild_try", "arguments": { "case": "fine" }, "_meta": meta });
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

fn a_client_that_goes_takes_its_call_back() {
    const TIMES: usize = 5;
    let scene = Scene::new();
    let key = scene.key(&["--as", "assistant"]);
    let server = Server::start(&scene);
    let mut took = Vec::new();
    for round in 0..TIMES {
        let stream = spin(&server, &key);
        wait_until(|| runs(&scene) == 1);
        let at = now_ms();
        drop(stream);
        wait_until(|| scene.stories().get(round).is_some_and(|story| story.finished.is_some()));
        let finished = scene.stories().remove(round).finished.unwrap();
        assert!(
            matches!(&finished.what.outcome, End::Refused(refused) if refused.code.as_str() == "cancelled"),
            "{finished:?}"
        );
        took.push(finished.stamp.time_ms() - at);
    }
    took.sort_unstable();
    assert!(took[TIMES / 2] <= 100, "{took:?} ms");
    assert_eq!(
        server.call(&key, "wild_try", json!({ "case": "fine" }))["isError"],
        false
    );
    assert_eq!(server.end().0, Some(0));
    scene.in_order();
}

fn a_signal_ends_it_and_what_runs() {
    let scene = Scene::new();
    let key = scene.key(&["--as", "assistant"]);
    let server = Server::start(&scene);
    let stream = spin(&server, &key);
    wait_until(|| runs(&scene) == 1);
    let (code, took) = server.end();
    assert_eq!(code, Some(0));
    // It may go on for ten seconds, and is then taken back.
    assert!(
        (Duration::from_secs(8)..Duration::from_secs(20)).contains(&took),
        "{took:?}"
    );
    let (status, answer) = answer(stream);
    assert_eq!(
        (status, &answer["result"]["isError"]),
        (200, &json!(true)),
        "{answer:#}"
    );
    assert!(scene.stories()[0].finished.is_some());
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
