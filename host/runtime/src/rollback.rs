//! Undoing a call: its effects in reverse, through the same gate as all others.
//!
//! A rollback is a call of its own: the same caller, tool and function are decided on by today's policy, and each of its effects goes
//! through route, policy, approvals, budgets, stops and the ledger as any does. By routes no guest runs: the host asks for one inverse
//! after the other ([`ambit_core::undo`]), and stops at the first that is refused or fails, as what was done before stands under it. By
//! the tool's own function it is an ordinary call of that. What has been undone is on the ledger, so the next rollback does what is left.

mod plan;

pub use plan::{Fate, Item, Plan, RollbackOptions};

use std::sync::Arc;
use std::time::Instant;

use ambit_core::effect::{GuestResponse, Method};
use ambit_core::error::{Code, Refusal};
use ambit_core::json::Json;
use ambit_core::ledger::body::{Asked, By, Rollback, Stage, Undoes};
use ambit_core::ledger::story::Opening;
use ambit_core::ledger::{CallStory, Principal};
use ambit_core::policy::Mode;
use ambit_core::undo::{self, Inverse, Obstacle};

use crate::approvals::ApprovalError;
use crate::call::{Accepted, Answer, CallRequest, Cost, Denied, Fault, Listener, Outcome, millis};
use crate::effects::CallEffects;
use crate::host::Host;
use crate::sandbox::GuestHttpError;
use crate::store::{Reader, StoreError};
use crate::transcript::{Record, Start, Unreadable};

/// A call with its rollbacks so far.
struct Past {
    story: CallStory,
    rollbacks: Vec<CallStory>,
}

/// A rollback that the host's end interrupted.
struct Left {
    call: String,
    by: By,
}

impl Past {
    /// # Errors
    /// Where the ledger cannot be read, or has no such call.
    fn read(reader: &Reader, call: &str) -> Result<Past, StoreError> {
        let rollbacks = reader.rollbacks_of(call)?;
        Ok(Past {
            story: reader.story(call)?,
            rollbacks: rollbacks.iter().map(|by| reader.story(by)).collect::<Result<_, _>>()?,
        })
    }

