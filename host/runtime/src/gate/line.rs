//! One HTTP/1 connection to a checked address, and one exchange at a time on it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::error::{Code, Refusal};
use ambit_core::guard;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::meter::{Meter, Metered};
use super::resolve::Checked;
use super::tls::Tls;

/// How long a socket may take to open. Longer than a lost first packet and its repeats.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// How long a TLS handshake may take.
const TLS_TIME: Duration = Duration::from_secs(10);

/// Most header lines in an answer.
const MAX_HEADERS: usize = 100;

/// Most bytes of status line and headers together.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// What may come in beside head and body: interim answers, the sizes of chunks, trailers.
const FRAMING_BYTES: u64 = 256 * 1024;

/// An open connection. Dropping it closes the socket.
pub(super) struct Line {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    meter: Arc<Meter>,
    address: Checked,
}

/// The task that moves a connection's bytes.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What came back, read to its end.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// One that did not come over a connection.
    pub(super) fn of(response: &Response<Bytes>) -> Answer {
        Answer {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.body().clone(),
        }
    }
}

/// How an exchange failed.
#[derive(Debug)]
pub(super) enum Broken {
    /// No byte of the request left.
    Unsent(String),
    /// Some of the request left, and no status came back.
    Lost(String),
    /// Some of the request left, and no status came back in time.
    Late(String),
    /// Some of the request left, and an operator stopped the call.
    Stopped(String),
    /// A status came back, with an answer that cannot be used. When the service wants to be asked again is kept.
    Unusable(StatusCode, Option<HeaderValue>, String),
}

impl Line {
    /// Opens a socket to a checked address and nowhere else, and shakes hands where the origin is https.
    ///
    /// # Errors
    /// [`Code::Address`], [`Code::Tls`] or [`Code::Limit`]. No request was sent.
    pub(super) async fn open(address: Checked, tls: Option<&Tls>, deadline: Instant) -> Result<Line, Refusal> {
        let at = address.address();
        let socket = before(deadline, CONNECT_TIME, TcpStream::connect(at))
            .await
            .ok_or_else(|| Refusal::new(Code::Limit, format!("{at} did not open a connection in time")))?
            .map_err(|error| Refusal::new(Code::Address, format!("{at} cannot be connected to: {error}")))?;
        // Small requests and answers: waiting to fill a packet would cost tens of milliseconds.
        socket
            .set_nodelay(true)
            .map_err(|error| Refusal::new(Code::Address, format!("{at} cannot be used: {error}")))?;
        match tls {
            None => Line::over(socket, address).await,
            Some(tls) => {
                let stream = before(deadline, TLS_TIME, tls.shake(socket)).await.ok_or_else(|| {
                    Refusal::new(Code::Limit, format!("{at} did not finish its TLS handshake in time"))
                })??;
                Line::over(stream, address).await
            }
        }
    }

