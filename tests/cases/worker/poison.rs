//! Tests jobs whose workers are lost: after some losses, no other worker executes them.

use super::*;

/// Loses `lost` workers with the next job of a queue, and returns the result of the next worker.
async fn after(lost: u32, job: impl FnOnce(Digest) -> Job) -> TaskResult {
    let mut world = Harness::new().await;
    let queue = "one".parse().expect("a name");
    broker::topology::declare_shared(&*world.broker).await.expect("the broker is there");
    broker::topology::declare_jobs(&*world.broker, &queue).await.expect("the broker is there");
    let job = job(world.module);
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
    world.broker.publish(message).await.expect("the queue is there");
    for _ in 0..lost {
        let mut doomed = world.broker.consume(&topology::job_queue(&queue), 1).await.expect("it is there");
        let delivery = doomed.next().await.expect("the job");
        // Drop the consumer first: otherwise a requeued message would return to it.
        drop(doomed);
        drop(delivery);
    }
    world.start_worker("one").await;
    world.reply_may_start(true).await;
    let answer = world.answer().await;
    world.stop().await;
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
    let own = |limit| move |module| Job { delivery_limit: NonZeroU32::new(limit), ..job(module, "noop") };
    let of_the_worker = |module| job(module, "noop");
    let default = flow::DELIVERY_LIMIT.get();
    assert!(!is_poison(&after(1, own(2)).await));
    assert!(is_poison(&after(2, own(2)).await));
    assert!(!is_poison(&after(default, own(default + 1)).await), "more than the worker's");
    assert!(!is_poison(&after(default - 1, of_the_worker).await));
    assert!(is_poison(&after(default, of_the_worker).await));
}
