//! Commands as messages.

use broker::{Message, Properties, Routing};
use bytes::Bytes;
use flow::{Call, CallId, Flow, NodeChange, RunId, Shard, Task};
use protocol::{Control, Job, topology};

/// The message that hands a call to the workers.
pub(crate) fn job(shard: &Shard, flow: &Flow, task: &Task, call: Call) -> Message {
    let job = Job {
        flow: flow.name.clone(),
        module: task.module,
        export: task.export.clone(),
        inputs: call.inputs,
        rollback: call.rollback.map(|told| (told.outcome, (*told.failures).clone())),
        promised: task.provides.keys().cloned().collect(),
        limits: task.limits,
        at: call.at,
        signal_to: topology::engine(shard),
        fetch_from: topology::store(shard),
        call: call.id,
    };
    Message {
        exchange: topology::JOBS.into(),
        key: task.queue.to_string(),
        routing: Routing::Mandatory,
        persistent: true,
        priority: u8::try_from(task.priority.clamp(0, 9)).unwrap_or(0),
        properties: Properties { reply_to: Some(job.signal_to.clone()), ..properties(&job.call) },
        body: job.encode().into(),
    }
}

/// The message that tells the world of a node's change.
pub(crate) fn notification(run: &RunId, flow: &Flow, change: &NodeChange) -> Message {
    let content_type = Some("application/json".into());
    Message {
        exchange: topology::NOTIFICATIONS.into(),
        key: topology::notification_key(&flow.name, &change.name, run, change.state),
        routing: Routing::Optional,
        persistent: true,
        priority: 0,
        properties: Properties { content_type, ..Properties::default() },
        body: protocol::json::notification(run, &flow.name, change).into(),
    }
}

/// The message that stops a call wherever it runs.
pub(crate) fn interrupt(call: CallId) -> Message {
    Message {
        exchange: topology::CONTROL.into(),
        key: String::new(),
        routing: Routing::Optional,
        persistent: false,
        priority: 0,
        properties: properties(&call),
        body: Bytes::from(Control::Interrupt(call).encode()),
    }
}

fn properties(call: &CallId) -> Properties {
    Properties {
        message_id: Some(protocol::message_id(call)),
        headers: protocol::headers(call),
        ..Properties::default()
    }
}
