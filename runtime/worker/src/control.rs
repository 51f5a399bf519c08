//! Control messages: pings, withdrawals and other messages to all workers, and the replies of an engine.

use std::{collections::BTreeMap, sync::Arc};

use broker::{
    Binding, Broker, Consumer, DeclareError, Delivery, Destination, Message, Properties, Queue, QueueKind, Refusals,
    Routing,
};
use flow::{CallId, Namespace, QueueName, WorkerName};
use protocol::{
    CallKeys, Control, DetailsQuestion, DrainAction, DrainRequest, HeartbeatNumber, Key, MAX_LISTED_QUEUES, Ping,
    ReplyQueue, Report, WorkerDetails, WorkerStatus, topology,
};
use tokio_util::sync::CancellationToken;

use crate::{call_registry::CallRegistry, drain::Drain, grants_answerer::GrantsQuestions};

/// Declares the worker's control queue, and binds it to the messages to all workers and to the replies of engines. A second worker of
/// the name is rejected: an exclusive queue reserves the name.
pub(crate) async fn declare(broker: &dyn Broker, name: &WorkerName) -> Result<(), DeclareError> {
    broker.declare_queue(&Queue { name: topology::worker_lock(name), kind: QueueKind::Exclusive }).await?;
    broker.declare_queue(&Queue { name: topology::control_queue(name), kind: QueueKind::Private }).await?;
    broker::topology::bind_or_declare(broker, &bindings(name)).await
}

/// The bindings of a worker's control queue.
pub(crate) fn bindings(name: &WorkerName) -> Vec<Binding> {
    let queue = topology::control_queue(name);
    let mut bindings = broker::topology::bindings_by_name(&queue, &[topology::REPLIES]);
    bindings.push(Binding { exchange: topology::CONTROL.into(), key: String::new(), to: Destination::Queue(queue) });
    bindings
}

/// Opens the control queue. The prefetch is small, since each message is answered at once.
pub(crate) async fn consume(broker: &dyn Broker, name: &WorkerName) -> Result<Consumer, broker::ConsumeError> {
    broker.consume(&topology::control_queue(name), 16).await
}

/// The exchange that a control message comes through: all workers receive it, or it is the reply of an engine.
const fn exchange_of(control: &Control) -> &'static str {
    match control {
        Control::Ping(_)
        | Control::Interrupt { .. }
        | Control::Withdraw(_)
        | Control::FollowLogs { .. }
        | Control::ExplainGrants(_)
        | Control::Details(_)
        | Control::Drain(_) => topology::CONTROL,
        Control::MayStart { .. } | Control::UnknownKey { .. } => topology::REPLIES,
    }
}

/// What the answers to control messages need of the worker.
pub(crate) struct ControlledWorker {
    /// The calls that it has.
    pub(crate) calls: Arc<CallRegistry>,
    /// Takes the questions whose answer takes time.
    pub(crate) questions: GrantsQuestions,
    /// Whether it takes jobs.
    pub(crate) drain: Arc<Drain>,
    /// Its status, without the number of calls.
    pub(crate) status: WorkerStatus,
    /// The queues with slots of their own.
    pub(crate) own_slots: BTreeMap<QueueName, u32>,
}

impl ControlledWorker {
    fn status(&self) -> WorkerStatus {
        let busy = u32::try_from(self.calls.count()).unwrap_or(u32::MAX);
        WorkerStatus { busy, ..self.status.clone() }
    }

    /// The details, with the calls of a namespace or with all.
    fn details(&self, namespace: Option<&Namespace>) -> WorkerDetails {
        let own_slots = self.own_slots.iter().take(MAX_LISTED_QUEUES);
        WorkerDetails {
            name: self.status.name.clone(),
            instance: self.status.instance.clone(),
            state: self.drain.state(),
            own_slots: own_slots.map(|(queue, slots)| (queue.clone(), *slots)).collect(),
            calls: self.calls.list(namespace),
        }
    }

    /// Does what an operator has told this worker.
    fn apply(&self, action: DrainAction) {
        let before = self.drain.state();
        self.drain.apply(action);
        let state = self.drain.state();
        if state != before {
            let (state, running) = (state.as_str(), self.calls.count());
            tracing::info!(state, running, "an operator has told the worker whether to take jobs");
        }
    }
}

