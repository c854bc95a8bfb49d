//! Effects that people edit while they wait, in whole calls: held anew, voted on, gone on with, replayed.

use ambit_core::hold::{Changes, Edit, End, Verdict};
use ambit_core::json::Json;
use ambit_core::ledger::body::EffectCounts;
use ambit_core::ledger::story::EffectStory;

use super::holds::{approve, held, in_order, key, vote};
use super::*;
use crate::approvals::{ApprovalError, Waiting};
use crate::call::{Held, Would};
use crate::edits::new_changes;
use crate::whatif::WhatIf;

const BODY: &str = r#"{"amount":9000,"note":"x"}"#;

/// `pay` reads and sends the body, `pays` sends it two times.
fn paying(port: u16, body: &str) -> Vec<u8> {
    let world = format!(
        r#"world tool {{
        @external-id("GET,POST http://127.0.0.1:{port}/things/{{id}} fields(amount, note, to.name) reads(id)")
        import things: ambit:capability/http@0.1.0;
        export pay: func(path: string) -> u16;
        export pays: func(path: string) -> u16;
    }}"#
    );
    let send = |method: u32, body: &str| {
        format!(
            "(call $send (i32.const {method}) (local.get 0) (local.get 1) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) {body} (i32.const 64))"
        )
    };
    let get = send(0, "(i32.const 0) (i32.const 0) (i32.const 0)");
    let post = send(2, &format!("(i32.const 1) (i32.const 2048) (i32.const {})", body.len()));
    let data: String = body.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let module = format!(
        r#"(module
        (import "things" "send" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
        {allocator}
        (data (i32.const 2048) "{data}")
        (func (export "pay") (param i32 i32) (result i32) {get} {post} (i32.load8_u (i32.const 64)))
        (func (export "pays") (param i32 i32) (result i32) {post} {post} (i32.load8_u (i32.const 64))))"#,
        allocator = crate::sandbox::tests::ALLOCATOR,
    );
    crate::sandbox::tests::component(&world, &module)
}

/// Above 50 somebody says yes first, above 1000 nobody may.
pub(super) const POLICY: &str = r#"
@id("all") permit (principal, action, resource);
@id("reviewed") forbid (principal, action == Action::"commit", resource)
when { context.spend.kind == "known" && context.spend.minor > 5000 } unless { context.approvals.reviewer >= 1 };
@id("never") forbid (principal, action == Action::"commit", resource)
when { context.spend.kind == "known" && context.spend.minor > 100000 };
"#;

pub(super) fn paid(folder: &Path, service: &Service, policy: &str, more: &str) -> Host {
    home::init(folder).unwrap();
    let route = r#"fields = ["amount", "note"]
body = "json"
money = { amount = "amount", currency = { constant = "usd" } }
match = "POST"#;
    let text = configuration(service.port, more).replacen("match = \"POST", route, 1);
    std::fs::write(folder.join("ambit.toml"), text).unwrap();
    std::fs::write(folder.join("policy/main.cedar"), policy).unwrap();
    let component = paying(service.port, BODY);
    let manifest = Manifest::read(&component).unwrap();
    home::add_tool(folder, "things", &component, &manifest).unwrap();
    for name in ["rita", "sam", "ada", "eve"] {
        home::enrol_person(folder, &key(name).verifier().to_string()).unwrap();
    }
    open(folder).unwrap()
}

fn to(changes: &[(&str, Json)]) -> Changes {
    let mut made = new_changes().unwrap();
    changes
        .iter()
        .for_each(|(field, value)| made.set(field, value.clone()).unwrap());
    made
}

fn amount(minor: u64) -> Changes {
    to(&[("amount", Json::from(minor))])
}

fn signed(held: &Held, person: &str, changes: &Changes) -> String {
    let edit = Edit {
        person: person.to_owned(),
        hold: held.hold,
        changes: changes.digest(),
        group: "reviewer".to_owned(),
        expires_ms: held.expires_ms,
    };
    edit.sign(&key(person)).unwrap()
}

fn edit(host: &Host, held: &Held, person: &str, changes: &Changes) -> Result<Held, ApprovalError> {
    let reason = Some("less will do");
    let waiting = host.edit(&signed(held, person, changes), &changes.to_text(), reason)?;
    Ok(now(held, &waiting))
}

