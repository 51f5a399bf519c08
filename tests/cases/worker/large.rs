//! Tests results that exceed the broker's message size.

use async_trait::async_trait;
use protocol::CallLog;
use sandbox::{CallSlot, Observer};
use worker::{GuestResult, GuestRunner};

use super::*;

/// A guest that provides a value of a megabyte.
struct LargeValueGuest;

#[async_trait]
impl GuestRunner for LargeValueGuest {
    async fn call(&self, _: &Job, _: CancellationToken, _: Arc<dyn Observer>, _: Arc<dyn CallSlot>) -> GuestResult {
        let values = [("pan".parse().expect("a name"), Value::Bytes(vec![0; 1 << 20].into()))];
        GuestResult::new(sandbox::Completion::Succeeded(values.into()), CallLog::default())
    }

    fn interrupt_all(&self) {}
}

#[tokio::test(start_paused = true)]
async fn a_too_large_result_fails_its_call_and_frees_the_slot() {
    let broker = Arc::new(InProcess::new().with_max_message_bytes(1 << 20));
    declare_signals(&*broker, SIGNALS).await;
    let mut signals = broker.consume(SIGNALS, 16).await.expect("it is there");
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let worker = Worker::connect(config("one"), broker.clone(), Arc::new(LargeValueGuest)).await.expect("it connects");
    tasks.spawn(worker.run(stop.clone(), stop.clone()));
    for attempt in 1..=2 * u32::from(SLOTS) {
        let job = job(Digest::from_bytes([1; 32]), "noop");
        let job = Job { call: CallId { attempt: Attempt::new(attempt), ..job.call }, ..job };
        let message = Message {
            exchange: topology::JOBS.into(),
            key: "one".into(),
            routing: Routing::Mandatory,
            persistent: true,
            priority: 0,
            properties: Properties::default(),
            body: job.encode().into(),
        };
        broker.publish(message).await.expect("the queue is there");
        let delivery = signals.next().await.expect("the broker answers");
        let report = Report::decode(&delivery.message.body).expect("a worker's report");
        delivery.accept();
        let Report::Signal(flow::Signal { call, answer: TaskResult::Failed(failure), .. }, _) = report else {
            panic!("{report:?}")
        };
        assert_eq!((call, failure.kind), (job.call, FailureKind::Permanent));
        assert!(
            failure.message.starts_with("its result has 1.0MiB, which is more than a message may have"),
            "{failure}"
        );
    }
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}
