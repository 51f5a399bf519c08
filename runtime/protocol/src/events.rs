//! The events of a run, made from the machine's changes: the lines of `waft run --json`, and notifications.
//!
//! Values appear in a [`ValuesObject`]: JSON as the guests wrote it, with every digit. Bytes, and references to values in
//! the store, are separate from the JSON.

use std::collections::BTreeMap;

use api::{EventPayload, FiringEvent, NodeEvent, NodeState, RunEvent, TrimmedEvent, ValuesObject};
use flow::{
    CallId, Failure, FailureKind, FlowName, Json, NodeName, NotificationOutcome, RunId, RunState, StoredReferences,
    TaskNotification, Timestamp, Values,
};
use machine::{Change, Machine, NodeChange};

use crate::DecodeError;

/// The event of a run that has started, or continues.
#[must_use]
pub fn run_started(run: &RunId, flow: &FlowName, at: Timestamp) -> EventPayload {
    EventPayload::Run(Box::new(RunEvent {
        state: RunState::Running.into(),
        run: run.to_string(),
        flow: Some(flow.to_string()),
        labels: BTreeMap::new(),
        at: Some(rfc3339(at)),
        inputs: None,
        provides: None,
        failures: None,
    }))
}

/// The event of a change; `None` for a run that is suspended or has ended, whose event is [`run_ended`].
#[must_use]
pub fn of_change(run: &RunId, flow: &FlowName, change: &Change) -> Option<EventPayload> {
    match change {
        Change::Node(change) => Some(EventPayload::Node(Box::new(node_event(change)))),
        Change::Firing { firing, state, at } => {
            let event = FiringEvent { firing: firing.get(), state: (*state).into(), at: rfc3339(*at) };
            Some(EventPayload::Firing(event))
        }
        Change::Run { state: RunState::Running, at } => Some(run_started(run, flow, *at)),
        Change::Run { .. } => None,
    }
}

/// A change of a node.
#[must_use]
pub fn node_event(change: &NodeChange) -> NodeEvent {
    NodeEvent {
        run: None,
        flow: None,
        kind: change.kind.into(),
        name: change.name.to_string(),
        state: NodeState::of(change.kind, change.state),
        firing: change.firing.get(),
        attempt: change.attempt.get(),
        at: rfc3339(change.at),
        provides: change.provides.as_ref().map(ValuesObject::from),
        failure: change.failure.as_ref().map(api::Failure::from),
        retry_in: change.retry_in.map(|delay| delay.as_secs_f64()),
        worker: change.worker.as_ref().map(ToString::to_string),
        computed_by: change.computed_by.as_deref().map(computed_by),
        digest: change.digest.map(|digest| digest.to_string()),
    }
}

/// The call that computed a remembered result.
fn computed_by(call: &CallId) -> api::ComputedBy {
    let CallId { run, task, firing, attempt, action: _ } = call;
    api::ComputedBy { run: run.to_string(), task: task.to_string(), firing: firing.get(), attempt: attempt.get() }
}

/// The event that reports that the first `records` records of a run were deleted, so their changes are not shown.
#[must_use]
pub fn trimmed(records: u64) -> EventPayload {
    EventPayload::Trimmed(TrimmedEvent { records })
}

/// The inputs of a run and the values that its tasks provide, loaded as far as the store has them.
#[derive(Debug, Clone, Default)]
pub struct RunValues {
    /// The inputs of the run.
    pub inputs: Values,
    /// The provided values that are still in force.
    pub provided: Values,
}

/// The event of a run that was suspended or has ended: its values, and every failure of the last firing.
#[must_use]
pub fn run_ended(machine: &Machine, values: &RunValues) -> EventPayload {
    EventPayload::Run(Box::new(RunEvent {
        state: machine.state().into(),
        run: machine.run().to_string(),
        flow: None,
        labels: BTreeMap::new(),
        at: None,
        inputs: Some((&values.inputs).into()),
        provides: Some((&values.provided).into()),
        failures: Some(failures(machine)),
    }))
}

