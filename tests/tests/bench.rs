//! The bench still measures everything.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::process::Command;

use ambit_tests::programs::program;
use serde_json::Value;

/// Every row of the design's table that has something to measure, and those that stand beside them.
const ROWS: [&str; 26] = [
    "governed-call",
    "governed-call-without-memo",
    "durable-1",
    "durable-16",
    "durable-256",
    "http-effect",
    "http-effect-with-look-up",
    "live-call",
    "beside-spinning",
    "kill",
    "start",
    "replay",
    "hold",
    "pending-holds",
    "pending-holds-memory",
    "what-if",
    "mcp-stdio-1",
    "mcp-stdio-16",
    "mcp-http-1",
    "mcp-http-16",
    "mcp-http-256",
    "mcp-https-1",
    "mcp-http-beside-spinning",
    "start-to-tools-list",
    "idle-memory",
    "mcp-memory",
];

#[test]
fn a_quick_run_measures_every_row() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("report.json");
    let mut bench = Command::new(program("ambit-bench"));
    bench
        .args(["--quick", "--scratch"])
        .arg(scratch.path())
        .arg("--output")
        .arg(&output);
    let run = bench.output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let report: Value = serde_json::from_str(&fs::read_to_string(&output).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| &row["id"]).collect::<Vec<_>>(), ROWS);
    for row in rows {
        let measured = row["figure"]["measured"]["value"].as_f64();
        assert!(measured.is_some_and(|value| value.is_finite() && value > 0.0), "{row}");
    }
    let targets = rows.iter().filter(|row| row["figure"]["target"]["met"].is_boolean());
    assert_eq!(targets.count(), 20);
    let left: Vec<_> = fs::read_dir(scratch.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["report.json"], "the home that was measured is gone");
}
