//! Rates, breakers, pauses, retries and dead letters, in whole calls.

use std::collections::VecDeque;
use std::time::Instant;

use ambit_core::flow::Standing;
use ambit_core::ledger::Kind;

use super::*;
use crate::flow::Flow;
use crate::operators::{self, Answer as Said, Request};

/// What a service does with one request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// Answers with this status, and these header lines.
    Status(u16, &'static str),
    /// Takes the request and closes the connection.
    HangUp,
}

/// A service that does what it is told, one request after another, and answers with 200 after that.
pub(super) struct Scripted {
    pub(super) service: Service,
    script: Arc<Mutex<VecDeque<Reply>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    pub(super) fn start(script: impl IntoIterator<Item = Reply>) -> Self {
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
        Self { service, script, heads }
    }

    pub(super) fn will(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script.lock().extend(replies);
    }

    pub(super) fn requests(&self) -> usize {
        self.service.requests()
    }

    /// The idempotency keys of the requests that had one.
    pub(super) fn keys(&self) -> Vec<String> {
        let heads = self.heads.lock();
        let lines = heads.iter().flat_map(|head| head.lines());
        lines
            .filter_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("idempotency-key: ")
                    .map(str::to_owned)
            })
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
pub(super) fn home_with(folder: &Path, service: &Scripted, connection: &str, get: &str, change: &str) {
    home(folder, &service.service, "");
    say(folder, connection, get, change);
}

