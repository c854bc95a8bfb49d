//! Rates, breakers, pauses, retries and dead letters, in whole calls.

use std::collections::VecDeque;
use std::time::Instant;

use ambit_core::flow::Standing;
use ambit_core::ledger::Kind;

use super::*;
use crate::flow::Flow;

/// What a service does with one request.
#[derive(Clone, Debug)]
enum Reply {
    /// Answers with this status, and these header lines.
    Status(u16, &'static str),
    /// Takes the request and closes the connection.
    HangUp,
}

/// A service that does what it is told, one request after another, and answers with 200 after that.
struct Scripted {
    service: Service,
    script: Arc<Mutex<VecDeque<Reply>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        let script = Arc::new(Mutex::new(VecDeque::from_iter(script)));
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (replies, kept) = (Arc::clone(&script), Arc::clone(&heads));
        let service = Service::that(move |mut stream, seen| {
            let head = take(&mut stream);
            kept.lock().push(head);
            seen.fetch_add(1, Ordering::SeqCst);
            let (status, headers) = match replies.lock().pop_front() {
                Some(Reply::HangUp) => return,
                Some(Reply::Status(status, headers)) => (status, headers),
                None => (200, ""),
            };
            let body = r#"{"id":"x"}"#;
            let head = format!(
                "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + body).as_bytes());
            let _ = stream.shutdown(Shutdown::Write);
        });
        Self {
            service,
            script,
            heads,
        }
    }

    fn will(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script.lock().extend(replies);
    }

    fn requests(&self) -> usize {
        self.service.requests()
    }

    /// The idempotency keys of the requests that had one.
    fn keys(&self) -> Vec<String> {
        let heads = self.heads.lock();
        let lines = heads.iter().flat_map(|head| head.lines());
        lines
            .filter_map(|line| line.to_ascii_lowercase().strip_prefix("idempotency-key: ").map(str::to_owned))
            .collect()
    }
}

/// A whole request; its head.
fn take(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A home whose connection and routes say more.
fn home_with(folder: &Path, service: &Scripted, connection: &str, get: &str, change: &str) {
    home(folder, &service.service, "");
    say(folder, connection, get, change);
}

/// Puts more into the configuration of a connection and its routes.
fn say(folder: &Path, connection: &str, get: &str, change: &str) {
    let path = folder.join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text
        .replace("allow_private = true\n", &format!("allow_private = true\n{connection}\n"))
        .replace("\"GET /things/{id}\"\n", &format!("\"GET /things/{{id}}\"\n{get}\n"))
        .replace("\"POST /things/{id}\"\n", &format!("\"POST /things/{{id}}\"\n{change}\n"));
    std::fs::write(path, text).unwrap();
}

/// The codes of the effects that were refused.
fn refusals(host: &Host, function: &str) -> Vec<Code> {
    let answer = host.call(request(function)).unwrap();
    answer.refused_effects.iter().map(|refusal| refusal.code).collect()
}

fn kinds(folder: &Path, wanted: &[Kind]) -> Vec<Kind> {
    let entries = Reader::open(folder).unwrap().entries(0, 10_000).unwrap();
    let kinds = entries.iter().map(ambit_core::ledger::Entry::kind);
    kinds.filter(|kind| wanted.contains(kind)).collect()
}

fn verifies(folder: &Path) {
    let keys = Keys::load(folder).unwrap();
    let reader = Reader::open(folder).unwrap().with_keys(&keys);
    reader.verify(&crate::store::verifier(folder).unwrap(), &[], |_| {}).unwrap();
    reader.check_values(|_| {}).unwrap();
}

fn breaker(folder: &Path) -> Standing {
    let config = Config::load(folder).unwrap();
    let flow = Flow::open(&config, &Reader::open(folder).unwrap()).unwrap();
    flow.standing()[0].breakers[0].1
}

const BREAKER: &str = r#"breaker = { failures = 2, within = "60s", open = "400ms" }"#;
const DOWN: Reply = Reply::Status(500, "");

#[test]
fn a_service_that_fails_is_left_alone_until_a_read_shows_that_it_works() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([DOWN, Reply::HangUp]);
    home_with(folder.path(), &service, BREAKER, "", "");
    let host = open(folder.path()).unwrap();
    assert_eq!(refusals(&host, "post"), []);
    assert_eq!(refusals(&host, "post"), []);
    let opened = Instant::now();
    assert_eq!(refusals(&host, "get"), [Code::Breaker]);
    assert_eq!(refusals(&host, "post"), [Code::Breaker]);
    assert_eq!(service.requests(), 2, "nothing is sent");
    // A process that opens the home goes on from the ledger.
    drop(host);
    assert!(matches!(breaker(folder.path()), Standing::Open { in_a_row: 1, .. }));
    let host = open(folder.path()).unwrap();
    if opened.elapsed() < Duration::from_millis(300) {
        assert_eq!(refusals(&host, "post"), [Code::Breaker]);
    }
    thread::sleep(Duration::from_millis(600));
    assert_eq!(refusals(&host, "post"), [Code::Breaker], "no write shows whether it works");
    assert_eq!(service.requests(), 2);
    service.will([DOWN]);
    assert_eq!(refusals(&host, "get"), []);
    assert_eq!(refusals(&host, "get"), [Code::Breaker], "open again, for longer");
    assert_eq!(service.requests(), 3);
    thread::sleep(Duration::from_millis(1_100));
    assert_eq!(refusals(&host, "both"), []);
    assert_eq!(refusals(&host, "post"), []);
    assert_eq!(service.requests(), 6);
    drop(host);
    let of_breakers = [Kind::BreakerOpened, Kind::BreakerClosed];
    assert_eq!(
        kinds(folder.path(), &of_breakers),
        [Kind::BreakerOpened, Kind::BreakerOpened, Kind::BreakerClosed]
    );
    assert_eq!(breaker(folder.path()), Standing::Closed(0));
    verifies(folder.path());
}

#[test]
fn what_a_service_declines_does_not_open_its_breaker() {
    let folder = tempfile::tempdir().unwrap();
    let no = Reply::Status(404, "");
    let coded = Reply::Status(200, "Content-Encoding: gzip\r\n");
    let service = Scripted::start([no.clone(), no.clone(), no, coded.clone(), coded.clone(), coded]);
    home_with(folder.path(), &service, BREAKER, "", "");
    let host = open(folder.path()).unwrap();
    for _ in 0..7 {
        assert_eq!(refusals(&host, "get"), []);
    }
    assert_eq!(service.requests(), 7);
}

#[test]
fn a_service_that_cannot_be_reached_opens_its_breaker() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([]);
    home_with(folder.path(), &service, BREAKER, "", "");
    let path = folder.path().join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("allow_private = true", "allow_private = true\nconnect_to = \"127.0.0.1:1\"")).unwrap();
    let host = open(folder.path()).unwrap();
    assert_eq!(refusals(&host, "twice"), [Code::Address, Code::Address]);
    assert_eq!(refusals(&host, "get"), [Code::Breaker]);
}

