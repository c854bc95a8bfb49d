//! Entries as OCSF events: API Activity (class 6003) of version 1.8, with the profiles `security_control` and, in a call, `trace`.
//!
//! An agent's call and its effects are what an API was asked for; what an operator or a person does to the home is an activity of
//! Ambit's own. The source is the home: which machine an agent ran on the ledger does not say. What has no attribute in OCSF stands in
//! `unmapped`.

use serde_json::{Map, Value, json};

use super::{Facts, detail, message};
use crate::error::Code;
use crate::hold::{Edit, Vote};
use crate::ledger::body::{End, HoldVoted, Outcome, Shown};
use crate::ledger::{Body, Contexts, Entry, Principal};
use crate::scope::Tier;
use crate::stop;

/// The version of OCSF that events are of.
pub const VERSION: &str = "1.8.0";
/// Application Activity.
pub const CATEGORY: u32 = 6;
/// API Activity.
pub const CLASS: u32 = 6003;

/// What an API was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    Create,
    Read,
    Update,
    Delete,
    /// Something that changes, and no one knows from the ledger how: by its tier, or what was done.
    Other(&'static str),
}

impl Activity {
    const fn id(self) -> u32 {
        match self {
            Self::Create => 1,
            Self::Read => 2,
            Self::Update => 3,
            Self::Delete => 4,
            Self::Other(_) => 99,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Create => "Create",
            Self::Read => "Read",
            Self::Update => "Update",
            Self::Delete => "Delete",
            Self::Other(name) => name,
        }
    }
}

/// How much an event asks for somebody's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Informational = 1,
    Low = 2,
    Medium = 3,
    High = 4,
}

impl Severity {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Informational => "Informational",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
        }
    }
}

/// Whether what the event is about went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Unknown = 0,
    Success = 1,
    Failure = 2,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Success => "Success",
            Self::Failure => "Failure",
        }
    }
}

/// The event of an entry of the ledger with this name, as this version of the product tells it. `calls` knows what came before it.
#[must_use]
pub fn event(entry: &Entry, calls: &Contexts, origin: &str, version: &str) -> Value {
    let facts = Facts::of(entry, calls);
    let (activity, severity, status) = (activity(entry, &facts), severity(entry.body()), status(entry.body()));
    let mut event = Map::new();
    let mut put = |name: &str, value: Value| drop(event.insert(name.to_owned(), value));
    put("activity_id", json!(activity.id()));
    put("activity_name", json!(activity.name()));
    put("category_uid", json!(CATEGORY));
    put("category_name", json!("Application Activity"));
    put("class_uid", json!(CLASS));
    put("class_name", json!("API Activity"));
    put("type_uid", json!(CLASS * 100 + activity.id()));
    put("type_name", json!(format!("API Activity: {}", type_name(activity))));
    put("time", json!(entry.time_ms()));
    put("severity_id", json!(severity as u32));
    put("severity", json!(severity.name()));
    put("status_id", json!(status as u32));
    put("status", json!(status.name()));
    if let Some(code) = status_code(&facts) {
        put("status_code", json!(code));
    }
    if let Some(detail) = facts.code.map(|code| detail(code, &facts.rules)) {
        put("status_detail", json!(detail));
    }
    put("message", json!(message(entry, &facts)));
    put("metadata", metadata(entry, origin, version));
    put("actor", actor(entry));
    put("api", api(entry, &facts));
    put("src_endpoint", json!({ "name": origin, "svc_name": "ambit" }));
    if let Some(connection) = facts.connection {
        put("dst_endpoint", json!({ "svc_name": connection }));
    }
    if let Some(status) = facts.status {
        put("http_response", json!({ "code": status }));
    }
    if let Some((action, disposition)) = control(entry.body(), &facts) {
        put("action_id", json!(action.0));
        put("action", json!(action.1));
        put("disposition_id", json!(disposition.0));
        put("disposition", json!(disposition.1));
    }
    if let (Some(decision), false) = (facts.decision, facts.rules.is_empty()) {
        let rule = |rule: &&str| json!({ "decision": decision, "policy": { "name": rule, "uid": rule } });
        put("authorizations", facts.rules.iter().map(rule).collect());
    }
    put("is_alert", json!(severity >= Severity::High));
    let resources = resources(entry, &facts);
    if !resources.is_empty() {
        put("resources", Value::Array(resources));
    }
    if let Some(trace) = entry.trace() {
        put("trace", json!({ "uid": trace }));
    }
    put("unmapped", unmapped(entry, &facts));
    Value::Object(event)
}

