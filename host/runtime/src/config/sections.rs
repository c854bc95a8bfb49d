//! The sections that are neither connections nor budgets: tools, agents, groups, approvals, ledger, policy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use ambit_core::error::printable;
use ambit_core::grant::Limits;
use ambit_core::guard;
use ambit_core::identity::AgentSpec;

use super::reader::{Located, Table, nearest};
use super::{Connected, ToolConfig, check_name, limits};

/// What is said of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerConfig {
    /// A file outside the home that keeps the newest checkpoint.
    pub high_water: Option<PathBuf>,
    /// Most bytes of the ledger.
    pub quota: Option<u64>,
    /// Bytes that new work must leave free.
    pub reserve: Option<u64>,
}

/// `[tool.*]`
pub(super) fn tools(
    root: &Table<'_>,
    base: &Limits,
    connections: &BTreeMap<String, Connected>,
) -> BTreeMap<String, ToolConfig> {
    let tools = root.named("tool", "tool").into_iter().map(|(name, table)| {
        check_name(table.source(), &name, "tool");
        let bind = table
            .table("bind", format!("the bindings of {}", table.what()))
            .map(|bind| bindings(bind, connections))
            .unwrap_or_default();
        let own = table.table("limits", format!("the limits of {}", table.what()));
        let limits = limits::of(own, base);
        table.done();
        (name.value, ToolConfig { bind, limits })
    });
    tools.collect()
}

fn bindings(table: Table<'_>, connections: &BTreeMap<String, Connected>) -> BTreeMap<String, String> {
    let strings = table.all_strings();
    for (label, (_, connection)) in &strings {
        if guard!("config.binding", connections.contains_key(&connection.value)) {
            continue;
        }
        let message = format!(
            "`{}` of {} is bound to connection `{}`, and there is none",
            printable(label),
            table.what(),
            printable(&connection.value)
        );
        unknown(&table, connection, message, "connection", connections.keys());
    }
    strings
        .into_iter()
        .map(|(label, (_, connection))| (label, connection.value))
        .collect()
}

/// Reports a name that stands for nothing, with what it may have been meant to be.
pub(super) fn unknown<'n>(
    table: &Table<'_>,
    name: &Located<String>,
    message: String,
    kind: &str,
    known: impl Iterator<Item = &'n String>,
) {
    let help = match nearest(&name.value, known.map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("add a {kind} of this name, or name another"),
    };
    let label = format!("no such {kind}");
    table.source().problem(name.span.clone(), message, &label, Some(help));
}

/// `[agent.*]`
pub(super) fn agents(root: &Table<'_>) -> BTreeMap<String, AgentSpec> {
    let mut tenants: BTreeMap<String, String> = BTreeMap::new();
    let agents = root.named("agent", "agent").into_iter().filter_map(|(name, table)| {
        check_name(table.source(), &name, "agent");
        let team = table.string("team");
        let tenant = table.string("tenant");
        let users = names(&table, "users", "user");
        for (key, there) in [("team", team.is_some()), ("tenant", tenant.is_some())] {
            if !there {
                table.missing(key, "an agent works in a team of a tenant");
            }
        }
        if let (Some(team), Some(tenant)) = (&team, &tenant) {
            check_name(table.source(), team, "team");
            check_name(table.source(), tenant, "tenant");
            let of = tenants
                .entry(team.value.clone())
                .or_insert_with(|| tenant.value.clone());
            if *of != tenant.value {
                let message = format!("team `{}` is in two tenants, `{of}` and `{}`", team.value, tenant.value);
                let help = "a rule for the team would reach into both: give the teams different names".to_owned();
                table
                    .source()
                    .problem(tenant.span.clone(), message, "another tenant", Some(help));
            }
        }
        table.done();
        let spec = AgentSpec {
            team: team?.value,
            tenant: tenant?.value,
            users: users.into_iter().collect(),
        };
        Some((name.value, spec))
    });
    agents.collect()
}

/// `[group.*]`
pub(super) fn groups(root: &Table<'_>) -> BTreeMap<String, Vec<String>> {
    let groups = root.named("group", "group").into_iter().map(|(name, table)| {
        check_name(table.source(), &name, "group");
        table.missing("members", "name the people: members = [\"ada\", \"grace\"]");
        let members = names(&table, "members", "person");
        table.done();
        (name.value, members)
    });
    groups.collect()
}

