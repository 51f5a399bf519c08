//! Queues of jobs that no worker takes: the log says so, or a run waits in silence.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use broker::Broker;
use flow::QueueName;
use protocol::topology;
use tracing::{debug, info, warn};

/// How often it is looked. A worker that is just starting again is not missed.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// How many calls wait in each queue, as far as is known: the driver writes it, each [`PERIOD`]. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct WaitingCalls(Arc<Mutex<BTreeMap<QueueName, usize>>>);

impl WaitingCalls {
    pub(crate) fn set(&self, waiting: BTreeMap<QueueName, usize>) {
        *self.lock() = waiting;
    }

    fn get(&self) -> BTreeMap<QueueName, usize> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<QueueName, usize>> {
        // An assignment is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says once of each queue that calls wait there and no worker takes them, and once that one does.
pub(crate) async fn watch(broker: Arc<dyn Broker>, waiting: WaitingCalls) {
    let mut untaken: BTreeSet<QueueName> = BTreeSet::new();
    loop {
        // Calls that wait at one look only are just being taken.
        let before = waiting.get();
        tokio::time::sleep(CHECK_INTERVAL).await;
        let now = waiting.get();
        for (queue, calls) in &now {
            if !before.contains_key(queue) {
                continue;
            }
            match broker.consumers(&topology::job_queue(queue)).await {
                Ok(None | Some(0)) => {
                    if untaken.insert(queue.clone()) {
                        warn!(%queue, calls, "calls wait for a worker, and none takes jobs from their queue");
                    }
                }
                Ok(Some(_)) => {
                    if untaken.remove(queue) {
                        info!(%queue, "a worker takes jobs from the queue");
                    }
                }
                Err(error) => debug!(%queue, %error, "who takes jobs from a queue is not known"),
            }
        }
        untaken.retain(|queue| now.contains_key(queue));
    }
}
