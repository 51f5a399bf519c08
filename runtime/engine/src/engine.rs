//! The engine's handle: the requests that the rest of the system can make.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use broker::{Broker, ConsumeError, DeclareError};
use flow::{
    CallId, Flow, FlowName, Labels, Namespace, NodeName, PerNamespace, QueueName, RunId, RunIdTooLong, RunState, Shard,
};
use logbook::{Logbook, MaxUnended, MemoLimits};
use protocol::{EngineStatus, PermitsAnswer, PermitsQuestion, RunCommand, topology as names};
use store::Store;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Clock, CommandError, RunChanges, SilentLease, Watch,
    changed_runs::ChangedRuns,
    driver::{Adoption, CallLocation, Driver, DriverContext, DriverRequest, Submission},
    inbox::{Inbox, ShardQueues},
    outbox,
    permits::service::PermitService,
    remote_engine::RemoteEngineClient,
    shards::{Shards, Sharing},
    supervisor::Supervisor,
    topology_cache::TopologyCache,
    unserved_queues,
};

/// Capacity of the request queue; more requests wait. Each request is answered within a batch.
const REQUEST_QUEUE: usize = 64;

/// Maximum number of unsettled messages of an engine, over all its shards, so that the broker never waits for the
/// engine. A message holds one report, or the batch of a busy worker.
const PREFETCH: usize = 2_048;

/// The same with a broker whose messages are in the memory of this process: whether they wait here or there makes no
/// difference. Notifications that wait for their turn must not delay reports behind them.
const IN_PROCESS_PREFETCH: usize = 131_072;

/// Maximum time that a new run waits for a shard, and a run command for its reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time that the engine that drives a shard has to say who it is. An engine that takes a shard over reads its runs first.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause between two attempts to start a run while the engine drives no shard.
const SHARD_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Configuration of an engine.
#[derive(Debug, Clone)]
pub struct Config {
    /// Unique name of the engine, chosen anew at each start.
    pub id: String,
    /// The runs it drives.
    pub shards: ShardAssignment,
    /// How many runs may not have ended when one starts.
    pub max_open_runs: MaxOpenRuns,
    /// The largest output that a task may have, in bytes: workers store no larger values.
    pub max_output: u64,
    /// How much is remembered of each namespace.
    pub memo_limits: MemoLimits,
    /// The host that it runs on, to show to users.
    pub host: String,
}

/// How many runs may not have ended when one starts; `None`: any number. A maximum holds over all engines that share the
/// logbook and have the same.
#[derive(Debug, Clone, Default)]
pub struct MaxOpenRuns {
    /// The maximum for each flow.
    pub of_flow: Option<NonZeroU64>,
    /// The maximum for all flows of a namespace together.
    pub of_namespace: PerNamespace<NonZeroU64>,
}

impl MaxOpenRuns {
    /// The maxima for a new run of a flow.
    pub(crate) fn of(&self, flow: &FlowName) -> MaxUnended {
        let of_namespace = flow.namespace().and_then(|namespace| self.of_namespace.of(&namespace));
        MaxUnended { of_flow: self.of_flow, of_namespace }
    }
}

