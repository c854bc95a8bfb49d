//! The ledger's tests, over one fixture: a ledger in memory with its nodes and a checkpoint after every entry.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod counted;
mod edits;
mod entries;
mod files;
mod guests;
mod notes;
mod otlp;
mod read_on;
mod receipts;
mod runs;
mod tree;
mod undone;
mod whole;

use std::collections::HashMap;

use super::body::*;
use super::verify::Stored;
use super::*;
use crate::digest::Digest;
use crate::error::Code;
use crate::grant::{Limits, Narrowing};
use crate::hold::{Verdict, Vote};
use crate::identity::operator;
use crate::identity::why::Why;
use crate::policy::Mode;
use crate::scope::Tier;
use crate::trace::{Arrival, ParentSpan, Protocol, SpanId};
use crate::webhook::EventType;

const NAME: &str = "ledger.example/home";

fn key() -> SignerKey {
    SignerKey::from_seed(NAME, &[7; 32]).unwrap()
}

fn digest(of: &str) -> Digest {
    Digest::of(of.as_bytes())
}

/// A call's id, told apart by a letter.
fn call_id(letter: char) -> String {
    format!("c_{}", letter.to_string().repeat(26))
}

/// A ledger in memory.
struct Log {
    entries: Vec<Entry>,
    nodes: HashMap<Node, Hash>,
    tree: Frontier,
    notes: Vec<String>,
}

impl Log {
    /// With its opening entry.
    fn new() -> Self {
        let mut log = Self {
            entries: vec![],
            nodes: HashMap::new(),
            tree: Frontier::new(),
            notes: vec![],
        };
        log.push(EntryDraft::of_ledger(opened()));
        log
    }

    /// With two whole calls, a denied one, and the operator's acts between.
    fn of_everything() -> Self {
        let mut log = Self::new();
        log.push(EntryDraft::of_ledger(ConfigChanged {
            from: None,
            to: digest("config"),
        }));
        log.push(EntryDraft::of_ledger(PolicyChanged {
            from: None,
            rules: 3,
            to: digest("policy"),
        }));
        log.push(EntryDraft::of_ledger(ToolPinned {
            digest: digest("tool"),
            name: "refunds".into(),
            previous: Some(digest("older tool")),
            world: "acme:refunds/tool@1.2.0".into(),
        }));
        log.push(of_call('a', accepted()));
        log.push(of_call('a', intent(0)));
        log.push(of_call('b', accepted()));
        log.push(of_call('a', outcome(0, Outcome::Answered(Answered { status: 200 }))));
        log.push(of_call('d', denied()));
        log.push(of_call('a', refused(1)));
        log.push(of_call('a', finished(&[(1, 5000)])));
        log.push(of_call('b', intent(0)));
        log.push(of_call('b', intent(1)));
        log.push(of_call('b', outcome(1, Outcome::InDoubt(Doubt::Timeout))));
        log.push(of_call('b', outcome(0, Outcome::NotSent(refusal(Code::Address)))));
        log.push(EntryDraft::of_ledger(ToolRemoved {
            digest: digest("tool"),
            name: "refunds".into(),
        }));
        log.push(of_call('b', {
            let Body::CallFinished(mut body) = finished(&[]) else {
                unreachable!()
            };
            body.effects = EffectCounts {
                in_doubt: 1,
                not_sent: 1,
                ..EffectCounts::default()
            };
            body.spent = vec![usd(5000)];
            body.outcome = End::Trapped(refusal(Code::Fuel));
            body
        }));
        log
    }

