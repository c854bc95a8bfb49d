//! The sockets, TLS and log around [`Stripe`].

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Response, server::conn::http1};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};
use tokio_rustls::TlsAcceptor;

use super::stripe::{Answer, Asked, Delivery, Stripe};
use super::{Authorization, Event, Listening, Options, Request, certificate};

type Reply = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// Serves until the process ends. Writes `ca.pem`, `requests.jsonl` and, once it listens, `service.json` to `folder`.
///
/// # Errors
/// A file can't be written, or no port of loopback can be had.
pub async fn run(folder: &Path, options: &Options) -> io::Result<()> {
    let mut names = options.names.clone();
    if !options.only {
        names.extend(["api.stripe.com", "hooks.slack.com"].map(str::to_owned));
    }
    let certificate = certificate::make(names, options.expired).map_err(io::Error::other)?;
    fs::write(folder.join("ca.pem"), &certificate.authority_pem)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let token = random_token(&provider)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(certificate.chain, certificate.key)
        })
        .map_err(io::Error::other)?;

    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (service, admin) = (TcpListener::bind(loopback).await?, TcpListener::bind(loopback).await?);
    let listening = Listening {
        port: service.local_addr()?.port(),
        admin_port: admin.local_addr()?.port(),
        token: token.clone(),
    };
    let shared = Arc::new(Shared {
        stripe: Mutex::new(Stripe::new(listening.admin_port)),
        admin_port: listening.admin_port,
        log: Mutex::new(Log {
            file: File::create(folder.join("requests.jsonl"))?,
            lines: Vec::new(),
        }),
        token,
    });
    announce(folder, &listening)?;
    tokio::join!(
        serve(service, TlsAcceptor::from(Arc::new(config)), Arc::clone(&shared)),
        serve_admin(admin, shared)
    );
    Ok(())
}

/// Renamed into place, so that nobody reads half of it.
fn announce(folder: &Path, listening: &Listening) -> io::Result<()> {
    let unfinished = folder.join("service.json.new");
    fs::write(&unfinished, serde_json::to_vec(listening)?)?;
    fs::rename(unfinished, folder.join("service.json"))
}

/// With characters that URL-encoding changes: a masked token must be found in that spelling too.
fn random_token(provider: &rustls::crypto::CryptoProvider) -> io::Result<String> {
    let mut bytes = [0; 18];
    provider
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| io::Error::other("no randomness"))?;
    Ok(format!("sk_test_{}/+x", BASE64.encode(&bytes)))
}

struct Shared {
    stripe: Mutex<Stripe>,
    admin_port: u16,
    log: Mutex<Log>,
    token: String,
}

struct Log {
    file: File,
    lines: Vec<String>,
}

impl Shared {
    /// Written to the file before anybody is answered.
    fn note(&self, event: &Event) -> io::Result<()> {
        let line = serde_json::to_string(event)?;
        let mut log = self.log.lock();
        log.file.write_all(format!("{line}\n").as_bytes())?;
        log.lines.push(line);
        Ok(())
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(converse(socket, acceptor.clone(), Arc::clone(&shared)));
    }
}

/// One connection, to its end. How it ends is the client's affair.
async fn converse(socket: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let stream = match acceptor.accept(socket).await {
        Ok(stream) => stream,
        Err(error) => return shared.note(&Event::Rejected { why: error.to_string() }),
    };
    let sni = stream.get_ref().1.server_name().map(str::to_owned);
    shared.note(&Event::Connected { sni: sni.clone() })?;
    let service = service_fn(|request| reply(request, sni.clone(), &shared));
    http1::Builder::new()
        .max_buf_size(1 << 20)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}

async fn reply(request: hyper::Request<Incoming>, sni: Option<String>, shared: &Shared) -> io::Result<Reply> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let token = bearer(&head.headers);
    let client = is_client(&head.headers, &shared.token);
    let asked = Asked {
        host: header(&head.headers, "host").unwrap_or_default(),
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect(),
        content_type: header(&head.headers, "content-type")
            .and_then(|value| value.split(';').next().map(str::to_owned)),
        idempotency_key: header(&head.headers, "idempotency-key"),
        issues: client.then(|| issued(&shared.token)),
        authorization: match &token {
            Some(token) if *token == shared.token || *token == issued(&shared.token) => Authorization::Right,
            Some(_) => Authorization::Wrong,
            None if client => Authorization::Right,
            None if head.headers.contains_key("authorization") => Authorization::Wrong,
            None => Authorization::Missing,
        },
        token,
        body,
    };
    let host = asked.host.split(':').next();
    let answer = if sni.as_deref() == host {
        shared.stripe.lock().answer(&asked)
    } else {
        Answer::error(421, "misdirected", "Host and TLS name differ")
    };
    shared.note(&Event::Request(seen(
        &head.headers,
        &head.uri.to_string(),
        &asked,
        answer.status,
    )))?;
    sleep(answer.delay).await;
    deliver(answer)
}

