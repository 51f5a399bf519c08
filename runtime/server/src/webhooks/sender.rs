//! Takes the notifications of one webhook from its queue, and sends them until the server of the webhook has accepted them.
//!
//! An event leaves the queue only then, so a restart of waft or of the broker loses none. Of several servers with the same webhook, one sends
//! at a time.

use std::{sync::Arc, time::Duration};

use api::{LostEvents, RunsEvent};
use broker::{Binding, Broker, Consumer, DeclareError, Delivery, Destination, Queue, QueueKind};
use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use gateway::Gateway;
use logbook::Logbook;
use protocol::{EngineSecret, topology};
use serde::Deserialize;
use tokio::time::{Instant, error::Elapsed, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    config::Webhook,
    journal::Journal,
    post::{Outgoing, post},
};
use crate::recent_events::{
    event::{RecentEvent, Subject},
    labels::LabelCache,
};

/// The maximum number of events of a webhook that are sent at the same time. A server that is slow for one event gets the others meanwhile.
const MAX_IN_FLIGHT: u16 = 8;

/// The maximum number of waiting notifications of a webhook, and their size with the values of tasks, in bytes. The broker drops the oldest
/// ones beyond that.
const MAX_WAITING: u32 = 100_000;
const MAX_WAITING_BYTES: u64 = 256 << 20;

/// How much is kept of what was dropped: only its number matters.
const MAX_DROPPED: u16 = 1_000;
const MAX_DROPPED_BYTES: u64 = 1 << 20;

/// How long the queues outlive the last server with the webhook: longer than any event is sent.
const QUEUE_EXPIRY: Duration = Duration::from_secs(8 * 86_400);

/// The time limit for declaring the queues.
const PATIENCE: Duration = Duration::from_secs(20);

/// The pause before the queues are declared again.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// The pause before an event is sent again. It doubles with each try, up to a maximum.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// How long an event is held between tries. Then it returns to the queue and comes back at once: RabbitMQ closes the channel of a consumer
/// that holds a message for half an hour.
const MAX_HOLD: Duration = Duration::from_secs(20 * 60);

/// Every routing key.
const EVERY_KEY: &str = "#";

