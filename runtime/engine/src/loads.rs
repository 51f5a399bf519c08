//! Reads runs from the logbook. The driver reads a run with few records itself. One with many, or with large ones, is read beside it:
//! the driver would stand still for seconds.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use flow::{Flow, Labels, Namespace, RunId};
use logbook::{History, LoadError, Logbook, Page, Replay, RunInfo, Version};
use machine::{Change, Fact, Record};
use tokio::task::{AbortHandle, Id, JoinSet};
use traces::RunTrace;

use crate::{
    bug::catch_bug,
    publications::PublishedChange,
    runs::active::ActiveRun,
    turns::{Turn, Turns},
};

/// The number of records after a snapshot that the driver reads itself: some milliseconds.
pub(crate) const MAX_INLINE_RECORDS: usize = 2_000;

/// The bytes of a snapshot and of the records after it that the driver reads itself: some tens of milliseconds.
pub(crate) const MAX_INLINE_BYTES: u64 = 1 << 20;

/// The number of nodes and list elements in a snapshot that the driver restores itself.
const MAX_INLINE_NODES: usize = 10_000;

/// Maximum number of runs that are read at the same time; each may take some hundred megabytes.
const MAX_LOADS: usize = 2;

/// The runs that are read beside the driver.
pub(crate) struct Loads {
    logbook: Arc<dyn Logbook>,
    running: JoinSet<Result<LoadedRun, LoadError>>,
    /// The run of each load. A load that panics returns only its id.
    runs: HashMap<Id, RunId>,
    /// The runs that are read next, in turns of their namespaces.
    waiting: Turns<Option<Namespace>, VecDeque<RunId>>,
}

/// A run that takes long to read.
pub(crate) struct LongRun {
    pub(crate) info: RunInfo,
    pub(crate) latest: Version,
    /// Its first records, if they are small.
    pub(crate) history: Option<History>,
}

/// A load that is under way. It is stopped when this value is dropped.
pub(crate) struct RunningLoad {
    id: Id,
    task: AbortHandle,
}

impl RunningLoad {
    pub(crate) fn id(&self) -> Id {
        self.id
    }
}

impl Drop for RunningLoad {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A run at the end of its records.
pub(crate) struct LoadedRun {
    pub(crate) active: ActiveRun,
    /// The changes that are not known to be published; `None` if all are.
    pub(crate) unpublished: Option<Vec<PublishedChange>>,
    /// The changes that its watcher has not received.
    pub(crate) unwatched: Vec<Change>,
}

impl LoadedRun {
    /// A run whose changes were all sent.
    pub(crate) fn of(active: ActiveRun) -> Self {
        Self { active, unpublished: None, unwatched: Vec::new() }
    }
}

/// The changes of a run that were sent before the run is read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SendState {
    /// The version up to which its changes were sent, including those to its watcher.
    pub(crate) sent: Version,
    pub(crate) has_watcher: bool,
}

impl SendState {
    /// The version after which changes are needed.
    fn first_unsent(self, published: Version) -> Version {
        if self.has_watcher { self.sent } else { published.max(self.sent) }
    }
}

/// A load that has ended.
pub(crate) struct EndedLoad {
    pub(crate) id: Id,
    pub(crate) run: RunId,
    pub(crate) result: Result<LoadedRun, LoadError>,
}

