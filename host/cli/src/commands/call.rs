//! `ambit call`: one call, as an operator makes it.

use std::fs;
use std::io::Read;
use std::path::Path;

use ambit_core::error::{Code, Refusal};
use ambit_core::grant::Narrowing;
use ambit_core::ledger::body::{Shown, Stage};
use ambit_core::ledger::story::{CallStory, EffectStory, Opening};
use ambit_core::policy::Mode;
use ambit_core::run::Run;
use ambit_core::scope::Tier;
use ambit_runtime::call::{Answer, CallRequest, Outcome, Would};
use ambit_runtime::config::{Config, nearest};
use ambit_runtime::host::{Host, HostOptions};
use ambit_runtime::ids::TraceId;
use ambit_runtime::store::{Reader, StoreError, verifier};
use serde_json::{Map, Value, json};

use super::{opening, pending, run};
use crate::args::{self, Call, Format};
use crate::ids;
use crate::output::{self, Exit, Failure, Output, count, note, sentence, style, untrusted};
use crate::proposal::{permit, quoted};

pub(crate) fn run(args: &Call, home: &Path, out: Output) -> Result<Exit, Failure> {
    let config = opening::config(home)?;
    let part_of = args.run.as_deref().map(|run| run::find(home, run)).transpose()?;
    let request = CallRequest {
        tool: args.tool.clone(),
        function: args.function.clone(),
        args: arguments(&args.args)?,
        agent: agent(args.agent.as_deref(), &config)?,
        user: args.user.clone(),
        mode: mode(args.mode, part_of.as_ref()),
        run: part_of.map(|run| run.id().to_owned()),
        trace: args
            .trace
            .as_deref()
            .map(str::parse::<TraceId>)
            .transpose()
            .map_err(Failure::usage)?,
        narrowing: Narrowing::default(),
        listener: None,
        cancel: None,
    };
    let slip = slip(args.agent.as_deref(), &config);
    let host = opening::host(config, HostOptions::for_tools([args.tool.as_str()]))?;
    interrupted(&host)?;
    let calling = output::working("calling");
    let answer = host.call(CallRequest {
        listener: Some(calling.listener()),
        ..request
    })?;
    drop(calling);
    let asked = format!("{} --function {}", args.tool, args.function);
    let exit = tell(home, &answer, &asked, args.receipt.as_deref(), out)?;
    if let (Some(slip), Format::Human) = (slip, out.format) {
        note(slip);
    }
    Ok(exit)
}

/// The agent that was most likely meant, where there is none of that name. That the call was asked for is on the ledger all the same.
fn slip(named: Option<&str>, config: &Config) -> Option<String> {
    let given = named.filter(|given| !config.agents().contains_key(*given))?;
    let near = nearest(given, config.agents().keys().map(String::as_str))?;
    Some(format!("  Did you mean --as {}?", untrusted(near)))
}

/// Says that calls wait for somebody to look after them: the process that made them ended first, or safe mode paused them.
pub(super) fn interrupted(host: &Host) -> Result<(), Failure> {
    let reader = host.reader()?;
    let (mut interrupted, mut paused) = (0, 0);
    for call in reader.unended()? {
        let story = reader.story(&call)?;
        match (story.paused(), story.suspended()) {
            (Some(_), _) => paused += 1,
            // `ambit serve` goes on with them by itself, unless something of them is in doubt.
            (None, Some(_)) if story.doubts().next().is_none() => {}
            (None, _) => interrupted += 1,
        }
    }
    for (left, word) in [(interrupted, "interrupted"), (paused, "paused")] {
        if left > 0 {
            let calls = count(left, "call was", "calls were");
            note(format!(
                "{calls} {word} earlier: `ambit calls` says what there is to do."
            ));
        }
    }
    Ok(())
}

/// What a command did besides making the call or going on with it.
#[derive(Debug, Default)]
pub(crate) struct Also {
    /// Members of the document, beside the call's own.
    pub(crate) members: Map<String, Value>,
    /// It said no to an effect of the call: that the effect is refused is what was asked for, and no news.
    pub(crate) rejected: bool,
}

/// Tells how a call ended, or that it waits: its value, what was refused and why, its receipt where it has one. `asked` is what
/// `ambit inspect` takes to print what the function takes.
pub(crate) fn tell(
    home: &Path,
    answer: &Answer,
    asked: &str,
    receipt_file: Option<&Path>,
    out: Output,
) -> Result<Exit, Failure> {
    tell_also(home, answer, (asked, receipt_file), &Also::default(), out)
}

