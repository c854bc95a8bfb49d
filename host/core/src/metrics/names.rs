//! Every metric there is: its name, what it counts, and by what. Dashboards and alerts are held to this list.
//!
//! Names are as Prometheus wants them: `ambit_`, what is counted, the unit in plain (`_seconds`, `_bytes`), and `_total` for what only
//! grows. Labels are names of the operator's configuration and words of this host: what a guest, an agent or a service says is none, and
//! neither is an id.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// It only grows, and begins anew with its process.
    Counter,
    /// How something stands now.
    Gauge,
    /// How often something took so long: the upper ends of its buckets, ascending.
    Histogram(&'static [f64]),
}

impl Kind {
    /// The word of the text formats.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// A metric.
#[derive(Debug, PartialEq)]
pub struct Metric {
    /// Its name, with its unit and, for a counter, `_total`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it is counted by.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence.
    pub help: &'static str,
}

impl Metric {
    /// The unit, which is a part of the name: `seconds`, `bytes`; none where things are counted.
    #[must_use]
    pub fn unit(&self) -> Option<&'static str> {
        let base = self.name.strip_suffix("_total").unwrap_or(self.name);
        ["seconds", "bytes"].into_iter().find(|unit| base.ends_with(unit))
    }
}

/// Upper ends for what services and calls take, in seconds.
const SERVICE: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Upper ends for what people take: a minute to three days, in seconds.
const PEOPLE: &[f64] = &[
    60.0, 300.0, 900.0, 3_600.0, 14_400.0, 28_800.0, 86_400.0, 172_800.0, 259_200.0,
];
/// Upper ends for what the disk takes, in seconds.
const DISK: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0];

macro_rules! metrics {
    ($($name:ident = $kind:expr, $text:literal, [$($label:literal),*], $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $name: Metric = Metric { name: $text, kind: $kind, labels: &[$($label),*], help: $help };
        )+

        /// All of them, in the order in which they are printed.
        pub const ALL: &[&Metric] = &[$(&$name),+];
    };
}

