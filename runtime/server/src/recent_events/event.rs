//! An event of a run or of one of its nodes, made once from a notification of an engine, and which events a watcher wants.

use api::{
    EventFailure, EventPayload, EventsQuery, MAX_EVENT_MESSAGE, NodeEvent, NodeStateEvent, RunEvent, RunStateEvent,
    RunsEvent,
};
use broker::Message;
use flow::{FlowName, LabelCondition, NodeKind, RunId, RunState, State};
use protocol::{EngineSecret, topology};

use crate::{problem::Problem, runs::list};

/// The bytes that an event takes beside its texts.
const OVERHEAD: usize = 256;

/// The pattern of every routing key.
pub(crate) const EVERY_KEY: &str = "#";

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A run.
    Run,
    /// A task.
    Task,
    /// A retry controller.
    Retry,
}

impl Subject {
    const ALL: [Self; 3] = [Self::Run, Self::Task, Self::Retry];

    fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Task => NodeKind::Task.as_str(),
            Self::Retry => NodeKind::Retry.as_str(),
        }
    }
}

/// An event, with what filters ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecentEvent {
    pub(crate) run: RunId,
    pub(crate) flow: FlowName,
    pub(crate) subject: Subject,
    /// The state, as in the line.
    pub(crate) state: String,
    /// A [`RunsEvent`] as one line of JSON.
    pub(crate) line: String,
}

impl RecentEvent {
    /// Reads a notification; `None` if no engine of this logbook published it, or a newer one did in a form that this server does not
    /// know.
    pub(crate) fn of_notification(message: &Message, secret: &EngineSecret) -> Option<Self> {
        if !secret.has_sealed_notification(&message.properties.headers, &message.body) {
            return None;
        }
        let payload = EventPayload::parse(std::str::from_utf8(&message.body).ok()?)?;
        // A message keeps the exchange that it was published to.
        match (message.exchange.as_str(), payload) {
            (topology::NOTIFICATIONS, EventPayload::Node(event)) => Self::of_node(*event),
            (topology::RUNS, EventPayload::Run(event)) => Self::of_run(*event),
            _ => None,
        }
    }

    fn of_run(event: RunEvent) -> Option<Self> {
        let RunEvent { state, run, flow, at, .. } = event;
        let event = RunStateEvent { run, flow: flow?, state, at: at? };
        let (run, flow, state) = (event.run.clone(), event.flow.clone(), event.state.to_string());
        Self::new(run, &flow, Subject::Run, state, &RunsEvent::Run(event))
    }

    fn of_node(event: NodeEvent) -> Option<Self> {
        let NodeEvent { run, flow, kind, name, state, firing, attempt, at, failure, retry_in, worker, .. } = event;
        let failure = failure.map(|failure| EventFailure {
            kind: failure.kind,
            message: failure.message.chars().take(MAX_EVENT_MESSAGE).collect(),
        });
        let subject = if kind == api::NodeKind::Retry { Subject::Retry } else { Subject::Task };
        let (run, flow) = (run?, flow?);
        let (id, in_flow, in_state) = (run.clone(), flow.clone(), state.to_string());
        let event = NodeStateEvent { run, flow, kind, name, state, firing, attempt, at, failure, retry_in, worker };
        Self::new(id, &in_flow, subject, in_state, &RunsEvent::Node(Box::new(event)))
    }

    fn new(run: String, flow: &str, subject: Subject, state: String, event: &RunsEvent) -> Option<Self> {
        let line = serde_json::to_string(event).expect("words, numbers and texts serialize");
        Some(Self { run: RunId::new(run).ok()?, flow: FlowName::new(flow).ok()?, subject, state, line })
    }

    /// The memory that it takes, in bytes.
    pub(super) fn size(&self) -> usize {
        OVERHEAD + self.line.len() + self.run.as_str().len() + self.flow.as_str().len() + self.state.len()
    }

    /// Whether the run starts: its id may have been that of another run before.
    pub(crate) fn starts_run(&self) -> bool {
        self.subject == Subject::Run && self.state == RunState::Running.as_str()
    }
}

/// The events that a watcher wants; their namespace is decided elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EventFilter {
    flow: Option<FlowName>,
    /// Empty for all.
    subjects: Vec<Subject>,
    /// Empty for all.
    states: Vec<String>,
    /// The labels that the run must have.
    pub(crate) labels: Vec<LabelCondition>,
}

