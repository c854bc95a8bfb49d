#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod callers;
mod issuers;
mod tokens;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ambit_core::identity::why::Why;
use ambit_core::ledger::{Body, EntryDraft};
use ambit_core::policy::Mode;
use ambit_runtime::api_keys::{self, Act, Asked};
use ambit_runtime::config::Config;
use ambit_runtime::home;
use ambit_runtime::host::{Host, HostOptions};
use ambit_runtime::operators::{self, Answer, Request};
use ambit_runtime::runs::NewRun;
use ambit_runtime::sandbox::Compiler;
use ambit_runtime::store::{Batch, Faults, Keys, Store, StoreOptions};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use http::HeaderValue;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA512,
    RsaKeyPair,
};
use serde_json::json;

use super::*;

/// What a service answers with, by path: the bytes of the whole answer.
type Pages = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A service of an issuer, on this machine.
struct Service {
    port: u16,
    pages: Pages,
    asked: Arc<AtomicUsize>,
    /// For how long it thinks before it answers, in milliseconds.
    slow: Arc<AtomicUsize>,
}

impl Service {
    fn start() -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (pages, asked) = (Pages::default(), Arc::new(AtomicUsize::new(0)));
        let slow = Arc::new(AtomicUsize::new(0));
        let service = Service {
            port,
            pages: Arc::clone(&pages),
            asked: Arc::clone(&asked),
            slow: Arc::clone(&slow),
        };
        thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let (pages, asked, slow) = (Arc::clone(&pages), Arc::clone(&asked), Arc::clone(&slow));
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    let mut line = String::new();
                    drop(reader.read_line(&mut line));
                    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {}
                    asked.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(slow.load(Ordering::SeqCst) as u64));
                    let page = pages.lock().get(&path).cloned();
                    let page = page.unwrap_or_else(|| b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec());
                    drop(reader.get_mut().write_all(&page));
                    // What is cut short stays open until the other side is tired of it.
                    drop(reader.read_to_end(&mut Vec::new()));
                });
            }
        });
        service
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn raw(&self, path: &str, page: impl Into<Vec<u8>>) {
        self.pages.lock().insert(path.to_owned(), page.into());
    }

    fn page(&self, path: &str, body: &str) {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.raw(path, head + body);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A pair of keys of an issuer.
enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Pair {
    /// ring makes no RSA keys. This one was made for these tests, and is nobody's.
    fn rsa() -> Pair {
        let text = include_str!("test_rsa_key.txt").replace('\n', "");
        let der = BASE64.decode(text.as_bytes()).unwrap();
        Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(&der).unwrap()))
    }

    fn p256() -> Pair {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Pair::P256(EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap())
    }

    fn ed25519() -> Pair {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Pair::Ed25519(Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap())
    }

    /// The public half, as issuers publish it.
    fn jwk(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        match self {
            Pair::Rsa(pair) => {
                let public: ring::rsa::PublicKeyComponents<Vec<u8>> = pair.public().into();
                json!({ "kty": "RSA", "kid": kid, "use": "sig", "n": text(&public.n), "e": text(&public.e) })
            }
            Pair::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": text(&point[1..33]), "y": text(&point[33..]) })
            }
            Pair::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": text(pair.public_key().as_ref()) })
            }
        }
    }

    fn sign(&self, alg: &str, signed: &str) -> Vec<u8> {
        let (random, signed) = (SystemRandom::new(), signed.as_bytes());
        match self {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                match alg {
                    "PS512" => pair.sign(&RSA_PSS_SHA512, &random, signed, &mut signature),
                    _ => pair.sign(&RSA_PKCS1_SHA256, &random, signed, &mut signature),
                }
                .unwrap();
                signature
            }
            Pair::P256(pair) => pair.sign(&random, signed).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(signed).as_ref().to_vec(),
        }
    }

    /// A token with these members of header and claims.
    fn token(&self, header: &Value, claims: &Value) -> String {
        let part = |json: &Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.sign(header["alg"].as_str().unwrap_or_default(), &signed);
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

pub(crate) const RESOURCE: &str = "https://ambit.example/mcp";

/// A home whose issuer is a service of this machine, with the pair of keys it signs with.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    service: Service,
    pair: Pair,
    runtime: tokio::runtime::Runtime,
    pub(crate) host: Host,
    pub(crate) callers: Authenticator,
}

