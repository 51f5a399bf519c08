//! A broker with an interceptor for published messages: for tests that lose, delay, repeat or change them.

use async_trait::async_trait;

use crate::{
    Binding, Broker, ConsumeError, Consumer, DeclareError, Delivery, Exchange, Message, MessageFilter, PublishError,
    Queue, TakeLimits,
};

/// Intercepts the messages that are published through a broker.
#[async_trait]
pub trait PublishInterceptor: Send + Sync + 'static {
    /// Publishes a message through `inner`, or does something else instead.
    ///
    /// # Errors
    /// Those of `inner`, or an error that the interceptor makes up.
    async fn publish(&self, inner: &dyn Broker, message: Message) -> Result<(), PublishError>;
}

/// A connection whose published messages an interceptor receives. It counts as durable, as a real broker does.
#[derive(Debug)]
pub struct InterceptedBroker<B, I> {
    inner: B,
    interceptor: I,
}

impl<B: Broker, I: PublishInterceptor> InterceptedBroker<B, I> {
    /// Wraps a connection.
    #[must_use]
    pub const fn new(inner: B, interceptor: I) -> Self {
        Self { inner, interceptor }
    }

    /// The interceptor.
    #[must_use]
    pub const fn interceptor(&self) -> &I {
        &self.interceptor
    }
}

#[async_trait]
impl<B: Broker, I: PublishInterceptor> Broker for InterceptedBroker<B, I> {
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
        self.interceptor.publish(&self.inner, message).await
    }

    async fn consume_filtered(
        &self,
        queue: &str,
        prefetch: u16,
        filter: MessageFilter,
    ) -> Result<Consumer, ConsumeError> {
        self.inner.consume_filtered(queue, prefetch, filter).await
    }

    async fn take(&self, queue: &str, limits: TakeLimits) -> Result<Vec<Delivery>, ConsumeError> {
        self.inner.take(queue, limits).await
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
