//! Recorded calls, decided under another policy, run in another build, taken elsewhere, and learned from.

use ambit_core::hold::Verdict as Say;
use ambit_core::ledger::bundle::{Bundle, MAX_BUNDLE};
use ambit_core::policy::PolicySet;

use super::holds::{ONE, TWO, approve, held, reviewed, vote};
use super::*;
use crate::replay::{Replayer, replay_bundle};
use crate::whatif::{Rebuilt, Rerun, Weighed, WhatIf, Word};

const ALL: &str = "@id(\"all\") permit (principal, action, resource);";

fn weighed(folder: &Path, policy: &str) -> Weighed {
    let mut what_if = WhatIf::open(folder).unwrap();
    let sources = [("main.cedar".to_owned(), policy.to_owned())];
    let policy = PolicySet::load(&sources, &what_if.config().group_sizes()).unwrap();
    let calls = what_if.reader().begun_since(None).unwrap();
    what_if.policy(&policy, &calls, |_| {}).unwrap()
}

/// Each change as one line: what, then, now.
fn changes(weighed: &Weighed) -> Vec<String> {
    let word = |word: Word, rules: &[String]| format!("{word:?} by {}", rules.join(","));
    let line = |changed: &crate::whatif::Changed| {
        let then = word(changed.then.word, &changed.then.rules);
        let now = word(changed.now.word, &changed.now.rules);
        format!("{}: {then}, {now}", changed.place.what)
    };
    weighed.changed.iter().map(line).collect()
}

/// A home with a call of every kind: done, approved, rejected, waiting, dry, denied.
fn every_kind(folder: &Path, service: &Service) {
    let host = reviewed(folder, service, ONE, "");
    host.call(request("get")).unwrap();
    let approved = host.call(request("both")).unwrap();
    approve(&host, &held(&approved), "rita").unwrap();
    host.resume(approved.call.as_str(), None).unwrap();
    let rejected = host.call(request("post")).unwrap();
    host.vote(&vote(&held(&rejected), "rita", Say::Reject), None).unwrap();
    host.resume(rejected.call.as_str(), None).unwrap();
    host.call(request("post")).unwrap();
    let dry = CallRequest {
        mode: Mode::DryRun,
        ..request("post")
    };
    host.call(dry).unwrap();
    let unknown = CallRequest {
        agent: "nobody".to_owned(),
        ..request("get")
    };
    host.call(unknown).unwrap();
}

#[test]
fn under_the_same_policy_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    every_kind(folder.path(), &service);
    let same = weighed(folder.path(), ONE);
    assert_eq!(
        (same.changed.len(), same.undecided.len(), same.other_rules),
        (0, 0, 0),
        "{same:?}"
    );
    // Reads of two calls, three holds, one of which was then sent; apart are the rejection, the dry run and the unknown caller.
    assert_eq!((same.calls, same.effects, same.apart), (5, 6, 3), "{same:?}");
}

#[test]
fn what_would_change_is_told_with_its_rules() {
    let folder = tempfile::tempdir().unwrap();
    every_kind(folder.path(), &Service::start());
    let no_reads = format!("{ONE}\n@id(\"blind\") forbid (principal, action == Action::\"read\", resource);");
    assert_eq!(
        changes(&weighed(folder.path(), &no_reads)),
        ["read things/things.get: Permitted by all, Denied by blind"; 2]
    );
    // Who waited for one waits for two, and one approval is not enough.
    let two = weighed(folder.path(), TWO);
    let waits = "commit things/things.change: Held by reviewed, Held by reviewed";
    let stopped = "commit things/things.change: Permitted by all, Denied by reviewed";
    assert_eq!(changes(&two), [waits, stopped, waits, waits]);
    assert_eq!(two.changed[1].approvals["reviewer"], 1);
    // Nobody is asked any more.
    let nobody = weighed(folder.path(), ALL);
    let passes = "commit things/things.change: Held by reviewed, Permitted by all";
    assert_eq!(changes(&nobody), [passes; 3]);
    // No call begins: what its effects would have come to is told too.
    let none = weighed(folder.path(), "@id(\"none\") forbid (principal, action, resource);");
    assert_eq!(none.changed.len(), 11, "{:?}", changes(&none));
}

#[test]
fn a_call_that_was_denied_would_pass_and_another_rule_is_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let only = "@id(\"suggests\") permit (principal, action, resource) when { context.mode == \"suggest\" };";
    std::fs::write(folder.path().join("policy/main.cedar"), only).unwrap();
    let host = open(folder.path()).unwrap();
    host.call(request("get")).unwrap();
    let suggest = CallRequest {
        mode: Mode::Suggest,
        ..request("get")
    };
    host.call(suggest).unwrap();
    assert_eq!(weighed(folder.path(), only).changed, []);
    let all = weighed(folder.path(), ALL);
    assert_eq!(changes(&all), ["call things/get: Denied by , Permitted by all"]);
    assert_eq!(all.other_rules, 2);
}

