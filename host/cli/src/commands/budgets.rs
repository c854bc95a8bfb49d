//! `ambit budgets`: how budgets stand, with or without a running host.

use std::io::{self, Write};
use std::path::Path;

use ambit_core::ledger::utc;
use ambit_core::money::{Account, Window};
use ambit_runtime::budgets::{Budgets, Counted, Next, Standing};
use ambit_runtime::clock::now_ms;
use ambit_runtime::config::Config;
use ambit_runtime::documents::{self, covers};
use ambit_runtime::store::BudgetState;

use super::audit;
use crate::output::{Exit, Failure, Output, style, untrusted};

/// Cells of a bar.
const BAR: u64 = 20;

pub(crate) fn run(home: &Path, out: Output) -> Result<Exit, Failure> {
    let reader = audit::open(home)?;
    let config = Config::load(home)?;
    let budgets = Budgets::new(config.budgets(), &reader.accounts()?, now_ms());
    out.result(&documents::budgets(&budgets), |w| print(&budgets, w))?;
    Ok(Exit::Done)
}

fn print(budgets: &Budgets, w: &mut dyn Write) -> io::Result<()> {
    if budgets.configured.is_empty() {
        writeln!(w, "no budgets: nothing has a cap but by policy and limits")?;
    }
    for standing in &budgets.configured {
        print_standing(standing, w)?;
    }
    if !budgets.others.is_empty() {
        let (dim, reset) = (style::DIM.render(), style::DIM.render_reset());
        writeln!(w, "\n{dim}On the ledger, and not configured: they cap nothing.{reset}")?;
    }
    for state in &budgets.others {
        let BudgetState { window, cap, account } = state;
        let (budget, window) = (untrusted(&window.budget), untrusted(&window.window));
        writeln!(w, "  {budget}, {window}: {} of {cap}", amounts(*account))?;
    }
    let (dim, reset) = (style::DIM.render(), style::DIM.render_reset());
    writeln!(w, "\n{dim}at {}{reset}", utc(budgets.time_ms))
}

fn print_standing(standing: &Standing, w: &mut dyn Write) -> io::Result<()> {
    let budget = &standing.budget;
    let (head, reset) = (style::HEAD.render(), style::HEAD.render_reset());
    let whose: Vec<String> = covers(&budget.covers)
        .map(|(key, name)| format!("{key} {}", untrusted(name)))
        .collect();
    let whose = if whose.is_empty() {
        "everything".to_owned()
    } else {
        whose.join(", ")
    };
    writeln!(
        w,
        "{head}{}{reset}: at most {} {} {}, for {whose}",
        untrusted(&budget.name),
        budget.cap,
        budget.unit,
        length(budget.window),
    )?;
    if let Some(over) = &budget.over {
        writeln!(w, "  more with approvals: {} of {}", over.count, untrusted(&over.ask))?;
    }
    if let Some(warn) = budget.warn {
        writeln!(w, "  people are told from {warn} on")?;
    }
    for one in &standing.current {
        print_counted(one, budget.cap, w)?;
    }
    if standing.current.is_empty() {
        match budget.window {
            Window::Run => writeln!(w, "  no run that used it is open")?,
            _ => writeln!(w, "  no call that uses it is under way")?,
        }
    }
    for one in &standing.earlier {
        writeln!(w, "  other window {}: {}", untrusted(&one.window), amounts(one.account))?;
    }
    Ok(())
}

/// For how long, in words.
fn length(window: Window) -> String {
    match window {
        Window::Call => "a call".to_owned(),
        Window::Run => "a run".to_owned(),
        Window::Hour => "an hour".to_owned(),
        Window::Day => "a day".to_owned(),
        Window::Month => "a month".to_owned(),
        Window::Rolling(span) => format!("in any {span}"),
    }
}

fn print_counted(one: &Counted, cap: u64, w: &mut dyn Write) -> io::Result<()> {
    let left = one.account.left(cap);
    let colour = if left == 0 { style::BAD } else { style::GOOD };
    let next = match one.next {
        Some(Next::Turns(at)) => format!("; begins anew at {}", utc(at)),
        Some(Next::Frees { at, amount }) => format!("; {amount} more at {}", utc(at)),
        None => String::new(),
    };
    writeln!(
        w,
        "  {}{}{} {}: {}, {left} left{next}",
        colour.render(),
        bar(one.account, cap),
        colour.render_reset(),
        untrusted(&one.window),
        amounts(one.account),
    )
}

fn amounts(account: Account) -> String {
    format!("{} used, {} reserved", account.used, account.reserved)
}

/// Used, reserved and left of a cap. Whatever there is of the first two is seen: at least a cell of each.
fn bar(account: Account, cap: u64) -> String {
    let cells = |amount: u64| {
        let cells = u128::from(amount) * u128::from(BAR) / u128::from(cap.max(1));
        u64::try_from(cells).unwrap_or(BAR).clamp(u64::from(amount > 0), BAR)
    };
    let used = cells(account.used);
    let reserved = cells(account.reserved).min(BAR - used);
    let parts = [("#", used), ("=", reserved), (".", BAR - used - reserved)];
    let cells = parts.map(|(cell, times)| cell.repeat(usize::try_from(times).unwrap_or_default()));
    format!("[{}]", cells.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_its_length_whatever_is_used() {
        let bar = |used, reserved, cap| bar(Account { used, reserved }, cap);
        assert_eq!(bar(0, 0, 100), "[....................]");
        assert_eq!(bar(50, 25, 100), "[##########=====.....]");
        assert_eq!(bar(1, 1, 1_000), "[#=..................]");
        assert_eq!(bar(100, 0, 100), "[####################]");
        // A cap that was lowered since.
        assert_eq!(bar(500, 500, 100), "[####################]");
        assert_eq!(bar(u64::MAX, 0, u64::MAX), "[####################]");
    }
}
