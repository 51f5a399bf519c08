//! The records of a step in the logbook, and the snapshots that are due after them.

use std::collections::BTreeMap;

use flow::RunId;
use logbook::{Append, AppendError, AppendOutcome, Counted, MaxUnended, RunInfo, Version};
use machine::Record;
use protocol::AttemptLog;
use tokio::time::Instant;
use traces::RunTrace;
use tracing::error;

use super::{Driver, StepResult, measure::count_records, spans};
use crate::SubmitError;

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
        let (metrics, began_at, clock) = (metrics::global(), Instant::now(), RunTrace::clock());
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
                                spans::of_step(active, step, clock);
                            }
                            self.memo_trim.on_added(step.memos.remembered.len());
                            let published = self.publications.cursors.published(run);
                            self.publications.cursors.on_persisted(run, published);
                            self.count_unsaved(run, &step.records);
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

    /// Counts the records of a run that have become durable.
    fn count_unsaved(&mut self, run: &RunId, records: &[Record]) {
        let Some(active) = self.runs.get_mut(run) else { return };
        active.unsaved.add(records.iter().map(|record| record.bytes() as u64).fold(0, u64::saturating_add));
        self.snapshots.on_appended(run, active, records.len());
    }

    /// Begins to save the snapshots that are due, as far as there is room. At this time all machines are at the version of their records.
    pub(super) fn save_snapshots(&mut self) {
        while let Some(run) = self.snapshots.next_waiting() {
            let cursors = &self.publications.cursors;
            match self.runs.get_mut(&run) {
                Some(active) => {
                    self.snapshots.save(run.clone(), active, |version| cursors.is_published(&run, version));
                }
                None => self.snapshots.drop_due(&run),
            }
        }
    }
}
