#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod scopes;
mod tasks;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream as Client;
use std::thread;

use ambit_core::identity::why::Why;
use ambit_runtime::api_keys::Act;
use ambit_runtime::runs::NewRun;
use ambit_runtime::store::{Fault, Faults, Step};
use axum::extract::State;
use serde_json::{Value, json};

use super::*;
use crate::identity::tests::{Place, RESOURCE};

/// A server of a place, on a port of this machine.
pub(crate) struct Served {
    pub(crate) place: Place,
    pub(crate) address: SocketAddr,
    /// Where its metrics are.
    pub(super) metrics: SocketAddr,
    ends: watch::Sender<bool>,
    serving: thread::JoinHandle<()>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In small letters.
    pub(crate) head: String,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn is_problem(&self) -> bool {
        self.head.contains("content-type: application/problem+json") && self.json()["status"] == self.status
    }
}

impl Served {
    fn new() -> Served {
        Served::with("scopes = { \"all\" = [\"refunds/*\"] }")
    }

    /// `more` is what the configuration says besides, from the end of its issuer on.
    pub(crate) fn with(more: &str) -> Served {
        Served::in_mode(more, Mode::Execute)
    }

    pub(crate) fn in_mode(more: &str, mode: Mode) -> Served {
        Served::of_mode(Place::new(more), PATIENCE, mode)
    }

    /// The same, with a tool, and with a policy of its own.
    pub(crate) fn with_tool(more: &str, tool: (&str, &str), policy: &str, mode: Mode) -> Served {
        let (name, component) = (tool.0, wat::parse_str(tool.1).unwrap());
        Served::of_mode(Place::with_tool(more, name, &component, policy), PATIENCE, mode)
    }

    /// The same, where all threads of agents' work beside calls are taken until what is given back is dropped.
    pub(crate) fn without_threads(more: &str) -> (Served, std::sync::mpsc::Sender<()>) {
        let (ends, ended) = std::sync::mpsc::channel();
        let served = Served::of_threads(Place::new(more), PATIENCE, Mode::Execute, Some(ended));
        (served, ends)
    }

    pub(super) fn of(place: Place, patience: Patience) -> Served {
        Served::of_mode(place, patience, Mode::Execute)
    }

    /// Of a place as it was made.
    pub(crate) fn at(place: Place) -> Served {
        Served::of_mode(place, PATIENCE, Mode::Execute)
    }

    fn of_mode(place: Place, patience: Patience, mode: Mode) -> Served {
        Served::of_threads(place, patience, mode, None)
    }

    fn of_threads(
        place: Place,
        patience: Patience,
        mode: Mode,
        taken: Option<std::sync::mpsc::Receiver<()>>,
    ) -> Served {
        let (ends, ended) = watch::channel(false);
        let (says, hears) = std::sync::mpsc::channel();
        let (host, callers) = (place.host.clone(), place.callers.clone());
        let serving = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .max_blocking_threads(if taken.is_some() { 1 } else { 64 })
                .enable_all()
                .build()
                .unwrap();
            if let Some(taken) = taken {
                runtime.spawn_blocking(move || taken.recv().is_err());
            }
            runtime.block_on(async {
                let any = "127.0.0.1:0".parse().unwrap();
                let mut doors = Doors::open(any, Some(any)).await.unwrap();
                doors.patience = patience;
                let address = doors.agents.local_addr().unwrap();
                let metrics = doors.metrics.as_ref().unwrap().local_addr().unwrap();
                let front = Arc::new(Front::new(host, callers, address, mode, patience.body));
                says.send((address, metrics)).unwrap();
                serve_on(doors, front, ended).await;
            });
        });
        let (address, metrics) = hears.recv().unwrap();
        Served {
            place,
            address,
            metrics,
            ends,
            serving,
        }
    }

    /// Sends bytes and reads to the end of the connection, as each request here asks for.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Answer {
        Served::raw_to(self.address, bytes)
    }

    pub(super) fn raw_to(address: SocketAddr, bytes: &[u8]) -> Answer {
        let mut client = Client::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // Of what is too large not all is read.
        drop(client.write_all(bytes));
        Served::answer(&mut client)
    }

    /// A connection to it.
    pub(crate) fn client(&self) -> Client {
        let client = Client::connect(self.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    }

    /// What comes until the end of a connection.
    pub(crate) fn answer(client: &mut Client) -> Answer {
        let mut text = Vec::new();
        drop(client.read_to_end(&mut text));
        // What is not text is looked at by its head alone.
        let text = String::from_utf8_lossy(&text).into_owned();
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: {text}"));
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_ascii_lowercase(),
            text: body.to_owned(),
        }
    }

    /// A request to this server, with more members of its head, each with its end of line.
    pub(super) fn get(&self, target: &str, more: &str) -> Answer {
        let host = self.address;
        self.raw(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n").as_bytes())
    }

    pub(super) fn post_to(&self, target: &str, more: &str, body: &str) -> Answer {
        let (host, length) = (self.address, body.len());
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {length}\r\n{more}\r\n"
        );
        self.raw(format!("{head}{body}").as_bytes())
    }

    pub(super) fn post(&self, word: &str, body: &str) -> Answer {
        self.post_to("/mcp", &bearer(word), body)
    }

    /// Ends it, and says what its ledger says of requests that were refused.
    pub(crate) fn ends(self) -> BTreeMap<Why, u32> {
        self.ends.send(true).unwrap();
        self.serving.join().unwrap();
        self.place.verified()
    }
}

