//! `ambit export`: the ledger's entries for other systems, a line each.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use ambit_core::ledger::utc;
use ambit_runtime::export::{Export, ExportError, Form};
use ambit_runtime::store::Keys;

use super::{audit, what_if};
use crate::args::{Export as Args, Since};
use crate::output::{Exit, Failure, count, escaped, note};

/// How long to wait for new entries before looking again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub(crate) fn run(args: &Args, home: &Path) -> Result<Exit, Failure> {
    let (since, until) = times(args)?;
    let reader = audit::open(home)?;
    let reader = match args.values {
        // Whoever asks for values and cannot read them is told at once, and not line by line.
        true => reader.with_keys(&Keys::load(home)?),
        false => reader,
    };
    let form = match &args.form {
        form if form.ocsf => Form::Ocsf,
        form if form.otlp => Form::Otlp,
        _ => Form::Lines { values: args.values },
    };
    let mut export = Export::new(&reader, form, args.after, since, until).map_err(told)?;
    let mut out = io::stdout().lock();
    loop {
        let written = export.write(|line| writeln!(out, "{}", escaped(line)));
        let written = written.and_then(|()| Ok(out.flush()?));
        match written {
            Err(ExportError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => break,
            other => other.map_err(told)?,
        }
        if !args.follow {
            break;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    let lines = count(export.lines(), "line", "lines");
    match export.last() {
        Some(last) => note(format!("{lines}; the next export goes on with --after {last}")),
        None => note(lines),
    }
    Ok(Exit::Done)
}

/// From when on, and before when.
fn times(args: &Args) -> Result<(Option<i64>, Option<i64>), Failure> {
    let since = args.since.map(what_if::ms).transpose()?;
    let until = args.until.map(|until| match until {
        Since::At(at) => at,
        Since::Ago(ago) => ambit_runtime::host::now_ms().saturating_sub(ago),
    });
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        let message = format!(
            "--since {} is not before --until {}: nothing is between",
            utc(since),
            utc(until)
        );
        return Err(Failure::usage(message));
    }
    Ok((since, until))
}

fn told(error: ExportError) -> Failure {
    match error {
        ExportError::Store(error) => error.into(),
        ExportError::Write(error) => Failure::internal(format!("standard output cannot be written: {error}")),
        ExportError::Cursor { .. } => Failure::refused(error.to_string()).advise(
            "Find out which: `ambit audit verify` holds the ledger against what is known of it outside. To export all of it, leave --after out.",
        ),
    }
}