/// Puts more into the configuration of a connection and its routes.
pub(super) fn say(folder: &Path, connection: &str, get: &str, change: &str) {
    let path = folder.join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text
        .replace(
            "allow_private = true\n",
            &format!("allow_private = true\n{connection}\n"),
        )
        .replace("\"GET /things/{id}\"\n", &format!("\"GET /things/{{id}}\"\n{get}\n"))
        .replace(
            "\"POST /things/{id}\"\n",
            &format!("\"POST /things/{{id}}\"\n{change}\n"),
        );
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

fn breaker(folder: &Path) -> Standing {
    let config = Config::load(folder).unwrap();
    let flow = Flow::open(&config, &Reader::open(folder).unwrap()).unwrap();
    flow.standing()[0].breakers[0].1
}

const BREAKER: &str = r#"breaker = { failures = 2, within = "60s", open = "400ms" }"#;
pub(super) const DOWN: Reply = Reply::Status(500, "");

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
    assert_eq!(
        refusals(&host, "post"),
        [Code::Breaker],
        "no write shows whether it works"
    );
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
fn a_breaker_counts_failures_over_processes() {
    let folder = tempfile::tempdir().unwrap();
    let coded = Reply::Status(502, "Content-Encoding: gzip\r\n");
    let service = Scripted::start([
        DOWN,
        Reply::Status(200, ""),
        Reply::HangUp,
        Reply::Status(404, ""),
        coded,
    ]);
    let four = BREAKER.replace("failures = 2", "failures = 4").replace("400ms", "1h");
    home_with(folder.path(), &service, &four, "", "");
    let call = |function| refusals(&open(folder.path()).unwrap(), function);
    for expected in [1, 1, 2, 2, 3] {
        assert_eq!(call("post"), []);
        assert_eq!(breaker(folder.path()), Standing::Closed(expected));
    }
    assert!(!kinds(folder.path(), &[Kind::EffectOutcome]).contains(&Kind::BreakerOpened));
    service.will([DOWN]);
    assert_eq!(call("get"), [], "the fourth");
    assert_eq!(call("get"), [Code::Breaker]);
    assert_eq!(
        (service.requests(), kinds(folder.path(), &[Kind::BreakerOpened]).len()),
        (6, 1)
    );
    // Closed by hand, nothing of that counts any more.
    let connection = "things".to_owned();
    operators::act(folder.path(), &Request::ResetConnection { connection }).unwrap();
    assert_eq!(breaker(folder.path()), Standing::Closed(0));
    service.will([DOWN]);
    assert_eq!(call("get"), []);
    assert_eq!(breaker(folder.path()), Standing::Closed(1));
    verifies(folder.path());
}

#[test]
fn each_sending_of_an_effect_counts_for_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([
        Reply::HangUp,
        Reply::Status(503, "Retry-After: 0\r\n"),
        Reply::Status(200, ""),
    ]);
    let many = BREAKER.replace("failures = 2", "failures = 9");
    home_with(folder.path(), &service, &many, "", &format!("{KEYED}\n{many}"));
    let path = folder.path().join("ambit.toml");
    let standing = || {
        let flow = Flow::open(
            &Config::load(folder.path()).unwrap(),
            &Reader::open(folder.path()).unwrap(),
        );
        let [connection] = flow.unwrap().standing().try_into().unwrap();
        connection
            .breakers
            .into_iter()
            .map(|(_, standing)| standing)
            .collect::<Vec<_>>()
    };
    refusals(&open(folder.path()).unwrap(), "post");
    let [shared, own] = [Standing::Closed(0), Standing::Closed(2)];
    assert_eq!(
        standing(),
        [shared, own],
        "the route's own breaker, and not its connection's"
    );
    // What did not leave at last fails too, whatever became of what left before.
    let text = std::fs::read_to_string(&path).unwrap();
    let gone = "allow_private = true\nconnect_to = \"127.0.0.1:1\"";
    std::fs::write(&path, text.replace("allow_private = true", gone)).unwrap();
    refusals(&open(folder.path()).unwrap(), "post");
    assert_eq!(standing(), [shared, Standing::Closed(5)]);
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
    std::fs::write(
        &path,
        text.replace(
            "allow_private = true",
            "allow_private = true\nconnect_to = \"127.0.0.1:1\"",
        ),
    )
    .unwrap();
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
    let reset = |name: &str| {
        let connection = name.to_owned();
        operators::act(folder.path(), &Request::ResetConnection { connection })
    };
    assert!(reset("thing").is_err());
    assert_eq!(reset("things").unwrap(), Said::Closed(vec![None]));
    assert_eq!(reset("things").unwrap(), Said::Closed(Vec::new()));
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
    assert_eq!(
        refusals(&host, "post"),
        [Code::Breaker],
        "that read was before the time"
    );
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
    assert!(
        refusal.message.contains("route `things/things.get` takes 2 in 3600 s"),
        "{refusal:?}"
    );
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
    home_with(
        folder.path(),
        &service,
        r#"rate = { per = "second", most = 5, burst = 1 }"#,
        "",
        "",
    );
    let host = open(folder.path()).unwrap();
    let started = Instant::now();
    assert_eq!(refusals(&host, "twice"), []);
    assert_eq!(refusals(&host, "post"), []);
    assert!(
        started.elapsed() >= Duration::from_millis(390),
        "{:?}",
        started.elapsed()
    );
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

/// The entry that says what became of the last effect.
fn last_outcome(folder: &Path) -> ambit_core::ledger::body::EffectOutcome {
    let entries = Reader::open(folder).unwrap().entries(0, 10_000).unwrap();
    let mut outcomes = entries.iter().filter_map(|entry| match entry.body() {
        Body::EffectOutcome(body) => Some(body.clone()),
        _ => None,
    });
    outcomes.next_back().unwrap()
}

pub(super) const KEYED: &str =
    "idempotency = { header = \"Idempotency-Key\", lifetime = \"1h\" }\nretries = { most = 2, backoff = \"20ms\" }";

#[test]
fn an_effect_is_sent_again_under_its_key_each_time_with_an_entry() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([Reply::HangUp, Reply::Status(503, "Retry-After: 0\r\n")]);
    home_with(folder.path(), &service, "", "", KEYED);
    let host = open(folder.path()).unwrap();
    let answer = host.call(request("post")).unwrap();
    assert!(answer.refused_effects.is_empty());
    assert_eq!(service.requests(), 3);
    let keys = service.keys();
    assert_eq!(
        (keys.len(), keys.iter().collect::<std::collections::BTreeSet<_>>().len()),
        (3, 1)
    );
    drop(host);
    let outcome = last_outcome(folder.path());
    assert_eq!(outcome.attempts, 3);
    assert!(outcome.sent > 200, "of all sendings: {}", outcome.sent);
    let kept = [Kind::EffectIntent, Kind::EffectRetried, Kind::EffectOutcome];
    assert_eq!(
        kinds(folder.path(), &kept),
        [
            Kind::EffectIntent,
            Kind::EffectRetried,
            Kind::EffectRetried,
            Kind::EffectOutcome
        ]
    );
    verifies(folder.path());
    let mut replayer = crate::replay::Replayer::open(folder.path(), Some(Compiler::InProcess)).unwrap();
    assert_eq!(replayer.replay(answer.call.as_str()).unwrap().diverged, None);
}