const NOT_TWO: &str = "@id(\"all\") permit (principal, action, resource);
@id(\"not-two\") forbid (principal, action == Action::\"read\", resource) when { context.captures.contains(\"id=2\") };";

#[test]
fn requests_are_rebuilt_where_a_rule_looks_into_them() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), &Service::start(), "");
    let host = open(folder.path()).unwrap();
    let call = host.call(request("get")).unwrap().call;
    let two = CallRequest {
        args: r#"{"path":"/things/2"}"#.to_owned(),
        ..request("get")
    };
    host.call(two).unwrap();
    drop(host);
    assert_eq!(
        changes(&weighed(folder.path(), NOT_TWO)),
        ["read things/things.get: Permitted by all, Denied by not-two"]
    );
    // Another value in the place of what was asked is not believed.
    let keys = Keys::load(folder.path()).unwrap();
    let reader = Reader::open(folder.path()).unwrap().with_keys(&keys);
    let asked = reader.payload(call.as_str(), "effect/1/asked").unwrap().unwrap();
    let other = String::from_utf8(asked.bytes().to_vec())
        .unwrap()
        .replace("/things/1", "/things/2");
    let other = Payload::new(call.as_str(), "effect/1/asked", other.into_bytes()).unwrap();
    let sql = "UPDATE payloads SET sealed = ?1 WHERE call = ?2 AND name = 'effect/1/asked'";
    let database = rusqlite::Connection::open(folder.path().join("ledger.db")).unwrap();
    database
        .execute(sql, (reader.sealed(&other, call.as_str()), call.as_str()))
        .unwrap();
    drop((reader, database));
    let tampered = weighed(folder.path(), NOT_TWO);
    assert_eq!((tampered.changed.len(), tampered.undecided.len()), (1, 1));
    assert!(tampered.undecided[0].why.contains("tampered"), "{tampered:?}");
}

#[test]
fn what_cannot_be_decided_again_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    host.call(request("get")).unwrap();
    drop(host);
    let why = Reason::Subject(Subject::Agent("assistant".to_owned()));
    let erasure = Reader::open(folder.path()).unwrap().erasable(why, 0).unwrap();
    home::erase(folder.path(), &erasure).unwrap();
    // The entries say enough where no rule looks into requests.
    let blind = weighed(folder.path(), ALL);
    assert_eq!((blind.effects, blind.undecided.len()), (1, 0), "{blind:?}");
    let erased = weighed(folder.path(), NOT_TWO);
    assert!(erased.undecided[0].why.contains("erased"), "{erased:?}");
    let path = folder.path().join("ambit.toml");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("things.get", "things.read");
    std::fs::write(path, text).unwrap();
    let gone = weighed(folder.path(), ALL);
    assert_eq!(gone.undecided[0].place.what, "read things/things.get");
    assert!(
        gone.undecided[0]
            .why
            .contains("has no route things/things.get any more"),
        "{gone:?}"
    );
}

#[test]
fn a_budget_that_refused_would_refuse_under_any_policy() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(
        folder.path(),
        &service,
        "[budget.one]\nunit = \"effects\"\nwindow = \"day\"\ncap = 1\n",
    );
    let policy = format!(
        "{ALL}\n@id(\"told\") forbid (principal, action == Action::\"read\", resource) when {{ context.exhausted.contains(\"one\") }};"
    );
    std::fs::write(folder.path().join("policy/main.cedar"), &policy).unwrap();
    let host = open(folder.path()).unwrap();
    let answer = host.call(request("twice")).unwrap();
    assert_eq!(answer.refused_effects[0].rule.as_deref(), Some("told"));
    drop(host);
    for policy in [policy.as_str(), ALL] {
        let weighed = weighed(folder.path(), policy);
        assert_eq!(
            (weighed.effects, weighed.apart, weighed.changed.len()),
            (1, 1, 0),
            "{weighed:?}"
        );
    }
}

/// The tool's calls in a build that is the same but for this.
fn rebuilt(folder: &Path, port: u16, change: impl Fn(&str) -> String) -> Rebuilt {
    let (world, module) = source(port);
    let build = crate::sandbox::tests::component(&world, &change(&module));
    let rerun = Rerun::open(folder, "things", &build, Some(Compiler::InProcess)).unwrap();
    let calls = rerun.reader().begun_since(None).unwrap();
    rerun.run(&calls, |_| {}).unwrap()
}

