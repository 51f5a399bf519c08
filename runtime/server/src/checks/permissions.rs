//! Checks whether the broker's user has the permissions of its role, and reads the broker's clock.
//!
//! A server is an engine, and everybody else who runs the checks an operator. The check tries what the role needs, with three
//! queues whose names start with waft's prefix, and with keys that lead to no other queue. It publishes a message to the first
//! queue, rejects it there, and takes it from the second queue, which receives dead letters. RabbitMQ notes when it moved the
//! message, by its own clock: AMQP has no other way to read the time. The check deletes the queues; if this process dies
//! before, the broker removes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::broker::{
    Binding, Broker, ConsumeError, Consumer, DEATH_TIME, DeclareError, Delivery, Destination, Message, Options,
    Properties, PublishError, Queue, QueueKind, Routing,
    roles::{DOCTOR_PREFIX, Permissions, Role, RoleLimits},
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

/// The exchange that the trial message is published to. Engines and operators may.
const ENTRANCE: &str = topology::RELEASED;

/// The exchange of the trial message's dead letter. It has only answers to pings, and its queues are deleted soon.
const EXIT: &str = topology::STATUS;

/// Why the trial did not complete.
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

/// What the trial found.
enum Trial {
    /// The message passed; the broker's clock, if it reports it.
    Passed(Option<Reading>),
    /// No waft has declared its exchanges yet.
    NothingDeclared,
    /// The user lacks permissions, in the words of the broker.
    Refused(Vec<String>),
}

/// Checks the permissions of a role, and the clock.
pub(super) async fn check(broker: &dyn Broker, options: &Options, role: Role) -> Vec<Check> {
    let name = format!("{DOCTOR_PREFIX}{}", uuid::Uuid::now_v7());
    let dead_letter_queue = format!("{name}.dead");
    let trial = async {
        let refusals = match broker.waiting(topology::QUARANTINE).await? {
            Some(_) => refused_to(role, broker, &name).await,
            None => return Ok(Trial::NothingDeclared),
        };
        if !refusals.is_empty() {
            return Ok(Trial::Refused(refusals));
        }
        send_as_job(broker, &name, &dead_letter_queue).await.map(Trial::Passed)
    };
    let result = within(TRIAL_TIMEOUT, trial).await;
    for queue in [&name, &dead_letter_queue] {
        // If even this takes too long, the broker removes the queues itself.
        let _ = within(QUERY_TIMEOUT / 4, broker.delete_queue(queue)).await;
    }
    match result {
        Some(Ok(Trial::Passed(reading))) => {
            vec![Check::ok("broker-permissions", tried(role)), clock_of(reading)]
        }
        Some(Ok(Trial::NothingDeclared)) => {
            let why = "no engine has declared the exchanges of waft yet, so nothing can be tried";
            vec![Check::skipped("broker-permissions", why), unknown_clock()]
        }
        Some(Ok(Trial::Refused(refusals))) => vec![refused(&refusals.join("; "), options, role), unknown_clock()],
        Some(Err(error)) => vec![refused(&reason_of(&error), options, role), unknown_clock()],
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

fn reason_of(error: &TrialError) -> String {
    match error {
        TrialError::Declare(error) => format!("cannot declare: {}", chain(error)),
        TrialError::Publish(error) => format!("cannot publish: {}", chain(error)),
        TrialError::Consume(error) => format!("cannot consume: {}", chain(error)),
        TrialError::Missing => "cannot consume: a published message did not arrive".to_owned(),
    }
}

fn refused(reason: &str, options: &Options, role: Role) -> Check {
    let user = options.address_and_user().map_or_else(|| "USER".to_owned(), |(_, user)| user);
    let Permissions { configure, write, read, .. } = Permissions::of(role, &RoleLimits::default());
    let role = role.as_str();
    let advice = format!(
        "give the user the permissions of the role {role}: rabbitmqctl set_permissions --vhost VHOST {user} '{configure}' \
         '{write}' '{read}'; `waft broker permissions` prints those of the other roles"
    );
    Check::fail("broker-permissions", reason, advice)
}

/// Tries what a role needs, each thing on its own; returns what the broker refuses, in its words: they name the permission and
/// the exchange or queue. All exchanges of waft exist.
async fn refused_to(role: Role, broker: &dyn Broker, name: &str) -> Vec<String> {
    let mut refusals = if declares_exchanges(role) { configure_refusals(broker).await } else { Vec::new() };
    let (sent, received) = exchanges_of(role);
    // The name is unique, so it leads nowhere.
    for exchange in sent {
        let message = Message { routing: Routing::Optional, ..message(exchange, name) };
        if let Err(PublishError::Refused { reason, .. }) = broker.publish(message).await {
            refusals.push(reason);
        }
    }
    let queue = format!("{name}.bound");
    let declared = broker.declare_queue(&Queue { name: queue.clone(), kind: QueueKind::Private }).await;
    if let Err(error) = declared {
        refusals.extend(access_refusal(error));
        return refusals;
    }
    for exchange in received {
        let to = Destination::Queue(queue.clone());
        let binding = Binding { exchange: (*exchange).to_owned(), key: queue.clone(), to };
        refusals.extend(broker.bind(&binding).await.err().and_then(access_refusal));
    }
    // Otherwise it is deleted with the connection.
    let _ = within(QUERY_TIMEOUT / 4, broker.delete_queue(&queue)).await;
    refusals
}

/// The exchanges that a role publishes to, and those that it binds queues to, as far as they are tried.
const fn exchanges_of(role: Role) -> (&'static [&'static str], &'static [&'static str]) {
    match role {
        Role::Engine => (
            &[topology::JOBS, topology::ENGINES, topology::REPLIES, topology::NOTIFICATIONS],
            &[topology::REPORTS, topology::ENGINES, topology::CONTENT, topology::REPLIES, topology::NOTIFICATIONS],
        ),
        Role::Operator => (&[topology::CONTENT, topology::RELEASED], &[topology::REPLIES, topology::STATUS]),
        Role::Worker | Role::Listener => (&[], &[]),
    }
}

