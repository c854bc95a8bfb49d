//! `[budget.*]`: what is counted, of whom, for how long, and up to where.

use std::collections::BTreeMap;
use std::ops::Range;

use ambit_core::error::printable;
use ambit_core::guard;
use ambit_core::identity::AgentSpec;
use ambit_core::money::{Budget, CURRENCIES, Currency, MOST, Match, NotASpan, Over, Unit, Window, percent_of};
use toml::de::DeValue;

use super::reader::{Located, Table, nearest};
use super::sections::unknown;
use super::{Connected, ToolConfig, check_name};

/// What budgets can be about.
pub(super) struct Names<'a> {
    pub(super) connections: &'a BTreeMap<String, Connected>,
    pub(super) tools: &'a BTreeMap<String, ToolConfig>,
    pub(super) agents: &'a BTreeMap<String, AgentSpec>,
    /// Groups with their members.
    pub(super) groups: &'a BTreeMap<String, Vec<String>>,
}

/// `[budget.*]`
pub(super) fn budgets(root: &Table<'_>, names: &Names<'_>) -> Vec<Budget> {
    let budgets = root.named("budget", "budget").into_iter().filter_map(|(name, table)| {
        check_name(table.source(), &name, "budget");
        let covers = covers(&table, names);
        let unit = unit(&table, names.connections);
        let window = window(&table);
        let cap = cap(&table);
        let over = over(&table, unit, names);
        let warn = warn(&table, window, cap);
        if let Some(counted @ (Unit::Calls | Unit::Fuel)) = unit
            && (covers.connection.is_some() || covers.route.is_some())
        {
            let message = format!("{} counts {counted} of a connection or route", table.what());
            let help =
                "a connection has effects and bytes: unit = \"effects\" or \"bytes\"; or leave out connection and \
                        route"
                    .to_owned();
            table
                .source()
                .problem(table.key_span("unit"), message, "would count nothing", Some(help));
        }
        table.done();
        Some(Budget {
            name: name.value,
            covers,
            unit: unit?,
            window: window?,
            cap: cap?,
            over,
            warn,
        })
    });
    budgets.collect()
}

fn covers(table: &Table<'_>, names: &Names<'_>) -> Match {
    let agents = || names.agents.iter();
    let users = agents().flat_map(|(_, spec)| &spec.users);
    Match {
        tenant: known(table, "tenant", agents().map(|(_, spec)| &spec.tenant)),
        team: known(table, "team", agents().map(|(_, spec)| &spec.team)),
        agent: known(table, "agent", names.agents.keys()),
        user: known(table, "user", users),
        tool: known(table, "tool", names.tools.keys()),
        // What functions a tool has is known when its component is loaded.
        function: table.string("function").map(|name| name.value),
        connection: known(table, "connection", names.connections.keys()),
        route: route(table, names.connections),
    }
}

/// A budget for something that does not exist would cap nothing, silently.
pub(super) fn known<'n>(
    table: &Table<'_>,
    key: &str,
    names: impl Iterator<Item = &'n String> + Clone,
) -> Option<String> {
    let name = table.string(key)?;
    if !guard!("config.budget-name", names.clone().any(|known| *known == name.value)) {
        let message = format!(
            "{} is for {key} `{}`, and there is none",
            table.what(),
            printable(&name.value)
        );
        unknown(table, &name, message, key, names);
    }
    Some(name.value)
}

fn route(table: &Table<'_>, connections: &BTreeMap<String, Connected>) -> Option<String> {
    let routes: Vec<String> = connections
        .iter()
        .flat_map(|(name, connected)| {
            let routes = connected.routes.iter().flat_map(|connection| connection.routes());
            routes.map(move |route| format!("{name}/{}", route.name()))
        })
        .collect();
    known(table, "route", routes.iter())
}

const UNITS: &str = "a currency such as \"usd\" (in minor units), \"calls\", \"effects\", \"bytes\" or \"fuel\"";
const COUNTED: [&str; 4] = ["calls", "effects", "bytes", "fuel"];

