//! The values of secrets, for all calls of a worker: those that may be sent now, and those that servers may still have.
//!
//! A value is fetched for the worker, and not for one request: a guest that drops its request stops nothing, and cannot have a source
//! asked again.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use flow::SecretName;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{
    MAX_VALUE_BYTES,
    source::{self, SecretSource, VaultEntry},
    without_value,
};
use crate::{HttpError, Rules, clients::Client};

/// How long a failure is kept: calls that wait for the value do not ask again one after the other.
const FAILURE_KEPT: Duration = Duration::from_secs(2);

/// After this time, the log says again why a secret has no value.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// How many values of a secret are remembered: after a change, a server may still have the one before.
const REMEMBERED: usize = 2;

/// The values that were fetched. Cheap to clone: all clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct FetchedValues(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    slots: Mutex<HashMap<SecretSource, Slot>>,
    /// The rules of all calls, as long as something uses them.
    rules: Mutex<Vec<Weak<Rules>>>,
    /// Why secrets had no value, and when the log said so.
    logged: Mutex<HashMap<SecretName, (String, Instant)>>,
    /// Each fetch ends by itself within its timeout.
    fetches: TaskTracker,
}

/// What is known of a source.
#[derive(Default)]
struct Slot {
    /// The result of the last fetch, and when it ended.
    last: Option<(FetchResult, Instant)>,
    /// The values that it has had, the newest first. A failure changes nothing in them.
    values: Vec<String>,
    /// The fetch that runs.
    fetch: Option<Fetch>,
}

/// The value, or why there is none.
type FetchResult = Result<String, String>;

/// The result of a fetch, once it has ended.
type Fetch = watch::Receiver<Option<FetchResult>>;

/// The values are not shown.
impl fmt::Debug for Slot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Slot").finish_non_exhaustive()
    }
}

impl FetchedValues {
    /// The values of the sources in these rules are remembered as long as something uses the rules.
    pub(crate) fn remember_for(&self, rules: &Arc<Rules>) {
        let mut known = lock(&self.0.rules);
        if !known.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(rules))) {
            known.retain(|known| known.strong_count() > 0);
            known.push(Arc::downgrade(rules));
        }
    }

    /// The value of a secret now. `client` sends requests to the servers that the operator names.
    ///
    /// # Errors
    /// The reason why there is none. It may name files and addresses, so it is only for the operator.
    pub(crate) async fn get(
        &self,
        source: &SecretSource,
        client: impl Future<Output = Result<Client, HttpError>> + Send + 'static,
    ) -> Result<String, String> {
        let refresh = match source {
            SecretSource::Text(text) => return Ok(text.clone()),
            SecretSource::File(path) => {
                let value = source::read(path).await?;
                self.with_slot(source, |slot| slot.remember(&value));
                return Ok(value);
            }
            SecretSource::Command { refresh, .. } | SecretSource::Vault(VaultEntry { refresh, .. }) => *refresh,
        };
        let mut fetch = self.with_slot(source, |slot| match slot.kept(refresh) {
            Some(result) => watch::channel(Some(result)).1,
            None => slot.running().unwrap_or_else(|| self.start_fetch(slot, source, client)),
        });
        let result = fetch.wait_for(Option::is_some).await.ok().and_then(|result| result.clone());
        result.unwrap_or_else(|| Err("it is not fetched any more, since the worker ends".to_owned()))
    }

    /// Fetches a value in a task of its own.
    fn start_fetch(
        &self,
        slot: &mut Slot,
        source: &SecretSource,
        client: impl Future<Output = Result<Client, HttpError>> + Send + 'static,
    ) -> Fetch {
        let (ended, fetch) = watch::channel(None);
        slot.fetch = Some(fetch.clone());
        let (this, source) = (self.clone(), source.clone());
        drop(self.0.fetches.spawn(async move {
            let result = source::fetch(&source, client).await;
            this.with_slot(&source, |slot| slot.end(&result));
            ended.send_replace(Some(result));
        }));
        fetch
    }

    /// The values of a secret that a server may have, without asking for it: of a file, those that this worker has read; of a command
    /// or of Vault, those that it has fetched.
    pub(crate) async fn known(&self, source: &SecretSource) -> Vec<String> {
        match source {
            SecretSource::Text(text) => vec![text.clone()],
            SecretSource::File(path) => {
                let read = source::read(path).await;
                self.with_slot(source, |slot| {
                    if let Ok(value) = read {
                        slot.remember(&value);
                    }
                    slot.values.clone()
                })
            }
            SecretSource::Command { .. } | SecretSource::Vault(_) => {
                lock(&self.0.slots).get(source).map(|slot| slot.values.clone()).unwrap_or_default()
            }
        }
    }

    /// The error for a guest whose request needs a secret that has no value. Only the log says why.
    pub(crate) fn unavailable(&self, name: &SecretName, reason: String) -> HttpError {
        let mut logged = lock(&self.0.logged);
        // A guest can try again as often as it likes.
        let is_logged = |(known, at): &(String, Instant)| *known == reason && at.elapsed() < LOG_AGAIN;
        if !logged.get(name).is_some_and(is_logged) {
            warn!(secret = %name, reason, "a secret of a guest has no value");
            logged.insert(name.clone(), (reason, Instant::now()));
        }
        without_value(name, "the log of its worker says why")
    }

    fn with_slot<T>(&self, source: &SecretSource, work: impl FnOnce(&mut Slot) -> T) -> T {
        let mut slots = lock(&self.0.slots);
        if !slots.contains_key(source) {
            // A source that no rules in use have is forgotten, with its values.
            let rules: Vec<Arc<Rules>> = lock(&self.0.rules).iter().filter_map(Weak::upgrade).collect();
            let is_in_use = |source: &SecretSource| rules.iter().any(|rules| rules.secrets.have(source));
            slots.retain(|known, slot| slot.fetch.is_some() || is_in_use(known));
        }
        work(slots.entry(source.clone()).or_default())
    }
}

impl Slot {
    /// The last result, while it counts.
    fn kept(&self, refresh: Duration) -> Option<FetchResult> {
        let (result, at) = self.last.as_ref()?;
        let kept = if result.is_ok() { refresh } else { refresh.min(FAILURE_KEPT) };
        (at.elapsed() < kept).then(|| result.clone())
    }

    /// The fetch that runs, unless its task has ended without a result.
    fn running(&self) -> Option<Fetch> {
        self.fetch.clone().filter(|fetch| fetch.has_changed().is_ok())
    }

    fn end(&mut self, result: &FetchResult) {
        if let Ok(value) = result {
            self.remember(value);
        }
        self.last = Some((result.clone(), Instant::now()));
        self.fetch = None;
    }

    /// Remembers a value, unless it is so large that no request contains it.
    fn remember(&mut self, value: &str) {
        if value.len() > MAX_VALUE_BYTES || self.values.first().is_some_and(|known| known == value) {
            return;
        }
        self.values.retain(|known| known != value);
        self.values.insert(0, value.to_owned());
        self.values.truncate(REMEMBERED);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in another thread cannot leave one half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
