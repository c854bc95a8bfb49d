//! Webhooks, in whole calls: what is told, to whom, how often, and what becomes of it when nobody takes it.

use std::collections::VecDeque;
use std::time::Instant;

use ambit_core::hold::Standing;
use ambit_core::ledger::Kind;
use ambit_core::ledger::body::{BudgetWarned, ReloadedBy};
use ambit_core::metrics::names;
use ambit_core::stop::{Kind as StopKind, Scope, Stop};
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::flow::{DOWN, Scripted, home_with};
use super::holds::{ONE, approve, held, reviewed};
use super::recovery::failing;
use super::*;
use crate::gate::Wire;
use crate::operators::{Answer as Said, Desk, Request};
use crate::store::{Batch, Progress};
use crate::webhooks::{self, Deliveries, Row};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Waits are so many times shorter.
const PACE: u64 = 1_000;

/// What a receiver does with one message.
#[derive(Clone, Copy)]
enum Reply {
    /// Answers with this status, and these header lines.
    Status(u16, &'static str),
    /// Never answers.
    Silence,
    /// Answers with 200 and a body without an end.
    Flood,
}

/// A message as it came.
#[derive(Clone, Debug)]
struct Received {
    head: String,
    body: String,
    at: Instant,
}

impl Received {
    fn header(&self, name: &str) -> String {
        let of = |line: &str| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        };
        self.head.lines().find_map(of).unwrap_or_default()
    }

    fn id(&self) -> String {
        self.header("webhook-id")
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }

    /// Verifies the signature as a receiver does, by another library than the one that made it.
    fn verify(&self, secret: &str) {
        let key = BASE64
            .decode(secret.strip_prefix("whsec_").unwrap().as_bytes())
            .unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
        let text = format!("{}.{}.{}", self.id(), self.header("webhook-timestamp"), self.body);
        let shown = self.header("webhook-signature");
        let verified = shown.split(' ').any(|one| {
            let tag = one.strip_prefix("v1,").unwrap();
            let tag = BASE64.decode(tag.as_bytes()).unwrap();
            ring::hmac::verify(&key, text.as_bytes(), &tag).is_ok()
        });
        assert!(verified, "{self:?}");
    }
}

/// Whoever is told. Does what it is told to, one message after another, and takes all after that.
struct Receiver {
    port: u16,
    seen: Arc<Mutex<Vec<Received>>>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
}

