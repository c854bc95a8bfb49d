//! Open connections kept for the next effect.
//!
//! A pool belongs to one [`Upstream`](super::Upstream): to one connection of the configuration, with one credential and one set of
//! authorities. Inside it connections are told apart by address, so that one is only used again where the name still points to it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::line::Line;
use super::resolve::Checked;

/// How long a connection is kept without use. Common servers close theirs after five seconds; a request that crosses such a close is in
/// doubt, so we close first.
const IDLE_TIME: Duration = Duration::from_secs(4);

/// Most connections kept for one service.
const MAX_IDLE: usize = 32;

#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    line: Line,
    since: Instant,
}

impl Pool {
    /// The connection to one of `addresses` that was used last and is still alive.
    pub(super) async fn take(&self, addresses: &[Checked]) -> Option<Line> {
        loop {
            let mut line = self.pop(addresses)?;
            if line.is_alive().await {
                return Some(line);
            }
        }
    }

    fn pop(&self, addresses: &[Checked]) -> Option<Line> {
        let mut idle = self.idle.lock();
        drop_old(&mut idle);
        let at = idle.iter().rposition(|idle| addresses.contains(&idle.line.address()))?;
        Some(idle.remove(at).line)
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(super) fn put(self: &Arc<Self>, line: Line) {
        let mut idle = self.idle.lock();
        drop_old(&mut idle);
        if idle.is_empty() {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
        if idle.len() < MAX_IDLE {
            idle.push(Idle {
                line,
                since: Instant::now(),
            });
        }
    }
}

fn drop_old(idle: &mut Vec<Idle>) {
    idle.retain(|idle| idle.since.elapsed() < IDLE_TIME);
}

/// Closes what nobody asks for any more, until nothing is left.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(IDLE_TIME).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle.lock();
        drop_old(&mut idle);
        if idle.is_empty() {
            return;
        }
    }
}
