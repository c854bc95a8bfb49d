//! The text formats, read back by a strict reader of their grammar.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What a text said: the value of each sample, by its name and labels.
type Read = BTreeMap<(String, Vec<(String, String)>), f64>;

/// Reads a text as the format's grammar has it, and panics at the first line that is not.
fn read(text: &str, format: Format) -> Read {
    let body = match format {
        Format::Prometheus => text,
        Format::OpenMetrics => text.strip_suffix("# EOF\n").expect("it says where it ends"),
    };
    let (mut samples, mut families) = (Read::new(), BTreeSet::new());
    let (mut family, mut kind): (String, String) = Default::default();
    for line in body
        .strip_suffix('\n')
        .map_or(Vec::new(), |body| body.split('\n').collect())
    {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (what, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            match what {
                "HELP" => {
                    assert!(families.insert(name.to_owned()), "{name} comes twice");
                    family = name.to_owned();
                }
                "TYPE" => {
                    assert_eq!(name, family);
                    kind = rest.to_owned();
                }
                "UNIT" => assert!(
                    format == Format::OpenMetrics && name == family && name.ends_with(rest),
                    "{line}"
                ),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, labels, value) = sample(line);
        let suffixes: &[&str] = match (kind.as_str(), format) {
            ("counter", Format::OpenMetrics) => &["_total"],
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            ("counter" | "gauge", _) => &[""],
            _ => panic!("{kind}"),
        };
        assert!(
            suffixes.iter().any(|suffix| name == format!("{family}{suffix}")),
            "{line} in {family}"
        );
        assert!(samples.insert((name, labels), value).is_none(), "{line} comes twice");
    }
    samples
}

/// `name{label="value",…} number`
fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let at = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = (line[..at].to_owned(), &line[at..]);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            let (mut value, mut chars) = (String::new(), after.chars());
            loop {
                match chars.next().unwrap() {
                    '"' => break,
                    '\\' => value.push(match chars.next().unwrap() {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        c => panic!("\\{c}"),
                    }),
                    c => value.push(c),
                }
            }
            labels.push((label.to_owned(), value));
            rest = chars.as_str();
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').unwrap();
    }
    (name, labels, rest.strip_prefix(' ').unwrap().parse().unwrap())
}

fn of_all_sorts() -> Samples {
    let mut samples = Samples::default();
    samples.add(&CALLS, &["refunds", "refunds.create", "ok"], 3);
    samples.add(&REFUSALS, &["effect", "policy", "a \"rule\" \\ of\nlines"], 1);
    samples.set(&STOPS, &["kill"], 2.0);
    samples.set(&LAST_ENTRY, &[], 1_795_228_800.125);
    for seconds in [0.004, 0.3, 1.0, 31.0] {
        samples.observe(&EFFECT_SECONDS, &["stripe"], seconds);
    }
    samples
}

#[test]
fn both_formats_read_back() {
    let samples = of_all_sorts();
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let read = read(&samples.text(format), format);
        let of = |name: &str, labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            *read
                .get(&(name.to_owned(), labels))
                .unwrap_or_else(|| panic!("{name}: {read:#?}"))
        };
        let call = [("tool", "refunds"), ("function", "refunds.create"), ("outcome", "ok")];
        assert_eq!(of("ambit_calls_total", &call), 3.0);
        let rule = [("of", "effect"), ("code", "policy"), ("rule", "a \"rule\" \\ of lines")];
        assert_eq!(of("ambit_refusals_total", &rule), 1.0);
        assert_eq!(of("ambit_stops_in_force", &[("kind", "kill")]), 2.0);
        assert_eq!(of("ambit_ledger_last_entry_timestamp_seconds", &[]), 1_795_228_800.125);
        let within = |le| {
            of(
                "ambit_effect_duration_seconds_bucket",
                &[("connection", "stripe"), ("le", le)],
            )
        };
        assert_eq!(
            ["0.005", "0.25", "0.5", "1.0", "30.0", "+Inf"].map(within),
            [1.0, 1.0, 2.0, 3.0, 3.0, 4.0]
        );
        assert_eq!(
            of("ambit_effect_duration_seconds_count", &[("connection", "stripe")]),
            4.0
        );
        assert_eq!(
            of("ambit_effect_duration_seconds_sum", &[("connection", "stripe")]),
            32.304
        );
        // What has no labels is there before it is counted.
        assert_eq!(of("ambit_call_pauses_total", &[]), 0.0);
    }
}

proptest! {
    #[test]
    fn whatever_a_label_says_it_is_one_label(labels in proptest::collection::vec(any::<String>(), 3), more in 0..u64::MAX) {
        let mut samples = Samples::default();
        samples.add(&CALLS, &[&labels[0], &labels[1], &labels[2]], more);
        for format in [Format::Prometheus, Format::OpenMetrics] {
            let read = read(&samples.text(format), format);
            let calls: Vec<_> = read.iter().filter(|((name, _), _)| name == "ambit_calls_total").collect();
            prop_assert_eq!(calls.len(), 1);
            prop_assert_eq!(calls[0].0.1.len(), 3);
        }
    }
}

/// Dashboards and alerts name metrics that there are, by labels that they have.
#[test]
fn the_examples_name_what_there_is() {
    let dashboard = include_str!("../../../../examples/grafana/ambit.json");
    let alerts = include_str!("../../../../examples/prometheus/alerts.yml");
    assert!(serde_json::from_str::<serde_json::Value>(dashboard).is_ok());
    let mut named = BTreeSet::new();
    for text in [dashboard, alerts] {
        for (at, _) in text.match_indices("ambit_") {
            let word: String = text[at..]
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect();
            let found = ALL.iter().find(|metric| {
                let suffixes: &[&str] = match metric.kind {
                    Kind::Histogram(_) => &["_bucket", "_sum", "_count"],
                    Kind::Counter | Kind::Gauge => &[""],
                };
                suffixes.iter().any(|suffix| word == format!("{}{suffix}", metric.name))
            });
            let Some(metric) = found else {
                panic!("there is no metric {word}")
            };
            named.insert(metric.name);
            // `{label="…", label=~"…"}` right after it.
            let after = &text[at + word.len()..];
            let Some(matchers) = after.strip_prefix('{').and_then(|after| after.split_once('}')) else {
                continue;
            };
            for matcher in matchers.0.split(',') {
                let label: String = matcher
                    .trim()
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect();
                assert!(metric.labels.contains(&label.as_str()), "{word} has no label {label}");
            }
        }
    }
    assert!(named.len() > 25, "they say little: {named:?}");
}
