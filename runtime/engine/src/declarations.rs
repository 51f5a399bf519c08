//! The declarations and bindings that the broker makes beside the driver. The driver never waits for the broker: what
//! needs them is held here and handled once they have ended.

use std::{collections::HashMap, sync::Arc, time::Duration};

use broker::{DeclareError, Delivery};
use flow::{Namespace, RunId, Shard};
use protocol::{CommandRequest, Reply};
use tokio::{
    sync::{Semaphore, oneshot},
    task::{Id, JoinSet},
    time::timeout,
};

use crate::{
    driver::{Adoption, Submission},
    listeners::ListenedTask,
    topology_cache::{DECLARE_TIMEOUT, MissingObjects, TopologyCache},
};

/// Maximum number of loaded runs whose objects are declared at a time, so that new runs do not wait behind thousands.
const MAX_LOADS: usize = 2;

/// How long a loaded run counts among [`MAX_LOADS`]: one with an unresponsive queue takes longer, and delays no other.
const LOAD_SLOT_TIME: Duration = Duration::from_secs(5);

/// How long a command waits for the queues of its flow. If they take longer, a job that needs a missing one declares it.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of held commands: fewer than the deliveries of one shard, or its other messages would wait too.
const MAX_HELD_COMMANDS: usize = 64;

/// Maximum number of them for the runs of one namespace: the others are for other namespaces.
const MAX_HELD_OF_NAMESPACE: usize = 16;

/// What the driver does once a declaration has ended.
pub(crate) enum AfterDeclaration {
    /// Starts the run.
    Submit(Submission),
    /// Takes the run over.
    Adopt(Adoption),
    /// Records the command, for a run of a flow in this namespace.
    Command(HeldCommand, Option<Namespace>),
    /// Logs an error: the run goes on meanwhile.
    Load(RunId),
    /// Logs an error.
    Unbind,
}

impl AfterDeclaration {
    /// The namespace of a held command.
    fn as_command(&self) -> Option<Option<&Namespace>> {
        match self {
            Self::Command(_, namespace) => Some(namespace.as_ref()),
            Self::Submit(_) | Self::Adopt(_) | Self::Load(_) | Self::Unbind => None,
        }
    }
}

/// A command that waits until its run can listen to tasks.
pub(crate) enum HeldCommand {
    /// From this process.
    Local { request: CommandRequest, reply_to: oneshot::Sender<Reply> },
    /// From the queue of a shard, in a term of the shard; unsettled.
    Delivered { request: CommandRequest, term: u64, delivery: Box<Delivery> },
}

/// A declaration that has ended.
pub(crate) struct EndedDeclaration {
    pub(crate) shard: Shard,
    pub(crate) after: AfterDeclaration,
    pub(crate) result: Result<(), DeclareError>,
}

/// A declaration that is under way.
struct Pending {
    shard: Shard,
    /// The tasks to which the queue of the shard is bound for a run that is not known to listen yet.
    tasks: Vec<ListenedTask>,
    after: AfterDeclaration,
}

/// The declarations that are under way. They end with their engine.
pub(crate) struct Declarations {
    topology: TopologyCache,
    running: JoinSet<Result<(), DeclareError>>,
    /// Of each task. A task that panics returns only its id.
    pending: HashMap<Id, Pending>,
    loads: Arc<Semaphore>,
}

impl Declarations {
    pub(crate) fn new(topology: TopologyCache) -> Self {
        let loads = Arc::new(Semaphore::new(MAX_LOADS));
        Self { topology, running: JoinSet::new(), pending: HashMap::new(), loads }
    }

    /// Declares what a run in a shard needs.
    pub(crate) fn start(&mut self, shard: Shard, missing: MissingObjects, after: AfterDeclaration) {
        let (topology, loads) = (self.topology.clone(), self.loads.clone());
        let is_load = matches!(after, AfterDeclaration::Load(_));
        // A loaded run is among the listeners already.
        let bindings = if is_load { &[] } else { missing.bindings() };
        let tasks = bindings.iter().map(|binding| binding.task.clone()).collect();
        let task = if is_load {
            self.running.spawn(async move {
                let slot = loads.acquire().await;
                let mut completing = std::pin::pin!(topology.complete(missing, DECLARE_TIMEOUT));
                if let Ok(completed) = timeout(LOAD_SLOT_TIME, &mut completing).await {
                    return completed;
                }
                drop(slot);
                completing.await
            })
        } else {
            self.running.spawn(async move { topology.complete(missing, COMMAND_TIMEOUT).await })
        };
        self.pending.insert(task.id(), Pending { shard, tasks, after });
    }

    /// Unbinds the queue of a shard.
    pub(crate) fn unbind(
        &mut self,
        shard: Shard,
        unbinding: impl Future<Output = Result<(), DeclareError>> + Send + 'static,
    ) {
        let task = self.running.spawn(unbinding);
        self.pending.insert(task.id(), Pending { shard, tasks: Vec::new(), after: AfterDeclaration::Unbind });
    }

    /// The next declaration that ends; `None` when none is running. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<EndedDeclaration> {
        loop {
            let (id, result) = match self.running.join_next_with_id().await? {
                Ok((id, result)) => (id, result),
                Err(lost) => {
                    let what = "what a run needs".to_owned();
                    (lost.id(), Err(DeclareError::Refused { what, reason: format!("its task was lost: {lost}") }))
                }
            };
            let Some(Pending { shard, after, .. }) = self.pending.remove(&id) else { continue };
            return Some(EndedDeclaration { shard, after, result });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether a loaded run may not receive notifications yet.
    pub(crate) fn has_loads(&self) -> bool {
        self.pending.values().any(|pending| matches!(pending.after, AfterDeclaration::Load(_)))
    }

    /// Whether another command can be held, for a run of a flow in this namespace.
    pub(crate) fn has_room_for_command(&self, namespace: Option<&Namespace>) -> bool {
        let held = || self.pending.values().filter_map(|pending| pending.after.as_command());
        let of_namespace = || held().filter(|of| *of == namespace).count();
        held().count() < MAX_HELD_COMMANDS && (namespace.is_none() || of_namespace() < MAX_HELD_OF_NAMESPACE)
    }

    /// Whether the queue of a shard is being bound to a task for a run that is not known to listen yet.
    pub(crate) fn is_binding(&self, task: &ListenedTask) -> bool {
        self.pending.values().any(|pending| pending.tasks.contains(task))
    }

    /// Whether the queue of a shard is being unbound from a task.
    pub(crate) fn is_unbinding(&self, shard: &Shard) -> bool {
        let is_unbinding = |pending: &Pending| matches!(pending.after, AfterDeclaration::Unbind);
        self.pending.values().any(|pending| pending.shard == *shard && is_unbinding(pending))
    }
}
