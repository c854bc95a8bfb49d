//! `ambit serve` under load, as many agents and one have it: nobody waits for long, nothing is lost, and memory does not grow.
//!
//! Short, so that it runs with everything else; `cargo xtask bench` has the same for longer, with figures.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ambit_runtime::store::{CallFilter, Reader, verifier};
use ambit_tests::home::Home;
use ambit_tests::load::{Http, Listening, Stdio, over_http, resident};
use ambit_tests::programs::program;

use super::traps::Test;

macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((concat!("load_", stringify!($name)), $name)),*] };
}

pub(crate) const TESTS: &[Test] = tests![
    thousands_of_calls_over_http_lose_nothing_and_leave_no_memory,
    thousands_of_calls_over_a_pipe_lose_nothing_and_leave_no_memory,
    who_spins_slows_nobody_down,
];

const CONFIGURATION: &str = r#"
[agent.assistant]
team = "support"
tenant = "acme"
[agent.stranger]
team = "strangers"
tenant = "other"
[group.reviewer]
members = []
[server]
[tool.wild.limits]
fuel = 4000000000000000
wall_ms = 400
"#;

const POLICY: &str = r#"
@id("support")
permit (principal, action == Action::"call", resource);
"#;

const TRIVIAL: (&str, &str) = (
    "echo_hash",
    r#"{"json":"a text of some fifty bytes, as it is in small requests"}"#,
);

struct Scene {
    home: Home,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::make(&folder.path().join("home")).unwrap();
        home.configure(CONFIGURATION).unwrap();
        home.permit(POLICY).unwrap();
        home.add("echo", "good_echo").unwrap();
        home.add("wild", "hostile_sandbox").unwrap();
        Self { home, _folder: folder }
    }

    fn key(&self, agent: &str) -> String {
        self.home
            .done(["keys", "create", "--as", agent])
            .unwrap()
            .out
            .trim()
            .to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("ambit"));
        command
            .env_clear()
            .arg("--home")
            .arg(self.home.folder())
            .args(arguments);
        command
    }

    fn serve(&self) -> Listening {
        Listening::start(self.command(&["serve", "--listen", "127.0.0.1:0"])).unwrap()
    }

    /// The ledger is whole, and has as many calls as were made.
    fn has_calls(&self, calls: usize) {
        let reader = Reader::open(self.home.folder()).unwrap();
        reader
            .verify(&verifier(self.home.folder()).unwrap(), &[], |_| {})
            .unwrap();
        let filter = CallFilter {
            limit: Some(1_000_000),
            ..CallFilter::default()
        };
        let found = reader.calls(&filter).unwrap();
        assert_eq!(found.len(), calls);
        assert!(found.iter().all(|call| call.finished.is_some()));
    }
}

/// What a process has resident, and how large its ledger is, in KiB.
#[derive(Clone, Copy, Debug)]
struct Size {
    resident: f64,
    ledger: f64,
}

impl Size {
    fn of(scene: &Scene, process: u32) -> Size {
        let files = fs::read_dir(scene.home.folder()).unwrap().map(Result::unwrap);
        let ledger = files.filter(|file| file.file_name().to_string_lossy().starts_with("ledger.db"));
        let bytes: u64 = ledger.map(|file| file.metadata().unwrap().len()).sum();
        Size {
            resident: resident(process).unwrap(),
            ledger: f64::from(u32::try_from(bytes / 1_024).unwrap()),
        }
    }
}

/// A twentieth more, what one page of an allocator or a thread's stack is (of so few calls, that is more than a twentieth of what may
/// grow), and of the ledger's own pages what was written meanwhile: up to 32 MiB of them are kept.
fn has_not_grown(before: Size, after: Size) {
    let pages = (after.ledger - before.ledger).clamp(0.0, 32_768.0);
    assert!(
        after.resident <= before.resident * 1.05 + 2_048.0 + pages,
        "{before:?}, {after:?}"
    );
}

fn thousands_of_calls_over_http_lose_nothing_and_leave_no_memory() {
    let scene = Scene::new();
    let key = scene.key("assistant");
    let server = scene.serve();
    let load = |times: usize, connections: usize| {
        let load = over_http(server.address(), &key, TRIVIAL, times, connections).unwrap();
        assert_eq!(load.took.len(), times);
        load.took.last().copied().unwrap()
    };
    load(1_000, 256);
    load(500, 16);
    let before = Size::of(&scene, server.id());
    let mut slowest = load(2_500, 16);
    has_not_grown(before, Size::of(&scene, server.id()));
    // What so many at once take besides, each call a thread of its own while it runs, is the allocator's: of that nothing is said here.
    slowest = slowest.max(load(1_500, 256));
    // With 64 at a time on a machine that does much else.
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    drop(server);
    scene.has_calls(5_500);
}

fn thousands_of_calls_over_a_pipe_lose_nothing_and_leave_no_memory() {
    let scene = Scene::new();
    let mut server = Stdio::start(scene.command(&["serve", "--stdio", "--as", "assistant"])).unwrap();
    let (tool, arguments) = TRIVIAL;
    server.calls(tool, arguments, 1_000, 64).unwrap();
    let before = Size::of(&scene, server.id());
    assert_eq!(server.calls(tool, arguments, 3_000, 16).unwrap().len(), 3_000);
    assert_eq!(server.calls(tool, arguments, 500, 64).unwrap().len(), 500);
    assert_eq!(server.calls(tool, arguments, 500, 1).unwrap().len(), 500);
    has_not_grown(before, Size::of(&scene, server.id()));
    drop(server);
    scene.has_calls(5_000);
}

/// One agent has guests that never end by themselves, on twice as many connections as there are processors; another calls.
fn who_spins_slows_nobody_down() {
    const CALLS: usize = 60;
    let scene = Scene::new();
    let (wild, quiet) = (scene.key("assistant"), scene.key("stranger"));
    let server = scene.serve();
    let mut client = Http::connect(server.address(), &quiet).unwrap();
    let mut now_and_then = || {
        let mut took: Vec<Duration> = (0..CALLS)
            .map(|_| {
                thread::sleep(Duration::from_millis(2));
                client.call(TRIVIAL.0, TRIVIAL.1).unwrap()
            })
            .collect();
        took.sort_unstable();
        (took[CALLS / 2], took[CALLS - 2])
    };
    let alone = now_and_then();
    let over = AtomicBool::new(false);
    let beside = thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Http::connect(server.address(), &wild).unwrap();
                while !over.load(Ordering::Relaxed) {
                    // Its time is over, each time.
                    let ended = client.call("wild_try", r#"{"case":"spin"}"#).unwrap_err();
                    assert!(ended.to_string().contains("isError"), "{ended}");
                }
            });
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(300) {
            thread::sleep(Duration::from_millis(10));
        }
        let beside = now_and_then();
        over.store(true, Ordering::Relaxed);
        beside
    });
    // Other tests run on the same processors; a call that waited for a guest's end would take its 400 ms.
    assert!(
        beside.0 < alone.0 * 20 + Duration::from_millis(60),
        "{alone:?} {beside:?}"
    );
    assert!(beside.1 < Duration::from_millis(350), "{alone:?} {beside:?}");
}
