//! What a caller is shown of an effect that did not happen yet: its own request in full, and nothing that the host adds to it.

use ambit_core::effect::{GuestRequest, HttpRequest};
use ambit_core::error::{Code, Refusal};
use ambit_core::grant::Admitted;
use ambit_core::hold::{Changes, Need};
use ambit_core::json::Json;
use ambit_core::ledger::body::Amount;
use ambit_core::money::Spend;
use ambit_core::policy::Mode;
use ambit_core::scope::Tier;
use serde::{Deserialize, Serialize};

use crate::store::StoreError;

use super::budget::Asks;
use super::{CallEffects, Known, Missed, Through, amount, effect_digest};

/// A request as it would be sent, below the connection's base, which may hold a secret, and without what the gate adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The method.
    pub method: String,
    /// Origin, path below the connection's base, and query.
    pub url: String,
    /// The members of the body; an object without any, where there is none.
    pub fields: Json,
}

impl Shown {
    /// Of a request that was checked.
    #[must_use]
    pub fn of(request: &HttpRequest) -> Self {
        Self {
            method: request.method().as_str().to_owned(),
            url: format!("{}{}", request.origin(), request.path_and_query()),
            fields: request.fields().clone(),
        }
    }
}

/// The first effect of a dry run that would have changed something: the call ended there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstWrite {
    /// Which of the call's effects.
    pub ordinal: u32,
    /// The connection's name.
    pub connection: String,
    /// The route's name.
    pub route: String,
    /// The route's tier.
    pub tier: Tier,
    /// The money it would move.
    pub spend: Option<Amount>,
    /// What would be sent.
    pub request: Shown,
    /// What policy says of it.
    pub policy: Would,
    /// How the call ended.
    pub refusal: Refusal,
}

/// What would become of an effect in a call that is no dry run, by policy and budgets as they are. It promises nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "would", rename_all = "kebab-case")]
pub enum Would {
    /// It would be sent.
    BePermitted {
        /// The `@id`s of the policies that permit it.
        rules: Vec<String>,
    },
    /// It would wait for people.
    BeHeld {
        /// The smallest sets of approvals that would permit it: any of them.
        needs: Vec<Need>,
        /// The budgets whose caps these would let it pass.
        over: Vec<String>,
        /// The `@id`s of the policies that deny it without them.
        rules: Vec<String>,
    },
    /// It would be refused.
    BeDenied {
        /// Why.
        refusal: Refusal,
    },
}

impl CallEffects {
    /// Whether an effect is one that a dry run ends at.
    pub(super) fn ends_dry_run(&self, tier: Tier) -> bool {
        let dry = self.mode == Mode::DryRun;
        !ambit_core::guard!("policy.dry-run", !dry || tier == Tier::Read)
    }

    /// Ends a dry run at the first effect that would change something, and says all about that.
    pub(super) fn first_write(&mut self, known: &mut Known, admitted: &Admitted) -> Result<Refusal, Missed> {
        let spend = self.spend(admitted)?;
        known.spend = amount(spend);
        known.effect = known.asked.map(|asked| effect_digest(admitted, spend, &asked));
        let policy = self.would(admitted, spend, known)?;
        let tier = admitted.tier();
        let (connection, route) = (admitted.connection().name(), admitted.route().name());
        let why = format!(
            "the call is a dry run, and ends at its first {tier}: effect {}, through {connection}/{route}. Nothing was sent",
            known.ordinal
        );
        let refusal = Refusal::new(Code::DryRun, why).advise("call again in mode execute to have it done");
        self.first_write = Some(FirstWrite {
            ordinal: known.ordinal,
            connection: connection.to_owned(),
            route: route.to_owned(),
            tier,
            spend: known.spend,
            request: Shown::of(admitted.request()),
            policy,
            refusal: refusal.clone(),
        });
        Ok(refusal)
    }

    /// What would become of it in the mode of the call's run, or else in mode execute.
    fn would(&mut self, admitted: &Admitted, spend: Spend, known: &Known) -> Result<Would, StoreError> {
        let run = match &self.heading.run {
            Some(id) => self.shared.store.reader()?.run(id)?,
            None => None,
        };
        let mode = run.map_or(Mode::Execute, |run| run.started.mode);
        let asked_in = std::mem::replace(&mut self.mode, if mode == Mode::DryRun { Mode::Execute } else { mode });
        let would = self.would_now(admitted, spend, known);
        self.mode = asked_in;
        would
    }

    fn would_now(&self, admitted: &Admitted, spend: Spend, known: &Known) -> Result<Would, StoreError> {
        // Of its own: what a dry run is told was decided about nothing.
        let mut known = Known {
            import: known.import.clone(),
            ..Known::new(known.ordinal, known.cause)
        };
        let decided = self.decide(admitted, spend, &[], &mut known);
        let ways = match &decided {
            Ok(()) => vec![Need::new()],
            Err(refusal) => self.approvals_that_permit(admitted, spend, &[], &known, refusal),
        };
        let Asks { needs, over } = self.asks_too(admitted, spend, &known, ways)?;
        Ok(match decided {
            Ok(()) if over.is_empty() => Would::BePermitted { rules: known.rules },
            Err(refusal) if needs.is_empty() => Would::BeDenied { refusal },
            decided => Would::BeHeld {
                needs,
                over,
                rules: if decided.is_ok() { Vec::new() } else { known.rules },
            },
        })
    }

    /// What is shown of an effect that waits on: as it would be sent, if it can be had at all.
    pub(super) fn shown(&self, import: Through<'_>, guest: &GuestRequest) -> Option<Shown> {
        let admitted = self.admit(import, guest).ok()?;
        Some(Shown::of(admitted.request()))
    }
}

/// The guest's request with what people changed about it.
pub(super) fn changed(guest: &GuestRequest, changes: Option<&Changes>) -> Result<GuestRequest, Refusal> {
    changes.map_or_else(|| Ok(guest.clone()), |changes| changes.apply(guest))
}
