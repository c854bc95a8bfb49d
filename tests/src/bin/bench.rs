//! What `cargo xtask bench` runs: measures, prints a table, and writes it as JSON for programs.
//!
//! ```text
//! ambit-bench [--quick] --scratch FOLDER --output FILE
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program prints")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ambit_tests::bench::{self, Effort, Report};

const USAGE: &str = "usage: ambit-bench [--quick] --scratch FOLDER --output FILE";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (effort, scratch, output) = match words.as_slice() {
        // The program's own, for what is measured in a fresh process.
        ["--live", home] => return bench::live_main(Path::new(home)),
        ["--quick", "--scratch", scratch, "--output", output] => (Effort::Quick, scratch, output),
        ["--scratch", scratch, "--output", output] => (Effort::Full, scratch, output),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match run(Path::new(scratch), &PathBuf::from(output), effort) {
        Ok(report) if report.rows.iter().all(|row| row.figure.is_some()) => ExitCode::SUCCESS,
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

fn run(scratch: &Path, output: &Path, effort: Effort) -> Result<Report, Box<dyn Error + Send + Sync>> {
    fs::create_dir_all(scratch)?;
    let report = bench::run(scratch, effort, |what| eprintln!("measuring {what}"))?;
    println!("{report}");
    fs::write(output, serde_json::to_string_pretty(&report)?)?;
    Ok(report)
}
