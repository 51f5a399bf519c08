//! Checks everything that a waft depends on: what works, what does not, and what to do next.
//!
//! [`check`] works without a running server, from the addresses alone. Inside a server it also checks the engine. It
//! changes nothing: it reads the logbook and the store, and deletes the queues that it declares at the broker. Each
//! check has a time limit, and the sum of the limits is [`LIMIT`].

mod admission;
mod broker;
mod cache;
mod clock;
mod engine;
mod logbook;
mod permissions;
mod privacy;
mod quarantine;
mod queues;
mod runs;
mod store;
mod stuck;
mod workers;

use std::{
    collections::BTreeSet,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ::broker::Broker;
use ::engine::Engine;
use ::logbook::Logbook;
use api::{Check, Outcome};
use flow::QueueName;
use protocol::EngineSecret;

use self::{engine::EngineCheck, queues::KnownQueues, runs::RunInspector};

/// The maximum duration of all checks together.
pub const LIMIT: Duration = Duration::from_secs(26);

/// The time limit of one query that a healthy system answers in milliseconds.
const QUERY_TIMEOUT: Duration = Duration::from_secs(4);

/// The addresses and folders that a waft uses. It has no `Debug`: addresses hold passwords.
#[derive(Clone)]
pub struct Locations {
    /// The address of the broker; `None` where everything runs in one process.
    pub broker: Option<::broker::Options>,
    /// The address of the logbook.
    pub logbook: String,
    /// The folder of the store.
    pub store: PathBuf,
    /// The files of settings that contain a token, or an address with a password.
    pub files_with_secrets: Vec<PathBuf>,
    /// The folder of the module cache.
    pub cache: PathBuf,
    /// Job queues that need a worker, besides the queues that open runs use.
    pub queues: BTreeSet<QueueName>,
    /// Which modules may run here.
    pub admission: ::store::Admission,
}

impl Locations {
    /// The locations of a waft without a broker and without a policy.
    #[must_use]
    pub fn of_one_process(logbook: String, store: PathBuf, cache: PathBuf) -> Self {
        Self {
            broker: None,
            logbook,
            store,
            files_with_secrets: Vec::new(),
            cache,
            queues: BTreeSet::new(),
            admission: ::store::Admission::default(),
        }
    }
}

/// A server that runs in this process: its engine, broker and logbook.
#[derive(Clone)]
pub struct RunningServer {
    /// The engine.
    pub engine: Engine,
    /// Its broker.
    pub broker: Arc<dyn Broker>,
    /// Its logbook.
    pub logbook: Arc<dyn Logbook>,
}

/// Runs all checks. It ends within [`LIMIT`], even if nothing answers; dropping the future is safe.
pub async fn check(locations: &Locations, running: Option<&RunningServer>) -> Vec<Check> {
    let (broker, logbook, engine, store, privacy, cache) = tokio::join!(
        broker::check(locations, running),
        logbook::inspect(locations, running),
        engine::check(running),
        store::check(&locations.store),
        privacy::check(locations),
        cache::check(&locations.cache),
    );
    let open_runs = runs::load(logbook.logbook.clone()).await;
    let secret = secret_of(logbook.logbook.clone()).await;
    let known_queues = KnownQueues::of(locations, &open_runs, secret.as_ref());
    let connection = broker.connection.clone();
    let (queues, quarantined, workers, shared) = tokio::join!(
        queues::query(connection.as_deref(), &known_queues, &open_runs),
        quarantine::check(connection.as_deref()),
        workers::ping(connection.clone()),
        store::compare(locations, running, connection.clone(), &store, logbook.logbook.clone(), secret),
    );
    let EngineCheck { check: engine, calls } = engine;
    let inspector = RunInspector {
        logbook: &logbook,
        queues: &queues,
        workers: &workers,
        calls: &calls,
        is_live: running.is_some(),
    };
    let admission = admission::check(&locations.admission.policy(), &locations.store, &open_runs).await;
    let runs = inspector.check(open_runs).await;
    if broker.is_own
        && let Some(connection) = connection
    {
        // Otherwise the broker notices the end of the process.
        let _ = within(Duration::from_secs(1), connection.close()).await;
    }
    engine
        .into_iter()
        .chain(broker.checks)
        .chain(queues.checks)
        .chain([quarantined])
        .chain(workers.checks)
        .chain(logbook.checks)
        .chain([runs, store.check])
        .chain(shared)
        .chain(privacy)
        .chain([cache, admission])
        .collect()
}

/// Whether no check found a problem that a person has to act on.
#[must_use]
pub fn is_healthy(checks: &[Check]) -> bool {
    checks.iter().all(|check| matches!(check.outcome, Outcome::Ok | Outcome::Skipped))
}

/// The result of `work`, or `None` if it takes longer than `limit`.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

/// Runs file operations on a thread that may block: a network file system may never answer.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(payload) => std::panic::resume_unwind(payload),
            // Only a runtime that shuts down cancels such work, and it also drops the waiting future.
            Err(_) => std::future::pending().await,
        },
    }
}

/// The folder itself, or its nearest parent that exists.
async fn nearest(folder: &Path) -> PathBuf {
    let folder = folder.to_owned();
    on_disk(move || folder.ancestors().find(|folder| folder.exists()).unwrap_or(&folder).to_owned()).await
}

/// The first few of the names, as text.
fn first_few(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A number of things: `1 run`, `2 runs`.
fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// The secret of the engines of a logbook, if it can be read.
async fn secret_of(logbook: Option<Arc<dyn Logbook>>) -> Option<EngineSecret> {
    let logbook = logbook?;
    within(QUERY_TIMEOUT, async move { logbook.secret().await.ok() }).await.flatten()
}
