//! A door over a pipe: standard input and output, a message a line.
//!
//! A thread reads and a thread writes, so that neither waits for the other, and what a client takes back is taken back by the thread that
//! reads it, whatever the one between them does. Nothing but the protocol's messages is ever written there.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ambit_core::error::Refusal;
use ambit_core::guard;
use ambit_runtime::host::Host;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ErrorCode, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};
use rmcp::service::{RoleServer, serve_directly};
use rmcp::transport::Transport;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::calls::{Calls, Whose};
use crate::changes;
use crate::frame::{self, Frame};
use crate::mcp::{Door, Who};
use crate::owed::{MOST, NotTaken, Owed};
use crate::session::Session;
use crate::signals::{Heard, Hears};

/// Messages that were read and not looked at yet.
const READ: usize = 16;
/// Lines that are to be written and were not taken yet.
const WRITTEN: usize = 16;
/// How long calls go on once the other side has closed its end: those who start such programs wait for two seconds or so.
const DRAIN: Duration = Duration::from_secs(1);
/// How long those take, at most, that were told to end then.
const STOP: Duration = Duration::from_secs(2);

/// Why a door does not open, or closed before the other side closed it.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// There is no such caller.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No thread could be had.
    #[error("the protocol could not be served: {0}")]
    Io(#[from] io::Error),
    /// The ledger failed, and no call is made any more.
    #[error("the ledger failed: {0}")]
    Ledger(String),
}

/// Serves one agent over standard input and output until that closes its end. Calls that run then may end for a second; those that do not
/// are taken back, and those that go on without their request are suspended. At a signal to end (SIGTERM, SIGINT) nothing begins any more, calls go on for as long as the configuration says, and
/// those that do not end are suspended. At SIGHUP the host takes its files anew.
///
/// # Errors
/// Where there is no such caller, no thread, or the ledger failed.
pub fn serve(host: &Host, who: Who, heard: Heard) -> Result<(), DoorError> {
    let hears = Hears::of(host, heard)?;
    let served = serve_over(host, who, io::stdin(), io::stdout(), hears.ends());
    host.leave(STOP);
    served
}

/// The same over any pipe.
///
/// # Errors
/// As [`serve`].
pub(crate) fn serve_over(
    host: &Host,
    who: Who,
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    ends: watch::Receiver<bool>,
) -> Result<(), DoorError> {
    let door = Door::new(host.clone(), who)?;
    let calls = door.calls().clone();
    // What computes or blocks has threads of its own: on one thread what is left is told to nobody elsewhere, and wakes nobody in vain.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .thread_name("ambit-mcp")
        .enable_time()
        .build()?;
    runtime.block_on(async {
        let (pipe, written) = Pipe::open(door.clone(), input, output, ends)?;
        let session = Session::new(door.clone(), Arc::clone(&pipe.owed));
        let running = serve_directly::<RoleServer, _, _, _, _>(session, pipe, None);
        let tells = tokio::spawn(changes::tell(door, running.peer().clone()));
        if let Err(error) = running.waiting().await {
            tracing::error!(%error, "the protocol's loop failed");
        }
        tells.abort();
        // Nobody may be reading.
        drop(tokio::time::timeout(STOP, written).await);
        // Those that go on without their request were suspended, which is not written yet.
        drop(tokio::time::timeout(STOP, calls.none()).await);
        Ok::<(), io::Error>(())
    })?;
    // What still runs, and the thread that reads, end with the process.
    runtime.shutdown_timeout(STOP);
    match host.failed() {
        None => Ok(()),
        Some(why) => Err(DoorError::Ledger(why.to_owned())),
    }
}

/// The connection as the protocol's library has it.
struct Pipe {
    door: Door,
    owed: Arc<Owed>,
    read: mpsc::Receiver<ClientJsonRpcMessage>,
    write: mpsc::Sender<Line>,
    /// Since when nothing more is read.
    closed: Option<Instant>,
    /// Whether the process is told to end.
    ends: watch::Receiver<bool>,
    /// Until when calls go on then.
    drains: Option<Instant>,
}

/// What the writing thread is given.
enum Line {
    Message(Box<ServerJsonRpcMessage>),
    /// There is no more.
    Last,
}

impl Pipe {
    /// Starts both threads. What is returned beside it is done when all was written that could be.
    fn open(
        door: Door,
        input: impl Read + Send + 'static,
        output: impl Write + Send + 'static,
        ends: watch::Receiver<bool>,
    ) -> io::Result<(Pipe, tokio::sync::oneshot::Receiver<()>)> {
        let owed = Arc::<Owed>::default();
        let (messages, read) = mpsc::channel(READ);
        let (write, lines) = mpsc::channel(WRITTEN);
        let (done, written) = tokio::sync::oneshot::channel();
        let reading = Reading {
            owed: Arc::clone(&owed),
            calls: door.calls().clone(),
            whose: door.whose(),
            messages,
            write: write.clone(),
        };
        thread::Builder::new()
            .name("ambit-stdin".to_owned())
            .spawn(move || reading.all(input))?;
        thread::Builder::new().name("ambit-stdout".to_owned()).spawn(move || {
            if let Err(error) = write_all(lines, output) {
                tracing::debug!(%error, "nobody reads any more");
            }
            // Nobody waits where the serving ended before.
            let _ = done.send(());
        })?;
        let pipe = Pipe {
            door,
            owed,
            read,
            write,
            closed: None,
            ends,
            drains: None,
        };
        Ok((pipe, written))
    }
}