/// The caption of a type, which knows no names but the schema's.
const fn type_name(activity: Activity) -> &'static str {
    match activity {
        Activity::Other(_) => "Other",
        known => known.name(),
    }
}

fn metadata(entry: &Entry, origin: &str, version: &str) -> Value {
    let mut profiles = vec!["security_control"];
    profiles.extend(entry.trace().map(|_| "trace"));
    let mut metadata = json!({
        "version": VERSION,
        "product": { "name": "Ambit", "uid": "ambit", "vendor_name": "Ambit", "version": version },
        "profiles": profiles,
        "uid": format!("{origin}/{}", entry.index()),
        "event_code": entry.kind().as_str(),
        "log_name": "ledger",
        "log_provider": origin,
        "sequence": entry.index(),
    });
    if let Some(metadata) = metadata.as_object_mut() {
        let mut put = |name: &str, value: Option<&str>| metadata.extend(value.map(|v| (name.to_owned(), json!(v))));
        put("correlation_uid", entry.call());
        put(
            "tenant_uid",
            entry.principal().map(|principal| principal.tenant.as_str()),
        );
    }
    metadata
}

/// Who did it: a person who signed, the agent and the user that it acts for, or whoever has the home.
fn actor(entry: &Entry) -> Value {
    let person = match entry.body() {
        Body::HoldVoted(voted) => Vote::claimed(&voted.vote).ok().map(|vote| (vote.person, vote.group)),
        Body::HoldEdited(edited) => Edit::claimed(&edited.edit).ok().map(|edit| (edit.person, edit.group)),
        _ => None,
    };
    if let Some((person, group)) = person {
        let user = json!({ "name": person, "type_id": 1, "type": "User", "groups": [{ "name": group }] });
        return json!({ "app_name": "ambit", "user": user });
    }
    let of_run = match entry.body() {
        Body::RunStarted(_) => None,
        _ => entry.principal(),
    };
    match of_run {
        Some(Principal {
            agent,
            team,
            tenant,
            user,
        }) => {
            let (name, kind) = match user {
                Some(user) => (user, (1, "User")),
                None => (agent, (4, "Service")),
            };
            let (groups, org) = (json!([{ "name": team, "type": "team" }]), json!({ "name": tenant }));
            let user = json!({ "name": name, "type_id": kind.0, "type": kind.1, "groups": groups, "org": org });
            json!({ "app_name": agent, "user": user })
        }
        // Whoever asked was not verified.
        None if entry.call().is_some() => json!({ "app_name": "unknown" }),
        // The operator, or the host itself.
        None => json!({ "app_name": "ambit" }),
    }
}

fn api(entry: &Entry, facts: &Facts<'_>) -> Value {
    let of_effect = entry.body().ordinal().is_some();
    let (operation, service) = match (of_effect, facts.route, facts.function) {
        (true, Some(route), _) => (route, facts.connection),
        (false, _, Some(function)) => (function, facts.tool),
        _ => (entry.kind().as_str(), facts.connection.or(facts.tool)),
    };
    let mut api = json!({ "operation": operation, "service": { "name": service.unwrap_or("ambit") } });
    if let (Some(api), Some(call)) = (api.as_object_mut(), entry.call()) {
        let uid = match entry.body().ordinal() {
            Some(ordinal) => format!("{call}/{ordinal}"),
            None => call.to_owned(),
        };
        api.insert("request".to_owned(), json!({ "uid": uid }));
        if let Some(status) = facts.status {
            api.insert("response".to_owned(), json!({ "code": status }));
        } else if let Some(code) = facts.code {
            api.insert("response".to_owned(), json!({ "error": code.as_str() }));
        }
    }
    api
}

fn resources(entry: &Entry, facts: &Facts<'_>) -> Vec<Value> {
    let mut resources = Vec::new();
    if let (Some(connection), Some(route)) = (facts.connection, facts.route) {
        resources.push(json!({ "name": format!("{connection}/{route}"), "type": "route" }));
    }
    if let Some(tool) = facts.tool {
        let mut resource = json!({ "name": tool, "type": "tool" });
        if let (Some(resource), Some(component)) = (resource.as_object_mut(), entry.tool()) {
            resource.insert("uid".to_owned(), json!(component));
        }
        resources.push(resource);
    }
    if let Some((kind, name)) = facts.about {
        resources.push(json!({ "name": name, "type": kind }));
    }
    resources
}

