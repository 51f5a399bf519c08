//! Sends signals to the queues of shards, several in one message when calls end faster than the broker confirms.
//!
//! A signal is sent at once unless an earlier message to its queue is unconfirmed. Then it waits for the confirm and a short
//! pause, and shares one message with all signals that wait. So a single call has no delay, and many short calls cost the
//! broker, its disk and the engine few messages.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use broker::{Broker, Message, Properties, PublishError, Routing};
use bytes::Bytes;
use flow::{CallId, Size};
use protocol::{BatchedReport, MAX_BATCH_REPORTS, MAX_REPORT_BYTES, ReportBatch, topology};
use tokio::{sync::oneshot, time::sleep};
use tokio_util::task::TaskTracker;
use traces::SpanContext;

/// Pause between two messages to a queue while signals wait for it: calls end fast, so the next message will hold many
/// signals. One message for each confirm would keep every process busy with single messages.
const BUSY_PAUSE: Duration = Duration::from_millis(2);

/// Maximum size of the signals in one message, in bytes; a larger signal has a message of its own. It is far below what
/// brokers allow by default.
const MAX_BATCH_BYTES: usize = 128 << 10;

/// The header that shows an operator how many reports a message holds.
const REPORTS: &str = "reports";

/// A signal that is not sent yet.
struct PendingSignal {
    call: CallId,
    body: Bytes,
    /// What its sender works for: the message is published beside it.
    span: Option<SpanContext>,
    /// The sender may have left, since sending may be cancelled.
    confirm: oneshot::Sender<Result<(), PublishError>>,
}

/// Signals that wait, by queue.
type PendingSignals = BTreeMap<String, Vec<PendingSignal>>;

/// Sends signals. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SignalSender {
    broker: Arc<dyn Broker>,
    /// The queues to which a message is on its way, with the signals that wait.
    pending: Arc<Mutex<PendingSignals>>,
    /// Publishes outlive the calls that caused them, since a message may hold the signals of others.
    publishes: TaskTracker,
}

