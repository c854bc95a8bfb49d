//! Kills a host under load again and again, and holds its ledger against what the service received.
//!
//! Three processes: the service, which writes down each request before it answers; a host that makes as many calls at once as it can;
//! and this one, which kills the host at random moments, looks what it left behind, and says of each effect in doubt what the service
//! knows of it. At the end everything must add up: nothing was received that has no durable intent, nothing was received twice, every
//! intent is known, and budgets have used what was done and nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ambit_core::digest::Digest;
use ambit_core::grant::Narrowing;
use ambit_core::ledger::body::{Found, Outcome};
use ambit_core::ledger::story::EffectStory;
use ambit_core::manifest::Manifest;
use ambit_core::policy::Mode;
use ambit_runtime::call::CallRequest;
use ambit_runtime::config::Config;
use ambit_runtime::home;
use ambit_runtime::host::{Host, HostOptions};
use ambit_runtime::sandbox::Compiler;
use ambit_runtime::store::{CallFilter, Keys, Reader, verifier};

use crate::programs::{component, program};
use crate::service::{Event, Service};

/// What a run fails with.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Calls that the host makes at once.
const CALLERS: usize = 16;
/// Effects of each call.
const EFFECTS: u32 = 3;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Effects that the service receives at least.
    pub effects: usize,
    /// Of the moments at which the host is killed.
    pub seed: u64,
}

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How often a host was killed.
    pub kills: usize,
    /// Requests that the service received.
    pub received: usize,
    /// Intents on the ledger.
    pub intents: usize,
    /// Calls that went on where a killed host had left them.
    pub went_on: usize,
    /// Effects that were in doubt, and turned out to be done or not.
    pub in_doubt: (usize, usize),
    /// Everything that does not add up.
    pub wrong: Vec<String>,
}

/// Kills hosts until the service has received as many requests as planned.
///
/// # Errors
/// Where a process does not start, or a home does not open; what does not add up is in the [`Report`].
pub fn run(scratch: &Path, plan: Plan, mut progress: impl FnMut(usize)) -> Result<Report, Failed> {
    let service = Service::start(&scratch.join("service"))?;
    let home = scratch.join("home");
    make(&home, &service, scratch)?;
    let mut received = Received::default();
    let mut report = Report::default();
    let mut moments = Moments(plan.seed);
    while received.keys.len() < plan.effects {
        let before = received.keys.len();
        let mut host = start(&home)?;
        thread::sleep(moments.next());
        host.kill()?;
        host.wait()?;
        report.kills += 1;
        // What is on its way still arrives.
        thread::sleep(Duration::from_millis(100));
        received.read(&service)?;
        look_after(&home, &received, &mut report)?;
        progress(received.keys.len());
        if report.kills > 20 && received.keys.len() == before {
            return Err("hosts do nothing any more".into());
        }
    }
    received.read(&service)?;
    judge(&home, &received, &mut report)?;
    Ok(report)
}

/// Makes calls until it is killed: the host under load. Prints a line when it has begun.
///
/// # Errors
/// Where the home does not open.
pub fn work(home: &Path) -> Result<(), Failed> {
    let host = open(home)?;
    // What the last one left is gone on with under the same load, and so killed in that too.
    for unended in host.unended()? {
        let _ = host.resume(&unended.story.call, None);
    }
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| while host.call(refund()).is_ok() {});
        }
    });
    Err("the ledger took no more".into())
}