impl Receiver {
    fn start(replies: impl IntoIterator<Item = Reply>) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Received>>> = Arc::default();
        let replies = Arc::new(Mutex::new(VecDeque::from_iter(replies)));
        let (kept, script) = (Arc::clone(&seen), Arc::clone(&replies));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, script) = (Arc::clone(&kept), Arc::clone(&script));
                thread::spawn(move || serve(stream.unwrap(), &kept, &script));
            }
        });
        Receiver { port, seen, replies }
    }

    fn will(&self, replies: impl IntoIterator<Item = Reply>) {
        self.replies.lock().extend(replies);
    }

    fn seen(&self) -> Vec<Received> {
        self.seen.lock().clone()
    }

    /// The types of what came, in order.
    fn kinds(&self) -> Vec<String> {
        self.seen().iter().map(Received::kind).collect()
    }

    /// Waits until so many messages came, and a moment more: no more than that did.
    #[track_caller]
    fn wait(&self, count: usize) -> Vec<Received> {
        until(|| self.seen.lock().len() >= count);
        thread::sleep(Duration::from_millis(50));
        let seen = self.seen();
        assert_eq!(seen.len(), count, "{seen:?}");
        seen
    }

    /// A webhook that this is the receiver of.
    fn webhook(&self, name: &str, events: &str, more: &str) -> String {
        format!(
            "[webhook.{name}]\nurl = \"http://127.0.0.1:{}/in?to={name}\"\nallow_private = true\n\
             secret = {{ file = \"pager.secret\" }}\nevents = [{events}]\n{more}\n",
            self.port
        )
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Received>>, script: &Mutex<VecDeque<Reply>>) {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if !stream.read(&mut byte).is_ok_and(|read| read == 1) {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut received = Received {
        head,
        body: String::new(),
        at: Instant::now(),
    };
    let mut body = vec![0; received.header("content-length").parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    received.body = String::from_utf8(body).unwrap();
    let reply = script.lock().pop_front().unwrap_or(Reply::Status(204, ""));
    seen.lock().push(received);
    match reply {
        Reply::Status(status, headers) => {
            let head = format!("HTTP/1.1 {status} Said\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n");
            drop(stream.write_all(head.as_bytes()));
        }
        Reply::Silence => thread::sleep(Duration::from_secs(60)),
        Reply::Flood => {
            drop(stream.write_all(b"HTTP/1.1 200 Said\r\nTransfer-Encoding: chunked\r\n\r\n"));
            let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
            while stream.write_all(chunk.as_bytes()).is_ok() {}
        }
    }
}

#[track_caller]
fn until(mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(30), "it does not happen");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A host that serves, and sends the messages of its webhooks.
struct Serving {
    // Before the host: it goes first.
    deliveries: Option<Deliveries>,
    host: Host,
}

impl Serving {
    fn open(folder: &Path) -> Serving {
        std::fs::write(folder.join("pager.secret"), SECRET).unwrap();
        let host = opened(folder);
        let deliveries = host.deliver_webhooks_at(PACE).unwrap();
        let serving = Serving {
            deliveries: Some(deliveries),
            host,
        };
        // From here on what is written is told.
        let names = serving.host.shared.hooks.len();
        until(|| serving.host.reader().unwrap().webhooks().unwrap().len() == names);
        serving
    }

    fn stop(&self, scope: Scope) {
        let stop = Stop {
            kind: StopKind::Kill,
            scope,
        };
        crate::stops::set(&self.host.shared.store, &stop, "a reason nobody else reads", None).unwrap();
    }

    fn lift(&self, scope: Scope) {
        let stop = Stop {
            kind: StopKind::Kill,
            scope,
        };
        crate::stops::lift(&self.host.shared.store, &stop, None, None).unwrap();
    }

    fn undelivered(&self) -> Vec<crate::store::Undelivered> {
        self.host.reader().unwrap().undelivered().unwrap()
    }

    /// Waits until so many messages of a webhook came to this: it is counted after it is kept.
    #[track_caller]
    fn counts(&self, webhook: &str, outcome: &str, count: u64) {
        let counted = || {
            let metrics = self.host.metrics().unwrap();
            metrics.count(&names::WEBHOOKS, &[webhook, outcome])
        };
        until(|| counted() >= count);
        assert_eq!(counted(), count);
    }
}

/// An agent of nobody's: a stop of it is an event, and stops nothing else here.
fn somebody(nth: u32) -> Scope {
    Scope::Agent(format!("somebody-{nth}"))
}

/// A host that could send the messages of its webhooks, and does not yet.
fn opened(folder: &Path) -> Host {
    let options = HostOptions {
        compiler: Some(Compiler::InProcess),
        webhooks: true,
        ..HostOptions::default()
    };
    Host::open(Config::load(folder).unwrap(), options).unwrap()
}

/// The home's files as they would be without its webhook, which stands last in them.
fn without_webhooks(folder: &Path) -> Config {
    let path = folder.join("ambit.toml");
    let with = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, with.split_once("[webhook.pager]").unwrap().0).unwrap();
    let config = Config::load(folder).unwrap();
    std::fs::write(&path, &with).unwrap();
    config
}

/// A home with these webhooks, which serves.
fn serving(folder: &Path, webhooks: &str) -> Serving {
    home(folder, &Service::start(), webhooks);
    Serving::open(folder)
}

fn kinds(host: &Host, kind: Kind) -> usize {
    let all = host.reader().unwrap().entries(0, 10_000).unwrap();
    all.iter().filter(|entry| entry.kind() == kind).count()
}

const STOPS: &str = "\"stop.placed\", \"stop.lifted\"";

#[test]
fn a_held_effect_is_told_signed_and_without_a_value_of_its_call() {
    let folder = tempfile::tempdir().unwrap();
    let (service, receiver) = (Service::start(), Receiver::start([]));
    drop(reviewed(
        folder.path(),
        &service,
        ONE,
        &receiver.webhook("pager", "\"hold.*\"", ""),
    ));
    let serving = Serving::open(folder.path());
    let answer = serving.host.call(request("both")).unwrap();
    let held = held(&answer);
    let told = receiver.wait(1).remove(0);
    assert!(told.head.starts_with("POST /in?to=pager HTTP/1.1\r\n"), "{}", told.head);
    assert_eq!(told.header("content-type"), "application/json");
    told.verify(SECRET);
    assert!(told.id().starts_with("msg_"), "{}", told.id());
    let (json, data) = (told.json(), &told.json()["data"]);
    assert_eq!(json["type"], "hold.created");
    assert_eq!(data["hold"], json!(held.hold));
    assert_eq!(data["call"], answer.call.as_str());
    assert_eq!(
        (&data["tool"], &data["agent"], &data["user"]),
        (&json!("things"), &json!("assistant"), &json!("ada"))
    );
    assert_eq!(
        (&data["connection"], &data["route"], &data["tier"]),
        (&json!("things"), &json!("things.change"), &json!("commit"))
    );
    assert_eq!(data["needs"], json!([{ "reviewer": 1 }]));
    let id: String = held.hold.to_hex().chars().take(12).collect();
    assert_eq!(data["next"], format!("`ambit approvals show {id}`"));
    assert!(!told.body.contains("/things/1"), "{}", told.body);
    assert_eq!(approve(&serving.host, &held, "rita").unwrap(), Standing::Approved);
    serving.host.resume(answer.call.as_str(), None).unwrap();
    let ended = receiver.wait(2).remove(1).json();
    assert_eq!(
        (&ended["type"], &ended["data"]["end"]),
        (&json!("hold.ended"), &json!("passed"))
    );
    assert_eq!(ended["data"]["hold"], json!(held.hold));
    serving.counts("pager", "delivered", 2);
}

#[test]
fn a_kill_is_told_to_those_whom_it_concerns() {
    let folder = tempfile::tempdir().unwrap();
    let (pager, acme) = (Receiver::start([]), Receiver::start([]));
    let both = pager.webhook("pager", STOPS, "") + &acme.webhook("acme", STOPS, "tenant = \"acme\"");
    let serving = serving(folder.path(), &both);
    serving.stop(Scope::Tenant("other".to_owned()));
    serving.stop(Scope::Tenant("acme".to_owned()));
    serving.lift(Scope::Tenant("acme".to_owned()));
    serving.stop(Scope::Everything);
    let all = pager.wait(4);
    assert_eq!(
        pager.kinds(),
        ["stop.placed", "stop.placed", "stop.lifted", "stop.placed"]
    );
    assert_eq!(all[0].json()["data"]["scope"], json!(Scope::Tenant("other".to_owned())));
    assert_eq!(all[0].json()["data"]["kind"], "kill");
    assert!(!all[0].body.contains("nobody else reads"), "{}", all[0].body);
    let some = acme.wait(3);
    assert_eq!(acme.kinds(), ["stop.placed", "stop.lifted", "stop.placed"]);
    // The same event has another id at another receiver.
    assert_ne!(all[1].id(), some[0].id());
    // An agent is its tenant's, and one that nobody knows is nobody's.
    serving.stop(somebody(1));
    serving.stop(Scope::Agent("assistant".to_owned()));
    let agent = acme.wait(4).remove(3).json();
    assert_eq!(agent["data"]["scope"], json!(Scope::Agent("assistant".to_owned())));
    assert_eq!(agent["data"]["tenant"], "acme");
}

#[test]
fn a_stopped_run_and_a_budget_s_warning_are_told_to_whom_they_concern() {
    const BUDGETS: &str = "[agent.other]\nteam = \"t\"\ntenant = \"other\"\n\
        [budget.acme]\nunit = \"effects\"\nwindow = \"month\"\ncap = 5\nwarn = 20\ntenant = \"acme\"\nroute = \"things/things.change\"\n\
        [budget.all]\nunit = \"calls\"\nwindow = \"month\"\ncap = 5\nwarn = 20\n";
    let folder = tempfile::tempdir().unwrap();
    let (acme, other, things) = (Receiver::start([]), Receiver::start([]), Receiver::start([]));
    let events = "\"budget.*\", \"stop.placed\"";
    let webhooks = acme.webhook("acme", events, "tenant = \"acme\"")
        + &other.webhook("other", events, "tenant = \"other\"")
        + &things.webhook("things", events, "connection = \"things\"");
    let serving = serving(folder.path(), &format!("{BUDGETS}{webhooks}"));
    serving.host.call(request("post")).unwrap();
    let warned = acme.wait(1).remove(0).json();
    assert_eq!(warned["type"], "budget.warning");
    let data = &warned["data"];
    assert_eq!(
        (&data["budget"], &data["tenant"], &data["connection"]),
        (&json!("acme"), &json!("acme"), &json!("things"))
    );
    assert_eq!(things.wait(1)[0].json()["data"]["budget"], "acme", "of all is of none");
    let run = serving.host.start_run(&runs::new_run()).unwrap().id().to_owned();
    serving.stop(Scope::Run(run.clone()));
    let stopped = acme.wait(2).remove(1).json();
    assert_eq!(stopped["data"]["tenant"], "acme");
    assert_eq!(stopped["data"]["scope"], json!(Scope::Run(run)));
    other.wait(0);
}

#[test]
fn a_message_is_sent_again_under_its_id_and_not_before_its_receiver_wants() {
    let folder = tempfile::tempdir().unwrap();
    let later = Reply::Status(429, "Retry-After: 1\r\n");
    let receiver = Receiver::start([Reply::Status(500, ""), later]);
    let serving = serving(folder.path(), &receiver.webhook("pager", STOPS, ""));
    serving.stop(somebody(1));
    serving.stop(somebody(2));
    let seen = receiver.wait(4);
    assert_eq!([&seen[1].id(), &seen[2].id()], [&seen[0].id(), &seen[0].id()]);
    assert_ne!(seen[3].id(), seen[0].id(), "one after another");
    assert!(seen[2].at.duration_since(seen[1].at) >= Duration::from_millis(950));
    seen.iter().for_each(|one| one.verify(SECRET));
    serving.counts("pager", "delivered", 2);
    assert!(serving.undelivered().is_empty());
}

/// While it rests nothing is tried, so that counts for nothing, however often it is looked.
#[test]
fn a_rest_that_a_receiver_asked_for_is_no_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start([Reply::Status(429, "Retry-After: 1\r\n")]);
    receiver.will(std::iter::repeat_n(Reply::Status(500, ""), 100_000));
    let serving = serving(folder.path(), &receiver.webhook("pager", STOPS, "give_up = \"2s\""));
    serving.stop(somebody(1));
    until(|| serving.undelivered().len() == 1);
    let dead = serving.undelivered().remove(0).failed;
    assert!(dead.attempts >= 2, "{dead:?}");
    assert_eq!(dead.attempts as usize, receiver.seen().len());
    serving.counts("pager", "failed", u64::from(dead.attempts));
}

