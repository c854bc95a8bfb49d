//! Processes that end without warning, that hold the home, and that may not write to it: each is this test program again, as a child.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use super::super::{Fault, Faults, Keys, Payload, Reader, Step, Store, StoreError, StoreOptions};
use super::fixture::{Call, Home, batch, note, request, reserve, settle};

/// What the child is to do, and where.
const TASK: &str = "AMBIT_TEST_STORE_TASK";
const HOME: &str = "AMBIT_TEST_STORE_HOME";

/// The child's side: nothing, when run as a test.
#[test]
fn child() {
    let (Ok(task), Ok(home)) = (std::env::var(TASK), std::env::var(HOME)) else {
        return;
    };
    let home = PathBuf::from(home);
    match task.as_str() {
        "load" => load(&home, Faults::none()),
        "full" => full(&home),
        "open" => say(&open(&home, Faults::none()).map(drop).map_err(|error| error.to_string())),
        "read" => say(&read(&home).map_err(|error| error.to_string())),
        step => load(&home, Faults::after(40, step_named(step), Fault::Abort)),
    }
}

fn step_named(name: &str) -> Step {
    [Step::WritePayload, Step::BeforeCommit, Step::Sync, Step::AfterCommit]
        .into_iter()
        .find(|step| format!("{step:?}") == name)
        .unwrap()
}

fn open(home: &Path, faults: Faults) -> Result<Store, StoreError> {
    Store::open(home, Keys::load(home)?, StoreOptions::default(), faults)
}

fn read(home: &Path) -> Result<u64, StoreError> {
    Ok(Reader::open(home)?
        .verify(&super::super::verifier(home)?, &[], |_| ())?
        .size)
}

fn say(what: &impl std::fmt::Debug) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n>{what:?}").unwrap();
    out.flush().unwrap();
}

/// Calls without end from eight threads: each says the call's number once its entries are durable.
fn load(home: &Path, faults: Faults) {
    let store = open(home, faults).unwrap();
    thread::scope(|scope| {
        for caller in 0..8 {
            let store = &store;
            scope.spawn(move || (0..1 << 32).for_each(|number| one_call(store, caller << 32 | number)));
        }
    });
}

fn one_call(store: &Store, number: u64) {
    let (mut call, request) = (Call::numbered(number), request("/v1/refunds"));
    let args = Payload::new(
        &call.id,
        "args",
        vec![1; if number.is_multiple_of(5) { 70_000 } else { 100 }],
    )
    .unwrap();
    let mut begins = call.begins(&request, vec![reserve("usd", 3, u64::MAX >> 8)]);
    begins.payloads.push(args);
    store.commit(begins).unwrap();
    say(&(number, "intended"));
    store
        .commit(batch([call.outcome(0, vec![settle("usd", 2)]), call.finished(vec![])]))
        .unwrap();
    say(&(number, "finished"));
}

/// One small entry after the other, until the disk takes no more; and one after that.
fn full(home: &Path) {
    let store = open(home, Faults::none()).unwrap();
    // More than any limit that the test sets has room for.
    for _ in 0..20_000 {
        match store.commit(note()) {
            Ok(written) => say(&("written", written.first_index)),
            Err(error) => {
                say(&("failed", matches!(error, StoreError::Failed { .. })));
                break;
            }
        }
    }
    say(&("later", store.commit(note()).is_ok()));
}

fn spawn(task: &str, home: &Path, uid: Option<u32>) -> Child {
    spawn_by(Command::new(std::env::current_exe().unwrap()), task, home, uid)
}

fn spawn_by(mut command: Command, task: &str, home: &Path, uid: Option<u32>) -> Child {
    command
        .args(["--exact", "store::tests::crash::child", "--nocapture"])
        .env(TASK, task)
        .env(HOME, home);
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// What the child said so far, line by line.
fn said(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix('>').map(str::to_owned))
}

