use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::rc::Rc;

use ambit_core::json::Json;
use ambit_runtime::sandbox::fuzz::{PLAIN, Type, pass};
use jsonschema::Validator;

use crate::fuzz::Became;
use crate::fuzz::mutate::Numbers;

/// Bytes are choices: the type first, then a value of it, in which choices go wrong here and there.
struct Choices<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether the value is of the type so far.
    fits: bool,
}

impl Choices<'_> {
    /// The next choice; the first one when there are no more.
    fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        byte
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    fn wide(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut numbers = Numbers::new(7);
    (0..64)
        .map(|_| (0..64).map(|_| numbers.next() as u8).collect())
        .collect()
}

/// A value that fits its type is taken, and what comes back means the same. What is taken is what the schema allows, and the
/// other way round for types whose every rule a schema can say.
pub(super) fn drive(bytes: &[u8]) -> Became {
    let mut choices = Choices {
        bytes,
        at: 0,
        fits: true,
    };
    let ty = any_type(&mut choices, 0);
    let value = any_value(&ty, &mut choices);
    let taken = pass(&ty, &value);
    if choices.fits {
        assert_eq!(taken.as_ref(), Ok(&value), "{ty:?}");
    }
    let validator = validator(&ty);
    let allows = |value: &Json| {
        let value = serde_json::from_str(&value.to_canonical()).expect("canonical JSON");
        validator.is_valid(&value)
    };
    match &taken {
        Ok(back) => {
            assert!(
                allows(&value),
                "taken, and not what the schema of {ty:?} allows: {value:?}"
            );
            assert!(
                allows(back),
                "given back, and not what the schema of {ty:?} allows: {back:?}"
            );
        }
        Err(why) => assert!(
            !allows(&value) || !exact(&ty),
            "refused ({why}), and what the schema of {ty:?} allows: {value:?}"
        ),
    }
    taken.map(|_| ())
}

/// Whether the schema says all that there is to say: of floats it does not say the range of `f32`, of wide integers in
/// strings not the range, of bytes not that unused bits are zero.
fn exact(ty: &Type) -> bool {
    match ty {
        Type::Plain(name) => !matches!(*name, "f32" | "f64" | "s64" | "u64"),
        Type::List(element) => !matches!(**element, Type::Plain("u8")) && exact(element),
        Type::Option(inner) => exact(inner),
        Type::Tuple(types) => types.iter().all(exact),
        Type::Record(members) => members.iter().all(|(_, ty)| exact(ty)),
        Type::Variant(cases) => cases.iter().all(|(_, ty)| ty.as_ref().is_none_or(exact)),
        Type::Result(sides) => [&sides.0, &sides.1].into_iter().flatten().all(exact),
        Type::Enum(_) | Type::Flags(_) => true,
    }
}

fn any_type(choices: &mut Choices<'_>, depth: usize) -> Type {
    let kinds = if depth < 4 { 12 } else { 3 };
    let names = |choices: &mut Choices<'_>| (0..=choices.below(4)).map(|i| format!("n{i}")).collect();
    match choices.below(kinds) {
        0 | 9 | 10 => Type::Plain(PLAIN[choices.below(PLAIN.len())]),
        1 => Type::Enum(names(choices)),
        2 => Type::Flags(names(choices)),
        3 => Type::List(Box::new(any_type(choices, depth + 1))),
        4 | 11 => Type::Option(Box::new(any_type(choices, depth + 1))),
        5 => Type::Tuple((0..=choices.below(3)).map(|_| any_type(choices, depth + 1)).collect()),
        6 => Type::Record(
            (0..=choices.below(3))
                .map(|i| (format!("m{i}"), any_type(choices, depth + 1)))
                .collect(),
        ),
        7 => Type::Variant(
            (0..=choices.below(3))
                .map(|i| (format!("c{i}"), any_payload(choices, depth)))
                .collect(),
        ),
        _ => Type::Result(Box::new((any_payload(choices, depth), any_payload(choices, depth)))),
    }
}

fn any_payload(choices: &mut Choices<'_>, depth: usize) -> Option<Type> {
    (choices.below(3) > 0).then(|| any_type(choices, depth + 1))
}

