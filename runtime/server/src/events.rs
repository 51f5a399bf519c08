//! The events of a run as they are recorded: the lines of `waft run --json`, as server-sent events.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        Sse,
        sse::{Event, KeepAlive},
    },
};
use client::api;
use flow::{Change, Machine, NodeChange, RunId, RunState, Timestamp};
use futures::{Stream, StreamExt, stream};
use logbook::{LoadError, Page, Replay, Taken, Version};
use store::Store;
use tokio::{sync::broadcast, time::timeout};
use tracing::warn;

use crate::{
    extract::Run,
    problem::Problem,
    state::{self, Shared},
};

/// How long after the records were read they are read again, though nothing was heard: another engine may drive the run.
const PERIOD: Duration = Duration::from_millis(250);

/// The pause after which a watcher is told that the server lives.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Watches a run.
///
/// Each event's data is a line as `waft run --json` prints it, from the run's start, or, where the oldest records of a run
/// that lives are not kept any more, from a line `trimmed` that says how many they are. The stream ends with the run's last
/// line; that of a suspended run is told too, and the stream goes on. An event's id goes into `Last-Event-ID` to hear what
/// follows it.
#[utoipa::path(get, operation_id = "run_events", path = "/v1/runs/{run}/events", tag = "runs", params(
    ("run" = String, Path, description = "The run's id"),
    ("last-event-id" = Option<String>, Header, description = "The id of the last event that was heard")), responses(
        (status = 200, description = "The events", body = String, content_type = "text/event-stream"),
        (status = 404, description = "There is no such run", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "Why not", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn events(
    State(state): Shared,
    Run(run): Run,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let position = match headers.get("last-event-id") {
        None => Position::default(),
        Some(id) => id.to_str().ok().and_then(Position::parse).ok_or_else(|| {
            Problem::bad_request("the header Last-Event-ID holds no id of an event").hint("leave it out to hear all")
        })?,
    };
    // Subscribed before anything is read, so that nothing is missed between.
    let changes = state.parts.engine.changes();
    let started_at = state.parts.logbook.summary(&run).await?.started_at;
    let replay = Replay::new(run.clone(), state.parts.logbook.clone());
    let stop = state.stop.clone();
    let waiting = VecDeque::new();
    let following = Following { state, run, started_at, replay, position, changes, waiting, ended: false };
    let events = stream::unfold(following, async |mut following| {
        let event = following.next().await?;
        Some((Ok(event), following))
    });
    let events = events.take_until(stop.cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Up to where a watcher has heard: all of a version's record, or some events of the record after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Position {
    version: u64,
    told: usize,
}

impl Position {
    fn parse(id: &str) -> Option<Self> {
        let (version, told) = id.split_once('-').unwrap_or((id, "0"));
        Some(Self { version: version.parse().ok()?, told: told.parse().ok()? })
    }

    /// After an event of a record: the number of the event, from 0, and how many the record has.
    fn after(version: Version, index: usize, events: usize) -> Self {
        if index + 1 == events {
            Self { version: version.get(), told: 0 }
        } else {
            Self { version: version.get() - 1, told: index + 1 }
        }
    }

    fn id(self) -> String {
        match self.told {
            0 => self.version.to_string(),
            told => format!("{}-{told}", self.version),
        }
    }
}

/// One who follows a run.
struct Following {
    state: Arc<state::State>,
    run: RunId,
    started_at: Timestamp,
    replay: Replay,
    position: Position,
    changes: broadcast::Receiver<RunId>,
    waiting: VecDeque<Event>,
    ended: bool,
}

impl Following {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            match self.read().await {
                Ok(Read::Some) => {}
                Ok(Read::Nothing) if self.replay.machine().is_some_and(|machine| machine.state().is_final()) => {
                    self.ended = true;
                }
                Ok(Read::Nothing) => self.heard().await,
                // The watcher comes again with the last id it heard.
                Err(error) => {
                    warn!(run = %self.run, error = &error as &dyn std::error::Error, "a watcher was left");
                    self.ended = true;
                }
            }
        }
    }

    /// Reads a page of records, and what they tell.
    async fn read(&mut self) -> Result<Read, LoadError> {
        let Page { records, begins } = self.replay.read().await?;
        if begins {
            self.tell_beginning();
        }
        if records.is_empty() {
            return Ok(if self.waiting.is_empty() { Read::Nothing } else { Read::Some });
        }
        for record in &records {
            let taken = self.replay.take(record)?;
            self.tell(taken).await;
        }
        Ok(Read::Some)
    }

    /// Tells whoever has not heard of the records that are not kept any more how many they are; and who has heard of nothing
    /// yet, which run it is.
    fn tell_beginning(&mut self) {
        let Some(machine) = self.replay.machine() else { return };
        let version = self.replay.version();
        if self.position >= (Position { version: version.get(), told: 0 }) {
            return;
        }
        let mut lines = vec![protocol::json::trimmed(version.get())];
        if self.position == Position::default() {
            lines.push(protocol::json::run_started(&self.run, &machine.flow().name, self.started_at));
        }
        let count = lines.len();
        for (index, line) in lines.into_iter().enumerate() {
            self.position = Position::after(version, index, count);
            self.waiting.push_back(Event::default().id(self.position.id()).data(line));
        }
    }

    async fn tell(&mut self, taken: Taken) {
        let Taken { version, changes } = taken;
        let machine = self.replay.machine().expect("it has taken a record");
        let told: Vec<&Change> = changes.iter().filter(|change| is_told(change)).collect();
        for (index, change) in told.iter().enumerate() {
            let position = Position::after(version, index, told.len());
            if position <= self.position {
                continue;
            }
            let line = line(machine, change, &*self.state.parts.modules.store).await;
            self.waiting.push_back(Event::default().id(position.id()).data(line));
            self.position = position;
        }
    }

    /// Waits until the run may have new records.
    async fn heard(&mut self) {
        let ours = async {
            while let Ok(run) = self.changes.recv().await {
                if run == self.run {
                    return;
                }
            }
        };
        // Heard or not, it is read again. Who was too slow to hear all falls back on that, too.
        let _ = timeout(PERIOD, ours).await;
    }
}

/// Whether there was something to read.
enum Read {
    Some,
    Nothing,
}

fn is_told(change: &Change) -> bool {
    match change {
        Change::Node(_) | Change::Firing { .. } => true,
        Change::Run { state, .. } => match state {
            RunState::Running | RunState::Success | RunState::Failure | RunState::RolledBack | RunState::Suspended => {
                true
            }
            RunState::Pending | RunState::Suspending => false,
        },
    }
}

/// The line of a change, right after the machine has taken its record.
async fn line(machine: &Machine, change: &Change, store: &dyn Store) -> String {
    match change {
        Change::Run { state: RunState::Running, at } => {
            protocol::json::run_started(machine.run(), &machine.flow().name, *at)
        }
        Change::Run { .. } => protocol::json::run_ended(machine, &store::values::whole_of_run(store, machine).await),
        Change::Firing { firing, state, at } => protocol::json::firing_changed(*firing, *state, *at),
        Change::Node(change) => protocol::json::node_changed(&whole(store, change).await),
    }
}

/// The change with the values that only the store has.
pub(crate) async fn whole(store: &dyn Store, change: &NodeChange) -> NodeChange {
    let provides = match &change.provides {
        Some(provides) => Some(store::values::whole(store, provides.clone()).await),
        None => None,
    };
    NodeChange { provides, ..change.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_goes_through_its_id() {
        let version = Version::new(7);
        let positions: Vec<Position> = (0..3).map(|index| Position::after(version, index, 3)).collect();
        let ids: Vec<String> = positions.iter().map(|position| position.id()).collect();
        assert_eq!(ids, ["6-1", "6-2", "7"]);
        assert!(positions.is_sorted());
        assert!(ids.iter().zip(&positions).all(|(id, position)| Position::parse(id) == Some(*position)));
        for bad in ["", "x", "1-", "-1", "1-x"] {
            assert_eq!(Position::parse(bad), None);
        }
    }
}
