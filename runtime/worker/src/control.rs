//! What a worker hears with all others: pings, and calls to stop an attempt.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use broker::{
    Binding, Broker, Consumer, DeclareError, Delivery, Destination, Message, Properties, Queue, QueueKind, Routing,
};
use flow::{CallId, WorkerName};
use protocol::{Control, Job, WorkerStatus, topology};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// So many calls that were stopped before they came here are remembered.
const STOPPED: usize = 10_000;

/// The calls a worker has now.
#[derive(Default)]
pub(crate) struct Calls {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// By the call and where it is answered: an engine that took a run over elsewhere has to hear for itself.
    running: BTreeMap<(CallId, String), Running>,
    /// Calls that were stopped and do not run here: their jobs may still be on the way.
    stopped: HashSet<CallId>,
    oldest: VecDeque<CallId>,
}

/// One call that runs.
#[derive(Default)]
struct Running {
    interrupt: CancellationToken,
    is_leased: bool,
    again: Again,
}

/// What came of a job while its call ran.
#[derive(Default)]
pub(crate) struct Again {
    /// Whether it was delivered again.
    pub(crate) came: bool,
    /// Its later deliveries, which wait for the outcome of the call.
    pub(crate) deliveries: Vec<Delivery>,
}

impl Calls {
    /// Notes a call; its token is cancelled when it is to stop. `None` when it runs here already: the delivery is kept until
    /// that has ended, since the one that it was begun with may be dead when its job comes again.
    pub(crate) fn begin<'a>(&'a self, job: &'a Job, delivery: Delivery) -> Option<(Delivery, Begun<'a>)> {
        let mut known = self.lock();
        if let Some(running) = known.running.get_mut(&key(job)) {
            running.again.came = true;
            if running.is_leased {
                delivery.accept();
            } else {
                running.again.deliveries.push(delivery);
            }
            return None;
        }
        let running = Running::default();
        let interrupt = running.interrupt.clone();
        if known.stopped.contains(&job.call) {
            interrupt.cancel();
        }
        known.running.insert(key(job), running);
        Some((delivery, Begun { calls: self, job: Some(job), interrupt }))
    }

    /// The engine knows of the call: no delivery of its job is needed to keep it any more.
    pub(crate) fn lease(&self, job: &Job) {
        if let Some(running) = self.lock().running.get_mut(&key(job)) {
            running.is_leased = true;
            running.again.deliveries.drain(..).for_each(Delivery::accept);
        }
    }

    fn end(&self, job: &Job) -> Again {
        self.lock().running.remove(&key(job)).map(|running| running.again).unwrap_or_default()
    }

    fn interrupt(&self, call: CallId) {
        let mut known = self.lock();
        let mut running = known.running.iter().filter(|((running, _), _)| *running == call).peekable();
        if running.peek().is_some() {
            return running.for_each(|(_, running)| running.interrupt.cancel());
        }
        if known.stopped.insert(call.clone()) {
            known.oldest.push_back(call);
        }
        if known.oldest.len() > STOPPED
            && let Some(oldest) = known.oldest.pop_front()
        {
            known.stopped.remove(&oldest);
        }
    }

    fn count(&self) -> usize {
        self.lock().running.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        // Insertions and removals are whole, so a panic elsewhere cannot have left half of one.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that runs here, until this is ended or dropped: a call that panics must not keep later deliveries of its job.
pub(crate) struct Begun<'a> {
    calls: &'a Calls,
    /// `None` once it has ended.
    job: Option<&'a Job>,
    /// Cancelled when the call is to stop.
    pub(crate) interrupt: CancellationToken,
}

impl Begun<'_> {
    /// Forgets the call. A job that comes from now on is called again.
    pub(crate) fn end(mut self) -> Again {
        self.job.take().map(|job| self.calls.end(job)).unwrap_or_default()
    }
}

impl Drop for Begun<'_> {
    /// The deliveries that came meanwhile go back, as the one that it was begun with does.
    fn drop(&mut self) {
        drop(self.job.take().map(|job| self.calls.end(job)));
    }
}

fn key(job: &Job) -> (CallId, String) {
    (job.call.clone(), job.signal_to.clone())
}

/// The queue on which the worker of a name hears control messages. Exclusive: a second worker of the name is refused.
fn queue_name(name: &WorkerName) -> String {
    format!("waft.control.{name}")
}

/// Declares and binds the worker's control queue.
pub(crate) async fn declare(broker: &dyn Broker, name: &WorkerName) -> Result<(), DeclareError> {
    broker.declare_queue(&Queue { name: queue_name(name), kind: QueueKind::Exclusive }).await?;
    let to = Destination::Queue(queue_name(name));
    broker.bind(&Binding { exchange: topology::CONTROL.into(), key: String::new(), to }).await
}

/// Opens the control queue. Few messages are out at once: each is answered on the spot.
pub(crate) async fn consume(broker: &dyn Broker, name: &WorkerName) -> Result<Consumer, broker::ConsumeError> {
    broker.consume(&queue_name(name), 16).await
}

/// Answers control messages until told to stop.
pub(crate) async fn answer(
    broker: Arc<dyn Broker>,
    mut messages: Consumer,
    calls: Arc<Calls>,
    status: WorkerStatus,
    stop: CancellationToken,
) {
    while let Some(Some(delivery)) = stop.run_until_cancelled(messages.next()).await {
        let control = Control::decode(&delivery.message.body);
        Delivery::accept(delivery);
        match control {
            Ok(Control::Interrupt(call)) => calls.interrupt(call),
            Ok(Control::Ping(ping)) => {
                let busy = u32::try_from(calls.count()).unwrap_or(u32::MAX);
                let reply = reply(ping.reply_to, &WorkerStatus { busy, ..status.clone() });
                // Who asked may be gone.
                if let Err(error) = broker.publish(reply).await {
                    tracing::debug!(%error, "a ping was not answered");
                }
            }
            Err(error) => warn!(%error, "left a control message alone"),
        }
    }
}

fn reply(to: String, status: &WorkerStatus) -> Message {
    Message {
        exchange: String::new(),
        key: to,
        routing: Routing::Optional,
        persistent: false,
        priority: 0,
        properties: Properties::default(),
        body: status.encode().into(),
    }
}
