//! Values through a real component that returns what it is given.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

use std::fmt::Write as _;
use std::sync::Arc;

use ambit_core::json::{Number, Object};
use data_encoding::BASE64;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::sandbox::tests::{ALLOCATOR, SANDBOX, call, component, json};
use crate::sandbox::{LoadedTool, Outcome};

/// A function `echo` from `value` to a tuple that begins with it.
///
/// Parameters beyond sixteen flat ones travel in memory, laid out like a tuple, and so does a tuple as result: with the
/// padding, returning the address of the parameters returns their values, for any type.
fn echo(declarations: &str, ty: &str) -> LoadedTool {
    let pad = (0..17).fold(String::new(), |mut pad, i| {
        write!(pad, ", p{i}: u64").unwrap();
        pad
    });
    let world = format!(
        "world tool {{ {declarations} export echo: func(value: {ty}{pad}) -> tuple<{ty}{}>; }}",
        ", u64".repeat(17)
    );
    let module = format!(r#"(module {ALLOCATOR} (func (export "echo") (param i32) (result i32) (local.get 0)))"#);
    SANDBOX.load(&component(&world, &module)).unwrap()
}

fn run(tool: &LoadedTool, value: Option<Json>) -> Outcome {
    let pad = (0..17).map(|i| (format!("p{i}"), Json::from(0u64)));
    let args: Object = value
        .map(|value| ("value".to_owned(), value))
        .into_iter()
        .chain(pad)
        .collect();
    let limits = Limits {
        args_bytes: 64 << 20,
        result_bytes: 64 << 20,
        fuel: u64::MAX,
        ..Limits::default()
    };
    match call(tool, "echo", &args.into(), &limits, &Arc::default()).outcome {
        Outcome::Ok(tuple) => Outcome::Ok(tuple.as_array().unwrap()[0].clone()),
        other => other,
    }
}

const DECLARATIONS: &str = "
    record point { x: s32, y: s32, label: option<string> }
    record item { amount: u16, note: option<string> }
    record order { items: list<item> }
    variant shape { nothing, dot(point), tagged(tuple<string, u8>) }
    enum colour { red, dark-green }
    flags access { read, write, run-it }
";

#[track_caller]
fn check(ty: &str, value: &str, expected: &str) {
    let outcome = run(&echo(DECLARATIONS, ty), Some(json(value)));
    assert_eq!(outcome, Outcome::Ok(json(expected)), "{ty} {value}");
}

#[track_caller]
fn check_refused(ty: &str, value: &str, expected: &str) {
    let outcome = run(&echo(DECLARATIONS, ty), Some(json(value)));
    let Outcome::Stopped(refusal) = outcome else {
        panic!("{ty} {value}: {outcome:?}")
    };
    assert_eq!(refusal.code, Code::Arguments);
    assert_eq!(refusal.message, expected, "{ty} {value}");
}

#[test]
fn each_type_has_its_form() {
    check("s64", "-9007199254740991", "-9007199254740991");
    check("s64", "-9007199254740992", "\"-9007199254740992\"");
    check("u64", "\"18446744073709551615\"", "\"18446744073709551615\"");
    check("u64", "18446744073709551615", "\"18446744073709551615\"");
    check("u8", "1.0", "1");
    check("f32", "0.1", "0.1");
    check("f64", "\"-Infinity\"", "\"-Infinity\"");
    check("f64", "\"-0\"", "\"-0\"");
    check("f32", "\"-0\"", "\"-0\"");
    check("f64", "-0.0", "0");
    check("f64", "1e300", &format!("1{}", "0".repeat(300)));
    check("char", "\"ß\"", "\"ß\"");
    check("list<u8>", "\"AAH/\"", "\"AAH/\"");
    check("list<s8>", "[1,-1]", "[1,-1]");
    check("tuple<string, bool>", "[\"a\",true]", "[\"a\",true]");
    check("point", "{\"x\":1,\"y\":-2}", "{\"x\":1,\"y\":-2,\"label\":null}");
    check("shape", "\"nothing\"", "\"nothing\"");
    check("shape", "{\"tagged\":[\"a\",1]}", "{\"tagged\":[\"a\",1]}");
    check("colour", "\"dark-green\"", "\"dark-green\"");
    check("access", "[\"run-it\",\"read\"]", "[\"read\",\"run-it\"]");
    check("option<option<u32>>", "null", "null");
    check("option<option<u32>>", "{\"some\":null}", "{\"some\":null}");
    check("option<option<u32>>", "{\"some\":5}", "{\"some\":5}");
    check("result<u8, string>", "{\"ok\":1}", "{\"ok\":1}");
    check("result<_, string>", "{\"ok\":null}", "{\"ok\":null}");
    check("result", "{\"err\":null}", "{\"err\":null}");
}

#[test]
fn what_does_not_fit_is_refused_where_it_is() {
    check_refused(
        "order",
        r#"{"items":[{"amount":1},{"amount":1},{"amount":2},{"amount":70000}]}"#,
        "args.value.items[3].amount: expected integer 0 to 65535, got 70000",
    );
    check_refused("u8", "256", "args.value: expected integer 0 to 255, got 256");
    check_refused("s8", "-129", "args.value: expected integer -128 to 127, got -129");
    check_refused("u8", "\"1\"", "args.value: expected integer 0 to 255, got \"1\"");
    check_refused("u8", "1.5", "args.value: expected integer 0 to 255, got 1.5");
    check_refused(
        "u64",
        "\"01\"",
        "args.value: expected integer 0 to 18446744073709551615, got \"01\"",
    );
    check_refused(
        "u64",
        "18446744073709551616",
        "args.value: expected integer 0 to 18446744073709551615, got 18446744073709551616",
    );
    check_refused(
        "char",
        "\"ab\"",
        "args.value: expected a string of one character, got \"ab\"",
    );
    check_refused(
        "list<u8>",
        "\"AAH\"",
        "args.value: expected a string of base64 with padding, got \"AAH\"",
    );
    check_refused(
        "list<u8>",
        "\"AAF=\"",
        "args.value: expected a string of base64 with padding, got \"AAF=\"",
    );
    check_refused(
        "tuple<u8, u8>",
        "[1]",
        "args.value: expected an array of 2, got an array of 1",
    );
    check_refused("point", "{\"x\":1}", "args.value: `y` is missing");
    check_refused("point", "{\"x\":1,\"Y\":2}", "args.value: there is no `Y`");
    check_refused(
        "point",
        "{\"x\":1,\"y\":2,\"lable\":\"a\"}",
        "args.value: there is no `lable`",
    );
    check_refused(
        "colour",
        "\"blue\"",
        "args.value: expected one of \"red\", \"dark-green\", got \"blue\"",
    );
    check_refused(
        "shape",
        "\"dot\"",
        "args.value: expected one of \"nothing\", {\"dot\": …}, {\"tagged\": …}, got \"dot\"",
    );
    check_refused(
        "shape",
        "{\"nothing\":1}",
        "args.value: expected one of \"nothing\", {\"dot\": …}, {\"tagged\": …}, got an object",
    );
    check_refused(
        "access",
        "[\"read\",\"read\"]",
        "args.value[1]: \"read\" is there twice",
    );
    check_refused(
        "access",
        "[\"exec\"]",
        "args.value[0]: expected one of \"read\", \"write\", \"run-it\", got \"exec\"",
    );
    check_refused(
        "option<option<u32>>",
        "5",
        "args.value: expected null or {\"some\": …}, got 5",
    );
    check_refused("result", "{\"ok\":1}", "args.value.ok: expected null, got 1");
    check_refused(
        "f32",
        "1e39",
        &format!(
            "args.value: expected a number, \"NaN\", \"Infinity\", \"-Infinity\" or \"-0\" within the range of f32, got 1{}",
            "0".repeat(39)
        ),
    );
}

#[test]
fn trap_18_parameters_are_members_of_the_arguments() {
    let tool = echo(DECLARATIONS, "option<u8>");
    assert_eq!(
        run(&tool, None),
        Outcome::Ok(Json::Null),
        "an optional parameter may be absent"
    );
    let refusal = |args: &str| match call(&tool, "echo", &json(args), &Limits::default(), &Arc::default()).outcome {
        Outcome::Stopped(refusal) => (refusal.message, refusal.advice.unwrap_or_default()),
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal("[]").0, "args: expected an object, got an array of 0");
    assert_eq!(refusal("{}").0, "args: `p0` is missing");
    let pad = (0..17).map(|i| format!("\"p{i}\":0")).collect::<Vec<_>>().join(",");
    let (message, advice) = refusal(&format!("{{\"vaule\":1,{pad}}}"));
    assert_eq!(
        (message.as_str(), advice.as_str()),
        ("args: there is no `vaule`", "Did you mean `value`?")
    );
}

/// Bytes and text in every typed signature: `module` says what the function does.
fn typed(signature: &str, module: &str) -> LoadedTool {
    let world = format!("interface api {{ go: func{signature}; }} world tool {{ export api; }}");
    let module = format!(r#"(module {ALLOCATOR} (func (export "test:guest/api@1.0.0#go") {module}))"#);
    SANDBOX.load(&component(&world, &module)).unwrap()
}

/// Stores an address and a length, and returns where.
const PAIR: &str = "(i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1)) (i32.const 16)";
/// The same as the `ok` or `err` of a result.
fn side(err: bool) -> String {
    format!(
        "(i32.store (i32.const 16) (i32.const {})) (i32.store (i32.const 20) (local.get 0))
         (i32.store (i32.const 24) (local.get 1)) (i32.const 16)",
        u8::from(err)
    )
}

#[test]
fn bytes_and_text_take_the_typed_way() {
    let two = "(param i32 i32) (result i32)";
    let four = "(param i32 i32 i32 i32) (result i32)";
    let cases = [
        (
            "(a: list<u8>) -> list<u8>",
            format!("{two} {PAIR}"),
            r#"{"a":"aGk="}"#,
            Outcome::Ok(json("\"aGk=\"")),
        ),
        (
            "(a: list<u8>) -> string",
            format!("{two} {PAIR}"),
            r#"{"a":"aGk="}"#,
            Outcome::Ok(json("\"hi\"")),
        ),
        (
            "(a: string) -> list<u8>",
            format!("{two} {PAIR}"),
            r#"{"a":"hi"}"#,
            Outcome::Ok(json("\"aGk=\"")),
        ),
        (
            "() -> list<u8>",
            "(result i32) (i32.const 16)".to_owned(),
            "{}",
            Outcome::Ok(json("\"\"")),
        ),
        (
            "(a: string, b: list<u8>) -> string",
            format!("{four} {PAIR}"),
            r#"{"a":"hi","b":""}"#,
            Outcome::Ok(json("\"hi\"")),
        ),
        (
            "(a: list<u8>, b: string) -> string",
            format!("{four} {PAIR}"),
            r#"{"a":"aGk=","b":""}"#,
            Outcome::Ok(json("\"hi\"")),
        ),
        (
            "(a: list<u8>, b: list<u8>) -> string",
            format!("{four} {PAIR}"),
            r#"{"a":"aGk=","b":""}"#,
            Outcome::Ok(json("\"hi\"")),
        ),
        (
            "(a: list<u8>)",
            "(param i32 i32)".to_owned(),
            r#"{"a":""}"#,
            Outcome::Ok(Json::Null),
        ),
        (
            "(a: list<u8>) -> result<list<u8>, string>",
            format!("{two} {}", side(false)),
            r#"{"a":"aGk="}"#,
            Outcome::Ok(json("\"aGk=\"")),
        ),
        (
            "(a: list<u8>) -> result<list<u8>, string>",
            format!("{two} {}", side(true)),
            r#"{"a":"aGk="}"#,
            Outcome::ToolError(json("\"hi\"")),
        ),
        (
            "(a: list<u8>) -> result<string, string>",
            format!("{two} {}", side(false)),
            r#"{"a":"aGk="}"#,
            Outcome::Ok(json("\"hi\"")),
        ),
        (
            "(a: list<u8>) -> result<_, string>",
            format!("{two} {}", side(true)),
            r#"{"a":"aGk="}"#,
            Outcome::ToolError(json("\"hi\"")),
        ),
        (
            "(a: list<u8>) -> result<_, string>",
            format!("{two} {}", side(false)),
            r#"{"a":"aGk="}"#,
            Outcome::Ok(Json::Null),
        ),
        // The same kinds of result the dynamic way.
        (
            "(a: string) -> result<string, string>",
            format!("{two} {}", side(true)),
            r#"{"a":"hi"}"#,
            Outcome::ToolError(json("\"hi\"")),
        ),
        (
            "(a: string) -> result<string>",
            format!("{two} {}", side(false)),
            r#"{"a":"hi"}"#,
            Outcome::Ok(json("\"hi\"")),
        ),
        (
            "(a: string) -> result",
            format!("{two} (i32.const 1)"),
            r#"{"a":"hi"}"#,
            Outcome::ToolError(Json::Null),
        ),
        (
            "(a: string)",
            "(param i32 i32)".to_owned(),
            r#"{"a":""}"#,
            Outcome::Ok(Json::Null),
        ),
    ];
    for (signature, module, args, expected) in cases {
        let outcome = call(
            &typed(signature, &module),
            "api.go",
            &json(args),
            &Limits::default(),
            &Arc::default(),
        )
        .outcome;
        assert_eq!(outcome, expected, "{signature}");
    }
}

#[test]
fn a_megabyte_is_copied_and_not_taken_apart() {
    let two = "(param i32 i32) (result i32)";
    let tool = typed("(a: list<u8>) -> list<u8>", &format!("{two} {PAIR}"));
    let encoded = Json::from(BASE64.encode(&vec![0xa5; 1 << 20]));
    let args = Json::Object(Object::from([("a", encoded.clone())]));
    let limits = Limits {
        args_bytes: 2 << 20,
        result_bytes: 2 << 20,
        ..Limits::default()
    };
    let outcome = call(&tool, "api.go", &args, &limits, &Arc::default()).outcome;
    assert_eq!(outcome, Outcome::Ok(encoded));
}

/// A type with its declarations, and a value in the form that comes back.
#[derive(Debug, Clone)]
struct Sample {
    declarations: String,
    ty: String,
    value: Json,
}

#[derive(Debug, Clone)]
enum Type {
    Simple(&'static str),
    List(Box<Type>),
    Option(Box<Type>),
    Tuple(Vec<Type>),
    Record(Vec<Type>),
    Variant(Vec<Option<Type>>),
    Result(Option<Box<Type>>, Option<Box<Type>>),
    Enum(usize),
    Flags(usize),
}

const SIMPLE: [&str; 14] = [
    "bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string", "list<u8>",
];

fn types() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![
        8 => proptest::sample::select(&SIMPLE[..]).prop_map(Type::Simple),
        1 => (1usize..5).prop_map(Type::Enum),
        1 => (1usize..33).prop_map(Type::Flags),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        let maybe = proptest::option::of(boxed.clone());
        prop_oneof![
            boxed.clone().prop_map(Type::List),
            boxed.prop_map(Type::Option),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Type::Tuple),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Type::Record),
            prop::collection::vec(proptest::option::of(inner), 1..4).prop_map(Type::Variant),
            (maybe.clone(), maybe).prop_map(|(ok, err)| Type::Result(ok, err)),
        ]
    })
}

