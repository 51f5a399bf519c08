//! Runs that were in memory until recently: a message that arrives late for a long run need not replay all its records.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use flow::RunId;
use logbook::Summary;
use tokio::time::Instant;

use super::ActiveRun;
use crate::loads::MAX_INLINE_BYTES;

/// How long a run stays after its last use: late answers to its calls mostly arrive within this time.
const RETENTION: Duration = Duration::from_secs(60);

/// Maximum number of nodes of all these runs together: about two gigabytes.
const MAX_NODES: usize = 1_000_000;

/// Maximum number of these runs.
const MAX_RUNS: usize = 64;

/// Maximum bytes of the values and texts of all these runs together.
const MAX_BYTES: u64 = 256 << 20;

/// Minimum number of records of a run that is kept, unless it has many bytes. A shorter one is replayed within milliseconds.
const MIN_RECORDS: u64 = 1_000;

/// Machines of runs that have ended or are suspended, each as its last record left it.
#[derive(Default)]
pub(crate) struct RecentRuns {
    runs: BTreeMap<RunId, RecentRun>,
    /// The nodes of all of them.
    nodes: usize,
    /// The bytes of all of them.
    bytes: u64,
}

/// A run that has ended or is suspended.
struct RecentRun {
    used_at: Instant,
    active: ActiveRun,
    bytes: u64,
}

impl RecentRuns {
    /// Keeps a run that was just removed from memory.
    pub(crate) fn put(&mut self, run: RunId, mut active: ActiveRun) {
        self.remove(&run);
        if active.machine.size() > MAX_NODES {
            return;
        }
        let counted = active.bytes.filter(|(version, _)| *version == active.version);
        let bytes = counted.map_or_else(|| active.machine.bytes(), |(_, bytes)| bytes);
        active.bytes = Some((active.version, bytes));
        let is_short = active.version.get() < MIN_RECORDS && bytes < MAX_INLINE_BYTES;
        if is_short || bytes > MAX_BYTES {
            return;
        }
        self.nodes += active.machine.size();
        self.bytes += bytes;
        self.runs.insert(run, RecentRun { used_at: Instant::now(), active, bytes });
        while self.nodes > MAX_NODES || self.bytes > MAX_BYTES || self.runs.len() > MAX_RUNS {
            let oldest = self.runs.iter().min_by_key(|(_, recent)| recent.used_at).map(|(run, _)| run.clone());
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
        let is_latest = active.version == summary.version;
        // Whatever it waited for was received since.
        let (outstanding_at_load, awaits_answers) = (BTreeSet::new(), false);
        let shard = summary.info.shard.clone();
        is_latest.then(|| ActiveRun { shard, outstanding_at_load, awaits_answers, ..active })
    }

    /// Drops a run, as when a new run has its id.
    pub(crate) fn remove(&mut self, run: &RunId) -> Option<ActiveRun> {
        let RecentRun { active, bytes, .. } = self.runs.remove(run)?;
        self.nodes -= active.machine.size();
        self.bytes -= bytes;
        Some(active)
    }

    /// Drops the runs that were not used for a time.
    pub(crate) fn expire(&mut self) {
        for (_, expired) in self.runs.extract_if(.., |_, recent| recent.used_at.elapsed() >= RETENTION) {
            self.nodes -= expired.active.machine.size();
            self.bytes -= expired.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flow::{Labels, RunState, Timestamp, Value, Values};
    use logbook::{RunInfo, Version};
    use machine::Machine;

    use super::*;

    fn put(recent: &mut RecentRuns, run: &str, version: u64) {
        put_large(recent, run, version, Arc::new([]));
    }

    /// Puts a run whose flow has this input.
    fn put_large(recent: &mut RecentRuns, run: &str, version: u64, input: Arc<[u8]>) {
        let draft = flow::file::parse("name = \"f\"\n[[task]]\nname = \"a\"\nwait = \"a person\"\nprovides = []\n");
        let (mut flow, _) = flow::wire(&draft.unwrap(), &BTreeMap::new(), &Values::new()).unwrap();
        flow.inputs.insert("large".parse().unwrap(), Value::Bytes(input));
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
        assert_eq!(recent.nodes, MAX_RUNS * recent.runs.values().next().map_or(0, |run| run.active.machine.size()));
        tokio::time::advance(RETENTION).await;
        recent.expire();
        assert_eq!((recent.runs.len(), recent.nodes, recent.bytes), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn their_bytes_count_and_large_runs_with_few_records_stay() {
        let mut recent = RecentRuns::default();
        let input: Arc<[u8]> = vec![0; 48 << 20].into();
        for number in 0..10 {
            put_large(&mut recent, &format!("r{number}"), 1, input.clone());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(recent.runs.len(), 5, "there is room for five of them");
        assert!(recent.contains(&"r9".parse().unwrap()) && recent.bytes <= MAX_BYTES);
    }
}
