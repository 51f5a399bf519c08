//! What is known of the jobs that workers have returned: which message sent each of them last, and what the workers have said of
//! the earlier deliveries.
//!
//! It is known only here: a run that is suspended, or read again, keeps it, but another engine that takes the run over begins anew. Nothing
//! that has to be rolled back depends on it: that a lost worker may have executed a call is a record of its run
//! ([`machine::Event::LostDelivery`]). It is for the jobs that are sent again: their workers count lost workers with it.

use std::collections::BTreeMap;

use flow::{CallId, RunId, Shard};
use machine::Machine;
use protocol::{EngineSecret, SendingId};

use crate::messages::{EarlierDeliveries, JobSending};

/// The number of returned jobs of a run before those of answered calls are forgotten for the first time.
const MIN_PRUNED: usize = 64;

/// The jobs that were returned, by run.
#[derive(Default)]
pub(crate) struct ReturnedJobs {
    runs: BTreeMap<RunId, RunJobs>,
}

/// The returned jobs of one run.
struct RunJobs {
    shard: Shard,
    calls: BTreeMap<CallId, ReturnedJob>,
    /// The number of jobs at which those of answered calls are forgotten.
    pruned_at: usize,
}

#[derive(Default)]
struct ReturnedJob {
    earlier: EarlierDeliveries,
    /// How often this engine has sent it again.
    sendings: u64,
    /// The message that sent it last; `None` if any message may be the last.
    last: Option<SendingId>,
}

impl ReturnedJobs {
    /// Remembers what happened to earlier jobs of an outstanding call, so that every later job has the counts.
    pub(crate) fn add(&mut self, shard: &Shard, machine: &Machine, call: &CallId, more: EarlierDeliveries) {
        let new = || RunJobs { shard: shard.clone(), calls: BTreeMap::new(), pruned_at: MIN_PRUNED };
        let jobs = self.runs.entry(call.run.clone()).or_insert_with(new);
        if jobs.calls.len() >= jobs.pruned_at {
            jobs.calls.retain(|call, _| machine.outstanding_since(call).is_some());
            jobs.pruned_at = MIN_PRUNED.max(2 * jobs.calls.len());
        }
        let known = jobs.calls.entry(call.clone()).or_default();
        known.earlier = known.earlier.max(more);
    }

    /// What the next message with the job of a call says. That message is the last one from now on.
    pub(crate) fn next_sending(&mut self, call: &CallId, secret: &EngineSecret) -> JobSending {
        let Some(job) = self.runs.get_mut(&call.run).and_then(|jobs| jobs.calls.get_mut(call)) else {
            return JobSending::default();
        };
        job.sendings += 1;
        let id = secret.sending_id(call, job.sendings);
        job.last = Some(id);
        JobSending { id, earlier: job.earlier }
    }

    /// Whether a message may be the one that sent the job of a call last. Any may be, as long as this engine has not sent the
    /// job again.
    pub(crate) fn is_last_sending(&self, call: &CallId, id: SendingId) -> bool {
        let job = self.runs.get(&call.run).and_then(|jobs| jobs.calls.get(call));
        job.and_then(|job| job.last).is_none_or(|last| last == id)
    }

    /// Any message with a job of this run may be the last from now on.
    pub(crate) fn forget_sendings(&mut self, run: &RunId) {
        for job in self.runs.get_mut(run).into_iter().flat_map(|jobs| jobs.calls.values_mut()) {
            job.last = None;
        }
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
