//! Ambit's effects: what core decides, this crate does.

pub mod config;
pub mod gate;
pub mod sandbox;
pub mod secret;
pub mod store;
