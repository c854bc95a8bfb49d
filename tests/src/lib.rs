//! What Ambit is tested with: a service to call, programs to run, scenarios.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where, and stops"
)]

pub mod bench;
pub mod certificates;
pub mod crash;
pub mod fuzz;
pub mod home;
pub mod load;
mod logs;
pub mod mcp;
pub mod peers;
pub mod programs;
pub mod raw;
pub mod scenario;
pub mod service;
pub mod times;
pub mod wit;
