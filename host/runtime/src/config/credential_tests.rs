//! What a configuration can say of credentials that are made for a request.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::ffi::OsString;
use std::io;
use std::path::Path;

use ambit_core::error::Problem;

use crate::config::Config;
use crate::config::tests::render;
use crate::secret::Ambient;

/// A world with these secrets in its environment, and this key.
struct World;

impl Ambient for World {
    fn env(&self, name: &str) -> Option<OsString> {
        (name == "SECRET").then(|| "a secret of ours".into())
    }

    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(b"no key".to_vec())
    }

    fn read_private(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read(path)
    }

    fn run(&self, _: &[String]) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn parse(credential: &str) -> Result<Config, Vec<Problem>> {
    parse_with(credential, "")
}

fn parse_with(credential: &str, route: &str) -> Result<Config, Vec<Problem>> {
    let text = format!(
        "[connection.api]\norigin = \"https://api.example\"\ncredential = {credential}\n[connection.api.route.get]\nmatch = \"GET /v1/{{id}}\"\n{route}\n"
    );
    Config::parse(Path::new("/home/ambit"), &text, &World)
}

const OAUTH2: &str =
    r#"oauth2 = { token_url = "https://id.example/token", client_id = "ambit", client_secret = { env = "SECRET" } }"#;
const EXCHANGE: &str =
    r#"exchange = { token_url = "https://id.example/token", issuer = "https://ambit.example", key = "key.pem" }"#;
const SIGV4: &str = r#"sigv4 = { region = "eu-central-1", service = "s3", access_key_id = "AKIDEXAMPLE", secret_access_key = { env = "SECRET" } }"#;
const HMAC: &str = r#"hmac = { secret = { env = "SECRET" }, header = "X-Signature", time_header = "X-Time" }"#;

fn ways() -> [String; 4] {
    [OAUTH2, EXCHANGE, SIGV4, HMAC].map(|way| format!("{{ {way} }}"))
}

#[test]
fn each_way_is_read_and_opened_with_its_secrets() {
    for way in ways() {
        let config = parse(&way).unwrap_or_else(|problems| panic!("{problems:?}"));
        let opened = config.upstream("api", &World);
        if way == ways()[1] {
            // Its key is none.
            let why = opened.unwrap_err().to_string();
            assert!(why.contains("key.pem") && !why.contains("no key"), "{why}");
            assert!(config.jwks("api", &World).is_err());
        } else {
            opened.unwrap();
            assert!(config.jwks("api", &World).unwrap().is_none());
        }
    }
    let mut settings: Vec<_> = ways()
        .map(|way| parse(&way).unwrap().way("api", "get").unwrap())
        .to_vec();
    // In whose name requests go is part of what people approve.
    for (way, from, to) in [
        (0, "ambit\"", "other\""),
        (0, "id.example", "elsewhere.example"),
        (0, "client_id", "scopes = [\"a\"], client_id"),
        (1, "https://ambit.example", "https://other.example"),
        (1, "key.pem", "other.pem"),
        (2, "eu-central-1", "us-east-1"),
        (2, "AKIDEXAMPLE", "AKIDOTHER"),
        (3, "X-Signature", "X-Other"),
    ] {
        let other = ways()[way].replace(from, to);
        settings.push(parse(&other).unwrap().way("api", "get").unwrap());
    }
    let many = settings.len();
    settings.sort_unstable();
    settings.dedup();
    assert_eq!(settings.len(), many);
}

#[test]
fn what_cannot_be_asked_or_signed_is_told() {
    let change = |way: &str, from: &str, to: &str| format!("{{ {} }}", way.replace(from, to));
    let cases = [
        (
            change(OAUTH2, "token_url = \"https://id.example/token\", ", ""),
            "has no `token_url`",
        ),
        (change(OAUTH2, "https://id.example/token", "id.example"), "`token_url`"),
        (change(OAUTH2, "/token", "/token?a=b"), "has a query"),
        (change(OAUTH2, "/token", "/../token"), "path"),
        (change(OAUTH2, "https", "http"), "is plain http"),
        (change(OAUTH2, "client_id = \"ambit\", ", ""), "has no `client_id`"),
        (
            change(OAUTH2, "client_id", "client_auth = \"jwt\", client_id"),
            "`client_auth`",
        ),
        (change(OAUTH2, "client_id", "scopes = [\"a b\"], client_id"), "`scopes`"),
        (
            change(OAUTH2, "client_id", "scope = \"a\", client_id"),
            "did you mean `scopes`?",
        ),
        (
            change(EXCHANGE, "issuer = \"https://ambit.example\", ", ""),
            "has no `issuer`",
        ),
        (change(EXCHANGE, ", key = \"key.pem\"", ""), "has no `key`"),
        (
            change(EXCHANGE, "issuer", "client_auth = \"post\", issuer"),
            "`client_auth` of `exchange` of the credential of connection `api` means nothing here",
        ),
        (
            change(
                EXCHANGE,
                "issuer",
                "client_auth = \"post\", client_id = \"ambit\", issuer",
            ),
            "means nothing here",
        ),
        (change(SIGV4, "eu-central-1", "eu central"), "`region`"),
        (
            change(SIGV4, "secret_access_key = { env = \"SECRET\" }", "x = 1"),
            "has no `secret_access_key`",
        ),
        (change(HMAC, "X-Time", "X-Signature"), "are one"),
        (change(HMAC, "X-Time", "Host"), "cannot be a credential's header"),
        (
            change(HMAC, "time_header", "algorithm = \"md5\", time_header"),
            "`algorithm` of `hmac`",
        ),
        (format!("{{ {OAUTH2}, {HMAC} }}"), "in two ways"),
        (format!("{{ {HMAC}, as = \"bearer\" }}"), "unknown key `as`"),
        ("{ oauth = { } }".to_owned(), "did you mean `oauth2`?"),
    ];
    for (credential, expected) in cases {
        let problems = parse(&credential).err().unwrap_or_default();
        let told: Vec<String> = problems.iter().map(|problem| format!("{problem:?}")).collect();
        assert!(told.iter().any(|one| one.contains(expected)), "{credential}: {told:?}");
    }
}

