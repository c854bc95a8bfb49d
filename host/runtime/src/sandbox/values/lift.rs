//! Component values to JSON, within the limits of a result.

use ambit_core::error::{Code, Refusal};
use ambit_core::grant::Limits;
use ambit_core::json::{Json, Number, Object};
use data_encoding::BASE64;
use wasmtime::component::Val;

use super::shape::{Members, Shape};

/// Integers up to here are the same in every reader of JSON.
const EXACT: u64 = (1 << 53) - 1;

/// A conversion with what is left of its limits. Stops before it builds more than they allow.
pub(super) struct Lift {
    most: usize,
    left: usize,
    deepest: usize,
    depth: usize,
}

impl Lift {
    pub(super) fn new(limits: &Limits) -> Lift {
        let most = usize::try_from(limits.result_bytes).unwrap_or(usize::MAX);
        Lift {
            most,
            left: most,
            deepest: usize::try_from(limits.json_depth).unwrap_or(usize::MAX),
            depth: 0,
        }
    }

    /// Accounts for so many bytes of JSON text.
    fn spend(&mut self, bytes: usize) -> Result<(), Refusal> {
        let left = self.left.checked_sub(bytes);
        if !ambit_core::guard!("sandbox.result-size", left.is_some()) {
            return Err(Refusal::new(
                Code::Result,
                format!("the tool's result is over {} bytes of JSON", self.most),
            )
            .advise("Have the tool return less, or raise `limits.result_bytes`."));
        }
        self.left = left.unwrap_or(0);
        Ok(())
    }

    /// One level deeper for the duration of `build`.
    fn nested<T>(&mut self, build: impl FnOnce(&mut Lift) -> Result<T, Refusal>) -> Result<T, Refusal> {
        self.depth += 1;
        if !ambit_core::guard!("sandbox.result-depth", self.depth <= self.deepest) {
            let deepest = self.deepest;
            return Err(Refusal::new(
                Code::Result,
                format!("the tool's result is nested over {deepest} levels deep"),
            ));
        }
        let built = build(self)?;
        self.depth -= 1;
        Ok(built)
    }

