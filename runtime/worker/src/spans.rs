//! The spans of a call on its worker, below the attempt that its job names.
//!
//! A job without the header `traceparent` has no trace: its engine decides what is traced.

use broker::Message;
use flow::{Size, WorkerName};
use protocol::{Job, topology};
use traces::{ActiveSpan, Kind, Span, SpanContext};

/// The system of the messages, as the conventions of OpenTelemetry name it.
const MESSAGING_SYSTEM: &str = "rabbitmq";

/// What a worker does with one job.
pub(crate) struct Processing {
    _span: ActiveSpan,
    /// What the work belongs to: this span, or the attempt if nothing is recorded.
    context: Option<SpanContext>,
}

impl Processing {
    /// Begins with a job.
    pub(crate) fn begin(message: &Message, job: &Job, worker: &WorkerName) -> Self {
        let traceparent = traces::global().and_then(|_| protocol::traceparent(&message.properties.headers));
        let attempt: Option<SpanContext> = traceparent.and_then(|text| text.parse().ok());
        let mut span = traces::child_of(attempt, Kind::Consumer, || format!("process {}", topology::JOBS));
        span.describe(|span| {
            describe_messaging(span, "process", topology::JOBS);
            span.set("messaging.rabbitmq.destination.routing_key", message.key.as_str());
            span.set("messaging.message.body.size", message.body.len());
            span.set("messaging.message.id", protocol::message_id(&job.call));
            span.set("waft.run.id", job.call.run.as_str());
            span.set("waft.flow.name", job.flow.as_str());
            span.set("waft.task.name", job.call.task.as_str());
            span.set("waft.firing", job.call.firing.get());
            span.set("waft.attempt", u64::from(job.call.attempt.get()));
            span.set("waft.action", job.call.action.as_str());
            span.set("waft.module.digest", job.module.to_string());
            span.set("waft.worker.name", worker.as_str());
        });
        let context = span.context().or(attempt);
        Self { _span: span, context }
    }

    /// What the work belongs to; `None` if nothing is traced.
    pub(crate) fn context(&self) -> Option<SpanContext> {
        self.context
    }

    /// The trace, for the lines of the log.
    pub(crate) fn trace(&self) -> Option<String> {
        self.context.map(|context| context.trace.to_string())
    }
}

/// Begins to publish a signal.
pub(crate) fn publish(queue: &str, bytes: usize) -> ActiveSpan {
    let mut span = traces::child(Kind::Producer, "publish waft.reports");
    span.describe(|span| {
        describe_messaging(span, "publish", topology::REPORTS);
        span.set("messaging.rabbitmq.destination.routing_key", queue);
        span.set("messaging.message.body.size", bytes);
    });
    span
}

/// Begins to fetch content from the store of an engine.
pub(crate) fn fetch(digest: &flow::Digest, max_bytes: u64) -> ActiveSpan {
    let mut span = traces::child(Kind::Client, "fetch content");
    span.describe(|span| {
        span.set("waft.content.digest", digest.to_string());
        span.set("waft.content.maximum", Size(max_bytes).to_string());
    });
    span
}

/// Begins to compile the module of a job.
pub(crate) fn compile(job: &Job, bytes: usize) -> ActiveSpan {
    let mut span = traces::child(Kind::Internal, "compile");
    span.describe(|span| {
        span.set("waft.module.digest", job.module.to_string());
        span.set("waft.module.size", bytes);
    });
    span
}

/// Begins the call of a guest.
pub(crate) fn call(job: &Job) -> ActiveSpan {
    let mut span = traces::child(Kind::Internal, "call guest");
    span.describe(|span| {
        // A WASI command has one function.
        span.set("code.function.name", job.export.as_ref().map_or("main", flow::Export::as_str));
        span.set("waft.module.digest", job.module.to_string());
    });
    span
}

fn describe_messaging(span: &mut Span, operation: &'static str, exchange: &'static str) {
    span.set("messaging.system", MESSAGING_SYSTEM);
    span.set("messaging.operation.name", operation);
    span.set("messaging.operation.type", if operation == "publish" { "send" } else { operation });
    span.set("messaging.destination.name", exchange);
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_name_of_the_span_is_that_of_the_exchange() {
        assert_eq!(protocol::topology::REPORTS, "waft.reports");
    }
}
