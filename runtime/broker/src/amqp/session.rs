//! One connection from its opening to its loss, and the channels on it.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use lapin::{Connection, Event};
use tokio::{sync::Semaphore, time};
use tokio_util::sync::CancellationToken;

use super::{channel::Channel, private_names::PrivateNames, refusal::Refusal, settler::ChannelSettler};

/// The maximum number of concurrent operations: each has its own channel, and a broker grants a connection about two
/// thousand.
const OPERATIONS: usize = 16;

/// The number of channels that consumers leave free: for operations, the publisher, and channels that are about to close. Without a
/// free channel, the connection could not do anything else any more.
const RESERVED_CHANNELS: u16 = 64;

/// The interval of status checks. lapin reports every loss except a close without an error code, so the status is checked
/// too.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How long a failed operation waits until the loss of its connection is known, before it is retried.
pub(super) const LOSS_GRACE: Duration = Duration::from_millis(100);

/// The time limit of one operation. It takes milliseconds, or some seconds when the broker has just started; a quorum queue
/// without a leader never answers.
pub(super) const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

/// Why an operation failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The broker refused, or the channel or the connection was lost.
    Lapin(lapin::Error),
    /// The broker did not answer in time but answers other operations: the cause is the object of this operation.
    Silent,
    /// The broker answers nothing on this connection, which will be lost.
    ConnectionStuck,
    /// Consumers use all channels of the connection that they may use.
    NoChannel {
        /// The maximum number of channels of a connection.
        channel_max: u16,
    },
}

impl Failure {
    /// The broker's refusal, if it is one.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Lapin(error) => Refusal::of(error),
            Self::Silent | Self::ConnectionStuck => None,
            Self::NoChannel { channel_max } => Some(Refusal::no_channel(*channel_max)),
        }
    }
}

/// The time limit for the broker to confirm the close of a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// An open connection.
pub(super) struct Session {
    connection: Connection,
    private_names: Arc<PrivateNames>,
    /// Idle channels. A refused operation closes its channel, so channels are never shared.
    idle: Mutex<Vec<Arc<Channel>>>,
    operations: Semaphore,
    /// The channels that consumers may open.
    consumers: Arc<Semaphore>,
    /// The settlers of the consumers' channels.
    settlers: Mutex<Vec<Weak<ChannelSettler>>>,
    lost: CancellationToken,
    /// Whether the broker has announced that it accepts no messages for now.
    is_blocked: AtomicBool,
    /// The maximum size of a message, in bytes, as soon as the broker has refused one that is larger.
    max_message_bytes: Arc<AtomicUsize>,
}

