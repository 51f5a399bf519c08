//! Jobs come in: as many are fetched as the slots work off soon, and what cannot be started soon goes back.
//!
//! A job that was fetched and not started is nobody's: it is published again, so that its delivery does not count as lost, and
//! any worker can take it. Only where the broker takes nothing for some seconds, the delivery itself goes back. See [`Intake::run`] for the loop, `slots.rs` for how many jobs are fetched.

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

/// How long to wait before a queue that was deleted is declared again: whoever deletes it may delete more.
const REDECLARE_DELAY: Duration = Duration::from_secs(1);

/// How long a fetched job may wait while no slot becomes free. Then it goes back, for workers that have one.
const MAX_FETCHED_WAIT: Duration = Duration::from_millis(100);

/// How long the queues stay open at least before they are opened anew for more or fewer jobs: that costs some round trips.
const MIN_OPEN_TIME: Duration = Duration::from_millis(50);

/// How long giving back may take: a broker that is away takes back by itself what it delivered.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(5);

/// The queues that jobs are taken from.
pub(crate) struct Intake {
    slots: Arc<Slots>,
    queues: Vec<JobQueue>,
    /// Queues that somebody deleted, or of which the broker said nothing: each is opened beside all else, so that it keeps no
    /// other waiting.
    opening: FuturesUnordered<Opening>,
    /// Jobs that were fetched over consumers that are closed now.
    fetched: VecDeque<Delivery>,
    /// What the queues were opened with last, and when.
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
    /// How many deliveries may be out over it.
    prefetch: u16,
}

impl Intake {
    /// Declares the queues and begins to fetch from them. Those of which the broker says nothing are opened when it does.
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

    /// Takes jobs from all queues in turn and has each called, until told to stop. What was fetched by then goes back, unless
    /// `abandon` is cancelled: then the broker takes it back when the connection ends.
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

    /// The next job, and a slot for it; `None` when it is to stop, or the queues have to be looked after first.
    async fn next(&mut self, broker: &Arc<dyn Broker>, stop: &CancellationToken) -> Option<(Delivery, Slot)> {
        let slot = self.slot(broker, stop).await?;
        self.adjust(broker).await;
        let leaves_slots_idle = self.underuses_slots();
        self.fetched.retain(|delivery| !delivery.is_lost());
        if let Some(delivery) = self.fetched.pop_front() {
            return Some((delivery, slot));
        }
        // What was asked first is asked last the next time, so that no queue keeps another waiting.
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
            // More can be asked for then.
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

    /// A free slot; `None` when it is to stop, a queue was deleted, or what was fetched has waited too long for one and went back.
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

    /// Opens a queue beside all else that cannot be opened now.
    fn open_later(&mut self, broker: &Arc<dyn Broker>, name: QueueName, error: &WorkerError) {
        let error: &dyn std::error::Error = error;
        warn!(queue = %name, error, "a queue of jobs cannot be opened yet: the others are taken from meanwhile");
        self.opening.push(open_after(REDECLARE_DELAY, broker.clone(), name, self.prefetch));
    }

    /// Takes from a queue from now on, if it could be opened.
    fn on_opened(&mut self, broker: &Arc<dyn Broker>, name: QueueName, opened: Result<JobQueue, WorkerError>) {
        match opened {
            Ok(queue) => self.queues.push(queue),
            // The worker's own connection is closed: it takes nothing any more.
            Err(WorkerError::Declare(DeclareError::Closed) | WorkerError::Consume(ConsumeError::Closed)) => {}
            Err(error) => self.open_later(broker, name, &error),
        }
    }

    /// Whether the broker may give fewer jobs than there are free slots.
    fn underuses_slots(&self) -> bool {
        self.slots.prefetch() > self.prefetch && self.prefetch < self.slots.count()
    }

    /// Opens the queues anew where their consumers let too few or too many jobs be at hand.
    async fn adjust(&mut self, broker: &Arc<dyn Broker>) {
        // One that was opened beside the others may have been asked for another number.
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

    /// Closes the consumers, and keeps what they have fetched.
    async fn close(&mut self) {
        let consumers = self.queues.iter_mut().filter_map(|queue| queue.consumer.take());
        let closing = consumers.map(|consumer| timeout(GIVE_BACK_TIMEOUT, consumer.drain()));
        // Of which the broker does not say that nothing more comes, what came is dropped, and so goes back.
        let drained = join_all(closing).await.into_iter().flatten();
        self.fetched.extend(drained.flatten());
    }

    /// Closes the consumers, and publishes again what was fetched and not started: a delivery that goes back to its queue
    /// would count as one that may have been executed.
    async fn give_back(&mut self, broker: &dyn Broker) {
        self.close().await;
        let fetched = self.fetched.drain(..).filter(|delivery| !delivery.is_lost());
        let publishing = fetched.map(|delivery| republish(broker, delivery));
        // What is not published in time is dropped, and so goes back as it is.
        let _ = timeout(GIVE_BACK_TIMEOUT, join_all(publishing)).await;
    }
}

/// Whether the broker says nothing of a queue.
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

/// The next delivery of any queue that is open, and which queue: without one when somebody deleted the queue.
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

/// Publishes a job that nobody started again, as a new message. Both may be there if the worker dies in between, as after
/// any lost acknowledgement.
async fn republish(broker: &dyn Broker, delivery: Delivery) {
    let Delivery { message, redelivered, returned, .. } = &delivery;
    let before = protocol::returned(&message.properties.headers);
    // A delivery that was out before may have been executed, even where the queue does not count.
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
