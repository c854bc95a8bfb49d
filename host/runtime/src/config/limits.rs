//! `[limits]` and `[tool.*.limits]`: what calls may use, within what a host can hold.

use ambit_core::grant::Limits;
use ambit_core::guard;
use serde_json::{Map, Value};

use super::reader::Table;

const MIB: u64 = 1 << 20;
const MINUTE: u64 = 60_000;

/// Least and most of each limit that a configuration can set. Zero would make a tool that cannot run; the most is what many calls at once
/// may do to a host, or what another part of Ambit can hold.
const RANGES: &[(&str, u64, u64)] = &[
    ("fuel", 1, u64::MAX),
    ("memory_bytes", 64 << 10, 4096 * MIB),
    ("wall_ms", 1, 60 * MINUTE),
    ("upstream_ms", 1, 10 * MINUTE),
    ("stack_bytes", 64 << 10, 8 * MIB),
    ("args_bytes", 1, 64 * MIB),
    ("result_bytes", 1, 64 * MIB),
    ("log_bytes", 0, 16 * MIB),
    ("request_body_bytes", 0, ambit_core::grant::LARGEST_BODY),
    ("response_body_bytes", 0, ambit_core::grant::LARGEST_BODY),
    ("effects", 0, 4096),
    ("json_depth", 1, 64),
    ("concurrent_calls", 1, 1000),
    ("hold_ms", 1000, 90 * 24 * 60 * MINUTE),
    ("open_holds", 0, 100_000),
];

/// The limits that a table sets, over `base` for what it does not say.
pub(super) fn of(table: Option<Table<'_>>, base: &Limits) -> Limits {
    let Some(table) = table else {
        return base.clone();
    };
    let mut values = values(base);
    for (name, least, most) in RANGES {
        let Some(number) = table.number(name) else { continue };
        if guard!("config.limit-range", (*least..=*most).contains(&number.value)) {
            values.insert((*name).to_owned(), number.value.into());
        } else {
            let message = format!("`{name}` of {} is out of range", table.what());
            let help = format!("from {least} to {most}");
            table.source().problem(number.span, message, "out of range", Some(help));
        }
    }
    table.done();
    // In range, so it reads back; if it ever did not, nothing would be allowed beyond the base.
    serde_json::from_value(Value::Object(values)).unwrap_or_else(|_| base.clone())
}

/// The name of a limit that no configuration can set so, where one is: for limits that come from elsewhere.
pub(crate) fn out_of_range(limits: &Limits) -> Option<&'static str> {
    let values = values(limits);
    let outside = |(name, least, most): &&(&str, u64, u64)| {
        let value = values.get(*name).and_then(Value::as_u64);
        value.is_none_or(|value| !(*least..=*most).contains(&value))
    };
    RANGES.iter().find(outside).map(|(name, ..)| *name)
}

/// Limits as text, for the configuration's digest.
pub(super) fn text(limits: &Limits) -> String {
    Value::Object(values(limits)).to_string()
}

fn values(limits: &Limits) -> Map<String, Value> {
    match serde_json::to_value(limits) {
        Ok(Value::Object(values)) => values,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_range_and_its_default_is_in_it() {
        let defaults = values(&Limits::default());
        let names: Vec<_> = RANGES.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names.len(), defaults.len());
        for (name, least, most) in RANGES {
            let default = defaults[*name].as_u64().unwrap();
            assert!((*least..=*most).contains(&default), "{name}");
        }
    }
}
