//! Doors over HTTP: many agents reach one host, each by the token or the key that it shows.
//!
//! `/v1` is the HTTP API (`api`). `/mcp` is the protocol, without sessions. Each request says who makes it, and is served by a
//! [`Door`](crate::mcp::Door) that is made for that caller and that request. There is no other way to a door, so a request whose caller is not known reaches nothing. Beside it stand
//! what a client has to know to get a token (RFC 9728), and whether the process is up and ready. Its metrics are at an address of their own.
//!
//! Whoever comes finds a seat: see `seats`. What is not read, not sent or not ended in time is given up.
//!
//! With `[server.tls]` agents' listener speaks TLS, and a client can show in the handshake which workload it is: see `tls`. Without it,
//! something that speaks TLS stands in front, off this machine. The metrics' listener speaks plain HTTP.
#![expect(
    clippy::disallowed_types,
    reason = "the server listens, and its tests are clients on loopback"
)]

pub(crate) mod agents;
pub(crate) mod answer;
pub(crate) mod front;
mod line;
pub(crate) mod problem;
pub(crate) mod seats;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod tests_attacks;
#[cfg(test)]
mod tests_tls;
mod tls;
pub(crate) mod work;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ambit_core::identity::why::Why;
use ambit_core::policy::Mode;
use ambit_runtime::host::Host;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::identity::Authenticator;
use crate::signals::{Heard, Hears};
use crate::stdio::DoorError;
use front::Front;
use line::{Line, STALL};
use seats::Seats;

/// Connections of those who collect metrics.
const COLLECTORS: usize = 16;
/// Connections that are told to come later, at a time.
const TURNED_AWAY: usize = 64;
/// How long that may take.
const TURNED_AWAY_FOR: Duration = Duration::from_secs(2);
/// Threads beside those for what connections asked for.
const MORE_THREADS: usize = 32;
/// The most threads of that kind: what is beyond them waits for one. Calls have others, as many as run at once.
const MOST_THREADS: usize = 1_024;
/// How long clients may take for what they do, but in tests.
const PATIENCE: Patience = Patience {
    head: Duration::from_secs(30),
    body: Duration::from_secs(30),
    answer: STALL,
};
/// How often at most the log says that connections are turned away.
const TELL: Duration = Duration::from_secs(60);
/// Members of a request's head.
const MOST_HEADERS: usize = 64;
/// The longest head of a request, in bytes: a token has 8 KiB at most.
const HEAD_BYTES: usize = 32 << 10;
/// How long those take, at most, that were told to end then.
const STOP: Duration = Duration::from_secs(2);
/// How often it is looked whether the ledger failed.
const LOOK: Duration = Duration::from_millis(500);
/// How often it is looked whether anything still runs, once the server is told to end.
const LOOK_IDLE: Duration = Duration::from_millis(10);

/// Serves agents over HTTP at this address until a signal to end comes (SIGTERM, SIGINT), or the ledger fails. Then no request is
/// taken, calls may end for as long as the configuration says, and those that do not are suspended; a second signal ends the process at
/// once. At SIGHUP the host takes its files anew.
///
/// `listens` is told the address once requests are taken.
///
/// # Errors
/// Where the configuration has no `[server]`, the address cannot be had, or the ledger failed.
pub fn serve(
    host: &Host,
    listen: SocketAddr,
    mode: Mode,
    heard: Heard,
    listens: impl FnOnce(SocketAddr),
) -> Result<(), DoorError> {
    let callers = Authenticator::new(host)?;
    let server = host.config().server();
    let connections = server.map_or(0, |server| server.connections);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads())
        .max_blocking_threads((connections + MORE_THREADS).min(MOST_THREADS))
        .thread_name("ambit-http")
        .enable_all()
        .build()?;
    let hears = Hears::of(host, heard)?;
    let ends = hears.ends();
    runtime.block_on(async {
        let doors = Doors::open(listen, server.and_then(|server| server.metrics)).await?;
        let address = doors.agents.local_addr()?;
        let front = Arc::new(Front::new(host.clone(), callers, address, mode, doors.patience.body));
        listens(address);
        serve_on(doors, front, ends).await;
        Ok::<(), io::Error>(())
    })?;
    host.leave(STOP);
    // What still runs ends with the process.
    runtime.shutdown_timeout(STOP);
    match host.failed() {
        None => Ok(()),
        Some(why) => Err(DoorError::Ledger(why.to_owned())),
    }
}

