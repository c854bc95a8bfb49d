//! What is measured on: a home with ten tools, two connections, a budget and 50 policies.

use std::cell::OnceCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ambit_core::ledger::{Entry, EntryDraft};
use ambit_core::manifest::Manifest;
use ambit_core::policy::Mode;
use ambit_runtime::call::Outcome;
use ambit_runtime::call::{Answer, CallRequest};
use ambit_runtime::config::Config;
use ambit_runtime::gate::Wire;
use ambit_runtime::home;
use ambit_runtime::host::{Host, HostOptions, OpenError};
use ambit_runtime::sandbox::Compiler;
use bytes::Bytes;
use tempfile::TempDir;

use super::many::Waiting;
use super::{Failed, Measured};
use crate::programs::{component, program};

/// Rules in force, those of a new home included.
pub(super) const POLICIES: usize = 50;

/// An agent of the same team as the one that is measured.
pub(super) const OTHER: &str = "other";

/// Name in the home → component.
const TOOLS: [(&str, &str); 10] = [
    ("echo", "good_echo"),
    ("effects", "good_effects"),
    ("lookups", "good_effects"),
    ("spin", "hostile_sandbox"),
    ("stripe", "stripe"),
    ("wire", "hostile_wire"),
    ("wasi", "hostile_wasi"),
    ("echo-two", "good_echo"),
    ("endless", "hostile_sandbox"),
    ("wire-two", "hostile_wire"),
];

/// What the service answers to everything: a charge and a refund in one.
const ANSWER: &str = r#"{"id":"re_1","object":"refund","charge":"ch_shoes","amount":2500,"amount_refunded":2500,"currency":"usd","status":"succeeded","refunded":false,"reason":"duplicate","created":1763700000,"metadata":{"order":"6735"},"billing_details":{"name":"Ann Example","email":"ann@example.org"},"livemode":false}"#;

/// A home and the folder it is in.
pub(super) struct Setting {
    folder: TempDir,
    /// What two rows are about, once it was measured for the first.
    waiting: OnceCell<Waiting>,
}

impl Setting {
    pub(super) fn make(scratch: &Path) -> Measured<Setting> {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(scratch)?;
        let setting = Setting {
            folder,
            waiting: OnceCell::new(),
        };
        let home = setting.home();
        home::init(&home).map_err(open_failed)?;
        let token = setting.folder.path().join("token");
        fs::write(&token, "sk_test_4eC39HqLyjWDarjtT1zdp7dc\n")?;
        fs::write(home.join("ambit.toml"), configuration(&token))?;
        fs::write(home.join("policy/main.cedar"), policies())?;
        for (name, source) in TOOLS {
            let bytes = fs::read(component(source))?;
            home::add_tool(&home, name, &bytes, &Manifest::read(&bytes)?).map_err(open_failed)?;
        }
        // Compiles each component once; from here on the cache has them.
        let host = setting.open(setting.in_memory(&[]))?;
        match host.tools().count() {
            10 => Ok(setting),
            other => Err(format!("{other} tools are loaded, not 10").into()),
        }
    }

