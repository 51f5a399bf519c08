//! The events of all runs, for those who watch them: the states of runs and of their tasks, as engines publish them on the broker.
//!
//! One queue receives the notifications of all engines, while somebody watches and for some minutes after that. Each event is encoded once,
//! and kept in one buffer of bounded size (`recent_events/buffer.rs`) that all watchers read from. Where the buffer does not reach, a watcher
//! gets an event that says so. An engine does nothing for a watcher, and does not know that there is one.

pub(crate) mod event;
mod buffer;
mod intake;
pub(crate) mod labels;
pub(crate) mod watcher;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::Broker;
use flow::Namespace;
use logbook::Logbook;
use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    buffer::{Buffer, Cursor},
    event::{EventFilter, RecentEvent},
    intake::{Intake, IntakeError, PATIENCE},
    labels::LabelCache,
    watcher::Watcher,
};

/// Why nobody can watch now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// The notifications cannot be received.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// The secret with which engines seal notifications cannot be read.
    #[error("could not read the secret of the engines from the logbook")]
    Secret(#[from] logbook::AppendError),
}

/// The recent events of all runs.
pub(crate) struct RecentEvents {
    shared: Arc<Shared>,
    broker: Arc<dyn Broker>,
    logbook: Arc<dyn Logbook>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What watchers and the intake share.
struct Shared {
    buffer: Mutex<Buffer>,
    labels: LabelCache,
    /// Wakes watchers: events were added, or lost.
    changed: watch::Sender<()>,
    watchers: watch::Sender<usize>,
    /// Whether notifications are received. Who starts or ends that holds the lock meanwhile.
    is_receiving: tokio::sync::Mutex<bool>,
}

/// Where a watcher begins.
pub(crate) enum Start {
    /// With the events that come from now on.
    Now,
    /// After an event that was received before.
    After(Cursor),
}

impl Start {
    /// Begins after the event with this id; `None` for a text that is no id.
    pub(crate) fn after(id: &str) -> Option<Self> {
        Cursor::parse(id).map(Self::After)
    }
}

impl RecentEvents {
    pub(crate) fn new(broker: Arc<dyn Broker>, logbook: Arc<dyn Logbook>, stop: CancellationToken) -> Self {
        // The last half of such an id is random.
        let (_, first_id) = uuid::Uuid::now_v7().as_u64_pair();
        let shared = Shared {
            buffer: Mutex::new(Buffer::new(first_id)),
            labels: LabelCache::default(),
            changed: watch::Sender::new(()),
            watchers: watch::Sender::new(0),
            is_receiving: tokio::sync::Mutex::new(false),
        };
        Self { shared: Arc::new(shared), broker, logbook, stop, tasks: TaskTracker::new() }
    }

    /// Watches the events of a namespace, or of all, that a filter lets through. When this returns, everything that is published from now on
    /// is received.
    ///
    /// # Errors
    /// [`WatchError`] when they cannot be received.
    pub(crate) async fn watch(
        &self,
        namespace: Option<Namespace>,
        filter: EventFilter,
        start: Start,
    ) -> Result<Watcher, WatchError> {
        let watched = Watched::new(self.shared.clone());
        // A task of its own, which a client that leaves does not end: it might leave a queue behind.
        self.tasks.spawn(self.receive()).await.expect("receiving does not panic")?;
        let end = self.shared.buffer().end(namespace.as_ref());
        let at = match start {
            Start::Now => end,
            Start::After(cursor) => cursor,
        };
        Ok(Watcher::new(watched, self.logbook.clone(), namespace, filter, at))
    }

    /// Receives notifications from now on, if they are not received already.
    fn receive(&self) -> impl Future<Output = Result<(), WatchError>> + Send + use<> {
        let (shared, broker, logbook) = (self.shared.clone(), self.broker.clone(), self.logbook.clone());
        let (stop, tasks) = (self.stop.clone(), self.tasks.clone());
        async move {
            // While the broker does not answer, those who come do not wait for each other.
            let is_receiving = timeout(PATIENCE, shared.is_receiving.lock()).await;
            let mut is_receiving = is_receiving.map_err(IntakeError::from)?;
            if !*is_receiving {
                let secret = logbook.secret().await?;
                let intake = Intake::open(shared.clone(), broker, secret, stop).await?;
                *is_receiving = true;
                tasks.spawn(intake.run());
            }
            Ok(())
        }
    }
}

impl Shared {
    fn add(&self, event: RecentEvent) {
        if event.starts_run() {
            self.labels.forget(&event.run);
        }
        self.buffer().push(event);
    }

    /// Wakes watchers after events were added.
    fn wake(&self) {
        self.changed.send_replace(());
    }

    /// Notes that events were lost.
    fn lose(&self) {
        // The start of another run with a known id may be among them.
        self.labels.clear();
        self.buffer().lose();
        self.wake();
    }

    /// Ends receiving, unless somebody watches again. Whoever comes back later has lost what is published until then.
    async fn end_if_unwatched(&self) -> bool {
        let mut is_receiving = self.is_receiving.lock().await;
        if *self.watchers.borrow() > 0 {
            return false;
        }
        *is_receiving = false;
        self.lose();
        true
    }

    /// Notes that nothing is received any more, since the broker is closed.
    async fn end(&self) {
        *self.is_receiving.lock().await = false;
        self.lose();
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        // A panic in another thread leaves at worst an event that counts and is not there.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody watches.
struct Watched(Arc<Shared>);

impl Watched {
    fn new(shared: Arc<Shared>) -> Self {
        shared.watchers.send_modify(|count| *count += 1);
        Self(shared)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.watchers.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests;
