//! The lines of a run, made from its records as `waft run --json` prints them, for watchers over HTTP or in this process.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use api::EventPayload;
use engine::RunChanges;
use flow::{Labels, RunId, RunState};
use logbook::{AppliedRecord, LoadError, Logbook, Page, Replay, Version};
use machine::{Change, Machine, NodeChange, Record};
use protocol::{
    encode_records, encode_snapshot,
    events::{self, RunValues},
};
use store::Store;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use crate::{
    problem::Problem,
    runs::incarnation::Incarnation,
    stream_memory::{self, StreamMemory, StreamsTooLarge},
    turns,
    values::{MAX_BYTES_OF_EVENT, ValueBudget},
};

/// The minimum interval at which records are looked for without a notice: another engine may drive the run.
pub(crate) const MIN_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The maximum of this interval.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The part of a quiet time after which a run is looked at again. Hundreds of pages may show runs that wait for a person for days.
const POLLS_OF_QUIET_TIME: u32 = 10;

/// The first pause after a read that found nothing new, if the run changes soon after it. It doubles with each further such
/// read, so that a watcher receives the changes of a short run at once.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The maximum pause between two reads. A busy run changes a thousand times a second, and no watcher needs each change
/// at once.
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// The part of the maximum pause for each watcher of the run, if together they are longer than [`MAX_PAUSE`]. So all watchers of a run wake
/// 400 times a second together at most, however many they are, and 256 watchers pause for two thirds of a second at most.
const PAUSE_OF_WATCHER: Duration = Duration::from_micros(2_500);

/// The number of records that are read first. While they are small, it doubles with each read.
const FIRST_RECORDS: usize = 16;

/// The maximum number of records that are read at once, and kept until the watcher has received the lines of those before.
const MAX_RECORDS: usize = 256;

/// The maximum size of the records that are kept, in bytes as the logbook has them; a larger record is kept alone. Each watcher may be
/// slow, and there may be as many as event streams.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// The memory of the nodes that a record may make where other tasks wait meanwhile, in bytes: it takes about a millisecond.
const MAX_APPLIED_INLINE: u64 = 1 << 20;

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
    /// The records that an engine of this process appends to the run.
    changes: Option<RunChanges>,
    pacing: Pacing,
    /// When there were new records last.
    changed_at: Instant,
    /// The records that were read and not applied: their lines are made when the watcher has received the lines before.
    records: VecDeque<Record>,
    /// The maximum number of records of the next read.
    next_records: usize,
    waiting: VecDeque<Line>,
    /// The memory of an event stream; `None` in a process that has only these lines.
    memory: Option<StreamMemory>,
    /// The size of a snapshot of the machine when it was measured last, in bytes. Its texts and values have no more.
    measured: u64,
    /// The size of the records since then, in bytes as the logbook has them.
    unmeasured: u64,
}

/// Why the lines of a run end before the run.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    /// The records cannot be read, or were deleted with their run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// What the stream would keep of the run is too much.
    #[error(transparent)]
    Memory(#[from] StreamsTooLarge),
}

