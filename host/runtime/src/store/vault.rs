//! Payloads: the values that the ledger commits to but does not hold.
//!
//! An entry carries a payload's *commitment*, SHA-256 over 32 random bytes of salt and the value, so that nobody can guess
//! a short value from the ledger. The value and its salt are kept beside it, encrypted with XChaCha20-Poly1305 under the
//! call's own data key, which is itself encrypted ("wrapped") under the home's key-encryption key. Without the wrapped
//! key the value is gone, and every proof still holds: that is how [`erasure`](super::erasure) erases. The call and the name are bound to the ciphertext as associated
//! data: a value read back is the one that was stored there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;

use ambit_core::digest::Digest;
use ambit_core::ledger::bundle;
use chacha20poly1305::aead::{Aead as _, Payload as Message};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::{StoreError, home};
use crate::random;

/// Size of a data key and of the key-encryption key, in bytes.
pub(super) const KEY: usize = 32;
const NONCE: usize = 24;
const SALT: usize = bundle::SALT;

const SEALED: &str = "ambit/sealed-payload/v1";
const WRAPPED: &str = "ambit/wrapped-data-key/v1";

/// A value to store beside the ledger, salted so that its commitment can go into an entry first.
#[derive(Clone)]
pub struct Payload {
    pub(super) call: String,
    pub(super) name: String,
    salt: [u8; SALT],
    bytes: Vec<u8>,
}

impl Payload {
    /// A value of a call under a name that is unique within it: `args`, `result`, `effect/3/request`.
    ///
    /// # Errors
    /// Where the operating system gives no randomness.
    pub fn new(call: impl Into<String>, name: impl Into<String>, bytes: Vec<u8>) -> Result<Self, StoreError> {
        let mut salt = [0; SALT];
        random::fill(&mut salt).map_err(home::no_randomness)?;
        Ok(Self {
            call: call.into(),
            name: name.into(),
            salt,
            bytes,
        })
    }

    /// What the ledger says about the value.
    #[must_use]
    pub fn commitment(&self) -> Digest {
        bundle::commitment(&self.salt, &self.bytes)
    }

    /// The name within the call.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The salt that its commitment covers.
    pub(crate) const fn salt(&self) -> &[u8; SALT] {
        &self.salt
    }

    /// The value, where it is all that is wanted.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Names the value, never shows it.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} {}, {} bytes)", self.call, self.name, self.bytes.len())
    }
}

/// A payload as it is stored.
pub(super) struct Sealed {
    pub(super) call: String,
    pub(super) name: String,
    /// The call's data key under the home's key-encryption key.
    pub(super) wrapped: Arc<[u8]>,
    /// Nonce and ciphertext of salt and value.
    pub(super) bytes: Vec<u8>,
}

/// Encrypts and decrypts payloads with the home's key-encryption key.
pub(super) struct Vault {
    kek: XChaCha20Poly1305,
    /// Data keys of the calls under way.
    calls: Mutex<HashMap<String, CallKey>>,
}

#[derive(Clone)]
struct CallKey {
    cipher: XChaCha20Poly1305,
    wrapped: Arc<[u8]>,
}

impl Vault {
    pub(super) fn new(kek: &Zeroizing<[u8; KEY]>) -> Self {
        Self {
            kek: XChaCha20Poly1305::new((&**kek).into()),
            calls: Mutex::default(),
        }
    }

    /// Encrypts a payload under its call's data key: the one in use, else the `stored` one, else a new one.
    ///
    /// A call's key must not be made twice, so the look-up of the stored key happens under the lock.
    pub(super) fn seal(
        &self,
        payload: &Payload,
        stored: impl FnOnce() -> Result<Option<Vec<u8>>, StoreError>,
    ) -> Result<Sealed, StoreError> {
        let key = self.call_key(&payload.call, stored)?;
        let mut plain = Zeroizing::new(Vec::with_capacity(SALT + payload.bytes.len()));
        plain.extend_from_slice(&payload.salt);
        plain.extend_from_slice(&payload.bytes);
        let bytes = encrypt(
            &key.cipher,
            &plain,
            &associated(SEALED, &[&payload.call, &payload.name]),
        )?;
        Ok(Sealed {
            call: payload.call.clone(),
            name: payload.name.clone(),
            wrapped: key.wrapped,
            bytes,
        })
    }

    /// Decrypts a payload as it was stored.
    pub(super) fn open(&self, call: &str, name: &str, wrapped: &[u8], sealed: &[u8]) -> Result<Payload, StoreError> {
        let fail = |why: &str| StoreError::Payload {
            call: call.into(),
            name: name.into(),
            why: why.into(),
        };
        let cipher = self
            .unwrap(call, wrapped)
            .ok_or_else(|| fail("was encrypted for another home: its key does not open"))?;
        let plain = decrypt(&cipher, sealed, &associated(SEALED, &[call, name]))
            .ok_or_else(|| fail("was changed after it was stored"))?;
        let (salt, bytes) = plain
            .split_first_chunk()
            .ok_or_else(|| fail("was changed after it was stored"))?;
        Ok(Payload {
            call: call.into(),
            name: name.into(),
            salt: *salt,
            bytes: bytes.to_vec(),
        })
    }

    /// Forgets the data key of a call that is over.
    pub(super) fn forget(&self, call: &str) {
        self.calls.lock().remove(call);
    }

