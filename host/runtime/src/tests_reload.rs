//! Files that are taken anew under a running host, in whole calls: who began keeps what it began with, and what cannot be used changes
//! nothing.

use ambit_core::ledger::body::{HostReloaded, ReloadRefused, ReloadedBy, ToolChanged};
use ambit_core::ledger::{Entry, Kind};

use super::*;
use crate::operators::{self, Request};
use crate::reload::{FileChanged, How, Reloaded};

const LONG: &str = "[limits]\nfuel = 4000000000000000\nwall_ms = 20000\n";
/// Whatever changes something is forbidden.
const READS: &str = r#"
@id("all") permit (principal, action, resource);
@id("frozen") forbid (principal, action == Action::"commit", resource);
"#;

fn policy(folder: &Path, text: &str) {
    std::fs::write(folder.join("policy/main.cedar"), text).unwrap();
}

fn reload(host: &Host) -> Result<Reloaded, Refusal> {
    match host.reload(ReloadedBy::Operator) {
        Ok(reloaded) => Ok(reloaded),
        Err(OpenError::Refused(refusal)) => Err(refusal),
        Err(other) => panic!("{other:?}"),
    }
}

fn entries(host: &Host, kind: Kind) -> Vec<Entry> {
    let all = host.reader().unwrap().entries(0, 10_000).unwrap();
    all.into_iter().filter(|entry| entry.kind() == kind).collect()
}

fn until(mut so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(30), "it does not happen");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The same component, but for a number in it.
fn another(port: u16) -> Vec<u8> {
    let (world, module) = source(port);
    crate::sandbox::tests::component(&world, &module.replace("300000000", "300000001"))
}

#[test]
fn what_runs_keeps_what_it_began_with_and_what_begins_has_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, LONG);
    let host = open(folder.path()).unwrap();
    let older = host.shared.policy.digest();
    let (late, reloaded, after) = thread::scope(|scope| {
        let late = scope.spawn(|| host.call(request("late")).unwrap());
        until(|| service.requests() == 1);
        policy(folder.path(), READS);
        let reloaded = reload(&host).unwrap();
        let after = host.call(request("post")).unwrap();
        assert!(!late.is_finished(), "the guest is slower than that");
        (late.join().unwrap(), reloaded, after)
    });
    assert_eq!(stopped(&late), None);
    assert!(late.refused_effects.is_empty(), "{late:?}");
    assert_eq!(after.refused_effects[0].rule.as_deref(), Some("frozen"));
    assert_eq!(service.requests(), 2, "the one that had begun changed something");
    assert_eq!(
        (reloaded.sections.as_slice(), reloaded.tools.as_slice()),
        (&[][..], &[][..])
    );
    assert_eq!(
        reloaded.policies,
        [FileChanged {
            file: "main.cedar".to_owned(),
            how: How::Changed
        }]
    );
    // Each call's entries say what it was decided by.
    let of = |answer: &Answer| host.reader().unwrap().story(answer.call.as_str()).unwrap().policy;
    assert_eq!((of(&late), of(&after)), (Some(older), Some(reloaded.policy)));
    let told = entries(&host, Kind::HostReloaded);
    let Body::HostReloaded(HostReloaded {
        by,
        config,
        policy,
        tools,
    }) = told[0].body()
    else {
        panic!("{told:?}");
    };
    assert_eq!((told.len(), told[0].index()), (1, reloaded.entry));
    assert_eq!(
        (*by, *config, *policy),
        (ReloadedBy::Operator, reloaded.config, reloaded.policy)
    );
    assert!(tools.is_empty());
    drop(host);
    verifies(folder.path());
    // What is taken anew is what a start would take: the next one has nothing to say.
    let host = open(folder.path()).unwrap();
    assert_eq!(entries(&host, Kind::PolicyChanged).len(), 2);
}

