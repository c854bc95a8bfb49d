//! What stands behind a held effect, for whoever decides: what its call had read, and what it would change.

use std::io;

use ambit_core::ledger::utc;
use ambit_runtime::approvals::Pending;
use ambit_runtime::clock::clock;
use ambit_runtime::config::Config;
use ambit_runtime::objects::{self, Planned, Seen};
use ambit_runtime::store::Reader;
use ambit_runtime::transcript::Unreadable;
use serde_json::{Map, Value, json};

use crate::output::Failure;

/// What was read before, as far as it can be shown here.
pub(super) struct Behind {
    reads: Vec<Seen>,
    object: Object,
}

enum Object {
    /// The route does not say how to read what it changes, or the effect creates it.
    None,
    /// The home's keys are needed.
    Unreadable,
    Read(Box<Planned>),
}

impl Behind {
    pub(super) fn of(reader: &Reader, waiting: &Pending, config: &Config) -> Result<Behind, Failure> {
        let story = reader.story(&waiting.call)?;
        let object = match objects::planned(reader, &story, &waiting.held, config) {
            Ok(None) => Object::None,
            Ok(Some(planned)) => Object::Read(Box::new(planned)),
            Err(Unreadable::Value(_)) => Object::Unreadable,
            Err(Unreadable::Store(error)) => return Err(error.into()),
            // Nobody should decide on it.
            Err(error @ Unreadable::Tampered(_)) => {
                return Err(Failure::refused(error.to_string())
                    .advise("Keep the home as it is; `ambit audit verify` checks all that the ledger commits to."));
            }
        };
        Ok(Behind {
            reads: objects::seen_before(&story, waiting.held.ordinal, config),
            object,
        })
    }

    /// For programs.
    pub(super) fn members(&self) -> Map<String, Value> {
        let now = clock();
        let reads = self.reads.iter().map(|seen| {
            json!({
                "effect": seen.ordinal,
                "connection": seen.connection,
                "route": seen.route,
                "time": utc(i64::try_from(seen.time_ms).unwrap_or(i64::MAX)),
                "age_ms": seen.age_ms(now),
                "fresh_ms": seen.fresh_ms,
                "too_old": seen.is_too_old(now),
            })
        });
        let mut members = Map::new();
        members.insert("read".to_owned(), reads.collect());
        let (before, changes, writes) = match &self.object {
            Object::None | Object::Unreadable => (Value::Null, Value::Null, Value::Null),
            Object::Read(planned) => {
                let changes = planned.differences.as_ref();
                let changes = changes.map(|lines| lines.iter().map(|line| json!(line.to_json())).collect());
                let version = planned.before.etag.is_some();
                let writes = if version { "if-match" } else { "last-write-wins" };
                (
                    json!(planned.before.to_json()),
                    changes.unwrap_or_default(),
                    json!(writes),
                )
            }
        };
        members.insert("before".to_owned(), before);
        members.insert("changes".to_owned(), changes);
        members.insert("writes".to_owned(), writes);
        members
    }

    /// For people.
    pub(super) fn print(&self, field: &mut dyn FnMut(&str, &str) -> io::Result<()>) -> io::Result<()> {
        match &self.object {
            Object::None => {}
            Object::Unreadable => field("object", "[not readable here: the home's keys are needed]")?,
            Object::Read(planned) => print(planned, field)?,
        }
        let now = clock();
        for seen in &self.reads {
            field("had read", &told(seen, now))?;
        }
        Ok(())
    }
}

fn print(planned: &Planned, field: &mut dyn FnMut(&str, &str) -> io::Result<()>) -> io::Result<()> {
    if planned.before.object.is_none() {
        field("object", "there is none")?;
    }
    match &planned.differences {
        None => field("object", "[the configuration does not say any more how it is read]")?,
        Some(lines) => lines.iter().try_for_each(|line| field("object", &line.to_string()))?,
    }
    match &planned.before.etag {
        Some(etag) => field("writes", &format!("If-Match {etag}: not if it is another by then")),
        None => field(
            "writes",
            "the last write wins: the service does not look whether it is still the same",
        ),
    }
}

fn told(seen: &Seen, now_ms: u64) -> String {
    let time = utc(i64::try_from(seen.time_ms).unwrap_or(i64::MAX));
    let fresh = match seen.fresh_ms {
        Some(fresh) if seen.is_too_old(now_ms) => format!(", TOO OLD: at most {}", span(fresh)),
        Some(fresh) => format!(", at most {} old", span(fresh)),
        None => String::new(),
    };
    let age = span(seen.age_ms(now_ms));
    format!(
        "{}/{} (effect {}) {time}, {age} ago{fresh}",
        seen.connection, seen.route, seen.ordinal
    )
}

/// A time for people: the largest unit of which there is one.
fn span(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use ambit_core::field::FieldSet;
    use ambit_core::json::{Json, Limits};
    use ambit_core::object::{self, Image, Sent};

    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text, Limits::default()).unwrap()
    }

    fn planned(object: Option<&str>, etag: Option<&str>) -> Planned {
        let before = Image {
            object: object.map(json),
            etag: etag.map(str::to_owned),
        };
        let fields = json(r#"{"email":"b@x","phone":"1"}"#);
        let sent = Sent {
            fields: &fields,
            form: false,
        };
        let reads: FieldSet = "email".parse().unwrap();
        let differences = Some(object::planned(&before, sent, &reads, false));
        Planned { before, differences }
    }

    fn lines(planned: &Planned) -> Vec<String> {
        let mut lines = Vec::new();
        let mut field = |name: &str, value: &str| {
            lines.push(format!("{name}: {value}"));
            Ok(())
        };
        print(planned, &mut field).unwrap();
        lines
    }

    #[test]
    fn people_see_what_would_change_and_who_wins() {
        let unread = "object: phone: \"1\" (what it is cannot be read)";
        assert_eq!(
            lines(&planned(Some(r#"{"email":"a@x"}"#), Some("\"v1\""))),
            [
                "object: email: \"a@x\" → \"b@x\"",
                unread,
                "writes: If-Match \"v1\": not if it is another by then",
            ]
        );
        assert_eq!(
            lines(&planned(None, None)),
            [
                "object: there is none",
                "object: email: \"b@x\" (new)",
                unread,
                "writes: the last write wins: the service does not look whether it is still the same",
            ]
        );
    }

    #[test]
    fn people_see_what_was_read_and_how_long_ago() {
        let seen = |fresh_ms| Seen {
            ordinal: 1,
            connection: "crm".into(),
            route: "customers.get".into(),
            time_ms: 1_795_228_800_000,
            fresh_ms,
        };
        let now = 1_795_228_800_000 + 5 * 60_000;
        let head = "crm/customers.get (effect 1) 2026-11-21T";
        for (fresh, end) in [
            (None, "5 min ago"),
            (Some(600_000), "5 min ago, at most 10 min old"),
            (Some(60_000), "5 min ago, TOO OLD: at most 60 s"),
        ] {
            let text = told(&seen(fresh), now);
            assert!(text.starts_with(head) && text.ends_with(end), "{text}");
        }
        assert_eq!([1_000, 7_200_000, 400_000_000].map(span), ["1 s", "2 h", "4 days"]);
    }
}
