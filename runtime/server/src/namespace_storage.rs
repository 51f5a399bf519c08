//! The bytes that each namespace stores, and the maximum that an operator sets.
//!
//! Reading them takes time, so they are measured now and then. What is accepted in between is added.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::StatusCode;
use flow::{Digest, Namespace, Size};
use tokio::time::Instant;

use crate::{Dependencies, problem::Problem};

/// How long a measurement counts at least.
const MEASURED_FOR: Duration = Duration::from_secs(60);

/// How long a measurement above the maximum counts at least: somebody may have deleted something since.
const FULL_FOR: Duration = Duration::from_secs(5);

/// A measurement counts so many times as long as it took.
const PAUSE_FACTOR: u32 = 20;

/// What the namespaces with a maximum store.
#[derive(Default)]
pub(crate) struct NamespaceStorage {
    namespaces: Mutex<BTreeMap<Namespace, Arc<tokio::sync::Mutex<Stored>>>>,
}

/// What a namespace stores.
#[derive(Default)]
struct Stored {
    bytes: u64,
    /// When it was measured, and how long that took.
    measured: Option<(Instant, Duration)>,
    /// Modules that were pushed since the server started: a tag that moves on, or a push without a tag, leaves them in the
    /// store until a cleanup.
    pushed: BTreeSet<Digest>,
}

impl Stored {
    /// Whether the bytes have to be measured before anything is decided by them.
    fn is_outdated(&self, is_full: bool) -> bool {
        let Some((at, took)) = self.measured else { return true };
        let least = if is_full { FULL_FOR } else { MEASURED_FOR };
        at.elapsed() > least.max(took * PAUSE_FACTOR)
    }
}

impl NamespaceStorage {
    /// Adds bytes that a request stores for a namespace.
    ///
    /// # Errors
    /// [`Problem`] when the namespace then stores more than its maximum, or what it stores cannot be read.
    pub(crate) async fn add(
        &self,
        dependencies: &Dependencies,
        namespace: Option<&Namespace>,
        bytes: u64,
    ) -> Result<(), Problem> {
        let Some((namespace, most)) = limited(dependencies, namespace) else { return Ok(()) };
        let stored = self.of(namespace);
        // Requests of the namespace wait for a measurement that another one makes.
        let mut stored = stored.lock().await;
        let is_full = |stored: &Stored| stored.bytes.saturating_add(bytes) > most.get();
        if stored.is_outdated(is_full(&stored)) {
            let start = Instant::now();
            stored.bytes = measure(dependencies, namespace, &mut stored.pushed).await?;
            stored.measured = Some((start, start.elapsed()));
        }
        if is_full(&stored) {
            return Err(full(namespace, stored.bytes, bytes, most));
        }
        stored.bytes += bytes;
        Ok(())
    }

    /// Notes a module that was pushed for a namespace.
    pub(crate) async fn note_pushed(&self, dependencies: &Dependencies, namespace: Option<&Namespace>, digest: Digest) {
        if let Some((namespace, _)) = limited(dependencies, namespace) {
            self.of(namespace).lock().await.pushed.insert(digest);
        }
    }

    fn of(&self, namespace: &Namespace) -> Arc<tokio::sync::Mutex<Stored>> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        namespaces.entry(namespace.clone()).or_default().clone()
    }
}

/// A namespace with its maximum, if it has one.
fn limited<'n>(dependencies: &Dependencies, namespace: Option<&'n Namespace>) -> Option<(&'n Namespace, NonZeroU64)> {
    namespace.and_then(|namespace| Some((namespace, dependencies.max_namespace_bytes.of(namespace)?)))
}

/// The bytes of a namespace in the logbook and in the store. Forgets pushed modules that are not in the store any more.
async fn measure(
    dependencies: &Dependencies,
    namespace: &Namespace,
    pushed: &mut BTreeSet<Digest>,
) -> Result<u64, Problem> {
    let store = &dependencies.modules.store;
    let usage = dependencies.logbook.usage(namespace).await?;
    let tags = store.tags_in(Some(namespace)).await.map_err(|error| Problem::internal(&error))?;
    let mut digests: BTreeSet<Digest> = tags.into_iter().map(|(_, digest)| digest).collect();
    digests.extend(usage.digests.iter().chain(pushed.iter()));
    // What other namespaces store takes no time here.
    let digests: Vec<Digest> = digests.into_iter().collect();
    let entries = store.entries_of(&digests).await.map_err(|error| Problem::internal(&error))?;
    let stored: BTreeSet<Digest> = entries.iter().map(|entry| entry.digest).collect();
    pushed.retain(|digest| stored.contains(digest));
    Ok(usage.bytes.saturating_add(entries.iter().map(|entry| entry.size).sum()))
}

fn full(namespace: &Namespace, stored: u64, bytes: u64, most: NonZeroU64) -> Problem {
    let detail = format!(
        "the namespace {namespace} stores {}, this would add {}, and its limit `bytes` is {}",
        Size(stored),
        Size(bytes),
        Size(most.get())
    );
    Problem::new(StatusCode::CONFLICT, "namespace-full", "the namespace has no space left", detail).hint(
        "an operator deletes ended runs and unused modules with `waft gc`, or changes the limit under [namespace] in the \
         settings of the server",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_measurement_counts_for_a_while() {
        let mut stored = Stored::default();
        assert!(stored.is_outdated(false) && stored.is_outdated(true), "nothing was measured");
        stored.measured = Some((Instant::now(), Duration::from_millis(1)));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!([stored.is_outdated(false), stored.is_outdated(true)], [false, true]);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(stored.is_outdated(false));
        stored.measured = Some((Instant::now(), Duration::from_secs(10)));
        tokio::time::advance(Duration::from_secs(199)).await;
        assert!(!stored.is_outdated(false) && !stored.is_outdated(true), "a slow measurement is rare");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(stored.is_outdated(false));
    }
}
