//! One run of one target.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::mutate::{Numbers, bend};
use super::{Target, folder};

/// The longest that one input may take. Generous: the machine may be busy with other things.
const SLOWEST: Duration = Duration::from_secs(10);
/// What takes longer is written down, for a person to look at.
const NOTABLE: Duration = Duration::from_secs(1);
/// The most memory that a process may take for all of its inputs.
const MOST_MEMORY: u64 = 1 << 30;
/// The most inputs that are kept.
const MOST_KEPT: usize = 4096;
/// How often a failing input is tried in a shorter form.
const SHORTENINGS: usize = 3000;

/// How a run went.
#[derive(Debug)]
pub struct Report {
    /// Inputs that were driven.
    pub executions: u64,
    /// How many of them were accepted.
    pub accepted: u64,
    /// The most that one took.
    pub slowest: Duration,
    /// How long it ran.
    pub took: Duration,
}

/// An input for which something does not hold.
#[derive(Debug)]
pub struct Found {
    /// Where it was written.
    pub file: PathBuf,
    /// What the target said.
    pub message: String,
}

/// Drives what is known first, regressions before seeds, and then mutations of it until the time is up.
///
/// # Errors
/// The first input for which something does not hold; it was written to `failures`.
///
/// # Panics
/// Seeds cannot be read, or the failing input cannot be written.
pub fn fuzz(target: &Target, seed: u64, time: Duration, failures: &Path) -> Result<Report, Found> {
    quiet();
    let watch = Watch::start(target, failures);
    let run = Run {
        target,
        failures,
        watch: &watch,
    };
    let started = Instant::now();
    let mut report = Report {
        executions: 0,
        accepted: 0,
        slowest: Duration::ZERO,
        took: Duration::ZERO,
    };
    let mut kept = Kept::default();
    for input in known(target).expect("the files of seeds and regressions") {
        run.drive(&input, &mut report, &mut kept)?;
        kept.seed(input);
    }
    let mut numbers = Numbers::new(seed);
    while started.elapsed() < time {
        let (input, other) = kept.two(&mut numbers);
        let input = bend(input, other, target.words, target.longest, &mut numbers);
        run.drive(&input, &mut report, &mut kept)?;
    }
    report.took = started.elapsed();
    Ok(report)
}

/// Drives one input, as a failure's command does.
///
/// # Errors
/// What does not hold.
pub fn replay(target: &Target, input: &[u8]) -> Result<super::Became, String> {
    quiet();
    catch(target, input)
}

/// The target's regressions and seeds.
fn known(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let mut inputs = Vec::new();
    for kind in ["regressions", "corpus"] {
        for file in files(&folder().join(kind).join(target.name))? {
            inputs.push(fs::read(file)?);
        }
    }
    inputs.extend((target.seeds)());
    Ok(inputs)
}

/// The files of a folder, sorted; none where there is no folder.
///
/// # Errors
/// As reading a folder does.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

struct Run<'a> {
    target: &'a Target,
    failures: &'a Path,
    watch: &'a Watch,
}

impl Run<'_> {
    fn drive(&self, input: &[u8], report: &mut Report, kept: &mut Kept) -> Result<(), Found> {
        self.watch.begin(input);
        let begun = Instant::now();
        let became = catch(self.target, input);
        let took = begun.elapsed();
        self.watch.end();
        report.executions += 1;
        if took > NOTABLE && took > report.slowest {
            write(&self.failures.join("slow"), input);
        }
        report.slowest = report.slowest.max(took);
        match became {
            Err(message) => Err(self.found(input, &message)),
            Ok(_) if took > SLOWEST => Err(self.whole(input, format!("it took {took:?}"))),
            // Whoever takes that much is slow too: asking each time would cost more than it finds.
            Ok(_) if took > Duration::from_millis(100) && peak().is_some_and(|peak| peak > MOST_MEMORY) => {
                Err(self.whole(input, format!("it took over {} MiB of memory", MOST_MEMORY >> 20)))
            }
            Ok(Ok(())) => {
                report.accepted += 1;
                kept.accepted(input);
                Ok(())
            }
            Ok(Err(why)) => {
                kept.refused(input, &why);
                Ok(())
            }
        }
    }

    /// What takes long is not made shorter: each try would take as long.
    fn whole(&self, input: &[u8], message: String) -> Found {
        Found {
            file: write(self.failures, input),
            message,
        }
    }

    fn found(&self, input: &[u8], message: &str) -> Found {
        let shorter = shorten(input, |shorter| catch(self.target, shorter).is_err());
        let message = catch(self.target, &shorter).err().unwrap_or_else(|| message.to_owned());
        Found {
            file: write(self.failures, &shorter),
            message,
        }
    }
}

/// The most memory that this process ever had, in bytes, where the system tells it.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// Writes an input under a name made of its content.
fn write(folder: &Path, input: &[u8]) -> PathBuf {
    let file = folder.join(format!("{:016x}", number_of(input)));
    fs::create_dir_all(folder).expect("the folder of failing inputs");
    fs::write(&file, input).expect("a failing input");
    file
}

