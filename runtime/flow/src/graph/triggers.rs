//! The triggers of a flow that fires more than once: back edges, schedules, and notifications of other flows.

use std::collections::BTreeSet;

use super::{Link, NodeIndex};
use crate::{Cron, FlowName, NodeName, NotificationOutcome, SourceOutcome, TaskNotification, ValueName, Values};

/// The triggers of a flow that fires more than once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triggers {
    /// Whether a run stays open until it is asked to end; otherwise it ends once nothing fires any more.
    pub persistent: bool,
    /// The maximum number of firings.
    pub max_firings: Option<u64>,
    /// The maximum number of parallel firings; further ones wait for their turn.
    pub max_parallel: u32,
    /// The nodes that start only when notified: they and their successors are not part of the first firing.
    pub entries: BTreeSet<NodeIndex>,
    /// Links that trigger a new firing of their target.
    pub back_edges: Vec<BackEdge>,
    /// The schedules of the flow.
    pub schedules: Vec<Schedule>,
}

/// A link that does not order one firing, but triggers another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackEdge {
    /// The source, the condition, and the sources of the values that the condition reads.
    pub link: Link,
    /// The target.
    pub to: NodeIndex,
    /// The time at which it fires.
    pub timing: BackEdgeTiming,
}

/// The time at which a back edge fires its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackEdgeTiming {
    /// Once the firing has ended in success: the link closes a cycle.
    End,
    /// As soon as its source has succeeded: its target fires for each source.
    Success,
}

/// The schedule of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The firing times.
    pub cron: Cron,
    /// The task that fires.
    pub to: NodeIndex,
    /// The policy for a time at which an earlier firing of the schedule is still under way.
    pub overlap: OverlapPolicy,
    /// The policy for missed times.
    pub missed: MissedPolicy,
}

/// The policy for a scheduled time at which an earlier firing is still under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverlapPolicy {
    /// The time is skipped.
    #[default]
    Skip,
    /// The firing waits until the earlier one has ended.
    Queue,
    /// The firing runs in parallel.
    Allow,
}

/// The policy for scheduled times at which no engine drove the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissedPolicy {
    /// They fire once, all together.
    #[default]
    Once,
    /// They are skipped.
    Skip,
    /// Each fires, one after the other.
    All,
}

/// A task of another flow whose notifications this flow receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The other flow.
    pub flow: FlowName,
    /// Its task.
    pub task: NodeName,
    /// The outcome of the task to listen to.
    pub on: SourceOutcome,
    /// The node that the notifications fire, or complete.
    pub to: NodeIndex,
}

impl Listener {
    /// Whether it listens to this notification of a task in another flow.
    #[must_use]
    pub fn is_for(&self, notification: &TaskNotification) -> bool {
        let matches_outcome = match notification.outcome {
            NotificationOutcome::Success(_) => self.on != SourceOutcome::Failure,
            NotificationOutcome::Failure(_) => self.on != SourceOutcome::Success,
        };
        matches_outcome && (&self.flow, &self.task) == (&notification.flow, &notification.task)
    }
}

impl TaskNotification {
    /// The values of the notification: those that the task provided, or its failure.
    #[must_use]
    pub fn values(&self) -> Values {
        match &self.outcome {
            NotificationOutcome::Success(values) => values.clone(),
            NotificationOutcome::Failure(failure) => {
                let name = ValueName::new("failure").expect("it is a valid name");
                Values::from([(name, failure.clone())])
            }
        }
    }
}
