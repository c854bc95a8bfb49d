//! Effects that wait for people, in whole calls: held, voted on, gone on with, replayed.

use ambit_core::hold::{Delegation, Standing, Verdict, Vote};
use ambit_core::ledger::body::PersonDelegated;
use ambit_core::ledger::story::EffectStory;
use ambit_core::ledger::{EntryDraft, SignerKey};
use ambit_core::scope::HttpScope;

use super::*;
use crate::approvals::{ApprovalError, Waiting};
use crate::replay::Replayer;
use crate::store::Batch;

/// Everything is permitted, and a change waits for one reviewer.
pub(super) const ONE: &str = r#"
@id("all") permit (principal, action, resource);
@id("reviewed") forbid (principal, action == Action::"commit", resource) unless { context.approvals.reviewer >= 1 };
"#;
pub(super) const TWO: &str = r#"
@id("all") permit (principal, action, resource);
@id("reviewed") forbid (principal, action == Action::"commit", resource) unless { context.approvals.reviewer >= 2 };
"#;

pub(super) fn key(name: &str) -> SignerKey {
    let mut seed = [7; 32];
    name.bytes().zip(&mut seed).for_each(|(byte, seed)| *seed = byte);
    SignerKey::from_seed(name, &seed).unwrap()
}

/// A home where changes wait, with its people enrolled.
pub(super) fn reviewed(folder: &Path, service: &Service, policy: &str, more: &str) -> Host {
    home(folder, service, more);
    std::fs::write(folder.join("policy/main.cedar"), policy).unwrap();
    for name in ["rita", "sam", "ada", "eve"] {
        home::enrol_person(folder, &key(name).verifier().to_string()).unwrap();
    }
    open(folder).unwrap()
}

pub(super) fn held(answer: &Answer) -> crate::call::Held {
    match &answer.outcome {
        Outcome::Held(held) => held.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}

fn vote_of(held: &crate::call::Held, person: &str, verdict: Verdict) -> Vote {
    Vote {
        person: person.to_owned(),
        hold: held.hold,
        verdict,
        group: "reviewer".to_owned(),
        expires_ms: held.expires_ms,
        in_stead_of: None,
    }
}

pub(super) fn vote(held: &crate::call::Held, person: &str, verdict: Verdict) -> String {
    vote_of(held, person, verdict).sign(&key(person)).unwrap()
}

pub(super) fn approve(host: &Host, held: &crate::call::Held, person: &str) -> Result<Standing, ApprovalError> {
    host.vote(&vote(held, person, Verdict::Approve), None)
        .map(|(_, standing)| standing)
}

fn refused(result: Result<Standing, ApprovalError>) -> String {
    match result {
        Err(ApprovalError::Refused(refusal)) => refusal.message,
        other => panic!("{other:?}"),
    }
}

/// Why votes did not count, as the ledger has it.
fn uncounted(host: &Host) -> Vec<String> {
    let entries = host.reader().unwrap().entries(0, 1_000).unwrap();
    let why = entries.iter().filter_map(|entry| match entry.body() {
        Body::VoteRefused(body) => Some(body.why.clone()),
        _ => None,
    });
    why.collect()
}

/// The ledger verifies, every value is the one committed to, and the call replays the same.
pub(super) fn in_order(folder: &Path, call: &str) {
    verifies(folder);
    let replayed = Replayer::open(folder, Some(Compiler::InProcess))
        .unwrap()
        .replay(call)
        .unwrap();
    assert_eq!(replayed.diverged, None);
    assert!(replayed.same_engine);
    assert_eq!(replayed.fuel_recorded, replayed.fuel_used);
}

#[test]
fn a_held_effect_is_sent_once_it_is_approved() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let answer = host.call(request("both")).unwrap();
    let held = held(&answer);
    assert_eq!(
        (held.ordinal, held.route.as_str(), held.rules.as_slice()),
        (2, "things.change", &["reviewed".to_owned()][..])
    );
    assert_eq!(service.requests(), 1, "the read alone");
    // Nothing is kept but rows: another process goes on.
    drop(host);
    let host = open(folder.path()).unwrap();
    assert_eq!(host.reader().unwrap().holds(None, 10).unwrap().len(), 1);
    assert_eq!(approve(&host, &held, "rita").unwrap(), Standing::Approved);
    drop(host);
    let host = open(folder.path()).unwrap();
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert_eq!(service.requests(), 2, "the read is not sent again");
    assert!(host.reader().unwrap().holds(None, 10).unwrap().is_empty());
    let again = host.resume(answer.call.as_str(), None).unwrap_err();
    assert!(again.to_string().contains("waits for nothing"), "{again}");
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn a_rejected_effect_is_told_to_its_tool_and_never_sent() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let answer = host.call(request("post")).unwrap();
    let held = held(&answer);
    let reason = Some("not this one");
    let (_, standing) = host.vote(&vote(&held, "rita", Verdict::Reject), reason).unwrap();
    assert_eq!(standing, Standing::Rejected { by: "rita".into() });
    assert!(refused(approve(&host, &held, "sam")).contains("rejected"));
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert_eq!(ended.refused_effects[0].code, Code::Approval);
    assert_eq!(service.requests(), 0);
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn trap_22_votes_that_do_not_count_change_nothing_and_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, TWO, "");
    let answer = host.call(request("post")).unwrap();
    let held = held(&answer);
    assert!(refused(host.resume(answer.call.as_str(), None).map(|_| Standing::Approved)).contains("2 of reviewer"));
    assert!(matches!(approve(&host, &held, "rita").unwrap(), Standing::Waiting(_)));
    assert!(refused(approve(&host, &held, "rita")).contains("counts once"));
    assert!(refused(approve(&host, &held, "ada")).contains("their own request"));
    assert!(refused(approve(&host, &held, "eve")).contains("not in group"));
    assert!(refused(approve(&host, &held, "mallory")).contains("not signed"));
    let forged = vote(&held, "sam", Verdict::Approve).replace("person sam", "person rita");
    assert!(refused(host.vote(&forged, None).map(|(_, standing)| standing)).contains("not signed"));
    let other = crate::call::Held {
        hold: ambit_core::digest::Digest::of(b"another"),
        ..held.clone()
    };
    assert!(refused(approve(&host, &other, "sam")).contains("over"));
    assert_eq!(
        uncounted(&host),
        [
            "twice",
            "own-request",
            "not-a-member",
            "unsigned",
            "unsigned",
            "no-such-hold"
        ]
    );
    assert_eq!(service.requests(), 0);
    assert_eq!(approve(&host, &held, "sam").unwrap(), Standing::Approved);
    host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(service.requests(), 1);
}

