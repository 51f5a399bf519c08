//! Tests jobs whose workers are lost: after some losses, no other worker executes them.

use super::*;

/// Loses `losses` workers with the next job of a queue, and returns the result of the next worker, which sets no limit.
async fn after(losses: u32, job: impl FnOnce(Digest) -> Job) -> TaskResult {
    after_at(config("one"), losses, job).await
}

/// Loses `losses` workers with the next job of a queue, and returns the result of a worker with a configuration.
async fn after_at(config: Config, losses: u32, job: impl FnOnce(Digest) -> Job) -> TaskResult {
    let mut harness = Harness::new().await;
    let queue = "one".parse().expect("a name");
    broker::topology::declare_shared(&*harness.broker).await.expect("the broker answers");
    broker::topology::declare_jobs(&*harness.broker, &queue).await.expect("the broker answers");
    let job = job(harness.module).with_keys(&SECRET);
    let message = Message {
        exchange: topology::JOBS.into(),
        key: "one".into(),
        routing: Routing::Mandatory,
        persistent: true,
        priority: 0,
        // These identify a job whose body may be unreadable.
        properties: Properties {
            reply_to: Some(SIGNALS.into()),
            headers: protocol::headers(&job.call),
            ..Properties::default()
        },
        body: job.encode().into(),
    };
    harness.broker.publish(message).await.expect("the queue is there");
    for _ in 0..losses {
        let mut lost_consumer = harness.broker.consume(&topology::job_queue(&queue), 1).await.expect("it is there");
        let delivery = lost_consumer.next().await.expect("the job");
        // Drop the consumer first: otherwise a requeued message would return to it.
        drop(lost_consumer);
        drop(delivery);
    }
    harness.start_configured(config, Admission::default(), 64 << 20).await;
    harness.reply_may_start(true).await;
    let answer = harness.answer().await;
    harness.stop().await;
    answer
}

#[track_caller]
fn is_poison(answer: &TaskResult) -> bool {
    match answer {
        TaskResult::Succeeded(_) => false,
        TaskResult::Failed(failure) => {
            assert_eq!(failure.kind, FailureKind::Poison, "{failure}");
            true
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_beyond_its_delivery_limit_is_poison() {
    let with_limit = |limit| move |module| Job { delivery_limit: NonZeroU32::new(limit), ..job(module, "noop") };
    let with_worker_limit = |module| job(module, "noop");
    let default = flow::DELIVERY_LIMIT.get();
    assert!(!is_poison(&after(1, with_limit(2)).await));
    assert!(is_poison(&after(2, with_limit(2)).await));
    assert!(
        !is_poison(&after(default, with_limit(default + 1)).await),
        "its own limit is higher than that of the worker"
    );
    assert!(!is_poison(&after(default - 1, with_worker_limit).await));
    assert!(is_poison(&after(default, with_worker_limit).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_delivery_limit_of_a_worker_holds_for_jobs_without_one() {
    let worker = |limit| Config { delivery_limit: NonZeroU32::new(limit).expect("it is not 0"), ..config("one") };
    let without_limit = |module| job(module, "noop");
    let with_limit = |module| Job { delivery_limit: NonZeroU32::new(3), ..job(module, "noop") };
    assert!(!is_poison(&after_at(worker(2), 1, without_limit).await));
    assert!(is_poison(&after_at(worker(2), 2, without_limit).await));
    assert!(!is_poison(&after_at(worker(2), 2, with_limit).await), "the limit of the task is higher");
    assert!(!is_poison(&after_at(worker(9), flow::DELIVERY_LIMIT.get(), without_limit).await));
}
