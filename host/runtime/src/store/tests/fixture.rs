//! Homes and the entries of made-up calls.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ambit_core::digest::Digest;
use ambit_core::effect::{GuestBody, GuestRequest, HttpRequest, WireLimits};
use ambit_core::error::Code;
use ambit_core::grant::Limits;
use ambit_core::ledger::body::{
    Answered, Asked, By, CallAccepted, CallFinished, Cause, ConfigChanged, Doubt, EffectChecked, EffectHeld,
    EffectIntent, EffectOutcome, EffectRefused, EffectResolved, EffectRetried, End, ErrorBound, Found, HoldVoted,
    Letter, Outcome, Refused, Reservation, Returned, Rollback, RunCap, RunEnded, RunStarted, Settlement, Shown, Undoes,
};
use ambit_core::ledger::{Body, EntryDraft, Principal, Tally};
use ambit_core::policy::Mode;
use ambit_core::scope::Tier;
use rusqlite::Connection;

use super::super::{Batch, Faults, Intent, Keys, Payload, Reader, Store, StoreError, StoreOptions, home};

/// A home in a directory of its own.
pub(super) struct Home(tempfile::TempDir);

impl Home {
    pub(super) fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        Keys::create(home.path()).unwrap();
        home
    }

    pub(super) fn path(&self) -> &std::path::Path {
        self.0.path()
    }

    pub(super) fn keys(&self) -> Keys {
        Keys::load(self.path()).unwrap()
    }

    pub(super) fn open(&self) -> Store {
        self.try_open(StoreOptions::default(), Faults::none()).unwrap()
    }

    pub(super) fn try_open(&self, options: StoreOptions, faults: Faults) -> Result<Store, StoreError> {
        Store::open(self.path(), self.keys(), options, faults)
    }

    /// Looks at the ledger as an auditor does.
    pub(super) fn reader(&self) -> Reader {
        Reader::open(self.path()).unwrap().with_keys(&self.keys())
    }

    /// Everything about the ledger holds.
    pub(super) fn verify(&self) {
        self.reader().verify(self.keys().verifier(), &[], |_| ()).unwrap();
    }

    pub(super) fn try_verify(&self) -> Result<(), StoreError> {
        self.reader().verify(self.keys().verifier(), &[], |_| ()).map(drop)
    }

    /// The database, for whoever does to it what nobody should.
    pub(super) fn database(&self) -> Connection {
        Connection::open(self.path().join(home::LEDGER)).unwrap()
    }

    /// A path that is not in the home.
    pub(super) fn outside(&self) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("high-water");
        (dir, path)
    }
}

/// An entry of the smallest kind.
pub(super) fn note() -> Batch {
    batch([EntryDraft::of_ledger(ConfigChanged {
        from: None,
        to: Digest::of(b"config"),
    })])
}

pub(super) fn batch(entries: impl IntoIterator<Item = EntryDraft>) -> Batch {
    Batch {
        entries: entries.into_iter().collect(),
        ..Batch::default()
    }
}

/// A window that is the same at any time.
const ANY_TIME: &str = "usd rolling 24h";

/// What a call reserves in `budget`, whatever the time.
pub(super) fn reserve(budget: &str, amount: u64, cap: u64) -> Reservation {
    reserve_in(ANY_TIME, budget, amount, cap)
}

pub(super) fn settle(budget: &str, amount: u64) -> Settlement {
    settle_in(ANY_TIME, budget, amount)
}

pub(super) fn reserve_in(window: &str, budget: &str, amount: u64, cap: u64) -> Reservation {
    Reservation {
        amount,
        budget: budget.into(),
        cap,
        over: None,
        warn: None,
        window: window.into(),
    }
}

pub(super) fn settle_in(window: &str, budget: &str, amount: u64) -> Settlement {
    Settlement {
        amount,
        budget: budget.into(),
        window: window.into(),
    }
}

/// A clock that shows what a test says.
#[derive(Clone)]
pub(super) struct Time(Arc<AtomicI64>);

impl Time {
    pub(super) fn at(ms: i64) -> Self {
        Self(Arc::new(AtomicI64::new(ms)))
    }

