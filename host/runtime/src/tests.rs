//! Whole calls in this process: a home on the disk, a component, a service on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the service that is called is here too"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ambit_core::error::{Code, Refusal};
use ambit_core::grant::Narrowing;
use ambit_core::ledger::Body;
use ambit_core::ledger::body::{Reason, Subject};
use ambit_core::manifest::Manifest;
use ambit_core::policy::Mode;
use parking_lot::Mutex;

use crate::call::{Answer, CallRequest, Listener, Outcome};
use crate::config::Config;
use crate::config::lock::Lock;
use crate::home;
use crate::host::{Host, HostOptions, OpenError};
use crate::sandbox::Compiler;
use crate::store::{Fault, Faults, Keys, Payload, Reader, Step, Values};

/// A service that answers every request with `{"id":"x"}`, and counts them.
struct Service {
    port: u16,
    requests: Arc<AtomicUsize>,
}

impl Service {
    fn start() -> Self {
        Self::that(answer)
    }

    /// One that does this with each connection.
    fn that(does: impl Fn(TcpStream, &AtomicUsize) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                does(stream.unwrap(), &seen);
            }
        });
        Self { port, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Takes a request without a body, and hangs up.
fn hang_up(mut stream: TcpStream, seen: &AtomicUsize) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    seen.fetch_add(1, Ordering::SeqCst);
}

/// One request a connection: whatever has arrived when the sender pauses is one.
fn answer(mut stream: TcpStream, seen: &AtomicUsize) {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    let length = String::from_utf8_lossy(&head)
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length:")?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or(0);
    stream.read_exact(&mut vec![0; length]).unwrap();
    seen.fetch_add(1, Ordering::SeqCst);
    let body = r#"{"id":"x"}"#;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let _ = stream.shutdown(Shutdown::Write);
}

/// `get` reads a path, `post` changes it, `twice` reads it two times, `both` reads and changes it, `tell` says how far it is, `spin` computes for
/// ever, `late` reads, computes for a while and changes it; each returns nothing that matters.
fn component(port: u16) -> Vec<u8> {
    let (world, module) = source(port);
    crate::sandbox::tests::component(&world, &module)
}

/// The component's world and module, as text.
fn source(port: u16) -> (String, String) {
    let world = format!(
        r#"world tool {{
        @external-id("GET,POST http://127.0.0.1:{port}/things/{{id}} reads(id)")
        import things: ambit:capability/http@0.1.0;
        import ambit:capability/progress@0.1.0;
        export get: func(path: string) -> u16;
        export post: func(path: string) -> u16;
        export twice: func(path: string) -> u16;
        export tell: func(path: string) -> u16;
        export both: func(path: string) -> u16;
        export spin: func(path: string) -> u16;
        export late: func(path: string) -> u16;
    }}"#
    );
    // Flattened: method, path, query, headers, body (a case and two words), then where the answer goes.
    let send = |method: u32| {
        format!(
            "(call $send (i32.const {method}) (local.get 0) (local.get 1) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64))"
        )
    };
    let (get, post) = (send(0), send(2));
    let module = format!(
        r#"(module
        (import "things" "send" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
        (import "ambit:capability/progress@0.1.0" "report" (func $report (param i64 i64 i32 i32)))
        {allocator}
        (func (export "tell") (param i32 i32) (result i32)
            (call $report (i64.const 2) (i64.const 3) (local.get 0) (local.get 1)) (i32.const 0))
        (func (export "get") (param i32 i32) (result i32) {get} (i32.load8_u (i32.const 64)))
        (func (export "post") (param i32 i32) (result i32) {post} (i32.load8_u (i32.const 64)))
        (func (export "both") (param i32 i32) (result i32) {get} {post} (i32.load8_u (i32.const 64)))
        (func $turn (param i64) (loop $on (local.set 0 (i64.sub (local.get 0) (i64.const 1))) (br_if $on (i64.ne (local.get 0) (i64.const 0)))))
        (func (export "spin") (param i32 i32) (result i32) (call $turn (i64.const 0)) (i32.const 0))
        (func (export "late") (param i32 i32) (result i32) {get} (call $turn (i64.const 300000000)) {post} (i32.load8_u (i32.const 64)))
        (func (export "twice") (param i32 i32) (result i32) {get} {get} (i32.load8_u (i32.const 64))))"#,
        allocator = crate::sandbox::tests::ALLOCATOR,
    );
    (world, module)
}

