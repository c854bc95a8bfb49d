//! Entries read one by one: counted, and told to other systems.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;
use crate::hold::{Edit, End as HoldEnd};
use crate::ledger::Kind;
use crate::metrics::names::*;
use crate::metrics::{Format, Metric, Metrics, Samples, Value as Sample};
use crate::siem::{lines, ocsf};
use crate::webhook::{self, Event, may_tell};

/// A ledger with an entry of every kind, in an order that needs not be one.
pub(super) fn every_kind() -> Vec<Entry> {
    let (mut log, holds) = (Log::of_everything(), Log::of_holds());
    log.push(of_call('b', resolved(1, Found::Done)));
    log.push(erased(&['a', 'd']));
    run().into_iter().for_each(|draft| log.push(draft));
    log.push(breaker_opened(1));
    log.push(breaker_closed(ClosedBy::Probe));
    log.push(paused());
    log.push(of_call('x', accepted()));
    log.push(of_call('x', intent(1)));
    log.push(of_call('x', retried(1, 2)));
    log.push(of_call('x', guest_ended(1, 5)));
    log.push(of_call('x', resumed(2)));
    let Body::EffectOutcome(mut dead) = after(1, 2) else {
        unreachable!()
    };
    dead.dead = true;
    log.push(of_call('x', dead));
    log.push(of_call('x', paused_by("s_a")));
    log.push(of_call('x', checked(1, Shown::Missing)));
    log.push(of_call('x', suspended(9)));
    reloads().into_iter().for_each(|draft| log.push(draft));
    told().into_iter().for_each(|draft| log.push(draft));
    log.push(of_call('y', retry_accepted()));
    log.push(of_call('y', redelivered(1, Cause::Operator)));
    log.push(dropped());
    log.push(diverged('a', Some(1)));
    log.push(of_call('y', guest_ended(1, 700)));
    log.push(of_call('y', resumed(2)));
    keys().into_iter().for_each(|draft| log.push(draft));
    log.entries.into_iter().chain(holds.entries).collect()
}

pub(super) fn counted(log: &Log) -> Metrics {
    let mut metrics = Metrics::default();
    for entry in &log.entries {
        assert_eq!(metrics.unknown(entry), None, "all of it is read");
        metrics.note(entry);
    }
    metrics
}

#[track_caller]
fn is(samples: &Samples, metric: &Metric, labels: &[&str], count: u64) {
    assert_eq!(samples.count(metric, labels), count, "{} {labels:?}", metric.name);
}

#[test]
fn every_entry_is_counted_whatever_it_says() {
    let entries = every_kind();
    let mut metrics = Metrics::default();
    entries.iter().for_each(|entry| metrics.note(entry));
    let samples = metrics.samples();
    let kinds: BTreeSet<&str> = samples
        .of(&ENTRIES)
        .filter_map(|(labels, _)| labels.first().copied())
        .collect();
    assert_eq!(kinds.len(), Kind::ALL.len());
    let all: u64 = Kind::ALL
        .iter()
        .map(|kind| samples.count(&ENTRIES, &[kind.as_str()]))
        .sum();
    assert_eq!(all, entries.len() as u64);
}

#[test]
fn calls_and_effects_are_counted_by_names() {
    let metrics = counted(&Log::of_everything());
    let samples = metrics.samples();
    is(samples, &CALLS, &["refunds", "refunds.create", "ok"], 1);
    is(samples, &CALLS, &["refunds", "refunds.create", "trapped"], 1);
    is(samples, &CALLS, &["refunds", "refunds.create", "denied"], 1);
    is(samples, &DECISIONS, &["call", "permitted"], 2);
    is(samples, &DECISIONS, &["call", "denied"], 1);
    is(samples, &REFUSALS, &["call", "policy", "support-refunds"], 1);
    is(samples, &REFUSALS, &["effect", "money", "support-refunds"], 1);
    is(samples, &REFUSALS, &["sending", "address", "support-refunds"], 1);
    is(samples, &REFUSALS, &["end", "fuel", "support-refunds"], 1);
    let effect = |outcome| samples.count(&EFFECTS, &["stripe", "refunds.create", "guest", outcome]);
    assert_eq!(
        ["done", "in-doubt", "not-sent", "refused", "failed"].map(effect),
        [1, 1, 1, 1, 0]
    );
    is(samples, &IN_DOUBT, &["stripe", "refunds.create", "timeout"], 1);
    is(samples, &FUEL, &["refunds", "refunds.create"], 2 * 123_456);
    is(samples, &EFFECT_BYTES, &["stripe", "sent"], 3 * 123);
    // What is in doubt is not spent yet.
    is(samples, &MONEY, &["usd", "refunds", "stripe", "refunds.create"], 5_000);
}

