//! What a worker hears with all others, pings and which calls are wanted no more; and what an engine answers it.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use broker::{
    Binding, Broker, Consumer, DeclareError, Delivery, Destination, Message, Properties, Queue, QueueKind, Routing,
};
use flow::{CallId, RunId, Timestamp, WorkerName};
use protocol::{Control, Job, Report, WorkerStatus, topology};
use tokio::sync::{broadcast, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::live::{self, Followed};

/// The most calls that are remembered as interrupted or withdrawn before their jobs came here. Each costs some hundred bytes.
const MAX_WITHDRAWN_CALLS: usize = 10_000;

/// The calls a worker has now, and what it was told of others.
pub(crate) struct CallRegistry {
    state: Mutex<RegistryState>,
    followed: Followed,
}

struct RegistryState {
    /// By the call and where it is answered: an engine that took a run over elsewhere has to hear for itself.
    running: BTreeMap<(CallId, String), RunningCall>,
    /// Calls that were interrupted or withdrawn and do not run here: their jobs may still be on the way.
    withdrawn: HashSet<CallId>,
    oldest: VecDeque<CallId>,
    /// Of calls whose jobs were sent before this, some may have been withdrawn without this worker knowing it.
    since: Timestamp,
}

/// One call that this worker has.
struct RunningCall {
    interrupt: CancellationToken,
    stage: CallStage,
    is_leased: bool,
    redeliveries: Redeliveries,
}

/// How far a call has come.
enum CallStage {
    /// An engine is asked whether it is to begin.
    AwaitingReply(oneshot::Sender<bool>),
    /// It has begun.
    Started,
    /// It does not begin, since an engine said so.
    Refused,
}

/// What came of a job while its call ran.
#[derive(Default)]
pub(crate) struct Redeliveries {
    /// Whether it was delivered again.
    pub(crate) was_redelivered: bool,
    /// Its later deliveries, which wait for the outcome of the call.
    pub(crate) deliveries: Vec<Delivery>,
}

/// A call that a worker has taken on.
pub(crate) struct AcceptedCall<'a> {
    /// The delivery of its job.
    pub(crate) delivery: Delivery,
    /// The call.
    pub(crate) call: CallGuard<'a>,
    /// What has to be known before it begins.
    pub(crate) precondition: StartPrecondition,
}

/// What has to be known before a call begins.
pub(crate) enum StartPrecondition {
    /// Nothing: it has begun.
    Nothing,
    /// Whether it is still wanted, which an engine says.
    AskEngine {
        /// Takes what the engine says.
        wanted: oneshot::Receiver<bool>,
        /// Whether the worker was told that the call is wanted no more. An engine may have thought better of it since.
        is_withdrawn: bool,
    },
}

impl CallRegistry {
    /// Of a worker that hears what is withdrawn from this time on.
    pub(crate) fn new(since: Timestamp) -> Self {
        let (running, withdrawn, oldest) = (BTreeMap::new(), HashSet::new(), VecDeque::new());
        Self { state: Mutex::new(RegistryState { running, withdrawn, oldest, since }), followed: live::followed() }
    }

    /// The runs that somebody begins to follow from now on.
    pub(crate) fn followed(&self) -> broadcast::Receiver<RunId> {
        self.followed.subscribe()
    }