    pub(super) const fn waiting(&self) -> &OnceCell<Waiting> {
        &self.waiting
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(super) fn config(&self) -> Measured<Config> {
        Config::load(&self.home()).map_err(|problems| open_failed(problems.into()))
    }

    /// A host on the home.
    pub(super) fn open(&self, options: HostOptions) -> Measured<Host> {
        open(&self.home(), options)
    }

    /// The same home once more, of which the configuration says this besides; no process holds it.
    pub(super) fn again(&self, name: &str, more: &str) -> Measured<PathBuf> {
        let home = self.folder.path().join(name);
        copy(&self.home(), &home)?;
        let file = home.join("ambit.toml");
        fs::write(&file, fs::read_to_string(&file)? + more)?;
        Ok(home)
    }

    /// A host whose ledger is in memory and whose service answers from memory.
    pub(super) fn in_memory(&self, tools: &[&str]) -> HostOptions {
        HostOptions {
            memory_ledger: true,
            wire: Some(answering()),
            ..on_disk(tools)
        }
    }
}

/// Copies a folder; what is no file of it is of a process.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// A host on a home.
pub(super) fn open(home: &Path, options: HostOptions) -> Measured<Host> {
    let config = Config::load(home).map_err(|problems| open_failed(problems.into()))?;
    Host::open(config, options).map_err(open_failed)
}

/// Options of a host with these tools, all where none is named.
pub(super) fn on_disk(tools: &[&str]) -> HostOptions {
    HostOptions {
        compiler: Some(compiler()),
        ..HostOptions::for_tools(tools.iter().copied())
    }
}

/// How components are compiled.
pub(super) fn compiler() -> Compiler {
    Compiler::Child(program("ambit"))
}

/// What the service answers with.
pub(super) fn response() -> http::Response<Bytes> {
    let mut response = http::Response::new(Bytes::from_static(ANSWER.as_bytes()));
    let headers = response.headers_mut();
    headers.insert("content-type", http::HeaderValue::from_static("application/json"));
    headers.insert("request-id", http::HeaderValue::from_static("req_Yx8TgDkqwAmk8u"));
    headers.insert("date", http::HeaderValue::from_static("Sat, 21 Nov 2026 05:00:00 GMT"));
    response
}

fn answering() -> Wire {
    Wire::answering(response())
}

/// A call by the agent that policy permits the most.
pub(super) fn request(tool: &str, function: &str, args: &str) -> CallRequest {
    CallRequest {
        tool: tool.to_owned(),
        function: function.to_owned(),
        args: args.to_owned(),
        agent: "assistant".to_owned(),
        user: Some("ada".to_owned()),
        mode: Mode::Execute,
        run: None,
        trace: None,
        narrowing: ambit_core::grant::Narrowing::default(),
        listener: None,
        cancel: None,
    }
}

/// The smallest call: 54 bytes in, a number out.
pub(super) const TEXT: &str = "a text of some fifty bytes, as it is in small requests";

/// The smallest call's request.
pub(super) fn trivial() -> CallRequest {
    request("echo", "hash", &format!(r#"{{"json":"{TEXT}"}}"#))
}

/// A call that must succeed.
pub(super) fn call(host: &Host, request: CallRequest) -> Measured<Answer> {
    let answer = host.call(request)?;
    match &answer.outcome {
        Outcome::Ok(_) if answer.refused_effects.is_empty() => Ok(answer),
        other => Err(format!("a call came to {other:?}; {:?}", answer.refused_effects).into()),
    }
}

/// What an entry says, to be written again as another call's.
pub(super) fn template(entry: &Entry) -> EntryDraft {
    EntryDraft {
        body: entry.body().clone(),
        call: None,
        config: entry.config(),
        policy: entry.policy(),
        principal: entry.principal().cloned(),
        tool: entry.tool(),
        trace: None,
    }
}

fn open_failed(error: OpenError) -> Failed {
    match error {
        OpenError::Problems(problems) => {
            let problems: Vec<String> = problems.iter().map(|problem| problem.message().to_owned()).collect();
            problems.join("; ").into()
        }
        other => other.into(),
    }
}

/// Two connections to one service: of the one the currency is known, of the other it is looked up.
fn configuration(token: &Path) -> String {
    let connection = |name: &str, currency: &str| {
        format!(
            r#"
[connection.{name}]
origin = "https://api.stripe.com"
credential = {{ file = "{}", as = "bearer" }}

[connection.{name}.route."refunds.create"]
match = "POST /v1/refunds"
tier = "commit"
fields = ["charge", "amount", "reason"]
required = ["charge", "amount"]
reads = ["id", "charge", "amount", "currency", "status", "error.code", "error.message"]
body = "form"
money = {{ amount = "amount", currency = {currency} }}
idempotency = {{ header = "Idempotency-Key", lifetime = "24h" }}

[connection.{name}.route."charges.get"]
match = "GET /v1/charges/{{id}}"
reads = ["id", "amount", "amount_refunded", "currency", "status", "refunded", "error.code", "error.message"]

[connection.{name}.route."refunds.get"]
match = "GET /v1/refunds/{{id}}"
reads = ["id", "charge", "amount", "currency", "status"]

[connection.{name}.route."refunds.cancel"]
match = "POST /v1/refunds/{{id}}/cancel"
tier = "commit"
reads = ["id", "charge", "amount", "currency", "status"]
"#,
            token.display()
        )
    };
    [
        r#"[agent.assistant]
team = "support"
tenant = "acme"
users = ["ada"]

[agent.other]
team = "support"
tenant = "acme"

[group.reviewer]
members = ["rita"]

[server]

[tool.effects.bind]
stripe = "known"

[tool.lookups.bind]
stripe = "looked-up"

[tool.spin.limits]
fuel = 1000000000000
wall_ms = 100

[tool.endless.limits]
fuel = 1000000000000
wall_ms = 60000

[budget.refunds-a-day]
route = "known/refunds.create"
unit = "usd"
window = "day"
cap = 4000000000000000
"#
        .to_owned(),
        connection("known", r#"{ constant = "usd" }"#),
        connection(
            "looked-up",
            r#"{ lookup = "charges.get", from = "charge", read = "currency" }"#,
        ),
    ]
    .concat()
}

/// As a home would have them: a few for everything, most for one route of another team's, some that forbid. With the one
/// that a new home has there are [`POLICIES`].
fn policies() -> String {
    let ours = r#"
@id("support-calls")
permit (principal in Team::"support", action == Action::"call", resource);
@id("support-reads")
permit (principal in Team::"support", action == Action::"read", resource);
@id("support-refunds")
permit (principal in Team::"support", action == Action::"commit", resource == Route::"known/refunds.create")
when { context.spend.kind == "known" && context.spend.currency == "usd" && context.spend.minor <= 50000 };
@id("support-looked-up-refunds")
permit (principal in Team::"support", action == Action::"commit", resource == Route::"looked-up/refunds.create")
when { context.spend.kind == "known" && context.spend.currency == "usd" && context.spend.minor <= 50000 };
@id("no-other-currency")
forbid (principal, action == Action::"commit", resource)
when { context.spend.kind == "known" && context.spend.currency != "usd" };
@id("no-fraud-refunds")
forbid (principal, action == Action::"commit", resource)
when { context.values.contains("reason=fraudulent") };
@id("nothing-exhausted")
forbid (principal, action == Action::"commit", resource)
when { context.exhausted.contains("refunds-a-day") };
"#;
    let teams = (0..5).map(|n| {
        format!(
            "@id(\"team-{n}\") permit (principal in Team::\"team-{n}\", action in [Action::\"read\", Action::\"call\"], resource);\n"
        )
    });
    let routes = (0..POLICIES - 1 - 7 - 5).map(|n| {
        format!(
            "@id(\"route-{n}\") permit (principal in Team::\"team-{}\", action == Action::\"commit\", resource == Route::\"c{}/r{n}\")\n\
             when {{ context.spend.kind == \"known\" && context.spend.currency == \"usd\" && context.spend.minor <= 50000 }};\n",
            n % 5,
            n % 8
        )
    });
    std::iter::once(ours.to_owned()).chain(teams).chain(routes).collect()
}