impl EventFilter {
    /// Whether all events that it wants are of one flow.
    pub(crate) fn is_of_one_flow(&self) -> bool {
        self.flow.is_some()
    }

    /// Reads the conditions of a query.
    ///
    /// # Errors
    /// [`Problem`] when a condition cannot be read.
    pub(crate) fn parse(query: &EventsQuery) -> Result<Self, Problem> {
        let EventsQuery { flow, namespace, label, kind, state } = query.clone();
        let runs = api::RunFilter { flow, namespace, label, ..api::RunFilter::default() };
        let logbook::Filter { flow, labels, .. } = list::parse_filter(runs)?;
        let subjects = kind.map(|kinds| words(&kinds, subject)).transpose()?.unwrap_or_default();
        let states = state.map(|states| words(&states, self::state)).transpose()?.unwrap_or_default();
        Ok(Self { flow, subjects, states, labels })
    }

    /// Whether it may let an event through that is made of a notification on this exchange.
    pub(crate) fn is_for(&self, exchange: &str) -> bool {
        let is_on_it = |subject: &Subject| match subject {
            Subject::Run => exchange == topology::RUNS,
            Subject::Task | Subject::Retry => exchange == topology::NOTIFICATIONS,
        };
        self.subjects.is_empty() || self.subjects.iter().any(is_on_it)
    }

    /// The pattern of the routing keys of all notifications that it may let events through of.
    pub(crate) fn pattern(&self) -> String {
        self.flow.as_ref().map_or_else(|| EVERY_KEY.to_owned(), |flow| topology::listener_pattern(flow, None))
    }

    /// Whether it lets an event through, except for the labels of its run.
    pub(crate) fn matches(&self, event: &RecentEvent) -> bool {
        self.flow.as_ref().is_none_or(|flow| *flow == event.flow)
            && (self.subjects.is_empty() || self.subjects.contains(&event.subject))
            && (self.states.is_empty() || self.states.contains(&event.state))
    }
}

/// Reads words that are separated by commas.
fn words<Word>(text: &str, read: fn(&str) -> Result<Word, Problem>) -> Result<Vec<Word>, Problem> {
    // More words than there are would only repeat some.
    let words: Vec<&str> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    if words.len() > RunState::ALL.len() + State::ALL.len() {
        return Err(Problem::bad_request("the query: a word is given several times"));
    }
    words.into_iter().map(read).collect()
}

fn subject(word: &str) -> Result<Subject, Problem> {
    Subject::ALL.into_iter().find(|subject| subject.as_str() == word).ok_or_else(|| {
        Problem::bad_request(format!("kind: {word:?} is no kind of an event"))
            .hint("give some of run, task and retry, joined by commas")
    })
}

