//! The token that an effect is sent with, where its connection has tokens asked for.
//!
//! It is asked for once everything permits the effect, right before its intent, and by an intent of the host's own. What is written down of
//! that is that it was asked, with which scopes, and the status of the answer. The token is in no entry, value or transcript: a call that
//! goes on, a replay or another process has none of it, and asks anew or needs none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_core::credential::{Granted, LARGEST_ANSWER, ROUTE};
use ambit_core::error::{Code, Refusal};
use ambit_core::grant::Admitted;
use ambit_core::ledger::body::Cause;
use ambit_core::money::Spend;
use ambit_core::scope::Tier;

use crate::gate::{Bounds, Holder, Minter, Pass, Upstream};
use crate::host::now_ms;

use super::send::Way;
use super::{CallEffects, Known, Missed};

/// How long whoever gives out tokens may take. An effect waits for it, and has its own time after that.
const PATIENCE: Duration = Duration::from_secs(10);

impl CallEffects {
    /// The token for an effect over this way out: the one that its caller has for such, or a new one. None where the way has another
    /// credential.
    ///
    /// # Errors
    /// Where there is none to be had: the effect is refused, and nothing of it was sent.
    fn token(&mut self, admitted: &Admitted, upstream: &Upstream) -> Result<Option<Arc<Pass>>, Missed> {
        let Some(minter) = upstream.minter() else {
            return Ok(None);
        };
        let holder = minter.holder(self.grant.caller(), admitted.route().scopes());
        // Looked at before it is asked for: what is revoked meanwhile makes the answer one that nobody uses again.
        let turn = self.shared.store.board().turn();
        if let Some(pass) = minter.kept(&holder, turn) {
            return Ok(Some(pass));
        }
        let asked = Instant::now();
        let granted = self.mint(upstream.name(), minter, &holder)?;
        let pass = minter
            .keep(holder, &granted, asked, turn)
            .map_err(|why| no_token(upstream.name(), &format!("its token {why}")))?;
        Ok(Some(pass))
    }

    /// [`Self::token`] for an effect of the call. For one that people approved, or that is sent again, it is apart from what the call may
    /// ask for, as whatever is looked up for such is: else a call that had used up all that it may could never go on.
    pub(super) fn token_for(
        &mut self,
        known: &Known,
        admitted: &Admitted,
        upstream: &Upstream,
    ) -> Result<Option<Arc<Pass>>, Missed> {
        if known.hold.is_some() || known.sent {
            self.going_on(|effects| effects.token(admitted, upstream))
        } else {
            self.token(admitted, upstream)
        }
    }

    /// Asks for a token, and writes down what became of that.
    fn mint(&mut self, connection: &str, minter: &Minter, holder: &Holder) -> Result<Granted, Missed> {
        let limits = self.grant.limits().answer();
        let asked = minter.asks().admitted(holder.scopes(), limits)?;
        let ordinal = self.next_ordinal()?;
        let mut known = Known::new(ordinal, Cause::Host);
        known.admitted(&asked);
        match self.send_for_token(&mut known, &asked, minter) {
            Ok((status, body)) => {
                let granted = minter.asks().granted(status, &body, holder.scopes());
                Ok(granted.map_err(|why| no_token(connection, &why))?)
            }
            Err(Missed::Refused(refusal)) => {
                self.refuse(known, &refusal)?;
                Err(Missed::Refused(refusal))
            }
            Err(Missed::Killed(refusal)) => {
                self.refuse(known, &refusal)?;
                Err(Missed::Killed(refusal))
            }
            Err(Missed::NotSent(refusal)) => Err(no_token(connection, &refusal.message).into()),
            Err(Missed::Failed(why)) => Err(no_token(connection, &why).into()),
            // What was asked has its outcome; what it was for has none yet.
            Err(Missed::Over(stop)) => Err(Missed::Killed(stop)),
            Err(other) => Err(other),
        }
    }

    /// Intent, sending, outcome, as of any effect; of the answer the status is written down, and the body is given to nobody but the host.
    fn send_for_token(
        &mut self,
        known: &mut Known,
        asked: &Admitted,
        minter: &Minter,
    ) -> Result<(u16, Vec<u8>), Missed> {
        let connection = asked.connection().name();
        let shared = Arc::clone(&self.shared);
        let endpoint = minter.endpoint();
        endpoint.ready()?;
        shared.flow.check(connection, ROUTE, Tier::Read)?;
        let pass = minter
            .said_of(self.grant.caller())
            .map_err(|why| no_token(connection, &why))?;
        let bounds = Bounds {
            time: self.bounds().time.min(PATIENCE),
            answer_bytes: LARGEST_ANSWER,
        };
        let reserved = self.reservations_over(Ok(endpoint), bounds, known, asked, Spend::None)?;
        let leave = shared.flow.enter(connection, ROUTE, Tier::Read)?;
        let (durable, reserved) = self.intend(known, asked, Spend::None, reserved)?;
        let way = Way {
            ordinal: known.ordinal,
            admitted: asked,
            upstream: endpoint,
            pass,
            own: &[],
            // Whoever gives out tokens is not the service.
            traced: None,
            answer_bytes: bounds.answer_bytes,
            deadline: Instant::now() + bounds.time,
            first_ms: u64::try_from(now_ms()).unwrap_or_default(),
        };
        let delivered = self.deliver(&shared, &way, durable, leave)?;
        let body = delivered.body();
        let answer = self.settle(known, asked, reserved, Spend::None, delivered)?;
        Ok((answer.status, body.unwrap_or_default()))
    }
}

/// That an effect has no token. It names the connection, and nothing that is shown there.
fn no_token(connection: &str, why: &str) -> Refusal {
    Refusal::new(
        Code::Credential,
        format!("no token for connection `{connection}` could be had: {why}"),
    )
    .advise("the effect was not sent; the operator's `credential` of the connection says where its tokens come from")
}