#[path = "tests_answers.rs"]
mod answers;
#[path = "tests_api.rs"]
mod api;
#[path = "tests_api_keys.rs"]
mod api_keys;
#[path = "tests_cancel.rs"]
mod cancel;
#[path = "tests_credentials.rs"]
mod credentials;
#[path = "tests_doubts.rs"]
mod doubts;
#[path = "tests_edits.rs"]
mod edits;
#[path = "tests_faults.rs"]
mod faults;
#[path = "tests_flow.rs"]
mod flow;
#[path = "tests_guests.rs"]
mod guests;
#[path = "tests_holds.rs"]
mod holds;
#[path = "tests_later.rs"]
mod later;
#[path = "tests_metrics.rs"]
mod metrics;
#[path = "tests_objects.rs"]
mod objects;
#[path = "tests_operators.rs"]
mod operators;
#[path = "tests_random.rs"]
mod random;
#[path = "tests_recovery.rs"]
mod recovery;
#[path = "tests_reload.rs"]
mod reload;
#[path = "tests_replay.rs"]
mod replayed;
#[path = "tests_rollback.rs"]
mod rollback;
#[path = "tests_run_tokens.rs"]
mod run_tokens;
#[path = "tests_runs.rs"]
mod runs;
#[path = "tests_stops.rs"]
mod stops;
#[path = "tests_suspend.rs"]
mod suspend;
#[path = "tests_telemetry.rs"]
mod telemetry;
#[path = "tests_webhooks.rs"]
mod webhooks;
#[path = "tests_whatif.rs"]
mod whatif;

const POLICY: &str = "@id(\"all\") permit (principal, action, resource);";

fn configuration(port: u16, more: &str) -> String {
    format!(
        r#"
[agent.assistant]
team = "support"
tenant = "acme"
users = ["ada"]
[group.reviewer]
members = ["rita", "sam", "ada"]
[connection.things]
origin = "http://127.0.0.1:{port}"
allow_private = true
[connection.things.route."things.get"]
match = "GET /things/{{id}}"
reads = ["id"]
[connection.things.route."things.change"]
match = "POST /things/{{id}}"
reads = ["id"]
[tool.things.bind]
things = "things"
{more}"#
    )
}

/// The ledger is whole, and so is every value that it has.
fn verifies(folder: &Path) {
    let keys = Keys::load(folder).unwrap();
    let reader = Reader::open(folder).unwrap().with_keys(&keys);
    let key = crate::store::verifier(folder).unwrap();
    reader.verify(&key, &[], |_| {}).unwrap();
    reader.check_values(|_| {}).unwrap();
}

/// A home with the tool `things`, and what `more` says beside its connection.
fn home(folder: &Path, service: &Service, more: &str) {
    home::init(folder).unwrap();
    std::fs::write(folder.join("policy/main.cedar"), POLICY).unwrap();
    std::fs::write(folder.join("ambit.toml"), configuration(service.port, more)).unwrap();
    let component = component(service.port);
    let manifest = Manifest::read(&component).unwrap();
    home::add_tool(folder, "things", &component, &manifest).unwrap();
}

fn open(folder: &Path) -> Result<Host, OpenError> {
    let options = HostOptions {
        compiler: Some(Compiler::InProcess),
        ..HostOptions::default()
    };
    Host::open(Config::load(folder).unwrap(), options)
}

fn request(function: &str) -> CallRequest {
    CallRequest {
        tool: "things".to_owned(),
        function: function.to_owned(),
        args: r#"{"path":"/things/1"}"#.to_owned(),
        agent: "assistant".to_owned(),
        user: Some("ada".to_owned()),
        mode: Mode::Execute,
        run: None,
        trace: None,
        narrowing: Narrowing::default(),
        listener: None,
        cancel: None,
    }
}

fn stopped(answer: &Answer) -> Option<&Refusal> {
    match &answer.outcome {
        Outcome::Stopped(refusal) => Some(refusal),
        _ => None,
    }
}

