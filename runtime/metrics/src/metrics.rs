//! The metrics of a process: what can be counted and measured.

use std::{
    collections::BTreeMap,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use flow::{Action, FlowName, NodeName, RunState, Shard};

use crate::{
    cells::{Counter, Gauge, Histogram},
    labels::{AttemptOutcome, Cache, Retried, RollbackOutcome, SpanOutcome},
    named::Named,
    names::{self, Definition, OTHER},
    text::Writer,
};

/// The maximum number of flows, and of tasks, that have series of their own, unless an operator sets another.
pub const DEFAULT_MAX_NAMES: usize = 1_000;

/// The final states of a run.
const FINAL_STATES: [RunState; 3] = [RunState::Success, RunState::Failure, RunState::RolledBack];

/// The ends of runs, or of firings, by flow and state.
type Ends = Named<FlowName, { FINAL_STATES.len() }>;

/// The actions of a call.
const ACTIONS: [Action; 2] = [Action::Apply, Action::Rollback];

/// What a queue holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLength {
    /// Its name at the broker.
    pub queue: String,
    /// The number of messages that wait.
    pub messages: u64,
    /// The number of its consumers.
    pub consumers: u64,
}

/// What the slots of a worker do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotCounts {
    /// Slots with a call that computes.
    pub computing: usize,
    /// Calls that wait without a slot, for something outside or for a slot.
    pub waiting: usize,
    /// Slots without a call.
    pub free: usize,
}

/// What this process uses.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ProcessUsage {
    /// CPU time.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub resident: u64,
    /// Virtual memory, in bytes.
    pub virtual_memory: u64,
    /// The number of threads.
    pub threads: u64,
    /// The number of open file descriptors.
    pub open_files: u64,
    /// Their maximum; `None` if there is none.
    pub max_open_files: Option<u64>,
}

/// Counts the slots of some queues of a worker; `None` once the worker has ended.
type SlotSource = Box<dyn Fn() -> Option<SlotCounts> + Send + Sync>;

/// Counts and measures. Each method is cheap, and may be called from any thread.
pub struct Metrics {
    version: String,
    started_at: SystemTime,
    max_names: AtomicUsize,
    runs: Ends,
    open_runs: Gauge,
    firings: Ends,
    attempts: Named<(FlowName, NodeName), { AttemptOutcome::ALL.len() }>,
    retries: [Counter; Retried::ALL.len()],
    rollbacks: [Counter; RollbackOutcome::ALL.len()],
    schedule_delay: Histogram,
    oldest_call: Gauge,
    held_permits: Gauge,
    awaited_permits: Gauge,
    leases: Gauge,
    expired_leases: Counter,
    append: Histogram,
    shards: Mutex<BTreeMap<Shard, bool>>,
    queues: Mutex<Vec<QueueLength>>,
    attempt: [Histogram; ACTIONS.len()],
    queue_wait: Histogram,
    slots: Mutex<Vec<SlotSource>>,
    guest_memory: Histogram,
    compile: Histogram,
    cache_hits: [Counter; Cache::ALL.len()],
    cache_misses: Counter,
    publish_confirm: Histogram,
    spans: [Counter; SpanOutcome::ALL.len()],
    process: Mutex<Option<ProcessUsage>>,
}

/// The metrics of this process.
#[must_use]
pub fn global() -> &'static Metrics {
    static GLOBAL: LazyLock<Metrics> = LazyLock::new(|| Metrics::new(env!("CARGO_PKG_VERSION")));
    &GLOBAL
}

