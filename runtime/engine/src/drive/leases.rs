//! Calls under a lease, and when each lease expires.
//!
//! A lease is recorded, but the time of its last heartbeat is not: an engine that takes a shard over gives every
//! lease its full time again. A lease is watched from when its record is durable here, or is read, until a durable
//! record ends it. Only `watch_leases` and `note_lease` below decide that, regardless of how the run came into
//! memory.
//!
//! A lease expires by the time during which the shard's queue was *received*, and not by a clock. Heartbeats may be
//! delayed while a broker is away, an engine waits for its logbook, or a queue is long. Their workers are not lost.
//! So the engine sends a probe through the queue with each tick. A probe that returns proves that every earlier
//! message was received.

use std::collections::{BTreeMap, BTreeSet};

use flow::{CallId, Event, RunId, Shard, WorkerName};
use protocol::lease;
use tokio::time::{Duration, Instant};

use super::{Driver, TICK};

/// Maximum time that one probe can add to the received time of a queue. After a longer silence, workers still have
/// time for a heartbeat.
const MAX_PROBE_STEP: Duration = Duration::from_secs(3 * TICK.as_secs());

/// Maximum number of outstanding probes of one queue; the oldest ones beyond it are dropped.
const MAX_OUTSTANDING_PROBES: usize = 64;

/// A call, and the worker that holds it.
pub(super) type CallHolder = (CallId, WorkerName);

/// The leases of all shards that are driven here.
#[derive(Debug, Default)]
pub(super) struct Leases {
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
    /// When each lease expires, in received time.
    expiry: BTreeMap<CallHolder, Duration>,
    order: BTreeSet<(Duration, CallHolder)>,
    /// Calls whose missing heartbeats were already reported.
    reported_silent: BTreeSet<CallHolder>,
}

impl ShardLeases {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            received_for: Duration::ZERO,
            received_until: now,
            back_at: now,
            probes: BTreeMap::new(),
            expiry: BTreeMap::new(),
            order: BTreeSet::new(),
            reported_silent: BTreeSet::new(),
        }
    }

    fn end(&mut self, call: &CallHolder) {
        self.reported_silent.remove(call);
        if let Some(until) = self.expiry.remove(call) {
            self.order.remove(&(until, call.clone()));
        }
    }
}

impl Leases {
    /// A heartbeat of a call arrived: its lease has its full time again.
    pub(super) fn renew(&mut self, shard: &Shard, call: CallHolder) {
        let heard = self.shards.entry(shard.clone()).or_insert_with(ShardLeases::new);
        heard.end(&call);
        let until = heard.received_for + lease::LEASE_DURATION;
        heard.order.insert((until, call.clone()));
        heard.expiry.insert(call, until);
    }

    /// Whether a call is under a lease.
    pub(super) fn holds(&self, shard: &Shard, call: &CallHolder) -> bool {
        self.shards.get(shard).is_some_and(|heard| heard.expiry.contains_key(call))
    }

    /// Returns the time since the last heartbeat of a call, in received time of the queue.
    pub(super) fn silent_time(&self, shard: &Shard, call: &CallHolder) -> Option<Duration> {
        let heard = self.shards.get(shard)?;
        let until = heard.expiry.get(call)?;
        Some((heard.received_for + lease::LEASE_DURATION).saturating_sub(*until))
    }

    /// Returns the calls whose heartbeats have stopped since the last call of this method.
    pub(super) fn newly_silent(&mut self, shard: &Shard) -> Vec<CallHolder> {
        let Some(heard) = self.shards.get_mut(shard) else { return Vec::new() };
        let time = heard.received_for;
        let is_silent = |until: Duration| time + lease::LEASE_DURATION >= until + lease::SILENT_AFTER;
        let silent = heard.order.iter().take_while(|(until, _)| is_silent(*until)).map(|(_, call)| call.clone());
        let silent: Vec<CallHolder> = silent.filter(|call| !heard.reported_silent.contains(call)).collect();
        heard.reported_silent.extend(silent.iter().cloned());
        silent
    }