/// The runs that an engine drives.
#[derive(Debug, Clone)]
pub enum ShardAssignment {
    /// Only the runs of one shard of its own. Its queues are deleted some time after the engine ends: until then, the
    /// next driver of the shard still receives the answers.
    Own(Shard),
    /// A fair part of all runs, beside the other engines that share broker and logbook. Their stores must have the
    /// same content.
    Shared,
}

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The engine's id is not a valid part of a queue name.
    #[error("the engine's id is not valid")]
    Id(#[from] flow::invalid::InvalidName),
    /// The engine's exchanges and queues could not be declared.
    #[error("could not declare the engine's exchanges and queues")]
    Declare(#[from] DeclareError),
    /// A queue of the engine could not be consumed.
    #[error("could not consume the engine's queues")]
    Consume(#[from] ConsumeError),
    /// The store could not be served to the workers.
    #[error("could not serve the store to the workers")]
    Store(#[from] store::bus::StartError),
    /// The secret of the engines could not be read or made.
    #[error("could not read the secret of the engines from the logbook")]
    Secret(#[from] logbook::AppendError),
}

/// Why a run could not be submitted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// A queue for the flow's jobs could not be declared.
    #[error("could not declare the queues of the flow's jobs")]
    Declare(#[from] DeclareError),
    /// The run could not receive the notifications of the tasks that its flow listens to.
    #[error("could not bind the queue of the engine to the tasks that the flow listens to")]
    Listen(#[source] DeclareError),
    /// A run with this id exists already.
    #[error("there is a run {run} already")]
    Exists {
        /// The run.
        run: RunId,
    },
    /// As many runs of the flow as allowed have not ended.
    #[error("{allowed} runs of flow {flow} have not ended, and the limit `open_runs` allows no more here")]
    TooManyOpen {
        /// The flow.
        flow: FlowName,
        /// The maximum.
        allowed: NonZeroU64,
    },
    /// As many runs of the namespace as allowed have not ended.
    #[error(
        "{allowed} runs of the namespace {namespace} have not ended, and its limit `open_runs` allows no more here"
    )]
    TooManyOpenInNamespace {
        /// The namespace.
        namespace: Namespace,
        /// The maximum.
        allowed: NonZeroU64,
    },
    /// The run's id is too long for the names of the flow.
    #[error(transparent)]
    RunId(#[from] RunIdTooLong),
    /// The engine drives no shard yet, and so cannot start a run.
    #[error("the engine drives no shard yet")]
    NoShard,
    /// The engine is stopping.
    #[error("the engine is stopping")]
    Stopping,
    /// A large value of the flow could not be put into the store.
    #[error("could not store a large value of the flow")]
    Put(#[from] store::PutError),
    /// The flow triggers a bug of waft.
    #[error("run {run} triggers a bug of waft and was not started")]
    Bug {
        /// The run.
        run: RunId,
    },
    /// The run's first records were not written, as far as is known.
    #[error("could not write the run's first records")]
    Append(#[from] logbook::AppendError),
}

/// Drives runs. Cheap to clone; the engine lives until [`Engine::stop`] or [`Engine::abort`].
#[derive(Clone)]
pub struct Engine {
    requests: mpsc::Sender<DriverRequest>,
    logbook: Arc<dyn Logbook>,
    /// The logbook for what clients ask for, which delays no driver.
    client_logbook: Arc<dyn Logbook>,
    topology: TopologyCache,
    remote: RemoteEngineClient,
    shards: Arc<[Shard]>,
    store: Arc<dyn Store>,
    changed: ChangedRuns,
    waiting: unserved_queues::WaitingCalls,
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
        // The id becomes part of queue names.
        let _valid = Shard::new(&config.id)?;
        let (sharing, shards, store_queue) = match config.shards {
            ShardAssignment::Own(own) => (Sharing::Exclusive, vec![own.clone()], names::store_queue(&own)),
            ShardAssignment::Shared => (Sharing::Shared, names::shards().collect(), names::SHARED_STORE.to_owned()),
        };
        broker::topology::declare_shared(&*broker).await?;
        let secret = logbook.secret().await?;
        let (requests, received_requests) = mpsc::channel(REQUEST_QUEUE);
        let (outbox, batches) = mpsc::channel(outbox::OUTBOX_CAPACITY);
        let (confirmed, is_durable) = (outbox::ConfirmedVersions::default(), broker.is_durable());
        let (stop, aborted) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let prefetch = if is_durable { PREFETCH } else { IN_PROCESS_PREFETCH };
        let prefetch = u16::try_from(prefetch / shards.len()).unwrap_or(u16::MAX);
        let queues = ShardQueues { broker: broker.clone(), sharing, prefetch, refusals: Arc::default() };
        let opening = shards.iter().map(|shard| queues.open_if_responsive(shard));
        let consumers = futures::future::try_join_all(opening).await?;
        let inbox = Inbox::new(&queues, consumers, &tasks, &aborted);
        let supervisor = Supervisor::new(tasks.clone(), stop.clone(), aborted.clone());
        let server =
            store::bus::Server::start(broker.clone(), store_queue.clone(), store.clone(), secret, stop.clone()).await?;
        let remote = RemoteEngineClient::start(broker.clone(), &config.id, secret, &supervisor, stop.clone()).await?;
        supervisor.spawn("store", server.with_max_output(config.max_output).run());
        let outbox_context = outbox::OutboxContext::new(broker.clone(), store.clone(), secret);
        supervisor.spawn("outbox", outbox::run(outbox_context, batches, confirmed.clone()));
        let waiting = unserved_queues::start(&broker, &supervisor, &stop);
        let permits = PermitService {
            engine: config.id.clone(),
            secret,
            broker: broker.clone(),
            clock: clock.clone(),
            supervisor: supervisor.clone(),
            refusals: Arc::default(),
            stop: stop.clone(),
            coordinators: Arc::default(),
        };
        let topology = TopologyCache::new(broker, permits);
        let changed = ChangedRuns::default();
        let known_shards = shards.iter().cloned().collect();
        let context = DriverContext {
            logbook: logbook.clone(),
            store: store.clone(),
            clock,
            outbox,
            confirmed,
            is_durable,
            topology: topology.clone(),
            changes: changed.clone(),
            store_queue,
            secret,
            waiting: waiting.clone(),
            max_open_runs: config.max_open_runs,
            memo_limits: config.memo_limits,
            host: config.host,
        };
        let driver = Driver::new(context, Shards::new(config.id, sharing, shards, secret));
        let (ended, until) = (CancellationToken::new(), stop.clone());
        let end_guard = ended.clone().drop_guard();
        tasks.spawn(aborted.clone().run_until_cancelled_owned(async move {
            // Also ends the engine after a panic.
            let _end_guard = end_guard;
            // Without one of its tasks an engine would seem to work, but some of its runs would wait for ever. The
            // driver is boxed, since the state of one iteration is large.
            let run = Box::pin(driver.run(inbox, received_requests, until));
            supervisor.failed().run_until_cancelled(run).await;
        }));
        tasks.close();
        let client_logbook = logbook.clone().for_clients();
        Ok(Self {
            requests,
            logbook,
            client_logbook,
            topology,
            remote,
            shards: known_shards,
            store,
            changed,
            waiting,
            stop,
            aborted,
            ended,
            tasks,
        })
    }

    /// Starts a run without labels: see [`Engine::submit_labelled`].
    ///
    /// # Errors
    /// As [`Engine::submit_labelled`].
    pub async fn submit(&self, run: RunId, flow: Arc<Flow>) -> Result<Watch, SubmitError> {
        self.submit_labelled(run, flow, Labels::default()).await
    }

    /// Starts a run and watches it. When this returns, its start is durable. Large values of the flow are in the store.
    ///
    /// # Errors
    /// [`SubmitError`]; as far as is known, nothing was started.
    pub async fn submit_labelled(&self, run: RunId, flow: Arc<Flow>, labels: Labels) -> Result<Watch, SubmitError> {
        flow.check_run_id(&run)?;
        self.topology.declare_for(&flow).await?;
        let flow = store::values::put_large_of_flow(&*self.store, flow).await?;
        let deadline = tokio::time::Instant::now() + REPLY_TIMEOUT;
        loop {
            let (reply_to, reply) = oneshot::channel();
            let (run, flow, labels) = (run.clone(), flow.clone(), labels.clone());
            let request = DriverRequest::Submit(Submission { run, flow, labels, reply_to });
            self.requests.send(request).await.map_err(|_| SubmitError::Stopping)?;
            match reply.await.map_err(|_| SubmitError::Stopping)? {
                // The engine has just started, or its shards are moving to another engine.
                Err(SubmitError::NoShard) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(SHARD_RETRY_DELAY).await;
                }
                result => return result,
            }
        }
    }

    /// Takes over a run that another process left, applies a command to it, such as resume, and watches it.
    /// Unanswered calls are sent again first. No other process may drive the run; if two do, one of them loses. If
    /// the command does not apply to a suspended run, the watch ends at once.
    ///
    /// # Errors
    /// [`CommandError`] when the run does not exist, has ended and the command cannot reopen it, or cannot be read.
    pub async fn adopt(&self, run: RunId, command: RunCommand) -> Result<Watch, CommandError> {
        let history = self.logbook.load(&run).await.map_err(|error| CommandError::of_load(&run, &error))?;
        let machine = history.into_machine().map_err(|error| CommandError::of_load(&run, &error))?;
        let failed = |error: DeclareError| CommandError::Failed { reason: error.to_string() };
        self.topology.declare_for(machine.flow()).await.map_err(failed)?;
        let (reply_to, reply) = oneshot::channel();
        let flow = machine.flow().clone();
        self.send(DriverRequest::Adopt(Adoption { run, flow, command, reply_to })).await?;
        reply.await.map_err(|_| CommandError::Stopping)?
    }

    /// Sends a command to the engine that drives the run, this one or a remote one. When this returns, the effect of
    /// the command is durable. Returns the state of the run after it.
    ///
    /// # Errors
    /// [`CommandError`] when the command does not apply to the run, or could not be recorded. After
    /// [`CommandError::Unreachable`] it may be recorded later.
    pub async fn command(&self, run: &RunId, command: RunCommand) -> Result<RunState, CommandError> {
        let name = command.as_str();
        let summary = self.client_logbook.summary(run).await.map_err(|error| CommandError::of_load(run, &error))?;
        let shard = summary.info.shard;
        let command = match command {
            RunCommand::Edit { revision, flow } => {
                let put = store::values::put_large_of_flow(&*self.store, flow).await;
                let flow = put.map_err(|error| CommandError::Failed { reason: error.to_string() })?;
                RunCommand::Edit { revision, flow }
            }
            command => command,
        };
        let requesting = self.remote.request(&shard, protocol::CommandRequest { run: run.clone(), command });
        match timeout(REPLY_TIMEOUT, requesting).await {
            Ok(Ok(reply)) => CommandError::result(run, name, reply),
            Ok(Err(error)) => Err(CommandError::of_request(run, name, error)),
            Err(_) => Err(CommandError::Unreachable { run: run.clone() }),
        }
    }

    /// Applies a command to a run that this engine drives, without the broker.
    ///
    /// # Errors
    /// Same as [`Engine::command`].
    pub async fn command_local(&self, run: &RunId, command: RunCommand) -> Result<RunState, CommandError> {
        let name = command.as_str();
        let (reply_to, reply) = oneshot::channel();
        self.send(DriverRequest::Command { run: run.clone(), command, reply_to }).await?;
        CommandError::result(run, name, reply.await.map_err(|_| CommandError::Stopping)?)
    }

    /// Stops the calls of a run that is being suspended, on all workers. The run is suspended at once, and sends them
    /// again when it continues. An unknown run is ignored.
    ///
    /// # Errors
    /// [`CommandError::Stopping`] when the engine is stopping.
    pub async fn abandon(&self, run: RunId) -> Result<(), CommandError> {
        self.send(DriverRequest::Abandon { run }).await
    }

    /// Returns the location of each outstanding call, for all runs that this engine drives.
    ///
    /// # Errors
    /// [`CommandError::Stopping`] when the engine is stopping.
    pub async fn call_locations(&self) -> Result<Vec<(CallId, CallLocation)>, CommandError> {
        let (reply_to, reply) = oneshot::channel();
        self.send(DriverRequest::CallLocations { reply_to }).await?;
        reply.await.map_err(|_| CommandError::Stopping)
    }

    /// Returns the leased calls of a run, each with the time since its last heartbeat. Empty for a run that this
    /// engine does not drive.
    pub async fn silent_leases(&self, run: &RunId) -> Vec<SilentLease> {
        let (reply_to, reply) = oneshot::channel();
        match self.send(DriverRequest::SilentLeases { run: run.clone(), reply_to }).await {
            Ok(()) => reply.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// The flow of a run that this engine drives and a notification of a task would be new to, to check it before it is sent.
    pub async fn notified_flow(&self, run: &RunId, task: &NodeName, key: Option<&str>) -> Option<Arc<Flow>> {
        let (reply_to, reply) = oneshot::channel();
        let (run, task, key) = (run.clone(), task.clone(), key.map(str::to_owned));
        self.send(DriverRequest::NotifiedFlow { run, task, key, reply_to }).await.ok()?;
        reply.await.ok().flatten()
    }

    /// Asks for each shard that this engine may drive which engine drives it. `None` for a shard about which no engine has answered
    /// within two seconds. Dropping the future is safe.
    pub async fn shard_drivers(&self) -> Vec<(Shard, Option<EngineStatus>)> {
        let asking = self.shards.iter().map(|shard| async move {
            let answered = timeout(DESCRIBE_TIMEOUT, self.remote.describe(shard)).await;
            (shard.clone(), answered.ok().and_then(Result::ok))
        });
        futures::future::join_all(asking).await
    }

    /// Asks the engines which calls of each shard hold permits or wait for them. `None` for a shard about which no engine has answered
    /// within two seconds. Dropping the future is safe.
    pub async fn permits(&self, question: &PermitsQuestion) -> Vec<(Shard, Option<PermitsAnswer>)> {
        let asking = self.shards.iter().map(|shard| async move {
            let answered = timeout(DESCRIBE_TIMEOUT, self.remote.permits(shard, question.clone())).await;
            (shard.clone(), answered.ok().and_then(Result::ok))
        });
        futures::future::join_all(asking).await
    }

    /// Subscribes to the new records that a run gets from this engine.
    #[must_use]
    pub fn changes(&self, run: RunId) -> RunChanges {
        self.changed.subscribe(run)
    }

    /// The queues in which calls waited for a worker some seconds ago.
    #[must_use]
    pub fn waiting_queues(&self) -> Vec<QueueName> {
        self.waiting.queues()
    }

    /// Checks that the engine works: its driver answers, a message returns through the broker, and the logbook can be
    /// written and read.
    ///
    /// # Errors
    /// A description of the part that does not work.
    pub async fn check(&self) -> Result<(), String> {
        let (reply_to, reply) = oneshot::channel();
        // The queue of the driver may be full.
        let driver = async {
            self.send(DriverRequest::Check { reply_to }).await.map_err(|error| error.to_string())?;
            reply.await.map_err(|_| "the engine has stopped".to_owned())
        };
        let unresponsive = |what: &str| format!("{what} has not answered for {} seconds", REPLY_TIMEOUT.as_secs());
        timeout(REPLY_TIMEOUT, driver).await.map_err(|_| unresponsive("the engine"))??;
        let broker = timeout(REPLY_TIMEOUT, self.remote.check());
        broker.await.map_err(|_| unresponsive("the broker"))?.map_err(|error| format!("the broker: {error}"))?;
        let logbook = timeout(REPLY_TIMEOUT, self.logbook.check());
        logbook.await.map_err(|_| unresponsive("the logbook"))?.map_err(|error| error.to_string())
    }

    /// Returns when the engine no longer drives runs: it was stopped, one of its queues was deleted, or one of its tasks
    /// panicked. The process should then be restarted: the runs are safe in the logbook. Cancel-safe.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Accepts nothing new, publishes the messages of durable records, and returns when all are published. If the
    /// broker is away, it waits for the broker. Unsettled signals go back to their queues. Dropping the future does
    /// not undo the stop.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    /// Stops at once, as a crash would. Durable records stay durable.
    pub async fn abort(&self) {
        self.aborted.cancel();
        self.stop.cancel();
        self.tasks.wait().await;
    }

    async fn send(&self, request: DriverRequest) -> Result<(), CommandError> {
        self.requests.send(request).await.map_err(|_| CommandError::Stopping)
    }
}
