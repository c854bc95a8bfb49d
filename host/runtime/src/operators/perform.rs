//! What operators ask for, done: by the process that holds the home, whoever asked.

use std::path::Path;

use ambit_core::error::{Code, Refusal};
use ambit_core::hold::Standing;
use ambit_core::ledger::body::OperatorShown;
use ambit_core::ledger::body::ReloadedBy;
use ambit_core::stop::Stop;
use parking_lot::MutexGuard;

use crate::api_keys;
use crate::approvals::ApprovalError;
use crate::call::{Fault, Listener};
use crate::config::Config;
use crate::dead_letters::LetterError;
use crate::gate::Wire;
use crate::home;
use crate::host::{Host, OpenError};
use crate::rollback::RollbackError;
use crate::runs;
use crate::stops;
use crate::store::Store;
use crate::webhooks;

use super::{Answer, Request, Status};

/// Where an act is done.
#[derive(Clone, Copy)]
pub(super) enum Seat<'s> {
    /// On the ledger of a home, without policy or tools: a home whose files are in disorder can be stopped all the same.
    Ledger(&'s Store, &'s Path),
    /// In a host: by what it took last.
    Host(&'s Host),
}

impl<'s> Seat<'s> {
    fn store(self) -> &'s Store {
        match self {
            Seat::Ledger(store, _) => store,
            Seat::Host(host) => &host.shared.store,
        }
    }

    fn home(self) -> &'s Path {
        match self {
            Seat::Ledger(_, home) => home,
            Seat::Host(host) => host.shared.config.home(),
        }
    }

    /// Keeps a host from reading the home's files while one of them changes.
    fn changing(self) -> Option<MutexGuard<'s, ()>> {
        match self {
            Seat::Ledger(..) => None,
            Seat::Host(host) => Some(host.live.changing.lock()),
        }
    }

    fn host(self) -> Result<&'s Host, Refusal> {
        match self {
            Seat::Host(host) => Ok(host),
            Seat::Ledger(..) => Err(Refusal::new(Code::Internal, "that takes a host, and there is none")),
        }
    }

    /// Does something by the configuration.
    fn configured<T>(self, act: impl FnOnce(&Config) -> Result<T, OpenError>) -> Result<T, OpenError> {
        match self {
            Seat::Host(host) => act(&host.shared.config),
            Seat::Ledger(_, home) => act(&Config::load(home)?),
        }
    }
}

impl From<LetterError> for OpenError {
    fn from(error: LetterError) -> OpenError {
        match error {
            LetterError::Refused(refusal) => refusal.into(),
            LetterError::Fault(fault) => fault.into(),
        }
    }
}

impl From<RollbackError> for OpenError {
    fn from(error: RollbackError) -> OpenError {
        match error {
            RollbackError::Refused(refusal) => refusal.into(),
            RollbackError::Fault(fault) => fault.into(),
        }
    }
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> OpenError {
        ApprovalError::Fault(fault).into()
    }
}

/// Does what an operator asks for. `by` is who, where that is one over HTTP: entries say so.
///
/// # Errors
/// As the acts themselves.
pub(super) fn perform(
    seat: Seat<'_>,
    request: Request,
    by: Option<&OperatorShown>,
    listener: Option<Listener>,
) -> Result<Answer, OpenError> {
    let now = match seat {
        Seat::Host(host) => Some(host.current()),
        Seat::Ledger(..) => None,
    };
    // An act is by one reading of the home from its beginning to its end.
    let seat = now.as_ref().map_or(seat, Seat::Host);
    match request {
        request if request.takes_a_host() => in_host(seat.host()?, request, by, listener),
        request => on_ledger(seat, request, by),
    }
}

