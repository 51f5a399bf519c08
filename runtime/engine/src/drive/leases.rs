//! Calls that workers have under a lease, and when each is missed.
//!
//! That a call is under a lease is a record; when it was heard of last is not: an engine that takes a shard over gives
//! every lease its full time again. So a lease is watched from when its record is durable here, or is read, until a durable
//! record ends it: `watch_leases` and `note_lease` below are the only places where that is decided, whichever way a run came
//! to be in memory.
//!
//! A lease runs out by the time for which the shard's queue was *heard*, and not by a clock: while a broker is away, an
//! engine waits for its logbook or a queue is long, heartbeats may be on their way, and a worker that cannot be heard is
//! not lost. So the engine sends a probe through the queue each beat; one that comes back proves that everything which was
//! sent before it has been heard.

use std::collections::{BTreeMap, BTreeSet};

use flow::{CallId, Event, RunId, Shard, WorkerName};
use protocol::lease;
use tokio::time::{Duration, Instant};

use super::{Driver, TICK};

/// The most that one probe can add to the time for which a queue was heard: after a longer silence workers have time to
/// be heard of again.
const MAX_PROBE_STEP: Duration = Duration::from_secs(3 * TICK.as_secs());

/// Probes of one queue that may be on their way; of more, the oldest are given up.
const MAX_OUTSTANDING_PROBES: usize = 64;

/// A call, and who has it.
pub(super) type CallHolder = (CallId, WorkerName);

/// The leases of all shards that are driven here.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// Those that have any.
    shards: BTreeMap<Shard, ShardLeases>,
}

/// What was heard from the queue of a shard.
#[derive(Debug)]
struct ShardLeases {
    /// For how long, in all.
    received_for: Duration,
    /// When the last probe that came back was sent.
    received_until: Instant,
    /// When it came back.
    back_at: Instant,
    /// Probes on their way, and when they were sent.
    probes: BTreeMap<u64, Instant>,
    /// When each lease runs out, by the time heard.
    expiry: BTreeMap<CallHolder, Duration>,
    order: BTreeSet<(Duration, CallHolder)>,
    /// Those whose heartbeats have stopped, which was said.
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
    /// A call was heard of: its lease has its full time again.
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

    /// For how long no heartbeat of a call has come, by the time for which the queue was received.
    pub(super) fn silent_time(&self, shard: &Shard, call: &CallHolder) -> Option<Duration> {
        let heard = self.shards.get(shard)?;
        let until = heard.expiry.get(call)?;
        Some((heard.received_for + lease::LEASE_DURATION).saturating_sub(*until))
    }

    /// The calls whose heartbeats have stopped since this was asked last.
    pub(super) fn newly_silent(&mut self, shard: &Shard) -> Vec<CallHolder> {
        let Some(heard) = self.shards.get_mut(shard) else { return Vec::new() };
        let time = heard.received_for;
        let is_silent = |until: Duration| time + lease::LEASE_DURATION >= until + lease::SILENT_AFTER;
        let silent = heard.order.iter().take_while(|(until, _)| is_silent(*until)).map(|(_, call)| call.clone());
        let silent: Vec<CallHolder> = silent.filter(|call| !heard.reported_silent.contains(call)).collect();
        heard.reported_silent.extend(silent.iter().cloned());
        silent
    }

    /// A call is not under a lease any more.
    pub(super) fn end(&mut self, shard: &Shard, call: &CallHolder) {
        if let Some(heard) = self.shards.get_mut(shard) {
            heard.end(call);
            if heard.expiry.is_empty() {
                self.shards.remove(shard);
            }
        }
    }

    /// A shard is driven here no more.
    pub(super) fn drop_shard(&mut self, shard: &Shard) {
        self.shards.remove(shard);
    }

    /// For how long no probe of a shard has come back.
    pub(super) fn queue_silent_time(&self, shard: &Shard) -> Duration {
        self.shards.get(shard).map_or(Duration::ZERO, |heard| heard.back_at.elapsed())
    }

    /// The shards whose queues are to be probed.
    pub(super) fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.keys()
    }

    /// A probe goes out now.
    pub(super) fn probe_sent(&mut self, shard: &Shard, number: u64) {
        if let Some(heard) = self.shards.get_mut(shard) {
            heard.probes.insert(number, Instant::now());
            if heard.probes.len() > MAX_OUTSTANDING_PROBES {
                heard.probes.pop_first();
            }
        }
    }

    /// A probe has come back. Takes out the leases that are missed by then.
    pub(super) fn on_probe(&mut self, shard: &Shard, number: u64) -> Vec<CallHolder> {
        let Some(heard) = self.shards.get_mut(shard) else { return Vec::new() };
        let Some(sent) = heard.probes.remove(&number) else { return Vec::new() };
        heard.probes.retain(|other, _| *other > number);
        let now = Instant::now();
        // Many that come back at once are one proof: after a silence others have not been heard of yet.
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

/// A larger run is not looked at after each step, which would take longer than the step.
const MAX_CHECKED_CALLS: usize = 1_000;

impl Driver {
    /// Watches every lease that the records of a run tell of: it has just been read.
    pub(super) fn watch_leases(&mut self, run: &RunId) {
        let Some(live) = self.runs.get(run) else { return };
        for held in live.machine.leased_calls() {
            if !self.leases.holds(&live.shard, &held) {
                self.leases.renew(&live.shard, held);
            }
        }
    }

    /// Watches a lease, or watches it no more, now that what an event led to is durable.
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
        // An execution that nobody wants has no lease, and is watched all the same, so that only its first heartbeat is news.
        match is_heartbeat || live.machine.has_lease(&held.0, &held.1) {
            true if !is_watched => self.leases.renew(&live.shard, held),
            true => {}
            false => self.leases.end(&live.shard, &held),
        }
    }

    /// Whether every lease that the records of a run tell of is watched.
    pub(super) fn watches_all(&self, run: &RunId) -> bool {
        let Some(live) = self.runs.get(run).filter(|live| live.machine.size() <= MAX_CHECKED_CALLS) else {
            return true;
        };
        live.machine.leased_calls().all(|held| self.leases.holds(&live.shard, &held))
    }
}
