//! The permit queues that this engine consumes, each with its [`PermitCoordinator`].
//!
//! An engine subscribes to a task's permit queue when it requests permits there, and until it has requested none for a minute
//! and the coordinator has no state that must outlive it. So the channels of the connection are enough for the tasks in
//! use. One subscriber at a time is the active coordinator. A task without a rate or concurrency limit has no such queue.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use broker::{
    Broker, Consumer, DeclareError, Delivery, Message, PublishError, Queue, QueueKind, Refusals, quarantine,
    topology::{bindings_by_name, keep_bound},
};
use flow::{FlowName, NodeName};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use protocol::{DecodeError, EngineSecret, OpenError, PermitMessage, topology as names};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::{
    Clock,
    clock::TICK,
    messages, origin,
    permits::coordinator::{CoordinatorAction, DeliveryDisposition, PermitCoordinator},
    supervisor::Supervisor,
};

/// How long the queue exists without consumers: calls that hold a permit may still run.
const PERMIT_QUEUE_EXPIRY: Duration = Duration::from_secs(24 * 3_600);

/// Maximum number of deliveries of a snapshot: one for each change of coordinators, until the next one writes it
/// anew.
const DELIVERY_LIMIT: u32 = 1_000;

/// Maximum number of unsettled messages: requests come once a second from each engine, and with each change.
const PREFETCH: u16 = 256;

/// Maximum number of messages that stay unsettled besides snapshots. The others are needed for what follows: with all
/// of them unsettled, the broker would deliver nothing.
const MAX_HELD: usize = PREFETCH as usize / 2;

/// The exchanges through which messages reach the queue: from engines, and from the quarantine.
const EXCHANGES: [&str; 2] = [names::ENGINES, names::RELEASED];

/// How long this engine requests no permit for a task before its coordinator ends: requests that are due are repeated each
/// second. A second run of the same flow mostly needs no new consumer.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The coordinators that start after one another send ticks with other numbers: a coordinator never takes the tick of an
/// earlier one of this engine for its own.
const NUMBERS_PER_COORDINATOR: u64 = 1 << 32;

/// Pause before a failed operation is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Pause after a snapshot that is too large: calls have to end before a smaller one can be written.
const TOO_LARGE_DELAY: Duration = Duration::from_secs(10);

/// Runs permit coordinators on this engine. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PermitService {
    pub(crate) engine: String,
    pub(crate) secret: EngineSecret,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) supervisor: Supervisor,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) stop: CancellationToken,
    pub(crate) coordinators: Arc<Mutex<Coordinators>>,
}

/// The coordinators that run on this engine.
#[derive(Default)]
pub(crate) struct Coordinators {
    /// When this engine requested permits for each task last.
    requested: BTreeMap<FlowName, BTreeMap<NodeName, Instant>>,
    /// The number of coordinators so far.
    started: u64,
}

impl PermitService {
    /// Declares the permit queue of a task. Its coordinator starts here with the first request of this engine.
    pub(crate) async fn coordinate(&self, flow: &FlowName, task: &NodeName) -> Result<(), DeclareError> {
        declare(&*self.broker, &names::permit_queue(&self.secret, flow, task)).await
    }

    /// Notes that this engine requests permits for a task, and starts the coordinator of the task unless it runs here.
    pub(crate) fn on_request(&self, flow: &FlowName, task: &NodeName) {
        let first_number = {
            let mut coordinators = self.lock();
            let now = Instant::now();
            if let Some(requested) = coordinators.requested.get_mut(flow).and_then(|tasks| tasks.get_mut(task)) {
                *requested = now;
                return;
            }
            coordinators.requested.entry(flow.clone()).or_default().insert(task.clone(), now);
            coordinators.started += 1;
            coordinators.started * NUMBERS_PER_COORDINATOR
        };
        let runner = CoordinatorRunner {
            service: self.clone(),
            queue: names::permit_queue(&self.secret, flow, task),
            flow: flow.clone(),
            task: task.clone(),
            held: Vec::new(),
            held_at_snapshot: 0,
            publishing: FuturesUnordered::new(),
        };
        let (stop, broker) = (self.stop.clone(), self.broker.clone());
        self.supervisor.spawn_temporary("permits", async move {
            let bindings = bindings_by_name(&runner.queue, &EXCHANGES);
            stop.run_until_cancelled(keep_bound(&*broker, &bindings, runner.run(first_number))).await;
        });
    }