fn on_ledger(seat: Seat<'_>, request: Request, by: Option<&OperatorShown>) -> Result<Answer, OpenError> {
    let store = seat.store();
    Ok(match request {
        Request::Stop { kind, scope, reason } => Answer::Stop(stops::set(store, &Stop { kind, scope }, &reason, by)?),
        Request::Lift { kind, scope, reason } => {
            Answer::Stop(stops::lift(store, &Stop { kind, scope }, reason.as_deref(), by)?)
        }
        Request::Status => Answer::Status(Status {
            pid: std::process::id(),
            calls: stops::runs(store),
        }),
        Request::PinTool { name, digest, again } => {
            let _alone = seat.changing();
            home::pin_written(store, seat.home(), &name, &digest, again)?;
            Answer::Tool { digest }
        }
        Request::RemoveTool { name } => {
            let _alone = seat.changing();
            Answer::Tool {
                digest: home::unpin(store, seat.home(), &name)?,
            }
        }
        Request::Enrol { key } => Answer::Person(home::enrol(store, &key)?),
        Request::Revoke { name } => {
            home::revoke(store, &name)?;
            Answer::Person(name)
        }
        Request::Key { what } => Answer::Key(Box::new(api_keys::perform(store, *what)?)),
        Request::Delegate { note } => {
            seat.configured(|config| home::delegated(store, config, &note))?;
            Answer::Done
        }
        Request::StartRun { run, once } => {
            let started = seat.configured(|config| runs::start(store, config, &run, once, by))?;
            Answer::Run(started.id().to_owned())
        }
        Request::EndRun { run } => Answer::Run(runs::end(store, &run, by)?.id().to_owned()),
        Request::DropLetter { call, effect, why } => {
            home::dropped(store, &call, effect, why)?;
            Answer::Done
        }
        Request::ResetConnection { connection } => Answer::Closed(match seat {
            // Its breakers are in memory too, and stay as they are meanwhile.
            Seat::Host(host) => {
                let shared = &host.shared;
                let reset = || home::reset(store, &shared.config, &connection);
                shared.flow.reset(&connection, reset)?
            }
            Seat::Ledger(..) => seat.configured(|config| home::reset(store, config, &connection))?,
        }),
        Request::TestWebhook { webhook } => {
            let ledger = store.verifier().name();
            Answer::Tested(match seat {
                Seat::Host(host) => webhooks::test(&host.shared.config, &host.shared.wire, ledger, &webhook)?,
                Seat::Ledger(_, home) => webhooks::test(&Config::load(home)?, &Wire::default(), ledger, &webhook)?,
            })
        }
        Request::RetryMessage { message } => {
            // Whoever takes a webhook out looks, once that is done, for what was to be sent again to it: that is all there by then.
            let _alone = seat.changing();
            let retry = |config: &Config| webhooks::retry(store, config, &message, by);
            Answer::Message(match seat {
                Seat::Host(host) => retry(&host.current().shared.config)?,
                Seat::Ledger(..) => seat.configured(retry)?,
            })
        }
        Request::DropMessage { message } => {
            // Of a message that is had sent again meanwhile there is nothing to drop.
            let _alone = seat.changing();
            Answer::Message(webhooks::give_up(store, &message, by)?)
        }
        Request::Erase { why, looked_ms, found } => Answer::Erased(home::erase_found(store, why, looked_ms, &found)?),
        Request::Diverged { calls } => Answer::Written(home::diverged(store, calls)?),
        Request::Replayed { replayed } => Answer::Written(home::replayed(store, replayed)?),
        Request::Refused { refused } => Answer::Written(home::act_refused(store, refused)?),
        _ => {
            return Err(Refusal::new(Code::Internal, "that is no act on the ledger alone").into());
        }
    })
}

fn in_host(
    host: &Host,
    request: Request,
    by: Option<&OperatorShown>,
    listener: Option<Listener>,
) -> Result<Answer, OpenError> {
    let called = |answer| Answer::Called(Box::new(answer));
    Ok(match request {
        Request::Reload => Answer::Reloaded(Box::new(host.reload(ReloadedBy::Operator)?)),
        Request::Vote { note, reason } => {
            let (waiting, standing) = host.vote_by(&note, reason.as_deref(), by)?;
            Answer::Voted {
                call: waiting.pending.call,
                missing: match standing {
                    Standing::Waiting(missing) => Some(missing),
                    _ => None,
                },
            }
        }
        Request::Edit { note, changes, reason } => Answer::Edited {
            call: host.edit(&note, &changes, reason.as_deref())?.pending.call,
        },
        Request::Resume { call } => called(host.resume(&call, listener)?),
        Request::Unended => {
            let unended = host.unended()?.into_iter();
            Answer::Calls(unended.map(|unended| unended.story.call).collect())
        }
        Request::EndCall { call } => {
            host.end(&call)?;
            Answer::Done
        }
        Request::Resolve {
            call,
            effect,
            found,
            reason,
        } => Answer::Resolved {
            effect: host.settle_doubt(&call, effect, found, reason.as_deref())?,
        },
        Request::RetryDoubt { call, effect } => called(host.retry_doubt(&call, effect, listener)?),
        Request::RetryLetter { call, effect, new_key } => called(host.retry_dead_letter(&call, effect, new_key)?),
        Request::PlanRollback { call, options } => Answer::Plan(Box::new(host.plan_rollback(&call, &options)?)),
        Request::RollBack { call, options } => called(host.roll_back(&call, &options, listener)?),
        other => return on_ledger(Seat::Host(host), other, by),
    })
}