    /// With what people have to do with: one enrolled, a vote of theirs, a hold that it ended, one that does not count, the key revoked.
    fn of_holds() -> Self {
        let mut log = Self::new();
        let (key, name) = ("ann+key".to_owned(), "ann".to_owned());
        log.push(EntryDraft::of_ledger(PersonEnrolled {
            key: key.clone(),
            name: name.clone(),
        }));
        log.push(EntryDraft::of_ledger(PersonDelegated {
            delegation: "a signed note".into(),
        }));
        log.push(of_call('a', accepted()));
        log.push(of_call('b', accepted()));
        log.push(of_call('b', held(0)));
        log.push(of_call('b', edits::edited(0)));
        log.push(of_call('b', edits::held_anew(|_| {})));
        log.push(of_call('a', held(0)));
        approvals(0).into_iter().for_each(|vote| log.push(of_call('a', vote)));
        log.push(of_call('a', passed(0)));
        log.push(of_call('a', answered(0)));
        log.push(of_call('a', one_answered()));
        log.push(EntryDraft::of_ledger(VoteRefused {
            hold: digest("hold"),
            person: None,
            why: "ended".into(),
        }));
        log.push(EntryDraft::of_ledger(PersonRevoked { key, name }));
        let (id, kind, scope) = (
            format!("s_{}", "a".repeat(26)),
            crate::stop::Kind::Kill,
            crate::stop::Scope::Everything,
        );
        log.push(EntryDraft::of_ledger(StopSet {
            by: None,
            id: id.clone(),
            kind,
            reason: digest("reason"),
            scope: scope.clone(),
        }));
        log.push(EntryDraft::of_ledger(StopLifted {
            by: None,
            id,
            kind,
            reason: Some(digest("reason")),
            scope,
        }));
        log
    }

    /// Appends an entry, a second after the last, and signs a checkpoint.
    fn push(&mut self, draft: EntryDraft) {
        let stamp = match self.entries.last() {
            Some(last) => last.stamp().next(last.time_ms() + 1000),
            None => Stamp::first(1_795_228_800_000),
        };
        self.put(draft.seal(stamp).unwrap());
    }

    fn put(&mut self, entry: Entry) {
        self.tree.append(entry.leaf(), |node, hash| {
            assert_eq!(self.nodes.insert(node, hash), None, "once")
        });
        self.notes
            .push(Checkpoint::sign(self.tree.size(), self.tree.root(), &key()));
        self.entries.push(entry);
    }

    fn node(&self, node: Node) -> Result<Hash, LedgerError> {
        Ok(*self.nodes.get(&node).expect("only complete nodes are read"))
    }

    fn stored(&self) -> Vec<Stored> {
        self.entries
            .iter()
            .map(|entry| Stored {
                bytes: entry.bytes().to_vec(),
                leaf: Some(entry.leaf()),
            })
            .collect()
    }

    fn notes(&self) -> impl Iterator<Item = &str> {
        self.notes.iter().map(String::as_str)
    }

    fn verify(&self) -> Result<Verified, Bad> {
        verify(self.stored().into_iter().map(Ok), self.notes(), key().verifier())
    }

    fn receipt(&self, index: usize) -> Receipt {
        let size = self.tree.size();
        let proof = merkle::inclusion(index as u64, size, |node| self.node(node)).unwrap();
        Receipt::new(self.entries[index].clone(), proof, self.notes.last().unwrap().clone()).unwrap()
    }
}

fn opened() -> LedgerOpened {
    LedgerOpened {
        format: FORMAT,
        key: key().verifier().to_string(),
        origin: NAME.into(),
    }
}

fn erased(letters: &[char]) -> EntryDraft {
    EntryDraft::of_ledger(ValuesErased {
        calls: letters.iter().map(|letter| call_id(*letter)).collect(),
        values: 5,
        why: Reason::Age(Age { days: 90 }),
    })
}

fn breaker_opened(in_a_row: u32) -> EntryDraft {
    EntryDraft::of_ledger(BreakerOpened {
        connection: "stripe".into(),
        failures: 5,
        in_a_row,
        route: Some("refunds.create".into()),
        until: 1_795_228_830_000,
    })
}

