//! Tests that a record answers the same requests, and stays within its limit.

use std::sync::Arc;

use bytes::Bytes;
use flow::HttpTarget;
use futures::future::BoxFuture;
use gateway::{HttpError, HttpRequest, HttpResponse, Outbound, Timeouts};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use protocol::{HttpExchanges, MAX_HTTP_RECORD_BYTES, RecordedAnswer};

use super::{HttpCounts, HttpRecorder};
use crate::http_player::HttpPlayer;

/// Answers each request with its body, and fails those of the path `/down`.
#[derive(Debug)]
struct Echo;

impl Outbound for Echo {
    fn check(&self, target: &HttpTarget) -> Result<(), String> {
        if target.url().path() == "/denied" { Err("no".to_owned()) } else { Ok(()) }
    }

    fn send(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpResponse, HttpError>> {
        let response = match request.target.url().path() {
            "/down" => Err(HttpError::Connect { reason: "refused".into() }),
            _ => Ok(HttpResponse { status: StatusCode::OK, headers: request.headers, body: request.body }),
        };
        Box::pin(async { response })
    }
}

fn request(path: &str, body: &[u8]) -> HttpRequest {
    let headers: HeaderMap = [(header::ACCEPT, HeaderValue::from_static("*/*"))].into_iter().collect();
    let target = HttpTarget::new("POST", "https", "a.example", path).unwrap();
    HttpRequest { target, headers, body: Bytes::copy_from_slice(body), timeouts: Timeouts::default() }
}

async fn recorded(requests: &[(&str, &[u8])]) -> (HttpCounts, HttpExchanges) {
    let recorder = HttpRecorder::recording(Arc::new(Echo));
    for (path, body) in requests {
        let request = request(path, body);
        if recorder.check(&request.target).is_ok() {
            let _ = recorder.send(request).await;
        }
    }
    let (counts, exchanges) = recorder.take();
    (counts, exchanges.unwrap())
}

#[tokio::test]
async fn a_record_answers_the_same_requests() {
    let requests: [(&str, &[u8]); 3] = [("/a", b"one"), ("/denied", b""), ("/down", b"")];
    let (counts, exchanges) = recorded(&requests).await;
    assert_eq!((counts.requests, counts.response_bytes), (3, 3 + "accept: */*\r\n".len() as u64));
    let player = HttpPlayer::new(exchanges);
    for (path, body) in requests {
        let request = request(path, body);
        let checked = player.check(&request.target);
        assert_eq!(checked, Echo.check(&request.target));
        if checked.is_ok() {
            assert_eq!(player.send(request.clone()).await, Echo.send(request).await);
        }
    }
    assert_eq!(player.differences(), (Vec::new(), 0));
}

#[tokio::test]
async fn another_request_than_the_recorded_one_is_named() {
    let (_, exchanges) = recorded(&[("/a?key=1", b"one"), ("/b", b"")]).await;
    let player = HttpPlayer::new(exchanges);
    let refusal = async |request| match player.send(request).await {
        Err(HttpError::Protocol { reason }) => reason,
        other => panic!("{other:?}"),
    };
    let expected = "request 1, POST https://a.example/a, has no recorded answer: it differs from the recorded request 1: the body \
                    has 4 bytes instead of 3, and differs from byte 3 on";
    assert_eq!(refusal(request("/a?key=1", b"one!")).await, expected);
    let mut other = request("/b", b"");
    other.headers.insert(header::ACCEPT, HeaderValue::from_static("text/plain"));
    assert!(refusal(other).await.ends_with("the recorded request 2: the header accept has another value"));
    assert!(refusal(request("/c", b"")).await.ends_with("the recorded request 1 is POST https://a.example/a"));
    let (mismatches, unsent) = player.differences();
    assert_eq!((mismatches.len(), unsent), (3, 2));
}

#[tokio::test]
async fn a_record_is_cut_at_its_limit() {
    let body = vec![b'x'; MAX_HTTP_RECORD_BYTES / 4];
    let (counts, exchanges) = recorded(&[("/a", &body), ("/b", &body), ("/c", b"")]).await;
    assert_eq!(counts.requests, 3, "all are counted");
    assert!(exchanges.cut);
    assert_eq!(exchanges.exchanges.len(), 2);
    assert!(matches!(exchanges.exchanges[0].answer, RecordedAnswer::Response { .. }));
    assert_eq!(exchanges.exchanges[1].answer, RecordedAnswer::None, "the answer did not fit");
    assert!(exchanges.encode().len() <= protocol::MAX_ENCODED_HTTP_BYTES);
    let player = HttpPlayer::new(exchanges);
    player.send(request("/a", &body)).await.unwrap();
    let reason = player.send(request("/b", &body)).await.unwrap_err().to_string();
    assert!(reason.contains("the answer of the recorded request 2 was too large"), "{reason}");
    let reason = player.send(request("/c", b"")).await.unwrap_err().to_string();
    assert!(reason.contains("the record was cut after 2 requests"), "{reason}");
}

#[tokio::test]
async fn a_request_that_was_recorded_before_the_cut_has_its_answer() {
    let recorder = HttpRecorder::recording(Arc::new(Echo));
    let first = recorder.send(request("/a", b"one"));
    recorder.send(request("/large", &vec![b'x'; MAX_HTTP_RECORD_BYTES])).await.unwrap();
    first.await.unwrap();
    let exchanges = recorder.take().1.unwrap();
    assert!(exchanges.cut);
    let player = HttpPlayer::new(exchanges);
    assert_eq!(player.send(request("/a", b"one")).await.unwrap().body, "one");
}