#[test]
fn a_call_reaches_its_service() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    for (function, sent) in [("get", 1), ("post", 2), ("twice", 4)] {
        let answer = host.call(request(function)).unwrap();
        assert!(stopped(&answer).is_none(), "{answer:?}");
        assert_eq!(service.requests(), sent, "{answer:?}");
    }
}

#[test]
fn a_dry_run_reads_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    let dry = |function| CallRequest {
        mode: Mode::DryRun,
        ..request(function)
    };
    let answer = host.call(dry("post")).unwrap();
    assert!(matches!(answer.outcome, Outcome::FirstWrite(_)), "{answer:?}");
    assert_eq!(
        answer.refused_effects.first().map(|refusal| refusal.code),
        Some(Code::DryRun)
    );
    assert_eq!(service.requests(), 0);
    assert!(host.call(dry("get")).unwrap().refused_effects.is_empty());
    assert_eq!(service.requests(), 1);
}

#[test]
fn effects_beyond_the_limit_end_the_call() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "[limits]\neffects = 1\n");
    let host = open(folder.path()).unwrap();
    assert!(stopped(&host.call(request("get")).unwrap()).is_none());
    let answer = host.call(request("twice")).unwrap();
    assert_eq!(stopped(&answer).map(|refusal| refusal.code), Some(Code::Effects));
    assert_eq!(service.requests(), 2);
}

#[test]
fn arguments_beyond_the_limit_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "[limits]\nargs_bytes = 64\n");
    let host = open(folder.path()).unwrap();
    let padded = |bytes: usize| CallRequest {
        args: format!("{:bytes$}", request("get").args),
        ..request("get")
    };
    assert!(stopped(&host.call(padded(64)).unwrap()).is_none());
    let answer = host.call(padded(65)).unwrap();
    let refusal = stopped(&answer).unwrap();
    assert_eq!(refusal.code, Code::Arguments);
    assert!(refusal.message.contains("65 bytes"), "{refusal:?}");
    assert_eq!(service.requests(), 1);
}

#[test]
fn a_request_larger_than_any_that_could_be_sent_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "[limits]\nrequest_body_bytes = 1024\n");
    let host = open(folder.path()).unwrap();
    let large = CallRequest {
        args: format!(r#"{{"path":"/things/{}"}}"#, "x".repeat(200_000)),
        ..request("get")
    };
    let answer = host.call(large).unwrap();
    assert_eq!(
        answer.refused_effects.first().map(|refusal| refusal.code),
        Some(Code::Limit)
    );
    let keys = Keys::load(folder.path()).unwrap();
    let reader = Reader::open(folder.path()).unwrap().with_keys(&keys);
    let asked = reader.payload(answer.call.as_str(), "effect/1/asked").unwrap().unwrap();
    assert!(asked.bytes().len() < 1_000, "{} bytes", asked.bytes().len());
    assert_eq!(service.requests(), 0);
}

#[test]
fn arguments_that_are_refused_are_kept_by_their_head() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), &Service::start(), "[limits]\nargs_bytes = 64\n");
    let host = open(folder.path()).unwrap();
    let large = CallRequest {
        args: "x".repeat(5_000),
        ..request("get")
    };
    let answer = host.call(large).unwrap();
    let keys = Keys::load(folder.path()).unwrap();
    let reader = Reader::open(folder.path()).unwrap().with_keys(&keys);
    let kept = reader.payload(answer.call.as_str(), "args").unwrap().unwrap();
    assert_eq!(kept.bytes().len(), 64);
}

