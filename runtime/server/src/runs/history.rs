//! Reads runs for requests. All requests that need the history of a run, or its machine, read it here.
//!
//! A short run takes little memory: its bytes are known before it is read, and the memory of its machine before the records are applied.
//! Any other run is read in turn, page by page, and no further once its request is dropped. So many requests take neither all memory nor
//! all threads. Records are applied, and answers are made, in threads that may block.

use std::sync::Arc;

use flow::RunId;
use logbook::{AppliedRecord, History, LoadError, Logbook, Page, Replay, Summary, Version};
use machine::{Machine, Record};
use sandbox::Owner;
use tokio::task::spawn_blocking;

use crate::{
    stream_memory,
    turns::{self, Turn},
};

/// The maximum number of records that are read at once: they take milliseconds. A short run has no more.
const PAGE_RECORDS: usize = 500;

/// The maximum bytes that the logbook stores of a short run. As many short runs are in memory as there are connections.
const SHORT_BYTES: u64 = 256 << 10;

/// The maximum memory of the machine of a short run besides its texts and values, in bytes: that of a flow with hundreds of tasks, or
/// of a list with thousands of elements.
const SHORT_MEMORY: u64 = 2 << 20;

/// A run in memory. Unless it is short, it is there in turn: the turn ends with it.
pub(crate) struct LoadedRun {
    machine: Machine,
    turn: Option<Turn>,
}

/// What a request collects from the records of a run while they are applied.
pub(crate) trait Collector: Send + 'static {
    /// The replay starts, with the snapshot of a trim point if the oldest records are deleted. What was collected before belongs to records
    /// that were trimmed meanwhile.
    fn start(&mut self, replay: &Replay);

    /// Adds a record before it is applied, given the machine before it.
    fn add_record(&mut self, record: &Record, machine: Option<&Machine>);

    /// Adds what a record changed, given the machine after it.
    fn add_applied(&mut self, applied: AppliedRecord, machine: &Machine);

    /// Whether no further record is needed.
    fn is_complete(&self) -> bool {
        false
    }
}

/// Collects nothing: only the machine is wanted.
impl Collector for () {
    fn start(&mut self, _: &Replay) {}

    fn add_record(&mut self, _: &Record, _: Option<&Machine>) {}

    fn add_applied(&mut self, _: AppliedRecord, _: &Machine) {}
}

impl LoadedRun {
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Looks at the machine when it is its turn, and keeps it.
    pub(crate) async fn look<Found: Send + 'static>(
        self,
        look: impl FnOnce(&Machine) -> Found + Send + 'static,
    ) -> (Self, Found) {
        let owner = self.machine.flow().name.namespace();
        let look = move || {
            let found = look(&self.machine);
            (self, found)
        };
        turns::in_turn_to_answer(owner, look).await
    }

    /// Makes an answer from the machine when it is its turn. What the answer takes has to be counted by `answer`: others may read their runs
    /// as soon as it has ended.
    pub(crate) async fn answer<Answer: Send + 'static>(
        self,
        answer: impl FnOnce(&Machine) -> Answer + Send + 'static,
    ) -> Answer {
        let owner = self.machine.flow().name.namespace();
        let answer = move || {
            // The machine, which also takes long to be dropped, ends before the turn.
            let Self { turn: _turn, machine } = self;
            answer(&machine)
        };
        turns::in_turn_to_answer(owner, answer).await
    }
}

/// Loads a run as its records are now, from its last snapshot.
///
/// # Errors
/// [`LoadError`] when there is no such run, or it cannot be read.
pub(crate) async fn load_run(logbook: &Arc<dyn Logbook>, run: &RunId) -> Result<LoadedRun, LoadError> {
    let summary = logbook.summary(run).await?;
    let owner = summary.info.flow.namespace();
    let mut turn = turn_of(logbook, &summary).await?;
    let mut history = logbook.load_within(run, PAGE_RECORDS).await?;
    if turn.is_none() && !is_short(&history) {
        // Nothing of it is in memory while it waits.
        drop(history);
        turn = Some(turns::for_history(owner.clone()).await);
        history = logbook.load_within(run, PAGE_RECORDS).await?;
    }
    let (has_turn, latest, logbook) = (turn.is_some(), history.latest, logbook.clone());
    let (run, of_run) = (run.clone(), owner.clone());
    let restore = move || {
        let (replay, records) = Replay::of(history, logbook)?;
        let reading = Reading { run, replay, collector: (), owner: of_run, latest, turn };
        reading.apply(&Page { records, starts_replay: true })
    };
    let reading = if has_turn { in_thread(restore).await? } else { turns::in_turn_to_answer(owner, restore).await? };
    reading.read_all().await.map(|(loaded, ())| loaded)
}

/// Loads a run as [`load_run`] does. The turn, if there is one, is to be kept as long as the machine, unless another turn bounds the
/// machines of its kind.
///
/// # Errors
/// As [`load_run`].
pub(crate) async fn load_machine(
    logbook: &Arc<dyn Logbook>,
    run: &RunId,
) -> Result<(Machine, Option<Turn>), LoadError> {
    let LoadedRun { machine, turn } = load_run(logbook, run).await?;
    Ok((machine, turn))
}