    /// Removes the coordinator of a task if this engine has requested no permit there for long. Returns whether it did: then the
    /// next request starts another coordinator.
    fn remove_idle(&self, flow: &FlowName, task: &NodeName) -> bool {
        let mut coordinators = self.lock();
        let Some(tasks) = coordinators.requested.get_mut(flow) else { return true };
        if tasks.get(task).is_some_and(|requested| requested.elapsed() < IDLE_TIMEOUT) {
            return false;
        }
        tasks.remove(task);
        if tasks.is_empty() {
            coordinators.requested.remove(flow);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Coordinators> {
        // Each change is complete before a panic could happen.
        self.coordinators.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn declare(broker: &dyn Broker, queue: &str) -> Result<(), DeclareError> {
    let kind = QueueKind::Quorum {
        delivery_limit: Some(DELIVERY_LIMIT),
        dead_letter_to: None,
        single_active_consumer: true,
        expires: Some(PERMIT_QUEUE_EXPIRY),
    };
    let queue = Queue { name: queue.to_owned(), kind };
    broker::topology::declare_bound(broker, &queue, &EXCHANGES).await
}

/// Why a coordinator stops.
enum CoordinatorEnd {
    /// This engine needs it no more.
    Idle,
    /// The queue was deleted, or the broker was closed.
    ConsumerGone,
}

/// The permit coordinator of one task on this engine, with its deliveries.
struct CoordinatorRunner {
    service: PermitService,
    queue: String,
    flow: FlowName,
    task: NodeName,
    /// Deliveries of snapshots, and of requests that returned permits since: unsettled, so that the next coordinator receives
    /// them, in this order.
    held: Vec<Delivery>,
    /// The number of held deliveries that the last snapshot replaces once it comes back.
    held_at_snapshot: usize,
    /// The messages that are being published. Each ends with the number of its snapshot if no broker takes it.
    publishing: FuturesUnordered<BoxFuture<'static, Option<u64>>>,
}

impl CoordinatorRunner {
    /// Coordinates the permits until this engine needs none, or the broker closes.
    async fn run(mut self, first_number: u64) {
        let queue = self.queue.clone();
        let (engine, flow, task) = (self.service.engine.clone(), self.flow.clone(), self.task.clone());
        let mut coordinator = PermitCoordinator::new(engine, flow, task, first_number);
        loop {
            match self.service.broker.consume(&queue, PREFETCH).await {
                Ok(consumer) => match self.run_coordinator(&mut coordinator, consumer).await {
                    CoordinatorEnd::Idle => return debug!(queue, "no run here needs permits of this task"),
                    CoordinatorEnd::ConsumerGone => {}
                },
                Err(broker::ConsumeError::Closed) => return,
                // The queue expires while no engine needs it.
                Err(error @ broker::ConsumeError::NoQueue { .. }) => {
                    debug!(queue, %error, "the queue is declared again")
                }
                Err(error) => warn!(queue, %error, "the permit queue cannot be consumed yet"),
            }
            self.held.clear();
            self.held_at_snapshot = 0;
            coordinator.restart();
            if self.ends(&coordinator) {
                return;
            }
            sleep(RETRY_DELAY).await;
            match declare(&*self.service.broker, &queue).await {
                Ok(()) => {}
                Err(DeclareError::Closed) => return,
                Err(error) => warn!(queue, %error, "the queue of a task's permits could not be declared"),
            }
        }
    }

    /// Whether the coordinator ends now: this engine requests no permits, and no state has to outlive the coordinator.
    fn ends(&self, coordinator: &PermitCoordinator) -> bool {
        let is_needed = !self.publishing.is_empty() || !coordinator.may_end(self.service.clock.now());
        !is_needed && self.service.remove_idle(&self.flow, &self.task)
    }

    /// Runs the coordinator until it is not needed, or the queue is deleted, or the broker closes.
    async fn run_coordinator(&mut self, coordinator: &mut PermitCoordinator, mut consumer: Consumer) -> CoordinatorEnd {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut due = None;
        loop {
            let now = self.service.clock.now();
            let until_due = due.map(|at: flow::Timestamp| at.since(now));
            // Every arm only receives or waits: dropping it loses nothing.
            tokio::select! {
                biased;
                delivery = consumer.next() => match delivery {
                    Some(delivery) => self.on_delivery(coordinator, delivery),
                    None => return CoordinatorEnd::ConsumerGone,
                },
                Some(refused) = self.publishing.next() => match refused {
                    Some(snapshot) => coordinator.on_snapshot_refused(snapshot),
                    None => continue,
                },
                _ = ticks.tick() => {
                    // A fetched message may be a request.
                    if !consumer.has_fetched() && self.ends(coordinator) {
                        return CoordinatorEnd::Idle;
                    }
                    coordinator.tick();
                }
                () = sleep(until_due.unwrap_or_default()), if until_due.is_some() => {}
            }
            let now = self.service.clock.now();
            due = coordinator.poll_grants(now);
            if coordinator.is_empty(now) {
                self.held.drain(..).for_each(Delivery::accept);
                self.held_at_snapshot = 0;
            }
            for action in coordinator.take_actions() {
                let action = self.perform(action);
                self.publishing.push(action);
            }
        }
    }

    fn on_delivery(&mut self, coordinator: &mut PermitCoordinator, delivery: Delivery) {
        if !origin::is_of_engine(&delivery.message.exchange) {
            self.service.refusals.log(&self.queue, origin::WRONG_EXCHANGE);
            return delivery.accept();
        }
        let message = match PermitMessage::open(&delivery.message.body, &self.service.secret) {
            Ok(message) => message,
            Err(OpenError::Unreadable(error)) => return self.on_unreadable(coordinator, delivery, &error),
            Err(error @ OpenError::Forged) => {
                self.service.refusals.log(&self.queue, &error.to_string());
                return delivery.accept();
            }
        };
        match coordinator.on_message(delivery.redelivered, message) {
            DeliveryDisposition::Accept => delivery.accept(),
            DeliveryDisposition::HoldIfRoom if self.held.len() >= MAX_HELD => delivery.accept(),
            DeliveryDisposition::Hold | DeliveryDisposition::HoldIfRoom => self.held.push(delivery),
            DeliveryDisposition::Replace => {
                self.held.drain(..self.held_at_snapshot).for_each(Delivery::accept);
                self.held_at_snapshot = 0;
                self.held.push(delivery);
            }
        }
    }

    /// Moves an unreadable message to the quarantine, unless it is repeated anyway. It may have been a snapshot, so
    /// the coordinator restarts, and asks all engines before it grants permits.
    fn on_unreadable(&mut self, coordinator: &mut PermitCoordinator, delivery: Delivery, error: &DecodeError) {
        let queue = self.queue.clone();
        if !error.is_loss(delivery.message.persistent) {
            warn!(queue, %error, "a message about permits that is sent again cannot be read; it is dropped");
            return delivery.accept();
        }
        warn!(queue, %error, "a message about permits cannot be read; it is kept in waft.quarantine");
        coordinator.restart();
        let (broker, reason) =
            (self.service.broker.clone(), format!("the engine could not read a permit message: {error}"));
        self.publishing.push(Box::pin(async move {
            quarantine(&*broker, delivery, &queue, &reason).await;
            None
        }));
    }

    fn perform(&mut self, action: CoordinatorAction) -> BoxFuture<'static, Option<u64>> {
        let broker = self.service.broker.clone();
        let to_own =
            |permits: &PermitMessage| messages::permit_message(&self.flow, &self.task, permits, &self.service.secret);
        match action {
            // Persistent: a snapshot is not repeated, and no other message has its information.
            CoordinatorAction::WriteSnapshot(snapshot) => {
                let number = snapshot.number;
                self.held_at_snapshot = self.held.len();
                let message = Message { persistent: true, ..to_own(&PermitMessage::Snapshot(snapshot)) };
                Box::pin(async move { publish_until_confirmed(broker, message).await.err().map(|NeverTaken| number) })
            }
            CoordinatorAction::SendTick(tick) => {
                Box::pin(publish_best_effort(broker, to_own(&PermitMessage::Tick(tick))))
            }
            CoordinatorAction::Grant(shard, grant) => {
                Box::pin(publish_best_effort(broker, messages::permit_grant(&shard, grant, &self.service.secret)))
            }
        }
    }
}

/// No broker takes a message.
struct NeverTaken;

/// Publishes until the broker has taken the message, or its queue is gone: then its consumer ends too, and restarts.
async fn publish_until_confirmed(broker: Arc<dyn Broker>, message: Message) -> Result<(), NeverTaken> {
    loop {
        match broker.publish(message.clone()).await {
            Ok(()) | Err(PublishError::Closed | PublishError::Unroutable { .. }) => return Ok(()),
            Err(error @ PublishError::TooLarge { .. }) => {
                error!(%error, "the snapshot of granted permits is too large: calls wait for permits until others have ended");
                sleep(TOO_LARGE_DELAY).await;
                return Err(NeverTaken);
            }
            Err(
                error @ (PublishError::Unconfirmed { .. }
                | PublishError::Rejected { .. }
                | PublishError::Refused { .. }),
            ) => {
                debug!(%error, "the snapshot of granted permits is written again");
                sleep(RETRY_DELAY).await;
            }
        }
    }
}

/// Publishes a message that is repeated later if it is lost.
async fn publish_best_effort(broker: Arc<dyn Broker>, message: Message) -> Option<u64> {
    let _ = timeout(TICK, broker.publish(message)).await;
    None
}
