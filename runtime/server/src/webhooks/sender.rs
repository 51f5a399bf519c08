//! Takes the notifications of one webhook from its queue, and sends them until the server of the webhook has accepted them.
//!
//! An event leaves the queue only then, so a restart of waft or of the broker loses none. Of several servers with the same webhook, one sends
//! at a time.

use std::{sync::Arc, time::Duration};

use api::{LostEvents, RunsEvent};
use broker::{Binding, Broker, Consumer, DeclareError, Delivery, Queue, QueueKind, Renewals};
use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use gateway::Gateway;
use logbook::Logbook;
use protocol::{EngineSecret, topology};
use serde::Deserialize;
use tokio::{
    sync::Semaphore,
    time::{Instant, error::Elapsed, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    config::Webhook,
    journal::Journal,
    post::{Attempt, Outgoing, Verdict, post},
    tries::{Acceptances, Cause, Places, Situation, Step, Tries},
};
use crate::recent_events::{
    event::{RecentEvent, Subject},
    labels::LabelCache,
};

/// The maximum number of requests of a webhook at the same time. A server that is slow for one event gets the others meanwhile.
pub(super) const MAX_REQUESTS: usize = 8;

/// The maximum number of them that send an event again. The server may never answer to some events: new events do not wait for these.
const MAX_RETRY_REQUESTS: usize = MAX_REQUESTS / 2;

/// The maximum number of events of a webhook that are held, between two tries or in one: many more than requests, so that a few events which
/// the server refuses do not hold up the others. Those of one namespace that failed while others were accepted, and wait for another try, are
/// at most half. The broker sends so many with the values of tasks, which take up to [`flow::MAX_INLINE_TOTAL_BYTES`] each until the event
/// is read.
const MAX_HELD: u16 = 32;

/// The maximum number of waiting notifications of a webhook, and their size with the values of tasks, in bytes. The broker drops the oldest
/// ones beyond that.
const MAX_WAITING: u32 = 100_000;
const MAX_WAITING_BYTES: u64 = 256 << 20;

/// How much is kept of what was dropped: only its number matters. All of it is held while it is reported, without the bodies.
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

/// The pause before a probe: shorter than that of the events, so that each learns from it at its next try. It doubles with each probe, up to
/// [`MAX_PAUSE`], for as long as no event is delivered or given up.
const PROBE_PAUSE: Duration = Duration::from_millis(500);

/// How long an event is held between tries. Then it returns to the queue and comes back at once: RabbitMQ closes the channel of a consumer
/// that holds a message for half an hour.
const MAX_HOLD: Duration = Duration::from_secs(20 * 60);

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
    pub(super) requests: Semaphore,
    pub(super) retry_requests: Semaphore,
    pub(super) places: Places,
    pub(super) acceptances: Acceptances,
    pub(super) stop: CancellationToken,
}

/// The places for the requests of one webhook.
pub(super) fn requests() -> Semaphore {
    Semaphore::new(MAX_REQUESTS)
}

/// The places for those of them that send an event again.
pub(super) fn retry_requests() -> Semaphore {
    Semaphore::new(MAX_RETRY_REQUESTS)
}

/// The places for the events of one webhook that failed and wait for another try.
pub(super) fn places() -> Places {
    Places::new(MAX_HELD / 2)
}

/// The pauses between the tries of one event.
struct Pauses {
    begun: Instant,
    next: Duration,
    renewals: Renewals,
}

impl Pauses {
    fn new(first: Duration, renewals: Renewals) -> Self {
        Self { begun: Instant::now(), next: first, renewals }
    }

    /// Whether the event would be held for too long until the next try.
    fn is_held_too_long(&self) -> bool {
        self.begun.elapsed() + self.next > MAX_HOLD
    }

