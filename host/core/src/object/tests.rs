#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::effect::GuestResponse;
use crate::error::Code;
use crate::field::FieldSet;
use crate::json::{Json, Limits, any_json};
use crate::ledger::body::Shown;

fn json(text: &str) -> Json {
    Json::parse(text, Limits::default()).unwrap()
}

fn image(text: &str) -> Image {
    Image {
        object: Some(json(text)),
        etag: None,
    }
}

const GONE: Image = Image {
    object: None,
    etag: None,
};

fn reads(text: &str) -> FieldSet {
    text.parse().unwrap()
}

fn answer(status: u16, etags: &[&str], body: Option<&str>) -> GuestResponse {
    GuestResponse {
        status,
        headers: etags.iter().map(|tag| ("etag".to_owned(), (*tag).to_owned())).collect(),
        body: body.map(str::to_owned),
    }
}

#[test]
fn an_answer_says_what_an_object_is_or_that_there_is_none() {
    let read = |answer: &GuestResponse| Image::of(answer, false, Limits::default()).map_err(|refusal| refusal.code);
    assert_eq!(
        read(&answer(200, &[], Some(r#"{"id":"c"}"#))),
        Ok(image(r#"{"id":"c"}"#))
    );
    assert_eq!(read(&answer(404, &[], Some("{}"))), Ok(GONE));
    assert_eq!(read(&answer(410, &[], None)), Ok(GONE));
    for (status, body) in [
        (200, None),
        (200, Some("[1]")),
        (200, Some("null")),
        (200, Some("no JSON")),
        (302, Some("{}")),
        (401, Some("{}")),
        (500, Some("{}")),
    ] {
        assert_eq!(read(&answer(status, &[], body)), Err(Code::Object), "{status} {body:?}");
    }
}

#[test]
fn a_version_is_one_strong_etag() {
    let read =
        |tags: &[&str]| Image::of(&answer(200, tags, Some("{}")), true, Limits::default()).map(|image| image.etag);
    assert_eq!(read(&["\"v1\""]), Ok(Some("\"v1\"".to_owned())));
    assert_eq!(read(&["\"\""]), Ok(Some("\"\"".to_owned())));
    let (most, more) = ("v".repeat(254), "v".repeat(255));
    assert!(read(&[&format!("\"{most}\"")]).is_ok());
    for bad in [
        &[][..],
        &["W/\"v1\""],
        &["v1"],
        &["\"v1"],
        &["\""],
        &["\"v 1\""],
        &["\"v\"1\""],
        &["\"é\""],
        &["\"v1\"", "\"v2\""],
        &[&format!("\"{more}\"")],
    ] {
        assert!(read(bad).is_err(), "{bad:?}");
    }
    // Of what is not there, there is no version.
    let none = Image::of(&answer(404, &[], None), true, Limits::default());
    assert_eq!(none, Ok(GONE));
}

#[track_caller]
fn shown(sent: &str, form: bool, now: &str, covers: &str, expected: Shown) {
    let sent = json(sent);
    let sent = Sent { fields: &sent, form };
    let check = Check::of(Some(&image("{}")), sent, &image(now), &reads(covers), false);
    assert_eq!(check.shown, expected, "{}", check.to_json().to_canonical());
}

#[test]
fn what_was_sent_is_there_by_value() {
    use Shown::{Missing, NothingToCompare};
    let check = |sent, now, expected| shown(sent, false, now, "a, b.c, list[].x, tags[], e", expected);
    check(r#"{"a":1.50}"#, r#"{"a":1.5,"z":1}"#, Shown::Shown);
    check(r#"{"a":"1"}"#, r#"{"a":1}"#, Missing);
    check(r#"{"a":true}"#, r#"{"a":"true"}"#, Missing);
    check(r#"{"a":null}"#, r#"{}"#, Shown::Shown);
    check(r#"{"a":null}"#, r#"{"a":0}"#, Missing);
    check(r#"{"a":1}"#, r#"{}"#, Missing);
    check(r#"{"b":{"c":1}}"#, r#"{"b":{"c":1,"d":2}}"#, Shown::Shown);
    check(r#"{"b":{"c":1}}"#, r#"{"b":1}"#, Missing);
    check(r#"{"tags":["x","y"]}"#, r#"{"tags":["x","y"]}"#, Shown::Shown);
    check(r#"{"tags":["x","y"]}"#, r#"{"tags":["y","x"]}"#, Missing);
    check(r#"{"tags":["x"]}"#, r#"{"tags":["x","y"]}"#, Missing);
    check(r#"{"tags":[]}"#, r#"{"tags":["y"]}"#, Missing);
    check(r#"{"tags":[]}"#, r#"{"tags":[]}"#, Shown::Shown);
    check(r#"{"tags":[]}"#, r#"{}"#, Shown::Shown);
    check(r#"{"list":[{"x":1,"y":2}]}"#, r#"{"list":[{"x":1}]}"#, Shown::Shown);
    check(r#"{"list":[{"x":1}]}"#, r#"{"list":[{"x":1},{"x":2}]}"#, Missing);
    check(r#"{"e":{}}"#, r#"{"e":{"f":1}}"#, Shown::Shown);
    check(r#"{"e":{}}"#, r#"{"e":1}"#, Missing);
    // What nobody reads is not missed.
    check(r#"{"a":1,"secret":2}"#, r#"{"a":1}"#, Shown::Shown);
    check(r#"{"secret":2}"#, r#"{"a":1}"#, NothingToCompare);
    check("{}", "{}", NothingToCompare);
}

#[test]
fn a_form_is_compared_by_what_its_texts_stand_for() {
    let check = |sent, now, expected| shown(sent, true, now, "a, m.**", expected);
    check(r#"{"a":"5000"}"#, r#"{"a":5000}"#, Shown::Shown);
    check(r#"{"a":"5000"}"#, r#"{"a":"5000"}"#, Shown::Shown);
    check(r#"{"a":"1.50"}"#, r#"{"a":1.5}"#, Shown::Shown);
    check(r#"{"a":"05"}"#, r#"{"a":5}"#, Shown::Missing);
    check(r#"{"a":"true"}"#, r#"{"a":true}"#, Shown::Shown);
    check(r#"{"a":"1"}"#, r#"{"a":true}"#, Shown::Missing);
    check(r#"{"a":""}"#, r#"{"a":null}"#, Shown::Shown);
    check(r#"{"a":""}"#, "{}", Shown::Shown);
    check(r#"{"a":"null"}"#, r#"{"a":null}"#, Shown::Missing);
    check(r#"{"m":{"k":"v"}}"#, r#"{"m":{"k":"v","l":"w"}}"#, Shown::Shown);
}

#[test]
fn an_object_is_there_or_gone() {
    let fields = json(r#"{"a":1}"#);
    let sent = Sent {
        fields: &fields,
        form: false,
    };
    let check = |before: Option<&Image>, now: &Image, gone| Check::of(before, sent, now, &reads("a"), gone).shown;
    let there = image(r#"{"a":1}"#);
    assert_eq!(check(Some(&there), &GONE, true), Shown::Shown);
    assert_eq!(check(Some(&there), &there, true), Shown::Missing);
    assert_eq!(check(Some(&there), &GONE, false), Shown::Missing);
    assert_eq!(check(None, &GONE, false), Shown::Missing);
    assert_eq!(check(None, &there, false), Shown::Shown);
    // Also where nothing was sent.
    let nothing = json("{}");
    let nothing = Sent {
        fields: &nothing,
        form: false,
    };
    let check = |now: &Image| Check::of(Some(&there), nothing, now, &reads("a"), false).shown;
    assert_eq!((check(&GONE), check(&there)), (Shown::Missing, Shown::NothingToCompare));
    // That what was created is there is what was to be seen, whatever is read of it.
    let created = Check::of(None, sent, &image("{}"), &reads("b"), false);
    assert_eq!(created.shown, Shown::Shown);
    assert!(Check::unreadable("x").shown.is_unverified());
}

#[test]
fn a_difference_is_told_field_by_field() {
    let before = image(r#"{"email":"a@x","name":"Ann","address":{"city":"Paris"}}"#);
    let sent = json(r#"{"email":"b@x","name":"Ann","phone":"1","note":"n"}"#);
    let sent = Sent {
        fields: &sent,
        form: false,
    };
    let all = reads("email, name, address.city, phone");
    let told = |lines: Vec<Difference>| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        told(planned(&before, sent, &all, false)),
        [
            r#"email: "a@x" → "b@x""#,
            r#"name: "Ann" (as it is)"#,
            r#"phone: "1" (new)"#,
            r#"note: "n" (what it is cannot be read)"#,
        ]
    );
    assert_eq!(
        told(planned(&before, sent, &all, true)),
        [
            r#"address.city: "Paris" (removed)"#,
            r#"email: "a@x" (removed)"#,
            r#"name: "Ann" (removed)"#,
        ]
    );
    assert_eq!(planned(&GONE, sent, &all, true), []);
    // After it: also what changed and was not sent.
    let now = image(r#"{"email":"b@x","name":"Bob","phone":"1"}"#);
    let check = Check::of(Some(&before), sent, &now, &all, false);
    assert_eq!(
        check.to_json().to_canonical(),
        concat!(
            r#"{"changes":[{"before":"Paris","field":"address.city","what":"removed"},"#,
            r#"{"after":"b@x","before":"a@x","field":"email","what":"changed"},"#,
            r#"{"after":"Bob","before":"Ann","field":"name","what":"changed"},"#,
            r#"{"after":"1","field":"phone","what":"new"}],"not-read":["note"],"#,
            r#""sent":[{"field":"email","seen":"b@x","sent":"b@x","shown":true},"#,
            r#"{"field":"name","seen":"Bob","sent":"Ann","shown":false},"#,
            r#"{"field":"phone","seen":"1","sent":"1","shown":true}],"shown":"missing"}"#,
        )
    );
}

#[test]
fn of_many_changes_the_rest_is_counted() {
    let many = format!("[{}]", vec!["1"; 1_500].join(","));
    let now = image(&format!(r#"{{"a":{many}}}"#));
    let none = json("{}");
    let sent = Sent {
        fields: &none,
        form: false,
    };
    let kept = Check::of(Some(&image("{}")), sent, &now, &reads("**"), false).to_json();
    assert_eq!(kept.get("changes").unwrap().as_array().unwrap().len(), 1_000);
    assert_eq!(kept.get("more-changes").unwrap().as_u64(), Some(500));
}

/// An object, whatever is in it.
fn any_object() -> impl Strategy<Value = Json> {
    any_json().prop_map(|value| match value {
        Json::Object(_) => value,
        other => crate::json::Object::from([("a", other)]).into(),
    })
}

proptest! {
    /// Whatever is sent, an object that is just that shows it, and one that lacks it does not.
    #[test]
    fn what_is_there_is_shown_and_what_is_not_is_missing(sent in any_object(), other in any_object()) {
        let all = reads("**");
        let of = |now: &Json| {
            let sent = Sent { fields: &sent, form: false };
            let now = Image { object: Some(now.clone()), etag: None };
            Check::of(Some(&GONE), sent, &now, &all, false)
        };
        prop_assert!(matches!(of(&sent).shown, Shown::Shown | Shown::NothingToCompare));
        let check = of(&other);
        let differs = check.sent_but_not_seen();
        prop_assert_eq!(check.shown == Shown::Missing, differs > 0);
        if other != sent && check.shown == Shown::Shown {
            // What was shown all the same: the object has more than was sent, or what was sent as nothing.
            for line in planned(&Image { object: Some(other.clone()), etag: None }, Sent { fields: &sent, form: false }, &all, false) {
                prop_assert_eq!(line.word, Word::Same);
            }
        }
    }

    /// Images read back as they were kept.
    #[test]
    fn images_are_kept(object in proptest::option::of(any_object()), tag in proptest::option::of("\"[a-z]{0,8}\"")) {
        let image = Image { object, etag: tag };
        prop_assert_eq!(Image::from_json(&image.to_json()), Some(image));
    }

    /// What nobody may read is in no difference of what was before.
    #[test]
    fn no_difference_tells_what_is_not_read(before in any_object(), after in any_object()) {
        let some = reads("a, b.c");
        let project = |object: &Json| Image { object: Some(some.project(object.clone())), etag: None };
        let none = json("{}");
        let sent = Sent { fields: &none, form: false };
        let check = Check::of(Some(&project(&before)), sent, &project(&after), &some, false);
        for field in check.changed_fields() {
            prop_assert!(["a", "b", "b.c"].contains(&field), "{}", field);
        }
    }
}
