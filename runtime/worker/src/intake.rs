//! Takes jobs from the queues: fetches as many as the slots can work off soon, and returns jobs that cannot start
//! soon.
//!
//! A job that was fetched but not started is published again. So its delivery does not count as lost, and any worker
//! can take it. Only if the broker takes no message for some seconds, the delivery itself is requeued. See
//! [`Intake::run`] for the loop, and `slots.rs` for the number of jobs to fetch.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use broker::{Broker, ConsumeError, Consumer, DeclareError, Delivery, Message, Routing};
use flow::QueueName;
use futures::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use protocol::topology;
use tokio::time::{Instant, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{
    WorkerError,
    call::JobHandler,
    slots::{Slot, Slots},
};

/// Pause before a deleted queue is declared again: more queues may be deleted meanwhile.
const REDECLARE_DELAY: Duration = Duration::from_secs(1);

/// Maximum time that a fetched job waits while no slot becomes free. Then it is returned, for workers with a free
/// slot.
const MAX_FETCHED_WAIT: Duration = Duration::from_millis(100);

/// Minimum time between opening the queues and reopening them with another prefetch count: reopening costs some round
/// trips.
const MIN_OPEN_TIME: Duration = Duration::from_millis(50);

/// Maximum time for returning jobs: a broker that is away takes back its deliveries by itself.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(5);

/// The queues that a worker takes jobs from.
pub(crate) struct Intake {
    slots: Arc<Slots>,
    queues: Vec<JobQueue>,
    /// Queues that were deleted or did not respond: each is opened in the background, so that it does not delay the
    /// others.
    opening: FuturesUnordered<Opening>,
    /// Jobs that were fetched by consumers that are closed now.
    fetched: VecDeque<Delivery>,
    /// The prefetch count with which the queues were last opened, and when.
    prefetch: u16,
    opened_at: Instant,
}

/// A queue that is being opened.
type Opening = BoxFuture<'static, (QueueName, Result<JobQueue, WorkerError>)>;

/// A queue of jobs.
struct JobQueue {
    name: QueueName,
    /// `None` while no slot is free and calls are long.
    consumer: Option<Consumer>,
    /// Maximum number of unsettled deliveries of the queue.
    prefetch: u16,
}

impl Intake {
    /// Declares the queues and begins to fetch from them. Unresponsive queues are opened once they respond.
    pub(crate) async fn open(broker: &Arc<dyn Broker>, names: &[QueueName], slots: u16) -> Result<Self, WorkerError> {
        let slots = Slots::new(slots);
        let prefetch = slots.prefetch();
        let (queues, opening, fetched) = (Vec::new(), FuturesUnordered::new(), VecDeque::new());
        let mut intake = Self { slots, queues, opening, fetched, prefetch, opened_at: Instant::now() };
        let opened = join_all(names.iter().map(|name| JobQueue::open(&**broker, name, prefetch))).await;
        for (name, opened) in names.iter().zip(opened) {
            match opened {
                Ok(queue) => intake.queues.push(queue),
                Err(error) if is_timeout(&error) => intake.open_later(broker, name.clone(), &error),
                Err(error) => return Err(error),
            }
        }
        Ok(intake)
    }

    /// Takes jobs from all queues in turn and calls the guest for each, until `stop` is cancelled. Fetched jobs are
    /// then returned. If `abandon` is cancelled, the broker takes them back when the connection ends.
    pub(crate) async fn run(
        mut self,
        caller: Arc<JobHandler>,
        calls: TaskTracker,
        [stop, abandon, crash]: [CancellationToken; 3],
    ) {
        let broker = caller.broker.clone();
        while !stop.is_cancelled() && (!self.queues.is_empty() || !self.opening.is_empty() || !self.fetched.is_empty())
        {
            let Some((delivery, mut slot)) = self.next(&broker, &stop).await else { continue };
            slot.begin();
            let caller = caller.clone();
            let answering = async move { caller.handle(delivery, slot).await };
            calls.spawn(crash.clone().run_until_cancelled_owned(answering));
        }
        abandon.run_until_cancelled(self.give_back(&*broker)).await;
    }

    /// Returns the next job and a slot for it; `None` to stop, or to check the queues first.
    async fn next(&mut self, broker: &Arc<dyn Broker>, stop: &CancellationToken) -> Option<(Delivery, Slot)> {
        let slot = self.slot(broker, stop).await?;
        self.adjust(broker).await;
        let leaves_slots_idle = self.underuses_slots();
        self.fetched.retain(|delivery| !delivery.is_lost());
        if let Some(delivery) = self.fetched.pop_front() {
            return Some((delivery, slot));
        }
        // The queue that is polled first now is polled last the next time, so that no queue delays another.
        let turn = self.queues.len().min(1);
        self.queues.rotate_left(turn);
        // Each arm only waits: dropping it loses nothing.
        let (place, delivery) = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            Some((name, opened)) = self.opening.next() => {
                self.on_opened(broker, name, opened);
                return None;
            }
            fetched = fetch(&mut self.queues), if !self.queues.is_empty() => fetched,
            // The queues can then be reopened with a higher prefetch count.
            () = tokio::time::sleep_until(self.opened_at + MIN_OPEN_TIME), if leaves_slots_idle => return None,
            else => return None,
        };
        match delivery {
            Some(delivery) => Some((delivery, slot)),
            None => {
                self.note_deleted(broker, place);
                None
            }
        }
    }

    /// Returns a free slot; `None` to stop, when a queue was deleted, or when fetched jobs waited too long and were
    /// returned.
    async fn slot(&mut self, broker: &Arc<dyn Broker>, stop: &CancellationToken) -> Option<Slot> {
        let mut waits_since = Instant::now();
        loop {
            let has_fetched = !self.fetched.is_empty();
            // Each arm only waits: dropping it loses nothing.
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                slot = self.slots.acquire() => return Some(slot),
                () = tokio::time::sleep_until(waits_since + MAX_FETCHED_WAIT), if has_fetched => {
                    debug!("no slot becomes free soon: what was fetched goes back");
                    self.slots.on_stalled(MAX_FETCHED_WAIT);
                    self.give_back(&**broker).await;
                    return None;
                }
                Some((name, opened)) = self.opening.next() => {
                    self.on_opened(broker, name, opened);
                    return None;
                }
                (place, delivery) = fetch(&mut self.queues) => match delivery {
                    Some(delivery) => {
                        if !has_fetched {
                            waits_since = Instant::now();
                        }
                        self.fetched.push_back(delivery);
                    }
                    None => {
                        self.note_deleted(broker, place);
                        return None;
                    }
                },
            }
        }
    }

    fn note_deleted(&mut self, broker: &Arc<dyn Broker>, place: usize) {
        let JobQueue { name, .. } = self.queues.remove(place);
        warn!(queue = %name, "somebody deleted a queue of jobs: it is declared again");
        self.opening.push(open_after(REDECLARE_DELAY, broker.clone(), name, self.prefetch));
    }

    /// Opens a queue in the background that cannot be opened now.
    fn open_later(&mut self, broker: &Arc<dyn Broker>, name: QueueName, error: &WorkerError) {
        let error: &dyn std::error::Error = error;
        warn!(queue = %name, error, "a queue of jobs cannot be opened yet: the others are taken from meanwhile");
        self.opening.push(open_after(REDECLARE_DELAY, broker.clone(), name, self.prefetch));
    }

    /// Takes jobs from a queue from now on, if it could be opened.
    fn on_opened(&mut self, broker: &Arc<dyn Broker>, name: QueueName, opened: Result<JobQueue, WorkerError>) {
        match opened {
            Ok(queue) => self.queues.push(queue),
            // The worker's own connection is closed: it takes no more jobs.
            Err(WorkerError::Declare(DeclareError::Closed) | WorkerError::Consume(ConsumeError::Closed)) => {}
            Err(error) => self.open_later(broker, name, &error),
        }
    }

    /// Whether the prefetch count may leave free slots without jobs.
    fn underuses_slots(&self) -> bool {
        self.slots.prefetch() > self.prefetch && self.prefetch < self.slots.count()
    }

    /// Reopens the queues if their prefetch count is too low or too high.
    async fn adjust(&mut self, broker: &Arc<dyn Broker>) {
        // A queue that was opened in the background may have another prefetch count.
        let is_other = |queue: &JobQueue| queue.consumer.is_none() || queue.prefetch != self.prefetch;
        let wanted = self.slots.prefetch();
        let differs =
            self.underuses_slots() || wanted >= self.prefetch.saturating_mul(2) || wanted <= self.prefetch / 2;
        if !self.queues.iter().any(is_other) && (!differs || self.opened_at.elapsed() < MIN_OPEN_TIME) {
            return;
        }
        self.close().await;
        self.slots.opened();
        self.prefetch = self.slots.prefetch();
        self.opened_at = Instant::now();
        for JobQueue { name, .. } in std::mem::take(&mut self.queues) {
            self.opening.push(open_after(Duration::ZERO, broker.clone(), name, self.prefetch));
        }
    }

    /// Closes the consumers, and keeps the jobs that they have fetched.
    async fn close(&mut self) {
        let consumers = self.queues.iter_mut().filter_map(|queue| queue.consumer.take());
        let closing = consumers.map(|consumer| timeout(GIVE_BACK_TIMEOUT, consumer.drain()));
        // If the broker does not confirm the end of a consumer, its deliveries are dropped, and so requeued.
        let drained = join_all(closing).await.into_iter().flatten();
        self.fetched.extend(drained.flatten());
    }

    /// Closes the consumers, and publishes fetched jobs again that were not started: a requeued delivery would count
    /// as a possible execution.
    async fn give_back(&mut self, broker: &dyn Broker) {
        self.close().await;
        let fetched = self.fetched.drain(..).filter(|delivery| !delivery.is_lost());
        let publishing = fetched.map(|delivery| republish(broker, delivery));
        // A job that is not published in time is dropped, and so requeued.
        let _ = timeout(GIVE_BACK_TIMEOUT, join_all(publishing)).await;
    }
}

