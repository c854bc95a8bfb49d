//! Opening a home to make calls: what cannot be opened is on its ledger.

use std::path::Path;

use ambit_core::ledger::body::{Act, ActRefused};
use ambit_runtime::config::Config;
use ambit_runtime::host::{Host, HostOptions, OpenError};
use ambit_runtime::operators;

use crate::output;

/// The configuration, for a host.
pub(crate) fn config(home: &Path) -> Result<Config, OpenError> {
    Config::load(home).map_err(|problems| noted(home, problems.into()))
}

/// The host. A component that is new here is compiled first.
pub(crate) fn host(config: Config, options: HostOptions) -> Result<Host, OpenError> {
    let home = config.home().to_owned();
    let opening = output::working("opening the home");
    let host = Host::open(config, options).map_err(|why| noted(&home, why))?;
    drop(opening);
    host.warnings().iter().for_each(output::warn);
    Ok(host)
}

/// Whoever asked is told why in any case: where there is no ledger to write, that is all.
fn noted(home: &Path, why: OpenError) -> OpenError {
    if let Some(code) = why.code() {
        let refused = ActRefused {
            act: Act::Open,
            code,
            of: None,
        };
        if let Err(error) = operators::note_refused(home, refused) {
            tracing::debug!(%error, "that the home does not open is on no ledger");
        }
    }
    why
}