/// A value, in the form that comes back; and one in sixteen places something else.
fn any_value(ty: &Type, choices: &mut Choices<'_>) -> Json {
    if choices.below(16) == 15 {
        choices.fits = false;
        return any_json(choices, 0);
    }
    let member = |name: &str, value: Json| Json::Object([(name, value)].into());
    match ty {
        Type::Plain(name) => plain(name, choices),
        Type::List(element) if matches!(**element, Type::Plain("u8")) => {
            let bytes: Vec<u8> = (0..choices.below(5)).map(|_| choices.byte()).collect();
            data_encoding::BASE64.encode(&bytes).into()
        }
        Type::List(element) => (0..choices.below(4)).map(|_| any_value(element, choices)).collect(),
        Type::Option(inner) => match (choices.below(3), &**inner) {
            (0, _) => Json::Null,
            (_, Type::Option(_)) => member("some", any_value(inner, choices)),
            _ => any_value(inner, choices),
        },
        Type::Tuple(types) => types.iter().map(|ty| any_value(ty, choices)).collect(),
        Type::Record(members) => {
            let mut object = ambit_core::json::Object::new();
            for (name, ty) in members {
                // Absent is null, and null comes back: not the same, but right.
                if matches!(ty, Type::Option(_)) && choices.below(8) == 7 {
                    choices.fits = false;
                    continue;
                }
                object.insert(name.as_str(), any_value(ty, choices));
            }
            if choices.below(32) == 31 {
                choices.fits = false;
                object.insert("other", true);
            }
            object.into()
        }
        Type::Variant(cases) => {
            let (name, payload) = &cases[choices.below(cases.len())];
            match payload {
                Some(ty) => member(name, any_value(ty, choices)),
                None => name.as_str().into(),
            }
        }
        Type::Enum(names) => names[choices.below(names.len())].as_str().into(),
        Type::Flags(names) => {
            let set = choices.byte();
            let chosen = names.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1);
            chosen.map(|(_, name)| Json::from(name.as_str())).collect()
        }
        Type::Result(sides) => {
            let (name, side) = [("ok", &sides.0), ("err", &sides.1)][choices.below(2)];
            member(name, side.as_ref().map_or(Json::Null, |ty| any_value(ty, choices)))
        }
    }
}

fn plain(name: &str, choices: &mut Choices<'_>) -> Json {
    let wide = |number: i128| match i64::try_from(number) {
        Ok(number) if number.unsigned_abs() < 1 << 53 => number.into(),
        _ => Json::from(number.to_string()),
    };
    let float = |number: f64, text: String| match text.parse() {
        Ok(_) if number == 0.0 && number.is_sign_negative() => "-0".into(),
        Ok(number) => Json::Number(number),
        Err(_) if number.is_nan() => "NaN".into(),
        Err(_) => if number > 0.0 { "Infinity" } else { "-Infinity" }.into(),
    };
    match name {
        "bool" => Json::Bool(choices.below(2) == 1),
        "s8" => i64::from(choices.byte() as i8).into(),
        "u8" => u64::from(choices.byte()).into(),
        "s16" => i64::from(choices.wide() as i16).into(),
        "u16" => u64::from(choices.wide() as u16).into(),
        "s32" => i64::from(choices.wide() as i32).into(),
        "u32" => u64::from(choices.wide() as u32).into(),
        "s64" => wide(((choices.wide() as i64) >> choices.below(64)).into()),
        "u64" => wide((choices.wide() >> choices.below(64)).into()),
        "f32" => {
            let number = f32::from_bits(choices.wide() as u32);
            float(number.into(), number.to_string())
        }
        "f64" => {
            let number = f64::from_bits(choices.wide());
            float(number, number.to_string())
        }
        "char" => char::from_u32(choices.wide() as u32 % 0x11_0000)
            .unwrap_or('x')
            .to_string()
            .into(),
        _ => any_text(choices).into(),
    }
}

fn any_text(choices: &mut Choices<'_>) -> String {
    let pieces = ["a", "é", "\u{1f4b6}", "\"", "\\", "\n", "\0", "\u{202e}", "n0", "ok"];
    (0..choices.below(4))
        .map(|_| pieces[choices.below(pieces.len())])
        .collect()
}

