//! The configuration of a server.

use std::net::SocketAddr;

use crate::{Tls, Token};

/// The configuration of a server.
pub struct Config {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The token that requests must carry, if any.
    pub token: Option<Token>,
    /// A token that allows requests for the metrics, and nothing else. The server knows it without the logbook.
    pub metrics_token: Option<Token>,
    /// The certificate with which connections are encrypted; without one they are not.
    pub tls: Option<Tls>,
    /// The maximum size of a request body, in bytes.
    pub max_request_bytes: u64,
    /// Whether the server also serves the dashboard.
    pub dashboard: bool,
}