    /// Whether the call can be undone now: a rollback that was interrupted is no obstacle, and has to be dealt with first.
    fn ready(&self, host: &Host) -> Result<Option<Left>, Refusal> {
        match undo::obstacle(&self.story, &self.rollbacks) {
            Some(Obstacle::UnderWay { call, waits: false, by }) if !host.shared.is_running(&call) => {
                Ok(Some(Left { call, by }))
            }
            Some(obstacle) if !ambit_core::guard!("undo.obstacle", false) => Err(obstacle.refusal(&self.story.call)),
            _ => Ok(None),
        }
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// Nothing can be undone, or not now. To write that down, ask for it: [`Host::roll_back`].
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The host could not do its work.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<StoreError> for RollbackError {
    fn from(error: StoreError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<ApprovalError> for RollbackError {
    fn from(error: ApprovalError) -> Self {
        match error {
            ApprovalError::Refused(refusal) => Self::Refused(refusal),
            ApprovalError::Fault(fault) => Self::Fault(fault),
        }
    }
}

impl Host {
    /// What [`Host::roll_back`] would do, and what it could not: for people, before they have it done. It writes nothing.
    ///
    /// # Errors
    /// Where the call cannot be undone, or not now.
    pub fn plan_rollback(&self, call: &str, options: &RollbackOptions) -> Result<Plan, RollbackError> {
        let reader = self.reader()?;
        let past = Past::read(&reader, call)?;
        past.ready(self)?;
        Ok(self
            .plan(&reader, &past.story, &past.rollbacks)?
            .without(&options.skip)?)
    }

    /// Undoes a call: all of it that can be undone, the last effect first, up to the first that is refused or fails. Every answer is on the
    /// ledger, and so is a refusal. What an earlier rollback did is not done again. What would be written back over what somebody else
    /// changed since is refused, unless `options` says so. Blocks as [`Host::call`] does.
    ///
    /// # Errors
    /// Where the ledger cannot be read or written, has no such call, or a rollback by function that was interrupted cannot go on.
    pub fn roll_back(
        &self,
        call: &str,
        options: &RollbackOptions,
        listener: Option<Listener>,
    ) -> Result<Answer, RollbackError> {
        let reader = self.reader()?;
        let Some(_alone) = self.shared.alone(call) else {
            let past = Past::read(&reader, call)?;
            return self.not_undone(&reader, &past.story, Obstacle::Unfinished.refusal(call));
        };
        let mut past = Past::read(&reader, call)?;
        match past.ready(self) {
            Err(refusal) => return self.not_undone(&reader, &past.story, refusal),
            Ok(None) => {}
            // Its guest goes on from where it was.
            Ok(Some(Left { call, by: By::Function })) => return Ok(self.resume(&call, listener)?),
            Ok(Some(Left {
                call: left,
                by: By::Routes,
            })) => {
                self.end(&left)?;
                past = Past::read(&reader, call)?;
                if let Err(refusal) = past.ready(self) {
                    return self.not_undone(&reader, &past.story, refusal);
                }
            }
        }
        let plan = self.plan(&reader, &past.story, &past.rollbacks);
        let plan = match plan.and_then(|plan| plan.without(&options.skip)) {
            Ok(plan) => plan,
            Err(refusal) => return self.not_undone(&reader, &past.story, refusal),
        };
        match plan.refusal() {
            Some(refusal) => self.not_undone(&reader, &past.story, refusal),
            None => Ok(self.undo(&reader, &past.story, (plan, options), listener)?),
        }
    }

    /// Writes down that a call was to be undone, and that nothing of it is.
    fn not_undone(&self, reader: &Reader, story: &CallStory, refusal: Refusal) -> Result<Answer, RollbackError> {
        let mut asking = self.ask(of_story(reader, story))?;
        asking.undoes = Some(Rollback {
            by: By::Routes,
            call: story.call.clone(),
            over_changes: false,
            skip: Vec::new(),
        });
        Ok(self.deny(asking, Denied::at_stage(Stage::Undo, refusal))?)
    }

    fn undo(
        &self,
        reader: &Reader,
        story: &CallStory,
        (plan, options): (Plan, &RollbackOptions),
        listener: Option<Listener>,
    ) -> Result<Answer, Fault> {
        let mut request = of_story(reader, story);
        request.listener = listener;
        if let Some((function, args)) = &plan.function {
            request.function.clone_from(function);
            request.args = args.to_canonical();
        }
        let mut asking = self.ask(request)?;
        let undoes = Rollback {
            by: plan.by(),
            call: story.call.clone(),
            over_changes: options.over_changes && plan.by() == By::Routes,
            skip: options.skip.iter().copied().collect(),
        };
        asking.undoes = Some(undoes.clone());
        let _running = self.shared.alone(asking.heading.call.as_str());
        let place = match self
            .shared
            .place()
            .and_then(|place| self.is_read_last().map(|()| place))
        {
            Ok(place) => place,
            Err(refusal) => return self.deny(asking, Denied::at_stage(Stage::Grant, refusal)),
        };
        let decided = match self.decide(&asking) {
            Ok(decided) if !decided.is_of(story.principal.as_ref()) => {
                let why = "the agent is in another team or tenant than when the call was made";
                return self.deny(asking, Denied::of_caller(Refusal::new(Code::Stale, why)));
            }
            Ok(decided) => decided,
            Err(denied) => return self.deny(asking, denied),
        };
        let accepted = match self.accept(asking, decided)? {
            Ok(accepted) => accepted,
            Err((asking, denied)) => return self.deny(asking, denied),
        };
        let answer = match plan.by() {
            By::Function => self.run_to_undo(accepted, Some(undoes)),
            By::Routes => self.run_rollback(accepted, undoes, &plan),
        };
        drop(place);
        answer
    }

    /// Goes on with a rollback by routes, of which an effect was held: what would undo the call is found anew, and what differs from what
    /// people were asked about ends it.
    pub(crate) fn resume_rollback(
        &self,
        reader: &Reader,
        accepted: Accepted<'_>,
        undoes: &Rollback,
    ) -> Result<Answer, ApprovalError> {
        let mut past = Past::read(reader, &undoes.call)?;
        // As it was when this rollback began: what it has done itself it is given again.
        let own = accepted.beginning.heading.call.as_str();
        past.rollbacks.retain(|rollback| rollback.call != own);
        let plan = self.plan(reader, &past.story, &past.rollbacks)?;
        let plan = plan.without(&undoes.skip.iter().copied().collect())?;
        Ok(self.run_rollback(accepted, undoes.clone(), &plan)?)
    }

    /// Asks for one inverse after the other, in place of a guest, and writes down how that ended.
    fn run_rollback(&self, accepted: Accepted<'_>, undoes: Rollback, plan: &Plan) -> Result<Answer, Fault> {
        let Accepted {
            beginning,
            asked,
            reserved,
            ..
        } = accepted;
        let started = Instant::now();
        let mut effects = CallEffects::new(Arc::clone(&self.shared), beginning);
        let done = take_back(&mut effects, plan, undoes.over_changes);
        if let Some(refusal) = effects.stopped_while_held() {
            return Ok(effects.into_still_held(refusal, started));
        }
        let left_over = effects.left_over()?;
        let mut remains = effects.into_remains();
        if let Some(fault) = remains.fault.take() {
            return Err(fault.into());
        }
        let cost = Cost {
            effects: remains.effects,
            ms: millis(started.elapsed().saturating_sub(remains.upstream)),
            upstream_ms: millis(remains.upstream),
            ..Cost::default()
        };
        if let Some(held) = remains.held.take() {
            return Ok(Answer {
                call: remains.heading.call,
                trace: remains.heading.trace,
                outcome: Outcome::Held(Box::new(held)),
                refused_effects: remains.refusals,
                checked: remains.tally.checks().to_vec(),
                edited: Vec::new(),
                cost,
                end: None,
            });
        }
        let outcome = match (done, left_over) {
            (Err(stop), _) => Outcome::Stopped(stop),
            (Ok(_), Some(divergence)) => Outcome::Stopped(divergence.stop()),
            (Ok(done), None) if done.iter().all(|(_, fate)| fate.is_undone()) => Outcome::Ok(told(plan, &done)),
            (Ok(done), None) => Outcome::ToolError(told(plan, &done)),
        };
        self.finish(remains, outcome, (asked, Some(undoes)), reserved, cost)
    }
}

/// What became of each effect of a plan.
type Done = Vec<(u32, Fate)>;

/// Takes back what can be, up to the first that is not.
fn take_back(effects: &mut CallEffects, plan: &Plan, over_changes: bool) -> Result<Done, Refusal> {
    let mut done = Vec::new();
    let mut failed = None;
    for item in &plan.items {
        let fate = match (&item.inverse, failed) {
            (Err(fate), _) => fate.clone(),
            (Ok(_), Some(first)) => Fate::Not(format!("not tried, as effect {first} was not undone")),
            (Ok(inverse), None) => {
                let undoes = Undoes {
                    call: plan.call.clone(),
                    ordinal: item.ordinal,
                };
                let inverse = Inverse {
                    wrote: inverse.wrote.clone().filter(|_| !over_changes),
                    ..inverse.clone()
                };
                let fate = fate(
                    effects.take_back(&item.connection, &inverse, &undoes)?,
                    &inverse,
                    item.ordinal,
                );
                if !ambit_core::guard!("undo.stops", fate.is_undone()) {
                    failed = Some(item.ordinal);
                }
                fate
            }
        };
        done.push((item.ordinal, fate));
    }
    Ok(done)
}

fn fate(outcome: Result<GuestResponse, GuestHttpError>, inverse: &Inverse, ordinal: u32) -> Fate {
    match outcome {
        Ok(answer) if (200..300).contains(&answer.status) => Fate::Undone,
        // Perhaps somebody did it by hand; perhaps it is hidden from this credential.
        Ok(answer) if matches!(answer.status, 404 | 410) && inverse.words.method == Method::Delete => {
            Fate::Not(format!(
                "the service answered {}: if it is gone already, leave it out with --skip {ordinal}",
                answer.status
            ))
        }
        Ok(answer) => Fate::Not(format!("the service answered {}", answer.status)),
        Err(GuestHttpError::Failed(why)) => Fate::Not(format!("in doubt: {why}")),
        Err(GuestHttpError::Refused(refusal)) => Fate::Not(refusal.message),
    }
}

/// The rollback's result: each effect, and what became of it.
fn told(plan: &Plan, done: &Done) -> Json {
    let one = |(ordinal, fate): &(u32, Fate)| {
        let item = plan.items.iter().find(|item| item.ordinal == *ordinal);
        let place = item.map(|item| format!("{}/{}", item.connection, item.route));
        let members = [
            ("effect", Json::from(*ordinal)),
            ("place", Json::from(place.as_deref())),
            ("undone", Json::from(fate.is_undone())),
            ("why", Json::from(fate.why())),
        ];
        Json::Object(members.into_iter().filter(|(_, value)| !value.is_null()).collect())
    };
    Json::Object(
        [("effects", done.iter().map(one).collect::<Json>())]
            .into_iter()
            .collect(),
    )
}

/// The request that a rollback makes: what the call was asked for, by whom, and under what its caller gave up. What is not readable any
/// more is left out: then nothing of the call can be undone either.
fn of_story(reader: &Reader, story: &CallStory) -> CallRequest {
    let record = Record::new(reader, story);
    let asked: Option<&Asked> = match &story.opening.what {
        Opening::Accepted(accepted) => Some(&accepted.asked),
        Opening::Denied(_) => None,
    };
    let denied = match &story.opening.what {
        Opening::Denied(denied) => Some(denied),
        Opening::Accepted(_) => None,
    };
    let tool = asked
        .map(|asked| &asked.tool)
        .or(denied.and_then(|denied| denied.tool.as_ref()));
    let function = asked
        .map(|asked| &asked.function)
        .or(denied.and_then(|denied| denied.function.as_ref()));
    let mode = asked.map(|asked| asked.mode).or(denied.and_then(|denied| denied.mode));
    let start: Result<Option<Start>, Unreadable> = record.read("start");
    let principal: Option<&Principal> = story.principal.as_ref();
    CallRequest {
        tool: tool.cloned().unwrap_or_default(),
        function: function.cloned().unwrap_or_default(),
        args: record.text("args").ok().flatten().unwrap_or_else(|| "{}".to_owned()),
        agent: principal.map(|principal| principal.agent.clone()).unwrap_or_default(),
        user: principal.and_then(|principal| principal.user.clone()),
        mode: mode.unwrap_or(Mode::Execute),
        // An operator's doing, and no part of the agent's session.
        run: None,
        trace: None,
        narrowing: start.ok().flatten().map(|start| start.narrowing).unwrap_or_default(),
        listener: None,
        cancel: None,
    }
}