/// `[approvals]`: the group that may break the glass.
pub(super) fn break_glass(root: &Table<'_>, groups: &BTreeMap<String, Vec<String>>) -> Option<String> {
    let table = root.table("approvals", "the settings of approvals")?;
    let group = table.string("break_glass");
    if let Some(group) = &group
        && !guard!("config.break-glass", groups.contains_key(&group.value))
    {
        let message = format!(
            "group `{}` is to break the glass, and there is none",
            printable(&group.value)
        );
        unknown(&table, group, message, "group", groups.keys());
    }
    table.done();
    group.map(|group| group.value)
}

/// An array of names, each once: a person counts once.
fn names(table: &Table<'_>, key: &str, kind: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    for name in table.strings(key).unwrap_or_default() {
        let usable = !name.value.is_empty() && name.value.len() <= 128 && !name.value.chars().any(char::is_control);
        if !usable {
            let message = format!("`{}` cannot be the name of a {kind}", printable(&name.value));
            let label = "1 to 128 bytes without control characters";
            table.source().problem(name.span, message, label, None);
        } else if !seen.insert(name.value.clone()) {
            let message = format!("`{}` is twice in `{key}` of {}", printable(&name.value), table.what());
            table.source().problem(name.span, message, "again", None);
        }
    }
    seen.into_iter().collect()
}

/// `[ledger]`
pub(super) fn ledger(root: &Table<'_>, home: &Path) -> LedgerConfig {
    let Some(table) = root.table("ledger", "the ledger's settings") else {
        return LedgerConfig::default();
    };
    let high_water = table.string("high_water");
    let quota = table.number("quota").map(|bytes| bytes.value);
    let reserve = table.number("reserve").map(|bytes| bytes.value);
    let path = high_water.map(|text| (home.join(&text.value), text.span));
    if let Some((path, span)) = &path
        && !guard!("config.high-water", !plain(path).starts_with(plain(home)))
    {
        let help = "whoever restores an old home would restore it too: name a file elsewhere".to_owned();
        let message = "the high-water file is inside the home";
        table
            .source()
            .problem(span.clone(), message, "protects nothing there", Some(help));
    }
    table.done();
    LedgerConfig {
        high_water: path.map(|(path, _)| path),
        quota,
        reserve,
    }
}

/// `[retention]`: after how many days the values of calls may be erased.
pub(super) fn retention(root: &Table<'_>) -> Option<u32> {
    let table = root.table("retention", "the retention")?;
    let age = table.string("values");
    table.missing(
        "values",
        "after how many days the values of calls may go: values = \"90d\"",
    );
    let age = age.and_then(|text| match days(&text.value) {
        Ok(days) => Some(days),
        Err(why) => {
            let message = "`values` of the retention is not an age";
            table.source().problem(text.span, message, "not an age", Some(why));
            None
        }
    });
    table.done();
    age
}

/// An age as operators write it, whole days such as `90d`: how many days it is.
///
/// # Errors
/// What an age is.
pub fn days(text: &str) -> Result<u32, String> {
    /// A hundred years. An age of none would be everything.
    const MOST: u32 = 36_500;
    let days = text
        .strip_suffix('d')
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let days = days.and_then(|digits| digits.parse().ok()).unwrap_or_default();
    if !guard!("config.retention", (1..=MOST).contains(&days)) {
        return Err(format!("an age is a number of days from 1d to {MOST}d, such as 90d"));
    }
    Ok(days)
}

/// The path from the root, without `.` and `..`. Links are not followed: the file may not be there yet.
fn plain(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// `[policy]`: the folder, and where the configuration speaks of it, if it does.
pub(super) fn policy_dir(root: &Table<'_>, home: &Path) -> PathBuf {
    let table = root.table("policy", "the policy's settings");
    let dir = table.and_then(|table| {
        let dir = table.string("dir");
        table.done();
        dir
    });
    home.join(dir.map_or_else(|| "policy".into(), |dir| dir.value))
}