#[test]
fn a_value_that_is_changed_or_gone_is_found() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), &Service::start(), "");
    let host = open(folder.path()).unwrap();
    host.call(request("twice")).unwrap();
    let denied = CallRequest {
        args: "no JSON".to_owned(),
        ..request("get")
    };
    host.call(denied).unwrap();
    let call = host.call(request("post")).unwrap().call;
    drop(host);
    let keys = Keys::load(folder.path()).unwrap();
    let reader = || Reader::open(folder.path()).unwrap().with_keys(&keys);
    let check = || reader().check_values(|_| {}).map_err(|error| error.to_string());
    // Arguments, start and result of two calls; what was asked, sent and answered of three effects; arguments and reason of the
    // denied call.
    let all = Values { checked: 17, erased: 0 };
    assert_eq!(check(), Ok(all));
    let database = rusqlite::Connection::open(folder.path().join("ledger.db")).unwrap();
    // Else the transcript holds its values in place.
    database.pragma_update(None, "foreign_keys", false).unwrap();
    let put = |payload: &Payload| {
        let sealed = reader().sealed(payload, call.as_str());
        let sql = "UPDATE payloads SET sealed = ?1 WHERE call = ?2 AND name = 'args'";
        assert_eq!(database.execute(sql, (sealed, call.as_str())).unwrap(), 1);
    };
    let args = reader().payload(call.as_str(), "args").unwrap().unwrap();
    put(&Payload::new(call.as_str(), "args", args.bytes().to_vec()).unwrap());
    let changed = check().unwrap_err();
    assert!(
        changed.contains("not the value that the ledger commits to"),
        "{changed}"
    );
    put(&args);
    assert_eq!(check(), Ok(all));
    let rename = |from: &str, to: &str| {
        let sql = "UPDATE payloads SET name = ?1 WHERE call = ?2 AND name = ?3";
        assert_eq!(database.execute(sql, (to, call.as_str(), from)).unwrap(), 1);
    };
    let added = Payload::new(call.as_str(), "log", b"info all is well".to_vec()).unwrap();
    let sql = "INSERT INTO payloads (call, name, sealed) VALUES (?1, 'log', ?2)";
    let sealed = reader().sealed(&added, call.as_str());
    assert_eq!(database.execute(sql, (call.as_str(), sealed)).unwrap(), 1);
    let found = check().unwrap_err();
    assert!(found.contains("no entry of the ledger commits to it"), "{found}");
    rename("log", "effect/1/answer/2");
    assert!(check().is_err());
    let sql = "DELETE FROM payloads WHERE call = ?1 AND name = 'effect/1/answer/2'";
    assert_eq!(database.execute(sql, [call.as_str()]).unwrap(), 1);
    assert_eq!(check(), Ok(all));
    let gone = "DELETE FROM payloads WHERE call = ?1 AND name = 'effect/1/request'";
    assert_eq!(database.execute(gone, [call.as_str()]).unwrap(), 1);
    let gone = check().unwrap_err();
    assert!(gone.contains("is gone"), "{gone}");
}

/// What an entry says is erased has to be gone, and nothing else may be. A receipt from before proves what it proved.
#[test]
fn values_are_gone_where_the_ledger_says_so_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), &Service::start(), "");
    let host = open(folder.path()).unwrap();
    let call = host.call(request("twice")).unwrap().call;
    let receipt = host.receipt(&call).unwrap();
    drop(host);
    let keys = Keys::load(folder.path()).unwrap();
    let reader = || Reader::open(folder.path()).unwrap().with_keys(&keys);
    let check = || reader().check_values(|_| {}).map_err(|error| error.to_string());
    let Values { checked: all, .. } = check().unwrap();
    let why = || Reason::Subject(Subject::Agent("assistant".to_owned()));
    let erasure = reader().erasable(why(), 0).unwrap();
    assert_eq!((erasure.calls(), erasure.values()), (1, all));
    let database = rusqlite::Connection::open(folder.path().join("ledger.db")).unwrap();
    let copy = |from: &str, to: &str| {
        let tables = format!(
            "DROP TABLE IF EXISTS temp.{to}_keys; DROP TABLE IF EXISTS temp.{to}_values;
             CREATE TEMP TABLE {to}_keys AS SELECT * FROM {from}data_keys;
             CREATE TEMP TABLE {to}_values AS SELECT * FROM {from}payloads;"
        );
        database.execute_batch(&tables).unwrap();
    };
    copy("", "before");
    // Without an entry.
    let gone = "UPDATE data_keys SET wrapped = x''; UPDATE payloads SET sealed = x'';";
    database.execute_batch(gone).unwrap();
    let found = check().unwrap_err();
    assert!(
        found.contains("no entry of the ledger says that it was erased"),
        "{found}"
    );
    let put_back = |table: &str, column: &str, kept: &str| {
        let key = if table == "data_keys" { "call" } else { "id" };
        let sql = format!(
            "UPDATE {table} SET {column} = (SELECT {column} FROM temp.{kept} AS kept WHERE kept.{key} = {table}.{key})"
        );
        assert!(database.execute(&sql, []).unwrap() > 0);
    };
    put_back("data_keys", "wrapped", "before_keys");
    put_back("payloads", "sealed", "before_values");
    assert_eq!(check().unwrap().checked, all);
    let done = home::erase(folder.path(), &erasure).unwrap();
    assert!(done.finished);
    let gone = Values {
        checked: 0,
        erased: all,
    };
    assert_eq!(check(), Ok(gone));
    reader().verify(keys.verifier(), &[], |_| ()).unwrap();
    let proved = ambit_core::ledger::Receipt::verify(&receipt, keys.verifier()).unwrap();
    assert_eq!(proved.entry.call(), Some(call.as_str()));
    // Somebody kept a copy, and puts it back: of the values, of the key.
    put_back("payloads", "sealed", "before_values");
    let found = check().unwrap_err();
    assert!(
        found.contains(&format!("is still there, and entry {} says", done.entry)),
        "{found}"
    );
    database.execute_batch("UPDATE payloads SET sealed = x''").unwrap();
    assert_eq!(check(), Ok(gone));
    put_back("data_keys", "wrapped", "before_keys");
    assert!(check().unwrap_err().contains("is still there"));
    database.execute_batch("UPDATE data_keys SET wrapped = x''").unwrap();
    // A row goes, so that fewer values seem to have been erased.
    database.pragma_update(None, "foreign_keys", false).unwrap();
    assert_eq!(
        database
            .execute("DELETE FROM payloads WHERE name = 'args'", [])
            .unwrap(),
        1
    );
    let found = check().unwrap_err();
    assert!(found.contains("not as many as its entries say"), "{found}");
    // The home goes on.
    open(folder.path()).unwrap().call(request("twice")).unwrap();
}

