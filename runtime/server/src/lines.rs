//! The lines of a run, made from its records as `waft run --json` prints them, for watchers over HTTP or in this process.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use api::EventPayload;
use flow::{Labels, RunId, RunState};
use logbook::{AppliedRecord, LoadError, Logbook, Page, Replay, Version};
use machine::{Change, Machine, NodeChange, Record};
use protocol::{
    encode_records,
    events::{self, RunValues},
};
use store::Store;
use tokio::{
    sync::broadcast::{
        self,
        error::{RecvError, TryRecvError},
    },
    time::{Instant, sleep_until, timeout},
};

use crate::{
    runs::incarnation::Incarnation,
    values::{MAX_BYTES_OF_EVENT, ValueBudget},
};

/// The poll interval for records without a notice: another engine may drive the run.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The first pause after a read that found nothing new, if the run changes soon after it. It doubles with each further such
/// read, so that a watcher receives the changes of a short run at once.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The maximum pause between two reads. A busy run changes a thousand times a second, and no watcher needs each change
/// at once.
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// The number of records that are read first. While they are small, it doubles with each read.
const FIRST_RECORDS: usize = 16;

/// The maximum number of records that are read at once, and kept until the watcher has received the lines of those before.
const MAX_RECORDS: usize = 256;

/// The maximum size of the records that are kept, in bytes as the logbook has them; a larger record is kept alone. Each watcher may be
/// slow, and there may be as many as event streams.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// The position of a watcher: all of a version's record, or some events of the next record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct EventPosition {
    version: u64,
    sent: usize,
}

impl EventPosition {
    pub(crate) fn parse(id: &str) -> Option<Self> {
        let (version, sent) = id.split_once('-').unwrap_or((id, "0"));
        Some(Self { version: version.parse().ok()?, sent: sent.parse().ok()? })
    }

    /// The position after an event of a record: the event's number, from 0, and the record's number of events.
    fn after(version: Version, index: usize, events: usize) -> Self {
        if index + 1 == events {
            Self { version: version.get(), sent: 0 }
        } else {
            Self { version: version.get() - 1, sent: index + 1 }
        }
    }

    fn id(self) -> String {
        match self.sent {
            0 => self.version.to_string(),
            sent => format!("{}-{sent}", self.version),
        }
    }
}

/// One line of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The line's position in the run.
    pub id: String,
    /// The line, as `waft run --json` prints it.
    pub text: String,
}

/// The lines of a run, from its start to its end.
pub struct Lines {
    run: RunId,
    incarnation: Incarnation,
    labels: Labels,
    logbook: Arc<dyn Logbook>,
    store: Arc<dyn Store>,
    replay: Replay,
    position: EventPosition,
    /// The runs that an engine of this process has appended records to.
    changes: Option<broadcast::Receiver<RunId>>,
    pacing: Pacing,
    /// The records that were read and not applied: their lines are made when the watcher has received the lines before.
    records: VecDeque<Record>,
    /// The maximum number of records of the next read.
    next_records: usize,
    waiting: VecDeque<Line>,
}

impl Lines {
    /// Starts before the first line of a run.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run, or it cannot be read.
    pub async fn open(run: RunId, logbook: Arc<dyn Logbook>, store: Arc<dyn Store>) -> Result<Self, LoadError> {
        let summary = logbook.summary(&run).await?;
        let (incarnation, labels) = (Incarnation::of(&summary), summary.labels);
        let replay = Replay::new(run.clone(), logbook.clone());
        let (records, waiting) = (VecDeque::new(), VecDeque::new());
        let (position, changes, pacing) = (EventPosition::default(), None, Pacing::default());
        let next_records = FIRST_RECORDS;
        Ok(Self {
            run,
            incarnation,
            labels,
            logbook,
            store,
            replay,
            position,
            changes,
            pacing,
            records,
            next_records,
            waiting,
        })
    }

    /// Skips the lines up to a position.
    pub(crate) fn after(self, position: EventPosition) -> Self {
        Self { position, ..self }
    }

    /// Reads at once after an engine of this process has changed the run, instead of only after an interval.
    pub(crate) fn with_notices(self, changes: broadcast::Receiver<RunId>) -> Self {
        Self { changes: Some(changes), ..self }
    }

