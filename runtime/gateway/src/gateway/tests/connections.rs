//! Tests of what ends with a request and with a call, of what a server sends beside its responses, and of what it receives.

use std::sync::Weak;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::*;
use crate::meter::ContentStream;

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Http1,
    Http1OverTls,
    Http2,
}

const ALL: [Speaks; 3] = [Speaks::Http1, Speaks::Http1OverTls, Speaks::Http2];

type Stream = Box<dyn ContentStream>;

/// A server that a test plays: it has the connections that were made to it.
struct Played {
    speaks: Speaks,
    address: SocketAddr,
    gateway: Arc<Gateway>,
    accepted: AsyncMutex<mpsc::Receiver<Stream>>,
    _folder: tempfile::TempDir,
}

impl Played {
    async fn start(speaks: Speaks) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tls = certificate(folder.path(), "localhost");
        let trust = Trust::Only(tls.identity.certificate.clone());
        let mut config = tls.config().unwrap();
        if speaks == Speaks::Http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, accepted) = mpsc::channel(16);
        TaskTracker::new().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let stream: Stream = match speaks {
                    Speaks::Http1 => Box::new(stream),
                    Speaks::Http1OverTls | Speaks::Http2 => match acceptor.accept(stream).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => continue,
                    },
                };
                if sender.send(stream).await.is_err() {
                    return;
                }
            }
        });
        let gateway = Arc::new(Gateway::new(ClientTls { trust, identity: None }));
        Self { speaks, address, gateway, accepted: AsyncMutex::new(accepted), _folder: folder }
    }

    fn call(&self, max_bytes: u64) -> CallGateway {
        let pattern = |scheme: &str| format!("* {scheme}://localhost:{}/**", self.address.port());
        let access = granted(&[&pattern("http"), &pattern("https")], &["127.0.0.0/8", "::1"]);
        self.gateway.for_call(None, access, Arc::default(), max_bytes)
    }

    fn request(&self) -> HttpRequest {
        let scheme = if self.speaks == Speaks::Http1 { "http" } else { "https" };
        request(&format!("{scheme}://localhost:{}/x?secret=1", self.address.port()))
    }

    /// The next connection.
    async fn connection(&self) -> Stream {
        self.accepted.lock().await.recv().await.unwrap()
    }

    /// The next connection, with the first bytes of a request; over HTTP/2, the server takes any number of bytes.
    async fn accept(&self) -> Stream {
        let mut stream = self.connection().await;
        if self.speaks == Speaks::Http2 {
            // A stream, and the connection, may have 2^31 - 1 bytes.
            let settings = frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
            let window = frame(8, 0, 0, &[0x7f, 0xff, 0, 0]);
            stream.write_all(&[settings, window].concat()).await.unwrap();
        }
        receive(&mut stream, 1).await;
        stream
    }

    /// The result of a request whose connection gets these bytes, and the connection.
    async fn exchange(&self, call: &CallGateway, answer: &[u8]) -> (Result<HttpResponse, HttpError>, Stream) {
        let answering = async {
            let mut stream = self.accept().await;
            stream.write_all(answer).await.unwrap();
            stream
        };
        tokio::join!(call.send(self.request()), answering)
    }

    /// An answer with this status; over HTTP/2, to the first request of a connection.
    fn answer(&self, status: u16) -> Vec<u8> {
        let is_final = status >= 200;
        match self.speaks {
            Speaks::Http1 | Speaks::Http1OverTls if is_final => {
                format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n").into()
            }
            Speaks::Http1 | Speaks::Http1OverTls => format!("HTTP/1.1 {status} x\r\nlink: </y>\r\n\r\n").into(),
            Speaks::Http2 => {
                // `:status` with this value, outside the table.
                let headers = [&[8, 3], status.to_string().as_bytes()].concat();
                frame(1, if is_final { 5 } else { 4 }, 1, &headers)
            }
        }
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], content].concat()
}

/// Receives at least this number of bytes.
async fn receive(stream: &mut Stream, count: usize) {
    let (mut received, mut bytes) = (0, vec![0; 4_096]);
    while received < count {
        match stream.read(&mut bytes).await.unwrap() {
            0 => panic!("the connection has ended"),
            length => received += length,
        }
    }
}

