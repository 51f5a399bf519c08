//! Tests jobs of withdrawn calls: a worker that may have missed a withdrawal asks before it starts a call.

use flow::WorkerName;

use super::*;

/// A job that was sent before its worker listened.
fn early(module: Digest, export: &str) -> Job {
    Job { at: Timestamp::from_micros(1_600_000_000_000_000), ..job(module, export) }
}

impl Harness {
    /// The next report other than progress.
    async fn report(&mut self) -> Report {
        loop {
            let delivery = self.signals.next().await.expect("the broker is there");
            let report = Report::decode(&delivery.message.body).expect("a worker's report");
            delivery.accept();
            if !matches!(report, Report::Progress(_)) {
                return report;
            }
        }
    }

    /// Waits until a worker asks whether it may begin a call; returns the call and the reply queue.
    async fn next_may_start(&mut self) -> (CallId, String) {
        let delivery = self.signals.next().await.expect("the broker is there");
        let report = Report::decode(&delivery.message.body).expect("a worker's report");
        let reply_to = delivery.message.properties.reply_to.clone().expect("it says where");
        delivery.accept();
        match report {
            Report::MayBegin { call } => (call, reply_to),
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn reply_may_start(&mut self, wanted: bool) -> CallId {
        let (call, reply_to) = self.next_may_start().await;
        self.control(Destination::Queue(reply_to), &Control::MayStart { call: call.clone(), wanted }).await;
        call
    }
}

/// Another call than those of [`job`].
fn another(module: Digest) -> Job {
    let job = job(module, "noop");
    Job { call: CallId { task: "another".parse().expect("a name"), ..job.call }, ..job }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_older_than_its_worker_needs_permission_to_start() {
    let mut world = Harness::new().await;
    world.start_worker("one").await;
    let (withdrawn, fresh) = (early(world.module, "noop"), another(world.module));
    world.publish("one", &withdrawn).await;
    assert_eq!(world.reply_may_start(false).await, withdrawn.call);
    world.publish("one", &fresh).await;
    match world.report().await {
        Report::Signal(signal, _) => assert_eq!(signal.call, fresh.call, "nobody hears of what did not begin"),
        other => panic!("{other:?}"),
    }
    let queue = topology::job_queue(&"one".parse().expect("a name"));
    assert_eq!(world.broker.waiting(&queue).await.expect("the broker is there"), Some(0), "its job is done with");
    let wanted = Job { call: CallId { attempt: Attempt::new(2), ..withdrawn.call.clone() }, ..withdrawn };
    world.publish("one", &wanted).await;
    assert_eq!(world.reply_may_start(true).await, wanted.call);
    assert_eq!(world.answer().await, TaskResult::Succeeded(Values::new()));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn job_expiry_follows_the_engine_clock() {
    let mut world = Harness::new().await;
    world.start_worker("one").await;
    let (withdrawn, wanted) = (job(world.module, "noop"), another(world.module));
    let long_ago = Some(Timestamp::from_micros(1_700_000_000_000_001));
    let far_off = Some(Timestamp::from_micros(9_000_000_000_000_000));
    world.publish("one", &Job { expires_at: far_off, ..withdrawn.clone() }).await;
    assert_eq!(world.reply_may_start(false).await, withdrawn.call);
    world.publish("one", &Job { expires_at: long_ago, ..wanted.clone() }).await;
    assert_eq!(world.reply_may_start(true).await, wanted.call);
    match world.report().await {
        Report::Signal(signal, _) => {
            assert_eq!((signal.call, signal.answer), (wanted.call, TaskResult::Succeeded(Values::new())));
        }
        other => panic!("{other:?}"),
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_withdrawn_job_gets_a_result() {
    let mut world = Harness::new().await;
    let queue = "one".parse().expect("a name");
    broker::topology::declare_shared(&*world.broker).await.expect("the broker is there");
    broker::topology::declare_jobs(&*world.broker, &queue).await.expect("the broker is there");
    world.publish("one", &job(world.module, "noop")).await;
    // A worker received it, and died.
    let mut doomed = world.broker.consume(&topology::job_queue(&queue), 1).await.expect("it is there");
    drop(doomed.next().await.expect("the job"));
    drop(doomed);
    world.start_worker("one").await;
    world.reply_may_start(false).await;
    match world.report().await {
        Report::Signal(signal, _) => {
            assert!(signal.redelivered);
            assert!(matches!(signal.answer, TaskResult::Failed(failure) if failure.kind == FailureKind::Cancelled));
        }
        other => panic!("{other:?}"),
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_reports_started_withdrawn_calls() {
    let mut world = Harness::new().await;
    world.start_worker("one").await;
    let (spinning, other) = (job(world.module, "spin"), another(world.module));
    world.publish("one", &spinning).await;
    let progress = world.signals.next().await.expect("the broker is there");
    let running = Report::decode(&progress.message.body).expect("a worker's report");
    progress.accept();
    assert!(matches!(running, Report::Progress(_)), "it has begun");
    let withdrawn = Control::Withdraw(vec![spinning.call.clone(), other.call.clone()]);
    world.control(Destination::Exchange(topology::CONTROL.into()), &withdrawn).await;
    let worker = WorkerName::new("one").expect("a name");
    assert_eq!(world.report().await, Report::Started { call: spinning.call.clone(), worker });
    world.publish("one", &other).await;
    assert_eq!(world.next_may_start().await.0, other.call);
    // A call that is interrupted before its start does not start.
    for call in [other.call, spinning.call.clone()] {
        world.control(Destination::Exchange(topology::CONTROL.into()), &Control::Interrupt(call)).await;
    }
    match world.report().await {
        Report::Signal(signal, _) => assert_eq!(signal.call, spinning.call),
        other => panic!("{other:?}"),
    }
    world.stop().await;
}
