//! Room in budgets: what an effect reserves, and whose approvals let it pass a cap.

use ambit_core::error::{Code, Refusal};
use ambit_core::grant::{Admitted, is_of_token};
use ambit_core::hold::{self, Need, Standing};
use ambit_core::ledger::body::{Cause, Reservation};
use ambit_core::money::{Budget, Over, Spend, Unit};
use ambit_core::run;
use ambit_core::trace::TRACEPARENT;

use crate::budgets::{Budgets, window_at};
use crate::clock::now_ms;
use crate::gate::{Bounds, Upstream};
use crate::store::{Durable, StoreError};

use super::hold::not_approved;
use super::send::{borrowed, open_upstream};
use super::{CallEffects, Known, Missed, stopped};

impl CallEffects {
    /// What policy asks for, with what budgets ask for that have no room now: whoever approves is told all of it. A budget that nobody may
    /// pass asks for nothing; it may have room by then.
    pub(super) fn asks_too(
        &self,
        admitted: &Admitted,
        spend: Spend,
        known: &Known,
        ways: Vec<Need>,
    ) -> Result<Asks, StoreError> {
        let reserved = self.reservations(known, admitted, spend).unwrap_or_default();
        let mut over = self.without_room(&reserved)?;
        over.retain(|name| self.over_of(name).is_some());
        let also = self.asked_for(&over).unwrap_or_default();
        let needs = hold::combined(&ways, &also);
        Ok(Asks { needs, over })
    }

    /// The configured budgets, and those that came with the run and with the caller's token.
    pub(super) fn budgets(&self) -> impl Iterator<Item = &Budget> {
        self.shared.config.budgets().iter().chain(&self.run_budgets)
    }

    /// Whose approvals let an effect pass the cap of the budget of this name.
    pub(super) fn over_of(&self, name: &str) -> Option<&Over> {
        self.budgets().find(|budget| budget.name == name)?.over.as_ref()
    }

    /// The approvals that let an effect pass the caps of all these; none where one of them is nobody's to pass.
    pub(super) fn asked_for(&self, budgets: &[String]) -> Option<Need> {
        let mut need = Need::new();
        for name in budgets {
            let over = self.over_of(name)?;
            let most = need.entry(over.ask.clone()).or_default();
            *most = (*most).max(over.count);
        }
        Some(need)
    }

    /// The names of the budgets that have no room now for what would be reserved. It promises nothing: the transaction of the intent
    /// decides.
    pub(super) fn without_room(&self, reserved: &[Reservation]) -> Result<Vec<String>, StoreError> {
        if reserved.is_empty() {
            return Ok(Vec::new());
        }
        let configured: Vec<Budget> = self.budgets().cloned().collect();
        let clock_ms = now_ms();
        let windows = |time_ms| reserved.iter().map(|one| window_at(one, time_ms)).collect();
        let (call, run) = (self.heading.call.as_str(), self.heading.run.as_deref());
        let accounts = self.shared.store.reader()?.accounts_in(windows, clock_ms, call, run)?;
        let budgets = Budgets::new(&configured, &accounts, clock_ms);
        let lacks = reserved.iter().filter(|one| !budgets.have_room(one));
        let mut names: Vec<String> = lacks.map(|one| one.budget.clone()).collect();
        names.sort();
        Ok(names)
    }

    /// Commits the intent. A budget without room is one more fact: policy decides once more, and what it then permits passes the cap
    /// only by approvals that are for it.
    pub(super) fn intend(
        &mut self,
        known: &mut Known,
        admitted: &Admitted,
        spend: Spend,
        mut reserved: Vec<Reservation>,
    ) -> Result<(Durable, Vec<Reservation>), Missed> {
        // Each turn lets one more of the reservations pass its cap.
        loop {
            let error = match self.commit_intent(known, admitted, spend, &reserved) {
                Ok(durable) => return Ok(durable),
                Err(error) => error,
            };
            match error {
                StoreError::Budget { ref name, .. } => {
                    let name = name.clone();
                    self.over_budget((&name, &error), admitted, spend, known, &mut reserved)?;
                }
                StoreError::Run { run, why } => return Err(why.refusal(&run).into()),
                StoreError::Stopped(stop) => return Err(stopped(stop.refusal())),
                // By the entry's time, which nobody could know before: the hold ends by that, and the ledger goes on.
                StoreError::HoldExpired => return Err(not_approved(&Standing::Expired).into()),
                StoreError::NoRoom { .. } => {
                    return Err(Refusal::new(Code::Ledger, "the ledger has no room for another effect")
                        .advise("free disk space, or raise the ledger's quota")
                        .into());
                }
                error => return Err(error.into()),
            }
        }
    }

