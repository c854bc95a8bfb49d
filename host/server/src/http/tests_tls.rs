//! TLS at agents' listener, with real handshakes: who a client is by its certificate, and how long that holds.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream as Client;
use std::time::SystemTime;

use ambit_core::digest::Digest;
use ambit_core::identity::why::Why;
use ambit_core::ledger::body::{ReloadedBy, ShownBy};
use ambit_core::ledger::story::Opening;
use ambit_core::metrics::{Value as Sample, names};
use ambit_runtime::store::CallFilter;
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::json;

use super::tests::{Answer, Served, bearer, initialize};
use super::*;
use crate::http::front::OwnNames;
use crate::identity::tests::{Place, put};

/// What ends at once may take this long on a machine that does much else.
const SOON: Duration = Duration::from_secs(5);

/// A tool whose function does nothing.
const COMPONENT: &str = r#"(component
    (core module $m (func (export "f")))
    (core instance $i (instantiate $m))
    (func $f (canon lift (core func $i "f")))
    (instance $x (export "get" (func $f)))
    (export "acme:refunds/refunds" (instance $x)))"#;
const POLICY: &str = r#"@id("all") permit (principal, action == Action::"call", resource);"#;

const SUPPORT: &str = "spiffe://prod.example/agent/support";
const SPY: &str = "spiffe://stage.example/agent/spy";

const TLS: &str = "
[server.tls]
certificate = \"tls/server.pem\"
key = \"tls/server.key\"
";
const PROD: &str = "
[server.spiffe.prod]
trust_domain = \"prod.example\"
bundle = \"tls/prod.pem\"
agents = { \"spiffe://prod.example/agent/support\" = \"assistant\" }
";
const STAGE: &str = "
[server.spiffe.stage]
trust_domain = \"stage.example\"
bundle = \"tls/stage.pem\"
agents = { \"spiffe://stage.example/agent/spy\" = \"spy\" }
";

/// An authority, and the certificates that it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, and what stands between it and its authority.
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    pem: String,
    key: KeyPair,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate as `change` makes it.
    fn signs(&self, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        change(&mut params);
        let own = params.signed_by(&key, &self.0).unwrap();
        Shown {
            chain: vec![own.der().clone()],
            pem: own.pem(),
            key,
        }
    }

    /// That of a workload.
    fn workload(&self, id: &str) -> Shown {
        self.signs(|params| of(params, &[id]))
    }

    fn server(&self) -> Shown {
        self.signs(|params| params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())])
    }
}

/// Has a certificate be a workload's, by these URIs.
fn of(params: &mut CertificateParams, uris: &[&str]) {
    let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
    params.subject_alt_names = uris.collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
}

/// A server with TLS that knows workloads of two trust domains.
struct Scene {
    served: Served,
    own: Authority,
    prod: Authority,
    stage: Authority,
}

impl Scene {
    fn new() -> Scene {
        Scene::with("", "", PATIENCE)
    }

    /// `server` is what the configuration says in `[server]`, `more` what it says besides.
    fn with(server: &str, more: &str, patience: Patience) -> Scene {
        let (own, prod, stage) = (Authority::new(), Authority::new(), Authority::new());
        let shown = own.server();
        let files = [
            ("tls/server.pem", shown.pem),
            ("tls/server.key", shown.key.serialize_pem()),
            ("tls/prod.pem", prod.pem()),
            ("tls/stage.pem", stage.pem()),
        ];
        let more = format!("{TLS}{PROD}{STAGE}{more}");
        let component = wat::parse_str(COMPONENT).unwrap();
        let place = Place::with_files((server, &more), ("refunds", &component), POLICY, &files);
        Scene {
            served: Served::of(place, patience),
            own,
            prod,
            stage,
        }
    }

    fn client(&self, shown: Option<&Shown>) -> Tls {
        self.client_of(shown, rustls::DEFAULT_VERSIONS)
    }

