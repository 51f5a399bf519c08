//! The engine's handle: what the rest of the system may ask of it.

use std::{sync::Arc, time::Duration};

use broker::{Broker, ConsumeError, DeclareError, PublishError};
use flow::{CallId, Flow, RunId, RunState, Shard};
use logbook::{LoadError, Logbook};
use protocol::{Reply, RunCommand, topology as names};
use store::Store;
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    CallLocation, Clock, Watch,
    drive::{self, Driver, DriverContext, Shards, Sharing, SilentLease},
    inbox::{Inbox, ShardQueues},
    outbox,
    permits::service::PermitService,
    remote_engine::{RemoteEngineClient, RemoteEngineError},
    supervisor::Supervisor,
    topology_cache::TopologyCache,
    unserved_queues,
};

/// Requests that wait for the engine before those who ask wait: each is answered within a batch.
const REQUEST_QUEUE: usize = 64;

/// Signals on their way to an engine at once, over all its shards: some batches' worth, so that the broker never waits for
/// us.
const PREFETCH: usize = 2_048;

/// Changes that wait for whoever follows them; one who falls behind reads the logbook instead.
const CHANGE_QUEUE: usize = 1_024;

/// How long a new run waits for its engine to drive some shard, and a wish for its answer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long after a try for a shard the next one follows.
const SHARD_RETRY_DELAY: Duration = Duration::from_millis(100);

/// What an engine needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Tells engines apart: chosen anew at each start.
    pub id: String,
    /// The runs it drives.
    pub shards: ShardAssignment,
}