/// What a caller would be told of what waits now.
fn now(held: &Held, waiting: &Waiting) -> Held {
    let body = &waiting.pending.held;
    Held {
        hold: body.hold,
        spend: body.spend,
        needs: body.needs.clone(),
        rules: body.rules.clone(),
        expires_ms: body.expires,
        ..held.clone()
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, ApprovalError>) -> String {
    match result {
        Err(ApprovalError::Refused(refusal)) => refusal.message,
        other => panic!("{other:?}"),
    }
}

fn uncounted(host: &Host) -> Vec<String> {
    let entries = host.reader().unwrap().entries(0, 1_000).unwrap();
    let why = entries.iter().filter_map(|entry| match entry.body() {
        Body::VoteRefused(body) => Some(body.why.clone()),
        _ => None,
    });
    why.collect()
}

/// What was sent as the body of an effect.
fn sent(folder: &Path, call: &str, ordinal: u32) -> String {
    let keys = Keys::load(folder).unwrap();
    let reader = Reader::open(folder).unwrap().with_keys(&keys);
    let name = format!("effect/{ordinal}/request");
    let value = reader.payload(call, &name).unwrap().unwrap();
    let wire: serde_json::Value = serde_json::from_slice(value.bytes()).unwrap();
    wire["body"].as_str().unwrap().to_owned()
}

/// Everything that is asked of a recorded call holds: audit, replay, what-if, learning, a bundle.
fn whole(folder: &Path, call: &str) {
    in_order(folder, call);
    let mut what_if = WhatIf::open(folder).unwrap();
    let config = Config::load(folder).unwrap();
    let policy = ambit_core::policy::PolicySet::load(config.policies(), &config.group_sizes()).unwrap();
    let weighed = what_if.policy(&policy, &[call.to_owned()], |_| {}).unwrap();
    assert!(
        weighed.changed.is_empty() && weighed.undecided.is_empty(),
        "{weighed:?}"
    );
    let replayer = crate::replay::Replayer::open(folder, Some(Compiler::InProcess)).unwrap();
    let bundle = replayer.bundle(call).unwrap();
    let opened = ambit_core::ledger::bundle::Bundle::open(&bundle, &crate::store::verifier(folder).unwrap()).unwrap();
    let replayed = crate::replay::replay_bundle(&opened, Some(Compiler::InProcess)).unwrap();
    assert_eq!(replayed.diverged, None);
}

#[test]
fn an_edited_effect_is_another_hold_and_is_sent_as_it_was_edited() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = paid(folder.path(), &service, POLICY, "");
    let answer = host.call(request("pay")).unwrap();
    let first = held(&answer);
    let request = first.request.clone().unwrap();
    assert_eq!(request.method, "POST");
    assert_eq!(request.url, format!("http://127.0.0.1:{}/things/1", service.port));
    assert_eq!(request.fields.to_canonical(), BODY);
    approve(&host, &first, "sam").unwrap();
    // Below the limit nobody would have to be asked; what waited goes on waiting, and for somebody else's yes.
    let second = edit(&host, &first, "rita", &amount(4000)).unwrap();
    assert_ne!(second.hold, first.hold);
    assert_eq!((&second.needs, second.expires_ms), (&first.needs, first.expires_ms));
    assert_eq!(second.spend.map(|spend| spend.minor), Some(4000));
    let holds = host.reader().unwrap().holds(None, 10).unwrap();
    assert_eq!(holds.len(), 1);
    assert_eq!(holds[0].1.hold, second.hold);
    assert_eq!(service.requests(), 1, "the read alone");
    // The votes are about what it was, and the editor's own is none.
    assert!(refused(host.resume(answer.call.as_str(), None)).contains("still waits for 1 of reviewer"));
    assert!(refused(approve(&host, &first, "rita")).contains("is over"));
    assert!(refused(approve(&host, &second, "rita")).contains("rita edited the effect"));
    assert_eq!(uncounted(&host), ["no-such-hold", "own-edit"]);
    // Another process goes on: nothing is kept but rows.
    drop(host);
    let host = open(folder.path()).unwrap();
    approve(&host, &second, "sam").unwrap();
    drop(host);
    let host = open(folder.path()).unwrap();
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert_eq!(service.requests(), 2);
    assert_eq!(
        sent(folder.path(), answer.call.as_str(), 2),
        r#"{"amount":4000,"note":"x"}"#
    );
    assert_eq!(ended.edited.len(), 1);
    assert_eq!(
        (ended.edited[0].by.as_slice(), ended.edited[0].fields.as_slice()),
        (&["rita".to_owned()][..], &["amount".to_owned()][..])
    );
    let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
    assert_eq!(story.finished.unwrap().what.edited, [2]);
    assert_eq!(story.holds[&2].edits.len(), 1);
    drop(host);
    whole(folder.path(), answer.call.as_str());
}