    /// The run's id.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Waits for the next line; returns `None` after the last line of an ended run.
    ///
    /// # Errors
    /// [`LoadError`] when the records cannot be read, or were deleted with their run.
    pub async fn next(&mut self) -> Result<Option<Line>, LoadError> {
        loop {
            if let Some(line) = self.next_received() {
                return Ok(Some(line));
            }
            if let Some(record) = self.records.pop_front() {
                let applied = self.replay.apply(&record)?;
                self.add_lines(applied).await;
                continue;
            }
            match self.read().await? {
                PageRead::Some => {}
                PageRead::Nothing if self.replay.machine().is_some_and(|machine| machine.state().is_final()) => {
                    return Ok(None);
                }
                PageRead::Nothing => {
                    let read_at = Instant::now();
                    until_changed(&mut self.changes, &self.run).await;
                    sleep_until(read_at + self.pacing.pause(read_at.elapsed())).await;
                    // The next read finds all changes so far.
                    drain(&mut self.changes);
                }
            }
        }
    }

    /// The next line, if it has been read already.
    pub fn next_received(&mut self) -> Option<Line> {
        self.waiting.pop_front()
    }

    /// Reads a page of records.
    async fn read(&mut self) -> Result<PageRead, LoadError> {
        let Page { mut records, starts_replay } = self.replay.read_at_most(self.next_records).await?;
        if !records.is_empty() {
            self.next_records = keep_first(&mut records);
        }
        if starts_replay || !records.is_empty() {
            // A slow watcher may read on after its run was deleted.
            self.incarnation.summary(&*self.logbook).await?;
        }
        if starts_replay {
            self.send_trimmed();
        }
        if records.is_empty() {
            return Ok(if self.waiting.is_empty() { PageRead::Nothing } else { PageRead::Some });
        }
        self.records.extend(records);
        Ok(PageRead::Some)
    }

    /// Adds a line with the number of trimmed records that the watcher missed. A watcher that has received nothing yet also gets the run's
    /// first line.
    fn send_trimmed(&mut self) {
        let Some(machine) = self.replay.machine() else { return };
        let version = self.replay.version();
        if self.position >= (EventPosition { version: version.get(), sent: 0 }) {
            return;
        }
        let mut lines = vec![events::trimmed(version.get())];
        if self.position == EventPosition::default() {
            lines.push(events::run_started(&self.run, &machine.flow().name, self.incarnation.started_at()));
        }
        let count = lines.len();
        for (index, event) in lines.into_iter().enumerate() {
            self.position = EventPosition::after(version, index, count);
            let text = event.with_labels(&self.labels).to_line();
            self.waiting.push_back(Line { id: self.position.id(), text });
        }
    }

    async fn add_lines(&mut self, applied: AppliedRecord) {
        let AppliedRecord { version, changes, calls: _ } = applied;
        let machine = self.replay.machine().expect("a record was applied");
        let events: Vec<&Change> = changes.iter().filter(|change| is_event(change)).collect();
        for (index, change) in events.iter().enumerate() {
            let position = EventPosition::after(version, index, events.len());
            if position <= self.position {
                continue;
            }
            let text = event(machine, change, &*self.store).await.with_labels(&self.labels).to_line();
            self.waiting.push_back(Line { id: position.id(), text });
            self.position = position;
        }
    }
}

/// Keeps the first records, as many as a watcher may have: the others are read again. Returns the number to read next, so that few
/// records are read in vain.
fn keep_first(records: &mut Vec<Record>) -> usize {
    let mut bytes = 0;
    let fits = |record: &&Record| {
        bytes += encode_records(std::slice::from_ref(*record)).len();
        bytes <= MAX_RECORD_BYTES
    };
    let kept = records.iter().take_while(fits).count().max(1);
    if kept < records.len() {
        records.truncate(kept);
        return kept;
    }
    (2 * kept).min(MAX_RECORDS)
}

/// The pauses between the reads of a watcher.
#[derive(Debug, Default)]
struct Pacing(Duration);

impl Pacing {
    /// The pause between a read and the next one, if the run changed this long after the read.
    fn pause(&mut self, unchanged: Duration) -> Duration {
        self.0 = if unchanged > MAX_PAUSE { Duration::ZERO } else { (self.0 * 2).clamp(FIRST_PAUSE, MAX_PAUSE) };
        self.0
    }
}

