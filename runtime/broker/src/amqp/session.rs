//! One connection's life, from its making to its loss, and the channels on it.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use lapin::{Connection, Event};
use tokio::{sync::Semaphore, time};
use tokio_util::sync::CancellationToken;

use super::{channel::Channel, refusal::Refusal};

/// How many operations may be under way at once: each has a channel of its own, and a broker grants a connection
/// about two thousand.
const OPERATIONS: usize = 16;

/// lapin tells of every loss but a close without an error code, so its status is looked at now and then besides.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How long the broker may take for one operation. It takes milliseconds, and some seconds when it has just started; a
/// quorum queue without a leader takes for ever.
pub(super) const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

/// Why an operation was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The broker said no, or the channel or the connection went away.
    Lapin(lapin::Error),
    /// The broker has not answered in time, and answers others: it is about what was asked.
    Silent,
    /// The broker answers nobody on this connection, which will be lost.
    ConnectionStuck,
}

impl Failure {
    /// The broker's no, if that is what it was.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Lapin(error) => Refusal::of(error),
            Self::Silent | Self::ConnectionStuck => None,
        }
    }
}

/// How long the broker has to say that a connection is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection while it lasts.
pub(super) struct Session {
    connection: Connection,
    /// Channels at rest. An operation the broker refuses costs its channel, so none is ever shared.
    idle: Mutex<Vec<Arc<Channel>>>,
    operations: Semaphore,
    lost: CancellationToken,
    /// Whether the broker has said that it takes no messages for now.
    is_blocked: AtomicBool,
}

impl Session {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            idle: Mutex::default(),
            operations: Semaphore::new(OPERATIONS),
            lost: CancellationToken::new(),
            is_blocked: AtomicBool::new(false),
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Whether the broker takes no messages for now.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }

    /// Resolves when the connection has gone.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Waits after a failure that may be the connection's: until it is known to be lost, or for a moment.
    pub(super) async fn wait_for_loss(&self, moment: Duration) {
        // Either way it is time to look again.
        let _ = time::timeout(moment, self.lost()).await;
    }

    /// A channel for a long time.
    pub(super) async fn open_channel(&self) -> lapin::Result<Arc<Channel>> {
        self.connection.create_channel().await.map(|channel| Arc::new(Channel::new(channel)))
    }

    /// Waits for what the broker answers, but not for ever.
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

    /// Runs one operation on a channel of its own.
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
        let mut resting = self.lock();
        while let Some(channel) = resting.pop() {
            if channel.status().connected() {
                return Some(channel);
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Channel>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the connection until it is lost.
    pub(super) async fn monitor(&self) {
        let mut events = pin!(self.connection.events_listener());
        while self.connection.status().connected() {
            match time::timeout(STATUS_INTERVAL, events.next()).await {
                Ok(Some(Event::ConnectionBlocked(reason))) => {
                    self.is_blocked.store(true, Ordering::Relaxed);
                    tracing::warn!(%reason, "the broker takes no messages for now");
                }
                Ok(Some(Event::ConnectionUnblocked)) => {
                    self.is_blocked.store(false, Ordering::Relaxed);
                    tracing::info!("the broker takes messages again");
                }
                // Errors of channels come here too; the status says whether it was the connection's.
                Ok(Some(_)) | Err(_) => {}
                Ok(None) => break,
            }
        }
        self.lost.cancel();
    }

    /// Closes in order; what is unsettled goes back. A connection that is gone already is closed.
    pub(super) async fn close(&self) {
        self.lost.cancel();
        match time::timeout(CLOSE_TIMEOUT, self.connection.close(200, "closed".into())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the connection was gone before it was closed"),
            // The broker notices its end when the process ends.
            Err(_) => tracing::warn!("the broker does not answer: its connection is left"),
        }
    }
}
