//! Tokens that are asked for, and signatures, in whole calls: against a service that gives tokens out, takes and verifies them, and against
//! one that does what it should not.

use std::collections::{BTreeSet, VecDeque};

use ambit_core::credential::ROUTE;
use ambit_core::flow::Standing;
use ambit_core::ledger::body::{Cause, Outcome as Became};
use ambit_core::ledger::story::EffectStory;
use ambit_core::stop::{Kind, Stop};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::api_keys::{key, revoke};
use super::doubts::more;
use super::flow::say;
use super::recovery::{failing, replays};
use super::*;
use crate::flow::Flow;

const CLIENT_SECRET: &str = "client/secret+of=ours";

/// One request: its head as it came, and its body.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    head: String,
    pub(super) body: String,
}

impl Asked {
    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn form(&self) -> BTreeMap<String, String> {
        let decoded = |text: &str| {
            let mut bytes = Vec::new();
            let mut rest = text.as_bytes();
            while let Some((first, tail)) = rest.split_first() {
                if *first == b'%' {
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&tail[..2]).unwrap(), 16).unwrap());
                    rest = &tail[2..];
                } else {
                    bytes.push(*first);
                    rest = tail;
                }
            }
            String::from_utf8(bytes).unwrap()
        };
        let pairs = self.body.split('&').map(|pair| pair.split_once('=').unwrap());
        pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
    }
}

#[derive(Default)]
struct Seen {
    tokens: Vec<Asked>,
    things: Vec<Asked>,
    issued: Vec<String>,
    taken_back: BTreeSet<String>,
    /// What the next requests for tokens are answered with, word for word.
    script: VecDeque<String>,
    lifetime: u64,
    /// What takes the place of `x` in the answers about things.
    id: Option<String>,
}

/// A service that gives out tokens at `/oauth/token`, and takes them everywhere else.
struct Bank {
    service: Service,
    seen: Arc<Mutex<Seen>>,
}

impl Bank {
    fn start() -> Self {
        let seen = Arc::new(Mutex::new(Seen {
            lifetime: 300,
            ..Seen::default()
        }));
        let shared = Arc::clone(&seen);
        let service = Service::that(move |mut stream, count| {
            let Some(asked) = take(&mut stream) else { return };
            count.fetch_add(1, Ordering::SeqCst);
            let answer = shared.lock().answer(asked);
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.shutdown(Shutdown::Write);
        });
        Self { service, seen }
    }

    fn tokens(&self) -> Vec<Asked> {
        self.seen.lock().tokens.clone()
    }

    fn things(&self) -> Vec<Asked> {
        self.seen.lock().things.clone()
    }

    fn will(&self, answer: String) {
        self.seen.lock().script.push_back(answer);
    }

    /// Takes the newest token back.
    fn takes_back(&self) {
        let mut seen = self.seen.lock();
        let last = seen.issued.last().unwrap().clone();
        seen.taken_back.insert(last);
    }
}

pub(super) fn take(stream: &mut TcpStream) -> Option<Asked> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if !stream.read(&mut byte).is_ok_and(|read| read == 1) {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    Some(Asked { head, body })
}