#[test]
fn a_stack_larger_than_a_thread_s_is_refused() {
    for (bytes, opens) in [(1 << 20, true), ((1 << 20) + 1, false)] {
        let folder = tempfile::tempdir().unwrap();
        home(
            folder.path(),
            &Service::start(),
            &format!("[limits]\nstack_bytes = {bytes}\n"),
        );
        assert_eq!(open(folder.path()).is_ok(), opens, "{bytes}");
    }
}

#[test]
fn the_stack_and_the_places_are_the_home_s() {
    for (key, opens) in [
        ("effects", true),
        ("stack_bytes", false),
        ("concurrent_calls", false),
        ("open_holds", false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let more = format!("[tool.things.limits]\n{key} = 65536\n").replace("effects = 65536", "effects = 1");
        let more = more.replace("concurrent_calls = 65536", "concurrent_calls = 3");
        home(folder.path(), &Service::start(), &more);
        assert_eq!(open(folder.path()).is_ok(), opens, "{key}");
    }
}

#[test]
fn a_call_waits_for_a_place_and_is_refused_when_none_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let limits = |wall_ms: u32| format!("[limits]\nconcurrent_calls = 2\nwall_ms = {wall_ms}\n");
    home(folder.path(), &Service::start(), &limits(50));
    let host = open(folder.path()).unwrap();
    let places = (host.shared.place().unwrap(), host.shared.place().unwrap());
    let answer = host.call(request("tell")).unwrap();
    let refusal = stopped(&answer).unwrap();
    assert_eq!(refusal.code, Code::Limit);
    assert!(refusal.message.contains("2 calls at once"), "{refusal:?}");
    drop(places);
    assert!(stopped(&host.call(request("tell")).unwrap()).is_none());
    drop(host);
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), &Service::start(), &limits(60_000));
    let host = open(folder.path()).unwrap();
    let places = (host.shared.place().unwrap(), host.shared.place().unwrap());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| host.call(request("tell")).unwrap());
        thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished());
        drop(places.0);
        assert!(stopped(&waiting.join().unwrap()).is_none());
    });
}

#[test]
fn a_caller_is_told_how_far_the_tool_is() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), &Service::start(), "");
    let host = open(folder.path()).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let listener = Listener::new(move |progress| {
        seen.lock()
            .push((progress.done, progress.total, progress.message.to_owned()));
    });
    host.call(CallRequest {
        listener: Some(listener),
        ..request("tell")
    })
    .unwrap();
    assert_eq!(*told.lock(), [(2, 3, "/things/1".to_owned())]);
}