pub(crate) fn bearer(word: &str) -> String {
    format!("Authorization: Bearer {word}\r\n")
}

pub(super) fn initialize(version: &str) -> String {
    let params = json!({
        "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "tests", "version": "1" },
    });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }).to_string()
}

#[test]
fn a_token_and_a_key_are_served_and_nothing_else_is() {
    let served = Served::new();
    let (key, id) = served.place.key(|_| {});
    let token = served.place.token(json!({ "scope": "all" }));
    for word in [&key, &token] {
        for version in ["2025-06-18", "2025-11-25"] {
            let answer = served.post(word, &initialize(version));
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert_eq!(answer.json()["result"]["protocolVersion"], version);
            assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
            assert!(!answer.head.contains("mcp-session-id"), "{}", answer.head);
        }
    }
    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" }).to_string();
    let with = |more: &str| served.post_to("/mcp", more, &list);
    let none = with("");
    assert_eq!(none.status, 401);
    let challenge =
        "www-authenticate: bearer resource_metadata=\"https://ambit.example/.well-known/oauth-protected-resource/mcp\"";
    assert!(none.head.contains(challenge), "{}", none.head);
    assert!(none.is_problem(), "{}", none.text);
    let elsewhere = served.place.token(json!({ "aud": "https://other.example/mcp" }));
    assert_eq!(with(&bearer(&elsewhere)).status, 401);
    assert_eq!(with(&format!("{}{}", bearer(&key), bearer(&key))).status, 400);
    assert_eq!(with("Authorization: Basic YTpi\r\n").status, 400);
    assert_eq!(
        served.post_to(&format!("/mcp?access_token={key}"), "", &list).status,
        400
    );
    // Who is not known is told so, whatever the method and the path's query.
    assert_eq!(served.get("/mcp", "").status, 401);
    assert_eq!(served.get("/mcp", &bearer(&key)).status, 405);
    served.place.operator(Act::Revoke(id));
    let revoked = served.post(&key, &list);
    assert_eq!(revoked.status, 401);
    assert!(revoked.head.contains("error=\"invalid_token\""), "{}", revoked.head);
    served.ends();
}

#[test]
fn a_request_is_for_this_server() {
    let served = Served::new();
    let (key, _) = served.place.key(|_| {});
    let to = |host: &str, target: &str| {
        let more = bearer(&key);
        served.raw(format!("GET {target} HTTP/1.1\r\n{host}Connection: close\r\n{more}\r\n").as_bytes())
    };
    let port = served.address.port();
    let foreign = [
        "Host: evil.example\r\n".to_owned(),
        format!("Host: evil.example:{port}\r\n"),
        format!("Host: 127.0.0.1:{port}\r\nHost: evil.example\r\n"),
        "Host: 127.0.0.1\r\n".to_owned(),
        String::new(),
    ];
    for host in &foreign {
        for target in ["/nothing", "/mcp", "/.well-known/oauth-protected-resource"] {
            let status = to(host, target).status;
            assert!([421, 400].contains(&status), "{host}{target}: {status}");
        }
        if !host.is_empty() {
            assert_eq!(to(host, "/nothing").status, 421, "{host}");
        }
    }
    for host in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        "AMBIT.example".to_owned(),
    ] {
        assert_eq!(to(&format!("Host: {host}\r\n"), "/mcp").status, 405, "{host}");
    }
    // Four of the hosts are named, and each was asked four times of; no host was named three times.
    assert_eq!(served.ends()[&Why::Host], 19);
}

