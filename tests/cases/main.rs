//! What needs more than one crate, a real broker, or the binary.

mod amqp;
mod architecture;
mod cli;
mod guests;
mod worker;