#[test]
fn files_that_cannot_be_used_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let good = configuration(service.port, "");
    let host = open(folder.path()).unwrap();
    let component = home::component_path(folder.path(), &host.shared.tools["things"].digest);
    let toml = |text: String| std::fs::write(folder.path().join("ambit.toml"), text).unwrap();
    let cases: [(&str, &dyn Fn(), &str); 9] = [
        ("policy", &|| policy(folder.path(), "permit (principal"), "main.cedar"),
        (
            "group",
            &|| policy(folder.path(), &holds::TWO.replace("reviewer", "nobody")),
            "no such group",
        ),
        (
            "key",
            &|| toml(good.replace("[tool", "[limits]\nfule = 1\n[tool")),
            "fule",
        ),
        (
            "connection",
            &|| toml(good.replace("things = \"things\"", "things = \"nothing\"")),
            "nothing",
        ),
        ("binding", &|| toml(format!("{good}\nstuff = \"things\"\n")), "`stuff`"),
        (
            "component",
            &|| std::fs::rename(&component, folder.path().join("gone")).unwrap(),
            "cannot be read",
        ),
        (
            "ledger",
            &|| toml(format!("{good}\n[ledger]\nquota = 9000000000\n")),
            "[ledger]",
        ),
        (
            "places",
            &|| toml(format!("{good}\n[limits]\nconcurrent_calls = 3\n")),
            "`concurrent_calls`",
        ),
        (
            "secret",
            &|| {
                toml(good.replace(
                    "allow_private",
                    "credential = { env = \"AMBIT_NOT_THERE\", as = \"bearer\" }\nallow_private",
                ))
            },
            "AMBIT_NOT_THERE",
        ),
    ];
    for (count, (what, break_it, why)) in cases.into_iter().enumerate() {
        break_it();
        let refusal = reload(&host).unwrap_err();
        assert!(refusal.message.contains(why), "{what}: {refusal:?}");
        assert!(host.current().is_as_read(&host), "{what}");
        let told = entries(&host, Kind::ReloadRefused);
        assert_eq!(told.len(), count + 1);
        assert!(matches!(told[count].body(), Body::ReloadRefused(ReloadRefused { code, .. }) if *code == refusal.code));
        let answer = host.call(request("post")).unwrap();
        assert!(
            stopped(&answer).is_none() && answer.refused_effects.is_empty(),
            "{what}: {answer:?}"
        );
        policy(folder.path(), POLICY);
        toml(good.clone());
        drop(std::fs::rename(folder.path().join("gone"), &component));
    }
    let reloaded = reload(&host).unwrap();
    assert!(!reloaded.changes_anything(), "{reloaded:?}");
    drop(host);
    verifies(folder.path());
}

#[test]
fn what_a_process_has_from_its_start_does_not_change_under_it() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let server = "[server]\nlisten = \"127.0.0.1:8787\"\nresource = \"https://ambit.example.com/mcp\"\n";
    home(folder.path(), &service, server);
    let host = open(folder.path()).unwrap();
    let with = |more: &str| {
        std::fs::write(folder.path().join("ambit.toml"), configuration(service.port, more)).unwrap();
        reload(&host)
    };
    for (more, name) in [
        (String::new(), "[server]"),
        (server.replace("8787", "8788"), "`listen` in [server]"),
        (
            server.replace("ambit.example", "other.example"),
            "`resource` in [server]",
        ),
        (
            format!("{server}[limits]\nstack_bytes = 262144\n"),
            "`stack_bytes` in [limits]",
        ),
    ] {
        let refusal = with(&more).unwrap_err();
        assert!(refusal.message.starts_with(name), "{refusal:?}");
        assert!(refusal.advice.unwrap().contains("restart"));
    }
    // What is asked of it anew with each request does.
    let reloaded = with(&format!("{server}drain = \"3s\"\nrequest_bytes = 4096\n")).unwrap();
    assert_eq!(reloaded.sections, ["server"]);
    assert_eq!(host.drain(), Duration::from_secs(3));
}

#[test]
fn what_waits_is_decided_by_what_there_is_when_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = holds::reviewed(folder.path(), &service, holds::ONE, "");
    let answer = host.call(request("both")).unwrap();
    let held = holds::held(&answer);
    policy(folder.path(), READS);
    reload(&host).unwrap();
    let now = host.current();
    holds::approve(&now, &held, "rita").unwrap();
    let ended = now.resume(answer.call.as_str(), None).unwrap();
    assert_eq!(ended.refused_effects[0].rule.as_deref(), Some("frozen"), "{ended:?}");
    assert_eq!(service.requests(), 1, "the read alone");
    drop((host, now));
    holds::in_order(folder.path(), answer.call.as_str());
}

