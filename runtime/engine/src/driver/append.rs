//! The records of a step in the logbook, and snapshots that replace old ones.

use std::collections::BTreeMap;

use flow::RunId;
use logbook::{Append, AppendError, AppendOutcome, Counted, MaxUnended, RunInfo, Version};
use protocol::AttemptLog;
use tokio::time::Instant;
use tracing::{error, warn};

use super::{Driver, StepResult, measure::count_records};
use crate::SubmitError;

/// Minimum number of records between two snapshots of a run.
const SNAPSHOT_INTERVAL: u64 = 1_000;

/// Minimum number of records between two snapshots, for each node and list element of the run. A snapshot holds all of
/// them, and the driver stands still while it is made: a list of a million elements ends before its first.
const SNAPSHOT_RECORDS_PER_NODE: u64 = 10;

/// Maximum delay of a snapshot, in snapshot intervals, while the records before the previous snapshot are
/// unpublished.
const MAX_SNAPSHOT_DELAY: u64 = 100;

impl Driver {
    /// Appends the records of every run at once; returns the runs for which the append failed, each with its error.
    pub(super) async fn append(
        &mut self,
        steps: &BTreeMap<RunId, StepResult>,
        logs: &mut BTreeMap<RunId, Vec<AttemptLog>>,
    ) -> BTreeMap<RunId, SubmitError> {
        let mut refused = BTreeMap::new();
        if steps.is_empty() {
            return refused;
        }
        let append = |(run, step): (&RunId, &StepResult)| {
            let active = self.runs.get(run)?;
            let flow = active.machine.flow().name.clone();
            // A run that goes on by itself, as to roll a late outcome back, is never refused.
            let may_be_refused = active.version == Version::NONE || step.is_retried;
            let max_unended = if may_be_refused { self.context.max_open_runs.of(&flow) } else { MaxUnended::default() };
            let info = RunInfo { shard: active.shard.clone(), flow, state: active.machine.state() };
            let (records, logs) = (step.records.clone(), logs.remove(run).unwrap_or_default());
            let published = self.publications.cursors.published(run);
            let (run, follows, memos) = (run.clone(), active.version, step.memos.clone());
            Some(Append { run, follows, records, info, logs, published, max_unended, memos })
        };
        let appends: Vec<Append> = steps.iter().filter_map(append).collect();
        let (metrics, began_at) = (metrics::global(), Instant::now());
        let appended = self.context.logbook.append(appends).await;
        metrics.observe_append(began_at.elapsed());
        match appended {
            Ok(outcomes) => {
                for ((run, step), outcome) in steps.iter().zip(outcomes) {
                    match outcome {
                        AppendOutcome::Durable => {
                            if let Some(active) = self.runs.get_mut(run) {
                                active.version = active.version.after(&step.records);
                                count_records(metrics, &active.machine.flow().name, step);
                            }
                            self.memo_trim.on_added(step.memos.remembered.len());
                            let published = self.publications.cursors.published(run);
                            self.publications.cursors.on_persisted(run, published);
                            self.snapshot(run).await;
                        }
                        AppendOutcome::Conflict(version) => {
                            refused.insert(run.clone(), SubmitError::Exists { run: run.clone() });
                            self.on_conflict(run, version);
                        }
                        AppendOutcome::TooManyUnended(counted) => {
                            refused.insert(run.clone(), self.too_many_open(run, counted));
                        }
                    }
                }
            }
            Err(AppendError::Unavailable { reason }) => {
                error!(error = reason, "the logbook was not written");
                let unavailable = || AppendError::Unavailable { reason: reason.clone() };
                refused.extend(steps.keys().map(|run| (run.clone(), SubmitError::Append(unavailable()))));
            }
        }
        refused
    }

    /// The error for a run that starts, or is retried, because too many of the counted runs have not ended.
    fn too_many_open(&self, run: &RunId, counted: Counted) -> SubmitError {
        let active = self.runs.get(run).expect("the records of a run come from its machine");
        let flow = active.machine.flow().name.clone();
        let MaxUnended { of_flow, of_namespace } = self.context.max_open_runs.of(&flow);
        let refused = match counted {
            Counted::OfFlow => of_flow.map(|allowed| SubmitError::TooManyOpen { flow, allowed }),
            Counted::OfNamespace => flow
                .namespace()
                .zip(of_namespace)
                .map(|(namespace, allowed)| SubmitError::TooManyOpenInNamespace { namespace, allowed }),
        };
        refused.expect("the logbook refuses a run only for a maximum")
    }

    /// Saves a snapshot of a run now and then, so that the cost of loading it depends on its size and not on its
    /// history. For a persistent run, the records before the previous snapshot are deleted, so that their number is
    /// bounded too.
    async fn snapshot(&mut self, run: &RunId) {
        let Some(active) = self.runs.get_mut(run) else { return };
        let since = active.version.get().saturating_sub(active.snapshot.get());
        let interval = SNAPSHOT_INTERVAL.max(SNAPSHOT_RECORDS_PER_NODE * active.machine.size() as u64);
        if since < interval || active.machine.state().is_final() {
            return;
        }
        let is_persistent = active.machine.flow().triggers.is_some();
        // Unpublished records must not be deleted. At a high rate the next snapshot waits for publishing: otherwise
        // no records would ever be deleted.
        if is_persistent
            && !self.publications.cursors.is_published(run, active.snapshot)
            && since < MAX_SNAPSHOT_DELAY * interval
        {
            return;
        }
        let (version, snapshot) = (active.version, active.machine.snapshot());
        let previous = std::mem::replace(&mut active.snapshot, version);
        if is_persistent
            && previous != Version::NONE
            && let Err(error) = self.context.logbook.trim(run, previous).await
        {
            warn!(%run, %error, "the oldest records of a run were not deleted");
        }
        if let Err(error) = self.context.logbook.save_snapshot(run, version, snapshot).await {
            warn!(%run, %error, "a snapshot was not saved: the run loads from an older one");
        }
    }
}
