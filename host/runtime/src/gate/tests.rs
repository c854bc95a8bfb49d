//! The gate against a service that does what services, and attackers in their place, do.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambit_core::credential::{TokenEndpoint, TokenSpec};
use ambit_core::digest::Digest;
use ambit_core::effect::{GuestBody, GuestRequest, HttpRequest, Method, Origin, WireLimits};
use ambit_core::error::{Code, Refusal};
use ambit_core::grant::Limits;
use ambit_core::ledger::body::{Asked, CallAccepted, Cause, EffectIntent};
use ambit_core::ledger::{Body, EntryDraft, Principal};
use ambit_core::policy::Mode;
use ambit_core::scope::Tier;
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::resolve::{Endpoint, Resolve, Resolving};
use super::*;
use crate::secret::Secret;
use crate::store::{Batch, Durable, Intent, Keys, Payload, Store, StoreOptions};

const SECRET: &str = "sk_test/4eC39+HqLy=";

/// What the service does after it read one request.
#[derive(Clone)]
enum Act {
    /// Writes this and keeps the connection.
    Answer(Vec<u8>),
    /// Writes this and closes the connection.
    AnswerAndClose(Vec<u8>),
    /// Says nothing.
    Hang,
    /// Closes the connection at once.
    Close,
}

fn answer(text: &str) -> Act {
    Act::Answer(text.replace('\n', "\r\n").into_bytes())
}

fn json(body: &str) -> Act {
    answer(&format!(
        "HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: {}\n\n{body}",
        body.len()
    ))
}

/// A service on loopback. It writes down what it was asked, and on how many connections.
struct Service {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    requests: Vec<String>,
    acts: VecDeque<Act>,
}

