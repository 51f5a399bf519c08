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
//!
//! A run may have a million such calls. So a batch asks about some of them and withdraws some of them, and namespaces take turns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use broker::Message;
use flow::{CallId, Namespace, Shard};
use protocol::{EngineSecret, MAX_WITHDRAWN_CALLS};
use tokio::time::{Duration, Instant};

use crate::{
    messages,
    turns::{Turn, Turns},
};

/// How long workers have to report that they have begun a call. They answer at once, even when all slots are busy.
const WORKER_REPLY_TIMEOUT: Duration = Duration::from_millis(500);

/// Maximum number of outstanding probes of one queue; the oldest ones beyond it are dropped.
const MAX_OUTSTANDING_PROBES: usize = 64;

/// Maximum number of calls that one batch withdraws: as many as it has other events.
const MAX_BATCH_WITHDRAWALS: usize = 512;

/// The calls of all shards that may be withdrawn. A plain value.
#[derive(Default)]
pub(crate) struct Withdrawals {
    /// Only namespaces and shards with such calls.
    calls: Turns<(Option<Namespace>, Shard), UnwantedCalls>,
    /// Outstanding probes of the shards' queues, and when each was sent.
    probes: BTreeMap<Shard, BTreeMap<u64, Instant>>,
    /// Whether workers are asked about all calls, batch by batch.
    is_asking: bool,
}

/// The calls of one namespace in one shard.
#[derive(Default)]
struct UnwantedCalls {
    all: BTreeSet<CallId>,
    /// Those about which workers were not asked yet.
    unasked: VecDeque<CallId>,
    /// The others, and when workers were asked about each, in this order.
    asked: VecDeque<(Instant, CallId)>,
    /// When the last probe that has returned was sent.
    proven_until: Option<Instant>,
}

impl UnwantedCalls {
    fn ask(&mut self, now: Instant) -> (Option<CallId>, Turn) {
        let call = self.unasked.pop_front();
        self.asked.extend(call.clone().map(|call| (now, call)));
        (call, Turn::IsOver)
    }

    fn take_due(&mut self) -> (Option<CallId>, Turn) {
        let proven_until = self.proven_until;
        let is_due = |(asked_at, _): &mut (Instant, CallId)| {
            proven_until.is_some_and(|until| until.saturating_duration_since(*asked_at) >= WORKER_REPLY_TIMEOUT)
        };
        let call = self.asked.pop_front_if(is_due).map(|(_, call)| call);
        call.iter().for_each(|call| {
            self.all.remove(call);
        });
        (call, if self.all.is_empty() { Turn::WasLast } else { Turn::IsOver })
    }
}

impl Withdrawals {
    /// Adds a call that is no longer wanted. Workers are asked about it with the next tick, so that a call that ends
    /// soon needs no question.
    pub(crate) fn add(&mut self, namespace: Option<Namespace>, shard: &Shard, call: CallId) {
        let calls = self.calls.entry((namespace, shard.clone()));
        if calls.all.insert(call.clone()) {
            calls.unasked.push_back(call);
        }
    }

    /// Whether a call is among them.
    pub(crate) fn has(&self, namespace: Option<Namespace>, shard: &Shard, call: &CallId) -> bool {
        self.calls.get(&(namespace, shard.clone())).is_some_and(|calls| calls.all.contains(call))
    }

    /// From now on, each batch asks workers about some of the calls, until they were asked about all.
    pub(crate) fn begin_to_ask(&mut self) {
        self.is_asking = true;
    }

    /// Whether the next batch asks workers about calls, or withdraws calls.
    pub(crate) fn is_due(&self) -> bool {
        self.is_asking || self.calls.values().any(UnwantedCalls::has_due)
    }

    /// Asks workers which of the next unwanted calls they have begun.
    pub(crate) fn ask(&mut self, secret: &EngineSecret) -> Option<Message> {
        if !self.is_asking {
            return None;
        }
        let now = Instant::now();
        let mut asked = Vec::new();
        while asked.len() < MAX_WITHDRAWN_CALLS
            && let Some(call) = self.calls.take(|calls| calls.ask(now))
        {
            asked.push(call);
        }
        self.is_asking = asked.len() == MAX_WITHDRAWN_CALLS;
        (!asked.is_empty()).then(|| messages::withdraw(&asked, secret))
    }