/// Whether the check declares the shared exchanges for a role.
const fn declares_exchanges(role: Role) -> bool {
    match role {
        Role::Engine => true,
        Role::Operator | Role::Worker | Role::Listener => false,
    }
}

/// What a check that has passed has tried.
fn tried(role: Role) -> String {
    let (sent, received) = exchanges_of(role);
    let list = |exchanges: &[&str], of_trial: &[&str]| {
        let others = of_trial.iter().filter(|exchange| !exchanges.contains(exchange));
        exchanges.iter().chain(others).copied().collect::<Vec<_>>().join(", ")
    };
    let declares = if declares_exchanges(role) { "declare the shared exchanges, " } else { "" };
    format!(
        "the user may {declares}publish to {}, bind queues to {}, and declare and consume queues named {DOCTOR_PREFIX}…; the \
         role {} needs more, which was not tried: to use queues of other names",
        list(sent, &[ENTRANCE]),
        list(received, &[ENTRANCE, EXIT]),
        role.as_str(),
    )
}

/// Declares the shared exchanges again, which changes nothing.
async fn configure_refusals(broker: &dyn Broker) -> Vec<String> {
    let mut refusals = Vec::new();
    for exchange in ::broker::topology::exchanges() {
        refusals.extend(broker.declare_exchange(&exchange).await.err().and_then(access_refusal));
    }
    refusals
}

fn access_refusal(error: DeclareError) -> Option<String> {
    match error {
        DeclareError::AccessRefused { reason, .. } => Some(reason),
        // The trial that follows meets it too.
        DeclareError::Refused { .. }
        | DeclareError::Mismatch { .. }
        | DeclareError::TimedOut { .. }
        | DeclareError::Closed => None,
    }
}

/// Sends a message along the path of a job. Returns the broker's clock if the broker reports it.
async fn send_as_job(broker: &dyn Broker, name: &str, dead_letter_queue: &str) -> Result<Option<Reading>, TrialError> {
    let bind = async |queue: &str, exchange: &str| {
        let to = Destination::Queue(queue.to_owned());
        broker.bind(&Binding { exchange: exchange.to_owned(), key: name.to_owned(), to }).await
    };
    broker.declare_queue(&Queue { name: dead_letter_queue.to_owned(), kind: QueueKind::Private }).await?;
    bind(dead_letter_queue, EXIT).await?;
    let kind = QueueKind::Quorum {
        delivery_limit: Some(1),
        dead_letter_to: Some(EXIT.to_owned()),
        single_active_consumer: true,
        expires: Some(QUEUE_EXPIRY),
    };
    broker.declare_queue(&Queue { name: name.to_owned(), kind }).await?;
    bind(name, ENTRANCE).await?;
    let mut dead_letters = broker.consume(dead_letter_queue, 1).await?;
    let mut jobs = broker.consume(name, 1).await?;
    broker.publish(message(ENTRANCE, name)).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_was_tried() {
        assert_eq!(
            tried(Role::Operator),
            "the user may publish to waft.content, waft.released, bind queues to waft.replies, waft.status, waft.released, and \
             declare and consume queues named waft.doctor.…; the role operator needs more, which was not tried: to use queues \
             of other names"
        );
        let of_engine = tried(Role::Engine);
        assert!(
            of_engine.starts_with("the user may declare the shared exchanges, publish to waft.jobs, "),
            "{of_engine}"
        );
    }
}