/// Everything that OCSF has no attribute for.
fn unmapped(entry: &Entry, facts: &Facts<'_>) -> Value {
    let mut unmapped = json!({ "leaf": data_encoding::HEXLOWER.encode(entry.leaf().as_bytes()) });
    if let Some(unmapped) = unmapped.as_object_mut() {
        let mut put = |name: &str, value: Option<Value>| unmapped.extend(value.map(|v| (name.to_owned(), v)));
        put("decision", facts.decision.map(|word| json!(word)));
        put("outcome", facts.outcome.map(|word| json!(word)));
        put("money", facts.money.map(|money| json!(money)));
        put("run", facts.run.map(|run| json!(run)));
        put("tier", facts.tier.map(|tier| json!(tier.as_str())));
        let hold = match entry.body() {
            Body::EffectHeld(held) => Some(held.hold),
            Body::HoldVoted(voted) => Some(voted.hold),
            Body::HoldEdited(edited) => Some(edited.hold),
            Body::EffectIntent(intent) => intent.hold,
            Body::EffectRefused(refused) => refused.hold,
            Body::VoteRefused(refused) => Some(refused.hold),
            _ => None,
        };
        put("hold", hold.map(|hold| json!(hold)));
        let breaks = matches!(entry.body(), Body::HoldVoted(HoldVoted { instead: Some(_), .. }));
        put("break_glass", breaks.then_some(Value::Bool(true)));
        if let Body::StopSet(set) = entry.body() {
            put("stop", Some(json!({ "kind": set.kind.as_str(), "scope": set.scope })));
        }
    }
    unmapped
}

fn activity(entry: &Entry, facts: &Facts<'_>) -> Activity {
    match entry.body() {
        Body::LedgerOpened(_)
        | Body::ToolPinned(_)
        | Body::PersonEnrolled(_)
        | Body::KeyCreated(_)
        | Body::CallersRefused(_)
        | Body::StopSet(_)
        | Body::RunStarted(_)
        | Body::HoldVoted(_)
        | Body::PersonDelegated(_) => Activity::Create,
        Body::ConfigChanged(_)
        | Body::PolicyChanged(_)
        | Body::HostReloaded(_)
        | Body::ReloadRefused(_)
        | Body::ActRefused(_)
        | Body::RunEnded(_)
        | Body::RunDegraded(_)
        | Body::BreakerOpened(_)
        | Body::BreakerClosed(_)
        | Body::ServicePaused(_)
        | Body::HoldEdited(_)
        | Body::BudgetWarned(_)
        | Body::WebhookFailed(_)
        | Body::WebhookRetried(_)
        | Body::EffectResolved(_) => Activity::Update,
        Body::ToolRemoved(_)
        | Body::PersonRevoked(_)
        | Body::KeyRevoked(_)
        | Body::StopLifted(_)
        | Body::ValuesErased(_)
        | Body::DeadLetterDropped(_)
        | Body::WebhookDropped(_) => Activity::Delete,
        Body::VoteRefused(_) => Activity::Create,
        Body::CallDiverged(_) | Body::CallsReplayed(_) | Body::EffectChecked(_) => Activity::Read,
        Body::CallDenied(_)
        | Body::CallAccepted(_)
        | Body::CallPaused(_)
        | Body::CallSuspended(_)
        | Body::CallResumed(_)
        | Body::GuestEnded(_)
        | Body::CallFinished(_)
        | Body::EffectRefused(_)
        | Body::EffectHeld(_)
        | Body::EffectIntent(_)
        | Body::EffectRetried(_)
        | Body::EffectOutcome(_) => match facts.tier {
            Some(Tier::Read) => Activity::Read,
            Some(Tier::Draft) => Activity::Other("Draft"),
            Some(Tier::Commit) => Activity::Other("Commit"),
            None => Activity::Other("Call"),
        },
    }
}

