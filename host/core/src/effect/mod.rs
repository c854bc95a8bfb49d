//! Effects: what a guest asks the host to do, and what exactly the host will do.
//!
//! A guest hands over a [`GuestRequest`]: words, not bytes. [`HttpRequest::parse`] checks them, writes the bytes that
//! will be sent, and reads those back; every later question (is it in scope, which route is it, how much money is it) is
//! asked of what was read back. What comes back to the guest goes through [`answer()`].

mod answer;
mod body;
mod guest;
mod header;
mod method;
mod origin;
mod pairs;
mod path;
mod pattern;
mod percent;
mod request;
mod wire;

use std::collections::BTreeMap;

pub use answer::answer;
pub use guest::{GuestBody, GuestRequest, GuestResponse};
pub(crate) use header::is_free;
pub use header::{HeaderSet, NotAHeader};
pub use method::{Method, Methods, UnknownMethod};
pub use origin::{NotAnOrigin, Origin, Scheme};
pub use path::PathFault;
pub use pattern::{PathPattern, PatternFault};
pub use request::{BodyKind, HttpRequest, WireLimits};

#[cfg(test)]
pub(crate) use pattern::tests as pattern_tests;

use crate::digest::Digest;
use crate::money::Spend;
use crate::scope::Tier;

/// What stands in an answer in place of a credential that the service gave back.
pub const MASKED: &str = "[masked]";

/// One thing that the host does for a call.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A request to a connection.
    Http(HttpEffect),
}

/// A request to a connection, with what was found out about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpEffect {
    /// The connection's name.
    pub connection: String,
    /// The route's name within the connection.
    pub route: String,
    /// How much it changes.
    pub tier: Tier,
    /// What is sent.
    pub request: HttpRequest,
    /// The named segments of the route's path.
    pub captures: BTreeMap<String, String>,
    /// What it spends.
    pub spend: Spend,
}

impl HttpEffect {
    /// The effect's digest in the ledger, over the salted `commitment` to the whole request.
    ///
    /// With the commitment opened, the digest names one effect; without, it tells nothing of path, query or body.
    #[must_use]
    pub fn digest(&self, commitment: &Digest) -> Digest {
        let spend = match self.spend {
            Spend::None => String::new(),
            Spend::Known { currency, minor } => format!("{currency} {minor}"),
        };
        Digest::domain(
            "ambit/effect/v1",
            &[
                self.connection.as_bytes(),
                self.route.as_bytes(),
                self.tier.as_str().as_bytes(),
                spend.as_bytes(),
                commitment.as_bytes(),
            ],
        )
    }
}

#[doc(hidden)]
pub mod fuzz {
    //! Entry points for fuzzing, driven by stable tests too.
    pub use super::request::fuzz::{guest, http};
}
