#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::identity::AgentSpec;
use crate::json::Limits;

const NOW: u64 = 1_795_000_000;

fn directory() -> Directory {
    let agent = |team: &str, tenant: &str, users: &[&str]| AgentSpec {
        team: team.into(),
        tenant: tenant.into(),
        users: users.iter().map(|&user| user.into()).collect(),
    };
    Directory::new(BTreeMap::from([
        ("assistant".into(), agent("support", "acme", &["ada"])),
        ("clerk".into(), agent("billing", "acme", &[])),
        ("spy".into(), agent("spies", "other", &["ada"])),
    ]))
    .unwrap()
}

fn issuer() -> Issuer {
    Issuer {
        name: "acme".into(),
        issuer: "https://id.example".into(),
        audience: "https://ambit.example/mcp".into(),
        algorithms: Algorithm::USUAL.into(),
        claims: ClaimNames::default(),
        agents: [("client-1", "assistant"), ("client-2", "clerk")]
            .map(|(said, agent)| (said.to_owned(), agent.to_owned()))
            .into(),
        users: None,
        subjects: Subjects::Own,
        scopes: BTreeMap::new(),
        required: BTreeSet::new(),
        leeway_s: 30,
        longest_s: 3_600,
    }
}

/// Claims of an agent of its own, with more and other members.
fn claims(changes: &str) -> Json {
    let parse = |text: &str| Json::parse(text, Limits::default()).unwrap();
    let mut claims = parse(&format!(
        r#"{{"iss":"https://id.example","aud":"https://ambit.example/mcp","sub":"client-1","exp":{},"iat":{NOW},"jti":"t1"}}"#,
        NOW + 600
    ));
    let (Json::Object(members), Json::Object(changes)) = (&mut claims, parse(changes)) else {
        panic!("objects");
    };
    for (name, value) in changes.iter() {
        members.remove(name);
        if !value.is_null() {
            members.insert(name, value.clone());
        }
    }
    claims
}

fn check(issuer: &Issuer, changes: &str, expected: Result<(&str, Option<&str>), Why>) {
    let found = issuer.identify(&claims(changes), &directory(), NOW);
    let found = found
        .as_ref()
        .map(|found| (found.caller.agent(), found.caller.user()))
        .map_err(|denied| denied.why);
    assert_eq!(found, expected, "{changes}");
}