#[test]
fn what_nobody_takes_is_given_up_on_the_ledger_and_sent_again_by_an_operator() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start([Reply::Status(500, ""); 3]);
    // The waits of an hour come to three milliseconds: what ends it is its time.
    receiver.will(std::iter::repeat_n(Reply::Status(500, ""), 100_000));
    let serving = serving(folder.path(), &receiver.webhook("pager", STOPS, "give_up = \"1s\""));
    serving.stop(somebody(1));
    until(|| serving.undelivered().len() == 1);
    let dead = serving.undelivered().remove(0);
    assert_eq!((dead.failed.status, dead.failed.code), (Some(500), None));
    assert!(dead.failed.attempts >= 2, "{dead:?}");
    let id = dead.failed.message.id.clone();
    assert!(receiver.seen().iter().all(|one| one.id() == id));
    serving.counts("pager", "dead", 1);
    // It does not hold up what comes after it.
    receiver.replies.lock().clear();
    let before = receiver.seen().len();
    serving.stop(somebody(2));
    receiver.wait(before + 1);
    // Only what was given up is sent again.
    let desk = |request: Request| Desk::new(folder.path(), || panic!("a host runs")).act(&request, None);
    let none = desk(Request::RetryMessage {
        message: "msg_none".to_owned(),
    });
    assert!(none.unwrap_err().to_string().contains("msg_none"));
    let again = desk(Request::RetryMessage { message: id.clone() }).unwrap();
    assert!(matches!(again, Said::Message(message) if message.id == id));
    assert_eq!(receiver.wait(before + 2).pop().unwrap().id(), id);
    assert!(serving.undelivered().is_empty());
    let twice = desk(Request::RetryMessage { message: id.clone() });
    assert!(twice.is_err(), "it is left no more");
    assert_eq!(kinds(&serving.host, Kind::WebhookRetried), 1);
    drop(serving);
    verifies(folder.path());
}