#[test]
fn an_edit_that_does_not_count_changes_nothing_and_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = paid(folder.path(), &service, POLICY, "");
    let answer = host.call(request("pay")).unwrap();
    let held = held(&answer);
    approve(&host, &held, "sam").unwrap();
    let mut cases: Vec<(&str, String, Changes, &str)> = Vec::new();
    let edits = |person: &str, changes: Changes| (signed(&held, person, &changes), changes);
    let mut add = |word, (note, changes): (String, Changes), says| cases.push((word, note, changes, says));
    add("own-request", edits("ada", amount(1)), "their own request");
    add("not-a-member", edits("eve", amount(1)), "not in group");
    add("unsigned", edits("mallory", amount(1)), "not signed");
    add(
        "other-changes",
        (signed(&held, "rita", &amount(1)), amount(2)),
        "other changes",
    );
    add("edit-refused", edits("rita", amount(9000)), "changes nothing");
    add("edit-refused", edits("rita", amount(200_000)), "policy");
    add(
        "edit-refused",
        edits("rita", to(&[("other", Json::from("x"))])),
        "other",
    );
    // The scope has it, and the route has not.
    add(
        "edit-refused",
        edits("rita", to(&[("to.name", Json::from("x"))])),
        "to.name",
    );
    add(
        "edit-refused",
        edits("rita", to(&[("amount", Json::from("many"))])),
        "amount",
    );
    let mut gone = new_changes().unwrap();
    gone.unset("amount").unwrap();
    add("edit-refused", edits("rita", gone), "amount");
    let forged = signed(&held, "sam", &amount(1)).replace("person sam", "person rita");
    add("unsigned", (forged, amount(1)), "not signed");
    let another = Held {
        hold: ambit_core::digest::Digest::of(b"another"),
        ..held.clone()
    };
    add(
        "no-such-hold",
        (signed(&another, "rita", &amount(1)), amount(1)),
        "over",
    );
    let late = Held {
        expires_ms: 1,
        ..held.clone()
    };
    let one = amount(1);
    add("edit-expired", (signed(&late, "rita", &one), one), "expired");
    let before = host.reader().unwrap().story(answer.call.as_str()).unwrap();
    let mut words = Vec::new();
    for (word, note, changes, says) in &cases {
        let why = refused(host.edit(note, &changes.to_text(), None));
        assert!(why.contains(says), "{word}: {why}");
        words.push((*word).to_owned());
    }
    assert_eq!(uncounted(&host), words);
    assert_eq!(host.reader().unwrap().story(answer.call.as_str()).unwrap(), before);
    assert_eq!(service.requests(), 1);
    // Its approval stands.
    host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(sent(folder.path(), answer.call.as_str(), 2), BODY);
    drop(host);
    whole(folder.path(), answer.call.as_str());
}

#[test]
fn what_is_decided_cannot_be_edited_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = paid(folder.path(), &service, POLICY, "[limits]\nhold_ms = 1500\n");
    let answer = host.call(request("pay")).unwrap();
    let first = held(&answer);
    host.vote(&vote(&first, "sam", Verdict::Reject), None).unwrap();
    assert!(refused(edit(&host, &first, "rita", &amount(1))).contains("rejected"));
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(ended.refused_effects[0].code, Code::Approval);
    let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
    assert!(matches!(&story.effects[&2], EffectStory::Refused(told) if told.what.end == Some(End::Rejected)));
    let answer = host.call(request("pay")).unwrap();
    let second = edit(&host, &held(&answer), "rita", &amount(4000)).unwrap();
    thread::sleep(Duration::from_millis(1_600));
    // Editing it has not made it wait for longer.
    assert!(refused(edit(&host, &second, "sam", &amount(3000))).contains("expired"));
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(ended.refused_effects[0].code, Code::Approval);
    let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
    assert!(matches!(&story.effects[&2], EffectStory::Refused(told) if told.what.end == Some(End::Expired)));
    assert_eq!(uncounted(&host), ["rejected", "expired"]);
    assert_eq!(service.requests(), 2, "two reads");
    drop(host);
    whole(folder.path(), answer.call.as_str());
}

