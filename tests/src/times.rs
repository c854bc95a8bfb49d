//! How times stand in what commands print for programs (`--format json`): one convention for all of it.
//!
//! A moment is a text in UTC, `2026-11-21T19:00:00.000Z`, under a name without a unit; a span is a whole number of milliseconds under a
//! name that ends in `_ms` or is `ms`. What is of the ledger's own format, of another system's, or a tool's value, stands as it is.

use serde_json::Value;

/// Members that hold what is not the command's to spell: entries of the ledger, receipts, what tools return and what was recorded.
const AS_THEY_ARE: &[&str] = &[
    "args", "diverged", "entries", "entry", "payloads", "receipt", "request", "value",
];

/// Members that are moments, wherever they are.
const MOMENTS: &[&str] = &[
    "accepted",
    "at",
    "began",
    "expires",
    "failed_at",
    "key_until",
    "paused_until",
    "retry_until",
    "since",
    "started",
    "time",
    "turns",
    "until",
];

/// Holds a document to the convention.
///
/// # Errors
/// The first member that breaks it.
pub fn check(document: &Value) -> Result<(), String> {
    match document {
        Value::Array(elements) => elements.iter().try_for_each(check),
        // An event of OCSF, which spells its moments itself.
        Value::Object(members) if members.contains_key("class_uid") => Ok(()),
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| !AS_THEY_ARE.contains(&name.as_str()))
            .try_for_each(|(name, value)| {
                member(name, value)?;
                check(value)
            }),
        _ => Ok(()),
    }
}

fn member(name: &str, value: &Value) -> Result<(), String> {
    let span = name == "ms" || name.ends_with("_ms");
    match value {
        Value::Number(number) => {
            // Milliseconds since 1970, from 2020 to 2100.
            let moment = number
                .as_u64()
                .is_some_and(|number| (1_577_836_800_000..4_102_444_800_000).contains(&number));
            if moment || MOMENTS.contains(&name) {
                return Err(format!(
                    "`{name}` is a moment as a number ({number}), which is to be a text in UTC"
                ));
            }
            Ok(())
        }
        Value::String(text) if span => Err(format!(
            "`{name}` is a text ({text}), and its name says a number of milliseconds"
        )),
        Value::String(text) if MOMENTS.contains(&name) && !is_utc(text) => Err(format!(
            "`{name}` is `{text}`, which is no time such as 2026-11-21T19:00:00.000Z"
        )),
        _ => Ok(()),
    }
}

fn is_utc(text: &str) -> bool {
    let shape = "dddd-dd-ddTdd:dd:dd.dddZ";
    let fits = |(c, shape): (char, char)| if shape == 'd' { c.is_ascii_digit() } else { c == shape };
    text.len() == shape.len() && text.chars().zip(shape.chars()).all(fits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn moments_are_texts_and_spans_are_numbers() {
        let good = json!({ "expires": "2026-11-21T19:00:00.000Z", "age_ms": 5, "cost": { "ms": 3 }, "until": null,
            "receipt": { "time": 1_795_228_800_000_u64 } });
        assert_eq!(check(&good), Ok(()));
        for bad in [
            json!({ "held": { "expires_ms": 1_795_228_800_000_u64 } }),
            json!([{ "since": 7 }]),
            json!({ "age_ms": "2026-11-21T19:00:00.000Z" }),
            json!({ "expires": "tomorrow" }),
        ] {
            assert!(check(&bad).is_err(), "{bad}");
        }
    }
}