impl Type {
    /// The type's name in WIT, declaring what needs a declaration.
    fn wit(&self, declarations: &mut String) -> String {
        match self {
            // A list of bytes has a form of its own: `list<u8>` is one of the simple types.
            Type::List(element) if matches!(**element, Type::Simple("u8")) => "list<u16>".to_owned(),
            Type::Simple(name) => (*name).to_owned(),
            Type::List(element) => format!("list<{}>", element.wit(declarations)),
            Type::Option(inner) => format!("option<{}>", inner.wit(declarations)),
            Type::Tuple(types) => {
                let types: Vec<_> = types.iter().map(|ty| ty.wit(declarations)).collect();
                format!("tuple<{}>", types.join(", "))
            }
            Type::Result(ok, err) => {
                let mut side = |ty: &Option<Box<Type>>| ty.as_ref().map_or("_".to_owned(), |ty| ty.wit(declarations));
                match (side(ok), side(err)) {
                    (ok, err) if ok == "_" && err == "_" => "result".to_owned(),
                    (ok, err) if err == "_" => format!("result<{ok}>"),
                    (ok, err) => format!("result<{ok}, {err}>"),
                }
            }
            Type::Record(types) => {
                let members = types
                    .iter()
                    .enumerate()
                    .map(|(i, ty)| format!("m{i}: {}", ty.wit(declarations)));
                let members = members.collect::<Vec<_>>().join(", ");
                declare(declarations, "record", &members)
            }
            Type::Variant(cases) => {
                let cases = cases.iter().enumerate().map(|(i, ty)| match ty {
                    Some(ty) => format!("c{i}({})", ty.wit(declarations)),
                    None => format!("c{i}"),
                });
                let cases = cases.collect::<Vec<_>>().join(", ");
                declare(declarations, "variant", &cases)
            }
            Type::Enum(count) => declare(declarations, "enum", &names(*count).join(", ")),
            Type::Flags(count) => declare(declarations, "flags", &names(*count).join(", ")),
        }
    }

