//! One effect, from its committed intent to its answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::effect::HttpRequest;
use ambit_core::error::{Code, Refusal, printable};
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use tokio::time::Instant;

use super::line::{Answer, Broken, Line};
use super::mint::Pass;
use super::resolve::{Resolve, System};
use super::upstream::Upstream;
use crate::store::{Durable, Leave};

/// Limits of one effect.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From the first look at the name to the last byte of the answer.
    pub time: Duration,
    /// Bytes of the answer's body.
    pub answer_bytes: usize,
}

/// What went over the connection for one effect, above TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of the request, head included.
    pub sent_bytes: u64,
    /// Bytes of the answer, head included.
    pub received_bytes: u64,
    /// Milliseconds from the first look at the name.
    pub ms: u64,
}

/// An answer, with the connection's secrets covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// HTTP status, 200 to 599 (an interim answer is not one).
    pub status: u16,
    /// Names in lower case, in the order received; values that are not text are left out.
    pub headers: Vec<(String, String)>,
    /// The whole body, as it came.
    pub body: Bytes,
    /// How long the service wants to be left alone: `Retry-After` of 429 or 503, an hour at most.
    pub later: Option<Duration>,
    /// What it took.
    pub traffic: Traffic,
}

/// No usable answer.
#[derive(Clone, Debug, PartialEq)]
pub enum SendError {
    /// Nothing left this host. The effect did not happen.
    NotSent(Refusal),
    /// Something left and no status came back: whether the effect happened is not known.
    Unknown(Failed),
    /// Something left and no status came back in time: the same, and the service may still be at work.
    Late(Failed),
    /// Something left, and an operator stopped the call before a status came back: the same.
    Stopped(Failed),
    /// The service answered with this status; the rest of its answer cannot be used.
    Unusable {
        /// HTTP status.
        status: u16,
        /// How long the service wants to be left alone.
        later: Option<Duration>,
        /// Why, and what it took.
        failed: Failed,
    },
}

/// What is known of a failure after something was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// One clause for people, without any secret.
    pub why: String,
    /// What it took.
    pub traffic: Traffic,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::NotSent(refusal) => write!(f, "nothing was sent: {refusal}"),
            SendError::Unknown(failed) => write!(f, "sent, and it is not known what became of it: {}", failed.why),
            SendError::Late(failed) => write!(f, "sent, and no answer came in time: {}", failed.why),
            SendError::Stopped(failed) => write!(f, "sent, and stopped before the answer came: {}", failed.why),
            SendError::Unusable { status, failed, .. } => write!(f, "answered with {status}, and {}", failed.why),
        }
    }
}

impl std::error::Error for SendError {}

/// The process's door to the network.
#[derive(Clone)]
pub struct Wire(Way);

/// Where requests go.
#[derive(Clone)]
enum Way {
    Network(Arc<dyn Resolve>),
    /// Nowhere: each is answered with this.
    Memory(Arc<Response<Bytes>>),
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Default for Wire {
    fn default() -> Wire {
        Wire::with_resolver(Arc::new(System))
    }
}

impl Wire {
    /// With another resolver than the system's, as tests have.
    pub fn with_resolver(resolver: Arc<dyn Resolve>) -> Wire {
        Wire(Way::Network(resolver))
    }

    /// One that sends nothing and answers every request alike. For measuring what the gate does itself.
    pub fn answering(response: Response<Bytes>) -> Wire {
        Wire(Way::Memory(Arc::new(response)))
    }

    /// Sends the request that `durable` is the leave for, once, and waits for its answer. `own` are the
    /// headers that the host sets for this effect: the key by which the service knows a repeated request, the version that it is about. Called by the call's thread, one effect at a time; whatever comes back is written to the
    /// ledger before the guest sees it. Dropping the future closes the connection: what became of the effect is then unknown.
    ///
    /// # Errors
    /// [`SendError`]: whether something left, and whether a status came back.
    pub async fn send(
        &self,
        up: &Upstream,
        durable: Durable,
        own: &[(&str, &str)],
        bounds: Bounds,
    ) -> Result<Sent, SendError> {
        self.send_with(up, durable, own, None, bounds).await
    }

    /// The same with what this one request shows: a token, or what the home says to get one.
    pub(crate) async fn send_with(
        &self,
        up: &Upstream,
        durable: Durable,
        own: &[(&str, &str)],
        pass: Option<&Pass>,
        bounds: Bounds,
    ) -> Result<Sent, SendError> {
        let (request, leave) = durable.take().map_err(|late| SendError::NotSent(late.into()))?;
        self.exchange(up, &request, (own, pass), bounds, Some(&leave)).await
    }

