//! What a component offers: its functions with their tiers, their way back, and the JSON form of what goes in and out.

use super::decode::Decoded;
use super::imports::{MAX_NAME, mark};
use super::schema::{NotJson, Schemas, plain};
use crate::error::{Code, Refusal, printable};
use crate::guard;
use crate::json::{Json, Object};
use crate::scope::FunctionScope;
use std::collections::BTreeMap;
use wit_parser::{FunctionKind, Resolve, Result_, Type, TypeDefKind, WorldItem, WorldKey};

/// The dialect of every schema.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A function that can be called.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// `refunds.create`: the interface's name without package and version, a dot, the function's name. A function that
    /// the world itself exports has its name alone.
    pub id: String,
    /// Where it is in the component.
    pub export: ExportPath,
    /// Its doc comment.
    pub docs: Option<String>,
    /// What it says about itself: tier, undo, idempotency. Silence is `commit`.
    pub declared: FunctionScope,
    /// What takes it back, if it says so, and how that is called.
    pub undo: Option<Undo>,
    /// Its parameters in order, with the schema of each.
    pub params: Vec<(String, Json)>,
    /// Schema of its arguments, an object with a member for each parameter.
    pub input_schema: Json,
    /// Schema of its value: of `ok` where it returns a `result`, `null` where it returns nothing.
    pub output_schema: Json,
    /// Schema of the tool's error, where it returns a `result`.
    pub error_schema: Option<Json>,
}

/// Where a function is in a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportPath {
    /// Name of the exported instance, such as `acme:refunds/refunds@1.2.0`; none for a function of the world itself.
    pub interface: Option<String>,
    /// Name of the function.
    pub function: String,
}

/// How a function is taken back: checked when the component is read, used when it has to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undo {
    /// Id of the function that does it.
    pub function: String,
    /// Its parameters, and what each is filled with. Those that are left out are optional.
    pub params: Vec<(String, Source)>,
}

/// Where an undo takes an argument from: a value of the same name and type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The arguments of the call that is undone.
    Argument,
    /// A member of its `ok` value.
    Result,
}

/// Reads all exported functions, in the component's order.
pub(super) fn read(decoded: &Decoded) -> Result<Vec<Function>, Refusal> {
    let exports = exports(decoded)?;
    let mut schemas = Schemas::new(&decoded.resolve);
    let read = exports.iter().map(|export| export.read(&mut schemas));
    let mut functions = read.collect::<Result<Vec<_>, _>>()?;
    // Types are compared once they are known to be of a size that can be.
    let by_path: ByPath<'_, '_> = exports
        .iter()
        .map(|export| {
            (
                (export.path.interface.as_deref(), export.path.function.as_str()),
                export,
            )
        })
        .collect();
    for (function, export) in functions.iter_mut().zip(&exports) {
        if let Some(target) = function.declared.undo.as_deref() {
            function.undo = Some(export.undo(target, &by_path)?);
        }
    }
    Ok(functions)
}

/// Exports by interface and name.
type ByPath<'e, 'a> = BTreeMap<(Option<&'e str>, &'e str), &'e Export<'a>>;

struct Export<'a> {
    resolve: &'a Resolve,
    id: String,
    path: ExportPath,
    function: &'a wit_parser::Function,
}

fn exports(decoded: &Decoded) -> Result<Vec<Export<'_>>, Refusal> {
    let resolve = &decoded.resolve;
    let mut exports = Vec::new();
    for (key, item) in &resolve.worlds[decoded.world].exports {
        match item {
            WorldItem::Function(function) => {
                let path = ExportPath {
                    interface: None,
                    function: function.name.clone(),
                };
                exports.push(Export {
                    resolve,
                    id: function.name.clone(),
                    path,
                    function,
                });
            }
            WorldItem::Interface { id, external_id, .. } => {
                let instance = resolve.name_world_key(key);
                no_scope(&instance, external_id.is_some())?;
                let short = match key {
                    WorldKey::Name(name) => name,
                    WorldKey::Interface(_) => resolve.interfaces[*id].name.as_ref().unwrap_or(&instance),
                };
                exports.extend(resolve.interfaces[*id].functions.values().map(|function| Export {
                    resolve,
                    id: format!("{short}.{}", function.name),
                    path: ExportPath {
                        interface: Some(instance.clone()),
                        function: function.name.clone(),
                    },
                    function,
                }));
            }
            WorldItem::Type { .. } => {}
        }
    }
    check_names(&exports)?;
    Ok(exports)
}

/// A scope where none is read would look like a rule and be none.
fn no_scope(instance: &str, declared: bool) -> Result<(), Refusal> {
    if !guard!("scope.meaningless", !declared) {
        let message = format!(
            "the exported interface `{}` has an `@external-id`, but takes none",
            printable(instance)
        );
        return Err(Refusal::new(Code::Load, message).advise("write it on each of its functions"));
    }
    Ok(())
}