pub(crate) fn severity(body: &Body) -> Severity {
    match body {
        Body::HoldVoted(HoldVoted { instead: Some(_), .. }) | Body::CallDiverged(_) => Severity::High,
        Body::StopSet(set) if set.kind == stop::Kind::Kill => Severity::High,
        Body::CallDenied(denied) if denied.refused.code == Code::PolicyError => Severity::Medium,
        Body::EffectRefused(refused) if refused.refused.code == Code::PolicyError => Severity::Medium,
        Body::EffectOutcome(ended) if ended.is_in_doubt() || ended.dead => Severity::Medium,
        Body::EffectChecked(checked) if checked.shown == Shown::Missing => Severity::High,
        Body::EffectChecked(checked) if checked.shown.is_unverified() => Severity::Medium,
        Body::RunDegraded(_)
        | Body::BreakerOpened(_)
        | Body::StopSet(_)
        | Body::VoteRefused(_)
        | Body::BudgetWarned(_)
        | Body::WebhookFailed(_)
        | Body::ReloadRefused(_)
        | Body::ActRefused(_) => Severity::Medium,
        Body::CallDenied(_)
        | Body::EffectRefused(_)
        | Body::EffectHeld(_)
        | Body::HoldEdited(_)
        | Body::CallPaused(_)
        | Body::ServicePaused(_)
        | Body::StopLifted(_)
        | Body::HostReloaded(_)
        | Body::ConfigChanged(_)
        | Body::PolicyChanged(_)
        | Body::ToolPinned(_)
        | Body::ToolRemoved(_)
        | Body::PersonEnrolled(_)
        | Body::PersonRevoked(_)
        | Body::PersonDelegated(_)
        | Body::KeyCreated(_)
        | Body::KeyRevoked(_)
        | Body::CallersRefused(_)
        | Body::ValuesErased(_)
        | Body::EffectRetried(_)
        | Body::WebhookRetried(_)
        | Body::WebhookDropped(_)
        | Body::DeadLetterDropped(_) => Severity::Low,
        Body::CallFinished(finished) if !matches!(finished.outcome, End::Ok(_)) => Severity::Low,
        Body::EffectOutcome(ended) if !ended.is_done() && !ended.absent => Severity::Low,
        _ => Severity::Informational,
    }
}

fn status(body: &Body) -> Status {
    match body {
        Body::CallDenied(_)
        | Body::CallersRefused(_)
        | Body::EffectRefused(_)
        | Body::VoteRefused(_)
        | Body::CallDiverged(_)
        | Body::RunDegraded(_)
        | Body::ReloadRefused(_)
        | Body::ActRefused(_)
        | Body::WebhookFailed(_)
        | Body::BreakerOpened(_) => Status::Failure,
        Body::EffectHeld(_) | Body::CallPaused(_) | Body::CallSuspended(_) => Status::Unknown,
        Body::CallFinished(finished) => match finished.outcome {
            End::Ok(_) => Status::Success,
            End::ToolError(_) | End::Refused(_) | End::Trapped(_) => Status::Failure,
            End::Interrupted => Status::Unknown,
        },
        Body::EffectOutcome(ended) => match ended.outcome {
            Outcome::Answered(_) if ended.is_done() || ended.absent => Status::Success,
            Outcome::Answered(_) | Outcome::NotSent(_) => Status::Failure,
            Outcome::InDoubt(_) => Status::Unknown,
        },
        Body::EffectChecked(checked) if checked.shown.is_unverified() => Status::Failure,
        _ => Status::Success,
    }
}

/// What the control did: its action and its disposition, where it decided something.
#[expect(clippy::type_complexity, reason = "two numbers with their captions")]
fn control(body: &Body, facts: &Facts<'_>) -> Option<((u32, &'static str), (u32, &'static str))> {
    let by_people = matches!(body, Body::EffectIntent(intent) if intent.hold.is_some());
    match facts.decision? {
        "permitted" if by_people => Some(((1, "Allowed"), (8, "Approved"))),
        "permitted" => Some(((1, "Allowed"), (1, "Allowed"))),
        // Neither allowed nor denied yet: people decide.
        "held" => Some(((0, "Unknown"), (14, "Delayed"))),
        _ => Some(((2, "Denied"), (2, "Blocked"))),
    }
}

fn status_code(facts: &Facts<'_>) -> Option<String> {
    let code = facts.code.map(|code| code.as_str().to_owned());
    facts.status.map(|status| status.to_string()).or(code)
}
