//! The broker objects that engines and workers share. They are declared in one place, since a broker refuses a second
//! declaration that differs. The names are in `protocol::topology`.

use std::{convert::Infallible, time::Duration};

use flow::QueueName;
use futures::future::try_join_all;
use protocol::topology as names;
use tracing::{debug, info, warn};

use crate::{Binding, Broker, DeclareError, Destination, Exchange, ExchangeKind, Queue, QueueKind};

/// How often the bindings of a queue are made again. A worker that cannot publish a result tries it for a little longer than
/// this before it gives the job back.
const REBIND_INTERVAL: Duration = Duration::from_secs(10);

/// The maximum size of the messages in the quarantine. A worker, or a guest whose messages are refused, can send many there: they must
/// not fill the disk of the broker, or the memory of a server without one.
const MAX_QUARANTINE_BYTES: u64 = 256 << 20;

/// The maximum number of messages in the quarantine: small ones cost a broker more than their bytes.
const MAX_QUARANTINED: u32 = 1_000_000;

/// The shared exchanges.
const EXCHANGES: [(&str, ExchangeKind); 13] = [
    (names::JOBS, ExchangeKind::Direct),
    (names::NOTIFICATIONS, ExchangeKind::Topic),
    (names::RUNS, ExchangeKind::Topic),
    (names::CONTROL, ExchangeKind::Fanout),
    (names::LOGS, ExchangeKind::Topic),
    (names::REPORTS, ExchangeKind::Direct),
    (names::ENGINES, ExchangeKind::Direct),
    (names::CONTENT, ExchangeKind::Direct),
    (names::REPLIES, ExchangeKind::Direct),
    (names::STATUS, ExchangeKind::Direct),
    (names::RELEASED, ExchangeKind::Direct),
    (names::DEAD_LETTERS, ExchangeKind::Fanout),
    (names::DROPPED, ExchangeKind::Direct),
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
    // Messages here wait for an operator.
    let kind = QueueKind::Bounded {
        max_messages: MAX_QUARANTINED,
        max_bytes: MAX_QUARANTINE_BYTES,
        dropped_to: None,
        single_active_consumer: false,
        expires: None,
    };
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
    bind(broker, &bindings_by_name(&name, &[names::RELEASED])).await?;
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

/// Declares the queue of a program that receives notifications, and binds it by the patterns. The shared exchanges must exist. Patterns of an
/// earlier declaration stay.
///
/// # Errors
/// [`DeclareError`], also if the queue exists with other properties.
pub async fn declare_listener(broker: &dyn Broker, name: &QueueName, patterns: &[String]) -> Result<(), DeclareError> {
    let name = names::listener_queue(name);
    // A program may return a notification as often as it likes.
    let kind =
        QueueKind::Quorum { delivery_limit: None, dead_letter_to: None, single_active_consumer: false, expires: None };
    broker.declare_queue(&Queue { name: name.clone(), kind }).await?;
    let to = Destination::Queue(name);
    let bindings: Vec<Binding> = patterns
        .iter()
        .map(|pattern| Binding { exchange: names::NOTIFICATIONS.to_owned(), key: pattern.clone(), to: to.clone() })
        .collect();
    bind(broker, &bindings).await
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
    bind_or_declare(broker, &bindings_by_name(&queue.name, exchanges)).await
}

/// Works with a queue, and makes its bindings again once in a while meanwhile. A binding is deleted with its exchange, and a
/// user that may not declare the exchange can bind the queue only after another user has declared it.
pub async fn keep_bound<Output>(
    broker: &dyn Broker,
    bindings: &[Binding],
    work: impl Future<Output = Output>,
) -> Output {
    // Dropping the other future loses nothing: a binding is made as a whole, or not at all.
    tokio::select! {
        biased;
        output = work => output,
        never = rebind(broker, bindings) => match never {},
    }
}

async fn rebind(broker: &dyn Broker, bindings: &[Binding]) -> Infallible {
    let mut has_failed = false;
    loop {
        tokio::time::sleep(REBIND_INTERVAL).await;
        let bound = bind_or_declare(broker, bindings).await;
        match &bound {
            Ok(()) if has_failed => info!(?bindings, "the bindings of a queue exist again"),
            // A closed broker needs no bindings.
            Ok(()) | Err(DeclareError::Closed) => {}
            Err(error) if !has_failed => {
                warn!(%error, "the bindings of a queue could not be made; they are tried again until they exist")
            }
            Err(error) => debug!(%error, "the bindings of a queue could not be made yet"),
        }
        has_failed = bound.is_err();
    }
}

/// The bindings of a queue by its name.
#[must_use]
pub fn bindings_by_name(queue: &str, exchanges: &[&str]) -> Vec<Binding> {
    let binding = |exchange: &&str| {
        let to = Destination::Queue(queue.to_owned());
        Binding { exchange: (*exchange).to_owned(), key: queue.to_owned(), to }
    };
    exchanges.iter().map(binding).collect()
}

/// Makes bindings. If the exchanges do not exist, all shared exchanges are declared.
///
/// # Errors
/// [`DeclareError`] when the broker refuses something.
pub async fn bind_or_declare(broker: &dyn Broker, bindings: &[Binding]) -> Result<(), DeclareError> {
    match bind(broker, bindings).await {
        Err(DeclareError::Refused { .. }) => {
            ensure_shared(broker).await?;
            bind(broker, bindings).await
        }
        result => result,
    }
}

async fn bind(broker: &dyn Broker, bindings: &[Binding]) -> Result<(), DeclareError> {
    try_join_all(bindings.iter().map(|binding| broker.bind(binding))).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InProcess, Message, Properties, PublishError, Routing};

    fn message(exchange: &str) -> Message {
        Message {
            exchange: exchange.into(),
            key: "q".into(),
            routing: Routing::Mandatory,
            persistent: true,
            priority: 0,
            properties: Properties::default(),
            body: bytes::Bytes::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_binding_that_was_deleted_is_made_again() {
        let broker = InProcess::new();
        let queue = Queue { name: "q".into(), kind: QueueKind::Exclusive };
        declare_bound(&broker, &queue, &[names::REPORTS]).await.unwrap();
        let bindings = bindings_by_name("q", &[names::REPORTS]);
        let publish = || broker.publish(message(names::REPORTS));
        broker.unbind(&bindings[0]).await.unwrap();
        assert!(matches!(publish().await, Err(PublishError::Unroutable { .. })));
        keep_bound(&broker, &bindings, tokio::time::sleep(2 * REBIND_INTERVAL)).await;
        publish().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_is_bound_once_its_exchange_exists() {
        let broker = InProcess::new();
        broker.declare_queue(&Queue { name: "q".into(), kind: QueueKind::Exclusive }).await.unwrap();
        let bindings = bindings_by_name("q", &["later"]);
        let exchange = Exchange { name: "later".into(), kind: ExchangeKind::Direct };
        let declare = async {
            tokio::time::sleep(3 * REBIND_INTERVAL).await;
            broker.declare_exchange(&exchange).await.unwrap();
            tokio::time::sleep(2 * REBIND_INTERVAL).await;
        };
        keep_bound(&broker, &bindings, declare).await;
        broker.publish(message("later")).await.unwrap();
    }
}
