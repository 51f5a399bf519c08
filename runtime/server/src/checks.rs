//! Checks everything that a waft depends on: what works, what does not, and what to do next.
//!
//! [`check`] works without a running server, from the addresses alone. Inside a server it also checks the engine. It
//! changes nothing: it reads the logbook and the store, and deletes the two queues that it declares at the broker. Each
//! check has a time limit, and the sum of the limits is [`LIMIT`].

mod broker;
mod cache;
mod clock;
mod engine;
mod logbook;
mod permissions;
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
use client::api::{Check, Outcome};
use flow::QueueName;

use self::{engine::Seen, queues::Wanted, runs::Judge};

/// The maximum duration of all checks together.
pub const LIMIT: Duration = Duration::from_secs(26);

/// The time limit of one query that a healthy system answers in milliseconds.
const LOOK: Duration = Duration::from_secs(4);

/// The addresses and folders that a waft uses. It has no `Debug`: addresses hold passwords.
#[derive(Clone)]
pub struct Places {
    /// The address of the broker; `None` where everything runs in one process.
    pub broker: Option<::broker::Options>,
    /// The address of the logbook.
    pub logbook: String,
    /// The folder of the store.
    pub store: PathBuf,
    /// The folder of the module cache.
    pub cache: PathBuf,
    /// Job queues that need a worker, besides the queues that open runs use.
    pub queues: BTreeSet<QueueName>,
}

/// The parts of a server that runs in this process.
#[derive(Clone)]
pub struct Live {
    /// The engine.
    pub engine: Engine,
    /// Its broker.
    pub broker: Arc<dyn Broker>,
    /// Its logbook.
    pub logbook: Arc<dyn Logbook>,
}

/// Runs all checks. It ends within [`LIMIT`], even if nothing answers; dropping the future is safe.
pub async fn check(places: &Places, live: Option<&Live>) -> Vec<Check> {
    let (reached, found, seen, kept, cache) = tokio::join!(
        broker::reach(places, live),
        logbook::inspect(places, live),
        engine::look(live),
        store::look(&places.store),
        cache::check(&places.cache),
    );
    let open = runs::load(found.logbook.clone()).await;
    let wanted = Wanted::of(places, &open);
    let connection = reached.connection.clone();
    let (queues, quarantined, asked, shared) = tokio::join!(
        queues::ask(connection.as_deref(), &wanted, &open),
        quarantine::check(connection.as_deref()),
        workers::ask(connection.clone()),
        store::compare(places, live, connection.clone(), &kept, found.logbook.clone()),
    );
    let Seen { check: engine, calls } = seen;
    let judge = Judge { found: &found, queues: &queues, workers: &asked, calls: &calls, is_live: live.is_some() };
    let runs = judge.check(open).await;
    if reached.is_own
        && let Some(connection) = connection
    {
        // Otherwise the broker notices the end of the process.
        let _ = within(Duration::from_secs(1), connection.close()).await;
    }
    engine
        .into_iter()
        .chain(reached.checks)
        .chain(queues.checks)
        .chain([quarantined])
        .chain(asked.checks)
        .chain(found.checks)
        .chain([runs, kept.check])
        .chain(shared)
        .chain([cache])
        .collect()
}

/// Whether no check found a problem that needs somebody's action.
#[must_use]
pub fn is_well(checks: &[Check]) -> bool {
    checks.iter().all(|check| matches!(check.outcome, Outcome::Ok | Outcome::Skipped))
}

/// The result of `work`, or `None` if it takes longer than `limit`.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

/// Runs file operations on a thread that may block: a network file system may never answer.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
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
fn few(names: &[String]) -> String {
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
