//! What this engine counts: each record once, when it is durable here, and the state of the parts with each tick.
//!
//! A run that is read, adopted or taken over was counted by the engine that appended its records. So nothing is counted
//! where records are read.

use flow::Action;
use machine::{Fact, Record, Trigger};
use metrics::{AttemptOutcome, Metrics, Retried, RollbackOutcome};

use super::{Driver, StepResult};
use crate::runs::ActiveRun;

/// Counts the records of a step, which are durable now.
pub(super) fn count_records(metrics: &Metrics, active: &ActiveRun, step: &StepResult) {
    for record in &step.records {
        count_record(metrics, active, record);
        if let Fact::Triggered { by: Trigger::Schedule(number), .. } = &record.fact
            && let Some((_, at)) = step.due_schedules.iter().find(|(due, _)| due == number)
        {
            metrics.observe_schedule_delay(record.at.since(*at));
        }
    }
}

fn count_record(metrics: &Metrics, active: &ActiveRun, record: &Record) {
    let ended = |node, outcome| {
        if let Some(task) = active.machine.attempted_task(record.firing, node) {
            metrics.count_attempt(&active.machine.flow().name, task, outcome);
        }
    };
    match &record.fact {
        Fact::Succeeded { attempt, .. } => ended(attempt.node, AttemptOutcome::Success),
        Fact::Remembered { attempt, .. } => ended(attempt.node, AttemptOutcome::Remembered),
        Fact::Lost { attempt, action: Action::Apply, .. } => ended(attempt.node, AttemptOutcome::Lost),
        Fact::Failed { attempt, retry_at, .. } => {
            ended(attempt.node, AttemptOutcome::Failure);
            if retry_at.is_some() {
                metrics.count_retry(Retried::Task);
            }
        }
        Fact::RolledBack { .. } => metrics.count_rollback(RollbackOutcome::Success),
        Fact::RollbackFailed { retry_at, .. } => {
            metrics.count_rollback(RollbackOutcome::Failure);
            if retry_at.is_some() {
                metrics.count_retry(Retried::Rollback);
            }
        }
        Fact::Retrying { .. } => metrics.count_retry(Retried::Flow),
        Fact::RunStateChanged { state } => metrics.count_run(&active.machine.flow().name, *state),
        Fact::RunStarted { .. }
        | Fact::Started { .. }
        | Fact::Leased { .. }
        | Fact::Lost { .. }
        | Fact::LateOutcome { .. }
        | Fact::Expanded { .. }
        | Fact::RollbackNotNeeded { .. }
        | Fact::FailureResolved { .. }
        | Fact::ControllerRan { .. }
        | Fact::StartFailed { .. }
        | Fact::Ignored { .. }
        | Fact::Delayed { .. }
        | Fact::Edited { .. }
        | Fact::Triggered { .. }
        | Fact::BackEdgeSkipped { .. }
        | Fact::Scheduled { .. }
        | Fact::TriggerSkipped { .. }
        | Fact::BacklogAdded { .. }
        | Fact::BacklogFired { .. }
        | Fact::ClockSet { .. }
        | Fact::NotificationReceived { .. }
        | Fact::Expired
        | Fact::ScopeStarted { .. }
        | Fact::RollbackRetried { .. }
        | Fact::RollbackSkipped { .. }
        | Fact::Reset
        | Fact::CancelRequested
        | Fact::SuspendRequested
        | Fact::Resumed => {}
    }
}

impl Driver {
    /// Shows the state of the parts in the metrics.
    pub(super) fn show_state(&self) {
        let metrics = metrics::global();
        metrics.set_open_runs(self.runs.count_open());
        let (held, awaited) = self.permits.count();
        metrics.set_permits(held, awaited);
        metrics.set_leases(self.leases.count());
        metrics.set_shards(self.shards.known().map(|shard| (shard.clone(), self.shards.owns(shard))));
    }
}
