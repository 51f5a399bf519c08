//! Periodic work.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use flow::{CallId, Shard, Timestamp};
use tracing::warn;

use super::{Batch, Driver};
use crate::{inbox::Inbox, shards::Sharing, unserved_queues};

impl Driver {
    /// Does the work of one tick.
    pub(super) async fn tick(&mut self, inbox: &Inbox, batch: &mut Batch) {
        self.permits.tick();
        self.call_queue.tick();
        self.count_waiting();
        self.show_state();
        self.recent.expire();
        self.memo_trim.start_if_due(self.context.clock.now());
        let given_up = self.lookups.give_up_overdue();
        self.on_looked_up(given_up);
        // Before stale runs are reloaded: messages that were received for them are not recorded yet.
        self.persist_cursors(batch).await;
        self.load_more_unpublished(batch).await;
        self.reload_stale(batch).await;
        self.return_held_notifications(batch);
        self.continue_requeued(&mut batch.effects);
        for delivery in self.shards.take_deferred() {
            self.receive_delivery(delivery, batch).await;
        }
        self.probe(batch);
        if self.shards.sharing() == Sharing::Shared {
            batch.effects.probes.extend(self.shards.probe_unowned());
            self.reconcile().await;
            self.release_surplus(inbox);
        }
    }

    /// Begins to ask workers about unwanted calls, and sends probes through the queues whose received time counts.
    fn probe(&mut self, batch: &mut Batch) {
        self.withdrawals.begin_to_ask();
        let probed: BTreeSet<Shard> = self.leases.shards().chain(self.withdrawals.shards()).cloned().collect();
        for shard in probed {
            batch.effects.probes.push(self.shards.probe(&shard));
            let number = self.shards.last_probe();
            self.leases.probe_sent(&shard, number);
            self.withdrawals.probe_sent(&shard, number);
        }
    }

    /// Releases shards beyond the fair share.
    fn release_surplus(&mut self, inbox: &Inbox) {
        for shard in self.shards.surplus() {
            // The next driver may bind the queue again, and the broker must receive that afterwards.
            if self.declarations.is_unbinding(&shard) {
                continue;
            }
            self.release_shard(&shard);
            self.shards.set_term(&shard, None);
            inbox.release(&shard);
        }
    }

    /// Counts, by queue, the sent calls that no worker is known to have started, and shows the age of the oldest.
    fn count_waiting(&mut self) {
        if self.waiting_counted_at.is_some_and(|at| at.elapsed() < unserved_queues::CHECK_INTERVAL) {
            return;
        }
        self.waiting_counted_at = Some(tokio::time::Instant::now());
        let (mut waiting, mut oldest) = (BTreeMap::new(), None::<Timestamp>);
        for (_, active) in self.runs.iter() {
            let leased: BTreeSet<CallId> = active.machine.leased_calls().map(|(call, _)| call).collect();
            let sent = active
                .machine
                .outstanding_calls_since()
                .filter(|(call, _)| !leased.contains(call) && !self.permits.is_waiting(call));
            for (call, since) in sent {
                oldest = oldest.into_iter().chain(since).min();
                if let Some(task) = active.machine.task(&call.task) {
                    *waiting.entry(task.queue.clone()).or_default() += 1;
                }
            }
        }
        let now = self.context.clock.now();
        metrics::global().set_oldest_call(oldest.map_or(Duration::ZERO, |at| now.since(at)));
        self.context.waiting.set(waiting);
    }

    /// Persists the published versions, all at once.
    async fn persist_cursors(&mut self, batch: &mut Batch) {
        self.on_confirmed_versions();
        if !self.is_lasting() {
            self.advance_barrier(batch);
        }
        let due = self.publications.cursors.due(|run| self.runs.is_active(run));
        if due.is_empty() {
            return;
        }
        match self.context.logbook.mark_published(&due).await {
            Ok(()) => {
                due.iter().for_each(|(run, version)| self.publications.cursors.on_persisted(run, *version));
            }
            Err(error) => {
                warn!(%error, "the published versions were not saved: changes may be published once more");
            }
        }
    }

    /// Counts the versions as published that have passed the barrier, and sends its probes.
    fn advance_barrier(&mut self, batch: &mut Batch) {
        let is_any_held = !self.held_notifications.is_empty() || !self.returned.is_empty();
        let is_known = !self.runs.delay_notifications() && !self.shards.has_deferred() && !is_any_held;
        let received = is_known.then(|| self.forwards.received());
        for (run, version) in self.publications.barrier.advance(received, |first| self.forwards.are_taken(first)) {
            self.publications.cursors.on_confirmed(&run, version);
        }
        if self.publications.barrier.needs_probes() {
            let probes = self.shards.probe_all();
            self.publications.barrier.probed(probes.iter().map(|(shard, number, _)| (shard.clone(), *number)));
            batch.effects.messages.extend(probes.into_iter().map(|(_, _, probe)| probe));
        }
    }

    /// Handles the versions that the broker has confirmed.
    pub(super) fn on_confirmed_versions(&mut self) {
        let is_lasting = self.is_lasting();
        self.publications.on_confirmed(self.context.confirmed.take(), is_lasting);
    }
}