    /// Values in the form that comes back.
    fn values(&self) -> BoxedStrategy<Json> {
        fn integers<T: Arbitrary + Into<Json> + 'static>() -> BoxedStrategy<Json> {
            any::<T>().prop_map(Into::into).boxed()
        }
        fn wide(value: i128) -> Json {
            match i64::try_from(value) {
                Ok(value) if value.unsigned_abs() < 1 << 53 => value.into(),
                _ => value.to_string().into(),
            }
        }
        fn float(finite: Option<Number>, value: f64) -> Json {
            match finite {
                Some(_) if value == 0.0 && value.is_sign_negative() => "-0".into(),
                Some(number) => number.into(),
                None if value.is_nan() => "NaN".into(),
                None => if value > 0.0 { "Infinity" } else { "-Infinity" }.into(),
            }
        }
        fn member(name: String, value: BoxedStrategy<Json>) -> BoxedStrategy<Json> {
            value
                .prop_map(move |value| Object::from([(name.as_str(), value)]).into())
                .boxed()
        }
        let payload = |name: &str, ty: &Option<Box<Type>>| {
            member(
                name.to_owned(),
                ty.as_ref().map_or(Just(Json::Null).boxed(), |ty| ty.values()),
            )
        };
        match self {
            Type::List(element) if matches!(**element, Type::Simple("u8")) => {
                prop::collection::vec(any::<u16>(), 0..5).prop_map(Into::into).boxed()
            }
            Type::Simple("bool") => any::<bool>().prop_map(Into::into).boxed(),
            Type::Simple("s8") => integers::<i8>(),
            Type::Simple("u8") => integers::<u8>(),
            Type::Simple("s16") => integers::<i16>(),
            Type::Simple("u16") => integers::<u16>(),
            Type::Simple("s32") => integers::<i32>(),
            Type::Simple("u32") => integers::<u32>(),
            Type::Simple("s64") => prop_oneof![any::<i64>(), -(1i64 << 54)..1 << 54]
                .prop_map(|value| wide(value.into()))
                .boxed(),
            Type::Simple("u64") => prop_oneof![any::<u64>(), 0u64..1 << 54]
                .prop_map(|value| wide(value.into()))
                .boxed(),
            Type::Simple("f32") => prop::num::f32::ANY
                .prop_map(|value| {
                    float(
                        value.is_finite().then(|| value.to_string().parse().unwrap()),
                        value.into(),
                    )
                })
                .boxed(),
            Type::Simple("f64") => prop::num::f64::ANY
                .prop_map(|value| float(value.try_into().ok(), value))
                .boxed(),
            Type::Simple("char") => any::<char>().prop_map(|value| value.to_string().into()).boxed(),
            Type::Simple("string") => any::<String>().prop_map(Into::into).boxed(),
            Type::Simple(_) => any::<Vec<u8>>().prop_map(|bytes| BASE64.encode(&bytes).into()).boxed(),
            Type::List(element) => prop::collection::vec(element.values(), 0..4)
                .prop_map(Into::into)
                .boxed(),
            Type::Option(inner) => {
                let some = match **inner {
                    Type::Option(_) => member("some".to_owned(), inner.values()),
                    _ => inner.values(),
                };
                prop_oneof![1 => Just(Json::Null), 3 => some].boxed()
            }
            Type::Tuple(types) => types
                .iter()
                .map(Type::values)
                .collect::<Vec<_>>()
                .prop_map(Into::into)
                .boxed(),
            Type::Record(types) => types
                .iter()
                .map(Type::values)
                .collect::<Vec<_>>()
                .prop_map(|values| {
                    let members = values
                        .into_iter()
                        .enumerate()
                        .map(|(i, value)| (format!("m{i}"), value));
                    Json::Object(members.collect())
                })
                .boxed(),
            Type::Variant(cases) => {
                let cases = cases.iter().enumerate().map(|(i, ty)| match ty {
                    Some(ty) => member(format!("c{i}"), ty.values()),
                    None => Just(Json::from(format!("c{i}"))).boxed(),
                });
                proptest::strategy::Union::new(cases).boxed()
            }
            Type::Result(ok, err) => prop_oneof![payload("ok", ok), payload("err", err)].boxed(),
            Type::Enum(count) => proptest::sample::select(names(*count)).prop_map(Into::into).boxed(),
            Type::Flags(count) => subsequence(names(*count), 0..=*count).prop_map(Into::into).boxed(),
        }
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("n{i}")).collect()
}

fn declare(declarations: &mut String, kind: &str, body: &str) -> String {
    let name = format!("t{}", declarations.lines().count());
    writeln!(declarations, "{kind} {name} {{ {body} }}").unwrap();
    name
}

fn samples() -> impl Strategy<Value = (Sample, Vec<Json>)> {
    types().prop_flat_map(|ty| {
        let mut declarations = String::new();
        let name = ty.wit(&mut declarations);
        prop::collection::vec(ty.values(), 4..8).prop_map(move |mut values| {
            let value = values.pop().unwrap_or_default();
            (
                Sample {
                    declarations: declarations.clone(),
                    ty: name.clone(),
                    value,
                },
                values,
            )
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_value_of_any_type_comes_back((sample, more) in samples()) {
        let tool = echo(&sample.declarations, &sample.ty);
        for value in std::iter::once(sample.value).chain(more) {
            let outcome = run(&tool, Some(value.clone()));
            prop_assert_eq!(outcome, Outcome::Ok(value), "{} {}", &sample.declarations, &sample.ty);
        }
    }
}
