//! What agents' programs are configured with: it parses, names a command that there is, and what that starts speaks the protocol.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ambit_tests::home::Home;
use ambit_tests::mcp::Server;
use ambit_tests::peers::{Served, repository};
use serde_json::{Value, json};

use super::text;

/// Where the home stands in a snippet.
const HOME: &str = "/path/to/.ambit";

pub(super) fn every_agents_configuration_starts_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::make(&folder.path().join("home")).unwrap();
    home.configure(
        "[agent.assistant]\nteam = \"support\"\ntenant = \"acme\"\nusers = [\"ada\"]\n[group.reviewer]\nmembers = []\n[server]\n",
    )
    .unwrap();
    let examples = repository("examples/agents");
    let readme = text(&examples.join("README.md"));
    let (mut started, mut elsewhere) = (BTreeSet::new(), Vec::new());
    for entry in fs::read_dir(&examples).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "README.md" {
            continue;
        }
        assert!(
            readme.contains(&format!("]({name})")),
            "the README says nothing of {name}"
        );
        let servers = servers(&path);
        assert!(!servers.is_empty(), "{name}");
        for (server, entry) in servers {
            match entry["command"].as_str() {
                Some(command) => {
                    assert_eq!(command, "ambit", "{name}: {server}");
                    let arguments = arguments(&entry, &name);
                    if started.insert(arguments.clone()) {
                        speaks(&home, &arguments);
                    }
                }
                None => elsewhere.push((format!("{name}: {server}"), entry)),
            }
        }
    }
    assert!(!started.is_empty() && !elsewhere.is_empty());
    for (name, entry) in &elsewhere {
        is_elsewhere(entry, name);
    }
    are_let_in(&home, &elsewhere);
    // The README at the top shows one of them.
    let top = text(&repository("README.md"));
    for arguments in started {
        let arguments: Vec<String> = arguments.iter().map(|argument| format!("\"{argument}\"")).collect();
        assert!(top.contains(&arguments.join(", ")), "{arguments:?}");
    }
}

/// The servers that a file names, whatever it calls them.
fn servers(path: &Path) -> Vec<(String, Value)> {
    let text = text(path);
    let file: Value = match path.extension().and_then(|kind| kind.to_str()) {
        Some("toml") => toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        Some("json") => serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        _ => panic!("{} is of no kind that is known", path.display()),
    };
    let names = ["mcpServers", "servers", "mcp_servers", "context_servers"];
    let servers = names.iter().find_map(|name| file[name].as_object());
    let servers = servers.unwrap_or_else(|| panic!("{} names no servers", path.display()));
    servers
        .iter()
        .map(|(name, entry)| (name.clone(), entry.clone()))
        .collect()
}

fn arguments(entry: &Value, name: &str) -> Vec<String> {
    let arguments = entry["args"].as_array().unwrap_or_else(|| panic!("{name}"));
    let arguments: Vec<String> = arguments.iter().map(|text| text.as_str().unwrap().to_owned()).collect();
    assert_eq!(arguments[..2], ["--home", HOME], "{name}");
    arguments
}

/// That a server so started answers, in a home that is there.
fn speaks(home: &Home, arguments: &[String]) {
    let [_, _, serve, stdio, rest @ ..] = arguments else {
        panic!("{arguments:?}");
    };
    assert_eq!((serve.as_str(), stdio.as_str()), ("serve", "--stdio"));
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let mut server = Server::session(home, &rest, "2025-11-25").unwrap();
    assert!(!server.tools().is_empty());
    assert_eq!(server.close().code, Some(0));
}

/// An address over TLS, and a key that stands in no file unless the agent knows no other way.
fn is_elsewhere(entry: &Value, name: &str) {
    let url = ["url", "httpUrl"].iter().find_map(|member| entry[member].as_str());
    assert_eq!(url, Some("https://ambit.example.com/mcp"), "{name}");
    let key = entry["headers"]["Authorization"].as_str();
    let shown = key.is_some_and(|key| key.starts_with("Bearer ") && !key.contains("ambit_"));
    assert!(shown || entry["bearer_token_env_var"].is_string(), "{name}");
}

/// How each of them writes the key that its user has: the longest first, as one stands in another.
const KEYS: [&str; 5] = [
    "${input:ambit-key}",
    "${env:AMBIT_KEY}",
    "${AMBIT_KEY}",
    "$AMBIT_KEY",
    "KEY",
];

/// What an entry has its program send with each request, where the user's key is this.
fn headers(entry: &Value, name: &str, key: &str) -> Vec<(String, String)> {
    if entry["bearer_token_env_var"] == "AMBIT_KEY" {
        return vec![("Authorization".to_owned(), format!("Bearer {key}"))];
    }
    let headers = entry["headers"].as_object().unwrap_or_else(|| panic!("{name}"));
    let filled = |text: &str| {
        let place = KEYS.into_iter().find(|place| text.contains(place));
        let text = place.map_or_else(|| text.to_owned(), |place| text.replace(place, key));
        assert!(!text.contains(['$', '{']), "{name}: {text}");
        text
    };
    headers
        .iter()
        .map(|(header, text)| (header.clone(), filled(text.as_str().unwrap())))
        .collect()
}

/// That a home served over HTTP takes what each entry has its program send, and nothing without it.
fn are_let_in(home: &Home, entries: &[(String, Value)]) {
    let made = home
        .done(["keys", "create", "--as", "assistant", "--for", "ada"])
        .unwrap();
    let key = made.out.trim();
    let served = Served::start(home, "127.0.0.1:0", &[]).unwrap();
    for (name, entry) in entries {
        let (status, body) = initialized(&served.address, &headers(entry, name, key));
        assert_eq!(status, 200, "{name}: {body}");
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{name}: {error}: {body}"));
        assert_eq!(answer["result"]["serverInfo"]["name"], "ambit", "{name}: {answer:#}");
        let another = initialized(&served.address, &headers(entry, name, &key.replace("ambit_", "ambit-")));
        assert_eq!(another.0, 401, "{name}: {}", another.1);
    }
    assert_eq!(initialized(&served.address, &[]).0, 401);
}

/// How the first request of a client is answered that sends these headers, beside those of the protocol.
fn initialized(address: &str, headers: &[(String, String)]) -> (u16, String) {
    use std::io::{Read as _, Write as _};
    let params = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "tests", "version": "1" },
    });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }).to_string();
    let own: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(20)))
        .unwrap();
    write!(
        stream,
        "POST /mcp HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n{own}\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
