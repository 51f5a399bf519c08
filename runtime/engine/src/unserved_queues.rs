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