#[test]
fn refused_effects_do_not_pile_up_until_the_call_ends() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), &Service::start(), "");
    std::fs::write(
        folder.path().join("policy/main.cedar"),
        "@id(\"calls\") permit (principal, action == Action::\"call\", resource);",
    )
    .unwrap();
    let host = open(folder.path()).unwrap();
    // Each commit has its checkpoint; two requests of this size are more than may wait for the next one.
    let commits = |bytes: usize| {
        let before = host.reader().unwrap().checkpoints().unwrap().len();
        let answer = host
            .call(CallRequest {
                args: format!(r#"{{"path":"/things/{}"}}"#, "x".repeat(bytes)),
                ..request("twice")
            })
            .unwrap();
        assert_eq!(answer.refused_effects.len(), 2, "{answer:?}");
        host.reader().unwrap().checkpoints().unwrap().len() - before
    };
    assert_eq!(commits(10), 1);
    assert_eq!(commits(600_000), 2);
}

#[test]
fn a_component_that_is_not_the_accepted_one_does_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let lock = Lock::read(folder.path()).unwrap();
    let pin = lock.get("things").unwrap();
    std::fs::write(home::component_path(folder.path(), &pin.digest), component(1)).unwrap();
    let refusal = home::read_component(folder.path(), "things", pin).unwrap_err();
    assert_eq!(refusal.code, Code::Tool);
    assert!(refusal.message.contains("not the accepted one"), "{refusal:?}");
    assert!(matches!(open(folder.path()), Err(OpenError::Refused(_))));
}

/// A budget of each unit.
const EACH_UNIT: &str = r#"
[budget.bytes]
connection = "things"
unit = "bytes"
window = "month"
cap = 100_000_000
[budget.calls]
unit = "calls"
window = "hour"
cap = 10
[budget.effects]
route = "things/things.get"
unit = "effects"
window = { rolling = "24h" }
cap = 10
[budget.effects-a-call]
unit = "effects"
window = "call"
cap = 1
[budget.fuel]
unit = "fuel"
window = { rolling = "1h" }
cap = 3_000_000_000
"#;

/// What each budget has used and reserved, in all its windows.
fn accounts(host: &Host) -> BTreeMap<String, (u64, u64)> {
    let mut accounts = BTreeMap::<String, (u64, u64)>::new();
    for state in host.reader().unwrap().budgets().unwrap() {
        let (used, reserved) = accounts.entry(state.window.budget).or_default();
        *used += state.account.used;
        *reserved += state.account.reserved;
    }
    accounts
}

/// Bytes that a call's effects sent and received.
fn bytes_of(host: &Host, answer: &Answer) -> u64 {
    let entries = host.reader().unwrap().entries_of(answer.call.as_str()).unwrap();
    let bytes = entries.iter().filter_map(|entry| match entry.body() {
        Body::EffectOutcome(outcome) => Some(outcome.sent + outcome.received),
        _ => None,
    });
    bytes.sum()
}

fn expected<const N: usize>(accounts: [(&str, u64, u64); N]) -> BTreeMap<String, (u64, u64)> {
    let row = |(name, used, reserved): (&str, u64, u64)| (name.to_owned(), (used, reserved));
    accounts.into_iter().map(row).collect()
}

#[test]
fn budgets_of_each_unit_are_settled_with_what_was_used() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, EACH_UNIT);
    let host = open(folder.path()).unwrap();
    let answer = host.call(request("twice")).unwrap();
    // Its second effect is one too many for the call.
    let refused: Vec<Code> = answer.refused_effects.iter().map(|refusal| refusal.code).collect();
    assert_eq!((refused, service.requests()), (vec![Code::Budget], 1));
    let (bytes, fuel) = (bytes_of(&host, &answer), answer.cost.fuel);
    assert!(bytes > 100 && fuel > 0, "{bytes} {fuel}");
    assert_eq!(
        accounts(&host),
        expected([
            ("bytes", bytes, 0),
            ("calls", 1, 0),
            ("effects", 1, 0),
            ("effects-a-call", 1, 0),
            ("fuel", fuel, 0),
        ])
    );
    // A call of its own has an effect of its own; another route is another budget's.
    let second = host.call(request("post")).unwrap();
    let bytes = bytes + bytes_of(&host, &second);
    assert_eq!(
        accounts(&host),
        expected([
            ("bytes", bytes, 0),
            ("calls", 2, 0),
            ("effects", 1, 0),
            ("effects-a-call", 1, 0),
            ("fuel", fuel + second.cost.fuel, 0),
        ])
    );
    verifies(folder.path());
}