/// Something that happens to a home between an approval and the going on.
type Change<'a> = &'a dyn Fn(&Path);

#[test]
fn at_the_end_everything_is_decided_anew() {
    // What changes between the approval and the going on, and what the call comes to.
    let no_agent = |folder: &Path| {
        let path = folder.join("ambit.toml");
        let text = std::fs::read_to_string(&path).unwrap().replace("users = [\"ada\"]", "");
        std::fs::write(path, text).unwrap();
    };
    let forbidden = |folder: &Path| {
        let policy = format!("{ONE}\n@id(\"stop\") forbid (principal, action == Action::\"commit\", resource);");
        std::fs::write(folder.join("policy/main.cedar"), policy).unwrap();
    };
    let two = |folder: &Path| std::fs::write(folder.join("policy/main.cedar"), TWO).unwrap();
    let left_group = |folder: &Path| {
        let path = folder.join("ambit.toml");
        let text = std::fs::read_to_string(&path).unwrap().replace("\"rita\", ", "");
        std::fs::write(path, text).unwrap();
    };
    let revoked = |folder: &Path| home::revoke_person(folder, "rita").unwrap();
    let renamed = |folder: &Path| {
        let path = folder.join("ambit.toml");
        let text = std::fs::read_to_string(&path)
            .unwrap()
            .replace("things.change", "things.replace");
        std::fs::write(path, text).unwrap();
    };
    let another_team = |folder: &Path| {
        let path = folder.join("ambit.toml");
        let text = std::fs::read_to_string(&path)
            .unwrap()
            .replace("team = \"support\"", "team = \"sales\"");
        std::fs::write(path, text).unwrap();
    };
    let rewritten = |folder: &Path, from: &str, to: &str| {
        let path = folder.join("ambit.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    };
    let private = "allow_private = true";
    let elsewhere = |folder: &Path| rewritten(folder, private, "allow_private = true\nconnect_to = \"127.0.0.1:9\"");
    let another_base = |folder: &Path| rewritten(folder, private, "allow_private = true\nbase = \"/v2\"");
    let another_name = |folder: &Path| {
        let credential = "allow_private = true\ncredential = { env = \"PATH\", as = { header = \"X-Key\" } }";
        rewritten(folder, private, credential);
    };
    let changes: [(&str, Change<'_>, Option<Code>); 10] = [
        ("the socket goes elsewhere", &elsewhere, Some(Code::Stale)),
        ("the base is another one", &another_base, Some(Code::Stale)),
        ("the credential is another one", &another_name, Some(Code::Stale)),
        ("the agent is in another team", &another_team, Some(Code::Stale)),
        ("the agent may not act for the user", &no_agent, Some(Code::Caller)),
        ("policy forbids it", &forbidden, Some(Code::Policy)),
        ("policy asks for two", &two, Some(Code::Policy)),
        ("the approver left the group", &left_group, None),
        ("the approver was revoked", &revoked, None),
        ("the route is another one", &renamed, Some(Code::Stale)),
    ];
    for (what, change, code) in changes {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start();
        let host = reviewed(folder.path(), &service, ONE, "");
        let answer = host.call(request("post")).unwrap();
        approve(&host, &held(&answer), "rita").unwrap();
        drop(host);
        change(folder.path());
        let host = open(folder.path()).unwrap();
        let ended = host.resume(answer.call.as_str(), None);
        assert_eq!(service.requests(), 0, "{what}");
        match (ended, code) {
            (Ok(ended), Some(code)) => assert_eq!(ended.refused_effects[0].code, code, "{what}"),
            (Err(ApprovalError::Refused(refusal)), None) => assert!(refusal.message.contains("still waits"), "{what}"),
            (other, _) => panic!("{what}: {other:?}"),
        }
        let key = crate::store::verifier(folder.path()).unwrap();
        host.reader().unwrap().verify(&key, &[], |_| {}).unwrap();
        host.reader().unwrap().check_values(|_| {}).unwrap();
    }
}

#[test]
fn another_component_makes_a_hold_void() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let answer = host.call(request("post")).unwrap();
    approve(&host, &held(&answer), "rita").unwrap();
    drop(host);
    let mut other = component(service.port);
    // A custom section makes another component that does the same.
    other.extend([0, 3, 1, b'x', b'y']);
    let manifest = Manifest::read(&other).unwrap();
    home::accept_tool(folder.path(), "things", &other, &manifest).unwrap();
    let host = open(folder.path()).unwrap();
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(stopped(&ended).map(|refusal| refusal.code), Some(Code::Stale));
    assert_eq!(service.requests(), 0);
}

/// A process that loads other tools leaves what waits as it is, and lists it: another goes on with it.
#[test]
fn a_host_without_its_tool_leaves_a_call_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let answer = host.call(request("both")).unwrap();
    approve(&host, &held(&answer), "rita").unwrap();
    drop(host);
    let component = component(service.port);
    let manifest = Manifest::read(&component).unwrap();
    home::add_tool(folder.path(), "other", &component, &manifest).unwrap();
    let options = HostOptions {
        compiler: Some(Compiler::InProcess),
        ..HostOptions::for_tools(["other"])
    };
    let host = Host::open(Config::load(folder.path()).unwrap(), options).unwrap();
    let left = host.resume(answer.call.as_str(), None).unwrap_err();
    assert!(matches!(left, ApprovalError::Refused(refusal) if refusal.code == Code::Tool));
    assert_eq!(host.reader().unwrap().holds(None, 9).unwrap().len(), 1);
    drop(host);
    let host = open(folder.path()).unwrap();
    assert!(matches!(
        host.resume(answer.call.as_str(), None).unwrap().outcome,
        Outcome::Ok(_)
    ));
    assert_eq!(service.requests(), 2);
}

/// What people said waits for the same component under the name, and a no ends without it.
#[test]
fn a_removed_tool_ends_nothing_that_waits() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let (answer, other) = (host.call(request("both")).unwrap(), host.call(request("post")).unwrap());
    approve(&host, &held(&answer), "rita").unwrap();
    host.vote(&vote(&held(&other), "rita", Verdict::Reject), None).unwrap();
    drop(host);
    home::remove_tool(folder.path(), "things").unwrap();
    let host = open(folder.path()).unwrap();
    let Err(ApprovalError::Refused(left)) = host.resume(answer.call.as_str(), None) else {
        panic!("it went on");
    };
    assert_eq!(left.code, Code::Tool);
    assert!(left.advice.unwrap().contains("ambit tools add things"));
    assert!(host.resume(answer.call.as_str(), None).is_err());
    assert_eq!(uncounted(&host), ["tool-removed"], "on the ledger, once");
    let waiting = host.reader().unwrap().holds(None, 9).unwrap();
    assert_eq!(waiting.len(), 2);
    // Nothing is lost with one that was rejected.
    let ended = host.resume(other.call.as_str(), None).unwrap();
    assert!(stopped(&ended).is_some(), "{ended:?}");
    assert_eq!(host.reader().unwrap().holds(None, 9).unwrap().len(), 1);
    assert_eq!(service.requests(), 1, "the read alone");
    drop(host);
    let component = component(service.port);
    let manifest = Manifest::read(&component).unwrap();
    home::add_tool(folder.path(), "things", &component, &manifest).unwrap();
    let host = open(folder.path()).unwrap();
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert_eq!(service.requests(), 2);
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn a_hold_that_nobody_decides_expires() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "[limits]\nhold_ms = 1000\n");
    let answer = host.call(request("post")).unwrap();
    let held = held(&answer);
    approve(&host, &held, "rita").unwrap();
    thread::sleep(Duration::from_millis(1_100));
    assert!(refused(approve(&host, &held, "sam")).contains("expired"));
    assert_eq!(uncounted(&host), ["expired"]);
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(ended.refused_effects[0].code, Code::Approval);
    assert_eq!(service.requests(), 0);
}

