//! `ambit build`: from a tool's crate to a component.

use serde_json::json;

use crate::args::Build;
use crate::build::{BuildOptions, Toolchain, build};
use crate::output::{Exit, Failure, Output, untrusted};

pub(crate) fn run(args: &Build, out: Output) -> Result<Exit, Failure> {
    let built = build(&BuildOptions {
        crate_dir: args.crate_dir.clone(),
        output: args.output.clone(),
        module: args.module.clone(),
        toolchain: Toolchain::from_env(),
    })?;
    let value = json!({ "component": built.path, "bytes": built.size, "digest": built.manifest.digest });
    out.result(&value, |w| write!(w, "{}", untrusted(&built.to_string())))?;
    Ok(Exit::Done)
}
