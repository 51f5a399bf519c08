//! A request.

use std::time::Duration;

use serde::Serialize;

use super::{Error, ErrorKind, Response};
use crate::Call;

/// A request, built step by step and sent with [`Request::send`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) timeout: Option<Duration>,
    /// Why it cannot be sent, if a step has failed.
    pub(super) invalid: Option<String>,
}

impl Request {
    /// A request with this method, such as `PATCH`.
    #[must_use]
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: None,
            invalid: None,
        }
    }

    /// A GET request.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// A POST request.
    #[must_use]
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// A PUT request.
    #[must_use]
    pub fn put(url: impl Into<String>) -> Self {
        Self::new("PUT", url)
    }

    /// A DELETE request.
    #[must_use]
    pub fn delete(url: impl Into<String>) -> Self {
        Self::new("DELETE", url)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds the header `authorization` with a bearer token, such as [`secret`](super::secret)`("LB_TOKEN")`.
    #[must_use]
    pub fn bearer(self, token: impl AsRef<str>) -> Self {
        self.header("authorization", format!("Bearer {}", token.as_ref()))
    }

    /// Adds the header `idempotency-key` with the key of the call, which is the same for each of its attempts: a server that
    /// supports such keys then does the work only once.
    #[must_use]
    pub fn idempotency_key(self, call: &Call) -> Self {
        self.header("idempotency-key", call.idempotency_key.as_bytes())
    }

    /// Sets the body.
    #[must_use]
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Sets the body to a value as JSON, and adds the header `content-type`.
    #[must_use]
    pub fn json(self, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.header("content-type", "application/json").body(body),
            Err(error) => Self { invalid: Some(format!("the body cannot be written as JSON: {error}")), ..self },
        }
    }

    /// Sets the maximum time until the response begins, and then between its parts. Without it, only the timeout of the call
    /// ends the request, and the task cannot react.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The first header with this name, in any case, if it is text.
    #[must_use]
    pub fn find_header(&self, name: &str) -> Option<&str> {
        super::response::find_header(&self.headers, name)
    }

    /// The body.
    #[must_use]
    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    /// Sends the request, and receives the whole response.
    ///
    /// # Errors
    /// [`Error`] when there is no response. A response with any status is one: [`Response::success`] checks it.
    pub fn send(self) -> Result<Response, Error> {
        if let Some(reason) = &self.invalid {
            return Err(self.error(ErrorKind::InvalidRequest(reason.clone())));
        }
        #[cfg(target_family = "wasm")]
        return super::wasi::send(&self);
        #[cfg(not(target_family = "wasm"))]
        super::test_answers::send(&self)
    }

    /// The method and the address without its query, a name and a password, which may contain a secret.
    pub(super) fn describe(&self) -> String {
        let address = self.url.split(['?', '#']).next().unwrap_or_default();
        let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit('@').next().unwrap_or_default();
        format!("{} {scheme}://{host}{path}", self.method)
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, self.describe())
    }
}