/// What is printed for people, and answered over HTTP, is of the ledger and the configuration alone.
#[test]
fn how_webhooks_stand_is_said_with_what_waits_and_what_nobody_took() {
    let folder = tempfile::tempdir().unwrap();
    let down = || std::iter::repeat_n(Reply::Status(500, ""), 100_000);
    let (pager, chat) = (Receiver::start(down()), Receiver::start([]));
    let both = pager.webhook("pager", "\"stop.placed\"", "") + &chat.webhook("chat", STOPS, "");
    let serving = serving(folder.path(), &both);
    (1..=3).for_each(|nth| serving.stop(somebody(nth)));
    serving.lift(somebody(3));
    chat.wait(4);
    until(|| !pager.seen().is_empty());
    let standing = || {
        let reader = serving.host.reader().unwrap();
        let all = webhooks::standing(&reader, serving.host.config()).unwrap();
        let all = all.iter().map(|one| crate::documents::webhook(one, folder.path()));
        all.collect::<Vec<_>>()
    };
    until(|| standing()[0]["waiting"] == 0);
    let all = standing();
    assert_eq!((&all[0]["name"], &all[1]["name"]), (&json!("chat"), &json!("pager")));
    assert_eq!((&all[1]["waiting"], &all[1]["entries_behind"]), (&json!(3), &json!(4)));
    assert_eq!(all[1]["url"], json!(format!("http://127.0.0.1:{}/in", pager.port)));
    assert_eq!((&all[1]["dead"], all[1].get("truncated")), (&json!(0), None));
    // When one was taken last, and which is tried again.
    assert!(
        all[0]["last_taken"].is_string() && all[0]["tried"].is_null(),
        "{:#}",
        all[0]
    );
    until(|| standing()[1]["tried"]["attempts"].as_u64() >= Some(2));
    let tried = &standing()[1]["tried"];
    assert_eq!(
        (&tried["status"], &tried["message"]),
        (&json!(500), &json!(pager.seen()[0].id()))
    );
}

/// A receiver that is down for long is not asked more often by hosts that begin anew, and is given up when it is due.
#[test]
fn how_often_a_message_was_tried_and_when_it_is_tried_next_outlives_a_host() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(std::iter::repeat_n(Reply::Status(500, ""), 100_000));
    let serving = serving(folder.path(), &receiver.webhook("pager", STOPS, "give_up = \"4s\""));
    serving.stop(somebody(1));
    let tried = || {
        Reader::open(folder.path()).unwrap().webhooks().unwrap()["pager"]
            .tried
            .clone()
    };
    // The fifth comes to nothing within a second, and the sixth is more than another one later.
    until(|| tried().is_some_and(|tried| tried.attempts >= 5));
    drop(serving);
    let (before, kept) = (receiver.seen().len(), tried().unwrap());
    // Of one that was under way when the host ended nobody knows what came.
    let unknown = before - kept.attempts as usize;
    assert!(unknown <= 1 && kept.status == Some(500), "{kept:?} of {before}");
    let (now, now_ms) = (Instant::now(), crate::clock::now_ms());
    let serving = Serving::open(folder.path());
    until(|| receiver.seen().len() > before);
    let left = Duration::from_millis(u64::try_from(kept.next_ms - now_ms).unwrap_or_default());
    let waited = receiver.seen()[before].at.duration_since(now);
    assert!(waited + Duration::from_millis(20) >= left, "{waited:?} of {left:?}");
    until(|| serving.undelivered().len() == 1);
    let dead = serving.undelivered().remove(0).failed;
    assert_eq!(dead.attempts as usize + unknown, receiver.seen().len());
    assert_eq!(serving.host.reader().unwrap().webhooks().unwrap()["pager"].tried, None);
    drop(serving);
    verifies(folder.path());
}

/// Whose webhook is taken out of the file while an operator's retry is under way is told so, and can have it sent again when it is back.
#[test]
fn what_is_to_be_sent_again_to_a_webhook_that_is_taken_out_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let down = || std::iter::repeat_n(Reply::Status(500, ""), 100_000);
    let receiver = Receiver::start(down());
    let serving = serving(folder.path(), &receiver.webhook("pager", STOPS, "give_up = \"1s\""));
    serving.stop(somebody(1));
    until(|| serving.undelivered().len() == 1);
    let id = serving.undelivered().remove(0).failed.message.id;
    let path = folder.path().join("ambit.toml");
    let with = std::fs::read_to_string(&path).unwrap().replace("\"1s\"", "\"600s\"");
    let (without, _) = with.split_once("[webhook.pager]").unwrap();
    let take = |text: &str| {
        std::fs::write(&path, text).unwrap();
        serving.host.reload(ReloadedBy::Operator).unwrap();
    };
    take(&with);
    let retry = || {
        let request = Request::RetryMessage { message: id.clone() };
        Desk::new(folder.path(), || panic!("a host runs")).act(&request, None)
    };
    let before = receiver.seen().len();
    retry().unwrap();
    assert!(serving.undelivered().is_empty());
    until(|| receiver.seen().len() > before);
    // What comes after it is forgotten with its webhook, as nobody asked for that.
    serving.stop(somebody(2));
    take(without);
    until(|| serving.undelivered().len() == 1);
    let dead = serving.undelivered().remove(0).failed;
    assert_eq!(
        (&dead.message.id, dead.code, dead.status),
        (&id, Some(Code::Config), None)
    );
    assert!(dead.attempts as usize <= receiver.seen().len() - before, "{dead:?}");
    serving.counts("pager", "dead", 2);
    assert!(retry().unwrap_err().to_string().contains("no webhook `pager` any more"));
    // Once only, however often the files are taken.
    take(without);
    receiver.replies.lock().clear();
    take(&with);
    until(|| serving.host.reader().unwrap().webhooks().unwrap().len() == 1);
    let seen = receiver.seen().len();
    retry().unwrap();
    assert_eq!(receiver.wait(seen + 1).pop().unwrap().id(), id);
    until(|| {
        serving.host.reader().unwrap().webhooks().unwrap()["pager"]
            .taken_ms
            .is_some()
    });
    // It was taken: there is nothing to give up.
    take(without);
    until(|| serving.host.reader().unwrap().webhooks().unwrap().is_empty());
    assert!(serving.undelivered().is_empty());
    assert_eq!(kinds(&serving.host, Kind::WebhookFailed), 2);
    drop(serving);
    verifies(folder.path());
}

