//! What a fuzzer drives beside [`Manifest::read`](super::Manifest::read).

use super::schema::Schemas;
use crate::json::Json;
use wit_parser::{Resolve, TypeId};

/// The schema of the type `subject` of the only interface in `wit`.
///
/// # Errors
/// The text is not WIT, has no such type, or one without JSON form.
pub fn schema(wit: &str) -> Result<Json, String> {
    let mut resolve = Resolve::default();
    resolve
        .push_source("fuzz.wit", wit)
        .map_err(|error| format!("{error:#}"))?;
    let subject: Option<TypeId> = resolve
        .interfaces
        .iter()
        .find_map(|(_, interface)| interface.types.get("subject").copied());
    let subject = subject.ok_or("there is no type `subject`")?;
    Schemas::new(&resolve)
        .payload(Some(wit_parser::Type::Id(subject)))
        .map_err(|why| why.0)
}
