//! The host under load: its home, and what is called in it until it is killed.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::thread;

use ambit_core::digest::Digest;
use ambit_core::grant::Narrowing;
use ambit_core::hold::{Standing, Verdict, Vote};
use ambit_core::ledger::body::{Found, RunCap};
use ambit_core::ledger::{CallStory, SignerKey};
use ambit_core::manifest::Manifest;
use ambit_core::money::Unit;
use ambit_core::policy::Mode;
use ambit_runtime::approvals::{ApprovalError, Waiting};
use ambit_runtime::call::{CallRequest, Outcome};
use ambit_runtime::config::Config;
use ambit_runtime::home;
use ambit_runtime::host::{Host, HostOptions};
use ambit_runtime::runs::NewRun;
use ambit_runtime::sandbox::Compiler;

use super::{Failed, Moments};
use crate::programs::{component, program};
use crate::service::Service;

/// Calls that the host makes at once.
const CALLERS: usize = 16;
/// Effects of most calls.
const EFFECTS: u32 = 3;
/// The amount that a person approves first.
const REVIEWED: u64 = 7;
/// What the agent `poor` may spend.
pub(super) const POOR: u64 = 50;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Several effects, one after another.
    Several,
    /// The same, as part of a run.
    InRun,
    /// Two effects, each of which waits for a person.
    Held,
    /// Of an agent whose budget is soon used up.
    Poor,
    /// Declined by the service: a dead letter.
    Declined,
    /// Done by the service, which hangs up: in doubt, told so, and a dead letter.
    HungUp,
    /// Of a route without an idempotency key: what is in doubt there stays so until the service is asked.
    Keyless,
}

impl Kind {
    fn any(moments: &mut Moments) -> Self {
        match moments.below(100) {
            0..54 => Self::Several,
            54..66 => Self::InRun,
            66..78 => Self::Held,
            78..82 => Self::Poor,
            82..86 => Self::Declined,
            86..88 => Self::HungUp,
            _ => Self::Keyless,
        }
    }

    /// `own` is a number that no other call has.
    fn request(self, run: &str, own: u64) -> CallRequest {
        let (charge, amount, count) = match self {
            Self::Several | Self::InRun => ("ch_ocean", 1, EFFECTS),
            Self::Held => ("ch_ocean", REVIEWED, 2),
            Self::Poor => ("ch_ocean", 1, 1),
            Self::Declined => ("ch_nobody", 1, 1),
            Self::HungUp => ("ch_refund_dropped", 1, 1),
            Self::Keyless => ("ch_ocean", own, 1),
        };
        CallRequest {
            tool: if self == Self::Keyless { "keyless" } else { "effects" }.to_owned(),
            function: "refund".to_owned(),
            args: format!(r#"{{"charge":"{charge}","amount":{amount},"count":{count}}}"#),
            agent: if self == Self::Poor { "poor" } else { "assistant" }.to_owned(),
            user: None,
            mode: Mode::Execute,
            run: (self == Self::InRun).then(|| run.to_owned()),
            trace: None,
            narrowing: Narrowing::default(),
            listener: None,
            cancel: None,
        }
    }
}

/// Makes calls until it is killed.
///
/// # Errors
/// Where the home does not open, or the ledger takes no more.
pub(super) fn work(home: &Path, seed: u64) -> Result<(), Failed> {
    let host = open(home)?;
    let run = fs::read_to_string(home.with_file_name("run"))?;
    let mut moments = Moments(seed);
    // What the last one left is gone on with under the same load, and so killed in that too.
    for unended in host.unended()? {
        let call = &unended.story.call;
        let _ = match unended.doubts.first() {
            Some(ordinal) if moments.below(2) == 0 => host.retry_doubt(call, Some(*ordinal), None),
            _ => host.resume(call, None),
        };
    }
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            let mut moments = Moments(moments.number());
            let (host, run) = (&host, run.as_str());
            scope.spawn(move || while one(host, run, &mut moments).is_ok() {});
        }
    });
    Err("the ledger took no more".into())
}