/// Whose webhook is not served any more has no place in the ledger to go on from, and would begin behind the operator's word.
#[test]
fn what_is_sent_again_to_a_webhook_that_was_out_of_the_file_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(std::iter::repeat_n(Reply::Status(500, ""), 100_000));
    let serving = serving(folder.path(), &receiver.webhook("pager", STOPS, "give_up = \"1s\""));
    serving.stop(somebody(1));
    until(|| serving.undelivered().len() == 1);
    let id = serving.undelivered().remove(0).failed.message.id;
    drop(serving);
    receiver.replies.lock().clear();
    let path = folder.path().join("ambit.toml");
    let with = std::fs::read_to_string(&path).unwrap();
    let (without, _) = with.split_once("[webhook.pager]").unwrap();
    std::fs::write(&path, without).unwrap();
    drop(Serving::open(folder.path()));
    std::fs::write(&path, &with).unwrap();
    let before = receiver.seen().len();
    let again = Request::RetryMessage { message: id.clone() };
    crate::operators::act(folder.path(), &again).unwrap();
    let serving = Serving::open(folder.path());
    assert_eq!(receiver.wait(before + 1).pop().unwrap().id(), id);
    assert!(serving.undelivered().is_empty());
    drop(serving);
    verifies(folder.path());
}

#[test]
fn what_nobody_takes_can_be_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(std::iter::repeat_n(Reply::Status(500, ""), 100_000));
    let serving = serving(folder.path(), &receiver.webhook("pager", STOPS, "give_up = \"1s\""));
    serving.stop(somebody(1));
    until(|| serving.undelivered().len() == 1);
    let id = serving.undelivered().remove(0).failed.message.id;
    // Also where no host runs.
    drop(serving);
    let drop_it = Request::DropMessage { message: id.clone() };
    crate::operators::act(folder.path(), &drop_it).unwrap();
    assert!(Reader::open(folder.path()).unwrap().undelivered().unwrap().is_empty());
    assert!(crate::operators::act(folder.path(), &drop_it).is_err());
    verifies(folder.path());
}

#[test]
fn the_next_host_goes_on_where_the_last_one_was() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start([Reply::Status(204, "")]);
    receiver.will(std::iter::repeat_n(Reply::Status(503, ""), 100_000));
    let serving = serving(folder.path(), &receiver.webhook("pager", STOPS, ""));
    (1..=3).for_each(|nth| serving.stop(somebody(nth)));
    // The first is taken, the second is tried, and the third waits.
    until(|| receiver.seen().len() > 3);
    drop(serving);
    // What was written while nobody served is told too.
    let stop = Request::Stop {
        kind: StopKind::Kill,
        scope: somebody(4),
        reason: "meanwhile".to_owned(),
    };
    crate::operators::act(folder.path(), &stop).unwrap();
    let before = receiver.seen();
    let (first, second) = (before[0].id(), before[1].id());
    assert!(
        before[1..].iter().all(|one| one.id() == second),
        "none overtakes another"
    );
    receiver.replies.lock().clear();
    let serving = Serving::open(folder.path());
    let seen = receiver.wait(before.len() + 3);
    let after: Vec<String> = seen[before.len()..].iter().map(Received::id).collect();
    assert_eq!(after[0], second, "under the same id");
    assert!(!after.contains(&first), "what was taken is not sent again");
    let scopes: Vec<Value> = seen[before.len()..]
        .iter()
        .map(|one| one.json()["data"]["scope"].clone())
        .collect();
    assert_eq!(scopes, [2, 3, 4].map(|nth| json!(somebody(nth))));
    drop(serving);
    // And once they are told, another host tells nothing.
    let serving = Serving::open(folder.path());
    receiver.wait(seen.len());
    drop(serving);
}

#[test]
fn a_redirect_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let other = Receiver::start([]);
    let location: &'static str =
        Box::leak(format!("Location: http://127.0.0.1:{}/in\r\n", other.port).into_boxed_str());
    let receiver = Receiver::start([Reply::Status(307, location), Reply::Status(302, location)]);
    let serving = serving(folder.path(), &receiver.webhook("pager", STOPS, ""));
    serving.stop(somebody(1));
    receiver.wait(3);
    assert!(other.seen().is_empty());
    serving.counts("pager", "failed", 2);
}

