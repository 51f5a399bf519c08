//! Tests TLS with certificates of a private authority: to PostgreSQL, and to an AMQP broker.

mod amqp;
mod authority;
mod postgres;
