//! A broker with planned message faults.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use broker::{
    Broker, InProcess, Message, PublishError,
    lossy::{InterceptedBroker, PublishInterceptor},
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

/// A connection whose published messages have faults.
pub(super) type FaultyBroker = InterceptedBroker<InProcess, Faults>;

/// The planned faults.
pub(super) struct Faults(Mutex<State>);

struct State {
    plan: Box<Plan>,
    published: usize,
    late: Vec<Message>,
}

/// A new connection with planned faults.
pub(super) fn connect(
    broker: &InProcess,
    plan: impl FnMut(usize, &Message) -> Fault + Send + 'static,
) -> Arc<FaultyBroker> {
    let state = State { plan: Box::new(plan), published: 0, late: Vec::new() };
    Arc::new(InterceptedBroker::new(broker.connect(), Faults(Mutex::new(state))))
}

impl Faults {
    /// The number of published messages.
    pub(super) fn published(&self) -> usize {
        self.0.lock().unwrap().published
    }

    /// The messages to publish in place of this one.
    fn apply(&self, message: Message) -> Result<Vec<Message>, PublishError> {
        let mut state = self.0.lock().unwrap();
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
impl PublishInterceptor for Faults {
    async fn publish(&self, inner: &dyn Broker, message: Message) -> Result<(), PublishError> {
        for message in self.apply(message)? {
            inner.publish(message).await?;
        }
        Ok(())
    }
}
