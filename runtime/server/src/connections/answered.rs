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
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::{MAX_STALL, time_for};

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

/// A stream that knows when everything was sent: hyper flushes it once nothing is left to write. A peer that does not read makes
/// it fail.
pub(super) struct WatchedStream<Stream> {
    stream: Stream,
    answered: Answered,
    /// When the peer has to have read what waits to be sent; `None` if nothing waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<Stream> WatchedStream<Stream> {
    pub(super) fn new(stream: Stream, answered: Answered) -> Self {
        Self { stream, answered, deadline: None }
    }

    /// Fails a write that waits for too long.
    fn check<Done>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<Done>>,
        bytes: impl FnOnce(&Done) -> usize,
    ) -> Poll<io::Result<Done>> {
        if let Poll::Ready(result) = written {
            if let (Some(deadline), Ok(done)) = (&mut self.deadline, &result) {
                let extended = deadline.deadline() + time_for(bytes(done) as u64);
                deadline.as_mut().reset(extended);
            }
            return Poll::Ready(result);
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(MAX_STALL)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read the answer")))
    }
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
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check(context, written, |written| *written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.check(context, written, |written| *written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        let flushed = ready!(self.check(context, flushed, |()| 0));
        self.deadline = None;
        self.answered.requests().clear();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Over TLS, its last bytes have to be sent too.
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.check(context, shut, |()| 0)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::Instant,
    };

    use super::{super::MIN_RATE, *};

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_makes_the_write_fail() {
        let (stream, _peer) = tokio::io::duplex(64);
        let started = Instant::now();
        let error = WatchedStream::new(stream, Answered::default()).write_all(&[0; 1_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < 2 * MAX_STALL, "{:?}", started.elapsed());
    }

    /// A stream whose last bytes cannot be sent.
    struct NeverShut;

    impl AsyncWrite for NeverShut {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_the_end_makes_it_fail() {
        let started = Instant::now();
        let error = WatchedStream::new(NeverShut, Answered::default()).shutdown().await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed().as_secs()), (io::ErrorKind::TimedOut, MAX_STALL.as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_gets_the_whole_answer() {
        const SIZE: usize = 4 << 20;
        let (stream, mut peer) = tokio::io::duplex(MIN_RATE as usize);
        let reading = async {
            let (mut buffer, mut read) = (vec![0; 2 * MIN_RATE as usize], 0);
            while read < SIZE {
                tokio::time::sleep(Duration::from_millis(900)).await;
                read += peer.read(&mut buffer).await.unwrap();
            }
        };
        let mut stream = WatchedStream::new(stream, Answered::default());
        let bytes = vec![0; SIZE];
        let (written, ()) = tokio::join!(stream.write_all(&bytes), reading);
        written.unwrap();
    }
}