#[test]
fn pages_in_browsers_are_not_served() {
    let served = Served::new();
    let (key, _) = served.place.key(|_| {});
    for origin in ["https://evil.example", "null", "http://127.0.0.1:8787"] {
        let more = format!("Origin: {origin}\r\n{}", bearer(&key));
        assert_eq!(served.get("/nothing", &more).status, 403, "{origin}");
        let answer = served.post_to("/mcp", &more, &initialize("2025-11-25"));
        assert!(answer.status == 403 && answer.is_problem(), "{}", answer.text);
    }
    for (site, status) in [
        ("cross-site", 403),
        ("same-site", 403),
        ("same-origin", 404),
        ("none", 404),
    ] {
        let more = format!("Sec-Fetch-Site: {site}\r\n{}", bearer(&key));
        assert_eq!(served.get("/nothing", &more).status, status, "{site}");
    }
    // What a request is for says nothing of where it comes from, and one foreign origin is enough.
    let port = served.address.port();
    let own = |name: &str| format!("http://{name}:{port}");
    let both = format!("{}\r\nOrigin: https://evil.example", own("localhost"));
    for foreign in [
        format!("http://evil.example:{port}"),
        format!("https://localhost:{port}"),
        "http://localhost".to_owned(),
        "http://ambit.example".to_owned(),
        both,
    ] {
        let more = format!("Origin: {foreign}\r\n{}", bearer(&key));
        let answer = served.post_to("/mcp", &more, &initialize("2025-11-25"));
        assert_eq!(answer.status, 403, "{foreign}: {}", answer.text);
    }
    for own in [
        own("127.0.0.1"),
        own("localhost"),
        own("[::1]"),
        "https://ambit.example".to_owned(),
    ] {
        let more = format!("Origin: {own}\r\n{}", bearer(&key));
        let answer = served.post_to("/mcp", &more, &initialize("2025-11-25"));
        assert_eq!(answer.status, 200, "{own}: {}", answer.text);
    }
    assert_eq!(served.ends()[&Why::Origin], 13);
}

/// Whoever sends a token in a query is told, and it is on the ledger how often that was.
#[test]
fn tokens_in_a_query_are_counted() {
    let served = Served::new();
    let (key, _) = served.place.key(|_| {});
    for target in ["/mcp", "/v1/tools"] {
        let answer = served.get(&format!("{target}?access_token={key}"), "");
        assert_eq!(answer.status, 400, "{target}: {}", answer.text);
    }
    assert_eq!(served.ends(), BTreeMap::from([(Why::Header, 2)]));
}

#[test]
fn what_is_no_message_gets_its_error() {
    let served = Served::new();
    let (key, _) = served.place.key(|_| {});
    for (body, code) in [
        ("{", -32700),
        ("[]", -32600),
        ("[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]", -32600),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"method\":\"tools/list\"}",
            -32700,
        ),
    ] {
        let answer = served.post(&key, body);
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_i64()),
            (400, Some(code)),
            "{body}"
        );
    }
    let unknown = served.post(&key, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/make\"}");
    assert_eq!(unknown.json()["error"]["code"], -32601);
    // And the server stays up.
    assert_eq!(served.post(&key, &initialize("2025-11-25")).status, 200);
    served.ends();
}

#[test]
fn metrics_are_not_where_agents_are() {
    let served = Served::new();
    let get = |host: &str, more: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n");
        Served::raw_to(served.metrics, request.as_bytes())
    };
    // Not to whoever reaches the port of agents, from wherever and by whatever it is passed on.
    assert_eq!(served.get("/metrics", "").status, 404);
    let port = served.metrics.port();
    for host in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        "[::1]".to_owned(),
        "10.1.2.3:9478".to_owned(),
    ] {
        let own = get(&host, "");
        assert_eq!(own.status, 200, "{host}");
        assert!(own.text.contains("# TYPE ambit_"), "{}", own.text);
        assert!(own.head.contains("text/plain; version=0.0.4"), "{}", own.head);
    }
    let open = get("localhost", "Accept: application/openmetrics-text\r\n");
    assert!(open.head.contains("application/openmetrics-text"), "{}", open.head);
    // A page's author can have a name of their own be this machine's.
    for host in [
        "evil.example",
        "evil.example:9478",
        "1.evil.example",
        "localhost.evil.example",
    ] {
        assert_eq!(get(host, "").status, 421, "{host}");
    }
    assert_eq!(get("localhost", "Origin: http://localhost\r\n").status, 421);
    // Agents are not where metrics are, and whoever watches the process is answered at both.
    for (target, status) in [("/mcp", 404), ("/", 404), ("/health", 200), ("/ready", 200)] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(
            Served::raw_to(served.metrics, request.as_bytes()).status,
            status,
            "{target}"
        );
    }
    // Whoever tried is on the ledger, as it is where agents are.
    let refused = served.ends();
    assert_eq!((refused[&Why::Host], refused[&Why::Origin]), (4, 1));
}