#[test]
fn money_in_doubt_counts_once_somebody_says_so() {
    let mut log = Log::of_everything();
    let spent = |log: &Log| counted_by_recall(log).count(&MONEY, &["usd", "refunds", "stripe", "refunds.create"]);
    let before = spent(&log);
    log.push(of_call('b', resolved(1, Found::Done)));
    assert_eq!(spent(&log), before + 5_000);
    log.push(of_call('b', resolved(1, Found::NotDone)));
    assert_eq!(spent(&log), before + 5_000);
}

/// As whoever reads on has to: of a call that is over, and of one that began before, what came before is taken in again.
fn counted_by_recall(log: &Log) -> Samples {
    let mut metrics = Metrics::default();
    for entry in &log.entries {
        if let Some(call) = metrics.unknown(entry) {
            let before = log
                .entries
                .iter()
                .filter(|e| e.call() == Some(call) && e.index() < entry.index());
            before.for_each(|entry| metrics.recall(entry));
        }
        metrics.note(entry);
    }
    metrics.samples().clone()
}

#[test]
fn counting_on_from_anywhere_names_what_counting_all_does() {
    let log = Log::of_everything();
    let whole = counted_by_recall(&log);
    for from in 0..log.entries.len() {
        let (mut first, mut rest) = (Metrics::default(), Metrics::default());
        log.entries[..from].iter().for_each(|entry| first.note(entry));
        for entry in &log.entries[from..] {
            if let Some(call) = rest.unknown(entry) {
                let before = log
                    .entries
                    .iter()
                    .filter(|e| e.call() == Some(call) && e.index() < entry.index());
                before.for_each(|entry| rest.recall(entry));
            }
            rest.note(entry);
        }
        let mut sum = first.samples().clone();
        sum.merge(rest.samples());
        assert_eq!(
            sum.text(Format::Prometheus),
            whole.text(Format::Prometheus),
            "from {from}"
        );
    }
}

pub(super) fn vote(verdict: Verdict, group: &str) -> Body {
    let vote = Vote {
        person: "ivy".to_owned(),
        hold: digest("hold"),
        verdict,
        group: group.to_owned(),
        expires_ms: 1_795_228_900_000,
        in_stead_of: None,
    };
    let Body::HoldVoted(mut body) = voted(0) else {
        unreachable!()
    };
    body.vote = vote.sign(&SignerKey::from_seed("ivy", &[9; 32]).unwrap()).unwrap();
    body.instead = (verdict == Verdict::BreakGlass).then(|| [("finance".to_owned(), 2)].into());
    body.into()
}

#[test]
fn what_people_do_is_counted() {
    let mut log = Log::new();
    log.push(of_call('a', accepted()));
    log.push(of_call('a', held(0)));
    log.push(of_call('a', vote(Verdict::Approve, "finance")));
    log.push(of_call('a', vote(Verdict::BreakGlass, "incident")));
    log.push(of_call('a', passed(0)));
    let metrics = counted(&log);
    let samples = metrics.samples();
    is(samples, &HOLDS, &["stripe", "refunds.create"], 1);
    is(samples, &DECISIONS, &["effect", "held"], 1);
    is(samples, &DECISIONS, &["effect", "permitted"], 1);
    is(samples, &VOTES, &["finance", "approve"], 1);
    is(samples, &VOTES, &["incident", "break-glass"], 1);
    is(samples, &BREAK_GLASS, &["incident"], 1);
    is(samples, &HOLD_ENDS, &["passed"], 1);
    // Entries of this log are a second apart.
    let spread = samples.of(&HOLD_SECONDS).next().unwrap();
    assert_eq!(spread.0, ["passed"]);
    assert!(
        matches!(spread.1, Sample::Spread { sum, .. } if *sum == 3.0),
        "{spread:?}"
    );
}

