//! The `ambit.toml` that a new home begins with.

/// Written by `ambit init`. It is valid as it stands, and connects nothing.
pub const TEMPLATE: &str = include_str!("template.toml");
