//! How much one call may use.

use serde::{Deserialize, Serialize};

use crate::effect::WireLimits;
use crate::error::{Code, Refusal};
use crate::guard;
use crate::json;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const HOUR_MS: u64 = 3_600_000;

/// The largest request or response body that any configuration can allow.
pub const LARGEST_BODY: u64 = 8 * MIB;

/// What one call may use. Every one of them is enforced, ends that call alone, and is in its receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Units of wasmtime's fuel. The default is about 86 ms of a tight loop.
    pub fuel: u64,
    /// Linear memory and tables of the instance, in bytes.
    pub memory_bytes: u64,
    /// From the start of the guest to its end, waiting for services not counted, in milliseconds.
    pub wall_ms: u64,
    /// Waiting for a service, for each effect, in milliseconds.
    pub upstream_ms: u64,
    /// The guest's stack, in bytes.
    pub stack_bytes: u64,
    /// The call's arguments as JSON text, in bytes.
    pub args_bytes: u64,
    /// The call's result as JSON text, in bytes.
    pub result_bytes: u64,
    /// What the guest logs and prints, all together, in bytes.
    pub log_bytes: u64,
    /// A request's body, in bytes; at most [`LARGEST_BODY`].
    pub request_body_bytes: u64,
    /// A response's body, in bytes; at most [`LARGEST_BODY`].
    pub response_body_bytes: u64,
    /// Effects the call asks for, refused ones included.
    pub effects: u32,
    /// Nesting of arguments, results and bodies.
    pub json_depth: u32,
    /// Calls that the host runs at once: one more waits for a place.
    pub concurrent_calls: u32,
    /// How long an effect waits for approvals, in milliseconds.
    pub hold_ms: u64,
    /// Effects of one agent that wait for approvals at a time, all its calls together: the next one is refused.
    pub open_holds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            fuel: 1_000_000_000,
            memory_bytes: 64 * MIB,
            wall_ms: 30_000,
            upstream_ms: 30_000,
            stack_bytes: 512 * KIB,
            args_bytes: MIB,
            result_bytes: MIB,
            log_bytes: 64 * KIB,
            request_body_bytes: MIB,
            response_body_bytes: MIB,
            effects: 64,
            json_depth: 64,
            concurrent_calls: 64,
            hold_ms: 72 * HOUR_MS,
            open_holds: 1_000,
        }
    }
}

impl Limits {
    /// What a request of the call may be on the wire.
    #[must_use]
    pub fn wire(&self) -> WireLimits {
        WireLimits {
            body_bytes: size(self.request_body_bytes),
            json_depth: size(self.json_depth.into()),
            ..WireLimits::default()
        }
    }

    /// The limits of an answer that is JSON.
    pub fn answer(&self) -> json::Limits {
        json::Limits {
            depth: size(self.json_depth.into()),
            bytes: size(self.response_body_bytes),
        }
    }

    /// Checks what a configuration says.
    ///
    /// # Errors
    /// [`Code::Config`]: a body above [`LARGEST_BODY`].
    pub fn check(&self) -> Result<(), Refusal> {
        for (name, bytes) in [
            ("request_body_bytes", self.request_body_bytes),
            ("response_body_bytes", self.response_body_bytes),
        ] {
            if !guard!("config.largest-body", bytes <= LARGEST_BODY) {
                let message = format!("`{name}` is {bytes}, and bodies are held in memory");
                return Err(Refusal::new(Code::Config, message).advise(format!("use at most {LARGEST_BODY} (8 MiB)")));
            }
        }
        Ok(())
    }
}

fn size(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn limits_read_with_defaults_and_no_unknown_names() {
        let limits: Limits = serde_json::from_str(r#"{"effects": 3}"#).unwrap();
        assert_eq!(
            limits,
            Limits {
                effects: 3,
                ..Limits::default()
            }
        );
        assert!(serde_json::from_str::<Limits>(r#"{"effect": 3}"#).is_err());
        assert_eq!(
            serde_json::from_str::<Limits>(&serde_json::to_string(&limits).unwrap()).unwrap(),
            limits
        );
    }

    #[test]
    fn bodies_are_at_most_8_mib() {
        let check = |request_body_bytes, response_body_bytes| {
            Limits {
                request_body_bytes,
                response_body_bytes,
                ..Limits::default()
            }
            .check()
            .map_err(|r| r.code)
        };
        assert_eq!(check(LARGEST_BODY, LARGEST_BODY), Ok(()));
        assert_eq!(check(LARGEST_BODY + 1, 0), Err(Code::Config));
        assert_eq!(check(0, LARGEST_BODY + 1), Err(Code::Config));
    }
}
