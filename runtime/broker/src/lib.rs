//! Exchanges, queues and deliveries: one trait with two brokers behind it.
//!
//! [`Broker`] is the contract and [`contract`] the suite that defines its meaning; [`InProcess`] and `Amqp` pass it alike.
//! This crate alone knows lapin, which the feature `amqp` links. It knows nothing of runs and tasks: its users define the
//! meaning of a body. Start reading at `broker.rs`.

// Printing panics when the reader has left; only the binary prints, and handles that.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod broker;
mod declare;
mod delivery;
mod message;
mod message_limits;
mod quarantine;
mod refusals;
mod request_ids;

#[cfg(feature = "amqp")]
mod amqp;
mod in_process;

pub mod contract;
pub mod lossy;
pub mod roles;
pub mod topology;

#[cfg(feature = "amqp")]
pub use amqp::{Amqp, ConnectError, Greeting, Options};
pub use broker::{Broker, ConsumeError, DeclareError, MessageFilter, PublishError, TakeLimits};
pub use declare::{Binding, Destination, Exchange, ExchangeKind, Queue, QueueKind};
pub use delivery::{Consumer, Delivery, DeliveryParts, Renewals, Settlement};
pub use in_process::InProcess;
pub use message::{DEATH_TIME, Message, Properties, Routing};
pub use quarantine::{quarantine, quarantined};
pub use refusals::Refusals;
pub use request_ids::RequestIds;