impl From<LinesError> for Problem {
    fn from(error: LinesError) -> Self {
        match error {
            LinesError::Load(error) => error.into(),
            LinesError::Memory(error) => Self::unavailable(error.to_string())
                .hint("close some, try again later, or read the state of the run from time to time"),
        }
    }
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
        let (memory, measured, unmeasured) = (None, 0, 0);
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
            changed_at: Instant::now(),
            records,
            next_records,
            waiting,
            memory,
            measured,
            unmeasured,
        })
    }

    /// Skips the lines up to a position.
    pub(crate) fn after(self, position: EventPosition) -> Self {
        Self { position, ..self }
    }

    /// Reads at once after an engine of this process has changed the run, instead of only after an interval.
    pub(crate) fn with_notices(self, changes: RunChanges) -> Self {
        Self { changes: Some(changes), ..self }
    }

    /// Keeps no more in memory than the stream may.
    pub(crate) fn within(self, memory: Option<StreamMemory>) -> Self {
        Self { memory, ..self }
    }

    /// The run's id.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Waits for the next line; returns `None` after the last line of an ended run.
    ///
    /// # Errors
    /// [`LinesError`] when the records cannot be read, or were deleted with their run, or the stream would keep too much of the run.
    pub async fn next(&mut self) -> Result<Option<Line>, LinesError> {
        loop {
            if let Some(line) = self.next_received() {
                return Ok(Some(line));
            }
            match self.step().await? {
                PageRead::Some => {}
                PageRead::Nothing if self.replay.machine().is_some_and(|machine| machine.state().is_final()) => {
                    return Ok(None);
                }
                PageRead::Nothing => {
                    let read_at = Instant::now();
                    until_changed(&mut self.changes, poll_interval(self.changed_at.elapsed())).await;
                    let watchers = self.changes.as_ref().map_or(1, RunChanges::subscribers);
                    let pause_ends = read_at + self.pacing.pause(read_at.elapsed(), watchers);
                    match &mut self.changes {
                        Some(changes) => {
                            // Whoever waits for the end of the run gets it at once.
                            let _ = timeout_at(pause_ends, changes.ended()).await;
                            // The next read finds all changes so far.
                            changes.mark_unchanged();
                        }
                        None => sleep_until(pause_ends).await,
                    }
                }
            }
        }
    }

    /// Reads until there is a line or nothing more to read, for about this time at most.
    ///
    /// # Errors
    /// As [`Lines::next`].
    pub(crate) async fn catch_up(&mut self, most: Duration) -> Result<(), LinesError> {
        let begun = Instant::now();
        while self.waiting.is_empty() && begun.elapsed() < most {
            match self.step().await? {
                PageRead::Some => {}
                PageRead::Nothing => break,
            }
        }
        Ok(())
    }

    /// Applies the next record that was read, or reads more.
    async fn step(&mut self) -> Result<PageRead, LinesError> {
        let Some(record) = self.records.pop_front() else { return self.read().await };
        let applied = self.apply(record).await?;
        self.add_lines(applied).await;
        Ok(PageRead::Some)
    }

    /// Applies a record. If it makes many nodes, an event stream waits for its turn, and applies it in a thread that may block.
    async fn apply(&mut self, record: Record) -> Result<AppliedRecord, LoadError> {
        let flow = self.replay.machine().map(|machine| &**machine.flow());
        let is_large = stream_memory::of_records(flow, std::slice::from_ref(&record)) > MAX_APPLIED_INLINE;
        let Some(owner) = self.memory.as_ref().filter(|_| is_large).map(StreamMemory::owner) else {
            return self.replay.apply(&record);
        };
        let mut replay = self.take_replay();
        let apply = move || {
            let applied = replay.apply(&record);
            (replay, applied)
        };
        let (replay, applied) = turns::in_turn_to_answer(owner, apply).await;
        self.replay = replay;
        applied
    }

    /// Takes the replay to a thread. It has to be put back: another one without records is in its place.
    fn take_replay(&mut self) -> Replay {
        std::mem::replace(&mut self.replay, Replay::new(self.run.clone(), self.logbook.clone()))
    }

    /// The next line, if it has been read already.
    pub fn next_received(&mut self) -> Option<Line> {
        self.waiting.pop_front()
    }

    /// Reads a page of records.
    async fn read(&mut self) -> Result<PageRead, LinesError> {
        // Few streams read at the same time: what is read is in memory before it is known how much it is.
        let _turn = match &self.memory {
            Some(memory) => Some(memory.turn().await),
            None => None,
        };
        let Page { mut records, starts_replay } = self.replay.read_at_most(self.next_records).await?;
        if starts_replay {
            self.measure().await;
        }
        if !records.is_empty() {
            self.changed_at = Instant::now();
            let kept = keep_first(&mut records);
            self.next_records = kept.next;
            self.unmeasured += kept.bytes as u64;
        }
        self.take_memory(&records).await?;
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

    /// Takes the memory for the machine, and for these records until and after the machine applies them.
    async fn take_memory(&mut self, records: &[Record]) -> Result<(), LinesError> {
        let mut bytes = self.bytes_with(records);
        let Some(memory) = &self.memory else { return Ok(()) };
        // The values of many records are replaced by later ones. The size of the machine is measured again whenever it has doubled.
        if memory.is_exceeded_by(bytes) && self.unmeasured > self.measured {
            let unapplied = encode_records(records).len() as u64;
            self.measure().await;
            self.unmeasured = unapplied;
            bytes = self.bytes_with(records);
        }
        match &mut self.memory {
            Some(memory) => Ok(memory.resize(bytes)?),
            None => Ok(()),
        }
    }

    /// The memory of the machine with these records, in bytes.
    fn bytes_with(&self, records: &[Record]) -> u64 {
        let machine = self.replay.machine();
        let nodes = machine.map_or(0, stream_memory::of_machine);
        let added = stream_memory::of_records(machine.map(|machine| &**machine.flow()), records);
        [nodes, added, self.measured, self.unmeasured].into_iter().fold(0, u64::saturating_add)
    }

    /// Measures the texts and values of the machine.
    async fn measure(&mut self) {
        (self.measured, self.unmeasured) = (0, 0);
        if self.memory.is_some() {
            let replay = self.take_replay();
            let measure = move || {
                let bytes_of = |machine: &Machine| match encode_snapshot(&machine.snapshot()) {
                    Ok(bytes) => bytes.len() as u64,
                    Err(_) => machine.snapshot_bytes(),
                };
                let bytes = replay.machine().map_or(0, bytes_of);
                (replay, bytes)
            };
            (self.replay, self.measured) = spawn_blocking(measure).await.expect("encoding does not panic");
        }
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

/// The records that a watcher keeps of those that were read.
struct KeptRecords {
    /// Their size in bytes.
    bytes: usize,
    /// The number to read next, so that few records are read in vain.
    next: usize,
}

/// Keeps the first records, as many as a watcher may have: the others are read again.
fn keep_first(records: &mut Vec<Record>) -> KeptRecords {
    let (mut bytes, mut kept) = (0, 0);
    for record in &*records {
        let size = encode_records(std::slice::from_ref(record)).len();
        if kept > 0 && bytes + size > MAX_RECORD_BYTES {
            break;
        }
        (bytes, kept) = (bytes + size, kept + 1);
    }
    let next = if kept < records.len() { kept } else { (2 * kept).min(MAX_RECORDS) };
    records.truncate(kept);
    KeptRecords { bytes, next }
}

/// The pauses between the reads of a watcher.
#[derive(Debug, Default)]
struct Pacing(Duration);

impl Pacing {
    /// The pause between a read and the next one, if the run changed this long after the read and has so many watchers.
    fn pause(&mut self, unchanged: Duration, watchers: usize) -> Duration {
        let of_watchers = PAUSE_OF_WATCHER.saturating_mul(u32::try_from(watchers).unwrap_or(u32::MAX));
        let longest = MAX_PAUSE.max(of_watchers);
        self.0 = if unchanged > MAX_PAUSE { Duration::ZERO } else { (self.0 * 2).clamp(FIRST_PAUSE, longest) };
        self.0
    }
}

/// The interval at which a run is looked at that has not changed for so long.
fn poll_interval(unchanged: Duration) -> Duration {
    (unchanged / POLLS_OF_QUIET_TIME).clamp(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL)
}

/// Waits until a run may have new records, for an interval at most.
pub(crate) async fn until_changed(changes: &mut Option<RunChanges>, interval: Duration) {
    let ours = async {
        match changes {
            Some(changes) => changes.changed().await,
            None => std::future::pending().await,
        }
    };
    // Another engine may drive the run, so it is read again after the interval in any case.
    let _ = timeout(interval, ours).await;
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
mod tests;
