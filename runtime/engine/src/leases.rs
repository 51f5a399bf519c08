//! Calls under a lease, and when each lease expires.
//!
//! A lease is recorded, but the time of its last heartbeat is not: an engine that takes a shard over gives every
//! lease its full time again. A lease is watched from when its record is durable here, or is read, until a durable
//! record ends it. Only `watch` and `on_event` below decide that, regardless of how the run came into memory. A run that is read again
//! gives its leases their full time again, too.
//!
//! A lease expires by the time during which the shard's queue was *received*, and not by a clock. Heartbeats may be
//! delayed while a broker is away, an engine waits for its logbook, or a queue is long. Their workers are not lost.
//! So the engine sends a probe through the queue with each tick. A probe that returns proves that every earlier
//! message was received.
//!
//! Heartbeats renew a lease only for as long as the call may take. A worker ends each call within its timeout; a worker
//! that does not, or that only claims to call, cannot hold a run for ever.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flow::{CallId, Limits, Shard, WorkerName};
use machine::{Event, Machine};
use protocol::{HeartbeatNumber, lease};
use tokio::time::{Duration, Instant};

use crate::clock::TICK;

/// Maximum time that one probe can add to the received time of a queue. After a longer silence, workers still have
/// time for a heartbeat.
const MAX_PROBE_STEP: Duration = Duration::from_secs(3 * TICK.as_secs());

/// Maximum number of outstanding probes of one queue; the oldest ones beyond it are dropped.
const MAX_OUTSTANDING_PROBES: usize = 64;

/// A call, and the worker that holds it.
pub(crate) type CallHolder = (CallId, WorkerName);

/// The leases of all shards that are driven here.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// Only shards with leases.
    shards: BTreeMap<Shard, ShardLeases>,
}

/// The leases and the received time of one shard's queue.
#[derive(Debug)]
struct ShardLeases {
    /// Total received time of the queue.
    received_for: Duration,
    /// When the last returned probe was sent.
    received_until: Instant,
    /// When it returned.
    back_at: Instant,
    /// Outstanding probes, and when each was sent.
    probes: BTreeMap<u64, Instant>,
    leases: BTreeMap<CallHolder, Lease>,
    /// When each lease expires.
    order: BTreeSet<(Duration, CallHolder)>,
    /// Calls whose missing heartbeats were already reported.
    reported_silent: BTreeSet<CallHolder>,
}

/// One lease. Its times are received times of the queue.
#[derive(Debug)]
struct Lease {
    /// When its last heartbeat was received.
    renewed_at: Duration,
    /// When it ends, whatever heartbeats say.
    ends_at: Duration,
    /// The heartbeats that were received for it here.
    heartbeats: ReceivedHeartbeats,
}

impl Lease {
    fn expires_at(&self) -> Duration {
        (self.renewed_at + lease::LEASE_DURATION).min(self.ends_at)
    }
}

/// The number of the last heartbeat of each execution, the latest executions last.
#[derive(Debug, Default)]
struct ReceivedHeartbeats(VecDeque<HeartbeatNumber>);

/// Maximum number of executions of a call whose last heartbeats are remembered: one for each start of its worker during a lease.
const MAX_EXECUTIONS: usize = 16;

impl ReceivedHeartbeats {
    /// Notes a heartbeat. Returns `false` if it is not newer than the last one of its execution.
    fn receive(&mut self, number: HeartbeatNumber) -> bool {
        if let Some(last) = self.0.iter_mut().find(|last| last.execution == number.execution) {
            let is_newer = number.count > last.count;
            last.count = last.count.max(number.count);
            return is_newer;
        }
        if self.0.len() == MAX_EXECUTIONS {
            self.0.pop_front();
        }
        self.0.push_back(number);
        true
    }
}

impl ShardLeases {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            received_for: Duration::ZERO,
            received_until: now,
            back_at: now,
            probes: BTreeMap::new(),
            leases: BTreeMap::new(),
            order: BTreeSet::new(),
            reported_silent: BTreeSet::new(),
        }
    }

    fn begin(&mut self, call: CallHolder, longest: Duration) {
        self.end(&call);
        let renewed_at = self.received_for;
        let lease = Lease { renewed_at, ends_at: renewed_at + longest, heartbeats: ReceivedHeartbeats::default() };
        self.order.insert((lease.expires_at(), call.clone()));
        self.leases.insert(call, lease);
    }

    fn renew(&mut self, call: &CallHolder) {
        let Some(lease) = self.leases.get_mut(call) else { return };
        self.order.remove(&(lease.expires_at(), call.clone()));
        lease.renewed_at = self.received_for;
        self.order.insert((lease.expires_at(), call.clone()));
        self.reported_silent.remove(call);
    }

    fn end(&mut self, call: &CallHolder) -> Option<Lease> {
        self.reported_silent.remove(call);
        let lease = self.leases.remove(call)?;
        self.order.remove(&(lease.expires_at(), call.clone()));
        Some(lease)
    }

    /// Time since the last heartbeat of a call.
    fn silence(&self, call: &CallHolder) -> Option<Duration> {
        Some(self.received_for.saturating_sub(self.leases.get(call)?.renewed_at))
    }
}

