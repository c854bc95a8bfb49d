//! What a fuzzer drives: each takes any bytes, must not panic, and asserts what must hold for bytes that are accepted.

use super::{Checkpoint, Entry, Receipt, VerifierKey, tiles};

/// Stored bytes: what is accepted is what would be printed.
pub fn entry(data: &[u8]) {
    if let Ok(entry) = Entry::parse(data) {
        assert_eq!(entry.bytes(), data, "accepted bytes are kept as they are");
        assert_eq!(Entry::parse(entry.bytes()).as_ref(), Ok(&entry), "and read alike again");
    }
}

/// A key's text, then a note: nobody has a key for what a fuzzer makes, so nothing is ever believed.
pub fn note(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(key) = VerifierKey::parse(&text) {
        assert_eq!(
            VerifierKey::parse(&key.to_string()),
            Ok(key),
            "a key reads back as it is printed"
        );
    }
    if let Ok(key) = VerifierKey::parse(KEY) {
        assert!(
            Checkpoint::parse_verified(&text, &key).is_err(),
            "signed without the key"
        );
    }
}

/// A receipt's file.
pub fn receipt(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(key) = VerifierKey::parse(KEY) {
        assert!(Receipt::verify(&text, &key).is_err(), "proved without the key");
    }
}

/// A bundle of entries.
pub fn bundle(data: &[u8]) {
    if let Ok(entries) = tiles::bundle_entries(data) {
        let bytes: usize = entries.iter().map(|entry| entry.len() + 2).sum();
        assert_eq!(bytes, data.len(), "entries and their lengths are all there is");
    }
}

/// A public key whose private half is not in this repository.
const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
