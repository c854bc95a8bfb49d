//! What a run logs as JSON: a document a line, of the same members.

use serde_json::Value;

const MEMBERS: [&str; 5] = ["fields", "level", "message", "target", "time"];
const LEVELS: [&str; 5] = ["debug", "error", "info", "trace", "warn"];

/// Reads every line of standard error that begins as a document does.
///
/// # Errors
/// One is none, or has other members.
pub(crate) fn check(err: &str) -> Result<(), String> {
    err.lines().filter(|line| line.starts_with('{')).try_for_each(|line| {
        let said = serde_json::from_str::<Value>(line).map_err(|error| format!("no log line: {error}: {line}"))?;
        is_event(&said)
            .then_some(())
            .ok_or_else(|| format!("a log line of another form: {line}"))
    })
}

fn is_event(said: &Value) -> bool {
    let Some(members) = said.as_object() else { return false };
    let mut names: Vec<&str> = members.keys().map(String::as_str).collect();
    names.sort_unstable();
    names == MEMBERS
        && said["level"].as_str().is_some_and(|level| LEVELS.contains(&level))
        && ["target", "time"].iter().all(|member| said[member].is_string())
        && (said["message"].is_string() || said["message"].is_null())
        && said["fields"].is_object()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_a_document_of_one_form() {
        let line = r#"{"time":"2026-11-21T00:00:00Z","level":"info","target":"ambit","message":"m","fields":{}}"#;
        assert_eq!(check(&format!("error: said\n{line}\n{line}\n")), Ok(()));
        for other in [
            line.replace("info", "loud"),
            line.replace(r#""fields":{}"#, r#""fields":[]"#),
            line.replace(r#""target":"ambit","#, ""),
            line.replace("}}", "}"),
            format!("{line}{line}"),
        ] {
            assert!(check(&other).is_err(), "{other}");
        }
    }
}
