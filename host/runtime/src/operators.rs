//! How operators are heard while a host runs: a socket in the home, for the home's owner alone.
//!
//! One process holds a home. It serves a Unix socket that only its own user can open, and looks at whose process connects;
//! what it is asked there are acts on the ledger that must not wait until the host ends: stopping above all. Callers have no way
//! to it: no guest has a socket or a file, and no door of agents leads here. [`act`] asks the process that holds the home, or
//! does it itself where there is none.
//!
//! A request is one line of JSON, of bounded size, in bounded time, on a connection of its own; so is the answer. Whatever else
//! comes is answered with an error or not at all, and harms nothing but its connection.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ambit_core::error::{Code, Refusal, printable};
use ambit_core::identity::key::ApiKey;
use ambit_core::stop::{self, Stop};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::api_keys;
use crate::home;
use crate::host::OpenError;
use crate::stops::{self, Done, Runs};
use crate::store::{Store, StoreError};

/// The socket within a home.
const SOCKET: &str = "operators.sock";
/// What it is called until only its owner can open it.
const UNFINISHED: &str = "operators.new";
/// The longest request, in bytes, its end of line included.
const LONGEST_REQUEST: u64 = 64 << 10;
/// The longest answer that a client takes, in bytes.
const LONGEST_ANSWER: u64 = 8 << 20;
/// How long either side may take to send what it has to.
const PATIENCE: Duration = Duration::from_secs(2);
/// Connections that are served at once.
const AT_ONCE: usize = 32;
/// How long an act waits for a home that a process holds which does not serve: one that starts, ends, or does an act of its own.
const HELD: Duration = Duration::from_secs(5);

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Put a stop into force.
    Stop {
        /// How much is stopped.
        kind: stop::Kind,
        /// What.
        scope: stop::Scope,
        /// Why.
        reason: String,
    },
    /// Lift a stop.
    Lift {
        /// How much is stopped.
        kind: stop::Kind,
        /// What.
        scope: stop::Scope,
        /// Why, where the operator says so.
        reason: Option<String>,
    },
    /// Say what runs.
    Status,
    /// Enrol a person who may approve.
    Enrol {
        /// The text of their public key.
        key: String,
    },
    /// Revoke a person's key.
    Revoke {
        /// The person's name.
        name: String,
    },
    /// Do something about a key that an agent is known by over HTTP.
    Key {
        /// What.
        what: api_keys::Act,
    },
}

/// What an operator is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// About a stop.
    Stop(Done),
    /// What runs.
    Status(Status),
    /// A person was enrolled or revoked.
    Person(String),
    /// What a key is now.
    Key(Box<ApiKey>),
    /// It is not done, and why.
    Refused(Refusal),
    /// The host could not do it.
    Failed(String),
}

/// What runs in the process that holds a home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The process.
    pub pid: u32,
    /// Its calls, the oldest first.
    pub calls: Vec<Runs>,
}

/// Does what an operator asks for, on a store that is open.
///
/// # Errors
/// As the acts themselves.
fn perform(store: &Store, request: Request) -> Result<Answer, OpenError> {
    Ok(match request {
        Request::Stop { kind, scope, reason } => Answer::Stop(stops::set(store, &Stop { kind, scope }, &reason)?),
        Request::Lift { kind, scope, reason } => {
            Answer::Stop(stops::lift(store, &Stop { kind, scope }, reason.as_deref())?)
        }
        Request::Status => Answer::Status(Status {
            pid: std::process::id(),
            calls: stops::runs(store),
        }),
        Request::Key { what } => Answer::Key(Box::new(api_keys::perform(store, what)?)),
        Request::Enrol { key } => Answer::Person(home::enrol(store, &key)?),
        Request::Revoke { name } => {
            home::revoke(store, &name)?;
            Answer::Person(name)
        }
    })
}

