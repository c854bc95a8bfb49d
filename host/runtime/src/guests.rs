//! A call's guests, where fuel is set aside for it: that one begins is durable before it runs, and how much it used once it is over.
//!
//! A call that waits and goes on is computed anew by a guest of its own each time, and the fuel of each is burnt. The call's end settles
//! the sum, up to what was set aside. Of a guest that ended with its host nobody knows what it used: then all that was set aside is.

use ambit_core::ledger::Body;
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
}

impl Host {
    /// Notes that a guest of a call runs from here on: of one that goes on. That of a call that begins is in its first entry.
    ///
    /// # Errors
    /// As [`Store::commit`](crate::store::Store::commit): it does not run then.
    pub(crate) fn guest_begins(&self, beginning: &Beginning, reserved: &[Reservation]) -> Result<Guest, StoreError> {
        let guest = Guest {
            heading: beginning.heading.clone(),
            number: beginning.resumption.as_ref().map_or(1, |on| on.guest),
            counts: reserved.iter().any(counts_fuel),
        };
        if beginning.resumption.is_some() {
            self.say_of(&guest, CallResumed { guest: guest.number }.into())?;
        }
        Ok(guest)
    }

    /// Notes what a guest used whose call has not ended.
    ///
    /// # Errors
    /// As [`Store::commit`](crate::store::Store::commit).
    pub(crate) fn guest_ended(&self, guest: &Guest, fuel: u64) -> Result<(), StoreError> {
        let number = guest.number;
        self.say_of(guest, GuestEnded { fuel, guest: number }.into())
    }

    fn say_of(&self, guest: &Guest, body: Body) -> Result<(), StoreError> {
        if !guest.counts {
            return Ok(());
        }
        self.shared.store.commit(Batch {
            entries: vec![guest.heading.entry(body)],
            ..Batch::default()
        })?;
        Ok(())
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
