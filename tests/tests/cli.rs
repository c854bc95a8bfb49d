//! The command as a newcomer sees it: every help text and every error, whole, with its exit code.
//!
//! What a case shows is compared with a file in `tests/snapshots`; `UPDATE_EXPECT=1` writes them anew, and the difference is
//! for a person to read. A case that is refused leaves its home as it was, and nothing reaches the service.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use ambit_core::ledger::body::{Reservation, Settlement};
use ambit_tests::home::{Home, Run};
use ambit_tests::programs::{component, program, skip};
use ambit_tests::times;
use ambit_tests::wit;

use super::{Trial, Verdict, repository};

/// A home with a connection to a service that counts as reached when anything connects, and what was shown.
struct Place {
    /// Of the case; the home is in it.
    folder: tempfile::TempDir,
    home: Home,
    service: TcpListener,
    name: &'static str,
    shown: String,
}

/// What a command may leave.
#[derive(Clone, Copy, PartialEq)]
enum Leaves {
    /// The home exactly as it was.
    Nothing,
    /// Entries on the ledger, and compiled code.
    Record,
    /// What it was asked to write.
    Files,
}

type Case = (&'static str, fn(&mut Place) -> Verdict);

const CASES: &[Case] = &[
    ("help", help),
    ("words", words),
    ("init", init),
    ("components", components),
    ("scopes", scopes),
    ("configuration", configuration),
    ("routes", routes),
    ("policies", policies),
    ("proposal", proposal),
    ("arguments", arguments),
    ("large_input", large_input),
    ("contracts", contracts),
    ("unbound", unbound),
    ("names", names),
    ("ids", ids),
    ("credentials", credentials),
    ("ledgers", ledgers),
    ("high_water", high_water),
    ("erasing", erasing),
    ("read_only", read_only),
    ("two_processes", two_processes),
    ("served", served),
    ("reload", reload),
    ("slips", slips),
    ("streams", streams),
    ("escapes", escapes),
    ("people", people),
    ("keys", keys),
    ("holds", holds),
    ("what_if", what_if),
    ("budgets", budgets),
    ("stops", stops),
    ("stopped", stopped),
    ("runs", runs),
    ("tokens", tokens),
    ("connections", connections),
    ("metrics", metrics),
];

pub(super) fn trials() -> Vec<Trial> {
    let trial = |(name, test): &Case| {
        let (name, test) = (*name, *test);
        Trial {
            name: format!("cli::{name}"),
            test: Box::new(move || {
                let mut place = Place::new(name).map_err(|error| error.to_string())?;
                test(&mut place)?;
                place.compare()
            }),
        }
    };
    CASES.iter().map(trial).collect()
}

/// What an operator has who followed the first steps.
const CONFIGURED: &str = r#"
[agent.assistant]
team = "support"
tenant = "acme"
users = ["ada"]

[group.reviewer]
members = []

[connection.stripe]
origin = "https://api.stripe.com"
connect_to = "127.0.0.1:PORT"
allow_private = true
credential = { env = "STRIPE_KEY", as = "bearer" }

[connection.stripe.route."charges.get"]
match = "GET /v1/charges/{id}"
reads = ["id", "amount", "currency"]

[connection.stripe.route."refunds.create"]
match = "POST /v1/refunds"
tier = "commit"
fields = ["charge", "amount", "reason"]
required = ["charge", "amount"]
reads = ["id", "status"]
body = "form"
money = { amount = "amount", currency = { lookup = "charges.get", from = "charge", read = "currency" } }

[connection.stripe.route."customers.delete"]
match = "DELETE /v1/customers/{id}"
"#;

const PERMITTED: &str = r#"
@id("support-calls")
permit (principal in Team::"support", action == Action::"call", resource);
"#;

/// Functions with every kind of argument that an error can be about. None of them is ever run.
const SHOP: &str = r#"
package acme:shop@1.0.0;
world tool {
  /// The service.
  @external-id("POST https://api.stripe.com/v1/refunds fields(charge, amount, reason) reads(id, status); GET https://api.stripe.com/v1/charges/{id} reads(id, amount, currency)")
  import stripe: ambit:capability/http@0.1.0;
  export refunds;
}
interface refunds {
  enum reason { duplicate, requested-by-customer }
  record item { sku: string, count: u8 }
  /// Give money back.
  create: func(charge: string, amount: u64, reason: option<reason>, items: list<item>) -> result<string, string>;
  @external-id("read")
  get: func(id: string) -> string;
}
"#;

impl Place {
    fn new(name: &'static str) -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let service = TcpListener::bind("127.0.0.1:0")?;
        service.set_nonblocking(true)?;
        let mut home = Home::make(&folder.path().join("home"))?;
        home.set("STRIPE_KEY", "sk_test_CANARY");
        Ok(Self {
            folder,
            home,
            service,
            name,
            shown: String::new(),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file beside the home.
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// `ambit.toml`, with the port of the service.
    fn configure(&self, text: &str) {
        let port = self.service.local_addr().unwrap().port().to_string();
        self.home.configure(&text.replace("PORT", &port)).unwrap();
    }

    /// A home with a tool that is connected and may be called.
    fn ready(&self) {
        self.configure(&format!("{CONFIGURED}\n[tool.shop.bind]\nstripe = \"stripe\"\n"));
        self.home.permit(PERMITTED).unwrap();
        let shop = self.file("shop.wasm", wit::component(SHOP));
        self.home
            .done(["tools".as_ref(), "add".as_ref(), "shop".as_ref(), shop.as_os_str()])
            .unwrap();
    }

    /// Runs a command, and adds what it shows to what is compared.
    fn run<S: AsRef<OsStr>>(&mut self, code: i32, leaves: Leaves, arguments: &[S]) -> Result<Run, String> {
        self.run_with(code, leaves, arguments, "")
    }

    fn run_with<S: AsRef<OsStr>>(
        &mut self,
        code: i32,
        leaves: Leaves,
        arguments: &[S],
        stdin: &str,
    ) -> Result<Run, String> {
        let before = tree(self.home.folder());
        let run = self.home.run(arguments, stdin).map_err(|error| error.to_string())?;
        let shown: Vec<String> = arguments
            .iter()
            .map(|a| shortened(&a.as_ref().to_string_lossy()))
            .collect();
        self.show(&shown.join(" "), &run);
        self.check(&shown.join(" "), &run, code)?;
        let after = tree(self.home.folder());
        let changed = changed(&before, &after, leaves);
        if !changed.is_empty() {
            return Err(format!("{}: it left {changed:?}", shown.join(" ")));
        }
        Ok(run)
    }

    fn check(&self, command: &str, run: &Run, code: i32) -> Verdict {
        if run.code != Some(code) {
            return Err(format!("{command}: not exit {code}: {}", run.text()));
        }
        if code != 0 && code != 1 && !run.out.is_empty() {
            return Err(format!("{command}: an error on standard output: {}", run.out));
        }
        if run.err.contains("panicked") || run.err.contains("CANARY") {
            return Err(format!("{command}: {}", run.err));
        }
        if let Some(document) = run.json() {
            times::check(&document).map_err(|why| format!("{command}: {why}"))?;
        }
        match self.service.accept() {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            _ => Err(format!("{command}: the service was reached")),
        }
    }

    fn show(&mut self, command: &str, run: &Run) {
        let mut text = format!("$ ambit {command}\n");
        for (stream, content) in [("", &run.out), ("stderr:\n", &run.err)] {
            if !content.is_empty() {
                text.push_str(stream);
                text.push_str(content);
            }
        }
        text.push_str(&format!("exit {}\n\n", run.code.unwrap_or(-1)));
        self.shown.push_str(&self.plain(&text));
    }

    /// Without what is another at each run.
    fn plain(&self, text: &str) -> String {
        let folder = self.folder.path().to_string_lossy().into_owned();
        let port = format!(":{}", self.service.local_addr().unwrap().port());
        let text = text.replace(&folder, "DIR").replace(&port, ":PORT");
        // First: there is anything in a token, also what others are masked by.
        let text = masked(&text, "ambit_run_", |c| c.is_ascii_alphanumeric() || "-_".contains(c));
        let text = masked(&text, "sha256:", |c| c.is_ascii_hexdigit());
        let text = masked(&text, "c_", |c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let text = masked(&text, "\"s_", |c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let text = masked(&text, "\"trace\": \"", |c| c.is_ascii_hexdigit());
        let text = masked_ids(&text, "r_", 26);
        let text = masked_ids(&text, "k_", 26);
        let text = masked_ids(&text, "ambit_", 84);
        let text = masked(&text, "ambit-ledger/", |c| c.is_ascii_hexdigit());
        let text = masked(&text, "(accepted ", |c| c != ')');
        let text = masked(&text, "rita+", |c| c.is_ascii_alphanumeric() || "+/=".contains(c));
        let text = masked(&text, "process ", |c| c.is_ascii_digit());
        let time = |c: char| c.is_ascii_digit() || matches!(c, '-' | ':' | '.' | 'T' | 'Z');
        let starts = [
            "began ",
            "\"first\": \"",
            "\"last\": \"",
            "erased on ",
            "(made ",
            ", since ",
            "\"since\": \"",
            "until ",
            "started    ",
            "expires    ",
            "call       ",
            "      \"time\": \"",
            "\"started\": \"",
            "\"expires\": \"",
        ];
        let text = starts.iter().fold(text, |text, start| masked(&text, start, time));
        let moment = |word: &str| word.len() == 25 && word.starts_with("20") && word.ends_with("Z ");
        let words = text
            .split_inclusive(' ')
            .map(|word| if moment(word) { "TIME " } else { word });
        let text: String = words.collect();
        masked(&text, "· fuel ", |c| {
            c.is_ascii_digit() || c == ' ' || c == '·' || c == 'm' || c == 's'
        })
    }

    /// Holds what was shown against the snapshot.
    fn compare(&self) -> Verdict {
        let file = repository().join("tests/snapshots").join(format!("{}.txt", self.name));
        if self.shown.is_empty() {
            return Ok(());
        }
        if env::var_os("UPDATE_EXPECT").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &self.shown).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if expected == self.shown {
            return Ok(());
        }
        let line = expected
            .lines()
            .zip(self.shown.lines())
            .take_while(|(a, b)| a == b)
            .count();
        let from = |text: &str| {
            text.lines()
                .skip(line.saturating_sub(3))
                .take(12)
                .collect::<Vec<_>>()
                .join("\n")
        };
        Err(format!(
            "{} differs at line {}; UPDATE_EXPECT=1 writes it anew\n--- expected\n{}\n--- shown\n{}",
            file.display(),
            line + 1,
            from(&expected),
            from(&self.shown)
        ))
    }
}

/// A long argument's beginning.
fn shortened(argument: &str) -> String {
    let cut: String = argument.chars().take(120).collect();
    let quote = cut.contains([' ', '{', '"']) || cut.is_empty();
    if quote { format!("'{cut}'") } else { cut }
}

/// Replaces what follows each `start`, as long as it is of a kind and at least one character.
fn masked(text: &str, start: &str, of: impl Fn(char) -> bool) -> String {
    let mut pieces = text.split(start);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let rest = piece.trim_start_matches(&of);
        out.push_str(start);
        if rest.len() < piece.len() {
            out.push('…');
        }
        out.push_str(rest);
    }
    out
}

/// The same for ids of 26 characters and keys of 84: their beginnings end many a word.
fn masked_ids(text: &str, start: &str, length: usize) -> String {
    let mut pieces = text.split(start);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let rest = piece.trim_start_matches(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        out.push_str(start);
        let id = piece.len() - rest.len() == length;
        out.push_str(if id { "…" } else { &piece[..piece.len() - rest.len()] });
        out.push_str(rest);
    }
    out
}

/// Every file of a folder with its content, and every folder.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .into_iter()
                    .flatten()
                    .map(|entry| entry.unwrap().path()),
            );
            found.insert(path, None);
        } else {
            let content = fs::read(&path).unwrap_or_default();
            found.insert(path, Some(content));
        }
    }
    found
}