impl SignalSender {
    pub(crate) fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker, pending: Arc::default(), publishes: TaskTracker::new() }
    }

    /// Whether a queue exists that a message did not reach.
    pub(crate) async fn has_queue(&self, queue: &str) -> bool {
        matches!(self.broker.waiting(queue).await, Ok(Some(_)))
    }

    /// Sends the signal of a call to a queue, and waits until the broker has it. If the future is dropped, the signal may
    /// still be sent.
    ///
    /// # Errors
    /// [`PublishError`] as from [`Broker::publish`], and when the signal is larger than [`MAX_REPORT_BYTES`].
    pub(crate) async fn send(&self, call: CallId, queue: String, body: Bytes) -> Result<(), PublishError> {
        if body.len() > MAX_REPORT_BYTES {
            let reason = format!("an engine reads at most {:#} of a worker at once", Size(MAX_REPORT_BYTES as u64));
            return Err(PublishError::TooLarge { exchange: topology::REPORTS.to_owned(), key: queue, reason });
        }
        let (confirm, confirmed) = oneshot::channel();
        let signal = PendingSignal { call, body, span: traces::current(), confirm };
        if self.enqueue(&queue, signal) {
            self.publishes.spawn(self.clone().publish_pending(queue));
        }
        // Each publish reports an outcome, unless its runtime ends.
        confirmed.await.unwrap_or(Err(PublishError::Closed))
    }

    /// Adds a signal to a queue. Returns whether no message is on its way there.
    fn enqueue(&self, queue: &str, signal: PendingSignal) -> bool {
        let mut pending = self.lock();
        if let Some(waiting) = pending.get_mut(queue) {
            waiting.push(signal);
            return false;
        }
        pending.insert(queue.to_owned(), vec![signal]);
        true
    }

    /// Publishes the pending signals of a queue until there are none.
    async fn publish_pending(self, queue: String) {
        let mut publishing = Publishing { sender: &self, queue: &queue, is_done: false };
        while let Some(signals) = self.next_batch(&queue) {
            self.publish(&queue, signals).await;
            if self.has_pending(&queue) {
                sleep(BUSY_PAUSE).await;
            }
        }
        publishing.is_done = true;
    }

    /// Waits until every signal is confirmed or refused. None may be sent after that.
    pub(crate) async fn finish(&self) {
        self.publishes.close();
        self.publishes.wait().await;
    }

    fn has_pending(&self, queue: &str) -> bool {
        self.lock().get(queue).is_some_and(|waiting| !waiting.is_empty())
    }

    /// Takes the signals of the next message; `None` if no signal waits, and then no message is on its way.
    fn next_batch(&self, queue: &str) -> Option<Vec<PendingSignal>> {
        let mut pending = self.lock();
        let waiting = pending.get_mut(queue)?;
        if waiting.is_empty() {
            pending.remove(queue);
            return None;
        }
        let mut bytes = 0;
        let fitting = waiting.iter().take(MAX_BATCH_REPORTS).take_while(|signal| {
            bytes += signal.body.len();
            bytes <= MAX_BATCH_BYTES
        });
        let count = fitting.count().max(1);
        Some(waiting.drain(..count).collect())
    }

    async fn publish(&self, queue: &str, signals: Vec<PendingSignal>) {
        if let [signal] = &signals[..] {
            let result = self.broker.publish(message_of(signal, queue)).await;
            return confirm_all(signals, &result);
        }
        match self.broker.publish(batch_message(&signals, queue)).await {
            // The broker allows only small messages.
            Err(PublishError::TooLarge { .. }) => {
                for signal in signals {
                    let message = message_of(&signal, queue);
                    confirm_all(vec![signal], &self.broker.publish(message).await);
                }
            }
            result => confirm_all(signals, &result),
        }
    }

    fn lock(&self) -> MutexGuard<'_, PendingSignals> {
        // Each change leaves a consistent state.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frees a queue if publishing to it ends early, by a panic or with the runtime: its senders then send again.
struct Publishing<'a> {
    sender: &'a SignalSender,
    queue: &'a str,
    /// Whether the queue is free already.
    is_done: bool,
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.sender.lock().remove(self.queue);
        }
    }
}

fn confirm_all(signals: Vec<PendingSignal>, result: &Result<(), PublishError>) {
    for signal in signals {
        // The sender may have left.
        let _ = signal.confirm.send(result.clone());
    }
}

/// A message with one signal.
fn message_of(PendingSignal { call, body, span, .. }: &PendingSignal, queue: &str) -> Message {
    let mut message = report_message(call, queue, body.clone());
    if let Some(span) = span {
        protocol::set_traceparent(&mut message.properties.headers, span);
    }
    message
}

/// A message with several signals. It names no trace: each signal may belong to another one.
fn batch_message(signals: &[PendingSignal], queue: &str) -> Message {
    let batched =
        signals.iter().map(|PendingSignal { call, body, .. }| BatchedReport { call: call.clone(), report: body });
    let batch = ReportBatch { reports: batched.collect() };
    let headers = BTreeMap::from([(REPORTS.to_owned(), signals.len().to_string())]);
    // An operator names a message by its id.
    let message_id = signals.first().map(|signal| protocol::message_id(&signal.call));
    message(queue, Properties { message_id, headers, ..Properties::default() }, batch.encode().into())
}

/// A message with one report about a call.
pub(crate) fn report_message(call: &CallId, queue: &str, body: Bytes) -> Message {
    let properties = Properties {
        message_id: Some(protocol::message_id(call)),
        headers: protocol::headers(call),
        ..Properties::default()
    };
    message(queue, properties, body)
}

fn message(queue: &str, properties: Properties, body: Bytes) -> Message {
    let (exchange, key, routing) = (topology::REPORTS.to_owned(), queue.to_owned(), Routing::Mandatory);
    Message { exchange, key, routing, persistent: true, priority: 0, properties, body }
}

#[cfg(test)]
mod tests;
