//! The bytes that a run holds: the values that its nodes have provided, their failures and their lists. The sum is known at any time, and has
//! a maximum: an engine has a run in memory, and each snapshot writes all of it.
//!
//! Decisions keep to the maximum. Records never do: those of an earlier waft, which had another maximum or none, are applied as they are.

use crate::{Event, Fact, NodeAttempt, Record, bytes::values_bytes};
use flow::{Execution, Failure, FailureKind, Firing, NodeIndex, Outcome, Size, Values};

use super::{Machine, firing::held::failures_bytes};

/// The maximum that the nodes of a run may hold together if it fires more than once, in bytes: half of what a snapshot may have to be read
/// again, since snapshots replace the old records of such a run. Of a value in the store, only the reference counts. Small in tests, so that
/// they reach it.
pub(super) const MAX_HELD_BYTES: u64 = if cfg!(test) { 4 << 20 } else { 128 << 20 };

/// The maximum for a run that fires once, which keeps all its records: as many bytes as the results of a list may have by default.
pub(super) const MAX_HELD_BYTES_ONCE: u64 = if cfg!(test) { MAX_HELD_BYTES } else { 256 << 20 };

/// The maximum number of characters in the message of a failure for which there is no room: some failures have to be held in any case.
const MAX_SHORT_MESSAGE: usize = 100;

/// The bytes of a node in a snapshot beside its values, approximately.
const NODE_BYTES: u64 = 48;

