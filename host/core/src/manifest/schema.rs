//! The JSON form of WIT values, as JSON Schema (2020-12). The mapping is described in [the parent](super).

use crate::guard;
use crate::json::{Json, Object};
use wit_parser::{Docs, Resolve, Type, TypeDefKind, TypeId};

/// How many bytes the schemas of all functions of a component may have together, about. Types are written out where they are used, with
/// their names and docs, so that a type made of two of another, made of two of another, and so on, or a long text that is used often,
/// would otherwise fill the memory of whoever reads the component: the operator's command, and then each agent.
const MAX_BYTES: usize = 1 << 20;

/// What a part of a schema has besides names and docs, in bytes: about as much as the keywords of an integer.
const PART_BYTES: usize = 64;

/// The deepest nesting of a type. A value of a deeper one would pass no limit on JSON.
const MAX_DEPTH: usize = 64;

/// Why a type has no JSON form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotJson(pub(super) String);

/// Writes the schemas of one component.
pub(super) struct Schemas<'a> {
    resolve: &'a Resolve,
    /// Bytes that there may still be.
    left: usize,
}

/// A named, documented part of a record, variant, enum or flags.
struct Member<'a> {
    name: &'a str,
    docs: &'a Docs,
    ty: Option<Type>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(resolve: &'a Resolve) -> Self {
        Self {
            resolve,
            left: MAX_BYTES,
        }
    }

    /// The schema of a value, or of nothing, which is `null`.
    pub(super) fn payload(&mut self, ty: Option<Type>) -> Result<Json, NotJson> {
        match ty {
            Some(ty) => self.value(ty, 0),
            None => self.part().map(|()| null()),
        }
    }

    /// With a description. That of a place (a member, a parameter) wins over that of its type.
    pub(super) fn described(&mut self, schema: Json, docs: Option<&str>) -> Result<Json, NotJson> {
        match (schema, docs) {
            (Json::Object(mut object), Some(docs)) => {
                self.take(docs.len())?;
                object.insert("description", docs);
                Ok(object.into())
            }
            (schema, _) => Ok(schema),
        }
    }

    /// Makes room for one part more.
    fn part(&mut self) -> Result<(), NotJson> {
        self.take(PART_BYTES)
    }

    /// Makes room for so many bytes of names and docs: before they are written.
    fn take(&mut self, bytes: usize) -> Result<(), NotJson> {
        let left = self.left.checked_sub(bytes);
        if !guard!("sandbox.schema-bytes", left.is_some()) {
            return Err(NotJson(format!(
                "its types with their names and docs, written out where they are used, and those of the functions before it, have more \
                 than {MAX_BYTES} bytes"
            )));
        }
        self.left = left.unwrap_or_default();
        Ok(())
    }

    /// The schema of a set of named values, with their descriptions. Those of an `option` type may be left out.
    pub(super) fn object<'b>(
        &mut self,
        members: impl IntoIterator<Item = (&'b str, Type, Option<&'b str>)>,
    ) -> Result<Object, NotJson> {
        self.members(members, 0)
    }

    fn members<'b>(
        &mut self,
        members: impl IntoIterator<Item = (&'b str, Type, Option<&'b str>)>,
        depth: usize,
    ) -> Result<Object, NotJson> {
        let mut properties = Object::default();
        let mut required = Vec::new();
        for (name, ty, docs) in members {
            // Those that have to be there are named twice.
            self.take(2 * name.len())?;
            let value = self.value(ty, depth)?;
            properties.insert(name, self.described(value, docs)?);
            if self.option(ty).is_none() {
                required.push(name);
            }
        }
        let mut object = typed("object");
        object.insert("properties", properties);
        if !required.is_empty() {
            object.insert("required", required);
        }
        object.insert("additionalProperties", false);
        Ok(object)
    }

    fn value(&mut self, ty: Type, depth: usize) -> Result<Json, NotJson> {
        self.part()?;
        if depth > MAX_DEPTH {
            return Err(NotJson(format!("a type in it nests deeper than {MAX_DEPTH}")));
        }
        match ty {
            Type::Bool => Ok(typed("boolean").into()),
            Type::U8 => Ok(integer(0, u8::MAX.into())),
            Type::U16 => Ok(integer(0, u16::MAX.into())),
            Type::U32 => Ok(integer(0, u32::MAX.into())),
            Type::S8 => Ok(integer(i8::MIN.into(), i8::MAX.into())),
            Type::S16 => Ok(integer(i16::MIN.into(), i16::MAX.into())),
            Type::S32 => Ok(integer(i32::MIN.into(), i32::MAX.into())),
            Type::U64 => Ok(wide_integer(0_u64, u64::MAX, "^(0|[1-9][0-9]{0,19})$")),
            Type::S64 => Ok(wide_integer(i64::MIN, i64::MAX, "^(0|-?[1-9][0-9]{0,18})$")),
            Type::F32 | Type::F64 => Ok(float()),
            Type::Char => Ok(character()),
            Type::String => Ok(typed("string").into()),
            Type::ErrorContext => Err(NotJson("it has an `error-context`, which has no JSON form".into())),
            Type::Id(id) => self.defined(id, depth + 1),
        }
    }

    fn defined(&mut self, id: TypeId, depth: usize) -> Result<Json, NotJson> {
        let resolve = self.resolve;
        let ty = &resolve.types[id];
        let docs = ty.docs.contents.as_deref();
        let schema = match &ty.kind {
            TypeDefKind::Type(ty) => self.value(*ty, depth)?,
            TypeDefKind::List(element) => self.list(*element, depth)?,
            TypeDefKind::Tuple(tuple) => self.tuple(&tuple.types, depth)?,
            TypeDefKind::Record(record) => {
                let members = record
                    .fields
                    .iter()
                    .map(|f| (f.name.as_str(), f.ty, f.docs.contents.as_deref()));
                self.members(members, depth)?.into()
            }
            TypeDefKind::Option(inner) => self.optional(*inner, depth)?,
            TypeDefKind::Result(result) => {
                let none = Docs::default();
                let cases = [("ok", result.ok), ("err", result.err)];
                let cases = cases.map(|(name, ty)| self.case(&Member { name, docs: &none, ty }, depth, true));
                one_of(cases.into_iter().collect::<Result<_, _>>()?).into()
            }
            TypeDefKind::Variant(variant) => {
                let cases = variant.cases.iter().map(|case| Member {
                    name: &case.name,
                    docs: &case.docs,
                    ty: case.ty,
                });
                one_of(
                    cases
                        .map(|case| self.case(&case, depth, false))
                        .collect::<Result<_, _>>()?,
                )
                .into()
            }
            TypeDefKind::Enum(cases) => {
                let members = cases.cases.iter().map(|case| (case.name.as_str(), &case.docs));
                return self.words(members, docs, |words| words);
            }
            TypeDefKind::Flags(flags) => {
                let members = flags.flags.iter().map(|flag| (flag.name.as_str(), &flag.docs));
                return self.words(members, docs, distinct);
            }
            TypeDefKind::Resource
            | TypeDefKind::Handle(_)
            | TypeDefKind::Map(..)
            | TypeDefKind::FixedLengthList(..)
            | TypeDefKind::Future(_)
            | TypeDefKind::Stream(_)
            | TypeDefKind::Unknown => {
                let kind = ty.kind.as_str();
                let name = ty.name.as_ref().map(|name| format!(" (`{name}`)")).unwrap_or_default();
                return Err(NotJson(format!("it has a {kind}{name}, which has no JSON form")));
            }
        };
        self.described(schema, docs)
    }

    fn list(&mut self, element: Type, depth: usize) -> Result<Json, NotJson> {
        if self.is_byte(element) {
            return Ok(bytes());
        }
        let mut list = typed("array");
        list.insert("items", self.value(element, depth)?);
        Ok(list.into())
    }

    fn tuple(&mut self, types: &[Type], depth: usize) -> Result<Json, NotJson> {
        let items = types
            .iter()
            .map(|ty| self.value(*ty, depth))
            .collect::<Result<Vec<_>, _>>()?;
        let length = items.len() as u64;
        let mut tuple = typed("array");
        tuple.insert("prefixItems", items);
        tuple.insert("items", false);
        tuple.insert("minItems", length);
        tuple.insert("maxItems", length);
        Ok(tuple.into())
    }

    fn optional(&mut self, inner: Type, depth: usize) -> Result<Json, NotJson> {
        let some = self.value(inner, depth)?;
        let some = if self.option(inner).is_some() {
            single("some", some)
        } else {
            some
        };
        Ok(Object::from([("anyOf", Json::from(vec![some, null()]))]).into())
    }

    /// One case of a variant (`wrapped` says whether one without payload is an object as well).
    fn case(&mut self, case: &Member<'_>, depth: usize, wrapped: bool) -> Result<Json, NotJson> {
        self.part()?;
        self.take(2 * case.name.len())?;
        let schema = match case.ty {
            None if !wrapped => Object::from([("const", Json::from(case.name))]).into(),
            None => single(case.name, null()),
            Some(ty) => single(case.name, self.value(ty, depth)?),
        };
        self.described(schema, case.docs.contents.as_deref())
    }

    /// A closed set of words. Their docs go into one description: the keyword `enum` has no place for them.
    fn words<'b>(
        &mut self,
        members: impl Iterator<Item = (&'b str, &'b Docs)>,
        docs: Option<&str>,
        shape: impl FnOnce(Json) -> Json,
    ) -> Result<Json, NotJson> {
        let mut names = Vec::new();
        let mut lines: Vec<String> = docs.map(str::to_owned).into_iter().collect();
        for (name, docs) in members {
            let docs = docs.contents.as_deref();
            // Here, and in the description again: that it is described as one text is counted once more below.
            self.take(name.len() + docs.map_or(0, |docs| docs.len() + name.len()) + 8)?;
            names.push(name);
            lines.extend(docs.map(|docs| format!("- `{name}`: {docs}")));
        }
        let mut schema = typed("string");
        schema.insert("enum", names);
        let lines = lines.join("\n");
        self.described(
            shape(schema.into()),
            Some(lines.as_str()).filter(|lines| !lines.is_empty()),
        )
    }

    /// What is optional, if the type is an `option`, by whatever name.
    pub(super) fn option(&self, ty: Type) -> Option<Type> {
        match self.plain(ty) {
            Type::Id(id) => match &self.resolve.types[id].kind {
                TypeDefKind::Option(inner) => Some(*inner),
                _ => None,
            },
            _ => None,
        }
    }

    /// The type behind all other names for it.
    pub(super) fn plain(&self, ty: Type) -> Type {
        plain(self.resolve, ty)
    }

    fn is_byte(&self, ty: Type) -> bool {
        self.plain(ty) == Type::U8
    }
}

