//! What a fuzzer drives: what people say over their own signature. It takes any bytes, must not panic, and asserts what must hold for
//! bytes that are accepted. The error is why they were refused.

use std::fmt::Debug;

use super::said::{self, Said};
use super::{Delegation, Edit, Vote};
use crate::ledger::{LedgerError, SignerKey, VerifierKey};

/// A note of a vote, an edit or a delegation: what is read is what was signed, as one of the three, by nobody else. The bytes are taken
/// as they are, and their text once more under the person's own signature, which bytes that were made up could not have.
///
/// # Errors
/// Why they are none of the three.
///
/// # Panics
/// Where one of these does not hold.
pub fn said(data: &[u8]) -> Result<(), String> {
    let note = String::from_utf8_lossy(data);
    let keys = Keys::new().map_err(|error| error.to_string())?;
    let as_it_is = keys.read(&note);
    let text = note.split_once("\n\n").map_or(note.as_ref(), |(text, _)| text);
    let signed = keys.own.sign(&format!("{}\n", text.trim_end_matches('\n')));
    let under_the_key = keys.read(&signed);
    as_it_is.or(under_the_key)
}

/// The key of the person who signs the seeds.
///
/// # Errors
/// None in practice.
pub fn key() -> Result<SignerKey, LedgerError> {
    SignerKey::from_seed("rita", &[9; 32])
}

struct Keys {
    own: SignerKey,
    /// Another one, under the same name.
    stranger: SignerKey,
}

impl Keys {
    fn new() -> Result<Self, LedgerError> {
        Ok(Self {
            own: key()?,
            stranger: SignerKey::from_seed("rita", &[10; 32])?,
        })
    }

    /// Reads a note as each of the three.
    fn read(&self, note: &str) -> Result<(), String> {
        let read = [
            self.read_as::<Vote>(note),
            self.read_as::<Edit>(note),
            self.read_as::<Delegation>(note),
        ];
        let accepted = read.iter().filter(|read| read.is_ok()).count();
        assert!(accepted <= 1, "one text says two things: {note}");
        let [vote, edit, delegation] = read;
        vote.or(edit).or(delegation)
    }

    fn read_as<S: Said + Debug + PartialEq>(&self, note: &str) -> Result<(), String> {
        let stranger = self.stranger.verifier();
        assert!(said::open::<S>(note, stranger).is_err(), "signed without the key");
        let own = self.own.verifier();
        if let Ok(claimed) = said::claimed::<S>(note) {
            self.say_again(&claimed, own);
        }
        let opened: S = said::open(note, own).map_err(|error| error.to_string())?;
        assert_eq!(
            said::claimed(note).as_ref(),
            Ok(&opened),
            "what is shown before the signature is checked is what it was made over"
        );
        let again = said::sign(&opened, &self.own).map_err(|error| error.to_string());
        // Ed25519 signs a text in one way, and a text says one thing in one way.
        let (text, signatures) = note.rsplit_once("\n\n").unwrap_or_default();
        let (_, own) = again
            .as_deref()
            .ok()
            .and_then(|again| again.rsplit_once("\n\n"))
            .unwrap_or_default();
        assert_eq!(
            again.as_deref().map(|again| again.starts_with(&format!("{text}\n\n"))),
            Ok(true)
        );
        assert!(signatures.lines().any(|line| line == own.trim_end()), "{note}");
        Ok(())
    }

    /// What a note claims can be said by the person whom it names, and is read as the same; unless it is nothing that a note can hold.
    fn say_again<S: Said + Debug + PartialEq>(&self, claimed: &S, own: &VerifierKey) {
        let Ok(signed) = said::sign(claimed, &self.own) else {
            assert_ne!(claimed.person(), own.name(), "the person can say it");
            return;
        };
        match said::open::<S>(&signed, own) {
            Ok(opened) => assert_eq!(opened, *claimed, "what is signed is read"),
            Err(error) => {
                let plain = claimed.text().chars().all(|c| c == '\n' || !c.is_ascii_control());
                assert!(!plain || signed.len() > said::LONGEST, "{error}: {signed}");
            }
        }
    }
}
