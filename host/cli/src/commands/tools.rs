//! `ambit tools`: which components a home runs, each pinned to the digest an operator accepted.

use std::fs;
use std::path::Path;

use ambit_core::error::Refusal;
use ambit_core::ledger::utc;
use ambit_core::manifest::{Change, MAX_COMPONENT_BYTES, Manifest};
use ambit_runtime::config::Config;
use ambit_runtime::config::lock::Lock;
use ambit_runtime::home;
use ambit_runtime::operators::{self, Answer, Request};
use serde_json::{Value, json};

use super::inspect;
use crate::args::Tools;
use crate::ids;
use crate::output::{Exit, Failure, Output, note, style, untrusted};

pub(crate) fn run(command: &Tools, home: &Path, out: Output) -> Result<Exit, Failure> {
    match command {
        Tools::Add { name, component } => add(home, name, component, out),
        Tools::List => list(home, out),
        Tools::Accept { name, component, wider } => accept(home, name, component, *wider, out),
        Tools::Remove { name } => remove(home, name, out),
    }
}

/// Reads a component file and what it declares.
pub(crate) fn read_component(path: &Path) -> Result<(Vec<u8>, Manifest), Failure> {
    let bytes = read(path)?;
    let manifest = Manifest::read(&bytes).map_err(|refusal| Refusal {
        message: format!("{}: {}", path.display(), refusal.message),
        ..refusal
    })?;
    Ok((bytes, manifest))
}

/// A file that is too large is refused before it is read.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let cannot = |e: std::io::Error| Failure::usage(format!("{} cannot be read: {e}", path.display()));
    let size = fs::metadata(path).map_err(cannot)?.len();
    if size > MAX_COMPONENT_BYTES as u64 {
        return Err(Failure::refused(format!(
            "{}: the file has {size} bytes; a component has at most {MAX_COMPONENT_BYTES}",
            path.display()
        ))
        .advise("Build without debug information, or leave large data out of the component."));
    }
    fs::read(path).map_err(cannot)
}

fn add(home: &Path, name: &str, component: &Path, out: Output) -> Result<Exit, Failure> {
    let (bytes, manifest) = read_component(component)?;
    home::add_tool(home, name, &bytes, &manifest)?;
    let value = json!({ "tool": name, "digest": manifest.digest, "world": manifest.world });
    out.result(&value, |w| {
        inspect::print(&manifest, w)?;
        writeln!(w)?;
        writeln!(
            w,
            "{}pinned{} {name} to {}",
            style::GOOD.render(),
            style::GOOD.render_reset(),
            manifest.digest
        )
    })?;
    advise_binding(home, name, &manifest);
    not_yet(home);
    Ok(Exit::Done)
}

/// A host that runs goes on with the tools that it has, and whoever changed them must not think otherwise.
fn not_yet(home: &Path) {
    if let Ok(Some(Answer::Status(status))) = operators::ask(home, &Request::Status) {
        note(format!(
            "process {} serves this home: it has that from the next `ambit reload` on, and goes on with what it had until then.",
            status.pid
        ));
    }
}

/// Tells which labels still reach nothing.
fn advise_binding(home: &Path, name: &str, manifest: &Manifest) {
    let bound = Config::load(home)
        .ok()
        .and_then(|c| c.tool(name).map(|t| t.bind.clone()))
        .unwrap_or_default();
    let unbound: Vec<_> = manifest
        .capabilities()
        .filter(|i| !bound.contains_key(&i.label))
        .map(|i| &i.label)
        .collect();
    if !unbound.is_empty() {
        note(format!(
            "Not bound yet, so they reach nothing. In ambit.toml:\n\n[tool.{name}.bind]"
        ));
        for label in unbound {
            note(format!("{label} = \"CONNECTION\""));
        }
    }
}

fn list(home: &Path, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let rows: Vec<Value> = config
        .lock()
        .iter()
        .map(|(name, pin)| {
            let bind = config.tool(name).map(|t| t.bind.clone()).unwrap_or_default();
            let accepted = i64::try_from(pin.accepted_ms).unwrap_or(i64::MAX);
            json!({ "tool": name, "digest": pin.digest, "world": pin.world, "accepted": utc(accepted), "bind": bind })
        })
        .collect();
    out.result(&rows, |w| {
        if rows.is_empty() {
            return writeln!(w, "no tools; add one with `ambit tools add NAME COMPONENT.wasm`");
        }
        for row in &rows {
            let text = |name: &str| untrusted(row.get(name).and_then(Value::as_str).unwrap_or(""));
            writeln!(
                w,
                "{:<20} {} {} (accepted {})",
                text("tool"),
                text("digest"),
                text("world"),
                text("accepted")
            )?;
            for (label, connection) in row.get("bind").and_then(Value::as_object).into_iter().flatten() {
                writeln!(w, "  {label} -> {}", connection.as_str().unwrap_or(""))?;
            }
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}

/// What failed; where the home has no such tool, that.
fn no_such_tool(home: &Path, name: &str, failure: Failure) -> Failure {
    match Lock::read(home) {
        Ok(lock) => ids::or_no_such(failure, "tool", name, lock.iter().map(|(name, _)| name)),
        Err(_) => failure,
    }
}

fn accept(home: &Path, name: &str, component: &Path, wider: bool, out: Output) -> Result<Exit, Failure> {
    let (bytes, newer) = read_component(component)?;
    let older = home::pinned(home, name).map_err(|error| no_such_tool(home, name, error.into()))?;
    let changes = older.diff(&newer);
    let widening = changes.iter().filter(|change| change.widens()).count();
    for change in &changes {
        let colour = if change.widens() { style::BAD } else { style::DIM };
        note(format!(
            "{}{}{}",
            colour.render(),
            untrusted(&change.to_string()),
            colour.render_reset()
        ));
    }
    if widening > 0 && !wider {
        return Err(Failure::refused(format!(
            "the new component of {name} declares more than the accepted one; nothing was changed"
        ))
        .advise("Read the lines above. To accept them all, say so: --wider"));
    }
    home::accept_tool(home, name, &bytes, &newer)?;
    let value = json!({
        "tool": name,
        "digest": newer.digest,
        "previous": older.digest,
        "changes": changes.iter().map(Change::to_string).collect::<Vec<_>>(),
    });
    out.result(&value, |w| writeln!(w, "{name} is now {}", newer.digest))?;
    not_yet(home);
    Ok(Exit::Done)
}

fn remove(home: &Path, name: &str, out: Output) -> Result<Exit, Failure> {
    let digest = home::remove_tool(home, name).map_err(|error| no_such_tool(home, name, error.into()))?;
    out.result(&json!({ "tool": name, "digest": digest }), |w| {
        writeln!(w, "removed {name} ({digest}); its calls stay on the ledger")
    })?;
    not_yet(home);
    Ok(Exit::Done)
}
