//! Making a call for somebody who waits elsewhere: on a thread that may block, with word of how far it is, and taken back when they say so.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::error::printable;
use ambit_core::guard;
use ambit_core::ledger::body::ShownBy;
use ambit_runtime::call::{Answer, Began, CallRequest, Coming, Fault, Listener, Placed};
use ambit_runtime::cancel::Cancel;
use ambit_runtime::host::Host;
use ambit_runtime::store::StoreError;
use parking_lot::Mutex;
use rmcp::model::{ProgressNotificationParam, ProgressToken, RequestId};
use rmcp::service::{Peer, RequestContext, RoleServer};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::http::work::{NotDone, on_a_thread};
use crate::threads::CallThreads;

/// Reports that a client has not read yet: what is beyond them is left out, as the next says more.
const REPORTS: usize = 16;

/// How long a client has to take the reports that were made before its call ended.
const LAST_REPORTS: Duration = Duration::from_millis(500);

/// The calls that run for one door or for several, and the way to end them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(Arc<All>);

#[derive(Debug, Default)]
struct All {
    /// What they are made on.
    threads: CallThreads,
    running: Mutex<Running>,
    /// Told when there is one less.
    over: Notify,
    /// Told when the host could not do its work in one.
    failed: Notify,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    calls: BTreeMap<u64, Call>,
    /// Nothing begins any more.
    stopped: watch::Sender<bool>,
}

#[derive(Debug)]
struct Call {
    /// The request that asked for it, as its client named that; none where a client gives its requests no names, or where the request was
    /// answered and the call goes on.
    request: Option<RequestId>,
    /// Whether it goes on without its request: by its id, for whoever made it.
    detached: bool,
    whose: Whose,
    cancel: Cancel,
}

/// Who made a request, as far as another one could be of the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whose {
    agent: String,
    user: Option<String>,
    /// The key, who issued the token, or whose certificate it is: tokens and certificates are replaced by the next while a call runs.
    by: Option<String>,
}

impl Whose {
    pub(crate) fn new(agent: &str, user: Option<&str>, by: Option<&ShownBy>) -> Whose {
        let by = by.map(|by| match by {
            ShownBy::Certificate(shown) => format!("certificate of {}", shown.id),
            ShownBy::Key(id) => format!("key {id}"),
            ShownBy::RunToken(shown) => format!("run token {}", shown.token),
            ShownBy::Token(token) => format!("token {}", token.issuer),
        });
        Whose {
            agent: agent.to_owned(),
            user: user.map(str::to_owned),
            by,
        }
    }
}

/// What a call begins with besides what it is.
pub(crate) struct Start<'r, T> {
    /// The request that asks for it, where its client may take that back by name.
    pub(crate) asked: Option<&'r RequestId>,
    pub(crate) cancel: Cancel,
    /// What it has of the server until its end.
    pub(crate) takes: T,
}

/// A call that was begun.
pub(crate) struct Started {
    /// Its number among those that run.
    number: u64,
    /// What comes of it. Whoever lets go of it leaves that to the log, where it is the operator's business.
    pub(crate) over: oneshot::Receiver<Ended>,
}

/// What a call came to.
pub(crate) type Ended = Result<Answer, Unmade>;

