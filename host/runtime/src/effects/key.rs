//! For how long a service knows an effect by its idempotency key: asked before one is sent again, whoever asks for that.

use ambit_core::error::{Code, Refusal};
use ambit_core::route::Route;

use crate::clock::clock;

/// Until when a service recognises what it was first sent at a time, both in milliseconds since 1970; none where its route has no key.
pub(crate) fn known_until(route: &Route, first_ms: u64) -> Option<u64> {
    route.idempotency().map(|key| key.known_until_ms(first_ms))
}

/// Whether it still does, `wait_ms` milliseconds from now.
pub(crate) fn is_known(route: &Route, first_ms: u64, wait_ms: u64) -> bool {
    let then = clock().saturating_add(wait_ms);
    route.idempotency().is_some_and(|key| key.knows(first_ms, then))
}

/// What would be sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeated {
    /// An effect in doubt.
    Doubt,
    /// A dead letter.
    Letter,
}

/// Why it is not sent: its service would take it for another one.
pub(crate) fn forgotten(connection: &str, route: &str, what: Repeated) -> Refusal {
    let advice = match what {
        Repeated::Doubt => "find out at the service whether it happened, and say so: --done or --not-done",
        Repeated::Letter => "find out whether it happened; if it did not, retry it under another key: --new-key",
    };
    let why = format!(
        "`{connection}/{route}` does not recognise the effect any more: its idempotency key is too old, or its route has none"
    );
    Refusal::new(Code::Stale, why).advise(advice)
}
