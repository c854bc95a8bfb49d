//! The files that an operator writes.

use std::collections::BTreeMap;

use ambit_core::digest::Digest;
use ambit_core::error::Problem;
use ambit_core::identity::{AgentSpec, Directory};
use ambit_core::money::Spend;
use ambit_core::policy::{CallFacts, Effect, EffectFacts, FieldFacts, Mode, PolicySet, SHIPPED};
use ambit_core::scope::Tier;
use ambit_runtime::config::lock::Lock;
use ambit_runtime::config::{TEMPLATE, fuzz};

use crate::fuzz::Became;

pub(super) const CONFIG_WORDS: &[&str] = &[
    "[connection.a]",
    "[connection.a.route.\"b.c\"]",
    "[tool.a.bind]",
    "[tool.a.limits]",
    "[limits]",
    "[agent.a]",
    "[group.a]",
    "[budget.a]",
    "[ledger]",
    "[policy]",
    "unit = \"bytes\"",
    "window = { rolling = \"24h\" }",
    "window = \"month\"",
    "origin = \"https://a.com\"",
    "connect_to = \"127.0.0.1:1\"",
    "ca = \"a.pem\"",
    "allow_private = true",
    "credential = { env = \"A\", as = \"bearer\" }",
    "credential = { file = \"a\", as = { header = \"x-key\" } }",
    "base = \"/v1\"",
    "match = \"POST /v1/a/{id}\"",
    "tier = \"commit\"",
    "tier = { if = \"draft == true\", then = \"draft\", else = \"commit\" }",
    "fields = [\"a\", \"b.c\"]",
    "required = [\"a\"]",
    "query = [\"q\"]",
    "reads = [\"**\"]",
    "headers = [\"if-match\"]",
    "body = \"form\"",
    "body = \"json\"",
    "money = { amount = \"a\", currency = \"usd\" }",
    "currency = { lookup = \"a\", from = \"b\", read = \"c\" }",
    "idempotency = { header = \"Idempotency-Key\", lifetime = \"24h\" }",
    "team = \"t\"",
    "tenant = \"n\"",
    "users = [\"u\"]",
    "members = [\"m\"]",
    "cap = 100",
    "usd = 100",
    "per = \"day\"",
    "high_water = \"hw\"",
    "dir = \"policy\"",
    "fuel = 1",
    "=",
    "\n",
    "\"",
    "{",
    "}",
    "[",
    "]",
    "\"\"\"",
    "'",
    "#",
    ".",
    ",",
    "1e9",
    "true",
    "0x10",
    "1979-05-27",
    "inf",
];

pub(super) const LOCK_WORDS: &[&str] = &[
    "version = 1",
    "[tool.a]",
    "[tool.\"a\"]",
    "digest = \"sha256:",
    "world = \"",
    "accepted_ms = ",
    "\\u0000",
    "\\\"",
    "'''",
    "\"\"\"",
    "\n",
    "#",
    "=",
    "é",
    "0x1",
    "1_000",
    "-1",
    "true",
];

pub(super) const POLICY_WORDS: &[&str] = &[
    "@id(\"a\")",
    "@hint(\"because\")",
    "permit (",
    "forbid (",
    "principal",
    "action",
    "resource",
    " in ",
    " == ",
    " is ",
    "Team::\"support\"",
    "Tenant::\"acme\"",
    "Agent::\"ada\"",
    "Tool::\"stripe\"",
    "Function::\"stripe/refunds.create\"",
    "Connection::\"stripe\"",
    "Route::\"stripe/refunds.create\"",
    "Action::\"call\"",
    "Action::\"read\"",
    "Action::\"commit\"",
    "Action::\"draft\"",
    "[Action::\"read\", Action::\"commit\"]",
    "when {",
    "unless {",
    "}",
    ");",
    ";",
    "context.spend.minor",
    "context.spend.kind == \"known\"",
    "context.approvals.finance >= 2",
    "context.mode == \"suggest\"",
    "context.fields",
    ".contains(\"amount\")",
    ".containsAll([])",
    "context has user",
    "context.user == \"u\"",
    " && ",
    " || ",
    "!",
    "<= 50000",
    "+ 1",
    "* 9223372036854775807",
    "if true then true else false",
    "ip(\"127.0.0.1\")",
    "decimal(\"1.0\")",
    " like \"*\"",
    "?principal",
    "// ",
    "\n",
    "\"",
    "\\u{0}",
    "((((((((",
];