    /// A budget has no room. Where the effect's approvals are for that, its reservation may pass the cap: `Ok`. Else it waits for those who
    /// may say so, where the budget names them and policy permits it or asks for people too; or it is refused.
    pub(super) fn over_budget(
        &mut self,
        (name, error): (&str, &StoreError),
        admitted: &Admitted,
        spend: Spend,
        known: &mut Known,
        reserved: &mut [Reservation],
    ) -> Result<(), Missed> {
        let mut exhausted = self.without_room(reserved)?;
        if !exhausted.iter().any(|one| one == name) {
            exhausted.push(name.to_owned());
        }
        known.exhausted.clone_from(&exhausted);
        let full = no_room(name, error);
        if known.cause == Cause::Host {
            // No policy decides what the host asks for itself.
            return Err(full.into());
        }
        let decided = self.decide(admitted, spend, &exhausted, known);
        let one = reserved.iter_mut().find(|one| one.budget == name && one.over.is_none());
        if let (Ok(()), Some(hold), Some(one)) = (&decided, known.hold, one)
            && ambit_core::guard!("budget.over-approved", self.is_passed(name, known))
        {
            one.over = Some(hold);
            return Ok(());
        }
        let ways = match &decided {
            Ok(()) => vec![Need::new()],
            Err(refusal) => self.approvals_that_permit(admitted, spend, &exhausted, known, refusal),
        };
        let waits = self.can_wait(known) && !ways.is_empty();
        if let (true, Some(also)) = (waits, self.asked_for(&exhausted)) {
            if decided.is_ok() {
                // What permits it does not deny it.
                known.rules.clear();
            }
            let needs = hold::combined(&ways, &also);
            let asks = Asks { needs, over: exhausted };
            return Err(self.hold(known, admitted, spend, asks)?);
        }
        // What was approved was permitted a moment ago, and is again once there is room: its approvals are not used up.
        if known.hold.is_none() {
            decided?;
        }
        Err(full.into())
    }

    /// Whether the effect's approvals let it pass the cap: its hold said so, and enough of those whom the budget asks said yes.
    pub(super) fn is_passed(&self, name: &str, known: &Known) -> bool {
        let given = |group: &str| known.given.get(group).copied().unwrap_or_default();
        let enough = self.over_of(name).is_some_and(|over| given(&over.ask) >= over.count);
        enough && known.over.iter().any(|one| one == name)
    }

    /// What every budget that matches sets aside for the effect: of bytes, the most that can go.
    pub(super) fn reservations(
        &self,
        known: &Known,
        admitted: &Admitted,
        spend: Spend,
    ) -> Result<Vec<Reservation>, Refusal> {
        let upstream = open_upstream(&self.shared, admitted.connection().name());
        self.reservations_over(upstream, self.bounds(), known, admitted, spend)
    }

    /// The same of a request over another way than its connection's own.
    pub(super) fn reservations_over(
        &self,
        upstream: Result<&Upstream, Refusal>,
        bounds: Bounds,
        known: &Known,
        admitted: &Admitted,
        spend: Spend,
    ) -> Result<Vec<Reservation>, Refusal> {
        let route = Some((admitted.connection().name(), admitted.route().name()));
        let (call, run) = (self.heading.call.as_str(), self.heading.run.as_deref());
        let used = self.grant.used(call, run, route);
        let counted = |budget: &Budget| budget.unit == Unit::Bytes && budget.covers.covers(&used);
        let bytes = if self.budgets().any(counted) {
            let (upstream, mut own) = (upstream?, self.own_headers(known, admitted));
            // Of whichever sending: it is as long as any other.
            own.extend(
                self.traced(upstream)
                    .map(|traced| (TRACEPARENT.to_owned(), traced.of(known.ordinal, 0))),
            );
            let once = upstream.most_bytes(admitted.request(), &borrowed(&own), bounds.answer_bytes)?;
            let retries = admitted.route().retries().map_or(0, |retries| retries.most);
            once.saturating_mul(u64::from(retries) + 1)
        } else {
            0
        };
        let reserved = self.budgets().filter_map(|budget| {
            Some(Reservation {
                amount: budget.of_effect(&used, &spend, bytes)?,
                budget: budget.name.clone(),
                cap: budget.cap,
                over: None,
                warn: budget.warn,
                window: budget.period(&used).to_string(),
            })
        });
        Ok(reserved.collect())
    }
}

/// What a held effect waits for.
pub(super) struct Asks {
    /// The ways to its approval.
    pub(super) needs: Vec<Need>,
    /// The budgets whose caps that lets it pass.
    pub(super) over: Vec<String>,
}

/// That a budget has no room, and what to do: a run's own limit stays as it is for as long as the run does.
pub(crate) fn no_room(name: &str, error: &StoreError) -> Refusal {
    let advice = if run::is_own(name) {
        "a run's limit stays: the operator starts another run".to_owned()
    } else if is_of_token(name) {
        "the money of the caller's token is used up: whoever narrowed it so can give out another".to_owned()
    } else {
        format!("wait until budget `{name}` has room again, or ask the operator to raise its cap")
    };
    Refusal::new(Code::Budget, error.to_string()).advise(advice)
}
