//! JSON, strictly: one value for each text, and one canonical text for each value.
//!
//! Libraries disagree about duplicate members, lone surrogates and large numbers, and what they disagree about is where
//! a check and a service can see different requests. Here duplicates and lone surrogates are refused, and a
//! [`Number`] is the exact decimal that was written, never a binary approximation.
//!
//! ```
//! use ambit_core::json::{Json, Limits};
//!
//! let value = Json::parse(r#"{"b": 1.50e1, "a": [true, null]}"#, Limits::default())?;
//! assert_eq!(value.to_canonical(), r#"{"a":[true,null],"b":15}"#);
//! assert!(Json::parse(r#"{"a": 1, "\u0061": 2}"#, Limits::default()).is_err());
//! # Ok::<(), ambit_core::json::JsonError>(())
//! ```

mod convert;
mod number;
mod parse;
mod print;
mod value;

pub use number::{NotANumber, Number};
pub use parse::{Fault, JsonError, Limits};
pub use value::{Json, Object};

#[doc(hidden)]
pub mod fuzz {
    //! Entry points for fuzzing, driven by stable tests too.
    use super::{Json, Limits};

    /// What parses prints canonically, and the canonical text reads back as the same value and text.
    ///
    /// # Errors
    /// Why the bytes were refused.
    ///
    /// # Panics
    /// Where that does not hold.
    pub fn json(bytes: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let value = Json::parse(text, Limits::default()).map_err(|error| error.fault.to_string())?;
        let canonical = value.to_canonical();
        // Plain numbers may be longer than their exponent form was, so the second reading gets more room.
        let limits = Limits {
            bytes: canonical.len(),
            ..Limits::default()
        };
        let again = Json::parse(&canonical, limits);
        assert_eq!(again.as_ref(), Ok(&value), "{canonical}");
        assert_eq!(again.map(|value| value.to_canonical()), Ok(canonical));
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
pub(crate) use tests::any_json;
