//! Clients that mean no good, or do not know better, over real sockets: each gets its error or its end, and the server stays up.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream as Client};
use std::thread;

use ambit_core::identity::why::Why;
use serde_json::json;

use super::tests::{Answer, Served, bearer, initialize};
use super::*;
use crate::identity::tests::Place;

const QUICK: Patience = Patience {
    head: Duration::from_millis(400),
    body: Duration::from_millis(400),
    answer: Duration::from_millis(400),
};
/// What ends at once may take this long on a machine that does much else.
const SOON: Duration = Duration::from_secs(5);

fn served(server: &str, patience: Patience) -> Served {
    Served::of(Place::of(server), patience)
}

fn client(served: &Served) -> Client {
    let client = Client::connect(served.address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    client
}

/// The head of a request of this caller, with so long a body.
fn head(served: &Served, word: &str, length: usize) -> String {
    let host = served.address;
    format!(
        "POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {length}\r\n{}\r\n",
        bearer(word)
    )
}

/// A request that is under way: its caller is known, and its body does not come.
fn under_way(served: &Served, word: &str) -> Client {
    let mut client = client(served);
    // The server says that it goes on with it once the caller is known, and its body is read.
    let head = head(served, word, 100).replacen("\r\n", "\r\nExpect: 100-continue\r\n", 1);
    client.write_all(head.as_bytes()).unwrap();
    let mut goes_on = [0; 25];
    client.read_exact(&mut goes_on).unwrap();
    assert_eq!(&goes_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    client
}

fn is_well(served: &Served) {
    let (key, _) = served.place.key(|_| {});
    let answer = served.post(&key, &initialize("2025-11-25"));
    assert_eq!(answer.status, 200, "{}", answer.text);
}

fn is_closed(client: &mut Client) -> bool {
    let began = Instant::now();
    let mut rest = Vec::new();
    let ended = client.read_to_end(&mut rest);
    // Reset is closed, too late is not.
    began.elapsed() < SOON && !matches!(ended, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[test]
fn a_slow_head_is_not_waited_for() {
    let served = served("", QUICK);
    let mut slow = client(&served);
    let began = Instant::now();
    // A byte now and then does not make it wait for longer.
    let text = format!(
        "GET /health HTTP/1.1\r\nHost: {}\r\nX-Slow: {}",
        served.address,
        "x".repeat(200)
    );
    for byte in text.bytes() {
        if slow.write_all(&[byte]).is_err() || began.elapsed() > SOON {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert!(is_closed(&mut slow));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    // Nor for who says nothing, or nothing more.
    let mut silent = client(&served);
    assert!(is_closed(&mut silent));
    let mut idle = client(&served);
    idle.write_all(format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", served.address).as_bytes())
        .unwrap();
    assert!(is_closed(&mut idle));
    is_well(&served);
    served.ends();
}

#[test]
fn a_slow_body_is_not_waited_for() {
    let served = served("", QUICK);
    let (key, _) = served.place.key(|_| {});
    let began = Instant::now();
    let mut slow = under_way(&served, &key);
    slow.write_all(b"{\"jsonrpc\"").unwrap();
    let answer = Served::answer(&mut slow);
    assert!(answer.status == 408 && answer.is_problem(), "{}", answer.text);
    assert!(began.elapsed() < SOON);
    // One that ends before its body does asked for nothing.
    let mut half = under_way(&served, &key);
    half.shutdown(Shutdown::Write).unwrap();
    assert!(is_closed(&mut half));
    is_well(&served);
    served.ends();
}

/// More answers than any buffer takes are asked for and not read.
#[test]
fn who_does_not_read_its_answers_is_let_go() {
    let served = served("", QUICK);
    let mut deaf = client(&served);
    let request = format!(
        "GET /.well-known/oauth-protected-resource HTTP/1.1\r\nHost: {}\r\n\r\n",
        served.address
    );
    let many = request.repeat(1_000);
    let began = Instant::now();
    let ended = (0..1_000).find_map(|_| deaf.write_all(many.as_bytes()).err());
    assert!(ended.is_some_and(|error| error.kind() != io::ErrorKind::WouldBlock));
    assert!(began.elapsed() < 3 * SOON, "{:?}", began.elapsed());
    is_well(&served);
    served.ends();
}

#[test]
fn who_only_connects_keeps_nobody_out() {
    let served = served("connections = 16", PATIENCE);
    let mut silent: Vec<Client> = (0..16).map(|_| client(&served)).collect();
    for client in &mut silent[8..] {
        client.write_all(b"POST /mcp HTTP/1.1\r\nHost: h").unwrap();
    }
    let began = Instant::now();
    // Each is closed at its end, and makes room for the next one.
    for _ in 0..40 {
        assert_eq!(served.get("/health", "").status, 200);
    }
    is_well(&served);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    // The first that came is the first that made room.
    assert!(is_closed(&mut silent[0]));
    served.ends();
}

#[test]
fn where_all_are_busy_the_next_is_told_to_come_later() {
    let served = served("connections = 16\nrequests_per_agent = 16", PATIENCE);
    let (key, _) = served.place.key(|_| {});
    let mut busy: Vec<Client> = (0..16).map(|_| under_way(&served, &key)).collect();
    let full = served.get("/health", "");
    assert!(full.status == 503 && full.is_problem(), "{}", full.text);
    assert!(full.head.contains("retry-after: 1"), "{}", full.head);
    // Those who are served are not disturbed by it.
    let body = format!("{:<100}", r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    let mut first = busy.remove(0);
    first.write_all(body.as_bytes()).unwrap();
    let mut text = [0; 12];
    first.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"HTTP/1.1 200");
    assert_eq!(served.get("/health", "").status, 200);
    drop((first, busy));
    assert!(served.ends()[&Why::Connections] >= 1, "a flood is on the ledger");
}

#[test]
fn one_agent_leaves_room_for_others() {
    let served = served("requests_per_agent = 4", PATIENCE);
    let (key, _) = served.place.key(|_| {});
    let (again, _) = served.place.key(|_| {});
    let (other, _) = served.place.key(|asked| asked.agent = "spy".into());
    let busy: Vec<Client> = (0..4).map(|_| under_way(&served, &key)).collect();
    let ask = |word: &str| served.post(word, &initialize("2025-11-25"));
    let began = Instant::now();
    let refused = loop {
        let answer = ask(&key);
        if answer.status == 429 || began.elapsed() > SOON {
            break answer;
        }
    };
    assert!(refused.status == 429 && refused.is_problem(), "{}", refused.text);
    assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
    assert!(refused.text.contains("4 requests of this agent"), "{}", refused.text);
    // A share is an agent's, whatever it shows.
    assert_eq!(ask(&again).status, 429);
    assert_eq!(ask(&other).status, 200);
    // What it has under way it can look at, and take back: that may be its own calls.
    let call = format!("c_{}", "a".repeat(26));
    let get = |path: &str| {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            served.address
        );
        served.raw(format!("{head}{}\r\n", bearer(&key)).as_bytes()).status
    };
    assert_eq!(get(&format!("/v1/calls/{call}")), 404);
    assert_eq!(
        served
            .post_to(&format!("/v1/calls/{call}/cancel"), &bearer(&key), "")
            .status,
        404
    );
    assert_eq!(get("/v1/tools"), 429);
    let cancelled = json!({ "requestId": 7 });
    let cancelled = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled });
    assert_eq!(served.post(&key, &cancelled.to_string()).status, 202);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "tests", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": { "extensions": { "io.modelcontextprotocol/tasks": {} } },
    });
    for (method, full) in [("tasks/get", false), ("tasks/cancel", false), ("tasks/update", true)] {
        let params = json!({ "taskId": call, "inputResponses": {}, "_meta": meta });
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let more = format!(
            "{}MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\nMcp-Name: {call}\r\n",
            bearer(&key)
        );
        let answer = served.post_to("/mcp", &more, &message.to_string());
        assert_eq!(answer.status == 429, full, "{method}: {}", answer.text);
    }
    // Not by what says that it is long, and not without end.
    let mut long = client(&served);
    long.write_all(head(&served, &key, 1 << 20).as_bytes()).unwrap();
    let mut start = [0; 12];
    long.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 429");
    drop(busy);
    let began = Instant::now();
    while ask(&key).status != 200 {
        assert!(began.elapsed() < SOON, "what is over counts");
    }
    assert!(served.ends()[&Why::Share] >= 2);
}

#[test]
fn a_huge_body_is_refused_before_it_is_read() {
    let served = served("", PATIENCE);
    let (key, _) = served.place.key(|_| {});
    const HUGE: usize = 100 << 20;
    // Nothing of it was sent.
    let mut said = client(&served);
    said.write_all(head(&served, &key, HUGE).as_bytes()).unwrap();
    let mut start = [0; 12];
    said.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
    // All of it is sent, by a client that reads its answer only then.
    let too_large = |answer: &Answer| answer.status == 413 && answer.is_problem();
    let send = |head: &str, piece: &[u8]| {
        let mut client = client(&served);
        client.write_all(head.as_bytes()).unwrap();
        let mut sent = 0;
        while sent < HUGE && client.write_all(piece).is_ok() {
            sent += piece.len();
        }
        (Served::answer(&mut client), sent)
    };
    let piece = vec![b' '; 1 << 16];
    let (answer, sent) = send(&head(&served, &key, HUGE), &piece);
    assert!(too_large(&answer), "{}", answer.text);
    assert!(sent < HUGE / 2, "{sent} bytes were taken");
    // Nor is what does not say how large it is.
    let chunked = head(&served, &key, 0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
    chunk.extend_from_slice(&piece);
    chunk.extend_from_slice(b"\r\n");
    let (answer, sent) = send(&chunked, &chunk);
    assert!(too_large(&answer), "{}", answer.text);
    assert!(sent < HUGE / 2, "{sent} bytes were taken");
    // Of those who are not known nothing is read.
    let (answer, sent) = send(&head(&served, "ambit_x", HUGE), &piece);
    assert_eq!(answer.status, 401);
    assert!(sent < HUGE / 2, "{sent} bytes were taken");
    is_well(&served);
    served.ends();
}

/// Thousands who are not known are refused in a moment, and all that is left of them is a line.
#[test]
fn a_flood_of_strangers_fills_no_ledger() {
    const THREADS: usize = 8;
    const EACH: usize = 250;
    let served = served("", PATIENCE);
    let (real, _) = served.place.key(|_| {});
    let before = served.place.host.reader().unwrap().size().unwrap();
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut client = client(&served);
                for _ in 0..EACH {
                    // Whole, and of nobody: it is looked for.
                    let stranger = ambit_runtime::api_keys::random_key().unwrap();
                    let request = format!(
                        "GET /mcp HTTP/1.1\r\nHost: {}\r\n{}\r\n",
                        served.address,
                        bearer(&stranger.word)
                    );
                    client.write_all(request.as_bytes()).unwrap();
                    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
                    while !text.ends_with(b"}") {
                        let read = client.read(&mut piece).unwrap();
                        assert!(read > 0);
                        text.extend_from_slice(&piece[..read]);
                    }
                    assert!(text.starts_with(b"HTTP/1.1 401"));
                }
            });
        }
        // Whoever is known is served meanwhile.
        assert_eq!(served.post(&real, &initialize("2025-11-25")).status, 200);
    });
    let took = began.elapsed();
    assert!(took < 2 * SOON, "{took:?}");
    assert_eq!(served.place.host.reader().unwrap().size().unwrap(), before);
    let refused = served.ends();
    assert_eq!(refused[&Why::UnknownKey] as usize, THREADS * EACH);
    assert_eq!(refused.len(), 1);
}

