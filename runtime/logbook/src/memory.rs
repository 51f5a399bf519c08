//! A logbook that lasts as long as its process.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use flow::{Digest, Record, RunId, Shard, Snapshot, Timestamp};
use protocol::AttemptLog;

use crate::{
    Append, AppendError, Appended, Filter, History, LoadError, Logbook, Standing, Summary, Version, is_open,
    may_be_forgotten,
};

/// A logbook that lasts as long as its process.
#[derive(Debug, Default)]
pub struct Memory {
    runs: Mutex<BTreeMap<RunId, Kept>>,
}

#[derive(Debug)]
struct Kept {
    standing: Standing,
    records: Vec<Record>,
    snapshot: Option<(Version, Snapshot)>,
    logs: Vec<AttemptLog>,
    told: Version,
}

impl Memory {
    /// A logbook without runs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn runs(&self) -> MutexGuard<'_, BTreeMap<RunId, Kept>> {
        // A panic elsewhere cannot leave the map half written: each insertion is whole.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_run<T>(&self, run: &RunId, read: impl FnOnce(&Kept) -> T) -> Result<T, LoadError> {
        self.runs().get(run).map(read).ok_or_else(|| LoadError::Missing { run: run.clone() })
    }
}

impl Kept {
    fn summary(&self, run: &RunId) -> Summary {
        let at = |record: Option<&Record>| record.map_or(Timestamp::default(), |record| record.at);
        Summary {
            run: run.clone(),
            standing: self.standing.clone(),
            version: Version::NONE.after(&self.records),
            started_at: at(self.records.first()),
            changed_at: at(self.records.last()),
        }
    }
}

#[async_trait]
impl Logbook for Memory {
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<Appended>, AppendError> {
        let mut runs = self.runs();
        let append = |Append { run, follows, records, standing, logs, told }: Append| {
            let known = runs.get(&run).map_or(0, |kept| kept.records.len()) as u64;
            if follows.get() != known {
                return Appended::Conflict(Version::new(known));
            }
            match runs.get_mut(&run) {
                Some(kept) => {
                    kept.records.extend(records);
                    kept.standing = standing;
                    kept.logs.extend(logs);
                    kept.told = kept.told.max(told);
                }
                None => {
                    runs.insert(run, Kept { standing, records, snapshot: None, logs, told });
                }
            }
            Appended::Durable
        };
        Ok(appends.into_iter().map(append).collect())
    }

    async fn load(&self, run: &RunId) -> Result<History, LoadError> {
        self.read_run(run, |kept| {
            let known = kept.snapshot.as_ref().map_or(0, |(version, _)| version.get());
            History {
                run: run.clone(),
                standing: kept.standing.clone(),
                snapshot: kept.snapshot.clone(),
                records: kept.records.iter().skip(usize::try_from(known).unwrap_or(usize::MAX)).cloned().collect(),
                told: kept.told,
            }
        })
    }

    async fn read(&self, run: &RunId, after: Version, limit: usize) -> Result<Vec<Record>, LoadError> {
        let after = usize::try_from(after.get()).unwrap_or(usize::MAX);
        self.read_run(run, |kept| kept.records.iter().skip(after).take(limit).cloned().collect())
    }

    async fn summary(&self, run: &RunId) -> Result<Summary, LoadError> {
        self.read_run(run, |kept| kept.summary(run))
    }

    async fn open_runs(&self, shard: &Shard) -> Result<Vec<RunId>, LoadError> {
        let runs = self.runs();
        let open = runs.iter().filter(|(_, kept)| kept.standing.shard == *shard && is_open(kept.standing.state));
        let mut open: Vec<Summary> = open.map(|(run, kept)| kept.summary(run)).collect();
        open.sort_by(|one, other| (one.started_at, &one.run).cmp(&(other.started_at, &other.run)));
        Ok(open.into_iter().map(|summary| summary.run).collect())
    }

    async fn told(&self, told: &[(RunId, Version)]) -> Result<(), AppendError> {
        let mut runs = self.runs();
        for (run, version) in told {
            if let Some(kept) = runs.get_mut(run).filter(|kept| Version::NONE.after(&kept.records) >= *version) {
                kept.told = kept.told.max(*version);
            }
        }
        Ok(())
    }

    async fn untold(&self, shard: &Shard, limit: usize) -> Result<Vec<RunId>, LoadError> {
        let runs = self.runs();
        let is_untold = |kept: &Kept| {
            let Standing { shard: of, state, .. } = &kept.standing;
            of == shard && !is_open(*state) && kept.told < Version::NONE.after(&kept.records)
        };
        Ok(runs.iter().filter(|(_, kept)| is_untold(kept)).map(|(run, _)| run.clone()).take(limit).collect())
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Summary>, LoadError> {
        let mut all: Vec<Summary> = self.runs().iter().map(|(run, kept)| kept.summary(run)).collect();
        all.sort_by(|one, other| (other.started_at, &other.run).cmp(&(one.started_at, &one.run)));
        let passes = |summary: &Summary| {
            let Standing { flow, state, .. } = &summary.standing;
            filter.flow.as_ref().is_none_or(|wanted| wanted == flow)
                && (filter.states.is_empty() || filter.states.contains(state))
                && filter.since.is_none_or(|since| summary.started_at >= since)
                && filter.until.is_none_or(|until| summary.started_at < until)
                && filter.after.as_ref().is_none_or(|(at, run)| (summary.started_at, &summary.run) < (*at, run))
        };
        Ok(all.into_iter().filter(passes).take(filter.limit).collect())
    }

    async fn keep_snapshot(&self, run: &RunId, version: Version, snapshot: Snapshot) -> Result<(), AppendError> {
        if let Some(kept) = self.runs().get_mut(run)
            && kept.snapshot.as_ref().is_none_or(|(known, _)| *known < version)
        {
            kept.snapshot = Some((version, snapshot));
        }
        Ok(())
    }

    async fn logs(&self, run: &RunId) -> Result<Vec<AttemptLog>, LoadError> {
        self.read_run(run, |kept| kept.logs.clone())
    }

    async fn forget(&self, ended_before: Timestamp) -> Result<u64, AppendError> {
        let mut runs = self.runs();
        let known = runs.len();
        runs.retain(|run, kept| !may_be_forgotten(kept.standing.state) || kept.summary(run).changed_at >= ended_before);
        Ok((known - runs.len()) as u64)
    }

    async fn digests(&self) -> Result<BTreeSet<Digest>, LoadError> {
        Ok(self.runs().values().flat_map(|kept| &kept.records).flat_map(Record::digests).collect())
    }

    async fn check(&self) -> Result<(), AppendError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_keeps_the_contract() {
        crate::contract::all(|| async { Memory::new() }).await;
    }
}
