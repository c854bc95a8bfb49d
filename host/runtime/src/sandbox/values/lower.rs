//! JSON to component values.

use std::fmt::Display;

use ambit_core::error::{Code, Refusal, printable};
use ambit_core::grant::Limits;
use ambit_core::json::{Json, Number, Object};
use data_encoding::BASE64;
use wasmtime::component::Val;

use super::shape::{Integer, Members, Shape};

/// An argument. Bytes and text stay as they are until it is known how the function will be called.
pub(super) enum Lowered {
    Bytes(Vec<u8>),
    Text(String),
    Other(Val),
}

impl From<Lowered> for Val {
    fn from(lowered: Lowered) -> Val {
        match lowered {
            Lowered::Bytes(bytes) => bytes_value(&bytes),
            Lowered::Text(text) => Val::String(text),
            Lowered::Other(value) => value,
        }
    }
}

/// The arguments for a dynamic call.
pub(super) fn values(lowered: Vec<Lowered>) -> Vec<Val> {
    lowered.into_iter().map(Val::from).collect()
}

/// The conversion gives every parameter its type, so this is never seen.
pub(super) fn mistyped() -> Refusal {
    Refusal::new(
        Code::Internal,
        "arguments were converted to other types than the function's",
    )
}

/// Refuses arguments that are larger or deeper than a call may have.
pub(super) fn check_size(args: &Json, limits: &Limits) -> Result<(), Refusal> {
    let most = usize::try_from(limits.args_bytes).unwrap_or(usize::MAX);
    let deepest = usize::try_from(limits.json_depth).unwrap_or(usize::MAX);
    let (size, depth) = super::lift::measure(args);
    if !ambit_core::guard!("sandbox.args-size", size <= most) {
        return Err(Refusal::new(
            Code::Arguments,
            format!("the arguments are {size} bytes of JSON; {most} is the most"),
        ));
    }
    if !ambit_core::guard!("sandbox.args-depth", depth <= deepest) {
        return Err(Refusal::new(
            Code::Arguments,
            format!("the arguments are nested {depth} levels deep; {deepest} is the most"),
        ));
    }
    Ok(())
}

/// The arguments for `params`, in their order.
pub(super) fn arguments(params: &Members, args: &Json) -> Result<Vec<Lowered>, Refusal> {
    members(params, args, argument).map_err(|mismatch| mismatch.refusal())
}

fn argument(shape: &Shape, json: &Json) -> Result<Lowered, Mismatch> {
    Ok(match shape {
        Shape::Bytes => Lowered::Bytes(bytes(json)?),
        Shape::String => Lowered::Text(text(json)?.to_owned()),
        other => Lowered::Other(value(other, json)?),
    })
}

/// A value that does not fit its type: where, and what was expected. Built from the inside out.
pub(super) struct Mismatch {
    /// Steps from the innermost to the outermost.
    path: Vec<String>,
    problem: String,
    advice: Option<String>,
}

impl Mismatch {
    fn new(problem: impl Into<String>) -> Mismatch {
        Mismatch {
            path: Vec::new(),
            problem: problem.into(),
            advice: None,
        }
    }

    fn expected(what: impl Display, got: &Json) -> Mismatch {
        Mismatch::new(format!("expected {what}, got {}", describe(got)))
    }

    fn within(mut self, step: impl FnOnce() -> String) -> Mismatch {
        self.path.push(step());
        self
    }

    fn refusal(self) -> Refusal {
        let path: String = self.path.iter().rev().map(String::as_str).collect();
        let refusal = Refusal::new(Code::Arguments, format!("args{path}: {}", self.problem));
        match self.advice {
            Some(advice) => refusal.advise(advice),
            None => refusal,
        }
    }
}

fn member_step(name: &str) -> String {
    format!(".{name}")
}

/// A foreign value in a few words.
fn describe(json: &Json) -> String {
    match json {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => printable(&number.to_string()),
        Json::String(text) => format!("\"{}\"", shorten(text)),
        Json::Array(elements) => format!("an array of {}", elements.len()),
        Json::Object(_) => "an object".to_owned(),
    }
}

