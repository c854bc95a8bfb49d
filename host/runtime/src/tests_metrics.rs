//! What hosts count and what is exported of their ledgers, in whole calls.

use ambit_core::hold::{Standing, Verdict, Vote};
use ambit_core::metrics::names;
use ambit_core::metrics::{Format, Metric, Samples, Value as Sample};
use serde_json::Value;

use super::holds::{TWO, held, key, reviewed};
use super::*;
use crate::export::{Export, ExportError, Form};
use crate::metrics::of_ledger;

#[track_caller]
fn is(samples: &Samples, metric: &Metric, labels: &[&str], count: u64) {
    assert_eq!(samples.count(metric, labels), count, "{} {labels:?}", metric.name);
}

fn level(samples: &Samples, metric: &Metric) -> Option<f64> {
    match samples.of(metric).next()?.1 {
        Sample::Level(level) => Some(*level),
        other => panic!("{other:?}"),
    }
}

/// How often something was observed.
fn observed(samples: &Samples, metric: &Metric) -> u64 {
    let all = samples.of(metric).map(|(_, value)| match value {
        Sample::Spread { counts, .. } => counts.iter().sum(),
        _ => 0,
    });
    all.sum()
}

/// The writer counts once it has answered: a moment later.
fn counted(host: &Host, enough: impl Fn(&Samples) -> bool) -> Samples {
    for _ in 0..2_000 {
        let samples = host.metrics().unwrap();
        if enough(&samples) {
            return samples;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!(
        "it is not counted: {}",
        host.metrics().unwrap().text(Format::Prometheus)
    );
}

fn entries(samples: &Samples) -> u64 {
    samples
        .of(&names::ENTRIES)
        .map(|(_, value)| if let Sample::Count(count) = value { *count } else { 0 })
        .sum()
}

#[test]
fn a_host_counts_what_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let before = Reader::open(folder.path()).unwrap().size().unwrap();
    let host = open(folder.path()).unwrap();
    for function in ["get", "post", "twice"] {
        host.call(request(function)).unwrap();
    }
    host.call(CallRequest {
        function: "nothing".to_owned(),
        ..request("get")
    })
    .unwrap();
    let size = host.reader().unwrap().size().unwrap();
    let samples = counted(&host, |samples| entries(samples) == size - before);
    is(&samples, &names::CALLS, &["things", "get", "ok"], 1);
    is(&samples, &names::CALLS, &["things", "twice", "ok"], 1);
    is(&samples, &names::CALLS, &["things", "", "denied"], 1);
    is(&samples, &names::EFFECTS, &["things", "things.get", "guest", "done"], 3);
    is(
        &samples,
        &names::EFFECTS,
        &["things", "things.change", "guest", "done"],
        1,
    );
    assert_eq!(observed(&samples, &names::EFFECT_SECONDS), 4);
    assert!(observed(&samples, &names::COMMIT_SECONDS) > 0);
    assert_eq!(level(&samples, &names::CALLS_RUNNING), Some(0.0));
    assert_eq!(level(&samples, &names::QUEUE), Some(0.0));
    assert_eq!(level(&samples, &names::LEDGER_FAILED), Some(0.0));
    assert_eq!(level(&samples, &names::LEDGER_SIZE), Some(size as f64));
    assert!(level(&samples, &names::STARTED).unwrap() > 1e9);
    // No word of the agent's or the service's, and no id.
    let text = samples.text(Format::Prometheus);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        for word in ["c_", "/things/1", "nothing", "ada", "sha256"] {
            assert!(!line.contains(word), "{word}: {line}");
        }
    }
    drop(host);
    // The ledger says of these the same, and of what was before too.
    let whole = of_ledger(folder.path(), None).unwrap();
    assert_eq!(entries(&whole), size);
    for metric in [&names::CALLS, &names::EFFECTS, &names::REFUSALS, &names::FUEL] {
        let all = |samples: &Samples| {
            samples
                .of(metric)
                .map(|(l, v)| format!("{l:?} {v:?}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(all(&whole), all(&samples), "{}", metric.name);
    }
    // A process that does nothing has counted nothing.
    let host = open(folder.path()).unwrap();
    assert_eq!(host.metrics().unwrap().of(&names::CALLS).count(), 0);
}

const GLASS: &str = "[group.incident]\nmembers = [\"ivy\"]\n[approvals]\nbreak_glass = \"incident\"\n";

/// What a call did in another process is not counted again, and what it does now is counted by its names.
#[test]
fn what_waits_for_a_place_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), &Service::start(), "[limits]\nconcurrent_calls = 1\n");
    let host = open(folder.path()).unwrap();
    let waiting = || level(&host.metrics().unwrap(), &names::CALLS_WAITING);
    assert_eq!(waiting(), Some(0.0));
    let place = host.shared.place().unwrap();
    thread::scope(|scope| {
        let calls = [(); 2].map(|()| scope.spawn(|| host.call(request("post")).unwrap()));
        let began = std::time::Instant::now();
        while waiting() != Some(2.0) {
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", waiting());
        }
        drop(place);
        for call in calls {
            call.join().unwrap();
        }
    });
    assert_eq!(waiting(), Some(0.0));
}