fn check_names(exports: &[Export<'_>]) -> Result<(), Refusal> {
    if exports.is_empty() {
        return Err(Refusal::new(
            Code::Load,
            "the component exports no function: there is nothing to call",
        )
        .advise("export an interface or a function from its world"));
    }
    let mut seen = BTreeMap::new();
    for export in exports {
        if export.id.len() > 2 * MAX_NAME {
            let message = format!("the function `{}` has too long a name", printable(&export.id));
            return Err(Refusal::new(Code::Load, message).advise(format!(
                "interface and function together have at most {} characters",
                2 * MAX_NAME
            )));
        }
        if let Some(first) = seen.insert(export.id.as_str(), &export.path) {
            let of = |path: &ExportPath| path.interface.clone().unwrap_or_else(|| "the world".into());
            let message = format!(
                "two functions would both be called `{}`: one of {}, one of {}",
                export.id,
                printable(&of(first)),
                printable(&of(&export.path))
            );
            return Err(Refusal::new(Code::Load, message).advise("rename one of the interfaces"));
        }
    }
    Ok(())
}

impl Export<'_> {
    /// All of it but its way back.
    fn read(&self, schemas: &mut Schemas<'_>) -> Result<Function, Refusal> {
        if !guard!(
            "sandbox.json-function",
            self.function.kind == FunctionKind::Freestanding
        ) {
            return Err(self.not_json(NotJson("it is asynchronous, or belongs to a resource".into())));
        }
        let declared = self.declared()?;
        let about = param_docs(self.function.docs.contents.as_deref().unwrap_or_default());
        let params = self.params(schemas, &about).map_err(|why| self.not_json(why))?;
        let input_schema = self.input(schemas, &about).map_err(|why| self.not_json(why))?;
        let (output_schema, error_schema) = self.output(schemas).map_err(|why| self.not_json(why))?;
        Ok(Function {
            id: self.id.clone(),
            export: self.path.clone(),
            docs: self.function.docs.contents.clone(),
            declared,
            undo: None,
            params,
            input_schema,
            output_schema,
            error_schema,
        })
    }

    fn declared(&self) -> Result<FunctionScope, Refusal> {
        let Some(text) = self.function.external_id.as_deref() else {
            return Ok(FunctionScope::default());
        };
        FunctionScope::parse(text).map_err(|error| {
            let marked = mark(text, error.offset);
            let message = format!(
                "the declaration of the function `{}` does not parse: {} ({marked})",
                self.id, error.message
            );
            let refusal = Refusal::new(Code::Load, message);
            match error.help {
                Some(help) => refusal.advise(help),
                None => refusal.advise("write `read`, `draft` or `commit`, then `undo(name)` or `idempotent`"),
            }
        })
    }

    fn params(
        &self,
        schemas: &mut Schemas<'_>,
        about: &BTreeMap<&str, String>,
    ) -> Result<Vec<(String, Json)>, NotJson> {
        let schema = |schemas: &mut Schemas<'_>, param: &wit_parser::Param| {
            let schema = schemas.payload(Some(param.ty))?;
            let about = about.get(param.name.as_str()).map(String::as_str);
            Ok((param.name.clone(), schemas.described(schema, about)?))
        };
        self.function
            .params
            .iter()
            .map(|param| schema(schemas, param))
            .collect()
    }

    fn input(&self, schemas: &mut Schemas<'_>, about: &BTreeMap<&str, String>) -> Result<Json, NotJson> {
        let params = &self.function.params;
        let members = params
            .iter()
            .map(|p| (p.name.as_str(), p.ty, about.get(p.name.as_str()).map(String::as_str)));
        let object = schemas.object(members)?;
        let described = schemas.described(object.into(), self.function.docs.contents.as_deref());
        described.map(root)
    }

    fn output(&self, schemas: &mut Schemas<'_>) -> Result<(Json, Option<Json>), NotJson> {
        match self.result() {
            Some(result) => {
                let error = schemas.payload(result.err)?;
                Ok((root(schemas.payload(result.ok)?), Some(root(error))))
            }
            None => Ok((root(schemas.payload(self.function.result)?), None)),
        }
    }

    /// The `result` that the function returns, if it returns one.
    fn result(&self) -> Option<&Result_> {
        match plain(self.resolve, self.function.result?) {
            Type::Id(id) => match &self.resolve.types[id].kind {
                TypeDefKind::Result(result) => Some(result),
                _ => None,
            },
            _ => None,
        }
    }

    /// Finds a function of the same interface, and each of its parameters by name and type.
    fn undo(&self, target: &str, all: &ByPath<'_, '_>) -> Result<Undo, Refusal> {
        let found = all.get(&(self.path.interface.as_deref(), target)).copied();
        let Some(found) = found.filter(|found| found.id != self.id) else {
            let message = format!(
                "`{}` says undo({target}), but there is no other function `{target}` beside it",
                self.id
            );
            return Err(Refusal::new(Code::Load, message).advise("name a function of the same interface"));
        };
        let mut params = Vec::new();
        for param in &found.function.params {
            match self.source(&param.name, param.ty) {
                Ok(Some(source)) => params.push((param.name.clone(), source)),
                Ok(None) if is_optional(self.resolve, param.ty) => {}
                Ok(None) if guard!("scope.undo", false) => {}
                Ok(None) => {
                    return Err(self.unresolved(
                        found,
                        &param.name,
                        "is neither among its arguments nor in its result",
                    ));
                }
                Err(()) => return Err(self.unresolved(found, &param.name, "has another type there")),
            }
        }
        Ok(Undo {
            function: found.id.clone(),
            params,
        })
    }

    /// What was made says more than what was asked for: the result comes first.
    fn source(&self, name: &str, ty: Type) -> Result<Option<Source>, ()> {
        let argument = self
            .function
            .params
            .iter()
            .find(|param| param.name == name)
            .map(|param| param.ty);
        let candidates = [(self.result_member(name), Source::Result), (argument, Source::Argument)];
        let mut named = false;
        for (candidate, source) in candidates {
            if let Some(candidate) = candidate {
                named = true;
                if same(self.resolve, candidate, ty) {
                    return Ok(Some(source));
                }
            }
        }
        if named { Err(()) } else { Ok(None) }
    }

    /// The type of a member of the function's value, where that is a record.
    fn result_member(&self, name: &str) -> Option<Type> {
        let value = match self.result() {
            Some(result) => result.ok?,
            None => self.function.result?,
        };
        let Type::Id(id) = plain(self.resolve, value) else {
            return None;
        };
        let TypeDefKind::Record(record) = &self.resolve.types[id].kind else {
            return None;
        };
        record
            .fields
            .iter()
            .find(|field| field.name == name)
            .map(|field| field.ty)
    }

    fn unresolved(&self, target: &Export<'_>, param: &str, why: &str) -> Refusal {
        let name = &target.path.function;
        let message = format!(
            "`{}` says undo({name}), but the parameter `{param}` of `{name}` {why}",
            self.id
        );
        Refusal::new(Code::Load, message)
            .advise("the parameters of an undo are found by name and type in the function's arguments and its ok value")
    }

    fn not_json(&self, NotJson(why): NotJson) -> Refusal {
        let message = format!(
            "the function `{}` cannot be called with JSON: {}",
            printable(&self.id),
            printable(&why)
        );
        Refusal::new(Code::Load, message).advise(
            "use records, variants, lists and plain values, and leave resources and streams inside the component",
        )
    }
}