/// Enough of a string to recognise it by.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("{}…", printable(text.get(..cut).unwrap_or_default())),
        None => printable(text),
    }
}

fn value(shape: &Shape, json: &Json) -> Result<Val, Mismatch> {
    match shape {
        Shape::Bool => json
            .as_bool()
            .map(Val::Bool)
            .ok_or_else(|| Mismatch::expected("true or false", json)),
        Shape::Integer(kind) => integer(*kind, json),
        Shape::F32 => f32_value(json).map(Val::Float32),
        Shape::F64 => f64_value(json).map(Val::Float64),
        Shape::Char => char_value(json).map(Val::Char),
        Shape::String => text(json).map(|text| Val::String(text.to_owned())),
        Shape::Bytes => bytes(json).map(|bytes| bytes_value(&bytes)),
        Shape::List(element) => list(element, json),
        Shape::Record(fields) => record(fields, json),
        Shape::Tuple(shapes) => tuple(shapes, json),
        Shape::Variant(cases) => variant(cases, json),
        Shape::Enum(names) => enumeration(names, json),
        Shape::Option(inner) => option(inner, json),
        Shape::Flags(names) => flags(names, json),
        Shape::Result(sides) => result(sides, json),
    }
}

fn bytes_value(bytes: &[u8]) -> Val {
    Val::List(bytes.iter().copied().map(Val::U8).collect())
}

fn integer(kind: Integer, json: &Json) -> Result<Val, Mismatch> {
    let (min, max) = kind.range();
    let parsed = match json {
        Json::Number(number) => wide(number),
        Json::String(text) if kind.is_wide() => canonical_integer(text),
        _ => None,
    };
    let fits = parsed.filter(|number| i128::from(min) <= *number && *number <= i128::from(max));
    fits.and_then(|number| integer_value(kind, number))
        .ok_or_else(|| Mismatch::expected(format_args!("integer {min} to {max}"), json))
}

fn wide(number: &Number) -> Option<i128> {
    number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
}

/// An integer in the one spelling that is given out: no sign but `-`, no leading zeros.
fn canonical_integer(text: &str) -> Option<i128> {
    let number: i128 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn integer_value(kind: Integer, number: i128) -> Option<Val> {
    Some(match kind {
        Integer::S8 => Val::S8(number.try_into().ok()?),
        Integer::U8 => Val::U8(number.try_into().ok()?),
        Integer::S16 => Val::S16(number.try_into().ok()?),
        Integer::U16 => Val::U16(number.try_into().ok()?),
        Integer::S32 => Val::S32(number.try_into().ok()?),
        Integer::U32 => Val::U32(number.try_into().ok()?),
        Integer::S64 => Val::S64(number.try_into().ok()?),
        Integer::U64 => Val::U64(number.try_into().ok()?),
    })
}

const NUMBER: &str = "a number, \"NaN\", \"Infinity\", \"-Infinity\" or \"-0\"";

/// Read from the decimal text: going through `f64` would round twice.
fn f32_value(json: &Json) -> Result<f32, Mismatch> {
    let parsed = match json {
        Json::Number(number) => number.to_string().parse().ok().filter(|value: &f32| value.is_finite()),
        Json::String(text) => special(text).map(|value| value as f32),
        _ => None,
    };
    parsed.ok_or_else(|| Mismatch::expected(format_args!("{NUMBER} within the range of f32"), json))
}

fn f64_value(json: &Json) -> Result<f64, Mismatch> {
    let parsed = match json {
        Json::Number(number) => Some(number.to_f64()).filter(|value| value.is_finite()),
        Json::String(text) => special(text),
        _ => None,
    };
    parsed.ok_or_else(|| Mismatch::expected(NUMBER, json))
}

fn special(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        "-0" => Some(-0.0),
        _ => None,
    }
}

fn char_value(json: &Json) -> Result<char, Mismatch> {
    let mut chars = json.as_str().unwrap_or_default().chars();
    match (chars.next(), chars.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(Mismatch::expected("a string of one character", json)),
    }
}