fn changed(
    before: &BTreeMap<PathBuf, Option<Vec<u8>>>,
    after: &BTreeMap<PathBuf, Option<Vec<u8>>>,
    leaves: Leaves,
) -> Vec<PathBuf> {
    let paths = before.keys().chain(after.keys());
    let mut changed: Vec<PathBuf> = paths
        .filter(|path| before.get(*path) != after.get(*path))
        .cloned()
        .collect();
    changed.dedup();
    let ours = |path: &PathBuf| {
        let text = path.to_string_lossy();
        ["/ledger.", "/payloads", "/cache", "/lock"]
            .iter()
            .any(|part| text.contains(part))
    };
    match leaves {
        Leaves::Nothing => changed,
        Leaves::Record => changed.into_iter().filter(|path| !ours(path)).collect(),
        Leaves::Files => Vec::new(),
    }
}

fn help(place: &mut Place) -> Verdict {
    let commands: [&[&str]; 89] = [
        &[],
        &["init"],
        &["build"],
        &["inspect"],
        &["contract"],
        &["call"],
        &["serve"],
        &["tools"],
        &["tools", "add"],
        &["tools", "list"],
        &["tools", "accept"],
        &["tools", "remove"],
        &["policy"],
        &["policy", "check"],
        &["policy", "init"],
        &["policy", "learn"],
        &["policy", "schema"],
        &["calls"],
        &["calls", "resume"],
        &["calls", "resolve"],
        &["calls", "end"],
        &["approvals"],
        &["approvals", "list"],
        &["approvals", "show"],
        &["approvals", "approve"],
        &["approvals", "reject"],
        &["approvals", "edit"],
        &["approvals", "break-glass"],
        &["approvals", "resume"],
        &["person"],
        &["person", "key"],
        &["person", "enrol"],
        &["person", "revoke"],
        &["person", "delegate"],
        &["person", "undelegate"],
        &["person", "list"],
        &["keys"],
        &["keys", "create"],
        &["keys", "list"],
        &["keys", "rotate"],
        &["keys", "revoke"],
        &["kill"],
        &["unkill"],
        &["status"],
        &["reload"],
        &["run"],
        &["run", "start"],
        &["run", "show"],
        &["run", "list"],
        &["run", "token"],
        &["run", "end"],
        &["token"],
        &["token", "narrow"],
        &["token", "seal"],
        &["token", "show"],
        &["replay"],
        &["what-if"],
        &["connections"],
        &["connections", "jwks"],
        &["connections", "list"],
        &["connections", "reset"],
        &["rollback"],
        &["dead-letters"],
        &["dead-letters", "list"],
        &["dead-letters", "show"],
        &["dead-letters", "retry"],
        &["dead-letters", "drop"],
        &["webhooks"],
        &["webhooks", "list"],
        &["webhooks", "test"],
        &["webhooks", "dead"],
        &["webhooks", "retry"],
        &["webhooks", "drop"],
        &["budgets"],
        &["audit"],
        &["audit", "show"],
        &["audit", "list"],
        &["audit", "search"],
        &["audit", "verify"],
        &["audit", "prove"],
        &["audit", "export"],
        &["metrics"],
        &["export"],
        &["erase"],
        &["receipt"],
        &["receipt", "verify"],
        &["completions"],
        &["man"],
        &["compile-child"],
    ];
    for command in commands {
        // The last two are the host's own, and still say what they are.
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        place.run(0, Leaves::Nothing, &arguments)?;
    }
    Ok(())
}

/// Words that are none.
fn words(place: &mut Place) -> Verdict {
    place.run(2, Leaves::Nothing, &["cal"])?;
    place.run(2, Leaves::Nothing, &["polcy", "check"])?;
    place.run(2, Leaves::Nothing, &["tools", "lst"])?;
    place.run(2, Leaves::Nothing, &["call", "--arg", "{}", "a", "b"])?;
    place.run(2, Leaves::Nothing, &["tools", "list", "--format", "xml"])?;
    place.run(2, Leaves::Nothing, &["call", "shop"])?;
    place.run(2, Leaves::Nothing, &["audit", "verify", "--export", "x"])?;
    place.run(2, Leaves::Nothing, &["audit", "list", "--limit", "many"])?;
    place.run(2, Leaves::Nothing, &["completions", "tcsh"])?;
    place.run(0, Leaves::Nothing, &["help", "receipt"])?;
    place.run(2, Leaves::Nothing, &["help", "recepit"])?;
    for (asked, flag) in [
        (&["help"][..], &["--help"][..]),
        (&["help", "approvals"], &["approvals", "--help"]),
    ] {
        let (asked, flag) = (place.home.done(asked).unwrap(), place.home.done(flag).unwrap());
        if asked.out != flag.out {
            return Err(asked.text());
        }
    }
    Ok(())
}

fn init(place: &mut Place) -> Verdict {
    place.run(2, Leaves::Nothing, &["init"])?;
    let other = place.path("other");
    place.home = place.home.moved(&other);
    place.run(0, Leaves::Files, &["init"])?;
    place.run(0, Leaves::Nothing, &["tools", "list"])?;
    place.run(0, Leaves::Nothing, &["policy", "check"])?;
    place.run(0, Leaves::Record, &["audit", "list"])?;
    place.run(0, Leaves::Record, &["audit", "verify"])?;
    // No home at all.
    place.home = place.home.moved(Path::new("/nonexistent"));
    let none: [&[&str]; 8] = [
        &["tools", "list"],
        &["policy", "check"],
        &["call", "shop", "get"],
        &["audit", "list"],
        &["audit", "verify"],
        &["metrics"],
        &["export", "--jsonl"],
        &["inspect", "shop"],
    ];
    for command in none {
        place.run(2, Leaves::Nothing, command)?;
    }
    Ok(())
}

/// What is no component, or none that any host would run.
fn components(place: &mut Place) -> Verdict {
    let whole = wit::component(SHOP);
    place.file("text.wasm", "hello");
    place.file("empty.wasm", "");
    place.file("core.wasm", b"\0asm\x01\0\0\0");
    place.file("cut.wasm", &whole[..whole.len() / 2]);
    place.file(
        "damaged.wasm",
        [&whole[..60], b"\xff\xff\xff\xff", &whole[64..]].concat(),
    );
    fs::File::create(place.path("large.wasm"))
        .unwrap()
        .set_len(100 << 20)
        .unwrap();
    place.file("whole.wasm", &whole);
    for name in ["text", "empty", "core", "cut", "damaged", "large", "missing"] {
        let file = place.path(&format!("{name}.wasm"));
        let code = if name == "missing" { 2 } else { 1 };
        let add: [&OsStr; 4] = ["tools".as_ref(), "add".as_ref(), "shop".as_ref(), file.as_os_str()];
        place.run(code, Leaves::Nothing, &add)?;
    }
    let whole = place.path("whole.wasm");
    let add = |name: &str| -> [OsString; 4] { ["tools".into(), "add".into(), name.into(), whole.clone().into()] };
    place.run(1, Leaves::Nothing, &add("../escape"))?;
    place.run(0, Leaves::Files, &add("shop"))?;
    place.run(1, Leaves::Nothing, &add("shop"))?;
    let wider = place.file(
        "wider.wasm",
        wit::component(&SHOP.replace("reads(id, status)", "reads(**)")),
    );
    let accept: [&OsStr; 4] = ["tools".as_ref(), "accept".as_ref(), "shop".as_ref(), wider.as_os_str()];
    place.run(1, Leaves::Nothing, &accept)?;
    place.run(0, Leaves::Nothing, &["inspect", "shop"])?;
    place.run(0, Leaves::Nothing, &["inspect", "shop", "--function", "get"])?;
    Ok(())
}

/// Worlds that ask for what no host serves, or do not say for what.
fn scopes(place: &mut Place) -> Verdict {
    let http = "import stripe: ambit:capability/http@0.1.0;";
    let worlds = [
        ("no_scope", format!("{http} export go: func();")),
        (
            "bad_method",
            format!("@external-id(\"FETCH https://a.com/\") {http} export go: func();"),
        ),
        (
            "bad_host",
            format!("@external-id(\"GET https://*.stripe.com/v1\") {http} export go: func();"),
        ),
        (
            "bad_list",
            format!("@external-id(\"GET https://a.com/v1 read(id)\") {http} export go: func();"),
        ),
        (
            "not_closed",
            format!("@external-id(\"GET https://a.com/v1 reads(id\") {http} export go: func();"),
        ),
        ("function", "@external-id(\"reads\") export go: func();".to_owned()),
        (
            "undo",
            "@external-id(\"commit undo(back)\") export go: func();".to_owned(),
        ),
    ];
    for (name, world) in worlds {
        let bytes = wit::component(&format!("package acme:shop;\nworld tool {{ {world} }}"));
        let file = place.file(&format!("{name}.wasm"), bytes);
        let add: [&OsStr; 4] = ["tools".as_ref(), "add".as_ref(), "shop".as_ref(), file.as_os_str()];
        place.run(1, Leaves::Nothing, &add)?;
    }
    let served = "package acme:shop;\ninterface store { get: func(key: string) -> string; }\n\
                  world tool { import store; export go: func(); }";
    let file = place.file("nobody.wasm", wit::component(served));
    let add: [&OsStr; 4] = ["tools".as_ref(), "add".as_ref(), "shop".as_ref(), file.as_os_str()];
    place.run(1, Leaves::Nothing, &add)?;
    Ok(())
}

fn configuration(place: &mut Place) -> Verdict {
    place.configure(&CONFIGURED.replace("credential =", "credentials ="));
    place.run(2, Leaves::Nothing, &["policy", "check"])?;
    place.configure(&CONFIGURED.replace("reads = [\"id\", \"status\"]", "raeds = [\"id\"]"));
    // That it does not open is on its ledger, once.
    place.run(2, Leaves::Record, &["call", "shop", "get"])?;
    place.run(2, Leaves::Record, &["call", "shop", "get"])?;
    place.configure(CONFIGURED);
    place.run(0, Leaves::Record, &["audit", "search", "--kind", "act-refused"])?;
    place.configure("[agent.assistant\nteam = \"support\"");
    place.run(2, Leaves::Nothing, &["tools", "list"])?;
    place.configure(&format!("{CONFIGURED}\n[tool.shop.bind]\nstripe = \"strip\"\n"));
    place.run(2, Leaves::Nothing, &["policy", "check"])?;
    place.configure(&CONFIGURED.replace("allow_private = true", "allow_private = \"yes\""));
    place.run(2, Leaves::Nothing, &["policy", "check"])?;
    Ok(())
}

