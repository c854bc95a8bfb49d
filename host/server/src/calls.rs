//! Making a call for somebody who waits elsewhere: on a thread that may block, with word of how far it is, and taken back when they say so.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_core::error::printable;
use ambit_core::ledger::body::ShownBy;
use ambit_runtime::call::{Answer, CallRequest, Fault, Listener, Outcome};
use ambit_runtime::cancel::Cancel;
use ambit_runtime::host::Host;
use ambit_runtime::offers::EndEntry;
use parking_lot::Mutex;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{Peer, RequestContext, RoleServer};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError};

/// Reports that a client has not read yet: what is beyond them is left out, as the next says more.
const REPORTS: usize = 16;

/// The calls that run for one door, and the way to end them all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Running>>);

#[derive(Debug, Default)]
struct Running {
    next: u64,
    calls: BTreeMap<u64, Cancel>,
    /// Nothing begins any more.
    stopped: bool,
}

/// A call that is over.
pub(crate) struct Made {
    pub(crate) answer: Answer,
    /// Where its end stands; none of what has not ended.
    pub(crate) end: Option<EndEntry>,
}

/// Why there is no answer.
pub(crate) enum Unmade {
    /// The host could not do its work.
    Fault(Fault),
    /// The host failed in itself.
    Panic(JoinError),
}

impl Calls {
    /// Takes back whatever runs, and whatever begins from now on. Does not wait.
    pub(crate) fn stop(&self) {
        let mut running = self.0.lock();
        running.stopped = true;
        running.calls.values().for_each(Cancel::cancel);
    }

    fn begin(&self, cancel: &Cancel) -> Begun {
        let mut running = self.0.lock();
        if running.stopped {
            cancel.cancel();
        }
        running.next += 1;
        let number = running.next;
        running.calls.insert(number, cancel.clone());
        Begun {
            calls: self.clone(),
            number,
        }
    }

    /// Makes a call, and comes back when it is over, whatever ended it.
    pub(crate) async fn make(
        &self,
        host: &Host,
        mut request: CallRequest,
        by: Option<ShownBy>,
        context: &RequestContext<RoleServer>,
    ) -> Result<Made, Unmade> {
        let cancel = Cancel::new();
        let (says, reports) = mpsc::channel(REPORTS);
        request.cancel = Some(cancel.clone());
        request.listener = Some(Listener::new(move |progress| {
            // The guest's thread waits for nobody.
            drop(says.try_send(Report {
                done: progress.done,
                total: progress.total,
                message: printable(progress.message),
            }));
        }));
        let _begun = self.begin(&cancel);
        let _heard = Heard::taken_back(context, cancel);
        let host = host.clone();
        let calling = tokio::task::spawn_blocking(move || {
            let answer = host.call_shown(request, by).map_err(Unmade::Fault)?;
            let end = end_of(&host, &answer);
            Ok(Made { answer, end })
        });
        tell(context, reports).await;
        calling.await.unwrap_or_else(|panic| Err(Unmade::Panic(panic)))
    }
}

/// Where the end of a call stands. It is there; where it cannot be read just now, the call is made all the same.
fn end_of(host: &Host, answer: &Answer) -> Option<EndEntry> {
    match answer.outcome {
        Outcome::Held(_) | Outcome::Paused(_) => None,
        _ => host
            .end_entry(answer.call.as_str())
            .inspect_err(|error| tracing::error!(%error, call = %answer.call, "its entry cannot be read"))
            .ok(),
    }
}

/// A call among those that run, until dropped.
struct Begun {
    calls: Calls,
    number: u64,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.calls.0.lock().calls.remove(&self.number);
    }
}

/// Hears when a request is cancelled, until dropped: apart from what is said about it, as that may wait for a client which does not read.
struct Heard(AbortHandle);

impl Heard {
    fn taken_back(context: &RequestContext<RoleServer>, cancel: Cancel) -> Heard {
        let cancelled = context.ct.clone();
        let listening = tokio::spawn(async move {
            cancelled.cancelled().await;
            cancel.cancel();
        });
        Heard(listening.abort_handle())
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a guest says of how far it is.
struct Report {
    done: u64,
    total: u64,
    message: String,
}

/// Passes reports on until the call is over, to a client that wants them: in order, and each further than the one before.
async fn tell(context: &RequestContext<RoleServer>, mut reports: mpsc::Receiver<Report>) {
    let Some(token) = context.meta.get_progress_token() else {
        while reports.recv().await.is_some() {}
        return;
    };
    let mut last = None;
    while let Some(report) = reports.recv().await {
        if further(&mut last, report.done) {
            say(&context.peer, token.clone(), report).await;
        }
    }
}

/// The protocol has it that progress increases, and a guest says what it likes.
fn further(last: &mut Option<u64>, done: u64) -> bool {
    let further = last.is_none_or(|last| done > last);
    if further {
        *last = Some(done);
    }
    further
}

async fn say(peer: &Peer<RoleServer>, token: ProgressToken, report: Report) {
    let mut told = ProgressNotificationParam::new(token, steps(report.done));
    told.total = (report.total > 0).then(|| steps(report.total));
    told.message = (!report.message.is_empty()).then_some(report.message);
    // A client that does not listen stops no call.
    drop(peer.notify_progress(told).await);
}

/// Whole numbers up to 2^53 are exact, and no tool has more steps.
#[expect(clippy::cast_precision_loss, reason = "a progress bar's")]
const fn steps(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_only_increases() {
        let mut last = None;
        let told = [0, 0, 2, 1, 3].map(|done| further(&mut last, done));
        assert_eq!(told, [true, false, true, false, true]);
    }

    #[test]
    fn what_is_stopped_stays_so() {
        let calls = Calls::default();
        let (before, after, over) = (Cancel::new(), Cancel::new(), Cancel::new());
        let _before = calls.begin(&before);
        drop(calls.begin(&over));
        calls.stop();
        let _after = calls.begin(&after);
        assert!(before.is_cancelled() && after.is_cancelled() && !over.is_cancelled());
    }
}
