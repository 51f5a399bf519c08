//! A failed first connection gives the reason, and never shows the password.

use broker::{Amqp, ConnectError, Options};
use lapin::uri::{AMQPScheme, AMQPUri};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::url;

const PASSWORD: &str = "not-the-pass-word";

/// The error, and all its text.
async fn connect_error(options: Options) -> (ConnectError, String) {
    let Err(error) = Amqp::connect(options).await else { panic!("the connection is open") };
    let mut text = format!("{error:?} {error}");
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(&format!(" {cause:?} {cause}"));
        source = cause.source();
    }
    assert!(!text.contains(PASSWORD), "{text}");
    (error, text)
}

fn uri() -> AMQPUri {
    let mut uri: AMQPUri = url().parse().unwrap();
    uri.authority.userinfo.password = PASSWORD.to_owned();
    uri
}

#[tokio::test]
async fn a_wrong_password_names_the_user() {
    let (error, text) = connect_error(Options::new(uri().to_string())).await;
    assert!(matches!(error, ConnectError::Credentials { .. }), "{text}");
    assert!(text.contains(&uri().authority.userinfo.username), "{text}");
}

#[tokio::test]
async fn a_missing_virtual_host_is_named() {
    let mut uri: AMQPUri = url().parse().unwrap();
    uri.vhost = "missing".to_owned();
    let (error, text) = connect_error(Options::new(uri.to_string())).await;
    assert!(matches!(error, ConnectError::VirtualHost { .. }), "{text}");
    assert!(text.contains("missing"), "{text}");
}

#[tokio::test]
async fn a_closed_port_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut uri = uri();
    (uri.authority.host, uri.authority.port) = ("127.0.0.1".to_owned(), port);
    let (error, text) = connect_error(Options::new(uri.to_string())).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{text}");
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
}

#[tokio::test]
async fn an_unknown_host_is_named() {
    let mut uri = uri();
    uri.authority.host = "missing.invalid".to_owned();
    let (error, text) = connect_error(Options::new(uri.to_string())).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{text}");
    assert!(text.contains("missing.invalid"), "{text}");
}

#[tokio::test]
async fn a_port_without_tls_differs_from_a_closed_port() {
    let mut uri = uri();
    uri.scheme = AMQPScheme::AMQPS;
    let (error, text) = connect_error(Options::new(uri.to_string())).await;
    assert!(matches!(error, ConnectError::Tls { .. }), "{text}");
}

#[tokio::test]
async fn unreadable_certificates_are_named() {
    let mut uri = uri();
    uri.scheme = AMQPScheme::AMQPS;
    for path in ["/missing/ca.pem", file!(), env!("CARGO_MANIFEST_DIR")] {
        let options = Options { tls_ca: Some(path.into()), ..Options::new(uri.to_string()) };
        let (error, text) = connect_error(options).await;
        assert!(matches!(error, ConnectError::File(_)), "{text}");
        assert!(text.contains(path), "{text}");
    }
}

#[tokio::test]
async fn a_server_without_amqp_is_rejected() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut uri = uri();
    uri.authority.host = "127.0.0.1".to_owned();
    uri.authority.port = listener.local_addr().unwrap().port();
    let tasks = TaskTracker::new();
    tasks.spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            drop(connection);
        }
    });
    let (error, text) = connect_error(Options::new(uri.to_string())).await;
    assert!(matches!(error, ConnectError::Interrupted { .. }), "{text}");
}