/// Routes that cannot be told apart, and one through which a guest could set the credential.
fn routes(place: &mut Place) -> Verdict {
    let tie = "[connection.stripe.route.\"charges.find\"]\nmatch = \"GET /v1/charges/{charge}\"\n";
    place.configure(&format!("{CONFIGURED}\n{tie}"));
    place.run(2, Leaves::Nothing, &["policy", "check"])?;
    let own = CONFIGURED.replace("as = \"bearer\"", "as = { header = \"X-Api-Key\" }");
    let route = "[connection.stripe.route.\"charges.find\"]\nmatch = \"GET /v1/charges\"\nheaders = [\"x-api-key\"]\n";
    place.configure(&format!("{own}\n{route}"));
    place.run(2, Leaves::Nothing, &["policy", "check"])?;
    Ok(())
}

fn policies(place: &mut Place) -> Verdict {
    place.configure(CONFIGURED);
    let rule = |when: &str| {
        format!("@id(\"refunds\")\npermit (principal, action == Action::\"commit\", resource)\nwhen {{ {when} }};\n")
    };
    let texts = [
        "permit (principal, action, resource)".to_owned(),
        "permit (principal, action, resource);".to_owned(),
        rule("context.spend.minor <= \"50000\""),
        rule("context.spent.minor <= 50000"),
        rule("context.spend.minor + 1 <= 50000"),
        rule("context.approvals.finance >= 1"),
        rule("!(context.approvals.reviewer >= 1)"),
        format!("{}{}", rule("true"), rule("true")),
    ];
    for text in texts {
        place.home.permit(&text).unwrap();
        place.run(2, Leaves::Nothing, &["policy", "check"])?;
    }
    place.run(2, Leaves::Record, &["call", "shop", "get"])?;
    Ok(())
}

/// Rates and breakers: how they stand, what is none, and what an operator closes.
fn connections(place: &mut Place) -> Verdict {
    place.run(0, Leaves::Record, &["connections", "list"])?;
    place.ready();
    place.run(0, Leaves::Record, &["connections", "list"])?;
    let limited = CONFIGURED.replace(
        "credential =",
        "rate = { per = \"minute\", most = 60, burst = 10 }\nbreaker = { failures = 5, within = \"60s\", open = \"30s\" }\ncredential =",
    );
    place.configure(&limited);
    place.run(0, Leaves::Record, &["connections", "list"])?;
    place.run(0, Leaves::Record, &["connections", "list", "--format", "json"])?;
    place.run(2, Leaves::Record, &["connections", "jwks", "strip"])?;
    place.run(1, Leaves::Record, &["connections", "jwks", "stripe"])?;
    place.run(2, Leaves::Record, &["connections", "reset", "strip"])?;
    place.run(0, Leaves::Record, &["connections", "reset", "stripe"])?;
    place.run(2, Leaves::Record, &["rollback", "c_none"])?;
    place.run(2, Leaves::Record, &["rollback", "r_none"])?;
    place.run(2, Leaves::Record, &["rollback"])?;
    place.run(2, Leaves::Record, &["rollback", "c_none", "--yes", "--dry-run"])?;
    place.run(0, Leaves::Record, &["dead-letters", "list"])?;
    place.run(0, Leaves::Record, &["dead-letters", "list", "--format", "json"])?;
    place.run(2, Leaves::Record, &["dead-letters", "show", "c_none"])?;
    place.run(2, Leaves::Record, &["dead-letters", "retry", "c_none"])?;
    place.run(
        2,
        Leaves::Record,
        &["dead-letters", "drop", "c_none", "--because", "unneeded"],
    )?;
    place.run(0, Leaves::Record, &["webhooks", "list"])?;
    place.run(2, Leaves::Record, &["webhooks", "test", "pager"])?;
    place.run(0, Leaves::Record, &["webhooks", "dead"])?;
    place.run(0, Leaves::Record, &["webhooks", "dead", "--format", "json"])?;
    place.run(2, Leaves::Record, &["webhooks", "retry", "msg_none"])?;
    place.run(2, Leaves::Record, &["webhooks", "drop", "msg_none"])?;
    place.run(2, Leaves::Record, &["dead-letters", "drop", "c_none"])?;
    for wrong in ["failures = 0", "failures = 5, witin = \"60s\""] {
        place.configure(&limited.replace("failures = 5", wrong));
        place.run(2, Leaves::Record, &["connections", "list"])?;
    }
    Ok(())
}

/// `policy init`: nothing is in force until a person renames it, and then it is.
fn proposal(place: &mut Place) -> Verdict {
    place.run(2, Leaves::Nothing, &["policy", "init"])?;
    place.ready();
    let folder = place.home.folder().join("policy");
    place.run(0, Leaves::Files, &["policy", "init"])?;
    let proposed = folder.join("proposed.cedar.txt");
    let text = fs::read_to_string(&proposed).unwrap();
    place.shown.push_str(&format!("policy/proposed.cedar.txt:\n{text}\n"));
    place.run(1, Leaves::Nothing, &["policy", "init"])?;
    fs::write(&proposed, "").unwrap();
    place.run(0, Leaves::Files, &["policy", "init", "--force"])?;
    let again = fs::read_to_string(&proposed).unwrap();
    if again != text {
        return Err(format!("--force wrote something else:\n{again}"));
    }
    // In force it is only when it is renamed, beside the policy that the tool was permitted by.
    let before = place.home.done(["policy", "check"]).unwrap();
    if before.out.contains("refunds.create") {
        return Err("the proposal is in force".to_owned());
    }
    fs::rename(&proposed, folder.join("proposed.cedar")).unwrap();
    place.run(0, Leaves::Nothing, &["policy", "check"])?;
    // Decided, it still validates: the slashes are all that is in the way.
    fs::write(folder.join("proposed.cedar"), text.replace("// when", "when")).unwrap();
    let decided = place.run(0, Leaves::Nothing, &["policy", "check"])?;
    if decided.out.contains("customers.delete") {
        return Err("a route is proposed that the tool does not declare".to_owned());
    }
    Ok(())
}

fn arguments(place: &mut Place) -> Verdict {
    place.ready();
    let whole = r#"{"charge": "ch_1", "amount": 1, "items": []}"#;
    let texts = [
        "{}",
        r#"{"charge": "ch_1", "items": []}"#,
        r#"{"charge": "ch_1", "amuont": 1, "items": []}"#,
        r#"{"charge": "ch_1", "amount": 1, "items": [], "currency": "usd"}"#,
        r#"{"charge": "ch_1", "amount": "one", "items": []}"#,
        r#"{"charge": "ch_1", "amount": 1, "reason": "fraud", "items": []}"#,
        r#"{"charge": "ch_1", "amount": 1, "items": [{"sku": "a", "count": 1}, {"sku": "b", "count": 256}]}"#,
        r#"{"charge": "ch_1", "charge": "ch_2", "amount": 1, "items": []}"#,
        "[]",
        "charge=ch_1",
    ];
    for text in texts {
        place.run(1, Leaves::Record, &["call", "shop", "create", "--args", text])?;
    }
    place.run(
        2,
        Leaves::Nothing,
        &["call", "shop", "create", "--args", "@missing.json"],
    )?;
    place.run(
        1,
        Leaves::Record,
        &["call", "shop", "create", "--as", "nobody", "--args", whole],
    )?;
    place.run(
        1,
        Leaves::Record,
        &["call", "shop", "create", "--for", "eve", "--args", whole],
    )?;
    place.run(
        2,
        Leaves::Nothing,
        &["call", "shop", "create", "--trace", "xyz", "--args", whole],
    )?;
    Ok(())
}

