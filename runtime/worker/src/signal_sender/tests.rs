//! Signals through an in-memory broker with slow confirms and a virtual clock.

use async_trait::async_trait;
use broker::{
    InProcess, Queue, QueueKind,
    lossy::{InterceptedBroker, PublishInterceptor},
};
use flow::{
    Action, Attempt, Execution, Failure, FailureKind, Firing, Json, MAX_DETAILS_BYTES, MAX_INLINE_BYTES,
    MAX_INLINE_TOTAL_BYTES, MAX_MESSAGE_BYTES, Signal, TaskResult, Value, Values,
};
use futures::future::join_all;
use protocol::{CallLog, CallUsage, EngineSecret, HttpRecord, MAX_INLINE_HTTP_BYTES, MAX_LOG_BYTES, Report};

use super::*;

const QUEUE: &str = "signals";

#[tokio::test(start_paused = true)]
async fn a_signal_that_no_engine_reads_is_not_sent() {
    let (broker, sender) = slow(InProcess::new()).await;
    let result = sender.send(call(1), QUEUE.into(), vec![0; MAX_REPORT_BYTES + 1].into()).await;
    let Err(PublishError::TooLarge { reason, .. }) = result else { panic!("{result:?}") };
    assert_eq!(reason, "an engine reads at most 2MiB of a worker at once");
    assert_eq!(broker.waiting(QUEUE).await.unwrap(), Some(0));
}

/// How long the broker takes to confirm a message.
const CONFIRM: Duration = Duration::from_millis(10);

/// Confirms each message after [`CONFIRM`], and keeps its size in signals.
#[derive(Default)]
struct SlowConfirms {
    sizes: Mutex<Vec<usize>>,
    /// Number of messages to refuse first.
    refused: Mutex<usize>,
}

impl SlowConfirms {
    fn refuse_one(&self) -> bool {
        let mut left = self.refused.lock().unwrap();
        let refuses = *left > 0;
        *left = left.saturating_sub(1);
        refuses
    }
}

#[async_trait]
impl PublishInterceptor for SlowConfirms {
    async fn publish(&self, inner: &dyn Broker, message: Message) -> Result<(), PublishError> {
        sleep(CONFIRM).await;
        let Message { exchange, key, .. } = message.clone();
        if self.refuse_one() {
            return Err(PublishError::Refused { exchange, key, reason: "the test".into() });
        }
        inner.publish(message.clone()).await?;
        self.sizes.lock().unwrap().push(calls(&message).len());
        Ok(())
    }
}

type Slow = Arc<InterceptedBroker<InProcess, SlowConfirms>>;

async fn slow(inner: InProcess) -> (Slow, SignalSender) {
    let queue = Queue { name: QUEUE.into(), kind: QueueKind::Exclusive };
    broker::topology::declare_bound(&inner, &queue, &[topology::REPORTS]).await.unwrap();
    let broker = Arc::new(InterceptedBroker::new(inner, SlowConfirms::default()));
    (broker.clone(), SignalSender::new(broker))
}

fn call(number: usize) -> CallId {
    let (run, task) = ("r".parse().unwrap(), format!("t{number}").parse().unwrap());
    CallId { run, task, firing: Firing::FIRST, attempt: Attempt::FIRST, action: Action::Apply }
}

/// The calls of a message with one report, or with a batch.
fn calls(message: &Message) -> Vec<CallId> {
    match ReportBatch::decode(&message.body) {
        Ok(batch) => batch.reports.into_iter().map(|report| report.call).collect(),
        Err(_) => protocol::call_of(&message.properties.headers).into_iter().collect(),
    }
}

/// Sends a signal with a body of some bytes for each of the calls at once.
async fn send_all(sender: &SignalSender, count: usize, bytes: usize) -> Vec<Result<(), PublishError>> {
    join_all((0..count).map(|number| sender.send(call(number), QUEUE.into(), vec![7; bytes].into()))).await
}

/// The calls whose signals reached the queue, in order.
async fn received(broker: &Slow, messages: usize) -> Vec<CallId> {
    let mut consumer = broker.consume(QUEUE, 1_000).await.unwrap();
    let mut received = Vec::new();
    for _ in 0..messages {
        let delivery = consumer.next().await.unwrap();
        received.extend(calls(&delivery.message));
        delivery.accept();
    }
    received
}

