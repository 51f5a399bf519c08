//! Makes visible what is durable: publishes, tells watchers, and settles signals once all of that is done.

use std::{sync::Arc, time::Duration};

use broker::{Broker, Delivery, Message, PublishError};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::mpsc;

use crate::watch::Happening;

/// Batches on their way at once. More would only wait in the broker's confirms.
const IN_FLIGHT: usize = 64;

/// Batches that wait for the outbox before the engine waits for it.
pub(crate) const WAITING: usize = 16;

/// How long to wait before a refused message is published again.
const PAUSE: Duration = Duration::from_secs(1);

/// What one batch of steps leads to, its records being durable.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) messages: Vec<Message>,
    pub(crate) happenings: Vec<(mpsc::Sender<Happening>, Happening)>,
    pub(crate) signals: Vec<Delivery>,
}

/// Runs until the engine drops its end, then until everything is out.
pub(crate) async fn run(broker: Arc<dyn Broker>, mut batches: mpsc::Receiver<Batch>) {
    let mut in_flight: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
    let mut open = true;
    while open || !in_flight.is_empty() {
        // Both arms only receive. Biased, so that the same batches always go out in the same order.
        tokio::select! {
            biased;
            batch = batches.recv(), if open && in_flight.len() < IN_FLIGHT => match batch {
                Some(Batch { messages, happenings, signals }) => {
                    in_flight.push(Box::pin(publish_all(broker.clone(), messages, signals)));
                    for (watcher, happening) in happenings {
                        // A watcher that left is no concern of the run.
                        let _ = watcher.send(happening).await;
                    }
                }
                None => open = false,
            },
            Some(()) = in_flight.next() => {}
        }
    }
}

async fn publish_all(broker: Arc<dyn Broker>, messages: Vec<Message>, signals: Vec<Delivery>) {
    // Joined futures are first polled in order, so the broker gets them in order.
    futures::future::join_all(messages.into_iter().map(|message| publish(&*broker, message))).await;
    signals.into_iter().for_each(Delivery::accept);
}

/// Publishes until the broker has taken the message: its record is durable, so it has to go out.
async fn publish(broker: &dyn Broker, message: Message) {
    loop {
        match broker.publish(message.clone()).await {
            Ok(()) | Err(PublishError::Closed) => return,
            Err(
                error @ (PublishError::Unroutable { .. }
                | PublishError::Refused { .. }
                | PublishError::Unconfirmed { .. }),
            ) => {
                tracing::warn!(%error, "a message was not taken; it is published again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
