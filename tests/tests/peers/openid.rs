//! An OpenID provider of other people's making says who an agent is: what it signed is taken, and what a forger makes of it is not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use ambit_tests::peers::{Node, Served, Talker, finished, free_address, node};
use serde_json::{Value, json};

use super::{Scene, out, peer};

/// Between two fetches of an issuer's keys: a host does not press its issuer, whatever names of keys come.
const BETWEEN_FETCHES: Duration = Duration::from_secs(31);

/// A provider, a home that takes its tokens, and the host that serves it.
struct World {
    scene: Scene,
    provider: Talker,
    issuer: String,
    served: Served,
}

impl World {
    fn new(node: &Node) -> Self {
        let place = tempfile::tempdir().unwrap();
        let provider = Talker::start(&mut node.script(place.path(), &peer("openid.mjs")).unwrap()).unwrap();
        let told: Value = serde_json::from_str(&provider.hear()).unwrap();
        let issuer = told["issuer"].as_str().unwrap().to_owned();
        let address = free_address().unwrap();
        let scene = Scene::with(&format!(
            "[server]\nresource = \"http://{address}/mcp\"\n\
             [server.issuer.local]\nissuer = \"{issuer}\"\nallow_private = true\nleeway = \"1s\"\nrequired_scopes = [\"charges\"]\n\
             agents = {{ \"client-7f3\" = \"assistant\" }}\nclaims = {{ agent = \"client_id\", scopes = \"scope\" }}\n\
             scopes = {{ charges = [\"stripe/charges.get\"], refunds = [\"stripe/refunds.create\"] }}\n"
        ));
        let served = Served::start(&scene.home, &address, &[]).unwrap();
        assert_eq!(served.address, address);
        Self {
            scene,
            provider,
            issuer,
            served,
        }
    }

    /// A token of the provider's for this host.
    fn token(&mut self, scope: &str) -> String {
        let resource = self.served.url();
        self.issued(&json!({ "client": "client-7f3", "scope": scope, "resource": resource }))
    }

    fn issued(&mut self, asked: &Value) -> String {
        self.told("issue", "do", asked)
    }

    /// What a forger makes, who knows all but the keys; or knows them too, where what is said is what is wrong.
    fn forged(&mut self, how: &str, more: &Value) -> String {
        let mut asked = json!({ "client": "client-7f3", "scope": "charges refunds", "resource": self.served.url() });
        let members = asked.as_object_mut().unwrap();
        members.insert("do".to_owned(), json!("forge"));
        members.extend(more.as_object().unwrap().clone());
        self.told(how, "how", &asked)
    }

    fn told(&mut self, word: &str, name: &str, asked: &Value) -> String {
        let mut asked = asked.clone();
        asked[name] = json!(word);
        let told = self.provider.ask(&asked);
        told["token"]
            .as_str()
            .unwrap_or_else(|| panic!("{word}: {told}"))
            .to_owned()
    }

    fn ask(&self, token: &str, method: &str, params: Value) -> Answer {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let authorization = format!("Authorization: Bearer {token}\r\n");
        let more = if token.is_empty() { "" } else { authorization.as_str() };
        post(&self.served.address, more, &message).unwrap()
    }

    fn list(&self, token: &str) -> Answer {
        self.ask(token, "tools/list", json!({}))
    }

    fn call(&self, token: &str, name: &str, arguments: Value) -> Answer {
        self.ask(token, "tools/call", json!({ "name": name, "arguments": arguments }))
    }

    /// Where clients are told to look for what they need.
    fn metadata(&self) -> String {
        format!(
            "http://{}/.well-known/oauth-protected-resource/mcp",
            self.served.address
        )
    }

    /// That a token is not taken, and its bearer told to get another.
    #[track_caller]
    fn refuses(&self, what: &str, token: &str) {
        let answer = self.list(token);
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        let start = format!(
            "Bearer resource_metadata=\"{}\", error=\"invalid_token\"",
            self.metadata()
        );
        assert!(answer.challenge.starts_with(&start), "{what}: {answer:?}");
        assert!(answer.body["result"].is_null(), "{what}: {answer:?}");
    }

