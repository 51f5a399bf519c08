//! The connections of a server: how many there are, how long one may wait, and how one ends.
//!
//! Anyone who reaches the port can open connections, even without a token. So a connection that has no request in progress
//! yields to a new one when there are too many (`places.rs`). So operators and health checks are served even if a client opens
//! a thousand incomplete requests. The first answer to a sender without a valid token is the last one of its connection, so such
//! a sender has a request in progress for no longer than one answer may take (`answered.rs`).

mod answered;
mod places;
mod request_body;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderValue, header},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::server::TlsStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use tracing::{debug, warn};

use answered::{Answered, InProgress, WatchedStream, is_idle};
use places::{Connections, Place};
use request_body::TimedBody;

use crate::{
    auth::{
        Identified,
        peer::{self, Peer},
    },
    tls::Acceptor,
};

/// Maximum number of connections. Each costs a file descriptor, of which a process often has only 1,024.
const MAX_CONNECTIONS: usize = 512;

/// Maximum number of connections of one network, so that it cannot keep all others out. Requests of many people may come
/// through one proxy.
const MAX_NETWORK_CONNECTIONS: usize = MAX_CONNECTIONS * 3 / 4;

/// Maximum time until the head of the next request is complete. An unused connection is closed after this time too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum time that a peer may take to send a body or to read an answer, besides the time for its bytes: see [`time_for`].
const MAX_STALL: Duration = Duration::from_secs(30);

/// Minimum rate at which a peer has to send a body and to read an answer, in bytes per second.
const MIN_RATE: u64 = 16 << 10;

/// The time that a peer gets for bytes that it has sent or read.
fn time_for(bytes: u64) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000) / MIN_RATE)
}