impl Session {
    pub(super) fn new(connection: Connection) -> Self {
        let consumers = consumer_channels(connection.configuration().channel_max());
        Self {
            connection,
            private_names: Arc::default(),
            consumers: Arc::new(Semaphore::new(consumers)),
            idle: Mutex::default(),
            operations: Semaphore::new(OPERATIONS),
            settlers: Mutex::default(),
            lost: CancellationToken::new(),
            is_blocked: AtomicBool::new(false),
            max_message_bytes: Arc::new(AtomicUsize::new(usize::MAX)),
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Whether the broker accepts no messages for now.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }

    /// The maximum size of a message, in bytes: the largest number until the broker has refused a message, since AMQP has no question for
    /// it. It is of this connection: a broker with another maximum has been restarted.
    pub(super) fn max_message_bytes(&self) -> &Arc<AtomicUsize> {
        &self.max_message_bytes
    }

    /// Resolves when the connection is lost.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Waits after a failure that the connection may have caused: until the loss is known, or for `grace`.
    pub(super) async fn wait_for_loss(&self, grace: Duration) {
        // In both cases the caller checks again.
        let _ = time::timeout(grace, self.lost()).await;
    }

    /// Opens the channel of a consumer.
    pub(super) async fn open_consumer_channel(&self) -> Result<Arc<Channel>, Failure> {
        let channel_max = self.connection.configuration().channel_max();
        let slot = self.consumers.clone().try_acquire_owned().map_err(|_| Failure::NoChannel { channel_max })?;
        let channel = self.with_timeout(self.connection.create_channel()).await?;
        Ok(Arc::new(Channel::of_consumer(channel, self.private_names.clone(), slot)))
    }

    /// Opens a channel for operations, or for the publisher.
    pub(super) async fn open_channel(&self) -> lapin::Result<Arc<Channel>> {
        let channel = self.connection.create_channel().await?;
        Ok(Arc::new(Channel::new(channel, self.private_names.clone())))
    }

    /// Lets `settler` acknowledge accepted deliveries before the connection closes.
    pub(super) fn flush_on_close(&self, settler: &Arc<ChannelSettler>) {
        let mut settlers = self.settlers.lock().unwrap_or_else(PoisonError::into_inner);
        settlers.retain(|settler| settler.strong_count() > 0);
        settlers.push(Arc::downgrade(settler));
    }

    fn flush(&self) {
        let settlers = std::mem::take(&mut *self.settlers.lock().unwrap_or_else(PoisonError::into_inner));
        settlers.iter().filter_map(Weak::upgrade).for_each(|settler| settler.flush());
    }

    /// Waits for the broker's answer, with a time limit.
    pub(super) async fn with_timeout<T>(&self, answer: impl Future<Output = lapin::Result<T>>) -> Result<T, Failure> {
        match time::timeout(OPERATION_TIMEOUT, answer).await {
            Ok(answer) => answer.map_err(Failure::Lapin),
            Err(_) => match time::timeout(OPERATION_TIMEOUT, self.open_channel()).await {
                Ok(Ok(_)) => Err(Failure::Silent),
                Ok(Err(error)) => Err(Failure::Lapin(error)),
                Err(_) => Err(Failure::ConnectionStuck),
            },
        }
    }

    /// Runs one operation on its own channel.
    pub(super) async fn operate<T, F>(&self, operation: impl FnOnce(Arc<Channel>) -> F) -> Result<T, Failure>
    where
        F: Future<Output = lapin::Result<T>>,
    {
        let _permit = self.operations.acquire().await.expect("the semaphore is never closed");
        let channel = match self.idle_channel() {
            Some(channel) => channel,
            None => self.with_timeout(self.open_channel()).await?,
        };
        let answer = self.with_timeout(operation(channel.clone())).await;
        if answer.is_ok() {
            self.lock().push(channel);
        }
        answer
    }

    fn idle_channel(&self) -> Option<Arc<Channel>> {
        let mut idle = self.lock();
        while let Some(channel) = idle.pop() {
            if channel.status().connected() {
                return Some(channel);
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Channel>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Monitors the connection until it is lost.
    pub(super) async fn monitor(&self) {
        let mut events = pin!(self.connection.events_listener());
        while self.connection.status().connected() {
            match time::timeout(STATUS_INTERVAL, events.next()).await {
                Ok(Some(Event::ConnectionBlocked(reason))) => {
                    self.is_blocked.store(true, Ordering::Relaxed);
                    tracing::warn!(%reason, "the broker accepts no messages for now");
                }
                Ok(Some(Event::ConnectionUnblocked)) => {
                    self.is_blocked.store(false, Ordering::Relaxed);
                    tracing::info!("the broker accepts messages again");
                }
                // Errors of channels arrive here too; the status shows whether the connection failed.
                Ok(Some(_)) | Err(_) => {}
                Ok(None) => break,
            }
        }
        self.lost.cancel();
    }

    /// Closes in order; unsettled deliveries return to their queues. A lost connection counts as closed.
    pub(super) async fn close(&self) {
        self.lost.cancel();
        self.flush();
        match time::timeout(CLOSE_TIMEOUT, self.connection.close(200, "closed".into())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the connection was lost before it was closed"),
            // The broker notices when the process ends.
            Err(_) => tracing::warn!("the broker does not answer: its connection is abandoned"),
        }
    }
}

/// The number of channels that the consumers of a connection may use. A maximum of 0 means none.
fn consumer_channels(channel_max: u16) -> usize {
    let max = if channel_max == 0 { u16::MAX } else { channel_max };
    usize::from(max.saturating_sub(RESERVED_CHANNELS).max(max / 2).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_leave_channels_for_operations() {
        assert_eq!(consumer_channels(2_047), 1_983);
        assert_eq!(consumer_channels(100), 50, "a broker that grants few channels");
        assert_eq!(consumer_channels(0), 65_471, "no maximum");
        assert!(2 * OPERATIONS < usize::from(RESERVED_CHANNELS));
    }
}