#[test]
fn a_call_that_another_process_began_is_counted_by_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    drop(reviewed(folder.path(), &service, TWO, GLASS));
    home::enrol_person(folder.path(), &key("ivy").verifier().to_string()).unwrap();
    let host = open(folder.path()).unwrap();
    let zero = host.metrics().unwrap();
    let glass = zero.of(&names::BREAK_GLASS).next().unwrap();
    assert_eq!(
        (glass.0, glass.1),
        (vec!["incident"], &Sample::Count(0)),
        "so that the first is seen"
    );
    let answer = host.call(request("both")).unwrap();
    let held = held(&answer);
    let samples = counted(&host, |samples| {
        samples.count(&names::HOLDS, &["things", "things.change"]) == 1
    });
    assert_eq!(level(&samples, &names::HOLDS_PENDING), Some(1.0));
    assert!(level(&samples, &names::OLDEST_HOLD).unwrap() > 1e9);
    drop(host);
    let host = open(folder.path()).unwrap();
    let vote = Vote {
        person: "ivy".to_owned(),
        hold: held.hold,
        verdict: Verdict::BreakGlass,
        group: "incident".to_owned(),
        expires_ms: held.expires_ms,
        in_stead_of: None,
    };
    let said = host.vote(&vote.sign(&key("ivy")).unwrap(), Some("it burns")).unwrap();
    assert_eq!(said.1, Standing::Approved);
    host.resume(answer.call.as_str(), None).unwrap();
    let samples = counted(&host, |samples| samples.of(&names::CALLS).count() == 1);
    is(&samples, &names::BREAK_GLASS, &["incident"], 1);
    is(&samples, &names::VOTES, &["incident", "break-glass"], 1);
    is(&samples, &names::HOLD_ENDS, &["passed"], 1);
    assert_eq!(observed(&samples, &names::HOLD_SECONDS), 1);
    is(
        &samples,
        &names::EFFECTS,
        &["things", "things.change", "guest", "done"],
        1,
    );
    is(&samples, &names::EFFECTS, &["things", "things.get", "guest", "done"], 0);
    assert_eq!(level(&samples, &names::HOLDS_PENDING), Some(0.0));
    let broken = host.reader().unwrap().broken_glass(0).unwrap();
    assert_eq!(broken.len(), 1);
    assert_eq!(
        (broken[0].person.as_str(), broken[0].call.as_str()),
        ("ivy", answer.call.as_str())
    );
    assert!(
        host.reader()
            .unwrap()
            .broken_glass(broken[0].time_ms + 1)
            .unwrap()
            .is_empty()
    );
    drop(host);
    // From then on, of the ledger: the hold's beginning is before it, and its time is known all the same.
    let since = of_ledger(folder.path(), Some(broken[0].time_ms)).unwrap();
    is(&since, &names::BREAK_GLASS, &["incident"], 1);
    assert_eq!(observed(&since, &names::HOLD_SECONDS), 1);
    is(
        &of_ledger(folder.path(), Some(i64::MAX)).unwrap(),
        &names::BREAK_GLASS,
        &["incident"],
        0,
    );
}

#[test]
fn what_is_in_doubt_is_counted_and_told_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::that(hang_up);
    home(
        folder.path(),
        &service,
        "[budget.changes]\nconnection = \"things\"\ncap = 5\nunit = \"effects\"\nwindow = \"day\"\n",
    );
    let host = open(folder.path()).unwrap();
    host.call(request("post")).unwrap();
    let samples = counted(&host, |samples| samples.of(&names::CALLS).count() == 1);
    is(
        &samples,
        &names::IN_DOUBT,
        &["things", "things.change", "connection"],
        1,
    );
    is(
        &samples,
        &names::EFFECTS,
        &["things", "things.change", "guest", "in-doubt"],
        1,
    );
    assert_eq!(level(&samples, &names::DOUBTS), Some(1.0));
    is(&samples, &names::BUDGET_USED, &["changes", "effects"], 1);
    assert_eq!(level(&samples, &names::BUDGET_CAP), Some(5.0));
    let used = samples
        .of(&names::BUDGET_NOW)
        .find(|(labels, _)| labels == &["changes", "effects", "used"]);
    assert!(
        matches!(used, Some((_, Sample::Level(level))) if *level == 1.0),
        "{used:?}"
    );
}

