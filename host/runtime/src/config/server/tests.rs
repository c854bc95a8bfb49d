#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::Config;
use super::*;
use crate::secret::Process;

pub(super) const AGENTS: &str = r#"
[agent.assistant]
team = "support"
tenant = "acme"
users = ["ada"]
"#;

pub(super) fn parse(text: &str) -> Result<Config, Vec<String>> {
    let text = format!("{AGENTS}{text}");
    Config::parse(Path::new("/nowhere"), &text, &Process)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn issuer(more: &str) -> String {
    format!(
        "[server]\nresource = \"https://ambit.example/mcp\"\n[server.issuer.acme]\nissuer = \"https://id.example/tenant\"\nagents = {{ c1 = \"assistant\" }}\n{more}"
    )
}

pub(super) fn refused(text: &str, expected: &str) {
    let problems = parse(text).expect_err(expected);
    assert!(
        problems.iter().any(|problem| problem.contains(expected)),
        "{problems:?} {expected}"
    );
}

#[test]
fn a_server_needs_little() {
    assert!(parse("").unwrap().server().is_none());
    let config = parse("[server]").unwrap();
    let server = config.server().unwrap();
    assert_eq!(
        (server.listen.to_string().as_str(), server.request_bytes),
        ("127.0.0.1:8787", 2 << 20)
    );
    assert!(server.resource.is_none() && server.issuers.is_empty() && server.metrics.is_none());
    assert_eq!(
        (server.connections, server.requests_per_agent, server.calls_per_agent),
        (512, 256, 48)
    );
    let config = parse("[server]\nconnections = 64\n[limits]\nconcurrent_calls = 1").unwrap();
    let server = config.server().unwrap();
    assert_eq!((server.requests_per_agent, server.calls_per_agent), (32, 1));
    let config = parse(&issuer("")).unwrap();
    let found = &config.server().unwrap().issuers[0];
    assert_eq!(found.rules.audience, "https://ambit.example/mcp");
    assert_eq!(found.rules.algorithms, Algorithm::USUAL.into());
    assert_eq!((found.rules.leeway_s, found.rules.longest_s), (30, 86_400));
    assert_eq!(
        found.keys,
        KeysAt::Discovery([
            "https://id.example/tenant/.well-known/openid-configuration".into(),
            "https://id.example/.well-known/oauth-authorization-server/tenant".into(),
        ])
    );
}

#[test]
fn all_of_it_is_read() {
    let config = parse(
        r#"
[server]
listen = "[::1]:9000"
resource = "https://ambit.example"
request_bytes = 65536

[server.issuer.acme]
issuer = "https://id.example"
audience = "ambit"
jwks = "https://keys.example/jwks?p=a"
algorithms = ["ES256", "PS512"]
connect_to = "127.0.0.1:1"
allow_private = true
claims = { agent = "client_id", user = "/act/name", tenant = "tid", team = "team", scopes = "scp" }
agents = { c1 = "assistant" }
users = { u1 = "ada" }
scopes = { "refunds:read" = ["refunds/refunds.get", "mail/*"] }
required_scopes = ["ambit"]
leeway = "60s"
longest = "1h"
"#,
    )
    .unwrap();
    let server = config.server().unwrap();
    let rules = &server.issuers[0].rules;
    assert_eq!((server.listen.port(), server.request_bytes), (9000, 65_536));
    assert_eq!(rules.audience, "ambit");
    assert_eq!(rules.algorithms, [Algorithm::Es256, Algorithm::Ps512].into());
    assert_eq!(rules.claims.user, Some("/act/name".parse().unwrap()));
    assert_eq!(rules.claims.scopes, "scp".parse().unwrap());
    assert_eq!(rules.users, Some(BTreeMap::from([("u1".into(), "ada".into())])));
    assert_eq!(rules.scopes["refunds:read"].len(), 2);
    assert_eq!(rules.required, BTreeSet::from(["ambit".to_owned()]));
    assert_eq!((rules.leeway_s, rules.longest_s), (60, 3_600));
    assert_eq!(
        server.issuers[0].keys,
        KeysAt::Url("https://keys.example/jwks?p=a".into())
    );
}

#[test]
fn what_is_unknown_is_told_with_what_it_may_have_been() {
    refused(
        "[server]\nlisen = \"127.0.0.1:1\"",
        "unknown key `lisen` in the server's settings",
    );
    refused(&issuer("audiance = \"x\""), "unknown key `audiance` in issuer `acme`");
    refused(
        &issuer("claims = { agnt = \"x\" }"),
        "unknown key `agnt` in the claims of issuer `acme`",
    );
}

#[test]
fn an_issuer_says_who_and_where() {
    refused("[server.issuer.acme]\nagents = {}", "issuer `acme` has no `issuer`");
    refused(
        "[server.issuer.acme]\nissuer = \"https://id.example\"",
        "issuer `acme` has no `agents`",
    );
    refused(
        "[server.issuer.acme]\nissuer = \"https://id.example\"\nagents = { c1 = \"assistant\" }",
        "the server's settings has no `resource`",
    );
    for bad in [
        "id.example",
        "http://id.example",
        "https://id.example#x",
        "https://u@id.example",
    ] {
        let text = issuer("").replace("https://id.example/tenant", bad);
        refused(&text, "`issuer` of issuer `acme`");
    }
    refused(
        &issuer("jwks = \"http://id.example/keys\""),
        "`jwks` of issuer `acme` is not https",
    );
    let near = issuer("jwks = \"http://127.0.0.1:1/keys\"\nallow_private = true").replace("https://id", "http://id");
    assert!(parse(&near).is_ok());
}

#[test]
fn one_issuer_is_named_once() {
    let again = issuer("") + "[server.issuer.other]\nissuer = \"https://id.example/tenant\"\nagents = {}\n";
    refused(&again, "issuers `acme` and `other` are the same");
}

#[test]
fn an_issuer_s_agents_and_users_are_the_configuration_s() {
    refused(
        &issuer("").replace("\"assistant\"", "\"asistant\""),
        "is agent `asistant`, and there is none",
    );
    refused(
        &issuer("users = { u = \"eve\" }"),
        "is user `eve`, and no agent acts for them",
    );
}

#[test]
fn no_configuration_makes_a_check_pointless() {
    for bad in ["none", "HS256", "RS255", ""] {
        refused(
            &issuer(&format!("algorithms = [\"{bad}\"]")),
            "is no algorithm of tokens here",
        );
    }
    refused(&issuer("algorithms = []"), "is empty");
    refused(&issuer("audience = \"\""), "`audience` of issuer `acme` is empty");
    refused(&issuer("scopes = {}"), "`scopes` of issuer `acme` is empty");
    refused(
        &issuer("[server.issuer.acme.scopes]"),
        "`scopes` of issuer `acme` is empty",
    );
    refused(&issuer("leeway = \"61s\""), "`leeway` of issuer `acme`");
    refused(&issuer("longest = \"8d\""), "`longest` of issuer `acme`");
    refused(&issuer("longest = \"long\""), "`longest` of issuer `acme`");
    refused("[server]\nrequest_bytes = 1", "`request_bytes` of the server is 1");
    refused(
        "[server]\nrequest_bytes = 99999999",
        "`request_bytes` of the server is 99999999",
    );
}

#[test]
fn whom_tokens_may_be_about_is_said_where_it_means_something() {
    let subjects = |more: &str| {
        let config = parse(&issuer(more)).unwrap();
        config.server().unwrap().issuers[0].rules.subjects.clone()
    };
    assert_eq!(subjects(""), Subjects::Own);
    let agent = "claims = { agent = \"azp\" }\n";
    assert_eq!(subjects(agent), Subjects::Own);
    assert_eq!(
        subjects(&format!("{agent}subjects = [\"svc-7\"]")),
        Subjects::Listed(["svc-7".to_owned()].into())
    );
    assert_eq!(subjects(&format!("{agent}any_subject = true")), Subjects::Any);
    assert_eq!(subjects(&format!("{agent}any_subject = false")), Subjects::Own);
    for (bad, expected) in [
        (
            "subjects = [\"svc-7\"]".to_owned(),
            "`subjects` of issuer `acme` means nothing here",
        ),
        (
            "any_subject = true".to_owned(),
            "`any_subject` of issuer `acme` means nothing here",
        ),
        (
            "claims = { agent = \"azp\", user = \"sub\" }\nany_subject = true".to_owned(),
            "`any_subject` of issuer `acme` means nothing here",
        ),
        (
            format!("{agent}subjects = [\"svc-7\"]\nany_subject = true"),
            "issuer `acme` has both `subjects` and `any_subject`",
        ),
        (format!("{agent}subjects = \"svc-7\""), "`subjects`"),
        (format!("{agent}any_subjects = true"), "any_subjects"),
    ] {
        refused(&issuer(&bad), expected);
    }
}

#[test]
fn shares_are_parts_of_what_there_is() {
    let refused_at = |text: &str, key: &str, range: &str| {
        let text = format!("{AGENTS}[server]\n{text}");
        let problems = Config::parse(Path::new("/nowhere"), &text, &Process).expect_err(key);
        let named = format!("`{key}` of the server is ");
        assert!(
            problems.iter().any(|problem| problem.to_string().contains(&named)),
            "{problems:?}"
        );
        // What it may be stands beside its message.
        assert!(format!("{problems:?}").contains(range), "{problems:?}");
    };
    refused_at("connections = 15", "connections", "16 to 16384");
    refused_at(
        "connections = 64\nrequests_per_agent = 65",
        "requests_per_agent",
        "1 to 64",
    );
    refused_at("calls_per_agent = 65", "calls_per_agent", "1 to 64");
    refused_at("calls_per_agent = 0", "calls_per_agent", "1 to 64");
    refused("[server]\nrequest_per_agent = 4", "unknown key `request_per_agent`");
    let config = parse("[server]\ncalls_per_agent = 4\nrequests_per_agent = 8").unwrap();
    let server = config.server().unwrap();
    assert_eq!((server.requests_per_agent, server.calls_per_agent), (8, 4));
}

#[test]
fn metrics_are_not_served_where_agents_are() {
    let config = parse("[server]\nmetrics = \"127.0.0.1:9478\"").unwrap();
    assert_eq!(config.server().unwrap().metrics.unwrap().port(), 9478);
    refused("[server]\nmetrics = \"127.0.0.1:8787\"", "is where agents are served");
    refused(
        "[server]\nmetrics = \"9478\"",
        "`metrics` of the server is not an address",
    );
}

#[test]
fn scopes_can_stand_in_an_answer() {
    refused(&issuer("required_scopes = [\"a b\"]"), "`a b` is no scope");
    refused(&issuer("required_scopes = ['a\"']"), "is no scope");
    refused(&issuer("scopes = { \"\" = [] }"), "`` is no scope");
    refused(
        &issuer("scopes = { a = [\"refunds\"] }"),
        "`refunds` is no function of a tool",
    );
    // What looks like a pattern would be for nothing.
    for pattern in ["refunds/refunds.*", "refunds/*.get", "refunds/**"] {
        refused(
            &issuer(&format!("scopes = {{ a = [\"{pattern}\"] }}")),
            &format!("`{pattern}` is no function of a tool"),
        );
    }
}

#[test]
fn a_resource_is_a_url() {
    for bad in [
        "ambit",
        "http://ambit.example",
        "https://ambit.example/#a",
        "https://ambit.example/?a=b",
    ] {
        refused(&format!("[server]\nresource = \"{bad}\""), "`resource` of the server");
    }
    for good in ["http://127.0.0.1:8787/mcp", "http://localhost", "https://ambit.example"] {
        assert!(parse(&format!("[server]\nresource = \"{good}\"")).is_ok(), "{good}");
    }
    refused("[server]\nlisten = \"localhost\"", "`listen` of the server");
}

#[test]
fn calls_go_on_for_a_time_that_somebody_waits() {
    let drain = |text: &str| parse(text).map(|config| config.server().unwrap().drain.as_secs());
    assert_eq!(drain("[server]\n"), Ok(10));
    for (said, seconds) in [("1s", 1), ("45s", 45), ("10m", 600)] {
        assert_eq!(drain(&format!("[server]\ndrain = \"{said}\"\n")), Ok(seconds), "{said}");
    }
    for wrong in ["\"11m\"", "\"0s\"", "\"soon\""] {
        refused(&format!("[server]\ndrain = {wrong}\n"), "`drain` of");
    }
}

#[test]
fn what_changed_is_told_by_the_part_of_the_file_that_it_stands_in() {
    let older = parse("[limits]\nfuel = 1000\n[group.a]\nmembers = []\n[group.b]\nmembers = []\n").unwrap();
    let newer =
        parse("# said otherwise\n[limits]\nfuel = 1_000\n[group.a]\nmembers = [\"ada\"]\n[group.c]\nmembers = []\n");
    assert_eq!(newer.unwrap().changed_since(&older), ["group.a", "group.b", "group.c"]);
    assert!(older.changed_since(&older).is_empty());
}
