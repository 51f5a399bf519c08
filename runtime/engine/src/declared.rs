//! What was declared for flows: each once, since each costs the broker about a millisecond.

use std::{collections::BTreeSet, sync::Arc};

use broker::{Broker, DeclareError};
use flow::{Flow, Shard};
use protocol::topology as names;
use tokio::sync::Mutex;

use crate::{keeping::Keepers, topology};

/// Knows what was declared for flows. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Declared {
    broker: Arc<dyn Broker>,
    keepers: Keepers,
    known: Arc<Mutex<BTreeSet<String>>>,
}

impl Declared {
    pub(crate) fn new(broker: Arc<dyn Broker>, keepers: Keepers) -> Self {
        Self { broker, keepers, known: Arc::default() }
    }

    /// Declares the queues of a flow's jobs, and at its first run the exchanges of its notifying tasks, and what keeps the
    /// permits of those that have a pace.
    pub(crate) async fn declare_for(&self, flow: &Flow) -> Result<(), DeclareError> {
        // Held over the declarations, so that of two runs of a flow the second waits for the first one's.
        let mut known = self.known.lock().await;
        let queues: BTreeSet<_> = flow.tasks().map(|(_, _, task)| &task.queue).collect();
        for queue in queues {
            if !known.contains(&names::jobs(queue)) {
                broker::topology::declare_jobs(&*self.broker, queue).await?;
                known.insert(names::jobs(queue));
            }
        }
        for (_, task, _) in flow.tasks().filter(|(_, _, task)| !task.pace.is_open()) {
            let permits = names::permits(&flow.name, task);
            if !known.contains(&permits) {
                self.keepers.keep(&flow.name, task).await?;
                known.insert(permits);
            }
        }
        for task in topology::notifying_tasks(flow) {
            let exchange = names::task(&flow.name, &task);
            if !known.contains(&exchange) {
                topology::declare_task(&*self.broker, &flow.name, &task).await?;
                known.insert(exchange);
            }
        }
        Ok(())
    }

    /// Lets the queue of a shard hear the tasks of other flows that a flow listens to; their exchanges are declared where
    /// there are none yet.
    pub(crate) async fn listen_for(&self, flow: &Flow, shard: &Shard) -> Result<(), DeclareError> {
        if flow.listens.is_empty() {
            return Ok(());
        }
        let mut known = self.known.lock().await;
        for listen in &flow.listens {
            let exchange = names::task(&listen.flow, &listen.task);
            if !known.contains(&exchange) {
                topology::declare_task(&*self.broker, &listen.flow, &listen.task).await?;
                known.insert(exchange.clone());
            }
            let binding = format!("{exchange} {}", names::engine(shard));
            if !known.contains(&binding) {
                topology::bind_shard(&*self.broker, &exchange, shard).await?;
                known.insert(binding);
            }
        }
        Ok(())
    }

    /// The queue of a shard need not hear a task of another flow any more: nobody here listens to it.
    pub(crate) async fn unlisten(&self, exchange: &str, shard: &Shard) -> Result<(), DeclareError> {
        // Held meanwhile, so that who begins to listen now binds it anew afterwards.
        let mut known = self.known.lock().await;
        known.remove(&format!("{exchange} {}", names::engine(shard)));
        topology::unbind_shard(&*self.broker, exchange, shard).await
    }
}
