//! A client's connection, which neither stalls for ever nor ends with its answer unread.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ambit_core::guard;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a client may take to read anything of its answer.
pub(super) const STALL: Duration = Duration::from_secs(30);
/// How long what a client still sends is taken and dropped once it is answered: where a connection is closed on what nobody read, the
/// answer goes with it.
const LINGER: Duration = Duration::from_secs(1);
/// And how much of it.
const LINGER_BYTES: usize = 2 << 20;

/// A stream with an end.
pub(super) struct Line<S> {
    stream: S,
    stall: Duration,
    /// Until when something has to be written, where it waits for the other side.
    stalls: Option<Pin<Box<Sleep>>>,
    /// Until when the other side may end, once this side has, and how much more it may say.
    lingers: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Line<S> {
    /// `stall` is [`STALL`], but in tests.
    pub(super) fn new(stream: S, stall: Duration) -> Line<S> {
        Line {
            stream,
            stall,
            stalls: None,
            lingers: None,
        }
    }

    /// What was written, or that the other side took nothing for too long.
    fn in_time(&mut self, written: Poll<io::Result<usize>>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalls = None;
            return written;
        }
        let stall = self.stall;
        let until = self.stalls.get_or_insert_with(|| Box::pin(sleep(stall)));
        ready!(until.as_mut().poll(context));
        if !guard!("http.stall", false) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.in_time(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Says that there is no more, and then waits a little for the other side to say so too.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        if line.lingers.is_none() {
            ready!(Pin::new(&mut line.stream).poll_shutdown(context))?;
        }
        let (until, left) = line
            .lingers
            .get_or_insert_with(|| (Box::pin(sleep(LINGER)), LINGER_BYTES));
        let mut dropped = [0; 8 << 10];
        loop {
            let mut buffer = ReadBuf::new(&mut dropped);
            match Pin::new(&mut line.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && *left > 0 => {
                    *left = left.saturating_sub(buffer.filled().len());
                }
                // It has ended, or says too much.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return until.as_mut().poll(context).map(Ok),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn who_does_not_read_is_not_waited_for() {
        let (own, mut other) = duplex(64);
        let mut line = Line::new(own, Duration::from_secs(1));
        // Who reads a little has its time again.
        line.write_all(&[0; 64]).await.unwrap();
        let (written, read) = tokio::join!(line.write(&[0; 8]), async {
            sleep(Duration::from_millis(60)).await;
            other.read(&mut [0; 8]).await
        });
        assert_eq!((written.unwrap(), read.unwrap()), (8, 8));
        let stalled = tokio::time::timeout(Duration::from_secs(30), line.write(&[0; 8])).await;
        let stalled = stalled.expect("in time").unwrap_err();
        assert_eq!(stalled.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn what_is_still_sent_is_dropped_for_a_while() {
        let (own, mut other) = duplex(64);
        let mut line = Line::new(own, STALL);
        let talks = tokio::spawn(async move {
            let sent = other.write_all(&[0; 10_000]).await;
            drop(other);
            sent
        });
        line.shutdown().await.unwrap();
        talks.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_neither_ends_nor_stops_is_left() {
        let (own, silent) = duplex(64);
        let mut line = Line::new(own, STALL);
        let began = Instant::now();
        line.shutdown().await.unwrap();
        assert!((LINGER..30 * LINGER).contains(&began.elapsed()));
        drop(silent);
        let (own, mut other) = duplex(1 << 16);
        let mut line = Line::new(own, STALL);
        let talks = tokio::spawn(async move {
            let mut pieces = 0;
            while other.write_all(&[0; 1 << 16]).await.is_ok() {
                pieces += 1;
            }
            pieces
        });
        line.shutdown().await.unwrap();
        drop(line);
        assert!(talks.await.unwrap() <= (LINGER_BYTES >> 16) + 4);
    }
}