/// One call, with what people and operators do about it.
fn one(host: &Host, run: &str, moments: &mut Moments) -> Result<(), Failed> {
    let kind = Kind::any(moments);
    // Too large for two to be the same by chance, and small enough for a budget.
    let own = 1_000 + moments.below(1 << 26);
    let mut answer = host.call(kind.request(run, own))?;
    while let Outcome::Held(held) = &answer.outcome {
        // Some are left to whoever comes after.
        if moments.below(4) == 0 {
            return Ok(());
        }
        approve(host, held.hold, held.expires_ms)?;
        answer = host.resume(answer.call.as_str(), None)?;
    }
    if matches!(kind, Kind::Declined) && moments.below(2) == 0 {
        let _ = host.retry_dead_letter(answer.call.as_str(), 1, false)?;
    }
    Ok(())
}

/// The person's yes.
fn approve(host: &Host, hold: Digest, expires_ms: u64) -> Result<(), Failed> {
    let vote = Vote {
        person: "rita".to_owned(),
        hold,
        verdict: Verdict::Approve,
        group: "reviewer".to_owned(),
        expires_ms,
        in_stead_of: None,
    };
    host.vote(&vote.sign(&person()?)?, None)?;
    Ok(())
}

fn person() -> Result<SignerKey, Failed> {
    Ok(SignerKey::from_seed("rita", &[7; 32])?)
}

/// What the service knows of an effect.
pub(super) trait Asked {
    /// Looks what it has received since.
    fn look(&mut self) -> Result<(), Failed>;
    /// Whether it has received it.
    fn has(&self, story: &CallStory, ordinal: u32) -> bool;
}

/// What was done about what a killed host left.
#[derive(Clone, Copy, Debug, Default)]
pub struct LookedAfter {
    /// Calls that went on where a killed host had left them.
    pub went_on: usize,
    /// Effects in doubt that turned out to be done.
    pub done: usize,
    /// Effects in doubt that turned out not to be.
    pub not_done: usize,
    /// Effects in doubt that were sent again under their key.
    pub sent_again: usize,
    /// Effects that waited, and whose calls went on with a person's yes.
    pub approved: usize,
    /// Dead letters that were retried.
    pub letters: usize,
}

/// Does what people would: approves what waits, has some effects in doubt sent again and says of the others what the service knows of them,
/// has the calls go on, and retries dead letters once.
pub(super) fn look_after(
    home: &Path,
    service: &mut impl Asked,
    moments: &mut Moments,
    done: &mut LookedAfter,
) -> Result<(), Failed> {
    let host = open(home)?;
    // A call that goes on may wait again.
    while approve_all(&host, home, done)? | go_on(&host, &*service, moments, done)? {}
    // Some of them were sent just now, and are in doubt because the service hung up.
    service.look()?;
    for (work, _) in host.reader()?.doubts()? {
        let ordinal = work.ordinal.ok_or("a doubt without an effect")?;
        settle(&host, &*service, &work.call, ordinal, done)?;
    }
    for (work, _) in host.reader()?.dead_letters(None, 100)? {
        let story = host.reader()?.story(&work.call)?;
        // What was done, and what was retried before, stays in the list.
        let ordinal = work.ordinal.ok_or("a letter without an effect")?;
        if story.letter().is_none() && story.tally().counts().in_doubt == 0 {
            let _ = host.retry_dead_letter(&work.call, ordinal, false)?;
            done.letters += 1;
        }
    }
    Ok(())
}

fn approve_all(host: &Host, home: &Path, done: &mut LookedAfter) -> Result<bool, Failed> {
    let holds = host.reader()?.holds(None, 1_000)?;
    for (work, held) in &holds {
        let config = Config::load(home).map_err(|problems| format!("{problems:?}"))?;
        let waiting = Waiting::of(&host.reader()?, &config, &work.call)?;
        if waiting.is_some_and(|waiting| waiting.standing() != Standing::Approved) {
            approve(host, held.hold, held.expires_ms)?;
        }
        let _ = host.resume(&work.call, None)?;
        done.approved += 1;
    }
    Ok(!holds.is_empty())
}

