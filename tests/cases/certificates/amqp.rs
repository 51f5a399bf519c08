//! Tests TLS to an AMQP broker: to a RabbitMQ, and to a server that only greets, which shows what a client sends.

use std::sync::{Arc, Mutex};

use broker::{Amqp, Broker as _, ConnectError, Greeting, Options};
use credentials::{Identity, ServerTls};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use xtask::rabbitmq::Rabbit;

use super::authority::{Authority, Issued};

/// The name of the greeting broker in its certificate.
const NAME: &str = "rabbit.example";

/// A server over TLS that greets as an AMQP broker does, and then ends the connection. It demands a certificate.
struct GreetingBroker {
    port: u16,
    authority: Authority,
    /// The last answer to the greeting: a frame with `connection.start-ok`.
    answer: Arc<Mutex<Vec<u8>>>,
}

impl GreetingBroker {
    async fn start() -> Self {
        let authority = Authority::new("authority");
        let Issued { certificate, key } = authority.issue("server", &[NAME]);
        let tls = ServerTls { identity: Identity { certificate, key }, client_authority: Some(authority.file()) };
        let acceptor = TlsAcceptor::from(Arc::new(tls.config().expect("the files are good")));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let answer = Arc::<Mutex<Vec<u8>>>::default();
        let answers = answer.clone();
        TaskTracker::new().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Some(received) = greet(&acceptor, stream).await {
                    *answers.lock().expect("no test panics meanwhile") = received;
                }
            }
        });
        Self { port, authority, answer }
    }

    /// Its address, with a name that is not in its certificate.
    fn url(&self, parameters: &str) -> String {
        format!("amqps://user:secret@127.0.0.1:{}?{parameters}", self.port)
    }
}

/// Greets a client over TLS, and returns its answer; `None` if the client gave up, or shows no valid certificate.
async fn greet(acceptor: &TlsAcceptor, stream: TcpStream) -> Option<Vec<u8>> {
    let mut stream = acceptor.accept(stream).await.ok()?;
    stream.read_exact(&mut [0; 8]).await.ok()?;
    stream.write_all(&start()).await.ok()?;
    let mut answer = vec![0; 4_096];
    let length = stream.read(&mut answer).await.ok()?;
    answer.truncate(length);
    // The client closes an incomplete connection itself.
    let _ = stream.shutdown().await;
    Some(answer)
}

/// The frame with `connection.start` of AMQP 0.9.1.
fn start() -> Vec<u8> {
    let long = |text: &str| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
    let product = [&[7][..], b"product", b"S", &long("Greeter")].concat();
    let table = [&(product.len() as u32).to_be_bytes()[..], &product].concat();
    // Class 10, method 10, version 0.9, then the properties, the mechanisms and the locales.
    let payload = [&[0, 10, 0, 10, 0, 9][..], &table, &long("PLAIN EXTERNAL"), &long("en_US")].concat();
    [&[1, 0, 0][..], &(payload.len() as u32).to_be_bytes(), &payload, &[0xce]].concat()
}

fn trusting(authority: &Authority) -> String {
    format!("cacertfile={}", authority.file().display())
}

fn showing(Issued { certificate, key }: &Issued) -> String {
    format!("&certfile={}&keyfile={}", certificate.display(), key.display())
}

#[tokio::test]
async fn a_broker_and_its_client_show_certificates() {
    let broker = GreetingBroker::start().await;
    let own = showing(&broker.authority.issue("worker", &[]));
    let named = format!("&server_name_indication={NAME}");
    let ask = async |parameters: String| Greeting::ask(Options::new(broker.url(&parameters))).await;
    let greeting = ask(trusting(&broker.authority) + &own + &named).await.expect("both are trusted");
    assert_eq!(greeting.product, "Greeter");
    let by_flag =
        Options { tls_ca: Some(broker.authority.file()), ..Options::new(broker.url(&(own.clone() + &named))) };
    Greeting::ask(by_flag).await.expect("both are trusted");

    let other = Authority::new("another authority");
    for (parameters, reason) in [
        (trusting(&other) + &own + &named, "UnknownIssuer"),
        (own.clone() + &named, "UnknownIssuer"),
        (trusting(&broker.authority) + &own, "127.0.0.1"),
    ] {
        let error = ask(parameters.clone()).await.expect_err("the broker is not trusted");
        let ConnectError::Tls { source, .. } = &error else { panic!("{parameters}: {error:?}") };
        assert!(source.to_string().contains(reason), "{parameters}: {source}");
    }
    for shown in [String::new(), showing(&other.issue("worker", &[]))] {
        let parameters = trusting(&broker.authority) + &shown + &named;
        let error = ask(parameters).await.expect_err("the client is not trusted");
        // The alert of the broker may be lost with the connection.
        assert!(matches!(error, ConnectError::Tls { .. } | ConnectError::Interrupted { .. }), "{error:?}");
    }
    let missing = ask(trusting(&broker.authority) + "&certfile=/missing.pem&keyfile=/missing.key").await;
    assert!(missing.expect_err("there is no file").to_string().contains("/missing.pem cannot be used"));
}

#[tokio::test]
async fn a_certificate_may_be_the_login() {
    let broker = GreetingBroker::start().await;
    let parameters = trusting(&broker.authority)
        + &showing(&broker.authority.issue("worker", &[]))
        + &format!("&server_name_indication={NAME}");
    let answer_to = async |parameters: &str| {
        let ended = Amqp::connect(Options::new(broker.url(parameters))).await;
        assert!(ended.is_err(), "it greets and ends");
        let answer = std::mem::take(&mut *broker.answer.lock().expect("no test panics meanwhile"));
        let has = |text: &str| answer.windows(text.len()).any(|part| part == text.as_bytes());
        (has("PLAIN"), has("EXTERNAL"), has("secret"))
    };
    assert_eq!(answer_to(&parameters).await, (true, false, true));
    assert_eq!(answer_to(&format!("{parameters}&auth_mechanism=external")).await, (false, true, false));
}

#[tokio::test]
async fn rabbitmq_accepts_a_certificate_as_login() {
    let authority = Authority::new("authority");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rabbit = Rabbit::start_with_tls(folder.path(), &authority.server_tls()).expect("RabbitMQ starts");
    rabbit.control(&["add_user", "worker-1", "unused"]).expect("it adds a user");
    rabbit.control(&["set_permissions", "worker-1", ".*", ".*", ".*"]).expect("it sets permissions");
    let port = rabbit.tls_port().expect("it accepts TLS");
    let connect = async |shown: &str, login: &str| {
        let trusted = trusting(&authority);
        Amqp::connect(Options::new(format!("amqps://{login}127.0.0.1:{port}/%2f?{trusted}{shown}"))).await
    };
    let own = showing(&authority.issue("worker-1", &[]));
    let external = "&auth_mechanism=external";
    for (shown, login) in [(format!("{own}{external}"), ""), (own, "guest:guest@")] {
        let broker = connect(&shown, login).await.unwrap_or_else(|error| panic!("{shown}: {error}"));
        broker.close().await;
    }
    let unknown = showing(&authority.issue("worker-2", &[])) + external;
    let error = connect(&unknown, "").await.err().expect("there is no such user");
    assert!(matches!(error, ConnectError::CertificateLogin { .. }), "{error:?}");
    let stranger = Authority::new("another authority");
    for shown in [String::new(), showing(&stranger.issue("worker-1", &[]))] {
        let error = connect(&shown, "guest:guest@").await.err().expect("the broker demands a certificate");
        assert!(matches!(error, ConnectError::Tls { .. } | ConnectError::Interrupted { .. }), "{error:?}");
    }
}
