//! placeholder
pub mod gate;
pub mod secret;
