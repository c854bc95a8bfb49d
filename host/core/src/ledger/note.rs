//! Signed notes (c2sp.org/signed-note) with Ed25519: a text, a blank line, and lines of signatures.
//!
//! Nothing of a note's text is handed out before a signature of the expected key has been verified over it.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::LedgerError;
use crate::guard;

/// The specification's identifier of plain Ed25519 signatures.
const ED25519: u8 = 0x01;
/// Longest note that is read. Sixteen signatures of the largest kind (5 kB each, in base64) fit, as the specification asks.
const MAX_NOTE: usize = 128 * 1024;
/// Longest name of a key: it is a line of a checkpoint and part of a file.
const MAX_NAME: usize = 255;
/// How a signature line begins.
const DASH: &str = "\u{2014} ";

/// First four bytes of SHA-256(name, newline, algorithm, public key): tells keys of one name apart; it is no proof of anything.
#[derive(Clone, Copy, PartialEq, Eq)]
struct KeyId([u8; 4]);

impl KeyId {
    fn of(name: &str, key: &VerifyingKey) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(name.as_bytes());
        hasher.update([b'\n', ED25519]);
        hasher.update(key.as_bytes());
        let hash: [u8; 32] = hasher.finalize().into();
        let [a, b, c, d, ..] = hash;
        Self([a, b, c, d])
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

/// Who may be believed: a ledger's public key under its name. Its text is `name+keyid+base64`, as Go's `sumdb/note` and others read it.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: KeyId,
    key: VerifyingKey,
}

impl VerifierKey {
    fn new(name: &str, key: VerifyingKey) -> Result<Self, LedgerError> {
        check_name(name)?;
        Ok(Self {
            name: name.to_owned(),
            id: KeyId::of(name, &key),
            key,
        })
    }

    /// Reads a key's text; white space around it is ignored, as files end in a newline.
    ///
    /// # Errors
    /// [`LedgerError::Key`] where it is malformed, of another algorithm, or its id is not that of the key.
    pub fn parse(text: &str) -> Result<Self, LedgerError> {
        let (name, id, data) = split_key(text.trim())?;
        let bytes = BASE64
            .decode(data.as_bytes())
            .map_err(|_| bad_key("its last part is not base64"))?;
        let key = ed25519_bytes(&bytes)?;
        let key = VerifyingKey::from_bytes(key).map_err(|_| bad_key("it is not a point of Ed25519"))?;
        if key.is_weak() {
            return Err(bad_key("it is one of Ed25519's weak points, which verify anything"));
        }
        let key = Self::new(name, key)?;
        if key.id != id {
            return Err(LedgerError::Key(format!(
                "it says its id is {id}, and it is {}",
                key.id
            )));
        }
        Ok(key)
    }

    /// The key's name, which is also the origin of the ledger's checkpoints.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is the same key, whatever it is called.
    #[must_use]
    pub fn is_key_of(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// Verifies a note and gives back its text: lines, each ending in a newline.
    ///
    /// Signatures of other keys are passed over, as the specification wants (witnesses and later keys sign too). Every signature that
    /// claims to be of this key must verify, and there must be one.
    ///
    /// # Errors
    /// [`LedgerError::Note`] for what is not a signed note, [`LedgerError::Signature`] where this key did not sign it.
    pub fn open<'n>(&self, note: &'n str) -> Result<&'n str, LedgerError> {
        let (text, signatures) = split_note(note)?;
        let mut verified = false;
        for line in signatures.lines() {
            let (name, id, signature) = signature_line(line)?;
            if name == self.name && id == self.id {
                self.check(text, &signature)?;
                verified = true;
            }
        }
        if !guard!("ledger.signature", verified) {
            return Err(self.unsigned("none of its signatures is of this key"));
        }
        Ok(text)
    }

    fn check(&self, text: &str, signature: &[u8]) -> Result<(), LedgerError> {
        // Strict: no small-order keys, no second encoding of a signature.
        let valid = Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(text.as_bytes(), &signature).is_ok());
        if !guard!("ledger.signature", valid) {
            return Err(self.unsigned("the signature is wrong"));
        }
        Ok(())
    }

    fn unsigned(&self, why: &'static str) -> LedgerError {
        LedgerError::Signature {
            key: format!("{} ({})", self.name, self.id),
            why,
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut data = vec![ED25519];
        data.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, self.id, BASE64.encode(&data))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The ledger's signing key under its name. Wiped when dropped; it prints as its public half only.
pub struct SignerKey {
    key: SigningKey,
    verifier: VerifierKey,
}

/// What a signing key's text begins with, so that nobody takes it for the public one.
const PRIVATE: &str = "PRIVATE+KEY+";

impl SignerKey {
    /// A key from 32 bytes of a cryptographic random source, which the caller has.
    ///
    /// # Errors
    /// [`LedgerError::Key`] for a name that is empty, too long, or has spaces, control characters or `+` in it.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, LedgerError> {
        let key = SigningKey::from_bytes(seed);
        Ok(Self {
            verifier: VerifierKey::new(name, key.verifying_key())?,
            key,
        })
    }

    /// Reads what [`SignerKey::to_text`] wrote.
    ///
    /// # Errors
    /// [`LedgerError::Key`], which says nothing of the text.
    pub fn parse(text: &str) -> Result<Self, LedgerError> {
        let rest = text
            .trim()
            .strip_prefix(PRIVATE)
            .ok_or_else(|| bad_key("it does not begin as a signing key does"))?;
        let (name, id, data) = split_key(rest)?;
        let bytes = Zeroizing::new(
            BASE64
                .decode(data.as_bytes())
                .map_err(|_| bad_key("its last part is not base64"))?,
        );
        let signer = Self::from_seed(name, ed25519_bytes(&bytes)?)?;
        if signer.verifier.id != id {
            return Err(bad_key("its id is not that of the key"));
        }
        Ok(signer)
    }

    /// The key's secret text, for its file (mode 0600) and nothing else.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut data = Zeroizing::new(vec![ED25519]);
        data.extend_from_slice(self.key.as_bytes());
        let encoded = Zeroizing::new(BASE64.encode(&data));
        Zeroizing::new(format!(
            "{PRIVATE}{}+{}+{}",
            self.verifier.name, self.verifier.id, *encoded
        ))
    }

    /// The public half.
    #[must_use]
    pub const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs a text of whole lines into a note. Private to this crate: a ledger's key signs checkpoints and a person's key votes, each
    /// under a first line of its own, or a signature would not say what it says.
    pub(crate) fn sign(&self, text: &str) -> String {
        let mut data = self.verifier.id.0.to_vec();
        data.extend_from_slice(&self.key.sign(text.as_bytes()).to_bytes());
        format!("{text}\n{DASH}{} {}\n", self.verifier.name, BASE64.encode(&data))
    }
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignerKey({})", self.verifier)
    }
}

