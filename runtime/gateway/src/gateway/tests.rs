//! Tests the gateway against servers on loopback.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use credentials::{Identity, ServerTls, Trust};
use flow::{Access, Digest, Grant, Grants, HttpTarget};
use http::HeaderMap;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_util::task::TaskTracker;

use super::*;

mod connections;
mod secrets;

/// A server that answers each request with `answer`, and never if that is empty. Like Python's `http.server`, it reads no bodies: what
/// follows a head is the next request. It closes a connection when a head asks for it.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// The heads of the requests.
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answer: &'static str, tls: Option<ServerTls>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server =
            Self { address: listener.local_addr().unwrap(), connections: Arc::default(), heads: Arc::default() };
        let (connections, heads) = (server.connections.clone(), server.heads.clone());
        let acceptor = tls.map(|tls| tokio_rustls::TlsAcceptor::from(Arc::new(tls.config().unwrap())));
        let tasks = TaskTracker::new();
        tasks.clone().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, heads) = (acceptor.clone(), heads.clone());
                drop(tasks.spawn(async move {
                    match acceptor {
                        None => serve(stream, answer, &heads).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, answer, &heads).await;
                            }
                        }
                    }
                }));
            }
        });
        server
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    fn url(&self, scheme: &str, host: &str) -> String {
        format!("{scheme}://{host}:{}/x?secret=1", self.address.port())
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str, heads: &Mutex<Vec<String>>) {
    let mut received = Vec::new();
    let mut bytes = [0; 4_096];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        received.extend_from_slice(&bytes[..count]);
        while let Some(end) = memchr::memmem::find(&received, b"\r\n\r\n") {
            let head = String::from_utf8(received.drain(..end + 4).collect()).unwrap();
            let is_last = head.contains("\r\nconnection: close\r\n");
            heads.lock().unwrap().push(head);
            if stream.write_all(answer.as_bytes()).await.is_err() || is_last {
                drop(stream.shutdown().await);
                return;
            }
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nx-pan: 24\r\ncontent-length: 5\r\n\r\nhello";

fn request(url: &str) -> HttpRequest {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_at(rest.find('/').unwrap());
    let target = HttpTarget::new("GET", scheme, authority, path).unwrap();
    HttpRequest { target, headers: HeaderMap::new(), body: "".into(), timeouts: Timeouts::default() }
}

/// What a call may do whose flow asks for every request, and whose operator grants these patterns and networks.
fn granted(patterns: &[&str], networks: &[&str]) -> Arc<CallAccess> {
    let http = |patterns: &[&str]| -> BTreeSet<_> { patterns.iter().map(|text| text.parse().unwrap()).collect() };
    let access = Access { http: http(patterns), ..Access::default() };
    let networks = networks.iter().map(|text| text.parse().unwrap()).collect();
    let grants = Grants(vec![Grant { access: access.clone(), networks, ..Grant::default() }]);
    let (flow, task) = ("f".parse().unwrap(), "t".parse().unwrap());
    Arc::new(grants.of_call(&access, &flow, &task, &Digest::from_bytes([0; 32])))
}

fn any_of(server: &Server) -> Vec<String> {
    ["http", "https"].map(|scheme| format!("* {scheme}://*:{}/**", server.address.port())).into()
}

fn gateway() -> Arc<Gateway> {
    Arc::new(Gateway::new(ClientTls { trust: Trust::Nothing, identity: None }))
}

/// A call that may reach the server on loopback.
fn call(gateway: &Arc<Gateway>, server: &Server, namespace: Option<&str>) -> CallGateway {
    let patterns = any_of(server);
    let access = granted(&patterns.iter().map(String::as_str).collect::<Vec<_>>(), &["127.0.0.0/8", "::1"]);
    gateway.for_call(namespace.map(|name| Namespace::new(name).unwrap()), access, Arc::default(), 1 << 20)
}

#[tokio::test]
async fn a_granted_request_has_its_response() {
    let server = Server::start(OK, None).await;
    let response = call(&gateway(), &server, None).send(request(&server.url("http", "localhost"))).await.unwrap();
    let HttpResponse { status, headers, body } = response;
    assert_eq!((status.as_u16(), &headers["x-pan"], &body[..]), (200, &"24".parse().unwrap(), &b"hello"[..]));
}

#[tokio::test]
async fn an_address_that_is_not_public_is_not_connected_to() {
    let server = Server::start(OK, None).await;
    let patterns = any_of(&server);
    let access = granted(&patterns.iter().map(String::as_str).collect::<Vec<_>>(), &["10.0.0.0/8"]);
    let call = gateway().for_call(None, access, Arc::default(), 1 << 20);
    let error = call.send(request(&server.url("http", "localhost"))).await.unwrap_err();
    let HttpError::Denied(reason) = &error else { panic!("{error:?}") };
    assert!(reason.starts_with("a connection to localhost is denied: the host has the address "), "{reason}");
    assert!(call.send(request(&server.url("http", "127.0.0.1"))).await.is_err());
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_connection_belongs_to_one_call_and_one_reach() {
    let (server, gateway) = (Server::start(OK, None).await, gateway());
    let url = server.url("http", "127.0.0.1");
    let shop = call(&gateway, &server, Some("shop"));
    for _ in 0..3 {
        shop.send(request(&url)).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
    call(&gateway, &server, Some("shop")).send(request(&url)).await.unwrap();
    assert_eq!(server.connections(), 2, "another call of the same flow");
    // Another reach: the address of a kept connection was not checked for it.
    let port = server.address.port();
    let (named, any) = (format!("GET http://127.0.0.1:{port}/**"), format!("GET http://localhost:{port}/**"));
    let both = gateway.for_call(None, granted(&[&named, &any], &[]), Arc::default(), 1 << 20);
    both.send(request(&url)).await.unwrap();
    both.send(request(&server.url("http", "localhost"))).await.unwrap();
    assert_eq!(server.connections(), 4);
}

#[tokio::test]
async fn a_body_that_a_server_does_not_read_is_no_request() {
    let server = Server::start(OK, None).await;
    let call = call(&gateway(), &server, None);
    let smuggled = "DELETE /admin HTTP/1.1\r\nhost: a\r\n\r\n";
    for method in ["GET", "DELETE", "POST", "BREW"] {
        let mut sent = request(&server.url("http", "127.0.0.1"));
        let authority = sent.target.url().authority().to_owned();
        sent.target = HttpTarget::new(method, "http", &authority, "/x").unwrap();
        sent.body = smuggled.into();
        call.send(sent).await.unwrap();
        call.send(request(&server.url("http", "127.0.0.1"))).await.unwrap();
    }
    let line = |head: &String| head.split(" HTTP").next().unwrap().to_owned();
    let handled: Vec<_> = server.heads().iter().map(line).collect();
    let expected = ["GET /x", "DELETE /x", "POST /x", "BREW /x"].map(|line| [line, "GET /x?secret=1"]).concat();
    assert_eq!(handled, expected);
}

#[tokio::test]
async fn all_requests_and_responses_of_a_call_have_at_most_so_many_bytes() {
    let server = Server::start(OK, None).await;
    let access = granted(&[&format!("GET http://127.0.0.1:{}/**", server.address.port())], &[]);
    let url = server.url("http", "127.0.0.1");
    let once = url.len() + OK.len();
    let call = gateway().for_call(None, access, Arc::default(), 2 * once as u64);
    for _ in 0..2 {
        call.send(request(&url)).await.unwrap();
    }
    assert_eq!(call.send(request(&url)).await, Err(HttpError::TooLarge { limit: 2 * once as u64 }));
}

#[tokio::test]
async fn a_call_has_only_so_many_requests_at_a_time() {
    let server = Server::start("", None).await;
    let call = call(&gateway(), &server, None);
    let url = server.url("http", "127.0.0.1");
    let mut open: Vec<_> = (0..MAX_CONCURRENT_REQUESTS).map(|_| call.send(request(&url))).collect();
    for sent in &mut open {
        assert!(tokio::time::timeout(Duration::from_millis(20), sent).await.is_err(), "the server does not answer");
    }
    let limit = MAX_CONCURRENT_REQUESTS;
    assert_eq!(call.send(request(&url)).await, Err(HttpError::TooMany { limit }));
    open.pop();
    let sent = call.send(request(&url));
    assert!(tokio::time::timeout(Duration::from_millis(20), sent).await.is_err(), "there is room again");
}

#[tokio::test]
async fn a_response_that_does_not_begin_or_stops_is_a_timeout() {
    let after = Duration::from_millis(100);
    let silent = Server::start("", None).await;
    let timeouts = Timeouts { response: Some(after), between_bytes: None };
    let sent = HttpRequest { timeouts, ..request(&silent.url("http", "127.0.0.1")) };
    assert_eq!(call(&gateway(), &silent, None).send(sent).await, Err(HttpError::Timeout { after }));
    let stuck = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello", None).await;
    let timeouts = Timeouts { response: None, between_bytes: Some(after) };
    let sent = HttpRequest { timeouts, ..request(&stuck.url("http", "127.0.0.1")) };
    assert_eq!(call(&gateway(), &stuck, None).send(sent).await, Err(HttpError::Timeout { after }));
}

#[tokio::test]
async fn errors_name_the_cause_and_no_query() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let closed = Server { address: closed, connections: Arc::default(), heads: Arc::default() };
    let error = call(&gateway(), &closed, None).send(request(&closed.url("http", "127.0.0.1"))).await.unwrap_err();
    assert!(matches!(&error, HttpError::Connect { reason } if reason.contains("refused")), "{error:?}");
    let garbage = Server::start("what?\r\n\r\n", None).await;
    let error = call(&gateway(), &garbage, None).send(request(&garbage.url("http", "127.0.0.1"))).await.unwrap_err();
    assert!(matches!(error, HttpError::Protocol { .. }) && !error.to_string().contains("secret"), "{error:?}");
    let access = granted(&["GET http://no-such-host.invalid/**"], &[]);
    let error =
        gateway().for_call(None, access, Arc::default(), 1 << 20).send(request("http://no-such-host.invalid/x")).await;
    assert!(matches!(&error, Err(HttpError::NoAddress { host, .. }) if host == "no-such-host.invalid"), "{error:?}");
}

/// A certificate for this name, signed by itself, in a folder.
fn certificate(folder: &Path, name: &str) -> ServerTls {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    std::fs::write(&certificate, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    ServerTls { identity: Identity { certificate, key }, client_authority: None }
}

#[tokio::test]
async fn a_certificate_has_to_be_trusted_and_for_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let tls = certificate(folder.path(), "localhost");
    let trust = Trust::Only(tls.identity.certificate.clone());
    let server = Server::start(OK, Some(tls)).await;
    let trusting = Arc::new(Gateway::new(ClientTls { trust, identity: None }));
    let by_name = || request(&server.url("https", "localhost"));
    assert_eq!(call(&trusting, &server, None).send(by_name()).await.unwrap().body, "hello");
    let error = call(&gateway(), &server, None).send(by_name()).await.unwrap_err();
    assert!(matches!(error, HttpError::Tls { .. }), "{error:?}");
    let by_address = request(&server.url("https", "127.0.0.1"));
    let error = call(&trusting, &server, None).send(by_address).await.unwrap_err();
    assert!(matches!(error, HttpError::Tls { .. }), "{error:?}");
}

/// A call whose operator lets it put this value into a header, a query and a body of every request to the server.
fn call_with_secret(gateway: &Arc<Gateway>, server: &Server, value: &str, max_bytes: u64) -> CallGateway {
    call_with_source(gateway, server.address, crate::SecretSource::Text(value.to_owned()), max_bytes)
}

fn call_with_source(
    gateway: &Arc<Gateway>,
    server: SocketAddr,
    source: crate::SecretSource,
    max_bytes: u64,
) -> CallGateway {
    let pattern = |scheme: &str| format!("* {scheme}://*:{}/**", server.port());
    let http: Vec<flow::HttpPattern> = ["http", "https"].map(|scheme| pattern(scheme).parse().unwrap()).into();
    let access = Access {
        http: http.iter().cloned().collect(),
        secrets: BTreeSet::from(["KEY".parse().unwrap()]),
        ..Access::default()
    };
    let networks = ["127.0.0.0/8", "::1"].map(|text| text.parse().unwrap()).into();
    let grants = Grants(vec![Grant { access: access.clone(), networks, ..Grant::default() }]);
    let (flow, task) = ("f".parse().unwrap(), "t".parse().unwrap());
    let granted = Arc::new(grants.of_call(&access, &flow, &task, &Digest::from_bytes([0; 32])));
    let secret =
        crate::Secret { source, headers: vec![header::AUTHORIZATION], query: vec!["key".to_owned()], body: true, http };
    let secrets = crate::Secrets([("KEY".parse().unwrap(), secret)].into());
    gateway.for_call(None, granted, Arc::new(Rules { grants, secrets }), max_bytes)
}

fn with_header(mut request: HttpRequest, name: &'static str, value: &str) -> HttpRequest {
    request.headers.append(name, value.parse().unwrap());
    request
}

fn with_body(mut request: HttpRequest, body: impl Into<Bytes>) -> HttpRequest {
    let url = request.target.url().clone();
    let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    request.target = HttpTarget::new("POST", url.scheme(), url.authority(), &path).unwrap();
    request.body = body.into();
    request
}

#[tokio::test]
async fn headers_about_the_connection_are_denied() {
    let server = Server::start(OK, None).await;
    let call = call(&gateway(), &server, None);
    let url = server.url("http", "127.0.0.1");
    for name in [
        "host",
        "connection",
        "upgrade",
        "transfer-encoding",
        "proxy-connection",
        "proxy-authorization",
        "proxy-any",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "expect",
    ] {
        let error = call.send(with_header(request(&url), name, "100-continue")).await.unwrap_err();
        let HttpError::Denied(reason) = &error else { panic!("{name}: {error:?}") };
        assert!(reason.starts_with(&format!("the header {name} of GET http://127.0.0.1")), "{reason}");
    }
    assert_eq!(server.connections(), 0);
    call.send(with_header(with_body(request(&url), "12345"), "content-length", "3")).await.unwrap();
    let [head] = &server.heads()[..] else { panic!("{:?}", server.heads()) };
    assert!(head.matches("content-length: ").count() == 1 && head.contains("content-length: 5\r\n"), "{head}");
}

#[tokio::test]
async fn headers_have_a_maximum_size() {
    let server = Server::start(OK, None).await;
    let url = server.url("http", "127.0.0.1");
    let own = call(&gateway(), &server, None);
    own.send(with_header(request(&url), "x-a", &"x".repeat(30 << 10))).await.unwrap();
    let many = (0..900).fold(request(&url), |request, _| with_header(request, "x-a", ""));
    for large in [with_header(request(&url), "x-a", &"x".repeat(33 << 10)), many] {
        let error = own.send(large).await.unwrap_err();
        assert!(error.to_string().ends_with("its headers have more than 32 KiB in memory"), "{error}");
    }
    let with_secret = call_with_secret(&gateway(), &server, &"s3cret".repeat(1_000), 1 << 20);
    let marks = |count| with_header(request(&url), "authorization", &"{{secret:KEY}}".repeat(count));
    with_secret.send(marks(5)).await.unwrap();
    let error = with_secret.send(marks(6)).await.unwrap_err();
    assert!(error.to_string().ends_with("its headers have more than 32 KiB in memory"), "{error}");
    let marks = format!("{}&key={}", url, "{{secret:KEY}}".repeat(3));
    let error = with_secret.send(request(&marks)).await.unwrap_err();
    assert!(error.to_string().ends_with("with its secrets, its address is longer than 16 KiB"), "{error}");
    assert!(!error.to_string().contains("s3cret"), "{error}");
    assert_eq!(server.heads().len(), 2);

    let large: &str =
        format!("HTTP/1.1 200 OK\r\nx-large: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(33 << 10)).leak();
    let server = Server::start(large, None).await;
    let error = call(&gateway(), &server, None).send(request(&server.url("http", "127.0.0.1"))).await.unwrap_err();
    assert!(error.to_string().ends_with("the headers of the response have more than 32 KiB in memory"), "{error}");
}

#[tokio::test]
async fn inserted_values_count_as_bytes_of_the_call() {
    let server = Server::start(OK, None).await;
    let call = call_with_secret(&gateway(), &server, &"s3cret".repeat(1_000), 10_000);
    let sent = with_body(request(&server.url("http", "127.0.0.1")), "{{secret:KEY}}".repeat(2));
    assert_eq!(call.send(sent).await, Err(HttpError::TooLarge { limit: 10_000 }));
    assert_eq!(server.connections(), 0);
}

/// A server of HTTP/2 that closes each connection, with a text.
async fn closing_with(folder: &Path, text: &'static str) -> (Server, Trust) {
    let tls = certificate(folder, "localhost");
    let trust = Trust::Only(tls.identity.certificate.clone());
    let mut config = tls.config().unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server { address: listener.local_addr().unwrap(), connections: Arc::default(), heads: Arc::default() };
    TaskTracker::new().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            // SETTINGS and GOAWAY: the length, the kind, no flags, the connection; then the last stream, and the code 11.
            let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
            let goaway = [0, 0, 8 + u8::try_from(text.len()).unwrap(), 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
            // After the request, so that this is an answer to it.
            let mut received = vec![0; 4_096];
            drop(stream.read(&mut received).await);
            drop(stream.write_all(&[&settings[..], &goaway, text.as_bytes()].concat()).await);
            drop(stream.shutdown().await);
        }
    });
    (server, trust)
}

#[tokio::test]
async fn errors_of_a_server_show_no_value() {
    let folder = tempfile::tempdir().unwrap();
    let (server, trust) = closing_with(folder.path(), "it was s3\"cret").await;
    let gateway = Arc::new(Gateway::new(ClientTls { trust, identity: None }));
    let call = call_with_secret(&gateway, &server, "s3\"cret", 1 << 20);
    let sent = with_header(request(&server.url("https", "localhost")), "authorization", "{{secret:KEY}}");
    let error = call.send(sent).await.unwrap_err();
    let HttpError::Protocol { reason } = &error else { panic!("{error:?}") };
    assert!(reason.starts_with("connection error") && !reason.contains("was"), "{reason}");
    let text = HttpError::Tls { reason: "no certificate for s3\"cret.example".into() };
    assert_eq!(
        call.used_secrets().redact_error(text).to_string(),
        "TLS failed: no certificate for {{secret:KEY}}.example"
    );
}

const ECHO: &str = "HTTP/1.1 200 OK\r\nx-s3cret: 1\r\nx-of: s3cret\r\ncontent-length: 17\r\n\r\nit was s3cret ...";

#[tokio::test]
async fn no_later_response_shows_a_value() {
    let server = Server::start(ECHO, None).await;
    let url = server.url("http", "127.0.0.1");
    let gateway = gateway();
    let check = |HttpResponse { headers, body, .. }: HttpResponse| {
        assert_eq!(body, "it was {{secret:KEY}} ...");
        assert_eq!(headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["x-of"]);
        assert_eq!(headers["x-of"], "{{secret:KEY}}");
    };
    let own = call_with_secret(&gateway, &server, "s3cret", 1 << 20);
    check(own.send(with_header(request(&url), "authorization", "{{secret:KEY}}")).await.unwrap());
    check(own.send(request(&url)).await.unwrap());
    let other = call_with_secret(&gateway, &server, "s3cret", 1 << 20);
    check(other.send(request(&url)).await.unwrap());
    assert_eq!(
        other.used_secrets().redact_text("s3cret").as_deref(),
        Some("{{secret:KEY}}"),
        "and what the call leaves"
    );
    let stranger = call(&gateway, &server, None);
    assert_eq!(stranger.send(request(&url)).await.unwrap().body, "it was s3cret ...");
}

#[tokio::test]
async fn a_response_with_a_value_comes_whole_and_as_it_is() {
    let server = Server::start(OK, None).await;
    let sent = || {
        let all = [("range", "bytes=0-3"), ("if-range", "\"a\""), ("accept-encoding", "gzip"), ("x-a", "b")];
        all.iter().fold(request(&server.url("http", "127.0.0.1")), |sent, (name, value)| with_header(sent, name, value))
    };
    call_with_secret(&gateway(), &server, "s3cret", 1 << 20).send(sent()).await.unwrap();
    call(&gateway(), &server, None).send(sent()).await.unwrap();
    let [with_secret, without] = &server.heads()[..] else { panic!("{:?}", server.heads()) };
    assert!(with_secret.contains("x-a: b") && without.contains("x-a: b"));
    for name in ["range: ", "if-range: ", "accept-encoding: "] {
        assert!(!with_secret.contains(name) && without.contains(name), "{name}");
    }
}

#[tokio::test]
async fn what_redaction_adds_counts_as_bytes_of_the_call() {
    let body = "s".repeat(5_000);
    let answer: &str = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).leak();
    let server = Server::start(answer, None).await;
    let url = server.url("http", "127.0.0.1");
    let error = call_with_secret(&gateway(), &server, "s", 20_000).send(request(&url)).await;
    assert_eq!(error, Err(HttpError::TooLarge { limit: 20_000 }));
    let call = call_with_secret(&gateway(), &server, "s", 100_000);
    assert_eq!(call.send(request(&url)).await.unwrap().body.len(), 14 * 5_000);
    assert_eq!(call.send(request(&url)).await, Err(HttpError::TooLarge { limit: 100_000 }), "few bytes are left");
}
