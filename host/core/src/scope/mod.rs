//! Scopes: what a component declares that it needs.

mod tier;

pub use tier::{Tier, UnknownTier};