    fn call_key(
        &self,
        call: &str,
        stored: impl FnOnce() -> Result<Option<Vec<u8>>, StoreError>,
    ) -> Result<CallKey, StoreError> {
        let mut calls = self.calls.lock();
        match calls.entry(call.to_owned()) {
            Entry::Occupied(entry) => Ok(entry.get().clone()),
            Entry::Vacant(entry) => {
                let key = match stored()? {
                    Some(wrapped) => self.stored_key(call, wrapped)?,
                    None => self.new_key(call)?,
                };
                Ok(entry.insert(key).clone())
            }
        }
    }

    fn stored_key(&self, call: &str, wrapped: Vec<u8>) -> Result<CallKey, StoreError> {
        let cipher = self
            .unwrap(call, &wrapped)
            .ok_or_else(|| StoreError::damaged(format!("the data key of call {call} does not open")))?;
        Ok(CallKey {
            cipher,
            wrapped: wrapped.into(),
        })
    }

    fn new_key(&self, call: &str) -> Result<CallKey, StoreError> {
        let mut key = Zeroizing::new([0; KEY]);
        home::random(key.as_mut_slice())?;
        let wrapped = encrypt(&self.kek, key.as_slice(), &associated(WRAPPED, &[call]))?;
        Ok(CallKey {
            cipher: XChaCha20Poly1305::new((&*key).into()),
            wrapped: wrapped.into(),
        })
    }

    fn unwrap(&self, call: &str, wrapped: &[u8]) -> Option<XChaCha20Poly1305> {
        let key = decrypt(&self.kek, wrapped, &associated(WRAPPED, &[call]))?;
        XChaCha20Poly1305::new_from_slice(&key).ok()
    }
}

/// What a ciphertext is bound to: its purpose and the texts that name it, each behind its length.
fn associated(purpose: &str, names: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in std::iter::once(&purpose).chain(names) {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part.as_bytes());
    }
    out
}

/// Nonce and ciphertext. The nonce is random: 192 bits don't repeat.
fn encrypt(cipher: &XChaCha20Poly1305, plain: &[u8], associated: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut nonce = [0; NONCE];
    home::random(&mut nonce)?;
    let sealed = cipher
        .encrypt(
            &XNonce::from(nonce),
            Message {
                msg: plain,
                aad: associated,
            },
        )
        .map_err(|_| StoreError::batch("a payload is too large to be encrypted"))?;
    Ok([&nonce[..], &sealed].concat())
}

fn decrypt(cipher: &XChaCha20Poly1305, sealed: &[u8], associated: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
    cipher
        .decrypt(
            &XNonce::from(*nonce),
            Message {
                msg: sealed,
                aad: associated,
            },
        )
        .ok()
        .map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn vault(kek: u8) -> Vault {
        Vault::new(&Zeroizing::new([kek; KEY]))
    }

    fn sealed(vault: &Vault, call: &str, name: &str, bytes: &[u8]) -> (Sealed, Digest) {
        let payload = Payload::new(call, name, bytes.to_vec()).unwrap();
        (vault.seal(&payload, || Ok(None)).unwrap(), payload.commitment())
    }

    fn check(vault: &Vault, call: &str, name: &str, from: &Sealed, opens: bool) {
        let opened = vault.open(call, name, &from.wrapped, &from.bytes);
        assert_eq!(opened.is_ok(), opens, "{call} {name}: {opened:?}");
    }

    #[test]
    fn comes_back_with_its_commitment_and_nowhere_else() {
        let home = vault(1);
        let (stored, commitment) = sealed(&home, "c_a", "args", b"secret");
        let payload = home.open("c_a", "args", &stored.wrapped, &stored.bytes).unwrap();
        assert_eq!((payload.bytes(), payload.commitment()), (&b"secret"[..], commitment));
        check(&home, "c_a", "result", &stored, false);
        check(&home, "c_b", "args", &stored, false);
        check(&vault(2), "c_a", "args", &stored, false);
        assert!(!stored.bytes.windows(6).any(|bytes| bytes == b"secret"));
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let home = vault(1);
        let (stored, _) = sealed(&home, "c_a", "args", b"secret");
        for at in 0..stored.bytes.len() {
            let mut bytes = stored.bytes.clone();
            bytes[at] ^= 1;
            check(
                &home,
                "c_a",
                "args",
                &Sealed {
                    bytes,
                    ..sealed(&home, "c_a", "args", b"").0
                },
                false,
            );
        }
        assert!(home.open("c_a", "args", &stored.wrapped, &stored.bytes[..10]).is_err());
    }

    #[test]
    fn equal_values_look_different() {
        let home = vault(1);
        let ((one, first), (other, second)) = (sealed(&home, "c_a", "x", b"5"), sealed(&home, "c_a", "y", b"5"));
        assert_ne!(first, second);
        assert_ne!(one.bytes, other.bytes);
    }

    #[test]
    fn a_call_has_one_key_also_after_it_was_forgotten() {
        let home = vault(1);
        let (first, _) = sealed(&home, "c_a", "x", b"5");
        assert_eq!(sealed(&home, "c_a", "y", b"5").0.wrapped, first.wrapped);
        assert_ne!(sealed(&home, "c_b", "x", b"5").0.wrapped, first.wrapped);
        home.forget("c_a");
        let payload = Payload::new("c_a", "z", b"6".to_vec()).unwrap();
        let again = home.seal(&payload, || Ok(Some(first.wrapped.to_vec()))).unwrap();
        assert_eq!(again.wrapped, first.wrapped);
        check(&home, "c_a", "z", &again, true);
        assert!(!format!("{payload:?}").contains('6'));
    }
}