fn unit(table: &Table<'_>, connections: &BTreeMap<String, Connected>) -> Option<Unit> {
    let Some(word) = table.string("unit") else {
        table.missing("unit", &format!("what is counted: {UNITS}"));
        return None;
    };
    let unit: Option<Unit> = word.value.parse().ok();
    let exists = match unit {
        Some(Unit::Money(currency)) => guard!("config.budget-currency", is_currency(currency, connections)),
        unit => unit.is_some(),
    };
    if exists {
        return unit;
    }
    let message = match unit {
        Some(_) => format!("{} is in `{}`, which is no currency", table.what(), word.value),
        None => format!("`unit` of {} is nothing that can be counted", table.what()),
    };
    let lower = word.value.to_ascii_lowercase();
    let word_or_currency = nearest(&lower, COUNTED).or_else(|| nearest(&lower, CURRENCIES.iter().copied()));
    let help = match word_or_currency {
        Some(near) => format!("did you mean \"{near}\"? It is {UNITS}"),
        None => format!("it is {UNITS}"),
    };
    table.source().problem(word.span, message, "not known", Some(help));
    None
}

/// Services may have currencies of their own: what a route's money names is one. A budget in another would cap nothing, silently.
pub(super) fn is_currency(currency: Currency, connections: &BTreeMap<String, Connected>) -> bool {
    let routes = connections
        .values()
        .filter_map(|connected| connected.routes.as_ref())
        .flat_map(|connection| connection.routes());
    CURRENCIES.contains(&currency.as_str())
        || routes
            .flat_map(|route| route.currencies())
            .any(|named| named == currency)
}

/// `over = { ask = "finance", count = 2 }`: who may let one effect pass the cap.
fn over(budget: &Table<'_>, unit: Option<Unit>, names: &Names<'_>) -> Option<Over> {
    let span = budget.value("over")?.span();
    if let Some(counted @ (Unit::Calls | Unit::Fuel)) = unit {
        let message = format!(
            "{} counts {counted}, and no call waits for people: only an effect does",
            budget.what()
        );
        let help = "leave out `over`, or count what effects use: a currency, \"effects\" or \"bytes\"".to_owned();
        budget.source().problem(span, message, "would ask nobody", Some(help));
        return None;
    }
    let table = budget.table("over", format!("`over` of {}", budget.what()))?;
    let ask = table.string("ask");
    if ask.is_none() {
        table.missing(
            "ask",
            "the group whose people may let one effect pass the cap: { ask = \"finance\" }",
        );
    }
    let count = table.number("count");
    let ask = ask.filter(|ask| {
        let there = guard!("config.over-group", names.groups.contains_key(&ask.value));
        if !there {
            let message = format!(
                "{} asks group `{}`, and there is none",
                budget.what(),
                printable(&ask.value)
            );
            unknown(&table, ask, message, "group", names.groups.keys());
        }
        there
    });
    let members = ask
        .as_ref()
        .and_then(|ask| names.groups.get(&ask.value))
        .map_or(0, Vec::len);
    let wanted = count.as_ref().map_or(1, |count| count.value);
    // A group that nobody is in yet bounds nothing, as in policies.
    let most = if members == 0 {
        u64::from(u32::MAX)
    } else {
        members as u64
    };
    let reachable = (1..=most).contains(&wanted);
    if let Some(count) = &count
        && !guard!("config.over-count", reachable)
    {
        let message = format!("{} asks for {wanted} people of a group of {members}", budget.what());
        let help = "at least 1, and no more than the group has".to_owned();
        table
            .source()
            .problem(count.span.clone(), message, "out of range", Some(help));
    }
    table.done();
    Some(Over {
        ask: ask?.value,
        count: u32::try_from(wanted).unwrap_or(u32::MAX),
    })
}

