use proptest::prelude::*;

use super::*;
use crate::json::{Json, Limits};

fn set(text: &str) -> FieldSet {
    text.parse().unwrap()
}

fn json(text: &str) -> Json {
    Json::parse(text, Limits::default()).unwrap()
}

/// The first place in `value` that `fields` does not cover, or nothing.
#[track_caller]
fn check(fields: &str, value: &str, uncovered: Option<&str>) {
    let value = json(value);
    assert_eq!(
        set(fields).uncovered(&value).map(|path| path.to_string()).as_deref(),
        uncovered
    );
}

#[test]
fn canonical_text() {
    for (text, canonical) in [
        ("b, a", "a, b"),
        ("a,a", "a"),
        ("a.b, a.**, a.c[].d", "a.**"),
        ("**, a", "**"),
        ("a, a.b, a[]", "a, a[], a.b"),
        ("[].a, []", "[], [].a"),
        (r#""a", "a b"."c.d"[], """#, r#""", a, "a b"."c.d"[]"#),
        ("[].**", "[].**"),
        ("a[][].b", "a[][].b"),
        (" \n", ""),
        (r#""\u00e9""#, r#""é""#),
    ] {
        assert_eq!(set(text).to_string(), canonical);
        assert_eq!(set(canonical), set(text));
    }
}

#[test]
fn refused_texts() {
    for (text, offset) in [
        ("a,", 2),
        (",a", 0),
        ("a b", 2),
        ("a.", 2),
        (".a", 0),
        ("a..b", 2),
        ("a[0]", 1),
        ("a[b]", 1),
        ("a[", 1),
        ("*", 0),
        ("a.*", 2),
        ("a**", 1),
        ("**.a", 2),
        ("a.**.b", 4),
        ("a[]b", 3),
        ("é", 0),
        ("\"a", 0),
        ("\"\\x\"", 0),
        ("a(b", 1),
    ] {
        assert_eq!(
            text.parse::<FieldSet>().map_err(|error| error.offset),
            Err(offset),
            "{text}"
        );
    }
    assert!(vec!["a"; 64].join(".").parse::<FieldPath>().is_ok());
    assert!(vec!["a"; 65].join(".").parse::<FieldPath>().is_err());
}

#[test]
fn covers() {
    check("a", r#"{"a": 1}"#, None);
    check("a", r#"{"a": 1, "b": 2}"#, Some("b"));
    check("", r#"{"a": null}"#, Some("a"));
    check("a", r#"{"a": {"b": 1}}"#, Some("a.b"));
    check("a", r#"{"a": [1]}"#, Some("a[0]"));
    check("a.b", r#"{"a": 1}"#, Some("a"));
    check("a.b", r#"{"a": [{"b": 1}]}"#, Some("a[0].b"));
    check("a[].b", r#"{"a": [{"b": 1}, {"b": 2}]}"#, None);
    check("a[].b", r#"{"a": [{"b": 1}, {"c": 2}]}"#, Some("a[1].c"));
    check("a[].b", r#"{"a": {"b": 1}}"#, Some("a.b"));
    check("a.**", r#"{"a": {"b": [1, {"c": 2}]}}"#, None);
    check("a.**", r#"{"a": 1}"#, None);
    check("a.**", r#"{"ab": 1}"#, Some("ab"));
    check("**", "[1, {}]", None);
    check("a", "1", Some("(the whole value)"));
    check("A", r#"{"a": 1}"#, Some("a"));
    check("a", r#"{"a ": 1}"#, Some(r#""a ""#));
    check("[].a", r#"[{"a": 1}]"#, None);
}

#[test]
fn what_is_empty_counts() {
    check("", "{}", None);
    check("", "[]", Some("[]"));
    check("a", r#"{"a": {}}"#, None);
    check("a.b", r#"{"a": {}}"#, Some("a"));
    check("a", r#"{"a": []}"#, Some("a[]"));
    check("a[]", r#"{"a": []}"#, None);
    check("a[].b", r#"{"a": []}"#, Some("a[]"));
    check("a.**", r#"{"a": []}"#, None);
}

#[test]
fn projects() {
    let answer =
        r#"{"id":"re_1","card":{"last4":"42","name":"N"},"data":[{"id":1,"x":2},{"x":3}],"tags":["a"],"e":[]}"#;
    for (fields, kept) in [
        ("", "{}"),
        ("id", r#"{"id":"re_1"}"#),
        ("card", "{}"),
        ("card.last4", r#"{"card":{"last4":"42"}}"#),
        ("card.none", r#"{"card":{}}"#),
        ("card.**", r#"{"card":{"last4":"42","name":"N"}}"#),
        ("data[].id", r#"{"data":[{"id":1},{}]}"#),
        ("tags", "{}"),
        ("tags[]", r#"{"tags":["a"]}"#),
        ("tags[].x", r#"{"tags":[]}"#),
        ("e[].x", r#"{"e":[]}"#),
        ("id.x", "{}"),
    ] {
        assert_eq!(set(fields).project(json(answer)).to_canonical(), kept, "{fields}");
    }
    assert_eq!(set("**").project(json(answer)), json(answer));
    assert_eq!(set("a").project(json("7")), Json::Null);
    assert_eq!(set("a").project(json("[7]")), json("[]"));
}

#[test]
fn selects() {
    let value = json(r#"{"a":[{"b":1},{"c":2},{"b":{"d":3}}]}"#);
    let found = |text: &str| text.parse::<FieldPath>().unwrap().select(&value).len();
    assert_eq!(
        (found("a[].b"), found("a"), found("a.b"), found("x"), found("a[].b.d")),
        (2, 1, 0, 0, 1)
    );
}

pub(crate) fn any_set() -> impl Strategy<Value = FieldSet> {
    proptest::collection::vec(any_path(), 0..5).prop_map(|paths| paths.iter().collect())
}

pub(crate) fn any_path() -> impl Strategy<Value = FieldPath> {
    let name = prop_oneof![8 => "[ab]", 1 => r#"[a". é\\]{0,3}"#];
    let step = prop_oneof![3 => name.prop_map(Step::Name), 1 => Just(Step::Each)];
    let steps = prop_oneof![1 => Just(Vec::new()), 7 => proptest::collection::vec(step, 1..4)];
    (steps, any::<bool>()).prop_map(|(steps, subtree)| FieldPath {
        subtree: subtree || steps.is_empty(),
        steps,
    })
}

/// Values over the names of [`any_path`], so that coverage is often met and often just missed.
pub(crate) fn any_value() -> impl Strategy<Value = Json> {
    let scalar = prop_oneof![Just(Json::from(1)), Just(Json::from("x")), Just(Json::Null)];
    scalar.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Json::Array),
            proptest::collection::vec(("[ab]", inner), 0..3)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn reads_back_as_itself(fields in any_set()) {
        prop_assert_eq!(fields.to_string().parse(), Ok(fields));
    }

    #[test]
    fn any_text(text in r#"[ab.\[\]*", \\é]{0,12}"#) {
        if let Ok(fields) = text.parse::<FieldSet>() {
            prop_assert_eq!(fields.to_string().parse(), Ok(fields));
        }
    }

    #[test]
    fn trap_17_the_intersection_of_fields_is_exact(a in any_set(), b in any_set(), value in any_value()) {
        let both = a.intersect(&b);
        for (path, _) in leaves(&value) {
            prop_assert_eq!(both.covers_path(&path), a.covers_path(&path) && b.covers_path(&path));
            let whole = path.0.is_empty();
            prop_assert_eq!(a.covers(&path.to_field()), if whole { a.is_everything() } else { a.covers_path(&path) });
        }
        prop_assert_eq!(both.uncovered(&value).is_none(), a.uncovered(&value).is_none() && b.uncovered(&value).is_none());
        prop_assert!(both.is_subset(&a) && both.is_subset(&b));
        prop_assert_eq!(&both, &b.intersect(&a));
        prop_assert_eq!(a.is_subset(&b), both == a);
    }

    #[test]
    fn uncovered_is_the_first_uncovered_leaf(fields in any_set(), value in any_value()) {
        let first = leaves(&value).into_iter().map(|(path, _)| path).find(|path| !fields.covers_path(path));
        prop_assert_eq!(fields.uncovered(&value), first);
    }

    #[test]
    fn a_projection_has_only_covered_scalars(fields in any_set(), value in any_value()) {
        let kept = fields.project(value.clone());
        for (path, leaf) in leaves(&kept) {
            let scalar = !matches!(leaf, Json::Array(_) | Json::Object(_)) && !path.0.is_empty();
            prop_assert!(!scalar || fields.covers_path(&path), "{}", path);
        }
        prop_assert_eq!(fields.project(kept.clone()), kept);
        if fields.uncovered(&value).is_none() {
            prop_assert_eq!(fields.project(value.clone()), value);
        }
    }
}
