//! The broker objects that engines and workers share. They are declared in one place, since a broker refuses a second
//! declaration that differs. The names are in `protocol::topology`.

use flow::QueueName;
use protocol::topology as names;

use crate::{Binding, Broker, DeclareError, Destination, Exchange, ExchangeKind, Queue, QueueKind};

/// Declares the shared exchanges and the quarantine.
pub async fn declare_shared(broker: &dyn Broker) -> Result<(), DeclareError> {
    for (name, kind) in [
        (names::JOBS, ExchangeKind::Direct),
        (names::NOTIFICATIONS, ExchangeKind::Topic),
        (names::CONTROL, ExchangeKind::Fanout),
        (names::LOGS, ExchangeKind::Topic),
    ] {
        broker.declare_exchange(&Exchange { name: name.to_owned(), kind }).await?;
    }
    // Messages here wait for an operator: deliveries are not counted, and nothing expires.
    let kind =
        QueueKind::Quorum { delivery_limit: None, dead_letter_to: None, single_active_consumer: false, expires: None };
    broker.declare_queue(&Queue { name: names::QUARANTINE.to_owned(), kind }).await
}

/// Declares the job queue for a queue name and binds it to [`names::JOBS`]. The quarantine must exist: see
/// [`declare_shared`].
pub async fn declare_jobs(broker: &dyn Broker, queue: &QueueName) -> Result<(), DeclareError> {
    let name = names::job_queue(queue);
    let kind = QueueKind::Quorum {
        delivery_limit: Some(names::QUEUE_DELIVERY_LIMIT),
        dead_letter_to: Some(names::QUARANTINE.to_owned()),
        single_active_consumer: false,
        expires: None,
    };
    broker.declare_queue(&Queue { name: name.clone(), kind }).await?;
    let to = Destination::Queue(name);
    let binding = Binding { exchange: names::JOBS.to_owned(), key: queue.to_string(), to };
    broker.bind(&binding).await
}
