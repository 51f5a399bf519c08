//! The worker inside this process, for use without a broker.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ::worker::{CallJournal, Config, Worker};
use broker::Broker;
use engine::{Clock, SystemClock};
use flow::{QueueName, WorkerName};
use sandbox::Sandbox;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use super::{host_name, local_modules, process_name};
use crate::{exit::CliError, settings::Settings};

/// The options of the worker.
pub(super) struct EmbeddedWorker {
    pub(super) sandbox: Sandbox,
    pub(super) slots: u16,
    pub(super) queues: BTreeSet<QueueName>,
    /// Those of the queues that have slots of their own.
    pub(super) own_slots: BTreeMap<QueueName, NonZeroU16>,
    /// How long running calls may continue after a stop request.
    pub(super) grace: Duration,
    /// Where to note the running calls, so that those that kill this process are given up some day.
    pub(super) journal: Option<PathBuf>,
}

/// The running worker.
pub(super) struct RunningWorker {
    stop: CancellationToken,
    abandon: CancellationToken,
    tasks: TaskTracker,
}

impl EmbeddedWorker {
    /// Starts the worker.
    pub(super) async fn start(self, settings: &Settings, broker: Arc<dyn Broker>) -> Result<RunningWorker, CliError> {
        let Self { sandbox, slots, queues, own_slots, grace, journal } = self;
        let name = WorkerName::new("local").map_err(CliError::invalid)?;
        let modules = local_modules(settings, sandbox, broker.clone(), "local").await?;
        let config = Config {
            name,
            host: host_name(),
            instance: process_name(),
            version: env!("CARGO_PKG_VERSION").into(),
            slots,
            queues: queues.into_iter().collect(),
            own_slots,
            grace,
            clock: worker::WallClock::new(|| SystemClock.now()),
            delivery_limit: settings.delivery_limit,
            journal: journal.and_then(|path| open_journal(&path)),
        };
        let worker = Worker::connect(config, broker, Arc::new(modules)).await.map_err(CliError::unreachable)?;
        let (stop, abandon, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        tasks.spawn(worker.run(stop.clone(), abandon.clone()));
        tasks.close();
        Ok(RunningWorker { stop, abandon, tasks })
    }
}

/// Opens the file with the running calls. The server also works without it.
fn open_journal(path: &Path) -> Option<Arc<CallJournal>> {
    let opened = CallJournal::open(path).map(Arc::new);
    let unusable = |error: &std::io::Error| {
        warn!(file = %path.display(), %error, "running calls are not noted: a call that kills this process is made again after each start");
    };
    opened.inspect_err(unusable).ok()
}

impl RunningWorker {
    /// Accepts no new jobs, and lets running calls finish within the grace, or until `abandon`.
    pub(super) async fn stop(self, abandon: &CancellationToken) {
        self.stop.cancel();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = abandon.cancelled() => {
                self.abandon.cancel();
                self.tasks.wait().await;
            }
        }
    }
}