fn text(json: &Json) -> Result<&str, Mismatch> {
    json.as_str().ok_or_else(|| Mismatch::expected("a string", json))
}

fn bytes(json: &Json) -> Result<Vec<u8>, Mismatch> {
    let decoded = json.as_str().and_then(|text| BASE64.decode(text.as_bytes()).ok());
    decoded.ok_or_else(|| Mismatch::expected("a string of base64 with padding", json))
}

fn list(element: &Shape, json: &Json) -> Result<Val, Mismatch> {
    let elements = json.as_array().ok_or_else(|| Mismatch::expected("an array", json))?;
    let values = elements.iter().enumerate().map(|(i, json)| at(i, value(element, json)));
    Ok(Val::List(values.collect::<Result<_, _>>()?))
}

fn tuple(shapes: &[Shape], json: &Json) -> Result<Val, Mismatch> {
    let right_size = json.as_array().filter(|elements| elements.len() == shapes.len());
    let elements = right_size.ok_or_else(|| Mismatch::expected(format_args!("an array of {}", shapes.len()), json))?;
    let values = shapes
        .iter()
        .zip(elements)
        .enumerate()
        .map(|(i, (shape, json))| at(i, value(shape, json)));
    Ok(Val::Tuple(values.collect::<Result<_, _>>()?))
}

fn at<T>(index: usize, result: Result<T, Mismatch>) -> Result<T, Mismatch> {
    result.map_err(|mismatch| mismatch.within(|| format!("[{index}]")))
}

fn record(fields: &Members, json: &Json) -> Result<Val, Mismatch> {
    let values = members(fields, json, value)?;
    let names = fields.iter().map(|(name, _)| name.to_owned());
    Ok(Val::Record(names.zip(values).collect()))
}

/// A value for every member: those of option type may be absent, others may not, and there are no more.
fn members<T>(
    fields: &Members,
    json: &Json,
    convert: impl Fn(&Shape, &Json) -> Result<T, Mismatch>,
) -> Result<Vec<T>, Mismatch> {
    let object = json.as_object().ok_or_else(|| Mismatch::expected("an object", json))?;
    let mut found = 0;
    let mut values = Vec::with_capacity(fields.len());
    for (name, shape) in fields.iter() {
        let member = object.get(name);
        found += usize::from(member.is_some());
        let Some(json) = member.or_else(|| shape.is_option().then_some(&Json::Null)) else {
            return Err(missing(fields, object, name));
        };
        values.push(convert(shape, json).map_err(|mismatch| mismatch.within(|| member_step(name)))?);
    }
    if !ambit_core::guard!("sandbox.args-unknown", found == object.len()) {
        return Err(unknown(fields, object));
    }
    Ok(values)
}

/// A misspelt member is both missing and unknown: say the latter, which shows the spelling.
fn missing(fields: &Members, object: &Object, name: &str) -> Mismatch {
    let misspelt = object
        .keys()
        .any(|key| !fields.contains(key) && nearest(key, fields) == Some(name));
    if misspelt {
        unknown(fields, object)
    } else {
        Mismatch::new(format!("`{name}` is missing"))
    }
}

fn unknown(fields: &Members, object: &Object) -> Mismatch {
    let name = object.keys().find(|key| !fields.contains(key)).unwrap_or_default();
    let mut mismatch = Mismatch::new(format!("there is no `{}`", shorten(name)));
    mismatch.advice = Some(match nearest(name, fields) {
        Some(near) => format!("Did you mean `{near}`?"),
        None if fields.len() == 0 => "It takes no members.".to_owned(),
        None => format!(
            "It takes: {}.",
            fields.iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
        ),
    });
    mismatch
}

/// The member whose name is nearly this one.
fn nearest<'a>(name: &str, fields: &'a Members) -> Option<&'a str> {
    let name = name.to_lowercase();
    let distances = fields
        .iter()
        .map(|(field, _)| (strsim::osa_distance(&name, &field.to_lowercase()), field));
    distances
        .min()
        .filter(|(distance, field)| *distance <= 1 + field.len() / 4)
        .map(|(_, field)| field)
}

