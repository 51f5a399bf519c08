//! The project's commands, and the two things that tests need too: guests as WebAssembly, and a RabbitMQ of one's own.
//!
//! It owns how the project is built, tested and shown; it must not know what the runtime does, and it depends on nothing
//! that takes long to compile. Start reading at `main.rs`, or at [`guests`] and [`rabbitmq`] for what tests use.

pub mod guests;
pub mod openapi;
pub mod packages;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod project;
pub mod python;
pub mod rabbitmq;