#[test]
fn nothing_waits_in_a_dry_run() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let dry = CallRequest {
        mode: Mode::DryRun,
        ..request("post")
    };
    assert_eq!(host.call(dry).unwrap().refused_effects[0].code, Code::DryRun);
    assert!(host.reader().unwrap().holds(None, 10).unwrap().is_empty());
    drop(host);
    // Nor does a read that somebody would have to approve.
    let policy = ONE.replace("Action::\"commit\"", "Action::\"read\"");
    std::fs::write(folder.path().join("policy/main.cedar"), policy).unwrap();
    let host = open(folder.path()).unwrap();
    let dry = CallRequest {
        mode: Mode::DryRun,
        ..request("get")
    };
    assert_eq!(host.call(dry).unwrap().refused_effects[0].code, Code::Policy);
    assert!(host.reader().unwrap().holds(None, 10).unwrap().is_empty());
    assert_eq!(service.requests(), 0);
}

/// What `person` says about `delegate`, in force for an hour from now, or taken back.
pub(super) fn delegate(folder: &Path, person: &str, delegate: &str, takes_back: bool) -> Result<Delegation, OpenError> {
    let made_ms = u64::try_from(crate::host::now_ms()).unwrap();
    let said = Delegation {
        ledger: Reader::open(folder).unwrap().origin().unwrap(),
        person: person.to_owned(),
        delegate: delegate.to_owned(),
        group: "reviewer".to_owned(),
        made_ms,
        until_ms: made_ms + if takes_back { 0 } else { 3_600_000 },
    };
    home::delegate(folder, &said.sign(&key(person)).unwrap())
}