impl Service {
    async fn start(tls: Option<TlsAcceptor>, at: &str, acts: impl IntoIterator<Item = Act>) -> Service {
        let listener = TcpListener::bind(at).await.unwrap();
        let seen = Arc::new(Mutex::new(Seen {
            acts: acts.into_iter().collect(),
            ..Seen::default()
        }));
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                let shared = Arc::clone(&shared);
                match tls.clone() {
                    None => drop(tokio::spawn(serve(socket, shared))),
                    Some(tls) => drop(tokio::spawn(async move {
                        if let Ok(stream) = tls.accept(socket).await {
                            serve(stream, shared).await;
                        }
                    })),
                }
            }
        });
        Service { address, seen }
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().requests.clone()
    }

    fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Mutex<Seen>>) {
    while let Some(request) = read_request(&mut stream).await {
        let act = {
            let mut seen = shared.lock().unwrap();
            seen.requests.push(request);
            seen.acts.pop_front()
        };
        match act.unwrap_or(Act::Close) {
            Act::Answer(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.flush().await;
            }
            Act::AnswerAndClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Act::Hang => tokio::time::sleep(Duration::from_secs(60)).await,
            Act::Close => return,
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        text.push(char::from(stream.read_u8().await.ok()?));
    }
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    text.push_str(&String::from_utf8(body).unwrap());
    Some(text)
}

/// An authority, and a service's side of TLS for `name` under it.
fn certificate(name: &str) -> (Authorities, TlsAcceptor) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(params, authority_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new([name.to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let authorities = Authorities::from_pem(authority.pem().as_bytes()).unwrap();
    (authorities, TlsAcceptor::from(Arc::new(config)))
}

fn origin(text: &str) -> Origin {
    text.parse().unwrap()
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec()).unwrap()
}

fn parts(origin_text: &str, service: &Service) -> UpstreamParts {
    UpstreamParts {
        name: "stripe".into(),
        origin: origin(origin_text),
        connect_to: Some(Endpoint::parse(&service.address.to_string()).unwrap()),
        authorities: Authorities::Public,
        allow_private: true,
        trace: false,
        base: Base::Plain(String::new()),
        credential: Some(Shown::Kept(Presented::Bearer, secret(SECRET))),
    }
}

fn bounds() -> Bounds {
    Bounds {
        time: Duration::from_secs(5),
        answer_bytes: 1000,
    }
}

async fn send(up: &Upstream, request: &GuestRequest) -> Result<Sent, SendError> {
    send_with(&Wire::default(), up, request, bounds()).await
}

async fn send_with(wire: &Wire, up: &Upstream, request: &GuestRequest, bounds: Bounds) -> Result<Sent, SendError> {
    wire.exchange(up, &parse(up, request), (&[], None), bounds, None).await
}

/// Under an idempotency key.
async fn send_once(up: &Upstream, request: &GuestRequest, header: &str, key: &str) -> Result<Sent, SendError> {
    Wire::default()
        .exchange(up, &parse(up, request), (&[(header, key)], None), bounds(), None)
        .await
}

fn not_sent(result: Result<Sent, SendError>) -> Refusal {
    match result {
        Err(SendError::NotSent(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn unknown(result: Result<Sent, SendError>) -> String {
    match result {
        Err(SendError::Unknown(failed)) => failed.why,
        other => panic!("{other:?}"),
    }
}

fn unusable(result: Result<Sent, SendError>) -> (u16, String) {
    match result {
        Err(SendError::Unusable { status, failed, .. }) => (status, failed.why),
        other => panic!("{other:?}"),
    }
}

/// A plain service that acts so, and the way to it.
async fn plain(acts: impl IntoIterator<Item = Act>) -> (Service, Upstream) {
    let service = Service::start(None, "127.0.0.1:0", acts).await;
    let up = Upstream::new(parts("http://api.example", &service)).unwrap();
    (service, up)
}

/// Leave to send `request` within `time` of now, as a store in memory gives it.
fn durable(request: HttpRequest, time: Duration) -> Durable {
    let draft = |body: Body| EntryDraft {
        body,
        call: Some("c_aaaaaaaaaaaaaaaaaaaaaaaaaa".into()),
        trace: Some("0123456789abcdef0123456789abcdef".into()),
        principal: Some(Principal {
            agent: "assistant".into(),
            team: "support".into(),
            tenant: "acme".into(),
            user: None,
        }),
        tool: Some(Digest::of(b"tool")),
        policy: Some(Digest::of(b"policy")),
        config: Some(Digest::of(b"config")),
    };
    let asked = Asked {
        args: Digest::of(b"args"),
        function: "refunds.create".into(),
        limits: (&Limits::default()).into(),
        mode: Mode::Execute,
        tier: Tier::Commit,
        tool: "refunds".into(),
    };
    let accepted = CallAccepted {
        arrival: None,
        once: None,
        by: None,
        letter: None,
        asked,
        reserved: vec![],
        rules: vec!["may-call".into()],
        run: None,
        seed: Digest::of(b"seed"),
        undoes: None,
    };
    let wire = request.wire().to_canonical().into_bytes();
    let payload = Payload::new("c_aaaaaaaaaaaaaaaaaaaaaaaaaa", "effect/0/request", wire).unwrap();
    let intent = EffectIntent {
        letter: None,
        asked: None,
        before: None,
        cause: Cause::Guest,
        connection: "stripe".into(),
        effect: request.digest(),
        hold: None,
        import: Some("stripe".into()),
        ordinal: 0,
        request: payload.commitment(),
        reserved: vec![],
        route: "refunds.create".into(),
        rules: vec!["may-commit".into()],
        spend: None,
        tier: Tier::Commit,
        undoes: None,
    };
    let store = Store::memory(Keys::generate().unwrap(), StoreOptions::default()).unwrap();
    let batch = Batch {
        entries: vec![draft(accepted.into()), draft(intent.into())],
        payloads: vec![payload],
        intent: Some(Intent {
            request,
            deadline: std::time::Instant::now() + time,
        }),
        ..Batch::default()
    };
    store.commit(batch).unwrap().durable.unwrap()
}

#[tokio::test]
async fn an_intent_is_leave_to_send_until_its_deadline() {
    let (service, up) = plain([json("1")]).await;
    let request = parse(&up, &post("/v1/refunds", &[], "{}"));
    let late = durable(request.clone(), Duration::ZERO);
    let refusal = not_sent(Wire::default().send(&up, late, &[], bounds()).await);
    assert_eq!(refusal.code, Code::Time, "{refusal}");
    assert_eq!(service.connections(), 0);
    let good = durable(request, Duration::from_secs(60));
    let sent = Wire::default().send(&up, good, &[], bounds()).await.unwrap();
    assert_eq!((sent.status, service.requests().len()), (200, 1));
}

#[tokio::test]
async fn over_tls_the_origin_is_who_is_asked_wherever_the_socket_goes() {
    let (authorities, tls) = certificate("api.example");
    let service = Service::start(Some(tls), "127.0.0.1:0", [json("{}")]).await;
    let up = Upstream::new(UpstreamParts {
        authorities,
        base: Base::Plain("/base".into()),
        ..parts("https://api.example", &service)
    })
    .unwrap();
    let request = post("/v1/refunds", &[("x", "1")], r#"{"amount":5}"#);
    let sent = send_once(&up, &request, "Idempotency-Key", "k1").await.unwrap();
    assert_eq!((sent.status, &sent.body[..]), (200, &b"{}"[..]));
    let wire = &service.requests()[0];
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        *wire,
        format!(
            "POST /base/v1/refunds?x=1 HTTP/1.1\r\nhost: api.example\r\nuser-agent: ambit/{version}\r\naccept-encoding: identity\r\n\
             content-type: application/json\r\ncontent-length: 12\r\nidempotency-key: k1\r\nauthorization: Bearer {SECRET}\r\n\r\n{{\"amount\":5}}"
        )
    );
    assert_eq!(sent.traffic.sent_bytes, wire.len() as u64);
    assert!(sent.traffic.received_bytes > 2);
}

#[tokio::test]
async fn no_more_bytes_go_than_were_said_to_be_the_most() {
    let endless = |status: &str| {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: 99999999\r\n\r\n");
        Act::Answer([head.as_bytes(), &vec![b'x'; 4 << 20]].concat())
    };
    let interim = Act::Answer(b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n".repeat(40_000));
    let acts = [
        json("{}"),
        json("{}"),
        json("{}"),
        json("{}"),
        endless("200 OK"),
        interim,
    ];
    let service = Service::start(None, "127.0.0.1:0", acts).await;
    let up = Upstream::new(UpstreamParts {
        base: Base::Plain("/base".into()),
        credential: Some(Shown::Kept(Presented::Query("key".into()), secret(SECRET))),
        ..parts("http://api.example", &service)
    })
    .unwrap();
    let with = |method: &str| GuestRequest {
        method: method.parse().unwrap(),
        ..get_with("/v1/a%20b", &[("q", "ä")], &[("Accept", "application/json")])
    };
    let own: &[(&str, &str)] = &[("Idempotency-Key", "k1"), ("if-match", "\"v1\"")];
    let answered = [
        with("GET"),
        with("DELETE"),
        with("POST"),
        post("/v1/refunds", &[], r#"{"amount":5}"#),
    ];
    for (number, guest) in answered.iter().enumerate() {
        let request = parse(&up, guest);
        let sent = Wire::default()
            .exchange(&up, &request, (own, None), bounds(), None)
            .await;
        let traffic = sent.unwrap().traffic;
        let most = up.most_bytes(&request, own, bounds().answer_bytes).unwrap();
        assert_eq!(traffic.sent_bytes, service.requests()[number].len() as u64);
        // The request to the byte, and what an answer may be.
        let of_answer = most_received(bounds().answer_bytes);
        assert_eq!(most, traffic.sent_bytes + of_answer, "{:?}", guest.method);
        assert!(traffic.received_bytes <= of_answer);
    }
    for _ in 0..2 {
        let request = parse(&up, &with("GET"));
        let most = up.most_bytes(&request, &[], bounds().answer_bytes).unwrap();
        let traffic = match Wire::default()
            .exchange(&up, &request, (&[], None), bounds(), None)
            .await
        {
            Err(SendError::Unknown(failed) | SendError::Unusable { failed, .. }) => failed.traffic,
            other => panic!("{other:?}"),
        };
        assert!(traffic.received_bytes > 1000, "{traffic:?}");
        assert!(
            traffic.sent_bytes + traffic.received_bytes <= most,
            "{traffic:?} {most}"
        );
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_or_by_another_authority_gets_no_request() {
    let (authorities, tls) = certificate("evil.example");
    let service = Service::start(Some(tls), "127.0.0.1:0", [json("{}"), json("{}")]).await;
    for authorities in [authorities, certificate("api.example").0, Authorities::Public] {
        let up = Upstream::new(UpstreamParts {
            authorities,
            ..parts("https://api.example", &service)
        })
        .unwrap();
        let refusal = not_sent(send(&up, &get("/")).await);
        assert_eq!(refusal.code, Code::Tls, "{refusal}");
    }
    assert!(service.requests().is_empty());
}

#[tokio::test]
async fn trap_07_an_https_origin_is_never_spoken_to_in_the_clear() {
    let service = Service::start(None, "127.0.0.1:0", [json("{}")]).await;
    let up = Upstream::new(parts("https://api.example", &service)).unwrap();
    let bounds = Bounds {
        time: Duration::from_millis(300),
        ..bounds()
    };
    let result = send_with(&Wire::default(), &up, &get("/"), bounds).await;
    assert!(matches!(not_sent(result).code, Code::Tls | Code::Limit));
    assert!(service.requests().iter().all(|request| !request.contains("sk_test")));
}

#[tokio::test]
async fn plain_http_stays_on_this_machine_and_its_networks() {
    let wire = Wire::with_resolver(Arc::new(Turning::new(["8.8.8.8"])));
    let (service, _) = plain([]).await;
    let up = Upstream::new(UpstreamParts {
        connect_to: None,
        ..parts("http://api.example", &service)
    })
    .unwrap();
    let refusal = not_sent(send_with(&wire, &up, &get("/"), bounds()).await);
    assert_eq!(
        refusal.message,
        "api.example:80 would be sent to in the clear, over the Internet"
    );
}

#[tokio::test]
async fn trap_06_private_addresses_get_nothing_unless_allowed() {
    let service = Service::start(None, "127.0.0.1:0", [json("{}")]).await;
    let up = Upstream::new(UpstreamParts {
        allow_private: false,
        ..parts("http://api.example", &service)
    })
    .unwrap();
    assert_eq!(not_sent(send(&up, &get("/")).await).code, Code::Address);
    assert_eq!(service.connections(), 0);
}

#[tokio::test]
async fn trap_06_a_document_at_a_private_address_is_not_read_unless_that_is_allowed() {
    let (authorities, acceptor) = certificate("id.example");
    let service = Service::start(Some(acceptor), "127.0.0.1:0", [json("{}")]).await;
    let way = |allow_private| DocumentWay {
        authorities: authorities.clone(),
        allow_private,
        ..DocumentWay::default()
    };
    let read = async |way: DocumentWay| {
        let url = format!("https://id.example:{}/keys", service.address.port());
        let document = Document::new("id", &url, &way).unwrap();
        let wire = Wire::with_resolver(Arc::new(Turning::new(["127.0.0.1"])));
        wire.read(&document, bounds()).await
    };
    assert_eq!(not_sent(read(way(false)).await).code, Code::Address);
    assert_eq!(service.connections(), 0);
    assert_eq!(read(way(true)).await.unwrap().status, 200);
}

/// A name whose address is another each time it is asked for.
struct Turning(Mutex<VecDeque<&'static str>>);

impl Turning {
    fn new(answers: impl IntoIterator<Item = &'static str>) -> Turning {
        Turning(Mutex::new(answers.into_iter().collect()))
    }
}

impl Resolve for Turning {
    fn resolve<'a>(&'a self, _: &'a str, port: u16) -> Resolving<'a> {
        let answer = self.0.lock().unwrap().pop_front().unwrap();
        Box::pin(async move { Ok(vec![SocketAddr::new(answer.parse().unwrap(), port)]) })
    }
}

#[tokio::test]
async fn trap_06_a_rebinding_name_is_asked_once_and_the_checked_address_is_used() {
    let first = Service::start(None, "127.0.0.1:0", [json("1")]).await;
    let port = first.address.port();
    let second = Service::start(None, &format!("127.0.0.2:{port}"), [json("2")]).await;
    let wire = Wire::with_resolver(Arc::new(Turning::new(["127.0.0.1", "127.0.0.2"])));
    let up = Upstream::new(UpstreamParts {
        connect_to: Some(Endpoint::new("rebinding.example", port).unwrap()),
        ..parts("http://api.example", &first)
    })
    .unwrap();
    let body = |sent: Result<Sent, SendError>| sent.unwrap().body;
    assert_eq!(&body(send_with(&wire, &up, &get("/"), bounds()).await)[..], b"1");
    assert_eq!(second.connections(), 0);
    // The open connection is to an address that the name no longer has.
    assert_eq!(&body(send_with(&wire, &up, &get("/"), bounds()).await)[..], b"2");
    assert_eq!((first.connections(), second.connections()), (1, 1));
}

#[tokio::test]
async fn trap_06_a_rebinding_name_does_not_reach_loopback_over_an_open_connection() {
    let wire = Wire::with_resolver(Arc::new(Turning::new(["127.0.0.1", "169.254.169.254"])));
    let (service, _) = plain([json("1"), json("2")]).await;
    let up = Upstream::new(UpstreamParts {
        connect_to: Some(Endpoint::new("rebinding.example", service.address.port()).unwrap()),
        ..parts("http://api.example", &service)
    })
    .unwrap();
    send_with(&wire, &up, &get("/"), bounds()).await.unwrap();
    let refusal = not_sent(send_with(&wire, &up, &get("/"), bounds()).await);
    assert_eq!(refusal.code, Code::Address);
    assert_eq!(service.requests().len(), 1);
}

#[tokio::test]
async fn trap_07_a_redirect_is_an_answer() {
    let (elsewhere, _) = plain([json("{}")]).await;
    let location = format!("http://{}/", elsewhere.address);
    let (service, up) = plain([answer(&format!(
        "HTTP/1.1 307 Temporary Redirect\nLocation: {location}\nContent-Length: 0\n\n"
    ))])
    .await;
    let sent = send(&up, &get("/")).await.unwrap();
    assert_eq!(sent.status, 307);
    assert!(sent.headers.contains(&("location".into(), location)));
    assert_eq!((service.requests().len(), elsewhere.connections()), (1, 0));
}

#[tokio::test]
async fn trap_09_proxies_of_the_environment_are_not_asked() {
    // Nothing here reads them; the test runs itself again with them set, and must pass as it is.
    let service = Service::start(None, "127.0.0.1:0", [json("{}")]).await;
    let up = Upstream::new(parts("http://api.example", &service)).unwrap();
    if std::env::var_os("HTTP_PROXY").is_some() {
        assert_eq!(send(&up, &get("/")).await.unwrap().status, 200);
        return;
    }
    let proxy = "http://127.0.0.1:1";
    let again = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "gate::tests::trap_09_proxies_of_the_environment_are_not_asked",
        ])
        .envs(
            [
                "HTTP_PROXY",
                "http_proxy",
                "HTTPS_PROXY",
                "https_proxy",
                "ALL_PROXY",
                "all_proxy",
            ]
            .map(|name| (name, proxy)),
        )
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.status.success() && output.contains("1 passed"), "{output}");
}

#[tokio::test]
async fn an_answer_has_a_size() {
    let exact = "x".repeat(1000);
    let larger = "x".repeat(1001);
    let chunked = |body: &str| {
        answer(&format!(
            "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n{:x}\n{body}\n0\n\n",
            body.len()
        ))
    };
    for (act, fits) in [
        (json(&exact), true),
        (json(&larger), false),
        (chunked(&exact), true),
        (chunked(&larger), false),
        (answer("HTTP/1.1 200 OK\nContent-Length: 99999999999999\n\nx"), false),
    ] {
        let (_service, up) = plain([act]).await;
        let result = send_with(
            &Wire::default(),
            &up,
            &get("/"),
            Bounds {
                time: Duration::from_millis(500),
                ..bounds()
            },
        )
        .await;
        match result {
            Ok(sent) => assert!(fits && sent.body.len() == 1000),
            other => assert_eq!((fits, unusable(other).0), (false, 200)),
        }
    }
}

#[tokio::test]
async fn head_and_framing_have_a_size() {
    let many = "X: y\n".repeat(200);
    let large = format!("X: {}\n", "y".repeat(80_000));
    for headers in [many, large] {
        let (_service, up) = plain([answer(&format!("HTTP/1.1 200 OK\n{headers}Content-Length: 0\n\n"))]).await;
        unknown(send(&up, &get("/")).await);
    }
    let interim = "HTTP/1.1 103 Early Hints\nLink: </x>\n\n".repeat(20_000);
    let (_service, up) = plain([answer(&interim)]).await;
    let why = unknown(send(&up, &get("/")).await);
    assert!(why.contains("larger than agreed"), "{why}");
    let extensions = format!("1;{}\nx\n", "e".repeat(8000)).repeat(100);
    let (_service, up) = plain([answer(&format!(
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n{extensions}0\n\n"
    ))])
    .await;
    unusable(send(&up, &get("/")).await);
}

#[tokio::test]
async fn interim_answers_are_passed_over_and_upgrades_are_not_made() {
    let (_service, up) = plain([
        answer("HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Early Hints\n\nHTTP/1.1 204 No Content\n\n"),
        answer("HTTP/1.1 999 Request denied\nContent-Length: 0\n\n"),
        answer("HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: websocket\n\n"),
    ])
    .await;
    assert_eq!(send(&up, &get("/")).await.unwrap().status, 204);
    assert_eq!(unusable(send(&up, &get("/")).await).0, 999);
    let (status, why) = unusable(send(&up, &get("/")).await);
    assert_eq!(
        (status, why.as_str()),
        (101, "the service wants to speak another protocol")
    );
}

#[tokio::test]
async fn a_service_has_a_time() {
    let short = Bounds {
        time: Duration::from_millis(200),
        ..bounds()
    };
    let (service, up) = plain([Act::Hang]).await;
    match send_with(&Wire::default(), &up, &get("/"), short).await {
        Err(SendError::Late(failed)) => assert_eq!(failed.why, "no answer came in time"),
        other => panic!("{other:?}"),
    }
    assert_eq!(service.requests().len(), 1);
    let (_service, up) = plain([answer("HTTP/1.1 200 OK\nContent-Length: 5\n\nab")]).await;
    let (status, why) = unusable(send_with(&Wire::default(), &up, &get("/"), short).await);
    assert_eq!((status, why.as_str()), (200, "the answer did not end in time"));
}

#[tokio::test]
async fn a_handshake_and_a_name_have_a_time_and_nothing_is_sent() {
    let short = Bounds {
        time: Duration::from_millis(200),
        ..bounds()
    };
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (service, _) = plain([]).await;
    let up = Upstream::new(UpstreamParts {
        connect_to: Some(Endpoint::parse(&mute.local_addr().unwrap().to_string()).unwrap()),
        ..parts("https://api.example", &service)
    })
    .unwrap();
    let refusal = not_sent(send_with(&Wire::default(), &up, &get("/"), short).await);
    assert_eq!(refusal.code, Code::Limit, "{refusal}");

    struct Never;
    impl Resolve for Never {
        fn resolve<'a>(&'a self, _: &'a str, _: u16) -> Resolving<'a> {
            Box::pin(std::future::pending())
        }
    }
    let up = Upstream::new(UpstreamParts {
        connect_to: None,
        ..parts("https://api.example", &service)
    })
    .unwrap();
    let refusal = not_sent(send_with(&Wire::with_resolver(Arc::new(Never)), &up, &get("/"), short).await);
    assert_eq!(refusal.message, "api.example:443 did not resolve in time");
}

#[tokio::test]
async fn nobody_listening_is_not_sent() {
    let (service, _) = plain([]).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let up = Upstream::new(UpstreamParts {
        connect_to: Some(Endpoint::parse(&closed.to_string()).unwrap()),
        ..parts("http://api.example", &service)
    })
    .unwrap();
    assert_eq!(not_sent(send(&up, &get("/")).await).code, Code::Address);
}

#[tokio::test]
async fn coded_answers_are_refused() {
    for (header, usable) in [
        ("Content-Encoding: identity", true),
        ("Content-Encoding: gzip", false),
        ("Content-Encoding: identity, br", false),
        ("Content-Encoding: identity\nContent-Encoding: GZIP", false),
        ("Transfer-Encoding: gzip, chunked", false),
        ("Transfer-Encoding: gzip", false),
    ] {
        let text = format!("HTTP/1.1 200 OK\nConnection: close\n{header}\n\n0\r\n\r\n");
        let act = Act::AnswerAndClose(text.replace('\n', "\r\n").replace("\r\r", "\r").into_bytes());
        let (_service, up) = plain([act]).await;
        match send(&up, &get("/")).await {
            Ok(_) => assert!(usable, "{header}"),
            other => assert_eq!((usable, unusable(other).0), (false, 200), "{header}"),
        }
    }
}

#[tokio::test]
async fn credentials_that_come_back_are_covered() {
    let (_service, up) = plain([answer(&format!(
        "HTTP/1.1 401 Unauthorized\nWWW-Authenticate: Bearer realm=\"{SECRET}\"\nContent-Length: {}\n\nyou sent {SECRET}",
        9 + SECRET.len()
    ))])
    .await;
    let sent = send(&up, &get("/")).await.unwrap();
    assert_eq!(&sent.body[..], b"you sent [masked]");
    assert!(
        sent.headers
            .contains(&("www-authenticate".into(), "Bearer realm=\"[masked]\"".into()))
    );
}

#[tokio::test]
async fn a_secret_base_is_sent_and_covered() {
    let (service, _) = plain([]).await;
    let token = "T0000000/B0000000/XXXXXXXXXXXXXXXXXXXXXXXX";
    let hook = Service::start(
        None,
        "127.0.0.1:0",
        [json(&format!("\"no hook {token}, or XXXXXXXXXXXXXXXXXXXXXXXX\""))],
    )
    .await;
    let up = Upstream::new(UpstreamParts {
        base: Base::Secret(secret(&format!("/services/{token}"))),
        credential: None,
        ..parts("http://api.example", &hook)
    })
    .unwrap();
    let sent = send(&up, &post("/", &[], "{}")).await.unwrap();
    assert!(hook.requests()[0].starts_with(&format!("POST /services/{token} HTTP/1.1\r\n")));
    assert!(!String::from_utf8_lossy(&sent.body).contains("XXXXXXXX"), "{sent:?}");
    assert!(!format!("{up:?}").contains("XXXX"));
    let wrong = Upstream::new(UpstreamParts {
        base: Base::Secret(secret("no-slash-XXXXXXXX")),
        ..parts("http://api.example", &service)
    });
    assert_eq!(wrong.unwrap_err(), "the base does not begin with `/`");
}

#[tokio::test]
async fn credentials_stand_where_the_service_wants_them_and_nowhere_else() {
    let header = Presented::Header("x-api-key".parse().unwrap());
    for (presented, line) in [
        (Presented::Bearer, format!("authorization: Bearer {SECRET}")),
        (header, format!("x-api-key: {SECRET}")),
        (
            Presented::Basic("me".into()),
            "authorization: Basic bWU6c2tfdGVzdC80ZUMzOStIcUx5PQ==".into(),
        ),
        (
            Presented::Query("key".into()),
            "GET /a?b=c&key=sk_test%2F4eC39%2BHqLy%3D HTTP/1.1".into(),
        ),
    ] {
        let service = Service::start(None, "127.0.0.1:0", [json("{}")]).await;
        let up = Upstream::new(UpstreamParts {
            credential: Some(Shown::Kept(presented, secret(SECRET))),
            ..parts("http://api.example", &service)
        })
        .unwrap();
        send(&up, &get_with("/a", &[("b", "c")], &[])).await.unwrap();
        let request = &service.requests()[0];
        assert_eq!(request.lines().filter(|l| **l == *line).count(), 1, "{request}");
    }
}

#[tokio::test]
async fn what_the_host_says_the_guest_cannot() {
    let (service, up) = plain([]).await;
    let refused = |code: Code| move |result| assert_eq!(not_sent(result).code, code);
    for name in [
        "host",
        "authorization",
        "transfer-encoding",
        "content-length",
        "connection",
        "proxy-authorization",
        "x-forwarded-for",
    ] {
        assert!(is_hosts_own(name), "{name}");
    }
    let keyed = Upstream::new(UpstreamParts {
        credential: Some(Shown::Kept(
            Presented::Header("x-api-key".parse().unwrap()),
            secret(SECRET),
        )),
        ..parts("http://api.example", &service)
    })
    .unwrap();
    refused(Code::Header)(send(&keyed, &get_with("/", &[], &[("x-api-key", "mine")])).await);
    let query = Upstream::new(UpstreamParts {
        credential: Some(Shown::Kept(Presented::Query("key".into()), secret(SECRET))),
        ..parts("http://api.example", &service)
    })
    .unwrap();
    refused(Code::Query)(send(&query, &get_with("/", &[("key", "mine")], &[])).await);
    let request = get_with("/", &[], &[("x-key", "mine")]);
    refused(Code::Header)(send_once(&up, &request, "X-Key", "k1").await);
    assert_eq!(service.connections(), 0);
}

#[tokio::test]
async fn a_value_with_a_line_end_is_never_put_on_the_line() {
    let (service, up) = plain([]).await;
    for key in ["k\r\nx: y", "k\ny", "k\0"] {
        let result = send_once(&up, &get("/"), "Idempotency-Key", key).await;
        assert_eq!(not_sent(result).code, Code::Header);
    }
    let spaced = Upstream::new(UpstreamParts {
        credential: Some(Shown::Kept(Presented::Bearer, secret("pässword-äöü"))),
        ..parts("http://api.example", &service)
    });
    assert_eq!(
        spaced.unwrap_err(),
        "the credential has a character that cannot stand in a header"
    );
    assert_eq!(service.connections(), 0);
}

#[tokio::test]
async fn a_request_that_needs_a_token_does_not_leave_without() {
    let service = Service::start(None, "127.0.0.1:0", [json("1")]).await;
    let asks = TokenSpec {
        kind: ambit_core::credential::Kind::ClientCredentials,
        origin: origin("http://id.example"),
        path: "/token".to_owned(),
        scopes: std::collections::BTreeSet::new(),
        audience: None,
        resource: None,
        client_id: None,
    };
    let minter = Minter::new(MinterParts {
        name: "stripe".to_owned(),
        asks: TokenEndpoint::new("stripe", asks).unwrap(),
        client: ClientAuth::None,
        assertor: None,
        connect_to: None,
        authorities: Authorities::Public,
        allow_private: true,
    });
    let up = Upstream::new(UpstreamParts {
        credential: Some(Shown::Minted(Box::new(minter.unwrap()))),
        ..parts("http://api.example", &service)
    });
    assert_eq!(not_sent(send(&up.unwrap(), &get("/")).await).code, Code::Credential);
    assert_eq!(service.connections(), 0);
}

#[tokio::test]
async fn a_request_goes_over_its_own_connection_or_not_at_all() {
    let (service, up) = plain([]).await;
    let other = Upstream::new(parts("http://other.example", &service)).unwrap();
    let request = parse(&other, &get("/"));
    let refusal = not_sent(
        Wire::default()
            .exchange(&up, &request, (&[], None), bounds(), None)
            .await,
    );
    assert_eq!(
        refusal.message,
        "a request for http://other.example is not sent over connection `stripe`"
    );
    assert_eq!(service.connections(), 0);
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let (service, up) = plain([json("1"), json("2"), json("3")]).await;
    for body in ["1", "2", "3"] {
        assert_eq!(send(&up, &get("/")).await.unwrap().body, body);
    }
    assert_eq!((service.connections(), service.requests().len()), (1, 3));
}

#[tokio::test]
async fn a_connection_that_died_while_kept_is_not_used() {
    let close = |body: &str| {
        let Act::Answer(bytes) = json(body) else { unreachable!() };
        Act::AnswerAndClose(bytes)
    };
    let (service, up) = plain([close("1"), json("2")]).await;
    assert_eq!(send(&up, &get("/")).await.unwrap().body, "1");
    // Time for the close to arrive.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(send(&up, &get("/")).await.unwrap().body, "2");
    assert_eq!(service.connections(), 2);
}

#[tokio::test]
async fn what_was_written_is_never_written_again() {
    // On a new connection, and on one that was used before and dies with the second request.
    let (service, up) = plain([Act::Close, json("1"), Act::Close, json("2")]).await;
    unknown(send(&up, &get("/")).await);
    assert_eq!(send(&up, &get("/")).await.unwrap().body, "1");
    unknown(send(&up, &get("/")).await);
    assert_eq!((service.connections(), service.requests().len()), (2, 3));
}

#[tokio::test]
async fn an_answer_nobody_asked_for_is_not_the_next_ones() {
    let one = "HTTP/1.1 200 OK\nContent-Length: 1\n\n1";
    let forged = "HTTP/1.1 200 OK\nContent-Length: 6\n\nforged";
    let (service, up) = plain([answer(&format!("{one}{forged}")), json("2")]).await;
    assert_eq!(send(&up, &get("/")).await.unwrap().body, "1");
    assert_eq!(send(&up, &get("/")).await.unwrap().body, "2");
    assert_eq!(service.connections(), 2);
}

#[tokio::test]
async fn connections_are_not_shared_between_credentials() {
    let (service, one) = plain([json("1"), json("2")]).await;
    let other = Upstream::new(parts("http://api.example", &service)).unwrap();
    send(&one, &get("/")).await.unwrap();
    send(&other, &get("/")).await.unwrap();
    assert_eq!(service.connections(), 2);
}

#[tokio::test]
async fn a_service_that_asks_for_time_gets_it() {
    let (service, up) = plain([
        answer("HTTP/1.1 429 Too Many Requests\nRetry-After: 100\nContent-Length: 0\n\n"),
        json("2"),
    ])
    .await;
    up.ready().unwrap();
    assert_eq!(send(&up, &get("/")).await.unwrap().status, 429);
    assert_eq!(up.ready().unwrap_err().code, Code::Rate);
    assert_eq!(not_sent(send(&up, &get("/")).await).code, Code::Rate);
    assert_eq!(service.requests().len(), 1);
}

#[test]
fn bases_are_paths() {
    for (base, expected) in [
        ("", Ok(())),
        ("/v1", Ok(())),
        ("/services/T00/B00/x%2Fy", Ok(())),
        ("v1", Err("does not begin with `/`")),
        ("https://hooks.example/x", Err("does not begin with `/`")),
        ("/v1/", Err("ends with `/`; the paths below it begin with one")),
        ("/", Err("ends with `/`; the paths below it begin with one")),
        ("//evil.example", Err("has an empty or dotted segment")),
        ("/v1/../x", Err("has an empty or dotted segment")),
        (
            "/v1?x=y",
            Err("has a character that a path cannot have; percent-encode it"),
        ),
        (
            "/v1#x",
            Err("has a character that a path cannot have; percent-encode it"),
        ),
        (
            "/v 1",
            Err("has a character that a path cannot have; percent-encode it"),
        ),
        (
            "/v\r\n1",
            Err("has a character that a path cannot have; percent-encode it"),
        ),
        ("/v%1", Err("has a `%` without two hexadecimal digits")),
    ] {
        assert_eq!(check_base(base), expected, "{base}");
    }
}

fn get(path: &str) -> GuestRequest {
    get_with(path, &[], &[])
}

fn get_with(path: &str, query: &[(&str, &str)], headers: &[(&str, &str)]) -> GuestRequest {
    GuestRequest {
        method: Method::Get,
        path: path.into(),
        query: pairs(query),
        headers: pairs(headers),
        body: GuestBody::None,
    }
}

fn post(path: &str, query: &[(&str, &str)], body: &str) -> GuestRequest {
    GuestRequest {
        method: Method::Post,
        body: GuestBody::Json(body.into()),
        ..get_with(path, query, &[])
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

fn parse(up: &Upstream, guest: &GuestRequest) -> HttpRequest {
    HttpRequest::parse(up.origin(), guest, &WireLimits::default()).unwrap()
}