/// What a request for a call is answered with.
pub(crate) enum Made {
    /// It is over, or waits.
    Answer(Box<Answer>),
    /// It goes on without its request: its id.
    GoesOn(String),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unmade {
    /// The host could not do its work.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// There is no thread for it, or the host failed in itself.
    #[error(transparent)]
    NotDone(#[from] NotDone),
}

impl Calls {
    /// Takes back whatever runs for a request that has no answer yet, and whatever begins from now on. Does not wait.
    pub(crate) fn stop(&self) {
        let running = self.0.running.lock();
        running.stopped.send_replace(true);
        let waited_for = running.calls.values().filter(|call| !call.detached);
        waited_for.for_each(|call| call.cancel.cancel());
    }

    /// Has a call go on without the request that asked for it: from here on neither that nor its connection takes it back.
    fn detach(&self, number: u64) {
        if let Some(call) = self.0.running.lock().calls.get_mut(&number) {
            call.request = None;
            call.detached = true;
        }
    }

    /// Waits until they are stopped.
    pub(crate) async fn stopped(&self) {
        let mut stopped = self.0.running.lock().stopped.subscribe();
        if stopped.wait_for(|stopped| *stopped).await.is_err() {
            std::future::pending().await
        }
    }

    /// Takes back the one call of this caller that a request of this id asked for. Where several of its clients gave theirs the same id,
    /// nobody knows which is meant, and none is taken back.
    pub(crate) fn take_back(&self, whose: &Whose, request: &RequestId) {
        let running = self.0.running.lock();
        let own =
            |call: &&Call| guard!("mcp.cancel-own", call.whose == *whose) && call.request.as_ref() == Some(request);
        let mut meant = running.calls.values().filter(own);
        if let (Some(call), None) = (meant.next(), meant.next()) {
            call.cancel.cancel();
        }
    }

    /// Whether no call runs.
    pub(crate) fn are_none(&self) -> bool {
        self.0.running.lock().calls.is_empty()
    }

    /// Takes back the call of this id, where a request of this caller began it and it runs by that. False where it does not: it is over or
    /// waits, or it is an operator who has it undone, retried or go on.
    pub(crate) fn take_back_call(&self, whose: &Whose, call: &str) -> bool {
        let running = self.0.running.lock();
        let own = |one: &&Call| guard!("api.cancel-own", one.whose == *whose) && one.cancel.ends(call);
        let found = running.calls.values().find(own);
        if let Some(found) = found {
            found.cancel.cancel();
        }
        found.is_some()
    }

    /// Says that the host could not do its work in one of them: whoever serves may have to end.
    pub(crate) fn fail(&self) {
        self.0.failed.notify_waiters();
    }

    /// Is told when that is said.
    pub(crate) fn failed(&self) -> Notified<'_> {
        self.0.failed.notified()
    }

    /// Waits until no call runs.
    pub(crate) async fn none(&self) {
        loop {
            let over = self.0.over.notified();
            tokio::pin!(over);
            // From here on nothing is missed, so the look comes after.
            over.as_mut().enable();
            if self.are_none() {
                return;
            }
            over.await;
        }
    }

    pub(crate) fn begin(&self, request: Option<&RequestId>, whose: Whose, cancel: &Cancel) -> Begun {
        let mut running = self.0.running.lock();
        if *running.stopped.borrow() {
            cancel.cancel();
        }
        running.next += 1;
        let number = running.next;
        let call = Call {
            request: request.cloned(),
            detached: false,
            whose,
            cancel: cancel.clone(),
        };
        running.calls.insert(number, call);
        Begun {
            calls: self.clone(),
            number,
        }
    }

    /// Begins a call on a thread that may block, where it goes on to its end, whoever waits for it. Where there is no thread it does not
    /// begin, and is not among those that run.
    ///
    /// # Errors
    /// [`NotDone::NoThread`].
    pub(crate) fn start<T: Send + 'static>(
        &self,
        host: &Host,
        mut request: CallRequest,
        coming: Coming,
        start: Start<'_, T>,
    ) -> Result<Started, NotDone> {
        let Start { asked, cancel, takes } = start;
        let whose = Whose::new(&request.agent, request.user.as_deref(), coming.by.as_ref());
        let begun = self.begin(asked, whose, &cancel);
        let number = begun.number;
        request.cancel = Some(cancel);
        let host = host.clone();
        let (told, over) = self.told();
        let placed = host.place_now(&request, &coming);
        let placed = placed.ok_or_else(|| host.place_for(&request, &coming));
        let work = move |placed: &Placed| {
            // In this order: who is told that none runs any more may close the home.
            let (told, until_its_end) = (told.begun(), (host, takes, begun));
            let (host, ..) = &until_its_end;
            let ended = host.call_placed(request, coming, placed);
            drop(until_its_end);
            told.of(ended.map_err(Unmade::Fault));
        };
        match placed {
            Ok(placed) => self.0.threads.begin(placed, work)?,
            // It goes on without what is dropped here.
            Err(waits) => drop(tokio::spawn({
                let calls = self.clone();
                async move {
                    let placed = waits.await;
                    // What got no place is refused, elsewhere: of threads of calls there are no more than places.
                    let begun = match placed.is_had() {
                        true => calls.0.threads.begin(placed, work),
                        false => on_a_thread(move || work(&placed)).map(drop),
                    };
                    // Where there is none, whoever waits is told so.
                    drop(begun);
                }
            })),
        }
        Ok(Started { number, over })
    }