#[test]
fn an_edit_of_an_edit_says_all_that_differs_and_has_two_authors() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = with_eve(folder.path(), &service, POLICY);
    let answer = host.call(request("pays")).unwrap();
    let first = held(&answer);
    let second = edit(&host, &first, "rita", &amount(8000)).unwrap();
    let mut changes = to(&[("note", Json::from("y"))]);
    changes.keep(&amount(7000));
    let third = edit(&host, &second, "sam", &changes).unwrap();
    assert!(refused(edit(&host, &second, "sam", &amount(1))).contains("over"));
    for author in ["rita", "sam"] {
        assert!(refused(approve(&host, &third, author)).contains("who edits it does not approve it"));
    }
    let ended = host.vote(&vote(&third, "rita", Verdict::Reject), None);
    assert!(refused(ended).contains("rita edited the effect"));
    let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
    let hold = story.waiting().unwrap();
    assert_eq!(hold.held.what.authors, ["rita", "sam"]);
    assert_eq!(hold.edits.len(), 2);
    drop(host);
    verifies(folder.path());
}

/// The same home, with one reviewer more.
fn with_eve(folder: &Path, service: &Service, policy: &str) -> Host {
    drop(paid(folder, service, policy, ""));
    let path = folder.join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (three, four) = (r#"["rita", "sam", "ada"]"#, r#"["rita", "sam", "ada", "eve"]"#);
    assert!(text.contains(three), "{text}");
    std::fs::write(path, text.replace(three, four)).unwrap();
    open(folder).unwrap()
}

#[test]
fn an_edit_leaves_somebody_who_can_approve() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = with_eve(
        folder.path(),
        &service,
        &POLICY.replace("reviewer >= 1", "reviewer >= 2"),
    );
    let answer = host.call(request("pay")).unwrap();
    // It is done for ada, so three can approve it, and two where one of them edits it.
    let second = edit(&host, &held(&answer), "rita", &amount(8000)).unwrap();
    approve(&host, &second, "sam").unwrap();
    let why = refused(edit(&host, &second, "eve", &amount(7000)));
    assert!(why.contains("too few would be left to approve it"), "{why}");
    assert_eq!(uncounted(&host), ["edit-refused"]);
    // What waited waits on, with its approvals; and its author may go on editing it.
    assert_eq!(host.reader().unwrap().holds(None, 9).unwrap()[0].1.hold, second.hold);
    assert_eq!(
        approve(&host, &second, "eve").unwrap(),
        ambit_core::hold::Standing::Approved
    );
    let third = edit(&host, &second, "rita", &amount(7000)).unwrap();
    for person in ["sam", "eve"] {
        approve(&host, &third, person).unwrap();
    }
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    drop(host);
    whole(folder.path(), answer.call.as_str());
}

#[test]
fn two_effects_of_a_call_are_edited_each_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = paid(folder.path(), &service, POLICY, "");
    let answer = host.call(request("pays")).unwrap();
    let first = edit(&host, &held(&answer), "rita", &amount(6000)).unwrap();
    approve(&host, &first, "sam").unwrap();
    let on = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(on.edited.len(), 1, "what was edited so far");
    let second = held(&on);
    assert_eq!((second.ordinal, second.edited.as_ref()), (2, None));
    let second = edit(&host, &second, "sam", &to(&[("note", Json::Null)])).unwrap();
    approve(&host, &second, "rita").unwrap();
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert_eq!(ended.edited.len(), 2);
    let call = answer.call.as_str();
    assert_eq!(sent(folder.path(), call, 1), r#"{"amount":6000,"note":"x"}"#);
    assert_eq!(sent(folder.path(), call, 2), r#"{"amount":9000,"note":null}"#);
    drop(host);
    whole(folder.path(), call);
}

#[test]
fn an_edit_is_all_there_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = paid(folder.path(), &service, POLICY, "");
    let answer = host.call(request("pay")).unwrap();
    let first = held(&answer);
    drop(host);
    // Opening a home that nothing was left in is no commit.
    for step in [Step::BeforeCommit, Step::Sync, Step::AfterCommit] {
        let options = HostOptions {
            compiler: Some(Compiler::InProcess),
            faults: Faults::after(0, step, Fault::Io),
            ..HostOptions::default()
        };
        let host = Host::open(Config::load(folder.path()).unwrap(), options).unwrap();
        let failed = edit(&host, &first, "rita", &amount(4000));
        assert!(failed.is_err(), "{step:?}");
        drop(host);
        let host = open(folder.path()).unwrap();
        let waiting = host.reader().unwrap().holds(None, 10).unwrap();
        assert_eq!(waiting.len(), 1, "{step:?}");
        let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
        let hold = story.waiting().unwrap();
        assert_eq!(hold.held.what.hold, waiting[0].1.hold, "{step:?}");
        assert_eq!(hold.edits.is_empty(), hold.held.what.hold == first.hold, "{step:?}");
        // It is on the disk once it was committed, whoever was told.
        assert_eq!(hold.edits.is_empty(), step != Step::AfterCommit, "{step:?}");
        host.reader().unwrap().check_values(|_| {}).unwrap();
    }
}