impl Machine {
    /// The bytes of the values, failures and lists that the nodes of all firings hold, and of the values and failures of their last firings,
    /// approximately. A value counts for each node that holds it, as a snapshot writes it. It is known without looking at them.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        let latest = self.triggers.as_ref().map_or(0, |trigger_state| trigger_state.latest_values.bytes());
        self.firings.held_bytes().saturating_add(latest).saturating_add(self.failed_bytes)
    }

    /// The maximum of [`Machine::held_bytes`] for new decisions.
    fn max_held_bytes(&self) -> u64 {
        if self.triggers.is_some() { MAX_HELD_BYTES } else { MAX_HELD_BYTES_ONCE }
    }

    /// The bytes of a snapshot of the machine, approximately. It looks at each firing, and not at the values of nodes.
    #[must_use]
    pub fn snapshot_bytes(&self) -> u64 {
        let text = self.flow.origin.as_ref().map_or(0, |origin| origin.text.len() as u64);
        let nodes = NODE_BYTES.saturating_mul(self.size() as u64);
        let parts = [text, values_bytes(&self.flow.inputs) as u64, nodes, self.begin_bytes(), self.held_bytes()];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// Counts the failures of ended firings, after they have changed.
    pub(super) fn count_failed(&mut self) {
        self.failed_bytes = self.triggers.as_ref().map_or(0, |trigger_state| failures_bytes(&trigger_state.failures));
    }

    /// Says to people why the run has no room for values that a person or a program sends to a task, if so. Other work of the run may make
    /// room for them.
    pub(super) fn no_room_for(&self, values: &Values) -> Option<String> {
        let (asked, held) = (values_bytes(values) as u64, self.held_bytes());
        let has_room = held.saturating_add(asked) <= self.max_held_bytes();
        (!has_room).then(|| format!("{}: try again later", self.excess("the values of the notification", asked, held)))
    }

    /// Replaces decisions whose values the run has no room for, in their order: what would provide them fails for good, and a failure gets
    /// shorter.
    pub(super) fn within_maximum(&self, event: &Event, records: Vec<Record>) -> Vec<Record> {
        let (mut held, max) = (self.held_bytes(), self.max_held_bytes());
        let bound = |record: Record| {
            let added = record.fact.content_bytes() as u64;
            let record = match held.saturating_add(added) > max && added > 0 {
                true => self.without_values(event, record, held),
                false => record,
            };
            held = held.saturating_add(record.fact.content_bytes() as u64);
            record
        };
        records.into_iter().map(bound).collect()
    }

    /// The same decision without its values.
    fn without_values(&self, event: &Event, Record { at, firing, fact }: Record, held: u64) -> Record {
        let asked = fact.content_bytes() as u64;
        let failed = |subject: &str| Failure::new(FailureKind::OutputLimit, self.excess(subject, asked, held));
        let fact = match fact {
            Fact::Succeeded { attempt, provided: _, execution, worker } => {
                let redelivered = matches!(event, Event::Signal(signal) if signal.redelivered);
                // No worker executes a task that waits or joins results.
                let execution = Some(execution).filter(|execution| *execution != Execution::new(0));
                let (failure, retry_at) = (failed("its values"), None);
                Fact::Failed { attempt, failure, retry_at, execution, redelivered, worker }
            }
            Fact::Remembered { attempt, provided: _, computed_by: _ } => not_executed(attempt, failed("its values")),
            Fact::Expanded { node, list } => match self.attempt_of(firing, node) {
                Some(attempt) => not_executed(attempt, failed("the elements of its list")),
                None => Fact::Expanded { node, list },
            },
            Fact::ControllerRan { node, attempt, value: _, list: _ } => {
                Fact::StartFailed { node, attempt, failure: failed("the values that it tries") }
            }
            // It has happened, and can be rolled back without its values.
            Fact::LateOutcome { attempt, action, execution, outcome, worker } => {
                let outcome = outcome.map(|outcome| match outcome {
                    Outcome::Provided(_) | Outcome::Unknown => Outcome::Unknown,
                    Outcome::Failed(failure) => Outcome::Failed(shortened(failure)),
                });
                Fact::LateOutcome { attempt, action, execution, outcome, worker }
            }
            Fact::Failed { attempt, failure, retry_at, execution, redelivered, worker } => {
                Fact::Failed { attempt, failure: shortened(failure), retry_at, execution, redelivered, worker }
            }
            Fact::RollbackFailed { attempt, failure, retry_at, worker } => {
                Fact::RollbackFailed { attempt, failure: shortened(failure), retry_at, worker }
            }
            Fact::StartFailed { node, attempt, failure } => {
                Fact::StartFailed { node, attempt, failure: shortened(failure) }
            }
            // No node holds what these have. What firings begin with has a maximum of its own.
            fact @ (Fact::RunStarted { .. }
            | Fact::Edited { .. }
            | Fact::Started { .. }
            | Fact::Leased { .. }
            | Fact::Lost { .. }
            | Fact::RolledBack { .. }
            | Fact::RollbackNotNeeded { .. }
            | Fact::RollbackRetried { .. }
            | Fact::RollbackSkipped { .. }
            | Fact::FailureResolved { .. }
            | Fact::Ignored { .. }
            | Fact::ScopeStarted { .. }
            | Fact::Delayed { .. }
            | Fact::Triggered { .. }
            | Fact::BackEdgeSkipped { .. }
            | Fact::Scheduled { .. }
            | Fact::TriggerSkipped { .. }
            | Fact::BacklogAdded { .. }
            | Fact::BacklogFired { .. }
            | Fact::ClockSet { .. }
            | Fact::NotificationReceived { .. }
            | Fact::Expired
            | Fact::Retrying { .. }
            | Fact::Reset
            | Fact::CancelRequested
            | Fact::SuspendRequested
            | Fact::Resumed
            | Fact::RunStateChanged { .. }) => fact,
        };
        Record { at, firing, fact }
    }

    /// Says to people that so many bytes do not fit.
    fn excess(&self, subject: &str, asked: u64, held: u64) -> String {
        let (asked, held, most) = (Size(asked), Size(held), Size(self.max_held_bytes()));
        format!("{subject} have {asked:#}, the run holds {held:#} of values already, and may hold {most:#} together")
    }

    /// The current attempt of a node.
    fn attempt_of(&self, number: Option<Firing>, node: NodeIndex) -> Option<NodeAttempt> {
        let run = self.firings.get(&number.unwrap_or(Firing::FIRST))?.nodes.get(node.0 as usize)?;
        Some(NodeAttempt { node, firing: run.firing, attempt: run.attempt() })
    }
}

/// The permanent failure of an attempt that no worker has executed.
fn not_executed(attempt: NodeAttempt, failure: Failure) -> Fact {
    Fact::Failed { attempt, failure, retry_at: None, execution: None, redelivered: false, worker: None }
}

/// A failure without its details, and with the beginning of its message.
fn shortened(failure: Failure) -> Failure {
    let message = failure.message.chars().take(MAX_SHORT_MESSAGE).collect();
    Failure { message, details: None, ..failure }
}