/// Whatever the child said is on the ledger, and the ledger is sound and goes on.
fn check_after(home: &Home, lines: &[String]) {
    assert!(lines.len() > 30, "the child did nothing: {lines:?}");
    home.verify();
    let store = home.open();
    let reader = store.reader().unwrap();
    for line in lines {
        let (number, rest) = line.trim_start_matches('(').split_once(',').unwrap();
        let call = Call::numbered(number.parse().unwrap());
        let entries = reader.entries_of(&call.id).unwrap().len();
        assert!(
            entries == 4 || entries == 2 && rest.contains("intended"),
            "{line}: {entries} entries"
        );
        assert!(reader.payload(&call.id, "args").unwrap().is_some(), "{line}");
    }
    // What was reserved and not settled is what is under way: nothing was lost, and nothing counted twice.
    let open = reader
        .unfinished()
        .unwrap()
        .iter()
        .filter(|open| open.work.ordinal.is_some())
        .count() as u64;
    assert_eq!(reader.budgets().unwrap()[0].account.reserved, 3 * open);
    // No call of the child's: it counts from zero, and so does this process.
    store.commit(Call::numbered(1 << 40).whole()).unwrap();
    drop((reader, store));
    home.verify();
}

#[test]
fn trap_13_reopens_after_kill() {
    let home = Home::new();
    let mut child = spawn("load", home.path(), None);
    let mut said = said(&mut child);
    let mut lines: Vec<String> = said.by_ref().take(300).collect();
    // Meanwhile: nobody else may write, everybody may read.
    let refused = home.try_open(StoreOptions::default(), Faults::none()).unwrap_err();
    assert_eq!(
        refused,
        StoreError::InUse {
            home: home.path().into(),
            pid: Some(child.id())
        }
    );
    home.verify();
    child.kill().unwrap();
    child.wait().unwrap();
    lines.extend(said);
    check_after(&home, &lines);
}

#[test]
fn reopens_after_ending_at_any_step() {
    for step in [Step::WritePayload, Step::BeforeCommit, Step::Sync, Step::AfterCommit] {
        let home = Home::new();
        let mut child = spawn(&format!("{step:?}"), home.path(), None);
        let lines: Vec<String> = said(&mut child).collect();
        assert!(!child.wait().unwrap().success());
        check_after(&home, &lines);
    }
}

/// Someone without privileges, whom permissions hold back: this user, or for root another.
fn nobody() -> Option<u32> {
    rustix::process::geteuid().is_root().then_some(65_534)
}

fn one_line(task: &str, home: &Path) -> String {
    let mut child = spawn(task, home, nobody());
    let line = said(&mut child).next();
    child.wait().unwrap();
    line.expect("the child could not run")
}

#[test]
fn a_read_only_home_is_named_and_can_be_audited() {
    let home = Home::new();
    home.open().commit(Call::new().whole()).unwrap();
    let everything = [home.path().to_owned()].into_iter().chain(walk(home.path()));
    for path in everything {
        if let Some(uid) = nobody() {
            std::os::unix::fs::chown(&path, Some(uid), Some(uid)).unwrap();
        }
        let mode = if path.is_dir() { 0o500 } else { 0o400 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let line = one_line("open", home.path());
    assert!(
        line.contains("cannot be written to") && line.contains(home.path().to_str().unwrap()),
        "{line}"
    );
    assert_eq!(one_line("read", home.path()), "Ok(3)");
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                [walk(&path), vec![path]].concat()
            } else {
                vec![path]
            }
        })
        .collect()
}

/// A real disk that fails in the commit itself: no file of the child can grow beyond a size, so the log takes the pages of one commit no more.
/// That is told as what it is, nothing is written after it, and all that was said to be durable is there.
#[test]
fn trap_13_a_disk_that_fails_in_the_commit_is_the_end_and_loses_nothing() {
    let home = Home::new();
    drop(home.open());
    // The signal would end the process; without it the write fails, as on a disk. Blocks are of 512 bytes or 1 KiB.
    let limited = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", limited]).arg(std::env::current_exe().unwrap());
    let mut child = spawn_by(shell, "full", home.path(), None);
    let lines: Vec<String> = said(&mut child).collect();
    assert!(child.wait().unwrap().success(), "{lines:?}");
    let written = lines.iter().filter(|line| line.contains("written")).count();
    assert!((10..20_000).contains(&written), "{written}");
    let (failed, later) = (&lines[written], &lines[written + 1]);
    assert_eq!(
        (failed.as_str(), later.as_str()),
        ("(\"failed\", true)", "(\"later\", false)")
    );
    home.verify();
    let store = home.open();
    // The ledger's own first entry is there too.
    assert_eq!(store.reader().unwrap().size().unwrap(), written as u64 + 1);
    store.commit(note()).unwrap();
    home.verify();
}
