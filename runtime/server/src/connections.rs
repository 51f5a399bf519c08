//! The connections of a server: how many there are, how long one may wait, and which one yields to a new one.
//!
//! Anyone who reaches the port can open connections, even without a token. So a connection that has no request in progress
//! yields when there are too many, the oldest one of the peer with the most. So operators and health checks are served
//! even if a client opens a thousand incomplete requests.

mod request_body;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request};
use bytes::Bytes;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use tracing::{debug, warn};

use request_body::TimedBody;

use crate::auth::peer::Peer;

/// Maximum number of connections. Each costs a file descriptor, of which a process often has only 1,024.
const MAX_CONNECTIONS: usize = 512;

/// Maximum number of connections of one peer, so that it cannot keep all others out. Requests of many people may come through
/// one proxy.
const MAX_PEER_CONNECTIONS: usize = MAX_CONNECTIONS * 3 / 4;

/// Maximum time until the head of the next request is complete. An unused connection is closed after this time too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause after a connection could not be accepted, mostly for want of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Serves connections until `stop`, and then until the requests in progress are answered.
pub(crate) async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router, stop: CancellationToken) {
    let (connections, tasks) = (Connections::new(MAX_CONNECTIONS, MAX_PEER_CONNECTIONS), TaskTracker::new());
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => match connections.admit(peer.ip()) {
                Some(place) => {
                    let accepted = Accepted { stream, peer, tls: tls.clone() };
                    tasks.spawn(accepted.serve(router.clone(), place, stop.clone()));
                }
                None => {
                    warn!(%peer, "a connection is refused: all others, or all others of its peer, have requests in progress")
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
    tls: Option<TlsAcceptor>,
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
        let Self { stream, peer, tls } = self;
        // A peer that has gone has no address any more, and reads no answer.
        let Ok(local) = stream.local_addr() else { return };
        let peer = Arc::new(Peer::new(peer, local));
        // Otherwise an event waits for the peer's acknowledgement of what was sent before, which the peer may delay by 40 ms.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "the events of a connection may be delayed");
        }
        let Some(tls) = tls else { return serve_connection(stream, peer, router, place, stop).await };
        let encrypted = tokio::select! {
            encrypted = tokio::time::timeout(HEAD_TIMEOUT, encrypt(stream, &tls)) => encrypted,
            () = place.evicted.cancelled() => return debug!("a connection without a request yields to a new one"),
            () = stop.cancelled() => return,
        };
        match encrypted {
            Ok(Ok(stream)) => serve_connection(stream, peer, router, place, stop).await,
            Ok(Err(error)) => debug!(%error, "a connection could not be encrypted"),
            Err(_) => debug!("a connection was not encrypted in time"),
        }
    }
}

