//! The bench: the figures that the design sets as targets, each measured beside what it is compared with, in one process on
//! one machine, so that the ratio holds where the figures do not.
//!
//! Every part of a row is measured by itself, through the same public functions that a call uses: `parts` says where the time
//! goes, and what is left of the whole is named as the rest.

mod again;
mod beside;
mod doors;
mod durable;
mod effect;
mod governed;
mod kill;
mod live;
mod many;
mod report;
mod rounds;
mod setting;
mod start;
mod tls;

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

pub use live::main as live_main;
pub use report::{Amount, Figure, Machine, Report, Row, Target};

use setting::Setting;

/// What goes wrong while something is measured.
type Failed = Box<dyn Error + Send + Sync>;
type Measured<T> = Result<T, Failed>;

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Long enough for figures to hold: a few minutes.
    Full,
    /// Long enough to see that everything is measured: a few seconds.
    Quick,
}

/// What there is to show while it is measured.
#[derive(Clone, Copy, Debug)]
pub enum Told<'t> {
    /// A row is begun: which of how many.
    Begun(usize, usize, &'t str),
    /// How much of it is done, from 0 to 1.
    Far(f64),
    /// It is done, in that time.
    Done(&'t Row, Duration),
}

/// How long a row measures, and whom it tells how far it is.
#[derive(Clone, Copy)]
struct Pace<'p> {
    effort: Effort,
    told: &'p dyn Fn(Told<'_>),
}

impl Pace<'_> {
    /// One of two values.
    fn pick<T>(self, full: T, quick: T) -> T {
        match self.effort {
            Effort::Full => full,
            Effort::Quick => quick,
        }
    }

    /// So many rounds, of which each is told.
    fn rounds(self, count: usize) -> impl Iterator<Item = usize> {
        (0..count).inspect(move |done| self.far(*done as f64 / count as f64))
    }

    /// How much of the row is done, from 0 to 1.
    fn far(self, part: f64) {
        (self.told)(Told::Far(part));
    }
}

/// A row of the design's table, or one that stands beside it.
struct Subject {
    id: &'static str,
    what: &'static str,
    measure: fn(&Setting, Pace<'_>) -> Measured<Figure>,
}

const SUBJECTS: [Subject; 26] = [
    Subject {
        id: "governed-call",
        what: "a governed call of a trivial tool (ledger in memory, 50 policies)",
        measure: governed::with_memo,
    },
    Subject {
        id: "governed-call-without-memo",
        what: "the same, deciding each call afresh",
        measure: governed::without_memo,
    },
    Subject {
        id: "durable-1",
        what: "durable calls, 1 caller",
        measure: |setting, pace| durable::calls(setting, pace, 1),
    },
    Subject {
        id: "durable-16",
        what: "durable calls, 16 callers",
        measure: |setting, pace| durable::calls(setting, pace, 16),
    },
    Subject {
        id: "durable-256",
        what: "durable calls, 256 callers, of which 64 run at once",
        measure: |setting, pace| durable::calls(setting, pace, 256),
    },
    Subject {
        id: "http-effect",
        what: "what the host adds to an HTTP effect (network and disk aside, 50 policies)",
        measure: effect::plain,
    },
    Subject {
        id: "http-effect-with-look-up",
        what: "the same, with a look-up of the currency: two requests",
        measure: effect::with_look_up,
    },
    Subject {
        id: "live-call",
        what: "memory of one more live call",
        measure: live::memory,
    },
    Subject {
        id: "beside-spinning",
        what: "a steady caller's p99 beside eight spinning guests",
        measure: beside::steady,
    },
    Subject {
        id: "kill",
        what: "how long a call goes on after a kill of it is durable: nine in ten",
        measure: kill::ends,
    },
    Subject {
        id: "start",
        what: "start: a home with ten tools opened, code cached",
        measure: start::open,
    },
    Subject {
        id: "replay",
        what: "processor time of a call's replay, recorded on the disk",
        measure: again::replay,
    },
    Subject {
        id: "hold",
        what: "a call that is held, approved and gone on with (durable)",
        measure: again::hold,
    },
    Subject {
        id: "pending-holds",
        what: "a page of the list where 100,000 effects wait, as a whole command",
        measure: many::page,
    },
    Subject {
        id: "pending-holds-memory",
        what: "memory of that command",
        measure: many::memory,
    },
    Subject {
        id: "what-if",
        what: "recorded effects decided again under another policy, by one thread",
        measure: again::what_if,
    },
    Subject {
        id: "mcp-stdio-1",
        what: "MCP over a pipe, one durable call after another: the middle one",
        measure: doors::stdio_one,
    },
    Subject {
        id: "mcp-stdio-16",
        what: "MCP over a pipe, 16 durable calls under way",
        measure: doors::stdio_many,
    },
    Subject {
        id: "mcp-http-1",
        what: "MCP over HTTP, one durable call after another: the middle one",
        measure: doors::http_one,
    },
    Subject {
        id: "mcp-http-16",
        what: "MCP over HTTP, durable calls over 16 connections",
        measure: |setting, pace| doors::http_many(setting, pace, 16),
    },
    Subject {
        id: "mcp-http-256",
        what: "MCP over HTTP, durable calls over 256 connections",
        measure: |setting, pace| doors::http_many(setting, pace, 256),
    },
    Subject {
        id: "mcp-https-1",
        what: "MCP over HTTPS, one durable call after another over a kept connection: the middle one",
        measure: tls::https_one,
    },
    Subject {
        id: "mcp-http-beside-spinning",
        what: "MCP over HTTP, a steady agent's p99 beside eight spinning guests of another's",
        measure: beside::steady_over_http,
    },
    Subject {
        id: "start-to-tools-list",
        what: "start: from a process's start to the list of ten tools, code cached",
        measure: doors::start,
    },
    Subject {
        id: "idle-memory",
        what: "memory of a server with ten tools that was asked nothing yet",
        measure: doors::idle,
    },
    Subject {
        id: "mcp-memory",
        what: "memory of a server after 50,000 calls",
        measure: doors::endures,
    },
];

/// Targets of the design whose subject is not there yet.
const NOT_BUILT: [&str; 0] = [];

/// Measures everything whose id begins with `only`, in a folder below `scratch` that is removed afterwards. `told` hears how far it is. A row
/// that could not be measured says why.
///
/// # Errors
/// The home that is measured could not be made.
pub fn run(scratch: &Path, effort: Effort, only: &str, told: &dyn Fn(Told<'_>)) -> Measured<Report> {
    let machine = Machine::this();
    let setting = Setting::make(scratch)?;
    let wanted: Vec<&Subject> = SUBJECTS.iter().filter(|subject| subject.id.starts_with(only)).collect();
    let all = wanted.len();
    let pace = Pace { effort, told };
    let rows = (1..).zip(wanted).map(|(nth, subject)| {
        told(Told::Begun(nth, all, subject.what));
        let begun = Instant::now();
        let measured = catch_unwind(AssertUnwindSafe(|| (subject.measure)(&setting, pace)));
        let outcome = match measured {
            Ok(Ok(figure)) => figure.checked(),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it panicked".to_owned()),
        };
        let row = Row::new(subject.id, subject.what, outcome);
        told(Told::Done(&row, begun.elapsed()));
        row
    });
    Ok(Report {
        quick: effort == Effort::Quick,
        machine,
        rows: rows.collect(),
        not_built: NOT_BUILT.map(str::to_owned).to_vec(),
    })
}
