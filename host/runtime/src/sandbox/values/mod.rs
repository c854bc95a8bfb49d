//! JSON to component values and back, driven by the component's own types.
//!
//! | WIT | JSON |
//! |---|---|
//! | `bool` | true, false |
//! | integers | an integer; beyond 2^53 - 1 in magnitude a decimal string (`s64`, `u64` take both) |
//! | `f32`, `f64` | a number, or `"NaN"`, `"Infinity"`, `"-Infinity"`, `"-0"`: canonical JSON has one zero |
//! | `char`, `string` | a string |
//! | `list<u8>` | base64 (RFC 4648, with padding) |
//! | `list<T>`, `tuple` | an array |
//! | `record` | an object; members of `option` type may be absent or null, others must be there, unknown ones may not |
//! | `option<T>` | the value or null; `option<option<T>>` is null or `{"some": …}` |
//! | `variant` | `"case"` without payload, `{"case": payload}` with one |
//! | `enum` | a string |
//! | `flags` | an array of different strings |
//! | `result<T, E>` | `{"ok": …}` or `{"err": …}`, null where there is no payload |
//!
//! The result of a function that is a `result` is unwrapped: its error is the tool's error, not a value.
//!
//! What can be decided when a tool is loaded is decided then: a [`Shape`] per type, and for functions of nothing but
//! bytes and text a typed call, as the dynamic one takes tens of nanoseconds for each byte.

mod bytes;
#[doc(hidden)]
pub mod fuzz;
mod lift;
mod lower;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use ambit_core::error::{Code, Refusal};
use ambit_core::grant::Limits;
use ambit_core::json::Json;
use ambit_core::manifest::{ExportPath, Manifest};
use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, Instance, Val};

use self::bytes::{TypedArgs, TypedCall, TypedResult};
use self::shape::{Members, Shape};
use super::call::State;

/// The functions of a component by their id in the manifest.
pub(super) struct Exports(HashMap<String, Export>);

impl Exports {
    /// Looks up every function of the manifest.
    ///
    /// # Errors
    /// `load`, naming the function, where its type has no JSON form.
    pub(super) fn plan(component: &Component, manifest: &Manifest) -> Result<Exports, Refusal> {
        let functions = manifest.functions.iter();
        let exports = functions.map(|function| {
            let export = Export::plan(component, &function.export).map_err(|why| {
                Refusal::new(
                    Code::Load,
                    format!("the function `{}` cannot be called with JSON: {why}", function.id),
                )
            })?;
            Ok((function.id.clone(), export))
        });
        exports.collect::<Result<_, _>>().map(Exports)
    }

    pub(super) fn get(&self, id: &str) -> Option<&Export> {
        self.0.get(id)
    }
}

/// A function, and how its values are converted.
pub(super) struct Export {
    index: ComponentExportIndex,
    params: Members,
    result: ResultShape,
    typed: Option<TypedCall>,
}

/// What a function returns.
enum ResultShape {
    Nothing,
    Value(Shape),
    /// A `result`, unwrapped.
    Fallible {
        ok: Option<Shape>,
        err: Option<Shape>,
    },
}

/// Arguments as the component takes them.
pub(super) struct Args(Passed);

enum Passed {
    Dynamic(Vec<Val>),
    Typed(TypedCall, TypedArgs),
}

/// What the component returned.
pub(super) struct Results(Returned);

enum Returned {
    Dynamic(Option<Val>),
    Typed(TypedResult),
}

/// A result as JSON.
pub(super) enum Lifted {
    Ok(Json),
    Err(Json),
}

impl Export {
    fn plan(component: &Component, path: &ExportPath) -> Result<Export, String> {
        let missing = || "it is not exported".to_owned();
        let interface = match &path.interface {
            Some(name) => Some(component.get_export_index(None, name).ok_or_else(missing)?),
            None => None,
        };
        let (item, index) = component
            .get_export(interface.as_ref(), &path.function)
            .ok_or_else(missing)?;
        let ComponentItem::ComponentFunc(function) = item else {
            return Err("it is not a function".to_owned());
        };
        let params = function
            .params()
            .map(|(name, ty)| Ok((name.to_owned(), Shape::of(&ty)?)));
        let params = Members::new(params.collect::<Result<_, String>>()?);
        let result = match function.results().next() {
            None => ResultShape::Nothing,
            Some(ty) => match Shape::of(&ty)? {
                Shape::Result(sides) => ResultShape::Fallible {
                    ok: sides.0,
                    err: sides.1,
                },
                other => ResultShape::Value(other),
            },
        };
        let typed = TypedCall::of(&params, &result);
        Ok(Export {
            index,
            params,
            result,
            typed,
        })
    }

    /// The arguments of a call, from an object with a member for each parameter.
    ///
    /// # Errors
    /// `arguments`, saying where and what was expected.
    pub(super) fn lower(&self, args: &Json, limits: &Limits) -> Result<Args, Refusal> {
        lower::check_size(args, limits)?;
        let lowered = lower::arguments(&self.params, args)?;
        match self.typed {
            Some(call) => Ok(Args(Passed::Typed(
                call,
                TypedArgs::new(lowered).ok_or_else(lower::mistyped)?,
            ))),
            None => Ok(Args(Passed::Dynamic(lower::values(lowered)))),
        }
    }

    /// Runs the function.
    ///
    /// # Errors
    /// The engine's: a trap, or what a host function ended the call with.
    pub(super) fn call(&self, store: &mut Store<State>, instance: &Instance, args: Args) -> wasmtime::Result<Results> {
        let returned = match args.0 {
            Passed::Typed(call, args) => Returned::Typed(call.run(store, instance, &self.index, args)?),
            Passed::Dynamic(values) => {
                let missing = || wasmtime::format_err!("the instance lacks a function that its component exports");
                let function = instance.get_func(&mut *store, self.index).ok_or_else(missing)?;
                let mut results = [Val::Bool(false)];
                let count = usize::from(!matches!(self.result, ResultShape::Nothing));
                let slots = results.get_mut(..count).unwrap_or_default();
                function.call(store, &values, slots)?;
                let [result] = results;
                Returned::Dynamic((count == 1).then_some(result))
            }
        };
        Ok(Results(returned))
    }

    /// The result as JSON.
    ///
    /// # Errors
    /// `result` where it is larger or deeper than `limits` allow.
    pub(super) fn lift(&self, results: Results, limits: &Limits) -> Result<Lifted, Refusal> {
        let mut lift = lift::Lift::new(limits);
        match results.0 {
            Returned::Typed(result) => result.lift(&mut lift),
            Returned::Dynamic(result) => match (&self.result, result) {
                (ResultShape::Value(shape), Some(value)) => lift.value(shape, value).map(Lifted::Ok),
                (ResultShape::Fallible { ok, .. }, Some(Val::Result(Ok(value)))) => {
                    lift.payload(ok.as_ref(), value).map(Lifted::Ok)
                }
                (ResultShape::Fallible { err, .. }, Some(Val::Result(Err(value)))) => {
                    lift.payload(err.as_ref(), value).map(Lifted::Err)
                }
                (ResultShape::Nothing, None) => Ok(Lifted::Ok(Json::Null)),
                _ => Err(lift::mistyped()),
            },
        }
    }
}