fn sizes(broker: &Slow) -> Vec<usize> {
    broker.interceptor().sizes.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn signals_share_a_message_while_an_earlier_one_is_unconfirmed() {
    let (broker, sender) = slow(InProcess::new()).await;
    let results = send_all(&sender, 40, 100).await;
    assert_eq!(results, vec![Ok(()); 40]);
    // The first signal is sent at once; the others may join it only before its publish starts.
    assert_eq!(sizes(&broker).iter().sum::<usize>(), 40);
    assert!(sizes(&broker).len() <= 2, "{:?}", sizes(&broker));
    let expected: Vec<CallId> = (0..40).map(call).collect();
    assert_eq!(received(&broker, sizes(&broker).len()).await, expected);
    assert!(sender.lock().is_empty(), "nothing is left of a quiet queue");
}

#[tokio::test(start_paused = true)]
async fn a_signal_after_a_confirm_has_no_delay() {
    let (broker, sender) = slow(InProcess::new()).await;
    for number in 0..3 {
        let started = tokio::time::Instant::now();
        sender.send(call(number), QUEUE.into(), Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(started.elapsed(), CONFIRM);
    }
    assert_eq!(sizes(&broker), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_message_is_limited_in_signals_and_bytes() {
    let (broker, sender) = slow(InProcess::new()).await;
    assert!(send_all(&sender, 2 * MAX_BATCH_REPORTS, 10).await.iter().all(Result::is_ok));
    assert!(sizes(&broker).iter().all(|size| *size <= MAX_BATCH_REPORTS), "{:?}", sizes(&broker));
    let (broker, sender) = slow(InProcess::new()).await;
    assert!(send_all(&sender, 9, MAX_BATCH_BYTES / 2 - 1).await.iter().all(Result::is_ok));
    assert!(sizes(&broker).iter().all(|size| *size <= 2), "{:?}", sizes(&broker));
    let (broker, sender) = slow(InProcess::new()).await;
    assert!(send_all(&sender, 3, MAX_BATCH_BYTES + 1).await.iter().all(Result::is_ok));
    assert_eq!(sizes(&broker), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn every_signal_of_a_refused_message_is_refused() {
    let (broker, sender) = slow(InProcess::new()).await;
    *broker.interceptor().refused.lock().unwrap() = 1;
    let results = send_all(&sender, 9, 100).await;
    let refused = results.iter().filter(|result| matches!(result, Err(PublishError::Refused { .. }))).count();
    assert_eq!(refused + sizes(&broker).iter().sum::<usize>(), 9);
    assert!(refused >= 1, "one message was refused");
    assert!(send_all(&sender, 9, 100).await.iter().all(Result::is_ok), "and the queue goes on");
}

#[tokio::test(start_paused = true)]
async fn signals_too_large_together_are_sent_alone() {
    let (broker, sender) = slow(InProcess::new().with_max_message_bytes(1_000)).await;
    let results = send_all(&sender, 8, 600).await;
    assert_eq!(results, vec![Ok(()); 8]);
    assert_eq!(sizes(&broker), [1; 8]);
    let results = send_all(&sender, 3, 2_000).await;
    assert!(results.iter().all(|result| matches!(result, Err(PublishError::TooLarge { .. }))), "{results:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_leaves_delays_no_other() {
    let (broker, sender) = slow(InProcess::new()).await;
    let first = sender.send(call(0), QUEUE.into(), Bytes::from_static(b"x"));
    assert!(tokio::time::timeout(CONFIRM / 2, first).await.is_err(), "it leaves before the confirm");
    sender.send(call(1), QUEUE.into(), Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(received(&broker, 2).await, [call(0), call(1)]);
}

/// The largest message of waft.
const MAX_MESSAGE: usize = 1 << 20;

/// The log of a guest that wrote as much as it could, with everything else that a log can have.
fn largest_log() -> CallLog {
    let (most, longest) = (u64::MAX, Duration::from_micros(u64::MAX));
    let usage = CallUsage {
        wall: longest,
        cpu: longest,
        memory: most,
        input_bytes: most,
        output_bytes: most,
        http_requests: most,
        http_request_bytes: most,
        http_response_bytes: most,
    };
    let http = Some(HttpRecord::Inline(vec![0; MAX_INLINE_HTTP_BYTES]));
    let mut log = CallLog { usage: Some(usage), http, ..CallLog::default() };
    log.push("stdout", "l".repeat(2 * MAX_LOG_BYTES));
    assert!(log.cut, "the log is full");
    log
}

/// Sends the result of a call with the longest names and the largest log; returns the size of the message.
async fn size_of(answer: TaskResult) -> usize {
    let name = || "n".repeat(100);
    let (run, task) = (name().parse().unwrap(), name().parse().unwrap());
    let call = CallId { run, task, firing: Firing::FIRST, attempt: Attempt::FIRST, action: Action::Apply };
    let worker = Some("w".repeat(50).parse().unwrap());
    let signal = Signal { call: call.clone(), answer, execution: Execution::new(u64::MAX), redelivered: true, worker };
    let report = Report::Signal(signal, largest_log());
    let keys = EngineSecret::new([7; 32]).call_keys(&call, report.contents());
    let body = report.encode(&keys);
    let size = body.len();
    let (broker, sender) = slow(InProcess::new().with_max_message_bytes(MAX_MESSAGE)).await;
    sender.send(call, QUEUE.into(), body.into()).await.expect("a broker that takes such messages takes it");
    assert_eq!(broker.waiting(QUEUE).await.unwrap(), Some(1));
    size
}

#[tokio::test(start_paused = true)]
async fn the_largest_values_and_log_together_stay_below_a_mebibyte() {
    /// As many values as a task may provide.
    const MOST: usize = 1_000;
    let store = store::Memory::new();
    for (count, bytes) in [(MOST, MAX_INLINE_TOTAL_BYTES / MOST), (40, MAX_INLINE_BYTES)] {
        let value = |number: usize| {
            let name = format!("v{number:0>99}").parse().unwrap();
            (name, Value::Bytes(vec![0_u8; bytes].into()))
        };
        let mut values: Values = (0..count).map(value).collect();
        store::values::put_large(&store, &mut values).await.unwrap();
        let inline = values.values().filter(|value| value.digest().is_none());
        let inline: usize = inline.map(Value::size).sum();
        assert!(inline > MAX_INLINE_TOTAL_BYTES - MAX_INLINE_BYTES, "the message is as full as it gets: {inline}");
        let size = size_of(TaskResult::Succeeded(values)).await;
        assert!(size > inline && size < MAX_MESSAGE, "{size}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_largest_failure_and_log_together_stay_below_a_mebibyte() {
    let details = format!("\"{}\"", "d".repeat(MAX_DETAILS_BYTES - 2));
    let failure = Failure::new(FailureKind::Permanent, "m".repeat(2 * MAX_MESSAGE_BYTES));
    let failure = Failure { details: Some(Json::parse(details).unwrap()), ..failure };
    assert!(failure.is_within_bounds());
    let size = size_of(TaskResult::Failed(failure)).await;
    assert!(size > MAX_DETAILS_BYTES + MAX_MESSAGE_BYTES && size < MAX_MESSAGE, "{size}");
}
