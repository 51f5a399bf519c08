//! Tests a broker with slow confirms: it delays workers' messages, and never their guests.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use broker::{
    PublishError,
    lossy::{InterceptedBroker, PublishInterceptor},
};
use protocol::{CallLog, Ping, WorkerStatus, lease};
use sandbox::{CallSlot, Observer};
use tokio::time::Instant;
use worker::{GuestResult, GuestRunner};

use super::*;

/// The duration of the call: beyond its first heartbeat, and not a multiple of the heartbeat interval.
const CALL: Duration = Duration::from_secs(lease::LEASE_THRESHOLD.as_secs() + 2);

/// Confirms no heartbeat, and no status of a worker.
#[derive(Default)]
struct DelayedConfirms {
    has_delayed: AtomicBool,
}

#[async_trait]
impl PublishInterceptor for DelayedConfirms {
    async fn publish(&self, inner: &dyn Broker, message: Message) -> Result<(), PublishError> {
        let is_heartbeat = matches!(Report::decode(&message.body), Ok(Report::Heartbeat { .. }));
        if is_heartbeat || WorkerStatus::decode(&message.body).is_ok() {
            self.has_delayed.store(true, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        inner.publish(message).await
    }
}

fn slow_broker() -> Arc<InterceptedBroker<InProcess, DelayedConfirms>> {
    Arc::new(InterceptedBroker::new(InProcess::new(), DelayedConfirms::default()))
}

/// A guest that works in steps of a second, one for each poll.
struct StepwiseGuest;

#[async_trait]
impl GuestRunner for StepwiseGuest {
    async fn call(&self, _: &Job, _: CancellationToken, _: Arc<dyn Observer>, _: Arc<dyn CallSlot>) -> GuestResult {
        let started = Instant::now();
        while started.elapsed() < CALL {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let delay = started.elapsed() - CALL;
        let answer = sandbox::Completion::Succeeded(
            [("delay".parse().expect("a name"), Value::json(&delay.as_secs().into()))].into(),
        );
        GuestResult::new(answer, CallLog::default())
    }

    fn interrupt_all(&self) {}
}

#[tokio::test(start_paused = true)]
async fn a_guest_continues_while_its_worker_waits_for_the_broker() {
    let broker = slow_broker();
    declare_signals(&*broker, SIGNALS).await;
    let mut signals = broker.consume(SIGNALS, 16).await.expect("it is there");
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let worker = Worker::connect(config("one"), broker.clone(), Arc::new(StepwiseGuest)).await.expect("it connects");
    tasks.spawn(worker.run(stop.clone(), stop.clone()));
    let started = Instant::now();
    let job = job(Digest::from_bytes([1; 32]), "noop");
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
    let answer = loop {
        let delivery = signals.next().await.expect("the broker answers");
        let report = Report::decode(&delivery.message.body).expect("a worker's report");
        delivery.accept();
        if let Report::Signal(signal, _) = report {
            break signal.answer;
        }
    };
    assert!(broker.interceptor().has_delayed.load(Ordering::Relaxed), "the call is long enough for a lease");
    assert_eq!(started.elapsed().as_secs(), CALL.as_secs(), "its result does not wait for a heartbeat");
    assert_eq!(answer, TaskResult::Succeeded([("delay".parse().expect("a name"), Value::json(&0.into()))].into()));
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_stops_while_the_broker_does_not_confirm_its_status() {
    let broker = slow_broker();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let worker = Worker::connect(config("one"), broker.clone(), Arc::new(StepwiseGuest)).await.expect("it connects");
    tasks.spawn(worker.run(stop.clone(), CancellationToken::new()));
    let ping = Message {
        exchange: topology::CONTROL.into(),
        key: String::new(),
        routing: Routing::Optional,
        persistent: false,
        priority: 0,
        properties: Properties::default(),
        body: Control::Ping(Ping { reply_to: topology::reply_queue("status") }).encode().into(),
    };
    broker.publish(ping).await.expect("the exchange is there");
    while !broker.interceptor().has_delayed.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    tasks.close();
    tokio::time::timeout(Duration::from_secs(60), tasks.wait()).await.expect("the worker stops");
}