fn breaker_closed(why: ClosedBy) -> EntryDraft {
    EntryDraft::of_ledger(BreakerClosed {
        connection: "stripe".into(),
        route: Some("refunds.create".into()),
        why,
    })
}

fn paused() -> EntryDraft {
    EntryDraft::of_ledger(ServicePaused {
        connection: "stripe".into(),
        until: 1_795_228_830_000,
    })
}

/// What is said of webhooks, and of a budget of which much is taken.
fn told() -> [EntryDraft; 4] {
    let message = || Message {
        event: EventType::HoldCreated,
        id: "msg_aaaaaaaaaaaaaaaaaaaaaaaaaa".into(),
        index: 7,
        webhook: "pager".into(),
    };
    [
        EntryDraft::of_ledger(BudgetWarned {
            budget: "refunds".into(),
            cap: 50_000,
            taken: 45_000,
            warn: 40_000,
            window: "usd day 2026-11-21".into(),
        }),
        EntryDraft::of_ledger(WebhookFailed {
            attempts: 3,
            code: None,
            message: message(),
            status: Some(500),
        }),
        EntryDraft::of_ledger(WebhookRetried {
            by: None,
            message: message(),
        }),
        EntryDraft::of_ledger(WebhookDropped {
            by: None,
            message: message(),
        }),
    ]
}

fn principal() -> Principal {
    Principal {
        agent: "support-bot".into(),
        team: "support".into(),
        tenant: "acme".into(),
        user: Some("alice".into()),
    }
}

fn of_call(letter: char, body: impl Into<Body>) -> EntryDraft {
    EntryDraft {
        body: body.into(),
        call: Some(call_id(letter)),
        config: Some(digest("config")),
        policy: Some(digest("policy")),
        principal: Some(principal()),
        tool: Some(digest("tool")),
        trace: Some("0af7651916cd43dd8448eb211c80319c".into()),
    }
}

fn usd(minor: u64) -> Amount {
    Amount {
        currency: "usd".parse().unwrap(),
        minor,
    }
}

fn refusal(code: Code) -> Refused {
    Refused {
        code,
        detail: Some(digest("sentence")),
        rule: Some("support-refunds".into()),
    }
}

/// That a call which was run again came to something else in an effect, or in another part.
fn diverged(letter: char, ordinal: Option<u32>) -> EntryDraft {
    EntryDraft::of_ledger(CallDiverged {
        call: call_id(letter),
        engine: "wasmtime 48".into(),
        expected: digest("expected"),
        ordinal,
        part: if ordinal.is_some() { Part::Effect } else { Part::Result },
        seen: digest("seen"),
    })
}

/// A run from its beginning to its end.
fn run() -> Vec<EntryDraft> {
    let run = "r_aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned();
    let cap = |cap, unit: &str| RunCap {
        cap,
        over: None,
        unit: unit.parse().unwrap(),
    };
    vec![
        EntryDraft::of_ledger(RunStarted {
            once: None,
            by: None,
            caps: vec![cap(100, "calls"), cap(50_000, "usd")],
            errors: Some(ErrorBound { least: 20, percent: 50 }),
            expires: 1_795_257_600_000,
            mode: Mode::Suggest,
            principal: principal(),
            run: run.clone(),
        }),
        EntryDraft::of_ledger(RunDegraded {
            failed: 11,
            finished: 21,
            run: run.clone(),
        }),
        EntryDraft::of_ledger(RunEnded { by: None, run }),
    ]
}

