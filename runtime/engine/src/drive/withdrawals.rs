//! Calls that are out and that nobody wants any more: a cancel, an expiry, a failure elsewhere or an edit has seen to that.
//!
//! Their jobs may wait in a queue that no worker takes, and cannot be taken off it. So workers are asked who has begun one.
//! A call that has begun is under a lease from then on, and its worker answers it, or is missed. A call of which nobody says
//! so in time is withdrawn: it counts as never called. A worker that gets its job later asks before it begins it, and if one
//! has begun it all the same, unheard, what it did is taken back as a late outcome.
//!
//! The time to answer is counted, as with leases, by what was *received*: a probe that was sent after it and has come back
//! proves that every answer before it was received.

use std::collections::BTreeMap;

use broker::Message;
use flow::{CallId, Event, RunId, Shard};
use tokio::time::{Duration, Instant};
use tracing::info;

use super::{Batch, Driver, RunEvent};
use crate::messages;

/// How long workers have to say that they have begun a call. They answer at once, however busy they are with calls.
const WORKER_REPLY_TIMEOUT: Duration = Duration::from_millis(500);

/// The most calls in one message to the workers.
const MAX_CALLS_PER_MESSAGE: usize = 1_000;

/// Probes of one queue that may be on their way; of more, the oldest are given up.
const MAX_OUTSTANDING_PROBES: usize = 64;

/// The calls of all shards that are to be withdrawn.
#[derive(Debug, Default)]
pub(super) struct Withdrawals {
    /// Those that have any.
    shards: BTreeMap<Shard, ShardWithdrawals>,
}

/// The calls of one shard.
#[derive(Debug, Default)]
struct ShardWithdrawals {
    /// When workers were asked about each; `None` before they are.
    asked: BTreeMap<CallId, Option<Instant>>,
    /// Probes on their way, and when they were sent.
    probes: BTreeMap<u64, Instant>,
}

impl Withdrawals {
    /// Nobody wants a call any more. Workers are asked about it with the next beat, so that one that is over soon is not
    /// asked about at all.
    fn add(&mut self, shard: &Shard, call: CallId) {
        self.shards.entry(shard.clone()).or_default().asked.entry(call).or_default();
    }

    /// The calls of a shard that workers are asked about now.
    fn take_queries(&mut self, shard: &Shard) -> Vec<CallId> {
        let Some(calls) = self.shards.get_mut(shard) else { return Vec::new() };
        let now = Instant::now();
        let unasked = calls.asked.iter_mut().filter(|(_, asked)| asked.is_none());
        let ask = |(call, asked): (&CallId, &mut Option<Instant>)| {
            *asked = Some(now);
            call.clone()
        };
        unasked.map(ask).collect()
    }

    /// The shards whose queues are to be probed.
    pub(super) fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.keys()
    }

    /// A probe goes out now.
    pub(super) fn probed(&mut self, shard: &Shard, number: u64) {
        if let Some(calls) = self.shards.get_mut(shard) {
            calls.probes.insert(number, Instant::now());
            if calls.probes.len() > MAX_OUTSTANDING_PROBES {
                calls.probes.pop_first();
            }
        }
    }

    /// A probe has come back. Takes out the calls of which workers had the time to say that they have begun them.
    fn take_due(&mut self, shard: &Shard, number: u64) -> Vec<CallId> {
        let Some(calls) = self.shards.get_mut(shard) else { return Vec::new() };
        let Some(sent) = calls.probes.remove(&number) else { return Vec::new() };
        calls.probes.retain(|other, _| *other > number);
        let is_due = |_: &CallId, asked: &mut Option<Instant>| {
            asked.is_some_and(|asked| sent.saturating_duration_since(asked) >= WORKER_REPLY_TIMEOUT)
        };
        let due = calls.asked.extract_if(.., is_due).map(|(call, _)| call).collect();
        if calls.asked.is_empty() {
            self.shards.remove(shard);
        }
        due
    }

    /// A shard is driven here no more.
    pub(super) fn drop_shard(&mut self, shard: &Shard) {
        self.shards.remove(shard);
    }
}

impl Driver {
    /// Takes note of the calls of a run that nobody wants any more. Those that wait for a permit are no worker's.
    pub(super) fn note_withdrawable(&mut self, run: &RunId) {
        let Some(live) = self.runs.get(run) else { return };
        for call in live.machine.withdrawable_calls().filter(|call| !self.permits.is_waiting(call)) {
            self.withdrawals.add(&live.shard, call);
        }
    }

    /// Asks workers which of a shard's calls that nobody wants have begun.
    pub(super) fn query_started(&mut self, shard: &Shard) -> Vec<Message> {
        self.withdrawals
            .take_queries(shard)
            .chunks(MAX_CALLS_PER_MESSAGE)
            .map(|calls| messages::withdraw(calls.to_vec()))
            .collect()
    }

    /// A probe has come back: withdraws the calls that no worker has said to have begun.
    pub(super) fn withdraw_due(&mut self, shard: &Shard, number: u64, round: &mut Batch) {
        for call in self.withdrawals.take_due(shard, number) {
            let run = call.run.clone();
            let is_withdrawable = |machine: &flow::Machine| machine.withdrawable_calls().any(|other| other == call);
            if !self.runs.get(&run).is_some_and(|live| is_withdrawable(&live.machine)) {
                continue;
            }
            info!(%call, "the call is withdrawn: no worker has begun it");
            self.enqueue(RunEvent { run, event: Event::Withdrawn { call }, reply_to: None }, round);
        }
    }
}
