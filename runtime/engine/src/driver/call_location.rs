//! The location of each outstanding call, as the driver knows it.

use std::{collections::BTreeMap, time::Duration};

use flow::{CallId, WorkerName};

use super::Driver;
use crate::runs::ActiveRun;

/// The location of a call that has no answer yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallLocation {
    /// Under the lease of a worker whose heartbeats the engine watches.
    UnderLease {
        /// The worker.
        worker: WorkerName,
        /// Time since a probe last proved that the engine receives the shard's queue. A lease expires only by
        /// received time.
        silent_for: Duration,
    },
    /// Under the lease of a worker, but not watched: this never happens.
    UnwatchedLease {
        /// The worker.
        worker: WorkerName,
    },
    /// With the engine, until it has a permit.
    AwaitingPermit,
    /// With the engine, until every answer that waits in the shard's queue was read: the call's answer may be among
    /// them.
    AwaitingBarrier,
    /// With the engine, until its remembered result was looked up, its job is made, or it is withdrawn: each batch makes jobs of a bounded
    /// size.
    AwaitingTurn,
    /// With the broker: in a queue, delivered to a worker, or answered but not received yet.
    Sent,
}

impl Driver {
    /// Returns the location of each outstanding call, for all runs that are driven here.
    pub(super) fn call_locations(&self) -> Vec<(CallId, CallLocation)> {
        self.runs.iter().flat_map(|(_, active)| self.call_locations_of(active)).collect()
    }

    fn call_locations_of<'a>(&'a self, active: &'a ActiveRun) -> impl Iterator<Item = (CallId, CallLocation)> + 'a {
        // A run may have a million outstanding calls.
        let mut holders: BTreeMap<CallId, Vec<WorkerName>> = BTreeMap::new();
        for (call, worker) in active.machine.leased_calls() {
            holders.entry(call).or_default().push(worker);
        }
        active.machine.outstanding_calls().map(move |call| {
            let holders = holders.get(&call).map_or(&[][..], Vec::as_slice);
            let at = match holders.first() {
                Some(worker) => {
                    let is_watched =
                        |worker: &&WorkerName| self.leases.holds(&active.shard, &(call.clone(), (*worker).clone()));
                    match holders.iter().find(is_watched) {
                        Some(worker) => {
                            let silent_for = self.leases.queue_silent_time(&active.shard);
                            CallLocation::UnderLease { worker: worker.clone(), silent_for }
                        }
                        None => CallLocation::UnwatchedLease { worker: worker.clone() },
                    }
                }
                None if self.permits.is_queued(&call) => CallLocation::AwaitingPermit,
                None if self.call_queue.has(&call) || self.lookups.has(&call) => CallLocation::AwaitingTurn,
                None if active.outstanding_at_load.contains(&call) => CallLocation::AwaitingBarrier,
                None => CallLocation::Sent,
            };
            (call, at)
        })
    }
}
