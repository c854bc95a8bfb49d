use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Json, JsonError> {
    Json::parse(text, Limits::default())
}

/// `text` parses, and its canonical text is `canonical`.
#[track_caller]
fn check(text: &str, canonical: &str) {
    assert_eq!(parse(text).map(|value| value.to_canonical()), Ok(canonical.to_owned()));
    assert_eq!(parse(canonical), parse(text));
}

#[track_caller]
fn refused(text: &str, fault: Fault) {
    assert_eq!(parse(text).map_err(|error| error.fault), Err(fault), "{text}");
}

#[test]
fn canonical_text() {
    check(" [ ] ", "[]");
    check("\t{\n}\r", "{}");
    check(
        r#"{"b":[1,{"z":null,"y":false}],"a":true,"":"x"}"#,
        r#"{"":"x","a":true,"b":[1,{"y":false,"z":null}]}"#,
    );
    check(r#""\u00e9\/\ud83d\ude00\u0000\n\"\\""#, "\"é/😀\\u0000\\n\\\"\\\\\"");
    // By bytes of UTF-8, where UTF-16 order would put the second first.
    check(r#"{"😀":1,"\uff5e":2}"#, r#"{"～":2,"😀":1}"#);
}

#[test]
fn exact_decimals() {
    for (text, canonical) in [
        ("0", "0"),
        ("-0", "0"),
        ("-0.000e7", "0"),
        ("5000.0", "5000"),
        ("5e3", "5000"),
        ("1.50E+1", "15"),
        ("12345678901234567890123.4500", "12345678901234567890123.45"),
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", "9223372036854775808"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("0.1", "0.1"),
        ("-1.25e-3", "-0.00125"),
        ("0.00012e4", "1.2"),
        ("0.00012e2", "0.012"),
        ("10.01e1", "100.1"),
        ("100e-2", "1"),
    ] {
        check(text, canonical);
    }
    for text in ["1e9999999999", "1e400", "1e-401", "1e2147483647", "1e-2147483648"] {
        refused(text, Fault::Number);
    }
    refused(&"9".repeat(401), Fault::Number);
    check(&"9".repeat(400), &"9".repeat(400));
    check("1e399", &format!("1{}", "0".repeat(399)));
    for text in [
        "01", "1.", ".5", "+1", "1e", "1e+", "--1", "0x1", "1.e1", "-", "Infinity", "NaN", "1_0",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn numbers_are_what_they_say() {
    let number = |text: &str| parse(text).unwrap();
    assert_eq!(
        (number("5e3").as_i64(), number("5e3").as_u64()),
        (Some(5000), Some(5000))
    );
    assert_eq!(number("18446744073709551615").as_u64(), Some(u64::MAX));
    assert_eq!(number("18446744073709551615").as_i64(), None);
    assert_eq!(number("18446744073709551616").as_u64(), None);
    assert_eq!(number("-1").as_u64(), None);
    assert_eq!(number("1.5").as_i64(), None);
    assert_eq!(Json::from(u64::MAX), number("18446744073709551615"));
    assert!(!number("1.5").as_number().unwrap().is_integer());
    assert!(number("1e30").as_number().unwrap().is_integer());
    assert_eq!(Number::try_from(f64::MAX).unwrap().to_f64(), f64::MAX);
    assert_eq!(Number::try_from(5e-324).unwrap().to_f64(), 5e-324);
    assert!(Number::try_from(f64::INFINITY).is_err());
}

#[test]
fn duplicates_are_refused() {
    refused(r#"{"amount":1,"amount":2}"#, Fault::Duplicate("amount".into()));
    refused(r#"{"amount":1,"\u0061mount":1}"#, Fault::Duplicate("amount".into()));
    refused(r#"[{"x":{"a":1,"b":2,"a":3}}]"#, Fault::Duplicate("a".into()));
}

#[test]
fn what_is_no_text_is_refused() {
    for text in [
        r#""\ud83d""#,
        r#""\ude00""#,
        r#""\ud83dx""#,
        r#""\ud83d\n""#,
        r#""\ud83d\u0041""#,
    ] {
        refused(text, Fault::Surrogate);
    }
    refused("\"a\nb\"", Fault::Control);
    refused("\"\u{0}\"", Fault::Control);
    for text in [
        "",
        " ",
        "[1,]",
        "[,1]",
        "{,}",
        "{\"a\":1,}",
        "{\"a\"}",
        "{a:1}",
        "[1 2]",
        "1 1",
        "tru",
        "\"",
        "\"\\",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u+123\"",
        "\u{feff}1",
        "[1",
        "{\"a\":1",
        "\u{a0}1",
        "'a'",
        "// x\n1",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn limits() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(parse(&deep(64)).is_ok());
    refused(&deep(65), Fault::Depth(64));
    let far = Limits {
        depth: 100_000,
        bytes: 1 << 20,
    };
    assert_eq!(
        Json::parse(&deep(100_000), far).map_err(|error| error.fault),
        Err(Fault::Depth(256))
    );

    let small = Limits { depth: 64, bytes: 10 };
    assert!(Json::parse("[1,2,3,45]", small).is_ok());
    assert!(Json::parse("[1,2,3,456]", small).is_err());
    // Few bytes that stand for many.
    assert_eq!(
        Json::parse("[1e300]", small).map_err(|error| error.fault),
        Err(Fault::WrittenOut(10))
    );
}

#[test]
fn errors_say_where() {
    assert_eq!(parse("[1, x]").unwrap_err().to_string(), "expected a value at byte 4");
    assert_eq!(
        parse("{\"a\u{1b}\":1}").unwrap_err().to_string(),
        "control characters in strings must be escaped at byte 3"
    );
}

#[test]
fn serde_keeps_every_digit() {
    let text = r#"{"a":[1,18446744073709551615,0.1000000000000000000001,null,"x"]}"#;
    let value = parse(text).unwrap();
    assert_eq!(serde_json::to_string(&value).unwrap(), text);
    assert_eq!(
        Json::from(serde_json::json!({"a": [1, -2, 1.5, true, null], "b": "x"})).to_string(),
        r#"{"a":[1,-2,1.5,true,null],"b":"x"}"#
    );
    assert_eq!(Json::from_serialize(&value), Ok(value));
}

#[test]
fn objects() {
    let mut object = Object::from([("b", Json::from(1)), ("a", Json::from("x"))]);
    assert_eq!(object.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(object.insert("b", 2), Some(Json::from(1)));
    assert_eq!(object.remove("a"), Some(Json::from("x")));
    assert_eq!(
        (object.len(), object.contains("a"), object.get("b")),
        (1, false, Some(&Json::from(2)))
    );
}

pub(crate) fn any_json() -> impl Strategy<Value = Json> {
    let scalar = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_filter_map("finite", |value| Number::try_from(value).ok().map(Json::from)),
        any::<String>().prop_map(Json::from),
    ];
    scalar.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Json::Array),
            proptest::collection::vec(("[a-c]{0,2}", inner), 0..6)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn reads_back_as_itself(value in any_json()) {
        let text = value.to_canonical();
        prop_assert_eq!(Json::parse(&text, Limits { bytes: text.len(), depth: 64 }), Ok(value));
    }

    #[test]
    fn agrees_with_serde_json(value in any_json()) {
        let text = value.to_canonical();
        let theirs: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(theirs, value.to_serde());
    }

    #[test]
    fn accepts_no_more_than_serde_json(text in r#"[\[\]{}:,"\\a1e.+ -]{0,12}"#) {
        if parse(&text).is_ok() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        }
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = fuzz::json(&bytes);
    }

    #[test]
    fn any_tokens(text in r#"([\[\]{}:,]|"a"|"\\u[d9][8c]00"|1e[0-9]{1,3}|-?[0-9]{1,3}|true|null| ){0,20}"#) {
        let _ = fuzz::json(text.as_bytes());
    }
}
