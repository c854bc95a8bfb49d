//! Components without code, from WIT: what is told of a component before it runs needs none.

#[path = "../../host/core/src/manifest/tests/component.rs"]
mod made;

/// The component of the only world in `wit`, importing and exporting all of it. Its functions trap.
///
/// # Panics
/// The text is not WIT, or has not exactly one world.
#[must_use]
pub fn component(wit: &str) -> Vec<u8> {
    made::component(wit)
}
