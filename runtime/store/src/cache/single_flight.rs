//! Single flight: of several callers that want the same content at the same time, one gets it and the others wait.

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
    /// Nobody else fetches the content: this caller does.
    Leader(LeaderGuard),
    /// Another caller fetches the content: wait.
    Follower(watch::Receiver<FlightState>),
}

/// A flight in progress. If its leader is dropped before the end, the followers start anew.
struct LeaderGuard {
    flights: SingleFlight,
    digest: Digest,
    stage: watch::Sender<FlightState>,
}

impl SingleFlight {
    /// Does `work`, or waits for another caller that does the same. A failure belongs to that caller, which asked another
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
                    let got = work.await;
                    flight.complete(got.as_ref().ok());
                    return got;
                }
                FlightRole::Follower(stage) => match wait(stage).await {
                    Some(FlightState::Done(bytes)) => return Ok(bytes),
                    Some(FlightState::Failed) => return work.await,
                    // The leader was dropped: the next caller becomes the leader.
                    Some(FlightState::Running) | None => {}
                },
            }
        }
    }

    fn join(&self, digest: Digest) -> FlightRole {
        let mut flying = self.lock();
        if let Some(stage) = flying.get(&digest) {
            return FlightRole::Follower(stage.clone());
        }
        let (stage, watched) = watch::channel(FlightState::Running);
        flying.insert(digest, watched);
        FlightRole::Leader(LeaderGuard { flights: self.clone(), digest, stage })
    }

    /// A panic in another thread cannot leave the map half written: each change is whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, watch::Receiver<FlightState>>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of a flight; `None` when its leader was dropped.
async fn wait(mut stage: watch::Receiver<FlightState>) -> Option<FlightState> {
    let ended = stage.wait_for(|stage| !matches!(stage, FlightState::Running)).await.ok()?;
    Some(ended.clone())
}

impl LeaderGuard {
    fn complete(self, got: Option<&Bytes>) {
        let stage = got.map_or(FlightState::Failed, |bytes| FlightState::Done(bytes.clone()));
        self.stage.send_replace(stage);
    }
}

impl Drop for LeaderGuard {
    /// Removed from the map first: a follower that sees the channel close then finds no flight to wait for.
    fn drop(&mut self) {
        self.flights.lock().remove(&self.digest);
    }
}