impl Leases {
    /// Begins to watch a lease, for its full time. Heartbeats renew it for at most `longest`.
    fn begin(&mut self, shard: &Shard, call: CallHolder, longest: Duration) {
        self.shards.entry(shard.clone()).or_insert_with(ShardLeases::new).begin(call, longest);
    }

    /// A heartbeat of a watched call arrived: its lease has its full time again, until the longest time of the call. Returns `false` for
    /// a heartbeat that is not newer than the last one of its execution, which changes nothing.
    pub(crate) fn on_heartbeat(&mut self, shard: &Shard, call: &CallHolder, number: HeartbeatNumber) -> bool {
        let Some(leases) = self.shards.get_mut(shard) else { return false };
        let is_newer = leases.leases.get_mut(call).is_some_and(|lease| lease.heartbeats.receive(number));
        if is_newer {
            leases.renew(call);
        }
        is_newer
    }

    /// Whether a call is under a lease.
    pub(crate) fn holds(&self, shard: &Shard, call: &CallHolder) -> bool {
        self.shards.get(shard).is_some_and(|leases| leases.leases.contains_key(call))
    }

    /// Returns the time since the last heartbeat of a call, in received time of the queue.
    pub(crate) fn silent_time(&self, shard: &Shard, call: &CallHolder) -> Option<Duration> {
        self.shards.get(shard)?.silence(call)
    }

    /// Returns the calls whose heartbeats have stopped since the last call of this method.
    pub(crate) fn newly_silent(&mut self, shard: &Shard) -> Vec<CallHolder> {
        let Some(leases) = self.shards.get_mut(shard) else { return Vec::new() };
        let time = leases.received_for;
        // A lease that is about to end may have been renewed just now.
        let may_be_silent = |until: Duration| time + lease::LEASE_DURATION >= until + lease::SILENT_AFTER;
        let is_silent = |call: &CallHolder| leases.silence(call).is_some_and(|silence| silence >= lease::SILENT_AFTER);
        let candidates = leases.order.iter().take_while(|(until, _)| may_be_silent(*until)).map(|(_, call)| call);
        let silent = candidates.filter(|call| is_silent(call) && !leases.reported_silent.contains(*call));
        let silent: Vec<CallHolder> = silent.cloned().collect();
        leases.reported_silent.extend(silent.iter().cloned());
        silent
    }

    /// A call is no longer under a lease.
    pub(crate) fn end(&mut self, shard: &Shard, call: &CallHolder) {
        if let Some(leases) = self.shards.get_mut(shard) {
            leases.end(call);
            if leases.leases.is_empty() {
                self.shards.remove(shard);
            }
        }
    }

    /// The number of watched leases.
    pub(crate) fn count(&self) -> usize {
        self.shards.values().map(|shard| shard.leases.len()).sum()
    }

    /// Removes a shard that is no longer driven here.
    pub(crate) fn drop_shard(&mut self, shard: &Shard) {
        self.shards.remove(shard);
    }

    /// Time since a probe of the shard last returned.
    pub(crate) fn queue_silent_time(&self, shard: &Shard) -> Duration {
        self.shards.get(shard).map_or(Duration::ZERO, |leases| leases.back_at.elapsed())
    }

    /// The shards whose queues need probes.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.keys()
    }

    /// A probe was sent.
    pub(crate) fn probe_sent(&mut self, shard: &Shard, number: u64) {
        if let Some(leases) = self.shards.get_mut(shard) {
            leases.probes.insert(number, Instant::now());
            if leases.probes.len() > MAX_OUTSTANDING_PROBES {
                leases.probes.pop_first();
            }
        }
    }

    /// A probe has returned. Removes and returns the leases that have expired by then.
    pub(crate) fn on_probe(&mut self, shard: &Shard, number: u64) -> Vec<CallHolder> {
        let Some(leases) = self.shards.get_mut(shard) else { return Vec::new() };
        let Some(sent) = leases.probes.remove(&number) else { return Vec::new() };
        leases.probes.retain(|other, _| *other > number);
        let now = Instant::now();
        // Probes that return together are a single proof: after a silence, heartbeats may still be on their way.
        let step = sent
            .saturating_duration_since(leases.received_until)
            .min(now.duration_since(leases.back_at))
            .min(MAX_PROBE_STEP);
        leases.received_for += step;
        leases.received_until = leases.received_until.max(sent);
        leases.back_at = now;
        let mut expired = Vec::new();
        while let Some((_, call)) = leases.order.first().filter(|(until, _)| *until <= leases.received_for).cloned() {
            if leases.end(&call).is_some_and(|lease| lease.renewed_at + lease::LEASE_DURATION > leases.received_for) {
                let (call, worker) = &call;
                tracing::warn!(%call, %worker, "a worker holds a call for longer than the call may take: it counts as lost");
            }
            expired.push(call);
        }
        if leases.leases.is_empty() {
            self.shards.remove(shard);
        }
        expired
    }
}