fn state(word: &str) -> Result<String, Problem> {
    let of_runs = RunState::ALL.iter().map(|state| state.as_str());
    let of_nodes = State::ALL.iter().map(|state| state.as_str());
    let mut known: Vec<&str> = of_runs.chain(of_nodes).collect();
    if known.contains(&word) {
        return Ok(word.to_owned());
    }
    known.sort_unstable();
    known.dedup();
    Err(Problem::bad_request(format!("state: {word:?} is no state of a run or a task"))
        .hint(format!("give some of {}, joined by commas", known.join(" "))))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use broker::{Properties, Routing};
    use flow::Timestamp;

    use super::*;

    /// An event of a run.
    pub(crate) fn event(flow: &str, run: &str, state: RunState) -> RecentEvent {
        let message = notification(flow, run, state);
        RecentEvent::of_notification(&message, &EngineSecret::new([7; 32])).unwrap()
    }

    /// The notification that an engine publishes.
    pub(crate) fn notification(flow: &str, run: &str, state: RunState) -> Message {
        sealed_notification(flow, run, (state, Timestamp::from_micros(1)), &EngineSecret::new([7; 32]))
    }

    /// The notification that an engine with this secret publishes about a state that a run is in since a time.
    pub(crate) fn sealed_notification(
        flow: &str,
        run: &str,
        (state, since): (RunState, Timestamp),
        secret: &EngineSecret,
    ) -> Message {
        let (run, flow) = (run.parse().unwrap(), flow.parse().unwrap());
        let body = protocol::events::run_notification(&run, &flow, state, since);
        let headers = BTreeMap::from([secret.notification_header(body.as_bytes())]);
        Message {
            exchange: topology::RUNS.into(),
            key: topology::run_notification_key(&flow, &run, state),
            routing: Routing::Optional,
            persistent: true,
            priority: 0,
            properties: Properties { headers, ..Properties::default() },
            body: body.into(),
        }
    }

    fn filter(query: EventsQuery) -> EventFilter {
        EventFilter::parse(&query).unwrap_or_else(|problem| panic!("{:?}", problem.into_document()))
    }

    #[test]
    fn only_sealed_notifications_through_their_exchange_are_events() {
        let (secret, good) = (EngineSecret::new([7; 32]), notification("shop/f", "r", RunState::Failure));
        let event = RecentEvent::of_notification(&good, &secret).unwrap();
        let line = r#"{"event":"run","run":"r","flow":"shop/f","state":"failure","at":"1970-01-01T00:00:00.000001Z"}"#;
        assert_eq!((event.line.as_str(), event.subject), (line, Subject::Run));
        assert_eq!(RecentEvent::of_notification(&good, &EngineSecret::new([8; 32])), None, "of another logbook");
        let elsewhere = Message { exchange: topology::NOTIFICATIONS.into(), ..good.clone() };
        assert_eq!(RecentEvent::of_notification(&elsewhere, &secret), None);
        let changed = Message { body: "{}".into(), ..good };
        assert_eq!(RecentEvent::of_notification(&changed, &secret), None);
    }

    #[test]
    fn an_event_of_a_task_has_no_values_and_a_short_message() {
        let secret = EngineSecret::new([7; 32]);
        let body = format!(
            r#"{{"event":"state","run":"r","flow":"f","kind":"retry","name":"f","state":"failure","firing":1,"attempt":2,"at":"now",
            "provides":{{"secret":1}},"failure":{{"kind":"trap","message":"{}","details":{{"x":1}}}},"retry_in":0.5}}"#,
            "é".repeat(2_000)
        );
        let message = Message {
            exchange: topology::NOTIFICATIONS.into(),
            properties: Properties {
                headers: BTreeMap::from([secret.notification_header(body.as_bytes())]),
                ..Properties::default()
            },
            body: body.into(),
            ..notification("f", "r", RunState::Running)
        };
        let event = RecentEvent::of_notification(&message, &secret).unwrap();
        assert_eq!((event.subject, event.state.as_str()), (Subject::Retry, "failure"));
        assert!(!event.line.contains("secret") && !event.line.contains("details"), "{}", event.line);
        let Ok(RunsEvent::Node(read)) = serde_json::from_str(&event.line) else { panic!("{}", event.line) };
        assert_eq!(read.failure.unwrap().message, "é".repeat(MAX_EVENT_MESSAGE));
        assert_eq!(read.retry_in, Some(0.5));
    }

    #[test]
    fn all_conditions_of_a_filter_must_hold() {
        let (failed, other) = (event("shop/f", "r", RunState::Failure), event("shop/g", "r", RunState::Success));
        assert!(filter(EventsQuery::default()).matches(&failed));
        let of_flow = EventsQuery::default().namespace("shop").flow("f");
        assert!(filter(of_flow.clone()).matches(&failed) && !filter(of_flow.clone()).matches(&other));
        assert!(filter(of_flow.clone().state("success, failure").kind("run,task")).matches(&failed));
        assert!(!filter(of_flow.clone().state("success")).matches(&failed));
        assert!(!filter(of_flow.kind("task,retry")).matches(&failed));
    }

    #[test]
    fn a_condition_that_nothing_can_meet_is_refused() {
        for (query, hint) in [
            (EventsQuery::default().state("done"), "rollback-failure"),
            (EventsQuery::default().kind("worker"), "run, task and retry"),
            (EventsQuery::default().label("=x"), "NAME=VALUE"),
        ] {
            let problem = EventFilter::parse(&query).unwrap_err().into_document();
            assert!(problem.hint.as_ref().is_some_and(|text| text.contains(hint)), "{problem:?}");
        }
        assert!(EventFilter::parse(&EventsQuery::default().state("success,".repeat(100))).is_err());
    }
}