#[test]
fn retries_end() {
    let down = Reply::Status(502, "");
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start(vec![down; 9]);
    home_with(
        folder.path(),
        &service,
        "",
        "retries = { most = 1, backoff = \"1ms\" }",
        KEYED,
    );
    let host = open(folder.path()).unwrap();
    refusals(&host, "post");
    assert_eq!((service.requests(), last_outcome(folder.path()).attempts), (3, 3));
    refusals(&host, "get");
    assert_eq!(
        (service.requests(), last_outcome(folder.path()).attempts),
        (5, 2),
        "a read needs no key"
    );
    service.script.lock().clear();
    for once in [Reply::Status(400, ""), Reply::Status(429, ""), DOWN] {
        let before = service.requests();
        service.will([once]);
        refusals(&host, "post");
        assert_eq!(service.requests(), before + 1);
    }
    verifies(folder.path());
}

#[test]
fn without_retries_or_beyond_its_key_s_lifetime_nothing_is_sent_again() {
    let plain = "idempotency = { header = \"Idempotency-Key\", lifetime = \"1h\" }";
    let short = "idempotency = { header = \"Idempotency-Key\", lifetime = \"1s\" }\nretries = { most = 2, backoff = \"2500ms\" }";
    for change in ["", plain, short] {
        let folder = tempfile::tempdir().unwrap();
        let service = Scripted::start([Reply::HangUp, Reply::HangUp]);
        home_with(folder.path(), &service, "", "", change);
        refusals(&open(folder.path()).unwrap(), "post");
        assert_eq!(service.requests(), 1, "{change}");
        assert_eq!(last_outcome(folder.path()).attempts, 1);
    }
}

#[test]
fn a_breaker_that_opens_ends_retries() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([Reply::HangUp, Reply::HangUp]);
    let many = KEYED.replace("most = 2", "most = 9");
    home_with(folder.path(), &service, &BREAKER.replace("400ms", "1h"), "", &many);
    refusals(&open(folder.path()).unwrap(), "post");
    assert_eq!((service.requests(), last_outcome(folder.path()).attempts), (2, 2));
    verifies(folder.path());
}

/// Whatever a service does, no more is sent than the ledger says, and what it says last is what was last heard.
#[test]
fn no_more_is_sent_than_the_ledger_says() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([]);
    home_with(folder.path(), &service, "", "", &KEYED.replace("20ms", "1ms"));
    let host = open(folder.path()).unwrap();
    let replies = [
        Reply::HangUp,
        Reply::Status(200, ""),
        Reply::Status(502, ""),
        Reply::Status(503, "Retry-After: 0\r\n"),
        Reply::Status(404, ""),
        Reply::Status(503, "Content-Encoding: gzip\r\n"),
    ];
    let mut number: usize = 1;
    for _ in 0..60 {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        service.script.lock().clear();
        service.will((0..3).map(|nth| replies[(number >> (20 + 8 * nth)) % replies.len()].clone()));
        refusals(&host, "post");
        let sendings = kinds(folder.path(), &[Kind::EffectIntent, Kind::EffectRetried]).len();
        assert_eq!(service.requests(), sendings);
    }
    verifies(folder.path());
}

