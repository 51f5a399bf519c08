//! The engine's handle: what the rest of the system may ask of it.

use std::{collections::BTreeSet, sync::Arc};

use broker::{Broker, ConsumeError, DeclareError};
use flow::{Flow, RunId, Shard};
use logbook::Logbook;
use protocol::topology as names;
use store::Store;
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Clock, Watch,
    drive::{self, Driver},
    outbox, topology,
};

/// Requests that wait for the engine before those who ask wait: each is answered within a batch.
const REQUESTS: usize = 64;

/// Signals on their way to the engine at once: some batches' worth, so that the broker never waits for us.
const PREFETCH: u16 = 2_048;

/// What an engine needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The part of all runs it drives.
    pub shard: Shard,
}

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its exchanges and queues could not be declared.
    #[error("could not declare the engine's exchanges and queues")]
    Declare(#[from] DeclareError),
    /// Its queue of signals could not be consumed.
    #[error("could not consume the engine's queue of signals")]
    Consume(#[from] ConsumeError),
    /// Its store could not be offered to the workers.
    #[error("could not offer the store to the workers")]
    Store(#[from] store::bus::StartError),
}

/// Why a run could not be submitted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// A queue of its jobs could not be declared.
    #[error("could not declare the queues of the flow's jobs")]
    Declare(#[from] DeclareError),
    /// There is a run of this id already.
    #[error("there is a run {run} already")]
    Exists {
        /// The run.
        run: RunId,
    },
    /// The engine is stopping.
    #[error("the engine is stopping")]
    Stopping,
    /// The run's first records could not be written, as far as is known.
    #[error("could not write the run's first records")]
    Append(#[from] logbook::AppendError),
}

/// Drives the runs of one shard. Cheap to clone; the engine lives until [`Engine::stop`].
#[derive(Clone)]
pub struct Engine {
    requests: mpsc::Sender<drive::Request>,
    broker: Arc<dyn Broker>,
    stop: CancellationToken,
    tasks: TaskTracker,
    declared: Arc<tokio::sync::Mutex<BTreeSet<String>>>,
}

impl Engine {
    /// Declares what the engine needs and begins to consume signals and to serve the store.
    ///
    /// # Errors
    /// [`StartError`] when the broker refuses something.
    pub async fn start(
        config: Config,
        broker: Arc<dyn Broker>,
        logbook: Arc<dyn Logbook>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        broker::topology::declare_shared(&*broker).await?;
        topology::declare_shard(&*broker, &config.shard).await?;
        let signals = broker.consume(&names::engine(&config.shard), PREFETCH).await?;
        let (requests, asked) = mpsc::channel(REQUESTS);
        let (out, batches) = mpsc::channel(outbox::WAITING);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let server =
            store::bus::Server::start(broker.clone(), names::store(&config.shard), store, stop.clone()).await?;
        tasks.spawn(server.run());
        tasks.spawn(outbox::run(broker.clone(), batches));
        let driver = Driver::new(config.shard, logbook, clock, out);
        tasks.spawn(driver.run(signals, asked, stop.clone()));
        tasks.close();
        Ok(Self { requests, broker, stop, tasks, declared: Arc::default() })
    }

    /// Starts a run and watches it. When this returns, the run's beginning is durable.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was started then.
    pub async fn submit(&self, run: RunId, flow: Arc<Flow>) -> Result<Watch, SubmitError> {
        self.declare_for(&flow).await?;
        let (answer, answered) = oneshot::channel();
        self.ask(drive::Request::Submit { run, flow, answer }).await?;
        answered.await.map_err(|_| SubmitError::Stopping)?
    }

    /// Lets the running attempts of a run finish and starts nothing new. A run that is not there is left alone.
    ///
    /// # Errors
    /// [`SubmitError::Stopping`] when the engine is stopping.
    pub async fn suspend(&self, run: RunId) -> Result<(), SubmitError> {
        self.ask(drive::Request::Suspend { run }).await
    }

    /// Stops a run's attempts and rolls it back. A run that is not there is left alone.
    ///
    /// # Errors
    /// [`SubmitError::Stopping`] when the engine is stopping.
    pub async fn cancel(&self, run: RunId) -> Result<(), SubmitError> {
        self.ask(drive::Request::Cancel { run }).await
    }

    /// Stops the calls of a run that is being suspended, wherever they run: the run rests at once, and would send them
    /// again when it goes on. A run that is not there is left alone.
    ///
    /// # Errors
    /// [`SubmitError::Stopping`] when the engine is stopping.
    pub async fn abandon(&self, run: RunId) -> Result<(), SubmitError> {
        self.ask(drive::Request::Abandon { run }).await
    }

    /// Takes nothing new, sends what is durable, and returns when all of it is out. Unsettled signals go back.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    async fn ask(&self, request: drive::Request) -> Result<(), SubmitError> {
        self.requests.send(request).await.map_err(|_| SubmitError::Stopping)
    }

    /// Declares the queues of a flow's jobs, and at its first run the exchanges of its notifying tasks.
    async fn declare_for(&self, flow: &Arc<Flow>) -> Result<(), DeclareError> {
        let mut declared = self.declared.lock().await;
        let queues: BTreeSet<_> = flow.tasks().map(|(_, _, task)| &task.queue).collect();
        for queue in queues {
            if !declared.contains(&names::jobs(queue)) {
                broker::topology::declare_jobs(&*self.broker, queue).await?;
                declared.insert(names::jobs(queue));
            }
        }
        for task in topology::notifying_tasks(flow) {
            let exchange = names::task(&flow.name, &task);
            if declared.insert(exchange) {
                topology::declare_task(&*self.broker, flow, &task).await?;
            }
        }
        Ok(())
    }
}