fn variant(cases: &[(String, Option<Shape>)], json: &Json) -> Result<Val, Mismatch> {
    let wrong = || {
        let forms = cases.iter().map(|(name, payload)| match payload {
            Some(_) => format!("{{\"{name}\": …}}"),
            None => format!("\"{name}\""),
        });
        Mismatch::expected(format_args!("one of {}", forms.collect::<Vec<_>>().join(", ")), json)
    };
    let (name, payload) = match json {
        Json::String(name) => (name.as_str(), None),
        Json::Object(object) => only_member(object)
            .map(|(name, payload)| (name, Some(payload)))
            .ok_or_else(wrong)?,
        _ => return Err(wrong()),
    };
    let (_, shape) = cases.iter().find(|(case, _)| case == name).ok_or_else(wrong)?;
    let payload = match (shape, payload) {
        (Some(shape), Some(payload)) => Some(within_member(name, value(shape, payload))?),
        (None, None) => None,
        _ => return Err(wrong()),
    };
    Ok(Val::Variant(name.to_owned(), payload.map(Box::new)))
}

fn only_member(object: &Object) -> Option<(&str, &Json)> {
    object.iter().next().filter(|_| object.len() == 1)
}

fn within_member<T>(name: &str, result: Result<T, Mismatch>) -> Result<T, Mismatch> {
    result.map_err(|mismatch| mismatch.within(|| member_step(name)))
}

fn enumeration(names: &[String], json: &Json) -> Result<Val, Mismatch> {
    let known = json.as_str().filter(|name| names.iter().any(|known| known == name));
    known
        .map(|name| Val::Enum(name.to_owned()))
        .ok_or_else(|| Mismatch::expected(one_of(names), json))
}

fn one_of(names: &[String]) -> String {
    format!(
        "one of {}",
        names
            .iter()
            .map(|name| format!("\"{name}\""))
            .collect::<Vec<_>>()
            .join(", ")
    )
}

fn option(inner: &Shape, json: &Json) -> Result<Val, Mismatch> {
    let payload = match json {
        Json::Null => None,
        json if inner.is_option() => {
            let wrapped = json
                .as_object()
                .and_then(only_member)
                .filter(|(name, _)| *name == "some");
            let (name, payload) = wrapped.ok_or_else(|| Mismatch::expected("null or {\"some\": …}", json))?;
            Some(within_member(name, value(inner, payload))?)
        }
        json => Some(value(inner, json)?),
    };
    Ok(Val::Option(payload.map(Box::new)))
}

fn flags(names: &[String], json: &Json) -> Result<Val, Mismatch> {
    let elements = json
        .as_array()
        .ok_or_else(|| Mismatch::expected("an array of strings", json))?;
    let mut set: Vec<String> = Vec::with_capacity(elements.len().min(names.len()));
    for (i, element) in elements.iter().enumerate() {
        let known = element.as_str().filter(|name| names.iter().any(|known| known == name));
        let name = known.ok_or_else(|| Mismatch::expected(one_of(names), element));
        let name = at(i, name)?;
        if !ambit_core::guard!("sandbox.args-flag-twice", !set.iter().any(|earlier| earlier == name)) {
            return at(i, Err(Mismatch::new(format!("\"{name}\" is there twice"))));
        }
        set.push(name.to_owned());
    }
    Ok(Val::Flags(set))
}

fn result(sides: &(Option<Shape>, Option<Shape>), json: &Json) -> Result<Val, Mismatch> {
    let side = |shape: &Option<Shape>, name, json: &Json| match shape {
        Some(shape) => within_member(name, value(shape, json)).map(|value| Some(Box::new(value))),
        None if json.is_null() => Ok(None),
        None => within_member(name, Err(Mismatch::expected("null", json))),
    };
    match json.as_object().and_then(only_member) {
        Some((name @ "ok", payload)) => side(&sides.0, name, payload).map(|value| Val::Result(Ok(value))),
        Some((name @ "err", payload)) => side(&sides.1, name, payload).map(|value| Val::Result(Err(value))),
        _ => Err(Mismatch::expected("{\"ok\": …} or {\"err\": …}", json)),
    }
}
