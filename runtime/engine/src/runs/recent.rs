//! Runs that were in memory until recently: a message that arrives late for a long run need not replay all its records.

use std::{collections::BTreeMap, time::Duration};

use flow::RunId;
use logbook::Summary;
use tokio::time::Instant;

use super::ActiveRun;

/// How long a run stays after its last use: late answers to its calls mostly arrive within this time.
const RETENTION: Duration = Duration::from_secs(60);

/// Maximum number of nodes of all these runs together: some gigabytes.
const MAX_NODES: usize = 2_000_000;

/// Minimum number of records of a run that is kept. A shorter one is replayed within milliseconds.
const MIN_RECORDS: u64 = 1_000;

/// Machines of runs that have ended or are suspended, each as its last record left it.
#[derive(Default)]
pub(crate) struct RecentRuns {
    runs: BTreeMap<RunId, (Instant, ActiveRun)>,
}

impl RecentRuns {
    /// Keeps a run that was just removed from memory.
    pub(crate) fn put(&mut self, run: RunId, active: ActiveRun) {
        if active.version.get() < MIN_RECORDS || active.machine.size() > MAX_NODES {
            return;
        }
        self.runs.insert(run, (Instant::now(), active));
        while self.runs.values().map(|(_, active)| active.machine.size()).sum::<usize>() > MAX_NODES {
            let oldest = self.runs.iter().min_by_key(|(_, (used_at, _))| *used_at).map(|(run, _)| run.clone());
            oldest.map(|run| self.runs.remove(&run));
        }
    }

    /// Whether a run is here.
    pub(crate) fn contains(&self, run: &RunId) -> bool {
        self.runs.contains_key(run)
    }

    /// Takes a run, unless another engine has added records to it since.
    pub(crate) fn take(&mut self, summary: &Summary) -> Option<ActiveRun> {
        let (_, active) = self.runs.remove(&summary.run)?;
        (active.version == summary.version).then(|| ActiveRun { shard: summary.info.shard.clone(), ..active })
    }

    /// Drops the runs that were not used for a time.
    pub(crate) fn expire(&mut self) {
        self.runs.retain(|_, (used_at, _)| used_at.elapsed() < RETENTION);
    }
}