    fn client_of(&self, shown: Option<&Shown>, versions: &[&'static SupportedProtocolVersion]) -> Tls {
        Tls::connect(&self.served, &self.config(shown, versions))
    }

    fn config(&self, shown: Option<&Shown>, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.own.0.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            None => config.with_no_client_auth(),
            Some(shown) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(shown.key.serialize_der()));
                config.with_client_auth_cert(shown.chain.clone(), key).unwrap()
            }
        };
        Arc::new(config)
    }

    /// Whether a client is let in with this: the handshake is done, and somebody answers.
    fn lets_in(&self, shown: &Shown) -> bool {
        self.client(Some(shown)).get("/health").is_ok()
    }

    fn write(&self, file: &str, text: &str) {
        put(self.served.place.folder.path(), file, text);
    }

    fn configure(&self, change: impl FnOnce(String) -> String) {
        let path = self.served.place.folder.path().join("ambit.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(text)).unwrap();
    }

    /// Why the files cannot be taken anew; nothing where they are.
    fn reload(&self) -> Option<String> {
        let reloaded = self.served.place.host.reload(ReloadedBy::Operator);
        reloaded.err().map(|error| error.to_string())
    }

    fn ends(self) -> BTreeMap<Why, u32> {
        self.served.ends()
    }
}

/// A client's side of a connection, which is kept.
struct Tls {
    stream: StreamOwned<ClientConnection, Client>,
    host: String,
}

impl Tls {
    fn connect(served: &Served, config: &Arc<ClientConfig>) -> Tls {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::clone(config), name).unwrap();
        Tls {
            stream: StreamOwned::new(session, served.client()),
            host: served.address.to_string(),
        }
    }

    fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.ask("GET", target, "", "")
    }

    fn status(&mut self, target: &str) -> u16 {
        self.get(target).unwrap().status
    }

    fn ask(&mut self, method: &str, target: &str, more: &str, body: &str) -> io::Result<Answer> {
        let (host, length) = (&self.host, body.len());
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {length}\r\n{more}\r\n"
        );
        self.stream.write_all(format!("{head}{body}").as_bytes())?;
        let mut text = Vec::new();
        let whole = |text: &[u8]| {
            let text = String::from_utf8_lossy(text).into_owned();
            let (head, body) = text.split_once("\r\n\r\n")?;
            let head = head.to_ascii_lowercase();
            let done = match head.split_once("content-length: ") {
                Some((_, rest)) => body.len() >= rest.lines().next()?.parse().ok()?,
                None => body.ends_with("0\r\n\r\n"),
            };
            done.then(|| (head, body.to_owned()))
        };
        loop {
            if let Some((head, body)) = whole(&text) {
                return Ok(Answer {
                    status: head.split(' ').nth(1).unwrap().parse().unwrap(),
                    head,
                    text: body,
                });
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => text.extend_from_slice(&piece[..read]),
            }
        }
    }

    /// The digest of the certificate that the server shows.
    fn server(&self) -> Digest {
        Digest::of(&self.stream.conn.peer_certificates().unwrap()[0])
    }
}

