//! Credentials that are made for one request, as far as that needs no clock, key or socket.
//!
//! [`TokenEndpoint`] is what is asked of whoever gives out tokens for a service, and what of its answer is believed. [`assertion`] is what
//! the home says about a caller to have a token exchanged for it. [`hmac`] and [`sigv4`] are the texts that are signed. The runtime has the
//! keys, the clock and the way there.

pub mod assertion;
pub mod hmac;
pub mod sigv4;
mod token;

pub use token::{
    Granted, Kind, LARGEST_ANSWER, LONGEST_KEPT_S, LONGEST_LIFETIME_S, LONGEST_TOKEN, ROUTE, ScopeWord, TokenEndpoint,
    TokenSpec,
};

#[cfg(test)]
mod tests;
