//! Tests with secrets that have to be fetched.

use tokio::sync::Semaphore;

use super::*;
use crate::SecretSource;

/// A program of the system, with its arguments.
fn command(command: &[&str]) -> SecretSource {
    let command = command.iter().map(|&text| text.to_owned()).collect();
    SecretSource::Command { command, refresh: Duration::from_secs(60) }
}

#[tokio::test]
async fn the_timeout_of_a_request_includes_its_secrets() {
    let server = Server::start(OK, None).await;
    let call = call_with_source(&gateway(), server.address, command(&["/bin/sleep", "1000"]), 1 << 20);
    let mut sent = with_header(request(&server.url("http", "127.0.0.1")), "authorization", "{{secret:KEY}}");
    let after = Duration::from_millis(20);
    sent.timeouts.response = Some(after);
    assert_eq!(call.send(sent).await, Err(HttpError::Timeout { after }));
    assert_eq!(server.connections(), 0);
    // Another request of the call needs no secret, and waits for none.
    let mut other = request(&server.url("http", "127.0.0.1"));
    other.timeouts.response = Some(Duration::from_secs(9));
    call.send(other).await.unwrap();
}

#[tokio::test]
async fn a_request_that_could_contain_a_secret_gets_a_whole_and_plain_response() {
    let server = Server::start(OK, None).await;
    // Nobody has fetched it here, but another worker may have sent it there.
    let call = call_with_source(&gateway(), server.address, command(&["/bin/false"]), 1 << 20);
    let sent = with_header(request(&server.url("http", "127.0.0.1")), "accept-encoding", "gzip");
    call.send(sent).await.unwrap();
    assert!(!server.heads()[0].contains("accept-encoding"), "{:?}", server.heads());
}

#[tokio::test]
async fn a_response_shows_no_value_that_another_call_has_sent_meanwhile() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (received, answered) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (has_received, may_answer) = (received.clone(), answered.clone());
    TaskTracker::new().spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; 4_096];
        assert!(stream.read(&mut bytes).await.unwrap() > 0);
        has_received.add_permits(1);
        drop(may_answer.acquire().await.unwrap());
        stream.write_all(ECHO.as_bytes()).await.unwrap();
    });
    let (gateway, source) = (gateway(), command(&["/bin/echo", "s3cret"]));
    let call = call_with_source(&gateway, address, source.clone(), 1 << 20);
    let sending = call.send(request(&format!("http://127.0.0.1:{}/", address.port())));
    let other = async {
        drop(received.acquire().await.unwrap());
        let no_client = async { Err(HttpError::Denied("no server is asked".into())) };
        assert_eq!(gateway.fetched.get(&source, no_client).await.as_deref(), Ok("s3cret"));
        answered.add_permits(1);
    };
    let (response, ()) = tokio::join!(sending, other);
    assert_eq!(response.unwrap().body, "it was {{secret:KEY}} ...");
}
