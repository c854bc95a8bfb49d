//! What a route changes, and how the host reads that: before, so that people know what they decide on, and after, so that
//! nobody has to take the service's word for it.

use serde::Deserialize;

use super::spec::one_field;
use super::{Connection, Route};
use crate::effect::{HttpRequest, Method, Methods, PathPattern};
use crate::error::{Code, Refusal, printable};
use crate::field::{FieldPath, FieldSet};
use crate::guard;
use crate::json::Json;
use crate::scope::Tier;

/// `object = { read = "customers.get", id = "{id}" }`: how to read what a route changes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectSpec {
    /// The route that it is read through: a GET of the same connection with exactly one `{name}`.
    pub read: String,
    /// Which object: `{capture}` of the route's own path, or a field of its body.
    pub id: Option<String>,
    /// In place of `id`, where the route creates it: the member of the answer that names it.
    pub answer: Option<String>,
    /// Whether the service answers with an ETag and honours `If-Match`.
    #[serde(default)]
    pub if_match: bool,
    /// Whether the object is gone afterwards: as it is after DELETE, unless this says otherwise.
    pub gone: Option<bool>,
}

/// How to read what a route changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    read: String,
    named: Named,
    if_match: bool,
    gone: bool,
}

/// Where the object's name is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    /// A segment of the request's path.
    Capture(String),
    /// A field of the request's body.
    Field(FieldPath),
    /// A member of the answer: there is nothing to read before.
    Answer(FieldPath),
}

/// A question of the host's own: what is this object now?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectQuestion {
    /// The route of the same connection that it goes through.
    pub route: String,
    /// The one object.
    pub object: String,
    /// Whether its ETag is wanted.
    pub with_etag: bool,
}

impl Object {
    pub(super) fn check(
        spec: ObjectSpec,
        methods: Methods,
        pattern: &PathPattern,
        fields: &FieldSet,
    ) -> Result<Object, String> {
        let help = "`object` takes { read = \"ROUTE\", id = \"{capture}\" }, { read = \"ROUTE\", id = \"FIELD\" } or { read = \"ROUTE\", answer = \"MEMBER\" }";
        let named = match (spec.id.as_deref(), spec.answer.as_deref()) {
            (Some(id), None) => Named::of(id, pattern, fields)?,
            (None, Some(member)) => Named::Answer(one_field("object.answer", member)?),
            _ => return Err(help.to_owned()),
        };
        let created = matches!(named, Named::Answer(_));
        if created && spec.if_match {
            return Err(
                "`object.if_match` is about what there was before, and `object.answer` about what the route creates"
                    .to_owned(),
            );
        }
        let gone = spec
            .gone
            .unwrap_or_else(|| methods.iter().all(|method| method == Method::Delete));
        if created && gone {
            return Err("what `object.answer` names is created by the route: it cannot be gone afterwards".to_owned());
        }
        Ok(Object {
            read: spec.read,
            named,
            if_match: spec.if_match,
            gone,
        })
    }

    /// The route that it is read through.
    #[must_use]
    pub fn read(&self) -> &str {
        &self.read
    }

    /// Whether it is sent with `If-Match`: where not, the last write wins.
    #[must_use]
    pub const fn if_match(&self) -> bool {
        self.if_match
    }

    /// Whether it is gone afterwards.
    #[must_use]
    pub const fn gone(&self) -> bool {
        self.gone
    }

    /// Whether the route creates it, so that there is nothing to read before.
    #[must_use]
    pub const fn is_created(&self) -> bool {
        matches!(self.named, Named::Answer(_))
    }

    /// Whether which object it is stands in the body.
    pub(super) const fn is_in_body(&self) -> bool {
        matches!(self.named, Named::Field(_))
    }

    /// The field of the body that names it, where the path does not.
    #[must_use]
    pub const fn id_field(&self) -> Option<&FieldPath> {
        match &self.named {
            Named::Field(field) => Some(field),
            Named::Capture(_) | Named::Answer(_) => None,
        }
    }