pub(super) fn in_stead_of(held: &crate::call::Held, member: &str, person: &str) -> String {
    let vote = Vote {
        person: person.to_owned(),
        hold: held.hold,
        verdict: Verdict::Approve,
        group: "reviewer".to_owned(),
        expires_ms: held.expires_ms,
        in_stead_of: Some(member.to_owned()),
    };
    vote.sign(&key(person)).unwrap()
}

fn say(host: &Host, note: &str) -> Result<Standing, ApprovalError> {
    host.vote(note, Some("the house is on fire"))
        .map(|(_, standing)| standing)
}

#[test]
fn a_member_gives_their_vote_and_takes_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, TWO, "");
    let answer = host.call(request("post")).unwrap();
    let held = held(&answer);
    assert!(refused(say(&host, &in_stead_of(&held, "rita", "eve"))).contains("no delegation says so"));
    drop(host);
    // Who has no vote has none to give: nobody gives one on.
    let on = delegate(folder.path(), "eve", "sam", false).unwrap_err().to_string();
    assert!(on.contains("has no vote there to give"), "{on}");
    let unknown = delegate(folder.path(), "rita", "nobody", false)
        .unwrap_err()
        .to_string();
    assert!(unknown.contains("no person `nobody` is enrolled"), "{unknown}");
    delegate(folder.path(), "rita", "eve", false).unwrap();
    // Ada asked, so her vote counts for this in nobody's hands.
    delegate(folder.path(), "ada", "eve", false).unwrap();
    let host = open(folder.path()).unwrap();
    assert!(refused(say(&host, &in_stead_of(&held, "ada", "eve"))).contains("their own request"));
    assert!(matches!(
        say(&host, &in_stead_of(&held, "rita", "eve")).unwrap(),
        Standing::Waiting(_)
    ));
    assert!(refused(approve(&host, &held, "rita")).contains("was given by eve"));
    assert!(refused(say(&host, &in_stead_of(&held, "rita", "eve"))).contains("counts once"));
    assert_eq!(
        uncounted(&host),
        ["not-delegated", "own-request", "seat-twice", "twice"]
    );
    drop(host);
    delegate(folder.path(), "rita", "eve", true).unwrap();
    let host = open(folder.path()).unwrap();
    assert!(matches!(approve(&host, &held, "sam").unwrap(), Standing::Waiting(_)));
    assert!(refused(host.resume(answer.call.as_str(), None).map(|_| Standing::Approved)).contains("1 of reviewer"));
    drop(host);
    delegate(folder.path(), "rita", "eve", false).unwrap();
    let host = open(folder.path()).unwrap();
    assert!(matches!(
        host.resume(answer.call.as_str(), None).unwrap().outcome,
        Outcome::Ok(_)
    ));
    assert_eq!(service.requests(), 1);
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn a_delegation_ends_with_either_of_its_people_and_with_its_group() {
    let left_group = |folder: &Path| {
        let path = folder.join("ambit.toml");
        let text = std::fs::read_to_string(&path).unwrap().replace("\"rita\", ", "");
        std::fs::write(path, text).unwrap();
    };
    let revoked = |folder: &Path| home::revoke_person(folder, "rita").unwrap();
    let revoked_and_back = |folder: &Path| {
        home::revoke_person(folder, "rita").unwrap();
        home::enrol_person(folder, &key("rita").verifier().to_string()).unwrap();
    };
    let taken_back = |folder: &Path| drop(delegate(folder, "rita", "eve", true).unwrap());
    let changes: [Change<'_>; 4] = [&left_group, &revoked, &revoked_and_back, &taken_back];
    for change in changes {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start();
        let host = reviewed(folder.path(), &service, ONE, "");
        let answer = host.call(request("post")).unwrap();
        let held = held(&answer);
        drop(host);
        delegate(folder.path(), "rita", "eve", false).unwrap();
        let host = open(folder.path()).unwrap();
        assert_eq!(
            say(&host, &in_stead_of(&held, "rita", "eve")).unwrap(),
            Standing::Approved
        );
        drop(host);
        change(folder.path());
        let host = open(folder.path()).unwrap();
        let still = refused(host.resume(answer.call.as_str(), None).map(|_| Standing::Approved));
        assert!(still.contains("still waits"), "{still}");
        assert_eq!(service.requests(), 0);
        let key = crate::store::verifier(folder.path()).unwrap();
        host.reader().unwrap().verify(&key, &[], |_| {}).unwrap();
    }
}

#[test]
fn a_delegation_for_one_home_says_nothing_in_another() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let answer = host.call(request("post")).unwrap();
    let made_ms = u64::try_from(crate::host::now_ms()).unwrap();
    let said = Delegation {
        ledger: "another/home".to_owned(),
        person: "rita".to_owned(),
        delegate: "eve".to_owned(),
        group: "reviewer".to_owned(),
        made_ms,
        until_ms: made_ms + 3_600_000,
    };
    let delegation = said.sign(&key("rita")).unwrap();
    // However it came to be on the ledger.
    let entries = vec![EntryDraft::of_ledger(PersonDelegated {
        delegation: delegation.clone(),
    })];
    let entered = Batch {
        entries,
        ..Batch::default()
    };
    host.shared.store.commit(entered).unwrap();
    assert!(refused(say(&host, &in_stead_of(&held(&answer), "rita", "eve"))).contains("no delegation says so"));
    drop(host);
    let refused = home::delegate(folder.path(), &delegation).unwrap_err().to_string();
    assert!(refused.contains("another home"), "{refused}");
}

