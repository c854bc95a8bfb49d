//! What a fuzzer drives: each takes any bytes, must not panic, and asserts what must hold for bytes that are accepted.
//! The error of each is why the bytes were refused.

use super::note::{SignerKey, VerifierKey};
use super::{Checkpoint, Entry, LedgerError, Receipt, tiles};
use crate::json::{Json, Limits};

/// Stored bytes: what is accepted is what would be printed anew from what it says.
///
/// # Errors
/// Why they are no entry.
///
/// # Panics
/// Where that does not hold.
pub fn entry(data: &[u8]) -> Result<(), String> {
    let entry = Entry::parse(data).map_err(|error| error.to_string())?;
    assert_eq!(entry.bytes(), data, "accepted bytes are kept as they are");
    let value = Json::parse(&entry.text(), Limits::default()).map_err(|error| error.to_string());
    assert_eq!(
        value.map(|value| value.to_canonical().into_bytes()).as_deref(),
        Ok(data),
        "an entry is canonical JSON, by another reader than its own"
    );
    Ok(())
}

/// A note: nobody but the holder of a key signs for it.
///
/// # Errors
/// Why it is no checkpoint that [`key`] signed.
///
/// # Panics
/// One that it did not sign is taken for signed, or a verifier's key reads back as another.
pub fn note(data: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(data);
    if let Ok(key) = VerifierKey::parse(&text) {
        assert_eq!(
            VerifierKey::parse(&key.to_string()),
            Ok(key),
            "a key reads back as it is printed"
        );
    }
    if let Ok(key) = VerifierKey::parse(STRANGER) {
        assert!(
            Checkpoint::parse_verified(&text, &key).is_err(),
            "signed without the key"
        );
    }
    let signer = key().map_err(|error| error.to_string())?;
    let checkpoint = Checkpoint::parse_verified(&text, signer.verifier()).map_err(|error| error.to_string())?;
    // Ed25519 signs the same text in one way: what was signed verifies, and nothing else does.
    let signed = Checkpoint::sign(checkpoint.size(), checkpoint.root(), &signer);
    let parts = |note: &str| -> Option<(String, String)> {
        let (text, signatures) = note.split_once("\n\n")?;
        let own = signatures
            .lines()
            .find(|line| signed.ends_with(&format!("\n{line}\n")))?;
        Some((text.to_owned(), own.to_owned()))
    };
    assert_eq!(
        parts(&text),
        parts(&signed),
        "what verifies is what the key signs, with its one signature"
    );
    Ok(())
}

/// A receipt's file, and the entries that [`key`]'s ledger really has.
///
/// # Errors
/// Why it proves nothing.
///
/// # Panics
/// It proves an entry that the ledger does not have, or without the key.
pub fn receipt(data: &[u8], genuine: &dyn Fn(&[u8]) -> bool) -> Result<(), String> {
    let text = String::from_utf8_lossy(data);
    if let Ok(key) = VerifierKey::parse(STRANGER) {
        assert!(Receipt::verify(&text, &key).is_err(), "proved without the key");
    }
    let signer = key().map_err(|error| error.to_string())?;
    let proved = Receipt::verify(&text, signer.verifier()).map_err(|error| error.to_string())?;
    assert!(
        genuine(proved.entry.bytes()),
        "an entry is proved that the ledger does not have: {}",
        proved.entry.text()
    );
    assert!(proved.entry.index() < proved.checkpoint.size());
    Ok(())
}

/// A bundle of entries.
///
/// # Errors
/// Why it is none.
///
/// # Panics
/// What it is said to hold is not all that is in it.
pub fn bundle(data: &[u8]) -> Result<(), String> {
    let entries = tiles::bundle_entries(data).map_err(|error| error.to_string())?;
    let written: Vec<u8> = entries
        .iter()
        .flat_map(|entry| {
            let length = u16::try_from(entry.len()).unwrap_or_default();
            [&length.to_be_bytes()[..], entry].concat()
        })
        .collect();
    assert_eq!(written, data, "entries and their lengths are all there is");
    Ok(())
}

/// The key of the ledger that seeds are taken from. It signs nothing else.
///
/// # Errors
/// None in practice.
pub fn key() -> Result<SignerKey, LedgerError> {
    SignerKey::from_seed("ledger.example/home", &[7; 32])
}

/// A public key whose private half is not in this repository.
const STRANGER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
