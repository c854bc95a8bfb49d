//! A home in which very many effects wait: a page of the list, as whole commands are.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ambit_core::digest::Digest;
use ambit_core::ledger::{Body, EntryDraft};
use ambit_core::policy::Mode;
use ambit_runtime::call::Outcome;
use ambit_runtime::ids::{CallId, TraceId};
use ambit_runtime::store::{Batch, Faults, Keys, Store, StoreOptions};

use super::again::{on_disk, refund};
use super::report::{Amount, Figure};
use super::rounds::{micros, middle};
use super::setting::{self, Setting};
use super::{Measured, Pace};
use crate::programs::program;

/// How many wait where a page is compared with.
const FEW: u32 = 100;
/// How many are written in one transaction.
const AT_ONCE: u32 = 1_000;

/// The command where so many wait.
pub(super) struct Waiting {
    few: Page,
    some: Page,
    many: Page,
    /// How many `some` and `many` are.
    counts: (u32, u32),
}

/// The first page of the list among very many holds, against the same among few, each a command from start to exit.
pub(super) fn page(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let Waiting { few, many, .. } = waiting(setting, pace)?;
    let ratio = many.micros / few.micros;
    Ok(Figure::of(Amount::Micros(many.micros))
        .against("the same with 100 that wait", Amount::Micros(few.micros), ratio)
        .target("≤ 50 ms", many.micros <= 50_000.0))
}

/// The most memory that it has meanwhile, against the same among a thousand: nothing of the list but the page is read.
pub(super) fn memory(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let Waiting {
        few,
        some,
        many,
        counts,
    } = waiting(setting, pace)?;
    let ratio = many.kib / some.kib;
    Ok(Figure::of(Amount::Kibibytes(many.kib))
        .against("the same with 1,000 that wait", Amount::Kibibytes(some.kib), ratio)
        .target("≤ 1.2×", ratio <= 1.2)
        .note(format!(
            "resident at most: {} wait, {} wait, and with {FEW} it is {}",
            counts.1,
            counts.0,
            Amount::Kibibytes(few.kib)
        )))
}

/// Both are of one home, which takes long to fill: it is filled once.
fn waiting<'s>(setting: &'s Setting, pace: Pace<'_>) -> Measured<&'s Waiting> {
    if let Some(known) = setting.waiting().get() {
        return Ok(known);
    }
    let rounds = pace.pick(15, 2);
    let counts = (pace.pick(1_000, 200), pace.pick(100_000, 300));
    let folder = tempfile::tempdir()?;
    let home = Setting::make(folder.path())?;
    let template = held_once(&home)?;
    wait(&home, &template, FEW - 1, |_| ())?;
    let few = list(&home, rounds)?;
    wait(&home, &template, counts.0 - FEW, |_| ())?;
    let some = list(&home, rounds)?;
    // Filling is nine tenths of it.
    wait(&home, &template, counts.1 - counts.0, |part| pace.far(0.9 * part))?;
    let many = list(&home, rounds)?;
    let known = Waiting {
        few,
        some,
        many,
        counts,
    };
    Ok(setting.waiting().get_or_init(|| known))
}

/// What a call that is held writes: its beginning, and the hold.
fn held_once(setting: &Setting) -> Measured<Vec<EntryDraft>> {
    let host = on_disk(setting)?;
    let answer = host.call(refund(Mode::Suggest, 1))?;
    if !matches!(answer.outcome, Outcome::Held(_)) {
        return Err(format!("a call came to {:?}", answer.outcome).into());
    }
    let entries = host.reader()?.entries_of(answer.call.as_str())?;
    Ok(entries.iter().map(setting::template).collect())
}

/// Lets so many more wait, under ids of their own and without values.
fn wait(setting: &Setting, template: &[EntryDraft], more: u32, far: impl Fn(f64)) -> Measured<()> {
    let home = setting.home();
    let store = Store::open(&home, Keys::load(&home)?, StoreOptions::default(), Faults::default())?;
    let mut left = more;
    while left > 0 {
        let now = left.min(AT_ONCE);
        let mut entries = Vec::new();
        for _ in 0..now {
            entries.extend(one(template)?);
        }
        store.commit(Batch {
            entries,
            ..Batch::default()
        })?;
        left -= now;
        far(f64::from(more - left) / f64::from(more));
    }
    Ok(())
}

fn one(template: &[EntryDraft]) -> Measured<Vec<EntryDraft>> {
    let (call, trace) = (CallId::new()?.to_string(), TraceId::random()?.to_string());
    let mut entries = template.to_vec();
    for entry in &mut entries {
        entry.call = Some(call.clone());
        entry.trace = Some(trace.clone());
        if let Body::EffectHeld(held) = &mut entry.body {
            held.hold = Digest::of(call.as_bytes());
            held.most = u32::MAX;
        }
    }
    Ok(entries)
}

/// A page as a command prints it: how long it takes, and its memory.
struct Page {
    micros: f64,
    /// The most that it had resident: the middle of the rounds.
    kib: f64,
}

fn list(setting: &Setting, rounds: usize) -> Measured<Page> {
    let (mut took, mut kib) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut list = Command::new(program("ambit"));
        list.env_clear().arg("--home").arg(setting.home());
        list.args(["approvals", "list", "--format", "json"]);
        let begun = Instant::now();
        let output = list.stdin(Stdio::null()).output()?;
        took.push(micros(begun.elapsed()));
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        if listed.as_array().map(Vec::len) != Some(20) {
            return Err(format!("a page of {listed}").into());
        }
        kib.push(peak(&mut list)? as f64);
    }
    Ok(Page {
        micros: middle(took),
        kib: middle(kib),
    })
}

/// The most memory that a command had resident, as it was last seen to have: looked at all the time while it runs.
fn peak(command: &mut Command) -> Measured<u64> {
    let mut child = command.stdout(Stdio::null()).spawn()?;
    let path = format!("/proc/{}/status", child.id());
    let mut kib = 0;
    while child.try_wait()?.is_none() {
        let status = fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let seen = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        kib = kib.max(seen.unwrap_or(0));
        thread::sleep(Duration::from_micros(200));
    }
    Ok(kib)
}
