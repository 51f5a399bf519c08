//! Fetches for runs: loading lists from the store, and collecting results into it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use flow::{Failure, FailureKind, Json, RunId, Value, ValueKind, ValueName, Values};
use machine::{Event, FetchResult, FetchTarget, ValueFetch};
use store::{FetchError, RetryAdvice, Store};
use tokio::{
    task::{Id, JoinSet},
    time::{sleep, timeout},
};
use tracing::{error, warn};

/// The pause before a second try; each pause is twice the one before.
const INITIAL_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The longest pause between two tries.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);

/// Maximum number of tries; then the node fails. With their pauses they take about five minutes, time enough for a
/// store to recover.
const MAX_TRIES: u32 = 14;

/// Maximum time for fetching one value from the store.
const FETCH_TIMEOUT: Duration = Duration::from_secs(120);

/// The running fetches of an engine's runs.
///
/// Each is supervised like a call: a fetch that fails, panics or times out is tried again, and fails its node in the
/// end. If a remote engine drives the run meanwhile, the result is ignored, and that engine fetches again. Fetches
/// end with their engine.
pub(crate) struct Fetches {
    store: Arc<dyn Store>,
    running: JoinSet<Result<FetchResult, String>>,
    /// The fetch of each task. A task that panics returns only its id.
    fetches: HashMap<Id, PendingFetch>,
}

/// One fetch, over all its tries.
struct PendingFetch {
    run: RunId,
    fetch: ValueFetch,
    /// Number of failed tries.
    failed: u32,
}

