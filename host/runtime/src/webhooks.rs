//! Webhooks: what people are told of at once, sent to where they are.
//!
//! A host that serves has a task for each webhook of its configuration. The task reads the ledger, entry by entry, from where it left off, and
//! sends what is an [`Event`] that its webhook wants: in the ledger's order, one after another, each until it is taken or given up. How far it
//! has come is kept in the store, after the message was taken; so none is lost with a process, and one that a process sent and could not
//! note is sent again by the next, under the same id. How often a message was tried, and when it is tried next, is kept there too.
//! Nothing waits in memory but what is sent now, and no call waits for any of it.
//!
//! The tasks have a thread of their own. What they do is over when the [`Deliveries`] are dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ambit_core::digest::Digest;
use ambit_core::error::{Code, Refusal, printable};
use ambit_core::grant::is_of_token;
use ambit_core::guard;
use ambit_core::ledger::body::{Message, OperatorShown, WebhookDropped, WebhookFailed, WebhookRetried};
use ambit_core::ledger::{Body, Contexts, Entry, EntryDraft};
use ambit_core::money::Match;
use ambit_core::webhook::{About, Event, EventType, LONGEST_WAIT_MS, TEST, Wait, Whose, may_tell, message, wait};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use crate::clock::now_ms;
use crate::config::{Config, WebhookConfig};
use crate::flow::jitter;
use crate::gate::{SendError, Sent, Wire};
use crate::host::{Host, OpenError};
use crate::random;
use crate::secret::Process;
use crate::store::{Batch, Progress, Reader, Store, StoreError, Tried};

/// Entries that are read at a time.
const PAGE: usize = 256;
/// After how many entries that tell nothing it is kept how far a webhook has come: a process that begins reads as many again, at most.
const KEEP_AFTER: u64 = 4_096;
/// How long a task waits where the ledger cannot be read or written.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// For how long people are told once that a budget has no room, in milliseconds of the ledger's time: an agent may ask a thousand times.
const EXHAUSTED_EVERY_MS: i64 = 3_600_000;
/// Entries that are looked at for the messages that wait: more than a webhook whose messages are taken has behind it.
const MOST_LOOKED: u64 = 5_000;
/// How often it is looked whether a receiver that asked for time has had it.
const RESTS: Duration = Duration::from_secs(1);

/// The deliveries of a host, until dropped. What is sent at that moment is sent again by the next host, under its id.
#[derive(Debug)]
pub struct Deliveries {
    end: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.end.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            drop(thread.join());
        }
    }
}

impl Host {
    /// Sends the messages of the webhooks from now on, of a host that was opened with [`HostOptions::webhooks`](crate::host::HostOptions).
    /// Called once, by whoever serves.
    ///
    /// # Errors
    /// Where there is no thread for it.
    pub fn deliver_webhooks(&self) -> Result<Deliveries, OpenError> {
        self.deliver_webhooks_at(1)
    }

