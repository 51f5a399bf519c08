//! The broker objects that engines and workers share. They are declared in one place, since a broker refuses a second
//! declaration that differs. The names are in `protocol::topology`.

use flow::QueueName;
use futures::future::try_join_all;
use protocol::topology as names;
use tracing::info;

use crate::{Binding, Broker, DeclareError, Destination, Exchange, ExchangeKind, Queue, QueueKind};

/// The shared exchanges.
const EXCHANGES: [(&str, ExchangeKind); 11] = [
    (names::JOBS, ExchangeKind::Direct),
    (names::NOTIFICATIONS, ExchangeKind::Topic),
    (names::CONTROL, ExchangeKind::Fanout),
    (names::LOGS, ExchangeKind::Topic),
    (names::REPORTS, ExchangeKind::Direct),
    (names::ENGINES, ExchangeKind::Direct),
    (names::CONTENT, ExchangeKind::Direct),
    (names::REPLIES, ExchangeKind::Direct),
    (names::STATUS, ExchangeKind::Direct),
    (names::RELEASED, ExchangeKind::Direct),
    (names::DEAD_LETTERS, ExchangeKind::Fanout),
];

/// The shared exchanges.
pub fn exchanges() -> impl Iterator<Item = Exchange> {
    EXCHANGES.into_iter().map(|(name, kind)| Exchange { name: name.to_owned(), kind })
}

/// Declares the shared exchanges, and then the quarantine: where it exists, they exist too.
///
/// # Errors
/// [`DeclareError`], also for a user that may not declare them: see [`ensure_shared`].
pub async fn declare_shared(broker: &dyn Broker) -> Result<(), DeclareError> {
    let exchanges: Vec<Exchange> = exchanges().collect();
    let (first, others) = exchanges.split_first().expect("there are some");
    // Alone, so that a broker logs one refusal and not one for each.
    broker.declare_exchange(first).await?;
    try_join_all(others.iter().map(|exchange| broker.declare_exchange(exchange))).await?;
    // Messages here wait for an operator: deliveries are not counted, and nothing expires.
    let kind =
        QueueKind::Quorum { delivery_limit: None, dead_letter_to: None, single_active_consumer: false, expires: None };
    broker.declare_queue(&Queue { name: names::QUARANTINE.to_owned(), kind }).await?;
    let to = Destination::Queue(names::QUARANTINE.to_owned());
    broker.bind(&Binding { exchange: names::DEAD_LETTERS.to_owned(), key: String::new(), to }).await
}

/// Makes sure that the shared exchanges and the quarantine exist. A user that may not declare them uses those that another
/// user has declared.
///
/// # Errors
/// [`DeclareError`]: [`DeclareError::AccessRefused`] if this user may not declare them, and nobody else has.
pub async fn ensure_shared(broker: &dyn Broker) -> Result<(), DeclareError> {
    let declared = declare_shared(broker).await;
    use_declared(broker, declared, names::QUARANTINE, "the exchanges of waft").await
}

/// Declares the job queue for a queue name, and binds it. The quarantine must exist: see [`declare_shared`].
///
/// # Errors
/// [`DeclareError`], also for a user that may not declare it: see [`ensure_jobs`].
pub async fn declare_jobs(broker: &dyn Broker, queue: &QueueName) -> Result<(), DeclareError> {
    let name = names::job_queue(queue);
    let kind = QueueKind::Quorum {
        delivery_limit: Some(names::QUEUE_DELIVERY_LIMIT),
        dead_letter_to: Some(names::DEAD_LETTERS.to_owned()),
        single_active_consumer: false,
        expires: None,
    };
    broker.declare_queue(&Queue { name: name.clone(), kind }).await?;
    bind_by_name(broker, &name, &[names::RELEASED]).await?;
    let to = Destination::Queue(name);
    // Last, so that a queue that takes jobs can also take released ones.
    let binding = Binding { exchange: names::JOBS.to_owned(), key: queue.to_string(), to };
    broker.bind(&binding).await
}

/// Makes sure that the job queue for a queue name exists. A user that may not declare it uses the queue that an engine, or
/// `waft broker setup`, has declared.
///
/// # Errors
/// [`DeclareError`]: [`DeclareError::AccessRefused`] if this user may not declare it, and nobody else has.
pub async fn ensure_jobs(broker: &dyn Broker, queue: &QueueName) -> Result<(), DeclareError> {
    let (declared, name) = (declare_jobs(broker, queue).await, names::job_queue(queue));
    use_declared(broker, declared, &name, &name).await
}

/// Accepts that this user may not declare something, if `queue` exists, which is declared last.
async fn use_declared(
    broker: &dyn Broker,
    declared: Result<(), DeclareError>,
    queue: &str,
    what: &str,
) -> Result<(), DeclareError> {
    match declared {
        Err(refused @ DeclareError::AccessRefused { .. }) => {
            if broker.waiting(queue).await?.is_none() {
                return Err(refused);
            }
            info!("this user of the broker may not declare {what}: it uses what another user has declared");
            Ok(())
        }
        result => result,
    }
}

/// Declares a queue, and binds it by its name to exchanges of `protocol::topology`. If they do not exist yet, all shared
/// exchanges are declared.
///
/// # Errors
/// [`DeclareError`] when the broker refuses something.
pub async fn declare_bound(broker: &dyn Broker, queue: &Queue, exchanges: &[&str]) -> Result<(), DeclareError> {
    broker.declare_queue(queue).await?;
    match bind_by_name(broker, &queue.name, exchanges).await {
        Err(DeclareError::Refused { .. }) => {
            ensure_shared(broker).await?;
            bind_by_name(broker, &queue.name, exchanges).await
        }
        result => result,
    }
}

async fn bind_by_name(broker: &dyn Broker, queue: &str, exchanges: &[&str]) -> Result<(), DeclareError> {
    let binding = |exchange: &&str| {
        let to = Destination::Queue(queue.to_owned());
        Binding { exchange: (*exchange).to_owned(), key: queue.to_owned(), to }
    };
    let bindings: Vec<Binding> = exchanges.iter().map(binding).collect();
    try_join_all(bindings.iter().map(|binding| broker.bind(binding))).await.map(drop)
}