fn seen(headers: &HeaderMap, path: &str, asked: &Asked, status: u16) -> Request {
    let is_form = asked.content_type.as_deref() == Some("application/x-www-form-urlencoded");
    let shown = headers.iter().filter(|(name, _)| *name != "authorization");
    Request {
        host: asked.host.clone(),
        method: asked.method.clone(),
        path: path.to_owned(),
        headers: shown
            .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
            .collect(),
        authorization: asked.authorization,
        body: text(&asked.body),
        form: if is_form {
            form_urlencoded::parse(&asked.body).into_owned().collect()
        } else {
            Vec::new()
        },
        status,
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| text(value.as_bytes()))
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    header(headers, "authorization")?
        .strip_prefix("Bearer ")
        .map(str::to_owned)
}

/// Whether a client shows its name and its secret, which is the service's token, as RFC 6749 asks for it.
fn is_client(headers: &HeaderMap, secret: &str) -> bool {
    let shown = header(headers, "authorization")
        .and_then(|value| BASE64.decode(value.strip_prefix("Basic ")?.as_bytes()).ok())
        .map(|bytes| text(&bytes));
    let written: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    shown.is_some_and(|shown| shown == format!("ambit:{written}"))
}

/// The token that a client is given. It has the service's own in it, which nothing may have in it that people or tools see.
fn issued(token: &str) -> String {
    format!("at_{token}")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn deliver(answer: Answer) -> io::Result<Reply> {
    let body = match answer.delivery {
        Delivery::Dropped => return Err(io::Error::other("dropped, as asked for")),
        Delivery::Whole => Full::new(answer.body).map_err(|never| match never {}).boxed_unsync(),
        Delivery::Chunked => Pour::new(answer.body, 64 << 10, Duration::ZERO, false).boxed_unsync(),
        Delivery::Trickle(pause) => Pour::new(answer.body, 1, pause, false).boxed_unsync(),
        Delivery::Broken => Pour::new(answer.body, 16, Duration::from_millis(1), true).boxed_unsync(),
    };
    let mut reply = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        reply = reply.header(name, value);
    }
    reply.body(body).map_err(io::Error::other)
}

/// A body that comes in pieces, and may not come to its end.
struct Pour {
    rest: Bytes,
    piece: usize,
    pause: Duration,
    /// Fails when half is sent.
    breaks_at: Option<usize>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Pour {
    fn new(body: Bytes, piece: usize, pause: Duration, breaks: bool) -> Self {
        let breaks_at = breaks.then_some(body.len() / 2);
        Self {
            rest: body,
            piece,
            pause,
            breaks_at,
            waiting: None,
        }
    }
}

impl Body for Pour {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(waiting) = &mut self.waiting {
            std::task::ready!(waiting.as_mut().poll(context));
            self.waiting = None;
        }
        if self.breaks_at.is_some_and(|half| self.rest.len() <= half) {
            return Poll::Ready(Some(Err(io::Error::other("broken, as asked for"))));
        }
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.piece.min(self.rest.len());
        let piece = self.rest.split_to(length);
        if !self.pause.is_zero() {
            self.waiting = Some(Box::pin(sleep(self.pause)));
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

async fn serve_admin(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((socket, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| std::future::ready(administer(&request, &shared)));
            http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await
        });
    }
}

fn administer(request: &hyper::Request<Incoming>, shared: &Shared) -> io::Result<Reply> {
    let answer = match (request.method().as_str(), request.uri().path()) {
        ("GET", "/requests") => shared.log.lock().lines.join("\n"),
        ("GET", "/state") => shared.stripe.lock().state().to_string(),
        ("POST", "/reset") => {
            *shared.stripe.lock() = Stripe::new(shared.admin_port);
            String::new()
        }
        (method, path) => {
            shared.note(&Event::Strayed {
                line: format!("{method} {path}"),
            })?;
            // Like a cloud's metadata service: what a redirect to loopback is after.
            r#"{"id":"stolen","status":"role credentials"}"#.to_owned()
        }
    };
    deliver(Answer {
        body: answer.into(),
        ..Answer::json(200, &serde_json::Value::Null)
    })
}
