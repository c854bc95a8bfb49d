//! Everything a reviewer of Ambit must believe.
//!
//! This crate decides; it never acts. It knows what a component declares ([`scope`]), what an operator connects
//! ([`route`]), what a request will be on the wire ([`effect`]), what it spends ([`money`]), and what is written down
//! about it. It has no sockets, files, clock, threads or randomness: the same inputs give the same answer, here, in a
//! test and in an auditor's hands.
//!
//! Three habits run through it:
//!
//! - **A checked value has a type of its own** that only its check can make. [`effect::HttpRequest`] cannot be built
//!   from parts, so whatever holds one holds a request whose bytes were parsed back.
//! - **Errors deny.** Functions that decide return [`error::Refusal`]; there is no "unknown, so go on".
//! - **Each rule has one place**, marked with [`guard!`], so that a test can show what would happen without it.

pub mod contract;
pub mod credential;
pub mod digest;
pub mod effect;
pub mod error;
pub mod field;
pub mod flow;
pub mod grant;
pub mod guard;
pub mod hold;
pub mod identity;
pub mod json;
pub mod ledger;
pub mod manifest;
pub mod metrics;
pub mod money;
pub mod object;
pub mod policy;
pub mod route;
pub mod run;
pub mod scope;
pub mod search;
pub mod siem;
pub mod stop;
pub mod telemetry;
pub mod trace;
pub mod undo;
pub mod webhook;