#[test]
fn a_token_is_of_an_agent_that_was_named_for_its_issuer() {
    check(&issuer(), "{}", Ok(("assistant", None)));
    check(&issuer(), r#"{"sub":"client-2"}"#, Ok(("clerk", None)));
    for unknown in ["assistant", "spy", "client-3", "CLIENT-1", "client-1 "] {
        check(&issuer(), &format!(r#"{{"sub":"{unknown}"}}"#), Err(Why::Agent));
    }
    for wrong in [
        r#"{"sub":null}"#,
        r#"{"sub":7}"#,
        r#"{"sub":""}"#,
        r#"{"sub":["client-1"]}"#,
    ] {
        check(&issuer(), wrong, Err(Why::Claims));
    }
    let found = issuer().identify(&claims("{}"), &directory(), NOW).unwrap();
    assert_eq!((found.caller.tenant(), found.jti.as_deref()), ("acme", Some("t1")));
    assert_eq!(found.narrowing, Narrowing::default());
}

#[test]
fn a_token_is_of_its_issuer_and_for_us_to_the_letter() {
    for wrong in [
        r#"{"iss":null}"#,
        r#"{"iss":"https://id.example/"}"#,
        r#"{"iss":"https://ID.example"}"#,
        r#"{"iss":["https://id.example"]}"#,
    ] {
        check(&issuer(), wrong, Err(Why::Issuer));
    }
    check(
        &issuer(),
        r#"{"aud":["https://other.example","https://ambit.example/mcp"]}"#,
        Ok(("assistant", None)),
    );
    for wrong in [
        r#"{"aud":null}"#,
        r#"{"aud":""}"#,
        r#"{"aud":[]}"#,
        r#"{"aud":"https://ambit.example/mcp/"}"#,
        r#"{"aud":"https://ambit.example"}"#,
        r#"{"aud":["https://other.example"]}"#,
        r#"{"aud":{"https://ambit.example/mcp":true}}"#,
    ] {
        check(&issuer(), wrong, Err(Why::Audience));
    }
}

#[test]
fn a_token_is_signed_in_a_way_that_its_issuer_may() {
    assert!(issuer().check_algorithm(Algorithm::Es256).is_ok());
    assert_eq!(
        issuer().check_algorithm(Algorithm::Rs512).unwrap_err().why,
        Why::Algorithm
    );
}

#[test]
fn a_token_has_its_time() {
    let at = |name: &str, offset: i64| format!(r#"{{"{name}":{}}}"#, NOW.checked_add_signed(offset).unwrap());
    let ours = Ok(("assistant", None));
    check(&issuer(), &at("exp", -29), ours);
    check(&issuer(), &at("exp", -30), Err(Why::Expired));
    check(&issuer(), r#"{"exp":0}"#, Err(Why::Expired));
    check(&issuer(), r#"{"exp":-1}"#, Err(Why::Expired));
    check(&issuer(), &at("nbf", 30), ours);
    check(&issuer(), &at("nbf", 31), Err(Why::NotYet));
    check(&issuer(), &at("iat", 31), Err(Why::NotYet));
    check(&issuer(), &at("exp", 3_600), ours);
    check(&issuer(), &at("exp", 3_601), Err(Why::Lifetime));
    check(&issuer(), r#"{"exp":1e300}"#, Err(Why::Lifetime));
    check(
        &issuer(),
        &format!(r#"{{"iat":null,"exp":{}}}"#, NOW + 3_601),
        Err(Why::Lifetime),
    );
    check(&issuer(), &format!(r#"{{"exp":{}.5}}"#, NOW + 60), ours);
    for wrong in [
        r#"{"exp":null}"#,
        r#"{"exp":"soon"}"#,
        r#"{"nbf":"now"}"#,
        r#"{"iat":true}"#,
    ] {
        check(&issuer(), wrong, Err(Why::Claims));
    }
    // No configuration makes a clock's slip more than a minute.
    let lax = Issuer {
        leeway_s: 9_999,
        ..issuer()
    };
    check(&lax, &at("exp", -61), Err(Why::Expired));
}

#[test]
fn a_token_that_is_bound_to_a_key_is_none_of_a_bearer() {
    check(&issuer(), r#"{"cnf":{"jkt":"abc"}}"#, Err(Why::Bound));
}

#[test]
fn an_actor_acts_for_the_subject() {
    // RFC 8693, section 4.1: the subject is whom the actor acts for.
    let acting = |agent: &str, user: &str| format!(r#"{{"sub":"{user}","act":{{"sub":"{agent}"}}}}"#);
    check(&issuer(), &acting("client-1", "ada"), Ok(("assistant", Some("ada"))));
    check(&issuer(), &acting("client-1", "bob"), Err(Why::User));
    check(&issuer(), &acting("client-2", "ada"), Err(Why::User));
    check(&issuer(), &acting("ada", "client-1"), Err(Why::Agent));
    // Those before the actor say where the token came from, and are nobody here.
    check(
        &issuer(),
        r#"{"sub":"ada","act":{"sub":"client-1","act":{"sub":"client-2"}}}"#,
        Ok(("assistant", Some("ada"))),
    );
    check(
        &issuer(),
        r#"{"sub":"ada","act":{"sub":"client-1","iss":"https://elsewhere.example"}}"#,
        Err(Why::Claims),
    );
    check(&issuer(), r#"{"sub":"ada","act":{}}"#, Err(Why::Claims));
    check(&issuer(), r#"{"sub":"ada","act":"client-1"}"#, Err(Why::Claims));
}

#[test]
fn an_issuer_can_say_it_elsewhere() {
    let mut issuer = issuer();
    issuer.claims.agent = Some("client_id".parse().unwrap());
    check(&issuer, r#"{"client_id":"client-1"}"#, Ok(("assistant", None)));
    check(&issuer, "{}", Err(Why::Claims));
    // Somebody is acted for, and where they stand is not configured.
    check(
        &issuer,
        r#"{"client_id":"client-1","act":{"sub":"x"}}"#,
        Err(Why::Claims),
    );
    issuer.claims.user = Some("/https:~1~1acme.example~1who/name".parse().unwrap());
    check(
        &issuer,
        r#"{"client_id":"client-1","https://acme.example/who":{"name":"ada"}}"#,
        Ok(("assistant", Some("ada"))),
    );
    // A user who is to be there and is not: it does not become the agent's own act.
    check(&issuer, r#"{"client_id":"client-1"}"#, Err(Why::Claims));
    issuer.users = Some(BTreeMap::from([("00u7".to_owned(), "ada".to_owned())]));
    issuer.claims.user = Some("sub".parse().unwrap());
    check(
        &issuer,
        r#"{"client_id":"client-1","sub":"00u7"}"#,
        Ok(("assistant", Some("ada"))),
    );
    check(&issuer, r#"{"client_id":"client-1","sub":"ada"}"#, Err(Why::User));
}

/// Who signs in with an agent's program gets a token with the agent's name in it, and is not the agent.
#[test]
fn a_token_that_is_about_somebody_is_not_its_agent_s_own() {
    let mut issuer = issuer();
    issuer.claims.agent = Some("azp".parse().unwrap());
    let own = r#"{"azp":"client-1","sub":"client-1"}"#;
    let (user, service) = (
        r#"{"azp":"client-1","sub":"ada"}"#,
        r#"{"azp":"client-1","sub":"svc-7"}"#,
    );
    let nobody = r#"{"azp":"client-1","sub":null}"#;
    check(&issuer, own, Ok(("assistant", None)));
    check(&issuer, nobody, Ok(("assistant", None)));
    for other in [
        user,
        service,
        r#"{"azp":"client-1","sub":7}"#,
        r#"{"azp":"client-1","sub":["client-1"]}"#,
    ] {
        check(&issuer, other, Err(Why::Claims));
    }
    issuer.subjects = Subjects::Listed(["svc-7".to_owned()].into());
    check(&issuer, own, Ok(("assistant", None)));
    check(&issuer, service, Ok(("assistant", None)));
    check(&issuer, user, Err(Why::Claims));
    issuer.subjects = Subjects::Any;
    check(&issuer, user, Ok(("assistant", None)));
    // A user who is named counts, whatever may be left out.
    issuer.claims.user = Some("sub".parse().unwrap());
    check(&issuer, user, Ok(("assistant", Some("ada"))));
}

#[test]
fn a_token_does_not_move_an_agent_to_another_team_or_tenant() {
    let mut issuer = issuer();
    issuer.claims.tenant = Some("tid".parse().unwrap());
    issuer.claims.team = Some("/groups/team".parse().unwrap());
    let said = |tenant: &str, team: &str| format!(r#"{{"tid":"{tenant}","groups":{{"team":"{team}"}}}}"#);
    check(&issuer, &said("acme", "support"), Ok(("assistant", None)));
    check(&issuer, &said("other", "support"), Err(Why::Tenant));
    check(&issuer, &said("acme", "billing"), Err(Why::Tenant));
    check(&issuer, r#"{"tid":"acme"}"#, Err(Why::Tenant));
    check(&issuer, "{}", Err(Why::Tenant));
    check(
        &issuer,
        r#"{"tid":["acme"],"groups":{"team":"support"}}"#,
        Err(Why::Tenant),
    );
}

fn scoped() -> Issuer {
    Issuer {
        scopes: [
            ("refunds:read", "refunds/refunds.get"),
            ("refunds:write", "refunds/*"),
            ("mail", "mail/mail.send"),
        ]
        .map(|(scope, function)| (scope.to_owned(), BTreeSet::from([function.to_owned()])))
        .into(),
        required: BTreeSet::from(["ambit".to_owned()]),
        ..issuer()
    }
}

#[test]
fn scopes_are_asked_for_and_narrow() {
    let issuer = scoped();
    for missing in [
        "{}",
        r#"{"scope":"refunds:read"}"#,
        r#"{"scope":"ambit2"}"#,
        r#"{"scope":[]}"#,
    ] {
        check(&issuer, missing, Err(Why::Scope));
    }
    for wrong in [r#"{"scope":7}"#, r#"{"scope":["ambit",7]}"#] {
        check(&issuer, wrong, Err(Why::Claims));
    }
    let with = |scope: &str| issuer.identify(&claims(&format!(r#"{{"scope":{scope}}}"#)), &directory(), NOW);
    let found = with(r#""ambit refunds:read""#).unwrap();
    assert!(found.narrowing.keeps_function("refunds", "refunds.get"));
    assert!(!found.narrowing.keeps_function("refunds", "refunds.create"));
    let found = with(r#"["mail","refunds:write","ambit","unknown"]"#).unwrap();
    assert!(found.narrowing.keeps_function("refunds", "refunds.create"));
    assert!(!found.narrowing.keeps_function("mail", "mail.draft"));
    // A scope that is for nothing is for nothing, and not for everything.
    let found = with(r#""ambit""#).unwrap();
    assert!(!found.narrowing.keeps_function("mail", "mail.send"));
}

#[test]
fn what_is_missing_for_a_function_is_told() {
    let issuer = scoped();
    let set = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<BTreeSet<_>>();
    let has = set(&["ambit", "mail", "unknown"]);
    assert_eq!(
        issuer.step_up(&has, "refunds", "refunds.get"),
        Some(set(&["ambit", "mail", "refunds:read"]))
    );
    assert_eq!(
        issuer.step_up(&has, "refunds", "refunds.create"),
        Some(set(&["ambit", "mail", "refunds:write"]))
    );
    assert_eq!(issuer.step_up(&has, "mail", "mail.send"), None);
    assert_eq!(issuer.step_up(&has, "other", "f.g"), None);
    assert_eq!(self::issuer().step_up(&has, "other", "f.g"), None);
}

#[test]
fn pointers_are_names_or_paths() {
    for (text, parts) in [
        ("client_id", vec!["client_id"]),
        ("https://acme.example/tenant", vec!["https://acme.example/tenant"]),
        ("/act/sub", vec!["act", "sub"]),
        ("/a~1b/c~0d", vec!["a/b", "c~d"]),
    ] {
        let pointer: Pointer = text.parse().unwrap();
        assert_eq!(pointer.0, parts);
        assert_eq!(pointer.to_string().parse(), Ok(pointer));
    }
    for bad in ["", "/", "/a/", "/a//b", "/a~2", "/a~", "a\nb"] {
        assert!(bad.parse::<Pointer>().is_err(), "{bad}");
    }
}

proptest! {
    /// Whatever a token says: who comes of it is an agent that the operator named for this issuer, in the configuration's own tenant,
    /// and with a user only where the configuration lets it act for them.
    #[test]
    fn no_token_is_more_than_the_configuration(
        sub in "(client-1|client-2|ada|assistant|spy|[a-z]{0,4})",
        act in proptest::option::of("(client-1|client-2|ada|spy)"),
        tid in proptest::option::of("(acme|other)"),
        scope in "(refunds:read|mail|ambit| ){0,4}",
        strict in any::<bool>(),
    ) {
        let mut issuer = scoped();
        issuer.required.clear();
        issuer.claims.tenant = strict.then(|| "tid".parse().unwrap());
        let act = act.map_or("null".to_owned(), |act| format!(r#"{{"sub":"{act}"}}"#));
        let tid = tid.map_or("null".to_owned(), |tid| format!("{tid:?}"));
        let claims = claims(&format!(r#"{{"sub":{sub:?},"act":{act},"tid":{tid},"scope":{scope:?}}}"#));
        if let Ok(found) = issuer.identify(&claims, &directory(), NOW) {
            prop_assert!(["assistant", "clerk"].contains(&found.caller.agent()));
            prop_assert_eq!(found.caller.tenant(), "acme");
            prop_assert!(found.caller.user().is_none_or(|user| user == "ada" && found.caller.agent() == "assistant"));
            prop_assert!(!strict || tid == "\"acme\"");
            prop_assert!(!found.narrowing.keeps_function("refunds", "refunds.create"));
        }
    }
}
