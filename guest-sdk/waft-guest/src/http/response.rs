//! A response.

use serde::de::DeserializeOwned;

use super::{Error, ErrorKind};

/// The maximum length of a body in an error, in bytes: enough to see what the server says.
const MAX_QUOTED_BYTES: usize = 500;

/// A response, with its whole body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The method and the address of its request.
    pub(super) request: String,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Response {
    /// A response for a test.
    #[must_use]
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { request: String::new(), status, headers: Vec::new(), body: body.into() }
    }

    /// Adds a header, for a test.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header with this name, in any case, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }

    /// The body.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.body
    }

    /// The response, if its status is a success (200 to 299).
    ///
    /// # Errors
    /// [`ErrorKind::Status`].
    pub fn success(self) -> Result<Self, Error> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let text = String::from_utf8_lossy(&self.body);
        let retry_after = self.header("retry-after").and_then(|seconds| seconds.trim().parse().ok());
        let body = text[..text.floor_char_boundary(MAX_QUOTED_BYTES)].trim().to_owned();
        Err(Error::new(ErrorKind::Status { status: self.status, retry_after, body }, self.request))
    }

    /// The body as text.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidResponse`] when it is not UTF-8.
    pub fn text(&self) -> Result<&str, Error> {
        let not_text = |error| self.invalid(format!("its body is not UTF-8: {error}"));
        std::str::from_utf8(&self.body).map_err(not_text)
    }

    /// A value from the body, which is JSON.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidResponse`] when it is not JSON of this form.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| self.invalid(format!("its JSON: {error}")))
    }

    fn invalid(&self, reason: String) -> Error {
        Error::new(ErrorKind::InvalidResponse(reason), self.request.clone())
    }
}

pub(super) fn find_header<'h>(headers: &'h [(String, Vec<u8>)], name: &str) -> Option<&'h str> {
    let (_, value) = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(value).ok()
}
