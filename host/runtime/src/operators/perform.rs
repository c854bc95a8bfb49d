//! What operators ask for, done: by the process that holds the home, whoever asked.

use std::path::Path;

use ambit_core::error::{Code, Refusal};
use ambit_core::hold::Standing;
use ambit_core::stop::Stop;

use crate::api_keys;
use crate::approvals::ApprovalError;
use crate::call::{Fault, Listener};
use crate::config::Config;
use crate::dead_letters::LetterError;
use crate::home;
use crate::host::{Host, OpenError};
use crate::rollback::RollbackError;
use crate::runs;
use crate::stops;
use crate::store::Store;

use super::{Answer, Request, Status};

/// Where an act is done.
#[derive(Clone, Copy)]
pub(super) enum Seat<'s> {
    /// On the ledger of a home, without policy or tools: a home whose files are in disorder can be stopped all the same.
    Ledger(&'s Store, &'s Path),
    /// In a host: by the configuration that it was opened with.
    Host(&'s Host),
}

impl<'s> Seat<'s> {
    fn store(self) -> &'s Store {
        match self {
            Seat::Ledger(store, _) => store,
            Seat::Host(host) => &host.shared.store,
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

/// Does what an operator asks for.
///
/// # Errors
/// As the acts themselves.
pub(super) fn perform(seat: Seat<'_>, request: Request, listener: Option<Listener>) -> Result<Answer, OpenError> {
    match request {
        request if request.takes_a_host() => in_host(seat.host()?, request, listener),
        request => on_ledger(seat, request),
    }
}

fn on_ledger(seat: Seat<'_>, request: Request) -> Result<Answer, OpenError> {
    let store = seat.store();
    Ok(match request {
        Request::Stop { kind, scope, reason } => Answer::Stop(stops::set(store, &Stop { kind, scope }, &reason)?),
        Request::Lift { kind, scope, reason } => {
            Answer::Stop(stops::lift(store, &Stop { kind, scope }, reason.as_deref())?)
        }
        Request::Status => Answer::Status(Status {
            pid: std::process::id(),
            calls: stops::runs(store),
        }),
        Request::Enrol { key } => Answer::Person(home::enrol(store, &key)?),
        Request::Revoke { name } => {
            home::revoke(store, &name)?;
            Answer::Person(name)
        }
        Request::Key { what } => Answer::Key(Box::new(api_keys::perform(store, what)?)),
        Request::Delegate { note } => {
            seat.configured(|config| home::delegated(store, config, &note))?;
            Answer::Done
        }
        Request::StartRun { run } => {
            let started = seat.configured(|config| runs::start(store, config, &run))?;
            Answer::Run(started.id().to_owned())
        }
        Request::EndRun { run } => Answer::Run(runs::end(store, &run)?.id().to_owned()),
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
        Request::Erase { why, looked_ms, found } => Answer::Erased(home::erase_found(store, why, looked_ms, &found)?),
        Request::Diverged { calls } => Answer::Written(home::diverged(store, calls)?),
        _ => {
            return Err(Refusal::new(Code::Internal, "that is no act on the ledger alone").into());
        }
    })
}

fn in_host(host: &Host, request: Request, listener: Option<Listener>) -> Result<Answer, OpenError> {
    let called = |answer| Answer::Called(Box::new(answer));
    Ok(match request {
        Request::Vote { note, reason } => {
            let (waiting, standing) = host.vote(&note, reason.as_deref())?;
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
        Request::PlanRollback { call } => Answer::Plan(Box::new(host.plan_rollback(&call)?)),
        Request::RollBack { call, over_changes } => called(host.roll_back(&call, over_changes, listener)?),
        other => return on_ledger(Seat::Host(host), other),
    })
}