    /// The shards whose queues need probes.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.calls.keys().map(|(_, shard)| shard)
    }

    /// A probe was sent.
    pub(crate) fn probe_sent(&mut self, shard: &Shard, number: u64) {
        if self.shards().any(|of| of == shard) {
            let probes = self.probes.entry(shard.clone()).or_default();
            probes.insert(number, Instant::now());
            if probes.len() > MAX_OUTSTANDING_PROBES {
                probes.pop_first();
            }
        }
    }

    /// A probe has returned: the calls are due about which workers were asked long enough before it was sent.
    pub(crate) fn on_probe(&mut self, shard: &Shard, number: u64) {
        let Some(probes) = self.probes.get_mut(shard) else { return };
        let Some(sent) = probes.remove(&number) else { return };
        probes.retain(|other, _| *other > number);
        if probes.is_empty() {
            self.probes.remove(shard);
        }
        for (_, calls) in self.calls.iter_mut().filter(|((_, of), _)| of == shard) {
            calls.proven_until = calls.proven_until.max(Some(sent));
        }
    }

    /// Removes and returns the next calls that no worker has reported in time, as many as one batch withdraws.
    pub(crate) fn take_due(&mut self) -> Vec<CallId> {
        let mut due = Vec::new();
        while due.len() < MAX_BATCH_WITHDRAWALS
            && let Some(call) = self.calls.take(UnwantedCalls::take_due)
        {
            due.push(call);
        }
        due
    }

    /// Removes a shard that is no longer driven here.
    pub(crate) fn drop_shard(&mut self, shard: &Shard) {
        self.calls.retain(|(_, of)| of != shard);
        self.probes.remove(shard);
    }
}

impl UnwantedCalls {
    fn has_due(&self) -> bool {
        let first = self.asked.front().zip(self.proven_until);
        first.is_some_and(|((at, _), until)| until.saturating_duration_since(*at) >= WORKER_REPLY_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use flow::{Action, Attempt, Firing};

    use super::*;

    fn shard(shard: &str) -> Shard {
        shard.parse().expect("a valid name")
    }

    fn namespace(name: &str) -> Option<Namespace> {
        Some(Namespace::new(name).expect("a valid name"))
    }

    fn call(run: &str, number: u32) -> CallId {
        CallId {
            run: run.parse().expect("a valid name"),
            task: "t".parse().expect("a valid name"),
            firing: Firing::FIRST,
            attempt: Attempt::new(number),
            action: Action::Apply,
        }
    }

    fn ask_all(withdrawals: &mut Withdrawals) -> usize {
        let secret = EngineSecret::new([7; 32]);
        withdrawals.begin_to_ask();
        let mut messages = 0;
        while withdrawals.is_due() {
            messages += usize::from(withdrawals.ask(&secret).is_some());
        }
        messages
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_withdraws_some_calls_of_each_namespace() {
        let mut withdrawals = Withdrawals::default();
        for number in 1..=3_000 {
            withdrawals.add(namespace("a"), &shard("0"), call("many", number));
        }
        withdrawals.add(namespace("a"), &shard("0"), call("many", 1));
        withdrawals.add(namespace("b"), &shard("0"), call("one", 1));
        assert_eq!(ask_all(&mut withdrawals), 4, "a thousand calls in each message, and each call once");
        tokio::time::advance(WORKER_REPLY_TIMEOUT).await;
        assert!(!withdrawals.is_due() && withdrawals.take_due().is_empty(), "no probe has returned");
        withdrawals.probe_sent(&shard("0"), 1);
        withdrawals.on_probe(&shard("0"), 1);
        let mut batches = Vec::new();
        while withdrawals.is_due() {
            batches.push(withdrawals.take_due());
        }
        assert!(batches.iter().all(|calls| calls.len() <= MAX_BATCH_WITHDRAWALS));
        assert!(batches[0].contains(&call("one", 1)), "a namespace with many calls delays no other");
        assert_eq!(batches.iter().flatten().collect::<BTreeSet<_>>().len(), 3_001);
        assert_eq!(withdrawals.shards().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_from_before_the_answers_proves_nothing() {
        let mut withdrawals = Withdrawals::default();
        withdrawals.add(None, &shard("0"), call("r", 1));
        withdrawals.add(None, &shard("1"), call("s", 1));
        ask_all(&mut withdrawals);
        withdrawals.probe_sent(&shard("0"), 1);
        tokio::time::advance(WORKER_REPLY_TIMEOUT).await;
        withdrawals.on_probe(&shard("0"), 1);
        assert!(withdrawals.take_due().is_empty(), "workers had no time to answer before it was sent");
        withdrawals.probe_sent(&shard("0"), 2);
        withdrawals.on_probe(&shard("0"), 2);
        assert_eq!(withdrawals.take_due(), [call("r", 1)], "each shard has probes of its own");
        withdrawals.drop_shard(&shard("1"));
        assert_eq!(withdrawals.shards().count(), 0);
    }
}