/// Makes a TLS connection. A client that does not begin one is told to.
async fn encrypt(mut stream: TcpStream, tls: &TlsAcceptor) -> io::Result<TlsStream<TcpStream>> {
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
    let service = service_fn(move |request: Request<Incoming>| {
        let in_progress = InProgress::begin(&requests);
        let mut peer_request = request.map(|body| Body::new(TimedBody::new(body)));
        peer_request.extensions_mut().insert(peer.clone());
        let router = router.clone();
        async move {
            let response = router.oneshot(peer_request).await?;
            // The request is in progress until its body has ended: an event stream may take hours.
            Ok::<_, std::convert::Infallible>(response.map(|body| in_progress.hold(body)))
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

fn is_idle(requests: &AtomicUsize) -> bool {
    requests.load(Ordering::Acquire) == 0
}

/// Counts a request in progress until it is dropped.
struct InProgress(Arc<AtomicUsize>);

impl InProgress {
    fn begin(requests: &Arc<AtomicUsize>) -> Self {
        requests.fetch_add(1, Ordering::AcqRel);
        Self(requests.clone())
    }

    /// A body that keeps the request in progress until it is dropped.
    fn hold(self, body: Body) -> HeldBody {
        HeldBody { body, _in_progress: self }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The body of a response, whose request is in progress until it is sent or dropped.
struct HeldBody {
    body: Body,
    _in_progress: InProgress,
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

/// The open connections.
struct Connections {
    max: usize,
    max_of_peer: usize,
    open: Arc<Mutex<BTreeMap<u64, OpenConnection>>>,
    next: AtomicU64,
}

/// An open connection. Its number says how old it is.
struct OpenConnection {
    peer: IpAddr,
    /// The number of requests in progress.
    requests: Arc<AtomicUsize>,
    evicted: CancellationToken,
}

impl OpenConnection {
    fn is_idle(&self) -> bool {
        is_idle(&self.requests)
    }
}

/// The place of one connection. Dropping it makes room for another one.
struct Place {
    number: u64,
    open: Arc<Mutex<BTreeMap<u64, OpenConnection>>>,
    requests: Arc<AtomicUsize>,
    /// Cancelled when the connection has to yield.
    evicted: CancellationToken,
}

impl Connections {
    fn new(max: usize, max_of_peer: usize) -> Self {
        Self { max, max_of_peer, open: Arc::default(), next: AtomicU64::new(0) }
    }

    /// Returns a place for a new connection; one without a request yields to it if there are too many. `None` if all have
    /// requests in progress.
    fn admit(&self, peer: IpAddr) -> Option<Place> {
        let mut open = lock(&self.open);
        let of_peer = open.values().filter(|connection| connection.peer == peer).count();
        let oldest = if of_peer >= self.max_of_peer {
            Some(yielding(open.iter().filter(|(_, connection)| connection.peer == peer))?)
        } else if open.len() >= self.max {
            Some(yielding(open.iter())?)
        } else {
            None
        };
        if let Some(oldest) = oldest {
            open.remove(&oldest)?.evicted.cancel();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (requests, evicted) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        open.insert(number, OpenConnection { peer, requests: requests.clone(), evicted: evicted.clone() });
        Some(Place { number, open: self.open.clone(), requests, evicted })
    }
}

/// The connection that yields: without a request, of the peer with the most such connections, and the oldest of those.
fn yielding<'a>(open: impl Iterator<Item = (&'a u64, &'a OpenConnection)>) -> Option<u64> {
    let mut idle: BTreeMap<IpAddr, (usize, u64)> = BTreeMap::new();
    for (number, connection) in open.filter(|(_, connection)| connection.is_idle()) {
        idle.entry(connection.peer).or_insert((0, *number)).0 += 1;
    }
    idle.into_values().max_by_key(|(count, _)| *count).map(|(_, oldest)| oldest)
}

fn lock(open: &Mutex<BTreeMap<u64, OpenConnection>>) -> MutexGuard<'_, BTreeMap<u64, OpenConnection>> {
    // Each change is a single operation on the map.
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.open).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn the_answer_to_a_request_without_tls_has_its_length() {
        let answer = std::str::from_utf8(NOT_ENCRYPTED).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
        let problem: api::Problem = serde_json::from_str(body).unwrap();
        assert_eq!(problem.status, 400);
    }

    #[test]
    fn the_oldest_idle_connection_of_the_busiest_peer_yields() {
        let connections = Connections::new(4, 4);
        let places: Vec<Place> =
            [OTHER, PEER, PEER, PEER].into_iter().map(|peer| connections.admit(peer).unwrap()).collect();
        let in_progress = InProgress::begin(&places[1].requests);
        let fifth = connections.admit(OTHER).unwrap();
        let evicted = |places: &[Place]| places.iter().map(|place| place.evicted.is_cancelled()).collect::<Vec<_>>();
        assert_eq!(evicted(&places), [false, false, true, false], "the first of that peer has a request");
        drop(in_progress);
        drop(fifth);
        assert_eq!(lock(&connections.open).len(), 3, "the places of closed connections are free");
    }

    #[test]
    fn a_connection_is_refused_when_all_have_requests() {
        let connections = Connections::new(2, 2);
        let places = [connections.admit(PEER).unwrap(), connections.admit(PEER).unwrap()];
        let _requests = places.each_ref().map(|place| InProgress::begin(&place.requests));
        assert!(connections.admit(OTHER).is_none());
    }

    #[test]
    fn a_peer_leaves_room_for_others() {
        let connections = Connections::new(4, 3);
        let mut places: Vec<Place> = (0..3).map(|_| connections.admit(PEER).unwrap()).collect();
        let requests: Vec<InProgress> = places.iter().map(|place| InProgress::begin(&place.requests)).collect();
        assert!(connections.admit(PEER).is_none(), "all of its connections have requests");
        let other = connections.admit(OTHER).unwrap();
        drop(requests);
        places.push(connections.admit(PEER).unwrap());
        assert!(places[0].evicted.is_cancelled() && !other.evicted.is_cancelled(), "its own oldest yields");
    }

    async fn started() -> (SocketAddr, CancellationToken, TaskTracker) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/health", axum::routing::get(|| async { "ok" }))
            .route("/body", axum::routing::post(|_: Bytes| async { "read" }));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(serve(listener, None, router, stop.clone()));
        tasks.close();
        (address, stop, tasks)
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
