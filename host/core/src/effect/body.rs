use super::pairs::{self, PairFault};
use super::{BodyKind, GuestBody, WireLimits};
use crate::error::{Code, Refusal};
use crate::guard;
use crate::json::{Fault, Json, JsonError, Limits};

/// A body as the host writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Body {
    kind: BodyKind,
    text: String,
}

impl Body {
    /// Parses what the guest gave, and writes it in canonical form.
    pub(super) fn write(given: &GuestBody, limits: &WireLimits) -> Result<Option<Self>, Refusal> {
        let body = match given {
            GuestBody::None => return Ok(None),
            GuestBody::Json(text) => {
                let value = Json::parse(text, json_limits(limits)).map_err(|why| json_refusal(&why))?;
                Self {
                    kind: BodyKind::Json,
                    text: value.to_canonical(),
                }
            }
            GuestBody::Form(form) => {
                pairs::check_size(form, limits.parameters, limits.body_bytes).map_err(|why| form_refusal(&why))?;
                Self {
                    kind: BodyKind::Form,
                    text: pairs::write(form),
                }
            }
        };
        if !guard!("wire.body-length", body.text.len() <= limits.body_bytes) {
            return Err(too_long(limits));
        }
        Ok(Some(body))
    }

    /// One that was written before.
    pub(super) const fn of(kind: BodyKind, text: String) -> Self {
        Self { kind, text }
    }

    /// The fields that are in the bytes.
    pub(super) fn read(&self, limits: &WireLimits) -> Result<Json, Refusal> {
        let fields = match self.kind {
            BodyKind::Json => Json::parse(&self.text, json_limits(limits)).map_err(|why| json_refusal(&why))?,
            BodyKind::Form => {
                let form = pairs::read(&self.text).map_err(|why| form_refusal(&why))?;
                pairs::tree(&form).map_err(|why| form_refusal(&why))?
            }
        };
        // Each is a fact that policy is asked about: a body of nothing but commas would cost the host what it costs no guest.
        if !guard!("wire.values", values(&fields) <= limits.parameters) {
            return Err(Refusal::new(
                Code::Body,
                format!("the body has more than {} values", limits.parameters),
            ));
        }
        // To a service written in C, `amount\0x` may be `amount`.
        if !guard!("wire.json-name", names_are_plain(&fields)) {
            return Err(Refusal::new(Code::Body, "a member's name has a control character"));
        }
        Ok(fields)
    }

    pub(super) const fn kind(&self) -> BodyKind {
        self.kind
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

fn json_limits(limits: &WireLimits) -> Limits {
    Limits {
        depth: limits.json_depth,
        bytes: limits.body_bytes,
    }
}

/// Scalars, and lists and objects without any.
fn values(value: &Json) -> usize {
    let inside = match value {
        Json::Object(members) => members.iter().map(|(_, member)| values(member)).sum(),
        Json::Array(elements) => elements.iter().map(values).sum(),
        _ => 1,
    };
    inside.max(1)
}

fn names_are_plain(value: &Json) -> bool {
    match value {
        Json::Object(members) => members
            .iter()
            .all(|(name, member)| !name.contains(char::is_control) && names_are_plain(member)),
        Json::Array(elements) => elements.iter().all(names_are_plain),
        _ => true,
    }
}

fn json_refusal(why: &JsonError) -> Refusal {
    let refusal = Refusal::new(Code::Body, format!("the JSON body is refused: {why}"));
    match why.fault {
        Fault::Duplicate(_) => refusal.advise("services disagree about which of two members counts: give it once"),
        _ => refusal,
    }
}

fn form_refusal(why: &PairFault) -> Refusal {
    Refusal::new(Code::Body, format!("the form is refused: {why}"))
}

fn too_long(limits: &WireLimits) -> Refusal {
    Refusal::new(
        Code::Body,
        format!("the body is longer than {} bytes", limits.body_bytes),
    )
}
