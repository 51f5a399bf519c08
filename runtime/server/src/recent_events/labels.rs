//! The labels of the runs of recent events. They never change, so they are read once for all watchers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flow::{LabelCondition, Labels, RunId};
use logbook::{LoadError, Logbook};

/// The maximum number of runs whose labels are kept. Then all are read again.
const MAX_RUNS: usize = 4_096;

/// The labels of some runs.
#[derive(Default)]
pub(crate) struct LabelCache(Mutex<HashMap<RunId, Arc<Labels>>>);

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
        if let Some(labels) = self.lock().get(run) {
            return Ok(labels.clone());
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

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Arc<Labels>>> {
        // Each change is a single operation on the map.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
