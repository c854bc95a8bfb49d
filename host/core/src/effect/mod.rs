//! Effects: what a guest asks the host to do, and what exactly the host will do.
//!
//! A guest hands over a [`GuestRequest`]: words, not bytes.

mod guest;
mod method;
mod origin;

pub use guest::{GuestBody, GuestRequest, GuestResponse};
pub use method::{Method, Methods, UnknownMethod};
pub use origin::{NotAnOrigin, Origin, Scheme};
