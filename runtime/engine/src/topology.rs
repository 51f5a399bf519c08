//! The exchanges and queues of one engine and its flows.

use std::time::Duration;

use broker::{Binding, Broker, DeclareError, Destination, Exchange, ExchangeKind, Queue, QueueKind};
use flow::{Flow, FlowName, NodeName, Shard, State, graph::Role};
use protocol::topology;

use crate::shards::Sharing;

/// Maximum number of tasks whose exchanges are declared in advance; in larger flows they are declared on request.
/// Each costs the broker about a millisecond.
const MAX_DECLARED_TASKS: usize = 256;

/// Maximum number of deliveries of a message: one for each crash of its engine. Only a signal that crashes engines
/// reaches it; its message, which may hold other signals too, then goes to the quarantine and crashes no more of them.
const SIGNAL_DELIVERY_LIMIT: u32 = 1_000;

/// How long the queue of an exclusive shard outlives its process.
const SHARD_QUEUE_EXPIRY: Duration = Duration::from_secs(600);

/// The exchanges through which messages reach the queue of a shard, besides those of the tasks that its runs listen to.
const SHARD_EXCHANGES: [&str; 3] = [topology::REPORTS, topology::ENGINES, topology::RELEASED];

/// Declares the queue of a shard. The queue of an exclusive shard is deleted some time after its process has ended.
pub(crate) async fn declare_shard(broker: &dyn Broker, shard: &Shard, sharing: Sharing) -> Result<(), DeclareError> {
    let kind = QueueKind::Quorum {
        delivery_limit: Some(SIGNAL_DELIVERY_LIMIT),
        dead_letter_to: Some(topology::DEAD_LETTERS.into()),
        single_active_consumer: true,
        expires: match sharing {
            Sharing::Exclusive => Some(SHARD_QUEUE_EXPIRY),
            Sharing::Shared => None,
        },
    };
    let queue = Queue { name: topology::shard_queue(shard), kind };
    broker::topology::declare_bound(broker, &queue, &SHARD_EXCHANGES).await
}

/// The bindings of the queue of a shard that it always has.
pub(crate) fn shard_bindings(shard: &Shard) -> Vec<Binding> {
    broker::topology::bindings_by_name(&topology::shard_queue(shard), &SHARD_EXCHANGES)
}

/// The tasks whose exchanges are declared at a flow's first run: those that others of the flow listen to.
pub(crate) fn notifying_tasks(flow: &Flow) -> Vec<NodeName> {
    if flow.tasks().count() > MAX_DECLARED_TASKS {
        return Vec::new();
    }
    let is_listened_to = |index| {
        let end = if flow.for_each(index).is_some() { flow.fan_in_of(index) } else { index };
        flow.node(end).after.iter().any(|after| match flow.node(*after).role {
            Role::Task(_) | Role::Wait(_) | Role::ForEach(_) | Role::Controller(_) | Role::Begin => true,
            Role::FanIn(_) | Role::End => false,
        })
    };
    flow.tasks().filter(|(index, _, _)| is_listened_to(*index)).map(|(_, name, _)| name.clone()).collect()
}

/// Declares the exchange of one task's notifications and binds it.
pub(crate) async fn declare_task(broker: &dyn Broker, flow: &FlowName, task: &NodeName) -> Result<(), DeclareError> {
    let name = topology::task_exchange(flow, task);
    broker.declare_exchange(&Exchange { name: name.clone(), kind: ExchangeKind::Topic }).await?;
    let key = topology::task_pattern(flow, task);
    let to = Destination::Exchange(name);
    broker.bind(&Binding { exchange: topology::NOTIFICATIONS.into(), key, to }).await
}

/// Binds the queue of a shard to the final states of a task.
pub(crate) async fn bind_shard(broker: &dyn Broker, exchange: &str, shard: &Shard) -> Result<(), DeclareError> {
    for binding in bindings(exchange, shard) {
        broker.bind(&binding).await?;
    }
    Ok(())
}

/// Unbinds the queue of a shard from the final states of a task.
pub(crate) async fn unbind_shard(broker: &dyn Broker, exchange: &str, shard: &Shard) -> Result<(), DeclareError> {
    for binding in bindings(exchange, shard) {
        broker.unbind(&binding).await?;
    }
    Ok(())
}

fn bindings(exchange: &str, shard: &Shard) -> [Binding; 2] {
    [State::Success, State::Failure].map(|state| Binding {
        exchange: exchange.into(),
        key: format!("*.*.*.{state}"),
        to: Destination::Queue(topology::shard_queue(shard)),
    })
}
