//! The story that `cargo xtask demo` tells: real components, real policy, a real service, and what must come of them.
//!
//! Every step prints the command as a person would type it, what it said, and whether what matters about it holds.
#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "it tells a story on standard output, and reads JSON that it knows"
)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ambit_tests::home::{Home, Run};
use ambit_tests::programs::component;
use ambit_tests::service::{Event, Request, Service};
use rusqlite::Connection;

/// What the operator takes over from the tool: the connection's routes, and the least policy.
const PROFILE: &str = include_str!("../../../tools/stripe/connection.toml");
const POLICY: &str = include_str!("../../../tools/stripe/policy.cedar");

/// Added for the guests that misbehave: they may be called, or nothing else of them could be seen.
const MORE_POLICY: &str = "
@id(\"hostile-calls\")
permit (principal in Team::\"support\", action == Action::\"call\", resource)
when { resource in [Tool::\"hostile\", Tool::\"snoop\"] };
";

/// Who may approve: for Ada too, which must not count for what is done for her.
const PEOPLE: [&str; 3] = ["rita", "sam", "ada"];

/// Added for what people decide: a refund above 100.00 USD waits for two of them.
const DUAL_CONTROL: &str = "
@id(\"dual-control\")
forbid (principal, action == Action::\"commit\", resource == Route::\"stripe/refunds.create\")
when { context.spend.kind == \"known\" && context.spend.minor > 10000 }
unless { context.approvals.finance >= 2 };
";

/// What the hostile guest tries, by the names of its cases.
const ATTEMPTS: [(&str, &str); 9] = [
    ("absolute-url", "an absolute URL"),
    ("double-slash", "//host in place of a path"),
    ("userinfo", "user information before another host"),
    ("other-path", "a path it did not declare"),
    ("dot-segments", "a path that climbs"),
    ("other-field", "a field it did not declare"),
    ("duplicate-key", "two amounts"),
    ("large-amount", "an amount above the limit"),
    ("authorization-header", "a credential of its own"),
];

/// Where the guest that knows WASI looks.
const PLACES: [(&str, &str); 5] = [
    ("environment", "environment variables"),
    ("arguments", "the command line"),
    ("directories", "files"),
    ("resolve-name", "the names of hosts"),
    ("connect-to-metadata", "the cloud's metadata address"),
];

fn main() -> ExitCode {
    match tell() {
        Ok(0) => {
            println!("\nEverything is as it must be.");
            ExitCode::SUCCESS
        }
        Ok(failed) => {
            println!("\n{failed} things are not as they must be; they are marked ✗ above.");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("\nThe demo could not go on: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tell() -> io::Result<usize> {
    let folder = tempfile::tempdir()?;
    let mut story = Story::begin(folder.path())?;
    declared(&mut story)?;
    let refund = refunds(&mut story)?;
    waiting(&mut story)?;
    undone(&mut story, &refund)?;
    hostile(&mut story)?;
    misleading(&mut story)?;
    snooping(&mut story)?;
    stopped(&mut story)?;
    weighed(&mut story)?;
    record(&mut story, &refund)?;
    let old = story.copy_home("restored")?;
    tampering(&mut story, &refund, &old)?;
    secrecy(&mut story)?;
    Ok(story.failed)
}

/// A home, a service, and what did not hold so far.
struct Story {
    folder: PathBuf,
    home: Home,
    service: Service,
    failed: usize,
}

impl Story {
    fn begin(folder: &Path) -> io::Result<Self> {
        println!(
            "A payment service on loopback, in the place of api.stripe.com; a home for Ambit; three components.\n"
        );
        let service = Service::start(&folder.join("service"))?;
        let mut home = Home::make(&folder.join("home"))?;
        home.set("STRIPE_KEY", service.token.clone());
        home.permit(&format!("{POLICY}{MORE_POLICY}{DUAL_CONTROL}"))?;
        for (name, component) in [
            ("stripe", "stripe"),
            ("hostile", "hostile_wire"),
            ("snoop", "hostile_wasi"),
        ] {
            home.add(name, component)?;
        }
        let story = Self {
            folder: folder.to_path_buf(),
            home,
            service,
            failed: 0,
        };
        story.configure(&format!("127.0.0.1:{}", story.service.port), true)?;
        Ok(story)
    }

    /// The operator's file: who calls, the connection as its profile says, with the socket moved to our service.
    fn configure(&self, connect_to: &str, allow_private: bool) -> io::Result<()> {
        let origin = "origin = \"https://api.stripe.com\"\n";
        let moved = format!(
            "{origin}connect_to = \"{connect_to}\"\nca = \"{}\"\nallow_private = {allow_private}\n",
            self.service.ca.display()
        );
        let mark = self.folder.join("ledger.mark");
        self.home.configure(&format!(
            "[agent.assistant]\nteam = \"support\"\ntenant = \"acme\"\nusers = [\"ada\"]\n\n\
             [group.reviewer]\nmembers = []\n\n[group.finance]\nmembers = [\"rita\", \"sam\", \"ada\"]\n\n[ledger]\nhigh_water = \"{}\"\n\n\
             [tool.stripe.bind]\nstripe = \"stripe\"\n\n[tool.hostile.bind]\nstripe = \"stripe\"\n\n{}",
            mark.display(),
            PROFILE.replace(origin, &moved)
        ))
    }

    fn chapter(&self, title: &str) {
        println!(
            "\n── {title} {}",
            "─".repeat(96_usize.saturating_sub(title.chars().count()))
        );
    }

    /// Runs a command and shows it with the first lines of what it says.
    fn run(&self, arguments: &[&str], lines: usize) -> io::Result<Run> {
        let run = self.home.run(arguments, "")?;
        println!(
            "\n  $ ambit {}",
            arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
        );
        let said: Vec<&str> = run
            .out
            .lines()
            .chain(run.err.lines())
            .filter(|line| !line.trim().is_empty())
            .collect();
        said.iter().take(lines).for_each(|line| println!("    {line}"));
        match said.len().saturating_sub(lines) {
            0 => {}
            1 => println!("    … 1 more line"),
            more => println!("    … {more} more lines"),
        }
        Ok(run)
    }

    /// Calls a tool for the user Ada, and returns what reached the service meanwhile.
    fn call(&self, tool: &str, function: &str, args: &str) -> io::Result<(Run, Vec<Request>)> {
        let before = self.service.requests()?.len();
        let run = self.run(&["call", tool, function, "--args", args, "--for", "ada"], 16)?;
        Ok((run, self.service.requests()?.split_off(before)))
    }

    /// A person's yes, and what reached the service meanwhile.
    fn approve(&self, hold: &str, person: &str) -> io::Result<(Run, Vec<Request>)> {
        let before = self.service.requests()?.len();
        let run = self.run(&["approvals", "approve", hold, "--key", &self.key(person)], 8)?;
        Ok((run, self.service.requests()?.split_off(before)))
    }

    /// The file of a person's key, which is not in the home.
    fn key(&self, person: &str) -> String {
        self.folder.join(format!("{person}.key")).display().to_string()
    }

    fn check(&mut self, what: &str, holds: bool) {
        println!("  {} {what}", if holds { "✓" } else { "✗" });
        self.failed += usize::from(!holds);
    }

    /// The home, copied as somebody with access to the disk would.
    fn copy_home(&self, name: &str) -> io::Result<Home> {
        let copy = self.folder.join(name);
        copy_folder(self.home.folder(), &copy)?;
        Ok(self.home.moved(&copy))
    }
}

fn declared(story: &mut Story) -> io::Result<()> {
    story.chapter("What the tool declares");
    println!("  The component itself says what it may touch at most. Nothing of that is granted yet.");
    let file = component("stripe");
    let run = story.run(&["inspect", &file.display().to_string()], 40)?;
    story.check(
        "its world names four requests to one host, and no more",
        run.out.matches("https://").count() == 4,
    );
    Ok(())
}

/// Returns the call id of the refund that was made.
fn refunds(story: &mut Story) -> io::Result<String> {
    story.chapter("A read");
    let (run, requests) = story.call("stripe", "charges.get", r#"{"id": "ch_shoes"}"#)?;
    story.check("the charge is read", run.code == Some(0) && run.out.contains("12000"));
    story.check(
        "one request arrived, with the token that the tool never sees",
        lines(&requests) == ["GET /v1/charges/ch_shoes"],
    );
    story.check(
        "the customer's name and card stayed outside: nobody declared to read them",
        !run.out.contains("Ann"),
    );

    story.chapter("A refund within the limit");
    let (run, requests) = story.call("stripe", "refunds.create", r#"{"charge": "ch_shoes", "amount": 2500}"#)?;
    let refund = call_id(&run);
    story.check("25.00 USD went back", run.code == Some(0) && run.out.contains("re_1"));
    let expected = ["GET /v1/charges/ch_shoes", "POST /v1/refunds", "GET /v1/refunds/re_1"];
    story.check(
        "the host looked up the currency, sent the refund, and looked what the service made of it",
        lines(&requests) == expected,
    );
    let keyed = requests
        .get(1)
        .is_some_and(|request| request.headers.contains_key("idempotency-key"));
    story.check("with an idempotency key", keyed);

    story.chapter("A refund above the limit");
    let (run, requests) = story.call(
        "stripe",
        "refunds.create",
        r#"{"charge": "ch_laptop", "amount": 90000}"#,
    )?;
    story.check(
        "refused by policy, with a reason",
        run.code == Some(1) && run.err.contains("policy"),
    );
    story.check("no refund reached the service", nothing_posted(&requests));

    story.chapter("A refund of everything, without an amount");
    let (run, requests) = story.call("stripe", "refunds.create", r#"{"charge": "ch_laptop"}"#)?;
    story.check(
        "refused: there is no amount to decide about",
        run.code == Some(1) && run.err.contains("amount"),
    );
    story.check("nothing reached the service", requests.is_empty());
    Ok(refund)
}

/// A refund that two people have to approve, with keys of their own.
fn waiting(story: &mut Story) -> io::Result<()> {
    story.chapter("A refund that waits for two people");
    for person in PEOPLE {
        let made = story
            .home
            .done(["person", "key", person, "--output", &story.key(person)])?;
        story.run(&["person", "enrol", made.out.trim()], 1)?;
    }
    let args = r#"{"charge": "ch_laptop", "amount": 20000}"#;
    let (run, requests) = story.call("stripe", "refunds.create", args)?;
    story.check(
        "it is held, and nothing was sent",
        run.code == Some(4) && nothing_posted(&requests),
    );
    let run = story.run(&["approvals", "list"], 4)?;
    let hold = run.out.split(' ').next().unwrap_or_default().to_owned();
    let run = story.run(&["approvals", "show", &hold], 20)?;
    story.check(
        "whoever decides sees what would be sent, for whom, and who is missing",
        run.out.contains("amount=20000") && run.out.contains("2 of finance"),
    );
    let (run, _) = story.approve(&hold, "ada")?;
    story.check("nobody approves what is done for them", run.code == Some(1));
    let (run, requests) = story.approve(&hold, "rita")?;
    story.check(
        "one is not enough",
        run.code == Some(0) && requests.is_empty() && run.out.contains("1 of finance"),
    );
    let (run, _) = story.approve(&hold, "rita")?;
    story.check("and nobody counts twice", run.code == Some(1));
    let (run, requests) = story.approve(&hold, "sam")?;
    story.check(
        "with the second yes the call goes on where it was: 200.00 USD went back",
        run.code == Some(0) && lines(&requests).contains(&"POST /v1/refunds".to_owned()),
    );
    let call = call_id(&run);
    story.run(&["audit", "show", &call], 30)?;
    let run = story.run(&["replay", &call], 2)?;
    story.check("and it comes to the same again, offline", run.code == Some(0));
    Ok(())
}

/// A refund that was made is taken back by the operator.
fn undone(story: &mut Story, refund: &str) -> io::Result<()> {
    story.chapter("A refund that is taken back");
    let run = story.run(&["rollback", refund, "--dry-run"], 8)?;
    story.check("first it is shown what would be done", run.code == Some(0));
    let before = story.service.requests()?.len();
    let run = story.run(&["rollback", refund, "--yes"], 8)?;
    let requests = story.service.requests()?.split_off(before);
    story.check(
        "the refund is canceled, through the same gate",
        run.code == Some(0) && lines(&requests) == ["POST /v1/refunds/re_1/cancel"],
    );
    let run = story.run(&["rollback", refund, "--yes"], 3)?;
    story.check("and nothing is undone twice", run.code == Some(2));
    Ok(())
}

fn hostile(story: &mut Story) -> io::Result<()> {
    story.chapter("A hostile tool");
    println!("  It declares refunds and charges, is bound to the same connection, and asks for more.");
    let (run, requests) = story.call("hostile", "try", r#"{"case": "honest"}"#)?;
    story.check(
        "what it declared passes",
        run.code == Some(0) && lines(&requests).contains(&"POST /v1/refunds".to_owned()),
    );
    for (case, what) in ATTEMPTS {
        let (run, requests) = story.call("hostile", "try", &format!(r#"{{"case": "{case}"}}"#))?;
        let refused = run.code == Some(1) && run.err.contains("refused");
        story.check(
            &format!("{what}: refused, and nothing was sent"),
            refused && nothing_posted(&requests),
        );
    }
    Ok(())
}

fn misleading(story: &mut Story) -> io::Result<()> {
    story.chapter("A service that sends the hostile tool on to loopback");
    let (run, _) = story.call("hostile", "try", r#"{"case": "redirected"}"#)?;
    let strayed = story
        .service
        .events()?
        .iter()
        .any(|event| matches!(event, Event::Strayed { .. }));
    story.check(
        "the redirect was an answer, not an order",
        run.out.contains("302") && !strayed,
    );

    story.chapter("A name that leads to loopback");
    println!("  The operator did not allow addresses of this machine; the name resolves to one.");
    story.configure(&format!("localhost:{}", story.service.port), false)?;
    let before = story.service.events()?.len();
    let (run, _) = story.call("hostile", "try", r#"{"case": "honest-read"}"#)?;
    story.check(
        "refused, before a connection was made",
        run.code == Some(1) && run.err.contains("loopback") && story.service.events()?.len() == before,
    );
    story.configure(&format!("127.0.0.1:{}", story.service.port), true)
}

fn snooping(story: &mut Story) -> io::Result<()> {
    story.chapter("A tool that looks around through WASI");
    for (case, what) in PLACES {
        let (run, _) = story.call("snoop", "try", &format!(r#"{{"case": "{case}"}}"#))?;
        story.check(
            &format!("{what}: nothing there"),
            run.code == Some(1) && run.out.contains("nothing"),
        );
    }
    Ok(())
}

/// An operator stops a tool, and lets it go on.
fn stopped(story: &mut Story) -> io::Result<()> {
    story.chapter("An operator stops the tool");
    story.run(&["kill", "tool:stripe", "--reason", "refunds look odd today"], 2)?;
    let read = r#"{"id": "ch_shoes"}"#;
    let (run, requests) = story.call("stripe", "charges.get", read)?;
    story.check(
        "nothing begins, in this process or a later one",
        run.code == Some(1) && run.err.contains("kill") && requests.is_empty(),
    );
    story.run(&["unkill", "tool:stripe"], 2)?;
    let (run, _) = story.call("stripe", "charges.get", read)?;
    story.check("until the stop is lifted", run.code == Some(0));
    Ok(())
}

/// What a stricter policy would have changed of all that was recorded.
fn weighed(story: &mut Story) -> io::Result<()> {
    story.chapter("Another policy, before it is in force");
    let stricter = story.folder.join("stricter");
    copy_folder(&story.home.folder().join("policy"), &stricter)?;
    let rule = "@id(\"ten-dollars\")\nforbid (principal, action == Action::\"commit\", resource)\n\
                when { context.spend.kind == \"known\" && context.spend.minor > 1000 };\n";
    fs::write(stricter.join("stricter.cedar"), rule)?;
    println!("  A copy of the policies, with one rule more:\n");
    rule.lines().for_each(|line| println!("    {line}"));
    let run = story.run(&["what-if", "--policy", &stricter.display().to_string()], 8)?;
    story.check(
        "each recorded effect that it would have denied is named, with the rule",
        run.code == Some(1) && run.out.contains("ten-dollars"),
    );
    Ok(())
}

fn record(story: &mut Story, refund: &str) -> io::Result<()> {
    story.chapter("What happened, from the ledger");
    let run = story.run(&["audit", "show", refund], 40)?;
    story.check(
        "who, what, which rule, what left, what came back",
        run.code == Some(0) && run.out.contains("stripe-refunds"),
    );
    let run = story.run(&["audit", "verify"], 8)?;
    story.check("every entry is where and what it was", run.code == Some(0));

    story.chapter("A receipt, verified by somebody who has nothing but the public key");
    let receipt = story.folder.join("receipt.json");
    let key = story.home.folder().join("keys/ledger.pub");
    story.run(
        &["audit", "prove", refund, "--output", &receipt.display().to_string()],
        4,
    )?;
    let elsewhere = story.home.moved(&story.folder.join("nowhere"));
    let verify = [
        "receipt",
        "verify",
        &receipt.display().to_string(),
        "--key",
        &key.display().to_string(),
    ];
    let run = elsewhere.run(verify, "")?;
    println!(
        "\n  $ ambit receipt verify receipt.json --key ledger.pub\n    {}",
        run.out.trim().replace('\n', "\n    ")
    );
    story.check("it proves the call", run.code == Some(0));
    let text = fs::read_to_string(&receipt)?;
    fs::write(&receipt, text.replace("2500", "2600"))?;
    let run = elsewhere.run(verify, "")?;
    story.check(
        "with another amount it proves nothing",
        text.contains("2500") && run.code == Some(1),
    );
    Ok(())
}

fn tampering(story: &mut Story, refund: &str, old: &Home) -> io::Result<()> {
    story.chapter("Somebody with access to the disk");
    let tampered = story.copy_home("tampered")?;
    let changed = change_amount(tampered.folder(), refund).map_err(io::Error::other)?;
    let run = tampered.run(["audit", "verify"], "")?;
    println!("\n  An amount was changed in the ledger:\n    {}", first_line(&run));
    story.check(
        "caught, and the entry named",
        changed && run.code == Some(1) && run.err.contains("entry"),
    );

    let truncated = story.copy_home("truncated")?;
    cut_tail(truncated.folder()).map_err(io::Error::other)?;
    let run = truncated.run(["audit", "verify"], "")?;
    println!("\n  The last entries were cut off:\n    {}", first_line(&run));
    story.check("caught", run.code == Some(1));

    story.call("stripe", "charges.get", r#"{"id": "ch_coffee"}"#)?;
    let run = old.run(["audit", "verify"], "")?;
    println!(
        "\n  The whole home was put back to what it was before that call:\n    {}",
        first_line(&run)
    );
    story.check("caught: a checkpoint is kept elsewhere", run.code == Some(1));
    let run = old.run(
        [
            "call",
            "stripe",
            "charges.get",
            "--args",
            r#"{"id": "ch_coffee"}"#,
            "--for",
            "ada",
        ],
        "",
    )?;
    story.check("and nothing is called on it", run.code.is_some_and(|code| code != 0));
    Ok(())
}

fn secrecy(story: &mut Story) -> io::Result<()> {
    story.chapter("The token");
    let files = story.home.files_with(std::slice::from_ref(&story.service.token))?;
    story.check("is in no file of the home", files.is_empty());
    Ok(())
}

/// Changes the amount in a call's entries, as bytes in the database.
fn change_amount(home: &Path, call: &str) -> rusqlite::Result<bool> {
    let ledger = Connection::open(home.join("ledger.db"))?;
    let mut entries = ledger
        .prepare("SELECT idx, bytes FROM entries WHERE call = ?1 AND kind = 'effect-intent' ORDER BY idx DESC")?;
    let rows: Vec<(i64, Vec<u8>)> = entries
        .query_map([call], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (index, bytes) in rows {
        let text = String::from_utf8_lossy(&bytes);
        if text.contains("2500") {
            let lower = text.replace("2500", "0500").into_bytes();
            return ledger
                .execute("UPDATE entries SET bytes = ?1 WHERE idx = ?2", (lower, index))
                .map(|changed| changed == 1);
        }
    }
    Ok(false)
}

/// Takes away the newest entries.
fn cut_tail(home: &Path) -> rusqlite::Result<usize> {
    let ledger = Connection::open(home.join("ledger.db"))?;
    ledger.execute(
        "DELETE FROM entries WHERE idx >= (SELECT max(idx) - 2 FROM entries)",
        [],
    )
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn lines(requests: &[Request]) -> Vec<String> {
    requests
        .iter()
        .map(|request| format!("{} {}", request.method, request.path))
        .collect()
}

/// The host may have looked up a charge's currency; nothing else arrived.
fn nothing_posted(requests: &[Request]) -> bool {
    let look_up = |request: &Request| request.method == "GET" && request.path.starts_with("/v1/charges/");
    requests.iter().all(look_up)
}

/// The id that the command names at the end of what it says.
fn call_id(run: &Run) -> String {
    let mut words = run.err.split_whitespace();
    words.find(|word| word.starts_with("c_")).unwrap_or_default().to_owned()
}

fn first_line(run: &Run) -> String {
    run.err
        .lines()
        .chain(run.out.lines())
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .to_owned()
}

fn quoted(word: &str) -> String {
    if word.contains(['{', ' ']) {
        format!("'{word}'")
    } else {
        word.to_owned()
    }
}