/// Two agents of two tenants, and a budget of one call for each tenant.
const TWO_TENANTS: &str = r#"
[agent.clerk]
team = "accounts"
tenant = "globex"
users = ["ada"]
[budget.acme]
tenant = "acme"
unit = "calls"
window = "day"
cap = 1
[budget.globex]
tenant = "globex"
unit = "calls"
window = "day"
cap = 1
"#;

#[test]
fn a_tenant_that_has_used_up_its_budget_leaves_another_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, TWO_TENANTS);
    let host = open(folder.path()).unwrap();
    let call = |agent: &str| {
        let request = CallRequest {
            agent: agent.to_owned(),
            ..request("get")
        };
        stopped(&host.call(request).unwrap()).map(|refusal| refusal.code)
    };
    assert_eq!(call("assistant"), None);
    assert_eq!(accounts(&host), expected([("acme", 1, 0)]));
    assert_eq!(call("assistant"), Some(Code::Budget));
    assert_eq!(call("clerk"), None);
    assert_eq!(accounts(&host), expected([("acme", 1, 0), ("globex", 1, 0)]));
    assert_eq!(call("clerk"), Some(Code::Budget));
    assert_eq!(service.requests(), 2);
}

#[test]
fn an_effect_in_doubt_settles_what_is_known_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::that(hang_up);
    home(folder.path(), &service, EACH_UNIT);
    let host = open(folder.path()).unwrap();
    let answer = host.call(request("get")).unwrap();
    assert_eq!(service.requests(), 1);
    let bytes = bytes_of(&host, &answer);
    assert!(bytes > 50, "{bytes}");
    let accounts = accounts(&host);
    assert_eq!(accounts["bytes"], (bytes, 0));
    assert_eq!((accounts["effects"], accounts["effects-a-call"]), ((1, 0), (1, 0)));
}

#[test]
fn what_could_pass_a_cap_is_not_begun() {
    for (budget, refused) in [
        ("unit = \"fuel\"\ncap = 999_999_999", true),
        ("unit = \"fuel\"\ncap = 1_000_000_000", false),
        ("unit = \"bytes\"\ncap = 2_097_152", true),
        ("unit = \"bytes\"\ncap = 3_000_000", false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start();
        home(
            folder.path(),
            &service,
            &format!("[budget.small]\nwindow = \"day\"\n{budget}\n"),
        );
        let host = open(folder.path()).unwrap();
        let warned: Vec<&str> = host.warnings().iter().map(|problem| problem.message()).collect();
        assert_eq!(warned.len(), usize::from(refused), "{budget}: {warned:?}");
        assert!(
            warned.iter().all(|message| message.contains("budget `small`")),
            "{warned:?}"
        );
        let answer = host.call(request("get")).unwrap();
        let code = stopped(&answer)
            .or(answer.refused_effects.first())
            .map(|refusal| refusal.code);
        assert_eq!(code, refused.then_some(Code::Budget), "{budget}");
        assert_eq!(service.requests(), usize::from(!refused), "{budget}");
    }
}

#[test]
fn an_interrupted_call_has_used_all_that_it_could() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), &Service::start(), EACH_UNIT);
    let options = HostOptions {
        compiler: Some(Compiler::InProcess),
        // The configuration's entry and the call's first are written, its last is not.
        faults: Faults::after(2, Step::BeforeCommit, Fault::Io),
        ..HostOptions::default()
    };
    let host = Host::open(Config::load(folder.path()).unwrap(), options).unwrap();
    host.call(request("tell")).unwrap_err();
    assert_eq!(accounts(&host), expected([("calls", 0, 1), ("fuel", 0, 1_000_000_000)]));
    drop(host);
    let host = open(folder.path()).unwrap();
    assert_eq!(accounts(&host), expected([("calls", 0, 1), ("fuel", 0, 1_000_000_000)]));
    for unended in host.unended().unwrap() {
        host.end(&unended.story.call).unwrap();
    }
    assert_eq!(accounts(&host), expected([("calls", 1, 0), ("fuel", 1_000_000_000, 0)]));
}
