//! The consecutive sessions of one [`Amqp`](crate::Amqp). All users get their session here, and wait while there is none.

use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    channel::Channel,
    connect::connect,
    options::Endpoint,
    recorded_topology::RecordedTopology,
    refusal::Refusal,
    session::{Failure, LOSS_GRACE, Session},
};

/// The delays between connection attempts. The last is short enough that a recovered broker gets its clients back within
/// seconds.
const INITIAL_RETRY_DELAY: Duration = Duration::from_millis(100);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// The state of the connection.
enum State {
    Up(Arc<Session>),
    /// The connection is lost and will be replaced.
    Down,
    Closed,
}

/// Why an operation failed.
pub(super) enum OperationError {
    Refused(Refusal),
    /// The broker does not answer this operation.
    Silent,
    Closed,
}

pub(super) struct Sessions {
    state: watch::Receiver<State>,
    connections: Arc<AtomicU64>,
    pub(super) declared: Arc<RecordedTopology>,
    /// Cancels everything.
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Sessions {
    /// Starts with the first connection, and replaces it after each loss.
    pub(super) fn start(first: Session, endpoint: Endpoint) -> Self {
        let first = Arc::new(first);
        let (tx, state) = watch::channel(State::Up(first.clone()));
        let sessions = Self {
            state,
            connections: Arc::new(AtomicU64::new(1)),
            declared: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let reconnector = Reconnector {
            endpoint,
            state: tx,
            connections: sessions.connections.clone(),
            declared: sessions.declared.clone(),
            stop: sessions.stop.clone(),
        };
        sessions.tasks.spawn(reconnector.run(first));
        sessions
    }

    /// The number of sessions so far.
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Acquire)
    }

    /// The current session, or the next; `None` once closed.
    pub(super) async fn current(&self) -> Option<Arc<Session>> {
        let mut state = self.state.clone();
        let current = state.wait_for(|state| !matches!(state, State::Down)).await.ok()?;
        match &*current {
            State::Up(session) => Some(session.clone()),
            State::Down | State::Closed => None,
        }
    }

    /// Runs one operation, and repeats it on the next session if this one is lost: it must be idempotent.
    pub(super) async fn operate<T, F>(
        &self,
        operation: impl Fn(Arc<Channel>) -> F,
    ) -> Result<(T, Arc<Session>), OperationError>
    where
        F: Future<Output = lapin::Result<T>>,
    {
        loop {
            let session = self.current().await.ok_or(OperationError::Closed)?;
            match session.operate(&operation).await {
                Ok(answer) => return Ok((answer, session)),
                Err(Failure::Silent) if !session.is_lost() => return Err(OperationError::Silent),
                Err(failure) => match failure.refusal() {
                    Some(refusal) => return Err(OperationError::Refused(refusal)),
                    None => session.wait_for_loss(LOSS_GRACE).await,
                },
            }
        }
    }
}

/// Owns the connection: monitors it, and replaces it when it is lost.
struct Reconnector {
    endpoint: Endpoint,
    state: watch::Sender<State>,
    connections: Arc<AtomicU64>,
    declared: Arc<RecordedTopology>,
    stop: CancellationToken,
}

impl Drop for Reconnector {
    /// Runs on every exit, even a panic, so that no caller waits for a connection that no task opens.
    fn drop(&mut self) {
        self.state.send_replace(State::Closed);
    }
}

impl Reconnector {
    async fn run(self, mut session: Arc<Session>) {
        loop {
            if self.stop.run_until_cancelled(session.monitor()).await.is_none() {
                break;
            }
            self.state.send_replace(State::Down);
            tracing::warn!(broker = self.endpoint.address(), "the connection to the broker was lost");
            match self.stop.run_until_cancelled(self.reconnect()).await {
                Some(next) => session = next,
                None => break,
            }
            tracing::info!(broker = self.endpoint.address(), "reconnected to the broker");
            // Before a consumer can use it.
            self.connections.fetch_add(1, Ordering::AcqRel);
            self.state.send_replace(State::Up(session.clone()));
        }
        drop(self);
        session.close().await;
    }

    /// Opens the next session, and repeats all declarations on it.
    async fn reconnect(&self) -> Arc<Session> {
        let mut delay = INITIAL_RETRY_DELAY;
        loop {
            time::sleep(jittered(delay)).await;
            delay = (delay * 2).min(MAX_RETRY_DELAY);
            match connect(&self.endpoint).await {
                Ok(connection) => {
                    let session = Arc::new(Session::new(connection));
                    if self.restore(&session).await {
                        return session;
                    }
                }
                Err(error) => {
                    let error: &(dyn std::error::Error + 'static) = &error;
                    tracing::warn!(error, "could not reconnect to the broker yet");
                }
            }
        }
    }

    /// Whether the new session lasted until everything was declared on it.
    async fn restore(&self, session: &Session) -> bool {
        tokio::select! {
            () = session.monitor() => false,
            () = self.declared.restore(session) => true,
        }
    }
}

/// A random delay between half of `delay` and `delay`, so that the clients of a restarted broker do not reconnect all at
/// once.
fn jittered(delay: Duration) -> Duration {
    // The standard library's only source of randomness: each state has new keys.
    let random = RandomState::new().hash_one(());
    let fraction = f64::from(u32::try_from(random % 1000).unwrap_or_default()) / 1000.0;
    delay.mul_f64(0.5 + fraction / 2.0)
}
