//! The home directory as the store uses it: who holds it, which of its files are private, and how a file gets there whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ambit_core::guard;
use data_encoding::HEXLOWER;

use super::StoreError;

/// The ledger's database within a home.
pub(super) const LEDGER: &str = "ledger.db";
/// Encrypted payloads too large for the database, within a home.
pub(super) const PAYLOADS: &str = "payloads";
const LOCK: &str = "lock";

/// The right to write to a home, held by one process until it ends.
///
/// The lock is the kernel's (`flock`), so that it cannot outlive its holder; the process id in the file only serves the error of whoever comes second.
#[derive(Debug)]
pub(super) struct HomeLock {
    file: File,
}

/// The lock is given back and not only closed: a process that another thread starts just now has this file too, until it runs its program,
/// and who opens the home next would be told that it is in use.
impl Drop for HomeLock {
    fn drop(&mut self) {
        // What fails here ends with the file.
        drop(self.file.unlock());
    }
}

impl HomeLock {
    /// # Errors
    /// [`StoreError::InUse`] when another process, or another store of this one, holds the home; [`StoreError::ReadOnly`] when its lock can't be written.
    pub(super) fn take(home: &Path) -> Result<Self, StoreError> {
        let path = home.join(LOCK);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| unwritable(home, &path, &error))?;
        let free = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => return Err(StoreError::io(&path, &error)),
        };
        if !guard!("ledger.lock", free) {
            return Err(StoreError::InUse {
                home: home.to_owned(),
                pid: holder(&mut file),
            });
        }
        record_holder(&mut file).map_err(|error| unwritable(home, &path, &error))?;
        Ok(Self { file })
    }

    /// The same file once more, as a process has it that was forked.
    #[cfg(test)]
    pub(super) fn copy(&self) -> File {
        self.file.try_clone().expect("a descriptor is left")
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn record_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// An error that says that the home is read-only where that is what `error` means.
pub(super) fn unwritable(home: &Path, path: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly {
            home: home.to_owned(),
            why: error.to_string(),
        },
        _ => StoreError::io(path, error),
    }
}

/// Refuses a file or directory of keys that anyone but its owner may read or write.
///
/// # Errors
/// [`StoreError::TooOpen`], or the error of looking at it.
pub(super) fn check_private(path: &Path) -> Result<(), StoreError> {
    let mode = fs::metadata(path)
        .map_err(|error| StoreError::io(path, &error))?
        .permissions()
        .mode()
        & 0o7777;
    if !guard!("ledger.key-permissions", mode & 0o077 == 0) {
        return Err(StoreError::TooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// Writes a new file that only its owner may read, and waits until its bytes are on the disk; its directory is the caller's to sync.
///
/// # Errors
/// Also when the file exists: nothing is ever overwritten.
pub(super) fn create_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a directory that only its owner may enter.
pub(super) fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Waits until the names in a directory are on the disk.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A file name that no other file has: 128 random bits in hexadecimal.
pub(super) fn random_name() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    random(&mut bytes)?;
    Ok(HEXLOWER.encode(&bytes))
}

/// Fills `bytes` from the operating system's generator.
pub(super) fn random(bytes: &mut [u8]) -> Result<(), StoreError> {
    getrandom::fill(bytes).map_err(no_randomness)
}

pub(super) fn no_randomness(error: getrandom::Error) -> StoreError {
    StoreError::Failed {
        cause: format!("the operating system gives no randomness: {error}"),
    }
}

/// Free bytes of the file system a home is on, for a process without privileges.
pub(super) fn free_bytes(home: &Path) -> Result<u64, StoreError> {
    let stat = rustix::fs::statvfs(home).map_err(|error| StoreError::io(home, &error.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Where a home keeps its large payloads.
pub(super) fn payload_dir(home: &Path) -> PathBuf {
    home.join(PAYLOADS)
}