impl Metrics {
    /// Metrics of a version of waft, all zero.
    #[must_use]
    pub fn new(version: &str) -> Self {
        let histogram = Histogram::of;
        Self {
            version: version.to_owned(),
            started_at: SystemTime::now(),
            max_names: AtomicUsize::new(DEFAULT_MAX_NAMES),
            runs: Named::new(),
            open_runs: Gauge::default(),
            firings: Named::new(),
            attempts: Named::new(),
            retries: Default::default(),
            rollbacks: Default::default(),
            schedule_delay: histogram(&names::SCHEDULE_DELAY),
            oldest_call: Gauge::default(),
            held_permits: Gauge::default(),
            awaited_permits: Gauge::default(),
            leases: Gauge::default(),
            expired_leases: Counter::default(),
            append: histogram(&names::APPEND),
            shards: Mutex::default(),
            queues: Mutex::default(),
            attempt: std::array::from_fn(|_| histogram(&names::ATTEMPT)),
            queue_wait: histogram(&names::QUEUE_WAIT),
            slots: Mutex::default(),
            guest_memory: histogram(&names::GUEST_MEMORY),
            compile: histogram(&names::COMPILE),
            cache_hits: Default::default(),
            cache_misses: Counter::default(),
            publish_confirm: histogram(&names::PUBLISH_CONFIRM),
            spans: Default::default(),
            process: Mutex::default(),
        }
    }

    /// Sets the maximum number of flows, and of tasks, that have series of their own. Others count together.
    pub fn set_max_names(&self, max: usize) {
        self.max_names.store(max, Relaxed);
    }
}

/// What an engine counts.
impl Metrics {
    /// A run has ended. Other states are not counted.
    pub fn count_run(&self, flow: &FlowName, state: RunState) {
        self.count_end(&self.runs, flow, state);
    }

    /// A firing of a run that fires more than once has ended. Other states are not counted.
    pub fn count_firing(&self, flow: &FlowName, state: RunState) {
        self.count_end(&self.firings, flow, state);
    }

    fn count_end(&self, ends: &Ends, flow: &FlowName, state: RunState) {
        let Some(state) = FINAL_STATES.iter().position(|other| *other == state) else { return };
        // Its series would have the labels of all others.
        if flow.as_str() == OTHER {
            return ends.count_other(state);
        }
        ends.count([(flow.clone(), state)].into_iter(), self.max_names.load(Relaxed), Instant::now());
    }

    /// Attempts of tasks of a flow have ended. All of them take one lock, and none if there are none.
    pub fn count_attempts<'a>(
        &self,
        flow: &FlowName,
        attempts: impl IntoIterator<Item = (&'a NodeName, AttemptOutcome)>,
    ) {
        let attempts = attempts.into_iter();
        if flow.as_str() == OTHER {
            return attempts.for_each(|(_, outcome)| self.attempts.count_other(outcome as usize));
        }
        // Cloning a name allocates nothing.
        let named = attempts.map(|(task, outcome)| ((flow.clone(), task.clone()), outcome as usize));
        self.attempts.count(named, self.max_names.load(Relaxed), Instant::now());
    }

    /// Something failed, and another attempt follows.
    pub fn count_retry(&self, of: Retried) {
        self.retries[of as usize].add(1);
    }

    /// A rollback of a task has ended.
    pub fn count_rollback(&self, outcome: RollbackOutcome) {
        self.rollbacks[outcome as usize].add(1);
    }

    /// A schedule has fired this long after its time.
    pub fn observe_schedule_delay(&self, delay: Duration) {
        self.schedule_delay.observe_time(delay);
    }

    /// The number of runs that are driven here.
    pub fn set_open_runs(&self, runs: usize) {
        self.open_runs.set(runs as f64);
    }

    /// The age of the oldest call that no worker is known to have.
    pub fn set_oldest_call(&self, age: Duration) {
        self.oldest_call.set(age.as_secs_f64());
    }

    /// The numbers of calls that hold a permit, and that wait for one.
    pub fn set_permits(&self, held: usize, awaited: usize) {
        self.held_permits.set(held as f64);
        self.awaited_permits.set(awaited as f64);
    }

    /// The number of watched leases.
    pub fn set_leases(&self, leases: usize) {
        self.leases.set(leases as f64);
    }

    /// Leases have expired.
    pub fn count_expired_leases(&self, leases: usize) {
        self.expired_leases.add(leases as u64);
    }

    /// The logbook took this long for an append.
    pub fn observe_append(&self, time: Duration) {
        self.append.observe_time(time);
    }

