//! An answer's body, and what goes on for as long as it is not sent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::runtime::Handle;

use super::seats::{Busy, UnderWay};

/// What a request takes of the server while it is served.
#[derive(Debug)]
pub(crate) struct Serving {
    _busy: Busy,
    under_way: Arc<UnderWay>,
}

impl Serving {
    pub(super) fn new(busy: Busy, under_way: UnderWay) -> Serving {
        Serving {
            _busy: busy,
            under_way: Arc::new(under_way),
        }
    }

    /// For what goes on when the answer is sent: the request counts among its caller's until that is over too.
    pub(crate) fn under_way(&self) -> Arc<UnderWay> {
        Arc::clone(&self.under_way)
    }
}

/// A body that gives that back when it is over.
pub(crate) struct Answer {
    body: Body,
    serving: Option<Serving>,
    /// Whether what makes it goes on where nobody reads it any more.
    outlives: bool,
}

impl Answer {
    /// `outlives`: a client that goes away takes nothing back by it.
    pub(crate) fn new(body: Body, serving: Serving, outlives: bool) -> Answer {
        Answer {
            body,
            serving: Some(serving),
            outlives,
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.outlives = false;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.outlives || self.body.is_end_stream() {
            return;
        }
        // Where the server ends, so does what is left.
        let Ok(runtime) = Handle::try_current() else { return };
        let (mut body, serving) = (std::mem::take(&mut self.body), self.serving.take());
        runtime.spawn(async move {
            while let Some(Ok(_)) = body.frame().await {}
            // It counts as long as it runs, whoever listens.
            drop(serving);
        });
    }
}
