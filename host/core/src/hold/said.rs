//! What people say over their own signature: one text, spelled one way, in a C2SP signed note.

use super::malformed;
use crate::guard;
use crate::ledger::{LedgerError, SignerKey, VerifierKey};

/// The longest note that is read, in bytes.
pub(super) const LONGEST: usize = 4096;

/// A statement of one kind, as whoever made it wrote it.
pub(super) trait Said: Sized {
    /// What it is, in messages: `vote`.
    const KIND: &'static str;

    /// Who says it.
    fn person(&self) -> &str;

    /// The text that is signed. The person is in it, as a signature's own line is not signed.
    fn text(&self) -> String;

    /// Reads such a text.
    ///
    /// # Errors
    /// [`LedgerError::Note`] where it is none.
    fn parse(text: &str) -> Result<Self, LedgerError>;
}

/// Signs it with the person's own key.
///
/// # Errors
/// [`LedgerError::Key`] where the key is another person's.
pub(super) fn sign<S: Said>(said: &S, key: &SignerKey) -> Result<String, LedgerError> {
    if key.verifier().name() != said.person() {
        return Err(LedgerError::Key("it is another person's".to_owned()));
    }
    Ok(key.sign(&said.text()))
}

/// Reads a signed statement. Nothing of it is believed before the person's key has verified it.
///
/// # Errors
/// [`LedgerError::Signature`] where `key` did not sign it; [`LedgerError::Note`] where it is no such statement, or names somebody else.
pub(super) fn open<S: Said>(note: &str, key: &VerifierKey) -> Result<S, LedgerError> {
    if note.len() > LONGEST {
        return Err(malformed(S::KIND, "it is too long"));
    }
    let text = key.open(note)?;
    let said = S::parse(text)?;
    if !guard!("hold.signer", said.person() == key.name()) {
        return Err(malformed(S::KIND, "it names another person than its key"));
    }
    // One spelling: what was signed is what printing it gives again.
    if said.text() != text {
        return Err(malformed(S::KIND, "it is not written as one is"));
    }
    Ok(said)
}

/// Reads a statement as whoever wrote it would have it: for showing, and to find the key that verifies it.
///
/// # Errors
/// [`LedgerError::Note`] where it is no such statement.
pub(super) fn claimed<S: Said>(note: &str) -> Result<S, LedgerError> {
    let cut = || malformed(S::KIND, "it is cut");
    let (text, _) = note.split_once("\n\n").ok_or_else(cut)?;
    S::parse(text)
}

/// The lines of a text, each with its name before its value.
pub(super) struct Lines<'t> {
    kind: &'static str,
    lines: std::str::Lines<'t>,
}

impl<'t> Lines<'t> {
    /// Of a statement of this kind, after its first line, which has to be `first`.
    ///
    /// # Errors
    /// [`LedgerError::Note`] where it begins otherwise.
    pub(super) fn after<S: Said>(first: &str, text: &'t str) -> Result<Self, LedgerError> {
        let (kind, mut lines) = (S::KIND, text.lines());
        if lines.next() != Some(first) {
            return Err(malformed(kind, "it does not begin as one does"));
        }
        Ok(Self { kind, lines })
    }

    /// The value of the next line, which has to have this name.
    ///
    /// # Errors
    /// [`LedgerError::Note`] where it has another.
    pub(super) fn member(&mut self, name: &str) -> Result<&'t str, LedgerError> {
        let line = self.lines.next().unwrap_or_default();
        let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
        value.ok_or_else(|| malformed(self.kind, "a line of it is missing"))
    }

    /// A time, in milliseconds since 1970.
    ///
    /// # Errors
    /// As [`Lines::member`]; and where it is no number.
    pub(super) fn time(&mut self, name: &str) -> Result<u64, LedgerError> {
        let kind = self.kind;
        let time = self.member(name)?.parse();
        time.map_err(|_| malformed(kind, "a time of it is none"))
    }

    /// The line after those, if there is one.
    pub(super) fn more(&mut self) -> Option<&'t str> {
        self.lines.next()
    }
}