/// A group of one who may break the glass.
const GLASS: &str = "[group.incident]\nmembers = [\"ivy\", \"ada\"]\n[approvals]\nbreak_glass = \"incident\"\n";

fn broken(held: &crate::call::Held, person: &str) -> String {
    let vote = Vote {
        person: person.to_owned(),
        hold: held.hold,
        verdict: Verdict::BreakGlass,
        group: "incident".to_owned(),
        expires_ms: held.expires_ms,
        in_stead_of: None,
    };
    vote.sign(&key(person)).unwrap()
}

#[test]
fn one_who_breaks_the_glass_says_why_and_is_on_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, TWO, GLASS);
    drop(host);
    home::enrol_person(folder.path(), &key("ivy").verifier().to_string()).unwrap();
    let host = open(folder.path()).unwrap();
    let answer = host.call(request("post")).unwrap();
    let held = held(&answer);
    for reason in [None, Some(""), Some("  ")] {
        let without = host.vote(&broken(&held, "ivy"), reason).map(|(_, standing)| standing);
        assert!(refused(without).contains("needs a reason"));
    }
    assert!(refused(say(&host, &broken(&held, "ada"))).contains("their own request"));
    assert!(refused(say(&host, &broken(&held, "rita"))).contains("not in group"));
    assert_eq!(
        uncounted(&host),
        ["no-reason", "no-reason", "no-reason", "own-request", "not-a-member"]
    );
    assert_eq!(say(&host, &broken(&held, "ivy")).unwrap(), Standing::Approved);
    let story = host.reader().unwrap().story(answer.call.as_str()).unwrap();
    let vote = &story.holds[&1].votes[0].what;
    assert_eq!(vote.instead.as_ref(), held.needs.first());
    assert!(vote.reason.is_some() && vote.vote.contains("verdict break-glass"));
    assert!(matches!(
        host.resume(answer.call.as_str(), None).unwrap().outcome,
        Outcome::Ok(_)
    ));
    assert_eq!(service.requests(), 1);
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

/// What a caller gave up is recorded, and the call goes on without it.
#[test]
fn a_call_that_waits_goes_on_without_what_its_caller_gave_up() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let narrowed = |scope: &str| CallRequest {
        narrowing: Narrowing {
            connections: Some(["things".to_owned()].into()),
            scopes: [("things".to_owned(), HttpScope::parse(scope).unwrap())].into(),
            ..Narrowing::default()
        },
        ..request("both")
    };
    let only = |methods: &str| format!("{methods} http://127.0.0.1:{}/things/{{id}}", service.port);
    let answer = host.call(narrowed(&only("GET"))).unwrap();
    assert_eq!(answer.refused_effects[0].code, Code::Narrowing);
    let answer = host.call(narrowed(&only("POST"))).unwrap();
    assert_eq!(answer.refused_effects[0].code, Code::Narrowing);
    approve(&host, &held(&answer), "rita").unwrap();
    drop(host);
    let host = open(folder.path()).unwrap();
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert_eq!(ended.refused_effects.len(), 1, "the read, once more");
    assert_eq!(service.requests(), 2);
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

