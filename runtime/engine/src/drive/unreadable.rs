//! Messages on a shard's queue that this engine cannot read: mostly reports of a newer waft.
//!
//! None is lost: each goes to the quarantine with the reason. Nobody waits for them for ever: the call of an
//! unreadable report fails, and an unreadable request is answered.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use broker::{Delivery, quarantined};
use flow::{CallId, Event, Execution, Failure, FailureKind, Shard, Signal, TaskResult as Outcome};
use protocol::{DecodeError, Reply, topology as names};
use tracing::warn;

use super::{Batch, Driver};
use crate::messages;

impl Driver {
    /// Handles a message that is no known report.
    pub(super) async fn on_unreadable(
        &mut self,
        shard: &Shard,
        delivery: Delivery,
        error: &DecodeError,
        round: &mut Batch,
    ) {
        let queue = names::shard_queue(shard);
        if !error.is_loss(delivery.message.persistent) {
            warn!(queue, %error, "a report that is sent again, or obsolete soon, cannot be read; it is dropped");
            return delivery.accept();
        }
        let reason = format!("the engine could not read a report: {error}");
        let properties = &delivery.message.properties;
        if let Some(call) = protocol::call_of(&properties.headers) {
            return self.fail_unreadable(shard, call, delivery, &reason, round).await;
        }
        if let (Some(reply_to), Some(_)) = (&properties.reply_to, &properties.correlation_id) {
            let reply = Reply::Failed(format!("the engine that drives the run could not read the request: {error}"));
            round.messages.push(messages::reply(reply_to.clone(), properties.correlation_id.clone(), &reply));
        }
        self.quarantine(shard, delivery, &reason, round);
    }

    /// Fails a call whose worker sent an unreadable report: its answer would be unreadable too. The effects of the
    /// call are unknown, so it needs a rollback.
    async fn fail_unreadable(
        &mut self,
        shard: &Shard,
        call: CallId,
        delivery: Delivery,
        reason: &str,
        round: &mut Batch,
    ) {
        let run = call.run.clone();
        if let Some(lost) = self.stale.get_mut(&run) {
            lost.signals.push(delivery);
            return;
        }
        let queue = names::shard_queue(shard);
        warn!(queue, %call, reason, "a report of a worker cannot be read: the call fails, and the report is kept in waft.quarantine");
        let mut hasher = DefaultHasher::new();
        delivery.message.body.hash(&mut hasher);
        let message = format!("{reason}; the report is in waft.quarantine");
        let signal = Signal {
            call: call.clone(),
            answer: Outcome::Failed(Failure::new(FailureKind::Poison, message)),
            // The same report has the same execution when it is delivered again.
            execution: Execution::new(hasher.finish()),
            redelivered: true,
            worker: None,
        };
        round.messages.push(quarantined(&delivery.message, &queue, reason));
        // The call may still be running.
        round.messages.push(messages::interrupt(call));
        self.load_inactive(&run, Some(shard), round).await;
        round.push(run.clone(), Event::Signal(signal));
        round.signals.push((run, delivery));
    }

    /// Moves a delivery to the quarantine: it is accepted once the broker has the copy.
    pub(super) fn quarantine(&self, shard: &Shard, delivery: Delivery, reason: &str, round: &mut Batch) {
        let queue = names::shard_queue(shard);
        warn!(queue, reason, "a message is kept in waft.quarantine");
        round.messages.push(quarantined(&delivery.message, &queue, reason));
        round.to_accept.push(delivery);
    }
}
