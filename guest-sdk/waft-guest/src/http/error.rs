//! Why a request has no good response, and whether another attempt can succeed.

use std::fmt;

use crate::Failure;

/// Why a request has no response, or not the one that was wanted.
// It does not implement `std::error::Error`: such an error becomes a transient failure, and this one may be permanent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    /// The method and the address, without its query.
    request: String,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The flow does not ask for the request, or the operator does not grant it.
    Denied,
    /// The request itself is wrong: its address, a header, or what it is made from.
    InvalidRequest(String),
    /// There is no connection to the server.
    Unreachable(String),
    /// The server did not answer in time. It may have handled the request.
    Timeout,
    /// The exchange broke off.
    Exchange(String),
    /// The server answered with a status that is no success.
    Status {
        /// The status.
        status: u16,
        /// The seconds after which the server wants the next request.
        retry_after: Option<u64>,
        /// The start of the response.
        body: String,
    },
    /// The response is not what it should be, such as JSON of another form, or is larger than the limit `http_bytes` of the task allows.
    InvalidResponse(String),
}

impl Error {
    pub(super) fn new(kind: ErrorKind, request: impl Into<String>) -> Self {
        Self { kind, request: request.into() }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The status, if the server has answered with one that is no success.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self.kind {
            ErrorKind::Status { status, .. } => Some(status),
            _ => None,
        }
    }

    /// Whether another attempt can succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match &self.kind {
            ErrorKind::Unreachable(_) | ErrorKind::Timeout | ErrorKind::Exchange(_) => true,
            // Too early, too many requests, and what servers answer while they are in trouble.
            ErrorKind::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504),
            ErrorKind::Denied | ErrorKind::InvalidRequest(_) | ErrorKind::InvalidResponse(_) => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: ", self.request)?;
        match &self.kind {
            ErrorKind::Denied => out.write_str("the request is not allowed"),
            ErrorKind::InvalidRequest(reason) => write!(out, "the request is invalid: {reason}"),
            ErrorKind::Unreachable(reason) => write!(out, "the server is unreachable: {reason}"),
            ErrorKind::Timeout => out.write_str("the server did not answer in time"),
            ErrorKind::Exchange(reason) => write!(out, "the exchange failed: {reason}"),
            ErrorKind::Status { status, retry_after, body } => {
                write!(out, "the server answered with status {status}")?;
                if let Some(seconds) = retry_after {
                    write!(out, " and asks to wait for {seconds} s")?;
                }
                if body.is_empty() { Ok(()) } else { write!(out, ": {body}") }
            }
            ErrorKind::InvalidResponse(reason) => write!(out, "the response is invalid: {reason}"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        if error.is_transient() { Self::transient(message) } else { Self::permanent(message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Retryable,
        http::{self, Request, Response},
    };

    fn answered(response: Response) -> Result<Response, Error> {
        let answer = move |_: &Request| Ok(response.clone());
        http::answer_with(answer, || http::get("https://me:pw@a.example/x?token=1").and_then(Response::success))
    }

    #[test]
    fn a_status_says_whether_another_attempt_can_succeed() {
        assert_eq!(answered(Response::new(204, "")).unwrap().status(), 204);
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert!(answered(Response::new(status, "")).unwrap_err().is_transient(), "{status}");
        }
        for status in [199, 301, 400, 401, 404, 409, 501] {
            assert!(!answered(Response::new(status, "")).unwrap_err().is_transient(), "{status}");
        }
        let busy = Response::new(503, " it is busy\n").with_header("Retry-After", "30");
        let error = answered(busy).unwrap_err();
        assert_eq!(error.status(), Some(503));
        let failure = Failure::from(error);
        let expected =
            "GET https://a.example/x: the server answered with status 503 and asks to wait for 30 s: it is busy";
        assert_eq!((failure.retryable(), failure.message()), (Retryable::Transient, expected));
    }

    #[test]
    fn a_denied_or_invalid_request_is_permanent() {
        let failure = |kind: ErrorKind| Failure::from(Error::new(kind, "GET https://a.example/"));
        assert_eq!(failure(ErrorKind::Denied).retryable(), Retryable::Permanent);
        assert_eq!(failure(ErrorKind::Timeout).retryable(), Retryable::Transient);
        let unsent = Request::post("https://a.example/").json(&std::collections::BTreeMap::from([((1, 2), 3)])).send();
        let error = unsent.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidRequest(_)) && !error.is_transient(), "{error}");
        let not_json = Response::new(200, "{").json::<u8>().unwrap_err();
        assert!(matches!(not_json.kind(), ErrorKind::InvalidResponse(_)), "{not_json}");
    }

    #[test]
    fn outside_waft_nothing_is_sent() {
        let error = http::get("https://a.example/").unwrap_err();
        assert!(error.to_string().ends_with("in a test, call it inside http::answer_with"), "{error}");
    }
}