impl Loads {
    pub(crate) fn new(logbook: Arc<dyn Logbook>) -> Self {
        Self { logbook, running: JoinSet::new(), runs: HashMap::new(), waiting: Turns::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether another run may be read now.
    pub(crate) fn has_room(&self) -> bool {
        self.running.len() < MAX_LOADS
    }

    /// Whether a run that comes now may be read at once: it overtakes none that waits.
    pub(crate) fn may_begin(&self) -> bool {
        self.has_room() && self.waiting.is_empty()
    }

    /// Reads a run. Continues its history, if the first records were read.
    pub(crate) fn start(&mut self, run: &RunId, history: Option<History>, send_state: SendState) -> RunningLoad {
        let (logbook, of) = (self.logbook.clone(), run.clone());
        let task = self.running.spawn(async move {
            let history = match history {
                Some(history) => history,
                None => logbook.load_within(&of, MAX_INLINE_RECORDS).await?,
            };
            read(logbook, history, send_state).await
        });
        self.runs.insert(task.id(), run.clone());
        RunningLoad { id: task.id(), task }
    }

    /// Lets a run wait until there is room to read it.
    pub(crate) fn wait(&mut self, namespace: Option<Namespace>, run: RunId) {
        self.waiting.entry(namespace).push_back(run);
    }

    /// Takes the run that has the next turn, whether or not it still has to be read.
    pub(crate) fn next_waiting(&mut self) -> Option<RunId> {
        self.waiting.take(|runs| {
            let run = runs.pop_front();
            (run, if runs.is_empty() { Turn::WasLast } else { Turn::IsOver })
        })
    }

    /// The next load that ends; `None` when none is running. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<EndedLoad> {
        loop {
            let (id, result) = match self.running.join_next_with_id().await? {
                Ok((id, result)) => (id, result.map_err(LoadFailure::Error)),
                Err(lost) if lost.is_cancelled() => (lost.id(), Err(LoadFailure::Stopped)),
                Err(lost) => (lost.id(), Err(LoadFailure::Bug(lost.to_string()))),
            };
            let Some(run) = self.runs.remove(&id) else { continue };
            let result = match result {
                Ok(loaded) => Ok(loaded),
                Err(LoadFailure::Error(error)) => Err(error),
                Err(LoadFailure::Bug(reason)) => Err(LoadError::Damaged { run: run.clone(), reason }),
                Err(LoadFailure::Stopped) => continue,
            };
            return Some(EndedLoad { id, run, result });
        }
    }
}

/// Why a load has no result.
enum LoadFailure {
    /// The run cannot be read, or not yet.
    Error(LoadError),
    /// Its task panicked.
    Bug(String),
    /// Nobody needs it any more.
    Stopped,
}

/// The flow of a run as far as it is known before all records are read: an edit may have changed it since.
pub(crate) fn known_flow(history: &History) -> Option<&Flow> {
    match (&history.snapshot, history.records.first().map(|record| &record.fact)) {
        (Some((_, snapshot)), _) => Some(&snapshot.flow),
        (None, Some(Fact::RunStarted { flow, .. })) => Some(flow),
        (None, _) => None,
    }
}

/// Whether it takes more than some milliseconds to read a run, given its first records.
pub(crate) fn is_long(history: &History, send_state: SendState) -> bool {
    let snapshot = history.snapshot.as_ref().map_or(Version::NONE, |(version, _)| *version);
    let replays_all = snapshot > send_state.first_unsent(history.published);
    let nodes = history.snapshot.as_ref().map_or(0, |(_, snapshot)| snapshot.size());
    !history.is_complete()
        || nodes > MAX_INLINE_NODES
        || (replays_all && history.latest.get() > MAX_INLINE_RECORDS as u64)
}

/// Builds a run in memory from its history, whose missing records are read page by page.
///
/// # Errors
/// [`LoadError`] when records cannot be read, or do not fit together.
pub(crate) async fn read(
    logbook: Arc<dyn Logbook>,
    history: History,
    send_state: SendState,
) -> Result<LoadedRun, LoadError> {
    let (run, shard, latest) = (history.run.clone(), history.info.shard.clone(), history.latest);
    let snapshot = history.snapshot.as_ref().map_or(Version::NONE, |(version, _)| *version);
    let SendState { sent, has_watcher } = send_state;
    let (published, first) = (history.published.max(sent), send_state.first_unsent(history.published));
    let mut trace = trace_of(&*logbook, &history).await;
    let restored = catch_bug(&run, "reading it", || Replay::of(history, logbook.clone()));
    let (mut replay, mut records) = restored.map_err(|reason| LoadError::Damaged { run: run.clone(), reason })??;
    let mut changes = Vec::new();
    loop {
        for record in &records {
            note_times(&mut trace, record);
            let applied = replay.apply(record)?;
            if applied.version > first {
                changes.extend(applied.changes.into_iter().map(|change| (applied.version, change)));
            }
        }
        if replay.version() >= latest {
            break;
        }
        // The page may come without a pause, and other tasks need this thread too.
        tokio::task::yield_now().await;
        let page = replay.read().await?;
        if page.starts_replay {
            // Trimmed records were published.
            changes.clear();
        }
        records = page.records;
        if records.is_empty() {
            break;
        }
    }
    let version = replay.version();
    if snapshot > first && version > first {
        // The snapshot was saved before all changes up to it were sent.
        changes = replay_changes(&logbook, &run, first, version).await?;
    }
    let missing = || LoadError::Missing { run: run.clone() };
    let active = ActiveRun::new(replay.into_machine().ok_or_else(missing)?, version, snapshot, shard);
    let active = ActiveRun { trace, ..active };
    let after = |after: Version| changes.iter().filter(move |(version, _)| *version > after).map(|(_, change)| change);
    let unpublished = (version > published).then(|| after(published).filter_map(PublishedChange::of).collect());
    let unwatched = if has_watcher { after(sent).cloned().collect() } else { Vec::new() };
    Ok(LoadedRun { active, unpublished, unwatched })
}

/// The trace of a run that is read; `None` if nothing is traced. Its labels are in its first record, which is not read if there is a
/// snapshot.
async fn trace_of(logbook: &dyn Logbook, history: &History) -> Option<Box<RunTrace>> {
    traces::global()?;
    let fires_often = known_flow(history).is_some_and(|flow| flow.triggers.is_some());
    if history.snapshot.is_none()
        && let Some(Fact::RunStarted { labels, .. }) = history.records.first().map(|record| &record.fact)
    {
        return RunTrace::of(&history.run, labels, fires_often);
    }
    let summary = logbook.summary(&history.run).await.ok();
    // A run never waits for its trace: without its labels, it goes on in a trace of its own.
    let labels = summary.as_ref().map_or_else(Labels::default, |summary| summary.labels.clone());
    let mut trace = RunTrace::of(&history.run, &labels, fires_often)?;
    if let Some(summary) = summary {
        trace.start(summary.started_at);
    }
    Some(trace)
}

/// Notes when the run and its firings began.
fn note_times(trace: &mut Option<Box<RunTrace>>, record: &Record) {
    let Some(trace) = trace else { return };
    if let Fact::RunStarted { .. } = &record.fact {
        trace.start(record.at);
    } else if let Fact::Triggered { firing, .. } = &record.fact {
        trace.trigger(*firing, record.at);
    } else if let (Fact::RunStateChanged { state }, Some(firing)) = (&record.fact, record.firing)
        && state.is_final()
    {
        trace.forget(firing);
    }
}

/// Replays all records of a run and returns its changes between two versions.
async fn replay_changes(
    logbook: &Arc<dyn Logbook>,
    run: &RunId,
    after: Version,
    until: Version,
) -> Result<Vec<(Version, Change)>, LoadError> {
    let mut replay = Replay::new(run.clone(), logbook.clone());
    let mut changes = Vec::new();
    loop {
        // Records that are trimmed meanwhile have been published, so that none of them is missed here.
        let Page { records, .. } = replay.read().await?;
        if records.is_empty() {
            return Ok(changes);
        }
        for record in &records {
            let applied = replay.apply(record)?;
            if applied.version > until {
                return Ok(changes);
            }
            if applied.version > after {
                changes.extend(applied.changes.into_iter().map(|change| (applied.version, change)));
            }
        }
        tokio::task::yield_now().await;
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn namespaces_take_turns_whatever_the_ids_of_their_runs_are() {
        let mut loads = Loads::new(Arc::new(logbook::Memory::new()));
        let mut wait = |namespace: &str, run: &str| {
            let namespace = Namespace::new(namespace).expect("a valid name");
            loads.wait(Some(namespace), run.parse().expect("a valid name"));
        };
        for number in 0..200 {
            wait("a", &format!("{number:04}"));
        }
        wait("b", "z");
        assert!(loads.has_room() && !loads.may_begin(), "a run that comes now waits behind them");
        let order: Vec<String> = std::iter::from_fn(|| loads.next_waiting()).map(|run| run.to_string()).collect();
        assert_eq!(order[..4], ["0000", "z", "0001", "0002"]);
        assert_eq!(order.len(), 201);
        assert!(loads.may_begin());
    }
}