/// The budget's own people have to say so, whoever broke the glass.
#[test]
fn a_broken_glass_passes_no_cap_that_people_could_pass() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let budget = "[budget.changes]\nroute = \"things/things.change\"\nunit = \"effects\"\n\
                  window = { rolling = \"24h\" }\ncap = 1\nover = { ask = \"reviewer\", count = 2 }\n";
    let host = reviewed(folder.path(), &service, POLICY, &format!("{GLASS}{budget}"));
    drop(host);
    home::enrol_person(folder.path(), &key("ivy").verifier().to_string()).unwrap();
    let host = open(folder.path()).unwrap();
    host.call(request("post")).unwrap();
    let answer = host.call(request("post")).unwrap();
    assert_eq!(held(&answer).over, ["changes"]);
    assert_eq!(say(&host, &broken(&held(&answer), "ivy")).unwrap(), Standing::Approved);
    let waits = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(waits.refused_effects[0].code, Code::Budget);
    assert_eq!(service.requests(), 1);
    for person in ["rita", "sam"] {
        approve(&host, &held(&answer), person).unwrap();
    }
    host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(service.requests(), 2);
}

/// Has the service take a request every three seconds.
fn rate(folder: &Path) {
    let path = folder.join("ambit.toml");
    let rated = std::fs::read_to_string(&path).unwrap().replace(
        "allow_private = true\n",
        "allow_private = true\nrate = { per = \"minute\", most = 20, burst = 1 }\n",
    );
    std::fs::write(path, rated).unwrap();
}

/// A host of which an effect is held, and a service that takes a request every three seconds and has just had one.
fn held_and_its_turn_is_later(folder: &Path, service: &Service, policy: &str) -> (Host, Answer) {
    drop(reviewed(folder, service, policy, ""));
    rate(folder);
    let host = open(folder).unwrap();
    let answer = host.call(request("post")).unwrap();
    host.call(request("get")).unwrap();
    (host, answer)
}

/// Revokes somebody's key a moment later, from beside the host.
fn revoked_soon(folder: &Path, name: &'static str) -> thread::JoinHandle<()> {
    let home = folder.to_owned();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        let revoke = crate::operators::Request::Revoke { name: name.to_owned() };
        crate::operators::act(&home, &revoke).unwrap();
    })
}

/// A no stands until the effect has its intent, also where its call goes on already.
#[test]
fn a_no_stops_an_approved_effect_that_waits_for_its_turn() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let (host, answer) = held_and_its_turn_is_later(folder.path(), &service, ONE);
    let hold = held(&answer);
    assert_eq!(approve(&host, &hold, "rita").unwrap(), Standing::Approved);
    thread::scope(|scope| {
        let going_on = scope.spawn(|| host.resume(answer.call.as_str(), None).unwrap());
        thread::sleep(Duration::from_millis(200));
        // What is no vote of anybody's stops nothing.
        let no = vote(&hold, "sam", Verdict::Reject);
        let forged = no.replace("sam", "sim");
        assert!(host.vote(&forged, None).is_err());
        let standing = host.vote(&no, Some("not this month")).unwrap().1;
        assert_eq!(standing, Standing::Rejected { by: "sam".to_owned() });
        let waits = going_on.join().unwrap();
        assert!(matches!(waits.outcome, Outcome::Held(_)), "{waits:?}");
        assert_eq!(waits.refused_effects[0].code, Code::Held);
    });
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(ended.refused_effects[0].code, Code::Approval, "{ended:?}");
    assert_eq!(service.requests(), 1, "the read alone");
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

/// An approved effect waits for its turn under a rate, and meanwhile its approver's key is revoked.
#[test]
fn who_is_revoked_while_an_effect_waits_for_its_turn_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let (host, answer) = held_and_its_turn_is_later(folder.path(), &service, ONE);
    assert_eq!(approve(&host, &held(&answer), "rita").unwrap(), Standing::Approved);
    let revoking = revoked_soon(folder.path(), "rita");
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    revoking.join().unwrap();
    assert_eq!(ended.refused_effects[0].code, Code::Approval, "{ended:?}");
    assert_eq!(service.requests(), 1, "the read alone");
}

/// The hold would have taken either group's word; policy of today takes one's alone.
#[test]
fn approvals_that_policy_decided_with_have_to_stand_until_the_intent() {
    let either = ONE.replace(
        "{ context.approvals.reviewer >= 1 }",
        "{ context.approvals.reviewer >= 1 || context.approvals.incident >= 1 }",
    );
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    drop(reviewed(folder.path(), &service, &either, GLASS));
    home::enrol_person(folder.path(), &key("ivy").verifier().to_string()).unwrap();
    rate(folder.path());
    let host = open(folder.path()).unwrap();
    let answer = host.call(request("post")).unwrap();
    let hold = held(&answer);
    let mut ivys = vote_of(&hold, "ivy", Verdict::Approve);
    ivys.group = "incident".to_owned();
    assert_eq!(approve(&host, &hold, "rita").unwrap(), Standing::Approved);
    assert_eq!(
        say(&host, &ivys.sign(&key("ivy")).unwrap()).unwrap(),
        Standing::Approved
    );
    drop(host);
    std::fs::write(folder.path().join("policy/main.cedar"), ONE).unwrap();
    let host = open(folder.path()).unwrap();
    host.call(request("get")).unwrap();
    let revoking = revoked_soon(folder.path(), "rita");
    let ended = host.resume(answer.call.as_str(), None).unwrap();
    revoking.join().unwrap();
    assert_eq!(ended.refused_effects[0].code, Code::Approval, "{ended:?}");
    assert_eq!(service.requests(), 1, "the read alone");
    drop(host);
    in_order(folder.path(), answer.call.as_str());
}