pub(super) fn http(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

impl Seen {
    fn answer(&mut self, asked: Asked) -> String {
        if asked.line().starts_with("POST /oauth/token ") {
            self.tokens.push(asked.clone());
            if let Some(answer) = self.script.pop_front() {
                return answer;
            }
            let number = self.issued.len();
            let token = format!("tok_{number}_{}/+x=", "a".repeat(20));
            self.issued.push(token.clone());
            let kind = if asked.form()["grant_type"].ends_with("token-exchange") {
                r#""issued_token_type":"urn:ietf:params:oauth:token-type:access_token","#
            } else {
                ""
            };
            let body = format!(
                r#"{{"access_token":"{token}",{kind}"token_type":"Bearer","expires_in":{}}}"#,
                self.lifetime
            );
            return http("200 OK", "Cache-Control: no-store\r\n", &body);
        }
        self.things.push(asked.clone());
        let shown = asked
            .header("authorization")
            .and_then(|value| value.strip_prefix("Bearer "));
        let good = shown
            .is_some_and(|token| self.issued.iter().any(|known| known == token) && !self.taken_back.contains(token));
        if !good && !self.issued.is_empty() {
            return http("401 Unauthorized", "WWW-Authenticate: Bearer\r\n", r#"{"id":"no"}"#);
        }
        let id = self.id.as_deref().unwrap_or("x");
        http("200 OK", "", &format!(r#"{{"id":"{id}"}}"#))
    }
}

/// The connection's `credential`, for tokens of this service.
fn oauth2(bank: &Bank) -> String {
    format!(
        r#"credential = {{ oauth2 = {{ token_url = "http://127.0.0.1:{}/oauth/token", client_id = "am:bit", client_secret = {{ file = "client" }}, scopes = ["base"], audience = "things" }} }}"#,
        bank.service.port
    )
}

fn exchange(bank: &Bank) -> String {
    format!(
        r#"credential = {{ exchange = {{ token_url = "http://127.0.0.1:{}/oauth/token", issuer = "https://ambit.example", key = "assertion.pem" }} }}"#,
        bank.service.port
    )
}

const GET: &str = r#"scopes = ["things:read"]"#;
const POST: &str = r#"scopes = ["things:write"]"#;

fn home_of(folder: &Path, bank: &Bank, connection: &str, get: &str, change: &str) {
    home(folder, &bank.service, "");
    std::fs::write(folder.join("client"), CLIENT_SECRET).unwrap();
    say(folder, connection, get, change);
}

/// What became of the requests for tokens of a call: their answers' status.
fn asked_in(host: &Host, call: &str) -> Vec<Option<u16>> {
    let story = host.reader().unwrap().story(call).unwrap();
    let of_tokens = story.effects.values().filter_map(|effect| match effect {
        EffectStory::Intended { intent, outcome, .. } if intent.what.route == ROUTE => {
            assert_eq!(intent.what.cause, Cause::Host);
            let status = outcome.as_ref().and_then(|outcome| match &outcome.what.outcome {
                Became::Answered(answered) => Some(answered.status),
                _ => None,
            });
            Some(status)
        }
        _ => None,
    });
    of_tokens.collect()
}

fn codes(answer: &Answer) -> Vec<Code> {
    answer.refused_effects.iter().map(|refusal| refusal.code).collect()
}

/// Nothing that the home keeps has any of these in it: no entry, no value, no row.
fn nothing_has(folder: &Path, secrets: &[String]) {
    let keys = Keys::load(folder).unwrap();
    let reader = Reader::open(folder).unwrap().with_keys(&keys);
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let mut calls = BTreeSet::new();
    for entry in reader.entries(0, 10_000).unwrap() {
        kept.push(entry.bytes().to_vec());
        calls.extend(entry.call().map(str::to_owned));
    }
    let mut values = 0;
    for call in calls {
        for ordinal in 0..20 {
            for name in ["asked", "request", "answer", "refused", "held"] {
                let value = reader.payload(&call, &format!("effect/{ordinal}/{name}")).unwrap();
                values += usize::from(value.is_some());
                kept.extend(value.map(|value| value.bytes().to_vec()));
            }
        }
    }
    assert!(values > 3, "{values} values");
    for secret in secrets {
        let encoded = BASE64.encode(secret.as_bytes());
        for text in [secret.as_str(), encoded.trim_end_matches('=')] {
            let found = kept
                .iter()
                .find(|bytes| memchr::memmem::find(bytes, text.as_bytes()).is_some());
            assert!(found.is_none(), "{text}: {}", String::from_utf8_lossy(found.unwrap()));
        }
    }
}

#[test]
fn a_token_is_asked_for_with_what_the_route_needs_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start();
    home_of(folder.path(), &bank, &oauth2(&bank), GET, POST);
    let host = open(folder.path()).unwrap();
    let call = |function| {
        let answer = host.call(request(function)).unwrap();
        assert!(codes(&answer).is_empty(), "{answer:?}");
        asked_in(&host, answer.call.as_str())
    };
    assert_eq!(call("twice"), [Some(200)]);
    assert_eq!(call("get"), []);
    assert_eq!(call("both"), [Some(200)], "another route's scopes");
    let alone = CallRequest {
        user: None,
        ..request("get")
    };
    let answer = host.call(alone).unwrap();
    assert_eq!(asked_in(&host, answer.call.as_str()), [Some(200)], "another caller");
    let tokens = bank.tokens();
    let scopes: Vec<String> = tokens.iter().map(|asked| asked.form()["scope"].clone()).collect();
    assert_eq!(scopes, ["base things:read", "base things:write", "base things:read"]);
    let form = tokens[0].form();
    assert_eq!(form["grant_type"], "client_credentials");
    assert_eq!(form["audience"], "things");
    assert_eq!(form.len(), 3, "{form:?}");
    let basic = BASE64.encode(b"am%3Abit:client%2Fsecret%2Bof%3Dours");
    assert_eq!(
        tokens[0].header("authorization"),
        Some(format!("Basic {basic}").as_str())
    );
    assert_eq!(tokens[0].header("accept"), Some("application/json"));
    let shown: Vec<String> = bank
        .things()
        .iter()
        .map(|asked| asked.header("authorization").unwrap().replace("Bearer tok_", "")[..1].to_owned())
        .collect();
    assert_eq!(shown, ["0", "0", "0", "0", "1", "2"]);
    let issued = bank.seen.lock().issued.clone();
    drop(host);
    verifies(folder.path());
    nothing_has(folder.path(), &[issued, vec![CLIENT_SECRET.to_owned()]].concat());
}

#[test]
fn a_service_that_takes_no_basic_gets_the_secret_in_the_form() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start();
    let posted = oauth2(&bank).replace("scopes = [\"base\"]", "client_auth = \"post\"");
    home_of(folder.path(), &bank, &posted, "", "");
    let host = open(folder.path()).unwrap();
    assert!(codes(&host.call(request("get")).unwrap()).is_empty());
    let asked = bank.tokens().remove(0);
    let form = asked.form();
    assert_eq!(
        (form["client_id"].as_str(), form["client_secret"].as_str()),
        ("am:bit", CLIENT_SECRET)
    );
    assert_eq!((asked.header("authorization"), form.get("scope")), (None, None));
    drop(host);
    nothing_has(folder.path(), &[CLIENT_SECRET.to_owned()]);
}

#[test]
fn a_token_is_used_no_longer_than_it_lives() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start();
    bank.seen.lock().lifetime = 1;
    home_of(folder.path(), &bank, &oauth2(&bank), "", "");
    let host = open(folder.path()).unwrap();
    host.call(request("get")).unwrap();
    thread::sleep(Duration::from_millis(1_100));
    host.call(request("get")).unwrap();
    assert_eq!(bank.tokens().len(), 2);
}

#[test]
fn a_token_that_its_service_does_not_take_is_not_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start();
    home_of(folder.path(), &bank, &oauth2(&bank), "", "");
    let host = open(folder.path()).unwrap();
    host.call(request("get")).unwrap();
    bank.takes_back();
    let answer = host.call(request("post")).unwrap();
    assert!(codes(&answer).is_empty(), "an answer as any");
    assert_eq!(
        (bank.things().len(), bank.tokens().len()),
        (2, 1),
        "it is not sent twice"
    );
    host.call(request("post")).unwrap();
    assert_eq!((bank.things().len(), bank.tokens().len()), (3, 2));
    let shown = |at: usize| bank.things()[at].header("authorization").unwrap().to_owned();
    assert_ne!(shown(1), shown(2));
}

