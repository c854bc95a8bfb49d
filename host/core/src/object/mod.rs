//! What an object was before an effect, and what is seen of the effect when the object is read again.
//!
//! A route that says how to read what it changes ([`route::Object`](crate::route::Object)) has the host read that before,
//! so that people decide on a difference and not on a request, and after, so that a service which only says that it did
//! something is found out. Here is what follows from what was read; reading is the host's.
//!
//! Values are compared as they were sent: JSON by value, a form's texts by what they stand for. Only members that the
//! read route reads are looked at: what nobody may read is neither shown nor missed.

mod diff;
mod image;

pub use diff::{Check, Difference, Sent, Word, not_as_sent, planned};
pub use image::Image;

#[cfg(test)]
mod tests;
