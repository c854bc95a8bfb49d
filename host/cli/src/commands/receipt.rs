//! `ambit receipt verify`: offline, with the ledger's public key alone.

use std::io::Read;
use std::path::Path;

use ambit_core::ledger::{Receipt, VerifierKey};
use serde_json::json;

use crate::args;
use crate::output::{Exit, Failure, Output, style, untrusted};

pub(crate) fn run(command: &args::Receipt, out: Output) -> Result<Exit, Failure> {
    let args::Receipt::Verify { receipt, key } = command;
    let text = read(receipt)?;
    let key = verifier_key(key)?;
    let proved = Receipt::verify(&text, &key).map_err(|why| {
        Failure::refused(format!("{} proves nothing: {why}", receipt.display()))
            .advise("Ask for the receipt again (`ambit audit prove CALL`), and check that the key is the ledger's own.")
    })?;
    let value = json!({
        "verified": true,
        "entry": serde_json::from_str::<serde_json::Value>(&proved.entry.text()).unwrap_or_default(),
        "checkpoint": { "origin": proved.checkpoint.origin(), "size": proved.checkpoint.size() },
        "summary": proved.summary,
    });
    out.result(&value, |w| {
        for line in &proved.summary {
            writeln!(w, "{}", untrusted(line))?;
        }
        writeln!(
            w,
            "{}verified{}: entry {} of ledger {} at {} entries",
            style::GOOD.render(),
            style::GOOD.render_reset(),
            proved.entry.index(),
            proved.checkpoint.origin(),
            proved.checkpoint.size()
        )
    })?;
    Ok(Exit::Done)
}

/// The text of a file, or of standard input for `-`.
fn read(path: &Path) -> Result<String, Failure> {
    const MOST: u64 = 2 << 20;
    let mut text = String::new();
    let outcome = if path == Path::new("-") {
        std::io::stdin().take(MOST).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text))
    };
    outcome.map_err(|e| Failure::usage(format!("{} cannot be read: {e}", path.display())))?;
    Ok(text)
}

/// Reads a ledger's public key file (the text form of signed notes: `name+hash+key`).
pub(crate) fn verifier_key(path: &Path) -> Result<VerifierKey, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::usage(format!("the key {} cannot be read: {e}", path.display())))?;
    VerifierKey::parse(text.trim()).map_err(|e| {
        Failure::usage(format!("{} is no ledger key: {e}", path.display()))
            .advise("A home keeps its public key in keys/ledger.pub.")
    })
}
