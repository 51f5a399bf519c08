//! Publishing with confirms: one channel, one task that owns it, and any number of waiting publishes.
//!
//! lapin numbers a publish and queues its frames in two steps, so only one task may publish on a channel. That also
//! preserves the order. `publisher/confirms.rs` tracks sent messages.

mod confirms;

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use lapin::{
    ExchangeKind,
    options::{ConfirmSelectOptions, ExchangeDeclareOptions},
    types::FieldTable,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{self, Instant},
};

use self::confirms::Confirms;
use super::{
    channel::Channel,
    session::{LOSS_GRACE, Session},
    sessions::Sessions,
};
use crate::{Message, PublishError, message_limits};

/// The maximum number of unconfirmed messages. It limits the memory that lapin and the broker use for them; a broker
/// confirms in batches, and gains nothing from more.
const MAX_UNCONFIRMED: usize = 4096;

/// The maximum number of publishes per poll, so that confirms are processed in between.
const MAX_PUBLISHES_PER_POLL: usize = 256;

/// How long the broker may take to confirm a message while it accepts messages: a queue without a leader never confirms.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(60);

/// How often to check for messages that exceed this limit.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The maximum size of a message on the channel that most messages share, in bytes: the smallest default maximum of RabbitMQ's releases.
/// A message that is too large closes its channel, and the other messages on it lose their confirms. So larger messages have a channel of
/// their own, and may overtake others or be overtaken.
const MAX_SHARED_BYTES: usize = 16 << 20;

/// A publish and its waiting caller.
struct QueuedPublish {
    message: Message,
    confirm: ConfirmSender,
}

/// The channel for the outcome. The caller may have dropped it, since a publish may be cancelled.
type ConfirmSender = oneshot::Sender<Result<(), PublishError>>;

/// Sends messages to the publishing task.
pub(super) struct Publisher {
    /// Unbounded: each entry is a publish with a waiting caller, and holds only what the caller would hold instead. With a
    /// bounded queue, waiting publishes could overtake one another.
    queue: mpsc::UnboundedSender<QueuedPublish>,
}

impl Publisher {
    pub(super) fn start(sessions: &Arc<Sessions>) -> Self {
        let (tx, queue) = mpsc::unbounded_channel();
        sessions.tasks.spawn(run(sessions.clone(), queue));
        Self { queue: tx }
    }

    /// Publishes a message. The first poll fixes its position in the order.
    pub(super) async fn publish(&self, message: Message) -> Result<(), PublishError> {
        if let Err(reason) = message_limits::check(&message) {
            let Message { exchange, key, .. } = message;
            return Err(PublishError::TooLarge { exchange, key, reason });
        }
        let (began_at, (confirm_tx, confirm_rx)) = (Instant::now(), oneshot::channel());
        self.queue.send(QueuedPublish { message, confirm: confirm_tx }).map_err(|_| PublishError::Closed)?;
        // The task reports an outcome for each sent message.
        let outcome = confirm_rx.await.unwrap_or(Err(PublishError::Closed));
        if outcome.is_ok() {
            metrics::global().observe_publish_confirm(began_at.elapsed());
        }
        outcome
    }
}

/// Publishes queued messages, on the channel of one session after another, until the broker is closed.
async fn run(sessions: Arc<Sessions>, mut queue: mpsc::UnboundedReceiver<QueuedPublish>) {
    while let Some(session) = sessions.current().await {
        match open(&session).await {
            Ok(channel) => {
                let mut outgoing = Outgoing::new(&session, channel);
                let end = sessions.stop.run_until_cancelled(outgoing.publish(&mut queue)).await;
                outgoing.fail_all();
                match end {
                    Some(PublishEnd::Channel) => {}
                    Some(PublishEnd::AllSendersDropped) | None => return,
                }
            }
            Err(error) => {
                tracing::debug!(%error, "could not open a channel to publish on");
                session.wait_for_loss(LOSS_GRACE).await;
            }
        }
    }
}

/// Waits for a confirm of a large message, and reports it. Returns false when their channel has closed. Cancel-safe, as
/// [`Confirms::next`] is; without such a message it never returns.
async fn next_large(large: &mut Option<Confirms>) -> bool {
    match large.as_mut().filter(|large| large.unconfirmed() > 0) {
        Some(large) => large.next().await,
        None => std::future::pending().await,
    }
}

async fn open(session: &Session) -> lapin::Result<Arc<Channel>> {
    let channel = session.open_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Why publishing on a channel ended.
enum PublishEnd {
    /// The channel closed, alone or with its connection.
    Channel,
    /// No publisher remains.
    AllSendersDropped,
}

/// Publishes on one channel, and large messages on another one.
struct Outgoing<'session> {
    session: &'session Session,
    confirms: Confirms,
    /// The messages of more than [`MAX_SHARED_BYTES`]; `None` until there is one, and after the broker has closed their channel.
    large: Option<Confirms>,
    /// Exchanges that are known to exist: a publish to a missing exchange closes the channel, and so loses the confirms of
    /// other publishes.
    exchanges: HashSet<String>,
}