    #[track_caller]
    fn takes(&self, what: &str, token: &str) {
        let answer = self.list(token);
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    /// `WWW-Authenticate`, or nothing.
    challenge: String,
    body: Value,
}

/// A request in plain bytes.
fn post(address: &str, more: &str, message: &Value) -> std::io::Result<Answer> {
    let body = message.to_string();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\nContent-Length: {}\r\n{more}\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(read(&text))
}

fn get(url: &str) -> Answer {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    read(&text)
}

fn read(text: &str) -> Answer {
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {text}"));
    let challenge = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("www-authenticate").then(|| value.to_owned())
    });
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        challenge: challenge.unwrap_or_default(),
        body: serde_json::from_str(body).unwrap_or_default(),
    }
}

pub(super) fn an_openid_provider_says_who_an_agent_is() {
    let Some(node) = node("peers_an_openid_provider_says_who_an_agent_is") else {
        return;
    };
    let mut world = World::new(&node);
    who_shows_nothing_is_told_where_to_go(&world);
    let first = world.token("charges");
    // Keys are fetched for the first token, and not again for a time.
    let fetched = Instant::now();
    world.takes("a token of the provider's", &first);
    a_call_steps_up(&mut world, &first);
    what_is_for_others_or_over_is_not_taken(&mut world);
    what_is_forged_is_not_taken(&mut world);
    what_is_huge_or_deep_is_not_taken(&mut world);
    world.takes("a good token after all that", &first);
    keys_change(&mut world, &first, fetched);
    let World { scene, served, .. } = world;
    drop(served);
    assert!(
        scene.home.files_with(&[first]).unwrap().is_empty(),
        "a token is nowhere"
    );
    scene.in_order();
}

fn who_shows_nothing_is_told_where_to_go(world: &World) {
    let answer = world.list("");
    assert_eq!(answer.status, 401, "{answer:?}");
    let challenge = format!("Bearer resource_metadata=\"{}\", scope=\"charges\"", world.metadata());
    assert_eq!(answer.challenge, challenge);
    let document = get(&world.metadata());
    assert_eq!(document.status, 200, "{document:?}");
    assert_eq!(document.body["resource"], world.served.url());
    assert_eq!(document.body["authorization_servers"], json!([world.issuer]));
    assert_eq!(document.body["scopes_supported"], json!(["charges", "refunds"]));
}

/// A token with one scope reads; for more its bearer is told which scopes to ask for, and with those it is done.
fn a_call_steps_up(world: &mut World, token: &str) {
    let read = world.call(token, "stripe_charges_get", json!({ "id": "ch_shoes" }));
    assert_eq!(read.body["result"]["structuredContent"]["amount"], 12_000, "{read:?}");
    let before = world.scene.requests().len();
    let refund = json!({ "charge": "ch_shoes", "amount": 1000 });
    let refused = world.call(token, "stripe_refunds_create", refund.clone());
    assert_eq!(refused.status, 403, "{refused:?}");
    for part in [
        "error=\"insufficient_scope\"",
        "scope=\"charges refunds\"",
        &format!("resource_metadata=\"{}\"", world.metadata()),
    ] {
        assert!(refused.challenge.contains(part), "{part}: {refused:?}");
    }
    assert_eq!(world.scene.requests().len(), before, "nothing was asked of the service");
    let more = world.token("charges refunds");
    let made = world.call(&more, "stripe_refunds_create", refund);
    assert_eq!(made.body["result"]["structuredContent"]["amount"], 1000, "{made:?}");
    assert_eq!(world.scene.refunds(), 1);
    // Without the scope that each token must have its bearer gets nowhere.
    let other = world.token("other");
    let refused = world.list(&other);
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(
        refused.challenge.contains("error=\"insufficient_scope\""),
        "{refused:?}"
    );
}

