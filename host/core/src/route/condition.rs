//! `FIELD == VALUE`: the one condition that a route's tier can depend on.

use super::spec::one_field;
use crate::effect::{BodyKind, HttpRequest};
use crate::field::FieldPath;
use crate::json::{Json, Limits};

/// A body's field has a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    field: FieldPath,
    value: Json,
}

impl Condition {
    pub(super) fn parse(text: &str) -> Result<Condition, String> {
        let help = "a condition is `FIELD == VALUE` with a JSON scalar, such as `draft == true`";
        let (field, value) = text.split_once("==").ok_or_else(|| format!("`{text}`: {help}"))?;
        let value = Json::parse(value.trim(), Limits::default()).map_err(|e| format!("`{text}`: {e}; {help}"))?;
        if matches!(value, Json::Array(_) | Json::Object(_)) {
            return Err(format!("`{text}`: {help}"));
        }
        Ok(Condition {
            field: one_field("tier.if", field.trim())?,
            value,
        })
    }

    pub(super) const fn field(&self) -> &FieldPath {
        &self.field
    }

    /// Whether the field is there, once, with exactly this value. In a form every value is text, and compares by its text.
    pub(super) fn holds(&self, request: &HttpRequest) -> bool {
        match self.field.select(request.fields()).as_slice() {
            [Json::String(text)] if is_form(request) => *text == self.text(),
            [value] => **value == self.value,
            _ => false,
        }
    }

    fn text(&self) -> String {
        match &self.value {
            Json::String(text) => text.clone(),
            other => other.to_canonical(),
        }
    }
}

/// Whether every value of the body is text.
pub(super) fn is_form(request: &HttpRequest) -> bool {
    request.body_kind() == Some(BodyKind::Form)
}
