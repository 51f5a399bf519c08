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
pub(super) struct Flights {
    flying: Arc<Mutex<HashMap<Digest, watch::Receiver<Stage>>>>,
}

/// How far one getting has come.
#[derive(Debug, Clone)]
enum Stage {
    Flying,
    Landed(Bytes),
    Failed,
}

/// How one gets on a flight.
enum Seat {
    /// Nobody else gets it: fly.
    Pilot(Flight),
    /// Somebody gets it: wait.
    Passenger(watch::Receiver<Stage>),
}

/// A getting under way. Dropped before it has landed, it leaves the others to start anew.
struct Flight {
    flights: Flights,
    digest: Digest,
    stage: watch::Sender<Stage>,
}

impl Flights {
    /// Does `work`, or waits for another who does the same. A failure is the other's own (who asked elsewhere, or under
    /// other limits): the work is then done all the same, and each does it for itself, so that a failure that takes
    /// long does not take as long once for everyone.
    pub(super) async fn share(
        &self,
        digest: Digest,
        work: impl Future<Output = Result<Bytes, FetchError>>,
    ) -> Result<Bytes, FetchError> {
        loop {
            match self.board(digest) {
                Seat::Pilot(flight) => {
                    let got = work.await;
                    flight.land(got.as_ref().ok());
                    return got;
                }
                Seat::Passenger(stage) => match arrival(stage).await {
                    Some(Stage::Landed(bytes)) => return Ok(bytes),
                    Some(Stage::Failed) => return work.await,
                    // Its pilot was dropped: the next one to board is the pilot.
                    Some(Stage::Flying) | None => {}
                },
            }
        }
    }

    fn board(&self, digest: Digest) -> Seat {
        let mut flying = self.lock();
        if let Some(stage) = flying.get(&digest) {
            return Seat::Passenger(stage.clone());
        }
        let (stage, watched) = watch::channel(Stage::Flying);
        flying.insert(digest, watched);
        Seat::Pilot(Flight { flights: self.clone(), digest, stage })
    }

    /// A panic elsewhere cannot leave the map half written: each change is whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, watch::Receiver<Stage>>> {
        self.flying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a flight ended; `None` when its pilot was dropped.
async fn arrival(mut stage: watch::Receiver<Stage>) -> Option<Stage> {
    let ended = stage.wait_for(|stage| !matches!(stage, Stage::Flying)).await.ok()?;
    Some(ended.clone())
}

impl Flight {
    fn land(self, got: Option<&Bytes>) {
        let stage = got.map_or(Stage::Failed, |bytes| Stage::Landed(bytes.clone()));
        self.stage.send_replace(stage);
    }
}

impl Drop for Flight {
    /// Off the map first: whoever sees the channel close then finds no flight to wait for.
    fn drop(&mut self) {
        self.flights.lock().remove(&self.digest);
    }
}
