//! Runs that were in memory until recently: a message that arrives late for a long run need not replay all its records.

use std::{collections::BTreeMap, time::Duration};

use flow::RunId;
use logbook::Summary;
use tokio::time::Instant;

use super::ActiveRun;

/// How long a run stays after its last use: late answers to its calls mostly arrive within this time.
const RETENTION: Duration = Duration::from_secs(60);

/// Maximum number of nodes of all these runs together: about two gigabytes, and their values.
const MAX_NODES: usize = 1_000_000;

/// Maximum number of these runs: they may have few nodes and large values.
const MAX_RUNS: usize = 64;

/// Minimum number of records of a run that is kept. A shorter one is replayed within milliseconds.
const MIN_RECORDS: u64 = 1_000;

/// Machines of runs that have ended or are suspended, each as its last record left it.
#[derive(Default)]
pub(crate) struct RecentRuns {
    runs: BTreeMap<RunId, (Instant, ActiveRun)>,
    /// The nodes of all of them.
    nodes: usize,
}

impl RecentRuns {
    /// Keeps a run that was just removed from memory.
    pub(crate) fn put(&mut self, run: RunId, active: ActiveRun) {
        self.remove(&run);
        if active.version.get() < MIN_RECORDS || active.machine.size() > MAX_NODES {
            return;
        }
        self.nodes += active.machine.size();
        self.runs.insert(run, (Instant::now(), active));
        while self.nodes > MAX_NODES || self.runs.len() > MAX_RUNS {
            let oldest = self.runs.iter().min_by_key(|(_, (used_at, _))| *used_at).map(|(run, _)| run.clone());
            oldest.map(|run| self.remove(&run));
        }
    }

    /// Whether a run is here.
    pub(crate) fn contains(&self, run: &RunId) -> bool {
        self.runs.contains_key(run)
    }

    /// Takes a run, unless another engine has added records to it since.
    pub(crate) fn take(&mut self, summary: &Summary) -> Option<ActiveRun> {
        let active = self.remove(&summary.run)?;
        (active.version == summary.version).then(|| ActiveRun { shard: summary.info.shard.clone(), ..active })
    }

    /// Drops a run, as when a new run has its id.
    pub(crate) fn remove(&mut self, run: &RunId) -> Option<ActiveRun> {
        let (_, active) = self.runs.remove(run)?;
        self.nodes -= active.machine.size();
        Some(active)
    }

    /// Drops the runs that were not used for a time.
    pub(crate) fn expire(&mut self) {
        let expired = self.runs.extract_if(.., |_, (used_at, _)| used_at.elapsed() >= RETENTION);
        self.nodes -= expired.map(|(_, (_, active))| active.machine.size()).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use flow::{Labels, RunState, Timestamp, Values};
    use logbook::{RunInfo, Version};
    use machine::Machine;

    use super::*;

    fn put(recent: &mut RecentRuns, run: &str, version: u64) {
        let draft = flow::file::parse("name = \"f\"\n[[task]]\nname = \"a\"\nwait = \"a person\"\nprovides = []\n");
        let (flow, _) = flow::wire(&draft.unwrap(), &BTreeMap::new(), &Values::new()).unwrap();
        let machine = Machine::new(run.parse().unwrap(), flow.into());
        let shard = "0".parse().unwrap();
        recent.put(run.parse().unwrap(), ActiveRun::new(machine, Version::new(version), Version::NONE, shard));
    }

    fn summary(run: &str, version: u64) -> Summary {
        let info = RunInfo { shard: "1".parse().unwrap(), flow: "f".parse().unwrap(), state: RunState::Suspended };
        let (started_at, changed_at) = (Timestamp::default(), Timestamp::default());
        let (labels, version) = (Labels::default(), Version::new(version));
        Summary { run: run.parse().unwrap(), info, labels, version, started_at, changed_at }
    }

    #[tokio::test]
    async fn a_run_with_newer_records_is_read_again() {
        let mut recent = RecentRuns::default();
        put(&mut recent, "changed", MIN_RECORDS);
        put(&mut recent, "same", MIN_RECORDS);
        put(&mut recent, "short", MIN_RECORDS - 1);
        assert!(!recent.contains(&"short".parse().unwrap()));
        assert!(recent.take(&summary("changed", MIN_RECORDS + 1)).is_none());
        let taken = recent.take(&summary("same", MIN_RECORDS)).expect("it is as it was");
        assert_eq!(taken.shard.as_str(), "1", "its shard may be another by now");
        assert_eq!((recent.runs.len(), recent.nodes), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_runs_are_bounded_and_expire() {
        let mut recent = RecentRuns::default();
        for number in 0..=MAX_RUNS {
            put(&mut recent, &format!("r{number}"), MIN_RECORDS);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(recent.runs.len(), MAX_RUNS);
        assert!(!recent.contains(&"r0".parse().unwrap()), "the oldest is dropped");
        put(&mut recent, "r1", MIN_RECORDS);
        assert_eq!(recent.nodes, MAX_RUNS * recent.runs.values().next().map_or(0, |(_, active)| active.machine.size()));
        tokio::time::advance(RETENTION).await;
        recent.expire();
        assert_eq!((recent.runs.len(), recent.nodes), (0, 0));
    }
}
