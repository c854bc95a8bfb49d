use ambit_core::json::{Json, Limits, fuzz};
use serde_json::Value;

use crate::fuzz::Became;

pub(super) const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\"a\":",
    "\"\\u0061\"",
    "\\u0000",
    "\\ud83d\\ude00",
    "\\ud800",
    "\\",
    "\\/",
    "true",
    "false",
    "null",
    "1e5",
    "1E+5",
    "1e-5",
    "0.10",
    "-0.0",
    "1e1000",
    "[[[[",
    "{\"a\":{\"a\":",
    " ",
    "\t",
];

/// Beside what the parser holds of itself: serde_json reads the same value from the same text, and from the canonical one.
pub(super) fn drive(bytes: &[u8]) -> Became {
    let became = fuzz::json(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return became;
    };
    match (
        Json::parse(text, Limits::default()),
        serde_json::from_str::<Value>(text),
    ) {
        (Ok(ours), Ok(theirs)) => {
            assert!(
                same(&ours, &theirs),
                "{text} is {ours:?} here and {theirs:?} for serde_json"
            );
            let canonical = ours.to_canonical();
            let again: Value = serde_json::from_str(&canonical).expect("canonical JSON");
            assert!(
                same(&ours, &again),
                "{canonical} is {again:?} for serde_json, not {ours:?}"
            );
        }
        // serde_json has no number beyond those of f64.
        (Ok(_), Err(error)) => assert!(error.to_string().contains("out of range"), "{text}: {error}"),
        (Err(error), Ok(_)) => {
            use ambit_core::json::Fault;
            let stricter = matches!(
                error.fault,
                Fault::Duplicate(_) | Fault::Depth(_) | Fault::Size(_) | Fault::Number
            );
            assert!(stricter, "{text}: {error}, and serde_json reads it");
        }
        (Err(_), Err(_)) => {}
    }
    became
}

fn same(ours: &Json, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Json::Null, Value::Null) => true,
        (Json::Bool(a), Value::Bool(b)) => a == b,
        (Json::String(a), Value::String(b)) => a == b,
        (Json::Number(a), Value::Number(b)) => {
            let (a, b) = (a.to_f64(), b.as_f64().unwrap_or(f64::NAN));
            // serde_json may be off by the last digit of a float.
            a == b || (a - b).abs() <= a.abs() * 1e-14 || (a.abs() < 1e-300 && b.abs() < 1e-300)
        }
        (Json::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Json::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => false,
    }
}