impl Transport<RoleServer> for Pipe {
    type Error = io::Error;

    fn send(&mut self, message: ServerJsonRpcMessage) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let answers = match &message {
            JsonRpcMessage::Response(response) => Some(response.id.clone()),
            JsonRpcMessage::Error(error) => error.id.clone(),
            _ => None,
        };
        let (write, owed) = (self.write.clone(), Arc::clone(&self.owed));
        async move {
            let sent = write.send(Line::Message(Box::new(message))).await;
            if let Some(id) = answers {
                owed.answered(&id);
            }
            sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
        }
    }

    /// The next message; none once the other side has closed its end, or the process is told to end, and what was asked for is done, or was
    /// stopped.
    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        if self.drains.is_some() || (self.closed.is_none() && *self.ends.borrow()) {
            return self.drain().await;
        }
        let closed = match self.closed {
            Some(closed) => closed,
            None => {
                tokio::select! {
                    message = self.read.recv() => {
                        if message.is_some() {
                            return message;
                        }
                    }
                    () = self.write.closed() => self.door.calls().stop(),
                    () = self.door.failed() => {}
                    () = told(&mut self.ends) => return self.drain().await,
                }
                *self.closed.insert(Instant::now())
            }
        };
        tokio::select! {
            () = idle(&self.owed, self.door.calls()) => return None,
            () = sleep_until(closed + DRAIN) => self.door.calls().stop(),
        }
        tokio::select! {
            () = self.owed.nothing() => {}
            () = sleep_until(closed + DRAIN + STOP) => tracing::warn!("not everything ended in time"),
        }
        // What goes on without a request goes on in the next process.
        if !self.door.calls().are_none() {
            self.door.host().suspend();
        }
        None
    }

    async fn close(&mut self) -> io::Result<()> {
        self.door.calls().stop();
        // Who does not read is not waited for.
        drop(tokio::time::timeout(STOP, self.write.send(Line::Last)).await);
        Ok(())
    }
}

impl Pipe {
    /// As long as calls go on at the process's end what is asked is answered: that nothing begins any more.
    async fn drain(&mut self) -> Option<ClientJsonRpcMessage> {
        let drain = self.door.host().drain();
        let until = *self.drains.get_or_insert_with(|| Instant::now() + drain);
        if Instant::now() < until {
            tokio::select! {
                Some(message) = self.read.recv() => return Some(message),
                () = idle(&self.owed, self.door.calls()) => return None,
                () = sleep_until(until) => {}
            }
        }
        self.door.host().suspend();
        tokio::select! {
            () = self.owed.nothing() => {}
            () = sleep_until(until + STOP) => tracing::warn!("not everything ended in time"),
        }
        None
    }
}

/// Waits until nothing is owed, and nothing runs that goes on without its request.
async fn idle(owed: &Owed, calls: &Calls) {
    owed.nothing().await;
    calls.none().await;
}

/// Waits until the process is told to end: for ever, where nobody can say so any more.
async fn told(ends: &mut watch::Receiver<bool>) {
    if ends.wait_for(|ends| *ends).await.is_err() {
        std::future::pending().await
    }
}

fn write_all(mut lines: mpsc::Receiver<Line>, mut output: impl Write) -> io::Result<()> {
    while let Some(Line::Message(message)) = lines.blocking_recv() {
        let mut text = serde_json::to_vec(&message)?;
        text.push(b'\n');
        output.write_all(&text)?;
        output.flush()?;
    }
    Ok(())
}

/// The reading thread's.
struct Reading {
    owed: Arc<Owed>,
    calls: Calls,
    whose: Whose,
    messages: mpsc::Sender<ClientJsonRpcMessage>,
    write: mpsc::Sender<Line>,
}

/// The protocol's loop, or who writes, is gone: there is nothing to read for.
struct Gone;

impl Reading {
    /// Reads to the end, which is also where a pipe breaks.
    fn all(&self, input: impl Read) {
        let mut input = BufReader::with_capacity(64 << 10, input);
        let mut text = Vec::new();
        loop {
            let went_on = match next_line(&mut input, &mut text) {
                Ok(Next::Line) => self.take(frame::read(&text)),
                Ok(Next::TooLong) => self.answer(None, frame::too_long()),
                Ok(Next::End) => return,
                Err(error) => {
                    tracing::warn!(%error, "standard input cannot be read");
                    return;
                }
            };
            if went_on.is_err() {
                return;
            }
        }
    }