/// A key that takes another's place, that it is revoked, and what was refused.
fn keys() -> Vec<EntryDraft> {
    let id = |letter: &str| format!("k_{}", letter.repeat(26));
    vec![
        EntryDraft::of_ledger(KeyCreated {
            operator: None,
            agent: "support-bot".into(),
            expires: 1_803_004_800_000,
            hash: digest("secret"),
            key: id("b"),
            name: Some("ci".into()),
            narrowing: Narrowing {
                functions: Some(["refunds/*".to_owned()].into()),
                max_tier: Some(Tier::Read),
                ..Narrowing::default()
            },
            replaces: Some(Replaced {
                key: id("a"),
                until: 1_795_232_400_000,
            }),
            user: Some("alice".into()),
        }),
        EntryDraft::of_ledger(KeyCreated {
            agent: String::new(),
            expires: 1_803_004_800_000,
            hash: digest("other"),
            key: id("c"),
            name: None,
            narrowing: Narrowing::default(),
            operator: Some(OperatorKey {
                name: "ivy".into(),
                scopes: [operator::Scope::Read, operator::Scope::Approve].into(),
            }),
            replaces: None,
            user: None,
        }),
        EntryDraft::of_ledger(KeyRevoked { key: id("b") }),
        EntryDraft::of_ledger(CallsReplayed {
            diverged: 1,
            partial: 2,
            same: 40_000,
        }),
        EntryDraft::of_ledger(CallersRefused {
            from: 1_795_228_700_000,
            refused: [(Why::Expired, 2), (Why::NotYet, 1), (Why::UnknownKey, 40_000)].into(),
        }),
    ]
}

fn asked() -> Asked {
    Asked {
        args: digest("args"),
        function: "refunds.create".into(),
        limits: LimitList::from(&Limits {
            memory_bytes: u64::MAX,
            ..Limits::default()
        }),
        mode: Mode::Execute,
        tier: Tier::Commit,
        tool: "refunds".into(),
    }
}

fn accepted() -> Body {
    let reserved = vec![Reservation {
        amount: 1,
        budget: "calls".into(),
        cap: 1000,
        over: None,
        warn: None,
        window: "day 2026-11-21".into(),
    }];
    CallAccepted {
        arrival: Some(Arrival {
            parent: Some(ParentSpan {
                sampled: true,
                span: SpanId::of_call("the caller's"),
            }),
            protocol: Some(Protocol::Mcp),
        }),
        once: None,
        asked: asked(),
        by: Some(ShownBy::Token(TokenShown::new("acme", Some("jti-1")))),
        letter: None,
        reserved,
        rules: vec!["support-calls".into()],
        run: None,
        seed: digest("seed"),
        undoes: None,
    }
    .into()
}

fn denied() -> Body {
    CallDenied {
        arrival: Some(Arrival {
            parent: None,
            protocol: Some(Protocol::Api),
        }),
        once: None,
        args: Some(digest("args")),
        budget: None,
        by: Some(ShownBy::Key(format!("k_{}", "a".repeat(26)))),
        function: Some("refunds.create".into()),
        mode: Some(Mode::Execute),
        refused: refusal(Code::Policy),
        rules: vec![],
        run: None,
        stage: Stage::Policy,
        tool: Some("refunds".into()),
        undoes: None,
    }
    .into()
}

fn intent(ordinal: u32) -> Body {
    EffectIntent {
        asked: Some(digest("asked")),
        before: None,
        cause: Cause::Guest,
        connection: "stripe".into(),
        effect: digest("effect"),
        hold: None,
        import: Some("stripe".into()),
        letter: None,
        ordinal,
        request: digest("request"),
        reserved: vec![Reservation {
            amount: 5000,
            budget: "refunds".into(),
            cap: 50_000,
            over: None,
            warn: None,
            window: "day 2026-11-21".into(),
        }],
        route: "refunds.create".into(),
        rules: vec!["support-refunds".into()],
        spend: Some(usd(5000)),
        tier: Tier::Commit,
        undoes: None,
    }
    .into()
}

fn dropped() -> EntryDraft {
    EntryDraft::of_ledger(DeadLetterDropped {
        call: call_id('x'),
        ordinal: 1,
        why: Dropped::DoneByHand,
    })
}

fn letter() -> Letter {
    Letter {
        call: call_id('x'),
        new_key: true,
        ordinal: 1,
    }
}