/// Something that may have nothing to do with the type, but is made of its words.
fn any_json(choices: &mut Choices<'_>, depth: usize) -> Json {
    let names = ["m0", "c0", "n0", "ok", "err", "some", "other"];
    let numbers = [
        "0",
        "1",
        "-1",
        "1.5",
        "255",
        "256",
        "-128",
        "-129",
        "65536",
        "4294967295",
        "4294967296",
        "2147483648",
        "1.0",
        "1e3",
        "-0",
        "\"1\"",
        "\"01\"",
        "\"-0\"",
        "\"18446744073709551615\"",
        "\"NaN\"",
        "\"Infinity\"",
        "\"\"",
        "\"AAA=\"",
        "\"AA\"",
        "\"AAF=\"",
        "\"ab\"",
        "\"e\u{301}\"",
    ];
    let kinds = if depth < 3 { 7 } else { 5 };
    match choices.below(kinds) {
        0 => Json::Null,
        1 => Json::Bool(choices.below(2) == 1),
        2 => names[choices.below(names.len())].into(),
        3 => any_text(choices).into(),
        4 => Json::parse(numbers[choices.below(numbers.len())], Default::default()).expect("JSON"),
        5 => (0..choices.below(4)).map(|_| any_json(choices, depth + 1)).collect(),
        _ => {
            let mut object = ambit_core::json::Object::new();
            for _ in 0..choices.below(3) {
                object.insert(names[choices.below(names.len())], any_json(choices, depth + 1));
            }
            object.into()
        }
    }
}

/// The schema that the host gives out for the type, made from WIT as it is for a component.
fn validator(ty: &Type) -> Rc<Validator> {
    thread_local! {
        static MADE: RefCell<HashMap<String, Rc<Validator>>> = RefCell::default();
    }
    let mut declarations = String::new();
    let name = wit(ty, &mut declarations);
    let text = format!("package fuzz:types;\ninterface api {{\n{declarations}type subject = {name};\n}}\n");
    MADE.with_borrow_mut(|made| {
        if made.len() > 10_000 {
            made.clear();
        }
        let make = || {
            let schema = ambit_core::manifest::fuzz::schema(&text).expect("a schema");
            let schema = serde_json::from_str(&schema.to_canonical()).expect("canonical JSON");
            Rc::new(jsonschema::draft202012::new(&schema).expect("a schema that is one"))
        };
        Rc::clone(made.entry(text.clone()).or_insert_with(make))
    })
}

/// The type's name in WIT, declaring what needs a declaration.
fn wit(ty: &Type, declarations: &mut String) -> String {
    let payload =
        |ty: &Option<Type>, declarations: &mut String| ty.as_ref().map_or("_".to_owned(), |ty| wit(ty, declarations));
    match ty {
        Type::Plain(name) => (*name).to_owned(),
        Type::List(element) => format!("list<{}>", wit(element, declarations)),
        Type::Option(inner) => format!("option<{}>", wit(inner, declarations)),
        Type::Tuple(types) => {
            let types: Vec<_> = types.iter().map(|ty| wit(ty, declarations)).collect();
            format!("tuple<{}>", types.join(", "))
        }
        Type::Record(members) => {
            let members: Vec<_> = members
                .iter()
                .map(|(name, ty)| format!("{name}: {}", wit(ty, declarations)))
                .collect();
            declare("record", &members, declarations)
        }
        Type::Variant(cases) => {
            let cases: Vec<_> = cases
                .iter()
                .map(|(name, ty)| match ty {
                    Some(ty) => format!("{name}({})", wit(ty, declarations)),
                    None => name.clone(),
                })
                .collect();
            declare("variant", &cases, declarations)
        }
        Type::Enum(names) => declare("enum", names, declarations),
        Type::Flags(names) => declare("flags", names, declarations),
        Type::Result(sides) => match (payload(&sides.0, declarations), payload(&sides.1, declarations)) {
            (ok, err) if ok == "_" && err == "_" => "result".to_owned(),
            (ok, err) if err == "_" => format!("result<{ok}>"),
            (ok, err) => format!("result<{ok}, {err}>"),
        },
    }
}

fn declare(kind: &str, parts: &[String], declarations: &mut String) -> String {
    let name = format!("t{}", declarations.lines().count());
    writeln!(declarations, "{kind} {name} {{ {} }}", parts.join(", ")).expect("text");
    name
}
