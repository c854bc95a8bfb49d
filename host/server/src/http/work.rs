//! Work that may block, on threads that may, and what it keeps of the server until it is done.
//!
//! Who asks can go away at any moment, and what they asked for goes on: so it is the work that has its request's share, and not whoever
//! waits for it. What operators ask for has threads of its own, as agents can have all others at work.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use ambit_core::guard;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinError;

use super::seats::UnderWay;

/// Acts of operators at once: more than may take long, so that a stop is heard beside them.
const ACTS: usize = 32;
/// What operators read at once.
const READS: usize = 16;

/// Why work that may block was not done to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDone {
    /// There is no thread for it: nothing of it was done, and nothing is kept for it.
    #[error("there is no thread for it: nothing was done")]
    NoThread,
    /// It ended in a panic, or with the server.
    #[error(transparent)]
    Ended(#[from] JoinError),
    /// The same, where nobody has the thread's own word for it.
    #[error("its thread ended without a word: in a panic, or with the server")]
    Lost,
}

/// Begins what may block on a thread for that.
///
/// # Errors
/// [`NotDone::NoThread`].
pub(crate) fn on_a_thread<T: Send + 'static>(
    act: impl FnOnce() -> T + Send + 'static,
) -> Result<impl Future<Output = Result<T, NotDone>> + Send + 'static, NotDone> {
    let act = Arc::new(Mutex::new(Some(act)));
    let taken = Arc::clone(&act);
    let work = move || {
        let act = taken.lock().take();
        act.map(|act| act())
    };
    // Where it has no thread the runtime panics, and keeps the work for when it has one: by then whoever asked was told that there is none.
    let begun = catch_unwind(AssertUnwindSafe(|| tokio::task::spawn_blocking(work)));
    let Ok(working) = begun else {
        drop(act.lock().take());
        return Err(NotDone::NoThread);
    };
    Ok(async move { working.await?.ok_or(NotDone::NoThread) })
}

/// Does what may block on a thread for that. `share` is that of the request which it is done for: it counts among its caller's until this
/// is done, whoever still waits.
///
/// # Errors
/// [`NotDone`].
pub(crate) async fn at_work<T: Send + 'static>(
    share: Option<Arc<UnderWay>>,
    act: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NotDone> {
    let share = share.filter(|_| !guard!("http.share-kept", false));
    let working = on_a_thread(move || {
        let done = act();
        drop(share);
        done
    })?;
    working.await
}

/// Lets go of what may take long to take apart, a host's reading with its tools, on no thread that serves others. Nobody waits for it.
pub(crate) fn let_go<T: Send + 'static>(of: T) {
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || drop(of))),
        Err(_) => drop(of),
    }
}

/// What an operator asks for, as far as that decides which threads it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Something is done.
    Act,
    /// Something is read: however much that is, it keeps no act from being heard.
    Read,
}

/// The threads of operators. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct OperatorThreads {
    acts: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

impl OperatorThreads {
    pub(super) fn new() -> OperatorThreads {
        OperatorThreads {
            acts: Arc::new(Semaphore::new(ACTS)),
            reads: Arc::new(Semaphore::new(READS)),
        }
    }

    /// Does what an operator asks for, on a thread that no agent can have.
    ///
    /// # Errors
    /// Where there is no thread for it, and nothing was done; or where it ended in a panic.
    pub(crate) async fn at_work<T: Send + 'static>(
        &self,
        errand: Errand,
        share: Arc<UnderWay>,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        if guard!("http.operators-apart", false) {
            return at_work(Some(share), act).await.map_err(io::Error::other);
        }
        let threads = match errand {
            Errand::Act => &self.acts,
            Errand::Read => &self.reads,
        };
        let place = Arc::clone(threads).acquire_owned().await.map_err(io::Error::other)?;
        let (says, hears) = oneshot::channel();
        thread::Builder::new()
            .name("ambit-operator".to_owned())
            .spawn(move || {
                let done = act();
                drop((place, share));
                // Where nobody waits for it any more, the ledger has it.
                drop(says.send(done));
            })?;
        hears
            .await
            .map_err(|_| io::Error::other("what an operator asked for ended in a panic"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use super::super::seats::Requests;
    use super::*;

    /// Whoever closes its connection has not taken its work off the server by it.
    #[tokio::test]
    async fn what_goes_on_without_its_client_counts_until_it_is_done() {
        let requests = Requests::new(1);
        let (ends, ended) = mpsc::channel::<()>();
        let share = Arc::new(requests.begin("a").unwrap());
        let waits = tokio::spawn(at_work(Some(share), move || ended.recv().is_err()));
        tokio::time::sleep(Duration::from_millis(50)).await;
        waits.abort();
        assert!(waits.await.is_err());
        assert!(requests.begin("a").is_none());
        drop(ends);
        let began = Instant::now();
        while requests.begin("a").is_none() {
            assert!(began.elapsed() < Duration::from_secs(5), "what is done counts");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The runtime would panic under whoever asked, and do it for nobody once it has a thread again.
    #[test]
    fn what_has_no_thread_is_not_done_and_keeps_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            // No machine has so much.
            .thread_stack_size(1 << 60)
            .build()
            .unwrap();
        let requests = Requests::new(1);
        let share = Arc::new(requests.begin("a").unwrap());
        let done = runtime.block_on(at_work(Some(share), || ()));
        assert!(matches!(done, Err(NotDone::NoThread)), "{done:?}");
        assert!(requests.begin("a").is_some(), "what was not done counts");
    }

    #[tokio::test]
    async fn what_operators_read_keeps_no_act_waiting() {
        let (threads, requests) = (OperatorThreads::new(), Requests::new(100));
        let share = || Arc::new(requests.begin("operator ivy").unwrap());
        let (ends, ended) = mpsc::channel::<()>();
        let ended = Arc::new(Mutex::new(ended));
        let mut reads = Vec::new();
        for _ in 0..2 * READS {
            let (threads, ended, share) = (threads.clone(), Arc::clone(&ended), share());
            let read = async move {
                threads
                    .at_work(Errand::Read, share, move || ended.lock().recv().is_err())
                    .await
            };
            reads.push(tokio::spawn(read));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(threads.at_work(Errand::Act, share(), || 7).await.unwrap(), 7);
        drop(ends);
        for read in reads {
            assert!(read.await.unwrap().unwrap());
        }
        // One that fails in itself gives its place back, and is told.
        let failed: io::Result<()> = threads.at_work(Errand::Act, share(), || panic!("as is tested")).await;
        assert!(failed.is_err());
        let began = Instant::now();
        while threads.acts.available_permits() < ACTS {
            assert!(began.elapsed() < Duration::from_secs(5), "what failed has its place");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
