//! Doors over HTTP: many agents reach one host, each by the token or the key that it shows.
//!
//! `/mcp` is the protocol, without sessions: each request says who makes it, and is served by a [`Door`](crate::mcp::Door) that is made for
//! that caller and that request. There is no other way to a door, so a request whose caller is not known reaches nothing. Beside it stand
//! what a client has to know to get a token (RFC 9728), whether the process is up and ready, and its metrics for this machine.
//!
//! There is no TLS here: off this machine, something that speaks it stands in front.

mod agents;
mod front;
mod problem;
#[cfg(test)]
#[expect(clippy::disallowed_types, reason = "clients on loopback")]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ambit_core::policy::Mode;
use ambit_runtime::host::Host;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
#[expect(clippy::disallowed_types, reason = "the server listens")]
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::identity::Authenticator;
use crate::stdio::DoorError;
use front::{Front, Peer};

/// Connections at a time. One more waits until another is closed.
const CONNECTIONS: usize = 256;
/// How long a client may take to write the head of a request, and to leave a connection without one.
const HEAD: Duration = Duration::from_secs(30);
/// Members of a request's head.
const MOST_HEADERS: usize = 64;
/// The longest head of a request, in bytes: a token has 8 KiB at most.
const HEAD_BYTES: usize = 32 << 10;
/// How long calls go on once the server is told to end.
const DRAIN: Duration = Duration::from_secs(10);
/// How long those take, at most, that were told to end then.
const STOP: Duration = Duration::from_secs(2);
/// How often it is looked whether the ledger failed.
const LOOK: Duration = Duration::from_millis(500);

/// Serves agents over HTTP at this address until a signal to end comes (SIGTERM, SIGINT), or the ledger fails. Then no request is
/// taken, calls may end for ten seconds, and those that do not are taken back; a second signal does so at once.
///
/// `listens` is told the address once requests are taken.
///
/// # Errors
/// Where the configuration has no `[server]`, the address cannot be had, or the ledger failed.
pub fn serve(host: &Host, listen: SocketAddr, mode: Mode, listens: impl FnOnce(SocketAddr)) -> Result<(), DoorError> {
    let callers = Authenticator::new(host)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("ambit-http")
        .enable_all()
        .build()?;
    let (_hears, ends) = signals()?;
    runtime.block_on(async {
        let listener = bound(listen).await?;
        let address = listener.local_addr()?;
        let front = Arc::new(Front::new(host.clone(), callers, address, mode));
        listens(address);
        serve_on(listener, front, ends).await;
        Ok::<(), io::Error>(())
    })?;
    // What still runs ends with the process.
    runtime.shutdown_timeout(STOP);
    match host.failed() {
        None => Ok(()),
        Some(why) => Err(DoorError::Ledger(why.to_owned())),
    }
}

#[expect(clippy::disallowed_types, reason = "the server listens")]
async fn bound(listen: SocketAddr) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(listen).await;
    bound.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}")))
}

/// Hears signals, until dropped.
struct Hears(signal_hook::iterator::Handle);

impl Drop for Hears {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Counts the signals to end.
fn signals() -> io::Result<(Hears, watch::Receiver<u32>)> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let hears = Hears(signals.handle());
    let (says, ends) = watch::channel(0);
    thread::Builder::new().name("ambit-signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            says.send_modify(|count| *count += 1);
        }
    })?;
    Ok((hears, ends))
}

/// Takes connections until `ends` counts the first signal, and then waits for what runs.
#[expect(clippy::disallowed_types, reason = "the server listens")]
async fn serve_on(listener: TcpListener, front: Arc<Front>, mut ends: watch::Receiver<u32>) {
    let router = front::router(Arc::clone(&front));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (closing, closes) = watch::channel(false);
    let mut served = JoinSet::new();
    loop {
        tokio::select! {
            () = comes(&mut ends, |count| *count > 0) => break,
            () = failed(front.host()) => break,
            Some(_) = served.join_next() => {}
            Some((stream, peer, place)) = accepted(&listener, &places) => {
                let router = router.clone().layer(Extension(Peer(peer)));
                served.spawn(connection(stream, router, closes.clone(), place));
            }
        }
    }
    drop(listener);
    front.end();
    // Nobody may be connected.
    let _ = closing.send(true);
    tokio::select! {
        () = all(&mut served) => return,
        () = comes(&mut ends, |count| *count > 1) => {}
        () = sleep(DRAIN) => {}
    }
    front.calls().stop();
    if timeout(STOP, all(&mut served)).await.is_err() {
        tracing::warn!("not everything ended in time");
    }
}

/// Waits until that is so: for ever, where nobody can say so any more.
async fn comes<T>(said: &mut watch::Receiver<T>, so: impl FnMut(&T) -> bool) {
    if said.wait_for(so).await.is_err() {
        std::future::pending().await
    }
}

async fn all(served: &mut JoinSet<()>) {
    while served.join_next().await.is_some() {}
}

async fn failed(host: &Host) {
    while host.failed().is_none() {
        sleep(LOOK).await;
    }
}

/// The next connection, once there is a place for it; none where it was gone before, or the process has no more of what it takes.
#[expect(clippy::disallowed_types, reason = "the server listens")]
async fn accepted(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be taken");
            // What it takes may be there again soon: not in a loop that is never idle.
            sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// Serves a connection, a request at a time. One that its client closes takes back what it asked for.
#[expect(clippy::disallowed_types, reason = "a client's")]
async fn connection(
    stream: TcpStream,
    router: Router,
    mut closes: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    // Without it an answer in two pieces waits for the client's word that it has the first.
    drop(stream.set_nodelay(true));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
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
