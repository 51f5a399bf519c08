//! The attempts that a record ends, and how late it fires a schedule: for those who count.
//!
//! A step names them, since the machine may forget the list elements of a firing that ends, and an edit may move nodes. Replayed
//! records name none.

use std::time::Duration;

use super::{Machine, NextFiring};
use crate::{Fact, Record, Trigger};
use flow::{Action, CallId, FailureKind, Firing, NodeIndex, NodeName, Timestamp};

/// An attempt of a task that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedAttempt {
    /// The task; for a list element, the task of its list.
    pub task: NodeName,
    /// How it has ended.
    pub end: AttemptEnd,
}

/// How an attempt of a task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// It succeeded.
    Succeeded,
    /// It took a remembered result.
    Remembered,
    /// It failed. Another attempt may follow.
    Failed,
    /// Its worker was lost. Another attempt follows.
    Lost,
}

/// A call that has ended although no worker has answered it: it has expired, for example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnansweredCall {
    /// The call.
    pub call: CallId,
    /// Since when it was with the workers.
    pub since: Timestamp,
    /// The kind of its failure.
    pub kind: FailureKind,
}

impl Machine {
    /// The attempt that a record ends; ask before the record is applied. `None` for a rollback, and for a node that is no task and
    /// no list element.
    pub(super) fn ended_attempt(&self, record: &Record) -> Option<EndedAttempt> {
        let (node, end) = attempt_end(&record.fact)?;
        let firing = self.firings.get(&record.firing.unwrap_or(Firing::FIRST))?;
        let task = firing.has_node(node).then(|| firing.attempted_task(node)).flatten()?;
        Some(EndedAttempt { task: task.clone(), end })
    }

    /// The call that a record ends although no worker has answered it; ask before the record is applied.
    pub(super) fn unanswered_call(&self, record: &Record) -> Option<UnansweredCall> {
        let Fact::Failed { attempt, failure, execution: None, .. } = &record.fact else { return None };
        let firing = self.firings.get(&record.firing.unwrap_or(Firing::FIRST))?;
        let (call, since) = firing.outstanding_call_of(attempt.node)?;
        Some(UnansweredCall { call, since, kind: failure.kind })
    }

    /// How late a record fires a schedule; ask before the record is applied. `None` for a time from the backlog.
    pub(super) fn schedule_delay(&self, record: &Record) -> Option<Duration> {
        let Fact::Triggered { by: Trigger::Schedule(number), .. } = &record.fact else { return None };
        match self.triggers.as_ref()?.schedules.get(*number as usize)? {
            // While a time of the backlog fires, the next time has not come.
            NextFiring::At(at) => (*at <= record.at).then(|| record.at.since(*at)),
            NextFiring::Unknown | NextFiring::Never => None,
        }
    }
}

fn attempt_end(fact: &Fact) -> Option<(NodeIndex, AttemptEnd)> {
    match fact {
        Fact::Succeeded { attempt, .. } => Some((attempt.node, AttemptEnd::Succeeded)),
        Fact::Remembered { attempt, .. } => Some((attempt.node, AttemptEnd::Remembered)),
        Fact::Failed { attempt, .. } => Some((attempt.node, AttemptEnd::Failed)),
        Fact::Lost { attempt, action: Action::Apply, .. } => Some((attempt.node, AttemptEnd::Lost)),
        Fact::RunStarted { .. }
        | Fact::Started { .. }
        | Fact::Leased { .. }
        | Fact::Lost { action: Action::Rollback, .. }
        | Fact::LateOutcome { .. }
        | Fact::RolledBack { .. }
        | Fact::RollbackFailed { .. }
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
        | Fact::Retrying { .. }
        | Fact::RollbackRetried { .. }
        | Fact::RollbackSkipped { .. }
        | Fact::Reset
        | Fact::CancelRequested
        | Fact::SuspendRequested
        | Fact::Resumed
        | Fact::RunStateChanged { .. } => None,
    }
}