#[test]
fn a_workload_is_the_agent_that_it_is_named_for() {
    let scene = Scene::new();
    let shown = scene.prod.workload(SUPPORT);
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let mut client = scene.client_of(Some(&shown), versions);
        let listed = client.get("/v1/tools").unwrap();
        assert!(
            listed.status == 200 && listed.text.contains("refunds.get"),
            "{}",
            listed.text
        );
        let first = client.ask("POST", "/mcp", "", &initialize("2025-11-25")).unwrap();
        assert_eq!(first.status, 200, "{}", first.text);
        let params = json!({ "name": "refunds_refunds_get", "arguments": {} });
        let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params });
        let made = client.ask("POST", "/mcp", "", &call.to_string()).unwrap();
        assert_eq!(
            (made.status, made.json()["result"]["isError"].as_bool()),
            (200, Some(false)),
            "{}",
            made.text
        );
    }
    let reader = scene.served.place.host.reader().unwrap();
    let calls = reader.calls(&CallFilter {
        limit: Some(10),
        ..CallFilter::default()
    });
    let calls = calls.unwrap();
    assert_eq!(calls.len(), 2);
    for story in calls {
        assert_eq!(story.principal.unwrap().agent, "assistant");
        let Opening::Accepted(accepted) = story.opening.what else {
            panic!("not accepted")
        };
        let Some(ShownBy::Certificate(by)) = accepted.by else {
            panic!("{:?}", accepted.by)
        };
        assert_eq!((by.id.as_str(), by.certificate), (SUPPORT, Digest::of(&shown.chain[0])));
    }
    drop(reader);
    // Each trust domain has its own.
    let spy = scene.stage.workload(SPY);
    assert_eq!(scene.client(Some(&spy)).status("/v1/tools"), 200);
    // What is between a workload and its authority comes along.
    let mut between = CertificateParams::default();
    between.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let between = CertifiedIssuer::signed_by(between, KeyPair::generate().unwrap(), &scene.prod.0).unwrap();
    let between = Authority(between);
    let mut below = between.workload(SUPPORT);
    assert!(!scene.lets_in(&below));
    below.chain.push(between.0.der().clone());
    assert!(scene.lets_in(&below));
    assert!(scene.ends().keys().eq([&Why::Certificate]));
}

#[test]
fn who_shows_no_certificate_shows_a_key_or_nothing() {
    let scene = Scene::new();
    let (key, _) = scene.served.place.key(|_| {});
    let mut client = scene.client(None);
    assert_eq!(client.ask("GET", "/v1/tools", &bearer(&key), "").unwrap().status, 200);
    let none = client.get("/v1/tools").unwrap();
    assert!(none.status == 401 && none.is_problem(), "{}", none.text);
    // The key is good with a certificate too, whoever that is of.
    let mut client = scene.client(Some(&scene.stage.workload(SPY)));
    assert_eq!(client.ask("GET", "/v1/tools", &bearer(&key), "").unwrap().status, 200);
    assert_eq!(client.stream.conn.alpn_protocol(), None);
    assert_eq!(scene.ends(), BTreeMap::new());
}

#[test]
fn a_refused_token_is_refused_whatever_the_certificate() {
    let scene = Scene::new();
    let mut client = scene.client(Some(&scene.prod.workload(SUPPORT)));
    let forged = scene.served.place.token(json!({ "aud": "https://other.example/mcp" }));
    for (more, status) in [
        (bearer(&forged), 401),
        (bearer("ambit_x"), 401),
        ("Authorization: Basic YTpi\r\n".to_owned(), 400),
        ("Authorization: \r\n".to_owned(), 400),
    ] {
        for target in ["/v1/tools", "/mcp"] {
            assert_eq!(client.ask("GET", target, &more, "").unwrap().status, status, "{more}");
        }
    }
    assert_eq!(client.status("/v1/tools?access_token=x"), 400);
    assert_eq!(client.status("/v1/tools"), 200);
    scene.ends();
}

#[test]
fn a_workload_that_is_nobody_s_agent_is_refused() {
    let scene = Scene::new();
    for id in [
        "spiffe://prod.example/agent/other",
        "spiffe://prod.example/agent/support/deeper",
        "spiffe://prod.example/agent/Support",
    ] {
        let mut client = scene.client(Some(&scene.prod.workload(id)));
        let refused = client.get("/v1/tools").unwrap();
        assert!(refused.status == 403 && refused.is_problem(), "{id}: {}", refused.text);
        assert!(!refused.text.contains("assistant"), "{}", refused.text);
    }
    assert_eq!(scene.ends(), BTreeMap::from([(Why::Agent, 3)]));
}

