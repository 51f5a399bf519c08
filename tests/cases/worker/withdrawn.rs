//! Tests jobs of withdrawn calls: a worker that may have missed a withdrawal asks an engine before it starts a call.

use flow::WorkerName;
use protocol::{HeartbeatNumber, Seal};

use super::*;

/// A job that was sent before its worker received withdrawals.
fn early(module: Digest, export: &str) -> Job {
    Job { at: Timestamp::from_micros(1_600_000_000_000_000), ..job(module, export) }
}

impl Harness {
    /// The next report other than progress and heartbeats: on a busy machine, a short call may take long.
    async fn report(&mut self) -> Report {
        loop {
            let delivery = self.signals.next().await.expect("the broker answers");
            let report = Report::decode(&delivery.message.body).expect("a worker's report");
            delivery.accept();
            if !matches!(report, Report::Progress(_) | Report::Heartbeat { .. }) {
                return report;
            }
        }
    }

    /// The next report, which says that a call has started: the call, the worker, and the number.
    async fn started(&mut self) -> (CallId, WorkerName, HeartbeatNumber) {
        match self.report().await {
            Report::Started { call, worker, number } => (call, worker, number),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until a worker asks whether it may start a call; returns the call and the reply queue.
    async fn next_may_start(&mut self) -> (CallId, String) {
        let delivery = self.signals.next().await.expect("the broker answers");
        let report = Report::decode(&delivery.message.body).expect("a worker's report");
        let reply_to = delivery.message.properties.reply_to.clone().expect("the report has a reply queue");
        delivery.accept();
        match report {
            Report::AskStart { call } => (call, reply_to),
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn reply_may_start(&mut self, wanted: bool) -> CallId {
        let (call, reply_to) = self.next_may_start().await;
        let proof = SECRET.call_key(&call).may_start_proof(wanted);
        self.control(Destination::Queue(reply_to), &Control::MayStart { call: call.clone(), wanted, proof }).await;
        call
    }
}

/// A job of another call than [`job`].
fn another(module: Digest) -> Job {
    let job = job(module, "noop");
    Job { call: CallId { task: "another".parse().expect("a name"), ..job.call }, ..job }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_older_than_its_worker_needs_permission_to_start() {
    let mut harness = Harness::new().await;
    harness.start_worker("one").await;
    let (withdrawn, fresh) = (early(harness.module, "noop"), another(harness.module));
    harness.publish("one", &withdrawn).await;
    assert_eq!(harness.reply_may_start(false).await, withdrawn.call);
    harness.publish("one", &fresh).await;
    match harness.report().await {
        Report::Signal(signal, _) => assert_eq!(signal.call, fresh.call, "a call that did not start sends no signal"),
        other => panic!("{other:?}"),
    }
    let queue = topology::job_queue(&"one".parse().expect("a name"));
    assert_eq!(harness.broker.waiting(&queue).await.expect("the broker answers"), Some(0), "its job was accepted");
    let wanted = Job { call: CallId { attempt: Attempt::new(2), ..withdrawn.call.clone() }, ..withdrawn };
    harness.publish("one", &wanted).await;
    assert_eq!(harness.reply_may_start(true).await, wanted.call);
    assert_eq!(harness.answer().await, TaskResult::Succeeded(Values::new()));
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_an_engine_whose_clock_is_ahead_needs_permission_to_start() {
    let mut harness = Harness::new().await;
    harness.start_worker("one").await;
    let withdrawn = Job { at: Timestamp::from_micros(1_700_003_600_000_000), ..job(harness.module, "noop") };
    harness.publish("one", &withdrawn).await;
    assert_eq!(harness.reply_may_start(false).await, withdrawn.call);
    harness.stop().await;
}

/// A withdrawal goes to the workers that are connected.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_older_than_its_workers_connection_needs_permission_to_start() {
    let memory = InProcess::new();
    declare_signals(&memory, SIGNALS).await;
    let signals = memory.consume(SIGNALS, 16).await.expect("it is there");
    let connection = LossyConnection::to(&memory);
    let guests = Arc::new(PanickingGuests { calls: AtomicU32::new(1) });
    let worker = Worker::connect(config("one"), Arc::new(connection.clone()), guests).await;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(worker.expect("it connects").run(stop.clone(), stop.clone()));
    let module = Digest::from_bytes([1; 32]);
    let (broker, store) = (Arc::new(memory.clone()), Arc::new(store::Memory::new()));
    let mut harness = Harness { broker, store, module, signals, tasks, stop };
    harness.publish("one", &job(module, "noop")).await;
    assert_eq!(harness.answer().await, TaskResult::Succeeded(Values::new()), "its worker has received all withdrawals");
    connection.drop_connection().await;
    let withdrawn = another(module);
    harness.publish("one", &withdrawn).await;
    assert_eq!(harness.reply_may_start(false).await, withdrawn.call);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn job_expiry_follows_the_engine_clock() {
    let mut harness = Harness::new().await;
    harness.start_worker("one").await;
    let (withdrawn, wanted) = (job(harness.module, "noop"), another(harness.module));
    let in_past = Some(Timestamp::from_micros(1_700_000_000_000_001));
    let in_future = Some(Timestamp::from_micros(9_000_000_000_000_000));
    harness.publish("one", &Job { expires_at: in_future, ..withdrawn.clone() }).await;
    assert_eq!(harness.reply_may_start(false).await, withdrawn.call);
    harness.publish("one", &Job { expires_at: in_past, ..wanted.clone() }).await;
    assert_eq!(harness.reply_may_start(true).await, wanted.call);
    match harness.report().await {
        Report::Signal(signal, _) => {
            assert_eq!((signal.call, signal.answer), (wanted.call, TaskResult::Succeeded(Values::new())));
        }
        other => panic!("{other:?}"),
    }
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_withdrawn_job_gets_a_result() {
    let mut harness = Harness::new().await;
    let queue = "one".parse().expect("a name");
    broker::topology::declare_shared(&*harness.broker).await.expect("the broker answers");
    broker::topology::declare_jobs(&*harness.broker, &queue).await.expect("the broker answers");
    harness.publish("one", &job(harness.module, "noop")).await;
    // A worker received it, and was lost.
    let mut lost_consumer = harness.broker.consume(&topology::job_queue(&queue), 1).await.expect("it is there");
    drop(lost_consumer.next().await.expect("the job"));
    drop(lost_consumer);
    harness.start_worker("one").await;
    harness.reply_may_start(false).await;
    match harness.report().await {
        Report::Signal(signal, _) => {
            assert!(signal.redelivered);
            assert!(matches!(signal.answer, TaskResult::Failed(failure) if failure.kind == FailureKind::Cancelled));
        }
        other => panic!("{other:?}"),
    }
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_reports_started_withdrawn_calls() {
    let mut harness = Harness::new().await;
    harness.start_worker("one").await;
    let (spinning, other) = (job(harness.module, "spin"), another(harness.module));
    harness.publish("one", &spinning).await;
    let progress = harness.signals.next().await.expect("the broker answers");
    let running = Report::decode(&progress.message.body).expect("a worker's report");
    progress.accept();
    assert!(matches!(running, Report::Progress(_)), "it has started");
    let withdrawn = withdraw([&spinning.call, &other.call]);
    harness.control(Destination::Exchange(topology::CONTROL.into()), &withdrawn).await;
    let worker = WorkerName::new("one").expect("a name");
    let first = harness.started().await;
    assert_eq!((&first.0, &first.1), (&spinning.call, &worker));
    harness.publish("one", &other).await;
    assert_eq!(harness.next_may_start().await.0, other.call);
    // Who was not given a job can neither stop its call nor say that it is not wanted.
    let own = SECRET.call_key(&spinning.call);
    for proof in [Seal::NONE, SECRET.call_key(&other.call).interrupt_proof(), own.withdraw_proof()] {
        let forged = Control::Interrupt { call: spinning.call.clone(), proof };
        harness.control(Destination::Exchange(topology::CONTROL.into()), &forged).await;
    }
    let forged = Control::MayStart { call: other.call.clone(), wanted: false, proof: Seal::NONE };
    harness.control(Destination::Queue(topology::control_queue(&worker)), &forged).await;
    let withdrawn = withdraw([&spinning.call]);
    harness.control(Destination::Exchange(topology::CONTROL.into()), &withdrawn).await;
    let second = harness.started().await;
    assert_eq!((&second.0, &second.1), (&spinning.call, &worker), "it still runs");
    assert_eq!(second.2.execution, first.2.execution);
    assert!(second.2.count > first.2.count, "each has a higher number than the last");
    // A call that is interrupted before its start does not start.
    for call in [other.call, spinning.call.clone()] {
        harness.control(Destination::Exchange(topology::CONTROL.into()), &interrupt(call)).await;
    }
    match harness.report().await {
        Report::Signal(signal, _) => assert_eq!(signal.call, spinning.call),
        other => panic!("{other:?}"),
    }
    harness.stop().await;
}
