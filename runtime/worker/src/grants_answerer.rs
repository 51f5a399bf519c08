//! Answers questions about grants, apart from the task that handles interruptions and withdrawals: a question may be about a
//! thousand things, and each is compared with all grants.

use std::sync::Arc;

use broker::Broker;
use flow::QueueName;
use protocol::{GrantsAnswer, GrantsQuestion, ReplyQueue};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;

use crate::{
    GuestRunner,
    control::{reply, send_best_effort},
};

/// The maximum number of questions that wait. Whoever asks waits a second for an answer, and a question takes milliseconds. Each has
/// at most the size of a control message.
const MAX_WAITING: usize = 32;

/// Receives questions about grants.
#[derive(Clone)]
pub(crate) struct GrantsQuestions(mpsc::Sender<(ReplyQueue, GrantsQuestion)>);

/// Answers questions about grants, one after the other.
pub(crate) struct GrantsAnswerer {
    waiting: mpsc::Receiver<(ReplyQueue, GrantsQuestion)>,
    queues: Vec<QueueName>,
}

/// Creates both ends, for a worker of these queues.
pub(crate) fn channel(queues: Vec<QueueName>) -> (GrantsQuestions, GrantsAnswerer) {
    let (questions, waiting) = mpsc::channel(MAX_WAITING);
    (GrantsQuestions(questions), GrantsAnswerer { waiting, queues })
}

impl GrantsQuestions {
    /// Adds a question, unless too many wait: whoever asked then counts one worker less.
    pub(crate) fn add(&self, reply_to: ReplyQueue, question: GrantsQuestion) {
        match self.0.try_send((reply_to, question)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::warn!(waiting = MAX_WAITING, "a question about grants is not answered: too many wait");
            }
            // The worker stops.
            Err(TrySendError::Closed(_)) => {}
        }
    }
}

impl GrantsAnswerer {
    /// Answers until `stop` is cancelled.
    pub(crate) async fn run(mut self, broker: Arc<dyn Broker>, guests: Arc<dyn GuestRunner>, stop: CancellationToken) {
        while let Some(Some((reply_to, question))) = stop.run_until_cancelled(self.waiting.recv()).await {
            let guests = guests.clone();
            let granted = spawn_blocking(move || guests.granted_parts(&question));
            let Some(granted) = stop.run_until_cancelled(granted).await else { return };
            let tasks = granted.expect("comparing grants does not panic");
            let answer = GrantsAnswer { queues: self.queues.clone(), tasks };
            send_best_effort(&*broker, reply(reply_to, answer.encode()), &stop).await;
        }
    }
}
