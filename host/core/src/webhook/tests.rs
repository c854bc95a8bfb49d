use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::flow::Jitter;
use crate::ledger::body::{BreakerOpened, BudgetWarned, StopSet};
use crate::ledger::{Body, Contexts, Entry, EntryDraft, Stamp};
use crate::stop::{Kind, Scope};

const LEDGER: &str = "ambit.example/home";
const NOON: i64 = 1_795_262_400_000;

fn entry(body: impl Into<Body>) -> Entry {
    EntryDraft::of_ledger(body).seal(Stamp::first(NOON)).unwrap()
}

fn only(entry: &Entry) -> Event {
    assert!(may_tell(entry));
    let mut events = Event::of(entry, &Contexts::default());
    assert_eq!(events.len(), 1);
    events.remove(0)
}

fn opened() -> BreakerOpened {
    BreakerOpened {
        connection: "stripe".into(),
        failures: 5,
        in_a_row: 1,
        route: Some("refunds.create".into()),
        until: 1_795_262_430_000,
    }
}

fn stop(scope: Scope) -> StopSet {
    StopSet {
        by: None,
        id: "s_aaaaaaaaaaaaaaaaaaaaaaaaaa".into(),
        kind: Kind::Kill,
        reason: Digest::of(b"reason"),
        scope,
    }
}

#[test]
fn words_of_events_are_types_or_beginnings_of_types() {
    let words: BTreeSet<&str> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(words.len(), EventType::ALL.len());
    for kind in EventType::ALL {
        assert_eq!(EventType::meant(kind.as_str()), [*kind]);
        assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{kind}\""));
    }
    assert_eq!(
        EventType::meant("hold.*"),
        [EventType::HoldCreated, EventType::HoldEnded]
    );
    for none in [
        "",
        "*",
        "hold",
        "hold*",
        ".*",
        "holds.*",
        "hold.created ",
        "HOLD.CREATED",
        "hold.*.*",
    ] {
        assert_eq!(EventType::meant(none), [], "{none}");
    }
}

#[test]
fn a_message_for_programs_has_its_type_its_time_and_what_there_is_to_say() {
    let event = only(&entry(opened()));
    let body: Value = serde_json::from_str(&Format::Standard.body(LEDGER, &event)).unwrap();
    let expected = json!({
        "type": "breaker.opened",
        "timestamp": "2026-11-21T12:00:00.000Z",
        "data": {
            "ledger": LEDGER,
            "index": 0,
            "connection": "stripe",
            "route": "refunds.create",
            "failures": 5,
            "in_a_row": 1,
            "until": "2026-11-21T12:00:30.000Z",
            "next": "`ambit connections list`",
        },
    });
    assert_eq!(body, expected);
    // What is not there is left out.
    let event = only(&entry(BreakerOpened {
        route: None,
        ..opened()
    }));
    assert!(!event.data(LEDGER).contains_key("route"));
}

#[test]
fn a_message_for_a_chat_is_a_line_of_text_that_mentions_nobody() {
    let scope = Scope::Agent("<!channel> & co".into());
    let event = only(&entry(stop(scope)));
    let body: Value = serde_json::from_str(&Format::Slack.body(LEDGER, &event)).unwrap();
    let text = body["text"].as_str().unwrap();
    assert!(text.starts_with("Ambit stop.placed: kill of "), "{text}");
    assert!(text.contains("&lt;!channel&gt; &amp; co"), "{text}");
    assert!(!text.contains(['<', '>', '\n']), "{text}");
    assert_eq!(body.as_object().unwrap().len(), 1);
    let test: Value = serde_json::from_str(&Format::Slack.test_body(LEDGER, NOON)).unwrap();
    assert!(test["text"].as_str().unwrap().contains("test"));
}

#[test]
fn an_id_is_the_same_each_time_and_of_one_webhook_and_event() {
    let event = only(&entry(opened()));
    let id = |ledger: &str, webhook: &str, event: &Event| message(ledger, webhook, event).id;
    let mine = id(LEDGER, "pager", &event);
    assert_eq!(mine, id(LEDGER, "pager", &event));
    assert!(mine.starts_with("msg_") && mine.len() == 30, "{mine}");
    let other = |change: &dyn Fn(&mut Event)| {
        let mut event = event.clone();
        change(&mut event);
        id(LEDGER, "pager", &event)
    };
    let ids = [
        mine,
        id(LEDGER, "chat", &event),
        id("another.example/home", "pager", &event),
        other(&|event| event.index += 1),
        other(&|event| event.kind = EventType::BreakerClosed),
        other(&|event| event.subject = "refunds".into()),
    ];
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
}

#[test]
fn a_filter_lets_through_what_says_that_it_is_of_it() {
    let about = |entry: &Entry| only(entry).about;
    let all = about(&entry(stop(Scope::Everything)));
    assert!(
        all.is_of(Some("acme"), Some("refunds"), Some("stripe")),
        "it is about them too"
    );
    let acme = about(&entry(stop(Scope::Tenant("acme".into()))));
    assert!(acme.is_of(None, None, None) && acme.is_of(Some("acme"), None, None));
    assert!(!acme.is_of(Some("other"), None, None) && !acme.is_of(Some("acme"), Some("refunds"), None));
    let stripe = about(&entry(opened()));
    assert!(stripe.is_of(None, None, Some("stripe")) && !stripe.is_of(None, None, Some("slack")));
    assert!(!stripe.is_of(Some("acme"), None, None), "nobody knows whose it is");
}

