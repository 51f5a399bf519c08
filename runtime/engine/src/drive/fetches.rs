//! What runs fetch: lists that are in the store, and lists that have to be put there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use flow::{
    Event, Failure, FailureKind, FetchResult, FetchTarget as What, Json, RunId, Value, ValueFetch, ValueKind,
    ValueName, Values,
};
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

/// The tries after which the node fails: with their pauses they take about five minutes, in which a store comes back
/// that can.
const MAX_TRIES: u32 = 14;

/// The longest that a store may take for one value.
const PATIENCE: Duration = Duration::from_secs(120);

/// The fetches of an engine's runs that are under way.
///
/// Each is watched like a call: one that fails, panics or takes too long is tried again, and fails its node in the end. A
/// fetch of a run that is driven elsewhere meanwhile ends for nothing; whoever drives the run fetches again. Fetches end with
/// their engine.
pub(super) struct Fetches {
    store: Arc<dyn Store>,
    under_way: JoinSet<Result<FetchResult, String>>,
    /// What each task fetches. A task that panics answers nothing but its id.
    fetches: HashMap<Id, PendingFetch>,
}

/// One fetch, over all its tries.
struct PendingFetch {
    run: RunId,
    errand: ValueFetch,
    /// Tries that have failed.
    failed: u32,
}

impl Fetches {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, under_way: JoinSet::new(), fetches: HashMap::new() }
    }

    /// Starts a fetch.
    pub(super) fn send(&mut self, run: RunId, errand: ValueFetch) {
        self.start(PendingFetch { run, errand, failed: 0 });
    }

    fn start(&mut self, fetch: PendingFetch) {
        let (store, what) = (self.store.clone(), fetch.errand.what.clone());
        let pause = fetch.failed.checked_sub(1).map(retry_delay);
        let task = self.under_way.spawn(async move {
            if let Some(pause) = pause {
                sleep(pause).await;
            }
            bring(&*store, &what).await
        });
        self.fetches.insert(task.id(), fetch);
    }

    /// The next fetch that ends; `Strip` when none is under way. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<(RunId, Event)> {
        loop {
            let (id, ended) = match self.under_way.join_next_with_id().await? {
                Ok((id, ended)) => (id, ended),
                Err(lost) => (lost.id(), Err(format!("the task that fetched it was lost: {lost}"))),
            };
            let Some(fetch) = self.fetches.remove(&id) else { continue };
            if let Some(ended) = self.ended(fetch, ended) {
                return Some(ended);
            }
        }
    }

    /// Takes the end of one try: its result, or one more try.
    fn ended(&mut self, fetch: PendingFetch, ended: Result<FetchResult, String>) -> Option<(RunId, Event)> {
        let PendingFetch { run, errand, failed } = fetch;
        let brought = match ended {
            Ok(brought) => brought,
            Err(reason) if failed + 1 < MAX_TRIES => {
                warn!(%run, task = %errand.id.task, tries = failed + 1, reason, "a list could not be fetched yet");
                self.start(PendingFetch { run, errand, failed: failed + 1 });
                return None;
            }
            Err(reason) => {
                error!(%run, task = %errand.id.task, tries = MAX_TRIES, reason, "a list could not be fetched");
                let message = format!("its list could not be fetched in {MAX_TRIES} tries: {reason}");
                let failure = Failure::new(FailureKind::Transient, message);
                match errand.what {
                    What::List(_) => FetchResult::List(Err(failure)),
                    What::Results(_) => FetchResult::Results(Err(failure)),
                }
            }
        };
        Some((run, Event::Fetched { id: errand.id, brought }))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }
}

/// The pause after some failed tries, beyond the first.
fn retry_delay(more: u32) -> Duration {
    INITIAL_RETRY_DELAY.saturating_mul(2_u32.saturating_pow(more)).min(MAX_RETRY_DELAY)
}

/// Why something cannot be brought.
enum FetchFailure {
    /// It may be another time.
    Now(String),
    /// It never will.
    Permanent(Failure),
}

impl From<FetchError> for FetchFailure {
    fn from(error: FetchError) -> Self {
        match error.disposition() {
            RetryAdvice::Later => Self::Now(error.to_string()),
            RetryAdvice::Never => Self::Permanent(Failure::new(FailureKind::Permanent, error.to_string())),
        }
    }
}

/// Tries once. An error says why another try may succeed.
async fn bring(store: &dyn Store, what: &What) -> Result<FetchResult, String> {
    let brought = match what {
        What::List(list) => elements(store, list).await.map(|list| FetchResult::List(Ok(list))),
        What::Results(results) => gather(store, results).await.map(|gathered| FetchResult::Results(Ok(gathered))),
    };
    brought.or_else(|obstacle| match (obstacle, what) {
        (FetchFailure::Now(reason), _) => Err(reason),
        (FetchFailure::Permanent(failure), What::List(_)) => Ok(FetchResult::List(Err(failure))),
        (FetchFailure::Permanent(failure), What::Results(_)) => Ok(FetchResult::Results(Err(failure))),
    })
}

/// Waits for a store that may never answer.
async fn in_time<T>(answer: impl Future<Output = T>) -> Result<T, FetchFailure> {
    let late = |_| FetchFailure::Now(format!("the store has not answered for {} seconds", PATIENCE.as_secs()));
    timeout(PATIENCE, answer).await.map_err(late)
}

async fn elements(store: &dyn Store, list: &Value) -> Result<Arc<[Json]>, FetchFailure> {
    let wrong = |reason: String| FetchFailure::Permanent(Failure::new(FailureKind::Permanent, reason));
    match whole(store, list).await? {
        Value::Json(json) => flow::elements(&json).map_err(wrong),
        Value::Bytes(_) | Value::Stored(_) => Err(wrong("the value to be called for each element of is bytes".into())),
    }
}

async fn gather(store: &dyn Store, results: &BTreeMap<ValueName, Vec<Value>>) -> Result<Values, FetchFailure> {
    let mut complete = BTreeMap::new();
    for (name, values) in results {
        let mut list = Vec::with_capacity(values.len());
        for value in values {
            list.push(whole(store, value).await?);
        }
        complete.insert(name.clone(), list);
    }
    let mut gathered = flow::gathered(complete).map_err(FetchFailure::Permanent)?;
    let put = in_time(store::values::put_large(store, &mut gathered)).await?;
    put.map_err(|error| FetchFailure::Now(error.to_string()))?;
    Ok(gathered)
}

async fn whole(store: &dyn Store, value: &Value) -> Result<Value, FetchFailure> {
    let Value::Stored(stored) = value else { return Ok(value.clone()) };
    if stored.form == ValueKind::Bytes {
        // Nobody has to fetch what no list can hold.
        return Ok(Value::Bytes(Vec::new().into()));
    }
    let bytes = in_time(store.fetch(&stored.digest)).await??;
    let wrong = |error: store::values::InvalidContent| {
        FetchFailure::Permanent(Failure::new(FailureKind::Permanent, error.to_string()))
    };
    store::values::from_bytes(&bytes, stored.form).map_err(wrong)
}

#[cfg(test)]
mod tests;
