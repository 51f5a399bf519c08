//! The project's commands, and what tests need too: guests as WebAssembly, a private RabbitMQ and a private PostgreSQL.
//!
//! This crate defines how the project is built, tested and demonstrated. It must not know what the runtime does, and its
//! dependencies must compile quickly. Start reading at `main.rs`; tests use [`guests`], [`rabbitmq`] and [`postgres`].

pub mod guests;
pub mod packages;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod project;
pub mod python;
pub mod python_tools;
pub mod rabbitmq;
pub mod tls;
