#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{Read, Write};
use std::net::TcpStream as Client;

use ambit_runtime::api_keys::Act;
use serde_json::{Value, json};

use super::*;
use crate::identity::tests::{Place, RESOURCE};

/// A server of a place, on a port of this machine.
struct Served {
    place: Place,
    address: SocketAddr,
    ends: watch::Sender<u32>,
    serving: thread::JoinHandle<()>,
}

struct Answer {
    status: u16,
    head: String,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn is_problem(&self) -> bool {
        self.head.contains("content-type: application/problem+json") && self.json()["status"] == self.status
    }
}

impl Served {
    fn new() -> Served {
        let place = Place::new("scopes = { \"all\" = [\"refunds/*\"] }");
        let (ends, ended) = watch::channel(0);
        let (says, hears) = std::sync::mpsc::channel();
        let (host, callers) = (place.host.clone(), place.callers.clone());
        let serving = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let front = Arc::new(Front::new(host, callers, address, Mode::Execute));
                says.send(address).unwrap();
                serve_on(listener, front, ended).await;
            });
        });
        Served {
            place,
            address: hears.recv().unwrap(),
            ends,
            serving,
        }
    }

    /// Sends bytes and reads to the end of the connection, as each request here asks for.
    fn raw(&self, bytes: &[u8]) -> Answer {
        let mut client = Client::connect(self.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // Of what is too large not all is read.
        drop(client.write_all(bytes));
        let mut text = Vec::new();
        drop(client.read_to_end(&mut text));
        let text = String::from_utf8(text).unwrap();
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
    fn get(&self, target: &str, more: &str) -> Answer {
        let host = self.address;
        self.raw(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n").as_bytes())
    }

    fn post_to(&self, target: &str, more: &str, body: &str) -> Answer {
        let (host, length) = (self.address, body.len());
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {length}\r\n{more}\r\n"
        );
        self.raw(format!("{head}{body}").as_bytes())
    }

    fn post(&self, word: &str, body: &str) -> Answer {
        self.post_to("/mcp", &bearer(word), body)
    }

    fn ends(self) {
        self.ends.send(1).unwrap();
        self.serving.join().unwrap();
        self.place.verified();
    }
}

fn bearer(word: &str) -> String {
    format!("Authorization: Bearer {word}\r\n")
}

fn initialize(version: &str) -> String {
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
        for target in ["/metrics", "/mcp", "/.well-known/oauth-protected-resource"] {
            let status = to(host, target).status;
            assert!([421, 400].contains(&status), "{host}{target}: {status}");
        }
        if !host.is_empty() {
            assert_eq!(to(host, "/metrics").status, 421, "{host}");
        }
    }
    for host in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        "AMBIT.example".to_owned(),
    ] {
        assert_eq!(to(&format!("Host: {host}\r\n"), "/mcp").status, 405, "{host}");
    }
    served.ends();
}

#[test]
fn pages_in_browsers_are_not_served() {
    let served = Served::new();
    let (key, _) = served.place.key(|_| {});
    for origin in ["https://evil.example", "null", "http://127.0.0.1:8787"] {
        let more = format!("Origin: {origin}\r\n{}", bearer(&key));
        assert_eq!(served.get("/metrics", &more).status, 403, "{origin}");
        let answer = served.post_to("/mcp", &more, &initialize("2025-11-25"));
        assert!(answer.status == 403 && answer.is_problem(), "{}", answer.text);
    }
    served.ends();
}

#[test]
fn a_body_has_a_size() {
    let served = Served::new();
    let (key, _) = served.place.key(|_| {});
    let host = served.address;
    // 100 MB are said, and some of it comes: it is refused once it is too much, and never kept.
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: 100000000\r\n{}\r\n",
        bearer(&key)
    );
    let mut request = head.into_bytes();
    request.extend(std::iter::repeat_n(b' ', (2 << 20) + (64 << 10)));
    let answer = served.raw(&request);
    assert!(
        answer.status == 413 && answer.is_problem(),
        "{} {}",
        answer.status,
        answer.text
    );
    // Of those who are not known nothing is read.
    let answer = served.post_to("/mcp", "", &"x".repeat(1 << 20));
    assert_eq!(answer.status, 401);
    served.ends();
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
fn metrics_are_for_this_machine() {
    let served = Served::new();
    let own = served.get("/metrics", "");
    assert_eq!(own.status, 200);
    assert!(own.text.contains("# TYPE ambit_"), "{}", own.text);
    assert!(own.head.contains("text/plain; version=0.0.4"), "{}", own.head);
    let open = served.get("/metrics", "Accept: application/openmetrics-text\r\n");
    assert!(open.head.contains("application/openmetrics-text"), "{}", open.head);
    // What something in front passes on is of another machine.
    for more in [
        "X-Forwarded-For: 192.0.2.1\r\n",
        "Forwarded: for=192.0.2.1\r\n",
        "Via: 1.1 proxy\r\n",
    ] {
        assert_eq!(served.get("/metrics", more).status, 403, "{more}");
    }
    let far = served.raw(b"GET /metrics HTTP/1.1\r\nHost: ambit.example\r\nConnection: close\r\n\r\n");
    assert_eq!(far.status, 403);
    served.ends();
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

/// Who only opens connections keeps nobody from being served, and the server from ending.
#[test]
fn connections_that_say_nothing_do_not_hold_up_the_end() {
    let served = Served::new();
    let silent: Vec<Client> = (0..20).map(|_| Client::connect(served.address).unwrap()).collect();
    let began = std::time::Instant::now();
    assert_eq!(served.get("/health", "").status, 200);
    served.ends();
    assert!(began.elapsed() < DRAIN, "{:?}", began.elapsed());
    drop(silent);
}