/// A call by which an operator tries a dead letter again.
fn retry_accepted() -> Body {
    let Body::CallAccepted(mut body) = accepted() else {
        unreachable!()
    };
    body.letter = Some(letter());
    body.into()
}

/// An intent that takes a dead letter.
fn redelivered(ordinal: u32, cause: Cause) -> Body {
    let Body::EffectIntent(mut body) = intent(ordinal) else {
        unreachable!()
    };
    body.cause = cause;
    body.letter = Some(letter());
    body.into()
}

fn retried(ordinal: u32, attempt: u32) -> Body {
    EffectRetried {
        after: Outcome::Answered(Answered { status: 503 }),
        attempt,
        connection: "stripe".into(),
        ordinal,
        request: digest("request"),
        route: "refunds.create".into(),
    }
    .into()
}

/// An outcome after so many sendings.
fn after(ordinal: u32, attempts: u32) -> Body {
    let Body::EffectOutcome(mut body) = answered(ordinal) else {
        unreachable!()
    };
    body.attempts = attempts;
    body.into()
}

fn held(ordinal: u32) -> Body {
    EffectHeld {
        over: vec![],
        asked: Some(digest("asked")),
        authors: vec![],
        edited_from: None,
        before: None,
        connection: "stripe".into(),
        effect: digest("effect"),
        expires: 1_795_228_900_000,
        hold: digest("hold"),
        import: Some("stripe".into()),
        most: 1_000,
        needs: vec![[("finance".to_owned(), 2), ("legal".to_owned(), 1)].into()],
        ordinal,
        request: digest("request"),
        route: "refunds.create".into(),
        rules: vec!["dual-control".into()],
        spend: Some(usd(5000)),
        tier: Tier::Commit,
        way: None,
        undoes: None,
    }
    .into()
}

fn resumed(guest: u32) -> Body {
    CallResumed { guest }.into()
}

fn guest_ended(guest: u32, fuel: u64) -> Body {
    GuestEnded { fuel, guest }.into()
}

fn paused_by(stop: &str) -> Body {
    CallPaused {
        asked: None,
        ordinal: 1,
        stop: stop.into(),
    }
    .into()
}

fn suspended(fuel: u64) -> Body {
    CallSuspended { before: None, fuel }.into()
}

/// One that is taken, one that is refused, and a host that could not open.
fn reloads() -> [EntryDraft; 3] {
    let changed = |name: &str, from: Option<&str>, to: Option<&str>| ToolChanged {
        from: from.map(digest),
        name: name.into(),
        to: to.map(digest),
    };
    let taken = HostReloaded {
        by: ReloadedBy::Operator,
        config: digest("config"),
        policy: digest("policy"),
        tools: vec![
            changed("accounts", None, Some("accounts")),
            changed("mail", Some("mail"), None),
            changed("refunds", Some("tool"), Some("newer tool")),
        ],
    };
    let refused = ReloadRefused {
        by: ReloadedBy::Signal,
        code: Code::Config,
    };
    let unopened = ActRefused {
        act: Act::ReplayBundle,
        code: Code::Ledger,
        of: Some(digest("bundle")),
    };
    [
        EntryDraft::of_ledger(taken),
        EntryDraft::of_ledger(refused),
        EntryDraft::of_ledger(unopened),
    ]
}

fn voted(ordinal: u32) -> Body {
    HoldVoted {
        by: None,
        hold: digest("hold"),
        instead: None,
        ordinal,
        reason: Some(digest("reason")),
        vote: "a signed note".into(),
    }
    .into()
}

/// As many approvals as [`held`] waits for, each signed by its person.
fn approvals(ordinal: u32) -> Vec<Body> {
    let people = [("ann", "finance"), ("ben", "finance"), ("cid", "legal")];
    people.map(|(person, group)| approved(ordinal, person, group)).into()
}