#[test]
fn what_was_given_out_before_something_was_stopped_or_revoked_is_not_used_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start();
    home_of(folder.path(), &bank, &oauth2(&bank), "", "");
    let host = open(folder.path()).unwrap();
    let calls = || {
        let answer = host.call(request("get")).unwrap();
        assert!(codes(&answer).is_empty() && stopped(&answer).is_none(), "{answer:?}");
        bank.tokens().len()
    };
    assert_eq!((calls(), calls()), (1, 1));
    let kill = Stop {
        kind: Kind::Kill,
        scope: "connection:things".parse().unwrap(),
    };
    host.stop(&kill, "it leaks").unwrap();
    assert!(stopped(&host.call(request("get")).unwrap()).is_some());
    assert_eq!(bank.tokens().len(), 1);
    host.lift(&kill, None).unwrap();
    assert_eq!((calls(), calls()), (2, 2));
    let key = key(&host, |_| {});
    assert_eq!(calls(), 2);
    revoke(&host, &key);
    assert_eq!((calls(), calls()), (3, 3));
}

#[test]
fn a_token_service_that_does_what_it_should_not_gives_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start();
    home_of(folder.path(), &bank, &oauth2(&bank), "", "");
    let host = open(folder.path()).unwrap();
    let good = |change: &dyn Fn(String) -> String| {
        let body = r#"{"access_token":"tok_hostile_1","token_type":"Bearer","expires_in":300}"#.to_owned();
        http("200 OK", "", &change(body))
    };
    let location = format!("Location: http://127.0.0.1:{}/things/1\r\n", bank.service.port);
    let cases = [
        (
            http("307 Temporary Redirect", &location, ""),
            "a redirect is not followed",
        ),
        (http("200 OK", "", "<html>"), "no JSON"),
        (
            good(&|body| format!("{body}{}", " ".repeat(70_000))),
            "more than 65536 bytes",
        ),
        (good(&|body| body.replace("Bearer", "mac")), "not Bearer"),
        (good(&|body| body.replace(r#","expires_in":300"#, "")), "`expires_in`"),
        (good(&|body| body.replace("300", "86400")), "86400 s"),
        (
            good(&|body| body.replace("tok_hostile_1", "tok with spaces")),
            "visible characters",
        ),
        (
            good(&|body| body.replace("300", r#"300,"scope":"base admin""#)),
            "more scopes",
        ),
        (
            http(
                "401 Unauthorized",
                "",
                &format!(r#"{{"error":"invalid_client","error_description":"{CLIENT_SECRET}"}}"#),
            ),
            "401: invalid_client",
        ),
        (String::new(), "no token"),
    ];
    for (number, (answer, why)) in cases.into_iter().enumerate() {
        bank.will(answer);
        let answer = host.call(request("get")).unwrap();
        let refusal = &answer.refused_effects[0];
        assert_eq!(codes(&answer), [Code::Credential], "{refusal:?}");
        assert!(
            refusal.message.contains(why) && refusal.message.contains("`things`"),
            "{refusal:?}"
        );
        assert!(!format!("{refusal:?}").contains(CLIENT_SECRET) && !refusal.message.contains("tok_hostile"));
        assert_eq!(bank.tokens().len(), number + 1, "once");
    }
    assert!(bank.things().is_empty(), "nothing is sent without a token");
    drop(host);
    verifies(folder.path());
    nothing_has(folder.path(), &["tok_hostile_1".to_owned(), CLIENT_SECRET.to_owned()]);
}

/// A service of tokens is reached as any: what its connection may reach, it may not.
#[test]
fn a_token_service_at_a_private_address_gets_nothing_unless_that_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let (bank, private) = (Bank::start(), TcpListener::bind("127.0.0.1:0").unwrap());
    private.set_nonblocking(true).unwrap();
    let port = private.local_addr().unwrap().port();
    let plain = format!("http://127.0.0.1:{}", bank.service.port);
    let away = oauth2(&bank).replace(&plain, &format!("https://localhost:{port}"));
    home_of(folder.path(), &bank, &away, "", "");
    let answer = open(folder.path()).unwrap().call(request("get")).unwrap();
    let refused = &answer.refused_effects;
    assert_eq!(codes(&answer), [Code::Address, Code::Credential], "{refused:?}");
    let connected = private.accept().unwrap_err().kind();
    assert_eq!(connected, std::io::ErrorKind::WouldBlock, "nothing is connected to");
    assert_eq!(bank.service.requests(), 0);
}

#[test]
fn a_token_service_that_fails_is_left_alone_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start();
    let breaker = r#"breaker = { failures = 2, within = "60s", open = "1h" }"#;
    home_of(folder.path(), &bank, &format!("{}\n{breaker}", oauth2(&bank)), "", "");
    let call = || codes(&open(folder.path()).unwrap().call(request("get")).unwrap());
    for _ in 0..2 {
        bank.will(http("500 Broken", "", "{}"));
        assert_eq!(call(), [Code::Credential]);
    }
    assert_eq!(
        call(),
        [Code::Breaker, Code::Breaker],
        "the request for a token, and the effect"
    );
    assert_eq!((bank.tokens().len(), bank.things().len()), (2, 0));
    let config = Config::load(folder.path()).unwrap();
    let flow = Flow::open(&config, &Reader::open(folder.path()).unwrap()).unwrap();
    let breakers = flow.standing().remove(0).breakers;
    assert_eq!(breakers[0], (None, Standing::Closed(0)), "the connection's own");
    assert_eq!(breakers[1].0.as_deref(), Some(ROUTE));
    assert!(matches!(breakers[1].1, Standing::Open { .. }));
    verifies(folder.path());
}

/// A key for assertions in the home, and its public half.
fn assertion_key(folder: &Path) -> Vec<u8> {
    let der = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        BASE64.encode(der.as_ref())
    );
    std::fs::write(folder.join("assertion.pem"), pem).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
    pair.public_key().as_ref().to_vec()
}

/// The claims of an assertion, verified.
fn claims(asked: &Asked, key: &[u8]) -> serde_json::Value {
    let form = asked.form();
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:token-exchange");
    assert_eq!(form["subject_token_type"], "urn:ietf:params:oauth:token-type:jwt");
    assert_eq!(asked.header("authorization"), None);
    let (signed, signature) = form["subject_token"].rsplit_once('.').unwrap();
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
    UnparsedPublicKey::new(&ED25519, key)
        .verify(signed.as_bytes(), &signature)
        .unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let read = |part: &str| -> serde_json::Value {
        serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
    };
    assert_eq!(read(header)["alg"], "EdDSA");
    read(claims)
}

#[test]
fn what_is_exchanged_is_the_home_s_word_about_the_caller_and_nothing_that_the_caller_showed() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start();
    home_of(folder.path(), &bank, &exchange(&bank), GET, POST);
    let public = assertion_key(folder.path());
    let host = open(folder.path()).unwrap();
    for user in [Some("ada".to_owned()), None] {
        let call = CallRequest {
            user,
            ..request("both")
        };
        assert!(codes(&host.call(call).unwrap()).is_empty());
    }
    let tokens = bank.tokens();
    let said: Vec<serde_json::Value> = tokens.iter().map(|asked| claims(asked, &public)).collect();
    assert_eq!(said.len(), 4);
    let names: BTreeSet<&str> = said.iter().map(|claims| claims["jti"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 4, "each is said once");
    for (claims, (subject, actor)) in said.iter().zip([
        ("ada", Some("assistant")),
        ("ada", Some("assistant")),
        ("assistant", None),
        ("assistant", None),
    ]) {
        assert_eq!(
            (claims["sub"].as_str(), claims["act"]["sub"].as_str()),
            (Some(subject), actor)
        );
        assert_eq!(claims["iss"], "https://ambit.example");
        assert_eq!(
            claims["aud"],
            format!("http://127.0.0.1:{}/oauth/token", bank.service.port)
        );
        assert_eq!(
            (claims["tenant"].as_str(), claims["team"].as_str()),
            (Some("acme"), Some("support"))
        );
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
    }
    let assertions: Vec<String> = tokens
        .iter()
        .map(|asked| asked.form()["subject_token"].clone())
        .collect();
    drop(host);
    verifies(folder.path());
    nothing_has(folder.path(), &assertions);
}

#[test]
fn a_token_that_comes_back_is_covered_for_as_long_as_it_lives() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start();
    home_of(folder.path(), &bank, &oauth2(&bank), "", "");
    let host = open(folder.path()).unwrap();
    let kept = |answer: &Answer, ordinal: u32| {
        let keys = Keys::load(folder.path()).unwrap();
        let reader = Reader::open(folder.path()).unwrap().with_keys(&keys);
        let name = format!("effect/{ordinal}/answer");
        let value = reader.payload(answer.call.as_str(), &name).unwrap().unwrap();
        String::from_utf8(value.bytes().to_vec()).unwrap()
    };
    host.call(request("get")).unwrap();
    let token = bank.seen.lock().issued[0].clone();
    let spellings = [
        token.clone(),
        BASE64.encode(token.as_bytes()),
        HEXLOWER.encode(token.as_bytes()),
        token.replace('/', "\\/"),
    ];
    for spelling in spellings {
        bank.seen.lock().id = Some(spelling.clone());
        let answer = host.call(request("get")).unwrap();
        let seen = kept(&answer, 1);
        assert!(seen.contains("[masked]") && !seen.contains(&spelling), "{seen}");
    }
    // And so is what the client shows to get one.
    bank.seen.lock().id = Some(CLIENT_SECRET.to_owned());
    let seen = kept(&host.call(request("get")).unwrap(), 1);
    assert!(seen.contains("[masked]") && !seen.contains(CLIENT_SECRET), "{seen}");
    // Files that are taken anew make no token void.
    let toml = folder.path().join("ambit.toml");
    let text = std::fs::read_to_string(&toml).unwrap();
    for more in ["", "\n[limits]\nlog_bytes = 1000\n"] {
        std::fs::write(&toml, format!("{text}{more}")).unwrap();
        host.reload(ambit_core::ledger::body::ReloadedBy::Operator).unwrap();
        bank.seen.lock().id = Some(token.clone());
        let answer = host.call(request("get")).unwrap();
        assert_eq!(
            bank.tokens().len(),
            if more.is_empty() { 2 } else { 3 },
            "another one is asked for"
        );
        let seen = kept(&answer, 1);
        assert!(seen.contains("[masked]") && !seen.contains(&token), "{seen}");
    }
    // Also after it was taken back, to whoever asks: it may still be good elsewhere.
    bank.takes_back();
    host.call(request("get")).unwrap();
    bank.seen.lock().id = Some(token.clone());
    let alone = CallRequest {
        user: None,
        ..request("get")
    };
    let seen = kept(&host.call(alone).unwrap(), 1);
    assert!(seen.contains("[masked]") && !seen.contains(&token), "{seen}");
}

#[test]
fn a_host_that_ends_between_token_and_effect_leaves_nothing_in_doubt() {
    let (mut went_on, mut between) = (0, 0);
    for (good, step) in (0..12).flat_map(|good| [Step::BeforeCommit, Step::AfterCommit].map(|step| (good, step))) {
        let folder = tempfile::tempdir().unwrap();
        let bank = Bank::start();
        home_of(folder.path(), &bank, &oauth2(&bank), "", "");
        let ended = failing(folder.path(), good, step).map_or(true, |host| host.call(request("post")).is_err());
        if !ended {
            continue;
        }
        let sent = bank.things().len();
        let host = open(folder.path()).unwrap();
        for unended in host.unended().unwrap() {
            if sent == 0 {
                // A token that was asked for, whatever became of that, is nobody's to look for.
                let of_effect = unended.story.effects.values().any(|effect| {
                    matches!(effect, EffectStory::Intended { intent, .. } if intent.what.cause == Cause::Guest)
                });
                assert!(of_effect || unended.doubts.is_empty(), "{good} {step:?}");
                between += usize::from(!bank.tokens().is_empty() && unended.doubts.is_empty());
            }
            if unended.doubts.is_empty() {
                let answer = host.resume(&unended.story.call, None).unwrap();
                assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
                went_on += 1;
                replays(folder.path(), &unended.story.call);
            }
        }
        assert!(bank.things().len() <= 1, "{good} {step:?}");
        drop(host);
        verifies(folder.path());
    }
    assert!(went_on >= 3 && between >= 2, "{went_on} went on, {between} between");
}

#[test]
fn a_replay_needs_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start();
    home_of(folder.path(), &bank, &oauth2(&bank), GET, POST);
    let host = open(folder.path()).unwrap();
    let answer = host.call(request("both")).unwrap();
    drop(host);
    std::fs::remove_file(folder.path().join("client")).unwrap();
    replays(folder.path(), answer.call.as_str());
    assert_eq!(bank.tokens().len(), 2);
}

