//! Remembers the broker objects that are declared for flows: a declaration costs the broker about a millisecond.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use broker::{Broker, DeclareError};
use flow::{Flow, QueueName, Shard};
use protocol::topology as names;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::{permits::service::PermitService, topology};

/// Declares broker objects for flows, each only once. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TopologyCache {
    broker: Arc<dyn Broker>,
    permits: PermitService,
    declared: Arc<Mutex<BTreeSet<String>>>,
    /// The exchanges that the queue of each shard is bound to.
    bound: Arc<std::sync::Mutex<BTreeMap<Shard, BTreeSet<String>>>>,
    /// Job queues that do not respond, and since when that is known.
    unresponsive: Arc<Mutex<BTreeMap<String, Instant>>>,
}

/// Maximum time of [`TopologyCache::declare_within`]. A working broker takes milliseconds.
const SHORT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an unresponsive queue is not declared again: each try takes as long as the broker's timeout.
const UNRESPONSIVE_FOR: Duration = Duration::from_secs(60);

impl TopologyCache {
    pub(crate) fn new(broker: Arc<dyn Broker>, permits: PermitService) -> Self {
        Self { broker, permits, declared: Arc::default(), bound: Arc::default(), unresponsive: Arc::default() }
    }

    /// Declares the queues of a flow's jobs. At the flow's first run it also declares the exchanges of its notifying
    /// tasks, and starts the permit coordinators of its rate-limited tasks. An unresponsive queue does not delay the
    /// others.
    pub(crate) async fn declare_for(&self, flow: &Flow) -> Result<(), DeclareError> {
        // Held during the declarations, so that of two runs of a flow the second waits for those of the first.
        let mut declared = self.declared.lock().await;
        let queues: BTreeSet<_> = flow.tasks().map(|(_, _, task)| &task.queue).collect();
        let mut timeout_error = None;
        for queue in queues {
            if declared.contains(&names::job_queue(queue)) {
                continue;
            }
            match self.declare_jobs(queue).await {
                Ok(()) => drop(declared.insert(names::job_queue(queue))),
                Err(error @ DeclareError::TimedOut { .. }) => timeout_error = Some(error),
                Err(error) => return Err(error),
            }
        }
        for (_, task, _) in flow.tasks().filter(|(_, _, task)| !task.pace.is_unlimited()) {
            let permits = names::permit_queue(&self.permits.secret, &flow.name, task);
            if !declared.contains(&permits) {
                self.permits.coordinate(&flow.name, task).await?;
                declared.insert(permits);
            }
        }
        for task in topology::notifying_tasks(flow) {
            let exchange = names::task_exchange(&flow.name, &task);
            if !declared.contains(&exchange) {
                topology::declare_task(&*self.broker, &flow.name, &task).await?;
                declared.insert(exchange);
            }
        }
        timeout_error.map_or(Ok(()), Err)
    }

    /// Same as [`TopologyCache::declare_for`], with a short timeout: the first job that needs a missing object
    /// declares it.
    pub(crate) async fn declare_within(&self, flow: &Flow) -> Result<(), DeclareError> {
        let timed_out = |_| DeclareError::TimedOut {
            what: format!("the queues of flow {}", flow.name),
            seconds: SHORT_TIMEOUT.as_secs(),
        };
        timeout(SHORT_TIMEOUT, self.declare_for(flow)).await.unwrap_or_else(|elapsed| Err(timed_out(elapsed)))
    }

    async fn declare_jobs(&self, queue: &QueueName) -> Result<(), DeclareError> {
        let name = names::job_queue(queue);
        if let Some(since) =
            self.unresponsive.lock().await.get(&name).filter(|since| since.elapsed() < UNRESPONSIVE_FOR)
        {
            return Err(DeclareError::TimedOut { what: format!("queue {name:?}"), seconds: since.elapsed().as_secs() });
        }
        // Noted before the answer, since the caller may not wait for it.
        self.unresponsive.lock().await.insert(name.clone(), Instant::now());
        let declared = broker::topology::declare_jobs(&*self.broker, queue).await;
        if !matches!(declared, Err(DeclareError::TimedOut { .. })) {
            self.unresponsive.lock().await.remove(&name);
        }
        declared
    }

    /// The permit coordinators on this engine.
    pub(crate) fn permits(&self) -> &PermitService {
        &self.permits
    }

    /// Binds the queue of a shard to the tasks of other flows that a flow listens to; missing exchanges are declared.
    pub(crate) async fn bind_listeners(&self, flow: &Flow, shard: &Shard) -> Result<(), DeclareError> {
        if flow.listeners.is_empty() {
            return Ok(());
        }
        let mut declared = self.declared.lock().await;
        for listener in &flow.listeners {
            let exchange = names::task_exchange(&listener.flow, &listener.task);
            if !declared.contains(&exchange) {
                topology::declare_task(&*self.broker, &listener.flow, &listener.task).await?;
                declared.insert(exchange.clone());
            }
            if !self.bound().get(shard).is_some_and(|exchanges| exchanges.contains(&exchange)) {
                topology::bind_shard(&*self.broker, &exchange, shard).await?;
                self.bound().entry(shard.clone()).or_default().insert(exchange);
            }
        }
        Ok(())
    }

    /// Forgets the bindings of a shard's queue: another engine may unbind it from now on.
    pub(crate) fn forget_bindings(&self, shard: &Shard) {
        self.bound().remove(shard);
    }

    fn bound(&self) -> MutexGuard<'_, BTreeMap<Shard, BTreeSet<String>>> {
        // Each change is complete, so a panic in another thread leaves no partial one.
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unbinds the queue of a shard from a task of another flow: no run here listens to it.
    pub(crate) async fn unbind_listener(&self, exchange: &str, shard: &Shard) -> Result<(), DeclareError> {
        // Held meanwhile, so that a run that starts to listen now binds it again afterwards.
        let _declaring = self.declared.lock().await;
        if let Some(exchanges) = self.bound().get_mut(shard) {
            exchanges.remove(exchange);
        }
        topology::unbind_shard(&*self.broker, exchange, shard).await
    }
}