#[test]
fn an_edited_hold_is_one_hold_that_ends_twice() {
    let mut log = Log::new();
    log.push(of_call('a', accepted()));
    log.push(of_call('a', held(0)));
    let edit = Edit {
        person: "ivy".into(),
        hold: digest("hold"),
        changes: digest("changes"),
        group: "finance".into(),
        expires_ms: 1_795_228_900_000,
    };
    let signed = edit.sign(&SignerKey::from_seed("ivy", &[9; 32]).unwrap()).unwrap();
    let Body::HoldEdited(mut edited) = edits::edited(0) else {
        unreachable!()
    };
    edited.edit = signed;
    log.push(of_call('a', edited));
    log.push(of_call('a', edits::held_anew(|_| {})));
    let Body::EffectRefused(mut expired) = refused(0) else {
        unreachable!()
    };
    expired.hold = Some(digest("hold"));
    expired.end = Some(HoldEnd::Expired);
    log.push(of_call('a', expired));
    let metrics = counted(&log);
    let samples = metrics.samples();
    is(samples, &HOLDS, &["stripe", "refunds.create"], 1);
    is(samples, &HOLD_EDITS, &["finance"], 1);
    is(samples, &HOLD_ENDS, &["edited"], 1);
    is(samples, &HOLD_ENDS, &["expired"], 1);
}

/// What OCSF 1.8 requires of an API Activity, written as a schema from its definition: required attributes, constraints of the objects
/// used here, types, and the enumerations.
fn ocsf_schema() -> Value {
    let named = |names: &[&str]| -> Value { names.iter().map(|name| json!({ "required": [name] })).collect() };
    let entity = json!({ "type": "object", "anyOf": named(&["name", "uid"]) });
    let endpoint = json!({
        "type": "object",
        "anyOf": named(&["ip", "uid", "name", "hostname", "svc_name", "instance_uid", "interface_uid", "interface_name", "domain"]),
    });
    let text = json!({ "type": "string", "minLength": 1 });
    let types = ["Unknown", "Create", "Read", "Update", "Delete", "Other"].map(|name| format!("API Activity: {name}"));
    json!({
        "type": "object",
        "required": ["activity_id", "actor", "api", "category_uid", "class_uid", "metadata", "severity_id", "src_endpoint", "time", "type_uid"],
        "additionalProperties": false,
        "properties": {
            "activity_id": { "enum": [0, 1, 2, 3, 4, 99] },
            "activity_name": text,
            "category_uid": { "const": 6 },
            "category_name": { "const": "Application Activity" },
            "class_uid": { "const": 6003 },
            "class_name": { "const": "API Activity" },
            "type_uid": { "enum": [600_300, 600_301, 600_302, 600_303, 600_304, 600_399] },
            "type_name": { "enum": types },
            "time": { "type": "integer", "minimum": 1_000_000_000_000_i64 },
            "severity_id": { "enum": [0, 1, 2, 3, 4, 5, 6, 99] },
            "severity": { "enum": ["Unknown", "Informational", "Low", "Medium", "High", "Critical", "Fatal"] },
            "status_id": { "enum": [0, 1, 2, 99] },
            "status": { "enum": ["Unknown", "Success", "Failure"] },
            "status_code": text,
            "status_detail": text,
            "message": text,
            "metadata": {
                "type": "object",
                "required": ["product", "version"],
                "additionalProperties": false,
                "properties": {
                    "version": { "const": "1.8.0" },
                    "product": {
                        "type": "object",
                        "anyOf": named(&["name", "uid"]),
                        "required": ["vendor_name"],
                        "additionalProperties": false,
                        "properties": { "name": text, "uid": text, "vendor_name": text, "version": text },
                    },
                    "profiles": { "type": "array", "items": { "enum": ["security_control", "trace"] }, "uniqueItems": true },
                    "uid": text, "event_code": text, "log_name": text, "log_provider": text,
                    "sequence": { "type": "integer" },
                    "correlation_uid": text, "tenant_uid": text,
                },
            },
            "actor": {
                "type": "object",
                "anyOf": named(&["process", "user", "invoked_by", "session", "app_name", "app_uid"]),
                "additionalProperties": false,
                "properties": {
                    "app_name": text,
                    "user": {
                        "type": "object",
                        "anyOf": named(&["account", "name", "uid"]),
                        "additionalProperties": false,
                        "properties": {
                            "name": text, "type": text, "type_id": { "enum": [0, 1, 2, 3, 4, 99] },
                            "groups": { "type": "array", "items": entity },
                            "org": entity,
                        },
                    },
                },
            },
            "api": {
                "type": "object",
                "required": ["operation"],
                "additionalProperties": false,
                "properties": {
                    "operation": text,
                    "service": entity,
                    "request": { "type": "object", "required": ["uid"], "properties": { "uid": text } },
                    "response": {
                        "type": "object",
                        "additionalProperties": false,
                        "properties": { "code": { "type": "integer" }, "error": text },
                    },
                },
            },
            "src_endpoint": endpoint,
            "dst_endpoint": endpoint,
            "http_response": { "type": "object", "required": ["code"], "properties": { "code": { "type": "integer" } } },
            "resources": { "type": "array", "items": entity },
            "trace": { "type": "object", "required": ["uid"] },
            "action_id": { "enum": [0, 1, 2, 3, 4, 99] },
            "action": text,
            "disposition_id": { "type": "integer", "minimum": 0, "maximum": 99 },
            "disposition": text,
            "authorizations": {
                "type": "array",
                "items": { "type": "object", "properties": { "decision": text, "policy": entity }, "additionalProperties": false },
            },
            "is_alert": { "type": "boolean" },
            "unmapped": { "type": "object" },
        },
    })
}