/// A schema that stands alone.
fn root(schema: Json) -> Json {
    match schema {
        Json::Object(mut object) => {
            object.insert("$schema", DIALECT);
            object.into()
        }
        other => Object::from([("allOf", Json::from(vec![other]))]).into(),
    }
}

/// Descriptions of parameters, which WIT has no doc comments for: the items of a list in the function's,
/// ``- `charge`: id of the charge``, each up to the next item or empty line.
fn param_docs(docs: &str) -> BTreeMap<&str, String> {
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    let mut current = None;
    for line in docs.lines().map(str::trim) {
        let item = line.strip_prefix("- `").and_then(|rest| rest.split_once("`:"));
        match (item, current) {
            (Some((name, text)), _) => {
                current = Some(name);
                found.insert(name, text.trim().to_owned());
            }
            (None, Some(name)) if !line.is_empty() && !line.starts_with("- ") => {
                if let Some(text) = found.get_mut(name) {
                    text.push(' ');
                    text.push_str(line);
                }
            }
            _ => current = None,
        }
    }
    found
}

fn is_optional(resolve: &Resolve, ty: Type) -> bool {
    matches!(plain(resolve, ty), Type::Id(id) if matches!(resolve.types[id].kind, TypeDefKind::Option(_)))
}

/// Whether two types are the same: by identity where they are declared, by structure where they are not.
fn same(resolve: &Resolve, a: Type, b: Type) -> bool {
    let (Type::Id(a), Type::Id(b)) = (plain(resolve, a), plain(resolve, b)) else {
        return plain(resolve, a) == plain(resolve, b);
    };
    if a == b {
        return true;
    }
    let both = |a: Option<Type>, b: Option<Type>| match (a, b) {
        (Some(a), Some(b)) => same(resolve, a, b),
        (a, b) => a == b,
    };
    match (&resolve.types[a].kind, &resolve.types[b].kind) {
        (TypeDefKind::Option(a), TypeDefKind::Option(b)) | (TypeDefKind::List(a), TypeDefKind::List(b)) => {
            same(resolve, *a, *b)
        }
        (TypeDefKind::Tuple(a), TypeDefKind::Tuple(b)) => {
            a.types.len() == b.types.len() && a.types.iter().zip(&b.types).all(|(a, b)| same(resolve, *a, *b))
        }
        (TypeDefKind::Result(a), TypeDefKind::Result(b)) => both(a.ok, b.ok) && both(a.err, b.err),
        _ => false,
    }
}