#[test]
fn a_token_counts_as_an_effect_of_its_call() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start();
    home_of(folder.path(), &bank, &oauth2(&bank), GET, POST);
    let path = folder.path().join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n[limits]\neffects = 3\n")).unwrap();
    let host = open(folder.path()).unwrap();
    // A token and a read, and then a change that needs another token.
    let answer = host.call(request("both")).unwrap();
    assert_eq!(codes(&answer), [Code::Effects], "{answer:?}");
    assert_eq!((bank.tokens().len(), bank.things().len()), (1, 1));
}

/// The limit is what a call may ask for: what is sent once more because of a crash is none of that, and neither is its token.
#[test]
fn what_is_in_doubt_is_sent_again_with_a_new_token_also_at_the_limit_of_its_call() {
    const KEYED: &str = r#"scopes = ["things:write"]
idempotency = { header = "Idempotency-Key", lifetime = "24h" }"#;
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start();
    home_of(folder.path(), &bank, &oauth2(&bank), "", KEYED);
    more(folder.path(), "\n[limits]\neffects = 2\n");
    // A token and a change, and the host ends before it writes what came of that.
    let call = (0..12)
        .find_map(|good| {
            if let Ok(host) = failing(folder.path(), good, Step::BeforeCommit) {
                let _ = host.call(request("post"));
            }
            let host = open(folder.path()).unwrap();
            let sent = !bank.things().is_empty();
            let unended = host.unended().unwrap().into_iter();
            let mut doubtful = unended.filter(|unended| sent && !unended.doubts.is_empty());
            doubtful.next().map(|unended| unended.story.call)
        })
        .unwrap();
    let host = open(folder.path()).unwrap();
    let answer = host.retry_doubt(&call, None, None).unwrap();
    assert!(matches!(answer.outcome, Outcome::Ok(_)), "{answer:?}");
    drop(host);
    verifies(folder.path());
    replays(folder.path(), &call);
}

