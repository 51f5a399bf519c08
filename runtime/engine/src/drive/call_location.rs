//! Where each call is that is out, as the driver has it.

use std::time::Duration;

use flow::{CallId, WorkerName};

use super::{ActiveRun, Driver};

/// Where a call is that has no answer yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallLocation {
    /// Under the lease of a worker, whose heartbeats are waited for.
    UnderLease {
        /// The worker.
        worker: WorkerName,
        /// For how long nothing proved that the queue of the shard is heard here. A lease is missed only by the time for
        /// which it was heard.
        silent_for: Duration,
    },
    /// Under the lease of a worker, whose heartbeats nobody waits for: this never is.
    UnwatchedLease {
        /// The worker.
        worker: WorkerName,
    },
    /// With the engine, until there is a permit for it.
    AwaitingPermit,
    /// With the engine, until every answer that waits in the queue of its shard was read: it may be among them.
    AwaitingBarrier,
    /// With the broker: in a queue, with a worker's delivery, or answered and not heard yet.
    Sent,
}

impl Driver {
    /// Where each call is that is out, of all runs that are driven here.
    pub(super) fn call_locations(&self) -> Vec<(CallId, CallLocation)> {
        self.runs.values().flat_map(|live| self.whereabouts_of(live)).collect()
    }

    fn whereabouts_of<'a>(&'a self, live: &'a ActiveRun) -> impl Iterator<Item = (CallId, CallLocation)> + 'a {
        let leased: Vec<(CallId, WorkerName)> = live.machine.leased_calls().collect();
        live.machine.outstanding_calls().map(move |call| {
            let mut holders = leased.iter().filter(|(held, _)| *held == call);
            let at = match holders.next() {
                Some((_, worker)) => {
                    let watched = leased.iter().find(|held| held.0 == call && self.leases.holds(&live.shard, held));
                    match watched {
                        Some((_, worker)) => {
                            let silent_for = self.leases.queue_silent_time(&live.shard);
                            CallLocation::UnderLease { worker: worker.clone(), silent_for }
                        }
                        None => CallLocation::UnwatchedLease { worker: worker.clone() },
                    }
                }
                None if self.permits.is_queued(&call) => CallLocation::AwaitingPermit,
                None if live.outstanding_at_load.contains(&call) => CallLocation::AwaitingBarrier,
                None => CallLocation::Sent,
            };
            (call, at)
        })
    }
}