/// Does what an operator asks for: over the socket of the process that holds the home, else by opening the home's ledger.
///
/// # Errors
/// What the act is refused with; [`StoreError::InUse`] where a process holds the home and does not serve operators.
pub fn act(home: &Path, request: &Request) -> Result<Answer, OpenError> {
    let began = Instant::now();
    loop {
        let answer = match ask(home, request)? {
            Some(answer) => Ok(answer),
            None => home::open_store(home).and_then(|store| perform(&store, request.clone())),
        };
        match answer {
            Ok(Answer::Refused(refusal)) => return Err(refusal.into()),
            Ok(Answer::Failed(why)) => return Err(OpenError::Home(why)),
            Err(OpenError::Store(StoreError::InUse { .. })) if began.elapsed() < HELD => {
                thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Asks the process that holds the home; none where nobody serves it.
///
/// # Errors
/// Where somebody does, and no answer comes that can be read.
pub fn ask(home: &Path, request: &Request) -> Result<Option<Answer>, OpenError> {
    let path = home.join(SOCKET);
    let failed = |error: io::Error| {
        OpenError::Home(format!(
            "the process that holds {} does not answer on {SOCKET}: {error}",
            home.display()
        ))
    };
    let mut stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        // Nobody listens: no host runs, or it was killed and left its socket behind.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        // No host can run on a home whose socket has no name.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut exchange = || -> io::Result<Answer> {
        stream.set_read_timeout(Some(PATIENCE * 5))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = String::new();
        BufReader::new((&stream).take(LONGEST_ANSWER)).read_line(&mut answer)?;
        if answer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&answer)?)
    };
    exchange().map(Some).map_err(failed)
}

/// The socket, served until dropped.
pub(crate) struct Operators {
    path: PathBuf,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Operators {
    /// Serves a home whose ledger this process holds.
    ///
    /// # Errors
    /// Where the socket cannot be made: a host that cannot be stopped does not start.
    pub(crate) fn serve(home: &Path, store: Arc<Store>) -> Result<Operators, OpenError> {
        let listener = listen(home)?;
        let path = home.join(SOCKET);
        let no_thread = |error: io::Error| OpenError::Home(format!("operators cannot be served: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(no_thread)?;
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("ambit-operators".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = ended => {}
                        () = accept(listener, store) => {}
                    }
                });
            })
            .map_err(no_thread)?;
        Ok(Operators {
            path,
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for Operators {
    /// Waits until what was asked is done, so that the ledger is this process's to the end of it.
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        // Gone already, if the home is.
        drop(fs::remove_file(&self.path));
    }
}

impl std::fmt::Debug for Operators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Operators({})", self.path.display())
    }
}

/// A socket of that name that only its owner can open, from the moment it has the name.
fn listen(home: &Path) -> Result<UnixListener, OpenError> {
    let (path, unfinished) = (home.join(SOCKET), home.join(UNFINISHED));
    // Whoever made them is dead: this process holds the home.
    clear(&path)?;
    clear(&unfinished)?;
    let made = UnixListener::bind(&unfinished).and_then(|listener| {
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600))?;
        // The name that is bound is the shorter one: this is the length that counts.
        std::os::unix::net::SocketAddr::from_pathname(&path)?;
        fs::rename(&unfinished, &path)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    made.map_err(|error| {
        drop(fs::remove_file(&unfinished));
        unserved(&path, &error).into()
    })
}

fn unserved(path: &Path, error: &io::Error) -> Refusal {
    let path = path.display();
    if error.kind() == io::ErrorKind::InvalidInput {
        let message = format!("the operators' socket {path} has a longer path than a socket can have");
        return Refusal::new(Code::Config, message)
            .advise("move the home to a shorter path, or name it by one: --home with a relative path");
    }
    let message = format!("the operators' socket {path} cannot be made: {error}");
    Refusal::new(Code::Config, message).advise("a host that operators cannot stop does not start")
}

/// Removes a socket that was left behind, and nothing else.
fn clear(path: &Path) -> Result<(), OpenError> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unserved(path, &error).into()),
    };
    if !there.file_type().is_socket() {
        let message = format!("{} is in the way of the operators' socket", path.display());
        return Err(Refusal::new(Code::Config, message)
            .advise("it is no socket of Ambit's; move it away")
            .into());
    }
    fs::remove_file(path).map_err(|error| unserved(path, &error).into())
}

/// Takes connections, and serves each for as long as a request may take.
async fn accept(listener: UnixListener, store: Arc<Store>) {
    let Ok(listener) = tokio::net::UnixListener::from_std(listener) else {
        tracing::error!("operators are not served: their socket cannot be waited for");
        return;
    };
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "an operator could not connect");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if !is_ours(&stream) {
            tracing::warn!("a process of another user connected to the operators' socket");
            continue;
        }
        // Those beyond wait in the kernel's queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            // A connection that breaks is its own matter.
            drop(timeout(PATIENCE * 2, converse(stream, &store)).await);
            drop(place);
        });
    }
}

/// Whether the process at the other end is of the same user as this one.
fn is_ours(stream: &tokio::net::UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| same_user(peer.uid(), own))
}

/// Not even the superuser's processes, unless this is one: who may act on a home is whoever it belongs to.
fn same_user(peer: u32, own: u32) -> bool {
    ambit_core::guard!("operators.same-user", peer == own)
}

/// One request and its answer.
async fn converse(mut stream: tokio::net::UnixStream, store: &Store) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = Vec::new();
    let mut reading = tokio::io::BufReader::new(reading.take(LONGEST_REQUEST));
    let read = timeout(PATIENCE, reading.read_until(b'\n', &mut line)).await;
    let answer = match read {
        Ok(Ok(_)) => answer(&line, store),
        Ok(Err(error)) => return Err(error),
        Err(_) => refused("no whole request came in time"),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    writing.write_all(&text).await?;
    writing.shutdown().await
}

fn refused(why: &str) -> Answer {
    Answer::Refused(Refusal::new(Code::Arguments, why).advise("a request is one line of JSON, at most 64 KiB long"))
}

/// What a line is answered with.
fn answer(line: &[u8], store: &Store) -> Answer {
    let Some(line) = line.strip_suffix(b"\n") else {
        return refused("the request has no end of line, or is too long");
    };
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return refused(&format!("that is no request: {}", printable(&error.to_string()))),
    };
    match perform(store, request) {
        Ok(answer) => answer,
        Err(OpenError::Refused(refusal)) => Answer::Refused(refusal),
        Err(OpenError::Store(error)) => match error.advice() {
            Some(advice) => Answer::Failed(format!("{error}. {advice}")),
            None => Answer::Failed(error.to_string()),
        },
        Err(error) => Answer::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processes_of_the_home_s_user_are_heard() {
        assert!(same_user(1000, 1000));
        assert!(!same_user(0, 1000));
        assert!(!same_user(1000, 0));
    }
}
