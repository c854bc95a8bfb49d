//! What people say: over their own signature, in the changes that an edit names, and to the host on the operators' socket.

use std::collections::BTreeSet;

use ambit_core::digest::Digest;
use ambit_core::effect::{GuestBody, GuestRequest, Method};
use ambit_core::error::Refusal;
use ambit_core::hold::{Changes, Delegation, Edit, Verdict, Vote, fuzz};
use ambit_core::json::{Json, Limits};
use ambit_core::stop::Kind;
use ambit_runtime::operators::{Request, read_request};
use serde_json::Value;

use crate::fuzz::Became;

pub(super) const SAID_WORDS: &[&str] = &[
    "ambit vote v1\n",
    "ambit edit v1\n",
    "ambit delegation v1\n",
    "hold sha256:",
    "changes sha256:",
    "verdict approve\n",
    "verdict reject\n",
    "verdict break-glass\n",
    "person rita\n",
    "group finance\n",
    "delegate ada\n",
    "ledger ",
    "made ",
    "until ",
    "expires ",
    "in-stead-of ",
    "18446744073709551616",
    "+1",
    "01",
    " ",
    "\r",
    "\n",
    "\n\n",
    "\u{2014} rita ",
    "\u{2028}",
    "\0",
];

pub(super) fn said(bytes: &[u8]) -> Became {
    fuzz::said(bytes)
}

/// One of each, signed: an own vote, one in another's stead, an edit, and a delegation that is given and one that is taken back.
pub(super) fn all_said() -> Vec<Vec<u8>> {
    let key = fuzz::key().expect("a key");
    let vote = Vote {
        person: "rita".to_owned(),
        hold: Digest::of(b"a hold"),
        verdict: Verdict::Approve,
        group: "finance".to_owned(),
        expires_ms: 1_763_700_000_000,
        in_stead_of: None,
    };
    let in_stead = Vote {
        verdict: Verdict::Reject,
        in_stead_of: Some("bob".to_owned()),
        ..vote.clone()
    };
    let edit = Edit {
        person: "rita".to_owned(),
        hold: vote.hold,
        changes: Digest::of(b"changes"),
        group: "finance".to_owned(),
        expires_ms: u64::MAX,
    };
    let given = Delegation {
        ledger: "ledger.example/home".to_owned(),
        person: "rita".to_owned(),
        delegate: "ada".to_owned(),
        group: "finance".to_owned(),
        made_ms: 1_763_700_000_000,
        until_ms: 1_763_800_000_000,
    };
    let taken_back = Delegation {
        until_ms: 0,
        ..given.clone()
    };
    let notes = [
        vote.sign(&key),
        in_stead.sign(&key),
        edit.sign(&key),
        given.sign(&key),
        taken_back.sign(&key),
    ];
    notes.map(|note| note.expect("their own key").into_bytes()).to_vec()
}

pub(super) const CHANGES_WORDS: &[&str] = &[
    r#"{"salt":"00112233445566778899aabbccddeeff","set":{},"unset":[]}"#,
    r#""set":{"#,
    r#""unset":["#,
    r#""amount":2500"#,
    r#""amount":"2500""#,
    r#""metadata.order":"#,
    r#""a.b.c":"#,
    r#""items[]":"#,
    r#""**""#,
    r#""reason""#,
    "null",
    "true",
    "0.10",
    "{}",
    "[]",
    "\n",
    ",",
    "amount=1",
    "metadata[order]=x",
    "&",
];

/// Changes on the first line, and under it the body that they are applied to: JSON, or pairs of a form.
pub(super) fn changes(bytes: &[u8]) -> Became {
    let text = String::from_utf8_lossy(bytes);
    let (text, body) = text.split_once('\n').unwrap_or((&text, ""));
    let changes = Changes::parse(text).map_err(why)?;
    assert_eq!(changes.to_text(), text, "one spelling");
    assert_eq!(
        Changes::parse(&changes.to_text()).as_ref().map(Changes::digest),
        Ok(changes.digest())
    );
    says_what_it_says(&changes, text);
    let mut kept = changes.clone();
    kept.keep(&changes);
    assert_eq!(kept, changes, "what it says it has");
    let form = body
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let to_form = apply(&changes, GuestBody::Form(form.collect()));
    let to_json = apply(&changes, GuestBody::Json(body.to_owned()));
    to_form.or(to_json)
}

/// Another reader of JSON finds the same fields.
fn says_what_it_says(changes: &Changes, text: &str) {
    let value: Value = serde_json::from_str(text).expect("canonical JSON");
    let set = value["set"].as_object().expect("an object").keys();
    let unset = value["unset"].as_array().expect("a list").iter();
    let theirs: BTreeSet<&str> = set.map(String::as_str).chain(unset.filter_map(Value::as_str)).collect();
    let ours: BTreeSet<&str> = changes.fields().map(|(path, _)| path).collect();
    assert_eq!(ours, theirs);
}

