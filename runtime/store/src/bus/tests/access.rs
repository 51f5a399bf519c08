//! Who may read and put content.

use broker::{Binding, Destination, Exchange, ExchangeKind};

use super::*;

#[tokio::test(start_paused = true)]
async fn only_a_worker_with_a_job_that_names_a_content_gets_it() {
    let harness = Harness::new().await;
    let (digest, other) = (harness.put("pan".into()).await, harness.put("pot".into()).await);
    for key in [Key::NONE, SECRET.content_key(&other), SECRET.call_key(&call())] {
        let error = harness.client.fetch(QUEUE, digest, key, MAX_BYTES).await.unwrap_err();
        assert!(matches!(error, FetchError::Refused { .. }), "{error}");
    }
    assert_eq!(harness.fetch(digest).await.unwrap(), "pan");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_seen_brings_its_content_to_no_other_queue() {
    let harness = Harness::new().await;
    let digest = harness.put("pan".into()).await;
    let (key, reply) = (SECRET.content_key(&digest), ReplyAddress { queue: "waft.reply.honest", id: "1" });
    let mut seen = message(QUEUE, FetchRequest { digest, part: FetchPart::Chunks(0..1) }.encode(&key, reply));
    let stolen = "waft.reply.thief";
    let queue = Queue { name: stolen.into(), kind: QueueKind::Exclusive };
    broker::topology::declare_bound(&harness.broker, &queue, &[REPLIES_EXCHANGE]).await.unwrap();
    let mut answers = harness.broker.consume(stolen, 1).await.unwrap();
    seen.properties.reply_to = Some(stolen.into());
    seen.properties.correlation_id = Some("1".into());
    seen.properties.headers.insert(DIGEST.into(), digest.to_string());
    harness.broker.publish(seen).await.unwrap();
    let answer = answers.next().await.expect("an answer");
    assert_eq!(FetchReply::decode(&answer.message.body).unwrap().response, FetchResponse::Refused);
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_arrives_through_another_exchange_has_no_effect() {
    let harness = Harness::new().await;
    let (digest, thief) = (harness.put("pan".into()).await, "waft.reply.thief");
    let queue = Queue { name: thief.into(), kind: QueueKind::Exclusive };
    broker::topology::declare_bound(&harness.broker, &queue, &[REPLIES_EXCHANGE]).await.unwrap();
    let reply = ReplyAddress { queue: thief, id: "1" };
    let body =
        FetchRequest { digest, part: protocol::FetchPart::Chunks(0..1) }.encode(&SECRET.content_key(&digest), reply);
    let mut request = message(QUEUE, body);
    request.properties.reply_to = Some(thief.into());
    request.properties.correlation_id = Some("1".into());
    harness.broker.publish(Message { exchange: String::new(), ..request.clone() }).await.unwrap();
    harness.round_trip("pot".into()).await;
    assert_eq!(harness.broker.waiting(thief).await.unwrap(), Some(0), "the request had no effect");
    harness.broker.publish(request).await.unwrap();
    harness.round_trip("lid".into()).await;
    assert_eq!(harness.broker.waiting(thief).await.unwrap(), Some(1), "the same request in its exchange has");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_arrives_through_another_exchange_has_no_effect() {
    const STORE: &str = "waft.store.played";
    let harness = Harness::new().await;
    let digest = digest_of(b"pan");
    let queue = Queue { name: STORE.into(), kind: QueueKind::Exclusive };
    broker::topology::declare_bound(&harness.broker, &queue, &[CONTENT]).await.unwrap();
    let mut requests = harness.broker.consume(STORE, 1).await.unwrap();
    // A message keeps the exchange that it was published to.
    let around = Exchange { name: "around".into(), kind: ExchangeKind::Direct };
    harness.broker.declare_exchange(&around).await.unwrap();
    let to = Destination::Exchange(REPLIES_EXCHANGE.into());
    harness.broker.bind(&Binding { exchange: around.name.clone(), key: REPLIES.into(), to }).await.unwrap();
    let answering = async {
        let request = requests.next().await.expect("the client asks");
        let reply = |response| Message {
            properties: Properties {
                correlation_id: request.message.properties.correlation_id.clone(),
                ..Properties::default()
            },
            ..message(REPLIES, FetchReply { digest, response }.encode())
        };
        // This reply would end the fetch.
        let forged = Message { exchange: around.name.clone(), ..reply(FetchResponse::Missing) };
        harness.broker.publish(forged).await.unwrap();
        harness.broker.publish(reply(FetchResponse::Chunk { size: 3, index: 0, bytes: b"pan" })).await.unwrap();
    };
    let fetching = harness.client.fetch(STORE, digest, SECRET.content_key(&digest), MAX_BYTES);
    let (fetched, ()) = tokio::join!(fetching, answering);
    assert_eq!(fetched.unwrap(), "pan");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn only_a_worker_with_a_job_puts_content() {
    let harness = Harness::new().await;
    let later = CallId { attempt: Attempt::FIRST.next(), ..call() };
    for key in [Key::NONE, SECRET.call_key(&later)] {
        let error = harness.client.put(QUEUE, "pan".into(), call(), key).await.unwrap_err();
        assert!(matches!(error, SendError::Refused { .. }), "{error}");
        assert!(harness.store.fetch(&digest_of(b"pan")).await.is_err(), "the store does not have it");
    }
    let (digest, key) = harness.client.put(QUEUE, "pan".into(), call(), SECRET.call_key(&call())).await.unwrap();
    assert_eq!(key, SECRET.content_key(&digest), "a holder of the content may name it");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_value_larger_than_any_output_is_not_stored() {
    let harness = Harness::new().await;
    let bytes = Bytes::from(vec![0; MAX_BYTES as usize + 1]);
    let error = harness.client.put(QUEUE, bytes, call(), SECRET.call_key(&call())).await.unwrap_err();
    let SendError::NotStored { reason, .. } = &error else { panic!("{error}") };
    assert!(reason.contains("`output` under [limits]"), "{reason}");
    assert!(harness.store.list().await.unwrap().is_empty(), "nothing is stored");
    harness.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_on_no_queue_but_one_for_replies() {
    let harness = Harness::new().await;
    let key = vec!["a"; 100].join(".");
    let queue = Queue { name: key.clone(), kind: QueueKind::Exclusive };
    broker::topology::declare_bound(&harness.broker, &queue, &[REPLIES_EXCHANGE]).await.unwrap();
    let mut garbage = message(QUEUE, b"garbage".to_vec());
    garbage.persistent = false;
    garbage.properties.reply_to = Some(key.clone());
    garbage.properties.headers.insert(DIGEST.into(), digest_of(b"pan").to_string());
    harness.broker.publish(garbage).await.unwrap();
    harness.round_trip("pan".into()).await;
    assert_eq!(harness.broker.waiting(&key).await.unwrap(), Some(0), "it got an answer");
    assert_eq!(harness.broker.waiting(QUEUE).await.unwrap(), Some(0));
    harness.end().await;
}
