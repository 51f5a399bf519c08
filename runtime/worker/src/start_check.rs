//! Decides whether a call may start that may have been withdrawn: the worker asks an engine.
//!
//! A withdrawal cannot remove a job from its queue. A connected worker receives withdrawals. A worker that may have
//! missed one asks the engine, which costs a round trip for such a job only.

use std::time::Duration;

use broker::{Delivery, Message, Properties, PublishError, Routing};
use bytes::Bytes;
use flow::{Failure, FailureKind, TaskResult};
use protocol::{CallLog, Job, Report, topology};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    call::{JobHandler, PublishOutcome, settle},
    call_registry::{self, CallGuard, StartPrecondition, StartReply},
};

/// Maximum time for the engine's reply. If an engine dies, another one takes over its runs within some seconds.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of questions without a reply, after which a withdrawn call starts: each holds a slot while it waits.
const MAX_UNANSWERED: u32 = 5;

/// Delay before an unconfirmed question is sent again.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// The decision about a call before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartDecision {
    /// The call starts.
    Start,
    /// The call does not start: an engine has withdrawn it, and waits for no signal.
    Withdrawn,
    /// The worker stops, so another one starts the call.
    Return,
    /// The call was withdrawn, and may be wanted again since: no engine answers now.
    AskLater,
}

impl JobHandler {
    /// Asks an engine whether a call is still wanted, if that is uncertain. If no engine replies in time or can ever reply, a call starts, and
    /// its effects are rolled back as a late outcome if it was withdrawn after all. A call of whose withdrawal this worker
    /// knows starts without a reply only after [`MAX_UNANSWERED`] questions: until then its job is sent again.
    pub(crate) async fn check_start(
        &self,
        job: &Job,
        precondition: StartPrecondition,
        unanswered: u32,
        interrupt: &CancellationToken,
    ) -> StartDecision {
        let StartPrecondition::AskEngine { reply, is_withdrawn } = precondition else { return StartDecision::Start };
        let without_answer =
            if is_withdrawn && unanswered < MAX_UNANSWERED { StartDecision::AskLater } else { StartDecision::Start };
        let answer = async {
            if !self.send_question(job).await {
                warn!(queue = job.signal_to, "no engine waits for this job any more: its queue was deleted");
                return StartDecision::Withdrawn;
            }
            match reply.await {
                Ok(StartReply::Wanted) => StartDecision::Start,
                Ok(StartReply::Unwanted) => StartDecision::Withdrawn,
                Ok(StartReply::UnknownKey) => without_answer,
                // The sender is dropped only when the call ends.
                Err(_) => std::future::pending().await,
            }
        };
        // All branches only wait.
        let decision = tokio::select! {
            biased;
            () = self.abandon.cancelled() => return StartDecision::Return,
            // An engine that interrupts a call waits for no signal if the call has not started.
            () = interrupt.cancelled() => StartDecision::Withdrawn,
            result = timeout(REPLY_TIMEOUT, answer) => result.unwrap_or(without_answer),
        };
        if decision == StartDecision::Start {
            self.calls.start_without_reply(job);
        }
        decision
    }

    /// Sends the question until the broker has it; returns `false` if its queue no longer exists.
    async fn send_question(&self, job: &Job) -> bool {
        let message = Message {
            exchange: topology::REPORTS.to_owned(),
            key: job.signal_to.clone(),
            routing: Routing::Mandatory,
            persistent: false,
            priority: 0,
            properties: Properties {
                reply_to: Some(topology::control_queue(&self.name)),
                headers: protocol::headers(&job.call),
                ..Properties::default()
            },
            body: Report::AskStart { call: job.call.clone() }.encode(&job.keys).into(),
        };
        loop {
            match self.broker.publish(message.clone()).await {
                Ok(()) => return true,
                // Somebody deleted the exchange, so the bindings of its queues too: the engine binds its queue again.
                Err(ref error @ PublishError::Unroutable { ref key, .. }) if self.signals.has_queue(key).await => {
                    debug!(%error, "the queue of an engine is not bound; the question is sent again");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                Err(PublishError::Unroutable { .. }) => return false,
                // No queue has such a name.
                Err(error @ PublishError::TooLarge { .. }) => {
                    warn!(%error, "the question whether a call may start can never be sent");
                    return false;
                }
                // The worker ends or is being stopped.
                Err(PublishError::Closed) => std::future::pending().await,
                Err(
                    error @ (PublishError::Refused { .. }
                    | PublishError::Rejected { .. }
                    | PublishError::Unconfirmed { .. }),
                ) => {
                    debug!(%error, "the question was not confirmed; it is sent again");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    /// Drops a withdrawn call. No signal is needed, unless another worker had the job before: only that worker
    /// knows whether it executed the job.
    pub(crate) async fn drop_withdrawn(&self, delivery: Delivery, job: &Job, call: CallGuard<'_>) {
        debug!("the call was withdrawn before it started");
        let execution = call.execution();
        let redeliveries = call.end();
        let is_redelivered = call_registry::was_redelivered(&delivery) || redeliveries.was_redelivered;
        if !is_redelivered {
            return delivery.accept();
        }
        let failure = Failure::new(FailureKind::Cancelled, "it was withdrawn before this worker started it");
        let signal = self.signal_of(job, execution, TaskResult::Failed(failure), is_redelivered);
        let body = Bytes::from(Report::Signal(signal, CallLog::default()).encode(&job.keys));
        let published = self.send_signal(&job.call, body, &job.signal_to).await.unwrap_or(PublishOutcome::Unconfirmed);
        for delivery in std::iter::once(delivery).chain(redeliveries.deliveries) {
            settle(delivery, published);
        }
    }
}