/// `warn = 80`: at how many percent of the cap people are told.
fn warn(budget: &Table<'_>, window: Option<Window>, cap: Option<u64>) -> Option<u64> {
    let percent = budget.number("warn")?;
    let (message, label, help) = if !guard!("config.warn", (1..=100).contains(&percent.value)) {
        let message = format!("`warn` of {} is no percentage of its cap", budget.what());
        (message, "out of range", "from 1 to 100, as in warn = 80")
    } else if window == Some(Window::Call) {
        let message = format!("{} warns in the window of a call", budget.what());
        (
            message,
            "nobody could act",
            "a call is over before anybody hears of it: leave out `warn`",
        )
    } else {
        return Some(percent_of(cap?, percent.value));
    };
    budget
        .source()
        .problem(percent.span, message, label, Some(help.to_owned()));
    None
}

const WINDOWS: &str =
    "\"call\", \"run\", \"hour\", \"day\" or \"month\" (by the calendar, UTC), or { rolling = \"24h\" }";

fn window(table: &Table<'_>) -> Option<Window> {
    let Some(value) = table.value("window") else {
        table.missing("window", &format!("for how long it counts: {WINDOWS}"));
        return None;
    };
    match value.get_ref() {
        DeValue::String(word) => match word.as_ref() {
            "call" => return Some(Window::Call),
            "run" => return Some(Window::Run),
            "hour" => return Some(Window::Hour),
            "day" => return Some(Window::Day),
            "month" => return Some(Window::Month),
            other => not_a_window(table, value.span(), Some(other)),
        },
        DeValue::Table(_) => return rolling(table),
        _ => not_a_window(table, value.span(), None),
    }
    None
}

fn not_a_window(table: &Table<'_>, span: Range<usize>, word: Option<&str>) {
    let meant = word.and_then(|word| {
        let length = word
            .split(' ')
            .find(|part| part.parse::<ambit_core::money::Span>().is_ok());
        let rolling = length.map(|length| format!("{{ rolling = \"{length}\" }}"));
        let near = || nearest(word, ["call", "run", "hour", "day", "month"]).map(|near| format!("\"{near}\""));
        rolling.or_else(near)
    });
    let help = match meant {
        Some(meant) => format!("did you mean {meant}? It is {WINDOWS}"),
        None => format!("it is {WINDOWS}"),
    };
    let message = format!("`window` of {} is not a window", table.what());
    table.source().problem(span, message, "not known", Some(help));
}

fn rolling(budget: &Table<'_>) -> Option<Window> {
    let table = budget.table("window", format!("the window of {}", budget.what()))?;
    let length = table.string("rolling");
    if table.entries().is_empty() {
        table.missing(
            "rolling",
            "how long the window is, in whole hours or days: { rolling = \"24h\" }",
        );
    }
    let window = length.and_then(|length| span(&table, &length));
    table.done();
    window
}

/// Hours and days only, and no more than a month of them.
fn span(table: &Table<'_>, length: &Located<String>) -> Option<Window> {
    let why = match length.value.parse() {
        Ok(span) => return Some(Window::Rolling(span)),
        Err(why) => why,
    };
    let label = match why {
        NotASpan::Unread => "no length",
        NotASpan::Zero => "would never count",
        NotASpan::TooLong => "too long",
    };
    let message = format!("`rolling` of {} is `{}`: {why}", table.what(), printable(&length.value));
    let help = "from \"1h\" to \"31d\"; a month by the calendar is window = \"month\"".to_owned();
    table.source().problem(length.span.clone(), message, label, Some(help));
    None
}

fn cap(table: &Table<'_>) -> Option<u64> {
    let Some(cap) = table.number("cap") else {
        table.missing("cap", "the most that a window may use, in the budget's unit");
        return None;
    };
    if guard!("config.budget-cap", (1..=MOST).contains(&cap.value)) {
        return Some(cap.value);
    }
    let (message, help) = if cap.value == 0 {
        let help = "what may never happen is a policy's to forbid: forbid (principal, action, resource)";
        (
            format!("the cap of {} is 0: nothing would ever fit", table.what()),
            help.to_owned(),
        )
    } else {
        let message = format!("the cap of {} is more than can be counted", table.what());
        (message, format!("at most {MOST}"))
    };
    table.source().problem(cap.span, message, "out of range", Some(help));
    None
}