/// One place, which is taken until the home was read anew.
fn meanwhile<T: Send>(host: &Host, folder: &Path, what: impl FnOnce(&Host) -> T + Send) -> T {
    let place = host.shared.place().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| what(host));
        thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished(), "it waits for a place");
        policy(folder, READS);
        reload(host).unwrap();
        drop(place);
        waiting.join().unwrap()
    })
}

const ONE_PLACE: &str = "[limits]\nconcurrent_calls = 1\nwall_ms = 20000\n";

#[test]
fn what_waits_for_a_place_begins_under_what_is_read_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, ONE_PLACE);
    let host = open(folder.path()).unwrap();
    let answer = meanwhile(&host, folder.path(), |host| host.call(request("post")).unwrap());
    assert_eq!(answer.refused_effects[0].rule.as_deref(), Some("frozen"), "{answer:?}");
    assert_eq!(service.requests(), 0);
}

#[test]
fn what_goes_on_waits_for_a_place_and_goes_on_under_what_is_read_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = holds::reviewed(folder.path(), &service, holds::ONE, ONE_PLACE);
    let answer = host.call(request("both")).unwrap();
    holds::approve(&host, &holds::held(&answer), "rita").unwrap();
    let call = answer.call.to_string();
    let ended = meanwhile(&host, folder.path(), |host| host.resume(&call, None).unwrap());
    assert_eq!(ended.refused_effects[0].rule.as_deref(), Some("frozen"), "{ended:?}");
    assert_eq!(service.requests(), 1, "the read alone");
}

