//! `cargo xtask bench`: sets up, builds, measures, and puts the table into the README.

use std::fs;
use std::process::{Command, ExitCode};

use serde_json::Value;

use crate::demo;
use crate::failure::{Failure, Outcome};
use crate::place::Place;

/// What the table stands between.
const BEGIN: &str = "<!-- bench: written by `cargo xtask bench` -->";
const END: &str = "<!-- end of bench -->";

/// Measures everything and writes the README's table; a quick run only shows that everything can be measured. A missed target
/// is a line of the table, a row that was not measured is a failure.
pub(crate) fn run(place: &Place, quick: bool) -> Outcome<ExitCode> {
    demo::prepare(place)?;
    println!();
    let scratch = place.scratch("bench")?;
    let output = scratch.join(if quick { "quick.json" } else { "bench.json" });
    let program = place.program("ambit-bench");
    let mut bench = Command::new(&program);
    bench.env("AMBIT_COMPONENTS", place.components());
    bench.args(quick.then_some("--quick"));
    bench.arg("--scratch").arg(&scratch).arg("--output").arg(&output);
    let status = bench.status().map_err(|error| Failure::at(&program, &error))?;
    if !status.success() {
        return Ok(ExitCode::FAILURE);
    }
    if !quick {
        let text = fs::read_to_string(&output).map_err(|error| Failure::at(&output, &error))?;
        let report =
            serde_json::from_str(&text).map_err(|error| Failure::new(format!("{}: {error}", output.display())))?;
        let readme = place.root.join("README.md");
        let text = fs::read_to_string(&readme).map_err(|error| Failure::at(&readme, &error))?;
        fs::write(&readme, replaced(&text, &table(&report)?)?).map_err(|error| Failure::at(&readme, &error))?;
        println!("README.md has the table.");
        println!("{}", targets(&report)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// The README with another table.
fn replaced(readme: &str, table: &str) -> Outcome<String> {
    let parts = readme.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.ok_or_else(|| {
        Failure::new(format!(
            "README.md has no place for the table: no `{BEGIN}` before `{END}`"
        ))
    })?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

/// The report as Markdown: rounded, and nothing in it that names a machine.
fn table(report: &Value) -> Outcome<String> {
    let machine = &report["machine"];
    let rows = report["rows"].as_array().ok_or_else(|| no("rows"))?;
    let load = match machine["load"].as_f64() {
        Some(load) => format!(", a load of {load:.0} before"),
        None => String::new(),
    };
    let mut table = format!(
        "Measured by `cargo xtask bench` in one run on {} cores ({}, {}{load}). Ratios carry over to other machines, as far as\n\
         nothing else runs there; figures do not.\n\n\
         | what | measured | compared with | ratio | target | |\n|---|---|---|---|---|---|\n",
        machine["cores"],
        text(machine, "/os")?,
        text(machine, "/arch")?
    );
    for row in rows {
        table.push_str(&line(row)?);
    }
    for what in report["not_built"].as_array().ok_or_else(|| no("not_built"))? {
        table.push_str(&format!("| {} | | | | | not measured yet |\n", text(what, "")?));
    }
    Ok(table)
}

/// How many targets there are and which of them are missed, for whoever reads no table.
fn targets(report: &Value) -> Outcome<String> {
    let rows = report["rows"].as_array().ok_or_else(|| no("rows"))?;
    let mut missed = Vec::new();
    let mut all = 0;
    for row in rows {
        let Some(target) = row.pointer("/figure/target").filter(|target| !target.is_null()) else {
            continue;
        };
        all += 1;
        if target["met"] != true {
            let (what, measured) = (text(row, "/what")?, text(row, "/figure/measured/text")?);
            missed.push(format!("\n  {what}: {measured}, target {}", text(target, "/text")?));
        }
    }
    Ok(match missed.len() {
        0 => format!("All {all} targets are met."),
        many => format!(
            "MISSED: {many} of {all} targets. It is no failure of this command.{}",
            missed.concat()
        ),
    })
}

fn line(row: &Value) -> Outcome<String> {
    let figure = &row["figure"];
    let against = match &figure["against"] {
        Value::Null => String::new(),
        against => format!("{}, {}", text(against, "/what")?, text(against, "/amount/text")?),
    };
    let ratio = figure["ratio"]
        .as_f64()
        .map(|ratio| format!("{ratio:.1}×"))
        .unwrap_or_default();
    let (target, met) = match &figure["target"] {
        Value::Null => ("", ""),
        target => (
            text(target, "/text")?,
            if target["met"] == true { "met" } else { "missed" },
        ),
    };
    let (what, measured) = (text(row, "/what")?, text(figure, "/measured/text")?);
    Ok(format!(
        "| {what} | {measured} | {against} | {ratio} | {target} | {met} |\n"
    ))
}

/// A text in the report; the pointer is JSON's (RFC 6901).
fn text<'v>(value: &'v Value, pointer: &str) -> Outcome<&'v str> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .ok_or_else(|| no(pointer))
}

fn no(what: &str) -> Failure {
    Failure::new(format!(
        "the bench's report has no {what} where it should: are program and xtask of one build?"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_become_lines_without_anything_that_names_a_machine() {
        let report = json!({
            "machine": {"cores": 2, "os": "linux", "arch": "x86_64", "load": 9.21},
            "rows": [
                {"what": "a call", "figure": {
                    "measured": {"value": 20.123, "unit": "us", "text": "20 µs"},
                    "against": {"what": "raw", "amount": {"value": 10.0, "unit": "us", "text": "10 µs"}},
                    "ratio": 2.0123, "target": {"text": "≤ 2×", "met": false}}},
                {"what": "start", "figure": {"measured": {"value": 9.0, "unit": "us", "text": "9.0 µs"}}},
            ],
            "not_built": ["replay"],
        });
        let table = table(&report).unwrap();
        let lines: Vec<&str> = table.lines().skip(5).collect();
        assert_eq!(
            lines,
            [
                "| a call | 20 µs | raw, 10 µs | 2.0× | ≤ 2× | missed |",
                "| start | 9.0 µs |  |  |  |  |",
                "| replay | | | | | not measured yet |",
            ]
        );
        assert!(line(&json!({"what": "a call", "unmeasured": "no"})).is_err());
        assert_eq!(
            targets(&report).unwrap(),
            "MISSED: 1 of 1 targets. It is no failure of this command.\n  a call: 20 µs, target ≤ 2×"
        );
        let met = json!({"rows": [{"what": "a call", "figure": {"target": {"text": "≤ 2×", "met": true}}}]});
        assert_eq!(targets(&met).unwrap(), "All 1 targets are met.");
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let readme = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let written = replaced(&readme, "new\n").unwrap();
        assert_eq!(written, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(replaced(&written, "new\n").unwrap(), written);
        assert!(replaced("no marks", "new\n").is_err());
    }

    #[test]
    fn the_readme_has_a_place_for_the_table() {
        let place = Place::find().unwrap();
        assert!(replaced(&fs::read_to_string(place.root.join("README.md")).unwrap(), "x").is_ok());
    }
}
