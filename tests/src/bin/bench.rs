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

use ambit_tests::bench::{self, Effort, Report};

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
    let tell = |nth: usize, all: usize, what: &str| eprintln!("measuring {nth} of {all}: {what}");
    let report = bench::run(&asked.scratch, asked.effort, &asked.only, tell)?;
    println!("{report}");
    fs::write(&asked.output, serde_json::to_string_pretty(&report)?)?;
    Ok(report)
}
