//! Scopes: what a component declares that it needs, in the `@external-id` of an import or function.
//!
//! A scope is a ceiling. It grants nothing: an effect also needs a route of the connection and policy's permission. Its
//! words are the tool author's, and no rule of policy is ever looked up by them.
//!
//! # HTTP
//!
//! ```text
//! scope   = rule *( ";" rule )
//! rule    = methods SP origin path [ "query(" fields ")" ] [ "fields(" fields ")" ]
//!                                  [ "reads(" fields ")" ] [ "headers(" names ")" ]
//! methods = METHOD *( "," METHOD )
//! ```
//!
//! One rule must cover the whole request; rules never combine. A list that is absent is empty: no query, no body fields,
//! nothing to read, no headers. Origins are exact ([`Origin`](crate::effect::Origin)), paths are
//! [`PathPattern`](crate::effect::PathPattern)s below the connection's base, fields are those of [`crate::field`].
//!
//! ```
//! use ambit_core::scope::{CapabilityKind, Scope};
//!
//! let scope = Scope::parse(
//!     CapabilityKind::Http,
//!     "POST https://api.stripe.com/v1/refunds fields(charge, amount) reads(id, status)",
//! )?;
//! assert_eq!(scope.to_string(), "POST https://api.stripe.com/v1/refunds fields(amount, charge) reads(id, status)");
//! # Ok::<(), ambit_core::scope::ScopeError>(())
//! ```
//!
//! # Functions
//!
//! `[ "read" | "draft" | "commit" ] [ "undo(" function ")" ] [ "idempotent" ]`; what says nothing is `commit`.

mod function;
mod http;
mod reader;
mod tier;

use std::fmt;

pub use function::FunctionScope;
pub use http::{HttpRule, HttpScope};
pub use tier::{Tier, UnknownTier};

/// What kind of capability an import is; it decides the language of its scope.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CapabilityKind {
    /// `ambit:capability/http`
    Http,
}

impl CapabilityKind {
    /// The interface's name, such as `http`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
        }
    }
}

impl fmt::Display for CapabilityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an import declares.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of an HTTP connection.
    Http(HttpScope),
}

impl Scope {
    /// Reads an import's `@external-id`.
    ///
    /// # Errors
    /// A text that is not a scope of that `kind`, with the place and the way out. A component with such an import is not
    /// loaded.
    pub fn parse(kind: CapabilityKind, text: &str) -> Result<Self, ScopeError> {
        match kind {
            CapabilityKind::Http => HttpScope::parse(text).map(Self::Http),
        }
    }

    /// The kind of import that it is for.
    #[must_use]
    pub const fn kind(&self) -> CapabilityKind {
        match self {
            Self::Http(_) => CapabilityKind::Http,
        }
    }
}

/// The canonical text.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(scope) => scope.fmt(f),
        }
    }
}

/// Why a text is not a scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ScopeError {
    /// Where, in bytes from the start of the text.
    pub offset: usize,
    /// What is wrong, in one sentence.
    pub message: String,
    /// The way out, where there is more to say.
    pub help: Option<String>,
}

impl ScopeError {
    fn new(offset: usize, message: impl Into<String>) -> Self {
        Self {
            offset,
            message: message.into(),
            help: None,
        }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

#[doc(hidden)]
pub mod fuzz {
    //! Entry points for fuzzing, driven by stable tests too.
    use super::{FunctionScope, HttpScope};

    /// A scope that parses prints canonically, and the canonical text reads back as the same scope. What does not parse
    /// is refused at a place within the text.
    ///
    /// # Errors
    /// Why it is neither an HTTP scope nor a function's.
    ///
    /// # Panics
    /// Where that does not hold.
    pub fn scope(bytes: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let http = HttpScope::parse(text);
        if let Ok(scope) = &http {
            // Canonical texts may be longer than what was given, up to beyond what is read.
            match HttpScope::parse(&scope.to_string()) {
                Ok(again) => assert_eq!(again, *scope),
                Err(error) => assert!(error.message.contains(" long"), "{error}"),
            }
        }
        let function = FunctionScope::parse(text);
        if let Ok(scope) = &function {
            assert_eq!(FunctionScope::parse(&scope.to_string()).as_ref(), Ok(scope));
        }
        for error in [http.as_ref().err(), function.as_ref().err()].into_iter().flatten() {
            assert!(text.is_char_boundary(error.offset), "{error} at {}", error.offset);
        }
        match (http, function) {
            (Err(http), Err(function)) => Err(format!("{http}; {function}")),
            _ => Ok(()),
        }
    }
}
