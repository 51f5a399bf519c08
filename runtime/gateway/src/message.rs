//! A request of a call and its response, and what sends one and receives the other.

use std::time::Duration;

use bytes::Bytes;
use flow::HttpTarget;
use futures::future::BoxFuture;
use http::HeaderMap;

use crate::HttpError;

/// A complete request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// The method and the address.
    pub target: HttpTarget,
    /// The headers, without those about the connection.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How long it may take.
    pub timeouts: Timeouts,
}

/// How long the parts of an exchange may take. The timeout of the call applies in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// Until the headers of the response are there, from the start: `None` means as long as the call.
    pub response: Option<Duration>,
    /// Between two parts of the body of the response: `None` means as long as the call.
    pub between_bytes: Option<Duration>,
}

/// A complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status.
    pub status: http::StatusCode,
    /// The headers, as the server sent them.
    pub headers: HeaderMap,
    /// The body, as the server sent it: a compressed one stays compressed.
    pub body: Bytes,
}

/// Sends the requests of one call.
pub trait Outbound: Send + Sync + std::fmt::Debug {
    /// Checks at once whether a request may be sent, as far as its target tells. [`Outbound::send`] checks it again.
    ///
    /// # Errors
    /// The reason, a sentence.
    fn check(&self, target: &HttpTarget) -> Result<(), String>;

    /// Checks and sends a request, and receives its response. Dropping the future closes the connection; the server may have
    /// handled the request all the same.
    fn send(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpResponse, HttpError>>;
}