#[test]
fn an_address_of_this_machine_is_refused_unless_the_operator_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start([]);
    let webhook = format!(
        "[webhook.pager]\nurl = \"https://127.0.0.1:{}/in\"\nsecret = {{ file = \"pager.secret\" }}\nevents = [{STOPS}]\ngive_up = \"1s\"\n",
        receiver.port
    );
    let serving = serving(folder.path(), &webhook);
    serving.stop(somebody(1));
    until(|| serving.undelivered().len() == 1);
    let dead = serving.undelivered().remove(0).failed;
    assert_eq!((dead.status, dead.code), (None, Some(Code::Address)));
    assert!(receiver.seen().is_empty());
}

#[test]
fn a_receiver_that_hangs_holds_up_no_other_and_no_call() {
    let folder = tempfile::tempdir().unwrap();
    let (silent, good) = (Receiver::start([Reply::Silence; 100]), Receiver::start([]));
    let both = silent.webhook("silent", STOPS, "") + &good.webhook("good", STOPS, "");
    let serving = serving(folder.path(), &both);
    serving.stop(somebody(1));
    until(|| silent.seen().len() == 1);
    let began = Instant::now();
    assert!(stopped(&serving.host.call(request("post")).unwrap()).is_none());
    serving.stop(somebody(2));
    good.wait(2);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(silent.seen().len(), 1, "one at a time");
    // Ending waits for no receiver either.
    let began = Instant::now();
    drop(serving);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn an_answer_without_an_end_is_read_no_further_than_its_status_takes() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start([Reply::Flood]);
    let serving = serving(folder.path(), &receiver.webhook("pager", STOPS, ""));
    serving.stop(somebody(1));
    serving.stop(somebody(2));
    let seen = receiver.wait(2);
    assert_ne!(seen[0].id(), seen[1].id(), "it was taken");
}

#[test]
fn a_receiver_that_is_gone_is_sent_nothing_until_the_files_are_taken_anew() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start([Reply::Status(410, "")]);
    let serving = serving(folder.path(), &receiver.webhook("pager", STOPS, ""));
    serving.stop(somebody(1));
    until(|| serving.undelivered().len() == 1);
    assert_eq!(serving.undelivered()[0].failed.status, Some(410));
    serving.stop(somebody(2));
    receiver.wait(1);
    serving.host.reload(ReloadedBy::Operator).unwrap();
    let seen = receiver.wait(2);
    assert_eq!(seen[1].json()["data"]["scope"], json!(somebody(2)));
    serving.counts("pager", "gone", 1);
}

/// A task that is ended ends no commit that is under way: what is written for a webhook that is gone is there before it is forgotten.
#[test]
fn what_a_task_has_under_way_brings_no_webhook_back() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start([]);
    drop(serving(folder.path(), &receiver.webhook("pager", STOPS, "")));
    let host = opened(folder.path());
    let store = &host.shared.store;
    let known = || host.reader().unwrap().webhooks().unwrap();
    let row = Arc::new(Row::default());
    let rows = BTreeMap::from([("pager".to_owned(), Arc::clone(&row))]);
    let keep = |cursor: u64| {
        let batch = Batch {
            webhooks: vec![("pager".to_owned(), Some(Progress::at(cursor)))],
            ..Batch::default()
        };
        row.keep(store, batch).unwrap()
    };
    assert_eq!(webhooks::begin(&host, &rows).unwrap().len(), 1);
    assert!(keep(1));
    assert_eq!(known()["pager"].cursor, 1);
    host.take(host.readied(without_webhooks(folder.path())).unwrap());
    thread::scope(|scope| {
        let written = row.writing.lock();
        let begins = scope.spawn(|| webhooks::begin(&host, &rows));
        until(|| host.live.changing.is_locked());
        thread::sleep(Duration::from_millis(50));
        assert!(!begins.is_finished() && known().len() == 1, "something is written");
        drop(written);
        assert!(begins.join().unwrap().unwrap().is_empty());
    });
    assert!(known().is_empty());
    // What was to be written and had not begun comes too late.
    assert!(!keep(2));
    assert!(known().is_empty());
}

/// Whoever has a message sent again finds its webhook in the files: it is not forgotten by files that were in force before.
#[test]
fn what_is_sent_again_while_a_webhook_is_out_and_back_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start([Reply::Status(410, "")]);
    let serving = serving(folder.path(), &receiver.webhook("pager", STOPS, ""));
    serving.stop(somebody(1));
    until(|| serving.undelivered().len() == 1);
    let id = serving.undelivered().remove(0).failed.message.id;
    let (host, with) = (&serving.host, Config::load(folder.path()).unwrap());
    let take = |config: Config| drop(host.take(host.readied(config).unwrap()));
    let alone = host.live.changing.lock();
    take(without_webhooks(folder.path()));
    thread::sleep(Duration::from_millis(50));
    let known = host.reader().unwrap().webhooks().unwrap();
    assert!(known.contains_key("pager"), "somebody may say so yet");
    take(with);
    webhooks::retry(&host.shared.store, host.current().config(), &id, None).unwrap();
    drop(alone);
    assert_eq!(receiver.wait(2).pop().unwrap().id(), id);
    assert!(serving.undelivered().is_empty());
    assert_eq!(kinds(host, Kind::WebhookFailed), 1);
    drop(serving);
    verifies(folder.path());
}