/// The same, of a command that did something else, too.
pub(crate) fn tell_also(
    home: &Path,
    answer: &Answer,
    (asked, receipt_file): (&str, Option<&Path>),
    also: &Also,
    out: Output,
) -> Result<Exit, Failure> {
    let reader = Reader::open(home)?;
    // A call that waits has not ended, and has no receipt yet.
    let receipt = match answer.outcome {
        Outcome::Held(_) | Outcome::Paused(_) => None,
        _ => Some(
            reader
                .receipt(answer.call.as_str(), &verifier(home)?)?
                .to_json()
                .map_err(StoreError::from)?,
        ),
    };
    if let (Some(path), Some(receipt)) = (receipt_file, &receipt) {
        fs::write(path, receipt)
            .map_err(|e| Failure::internal(format!("the receipt {} cannot be written: {e}", path.display())))?;
    }
    report(answer, receipt.as_deref(), asked, also, out)?;
    if out.format == Format::Human {
        let story = reader.story(answer.call.as_str())?;
        missing_rules(&story).iter().for_each(note);
    }
    Ok(exit_of(answer))
}

/// The rules that would permit what policy denied for want of one: exactly that, and where it is more than that, a warning.
fn missing_rules(story: &CallStory) -> Vec<String> {
    let Some(team) = story.principal.as_ref().map(|principal| &principal.team) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    let mut say = |action: &str, resource: String, when: &str, broad: &str| {
        let rule = permit(team, action, &resource);
        let text = format!(
            "  This rule would permit it, in a policy of the home, with an @id(\"…\") before it:\n    {}{when};{broad}",
            untrusted(&rule)
        );
        if !lines.contains(&text) {
            lines.push(text);
        }
    };
    if let Opening::Denied(denied) = &story.opening.what
        && denied.stage == Stage::Policy
        && denied.refused.rule.is_none()
        && let Some(tool) = &denied.tool
    {
        let broad = "\n  It permits every function of the tool; their effects are decided one by one.";
        say("call", format!("resource in Tool::{}", quoted(tool)), "", broad);
    }
    for effect in story.effects.values() {
        let EffectStory::Refused(told) = effect else { continue };
        let refused = &told.what;
        if refused.refused.code != Code::Policy || refused.refused.rule.is_some() {
            continue;
        }
        let (Some(connection), Some(route), Some(tier)) = (&refused.connection, &refused.route, refused.tier) else {
            continue;
        };
        let resource = format!("resource == Route::{}", quoted(&format!("{connection}/{route}")));
        match &refused.spend {
            Some(spend) => {
                let when = format!(
                    "\n    when {{ context.spend.kind == \"known\" && context.spend.currency == \"{}\" && context.spend.minor <= {} }}",
                    spend.currency, spend.minor
                );
                say(tier.as_str(), resource, &when, "");
            }
            None if tier == Tier::Read => say(tier.as_str(), resource, "", ""),
            None => {
                let broad = "\n  It permits every such request, whatever is in it: narrow it with `when { … }`.";
                say(tier.as_str(), resource, "", broad);
            }
        }
    }
    lines
}

pub(crate) const fn exit_of(answer: &Answer) -> Exit {
    match answer.outcome {
        Outcome::Ok(_) => Exit::Done,
        Outcome::ToolError(_) | Outcome::Stopped(_) => Exit::Refused,
        Outcome::Held(_) | Outcome::Paused(_) => Exit::Held,
        // As the call would have ended up to there, had it not been a dry run.
        Outcome::FirstWrite(ref first) => match first.policy {
            Would::BeDenied { .. } => Exit::Refused,
            Would::BeHeld { .. } => Exit::Held,
            Would::BePermitted { .. } => Exit::Done,
        },
    }
}

/// The arguments' text: as given, from a file, or from standard input.
fn arguments(given: &str) -> Result<String, Failure> {
    /// Above every limit of a call's arguments; what is longer is refused there by name.
    const MOST: u64 = 64 << 20;
    let mut text = String::new();
    let outcome = match (given, given.strip_prefix('@')) {
        ("-", _) => std::io::stdin().take(MOST).read_to_string(&mut text),
        (_, Some(path)) => fs::File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text)),
        _ => return Ok(given.to_owned()),
    };
    outcome.map_err(|e| Failure::usage(format!("the arguments {} cannot be read: {e}", untrusted(given))))?;
    Ok(text)
}

/// What was asked for; else what the run has; else all.
pub(super) fn mode(asked: Option<args::Mode>, run: Option<&Run>) -> Mode {
    match asked {
        Some(mode) => mode.into(),
        None => run.map_or(Mode::Execute, |run| run.started.mode),
    }
}

/// The named agent, if the home has it, or its only one: for what is not an agent's own asking, which would be on the ledger.
pub(crate) fn known_agent(named: Option<&str>, config: &Config) -> Result<String, Failure> {
    let agent = agent(named, config)?;
    match config.agents().contains_key(&agent) {
        true => Ok(agent),
        false => Err(ids::no_such(
            "agent",
            &agent,
            config.agents().keys().map(String::as_str),
        )),
    }
}