#[test]
fn a_broken_glass_passes_neither_a_budget_nor_what_no_approval_would_permit() {
    let forbidden = |folder: &Path| {
        let policy = format!("{TWO}\n@id(\"stop\") forbid (principal, action == Action::\"commit\", resource);");
        std::fs::write(folder.join("policy/main.cedar"), policy).unwrap();
    };
    let three = |folder: &Path| {
        let policy = TWO.replace(">= 2", ">= 3");
        std::fs::write(folder.join("policy/main.cedar"), policy).unwrap();
    };
    let budget = |folder: &Path| {
        let path = folder.join("ambit.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let more = "[budget.none]\nunit = \"bytes\"\nwindow = \"day\"\ncap = 1\n";
        std::fs::write(path, format!("{text}{more}")).unwrap();
    };
    let no_glass = |folder: &Path| {
        let path = folder.join("ambit.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replace("[approvals]\nbreak_glass = \"incident\"\n", "")).unwrap();
    };
    let changes: [(Change<'_>, Option<Code>); 4] = [
        (&forbidden, Some(Code::Policy)),
        (&three, Some(Code::Policy)),
        (&budget, Some(Code::Budget)),
        (&no_glass, None),
    ];
    for (change, code) in changes {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start();
        let host = reviewed(folder.path(), &service, TWO, GLASS);
        drop(host);
        home::enrol_person(folder.path(), &key("ivy").verifier().to_string()).unwrap();
        let host = open(folder.path()).unwrap();
        let answer = host.call(request("post")).unwrap();
        assert_eq!(say(&host, &broken(&held(&answer), "ivy")).unwrap(), Standing::Approved);
        drop(host);
        change(folder.path());
        let host = open(folder.path()).unwrap();
        let ended = host.resume(answer.call.as_str(), None);
        assert_eq!(service.requests(), 0);
        match (ended, code) {
            (Ok(ended), Some(code)) => assert_eq!(ended.refused_effects[0].code, code),
            (Err(ApprovalError::Refused(refusal)), None) => assert!(refusal.message.contains("still waits")),
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[test]
fn no_more_effects_of_an_agent_wait_than_the_home_says() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "[limits]\nopen_holds = 1\n");
    let first = host.call(request("post")).unwrap();
    held(&first);
    let second = host.call(request("both")).unwrap();
    assert!(matches!(second.outcome, Outcome::Ok(_)), "{second:?}");
    assert_eq!(second.refused_effects[0].code, Code::Limit);
    assert!(
        second.refused_effects[0]
            .message
            .contains("1 effects of agent assistant wait")
    );
    approve(&host, &held(&first), "rita").unwrap();
    host.resume(first.call.as_str(), None).unwrap();
    held(&host.call(request("post")).unwrap());
    drop(host);
    in_order(folder.path(), second.call.as_str());
    in_order(folder.path(), first.call.as_str());
}

#[test]
fn a_refusal_that_passes_uses_up_no_approval() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let budget = |cap: u32| {
        format!(
            "[budget.changes]\nroute = \"things/things.change\"\nunit = \"effects\"\nwindow = {{ rolling = \"24h\" }}\ncap = {cap}\n"
        )
    };
    // Policy says something of a full budget too: what is approved still waits for room.
    let policy = format!(
        "{ONE}\n@id(\"full\") forbid (principal, action == Action::\"commit\", resource) when {{ context.exhausted.contains(\"changes\") }};"
    );
    let host = reviewed(folder.path(), &service, &policy, &budget(1));
    let (one, other) = (host.call(request("post")).unwrap(), host.call(request("post")).unwrap());
    for answer in [&one, &other] {
        assert_eq!(approve(&host, &held(answer), "rita").unwrap(), Standing::Approved);
    }
    host.resume(one.call.as_str(), None).unwrap();
    let waits = host.resume(other.call.as_str(), None).unwrap();
    let approved = crate::call::Held {
        missing: vec![],
        ..held(&other)
    };
    assert_eq!(held(&waits), approved);
    assert_eq!(waits.refused_effects[0].code, Code::Budget);
    assert_eq!(service.requests(), 1);
    drop(host);
    std::fs::write(
        folder.path().join("ambit.toml"),
        configuration(service.port, &budget(2)),
    )
    .unwrap();
    let host = open(folder.path()).unwrap();
    let ended = host.resume(other.call.as_str(), None).unwrap();
    assert!(matches!(ended.outcome, Outcome::Ok(_)), "{ended:?}");
    assert_eq!(service.requests(), 2);
    drop(host);
    in_order(folder.path(), other.call.as_str());
}

/// What nobody decided about in time is ended by the next host that opens.
#[test]
fn expired_holds_are_ended_when_a_host_opens() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "[limits]\nhold_ms = 1000\n");
    let answer = host.call(request("post")).unwrap();
    assert_eq!(host.end_expired(10).unwrap(), 0);
    thread::sleep(Duration::from_millis(1_100));
    drop(host);
    let host = open(folder.path()).unwrap();
    let reader = host.reader().unwrap();
    assert!(reader.holds(None, 10).unwrap().is_empty());
    assert!(reader.story(answer.call.as_str()).unwrap().is_over());
    assert!(host.resume(answer.call.as_str(), None).is_err());
    drop(host);
    // It ended without its guest: what that did is the same, and what it would have done nobody knows.
    let replayed = replayed::replayed(folder.path(), answer.call.as_str());
    assert_eq!(replayed.diverged, None);
    assert_eq!(replayed.stopped.map(|stopped| stopped.effect), Some(Some(1)));
}