metrics! {
    CALLS = Kind::Counter, "ambit_calls_total", ["tool", "function", "outcome"],
        "Calls that came to an end: ok, tool-error, refused, first-write, trapped, interrupted, or denied before the guest ran.";
    CALL_SECONDS = Kind::Histogram(SERVICE), "ambit_call_duration_seconds", ["tool"],
        "Time of calls from acceptance to end, without the time that they waited for services.";
    CALL_WAITED = Kind::Histogram(SERVICE), "ambit_call_upstream_seconds", ["tool"],
        "Time that calls waited for services.";
    CALLS_PAUSED = Kind::Counter, "ambit_call_pauses_total", [],
        "Times that safe mode paused a call before a change.";
    FUEL = Kind::Counter, "ambit_fuel_total", ["tool", "function"],
        "Fuel that guests used.";
    REFUSALS = Kind::Counter, "ambit_refusals_total", ["of", "code", "rule"],
        "Refusals by code and, where a policy decided, its @id: of a call, of an effect, of a sending that was intended, or as the end of a call.";
    DECISIONS = Kind::Counter, "ambit_policy_decisions_total", ["of", "decision"],
        "What policy decided of calls and effects: permitted, denied or held. An effect that is held is decided again when it goes on.";
    EFFECTS = Kind::Counter, "ambit_effects_total", ["connection", "route", "cause", "outcome"],
        "Effects by what became of them: done (2xx), absent, declined (4xx), failed (other answers), not-sent, in-doubt, refused.";
    EFFECT_SECONDS = Kind::Histogram(SERVICE), "ambit_effect_duration_seconds", ["connection"],
        "Time from the first byte sent to the last received, or to giving up.";
    EFFECT_BYTES = Kind::Counter, "ambit_effect_bytes_total", ["connection", "direction"],
        "Bytes that were sent and received.";
    RETRIES = Kind::Counter, "ambit_effect_retries_total", ["connection", "route"],
        "Sendings after the first.";
    IN_DOUBT = Kind::Counter, "ambit_effects_in_doubt_total", ["connection", "route", "why"],
        "Effects of which nobody knew whether they happened.";
    RESOLVED = Kind::Counter, "ambit_effects_resolved_total", ["found"],
        "Effects in doubt of which an operator said what became of them.";
    CHECKS = Kind::Counter, "ambit_effect_checks_total", ["connection", "route", "shown"],
        "Changes that were read back, by what was seen. Missing and unreadable ones are unverified.";
    UNDONE = Kind::Counter, "ambit_effects_undone_total", ["connection", "route"],
        "Effects that took back another one, and were done.";
    ROLLBACKS = Kind::Counter, "ambit_rollbacks_total", ["by", "outcome"],
        "Rollbacks of calls that came to an end.";
    MONEY = Kind::Counter, "ambit_money_spent_minor_total", ["currency", "tool", "connection", "route"],
        "Money that effects spent, in minor units of the currency. What is in doubt is not in it before somebody says that it was spent.";
    BUDGET_USED = Kind::Counter, "ambit_budget_settled_total", ["budget", "unit"],
        "What was used of budgets for good, in their units.";
    OVERDRAFTS = Kind::Counter, "ambit_budget_overdrafts_total", ["budget"],
        "Effects that passed a budget's cap by approvals.";
    BUDGET_WARNINGS = Kind::Counter, "ambit_budget_warnings_total", ["budget"],
        "Windows of budgets of which so much was taken that people are told.";
    HOLDS = Kind::Counter, "ambit_holds_total", ["connection", "route"],
        "Effects that were held for people.";
    HOLD_ENDS = Kind::Counter, "ambit_hold_ends_total", ["end"],
        "Holds that ended: passed, rejected, expired, stale, denied, edited.";
    HOLD_SECONDS = Kind::Histogram(PEOPLE), "ambit_hold_duration_seconds", ["end"],
        "Time from a hold's beginning to its end.";
    VOTES = Kind::Counter, "ambit_votes_total", ["group", "verdict"],
        "Votes that were entered, by the group that was spoken for.";
    VOTES_REFUSED = Kind::Counter, "ambit_votes_refused_total", ["why"],
        "Votes that did not count.";
    HOLD_EDITS = Kind::Counter, "ambit_hold_edits_total", ["group"],
        "Held effects that people edited.";
    BREAK_GLASS = Kind::Counter, "ambit_break_glass_total", ["group"],
        "BREAK-GLASS: effects that one person let pass in place of the approvals that were missing.";
    DEAD_LETTERS = Kind::Counter, "ambit_dead_letters_total", ["connection", "route"],
        "Effects that failed for good and were kept for a person.";
    DEAD_LETTERS_DROPPED = Kind::Counter, "ambit_dead_letters_dropped_total", ["why"],
        "Dead letters that were given up.";
    BREAKER_CHANGES = Kind::Counter, "ambit_breaker_changes_total", ["connection", "route", "to"],
        "Breakers that opened, by connection or route, or were closed.";
    SERVICE_PAUSES = Kind::Counter, "ambit_service_pauses_total", ["connection"],
        "Times that a service asked to be left alone.";
    STOP_CHANGES = Kind::Counter, "ambit_stop_changes_total", ["kind", "change"],
        "Stops that operators set and lifted.";
    RUNS = Kind::Counter, "ambit_run_changes_total", ["change"],
        "Runs that were started, ended, or had too much fail.";
    REPLAYS = Kind::Counter, "ambit_replays_total", ["result"],
        "Calls that were run again and recorded (`ambit replay --record`): same, diverged, or partial, where their values were erased.";
    DIVERGENCES = Kind::Counter, "ambit_replay_divergences_total", ["part"],
        "Calls that did not do what they had done when they were run again, by what differed.";
    CALLS_ERASED = Kind::Counter, "ambit_calls_erased_total", [],
        "Calls whose values were erased.";
    ENTRIES = Kind::Counter, "ambit_ledger_entries_total", ["kind"],
        "Entries of the ledger.";
    SERIES_OVERFLOW = Kind::Counter, "ambit_metrics_overflow_total", ["metric"],
        "What was counted under `other`, because a metric had as many series as it may have.";

    WEBHOOKS = Kind::Counter, "ambit_webhook_deliveries_total", ["webhook", "outcome"],
        "Sendings of webhooks' messages by what became of them: delivered, failed, gone (410); and messages that were given up: dead.";

    LAST_ENTRY = Kind::Gauge, "ambit_ledger_last_entry_timestamp_seconds", [],
        "When the ledger's last entry was written, in seconds since 1970.";
    LEDGER_SIZE = Kind::Gauge, "ambit_ledger_size_entries", [],
        "How many entries the ledger has.";
    HOLDS_PENDING = Kind::Gauge, "ambit_holds_pending", [],
        "Effects that wait for people now.";
    OLDEST_HOLD = Kind::Gauge, "ambit_oldest_hold_timestamp_seconds", [],
        "When the effect that waits longest was held, in seconds since 1970; absent where none waits.";
    DOUBTS = Kind::Gauge, "ambit_effects_in_doubt", [],
        "Effects in doubt of which nobody has said what became of them.";
    LETTERS_WAITING = Kind::Gauge, "ambit_dead_letters_waiting", [],
        "Effects that failed for good and were neither retried nor dropped.";
    WEBHOOKS_DEAD = Kind::Gauge, "ambit_webhook_dead_letters_waiting", ["webhook"],
        "Messages that were given up and were neither sent again nor dropped, by webhook.";
    CALLS_UNENDED = Kind::Gauge, "ambit_calls_unended", [],
        "Calls that have not ended and that no hold keeps: running, paused or interrupted.";
    STOPS = Kind::Gauge, "ambit_stops_in_force", ["kind"],
        "Stops in force.";
    BREAKERS_OPEN = Kind::Gauge, "ambit_breaker_open", ["connection", "route"],
        "1 where a breaker is open, by connection or route.";
    BUDGET_CAP = Kind::Gauge, "ambit_budget_cap", ["budget", "unit"],
        "The cap of a budget with a window of the calendar or a rolling one, in its unit.";
    BUDGET_NOW = Kind::Gauge, "ambit_budget_taken", ["budget", "unit", "state"],
        "What is used and reserved of such a budget in its window now.";

    CALLS_RUNNING = Kind::Gauge, "ambit_calls_running", [],
        "Calls that run in this process.";
    CALLS_WAITING = Kind::Gauge, "ambit_calls_waiting", [],
        "Calls that wait for one of the places that there are for those that run (`concurrent_calls`, `calls_per_agent`).";
    QUEUE = Kind::Gauge, "ambit_ledger_queue_batches", [],
        "Batches that wait for the ledger's writer.";
    COMMIT_SECONDS = Kind::Histogram(DISK), "ambit_ledger_commit_duration_seconds", [],
        "Time of the ledger's transactions, from the first batch taken to the sync that makes the group durable.";
    TELEMETRY = Kind::Counter, "ambit_telemetry_items_total", ["signal", "outcome"],
        "What a collector was told: taken, refused by it, or dropped as telemetry was too far behind: entries, or what was made of them by then.";
    TELEMETRY_LOST = Kind::Counter, "ambit_telemetry_positions_lost_total", [],
        "Times that nobody knew how far a collector had everything: telemetry goes on with the ledger's end, and what was not told is not.";
    LEDGER_FAILED = Kind::Gauge, "ambit_ledger_failed", [],
        "1 once the ledger's disk has failed: nothing is done any more, and the process should end.";
    CERTIFICATE_BEGINS = Kind::Gauge, "ambit_tls_certificate_begins_timestamp_seconds", [],
        "From when on the server's own certificate is good that this process shows ([server.tls]), in seconds since 1970; absent without TLS.";
    CERTIFICATE_EXPIRES = Kind::Gauge, "ambit_tls_certificate_expires_timestamp_seconds", [],
        "Until when the server's own certificate is good that this process shows ([server.tls]), in seconds since 1970; absent without TLS.";
    STARTED = Kind::Gauge, "ambit_process_start_timestamp_seconds", [],
        "When this process opened its home, in seconds since 1970.";
    BUILD = Kind::Gauge, "ambit_build_info", ["version"],
        "1, with the version of the host.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let mut names = BTreeSet::new();
        for metric in ALL {
            let name = metric.name;
            assert!(names.insert(name), "{name} is there twice");
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.starts_with("ambit_") && name.chars().all(plain), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            for reserved in ["_count", "_sum", "_bucket", "_info"] {
                assert!(!name.ends_with(reserved) || **metric == BUILD, "{name}");
            }
            if let Kind::Histogram(ends) = metric.kind {
                assert!(name.ends_with("_seconds"), "{name}");
                assert!(ends.is_sorted(), "{name}");
            }
            let labels: BTreeSet<_> = metric.labels.iter().collect();
            assert_eq!(labels.len(), metric.labels.len(), "{name}");
            assert!(
                !labels.iter().any(|label| **label == "le" || label.starts_with("__")),
                "{name}"
            );
            assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{name}");
        }
    }
}
