//! Builds the messages that an engine sends.

use std::collections::BTreeMap;

use broker::{Delivery, Message, Properties, Routing};
use bytes::Bytes;
use flow::{Action, CallId, Flow, FlowName, NodeName, RunId, Shard, Task};
use machine::Call;
use protocol::{
    BatchedReport, CallKeys, CommandRequest, Control, DecodeError, EngineSecret, Job, PermitGrant, PermitMessage,
    Reply, ReplyQueue, Report, ReportBatch, RunCommand, Seal, SendingId, WithdrawnCall, topology,
};

use crate::{effects::JobMessage, forwards::Pace, origin, publications::PublishedChange};

/// The header of a notification whose firing has made no call and has not waited, and was triggered by a notification.
const EMPTY_FIRING_HEADER: &str = "empty-firing";

/// The header with the only run that a copy of a notification is for. It is set on copies within an engine, and on those that an engine puts
/// behind the other messages of their queue.
const LISTENER_HEADER: &str = "listener";

/// Whether an engine of this logbook published a notification.
pub(crate) fn is_sealed(notification: &Message, secret: &EngineSecret) -> bool {
    secret.has_sealed_notification(&notification.properties.headers, &notification.body)
}

/// The addresses at which workers reach the engine that sends a job, and the secret that makes the keys of calls.
pub(crate) struct EngineAddress<'a> {
    pub(crate) shard: &'a Shard,
    pub(crate) store_queue: &'a str,
    pub(crate) secret: &'a EngineSecret,
}

/// What happened to the earlier jobs of a call that no worker has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct EarlierDeliveries {
    /// How often they were redelivered.
    pub(crate) redeliveries: u32,
    /// How many questions about them no engine has answered.
    pub(crate) unanswered: u32,
}

impl EarlierDeliveries {
    /// The higher number of each: two reports may be about the same job.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            redeliveries: self.redeliveries.max(other.redeliveries),
            unanswered: self.unanswered.max(other.unanswered),
        }
    }
}

/// What the message of a job says about itself and about the messages that sent the job before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct JobSending {
    pub(crate) id: SendingId,
    pub(crate) earlier: EarlierDeliveries,
}

/// The message that dispatches a call to the workers.
pub(crate) fn job(to: &EngineAddress<'_>, flow: &Flow, task: &Task, call: Call, sending: JobSending) -> JobMessage {
    // A rollback never expires.
    let expires = task.expires.filter(|_| call.action() == Action::Apply);
    let expires_at = expires.map(|expires| call.at.after(expires));
    let job = Job {
        expires_at,
        signal_to: topology::shard_queue(to.shard),
        fetch_from: to.store_queue.to_owned(),
        delivery_limit: task.delivery_limit,
        ..Job::of_call(&flow.name, task, call)
    };
    let job = Box::new(job.with_keys(to.secret));
    let mut properties = Properties { reply_to: Some(job.signal_to.clone()), ..properties(&job.call) };
    protocol::set_returned(&mut properties.headers, sending.earlier.redeliveries);
    protocol::set_unanswered(&mut properties.headers, sending.earlier.unanswered);
    protocol::set_sending(&mut properties.headers, sending.id);
    let message = Message {
        exchange: topology::JOBS.into(),
        key: task.queue.to_string(),
        routing: Routing::Mandatory,
        persistent: true,
        priority: u8::try_from(task.priority.clamp(0, 9)).unwrap_or(0),
        properties,
        body: Bytes::new(),
    };
    JobMessage { message, job }
}

/// The message that publishes a change of a run or of one of its nodes.
pub(crate) fn notification(run: &RunId, flow: &FlowName, change: &PublishedChange, secret: &EngineSecret) -> Message {
    let (exchange, key, body) = match change {
        PublishedChange::Node(change) => {
            let key = topology::notification_key(flow, &change.name, run, change.state);
            (topology::NOTIFICATIONS, key, protocol::events::notification(run, flow, change))
        }
        PublishedChange::Run { state, at } => {
            let key = topology::run_notification_key(flow, run, *state);
            (topology::RUNS, key, protocol::events::run_notification(run, flow, *state, *at))
        }
    };
    let mut headers = BTreeMap::from([secret.notification_header(body.as_bytes())]);
    if change.is_of_empty_firing() {
        headers.insert(EMPTY_FIRING_HEADER.to_owned(), true.to_string());
    }
    Message {
        exchange: exchange.into(),
        key,
        routing: Routing::Optional,
        persistent: true,
        priority: 0,
        properties: Properties { content_type: Some("application/json".into()), headers, ..Properties::default() },
        body: body.into(),
    }
}

