//! The operators' socket as the process serves it that holds the home.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ambit_core::error::{Code, Refusal, printable};
use ambit_core::grant::Limits;
use ambit_core::ledger::body::OperatorShown;
use parking_lot::{Condvar, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::WriteHalf;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use crate::call::{Listener, Progress};
use crate::host::{Host, OpenError};

use super::perform::{Seat, perform};
use super::{Answer, LONGEST_ANSWER, LONGEST_REQUEST, PATIENCE, Request, SOCKET};

/// What the socket is called until only its owner can open it.
const UNFINISHED: &str = "operators.new";
/// Connections that are served at once: more than [`MOST_LONG`], so that a stop is heard whatever is under way.
const AT_ONCE: u32 = 32;
/// Acts at once that take long.
const MOST_LONG: usize = 16;
/// What a tool says of how far it is, kept for who asked: more of it at once is dropped.
const PROGRESS: usize = 16;
/// How much of a tool's words is passed on, in characters.
const WORDS: usize = 200;
/// What an act takes beside its call, at most: the ledger, and what is read to begin with.
const BESIDE: Duration = Duration::from_secs(30);

/// The socket, served until dropped.
pub(crate) struct Operators {
    path: PathBuf,
    desk: Arc<Served>,
    end: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Operators {
    /// Serves the home that this process holds. `host` has no operators of its own: it is let go of before its home's owner is.
    ///
    /// # Errors
    /// Where the socket cannot be made: a host that cannot be stopped does not start.
    pub(crate) fn serve(home: &Path, host: Host) -> Result<Operators, OpenError> {
        let listener = listen(home)?;
        let path = home.join(SOCKET);
        let no_thread = |error: io::Error| OpenError::Home(format!("operators cannot be served: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(no_thread)?;
        let (end, ended) = watch::channel(false);
        let desk = Arc::new(Served {
            under_way: Mutex::default(),
            done: Condvar::new(),
        });
        let served = Arc::clone(&desk);
        let thread = thread::Builder::new()
            .name("ambit-operators".to_owned())
            .spawn(move || runtime.block_on(serve(listener, &host, &served, ended)))
            .map_err(no_thread)?;
        Ok(Operators {
            path,
            desk,
            end,
            thread: Some(thread),
        })
    }
}

impl Operators {
    /// Does what an operator asks for who was not heard on the socket, within the same bounds.
    ///
    /// # Errors
    /// As the acts themselves.
    fn act(&self, host: &Host, request: Request, by: &OperatorShown) -> Result<Answer, OpenError> {
        let begun = match self.desk.begin(&request, host.has_all_tools()) {
            Ok(begun) => begun,
            Err(answer) => return Ok(answer),
        };
        let done = perform(Seat::Host(host), request, Some(by), None);
        drop(begun);
        done
    }
}

impl Host {
    /// Does what an operator asks for who was heard over HTTP, who stands on the ledger with it: on this thread, for as long as that takes.
    ///
    /// # Errors
    /// What it is refused with. An [`Answer::Busy`] or [`Answer::Refused`] is another way to say that nothing was done.
    pub fn operate(&self, request: Request, by: &OperatorShown) -> Result<Answer, OpenError> {
        match &self.operators {
            Some(operators) => operators.act(self, request, by),
            None => perform(Seat::Host(self), request, Some(by), None),
        }
    }
}

impl Drop for Operators {
    /// Begins nothing more, and waits until what was asked is done and answered, so that the ledger is this process's to the end of it.
    /// Stops are heard meanwhile.
    fn drop(&mut self) {
        self.desk.end();
        // Whoever connects from now on finds nobody, and waits for the home.
        drop(fs::remove_file(&self.path));
        self.end.send_replace(true);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl std::fmt::Debug for Operators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Operators({})", self.path.display())
    }
}

/// What is under way for operators.
struct Served {
    under_way: Mutex<UnderWay>,
    done: Condvar,
}

#[derive(Default)]
struct UnderWay {
    /// Acts that have begun and are not done.
    acts: usize,
    /// Those of them that take long.
    long: usize,
    /// Whether the host ends, and nothing begins any more.
    ends: bool,
}

/// An act that has begun, until dropped.
struct Begun {
    served: Arc<Served>,
    long: bool,
}

impl Served {
    /// The right to do something; else what is answered in its place.
    fn begin(self: &Arc<Self>, request: &Request, all_tools: bool) -> Result<Begun, Answer> {
        let mut under_way = self.under_way.lock();
        if !ambit_core::guard!("operators.ends", !under_way.ends || request.is_about_stops()) {
            return Err(Answer::Busy);
        }
        if !ambit_core::guard!("operators.tools", all_tools || !request.takes_tools()) {
            return Err(Answer::Busy);
        }
        let long = request.takes_long();
        if !ambit_core::guard!("operators.long", !long || under_way.long < MOST_LONG) {
            let why = format!("{MOST_LONG} acts of operators are under way that take long, and no more may be at once");
            return Err(Answer::Refused(
                Refusal::new(Code::Limit, why).advise("nothing was done; say it again later"),
            ));
        }
        under_way.acts += 1;
        under_way.long += usize::from(long);
        Ok(Begun {
            served: Arc::clone(self),
            long,
        })
    }

    /// Begins nothing more, and waits for what has begun.
    fn end(&self) {
        let mut under_way = self.under_way.lock();
        under_way.ends = true;
        self.done.wait_while(&mut under_way, |under_way| under_way.acts > 0);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut under_way = self.served.under_way.lock();
        under_way.acts = under_way.acts.saturating_sub(1);
        under_way.long = under_way.long.saturating_sub(usize::from(self.long));
        self.served.done.notify_all();
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

/// Takes connections until the host ends, and then waits for those that have something to be told.
async fn serve(listener: UnixListener, host: &Host, served: &Arc<Served>, mut ended: watch::Receiver<bool>) {
    let Ok(listener) = tokio::net::UnixListener::from_std(listener) else {
        tracing::error!("operators are not served: their socket cannot be waited for");
        return;
    };
    let places = Arc::new(Semaphore::new(AT_ONCE as usize));
    let connections = Connections {
        host: host.clone(),
        served: Arc::clone(served),
        ended: ended.clone(),
    };
    tokio::select! {
        _ = ended.wait_for(|ended| *ended) => {}
        () = accept(&listener, &places, &connections) => {}
    }
    drop(timeout(PATIENCE * 2, places.acquire_many(AT_ONCE)).await);
}

/// What every connection has.
#[derive(Clone)]
struct Connections {
    host: Host,
    served: Arc<Served>,
    ended: watch::Receiver<bool>,
}

async fn accept(listener: &tokio::net::UnixListener, places: &Arc<Semaphore>, connections: &Connections) {
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
        let Ok(place) = Arc::clone(places).acquire_owned().await else {
            return;
        };
        let connections = connections.clone();
        tokio::spawn(async move {
            // A connection that breaks is its own matter.
            drop(connections.converse(stream).await);
            drop(place);
        });
    }
}

/// Whether the process at the other end is of the same user as this one.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| same_user(peer.uid(), own))
}

/// Not even the superuser's processes, unless this is one: who may act on a home is whoever it belongs to.
fn same_user(peer: u32, own: u32) -> bool {
    ambit_core::guard!("operators.same-user", peer == own)
}

impl Connections {
    /// One request, what is done about it, and what came of that.
    async fn converse(mut self, mut stream: UnixStream) -> io::Result<()> {
        let (reading, mut writing) = stream.split();
        let mut line = Vec::new();
        let mut reading = tokio::io::BufReader::new(reading.take(LONGEST_REQUEST as u64));
        let read = tokio::select! {
            read = timeout(PATIENCE, reading.read_until(b'\n', &mut line)) => read,
            // Nothing was asked yet.
            _ = self.ended.wait_for(|ended| *ended) => return Ok(()),
        };
        let answer = match read {
            Ok(Ok(_)) => match read_request(&line) {
                Ok(request) => self.act(request, &mut writing).await?,
                Err(refusal) => Answer::Refused(refusal),
            },
            Ok(Err(error)) => return Err(error),
            Err(_) => refused("no whole request came in time"),
        };
        say(&mut writing, &answer).await?;
        writing.shutdown().await
    }

    /// Does what is asked, once who asks knows that it is heard.
    async fn act(&self, request: Request, writing: &mut WriteHalf<'_>) -> io::Result<Answer> {
        let begun = match self.served.begin(&request, self.host.current().has_all_tools()) {
            Ok(begun) => begun,
            Err(answer) => return Ok(answer),
        };
        let within_ms = u64::try_from(longest(&self.host).as_millis()).unwrap_or(u64::MAX);
        // Whoever is gone by now is told nothing, and nothing is done.
        say(writing, &Answer::Begun { within_ms }).await?;
        if !request.takes_long() {
            let answer = told(perform(Seat::Host(&self.host), request, None, None));
            drop(begun);
            return Ok(answer);
        }
        let (tell, mut answers) = mpsc::channel(PROGRESS);
        let host = self.host.clone();
        let spawned = thread::Builder::new().name("ambit-operator".to_owned()).spawn(move || {
            act(&host, request, &tell);
            // The home is its owner's again once nothing is under way.
            drop((tell, host));
            drop(begun);
        });
        if let Err(error) = spawned {
            return Ok(Answer::Failed(format!(
                "there is no thread for it, and nothing was done: {error}"
            )));
        }
        // It goes on to its end also where nobody waits for that any more.
        while let Some(answer) = answers.recv().await {
            match answer {
                progress @ Answer::Progress { .. } => say(writing, &progress).await?,
                answer => return Ok(answer),
            }
        }
        Ok(Answer::Failed("the host failed while it did that".to_owned()))
    }
}

/// Does something on a thread of its own.
fn act(host: &Host, request: Request, tell: &mpsc::Sender<Answer>) {
    let progress = tell.clone();
    let listener = Listener::new(move |progress_of: Progress<'_>| {
        // It must not wait: what is too much at once is not passed on.
        drop(progress.try_send(Answer::Progress {
            done: progress_of.done,
            total: progress_of.total,
            message: progress_of.message.chars().take(WORDS).collect(),
        }));
    });
    let answer = told(perform(Seat::Host(host), request, None, Some(listener)));
    // Where nobody waits for it any more, the ledger has it.
    drop(tell.blocking_send(answer));
}

/// How long an act can take: until its call has a place, runs, and waits for services.
fn longest(host: &Host) -> Duration {
    let host = host.current();
    let config = &host.shared.config;
    let of = |limits: &Limits| {
        let computing = limits.wall_ms.saturating_mul(2);
        Duration::from_millis(computing.saturating_add(limits.upstream_ms))
    };
    let tools = config.tools().values().map(|tool| of(&tool.limits));
    let longest = tools.chain([of(config.limits())]).max().unwrap_or_default();
    longest.saturating_add(BESIDE)
}

async fn say(writing: &mut WriteHalf<'_>, answer: &Answer) -> io::Result<()> {
    let mut text = serde_json::to_vec(answer)?;
    if text.len() >= LONGEST_ANSWER {
        let why = "it is done, and what came of it is too long to be told here: it is on the ledger";
        text = serde_json::to_vec(&Answer::Failed(why.to_owned()))?;
    }
    text.push(b'\n');
    timeout(PATIENCE * 2, writing.write_all(&text)).await?
}

fn not_heard(why: &str) -> Refusal {
    let advice = format!(
        "a request is one line of JSON, at most {} KiB long",
        LONGEST_REQUEST >> 10
    );
    Refusal::new(Code::Arguments, why).advise(advice)
}

fn refused(why: &str) -> Answer {
    Answer::Refused(not_heard(why))
}

/// Reads the line that a request is, with its end.
///
/// # Errors
/// [`Code::Arguments`] where it is none.
pub fn read_request(line: &[u8]) -> Result<Request, Refusal> {
    let line = line
        .strip_suffix(b"\n")
        .ok_or_else(|| not_heard("the request has no end of line, or is too long"))?;
    serde_json::from_slice(line)
        .map_err(|error| not_heard(&format!("that is no request: {}", printable(&error.to_string()))))
}

/// What came of an act.
fn told(done: Result<Answer, OpenError>) -> Answer {
    match done {
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

    fn resume() -> Request {
        Request::Resume { call: String::new() }
    }

    fn vote() -> Request {
        Request::Vote {
            note: String::new(),
            reason: None,
        }
    }

    fn stop() -> Request {
        Request::Stop {
            kind: ambit_core::stop::Kind::Kill,
            scope: ambit_core::stop::Scope::Everything,
            reason: String::new(),
        }
    }

    fn served() -> Arc<Served> {
        Arc::new(Served {
            under_way: Mutex::default(),
            done: Condvar::new(),
        })
    }

    #[test]
    fn acts_that_take_long_are_bounded_and_others_are_heard_beside_them() {
        let served = served();
        let begin = |request: &Request| served.begin(request, true);
        let mut long: Vec<Begun> = (0..MOST_LONG).filter_map(|_| begin(&resume()).ok()).collect();
        assert_eq!(long.len(), MOST_LONG);
        assert!(matches!(begin(&resume()), Err(Answer::Refused(refusal)) if refusal.code == Code::Limit));
        // One that waits for what its call does just then takes long too.
        assert!(matches!(begin(&vote()), Err(Answer::Refused(_))));
        assert!(begin(&stop()).is_ok());
        assert!(begin(&Request::Status).is_ok());
        drop(long.pop());
        assert!(begin(&resume()).is_ok());
        assert_eq!(served.under_way.lock().acts, MOST_LONG - 1);
    }

    #[test]
    fn a_host_that_ends_hears_of_stops_alone_and_waits_for_what_has_begun() {
        let served = served();
        let begun = served.begin(&resume(), true);
        let ends = {
            let served = Arc::clone(&served);
            thread::spawn(move || served.end())
        };
        while !served.under_way.lock().ends {
            thread::yield_now();
        }
        assert!(matches!(served.begin(&vote(), true), Err(Answer::Busy)));
        assert!(matches!(served.begin(&resume(), true), Err(Answer::Busy)));
        assert!(served.begin(&Request::Status, true).is_ok());
        assert!(!ends.is_finished());
        drop(begun);
        assert!(ends.join().is_ok());
    }

    #[test]
    fn a_host_with_some_of_the_tools_goes_on_with_no_call() {
        let served = served();
        assert!(matches!(served.begin(&resume(), false), Err(Answer::Busy)));
        assert!(served.begin(&vote(), false).is_ok());
    }

    #[test]
    fn only_processes_of_the_home_s_user_are_heard() {
        assert!(same_user(1000, 1000));
        assert!(!same_user(0, 1000));
        assert!(!same_user(1000, 0));
    }
}
