//! JSON for programs in any language: notifications, and the lines of `waft run --json`.
//!
//! Values appear in a [`ValuesObject`]: JSON as the guests wrote it, with every digit. Bytes, and references to values in
//! the store, are separate from the JSON.

use std::{borrow::Cow, collections::BTreeMap};

use flow::{
    Failure, FailureKind, Firing, FlowName, Json, NodeKind, NodeName, NotificationOutcome, RunId, RunState, State,
    StoredReferences, TaskNotification, Timestamp, Values, ValuesObject,
};
use machine::{Machine, NodeChange};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::DecodeError;

#[derive(Serialize)]
struct RunLine<'a> {
    event: &'static str,
    state: &'static str,
    run: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inputs: Option<ValuesObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provides: Option<ValuesObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<BTreeMap<&'a str, FailureObject<'a>>>,
}

#[derive(Serialize)]
struct NodeLine<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow: Option<&'a str>,
    kind: &'static str,
    name: &'a str,
    state: &'static str,
    firing: u64,
    attempt: u32,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    provides: Option<ValuesObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_in: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

#[derive(Serialize)]
struct FiringLine {
    event: &'static str,
    firing: u64,
    state: &'static str,
    at: String,
}

#[derive(Serialize)]
struct TrimmedLine {
    event: &'static str,
    records: u64,
}

#[derive(Serialize)]
struct FailureObject<'a> {
    kind: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    apply: Option<Box<FailureObject<'a>>>,
}

/// The first line of a run's output.
#[must_use]
pub fn run_started(run: &RunId, flow: &FlowName, at: Timestamp) -> String {
    line(&RunLine {
        event: "run",
        state: RunState::Running.as_str(),
        run: run.as_str(),
        flow: Some(flow.as_str()),
        at: Some(rfc3339(at)),
        inputs: None,
        provides: None,
        failures: None,
    })
}

/// The line for a change of a node.
#[must_use]
pub fn node_changed(change: &NodeChange) -> String {
    let node = node_line(None, None, change);
    line(&NodeLine { state: word(change.kind.as_str(), node.state), ..node })
}

/// The state name for a retry controller's success: it decided to start its flow. Whether the flow succeeds shows on its tasks.
pub const STARTED: &str = "started";

/// The name of a node's state in lines for people and programs.
#[must_use]
pub fn word<'s>(kind: &str, state: &'s str) -> &'s str {
    if kind == NodeKind::Retry.as_str() && state == State::Success.as_str() { STARTED } else { state }
}

/// The state of a name that [`word`] returns.
#[must_use]
pub fn state_of(name: &str) -> Option<State> {
    if name == STARTED { Some(State::Success) } else { State::ALL.into_iter().find(|state| state.as_str() == name) }
}

/// The line for a firing that began or ended, in a run that fires more than once.
#[must_use]
pub fn firing_changed(firing: Firing, state: RunState, at: Timestamp) -> String {
    line(&FiringLine { event: "firing", firing: firing.get(), state: state.as_str(), at: rfc3339(at) })
}

/// The line that reports that the first `records` records of a run are trimmed, so their changes are not shown.
#[must_use]
pub fn trimmed(records: u64) -> String {
    line(&TrimmedLine { event: "trimmed", records })
}

/// The notification for a recorded change of a node: its line, with run and flow.
#[must_use]
pub fn notification(run: &RunId, flow: &FlowName, change: &NodeChange) -> String {
    line(&node_line(Some(run.as_str()), Some(flow.as_str()), change))
}

/// The part of a notification that an engine reads for runs that listen to its task.
#[derive(Deserialize)]
struct NotificationLine<'a> {
    #[serde(borrow)]
    run: Cow<'a, str>,
    #[serde(borrow)]
    flow: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    state: Cow<'a, str>,
    firing: u64,
    attempt: u32,
    #[serde(default)]
    provides: ValuesObject,
    #[serde(default, borrow)]
    failure: Option<NotificationFailure<'a>>,
    #[serde(default)]
    retry_in: Option<f64>,
}

#[derive(Deserialize)]
struct NotificationFailure<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(default, borrow)]
    details: Option<&'a RawValue>,
}