pub(super) fn configs() -> Vec<Vec<u8>> {
    vec![TEMPLATE.as_bytes().to_vec()]
}

pub(super) fn policies() -> Vec<Vec<u8>> {
    vec![SHIPPED.as_bytes().to_vec()]
}

/// Beside what the configuration holds of itself: problems can be shown.
pub(super) fn config(bytes: &[u8]) -> Became {
    fuzz(bytes).map_err(|problems| shown(&problems))
}

/// What is read is written as a text that says the same, and that no other reading of TOML takes for something else.
pub(super) fn lock(bytes: &[u8]) -> Became {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let lock = Lock::parse("tools.lock", text).map_err(|problems| shown(&problems))?;
    let written = lock.to_text();
    let again = Lock::parse("tools.lock", &written).map_err(|problems| shown(&problems));
    assert_eq!(again.as_ref(), Ok(&lock), "{written}");
    assert_eq!(again.map(|lock| lock.to_text()), Ok(written));
    Ok(())
}

/// What loads decides, twice the same; nothing is allowed that no permit allows; with a forbid of everything, nothing is.
pub(super) fn policy(bytes: &[u8]) -> Became {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let load = |text: &str| PolicySet::load(&[("main.cedar".to_owned(), text.to_owned())], &groups());
    let set = load(text).map_err(|problems| shown(&problems))?;
    let denying = load(&format!(
        "{text}\n@id(\"zz.never\") forbid (principal, action, resource);"
    ))
    .expect("one more rule");
    assert_eq!(denying.rules().len(), set.rules().len() + 1);
    let mut allowed = false;
    for question in 0..QUESTIONS {
        let (decided, rules) = decide(&set, question);
        assert_eq!(
            (decided, &rules),
            (decide(&set, question).0, &decide(&set, question).1),
            "asked twice"
        );
        if decided {
            let permits = |id: &String| {
                set.rules()
                    .iter()
                    .any(|rule| rule.id == *id && rule.effect == Effect::Permit)
            };
            assert!(!rules.is_empty() && rules.iter().all(permits), "allowed by {rules:?}");
        }
        assert!(!decide(&denying, question).0, "allowed beside a forbid of everything");
        allowed |= decided;
    }
    if allowed {
        Ok(())
    } else {
        Err("loads, and permits nothing".to_owned())
    }
}

fn groups() -> BTreeMap<String, usize> {
    [("reviewer".to_owned(), 0), ("finance".to_owned(), 2)].into()
}

const QUESTIONS: usize = 6;

/// Some questions about the words of the seeds.
fn decide(set: &PolicySet, question: usize) -> (bool, Vec<String>) {
    let spec = AgentSpec {
        team: "support".to_owned(),
        tenant: "acme".to_owned(),
        users: ["u".to_owned()].into(),
    };
    let directory = Directory::new([("ada".to_owned(), spec)].into()).expect("a directory");
    let caller = directory
        .caller("ada", (question % 2 == 1).then_some("u"))
        .expect("a caller");
    let call = CallFacts {
        caller: &caller,
        run: None,
        mode: if question == 2 { Mode::Suggest } else { Mode::Execute },
        tool: "stripe",
        tool_digest: Digest::of(b""),
        function: "refunds.create",
    };
    if question < 2 {
        let decision = set.decide_call(&call);
        return (decision.allowed(), decision.rules().to_vec());
    }
    let usd = "usd".parse().expect("a currency");
    let approvals = [("finance".to_owned(), question as u32 - 2)].into();
    let decision = set.decide_effect(&EffectFacts {
        call,
        connection: "stripe",
        route: "refunds.create",
        tier: if question == 5 { Tier::Read } else { Tier::Commit },
        fields: &FieldFacts::default(),
        captures: &BTreeMap::new(),
        recipients: &[],
        exhausted: &[],
        spend: if question == 3 {
            Spend::None
        } else {
            Spend::Known {
                currency: usd,
                minor: 5000,
            }
        },
        approvals: &approvals,
    });
    (decision.allowed(), decision.rules().to_vec())
}

/// The problems as the command shows them. None may be without words, or of a place that is not in its file.
fn shown(problems: &[Problem]) -> String {
    assert!(!problems.is_empty(), "refused without a reason");
    let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
    let mut words = String::new();
    for problem in problems {
        let mut text = String::new();
        handler
            .render_report(&mut text, problem)
            .expect("a problem that can be shown");
        assert!(!problem.message().trim().is_empty());
        words.push_str(problem.message());
    }
    words
}