/// Answers control messages until `stop` is cancelled, and passes on those whose answer takes time.
pub(crate) async fn serve(
    broker: Arc<dyn Broker>,
    mut messages: Consumer,
    worker: ControlledWorker,
    stop: CancellationToken,
) {
    let (refusals, control_queue) = (Refusals::default(), topology::control_queue(&worker.status.name));
    while let Some(Some(delivery)) = stop.run_until_cancelled(messages.next()).await {
        let control = Control::decode(&delivery.message.body);
        if let Ok(control) = &control
            && delivery.message.exchange != exchange_of(control)
        {
            refusals.log(&delivery.message.key, "a control message that arrived through another exchange");
            delivery.accept();
            continue;
        }
        Delivery::accept(delivery);
        match control {
            // If an answer is lost, whoever asked knows of one worker less. If a report of a start is lost, the call counts as
            // withdrawn, and its result as a late outcome.
            Ok(control) => match worker.handle(control) {
                Ok(answers) => {
                    for answer in answers {
                        send_best_effort(&*broker, answer, &stop).await;
                    }
                }
                Err(what) => {
                    refusals.log(&control_queue, &format!("{what} that names no queue for replies"));
                }
            },
            // All workers receive it, so it is not moved to the quarantine.
            Err(error) => {
                refusals.log(&control_queue, &format!("a control message cannot be read: {error}"));
            }
        }
    }
}

impl ControlledWorker {
    /// Handles a message, and returns what to send for it. The error is what a message was that names no queue for its answer.
    fn handle(&self, control: Control) -> Result<Vec<Message>, &'static str> {
        let answer_to = |reply_to: &str, what| ReplyQueue::parse(reply_to).ok_or(what);
        match control {
            Control::Interrupt { call, proof } => self.calls.interrupt(&call, proof),
            Control::Withdraw(withdrawn) => {
                let name = &self.status.name;
                let started = withdrawn.into_iter().flat_map(|withdrawn| {
                    let queues = self.calls.withdraw(&withdrawn);
                    queues.into_iter().map(move |started| started_report(withdrawn.call.clone(), started, name))
                });
                return Ok(started.collect());
            }
            Control::MayStart { call, wanted, proof } => self.calls.on_may_start(&call, wanted, proof),
            Control::UnknownKey { call, question } => self.calls.on_unknown_key(&call, question),
            // It has no receiver if no call runs.
            Control::FollowLogs { run } => drop(self.calls.followed.send(run)),
            Control::Ping(Ping { reply_to }) => {
                return Ok(vec![reply(answer_to(&reply_to, "a ping")?, self.status().encode())]);
            }
            Control::ExplainGrants(question) => {
                let reply_to = answer_to(&question.reply_to, "a question about grants")?;
                self.questions.add(reply_to, question);
            }
            Control::Details(DetailsQuestion { reply_to, namespace }) => {
                let reply_to = answer_to(&reply_to, "a question about details")?;
                return Ok(vec![reply(reply_to, self.details(namespace.as_ref()).encode())]);
            }
            // All workers receive it.
            Control::Drain(DrainRequest { worker, .. }) if worker != self.status.name => {}
            Control::Drain(DrainRequest { reply_to, action, .. }) => {
                let reply_to = answer_to(&reply_to, "a request to drain")?;
                self.apply(action);
                return Ok(vec![reply(reply_to, self.details(None).encode())]);
            }
        }
        Ok(Vec::new())
    }
}

/// Best effort: the receiver may have disconnected. An unreachable broker must not delay the stop of the worker.
pub(crate) async fn send_best_effort(broker: &dyn Broker, message: Message, stop: &CancellationToken) {
    if let Some(Err(error)) = stop.run_until_cancelled(broker.publish(message)).await {
        tracing::debug!(%error, "a control message was not answered");
    }
}

pub(crate) fn reply(queue: ReplyQueue, body: Vec<u8>) -> Message {
    to_queue(topology::STATUS, queue.into(), Properties::default(), body)
}

/// Reports to an engine that wants to withdraw a call that the call has started here.
fn started_report(
    call: CallId,
    (signal_to, key, number): (String, Key, HeartbeatNumber),
    worker: &WorkerName,
) -> Message {
    let properties = Properties { headers: protocol::headers(&call), ..Properties::default() };
    let report = Report::Started { call, worker: worker.clone(), number };
    to_queue(topology::REPORTS, signal_to, properties, report.encode(&CallKeys::of_call(key)))
}

fn to_queue(exchange: &str, queue: String, properties: Properties, body: Vec<u8>) -> Message {
    Message {
        exchange: exchange.to_owned(),
        key: queue,
        routing: Routing::Optional,
        persistent: false,
        priority: 0,
        properties,
        body: body.into(),
    }
}