    /// The same with waits that are so many times shorter: for tests.
    pub(crate) fn deliver_webhooks_at(&self, pace: u64) -> Result<Deliveries, OpenError> {
        let (end, ended) = watch::channel(false);
        let host = Host {
            operators: None,
            ..self.clone()
        };
        let failed = |error: std::io::Error| OpenError::Home(format!("no thread for webhooks: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let thread = thread::Builder::new()
            .name("ambit-webhooks".to_owned())
            .spawn(move || {
                runtime.block_on(supervise(host, pace, ended));
                // A name that does not resolve holds up no end.
                runtime.shutdown_timeout(Duration::from_secs(1));
            })
            .map_err(failed)?;
        Ok(Deliveries {
            end,
            thread: Some(thread),
        })
    }
}

/// Whether a task may write its webhook's row: until the webhook is out of the files.
#[derive(Default)]
pub(crate) struct Row {
    closed: AtomicBool,
    /// Held for as long as something is written.
    pub(crate) writing: Mutex<()>,
}

impl Row {
    /// Keeps how far the webhook has come, with what the ledger is to say of it; false where that is its task's to say no more.
    pub(crate) fn keep(&self, store: &Store, batch: Batch) -> Result<bool, StoreError> {
        let _alone = self.writing.lock();
        if !guard!("webhook.row", !self.is_closed()) {
            return Ok(false);
        }
        store.commit(batch)?;
        Ok(true)
    }

    /// Nothing of the task's is written from here on, and what was being written is there: a task that is ended ends no commit with it.
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        drop(self.writing.lock());
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

/// A task, until dropped.
struct Running {
    task: JoinHandle<()>,
    row: Arc<Row>,
}

impl Running {
    fn start(host: &Host, name: &str, progress: Progress, pace: u64) -> Running {
        let row = Arc::new(Row::default());
        let task = Task::new(host, (name, Arc::clone(&row)), progress, pace);
        Running {
            task: tokio::spawn(task.run()),
            row,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Has a task for each webhook of the configuration that was taken last.
async fn supervise(host: Host, pace: u64, mut ended: watch::Receiver<bool>) {
    let mut changes = host.changes();
    let mut tasks: BTreeMap<String, Running> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        tasks.retain(|_, running| !running.task.is_finished());
        let rows = tasks
            .iter()
            .map(|(name, running)| (name.clone(), Arc::clone(&running.row)));
        let (begun, rows) = (host.clone(), rows.collect());
        let begun = tokio::select! {
            begun = blocking(move || begin(&begun, &rows)) => begun,
            _ = ended.wait_for(|ended| *ended) => return,
        };
        tasks.retain(|_, running| !running.row.is_closed());
        let mut again = std::pin::pin!(None);
        match begun {
            Ok(webhooks) => {
                for (name, progress) in webhooks {
                    let start = || Running::start(&host, &name, progress, pace);
                    tasks.entry(name.clone()).or_insert_with(start);
                }
            }
            Err(error) => {
                tracing::error!(%error, "webhooks are told of nothing yet");
                again.set(Some(sleep(AFTER_FAILURE)));
            }
        }
        tokio::select! {
            () = async { match again.as_mut().as_pin_mut() {
                Some(again) => again.await,
                None => std::future::pending().await,
            } } => {}
            changed = changes.changed() => if changed.is_err() { return },
            _ = ended.wait_for(|ended| *ended) => return,
        }
    }
}

/// Where each webhook of the configuration goes on. One that is new begins with what comes next, and one that is gone is forgotten, but for
/// what an operator had sent again to it: somebody still wants that, so it is given up. `rows` are those of the tasks there are.
///
/// Meanwhile no operator has anything sent again, and no files are taken: what is forgotten here is gone by the files in force, with
/// all that anybody said of it before.
pub(crate) fn begin(host: &Host, rows: &BTreeMap<String, Arc<Row>>) -> Result<BTreeMap<String, Progress>, StoreError> {
    let _alone = host.live.changing.lock();
    let now = host.current();
    let (hooks, store) = (&now.shared.hooks, &now.shared.store);
    let over = rows.iter().filter(|(name, _)| !hooks.contains_key(*name));
    over.for_each(|(_, row)| row.close());
    let reader = store.reader()?;
    let (size, mut known) = (reader.size()?, reader.webhooks()?);
    let gone: BTreeMap<String, Progress> = known.extract_if(.., |name, _| !hooks.contains_key(name)).collect();
    let new = hooks.keys().filter(|name| !known.contains_key(*name));
    let webhooks: Vec<(String, Option<Progress>)> = gone
        .keys()
        .map(|name| (name.clone(), None))
        .chain(new.map(|name| (name.clone(), Some(Progress::at(size)))))
        .collect();
    if !webhooks.is_empty() {
        let left = nowhere(&reader, &gone)?;
        store.commit(Batch {
            entries: left.iter().cloned().map(EntryDraft::of_ledger).collect(),
            webhooks,
            ..Batch::default()
        })?;
        left.iter().for_each(|left| given_up_for_nowhere(store, &left.message));
    }
    let of = |name: &String| {
        let mut progress = known.remove(name).unwrap_or_else(|| Progress::at(size));
        progress.cursor = progress.cursor.min(size);
        (name.clone(), progress)
    };
    Ok(hooks.keys().map(of).collect())
}

/// What was to be sent again to webhooks that are gone, and was not taken by then.
fn nowhere(reader: &Reader, gone: &BTreeMap<String, Progress>) -> Result<Vec<WebhookFailed>, StoreError> {
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    let left = reader.sent_again()?.into_iter().filter_map(|(at, message)| {
        let progress = gone.get(&message.webhook).filter(|progress| at >= progress.cursor)?;
        let tried = progress.tried.as_ref().filter(|tried| tried.at == at);
        Some(WebhookFailed {
            attempts: tried.map_or(0, |tried| tried.attempts),
            code: Some(Code::Config),
            message,
            status: None,
        })
    });
    Ok(left.collect())
}

fn given_up_for_nowhere(store: &Store, message: &Message) {
    tracing::error!(
        webhook = message.webhook,
        event = %message.event,
        index = message.index,
        "a message that was to be sent again has no webhook any more: `ambit webhooks dead`"
    );
    store.meter().delivery(&message.webhook, "dead");
}

/// Does what waits for the disk beside the tasks.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match spawn_blocking(act).await {
        Ok(done) => done,
        Err(error) => Err(StoreError::damaged(format!("it was not read: {error}"))),
    }
}

/// What one entry has a webhook told.
struct Told {
    /// The entry's index.
    at: u64,
    events: Vec<Event>,
    /// From when on it is tried, in milliseconds since 1970.
    since_ms: i64,
    /// Whether an operator has it sent again: then it is sent, whatever the webhook wants now.
    again: bool,
}

/// A message that was not taken.
#[derive(Clone, Copy, Default)]
struct Missed {
    attempts: u32,
    status: Option<u16>,
    code: Option<Code>,
}

/// How the sending of a message ended.
enum Ended {
    Taken,
    /// By the files that were taken meanwhile the webhook is not told of it.
    Unwanted,
    GivenUp(Missed),
    /// The receiver wants nothing any more.
    Gone(Missed),
}

/// How one sending ended.
enum Attempt {
    Taken,
    Gone,
    Failed {
        status: Option<u16>,
        code: Option<Code>,
        later: Option<Duration>,
    },
}

/// When people were told last that a budget has no room, by budget.
#[derive(Default)]
struct Exhausted(BTreeMap<String, i64>);

impl Exhausted {
    /// Whether a webhook is told of an event, that came after all that this was asked about before.
    fn wants(&mut self, webhook: &WebhookConfig, event: &Event) -> bool {
        if !webhook.wants(event.kind, &event.about) {
            return false;
        }
        if event.kind != EventType::BudgetExhausted {
            return true;
        }
        // A token's money is whoever's who narrowed it: an agent could tell of as many as it likes.
        if is_of_token(&event.subject) {
            return false;
        }
        // Of a refused call the budget is not known: then it is once for each of whom it is about.
        let subject = match event.subject.as_str() {
            "" => format!("{:?}", event.about),
            subject => subject.to_owned(),
        };
        let recent = |told_ms: &i64| event.time_ms.saturating_sub(*told_ms) < EXHAUSTED_EVERY_MS;
        self.0.retain(|_, told_ms| recent(told_ms));
        if self.0.contains_key(&subject) {
            return false;
        }
        self.0.insert(subject, event.time_ms);
        true
    }
}

/// One webhook's way through the ledger.
struct Task {
    host: Host,
    name: String,
    row: Arc<Row>,
    /// The ledger's name.
    ledger: String,
    /// The first entry that is not dealt with.
    cursor: u64,
    /// What is in the store.
    kept: Progress,
    pace: u64,
    changes: watch::Receiver<u64>,
    written: watch::Receiver<u64>,
    exhausted: Exhausted,
}

impl Task {
    fn new(host: &Host, (name, row): (&str, Arc<Row>), kept: Progress, pace: u64) -> Task {
        let store = &host.shared.store;
        let exhausted = Exhausted(kept.exhausted.clone());
        Task {
            host: host.clone(),
            name: name.to_owned(),
            row,
            ledger: store.verifier().name().to_owned(),
            cursor: kept.cursor,
            kept,
            pace: pace.max(1),
            changes: host.changes(),
            written: store.meter().written(),
            exhausted,
        }
    }

    async fn run(mut self) {
        loop {
            self.written.mark_unchanged();
            let (store, from, name) = (self.host.shared.store.clone(), self.cursor, self.name.clone());
            let now = self.host.current();
            let read = move || page(&store.reader()?, &now.shared.config, from, &name);
            let (told, next) = match blocking(read).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(webhook = self.name, %error, "the ledger cannot be read for a webhook");
                    sleep(AFTER_FAILURE).await;
                    continue;
                }
            };
            for told in told {
                self.pass(told.at).await;
                self.tell(told).await;
            }
            self.pass(next).await;
            if self.cursor == from && self.written.changed().await.is_err() {
                return;
            }
        }
    }

    /// Goes on with an entry: all before it is dealt with. That is kept once it is far, and where a message is said to be tried again
    /// that nobody is told of any more.
    async fn pass(&mut self, next: u64) {
        self.cursor = next;
        let far = next.saturating_sub(self.kept.cursor) >= KEEP_AFTER;
        let stale = self.kept.tried.as_ref().is_some_and(|tried| tried.at < next);
        if far || stale {
            let progress = Progress {
                cursor: next,
                tried: None,
                exhausted: self.exhausted.0.clone(),
                ..self.kept
            };
            self.keep(progress, Vec::new()).await;
        }
    }

    /// Sends what an entry has the webhook told, and keeps that it is dealt with.
    async fn tell(&mut self, mut told: Told) {
        let mut wanted: Vec<Event> = std::mem::take(&mut told.events);
        wanted.retain(|event| told.again || self.wants(event));
        let last = wanted.len();
        for (nth, event) in wanted.into_iter().enumerate() {
            let cursor = if nth + 1 == last { told.at + 1 } else { told.at };
            let message = message(&self.ledger, &self.name, &event);
            let ended = self.deliver(&message, &event, &told).await;
            let taken_ms = match ended {
                Ended::Taken => Some(now_ms()),
                _ => self.kept.taken_ms,
            };
            let (outcome, missed) = match ended {
                Ended::Taken | Ended::Unwanted => (None, None),
                Ended::GivenUp(missed) => (Some("dead"), Some(missed)),
                Ended::Gone(missed) => (Some("gone"), Some(missed)),
            };
            let failed = missed.map(|missed| WebhookFailed {
                attempts: missed.attempts,
                code: missed.code,
                message: message.clone(),
                status: missed.status,
            });
            if let Some(failed) = &failed {
                tracing::error!(
                    webhook = self.name,
                    event = %message.event,
                    index = message.index,
                    attempts = failed.attempts,
                    status = failed.status,
                    code = failed.code.map(Code::as_str),
                    "a webhook's message was given up: `ambit webhooks dead`"
                );
            }
            let progress = Progress {
                cursor,
                taken_ms,
                tried: None,
                // Of what is still to be sent nobody was told yet.
                exhausted: match nth + 1 == last {
                    true => self.exhausted.0.clone(),
                    false => self.kept.exhausted.clone(),
                },
            };
            self.keep(progress, failed.map(EntryDraft::of_ledger).into_iter().collect())
                .await;
            if let Some(outcome) = outcome {
                self.count(outcome);
            }
            if outcome == Some("gone") {
                // Until the files are taken anew nothing more is sent to it; the ledger keeps what there is to say.
                drop(self.changes.changed().await);
            }
        }
        self.pass(told.at + 1).await;
    }

    /// Whether the webhook is told of an event, as the configuration has it now.
    fn wants(&mut self, event: &Event) -> bool {
        let now = self.host.current();
        let webhook = now.shared.config.webhooks().get(&self.name);
        webhook.is_some_and(|webhook| self.exhausted.wants(webhook, event))
    }

    /// Sends a message, that an entry has sent from a time on, until it is taken or given up. What the configuration says is looked up each
    /// time. One that another process tried is tried again when that would have.
    async fn deliver(&mut self, message: &Message, event: &Event, told: &Told) -> Ended {
        let mut missed = Missed::default();
        let tried = self.kept.tried.as_ref();
        if let Some(tried) = tried.filter(|tried| tried.at == told.at && tried.message == *message) {
            missed = Missed {
                attempts: tried.attempts,
                status: tried.status,
                code: tried.code,
            };
            // However the machine's clock was set meanwhile, it is no longer than it was to be.
            let whole = tried.next_ms.saturating_sub(tried.last_ms);
            let left = tried.next_ms.saturating_sub(now_ms()).min(whole);
            let left = u64::try_from(left).unwrap_or_default();
            self.pause(Duration::from_millis(left.min(LONGEST_WAIT_MS))).await;
        }
        loop {
            self.changes.mark_unchanged();
            let now = self.host.current();
            let (webhook, hook) = (
                now.shared.config.webhooks().get(&self.name),
                now.shared.hooks.get(&self.name),
            );
            let (Some(webhook), Some(hook)) = (webhook, hook) else {
                // It is gone with the files that were taken just now: so is this task, in a moment, unless they are others again by then.
                if self.changes.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            };
            if !told.again && !webhook.wants(event.kind, &event.about) {
                return Ended::Unwanted;
            }
            let body = webhook.format.body(&self.ledger, event);
            let sent = now
                .shared
                .wire
                .deliver(hook, &message.id, seconds(now_ms()), &body, webhook.timeout);
            let sent = sent.await;
            if let Err(SendError::NotSent(refusal)) = &sent
                && refusal.code == Code::Rate
            {
                // Its receiver asked for time, and nothing was tried: that is at most an hour, whatever is overdue.
                tokio::select! {
                    () = sleep(RESTS / u32::try_from(self.pace).unwrap_or(1).max(1)) => {}
                    _ = self.changes.changed() => {}
                }
                continue;
            }
            missed.attempts = missed.attempts.saturating_add(1);
            if let Err(error) = &sent {
                tracing::debug!(webhook = self.name, %error, "a webhook's message was not taken");
            }
            let later = match attempt(sent) {
                Attempt::Taken => {
                    self.count("delivered");
                    return Ended::Taken;
                }
                Attempt::Gone => {
                    missed.status = Some(GONE);
                    missed.code = None;
                    return Ended::Gone(missed);
                }
                Attempt::Failed { status, code, later } => {
                    self.count("failed");
                    (missed.status, missed.code) = (status, code);
                    later
                }
            };
            let later_ms = later.map(|later| u64::try_from(later.as_millis()).unwrap_or(u64::MAX));
            let give_up_ms = i64::try_from(webhook.give_up.as_millis()).unwrap_or(i64::MAX);
            let until_ms = told.since_ms.saturating_add(give_up_ms);
            let next = match wait(missed.attempts, later_ms, now_ms(), until_ms, jitter()) {
                Wait::GiveUp => return Ended::GivenUp(missed),
                Wait::Again(ms) => Duration::from_millis((ms / self.pace).max(1)),
            };
            tracing::warn!(
                webhook = self.name,
                event = %message.event,
                index = message.index,
                attempt = missed.attempts,
                status = missed.status,
                code = missed.code.map(Code::as_str),
                again_in_ms = next.as_millis(),
                "a webhook's message was not taken"
            );
            self.note(told.at, message, &missed, next).await;
            self.pause(next).await;
        }
    }

    /// Waits, until the files are taken anew at most: whoever does that may have mended what was wrong.
    async fn pause(&mut self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            _ = self.changes.changed() => {}
        }
    }

