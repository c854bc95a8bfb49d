//! Functions of nothing but bytes and text, called with Rust's own types: a megabyte is copied, not taken apart.

use ambit_core::error::Refusal;
use ambit_core::json::Json;
use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Instance, Lift as FromGuest, Lower};

use super::lift::Lift;
use super::lower::Lowered;
use super::shape::{Members, Shape};
use super::{Lifted, ResultShape};
use crate::sandbox::call::State;

/// What a function with a typed call returns. Its parameters are told by the arguments.
#[derive(Clone, Copy)]
pub(super) enum TypedCall {
    Nothing,
    Bytes,
    Text,
    /// `result<list<u8>, string>`
    BytesOrError,
    /// `result<string, string>`
    TextOrError,
    /// `result<_, string>`
    NothingOrError,
}

/// Arguments of a typed call.
pub(super) enum TypedArgs {
    None,
    Bytes(Vec<u8>),
    Text(String),
    TextBytes(String, Vec<u8>),
    BytesText(Vec<u8>, String),
    BytesBytes(Vec<u8>, Vec<u8>),
}

/// The result of a typed call.
pub(super) enum TypedResult {
    Nothing,
    Bytes(Vec<u8>),
    Text(String),
    Error(String),
}

impl TypedCall {
    /// The typed call of a function, where there is one that is worth it.
    pub(super) fn of(params: &Members, result: &ResultShape) -> Option<TypedCall> {
        let call = match result {
            ResultShape::Nothing => TypedCall::Nothing,
            ResultShape::Value(Shape::Bytes) => TypedCall::Bytes,
            ResultShape::Value(Shape::String) => TypedCall::Text,
            ResultShape::Fallible {
                ok: Some(Shape::Bytes),
                err: Some(Shape::String),
            } => TypedCall::BytesOrError,
            ResultShape::Fallible {
                ok: Some(Shape::String),
                err: Some(Shape::String),
            } => TypedCall::TextOrError,
            ResultShape::Fallible {
                ok: None,
                err: Some(Shape::String),
            } => TypedCall::NothingOrError,
            _ => return None,
        };
        let shapes: Vec<_> = params.iter().map(|(_, shape)| shape).collect();
        let (simple, takes_bytes) = match shapes.as_slice() {
            [] | [Shape::String] => (true, false),
            [Shape::Bytes]
            | [Shape::String, Shape::Bytes]
            | [Shape::Bytes, Shape::String]
            | [Shape::Bytes, Shape::Bytes] => (true, true),
            _ => (false, false),
        };
        let returns_bytes = matches!(call, TypedCall::Bytes | TypedCall::BytesOrError);
        (simple && (takes_bytes || returns_bytes)).then_some(call)
    }

    /// Runs the function.
    ///
    /// # Errors
    /// The engine's.
    pub(super) fn run(
        self,
        store: &mut Store<State>,
        instance: &Instance,
        index: &ComponentExportIndex,
        args: TypedArgs,
    ) -> wasmtime::Result<TypedResult> {
        let function = Function { store, instance, index };
        match args {
            TypedArgs::None => self.with(function, ()),
            TypedArgs::Bytes(bytes) => self.with(function, (bytes,)),
            TypedArgs::Text(text) => self.with(function, (text,)),
            TypedArgs::TextBytes(text, bytes) => self.with(function, (text, bytes)),
            TypedArgs::BytesText(bytes, text) => self.with(function, (bytes, text)),
            TypedArgs::BytesBytes(first, second) => self.with(function, (first, second)),
        }
    }

    fn with<P>(self, function: Function<'_>, params: P) -> wasmtime::Result<TypedResult>
    where
        P: ComponentNamedList + Lower,
    {
        use TypedResult::{Bytes, Error, Nothing, Text};
        Ok(match self {
            TypedCall::Nothing => {
                function.call::<P, ()>(params)?;
                Nothing
            }
            TypedCall::Bytes => Bytes(function.call::<P, (Vec<u8>,)>(params)?.0),
            TypedCall::Text => Text(function.call::<P, (String,)>(params)?.0),
            TypedCall::BytesOrError => function
                .call::<P, (Result<Vec<u8>, String>,)>(params)?
                .0
                .map_or_else(Error, Bytes),
            TypedCall::TextOrError => function
                .call::<P, (Result<String, String>,)>(params)?
                .0
                .map_or_else(Error, Text),
            TypedCall::NothingOrError => function
                .call::<P, (Result<(), String>,)>(params)?
                .0
                .map_or_else(Error, |()| Nothing),
        })
    }
}

struct Function<'a> {
    store: &'a mut Store<State>,
    instance: &'a Instance,
    index: &'a ComponentExportIndex,
}

impl Function<'_> {
    fn call<P, R>(self, params: P) -> wasmtime::Result<R>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + FromGuest,
    {
        self.instance
            .get_typed_func::<P, R>(&mut *self.store, self.index)?
            .call(self.store, params)
    }
}

impl TypedArgs {
    /// The arguments of a function whose signature [`TypedCall::of`] found simple.
    pub(super) fn new(lowered: Vec<Lowered>) -> Option<TypedArgs> {
        use Lowered::{Bytes, Text};
        let mut lowered = lowered.into_iter();
        Some(match (lowered.next(), lowered.next()) {
            (None, None) => TypedArgs::None,
            (Some(Bytes(bytes)), None) => TypedArgs::Bytes(bytes),
            (Some(Text(text)), None) => TypedArgs::Text(text),
            (Some(Text(text)), Some(Bytes(bytes))) => TypedArgs::TextBytes(text, bytes),
            (Some(Bytes(bytes)), Some(Text(text))) => TypedArgs::BytesText(bytes, text),
            (Some(Bytes(first)), Some(Bytes(second))) => TypedArgs::BytesBytes(first, second),
            _ => return None,
        })
    }
}

impl TypedResult {
    /// As JSON.
    ///
    /// # Errors
    /// `result` where it is too large.
    pub(super) fn lift(self, lift: &mut Lift) -> Result<Lifted, Refusal> {
        match self {
            TypedResult::Nothing => Ok(Lifted::Ok(Json::Null)),
            TypedResult::Bytes(bytes) => lift.bytes(&bytes).map(Lifted::Ok),
            TypedResult::Text(text) => lift.text(text).map(Lifted::Ok),
            TypedResult::Error(text) => lift.text(text).map(Lifted::Err),
        }
    }
}