fn large_input(place: &mut Place) -> Verdict {
    place.ready();
    let large = format!(r#"{{"id": "{}"}}"#, "x".repeat(10 << 20));
    place.run_with(1, Leaves::Record, &["call", "shop", "get", "--args", "-"], &large)?;
    let deep = format!(r#"{{"id": {}{}}}"#, "[".repeat(5 << 20), "]".repeat(5 << 20));
    place.run_with(1, Leaves::Record, &["call", "shop", "get", "--args", "-"], &deep)?;
    Ok(())
}

/// A tool whose import is bound to nothing.
/// What a tool can do and can never do, for reviewers and for agents.
fn contracts(place: &mut Place) -> Verdict {
    place.ready();
    place.run(2, Leaves::Nothing, &["contract"])?;
    place.run(1, Leaves::Nothing, &["contract", "shopp"])?;
    place.run(1, Leaves::Nothing, &["contract", "--for", "asistant"])?;
    place.run(0, Leaves::Nothing, &["contract", "shop"])?;
    let budget = "[budget.refunds]\nunit = \"usd\"\nwindow = \"day\"\ncap = 50000\nover = { ask = \"reviewer\" }\n";
    let agent = "[agent.clerk]\nteam = \"books\"\ntenant = \"acme\"\n";
    place.configure(&format!(
        "{CONFIGURED}\n[tool.shop.bind]\nstripe = \"stripe\"\n{budget}{agent}[approvals]\nbreak_glass = \"reviewer\"\n"
    ));
    let refunds = r#"
@id("refunds")
@hint("refunds of up to 500 USD pass")
permit (principal in Team::"support", action == Action::"commit", resource == Route::"stripe/refunds.create")
when { context.spend.kind == "known" && context.spend.currency == "usd" && context.spend.minor <= 50000 };
@id("suggest")
forbid (principal, action == Action::"commit", resource)
when { context.mode == "suggest" } unless { context.approvals.reviewer >= 1 };
"#;
    place.home.permit(&format!("{PERMITTED}{refunds}")).unwrap();
    place.run(0, Leaves::Nothing, &["contract", "shop"])?;
    place.run(0, Leaves::Nothing, &["contract", "--for", "assistant", "--for-agents"])?;
    place.run(0, Leaves::Nothing, &["contract", "--for", "clerk"])?;
    place.run(
        0,
        Leaves::Nothing,
        &["contract", "shop", "--for", "clerk", "--format", "json"],
    )?;
    place.run(0, Leaves::Nothing, &["contract", "shop", "--html"])?;
    Ok(())
}

fn unbound(place: &mut Place) -> Verdict {
    place.configure(CONFIGURED);
    place.home.permit(PERMITTED).unwrap();
    let stripe = component("stripe");
    let add: [&OsStr; 4] = ["tools".as_ref(), "add".as_ref(), "pay".as_ref(), stripe.as_os_str()];
    let added = place.home.done(add).unwrap();
    place.show(
        "tools add pay stripe.wasm",
        &Run {
            out: String::new(),
            ..added
        },
    );
    place.run(
        1,
        Leaves::Record,
        &["call", "pay", "charges.get", "--args", r#"{"id": "ch_1"}"#],
    )?;
    place.run(0, Leaves::Nothing, &["tools", "list"])?;
    // Bound, and not permitted.
    place.configure(&format!("{CONFIGURED}\n[tool.pay.bind]\nstripe = \"stripe\"\n"));
    place.run(
        1,
        Leaves::Record,
        &["call", "pay", "charges.get", "--args", r#"{"id": "ch_1"}"#],
    )?;
    // A label that is none.
    place.configure(&format!("{CONFIGURED}\n[tool.pay.bind]\nstrip = \"stripe\"\n"));
    place.run(
        1,
        Leaves::Record,
        &["call", "pay", "charges.get", "--args", r#"{"id": "ch_1"}"#],
    )?;
    Ok(())
}

fn names(place: &mut Place) -> Verdict {
    place.ready();
    place.run(1, Leaves::Record, &["call", "shp", "get"])?;
    place.run(1, Leaves::Record, &["call", "shop", "refund.creat"])?;
    place.run(2, Leaves::Nothing, &["inspect", "shp"])?;
    place.run(2, Leaves::Nothing, &["inspect", "shop", "--function", "gte"])?;
    place.run(2, Leaves::Nothing, &["tools", "remove", "shp"])?;
    place.run(2, Leaves::Nothing, &["tools", "accept", "till", "missing.wasm"])?;
    place.run(1, Leaves::Record, &["call", "shop", "get", "--as", "asistant"])?;
    place.run(2, Leaves::Record, &["run", "start", "--as", "asistant"])?;
    place.run(2, Leaves::Record, &["person", "revoke", "rita"])?;
    place.run(2, Leaves::Record, &["audit", "show", "c_none"])?;
    let (receipt, key) = (place.file("r.json", "{}"), place.home.folder().join("keys/ledger.pub"));
    let verify: [OsString; 5] = [
        "receipt".into(),
        "verify".into(),
        receipt.into(),
        "--key".into(),
        key.into(),
    ];
    place.run(1, Leaves::Nothing, &verify)?;
    let (receipt, key) = (place.path("r.json"), place.path("r.json"));
    let verify: [OsString; 5] = [
        "receipt".into(),
        "verify".into(),
        receipt.into(),
        "--key".into(),
        key.into(),
    ];
    place.run(2, Leaves::Nothing, &verify)?;
    Ok(())
}

/// An id of nothing, and a beginning that several have, are slips in the arguments wherever an id is taken: one exit code, one wording,
/// and the command that lists what there is.
fn ids(place: &mut Place) -> Verdict {
    place.ready();
    let glass = "[approvals]\nbreak_glass = \"reviewer\"\n[group.reviewer]";
    let with_glass = CONFIGURED.replace("[group.reviewer]", glass);
    place.configure(&format!("{with_glass}\n[tool.shop.bind]\nstripe = \"stripe\"\n"));
    let key = place.path("rita.key").display().to_string();
    let policy = place.home.folder().join("policy").display().to_string();
    let bundle = place.path("bundle.json").display().to_string();
    let done = |arguments: &[&str]| place.home.done(arguments).map_err(|error| error.to_string());
    done(&["person", "key", "rita", "--output", &key])?;
    for _ in 0..2 {
        done(&["run", "start"])?;
        let denied = place.home.run(["call", "shop", "nothing"], "");
        denied.map_err(|error| error.to_string())?;
    }
    let of_calls: &[&[&str]] = &[
        &["audit", "show", "ID"],
        &["audit", "prove", "ID"],
        &["calls", "resume", "ID"],
        &["calls", "end", "ID"],
        &["calls", "resolve", "ID", "--done"],
        &["calls", "resolve", "ID", "--retry"],
        &["replay", "ID"],
        &["replay", "--bundle", &bundle, "ID"],
        &["rollback", "ID"],
        &["what-if", "--policy", &policy, "--call", "ID"],
        &["policy", "learn", "--from", "ID"],
    ];
    let of_runs: &[&[&str]] = &[
        &["run", "show", "ID"],
        &["run", "end", "ID"],
        &["call", "shop", "get", "--run", "ID"],
        &["serve", "--stdio", "--run", "ID"],
        &["audit", "list", "--run", "ID"],
        &["replay", "ID"],
        &["policy", "learn", "--from", "ID"],
        &["policy", "learn", "--run", "ID"],
        &["kill", "run:ID", "--reason", "x"],
    ];
    let of_holds: &[&[&str]] = &[
        &["approvals", "show", "ID"],
        &["approvals", "resume", "ID"],
        &["approvals", "approve", "ID", "--key", &key],
        &["approvals", "reject", "ID", "--key", &key],
        &["approvals", "edit", "ID", "--key", &key, "--set", "amount=1"],
        &["approvals", "break-glass", "ID", "--key", &key, "--reason", "x"],
    ];
    let of_letters: &[&[&str]] = &[
        &["dead-letters", "show", "ID"],
        &["dead-letters", "retry", "ID"],
        &["dead-letters", "drop", "ID", "--because", "wrong"],
    ];
    let none = |place: &mut Place, commands: &[&[&str]], id: &str, words: &str, list: &str| {
        commands.iter().try_for_each(|command| {
            let arguments: Vec<String> = command.iter().map(|argument| argument.replace("ID", id)).collect();
            let run = place.home.run(&arguments, "").map_err(|error| error.to_string())?;
            let told = format!("{words} `{id}`");
            let said = run.err.contains(&told) && run.err.contains(list);
            if run.code != Some(2) || !run.out.is_empty() || !said {
                return Err(format!(
                    "{}: not `{told}` and `{list}`: {}",
                    arguments.join(" "),
                    run.text()
                ));
            }
            Ok(())
        })
    };
    none(
        place,
        of_calls,
        "c_none",
        "no call has an id that begins with",
        "`ambit audit list`",
    )?;
    none(
        place,
        of_calls,
        "c_",
        "several calls have ids that begin with",
        "Among them: c_",
    )?;
    none(
        place,
        of_runs,
        "r_none",
        "no run has an id that begins with",
        "`ambit run list`",
    )?;
    none(
        place,
        &of_runs[..8],
        "r_",
        "several runs have ids that begin with",
        "Among them: r_",
    )?;
    for id in ["c_none", "abcdef", "nonsense"] {
        let words = "nothing waits whose hold or call has an id that begins with";
        none(place, of_holds, id, words, "`ambit approvals list`")?;
    }
    let words = "no dead letter is of a call whose id begins with";
    none(place, of_letters, "c_none", words, "`ambit dead-letters list`")?;
    // One of each as it is read.
    place.run(2, Leaves::Record, &["audit", "show", "c_none"])?;
    place.run(2, Leaves::Record, &["rollback", "r_none"])?;
    place.run(2, Leaves::Record, &["run", "show", "r_none"])?;
    place.run(2, Leaves::Record, &["approvals", "show", "nonsense"])?;
    place.run(2, Leaves::Record, &["dead-letters", "show", "c_none"])?;
    Ok(())
}

fn credentials(place: &mut Place) -> Verdict {
    place.ready();
    let bound = format!("{CONFIGURED}\n[tool.shop.bind]\nstripe = \"stripe\"\n");
    place.configure(&bound.replace("STRIPE_KEY", "STRIPE_KYE"));
    place.run(2, Leaves::Record, &["call", "shop", "get", "--args", r#"{"id": "x"}"#])?;
    place.configure(&bound.replace("env = \"STRIPE_KEY\"", "file = \"missing\""));
    place.run(2, Leaves::Record, &["call", "shop", "get", "--args", r#"{"id": "x"}"#])?;
    Ok(())
}

/// People and their keys.
fn people(place: &mut Place) -> Verdict {
    place.ready();
    let key = place.path("rita.key").display().to_string();
    place.run(0, Leaves::Record, &["person", "list"])?;
    let made = place.run(0, Leaves::Nothing, &["person", "key", "rita", "--output", &key])?;
    place.run(2, Leaves::Nothing, &["person", "key", "rita", "--output", &key])?;
    place.run(1, Leaves::Nothing, &["person", "key", "ri ta", "--output", "other"])?;
    place.run(2, Leaves::Nothing, &["person", "enrol", "rita"])?;
    place.run(2, Leaves::Nothing, &["person", "enrol", &format!("@{key}")])?;
    place.run(2, Leaves::Nothing, &["person", "enrol", "@missing"])?;
    place.run(0, Leaves::Record, &["person", "enrol", made.out.trim()])?;
    place.run(1, Leaves::Record, &["person", "enrol", made.out.trim()])?;
    place.run(0, Leaves::Record, &["person", "list"])?;
    let given = |place: &mut Place, code, to: &str, until: &str| {
        let command = [
            "person", "delegate", "--to", to, "--group", "reviewer", "--until", until, "--key", &key,
        ];
        place.run(code, Leaves::Record, &command).map(drop)
    };
    given(place, 2, "sam", "8h")?;
    given(place, 2, "rta", "8h")?;
    given(place, 1, "rita", "8h")?;
    given(place, 2, "sam", "tomorrow")?;
    given(place, 2, "sam", "91d")?;
    given(place, 2, "sam", "2026-01-01")?;
    let back = [
        "person",
        "undelegate",
        "--to",
        "sam",
        "--group",
        "reviewer",
        "--key",
        &key,
    ];
    place.run(1, Leaves::Record, &back)?;
    place.run(2, Leaves::Record, &["person", "revoke", "sam"])?;
    place.run(0, Leaves::Record, &["person", "revoke", "rita"])?;
    Ok(())
}

/// Keys of agents over HTTP.
fn keys(place: &mut Place) -> Verdict {
    place.ready();
    let create =
        |place: &mut Place, code, more: &[&str]| place.run(code, Leaves::Record, &[&["keys", "create"], more].concat());
    place.run(0, Leaves::Record, &["keys", "list"])?;
    create(place, 2, &["--expires-in", "never"])?;
    create(place, 1, &["--expires-in", "367d"])?;
    create(place, 1, &["--as", "assistent"])?;
    create(place, 1, &["--for", "bob"])?;
    create(place, 1, &["--tool", "shp"])?;
    create(place, 1, &["--function", "shop.creat"])?;
    create(place, 2, &["--function", "shop"])?;
    create(place, 1, &["--connection", "strip"])?;
    create(place, 1, &["--name", "two words"])?;
    create(place, 1, &["--name", "k_laptop"])?;
    create(place, 0, &["--format", "json"])?;
    let scoped = [
        "--for",
        "ada",
        "--function",
        "shop.get",
        "--connection",
        "stripe",
        "--tier",
        "read",
        "--expires-in",
        "12h",
        "--name",
        "ci",
    ];
    create(place, 0, &scoped)?;
    create(place, 2, &["--name", "ci"])?;
    place.run(0, Leaves::Record, &["keys", "list"])?;
    place.run(1, Leaves::Record, &["keys", "rotate", "cd"])?;
    place.run(0, Leaves::Record, &["keys", "rotate", "ci", "--expires-in", "1d"])?;
    place.run(0, Leaves::Record, &["keys", "revoke", "ci"])?;
    place.run(1, Leaves::Record, &["keys", "revoke", "ci"])?;
    // For a while there are two of a name.
    create(place, 0, &["--name", "laptop"])?;
    place.run(0, Leaves::Record, &["keys", "rotate", "laptop", "--overlap", "1h"])?;
    place.run(2, Leaves::Record, &["keys", "revoke", "laptop"])?;
    place.run(0, Leaves::Record, &["keys", "list", "--all"])?;
    place.run(0, Leaves::Record, &["audit", "verify"])?;
    Ok(())
}

/// Nothing waits, and what is said about it counts for nothing.
fn holds(place: &mut Place) -> Verdict {
    place.ready();
    let key = place.path("rita.key").display().to_string();
    place
        .home
        .done(["person", "key", "rita", "--output", &key])
        .map_err(|error| error.to_string())?;
    place.run(0, Leaves::Record, &["approvals", "list"])?;
    place.run(2, Leaves::Record, &["approvals", "show", "abc"])?;
    place.run(2, Leaves::Record, &["approvals", "resume", "c_abc"])?;
    place.run(2, Leaves::Record, &["approvals", "approve", "abc"])?;
    place.run(2, Leaves::Record, &["approvals", "approve", "abc", "--key", "missing"])?;
    place.run(2, Leaves::Record, &["approvals", "approve", "abc", "--key", &key])?;
    let glass = ["approvals", "break-glass", "abc", "--key", &key, "--reason", "fire"];
    place.run(1, Leaves::Record, &glass)?;
    place.run(2, Leaves::Record, &["approvals", "break-glass", "abc", "--key", &key])?;
    // What is said of a hold that is over, or never was, does not count, which is on the ledger.
    let over = "0".repeat(64);
    place.run(1, Leaves::Record, &["approvals", "reject", &over, "--key", &key])?;
    let edit = ["approvals", "edit", &over, "--key", &key, "--set", "amount=1"];
    place.run(1, Leaves::Record, &edit)?;
    let reader = ambit_runtime::store::Reader::open(place.home.folder()).map_err(|error| error.to_string())?;
    let entries = reader.entries(0, 1_000).map_err(|error| error.to_string())?;
    let why = entries.iter().filter_map(|entry| match entry.body() {
        ambit_core::ledger::Body::VoteRefused(refused) => Some(refused.why.as_str()),
        _ => None,
    });
    if why.collect::<Vec<_>>() != ["no-such-hold", "no-such-hold"] {
        return Err("what does not count is not on the ledger".to_owned());
    }
    let edit = ["approvals", "edit", "abc", "--key", &key, "--set", "amount=1"];
    place.run(2, Leaves::Record, &edit)?;
    place.run(2, Leaves::Record, &["approvals", "edit", "abc", "--key", &key])?;
    place.run(0, Leaves::Record, &["approvals", "approve", "--all", "--key", &key])?;
    place.run(0, Leaves::Record, &["approvals", "resume", "--all"])?;
    place.run(
        2,
        Leaves::Record,
        &["approvals", "approve", "abc", "--all", "--key", &key],
    )?;
    place.run(
        2,
        Leaves::Record,
        &["approvals", "reject", "--tool", "shop", "--key", &key],
    )?;
    place.run(
        2,
        Leaves::Record,
        &["approvals", "reject", "--all", "--max-minor", "9", "--key", &key],
    )?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    place.run(2, Leaves::Record, &["approvals", "reject", "abc", "--key", &key])?;
    place.run(
        2,
        Leaves::Record,
        &["approvals", "approve", "abc", "--key", &key, "--minutes", "0"],
    )?;
    place.run(2, Leaves::Record, &["call", "shop", "get", "--mode", "pretend"])?;
    place.run(0, Leaves::Record, &["replay"])?;
    place.run(2, Leaves::Record, &["replay", "c_abc"])?;
    place.run(2, Leaves::Record, &["replay", "r_abc"])?;
    place.run(1, Leaves::Record, &["call", "shop", "nothing"])?;
    place.run(0, Leaves::Record, &["replay"])?;
    place.run(0, Leaves::Record, &["replay", "--record"])?;
    place.run(0, Leaves::Record, &["calls"])?;
    place.run(0, Leaves::Record, &["calls", "--in-doubt"])?;
    place.run(2, Leaves::Record, &["calls", "resume"])?;
    place.run(0, Leaves::Record, &["calls", "resume", "--all"])?;
    place.run(2, Leaves::Record, &["calls", "resume", "c_abc"])?;
    place.run(2, Leaves::Record, &["calls", "resolve", "c_abc"])?;
    place.run(
        2,
        Leaves::Record,
        &["calls", "resolve", "c_abc", "--done", "--not-done"],
    )?;
    place.run(
        2,
        Leaves::Record,
        &["calls", "resolve", "c_abc", "--retry", "--reason", "it is slow"],
    )?;
    place.run(2, Leaves::Record, &["calls", "end", "c_abc"])?;
    Ok(())
}

/// What is counted and exported, and what cannot be.
fn metrics(place: &mut Place) -> Verdict {
    place.ready();
    place.run(1, Leaves::Record, &["call", "shop", "nothing"])?;
    for arguments in [
        &["metrics"][..],
        &["metrics", "--openmetrics"],
        &["metrics", "--since", "2026-01-01", "--format", "json"],
    ] {
        let run = place.home.done(arguments).map_err(|error| error.to_string())?;
        if !run.out.contains("ambit_calls_total") || run.out.contains("nothing") {
            return Err(format!("it says something else:\n{}", run.text()));
        }
    }
    place.run(2, Leaves::Record, &["metrics", "--since", "yesterday"])?;
    place.run(2, Leaves::Record, &["metrics", "--since", "2999-01-01"])?;
    place.run(2, Leaves::Record, &["export"])?;
    place.run(2, Leaves::Record, &["export", "--jsonl", "--ocsf"])?;
    place.run(2, Leaves::Record, &["export", "--ocsf", "--values"])?;
    place.run(2, Leaves::Record, &["export", "--otlp", "--values"])?;
    place.run(
        2,
        Leaves::Record,
        &["export", "--jsonl", "--since", "2026-01-02", "--until", "2026-01-01"],
    )?;
    place.run(1, Leaves::Record, &["export", "--jsonl", "--after", "1000"])?;
    let all = place
        .home
        .done(["export", "--ocsf"])
        .map_err(|error| error.to_string())?;
    let last = all.out.lines().count() - 1;
    if !all.err.contains(&format!("--after {last}")) {
        return Err(format!("it does not say where to go on:\n{}", all.err));
    }
    let none = place
        .home
        .done(["export", "--jsonl", "--after", &last.to_string()])
        .map_err(|error| error.to_string())?;
    if !none.out.is_empty()
        || !none
            .err
            .contains(&format!("0 lines; the next export goes on with --after {last}"))
    {
        return Err(format!("there is no more:\n{}", none.text()));
    }
    place.home.set("AMBIT_LOG", "ambit=loud");
    place.run(2, Leaves::Record, &["metrics"])?;
    place.run(2, Leaves::Record, &["status", "--log-format", "xml"])?;
    Ok(())
}

/// Runs that are started, used, ended, and that cannot be.
fn runs(place: &mut Place) -> Verdict {
    place.ready();
    place.run(0, Leaves::Record, &["run", "list"])?;
    let plain = ["run", "start", "--for", "ada"];
    for slip in [
        &["--money", "usd"][..],
        &["--money", "usf=5"],
        &["--money", "usd=5", "--money", "usd=6"],
        &["--over", "finance:2", "--calls", "5"],
        &["--over", ":2", "--effects", "5"],
        &["--over", "nobody", "--effects", "5"],
        &["--calls", "0"],
        &["--calls", "many"],
        &["--errors", "101"],
        &["--errors-of", "0"],
        &["--expires", "32d"],
        &["--expires", "soon"],
        &["--as", "nobody"],
        &["--for", "eve"],
    ] {
        let named: &[&str] = if slip[0] == "--for" { &plain[..2] } else { &plain };
        let asked: Vec<&str> = named.iter().chain(slip).copied().collect();
        let refused = ["usf=5", "0", "eve"];
        let code =
            if (refused.contains(&slip[1]) && slip[0] != "--errors-of") || slip[0] == "--over" && slip[1] == "nobody" {
                1
            } else {
                2
            };
        place.run(code, Leaves::Record, &asked)?;
    }
    let limits = [
        "--calls",
        "2",
        "--money",
        "usd=5000",
        "--over",
        "reviewer:2",
        "--mode",
        "suggest",
        "--expires",
        "90m",
    ];
    let asked: Vec<&str> = plain.into_iter().chain(limits).collect();
    let started = place.run(0, Leaves::Record, &asked)?;
    let run = started.out.trim().to_owned();
    let call = ["call", "shop", "nothing", "--for", "ada", "--run"];
    let of_run = |more: &[&str]| -> Vec<String> {
        let all = call.iter().copied().chain(more.iter().copied());
        all.map(str::to_owned).collect()
    };
    place.run(1, Leaves::Record, &of_run(&[&run]))?;
    place.run(1, Leaves::Record, &of_run(&[&run, "--mode", "execute"]))?;
    place.run(2, Leaves::Record, &of_run(&["r_none"]))?;
    place.run(1, Leaves::Record, &["call", "shop", "nothing", "--run", &run])?;
    place.run(0, Leaves::Record, &["run", "list"])?;
    place.run(0, Leaves::Record, &["run", "show", &run])?;
    let beginning = place.home.done(["run", "show", &run[..8]]).unwrap();
    if !beginning.out.contains(&run) {
        return Err(beginning.text());
    }
    place.run(2, Leaves::Record, &["run", "show", "r_none"])?;
    place.run(0, Leaves::Record, &["run", "show", &run, "--limit", "2"])?;
    let calls = place.home.done(["audit", "list", "--run", &run]).unwrap();
    if calls.out.lines().count() != 3 {
        return Err(calls.text());
    }
    place.run(0, Leaves::Record, &["replay", &run])?;
    place.run(0, Leaves::Record, &["run", "end", &run])?;
    place.run(1, Leaves::Record, &["run", "end", &run])?;
    place.run(1, Leaves::Record, &of_run(&[&run]))?;
    place.run(0, Leaves::Record, &["run", "list", "--open"])?;
    place.run(0, Leaves::Record, &["run", "list", "--format", "json"])?;
    place.run(
        0,
        Leaves::Record,
        &["run", "show", &run, "--limit", "1", "--format", "json"],
    )?;
    place.run(0, Leaves::Record, &["audit", "verify"])?;
    Ok(())
}

/// A token of a run, and what comes of it offline.
fn tokens(place: &mut Place) -> Verdict {
    place.ready();
    let start = ["run", "start", "--for", "ada", "--expires", "8h"];
    let run = place
        .home
        .done(start)
        .map_err(|error| error.to_string())?
        .out
        .trim()
        .to_owned();
    place.run(2, Leaves::Record, &["run", "token", "r_none"])?;
    for time in ["soon", "0s"] {
        place.run(2, Leaves::Record, &["run", "token", &run, "--expires", time])?;
    }
    place.run(1, Leaves::Record, &["run", "token", &run, "--expires", "25h"])?;
    // The home's key is made with the first one.
    let token = place
        .run(0, Leaves::Files, &["run", "token", &run, "--expires", "10m"])?
        .out;
    place.run(0, Leaves::Record, &["run", "token", &run, "--format", "json"])?;
    let narrow = |place: &mut Place, code, more: &[&str], word: &str| {
        place.run_with(code, Leaves::Nothing, &[&["token", "narrow"], more].concat(), word)
    };
    narrow(place, 2, &[], &token)?;
    narrow(place, 2, &["--money", "usd"], &token)?;
    narrow(place, 2, &["--money", "usd=1", "--money", "usd=2"], &token)?;
    narrow(place, 2, &["--function", "shop"], &token)?;
    narrow(place, 2, &["--tool", "a\"b"], &token)?;
    narrow(place, 2, &["--expires", "soon"], &token)?;
    for (code, word) in [(2, ""), (1, "a token"), (1, &token[..60])] {
        narrow(place, code, &["--tier", "read"], word)?;
        place.run_with(code, Leaves::Nothing, &["token", "show"], word)?;
    }
    let less = [
        "--tool",
        "mail",
        "--function",
        "shop/shop.get",
        "--connection",
        "stripe",
        "--tier",
        "draft",
        "--money",
        "usd=1000",
        "--expires",
        "5m",
    ];
    let narrowed = narrow(place, 0, &less, &token)?.out;
    let twice = narrow(place, 0, &["--tool", "shop", "--format", "json"], &narrowed)?;
    let twice = twice
        .json()
        .and_then(|document| document["token"].as_str().map(str::to_owned));
    let twice = twice.ok_or("no token")?;
    for word in [&token, &narrowed, &twice] {
        place.run_with(0, Leaves::Nothing, &["token", "show"], word)?;
        place.run_with(0, Leaves::Nothing, &["token", "show", "--verify"], word)?;
    }
    place.run_with(0, Leaves::Nothing, &["token", "show", "--format", "json"], &twice)?;
    let sealed = place.run_with(0, Leaves::Nothing, &["token", "seal"], &narrowed)?.out;
    narrow(place, 1, &["--tier", "read"], &sealed)?;
    place.run_with(0, Leaves::Nothing, &["token", "show", "--verify"], &sealed)?;
    // Whoever mangles a token has one that says something, and is none of this home.
    let mut mangled = token.trim().to_owned();
    let last = mangled.pop().map_or('A', |last| if last == 'A' { 'Q' } else { 'A' });
    mangled.push(last);
    place.run_with(1, Leaves::Nothing, &["token", "show", "--verify"], &mangled)?;
    place.run(0, Leaves::Record, &["run", "end", &run])?;
    place.run(1, Leaves::Record, &["run", "token", &run])?;
    Ok(())
}

/// Another policy, another build, what can be learned, and calls that are taken elsewhere.
fn what_if(place: &mut Place) -> Verdict {
    place.ready();
    let path = |place: &Place, name: &str| place.path(name).display().to_string();
    place.run(2, Leaves::Nothing, &["what-if"])?;
    place.run(2, Leaves::Nothing, &["what-if", "--policy", "x", "--tool", "y"])?;
    place.run(
        2,
        Leaves::Nothing,
        &["what-if", "--policy", "x", "--since", "yesterday"],
    )?;
    place.run(2, Leaves::Record, &["what-if", "--policy", &path(place, "missing")])?;
    let other = path(place, "other");
    fs::create_dir(&other).unwrap();
    place.run(2, Leaves::Record, &["what-if", "--policy", &other])?;
    fs::write(place.path("other/main.cedar"), "permit (principal, action, resource);").unwrap();
    place.run(2, Leaves::Record, &["what-if", "--policy", &other])?;
    fs::write(place.path("other/main.cedar"), PERMITTED).unwrap();
    // Nothing was recorded yet: a gate that looked at nothing is no pass, where nobody said that it may be.
    place.run(1, Leaves::Record, &["what-if", "--policy", &other])?;
    place.run(0, Leaves::Record, &["what-if", "--policy", &other, "--allow-none"])?;
    place.run(2, Leaves::Record, &["policy", "learn", "--since", "9000-01-01"])?;
    place.run(1, Leaves::Record, &["policy", "learn", "--since", "24h"])?;
    // Denied under the policy in force, and not under the other one.
    place.home.permit("").unwrap();
    place.run(1, Leaves::Record, &["call", "shop", "get", "--args", r#"{"id": "x"}"#])?;
    let own = place.home.folder().join("policy").display().to_string();
    place.run(0, Leaves::Record, &["what-if", "--policy", &own])?;
    place.run(1, Leaves::Record, &["what-if", "--policy", &other])?;
    place.run(
        1,
        Leaves::Record,
        &["what-if", "--policy", &other, "--since", "1h", "--format", "json"],
    )?;
    place.run(
        2,
        Leaves::Record,
        &["what-if", "--policy", &other, "--since", "2100-01-01"],
    )?;
    place.run(2, Leaves::Record, &["what-if", "--policy", &other, "--call", "c_abc"])?;
    let (shop, proposal) = (path(place, "shop.wasm"), path(place, "learned.txt"));
    place.run(1, Leaves::Record, &["what-if", "--tool", &shop])?;
    place.run(0, Leaves::Record, &["what-if", "--tool", &shop, "--allow-none"])?;
    place.run(2, Leaves::Record, &["what-if", "--tool", &format!("shp={shop}")])?;
    place.run(2, Leaves::Record, &["what-if", "--tool", "shop=missing.wasm"])?;
    place.run(2, Leaves::Nothing, &["policy", "learn"])?;
    place.run(2, Leaves::Record, &["policy", "learn", "--from", "c_abc"])?;
    place.run(2, Leaves::Record, &["policy", "learn", "--from", "r_abc"])?;
    place.run(0, Leaves::Record, &["policy", "learn", "--since", "1970-01-01"])?;
    place.run(
        0,
        Leaves::Record,
        &["policy", "learn", "--from", "c_", "--output", &proposal],
    )?;
    place.run(
        2,
        Leaves::Record,
        &["policy", "learn", "--from", "c_", "--output", &proposal],
    )?;
    let bundle = path(place, "bundle.json");
    place.run(2, Leaves::Nothing, &["replay", "--bundle", &bundle])?;
    place.run(1, Leaves::Record, &["replay", "--bundle", &bundle, "c_"])?;
    place.run(2, Leaves::Record, &["replay", "--bundle", &bundle, "c_", "c_"])?;
    place.run(2, Leaves::Nothing, &["replay", "--bundle", &bundle, "c_", "--record"])?;
    place.run(2, Leaves::Nothing, &["replay", "--from", &bundle])?;
    let key = place.home.folder().join("keys/ledger.pub").display().to_string();
    place.run(2, Leaves::Nothing, &["replay", "--from", &bundle, "--key", &key])?;
    fs::write(&bundle, "{}").unwrap();
    place.run(1, Leaves::Record, &["replay", "--from", &bundle, "--key", &key])?;
    place.run(0, Leaves::Record, &["audit", "search", "--kind", "act-refused"])?;
    Ok(())
}

fn ledgers(place: &mut Place) -> Verdict {
    let ledger = place.home.folder().join("ledger.db");
    let other = rusqlite::Connection::open(&ledger).unwrap();
    other.pragma_update(None, "user_version", 99).unwrap();
    drop(other);
    place.run(3, Leaves::Record, &["audit", "list"])?;
    place.run(3, Leaves::Record, &["audit", "verify"])?;
    fs::write(&ledger, "a text ".repeat(1000)).unwrap();
    place.run(3, Leaves::Record, &["audit", "list"])?;
    fs::remove_file(&ledger).unwrap();
    place.run(2, Leaves::Record, &["audit", "list"])?;
    Ok(())
}

/// The file that says how far the ledger has come is gone.
fn high_water(place: &mut Place) -> Verdict {
    place.ready();
    let mark = place.path("mark");
    let kept = format!("{CONFIGURED}\n[ledger]\nhigh_water = \"{}\"\n", mark.display());
    place.configure(&kept);
    place.run(1, Leaves::Record, &["call", "shop", "nothing"])?;
    place.run(0, Leaves::Record, &["audit", "verify"])?;
    fs::remove_file(&mark).unwrap();
    place.run(1, Leaves::Record, &["audit", "verify"])?;
    place.run(3, Leaves::Record, &["call", "shop", "nothing"])?;
    Ok(())
}

/// Values go only when somebody says so twice, and the ledger says what went.
fn erasing(place: &mut Place) -> Verdict {
    place.run(2, Leaves::Nothing, &["erase"])?;
    place.run(2, Leaves::Nothing, &["erase", "--user", "ada", "--agent", "assistant"])?;
    place.run(2, Leaves::Nothing, &["erase", "--older-than", "3 months"])?;
    place.run(2, Leaves::Nothing, &["erase", "--user", "ada", "--yes", "--dry-run"])?;
    place.ready();
    place.run(2, Leaves::Nothing, &["erase", "--by-configuration"])?;
    place.run(1, Leaves::Record, &["call", "shop", "nothing", "--for", "ada"])?;
    place.run(1, Leaves::Record, &["call", "shop", "nothing"])?;
    let newest = place.home.done(["audit", "list", "--limit", "1", "--format", "json"]);
    let newest = newest.unwrap().json().unwrap();
    let call = newest[0]["call"].as_str().unwrap();
    let receipt = place.file("receipt", place.home.done(["audit", "prove", call]).unwrap().out);
    place.run(0, Leaves::Record, &["erase", "--user", "grace", "--yes"])?;
    place.run(0, Leaves::Record, &["erase", "--agent", "assistant", "--dry-run"])?;
    place.run(1, Leaves::Record, &["erase", "--agent", "assistant"])?;
    place.run(0, Leaves::Record, &["erase", "--user", "ada", "--yes"])?;
    place.run(
        0,
        Leaves::Record,
        &["erase", "--agent", "assistant", "--yes", "--format", "json"],
    )?;
    place.run(0, Leaves::Record, &["audit", "verify"])?;
    erased_values_are_told(place, call)?;
    let key = place.home.folder().join("keys/ledger.pub");
    let proof: [&OsStr; 5] = [
        "receipt".as_ref(),
        "verify".as_ref(),
        receipt.as_ref(),
        "--key".as_ref(),
        key.as_ref(),
    ];
    let proof = place.home.done(proof).unwrap();
    if !proof.out.contains("verified: entry") {
        return Err(proof.text());
    }
    nothing_is_left_to_replay(place)?;
    place.configure(&format!("{CONFIGURED}\n[retention]\nvalues = \"90d\"\n"));
    place.run(0, Leaves::Record, &["erase", "--by-configuration", "--yes"])?;
    place.configure(&format!("{CONFIGURED}\n[retention]\nvalues = \"0d\"\n"));
    place.run(2, Leaves::Nothing, &["erase", "--by-configuration", "--yes"])?;
    Ok(())
}

/// A replay of a call that ran, once its values are erased, says what it could not compare.
fn nothing_is_left_to_replay(place: &mut Place) -> Verdict {
    let done = |place: &Place, arguments: &[&str]| place.home.done(arguments).map_err(|error| error.to_string());
    place.home.add("echo", "good_echo").map_err(|error| error.to_string())?;
    let said = r#"{"json": "x"}"#;
    done(place, &["call", "echo", "hash", "--args", said, "--for", "ada"])?;
    let newest = done(place, &["audit", "list", "--limit", "1", "--format", "json"])?;
    let newest = newest.json().unwrap_or_default();
    let call = newest[0]["call"].as_str().unwrap_or_default();
    done(place, &["replay", call])?;
    done(place, &["erase", "--user", "ada", "--yes"])?;
    place.run(0, Leaves::Record, &["replay", call])?;
    place.run(0, Leaves::Record, &["replay", call, "--format", "json"])?;
    place.run(0, Leaves::Record, &["replay"])?;
    Ok(())
}

/// `audit show` says of each value what became of it, for people and for programs.
fn erased_values_are_told(place: &Place, call: &str) -> Verdict {
    let shown = place.home.done(["audit", "show", call]).unwrap();
    let told = |name: &str| {
        let line = shown.out.lines().find(|line| line.trim_start().starts_with(name));
        line.is_some_and(|line| line.contains("erased on 2") && line.contains(", all by agent assistant)"))
    };
    let document = place.home.done(["audit", "show", call, "--format", "json"]).unwrap();
    let erased = document.json().unwrap_or_default()["erased"].clone();
    let names = erased["values"].as_array().map_or(0, Vec::len);
    if !told("arguments") || !told("why") || names != 2 || erased["why"]["subject"]["agent"] != "assistant" {
        return Err(format!("{}\n{}", shown.text(), document.text()));
    }
    Ok(())
}

/// A home that can be read and not written, for a user who is not root.
fn read_only(place: &mut Place) -> Verdict {
    const NOBODY: u32 = 65534;
    place.ready();
    let before = tree(place.home.folder());
    for (path, content) in &before {
        let mode = if content.is_none() { 0o500 } else { 0o400 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        if is_root() {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let commands: [&[&str]; 3] = [
        &["call", "shop", "get", "--args", r#"{"id": "x"}"#],
        &["tools", "remove", "shop"],
        &["policy", "init"],
    ];
    for arguments in commands {
        let mut command = Command::new(program("ambit"));
        command
            .env_clear()
            .arg("--home")
            .arg(place.home.folder())
            .args(arguments)
            .stdin(Stdio::null());
        command.env("STRIPE_KEY", "sk_test_CANARY");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let Ok(output) = command.output() else {
            skip(
                "cli::read_only",
                "this program can neither write nor become a user who cannot",
            );
            return Ok(());
        };
        let run = Run {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        place.show(&arguments.join(" "), &run);
        place.check(&arguments.join(" "), &run, 3)?;
    }
    if tree(place.home.folder()) != before {
        return Err("it was written all the same".to_owned());
    }
    for (path, content) in &before {
        let mode = if content.is_none() { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    Ok(())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout == b"0\n")
}

/// A home that another process holds: this one.
fn two_processes(place: &mut Place) -> Verdict {
    place.ready();
    let held = ambit_runtime::store::Store::open(
        place.home.folder(),
        ambit_runtime::store::Keys::load(place.home.folder()).map_err(|error| error.to_string())?,
        Default::default(),
        Default::default(),
    )
    .map_err(|error| error.to_string())?;
    place.run(3, Leaves::Record, &["call", "shop", "get", "--args", r#"{"id": "x"}"#])?;
    place.run(3, Leaves::Record, &["tools", "remove", "shop"])?;
    place.run(0, Leaves::Record, &["audit", "list"])?;
    place.run(0, Leaves::Record, &["audit", "verify"])?;
    drop(held);
    Ok(())
}

/// What an operator and a person do while a process serves the home; the same again without one.
fn served(place: &mut Place) -> Verdict {
    place.ready();
    place.run(1, Leaves::Record, &["call", "shop", "nothing", "--for", "ada"])?;
    let keys = ["rita", "sam"].map(|name| place.path(&format!("{name}.key")).display().to_string());
    for (name, key) in ["rita", "sam"].iter().zip(&keys) {
        let made = place.home.done(["person", "key", name, "--output", key]);
        let public = made.map_err(|error| error.to_string())?.out;
        place
            .home
            .done(["person", "enrol", public.trim()])
            .map_err(|error| error.to_string())?;
    }
    let served = place.home.serve("assistant").map_err(|error| error.to_string())?;
    place.run(0, Leaves::Record, &["status"])?;
    operated(place, &keys)?;
    // What needs the home to itself says who has it.
    place.run(3, Leaves::Record, &["call", "shop", "nothing"])?;
    drop(served);
    place.run(0, Leaves::Record, &["audit", "verify"])?;
    place.run(1, Leaves::Record, &["call", "shop", "nothing", "--for", "ada"])?;
    let with = std::mem::take(&mut place.shown);
    operated(place, &keys)?;
    let without = std::mem::replace(&mut place.shown, with);
    // The one number that counts on is that of the entry.
    let numbers = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
    if !numbers(&place.shown).contains(&numbers(&without)) {
        return Err(format!(
            "without a process that serves the home it is otherwise:\n{without}"
        ));
    }
    Ok(())
}

/// What an operator has a process take anew, and what it does not.
fn reload(place: &mut Place) -> Verdict {
    place.ready();
    place.run(1, Leaves::Record, &["reload"])?;
    let text = |error: std::io::Error| error.to_string();
    let served = place.home.serve("assistant").map_err(text)?;
    place.run(0, Leaves::Record, &["reload"])?;
    place
        .home
        .permit(&format!(
            "{PERMITTED}\n@id(\"more\") forbid (principal, action == Action::\"call\", resource in Tool::\"none\");"
        ))
        .map_err(text)?;
    place.configure(&format!(
        "{CONFIGURED}\n[tool.shop.bind]\nstripe = \"stripe\"\n[tool.shop.limits]\nlog_bytes = 1024\n[budget.day]\nunit = \"calls\"\nwindow = \"day\"\ncap = 5\n"
    ));
    let again = place.file(
        "again.wasm",
        wit::component(&SHOP.replace("Give money back", "Give it back")),
    );
    let again = again.display().to_string();
    place.run(0, Leaves::Files, &["tools", "add", "again", &again])?;
    place.run(0, Leaves::Record, &["reload"])?;
    place.run(0, Leaves::Files, &["tools", "remove", "again"])?;
    place.run(0, Leaves::Record, &["reload", "--format", "json"])?;
    // What cannot be used is told where it stands, and changes nothing.
    place.configure(&format!("{CONFIGURED}\n[limits]\nfule = 1\n"));
    place.run(2, Leaves::Record, &["reload"])?;
    place.configure(&format!("{CONFIGURED}\n[limits]\nconcurrent_calls = 2\n"));
    place.run(1, Leaves::Record, &["reload"])?;
    drop(served);
    place.run(1, Leaves::Record, &["reload"])?;
    place.run(0, Leaves::Record, &["audit", "verify"])?;
    Ok(())
}

/// Acts of operators and people, done and refused.
fn operated(place: &mut Place, keys: &[String; 2]) -> Verdict {
    let started = place.run(0, Leaves::Record, &["run", "start", "--for", "ada", "--calls", "2"])?;
    place.run(1, Leaves::Record, &["run", "start", "--for", "eve"])?;
    place.run(0, Leaves::Record, &["run", "end", started.out.trim()])?;
    place.run(1, Leaves::Record, &["run", "end", started.out.trim()])?;
    let over = "0".repeat(64);
    place.run(1, Leaves::Record, &["approvals", "approve", &over, "--key", &keys[0]])?;
    let edit = ["approvals", "edit", &over, "--key", &keys[0], "--set", "amount=1"];
    place.run(1, Leaves::Record, &edit)?;
    place.run(0, Leaves::Record, &["approvals", "resume", "--all"])?;
    let to = ["--to", "sam", "--group", "reviewer", "--until", "1h", "--key", &keys[0]];
    let delegate: Vec<&str> = ["person", "delegate"].into_iter().chain(to).collect();
    place.run(1, Leaves::Record, &delegate)?;
    place.run(2, Leaves::Record, &["person", "revoke", "nobody"])?;
    place.run(0, Leaves::Record, &["calls"])?;
    place.run(0, Leaves::Record, &["calls", "resume", "--all"])?;
    let listed = place.home.done(["audit", "list", "--limit", "1", "--format", "json"]);
    let listed = listed.map_err(|error| error.to_string())?.json().unwrap_or_default();
    let call = listed[0]["call"].as_str().unwrap_or_default().to_owned();
    place.run(1, Leaves::Record, &["calls", "resume", &call])?;
    place.run(1, Leaves::Record, &["calls", "end", &call])?;
    place.run(1, Leaves::Record, &["calls", "resolve", &call, "--done"])?;
    place.run(1, Leaves::Record, &["calls", "resolve", &call, "--retry"])?;
    place.run(2, Leaves::Record, &["rollback", &call, "--dry-run"])?;
    place.run(2, Leaves::Record, &["rollback", &call, "--yes"])?;
    place.run(
        1,
        Leaves::Record,
        &["dead-letters", "drop", &call, "--because", "unneeded"],
    )?;
    place.run(0, Leaves::Record, &["connections", "reset", "stripe"])?;
    place.run(2, Leaves::Record, &["connections", "reset", "strip"])?;
    place.run(0, Leaves::Record, &["replay", "--record"])?;
    place.run(0, Leaves::Record, &["erase", "--agent", "assistant", "--yes"])?;
    Ok(())
}

/// Rules and budgets for what is not there: said at the start, and no error.
fn slips(place: &mut Place) -> Verdict {
    place.ready();
    place.configure(&format!(
        "{CONFIGURED}\n[tool.shop.bind]\nstripe = \"stripe\"\n\
         [budget.creates]\ntool = \"shop\"\nfunction = \"refunds.creat\"\nunit = \"calls\"\nwindow = \"day\"\ncap = 5\n"
    ));
    let slip = "@id(\"slip\")\nforbid (principal in Team::\"suport\", action == Action::\"call\", resource == Function::\"shop/refunds.gt\");\n";
    place.home.permit(&format!("{PERMITTED}{slip}")).unwrap();
    place.run(1, Leaves::Record, &["call", "shop", "nothing"])?;
    place.run(0, Leaves::Nothing, &["policy", "check"])?;
    Ok(())
}

/// Data on one stream, all else on the other; colours where they are asked for.
fn streams(place: &mut Place) -> Verdict {
    place.ready();
    let coloured = |text: &str| text.contains('\u{1b}');
    let run = |home: &Home, arguments: &[&str]| home.run(arguments, "").map_err(|error| error.to_string());
    let refused = ["call", "shop", "nothing"];
    let plain = run(&place.home, &refused)?;
    let always = run(&place.home, &[&["--color", "always"][..], &refused].concat())?;
    let never = run(&place.home, &[&["--color", "never"][..], &refused].concat())?;
    let mut other = place.home.clone();
    other.set("NO_COLOR", "1");
    let none = run(&other, &refused)?;
    other.set("CLICOLOR_FORCE", "1");
    let forced = run(&other, &[&["--color", "never"][..], &refused].concat())?;
    for (name, run, colours) in [
        ("auto, off a terminal", &plain, false),
        ("--color always", &always, true),
        ("--color never", &never, false),
        ("NO_COLOR", &none, false),
        ("--color never beside CLICOLOR_FORCE", &forced, false),
    ] {
        if coloured(&run.err) != colours || coloured(&run.out) {
            return Err(format!("{name}: {:?} {:?}", run.out, run.err));
        }
        if !run.out.is_empty() || run.err.is_empty() {
            return Err(format!("{name}: a refusal is not data: {:?}", run.out));
        }
    }
    for arguments in [
        &["policy", "check"][..],
        &["tools", "list"],
        &["inspect", "shop"],
        &["audit", "list"],
        &refused,
    ] {
        let document = run(&place.home, &[&["--format", "json"][..], arguments].concat())?;
        if document.json().is_none() || coloured(&document.out) {
            return Err(format!(
                "{arguments:?}: standard output is not one JSON document: {:?}",
                document.out
            ));
        }
        let human = run(&place.home, arguments)?;
        if arguments != refused && (human.out.is_empty() || !human.err.is_empty()) {
            return Err(format!("{arguments:?}: {:?} {:?}", human.out, human.err));
        }
    }
    Ok(())
}

/// What operators stop, and what a caller and an operator see of it.
fn stops(place: &mut Place) -> Verdict {
    place.ready();
    let get = ["call", "shop", "get", "--args", r#"{"id": "x"}"#];
    place.run(0, Leaves::Record, &["status"])?;
    place.run(2, Leaves::Nothing, &["kill", "everything"])?;
    place.run(2, Leaves::Nothing, &["kill", "everything", "--reason", " "])?;
    place.run(2, Leaves::Nothing, &["kill", "assistant", "--reason", "a drill"])?;
    place.run(2, Leaves::Nothing, &["kill", "team:support", "--reason", "a drill"])?;
    place.run(2, Leaves::Record, &["kill", "run:r_none", "--reason", "a drill"])?;
    place.run(1, Leaves::Record, &["unkill", "everything"])?;
    place.run(
        0,
        Leaves::Record,
        &["kill", "everything", "--reason", "it refunds everyone"],
    )?;
    place.run(0, Leaves::Record, &["kill", "everything", "--reason", "again"])?;
    place.run(1, Leaves::Record, &get)?;
    place.run(
        0,
        Leaves::Record,
        &["kill", "agent:asistant", "--safe-mode", "--reason", "look first"],
    )?;
    place.run(0, Leaves::Record, &["status"])?;
    place.run(0, Leaves::Record, &["status", "--format", "json"])?;
    place.run(1, Leaves::Record, &["unkill", "agent:asistant"])?;
    place.run(0, Leaves::Record, &["unkill", "agent:asistant", "--safe-mode"])?;
    place.run(
        0,
        Leaves::Record,
        &["unkill", "everything", "--reason", "found it", "--format", "json"],
    )?;
    place.run(1, Leaves::Record, &get)?;
    place.run(0, Leaves::Record, &["audit", "verify"])?;
    Ok(())
}

/// A process that calls, and another that stops it. Shows nothing that would be the same twice.
fn stopped(place: &mut Place) -> Verdict {
    let text = |error: std::io::Error| error.to_string();
    place.configure(&format!(
        "{CONFIGURED}\n[limits]\nfuel = 4000000000000000\nwall_ms = 60000\n"
    ));
    place.home.permit(PERMITTED).map_err(text)?;
    place.home.add("wild", "hostile_sandbox").map_err(text)?;
    let home = place.home.moved(place.home.folder());
    let call = std::thread::spawn(move || home.call("wild", "try", r#"{"case": "spin"}"#, None, None, None));
    let status = || -> Result<serde_json::Value, String> {
        let run = place.home.done(["status", "--format", "json"]).map_err(text)?;
        Ok(run.json().unwrap_or_default())
    };
    let began = std::time::Instant::now();
    while status()?["host"]["calls"][0]["tool"] != "wild" {
        if call.is_finished() || began.elapsed().as_secs() > 40 {
            return Err(format!(
                "the call is not seen: {:?}",
                call.join().map(|run| run.map(|run| run.text()))
            ));
        }
    }
    let kill = ["kill", "agent:assistant", "--reason", "it spins", "--format", "json"];
    let killed = place.home.done(kill).map_err(text)?.json().unwrap_or_default();
    let run = call.join().map_err(|_| "the call panicked")?.map_err(text)?;
    let answer = run.json().unwrap_or_default();
    if run.code != Some(1) || !run.text().contains("\"killed\"") || killed["ended"][0] != answer["call"] {
        return Err(format!("it is not stopped: {killed}\n{}", run.text()));
    }
    let after = status()?;
    if !after["host"].is_null() || after["stops"][0]["reason"] != "it spins" {
        return Err(format!("what is stopped: {after}"));
    }
    place.home.done(["audit", "verify"]).map_err(text)?;
    place.home.done(["unkill", "agent:assistant"]).map_err(text)?;
    let fine = place
        .home
        .call("wild", "try", r#"{"case": "fine"}"#, None, None, None)
        .map_err(text)?;
    if fine.code != Some(0) {
        return Err(fine.text());
    }
    Ok(())
}

/// How budgets stand, on a ledger whose last entry is of 2100, which is then the time.
fn budgets(place: &mut Place) -> Verdict {
    use ambit_runtime::store::{Batch, Keys, Store, StoreOptions};
    place.configure(CONFIGURED);
    let none = place.home.run(["budgets"], "").map_err(|error| error.to_string())?;
    if none.code != Some(0) || !none.out.contains("no budgets") {
        return Err(format!("no budgets: {}", none.text()));
    }
    place.configure(&format!(
        "{CONFIGURED}\n\
         [budget.calls-an-hour]\nagent = \"assistant\"\nunit = \"calls\"\nwindow = \"hour\"\ncap = 10\n\
         [budget.effects-a-call]\nunit = \"effects\"\nwindow = \"call\"\ncap = 3\n\
         [budget.fuel]\nunit = \"fuel\"\nwindow = {{ rolling = \"24h\" }}\ncap = 5_000_000_000\n\
         [budget.refunds]\nconnection = \"stripe\"\nroute = \"stripe/refunds.create\"\nunit = \"usd\"\nwindow = \"month\"\ncap = 10_000\n"
    ));
    let new = place.home.run(["budgets"], "").map_err(|error| error.to_string())?;
    if new.code != Some(0) || new.out.matches("0 used, 0 reserved").count() != 3 {
        return Err(format!("unused budgets: {}", new.text()));
    }
    let clock = Arc::new(|| 4_102_482_000_000);
    let options = StoreOptions {
        clock,
        ..StoreOptions::default()
    };
    let keys = Keys::load(place.home.folder()).map_err(|error| error.to_string())?;
    let store = Store::open(place.home.folder(), keys, options, Default::default());
    let store = store.map_err(|error| error.to_string())?;
    let commit = |entries| {
        let batch = Batch {
            entries,
            ..Batch::default()
        };
        store.commit(batch).map(drop).map_err(|error| error.to_string())
    };
    let reserve = |budget: &str, window: &str, amount, cap| Reservation {
        amount,
        budget: budget.into(),
        cap,
        over: None,
        warn: None,
        window: window.into(),
    };
    let settle = |budget: &str, window: &str, amount| Settlement {
        amount,
        budget: budget.into(),
        window: window.into(),
    };
    let fuel = "fuel rolling 24h";
    let open = vec![
        reserve("calls-an-hour", "calls hour", 1, 10),
        reserve("fuel", fuel, 1_000_000_000, 5_000_000_000),
        // An effect's own, which would take more to write down.
        reserve("effects-a-call", &format!("effects call {}", made_up::call("a")), 2, 3),
    ];
    let over = vec![
        reserve("calls-an-hour", "calls hour", 1, 10),
        reserve("fuel", fuel, 1_000_000_000, 5_000_000_000),
        reserve("refunds", "usd month", 4000, 10_000),
        reserve("removed", "usd day", 7, 100),
    ];
    let settled = vec![
        settle("calls-an-hour", "calls hour 2100-01-01T10", 1),
        settle("fuel", fuel, 250_000_000),
        settle("removed", "usd day 2100-01-01", 6),
    ];
    commit(vec![made_up::accepted("a", open)])?;
    commit(vec![made_up::accepted("b", over), made_up::finished("b", settled)])?;
    // Beside a process that holds the home.
    place.run(0, Leaves::Record, &["budgets"])?;
    place.run(0, Leaves::Record, &["budgets", "--format", "json"])?;
    drop(store);
    place.configure(&format!(
        "{CONFIGURED}\n[budget.refunds]\nunit = \"usf\"\nwindow = \"24h rolling\"\ncap = 0\n"
    ));
    place.run(2, Leaves::Record, &["budgets"])?;
    place.home = place.home.moved(&place.path("nowhere"));
    place.run(2, Leaves::Nothing, &["budgets"])?;
    Ok(())
}

/// Entries of calls that nobody made.
mod made_up {
    use ambit_core::digest::Digest;
    use ambit_core::grant::Limits;
    use ambit_core::ledger::body::{Asked, CallAccepted, CallFinished, End, Reservation, Settlement};
    use ambit_core::ledger::{Body, EntryDraft, Principal};
    use ambit_core::policy::Mode;
    use ambit_core::scope::Tier;

    pub(super) fn call(letter: &str) -> String {
        format!("c_{}", letter.repeat(26))
    }

    fn draft(letter: &str, body: impl Into<Body>) -> EntryDraft {
        EntryDraft {
            body: body.into(),
            call: Some(call(letter)),
            trace: Some("0123456789abcdef0123456789abcdef".into()),
            principal: Some(Principal {
                agent: "assistant".into(),
                team: "support".into(),
                tenant: "acme".into(),
                user: None,
            }),
            tool: Some(Digest::of(b"tool")),
            policy: Some(Digest::of(b"policy")),
            config: Some(Digest::of(b"config")),
        }
    }

    fn asked() -> Asked {
        Asked {
            args: Digest::of(b"args"),
            function: "refunds.create".into(),
            limits: (&Limits::default()).into(),
            mode: Mode::Execute,
            tier: Tier::Commit,
            tool: "refunds".into(),
        }
    }

    pub(super) fn accepted(letter: &str, reserved: Vec<Reservation>) -> EntryDraft {
        let body = CallAccepted {
            arrival: None,
            once: None,
            by: None,
            letter: None,
            asked: asked(),
            reserved,
            rules: Vec::new(),
            run: None,
            seed: Digest::of(b"seed"),
            undoes: None,
        };
        draft(letter, body)
    }

    pub(super) fn finished(letter: &str, settled: Vec<Settlement>) -> EntryDraft {
        let body = CallFinished {
            asked: asked(),
            checked: Vec::new(),
            edited: vec![],
            effects: Default::default(),
            engine: None,
            fuel: 250_000_000,
            log: None,
            memory: 0,
            ms: 1,
            outcome: End::Interrupted,
            settled,
            spent: Vec::new(),
            undoes: None,
            upstream: 0,
        };
        draft(letter, body)
    }
}

/// What others wrote does not drive the terminal.
fn escapes(place: &mut Place) -> Verdict {
    place.configure(CONFIGURED);
    place.home.permit(PERMITTED).unwrap();
    place.home.add("echo", "good_echo").map_err(|error| error.to_string())?;
    let evil = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}";
    let json = r#"{"value": "\u001b[2J\u001b]0;owned\u0007\u202e"}"#;
    let text = place.file("e\u{1b}[2J.wasm", evil);
    let commands: Vec<Vec<OsString>> = vec![
        vec![
            "call".into(),
            "echo".into(),
            "text".into(),
            "--args".into(),
            json.into(),
        ],
        vec!["call".into(), "echo".into(), evil.into(), "--args".into(), json.into()],
        vec!["call".into(), evil.into(), "text".into()],
        vec!["call".into(), "echo".into(), "text".into(), "--as".into(), evil.into()],
        vec![
            "call".into(),
            "echo".into(),
            "text".into(),
            "--args".into(),
            format!("@{evil}").into(),
        ],
        vec![
            "call".into(),
            "echo".into(),
            "text".into(),
            "--args".into(),
            evil.into(),
        ],
        vec!["inspect".into(), text.into()],
        vec!["inspect".into(), evil.into()],
        vec!["audit".into(), "show".into(), evil.into()],
        vec!["audit".into(), "list".into()],
        vec!["--home".into(), evil.into(), "audit".into(), "list".into()],
    ];
    let mut shown = String::new();
    for arguments in commands {
        let run = place.home.run(&arguments, "").map_err(|error| error.to_string())?;
        shown.push_str(&run.text());
    }
    place.configure(&format!("{CONFIGURED}\n# {evil}\n[agnet]\n"));
    // TOML itself refuses control characters in comments: the error quotes the line.
    shown.push_str(
        &place
            .home
            .run(["policy", "check"], "")
            .map_err(|error| error.to_string())?
            .text(),
    );
    place.configure(CONFIGURED);
    place
        .home
        .permit(&format!("// {evil}\npermit (principal, action, resource);\n"))
        .unwrap();
    shown.push_str(
        &place
            .home
            .run(["policy", "check"], "")
            .map_err(|error| error.to_string())?
            .text(),
    );
    let drives = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    match shown.lines().find(|line| line.contains(drives)) {
        Some(line) => Err(format!("a terminal would obey {line:?}")),
        None => Ok(()),
    }
}
