//! Events: which entries are told to people, and what is said of them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::hold::{End as HoldEnd, Need, Vote};
use crate::ledger::body::{
    Amount, BreakerOpened, BudgetWarned, CallDenied, Cause, EffectHeld, EffectRefused, HoldVoted, Stage, StopSet,
};
use crate::ledger::{Body, Contexts, Entry, utc};
use crate::scope::Tier;
use crate::stop::{self, Scope};

macro_rules! types {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// What an event is. The words are those of the configuration, of messages and of entries.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum EventType {
            $($(#[$doc])* #[serde(rename = $text)] $name,)+
        }

        impl EventType {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The word, such as `hold.created`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

types! {
    /// An effect waits for people.
    HoldCreated = "hold.created",
    /// It waits no more: it passed, was rejected, expired, became stale, was denied or edited.
    HoldEnded = "hold.ended",
    /// An operator stopped something: a kill, or safe mode.
    StopPlaced = "stop.placed",
    /// An operator lifted a stop.
    StopLifted = "stop.lifted",
    /// So much of a budget is taken that people are to be told.
    BudgetWarning = "budget.warning",
    /// Something was refused because a budget has no room.
    BudgetExhausted = "budget.exhausted",
    /// A service failed too often, and is left alone.
    BreakerOpened = "breaker.opened",
    /// A service is used again.
    BreakerClosed = "breaker.closed",
    /// Nobody knows whether a change happened.
    EffectInDoubt = "effect.in-doubt",
    /// A host ended while a call ran: the next one goes on with it.
    CallSuspended = "call.suspended",
    /// One person let an effect pass in place of the approvals that were missing.
    BreakGlass = "approval.break-glass",
    /// An effect failed for good, and is kept for a person.
    DeadLetterAdded = "dead-letter.added",
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl EventType {
    /// The types that a word of the configuration means: one, or all that begin as `hold.*` says. None where it means none.
    #[must_use]
    pub fn meant(word: &str) -> Vec<Self> {
        let of = |kind: &&Self| match word.strip_suffix('*') {
            Some(beginning) => beginning.ends_with('.') && kind.as_str().starts_with(beginning),
            None => kind.as_str() == word,
        };
        Self::ALL.iter().filter(of).copied().collect()
    }

    /// Whether an event of the type can be about the tenant, tool or connection that a filter's key names.
    #[must_use]
    pub fn is_ever_of(self, key: &str) -> bool {
        match self {
            // Whose calls made it fail is nobody's in particular.
            Self::BreakerOpened | Self::BreakerClosed => key == "connection",
            Self::CallSuspended => key != "connection",
            _ => true,
        }
    }
}

/// Whom and what an event is about, for those who want to be told of that alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Whether it is about everything there is: a stop of all.
    pub everything: bool,
    /// The tenant of the agent that asked.
    pub tenant: Option<String>,
    /// The tool's name in the configuration.
    pub tool: Option<String>,
    /// The connection's name.
    pub connection: Option<String>,
}

impl About {
    /// Whether it is about these, as far as they are named. What does not say whose it is is about no one in particular, and not about them.
    #[must_use]
    pub fn is_of(&self, tenant: Option<&str>, tool: Option<&str>, connection: Option<&str>) -> bool {
        let of = |wanted: Option<&str>, is: &Option<String>| wanted.is_none_or(|wanted| is.as_deref() == Some(wanted));
        self.everything || (of(tenant, &self.tenant) && of(tool, &self.tool) && of(connection, &self.connection))
    }
}

/// What an event names in place of its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// An agent's name.
    Agent(String),
    /// A run's id.
    Run(String),
    /// A budget's name.
    Budget(String),
}

/// Something that people are told of.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The index of the entry that says so.
    pub index: u64,
    /// The time of that, in milliseconds since 1970.
    pub time_ms: i64,
    /// What it is.
    pub kind: EventType,
    /// What tells it apart from other events of the type that the same entry is: a budget's name. Mostly nothing.
    pub subject: String,
    /// Whom and what it is about.
    pub about: About,
    /// Who knows more of that than the entry: it is to be [completed](Self::complete).
    pub whose: Option<Whose>,
    /// What there is to say, by name. Values of calls are not among it.
    facts: Map<String, Value>,
    /// The same for people, without the type.
    text: String,
    /// What to do about it, on the command line.
    next: String,
}

/// Whether an entry may be an event: for those that are none nothing more needs to be read.
#[must_use]
pub fn may_tell(entry: &Entry) -> bool {
    match entry.body() {
        Body::EffectHeld(_)
        | Body::HoldEdited(_)
        | Body::CallSuspended(_)
        | Body::StopSet(_)
        | Body::StopLifted(_)
        | Body::BudgetWarned(_)
        | Body::BreakerOpened(_)
        | Body::BreakerClosed(_) => true,
        Body::EffectIntent(intent) => intent.hold.is_some(),
        Body::EffectRefused(refused) => refused.hold.is_some() || !refused.exhausted.is_empty(),
        Body::HoldVoted(voted) => voted.instead.is_some(),
        Body::EffectOutcome(ended) => ended.is_in_doubt() || ended.dead,
        Body::EffectResolved(resolved) => resolved.dead,
        Body::CallDenied(denied) => denied.stage == Stage::Budget,
        _ => false,
    }
}

impl Event {
    /// The events that an entry is; `calls` knows the entries of its call before it.
    #[must_use]
    pub fn of(entry: &Entry, calls: &Contexts) -> Vec<Event> {
        let teller = Teller { entry, calls };
        match entry.body() {
            Body::EffectHeld(held) => vec![teller.held(held)],
            Body::EffectIntent(intent) if intent.hold.is_some() => vec![teller.ended(HoldEnd::Passed.as_str())],
            Body::HoldEdited(_) => vec![teller.ended(HoldEnd::Edited.as_str())],
            Body::EffectRefused(refused) => teller.refused(refused),
            Body::HoldVoted(voted) if voted.instead.is_some() => vec![teller.glass(voted)],
            Body::EffectOutcome(ended) => {
                let mut events = Vec::new();
                if ended.is_in_doubt() && teller.changes() {
                    events.push(teller.in_doubt());
                }
                if ended.dead {
                    events.push(teller.dead());
                }
                events
            }
            Body::EffectResolved(resolved) if resolved.dead => vec![teller.dead()],
            Body::CallSuspended(_) => vec![teller.suspended()],
            Body::CallDenied(denied) if denied.stage == Stage::Budget => vec![teller.call_exhausted(denied)],
            Body::StopSet(set) => vec![teller.stopped(set)],
            Body::StopLifted(lifted) => vec![teller.lifted(lifted.stop(), &lifted.id)],
            Body::BudgetWarned(warned) => vec![teller.warned(warned)],
            Body::BreakerOpened(opened) => vec![teller.opened(opened)],
            Body::BreakerClosed(closed) => vec![teller.closed(&closed.connection, closed.route.as_deref())],
            _ => Vec::new(),
        }
    }

    /// Says of whom and what it is too, where its entry does not.
    pub fn complete(&mut self, about: About) {
        let of = [
            ("tenant", &mut self.about.tenant, about.tenant),
            ("tool", &mut self.about.tool, about.tool),
            ("connection", &mut self.about.connection, about.connection),
        ];
        for (key, is, more) in of {
            if let (None, Some(more)) = (is.as_ref(), more) {
                self.facts.insert(key.to_owned(), json!(more));
                *is = Some(more);
            }
        }
    }

    /// What a program is told of it: what there is to say, which ledger and entry say so, and what to do about it.
    #[must_use]
    pub fn data(&self, ledger: &str) -> Map<String, Value> {
        let mut data = self.facts.clone();
        data.retain(|_, value| !value.is_null());
        data.insert("ledger".to_owned(), json!(ledger));
        data.insert("index".to_owned(), json!(self.index));
        data.insert("next".to_owned(), json!(self.next));
        data
    }

    /// What people are told of it, in a line.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { kind, text, next, .. } = self;
        format!(
            "Ambit {kind}: {text} ({}, entry {}) {next}",
            utc(self.time_ms),
            self.index
        )
    }
}