    /// Keeps that a message was tried, and when it is tried next, for the process that goes on with it. Where that cannot be kept, the
    /// message is tried all the same.
    async fn note(&mut self, at: u64, message: &Message, missed: &Missed, next: Duration) {
        let last_ms = now_ms();
        let next_ms = i64::try_from(next.as_millis()).unwrap_or(i64::MAX);
        let progress = Progress {
            cursor: at,
            taken_ms: self.kept.taken_ms,
            tried: Some(Tried {
                at,
                message: message.clone(),
                attempts: missed.attempts,
                status: missed.status,
                code: missed.code,
                last_ms,
                next_ms: last_ms.saturating_add(next_ms),
            }),
            exhausted: self.kept.exhausted.clone(),
        };
        if let Err(error) = self.commit(&progress, Vec::new()).await {
            tracing::warn!(webhook = self.name, %error, "it is not kept how often a message was tried");
        }
    }

    fn count(&self, outcome: &str) {
        self.host.shared.store.meter().delivery(&self.name, outcome);
    }

    /// Keeps how far the webhook has come, with what the ledger is to say of it; until that is done.
    async fn keep(&mut self, progress: Progress, entries: Vec<EntryDraft>) {
        while let Err(error) = self.commit(&progress, entries.clone()).await {
            tracing::error!(webhook = self.name, %error, "it is not kept what became of a message");
            sleep(AFTER_FAILURE).await;
        }
    }