    /// What to ask before and after a request: none where its answer alone names the object.
    ///
    /// # Errors
    /// [`Code::Object`] where the request does not name one object.
    pub fn question(&self, route: &Route, request: &HttpRequest) -> Result<Option<ObjectQuestion>, Refusal> {
        let (name, place) = match &self.named {
            Named::Answer(_) => return Ok(None),
            Named::Capture(name) => {
                let captures = route.captures(request).unwrap_or_default();
                (captures.get(name).cloned(), format!("{{{name}}}"))
            }
            Named::Field(field) => (one_name(field, request.fields()), field.to_string()),
        };
        let object = name.ok_or_else(|| {
            let why = format!("the request's `{place}`, which names the object that it changes, is not one name");
            Refusal::new(Code::Object, why)
        })?;
        Ok(Some(self.ask(object)))
    }

    /// What to ask after a request whose answer names the object; none where it names none.
    #[must_use]
    pub fn question_of_answer(&self, answer: &Json) -> Option<ObjectQuestion> {
        match &self.named {
            Named::Answer(member) => one_name(member, answer).map(|object| self.ask(object)),
            Named::Capture(_) | Named::Field(_) => None,
        }
    }

    fn ask(&self, object: String) -> ObjectQuestion {
        ObjectQuestion {
            route: self.read.clone(),
            object,
            with_etag: self.if_match,
        }
    }
}

impl Named {
    fn of(id: &str, pattern: &PathPattern, fields: &FieldSet) -> Result<Named, String> {
        if let Some(name) = id.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            if !pattern.names().any(|known| known == name) {
                return Err(format!(
                    "`object.id` is `{id}`, and the route's path has no such segment"
                ));
            }
            return Ok(Named::Capture(name.to_owned()));
        }
        let field = one_field("object.id", id)?;
        if !fields.covers(&field) {
            return Err(format!("`object.id` is `{field}`, which `fields` does not allow"));
        }
        Ok(Named::Field(field))
    }
}

/// The one text or whole number at a place.
fn one_name(field: &FieldPath, within: &Json) -> Option<String> {
    match field.select(within).as_slice() {
        [Json::String(text)] if !text.is_empty() => Some(text.clone()),
        [Json::Number(number)] if number.is_integer() => Some(number.to_string()),
        _ => None,
    }
}

impl ObjectQuestion {
    /// The request, and the route it takes.
    ///
    /// # Errors
    /// [`Code::Object`] where the object's name cannot stand in a path, or the path leads to another route.
    pub fn request<'c>(&self, connection: &'c Connection) -> Result<(HttpRequest, &'c Route), Refusal> {
        let refuse = || {
            let object = printable(&self.object);
            Refusal::new(
                Code::Object,
                format!("the object `{object}` cannot be read through route `{}`", self.route),
            )
        };
        let route = connection.route(&self.route).ok_or_else(refuse)?;
        let request = route.one_object(connection, &self.object).ok_or_else(refuse)?;
        // The object's name is the guest's, or its service's: it must not make the path one of another route.
        let found = connection.find(&request).map_err(|_| refuse())?;
        if !guard!("object.read-route", found.route.name() == self.route) {
            return Err(refuse());
        }
        Ok((request, route))
    }
}

impl Connection {
    /// An object is read through a route of the same connection that reads one object, and shows something of it.
    pub(super) fn check_objects(&self) -> Result<(), super::RouteError> {
        for route in &self.routes {
            let Some(object) = &route.object else { continue };
            let only_reads = |read: &&Route| read.reads_one_object() && read.tiers() == [Tier::Read];
            let read = self.route(&object.read).filter(only_reads);
            let why = match read {
                None => {
                    "which is no GET route of this connection that only reads, with exactly one `{name}` in its path"
                }
                Some(read) if read.reads().is_empty() => "which reads nothing: give it `reads`",
                Some(_) => continue,
            };
            let message = format!(
                "route `{}` reads what it changes through `{}`, {why}",
                route.name, object.read
            );
            return Err(super::RouteError {
                names: vec![route.name.clone()],
                message,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
