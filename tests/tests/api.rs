//! The HTTP API as programs elsewhere have it: with tools that run, people who sign, and a server that ends and starts again.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use ambit_core::hold::{Verdict, Vote};
use ambit_core::ledger::{Body, Entry};
use ambit_runtime::approvals::read_person_key;
use ambit_runtime::store::Reader;
use serde_json::{Value, json};

use super::http::{Scene, Server, ends_at_once, runs, wait_until};
use super::mcp;
use super::traps::Test;

macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((concat!("api_", stringify!($name)), $name)),*] };
}

pub(crate) const TESTS: &[Test] = tests![
    a_call_is_made_once_also_after_a_restart,
    a_call_goes_on_without_its_client_and_is_taken_back,
    what_is_taken_back_ends_at_once,
    tenants_and_keys_see_their_own,
    a_refund_waits_for_a_person_who_signs_elsewhere,
    what_is_asked_for_at_once_is_made_once,
];

const OPERATORS: &str = "[server.operators]\n";

/// What is answered.
struct Answer {
    status: u16,
    head: String,
    body: Value,
}

fn send(server: &Server, key: &str, method: &str, target: &str, more: &str, body: &str) -> TcpStream {
    let host = &server.address;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nAuthorization: Bearer {key}\r\n{more}\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> Answer {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {text}"));
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: serde_json::from_str(body).unwrap_or(Value::Null),
    }
}

fn get(server: &Server, key: &str, target: &str) -> Answer {
    answer(send(server, key, "GET", target, "", ""))
}

fn post(server: &Server, key: &str, target: &str, more: &str, body: &Value) -> Answer {
    answer(send(server, key, "POST", target, more, &body.to_string()))
}

fn wild(case: &str) -> Value {
    json!({ "tool": "wild", "function": "try", "arguments": { "case": case } })
}

fn id(answer: &Answer) -> String {
    answer.body["call"]
        .as_str()
        .unwrap_or_else(|| panic!("no call: {:#}", answer.body))
        .to_owned()
}

fn a_call_is_made_once_also_after_a_restart() {
    let scene = Scene::new();
    let key = scene.key(&["--as", "assistant", "--for", "ada"]);
    let server = Server::start(&scene);
    let word = "Idempotency-Key: 8f14e45f\r\n";
    let first = post(&server, &key, "/v1/calls", word, &wild("fine"));
    assert_eq!(
        (first.status, &first.body["status"]),
        (200, &json!("ok")),
        "{:#}",
        first.body
    );
    assert!(!first.body["value"].is_null());
    let again = post(&server, &key, "/v1/calls", word, &wild("fine"));
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert!(again.head.contains("idempotency-replayed: true"), "{}", again.head);
    assert_eq!(server.end().0, Some(0));
    let server = Server::start(&scene);
    let after = post(&server, &key, "/v1/calls", word, &wild("fine"));
    assert_eq!((after.status, &after.body), (200, &first.body));
    assert_eq!(post(&server, &key, "/v1/calls", word, &wild("cases")).status, 422);
    // Another key of the same caller is the same caller.
    let other = scene.key(&["--as", "assistant", "--for", "ada"]);
    assert_eq!(id(&post(&server, &other, "/v1/calls", word, &wild("fine"))), id(&first));
    let alone = scene.key(&["--as", "assistant"]);
    assert_ne!(id(&post(&server, &alone, "/v1/calls", word, &wild("fine"))), id(&first));
    assert_eq!(server.end().0, Some(0));
    assert_eq!(scene.stories().len(), 2);
    scene.in_order();
}

fn what_is_asked_for_at_once_is_made_once() {
    let scene = Scene::new();
    let key = scene.key(&["--as", "assistant"]);
    let server = Server::start(&scene);
    let word = "Idempotency-Key: once\r\n";
    let streams: Vec<TcpStream> = (0..6)
        .map(|_| send(&server, &key, "POST", "/v1/calls", word, &wild("fine").to_string()))
        .collect();
    let answers: Vec<Answer> = streams.into_iter().map(answer).collect();
    let first = id(&answers[0]);
    for answer in &answers {
        assert!([200, 202].contains(&answer.status), "{:#}", answer.body);
        assert_eq!(id(answer), first);
    }
    assert_eq!(server.end().0, Some(0));
    assert_eq!(scene.stories().len(), 1);
    scene.in_order();
}