/// The runs that an engine drives.
#[derive(Debug, Clone)]
pub enum ShardAssignment {
    /// Those of a shard of its own alone. Its queues go some time after it: until then, who drives the shard next hears
    /// what was answered meanwhile.
    Own(Shard),
    /// A fair part of all, beside the other engines that share broker and logbook. Their stores have the same content.
    Shared,
}

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its id does not go into the names of its queues.
    #[error("the engine's id is not lawful")]
    Id(#[from] flow::InvalidName),
    /// Its exchanges and queues could not be declared.
    #[error("could not declare the engine's exchanges and queues")]
    Declare(#[from] DeclareError),
    /// A queue of its could not be consumed.
    #[error("could not consume the engine's queues")]
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
    /// The engine drives no shard yet, and so no runs.
    #[error("the engine drives no shard yet")]
    NoShard,
    /// The engine is stopping.
    #[error("the engine is stopping")]
    Stopping,
    /// A large value of the flow could not be put into the store.
    #[error("could not keep a large value of the flow")]
    Put(#[from] store::PutError),
    /// The flow meets a bug of waft.
    #[error("waft has a bug that run {run} meets: it was not begun")]
    Bug {
        /// The run.
        run: RunId,
    },
    /// The run's first records could not be written, as far as is known.
    #[error("could not write the run's first records")]
    Append(#[from] logbook::AppendError),
}

/// Why a wish for a run was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such run.
    #[error("there is no run {run}")]
    Missing {
        /// The run.
        run: RunId,
    },
    /// It means nothing for a run in this state; nothing was recorded.
    #[error("run {run} is {state}: there is nothing to {wish}")]
    NotApplicable {
        /// The run.
        run: RunId,
        /// What was wished.
        wish: &'static str,
        /// The state it is in.
        state: RunState,
    },
    /// The run is driven by this engine already.
    #[error("run {run} is under way here already")]
    AlreadyDriven {
        /// The run.
        run: RunId,
    },
    /// No engine drives the run just now. The wish may be fulfilled later all the same.
    #[error("no engine that drives run {run} has answered")]
    Unreachable {
        /// The run.
        run: RunId,
    },
    /// No engine will drive the run by itself: the process that ran it, and only it, has ended.
    #[error("no process drives run {run}: the one that ran it has ended")]
    Abandoned {
        /// The run.
        run: RunId,
    },
    /// The run cannot take it now; nothing was recorded.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// It could not be recorded.
    #[error("{reason}")]
    Failed {
        /// Why.
        reason: String,
    },
    /// The engine is stopping.
    #[error("the engine is stopping")]
    Stopping,
}

impl CommandError {
    /// The run's new state, or why there is none.
    pub(crate) fn result(run: &RunId, wish: &'static str, reply: Reply) -> Result<RunState, Self> {
        match reply {
            Reply::Recorded(state) => Ok(state),
            Reply::NotApplicable(state) => Err(Self::NotApplicable { run: run.clone(), wish, state }),
            Reply::RunNotFound => Err(Self::Missing { run: run.clone() }),
            Reply::Failed(reason) => Err(Self::Failed { reason }),
            Reply::Refused(reason) => Err(Self::Refused { reason }),
        }
    }

    pub(crate) fn of_load(run: &RunId, error: &LoadError) -> Self {
        match error {
            LoadError::Missing { .. } => Self::Missing { run: run.clone() },
            LoadError::Damaged { .. } | LoadError::Unavailable { .. } => Self::Failed { reason: error.to_string() },
        }
    }
}

/// Drives runs. Cheap to clone; the engine lives until [`Engine::stop`] or [`Engine::abort`].
#[derive(Clone)]
pub struct Engine {
    requests: mpsc::Sender<drive::DriverRequest>,
    logbook: Arc<dyn Logbook>,
    declared: TopologyCache,
    remote: RemoteEngineClient,
    store: Arc<dyn Store>,
    changed: broadcast::Sender<RunId>,
    stop: CancellationToken,
    aborted: CancellationToken,
    ended: CancellationToken,
    tasks: TaskTracker,
}

impl Engine {
    /// Declares what the engine needs and begins to consume the queues of its shards and to serve the store.
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
        // It goes into the names of queues.
        let _lawful = Shard::new(&config.id)?;
        let (sharing, shards, store_queue) = match config.shards {
            ShardAssignment::Own(own) => (Sharing::Exclusive, vec![own.clone()], names::store_queue(&own)),
            ShardAssignment::Shared => (Sharing::Shared, names::shards().collect(), names::SHARED_STORE.to_owned()),
        };
        broker::topology::declare_shared(&*broker).await?;
        let (requests, asked) = mpsc::channel(REQUEST_QUEUE);
        let (out, batches) = mpsc::channel(outbox::OUTBOX_CAPACITY);
        let (taken, is_lasting) = (outbox::ConfirmedVersions::default(), broker.is_durable());
        let (stop, aborted) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let prefetch = u16::try_from(PREFETCH / shards.len()).unwrap_or(u16::MAX);
        let queues = ShardQueues { broker: broker.clone(), sharing, prefetch };
        let opening = shards.iter().map(|shard| queues.open_if_responsive(shard));
        let consumers = futures::future::try_join_all(opening).await?;
        let inbox = Inbox::new(&queues, consumers, &tasks, &aborted);
        let parts = Supervisor::new(tasks.clone(), stop.clone(), aborted.clone());
        let server =
            store::bus::Server::start(broker.clone(), store_queue.clone(), store.clone(), stop.clone()).await?;
        let elsewhere = RemoteEngineClient::start(broker.clone(), &config.id, &parts, stop.clone()).await?;
        parts.spawn("store", server.run());
        let ways = outbox::OutboxContext::new(broker.clone(), store.clone());
        parts.spawn("outbox", outbox::run(ways, batches, taken.clone()));
        let waiting = unserved_queues::WaitingCalls::default();
        let watching = unserved_queues::watch(broker.clone(), waiting.clone());
        let until_stopped = stop.clone().run_until_cancelled_owned(watching);
        parts.spawn("watch of queues", async move {
            let _stopped = until_stopped.await;
        });
        let keepers = PermitService {
            engine: config.id.clone(),
            broker: broker.clone(),
            clock: clock.clone(),
            parts: parts.clone(),
            stop: stop.clone(),
        };
        let declared = TopologyCache::new(broker, keepers);
        let (changed, _) = broadcast::channel(CHANGE_QUEUE);
        let tools = DriverContext {
            logbook: logbook.clone(),
            store: store.clone(),
            clock,
            out,
            confirmed: taken,
            is_durable: is_lasting,
            declared: declared.clone(),
            changes: changed.clone(),
            store_queue,
            waiting,
        };
        let driver = Driver::new(tools, Shards::new(config.id, sharing, shards));
        let (ended, until) = (CancellationToken::new(), stop.clone());
        let ends = ended.clone().drop_guard();
        tasks.spawn(aborted.clone().run_until_cancelled_owned(async move {
            // Whichever way it ends, a panic too.
            let _ends = ends;
            // Without one of its parts an engine would seem to work, and leave some of its runs waiting.
            // On the heap: what one turn of it holds is large.
            parts.failed().run_until_cancelled(Box::pin(driver.run(inbox, asked, until))).await;
        }));
        tasks.close();
        Ok(Self { requests, logbook, declared, remote: elsewhere, store, changed, stop, aborted, ended, tasks })
    }

    /// Starts a run and watches it. When this returns, the run's beginning is durable. Large values of the flow are put
    /// into the store.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was started then, as far as is known.
    pub async fn submit(&self, run: RunId, flow: Arc<Flow>) -> Result<Watch, SubmitError> {
        self.declared.declare_for(&flow).await?;
        let flow = store::values::put_large_of_flow(&*self.store, flow).await?;
        let deadline = tokio::time::Instant::now() + REPLY_TIMEOUT;
        loop {
            let (answer, answered) = oneshot::channel();
            let request = drive::DriverRequest::Submit { run: run.clone(), flow: flow.clone(), answer };
            self.requests.send(request).await.map_err(|_| SubmitError::Stopping)?;
            match answered.await.map_err(|_| SubmitError::Stopping)? {
                // It has just started, or its shards are on their way to another engine.
                Err(SubmitError::NoShard) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(SHARD_RETRY_DELAY).await;
                }
                result => return result,
            }
        }
    }

    /// Drives a run here that another process left, and watches it: what was unanswered is sent again, and then the run
    /// takes what is asked for it, such as to resume. No other process may drive it; of two that do, one loses. Where it
    /// means nothing for a run that rests, the watch ends at once.
    ///
    /// # Errors
    /// [`CommandError`] when there is no such run, it has ended otherwise than to be retried, or cannot be read.
    pub async fn adopt(&self, run: RunId, wish: RunCommand) -> Result<Watch, CommandError> {
        let history = self.logbook.load(&run).await.map_err(|error| CommandError::of_load(&run, &error))?;
        let machine = history.into_machine().map_err(|error| CommandError::of_load(&run, &error))?;
        let failed = |error: DeclareError| CommandError::Failed { reason: error.to_string() };
        self.declared.declare_for(machine.flow()).await.map_err(failed)?;
        let (answer, answered) = oneshot::channel();
        self.send(drive::DriverRequest::Adopt { run, command: wish, answer }).await?;
        answered.await.map_err(|_| CommandError::Stopping)?
    }

    /// Asks something for a run of the engine that drives it, here or elsewhere. When this returns, what it led to is
    /// durable; answers the state that the run is in then.
    ///
    /// # Errors
    /// [`CommandError`] when that means nothing for the run, or could not be recorded. With [`CommandError::Unreachable`] it may
    /// be recorded later.
    pub async fn command(&self, run: &RunId, wish: RunCommand) -> Result<RunState, CommandError> {
        let word = wish.as_str();
        let summary = self.logbook.summary(run).await.map_err(|error| CommandError::of_load(run, &error))?;
        let shard = summary.standing.shard;
        let wish = match wish {
            RunCommand::Edit { revision, flow } => {
                let kept = store::values::put_large_of_flow(&*self.store, flow).await;
                let flow = kept.map_err(|error| CommandError::Failed { reason: error.to_string() })?;
                RunCommand::Edit { revision, flow }
            }
            wish => wish,
        };
        let asking = self.remote.request(&shard, protocol::CommandRequest { run: run.clone(), command: wish });
        match timeout(REPLY_TIMEOUT, asking).await {
            Ok(Ok(reply)) => CommandError::result(run, word, reply),
            Ok(Err(RemoteEngineError::Publish(PublishError::Unroutable { .. }))) => {
                Err(CommandError::Abandoned { run: run.clone() })
            }
            Ok(Err(error)) => Err(CommandError::Failed { reason: error.to_string() }),
            Err(_) => Err(CommandError::Unreachable { run: run.clone() }),
        }
    }

    /// Asks something for a run that this engine drives, without a way over the broker.
    ///
    /// # Errors
    /// As [`Engine::ask`].
    pub async fn command_local(&self, run: &RunId, wish: RunCommand) -> Result<RunState, CommandError> {
        let word = wish.as_str();
        let (answer, answered) = oneshot::channel();
        self.send(drive::DriverRequest::Command { run: run.clone(), wish, answer }).await?;
        CommandError::result(run, word, answered.await.map_err(|_| CommandError::Stopping)?)
    }

    /// Stops the calls of a run that is being suspended, wherever they run: the run rests at once, and would send them
    /// again when it goes on. A run that is not there is left alone.
    ///
    /// # Errors
    /// [`CommandError::Stopping`] when the engine is stopping.
    pub async fn abandon(&self, run: RunId) -> Result<(), CommandError> {
        self.send(drive::DriverRequest::Abandon { run }).await
    }

    /// Where each call is that is out, of all runs that this engine drives.
    ///
    /// # Errors
    /// [`CommandError::Stopping`] when the engine is stopping.
    pub async fn call_locations(&self) -> Result<Vec<(CallId, CallLocation)>, CommandError> {
        let (answer, answered) = oneshot::channel();
        self.send(drive::DriverRequest::CallLocations { answer }).await?;
        answered.await.map_err(|_| CommandError::Stopping)
    }

    /// The calls of a run that workers have under a lease, and for how long no heartbeat of each has come. Nothing of a run
    /// that is not driven here.
    pub async fn silent_leases(&self, run: &RunId) -> Vec<SilentLease> {
        let (answer, answered) = oneshot::channel();
        match self.send(drive::DriverRequest::SilentLeases { run: run.clone(), answer }).await {
            Ok(()) => answered.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Hears of every run that gets new records here. One who falls behind misses some.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<RunId> {
        self.changed.subscribe()
    }

    /// Whether the engine works: its task answers, a message goes through the broker and comes back, and the logbook is
    /// written and read.
    ///
    /// # Errors
    /// Says what does not work.
    pub async fn check(&self) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        self.send(drive::DriverRequest::Check { answer }).await.map_err(|error| error.to_string())?;
        let driver = async { answered.await.map_err(|_| "the engine has stopped".to_owned()) };
        let silent = |what: &str| format!("{what} has not answered for {} seconds", REPLY_TIMEOUT.as_secs());
        timeout(REPLY_TIMEOUT, driver).await.map_err(|_| silent("the engine"))??;
        let broker = timeout(REPLY_TIMEOUT, self.remote.check());
        broker.await.map_err(|_| silent("the broker"))?.map_err(|error| format!("the broker: {error}"))?;
        let logbook = timeout(REPLY_TIMEOUT, self.logbook.check());
        logbook.await.map_err(|_| silent("the logbook"))?.map_err(|error| error.to_string())
    }

    /// Returns when the engine drives runs no more: it was stopped, or cannot go on, since a queue of its was deleted or
    /// one of its tasks panicked. Its process is best started anew then: the runs are safe in the logbook. Cancel-safe.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Takes nothing new, sends what is durable, and returns when all of it is out: with a broker that is away it waits
    /// until that is back. Unsettled signals go back. Dropping the future leaves it stopping.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    /// Stops in the middle of whatever it does, as a crash would. What is durable stays so.
    pub async fn abort(&self) {
        self.aborted.cancel();
        self.stop.cancel();
        self.tasks.wait().await;
    }

    async fn send(&self, request: drive::DriverRequest) -> Result<(), CommandError> {
        self.requests.send(request).await.map_err(|_| CommandError::Stopping)
    }
}