/// The named agent, or the home's only one.
pub(crate) fn agent(named: Option<&str>, config: &Config) -> Result<String, Failure> {
    if let Some(agent) = named {
        return Ok(agent.to_owned());
    }
    let mut agents = config.agents().keys();
    match (agents.next(), agents.next()) {
        (Some(only), None) => Ok(only.clone()),
        (None, _) => {
            Err(Failure::usage("the home has no agent")
                .advise("Add one to ambit.toml: [agent.NAME] with team and tenant."))
        }
        _ => Err(
            Failure::usage("the home has several agents; say which one calls: --as AGENT").advise(format!(
                "Agents: {}",
                config.agents().keys().cloned().collect::<Vec<_>>().join(", ")
            )),
        ),
    }
}

fn report(answer: &Answer, receipt: Option<&str>, asked: &str, also: &Also, out: Output) -> Result<(), Failure> {
    let (word, value, refusal) = match &answer.outcome {
        Outcome::Ok(value) => ("ok", Some(value), None),
        Outcome::ToolError(value) => ("tool-error", Some(value), None),
        Outcome::Stopped(refusal) => ("refused", None, Some(refusal)),
        Outcome::Held(_) => ("held", None, None),
        Outcome::Paused(_) => ("paused", None, None),
        Outcome::FirstWrite(_) => ("first-write", None, None),
    };
    let held = match &answer.outcome {
        Outcome::Held(held) => Some(held.as_ref()),
        _ => None,
    };
    let paused = match &answer.outcome {
        Outcome::Paused(paused) => Some(paused.as_ref()),
        _ => None,
    };
    let first_write = match &answer.outcome {
        Outcome::FirstWrite(first) => Some(first.as_ref()),
        _ => None,
    };
    let receipt: Option<Value> = receipt.and_then(|receipt| serde_json::from_str(receipt).ok());
    let mut document = json!({
        "call": answer.call,
        "trace": answer.trace,
        "outcome": word,
        "value": value,
        "refusal": refusal,
        "held": held,
        "first_write": first_write,
        "paused": paused,
        "refused_effects": answer.refused_effects,
        "checked": answer.checked,
        "edited": answer.edited,
        "cost": answer.cost,
        "receipt": receipt,
    });
    if let Some(document) = document.as_object_mut() {
        document.extend(also.members.clone());
    }
    out.result(&document, |w| match value {
        Some(value) => {
            let pretty = serde_json::to_string_pretty(value).unwrap_or_default();
            writeln!(w, "{}", untrusted(&pretty))
        }
        None => Ok(()),
    })?;
    if out.format == Format::Human {
        answer.edited.iter().for_each(pending::edited);
        if let Some(held) = held {
            pending::waits(held);
        }
        if let Some(by) = paused {
            pending::paused(answer.call.as_str(), by);
        }
        if let Some(first) = first_write {
            pending::first_write(first);
            // It is told there, in full.
            cost(answer);
            return Ok(());
        }
        explain(answer, refusal, asked, also);
    }
    Ok(())
}

/// What an operator can do about a refusal that says nothing of it. An agent is not told: it can do none of this.
fn way_out(code: Code, asked: &str) -> Option<String> {
    match code {
        Code::Arguments => Some(format!("`ambit inspect {asked}` prints what it takes")),
        Code::Policy => Some(
            "`ambit policy check` prints the rules in force, and `ambit policy init` proposes what the tools could use"
                .to_owned(),
        ),
        _ => None,
    }
}

/// For people, on standard error: why it was refused, what to do, where to read on.
fn explain(answer: &Answer, refusal: Option<&Refusal>, asked: &str, also: &Also) {
    let news = |refused: &&Refusal| !(also.rejected && refused.code == Code::Approval);
    for refused in answer.refused_effects.iter().chain(refusal).filter(news) {
        let rule = refused
            .rule
            .as_deref()
            .map(|rule| format!(", rule {rule}"))
            .unwrap_or_default();
        note(format!(
            "{}refused{} ({}{rule}): {}",
            style::BAD.render(),
            style::BAD.render_reset(),
            refused.code,
            untrusted(&refused.message)
        ));
        let advice = refused.advice.clone().or_else(|| way_out(refused.code, asked));
        if let Some(advice) = advice {
            note(format!("  {}", untrusted(&sentence(&advice))));
        }
    }
    checked(answer);
    cost(answer);
}

/// For people: what its service says that it did, and nobody saw.
fn checked(answer: &Answer) {
    for checked in answer.checked.iter().filter(|checked| checked.shown.is_unverified()) {
        let why = match checked.shown {
            Shown::Unreadable => "what it changed could not be read back",
            _ => "what it changed does not show it",
        };
        note(format!(
            "{}unverified{}: effect {}: its service says that it did it, and {why}",
            style::BAD.render(),
            style::BAD.render_reset(),
            checked.ordinal,
        ));
    }
}

/// For people: what it cost, and where to read on.
fn cost(answer: &Answer) {
    let dim = style::DIM;
    note(format!(
        "{}{} · {} · fuel {} · {} ms · ambit audit show {}{}",
        dim.render(),
        answer.call,
        count(answer.cost.effects.into(), "effect", "effects"),
        answer.cost.fuel,
        answer.cost.ms,
        answer.call,
        dim.render_reset()
    ));
}
