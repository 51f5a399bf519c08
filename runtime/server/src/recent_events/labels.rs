//! The labels of the runs of recent events. They never change, so they are read once for all watchers.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flow::{LabelCondition, Labels, RunId};
use logbook::{LoadError, Logbook};

/// The maximum number of runs whose labels are kept. Then all are read again.
const MAX_RUNS: usize = 4_096;

/// The maximum number of concurrent reads.
const MAX_READS: usize = 16;

/// The labels of some runs.
#[derive(Default)]
pub(crate) struct LabelCache {
    known: Mutex<HashMap<RunId, Arc<Labels>>>,
    /// An event wakes all watchers, and the labels of its run are read once: each run has one of these locks.
    reading: [tokio::sync::Mutex<()>; MAX_READS],
    hasher: RandomState,
}

impl LabelCache {
    /// Whether a run has all these labels.
    ///
    /// # Errors
    /// [`LoadError`] when its labels cannot be read.
    pub(crate) async fn has_all(
        &self,
        conditions: &[LabelCondition],
        run: &RunId,
        logbook: &dyn Logbook,
    ) -> Result<bool, LoadError> {
        if conditions.is_empty() {
            return Ok(true);
        }
        let labels = self.of_run(run, logbook).await?;
        Ok(conditions.iter().all(|condition| condition.holds_for(&labels)))
    }

    /// The labels of a run; none for one that was deleted, or whose records nobody can read: waiting would not help.
    ///
    /// # Errors
    /// [`LoadError`] when they cannot be read.
    async fn of_run(&self, run: &RunId, logbook: &dyn Logbook) -> Result<Arc<Labels>, LoadError> {
        if let Some(labels) = self.known(run) {
            return Ok(labels);
        }
        let _reading = self.reading_lock(run).lock().await;
        // Another watcher may have read them meanwhile.
        if let Some(labels) = self.known(run) {
            return Ok(labels);
        }
        let labels = match logbook.summary(run).await {
            Ok(summary) => Arc::new(summary.labels),
            Err(LoadError::Missing { .. } | LoadError::Damaged { .. }) => return Ok(Arc::default()),
            Err(error @ LoadError::Unavailable { .. }) => return Err(error),
        };
        let mut known = self.lock();
        if known.len() >= MAX_RUNS {
            known.clear();
        }
        known.insert(run.clone(), labels.clone());
        Ok(labels)
    }

    /// Forgets the labels of a run whose id another run may have now.
    pub(crate) fn forget(&self, run: &RunId) {
        self.lock().remove(run);
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn known(&self, run: &RunId) -> Option<Arc<Labels>> {
        self.lock().get(run).cloned()
    }

    fn reading_lock(&self, run: &RunId) -> &tokio::sync::Mutex<()> {
        let places = u64::try_from(MAX_READS).expect("it is a small number");
        let place = usize::try_from(self.hasher.hash_one(run) % places).expect("it is a smaller number");
        &self.reading[place]
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Arc<Labels>>> {
        // Each change is a single operation on the map.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use flow::{RunState, Shard, Timestamp, Values};
    use logbook::{
        Append, AppendError, MaxUnended, MemoChanges, RunInfo, Version,
        intercepted::{AppendInterceptor, InterceptedLogbook},
    };
    use machine::{Event, Machine};

    use super::*;

    /// Counts reads, and lets others run meanwhile.
    #[derive(Default)]
    struct CountsReads(AtomicUsize);

    #[async_trait::async_trait]
    impl AppendInterceptor for CountsReads {
        async fn before(&self, _appends: &[Append]) -> Result<(), AppendError> {
            Ok(())
        }

        async fn after(&self) -> Result<(), AppendError> {
            Ok(())
        }

        async fn before_load(&self) -> Result<(), LoadError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_labels_of_a_run_are_read_once_for_all_watchers() {
        let (memory, run): (_, RunId) = (logbook::Memory::new(), "r".parse().unwrap());
        let draft = flow::file::parse("name = \"f\"\n[[task]]\nname = \"w\"\nwait = \"a word\"\n").unwrap();
        let (wired, _) = flow::wire(&draft, &BTreeMap::new(), &Values::new()).unwrap();
        let mut machine = Machine::new(run.clone(), Arc::new(wired));
        let append = Append {
            run: run.clone(),
            follows: Version::NONE,
            records: machine.step(Timestamp::from_micros(1), &Event::Start).records,
            info: RunInfo { shard: Shard::new("s").unwrap(), flow: "f".parse().unwrap(), state: RunState::Running },
            logs: Vec::new(),
            published: Version::NONE,
            max_unended: MaxUnended::default(),
            memos: MemoChanges::default(),
        };
        memory.append(vec![append]).await.unwrap();
        let counts = Arc::new(CountsReads::default());
        let logbook = InterceptedLogbook::new(Arc::new(memory), counts.clone());
        let (cache, conditions) = (LabelCache::default(), ["team=shop".parse::<LabelCondition>().unwrap()]);
        let watchers = (0..200).map(|_| cache.has_all(&conditions, &run, &logbook));
        let answers = futures::future::join_all(watchers).await;
        assert!(answers.iter().all(|answer| matches!(answer, Ok(false))));
        assert_eq!(counts.0.load(Ordering::Relaxed), 1);
        cache.forget(&run);
        assert!(!cache.has_all(&conditions, &run, &logbook).await.unwrap(), "they are read again");
        assert_eq!(counts.0.load(Ordering::Relaxed), 2);
    }
}
