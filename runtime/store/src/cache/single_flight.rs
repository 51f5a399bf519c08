//! Single flight: of several callers that request the same content at the same time, one fetches it and the others wait.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use flow::Digest;
use tokio::sync::watch;

use crate::FetchError;

/// The contents that are being fetched.
#[derive(Debug, Clone, Default)]
pub(super) struct SingleFlight {
    in_flight: Arc<Mutex<HashMap<Digest, watch::Receiver<FlightState>>>>,
}

/// The progress of one flight.
#[derive(Debug, Clone)]
enum FlightState {
    Running,
    Done(Bytes),
    Failed,
}

/// The role of a caller in a flight.
enum FlightRole {
    /// This caller fetches the content, since no other caller does.
    Leader(LeaderGuard),
    /// Another caller fetches the content: wait.
    Follower(watch::Receiver<FlightState>),
}

/// A flight in progress. If its leader is dropped before the end, the followers start over.
struct LeaderGuard {
    flights: SingleFlight,
    digest: Digest,
    state: watch::Sender<FlightState>,
}

impl SingleFlight {
    /// Does `work`, or waits for another caller that does the same. A failure belongs to that caller, which used another
    /// source or had other limits. Each follower then does the work itself and concurrently, so that slow failures do not
    /// add up.
    pub(super) async fn share(
        &self,
        digest: Digest,
        work: impl Future<Output = Result<Bytes, FetchError>>,
    ) -> Result<Bytes, FetchError> {
        loop {
            match self.join(digest) {
                FlightRole::Leader(flight) => {
                    let result = work.await;
                    flight.complete(result.as_ref().ok());
                    return result;
                }
                FlightRole::Follower(state) => match wait(state).await {
                    Some(FlightState::Done(bytes)) => return Ok(bytes),
                    Some(FlightState::Failed) => return work.await,
                    // The leader was dropped: the next caller becomes the leader.
                    Some(FlightState::Running) | None => {}
                },
            }
        }
    }

    fn join(&self, digest: Digest) -> FlightRole {
        let mut in_flight = self.lock();
        if let Some(state) = in_flight.get(&digest) {
            return FlightRole::Follower(state.clone());
        }
        let (state, receiver) = watch::channel(FlightState::Running);
        in_flight.insert(digest, receiver);
        FlightRole::Leader(LeaderGuard { flights: self.clone(), digest, state })
    }

    /// A panic in another thread cannot leave the map half written: each change is complete.
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, watch::Receiver<FlightState>>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of a flight; `None` when its leader was dropped.
async fn wait(mut state: watch::Receiver<FlightState>) -> Option<FlightState> {
    let end = state.wait_for(|state| !matches!(state, FlightState::Running)).await.ok()?;
    Some(end.clone())
}

impl LeaderGuard {
    fn complete(self, bytes: Option<&Bytes>) {
        let state = bytes.map_or(FlightState::Failed, |bytes| FlightState::Done(bytes.clone()));
        self.state.send_replace(state);
    }
}

impl Drop for LeaderGuard {
    /// Removed from the map first: a follower that sees the channel close then finds no flight to wait for.
    fn drop(&mut self) {
        self.flights.lock().remove(&self.digest);
    }
}
