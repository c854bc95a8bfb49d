//! `ambit serve` with TLS, as workloads elsewhere have it: each by the certificate that it shows, or by its key.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::ledger::body::ShownBy;
use ambit_core::ledger::story::Opening;
use ambit_tests::certificates::{Authority, CONFIGURATION, ID};
use rcgen::KeyPair;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};

use super::http::{Scene, Server, wait_until};
use super::traps::Test;

macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((concat!("tls_", stringify!($name)), $name)),*] };
}

pub(crate) const TESTS: &[Test] = tests![a_workload_calls_a_tool_until_its_authority_is_taken_out];

/// What is answered over a connection of its own; nothing where there is no handshake.
fn ask(server: &Server, client: &Arc<ClientConfig>, more: &str, method: &str, params: &Value) -> Option<(u16, Value)> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\
         MCP-Protocol-Version: 2025-11-25\r\n{more}\r\n",
        server.address,
        body.len()
    );
    let socket = TcpStream::connect(&server.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(client), name).unwrap(), socket);
    stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((
        status,
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}")),
    ))
}

fn a_workload_calls_a_tool_until_its_authority_is_taken_out() {
    let (own, prod) = (Authority::new(), Authority::new());
    let scene = Scene::furnished(CONFIGURATION, |home| {
        own.server(KeyPair::generate().unwrap()).put(home);
        prod.put(home);
    });
    let key = scene.key(&["--as", "stranger"]);
    let mut server = Server::start(&scene);
    assert_eq!(server.scheme, "https");
    let (shows, silent) = (own.client(Some(&prod.workload())), own.client(None));
    let none = json!({});
    let (status, listed) = ask(&server, &shows, "", "tools/list", &none).unwrap();
    let names = listed["result"]["tools"].to_string();
    assert!(status == 200 && names.contains("wild_try"), "{listed:#}");
    let fine = json!({ "name": "wild_try", "arguments": { "case": "fine" } });
    let (status, called) = ask(&server, &shows, "", "tools/call", &fine).unwrap();
    assert_eq!(
        (status, &called["result"]["isError"]),
        (200, &json!(false)),
        "{called:#}"
    );
    // Who shows a key is whom that one is of, with a certificate and without; who shows nothing is nobody.
    let bearer = format!("Authorization: Bearer {key}\r\n");
    for client in [&shows, &silent] {
        let (status, listed) = ask(&server, client, &bearer, "tools/list", &none).unwrap();
        let names = listed["result"]["tools"].to_string();
        assert!(
            status == 200 && !names.contains("wild_try") && names.contains("theirs"),
            "{listed:#}"
        );
    }
    assert_eq!(ask(&server, &silent, "", "tools/list", &none).unwrap().0, 401);
    // Another authority takes the place of the one that signed it.
    let newer = Authority::new();
    newer.put(scene.home.folder());
    server.signal("-HUP");
    wait_until(|| ask(&server, &shows, "", "tools/list", &none).is_none());
    let next = own.client(Some(&newer.workload()));
    assert_eq!(ask(&server, &next, "", "tools/list", &none).unwrap().0, 200);
    assert_eq!(server.end().0, Some(0));
    let stories = scene.stories();
    let [story] = stories.as_slice() else {
        panic!("{stories:?}")
    };
    let Opening::Accepted(accepted) = &story.opening.what else {
        panic!("{story:?}")
    };
    assert!(
        matches!(&accepted.by, Some(ShownBy::Certificate(by)) if by.id.as_str() == ID),
        "{:?}",
        accepted.by
    );
    scene.in_order();
}
