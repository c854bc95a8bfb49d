//! Whole diagnostics, as an operator sees them.

use std::collections::BTreeMap;
use std::ffi::OsString;

use ambit_core::money::{Unit, Window};
use expect_test::{Expect, expect};
use miette::{GraphicalReportHandler, GraphicalTheme};

use super::*;

/// A world of a few variables and files.
#[derive(Default)]
struct World {
    env: BTreeMap<&'static str, &'static str>,
    files: BTreeMap<&'static str, String>,
}

impl Ambient for World {
    fn env(&self, name: &str) -> Option<OsString> {
        self.env.get(name).map(OsString::from)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = path.strip_prefix("/home/ambit").ok().and_then(Path::to_str);
        let text = file
            .and_then(|file| self.files.get(file))
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(text.clone().into_bytes())
    }

    fn read_private(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read(path)
    }

    fn run(&self, _: &[String]) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

pub(super) fn render(problems: &[Problem]) -> String {
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(110);
    let mut text = format!("problems: {}\n", problems.len());
    for problem in problems {
        handler.render_report(&mut text, problem).unwrap();
    }
    // Editors cut off what stands at the ends of lines.
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    Config::parse(Path::new("/home/ambit"), text, &World::default())
}

fn check(text: &str, expected: Expect) {
    let problems = parse(text).err().unwrap_or_default();
    expected.assert_eq(&render(&problems));
}

/// Only what is wrong, for rules whose place is shown elsewhere.
fn messages(text: &str) -> Vec<String> {
    let problems = parse(text).err().unwrap_or_default();
    problems.iter().map(|problem| problem.message().to_owned()).collect()
}

const WHOLE: &str = r#"
[agent.assistant]
team = "support"
tenant = "acme"
users = ["ada"]

[group.finance]
members = ["ada", "grace"]

[connection.stripe]
origin = "https://api.stripe.com"
credential = { env = "STRIPE_KEY", as = "bearer" }

[connection.stripe.route."charges.get"]
match = "GET /v1/charges/{id}"
reads = ["id", "status", "amount", "currency"]

[connection.stripe.route."refunds.create"]
match = "POST /v1/refunds"
tier = "commit"
fields = ["charge", "amount", "reason"]
required = ["charge", "amount"]
reads = ["id", "status", "amount"]
body = "form"
money = { amount = "amount", currency = { lookup = "charges.get", from = "charge", read = "currency" } }
idempotency = { header = "Idempotency-Key", lifetime = "24h" }

[connection.hook]
origin = "https://hooks.example"
base = { env = "HOOK" }

[connection.near]
origin = "http://127.0.0.1:8080"
allow_private = true
base = "/v1"
credential = { file = "keys/near", as = { header = "X-Api-Key" } }

[tool.refunds.bind]
stripe = "stripe"
announce = "hook"

[tool.refunds.limits]
effects = 4

[budget.refunds-a-day]
route = "stripe/refunds.create"
unit = "usd"
window = "day"
cap = 200_000

[limits]
fuel = 5_000_000

[ledger]
high_water = "/var/lib/elsewhere/mark"
quota = 1_000_000
"#;

#[test]
fn a_whole_configuration_is_what_it_says() {
    let config = parse(WHOLE).map_err(|problems| render(&problems)).unwrap();
    let names: Vec<_> = config.connections().map(|(name, _)| name).collect();
    assert_eq!(names, ["hook", "near", "stripe"]);
    let tool = config.tool("refunds").unwrap();
    assert_eq!(tool.bind["stripe"], "stripe");
    assert_eq!((tool.limits.effects, tool.limits.fuel), (4, 5_000_000));
    assert_eq!(
        (config.limits().effects, config.limits().fuel),
        (Limits::default().effects, 5_000_000)
    );
    let budget = &config.budgets()[0];
    assert_eq!(
        (budget.unit, budget.window, budget.cap),
        (Unit::Money("usd".parse().unwrap()), Window::Day, 200_000)
    );
    assert_eq!(config.group_sizes(), BTreeMap::from([("finance".into(), 2)]));
    assert_eq!(config.agents()["assistant"].team, "support");
    assert_eq!(config.ledger().quota, Some(1_000_000));
    assert_eq!(config.digest(), parse(&format!("# comment\n{WHOLE}")).unwrap().digest());
}

#[test]
fn the_template_is_valid_and_so_is_everything_it_proposes() {
    let config = parse(TEMPLATE).map_err(|problems| render(&problems)).unwrap();
    assert_eq!(config.connections().count(), 0);
    // Every commented line that is TOML; its alternatives are written so that they hold together.
    let proposed: String = TEMPLATE
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| is_toml(rest)).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let server = rcgen::generate_simple_self_signed(["ambit.example.com".to_owned()]).unwrap();
    let world = World {
        files: BTreeMap::from([
            ("keys/service-ca.pem", authority()),
            ("tls/server.pem", server.cert.pem()),
            ("tls/server.key", server.signing_key.serialize_pem()),
            ("tls/prod-bundle.pem", authority()),
        ]),
        ..World::default()
    };
    let config = Config::parse(Path::new("/home/ambit"), &proposed, &world)
        .map_err(|problems| format!("{proposed}\n{}", render(&problems)))
        .unwrap();
    assert_eq!(config.connections().count(), 1);
    assert_eq!((config.tools().len(), config.budgets().len()), (1, 1));
    assert_eq!(*config.limits(), Limits::default());
}

fn is_toml(line: &str) -> bool {
    line.starts_with('[')
        || line
            .split_once(" = ")
            .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

fn authority() -> String {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap())
        .unwrap()
        .pem()
}

