//! What this engine counts: each record once, when it is durable here, and the state of the parts with each tick.
//!
//! A run that is read, adopted or taken over was counted by the engine that appended its records. So nothing is counted
//! where records are read.

use flow::FlowName;
use machine::{AttemptEnd, EndedAttempt, Fact, Record};
use metrics::{AttemptOutcome, Metrics, Retried, RollbackOutcome};

use super::{Driver, StepResult};

/// Counts the records of a step of a run of this flow, which are durable now.
pub(super) fn count_records(metrics: &Metrics, flow: &FlowName, step: &StepResult) {
    let attempts = step.ended_attempts.iter().map(|EndedAttempt { task, end }| (task, outcome_of(*end)));
    metrics.count_attempts(flow, attempts);
    step.schedule_delays.iter().for_each(|delay| metrics.observe_schedule_delay(*delay));
    step.records.iter().for_each(|record| count_record(metrics, flow, record));
}

fn outcome_of(end: AttemptEnd) -> AttemptOutcome {
    match end {
        AttemptEnd::Succeeded => AttemptOutcome::Success,
        AttemptEnd::Remembered => AttemptOutcome::Remembered,
        AttemptEnd::Failed => AttemptOutcome::Failure,
        AttemptEnd::Lost => AttemptOutcome::Lost,
    }
}

/// Counts what a record says besides the end of an attempt.
fn count_record(metrics: &Metrics, flow: &FlowName, record: &Record) {
    match &record.fact {
        Fact::Failed { retry_at, .. } if retry_at.is_some() => metrics.count_retry(Retried::Task),
        Fact::RolledBack { .. } => metrics.count_rollback(RollbackOutcome::Success),
        Fact::RollbackFailed { retry_at, .. } => {
            metrics.count_rollback(RollbackOutcome::Failure);
            if retry_at.is_some() {
                metrics.count_retry(Retried::Rollback);
            }
        }
        Fact::Retrying { .. } => metrics.count_retry(Retried::Flow),
        Fact::RunStateChanged { state } => match record.firing {
            Some(_) => metrics.count_firing(flow, *state),
            None => metrics.count_run(flow, *state),
        },
        Fact::RunStarted { .. }
        | Fact::Started { .. }
        | Fact::Succeeded { .. }
        | Fact::Remembered { .. }
        | Fact::Failed { .. }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use flow::{Attempt, Failure, FailureKind, Firing, NodeIndex, RunState, Timestamp};
    use machine::NodeAttempt;

    use super::*;

    /// The series that have another number than 0.
    fn counted(metrics: &Metrics) -> Vec<String> {
        let lines = metrics.render();
        let is_ours = |line: &&str| {
            ["waft_runs_", "waft_firings_", "waft_attempts_", "waft_re", "waft_ro", "waft_schedule_delay_seconds_sum"]
                .iter()
                .any(|start| line.starts_with(start))
        };
        lines.lines().filter(is_ours).filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect()
    }

    #[test]
    fn each_record_counts_once_and_the_end_of_a_firing_is_no_end_of_a_run() {
        let record = |firing, fact| Record { at: Timestamp::from_micros(1), firing, fact };
        let attempt = NodeAttempt { node: NodeIndex(1), firing: Firing::FIRST, attempt: Attempt::FIRST };
        let failure = Failure::new(FailureKind::Transient, "no");
        let failed = |retry_at| Fact::Failed {
            attempt,
            failure: failure.clone(),
            retry_at,
            execution: None,
            redelivered: false,
            worker: None,
        };
        let retry_at = Some(Timestamp::from_micros(2));
        let ended = |task: &str, end| EndedAttempt { task: task.parse().expect("a name"), end };
        let step = StepResult {
            records: vec![
                record(Some(Firing::FIRST), failed(retry_at)),
                record(Some(Firing::FIRST), failed(None)),
                record(
                    Some(Firing::FIRST),
                    Fact::RollbackFailed { attempt, failure: failure.clone(), retry_at, worker: None },
                ),
                record(Some(Firing::FIRST), Fact::RolledBack { attempt, worker: None }),
                record(Some(Firing::FIRST), Fact::Retrying { node: NodeIndex(0) }),
                record(Some(Firing::FIRST), Fact::RunStateChanged { state: RunState::RolledBack }),
                record(None, Fact::RunStateChanged { state: RunState::Success }),
            ],
            ended_attempts: vec![
                ended("t", AttemptEnd::Failed),
                ended("t", AttemptEnd::Failed),
                ended("t", AttemptEnd::Lost),
                ended("u", AttemptEnd::Remembered),
                ended("u", AttemptEnd::Succeeded),
            ],
            schedule_delays: vec![Duration::from_millis(1_500)],
            ..StepResult::default()
        };
        let metrics = Metrics::new("1");
        count_records(&metrics, &"f".parse().expect("a name"), &step);
        let expected = [
            "waft_runs_total{flow=\"f\",state=\"success\"} 1",
            "waft_firings_total{flow=\"f\",state=\"rolled-back\"} 1",
            "waft_attempts_total{flow=\"f\",task=\"t\",outcome=\"failure\"} 2",
            "waft_attempts_total{flow=\"f\",task=\"t\",outcome=\"lost\"} 1",
            "waft_attempts_total{flow=\"f\",task=\"u\",outcome=\"success\"} 1",
            "waft_attempts_total{flow=\"f\",task=\"u\",outcome=\"remembered\"} 1",
            "waft_retries_total{of=\"task\"} 1",
            "waft_retries_total{of=\"rollback\"} 1",
            "waft_retries_total{of=\"flow\"} 1",
            "waft_rollbacks_total{outcome=\"success\"} 1",
            "waft_rollbacks_total{outcome=\"failure\"} 1",
            "waft_schedule_delay_seconds_sum 1.5",
        ];
        assert_eq!(counted(&metrics), expected);
    }
}
