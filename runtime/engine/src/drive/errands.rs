//! What runs send for: lists that stand in the store, and lists that have to stand there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use flow::{
    Brought, Errand, Errands as What, Event, Failure, FailureKind, Form, Json, RunId, Value, ValueName, Values,
};
use store::{Disposition, FetchError, Store};
use tokio::task::JoinSet;
use tracing::warn;

/// How long after the store could not be reached it is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// The errands of an engine's runs that are under way.
///
/// One of a run that is let go meanwhile comes back for nothing; whoever takes the run up sends for it again. They end with
/// their engine.
pub(super) struct Errands {
    store: Arc<dyn Store>,
    under_way: JoinSet<(RunId, Event)>,
}

impl Errands {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, under_way: JoinSet::new() }
    }

    pub(super) fn send(&mut self, run: RunId, errand: Errand) {
        let store = self.store.clone();
        self.under_way.spawn(async move {
            let Errand { id, what } = errand;
            let brought = bring(&*store, &run, what).await;
            (run, Event::Brought { id, brought })
        });
    }

    /// The next one that comes back; `None` when none is under way, or one has met a bug. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<(RunId, Event)> {
        self.under_way.join_next().await?.ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }
}

/// Why something cannot be brought.
enum Obstacle {
    /// It may be another time.
    Now(String),
    /// It never will.
    Ever(Failure),
}

impl From<FetchError> for Obstacle {
    fn from(error: FetchError) -> Self {
        match error.disposition() {
            Disposition::Later => Self::Now(error.to_string()),
            Disposition::Never => Self::Ever(Failure::new(FailureKind::Permanent, error.to_string())),
        }
    }
}

/// Tries until the store can be reached.
async fn bring(store: &dyn Store, run: &RunId, what: What) -> Brought {
    loop {
        let reason = match &what {
            What::List(list) => match elements(store, list).await {
                Ok(list) => return Brought::List(Ok(list)),
                Err(Obstacle::Ever(failure)) => return Brought::List(Err(failure)),
                Err(Obstacle::Now(reason)) => reason,
            },
            What::Results(results) => match gather(store, results).await {
                Ok(gathered) => return Brought::Results(Ok(gathered)),
                Err(Obstacle::Ever(failure)) => return Brought::Results(Err(failure)),
                Err(Obstacle::Now(reason)) => reason,
            },
        };
        warn!(%run, reason, "a list cannot be brought yet");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn elements(store: &dyn Store, list: &Value) -> Result<Vec<Json>, Obstacle> {
    let wrong = |reason: String| Obstacle::Ever(Failure::new(FailureKind::Permanent, reason));
    match whole(store, list).await? {
        Value::Json(json) => flow::elements(&json).map_err(wrong),
        Value::Bytes(_) | Value::Stored(_) => Err(wrong("the value to be called for each element of is bytes".into())),
    }
}

async fn gather(store: &dyn Store, results: &BTreeMap<ValueName, Vec<Value>>) -> Result<Values, Obstacle> {
    let mut complete = BTreeMap::new();
    for (name, values) in results {
        let mut list = Vec::with_capacity(values.len());
        for value in values {
            list.push(whole(store, value).await?);
        }
        complete.insert(name.clone(), list);
    }
    let mut gathered = flow::gathered(complete).map_err(Obstacle::Ever)?;
    store::values::put_large(store, &mut gathered).await.map_err(|error| Obstacle::Now(error.to_string()))?;
    Ok(gathered)
}

async fn whole(store: &dyn Store, value: &Value) -> Result<Value, Obstacle> {
    let Value::Stored(stored) = value else { return Ok(value.clone()) };
    if stored.form == Form::Bytes {
        // Nobody has to fetch what no list can hold.
        return Ok(Value::Bytes(Vec::new().into()));
    }
    let bytes = store.fetch(&stored.digest).await?;
    let wrong = |error: store::values::NoValue| Obstacle::Ever(Failure::new(FailureKind::Permanent, error.to_string()));
    store::values::from_bytes(&bytes, stored.form).map_err(wrong)
}
