//! Keys that operators give out to agents over HTTP: how they are written, and how long which one is good for what.
//!
//! A key is 256 random bits with the name it goes by, in one word that a scanner for leaked secrets finds and can check:
//! `ambit_` and 84 letters and digits. Who gives it out keeps its digest alone. A plain SHA-256 is enough for that: what makes
//! passwords need a slow hash is that they can be guessed, and 256 random bits cannot.

use std::hint::black_box;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::why::{Denied, Why};
use crate::digest::Digest;
use crate::grant::Narrowing;
use crate::guard;
use crate::ledger::body::KeyCreated;

/// What each key begins with.
pub const PREFIX: &str = "ambit_";
/// What an id begins with.
pub const ID_PREFIX: &str = "k_";
/// The longest that a key is good for, in milliseconds: 366 days.
pub const LONGEST_MS: u64 = 366 * 86_400_000;

const ID: usize = 16;
const SECRET: usize = 32;
const CHECK: usize = 4;

/// A new key: the word for whoever is to have it, and what is kept.
#[derive(Debug)]
pub struct NewKey {
    /// The whole key. Shown once, and kept nowhere.
    pub word: Zeroizing<String>,
    /// What it is known by.
    pub shown: Shown,
}

/// What a key shows of itself to whoever keeps its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// Its id: `k_` and 26 characters of base32.
    pub id: String,
    /// The digest of its secret.
    pub hash: Digest,
}

/// The key of these random bytes.
#[must_use]
pub fn new(id: [u8; ID], secret: &[u8; SECRET]) -> NewKey {
    let mut bytes = Zeroizing::new(Vec::with_capacity(ID + SECRET + CHECK));
    bytes.extend_from_slice(&id);
    bytes.extend_from_slice(secret);
    let check = checksum(&bytes);
    bytes.extend_from_slice(&check);
    let mut word = Zeroizing::new(String::from(PREFIX));
    word.push_str(&Zeroizing::new(BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()));
    NewKey {
        word,
        shown: shown(&id, secret),
    }
}

/// Reads a key as it is presented.
///
/// # Errors
/// [`Why::Malformed`]: not a key, or with a slip in it, which costs no look into the store.
pub fn parse(word: &str) -> Result<Shown, Denied> {
    let malformed = || Denied::new(Why::Malformed, "the key is not one, or is not whole");
    let text = word.strip_prefix(PREFIX).ok_or_else(malformed)?;
    if text.len() != (ID + SECRET + CHECK) * 8 / 5 + 1 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(malformed());
    }
    let text = Zeroizing::new(text.to_ascii_uppercase());
    let bytes = Zeroizing::new(BASE32_NOPAD.decode(text.as_bytes()).map_err(|_| malformed())?);
    let (key, check) = bytes.split_last_chunk::<CHECK>().ok_or_else(malformed)?;
    if !guard!("identity.key-checksum", *check == checksum(key)) {
        return Err(malformed());
    }
    let (id, secret) = key.split_first_chunk::<ID>().ok_or_else(malformed)?;
    let secret = secret.first_chunk::<SECRET>().ok_or_else(malformed)?;
    Ok(shown(id, secret))
}

fn shown(id: &[u8; ID], secret: &[u8; SECRET]) -> Shown {
    Shown {
        id: format!("{ID_PREFIX}{}", BASE32_NOPAD.encode(id).to_ascii_lowercase()),
        hash: Digest::domain("ambit/key/v1", &[id, secret]),
    }
}

/// Finds slips, and words that only look like a key. It is no secret's.
fn checksum(key: &[u8]) -> [u8; CHECK] {
    let digest = Digest::domain("ambit/key-checksum/v1", &[key]);
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// Whether this is the form of a key's id.
#[must_use]
pub fn is_key_id(text: &str) -> bool {
    text.strip_prefix(ID_PREFIX).is_some_and(|digits| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte);
        digits.len() == 26 && digits.bytes().all(plain)
    })
}

/// A key, as the entries so far say it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// What it was made with.
    pub created: KeyCreated,
    /// The ledger index of the entry that made it.
    pub index: u64,
    /// When it was made, in milliseconds since 1970.
    pub time_ms: i64,
    /// From then on it is over, in milliseconds since 1970: earlier than it was made for where another took its place.
    pub until_ms: u64,
    /// The ledger index of the entry that revoked it.
    pub revoked: Option<u64>,
}

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is good.
    Active,
    /// Its time is over.
    Expired,
    /// An operator revoked it.
    Revoked,
}

impl Standing {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl ApiKey {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.created.key
    }

    /// Where it stands at a time, in milliseconds since 1970.
    #[must_use]
    pub const fn standing(&self, now_ms: u64) -> Standing {
        match self.revoked {
            Some(_) => Standing::Revoked,
            None if now_ms < self.until_ms => Standing::Active,
            None => Standing::Expired,
        }
    }