    async fn commit(&mut self, progress: &Progress, entries: Vec<EntryDraft>) -> Result<(), StoreError> {
        let (store, row) = (self.host.shared.store.clone(), Arc::clone(&self.row));
        let batch = Batch {
            entries,
            webhooks: vec![(self.name.clone(), Some(progress.clone()))],
            ..Batch::default()
        };
        if !blocking(move || row.keep(&store, batch)).await? {
            // The webhook is out of the files, and this task ends in a moment.
            return std::future::pending().await;
        }
        self.kept = progress.clone();
        Ok(())
    }
}

/// The status of a receiver that wants nothing any more.
const GONE: u16 = 410;

/// What a sending comes to. What the receiver says beside its status is not looked at.
fn attempt(sent: Result<Sent, SendError>) -> Attempt {
    let (status, later) = match sent {
        Ok(Sent { status, later, .. }) | Err(SendError::Unusable { status, later, .. }) => (status, later),
        Err(SendError::NotSent(refusal)) => {
            return Attempt::Failed {
                status: None,
                code: Some(refusal.code),
                later: None,
            };
        }
        Err(SendError::Unknown(_) | SendError::Late(_) | SendError::Stopped(_)) => {
            return Attempt::Failed {
                status: None,
                code: None,
                later: None,
            };
        }
    };
    match status {
        200..=299 => Attempt::Taken,
        GONE => Attempt::Gone,
        _ => Attempt::Failed {
            status: Some(status),
            code: None,
            later,
        },
    }
}