#[test]
fn every_entry_is_an_event_that_ocsf_knows() {
    let schema = jsonschema::validator_for(&ocsf_schema()).unwrap();
    let mut calls = Contexts::default();
    for entry in every_kind() {
        // Also where nothing is known of what came before.
        for known in [&Contexts::default(), &calls] {
            let event = ocsf::event(&entry, known, NAME, "0.1.0");
            let wrong: Vec<String> = schema
                .iter_errors(&event)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert_eq!(wrong, [""; 0], "{event:#}");
            let (activity, kind) = (&event["activity_id"], &event["type_uid"]);
            assert_eq!(kind.as_u64().unwrap(), 600_300 + activity.as_u64().unwrap());
            assert_eq!(event["time"], entry.time_ms());
            assert_eq!(
                event["metadata"]["profiles"].as_array().unwrap().len() == 2,
                event.get("trace").is_some()
            );
        }
        calls.take(&entry);
    }
}

#[test]
fn an_outcome_is_told_with_the_route_that_its_intent_named() {
    let log = Log::of_everything();
    let mut calls = Contexts::default();
    log.entries.iter().take(8).for_each(|entry| calls.take(entry));
    let outcome = &log.entries[7];
    assert_eq!(outcome.kind(), Kind::EffectOutcome);
    let event = ocsf::event(outcome, &calls, NAME, "0.1.0");
    assert_eq!(event["api"]["operation"], "refunds.create");
    assert_eq!(event["api"]["service"]["name"], "stripe");
    assert_eq!(event["api"]["response"]["code"], 200);
    assert_eq!(event["status_id"], 1);
    assert_eq!(event["actor"]["user"]["name"], "alice");
    assert_eq!(event["actor"]["app_name"], "support-bot");
    assert_eq!(event["metadata"]["uid"], format!("{NAME}/7"));
    let line: Value = serde_json::from_str(&lines::line(outcome, &calls, &BTreeMap::new())).unwrap();
    assert_eq!(line["tool"], "refunds");
    assert_eq!(line["route"], "refunds.create");
    assert_eq!(line["money"], json!({ "currency": "usd", "minor": 5000 }));
    assert_eq!(line["index"], 7);
}

#[test]
fn a_line_has_the_entry_as_it_is_hashed() {
    let mut calls = Contexts::default();
    for entry in every_kind() {
        calls.take(&entry);
        let line = lines::line(&entry, &calls, &BTreeMap::new());
        assert!(!line.contains('\n'));
        assert!(line.ends_with(&format!("\"entry\":{}}}", entry.text())), "{line}");
    }
}

#[test]
fn break_glass_is_an_alert() {
    let mut log = Log::new();
    log.push(of_call('a', accepted()));
    log.push(of_call('a', held(0)));
    log.push(of_call('a', vote(Verdict::BreakGlass, "incident")));
    let event = ocsf::event(&log.entries[3], &Contexts::default(), NAME, "0.1.0");
    assert_eq!(event["is_alert"], true);
    assert_eq!(event["severity"], "High");
    assert_eq!(event["unmapped"]["break_glass"], true);
    assert_eq!(event["actor"]["user"]["name"], "ivy");
}