#[test]
fn a_recorded_edit_that_was_tampered_with_goes_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = paid(folder.path(), &service, POLICY, "");
    let answer = host.call(request("pay")).unwrap();
    let second = edit(&host, &held(&answer), "rita", &amount(4000)).unwrap();
    approve(&host, &second, "sam").unwrap();
    let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
    let name = story.waiting().unwrap().last_edit().unwrap().changes_name();
    drop(host);
    let keys = Keys::load(folder.path()).unwrap();
    let other = Payload::new(answer.call.as_str(), &name, amount(90_000).to_text().into_bytes()).unwrap();
    let reader = Reader::open(folder.path()).unwrap().with_keys(&keys);
    let database = rusqlite::Connection::open(folder.path().join("ledger.db")).unwrap();
    let sql = "UPDATE payloads SET sealed = ?1 WHERE call = ?2 AND name = ?3";
    let changed = database.execute(
        sql,
        (reader.sealed(&other, answer.call.as_str()), answer.call.as_str(), &name),
    );
    assert_eq!(changed.unwrap(), 1);
    drop((reader, database));
    let host = open(folder.path()).unwrap();
    let refused = refused(host.resume(answer.call.as_str(), None));
    assert!(refused.contains("tampered"), "{refused}");
    let reader = Reader::open(folder.path()).unwrap().with_keys(&keys);
    let shown = crate::edits::changes_of(&reader, story.waiting().unwrap(), answer.call.as_str());
    assert!(shown.unwrap_err().message.contains("not the one"));
    assert_eq!(service.requests(), 1);
}

#[test]
fn a_dry_run_ends_at_its_first_write_and_says_all_about_it() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    for (policy, would) in [
        (super::POLICY, "permitted"),
        (POLICY, "held"),
        (
            "@id(\"reads\") permit (principal, action in [Action::\"call\", Action::\"read\"], resource);",
            "denied",
        ),
    ] {
        let folder = folder.path().join(would);
        let before = service.requests();
        let host = paid(&folder, &service, policy, "");
        let dry = CallRequest {
            mode: Mode::DryRun,
            ..request("pay")
        };
        let answer = host.call(dry).unwrap();
        let Outcome::FirstWrite(first) = &answer.outcome else {
            panic!("{answer:?}");
        };
        assert_eq!((first.ordinal, first.route.as_str()), (2, "things.change"));
        assert_eq!(first.request.fields.to_canonical(), BODY);
        assert_eq!(first.spend.map(|spend| spend.minor), Some(9000));
        let said = match &first.policy {
            Would::BePermitted { rules } => {
                assert_eq!(rules.as_slice(), ["all"]);
                "permitted"
            }
            Would::BeHeld { needs, rules, .. } => {
                assert_eq!((needs.len(), rules.as_slice()), (1, &["reviewed".to_owned()][..]));
                "held"
            }
            Would::BeDenied { refusal } => {
                assert_eq!(refusal.code, Code::Policy);
                "denied"
            }
        };
        assert_eq!(said, would);
        assert_eq!(service.requests(), before + 1, "the read is real, the write is not");
        assert!(host.reader().unwrap().holds(None, 10).unwrap().is_empty());
        let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
        let counts = EffectCounts {
            answered: 1,
            refused: 1,
            ..EffectCounts::default()
        };
        assert_eq!(story.finished.unwrap().what.effects, counts);
        drop(host);
        in_order(&folder, answer.call.as_str());
    }
}

