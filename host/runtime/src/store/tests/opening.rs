//! What a store refuses to open, and what it says.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::super::{Faults, HighWaterOptions, Keys, Reader, Store, StoreError, StoreOptions, home};
use super::fixture::{Home, note};

fn refused(home: &Home) -> StoreError {
    home.try_open(StoreOptions::default(), Faults::none()).unwrap_err()
}

#[test]
fn one_store_at_a_time() {
    let home = Home::new();
    let store = home.open();
    let error = refused(&home);
    assert_eq!(
        error,
        StoreError::InUse {
            home: home.path().into(),
            pid: Some(std::process::id())
        }
    );
    assert!(error.to_string().contains(&format!("process {}", std::process::id())));
    drop(store);
    home.open();
}

/// What a process that is being started has open until it runs its program keeps no home: as a copy of the lock's file does.
#[test]
fn a_lock_that_is_given_back_is_free_whoever_has_a_copy() {
    let home = Home::new();
    drop(home.open());
    let lock = home::HomeLock::take(home.path()).unwrap();
    let copy = lock.copy();
    drop(lock);
    home.open();
    drop(copy);
}

#[test]
fn another_version() {
    let home = Home::new();
    drop(home.open());
    home.database().execute_batch("PRAGMA user_version = 7").unwrap();
    let error = refused(&home);
    assert!(
        matches!(
            error,
            StoreError::Version {
                found: 7,
                expected: 6,
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(
        Reader::open(home.path()),
        Err(StoreError::Version { found: 7, .. })
    ));
}

#[test]
fn something_else() {
    let other = |write: fn(&Path)| {
        let home = Home::new();
        write(&home.path().join(home::LEDGER));
        let before = fs::read(home.path().join(home::LEDGER)).unwrap();
        let error = refused(&home);
        assert!(matches!(error, StoreError::NotALedger { .. }), "{error}");
        assert!(matches!(Reader::open(home.path()), Err(StoreError::NotALedger { .. })));
        assert_eq!(
            fs::read(home.path().join(home::LEDGER)).unwrap(),
            before,
            "it was changed"
        );
    };
    other(|path| {
        fs::write(
            path,
            "no database, but long enough to be taken for one at first sight ".repeat(100),
        )
        .unwrap()
    });
    other(|path| {
        rusqlite::Connection::open(path)
            .unwrap()
            .execute_batch("CREATE TABLE t(x)")
            .unwrap()
    });
}

#[test]
fn nothing_to_read() {
    let home = Home::new();
    assert!(matches!(Reader::open(home.path()), Err(StoreError::Missing { .. })));
}

#[test]
fn another_key() {
    let home = Home::new();
    drop(home.open());
    fs::remove_dir_all(home.path().join("keys")).unwrap();
    Keys::create(home.path()).unwrap();
    assert!(matches!(refused(&home), StoreError::OtherKey { .. }));
}

#[test]
fn a_tail_that_was_not_signed() {
    let tampered = |sql: &str| {
        let home = Home::new();
        let store = home.open();
        (0..5).for_each(|_| drop(store.commit(note()).unwrap()));
        drop(store);
        home.database().execute_batch(sql).unwrap();
        assert!(home.try_open(StoreOptions::default(), Faults::none()).is_err(), "{sql}");
    };
    tampered("DELETE FROM entries WHERE idx = 5");
    tampered("DELETE FROM checkpoints WHERE size = 6");
    tampered("DELETE FROM checkpoints");
    tampered("UPDATE entries SET leaf = zeroblob(32) WHERE idx = 5");
    tampered("UPDATE entries SET leaf = zeroblob(32) WHERE idx = 4");
    tampered("UPDATE entries SET bytes = (SELECT bytes FROM entries WHERE idx = 4) WHERE idx = 5");
}

/// A home that keeps a checkpoint outside, and has five entries and the opening one.
struct Kept {
    home: Home,
    path: std::path::PathBuf,
    _outside: tempfile::TempDir,
}

impl Kept {
    fn new(sync_every: Duration) -> Self {
        let home = Home::new();
        let (outside, path) = home.outside();
        let kept = Self {
            home,
            path,
            _outside: outside,
        };
        let store = kept.open_every(sync_every).unwrap();
        (0..5).for_each(|_| drop(store.commit(note()).unwrap()));
        kept
    }

    fn open_every(&self, sync_every: Duration) -> Result<Store, StoreError> {
        let high_water = Some(HighWaterOptions {
            path: self.path.clone(),
            sync_every,
        });
        self.home.try_open(
            StoreOptions {
                high_water,
                ..StoreOptions::default()
            },
            Faults::none(),
        )
    }

    fn open(&self) -> Result<Store, StoreError> {
        self.open_every(Duration::ZERO)
    }

    fn ledger(&self) -> std::path::PathBuf {
        self.home.path().join(home::LEDGER)
    }
}

#[test]
fn trap_13_a_restored_shorter_ledger() {
    for sync_every in [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(3600)] {
        let kept = Kept::new(sync_every);
        let copy = fs::read(kept.ledger()).unwrap();
        let store = kept.open_every(sync_every).unwrap();
        (0..3).for_each(|_| drop(store.commit(note()).unwrap()));
        drop(store);
        kept.open().unwrap();
        fs::write(kept.ledger(), copy).unwrap();
        let error = kept.open().unwrap_err();
        assert_eq!(
            error,
            StoreError::Shorter {
                ledger: 6,
                known: 9,
                path: kept.path.clone()
            }
        );
        let text = error.to_string();
        assert!(text.contains('6') && text.contains('9'), "{text}");
    }
}

#[test]
fn a_rewritten_ledger() {
    let kept = Kept::new(Duration::ZERO);
    fs::remove_file(kept.ledger()).unwrap();
    let store = kept.home.open();
    (0..9).for_each(|_| drop(store.commit(note()).unwrap()));
    drop(store);
    assert_eq!(
        kept.open().unwrap_err(),
        StoreError::Rewritten {
            ledger: 10,
            known: 6,
            path: kept.path.clone()
        }
    );
}

#[test]
fn a_removed_ledger() {
    let kept = Kept::new(Duration::ZERO);
    fs::remove_file(kept.ledger()).unwrap();
    assert_eq!(
        kept.open().unwrap_err(),
        StoreError::Shorter {
            ledger: 0,
            known: 6,
            path: kept.path.clone()
        }
    );
}

#[test]
fn a_high_water_checkpoint_that_is_gone_or_no_one_signed() {
    let kept = Kept::new(Duration::ZERO);
    fs::write(&kept.path, "something else\n").unwrap();
    assert!(matches!(kept.open(), Err(StoreError::HighWater { .. })));
    let other = Home::new();
    let high_water = Some(HighWaterOptions {
        path: kept.path.clone(),
        sync_every: Duration::ZERO,
    });
    fs::remove_file(&kept.path).unwrap();
    other
        .try_open(
            StoreOptions {
                high_water,
                ..StoreOptions::default()
            },
            Faults::none(),
        )
        .unwrap();
    assert!(
        matches!(kept.open(), Err(StoreError::HighWater { .. })),
        "signed by another ledger's key"
    );
    fs::remove_file(&kept.path).unwrap();
    assert!(matches!(kept.open(), Err(StoreError::HighWater { .. })));
    // The operator's way out.
    fs::write(&kept.path, "").unwrap();
    kept.open().unwrap().commit(note()).unwrap();
    kept.open().unwrap();
}

#[test]
fn half_a_high_water_checkpoint() {
    let kept = Kept::new(Duration::ZERO);
    let mut bytes = fs::read(&kept.path).unwrap();
    assert_eq!(bytes.len(), 8192);
    let (one, other) = bytes.split_at_mut(4096);
    let newer = if String::from_utf8_lossy(one).contains("\n6\n") {
        one
    } else {
        other
    };
    newer[..100].fill(0);
    fs::write(&kept.path, bytes).unwrap();
    kept.open().unwrap();
}
