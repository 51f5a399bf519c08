//! A broker with planned message faults.

use std::sync::Mutex;

use async_trait::async_trait;
use broker::{
    Binding, Broker, ConsumeError, Consumer, DeclareError, Exchange, InProcess, Message, PublishError, Queue,
};
use bytes::Bytes;

/// The fault of one published message. The publisher always gets a success, except for `Unconfirmed`.
pub(super) enum Fault {
    None,
    Lost,
    Twice,
    /// The message is published after the next one.
    Late,
    /// The message is lost, and its publisher gets no confirm.
    Unconfirmed,
    /// The message arrives with other bytes.
    Changed(Bytes),
}

/// Chooses the fault of the message with this number.
type Plan = dyn FnMut(usize, &Message) -> Fault + Send;

/// Wraps a broker with faults for the messages that are published through it.
pub(super) struct FaultyBroker {
    inner: InProcess,
    state: Mutex<State>,
}

struct State {
    plan: Box<Plan>,
    published: usize,
    late: Vec<Message>,
}

impl FaultyBroker {
    pub(super) fn new(inner: &InProcess, plan: impl FnMut(usize, &Message) -> Fault + Send + 'static) -> Self {
        let state = State { plan: Box::new(plan), published: 0, late: Vec::new() };
        Self { inner: inner.connect(), state: Mutex::new(state) }
    }

    /// The number of published messages.
    pub(super) fn published(&self) -> usize {
        self.state.lock().unwrap().published
    }

    /// The messages to publish in place of this one.
    fn apply_fault(&self, message: Message) -> Result<Vec<Message>, PublishError> {
        let mut state = self.state.lock().unwrap();
        let number = state.published;
        state.published += 1;
        let fault = (state.plan)(number, &message);
        let late = std::mem::take(&mut state.late);
        let mut messages = match fault {
            Fault::None => vec![message],
            Fault::Lost => vec![],
            Fault::Twice => vec![message.clone(), message],
            Fault::Late => {
                state.late.push(message);
                vec![]
            }
            Fault::Unconfirmed => return Err(PublishError::Unconfirmed { key: message.key }),
            Fault::Changed(body) => vec![Message { body, ..message }],
        };
        messages.extend(late);
        Ok(messages)
    }
}

#[async_trait]
impl Broker for FaultyBroker {
    async fn declare_exchange(&self, exchange: &Exchange) -> Result<(), DeclareError> {
        self.inner.declare_exchange(exchange).await
    }

    async fn declare_queue(&self, queue: &Queue) -> Result<(), DeclareError> {
        self.inner.declare_queue(queue).await
    }

    async fn bind(&self, binding: &Binding) -> Result<(), DeclareError> {
        self.inner.bind(binding).await
    }

    async fn unbind(&self, binding: &Binding) -> Result<(), DeclareError> {
        self.inner.unbind(binding).await
    }

    async fn delete_queue(&self, name: &str) -> Result<(), DeclareError> {
        self.inner.delete_queue(name).await
    }

    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        for message in self.apply_fault(message)? {
            self.inner.publish(message).await?;
        }
        Ok(())
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Consumer, ConsumeError> {
        self.inner.consume(queue, prefetch).await
    }

    async fn waiting(&self, queue: &str) -> Result<Option<u64>, DeclareError> {
        self.inner.waiting(queue).await
    }

    async fn consumers(&self, queue: &str) -> Result<Option<u64>, DeclareError> {
        self.inner.consumers(queue).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
