//! The home's keys, each in a file of its own that only its owner may read.
//!
//! | file | what it does | when it is lost | when it is stolen |
//! |---|---|---|---|
//! | `ledger.key` | signs checkpoints (Ed25519) | nothing can be appended | the ledger can be rewritten, unless a copy of a checkpoint is elsewhere |
//! | `ledger.pub` | verifies them; meant to be given away | made again from the above | |
//! | `payload.kek` | encrypts the calls' data keys | every payload is gone; the ledger still verifies | payloads can be read |
//! | `cache.key` | authenticates compiled components | they are compiled again | with write access to the cache, code can be planted |
//! | `run-token.key` | signs tokens of runs (Ed25519); made with the first one | no token that was given out is good any more | tokens of any open run can be made |

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ambit_core::digest::Digest;
use ambit_core::ledger::{SignerKey, VerifierKey};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use zeroize::Zeroizing;

use super::vault::{KEY, Vault};
use super::{StoreError, home};

const DIR: &str = "keys";
const LEDGER_KEY: &str = "ledger.key";
const LEDGER_PUB: &str = "ledger.pub";
const PAYLOAD_KEK: &str = "payload.kek";
const CACHE_KEY: &str = "cache.key";
const RUN_TOKEN_KEY: &str = "run-token.key";

/// The keys of a home. Wiped when dropped, and never printed.
pub struct Keys {
    ledger: SignerKey,
    payload: Zeroizing<[u8; KEY]>,
    cache: Zeroizing<[u8; KEY]>,
}

impl Keys {
    /// Makes a home's keys, in `home/keys`: all of them, durably, or none.
    ///
    /// # Errors
    /// [`StoreError::Keys`] where the home has keys already (they are never replaced), [`StoreError::ReadOnly`], [`StoreError::Io`].
    pub fn create(home: &Path) -> Result<Self, StoreError> {
        let dir = home.join(DIR);
        if dir.exists() {
            return Err(StoreError::Keys {
                path: dir,
                why: "exists; keys are never replaced".into(),
            });
        }
        let keys = Self::generate()?;
        let staged = home.join(format!("{DIR}.{}", home::random_name()?));
        let stored = keys
            .write(&staged)
            .and_then(|()| fs::rename(&staged, &dir))
            .and_then(|()| home::sync_dir(home));
        stored.map_err(|error| {
            // What was staged is of no use, and the error that matters is the first.
            drop(fs::remove_dir_all(&staged));
            home::unwritable(home, &dir, &error)
        })?;
        Ok(keys)
    }

    /// Reads a home's keys.
    ///
    /// # Errors
    /// [`StoreError::TooOpen`] where others than the owner may read or write one, [`StoreError::Keys`] where one is missing, malformed, or
    /// the public ledger key is not that of the private one.
    pub fn load(home: &Path) -> Result<Self, StoreError> {
        let dir = home.join(DIR);
        if !dir.exists() {
            return Err(StoreError::Keys {
                path: dir,
                why: "is missing; `ambit init` makes a home with keys".into(),
            });
        }
        home::check_private(&dir)?;
        let path = dir.join(LEDGER_KEY);
        let ledger = SignerKey::parse(&read_private(&path)?).map_err(|error| bad(&path, error))?;
        if verifier(home)? != *ledger.verifier() {
            return Err(bad(
                &dir.join(LEDGER_PUB),
                format!("is not the public half of {LEDGER_KEY}"),
            ));
        }
        Ok(Self {
            ledger,
            payload: read_secret(&dir.join(PAYLOAD_KEK))?,
            cache: read_secret(&dir.join(CACHE_KEY))?,
        })
    }

    /// Keys that no file has, for a store in memory.
    ///
    /// # Errors
    /// Where the operating system gives no randomness.
    pub fn generate() -> Result<Self, StoreError> {
        let seed = random_secret()?;
        let mut id = [0; 8];
        home::random(&mut id)?;
        // A ledger needs a name of its own, or one's checkpoint could be shown for another's; it needs no meaning.
        let name = format!("ambit-ledger/{}", HEXLOWER.encode(&id));
        let ledger = SignerKey::from_seed(&name, &seed).map_err(|error| bad(Path::new(LEDGER_KEY), error))?;
        Ok(Self {
            ledger,
            payload: random_secret()?,
            cache: random_secret()?,
        })
    }