#[test]
fn an_operator_closes_a_breaker() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([DOWN, DOWN]);
    home_with(folder.path(), &service, &BREAKER.replace("400ms", "1h"), "", "");
    let host = open(folder.path()).unwrap();
    assert_eq!(refusals(&host, "twice"), []);
    assert_eq!(refusals(&host, "get"), [Code::Breaker]);
    drop(host);
    assert!(home::reset_connection(folder.path(), "thing").is_err());
    assert_eq!(home::reset_connection(folder.path(), "things").unwrap(), [None]);
    assert_eq!(home::reset_connection(folder.path(), "things").unwrap(), []);
    assert_eq!(refusals(&open(folder.path()).unwrap(), "post"), []);
    verifies(folder.path());
}

#[test]
fn a_route_s_own_breaker_is_its_own_and_shown_to_work_by_reads() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([DOWN, DOWN]);
    home_with(folder.path(), &service, "", "", BREAKER);
    let host = open(folder.path()).unwrap();
    assert_eq!(refusals(&host, "post"), []);
    assert_eq!(refusals(&host, "post"), []);
    assert_eq!(refusals(&host, "post"), [Code::Breaker]);
    assert_eq!(refusals(&host, "get"), [], "another route");
    assert_eq!(refusals(&host, "post"), [Code::Breaker], "that read was before the time");
    thread::sleep(Duration::from_millis(600));
    assert_eq!(refusals(&host, "post"), [Code::Breaker]);
    assert_eq!(refusals(&host, "both"), []);
    verifies(folder.path());
}

#[test]
fn a_rate_holds_over_processes() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([]);
    let hour = r#"rate = { per = "hour", most = 2 }"#;
    home_with(folder.path(), &service, "", hour, "");
    assert_eq!(refusals(&open(folder.path()).unwrap(), "get"), []);
    let host = open(folder.path()).unwrap();
    let answer = host.call(request("twice")).unwrap();
    assert_eq!(answer.refused_effects.len(), 1);
    let refusal = &answer.refused_effects[0];
    assert_eq!(refusal.code, Code::Rate);
    assert!(refusal.message.contains("route `things/things.get` takes 2 in 3600 s"), "{refusal:?}");
    assert_eq!(refusals(&host, "post"), [], "another route");
    drop(host);
    assert_eq!(service.requests(), 3);
    assert_eq!(refusals(&open(folder.path()).unwrap(), "get"), [Code::Rate]);
    let intents = kinds(folder.path(), &[Kind::EffectIntent]);
    assert_eq!(intents.len(), 3, "refused before its intent");
    let config = Config::load(folder.path()).unwrap();
    let flow = Flow::open(&config, &Reader::open(folder.path()).unwrap()).unwrap();
    assert_eq!(flow.standing()[0].rates[0].2, 0);
    verifies(folder.path());
}

#[test]
fn an_effect_waits_for_its_turn() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([]);
    home_with(folder.path(), &service, r#"rate = { per = "second", most = 5, burst = 1 }"#, "", "");
    let host = open(folder.path()).unwrap();
    let started = Instant::now();
    assert_eq!(refusals(&host, "twice"), []);
    assert_eq!(refusals(&host, "post"), []);
    assert!(started.elapsed() >= Duration::from_millis(390), "{:?}", started.elapsed());
    assert_eq!(service.requests(), 3);
}

#[test]
fn a_service_that_asks_for_time_gets_it_whatever_its_body_is_and_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let later = "Retry-After: 60\r\nContent-Encoding: gzip\r\n";
    let service = Scripted::start([Reply::Status(503, later)]);
    home_with(folder.path(), &service, "", "", "");
    let host = open(folder.path()).unwrap();
    assert_eq!(refusals(&host, "get"), []);
    assert_eq!(refusals(&host, "get"), [Code::Rate]);
    drop(host);
    assert_eq!(refusals(&open(folder.path()).unwrap(), "get"), [Code::Rate]);
    assert_eq!(service.requests(), 1);
    assert_eq!(kinds(folder.path(), &[Kind::ServicePaused]).len(), 1);
    verifies(folder.path());
}
