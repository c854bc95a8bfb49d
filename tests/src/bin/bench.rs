//! What `cargo xtask bench` runs: measures, prints a table, and writes it as JSON for programs.
//!
//! ```text
//! ambit-bench [--quick] [--only ID] --scratch FOLDER --output FILE
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program prints")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ambit_tests::bench::{self, Effort, Report, Told};
use indicatif::{ProgressBar, ProgressStyle};

const USAGE: &str = "usage: ambit-bench [--quick] [--only ID] --scratch FOLDER --output FILE";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The program's own, for what is measured in a fresh process.
    if let [word, home] = arguments.as_slice()
        && word == "--live"
    {
        return bench::live_main(Path::new(home));
    }
    let Some(asked) = Asked::read(arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    match run(&asked) {
        Ok(report) if !report.rows.is_empty() && report.rows.iter().all(|row| row.figure.is_some()) => {
            ExitCode::SUCCESS
        }
        Ok(_) => {
            eprintln!("not everything was measured");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("nothing was measured: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line says.
struct Asked {
    effort: Effort,
    /// Rows whose id begins with this.
    only: String,
    scratch: PathBuf,
    output: PathBuf,
}

impl Asked {
    fn read(arguments: Vec<String>) -> Option<Asked> {
        let (mut effort, mut only, mut scratch, mut output) = (Effort::Full, String::new(), None, None);
        let mut words = arguments.into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => effort = Effort::Quick,
                "--only" => only = words.next()?,
                "--scratch" => scratch = words.next().map(PathBuf::from),
                "--output" => output = words.next().map(PathBuf::from),
                _ => return None,
            }
        }
        Some(Asked {
            effort,
            only,
            scratch: scratch?,
            output: output?,
        })
    }
}

fn run(asked: &Asked) -> Result<Report, Box<dyn Error + Send + Sync>> {
    fs::create_dir_all(&asked.scratch)?;
    let shown = Shown::new();
    let report = bench::run(&asked.scratch, asked.effort, &asked.only, &|told| shown.tell(told))?;
    shown.0.finish_and_clear();
    println!("{report}");
    fs::write(&asked.output, serde_json::to_string_pretty(&report)?)?;
    Ok(report)
}

/// How far it is: on a terminal a bar over the row that is measured, under the rows that are done; elsewhere a line when a row is begun,
/// and one when it is done.
struct Shown(ProgressBar);

impl Shown {
    /// Steps of a row.
    const STEPS: u64 = 1000;

    fn new() -> Shown {
        let bar = ProgressBar::new(Self::STEPS);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} [{bar:20}] {percent:>3} %  {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message("making the home that is measured");
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Shown(bar)
    }

    fn tell(&self, told: Told<'_>) {
        let Shown(bar) = self;
        match told {
            Told::Begun(nth, all, what) => {
                bar.set_prefix(format!("{nth:>2} of {all}"));
                bar.set_message(what.to_owned());
                bar.set_position(0);
                if bar.is_hidden() {
                    eprintln!("{nth:>2} of {all}  {what}");
                }
            }
            Told::Far(part) => bar.set_position((part * Self::STEPS as f64) as u64),
            Told::Done(row, took) => {
                let seconds = took.as_secs_f64();
                if bar.is_hidden() {
                    eprintln!("          {} ({seconds:.1} s)", row.in_short());
                } else {
                    bar.println(format!(
                        "{}  {}: {} ({seconds:.1} s)",
                        bar.prefix(),
                        row.what,
                        row.in_short()
                    ));
                }
            }
        }
    }
}