    /// All shards that this engine could drive, and whether it drives each.
    pub fn set_shards(&self, shards: impl IntoIterator<Item = (Shard, bool)>) {
        *lock(&self.shards) = shards.into_iter().collect();
    }

    /// The queues that were asked about, in place of those before.
    pub fn set_queues(&self, queues: Vec<QueueLength>) {
        *lock(&self.queues) = queues;
    }
}

/// What a worker counts, and what every process does.
impl Metrics {
    /// A call took this long on its worker.
    pub fn observe_attempt(&self, action: Action, time: Duration) {
        let action = match action {
            Action::Apply => 0,
            Action::Rollback => 1,
        };
        self.attempt[action].observe_time(time);
    }

    /// A call was started this long after it was recorded.
    pub fn observe_queue_wait(&self, wait: Duration) {
        self.queue_wait.observe_time(wait);
    }

    /// Adds the slots of a worker. `count` returns `None` once the worker has ended.
    pub fn add_slots(&self, count: impl Fn() -> Option<SlotCounts> + Send + Sync + 'static) {
        let mut slots = lock(&self.slots);
        slots.retain(|count| count().is_some());
        slots.push(Box::new(count));
    }

    /// A guest had this much memory.
    pub fn observe_guest_memory(&self, bytes: u64) {
        self.guest_memory.observe(bytes as f64);
    }

    /// A module was compiled, or refused, in this time.
    pub fn observe_compile(&self, time: Duration) {
        self.compile.observe_time(time);
    }

    /// A compiled module was found.
    pub fn count_cache_hit(&self, cache: Cache) {
        self.cache_hits[cache as usize].add(1);
    }

    /// A module was not found compiled.
    pub fn count_cache_miss(&self) {
        self.cache_misses.add(1);
    }

    /// A broker has confirmed a message after this time.
    pub fn observe_publish_confirm(&self, time: Duration) {
        self.publish_confirm.observe_time(time);
    }

    /// Spans of traces were sent to the collector, or dropped.
    pub fn count_spans(&self, outcome: SpanOutcome, spans: usize) {
        self.spans[outcome as usize].add(spans as u64);
    }

    /// What this process uses now.
    pub fn set_process(&self, usage: ProcessUsage) {
        *lock(&self.process) = Some(usage);
    }
}

/// What a scrape reads.
impl Metrics {
    /// Writes all metrics in the text format, in the order of [`names::ALL`].
    #[must_use]
    pub fn render(&self) -> String {
        let mut writer = Writer::default();
        writer.family(&names::BUILD_INFO).count(&[&self.version], 1);
        self.write_engine(&mut writer);
        self.write_worker(&mut writer);
        writer.histogram(&names::PUBLISH_CONFIRM, &self.publish_confirm);
        writer.counters(&names::SPANS, SpanOutcome::ALL.map(SpanOutcome::as_str), &self.spans);
        self.write_process(&mut writer);
        writer.finish()
    }

    fn write_engine(&self, writer: &mut Writer) {
        write_ends(writer, &names::RUNS, &self.runs);
        writer.number(&names::RUNS_OPEN, self.open_runs.get());
        write_ends(writer, &names::FIRINGS, &self.firings);
        self.write_attempts(writer);
        writer.counters(&names::RETRIES, Retried::ALL.map(Retried::as_str), &self.retries);
        writer.counters(&names::ROLLBACKS, RollbackOutcome::ALL.map(RollbackOutcome::as_str), &self.rollbacks);
        writer.histogram(&names::SCHEDULE_DELAY, &self.schedule_delay);
        writer.number(&names::OLDEST_CALL, self.oldest_call.get());
        let mut permits = writer.family(&names::PERMITS);
        permits.number(&["held"], self.held_permits.get());
        permits.number(&["waiting"], self.awaited_permits.get());
        writer.number(&names::LEASES, self.leases.get());
        writer.family(&names::LEASES_EXPIRED).count(&[], self.expired_leases.get());
        writer.histogram(&names::APPEND, &self.append);
        let mut owners = writer.family(&names::SHARD_OWNER);
        lock(&self.shards).iter().for_each(|(shard, owned)| owners.count(&[shard.as_str()], u64::from(*owned)));
        let queues = lock(&self.queues);
        let mut messages = writer.family(&names::QUEUE_MESSAGES);
        queues.iter().for_each(|queue| messages.count(&[&queue.queue], queue.messages));
        let mut consumers = writer.family(&names::QUEUE_CONSUMERS);
        queues.iter().for_each(|queue| consumers.count(&[&queue.queue], queue.consumers));
    }

