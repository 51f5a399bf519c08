//! Workers with the in-memory broker, a virtual clock, and calls that only sleep.

#![expect(clippy::disallowed_methods, reason = "tasks that a test spawns end with its runtime")]

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use broker::{InProcess, Message, Properties, Queue, QueueKind, Routing};
use flow::{Attempt, CallId, Digest, Firing, Limits, Signal, TaskResult, Timestamp, Value, Values};
use protocol::{
    CallKeys, CallLog, Control, DrainAction, DrainRequest, Job, Report, ReportBatch, SendingId, WithdrawnCall,
    WorkerDetails,
};
use tokio::task::JoinHandle;

use super::*;
use crate::{Config, GuestResult, GuestRunner, WallClock, Worker};

mod drain;

const SIGNALS: &str = "signals";

/// The length of calls that lend their slots, in milliseconds.
const WAITS: u64 = 7_200_000;

/// Guests that sleep for the number of milliseconds in their job. Those that sleep for [`WAITS`] lend their slots meanwhile.
#[derive(Default)]
struct SleepingGuests {
    started: AtomicU64,
}

#[async_trait]
impl GuestRunner for SleepingGuests {
    async fn call(
        &self,
        job: &Job,
        interrupt: CancellationToken,
        _: Arc<dyn sandbox::Observer>,
        slot: Arc<dyn sandbox::CallSlot>,
    ) -> GuestResult {
        self.started.fetch_add(1, Ordering::Relaxed);
        let Some(Value::Json(length)) = job.inputs.values().next() else { panic!("a job has a length") };
        let length = Duration::from_millis(length.as_str().parse().unwrap());
        let sleep = async {
            let lends = length == Duration::from_millis(WAITS) && slot.lend();
            tokio::time::sleep(length).await;
            if lends {
                std::future::poll_fn(|context| slot.poll_take_back(context)).await;
            }
        };
        let answer = match interrupt.run_until_cancelled(sleep).await {
            Some(()) => sandbox::Completion::Succeeded(Values::new()),
            None => sandbox::Completion::Interrupted,
        };
        GuestResult::new(answer, CallLog::default())
    }

    fn interrupt_all(&self) {}
}

/// A broker, and an engine that sends jobs again which workers have returned.
struct Harness {
    broker: Arc<InProcess>,
    signals: Consumer,
    sent: Mutex<BTreeMap<CallId, Message>>,
}

impl Harness {
    async fn new() -> Self {
        let broker = Arc::new(InProcess::new());
        broker::topology::declare_shared(&*broker).await.unwrap();
        broker::topology::declare_jobs(&*broker, &queue()).await.unwrap();
        let queue = Queue { name: SIGNALS.into(), kind: QueueKind::Exclusive };
        broker::topology::declare_bound(&*broker, &queue, &[topology::REPORTS]).await.unwrap();
        let signals = broker.consume(SIGNALS, 1_000).await.unwrap();
        Self { broker, signals, sent: Mutex::default() }
    }

    /// Starts a worker with one slot; returns its guests and its stop token.
    async fn worker(&self, name: &str) -> (Arc<SleepingGuests>, CancellationToken) {
        let (guests, stop, _) = self.worker_task(name).await;
        (guests, stop)
    }

    /// The same, with the task of the worker.
    async fn worker_task(&self, name: &str) -> (Arc<SleepingGuests>, CancellationToken, JoinHandle<()>) {
        Self::worker_at(Arc::new(self.broker.connect()), name).await
    }

    /// The same, over a connection.
    async fn worker_at(
        broker: Arc<dyn Broker>,
        name: &str,
    ) -> (Arc<SleepingGuests>, CancellationToken, JoinHandle<()>) {
        let config = Config {
            name: name.parse().unwrap(),
            host: "host".into(),
            instance: name.into(),
            version: "test".into(),
            slots: 1,
            queues: vec![queue()],
            own_slots: BTreeMap::new(),
            grace: Duration::ZERO,
            clock: WallClock::new(|| Timestamp::from_micros(0)),
            delivery_limit: flow::DELIVERY_LIMIT,
            journal: None,
        };
        let (guests, stop) = (Arc::new(SleepingGuests::default()), CancellationToken::new());
        let connect = Worker::connect(config, broker.clone(), guests.clone());
        let worker = Box::pin(connect).await.unwrap();
        let running = Box::pin(worker.run(stop.clone(), CancellationToken::new()));
        let task = tokio::spawn(async move {
            running.await;
            // Its name is free then.
            broker.close().await;
        });
        (guests, stop, task)
    }