impl Fetches {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, running: JoinSet::new(), fetches: HashMap::new() }
    }

    /// Starts a fetch.
    pub(crate) fn send(&mut self, run: RunId, fetch: ValueFetch) {
        self.start(PendingFetch { run, fetch, failed: 0 });
    }

    fn start(&mut self, fetch: PendingFetch) {
        let (store, target) = (self.store.clone(), fetch.fetch.target.clone());
        let pause = fetch.failed.checked_sub(1).map(retry_delay);
        let task = self.running.spawn(async move {
            if let Some(pause) = pause {
                sleep(pause).await;
            }
            fetch_target(&*store, &target).await
        });
        self.fetches.insert(task.id(), fetch);
    }

    /// The next fetch that ends; `None` when none is running. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<(RunId, Event)> {
        loop {
            let (id, ended) = match self.running.join_next_with_id().await? {
                Ok((id, ended)) => (id, ended),
                Err(lost) => (lost.id(), Err(format!("the task that fetched it was lost: {lost}"))),
            };
            let Some(fetch) = self.fetches.remove(&id) else { continue };
            if let Some(ended) = self.on_try_ended(fetch, ended) {
                return Some(ended);
            }
        }
    }

    /// Handles the end of one try: returns its result, or starts another try.
    fn on_try_ended(&mut self, fetch: PendingFetch, ended: Result<FetchResult, String>) -> Option<(RunId, Event)> {
        let PendingFetch { run, fetch, failed } = fetch;
        let result = match ended {
            Ok(result) => result,
            Err(reason) if failed + 1 < MAX_TRIES => {
                warn!(%run, task = %fetch.id.task, tries = failed + 1, reason, "a list could not be fetched yet");
                self.start(PendingFetch { run, fetch, failed: failed + 1 });
                return None;
            }
            Err(reason) => {
                error!(%run, task = %fetch.id.task, tries = MAX_TRIES, reason, "a list could not be fetched");
                let message = format!("its list could not be fetched in {MAX_TRIES} tries: {reason}");
                let failure = Failure::new(FailureKind::Transient, message);
                match fetch.target {
                    FetchTarget::List { .. } => FetchResult::List(Err(failure)),
                    FetchTarget::Results(_) => FetchResult::Results(Err(failure)),
                }
            }
        };
        Some((run, Event::Fetched { id: fetch.id, result }))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

/// The pause after the first failed try and `more` further ones.
fn retry_delay(more: u32) -> Duration {
    INITIAL_RETRY_DELAY.saturating_mul(2_u32.saturating_pow(more)).min(MAX_RETRY_DELAY)
}

/// Why a fetch failed.
enum FetchFailure {
    /// Another try may succeed.
    Transient(String),
    /// No try will succeed.
    Permanent(Failure),
}

impl From<FetchError> for FetchFailure {
    fn from(error: FetchError) -> Self {
        match error.disposition() {
            RetryAdvice::Later => Self::Transient(error.to_string()),
            RetryAdvice::Never => Self::Permanent(Failure::new(FailureKind::Permanent, error.to_string())),
        }
    }
}

/// Tries a fetch once. An error is one after which another try may succeed.
async fn fetch_target(store: &dyn Store, target: &FetchTarget) -> Result<FetchResult, String> {
    let result = match target {
        FetchTarget::List { list, most } => {
            fetch_elements(store, list, *most).await.map(|list| FetchResult::List(Ok(list)))
        }
        FetchTarget::Results(results) => {
            fetch_results(store, results).await.map(|collected| FetchResult::Results(Ok(collected)))
        }
    };
    result.or_else(|failure| match (failure, target) {
        (FetchFailure::Transient(reason), _) => Err(reason),
        (FetchFailure::Permanent(failure), FetchTarget::List { .. }) => Ok(FetchResult::List(Err(failure))),
        (FetchFailure::Permanent(failure), FetchTarget::Results(_)) => Ok(FetchResult::Results(Err(failure))),
    })
}

/// Waits for a store that may never answer, at most [`FETCH_TIMEOUT`].
async fn with_timeout<T>(answer: impl Future<Output = T>) -> Result<T, FetchFailure> {
    let late =
        |_| FetchFailure::Transient(format!("the store has not answered for {} seconds", FETCH_TIMEOUT.as_secs()));
    timeout(FETCH_TIMEOUT, answer).await.map_err(late)
}

async fn fetch_elements(store: &dyn Store, list: &Value, most: u32) -> Result<Arc<[Json]>, FetchFailure> {
    let wrong = |reason: String| FetchFailure::Permanent(Failure::new(FailureKind::Permanent, reason));
    match fetch_value(store, list).await? {
        Value::Json(json) => machine::elements(&json, most).map_err(wrong),
        Value::Bytes(_) | Value::Stored(_) => Err(wrong("the value to be called for each element of is bytes".into())),
    }
}

async fn fetch_results(store: &dyn Store, results: &BTreeMap<ValueName, Vec<Value>>) -> Result<Values, FetchFailure> {
    let mut complete = BTreeMap::new();
    for (name, values) in results {
        let mut list = Vec::with_capacity(values.len());
        for value in values {
            list.push(fetch_value(store, value).await?);
        }
        complete.insert(name.clone(), list);
    }
    let mut collected = machine::collect_results(complete).map_err(FetchFailure::Permanent)?;
    let put = with_timeout(store::values::put_large(store, &mut collected)).await?;
    put.map_err(|error| FetchFailure::Transient(error.to_string()))?;
    Ok(collected)
}

async fn fetch_value(store: &dyn Store, value: &Value) -> Result<Value, FetchFailure> {
    let Value::Stored(stored) = value else { return Ok(value.clone()) };
    if stored.form == ValueKind::Bytes {
        // A list cannot hold bytes, so they need no fetch.
        return Ok(Value::Bytes(Vec::new().into()));
    }
    let bytes = with_timeout(store.fetch(&stored.digest)).await??;
    let wrong = |error: store::values::InvalidContent| {
        FetchFailure::Permanent(Failure::new(FailureKind::Permanent, error.to_string()))
    };
    store::values::from_bytes(&bytes, stored.form).map_err(wrong)
}

#[cfg(test)]
mod tests;
