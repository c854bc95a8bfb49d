//! A bounded map of answers that were computed before.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock};

/// How many answers are kept. Beyond that all are forgotten: what is asked often comes back at once, and a caller that varies
/// its questions costs time, never memory.
const CAPACITY: usize = 4096;

/// Remembers by key. Safe to lose: it holds only what can be computed again.
#[derive(Debug)]
pub(super) struct Memo<K, V> {
    known: RwLock<HashMap<K, V>>,
    enabled: bool,
}

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Memo {
            known: RwLock::default(),
            enabled: true,
        }
    }
}

impl<K: Eq + Hash, V: Clone> Memo<K, V> {
    /// One that never remembers.
    pub(super) fn disabled() -> Self {
        Memo {
            enabled: false,
            ..Memo::default()
        }
    }

    /// What is known for `key`, or else what `compute` says.
    pub(super) fn get_or(&self, key: K, compute: impl FnOnce() -> V) -> V {
        let computed: Result<V, std::convert::Infallible> = self.get_or_try(key, || Ok(compute()));
        match computed {
            Ok(value) => value,
        }
    }

    /// The same for what can fail; a failure is not remembered.
    pub(super) fn get_or_try<E>(&self, key: K, compute: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        // Nothing that runs under the lock can leave the map half changed, so a poisoned one is as good.
        if let Some(value) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(value.clone());
        }
        let value = compute()?;
        if self.enabled {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= CAPACITY {
                known.clear();
            }
            known.insert(key, value.clone());
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn computes_once_and_stays_bounded() {
        let memo = Memo::default();
        let computed = Cell::new(0);
        let ask = |key: usize| {
            memo.get_or(key, || {
                computed.set(computed.get() + 1);
                key * 2
            })
        };
        assert_eq!((ask(1), ask(1), computed.get()), (2, 2, 1));
        for key in 0..3 * CAPACITY {
            assert_eq!(ask(key), key * 2);
            assert!(memo.known.read().map_or(0, |known| known.len()) <= CAPACITY);
        }
    }

    #[test]
    fn remembers_no_failure_and_nothing_when_disabled() {
        let memo = Memo::<u8, u8>::default();
        assert_eq!(memo.get_or_try(1, || Err("no")), Err("no"));
        assert_eq!(memo.get_or_try(1, || Ok::<_, ()>(2)), Ok(2));
        let memo = Memo::<u8, u8>::disabled();
        assert_eq!((memo.get_or(1, || 1), memo.get_or(1, || 2)), (1, 2));
    }
}