    /// Sends a control message through an exchange.
    async fn control(&self, exchange: &str, key: String, control: &Control) {
        let message = Message {
            exchange: exchange.into(),
            key,
            routing: Routing::Mandatory,
            persistent: false,
            priority: 0,
            properties: Properties::default(),
            body: control.encode().into(),
        };
        self.broker.publish(message).await.unwrap();
    }

    /// Tells a worker whether to take jobs, and returns its answer. A worker can be told each action once.
    async fn drain(&self, worker: &str, action: DrainAction) -> WorkerDetails {
        let reply_to = topology::reply_queue(&format!("{worker}-{action:?}"));
        let queue = Queue { name: reply_to.clone(), kind: QueueKind::Exclusive };
        broker::topology::declare_bound(&*self.broker, &queue, &[topology::STATUS]).await.unwrap();
        let mut answers = self.broker.consume(&reply_to, 1).await.unwrap();
        let request = DrainRequest { reply_to, worker: worker.parse().unwrap(), action };
        self.control(topology::CONTROL, String::new(), &Control::Drain(request)).await;
        let delivery = answers.next().await.unwrap();
        let details = WorkerDetails::decode(&delivery.message.body).unwrap();
        delivery.accept();
        details
    }

    /// Publishes jobs of the run `name`, each with its length in milliseconds.
    async fn publish(&self, name: &str, lengths: impl IntoIterator<Item = u64>) {
        for (number, length) in lengths.into_iter().enumerate() {
            let call = CallId {
                run: name.parse().unwrap(),
                task: format!("t{number}").parse().unwrap(),
                firing: Firing::FIRST,
                attempt: Attempt::FIRST,
                action: flow::Action::Apply,
            };
            let job = Job {
                call: call.clone(),
                flow: "f".parse().unwrap(),
                module: Digest::from_bytes([7; 32]),
                export: None,
                inputs: [("ms".parse().unwrap(), Value::json(&length.into()))].into(),
                rollback: None,
                required_outputs: Vec::new(),
                limits: Limits::default(),
                access: flow::Access::default(),
                // So late that it was certainly sent after the start of its worker.
                at: Timestamp::from_micros(1_000_000),
                expires_at: None,
                signal_to: SIGNALS.into(),
                fetch_from: "store".into(),
                delivery_limit: None,
                keys: CallKeys::of_call(protocol::Key::NONE),
            };
            let message = Message {
                exchange: topology::JOBS.into(),
                key: queue().to_string(),
                routing: Routing::Mandatory,
                persistent: true,
                priority: 0,
                properties: Properties::default(),
                body: job.encode().into(),
            };
            self.sent.lock().unwrap().insert(call, message.clone());
            self.broker.publish(message).await.unwrap();
        }
    }

    /// Waits for `count` answers.
    async fn answers(&mut self, count: usize) -> Vec<Signal> {
        let mut answers = Vec::new();
        while answers.len() < count {
            let delivery = self.signals.next().await.unwrap();
            answers.extend(self.receive(delivery).await);
        }
        answers
    }

    /// Handles the reports that have arrived within a second. None of them may be an answer.
    async fn resend_returned(&mut self) {
        while let Ok(delivery) = timeout(Duration::from_secs(1), self.signals.next()).await {
            let answers = self.receive(delivery.unwrap()).await;
            assert!(answers.is_empty(), "{answers:?}");
        }
    }

    /// Returns the answers in a message, and sends the jobs again that it returns.
    async fn receive(&self, delivery: Delivery) -> Vec<Signal> {
        let body = delivery.message.body.clone();
        delivery.accept();
        let reports = match ReportBatch::decode(&body) {
            Ok(batch) => batch.reports.into_iter().map(|batched| batched.report).collect(),
            Err(_) => vec![&body[..]],
        };
        let mut answers = Vec::new();
        for report in reports {
            match Report::decode(report).unwrap() {
                Report::Signal(signal, _) => answers.push(signal),
                Report::NotStarted { call, redeliveries, unanswered, sending } => {
                    let mut job = self.sent.lock().unwrap()[&call].clone();
                    protocol::set_returned(&mut job.properties.headers, redeliveries);
                    protocol::set_unanswered(&mut job.properties.headers, unanswered);
                    protocol::set_sending(&mut job.properties.headers, SendingId::new(sending.get() + 1));
                    self.broker.publish(job).await.unwrap();
                }
                _ => {}
            }
        }
        answers
    }

