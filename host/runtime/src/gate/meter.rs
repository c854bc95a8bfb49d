//! Counts what passes through a connection, and ends it when more comes than was agreed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of HTTP in both directions, above TLS, since the connection was opened.
#[derive(Debug, Default)]
pub(super) struct Meter {
    sent: AtomicU64,
    received: AtomicU64,
    /// At how many received bytes reading fails.
    stop: AtomicU64,
}

impl Meter {
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// Lets `more` bytes in from here on, and says how many had come before. It bounds what no header or body limit does: interim
    /// answers, chunk extensions, trailers. One byte beyond it is read, which is the failure.
    pub(super) fn let_in(&self, more: u64) -> u64 {
        let received = self.received();
        self.stop.store(received.saturating_add(more), Ordering::Release);
        received
    }

    /// The most that may be read at once: what is let in, and the one byte too many.
    fn room(&self) -> u64 {
        let stop = self.stop.load(Ordering::Acquire);
        stop.saturating_sub(self.received()).saturating_add(1)
    }
}

/// A stream whose bytes are counted.
pub(super) struct Metered<S> {
    stream: S,
    meter: Arc<Meter>,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S) -> (Metered<S>, Arc<Meter>) {
        let meter = Arc::new(Meter::default());
        let metered = Metered {
            stream,
            meter: Arc::clone(&meter),
        };
        (metered, meter)
    }

    fn written(&self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = result {
            self.meter.sent.fetch_add(*bytes as u64, Ordering::AcqRel);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let room = usize::try_from(self.meter.room()).unwrap_or(usize::MAX);
        let result = if buffer.remaining() <= room {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        } else {
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
            let result = Pin::new(&mut self.stream).poll_read(context, &mut part);
            let read = part.filled().len();
            buffer.advance(read);
            result
        };
        let bytes = buffer.filled().len().saturating_sub(before) as u64;
        let received = self.meter.received.fetch_add(bytes, Ordering::AcqRel);
        if received.saturating_add(bytes) > self.meter.stop.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "the answer is larger than agreed",
            )));
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(&result);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.written(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
