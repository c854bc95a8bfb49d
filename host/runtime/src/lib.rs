//! Ambit's effects: what [`ambit_core`] decides is done here.
//!
//! [`call`] is the whole way of a call. [`sandbox`] runs guests and knows no policy; [`gate`] is the only way out and sends
//! nothing without a [`store::Durable`]; [`store`] is the ledger and what stands beside it; [`config`] turns the
//! operator's text into checked values. [`budgets`] says how budgets stand, [`flow`] how services do, [`runs`] starts and ends agents'
//! sessions, [`stops`] what operators stopped, [`metrics`] what it all comes to in numbers, [`export`] gives entries to other systems, and [`telemetry`] tells a collector; [`operators`] is how they are heard while a host runs. [`api_keys`] are what agents over HTTP are given, [`run_tokens`] what is given for a run,
//! and [`refused_callers`] what the ledger says of those who were not let in. [`reload`] takes the home's files anew under a running host,
//! [`suspend`] leaves calls to the next one. [`webhooks`] tells people what the ledger says, wherever they are.
//! [`answers`] tells a call's caller once more what it came to.

#[cfg(windows)]
compile_error!("Ambit does not run on Windows yet: build it on Linux or macOS, or in WSL.");

pub mod answers;
pub mod api_keys;
pub mod approvals;
pub mod budgets;
pub mod call;
pub mod cancel;
pub mod clock;
pub mod config;
pub mod contract;
pub mod dead_letters;
pub mod documents;
pub mod doubts;
pub mod edits;
mod effects;
pub mod export;
pub mod flow;
pub mod gate;
mod guests;
pub mod home;
pub mod host;
pub mod ids;
pub mod metrics;
pub mod objects;
pub mod offers;
pub mod operators;
mod places;
mod random;
pub mod recovery;
pub mod refused_callers;
pub mod reload;
pub mod replay;
pub mod rollback;
pub mod run_tokens;
mod running;
pub mod runs;
pub mod sandbox;
pub mod search;
pub mod secret;
pub mod stops;
pub mod store;
pub mod suspend;
pub mod telemetry;
pub mod transcript;
pub mod webhooks;
pub mod whatif;

#[cfg(test)]
mod tests;