#[test]
fn another_build_is_told_by_its_first_difference() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    host.call(request("get")).unwrap();
    drop(host);
    let head = r#"(export "get") (param i32 i32) (result i32) "#;
    let (_, module) = source(service.port);
    let send = module
        .split(head)
        .nth(1)
        .unwrap()
        .split(" (i32.load8_u")
        .next()
        .unwrap();
    let get = format!("{head}{send} (i32.load8_u (i32.const 64))");
    let first = |body: String| {
        let rebuilt = rebuilt(folder.path(), service.port, |module| {
            module.replace(&get, &format!("{head}{body}"))
        });
        assert_eq!(rebuilt.calls, 1);
        (
            rebuilt.changed.into_iter().next().map(|changed| changed.first),
            rebuilt.other_fuel,
        )
    };
    let end = "(i32.load8_u (i32.const 64))";
    let (same, fuel) = first(format!("{send} {end}"));
    assert_eq!((same, fuel), (None, 0));
    let (slower, fuel) = first(format!("(drop (i32.add (i32.const 1) (i32.const 2))) {send} {end}"));
    assert_eq!((slower, fuel), (None, 1), "fuel alone is no change");
    let cases = [
        (
            format!("{} {end}", send.replace("$send (i32.const 0)", "$send (i32.const 2)")),
            "effect 1",
        ),
        (format!("{send} (i32.const 7)"), "result"),
        (format!("{send} {send} {end}"), "effect 2"),
        (end.to_owned(), "effect 1"),
        (format!("{send} (unreachable)"), "end"),
    ];
    for (body, what) in cases {
        let told = body.clone();
        assert_eq!(first(body).0.map(|first| first.what).as_deref(), Some(what), "{told}");
    }
    assert_eq!(service.requests(), 1, "nothing is sent");
}

#[test]
fn what_another_build_declares_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    host.call(request("get")).unwrap();
    drop(host);
    let (world, module) = source(service.port);
    let world = world
        .replace("GET,POST", "GET,POST,DELETE")
        .replace("export get:", "export fetch:");
    let build = crate::sandbox::tests::component(&world, &module.replace("\"get\"", "\"fetch\""));
    let rerun = Rerun::open(folder.path(), "things", &build, Some(Compiler::InProcess)).unwrap();
    assert!(
        rerun.changes().iter().any(|change| change.widens()),
        "{:?}",
        rerun.changes()
    );
    let calls = rerun.reader().begun_since(None).unwrap();
    let rebuilt = rerun.run(&calls, |_| {}).unwrap();
    assert_eq!(rebuilt.changed[0].first.what, "function");
}

/// A home's only call, as a bundle, and the ledger's key.
fn bundled(folder: &Path) -> (String, ambit_core::ledger::VerifierKey) {
    let service = Service::start();
    let host = reviewed(folder, &service, ONE, "");
    let answer = host.call(request("both")).unwrap();
    approve(&host, &held(&answer), "rita").unwrap();
    host.resume(answer.call.as_str(), None).unwrap();
    host.call(request("get")).unwrap();
    drop(host);
    let replayer = Replayer::open(folder, Some(Compiler::InProcess)).unwrap();
    let text = replayer.bundle(answer.call.as_str()).unwrap();
    (text, crate::store::verifier(folder).unwrap())
}

#[test]
fn a_bundle_is_replayed_without_its_home() {
    let folder = tempfile::tempdir().unwrap();
    let (text, key) = bundled(folder.path());
    let other = tempfile::tempdir().unwrap();
    let stranger = {
        home::init(other.path()).unwrap();
        crate::store::verifier(other.path()).unwrap()
    };
    drop(folder);
    let opened = Bundle::open(&text, &key).unwrap();
    let replayed = replay_bundle(&opened, Some(Compiler::InProcess)).unwrap();
    assert_eq!((replayed.diverged, replayed.effects), (None, 2));
    assert!(replayed.same_engine && replayed.fuel_recorded == replayed.fuel_used);
    let refused = Bundle::open(&text, &stranger).unwrap_err().to_string();
    assert!(refused.contains("not signed by"), "{refused}");
}

/// Something that is done to a bundle's document.
type Tamper<'a> = &'a dyn Fn(&mut serde_json::Value);