fn seconds(ms: i64) -> u64 {
    u64::try_from(ms / 1_000).unwrap_or_default()
}

/// What a page of entries has a webhook told, and the entry after it.
fn page(reader: &Reader, config: &Config, from: u64, name: &str) -> Result<(Vec<Told>, u64), StoreError> {
    let entries = reader.entries(from, PAGE)?;
    let next = entries.last().map_or(from, |last| last.index() + 1);
    let (mut told, mut calls) = (Vec::new(), Contexts::default());
    for entry in &entries {
        told.extend(told_of(reader, config, entry, (name, &mut calls))?);
        calls.take(entry);
    }
    Ok((told, next))
}

/// `calls` is what is known of calls by the entries before this one.
fn told_of(
    reader: &Reader,
    config: &Config,
    entry: &Entry,
    (name, calls): (&str, &mut Contexts),
) -> Result<Option<Told>, StoreError> {
    let (events, again) = match entry.body() {
        Body::WebhookRetried(retried) if retried.message.webhook == name => {
            let ledger = reader.origin()?;
            let about = reader.entry(retried.message.index)?;
            let mut events = events(reader, config, &about, &mut Contexts::default())?;
            events.retain(|event| message(&ledger, name, event).id == retried.message.id);
            if events.is_empty() {
                let index = retried.message.index;
                tracing::error!(
                    webhook = name,
                    index,
                    "a message is not what it was, and is not sent again"
                );
            }
            (events, true)
        }
        _ if may_tell(entry) => (events(reader, config, entry, calls)?, false),
        _ => return Ok(None),
    };
    Ok((!events.is_empty()).then(|| Told {
        at: entry.index(),
        events,
        since_ms: entry.time_ms(),
        again,
    }))
}