/// What the file does not name any more is tried no further, and nobody is told that it is.
#[test]
fn a_message_that_is_not_wanted_any_more_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start([]);
    let down = || receiver.will(std::iter::repeat_n(Reply::Status(500, ""), 100_000));
    let serving = serving(folder.path(), &receiver.webhook("pager", STOPS, ""));
    let path = folder.path().join("ambit.toml");
    let both = std::fs::read_to_string(&path).unwrap();
    let fewer = both.replace(STOPS, "\"stop.lifted\"");
    let progress = |host: &Host| host.reader().unwrap().webhooks().unwrap()["pager"].clone();
    let waits = |serving: &Serving| until(|| progress(&serving.host).tried.is_some());
    let passes = |serving: &Serving| {
        until(|| progress(&serving.host).tried.is_none());
        assert_eq!(progress(&serving.host).taken_ms, None);
        assert!(serving.undelivered().is_empty());
    };
    let take = |serving: &Serving, text: &str| {
        std::fs::write(&path, text).unwrap();
        serving.host.reload(ReloadedBy::Operator).unwrap();
    };
    // While it is tried.
    down();
    serving.stop(somebody(1));
    waits(&serving);
    take(&serving, &fewer);
    passes(&serving);
    // By a host that begins under another file.
    take(&serving, &both);
    serving.stop(somebody(2));
    waits(&serving);
    drop(serving);
    std::fs::write(&path, &fewer).unwrap();
    let serving = Serving::open(folder.path());
    passes(&serving);
    // What comes after it is sent.
    receiver.replies.lock().clear();
    let before = receiver.seen().len();
    serving.lift(somebody(2));
    assert_eq!(receiver.wait(before + 1).pop().unwrap().kind(), "stop.lifted");
    drop(serving);
    verifies(folder.path());
}

#[test]
fn a_reload_changes_webhooks_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (Receiver::start([]), Receiver::start([]));
    let serving = serving(folder.path(), &one.webhook("pager", STOPS, ""));
    let path = folder.path().join("ambit.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    let rewrite = |from: &str, to: &str| std::fs::write(&path, before.replace(from, to)).unwrap();
    // A secret that cannot be had is told, and nothing changes.
    rewrite("pager.secret", "nowhere.secret");
    let refused = serving.host.reload(ReloadedBy::Operator).unwrap_err().to_string();
    assert!(
        refused.contains("webhook `pager`") && !refused.contains("whsec_"),
        "{refused}"
    );
    serving.stop(somebody(1));
    one.wait(1);
    let more = two.webhook("chat", "\"stop.placed\"", "format = \"slack\"");
    rewrite(STOPS, "\"stop.lifted\"");
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + &more).unwrap();
    serving.host.reload(ReloadedBy::Operator).unwrap();
    until(|| serving.host.reader().unwrap().webhooks().unwrap().len() == 2);
    serving.stop(somebody(2));
    let told = two.wait(1).remove(0).json();
    assert_eq!(told.as_object().unwrap().len(), 1);
    assert!(
        told["text"]
            .as_str()
            .unwrap()
            .starts_with("Ambit stop.placed: kill of "),
        "{told}"
    );
    serving.lift(somebody(2));
    assert_eq!(one.wait(2)[1].kind(), "stop.lifted");
    // One that is taken out is told of nothing, and forgotten.
    std::fs::write(&path, &before).unwrap();
    serving.host.reload(ReloadedBy::Operator).unwrap();
    until(|| serving.host.reader().unwrap().webhooks().unwrap().len() == 1);
    serving.stop(somebody(3));
    one.wait(3);
    two.wait(1);
}

