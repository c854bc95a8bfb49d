//! The bench: the figures that the design sets as targets, each measured beside what it is compared with, in one process on
//! one machine, so that the ratio holds where the figures do not.
//!
//! Every part of a row is measured by itself, through the same public functions that a call uses: `parts` says where the time
//! goes, and what is left of the whole is named as the rest.

mod again;
mod beside;
mod durable;
mod effect;
mod governed;
mod live;
mod many;
mod report;
mod rounds;
mod setting;
mod start;

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

pub use live::main as live_main;
pub use report::{Amount, Figure, Machine, Report, Row, Target};

use setting::Setting;

/// What goes wrong while something is measured.
type Failed = Box<dyn Error + Send + Sync>;
type Measured<T> = Result<T, Failed>;

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Long enough for figures to hold: about two minutes.
    Full,
    /// Long enough to see that everything is measured: a few seconds.
    Quick,
}

impl Effort {
    /// One of two values.
    fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Effort::Full => full,
            Effort::Quick => quick,
        }
    }
}

/// A row of the design's table, or one that stands beside it.
struct Subject {
    id: &'static str,
    what: &'static str,
    measure: fn(&Setting, Effort) -> Measured<Figure>,
}

const SUBJECTS: [Subject; 14] = [
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
        measure: |setting, effort| durable::calls(setting, effort, 1),
    },
    Subject {
        id: "durable-16",
        what: "durable calls, 16 callers",
        measure: |setting, effort| durable::calls(setting, effort, 16),
    },
    Subject {
        id: "durable-256",
        what: "durable calls, 256 callers, of which 64 run at once",
        measure: |setting, effort| durable::calls(setting, effort, 256),
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
        id: "start",
        what: "start: a home with ten tools opened, code cached",
        measure: start::open,
    },
    Subject {
        id: "replay",
        what: "replay of a call, recorded on the disk",
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
        measure: many::holds,
    },
    Subject {
        id: "what-if",
        what: "recorded effects decided again under another policy, by one thread",
        measure: again::what_if,
    },
];

/// Targets of the design whose subject is not there yet.
const NOT_BUILT: [&str; 1] = ["start to first tools/list"];

/// Measures everything whose id begins with `only`, in a folder below `scratch` that is removed afterwards. `begun` is told of each row before it is
/// measured: which of how many, and what it is. A row that could not be measured says why.
///
/// # Errors
/// The home that is measured could not be made.
pub fn run(
    scratch: &Path,
    effort: Effort,
    only: &str,
    mut begun: impl FnMut(usize, usize, &str),
) -> Result<Report, Box<dyn Error + Send + Sync>> {
    let machine = Machine::this();
    let setting = Setting::make(scratch)?;
    let wanted: Vec<&Subject> = SUBJECTS.iter().filter(|subject| subject.id.starts_with(only)).collect();
    let all = wanted.len();
    let rows = (1..).zip(wanted).map(|(nth, subject)| {
        begun(nth, all, subject.what);
        let measured = catch_unwind(AssertUnwindSafe(|| (subject.measure)(&setting, effort)));
        let outcome = match measured {
            Ok(Ok(figure)) => figure.checked(),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it panicked".to_owned()),
        };
        Row::new(subject.id, subject.what, outcome)
    });
    Ok(Report {
        quick: effort == Effort::Quick,
        machine,
        rows: rows.collect(),
        not_built: NOT_BUILT.map(str::to_owned).to_vec(),
    })
}