fn go_on(host: &Host, service: &impl Asked, moments: &mut Moments, done: &mut LookedAfter) -> Result<bool, Failed> {
    let unended = host.unended()?;
    for one in &unended {
        let call = &one.story.call;
        let again = one.doubts.len() == 1 && moments.below(2) == 0;
        if let (true, Some(ordinal)) = (again, one.doubts.first()) {
            match host.retry_doubt(call, Some(*ordinal), None) {
                Ok(_) => {
                    done.sent_again += 1;
                    continue;
                }
                // Its route has no key, or its guest was told of it: the service is asked.
                Err(ApprovalError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for ordinal in &one.doubts {
            settle(host, service, call, *ordinal, done)?;
        }
        let _ = host.resume(call, None)?;
        done.went_on += 1;
    }
    Ok(!unended.is_empty())
}

fn settle(host: &Host, service: &impl Asked, call: &str, ordinal: u32, done: &mut LookedAfter) -> Result<(), Failed> {
    let story = host.reader()?.story(call)?;
    let found = if service.has(&story, ordinal) {
        done.done += 1;
        Found::Done
    } else {
        done.not_done += 1;
        Found::NotDone
    };
    host.settle_doubt(call, Some(ordinal), found, None)?;
    Ok(())
}

fn open(home: &Path) -> Result<Host, Failed> {
    let config = Config::load(home).map_err(|problems| format!("{problems:?}"))?;
    let options = HostOptions {
        compiler: Some(Compiler::Child(program("ambit"))),
        ..HostOptions::default()
    };
    Ok(Host::open(config, options)?)
}

/// A route for refunds, as one of a connection.
fn connection(name: &str, service: &Service, token: &Path, more: &str) -> String {
    format!(
        r#"
[connection.{name}]
origin = "https://api.stripe.com"
connect_to = "127.0.0.1:{port}"
ca = "{ca}"
allow_private = true
credential = {{ file = "{token}", as = "bearer" }}
[connection.{name}.route."refunds.create"]
match = "POST /v1/refunds"
tier = "commit"
fields = ["charge", "amount", "reason"]
required = ["charge", "amount"]
reads = ["id"]
body = "form"
money = {{ amount = "amount", currency = {{ constant = "usd" }} }}
{more}
"#,
        port = service.port,
        ca = service.ca.display(),
        token = token.display(),
    )
}

/// Makes the home, with its tools, person and run.
pub(super) fn make(home: &Path, service: &Service, scratch: &Path) -> Result<(), Failed> {
    home::init(home)?;
    let token = scratch.join("token");
    fs::write(&token, &service.token)?;
    let keyed = "idempotency = { header = \"Idempotency-Key\", lifetime = \"24h\" }\ndead_letter = true";
    let mut configuration = fs::File::create(home.join("ambit.toml"))?;
    write!(
        configuration,
        r#"
[agent.assistant]
team = "support"
tenant = "acme"
[agent.poor]
team = "support"
tenant = "acme"
[group.reviewer]
members = ["rita"]
{stripe}{keyless}
[tool.effects.bind]
stripe = "stripe"
[tool.keyless.bind]
stripe = "keyless"
[budget.money]
unit = "usd"
window = "month"
cap = 1000000000000000
[budget.poor]
agent = "poor"
unit = "usd"
window = "month"
cap = {POOR}
[budget.effects]
unit = "effects"
window = "month"
cap = 1000000000
[budget.calls]
unit = "calls"
window = "month"
cap = 1000000000
"#,
        stripe = connection("stripe", service, &token, keyed),
        keyless = connection("keyless", service, &token, ""),
    )?;
    fs::write(
        home.join("policy/main.cedar"),
        format!(
            "@id(\"all\") permit (principal, action, resource);\n@id(\"reviewed\") forbid (principal, action == Action::\"commit\", \
             resource == Route::\"stripe/refunds.create\") when {{ context.spend.kind == \"known\" && context.spend.minor == {REVIEWED} }} \
             unless {{ context.approvals.reviewer >= 1 }};\n"
        ),
    )?;
    let bytes = fs::read(component("good_effects"))?;
    for tool in ["effects", "keyless"] {
        home::add_tool(home, tool, &bytes, &Manifest::read(&bytes)?)?;
    }
    home::enrol_person(home, &person()?.verifier().to_string())?;
    let run = home::start_run(
        home,
        &NewRun {
            agent: "assistant".to_owned(),
            user: None,
            mode: Mode::Execute,
            length_ms: 24 * 60 * 60 * 1_000,
            caps: vec![RunCap {
                over: None,
                cap: 1_000_000_000,
                unit: Unit::Effects,
            }],
            errors: None,
        },
    )?;
    fs::write(home.with_file_name("run"), run.id())?;
    // Compiles the component once.
    drop(open(home)?);
    Ok(())
}
