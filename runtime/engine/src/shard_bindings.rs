//! The bindings of shard queues to the tasks that runs listen to. A binding is made once and remembered.
//!
//! The driver does not wait for these operations. Each binding has a lock of its own, so the broker receives the operations
//! on one binding in order, and a slow one delays no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use broker::{Broker, DeclareError};
use flow::{Flow, FlowName, NodeName, Shard};
use protocol::topology as names;

use crate::{listeners::ListenedTask, topology};

/// How often the bindings of a shard were forgotten. A binding counts only in the epoch in which it was made.
type Epoch = u64;

/// Binds the queues of shards to tasks of other flows. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ShardBindings {
    broker: Arc<dyn Broker>,
    state: Arc<Mutex<State>>,
}

/// Known bindings.
#[derive(Default)]
struct State {
    epochs: BTreeMap<Shard, Epoch>,
    /// By shard and exchange.
    bindings: BTreeMap<(Shard, String), Arc<BindingState>>,
}

/// The state of one binding.
#[derive(Default)]
struct BindingState {
    /// Held during an operation, since the broker must receive the operations on one binding in order.
    operation: Arc<tokio::sync::Mutex<()>>,
    /// The epoch in which the binding was made; `None` from the start of its removal.
    made_in: Mutex<Option<Epoch>>,
}

impl BindingState {
    fn made_in(&self) -> MutexGuard<'_, Option<Epoch>> {
        // An assignment is a single operation.
        self.made_in.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A binding that may not exist.
pub(crate) struct MissingBinding {
    pub(crate) task: ListenedTask,
    exchange: String,
    epoch: Epoch,
    state: Arc<BindingState>,
}

impl ShardBindings {
    pub(crate) fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker, state: Arc::default() }
    }

    /// The bindings that the queue of a shard needs for a flow's listeners, and may not have.
    pub(crate) fn missing(&self, flow: &Flow, shard: &Shard) -> Vec<MissingBinding> {
        let tasks: BTreeSet<_> = flow.listeners.iter().map(|listener| (&listener.flow, &listener.task)).collect();
        if tasks.is_empty() {
            return Vec::new();
        }
        let mut known = self.lock();
        let epoch = known.epochs.get(shard).copied().unwrap_or_default();
        let missing = |(flow, task)| {
            let exchange = names::task_exchange(flow, task);
            let state = known.bindings.entry((shard.clone(), exchange.clone())).or_default().clone();
            let is_made = *state.made_in() == Some(epoch);
            let task = (shard.clone(), FlowName::clone(flow), NodeName::clone(task));
            (!is_made).then_some(MissingBinding { task, exchange, epoch, state })
        };
        tasks.into_iter().filter_map(missing).collect()
    }

    /// Makes a binding to an exchange that exists. If it is being removed, waits for that first.
    pub(crate) async fn bind(&self, missing: &MissingBinding) -> Result<(), DeclareError> {
        let MissingBinding { task: (shard, ..), exchange, epoch, state } = missing;
        let _operation = state.operation.lock().await;
        if *state.made_in() != Some(*epoch) {
            topology::bind_shard(&*self.broker, exchange, shard).await?;
            *state.made_in() = Some(*epoch);
        }
        Ok(())
    }

    /// Starts to remove a binding, which is missing from now on. `None` while it is being made or removed.
    pub(crate) fn start_unbind(
        &self,
        exchange: &str,
        shard: &Shard,
    ) -> Option<impl Future<Output = Result<(), DeclareError>> + Send + 'static> {
        let state = self.lock().bindings.entry((shard.clone(), exchange.to_owned())).or_default().clone();
        let operation = state.operation.clone().try_lock_owned().ok()?;
        *state.made_in() = None;
        let (broker, exchange, shard) = (self.broker.clone(), exchange.to_owned(), shard.clone());
        Some(async move {
            // The state is known to be in use until the operation has ended.
            let _in_use = (state, operation);
            topology::unbind_shard(&*broker, &exchange, &shard).await
        })
    }

    /// Forgets the bindings of a shard's queue: another engine may remove them from now on.
    pub(crate) fn forget(&self, shard: &Shard) {
        let mut state = self.lock();
        *state.epochs.entry(shard.clone()).or_default() += 1;
        // One that is in use still orders the operations on its binding.
        state.bindings.retain(|(of, _), binding| of != shard || Arc::strong_count(binding) > 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is complete, so a panic in another thread leaves no partial one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