fn a_call_goes_on_without_its_client_and_is_taken_back() {
    let scene = Scene::new();
    let key = scene.key(&["--as", "assistant"]);
    let another = scene.key(&["--as", "assistant"]);
    let server = Server::start(&scene);
    let began = post(&server, &key, "/v1/calls?wait=0", "", &wild("spin"));
    assert_eq!(
        (began.status, &began.body["status"]),
        (202, &json!("running")),
        "{:#}",
        began.body
    );
    let call = id(&began);
    let place = format!("/v1/calls/{call}");
    assert!(began.head.contains(&format!("location: {place}")), "{}", began.head);
    assert_eq!(runs(&scene), 1);
    assert_eq!(get(&server, &key, &format!("{place}/result")).status, 202);
    assert_eq!(get(&server, &key, &format!("{place}/receipt")).status, 409);
    let taken = post(&server, &key, &format!("{place}/cancel"), "", &json!({}));
    assert_eq!(taken.status, 202, "{:#}", taken.body);
    wait_until(|| get(&server, &key, &place).body["status"] != "running");
    let over = get(&server, &key, &format!("{place}/result"));
    assert_eq!(
        (over.status, &over.body["code"]),
        (200, &json!("cancelled")),
        "{:#}",
        over.body
    );
    let receipt = get(&server, &key, over.body["receipt"].as_str().unwrap());
    assert!(
        receipt.status == 200 && receipt.head.contains("etag: "),
        "{}",
        receipt.head
    );
    assert_eq!(
        post(&server, &key, &format!("{place}/cancel"), "", &json!({})).status,
        409
    );
    // One that nobody waits for when the server ends is suspended, and goes on with the next.
    let left = id(&post(&server, &key, "/v1/calls?wait=0", "", &wild("spin")));
    assert_eq!(server.end().0, Some(0));
    let story = scene.stories().into_iter().find(|story| story.call == left).unwrap();
    assert!(story.suspended().is_some(), "{story:?}");
    // It is the host that has it go on then, and no request of its caller's: it is still theirs who showed the same for it.
    let server = Server::start(&scene);
    let place = format!("/v1/calls/{left}");
    wait_until(|| get(&server, &key, &place).body["status"] == "running");
    let cancel = |key: &str| post(&server, key, &format!("{place}/cancel"), "", &json!({})).status;
    assert_eq!((cancel(&another), cancel(&key)), (409, 202));
    wait_until(|| get(&server, &key, &place).body["status"] != "running");
    assert_eq!(
        get(&server, &key, &format!("{place}/result")).body["code"],
        json!("cancelled")
    );
    assert_eq!(server.end().0, Some(0));
    scene.in_order();
}

fn what_is_taken_back_ends_at_once() {
    let scene = Scene::new();
    let key = scene.key(&["--as", "assistant"]);
    let server = Server::start(&scene);
    ends_at_once(
        &scene,
        || id(&post(&server, &key, "/v1/calls?wait=0", "", &wild("spin"))),
        |call| {
            let taken = post(&server, &key, &format!("/v1/calls/{call}/cancel"), "", &json!({}));
            assert_eq!(taken.status, 202, "{:#}", taken.body);
        },
    );
    assert_eq!(server.end().0, Some(0));
    scene.in_order();
}

