//! `ambit inspect`: what a component declares, in words a reviewer can sign.

use std::io::{self, Write};
use std::path::Path;

use ambit_core::json::Json;
use ambit_core::manifest::{Function, Manifest};
use ambit_runtime::config::lock::Lock;
use ambit_runtime::config::nearest;
use ambit_runtime::home;

use super::approvals::unusable;
use super::tools::read_component;
use crate::args::Inspect;
use crate::output::{Exit, Failure, Output, style, untrusted};

pub(crate) fn run(args: &Inspect, home: &Path, out: Output) -> Result<Exit, Failure> {
    let manifest = manifest(&args.tool, home)?;
    let chosen = args
        .function
        .as_deref()
        .map(|name| manifest.function(name).map_err(unusable))
        .transpose()?;
    match chosen {
        Some(function) => out.result(&function.contract(), |w| print_schemas(function, w))?,
        None => out.result(&manifest.contract(|_| true), |w| print(&manifest, w))?,
    }
    Ok(Exit::Done)
}

/// A file where there is one of that name, else a tool of the home.
fn manifest(tool: &str, home: &Path) -> Result<Manifest, Failure> {
    let path = Path::new(tool);
    if path.exists() {
        return read_component(path).map(|(_, manifest)| manifest);
    }
    let lock = Lock::read(home)?;
    if lock.get(tool).is_some() {
        return Ok(home::pinned(home, tool)?);
    }
    let message = format!("`{tool}` is neither a file nor a tool of the home {}", home.display());
    let tools: Vec<&str> = lock.iter().map(|(name, _)| name).collect();
    let near = nearest(tool, tools.iter().copied());
    Err(Failure::usage(message).advise(match (near, tools.as_slice()) {
        (Some(near), _) => format!("Did you mean `{near}`?"),
        (None, []) => "The home has no tool. Name a component's file, or another home with --home DIR.".to_owned(),
        (None, tools) => format!("The tools of the home: {}.", tools.join(", ")),
    }))
}

/// What it declares, on a page.
pub(crate) fn print(manifest: &Manifest, w: &mut dyn Write) -> io::Result<()> {
    write!(w, "{}", untrusted(&manifest.to_string()))
}

fn signature(function: &Function) -> String {
    let params: Vec<&str> = function.params.iter().map(|(name, _)| name.as_str()).collect();
    let mut traits = vec![function.declared.tier.to_string()];
    traits.extend(function.declared.undo.as_ref().map(|undo| format!("undone by {undo}")));
    traits.extend(function.declared.idempotent.then(|| "idempotent".to_owned()));
    format!("{}({}): {}", function.id, params.join(", "), traits.join(", "))
}

fn docs(text: Option<&str>, indent: &str, w: &mut dyn Write) -> io::Result<()> {
    let dim = style::DIM;
    for line in text.into_iter().flat_map(str::lines) {
        writeln!(w, "{indent}{}{}{}", dim.render(), untrusted(line), dim.render_reset())?;
    }
    Ok(())
}

fn print_schemas(function: &Function, w: &mut dyn Write) -> io::Result<()> {
    writeln!(w, "{}", untrusted(&signature(function)))?;
    docs(function.docs.as_deref(), "  ", w)?;
    let mut schema = |name: &str, schema: &Json| -> io::Result<()> {
        let pretty = serde_json::to_string_pretty(schema).unwrap_or_default();
        writeln!(w, "\n{name}\n{}", untrusted(&pretty))
    };
    schema("arguments", &function.input_schema)?;
    schema("result", &function.output_schema)?;
    if let Some(error) = &function.error_schema {
        schema("error", error)?;
    }
    Ok(())
}