    /// What tells of a call, and who hears it.
    fn told(&self) -> (Told, oneshot::Receiver<Ended>) {
        let (says, over) = oneshot::channel();
        let told = Told {
            says: Some(says),
            calls: self.clone(),
            begun: false,
        };
        (told, over)
    }

    /// Makes a call, and comes back when it is over, whatever ended it; or, where the request waits only so long, when it has begun by
    /// then and goes on. `takes` is what it has of the server until its end.
    pub(crate) async fn make(
        &self,
        host: &Host,
        mut request: CallRequest,
        coming: Coming,
        takes: impl Send + 'static,
        context: &RequestContext<RoleServer>,
        waits: Option<Duration>,
    ) -> Result<Made, Unmade> {
        let cancel = Cancel::new();
        // Who does not ask to be told is woken for the end, and for nothing before it.
        let reports = context.meta.get_progress_token().map(|token| {
            let (says, reports) = mpsc::channel(REPORTS);
            request.listener = Some(Listener::new(move |progress| {
                // The guest's thread waits for nobody.
                drop(says.try_send(Report {
                    done: progress.done,
                    total: progress.total,
                    message: printable(progress.message),
                }));
            }));
            (token, reports)
        });
        let (says_begun, begun) = oneshot::channel();
        let coming = Coming {
            // It costs a commit, which only who does not wait for the end needs.
            began: waits.map(|_| Began::new(move |call| drop(says_begun.send(call.as_str().to_owned())))),
            ..coming
        };
        let heard = taken_back(context, cancel.clone());
        let start = Start {
            asked: Some(&context.id),
            cancel,
            takes,
        };
        let Started { number, mut over } = self.start(host, request, coming, start)?;
        tokio::select! {
            biased;
            never = heard => match never {},
            made = while_telling(&mut over, tell(context, reports)) => match made {
                Ok(made) => made.map(|answer| Made::Answer(Box::new(answer))),
                // The runtime ends, and nothing is heard of it any more.
                Err(_) => Err(Fault::Lost.into()),
            },
            call = goes_on(waits, begun) => {
                self.detach(number);
                Ok(Made::GoesOn(call))
            }
        }
    }
}

/// A call's id, once its request has waited for it and it has begun: before it is on the ledger there is nothing to look at.
async fn goes_on(waits: Option<Duration>, begun: oneshot::Receiver<String>) -> String {
    if let Some(waits) = waits {
        sleep(waits).await;
        if let Ok(call) = begun.await {
            return call;
        }
    }
    std::future::pending().await
}

/// A call among those that run, until dropped.
pub(crate) struct Begun {
    calls: Calls,
    number: u64,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.calls.0.running.lock().calls.remove(&self.number);
        self.calls.0.over.notify_waiters();
    }
}

/// Takes a call back when its request is cancelled: beside what is said about it, as that may wait for a client which does not read.
async fn taken_back(context: &RequestContext<RoleServer>, cancel: Cancel) -> Infallible {
    context.ct.cancelled().await;
    cancel.cancel();
    std::future::pending().await
}

/// Tells whoever waits for a call what it came to, or, where nobody does any more, the log: also of one that ended in a panic.
struct Told {
    says: Option<oneshot::Sender<Ended>>,
    calls: Calls,
    /// Whether it has a thread.
    begun: bool,
}

impl Told {
    fn begun(self) -> Told {
        let mut told = self;
        told.begun = true;
        told
    }

    fn of(mut self, ended: Ended) {
        self.say(ended);
    }