fn tenants_and_keys_see_their_own() {
    let scene = Scene::with(OPERATORS);
    let (ours, theirs) = (scene.key(&["--as", "assistant"]), scene.key(&["--as", "stranger"]));
    let narrow = scene.key(&["--as", "assistant", "--tool", "echo"]);
    let operator = scene.key(&["--operator", "ivy", "--scope", "read"]);
    let server = Server::start(&scene);
    let tools = |key: &str| -> Vec<String> {
        let listed = get(&server, key, "/v1/tools").body;
        let tools = listed["tools"].as_array().unwrap().iter();
        tools.map(|tool| tool["tool"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(tools(&ours), ["echo", "theirs", "wild"]);
    assert_eq!(tools(&theirs), ["theirs"]);
    assert_eq!(tools(&narrow), ["echo"]);
    let contract = get(&server, &ours, "/v1/tools/wild");
    assert!(contract.status == 200 && contract.body["functions"].as_array().unwrap().len() == 4);
    for key in [&theirs, &narrow] {
        for end in ["", "/page"] {
            assert_eq!(get(&server, key, &format!("/v1/tools/wild{end}")).status, 404);
        }
    }
    // Of what both may call each is told what it can do itself, and nothing of the other.
    for (key, own, others) in [
        (&ours, "acme", ["strangers", "elsewhere"]),
        (&theirs, "other", ["assistant", "\"support\""]),
    ] {
        let contract = get(&server, key, "/v1/tools/theirs").body;
        assert_eq!(contract["for"]["tenant"], own, "{contract:#}");
        assert!(contract["functions"][0]["input_schema"].is_object());
        let told = contract.to_string();
        for none in others.iter().chain(&["principal in"]) {
            assert!(!told.contains(none), "{none}: {contract:#}");
        }
    }
    let whole = get(&server, &operator, "/v1/operators/contracts/theirs?for=stranger").body;
    assert!(
        whole["rules"][0]["text"].as_str().unwrap().contains("principal in"),
        "{whole:#}"
    );
    let call = id(&post(&server, &ours, "/v1/calls", "", &wild("fine")));
    for end in ["", "/result", "/receipt"] {
        let target = format!("/v1/calls/{call}{end}");
        assert_eq!(get(&server, &ours, &target).status, 200, "{end}");
        for key in [&theirs, &narrow] {
            assert_eq!(get(&server, key, &target).status, 404, "{end}");
        }
        assert_eq!(get(&server, &operator, &target).status, 401, "{end}");
    }
    // What is refused is refused as any call is, on the ledger.
    let refused = post(&server, &theirs, "/v1/calls", "", &wild("fine"));
    assert_eq!((refused.status, &refused.body["status"]), (200, &json!("refused")));
    let seen = get(&server, &operator, "/v1/operators/calls?outcome=denied");
    assert_eq!(seen.body["calls"][0]["agent"], "stranger", "{:#}", seen.body);
    assert_eq!(get(&server, &ours, "/v1/operators/calls").status, 401);
    // One that is revoked is good for nothing from then on.
    let listed = scene.home.done(["keys", "list", "--format", "json"]).unwrap();
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    let keys = listed.as_array().unwrap();
    let of_ivy = keys.iter().find(|key| key["operator"]["name"] == "ivy").unwrap();
    scene
        .home
        .done(["keys", "revoke", of_ivy["id"].as_str().unwrap()])
        .unwrap();
    assert_eq!(get(&server, &operator, "/v1/operators/calls").status, 401);
    assert_eq!(server.end().0, Some(0));
    assert!(scene.home.files_with(&[operator, ours]).unwrap().is_empty());
    scene.in_order();
}

fn a_refund_waits_for_a_person_who_signs_elsewhere() {
    let scene = mcp::Scene::with(&[("pay", "stripe")]);
    let home = &scene.home;
    let path = home.folder().join("ambit.toml");
    let configuration = std::fs::read_to_string(&path).unwrap();
    let stranger = "[agent.stranger]\nteam = \"elsewhere\"\ntenant = \"other\"\n";
    home.configure(&format!("{stranger}{configuration}\n[server]\n[server.operators]\n"))
        .unwrap();
    let rita = read_person_key(Path::new(&scene.enrol_rita())).unwrap();
    let key = |arguments: &[&str]| {
        home.done(["keys", "create"].iter().chain(arguments))
            .unwrap()
            .out
            .trim()
            .to_owned()
    };
    let agent = key(&["--as", "assistant", "--for", "ada"]);
    let operator = key(&[
        "--operator",
        "ivy",
        "--scope",
        "read",
        "--scope",
        "values",
        "--scope",
        "operate",
    ]);
    let courier = key(&["--operator", "bo", "--scope", "approve"]);
    let server = Server::of(home);
    let refund = json!({
        "tool": "pay", "function": "refunds.create",
        "arguments": { "charge": "ch_laptop", "amount": 9000 },
    });
    let word = "Idempotency-Key: refund-1\r\n";
    let held = post(&server, &agent, "/v1/calls", word, &refund);
    assert_eq!(
        (held.status, &held.body["status"]),
        (202, &json!("held")),
        "{:#}",
        held.body
    );
    let (call, hold) = (id(&held), held.body["hold"].as_str().unwrap().to_owned());
    let own = get(&server, &agent, "/v1/holds").body;
    assert_eq!(own["holds"][0]["hold"], json!(hold), "{own:#}");
    assert!(own["holds"][0].get("votes").is_none());
    assert_eq!(
        held.body["people_see_it_at"],
        json!(format!(
            "/v1/operators/approvals/{}",
            hold.trim_start_matches("sha256:")
        ))
    );
    // Nobody else sees that it waits: not the same agent for nobody, and no other.
    for other in [
        key(&["--as", "assistant"]),
        key(&["--as", "clerk"]),
        key(&["--as", "stranger"]),
    ] {
        assert_eq!(get(&server, &other, "/v1/holds").body["holds"], json!([]));
        assert_eq!(get(&server, &other, &format!("/v1/calls/{call}")).status, 404);
    }
    let waiting = get(&server, &operator, "/v1/operators/approvals").body;
    assert_eq!(waiting["approvals"][0]["call"], json!(call), "{waiting:#}");
    let shown = get(&server, &operator, &format!("/v1/operators/approvals/{hold}")).body;
    assert!(shown["sends"].to_string().contains("9000"), "{shown:#}");
    assert_eq!(scene.requests(), 0);
    // Rita signs where her key is; whoever carries it decides nothing.
    let sign = |person: &str, group: &str| {
        let vote = Vote {
            person: person.to_owned(),
            hold: hold.parse().unwrap(),
            verdict: Verdict::Approve,
            group: group.to_owned(),
            expires_ms: u64::try_from(ambit_runtime::host::now_ms()).unwrap() + 600_000,
            in_stead_of: None,
        };
        vote.sign(&rita).unwrap()
    };
    let votes = format!("/v1/operators/approvals/{hold}/votes");
    let cast = |key: &str, note: String| post(&server, key, &votes, "", &json!({ "note": note }));
    for key in [&agent, &operator] {
        assert!([401, 403].contains(&cast(key, sign("rita", "finance")).status));
    }
    assert_eq!(cast(&courier, sign("rita", "reviewer")).status, 409);
    let counted = cast(&courier, sign("rita", "finance"));
    assert_eq!(
        (counted.status, &counted.body["decided"]),
        (200, &json!(true)),
        "{:#}",
        counted.body
    );
    let resume = format!("/v1/operators/calls/{call}/resume");
    assert_eq!(post(&server, &courier, &resume, "", &json!({})).status, 403);
    let resumed = post(&server, &operator, &resume, "", &json!({}));
    assert_eq!(
        (resumed.status, &resumed.body["outcome"]),
        (200, &json!("ok")),
        "{:#}",
        resumed.body
    );
    assert_eq!(scene.requests(), 1);
    // Its caller asks again with the same word, and has what came of it.
    let after = post(&server, &agent, "/v1/calls", word, &refund);
    assert_eq!(
        (after.status, id(&after), &after.body["value"]["amount"]),
        (200, call, &json!(9000)),
        "{:#}",
        after.body
    );
    let found = get(
        &server,
        &operator,
        "/v1/operators/search?connection=stripe&decision=held",
    )
    .body;
    assert_eq!(found["found"].as_array().unwrap().len(), 1, "{found:#}");
    assert_eq!(server.end().0, Some(0));
    let reader = Reader::open(home.folder()).unwrap();
    let entries = reader.entries(0, 1_000).unwrap();
    // Who carried the vote is there, beside whose it is.
    let carried = |entry: &Entry| match entry.body() {
        Body::HoldVoted(voted) => voted.by.as_ref().is_some_and(|by| by.name == "bo"),
        _ => false,
    };
    assert!(entries.iter().any(carried));
    drop(reader);
    scene.in_order();
}