    pub(super) async fn exchange(
        &self,
        up: &Upstream,
        request: &HttpRequest,
        (own, pass): (&[(&str, &str)], Option<&Pass>),
        bounds: Bounds,
        leave: Option<&Leave>,
    ) -> Result<Sent, SendError> {
        let request = up.request(request, own, pass).map_err(SendError::NotSent)?;
        self.exchange_built(up, request, bounds, leave).await
    }

    /// The same with a request as it is sent.
    pub(super) async fn exchange_built(
        &self,
        up: &Upstream,
        request: Request<Full<Bytes>>,
        bounds: Bounds,
        leave: Option<&Leave>,
    ) -> Result<Sent, SendError> {
        let started = Instant::now();
        let deadline = started.checked_add(bounds.time).unwrap_or(started);
        up.ready().map_err(SendError::NotSent)?;
        let (answer, traffic) = match &self.0 {
            Way::Memory(response) => {
                still(leave)?;
                (Answer::of(response), Traffic::default())
            }
            Way::Network(resolver) => {
                let mut line = tokio::select! {
                    biased;
                    stopped = stopped(leave) => return Err(SendError::NotSent(stopped)),
                    line = up.line(resolver.as_ref(), deadline) => line.map_err(SendError::NotSent)?,
                };
                let tally = Tally::start(started, &line, bounds.answer_bytes);
                still(leave)?;
                let answer = tokio::select! {
                    biased;
                    answer = line.exchange(request, bounds.answer_bytes, deadline) => answer,
                    stopped = stopped(leave) => match line.give_up(tally.sent).await {
                        true => Err(Broken::Stopped(stopped.message)),
                        false => return Err(SendError::NotSent(stopped)),
                    },
                };
                let answer = answer.map_err(|broken| failed(broken, up, tally.read(&line)))?;
                let traffic = tally.read(&line);
                up.pool().put(line);
                (answer, traffic)
            }
        };

        let later = up.pause().note(answer.status, answer.headers.get(RETRY_AFTER));
        Ok(Sent {
            later,
            status: answer.status.as_u16(),
            headers: headers(up, &answer.headers),
            body: up.mask(answer.body),
            traffic,
        })
    }
}

/// Looks once more, right before the first byte.
fn still(leave: Option<&Leave>) -> Result<(), SendError> {
    leave.map_or(Ok(()), |leave| leave.check().map_err(SendError::NotSent))
}

/// Waits until the call is stopped.
async fn stopped(leave: Option<&Leave>) -> Refusal {
    match leave {
        Some(leave) => leave.stopped().await,
        None => std::future::pending().await,
    }
}

/// Where a connection's counts stood before an exchange.
struct Tally {
    started: Instant,
    sent: u64,
    received: u64,
}

impl Tally {
    fn start(started: Instant, line: &Line, answer_bytes: usize) -> Tally {
        Tally {
            started,
            sent: line.meter().sent(),
            received: line.let_in(answer_bytes),
        }
    }

    fn read(&self, line: &Line) -> Traffic {
        Traffic {
            sent_bytes: line.meter().sent().saturating_sub(self.sent),
            received_bytes: line.meter().received().saturating_sub(self.received),
            ms: self.started.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
        }
    }
}

fn failed(broken: Broken, up: &Upstream, traffic: Traffic) -> SendError {
    // The words of a parser may quote what it could not read.
    let failed = |why: String| Failed {
        why: printable(&up.mask_str(&why)),
        traffic,
    };
    match broken {
        Broken::Unsent(why) => SendError::NotSent(
            Refusal::new(
                Code::Limit,
                format!("connection `{}` took no request: {}", up.name(), failed(why).why),
            )
            .advise("nothing was sent; the call can be made again"),
        ),
        Broken::Lost(why) => SendError::Unknown(failed(why)),
        Broken::Late(why) => SendError::Late(failed(why)),
        Broken::Stopped(why) => SendError::Stopped(failed(why)),
        Broken::Unusable(status, later, why) => SendError::Unusable {
            status: status.as_u16(),
            later: up.pause().note(status, later.as_ref()),
            failed: failed(why),
        },
    }
}

fn headers(up: &Upstream, headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .filter_map(|(name, value)| {
            let value = up.mask_str(value.to_str().ok()?);
            Some((name.as_str().to_owned(), value))
        })
        .collect()
}