/// What is applied is there, and what it was before puts it back.
fn apply(changes: &Changes, body: GuestBody) -> Became {
    let guest = GuestRequest {
        method: Method::Post,
        path: "/v1/refunds".to_owned(),
        query: vec![("expand".to_owned(), "charge".to_owned())],
        headers: vec![("if-match".to_owned(), "1".to_owned())],
        body,
    };
    let changed = changes.apply(&guest).map_err(why)?;
    let others = |request: &GuestRequest| GuestRequest {
        body: GuestBody::None,
        ..request.clone()
    };
    assert_eq!(others(&changed), others(&guest), "nothing but the body changes");
    let is_form = matches!(changed.body, GuestBody::Form(_));
    let after = changes.before(&changed);
    for ((path, value), found) in changes.fields().zip(&after) {
        let wanted = match value {
            Some(value) if is_form && value.as_str().is_none() => Some(Json::from(value.to_canonical())),
            value => value.cloned(),
        };
        assert_eq!(*found, wanted, "{path}");
    }
    let again = changes.apply(&changed);
    if changes.fields().all(|(_, value)| value.is_some()) {
        assert_eq!(
            again.as_ref().map(|again| &again.body),
            Ok(&changed.body),
            "what is there stays"
        );
    } else {
        assert!(again.is_err(), "what is not there cannot be taken away");
    }
    put_back(changes, &guest, &changed);
    Ok(())
}

/// Where every field was there before, setting them to what they were gives the body that was.
fn put_back(changes: &Changes, guest: &GuestRequest, changed: &GuestRequest) {
    if changes.fields().any(|(_, value)| value.is_none()) {
        return;
    }
    let mut back = Changes::new(&[0; 16]);
    for ((path, _), before) in changes.fields().zip(changes.before(guest)) {
        let Some(before) = before else { return };
        back.set(path, before).expect("a scalar was there");
    }
    let restored = back.apply(changed).expect("all of it is there");
    let plain = |body: &GuestBody| match body {
        GuestBody::Json(text) => Json::parse(text, Limits::default())
            .map(|json| json.to_canonical())
            .ok(),
        GuestBody::Form(pairs) => Some(format!("{pairs:?}")),
        GuestBody::None => None,
    };
    assert_eq!(plain(&restored.body), plain(&guest.body));
}

pub(super) fn all_changes() -> Vec<Vec<u8>> {
    let change = |set: &[(&str, Json)], unset: &[&str], body: &str| {
        let mut changes = Changes::new(&[7; 16]);
        for (path, value) in set {
            changes.set(path, value.clone()).expect("a field");
        }
        unset.iter().for_each(|path| changes.unset(path).expect("a field"));
        format!("{}\n{body}", changes.to_text()).into_bytes()
    };
    let json = r#"{"amount":9000,"metadata":{"order":"6735","note":null},"reason":"duplicate"}"#;
    let form = "amount=9000&metadata[order]=6735&reason=duplicate";
    let amount = ("amount", Json::from(2500_i64));
    let order = ("metadata.order", Json::from("a\u{e9}\"\\"));
    vec![
        change(std::slice::from_ref(&amount), &[], json),
        change(std::slice::from_ref(&amount), &["reason"], form),
        change(&[amount, order], &[], json),
        change(&[("metadata.note", Json::Null)], &["metadata.order"], json),
        change(&[("customer.name.first", Json::Bool(true))], &[], form),
    ]
}

pub(super) const OPERATOR_WORDS: &[&str] = &[
    r#"{"act":"stop","kind":"kill","scope":"everything","reason":"x"}"#,
    r#""act":"stop""#,
    r#""act":"lift""#,
    r#""act":"status""#,
    r#""act":"enrol""#,
    r#""act":"revoke""#,
    r#""kind":"safe-mode""#,
    r#""scope":"agent:"#,
    r#""scope":"run:r_"#,
    r#""reason":null"#,
    r#""reason":"#,
    r#""key":"#,
    r#""name":"#,
    r#""\u0061ct":"#,
    r"\u0000",
    r"\ud800",
    "{",
    "}",
    "[",
    ",",
    ":",
    "\"",
    "\n",
    "\r\n",
    "1e400",
];

/// A line of the operators' socket, read and not done: what is accepted has nothing in it that was not understood, and is sent as it
/// was meant.
pub(super) fn operators(bytes: &[u8]) -> Became {
    // Whoever reads the socket reads to the end of the first line.
    let line = bytes.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    let request = read_request(line).map_err(why)?;
    let mut sent = serde_json::to_vec(&request).expect("a request");
    sent.push(b'\n');
    assert_eq!(
        read_request(&sent).as_ref(),
        Ok(&request),
        "what is sent is what is heard"
    );
    let heard: Value = serde_json::from_slice(line).expect("JSON, by a reader of any");
    let meant = serde_json::to_value(&request).expect("a request");
    assert_eq!(
        without_nulls(heard),
        without_nulls(meant),
        "no word of it was passed over"
    );
    Ok(())
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        other => other,
    }
}

pub(super) fn requests() -> Vec<Vec<u8>> {
    let scope = |text: &str| text.parse().expect("a scope");
    let requests = [
        Request::Stop {
            kind: Kind::Kill,
            scope: scope("agent:support-bot"),
            reason: "it does what it should not".to_owned(),
        },
        Request::Lift {
            kind: Kind::SafeMode,
            scope: scope("everything"),
            reason: None,
        },
        Request::Status,
        Request::Enrol {
            key: fuzz::key().expect("a key").verifier().to_string(),
        },
        Request::Revoke {
            name: "rita".to_owned(),
        },
    ];
    let line = |request: &Request| format!("{}\n", serde_json::to_string(request).expect("a request")).into_bytes();
    requests.iter().map(line).collect()
}

fn why(refusal: Refusal) -> String {
    refusal.message
}