    pub(super) fn set(&self, ms: i64) {
        self.0.store(ms, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Of a store that lives by it.
    pub(super) fn options(&self) -> StoreOptions {
        let time = self.clone();
        StoreOptions {
            clock: Arc::new(move || time.get()),
            ..StoreOptions::default()
        }
    }
}

/// A request, which differs from others by its path.
pub(super) fn request(path: &str) -> HttpRequest {
    let guest = GuestRequest {
        method: "POST".parse().unwrap(),
        path: path.into(),
        query: vec![],
        headers: vec![],
        body: GuestBody::None,
    };
    HttpRequest::parse(
        &"https://api.example.com".parse().unwrap(),
        &guest,
        &WireLimits::default(),
    )
    .unwrap()
}

pub(super) fn send(request: HttpRequest) -> Intent {
    Intent {
        request,
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

/// A call, and what its entries have to add up to.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) id: String,
    tally: Tally,
}

impl Call {
    /// A call that no other test has.
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::numbered(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn numbered(number: u64) -> Self {
        let base32 =
            |shift: u64| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(number >> (shift * 5) & 31) as usize]);
        let id = format!(
            "c_{}",
            (0..13)
                .rev()
                .map(base32)
                .chain("qqqqqqqqqqqqq".chars())
                .collect::<String>()
        );
        Self {
            id,
            tally: Tally::default(),
        }
    }

    pub(super) fn draft(&self, body: impl Into<Body>) -> EntryDraft {
        let principal = |name: &str| format!("{name}-1");
        EntryDraft {
            body: body.into(),
            call: Some(self.id.clone()),
            trace: Some("0123456789abcdef0123456789abcdef".into()),
            principal: Some(Principal {
                agent: principal("agent"),
                team: principal("team"),
                tenant: principal("tenant"),
                user: None,
            }),
            tool: Some(Digest::of(b"tool")),
            policy: Some(Digest::of(b"policy")),
            config: Some(Digest::of(b"config")),
        }
    }

    fn asked() -> Asked {
        Asked {
            args: Digest::of(b"args"),
            function: "refunds.create".into(),
            limits: (&Limits::default()).into(),
            mode: Mode::Execute,
            tier: Tier::Commit,
            tool: "refunds".into(),
        }
    }

    pub(super) fn accepted(&self, reserved: Vec<Reservation>) -> EntryDraft {
        let seed = Digest::of(b"seed");
        self.draft(CallAccepted {
            arrival: None,
            once: None,
            by: None,
            asked: Self::asked(),
            letter: None,
            reserved,
            rules: vec!["may-call".into()],
            run: None,
            seed,
            undoes: None,
        })
    }

    /// The same, as part of a run.
    pub(super) fn accepted_in(&self, run: &str, reserved: Vec<Reservation>) -> EntryDraft {
        let mut draft = self.accepted(reserved);
        if let Body::CallAccepted(accepted) = &mut draft.body {
            accepted.run = Some(run.into());
        }
        draft
    }

    /// A run of the one who makes these calls, that is open until a time.
    pub(super) fn run(&self, run: &str, expires_ms: i64, caps: Vec<RunCap>) -> RunStarted {
        RunStarted {
            once: None,
            by: None,
            caps,
            errors: Some(ErrorBound { least: 4, percent: 50 }),
            expires: expires_ms.unsigned_abs(),
            mode: Mode::Execute,
            principal: self
                .draft(RunEnded {
                    by: None,
                    run: run.into(),
                })
                .principal
                .unwrap(),
            run: run.into(),
        }
    }

    /// The intent to send a request, with the payload that it commits to and leave to send it asked for.
    pub(super) fn intends(&self, ordinal: u32, request: &HttpRequest, reserved: Vec<Reservation>) -> Batch {
        let wire = request.wire().to_canonical().into_bytes();
        let payload = Payload::new(&self.id, format!("effect/{ordinal}/request"), wire).unwrap();
        Batch {
            entries: vec![self.intent(ordinal, request, &payload, reserved)],
            payloads: vec![payload],
            intent: Some(send(request.clone())),
            ..Batch::default()
        }
    }

    /// A call and its first intent in one batch.
    pub(super) fn begins(&self, request: &HttpRequest, reserved: Vec<Reservation>) -> Batch {
        let mut batch = self.intends(0, request, reserved);
        batch.entries.insert(0, self.accepted(vec![]));
        batch
    }

    fn intent(&self, ordinal: u32, request: &HttpRequest, payload: &Payload, reserved: Vec<Reservation>) -> EntryDraft {
        self.draft(EffectIntent {
            letter: None,
            asked: None,
            before: None,
            cause: Cause::Guest,
            connection: "stripe".into(),
            effect: request.digest(),
            hold: None,
            import: Some("stripe".into()),
            ordinal,
            request: payload.commitment(),
            reserved,
            route: "refunds.create".into(),
            rules: vec!["may-commit".into()],
            spend: None,
            tier: Tier::Commit,
            undoes: None,
        })
    }

    /// The entry for sending an intent's request once more.
    pub(super) fn retried(&self, ordinal: u32, attempt: u32, request: Digest) -> EntryDraft {
        self.draft(EffectRetried {
            after: Outcome::Answered(Answered { status: 503 }),
            attempt,
            connection: "stripe".into(),
            ordinal,
            request,
            route: "refunds.create".into(),
        })
    }

    /// What was read back of an effect.
    pub(super) fn checked(&mut self, ordinal: u32, shown: Shown) -> EntryDraft {
        let body = EffectChecked {
            diff: Digest::of(b"diff"),
            ordinal,
            shown,
        };
        self.tally.checked(&body);
        self.draft(body)
    }

    /// An outcome after so many sendings, which failed for good.
    pub(super) fn dead(&mut self, ordinal: u32, attempts: u32) -> EntryDraft {
        let mut draft = self.outcome(ordinal, vec![]);
        if let Body::EffectOutcome(body) = &mut draft.body {
            body.attempts = attempts;
            body.dead = true;
        }
        draft
    }

    /// A call by which an operator tries a dead letter again.
    pub(super) fn accepted_to_retry(&self, letter: (&str, u32)) -> EntryDraft {
        let mut draft = self.accepted(vec![]);
        if let Body::CallAccepted(body) = &mut draft.body {
            body.letter = Some(Self::letter(letter));
        }
        draft
    }

    fn letter((call, ordinal): (&str, u32)) -> Letter {
        Letter {
            call: call.to_owned(),
            new_key: false,
            ordinal,
        }
    }

    /// The intent that an operator tries a dead letter again with.
    pub(super) fn redelivers(&self, ordinal: u32, letter: (&str, u32)) -> Batch {
        let mut batch = self.intends(ordinal, &request("/again"), vec![]);
        if let Some(Body::EffectIntent(body)) = batch.entries.first_mut().map(|entry| &mut entry.body) {
            body.cause = Cause::Operator;
            body.letter = Some(Self::letter(letter));
        }
        batch
    }

    /// A call by which an operator undoes another.
    pub(super) fn accepted_to_undo(&self, by: By, call: &str) -> EntryDraft {
        let mut draft = self.accepted(vec![]);
        if let Body::CallAccepted(body) = &mut draft.body {
            body.undoes = Some(Rollback {
                over_changes: false,
                skip: Vec::new(),
                by,
                call: call.to_owned(),
            });
        }
        draft
    }

    /// The intent that takes an effect of another call back.
    pub(super) fn takes_back(&self, ordinal: u32, call: &str, of: u32) -> Batch {
        let mut batch = self.intends(ordinal, &request("/back"), vec![]);
        if let Some(Body::EffectIntent(body)) = batch.entries.first_mut().map(|entry| &mut entry.body) {
            body.cause = Cause::Operator;
            body.undoes = Some(Undoes {
                call: call.to_owned(),
                ordinal: of,
            });
        }
        batch
    }

    pub(super) fn held(&self, ordinal: u32, hold: &[u8], expires: u64) -> EntryDraft {
        self.draft(EffectHeld {
            over: vec![],
            asked: None,
            authors: vec![],
            edited_from: None,
            before: None,
            connection: "stripe".into(),
            effect: Digest::of(b"effect"),
            expires,
            hold: Digest::of(hold),
            import: Some("stripe".into()),
            most: 1_000,
            needs: vec![[("finance".to_owned(), 1)].into()],
            ordinal,
            request: Digest::of(b"request"),
            route: "refunds.create".into(),
            rules: vec!["dual-control".into()],
            spend: None,
            tier: Tier::Commit,
            way: None,
            undoes: None,
        })
    }

    pub(super) fn voted(&self, ordinal: u32, hold: &[u8], vote: String) -> EntryDraft {
        self.draft(HoldVoted {
            by: None,
            hold: Digest::of(hold),
            instead: None,
            ordinal,
            reason: None,
            vote,
        })
    }

    /// The intent that a hold ends with.
    pub(super) fn passes(&self, ordinal: u32, hold: &[u8]) -> Batch {
        let mut batch = self.intends(ordinal, &request("/held"), vec![]);
        if let Some(Body::EffectIntent(body)) = batch.entries.first_mut().map(|entry| &mut entry.body) {
            body.hold = Some(Digest::of(hold));
        }
        batch
    }

    /// The refusal that a hold ends with.
    pub(super) fn unheld(&self, ordinal: u32, hold: &[u8]) -> EntryDraft {
        self.draft(EffectRefused {
            asked: None,
            cause: Cause::Guest,
            connection: None,
            effect: None,
            end: Some(ambit_core::hold::End::Stale),
            exhausted: vec![],
            hold: Some(Digest::of(hold)),
            import: None,
            ordinal,
            refused: Refused {
                code: Code::Approval,
                detail: None,
                rule: None,
            },
            route: None,
            rules: vec![],
            spend: None,
            tier: None,
            undoes: None,
        })
    }

    pub(super) fn outcome(&mut self, ordinal: u32, settled: Vec<Settlement>) -> EntryDraft {
        let outcome = Outcome::Answered(Answered { status: 200 });
        let body = EffectOutcome {
            last: None,
            absent: false,
            attempts: 1,
            dead: false,
            answer: Some(Digest::of(b"answer")),
            ms: 5,
            ordinal,
            outcome,
            received: 10,
            sent: 20,
            settled,
            spent: None,
        };
        self.tally.outcome(&body);
        self.draft(body)
    }

    pub(super) fn in_doubt(&mut self, ordinal: u32) -> EntryDraft {
        let body = EffectOutcome {
            last: None,
            absent: false,
            attempts: 1,
            dead: false,
            answer: None,
            ms: 0,
            ordinal,
            outcome: Outcome::InDoubt(Doubt::Restart),
            received: 0,
            sent: 0,
            settled: vec![],
            spent: None,
        };
        self.tally.outcome(&body);
        self.draft(body)
    }

    pub(super) fn resolved(&self, ordinal: u32, settled: Vec<Settlement>) -> EntryDraft {
        self.draft(EffectResolved {
            answer: None,
            dead: false,
            found: Found::Done,
            ordinal,
            reason: None,
            settled,
            spent: None,
        })
    }

    pub(super) fn finished(&self, settled: Vec<Settlement>) -> EntryDraft {
        self.draft(CallFinished {
            asked: Self::asked(),
            checked: self.tally.checks().to_vec(),
            edited: vec![],
            effects: self.tally.counts(),
            engine: None,
            fuel: 0,
            log: None,
            memory: 2,
            ms: 3,
            outcome: End::Ok(Returned {
                result: Digest::of(b"result"),
            }),
            settled,
            spent: self.tally.spent(),
            undoes: None,
            upstream: 4,
        })
    }

    /// The end of a call by which an operator undoes another.
    pub(super) fn ended_to_undo(mut draft: EntryDraft, by: By, call: &str) -> EntryDraft {
        if let Body::CallFinished(body) = &mut draft.body {
            body.undoes = Some(Rollback {
                over_changes: false,
                skip: Vec::new(),
                by,
                call: call.to_owned(),
            });
        }
        draft
    }

    /// An end that is no result.
    pub(super) fn failed(&self) -> EntryDraft {
        let mut draft = self.finished(vec![]);
        if let Body::CallFinished(finished) = &mut draft.body {
            finished.outcome = End::Interrupted;
        }
        draft
    }

    /// A call from its beginning to its end.
    pub(super) fn whole(&self) -> Batch {
        batch([self.accepted(vec![]), self.finished(vec![])])
    }
}
