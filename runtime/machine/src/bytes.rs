//! The bytes of records, commands and calls, approximately: steps and batches are bounded by them.

use flow::{Failure, Json, Outcome, Value, ValueName, Values};

use crate::{Call, Change, Command, Fact, FetchTarget, Record, RollbackCall};

/// The bytes of a record beside its values and failures.
const RECORD_OVERHEAD: usize = 64;

/// The bytes of an entry of a map or a list beside its name and its content.
const ENTRY_OVERHEAD: usize = 16;

/// The bytes of a command, and of each value in it, beside the content of the value.
const COMMAND_ENTRY_BYTES: usize = 128;

impl Record {
    /// The bytes that the record takes in the logbook and in memory, approximately: those of its values and failures, and a little for the
    /// rest. A flow does not count, since a run has one.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.fact.content_bytes() + RECORD_OVERHEAD
    }
}

impl Fact {
    /// The bytes of its values, lists and failures, approximately.
    pub(crate) fn content_bytes(&self) -> usize {
        match self {
            Self::Succeeded { provided, .. } | Self::Remembered { provided, .. } => values_bytes(provided),
            Self::LateOutcome { outcome, .. } => outcome.as_ref().map_or(0, outcome_bytes),
            Self::Triggered { values, .. } => values_bytes(values),
            Self::Failed { failure, .. } | Self::RollbackFailed { failure, .. } | Self::StartFailed { failure, .. } => {
                failure_bytes(failure)
            }
            Self::Expanded { list, .. } => elements_bytes(list),
            Self::ControllerRan { value, list, .. } => {
                value.as_ref().map_or(0, Value::written_size) + list.as_deref().map_or(0, elements_bytes)
            }
            Self::BackEdgeSkipped { reason, .. } | Self::RollbackSkipped { reason, .. } => reason.len(),
            Self::NotificationReceived { key, .. } => key.len(),
            Self::RunStarted { .. }
            | Self::Edited { .. }
            | Self::Started { .. }
            | Self::Leased { .. }
            | Self::Lost { .. }
            | Self::RolledBack { .. }
            | Self::RollbackNotNeeded { .. }
            | Self::RollbackRetried { .. }
            | Self::FailureResolved { .. }
            | Self::Ignored { .. }
            | Self::ScopeStarted { .. }
            | Self::Delayed { .. }
            | Self::Scheduled { .. }
            | Self::TriggerSkipped { .. }
            | Self::BacklogAdded { .. }
            | Self::BacklogFired { .. }
            | Self::ClockSet { .. }
            | Self::Expired
            | Self::Retrying { .. }
            | Self::Reset
            | Self::CancelRequested
            | Self::SuspendRequested
            | Self::Resumed
            | Self::RunStateChanged { .. } => 0,
        }
    }
}

impl Command {
    /// The bytes that the command takes in memory, approximately. It shares its values with the machine, but not their names.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let entries = match self {
            Self::Call(call) => {
                let provided = call.rollback.as_ref().and_then(|rollback| rollback.outcome.provided());
                1 + call.inputs.len() + provided.map_or(0, Values::len)
            }
            Self::Fetch(fetch) => match &fetch.target {
                FetchTarget::List { .. } => 1,
                FetchTarget::Results(results) => 1 + results.values().map(Vec::len).sum::<usize>(),
            },
            Self::Publish(Change::Node(change)) => 1 + change.provides.as_ref().map_or(0, Values::len),
            Self::Publish(Change::Run { .. } | Change::Firing { .. }) | Self::Interrupt(_) => 1,
        };
        entries * COMMAND_ENTRY_BYTES
    }
}

impl Call {
    /// The bytes of the call in a message, approximately.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of_rollback = |rollback: &RollbackCall| outcome_bytes(&rollback.outcome);
        values_bytes(&self.inputs) + self.rollback.as_ref().map_or(0, of_rollback)
    }
}

/// The bytes of values in a message or a record, approximately.
pub(crate) fn values_bytes<'a>(values: impl IntoIterator<Item = (&'a ValueName, &'a Value)>) -> usize {
    values.into_iter().map(|(name, value)| name.as_str().len() + value.written_size() + ENTRY_OVERHEAD).sum()
}

/// The bytes of an outcome in a message or a record, approximately.
pub(crate) fn outcome_bytes(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Provided(provided) => values_bytes(provided),
        Outcome::Failed(failure) => failure_bytes(failure),
        Outcome::Unknown => 0,
    }
}

/// The bytes of a failure in a message or a record, approximately.
pub(crate) fn failure_bytes(failure: &Failure) -> usize {
    failure.message.len() + failure.details.as_ref().map_or(0, |details| details.as_str().len())
}

/// The bytes of a list in a record, approximately.
pub(crate) fn elements_bytes(elements: &[Json]) -> usize {
    elements.iter().map(|element| element.as_str().len() + ENTRY_OVERHEAD).sum()
}