impl Place {
    /// The issuer signs with ES256 under the name `one`; `more` is what the configuration says of it besides.
    pub(crate) fn new(more: &str) -> Place {
        Place::with(more, Duration::from_secs(60), BETWEEN_MS)
    }

    /// The same with a tool, and with a policy of its own.
    pub(crate) fn with_tool(more: &str, name: &str, component: &[u8], policy: &str) -> Place {
        Place::made("", more, Duration::from_secs(60), BETWEEN_MS, |folder| {
            std::fs::write(folder.join("policy/main.cedar"), policy).unwrap();
            let manifest = ambit_core::manifest::Manifest::read(component).unwrap();
            home::add_tool(folder, name, component, &manifest).unwrap();
        })
    }

    /// The same of which the configuration says `server` in `[server]`, and whose home has these files besides. Those that end as keys do
    /// are their owner's alone.
    pub(crate) fn with_files(
        (server, more): (&str, &str),
        (name, component): (&str, &[u8]),
        policy: &str,
        files: &[(&str, String)],
    ) -> Place {
        Place::made(server, more, Duration::from_secs(60), BETWEEN_MS, |folder| {
            for (file, text) in files {
                put(folder, file, text);
            }
            std::fs::write(folder.join("policy/main.cedar"), policy).unwrap();
            let manifest = ambit_core::manifest::Manifest::read(component).unwrap();
            home::add_tool(folder, name, component, &manifest).unwrap();
        })
    }

    /// The same, of which these entries are on the ledger before its host is opened.
    pub(crate) fn with_entries(more: &str, entries: Vec<EntryDraft>) -> Place {
        Place::made("", more, Duration::from_secs(60), BETWEEN_MS, |folder| {
            let keys = Keys::load(folder).unwrap();
            let store = Store::open(folder, keys, StoreOptions::default(), Faults::default()).unwrap();
            let batch = Batch {
                entries,
                ..Batch::default()
            };
            store.commit(batch).unwrap();
        })
    }

    /// The same, whose disk has this happen once its home is there.
    pub(crate) fn failing(faults: Faults) -> Place {
        let mut place = Place::new("");
        // One process has a home at a time.
        let (host, callers) = (place.host, place.callers);
        drop((callers, host));
        place.host = open_with(place.folder.path(), faults);
        place.callers = Authenticator::with_times(&place.host, Duration::from_secs(60), BETWEEN_MS).unwrap();
        place
    }

    /// The same, of which the configuration says `server` in `[server]`.
    pub(crate) fn of(server: &str) -> Place {
        Place::made(server, "", Duration::from_secs(60), BETWEEN_MS, |_| {})
    }

    fn with(more: &str, minute: Duration, between_ms: u64) -> Place {
        Place::made("", more, minute, between_ms, |_| {})
    }

    fn made(server: &str, more: &str, minute: Duration, between_ms: u64, furnish: impl FnOnce(&Path)) -> Place {
        let (service, pair) = (Service::start(), Pair::p256());
        service.page("/keys", &set(&[pair.jwk("one")]));
        let folder = tempfile::tempdir().unwrap();
        home::init(folder.path()).unwrap();
        let config = configuration(&service, server, more);
        std::fs::write(folder.path().join("ambit.toml"), config).unwrap();
        furnish(folder.path());
        let host = open(folder.path());
        let callers = Authenticator::with_times(&host, minute, between_ms).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Place {
            folder,
            service,
            pair,
            runtime,
            host,
            callers,
        }
    }

    fn claims(&self) -> Value {
        json!({
            "iss": self.service.url(""),
            "aud": RESOURCE,
            "sub": "client-1",
            "exp": now_s() + 300,
            "iat": now_s(),
            "jti": "t-1",
        })
    }

    /// A good token with other claims.
    pub(crate) fn token(&self, changes: Value) -> String {
        self.pair.token(
            &json!({ "alg": "ES256", "kid": "one", "typ": "at+jwt" }),
            &merged(self.claims(), changes),
        )
    }

    fn ask(&self, word: &str) -> Result<Authenticated, Unauthenticated> {
        self.ask_with(&bearer(word), None)
    }

    fn ask_with(&self, headers: &HeaderMap, query: Option<&str>) -> Result<Authenticated, Unauthenticated> {
        self.runtime.block_on(self.callers.authenticate(headers, query, None))
    }