/// The events that an entry is, with what came before it in its call.
fn events(reader: &Reader, config: &Config, entry: &Entry, calls: &mut Contexts) -> Result<Vec<Event>, StoreError> {
    if let Some(call) = calls.unknown(entry) {
        let before = reader.entries_before(call, entry.index())?;
        before.iter().for_each(|entry| calls.take(entry));
    }
    let mut events = Event::of(entry, calls);
    for event in &mut events {
        if let Some(whose) = &event.whose {
            let about = about(reader, config, whose)?;
            event.complete(about);
        }
    }
    Ok(events)
}

/// Whom and what an agent, a run or a budget is of. Of what is not there any more nothing is known.
fn about(reader: &Reader, config: &Config, whose: &Whose) -> Result<About, StoreError> {
    let tenant_of = |agent: &str| config.agents().get(agent).map(|spec| spec.tenant.clone());
    Ok(match whose {
        Whose::Agent(name) => About {
            tenant: tenant_of(name),
            ..About::default()
        },
        Whose::Run(id) => About {
            tenant: reader.run(id)?.map(|run| run.started.principal.tenant),
            ..About::default()
        },
        Whose::Budget(name) => match config.budgets().iter().find(|budget| budget.name == *name) {
            Some(budget) => about_covered(&budget.covers, tenant_of),
            None => About::default(),
        },
    })
}

