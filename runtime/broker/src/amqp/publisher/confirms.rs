//! The messages sent on one channel, until the broker reports their outcome.
//!
//! The broker returns an unroutable mandatory message, and then confirms it like any other. lapin attaches a returned
//! message to whichever publish of the channel is confirmed next, and reports a batch of confirms in no particular order. So
//! each message that may be returned carries a number, and no outcome is reported before the batch is complete. That
//! suffices: RabbitMQ confirms returned messages in the order in which it returned them. So once a message's own confirm has
//! arrived, some publish that was confirmed before or with it has delivered its return.

use std::{
    collections::{HashMap, HashSet},
    future::{self, Future},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use lapin::{Confirmation, Result, message::BasicReturnMessage, options::BasicPublishOptions};
use tokio::time::Instant;

use super::{ConfirmSender, QueuedPublish};
use crate::{
    PublishError, Routing,
    amqp::{channel::Channel, properties, refusal::Refusal},
};

/// A sent message.
struct Pending {
    exchange: String,
    key: String,
    size: usize,
    sent_at: Instant,
    confirm: ConfirmSender,
}

impl Pending {
    fn confirmed(self) {
        // The caller may have dropped its future.
        let _ = self.confirm.send(Ok(()));
    }

    fn rejected(self) {
        let Self { exchange, key, confirm, .. } = self;
        let _ = confirm.send(Err(PublishError::Rejected { exchange, key }));
    }

    fn refused(self, reason: String) {
        let Self { exchange, key, confirm, .. } = self;
        let _ = confirm.send(Err(PublishError::Refused { exchange, key, reason }));
    }

    fn too_large(self, reason: String) {
        let Self { exchange, key, confirm, .. } = self;
        let _ = confirm.send(Err(PublishError::TooLarge { exchange, key, reason }));
    }

    fn unroutable(self) {
        let Self { exchange, key, confirm, .. } = self;
        let _ = confirm.send(Err(PublishError::Unroutable { exchange, key }));
    }

    fn unconfirmed(self) {
        let Self { key, confirm, .. } = self;
        let _ = confirm.send(Err(PublishError::Unconfirmed { key }));
    }

    /// Whether the refusal that closed the channel concerns the exchange of this message.
    fn is_named_by(&self, refusal: &Refusal) -> bool {
        let exchange = if self.exchange.is_empty() { "amq.default" } else { &self.exchange };
        refusal.reason.contains(&format!("'{exchange}'"))
    }
}

/// The maximum size of a message, if a broker closed a channel because a message was larger. RabbitMQ has no code for that alone, so its
/// message text decides; a test verifies the text. The text ends with the maximum.
fn exceeded_maximum(refusal: &Refusal) -> Option<usize> {
    let (_, after) = refusal.reason.split_once("is larger than")?;
    let (_, max) = after.split_once("max size")?;
    max.trim().parse().ok()
}

/// The number of a publish, and lapin's result of it.
type Outcome = (u64, Result<Confirmation>);

/// The messages sent on one channel.
pub(super) struct Confirms {
    channel: Arc<Channel>,
    sent: u64,
    waiting: FuturesUnordered<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
    pending: HashMap<u64, Pending>,
    /// Messages that were returned, and whose own confirm has not arrived yet.
    returned: HashSet<u64>,
    /// The broker's maximum size of a message, which it names when it refuses one.
    max_message_bytes: Arc<AtomicUsize>,
}

impl Confirms {
    pub(super) fn new(channel: Arc<Channel>, max_message_bytes: Arc<AtomicUsize>) -> Self {
        Self {
            channel,
            sent: 0,
            waiting: FuturesUnordered::new(),
            pending: HashMap::new(),
            returned: HashSet::new(),
            max_message_bytes,
        }
    }

    pub(super) fn unconfirmed(&self) -> usize {
        self.pending.len()
    }

    /// Sends a message without waiting.
    pub(super) async fn send(&mut self, QueuedPublish { message, confirm }: QueuedPublish) {
        self.sent += 1;
        let number = self.sent;
        let mandatory = match message.routing {
            Routing::Mandatory => true,
            Routing::Optional => false,
        };
        let properties = properties::outgoing(&message, mandatory.then_some(number));
        let (channel, body) = (self.channel.clone(), message.body.clone());
        let (exchange, key) = (message.exchange.as_str().into(), message.key.as_str().into());
        let mut publish = Box::pin(async move {
            let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
            let sent = channel.basic_publish(exchange, key, options, &body, properties).await;
            let confirmation = match sent {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
            (number, confirmation)
        });
        // The first poll queues the frames. All later polls wait.
        let outcome = futures::poll!(&mut publish);
        let size = message.body.len();
        let pending = Pending { exchange: message.exchange, key: message.key, size, sent_at: Instant::now(), confirm };
        self.pending.insert(number, pending);
        match outcome {
            Poll::Pending => self.waiting.push(publish),
            Poll::Ready(outcome) => self.waiting.push(Box::pin(future::ready(outcome))),
        }
    }

    /// Waits for a confirm, and reports the outcome of all confirmed messages. Returns false when the channel has closed.
    ///
    /// Cancel-safe: it waits only before it takes an outcome.
    pub(super) async fn next(&mut self) -> bool {
        let Some(first) = self.waiting.next().await else { return true };
        let mut batch = vec![first];
        self.take_ready(&mut batch).await;
        flush_confirm_batch(&self.channel).await;
        self.take_ready(&mut batch).await;
        for (_, outcome) in &batch {
            if let Some(message) = returned(outcome) {
                self.returned.extend(properties::number(&message.properties));
            }
        }
        let mut still_open = true;
        for (number, outcome) in batch {
            still_open &= outcome.is_ok();
            self.complete(number, outcome);
        }
        still_open
    }

    async fn take_ready(&mut self, batch: &mut Vec<Outcome>) {
        while let Poll::Ready(Some(outcome)) = futures::poll!(self.waiting.next()) {
            batch.push(outcome);
        }
    }

    fn complete(&mut self, number: u64, outcome: Result<Confirmation>) {
        let Some(pending) = self.pending.remove(&number) else { return };
        let was_returned = self.returned.remove(&number);
        match outcome {
            Ok(Confirmation::Ack(_)) if was_returned => pending.unroutable(),
            Ok(Confirmation::Ack(_)) => pending.confirmed(),
            Ok(Confirmation::Nack(_)) => pending.rejected(),
            Ok(Confirmation::NotRequested) => pending.unconfirmed(),
            Err(error) => match Refusal::of(&error).map(|refusal| (exceeded_maximum(&refusal), refusal)) {
                // The other messages of the channel are repeated, unless they are too large as well.
                Some((Some(max), refusal)) => {
                    self.max_message_bytes.store(max, Ordering::Relaxed);
                    match pending.size > max {
                        true => pending.too_large(refusal.reason),
                        false => pending.unconfirmed(),
                    }
                }
                Some((None, refusal)) if pending.is_named_by(&refusal) => pending.refused(refusal.reason),
                Some((None, _)) | None => pending.unconfirmed(),
            },
        }
    }

    /// Fails the messages that have waited longer than `limit` as unconfirmed.
    pub(super) fn fail_older_than(&mut self, limit: Duration) {
        let old = self.pending.extract_if(|_, pending| pending.sent_at.elapsed() >= limit);
        old.for_each(|(_, pending)| pending.unconfirmed());
    }

    /// Fails all waiting messages as unconfirmed.
    pub(super) fn fail_all(mut self) {
        self.waiting.clear();
        self.pending.drain().for_each(|(_, pending)| pending.unconfirmed());
    }
}

/// Returns once lapin has reported the outcome of every publish in the current batch of confirms.
///
/// lapin reports under a lock. Polling this wait once takes that lock, so all outcomes are reported; the result does
/// not matter.
async fn flush_confirm_batch(channel: &Channel) {
    let _ = futures::poll!(pin!(channel.wait_for_confirms()));
}

fn returned(outcome: &Result<Confirmation>) -> Option<&BasicReturnMessage> {
    match outcome {
        Ok(Confirmation::Ack(returned) | Confirmation::Nack(returned)) => returned.as_ref(),
        Ok(Confirmation::NotRequested) | Err(_) => None,
    }
}
