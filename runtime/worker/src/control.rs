//! Control messages: pings, withdrawals and other messages to all workers, and the replies of an engine.

use std::sync::Arc;

use broker::{
    Binding, Broker, Consumer, DeclareError, Delivery, Destination, Message, Properties, Queue, QueueKind, Refusals,
    Routing,
};
use flow::{CallId, WorkerName};
use protocol::{CallKeys, Control, HeartbeatNumber, Key, ReplyQueue, Report, WorkerStatus, topology};
use tokio_util::sync::CancellationToken;

use crate::{call_registry::CallRegistry, grants_answerer::GrantsQuestions};

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
        | Control::ExplainGrants(_) => topology::CONTROL,
        Control::MayStart { .. } | Control::UnknownKey { .. } => topology::REPLIES,
    }
}

/// Answers control messages until `stop` is cancelled, and passes on those whose answer takes time.
pub(crate) async fn serve(
    broker: Arc<dyn Broker>,
    mut messages: Consumer,
    (calls, questions): (Arc<CallRegistry>, GrantsQuestions),
    status: WorkerStatus,
    stop: CancellationToken,
) {
    let (refusals, control_queue) = (Refusals::default(), topology::control_queue(&status.name));
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
            Ok(Control::Interrupt { call, proof }) => calls.interrupt(&call, proof),
            Ok(Control::Withdraw(withdrawn)) => {
                let started = withdrawn.into_iter().flat_map(|withdrawn| {
                    let queues = calls.withdraw(&withdrawn);
                    let name = &status.name;
                    queues.into_iter().map(move |started| started_report(withdrawn.call.clone(), started, name))
                });
                for report in started.collect::<Vec<_>>() {
                    // If it is lost, the call counts as withdrawn, and its result as a late outcome.
                    send_best_effort(&*broker, report, &stop).await;
                }
            }
            Ok(Control::MayStart { call, wanted, proof }) => calls.on_may_start(&call, wanted, proof),
            Ok(Control::UnknownKey { call, question }) => calls.on_unknown_key(&call, question),
            // It has no receiver if no call runs.
            Ok(Control::FollowLogs { run }) => drop(calls.followed.send(run)),
            Ok(Control::Ping(ping)) => {
                let Some(reply_to) = ReplyQueue::parse(&ping.reply_to) else {
                    refusals.log(&control_queue, "a ping that names no queue for replies");
                    continue;
                };
                let busy = u32::try_from(calls.count()).unwrap_or(u32::MAX);
                let reply = reply(reply_to, WorkerStatus { busy, ..status.clone() }.encode());
                send_best_effort(&*broker, reply, &stop).await;
            }
            Ok(Control::ExplainGrants(question)) => {
                let Some(reply_to) = ReplyQueue::parse(&question.reply_to) else {
                    refusals.log(&control_queue, "a question about grants that names no queue for replies");
                    continue;
                };
                questions.add(reply_to, question);
            }
            // All workers receive it, so it is not moved to the quarantine.
            Err(error) => {
                refusals.log(&control_queue, &format!("a control message cannot be read: {error}"));
            }
        }
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
