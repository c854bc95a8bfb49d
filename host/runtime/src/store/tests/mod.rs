//! The store as its callers see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod api_keys;
mod audit;
mod budgets;
mod commits;
mod crash;
mod edits;
mod erasure;
mod faults;
mod fixture;
mod holds;
mod once;
mod opening;
mod runs;
mod stops;
mod undoing;
