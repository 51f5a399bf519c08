//! Decides whether a call may begin that may have been withdrawn: an engine is asked.
//!
//! A withdrawal cannot remove a job from its queue. A listening worker receives withdrawals. A worker that may have
//! missed one asks the engine, which costs a round trip, and only for such a job.

use std::time::Duration;

use broker::{Delivery, Message, Properties, PublishError, Routing};
use bytes::Bytes;
use flow::{Failure, FailureKind, TaskResult};
use protocol::{CallLog, Job, Report};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    call::{JobHandler, PublishOutcome, settle},
    control::{self, CallGuard, StartPrecondition},
};

/// Maximum time for the engine's reply. If an engine dies, another one takes over its runs within some seconds.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before an unconfirmed question is sent again.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// The decision about a call before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartDecision {
    /// The call begins.
    Start,
    /// The call does not begin: it was withdrawn.
    Withdrawn {
        /// Whether the engine has confirmed that, and so waits for no answer.
        is_confirmed: bool,
    },
    /// The worker stops: another one begins the call.
    GiveBack,
}

impl JobHandler {
    /// Asks an engine whether a call is still wanted, if that is uncertain. If no engine replies in time, a call
    /// begins unless this worker knows of its withdrawal. If it was withdrawn after all, its effects are rolled back
    /// as a late outcome.
    pub(crate) async fn check_start(
        &self,
        job: &Job,
        first: StartPrecondition,
        interrupt: &CancellationToken,
    ) -> StartDecision {
        let StartPrecondition::AskEngine { wanted, is_withdrawn } = first else { return StartDecision::Start };
        let asking = async {
            if !self.send_question(job).await {
                warn!(queue = job.signal_to, "nobody waits for this job any more: its engine has gone");
                return StartDecision::Withdrawn { is_confirmed: true };
            }
            match wanted.await {
                Ok(true) => StartDecision::Start,
                Ok(false) => StartDecision::Withdrawn { is_confirmed: true },
                // The sender is dropped only when the call ends.
                Err(_) => std::future::pending().await,
            }
        };
        // All arms only wait.
        let leave = tokio::select! {
            biased;
            () = self.abandon.cancelled() => return StartDecision::GiveBack,
            // An engine that interrupts a call waits for no answer if the call has not begun.
            () = interrupt.cancelled() => StartDecision::Withdrawn { is_confirmed: true },
            asked = timeout(REPLY_TIMEOUT, asking) => match asked {
                Ok(leave) => leave,
                Err(_) if is_withdrawn => StartDecision::Withdrawn { is_confirmed: false },
                Err(_) => StartDecision::Start,
            },
        };
        if leave == StartDecision::Start {
            self.calls.start_without_reply(job);
        }
        leave
    }

    /// Sends the question until the broker has it; returns `false` if its queue no longer exists.
    async fn send_question(&self, job: &Job) -> bool {
        let message = Message {
            exchange: String::new(),
            key: job.signal_to.clone(),
            routing: Routing::Mandatory,
            persistent: false,
            priority: 0,
            properties: Properties {
                reply_to: Some(control::queue_name(&self.name)),
                headers: protocol::headers(&job.call),
                ..Properties::default()
            },
            body: Report::MayBegin { call: job.call.clone() }.encode().into(),
        };
        loop {
            match self.broker.publish(message.clone()).await {
                Ok(()) => return true,
                Err(PublishError::Unroutable { .. }) => return false,
                // The worker ends, or is about to be stopped.
                Err(PublishError::Closed) => std::future::pending().await,
                Err(
                    error @ (PublishError::Refused { .. }
                    | PublishError::Unconfirmed { .. }
                    | PublishError::TooLarge { .. }),
                ) => {
                    debug!(%error, "the question was not taken; it is asked again");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    /// Drops a withdrawn call. No answer is needed, unless another worker had the job before: only that worker could
    /// tell whether it executed the job.
    pub(crate) async fn drop_withdrawn(&self, delivery: Delivery, job: &Job, call: CallGuard<'_>, is_sure: bool) {
        debug!("the call was withdrawn before it began");
        let again = call.end();
        let came_back = control::was_redelivered(&delivery) || again.was_redelivered;
        if is_sure && !came_back {
            return delivery.accept();
        }
        let failure = Failure::new(FailureKind::Cancelled, "it was withdrawn before this worker began it");
        let signal = self.signal_of(job, TaskResult::Failed(failure), came_back);
        let body = Bytes::from(Report::Signal(signal, CallLog::default()).encode());
        let signalled = self.send_signal(&job.call, body, &job.signal_to).await.unwrap_or(PublishOutcome::Unconfirmed);
        for delivery in std::iter::once(delivery).chain(again.deliveries) {
            settle(delivery, signalled);
        }
    }
}