fn exported(export: &mut Export<'_>) -> Vec<Value> {
    let mut lines = Vec::new();
    let written = export.write(|line| {
        lines.push(serde_json::from_str(line).unwrap());
        Ok(())
    });
    written.unwrap();
    lines
}

#[test]
fn an_export_goes_on_where_the_last_one_ended() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    let call = host.call(request("post")).unwrap().call;
    let reader = host.reader().unwrap();
    let lines = Form::Lines { values: false };
    let mut export = Export::new(&reader, lines, None, None, None).unwrap();
    let first = exported(&mut export);
    let last = export.last().unwrap();
    assert_eq!(first.len() as u64, last + 1);
    assert_eq!(exported(&mut export).len(), 0, "there is no more for now");
    host.call(request("get")).unwrap();
    let more = exported(&mut export);
    let mut next = Export::new(&reader, lines, Some(last), None, None).unwrap();
    assert_eq!(exported(&mut next), more, "by the cursor as by the export itself");
    assert_eq!(more[0]["index"], last + 1);
    let indices: Vec<u64> = first
        .iter()
        .chain(&more)
        .map(|line| line["index"].as_u64().unwrap())
        .collect();
    assert!(indices.iter().copied().eq(0..reader.size().unwrap()));
    // From within a call on: what came before it is known.
    let outcome = first.iter().find(|line| line["kind"] == "effect-outcome").unwrap();
    let from = Export::new(
        &reader,
        lines,
        outcome["index"].as_u64().map(|index| index - 1),
        None,
        None,
    );
    let again = &exported(&mut from.unwrap())[0];
    assert_eq!(again, outcome);
    assert_eq!(
        (&again["route"], &again["tool"]),
        (&Value::from("things.change"), &Value::from("things"))
    );
    assert_eq!(again["call"], call.as_str());
    // A ledger that is shorter than what was exported of it is another one, or was cut.
    let size = reader.size().unwrap();
    let beyond = Export::new(&reader, lines, Some(size), None, None).map(|_| ());
    assert!(matches!(beyond, Err(ExportError::Cursor { after, size: found }) if after == size && found == size));
    // By time.
    let time = reader.entry(last + 1).unwrap().time_ms();
    let since = exported(&mut Export::new(&reader, lines, None, Some(time), None).unwrap());
    let until = exported(&mut Export::new(&reader, lines, None, None, Some(time)).unwrap());
    assert_eq!(since.len() + until.len(), size as usize);
    assert!(
        Export::new(&reader, lines, None, Some(i64::MAX), None)
            .unwrap()
            .write(|_| panic!("none"))
            .is_ok()
    );
}

#[test]
fn values_are_exported_only_where_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    host.call(request("post")).unwrap();
    drop(host);
    let keys = Keys::load(folder.path()).unwrap();
    let reader = Reader::open(folder.path()).unwrap().with_keys(&keys);
    let export = |form| exported(&mut Export::new(&reader, form, None, None, None).unwrap());
    for form in [Form::Lines { values: false }, Form::Ocsf] {
        let text: String = export(form).iter().map(Value::to_string).collect();
        assert!(!text.contains("/things/1"), "{text}");
    }
    let named = |lines: &[Value]| -> Vec<(String, Vec<String>)> {
        let of = |line: &Value| {
            let values = line["values"].as_object()?;
            Some((line["kind"].as_str()?.to_owned(), values.keys().cloned().collect()))
        };
        lines.iter().filter_map(of).collect()
    };
    let lines = export(Form::Lines { values: true });
    let expected = [
        ("call-accepted", &["args", "start"][..]),
        ("effect-intent", &["effect/1/asked", "effect/1/request"]),
        ("effect-outcome", &["effect/1/answer"]),
        ("call-finished", &["result"]),
    ];
    let expected: Vec<_> = expected
        .map(|(kind, names)| (kind.to_owned(), names.iter().map(|n| (*n).to_owned()).collect()))
        .into();
    assert_eq!(named(&lines), expected);
    let accepted = lines.iter().find(|line| line["kind"] == "call-accepted").unwrap();
    assert_eq!(accepted["values"]["args"], r#"{"path":"/things/1"}"#);
    let why = Reason::Subject(Subject::Agent("assistant".to_owned()));
    let erasure = reader.erasable(why, 0).unwrap();
    home::erase(folder.path(), &erasure).unwrap();
    let erased = export(Form::Lines { values: true });
    assert_eq!(named(&erased), expected, "that there were some stays");
    let accepted = erased.iter().find(|line| line["kind"] == "call-accepted").unwrap();
    let told = accepted["values"]["args"].as_str().unwrap();
    assert!(told.starts_with("[not readable") && told.contains("erased"), "{told}");
}
