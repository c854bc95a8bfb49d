//! A call's guests, where fuel is set aside for it: that one begins is durable before it runs, and how much it used once it is over.
//!
//! A call that waits and goes on is computed anew by a guest of its own each time, and the fuel of each is burnt. The call's end settles
//! the sum, up to what was set aside. Of a guest that ended with its host nobody knows what it used: then all that was set aside is.

use ambit_core::ledger::EntryDraft;
use ambit_core::ledger::body::{CallResumed, GuestEnded, Reservation, Settlement};
use ambit_core::ledger::guests::counts_fuel;
use ambit_core::money::{Period, Unit};

use crate::effects::{Beginning, Heading};
use crate::host::Host;
use crate::store::{Batch, StoreError};

/// A guest that runs.
pub(crate) struct Guest {
    heading: Heading,
    number: u32,
    counts: bool,
    /// Whether the ledger has, or will have, that it began.
    told: bool,
}

impl Host {
    /// Notes that a guest of a call runs from here on: of one that goes on, where fuel is counted or it was suspended. That of a call that begins is in its first entry.
    ///
    /// # Errors
    /// As [`Store::commit`](crate::store::Store::commit): it does not run then.
    pub(crate) fn guest_begins(&self, beginning: &Beginning, reserved: &[Reservation]) -> Result<Guest, StoreError> {
        let on = beginning.resumption.as_ref();
        let counts = reserved.iter().any(counts_fuel);
        let guest = Guest {
            heading: beginning.heading.clone(),
            number: on.map_or(1, |on| on.guest),
            counts,
            told: counts || on.is_none_or(|on| on.suspended),
        };
        if on.is_some() && guest.told {
            self.shared.store.commit(Batch {
                entries: vec![guest.heading.entry(CallResumed { guest: guest.number })],
                ..Batch::default()
            })?;
        }
        Ok(guest)
    }

    /// Notes what a guest used whose call has not ended.
    ///
    /// # Errors
    /// As [`Store::commit`](crate::store::Store::commit).
    pub(crate) fn guest_ended(&self, guest: &Guest, fuel: u64) -> Result<(), StoreError> {
        if !guest.counts {
            return Ok(());
        }
        let ended = GuestEnded {
            fuel,
            guest: guest.number,
        };
        self.shared.store.commit(Batch {
            entries: vec![guest.heading.entry(ended)],
            ..Batch::default()
        })?;
        Ok(())
    }
}

impl Guest {
    /// What says what it used, where the ledger knows of it.
    pub(crate) fn end(&self, fuel: u64) -> Option<EntryDraft> {
        let ended = GuestEnded {
            fuel,
            guest: self.number,
        };
        self.told.then(|| self.heading.entry(ended))
    }

    /// What the call's entries say of it.
    pub(crate) const fn heading(&self) -> &Heading {
        &self.heading
    }
}

/// What a call's reservation comes to: the fuel that its guests used, or the call itself, however it ended.
pub(crate) fn settled(reservation: Reservation, fuel: Option<u64>) -> Settlement {
    let unit = reservation.window.parse().ok().map(|period: Period| period.unit());
    Settlement {
        amount: match (unit, fuel) {
            (Some(Unit::Fuel), Some(fuel)) => fuel.min(reservation.amount),
            _ => reservation.amount,
        },
        budget: reservation.budget,
        window: reservation.window,
    }
}
