//! The contract over AMQP 0.9.1, written for RabbitMQ.
//!
//! `sessions.rs` maintains a connection, `recorded_topology.rs` records the declarations to repeat on it, `publisher.rs` sends
//! messages, `consumer.rs` receives them, and `settler.rs` acknowledges them. lapin can recover a connection by itself, but that is off: nobody could then
//! tell which publish was confirmed and which delivery was lost.

mod channel;
mod connect;
mod consumer;
mod recorded_topology;
mod greeting;
mod options;
mod parameters;
mod private_names;
mod properties;
mod publisher;
mod refusal;
mod session;
mod sessions;
mod settler;
mod take;

use std::sync::Arc;

use async_trait::async_trait;
use lapin::{
    options::{ExchangeUnbindOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};

pub use self::{connect::ConnectError, greeting::Greeting, options::Options};
use self::{
    options::Endpoint,
    properties::check_name,
    publisher::Publisher,
    recorded_topology::Declaration,
    refusal::Refusal,
    session::Session,
    sessions::{OperationError, Sessions},
};
use crate::{
    Binding, Broker, ConsumeError, Consumer, DeclareError, Delivery, Destination, Exchange, Message, MessageFilter,
    PublishError, Queue, TakeLimits,
};

/// A connection to an AMQP broker that reconnects automatically. Dropping it closes it.
pub struct Amqp {
    sessions: Arc<Sessions>,
    publisher: Publisher,
}

impl Amqp {
    /// Connects. Only this first connection can fail: later losses lead to reconnects.
    pub async fn connect(options: Options) -> Result<Self, ConnectError> {
        let endpoint = Endpoint::parse(options)?;
        let connection = connect::connect(&endpoint).await?;
        let sessions = Arc::new(Sessions::start(Session::new(connection), endpoint));
        let publisher = Publisher::start(&sessions);
        Ok(Self { sessions, publisher })
    }

    /// Makes one declaration, and repeats it if the connection is lost before it is recorded.
    async fn declare(&self, declaration: Declaration) -> Result<(), DeclareError> {
        let what = declaration.to_string();
        for name in declaration.names() {
            check_name(name).map_err(|reason| DeclareError::Refused { what: what.clone(), reason })?;
        }
        loop {
            let result = self.sessions.operate(|channel| {
                let declaration = &declaration;
                async move { declaration.declare(&channel).await }
            });
            let ((), session) = match result.await {
                // Somebody has deleted this private queue, which is forgotten now: the broker gives the next one another name.
                Err(OperationError::Refused(refusal)) if declaration.is_private() && refusal.is_not_found() => continue,
                answer => answer.map_err(|error| declare_error(&what, error))?,
            };
            self.sessions.declared.record(&declaration);
            if !session.is_lost() {
                return Ok(());
            }
        }
    }
}

impl Drop for Amqp {
    fn drop(&mut self) {
        self.sessions.stop.cancel();
    }
}

fn declare_error(what: &str, error: OperationError) -> DeclareError {
    let what = what.to_owned();
    match error {
        OperationError::Closed => DeclareError::Closed,
        OperationError::Silent => DeclareError::TimedOut { what, seconds: session::OPERATION_TIMEOUT.as_secs() },
        OperationError::Refused(Refusal { code: refusal::PRECONDITION_FAILED, reason }) => {
            DeclareError::Mismatch { object: what, reason }
        }
        OperationError::Refused(Refusal { code: refusal::ACCESS_REFUSED, reason }) => {
            DeclareError::AccessRefused { what, reason }
        }
        OperationError::Refused(Refusal { reason, .. }) => DeclareError::Refused { what, reason },
    }
}

/// Maps a missing object to `None`, for operations on objects that may be missing.
fn ok_if_missing<T>(what: &str, result: Result<T, OperationError>) -> Result<Option<T>, DeclareError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(OperationError::Refused(refusal)) if refusal.is_not_found() => Ok(None),
        Err(error) => Err(declare_error(what, error)),
    }
}

impl Amqp {
    /// The broker's answer about a queue; `None` if the queue does not exist.
    async fn passive_declare(&self, queue: &str) -> Result<Option<lapin::Queue>, DeclareError> {
        if check_name(queue).is_err() {
            return Ok(None);
        }
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let result = self.sessions.operate(|channel| async move {
            channel.queue_declare(channel.queue_name(queue).into(), passive, FieldTable::default()).await
        });
        let answer = ok_if_missing(&format!("queue {queue:?}"), result.await)?;
        Ok(answer.map(|(queue, _)| queue))
    }
}

#[async_trait]
impl Broker for Amqp {
    async fn declare_exchange(&self, exchange: &Exchange) -> Result<(), DeclareError> {
        self.declare(Declaration::Exchange(exchange.clone())).await
    }

    async fn declare_queue(&self, queue: &Queue) -> Result<(), DeclareError> {
        self.declare(Declaration::Queue(queue.clone())).await
    }

    async fn bind(&self, binding: &Binding) -> Result<(), DeclareError> {
        self.declare(Declaration::Binding(binding.clone())).await
    }

    async fn unbind(&self, binding: &Binding) -> Result<(), DeclareError> {
        let declaration = Declaration::Binding(binding.clone());
        if declaration.names().into_iter().any(|name| check_name(name).is_err()) {
            return Ok(());
        }
        self.sessions.declared.remove_binding(binding);
        let Binding { exchange, key, to } = binding;
        let result = self.sessions.operate(|channel| async move {
            let (from, key, none) = (exchange.as_str().into(), key.as_str().into(), FieldTable::default());
            match to {
                Destination::Queue(to) => channel.queue_unbind(channel.queue_name(to).into(), from, key, none).await,
                Destination::Exchange(to) => {
                    let options = ExchangeUnbindOptions::default();
                    channel.exchange_unbind(to.as_str().into(), from, key, options, none).await
                }
            }
        });
        ok_if_missing(&declaration.to_string(), result.await)?;
        Ok(())
    }

    async fn delete_queue(&self, name: &str) -> Result<(), DeclareError> {
        if check_name(name).is_err() {
            return Ok(());
        }
        self.sessions.declared.remove_queue(name);
        let result = self.sessions.operate(|channel| async move {
            let deleted = channel.queue_delete(channel.queue_name(name).into(), QueueDeleteOptions::default()).await?;
            channel.private_names().remove(name);
            Ok(deleted)
        });
        ok_if_missing(&format!("queue {name:?}"), result.await)?;
        Ok(())
    }

    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.publisher.publish(message).await
    }

    async fn consume_filtered(
        &self,
        queue: &str,
        prefetch: u16,
        filter: MessageFilter,
    ) -> Result<Consumer, ConsumeError> {
        consumer::consume(&self.sessions, queue, prefetch, filter).await
    }

    async fn take(&self, queue: &str, limits: TakeLimits) -> Result<Vec<Delivery>, ConsumeError> {
        take::take(&self.sessions, queue, limits).await
    }

    fn connections(&self) -> u64 {
        self.sessions.connections()
    }

    async fn waiting(&self, queue: &str) -> Result<Option<u64>, DeclareError> {
        Ok(self.passive_declare(queue).await?.map(|queue| u64::from(queue.message_count())))
    }

    async fn consumers(&self, queue: &str) -> Result<Option<u64>, DeclareError> {
        Ok(self.passive_declare(queue).await?.map(|queue| u64::from(queue.consumer_count())))
    }

    async fn close(&self) {
        self.sessions.stop.cancel();
        self.sessions.tasks.close();
        self.sessions.tasks.wait().await;
    }
}
