use std::fmt;

use super::reader::Reader;
use super::{ScopeError, Tier};
use crate::error::printable;

/// What an exported function declares about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FunctionScope {
    /// The highest tier of its effects.
    pub tier: Tier,
    /// The function that takes back what this one did.
    pub undo: Option<String>,
    /// Whether calling it twice with the same arguments does no more than calling it once.
    pub idempotent: bool,
}

impl FunctionScope {
    /// Reads a function's `@external-id`. A function without one is [`FunctionScope::default`]: `commit`.
    ///
    /// # Errors
    /// Anything but the words above, each once.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        let mut reader = Reader::new(text);
        let (mut tier, mut undo, mut idempotent) = (None, None, None);
        reader.space();
        while !reader.is_at_end() {
            let word = reader.until(|c| c == '(' || c.is_ascii_whitespace());
            let twice = match word.text {
                "idempotent" => idempotent.replace(true).is_some(),
                "undo" => {
                    let name = reader.parenthesised()?;
                    if !is_function_name(name.text) {
                        return Err(ScopeError::new(
                            name.at,
                            "`undo(…)` names one function of the same interface",
                        ));
                    }
                    undo.replace(name.text.to_owned()).is_some()
                }
                word_text => match word_text.parse() {
                    Ok(word) => tier.replace(word).is_some(),
                    Err(_) => return Err(unknown(word.at, word_text)),
                },
            };
            if twice {
                return Err(ScopeError::new(
                    word.at,
                    format!("`{}` comes twice, or beside another of its kind", word.text),
                ));
            }
            reader.space();
        }
        let tier = tier.unwrap_or_default();
        if tier == Tier::Read && undo.is_some() {
            return Err(ScopeError::new(0, "a function that only reads has nothing to undo"));
        }
        Ok(Self {
            tier,
            undo,
            idempotent: idempotent.is_some(),
        })
    }
}

fn unknown(at: usize, word: &str) -> ScopeError {
    ScopeError::new(at, format!("`{}` says nothing about a function", printable(word)))
        .help("a function is `read`, `draft` or `commit`, then `undo(function)` and `idempotent` where they hold")
}

/// A name of WIT: words of letters and digits, joined by `-`.
fn is_function_name(name: &str) -> bool {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    name.len() <= 128 && name.split('-').all(word)
}

impl fmt::Display for FunctionScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tier.fmt(f)?;
        if let Some(undo) = &self.undo {
            write!(f, " undo({undo})")?;
        }
        f.write_str(if self.idempotent { " idempotent" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, canonical: &str) {
        assert_eq!(
            FunctionScope::parse(text).map(|scope| scope.to_string()),
            Ok(canonical.to_owned())
        );
        assert_eq!(FunctionScope::parse(canonical), FunctionScope::parse(text));
    }

    #[test]
    fn canonical_text() {
        check("", "commit");
        check("read", "read");
        check(" commit  undo(cancel)\n", "commit undo(cancel)");
        check("idempotent draft", "draft idempotent");
        check("undo(take-back) idempotent", "commit undo(take-back) idempotent");
    }

    #[test]
    fn refused_texts() {
        for (text, offset) in [
            ("write", 0),
            ("Read", 0),
            ("read commit", 5),
            ("read read", 5),
            ("commit undo", 11),
            ("commit undo(", 11),
            ("commit undo()", 12),
            ("commit undo(a b)", 12),
            ("commit undo(a) undo(b)", 15),
            ("read undo(a)", 0),
            ("read(x)", 4),
            ("commit;", 0),
        ] {
            assert_eq!(
                FunctionScope::parse(text).map_err(|error| error.offset),
                Err(offset),
                "{text}"
            );
        }
    }
}