#[test]
fn what_is_no_request_gets_its_error_and_ends_nothing() {
    let served = served("", PATIENCE);
    let (key, _) = served.place.key(|_| {});
    let host = format!("Host: {}\r\nConnection: close\r\n", served.address);
    let body = "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: 2\r\n";
    let post = format!("POST /mcp HTTP/1.1\r\n{host}{}{body}", bearer(&key));
    let many: String = (0..80).map(|n| format!("X-{n}: y\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "y".repeat(64 << 10));
    for (request, status) in [
        // Not HTTP, and not as it is written.
        ("\r\n\r\n\0\x01\x02garbage\r\n\r\n".to_owned(), 400),
        ("GET /health\r\n\r\n".to_owned(), 400),
        (format!("GET /health HTTP/9.9\r\n{host}\r\n"), 400),
        (format!("GET /health HTTP/1.1\r\n{host}no colon\r\n\r\n"), 400),
        (format!("GET /health HTTP/1.1\r\n{host}X: a\r\n folded\r\n\r\n"), 400),
        (format!("GET /\u{1}health HTTP/1.1\r\n{host}\r\n"), 400),
        // Too much of it.
        (format!("GET /health HTTP/1.1\r\n{host}{many}\r\n"), 431),
        (format!("GET /health HTTP/1.1\r\n{host}{long}\r\n"), 431),
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n", "y".repeat(70 << 10)), 431),
        // Two lengths, or one and none.
        (format!("{post}Content-Length: 3\r\n\r\n{{}}"), 400),
        (format!("{post}Transfer-Encoding: gzip\r\n\r\n{{}}"), 400),
        (format!("{}\r\n{{}}", post.replace("Length: 2", "Length: -2")), 400),
        // What one reader takes and another does not.
        (format!("{post}Content-Type: text/plain\r\n\r\n{{}}"), 400),
        (
            format!("{post}MCP-Protocol-Version: 2025-11-25\r\nMCP-Protocol-Version: 2025-06-18\r\n\r\n{{}}"),
            400,
        ),
        (
            format!("{post}Mcp-Method: ping\r\nmcp-method: tools/call\r\n\r\n{{}}"),
            400,
        ),
        (format!("{post}{}\r\n{{}}", bearer(&key)), 400),
        // Of another version than any that there is.
        (
            format!("{}\r\n{{}}", post.replace("/json\r\nAccept", "/xml\r\nAccept")),
            400,
        ),
        (format!("{post}MCP-Protocol-Version: 1999-01-01\r\n\r\n{{}}"), 400),
    ] {
        let answer = served.raw(request.as_bytes());
        let short: String = request.chars().take(400).collect();
        assert_eq!(answer.status, status, "{short}\n{}", answer.text);
    }
    // Paths that are one only to whoever undoes them.
    for path in [
        "//mcp",
        "/./mcp",
        "/../mcp",
        "/x/../mcp",
        "/%6dcp",
        "/mcp%00",
        "/mcp;x",
        "/mcp/",
        "/mcp%2f..%2fhealth",
        "/MCP",
        "http://evil.example/mcp",
        "*",
        "/.well-known/../mcp",
        "/.well-known/oauth-protected-resource%2fmcp",
    ] {
        let status = served.get(path, &bearer(&key)).status;
        assert!([404, 421, 400].contains(&status), "{path}: {status}");
    }
    // Methods that nobody asked for.
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "BREW"] {
        let answer = served.raw(format!("{method} /mcp HTTP/1.1\r\n{host}{}\r\n", bearer(&key)).as_bytes());
        assert_eq!(answer.status, 405, "{method}");
    }
    let answer = served.raw(format!("CONNECT {} HTTP/1.1\r\n{host}{}\r\n", served.address, bearer(&key)).as_bytes());
    assert!([400, 404, 405].contains(&answer.status), "{}", answer.status);
    is_well(&served);
    assert!(served.ends()[&Why::Header] >= 4);
}

/// A second request behind the first, for whoever reads the first one's length in another way, is never served.
#[test]
fn nothing_is_smuggled_behind_a_request() {
    let served = served("", PATIENCE);
    let (key, _) = served.place.key(|_| {});
    let inner = format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", served.address);
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    ] {
        let head = head(&served, &key, 0).replace("Content-Length: 0", lengths);
        let mut client = client(&served);
        client.write_all(format!("{head}0\r\n\r\n{inner}").as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let answer = Served::answer(&mut client);
        assert!(!answer.text.contains("\"up\""), "{lengths}: {}", answer.text);
    }
    is_well(&served);
    served.ends();
}

/// Whether the server is ready is asked by whoever likes to, and costs next to nothing.
#[test]
fn many_may_ask_whether_it_is_ready() {
    let served = served("", PATIENCE);
    let began = Instant::now();
    let mut client = client(&served);
    let request = format!("GET /ready HTTP/1.1\r\nHost: {}\r\n\r\n", served.address);
    client.write_all(request.repeat(2_000).as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    drop(client.read_to_string(&mut text));
    assert!(text.matches("\"ready\"").count() >= 1);
    assert!(began.elapsed() < 2 * SOON, "{:?}", began.elapsed());
    is_well(&served);
    served.ends();
}
