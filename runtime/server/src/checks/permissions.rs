//! Checks whether the broker's user has the permissions that waft needs, and reads the broker's clock.
//!
//! The check uses two queues whose names start with waft's prefix. It publishes a job to the first queue, rejects it there,
//! and takes it from the second queue, which receives dead letters. RabbitMQ notes when it moved the message, by its own
//! clock: AMQP has no other way to read the time. The check deletes both queues; if this process dies before, the broker
//! removes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::broker::{
    Binding, Broker, ConsumeError, Consumer, DEATH_TIME, DeclareError, Delivery, Destination, Message, Options,
    Properties, PublishError, Queue, QueueKind, Routing,
};
use api::Check;
use protocol::topology;

use super::{
    QUERY_TIMEOUT,
    clock::{self, Reading},
    within,
};
use crate::problem::chain;

/// How long the first queue outlives a process that died during the check.
const QUEUE_EXPIRY: Duration = Duration::from_secs(60);

/// The time limit of the whole check. Declaring a quorum queue takes some 10 ms.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(6);

/// Why the check did not complete.
enum TrialError {
    /// A queue could not be declared or bound.
    Declare(DeclareError),
    /// A message could not be published.
    Publish(PublishError),
    /// A queue could not be consumed.
    Consume(ConsumeError),
    /// A published message did not arrive.
    Missing,
}

impl From<DeclareError> for TrialError {
    fn from(error: DeclareError) -> Self {
        Self::Declare(error)
    }
}

impl From<PublishError> for TrialError {
    fn from(error: PublishError) -> Self {
        Self::Publish(error)
    }
}

impl From<ConsumeError> for TrialError {
    fn from(error: ConsumeError) -> Self {
        Self::Consume(error)
    }
}

/// Checks the permissions and the clock.
pub(super) async fn check(broker: &dyn Broker, options: &Options) -> Vec<Check> {
    let name = format!("waft.doctor.{}", uuid::Uuid::now_v7());
    let dead_letter_queue = format!("{name}.dead");
    let result = within(TRIAL_TIMEOUT, send_as_job(broker, &name, &dead_letter_queue)).await;
    for queue in [&name, &dead_letter_queue] {
        // If even this takes too long, the broker removes the queues itself.
        let _ = within(QUERY_TIMEOUT / 4, broker.delete_queue(queue)).await;
    }
    match result {
        Some(Ok(reading)) => vec![
            Check::ok("broker-permissions", "queues can be declared, bound, published to and consumed"),
            clock_of(reading),
        ],
        Some(Err(error)) => vec![refused(error, options), unknown_clock()],
        None => {
            let detail =
                format!("a message did not pass through the broker within {} seconds", TRIAL_TIMEOUT.as_secs());
            let advice = "RabbitMQ accepts no messages while memory or disk is short, and declares no quorum queue while most of its \
                          nodes are down: `rabbitmqctl status` shows alarms, `rabbitmqctl cluster_status` nodes";
            vec![Check::fail("broker-permissions", detail, advice), unknown_clock()]
        }
    }
}

fn unknown_clock() -> Check {
    Check::skipped("broker-clock", "the broker's time is read from a message that passes through it, and none did")
}

fn clock_of(reading: Option<Reading>) -> Check {
    match reading {
        Some(reading) => clock::check("broker-clock", "the broker", &reading),
        None => Check::skipped("broker-clock", "this broker does not record the time of dead letters"),
    }
}

fn refused(error: TrialError, options: &Options) -> Check {
    let (step, reason) = match &error {
        TrialError::Declare(error) => ("declare (configure, and write to what is bound)", chain(error)),
        TrialError::Publish(error) => ("publish (write)", chain(error)),
        TrialError::Consume(error) => ("consume (read)", chain(error)),
        TrialError::Missing => ("consume", "a published message did not arrive".to_owned()),
    };
    let user = options.address_and_user().map_or_else(|| "USER".to_owned(), |(_, user)| user);
    let advice = format!(
        "give the user the permissions that waft needs: rabbitmqctl set_permissions -p VHOST {user} '^waft\\..*' \
         '^(waft\\..*|amq\\.default)$' '^waft\\..*'"
    );
    Check::fail("broker-permissions", format!("cannot {step}: {reason}"), advice)
}

/// Sends a message along the path of a job. Returns the broker's clock if the broker reports it.
async fn send_as_job(broker: &dyn Broker, name: &str, dead_letter_queue: &str) -> Result<Option<Reading>, TrialError> {
    broker.declare_queue(&Queue { name: dead_letter_queue.to_owned(), kind: QueueKind::Exclusive }).await?;
    let kind = QueueKind::Quorum {
        delivery_limit: Some(1),
        dead_letter_to: Some(dead_letter_queue.to_owned()),
        single_active_consumer: true,
        expires: Some(QUEUE_EXPIRY),
    };
    broker.declare_queue(&Queue { name: name.to_owned(), kind }).await?;
    let mut dead_letters = broker.consume(dead_letter_queue, 1).await?;
    let mut jobs = broker.consume(name, 1).await?;
    // waft declares the exchange of jobs together with the quarantine. No other queue is bound with this key.
    if broker.waiting(topology::QUARANTINE).await?.is_some() {
        let to = Destination::Queue(name.to_owned());
        broker.bind(&Binding { exchange: topology::JOBS.to_owned(), key: name.to_owned(), to }).await?;
        broker.publish(message(topology::JOBS, name)).await?;
        next(&mut jobs).await?.accept();
    }
    broker.publish(message("", name)).await?;
    let job = next(&mut jobs).await?;
    let sent_at = SystemTime::now();
    job.dead_letter();
    let dead_letter = next(&mut dead_letters).await?;
    let received_at = SystemTime::now();
    let seconds: Option<u64> =
        dead_letter.message.properties.headers.get(DEATH_TIME).and_then(|text| text.parse().ok());
    dead_letter.accept();
    let shown = seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    Ok(shown.map(|shown| Reading { sent_at, shown, resolution: Duration::from_secs(1), received_at }))
}

async fn next(consumer: &mut Consumer) -> Result<Delivery, TrialError> {
    consumer.next().await.ok_or(TrialError::Missing)
}

fn message(exchange: &str, key: &str) -> Message {
    Message {
        exchange: exchange.to_owned(),
        key: key.to_owned(),
        routing: Routing::Mandatory,
        persistent: true,
        priority: 0,
        properties: Properties::default(),
        body: "a trial of `waft doctor`".into(),
    }
}