impl<'session> Outgoing<'session> {
    fn new(session: &'session Session, channel: Arc<Channel>) -> Self {
        let confirms = Confirms::new(channel, session.max_message_bytes().clone());
        Self { session, confirms, large: None, exchanges: HashSet::new() }
    }

    fn unconfirmed(&self) -> usize {
        self.confirms.unconfirmed() + self.large.as_ref().map_or(0, Confirms::unconfirmed)
    }

    /// Fails all waiting messages as unconfirmed.
    fn fail_all(self) {
        self.confirms.fail_all();
        self.large.into_iter().for_each(Confirms::fail_all);
    }

    /// Publishes until the channel or the queue ends. May be dropped at any time: sent messages stay in `confirms`, and the
    /// callers of unsent messages get the error that the broker is closed.
    async fn publish(&mut self, queue: &mut mpsc::UnboundedReceiver<QueuedPublish>) -> PublishEnd {
        let mut received = Vec::with_capacity(MAX_PUBLISHES_PER_POLL);
        let mut check = time::interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            let capacity = MAX_UNCONFIRMED.saturating_sub(self.unconfirmed()).min(MAX_PUBLISHES_PER_POLL);
            tokio::select! {
                biased;
                () = self.session.lost() => return PublishEnd::Channel,
                // Cancel-safe by its documentation.
                still_open = self.confirms.next(), if self.confirms.unconfirmed() > 0 => {
                    if !still_open {
                        return PublishEnd::Channel;
                    }
                }
                still_open = next_large(&mut self.large) => {
                    if !still_open {
                        self.large.take().into_iter().for_each(Confirms::fail_all);
                    }
                }
                _ = check.tick() => {
                    if !self.session.is_blocked() {
                        self.confirms.fail_older_than(CONFIRM_TIMEOUT);
                        self.large.iter_mut().for_each(|large| large.fail_older_than(CONFIRM_TIMEOUT));
                    }
                }
                count = queue.recv_many(&mut received, capacity), if capacity > 0 => {
                    if count == 0 {
                        return PublishEnd::AllSendersDropped;
                    }
                    for publish in received.drain(..) {
                        self.send(publish).await;
                    }
                }
            }
        }
    }

    async fn send(&mut self, publish: QueuedPublish) {
        if publish.confirm.is_closed() {
            return;
        }
        let (size, max) = (publish.message.body.len(), self.session.max_message_bytes().load(Ordering::Relaxed));
        if size > max {
            let QueuedPublish { message: Message { exchange, key, .. }, confirm } = publish;
            let reason = format!("its {size} bytes are more than the {max} of the broker's max_message_size");
            let _ = confirm.send(Err(PublishError::TooLarge { exchange, key, reason }));
            return;
        }
        match self.find_exchange(&publish.message.exchange).await {
            Ok(()) if size > MAX_SHARED_BYTES => self.send_large(publish).await,
            Ok(()) => self.confirms.send(publish).await,
            Err(reason) => {
                let QueuedPublish { message: Message { exchange, key, .. }, confirm } = publish;
                let _ = confirm.send(Err(PublishError::Refused { exchange, key, reason }));
            }
        }
    }

    /// Sends a large message on a channel that the broker may close without harm to smaller ones.
    async fn send_large(&mut self, publish: QueuedPublish) {
        let large = match self.large.take() {
            Some(large) => Ok(large),
            None => {
                open(self.session).await.map(|channel| Confirms::new(channel, self.session.max_message_bytes().clone()))
            }
        };
        match large {
            Ok(large) => self.large.insert(large).send(publish).await,
            Err(error) => {
                tracing::debug!(%error, "could not open a channel for large messages");
                let key = publish.message.key;
                let _ = publish.confirm.send(Err(PublishError::Unconfirmed { key }));
            }
        }
    }

    /// Fails for a missing exchange. If the connection is lost in the meantime, the publish reports it.
    async fn find_exchange(&mut self, name: &str) -> Result<(), String> {
        if name.is_empty() || self.exchanges.contains(name) {
            return Ok(());
        }
        let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let result = self.session.operate(|channel| async move {
            let none = FieldTable::default();
            channel.exchange_declare(name.into(), ExchangeKind::Direct, passive, none).await
        });
        match result.await {
            Ok(()) => {
                self.exchanges.insert(name.to_owned());
                Ok(())
            }
            Err(failure) => failure.refusal().map_or(Ok(()), |refusal| Err(refusal.reason)),
        }
    }
}