/// Why the queues of a webhook cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SenderError {
    #[error("could not read the secret of the engines from the logbook")]
    Secret(#[from] logbook::AppendError),
    #[error("could not declare the queues of the webhook")]
    Declare(#[from] DeclareError),
    #[error("could not consume the queues of the webhook")]
    Consume(#[from] broker::ConsumeError),
    #[error("the broker has not answered for {} seconds", PATIENCE.as_secs())]
    Silent(#[from] Elapsed),
}

/// Sends the events of one webhook.
pub(super) struct Sender {
    pub(super) webhook: Webhook,
    pub(super) journal: Arc<Journal>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) logbook: Arc<dyn Logbook>,
    pub(super) labels: LabelCache,
    pub(super) stop: CancellationToken,
}

impl Sender {
    /// Sends events until the server stops. What is not delivered then returns to the queue.
    pub(super) async fn run(self) {
        let name = &self.webhook.name;
        loop {
            match self.stop.run_until_cancelled(self.send_all()).await {
                None => return,
                Some(Ok(())) => {
                    warn!(%name, "a queue of the webhook was deleted: its events are lost; another one is declared")
                }
                Some(Err(error)) => {
                    warn!(%name, error = &error as &dyn std::error::Error, "no event of the webhook can be sent yet")
                }
            }
            if self.stop.run_until_cancelled(sleep(RETRY_DELAY)).await.is_none() {
                return;
            }
        }
    }

    /// Sends the events of the queue; returns when it was deleted, or the broker is closed.
    async fn send_all(&self) -> Result<(), SenderError> {
        let secret = self.logbook.secret().await?;
        let (mut events, mut dropped) = timeout(PATIENCE, self.declare()).await??;
        let mut in_flight: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        let mut reporting: Option<BoxFuture<'_, ()>> = None;
        loop {
            // All arms only wait. A new event is taken while few are being sent.
            tokio::select! {
                biased;
                Some(()) = in_flight.next() => {}
                () = async { reporting.as_mut().expect("it is there").await }, if reporting.is_some() => reporting = None,
                delivery = dropped.next(), if reporting.is_none() => match delivery {
                    Some(delivery) => {
                        let others = std::iter::from_fn(|| dropped.try_next());
                        let all = std::iter::once(delivery).chain(others).collect();
                        reporting = Some(Box::pin(self.report_dropped(all)));
                    }
                    None => return Ok(()),
                },
                delivery = events.next(), if in_flight.len() < usize::from(MAX_IN_FLIGHT) => match delivery {
                    Some(delivery) => in_flight.push(Box::pin(self.deliver(delivery, secret))),
                    None => return Ok(()),
                },
            }
        }
    }

    /// Declares the queue and that of what it drops, and consumes both.
    async fn declare(&self) -> Result<(Consumer, Consumer), SenderError> {
        let (name, broker) = (&self.webhook.name, &*self.broker);
        let (queue, dropped) = (topology::webhook_queue(name), topology::webhook_dropped_queue(name));
        let kind = QueueKind::Bounded {
            max_messages: MAX_DROPPED.into(),
            max_bytes: MAX_DROPPED_BYTES,
            dropped_to: None,
            single_active_consumer: true,
            expires: Some(QUEUE_EXPIRY),
        };
        let of_dropped = Queue { name: dropped.clone(), kind };
        broker::topology::declare_bound(broker, &of_dropped, &[topology::DROPPED]).await?;
        let dropped_to = Some((topology::DROPPED.to_owned(), dropped.clone()));
        let kind = QueueKind::Bounded {
            max_messages: MAX_WAITING,
            max_bytes: MAX_WAITING_BYTES,
            dropped_to,
            single_active_consumer: true,
            expires: Some(QUEUE_EXPIRY),
        };
        broker.declare_queue(&Queue { name: queue.clone(), kind }).await?;
        // A filter that changes needs no other bindings: what it leaves out is taken from the queue at once.
        let bindings = [topology::NOTIFICATIONS, topology::RUNS].map(|exchange| Binding {
            exchange: exchange.to_owned(),
            key: EVERY_KEY.to_owned(),
            to: Destination::Queue(queue.clone()),
        });
        broker::topology::bind_or_declare(broker, &bindings).await?;
        Ok((broker.consume(&queue, MAX_IN_FLIGHT).await?, broker.consume(&dropped, MAX_DROPPED).await?))
    }

    /// Sends the event of a notification until it is delivered, or too old.
    async fn deliver(&self, mut delivery: Delivery, secret: EngineSecret) {
        // Logbooks may share a broker: the events of another one are not sent.
        let event = RecentEvent::of_notification(&delivery.message, &secret);
        let Some(event) = event.filter(|event| self.webhook.wants(event)) else { return delivery.accept() };
        // The values in it are not needed any more.
        delivery.message.body = Bytes::new();
        if event.starts_run() {
            self.labels.forget(&event.run);
        }
        let outgoing = Outgoing::new(subject(&event), event.line.clone());
        let begun = Instant::now();
        // It was held for long before.
        let mut pause = if delivery.redelivered { MAX_PAUSE } else { FIRST_PAUSE };
        for attempt in 1.. {
            if delivery.is_lost() {
                // It comes again.
                return;
            }
            let is_wanted = self.labels.has_all(&self.webhook.filter.labels, &event.run, &*self.logbook).await;
            let is_done = match is_wanted {
                Ok(true) => self.try_once(&outgoing, attempt).await,
                Ok(false) => true,
                Err(error) => {
                    debug!(%error, "the labels of a run cannot be read yet");
                    false
                }
            };
            if is_done {
                return delivery.accept();
            }
            if self.is_too_old(&event) {
                let name = &self.webhook.name;
                warn!(%name, id = outgoing.id, subject = outgoing.subject, "an event is given up: it was not delivered for too long");
                self.journal.note_given_up();
                return delivery.accept();
            }
            if begun.elapsed() + pause > MAX_HOLD {
                return delivery.requeue();
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Tells the server of the webhook that events were lost, until it knows.
    async fn report_dropped(&self, dropped: Vec<Delivery>) {
        let (number, name) = (dropped.len(), &self.webhook.name);
        self.journal.note_dropped(number as u64);
        warn!(%name, number, "events were dropped: more than the queue of the webhook may have waited");
        // The time makes it another event than the report before.
        let now = jiff::Timestamp::now();
        let message = format!(
            "{number} or more events were lost before {now:.6}, since too many waited: read the list of runs again (GET /v1/runs, or `waft list`)"
        );
        let line = serde_json::to_string(&RunsEvent::Lost(LostEvents { message })).expect("a text serializes");
        let outgoing = Outgoing::new("lost events".to_owned(), line);
        let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
        for attempt in 1.. {
            if self.try_once(&outgoing, attempt).await {
                return dropped.into_iter().for_each(Delivery::accept);
            }
            // They are reported again, and then with those that were dropped meanwhile.
            if begun.elapsed() + pause > MAX_HOLD || dropped.iter().any(Delivery::is_lost) {
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Sends an event once, and notes it; returns whether it was delivered.
    async fn try_once(&self, event: &Outgoing, attempt: u32) -> bool {
        let tried = post(&self.gateway, &self.webhook, event, attempt).await;
        if let Some(failure) = &tried.failure {
            debug!(name = %self.webhook.name, id = event.id, attempt, failure, "an event was not delivered");
        }
        let is_delivered = tried.failure.is_none();
        self.journal.note(tried);
        is_delivered
    }

    fn is_too_old(&self, event: &RecentEvent) -> bool {
        #[derive(Deserialize)]
        struct Line {
            at: String,
        }
        let at = serde_json::from_str(&event.line).ok().and_then(|Line { at }| at.parse::<jiff::Timestamp>().ok());
        let Some(at) = at else { return false };
        let age = jiff::Timestamp::now().duration_since(at);
        Duration::try_from(age).is_ok_and(|age| age >= self.webhook.give_up_after)
    }
}

/// What an event is about, for people.
fn subject(event: &RecentEvent) -> String {
    let what = match event.subject {
        Subject::Run => "run",
        Subject::Task => "task of run",
        Subject::Retry => "retry controller of run",
    };
    format!("{what} {}: {}", event.run, event.state)
}
