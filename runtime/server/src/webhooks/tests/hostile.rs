//! Servers of webhooks that answer as none should.

use tokio::task::JoinHandle;

use super::*;

/// Sends an event once, to a server that does this with the connection. Returns the try, and the server.
async fn post_to<Answering>(
    answer: impl FnOnce(TcpStream) -> Answering + Send + 'static,
) -> (api::WebhookDelivery, JoinHandle<()>)
where
    Answering: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = TaskTracker::new().spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        answer(stream).await;
    });
    let networks = vec!["127.0.0.0/8".parse().unwrap()];
    let webhook = Webhook::new(WebhookSettings { networks, ..settings(&url) }).unwrap();
    let event = Outgoing::new("test".into(), "{}".into());
    (post(&Gateway::new(ClientTls::default()), &webhook, &event, Attempt::new(1)).await, server)
}

/// Reads a request with the body `{}`.
async fn read(stream: &mut TcpStream) {
    let (mut bytes, mut request) = ([0; 4_096], Vec::new());
    while !request.ends_with(b"\r\n\r\n{}") {
        let count = stream.read(&mut bytes).await.unwrap();
        assert!(count > 0, "the request was cut off");
        request.extend_from_slice(&bytes[..count]);
    }
}

/// Writes the same text until the other end closes the connection.
async fn write_endlessly(mut stream: TcpStream, text: &str) {
    let text = text.repeat(1_000);
    while stream.write_all(text.as_bytes()).await.is_ok() {}
}

#[tokio::test]
async fn the_body_of_an_answer_is_not_read() {
    let (tried, server) = post_to(|mut stream| async move {
        read(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000000\r\n\r\n").await.unwrap();
        write_endlessly(stream, "x").await;
    })
    .await;
    assert_eq!((tried.status, tried.failure), (Some(200), None));
    server.await.unwrap();
}

#[tokio::test]
async fn the_head_of_an_answer_is_bounded() {
    let (tried, server) = post_to(|mut stream| async move {
        read(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        write_endlessly(stream, "x-more: and more\r\n").await;
    })
    .await;
    assert_eq!((tried.status, tried.failure.is_some()), (None, true));
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_given_up() {
    let (tried, server) = post_to(|mut stream| async move {
        read(&mut stream).await;
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    assert_eq!((tried.status, tried.failure.is_some()), (None, true));
    server.abort();
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Receiver::start(&[]).await;
    let location = other.url();
    let (tried, server) = post_to(move |mut stream| async move {
        read(&mut stream).await;
        let answer = format!("HTTP/1.1 307 X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    assert_eq!((tried.status, tried.failure.is_some()), (Some(307), true));
    server.await.unwrap();
    assert!(other.requests.is_empty());
}

#[tokio::test]
async fn tries_that_are_never_answered_leave_requests_to_new_events() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (requests, mut received) = mpsc::unbounded_channel();
    TaskTracker::new().spawn(async move {
        let (mut seen, mut unanswered) = (BTreeSet::new(), Vec::new());
        while let Ok((mut stream, _)) = listener.accept().await {
            let (_, body) = request_of(&mut stream).await;
            let is_new = seen.insert(body.clone());
            if is_new {
                answer(&mut stream, if body.contains("shop/f") { 502 } else { 200 }).await;
            } else {
                unanswered.push(stream);
            }
            // The test may have ended.
            drop(requests.send((body, is_new)));
        }
    });
    let (harness, stop) = (Harness::new().await, CancellationToken::new());
    let networks = vec!["127.0.0.0/8".parse().unwrap()];
    let _webhooks = harness.start(WebhookSettings { networks, ..settings(&url) }, &stop).await;
    for number in 0..2 * sender::MAX_REQUESTS {
        harness.publish(&format!("r{number}"), RunState::Failure, now()).await;
    }
    // All are tried once, and half of the requests are tries that nobody answers.
    let (mut first, mut again) = (0, 0);
    while first < 2 * sender::MAX_REQUESTS || again < sender::MAX_REQUESTS / 2 {
        let (_, is_new) = received.recv().await.unwrap();
        if is_new {
            first += 1;
        } else {
            again += 1;
        }
    }
    harness.publish_of("bank/f", "good", RunState::Success, now()).await;
    let (next, _) = received.recv().await.unwrap();
    assert!(next.contains("bank/f"), "{next}");
    stop.cancel();
}