/// Whoever sends an event completes it by what it says it is of, in the filter and in the message.
#[test]
fn an_event_is_completed_by_whose_it_is() {
    let acme = || About {
        tenant: Some("acme".into()),
        ..About::default()
    };
    for (scope, whose) in [
        (Scope::Agent("assistant".into()), Whose::Agent("assistant".into())),
        (Scope::Run("r_1".into()), Whose::Run("r_1".into())),
    ] {
        let mut event = only(&entry(stop(scope)));
        assert_eq!(event.whose, Some(whose));
        assert!(!event.about.is_of(Some("acme"), None, None));
        event.complete(acme());
        assert!(event.about.is_of(Some("acme"), None, None));
        assert_eq!(event.data(LEDGER)["tenant"], "acme");
    }
    // What the entry says stays.
    let mut event = only(&entry(stop(Scope::Tenant("other".into()))));
    event.complete(acme());
    assert_eq!((event.whose, event.about.tenant.as_deref()), (None, Some("other")));
}

#[test]
fn a_type_says_which_filters_can_hold_of_it() {
    for key in ["tenant", "tool", "connection"] {
        for kind in EventType::ALL {
            let never = match kind {
                EventType::BreakerOpened | EventType::BreakerClosed => key != "connection",
                EventType::CallSuspended => key == "connection",
                _ => false,
            };
            assert_eq!(kind.is_ever_of(key), !never, "{kind} {key}");
        }
    }
    let breaker = only(&entry(opened()));
    assert_eq!(
        (breaker.about.tenant, breaker.about.tool, breaker.whose),
        (None, None, None)
    );
}

#[test]
fn a_budget_that_is_nearly_used_up_is_told_with_its_numbers() {
    let event = only(&entry(BudgetWarned {
        budget: "refunds".into(),
        cap: 100,
        taken: 85,
        warn: 80,
        window: "usd day 2026-11-21".into(),
    }));
    assert_eq!(
        (event.kind, event.subject.as_str()),
        (EventType::BudgetWarning, "refunds")
    );
    assert_eq!(event.whose, Some(Whose::Budget("refunds".into())));
    let data = event.data(LEDGER);
    assert_eq!(
        (&data["cap"], &data["taken"], &data["warn"]),
        (&json!(100), &json!(85), &json!(80))
    );
    assert!(event.text().contains("85 of 100 of budget refunds"), "{}", event.text());
}

#[test]
fn a_signing_key_is_of_24_to_64_bytes_behind_its_prefix() {
    let of = |bytes: usize| format!("whsec_{}", BASE64.encode(&vec![7; bytes]));
    for bytes in [24, 32, 64] {
        assert_eq!(signing_key(&of(bytes)), Ok(vec![7; bytes]));
    }
    for bytes in [0, 23, 65, 128] {
        assert!(signing_key(&of(bytes)).is_err(), "{bytes}");
    }
    for bad in [
        "",
        "whsec_",
        "whsec_hunter2!",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_ MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ] {
        let why = signing_key(bad).unwrap_err();
        assert!(!why.contains("hunter2") && !why.contains("MfKQ"), "{why}");
    }
}

#[test]
fn waits_grow_and_a_receiver_may_ask_for_longer() {
    let far = NOON + 7 * 24 * 3_600_000;
    let of = |attempts, asked| wait(attempts, asked, NOON, far, Jitter::default());
    let all: Vec<Wait> = (1..=8).map(|attempts| of(attempts, None)).collect();
    let ms = [
        4_000, 24_000, 96_000, 480_000, 1_440_000, 2_880_000, 2_880_000, 2_880_000,
    ];
    assert_eq!(all, ms.map(Wait::Again));
    assert_eq!(of(1, Some(30_000)), Wait::Again(30_000));
    assert_eq!(of(3, Some(1)), Wait::Again(96_000), "what is asked for is the least");
    assert_eq!(of(1, Some(u64::MAX)), Wait::Again(3_600_000), "an hour at most");
}

#[test]
fn a_message_is_given_up_at_its_end_and_not_before() {
    let of = |left: i64| wait(6, None, NOON, NOON + left, Jitter::of(u64::MAX));
    assert_eq!(of(60_000), Wait::Again(60_000), "the last sending is at the end");
    assert_eq!(of(1), Wait::Again(1));
    assert_eq!(of(0), Wait::GiveUp);
    assert_eq!(of(-1), Wait::GiveUp);
}

proptest! {
    #[test]
    fn a_wait_is_never_past_the_end(attempts in any::<u32>(), asked in any::<Option<u64>>(), left in 1_i64..1_000_000_000, random in any::<u64>()) {
        let Wait::Again(ms) = wait(attempts, asked, NOON, NOON + left, Jitter::of(random)) else {
            return Err(TestCaseError::fail("given up before its end"));
        };
        prop_assert!(ms >= 1 && ms <= left.unsigned_abs());
    }
}