    /// Takes a call on. `None` when it runs here already: the delivery is kept until that has ended, since the one that it
    /// was begun with may be dead when its job comes again.
    ///
    /// Whether the call is wanted is asked where this worker cannot know that it is: its job was sent before this worker
    /// listened, was delivered before, may have expired by the engine's clock, or is of a call that was interrupted or
    /// withdrawn.
    pub(crate) fn accept<'a>(&'a self, job: &'a Job, delivery: Delivery) -> Option<AcceptedCall<'a>> {
        let mut known = self.lock();
        if let Some(running) = known.running.get_mut(&key(job)) {
            running.redeliveries.was_redelivered = true;
            if running.is_leased {
                delivery.accept();
            } else {
                running.redeliveries.deliveries.push(delivery);
            }
            return None;
        }
        let interrupt = CancellationToken::new();
        let is_withdrawn = known.withdrawn.contains(&job.call);
        let may_be_withdrawn = was_redelivered(&delivery) || job.at < known.since || job.expires_at.is_some();
        let (stage, first) = if is_withdrawn || may_be_withdrawn {
            let (answer, wanted) = oneshot::channel();
            (CallStage::AwaitingReply(answer), StartPrecondition::AskEngine { wanted, is_withdrawn })
        } else {
            (CallStage::Started, StartPrecondition::Nothing)
        };
        let running = RunningCall {
            interrupt: interrupt.clone(),
            stage,
            is_leased: false,
            redeliveries: Redeliveries::default(),
        };
        known.running.insert(key(job), running);
        Some(AcceptedCall { delivery, call: CallGuard { calls: self, job: Some(job), interrupt }, precondition: first })
    }

    /// A call begins though no engine has said that it may.
    pub(crate) fn start_without_reply(&self, job: &Job) {
        if let Some(running) = self.lock().running.get_mut(&key(job)) {
            running.stage = CallStage::Started;
        }
    }

    /// The engine knows of the call: no delivery of its job is needed to keep it any more.
    pub(crate) fn lease(&self, job: &Job) {
        if let Some(running) = self.lock().running.get_mut(&key(job)) {
            running.is_leased = true;
            running.redeliveries.deliveries.drain(..).for_each(Delivery::accept);
        }
    }

    fn end(&self, job: &Job) -> Redeliveries {
        self.lock().running.remove(&key(job)).map(|running| running.redeliveries).unwrap_or_default()
    }

    fn interrupt(&self, call: CallId) {
        let mut known = self.lock();
        let mut running = known.running_as(&call).peekable();
        if running.peek().is_some() {
            return running.for_each(|(_, running)| running.interrupt.cancel());
        }
        drop(running);
        known.add_withdrawn(call);
    }

    /// Takes note of a call that nobody wants any more; answers where it is to be said that it has begun here.
    fn withdraw(&self, call: CallId) -> Vec<String> {
        let mut known = self.lock();
        let begun = known.running_as(&call).filter(|(_, running)| matches!(running.stage, CallStage::Started));
        let begun: Vec<String> = begun.map(|((_, signal_to), _)| signal_to.clone()).collect();
        if known.running_as(&call).next().is_none() {
            known.add_withdrawn(call);
        }
        begun
    }

    /// An engine has said whether a call is to begin.
    fn on_may_start(&self, call: &CallId, wanted: bool) {
        for (_, running) in self.lock().running_as(call) {
            if !matches!(running.stage, CallStage::AwaitingReply(_)) {
                continue;
            }
            let stage = if wanted { CallStage::Started } else { CallStage::Refused };
            if let CallStage::AwaitingReply(answer) = std::mem::replace(&mut running.stage, stage) {
                // The call may have been interrupted meanwhile.
                let _ = answer.send(wanted);
            }
        }
    }

    fn count(&self) -> usize {
        self.lock().running.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, RegistryState> {
        // Insertions and removals are whole, so a panic elsewhere cannot have left half of one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that this worker has, until this is ended or dropped: a call that panics must not keep later deliveries of its job.
pub(crate) struct CallGuard<'a> {
    calls: &'a CallRegistry,
    /// `None` once it has ended.
    job: Option<&'a Job>,
    /// Cancelled when the call is to stop.
    pub(crate) interrupt: CancellationToken,
}

impl CallGuard<'_> {
    /// Forgets the call. A job that comes from now on is called again.
    pub(crate) fn end(mut self) -> Redeliveries {
        self.job.take().map(|job| self.calls.end(job)).unwrap_or_default()
    }
}

impl Drop for CallGuard<'_> {
    /// The deliveries that came meanwhile go back, as the one that it was begun with does.
    fn drop(&mut self) {
        drop(self.job.take().map(|job| self.calls.end(job)));
    }
}