#[test]
fn every_part_of_a_bundle_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (text, key) = bundled(folder.path());
    let refused = |text: &str| Bundle::open(text, &key).unwrap_err().to_string();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut document = document.clone();
        change(&mut document);
        refused(&format!("{document:#}\n"))
    };
    assert_eq!(
        format!("{document:#}\n"),
        text,
        "the tests write as bundles are written"
    );
    let zeros = "A".repeat(44);
    let cases: [(Tamper<'_>, &str); 9] = [
        (&|d| d["bundle"] = 2.into(), "of format 2"),
        (&|d| d["call"] = "c_another".into(), "those of another call"),
        (&|d| d["component"] = "AGFzbQ==".into(), "its component is another one"),
        (
            &|d| d["entries"].as_array_mut().unwrap().swap(1, 2),
            "is not in its place",
        ),
        (
            &|d| d["entries"].as_array_mut().unwrap().truncate(2),
            "the end of the call",
        ),
        (&|d| drop(d["entries"].as_array_mut().unwrap().remove(0)), "of one call"),
        (
            &|d| d["values"]["args"]["value"] = "e30=".into(),
            "not the one that its entry commits to",
        ),
        (
            &|d| d["values"]["zz"] = document["values"]["args"].clone(),
            "no entry commits to its value `zz`",
        ),
        (
            &|d| drop(d["values"].as_object_mut().unwrap().remove("start")),
            "`start` is missing",
        ),
    ];
    for (change, why) in cases {
        let told = with(change);
        assert!(told.contains(why), "{why}: {told}");
    }
    let told = with(&|d| d["entries"][0]["proof"][0] = format!("{}=", &zeros[..43]).into());
    assert!(told.contains("is not in the ledger"), "{told}");
    assert!(refused(&text.replacen("  ", "   ", 1)).contains("not written as a bundle"));
    assert!(refused(&" ".repeat(MAX_BUNDLE + 1)).contains("at most"));
}

#[test]
fn no_byte_of_a_bundle_can_be_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let (text, key) = bundled(folder.path());
    // Each of the first bytes of every line, and every seventh of the rest: all members, all their parts.
    let lines = text.match_indices('\n').flat_map(|(at, _)| at..at + 40);
    let flipped: std::collections::BTreeSet<usize> = lines
        .chain((0..text.len()).step_by(7))
        .filter(|at| *at < text.len())
        .collect();
    for at in flipped {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let changed = String::from_utf8(bytes).unwrap_or_default();
        assert!(Bundle::open(&changed, &key).is_err(), "byte {at} of {}", text.len());
    }
}

#[test]
fn a_bundle_s_limits_are_those_that_a_home_could_set() {
    let folder = tempfile::tempdir().unwrap();
    let (text, key) = bundled(folder.path());
    let mut opened = Bundle::open(&text, &key).unwrap();
    let ambit_core::ledger::story::Opening::Accepted(accepted) = &mut opened.story.opening.what else {
        panic!("{:?}", opened.story.opening);
    };
    let limits = ambit_core::grant::Limits {
        wall_ms: u64::MAX,
        ..ambit_core::grant::Limits::default()
    };
    accepted.asked.limits = (&limits).into();
    let refused = replay_bundle(&opened, Some(Compiler::InProcess))
        .unwrap_err()
        .to_string();
    assert!(refused.contains("`wall_ms`"), "{refused}");
}

#[test]
fn the_least_policy_is_learned_from_what_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    every_kind(folder.path(), &service);
    let mut what_if = WhatIf::open(folder.path()).unwrap();
    let calls = what_if.reader().begun_since(None).unwrap();
    let learned = what_if.learn(&calls).unwrap();
    let told: Vec<_> = learned
        .rules
        .iter()
        .map(|rule| (rule.what.as_str(), rule.asked, rule.denied, rule.held))
        .collect();
    assert_eq!(
        told,
        [
            ("call things/both", 1, 0, 0),
            ("call things/get", 1, 0, 0),
            ("call things/post", 3, 0, 0),
            ("commit things/things.change", 4, 1, 3),
            ("read things/things.get", 2, 0, 0),
        ]
    );
    assert!(learned.text.contains("permit (principal in Team::\"support\", action == Action::\"commit\", resource == Route::\"things/things.change\")\nwhen { context.tool == \"things\" && (context.spend.kind == \"none\") };"), "{}", learned.text);
    // The rule in force that asks for a reviewer is not the proposal's to take away.
    assert_eq!(learned.still.len(), 4, "{:?}", learned.still);
    assert_eq!(learned.left_out, []);
    // Alone it permits all that was asked for, and nobody else.
    let alone = weighed(folder.path(), &learned.text);
    assert!(
        alone.changed.iter().all(|changed| changed.now.word == Word::Permitted),
        "{alone:?}"
    );
    let nothing = what_if.learn(&[]).unwrap_err().to_string();
    assert!(nothing.contains("nothing to learn"), "{nothing}");
}
