//! Events that a watcher receives: each is one line of a run.

use serde::Deserialize;

use crate::api::{FiringState, Node, RunState};

/// One line of a run, as `waft run --json` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The event's position in the run: [`crate::Client::watch_after`] starts after it.
    pub id: String,
    /// The line.
    pub line: String,
}

/// The content of a line.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EventPayload {
    /// The run is in this state.
    Run(RunState),
    /// A task or a retry controller changed its state.
    Node(Box<Node>),
    /// A firing started or ended, in a run that fires more than once.
    Firing(FiringState),
}

impl Event {
    /// An event with a line of a run.
    #[must_use]
    pub fn new(id: impl Into<String>, line: impl Into<String>) -> Self {
        Self { id: id.into(), line: line.into() }
    }

    /// The content of the line; `None` if a newer server sends something that this client does not know.
    #[must_use]
    pub fn payload(&self) -> Option<EventPayload> {
        #[derive(Deserialize)]
        struct Kind {
            event: String,
        }
        #[derive(Deserialize)]
        struct Run {
            state: RunState,
        }
        let Kind { event } = self.read()?;
        match event.as_str() {
            "run" => self.read().map(|Run { state }| EventPayload::Run(state)),
            "state" => self.read().map(EventPayload::Node),
            "firing" => self.read().map(EventPayload::Firing),
            _ => None,
        }
    }

    /// The run's state, if the line is about the run itself.
    #[must_use]
    pub fn run_state(&self) -> Option<RunState> {
        match self.payload() {
            Some(EventPayload::Run(state)) => Some(state),
            Some(EventPayload::Node(_) | EventPayload::Firing(_)) | None => None,
        }
    }

    pub(crate) fn is_end(&self) -> bool {
        self.run_state().is_some_and(|state| state.is_final())
    }

    fn read<'line, Line: Deserialize<'line>>(&'line self) -> Option<Line> {
        serde_json::from_str(&self.line).ok()
    }
}

#[cfg(test)]
mod tests {
    use flow::{Attempt, Failure, FailureKind, Firing, NodeKind, State, Timestamp, Value, Values};
    use machine::NodeChange;

    use super::*;
    use crate::api::NodeState;

    fn event(line: String) -> Event {
        Event { id: "1".into(), line }
    }

    #[test]
    fn an_event_keeps_every_digit() {
        let provides: Values = [("pan".parse().unwrap(), Value::from(u64::MAX))].into();
        let change = NodeChange {
            kind: NodeKind::Task,
            name: "mix".parse().unwrap(),
            state: State::Success,
            firing: Firing::FIRST,
            attempt: Attempt::FIRST.next(),
            at: Timestamp::default(),
            provides: Some(provides),
            failure: Some(Failure::new(FailureKind::Timeout, "too late")),
            retry_in: None,
            worker: None,
            digest: None,
        };
        let Some(EventPayload::Node(node)) = event(protocol::json::node_changed(&change)).payload() else {
            panic!("a node's line")
        };
        assert_eq!((node.name.as_str(), node.state, node.attempt), ("mix", NodeState::Success, Some(2)));
        assert_eq!(node.provides.unwrap().to_text(), "{\"pan\":18446744073709551615}");
        assert!(node.failure.unwrap().get().contains("too late"));
    }

    #[test]
    fn unknown_events_have_no_payload() {
        assert!(event(protocol::json::trimmed(7)).payload().is_none(), "it has no run, task or firing");
        let firing =
            event(protocol::json::firing_changed(Firing::FIRST, flow::RunState::RolledBack, Timestamp::default()));
        assert!(matches!(
            firing.payload(),
            Some(EventPayload::Firing(FiringState { firing: 1, state: RunState::RolledBack }))
        ));
        let (run, flow) = ("r".parse().unwrap(), "f".parse().unwrap());
        let started = event(protocol::json::run_started(&run, &flow, Timestamp::default()));
        assert_eq!((started.run_state(), started.is_end()), (Some(RunState::Running), false));
        assert!(event("{\"event\":\"run\",\"state\":\"success\"}".into()).is_end());
        for line in ["{\"event\":\"weather\"}", "{\"event\":\"run\",\"state\":7}", "hello", ""] {
            assert!(event(line.into()).payload().is_none(), "{line}");
        }
    }

    #[test]
    fn an_unknown_state_keeps_its_text_and_does_not_end_a_run() {
        let event = event("{\"event\":\"run\",\"state\":\"tired\"}".into());
        assert_eq!((event.run_state(), event.is_end()), (Some(RunState::Unknown("tired".into())), false));
    }
}