#[test]
fn the_ledger_tells_what_was_held_and_who_said_what() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = reviewed(folder.path(), &service, ONE, "");
    let answer = host.call(request("post")).unwrap();
    let note = vote(&held(&answer), "rita", Verdict::Approve);
    host.vote(&note, Some("as agreed")).unwrap();
    let config = Config::load(folder.path()).unwrap();
    let reader = host.reader().unwrap();
    let waiting = Waiting::of(&reader, &config, answer.call.as_str()).unwrap().unwrap();
    assert_eq!(waiting.standing(), Standing::Approved);
    host.resume(answer.call.as_str(), None).unwrap();
    let story = reader.story(answer.call.as_str()).unwrap();
    let hold = &story.holds[&1];
    assert_eq!(hold.votes[0].what.vote, note);
    let Some(EffectStory::Intended { intent, .. }) = story.effects.get(&1) else {
        panic!("{story:?}");
    };
    assert_eq!(intent.what.hold, Some(hold.held.what.hold));
    let reason = reader
        .payload(answer.call.as_str(), "effect/1/reason/1")
        .unwrap()
        .unwrap();
    assert_eq!(reason.bytes(), b"as agreed");
}

/// What is stored in a value's place is not believed: neither another value, nor one that the ledger knows nothing of.
#[test]
fn a_replay_believes_what_the_ledger_commits_to() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), &Service::start(), "");
    let host = open(folder.path()).unwrap();
    let call = host.call(request("both")).unwrap().call;
    drop(host);
    in_order(folder.path(), call.as_str());
    let keys = Keys::load(folder.path()).unwrap();
    let reader = || Reader::open(folder.path()).unwrap().with_keys(&keys);
    let database = rusqlite::Connection::open(folder.path().join("ledger.db")).unwrap();
    let replayed = || {
        let mut replayer = Replayer::open(folder.path(), Some(Compiler::InProcess)).unwrap();
        replayer.replay(call.as_str()).map_err(|error| error.to_string())
    };
    let put = |payload: &Payload| {
        let sealed = reader().sealed(payload, call.as_str());
        let sql = "INSERT INTO payloads (call, name, sealed) VALUES (?1, ?2, ?3)
                   ON CONFLICT (call, name) DO UPDATE SET sealed = excluded.sealed";
        database.execute(sql, (call.as_str(), payload.name(), sealed)).unwrap();
    };
    let cases: [(&str, &[u8]); 4] = [
        ("effect/2/asked", br#"{"method":"delete"}"#),
        ("effect/1/answer", br#"{"clock":1,"failed":"no"}"#),
        ("result", b"7"),
        ("args", br#"{"path":"/things/2"}"#),
    ];
    for (name, bytes) in cases {
        let before = reader().payload(call.as_str(), name).unwrap().unwrap();
        put(&Payload::new(call.as_str(), name, bytes.to_vec()).unwrap());
        let refused = replayed().unwrap_err();
        assert!(
            refused.contains("is not the one that the ledger commits to"),
            "{refused}"
        );
        assert!(refused.contains(&format!("`{name}`")), "{refused}");
        put(&before);
        assert_eq!(replayed().unwrap().diverged, None);
    }
    put(&Payload::new(call.as_str(), "log", b"info something\n".to_vec()).unwrap());
    let refused = replayed().unwrap_err();
    assert!(refused.contains("no entry of the ledger commits to it"), "{refused}");
}

#[test]
fn a_call_whose_values_were_erased_is_not_replayed_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), &Service::start(), "");
    let host = open(folder.path()).unwrap();
    let call = host.call(request("get")).unwrap().call;
    drop(host);
    let why = Reason::Subject(Subject::Agent("assistant".to_owned()));
    let erasure = Reader::open(folder.path()).unwrap().erasable(why, 0).unwrap();
    home::erase(folder.path(), &erasure).unwrap();
    let mut replayer = Replayer::open(folder.path(), Some(Compiler::InProcess)).unwrap();
    for refused in [
        replayer.replay(call.as_str()).map(|_| ()).unwrap_err(),
        replayer.bundle(call.as_str()).map(|_| ()).unwrap_err(),
    ] {
        let message = refused.to_string();
        assert!(message.contains("its values were erased on 2"), "{message}");
        assert!(message.contains("all by agent assistant"), "{message}");
    }
}
