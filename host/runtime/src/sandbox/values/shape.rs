//! What is known of a type when a tool is loaded.

use wasmtime::component::Type;

/// A type that has a JSON form.
pub(super) enum Shape {
    Bool,
    Integer(Integer),
    F32,
    F64,
    Char,
    String,
    /// `list<u8>`
    Bytes,
    List(Box<Shape>),
    Record(Members),
    Tuple(Vec<Shape>),
    Variant(Vec<(String, Option<Shape>)>),
    Enum(Vec<String>),
    Option(Box<Shape>),
    Flags(Vec<String>),
    /// The types of `ok` and `err`.
    Result(Box<(Option<Shape>, Option<Shape>)>),
}

/// The integer types.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Integer {
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
}

impl Integer {
    /// The smallest and the largest value.
    pub(super) const fn range(self) -> (i64, u64) {
        match self {
            Integer::S8 => (i8::MIN as i64, i8::MAX as u64),
            Integer::U8 => (0, u8::MAX as u64),
            Integer::S16 => (i16::MIN as i64, i16::MAX as u64),
            Integer::U16 => (0, u16::MAX as u64),
            Integer::S32 => (i32::MIN as i64, i32::MAX as u64),
            Integer::U32 => (0, u32::MAX as u64),
            Integer::S64 => (i64::MIN, i64::MAX as u64),
            Integer::U64 => (0, u64::MAX),
        }
    }

    /// Whether values beyond 2^53 exist, and with them the string form.
    pub(super) const fn is_wide(self) -> bool {
        matches!(self, Integer::S64 | Integer::U64)
    }
}

/// The members of a record or the parameters of a function, in their order.
pub(super) struct Members(Vec<(String, Shape)>);

impl Members {
    pub(super) fn new(members: Vec<(String, Shape)>) -> Members {
        Members(members)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Shape)> {
        self.0.iter().map(|(name, shape)| (name.as_str(), shape))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(member, _)| member == name)
    }
}

impl Shape {
    /// # Errors
    /// Which type has no JSON form.
    pub(super) fn of(ty: &Type) -> Result<Shape, String> {
        Ok(match ty {
            Type::Bool => Shape::Bool,
            Type::S8 => Shape::Integer(Integer::S8),
            Type::U8 => Shape::Integer(Integer::U8),
            Type::S16 => Shape::Integer(Integer::S16),
            Type::U16 => Shape::Integer(Integer::U16),
            Type::S32 => Shape::Integer(Integer::S32),
            Type::U32 => Shape::Integer(Integer::U32),
            Type::S64 => Shape::Integer(Integer::S64),
            Type::U64 => Shape::Integer(Integer::U64),
            Type::Float32 => Shape::F32,
            Type::Float64 => Shape::F64,
            Type::Char => Shape::Char,
            Type::String => Shape::String,
            Type::List(list) => match list.ty() {
                Type::U8 => Shape::Bytes,
                element => Shape::List(Box::new(Shape::of(&element)?)),
            },
            Type::Record(record) => {
                let members = record
                    .fields()
                    .map(|field| Ok((field.name.to_owned(), Shape::of(&field.ty)?)));
                Shape::Record(Members::new(members.collect::<Result<_, String>>()?))
            }
            Type::Tuple(tuple) => Shape::Tuple(tuple.types().map(|ty| Shape::of(&ty)).collect::<Result<_, _>>()?),
            Type::Variant(variant) => {
                let cases = variant
                    .cases()
                    .map(|case| Ok((case.name.to_owned(), optional(case.ty)?)));
                Shape::Variant(cases.collect::<Result<_, String>>()?)
            }
            Type::Enum(names) => Shape::Enum(names.names().map(str::to_owned).collect()),
            Type::Option(option) => Shape::Option(Box::new(Shape::of(&option.ty())?)),
            Type::Result(result) => Shape::Result(Box::new((optional(result.ok())?, optional(result.err())?))),
            Type::Flags(flags) => Shape::Flags(flags.names().map(str::to_owned).collect()),
            Type::Own(_) | Type::Borrow(_) => return Err("it passes a resource".to_owned()),
            Type::Future(_) | Type::Stream(_) => return Err("it passes a future or stream".to_owned()),
            Type::ErrorContext => return Err("it passes an error context".to_owned()),
            Type::Map(_) => return Err("it passes a map".to_owned()),
            Type::FixedLengthList(_) => return Err("it passes a list of fixed length".to_owned()),
        })
    }

    pub(super) const fn is_option(&self) -> bool {
        matches!(self, Shape::Option(_))
    }
}

fn optional(ty: Option<Type>) -> Result<Option<Shape>, String> {
    ty.as_ref().map(Shape::of).transpose()
}
