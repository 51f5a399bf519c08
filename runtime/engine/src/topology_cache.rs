//! Remembers the broker objects that are declared for flows: a declaration costs the broker some milliseconds.
//!
//! Each object has a cell of its own: of two runs that need the same object, the second waits for the declaration of the
//! first. A slow object delays only the runs that need it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use broker::{Broker, DeclareError};
use flow::{Flow, FlowName, NodeName, QueueName, Shard};
use futures::{Stream, StreamExt, stream};
use protocol::topology as names;
use tokio::{
    sync::OnceCell,
    time::{Instant, timeout},
};
use tracing::warn;

use crate::{
    permits::service::PermitService,
    shard_bindings::{MissingBinding, ShardBindings},
    topology,
};

/// Declares broker objects for flows, each only once. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TopologyCache {
    broker: Arc<dyn Broker>,
    permits: PermitService,
    bindings: ShardBindings,
    /// By the name of the object; initialized once it is declared.
    declared: Arc<Mutex<BTreeMap<String, Arc<OnceCell<()>>>>>,
    /// Job queues that do not respond, and since when that is known.
    unresponsive: Arc<Mutex<BTreeMap<String, Instant>>>,
}

/// Maximum time for everything that one flow needs. The largest flow takes some seconds, and a busy broker longer.
pub(crate) const DECLARE_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum number of declarations for one flow at a time: a quarter of those that a connection runs at once, so that the
/// declarations of other flows are not behind all of them.
const MAX_CONCURRENT_DECLARES: usize = 4;

/// How long an unresponsive queue is not declared again: each try takes as long as the broker's timeout.
const UNRESPONSIVE_FOR: Duration = Duration::from_secs(60);

/// A broker object that a flow needs.
enum BrokerObject {
    /// The queue of jobs.
    Jobs(QueueName),
    /// The permit queue of a task, which an engine consumes.
    Permits(FlowName, NodeName),
    /// The exchange of the notifications of a task.
    Notifications(FlowName, NodeName),
}

/// What a run needs on the broker, and may not exist.
pub(crate) struct MissingObjects {
    flow: FlowName,
    objects: Vec<BrokerObject>,
    bindings: Vec<MissingBinding>,
}

impl MissingObjects {
    pub(crate) fn bindings(&self) -> &[MissingBinding] {
        &self.bindings
    }
}

impl TopologyCache {
    pub(crate) fn new(broker: Arc<dyn Broker>, permits: PermitService) -> Self {
        let bindings = ShardBindings::new(broker.clone());
        Self { broker, permits, bindings, declared: Arc::default(), unresponsive: Arc::default() }
    }

    /// Declares the queues of a flow's jobs. At the flow's first run it also declares the exchanges of its notifying
    /// tasks, and starts the permit coordinators of its rate-limited tasks. An unresponsive queue does not delay the
    /// others.
    ///
    /// # Errors
    /// [`DeclareError`], also when the broker is too slow. What is declared by then stays declared.
    pub(crate) async fn declare_for(&self, flow: &Flow) -> Result<(), DeclareError> {
        self.declare_all(&flow.name, self.undeclared(flow), DECLARE_TIMEOUT).await
    }

    /// What a run of a flow in a shard needs and may not exist; `None` if everything exists.
    pub(crate) fn missing(&self, flow: &Flow, shard: &Shard) -> Option<MissingObjects> {
        let (objects, bindings) = (self.undeclared(flow), self.bindings.missing(flow, shard));
        let is_complete = objects.is_empty() && bindings.is_empty();
        (!is_complete).then(|| MissingObjects { flow: flow.name.clone(), objects, bindings })
    }

    /// Whether the queue of a shard is bound to all tasks that a flow listens to.
    pub(crate) fn is_bound(&self, flow: &Flow, shard: &Shard) -> bool {
        self.bindings.missing(flow, shard).is_empty()
    }

    /// Declares and binds what a run needs; the declarations may take `limit`. The first job of a queue that could not be
    /// declared declares it, so only the log reports that.
    ///
    /// # Errors
    /// [`DeclareError`] when the queue of the shard could not be bound to all tasks that the flow listens to.
    pub(crate) async fn complete(&self, missing: MissingObjects, limit: Duration) -> Result<(), DeclareError> {
        let MissingObjects { flow, objects, bindings } = missing;
        // At the same time, so that an unresponsive queue does not delay the bindings.
        let (declared, bound) = tokio::join!(self.declare_all(&flow, objects, limit), self.bind_all(&flow, bindings));
        if let Err(error) = declared {
            warn!(%flow, %error, "the queues of a flow's jobs could not be declared");
        }
        bound
    }

