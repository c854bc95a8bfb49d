//! The request that takes one effect back.

use serde::{Deserialize, Serialize};

use crate::effect::{BodyKind, GuestBody, GuestRequest, HttpRequest, MASKED, Method, WireLimits, is_free};
use crate::field::{ConcretePath, ConcreteStep, FieldPath, FieldSet, leaves};
use crate::guard;
use crate::json::{Json, Object};
use crate::object::{self, Sent};
use crate::route::{Connection, Route, Undo};

/// What is recorded of an effect that happened.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// What was sent.
    pub request: &'a HttpRequest,
    /// The body of the answer, as far as it was read; none where nobody saw it.
    pub answer: Option<&'a Json>,
    /// What there was before, as it was read then: `{"object": …}`; none where nothing was read.
    pub before: Option<&'a Json>,
}

/// What takes an effect back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inverse {
    /// The route that it takes.
    pub route: String,
    /// The request: the operator's configuration asks for it, so these are the host's words.
    pub words: GuestRequest,
    /// What the effect wrote, where that is written over: it has to be there still.
    pub wrote: Option<Wrote>,
}

/// What an effect wrote, as it is held against what is there before something else is written over it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrote {
    /// The fields of its body.
    fields: Json,
    /// Whether they are a form's, all texts.
    form: bool,
}

impl Wrote {
    fn of(request: &HttpRequest) -> Self {
        Self {
            fields: request.fields().clone(),
            form: request.body_kind() == Some(BodyKind::Form),
        }
    }

    /// What is not as the effect wrote it, in a few words; none where all of it is, as far as it is read. `now` is the object as it is,
    /// `reads` what is read of it. A credential that stood in a field is not recorded, so that field is not compared.
    #[must_use]
    pub fn changed(&self, now: &object::Image, reads: &FieldSet) -> Option<String> {
        let sent = Sent {
            fields: &self.fields,
            form: self.form,
        };
        let Some(there) = &now.object else {
            return Some("it is not there any more".to_owned());
        };
        let another = object::not_as_sent(sent, there, reads);
        let mut another = another.into_iter().filter(|(_, sent)| !is_masked(sent));
        another
            .next()
            .map(|(field, _)| format!("`{field}` is not as the effect wrote it"))
    }
}

/// The request that takes an effect back, as its route says today.
///
/// # Errors
/// What is in the way, in a few words.
pub fn inverse(connection: &Connection, route: &Route, recorded: &Recorded<'_>) -> Result<Inverse, String> {
    if !guard!("undo.origin", recorded.request.origin() == connection.origin()) {
        return Err("its connection leads to another origin now".to_owned());
    }
    if !guard!(
        "undo.place",
        connection
            .find(recorded.request)
            .is_ok_and(|found| found.route.name() == route.name())
    ) {
        return Err("what was sent would take another route now".to_owned());
    }
    let inverse = match route.undo() {
        None => return Err("no `undo` on its route".to_owned()),
        Some(Undo::Route(name)) => by_route(connection, route, name, recorded)?,
        Some(Undo::WriteBack) => write_back(connection, route, recorded)?,
    };
    leads(connection, inverse)
}

/// That what would be sent is a request of the route that it is meant for: the object's name is the service's word, or a guest's.
fn leads(connection: &Connection, inverse: Inverse) -> Result<Inverse, String> {
    let limits = WireLimits {
        body_bytes: usize::MAX,
        ..WireLimits::default()
    };
    let request = HttpRequest::parse(connection.origin(), &inverse.words, &limits);
    let request = request.map_err(|refusal| refusal.message)?;
    let there = connection
        .find(&request)
        .is_ok_and(|found| found.route.name() == inverse.route);
    if !guard!("undo.leads", there) {
        return Err(format!(
            "the object's name makes it no request of route `{}`",
            inverse.route
        ));
    }
    Ok(inverse)
}

/// Another route of the same connection, with the object's name in its path and nothing else.
fn by_route(connection: &Connection, route: &Route, name: &str, recorded: &Recorded<'_>) -> Result<Inverse, String> {
    let object = object(route, recorded)?;
    let undoing = connection
        .route(name)
        .ok_or_else(|| format!("there is no route `{name}` any more"))?;
    let words = undoing.of_one_object(&object);
    let words = words.ok_or_else(|| format!("`{name}` cannot name the object in its path"))?;
    // Which account of a service is meant can stand in a header: what both routes let be set is set again.
    let headers = recorded.request.headers().iter();
    let headers = headers.filter(|(header, value)| is_free(header, value) || undoing.headers().contains(header));
    Ok(Inverse {
        route: name.to_owned(),
        words: GuestRequest {
            headers: headers.cloned().collect(),
            ..words
        },
        wrote: None,
    })
}

/// The name of the object that the effect changed or made.
fn object(route: &Route, recorded: &Recorded<'_>) -> Result<String, String> {
    let object = route.object().ok_or("nothing says which object it was")?;
    let of_request = object
        .question(route, recorded.request)
        .map_err(|refusal| refusal.message)?;
    let question = match (of_request, recorded.answer) {
        (Some(question), _) => Some(question),
        (None, Some(answer)) => object.question_of_answer(answer),
        (None, None) => return Err("nobody saw its answer, which names the object".to_owned()),
    };
    let question = question.ok_or("its recorded answer does not name the object")?;
    if !guard!("undo.masked", !question.object.contains(MASKED)) {
        return Err("the object's name has a credential in it, which is not recorded".to_owned());
    }
    Ok(question.object)
}