    /// Whether it is good now: its holder showed it earlier, or has just.
    ///
    /// # Errors
    /// [`Why::Revoked`], [`Why::Expired`]
    pub fn check(&self, now_ms: u64) -> Result<(), Denied> {
        let standing = self.standing(now_ms);
        if !guard!("identity.key-revoked", standing != Standing::Revoked) {
            return Err(Denied::new(Why::Revoked, "the key was revoked"));
        }
        if !guard!("identity.key-expired", standing != Standing::Expired) {
            return Err(Denied::new(Why::Expired, "the key is over"));
        }
        Ok(())
    }

    /// Whether what is shown is this key, and it is good now.
    ///
    /// # Errors
    /// [`Why::UnknownKey`] for another secret, before anything is said of the key; then as [`ApiKey::check`].
    pub fn verify(&self, shown: &Shown, now_ms: u64) -> Result<(), Denied> {
        let same = self.created.key == shown.id && is_same(&self.created.hash, &shown.hash);
        if !guard!("identity.key-secret", same) {
            return Err(unknown());
        }
        self.check(now_ms)
    }

    /// What it leaves of what its agent could do.
    #[must_use]
    pub const fn narrowing(&self) -> &Narrowing {
        &self.created.narrowing
    }
}

/// What is said of a key that is not here, which is what is said of one with another secret.
#[must_use]
pub fn unknown() -> Denied {
    Denied::new(Why::UnknownKey, "the key is not known here")
}

/// Looks at every byte, whichever differs.
fn is_same(one: &Digest, other: &Digest) -> bool {
    let differing = one
        .as_bytes()
        .iter()
        .zip(other.as_bytes())
        .fold(0_u8, |seen, (a, b)| black_box(seen | (a ^ b)));
    black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(secret: u8) -> NewKey {
        new([7; 16], &[secret; 32])
    }

    fn kept(shown: &Shown) -> ApiKey {
        ApiKey {
            created: KeyCreated {
                operator: None,
                agent: "assistant".into(),
                expires: 1_000,
                hash: shown.hash,
                key: shown.id.clone(),
                name: None,
                narrowing: Narrowing::default(),
                replaces: None,
                user: None,
            },
            index: 3,
            time_ms: 0,
            until_ms: 1_000,
            revoked: None,
        }
    }

    #[test]
    fn a_key_is_one_word_that_scanners_find() {
        let made = key(9);
        assert_eq!(made.word.len(), 90);
        assert!(made.word.starts_with("ambit_"));
        assert!(
            made.word["ambit_".len()..]
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() && !byte.is_ascii_uppercase())
        );
        assert_eq!(parse(&made.word).unwrap(), made.shown);
        assert!(is_key_id(&made.shown.id));
        assert_eq!(made.shown.id, key(8).shown.id);
        assert_ne!(made.shown.hash, key(8).shown.hash);
    }

    #[test]
    fn a_slip_is_seen_without_the_store() {
        let word = key(9).word;
        for at in PREFIX.len()..word.len() {
            let mut other = word.as_bytes().to_vec();
            other[at] = if other[at] == b'a' { b'b' } else { b'a' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(parse(&other).unwrap_err().why, Why::Malformed, "{at}");
        }
        for bad in [
            "",
            "ambit_",
            &word[..89],
            &format!("{}a", *word),
            &word.to_ascii_uppercase(),
            &word[6..],
        ] {
            assert_eq!(parse(bad).unwrap_err().why, Why::Malformed, "{bad}");
        }
    }

    #[test]
    fn a_key_is_good_with_its_secret_until_its_time() {
        let made = key(9);
        let mut kept = kept(&made.shown);
        let why = |kept: &ApiKey, shown: &Shown, now| kept.verify(shown, now).err().map(|denied| denied.why);
        assert_eq!(why(&kept, &made.shown, 999), None);
        assert_eq!(why(&kept, &made.shown, 1_000), Some(Why::Expired));
        assert_eq!(why(&kept, &key(8).shown, 999), Some(Why::UnknownKey));
        kept.revoked = Some(4);
        assert_eq!(why(&kept, &made.shown, 999), Some(Why::Revoked));
        // Who has not the secret is not told how the key stands.
        assert_eq!(why(&kept, &key(8).shown, 999), Some(Why::UnknownKey));
    }

    #[test]
    fn only_the_form_of_an_id_is_an_id() {
        for bad in [
            "",
            "k_",
            "c_aaaaaaaaaaaaaaaaaaaaaaaaaa",
            &format!("k_{}", "A".repeat(26)),
            &format!("k_{}", "1".repeat(26)),
        ] {
            assert!(!is_key_id(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_word_ends_the_host(word in "(ambit_)?[a-z2-7=]{80,90}", other in "\\PC{0,100}") {
            prop_assert!(parse(&word).is_err());
            prop_assert!(parse(&other).is_err());
        }

        #[test]
        fn what_is_made_is_read(id in any::<[u8; 16]>(), secret in any::<[u8; 32]>()) {
            let made = new(id, &secret);
            prop_assert_eq!(parse(&made.word).unwrap(), made.shown);
        }
    }
}