    pub(super) fn text(&mut self, text: String) -> Result<Json, Refusal> {
        self.spend(string_size(&text))?;
        Ok(Json::String(text))
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<Json, Refusal> {
        self.spend(BASE64.encode_len(bytes.len()).saturating_add(2))?;
        Ok(Json::String(BASE64.encode(bytes)))
    }

    fn number(&mut self, number: Number) -> Result<Json, Refusal> {
        let json = Json::Number(number);
        self.spend(measure(&json).0)?;
        Ok(json)
    }

    fn object(&mut self, name: &str, member: impl FnOnce(&mut Lift) -> Result<Json, Refusal>) -> Result<Json, Refusal> {
        self.spend(name.len() + 5)?;
        let value = self.nested(member)?;
        Ok(Json::Object(Object::from([(name, value)])))
    }

    fn array<T>(
        &mut self,
        elements: impl ExactSizeIterator<Item = T>,
        mut convert: impl FnMut(&mut Lift, T) -> Result<Json, Refusal>,
    ) -> Result<Json, Refusal> {
        self.spend((elements.len() + 1).max(2))?;
        let values = self.nested(|lift| elements.map(|element| convert(lift, element)).collect::<Result<_, _>>())?;
        Ok(Json::Array(values))
    }

    pub(super) fn value(&mut self, shape: &Shape, value: Val) -> Result<Json, Refusal> {
        match (shape, value) {
            (Shape::Bool, Val::Bool(value)) => {
                self.spend(if value { 4 } else { 5 })?;
                Ok(Json::Bool(value))
            }
            (Shape::Integer(_), value) => self.integer(&value),
            (Shape::F32, Val::Float32(value)) => self.float(value.into(), || value.to_string()),
            (Shape::F64, Val::Float64(value)) => self.float(value, || value.to_string()),
            (Shape::Char, Val::Char(value)) => self.text(value.into()),
            (Shape::String, Val::String(value)) => self.text(value),
            (Shape::Bytes, Val::List(values)) => {
                let bytes = values.iter().map(|value| {
                    if let Val::U8(byte) = value {
                        Ok(*byte)
                    } else {
                        Err(mistyped())
                    }
                });
                let bytes = bytes.collect::<Result<Vec<_>, _>>()?;
                self.bytes(&bytes)
            }
            (Shape::List(element), Val::List(values)) => {
                self.array(values.into_iter(), |lift, value| lift.value(element, value))
            }
            (Shape::Tuple(shapes), Val::Tuple(values)) if shapes.len() == values.len() => self
                .array(shapes.iter().zip(values), |lift, (shape, value)| {
                    lift.value(shape, value)
                }),
            (Shape::Record(fields), Val::Record(values)) => self.record(fields, values),
            (Shape::Variant(cases), Val::Variant(name, payload)) => self.variant(cases, name, payload),
            (Shape::Enum(_), Val::Enum(name)) => self.text(name),
            (Shape::Option(inner), Val::Option(payload)) => self.option(inner, payload),
            (Shape::Flags(_), Val::Flags(names)) => self.array(names.into_iter(), |lift, name| lift.text(name)),
            (Shape::Result(sides), Val::Result(Ok(payload))) => {
                self.object("ok", |lift| lift.payload(sides.0.as_ref(), payload))
            }
            (Shape::Result(sides), Val::Result(Err(payload))) => {
                self.object("err", |lift| lift.payload(sides.1.as_ref(), payload))
            }
            _ => Err(mistyped()),
        }
    }

    /// A payload that may not be there, which is null.
    pub(super) fn payload(&mut self, shape: Option<&Shape>, value: Option<Box<Val>>) -> Result<Json, Refusal> {
        match (shape, value) {
            (Some(shape), Some(value)) => self.value(shape, *value),
            (None, None) => self.null(),
            _ => Err(mistyped()),
        }
    }

    fn null(&mut self) -> Result<Json, Refusal> {
        self.spend(4)?;
        Ok(Json::Null)
    }

    fn integer(&mut self, value: &Val) -> Result<Json, Refusal> {
        let number = match *value {
            Val::S8(value) => i64::from(value).into(),
            Val::U8(value) => u64::from(value).into(),
            Val::S16(value) => i64::from(value).into(),
            Val::U16(value) => u64::from(value).into(),
            Val::S32(value) => i64::from(value).into(),
            Val::U32(value) => u64::from(value).into(),
            Val::S64(value) if value.unsigned_abs() > EXACT => return self.text(value.to_string()),
            Val::S64(value) => value.into(),
            Val::U64(value) if value > EXACT => return self.text(value.to_string()),
            Val::U64(value) => value.into(),
            _ => return Err(mistyped()),
        };
        self.number(number)
    }

    /// The shortest decimal that reads back as the same float, or the name of what no JSON number here is.
    fn float(&mut self, value: f64, shortest: impl FnOnce() -> String) -> Result<Json, Refusal> {
        if value.is_nan() {
            return self.text("NaN".to_owned());
        }
        if value.is_infinite() {
            return self.text(if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned());
        }
        if value == 0.0 && value.is_sign_negative() {
            return self.text("-0".to_owned());
        }
        let number = shortest().parse().map_err(|_| mistyped())?;
        self.number(number)
    }

    fn record(&mut self, fields: &Members, values: Vec<(String, Val)>) -> Result<Json, Refusal> {
        if fields.len() != values.len() {
            return Err(mistyped());
        }
        self.spend((values.len() + 1).max(2))?;
        let object = self.nested(|lift| {
            let members = fields.iter().zip(values).map(|((_, shape), (name, value))| {
                lift.spend(name.len() + 3)?;
                Ok((name, lift.value(shape, value)?))
            });
            members.collect::<Result<Object, _>>()
        })?;
        Ok(Json::Object(object))
    }

    fn variant(
        &mut self,
        cases: &[(String, Option<Shape>)],
        name: String,
        payload: Option<Box<Val>>,
    ) -> Result<Json, Refusal> {
        let (_, shape) = cases.iter().find(|(case, _)| *case == name).ok_or_else(mistyped)?;
        match (shape, payload) {
            (None, None) => self.text(name),
            (Some(shape), Some(value)) => self.object(&name, |lift| lift.value(shape, *value)),
            _ => Err(mistyped()),
        }
    }

    fn option(&mut self, inner: &Shape, payload: Option<Box<Val>>) -> Result<Json, Refusal> {
        match payload {
            None => self.null(),
            Some(value) if inner.is_option() => self.object("some", |lift| lift.value(inner, *value)),
            Some(value) => self.value(inner, *value),
        }
    }
}

/// The engine has checked every value against its type already.
pub(super) fn mistyped() -> Refusal {
    Refusal::new(Code::Result, "the tool's result is not of its own type")
}

/// The length of a value's canonical JSON text, and how deep it is nested.
pub(super) fn measure(json: &Json) -> (usize, usize) {
    match json {
        Json::Null | Json::Bool(true) => (4, 0),
        Json::Bool(false) => (5, 0),
        Json::Number(number) => (number_size(number), 0),
        Json::String(text) => (string_size(text), 0),
        Json::Array(elements) => container(elements.iter().map(measure)),
        Json::Object(members) => container(members.iter().map(|(name, value)| {
            let (size, depth) = measure(value);
            (size + string_size(name) + 1, depth)
        })),
    }
}

/// Brackets, and a comma between each two elements.
fn container(elements: impl ExactSizeIterator<Item = (usize, usize)>) -> (usize, usize) {
    let around = (elements.len() + 1).max(2);
    elements.fold((around, 1), |(size, depth), (more, inner)| {
        (size.saturating_add(more), depth.max(inner + 1))
    })
}

fn number_size(number: &Number) -> usize {
    match number.as_i64() {
        Some(value) => {
            let digits = value.unsigned_abs().checked_ilog10().map_or(1, |log| log as usize + 1);
            digits + usize::from(value < 0)
        }
        None => number.to_string().len(),
    }
}

/// With quotes and escapes.
fn string_size(text: &str) -> usize {
    let escapes = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 1,
        0..=0x1f => 5,
        _ => 0,
    });
    text.len() + 2 + escapes.sum::<usize>()
}