#[test]
fn what_may_have_happened_is_spent_whatever_is_answered_later() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([Reply::HangUp, Reply::Status(409, "")]);
    home_with(folder.path(), &service, "", "", KEYED);
    let path = folder.path().join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let budget = "[budget.all]\nunit = \"effects\"\nwindow = \"day\"\ncap = 9\n";
    std::fs::write(&path, text + budget).unwrap();
    refusals(&open(folder.path()).unwrap(), "post");
    let outcome = last_outcome(folder.path());
    assert_eq!(
        (outcome.attempts, outcome.settled[0].amount),
        (2, 1),
        "one effect, however often it was sent"
    );
    verifies(folder.path());
}

pub(super) fn letters(folder: &Path) -> Vec<(String, u32)> {
    let letters = Reader::open(folder).unwrap().dead_letters(None, 100).unwrap();
    letters
        .into_iter()
        .map(|(work, _)| (work.call, work.ordinal.unwrap()))
        .collect()
}

#[test]
fn a_dead_letter_is_retried_through_the_gate_under_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([DOWN, DOWN]);
    home_with(folder.path(), &service, "", "", &format!("{KEYED}\ndead_letter = true"));
    let host = open(folder.path()).unwrap();
    let call = host.call(request("both")).unwrap().call.to_string();
    assert_eq!(
        letters(folder.path()),
        [(call.clone(), 2)],
        "the read's route keeps none"
    );
    // Policy decides today.
    drop(host);
    std::fs::write(
        folder.path().join("policy/main.cedar"),
        format!("{POLICY}\n@id(\"no\") forbid (principal, action == Action::\"commit\", resource);"),
    )
    .unwrap();
    let host = open(folder.path()).unwrap();
    let answer = host.retry_dead_letter(&call, 2, false).unwrap();
    assert_eq!(stopped(&answer).unwrap().code, Code::Policy);
    assert_eq!((service.requests(), letters(folder.path()).len()), (2, 1));
    drop(host);
    std::fs::write(folder.path().join("policy/main.cedar"), POLICY).unwrap();
    let host = open(folder.path()).unwrap();
    service.will([DOWN]);
    // It fails again: another letter, of the same key.
    let again = host.retry_dead_letter(&call, 2, false).unwrap();
    assert!(matches!(again.outcome, Outcome::ToolError(_)), "{again:?}");
    assert!(host.retry_dead_letter(&call, 2, false).is_err(), "taken once");
    let again = again.call.to_string();
    assert_eq!(letters(folder.path()), [(again.clone(), 1)]);
    let done = host.retry_dead_letter(&again, 1, false).unwrap();
    assert!(matches!(done.outcome, Outcome::Ok(_)), "{done:?}");
    assert_eq!(letters(folder.path()), []);
    let keys = service.keys();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    drop(host);
    verifies(folder.path());
    let mut replayer = crate::replay::Replayer::open(folder.path(), Some(Compiler::InProcess)).unwrap();
    let refused = replayer.replay(done.call.as_str()).unwrap_err().to_string();
    assert!(refused.contains("no guest ran"), "{refused}");
}

