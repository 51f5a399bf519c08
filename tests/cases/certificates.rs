//! Tests TLS with certificates of a private authority: to PostgreSQL, to an AMQP broker, and to a server.

mod amqp;
mod authority;
mod postgres;
mod server;