    /// Waits until the next try, or until the connection to the broker was lost: then the event is on its way again.
    async fn wait(&mut self) {
        // Both arms only wait.
        tokio::select! {
            biased;
            () = self.renewals.next() => {}
            () = sleep(self.next) => {}
        }
        self.next = (self.next * 2).min(MAX_PAUSE);
    }
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
        let name = &self.webhook.name;
        let (queue, dropped) = (topology::webhook_queue(&secret, name), topology::webhook_dropped_queue(&secret, name));
        let (bindings, unwanted) = self.webhook.bindings(&queue);
        let (events, dropped) = timeout(PATIENCE, self.declare(&queue, &dropped, &bindings, &unwanted)).await??;
        broker::topology::keep_bound(&*self.broker, &bindings, self.send(events, dropped, secret)).await;
        Ok(())
    }

    async fn send(&self, mut events: Consumer, mut dropped: Consumer, secret: EngineSecret) {
        let mut renewals = events.renewals();
        let mut in_flight: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        // What is reported next, and since when no report was accepted.
        let (mut unreported, mut unreported_since) = (Vec::new(), None);
        let mut reporting: Option<BoxFuture<'_, bool>> = None;
        let mut probing: Option<BoxFuture<'_, ()>> = None;
        let mut probe_pause = PROBE_PAUSE;
        loop {
            // While no other event can be taken, only a probe shows whether the server does not accept these or none.
            if in_flight.len() < usize::from(MAX_HELD) {
                (probing, probe_pause) = (None, PROBE_PAUSE);
            } else if probing.is_none() {
                probing = Some(Box::pin(self.probe(probe_pause)));
            }
            if reporting.is_none() && !unreported.is_empty() {
                let since = *unreported_since.get_or_insert_with(Instant::now);
                let dropped = std::mem::take(&mut unreported);
                reporting = Some(Box::pin(self.report_dropped(dropped, since, renewals.clone())));
            }
            // All arms only wait. A lost connection is noted before what comes after it. A new event is taken while few are held.
            tokio::select! {
                biased;
                () = renewals.next() => {}
                Some(()) = in_flight.next() => {}
                is_done = async { reporting.as_mut().expect("it is there").await }, if reporting.is_some() => {
                    reporting = None;
                    if is_done {
                        unreported_since = None;
                    }
                }
                () = async { probing.as_mut().expect("it is there").await }, if probing.is_some() => {
                    (probing, probe_pause) = (None, (probe_pause * 2).min(MAX_PAUSE));
                }
                // Also while others are reported: their bodies would be in memory.
                delivery = dropped.next() => match delivery {
                    Some(delivery) => {
                        let others = std::iter::from_fn(|| dropped.try_next());
                        unreported.extend(std::iter::once(delivery).chain(others).map(without_body));
                    }
                    None => return,
                },
                delivery = events.next(), if in_flight.len() < usize::from(MAX_HELD) => match delivery {
                    Some(delivery) => in_flight.push(Box::pin(self.deliver(delivery, secret, renewals.clone()))),
                    None => return,
                },
            }
        }
    }

    /// Declares the queue and that of what it drops, and consumes both.
    async fn declare(
        &self,
        queue: &str,
        dropped: &str,
        bindings: &[Binding],
        unwanted: &[Binding],
    ) -> Result<(Consumer, Consumer), SenderError> {
        let broker = &*self.broker;
        let kind = QueueKind::Bounded {
            max_messages: MAX_DROPPED.into(),
            max_bytes: MAX_DROPPED_BYTES,
            dropped_to: None,
            single_active_consumer: true,
            expires: Some(QUEUE_EXPIRY),
        };
        let of_dropped = Queue { name: dropped.to_owned(), kind };
        broker::topology::declare_bound(broker, &of_dropped, &[topology::DROPPED]).await?;
        let dropped_to = Some((topology::DROPPED.to_owned(), dropped.to_owned()));
        let kind = QueueKind::Bounded {
            max_messages: MAX_WAITING,
            max_bytes: MAX_WAITING_BYTES,
            dropped_to,
            single_active_consumer: true,
            expires: Some(QUEUE_EXPIRY),
        };
        broker.declare_queue(&Queue { name: queue.to_owned(), kind }).await?;
        broker::topology::bind_or_declare(broker, bindings).await?;
        // The table may have said otherwise before. What comes nevertheless is taken from the queue at once.
        for binding in unwanted {
            broker.unbind(binding).await?;
        }
        Ok((broker.consume(queue, MAX_HELD).await?, broker.consume(dropped, MAX_DROPPED).await?))
    }

    /// Sends the event of a notification until it is delivered, or given up.
    async fn deliver(&self, mut delivery: Delivery, secret: EngineSecret, renewals: Renewals) {
        // Logbooks may share a broker: the events of another one are not sent.
        let event = RecentEvent::of_notification(&delivery.message, &secret);
        let Some(event) = event.filter(|event| self.webhook.wants(event)) else { return delivery.accept() };
        // The values in it are not needed any more.
        delivery.message.body = Bytes::new();
        if event.starts_run() {
            self.labels.forget(&event.run);
        }
        let outgoing = Outgoing::new(subject(&event), event.line.clone());
        // It may have been held for long before.
        let first_pause = if delivery.redelivered { age(&event).clamp(FIRST_PAUSE, MAX_PAUSE) } else { FIRST_PAUSE };
        let mut pauses = Pauses::new(first_pause, renewals);
        let mut is_wanted = self.webhook.filter.labels.is_empty();
        let namespace = event.flow.namespace().filter(|_| self.webhook.has_several_namespaces());
        let namespace = namespace.as_ref();
        let (mut tries, mut place) = (Tries::default(), None);
        for number in 1.. {
            let retry = match number {
                1 => None,
                _ => Some(self.retry_requests.acquire().await.expect("it is never closed")),
            };
            let request = self.requests.acquire().await.expect("it is never closed");
            if delivery.is_lost() {
                // It comes again.
                return;
            }
            if !is_wanted {
                // They are asked for once: the run may be deleted before the next try.
                match self.labels.has_all(&self.webhook.filter.labels, &event.run, &*self.logbook).await {
                    Ok(true) => is_wanted = true,
                    Ok(false) => return delivery.accept(),
                    Err(error) => debug!(%error, "the labels of a run cannot be read yet"),
                }
            }
            let is_in_crowd = place.is_none() && self.places.are_taken(namespace);
            let attempt = if is_in_crowd { Attempt::in_crowd(number) } else { Attempt::new(number) };
            tries.begin(self.acceptances.number());
            let verdict = if is_wanted { self.try_once(&outgoing, attempt).await } else { Verdict::Unavailable };
            drop((request, retry));
            let cause = if tries.is_about_event(verdict, self.acceptances.number()) {
                place = place.or_else(|| self.places.take(namespace));
                if place.is_some() { Cause::Event } else { Cause::EventWithoutPlace }
            } else {
                // Others need the place more: a server that is down costs no event.
                place = None;
                Cause::Server
            };
            let situation = Situation {
                is_old: age(&event) >= self.webhook.give_up_after,
                cause,
                is_held_too_long: pauses.is_held_too_long(),
            };
            let reason = match tries.after(verdict, situation) {
                Step::Delivered => return delivery.accept(),
                Step::GiveUp(reason) => reason,
                Step::TryAgain => {
                    pauses.wait().await;
                    continue;
                }
                Step::Requeue => return delivery.requeue(),
            };
            let name = &self.webhook.name;
            warn!(%name, id = outgoing.id, subject = outgoing.subject, reason, "an event is given up");
            self.journal.note_given_up();
            return delivery.accept();
        }
    }

    /// Tells the server of the webhook that events were lost; returns whether that is done, or given up. No report was accepted since a time.
    async fn report_dropped(&self, mut dropped: Vec<Delivery>, since: Instant, renewals: Renewals) -> bool {
        let name = &self.webhook.name;
        // Those that come again were counted before.
        let new = dropped.iter().filter(|delivery| !delivery.redelivered).count();
        if new > 0 {
            self.journal.note_dropped(new as u64);
            warn!(%name, number = new, "events were dropped: more than the queue of the webhook may have waited");
        }
        // Those of a lost connection come again.
        dropped.retain(|delivery| !delivery.is_lost());
        if dropped.is_empty() {
            return false;
        }
        let number = dropped.len();
        // The time makes it another event than the report before.
        let now = jiff::Timestamp::now();
        let message = format!(
            "{number} or more events were lost before {now:.6}, since too many waited: read the list of runs again (GET /v1/runs, or `waft list`)"
        );
        let line = serde_json::to_string(&RunsEvent::Lost(LostEvents { message })).expect("a text serializes");
        let outgoing = Outgoing::new("lost events".to_owned(), line);
        let (mut tries, mut pauses) = (Tries::default(), Pauses::new(FIRST_PAUSE, renewals));
        for number in 1.. {
            let request = self.requests.acquire().await.expect("it is never closed");
            tries.begin(self.acceptances.number());
            let verdict = self.try_once(&outgoing, Attempt::new(number)).await;
            drop(request);
            // There is one report at a time, so there is a place for it.
            let is_about_event = tries.is_about_event(verdict, self.acceptances.number());
            let situation = Situation {
                is_old: since.elapsed() >= self.webhook.give_up_after,
                cause: if is_about_event { Cause::Event } else { Cause::Server },
                is_held_too_long: pauses.is_held_too_long(),
            };
            match tries.after(verdict, situation) {
                Step::Delivered => {}
                Step::GiveUp(reason) => {
                    warn!(%name, reason, "the report of dropped events is given up");
                    self.journal.note_given_up();
                }
                Step::TryAgain => {
                    pauses.wait().await;
                    if dropped.iter().any(Delivery::is_lost) {
                        return false;
                    }
                    continue;
                }
                // They return to the queue, and are reported again with those that were dropped meanwhile.
                Step::Requeue => return false,
            }
            dropped.into_iter().for_each(Delivery::accept);
            return true;
        }
        false
    }

    /// Sends an event in which no author of a flow has written a text, unless the server accepts another one in the pause before.
    async fn probe(&self, pause: Duration) {
        let accepted_before = self.acceptances.number();
        sleep(pause).await;
        if self.acceptances.number() == accepted_before {
            // It waits for none of the other requests: they may be those that the server does not answer.
            self.try_once(&Outgoing::test(&self.webhook.name), Attempt::new(1)).await;
        }
    }

    /// Sends an event once, and notes it.
    async fn try_once(&self, event: &Outgoing, attempt: Attempt) -> Verdict {
        let tried = post(&self.gateway, &self.webhook, event, attempt).await;
        if let Some(failure) = &tried.failure {
            let (id, attempt) = (&event.id, tried.attempt);
            debug!(name = %self.webhook.name, id, attempt, failure, "an event was not delivered");
        }
        let verdict = Verdict::of(&tried);
        if verdict == Verdict::Accepted {
            self.acceptances.note();
        }
        self.journal.note(tried);
        verdict
    }
}

/// How old an event is. One without a time that can be read is old: else it would be sent for ever. One of an engine whose clock is ahead is new.
fn age(event: &RecentEvent) -> Duration {
    #[derive(Deserialize)]
    struct Line {
        at: String,
    }
    let at = serde_json::from_str(&event.line).ok().and_then(|Line { at }| at.parse::<jiff::Timestamp>().ok());
    let Some(at) = at else { return Duration::MAX };
    Duration::try_from(jiff::Timestamp::now().duration_since(at)).unwrap_or_default()
}

/// A dropped notification without the values in it: only that it was dropped matters.
fn without_body(mut delivery: Delivery) -> Delivery {
    delivery.message.body = Bytes::new();
    delivery
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
