//! Tells a run from a later one with the same id: an ended run may be deleted, and its id used again, perhaps in another
//! namespace.

use flow::{FlowName, RunId, Timestamp};
use logbook::{LoadError, Logbook, Summary};

/// A run, and no later one with its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Incarnation {
    run: RunId,
    flow: FlowName,
    started_at: Timestamp,
}

impl Incarnation {
    pub(crate) fn of(summary: &Summary) -> Self {
        Self { run: summary.run.clone(), flow: summary.info.flow.clone(), started_at: summary.started_at }
    }

    pub(crate) fn run(&self) -> &RunId {
        &self.run
    }

    pub(crate) fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// Reads the summary of the run. What was read of the run before this call is of this run.
    ///
    /// # Errors
    /// [`LoadError::Missing`] when the run was deleted, also if there is another one with its id now.
    pub(crate) async fn summary(&self, logbook: &dyn Logbook) -> Result<Summary, LoadError> {
        let summary = logbook.summary(&self.run).await?;
        if Self::of(&summary) == *self { Ok(summary) } else { Err(LoadError::Missing { run: self.run.clone() }) }
    }
}