/// An entry, and what came before it.
struct Teller<'e> {
    entry: &'e Entry,
    calls: &'e Contexts,
}

impl Teller<'_> {
    fn event(&self, kind: EventType, facts: Value, text: String, next: String) -> Event {
        let mut about = self.about();
        let facts = match facts {
            Value::Object(facts) => facts,
            _ => Map::new(),
        };
        if about.connection.is_none() {
            about.connection = facts.get("connection").and_then(Value::as_str).map(str::to_owned);
        }
        Event {
            index: self.entry.index(),
            time_ms: self.entry.time_ms(),
            kind,
            subject: String::new(),
            about,
            whose: None,
            facts,
            text,
            next,
        }
    }

    fn about(&self) -> About {
        About {
            everything: false,
            tenant: self.entry.principal().map(|principal| principal.tenant.clone()),
            tool: self.calls.of(self.entry).map(|call| call.tool.clone()),
            connection: self.calls.effect(self.entry).map(|effect| effect.connection.clone()),
        }
    }

    fn tool(&self) -> Option<&str> {
        self.calls.of(self.entry).map(|call| call.tool.as_str())
    }

    fn function(&self) -> Option<&str> {
        self.calls.of(self.entry).map(|call| call.function.as_str())
    }

    fn call(&self) -> &str {
        self.entry.call().unwrap_or_default()
    }

    /// The agent, and the user that it acts for.
    fn who(&self) -> String {
        match self.entry.principal() {
            None => "nobody known".to_owned(),
            Some(principal) => match &principal.user {
                None => principal.agent.clone(),
                Some(user) => format!("{} for {user}", principal.agent),
            },
        }
    }

    /// What is known of the effect that the entry is about, as facts and in a line.
    fn effect(&self) -> (Map<String, Value>, String) {
        let (mut facts, ordinal) = (self.of_call(), self.entry.body().ordinal());
        facts.insert("effect".to_owned(), json!(ordinal));
        let Some(effect) = self.calls.effect(self.entry) else {
            return (
                facts,
                format!("effect {} of {}", ordinal.unwrap_or_default(), self.call()),
            );
        };
        facts.insert("connection".to_owned(), json!(effect.connection));
        facts.insert("route".to_owned(), json!(effect.route));
        facts.insert("tier".to_owned(), json!(effect.tier));
        let text = format!(
            "{} {}/{} by {}",
            effect.tier,
            effect.connection,
            effect.route,
            self.who()
        );
        (facts, text)
    }

    fn of_call(&self) -> Map<String, Value> {
        let principal = self.entry.principal();
        let facts = json!({
            "call": self.entry.call(),
            "tool": self.tool(),
            "function": self.function(),
            "agent": principal.map(|principal| &principal.agent),
            "user": principal.and_then(|principal| principal.user.as_ref()),
            "tenant": principal.map(|principal| &principal.tenant),
            "trace": self.entry.trace(),
        });
        match facts {
            Value::Object(facts) => facts,
            _ => Map::new(),
        }
    }

    /// Whether it matters that nobody knows what became of the effect.
    fn changes(&self) -> bool {
        self.calls
            .effect(self.entry)
            .is_none_or(|effect| effect.cause != Cause::Host && effect.tier != Tier::Read)
    }

    fn held(&self, held: &EffectHeld) -> Event {
        let id = short(&held.hold.to_hex());
        let mut facts = self.of_call();
        let also = json!({
            "hold": held.hold,
            "effect": held.ordinal,
            "connection": held.connection,
            "route": held.route,
            "tier": held.tier,
            "spend": held.spend,
            "needs": held.needs,
            "over": held.over,
            "rules": held.rules,
            "expires": until(held.expires),
            "edited_by": held.authors,
        });
        if let Value::Object(also) = also {
            facts.extend(also);
        }
        let text = format!(
            "{} {}/{}{} by {} waits for {}, until {}.",
            held.tier,
            held.connection,
            held.route,
            money(held.spend.as_ref()),
            self.who(),
            needs(&held.needs),
            until(held.expires),
        );
        let next = format!("`ambit approvals show {id}`");
        self.event(EventType::HoldCreated, Value::Object(facts), text, next)
    }

    fn ended(&self, how: &str) -> Event {
        let hold = match self.entry.body() {
            Body::EffectIntent(intent) => intent.hold,
            Body::EffectRefused(refused) => refused.hold,
            Body::HoldEdited(edited) => Some(edited.hold),
            _ => None,
        };
        let (mut facts, what) = self.effect();
        facts.insert("hold".to_owned(), json!(hold));
        facts.insert("end".to_owned(), json!(how));
        let text = format!("{what} waits no more: {how}.");
        let next = format!("`ambit audit show {}`", self.call());
        self.event(EventType::HoldEnded, Value::Object(facts), text, next)
    }

    fn refused(&self, refused: &EffectRefused) -> Vec<Event> {
        let mut events = Vec::new();
        if refused.hold.is_some() {
            events.push(self.ended(refused.end.map_or("unknown", HoldEnd::as_str)));
        }
        events.extend(refused.exhausted.iter().map(|budget| {
            let mut facts = self.of_call();
            facts.insert("budget".to_owned(), json!(budget));
            facts.insert("connection".to_owned(), json!(refused.connection));
            facts.insert("route".to_owned(), json!(refused.route));
            let way = [refused.connection.as_deref(), refused.route.as_deref()];
            let way: Vec<&str> = way.into_iter().flatten().collect();
            let text = format!("budget {budget} has no room for {} by {}.", way.join("/"), self.who());
            Event {
                subject: budget.clone(),
                ..self.exhausted(facts, text)
            }
        }));
        events
    }

    fn call_exhausted(&self, denied: &CallDenied) -> Event {
        let mut facts = self.of_call();
        facts.insert("tool".to_owned(), json!(denied.tool));
        facts.insert("function".to_owned(), json!(denied.function));
        if let Some(budget) = &denied.budget {
            facts.insert("budget".to_owned(), json!(budget));
        }
        let budget = denied.budget.as_ref();
        let text = format!(
            "a call of {} by {} was refused: {} has no room.",
            denied.tool.as_deref().unwrap_or("a tool"),
            self.who(),
            budget.map_or_else(|| "a budget".to_owned(), |budget| format!("budget {budget}")),
        );
        let mut event = self.exhausted(facts, text);
        event.subject = budget.cloned().unwrap_or_default();
        event.about.tool.clone_from(&denied.tool);
        event
    }

    fn exhausted(&self, facts: Map<String, Value>, text: String) -> Event {
        let next = "`ambit budgets`".to_owned();
        self.event(EventType::BudgetExhausted, Value::Object(facts), text, next)
    }

    fn warned(&self, warned: &BudgetWarned) -> Event {
        let BudgetWarned {
            budget,
            cap,
            taken,
            warn,
            window,
        } = warned;
        let facts = json!({ "budget": budget, "cap": cap, "taken": taken, "warn": warn, "window": window });
        let text = format!("{taken} of {cap} of budget {budget} are taken, in {window}.");
        Event {
            subject: budget.clone(),
            whose: Some(Whose::Budget(budget.clone())),
            ..self.event(EventType::BudgetWarning, facts, text, "`ambit budgets`".to_owned())
        }
    }

    fn glass(&self, voted: &HoldVoted) -> Event {
        let (mut facts, what) = self.effect();
        let vote = Vote::claimed(&voted.vote).ok();
        let person = vote.as_ref().map(|vote| vote.person.as_str());
        facts.insert("hold".to_owned(), json!(voted.hold));
        facts.insert("person".to_owned(), json!(person));
        facts.insert("group".to_owned(), json!(vote.as_ref().map(|vote| &vote.group)));
        facts.insert("instead_of".to_owned(), json!(voted.instead));
        let text = format!("BREAK-GLASS by {} for {what}.", person.unwrap_or("somebody"));
        let next = format!("`ambit audit show {}`", self.call());
        self.event(EventType::BreakGlass, Value::Object(facts), text, next)
    }

    fn in_doubt(&self) -> Event {
        let (mut facts, what) = self.effect();
        if let Body::EffectOutcome(ended) = self.entry.body() {
            facts.insert("outcome".to_owned(), json!(ended.outcome));
            facts.insert("spent".to_owned(), json!(ended.spent));
        }
        let text = format!("nobody knows whether {what} happened.");
        let next = format!("`ambit calls resolve {}`", self.call());
        self.event(EventType::EffectInDoubt, Value::Object(facts), text, next)
    }

    fn dead(&self) -> Event {
        let (facts, what) = self.effect();
        let number = self.entry.body().ordinal().unwrap_or_default();
        let text = format!("{what} failed for good.");
        let next = format!("`ambit dead-letters show {} --effect {number}`", self.call());
        self.event(EventType::DeadLetterAdded, Value::Object(facts), text, next)
    }

    fn suspended(&self) -> Event {
        let tool = self.tool().unwrap_or("a tool");
        let text = format!("a call of {tool} by {} waits for the next host.", self.who());
        let next = format!("`ambit audit show {}`", self.call());
        self.event(EventType::CallSuspended, Value::Object(self.of_call()), text, next)
    }

    fn stopped(&self, set: &StopSet) -> Event {
        let by = set.by.as_ref().map(|by| by.name.as_str());
        let facts = json!({ "stop": set.id, "kind": set.kind.as_str(), "scope": set.scope, "by": by });
        let (kind, scope) = (set.kind, &set.scope);
        let text = format!(
            "{kind} of {scope}{}.",
            by.map(|by| format!(", by {by}")).unwrap_or_default()
        );
        self.of_stop(EventType::StopPlaced, facts, text, scope)
    }

    fn lifted(&self, stop: stop::Stop, id: &str) -> Event {
        let facts = json!({ "stop": id, "kind": stop.kind.as_str(), "scope": stop.scope });
        let text = format!("{} of {} was lifted.", stop.kind, stop.scope);
        self.of_stop(EventType::StopLifted, facts, text, &stop.scope)
    }

    fn of_stop(&self, kind: EventType, facts: Value, text: String, scope: &Scope) -> Event {
        let mut event = self.event(kind, facts, text, "`ambit status`".to_owned());
        match scope {
            Scope::Everything => event.about.everything = true,
            Scope::Tenant(name) => event.about.tenant = Some(name.clone()),
            Scope::Tool(name) => event.about.tool = Some(name.clone()),
            Scope::Connection(name) => event.about.connection = Some(name.clone()),
            Scope::Agent(name) => event.whose = Some(Whose::Agent(name.clone())),
            Scope::Run(id) => event.whose = Some(Whose::Run(id.clone())),
        }
        event
    }

    fn opened(&self, opened: &BreakerOpened) -> Event {
        let facts = json!({
            "connection": opened.connection,
            "route": opened.route,
            "failures": opened.failures,
            "in_a_row": opened.in_a_row,
            "until": until(opened.until),
        });
        let way = way(&opened.connection, opened.route.as_deref());
        let text = format!(
            "{way} failed too often, and is left alone until {}.",
            until(opened.until)
        );
        let next = "`ambit connections list`".to_owned();
        self.event(EventType::BreakerOpened, facts, text, next)
    }

    fn closed(&self, connection: &str, route: Option<&str>) -> Event {
        let facts = json!({ "connection": connection, "route": route });
        let text = format!("{} is used again.", way(connection, route));
        let next = "`ambit connections list`".to_owned();
        self.event(EventType::BreakerClosed, facts, text, next)
    }
}

fn way(connection: &str, route: Option<&str>) -> String {
    route.map_or_else(|| connection.to_owned(), |route| format!("{connection}/{route}"))
}

fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

fn until(ms: u64) -> String {
    utc(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn money(spend: Option<&Amount>) -> String {
    spend.map_or_else(String::new, |spend| {
        format!(", {} {} (minor units)", spend.minor, spend.currency)
    })
}

/// `2 of finance, or 1 of reviewer and 1 of finance`.
fn needs(ways: &[Need]) -> String {
    let one = |need: &Need| {
        let groups: Vec<String> = need
            .iter()
            .map(|(group, count)| format!("{count} of {group}"))
            .collect();
        groups.join(" and ")
    };
    ways.iter().map(one).collect::<Vec<_>>().join(", or ")
}
