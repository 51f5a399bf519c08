//! Counts what a connection receives. A server can send much that is no part of a response: interim responses, frames that HTTP/2
//! ignores, messages of TLS. All of it takes time and memory, so all of it counts.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{HttpError, budget::Budget};

/// The bytes that TLS may have beside its content: a handshake with long chains of certificates, and tickets for later sessions.
const FREE_TLS_BYTES: u64 = 256 << 10;

/// The bytes that TLS may have for each byte of content. A record of one byte has 23.
const TLS_BYTES_PER_BYTE: u64 = 32;

/// The maximum number of bytes that a connection receives before the request takes what it has received. Otherwise interim responses
/// over HTTP/2 would be kept while more of them arrive. Their headers are compressed, so each may take many times as much memory as bytes.
const TURN_BYTES: u64 = 64 << 10;

/// What a connection has received so far.
#[derive(Debug)]
pub(crate) struct Meter {
    /// The bytes that the call may still receive.
    budget: Arc<Budget>,
    /// The bytes of TCP.
    wire: AtomicU64,
    /// The bytes inside TLS; without TLS, the same ones.
    content: AtomicU64,
    /// The bytes inside TLS in this turn.
    turn: AtomicU64,
    /// Whether the connection has a request whose response is not complete.
    is_busy: AtomicBool,
    /// Why the connection receives no more.
    failure: OnceLock<HttpError>,
}

/// A stream of one layer of a connection.
pub(crate) trait Layer: AsyncRead + AsyncWrite + Unpin {
    /// Counts what the layer has received.
    ///
    /// # Errors
    /// When it is too much.
    fn count(meter: &Meter, bytes: u64) -> Result<(), HttpError>;

    /// Whether the layer may receive in this turn.
    fn may_receive(_: &Meter) -> bool {
        true
    }

    /// Closes the layer without sending what it still has to send.
    fn abandon(&self) {}
}

/// A stream inside TLS, or the same place of a connection without TLS.
pub(crate) type Content = Box<dyn ContentStream>;

/// What a connection sends and receives HTTP on.
pub(crate) trait ContentStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ContentStream for S {}

/// A layer whose received bytes are counted.
pub(crate) struct Metered<L: Layer> {
    layer: L,
    meter: Arc<Meter>,
}

impl Meter {
    /// Counts for a call.
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self {
            budget,
            wire: AtomicU64::new(0),
            content: AtomicU64::new(0),
            turn: AtomicU64::new(0),
            is_busy: AtomicBool::new(false),
            failure: OnceLock::new(),
        }
    }

    /// The connection may receive further bytes: the request has taken what was received before.
    pub(crate) fn begin_turn(&self) {
        self.turn.store(0, Ordering::Relaxed);
    }

    /// Notes whether the connection has a request whose response is not complete.
    pub(crate) fn set_busy(&self, is_busy: bool) {
        self.is_busy.store(is_busy, Ordering::Relaxed);
    }

    /// Why the connection receives no more, if it does not.
    pub(crate) fn failure(&self) -> Option<&HttpError> {
        self.failure.get()
    }
}

impl Layer for TcpStream {
    fn count(meter: &Meter, bytes: u64) -> Result<(), HttpError> {
        let wire = meter.wire.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let content = meter.content.load(Ordering::Relaxed);
        if wire <= FREE_TLS_BYTES.saturating_add(TLS_BYTES_PER_BYTE.saturating_mul(content)) {
            return Ok(());
        }
        let reason = "the server sends messages of TLS and no content; check the server".to_owned();
        Err(HttpError::Tls { reason })
    }

    /// The system would otherwise keep what is not sent for as long as the server takes something.
    fn abandon(&self) {
        // It fails only on a connection that is already closed.
        drop(self.set_zero_linger());
    }
}

impl Layer for Content {
    fn count(meter: &Meter, bytes: u64) -> Result<(), HttpError> {
        meter.content.fetch_add(bytes, Ordering::Relaxed);
        meter.turn.fetch_add(bytes, Ordering::Relaxed);
        meter.budget.count(bytes)
    }

    fn may_receive(meter: &Meter) -> bool {
        meter.turn.load(Ordering::Relaxed) < TURN_BYTES
    }
}

impl<L: Layer> Metered<L> {
    pub(crate) fn new(layer: L, meter: Arc<Meter>) -> Self {
        Self { layer, meter }
    }
}

impl<L: Layer> Drop for Metered<L> {
    fn drop(&mut self) {
        if self.meter.is_busy.load(Ordering::Relaxed) {
            self.layer.abandon();
        }
    }
}

impl<L: Layer> AsyncRead for Metered<L> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !L::may_receive(&self.meter) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.layer).poll_read(cx, buffer))?;
        let received = (buffer.filled().len() - before) as u64;
        Poll::Ready(L::count(&self.meter, received).map_err(|error| {
            // The layers above may change the error, so it is also kept here.
            io::Error::other(self.meter.failure.get_or_init(|| error).clone())
        }))
    }
}

impl<L: Layer> AsyncWrite for Metered<L> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.layer).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.layer).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.layer.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.layer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.layer).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn a_server_cannot_send_messages_of_tls_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, stream) = tokio::join!(listener.accept(), TcpStream::connect(address));
        let (mut server, _) = accepted.unwrap();
        let meter = Arc::new(Meter::new(Arc::new(Budget::new(1_000))));
        let mut stream = Metered::new(stream.unwrap(), meter.clone());
        let sending = async { while server.write_all(&[0; 4_096]).await.is_ok() {} };
        let receiving = async {
            let mut received = 0;
            let error = loop {
                match stream.read(&mut [0; 1_000]).await {
                    Ok(length) => received += length as u64,
                    Err(error) => break error,
                }
            };
            assert!(received > FREE_TLS_BYTES - 1_000 && received <= FREE_TLS_BYTES, "{received}");
            assert_eq!(
                error.to_string(),
                "TLS failed: the server sends messages of TLS and no content; check the server"
            );
            assert_eq!(meter.failure().map(ToString::to_string), Some(error.to_string()));
            meter.set_busy(true);
            drop(stream);
        };
        tokio::join!(sending, receiving);
    }

    #[tokio::test]
    async fn a_connection_receives_a_part_at_a_time() {
        let (stream, mut server) = tokio::io::duplex(1 << 20);
        server.write_all(&[0; 1 << 20]).await.unwrap();
        let meter = Arc::new(Meter::new(Arc::new(Budget::new(1 << 20))));
        let mut stream = Metered::new(Box::new(stream) as Content, meter.clone());
        let mut received = 0;
        for turn in 1..4 {
            let reading = std::future::poll_fn(|cx| {
                let mut bytes = [0; 4_096];
                loop {
                    let mut buffer = ReadBuf::new(&mut bytes);
                    match Pin::new(&mut stream).poll_read(cx, &mut buffer) {
                        Poll::Ready(result) => result.unwrap(),
                        Poll::Pending => return Poll::Ready(()),
                    }
                    received += buffer.filled().len() as u64;
                }
            });
            reading.await;
            assert_eq!(received, turn * TURN_BYTES);
            meter.begin_turn();
        }
    }
}