impl RegistryState {
    fn running_as<'a>(
        &'a mut self,
        call: &CallId,
    ) -> impl Iterator<Item = (&'a (CallId, String), &'a mut RunningCall)> {
        self.running.iter_mut().filter(move |((running, _), _)| running == call)
    }

    fn add_withdrawn(&mut self, call: CallId) {
        if self.withdrawn.insert(call.clone()) {
            self.oldest.push_back(call);
        }
        if self.oldest.len() > MAX_WITHDRAWN_CALLS
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.withdrawn.remove(&oldest);
            // Its job was sent before now, and so is asked about like those sent before this worker listened.
            self.since = self.since.max(now());
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Whether a job was delivered before: the worker that had it may have executed it.
pub(crate) fn was_redelivered(delivery: &Delivery) -> bool {
    delivery.redelivered || times_returned(delivery) > 0
}

/// How often deliveries of a job came back, those before it was published again included.
pub(crate) fn times_returned(delivery: &Delivery) -> u32 {
    delivery.returned.saturating_add(protocol::returned(&delivery.message.properties.headers))
}

fn key(job: &Job) -> (CallId, String) {
    (job.call.clone(), job.signal_to.clone())
}

/// The queue on which the worker of a name hears control messages. Exclusive: a second worker of the name is refused.
pub(crate) fn queue_name(name: &WorkerName) -> String {
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
pub(crate) async fn serve(
    broker: Arc<dyn Broker>,
    mut messages: Consumer,
    calls: Arc<CallRegistry>,
    status: WorkerStatus,
    stop: CancellationToken,
) {
    while let Some(Some(delivery)) = stop.run_until_cancelled(messages.next()).await {
        let control = Control::decode(&delivery.message.body);
        Delivery::accept(delivery);
        match control {
            Ok(Control::Interrupt(call)) => calls.interrupt(call),
            Ok(Control::Withdraw(withdrawn)) => {
                let begun = withdrawn.into_iter().flat_map(|call| {
                    let tell = calls.withdraw(call.clone());
                    tell.into_iter().map(move |signal_to| (call.clone(), signal_to))
                });
                for (call, signal_to) in begun.collect::<Vec<_>>() {
                    // If it is lost, the call counts as withdrawn, and its answer as a late outcome.
                    send_best_effort(&*broker, started_report(call, signal_to, &status.name), &stop).await;
                }
            }
            Ok(Control::MayStart { call, wanted }) => calls.on_may_start(&call, wanted),
            // Of no use where nothing runs.
            Ok(Control::TellLogs { run }) => drop(calls.followed.send(run)),
            Ok(Control::Ping(ping)) => {
                let busy = u32::try_from(calls.count()).unwrap_or(u32::MAX);
                let reply = reply(ping.reply_to, &WorkerStatus { busy, ..status.clone() });
                send_best_effort(&*broker, reply, &stop).await;
            }
            // It is for all workers, so that none of them has to keep it.
            Err(error) => warn!(%error, "a message to all workers cannot be read here; it is dropped"),
        }
    }
}

/// Best effort: the receiver may be gone. A broker that is away must not keep the worker from stopping.
async fn send_best_effort(broker: &dyn Broker, message: Message, stop: &CancellationToken) {
    if let Some(Err(error)) = stop.run_until_cancelled(broker.publish(message)).await {
        tracing::debug!(%error, "a control message was not answered");
    }
}

fn reply(to: String, status: &WorkerStatus) -> Message {
    to_queue(to, Properties::default(), status.encode())
}

/// The message that says that a call has begun here which an engine wants to withdraw.
fn started_report(call: CallId, signal_to: String, worker: &WorkerName) -> Message {
    let properties = Properties { headers: protocol::headers(&call), ..Properties::default() };
    to_queue(signal_to, properties, Report::Started { call, worker: worker.clone() }.encode())
}

fn to_queue(queue: String, properties: Properties, body: Vec<u8>) -> Message {
    Message {
        exchange: String::new(),
        key: queue,
        routing: Routing::Optional,
        persistent: false,
        priority: 0,
        properties,
        body: body.into(),
    }
}
