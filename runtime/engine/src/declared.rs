//! What was declared for flows: each once, since each costs the broker about a millisecond.

use std::{collections::BTreeSet, sync::Arc};

use broker::{Broker, DeclareError};
use flow::Flow;
use protocol::topology as names;
use tokio::sync::Mutex;

use crate::topology;

/// Knows what was declared for flows. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Declared {
    broker: Arc<dyn Broker>,
    known: Arc<Mutex<BTreeSet<String>>>,
}

impl Declared {
    pub(crate) fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker, known: Arc::default() }
    }

    /// Declares the queues of a flow's jobs, and at its first run the exchanges of its notifying tasks.
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
        for task in topology::notifying_tasks(flow) {
            let exchange = names::task(&flow.name, &task);
            if !known.contains(&exchange) {
                topology::declare_task(&*self.broker, flow, &task).await?;
                known.insert(exchange);
            }
        }
        Ok(())
    }
}