fn bad_key(why: &str) -> LedgerError {
    LedgerError::Key(why.to_owned())
}

fn bad_note(why: &str) -> LedgerError {
    LedgerError::Note(why.to_owned())
}

/// A key's name: a schema-less URL by custom; by rule, nothing that would end or split the line it stands in.
fn check_name(name: &str) -> Result<(), LedgerError> {
    let legal = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(legal) {
        return Err(bad_key(
            "its name must have 1 to 255 bytes, and no spaces, control characters or `+`",
        ));
    }
    Ok(())
}

/// `name+keyid+base64` in its parts. Base64 may have a `+` of its own; name and id never do.
fn split_key(text: &str) -> Result<(&str, KeyId, &str), LedgerError> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(data)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(bad_key("it is not of the form name+keyid+base64"));
    };
    check_name(name)?;
    let id = HEXLOWER_PERMISSIVE
        .decode(id.as_bytes())
        .ok()
        .and_then(|id| id.try_into().ok())
        .ok_or_else(|| bad_key("its id is not eight hexadecimal digits"))?;
    Ok((name, KeyId(id), data))
}

/// The 32 bytes after the algorithm's identifier.
fn ed25519_bytes(data: &[u8]) -> Result<&[u8; 32], LedgerError> {
    match data.split_first() {
        Some((&ED25519, key)) => key.try_into().map_err(|_| bad_key("an Ed25519 key has 32 bytes")),
        _ => Err(bad_key("it is not of the algorithm Ed25519 (1)")),
    }
}

/// The text (with its last newline) and the lines of signatures, at the last blank line.
fn split_note(note: &str) -> Result<(&str, &str), LedgerError> {
    if note.len() > MAX_NOTE {
        return Err(bad_note("it is longer than 128 KiB"));
    }
    if note.chars().any(|c| c.is_ascii_control() && c != '\n') {
        return Err(bad_note("it has control characters in it"));
    }
    let (text, signatures) = note
        .rsplit_once("\n\n")
        .ok_or_else(|| bad_note("no blank line and signatures follow its text"))?;
    if signatures.is_empty() || !signatures.ends_with('\n') {
        return Err(bad_note("it does not end in a line with a signature"));
    }
    // The first of the two newlines belongs to the text.
    let text = note.get(..=text.len()).ok_or_else(|| bad_note("it is cut"))?;
    Ok((text, signatures))
}

/// `— name base64(key id, signature)`.
fn signature_line(line: &str) -> Result<(&str, KeyId, Vec<u8>), LedgerError> {
    let malformed = || bad_note("a line of signatures is malformed");
    let (name, data) = line
        .strip_prefix(DASH)
        .and_then(|rest| rest.split_once(' '))
        .ok_or_else(malformed)?;
    check_name(name).map_err(|_| malformed())?;
    let data = BASE64.decode(data.as_bytes()).map_err(|_| malformed())?;
    let (id, signature) = data.split_first_chunk::<4>().ok_or_else(malformed)?;
    if signature.is_empty() {
        return Err(malformed());
    }
    Ok((name, KeyId(*id), signature.to_vec()))
}
