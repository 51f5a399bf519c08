//! The connections of a server: how many there are, how long one may wait, and which one yields to a new one.
//!
//! Anyone who reaches the port can open connections, even without a token. So a connection that has no request in progress
//! yields when there are too many, the oldest one of the peer with the most. So operators and health checks are served
//! even if a client opens a thousand incomplete requests.

mod request_body;

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::Request};
use bytes::Bytes;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
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

/// Maximum number of connections of one network, so that it cannot keep all others out. Requests of many people may come
/// through one proxy.
const MAX_NETWORK_CONNECTIONS: usize = MAX_CONNECTIONS * 3 / 4;

/// Minimum time that a connection has for its first request, unless all others are younger.
const MIN_TIME_TO_REQUEST: Duration = Duration::from_secs(1);

/// Maximum time until the head of the next request is complete. An unused connection is closed after this time too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause after a connection could not be accepted, mostly for want of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Serves connections until `stop`, and then until the requests in progress are answered. With `asks_for_user`, it finds out
/// which user opened each.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    asks_for_user: bool,
    router: Router,
    stop: CancellationToken,
) {
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
    tls: Option<TlsAcceptor>,
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
        let peer = Arc::new(Peer::of(&stream, peer, asks_for_user).await);
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
    let answered = Answered::default();
    let stream = WatchedStream { stream, answered: answered.clone() };
    let service = service_fn(move |request: Request<Incoming>| {
        let in_progress = InProgress::begin(&requests);
        let answered = answered.clone();
        let mut peer_request = request.map(|body| Body::new(TimedBody::new(body)));
        peer_request.extensions_mut().insert(peer.clone());
        let router = router.clone();
        async move {
            let response = router.oneshot(peer_request).await?;
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
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The requests of a connection whose answers are complete and may not be sent yet: hyper takes a whole body before the peer has
/// read it.
#[derive(Clone, Default)]
struct Answered(Arc<Mutex<Vec<InProgress>>>);

impl Answered {
    /// A body that keeps its request in progress until it is sent.
    fn hold(self, body: Body, in_progress: InProgress) -> HeldBody {
        HeldBody { body, in_progress: Some(in_progress), answered: self }
    }

    fn requests(&self) -> MutexGuard<'_, Vec<InProgress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that knows when everything was sent: hyper flushes it once nothing is left to write.
struct WatchedStream<Stream> {
    stream: Stream,
    answered: Answered,
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
struct HeldBody {
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

/// The open connections.
struct Connections {
    max: usize,
    max_of_network: usize,
    open: Arc<Mutex<BTreeMap<u64, OpenConnection>>>,
    next: AtomicU64,
}

/// An open connection. Its number says how old it is.
struct OpenConnection {
    network: IpAddr,
    opened_at: Instant,
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
    fn new(max: usize, max_of_network: usize) -> Self {
        Self { max, max_of_network, open: Arc::default(), next: AtomicU64::new(0) }
    }

    /// Returns a place for a new connection; one without a request yields to it if there are too many. `None` if all have
    /// requests in progress.
    fn admit(&self, peer: IpAddr) -> Option<Place> {
        let mut open = lock(&self.open);
        let network = network(peer);
        let of_network = open.values().filter(|connection| connection.network == network).count();
        let oldest = if of_network >= self.max_of_network {
            Some(yielding(open.iter().filter(|(_, connection)| connection.network == network))?)
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
        open.insert(
            number,
            OpenConnection { network, opened_at: Instant::now(), requests: requests.clone(), evicted: evicted.clone() },
        );
        Some(Place { number, open: self.open.clone(), requests, evicted })
    }
}

/// The connection that yields: without a request, of the network with the most such connections, and the oldest of those. One
/// that is just about to send its first request yields only to an older one.
fn yielding<'a>(open: impl Iterator<Item = (&'a u64, &'a OpenConnection)>) -> Option<u64> {
    let mut idle: BTreeMap<(bool, IpAddr), (usize, u64)> = BTreeMap::new();
    for (number, connection) in open.filter(|(_, connection)| connection.is_idle()) {
        let had_time = connection.opened_at.elapsed() >= MIN_TIME_TO_REQUEST;
        idle.entry((had_time, connection.network)).or_insert((0, *number)).0 += 1;
    }
    let had_time = idle.keys().any(|(had_time, _)| *had_time);
    let candidates = idle.into_iter().filter(|((its, _), _)| *its == had_time).map(|(_, counted)| counted);
    candidates.max_by_key(|(count, oldest)| (*count, Reverse(*oldest))).map(|(_, oldest)| oldest)
}

/// The network of an address, whose connections count together: whoever has one address there, has all of them. These are this
/// machine's addresses, and the 64 bits of an IPv6 network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address if address.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
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

    #[test]
    fn an_address_counts_as_its_network() {
        let network_of = |address: &str| network(address.parse().unwrap()).to_string();
        assert_eq!(network_of("127.9.8.7"), "127.0.0.1");
        assert_eq!(network_of("::1"), "127.0.0.1");
        assert_eq!(network_of("::ffff:10.0.0.2"), "10.0.0.2");
        assert_eq!(network_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }

    #[test]
    fn a_new_connection_has_time_for_its_request() {
        let connections = Connections::new(3, 3);
        let old = connections.admit(OTHER).unwrap();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        lock(&connections.open).values_mut().for_each(|connection| connection.opened_at = long_ago);
        let new = [connections.admit(PEER).unwrap(), connections.admit(PEER).unwrap()];
        let _fourth = connections.admit(PEER).unwrap();
        assert!(old.evicted.is_cancelled(), "although its network has fewer");
        let _fifth = connections.admit(OTHER).unwrap();
        assert_eq!(new.each_ref().map(|place| place.evicted.is_cancelled()), [true, false], "the oldest of the young");
    }

    async fn started() -> (SocketAddr, CancellationToken, TaskTracker) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/health", axum::routing::get(|| async { "ok" }))
            .route("/large", axum::routing::get(|| async { vec![b'x'; LARGE] }))
            .route("/body", axum::routing::post(|_: Bytes| async { "read" }));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(serve(listener, None, false, router, stop.clone()));
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
