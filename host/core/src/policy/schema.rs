//! The Cedar schema that policies are validated with, generated from the configured groups.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Everything but the groups. One context type serves all four actions, so that a rule without an action constraint means the
/// same for each: what an action has no fact for is there, and empty.
const FIXED: &str = r#"// Who asks: an agent, in its team, in its tenant.
entity Tenant;
entity Team in [Tenant];
entity Agent in [Team, Tenant];

// What is called: Function::"<tool>/<function>" in Tool::"<tool>", both named in ambit.toml.
entity Tool;
entity Function in [Tool];

// What an effect uses: Route::"<connection>/<route>" in Connection::"<connection>", both named in ambit.toml.
entity Connection;
entity Route in [Connection];

// Money that an effect moves. It is always there: kind is "none" (then currency is "" and minor 0) or "known".
// Test the kind before the amount. An effect of unknown amount or currency never reaches policy: it is refused.
type Spend = {
  kind: String,
  currency: String, // three lower-case letters
  minor: Long,      // minor units: cents of usd
};

type Facts = {
  user?: String,            // the user the agent acts for
  run?: String,             // the run that the call belongs to
  mode: String,             // "suggest", "execute" or "dry-run"
  tool: String,             // the name in ambit.toml
  function: String,
  fields: Set<String>,      // of the request's body and query, spelled as in scopes: "reason", "items[].sku"
  values: Set<String>,      // their values as plain text: "reason=duplicate", "items[].sku=a1", "draft=true"
  captures: Set<String>,    // of the route's path: "id=re_1"
  recipients: Set<String>,  // whom a mail goes to
  exhausted: Set<String>,   // budgets that had no room for this effect
  spend: Spend,
  approvals: Approvals,     // read only as: context.approvals.GROUP >= N
};

action call appliesTo { principal: [Agent], resource: [Function], context: Facts };
action read, draft, commit appliesTo { principal: [Agent], resource: [Route], context: Facts };

// People who have said yes to this effect, for each group of ambit.toml.
"#;

/// The schema's text for a home with these groups.
pub(super) fn text(groups: &BTreeMap<String, usize>) -> String {
    let mut text = FIXED.to_owned();
    text.push_str("type Approvals = {\n");
    for group in groups.keys() {
        // Writing to a String does not fail. Group names were checked: they need no escaping.
        let _ = writeln!(text, "  \"{group}\": Long,");
    }
    text.push_str("};\n");
    text
}

/// Whether a group may be called so: a lower-case letter, then lower-case letters, digits, `-` and `_`, at most 64.
pub(super) fn is_group_name(name: &str) -> bool {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(rest)
}
