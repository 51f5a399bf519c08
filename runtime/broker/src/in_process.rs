//! The whole contract in memory: for a waft in one process, and for tests.
//!
//! There is no background task: each publish, settlement or cancellation also dispatches the deliveries that it enables. `in_process/queue.rs` holds waiting messages, `in_process/server.rs` routes them.

mod queue;
mod route;
mod server;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::task::coop;

use self::server::{Connection, Server};
use crate::{
    Binding, Broker, ConsumeError, Consumer, DeclareError, Delivery, Destination, Exchange, Message, MessageFilter,
    PublishError, Queue, QueueKind, TakeLimits, message_limits,
};

/// A broker in this process. Its clones share one connection; [`InProcess::connect`] opens another.
///
/// Nothing survives the process, so `persistent` has no effect here; `priority` has.
#[derive(Clone)]
pub struct InProcess {
    server: Arc<Server>,
    connection: Arc<Connection>,
    /// The maximum size of a message, in bytes.
    max_message_bytes: usize,
    /// Whether names, keys, ids and headers have the limits of waft's messages.
    checks_properties: bool,
}

impl InProcess {
    /// An empty broker, and the first connection to it.
    pub fn new() -> Self {
        let server = Arc::<Server>::default();
        let connection = server.connect();
        Self { server, connection, max_message_bytes: usize::MAX, checks_properties: true }
    }

    /// The same connection with a maximum message size, as some brokers have.
    #[must_use]
    pub fn with_max_message_bytes(self, max_message_bytes: usize) -> Self {
        Self { max_message_bytes, ..self }
    }

    /// The same connection with messages whose keys, ids and headers are as large as their sender likes: other clients of a broker may
    /// send larger headers than waft does.
    #[must_use]
    pub fn with_any_properties(self) -> Self {
        Self { checks_properties: false, ..self }
    }

    /// One more connection to the same broker: exclusive queues and unsettled deliveries belong to a connection.
    pub fn connect(&self) -> Self {
        Self {
            server: self.server.clone(),
            connection: self.server.connect(),
            max_message_bytes: self.max_message_bytes,
            checks_properties: self.checks_properties,
        }
    }
}

impl Default for InProcess {
    fn default() -> Self {
        Self::new()
    }
}

impl InProcess {
    /// All messages that wait in a queue or are delivered and unsettled, with the name of their queue: for tests that check
    /// for leftovers.
    #[must_use]
    pub fn messages(&self) -> Vec<(String, Message)> {
        self.server.messages()
    }

    fn check_open(&self) -> Result<(), DeclareError> {
        if self.connection.is_closed() { Err(DeclareError::Closed) } else { Ok(()) }
    }

    /// A binding with the name of its queue on the server.
    fn on_server(&self, binding: &Binding) -> Binding {
        let to = match &binding.to {
            Destination::Queue(name) => Destination::Queue(self.connection.queue_name(name)),
            Destination::Exchange(name) => Destination::Exchange(name.clone()),
        };
        Binding { to, ..binding.clone() }
    }
}

#[async_trait]
impl Broker for InProcess {
    async fn declare_exchange(&self, exchange: &Exchange) -> Result<(), DeclareError> {
        self.check_open()?;
        self.server.declare_exchange(exchange)
    }

    async fn declare_queue(&self, queue: &Queue) -> Result<(), DeclareError> {
        self.check_open()?;
        match queue.kind {
            QueueKind::Private => {
                self.connection.private().insert(queue.name.clone());
                let name = self.connection.queue_name(&queue.name);
                self.server.declare_queue(&self.connection, &Queue { name, kind: QueueKind::Private })
            }
            QueueKind::Quorum { .. }
            | QueueKind::Bounded { .. }
            | QueueKind::Exclusive
            | QueueKind::Transient { .. } => self.server.declare_queue(&self.connection, queue),
        }
    }

    async fn bind(&self, binding: &Binding) -> Result<(), DeclareError> {
        self.check_open()?;
        self.server.bind(&self.connection, &self.on_server(binding))
    }

    async fn unbind(&self, binding: &Binding) -> Result<(), DeclareError> {
        self.check_open()?;
        self.server.unbind(&self.on_server(binding));
        Ok(())
    }

    async fn delete_queue(&self, name: &str) -> Result<(), DeclareError> {
        self.check_open()?;
        let on_server = self.connection.queue_name(name);
        self.connection.private().remove(name);
        self.server.delete_queue(&self.connection, &on_server)
    }

    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        if self.connection.is_closed() {
            return Err(PublishError::Closed);
        }
        let size = message.body.len();
        let checked = match message_limits::check(&message) {
            Err(reason) if self.checks_properties => Err(reason),
            Ok(()) | Err(_) if size > self.max_message_bytes => {
                Err(format!("its {size} bytes are more than {}", self.max_message_bytes))
            }
            Ok(()) | Err(_) => Ok(()),
        };
        if let Err(reason) = checked {
            return Err(PublishError::TooLarge { exchange: message.exchange, key: message.key, reason });
        }
        let result = self.server.publish(message);
        // A task that only publishes must still yield to other tasks. This comes after the send, so that the order of sending is
        // the order of first polls.
        coop::consume_budget().await;
        result
    }

    async fn consume_filtered(
        &self,
        queue: &str,
        prefetch: u16,
        filter: MessageFilter,
    ) -> Result<Consumer, ConsumeError> {
        if self.connection.is_closed() {
            return Err(ConsumeError::Closed);
        }
        let consumer = self.server.consume(&self.connection, &self.connection.queue_name(queue), prefetch)?;
        // Its messages are in memory in any case.
        Ok(consumer.filtered(filter))
    }

    async fn take(&self, queue: &str, limits: TakeLimits) -> Result<Vec<Delivery>, ConsumeError> {
        // The messages are in memory in any case. Those that are fetched and not taken return to the queue.
        let prefetch = u16::try_from(limits.messages).unwrap_or(u16::MAX);
        let mut consumer = self.consume(queue, prefetch).await?;
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < limits.messages
            && bytes < limits.bytes
            && let Some(delivery) = consumer.try_next()
        {
            bytes += delivery.message.body.len();
            taken.push(delivery);
        }
        Ok(taken)
    }

    fn is_durable(&self) -> bool {
        false
    }

    async fn waiting(&self, queue: &str) -> Result<Option<u64>, DeclareError> {
        self.check_open()?;
        self.server.waiting(&self.connection, &self.connection.queue_name(queue))
    }

    async fn consumers(&self, queue: &str) -> Result<Option<u64>, DeclareError> {
        self.check_open()?;
        self.server.consumers(&self.connection, &self.connection.queue_name(queue))
    }

    async fn close(&self) {
        self.server.close(&self.connection);
    }
}