/// Whether the error is a timeout of the broker for one queue.
fn is_timeout(error: &WorkerError) -> bool {
    matches!(
        error,
        WorkerError::Declare(DeclareError::TimedOut { .. }) | WorkerError::Consume(ConsumeError::Silent { .. })
    )
}

fn open_after(pause: Duration, broker: Arc<dyn Broker>, name: QueueName, prefetch: u16) -> Opening {
    Box::pin(async move {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let opened = JobQueue::open(&*broker, &name, prefetch).await;
        (name, opened)
    })
}

impl JobQueue {
    async fn open(broker: &dyn Broker, name: &QueueName, prefetch: u16) -> Result<Self, WorkerError> {
        broker::topology::declare_jobs(broker, name).await?;
        let consumer = broker.consume(&topology::job_queue(name), prefetch).await?;
        Ok(Self { name: name.clone(), consumer: Some(consumer), prefetch })
    }
}

/// Returns the next delivery of any open queue, and the index of the queue; `None` as the delivery if the queue was
/// deleted.
async fn fetch(queues: &mut [JobQueue]) -> (usize, Option<Delivery>) {
    let waiting = queues.iter_mut().enumerate().filter_map(|(place, queue)| {
        let consumer = queue.consumer.as_mut()?;
        Some(async move { (place, consumer.next().await) })
    });
    match waiting.collect::<FuturesUnordered<_>>().next().await {
        Some(fetched) => fetched,
        None => std::future::pending().await,
    }
}

/// Publishes a job that was not started again, as a new message. If the worker dies in between, both copies may
/// exist, as after any lost acknowledgement.
async fn republish(broker: &dyn Broker, delivery: Delivery) {
    let Delivery { message, redelivered, returned, .. } = &delivery;
    let before = protocol::returned(&message.properties.headers);
    // A redelivered job may have been executed, even if the queue counts no deliveries.
    let times = before.saturating_add((*returned).max(u32::from(*redelivered)));
    let mut message = Message { routing: Routing::Mandatory, ..message.clone() };
    protocol::set_returned(&mut message.properties.headers, times);
    match broker.publish(message).await {
        Ok(()) => delivery.accept(),
        Err(error) => {
            debug!(%error, "a job could not be published again; its delivery goes back");
            delivery.requeue();
        }
    }
}

#[cfg(test)]
mod tests;