/// The failures of the last firing of a run, by node. A run in success has none.
#[must_use]
pub fn failures(machine: &Machine) -> BTreeMap<String, api::Failure> {
    match machine.state() {
        RunState::Success => BTreeMap::new(),
        RunState::Pending
        | RunState::Running
        | RunState::Failure
        | RunState::RolledBack
        | RunState::Suspending
        | RunState::Suspended => machine
            .failures()
            .iter()
            .map(|(name, failure)| {
                let apply = machine.apply_failure(name).map(|apply| Box::new(apply.into()));
                (name.to_string(), api::Failure { apply, ..failure.into() })
            })
            .collect(),
    }
}

/// The notification of a recorded change of a node: its event with run and flow, and with the state of the routing key.
#[must_use]
pub fn notification(run: &RunId, flow: &FlowName, change: &NodeChange) -> String {
    let (run, flow) = (Some(run.to_string()), Some(flow.to_string()));
    let event = NodeEvent { run, flow, state: change.state.into(), ..node_event(change) };
    EventPayload::Node(Box::new(event)).to_line()
}

/// The notification of a recorded change of a run, with the state of the routing key. It has neither values nor failures: the run may have
/// many, and a reader of its state needs none.
#[must_use]
pub fn run_notification(run: &RunId, flow: &FlowName, state: RunState, at: Timestamp) -> String {
    EventPayload::Run(Box::new(RunEvent {
        state: state.into(),
        run: run.to_string(),
        flow: Some(flow.to_string()),
        labels: BTreeMap::new(),
        at: Some(rfc3339(at)),
        inputs: None,
        provides: None,
        failures: None,
    }))
    .to_line()
}

/// Parses a notification for the listeners of its task: the task succeeded, or failed permanently. `None` for a notification
/// about anything else.
///
/// # Errors
/// [`DecodeError`] for bytes that are not a notification.
pub fn parse_notification(body: &[u8]) -> Result<Option<TaskNotification>, DecodeError> {
    let damaged = |reason: String| DecodeError::Damaged { what: "notification", reason };
    let event: NodeEvent = serde_json::from_slice(body).map_err(|error| damaged(error.to_string()))?;
    let NodeEvent {
        run: Some(run), flow: Some(flow), name, state, firing, attempt, provides, failure, retry_in, ..
    } = event
    else {
        return Err(damaged("it has no run or no flow".into()));
    };
    let task = NodeName::new(&name).map_err(|error| damaged(error.to_string()))?;
    let outcome = match (&state, &failure) {
        (NodeState::Success, _) => {
            // An engine wrote the notification, so it may refer to the store.
            let provided = provides.unwrap_or_default();
            let provided = provided.read(StoredReferences::Accept).map_err(|error| damaged(error.to_string()))?;
            NotificationOutcome::Success(provided)
        }
        (NodeState::Failure, Some(failure)) if retry_in.is_none() => {
            NotificationOutcome::Failure(read_failure(failure).map_err(damaged)?.as_value(&task))
        }
        _ => return Ok(None),
    };
    let flow = FlowName::new(flow).map_err(|error| damaged(error.to_string()))?;
    Ok(Some(TaskNotification { key: format!("{run}/{name}/{firing}/{attempt}/{state}"), flow, task, outcome }))
}

fn read_failure(failure: &api::Failure) -> Result<Failure, String> {
    let kind = FailureKind::ALL.into_iter().find(|kind| kind.as_str() == failure.kind.as_str());
    let kind = kind.ok_or_else(|| format!("{:?} is no kind of failure", failure.kind.as_str()))?;
    let details = failure.details.as_ref().map(|details| Json::parse(details.get())).transpose();
    let details = details.map_err(|error| error.to_string())?;
    Ok(Failure { details, ..Failure::new(kind, failure.message.clone()) })
}

/// Formats a time as RFC 3339, in UTC and with microseconds.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    let micros = i64::try_from(at.as_micros()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| at.as_micros().to_string(), |at| format!("{at:.6}"))
}
