//! Those who want the same content at the same time: one gets it, the others wait for it.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use flow::Digest;
use tokio::sync::watch;

use crate::FetchError;

/// What is being got at the moment.
#[derive(Debug, Clone, Default)]
pub(super) struct SingleFlight {
    in_flight: Arc<Mutex<HashMap<Digest, watch::Receiver<FlightState>>>>,
}

/// How far one getting has come.
#[derive(Debug, Clone)]
enum FlightState {
    Running,
    Done(Bytes),
    Failed,
}

/// How one gets on a flight.
enum FlightRole {
    /// Nobody else gets it: fly.
    Leader(LeaderGuard),
    /// Somebody gets it: wait.
    Follower(watch::Receiver<FlightState>),
}

/// A getting under way. Dropped before it has landed, it leaves the others to start anew.
struct LeaderGuard {
    flights: SingleFlight,
    digest: Digest,
    stage: watch::Sender<FlightState>,
}

impl SingleFlight {
    /// Does `work`, or waits for another who does the same. A failure is the other's own (who asked elsewhere, or under
    /// other limits): the work is then done all the same, and each does it for itself, so that a failure that takes
    /// long does not take as long once for everyone.
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
                    // Its pilot was dropped: the next one to board is the pilot.
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

    /// A panic elsewhere cannot leave the map half written: each change is whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, watch::Receiver<FlightState>>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a flight ended; `None` when its pilot was dropped.
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
    /// Off the map first: whoever sees the channel close then finds no flight to wait for.
    fn drop(&mut self) {
        self.flights.lock().remove(&self.digest);
    }
}