    /// The objects of a flow that are not known to be declared.
    fn undeclared(&self, flow: &Flow) -> Vec<BrokerObject> {
        let queues: BTreeSet<_> = flow.tasks().map(|(_, _, task)| &task.queue).collect();
        let jobs = queues.into_iter().map(|queue| BrokerObject::Jobs(queue.clone()));
        let paced = flow.tasks().filter(|(_, _, task)| !task.pace.is_unlimited());
        let permits = paced.map(|(_, task, _)| BrokerObject::Permits(flow.name.clone(), task.clone()));
        let notifying = topology::notifying_tasks(flow).into_iter();
        let exchanges = notifying.map(|task| BrokerObject::Notifications(flow.name.clone(), task));
        // Jobs come last: a job declares its queue if that is missing.
        let objects = permits.chain(exchanges).chain(jobs);
        objects.filter(|object| !self.cell(&self.name(object)).initialized()).collect()
    }

    async fn declare_all(
        &self,
        flow: &FlowName,
        objects: Vec<BrokerObject>,
        limit: Duration,
    ) -> Result<(), DeclareError> {
        let declaring =
            stream::iter(objects).map(|object| self.declare(object)).buffer_unordered(MAX_CONCURRENT_DECLARES);
        within(limit, declaring, || format!("the queues of flow {flow}")).await
    }

    async fn bind_all(&self, flow: &FlowName, bindings: Vec<MissingBinding>) -> Result<(), DeclareError> {
        let binding =
            stream::iter(bindings).map(|binding| self.bind(binding)).buffer_unordered(MAX_CONCURRENT_DECLARES);
        within(DECLARE_TIMEOUT, binding, || format!("the tasks that flow {flow} listens to")).await
    }

    /// Binds the queue of a shard to a task of another flow; a missing exchange is declared.
    async fn bind(&self, missing: MissingBinding) -> Result<(), DeclareError> {
        let (_, flow, task) = &missing.task;
        self.declare(BrokerObject::Notifications(flow.clone(), task.clone())).await?;
        self.bindings.bind(&missing).await
    }

    /// Declares an object, unless it is declared already. Cancel-safe: the next caller starts again.
    async fn declare(&self, object: BrokerObject) -> Result<(), DeclareError> {
        let cell = self.cell(&self.name(&object));
        let declare = || async {
            match &object {
                BrokerObject::Jobs(queue) => self.declare_jobs(queue).await,
                BrokerObject::Permits(flow, task) => self.permits.coordinate(flow, task).await,
                BrokerObject::Notifications(flow, task) => topology::declare_task(&*self.broker, flow, task).await,
            }
        };
        cell.get_or_try_init(declare).await.copied()
    }

    async fn declare_jobs(&self, queue: &QueueName) -> Result<(), DeclareError> {
        let (name, start) = (names::job_queue(queue), Instant::now());
        let known = lock(&self.unresponsive).get(&name).copied().filter(|since| since.elapsed() < UNRESPONSIVE_FOR);
        if let Some(since) = known {
            return Err(DeclareError::TimedOut { what: format!("queue {name:?}"), seconds: since.elapsed().as_secs() });
        }
        let declared = broker::topology::declare_jobs(&*self.broker, queue).await;
        match &declared {
            Err(DeclareError::TimedOut { .. }) => drop(lock(&self.unresponsive).insert(name, start)),
            Ok(()) | Err(_) => drop(lock(&self.unresponsive).remove(&name)),
        }
        declared
    }

    /// The permit coordinators on this engine.
    pub(crate) fn permits(&self) -> &PermitService {
        &self.permits
    }

    /// Starts to unbind the queue of a shard from a task of another flow: no run here listens to it. `None` while the
    /// binding is being made or removed.
    pub(crate) fn start_unbind(
        &self,
        exchange: &str,
        shard: &Shard,
    ) -> Option<impl Future<Output = Result<(), DeclareError>> + Send + 'static> {
        self.bindings.start_unbind(exchange, shard)
    }

    /// Forgets the bindings of a shard's queue: another engine may unbind it from now on.
    pub(crate) fn forget_bindings(&self, shard: &Shard) {
        self.bindings.forget(shard);
    }

    fn name(&self, object: &BrokerObject) -> String {
        match object {
            BrokerObject::Jobs(queue) => names::job_queue(queue),
            BrokerObject::Permits(flow, task) => names::permit_queue(&self.permits.secret, flow, task),
            BrokerObject::Notifications(flow, task) => names::task_exchange(flow, task),
        }
    }

    fn cell(&self, name: &str) -> Arc<OnceCell<()>> {
        lock(&self.declared).entry(name.to_owned()).or_default().clone()
    }
}

/// Waits for operations of a flow, for a limited time. One that times out does not stop the others, any other error does.
async fn within(
    limit: Duration,
    operations: impl Stream<Item = Result<(), DeclareError>>,
    what: impl FnOnce() -> String,
) -> Result<(), DeclareError> {
    let all = async {
        let mut operations = std::pin::pin!(operations);
        let mut result = Ok(());
        while let Some(ended) = operations.next().await {
            match ended {
                Ok(()) => {}
                Err(error @ DeclareError::TimedOut { .. }) => result = Err(error),
                Err(error) => return Err(error),
            }
        }
        result
    };
    let late = |_| DeclareError::TimedOut { what: what(), seconds: limit.as_secs() };
    timeout(limit, all).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
}

/// Locks for one operation on a map, so a panic in another thread leaves no partial change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
