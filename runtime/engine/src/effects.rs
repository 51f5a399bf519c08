//! What a batch of steps causes. The parts of the engine ask for effects and never carry them out themselves; the outbox
//! does, once the records of the batch are durable.

use broker::{Delivery, Message};
use flow::RunId;
use logbook::Version;
use protocol::{Job, Reply, ReplyQueue};
use tokio::sync::{mpsc, oneshot};

use crate::{messages, watch::WatchEvent};

/// The effects of one batch of steps.
#[derive(Default)]
pub(crate) struct Effects {
    /// Messages to publish, in this order.
    pub(crate) messages: Vec<Message>,
    /// Jobs to publish after these messages.
    pub(crate) jobs: Vec<JobMessage>,
    /// Messages that are useful only now, such as probes: one that is not published within a tick is dropped.
    pub(crate) probes: Vec<Message>,
    /// Events for watchers.
    pub(crate) watch_events: Vec<(mpsc::Sender<WatchEvent>, WatchEvent)>,
    /// Deliveries to accept once the broker has all messages.
    pub(crate) to_accept: Vec<Delivery>,
    /// Runs, each with the version up to which this batch and all earlier ones contain its messages.
    pub(crate) published: Vec<(RunId, Version)>,
}

/// A job, and the message for it, whose body is still empty: it is encoded when it is sent, after its large values have moved to the store.
pub(crate) struct JobMessage {
    pub(crate) message: Message,
    pub(crate) job: Box<Job>,
}

/// The target of the reply to a run command.
pub(crate) enum ReplyTo {
    /// A caller in this process.
    Local(oneshot::Sender<Reply>),
    /// The sender of a message.
    Remote {
        /// The queue of the replies.
        queue: ReplyQueue,
        /// Identifies the request among those of the sender.
        correlation_id: Option<String>,
    },
}

impl Effects {
    /// Sends the reply to a run command: a local one now, a remote one with the batch.
    pub(crate) fn reply(&mut self, to: ReplyTo, reply: Reply) {
        match to {
            ReplyTo::Local(sender) => {
                // The requester may have disconnected.
                let _ = sender.send(reply);
            }
            ReplyTo::Remote { queue, correlation_id } => {
                self.messages.push(messages::reply(queue, correlation_id, &reply));
            }
        }
    }
}
