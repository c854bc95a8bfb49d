//! The only way out.
//!
//! [`Wire::send`] takes an effect whose intent is committed and puts it on the network: one request to one address, one answer or none.
//! Everything about where it goes comes from the operator ([`Upstream`]); everything about what is asked was checked before
//! ([`HttpRequest`](ambit_core::effect::HttpRequest)). The order is the point:
//!
//! 1. the request's bytes are built, with the credential last;
//! 2. the name is resolved, once, and each of its addresses is judged ([`address`]);
//! 3. a connection to one of exactly these addresses is taken or opened, with TLS as the origin;
//! 4. the request is written once. Nothing here ever sends again, follows a redirect, or asks a proxy;
//! 5. the answer is read to its limit, and the connection's secrets are covered in it.
//!
//! Up to 3 a failure means that nothing was sent. From 4 on it means so only where not one byte was written.
//!
//! No other module of Ambit opens a socket.

pub mod address;
mod assert;
mod collector;
mod document;
#[expect(
    clippy::disallowed_types,
    reason = "the one place where sockets are opened, to checked addresses only"
)]
mod line;
mod mask;
mod meter;
mod mint;
mod pause;
mod pool;
mod request;
pub mod resolve;
mod send;
mod sign;
#[cfg(test)]
#[expect(clippy::disallowed_types, reason = "a service on loopback")]
mod tests;
mod tls;
mod upstream;
mod webhook;

pub use assert::{Assertor, SigningKey};
pub use collector::Collector;
pub use document::{Document, DocumentWay, split_url};
pub(crate) use line::most_received;
pub use mint::{ClientAuth, Minter, MinterParts};
pub(crate) use mint::{Holder, Pass};
pub(crate) use pause::LONGEST_PAUSE;
pub use request::{Presented, check_base, is_framing, is_hosts_own};
pub use send::{Bounds, Failed, SendError, Sent, Traffic, Wire};
pub use sign::{SharedSecret, SigV4, is_aws_header};
pub use tls::Authorities;
pub(crate) use tls::roots_of_pem;
pub use upstream::{Base, Shown, Upstream, UpstreamParts};
pub use webhook::{Hook, HookUrl};
