//! Content over the broker: a worker that has only a broker's address asks the store of the engine that sent the job.
//!
//! The [`Client`] requests ranges of chunks on a queue and receives the replies on its own queue. The [`Server`] behind the
//! request queue replies chunk by chunk. Messages may be lost, duplicated or reordered: the client keeps a window of chunks
//! in flight, records which arrived, and requests the missing ones again. So neither end nor the broker holds more of a
//! content in flight than the window. The client checks the content against the digest before it returns it. Start reading
//! at `bus/fetch.rs`.

mod assembly;
mod client;
mod fetch;
mod content_cache;
mod put_budget;
mod server;

pub use client::Client;
pub use server::Server;

/// Why one end of the bus could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Declaring the queue failed.
    #[error("could not declare the queue {queue:?}")]
    Declare {
        /// The queue.
        queue: String,
        /// The broker's error.
        source: broker::DeclareError,
    },
    /// Consuming the queue failed.
    #[error("could not consume the queue {queue:?}")]
    Consume {
        /// The queue.
        queue: String,
        /// The broker's error.
        source: broker::ConsumeError,
    },
}

/// Why the store at the other end may not have a content that was put.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The store could not store it.
    #[error("the store that answers on {queue:?} could not store the value: {reason}")]
    NotStored {
        /// The queue.
        queue: String,
        /// The other end's message.
        reason: String,
    },
    /// The store does not take content for this call.
    #[error("the store that answers on {queue:?} refuses the value: it was not sent for a job of the engine's logbook")]
    Refused {
        /// The queue.
        queue: String,
    },
    /// The queue no longer exists.
    #[error("the engine that sent the job has ended: there is no queue {queue:?}")]
    EngineGone {
        /// The queue.
        queue: String,
    },
    /// The content is larger than the broker allows.
    #[error("the value is larger than the broker allows: {reason}")]
    TooLarge {
        /// The broker's message.
        reason: String,
    },
    /// The other end did not reply in time.
    #[error("no store has answered on {queue:?}")]
    TimedOut {
        /// The queue.
        queue: String,
    },
    /// This side of the bus is closed.
    #[error("the connection to the broker is closed")]
    Closed,
}

/// Declares the queue of one end, binds it by its name to exchanges, and consumes it.
async fn open(
    broker: &dyn broker::Broker,
    queue: &str,
    kind: broker::QueueKind,
    exchanges: &[&str],
    prefetch: u16,
) -> Result<broker::Consumer, StartError> {
    let declared =
        broker::topology::declare_bound(broker, &broker::Queue { name: queue.into(), kind }, exchanges).await;
    declared.map_err(|source| StartError::Declare { queue: queue.into(), source })?;
    let consumer = broker.consume(queue, prefetch).await;
    consumer.map_err(|source| StartError::Consume { queue: queue.into(), source })
}

#[cfg(test)]
mod tests;