fn about_covered(covers: &Match, tenant_of: impl Fn(&str) -> Option<String>) -> About {
    let of_agent = || covers.agent.as_deref().and_then(tenant_of);
    let of_route = || Some(covers.route.as_ref()?.split_once('/')?.0.to_owned());
    About {
        everything: false,
        tenant: covers.tenant.clone().or_else(of_agent),
        tool: covers.tool.clone(),
        connection: covers.connection.clone().or_else(of_route),
    }
}

/// How a webhook of the configuration stands, by the ledger.
#[derive(Clone, Debug)]
pub struct Standing<'c> {
    /// Its name.
    pub name: &'c str,
    /// What the configuration says of it.
    pub webhook: &'c WebhookConfig,
    /// How far it has come; none where a host that serves has not begun with it.
    pub progress: Option<Progress>,
    /// How many entries the ledger has.
    pub size: u64,
    /// Its messages that wait, that which is sent included.
    pub waiting: Waiting,
    /// How many of its messages were given up, and are left.
    pub dead: usize,
}

/// Messages that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many.
    pub messages: u64,
    /// Whether there may be more: of what is behind the first entries it is not looked at.
    pub more: bool,
}

/// How the webhooks of a configuration stand, by name. Every entry that one was not told of yet is looked at, of many the first.
///
/// # Errors
/// Where the ledger cannot be read.
pub fn standing<'c>(reader: &Reader, config: &'c Config) -> Result<Vec<Standing<'c>>, StoreError> {
    let (left, mut known, size) = (reader.undelivered()?, reader.webhooks()?, reader.size()?);
    let all = config.webhooks().iter().map(|(name, webhook)| {
        let progress = known.remove(name);
        let waiting = progress
            .as_ref()
            .map(|from| waiting(reader, config, (name, webhook), from));
        Ok(Standing {
            name,
            webhook,
            progress,
            size,
            waiting: waiting.transpose()?.unwrap_or_default(),
            dead: left.iter().filter(|one| one.failed.message.webhook == *name).count(),
        })
    });
    all.collect()
}

fn waiting(
    reader: &Reader,
    config: &Config,
    (name, webhook): (&str, &WebhookConfig),
    progress: &Progress,
) -> Result<Waiting, StoreError> {
    let from = progress.cursor;
    let (mut waiting, mut exhausted) = (Waiting::default(), Exhausted(progress.exhausted.clone()));
    let mut at = from;
    loop {
        let (told, next) = page(reader, config, at, name)?;
        for told in told {
            let wanted = |event: &&Event| told.again || exhausted.wants(webhook, event);
            waiting.messages += told.events.iter().filter(wanted).count() as u64;
        }
        waiting.more = next != at && next.saturating_sub(from) >= MOST_LOOKED;
        if next == at || waiting.more {
            return Ok(waiting);
        }
        at = next;
    }
}

/// What a test of a webhook came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tested {
    /// The message's id.
    pub id: String,
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
    /// Why there was no answer that can be used, in a clause; without any secret.
    pub why: Option<String>,
    /// Whether the message was taken.
    pub taken: bool,
}

