//! Errors of requests to a server.

use api::Problem;

/// Why a request to a server failed. Each error names the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is invalid or unsupported.
    #[error("{url:?} is no server's address: {reason}")]
    Address {
        /// The address.
        url: String,
        /// Why the address is refused.
        reason: String,
    },
    /// A certificate, its key or the certificates of an authority cannot be used.
    #[error("cannot connect to {url} over TLS: {reason}")]
    Certificate {
        /// The address of the server.
        url: String,
        /// Which file cannot be used, and why.
        reason: String,
    },
    /// The server could not be reached, or its response is incomplete.
    #[error("could not reach the server {server}")]
    Unreachable {
        /// The server's address.
        server: String,
        /// The connection's error.
        source: reqwest::Error,
    },
    /// The server refused the request.
    #[error("the server {server} refused: {}", problem.message())]
    Refused {
        /// The server's address.
        server: String,
        /// The server's reason.
        problem: Box<Problem>,
    },
    /// The response does not come from waft.
    #[error("{server} does not answer as a waft server does: {reason}")]
    Unexpected {
        /// The server's address.
        server: String,
        /// What is unexpected.
        reason: String,
    },
}

impl ClientError {
    /// The HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { problem, .. } => Some(problem.status),
            Self::Address { .. } | Self::Certificate { .. } | Self::Unreachable { .. } | Self::Unexpected { .. } => {
                None
            }
        }
    }
}