    /// The key that checkpoints are signed with.
    pub(super) const fn ledger(&self) -> &SignerKey {
        &self.ledger
    }

    /// What verifies the ledger's checkpoints.
    #[must_use]
    pub const fn verifier(&self) -> &VerifierKey {
        self.ledger.verifier()
    }

    /// The key that authenticates compiled components.
    #[must_use]
    pub fn cache_key(&self) -> &[u8; KEY] {
        &self.cache
    }

    /// The key under which words of callers stand on the ledger: another one than what it is made of, for this alone.
    pub(crate) fn words(&self) -> WordKey {
        let digest = Digest::domain("ambit/word-key/v1", &[self.payload.as_slice()]);
        WordKey(Zeroizing::new(*digest.as_bytes()))
    }

    pub(super) fn vault(&self) -> Vault {
        Vault::new(&self.payload)
    }

    fn write(&self, dir: &Path) -> io::Result<()> {
        home::create_private_dir(dir)?;
        let line = |text: &str| Zeroizing::new(format!("{text}\n"));
        let hex = |key: &[u8; KEY]| line(&Zeroizing::new(HEXLOWER.encode(key)));
        home::create_private(&dir.join(LEDGER_KEY), line(&self.ledger.to_text()).as_bytes())?;
        home::create_private(&dir.join(LEDGER_PUB), line(&self.verifier().to_string()).as_bytes())?;
        home::create_private(&dir.join(PAYLOAD_KEK), hex(&self.payload).as_bytes())?;
        home::create_private(&dir.join(CACHE_KEY), hex(&self.cache).as_bytes())?;
        home::sync_dir(dir)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.verifier())
    }
}

/// The key under which words of callers stand on the ledger, so that nobody who reads it can guess them.
pub(crate) struct WordKey(Zeroizing<[u8; KEY]>);

impl WordKey {
    /// What stands there for a digest. That has one length, so nothing can be put behind it.
    pub(crate) fn mark(&self, digest: &Digest) -> Digest {
        Digest::domain("ambit/word-mark/v1", &[self.0.as_slice(), digest.as_bytes()])
    }
}

impl fmt::Debug for WordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WordKey(…)")
    }
}

/// The public half of a home's ledger key, which needs none of its secrets: for audits.
///
/// # Errors
/// [`StoreError::Keys`], [`StoreError::Io`].
pub fn verifier(home: &Path) -> Result<VerifierKey, StoreError> {
    let path = home.join(DIR).join(LEDGER_PUB);
    VerifierKey::parse(&read(&path)?).map_err(|error| bad(&path, error))
}

/// The seed of the key that a home's run tokens are signed with; none where the home never made one. It is of its own, and signs nothing
/// else: no token can be taken for a checkpoint, or the other way round.
///
/// # Errors
/// As [`Keys::load`].
pub(crate) fn run_token_key(home: &Path) -> Result<Option<Zeroizing<[u8; KEY]>>, StoreError> {
    let path = home.join(DIR).join(RUN_TOKEN_KEY);
    if !path.try_exists().map_err(|error| StoreError::io(&path, &error))? {
        return Ok(None);
    }
    read_secret(&path).map(Some)
}

/// The same, made where there is none. Of two that make it at once one does, and both have that.
///
/// # Errors
/// As [`Keys::load`]; [`StoreError::ReadOnly`], [`StoreError::Io`].
pub(crate) fn made_run_token_key(home: &Path) -> Result<Zeroizing<[u8; KEY]>, StoreError> {
    if let Some(key) = run_token_key(home)? {
        return Ok(key);
    }
    let dir = home.join(DIR);
    let (path, staged) = (
        dir.join(RUN_TOKEN_KEY),
        dir.join(format!("{RUN_TOKEN_KEY}.{}", home::random_name()?)),
    );
    let key = random_secret()?;
    let text = Zeroizing::new(format!("{}\n", *Zeroizing::new(HEXLOWER.encode(key.as_slice()))));
    // Whole under its name or not there: a link takes no other file's place.
    let linked = home::create_private(&staged, text.as_bytes()).and_then(|()| fs::hard_link(&staged, &path));
    drop(fs::remove_file(&staged));
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        linked => linked
            .and_then(|()| home::sync_dir(&dir))
            .map_err(|error| home::unwritable(home, &path, &error))?,
    }
    read_secret(&path)
}

