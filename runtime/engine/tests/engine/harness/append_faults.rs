//! Appends that are held or fail, as a test wants it.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use flow::RunId;
use logbook::{Append, AppendError, LoadError, intercepted::AppendInterceptor};
use machine::Record;
use tokio::sync::{Notify, Semaphore};

/// How an append fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is written.
    NotWritten,
    /// All is written, and the answer is lost.
    WrittenUnconfirmed,
}

/// The names of the facts of one append, each with its run.
pub(crate) type Batch = Vec<(RunId, &'static str)>;

/// An append interceptor that can hold appends and make them fail.
pub(crate) struct AppendFaults {
    fault: Mutex<Option<Fault>>,
    append_permits: Semaphore,
    held: Mutex<bool>,
    append_requested: Notify,
    /// The run at whose next append the engine stops, and when.
    stop: Mutex<Option<(RunId, StopPoint)>>,
    stopped: Notify,
    /// Whether the running append is the one to stop at.
    stop_after_append: AtomicBool,
    /// All records of a run that were appended.
    captured: Mutex<Option<(RunId, Vec<Record>)>>,
    /// The facts of each append, each with its run.
    batches: Mutex<Option<Vec<Batch>>>,
    /// How often a run was loaded.
    loads: AtomicUsize,
    /// Whether a load returns one record only, as if the run had many.
    runs_are_long: AtomicBool,
    /// The permits to read further records while reads are held.
    read_permits: Semaphore,
    reads_held: AtomicBool,
    /// What happens to lookups of remembered results.
    lookups: Mutex<Lookups>,
    /// The runs that cannot be loaded, although the logbook answers.
    unreadable: Mutex<BTreeSet<RunId>>,
    /// The runs whose records are damaged.
    damaged: Mutex<BTreeSet<RunId>>,
}

/// What happens to lookups of remembered results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Lookups {
    /// They are answered.
    #[default]
    Answered,
    /// They fail.
    Failing,
    /// They are never answered.
    Hanging,
}

/// When an engine stops at an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopPoint {
    /// Before it is written.
    Before,
    /// After it is written, but before any of its messages is sent.
    After,
}

impl Default for AppendFaults {
    fn default() -> Self {
        Self {
            fault: Mutex::default(),
            append_permits: Semaphore::new(0),
            held: Mutex::new(false),
            append_requested: Notify::new(),
            stop: Mutex::default(),
            stopped: Notify::new(),
            stop_after_append: AtomicBool::new(false),
            captured: Mutex::default(),
            batches: Mutex::default(),
            loads: AtomicUsize::new(0),
            runs_are_long: AtomicBool::new(false),
            read_permits: Semaphore::new(0),
            reads_held: AtomicBool::new(false),
            lookups: Mutex::default(),
            unreadable: Mutex::default(),
            damaged: Mutex::default(),
        }
    }
}

impl AppendFaults {
    pub(crate) fn fail_next(&self, fault: Fault) {
        *self.fault.lock().unwrap() = Some(fault);
    }

    pub(crate) fn hold(&self) {
        *self.held.lock().unwrap() = true;
    }

    pub(crate) fn release(&self) {
        *self.held.lock().unwrap() = false;
        self.append_permits.add_permits(1);
    }

    /// Copies all records of a run from now on.
    pub(crate) fn copy(&self, run: &str) {
        *self.captured.lock().unwrap() = Some((run.parse().unwrap(), Vec::new()));
    }

    /// Notes the facts of each append from now on.
    pub(crate) fn note_batches(&self) {
        *self.batches.lock().unwrap() = Some(Vec::new());
    }

    pub(crate) fn batches(&self) -> Vec<Batch> {
        self.batches.lock().unwrap().clone().unwrap_or_default()
    }

    /// From now on each run has many records, and none after the first is read before [`Self::release_reads`].
    pub(crate) fn hold_reads(&self) {
        self.runs_are_long.store(true, Ordering::Relaxed);
        self.reads_held.store(true, Ordering::Relaxed);
    }

