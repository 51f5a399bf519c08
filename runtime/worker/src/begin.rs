//! Whether a call may begin that may have been withdrawn: an engine says so.
//!
//! Withdrawing a call cannot take its job off its queue. A worker that listens hears what is withdrawn; one that cannot know
//! asks, which costs a round trip, and only for such a job.

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

/// How long an engine has to answer. Another one takes over the runs of one that dies within some seconds.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait before a question that was not taken is sent again.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// What becomes of a call before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartDecision {
    /// It begins.
    Start,
    /// It does not: nobody wants it any more.
    Withdrawn {
        /// Whether the engine knows that, and waits for no answer.
        is_confirmed: bool,
    },
    /// The worker stops: another one begins it.
    GiveBack,
}

impl JobHandler {
    /// Asks an engine whether a call is still wanted, where that has to be known first. If no engine answers in time, a call
    /// begins that was not withdrawn as far as this worker knows: what it does is then taken back as a late outcome, if it
    /// was withdrawn.
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
                // The call is forgotten with its sender, and not before.
                Err(_) => std::future::pending().await,
            }
        };
        // All arms only wait.
        let leave = tokio::select! {
            biased;
            () = self.abandon.cancelled() => return StartDecision::GiveBack,
            // An engine that interrupts a call waits for no answer of one that has not begun.
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

    /// Sends the question until the broker has it; answers whether anybody can hear it.
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
                // The worker ends, or is told to.
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

    /// Leaves a call that nobody wants. Nobody waits for an answer, unless a worker had the job before: that one may have
    /// executed it, which nobody else can tell.
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