#[test]
fn an_act_that_waits_for_a_place_is_not_done_by_what_was_read_before() {
    let folder = tempfile::tempdir().unwrap();
    let service = flow::Scripted::start([flow::DOWN]);
    flow::home_with(folder.path(), &service, "", "", flow::KEYED);
    let path = folder.path().join("ambit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + ONE_PLACE).unwrap();
    let host = open(folder.path()).unwrap();
    let call = host.call(request("post")).unwrap().call.to_string();
    let letters = || host.reader().unwrap().dead_letters_like(&call).unwrap().len();
    assert_eq!(letters(), 1);
    let refused = meanwhile(&host, folder.path(), |host| host.retry_dead_letter(&call, 1, false));
    match refused.unwrap_err() {
        crate::dead_letters::LetterError::Refused(refusal) => assert_eq!(refusal.code, Code::Stale, "{refusal:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(letters(), 1);
}

#[test]
fn the_old_component_runs_or_what_waits_is_void() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    let host = holds::reviewed(folder.path(), &service, holds::ONE, "");
    let older = host.shared.tools["things"].digest;
    let (waits, voided) = (host.call(request("both")).unwrap(), host.call(request("both")).unwrap());
    // Over the operators' socket: this process holds the home.
    let component = another(service.port);
    let newer = Manifest::read(&component).unwrap();
    home::accept_tool(folder.path(), "things", &component, &newer).unwrap();
    holds::approve(&host, &holds::held(&waits), "rita").unwrap();
    holds::approve(&host, &holds::held(&voided), "rita").unwrap();
    let runs = |answer: &Answer| {
        host.reader()
            .unwrap()
            .story(answer.call.as_str())
            .unwrap()
            .tool
            .unwrap()
    };
    assert_eq!(runs(&host.call(request("get")).unwrap()), older, "until it is taken");
    let ended = host.resume(waits.call.as_str(), None).unwrap();
    assert!(stopped(&ended).is_none(), "{ended:?}");
    let reloaded = reload(&host).unwrap();
    assert_eq!(
        reloaded.tools,
        [ToolChanged {
            from: Some(older),
            name: "things".to_owned(),
            to: Some(newer.digest)
        }]
    );
    assert_eq!(runs(&host.call(request("get")).unwrap()), newer.digest);
    let ended = host.current().resume(voided.call.as_str(), None).unwrap();
    assert_eq!(
        stopped(&ended).map(|refusal| refusal.code),
        Some(Code::Stale),
        "{ended:?}"
    );
    home::remove_tool(folder.path(), "things").unwrap();
    assert!(
        stopped(&host.call(request("get")).unwrap()).is_none(),
        "until it is taken"
    );
    // Its budgets, bindings and rules may stay.
    reload(&host).unwrap();
    assert_eq!(
        stopped(&host.call(request("get")).unwrap()).map(|refusal| refusal.code),
        Some(Code::Tool)
    );
    drop(host);
    verifies(folder.path());
}

/// What a service was asked and how it did is not the files'.
#[test]
fn rates_and_pauses_outlast_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let rated = |most: u32| {
        let rate = format!("allow_private = true\nrate = {{ per = \"hour\", most = {most} }}");
        let text = configuration(service.port, "").replace("allow_private = true", &rate);
        std::fs::write(folder.path().join("ambit.toml"), text).unwrap();
    };
    rated(2);
    let host = open(folder.path()).unwrap();
    let refused = || {
        let answer = host.call(request("get")).unwrap();
        answer.refused_effects.first().map(|refusal| refusal.code)
    };
    assert_eq!((refused(), refused(), refused()), (None, None, Some(Code::Rate)));
    policy(folder.path(), READS);
    reload(&host).unwrap();
    assert_eq!(refused(), Some(Code::Rate), "it is as used up as before");
    rated(3);
    assert_eq!(reload(&host).unwrap().sections, ["connection.things"]);
    assert_eq!(
        (refused(), refused()),
        (None, Some(Code::Rate)),
        "what was sent counts under the new one"
    );
}

#[test]
fn calls_and_reloads_at_the_same_time_are_each_by_one_policy() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    home(folder.path(), &service, "");
    let host = open(folder.path()).unwrap();
    let rule = |id: usize| format!("@id(\"rule-{id}\") permit (principal, action, resource);");
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let answer = host.call(request("get")).unwrap();
                    assert!(
                        stopped(&answer).is_none() && answer.refused_effects.is_empty(),
                        "{answer:?}"
                    );
                }
            });
        }
        for id in 0..20 {
            policy(folder.path(), &rule(id));
            reload(&host).unwrap();
        }
    });
    let mut by: BTreeMap<String, std::collections::BTreeSet<String>> = BTreeMap::new();
    for entry in host.reader().unwrap().entries(0, 10_000).unwrap() {
        let rules = match entry.body() {
            Body::CallAccepted(accepted) => &accepted.rules,
            Body::EffectIntent(intent) => &intent.rules,
            _ => continue,
        };
        by.entry(entry.policy().unwrap().to_string())
            .or_default()
            .extend(rules.iter().cloned());
    }
    assert!(by.values().all(|rules| rules.len() == 1), "{by:?}");
    drop(host);
    verifies(folder.path());
}

#[test]
fn an_operator_has_the_process_that_holds_the_home_do_it() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), &Service::start(), "");
    assert_eq!(operators::ask(folder.path(), &Request::Reload).unwrap(), None);
    let host = open(folder.path()).unwrap();
    let mut changes = host.changes();
    policy(folder.path(), READS);
    let answer = operators::ask(folder.path(), &Request::Reload).unwrap();
    assert!(matches!(answer, Some(operators::Answer::Reloaded(_))), "{answer:?}");
    assert!(changes.has_changed().unwrap() && !host.current().is_as_read(&host));
    policy(folder.path(), "nonsense");
    let answer = operators::ask(folder.path(), &Request::Reload).unwrap();
    assert!(matches!(answer, Some(operators::Answer::Refused(_))), "{answer:?}");
    changes.mark_unchanged();
    policy(folder.path(), POLICY);
    host.reload_soon(ReloadedBy::Signal);
    until(|| changes.has_changed().unwrap());
    let told = entries(&host, Kind::HostReloaded);
    assert!(matches!(told[1].body(), Body::HostReloaded(reloaded) if reloaded.by == ReloadedBy::Signal));
}