/// Pause after a connection could not be accepted, mostly for want of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Serves connections until `stop`, and then until the requests in progress are answered. With `asks_for_user`, it finds out
/// which user opened each.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Acceptor>,
    asks_for_user: bool,
    router: Router,
    stop: CancellationToken,
) {
    if asks_for_user && let Ok(local) = listener.local_addr() {
        peer::prepare(local);
    }
    let (connections, tasks) = (Connections::new(MAX_CONNECTIONS, MAX_NETWORK_CONNECTIONS), TaskTracker::new());
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => match connections.admit(peer.ip()) {
                Some(place) => {
                    let accepted = Accepted { stream, peer, tls: tls.clone(), asks_for_user };
                    tasks.spawn(accepted.serve(router.clone(), place, stop.clone()));
                }
                None => {
                    warn!(%peer, "a connection is refused: all others, or all others of its network, have requests in progress")
                }
            },
            Err(error) => {
                if !is_of_peer(&error) {
                    warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// Whether the error concerns only the connection that would have been accepted.
fn is_of_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// A connection that was accepted, before the first byte.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Acceptor>,
    asks_for_user: bool,
}

/// The first byte of each TLS connection: a handshake record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// The answer to a request without TLS. The connection ends with it.
const NOT_ENCRYPTED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
    content-type: application/problem+json\r\ncontent-length: 179\r\n\r\n\
    {\"type\":\"urn:waft:problem:not-encrypted\",\"title\":\"this server needs TLS\",\"status\":400,\
    \"detail\":\"the request is not encrypted\",\"hint\":\"write https:// in the address of the server\"}";

impl Accepted {
    /// Serves the connection until it ends.
    async fn serve(self, router: Router, place: Place, stop: CancellationToken) {
        let Self { stream, peer, tls, asks_for_user } = self;
        let peer = tokio::select! {
            peer = Peer::of(&stream, peer, asks_for_user) => peer,
            () = place.evicted.cancelled() => return debug!("a connection without a request yields to a new one"),
            () = stop.cancelled() => return,
        };
        // Otherwise an event waits for the peer's acknowledgement of what was sent before, which the peer may delay by 40 ms.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "the events of a connection may be delayed");
        }
        let Some(tls) = tls else { return serve_connection(stream, Arc::new(peer), router, place, stop).await };
        let encrypted = tokio::select! {
            encrypted = tokio::time::timeout(HEAD_TIMEOUT, encrypt(stream, &tls)) => encrypted,
            () = place.evicted.cancelled() => return debug!("a connection without a request yields to a new one"),
            () = stop.cancelled() => return,
        };
        match encrypted {
            Ok(Ok(stream)) => {
                let peer = peer.with_certificate(stream.get_ref().1.peer_certificates());
                serve_connection(stream, Arc::new(peer), router, place, stop).await;
            }
            Ok(Err(error)) => debug!(%error, "a connection could not be encrypted"),
            Err(_) => debug!("a connection was not encrypted in time"),
        }
    }
}

/// Makes a TLS connection. A client that does not begin one gets an error that names the remedy.
async fn encrypt(mut stream: TcpStream, tls: &Acceptor) -> io::Result<TlsStream<TcpStream>> {
    let mut first = [0];
    if stream.peek(&mut first).await? > 0 && first[0] != TLS_HANDSHAKE {
        // Some of the request is read, so that the answer is not lost with a reset.
        let _ = stream.read(&mut [0; 4_096]).await?;
        stream.write_all(NOT_ENCRYPTED).await?;
        stream.shutdown().await?;
        return Err(io::Error::other("the client does not use TLS"));
    }
    tls.accept(stream).await
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Arc<Peer>,
    router: Router,
    place: Place,
    stop: CancellationToken,
) {
    let requests = place.requests.clone();
    let answered = Answered::default();
    let stream = WatchedStream::new(stream, answered.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let in_progress = InProgress::begin(&requests);
        let answered = answered.clone();
        let mut peer_request = request.map(|body| Body::new(TimedBody::new(body)));
        peer_request.extensions_mut().insert(peer.clone());
        let router = router.clone();
        async move {
            let mut response = router.oneshot(peer_request).await?;
            // Otherwise many small answers, each of which is read slowly, would occupy the connection for ever.
            if response.extensions().get::<Identified>().is_none() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            // The request is in progress until its answer is sent: an event stream may take hours.
            Ok::<_, std::convert::Infallible>(response.map(|body| answered.hold(body, in_progress)))
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        biased;
        () = place.evicted.cancelled() => {
            if is_idle(&place.requests) {
                return debug!("a connection without a request yields to a new one");
            }
            // A request came in the meantime; it is answered.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            // A half request may never be completed.
            if is_idle(&place.requests) {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(%error, "a connection ended with an error");
    }
}

#[cfg(test)]
mod tests {
    use axum::{Extension, body::Bytes, response::Response};
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn the_answer_to_a_request_without_tls_has_its_length() {
        let answer = std::str::from_utf8(NOT_ENCRYPTED).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
        let problem: api::Problem = serde_json::from_str(body).unwrap();
        assert_eq!(problem.status, 400);
    }

    /// More than the buffers of a connection take.
    const LARGE: usize = 32 << 20;

    #[tokio::test]
    async fn a_large_answer_is_sent_to_its_end_although_the_server_stops() {
        let (address, stop, tasks) = started().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 1];
        stream.read_exact(&mut answer).await.unwrap();
        // By now, the whole body is taken.
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.cancel();
        timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("it ends").unwrap();
        assert!(answer.len() > LARGE, "{} bytes", answer.len());
        timeout(Duration::from_secs(20), tasks.wait()).await.expect("nothing is left to send");
    }

    #[tokio::test]
    async fn an_answered_connection_does_not_delay_the_end() {
        let (address, stop, tasks) = started().await;
        let mut idle = Vec::new();
        for method in ["GET", "HEAD"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("{method} /health HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
            stream.read_exact(&mut [0; 15]).await.unwrap();
            idle.push(stream);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
        timeout(HEAD_TIMEOUT / 2, tasks.wait()).await.expect("no request is in progress");
    }

    async fn started() -> (SocketAddr, CancellationToken, TaskTracker) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/health", axum::routing::get(|| async { "ok" }))
            .route("/large", axum::routing::get(|| async { vec![b'x'; LARGE] }))
            .route("/body", axum::routing::post(|_: Bytes| async { "read" }));
        let router = router.layer(axum::middleware::map_response(identified));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(serve(listener, None, false, router, stop.clone()));
        tasks.close();
        (address, stop, tasks)
    }

    /// The answer to a sender with a token: its connection stays open.
    async fn identified(answer: Response) -> (Extension<Identified>, Response) {
        (Extension(Identified), answer)
    }

    async fn health(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn half_requests_do_not_stop_other_requests() {
        let (address, stop, tasks) = started().await;
        let mut half = Vec::new();
        for _ in 0..MAX_CONNECTIONS + 100 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // A server that has closed it already answers with a reset.
            let _ = stream.write_all(b"GET /health HTTP/1.1\r\nhost:").await;
            half.push(stream);
        }
        let answer = timeout(Duration::from_secs(20), health(address)).await.expect("it is answered");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        stop.cancel();
        timeout(Duration::from_secs(20), tasks.wait()).await.expect("no half request delays the end");
        drop(half);
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_body_is_answered_in_time() {
        let (address, _stop, _tasks) = started().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf").await.unwrap();
        let mut answer = vec![0; 12];
        timeout(2 * HEAD_TIMEOUT, stream.read_exact(&mut answer)).await.expect("it is answered").unwrap();
        assert_eq!(answer, b"HTTP/1.1 400");
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_request_is_closed_in_time() {
        let (address, _stop, _tasks) = started().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nhost:").await.unwrap();
        let mut answer = Vec::new();
        timeout(2 * HEAD_TIMEOUT, stream.read_to_end(&mut answer)).await.expect("it is closed").unwrap();
    }
}