#[test]
fn a_dead_letter_is_retried_for_its_own_caller_and_to_its_own_place() {
    let another_team = |text: &str| text.replace("team = \"support\"", "team = \"sales\"");
    let another_route = |text: &str| {
        format!("{text}\n[connection.things.route.\"things.first\"]\nmatch = \"POST /things/1\"\nreads = [\"id\"]\n")
    };
    let changes = [
        (Box::new(another_team) as Box<dyn Fn(&str) -> String>, "another team"),
        (Box::new(another_route), "would go to"),
    ];
    for (change, why) in changes {
        let folder = tempfile::tempdir().unwrap();
        let service = Scripted::start([DOWN]);
        home_with(folder.path(), &service, "", "", &format!("{KEYED}\ndead_letter = true"));
        let host = open(folder.path()).unwrap();
        let call = host.call(request("post")).unwrap().call.to_string();
        drop(host);
        let path = folder.path().join("ambit.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, change(&text)).unwrap();
        let host = open(folder.path()).unwrap();
        let answer = host.retry_dead_letter(&call, 1, false).unwrap();
        let refused = stopped(&answer).unwrap();
        assert!(refused.message.contains(why), "{refused:?}");
        assert_eq!((service.requests(), letters(folder.path()).len()), (1, 1));
    }
}

#[test]
fn a_dead_letter_whose_key_is_forgotten_needs_another() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([DOWN, DOWN]);
    let change = "idempotency = { header = \"Idempotency-Key\", lifetime = \"1s\" }\ndead_letter = true";
    home_with(folder.path(), &service, "", "", change);
    let host = open(folder.path()).unwrap();
    let call = host.call(request("post")).unwrap().call.to_string();
    thread::sleep(Duration::from_millis(1_100));
    let refused = host.retry_dead_letter(&call, 1, false).unwrap_err().to_string();
    assert!(refused.contains("does not recognise the effect any more"), "{refused}");
    assert_eq!((service.requests(), letters(folder.path()).len()), (1, 1));
    let again = host.retry_dead_letter(&call, 1, true).unwrap();
    assert!(matches!(again.outcome, Outcome::ToolError(_)), "{again:?}");
    let keys = service.keys();
    assert_ne!(keys[0], keys[1]);
    drop(host);
    let [(call, ordinal)] = letters(folder.path()).try_into().unwrap();
    let why = ambit_core::ledger::body::Dropped::DoneByHand;
    let give_up = |effect| {
        let call = call.clone();
        operators::act(folder.path(), &Request::DropLetter { call, effect, why })
    };
    assert!(give_up(2).is_err());
    give_up(ordinal).unwrap();
    assert!(give_up(ordinal).is_err());
    assert_eq!(letters(folder.path()), []);
    assert_eq!(kinds(folder.path(), &[Kind::DeadLetterDropped]).len(), 1);
    verifies(folder.path());
}

#[test]
fn a_dead_letter_that_was_done_is_not_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([Reply::HangUp, Reply::HangUp]);
    let change = "idempotency = { header = \"Idempotency-Key\", lifetime = \"1h\" }\ndead_letter = true";
    home_with(folder.path(), &service, "", "", change);
    let host = open(folder.path()).unwrap();
    let one = host.call(request("post")).unwrap().call.to_string();
    let other = host.call(request("post")).unwrap().call.to_string();
    let found = |call: &str, found| host.settle_doubt(call, None, found, None).unwrap();
    found(&one, ambit_core::ledger::body::Found::Done);
    found(&other, ambit_core::ledger::body::Found::NotDone);
    let refused = host.retry_dead_letter(&one, 1, false).unwrap_err().to_string();
    assert!(refused.contains("was done"), "{refused}");
    assert_eq!(service.requests(), 2);
    assert!(matches!(
        host.retry_dead_letter(&other, 1, false).unwrap().outcome,
        Outcome::Ok(_)
    ));
    assert_eq!(letters(folder.path()), [(one, 1)]);
    verifies(folder.path());
}

#[test]
fn no_guest_goes_on_with_a_retry() {
    let folder = tempfile::tempdir().unwrap();
    let service = Scripted::start([DOWN]);
    home_with(folder.path(), &service, "", "", &format!("{KEYED}\ndead_letter = true"));
    // A budget of calls: the acceptance is durable before anything else of the call.
    let path = folder.path().join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let budget = "[budget.all]\nunit = \"calls\"\nwindow = \"day\"\ncap = 9\n";
    std::fs::write(&path, text + budget).unwrap();
    let host = open(folder.path()).unwrap();
    let call = host.call(request("post")).unwrap().call.to_string();
    drop(host);
    let faults = Faults::after(1, Step::BeforeCommit, Fault::Io);
    let options = HostOptions {
        compiler: Some(Compiler::InProcess),
        faults,
        ..HostOptions::default()
    };
    let host = Host::open(Config::load(folder.path()).unwrap(), options).unwrap();
    assert!(host.retry_dead_letter(&call, 1, false).is_err());
    drop(host);
    let host = open(folder.path()).unwrap();
    let unended = host.unended().unwrap();
    assert_eq!(unended.len(), 1);
    let ended = host.resume(&unended[0].story.call, None).unwrap();
    assert!(
        stopped(&ended).unwrap().message.contains("no guest goes on"),
        "{ended:?}"
    );
    assert_eq!((service.requests(), letters(folder.path()).len()), (1, 1));
    verifies(folder.path());
}