#[test]
fn trap_16_unknown_keys_are_errors_with_the_nearest_spelling_and_all_are_told_at_once() {
    check(
        r#"
[conection.x]
[connection.stripe]
orgin = "https://api.stripe.com"
allow_privat = true
timeout = 3

[limits]
fual = 1

[tool.refunds]
binds = { stripe = "stripe" }

[agent.a]
team = "t"
tennant = "x"
"#,
        expect![[r#"
            problems: 9
              × unknown key `conection` in the configuration
               ╭─[ambit.toml:2:2]
             1 │
             2 │ [conection.x]
               ·  ────┬────
               ·      ╰── not known
             3 │ [connection.stripe]
               ╰────
              help: did you mean `connection`?
              × connection `stripe` has no `origin`
               ╭─[ambit.toml:3:13]
             2 │ [conection.x]
             3 │ [connection.stripe]
               ·             ───┬──
               ·                ╰── missing here
             4 │ orgin = "https://api.stripe.com"
               ╰────
              help: say whom requests are for: origin = "https://api.example.com"
              × unknown key `orgin` in connection `stripe`
               ╭─[ambit.toml:4:1]
             3 │ [connection.stripe]
             4 │ orgin = "https://api.stripe.com"
               · ──┬──
               ·   ╰── not known
             5 │ allow_privat = true
               ╰────
              help: did you mean `origin`?
              × unknown key `allow_privat` in connection `stripe`
               ╭─[ambit.toml:5:1]
             4 │ orgin = "https://api.stripe.com"
             5 │ allow_privat = true
               · ──────┬─────
               ·       ╰── not known
             6 │ timeout = 3
               ╰────
              help: did you mean `allow_private`?
              × unknown key `timeout` in connection `stripe`
               ╭─[ambit.toml:6:1]
             5 │ allow_privat = true
             6 │ timeout = 3
               · ───┬───
               ·    ╰── not known
             7 │
               ╰────
              help: known here: origin, base, allow_private, rate, breaker, trace, connect_to, ca, credential, retries,
                    dead_letter, route
              × unknown key `fual` in the limits
                ╭─[ambit.toml:9:1]
              8 │ [limits]
              9 │ fual = 1
                · ──┬─
                ·   ╰── not known
             10 │
                ╰────
              help: did you mean `fuel`?
              × unknown key `binds` in tool `refunds`
                ╭─[ambit.toml:12:1]
             11 │ [tool.refunds]
             12 │ binds = { stripe = "stripe" }
                · ──┬──
                ·   ╰── not known
             13 │
                ╰────
              help: did you mean `bind`?
              × agent `a` has no `tenant`
                ╭─[ambit.toml:14:8]
             13 │
             14 │ [agent.a]
                ·        ┬
                ·        ╰── missing here
             15 │ team = "t"
                ╰────
              help: an agent works in a team of a tenant
              × unknown key `tennant` in agent `a`
                ╭─[ambit.toml:16:1]
             15 │ team = "t"
             16 │ tennant = "x"
                · ───┬───
                ·    ╰── not known
                ╰────
              help: did you mean `tenant`?
        "#]],
    );
}

#[test]
fn what_is_not_toml_is_told_with_its_place() {
    check(
        "[connection.stripe\norigin = \"x\"\n",
        expect![[r#"
            problems: 1
              × this is not TOML: unclosed table, expected `]`
               ╭─[ambit.toml:1:19]
             1 │ [connection.stripe
               ·                   ▲
               ·                   ╰── here
             2 │ origin = "x"
               ╰────
        "#]],
    );
    check(
        "[agent.a]\nteam = \"t\"\nteam = \"u\"\ntenant = \"x\"\n",
        expect![[r#"
            problems: 1
              × this is not TOML: duplicate key
               ╭─[ambit.toml:3:1]
             2 │ team = "t"
             3 │ team = "u"
               · ──┬─
               ·   ╰── here
             4 │ tenant = "x"
               ╰────
        "#]],
    );
}

#[test]
fn a_connection_says_how_often_and_when_it_is_left_alone() {
    check(
        r#"
[connection.a]
origin = "https://api.example"
rate = { per = "minute", most = 60, brust = 10 }
breaker = { failures = 5, within = "60s" }

[connection.b]
origin = "https://api.example"
rate = 60
breaker = { failures = 0, within = "60s", open = "30s" }
route.r = { match = "POST /v1", rate = { per = "day", most = 1 } }

[connection.c]
origin = "https://api.example"
rate = { per = "second", most = 5, burst = 10 }
breaker = { failures = 5, within = "60s", open = "30s" }
route.r = { match = "POST /v1", retries = { most = 3, backoff = "200ms" } }
"#,
        expect![[r#"
            problems: 6
              × unknown key `brust` in `rate` of connection `a`
               ╭─[ambit.toml:4:37]
             3 │ origin = "https://api.example"
             4 │ rate = { per = "minute", most = 60, brust = 10 }
               ·                                     ──┬──
               ·                                       ╰── not known
             5 │ breaker = { failures = 5, within = "60s" }
               ╰────
              help: did you mean `burst`?
              × `breaker` of connection `a` has no `open`
               ╭─[ambit.toml:5:11]
             4 │ rate = { per = "minute", most = 60, brust = 10 }
             5 │ breaker = { failures = 5, within = "60s" }
               ·           ────────────────┬───────────────
               ·                           ╰── missing here
             6 │
               ╰────
              × `rate` of connection `b` is a table, not 60
                ╭─[ambit.toml:9:8]
              8 │ origin = "https://api.example"
              9 │ rate = 60
                ·        ─┬
                ·         ╰── expected a table
             10 │ breaker = { failures = 0, within = "60s", open = "30s" }
                ╰────
              × connection `b`: `breaker.failures` is 0; it is between 1 and 1000
                ╭─[ambit.toml:10:1]
              9 │ rate = 60
             10 │ breaker = { failures = 0, within = "60s", open = "30s" }
                · ───┬───
                ·    ╰── here
             11 │ route.r = { match = "POST /v1", rate = { per = "day", most = 1 } }
                ╰────
              × route `r` cannot be read: unknown variant `day`, expected one of `second`, `minute`, `hour`
                ╭─[ambit.toml:11:48]
             10 │ breaker = { failures = 0, within = "60s", open = "30s" }
             11 │ route.r = { match = "POST /v1", rate = { per = "day", most = 1 } }
                ·                                                ──┬──
                ·                                                  ╰── here
             12 │
                ╰────
              × route `r` of connection `c`: `retries` needs `idempotency`: without a key the service would do twice
              │ what was sent twice
                ╭─[ambit.toml:17:7]
             16 │ breaker = { failures = 5, within = "60s", open = "30s" }
             17 │ route.r = { match = "POST /v1", retries = { most = 3, backoff = "200ms" } }
                ·       ┬
                ·       ╰── this route
                ╰────
        "#]],
    );
}

#[test]
fn a_connection_says_whom_and_how() {
    check(
        r#"
[connection.a]
connect_to = "127.0.0.1"
ca = "missing.pem"
base = "v1/"

[connection.b]
origin = "https://api.example/v1"
credential = { env = "A", file = "b", as = "bearer" }

[connection.c]
origin = "http://api.example"
credential = { as = { headr = "X" } }

[connection.d]
origin = "https://api.example"
credential = { env = "A", as = "baerer" }

[connection.e]
origin = 5
credential = { command = [], as = { basic = "a:b" } }

[connection."f/g"]
origin = "https://api.example"
credential = { env = "A" }
"#,
        expect![[r#"
            problems: 16
              × connection `a` has no `origin`
               ╭─[ambit.toml:2:13]
             1 │
             2 │ [connection.a]
               ·             ┬
               ·             ╰── missing here
             3 │ connect_to = "127.0.0.1"
               ╰────
              help: say whom requests are for: origin = "https://api.example.com"
              × `connect_to` of connection `a` is not a host and port
               ╭─[ambit.toml:3:14]
             2 │ [connection.a]
             3 │ connect_to = "127.0.0.1"
               ·              ─────┬─────
               ·                   ╰── a port is missing
             4 │ ca = "missing.pem"
               ╰────
              help: as in "127.0.0.1:8443" or "[::1]:8443"
              × the authorities of connection `a` cannot be used
               ╭─[ambit.toml:4:6]
             3 │ connect_to = "127.0.0.1"
             4 │ ca = "missing.pem"
               ·      ──────┬──────
               ·            ╰── cannot be read: entity not found
             5 │ base = "v1/"
               ╰────
              help: a file with certificates in PEM form, its path from the home
              × `base` of connection `a` is not a path
               ╭─[ambit.toml:5:8]
             4 │ ca = "missing.pem"
             5 │ base = "v1/"
               ·        ──┬──
               ·          ╰── does not begin with `/`
             6 │
               ╰────
              help: as in "/v1", or where to read it: { env = "…" }
              × `origin` of connection `b` is not an origin
               ╭─[ambit.toml:8:10]
             7 │ [connection.b]
             8 │ origin = "https://api.example/v1"
               ·          ────────────┬───────────
               ·                      ╰── an origin is only scheme, host and port: no user, path, query or fragment
             9 │ credential = { env = "A", file = "b", as = "bearer" }
               ╰────
              × the credential of connection `b` is read from two places
                ╭─[ambit.toml:9:14]
              8 │ origin = "https://api.example/v1"
              9 │ credential = { env = "A", file = "b", as = "bearer" }
                ·              ────────────────────┬───────────────────
                ·                                  ╰── one of these is enough
             10 │
                ╰────
              × connection `c` speaks plain http
                ╭─[ambit.toml:12:1]
             11 │ [connection.c]
             12 │ origin = "http://api.example"
                · ───┬──
                ·    ╰── not protected
             13 │ credential = { as = { headr = "X" } }
                ╰────
              help: use an https origin; for a service on this machine or network set `allow_private = true`: plain http
                    goes nowhere else
              × the credential of connection `c` has no `env`
                ╭─[ambit.toml:13:14]
             12 │ origin = "http://api.example"
             13 │ credential = { as = { headr = "X" } }
                ·              ────────────┬───────────
                ·                          ╰── missing here
             14 │
                ╰────
              help: one of: env = "NAME", file = "path", command = ["program", "argument"]
              × `as` does not say how the credential is shown
                ╭─[ambit.toml:13:21]
             12 │ origin = "http://api.example"
             13 │ credential = { as = { headr = "X" } }
                ·                     ───────┬───────
                ·                            ╰── not known
             14 │
                ╰────
              help: one of: "bearer", { header = "X-Api-Key" }, { basic = "user name" } or { query = "parameter" }
              × unknown key `headr` in `as`
                ╭─[ambit.toml:13:23]
             12 │ origin = "http://api.example"
             13 │ credential = { as = { headr = "X" } }
                ·                       ──┬──
                ·                         ╰── not known
             14 │
                ╰────
              help: did you mean `header`?
              × `as` does not say how the credential is shown
                ╭─[ambit.toml:17:32]
             16 │ origin = "https://api.example"
             17 │ credential = { env = "A", as = "baerer" }
                ·                                ────┬───
                ·                                    ╰── not known
             18 │
                ╰────
              help: one of: "bearer", { header = "X-Api-Key" }, { basic = "user name" } or { query = "parameter" }
              × `origin` of connection `e` is a string, not 5
                ╭─[ambit.toml:20:10]
             19 │ [connection.e]
             20 │ origin = 5
                ·          ┬
                ·          ╰── expected a string
             21 │ credential = { command = [], as = { basic = "a:b" } }
                ╰────
              × `command` of the credential of connection `e` names no program
                ╭─[ambit.toml:21:16]
             20 │ origin = 5
             21 │ credential = { command = [], as = { basic = "a:b" } }
                ·                ───┬───
                ·                   ╰── empty
             22 │
                ╰────
              × a user name of Basic authentication has no colon and no line end
                ╭─[ambit.toml:21:35]
             20 │ origin = 5
             21 │ credential = { command = [], as = { basic = "a:b" } }
                ·                                   ────────┬────────
                ·                                           ╰── not a user name
             22 │
                ╰────
              × `f/g` cannot be the name of a connection
                ╭─[ambit.toml:23:13]
             22 │
             23 │ [connection."f/g"]
                ·             ──┬──
                ·               ╰── not a name
             24 │ origin = "https://api.example"
                ╰────
              help: 1 to 64 letters, digits, `-` and `_`, a letter or digit first
              × the credential of connection `f/g` has no `as`
                ╭─[ambit.toml:25:14]
             24 │ origin = "https://api.example"
             25 │ credential = { env = "A" }
                ·              ──────┬──────
                ·                    ╰── missing here
                ╰────
              help: how the service wants to see it: "bearer", { header = "X-Api-Key" }, { basic = "user name" } or
                    { query = "parameter" }
        "#]],
    );
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_shown() {
    for text in [
        "[connection.a]\norigin = \"https://a.example\"\ncredential = \"sk_live_123456\"\n",
        "[connection.a]\norigin = \"https://a.example\"\ncredential = sk_live_123456\n",
        "[connection.a]\norigin = \"https://a.example\"\n\"credential\" = 'sk_live_123456'\norgin = 1\n",
        "connection.a = { origin = \"https://a.example\", credential = \"sk_live_123456\" }\n",
        "[connection.a]\norigin = \"https://a.example\"\ncredentials = \"sk_live_123456\"\n",
        "[connection.a]\norigin = \"https://a.example\"\ncredential = { token = \"sk_live_123456\", as = \"bearer\" }\n",
        "[connection.a]\norigin = \"https://a.example\"\n[connection.a.credential]\nvalue = \"sk_live_123456\"\n",
        "[connection.a]\norigin = \"https://sk_live_123456@a.example\"\n",
        "[connection.a]\norigin = \"https://a.example\"\n[webhook.b]\nurl = \"http://b.example/in?k=sk_live_123456\"\n",
        "[webhook.b]\nurl = \"https://b.example\"\nevents = [\"hold.*\"]\nsecret = [\n  \"sk_live_123456\",\n]\n",
        "[webhook.b]\nurl = \"https://b.example\"\nevents = [\"hold.*\"]\nsecret = [\n  { env = \"A\" },\n  \"sk_live_123456\n]\n",
        "[webhook.b]\nurl = \"https://b.example\"\nevents = [\"hold.*\"]\nsecret = \"\"\"\nsk_live_123456\n\"\"\"\n",
        "[webhook.b]\nurl = \"https://b.example\"\nevents = [\"hold.*\"]\nsecret = \"\"\"\nsk_live_123456",
        "[webhook.b]\nurl = \"https://b.example\"\nevents = [\"hold.*\"]\nsecret = [\n  { env = \"A\" }, \"sk_live_123456\",\n]\n",
        "[telemetry]\nendpoint = \"https://b.example\"\nheaders = { Authorization = \"Bearer sk_live_123456\" }\n",
        "[telemetry]\nendpoint = \"https://b.example\"\n[telemetry.headers]\nAuthorization = \"Bearer sk_live_123456\"\n",
        "[telemetry]\nendpoint = \"https://b.example\"\nheaders = \"Authorization: Bearer sk_live_123456\"\n",
        "[telemetry]\nendpoint = \"https://b.example/?key=sk_live_123456\"\n",
    ] {
        let shown = render(&parse(text).unwrap_err());
        assert!(!shown.contains("sk_live"), "{shown}");
        assert!(shown.contains("****"), "{shown}");
    }
}

#[test]
fn routes_are_told_by_name_and_place() {
    check(
        r#"
[connection.stripe]
origin = "https://api.stripe.com"
[connection.stripe.route."refunds.create"]
mach = "POST /v1/refunds"
teir = "commit"
fields = "charge"
[connection.stripe.route."refunds.get"]
match = "GET /v1/refunds/{id}"
tier = "reads"
"#,
        expect![[r#"
            problems: 5
              × route `refunds.create` has no `match`
               ╭─[ambit.toml:4:26]
             3 │ origin = "https://api.stripe.com"
             4 │ [connection.stripe.route."refunds.create"]
               ·                          ────────┬───────
               ·                                  ╰── missing here
             5 │ mach = "POST /v1/refunds"
               ╰────
              × unknown key `mach` in route `refunds.create`
               ╭─[ambit.toml:5:1]
             4 │ [connection.stripe.route."refunds.create"]
             5 │ mach = "POST /v1/refunds"
               · ──┬─
               ·   ╰── not known
             6 │ teir = "commit"
               ╰────
              help: did you mean `match`?
              × unknown key `teir` in route `refunds.create`
               ╭─[ambit.toml:6:1]
             5 │ mach = "POST /v1/refunds"
             6 │ teir = "commit"
               · ──┬─
               ·   ╰── not known
             7 │ fields = "charge"
               ╰────
              help: did you mean `tier`?
              × route `refunds.create` cannot be read: invalid type: string "charge", expected a sequence
               ╭─[ambit.toml:7:10]
             6 │ teir = "commit"
             7 │ fields = "charge"
               ·          ────┬───
               ·              ╰── here
             8 │ [connection.stripe.route."refunds.get"]
               ╰────
              × `tier` of route `refunds.get` is not a tier
                ╭─[ambit.toml:10:8]
              9 │ match = "GET /v1/refunds/{id}"
             10 │ tier = "reads"
                ·        ───┬───
                ·           ╰── not known
                ╰────
              help: "read", "draft", "commit", or { if = "draft == true", then = "draft", else = "commit" }
        "#]],
    );
}

#[test]
fn what_a_route_says_of_its_object_is_checked() {
    check(
        r#"
[connection.crm]
origin = "https://crm.example"
credential = { env = "KEY", as = { header = "If-Match" } }
[connection.crm.route.get]
match = "GET /c/{id}"
reads = ["id"]
[connection.crm.route.change]
match = "POST /c/{id}"
object = { read = "get", id = "{id}", if_match = true }
[connection.crm.route.wrong]
match = "POST /d/{id}"
object = { reed = "get", id = "{id}" }
[connection.crm.route.stale]
match = "POST /e/{id}"
fresh = "1h"
[connection.crm.route.lost]
match = "POST /f/{id}"
object = { read = "none", id = "{id}" }
"#,
        expect![[r#"
            problems: 4
              × route `change` of connection `crm` has the version header `if-match`, which is the host's
               ╭─[ambit.toml:8:23]
             7 │ reads = ["id"]
             8 │ [connection.crm.route.change]
               ·                       ───┬──
               ·                          ╰── this route
             9 │ match = "POST /c/{id}"
               ╰────
              help: leave it out of the route: only the host sets it
              × unknown key `reed` in route `wrong`
                ╭─[ambit.toml:13:12]
             12 │ match = "POST /d/{id}"
             13 │ object = { reed = "get", id = "{id}" }
                ·            ──┬─
                ·              ╰── not known
             14 │ [connection.crm.route.stale]
                ╰────
              help: did you mean `read`?
              × route `stale` of connection `crm`: `fresh` is about what is read, and the route's tier is not `read`
                ╭─[ambit.toml:14:23]
             13 │ object = { reed = "get", id = "{id}" }
             14 │ [connection.crm.route.stale]
                ·                       ──┬──
                ·                         ╰── this route
             15 │ match = "POST /e/{id}"
                ╰────
              × route `lost` of connection `crm`: route `lost` reads what it changes through `none`, which is no GET
              │ route of this connection that only reads, with exactly one `{name}` in its path
                ╭─[ambit.toml:17:23]
             16 │ fresh = "1h"
             17 │ [connection.crm.route.lost]
                ·                       ──┬─
                ·                         ╰── this route
             18 │ match = "POST /f/{id}"
                ╰────
        "#]],
    );
}

#[test]
fn a_way_to_undo_is_told_where_it_is_none() {
    let told = |undo: &str| {
        let text = format!(
            "[connection.crm]\norigin = \"https://crm.example\"\n[connection.crm.route.make]\nmatch = \"POST /v1/x\"\nundo = {undo}\n"
        );
        render(&parse(&text).unwrap_err())
    };
    let word = told("\"take-back\"");
    assert!(word.contains("`undo` of route `make` is no way to undo"), "{word}");
    assert!(
        word.contains("\"write-back\", or { route = \"refunds.cancel\" }"),
        "{word}"
    );
    let none = told("{ route = \"unmake\" }");
    assert!(none.contains("`undo` goes through `unmake`"), "{none}");
    assert!(told("\"write-back\"").contains("needs to know how it was before"));
}

#[test]
fn routes_that_cannot_be_together_are_told() {
    check(
        r#"
[connection.stripe]
origin = "https://api.stripe.com"
credential = { env = "KEY", as = { header = "X-Api-Key" } }
[connection.stripe.route.one]
match = "GET /v1/charges/{id}"
[connection.stripe.route.two]
match = "GET,POST /v1/charges/{charge}"
[connection.stripe.route.three]
match = "PUSH /v1"
[connection.stripe.route.four]
match = "POST /v1/refunds"
headers = ["x-api-key"]
fields = ["charge", "amount"]
body = "form"
money = { amount = "amount", currency = { lookup = "three", from = "charge", read = "currency" } }
[connection.stripe.route.five]
match = "POST /v1/x"
headers = ["x-api-key"]
idempotency = { header = "Host", lifetime = "24h" }
[connection.other]
origin = "https://other.example"
credential = { env = "KEY", as = { query = "key" } }
[connection.other.route.six]
match = "GET /v1"
query = ["key"]
"#,
        expect![[r#"
            problems: 5
              × connection `stripe`: routes `one` and `two` match the same requests and neither is more specific; leave
              │ one out, or give them different methods or paths
               ╭─[ambit.toml:7:26]
             6 │ match = "GET /v1/charges/{id}"
             7 │ [connection.stripe.route.two]
               ·                          ─┬─
               ·                           ╰── this route
             8 │ match = "GET,POST /v1/charges/{charge}"
               ╰────
              × route `three` of connection `stripe`: `PUSH` is not one of GET, HEAD, POST, PUT, PATCH, DELETE: `match`
              │ takes methods, a space and a path, such as `POST /v1/refunds` or `GET,HEAD /v1/refunds/{id}`
                ╭─[ambit.toml:9:26]
              8 │ match = "GET,POST /v1/charges/{charge}"
              9 │ [connection.stripe.route.three]
                ·                          ──┬──
                ·                            ╰── this route
             10 │ match = "PUSH /v1"
                ╰────
              × route `five` of connection `stripe` has the header `x-api-key`, which is the host's
                ╭─[ambit.toml:17:26]
             16 │ money = { amount = "amount", currency = { lookup = "three", from = "charge", read = "currency" } }
             17 │ [connection.stripe.route.five]
                ·                          ──┬─
                ·                            ╰── this route
             18 │ match = "POST /v1/x"
                ╰────
              help: leave it out of the route: only the host sets it
              × route `five` of connection `stripe` has the idempotency header `host`, which is the host's
                ╭─[ambit.toml:17:26]
             16 │ money = { amount = "amount", currency = { lookup = "three", from = "charge", read = "currency" } }
             17 │ [connection.stripe.route.five]
                ·                          ──┬─
                ·                            ╰── this route
             18 │ match = "POST /v1/x"
                ╰────
              help: leave it out of the route: only the host sets it
              × route `six` of connection `other` has the query parameter `key`, which is the host's
                ╭─[ambit.toml:24:25]
             23 │ credential = { env = "KEY", as = { query = "key" } }
             24 │ [connection.other.route.six]
                ·                         ─┬─
                ·                          ╰── this route
             25 │ match = "GET /v1"
                ╰────
              help: leave it out of the route: only the host sets it
        "#]],
    );
}

#[test]
fn trap_16_bindings_and_budgets_are_about_what_exists() {
    check(
        r#"
[agent.assistant]
team = "support"
tenant = "acme"
[connection.stripe]
origin = "https://api.stripe.com"
[tool.refunds.bind]
stripe = "strip"
slack = 3
[budget.one]
connection = "stipe"
agent = "asistant"
unit = "dollars"
window = "week"
[budget.two]
unit = "fuel"
window = "month "
cap = -1
over = { ask = "finance" }
[budget.three]
connection = "stripe"
unit = "calls"
window = "day"
cap = 1
"#,
        expect![[r#"
            problems: 11
              × `stripe` of the bindings of tool `refunds` is bound to connection `strip`, and there is none
               ╭─[ambit.toml:8:10]
             7 │ [tool.refunds.bind]
             8 │ stripe = "strip"
               ·          ───┬───
               ·             ╰── no such connection
             9 │ slack = 3
               ╰────
              help: did you mean `stripe`?
              × `slack` of the bindings of tool `refunds` is a string, not 3
                ╭─[ambit.toml:9:9]
              8 │ stripe = "strip"
              9 │ slack = 3
                ·         ┬
                ·         ╰── expected a string
             10 │ [budget.one]
                ╰────
              × budget `one` has no `cap`
                ╭─[ambit.toml:10:9]
              9 │ slack = 3
             10 │ [budget.one]
                ·         ─┬─
                ·          ╰── missing here
             11 │ connection = "stipe"
                ╰────
              help: the most that a window may use, in the budget's unit
              × budget `one` is for connection `stipe`, and there is none
                ╭─[ambit.toml:11:14]
             10 │ [budget.one]
             11 │ connection = "stipe"
                ·              ───┬───
                ·                 ╰── no such connection
             12 │ agent = "asistant"
                ╰────
              help: did you mean `stripe`?
              × budget `one` is for agent `asistant`, and there is none
                ╭─[ambit.toml:12:9]
             11 │ connection = "stipe"
             12 │ agent = "asistant"
                ·         ─────┬────
                ·              ╰── no such agent
             13 │ unit = "dollars"
                ╰────
              help: did you mean `assistant`?
              × `unit` of budget `one` is nothing that can be counted
                ╭─[ambit.toml:13:8]
             12 │ agent = "asistant"
             13 │ unit = "dollars"
                ·        ────┬────
                ·            ╰── not known
             14 │ window = "week"
                ╰────
              help: it is a currency such as "usd" (in minor units), "calls", "effects", "bytes" or "fuel"
              × `window` of budget `one` is not a window
                ╭─[ambit.toml:14:10]
             13 │ unit = "dollars"
             14 │ window = "week"
                ·          ───┬──
                ·             ╰── not known
             15 │ [budget.two]
                ╰────
              help: it is "call", "run", "hour", "day" or "month" (by the calendar, UTC), or { rolling = "24h" }
              × `window` of budget `two` is not a window
                ╭─[ambit.toml:17:10]
             16 │ unit = "fuel"
             17 │ window = "month "
                ·          ────┬───
                ·              ╰── not known
             18 │ cap = -1
                ╰────
              help: did you mean "month"? It is "call", "run", "hour", "day" or "month" (by the calendar, UTC), or
                    { rolling = "24h" }
              × `cap` of budget `two` is a whole number, zero or more, not -1
                ╭─[ambit.toml:18:7]
             17 │ window = "month "
             18 │ cap = -1
                ·       ─┬
                ·        ╰── expected a whole number, zero or more
             19 │ over = { ask = "finance" }
                ╰────
              × budget `two` counts fuel, and no call waits for people: only an effect does
                ╭─[ambit.toml:19:8]
             18 │ cap = -1
             19 │ over = { ask = "finance" }
                ·        ─────────┬─────────
                ·                 ╰── would ask nobody
             20 │ [budget.three]
                ╰────
              help: leave out `over`, or count what effects use: a currency, "effects" or "bytes"
              × budget `three` counts calls of a connection or route
                ╭─[ambit.toml:22:1]
             21 │ connection = "stripe"
             22 │ unit = "calls"
                · ──┬─
                ·   ╰── would count nothing
             23 │ window = "day"
                ╰────
              help: a connection has effects and bytes: unit = "effects" or "bytes"; or leave out connection and route
        "#]],
    );
}

#[test]
fn a_cap_is_passed_by_people_who_can_be_asked() {
    let budget = |lines: &str| {
        format!(
            "[group.finance]\nmembers = [\"sam\", \"rita\"]\n[group.later]\nmembers = []\n[budget.b]\nunit = \"usd\"\n\
             window = \"day\"\ncap = 5\n{lines}\n"
        )
    };
    let over = |lines: &str| {
        let config = parse(&budget(lines)).map_err(|problems| render(&problems)).unwrap();
        let over = config.budgets()[0].over.clone();
        over.map(|over| format!("{} of {}", over.count, over.ask))
    };
    assert_eq!(over(""), None);
    assert_eq!(over("over = { ask = \"finance\" }").as_deref(), Some("1 of finance"));
    assert_eq!(
        over("over.ask = \"finance\"\nover.count = 2").as_deref(),
        Some("2 of finance")
    );
    assert_eq!(
        over("over = { ask = \"later\", count = 3 }").as_deref(),
        Some("3 of later")
    );
    let bad = [
        "over = { ask = \"finanz\" }",
        "over = { ask = \"finance\", count = 3 }",
        "over = { ask = \"finance\", count = 0 }",
        "over = { count = 1 }",
        "over = { ask = \"finance\", number = 2 }",
        "over = \"finance\"",
    ];
    let told: String = bad
        .iter()
        .map(|lines| render(&parse(&budget(lines)).err().unwrap_or_default()))
        .collect();
    expect![[r#"
        problems: 1
          × budget `b` asks group `finanz`, and there is none
           ╭─[ambit.toml:9:16]
         8 │ cap = 5
         9 │ over = { ask = "finanz" }
           ·                ────┬───
           ·                    ╰── no such group
           ╰────
          help: did you mean `finance`?
        problems: 1
          × budget `b` asks for 3 people of a group of 2
           ╭─[ambit.toml:9:35]
         8 │ cap = 5
         9 │ over = { ask = "finance", count = 3 }
           ·                                   ┬
           ·                                   ╰── out of range
           ╰────
          help: at least 1, and no more than the group has
        problems: 1
          × budget `b` asks for 0 people of a group of 2
           ╭─[ambit.toml:9:35]
         8 │ cap = 5
         9 │ over = { ask = "finance", count = 0 }
           ·                                   ┬
           ·                                   ╰── out of range
           ╰────
          help: at least 1, and no more than the group has
        problems: 1
          × `over` of budget `b` has no `ask`
           ╭─[ambit.toml:9:8]
         8 │ cap = 5
         9 │ over = { count = 1 }
           ·        ──────┬──────
           ·              ╰── missing here
           ╰────
          help: the group whose people may let one effect pass the cap: { ask = "finance" }
        problems: 1
          × unknown key `number` in `over` of budget `b`
           ╭─[ambit.toml:9:27]
         8 │ cap = 5
         9 │ over = { ask = "finance", number = 2 }
           ·                           ───┬──
           ·                              ╰── not known
           ╰────
          help: known here: ask, count
        problems: 1
          × `over` of budget `b` is a table, not a string
           ╭─[ambit.toml:9:8]
         8 │ cap = 5
         9 │ over = "finance"
           ·        ────┬────
           ·            ╰── expected a table
           ╰────
    "#]]
    .assert_eq(&told);
    let calls = budget("over = { ask = \"finance\" }").replace("\"usd\"", "\"calls\"");
    check(
        &calls,
        expect![[r#"
        problems: 1
          × budget `b` counts calls, and no call waits for people: only an effect does
           ╭─[ambit.toml:9:8]
         8 │ cap = 5
         9 │ over = { ask = "finance" }
           ·        ─────────┬─────────
           ·                 ╰── would ask nobody
           ╰────
          help: leave out `over`, or count what effects use: a currency, "effects" or "bytes"
    "#]],
    );
}

#[test]
fn budgets_count_what_can_be_counted_for_as_long_as_can_be_kept() {
    let budget = |lines: &str| {
        let text = "[budget.b]\nunit = \"calls\"\nwindow = \"day\"\ncap = 5\n";
        let kept = |line: &&str| {
            let key = line.split(' ').next().unwrap();
            !lines.lines().any(|given| given.starts_with(key))
        };
        let rest: String = text.lines().filter(kept).map(|line| format!("{line}\n")).collect();
        format!("{rest}{lines}\n")
    };
    let read = |lines: &str| {
        let config = parse(&budget(lines)).map_err(|problems| render(&problems)).unwrap();
        let budget = &config.budgets()[0];
        format!("{} {} {}", budget.cap, budget.unit, budget.window)
    };
    for (lines, said) in [
        ("unit = \"eur\"", "5 eur day"),
        ("unit = \"bytes\"\nwindow = \"hour\"", "5 bytes hour"),
        ("unit = \"fuel\"\nwindow = \"month\"", "5 fuel month"),
        ("unit = \"effects\"\nwindow = \"call\"", "5 effects call"),
        ("window = \"run\"", "5 calls run"),
        ("window = { rolling = \"24h\" }", "5 calls rolling 24h"),
        ("window = { rolling = \"7d\" }", "5 calls rolling 7d"),
        ("window.rolling = \"31d\"", "5 calls rolling 31d"),
        ("cap = 9_223_372_036_854_775_807", "9223372036854775807 calls day"),
    ] {
        assert_eq!(read(lines), said);
    }
    let bad = [
        "unit = \"usf\"",
        "unit = \"EUR\"",
        "unit = \"call\"",
        "unit = \"widgets\"",
        "window = \"month \"",
        "window = \"24h rolling\"",
        "window = \"week\"",
        "window = 24",
        "window = \"runs\"",
        "window = { rolling = \"90m\" }",
        "window = { rolling = \"0h\" }",
        "window = { rolling = \"32d\" }",
        "window = { roling = \"24h\" }",
        "window = { rolling = 24 }",
        "cap = 0",
        "cap = 9_223_372_036_854_775_808",
        "cap = 5.5",
    ];
    let told: String = bad
        .iter()
        .map(|lines| {
            let problems = parse(&budget(lines)).err().unwrap_or_default();
            render(&problems)
        })
        .collect();
    expect![[r#"
        problems: 1
          × budget `b` is in `usf`, which is no currency
           ╭─[ambit.toml:4:8]
         3 │ cap = 5
         4 │ unit = "usf"
           ·        ──┬──
           ·          ╰── not known
           ╰────
          help: did you mean "usd"? It is a currency such as "usd" (in minor units), "calls", "effects", "bytes" or
                "fuel"
        problems: 1
          × `unit` of budget `b` is nothing that can be counted
           ╭─[ambit.toml:4:8]
         3 │ cap = 5
         4 │ unit = "EUR"
           ·        ──┬──
           ·          ╰── not known
           ╰────
          help: did you mean "eur"? It is a currency such as "usd" (in minor units), "calls", "effects", "bytes" or
                "fuel"
        problems: 1
          × `unit` of budget `b` is nothing that can be counted
           ╭─[ambit.toml:4:8]
         3 │ cap = 5
         4 │ unit = "call"
           ·        ───┬──
           ·           ╰── not known
           ╰────
          help: did you mean "calls"? It is a currency such as "usd" (in minor units), "calls", "effects", "bytes"
                or "fuel"
        problems: 1
          × `unit` of budget `b` is nothing that can be counted
           ╭─[ambit.toml:4:8]
         3 │ cap = 5
         4 │ unit = "widgets"
           ·        ────┬────
           ·            ╰── not known
           ╰────
          help: it is a currency such as "usd" (in minor units), "calls", "effects", "bytes" or "fuel"
        problems: 1
          × `window` of budget `b` is not a window
           ╭─[ambit.toml:4:10]
         3 │ cap = 5
         4 │ window = "month "
           ·          ────┬───
           ·              ╰── not known
           ╰────
          help: did you mean "month"? It is "call", "run", "hour", "day" or "month" (by the calendar, UTC), or
                { rolling = "24h" }
        problems: 1
          × `window` of budget `b` is not a window
           ╭─[ambit.toml:4:10]
         3 │ cap = 5
         4 │ window = "24h rolling"
           ·          ──────┬──────
           ·                ╰── not known
           ╰────
          help: did you mean { rolling = "24h" }? It is "call", "run", "hour", "day" or "month" (by the calendar,
                UTC), or { rolling = "24h" }
        problems: 1
          × `window` of budget `b` is not a window
           ╭─[ambit.toml:4:10]
         3 │ cap = 5
         4 │ window = "week"
           ·          ───┬──
           ·             ╰── not known
           ╰────
          help: it is "call", "run", "hour", "day" or "month" (by the calendar, UTC), or { rolling = "24h" }
        problems: 1
          × `window` of budget `b` is not a window
           ╭─[ambit.toml:4:10]
         3 │ cap = 5
         4 │ window = 24
           ·          ─┬
           ·           ╰── not known
           ╰────
          help: it is "call", "run", "hour", "day" or "month" (by the calendar, UTC), or { rolling = "24h" }
        problems: 1
          × `window` of budget `b` is not a window
           ╭─[ambit.toml:4:10]
         3 │ cap = 5
         4 │ window = "runs"
           ·          ───┬──
           ·             ╰── not known
           ╰────
          help: did you mean "run"? It is "call", "run", "hour", "day" or "month" (by the calendar, UTC), or
                { rolling = "24h" }
        problems: 1
          × `rolling` of the window of budget `b` is `90m`: it is not a whole number of hours or days, such as "24h"
          │ or "7d"
           ╭─[ambit.toml:4:22]
         3 │ cap = 5
         4 │ window = { rolling = "90m" }
           ·                      ──┬──
           ·                        ╰── no length
           ╰────
          help: from "1h" to "31d"; a month by the calendar is window = "month"
        problems: 1
          × `rolling` of the window of budget `b` is `0h`: it has no length
           ╭─[ambit.toml:4:22]
         3 │ cap = 5
         4 │ window = { rolling = "0h" }
           ·                      ──┬─
           ·                        ╰── would never count
           ╰────
          help: from "1h" to "31d"; a month by the calendar is window = "month"
        problems: 1
          × `rolling` of the window of budget `b` is `32d`: it is longer than 31 days
           ╭─[ambit.toml:4:22]
         3 │ cap = 5
         4 │ window = { rolling = "32d" }
           ·                      ──┬──
           ·                        ╰── too long
           ╰────
          help: from "1h" to "31d"; a month by the calendar is window = "month"
        problems: 1
          × unknown key `roling` in the window of budget `b`
           ╭─[ambit.toml:4:12]
         3 │ cap = 5
         4 │ window = { roling = "24h" }
           ·            ───┬──
           ·               ╰── not known
           ╰────
          help: did you mean `rolling`?
        problems: 1
          × `rolling` of the window of budget `b` is a string, not 24
           ╭─[ambit.toml:4:22]
         3 │ cap = 5
         4 │ window = { rolling = 24 }
           ·                      ─┬
           ·                       ╰── expected a string
           ╰────
        problems: 1
          × the cap of budget `b` is 0: nothing would ever fit
           ╭─[ambit.toml:4:7]
         3 │ window = "day"
         4 │ cap = 0
           ·       ┬
           ·       ╰── out of range
           ╰────
          help: what may never happen is a policy's to forbid: forbid (principal, action, resource)
        problems: 1
          × the cap of budget `b` is more than can be counted
           ╭─[ambit.toml:4:7]
         3 │ window = "day"
         4 │ cap = 9_223_372_036_854_775_808
           ·       ────────────┬────────────
           ·                   ╰── out of range
           ╰────
          help: at most 9223372036854775807
        problems: 1
          × `cap` of budget `b` is a whole number, zero or more, not a float
           ╭─[ambit.toml:4:7]
         3 │ window = "day"
         4 │ cap = 5.5
           ·       ─┬─
           ·        ╰── expected a whole number, zero or more
           ╰────
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_currency_of_a_service_s_own_can_be_counted() {
    let with = |constant: &str| {
        let money = format!("money = {{ amount = \"amount\", currency = {{ constant = \"{constant}\" }} }}");
        messages(&format!(
            "[connection.c]\norigin = \"https://c.example\"\n[connection.c.route.pay]\nmatch = \"POST /pay\"\nbody = \"json\"\n\
             fields = [\"amount\"]\n{money}\n[budget.b]\nunit = \"pts\"\nwindow = \"day\"\ncap = 5\n"
        ))
    };
    assert_eq!(with("pts"), Vec::<String>::new());
    assert_eq!(with("usd"), ["budget `b` is in `pts`, which is no currency"]);
}

#[test]
fn limits_stay_within_what_a_host_can_hold() {
    let limit = |line: &str| messages(&format!("[limits]\n{line}\n"));
    assert_eq!(limit("response_body_bytes = 8_388_608"), Vec::<String>::new());
    assert_eq!(
        limit("response_body_bytes = 8_388_609"),
        ["`response_body_bytes` of the limits is out of range"]
    );
    assert_eq!(
        limit("request_body_bytes = 99_000_000"),
        ["`request_body_bytes` of the limits is out of range"]
    );
    assert_eq!(limit("json_depth = 65"), ["`json_depth` of the limits is out of range"]);
    assert_eq!(limit("fuel = 0"), ["`fuel` of the limits is out of range"]);
    assert_eq!(
        limit("fuel = 1.5"),
        ["`fuel` of the limits is a whole number, zero or more, not a float"]
    );
    assert_eq!(
        messages("[tool.refunds.limits]\nmemory_bytes = 9_000_000_000"),
        ["`memory_bytes` of the limits of tool `refunds` is out of range"]
    );
}

#[test]
fn names_stand_in_policies_and_file_names() {
    let route = |name: &str| {
        messages(&format!(
            "[connection.a]\norigin = \"https://a.example\"\n[connection.a.route.\"{name}\"]\nmatch = \"GET /v1\""
        ))
    };
    assert_eq!(route("refunds.create_2"), Vec::<String>::new());
    for name in ["", "a/b", "a b", "ä"] {
        assert_eq!(route(name), [format!("`{name}` cannot be the name of a route")]);
    }
    for name in ["../x", "-a", ".a", ""] {
        let problems = messages(&format!("[tool.\"{name}\"]\n"));
        assert_eq!(problems, [format!("`{name}` cannot be the name of a tool")]);
    }
}

#[test]
fn people_and_teams_are_unambiguous() {
    assert_eq!(
        messages("[group.g]\nmembers = [\"ada\", \"ada\", \"\"]\n[group.h]\n"),
        [
            "`ada` is twice in `members` of group `g`",
            "`` cannot be the name of a person",
            "group `h` has no `members`"
        ]
    );
    assert_eq!(
        messages("[agent.a]\nteam = \"t\"\ntenant = \"x\"\n[agent.b]\nteam = \"t\"\ntenant = \"y\"\n"),
        ["team `t` is in two tenants, `x` and `y`"]
    );
}

#[test]
fn the_glass_is_for_a_group_that_exists() {
    let text = |group: &str| format!("[group.incident]\nmembers = [\"ivy\"]\n[approvals]\nbreak_glass = \"{group}\"\n");
    assert_eq!(parse(&text("incident")).unwrap().break_glass(), Some("incident"));
    assert_eq!(parse("").unwrap().break_glass(), None);
    let problems = parse(&text("incidents")).unwrap_err();
    assert_eq!(problems.len(), 1);
    let unknown = parse("[approvals]\nbreakglass = \"incident\"\n").unwrap_err();
    assert_eq!(unknown.len(), 1);
}

#[test]
fn retention_is_an_age_in_days() {
    let retention = |text: &str| parse(&format!("[retention]\n{text}\n")).map(|config| config.retention());
    assert_eq!(retention("values = \"90d\"").unwrap(), Some(90));
    assert_eq!(retention("values = \"36500d\"").unwrap(), Some(36_500));
    assert_eq!(parse("").unwrap().retention(), None);
    for wrong in [
        "0d",
        "36501d",
        "90",
        "d",
        "+9d",
        "-1d",
        "9.5d",
        "90 d",
        "3m",
        "99999999999999999999d",
        "",
    ] {
        let problems = retention(&format!("values = \"{wrong}\"")).unwrap_err();
        assert_eq!(problems.len(), 1, "{wrong}");
    }
    check(
        "[retention]\nvalues = \"3 months\"\nlog = \"9d\"\n",
        expect![[r#"
        problems: 2
          × `values` of the retention is not an age
           ╭─[ambit.toml:2:10]
         1 │ [retention]
         2 │ values = "3 months"
           ·          ─────┬────
           ·               ╰── not an age
         3 │ log = "9d"
           ╰────
          help: an age is a number of days from 1d to 36500d, such as 90d
          × unknown key `log` in the retention
           ╭─[ambit.toml:3:1]
         2 │ values = "3 months"
         3 │ log = "9d"
           · ─┬─
           ·  ╰── not known
           ╰────
          help: known here: values
    "#]],
    );
    check(
        "[retention]\n",
        expect![[r#"
        problems: 1
          × the retention has no `values`
           ╭─[ambit.toml:1:1]
         1 │ [retention]
           · ─────┬─────
           ·      ╰── missing here
           ╰────
          help: after how many days the values of calls may go: values = "90d"
    "#]],
    );
}

#[test]
fn the_high_water_mark_is_elsewhere() {
    for (path, inside) in [
        ("mark", true),
        ("/home/ambit/x/mark", true),
        ("../ambit/mark", true),
        ("/home/x/../ambit/mark", true),
        ("/var/mark", false),
        ("../mark", false),
        ("/home/ambit/../mark", false),
    ] {
        let problems = messages(&format!("[ledger]\nhigh_water = \"{path}\"\n"));
        assert_eq!(!problems.is_empty(), inside, "{path}");
    }
}

#[test]
fn secrets_are_read_when_a_connection_is_used_and_told_by_place() {
    let config = parse(WHOLE).unwrap();
    let world = World {
        env: BTreeMap::from([("STRIPE_KEY", "sk_test_123456789")]),
        files: BTreeMap::from([("keys/near", "two\nlines-of-secret".into())]),
    };
    let up = config.upstream("stripe", &world).unwrap();
    assert_eq!(up.name(), "stripe");
    assert!(!format!("{up:?} {config:?}").contains("sk_test"));
    let problems: Vec<_> = ["near", "hook", "none"]
        .map(|name| config.upstream(name, &world).unwrap_err())
        .into();
    expect![[r#"
        problems: 3
          × the credential of connection `near`: the file /home/ambit/keys/near has a control character or a second
          │ line
            ╭─[ambit.toml:36:1]
         35 │ base = "/v1"
         36 │ credential = { file = "keys/near", as = { header = "X-Api-Key" } }
            · ─────┬────
            ·      ╰── read here
         37 │
            ╰────
          help: the host reads it when it starts; nothing was sent
          × the base of connection `hook`: the environment variable HOOK is not set
            ╭─[ambit.toml:30:1]
         29 │ origin = "https://hooks.example"
         30 │ base = { env = "HOOK" }
            · ──┬─
            ·   ╰── read here
         31 │
            ╰────
          help: the host reads it when it starts; nothing was sent
          × there is no connection `none`
    "#]]
    .assert_eq(&render(&problems));
}

#[test]
fn a_home_is_read_whole() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    let problem = |home: &Path| Config::load(home).unwrap_err().remove(0).message().to_owned();
    assert!(problem(home.path()).contains("is no home: it has no ambit.toml"));
    fs::write(path(FILE), TEMPLATE).unwrap();
    assert!(problem(home.path()).contains("policy cannot be read"));
    fs::create_dir(path("policy")).unwrap();
    for (name, text) in [
        ("b.cedar", "two"),
        ("a.cedar", "one"),
        ("note.txt", "three"),
        ("a.cedar~", "four"),
    ] {
        fs::write(path("policy").join(name), text).unwrap();
    }
    let config = Config::load(home.path()).unwrap();
    assert_eq!(
        config.policies(),
        [
            ("a.cedar".to_owned(), "one".to_owned()),
            ("b.cedar".into(), "two".into())
        ]
    );
    fs::write(path(lock::FILE), "version = 9").unwrap();
    assert!(problem(home.path()).contains("version 9"));
    fs::write(path(FILE), b"\xff").unwrap();
    assert!(problem(home.path()).contains("not UTF-8"));
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in r#"([a-z]+|\[|\]|=|"|\{|\}|\.|,|\n|[0-9]|origin|connection|tool|bind|budget|limits|fuel|credential|route|match| |\PC){0,40}"#) {
        let _ = fuzz(text.as_bytes());
    }
}

/// What a connection says of its routes is for those that say nothing, and where it can be.
#[test]
fn what_is_sent_again_is_said_once_for_a_connection() {
    let text = r#"
[connection.c]
origin = "https://c.example"
retries = { most = 3, backoff = "200ms" }
dead_letter = true
route.read = { match = "GET /a" }
route.keyed = { match = "POST /b", idempotency = { header = "Idempotency-Key", lifetime = "1h" } }
route.bare = { match = "POST /c", dead_letter = false }
route.own = { match = "GET /d", retries = { most = 1, backoff = "1s" } }
"#;
    let config = Config::parse(Path::new("/home/ambit"), text, &World::default()).unwrap();
    let connection = config.connection("c").unwrap();
    let of = |name: &str| {
        let route = connection.route(name).unwrap();
        (
            route.retries().map(|retries| retries.most),
            route.dead_letter(ambit_core::scope::Tier::Commit),
        )
    };
    assert_eq!(of("read"), (Some(3), true));
    assert_eq!(of("keyed"), (Some(3), true));
    assert_eq!(of("bare"), (None, false));
    assert_eq!(of("own"), (Some(1), true));
    let bad = text.replace("most = 3", "most = 11");
    let problems = Config::parse(Path::new("/home/ambit"), &bad, &World::default()).unwrap_err();
    assert!(format!("{problems:?}").contains("retries.most"), "{problems:?}");
}

/// A home with an agent, a connection and a tool, and a webhook that says this.
fn with_webhook(lines: &str) -> String {
    format!(
        "[agent.a]\nteam = \"t\"\ntenant = \"acme\"\n[connection.stripe]\norigin = \"https://api.stripe.com\"\n\
         [tool.refunds.bind]\nstripe = \"stripe\"\n[webhook.pager]\n{lines}\n"
    )
}

const PAGER: &str =
    "url = \"https://pager.example/in?k=v\"\nsecret = { env = \"PAGER\" }\nevents = [\"hold.*\", \"stop.placed\"]\n";

#[test]
fn a_webhook_says_where_what_and_under_which_secret() {
    use ambit_core::webhook::{About, EventType, Format};

    let config = parse(&with_webhook(&format!("{PAGER}tenant = \"acme\"\ngive_up = \"2h\"\n"))).unwrap();
    let pager = &config.webhooks()["pager"];
    let events: Vec<&str> = pager.events().iter().map(|kind| kind.as_str()).collect();
    assert_eq!(events, ["hold.created", "hold.ended", "stop.placed"]);
    assert_eq!(
        (pager.format, pager.timeout.as_secs(), pager.give_up.as_secs()),
        (Format::Standard, 10, 7_200)
    );
    assert_eq!(
        pager.told(Path::new("/home/ambit")),
        "https://pager.example/in",
        "a query may be a key"
    );
    let acme = About {
        tenant: Some("acme".into()),
        ..About::default()
    };
    assert!(pager.wants(EventType::HoldCreated, &acme));
    assert!(!pager.wants(EventType::BreakerOpened, &acme) && !pager.wants(EventType::HoldCreated, &About::default()));
    let world = |value| World {
        env: [
            ("PAGER", value),
            ("OLD", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ]
        .into(),
        ..World::default()
    };
    assert!(
        config
            .hook("pager", &world("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
            .is_ok()
    );
    // What is no secret is told, and not shown.
    for bad in ["hunter2hunter2", "whsec_aHVudGVyMg=="] {
        let problem = config.hook("pager", &world(bad)).unwrap_err();
        let told = render(&[problem]);
        assert!(
            told.contains("the secret of webhook `pager`") && !told.contains(bad),
            "{told}"
        );
    }
    assert!(config.hook("pager", &World::default()).is_err());
    let near = config.hook("pagr", &World::default()).unwrap_err();
    assert_eq!(near.advice(), Some("did you mean `pager`?"));
    let both = PAGER.replace("{ env = \"PAGER\" }", "[{ env = \"PAGER\" }, { env = \"OLD\" }]");
    let both = parse(&with_webhook(&both)).unwrap();
    assert_eq!(both.webhooks()["pager"].signatures(), 2);
}

#[test]
fn a_webhook_for_a_chat_can_have_a_secret_address_and_no_other_secret() {
    let chat = "url = { env = \"CHAT\" }\nformat = \"slack\"\nevents = [\"hold.created\"]\n";
    let config = parse(&with_webhook(chat)).unwrap();
    assert_eq!(config.webhooks()["pager"].told(Path::new("/home/ambit")), "env CHAT");
    let world = |value| World {
        env: [("CHAT", value)].into(),
        ..World::default()
    };
    assert!(
        config
            .hook("pager", &world("https://hooks.example/services/T/B/hunter2hunter2"))
            .is_ok()
    );
    for bad in ["http://hooks.example/services/hunter2hunter2", "hunter2hunter2"] {
        let told = render(&[config.hook("pager", &world(bad)).unwrap_err()]);
        assert!(
            told.contains("the url of webhook `pager`") && !told.contains("hunter2"),
            "{told}"
        );
    }
}

#[test]
fn mistakes_in_a_webhook_are_told() {
    let one = |from: &str, to: &str| messages(&with_webhook(&PAGER.replace(from, to)));
    let with = |line: &str| messages(&with_webhook(&format!("{PAGER}{line}\n")));
    assert_eq!(one("", ""), [""; 0]);
    assert_eq!(
        one("https://", "http://"),
        ["`url` of webhook `pager` is no address of a webhook"]
    );
    assert_eq!(
        one("secret = { env = \"PAGER\" }\n", ""),
        ["webhook `pager` has no `secret`"]
    );
    assert_eq!(
        one("hold.*", "hold.craeted"),
        ["webhook `pager` is told of `hold.craeted`, and there is no such event"]
    );
    assert_eq!(
        one("[\"hold.*\", \"stop.placed\"]", "[]"),
        ["webhook `pager` is told of nothing"]
    );
    assert_eq!(
        with("format = \"slck\""),
        ["`format` of webhook `pager` is `slck`, and there is none such"]
    );
    for line in ["timeout = \"31s\"", "give_up = \"8d\"", "give_up = \"soon\""] {
        let told = with(line);
        assert!(
            matches!(told.as_slice(), [one] if one.contains("is not a time that it can have")),
            "{told:?}"
        );
    }
    assert_eq!(
        with("tenant = \"acne\""),
        ["webhook `pager` is for tenant `acne`, and there is none"]
    );
    assert_eq!(
        with("tool = \"refund\""),
        ["webhook `pager` is for tool `refund`, and there is none"]
    );
    assert_eq!(
        with("connection = \"strpe\""),
        ["webhook `pager` is for connection `strpe`, and there is none"]
    );
    assert_eq!(
        messages(&with_webhook(
            &(PAGER.replace("stop.placed", "breaker.*\", \"call.suspended")
                + "tenant = \"acme\"\nconnection = \"stripe\"\n")
        )),
        [
            "webhook `pager` is told of `breaker.*` of tenant `acme` alone, and that is of no tenant",
            "webhook `pager` is told of `call.suspended` of connection `stripe` alone, and that is of no connection"
        ]
    );
    assert_eq!(with("evnts = []"), ["unknown key `evnts` in webhook `pager`"]);
    let near = parse(&with_webhook(&PAGER.replace("stop.placed", "stop.place"))).unwrap_err();
    assert_eq!(near[0].advice(), Some("did you mean \"stop.placed\"?"));
}

#[test]
fn a_budget_warns_at_a_percentage_of_its_cap() {
    let budget = |window: &str, cap: u64, lines: &str| {
        format!("[budget.b]\nunit = \"usd\"\nwindow = \"{window}\"\ncap = {cap}\n{lines}\n")
    };
    let warn = |cap, percent: u64| {
        let config = parse(&budget("day", cap, &format!("warn = {percent}"))).unwrap();
        config.budgets()[0].warn
    };
    assert_eq!(
        [warn(1_000, 80), warn(5, 50), warn(1, 1), warn(7, 100)],
        [Some(800), Some(3), Some(1), Some(7)]
    );
    assert_eq!(warn(i64::MAX as u64, 100), Some(i64::MAX as u64));
    assert_eq!(parse(&budget("day", 5, "")).unwrap().budgets()[0].warn, None);
    for percent in [0, 101] {
        let told = messages(&budget("day", 5, &format!("warn = {percent}")));
        assert_eq!(told, ["`warn` of budget `b` is no percentage of its cap"]);
    }
    assert_eq!(
        messages(&budget("call", 5, "warn = 80")),
        ["budget `b` warns in the window of a call"]
    );
}

#[test]
fn telemetry_says_where_a_collector_is() {
    let config =
        parse("[telemetry]\nendpoint = \"http://127.0.0.1:4318/otlp/\"\nlogs = false\ninterval = \"5s\"\n").unwrap();
    let telemetry = config.telemetry().unwrap();
    assert!(telemetry.traces && telemetry.metrics && !telemetry.logs);
    assert_eq!(telemetry.interval.as_secs(), 5);
    assert!(config.collector(&World::default()).unwrap().is_some());
    assert!(parse("").unwrap().telemetry().is_none());
    let elsewhere = "[telemetry]\nendpoint = \"https://otlp.example.com\"\nheaders = { \"X-Scope-OrgID\" = \"acme\" }\n\
        credential = { env = \"OTLP_KEY\", as = { header = \"X-Api-Key\" } }\n";
    let config = parse(elsewhere).unwrap();
    assert_eq!(config.telemetry().unwrap().interval.as_secs(), 10);
    // Its secret is read when it is used.
    let problem = config.collector(&World::default()).unwrap_err();
    assert!(problem.message().contains("OTLP_KEY"), "{problem}");

    assert_eq!(messages("[telemetry]\n"), ["the telemetry has no `endpoint`"]);
    for (bad, why) in [
        ("endpoint = \"http://otlp.example.com\"", "speaks plain http"),
        (
            "endpoint = \"otlp.example.com\"",
            "`endpoint` of the telemetry is no address",
        ),
        (
            "endpoint = \"https://otlp.example.com/?a=b\"",
            "`endpoint` of the telemetry is no address",
        ),
        (
            "endpoint = \"https://otlp.example.com\"\ninterval = \"2h\"",
            "`interval` of the telemetry",
        ),
        (
            "endpoint = \"https://otlp.example.com\"\nspans = true",
            "unknown key `spans`",
        ),
        (
            "endpoint = \"https://otlp.example.com\"\nheaders = { Authorization = \"Bearer x\" }",
            "is the host's to set; a secret is a `credential`",
        ),
        (
            "endpoint = \"https://otlp.example.com\"\nheaders = { \"X Y\" = \"x\" }",
            "is no name of a header",
        ),
    ] {
        let told = messages(&format!("[telemetry]\n{bad}\n"));
        assert!(told.len() == 1 && told[0].contains(why), "{bad}: {told:?}");
    }
}

#[test]
fn a_collector_is_told_by_the_host_itself() {
    let told = messages(
        "[telemetry]\nendpoint = \"https://otlp.example.com\"\n\
         credential.oauth2 = { token_url = \"https://id.example.com/token\", client_id = \"ambit\", client_secret = { env = \"S\" } }\n",
    );
    assert_eq!(
        told,
        ["the credential of the telemetry is a token that is asked for on behalf of a caller"]
    );
}

#[test]
fn where_a_trace_is_told_no_guest_has_a_word_in_it() {
    let routed = |trace: &str, header: &str| {
        messages(&format!(
            "[connection.near]\norigin = \"https://near.example\"\n{trace}\n[connection.near.route.get]\n\
             match = \"GET /things\"\nreads = [\"id\"]\nheaders = [\"{header}\"]\n"
        ))
    };
    for header in ["traceparent", "Tracestate"] {
        assert_eq!(routed("", header), [""; 0]);
        let told = routed("trace = true", header);
        assert!(
            told.len() == 1 && told[0].contains(&header.to_ascii_lowercase()),
            "{told:?}"
        );
    }
}
