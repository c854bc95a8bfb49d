//! Signals to a process that serves: to end (SIGTERM, SIGINT), and to take its files anew (SIGHUP).

use std::io;
use std::thread::{self, JoinHandle};

use ambit_core::ledger::body::ReloadedBy;
use ambit_runtime::host::Host;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level::emulate_default_handler;
use tokio::sync::watch;

/// Signals from now on wait to be heard, and have their default action no more: for whoever opens a home before it serves.
#[derive(Debug)]
pub struct Heard(Signals);

impl Heard {
    /// # Errors
    /// Where the process cannot hear signals.
    pub fn from_now_on() -> io::Result<Heard> {
        Signals::new([SIGTERM, SIGINT, SIGHUP]).map(Heard)
    }
}

/// Hears signals, until dropped.
pub(crate) struct Hears {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
    ends: watch::Receiver<bool>,
}

impl Drop for Hears {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Hears {
    /// For a host. The first signal to end says so, and closes the host: nothing begins any more. A second one ends the process there and
    /// then, as if nobody heard it: what runs is as after a crash.
    pub(crate) fn of(host: &Host, Heard(mut signals): Heard) -> io::Result<Hears> {
        let handle = signals.handle();
        let (says, ends) = watch::channel(false);
        let host = host.clone();
        let thread = thread::Builder::new().name("ambit-signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                if signal == SIGHUP {
                    host.reload_soon(ReloadedBy::Signal);
                } else if *says.borrow() {
                    tracing::warn!("told to end once more: what runs is left as it is");
                    drop(emulate_default_handler(signal));
                } else {
                    tracing::info!("told to end: nothing begins any more, and calls may go on for a time");
                    host.close();
                    says.send_replace(true);
                }
            }
        })?;
        Ok(Hears {
            handle,
            thread: Some(thread),
            ends,
        })
    }

    /// Says when the process is told to end.
    pub(crate) fn ends(&self) -> watch::Receiver<bool> {
        self.ends.clone()
    }
}