    async fn waiting(&self) -> u64 {
        self.broker.waiting(&topology::job_queue(&queue())).await.unwrap().unwrap()
    }
}

fn queue() -> QueueName {
    "default".parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_call_that_no_engine_answers_for_ends() {
    let mut harness = Harness::new().await;
    let (guests, _stop) = harness.worker("one").await;
    let call = CallId {
        run: "r".parse().unwrap(),
        task: "t0".parse().unwrap(),
        firing: Firing::FIRST,
        attempt: Attempt::FIRST,
        action: flow::Action::Apply,
    };
    let withdrawn = WithdrawnCall { call, proof: protocol::Key::NONE.withdraw_proof() };
    harness.control(topology::CONTROL, String::new(), &Control::Withdraw(vec![withdrawn])).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    harness.publish("r", [1]).await;
    let mut questions = 0;
    loop {
        let delivery = harness.signals.next().await.unwrap();
        match Report::decode(&delivery.message.body).unwrap() {
            Report::AskStart { .. } => {
                questions += 1;
                assert_eq!(guests.started.load(Ordering::Relaxed), 0);
                delivery.accept();
            }
            Report::NotStarted { .. } => drop(harness.receive(delivery).await),
            Report::Signal(..) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(questions, 6, "a minute, in which an engine that restarts answers");
    assert!(started.elapsed() < Duration::from_secs(70), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn jobs_are_fetched_ahead_once_calls_are_known_to_be_short() {
    let mut harness = Harness::new().await;
    harness.publish("r", vec![1; 1_000]).await;
    let (guests, _stop) = harness.worker("one").await;
    assert!(harness.waiting().await >= 999, "the length of calls is unknown");
    harness.answers(500).await;
    let fetched = 1_000 - harness.waiting().await - guests.started.load(Ordering::Relaxed);
    assert!((10..=u64::from(u8::MAX)).contains(&fetched), "{fetched} are fetched but not started");
    harness.answers(500).await;
}

#[tokio::test(start_paused = true)]
async fn a_long_call_does_not_hold_jobs_of_other_workers() {
    let mut harness = Harness::new().await;
    harness.publish("short", [1; 200]).await;
    let (_, _stop) = harness.worker("one").await;
    harness.answers(200).await;
    // The worker prefetches now; the hour-long job is the first that it receives.
    harness.publish("mixed", [vec![3_600_000], vec![1; 50]].concat()).await;
    harness.resend_returned().await;
    assert_eq!(harness.waiting().await, 50, "jobs that cannot start soon were returned");
    let (other, _stop) = harness.worker("other").await;
    let started = Instant::now();
    let answers = harness.answers(50).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(answers.iter().all(|signal| !signal.redelivered), "no worker started them before");
    assert_eq!(other.started.load(Ordering::Relaxed), 50);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_job_that_only_a_busy_worker_fetches_fails_its_call() {
    let mut harness = Harness::new().await;
    harness.publish("short", [1; 200]).await;
    let (_, _stop) = harness.worker("one").await;
    harness.answers(200).await;
    // The worker prefetches now, and its slot is taken for an hour.
    harness.publish("long", [3_600_000]).await;
    let (call, mut unreadable) =
        harness.sent.lock().unwrap().first_key_value().map(|(c, m)| (c.clone(), m.clone())).unwrap();
    unreadable.properties.headers = protocol::headers(&call);
    unreadable.properties.reply_to = Some(SIGNALS.into());
    let mut body = unreadable.body.to_vec();
    // The format version.
    body[2] = 99;
    unreadable.body = body.into();
    harness.broker.publish(unreadable).await.unwrap();
    let [answer] = &harness.answers(1).await[..] else { panic!("one call has failed") };
    assert_eq!(answer.call, call);
    let TaskResult::Failed(failure) = &answer.answer else { panic!("{answer:?}") };
    assert_eq!(failure.kind, flow::FailureKind::Poison);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(harness.broker.waiting(topology::QUARANTINE).await.unwrap(), Some(1));
    assert_eq!(harness.waiting().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_leased_call_does_not_hold_jobs_of_other_workers() {
    let mut harness = Harness::new().await;
    harness.publish("long", [3_600_000]).await;
    let (_, _stop) = harness.worker("one").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    harness.publish("short", [1; 3]).await;
    harness.resend_returned().await;
    assert_eq!(harness.waiting().await, 3);
    let (_, _stop) = harness.worker("other").await;
    assert!(harness.answers(3).await.iter().all(|signal| !signal.redelivered));
}

#[tokio::test(start_paused = true)]
async fn waiting_calls_leave_the_slot_and_the_prefetch_to_other_jobs() {
    let mut harness = Harness::new().await;
    harness.publish("waits", [WAITS; 100]).await;
    let (guests, _stop) = harness.worker("one").await;
    // Some of them are under a lease by then.
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(guests.started.load(Ordering::Relaxed), 100, "all wait on one slot");
    let started = Instant::now();
    harness.publish("short", [1; 3]).await;
    assert!(harness.answers(3).await.iter().all(|signal| signal.call.run.as_str() == "short"));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // A long call has the slot when the first of them are ready. They are the next, one after the other.
    tokio::time::sleep(Duration::from_millis(WAITS - 60_000)).await;
    harness.publish("long", [120_000, 1]).await;
    let ended: Vec<String> = harness.answers(102).await.iter().map(|signal| signal.call.run.to_string()).collect();
    assert_eq!((&*ended[0], &*ended[101]), ("long", "long"));
    assert!(ended[1..101].iter().all(|run| run == "waits"), "before the job that comes later");
}

#[tokio::test(start_paused = true)]
async fn a_worker_resumes_fetching_after_a_long_call() {
    let mut harness = Harness::new().await;
    harness.publish("long", [60_000, 60_000, 1, 1, 1]).await;
    let (_, _stop) = harness.worker("one").await;
    harness.answers(5).await;
    assert_eq!(harness.waiting().await, 0);
}

#[tokio::test(start_paused = true)]
async fn returning_an_unstarted_job_does_not_count_as_a_redelivery() {
    let mut harness = Harness::new().await;
    harness.publish("short", [1; 300]).await;
    let (_, stop) = harness.worker("one").await;
    harness.answers(200).await;
    stop.cancel();
    tokio::time::sleep(Duration::from_secs(1)).await;
    while harness.signals.has_fetched() {
        let delivery = harness.signals.next().await.unwrap();
        harness.receive(delivery).await;
    }
    let mut remaining = harness.broker.consume(&topology::job_queue(&queue()), 1_000).await.unwrap();
    let mut count = 0;
    while remaining.has_fetched() {
        let delivery = remaining.next().await.unwrap();
        let Delivery { message, redelivered, returned, .. } = &delivery;
        let earlier = protocol::returned(&message.properties.headers);
        // The call that ran when the worker stopped was requeued unchanged.
        count += usize::from((*redelivered, *returned, earlier) == (false, 0, 0));
        delivery.accept();
    }
    assert!(count >= 90, "{count} were not started");
}

#[tokio::test(start_paused = true)]
async fn a_returned_job_keeps_its_redelivery_count() {
    let mut harness = Harness::new().await;
    harness.publish("r", [1]).await;
    let mut jobs = harness.broker.consume(&topology::job_queue(&queue()), 1).await.unwrap();
    for _ in 0..3 {
        jobs.next().await.unwrap().requeue();
    }
    let redelivered = jobs.next().await.unwrap();
    let job = Job::decode(&redelivered.message.body).unwrap();
    return_unstarted(&SignalSender::new(harness.broker.clone()), &job, redelivered, 2).await;
    harness.resend_returned().await;
    let again = jobs.next().await.unwrap();
    let headers = &again.message.properties.headers;
    assert_eq!((again.returned, protocol::returned(headers), protocol::unanswered(headers)), (0, 3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_worker_binds_its_control_queue_again() {
    let harness = Harness::new().await;
    let (_, _stop) = harness.worker("one").await;
    let name = "one".parse().unwrap();
    for binding in crate::control::bindings(&name) {
        harness.broker.unbind(&binding).await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        // The worker receives it, or it could not be routed.
        harness.control(&binding.exchange, binding.key, &Control::FollowLogs { run: "r".parse().unwrap() }).await;
    }
}
