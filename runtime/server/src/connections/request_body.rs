//! The body of a request must arrive at a minimum rate: a client that sends one byte now and then would occupy its connection for
//! ever.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{MAX_STALL, MIN_RATE, time_for};

/// A body that fails once it arrives too slowly.
pub(super) struct TimedBody<Inner> {
    inner: Inner,
    timer: Pin<Box<Sleep>>,
    deadline: Instant,
}

/// Why the body of a request could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError<Inner> {
    /// It arrives too slowly.
    #[error("the body of the request arrives too slowly: send at least {} KiB in a second", MIN_RATE >> 10)]
    TooSlow,
    /// The connection has failed.
    #[error(transparent)]
    Connection(Inner),
}

impl<Inner> TimedBody<Inner> {
    pub(super) fn new(inner: Inner) -> Self {
        let deadline = Instant::now() + MAX_STALL;
        Self { inner, timer: Box::pin(sleep_until(deadline)), deadline }
    }
}

impl<Inner: Body<Data = Bytes> + Unpin> Body for TimedBody<Inner> {
    type Data = Bytes;
    type Error = BodyError<Inner::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) else {
            ready!(this.timer.as_mut().poll(context));
            return Poll::Ready(Some(Err(BodyError::TooSlow)));
        };
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Connection)));
        };
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        this.deadline += time_for(bytes);
        this.timer.as_mut().reset(this.deadline);
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::poll_fn, time::Duration};

    use tokio::time::sleep;

    use super::*;

    /// A body of endless frames of some bytes, each after a pause.
    struct Slow {
        bytes: usize,
        pause: Duration,
        timer: Pin<Box<Sleep>>,
    }

    impl Slow {
        fn new(bytes: usize, pause: Duration) -> TimedBody<Self> {
            TimedBody::new(Self { bytes, pause, timer: Box::pin(sleep(pause)) })
        }
    }

    impl Body for Slow {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            ready!(self.timer.as_mut().poll(context));
            let (pause, bytes) = (self.pause, self.bytes);
            self.timer.as_mut().reset(Instant::now() + pause);
            Poll::Ready(Some(Ok(Frame::data(vec![0; bytes].into()))))
        }
    }

    /// Reads frames for an hour at most; returns when the body failed.
    async fn failed_after(mut body: TimedBody<Slow>) -> Option<Duration> {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(3_600) {
            let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            if frame.expect("it has no end").is_err() {
                return Some(started.elapsed());
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_fails_and_a_large_one_may_take_its_time() {
        let second = Duration::from_secs(1);
        let failed = failed_after(Slow::new(1, second)).await.expect("it is too slow");
        assert!(failed < 31 * second, "{failed:?}");
        let silent = failed_after(Slow::new(1 << 20, 100 * second)).await.expect("nothing arrives in time");
        assert_eq!(silent.as_secs(), 30);
        assert_eq!(failed_after(Slow::new(32 << 10, second)).await, None, "an hour at twice the minimum rate");
    }
}