    fn take(&self, frame: Frame) -> Result<(), Gone> {
        let message = match frame {
            Frame::Nothing => return Ok(()),
            Frame::Wrong(id, error) => return self.answer(id, error),
            Frame::Message(message) => *message,
        };
        match &message {
            JsonRpcMessage::Request(request) => match self.owed.begin(&request.id) {
                Ok(()) => {}
                Err(not_taken) => return self.refuse(&request.id, not_taken),
            },
            JsonRpcMessage::Notification(told) => {
                if let ClientNotification::CancelledNotification(cancelled) = &told.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.owed.cancel(id);
                    self.calls.take_back(&self.whose, id);
                }
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => return Ok(()),
        }
        self.messages.blocking_send(message).map_err(|_| Gone)
    }

    fn refuse(&self, id: &RequestId, why: NotTaken) -> Result<(), Gone> {
        match why {
            // An answer to this id would be taken for that of the other.
            NotTaken::SameId => {
                let message = format!("a request with the id {id} is under way, or was taken back: an id is used once");
                self.answer(None, ErrorData::invalid_request(message, None))
            }
            NotTaken::TooMany => {
                const BUSY: ErrorCode = ErrorCode(-32_000);
                let message = format!("{MOST} requests are under way: wait until one is answered");
                self.answer(Some(id.clone()), ErrorData::new(BUSY, message, None))
            }
        }
    }

    fn answer(&self, id: Option<RequestId>, error: ErrorData) -> Result<(), Gone> {
        let message = ServerJsonRpcMessage::error(error, id);
        let line = Line::Message(Box::new(message));
        self.write.blocking_send(line).map_err(|_| Gone)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// A line, without its end.
    Line,
    /// One that is longer than any may be. It was read over, and not kept.
    TooLong,
    /// There is none any more. What has no end of line is none.
    End,
}

/// Reads a line into `text`, and never more of it than a line may have.
fn next_line(input: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<Next> {
    text.clear();
    let mut too_long = false;
    loop {
        let available = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            available => available?,
        };
        if available.is_empty() {
            return Ok(Next::End);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
        too_long = too_long || !guard!("mcp.line", text.len().saturating_add(part.len()) <= frame::LONGEST);
        if too_long {
            // What was kept of it goes at once, not with the next line.
            *text = Vec::new();
        } else {
            text.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Ok(if too_long { Next::TooLong } else { Next::Line });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use ambit_runtime::cancel::Cancel;

    use super::*;

    fn lines(mut input: impl BufRead) -> Vec<(Next, usize)> {
        let (mut all, mut text) = (Vec::new(), Vec::new());
        loop {
            let next = next_line(&mut input, &mut text).unwrap();
            let over = next == Next::End;
            all.push((next, text.len()));
            if over {
                return all;
            }
        }
    }

    #[test]
    fn lines_are_read_whatever_pieces_they_come_in() {
        for pieces in [1, 2, 3, 64] {
            let input = BufReader::with_capacity(pieces, &b"one\n\nthree\r\nno end"[..]);
            let read = lines(input);
            assert_eq!(read.iter().map(|(_, length)| *length).collect::<Vec<_>>(), [3, 0, 6, 6]);
            assert_eq!(read.last().map(|(next, _)| next), Some(&Next::End));
        }
    }

    /// 100 MiB in a line, of which no more is kept than a line may have.
    #[test]
    fn a_line_without_end_is_not_kept() {
        let long = io::repeat(b'x').take(100 << 20);
        let input = BufReader::new(long.chain(&b"\nnext\n"[..]));
        let mut text = Vec::new();
        let mut input = input;
        assert_eq!(next_line(&mut input, &mut text).unwrap(), Next::TooLong);
        assert!(text.capacity() <= 2 * frame::LONGEST, "{}", text.capacity());
        assert_eq!(next_line(&mut input, &mut text).unwrap(), Next::Line);
        assert_eq!(text, b"next");
    }

    /// The thread between may be at work on something large: here nobody takes what was read.
    #[test]
    fn what_is_taken_back_waits_for_nobody() {
        let (calls, whose) = (Calls::default(), Whose::new("a", None, None));
        let (messages, _read) = mpsc::channel(1);
        let (write, _lines) = mpsc::channel(1);
        let reading = Reading {
            owed: Arc::default(),
            calls: calls.clone(),
            whose: whose.clone(),
            messages,
            write,
        };
        let cancel = Cancel::new();
        let _begun = calls.begin(Some(&RequestId::Number(7)), whose, &cancel);
        let text = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
        assert!(reading.take(frame::read(text.as_bytes())).is_ok());
        assert!(cancel.is_cancelled());
    }

    #[test]
    fn the_longest_line_is_read() {
        let input = io::repeat(b'x').take(frame::LONGEST as u64).chain(&b"\n"[..]);
        assert_eq!(lines(BufReader::new(input))[0], (Next::Line, frame::LONGEST));
        let input = io::repeat(b'x').take(frame::LONGEST as u64 + 1).chain(&b"\n"[..]);
        assert_eq!(lines(BufReader::new(input))[0], (Next::TooLong, 0));
    }
}
