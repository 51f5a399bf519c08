//! Events that a watcher receives: each is one line of a run, or of all runs.

use api::{EventPayload, RunState, RunsEvent};
use serde::Deserialize;

/// One line of a run, as `waft run --json` prints it, or of all runs, as `waft events --json` does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The event's position in the run: [`crate::Client::watch_after`] starts after it, and for all runs
    /// [`crate::Client::watch_all_after`].
    pub id: String,
    /// The line.
    pub line: String,
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
        EventPayload::parse(&self.line)
    }

    /// The content of a line of all runs; `None` if it cannot be read.
    #[must_use]
    pub fn runs_event(&self) -> Option<RunsEvent> {
        serde_json::from_str(&self.line).ok()
    }

    /// The run's state, if the line is about the run itself.
    #[must_use]
    pub fn run_state(&self) -> Option<RunState> {
        // A newer server may write the rest of the line in another way, and a watcher must see the end of a run.
        #[derive(Deserialize)]
        struct Line {
            event: String,
            state: RunState,
        }
        let Line { event, state } = serde_json::from_str(&self.line).ok()?;
        (event == "run").then_some(state)
    }

    pub(crate) fn is_end(&self) -> bool {
        self.run_state().is_some_and(|state| state.is_final())
    }
}

#[cfg(test)]
mod tests {
    use api::{FiringEvent, NodeState, TrimmedEvent};
    use flow::{Attempt, Failure, FailureKind, Firing, NodeKind, State, Timestamp, Value, Values};
    use machine::{Change, NodeChange};

    use super::*;

    fn event(line: &str) -> Event {
        Event::new("1", line)
    }

    fn of_change(change: &Change) -> EventPayload {
        protocol::events::of_change(&"r".parse().unwrap(), &"f".parse().unwrap(), change).unwrap()
    }

    fn sent(payload: &EventPayload) -> Event {
        event(&payload.to_line())
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
            computed_by: None,
            digest: None,
            is_of_empty_firing: false,
        };
        let Some(EventPayload::Node(node)) = sent(&of_change(&Change::Node(change))).payload() else {
            panic!("a node's line")
        };
        assert_eq!((node.name.as_str(), node.state, node.attempt), ("mix", NodeState::Success, 2));
        assert_eq!(node.provides.unwrap().to_text(), "{\"pan\":18446744073709551615}");
        assert_eq!(node.failure.unwrap().message, "too late");
    }

    #[test]
    fn unknown_events_have_no_payload() {
        let trimmed = sent(&protocol::events::trimmed(7)).payload();
        assert!(matches!(trimmed, Some(EventPayload::Trimmed(TrimmedEvent { records: 7, .. }))));
        let (firing, state) = (Firing::FIRST, flow::RunState::RolledBack);
        let firing = sent(&of_change(&Change::Firing { firing, state, at: Timestamp::default() })).payload();
        let is_expected = |event: &FiringEvent| (event.firing, &event.state) == (1, &RunState::RolledBack);
        assert!(matches!(firing, Some(EventPayload::Firing(event)) if is_expected(&event)));
        let started = Change::Run { state: flow::RunState::Running, at: Timestamp::default() };
        let started = sent(&of_change(&started));
        assert_eq!((started.run_state(), started.is_end()), (Some(RunState::Running), false));
        assert!(event("{\"event\":\"run\",\"state\":\"success\"}").is_end());
        for line in ["{\"event\":\"weather\"}", "{\"event\":\"run\",\"state\":7}", "hello", ""] {
            assert!(event(line).payload().is_none(), "{line}");
        }
    }

    #[test]
    fn an_unknown_state_keeps_its_text_and_does_not_end_a_run() {
        let event = event("{\"event\":\"run\",\"state\":\"tired\"}");
        assert_eq!((event.run_state(), event.is_end()), (Some(RunState::Unknown("tired".into())), false));
    }
}
