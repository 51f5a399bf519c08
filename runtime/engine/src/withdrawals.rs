//! Withdraws outstanding calls that are no longer wanted, because of a cancel, an expiry, a failure elsewhere or an
//! edit.
//!
//! A job may wait in a queue that no worker consumes, and cannot be removed from it. So the engine asks all workers
//! which of these calls they have begun. A begun call is under a lease from then on: its worker answers it, or its
//! lease expires. A call that no worker reports in time is withdrawn: it counts as never called. A worker that gets
//! its job later asks before it begins it. If a worker has begun it anyway, unnoticed, its effects are rolled back as
//! a late outcome.
//!
//! The time to answer is measured, as with leases, by *received* messages: a probe that was sent after that time and
//! has returned proves that every earlier answer was received.

use std::collections::BTreeMap;

use broker::Message;
use flow::{CallId, Shard};
use protocol::{EngineSecret, MAX_WITHDRAWN_CALLS};
use tokio::time::{Duration, Instant};

use crate::messages;

/// How long workers have to report that they have begun a call. They answer at once, even when all slots are busy.
const WORKER_REPLY_TIMEOUT: Duration = Duration::from_millis(500);

/// Maximum number of outstanding probes of one queue; the oldest ones beyond it are dropped.
const MAX_OUTSTANDING_PROBES: usize = 64;

/// The calls of all shards that may be withdrawn.
#[derive(Debug, Default)]
pub(crate) struct Withdrawals {
    /// Only shards with such calls.
    shards: BTreeMap<Shard, ShardWithdrawals>,
}

/// The calls of one shard.
#[derive(Debug, Default)]
struct ShardWithdrawals {
    /// When workers were asked about each call; `None` before that.
    queried_at: BTreeMap<CallId, Option<Instant>>,
    /// Outstanding probes, and when each was sent.
    probes: BTreeMap<u64, Instant>,
}

impl Withdrawals {
    /// Adds a call that is no longer wanted. Workers are asked about it with the next tick, so that a call that ends
    /// soon needs no question.
    pub(crate) fn add(&mut self, shard: &Shard, call: CallId) {
        self.shards.entry(shard.clone()).or_default().queried_at.entry(call).or_default();
    }

    /// Asks workers which of a shard's unwanted calls they have begun.
    pub(crate) fn query_started(&mut self, shard: &Shard, secret: &EngineSecret) -> Vec<Message> {
        let calls = self.take_queries(shard);
        calls.chunks(MAX_WITHDRAWN_CALLS).map(|calls| messages::withdraw(calls, secret)).collect()
    }

    /// Returns the calls of a shard to ask workers about now.
    fn take_queries(&mut self, shard: &Shard) -> Vec<CallId> {
        let Some(calls) = self.shards.get_mut(shard) else { return Vec::new() };
        let now = Instant::now();
        let unqueried = calls.queried_at.iter_mut().filter(|(_, queried_at)| queried_at.is_none());
        let query = |(call, queried_at): (&CallId, &mut Option<Instant>)| {
            *queried_at = Some(now);
            call.clone()
        };
        unqueried.map(query).collect()
    }

    /// The shards whose queues need probes.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.keys()
    }

    /// A probe was sent.
    pub(crate) fn probe_sent(&mut self, shard: &Shard, number: u64) {
        if let Some(calls) = self.shards.get_mut(shard) {
            calls.probes.insert(number, Instant::now());
            if calls.probes.len() > MAX_OUTSTANDING_PROBES {
                calls.probes.pop_first();
            }
        }
    }

    /// A probe has returned. Removes and returns the calls that no worker reported in time.
    pub(crate) fn take_due(&mut self, shard: &Shard, number: u64) -> Vec<CallId> {
        let Some(calls) = self.shards.get_mut(shard) else { return Vec::new() };
        let Some(sent) = calls.probes.remove(&number) else { return Vec::new() };
        calls.probes.retain(|other, _| *other > number);
        let is_due = |_: &CallId, queried_at: &mut Option<Instant>| {
            queried_at.is_some_and(|queried_at| sent.saturating_duration_since(queried_at) >= WORKER_REPLY_TIMEOUT)
        };
        let due = calls.queried_at.extract_if(.., is_due).map(|(call, _)| call).collect();
        if calls.queried_at.is_empty() {
            self.shards.remove(shard);
        }
        due
    }

    /// Removes a shard that is no longer driven here.
    pub(crate) fn drop_shard(&mut self, shard: &Shard) {
        self.shards.remove(shard);
    }
}
