//! Parses a line of `waft run --json`, as servers send it.

use std::time::Duration;

use flow::{Attempt, Failure, FailureKind, Firing, NodeKind, RunState, Timestamp};
use machine::{Change, NodeChange};
use serde::Deserialize;

/// The fields that every line has.
#[derive(Deserialize)]
struct Kind {
    event: String,
}

#[derive(Deserialize)]
struct FiringLine {
    firing: u64,
    state: String,
}

#[derive(Deserialize)]
struct Line {
    kind: String,
    name: String,
    state: String,
    firing: u64,
    attempt: u32,
    #[serde(default)]
    failure: Option<LineFailure>,
    #[serde(default)]
    retry_in: Option<f64>,
    #[serde(default)]
    worker: Option<String>,
}

#[derive(Deserialize)]
struct LineFailure {
    kind: String,
    message: String,
}

/// The change of a node or of a firing in a line, with the displayed fields only; `None` for other lines.
pub(crate) fn change_of(line: &str) -> Option<Change> {
    let Kind { event } = serde_json::from_str(line).ok()?;
    match event.as_str() {
        "state" => node(line).map(Change::Node),
        "firing" => firing(line),
        _ => None,
    }
}

fn firing(line: &str) -> Option<Change> {
    let FiringLine { firing, state } = serde_json::from_str(line).ok()?;
    let state = RunState::ALL.into_iter().find(|known| known.as_str() == state)?;
    // The time is not displayed.
    Some(Change::Firing { firing: Firing::new(firing), state, at: Timestamp::default() })
}

fn node(line: &str) -> Option<NodeChange> {
    let line: Line = serde_json::from_str(line).ok()?;
    let failure = line.failure.map(|failure| {
        let kind = FailureKind::ALL.into_iter().find(|kind| kind.as_str() == failure.kind);
        // A newer server may send more kinds.
        Failure::new(kind.unwrap_or(FailureKind::Permanent), failure.message)
    });
    Some(NodeChange {
        kind: [NodeKind::Task, NodeKind::Retry].into_iter().find(|kind| kind.as_str() == line.kind)?,
        name: line.name.parse().ok()?,
        state: protocol::json::state_of(&line.state)?,
        firing: Firing::new(line.firing),
        attempt: Attempt::new(line.attempt),
        // Neither is displayed.
        at: Timestamp::default(),
        provides: None,
        failure,
        retry_in: line.retry_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        worker: line.worker.and_then(|worker| worker.parse().ok()),
        digest: None,
    })
}

#[cfg(test)]
mod tests {
    use flow::State;

    use super::*;

    #[test]
    fn an_event_line_round_trips_to_its_change() {
        let change = NodeChange {
            kind: NodeKind::Task,
            name: "mix".parse().unwrap(),
            state: State::Failure,
            firing: Firing::FIRST,
            attempt: Attempt::FIRST.next(),
            at: Timestamp::default(),
            provides: None,
            failure: Some(Failure::new(FailureKind::Transient, "no \"milk\"")),
            retry_in: Some(Duration::from_millis(1_500)),
            worker: Some("one".parse().unwrap()),
            digest: None,
        };
        assert_eq!(change_of(&protocol::json::node_changed(&change)), Some(Change::Node(change)));
        let (firing, state, at) = (Firing::new(7), RunState::RolledBack, Timestamp::default());
        let line = protocol::json::firing_changed(firing, state, at);
        assert_eq!(change_of(&line), Some(Change::Firing { firing, state, at }));
        assert_eq!(change_of("{\"event\":\"run\",\"state\":\"success\"}"), None);
    }
}