/// The pace at which a notification is forwarded.
pub(crate) fn pace_of(notification: &Message) -> Pace {
    match notification.properties.headers.contains_key(EMPTY_FIRING_HEADER) {
        true => Pace::EmptyFirings,
        false => Pace::Full,
    }
}

/// The flow of a notification, by its routing key.
pub(crate) fn notifying_flow(notification: &Message) -> Option<FlowName> {
    FlowName::new(notification.key.split_once('.')?.0).ok()
}

/// A copy of a notification for one of the runs that listen. The copies share the body.
pub(crate) fn for_listener(notification: &Message, run: &RunId) -> Message {
    let mut copy = notification.clone();
    copy.properties.headers.insert(LISTENER_HEADER.to_owned(), run.to_string());
    copy
}

/// The run that a copy of a notification is for.
pub(crate) fn listener_of(copy: &Message) -> Option<RunId> {
    copy.properties.headers.get(LISTENER_HEADER)?.parse().ok()
}

/// The message that stops a call on whichever worker runs it.
pub(crate) fn interrupt(call: CallId, secret: &EngineSecret) -> Message {
    let proof = secret.call_key(&call).interrupt_proof();
    Message {
        exchange: topology::CONTROL.into(),
        key: String::new(),
        routing: Routing::Optional,
        persistent: false,
        priority: 0,
        properties: properties(&call),
        body: Bytes::from(Control::Interrupt { call, proof }.encode()),
    }
}

/// The message that asks all workers which of these calls they have begun. They begin none of the others without
/// asking.
pub(crate) fn withdraw(calls: &[CallId], secret: &EngineSecret) -> Message {
    let withdrawn = |call: &CallId| {
        let proof = secret.call_key(call).withdraw_proof();
        WithdrawnCall { call: call.clone(), proof }
    };
    Message {
        exchange: topology::CONTROL.into(),
        key: String::new(),
        routing: Routing::Optional,
        persistent: false,
        priority: 0,
        properties: Properties::default(),
        body: Bytes::from(Control::Withdraw(calls.iter().map(withdrawn).collect()).encode()),
    }
}

/// The queue to which a request asks for its reply; `None` if it names none, or one to which no reply may go.
pub(crate) fn reply_queue_of(request: &Delivery) -> Option<ReplyQueue> {
    ReplyQueue::parse(request.message.properties.reply_to.as_deref()?)
}

/// Whether a delivery is a request for an engine, such as a run command, whose sender waits for the reply. A worker's question is none.
pub(crate) fn is_request(delivery: &Delivery) -> bool {
    origin::is_of_engine(&delivery.message.exchange) && reply_queue_of(delivery).is_some()
}

/// The message that tells a worker whether a call may begin.
pub(crate) fn may_start(reply_to: ReplyQueue, call: CallId, wanted: bool, secret: &EngineSecret) -> Message {
    let proof = secret.call_key(&call).may_start_proof(wanted);
    let (properties, body) = (properties(&call), Control::MayStart { call, wanted, proof }.encode());
    to_queue(topology::REPLIES, reply_to.into(), Routing::Optional, properties, body)
}

/// The message that tells a worker that no engine will answer its question whether a call may begin.
pub(crate) fn unknown_key(reply_to: ReplyQueue, call: CallId, question: Seal) -> Message {
    let (properties, body) = (properties(&call), Control::UnknownKey { call, question }.encode());
    to_queue(topology::REPLIES, reply_to.into(), Routing::Optional, properties, body)
}

