//! The doors of a host: for agents, and, apart from them, for operators elsewhere.
//!
//! [`mcp::Door`] is one caller's way in over the Model Context Protocol: an agent sees the functions that policy lets it call, and calls
//! them. Nothing on this channel grants, approves or configures anything: what it can do is
//! [`Host::call`](ambit_runtime::host::Host::call), as the one caller that the operator chose, and look at that caller's own calls. A door
//! knows neither how it is reached nor how its caller was identified; [`stdio`] reaches one over a pipe, and [`http`] many, each
//! by what its caller shows.
//!
//! `api` is the HTTP API: an agent's part goes through the same doors, and an operator's is another, by other credentials.
//!
//! [`identity`] says who is on the other side of a request over HTTP, by a token of an issuer, a key of the home,
//! a token of a run, or a workload's certificate.

mod api;
mod calls;
mod changes;
mod frame;
pub mod http;
pub mod identity;
pub mod mcp;
mod names;
mod offer;
mod owed;
mod resources;
mod session;
pub mod signals;
mod status;
pub mod stdio;
mod tasks;
mod threads;
mod told;