#[test]
fn a_certificate_of_no_workload_ends_the_handshake() {
    let scene = Scene::new();
    let prod = &scene.prod;
    let past = |params: &mut CertificateParams| {
        of(params, &[SUPPORT]);
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    };
    let future = |params: &mut CertificateParams| {
        of(params, &[SUPPORT]);
        params.not_before = rcgen::date_time_ymd(2100, 1, 1);
        params.not_after = rcgen::date_time_ymd(2101, 1, 1);
    };
    let authority = |params: &mut CertificateParams| {
        of(params, &[SUPPORT]);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    };
    let signs = |params: &mut CertificateParams| {
        of(params, &[SUPPORT]);
        params.key_usages.push(rcgen::KeyUsagePurpose::KeyCertSign);
    };
    let serves = |params: &mut CertificateParams| {
        of(params, &[SUPPORT]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    let mut many = prod.workload(SUPPORT);
    many.chain.extend((0..4).map(|_| scene.own.0.der().clone()));
    let refused = [
        ("of another trust domain", prod.workload(SPY)),
        (
            "of one that nobody knows",
            prod.workload("spiffe://other.example/agent/support"),
        ),
        ("by another's authority", scene.stage.workload(SUPPORT)),
        ("by nobody's authority", Authority::new().workload(SUPPORT)),
        ("two ids", prod.signs(|params| of(params, &[SUPPORT, SUPPORT]))),
        (
            "an id and a URI",
            prod.signs(|params| of(params, &["https://prod.example/", SUPPORT])),
        ),
        ("no URI", prod.signs(|params| of(params, &[]))),
        (
            "no id",
            prod.signs(|params| of(params, &["https://prod.example/agent/support"])),
        ),
        (
            "an id without a path",
            prod.signs(|params| of(params, &["spiffe://prod.example"])),
        ),
        ("over", prod.signs(past)),
        ("not yet", prod.signs(future)),
        ("an authority's", prod.signs(authority)),
        ("signs others", prod.signs(signs)),
        ("a server's", prod.signs(serves)),
        ("too many", many),
    ];
    for (what, shown) in &refused {
        assert!(!scene.lets_in(shown), "{what}");
    }
    assert!(scene.lets_in(&prod.workload(SUPPORT)));
    let counted = u32::try_from(refused.len()).unwrap();
    assert_eq!(scene.ends(), BTreeMap::from([(Why::Certificate, counted)]));
}

#[test]
fn a_certificate_that_is_over_is_good_no_more_on_its_open_connection() {
    let scene = Scene::new();
    let short = scene.prod.signs(|params| {
        of(params, &[SUPPORT]);
        params.not_before = (SystemTime::now() - Duration::from_secs(60)).into();
        params.not_after = (SystemTime::now() + Duration::from_secs(4)).into();
    });
    let mut client = scene.client(Some(&short));
    assert_eq!(client.status("/v1/tools"), 200);
    thread::sleep(SOON);
    let over = client.get("/v1/tools").unwrap();
    assert!(over.status == 401 && over.is_problem(), "{}", over.text);
    assert!(over.text.contains("connect again"), "{}", over.text);
    // The connection itself is as good as any: for a key, too.
    let (key, _) = scene.served.place.key(|_| {});
    assert_eq!(client.ask("GET", "/v1/tools", &bearer(&key), "").unwrap().status, 200);
    assert_eq!(scene.ends(), BTreeMap::from([(Why::Certificate, 1)]));
}

#[test]
fn what_is_taken_anew_holds_for_connections_that_are_open() {
    let scene = Scene::new();
    let old = scene.prod.workload(SUPPORT);
    let mut client = scene.client(Some(&old));
    assert_eq!(client.status("/v1/tools"), 200);
    // Another authority in the place of the one before.
    let newer = Authority::new();
    scene.write("tls/prod.pem", &newer.pem());
    assert_eq!(client.status("/v1/tools"), 200, "not before it is taken");
    assert_eq!(scene.reload(), None);
    assert_eq!(client.status("/v1/tools"), 401);
    assert!(!scene.lets_in(&old));
    assert_eq!(scene.client(Some(&newer.workload(SUPPORT))).status("/v1/tools"), 200);
    // Both, while one replaces the other: the connection was there all along.
    scene.write("tls/prod.pem", &format!("{}{}", scene.prod.pem(), newer.pem()));
    assert_eq!(scene.reload(), None);
    assert_eq!(client.status("/v1/tools"), 200);
    // Who a workload is.
    scene.configure(|text| text.replace("agent/support\" = ", "agent/other\" = "));
    assert_eq!(scene.reload(), None);
    assert_eq!(client.status("/v1/tools"), 403);
    // And whether the trust domain is known at all.
    scene.configure(|text| text.replace("agent/other\" = ", "agent/support\" = ").replace(PROD, ""));
    assert_eq!(scene.reload(), None);
    assert_eq!(client.status("/v1/tools"), 401);
    scene.ends();
}

#[test]
fn a_server_s_certificate_is_replaced_under_a_running_process() {
    let scene = Scene::new();
    let shown = |scene: &Scene| {
        let mut client = scene.client(None);
        assert_eq!(client.status("/health"), 200);
        client.server()
    };
    let mut open = scene.client(Some(&scene.prod.workload(SUPPORT)));
    assert_eq!(open.status("/v1/tools"), 200);
    // It is over in a week, which people are told of with the reload, and collectors at any time.
    let (day, now) = (Duration::from_secs(86_400), SystemTime::now());
    let (since, until) = (now - 80 * day, now + 7 * day);
    let newer = scene.own.signs(|params| {
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
        params.not_before = since.into();
        params.not_after = until.into();
    });
    let told = |scene: &Scene, name| {
        let samples = scene.served.place.host.current().metrics().unwrap();
        match samples.of(name).next() {
            Some((_, Sample::Level(level))) => *level,
            other => panic!("{other:?}"),
        }
    };
    let expires = |scene: &Scene| told(scene, &names::CERTIFICATE_EXPIRES);
    let warned = |scene: &Scene| {
        let host = scene.served.place.host.current();
        host.warnings().iter().any(|one| one.message().contains("[server.tls]"))
    };
    let first = shown(&scene);
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as f64;
    let (since, until) = (seconds(since), seconds(until));
    assert!(expires(&scene) > until && !warned(&scene));
    // Half of a pair changes nothing, and neither does a key that others can read.
    scene.write("tls/server.pem", &newer.pem);
    let why = scene.reload().unwrap();
    assert!(why.contains("is not the key of the certificate"), "{why}");
    assert_eq!(shown(&scene), first);
    assert!(expires(&scene) > until && !warned(&scene), "not before it is taken");
    scene.write("tls/server.key", &newer.key.serialize_pem());
    assert_eq!(scene.reload(), None);
    assert!(expires(&scene) == until && warned(&scene), "{}", expires(&scene));
    assert_eq!(told(&scene, &names::CERTIFICATE_BEGINS), since);
    assert_eq!(shown(&scene), Digest::of(&newer.chain[0]));
    assert_eq!(open.status("/v1/tools"), 200);
    // What is spoken at a port is spoken there to the end.
    scene.configure(|text| text.replace(TLS, "").replace(PROD, "").replace(STAGE, ""));
    let why = scene.reload().unwrap();
    assert!(why.contains("[server.tls]"), "{why}");
    assert_eq!(shown(&scene), Digest::of(&newer.chain[0]));
    scene.ends();
}

/// Each connection is verified for itself.
#[test]
fn no_session_is_taken_up_again() {
    let scene = Scene::new();
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let config = scene.config(Some(&scene.prod.workload(SUPPORT)), versions);
        for _ in 0..3 {
            let mut client = Tls::connect(&scene.served, &config);
            assert_eq!(client.status("/v1/tools"), 200);
            assert_eq!(client.stream.conn.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(client.stream.conn.tls13_tickets_received(), 0);
        }
    }
    scene.ends();
}

/// What a client may choose among is HTTP/1.1 alone.
#[test]
fn nothing_but_http_1_1_is_spoken() {
    let scene = Scene::new();
    let config = scene.config(None, rustls::DEFAULT_VERSIONS);
    for (offered, taken) in [(&["h2", "http/1.1"][..], true), (&["h2"], false)] {
        let mut config = (*config).clone();
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut client = Tls::connect(&scene.served, &Arc::new(config));
        assert_eq!(client.get("/health").is_ok(), taken, "{offered:?}");
        assert_eq!(client.stream.conn.alpn_protocol(), taken.then_some(&b"http/1.1"[..]));
    }
    scene.ends();
}

#[test]
fn plain_http_is_not_answered_where_tls_is_spoken() {
    let scene = Scene::new();
    let (key, _) = scene.served.place.key(|_| {});
    let (host, more) = (scene.served.address, bearer(&key));
    for request in [
        format!("GET /health HTTP/1.1\r\nHost: {host}\r\n{more}\r\n"),
        "\0\x01\x02garbage\r\n\r\n".repeat(100),
    ] {
        let mut plain = scene.served.client();
        let began = Instant::now();
        plain.write_all(request.as_bytes()).unwrap();
        let mut text = Vec::new();
        drop(plain.read_to_end(&mut text));
        assert!(!String::from_utf8_lossy(&text).contains("HTTP/"), "{text:?}");
        assert!(began.elapsed() < SOON);
    }
    // Metrics stay plain.
    let metrics = format!(
        "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        scene.served.metrics
    );
    assert_eq!(Served::raw_to(scene.served.metrics, metrics.as_bytes()).status, 200);
    assert_eq!(scene.ends(), BTreeMap::new());
}

#[test]
fn who_does_not_get_on_with_a_handshake_keeps_nobody_out() {
    let quick = Patience {
        head: Duration::from_millis(400),
        ..PATIENCE
    };
    // The first that were silent make room for who comes.
    let scene = Scene::with("connections = 16", "", PATIENCE);
    let mut silent: Vec<Client> = (0..40).map(|_| scene.served.client()).collect();
    for client in &mut silent[30..] {
        client.write_all(&[0x16, 0x03, 0x01, 0x02]).unwrap();
    }
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(scene.client(None).status("/health"), 200);
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    // And none of them holds up the end.
    let began = Instant::now();
    scene.ends();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    drop(silent);
    // Nor is anybody waited for, who began or did not.
    let scene = Scene::with("", "", quick);
    for begins in [&[][..], &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]] {
        let mut slow = scene.served.client();
        slow.write_all(begins).unwrap();
        let began = Instant::now();
        assert!(matches!(slow.read(&mut [0; 16]), Ok(0) | Err(_)), "{begins:?}");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
    scene.ends();
}

#[test]
fn a_certificate_says_nothing_to_operators_routes() {
    let scene = Scene::with("", "\n[server.operators]\n", PATIENCE);
    let mut client = scene.client(Some(&scene.prod.workload(SUPPORT)));
    assert_eq!(client.status("/v1/tools"), 200);
    let refused = client.get("/v1/operators/approvals").unwrap();
    assert!(refused.status == 401 && refused.is_problem(), "{}", refused.text);
    scene.ends();
}

#[test]
fn pages_of_the_server_s_own_are_of_its_scheme() {
    let scene = Scene::new();
    let port = scene.served.address.port();
    let mut client = scene.client(Some(&scene.prod.workload(SUPPORT)));
    for (origin, status) in [
        (format!("https://localhost:{port}"), 200),
        (format!("http://localhost:{port}"), 403),
    ] {
        for (method, target, body) in [
            ("GET", "/v1/tools", String::new()),
            ("POST", "/mcp", initialize("2025-11-25")),
        ] {
            let answer = client
                .ask(method, target, &format!("Origin: {origin}\r\n"), &body)
                .unwrap();
            assert_eq!(answer.status, status, "{origin}: {}", answer.text);
        }
    }
    let names = OwnNames::new("127.0.0.1:443".parse().unwrap(), true, None);
    assert!(names.has("localhost") && names.has("localhost:443") && !names.has("localhost:80"));
    assert!(names.has_origin("https://localhost") && !names.has_origin("http://localhost"));
    assert!(names.origins().contains(&"https://localhost:443".to_owned()));
    scene.ends();
}
