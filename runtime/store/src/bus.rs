//! Content over the broker: a worker that has only a broker's address asks the store of the engine that sent the job.
//!
//! The [`Client`] asks a queue for ranges of chunks and takes the answers on a queue of its own; the [`Server`] behind
//! the asked queue answers chunk by chunk. Neither trusts that a message arrives, once or in order: the client keeps a
//! window of chunks in flight, notes which have come, and asks again for what has not. So neither side, nor the
//! broker between them, holds more of a content on its way than the window. What has come is checked against the
//! digest before it is handed out. Start reading at `bus/fetch.rs`.

mod assembly;
mod client;
mod fetch;
mod recent;
mod server;

pub use client::Client;
pub use server::Server;

/// Why one end of the bus could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its queue could not be declared.
    #[error("could not declare the queue {queue:?}")]
    Declare {
        /// The queue.
        queue: String,
        /// What the broker says.
        source: broker::DeclareError,
    },
    /// Its queue could not be consumed.
    #[error("could not consume the queue {queue:?}")]
    Consume {
        /// The queue.
        queue: String,
        /// What the broker says.
        source: broker::ConsumeError,
    },
}

/// Why a store at the other end may not have what it was to keep.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The store said no.
    #[error("the store that answers on {queue:?} could not keep the value: {reason}")]
    NotStored {
        /// The queue.
        queue: String,
        /// The other end's words.
        reason: String,
    },
    /// There is no longer a queue to send it to.
    #[error("the engine that sent the job is gone: there is no queue {queue:?}")]
    EngineGone {
        /// The queue.
        queue: String,
    },
    /// It is larger than the broker takes.
    #[error("the value is larger than the broker takes: {reason}")]
    TooLarge {
        /// The broker's words.
        reason: String,
    },
    /// The other end said nothing for long.
    #[error("nobody has answered on {queue:?}")]
    TimedOut {
        /// The queue.
        queue: String,
    },
    /// This side of the bus is closed.
    #[error("the connection to the broker is closed")]
    Closed,
}

/// Declares a queue of one end and opens it.
async fn open(
    broker: &dyn broker::Broker,
    queue: &str,
    kind: broker::QueueKind,
    prefetch: u16,
) -> Result<broker::Consumer, StartError> {
    let declared = broker.declare_queue(&broker::Queue { name: queue.into(), kind }).await;
    declared.map_err(|source| StartError::Declare { queue: queue.into(), source })?;
    let consumer = broker.consume(queue, prefetch).await;
    consumer.map_err(|source| StartError::Consume { queue: queue.into(), source })
}

#[cfg(test)]
mod tests;