/// The type behind all other names for it; behind more of them than a type may nest it is not looked for.
pub(super) fn plain(resolve: &Resolve, mut ty: Type) -> Type {
    for _ in 0..=MAX_DEPTH {
        let Type::Id(id) = ty else { break };
        let TypeDefKind::Type(other) = &resolve.types[id].kind else {
            break;
        };
        ty = *other;
    }
    ty
}

fn typed(name: &str) -> Object {
    Object::from([("type", name)])
}

fn null() -> Json {
    typed("null").into()
}

fn integer(minimum: i64, maximum: i64) -> Json {
    let mut schema = typed("integer");
    schema.insert("minimum", minimum);
    schema.insert("maximum", maximum);
    schema.into()
}

/// The range holds for integers, the pattern for strings: each keyword passes over values of the other type.
fn wide_integer<T: Into<Json>>(minimum: T, maximum: T, pattern: &str) -> Json {
    Object::from([
        ("type", Json::from(vec!["integer", "string"])),
        ("minimum", minimum.into()),
        ("maximum", maximum.into()),
        ("pattern", pattern.into()),
    ])
    .into()
}

fn float() -> Json {
    let words = Object::from([("enum", vec!["NaN", "Infinity", "-Infinity", "-0"])]);
    Object::from([("anyOf", Json::from(vec![typed("number"), words]))]).into()
}

fn character() -> Json {
    let mut schema = typed("string");
    schema.insert("minLength", 1_u64);
    schema.insert("maxLength", 1_u64);
    schema.into()
}

fn bytes() -> Json {
    let mut schema = typed("string");
    schema.insert("contentEncoding", "base64");
    schema.insert(
        "pattern",
        "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    );
    schema.into()
}

/// An object with exactly one member.
fn single(name: &str, schema: Json) -> Json {
    let mut object = typed("object");
    object.insert("properties", Object::from([(name, schema)]));
    object.insert("required", vec![name]);
    object.insert("additionalProperties", false);
    object.into()
}

fn one_of(schemas: Vec<Json>) -> Object {
    Object::from([("oneOf", schemas)])
}

/// An array without repetitions.
fn distinct(items: Json) -> Json {
    let mut schema = typed("array");
    schema.insert("items", items);
    schema.insert("uniqueItems", true);
    schema.into()
}
