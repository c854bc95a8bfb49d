//! `ambit init`: a new home.

use std::path::Path;

use ambit_runtime::config::FILE;
use ambit_runtime::home;
use serde_json::json;

use crate::output::{Exit, Failure, Output};

pub(crate) fn run(home: &Path, out: Output) -> Result<Exit, Failure> {
    if home.join(FILE).exists() {
        let message = format!("{} is a home already; nothing was changed", home.display());
        return Err(Failure::usage(message).advise("To make another one, name its folder: ambit --home DIR init"));
    }
    let made = home::init(home)?;
    let value = json!({ "home": home, "ledger": made.origin, "key": made.key });
    out.result(&value, |w| {
        let shown = home.display();
        writeln!(w, "made the home {shown}")?;
        writeln!(
            w,
            "  {shown}/ambit.toml        connections, tools, agents, budgets: commented, connects nothing yet"
        )?;
        writeln!(w, "  {shown}/policy/*.cedar    policy: denies all until you permit")?;
        writeln!(
            w,
            "  {shown}/keys/ledger.pub   verifies receipts; give it to whoever audits"
        )?;
        writeln!(w, "  {shown}/ledger.db         the ledger, begun as {}", made.origin)?;
        writeln!(w)?;
        writeln!(
            w,
            "Next: ambit --home {shown} tools add NAME COMPONENT.wasm, then bind it in ambit.toml."
        )
    })?;
    Ok(Exit::Done)
}