/// The longest time for which heartbeats hold a call. After that its worker counts as lost: it does not end the call, or somebody else sends
/// heartbeats for it.
fn longest(machine: &Machine, call: &CallId) -> Duration {
    // An edit may have removed the task of a call that still runs.
    let limits = machine.task(&call.task).map_or_else(Limits::default, |task| task.limits);
    limits.timeout + lease::MAX_PREPARATION
}

/// Maximum size of a run that is checked after each step; for a larger one the check would take longer than the step.
const MAX_CHECKED_CALLS: usize = 1_000;

/// A call under a lease, and the time since its last heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilentLease {
    /// The call.
    pub call: CallId,
    /// The worker that holds the lease.
    pub worker: WorkerName,
    /// Time since the last heartbeat.
    pub since: Duration,
}

/// The leases in the records of a run.
impl Leases {
    /// Watches every lease of a run that has just been read.
    pub(crate) fn watch(&mut self, shard: &Shard, machine: &Machine) {
        for lease in machine.leased_calls() {
            if !self.holds(shard, &lease) {
                let longest = longest(machine, &lease.0);
                self.begin(shard, lease, longest);
            }
        }
    }

    /// Gives the watched leases of a run their full time again, until the longest times of their calls.
    pub(crate) fn renew_of(&mut self, shard: &Shard, machine: &Machine) {
        if let Some(leases) = self.shards.get_mut(shard) {
            machine.leased_calls().for_each(|lease| leases.renew(&lease));
        }
    }

    /// Starts or ends watching a lease, after the records of an event are durable.
    pub(crate) fn on_event(&mut self, shard: &Shard, machine: &Machine, event: &Event) {
        let (lease, is_heartbeat) = match event {
            Event::Leased { call, worker } => ((call.clone(), worker.clone()), true),
            Event::Lost { call, worker } => ((call.clone(), worker.clone()), false),
            Event::Signal(signal) => match &signal.worker {
                Some(worker) => ((signal.call.clone(), worker.clone()), false),
                None => return,
            },
            Event::Start
            | Event::Cancel
            | Event::Suspend
            | Event::Abandon
            | Event::Resume
            | Event::Retry
            | Event::Skip { .. }
            | Event::Notify { .. }
            | Event::TaskNotification { .. }
            | Event::Fetched { .. }
            | Event::Remembered { .. }
            | Event::Withdrawn { .. }
            | Event::LostDelivery { .. }
            | Event::ClockSet { .. }
            | Event::Edit { .. }
            | Event::Tick => return,
        };
        let is_watched = self.holds(shard, &lease);
        // An unwanted execution has no lease, but is watched anyway, so that only its first heartbeat causes a record. A
        // heartbeat that causes none needs no watch: the names of workers in heartbeats may be invented.
        let is_late_start = || is_heartbeat && machine.would_record_lease(&lease.0, &lease.1);
        match machine.has_lease(&lease.0, &lease.1) || is_late_start() {
            true if !is_watched => {
                let longest = longest(machine, &lease.0);
                self.begin(shard, lease, longest);
            }
            true => {}
            false => self.end(shard, &lease),
        }
    }

    /// Whether every lease of a run is watched.
    pub(crate) fn watches_all(&self, shard: &Shard, machine: &Machine) -> bool {
        machine.size() > MAX_CHECKED_CALLS || machine.leased_calls().all(|lease| self.holds(shard, &lease))
    }

    /// The leased calls of a run, each with the time since its last heartbeat.
    pub(crate) fn silences(&self, shard: &Shard, machine: &Machine) -> Vec<SilentLease> {
        let silence = |lease: CallHolder| {
            let since = self.silent_time(shard, &lease)?;
            Some(SilentLease { call: lease.0, worker: lease.1, since })
        };
        machine.leased_calls().filter_map(silence).collect()
    }
}
