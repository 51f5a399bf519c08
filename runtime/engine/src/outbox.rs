//! Makes visible what is durable: publishes, tells watchers, and settles signals once that is done.
//!
//! Nothing here has to outlive the process: whoever drives a run after it sends from the records whatever is missing.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use broker::{Broker, Delivery, Message, PublishError};
use flow::QueueName;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use protocol::topology as names;
use tokio::{sync::mpsc, time::timeout};

use crate::{drive::BEAT, watch::Happening};

/// Batches on their way at once. More would only wait in the broker's confirms.
const IN_FLIGHT: usize = 64;

/// Batches that wait for the outbox before the engine waits for it.
pub(crate) const WAITING: usize = 16;

/// How long to wait before a message that was not taken is published again.
const PAUSE: Duration = Duration::from_secs(1);

/// What one batch of steps leads to, its records being durable.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) messages: Vec<Message>,
    /// Messages that mean something at once or never: what is not out within a beat is dropped.
    pub(crate) probes: Vec<Message>,
    pub(crate) happenings: Vec<(mpsc::Sender<Happening>, Happening)>,
    pub(crate) signals: Vec<Delivery>,
}

/// Runs until the engine drops its end, then until everything is out that the broker takes.
pub(crate) async fn run(broker: Arc<dyn Broker>, mut batches: mpsc::Receiver<Batch>) {
    let mut in_flight: FuturesUnordered<BoxFuture<'static, Vec<Message>>> = FuturesUnordered::new();
    // They take no place of others: one queue that is full or gone holds up nothing but its own jobs.
    let mut held_up: Vec<Message> = Vec::new();
    let mut trying: Option<BoxFuture<'static, Vec<Message>>> = None;
    let mut probing: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
    let mut open = true;
    while open || !in_flight.is_empty() {
        // All arms only receive. Biased, so that the same batches always go out in the same order.
        tokio::select! {
            biased;
            batch = batches.recv(), if open && in_flight.len() < IN_FLIGHT => match batch {
                Some(Batch { messages, probes, happenings, signals }) => {
                    in_flight.push(Box::pin(publish_all(broker.clone(), messages, signals)));
                    probing.extend(probes.into_iter().map(|probe| publish_now(broker.clone(), probe)));
                    for (watcher, happening) in happenings {
                        // A watcher that left is no concern of the run.
                        let _ = watcher.send(happening).await;
                    }
                }
                None => open = false,
            },
            Some(refused) = in_flight.next() => held_up.extend(refused),
            Some(()) = probing.next() => {}
            refused = async { trying.as_mut().expect("it is there").await }, if trying.is_some() => {
                trying = None;
                held_up.extend(refused);
            }
        }
        if trying.is_none() && !held_up.is_empty() {
            trying = Some(try_again(broker.clone(), std::mem::take(&mut held_up)));
        }
    }
    if trying.is_some() {
        tracing::warn!("some messages were not taken; what was to be called is called when its run goes on");
    }
}

/// Publishes what the broker takes, and answers what it refused.
async fn publish_all(broker: Arc<dyn Broker>, messages: Vec<Message>, signals: Vec<Delivery>) -> Vec<Message> {
    // Joined futures are first polled in order, so the broker gets them in order.
    let published = futures::future::join_all(messages.into_iter().map(|message| publish(&*broker, message))).await;
    signals.into_iter().for_each(Delivery::accept);
    published.into_iter().filter_map(Result::err).collect()
}

/// Publishes until the broker has taken a message, or said that it does not.
async fn publish(broker: &dyn Broker, message: Message) -> Result<(), Message> {
    loop {
        match broker.publish(message.clone()).await {
            Ok(()) | Err(PublishError::Closed) => return Ok(()),
            Err(error @ PublishError::Unconfirmed { .. }) => {
                tracing::debug!(%error, "a message is published again");
                tokio::time::sleep(PAUSE).await;
            }
            // Straight to a queue that is gone: whoever heard it has gone with it.
            Err(error @ PublishError::Unroutable { .. }) if message.exchange.is_empty() => {
                tracing::warn!(%error, "nobody waits for this message any more");
                return Ok(());
            }
            Err(error @ (PublishError::Unroutable { .. } | PublishError::Refused { .. })) => {
                tracing::warn!(%error, "a message was not taken; it is published again");
                return Err(message);
            }
        }
    }
}

/// After a pause, declares what these need, which somebody may have deleted, and publishes them again; answers those that are
/// refused once more.
fn try_again(broker: Arc<dyn Broker>, held_up: Vec<Message>) -> BoxFuture<'static, Vec<Message>> {
    Box::pin(async move {
        tokio::time::sleep(PAUSE).await;
        let jobs = held_up.iter().filter(|message| message.exchange == names::JOBS);
        let queues: BTreeSet<QueueName> = jobs.filter_map(|message| QueueName::new(&message.key).ok()).collect();
        if let Err(error) = declare(&*broker, queues).await {
            tracing::warn!(%error, "what some messages need could not be declared");
        }
        publish_all(broker, held_up, Vec::new()).await
    })
}

async fn declare(broker: &dyn Broker, queues: BTreeSet<QueueName>) -> Result<(), broker::DeclareError> {
    broker::topology::declare_shared(broker).await?;
    for queue in queues {
        broker::topology::declare_jobs(broker, &queue).await?;
    }
    Ok(())
}

fn publish_now(broker: Arc<dyn Broker>, probe: Message) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        // The next beat has another.
        let _ = timeout(BEAT, broker.publish(probe)).await;
    })
}
