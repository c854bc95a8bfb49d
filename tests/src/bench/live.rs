//! What one more live call takes of memory. Measured in a process of its own, which begins with no slot in use.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ambit_runtime::gate::Wire;
use ambit_runtime::gate::resolve::{Resolve, Resolving};
use ambit_runtime::host::{Host, HostOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::report::{Amount, Figure};
use super::setting::{self, Setting};
use super::{Measured, Pace};

/// Calls that live before anything is counted: what is made once is there then.
const FIRST: usize = 4;
/// Calls that are counted.
const MORE: usize = 32;
/// Beyond the guest's own memory, in KiB.
const ALLOWED: f64 = 128.0;

/// What the process of its own found out, in KiB for each call.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    /// Memory that is the process's, shared pages by their part.
    memory: f64,
    /// The kernel's tables for it, where it says.
    tables: f64,
    /// The guest's linear memory and tables, by their size.
    own: f64,
}

pub(super) fn memory(setting: &Setting, _: Pace<'_>) -> Measured<Figure> {
    let output = Command::new(std::env::current_exe()?)
        .arg("--live")
        .arg(setting.home())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the process that holds calls ended with {}", output.status).into());
    }
    let found: Found = serde_json::from_slice(&output.stdout)?;
    let all = found.memory + found.tables;
    Ok(Figure::of(Amount::Kibibytes(all))
        .against("the size of its memory", Amount::Kibibytes(found.own), all / found.own)
        .target("≤ its memory + 128 KiB", all <= found.own + ALLOWED)
        .note(format!(
            "with its thread; {} of it are the kernel's page tables; pages that the guest never touches take nothing",
            Amount::Kibibytes(found.tables)
        )))
}

/// The process of its own: `ambit-bench --live HOME`.
///
/// # Panics
/// Where the calls do not come to live: the row is not measured then.
pub fn main(home: &Path) -> ExitCode {
    match measure(home) {
        Ok(found) => {
            let text = serde_json::to_string(&found).expect("three numbers");
            io::Write::write_all(&mut io::stdout(), text.as_bytes()).expect("standard output");
            ExitCode::SUCCESS
        }
        Err(error) => {
            io::Write::write_all(&mut io::stderr(), format!("live calls: {error}\n").as_bytes())
                .expect("standard error");
            ExitCode::FAILURE
        }
    }
}

fn measure(home: &Path) -> Measured<Found> {
    let nowhere = Arc::new(Nowhere::default());
    let host = setting::open(
        home,
        HostOptions {
            memory_ledger: true,
            wire: Some(Wire::with_resolver(Arc::clone(&nowhere) as Arc<dyn Resolve>)),
            ..setting::on_disk(&["effects"])
        },
    )?;
    thread::scope(|scope| {
        let start = |count: usize| (0..count).map(|_| scope.spawn(|| held(&host))).collect::<Vec<_>>();
        let first = start(FIRST);
        let waited = nowhere.wait_for(FIRST);
        let before = Usage::now();
        let more = start(MORE);
        let waited = waited.and_then(|()| nowhere.wait_for(FIRST + MORE));
        let after = Usage::now();
        // Whatever was found, nobody waits for ever.
        nowhere.let_go.add_permits(FIRST + MORE);
        let ended = first
            .into_iter()
            .chain(more)
            .map(|call| call.join().map_err(|_| "a call panicked")?);
        let own = ended.collect::<Measured<Vec<u64>>>()?;
        waited?;
        let (before, after, calls) = (before?, after?, MORE as f64);
        Ok(Found {
            memory: (after.memory - before.memory) / calls,
            tables: (after.tables - before.tables) / calls,
            own: own.last().copied().unwrap_or_default() as f64 / 1024.0,
        })
    })
}

/// A call that waits in the middle of its one effect. Returns the size of its memory in bytes.
fn held(host: &Host) -> Measured<u64> {
    let request = setting::request("effects", "look", r#"{"charge":"ch_shoes","count":1}"#);
    Ok(host.call(request)?.cost.memory_bytes)
}

/// A resolver that keeps everybody waiting, and then knows no name: no call gets any further.
pub(super) struct Nowhere {
    arrived: AtomicUsize,
    let_go: Semaphore,
}

impl Default for Nowhere {
    fn default() -> Nowhere {
        Nowhere {
            arrived: AtomicUsize::new(0),
            let_go: Semaphore::new(0),
        }
    }
}

impl Nowhere {
    pub(super) fn wait_for(&self, calls: usize) -> Measured<()> {
        let begun = Instant::now();
        while self.arrived.load(Ordering::SeqCst) < calls {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err(format!("of {calls} calls {} live", self.arrived.load(Ordering::SeqCst)).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        // The last one may still be on its way to where it waits.
        thread::sleep(Duration::from_millis(50));
        Ok(())
    }
}

impl Resolve for Nowhere {
    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> Resolving<'a> {
        let wait: Pin<Box<dyn Future<Output = _> + Send + 'a>> = Box::pin(async {
            self.arrived.fetch_add(1, Ordering::SeqCst);
            drop(self.let_go.acquire().await);
            Err(io::Error::from(io::ErrorKind::NotFound))
        });
        wait
    }
}

/// What this process uses, in KiB.
struct Usage {
    memory: f64,
    tables: f64,
}

impl Usage {
    #[cfg(target_os = "linux")]
    fn now() -> Measured<Usage> {
        let line = |file: &str, name: &str| -> Measured<f64> {
            let text = std::fs::read_to_string(file)?;
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line
                .and_then(|rest| rest.split_whitespace().next())
                .ok_or_else(|| format!("{file} has no {name}"))?;
            Ok(number.parse()?)
        };
        Ok(Usage {
            memory: line("/proc/self/smaps_rollup", "Pss:")?,
            tables: line("/proc/self/status", "VmPTE:")?,
        })
    }

    /// Resident memory as `ps` counts it; the kernel does not say what its tables take.
    #[cfg(not(target_os = "linux"))]
    fn now() -> Measured<Usage> {
        let process = std::process::id().to_string();
        let output = Command::new("ps").args(["-o", "rss=", "-p", &process]).output()?;
        Ok(Usage {
            memory: String::from_utf8_lossy(&output.stdout).trim().parse()?,
            tables: 0.0,
        })
    }
}
