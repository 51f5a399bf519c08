//! Takes jobs from the queues: fetches as many as the slots can process soon, and returns jobs that cannot start
//! soon.
//!
//! A job that was fetched but not started goes back to its engine, which sends it again. So its delivery does not count as
//! lost, and any worker can take it. The delivery itself is requeued only if the broker accepts no message for some seconds.
//! While the worker is drained, nothing is fetched.
//!
//! See [`Intake::run`] for the loop, and `slots.rs` for the number of jobs to fetch.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use broker::{Broker, ConsumeError, Consumer, DeclareError, Delivery, PublishError};
use flow::QueueName;
use futures::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use protocol::{Job, Report, topology};
use tokio::time::{Instant, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{
    WorkerError,
    call::JobHandler,
    drain::DrainWatch,
    signal_sender::SignalSender,
    slots::{Slot, Slots},
};

/// Delay before a deleted queue is declared again: more queues may be deleted meanwhile.
const REDECLARE_DELAY: Duration = Duration::from_secs(1);

/// Pause before a queue is tried again that this user of the broker may not declare, and that nobody else has declared yet.
const UNDECLARED_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Maximum time that a fetched job waits while no slot becomes free. Then it is returned, for workers with a free
/// slot.
const MAX_FETCHED_WAIT: Duration = Duration::from_millis(100);

/// Minimum time between opening the queues and reopening them with another prefetch count: reopening costs some round
/// trips.
const MIN_OPEN_TIME: Duration = Duration::from_millis(50);

/// Maximum time for returning jobs: an unreachable broker requeues the deliveries by itself.
const RETURN_TIMEOUT: Duration = Duration::from_secs(5);

/// The queues that a worker takes jobs from.
pub(crate) struct Intake {
    drain: DrainWatch,
    slots: Arc<Slots>,
    queues: Vec<JobQueue>,
    /// Queues that were deleted or did not respond: each is opened in the background, so that it does not delay the
    /// others.
    opening: FuturesUnordered<Opening>,
    /// Queues that are waited for and that the log has named.
    reported: BTreeSet<QueueName>,
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
    /// Declares the queues and starts to fetch from them. Unresponsive queues are opened once they respond, and queues that
    /// this user may not declare once another user has declared them.
    pub(crate) async fn open(
        broker: &Arc<dyn Broker>,
        names: &[QueueName],
        slots: u16,
        drain: DrainWatch,
    ) -> Result<Self, WorkerError> {
        let slots = Slots::new(slots);
        let shown = Arc::downgrade(&slots);
        metrics::global().add_slots(move || shown.upgrade().map(|slots| slots.counts()));
        let prefetch = slots.prefetch();
        let mut intake = Self {
            drain,
            slots,
            queues: Vec::new(),
            opening: FuturesUnordered::new(),
            reported: BTreeSet::new(),
            fetched: VecDeque::new(),
            prefetch,
            opened_at: Instant::now(),
        };
        let results = join_all(names.iter().map(|name| JobQueue::open(&**broker, name, prefetch))).await;
        for (name, result) in names.iter().zip(results) {
            match result {
                Ok(queue) => intake.queues.push(queue),
                Err(error) if is_timeout(&error) || is_undeclared(&error) => {
                    intake.open_later(broker, name.clone(), &error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(intake)
    }

    /// Takes jobs from all queues in rotation and calls the guest for each, until `stop` is cancelled. Fetched jobs are
    /// then returned. While the worker is drained, it takes none. If `abandon` is cancelled, the broker takes them back when the connection ends.
    pub(crate) async fn run(
        mut self,
        handler: Arc<JobHandler>,
        calls: TaskTracker,
        [stop, abandon, crash]: [CancellationToken; 3],
    ) {
        while !stop.is_cancelled() && (!self.queues.is_empty() || !self.opening.is_empty() || !self.fetched.is_empty())
        {
            if self.drain.is_drained() {
                self.pause(&handler, &stop).await;
                continue;
            }
            let Some((delivery, slot)) = self.next(&handler, &stop).await else { continue };
            let Some(slot) = slot.begin() else {
                // A call that had lent its slot has it again.
                self.fetched.push_front(delivery);
                continue;
            };
            let handler = handler.clone();
            let call = async move { handler.handle(delivery, slot).await };
            calls.spawn(crash.clone().run_until_cancelled_owned(call));
        }
        abandon.run_until_cancelled(self.return_fetched(&handler)).await;
    }

    /// Returns fetched jobs, and takes none until the worker takes jobs again, or stops.
    async fn pause(&mut self, handler: &JobHandler, stop: &CancellationToken) {
        self.return_fetched(handler).await;
        loop {
            // Each branch only waits: dropping it loses nothing.
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.drain.resumed() => return,
                // Its consumer would hold jobs that nobody starts.
                Some((name, result)) = self.opening.next() => {
                    self.on_opened(&handler.broker, name, result);
                    self.return_fetched(handler).await;
                }
            }
        }
    }

    /// Returns the next job and a slot for it; `None` to stop, or to check first whether the worker is drained, and the queues.
    async fn next(&mut self, handler: &JobHandler, stop: &CancellationToken) -> Option<(Delivery, Slot)> {
        let broker = &handler.broker;
        let slot = self.slot(handler, stop).await?;
        self.adjust(broker).await;
        if self.drain.is_drained() {
            // Meanwhile: the operator may have been told that no call is left.
            return None;
        }
        let is_underused = self.underuses_slots();
        self.fetched.retain(|delivery| !delivery.is_lost());
        if let Some(delivery) = self.fetched.pop_front() {
            return Some((delivery, slot));
        }
        // The queue that is polled first now is polled last the next time, so that no queue delays another.
        let count = self.queues.len().min(1);
        self.queues.rotate_left(count);
        // Each branch only waits: dropping it loses nothing.
        let (index, delivery) = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            () = self.drain.drained() => return None,
            Some((name, result)) = self.opening.next() => {
                self.on_opened(broker, name, result);
                return None;
            }
            fetched = fetch(&mut self.queues), if !self.queues.is_empty() => fetched,
            // The queues can then be reopened with a higher prefetch count.
            () = tokio::time::sleep_until(self.opened_at + MIN_OPEN_TIME), if is_underused => return None,
            else => return None,
        };
        match delivery {
            Some(delivery) => Some((delivery, slot)),
            None => {
                self.on_deleted(broker, index);
                None
            }
        }
    }

    /// Returns a free slot; `None` to stop, when the worker is drained or a queue was deleted, or when fetched jobs waited too long and were
    /// returned.
    async fn slot(&mut self, handler: &JobHandler, stop: &CancellationToken) -> Option<Slot> {
        let broker = &handler.broker;
        let mut waiting_since = Instant::now();
        loop {
            let has_fetched = !self.fetched.is_empty();
            // Each branch only waits: dropping it loses nothing.
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = self.drain.drained() => return None,
                slot = self.slots.acquire() => return Some(slot),
                () = tokio::time::sleep_until(waiting_since + MAX_FETCHED_WAIT), if has_fetched => {
                    debug!("no slot becomes free soon: fetched jobs are returned");
                    self.slots.on_stalled(MAX_FETCHED_WAIT);
                    self.return_fetched(handler).await;
                    return None;
                }
                Some((name, result)) = self.opening.next() => {
                    self.on_opened(broker, name, result);
                    return None;
                }
                (index, delivery) = fetch(&mut self.queues) => match delivery {
                    Some(delivery) => {
                        if !has_fetched {
                            waiting_since = Instant::now();
                        }
                        self.fetched.push_back(delivery);
                    }
                    None => {
                        self.on_deleted(broker, index);
                        return None;
                    }
                },
            }
        }
    }

    fn on_deleted(&mut self, broker: &Arc<dyn Broker>, index: usize) {
        let JobQueue { name, .. } = self.queues.remove(index);
        warn!(queue = %name, "a job queue was deleted: it is declared again");
        self.opening.push(open_after(REDECLARE_DELAY, broker.clone(), name, self.prefetch));
    }

    /// Opens a queue in the background that cannot be opened now.
    fn open_later(&mut self, broker: &Arc<dyn Broker>, name: QueueName, error: &WorkerError) {
        let delay = if is_undeclared(error) { UNDECLARED_RETRY_DELAY } else { REDECLARE_DELAY };
        if is_undeclared(error) && self.reported.insert(name.clone()) {
            warn!(
                queue = %name,
                "there is no such job queue, and this user of the broker may not declare it: an engine declares it with the first \
                 job, and `waft broker setup --queues {name}` does so now"
            );
        } else if !is_undeclared(error) {
            let error: &dyn std::error::Error = error;
            warn!(queue = %name, error, "a job queue cannot be opened yet: the worker takes jobs from the other queues meanwhile");
        }
        self.opening.push(open_after(delay, broker.clone(), name, self.prefetch));
    }

    /// Starts to take jobs from a queue, if it could be opened.
    fn on_opened(&mut self, broker: &Arc<dyn Broker>, name: QueueName, result: Result<JobQueue, WorkerError>) {
        match result {
            Ok(queue) => {
                self.reported.remove(&queue.name);
                self.queues.push(queue);
            }
            // The worker's own connection is closed, so it receives no more jobs.
            Err(WorkerError::Declare(DeclareError::Closed) | WorkerError::Consume(ConsumeError::Closed)) => {}
            Err(error) => self.open_later(broker, name, &error),
        }
    }

    /// Whether the prefetch count may leave free slots without jobs.
    fn underuses_slots(&self) -> bool {
        self.prefetch < self.slots.min_prefetch()
    }

    /// Reopens the queues if their prefetch count is too low or too high.
    async fn adjust(&mut self, broker: &Arc<dyn Broker>) {
        // A queue that was opened in the background may have another prefetch count.
        let needs_opening = |queue: &JobQueue| queue.consumer.is_none() || queue.prefetch != self.prefetch;
        let prefetch = self.slots.prefetch();
        let is_unsuitable =
            self.underuses_slots() || prefetch >= self.prefetch.saturating_mul(2) || prefetch <= self.prefetch / 2;
        if !self.queues.iter().any(needs_opening) && (!is_unsuitable || self.opened_at.elapsed() < MIN_OPEN_TIME) {
            return;
        }
        self.close().await;
        self.slots.opened();
        self.prefetch = self.slots.prefetch();
        self.opened_at = Instant::now();
        for JobQueue { name, .. } in std::mem::take(&mut self.queues) {
            self.opening.push(reopen(broker.clone(), name, self.prefetch));
        }
    }

    /// Closes the consumers, and keeps the jobs that they have fetched.
    async fn close(&mut self) {
        let consumers = self.queues.iter_mut().filter_map(|queue| queue.consumer.take());
        let drains = consumers.map(|consumer| timeout(RETURN_TIMEOUT, consumer.drain()));
        // If the broker does not confirm the end of a consumer, its deliveries are dropped, and so requeued.
        let drained = join_all(drains).await.into_iter().flatten();
        self.fetched.extend(drained.flatten());
    }

    /// Closes the consumers, and returns fetched jobs to their engines that were not started: a requeued delivery would count
    /// as a possible execution.
    async fn return_fetched(&mut self, handler: &JobHandler) {
        self.close().await;
        let fetched = self.fetched.drain(..).filter(|delivery| !delivery.is_lost());
        let returns = fetched.map(|delivery| handler.return_fetched(delivery));
        // A job that is not returned in time is dropped, and so requeued.
        let _ = timeout(RETURN_TIMEOUT, join_all(returns)).await;
    }
}

/// Whether the error is a timeout of the broker for one queue.
fn is_timeout(error: &WorkerError) -> bool {
    matches!(
        error,
        WorkerError::Declare(DeclareError::TimedOut { .. }) | WorkerError::Consume(ConsumeError::Silent { .. })
    )
}

/// Whether the error is a missing queue that this user of the broker may not declare.
fn is_undeclared(error: &WorkerError) -> bool {
    matches!(error, WorkerError::Declare(DeclareError::AccessRefused { .. }))
}

/// Consumes a queue that was open before with another prefetch count. Normally it is still there.
fn reopen(broker: Arc<dyn Broker>, name: QueueName, prefetch: u16) -> Opening {
    Box::pin(async move {
        let result = match JobQueue::consume(&*broker, &name, prefetch).await {
            Err(WorkerError::Consume(ConsumeError::NoQueue { .. })) => JobQueue::open(&*broker, &name, prefetch).await,
            result => result,
        };
        (name, result)
    })
}

fn open_after(delay: Duration, broker: Arc<dyn Broker>, name: QueueName, prefetch: u16) -> Opening {
    Box::pin(async move {
        tokio::time::sleep(delay).await;
        let result = JobQueue::open(&*broker, &name, prefetch).await;
        (name, result)
    })
}

impl JobQueue {
    async fn open(broker: &dyn Broker, name: &QueueName, prefetch: u16) -> Result<Self, WorkerError> {
        broker::topology::ensure_jobs(broker, name).await?;
        Self::consume(broker, name, prefetch).await
    }

    async fn consume(broker: &dyn Broker, name: &QueueName, prefetch: u16) -> Result<Self, WorkerError> {
        let consumer = broker.consume(&topology::job_queue(name), prefetch).await?;
        Ok(Self { name: name.clone(), consumer: Some(consumer), prefetch })
    }
}

/// Returns the next delivery of any open queue, and the index of the queue; `None` as the delivery if the queue was
/// deleted.
async fn fetch(queues: &mut [JobQueue]) -> (usize, Option<Delivery>) {
    let deliveries = queues.iter_mut().enumerate().filter_map(|(index, queue)| {
        let consumer = queue.consumer.as_mut()?;
        Some(async move { (index, consumer.next().await) })
    });
    match deliveries.collect::<FuturesUnordered<_>>().next().await {
        Some(fetched) => fetched,
        None => std::future::pending().await,
    }
}

/// Returns a job that was not started to its engine, which sends it again as a new message: a worker may not send jobs itself.
/// If the worker dies in between, both copies may exist, as after any lost acknowledgement.
pub(crate) async fn return_unstarted(signals: &SignalSender, job: &Job, delivery: Delivery, unanswered: u32) {
    let Delivery { message, redelivered, returned, .. } = &delivery;
    let earlier = protocol::returned(&message.properties.headers);
    // A redelivered job may have been executed, even if the queue counts no deliveries.
    let redeliveries = earlier.saturating_add((*returned).max(u32::from(*redelivered)));
    let sending = protocol::sending(&message.properties.headers);
    let report = Report::NotStarted { call: job.call.clone(), redeliveries, unanswered, sending };
    match signals.send(job.call.clone(), job.signal_to.clone(), report.encode(&job.keys).into()).await {
        Ok(()) => delivery.accept(),
        Err(ref error @ PublishError::Unroutable { ref key, .. }) if !signals.has_queue(key).await => {
            warn!(%error, "no engine waits for this job any more: its queue was deleted");
            delivery.accept();
        }
        Err(error @ PublishError::TooLarge { .. }) => {
            warn!(%error, "a job can never be returned to its engine; it is kept in waft.quarantine");
            delivery.dead_letter();
        }
        Err(error) => {
            debug!(%error, "a job could not be returned to its engine; its delivery is requeued");
            delivery.requeue();
        }
    }
}

#[cfg(test)]
mod tests;
