//! Receives items from the shard queues. What a decision needs is read here, before it is made: the runs of a shard that
//! is taken over, and a run that is not in memory.

use broker::Delivery;
use flow::{CallId, RunId, Shard};
use protocol::{OpenError, Reply, Report};

use super::{Batch, Driver, declare::reply_delivered};
use crate::{
    inbox::Incoming,
    messages::{self, Unpacked},
    origin,
    runs::is_inactive,
    shards::ShardDelivery,
};

impl Driver {
    /// Receives an item from the queues of the shards.
    pub(super) async fn receive(&mut self, incoming: Incoming, batch: &mut Batch) {
        match incoming {
            Incoming::Delivery(delivery) => self.receive_delivery(delivery, batch).await,
            Incoming::Term { shard, term } => self.begin_term(&shard, term),
        }
    }

    /// Takes over the shard of a delivery, loads its run, and handles it.
    pub(super) async fn receive_delivery(&mut self, shard_delivery: ShardDelivery, batch: &mut Batch) {
        let ShardDelivery { shard, term, delivery } = shard_delivery;
        if !self.shards.is_current(&shard, term) {
            // It was delivered before the shard was released. If dropped, it goes back to the queue, for the current
            // driver.
            return;
        }
        // Deferred deliveries show that the logbook cannot be read: the next tick tries again.
        if !self.shards.owns(&shard) && (self.shards.has_deferred() || !self.take_over(&shard, batch).await) {
            self.shards.defer(ShardDelivery { shard, term, delivery });
            return;
        }
        match messages::unpack(delivery) {
            Unpacked::Single(delivery) => self.receive_report(&shard, delivery, batch).await,
            Unpacked::Batch(deliveries) => {
                for delivery in deliveries {
                    self.receive_report(&shard, delivery, batch).await;
                }
            }
            // Rare, so it is boxed: that keeps the future of all other cases small.
            Unpacked::Unreadable(delivery, error) => {
                Box::pin(self.receive_other(&shard, delivery, &error, batch)).await;
            }
        }
    }

    /// Loads the run of a report, and handles it.
    async fn receive_report(&mut self, shard: &Shard, delivery: Delivery, batch: &mut Batch) {
        if !origin::leads_to_shards(&delivery.message) {
            self.refuse_forged(shard, delivery, origin::WRONG_EXCHANGE);
            return;
        }
        match Report::open(&delivery.message.body, &self.context.secret) {
            Ok(report) if !origin::is_right_for(&report, &delivery.message) => {
                self.refuse_forged(shard, delivery, origin::WRONG_EXCHANGE);
            }
            Ok(report) => {
                match &report {
                    Report::Command(request) => {
                        if let Some(state) = self.ended_state(&request.run, &request.command, batch).await {
                            return reply_delivered(delivery, Reply::NotApplicable(state), batch);
                        }
                        self.load(&request.run, Some(shard), batch).await;
                        if let Some(missing) = self.missing_for(request, shard) {
                            return self.hold_delivered(missing, shard, request.clone(), delivery, batch);
                        }
                    }
                    Report::AskStart { call } if self.has_stopped(&call.run, batch).await => {
                        self.refuse_start(call.clone(), delivery, batch);
                        return;
                    }
                    // If the run continues, it sends its calls again. A lost worker may have executed another call.
                    Report::NotStarted { call, redeliveries: 0, .. } if self.has_stopped(&call.run, batch).await => {
                        return delivery.accept();
                    }
                    report => {
                        if let Some(call) = call_of(report) {
                            self.load(&call.run, Some(shard), batch).await;
                        }
                    }
                }
                for lease in self.on_report(shard, report, delivery, batch) {
                    self.load(&lease.0.run, Some(shard), batch).await;
                    self.on_call_lost(lease, batch);
                }
            }
            // Rare, so it is boxed: that keeps the future of all other cases small.
            Err(OpenError::Unreadable(error)) => Box::pin(self.receive_other(shard, delivery, &error, batch)).await,
            Err(error @ OpenError::Forged) => {
                self.answer_unknown_key(&delivery, batch);
                self.refuse_forged(shard, delivery, &error.to_string());
            }
        }
    }

    /// Whether a run that is not in memory has ended or is suspended, according to the logbook: no call of it starts. A long
    /// run need not be replayed to know that, and after it was cancelled hundreds of its jobs may wait for workers.
    async fn has_stopped(&self, run: &RunId, batch: &mut Batch) -> bool {
        if self.runs.is_known(run) {
            return false;
        }
        batch.count_load(0);
        self.context.logbook.summary(run).await.is_ok_and(|summary| is_inactive(summary.info.state))
    }
}

/// The call that a report is about and whose run must be loaded for it.
fn call_of(report: &Report) -> Option<&CallId> {
    match report {
        Report::Signal(signal, _) => Some(&signal.call),
        Report::Heartbeat { call, .. }
        | Report::Started { call, .. }
        | Report::AskStart { call }
        | Report::NotStarted { call, .. }
        | Report::Released { call, .. } => Some(call),
        Report::Progress(_)
        | Report::Command(_)
        | Report::Probe { .. }
        | Report::PermitGrant(_)
        | Report::DescribeEngine
        | Report::DescribePermits(_) => None,
    }
}
