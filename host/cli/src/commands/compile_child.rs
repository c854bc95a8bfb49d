//! `ambit compile-child`: the host's own child that compiles one component under process limits.

use crate::output::{Exit, Failure};

pub(crate) fn run() -> Result<Exit, Failure> {
    // The parent reads the number: 2 says that the component is at fault, 1 that the compiler is.
    match ambit_runtime::sandbox::compile_child_main() {
        0 => Ok(Exit::Done),
        2 => Ok(Exit::Usage),
        _ => Ok(Exit::Refused),
    }
}
