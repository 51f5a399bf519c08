//! What workers that returned jobs have said of the earlier deliveries of these jobs.
//!
//! It is known only here: a run that is suspended, or read again, keeps it, but another engine that takes the run over begins anew.

use std::collections::BTreeMap;

use flow::{CallId, RunId, Shard};
use machine::Machine;

use crate::messages::EarlierDeliveries;

/// The jobs that were returned, by run.
#[derive(Default)]
pub(crate) struct ReturnedJobs {
    runs: BTreeMap<RunId, RunJobs>,
}

/// The returned jobs of one run.
struct RunJobs {
    shard: Shard,
    calls: BTreeMap<CallId, EarlierDeliveries>,
}

impl ReturnedJobs {
    /// Remembers what happened to earlier jobs of an outstanding call, so that every later job has the counts.
    pub(crate) fn add(&mut self, shard: &Shard, machine: &Machine, call: &CallId, more: EarlierDeliveries) {
        if more == EarlierDeliveries::default() {
            return;
        }
        let new = || RunJobs { shard: shard.clone(), calls: BTreeMap::new() };
        let jobs = self.runs.entry(call.run.clone()).or_insert_with(new);
        jobs.calls.retain(|call, _| machine.outstanding_since(call).is_some());
        let known = jobs.calls.entry(call.clone()).or_default();
        *known = known.max(more);
    }

    /// What happened to earlier jobs of a call, as far as it is known here.
    pub(crate) fn earlier(&self, call: &CallId) -> EarlierDeliveries {
        self.runs.get(&call.run).and_then(|jobs| jobs.calls.get(call)).copied().unwrap_or_default()
    }

    /// Forgets a run that has ended.
    pub(crate) fn remove_run(&mut self, run: &RunId) {
        self.runs.remove(run);
    }

    /// Forgets the runs of a shard that is no longer driven here.
    pub(crate) fn drop_shard(&mut self, shard: &Shard) {
        self.runs.retain(|_, jobs| jobs.shard != *shard);
    }
}
