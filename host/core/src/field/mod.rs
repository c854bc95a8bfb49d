//! Fields: which members of a JSON value, a form or a query are meant.
//!
//! A [`FieldPath`] is a JSON pointer spelled with dots. It stands for a scalar; `[]` is any element of a list, and a
//! final `**` is the value there, whatever it is. Names are bare where they are made of ASCII letters, digits and
//! `_ - $ @ :`, and otherwise quoted as in JSON.
//!
//! ```text
//! amount                  the scalar member `amount`
//! items[].price           the scalar `price` in each element of `items`
//! metadata.**             `metadata` and everything in it
//! "odd name".x            a quoted name
//! **                      everything
//! ```
//!
//! What is in a container that is empty? An empty list would be its own way to say "none of them", so it counts as one
//! element: `items[]` covers it, `items[].price` does not. An empty object counts as a scalar. An object at the root
//! needs nothing.
//!
//! ```
//! use ambit_core::field::FieldSet;
//! use ambit_core::json::{Json, Limits};
//!
//! let fields: FieldSet = "charge, items[].price".parse()?;
//! let body = Json::parse(r#"{"charge": "ch_1", "items": [{"price": 1}, {"cost": 2}]}"#, Limits::default())?;
//! assert_eq!(fields.uncovered(&body).map(|path| path.to_string()).as_deref(), Some("items[1].cost"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod concrete;
mod path;
mod place;
mod set;

pub use concrete::{ConcretePath, ConcreteStep, leaves};
pub use path::{FieldError, FieldPath, Step};
pub use place::{Place, PlaceStep};
pub use set::FieldSet;

#[cfg(test)]
pub(crate) mod tests;