fn refund() -> CallRequest {
    CallRequest {
        tool: "effects".to_owned(),
        function: "refund".to_owned(),
        args: format!(r#"{{"charge":"ch_ocean","amount":1,"count":{EFFECTS}}}"#),
        agent: "assistant".to_owned(),
        user: None,
        mode: Mode::Execute,
        trace: None,
        narrowing: Narrowing::default(),
        listener: None,
    }
}

fn start(home: &Path) -> io::Result<Child> {
    Command::new(program("ambit-crash"))
        .arg("--work")
        .arg(home)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn open(home: &Path) -> Result<Host, Failed> {
    let config = Config::load(home).map_err(|problems| format!("{problems:?}"))?;
    let options = HostOptions {
        compiler: Some(Compiler::Child(program("ambit"))),
        ..HostOptions::default()
    };
    Ok(Host::open(config, options)?)
}

fn make(home: &Path, service: &Service, scratch: &Path) -> Result<(), Failed> {
    home::init(home)?;
    let token = scratch.join("token");
    fs::write(&token, &service.token)?;
    let mut configuration = fs::File::create(home.join("ambit.toml"))?;
    write!(
        configuration,
        r#"
[agent.assistant]
team = "support"
tenant = "acme"
[group.reviewer]
members = []
[connection.stripe]
origin = "https://api.stripe.com"
connect_to = "127.0.0.1:{port}"
ca = "{ca}"
allow_private = true
credential = {{ file = "{token}", as = "bearer" }}
[connection.stripe.route."refunds.create"]
match = "POST /v1/refunds"
tier = "commit"
fields = ["charge", "amount", "reason"]
required = ["charge", "amount"]
reads = ["id"]
body = "form"
money = {{ amount = "amount", currency = {{ constant = "usd" }} }}
idempotency = {{ header = "Idempotency-Key", lifetime = "24h" }}
[tool.effects.bind]
stripe = "stripe"
[budget.money]
unit = "usd"
window = "month"
cap = 1000000000
[budget.effects]
unit = "effects"
window = "month"
cap = 1000000000
[budget.calls]
unit = "calls"
window = "month"
cap = 1000000000
"#,
        port = service.port,
        ca = service.ca.display(),
        token = token.display(),
    )?;
    fs::write(
        home.join("policy/main.cedar"),
        "@id(\"all\") permit (principal, action, resource);\n",
    )?;
    let bytes = fs::read(component("good_effects"))?;
    home::add_tool(home, "effects", &bytes, &Manifest::read(&bytes)?)?;
    // Compiles the component once.
    drop(open(home)?);
    Ok(())
}

/// What the service received, by idempotency key, and with what status it answered.
#[derive(Default)]
struct Received {
    keys: HashMap<String, u16>,
    twice: Vec<String>,
    seen: usize,
}

impl Received {
    fn read(&mut self, service: &Service) -> Result<(), Failed> {
        let events = service.events()?;
        for event in events.iter().skip(self.seen) {
            let Event::Request(request) = event else { continue };
            let key = request.headers.get("idempotency-key").cloned().unwrap_or_default();
            if self.keys.insert(key.clone(), request.status).is_some() {
                self.twice.push(key);
            }
        }
        self.seen = events.len();
        Ok(())
    }
}

/// The key under which the service knows an effect: what `Idempotency-Key` says of it.
fn key(call: &str, ordinal: u32) -> String {
    Digest::domain("ambit/idempotency/v1", &[call.as_bytes(), &ordinal.to_be_bytes()]).to_hex()
}

/// Does what an operator would: says of each effect in doubt what the service knows of it, and has the calls go on.
fn look_after(home: &Path, received: &Received, report: &mut Report) -> Result<(), Failed> {
    let host = open(home)?;
    for unended in host.unended()? {
        let call = &unended.story.call;
        for ordinal in &unended.doubts {
            let found = if received.keys.contains_key(&key(call, *ordinal)) {
                report.in_doubt.0 += 1;
                Found::Done
            } else {
                report.in_doubt.1 += 1;
                Found::NotDone
            };
            host.settle_doubt(call, Some(*ordinal), found, None)?;
        }
        host.resume(call, None)?;
        report.went_on += 1;
    }
    Ok(())
}

fn judge(home: &Path, received: &Received, report: &mut Report) -> Result<(), Failed> {
    let reader = Reader::open(home)?.with_keys(&Keys::load(home)?);
    reader.verify(&verifier(home)?, &[], |_| {})?;
    reader.check_values(|_| {})?;
    let stories = reader.calls(&CallFilter::default())?;
    let mut intended = HashSet::new();
    let (mut done, mut sent) = (0_u64, 0_u64);
    for story in &stories {
        if !story.is_over() {
            report.wrong.push(format!("call {} has not ended", story.call));
        }
        for (ordinal, effect) in &story.effects {
            let key = key(&story.call, *ordinal);
            let was_received = received.keys.get(&key).copied();
            match verdict(effect, was_received) {
                Ok(happened) => {
                    done += u64::from(happened == Some(true));
                    sent += u64::from(happened.is_some());
                }
                Err(why) => report
                    .wrong
                    .push(format!("effect {ordinal} of call {}: {why}", story.call)),
            }
            intended.insert(key);
        }
    }
    report.received = received.keys.len() + received.twice.len();
    report.intents = intended.len();
    let wrong = &mut report.wrong;
    wrong.extend(received.twice.iter().map(|key| format!("{key} was received twice")));
    let without = received.keys.keys().filter(|key| !intended.contains(*key));
    wrong.extend(without.map(|key| format!("{key} was received and has no intent")));
    let mut used: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for state in reader.budgets()? {
        let sums = used.entry(state.window.budget).or_default();
        *sums = (sums.0 + state.account.used, sums.1 + state.account.reserved);
    }
    for (budget, expected) in [("money", done), ("effects", sent), ("calls", stories.len() as u64)] {
        let (used, reserved) = used.get(budget).copied().unwrap_or_default();
        if (used, reserved) != (expected, 0) {
            let found = format!("budget {budget} has used {used} and reserved {reserved}, where {expected} happened");
            wrong.push(found);
        }
    }
    Ok(())
}

/// Whether an effect happened, where ledger and service agree on that; none of one that was known not to leave.
fn verdict(effect: &EffectStory, received: Option<u16>) -> Result<Option<bool>, String> {
    let EffectStory::Intended { outcome, resolved, .. } = effect else {
        return Err("it was refused".to_owned());
    };
    let outcome = outcome.as_ref().ok_or("it has no outcome")?;
    match (&outcome.what.outcome, resolved, received) {
        (Outcome::Answered(answered), _, Some(status)) if answered.status == status => Ok(Some(status == 200)),
        (Outcome::NotSent(_), _, None) => Ok(None),
        (Outcome::InDoubt(_), Some(resolved), received) => match (resolved.what.found, received) {
            (Found::Done, Some(_)) => Ok(Some(true)),
            (Found::NotDone, None) => Ok(Some(false)),
            (found, received) => Err(format!(
                "it was found {}, and the service has {received:?}",
                found.as_str()
            )),
        },
        (outcome, _, received) => Err(format!("{outcome:?} on the ledger, {received:?} at the service")),
    }
}

/// Moments to kill at: from the first call on to well into the load.
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> Duration {
        // splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Duration::from_millis(60 + (z ^ (z >> 31)) % 900)
    }
}

/// Reads the arguments of `ambit-crash`, runs it, and prints what came of it; whether everything added up.
///
/// # Errors
/// As [`run`].
pub fn main(plan: Plan, scratch: &Path, out: &mut dyn Write) -> Result<bool, Failed> {
    let started = Instant::now();
    let report = run(scratch, plan, |_| ())?;
    let Report {
        kills,
        received,
        intents,
        went_on,
        in_doubt: (were_done, were_not),
        wrong,
    } = &report;
    writeln!(
        out,
        "{kills} hosts killed under load, {received} effects received, {intents} intents, {went_on} calls went on; \
         {} were in doubt, of which {were_done} were done; {:.0} s",
        were_done + were_not,
        started.elapsed().as_secs_f64()
    )?;
    for line in wrong.iter().take(20) {
        writeln!(out, "wrong: {line}")?;
    }
    writeln!(out, "{} things do not add up", wrong.len())?;
    Ok(wrong.is_empty())
}