#[test]
fn a_secret_that_stands_in_the_file_is_not_shown() {
    for (way, key) in [
        (OAUTH2, "client_secret"),
        (SIGV4, "secret_access_key"),
        (HMAC, "secret"),
        (SIGV4, "session_token"),
    ] {
        let bare = if way.contains(key) {
            way.replace(
                &format!("{key} = {{ env = \"SECRET\" }}"),
                &format!("{key} = \"sk_live_123456\""),
            )
        } else {
            way.replace("region", &format!("{key} = \"sk_live_123456\", region"))
        };
        for end in ["}", "", "} }"] {
            let problems = parse(&format!("{{ {bare} {end}")).err().unwrap_or_default();
            assert!(!problems.is_empty(), "{key}");
            let shown = render(&problems);
            assert!(!shown.contains("sk_live"), "{shown}");
        }
    }
}

#[test]
fn a_key_that_stands_where_its_path_belongs_is_not_shown() {
    for key in ["\"\"\"\nsk_live_123456\n\"\"\"", r#""sk_live\nsk_live_123456""#] {
        let bare = EXCHANGE.replace("\"key.pem\"", key);
        let shown = render(&parse(&format!("{{ {bare} }}")).unwrap_err());
        assert!(shown.contains("****") && !shown.contains("sk_live"), "{shown}");
    }
    let slip = OAUTH2.replace("client_id", "client_pasword = \"sk_live_123456\", client_id");
    let shown = render(&parse(&format!("{{ {slip} }}")).unwrap_err());
    assert!(
        shown.contains("unknown key `client_pasword`") && !shown.contains("sk_live"),
        "{shown}"
    );
}

#[test]
fn scopes_are_of_routes_whose_tokens_are_asked_for() {
    let scopes = "scopes = [\"read\"]";
    for way in ways() {
        let minted = way == ways()[0] || way == ways()[1];
        assert_eq!(parse_with(&way, scopes).is_ok(), minted, "{way}");
    }
    assert!(parse_with(&ways()[0], "scopes = [\"a b\"]").is_err());
}

#[test]
fn where_one_route_has_scopes_each_has() {
    let other = |more: &str| format!("scopes = [\"read\"]\n[connection.api.route.list]\nmatch = \"GET /v1\"\n{more}");
    let problems = parse_with(&ways()[0], &other("")).unwrap_err();
    assert!(render(&problems).contains("route `list` of connection `api` has no `scopes`"));
    assert!(parse_with(&ways()[0], &other("scopes = [\"list\"]")).is_ok());
    let for_all = ways()[0].replace("client_id", "scopes = [\"base\"], client_id");
    assert!(parse_with(&for_all, &other("")).is_ok());
}

#[test]
fn approvals_are_for_the_scopes_of_a_route_too() {
    let way = |more: &str| parse_with(&ways()[0], more).unwrap().way("api", "get").unwrap();
    let (none, read, write) = (way(""), way("scopes = [\"read\"]"), way("scopes = [\"write\"]"));
    assert!(none != read && read != write);
    assert_eq!(way("scopes = [\"a\", \"b\"]"), way("scopes = [\"b\", \"a\"]"));
}

#[test]
fn no_route_lets_a_guest_set_what_shows_who_asks() {
    for (way, header) in [
        (2, "x-amz-date"),
        (2, "x-amz-security-token"),
        (3, "X-Signature"),
        (3, "x-time"),
    ] {
        let headers = format!("headers = [\"{header}\"]");
        assert!(parse_with(&ways()[way], &headers).is_err(), "{header}");
        assert!(parse_with(&ways()[0], &headers).is_ok(), "{header}");
    }
}