    fn say(&mut self, ended: Ended) {
        let Some(says) = self.says.take() else { return };
        match says.send(ended) {
            // Another call was made for its caller's word, and that is no failure.
            Ok(()) | Err(Ok(_) | Err(Unmade::Fault(Fault::Store(StoreError::Repeated { .. })))) => {}
            // Nothing of it was done.
            Err(Err(Unmade::NotDone(NotDone::NoThread))) => {}
            Err(Err(error)) => {
                tracing::error!(%error, "the host could not do its work in a call that nobody waits for any more");
                self.calls.fail();
            }
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let why = if self.begun { NotDone::Lost } else { NotDone::NoThread };
        self.say(Err(why.into()));
    }
}

/// What a guest says of how far it is.
struct Report {
    done: u64,
    total: u64,
    message: String,
}

/// What a call came to, while it is said how far it is. A client that does not read what it is told keeps nothing that has ended.
async fn while_telling<T>(calling: impl Future<Output = T>, telling: impl Future<Output = ()>) -> T {
    tokio::pin!(calling, telling);
    tokio::select! {
        biased;
        () = &mut telling => calling.await,
        called = &mut calling => {
            // Reports end with their call: what is left of them is of before.
            drop(timeout(LAST_REPORTS, telling).await);
            called
        }
    }
}

/// Passes reports on until the call is over, where its client wants them: in order, and each further than the one before.
async fn tell(context: &RequestContext<RoleServer>, reports: Option<(ProgressToken, mpsc::Receiver<Report>)>) {
    let Some((token, mut reports)) = reports else { return };
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
    #![allow(clippy::unwrap_used, reason = "tests")]
    use ambit_core::error::Code;
    use ambit_core::grant::Narrowing;
    use ambit_core::policy::Mode;
    use ambit_runtime::call::Outcome;

    use super::*;
    use crate::identity::tests::Place;

    #[test]
    fn progress_only_increases() {
        let mut last = None;
        let told = [0, 0, 2, 1, 3].map(|done| further(&mut last, done));
        assert_eq!(told, [true, false, true, false, true]);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_up_no_call() {
        let never = std::future::pending::<()>;
        let made = timeout(Duration::from_secs(10), while_telling(async { 7 }, never())).await;
        assert_eq!(made, Ok(7));
        // What was said before the end is passed on before the answer is.
        let (says, mut hears) = mpsc::channel::<u8>(4);
        let told = std::cell::Cell::new(0);
        let telling = async {
            while hears.recv().await.is_some() {
                tokio::task::yield_now().await;
                told.set(told.get() + 1);
            }
        };
        let calling = async {
            for report in 0..3 {
                says.send(report).await.unwrap();
            }
            drop(says);
        };
        while_telling(calling, telling).await;
        assert_eq!(told.get(), 3);
    }

    fn begin(calls: &Calls, id: i64, whose: &Whose) -> (Begun, Cancel) {
        let cancel = Cancel::new();
        (
            calls.begin(Some(&RequestId::Number(id)), whose.clone(), &cancel),
            cancel,
        )
    }

    fn one(agent: &str) -> Whose {
        Whose::new(agent, None, Some(&ShownBy::Key("k_1".to_owned())))
    }

    #[test]
    fn what_is_stopped_stays_so() {
        let calls = Calls::default();
        let (_before, before) = begin(&calls, 1, &one("a"));
        let (gone, over) = begin(&calls, 2, &one("a"));
        drop(gone);
        calls.stop();
        let (_after, after) = begin(&calls, 3, &one("a"));
        assert!(before.is_cancelled() && after.is_cancelled() && !over.is_cancelled());
    }

    #[test]
    fn what_goes_on_without_its_request_is_taken_back_by_neither_it_nor_its_connection() {
        let calls = Calls::default();
        let (begun, goes_on) = begin(&calls, 1, &one("a"));
        let (_waited_for, waited_for) = begin(&calls, 2, &one("a"));
        calls.detach(begun.number);
        calls.take_back(&one("a"), &RequestId::Number(1));
        calls.stop();
        assert!(!goes_on.is_cancelled() && waited_for.is_cancelled());
        assert!(!calls.are_none());
    }

    #[test]
    fn a_caller_takes_back_its_own_call_and_no_other() {
        let calls = Calls::default();
        let (_own, own) = begin(&calls, 1, &one("a"));
        let others = [
            begin(&calls, 1, &one("b")),
            begin(&calls, 2, &one("a")),
            begin(
                &calls,
                1,
                &Whose::new("a", Some("ada"), Some(&ShownBy::Key("k_1".to_owned()))),
            ),
            begin(&calls, 1, &Whose::new("a", None, Some(&ShownBy::Key("k_2".to_owned())))),
        ];
        calls.take_back(&one("c"), &RequestId::Number(1));
        calls.take_back(&one("a"), &RequestId::String("1".into()));
        assert!(!own.is_cancelled());
        calls.take_back(&one("a"), &RequestId::Number(1));
        assert!(own.is_cancelled() && others.iter().all(|(_, other)| !other.is_cancelled()));
    }

    #[test]
    fn of_two_of_one_id_none_is_taken_back() {
        let calls = Calls::default();
        let both = [begin(&calls, 1, &one("a")), begin(&calls, 1, &one("a"))];
        calls.take_back(&one("a"), &RequestId::Number(1));
        assert!(both.iter().all(|(_, call)| !call.is_cancelled()));
    }

    /// Whoever waits for a call is told of it; where nobody does, its door and the operator's log are.
    #[tokio::test]
    async fn what_fails_where_nobody_waits_for_it_is_told_to_its_door() {
        let fails: [fn() -> Result<Answer, Fault>; 2] = [|| Err(Fault::Lost), || panic!("as is tested")];
        for fail in fails {
            let calls = Calls::default();
            let begin = |told: Told| on_a_thread(move || told.begun().of(fail().map_err(Unmade::Fault))).map(drop);
            let failed = calls.failed();
            tokio::pin!(failed);
            failed.as_mut().enable();
            let (told, over) = calls.told();
            begin(told).unwrap();
            assert!(over.await.unwrap().is_err());
            assert!(
                timeout(Duration::from_millis(20), failed.as_mut()).await.is_err(),
                "it was heard"
            );
            let (told, over) = calls.told();
            drop(over);
            begin(told).unwrap();
            assert!(timeout(Duration::from_secs(10), failed).await.is_ok(), "nobody is told");
        }
    }

    #[tokio::test]
    async fn what_found_no_thread_is_told_to_be_undone() {
        let (told, over) = Calls::default().told();
        drop(told);
        let ended = over.await.unwrap();
        assert!(matches!(ended, Err(Unmade::NotDone(NotDone::NoThread))), "{ended:?}");
    }

    /// Many may be refused at once, and not one of them waits for those that have a place.
    #[test]
    fn what_got_no_place_has_no_thread_of_calls_and_waits_for_none() {
        let at = Place::new("[limits]\nconcurrent_calls = 1\nwall_ms = 100\n");
        let request = || CallRequest {
            tool: "none".into(),
            function: "none".into(),
            args: "{}".into(),
            agent: "assistant".into(),
            user: None,
            mode: Mode::Execute,
            run: None,
            trace: None,
            narrowing: Narrowing::default(),
            listener: None,
            cancel: None,
        };
        let calls = Calls::default();
        let taken = at.host.place_now(&request(), &Coming::default()).unwrap();
        let (ends, ended) = std::sync::mpsc::channel::<()>();
        calls
            .0
            .threads
            .begin((), move |()| assert!(ended.recv().is_err()))
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let over = runtime.unwrap().block_on(async {
            let start = Start {
                asked: None,
                cancel: Cancel::new(),
                takes: (),
            };
            let started = calls.start(&at.host, request(), Coming::default(), start).unwrap();
            timeout(Duration::from_secs(10), started.over).await
        });
        let answer = over.expect("it waits for a thread").unwrap().unwrap();
        assert!(
            matches!(&answer.outcome, Outcome::Stopped(refusal) if refusal.code == Code::Limit),
            "{answer:?}"
        );
        assert_eq!(calls.0.threads.made(), 1);
        drop((taken, ends));
    }

    #[tokio::test]
    async fn who_waits_for_the_end_of_all_is_told() {
        let calls = Calls::default();
        calls.none().await;
        let (begun, _) = begin(&calls, 1, &one("a"));
        let waits = tokio::spawn({
            let calls = calls.clone();
            async move { calls.none().await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(begun);
        waits.await.unwrap();
    }
}
