//! The permit queues that this engine consumes, each with its [`PermitCoordinator`].
//!
//! An engine subscribes to a task's permit queue when it meets the first flow with that task, and stays subscribed.
//! One subscriber at a time is the active coordinator. A task without a rate or concurrency limit has no such queue.

use std::{sync::Arc, time::Duration};

use broker::{
    Broker, Consumer, DeclareError, Delivery, Message, PublishError, Queue, QueueKind, Refusals, quarantine,
    topology::{bindings_by_name, keep_bound},
};
use flow::{FlowName, NodeName};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use protocol::{DecodeError, EngineSecret, OpenError, PermitMessage, topology as names};
use tokio::time::{sleep, timeout};
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

/// The exchanges through which messages reach the queue: from engines, and from the quarantine.
const EXCHANGES: [&str; 2] = [names::ENGINES, names::RELEASED];

/// Pause before a failed operation is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

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
}

impl PermitService {
    /// Declares the permit queue of a task, and consumes it from now on.
    pub(crate) async fn coordinate(&self, flow: &FlowName, task: &NodeName) -> Result<(), DeclareError> {
        let queue = names::permit_queue(&self.secret, flow, task);
        declare(&*self.broker, &queue).await?;
        let runner = CoordinatorRunner {
            service: self.clone(),
            queue,
            flow: flow.clone(),
            task: task.clone(),
            held_snapshots: Vec::new(),
            publishing: FuturesUnordered::new(),
        };
        let (stop, broker) = (self.stop.clone(), self.broker.clone());
        self.supervisor.spawn("permits", async move {
            let bindings = bindings_by_name(&runner.queue, &EXCHANGES);
            stop.run_until_cancelled(keep_bound(&*broker, &bindings, runner.run())).await;
        });
        Ok(())
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

/// The permit coordinator of one task on this engine, with its deliveries.
struct CoordinatorRunner {
    service: PermitService,
    queue: String,
    flow: FlowName,
    task: NodeName,
    /// Deliveries of snapshots: unsettled, so that the next coordinator receives them.
    held_snapshots: Vec<Delivery>,
    publishing: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl CoordinatorRunner {
    async fn run(mut self) {
        let queue = self.queue.clone();
        let mut coordinator = PermitCoordinator::new(self.service.engine.clone(), self.flow.clone(), self.task.clone());
        loop {
            match self.service.broker.consume(&queue, PREFETCH).await {
                Ok(consumer) => self.run_coordinator(&mut coordinator, consumer).await,
                Err(broker::ConsumeError::Closed) => return,
                Err(error) => warn!(queue, %error, "the permit queue cannot be consumed yet"),
            }
            self.held_snapshots.clear();
            coordinator.restart();
            sleep(RETRY_DELAY).await;
            match declare(&*self.service.broker, &queue).await {
                Ok(()) => {}
                Err(DeclareError::Closed) => return,
                Err(error) => warn!(queue, %error, "the queue of a task's permits could not be declared"),
            }
        }
    }

    /// Runs the coordinator until the queue is deleted, or the broker closes.
    async fn run_coordinator(&mut self, coordinator: &mut PermitCoordinator, mut consumer: Consumer) {
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
                    None => return,
                },
                Some(()) = self.publishing.next() => continue,
                _ = ticks.tick() => coordinator.tick(),
                () = sleep(until_due.unwrap_or_default()), if until_due.is_some() => {}
            }
            let now = self.service.clock.now();
            due = coordinator.poll_grants(now);
            if coordinator.is_empty(now) {
                self.held_snapshots.drain(..).for_each(Delivery::accept);
            }
            for action in coordinator.take_actions() {
                self.publishing.push(self.perform(action));
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
            DeliveryDisposition::Hold => self.held_snapshots.push(delivery),
            DeliveryDisposition::Replace => {
                let earlier = std::mem::replace(&mut self.held_snapshots, vec![delivery]);
                earlier.into_iter().for_each(Delivery::accept);
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
        self.publishing.push(Box::pin(async move { quarantine(&*broker, delivery, &queue, &reason).await }));
    }

    fn perform(&self, action: CoordinatorAction) -> BoxFuture<'static, ()> {
        let broker = self.service.broker.clone();
        let to_own =
            |permits: &PermitMessage| messages::permit_message(&self.flow, &self.task, permits, &self.service.secret);
        match action {
            // Persistent: a snapshot is not repeated, and no other message has its information.
            CoordinatorAction::WriteSnapshot(snapshot) => Box::pin(publish_until_confirmed(
                broker,
                Message { persistent: true, ..to_own(&PermitMessage::Snapshot(snapshot)) },
            )),
            CoordinatorAction::SendTick(tick) => {
                Box::pin(publish_best_effort(broker, to_own(&PermitMessage::Tick(tick))))
            }
            CoordinatorAction::Grant(shard, grant) => {
                Box::pin(publish_best_effort(broker, messages::permit_grant(&shard, grant, &self.service.secret)))
            }
        }
    }
}

/// Publishes until the broker has taken the message, or its queue is gone: then its consumer ends too, and restarts.
async fn publish_until_confirmed(broker: Arc<dyn Broker>, message: Message) {
    loop {
        match broker.publish(message.clone()).await {
            Ok(()) | Err(PublishError::Closed | PublishError::Unroutable { .. }) => return,
            Err(error @ PublishError::TooLarge { .. }) => {
                return error!(%error, "the snapshot of granted permits is too large");
            }
            Err(error @ (PublishError::Unconfirmed { .. } | PublishError::Refused { .. })) => {
                debug!(%error, "the snapshot of granted permits is written again");
                sleep(RETRY_DELAY).await;
            }
        }
    }
}

/// Publishes a message that is repeated later if it is lost.
async fn publish_best_effort(broker: Arc<dyn Broker>, message: Message) {
    let _ = timeout(TICK, broker.publish(message)).await;
}
