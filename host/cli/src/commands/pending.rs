//! Effects that did not happen yet, told in full on standard error: what waits, what a dry run ended at, what people changed.

use ambit_core::ledger::body::Amount;
use ambit_core::ledger::utc;
use ambit_runtime::approvals::told;
use ambit_runtime::call::{Edited, FirstWrite, Held, Paused, Shown, Would};

use crate::output::{note, style, untrusted};

/// What waits, for whom, until when, and what to do about it.
pub(super) fn waits(held: &Held) {
    let over = match held.over.as_slice() {
        [] => String::new(),
        over => format!(", passes the cap of {}", untrusted(&over.join(", "))),
    };
    let waits = match held.missing.as_slice() {
        [] => "is approved, and waits on".to_owned(),
        missing => format!("waits for approvals: {}", untrusted(&told(missing))),
    };
    note(format!(
        "{}held{}: effect {}, {} {}/{}{}{over}, {waits}",
        style::WARN.render(),
        style::WARN.render_reset(),
        held.ordinal,
        held.tier,
        untrusted(&held.connection),
        untrusted(&held.route),
        money(held.spend.as_ref()),
    ));
    if let Some(request) = &held.request {
        sends(request);
    }
    if !held.rules.is_empty() {
        note(format!("  Denied for now by {}.", untrusted(&held.rules.join(", "))));
    }
    if let Some(changed) = &held.edited {
        edited(changed);
    }
    let id: String = held.hold.to_hex().chars().take(12).collect();
    let until = utc(i64::try_from(held.expires_ms).unwrap_or(i64::MAX));
    note(format!(
        "  Until {until}: `ambit approvals show {id}`, then `approve`, `reject` or `edit`."
    ));
}

/// What a dry run ended at, and what would become of it.
pub(super) fn first_write(first: &FirstWrite) {
    note(format!(
        "{}dry run{}: ended at its first {}, effect {}, {}/{}{}; nothing was sent",
        style::WARN.render(),
        style::WARN.render_reset(),
        first.tier,
        first.ordinal,
        untrusted(&first.connection),
        untrusted(&first.route),
        money(first.spend.as_ref()),
    ));
    sends(&first.request);
    let would = match &first.policy {
        Would::BePermitted { rules } => format!("be permitted, by {}", rules.join(", ")),
        Would::BeHeld { needs, over, rules } => {
            let by = match (rules.as_slice(), over.as_slice()) {
                ([], over) => format!("; it passes the cap of {}", over.join(", ")),
                (rules, []) => format!("; denied until then by {}", rules.join(", ")),
                (rules, over) => format!(
                    "; denied until then by {}, and it passes the cap of {}",
                    rules.join(", "),
                    over.join(", ")
                ),
            };
            format!("wait for approvals: {}{by}", told(needs))
        }
        Would::BeDenied { refusal } => {
            let rule = refusal.rule.as_deref().map(|rule| format!(", rule {rule}"));
            format!(
                "be denied ({}{}): {}",
                refusal.code,
                rule.unwrap_or_default(),
                refusal.message
            )
        }
    };
    note(format!(
        "  In earnest it would {}.",
        untrusted(would.trim_end_matches('.'))
    ));
}

/// What a call is paused by, and what to do about it.
pub(super) fn paused(call: &str, paused: &Paused) {
    note(format!(
        "{}paused{} by {}: {}",
        style::WARN.render(),
        style::WARN.render_reset(),
        paused.stop,
        untrusted(&paused.refusal.message)
    ));
    note(format!(
        "  Nothing was sent, and nothing is lost: `ambit calls resume {call}` goes on once that is lifted."
    ));
}

/// What people changed about an effect of the caller's.
pub(super) fn edited(edited: &Edited) {
    note(format!(
        "  Effect {} was edited by {}: {}.",
        edited.ordinal,
        untrusted(&edited.by.join(", ")),
        untrusted(&edited.fields.join(", "))
    ));
}

fn sends(request: &Shown) {
    note(format!("  {} {}", request.method, untrusted(&request.url)));
    let fields = request.fields.as_object();
    for (name, value) in fields.into_iter().flat_map(|fields| fields.iter()) {
        note(format!(
            "    {} = {}",
            untrusted(name),
            untrusted(&value.to_canonical())
        ));
    }
}

fn money(spend: Option<&Amount>) -> String {
    spend.map_or_else(String::new, |spend| {
        format!(", {} {} (minor units)", spend.minor, spend.currency)
    })
}