#[test]
fn clients_are_told_where_tokens_come_from() {
    let served = Served::new();
    for path in ["", "/mcp"] {
        let answer = served.get(&format!("/.well-known/oauth-protected-resource{path}"), "");
        assert_eq!((answer.status, &answer.json()["resource"]), (200, &json!(RESOURCE)));
    }
    for nothing in [
        "/",
        "/.well-known/openid-configuration",
        "/mcp/",
        "/MCP",
        "/metrics/../mcp",
    ] {
        let answer = served.get(nothing, "");
        assert!(answer.status == 404 && answer.is_problem(), "{nothing}");
    }
    served.ends();
}

#[test]
fn whoever_watches_the_process_is_answered() {
    let served = Served::new();
    // By whatever name it is known to them.
    for target in ["/health", "/ready"] {
        let answer =
            served.raw(format!("GET {target} HTTP/1.1\r\nHost: pod-7\r\nConnection: close\r\n\r\n").as_bytes());
        assert_eq!(answer.status, 200, "{target}");
    }
    assert_eq!(served.get("/ready", "").json(), json!({ "status": "ready" }));
    served.ends();
}

/// What a server of this host says of whether it is ready; `ends` where it was told to end.
fn readiness(place: &Place, host: Host, ends: bool) -> (u16, Value) {
    let address = "127.0.0.1:1".parse().unwrap();
    let front = Front::new(host, place.callers.clone(), address, Mode::Execute, PATIENCE.body);
    if ends {
        front.end();
    }
    // A current-thread runtime has threads for what blocks all the same.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let answer = front::ready(State(Arc::new(front))).await;
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1_000).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    })
}

#[test]
fn what_cannot_serve_says_that_it_is_not_ready() {
    let not_ready = |why: &[&str]| (503, json!({ "status": "not-ready", "why": why }));
    let place = Place::new("");
    let host = place.host.clone();
    assert_eq!(
        readiness(&place, host.clone(), false),
        (200, json!({ "status": "ready" }))
    );
    assert_eq!(readiness(&place, host.clone(), true), not_ready(&["ending"]));
    // The ledger that it writes is not there to be read.
    let (ledger, aside) = (place.folder.path().join("ledger.db"), place.folder.path().join("aside"));
    std::fs::rename(&ledger, &aside).unwrap();
    assert_eq!(readiness(&place, host.clone(), false), not_ready(&["ledger"]));
    assert_eq!(readiness(&place, host.clone(), true), not_ready(&["ending", "ledger"]));
    std::fs::rename(&aside, &ledger).unwrap();
    assert_eq!(readiness(&place, host, false).0, 200);
    // One that a disk took no entry of.
    let place = Place::failing(Faults::after(0, Step::BeforeCommit, Fault::Full));
    let host = place.host.clone();
    assert_eq!(readiness(&place, host.clone(), false).0, 200);
    let run = NewRun {
        agent: "assistant".into(),
        user: None,
        mode: Mode::Suggest,
        length_ms: 60_000,
        caps: Vec::new(),
        errors: None,
    };
    host.start_run(&run).unwrap_err();
    assert_eq!(readiness(&place, host, false), not_ready(&["ledger"]));
}

/// Who only opens connections keeps nobody from being served, and the server from ending.
#[test]
fn connections_that_say_nothing_do_not_hold_up_the_end() {
    let served = Served::new();
    let silent: Vec<Client> = (0..20).map(|_| Client::connect(served.address).unwrap()).collect();
    let began = Instant::now();
    assert_eq!(served.get("/health", "").status, 200);
    served.ends();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    drop(silent);
}