    /// The status and the `error` that a word is refused with.
    fn refused(&self, word: &str) -> (u16, String) {
        let refused = self.ask(word).expect_err("refused");
        (refused.status, error(&refused))
    }

    /// Makes a key, and says what it is.
    pub(crate) fn key(&self, change: impl FnOnce(&mut Asked)) -> (String, String) {
        let mut asked = Asked {
            agent: "assistant".into(),
            user: None,
            name: None,
            narrowing: Narrowing::default(),
            operator: None,
            good_for_ms: 60_000,
        };
        change(&mut asked);
        let new = api_keys::random_key().unwrap();
        self.operator(Act::Create(new.shown.clone(), asked));
        (new.word.to_string(), new.shown.id)
    }

    /// A run of this agent, in the mode that only suggests.
    pub(crate) fn run(&self, agent: &str, user: Option<&str>) -> Run {
        let asked = NewRun {
            agent: agent.into(),
            user: user.map(str::to_owned),
            mode: Mode::Suggest,
            length_ms: 60_000,
            caps: Vec::new(),
            errors: None,
        };
        self.host.start_run(&asked).unwrap()
    }

    pub(crate) fn run_token(&self, run: &Run) -> String {
        let made = ambit_runtime::run_tokens::mint(self.folder.path(), run, 60_000);
        made.unwrap().0.word().to_owned()
    }

    pub(crate) fn operator(&self, what: Act) {
        let answer = operators::act(self.folder.path(), &Request::Key { what: Box::new(what) }).unwrap();
        assert!(matches!(answer, Answer::Key(_)), "{answer:?}");
    }

    /// Ends the host; what its ledger says has to be sound. Says how many requests were refused, by why.
    pub(crate) fn verified(self) -> BTreeMap<Why, u32> {
        let Place {
            folder, host, callers, ..
        } = self;
        drop((callers, host));
        let key = ambit_runtime::store::verifier(folder.path()).unwrap();
        let reader = ambit_runtime::store::Reader::open(folder.path()).unwrap();
        reader.verify(&key, &[], |_| {}).unwrap();
        let mut refused = BTreeMap::new();
        for entry in reader.entries(0, 1_000).unwrap() {
            if let Body::CallersRefused(counted) = entry.body() {
                for (why, count) in &counted.refused {
                    *refused.entry(*why).or_default() += count;
                }
            }
        }
        refused
    }
}

/// Puts a file into a home: its owner's alone, where it ends as keys do.
pub(crate) fn put(folder: &Path, file: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    let mode = if file.ends_with(".key") { 0o600 } else { 0o644 };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn open(folder: &Path) -> Host {
    open_with(folder, Faults::default())
}

fn open_with(folder: &Path, faults: Faults) -> Host {
    let options = HostOptions {
        faults,
        compiler: Some(Compiler::InProcess),
        ..HostOptions::default()
    };
    Host::open(Config::load(folder).unwrap(), options).unwrap()
}

fn configuration(service: &Service, server: &str, more: &str) -> String {
    let (issuer, keys) = (service.url(""), service.url("/keys"));
    let more = more.replace("{issuer}", &issuer).replace("{keys}", &keys);
    format!(
        r#"
[agent.assistant]
team = "support"
tenant = "acme"
users = ["ada"]
[agent.spy]
team = "spies"
tenant = "other"
users = ["ada"]
[group.reviewer]
members = []
[server]
resource = "{RESOURCE}"
{server}
[server.issuer.acme]
issuer = "{issuer}"
jwks = "{keys}"
allow_private = true
algorithms = ["RS256", "PS512", "ES256", "EdDSA"]
agents = {{ client-1 = "assistant" }}
{more}
"#
    )
}

fn merged(mut whole: Value, changes: Value) -> Value {
    let (Value::Object(members), Value::Object(changes)) = (&mut whole, changes) else {
        panic!("objects")
    };
    for (name, value) in changes {
        if value.is_null() {
            members.remove(&name);
        } else {
            members.insert(name, value);
        }
    }
    whole
}

pub(crate) fn bearer(word: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {word}")).unwrap());
    headers
}

/// The `error` of a challenge.
fn error(refused: &Unauthenticated) -> String {
    let rest = refused.www_authenticate.split_once(" error=\"");
    rest.and_then(|(_, rest)| rest.split_once('"'))
        .map(|(error, _)| error.to_owned())
        .unwrap_or_default()
}
