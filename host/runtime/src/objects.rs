//! What stands behind a held effect: what its call had read, and what it would change.
//!
//! For those who decide about it. Nothing of it is for agents.

use ambit_core::effect::HttpRequest;
use ambit_core::json::{self, Json};
use ambit_core::ledger::CallStory;
use ambit_core::ledger::body::{Cause, EffectHeld, Outcome};
use ambit_core::ledger::story::EffectStory;
use ambit_core::object::{self, Difference, Image, Sent};
use ambit_core::scope::Tier;
use serde::Serialize;

use crate::config::Config;
use crate::store::Reader;
use crate::transcript::{Record, Unreadable};

/// Something that a call had read before an effect of it was held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Which of the call's effects.
    pub ordinal: u32,
    /// The connection's name.
    pub connection: String,
    /// The route's name.
    pub route: String,
    /// When its answer was on the ledger, in milliseconds since 1970.
    pub time_ms: u64,
    /// How old it may be when the effect goes on, by today's configuration, in milliseconds; none where its route does not say.
    pub fresh_ms: Option<u64>,
}

impl Seen {
    /// How old it is, in milliseconds.
    #[must_use]
    pub const fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.time_ms)
    }

    /// Whether it is older than its route allows.
    #[must_use]
    pub fn is_too_old(&self, now_ms: u64) -> bool {
        self.fresh_ms.is_some_and(|fresh| self.age_ms(now_ms) > fresh)
    }
}

/// What a call's guest was given by reads before its effect of this number. Called when the effect goes on, and for people.
#[must_use]
pub fn seen_before(story: &CallStory, ordinal: u32, config: &Config) -> Vec<Seen> {
    let read = |(ordinal, effect): (&u32, &EffectStory)| {
        let EffectStory::Intended {
            intent,
            outcome: Some(outcome),
            ..
        } = effect
        else {
            return None;
        };
        let (intent, answered) = (&intent.what, matches!(outcome.what.outcome, Outcome::Answered(_)));
        if intent.cause != Cause::Guest || intent.tier != Tier::Read || !answered {
            return None;
        }
        let connection = config.connection(&intent.connection);
        let route = connection.and_then(|connection| connection.route(&intent.route));
        Some(Seen {
            ordinal: *ordinal,
            connection: intent.connection.clone(),
            route: intent.route.clone(),
            time_ms: u64::try_from(outcome.stamp.time_ms()).unwrap_or_default(),
            fresh_ms: route.and_then(ambit_core::route::Route::fresh_ms),
        })
    };
    story.effects.range(..ordinal).filter_map(read).collect()
}

/// What a held effect would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What was read before.
    pub before: Image,
    /// Field by field; none where the request cannot be read, or today's configuration does not say how the object is read.
    pub differences: Option<Vec<Difference>>,
}

/// What a held effect would change, as it was when it was held; none where its route says nothing of that.
///
/// # Errors
/// Where what was read cannot be had, or is not what the ledger commits to.
pub fn planned(
    reader: &Reader,
    story: &CallStory,
    held: &EffectHeld,
    config: &Config,
) -> Result<Option<Planned>, Unreadable> {
    if held.before.is_none() {
        return Ok(None);
    }
    let record = Record::new(reader, story);
    let before = before(&record, &held.before_name())?;
    let request = record.json(&held.request_name())?;
    let differences = differences(&before, &request, held, config);
    Ok(Some(Planned { before, differences }))
}

/// What was read before an effect: the value of that name.
pub(crate) fn before(record: &Record<'_>, name: &str) -> Result<Image, Unreadable> {
    let kept = record.json(name)?;
    Image::from_json(&kept).ok_or_else(|| Unreadable::value(format!("its value `{name}` is not what it should be")))
}

fn differences(before: &Image, request: &Json, held: &EffectHeld, config: &Config) -> Option<Vec<Difference>> {
    let connection = config.connection(&held.connection)?;
    let object = connection.route(&held.route)?.object()?;
    let reads = connection.route(object.read())?.reads();
    let (fields, form) = HttpRequest::fields_of_wire(request)?;
    let sent = Sent { fields: &fields, form };
    Some(object::planned(before, sent, reads, object.gone()))
}

/// What was seen when an effect was read back, for people: the fields that are not as they were sent.
#[must_use]
pub fn not_shown(diff: &str) -> Vec<String> {
    let Ok(diff) = Json::parse(diff, json::Limits::default()) else {
        return Vec::new();
    };
    let sent = diff.get("sent").and_then(Json::as_array).unwrap_or_default();
    let line = |field: &Json| {
        let missing = field.get("shown")?.as_bool() == Some(false);
        let seen = field
            .get("seen")
            .map_or_else(|| "nothing".to_owned(), Json::to_canonical);
        let (name, sent) = (field.get("field")?.as_str()?, field.get("sent")?.to_canonical());
        missing.then(|| format!("{name}: {sent} was sent, {seen} is there"))
    };
    let mut lines: Vec<String> = sent.iter().filter_map(line).collect();
    lines.extend(diff.get("why").and_then(Json::as_str).map(str::to_owned));
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn seen(time_ms: u64, fresh_ms: Option<u64>) -> Seen {
        Seen {
            ordinal: 1,
            connection: "crm".into(),
            route: "customers.get".into(),
            time_ms,
            fresh_ms,
        }
    }

    #[test]
    fn what_was_read_gets_too_old_where_its_route_says_so() {
        assert!(!seen(0, None).is_too_old(u64::MAX));
        let read = seen(1_000, Some(500));
        assert_eq!([1_500, 1_501].map(|now| read.is_too_old(now)), [false, true]);
        // A clock that went back makes nothing older.
        assert_eq!((read.age_ms(10), read.is_too_old(10)), (0, false));
    }

    #[test]
    fn people_are_told_what_is_not_there() {
        let diff = r#"{"shown":"missing","sent":[
            {"field":"email","sent":"b@x","seen":"a@x","shown":false},
            {"field":"name","sent":"Ann","seen":"Ann","shown":true},
            {"field":"phone","sent":1,"shown":false}]}"#;
        let told = [
            r#"email: "b@x" was sent, "a@x" is there"#,
            "phone: 1 was sent, nothing is there",
        ];
        assert_eq!(not_shown(diff), told);
        assert_eq!(not_shown(r#"{"shown":"unreadable","why":"no answer"}"#), ["no answer"]);
        assert!(not_shown("no JSON").is_empty());
    }
}
