//! Streams of events of a server, as the dashboard takes them.

use api::{EventsQuery, LogAttempt, LogEvent, NodeState, RunsEvent};
use client::{Client, Event, EventPayload, Watch};
use tokio::sync::mpsc;

use super::model::Failure;
use crate::display::{self, log::Title};

/// The maximum number of events that are passed on together.
const MAX_BATCH: usize = 256;

/// The maximum length of a shown event or line, in characters.
const MAX_TEXT: usize = 1_000;

/// A stream of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Feed {
    /// The states of all runs that a query selects.
    Runs(EventsQuery),
    /// The changes of a run.
    Changes { run: String },
    /// What guests write during a run; only those of a task and its elements, if one is given.
    Lines { run: String, task: Option<String> },
}

/// The use of a stream: there is at most one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    Runs,
    Changes,
    Lines,
}

impl Feed {
    pub(crate) const fn slot(&self) -> Slot {
        match self {
            Self::Runs(_) => Slot::Runs,
            Self::Changes { .. } => Slot::Changes,
            Self::Lines { .. } => Slot::Lines,
        }
    }
}

/// A part of a stream.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) slot: Slot,
    /// The number of the stream: parts of an earlier one are not taken.
    pub(crate) serial: u64,
    pub(crate) items: Vec<Item>,
}

/// An item of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    /// An event of all runs.
    Runs(RunsEvent),
    /// A change of a run.
    Change(ChangeRow),
    /// What a guest wrote, or a note about it.
    Line(String),
    /// Nothing follows.
    End,
    /// The stream has broken off.
    Failed(Failure),
}

/// A change of a run, for people. It is harmless for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChangeRow {
    /// When it happened, where the event says it.
    pub(crate) at: Option<String>,
    pub(crate) text: String,
    /// The new state of the node, if it is one of a node.
    pub(crate) state: Option<NodeState>,
}

/// Follows a stream until it ends, or nobody wants it any more. Dropping the future is safe.
pub(crate) async fn follow(client: Client, feed: Feed, serial: u64, tx: mpsc::Sender<Received>) {
    let target = Target { slot: feed.slot(), serial, tx };
    match feed {
        Feed::Runs(query) => events(client.watch_all(query), &target, of_runs).await,
        Feed::Changes { run } => events(client.watch(&run), &target, |event| change(event).map(Item::Change)).await,
        Feed::Lines { run, task } => lines(&client, &run, task.as_deref(), &target).await,
    }
}

/// Where the parts of a stream go.
struct Target {
    slot: Slot,
    serial: u64,
    tx: mpsc::Sender<Received>,
}

impl Target {
    /// Passes items on. Returns whether somebody wants more.
    async fn send(&self, items: Vec<Item>) -> bool {
        let Self { slot, serial, tx } = self;
        tx.send(Received { slot: *slot, serial: *serial, items }).await.is_ok()
    }
}

async fn events(mut watch: Watch, target: &Target, read: impl Fn(&Event) -> Option<Item>) {
    loop {
        let first = match watch.next().await {
            Ok(Some(event)) => event,
            Ok(None) => {
                target.send(vec![Item::End]).await;
                return;
            }
            Err(error) => {
                target.send(vec![Item::Failed(error.into())]).await;
                return;
            }
        };
        let mut items: Vec<Item> = read(&first).into_iter().collect();
        while items.len() < MAX_BATCH
            && let Some(event) = watch.next_received()
        {
            items.extend(read(&event));
        }
        if !target.send(items).await {
            return;
        }
    }
}

async fn lines(client: &Client, run: &str, task: Option<&str>, target: &Target) {
    let mut log = client.follow_logs(run);
    loop {
        let item = match log.next().await {
            Ok(Some(event)) => line(&event, task).map(Item::Line),
            Ok(None) => Some(Item::End),
            Err(error) => Some(Item::Failed(error.into())),
        };
        let Some(item) = item else { continue };
        let is_last = matches!(item, Item::End | Item::Failed(_));
        if !target.send(vec![item]).await || is_last {
            return;
        }
    }
}

fn of_runs(event: &Event) -> Option<Item> {
    event.runs_event().map(Item::Runs)
}

/// The start of a text that may be long.
fn start(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// A change of a run; `None` for one that a newer server knows.
fn change(event: &Event) -> Option<ChangeRow> {
    let (at, text, state) = match event.payload()? {
        EventPayload::Node(event) => (Some(event.at.clone()), display::plain_line(&event), Some(event.state.clone())),
        EventPayload::Run(event) => (event.at.clone(), format!("the run is {}", event.state), None),
        EventPayload::Firing(event) => (Some(event.at), format!("firing {} is {}", event.firing, event.state), None),
        EventPayload::Trimmed(event) => (None, format!("{} older records were deleted", event.records), None),
    };
    Some(ChangeRow { at, text: start(&text), state })
}

/// A line of a guest, or a note about its lines, if the task is wanted.
fn line(event: &LogEvent, task: Option<&str>) -> Option<String> {
    let (attempt, text) = match event {
        LogEvent::Line { attempt, level, text, .. } => {
            (attempt, Title::of_followed(attempt).line(level.as_str(), &start(text)))
        }
        LogEvent::Cut(attempt) => (attempt, Title::of_followed(attempt).cut()),
        LogEvent::Missing { attempt, lines } => (attempt, Title::of_followed(attempt).missing(*lines)),
        LogEvent::End(_) | LogEvent::Run { .. } | LogEvent::Unknown => return None,
    };
    task.is_none_or(|task| is_of(attempt, task)).then_some(text)
}

/// Whether an attempt is one of a task, or of an element of its list.
fn is_of(attempt: &LogAttempt, task: &str) -> bool {
    attempt.task.strip_prefix(task).is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_harmless_lines() {
        let read = |line: &str| change(&Event::new("1", line));
        let node = r#"{"event":"state","kind":"task","name":"a\nb","state":"failure","firing":1,"attempt":2,"at":"now",
            "failure":{"kind":"trap","message":"\u001b[2J"}}"#;
        let row = read(node).unwrap();
        assert_eq!((row.at.as_deref(), row.text.as_str()), (Some("now"), r"a ⏎ b failure, attempt 2: trap: \x1b[2J"));
        assert_eq!(row.state, Some(NodeState::Failure));
        let row = read(r#"{"event":"run","state":"success","run":"r","provides":{},"failures":{}}"#).unwrap();
        assert_eq!((row.at, row.text.as_str(), row.state), (None, "the run is success", None));
        assert_eq!(read(r#"{"event":"weather"}"#), None);
    }

    #[test]
    fn lines_are_those_of_the_task_and_its_elements() {
        let event = |task: &str| {
            let event = format!(
                r#"{{"event":"log","task":"{task}","call":"apply","firing":1,"attempt":1,"worker":null,"number":1,
                "level":"info","text":"hi\r\u0007"}}"#
            );
            serde_json::from_str::<LogEvent>(&event).unwrap()
        };
        assert_eq!(line(&event("pan"), Some("pan")).unwrap(), "pan | info   hi\\x0d\\x07");
        assert_eq!(line(&event("pan[3]"), Some("pan")).unwrap(), "pan[3] | info   hi\\x0d\\x07");
        assert_eq!(line(&event("pan2"), Some("pan")), None);
        assert!(line(&event("pan2"), None).is_some());
    }
}
