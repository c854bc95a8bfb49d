//! Randomness of the operating system, drawn in blocks.
//!
//! A call takes half a dozen small pieces (ids, the guest's seed, the salts of its payloads), and each would be a system call. What
//! is handed out is the system's own output, unchanged and never twice. Keys and nonces are drawn directly: nothing of theirs
//! waits in memory.

use std::cell::RefCell;

/// Bytes drawn at once. The system gives that many in one uninterrupted piece.
const BLOCK: usize = 256;

/// What a thread has drawn and not handed out: the bytes from `used` on.
struct Block {
    bytes: [u8; BLOCK],
    used: usize,
}

thread_local! {
    static DRAWN: RefCell<Block> = const {
        RefCell::new(Block {
            bytes: [0; BLOCK],
            used: BLOCK,
        })
    };
}

/// Fills `bytes`.
///
/// # Errors
/// Where the operating system gives no randomness.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), getrandom::Error> {
    DRAWN.with_borrow_mut(|drawn| drawn.fill(bytes))
}

impl Block {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), getrandom::Error> {
        if bytes.len() > BLOCK {
            return getrandom::fill(bytes);
        }
        if BLOCK - self.used < bytes.len() {
            // Used up before it is drawn anew, so that a failure hands out nothing.
            self.used = BLOCK;
            getrandom::fill(&mut self.bytes)?;
            self.used = 0;
        }
        if let Some(fresh) = self.bytes.get_mut(self.used..self.used + bytes.len()) {
            bytes.copy_from_slice(fresh);
            fresh.fill(0);
            self.used += bytes.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nothing_is_handed_out_twice_or_kept() {
        let draw = || {
            let mut bytes = [0; 32];
            fill(&mut bytes).unwrap();
            bytes
        };
        let drawn: BTreeSet<[u8; 32]> = (0..100).map(|_| draw()).collect();
        assert_eq!(drawn.len(), 100);
        let elsewhere = std::thread::spawn(draw).join().unwrap();
        assert!(!drawn.contains(&elsewhere));
        let kept = DRAWN.with_borrow(|block| block.bytes.to_vec());
        assert!(
            drawn
                .iter()
                .all(|bytes| !kept.windows(32).any(|window| window == bytes))
        );
    }

    #[test]
    fn any_size_is_filled_to_its_end() {
        for size in [0, 1, 31, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            // Sixteen zero bytes at the end by chance: never.
            let mut bytes = vec![0; size + 16];
            fill(&mut bytes).unwrap();
            assert_ne!(bytes[size..], [0; 16], "{size}");
        }
    }
}