/// Whether a credential stood there: what is recorded is not what was.
fn is_masked(value: &Json) -> bool {
    value.as_str().is_some_and(|text| text.contains(MASKED))
}

/// The same request again, with each field that was sent as it was before.
fn write_back(connection: &Connection, route: &Route, recorded: &Recorded<'_>) -> Result<Inverse, String> {
    let request = recorded.request;
    let object = route.object().ok_or("nothing says which object it was")?;
    let before = recorded.before.and_then(|before| before.get("object"));
    let before = match before {
        None => return Err("how it was before was not read".to_owned()),
        Some(Json::Null) => return Err("there was no such object before".to_owned()),
        Some(before) => before,
    };
    let read = connection.route(object.read()).map(Route::reads);
    let read = read.ok_or_else(|| format!("there is no route `{}` any more", object.read()))?;
    let image = Image {
        before,
        read,
        id: object.id_field(),
    };
    if request.method() == Method::Put
        && let Some(lost) = image.not_sent(request.fields(), route)
        && !guard!("undo.put", false)
    {
        return Err(format!(
            "it replaced the object, and its before-image has `{lost}`, which was not sent"
        ));
    }
    let fields = image.restored(request.fields(), &mut Vec::new())?;
    if let Some((place, _)) = leaves(&fields).into_iter().find(|(_, value)| is_masked(value))
        && !guard!("undo.masked", false)
    {
        return Err(format!(
            "its before-image has a credential in `{place}`, which is not recorded"
        ));
    }
    if leaves(&fields).is_empty() {
        return Err("it sent no field".to_owned());
    }
    let body = match request.body_kind() {
        Some(BodyKind::Form) => GuestBody::Form(form(&fields)?),
        _ => GuestBody::Json(fields.to_canonical()),
    };
    let target = request.path_and_query();
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    Ok(Inverse {
        route: route.name().to_owned(),
        words: GuestRequest {
            method: request.method(),
            path: path.to_owned(),
            query: request.query().to_vec(),
            headers: request.headers().to_vec(),
            body,
        },
        wrote: Some(Wrote::of(request)),
    })
}

/// An object as it was read before.
struct Image<'a> {
    before: &'a Json,
    /// What the read shows of it.
    read: &'a FieldSet,
    /// The field that names the object, where the body does: it is sent again as it is.
    id: Option<&'a FieldPath>,
}

impl Image<'_> {
    /// What was sent at a place, as it was before.
    fn restored<'s>(&self, sent: &'s Json, path: &mut Vec<ConcreteStep<'s>>) -> Result<Json, String> {
        let place = ConcretePath(path.clone());
        if !path.is_empty() && self.id == Some(&place.to_field()) {
            return Ok(sent.clone());
        }
        let before = path.iter().try_fold(self.before, |value, step| match step {
            ConcreteStep::Name(name) => value.get(name),
            ConcreteStep::Index(_) | ConcreteStep::None => None,
        });
        match (sent, before) {
            (Json::Object(members), Some(Json::Object(_))) if !members.is_empty() => self.members(members, path),
            // The root is an object, and a before-image of another form is none of it.
            (Json::Object(members), _) if path.is_empty() => self.members(members, path),
            (_, None) => Err(format!("its before-image has no `{place}`")),
            (_, Some(value @ (Json::Object(_) | Json::Array(_)))) => {
                let whole = format!("{place}.**").parse::<FieldPath>();
                let whole = whole.is_ok_and(|whole| self.read.covers(&whole));
                if !guard!("undo.whole", whole) {
                    return Err(format!(
                        "its before-image has `{place}` in part: `reads` would need `{place}.**`"
                    ));
                }
                Ok(value.clone())
            }
            (_, Some(value)) => Ok(value.clone()),
        }
    }

    fn members<'s>(&self, members: &'s Object, path: &mut Vec<ConcreteStep<'s>>) -> Result<Json, String> {
        let mut restored = Object::new();
        for (name, value) in members.iter() {
            path.push(ConcreteStep::Name(name));
            restored.insert(name, self.restored(value, path)?);
            path.pop();
        }
        Ok(restored.into())
    }

    /// Something that it had, that the route could send, and that was not sent: a request that replaces takes it away.
    fn not_sent(&self, sent: &Json, route: &Route) -> Option<String> {
        let leaves = leaves(self.before);
        let lost = leaves.into_iter().find(|(place, value)| {
            let field = place.to_field();
            !value.is_null() && route.may_send(&field) && field.select(sent).is_empty()
        });
        lost.map(|(place, _)| place.to_string())
    }
}

/// Fields as the pairs of a form.
fn form(fields: &Json) -> Result<Vec<(String, String)>, String> {
    let pair = |(place, value): (ConcretePath<'_>, &Json)| {
        let mut name = String::new();
        for step in &place.0 {
            match step {
                ConcreteStep::Name(step) if name.is_empty() => name.push_str(step),
                ConcreteStep::Name(step) => name.extend(["[", step, "]"]),
                ConcreteStep::Index(_) | ConcreteStep::None => {
                    return Err(format!("`{place}` is a list, which forms write in several ways"));
                }
            }
        }
        let text = match value {
            Json::String(text) => text.clone(),
            Json::Number(number) => number.to_string(),
            Json::Bool(value) => value.to_string(),
            _ => return Err(format!("`{place}` was empty before, which a form cannot say")),
        };
        Ok((name, text))
    };
    leaves(fields).into_iter().map(pair).collect()
}
