//! How operators are heard while a host runs: a socket in the home, for the home's owner alone.
//!
//! One process holds a home. It serves a Unix socket that only its own user can open, and looks at whose process connects;
//! what it is asked there are operators' acts, which must not wait until the host ends: stopping above all, and the votes that its calls
//! wait for. Callers have no way to it: no guest has a socket or a file, and no door of agents leads here. A [`Desk`] asks the process
//! that holds the home, or does the same itself where there is none; either way it is `perform` that does it.
//!
//! A request is one line of JSON, of bounded size, in bounded time, on a connection of its own. What is heard is first said to have begun,
//! then it is done, whether or not anybody waits for the answer; so what was not said to have begun is not done. Whatever else comes is
//! answered with an error or not at all, and harms nothing but its connection.

mod perform;
mod request;
mod socket;

pub use request::{Answer, Request, Status};
pub(crate) use socket::Operators;
pub use socket::read_request;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ambit_core::error::{Code, Refusal};
use ambit_core::ledger::body::ActRefused;

use crate::call::{Listener, Progress};
use crate::home;
use crate::host::{self, Host, OpenError};
use crate::store::{Faults, Keys, Store, StoreError};

use perform::{Seat, perform};

/// The socket within a home.
const SOCKET: &str = "operators.sock";
/// The longest request, in bytes, its end of line included: the changes of an edit are 64 KiB of JSON, which quotes make longer here.
const LONGEST_REQUEST: usize = 256 << 10;
/// The longest answer, in bytes: a call's result, or what it waits with, and what JSON makes of that.
const LONGEST_ANSWER: usize = 64 << 20;
/// How long either side may take to send what it has to.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an act waits for a home that a process holds which does not serve: one that starts, ends, or does an act of its own.
const HELD: Duration = Duration::from_secs(5);

/// Where an operator's acts are done: in the process that holds the home, or in this one, which holds it from then on.
pub struct Desk<'d> {
    home: PathBuf,
    /// Opens the home, where nobody holds it and an act takes a host.
    open: Option<Box<dyn Fn() -> Result<Host, OpenError> + 'd>>,
    host: Option<Host>,
}

impl std::fmt::Debug for Desk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Desk({}, {:?})", self.home.display(), self.host)
    }
}

