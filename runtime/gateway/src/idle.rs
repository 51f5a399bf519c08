//! The unused connections of a call, for its next requests. They end with the call.
//!
//! A server may take the body of a request for the next request on the connection. So whoever shared it would get an answer that the
//! sender of the body has chosen.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use flow::Reach;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::{connection::Connection, connector::Origin};

/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum number of unused connections of a call: as many as it has requests at a time. With more, the oldest goes.
const MAX_IDLE: usize = crate::MAX_CONCURRENT_REQUESTS;

/// The unused connections of one call. Cheap to clone: all clones share them. They are closed with the last one.
#[derive(Debug, Clone, Default)]
pub(crate) struct IdleConnections(Arc<Mutex<Vec<Idle>>>);

/// What a connection serves. Requests with another reach do not use it: its address was not checked for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) origin: Origin,
    pub(crate) reach: Arc<Reach>,
}

/// An unused connection.
#[derive(Debug)]
struct Idle {
    destination: Destination,
    slot: Slot,
    /// Closes the connection when it gets old, or the server closes it.
    _watch: AbortOnDropHandle<()>,
}

/// A connection, until it is used or closed.
#[derive(Clone)]
struct Slot(Arc<Mutex<Option<Connection>>>);

impl IdleConnections {
    /// Takes an unused connection, the newest first: the server closes it last.
    pub(crate) async fn take(&self, destination: &Destination) -> Option<Connection> {
        while let Some(mut connection) = self.newest(destination) {
            // The server may have closed it a moment ago.
            connection.advance().await;
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    fn newest(&self, destination: &Destination) -> Option<Connection> {
        let mut all = lock(&self.0);
        all.retain(|idle| idle.slot.is_open());
        let at = all.iter().rposition(|idle| idle.destination == *destination)?;
        all.remove(at).slot.take()
    }

    /// Keeps a connection for a while. `watches` has the task that watches it.
    pub(crate) fn keep(&self, destination: Destination, connection: Connection, watches: &TaskTracker) {
        let slot = Slot(Arc::new(Mutex::new(Some(connection))));
        let watch = AbortOnDropHandle::new(watches.spawn(slot.clone().watch()));
        let mut all = lock(&self.0);
        all.retain(|idle| idle.slot.is_open());
        if all.len() >= MAX_IDLE {
            all.remove(0);
        }
        all.push(Idle { destination, slot, _watch: watch });
    }
}

impl Slot {
    fn take(&self) -> Option<Connection> {
        lock(&self.0).take()
    }

    fn is_open(&self) -> bool {
        lock(&self.0).is_some()
    }

    /// Does the work of the connection until it ends.
    async fn watch(self) {
        let mut timeout = pin!(tokio::time::sleep(IDLE_TIMEOUT));
        poll_fn(|cx| {
            let mut slot = lock(&self.0);
            let Some(connection) = &mut *slot else { return Poll::Ready(()) };
            let is_over = timeout.as_mut().poll(cx).is_ready() || connection.poll_closed(cx).is_ready();
            if is_over {
                *slot = None;
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }
}

/// The task that watches the connection ends a moment later, and would keep it until then.
impl Drop for Idle {
    fn drop(&mut self) {
        drop(self.slot.take());
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Slot").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in another thread cannot leave one half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
