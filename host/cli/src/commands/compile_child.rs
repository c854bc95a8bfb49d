//! `ambit compile-child`: the host's own child that compiles one component under process limits.

use crate::output::{Exit, Failure};

pub(crate) fn run() -> Result<Exit, Failure> {
    match ambit_runtime::sandbox::compile_child_main() {
        0 => Ok(Exit::Done),
        _ => Ok(Exit::Refused),
    }
}