/// Replays all records of a run that the logbook has, for a collector. A run that is long is read until nothing is left, or the collector
/// is complete, a short one up to the version of the summary.
///
/// # Errors
/// [`LoadError`] when there is no such run, or it cannot be read.
pub(crate) async fn replay_run<Collected: Collector>(
    logbook: &Arc<dyn Logbook>,
    summary: &Summary,
    collector: Collected,
) -> Result<(LoadedRun, Collected), LoadError> {
    let turn = turn_of(logbook, summary).await?;
    let (run, owner, latest) = (summary.run.clone(), summary.info.flow.namespace(), summary.version);
    let replay = Replay::new(run.clone(), logbook.clone());
    Reading { run, replay, collector, owner, latest, turn }.read_all().await
}

/// Waits for a turn at reading a run, unless the logbook stores little of it.
async fn turn_of(logbook: &Arc<dyn Logbook>, summary: &Summary) -> Result<Option<Turn>, LoadError> {
    let is_short =
        summary.version.get() <= PAGE_RECORDS as u64 && logbook.stored_bytes(&summary.run).await? <= SHORT_BYTES;
    Ok(if is_short { None } else { Some(turns::for_history(summary.info.flow.namespace()).await) })
}

/// Whether a machine takes little memory once these first records are applied.
fn is_short(history: &History) -> bool {
    let snapshot = history.snapshot.as_ref().map(|(_, snapshot)| snapshot);
    let restored = snapshot.map_or(0, stream_memory::of_snapshot);
    let added = stream_memory::of_records(snapshot.map(|snapshot| &*snapshot.flow), &history.records);
    history.is_complete() && restored.saturating_add(added) <= SHORT_MEMORY
}

/// A run that is being read.
struct Reading<Collected> {
    run: RunId,
    replay: Replay,
    collector: Collected,
    owner: Owner,
    /// The version that the run had at first.
    latest: Version,
    turn: Option<Turn>,
}

impl<Collected: Collector> Reading<Collected> {
    /// Reads and applies the records that are left.
    async fn read_all(mut self) -> Result<(LoadedRun, Collected), LoadError> {
        while !self.is_complete() {
            let page = self.read().await?;
            let is_last = page.records.is_empty();
            if !is_last || page.starts_replay {
                let (owner, has_turn) = (self.owner.clone(), self.turn.is_some());
                let apply = move || self.apply(&page);
                self = if has_turn { in_thread(apply).await? } else { turns::in_turn_to_answer(owner, apply).await? };
            }
            if is_last {
                break;
            }
        }
        let Self { run, replay, collector, turn, .. } = self;
        let machine = replay.into_machine().ok_or(LoadError::Missing { run })?;
        Ok((LoadedRun { machine, turn }, collector))
    }

    /// Whether nothing else is read. The bytes of a run without a turn are known up to its version at first.
    fn is_complete(&self) -> bool {
        let is_at_latest = self.replay.machine().is_some() && self.replay.version() >= self.latest;
        self.collector.is_complete() || (self.turn.is_none() && is_at_latest)
    }

    /// Reads the next page. If it takes more memory than a short run may, it is read again in turn.
    async fn read(&mut self) -> Result<Page, LoadError> {
        if self.turn.is_some() {
            return self.replay.read_at_most(PAGE_RECORDS).await;
        }
        let left = self.latest.get().saturating_sub(self.replay.version().get()).min(PAGE_RECORDS as u64);
        let page = self.replay.read_at_most(usize::try_from(left).unwrap_or(PAGE_RECORDS)).await?;
        if self.is_short_with(&page.records) {
            return Ok(page);
        }
        // Nothing of it is in memory while it waits, but what was applied before: that of a short run.
        let starts_replay = page.starts_replay;
        drop(page);
        self.turn = Some(turns::for_history(self.owner.clone()).await);
        let page = self.replay.read_at_most(PAGE_RECORDS).await?;
        Ok(Page { starts_replay: page.starts_replay || starts_replay, ..page })
    }

    fn is_short_with(&self, records: &[Record]) -> bool {
        let machine = self.replay.machine();
        let restored = machine.map_or(0, stream_memory::of_machine);
        let added = stream_memory::of_records(machine.map(|machine| &**machine.flow()), records);
        // A trim may have overtaken the reader: its snapshot and what follows were not measured.
        self.replay.version().after(records) <= self.latest && restored.saturating_add(added) <= SHORT_MEMORY
    }

    fn apply(mut self, page: &Page) -> Result<Self, LoadError> {
        if page.starts_replay {
            self.collector.start(&self.replay);
        }
        for record in &page.records {
            self.collector.add_record(record, self.replay.machine());
            let applied = self.replay.apply(record)?;
            let machine = self.replay.machine().expect("a record was applied");
            self.collector.add_applied(applied, machine);
        }
        Ok(self)
    }
}

/// Works in a thread of its own, since a large run takes long.
async fn in_thread<Output: Send + 'static>(work: impl FnOnce() -> Output + Send + 'static) -> Output {
    spawn_blocking(work).await.expect("a damaged run is an error and no panic")
}

#[cfg(test)]
mod tests;