/// A probe through the queue of a shard. Without a queue it is dropped.
pub(crate) fn probe(shard: &Shard, engine: &str, number: u64, secret: &EngineSecret) -> Message {
    to_shard(shard, Routing::Optional, &Report::Probe { engine: engine.to_owned(), number }, secret)
}

/// A message to the permit coordinator of a task. It is repeated later if it is lost.
pub(crate) fn permit_message(
    flow: &FlowName,
    task: &NodeName,
    permits: &PermitMessage,
    secret: &EngineSecret,
) -> Message {
    let queue = topology::permit_queue(secret, flow, task);
    to_queue(topology::ENGINES, queue, Routing::Optional, Properties::default(), permits.encode(secret))
}

/// A grant of permits to the driver of a shard.
pub(crate) fn permit_grant(shard: &Shard, granted: PermitGrant, secret: &EngineSecret) -> Message {
    to_shard(shard, Routing::Optional, &Report::PermitGrant(granted), secret)
}

/// A report to the engine that drives a shard, in place of a worker.
pub(crate) fn report(queue: String, report: &Report, keys: &CallKeys) -> Message {
    let body = report.encode(keys);
    let message = to_queue(topology::ENGINES, queue, Routing::Mandatory, Properties::default(), body);
    Message { persistent: true, ..message }
}

/// The reply to a request.
pub(crate) fn reply(queue: ReplyQueue, correlation_id: Option<String>, reply: &Reply) -> Message {
    let properties = Properties { correlation_id, ..Properties::default() };
    to_queue(topology::REPLIES, queue.into(), Routing::Optional, properties, reply.encode())
}

/// The answer of the engine that drives a shard to a question.
pub(crate) fn described(queue: ReplyQueue, correlation_id: Option<String>, answer: Vec<u8>) -> Message {
    let properties = Properties { correlation_id, ..Properties::default() };
    to_queue(topology::REPLIES, queue.into(), Routing::Optional, properties, answer)
}

/// A question to the engine that drives a shard. Nobody waits long for the answer, so the question is not kept.
pub(crate) fn question(
    shard: &Shard,
    question: &Report,
    (reply_to, correlation_id): (String, String),
    secret: &EngineSecret,
) -> Message {
    let message = to_shard(shard, Routing::Optional, question, secret);
    let properties =
        Properties { reply_to: Some(reply_to), correlation_id: Some(correlation_id), ..Properties::default() };
    Message { properties, ..message }
}

/// A run command to the engine that drives the run, with a reply.
pub(crate) fn request(
    shard: &Shard,
    request: CommandRequest,
    reply_to: String,
    correlation_id: String,
    secret: &EngineSecret,
) -> Message {
    let headers =
        [("run".to_owned(), request.run.to_string()), ("command".to_owned(), request.command.as_str().to_owned())];
    let properties = Properties {
        reply_to: Some(reply_to),
        correlation_id: Some(correlation_id),
        headers: headers.into(),
        ..Properties::default()
    };
    let body = Report::Command(request).encode_by_engine(secret);
    let message = to_queue(topology::ENGINES, topology::shard_queue(shard), Routing::Mandatory, properties, body);
    // Persistent, so that the command outlives the engine that should receive it.
    Message { persistent: true, ..message }
}

/// A run command to the engine that drives the run, without a reply.
pub(crate) fn one_way_command(shard: &Shard, request: CommandRequest, secret: &EngineSecret) -> Message {
    let headers =
        [("run".to_owned(), request.run.to_string()), ("command".to_owned(), request.command.as_str().to_owned())];
    let properties = Properties { headers: headers.into(), ..Properties::default() };
    let body = Report::Command(request).encode_by_engine(secret);
    let message = to_queue(topology::ENGINES, topology::shard_queue(shard), Routing::Mandatory, properties, body);
    Message { persistent: true, ..message }
}

/// A delivery from the queue of a shard, with one report for each delivery.
pub(crate) enum Unpacked {
    /// The delivery itself.
    Single(Delivery),
    /// The parts of a batch of reports.
    Batch(Vec<Delivery>),
    /// A batch of reports that cannot be read.
    Unreadable(Delivery, DecodeError),
}