    async fn over<S>(stream: S, address: Checked) -> Result<Line, Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (stream, meter) = Metered::new(stream);
        let (sender, connection) = Builder::new()
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Refusal::new(Code::Internal, format!("HTTP cannot start: {error}")))?;
        let driver = tokio::spawn(async move {
            // How it ended is known to whoever waits for the answer.
            let _ = connection.await;
        });
        Ok(Line {
            sender,
            driver: Driver(driver),
            meter,
            address,
        })
    }

    pub(super) fn address(&self) -> Checked {
        self.address
    }

    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Lets one answer in with a body of at most `max_body` bytes, and says how many bytes had been received before it.
    pub(super) fn let_in(&self, max_body: usize) -> u64 {
        self.meter.let_in(let_in(max_body))
    }

    /// Whether the connection still takes a request, as far as this side can know.
    pub(super) async fn is_alive(&mut self) -> bool {
        // The driver may still be a step behind the answer that was read last; it needs no network for that.
        let ready = timeout(Duration::from_millis(50), self.sender.ready()).await;
        matches!(ready, Ok(Ok(()))) && !self.sender.is_closed()
    }

    /// Sends a request once and reads the whole answer, of at most `max_body` bytes, which was [let in](Line::let_in).
    ///
    /// # Errors
    /// [`Broken`]; the connection is of no use after that.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        max_body: usize,
        deadline: Instant,
    ) -> Result<Answer, Broken> {
        let before = self.meter.sent();
        let head = timeout_at(deadline, self.sender.try_send_request(request)).await;
        let response = match head {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let never_written = error.message().is_some();
                let why = describe(&error.into_error());
                return Err(self.broken(before, never_written, why).await);
            }
            Err(_) => {
                let why = "no answer came in time".to_string();
                return Err(match self.broken(before, true, why).await {
                    Broken::Lost(why) => Broken::Late(why),
                    unsent => unsent,
                });
            }
        };
        let status = response.status();
        let later = response.headers().get(header::RETRY_AFTER).cloned();
        let why = match timeout_at(deadline, read(response, max_body)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(why)) => why,
            Err(_) => "the answer did not end in time".into(),
        };
        self.stop().await;
        Err(Broken::Unusable(status, later, why))
    }

    /// Stops the driver, so that what was sent and received is final.
    async fn stop(&mut self) {
        self.driver.0.abort();
        let _ = (&mut self.driver.0).await;
    }

    /// Ends an exchange that somebody no longer waits for, and says whether anything left since `before`. The connection is of no use
    /// after that.
    pub(super) async fn give_up(&mut self, before: u64) -> bool {
        self.stop().await;
        self.meter.sent() > before
    }

    /// Says, once the driver is stopped, whether anything left.
    async fn broken(&mut self, before: u64, never_written: bool, why: String) -> Broken {
        self.stop().await;
        if never_written && self.meter.sent() == before {
            Broken::Unsent(why)
        } else {
            Broken::Lost(why)
        }
    }
}

/// How many bytes of an answer are let in that has a body of at most `max_body`.
fn let_in(max_body: usize) -> u64 {
    (max_body as u64).saturating_mul(2).saturating_add(FRAMING_BYTES)
}

/// The most bytes that an answer is counted with.
pub(crate) fn most_received(max_body: usize) -> u64 {
    let_in(max_body).saturating_add(1)
}

/// Runs `future` no longer than `time` and not beyond `deadline`.
async fn before<F: Future>(deadline: Instant, time: Duration, future: F) -> Option<F::Output> {
    let soonest = Instant::now()
        .checked_add(time)
        .map_or(deadline, |own| own.min(deadline));
    timeout_at(soonest, future).await.ok()
}

/// hyper's word and the reason below it.
fn describe(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// # Errors
/// Why the answer cannot be used.
async fn read(response: Response<Incoming>, max_body: usize) -> Result<Answer, String> {
    let (head, mut body) = response.into_parts();
    if !guard!("gate.upgrade", head.status != StatusCode::SWITCHING_PROTOCOLS) {
        return Err("the service wants to speak another protocol".into());
    }
    if head.status.as_u16() > 599 {
        return Err("the status is none of HTTP's".into());
    }
    check_coding(&head.headers)?;
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer broke off: {}", describe(&error)))?;
        // Trailers are dropped: no route can name them.
        if let Ok(data) = frame.into_data() {
            let whole = bytes.len().saturating_add(data.len());
            if !guard!("gate.answer-size", whole <= max_body) {
                return Err(format!("the answer has more than {max_body} bytes"));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: bytes.into(),
    })
}

/// We asked for `identity`. Decompressing would let a few bytes become millions, and a coded answer cannot be masked.
fn check_coding(headers: &HeaderMap) -> Result<(), String> {
    let codings = |name| {
        headers
            .get_all(name)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
    };
    let plain =
        codings(header::CONTENT_ENCODING).all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity"));
    if !guard!("gate.content-coding", plain) {
        return Err("the answer has a content coding, though none was asked for".into());
    }
    let chunked = codings(header::TRANSFER_ENCODING).all(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    if !guard!("gate.transfer-coding", chunked) {
        return Err("the answer has a transfer coding other than `chunked`".into());
    }
    Ok(())
}
