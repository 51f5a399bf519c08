//! The name, type, labels and description of each metric.

/// The label of flows, or tasks, beyond the maximum.
pub const OTHER: &str = "_other";

/// A metric, with all its series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Definition {
    /// The name.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// The names of its labels, in the order in which they are written.
    pub labels: &'static [&'static str],
    /// What it means, in one sentence without a full stop.
    pub help: &'static str,
}

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// It only grows, until the process ends.
    Counter,
    /// It goes up and down.
    Gauge,
    /// The distribution of a size, with the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

impl Kind {
    /// The type, as the text format writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// The buckets of what takes milliseconds, in seconds.
const SHORT: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The buckets of what may take an hour, in seconds.
const LONG: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0];

/// The buckets of memory, in bytes: from 64 KiB, the page of a linear memory, to the default maximum.
const BYTES: &[f64] =
    &[65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0, 268_435_456.0, 1_073_741_824.0];

macro_rules! definitions {
    ($($constant:ident = $name:literal, $kind:expr, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Definition =
                Definition { name: $name, kind: $kind, labels: &[$($label),*], help: $help };
        )*

        /// All metrics, in the order in which they are written.
        pub const ALL: &[Definition] = &[$($constant),*];
    };
}

definitions! {
    BUILD_INFO = "waft_build_info", Kind::Gauge, ["version"], "The version of waft; the value is always 1";
    RUNS = "waft_runs_total", Kind::Counter, ["flow", "state"], "Ends of runs";
    RUNS_OPEN = "waft_runs_open", Kind::Gauge, [], "Runs that this engine drives: neither ended nor suspended";
    FIRINGS = "waft_firings_total", Kind::Counter, ["flow", "state"], "Ends of firings of runs that fire more than once";
    ATTEMPTS = "waft_attempts_total", Kind::Counter, ["flow", "task", "outcome"], "Ended attempts of tasks";
    RETRIES = "waft_retries_total", Kind::Counter, ["of"], "Failures after which another attempt follows";
    ROLLBACKS = "waft_rollbacks_total", Kind::Counter, ["outcome"], "Ended rollbacks of tasks";
    SCHEDULE_DELAY = "waft_schedule_delay_seconds", Kind::Histogram(LONG), [], "Time from a time of a schedule to the record that it fired";
    OLDEST_CALL = "waft_oldest_call_seconds", Kind::Gauge, [], "Age of the oldest call that was sent and that no worker is known to have";
    PERMITS = "waft_permits", Kind::Gauge, ["state"], "Calls of tasks with a rate or a maximum that hold or wait for a permit";
    LEASES = "waft_leases", Kind::Gauge, [], "Long calls whose heartbeats this engine watches";
    LEASES_EXPIRED = "waft_leases_expired_total", Kind::Counter, [], "Leases that have expired: their workers count as lost";
    APPEND = "waft_append_seconds", Kind::Histogram(SHORT), [], "Time that the logbook takes to append the records of a batch";
    SHARD_OWNER = "waft_shard_owner", Kind::Gauge, ["shard"], "1 for a shard that this engine drives, and 0 for any other";
    QUEUE_MESSAGES = "waft_queue_messages", Kind::Gauge, ["queue"], "Messages that wait in a queue";
    QUEUE_CONSUMERS = "waft_queue_consumers", Kind::Gauge, ["queue"], "Consumers of a queue";
    ATTEMPT = "waft_attempt_seconds", Kind::Histogram(LONG), ["action"], "Time of a call on its worker: module, inputs, slot and guest";
    QUEUE_WAIT = "waft_queue_wait_seconds", Kind::Histogram(LONG), [], "Time from the record of a call, which is sent then, to its start on a worker";
    WORKER_SLOTS = "waft_worker_slots", Kind::Gauge, ["state"], "Slots with a computing call, calls that wait without a slot, and free slots";
    GUEST_MEMORY = "waft_guest_memory_bytes", Kind::Histogram(BYTES), [], "Peak of the linear memories of a call";
    COMPILE = "waft_compile_seconds", Kind::Histogram(LONG), [], "Time to check and compile a module";
    CACHE_HITS = "waft_module_cache_hits_total", Kind::Counter, ["cache"], "Modules that were found compiled";
    CACHE_MISSES = "waft_module_cache_misses_total", Kind::Counter, [], "Modules that were not found compiled";
    PUBLISH_CONFIRM = "waft_publish_confirm_seconds", Kind::Histogram(SHORT), [], "Time until RabbitMQ confirms a message";
    SPANS = "waft_spans_total", Kind::Counter, ["outcome"], "Spans of traces: sent to the collector, or dropped";
    PROCESS_CPU = "process_cpu_seconds_total", Kind::Counter, [], "CPU time of this process, without its children";
    PROCESS_RESIDENT = "process_resident_memory_bytes", Kind::Gauge, [], "Resident memory of this process";
    PROCESS_VIRTUAL = "process_virtual_memory_bytes", Kind::Gauge, [], "Virtual memory of this process";
    PROCESS_THREADS = "process_threads", Kind::Gauge, [], "Threads of this process";
    PROCESS_OPEN_FDS = "process_open_fds", Kind::Gauge, [], "Open file descriptors";
    PROCESS_MAX_FDS = "process_max_fds", Kind::Gauge, [], "Maximum number of open file descriptors";
    PROCESS_START = "process_start_time_seconds", Kind::Gauge, [], "Start of this process, in seconds since 1970";
}