/// Sends a message that says nothing to a webhook, once, and by what its secrets are now. Nothing of it is on the ledger: it tells of nothing
/// that is. Blocks, for as long as the webhook's `timeout` at most; not within a runtime.
///
/// # Errors
/// Where there is no such webhook, or its secrets cannot be had.
pub(crate) fn test(config: &Config, wire: &Wire, ledger: &str, name: &str) -> Result<Tested, OpenError> {
    let hook = config.hook(name, &Process)?;
    let webhook = config.webhooks().get(name);
    let (format, timeout) = webhook
        .map(|webhook| (webhook.format, webhook.timeout))
        .unwrap_or_default();
    let failed = |error: String| OpenError::Home(format!("nothing was sent: {error}"));
    let mut random = [0_u8; 16];
    random::fill(&mut random).map_err(|error| failed(error.to_string()))?;
    let digest = Digest::of(&random).to_hex();
    let id = format!("msg_{TEST}_{}", digest.get(..16).unwrap_or_default());
    let now_ms = now_ms();
    let body = format.test_body(ledger, now_ms);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let sent = runtime.block_on(wire.deliver(&hook, &id, seconds(now_ms), &body, timeout));
    let why = sent.as_ref().err().map(ToString::to_string);
    let status = match &sent {
        Ok(Sent { status, .. }) | Err(SendError::Unusable { status, .. }) => Some(*status),
        Err(_) => None,
    };
    Ok(Tested {
        id,
        status,
        why,
        taken: matches!(attempt(sent), Attempt::Taken),
    })
}

/// Has a message that was given up sent again, by the host that serves: under its own id, to the webhook as it is by then. `by` is who,
/// where that was an operator over HTTP.
///
/// # Errors
/// Where there is no such message, or its webhook is not in the configuration any more; where the ledger cannot be written.
pub(crate) fn retry(
    store: &Store,
    config: &Config,
    id: &str,
    by: Option<&OperatorShown>,
) -> Result<Message, OpenError> {
    let message = given_up(store, id)?;
    if !config.webhooks().contains_key(&message.webhook) {
        let why = format!(
            "the configuration has no webhook `{}` any more",
            printable(&message.webhook)
        );
        return Err(Refusal::new(Code::Config, why)
            .advise("put it back, or give the message up: ambit webhooks drop ID")
            .into());
    }
    let reader = store.reader()?;
    // A webhook that no host serves yet begins behind what is written by then: this is to be told it too.
    let begins = match reader.webhooks()?.contains_key(&message.webhook) {
        true => None,
        false => Some((message.webhook.clone(), Progress::at(reader.size()?))),
    };
    let entry = WebhookRetried {
        by: by.cloned(),
        message: message.clone(),
    };
    write(store, EntryDraft::of_ledger(entry), begins)?;
    Ok(message)
}

/// Gives up a message that nobody took. `by` is who, where that was an operator over HTTP.
///
/// # Errors
/// Where there is no such message, or the ledger cannot be written.
pub(crate) fn give_up(store: &Store, id: &str, by: Option<&OperatorShown>) -> Result<Message, OpenError> {
    let message = given_up(store, id)?;
    let entry = WebhookDropped {
        by: by.cloned(),
        message: message.clone(),
    };
    write(store, EntryDraft::of_ledger(entry), None)?;
    Ok(message)
}

fn write(store: &Store, entry: EntryDraft, begins: Option<(String, Progress)>) -> Result<(), StoreError> {
    store
        .commit(Batch {
            entries: vec![entry],
            webhooks: begins
                .into_iter()
                .map(|(name, progress)| (name, Some(progress)))
                .collect(),
            ..Batch::default()
        })
        .map(drop)
}

fn given_up(store: &Store, id: &str) -> Result<Message, OpenError> {
    let left = store.reader()?.undelivered()?;
    if let Some(found) = left.into_iter().find(|one| one.failed.message.id == id) {
        return Ok(found.failed.message);
    }
    let why = format!("no message `{}` was given up and is left", printable(id));
    Err(Refusal::new(Code::Arguments, why)
        .advise("`ambit webhooks dead` prints them. What was sent again or dropped is not there any more.")
        .into())
}