/// Splits a batch of reports.
pub(crate) fn unpack(delivery: Delivery) -> Unpacked {
    if !ReportBatch::is_batch(&delivery.message.body) {
        return Unpacked::Single(delivery);
    }
    let whole = &delivery.message;
    let reports = match ReportBatch::decode(&whole.body) {
        Ok(ReportBatch { reports }) => reports,
        Err(error) => return Unpacked::Unreadable(delivery, error),
    };
    let part = |BatchedReport { call, report }: BatchedReport<'_>| Message {
        exchange: whole.exchange.clone(),
        key: whole.key.clone(),
        routing: whole.routing,
        persistent: whole.persistent,
        priority: whole.priority,
        properties: properties(&call),
        body: whole.body.slice_ref(report),
    };
    let parts = reports.into_iter().map(part).collect();
    Unpacked::Batch(delivery.split(parts))
}

/// Forwards a delivery to the shard that now has its run. The copy of a notification becomes a command: its run is not known to listen
/// there.
pub(crate) fn forward(shard: &Shard, delivery: &Delivery, secret: &EngineSecret) -> Message {
    if let Some(run) = listener_of(&delivery.message)
        && let Ok(Some(notification)) = protocol::events::parse_notification(&delivery.message.body)
    {
        let command = RunCommand::TaskNotification(notification);
        return one_way_command(shard, CommandRequest { run, command }, secret);
    }
    put_behind(shard, delivery)
}

/// Puts a delivery behind the other messages of a shard's queue. The copy of a notification stays one, so that its run takes it in its turn
/// and in parts.
pub(crate) fn put_behind(shard: &Shard, delivery: &Delivery) -> Message {
    let Message { mut properties, body, .. } = delivery.message.clone();
    // The sender of the report decides how large they are.
    properties.cut_headers();
    let queue = topology::shard_queue(shard);
    let message = to_queue(topology::ENGINES, queue, Routing::Mandatory, properties, body.to_vec());
    Message { persistent: true, ..message }
}

/// A report of an engine to the engine that drives a shard.
fn to_shard(shard: &Shard, routing: Routing, report: &Report, secret: &EngineSecret) -> Message {
    let body = report.encode_by_engine(secret);
    to_queue(topology::ENGINES, topology::shard_queue(shard), routing, Properties::default(), body)
}

fn to_queue(exchange: &str, queue: String, routing: Routing, properties: Properties, body: Vec<u8>) -> Message {
    Message {
        exchange: exchange.to_owned(),
        key: queue,
        routing,
        persistent: false,
        priority: 0,
        properties,
        body: body.into(),
    }
}

fn properties(call: &CallId) -> Properties {
    Properties {
        message_id: Some(protocol::message_id(call)),
        headers: protocol::headers(call),
        ..Properties::default()
    }
}

#[cfg(test)]
mod tests {
    use broker::{Broker as _, InProcess};

    use super::*;
    use crate::shards::Sharing;

    #[tokio::test]
    async fn a_copy_of_a_notification_that_is_put_behind_others_stays_one() {
        let (broker, shard) = (InProcess::new(), "0".parse().unwrap());
        let queue = topology::shard_queue(&shard);
        broker::topology::declare_shared(&broker).await.unwrap();
        crate::topology::declare_shard(&broker, &shard, Sharing::Shared).await.unwrap();
        let headers = [(LISTENER_HEADER.to_owned(), "r".to_owned())].into();
        let properties = Properties { headers, ..Properties::default() };
        let message = to_queue(topology::ENGINES, queue.clone(), Routing::Mandatory, properties, b"{}".to_vec());
        broker.publish(message).await.unwrap();
        let delivery = broker.consume(&queue, 1).await.unwrap().next().await.unwrap();
        let behind = put_behind(&shard, &delivery);
        assert_eq!(listener_of(&behind), Some("r".parse().unwrap()), "its run takes it in parts");
        assert_eq!((&behind.body, behind.persistent), (&delivery.message.body, true));
        assert_eq!((behind.exchange.as_str(), behind.key), (topology::ENGINES, queue));
    }
}