#[test]
fn no_more_calls_are_known_than_may_be() {
    let mut calls = Contexts::default();
    let id = |nth: usize| {
        let letters: String = format!("{nth:026}")
            .chars()
            .map(|c| char::from(b'a' + (c as u8 - b'0')))
            .collect();
        format!("c_{letters}")
    };
    let entry = |nth: usize| {
        let mut draft = of_call('a', accepted());
        draft.call = Some(id(nth));
        draft.seal(Stamp::first(1_795_228_800_000)).unwrap()
    };
    (0..5_000).for_each(|nth| calls.take(&entry(nth)));
    assert!(calls.of(&entry(0)).is_none());
    assert!(calls.of(&entry(4_999)).is_some());
}

#[test]
fn every_type_of_event_is_read_from_entries() {
    let mut log = Log::of_holds();
    let without_room = |exhausted: &[&str]| {
        let Body::EffectRefused(mut body) = refused(3) else {
            unreachable!()
        };
        body.exhausted = exhausted.iter().map(ToString::to_string).collect();
        of_call('a', body)
    };
    log.push(without_room(&["refunds", "all"]));
    log.push(of_call('z', accepted()));
    log.push(of_call('z', held(0)));
    log.push(of_call('z', vote(Verdict::BreakGlass, "incident")));
    log.push(of_call('z', passed(0)));
    let mut calls = Contexts::default();
    let mut seen = BTreeSet::new();
    for entry in every_kind().into_iter().chain(log.entries) {
        // Also where nothing is known of what came before.
        for known in [&Contexts::default(), &calls] {
            let events = Event::of(&entry, known);
            assert!(events.is_empty() || may_tell(&entry), "{}", entry.text());
            for event in events {
                assert_eq!((event.index, event.time_ms), (entry.index(), entry.time_ms()));
                for format in webhook::Format::ALL {
                    let body = format.body(NAME, &event);
                    assert!(!body.contains('\n') && body.len() < 8_192, "{body}");
                    let _: Value = serde_json::from_str(&body).unwrap();
                }
                seen.insert(event.kind);
            }
        }
        calls.take(&entry);
    }
    let all: BTreeSet<EventType> = EventType::ALL.iter().copied().collect();
    assert_eq!(seen, all);
}

#[test]
fn an_event_of_an_effect_is_told_with_its_route_tool_and_tenant() {
    let mut log = Log::new();
    log.push(of_call('a', accepted()));
    log.push(of_call('a', held(0)));
    let mut calls = Contexts::default();
    log.entries.iter().take(2).for_each(|entry| calls.take(entry));
    let events = Event::of(&log.entries[2], &calls);
    let [event] = events.as_slice() else {
        panic!("{events:?}")
    };
    let data = event.data(NAME);
    assert_eq!(data["connection"], "stripe");
    assert_eq!(data["tool"], "refunds");
    assert_eq!(data["tenant"], "acme");
    assert!(event.about.is_of(Some("acme"), Some("refunds"), Some("stripe")));
    assert!(
        data["next"].as_str().unwrap().starts_with("`ambit approvals show "),
        "{data:?}"
    );
    // An outcome names its effect by a number alone.
    calls.take(&log.entries[2]);
    log.push(of_call('a', passed(0)));
    calls.take(&log.entries[3]);
    log.push(of_call('a', outcome(0, Outcome::InDoubt(Doubt::Timeout))));
    let events = Event::of(&log.entries[4], &calls);
    let [event] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(event.kind, EventType::EffectInDoubt);
    assert_eq!(event.data(NAME)["route"], "refunds.create");
    assert_eq!(event.data(NAME)["outcome"], json!({ "in-doubt": "timeout" }));
}

#[test]
fn what_is_only_read_is_in_no_doubt_that_people_are_told_of() {
    let mut log = Log::new();
    log.push(of_call('a', accepted()));
    let Body::EffectIntent(mut read) = intent(1) else {
        unreachable!()
    };
    read.tier = Tier::Read;
    log.push(of_call('a', read));
    log.push(of_call('a', outcome(1, Outcome::InDoubt(Doubt::Timeout))));
    let mut calls = Contexts::default();
    log.entries.iter().for_each(|entry| calls.take(entry));
    assert_eq!(Event::of(&log.entries[3], &calls), []);
}