/// Waits until a run may have new records.
pub(crate) async fn until_changed(changes: &mut Option<broadcast::Receiver<RunId>>, run: &RunId) {
    let ours = async {
        let Some(changes) = changes else { return std::future::pending().await };
        loop {
            match changes.recv().await {
                Ok(changed) if changed != *run => {}
                // The channel dropped some notices; one may have named this run.
                Ok(_) | Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    // Another engine may drive the run, so it is read again after an interval in any case.
    let _ = timeout(POLL_INTERVAL, ours).await;
}

/// Drops the notices that have arrived.
fn drain(changes: &mut Option<broadcast::Receiver<RunId>>) {
    let Some(changes) = changes else { return };
    loop {
        match changes.try_recv() {
            Ok(_) | Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
        }
    }
}

/// Whether there were records to read.
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

/// The event of a change, made right after the machine has applied its record.
async fn event(machine: &Machine, change: &Change, store: &dyn Store) -> EventPayload {
    let loaded = match change {
        Change::Node(change) => Change::Node(load_values(store, change).await),
        Change::Run { .. } | Change::Firing { .. } => change.clone(),
    };
    if let Some(event) = events::of_change(machine.run(), &machine.flow().name, &loaded) {
        return event;
    }
    let (inputs, provided) = (machine.flow().inputs.clone(), machine.provided());
    let mut budget = ValueBudget::new(inputs.values().chain(provided.values()), MAX_BYTES_OF_EVENT);
    let inputs = budget.load(store, inputs).await;
    events::run_ended(machine, &RunValues { inputs, provided: budget.load(store, provided).await })
}

/// The change, with the values that fit an event.
async fn load_values(store: &dyn Store, change: &NodeChange) -> NodeChange {
    let Some(provides) = &change.provides else { return change.clone() };
    let mut budget = ValueBudget::new(provides.values(), MAX_BYTES_OF_EVENT);
    let provides = Some(budget.load(store, provides.clone()).await);
    NodeChange { provides, ..change.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_of_a_busy_run_reads_less_often() {
        let mut pacing = Pacing::default();
        let soon = Duration::from_micros(100);
        let pauses: Vec<u128> = (0..7).map(|_| pacing.pause(soon).as_millis()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 20, 20]);
        assert_eq!(pacing.pause(MAX_PAUSE * 2), Duration::ZERO, "a change after a quiet time is read at once");
        assert_eq!(pacing.pause(soon), FIRST_PAUSE);
    }

    #[test]
    fn an_event_position_round_trips_through_its_id() {
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

    /// A logbook with the run `r`, whose flow was edited so many times; each edit has the text of the flow.
    async fn edited_run(edits: u64, text_bytes: usize) -> Arc<dyn Logbook> {
        let text = "name = \"f\"\n[[task]]\nname = \"w\"\nwait = \"a word\"\n";
        let draft = flow::file::parse(text).unwrap();
        let (flow, _) = flow::wire(&draft, &std::collections::BTreeMap::new(), &flow::Values::new()).unwrap();
        let text: Arc<str> = format!("{text}#{}", "x".repeat(text_bytes)).into();
        let source = flow::FlowSource { text, modules: std::collections::BTreeMap::new(), edits: Vec::new() };
        let flow = Arc::new(flow::Flow { origin: Some(Arc::new(source)), ..flow });
        let mut machine = Machine::new("r".parse().unwrap(), flow.clone());
        let mut records = machine.step(flow::Timestamp::from_micros(1), &machine::Event::Start).records;
        for _ in 0..edits {
            let edit = machine::Event::Edit { revision: machine.revision(), flow: flow.clone() };
            records.extend(machine.step(flow::Timestamp::from_micros(2), &edit).records);
        }
        assert!(records.len() as u64 > edits, "each edit has a record");
        let logbook = logbook::Memory::new();
        let append = logbook::Append {
            run: "r".parse().unwrap(),
            follows: Version::NONE,
            records,
            info: logbook::RunInfo {
                shard: "s".parse().unwrap(),
                flow: "f".parse().unwrap(),
                state: RunState::Success,
            },
            logs: Vec::new(),
            published: Version::NONE,
            max_unended: logbook::MaxUnended::default(),
            memos: logbook::MemoChanges::default(),
        };
        logbook.append(vec![append]).await.unwrap();
        Arc::new(logbook)
    }

    #[tokio::test]
    async fn a_slow_watcher_has_few_bytes_of_records_in_memory() {
        for (edits, text_bytes, most) in [(40, 300 << 10, 4), (8, 2 << 20, 1), (600, 10, MAX_RECORDS)] {
            let logbook = edited_run(edits, text_bytes).await;
            let summary = logbook.summary(&"r".parse().unwrap()).await.unwrap();
            let mut lines = Lines::open("r".parse().unwrap(), logbook, Arc::new(store::Memory::new())).await.unwrap();
            while lines.replay.version() < summary.version {
                assert!(matches!(lines.read().await.unwrap(), PageRead::Some));
                assert!((1..=most).contains(&lines.records.len()), "{} records", lines.records.len());
                while let Some(record) = lines.records.pop_front() {
                    lines.replay.apply(&record).unwrap();
                }
            }
            assert!(matches!(lines.read().await.unwrap(), PageRead::Nothing));
        }
    }
}
