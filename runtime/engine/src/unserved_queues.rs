//! Detects job queues that no worker consumes, and logs them: otherwise a run would wait without a sign.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use broker::Broker;
use flow::QueueName;
use protocol::topology;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::supervisor::Supervisor;

/// Interval of the check. It is long enough that a restarting worker is not reported.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The number of waiting calls in each queue, as far as is known: the driver sets it each [`CHECK_INTERVAL`]. Cheap
/// to clone.
#[derive(Clone, Default)]
pub(crate) struct WaitingCalls(Arc<Mutex<BTreeMap<QueueName, usize>>>);

impl WaitingCalls {
    pub(crate) fn set(&self, waiting: BTreeMap<QueueName, usize>) {
        *self.lock() = waiting;
    }

    /// The queues in which calls wait.
    pub(crate) fn queues(&self) -> Vec<QueueName> {
        self.lock().keys().cloned().collect()
    }

    fn get(&self) -> BTreeMap<QueueName, usize> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<QueueName, usize>> {
        // An assignment is a single operation.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts to watch the queues in which calls wait, until `stop` is cancelled.
pub(crate) fn start(broker: &Arc<dyn Broker>, supervisor: &Supervisor, stop: &CancellationToken) -> WaitingCalls {
    let waiting = WaitingCalls::default();
    let until_stopped = stop.clone().run_until_cancelled_owned(watch(broker.clone(), waiting.clone()));
    supervisor.spawn("watch of queues", async move {
        let _stopped = until_stopped.await;
    });
    waiting
}

/// Logs, once per queue, that calls wait in a queue without a worker, and once that a worker consumes it again.
async fn watch(broker: Arc<dyn Broker>, waiting: WaitingCalls) {
    let mut unserved: BTreeSet<QueueName> = BTreeSet::new();
    loop {
        // Calls that wait at only one check are just being delivered.
        let before = waiting.get();
        tokio::time::sleep(CHECK_INTERVAL).await;
        let now = waiting.get();
        for (queue, calls) in &now {
            if !before.contains_key(queue) {
                continue;
            }
            match broker.consumers(&topology::job_queue(queue)).await {
                Ok(None | Some(0)) => {
                    if unserved.insert(queue.clone()) {
                        warn!(%queue, calls, "calls wait for a worker, and none takes jobs from their queue");
                    }
                }
                Ok(Some(_)) => {
                    if unserved.remove(queue) {
                        info!(%queue, "a worker takes jobs from the queue");
                    }
                }
                Err(error) => debug!(%queue, %error, "the consumers of a queue could not be counted"),
            }
        }
        unserved.retain(|queue| now.contains_key(queue));
    }
}

#[cfg(test)]
mod tests {
    use broker::InProcess;

    use super::*;
    use crate::captured_logs::CapturedLogs;

    const UNSERVED: &str = "calls wait for a worker, and none takes jobs from their queue";

    /// A queue, and the log of the watch.
    struct Watched {
        broker: InProcess,
        waiting: WaitingCalls,
        logs: CapturedLogs,
    }

    impl Watched {
        fn set(&self, calls: &[(&str, usize)]) {
            self.waiting.set(calls.iter().map(|(queue, calls)| (queue.parse().unwrap(), *calls)).collect());
        }

        /// The log lines of the next check.
        async fn check(&self) -> Vec<String> {
            tokio::time::sleep(CHECK_INTERVAL).await;
            self.logs.take()
        }

        async fn assert_reported(&self, parts: &[&str]) {
            let lines = self.check().await;
            let [line] = &lines[..] else { panic!("{} lines: {lines:?}", lines.len()) };
            for part in parts {
                assert!(line.contains(part), "{part} is missing in: {line}");
            }
        }

        async fn assert_silent(&self) {
            let lines = self.check().await;
            assert!(lines.is_empty(), "{lines:?}");
        }
    }

    /// Runs the watch beside a test, whose checks come right after those of the watch.
    async fn watching(test: impl AsyncFnOnce(Watched)) {
        let (broker, waiting) = (InProcess::new(), WaitingCalls::default());
        broker::topology::declare_shared(&broker).await.unwrap();
        broker::topology::declare_jobs(&broker, &"q".parse().unwrap()).await.unwrap();
        let shared: Arc<dyn Broker> = Arc::new(broker.connect());
        let logs = CapturedLogs::start();
        let watched = watch(shared, waiting.clone());
        let test = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            test(Watched { broker, waiting, logs }).await;
        };
        tokio::select! {
            biased;
            () = watched => panic!("the watch never ends"),
            () = test => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_without_a_worker_is_reported_once_and_again_after_it_had_one() {
        watching(async |watched: Watched| {
            watched.set(&[("q", 3)]);
            watched.assert_silent().await;
            watched.assert_reported(&["WARN", UNSERVED, "queue=q", "calls=3"]).await;
            for _ in 0..3 {
                watched.assert_silent().await;
            }
            let worker = watched.broker.consume(&topology::job_queue(&"q".parse().unwrap()), 1).await.unwrap();
            watched.assert_reported(&["INFO", "a worker takes jobs from the queue", "queue=q"]).await;
            watched.assert_silent().await;
            drop(worker);
            watched.assert_reported(&["WARN", UNSERVED, "queue=q"]).await;
            watched.assert_silent().await;
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_is_reported_again_when_calls_wait_in_it_again() {
        watching(async |watched: Watched| {
            watched.set(&[("q", 1)]);
            watched.assert_silent().await;
            watched.assert_reported(&["WARN", UNSERVED, "queue=q"]).await;
            // The run was cancelled.
            watched.set(&[]);
            watched.assert_silent().await;
            watched.set(&[("q", 2)]);
            watched.assert_silent().await;
            watched.assert_reported(&["WARN", UNSERVED, "queue=q", "calls=2"]).await;
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_are_being_delivered_are_not_reported() {
        watching(async |watched: Watched| {
            for _ in 0..3 {
                watched.set(&[("q", 1)]);
                watched.assert_silent().await;
                watched.set(&[]);
                watched.assert_silent().await;
            }
            // A queue that does not exist has no worker either.
            watched.set(&[("missing", 1)]);
            watched.assert_silent().await;
            watched.assert_reported(&["WARN", UNSERVED, "queue=missing"]).await;
        })
        .await;
    }
}