/// Parses a notification for the listeners of its task: the task succeeded, or failed permanently. `None` for a notification
/// about anything else.
///
/// # Errors
/// [`DecodeError`] for bytes that are not a notification.
pub fn parse_notification(body: &[u8]) -> Result<Option<TaskNotification>, DecodeError> {
    let damaged = |reason: String| DecodeError::Damaged { what: "notification", reason };
    let notification: NotificationLine<'_> =
        serde_json::from_slice(body).map_err(|error| damaged(error.to_string()))?;
    let outcome = match (&*notification.state, &notification.failure) {
        ("success", _) => {
            // An engine wrote the notification, so it may refer to the store.
            let provided =
                notification.provides.read(StoredReferences::Accept).map_err(|error| damaged(error.to_string()))?;
            NotificationOutcome::Success(provided)
        }
        ("failure", Some(failure)) if notification.retry_in.is_none() => {
            let name = NodeName::new(&notification.name).map_err(|error| damaged(error.to_string()))?;
            let kind = FailureKind::ALL.into_iter().find(|kind| kind.as_str() == failure.kind);
            let kind = kind.ok_or_else(|| damaged(format!("{:?} is no kind of failure", failure.kind)))?;
            let details = failure.details.map(|details| Json::parse(details.get())).transpose();
            let details = details.map_err(|error| damaged(error.to_string()))?;
            let failure = Failure { details, ..Failure::new(kind, failure.message.clone()) };
            NotificationOutcome::Failure(failure.as_value(&name))
        }
        _ => return Ok(None),
    };
    let NotificationLine { run, flow, name, state, firing, attempt, .. } = &notification;
    Ok(Some(TaskNotification {
        key: format!("{run}/{name}/{firing}/{attempt}/{state}"),
        flow: FlowName::new(flow).map_err(|error| damaged(error.to_string()))?,
        task: NodeName::new(name).map_err(|error| damaged(error.to_string()))?,
        outcome,
    }))
}

/// The inputs of a run and the values that its tasks provide, loaded as far as the store has them.
#[derive(Debug, Clone, Default)]
pub struct RunValues {
    /// The inputs of the run.
    pub inputs: Values,
    /// The provided values that are still in force.
    pub provided: Values,
}

/// The last line of a run: its values, and every failure of the last firing.
#[must_use]
pub fn run_ended(machine: &Machine, values: &RunValues) -> String {
    let failures = match machine.state() {
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
                let apply = machine.apply_failure(name).map(|apply| Box::new(failure_object(apply)));
                (name.as_str(), FailureObject { apply, ..failure_object(failure) })
            })
            .collect(),
    };
    line(&RunLine {
        event: "run",
        state: machine.state().as_str(),
        run: machine.run().as_str(),
        flow: None,
        at: None,
        inputs: Some((&values.inputs).into()),
        provides: Some((&values.provided).into()),
        failures: Some(failures),
    })
}

/// Formats a time as RFC 3339, in UTC and with microseconds.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    let micros = i64::try_from(at.as_micros()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| at.as_micros().to_string(), |at| format!("{at:.6}"))
}

fn node_line<'a>(run: Option<&'a str>, flow: Option<&'a str>, change: &'a NodeChange) -> NodeLine<'a> {
    NodeLine {
        event: "state",
        run,
        flow,
        kind: change.kind.as_str(),
        name: change.name.as_str(),
        state: change.state.as_str(),
        firing: change.firing.get(),
        attempt: change.attempt.get(),
        at: rfc3339(change.at),
        provides: change.provides.as_ref().map(ValuesObject::from),
        failure: change.failure.as_ref().map(failure_object),
        retry_in: change.retry_in.map(|delay| delay.as_secs_f64()),
        worker: change.worker.as_ref().map(flow::WorkerName::as_str),
        digest: change.digest.map(|digest| digest.to_string()),
    }
}

fn failure_object(failure: &Failure) -> FailureObject<'_> {
    FailureObject {
        kind: failure.kind.as_str(),
        message: &failure.message,
        details: failure.details.as_ref().map(|details| raw(details.as_str().into())),
        apply: None,
    }
}

fn raw(json: String) -> Box<RawValue> {
    RawValue::from_string(json).expect("values are checked to be JSON when they are created")
}

fn line(object: &impl Serialize) -> String {
    serde_json::to_string(object).expect("strings, numbers and checked JSON serialize")
}