/// Cuts pieces out as long as it still fails: halves first, single bytes last.
fn shorten(input: &[u8], fails: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut shortest = input.to_vec();
    let mut left = SHORTENINGS;
    let mut piece = shortest.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < shortest.len() && left > 0 {
            let mut shorter = shortest.clone();
            shorter.drain(at..(at + piece).min(shortest.len()));
            left -= 1;
            if fails(&shorter) {
                shortest = shorter;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    shortest
}

/// What inputs are made of.
#[derive(Default)]
struct Kept {
    inputs: Vec<Vec<u8>>,
    /// Of the ways in which inputs were refused.
    ways: HashSet<u64>,
    /// Of accepted inputs.
    accepted: HashSet<u64>,
}

impl Kept {
    fn seed(&mut self, input: Vec<u8>) {
        self.inputs.push(input);
    }

    fn accepted(&mut self, input: &[u8]) {
        if self.accepted.len() < MOST_KEPT && self.accepted.insert(number_of(input)) {
            self.keep(input);
        }
    }

    /// Keeps what is refused as nothing was before: for the words of a reason, without what they quote.
    fn refused(&mut self, input: &[u8], why: &str) {
        let words = why.split('`').step_by(2);
        let words: String = words.flat_map(str::chars).filter(|c| !c.is_ascii_digit()).collect();
        if self.ways.len() < MOST_KEPT && self.ways.insert(number_of(words.as_bytes())) {
            self.keep(input);
        }
    }

    fn keep(&mut self, input: &[u8]) {
        if self.inputs.len() < 2 * MOST_KEPT {
            self.inputs.push(input.to_vec());
        }
    }

    fn two(&self, numbers: &mut Numbers) -> (&[u8], &[u8]) {
        let one = numbers.one(&self.inputs).map_or(&[][..], Vec::as_slice);
        let other = numbers.one(&self.inputs).map_or(&[][..], Vec::as_slice);
        (one, other)
    }
}

/// FNV-1a: names files and tells inputs apart, the same on every machine.
fn number_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |number, byte| {
        (number ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

thread_local! {
    /// Whether this thread drives a target, and where that panicked last.
    static DRIVEN: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics of a target are findings, and are told as such: not as they come. All others are left as they are.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if DRIVEN.get() {
                PLACE.set(info.location().map(ToString::to_string).unwrap_or_default());
            } else {
                usual(info);
            }
        }));
    });
}

fn catch(target: &Target, input: &[u8]) -> Result<super::Became, String> {
    DRIVEN.set(true);
    let caught = catch_unwind(AssertUnwindSafe(|| (target.drive)(input)));
    DRIVEN.set(false);
    caught.map_err(|panic| format!("{} ({})", words(panic.as_ref()), PLACE.take()))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked".to_owned())
}

/// The input that is driven, and since when.
type Current = Arc<Mutex<Option<(Instant, Vec<u8>)>>>;

/// Looks at the clock from outside: an input that never ends is written down, and ends the program.
struct Watch {
    current: Current,
}

impl Watch {
    fn start(target: &Target, failures: &Path) -> Self {
        let current = Current::default();
        let seen = Arc::clone(&current);
        let (name, failures) = (target.name, failures.to_owned());
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_secs(1));
                let hangs = seen
                    .lock()
                    .as_ref()
                    .filter(|(begun, _)| begun.elapsed() > SLOWEST * 2)
                    .map(|(_, input)| input.clone());
                if let Some(input) = hangs {
                    let file = write(&failures, &input);
                    let _ = writeln!(io::stderr(), "{name}: {} does not end", file.display());
                    std::process::exit(1);
                }
            }
        });
        Self { current }
    }

    fn begin(&self, input: &[u8]) {
        *self.current.lock() = Some((Instant::now(), input.to_vec()));
    }

    fn end(&self) {
        *self.current.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(drive: fn(&[u8]) -> super::super::Became) -> Target {
        Target {
            name: "nothing",
            about: "",
            drive,
            words: &["needle"],
            longest: 256,
            seeds: || vec![b"a straw".to_vec()],
        }
    }

    #[test]
    fn a_failure_is_found_shortened_and_replayed() {
        let scratch = tempfile::tempdir().unwrap();
        let target = target(|bytes| {
            assert!(!bytes.windows(6).any(|window| window == b"needle"), "found it");
            Err("no".to_owned())
        });
        let found = fuzz(&target, 1, Duration::from_secs(60), scratch.path()).unwrap_err();
        assert!(
            found.message.starts_with("found it (tests/src/fuzz/run.rs"),
            "{}",
            found.message
        );
        let input = fs::read(&found.file).unwrap();
        assert_eq!(input, b"needle");
        assert!(replay(&target, &input).unwrap_err().starts_with("found it"));
        assert_eq!(replay(&target, b"needl").unwrap(), Err("no".to_owned()));
    }

    #[test]
    fn a_run_ends_in_time_and_counts() {
        let scratch = tempfile::tempdir().unwrap();
        let target = target(|_| Ok(()));
        let report = fuzz(&target, 1, Duration::from_millis(50), scratch.path()).unwrap();
        assert!(report.executions > 10 && report.accepted == report.executions);
        assert!(files(scratch.path()).unwrap().is_empty());
    }
}