    /// A call is no longer under a lease.
    pub(super) fn end(&mut self, shard: &Shard, call: &CallHolder) {
        if let Some(heard) = self.shards.get_mut(shard) {
            heard.end(call);
            if heard.expiry.is_empty() {
                self.shards.remove(shard);
            }
        }
    }

    /// Removes a shard that is no longer driven here.
    pub(super) fn drop_shard(&mut self, shard: &Shard) {
        self.shards.remove(shard);
    }

    /// Time since a probe of the shard last returned.
    pub(super) fn queue_silent_time(&self, shard: &Shard) -> Duration {
        self.shards.get(shard).map_or(Duration::ZERO, |heard| heard.back_at.elapsed())
    }

    /// The shards whose queues need probes.
    pub(super) fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.keys()
    }

    /// A probe was sent.
    pub(super) fn probe_sent(&mut self, shard: &Shard, number: u64) {
        if let Some(heard) = self.shards.get_mut(shard) {
            heard.probes.insert(number, Instant::now());
            if heard.probes.len() > MAX_OUTSTANDING_PROBES {
                heard.probes.pop_first();
            }
        }
    }

    /// A probe has returned. Removes and returns the leases that have expired by then.
    pub(super) fn on_probe(&mut self, shard: &Shard, number: u64) -> Vec<CallHolder> {
        let Some(heard) = self.shards.get_mut(shard) else { return Vec::new() };
        let Some(sent) = heard.probes.remove(&number) else { return Vec::new() };
        heard.probes.retain(|other, _| *other > number);
        let now = Instant::now();
        // Probes that return together are a single proof: after a silence, heartbeats may still be on their way.
        let step = sent
            .saturating_duration_since(heard.received_until)
            .min(now.duration_since(heard.back_at))
            .min(MAX_PROBE_STEP);
        heard.received_for += step;
        heard.received_until = heard.received_until.max(sent);
        heard.back_at = now;
        let mut missed = Vec::new();
        while let Some((until, call)) = heard.order.first().filter(|(until, _)| *until <= heard.received_for).cloned() {
            heard.order.remove(&(until, call.clone()));
            heard.expiry.remove(&call);
            heard.reported_silent.remove(&call);
            missed.push(call);
        }
        if heard.expiry.is_empty() {
            self.shards.remove(shard);
        }
        missed
    }
}

/// Maximum size of a run that is checked after each step; for a larger one the check would take longer than the step.
const MAX_CHECKED_CALLS: usize = 1_000;

impl Driver {
    /// Watches every lease in the records of a run that has just been read.
    pub(super) fn watch_leases(&mut self, run: &RunId) {
        let Some(live) = self.runs.get(run) else { return };
        for held in live.machine.leased_calls() {
            if !self.leases.holds(&live.shard, &held) {
                self.leases.renew(&live.shard, held);
            }
        }
    }

    /// Starts or ends watching a lease, after the records of an event are durable.
    pub(super) fn note_lease(&mut self, run: &RunId, event: &Event) {
        let Some(live) = self.runs.get(run) else { return };
        let (held, is_heartbeat) = match event {
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
            | Event::TaskNotification(_)
            | Event::Fetched { .. }
            | Event::Withdrawn { .. }
            | Event::ClockSet { .. }
            | Event::Edit { .. }
            | Event::Tick => return,
        };
        let is_watched = self.leases.holds(&live.shard, &held);
        // An unwanted execution has no lease, but is watched anyway, so that only its first heartbeat causes a
        // record.
        match is_heartbeat || live.machine.has_lease(&held.0, &held.1) {
            true if !is_watched => self.leases.renew(&live.shard, held),
            true => {}
            false => self.leases.end(&live.shard, &held),
        }
    }

    /// Whether every lease in the records of a run is watched.
    pub(super) fn watches_all(&self, run: &RunId) -> bool {
        let Some(live) = self.runs.get(run).filter(|live| live.machine.size() <= MAX_CHECKED_CALLS) else {
            return true;
        };
        live.machine.leased_calls().all(|held| self.leases.holds(&live.shard, &held))
    }
}
