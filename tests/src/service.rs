//! A payment service on loopback, with the habits of Stripe's that matter here.
//!
//! It is a process of its own with state of its own, speaks HTTPS with a certificate made for the run, and remembers every
//! request. Tests start it with [`Service::start`]; `stripe-service --help` says how to run it by hand.
//!
//! Charges it knows are listed in [`stripe::CHARGES`]. A charge called `ch_<misbehaviour>` makes reading it go wrong,
//! `ch_refund_<misbehaviour>` makes refunding it go wrong; [`misbehaviour::Misbehaviour`] lists the ways.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::programs::program;

mod certificate;
pub mod misbehaviour;
pub mod server;
pub mod stripe;

/// How long the process may take to listen.
const START_LIMIT: Duration = Duration::from_secs(20);

/// What the service writes to `service.json` once it listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listening {
    /// HTTPS port on 127.0.0.1.
    pub port: u16,
    /// Plain HTTP port on 127.0.0.1: `GET /requests`, `GET /state`, `POST /reset`. Anything else that arrives there was
    /// led there by a redirect, and is remembered as [`Event::Strayed`].
    pub admin_port: u16,
    /// The bearer token that it takes.
    pub token: String,
}

/// One line of `requests.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A TLS handshake ended well.
    Connected {
        /// The name the client asked for.
        sni: Option<String>,
    },
    /// A TLS handshake failed, or the client left.
    Rejected {
        /// As the TLS library says.
        why: String,
    },
    /// A whole request arrived.
    Request(Request),
    /// Something arrived at the admin port that has no business there.
    Strayed {
        /// Method and path.
        line: String,
    },
}

/// A request as it arrived, written down before it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// As in the `Host` header.
    pub host: String,
    /// Upper case.
    pub method: String,
    /// Path and query, undecoded.
    pub path: String,
    /// Lower-case names; without `authorization`, which is in [`Self::authorization`].
    pub headers: BTreeMap<String, String>,
    /// Whether the right bearer token came with it.
    pub authorization: Authorization,
    /// The body's bytes as text.
    pub body: String,
    /// The body's pairs, where it was a form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub form: Vec<(String, String)>,
    /// The status that it got.
    pub status: u16,
}

/// What came in `Authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Authorization {
    /// Nothing.
    Missing,
    /// Another token, or another scheme.
    Wrong,
    /// The token.
    Right,
}

/// How the service is to be started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names in the certificate, besides `api.stripe.com` and `hooks.slack.com`; replace those with [`Self::only`].
    pub names: Vec<String>,
    /// Only the given names are in the certificate.
    pub only: bool,
    /// The certificate ran out in 2020.
    pub expired: bool,
}

impl Options {
    const DEFAULT: Self = Self {
        names: Vec::new(),
        only: false,
        expired: false,
    };
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A running service. Dropping it ends the process; so does the end of this one.
#[derive(Debug)]
pub struct Service {
    /// HTTPS port on 127.0.0.1.
    pub port: u16,
    /// See [`Listening::admin_port`].
    pub admin_port: u16,
    /// The bearer token that it takes.
    pub token: String,
    /// PEM file of the authority that signed its certificate.
    pub ca: PathBuf,
    log: PathBuf,
    child: Child,
    /// The process ends when this closes.
    _lifeline: Option<ChildStdin>,
}

impl Service {
    /// Starts a service that keeps its files in `folder`, and waits until it listens.
    ///
    /// # Errors
    /// The folder can't be written, or the process ended or did not listen in time.
    pub fn start(folder: &Path) -> io::Result<Self> {
        Self::start_with(folder, &Options::DEFAULT)
    }

    /// As [`Self::start`], with another certificate.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(folder: &Path, options: &Options) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut command = Command::new(program("stripe-service"));
        command.arg(folder).stdin(Stdio::piped());
        command.args(options.names.iter().flat_map(|name| ["--name", name.as_str()]));
        command
            .args(options.only.then_some("--only"))
            .args(options.expired.then_some("--expired"));
        let mut child = command.spawn()?;
        let listening = wait_until_listening(&mut child, &folder.join("service.json"));
        let lifeline = child.stdin.take();
        // Made before the result is looked at, so that a child which never listened is ended too.
        let mut service = Self {
            port: 0,
            admin_port: 0,
            token: String::new(),
            ca: folder.join("ca.pem"),
            log: folder.join("requests.jsonl"),
            child,
            _lifeline: lifeline,
        };
        let listening = listening?;
        (service.port, service.admin_port, service.token) = (listening.port, listening.admin_port, listening.token);
        Ok(service)
    }

    /// Everything that happened so far.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn events(&self) -> io::Result<Vec<Event>> {
        let text = fs::read_to_string(&self.log)?;
        text.lines()
            .map(|line| serde_json::from_str(line).map_err(io::Error::other))
            .collect()
    }

    /// The requests that arrived so far, in order.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn requests(&self) -> io::Result<Vec<Request>> {
        let events = self.events()?.into_iter();
        Ok(events
            .filter_map(|event| {
                if let Event::Request(request) = event {
                    Some(request)
                } else {
                    None
                }
            })
            .collect())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until_listening(child: &mut Child, file: &Path) -> io::Result<Listening> {
    let started = Instant::now();
    loop {
        match fs::read(file) {
            Ok(text) => return serde_json::from_slice(&text).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!(
                "stripe-service ended with {status} before it listened"
            )));
        }
        if started.elapsed() > START_LIMIT {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "stripe-service does not listen",
            ));
        }
        thread::sleep(Duration::from_millis(2));
    }
}
