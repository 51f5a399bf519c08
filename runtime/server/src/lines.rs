//! The lines of a run as its records tell it: those of `waft run --json`, for whoever watches it, over HTTP or beside it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use flow::{Change, Machine, NodeChange, RunId, RunState, Timestamp};
use logbook::{AppliedRecord, LoadError, Logbook, Page, Replay, Version};
use store::Store;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::timeout,
};

/// How long after the records were read they are read again, though nothing was heard: another engine may drive the run.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Up to where a watcher has heard: all of a version's record, or some events of the record after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct EventPosition {
    version: u64,
    told: usize,
}

impl EventPosition {
    pub(crate) fn parse(id: &str) -> Option<Self> {
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

/// One line of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it stands in the run.
    pub id: String,
    /// The line, as `waft run --json` prints it.
    pub text: String,
}

/// The lines of a run, from its start to its end.
pub struct Lines {
    run: RunId,
    started_at: Timestamp,
    store: Arc<dyn Store>,
    replay: Replay,
    position: EventPosition,
    /// The runs that an engine of this process has added records to.
    changes: Option<broadcast::Receiver<RunId>>,
    waiting: VecDeque<Line>,
}

impl Lines {
    /// Before the first line of a run.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run, or it cannot be read.
    pub async fn open(run: RunId, logbook: Arc<dyn Logbook>, store: Arc<dyn Store>) -> Result<Self, LoadError> {
        let started_at = logbook.summary(&run).await?.started_at;
        let replay = Replay::new(run.clone(), logbook);
        let (position, waiting) = (EventPosition::default(), VecDeque::new());
        Ok(Self { run, started_at, store, replay, position, changes: None, waiting })
    }

    /// Leaves out the lines up to a position.
    pub(crate) fn after(self, position: EventPosition) -> Self {
        Self { position, ..self }
    }

    /// Reads again as soon as an engine of this process has changed the run, and not only after some time.
    pub(crate) fn told_of(self, changes: broadcast::Receiver<RunId>) -> Self {
        Self { changes: Some(changes), ..self }
    }

    /// Which run it is.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The next line, once there is one; `None` after the last line of a run that has ended.
    ///
    /// # Errors
    /// [`LoadError`] when the records cannot be read.
    pub async fn next(&mut self) -> Result<Option<Line>, LoadError> {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                return Ok(Some(line));
            }
            match self.read().await? {
                PageRead::Some => {}
                PageRead::Nothing if self.replay.machine().is_some_and(|machine| machine.state().is_final()) => {
                    return Ok(None);
                }
                PageRead::Nothing => until_changed(&mut self.changes, &self.run).await,
            }
        }
    }

    /// Reads a page of records, and what they tell.
    async fn read(&mut self) -> Result<PageRead, LoadError> {
        let Page { records, starts_replay: begins } = self.replay.read().await?;
        if begins {
            self.send_trimmed();
        }
        if records.is_empty() {
            return Ok(if self.waiting.is_empty() { PageRead::Nothing } else { PageRead::Some });
        }
        for record in &records {
            let taken = self.replay.apply(record)?;
            self.tell(taken).await;
        }
        Ok(PageRead::Some)
    }

    /// Tells whoever has not heard of the records that are not kept any more how many they are; and who has heard of nothing
    /// yet, which run it is.
    fn send_trimmed(&mut self) {
        let Some(machine) = self.replay.machine() else { return };
        let version = self.replay.version();
        if self.position >= (EventPosition { version: version.get(), told: 0 }) {
            return;
        }
        let mut lines = vec![protocol::json::trimmed(version.get())];
        if self.position == EventPosition::default() {
            lines.push(protocol::json::run_started(&self.run, &machine.flow().name, self.started_at));
        }
        let count = lines.len();
        for (index, line) in lines.into_iter().enumerate() {
            self.position = EventPosition::after(version, index, count);
            self.waiting.push_back(Line { id: self.position.id(), text: line });
        }
    }

    async fn tell(&mut self, taken: AppliedRecord) {
        let AppliedRecord { version, changes } = taken;
        let machine = self.replay.machine().expect("it has taken a record");
        let told: Vec<&Change> = changes.iter().filter(|change| is_event(change)).collect();
        for (index, change) in told.iter().enumerate() {
            let position = EventPosition::after(version, index, told.len());
            if position <= self.position {
                continue;
            }
            let text = line(machine, change, &*self.store).await;
            self.waiting.push_back(Line { id: position.id(), text });
            self.position = position;
        }
    }
}

/// Waits until a run may have new records.
pub(crate) async fn until_changed(changes: &mut Option<broadcast::Receiver<RunId>>, run: &RunId) {
    let ours = async {
        let Some(changes) = changes else { return std::future::pending().await };
        loop {
            match changes.recv().await {
                Ok(changed) if changed != *run => {}
                // Of those that were missed one may have been this run.
                Ok(_) | Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    // Another engine may drive the run: after some time it is read again in any case.
    let _ = timeout(POLL_INTERVAL, ours).await;
}

/// Whether there was something to read.
enum PageRead {
    Some,
    Nothing,
}

fn is_event(change: &Change) -> bool {
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
        Change::Run { .. } => protocol::json::run_ended(machine, &store::values::load_run_values(store, machine).await),
        Change::Firing { firing, state, at } => protocol::json::firing_changed(*firing, *state, *at),
        Change::Node(change) => protocol::json::node_changed(&load_values(store, change).await),
    }
}

/// The change with the values that only the store has.
pub(crate) async fn load_values(store: &dyn Store, change: &NodeChange) -> NodeChange {
    let provides = match &change.provides {
        Some(provides) => Some(store::values::load_values(store, provides.clone()).await),
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
        let positions: Vec<EventPosition> = (0..3).map(|index| EventPosition::after(version, index, 3)).collect();
        let ids: Vec<String> = positions.iter().map(|position| position.id()).collect();
        assert_eq!(ids, ["6-1", "6-2", "7"]);
        assert!(positions.is_sorted());
        assert!(ids.iter().zip(&positions).all(|(id, position)| EventPosition::parse(id) == Some(*position)));
        for bad in ["", "x", "1-", "-1", "1-x"] {
            assert_eq!(EventPosition::parse(bad), None);
        }
    }
}