fn approved(ordinal: u32, person: &str, group: &str) -> Body {
    let vote = Vote {
        person: person.to_owned(),
        hold: digest("hold"),
        verdict: Verdict::Approve,
        group: group.to_owned(),
        expires_ms: 1_795_228_900_000,
        in_stead_of: None,
    };
    let Body::HoldVoted(mut body) = voted(ordinal) else {
        unreachable!()
    };
    body.vote = vote.sign(&SignerKey::from_seed(person, &[9; 32]).unwrap()).unwrap();
    body.into()
}

/// The intent that a hold ended with.
fn passed(ordinal: u32) -> Body {
    let Body::EffectIntent(mut body) = intent(ordinal) else {
        unreachable!()
    };
    body.hold = Some(digest("hold"));
    body.into()
}

/// The end of a call with one answered effect.
fn one_answered() -> Body {
    let Body::CallFinished(mut body) = finished(&[(1, 5000)]) else {
        unreachable!()
    };
    body.effects.refused = 0;
    body.into()
}

fn refused(ordinal: u32) -> Body {
    EffectRefused {
        asked: Some(digest("asked")),
        cause: Cause::Guest,
        connection: Some("stripe".into()),
        effect: Some(digest("effect")),
        end: None,
        exhausted: vec![],
        hold: None,
        import: Some("stripe".into()),
        ordinal,
        refused: refusal(Code::Money),
        route: Some("refunds.create".into()),
        rules: vec![],
        spend: Some(usd(60_000)),
        tier: Some(Tier::Commit),
        undoes: None,
    }
    .into()
}

/// An outcome that spent what [`intent`] said, unless nothing was sent.
fn outcome(ordinal: u32, outcome: Outcome) -> Body {
    let spent = (!matches!(outcome, Outcome::NotSent(_))).then(|| usd(5000));
    let settled = vec![Settlement {
        amount: 5000,
        budget: "refunds".into(),
        window: "day 2026-11-21".into(),
    }];
    EffectOutcome {
        last: None,
        absent: false,
        answer: Some(digest("answer")),
        attempts: 1,
        dead: false,
        ms: 12,
        ordinal,
        outcome,
        received: 321,
        sent: 123,
        settled,
        spent,
    }
    .into()
}

/// What was read back of an effect.
fn checked(ordinal: u32, shown: Shown) -> Body {
    EffectChecked {
        diff: digest("diff"),
        ordinal,
        shown,
    }
    .into()
}

/// What an operator said of an effect in doubt, of which its guest had been told something.
fn resolved(ordinal: u32, found: Found) -> Body {
    EffectResolved {
        answer: None,
        dead: false,
        found,
        ordinal,
        reason: Some(digest("found")),
        settled: vec![],
        spent: (found == Found::Done).then(|| usd(5000)),
    }
    .into()
}

fn answered(ordinal: u32) -> Body {
    outcome(ordinal, Outcome::Answered(Answered { status: 200 }))
}

/// The end of a call with one refused effect for every pair of (answered effects, cents spent).
fn finished(sums: &[(u32, u64)]) -> Body {
    let (answered, cents) = sums
        .iter()
        .fold((0, 0), |(n, sum), (count, cents)| (n + count, sum + cents));
    CallFinished {
        asked: asked(),
        checked: vec![],
        edited: vec![],
        effects: EffectCounts {
            answered,
            refused: sums.len() as u32,
            ..EffectCounts::default()
        },
        engine: None,
        fuel: 123_456,
        log: Some(digest("log")),
        memory: 1_179_648,
        ms: 3,
        outcome: End::Ok(Returned {
            result: digest("result"),
        }),
        settled: vec![Settlement {
            amount: 1,
            budget: "calls".into(),
            window: "day 2026-11-21".into(),
        }],
        spent: if cents == 0 { vec![] } else { vec![usd(cents)] },
        undoes: None,
        upstream: 12,
    }
    .into()
}