/// Threads that read and write. What computes or blocks has threads of its own, so that one does for four cores: another would be woken for
/// what the first has done by the time it looks, and keep a core from those that compute.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(4))
}

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// To write the head of a request, and to leave a connection without one.
    head: Duration,
    /// To write its body.
    body: Duration,
    /// To read anything more of its answer.
    answer: Duration,
}

/// What is listened on.
struct Doors {
    agents: TcpListener,
    metrics: Option<TcpListener>,
    patience: Patience,
}

impl Doors {
    async fn open(agents: SocketAddr, metrics: Option<SocketAddr>) -> io::Result<Doors> {
        let agents = bound(agents).await?;
        let metrics = match metrics {
            Some(address) => Some(bound(address).await?),
            None => None,
        };
        Ok(Doors {
            agents,
            metrics,
            patience: PATIENCE,
        })
    }
}

async fn bound(listen: SocketAddr) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(listen).await;
    bound.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}")))
}

/// Takes connections until the process is told to end, and then waits for what runs.
async fn serve_on(doors: Doors, front: Arc<Front>, mut ends: watch::Receiver<bool>) {
    let (closing, closes) = watch::channel(false);
    let connections = front.host().config().server().map_or(0, |server| server.connections);
    let listening = |listener, router, seats, speaks| {
        Listening::new(
            listener,
            router,
            seats,
            speaks,
            doors.patience,
            closes.clone(),
            Arc::clone(&front),
        )
    };
    let agents = listening(
        doors.agents,
        front::router(Arc::clone(&front)),
        connections,
        Speaks::AsConfigured,
    );
    let metrics = doors.metrics.map(|listener| {
        listening(
            listener,
            front::metrics_router(Arc::clone(&front)),
            COLLECTORS,
            Speaks::Plain,
        )
    });
    let mut served = JoinSet::new();
    let mut turned_away = JoinSet::new();
    loop {
        tokio::select! {
            () = comes(&mut ends, |ends| *ends) => break,
            () = failed(front.host()) => break,
            Some(_) = served.join_next() => {}
            Some(_) = turned_away.join_next() => {}
            Some(stream) = agents.accepted() => agents.seat(stream, &mut served, &mut turned_away),
            Some(stream) = accepted_of(metrics.as_ref()) => {
                if let Some(metrics) = &metrics {
                    metrics.seat(stream, &mut served, &mut turned_away);
                }
            }
        }
    }
    drop((agents, metrics, turned_away));
    front.end();
    let host = front.host();
    host.close();
    // Nobody may be connected.
    let _ = closing.send(true);
    if timeout(host.drain(), idle(&mut served, &front)).await.is_ok() {
        return;
    }
    host.suspend();
    if timeout(STOP, idle(&mut served, &front)).await.is_err() {
        tracing::warn!("not everything ended in time");
    }
}

/// Waits until nobody is connected, and nothing runs: not what goes on from before either.
async fn idle(served: &mut JoinSet<()>, front: &Front) {
    while served.join_next().await.is_some() {}
    // Clients of calls that outlive them are gone.
    front.agents().calls().none().await;
    while !front.host().is_idle() {
        sleep(LOOK_IDLE).await;
    }
}

/// Waits until that is so: for ever, where nobody can say so any more.
async fn comes<T>(said: &mut watch::Receiver<T>, so: impl FnMut(&T) -> bool) {
    if said.wait_for(so).await.is_err() {
        std::future::pending().await
    }
}

async fn failed(host: &Host) {
    while host.failed().is_none() {
        sleep(LOOK).await;
    }
}

async fn accepted_of(listening: Option<&Listening>) -> Option<TcpStream> {
    match listening {
        Some(listening) => listening.accepted().await,
        None => std::future::pending().await,
    }
}

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug)]
enum Speaks {
    /// HTTP in the clear.
    Plain,
    /// TLS where the configuration has `[server.tls]`.
    AsConfigured,
}