/// Receives until the client has closed the connection, and returns the number of bytes.
async fn receive_all(stream: &mut Stream) -> usize {
    let (mut received, mut bytes) = (0, vec![0; 64 << 10]);
    while let Ok(length @ 1..) = stream.read(&mut bytes).await {
        received += length;
    }
    received
}

/// More than the system buffers for a connection.
const LARGE: usize = 64 << 20;

/// A body that can be seen to be in memory.
struct Seen(Vec<u8>, #[expect(dead_code, reason = "it is only dropped")] Arc<()>);

impl AsRef<[u8]> for Seen {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn seen_body(length: usize) -> (Weak<()>, Bytes) {
    let alive = Arc::new(());
    (Arc::downgrade(&alive), Bytes::from_owner(Seen(vec![b'x'; length], alive)))
}

/// The connection of a request, when the server has taken some of its body.
async fn begun(server: &Played, sending: impl Future<Output = Result<HttpResponse, HttpError>>) -> Stream {
    let taking_some = async {
        let mut stream = server.accept().await;
        receive(&mut stream, 1 << 20).await;
        stream
    };
    tokio::select! {
        stream = taking_some => stream,
        result = sending => panic!("{:?}: {result:?}", server.speaks),
    }
}

#[tokio::test]
async fn a_dropped_request_leaves_no_connection_and_no_body() {
    for speaks in ALL {
        let server = Played::start(speaks).await;
        let call = server.call(2 * LARGE as u64);
        let (body_is_there, body) = seen_body(LARGE);
        let mut sending = call.send(with_body(server.request(), body));
        let mut stream = begun(&server, &mut sending).await;
        assert!(body_is_there.upgrade().is_some());
        drop(sending);
        assert!(body_is_there.upgrade().is_none(), "{speaks:?}: the body is still in memory");
        let received = receive_all(&mut stream).await;
        assert!(received < LARGE, "{speaks:?}: all of the body was sent");
        // The call goes on, over another connection.
        let (response, _stream) = server.exchange(&call, &server.answer(204)).await;
        assert_eq!(response.unwrap().status, 204, "{speaks:?}");
    }
}

#[tokio::test]
async fn a_timeout_leaves_no_connection_and_no_body() {
    for speaks in ALL {
        let server = Played::start(speaks).await;
        let call = server.call(2 * LARGE as u64);
        let (body_is_there, body) = seen_body(LARGE);
        let after = Duration::from_secs(1_000);
        let timeouts = Timeouts { response: Some(after), between_bytes: None };
        let mut sending = call.send(HttpRequest { timeouts, ..with_body(server.request(), body) });
        let mut stream = begun(&server, &mut sending).await;
        tokio::time::pause();
        tokio::time::advance(after).await;
        assert_eq!(sending.await, Err(HttpError::Timeout { after }), "{speaks:?}");
        tokio::time::resume();
        assert!(body_is_there.upgrade().is_none(), "{speaks:?}: the body is still in memory");
        assert!(receive_all(&mut stream).await < LARGE, "{speaks:?}: all of the body was sent");
    }
}

#[tokio::test]
async fn a_response_that_is_dropped_ends_its_connection() {
    for speaks in [Speaks::Http1, Speaks::Http1OverTls] {
        let server = Played::start(speaks).await;
        let call = server.call(1 << 20);
        let mut sending = call.send(server.request());
        let answering = async {
            let mut stream = server.accept().await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await.unwrap();
            stream
        };
        let mut stream = tokio::select! {
            stream = answering => stream,
            result = &mut sending => panic!("{speaks:?}: {result:?}"),
        };
        drop(sending);
        assert_eq!(receive_all(&mut stream).await, 0, "{speaks:?}");
    }
}

#[tokio::test]
async fn unused_connections_end_with_the_call() {
    for speaks in ALL {
        let server = Played::start(speaks).await;
        let call = server.call(1 << 20);
        let (response, mut stream) = server.exchange(&call, &server.answer(204)).await;
        response.unwrap();
        drop(call);
        receive_all(&mut stream).await;
    }
}

#[tokio::test]
async fn unused_connections_end_after_a_while() {
    for speaks in ALL {
        let server = Played::start(speaks).await;
        let call = server.call(1 << 20);
        let (response, mut stream) = server.exchange(&call, &server.answer(204)).await;
        response.unwrap();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(61)).await;
        receive_all(&mut stream).await;
        tokio::time::resume();
        drop(call);
    }
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_not_used_again() {
    for speaks in [Speaks::Http1, Speaks::Http1OverTls] {
        let server = Played::start(speaks).await;
        let call = server.call(1 << 20);
        for _ in 0..2 {
            let (response, mut stream) = server.exchange(&call, &server.answer(204)).await;
            response.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(receive_all(&mut stream).await, 0, "{speaks:?}");
        }
    }
}

#[tokio::test]
async fn an_early_answer_keeps_no_rest_of_a_body() {
    let server = Played::start(Speaks::Http2).await;
    let call = server.call(1 << 20);
    let (body_is_there, body) = seen_body(500_000);
    let answering = async {
        let mut stream = server.connection().await;
        // By default, a stream may have 65,535 bytes.
        stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        receive(&mut stream, 60_000).await;
        stream.write_all(&server.answer(413)).await.unwrap();
        stream
    };
    let (response, mut stream) = tokio::join!(call.send(with_body(server.request(), body)), answering);
    assert_eq!(response.unwrap().status, 413);
    assert!(body_is_there.upgrade().is_none(), "the body is still in memory");
    receive_all(&mut stream).await;
}

/// Sends the same bytes after the first ones of a request, until the client has enough.
async fn send_for_ever(server: &Played, bytes: &[u8]) {
    let mut stream = server.accept().await;
    let many = bytes.repeat(1 + (16 << 10) / bytes.len());
    while stream.write_all(&many).await.is_ok() {}
}

#[tokio::test]
async fn interim_responses_count_as_bytes_of_the_call() {
    for speaks in ALL {
        let server = Played::start(speaks).await;
        let call = server.call(300_000);
        let interim = server.answer(103);
        let (result, ()) = tokio::join!(call.send(server.request()), send_for_ever(&server, &interim));
        assert_eq!(result, Err(HttpError::TooLarge { limit: 300_000 }), "{speaks:?}");
        let again = call.send(server.request()).await;
        assert_eq!(again, Err(HttpError::TooLarge { limit: 300_000 }), "{speaks:?}: nothing is left");
    }
}

#[tokio::test]
async fn some_interim_responses_change_nothing() {
    for speaks in ALL {
        let server = Played::start(speaks).await;
        let call = server.call(1 << 20);
        let answers = [103, 103, 102, 204].map(|status| server.answer(status)).concat();
        let (response, _stream) = server.exchange(&call, &answers).await;
        let HttpResponse { status, headers, .. } = response.unwrap();
        assert!(status == 204 && !headers.contains_key("link"), "{speaks:?}: {status} {headers:?}");
    }
}

#[tokio::test]
async fn frames_that_mean_nothing_count_as_bytes_of_the_call() {
    // An unknown kind, and a priority.
    for ignored in [frame(0xfa, 0, 0, &[0; 200]), frame(2, 0, 1, &[0, 0, 0, 0, 16])] {
        let server = Played::start(Speaks::Http2).await;
        let call = server.call(300_000);
        let (result, ()) = tokio::join!(call.send(server.request()), send_for_ever(&server, &ignored));
        assert_eq!(result, Err(HttpError::TooLarge { limit: 300_000 }));
    }
}

#[tokio::test]
async fn a_response_over_http2_that_is_cut_off_is_an_error() {
    let (status, hello) = (frame(1, 4, 1, &[0x88]), frame(0, 0, 1, b"hello"));
    // A reset and the end of the connection, both without an error; the end of the body.
    let (reset, goes, end) = (frame(3, 0, 1, &[0; 4]), frame(7, 0, 0, &[0; 8]), frame(0, 1, 1, b""));
    for (last, expected) in [(reset, Err(())), (goes, Err(())), (end, Ok("hello"))] {
        let server = Played::start(Speaks::Http2).await;
        let answer = [&status[..], &hello, &last].concat();
        let (response, _stream) = server.exchange(&server.call(1 << 20), &answer).await;
        let body = response.map(|response| response.body).map_err(|_| ());
        assert_eq!(body, expected.map(Bytes::from), "{last:?}");
    }
}

#[tokio::test]
async fn a_response_over_http2_may_have_many_small_parts() {
    let server = Played::start(Speaks::Http2).await;
    // The windows of the client count once its settings are acknowledged.
    let (settings, status) = (frame(4, 1, 0, b""), frame(1, 4, 1, &[0x88]));
    let parts = frame(0, 0, 1, &[b'x'; 64]).repeat(20_000);
    let answer = [&settings[..], &status, &parts, &frame(0, 1, 1, b"")].concat();
    let (response, _stream) = server.exchange(&server.call(4 << 20), &answer).await;
    assert_eq!(response.map(|response| response.body.len()), Ok(64 * 20_000));
}

#[tokio::test]
async fn a_request_over_http1_has_the_usual_head() {
    let server = Server::start(OK, None).await;
    let call = call(&gateway(), &server, None);
    let url = server.url("http", "127.0.0.1");
    call.send(with_header(request(&url), "X-Pan", "24")).await.unwrap();
    call.send(with_body(request(&url), "12345")).await.unwrap();
    call.send(with_body(request(&url), "")).await.unwrap();
    let agent = concat!("user-agent: waft/", env!("CARGO_PKG_VERSION"));
    let host = format!("accept: */*\r\nhost: 127.0.0.1:{}", server.address.port());
    assert_eq!(
        server.heads(),
        [
            format!("GET /x?secret=1 HTTP/1.1\r\nx-pan: 24\r\n{agent}\r\n{host}\r\n\r\n"),
            format!("POST /x?secret=1 HTTP/1.1\r\n{agent}\r\nconnection: close\r\n{host}\r\ncontent-length: 5\r\n\r\n"),
            format!("POST /x?secret=1 HTTP/1.1\r\n{agent}\r\ncontent-length: 0\r\n{host}\r\n\r\n"),
        ]
    );
}

#[tokio::test]
async fn requests_over_http2_have_the_usual_head_and_one_connection() {
    async fn answer(request: http::Request<Incoming>) -> hyper::Result<http::Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let length = body.collect().await?.to_bytes().len();
        let received = format!("{} {} {:?} {length}", head.method, head.uri, head.headers);
        Ok(http::Response::new(Full::from(received)))
    }
    let server = Played::start(Speaks::Http2).await;
    let call = server.call(1 << 20);
    let serving = async {
        let stream = TokioIo::new(server.connection().await);
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        drop(builder.serve_connection(stream, hyper::service::service_fn(answer)).await);
    };
    let requesting = async {
        for (length, size) in [(0, "0"), (300_000, "300000"), (5, "5")] {
            let sent = with_body(server.request(), vec![b'x'; length]);
            let body = call.send(with_header(sent, "X-Pan", "24")).await.unwrap().body;
            let text = String::from_utf8(body.to_vec()).unwrap();
            let address = format!("POST https://localhost:{}/x?secret=1 ", server.address.port());
            let headers = text.strip_prefix(&address).and_then(|rest| rest.strip_suffix(&format!(" {size}")));
            let mut headers: Vec<_> =
                headers.unwrap_or_else(|| panic!("{text}")).trim_matches(['{', '}']).split(", ").collect();
            headers.sort_unstable();
            let agent = concat!("\"user-agent\": \"waft/", env!("CARGO_PKG_VERSION"), "\"");
            let content_length = format!("\"content-length\": \"{size}\"");
            assert_eq!(headers, ["\"accept\": \"*/*\"", &content_length, agent, "\"x-pan\": \"24\""]);
        }
        // The server has served its only connection when it ends.
        drop(call);
    };
    tokio::join!(serving, requesting);
}

#[tokio::test]
async fn a_body_of_http1_ends_in_each_of_its_ways() {
    for (answer, expected) in [
        ("200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-after: 1\r\n\r\n", Ok("hello")),
        ("200 OK\r\n\r\nhello", Ok("hello")),
        ("204 No Content\r\n\r\n", Ok("")),
        ("200 OK\r\ncontent-length: 9\r\n\r\nhello", Err(())),
        ("200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", Err(())),
    ] {
        let server = Played::start(Speaks::Http1).await;
        let call = server.call(1 << 20);
        let answering = async {
            let mut stream = server.accept().await;
            stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            stream
        };
        let (response, _stream) = tokio::join!(call.send(server.request()), answering);
        let body = response.map(|response| response.body).map_err(|_| ());
        assert_eq!(body, expected.map(Bytes::from), "{answer}");
    }
}