fn bad(path: &Path, why: impl fmt::Display) -> StoreError {
    StoreError::Keys {
        path: PathBuf::from(path),
        why: why.to_string(),
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, StoreError> {
    fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| bad(path, error))
}

fn read_private(path: &Path) -> Result<Zeroizing<String>, StoreError> {
    let text = read(path)?;
    home::check_private(path)?;
    Ok(text)
}

fn read_secret(path: &Path) -> Result<Zeroizing<[u8; KEY]>, StoreError> {
    let text = read_private(path)?;
    let bytes = HEXLOWER_PERMISSIVE
        .decode(text.trim().as_bytes())
        .ok()
        .map(Zeroizing::new);
    let key = bytes.and_then(|bytes| <[u8; KEY]>::try_from(bytes.as_slice()).ok());
    key.map(Zeroizing::new)
        .ok_or_else(|| bad(path, "is not a key of 64 hexadecimal digits"))
}

fn random_secret() -> Result<Zeroizing<[u8; KEY]>, StoreError> {
    let mut key = Zeroizing::new([0; KEY]);
    home::random(key.as_mut_slice())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn home() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn are_private_and_come_back() {
        let home = home();
        let made = Keys::create(home.path()).unwrap();
        let read = Keys::load(home.path()).unwrap();
        assert_eq!(made.verifier(), read.verifier());
        assert_eq!(made.verifier(), &verifier(home.path()).unwrap());
        assert_eq!((made.cache_key(), &*made.payload), (read.cache_key(), &*read.payload));
        assert_ne!(made.cache_key(), &*made.payload);
        assert_eq!(mode(&home.path().join(DIR)), 0o700);
        let files: Vec<_> = fs::read_dir(home.path().join(DIR))
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        assert_eq!(files.len(), 4);
        files
            .iter()
            .for_each(|file| assert_eq!(mode(file), 0o600, "{}", file.display()));
        assert_eq!(
            fs::read_dir(home.path()).unwrap().count(),
            1,
            "something is left of the staging"
        );
    }

    #[test]
    fn are_never_replaced() {
        let home = home();
        let key = Keys::create(home.path()).unwrap().verifier().clone();
        assert!(matches!(Keys::create(home.path()), Err(StoreError::Keys { .. })));
        assert_eq!(verifier(home.path()).unwrap(), key);
    }

    #[test]
    fn too_open_is_refused() {
        for (name, mode) in [
            (LEDGER_KEY, 0o640),
            (PAYLOAD_KEK, 0o604),
            (CACHE_KEY, 0o620),
            ("", 0o750),
        ] {
            let home = home();
            Keys::create(home.path()).unwrap();
            let path = home.path().join(DIR).join(name);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = Keys::load(home.path()).unwrap_err();
            assert!(
                matches!(refused, StoreError::TooOpen { mode: found, .. } if found == mode),
                "{name}: {refused}"
            );
        }
    }

    #[test]
    fn a_broken_file_is_named_and_not_quoted() {
        for (name, text) in [
            (LEDGER_KEY, "hunter2"),
            (LEDGER_PUB, "hunter2"),
            (PAYLOAD_KEK, "hunter2"),
            (CACHE_KEY, ""),
        ] {
            let home = home();
            Keys::create(home.path()).unwrap();
            let path = home.path().join(DIR).join(name);
            fs::write(&path, text).unwrap();
            let refused = Keys::load(home.path()).unwrap_err().to_string();
            assert!(refused.contains(name) && !refused.contains("hunter2"), "{refused}");
        }
        let (one, other) = (home(), home());
        Keys::create(one.path()).unwrap();
        Keys::create(other.path()).unwrap();
        let public = |home: &tempfile::TempDir| home.path().join(DIR).join(LEDGER_PUB);
        fs::copy(public(&other), public(&one)).unwrap();
        assert!(Keys::load(one.path()).unwrap_err().to_string().contains("public half"));
    }

    #[test]
    fn are_not_printed() {
        let keys = Keys::generate().unwrap();
        let text = format!("{keys:?}");
        assert!(
            !text.contains(&HEXLOWER.encode(&*keys.payload)) && !text.contains(keys.ledger.to_text().as_str()),
            "{text}"
        );
    }
}
