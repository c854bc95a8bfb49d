//! placeholder
pub mod config;
pub mod gate;
pub mod secret;
