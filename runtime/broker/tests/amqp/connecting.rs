//! A failed first connection gives the reason, and never shows the password.

use broker::{Amqp, ConnectError, Options};
use lapin::uri::{AMQPScheme, AMQPUri};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::url;

const PASSWORD: &str = "not-the-pass-word";

/// The error, and all its text that anybody can see.
async fn refused(options: Options) -> (ConnectError, String) {
    let Err(error) = Amqp::connect(options).await else { panic!("it is connected") };
    let mut shown = format!("{error:?} {error}");
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        shown.push_str(&format!(" {cause:?} {cause}"));
        source = cause.source();
    }
    assert!(!shown.contains(PASSWORD), "{shown}");
    (error, shown)
}

fn uri() -> AMQPUri {
    let mut uri: AMQPUri = url().parse().unwrap();
    uri.authority.userinfo.password = PASSWORD.to_owned();
    uri
}

#[tokio::test]
async fn a_wrong_password_names_the_user() {
    let (error, shown) = refused(Options::new(uri().to_string())).await;
    assert!(matches!(error, ConnectError::Credentials { .. }), "{shown}");
    assert!(shown.contains(&uri().authority.userinfo.username), "{shown}");
}

#[tokio::test]
async fn a_missing_virtual_host_is_named() {
    let mut uri: AMQPUri = url().parse().unwrap();
    uri.vhost = "nowhere".to_owned();
    let (error, shown) = refused(Options::new(uri.to_string())).await;
    assert!(matches!(error, ConnectError::VirtualHost { .. }), "{shown}");
    assert!(shown.contains("nowhere"), "{shown}");
}

#[tokio::test]
async fn a_closed_port_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut uri = uri();
    (uri.authority.host, uri.authority.port) = ("127.0.0.1".to_owned(), port);
    let (error, shown) = refused(Options::new(uri.to_string())).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{shown}");
    assert!(shown.contains(&format!("127.0.0.1:{port}")), "{shown}");
}

#[tokio::test]
async fn a_host_that_is_not_known_is_named() {
    let mut uri = uri();
    uri.authority.host = "nowhere.invalid".to_owned();
    let (error, shown) = refused(Options::new(uri.to_string())).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{shown}");
    assert!(shown.contains("nowhere.invalid"), "{shown}");
}

#[tokio::test]
async fn a_port_without_tls_differs_from_a_closed_port() {
    let mut uri = uri();
    uri.scheme = AMQPScheme::AMQPS;
    let (error, shown) = refused(Options::new(uri.to_string())).await;
    assert!(matches!(error, ConnectError::Tls { .. }), "{shown}");
}

#[tokio::test]
async fn unreadable_certificates_are_named() {
    let mut uri = uri();
    uri.scheme = AMQPScheme::AMQPS;
    for path in ["/nowhere/ca.pem", file!(), env!("CARGO_MANIFEST_DIR")] {
        let options = Options { tls_ca: Some(path.into()), ..Options::new(uri.to_string()) };
        let (error, shown) = refused(options).await;
        assert!(matches!(error, ConnectError::TlsCa { .. }), "{shown}");
        assert!(shown.contains(path), "{shown}");
    }
}

#[tokio::test]
async fn a_server_without_amqp_is_rejected() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut uri = uri();
    uri.authority.host = "127.0.0.1".to_owned();
    uri.authority.port = listener.local_addr().unwrap().port();
    let hanging_up = TaskTracker::new();
    hanging_up.spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            drop(connection);
        }
    });
    let (error, shown) = refused(Options::new(uri.to_string())).await;
    assert!(matches!(error, ConnectError::Interrupted { .. }), "{shown}");
}