    pub(crate) fn release_reads(&self) {
        self.reads_held.store(false, Ordering::Relaxed);
        self.read_permits.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// How often runs were loaded.
    pub(crate) fn loads(&self) -> usize {
        self.loads.load(Ordering::Relaxed)
    }

    pub(crate) fn captured(&self) -> Vec<Record> {
        self.captured.lock().unwrap().as_ref().map(|(_, records)| records.clone()).unwrap_or_default()
    }

    /// Stops the engine for ever at the next append of a run.
    pub(crate) fn stop_at(&self, run: &str, moment: StopPoint) {
        *self.stop.lock().unwrap() = Some((run.parse().unwrap(), moment));
    }

    pub(crate) async fn until_stopped(&self) {
        self.stopped.notified().await;
    }

    /// Later appends no longer stop.
    pub(crate) fn resume(&self) {
        *self.stop.lock().unwrap() = None;
    }

    async fn stop_if(&self, stops: impl Fn(&(RunId, StopPoint)) -> bool) {
        if self.stop.lock().unwrap().as_ref().is_some_and(stops) {
            self.stopped.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// Lets loads of these runs fail, and no others.
    pub(crate) fn set_unreadable(&self, runs: &[&str]) {
        *self.unreadable.lock().unwrap() = runs.iter().map(|run| run.parse().unwrap()).collect();
    }

    /// Lets the records of these runs be damaged, and of no others.
    pub(crate) fn set_damaged(&self, runs: &[&str]) {
        *self.damaged.lock().unwrap() = runs.iter().map(|run| run.parse().unwrap()).collect();
    }

    pub(crate) fn set_lookups(&self, lookups: Lookups) {
        *self.lookups.lock().unwrap() = lookups;
    }

    pub(crate) async fn wait_for_append(&self) {
        self.append_requested.notified().await;
    }

    fn fails(&self, fault: Fault) -> Result<(), AppendError> {
        let mut planned = self.fault.lock().unwrap();
        if *planned != Some(fault) {
            return Ok(());
        }
        *planned = None;
        Err(AppendError::Unavailable { reason: "as the test wants it".into() })
    }
}

#[async_trait]
impl AppendInterceptor for AppendFaults {
    async fn before(&self, appends: &[Append]) -> Result<(), AppendError> {
        self.append_requested.notify_one();
        let is_of = |run: &RunId| appends.iter().any(|append| append.run == *run);
        self.stop_if(|(run, moment)| *moment == StopPoint::Before && is_of(run)).await;
        let stops = self.stop.lock().unwrap().as_ref().is_some_and(|(run, _)| is_of(run));
        self.stop_after_append.store(stops, Ordering::Relaxed);
        let held = *self.held.lock().unwrap();
        if held {
            self.append_permits.acquire().await.expect("the semaphore is open").forget();
        }
        if let Some((run, records)) = &mut *self.captured.lock().unwrap() {
            let of_run = appends.iter().filter(|append| append.run == *run);
            records.extend(of_run.flat_map(|append| append.records.clone()));
        }
        if let Some(batches) = &mut *self.batches.lock().unwrap() {
            let facts = appends
                .iter()
                .flat_map(|append| append.records.iter().map(|record| (append.run.clone(), record.fact.name())));
            batches.push(facts.collect());
        }
        self.fails(Fault::NotWritten)
    }

    fn on_load(&self, run: &RunId) -> Result<(), LoadError> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        if self.damaged.lock().unwrap().contains(run) {
            return Err(LoadError::Damaged { run: run.clone(), reason: "as the test wants it".into() });
        }
        match self.unreadable.lock().unwrap().contains(run) {
            true => Err(LoadError::Unavailable { reason: "its records are too large for the database".into() }),
            false => Ok(()),
        }
    }

    fn max_loaded_records(&self) -> usize {
        if self.runs_are_long.load(Ordering::Relaxed) { 1 } else { usize::MAX }
    }

    async fn before_lookup(&self) -> Result<(), LoadError> {
        let lookups = *self.lookups.lock().unwrap();
        match lookups {
            Lookups::Answered => Ok(()),
            Lookups::Failing => Err(LoadError::Unavailable { reason: "as the test wants it".into() }),
            Lookups::Hanging => std::future::pending().await,
        }
    }

    async fn before_read(&self) {
        if self.reads_held.load(Ordering::Relaxed) {
            self.read_permits.acquire().await.expect("the semaphore is open").forget();
        }
    }

    async fn after(&self) -> Result<(), AppendError> {
        self.stop_if(|_| self.stop_after_append.load(Ordering::Relaxed)).await;
        self.fails(Fault::WrittenUnconfirmed)
    }
}