/// What a client is asked for in its handshake.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asks {
    /// Its certificate, where workloads are known by theirs.
    WhoItIs,
    /// Nothing: whoever it is, it is told to come later, and that is to cost little.
    Nothing,
}

/// A listener, with what is served there.
struct Listening {
    listener: TcpListener,
    router: Router,
    seats: Arc<Seats>,
    speaks: Speaks,
    patience: Patience,
    closes: watch::Receiver<bool>,
    front: Arc<Front>,
    /// When the log last said that connections are turned away.
    told: Mutex<Option<Instant>>,
}

impl Listening {
    fn new(
        listener: TcpListener,
        router: Router,
        seats: usize,
        speaks: Speaks,
        patience: Patience,
        closes: watch::Receiver<bool>,
        front: Arc<Front>,
    ) -> Listening {
        Listening {
            listener,
            router,
            seats: Seats::new(seats),
            speaks,
            patience,
            closes,
            front,
            told: Mutex::default(),
        }
    }

    /// The next connection; none where it was gone before, or the process has no more of what it takes.
    async fn accepted(&self) -> Option<TcpStream> {
        match self.listener.accept().await {
            Ok((stream, _)) => Some(stream),
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be taken");
                // What it takes may be there again soon: not in a loop that is never idle.
                sleep(Duration::from_millis(100)).await;
                None
            }
        }
    }

    /// Serves a connection where there is a seat for it, and else has it told to come later; where too many are told so already it is
    /// closed.
    fn seat(&self, stream: TcpStream, served: &mut JoinSet<()>, turned_away: &mut JoinSet<()>) {
        match self.seats.take().map(Arc::new) {
            Some(seat) => {
                let router = self.router.clone().layer(Extension(Arc::clone(&seat)));
                let serving = self.connection(stream, router, Asks::WhoItIs);
                served.spawn(async move {
                    tokio::select! {
                        () = serving => {}
                        () = seat.lost() => tracing::debug!("an idle connection made room for another"),
                    }
                });
            }
            None if turned_away.len() < TURNED_AWAY => {
                self.tell();
                self.front.note(Why::Connections);
                let serving = self.connection(stream, front::full(), Asks::Nothing);
                turned_away.spawn(async move { drop(timeout(TURNED_AWAY_FOR, serving).await) });
            }
            None => self.front.note(Why::Connections),
        }
    }

    /// Serves a connection, once its handshake is done where there is one.
    fn connection(&self, stream: TcpStream, router: Router, asks: Asks) -> impl Future<Output = ()> + Send + use<> {
        let (speaks, patience, front) = (self.speaks, self.patience, Arc::clone(&self.front));
        let mut closes = self.closes.clone();
        async move {
            // Without it an answer in two pieces waits for the client's word that it has the first.
            drop(stream.set_nodelay(true));
            // Below TLS: what a client does not read is looked at where it is sent, handshakes and alerts included.
            let line = Line::new(stream, patience.answer);
            let tls = match speaks {
                Speaks::Plain => None,
                Speaks::AsConfigured => front.agents().now().tls(asks),
            };
            let Some(tls) = tls else {
                return requests(line, router, patience, closes).await;
            };
            let shaken = tokio::select! {
                shaken = timeout(patience.head, tls::shake(line, tls, &front)) => shaken.ok().flatten(),
                () = comes(&mut closes, |closes| *closes) => None,
            };
            match shaken {
                Some((stream, Some(peer))) => {
                    let router = router.layer(Extension(Arc::new(peer)));
                    requests(stream, router, patience, closes).await;
                }
                Some((stream, None)) => requests(stream, router, patience, closes).await,
                None => {}
            }
        }
    }

    /// Nobody fills the log by coming often.
    fn tell(&self) {
        let mut told = self.told.lock();
        if told.is_none_or(|told| told.elapsed() >= TELL) {
            *told = Some(Instant::now());
            tracing::warn!("connections are turned away: as many as there may be (`connections` of [server]) are busy");
        }
    }
}

/// Serves what comes over a connection, a request at a time.
async fn requests<S>(stream: S, router: Router, patience: Patience, mut closes: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_headers(MOST_HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = comes(&mut closes, |closes| *closes) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
