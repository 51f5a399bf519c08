//! Signatures travel beside their content.

use flow::Timestamp;

use super::*;
use crate::SigningKey;

#[tokio::test(start_paused = true)]
async fn a_worker_gets_the_signatures_of_a_content_that_a_job_names() {
    let harness = Harness::new().await;
    let (digest, other) = (harness.put("pan".into()).await, harness.put("pot".into()).await);
    let fetch = async |digest: Digest, key: Key| harness.client.signatures(QUEUE, digest, key).await;
    assert_eq!(fetch(digest, SECRET.content_key(&digest)).await.unwrap(), []);
    let key = SigningKey::generate().unwrap();
    let sign = |digest| key.sign(digest, None, Timestamp::from_micros(0)).unwrap();
    let signature = sign(digest);
    harness.store.sign(&signature, &Policy::default()).await.unwrap();
    harness.store.sign(&sign(other), &Policy::default()).await.unwrap();
    assert_eq!(fetch(digest, SECRET.content_key(&digest)).await.unwrap(), [signature]);
    let refused = fetch(digest, SECRET.content_key(&other)).await.unwrap_err();
    assert!(matches!(refused, FetchError::Refused { .. }), "{refused}");
    let missing = digest_of(b"never put");
    assert_eq!(fetch(missing, SECRET.content_key(&missing)).await.unwrap(), []);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn signatures_are_requested_again_when_a_reply_is_lost() {
    let (harness, _) = Harness::faulty(|number, _| if number < 2 { Fault::Lost } else { Fault::None }).await;
    let digest = harness.put("pan".into()).await;
    let fetched = harness.client.signatures(QUEUE, digest, SECRET.content_key(&digest)).await;
    assert_eq!(fetched.unwrap(), []);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn signatures_that_do_not_arrive_are_an_error_and_not_none() {
    let (harness, _) = Harness::faulty(|_, _| Fault::Lost).await;
    let digest = harness.put("pan".into()).await;
    let error = harness.client.signatures(QUEUE, digest, SECRET.content_key(&digest)).await.unwrap_err();
    assert!(matches!(error, FetchError::TimedOut { .. }), "{error}");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn signatures_of_an_engine_that_has_ended_are_an_error() {
    let harness = Harness::new().await;
    let digest = harness.put("pan".into()).await;
    let error = harness.client.signatures("nowhere", digest, SECRET.content_key(&digest)).await.unwrap_err();
    assert!(matches!(error, FetchError::QueueMissing { .. }), "{error}");
    harness.end().await;
}