#[test]
fn a_call_that_goes_on_and_asks_for_something_else_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = paid(folder.path(), &service, POLICY, "");
    let answer = host.call(request("pay")).unwrap();
    let first = held(&answer);
    approve(&host, &first, "sam").unwrap();
    drop(host);
    let Host {
        operators,
        live,
        shared,
    } = open(folder.path()).unwrap();
    drop(operators);
    // Of the same name and digest, as if its engine were not deterministic.
    let mut shared = Arc::into_inner(shared).unwrap();
    let other = shared
        .sandbox
        .load(&paying(service.port, &BODY.replace("9000", "9001")))
        .unwrap();
    shared.tools.get_mut("things").unwrap().loaded = other;
    let host = Host {
        operators: None,
        live,
        shared: Arc::new(shared),
    };
    // An edit of it changes nothing.
    assert!(refused(edit(&host, &first, "rita", &amount(4000))).contains("effect 2 is not as recorded"));
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    let refusal = stopped(&ended).unwrap();
    assert_eq!(refusal.code, Code::Diverged);
    assert!(
        refusal.message.contains("effect 2 is not as recorded: sha256:"),
        "{refusal:?}"
    );
    assert_eq!(service.requests(), 1, "nothing is sent");
    let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
    let EffectStory::Refused(told) = &story.effects[&2] else {
        panic!("{story:?}");
    };
    assert_eq!(
        (told.what.refused.code, told.what.end),
        (Code::Diverged, Some(End::Stale))
    );
    assert!(story.is_over());
    let key = crate::store::verifier(folder.path()).unwrap();
    host.reader().unwrap().verify(&key, &[], |_| {}).unwrap();
    host.reader().unwrap().check_values(|_| {}).unwrap();
}

/// What was edited and approved, and is in doubt, is sent again as it was edited.
#[test]
fn an_edited_effect_in_doubt_is_sent_again_as_it_was_edited() {
    for good in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start();
        drop(paid(folder.path(), &service, POLICY, ""));
        flow::say(folder.path(), "", "", doubts::KEY);
        let host = open(folder.path()).unwrap();
        let answer = host.call(request("pay")).unwrap();
        let edited = edit(&host, &held(&answer), "rita", &amount(6000)).unwrap();
        approve(&host, &edited, "sam").unwrap();
        drop(host);
        let before = service.requests();
        if let Ok(host) = recovery::failing(folder.path(), good, Step::BeforeCommit) {
            let _ = host.resume(answer.call.as_str(), None);
        }
        let host = open(folder.path()).unwrap();
        let doubts = host.reader().unwrap().doubts().unwrap();
        if doubts.is_empty() || service.requests() == before {
            continue;
        }
        let ended = host.retry_doubt(answer.call.as_str(), None, None).unwrap();
        assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
        assert_eq!(service.requests(), before + 2);
        let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
        assert_eq!(story.tally().spent()[0].minor, 6000);
        drop(host);
        in_order(folder.path(), answer.call.as_str());
        return;
    }
    panic!("nothing is in doubt");
}

/// What failed is what people made of it: that is tried again, and not what the guest had asked for, which nobody approved.
#[test]
fn a_dead_letter_is_the_effect_as_it_was_edited() {
    let folder = tempfile::tempdir().unwrap();
    let service = flow::Scripted::start([]);
    drop(paid(folder.path(), &service.service, POLICY, ""));
    flow::say(folder.path(), "", "", &format!("{}\ndead_letter = true", doubts::KEY));
    let host = open(folder.path()).unwrap();
    let answer = host.call(request("pay")).unwrap();
    let edited = edit(&host, &held(&answer), "rita", &amount(6000)).unwrap();
    approve(&host, &edited, "sam").unwrap();
    service.will([flow::DOWN]);
    host.resume(answer.call.as_str(), None).unwrap();
    drop(host);
    // Nobody has to say yes any more, to whatever amount.
    std::fs::write(
        folder.path().join("policy/main.cedar"),
        "@id(\"all\") permit (principal, action, resource);",
    )
    .unwrap();
    let host = open(folder.path()).unwrap();
    let again = host.retry_dead_letter(answer.call.as_str(), 2, false).unwrap();
    assert!(matches!(again.outcome, Outcome::Ok(_)), "{again:?}");
    let story = host.reader().unwrap().story(again.call.as_str()).unwrap();
    assert_eq!(story.tally().spent()[0].minor, 6000);
    drop(host);
    assert!(sent(folder.path(), again.call.as_str(), 1).contains("6000"));
}