fn hmac(algorithm: ring::hmac::Algorithm, key: &[u8], text: &str) -> Vec<u8> {
    ring::hmac::sign(&ring::hmac::Key::new(algorithm, key), text.as_bytes())
        .as_ref()
        .to_vec()
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

#[test]
fn a_shared_secret_signs_what_is_sent() {
    const KEY: &str = "hmac-key-of-ours";
    let forms = [
        ("", ring::hmac::HMAC_SHA256, false),
        (
            r#", algorithm = "sha512", encoding = "base64""#,
            ring::hmac::HMAC_SHA512,
            true,
        ),
    ];
    for (more, algorithm, base64) in forms {
        let folder = tempfile::tempdir().unwrap();
        let bank = Bank::start();
        let credential = format!(
            r#"credential = {{ hmac = {{ secret = {{ file = "key" }}, header = "X-Signature", time_header = "X-Time"{more} }} }}"#
        );
        home_of(folder.path(), &bank, &format!("base = \"/v1\"\n{credential}"), "", "");
        std::fs::write(folder.path().join("key"), KEY).unwrap();
        let host = open(folder.path()).unwrap();
        assert!(codes(&host.call(request("both")).unwrap()).is_empty());
        let things = bank.things();
        assert_eq!(things.len(), 2);
        for asked in things {
            let words: Vec<&str> = asked.line().split(' ').collect();
            let time = asked.header("x-time").unwrap();
            let text = format!("{time}\n{}\n{}\n{}", words[0], words[1], sha256(asked.body.as_bytes()));
            let expected = hmac(algorithm, KEY.as_bytes(), &text);
            let expected = if base64 {
                BASE64.encode(&expected)
            } else {
                HEXLOWER.encode(&expected)
            };
            assert_eq!(asked.header("x-signature"), Some(expected.as_str()), "{text}");
            assert!(words[1].starts_with("/v1/things/"));
            let age = crate::host::now_ms() / 1_000 - time.parse::<i64>().unwrap();
            assert!(age < 10, "{age} s");
        }
    }
}

#[test]
fn aws_verifies_what_is_sent() {
    const KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start();
    let credential = r#"credential = { sigv4 = { region = "eu-central-1", service = "execute-api", access_key_id = "AKIDEXAMPLE", secret_access_key = { file = "key" }, session_token = { file = "session" } } }"#;
    home_of(
        folder.path(),
        &bank,
        credential,
        "",
        r#"idempotency = { header = "Idempotency-Key", lifetime = "24h" }"#,
    );
    std::fs::write(folder.path().join("key"), KEY).unwrap();
    std::fs::write(folder.path().join("session"), "session-token-of-ours").unwrap();
    let host = open(folder.path()).unwrap();
    let spaced = CallRequest {
        args: r#"{"path":"/things/a%20b~c"}"#.to_owned(),
        ..request("both")
    };
    assert!(codes(&host.call(spaced).unwrap()).is_empty());
    let things = bank.things();
    assert_eq!(things.len(), 2);
    for asked in &things {
        let words: Vec<&str> = asked.line().split(' ').collect();
        let shown = asked.header("authorization").unwrap();
        let (shown, signature) = shown.split_once(", Signature=").unwrap();
        let (credential, names) = shown.split_once(", SignedHeaders=").unwrap();
        let (date, day) = (
            asked.header("x-amz-date").unwrap(),
            &asked.header("x-amz-date").unwrap()[..8],
        );
        let scope = format!("{day}/eu-central-1/execute-api/aws4_request");
        assert_eq!(credential, format!("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}"));
        assert_eq!(asked.header("x-amz-security-token"), Some("session-token-of-ours"));
        let body = sha256(asked.body.as_bytes());
        assert_eq!(asked.header("x-amz-content-sha256"), Some(body.as_str()));
        // A path is encoded once more than it was sent.
        let path = words[1].replace('%', "%25");
        let headers: String = names
            .split(';')
            .map(|name| format!("{name}:{}\n", asked.header(name).unwrap()))
            .collect();
        let canonical = format!("{}\n{path}\n\n{headers}\n{names}\n{body}", words[0]);
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(canonical.as_bytes()));
        let mut key = format!("AWS4{KEY}").into_bytes();
        for part in [day, "eu-central-1", "execute-api", "aws4_request", &text] {
            key = hmac(ring::hmac::HMAC_SHA256, &key, part);
        }
        assert_eq!(signature, HEXLOWER.encode(&key), "{canonical}");
        assert!(names.contains("host;"), "{names}");
    }
    let signed = |at: usize, name: &str| things[at].header("authorization").unwrap().contains(name);
    assert!(signed(1, "idempotency-key") && !signed(0, "idempotency-key"));
    let host = things[0].header("host").unwrap().to_owned();
    assert_eq!(host, format!("127.0.0.1:{}", bank.service.port));
}

#[test]
fn the_key_for_what_the_home_says_is_told_by_its_public_half() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start();
    home_of(folder.path(), &bank, &exchange(&bank), "", "");
    let public = assertion_key(folder.path());
    let config = Config::load(folder.path()).unwrap();
    let jwks = config
        .jwks("things", &crate::secret::Process)
        .unwrap()
        .unwrap()
        .to_serde();
    assert_eq!(jwks["keys"][0]["x"], BASE64URL_NOPAD.encode(&public));
    assert_eq!(jwks["keys"][0].get("d"), None);
}
