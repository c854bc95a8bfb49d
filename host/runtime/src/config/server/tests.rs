#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::Config;
use super::*;
use crate::secret::Process;

const AGENTS: &str = r#"
[agent.assistant]
team = "support"
tenant = "acme"
users = ["ada"]
"#;

fn parse(text: &str) -> Result<Config, Vec<String>> {
    let text = format!("{AGENTS}{text}");
    Config::parse(Path::new("/nowhere"), &text, &Process)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn issuer(more: &str) -> String {
    format!(
        "[server]\nresource = \"https://ambit.example/mcp\"\n[server.issuer.acme]\nissuer = \"https://id.example/tenant\"\nagents = {{ c1 = \"assistant\" }}\n{more}"
    )
}

fn refused(text: &str, expected: &str) {
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
    assert!(server.resource.is_none() && server.issuers.is_empty());
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
fn scopes_can_stand_in_an_answer() {
    refused(&issuer("required_scopes = [\"a b\"]"), "`a b` is no scope");
    refused(&issuer("required_scopes = ['a\"']"), "is no scope");
    refused(&issuer("scopes = { \"\" = [] }"), "`` is no scope");
    refused(
        &issuer("scopes = { a = [\"refunds\"] }"),
        "`refunds` is no function of a tool",
    );
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
