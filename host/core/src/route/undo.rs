//! How what a route did is taken back: written back as it was, or by another route of the same connection.

use serde::Deserialize;

use super::{Connection, Route, RouteError};
use crate::effect::{GuestBody, GuestRequest, Method};
use crate::field::FieldPath;
use crate::scope::Tier;

/// `undo` of a route: one of the two ways.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum UndoSpec {
    /// `"write-back"`.
    Word(UndoWord),
    /// `{ route = "refunds.cancel" }`.
    Route(UndoRoute),
}

/// A way that needs no more than its name.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UndoWord {
    /// The same method and path again, with each field that was sent as it was before.
    WriteBack,
}

/// The route that takes back what this one did.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoRoute {
    /// Its name, of the same connection: one method, one `{name}`, and no body.
    pub route: String,
}

/// How what a route did is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undo {
    /// The same method and path again, with each field that was sent as it was before.
    WriteBack,
    /// Through this route of the same connection, which names the object in its path.
    Route(String),
}

impl From<UndoSpec> for Undo {
    fn from(spec: UndoSpec) -> Self {
        match spec {
            UndoSpec::Word(UndoWord::WriteBack) => Self::WriteBack,
            UndoSpec::Route(UndoRoute { route }) => Self::Route(route),
        }
    }
}

impl Connection {
    /// What is undone is done by something that can be sent: an object is read before it is written back, and a route that takes back
    /// names one object, in its path alone.
    pub(super) fn check_undos(&self) -> Result<(), RouteError> {
        for route in &self.routes {
            if let Some(undo) = &route.undo
                && let Err(why) = self.check_undo(route, undo)
            {
                return Err(RouteError {
                    names: vec![route.name.clone()],
                    message: why,
                });
            }
        }
        Ok(())
    }

    fn check_undo(&self, route: &Route, undo: &Undo) -> Result<(), String> {
        if route.tiers() == [Tier::Read] {
            return Err("it has `undo`, and only reads: there is nothing to undo".to_owned());
        }
        match undo {
            Undo::WriteBack => check_write_back(route),
            Undo::Route(name) => {
                if !self.route(name).is_some_and(Route::takes_back_one_object) {
                    return Err(format!(
                        "`undo` goes through `{name}`, which is no route of this connection with one method that changes something, exactly one `{{name}}` in its path, and nothing required of a body"
                    ));
                }
                match route.object() {
                    Some(_) => Ok(()),
                    None => Err(format!(
                        "`undo` goes through `{name}`, and nothing says which object it did it to: add `object = {{ read = \"…\", id = \"…\" }}`, or with `answer = \"…\"` where the answer names it"
                    )),
                }
            }
        }
    }
}

fn check_write_back(route: &Route) -> Result<(), String> {
    let before = route.object().is_some_and(|object| !object.is_created());
    if !before {
        return Err(
            "`undo = \"write-back\"` needs to know how it was before: add `object = { read = \"…\", id = \"…\" }`, with an id that the request has"
                .to_owned(),
        );
    }
    let writes = |method: Method| matches!(method, Method::Post | Method::Put | Method::Patch);
    if !route.methods.iter().all(writes) || route.fields.is_empty() {
        return Err(
            "`undo = \"write-back\"` sends the fields again that were sent: it is for POST, PUT and PATCH with `fields`"
                .to_owned(),
        );
    }
    Ok(())
}

impl Route {
    /// How what it did is taken back, where the operator says so.
    #[must_use]
    pub const fn undo(&self) -> Option<&Undo> {
        self.undo.as_ref()
    }

    /// The request for one object, whose name fills its path: of its first method, and without a body. For what takes something back.
    pub(crate) fn of_one_object(&self, object: &str) -> Option<GuestRequest> {
        Some(GuestRequest {
            method: self.methods.iter().next()?,
            path: self.pattern.fill(&[object])?,
            query: Vec::new(),
            headers: Vec::new(),
            body: GuestBody::None,
        })
    }

    /// Whether a body may have this field.
    pub(crate) fn may_send(&self, field: &FieldPath) -> bool {
        self.fields.covers(field)
    }

    /// Whether it can take something back: it changes one object, which its path names, and takes no body for that.
    fn takes_back_one_object(&self) -> bool {
        let mut methods = self.methods.iter();
        let one = methods.next().is_some_and(|method| !method.is_safe()) && methods.next().is_none();
        let changes = self.tiers().iter().all(|tier| *tier > Tier::Read);
        one && changes
            && self.pattern.names().count() == 1
            && !self.pattern.has_rest()
            && self.required.is_empty()
            && self.money.is_none()
    }
}