#[test]
fn a_secret_address_is_nowhere() {
    const HIDDEN: &str = "T0hunter2hunter2hunter2";
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::fs::create_dir_all(folder.path()).unwrap();
    std::fs::write(
        folder.path().join("chat.url"),
        format!("http://127.0.0.1:{free}/services/{HIDDEN}"),
    )
    .unwrap();
    let webhook = format!(
        "[webhook.chat]\nurl = {{ file = \"chat.url\" }}\nformat = \"slack\"\nallow_private = true\nevents = [{STOPS}]\ngive_up = \"1s\"\n"
    );
    let serving = serving(folder.path(), &webhook);
    serving.stop(somebody(1));
    until(|| serving.undelivered().len() == 1);
    let tested = webhooks::test(&serving.host.shared.config, &Wire::default(), "ledger", "chat").unwrap();
    assert!(!tested.taken && tested.why.is_some(), "{tested:?}");
    let config = &serving.host.shared.config.webhooks()["chat"];
    let entries = serving.host.reader().unwrap().entries(0, 1_000).unwrap();
    let entries: Vec<String> = entries.iter().map(|entry| entry.text().into_owned()).collect();
    let shown = [
        entries.join("\n"),
        format!("{tested:?}"),
        format!("{config:?} {}", config.told(folder.path())),
        format!("{:?}", serving.host.shared.hooks),
        serving
            .host
            .metrics()
            .unwrap()
            .text(ambit_core::metrics::Format::Prometheus),
    ];
    for shown in shown {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_breaker_that_opens_and_closes_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (service, receiver) = (Scripted::start([DOWN, DOWN]), Receiver::start([]));
    let breaker = "breaker = { failures = 2, within = \"60s\", open = \"400ms\" }";
    home_with(folder.path(), &service, breaker, "", "");
    doubts::more(
        folder.path(),
        &receiver.webhook("pager", "\"breaker.*\"", "connection = \"things\""),
    );
    let serving = Serving::open(folder.path());
    for _ in 0..2 {
        serving.host.call(request("get")).unwrap();
    }
    let opened = receiver.wait(1).remove(0).json();
    assert_eq!(
        (&opened["type"], &opened["data"]["connection"]),
        (&json!("breaker.opened"), &json!("things"))
    );
    thread::sleep(Duration::from_millis(450));
    serving.host.call(request("get")).unwrap();
    receiver.wait(2);
    assert_eq!(receiver.kinds(), ["breaker.opened", "breaker.closed"]);
}

#[test]
fn what_a_crash_left_in_doubt_is_told_by_the_next_host() {
    let folder = tempfile::tempdir().unwrap();
    let (service, receiver) = (Service::start(), Receiver::start([]));
    home(
        folder.path(),
        &service,
        &receiver.webhook("pager", "\"effect.in-doubt\"", ""),
    );
    // From here on it is told.
    drop(Serving::open(folder.path()));
    let mut call = None;
    for good in 0..12 {
        if let Ok(host) = failing(folder.path(), good, Step::BeforeCommit) {
            let _ = host.call(request("post"));
        }
        let host = open(folder.path()).unwrap();
        let unended = host.unended().unwrap();
        call = unended
            .iter()
            .find(|one| !one.doubts.is_empty())
            .map(|one| one.story.call.clone());
        if call.is_some() {
            break;
        }
        unended.iter().for_each(|one| host.end(&one.story.call).unwrap());
    }
    let call = call.unwrap();
    let serving = Serving::open(folder.path());
    let told = receiver.wait(1).remove(0).json();
    let data = &told["data"];
    assert_eq!(
        (&told["type"], &data["call"]),
        (&json!("effect.in-doubt"), &json!(call))
    );
    assert_eq!(
        (&data["route"], &data["outcome"]),
        (&json!("things.change"), &json!({ "in-doubt": "restart" }))
    );
    assert_eq!(data["next"], format!("`ambit calls resolve {call}`"));
    drop(serving);
}

#[test]
fn a_budget_warns_once_in_its_window_and_says_once_that_it_is_used_up() {
    const BUDGET: &str = "[budget.all]\nunit = \"effects\"\nwindow = \"month\"\ncap = 5\nwarn = 60\n";
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start([]);
    let webhook = receiver.webhook("pager", "\"budget.*\"", "");
    let serving = serving(folder.path(), &format!("{BUDGET}{webhook}"));
    for _ in 0..2 {
        serving.host.call(request("post")).unwrap();
    }
    assert_eq!(kinds(&serving.host, Kind::BudgetWarned), 0, "2 of 5 are not 60 percent");
    for _ in 0..5 {
        serving.host.call(request("post")).unwrap();
    }
    let seen = receiver.wait(2);
    assert_eq!(receiver.kinds(), ["budget.warning", "budget.exhausted"]);
    let data = &seen[0].json()["data"];
    assert_eq!(
        (&data["taken"], &data["cap"], &data["warn"]),
        (&json!(3), &json!(5), &json!(3))
    );
    assert_eq!(seen[1].json()["data"]["budget"], "all");
    assert_eq!(kinds(&serving.host, Kind::BudgetWarned), 1);
    // An entry that says so by itself is none.
    let store = &serving.host.shared.store;
    let alone = store.commit(Batch {
        entries: vec![ambit_core::ledger::EntryDraft::of_ledger(BudgetWarned {
            budget: "another".into(),
            cap: 5,
            taken: 5,
            warn: 3,
            window: "effects month 2026-11".into(),
        })],
        ..Batch::default()
    });
    assert!(alone.is_err());
    drop(serving);
    verifies(folder.path());
}

#[test]
fn of_a_call_that_is_refused_it_is_said_which_budget_has_no_room() {
    const BUDGET: &str = "[budget.work]\nunit = \"fuel\"\nwindow = \"month\"\ncap = 10\nwarn = 25\n";
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start([]);
    let webhook = receiver.webhook("pager", "\"budget.exhausted\"", "");
    let serving = serving(folder.path(), &format!("{BUDGET}{webhook}"));
    let answer = serving.host.call(request("post")).unwrap();
    assert_eq!(stopped(&answer).map(|refusal| refusal.code), Some(Code::Budget));
    let told = receiver.wait(1).remove(0).json();
    assert_eq!(told["data"]["budget"], "work", "{told}");
    let accounts = serving.host.reader().unwrap().accounts().unwrap();
    let budgets = crate::budgets::Budgets::new(serving.host.config().budgets(), &accounts, 0);
    assert_eq!(crate::documents::budgets(&budgets)["budgets"][0]["warn"], 3);
    // Whoever was told of it is not told again within the hour, so that nothing waits for it.
    let standing = || {
        let reader = serving.host.reader().unwrap();
        let all = webhooks::standing(&reader, serving.host.config()).unwrap();
        let taken = all[0].progress.as_ref().unwrap().taken_ms;
        (taken.is_some(), all[0].waiting.messages)
    };
    let began = Instant::now();
    while !standing().0 {
        assert!(began.elapsed() < Duration::from_secs(20), "it is not kept");
        thread::sleep(Duration::from_millis(5));
    }
    serving.host.call(request("post")).unwrap();
    assert_eq!(standing(), (true, 0));
    drop(serving);
    verifies(folder.path());
}

#[test]
fn a_test_shows_whether_messages_arrive_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start([Reply::Status(204, ""), Reply::Status(403, "")]);
    let serving = serving(folder.path(), &receiver.webhook("pager", STOPS, ""));
    let size = serving.host.reader().unwrap().size().unwrap();
    let test = || {
        let request = Request::TestWebhook {
            webhook: "pager".to_owned(),
        };
        match Desk::new(folder.path(), || panic!("a host runs")).act(&request, None) {
            Ok(Said::Tested(tested)) => tested,
            other => panic!("{other:?}"),
        }
    };
    let taken = test();
    assert_eq!((taken.taken, taken.status), (true, Some(204)));
    let told = receiver.wait(1).remove(0);
    told.verify(SECRET);
    assert_eq!((told.kind(), told.id()), ("test".to_owned(), taken.id));
    let refused = test();
    assert_eq!((refused.taken, refused.status), (false, Some(403)));
    receiver.wait(2);
    assert_eq!(serving.host.reader().unwrap().size().unwrap(), size);
    assert!(serving.deliveries.is_some());
}