    fn write_attempts(&self, writer: &mut Writer) {
        let mut family = writer.family(&names::ATTEMPTS);
        let (tasks, other) = self.attempts.read(Instant::now());
        for ((flow, task), counts) in &tasks {
            for (outcome, count) in AttemptOutcome::ALL.iter().zip(counts) {
                family.count(&[flow.as_str(), task.as_str(), outcome.as_str()], *count);
            }
        }
        for (outcome, count) in AttemptOutcome::ALL.iter().zip(other).filter(|(_, count)| *count > 0) {
            family.count(&[OTHER, OTHER, outcome.as_str()], count);
        }
    }

    fn write_worker(&self, writer: &mut Writer) {
        let mut attempts = writer.family(&names::ATTEMPT);
        let of_action = ACTIONS.iter().zip(&self.attempt);
        of_action.for_each(|(action, times)| attempts.histogram(&[action.as_str()], times));
        writer.histogram(&names::QUEUE_WAIT, &self.queue_wait);
        let SlotCounts { computing, waiting, free } = self.slots();
        let mut slots = writer.family(&names::WORKER_SLOTS);
        for (state, count) in [("computing", computing), ("waiting", waiting), ("free", free)] {
            slots.count(&[state], count as u64);
        }
        writer.histogram(&names::GUEST_MEMORY, &self.guest_memory);
        writer.histogram(&names::COMPILE, &self.compile);
        writer.counters(&names::CACHE_HITS, Cache::ALL.map(Cache::as_str), &self.cache_hits);
        writer.family(&names::CACHE_MISSES).count(&[], self.cache_misses.get());
    }

    fn write_process(&self, writer: &mut Writer) {
        let usage = *lock(&self.process);
        let mut write = |definition, number: Option<f64>| {
            let mut family = writer.family(definition);
            number.into_iter().for_each(|number| family.number(&[], number));
        };
        write(&names::PROCESS_CPU, usage.map(|usage| usage.cpu.as_secs_f64()));
        write(&names::PROCESS_RESIDENT, usage.map(|usage| usage.resident as f64));
        write(&names::PROCESS_VIRTUAL, usage.map(|usage| usage.virtual_memory as f64));
        write(&names::PROCESS_THREADS, usage.map(|usage| usage.threads as f64));
        write(&names::PROCESS_OPEN_FDS, usage.map(|usage| usage.open_files as f64));
        write(&names::PROCESS_MAX_FDS, usage.and_then(|usage| usage.max_open_files).map(|max| max as f64));
        let since_1970 = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        write(&names::PROCESS_START, Some(since_1970.as_secs_f64()));
    }

    fn slots(&self) -> SlotCounts {
        let mut all = SlotCounts::default();
        lock(&self.slots).retain(|count| {
            let Some(SlotCounts { computing, waiting, free }) = count() else { return false };
            all.computing += computing;
            all.waiting += waiting;
            all.free += free;
            true
        });
        all
    }
}

fn write_ends(writer: &mut Writer, definition: &Definition, ends: &Ends) {
    let mut family = writer.family(definition);
    let (flows, other) = ends.read(Instant::now());
    for (flow, counts) in &flows {
        for (state, count) in FINAL_STATES.iter().zip(counts) {
            family.count(&[flow.as_str(), state.as_str()], *count);
        }
    }
    for (state, count) in FINAL_STATES.iter().zip(other).filter(|(_, count)| *count > 0) {
        family.count(&[OTHER, state.as_str()], count);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is a single assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