fn what_is_for_others_or_over_is_not_taken(world: &mut World) {
    let elsewhere = world.issued(&json!({
        "client": "client-7f3", "scope": "charges refunds", "resource": "http://127.0.0.1:9/mcp",
    }));
    world.refuses("for another resource", &elsewhere);
    let resource = world.served.url();
    let stranger = world.issued(&json!({ "client": "client-unknown", "scope": "charges", "resource": resource }));
    let answer = world.list(&stranger);
    assert_eq!(answer.status, 403, "known to its issuer, and not here: {answer:?}");
    let brief = world.issued(&json!({
        "client": "client-7f3", "scope": "charges refunds", "resource": resource, "seconds": 1,
    }));
    thread::sleep(Duration::from_millis(3_200));
    world.refuses("over", &brief);
    let forged = world.forged("good", &json!({}));
    world.takes("what is signed with the provider's key", &forged);
    for (what, more) in [
        ("without an end", json!({ "exp": null })),
        ("not good yet", json!({ "nbf": 4_000_000_000_u64 })),
        ("good for years", json!({ "exp": 4_000_000_000_u64 })),
        ("of another issuer", json!({ "iss": "http://127.0.0.1:9" })),
        ("for nobody", json!({ "aud": [] })),
        (
            "bound to a key",
            json!({ "cnf": { "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" } }),
        ),
    ] {
        let token = world.forged("good", &json!({ "more": more }));
        world.refuses(what, &token);
    }
}

fn what_is_forged_is_not_taken(world: &mut World) {
    for how in [
        "none",
        "none-by-name",
        "confused-pem",
        "confused-jwk",
        "unknown-key",
        "another-key",
    ] {
        let token = world.forged(how, &json!({}));
        world.refuses(how, &token);
    }
    let good = world.forged("good", &json!({}));
    let (signed, _) = good.rsplit_once('.').unwrap();
    world.refuses("without a signature", &format!("{signed}."));
}

fn what_is_huge_or_deep_is_not_taken(world: &mut World) {
    for bytes in [8_000, 20_000] {
        let token = world.forged("huge", &json!({ "bytes": bytes }));
        world.refuses("longer than tokens are", &token);
    }
    for levels in [20, 500, 2_500] {
        let token = world.forged("deep", &json!({ "levels": levels }));
        world.refuses("deeper than tokens are", &token);
    }
    // A head of a request that is larger than heads are is not read to its end, and its connection closed.
    for bytes in [40 << 10, 1 << 20] {
        let token = world.forged("huge", &json!({ "bytes": bytes }));
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
        let authorization = format!("Authorization: Bearer {token}\r\n");
        if let Ok(answer) = post(&world.served.address, &authorization, &message) {
            assert_eq!(answer.status, 431, "{answer:?}");
        }
        assert_eq!(get(&format!("http://{}/ready", world.served.address)).status, 200);
    }
}

/// The provider has other keys from one moment to the next: its new tokens are taken once keys may be fetched again, and the old ones no
/// more from then on.
fn keys_change(world: &mut World, old: &str, fetched: Instant) {
    let told = world.provider.ask(&json!({ "do": "rotate" }));
    assert_eq!(told["kids"].as_array().map(Vec::len), Some(2), "{told}");
    let new = world.token("charges");
    world.takes("what was signed with the keys that are known", old);
    thread::sleep(BETWEEN_FETCHES.saturating_sub(fetched.elapsed()));
    world.takes("what is signed with a new key", &new);
    world.refuses("what was signed with a key that is gone", old);
}

/// The official TypeScript client with a client's secret and nothing else: it is refused, finds the issuer by what it is told, gets a
/// token, calls, is told to get more, and does.
pub(super) fn the_official_client_finds_its_issuer_and_steps_up() {
    let Some(node) = node("peers_the_official_client_finds_its_issuer_and_steps_up") else {
        return;
    };
    let world = World::new(&node);
    let place = world.scene.place("client");
    for era in ["legacy", "auto"] {
        let mut client = node.script(&place, &peer("official.mjs")).unwrap();
        client.args([
            era,
            &world.served.url(),
            &world.issuer,
            "client-7f3",
            "secret-of-client-7f3",
        ]);
        let told: Value = serde_json::from_str(&out(&finished(&mut client).unwrap())).unwrap();
        assert_eq!(told["amount"], 12_000, "{told}");
        assert_eq!(told["refunded"], 500, "{told}");
        assert_eq!(told["scopes"], json!(["charges", "charges refunds"]), "{told}");
    }
    assert_eq!(world.scene.refunds(), 2);
    world.scene.in_order();
}
