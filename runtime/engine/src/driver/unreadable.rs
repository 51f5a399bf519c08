//! Messages on a shard's queue that are no report that this engine can read: notifications, which are JSON, and mostly
//! reports of a newer waft.
//!
//! None is lost: an unreadable message goes to the quarantine with the reason. Nobody waits for it for ever: the call of
//! an unreadable report fails, and an unreadable request is answered. Only of an unreadable batch of reports the calls are
//! unknown; its format never changes.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use broker::{Delivery, quarantined};
use flow::{CallId, Execution, Failure, FailureKind, Shard, Signal, TaskResult};
use machine::Event;
use protocol::{DecodeError, Reply, Report, topology as names};
use tracing::warn;

use super::{Batch, Driver};
use crate::{messages, origin};

/// The content type of notifications.
const JSON: &str = "application/json";

impl Driver {
    /// Handles a message that is no known report.
    pub(super) async fn receive_other(
        &mut self,
        shard: &Shard,
        delivery: Delivery,
        error: &DecodeError,
        batch: &mut Batch,
    ) {
        let properties = &delivery.message.properties;
        if properties.content_type.as_deref() == Some(JSON) {
            if !origin::is_right_for_notification(&delivery.message) {
                self.refuse_forged(shard, delivery, origin::WRONG_EXCHANGE);
                return;
            }
            return self.on_notification(shard, delivery, batch);
        }
        let queue = names::shard_queue(shard);
        if !error.is_loss(delivery.message.persistent) {
            warn!(queue, %error, "a report that is sent again, or obsolete soon, cannot be read; it is dropped");
            return delivery.accept();
        }
        let reason = format!("the engine could not read a report: {error}");
        let is_of_worker = |call: &CallId| self.context.secret.is_sealed_for(call, &delivery.message.body);
        if let Some(call) = protocol::call_of(&properties.headers).filter(is_of_worker) {
            self.load(&call.run, Some(shard), batch).await;
            return self.fail_unreadable(shard, call, delivery, &reason, batch);
        }
        if let (Some(reply_to), Some(_)) = (messages::reply_queue_of(&delivery), &properties.correlation_id)
            && self.context.secret.has_sealed(&delivery.message.body)
        {
            let reply = Reply::Failed(format!("the engine that drives the run could not read the request: {error}"));
            let reply = messages::reply(reply_to, properties.correlation_id.clone(), &reply);
            batch.effects.messages.push(reply);
        }
        self.quarantine(shard, delivery, &reason, batch);
    }

    /// Refuses a message whose sender has no right to it, and drops it: it decides nothing, and a flood of such messages must
    /// neither fill the quarantine nor the log. Returns whether the refusal was logged.
    pub(super) fn refuse_forged(&self, shard: &Shard, delivery: Delivery, reason: &str) -> bool {
        delivery.accept();
        self.refusals.log(&names::shard_queue(shard), reason)
    }

    /// Answers a question whose key no engine of this logbook gave, so that its worker does not wait: its job is of a logbook
    /// that was deleted, or forged, and there may be thousands of them. The answer proves nothing, and the worker decides as it
    /// does without one.
    pub(super) fn answer_unknown_key(&self, delivery: &Delivery, batch: &mut Batch) {
        let Some(reply_to) = messages::reply_queue_of(delivery) else { return };
        if let Some((call, question)) = Report::question(&delivery.message.body) {
            // It is not repeated: a stranger decides how many there are, and the worker goes on without it after some seconds.
            batch.effects.probes.push(messages::unknown_key(reply_to, call, question));
        }
    }

    /// Fails a call whose worker sent an unreadable report: its answer would be unreadable too. The effects of the
    /// call are unknown, so it needs a rollback.
    fn fail_unreadable(&mut self, shard: &Shard, call: CallId, delivery: Delivery, reason: &str, batch: &mut Batch) {
        let run = call.run.clone();
        let Some(delivery) = self.hold_for_stale(&run, delivery, &mut batch.effects) else { return };
        let queue = names::shard_queue(shard);
        warn!(queue, %call, reason, "a report of a worker cannot be read: the call fails, and the report is kept in waft.quarantine");
        let message = format!("{reason}; the report is in waft.quarantine");
        let signal = Signal {
            call: call.clone(),
            answer: TaskResult::Failed(Failure::new(FailureKind::Poison, message)),
            execution: execution_of(&delivery),
            redelivered: true,
            worker: None,
        };
        batch.effects.messages.push(quarantined(&delivery.message, &queue, reason));
        // The call may still be running.
        batch.effects.messages.push(messages::interrupt(call, &self.context.secret));
        batch.push(run.clone(), Event::Signal(signal));
        batch.signals.push((run, delivery));
    }

    /// Moves a delivery to the quarantine: it is accepted once the broker has the copy.
    pub(super) fn quarantine(&self, shard: &Shard, delivery: Delivery, reason: &str, batch: &mut Batch) {
        let queue = names::shard_queue(shard);
        warn!(queue, reason, "a message is kept in waft.quarantine");
        batch.effects.messages.push(quarantined(&delivery.message, &queue, reason));
        batch.effects.to_accept.push(delivery);
    }
}

/// The execution that a report stands for which names none: the same report has the same one when it is delivered again.
pub(super) fn execution_of(report: &Delivery) -> Execution {
    let mut hasher = DefaultHasher::new();
    report.message.body.hash(&mut hasher);
    Execution::new(hasher.finish())
}
