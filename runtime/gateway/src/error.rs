//! Why there is no response.

use std::{error::Error, io, time::Duration};

use flow::{AccessDenial, Size};
use serde::{Deserialize, Serialize};

/// Why a request has no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum HttpError {
    /// The flow or the operator does not allow the request.
    #[error("{0}")]
    Denied(String),
    /// A secret that the request contains has no value now.
    #[error("the secret {name} has no value: {reason}")]
    Secret {
        /// Its name.
        name: String,
        /// The reason.
        reason: String,
    },
    /// The name of the host has no address, or the addresses cannot be looked up.
    #[error("the host {host} has no address: {reason}")]
    NoAddress {
        /// The name of the host.
        host: String,
        /// The reason.
        reason: String,
    },
    /// There is no connection.
    #[error("no connection: {reason}")]
    Connect {
        /// The reason.
        reason: String,
    },
    /// The server has no certificate that is valid for its name and trusted here.
    #[error("TLS failed: {reason}")]
    Tls {
        /// The reason.
        reason: String,
    },
    /// The server did not answer, or stopped in the middle of its response.
    #[error("no answer for {after:?}")]
    Timeout {
        /// The timeout.
        after: Duration,
    },
    /// The requests and responses of the call are larger than its limit.
    #[error("the requests and responses of the call are larger than the limit `http_bytes` of {} allows", Size(*.limit))]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The call has too many unanswered requests.
    #[error("the call has {limit} requests without a response, and may have no more")]
    TooMany {
        /// The maximum number.
        limit: usize,
    },
    /// The connection was lost, or the server did not speak HTTP.
    #[error("the exchange failed: {reason}")]
    Protocol {
        /// The reason.
        reason: String,
    },
}

impl From<AccessDenial> for HttpError {
    fn from(denial: AccessDenial) -> Self {
        Self::Denied(denial.to_string())
    }
}

impl HttpError {
    /// The error with another text for the parts that others may have written.
    pub(crate) fn map_texts(self, text: impl Fn(String) -> String) -> Self {
        match self {
            Self::Denied(reason) => Self::Denied(text(reason)),
            Self::Secret { name, reason } => Self::Secret { name, reason: text(reason) },
            Self::NoAddress { host, reason } => Self::NoAddress { host: text(host), reason: text(reason) },
            Self::Connect { reason } => Self::Connect { reason: text(reason) },
            Self::Tls { reason } => Self::Tls { reason: text(reason) },
            Self::Protocol { reason } => Self::Protocol { reason: text(reason) },
            error @ (Self::Timeout { .. } | Self::TooLarge { .. } | Self::TooMany { .. }) => error,
        }
    }

    /// What an error means that prevented a connection.
    pub(crate) fn of_connect(error: &(dyn Error + 'static)) -> Self {
        Self::of(error, |reason| Self::Connect { reason })
    }

    /// What an error of a connection means.
    pub(crate) fn of_exchange(error: &(dyn Error + 'static)) -> Self {
        Self::of(error, |reason| Self::Protocol { reason })
    }

    fn of(error: &(dyn Error + 'static), other: impl FnOnce(String) -> Self) -> Self {
        if let Some(known) = chain(error).find_map(find::<Self>) {
            return known.clone();
        }
        let reason = chain(error).last().map_or_else(String::new, without_debug_data);
        match chain(error).any(|cause| find::<rustls::Error>(cause).is_some()) {
            true => Self::Tls { reason },
            false => other(reason),
        }
    }
}

/// The text of an error. A server of HTTP/2 may send any text when it closes the connection, and the library appends it, as it writes
/// bytes: such a text may contain a secret in a form that nobody searches for.
fn without_debug_data(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    let own = text.split_once(" (b\"").map(|(own, _)| own.to_owned());
    own.unwrap_or(text)
}

/// An error and its causes, the nearest first.
fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

/// The error itself, or one inside an error of the operating system: that does not name it as its cause.
fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let inner = || error.downcast_ref::<io::Error>()?.get_ref().and_then(|inner| find(inner));
    error.downcast_ref().or_else(inner)
}