impl<'d> Desk<'d> {
    /// Of a home. `open` opens it, once, where no process serves it and an act takes a host.
    pub fn new(home: &Path, open: impl Fn() -> Result<Host, OpenError> + 'd) -> Desk<'d> {
        Desk {
            home: home.to_owned(),
            open: Some(Box::new(open)),
            host: None,
        }
    }

    /// Does what an operator asks for. Blocks as long as that takes; `listener` is told how far the tool of a call says it is.
    ///
    /// # Errors
    /// What the act is refused with; [`StoreError::InUse`] where a process holds the home and does not serve operators. Where the other
    /// process begins and does not say what came of it, that may be done.
    pub fn act(&mut self, request: &Request, listener: Option<&Listener>) -> Result<Answer, OpenError> {
        let began = Instant::now();
        loop {
            match self.once(request, listener) {
                Ok(Answer::Refused(refusal)) => return Err(refusal.into()),
                Ok(Answer::Failed(why)) => return Err(OpenError::Home(why)),
                Ok(Answer::Busy) if began.elapsed() >= HELD => return Err(self.busy().into()),
                Ok(Answer::Busy) | Err(OpenError::Store(StoreError::InUse { .. })) if began.elapsed() < HELD => {
                    thread::sleep(Duration::from_millis(20));
                }
                other => return other,
            }
        }
    }

    fn once(&mut self, request: &Request, listener: Option<&Listener>) -> Result<Answer, OpenError> {
        if self.host.is_none() {
            if let Some(answer) = asked(&self.home, request, listener)? {
                return Ok(answer);
            }
            if let (true, Some(open)) = (request.takes_a_host(), &self.open) {
                self.host = Some(open()?);
            }
        }
        match &self.host {
            Some(host) => perform(Seat::Host(host), request.clone(), None, listener.cloned()),
            None => {
                let store = home::open_store(&self.home)?;
                perform(Seat::Ledger(&store, &self.home), request.clone(), None, None)
            }
        }
    }

    fn busy(&self) -> Refusal {
        let why = format!(
            "the process that holds {} ends, or has loaded some of the tools alone: it takes no such act, and nothing was done",
            self.home.display()
        );
        Refusal::new(Code::Ledger, why).advise("say it again once that process has ended")
    }
}

/// Does what an operator asks of the ledger alone: over the socket of the process that holds the home, else by opening the home's ledger.
///
/// # Errors
/// As [`Desk::act`].
pub fn act(home: &Path, request: &Request) -> Result<Answer, OpenError> {
    let mut desk = Desk {
        home: home.to_owned(),
        open: None,
        host: None,
    };
    desk.act(request, None)
}

/// Has it on the ledger that an act was refused where no host saw it: over the operators' socket, else by opening the ledger as it is,
/// also where the configuration cannot be read.
///
/// # Errors
/// Where there is no ledger, or it cannot be written.
pub fn note_refused(home: &Path, refused: ActRefused) -> Result<(), OpenError> {
    let request = Request::Refused {
        refused: refused.clone(),
    };
    if ask(home, &request)?.is_some() {
        return Ok(());
    }
    let store = Store::open(home, Keys::load(home)?, host::store_options(None)?, Faults::default())?;
    home::act_refused(&store, refused).map(drop)
}

/// Asks the process that holds the home; none where nobody serves it.
///
/// # Errors
/// Where somebody does, and no answer comes that can be read; where the request is longer than one may be.
pub fn ask(home: &Path, request: &Request) -> Result<Option<Answer>, OpenError> {
    asked(home, request, None)
}

fn asked(home: &Path, request: &Request, listener: Option<&Listener>) -> Result<Option<Answer>, OpenError> {
    let path = home.join(SOCKET);
    let failed = |error: io::Error| {
        OpenError::Home(format!(
            "the process that holds {} does not answer on {SOCKET}: {error}",
            home.display()
        ))
    };
    let stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        // Nobody listens: no host runs, or it was killed and left its socket behind.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        // No host can run on a home whose socket has no name.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut line = serde_json::to_vec(request).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    if line.len() > LONGEST_REQUEST {
        let why = format!(
            "the request has {} bytes; the process that holds the home takes {LONGEST_REQUEST} at most",
            line.len()
        );
        return Err(Refusal::new(Code::Arguments, why)
            .advise("shorten the reason, or what is changed")
            .into());
    }
    let mut asked = Asked::new(stream);
    match asked.exchange(&line, listener) {
        Ok(answer) => Ok(Some(answer)),
        // It was not heard: whoever serves the home ends.
        Err(error) if !asked.heard && is_gone(&error) => Ok(Some(Answer::Busy)),
        Err(error) if !asked.heard => Err(failed(error)),
        Err(error) => {
            let home = home.display();
            let what = match is_gone(&error) {
                true => "ended before it said what came of it",
                false => "has not said yet what came of it",
            };
            Err(OpenError::Home(format!(
                "the process that holds {home} began, and {what} ({error}). Whatever it did is on the ledger: `ambit audit list`, `ambit calls`"
            )))
        }
    }
}

/// Whether the other side closed the connection.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// A connection to the process that holds the home.
struct Asked {
    answers: BufReader<io::Take<UnixStream>>,
    /// Whether the request was read: it is done then, whatever becomes of the connection.
    heard: bool,
}

impl Asked {
    fn new(stream: UnixStream) -> Asked {
        Asked {
            answers: BufReader::new(stream.take(0)),
            heard: false,
        }
    }

    fn exchange(&mut self, line: &[u8], listener: Option<&Listener>) -> io::Result<Answer> {
        let mut stream = self.answers.get_ref().get_ref();
        stream.set_read_timeout(Some(PATIENCE * 5))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // Where it cannot all be written, there may be an answer all the same.
        let written = stream.write_all(line);
        let mut until = None;
        loop {
            match self.next() {
                Err(error) => return Err(written.err().unwrap_or(error)),
                Ok(Answer::Begun { within_ms }) => {
                    self.heard = true;
                    until = Instant::now().checked_add(Duration::from_millis(within_ms));
                }
                Ok(Answer::Progress { done, total, message }) => {
                    let message = message.as_str();
                    if let Some(listener) = listener {
                        listener.tell(Progress { done, total, message });
                    }
                }
                Ok(answer) => return Ok(answer),
            }
            if let Some(until) = until {
                let left = until.saturating_duration_since(Instant::now());
                let left = left.max(Duration::from_millis(1));
                self.answers.get_ref().get_ref().set_read_timeout(Some(left))?;
            }
        }
    }

    fn next(&mut self) -> io::Result<Answer> {
        self.answers.get_mut().set_limit(LONGEST_ANSWER as u64);
        let mut text = String::new();
        self.answers.read_line(&mut text)?;
        if !text.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&text)?)
    }
}
