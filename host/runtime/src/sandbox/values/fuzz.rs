//! What a fuzzer drives: the conversion of values alone, without a component.

use ambit_core::grant::Limits;
use ambit_core::json::Json;
use wasmtime::component::Val;

use super::lift::Lift;
use super::lower;
use super::shape::{Integer, Members, Shape};

/// A WIT type.
#[derive(Clone, Debug)]
pub enum Type {
    /// `bool`, an integer, a float, `char` or `string`, by its name in WIT.
    Plain(&'static str),
    /// `list<T>`; of `u8` it is bytes.
    List(Box<Type>),
    /// `option<T>`
    Option(Box<Type>),
    /// `tuple<…>`
    Tuple(Vec<Type>),
    /// A record's members.
    Record(Vec<(String, Type)>),
    /// A variant's cases.
    Variant(Vec<(String, Option<Type>)>),
    /// An enum's cases.
    Enum(Vec<String>),
    /// Flags.
    Flags(Vec<String>),
    /// `result<T, E>`
    Result(Box<(Option<Type>, Option<Type>)>),
}

/// The names of [`Type::Plain`].
pub const PLAIN: [&str; 13] = [
    "bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string",
];

/// Passes `value` for an argument called `value` of type `ty`, and takes it back.
///
/// # Errors
/// Why it was refused, as the caller is told.
///
/// # Panics
/// What is taken back is refused when passed again, or comes back as something else then.
pub fn pass(ty: &Type, value: &Json) -> Result<Json, String> {
    let params = Members::new(vec![("value".to_owned(), shape(ty))]);
    let limits = Limits::default();
    let back = once(&params, ty, value, &limits)?;
    let again = once(&params, ty, &back, &limits);
    assert_eq!(
        again.as_ref(),
        Ok(&back),
        "what came back of {value:?} is not taken again"
    );
    Ok(back)
}

fn once(params: &Members, ty: &Type, value: &Json, limits: &Limits) -> Result<Json, String> {
    let args = Json::Object([("value", value.clone())].into());
    let lowered = lower::check_size(&args, limits)
        .and_then(|()| lower::arguments(params, &args))
        .map_err(|refusal| refusal.message)?;
    let lowered: Option<Val> = lower::values(lowered).pop();
    let lowered = lowered.ok_or("nothing was lowered")?;
    Lift::new(limits)
        .value(&shape(ty), lowered)
        .map_err(|refusal| refusal.message)
}

fn shape(ty: &Type) -> Shape {
    let optional = |ty: &Option<Type>| ty.as_ref().map(shape);
    match ty {
        Type::Plain(name) => plain(name),
        Type::List(element) => match **element {
            Type::Plain("u8") => Shape::Bytes,
            ref element => Shape::List(Box::new(shape(element))),
        },
        Type::Option(inner) => Shape::Option(Box::new(shape(inner))),
        Type::Tuple(types) => Shape::Tuple(types.iter().map(shape).collect()),
        Type::Record(members) => Shape::Record(Members::new(
            members.iter().map(|(name, ty)| (name.clone(), shape(ty))).collect(),
        )),
        Type::Variant(cases) => Shape::Variant(cases.iter().map(|(name, ty)| (name.clone(), optional(ty))).collect()),
        Type::Enum(names) => Shape::Enum(names.clone()),
        Type::Flags(names) => Shape::Flags(names.clone()),
        Type::Result(sides) => Shape::Result(Box::new((optional(&sides.0), optional(&sides.1)))),
    }
}

fn plain(name: &str) -> Shape {
    match name {
        "bool" => Shape::Bool,
        "s8" => Shape::Integer(Integer::S8),
        "u8" => Shape::Integer(Integer::U8),
        "s16" => Shape::Integer(Integer::S16),
        "u16" => Shape::Integer(Integer::U16),
        "s32" => Shape::Integer(Integer::S32),
        "u32" => Shape::Integer(Integer::U32),
        "s64" => Shape::Integer(Integer::S64),
        "u64" => Shape::Integer(Integer::U64),
        "f32" => Shape::F32,
        "f64" => Shape::F64,
        "char" => Shape::Char,
        _ => Shape::String,
    }
}
