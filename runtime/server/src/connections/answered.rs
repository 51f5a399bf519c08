//! Knows which requests of a connection are in progress, until their answers are sent.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) fn is_idle(requests: &AtomicUsize) -> bool {
    requests.load(Ordering::Acquire) == 0
}

/// Counts a request in progress until it is dropped.
pub(super) struct InProgress(Arc<AtomicUsize>);

impl InProgress {
    pub(super) fn begin(requests: &Arc<AtomicUsize>) -> Self {
        requests.fetch_add(1, Ordering::AcqRel);
        Self(requests.clone())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The requests of a connection whose answers are complete and may not be sent yet: hyper takes a whole body before the peer has
/// read it.
#[derive(Clone, Default)]
pub(super) struct Answered(Arc<Mutex<Vec<InProgress>>>);

impl Answered {
    /// A body that keeps its request in progress until it is sent.
    pub(super) fn hold(self, body: Body, in_progress: InProgress) -> HeldBody {
        HeldBody { body, in_progress: Some(in_progress), answered: self }
    }

    fn requests(&self) -> MutexGuard<'_, Vec<InProgress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that knows when everything was sent: hyper flushes it once nothing is left to write.
pub(super) struct WatchedStream<Stream> {
    pub(super) stream: Stream,
    pub(super) answered: Answered,
}

impl<Stream: AsyncRead + Unpin> AsyncRead for WatchedStream<Stream> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<Stream: AsyncWrite + Unpin> AsyncWrite for WatchedStream<Stream> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        self.answered.requests().clear();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The body of a response, whose request is in progress until it is sent.
pub(super) struct HeldBody {
    body: Body,
    in_progress: Option<InProgress>,
    answered: Answered,
}

impl Drop for HeldBody {
    fn drop(&mut self) {
        self.answered.requests().extend(self.in_progress.take());
    }
}

impl http_body::Body for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
