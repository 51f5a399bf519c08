//! The headers of requests and responses: which of them a guest may set, and how large they may be. A request may come from a child
//! process that a guest controls, so its headers are unchecked.

use flow::HttpTarget;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::HttpError;

/// The maximum size of the headers of one request or response in memory, in bytes. Servers accept a few kilobytes.
pub const MAX_HEADERS_BYTES: usize = 32 << 10;

/// The headers about the connection, which belongs to waft: they would let a guest divide the bytes on it differently from the server,
/// or name another host. Those that begin with `proxy-` are refused too. `content-length` is not refused: the client computes it.
const ABOUT_CONNECTION: [&str; 9] =
    ["connection", "expect", "host", "http2-settings", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// Checks that a guest may set the headers of a request.
pub(crate) fn check_names(headers: &HeaderMap, target: &HttpTarget) -> Result<(), HttpError> {
    let is_denied =
        |name: &&HeaderName| ABOUT_CONNECTION.contains(&name.as_str()) || name.as_str().starts_with("proxy-");
    match headers.keys().find(is_denied) {
        None => Ok(()),
        Some(name) => Err(HttpError::Denied(format!(
            "the header {name} of {target} is denied: it is about the connection, which waft makes; send the request without it"
        ))),
    }
}

/// Checks the size of the headers of a request.
pub(crate) fn check_request_size(headers: &HeaderMap, target: &HttpTarget) -> Result<(), HttpError> {
    if size_in_memory(headers) <= MAX_HEADERS_BYTES {
        return Ok(());
    }
    let reason = format!("its headers have more than {} KiB in memory", MAX_HEADERS_BYTES >> 10);
    Err(HttpError::Denied(format!("the HTTP request {target} is denied: {reason}")))
}

/// Checks the size of the headers of a response.
pub(crate) fn check_response_size(headers: &HeaderMap) -> Result<(), HttpError> {
    if size_in_memory(headers) <= MAX_HEADERS_BYTES {
        return Ok(());
    }
    let reason = format!("the headers of the response have more than {} KiB in memory", MAX_HEADERS_BYTES >> 10);
    Err(HttpError::Protocol { reason })
}

/// The bytes of headers, as HTTP/1.1 writes them.
pub(crate) fn size_on_wire(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len() + ": \r\n".len()) as u64).sum()
}

/// The bytes of headers in memory, as `wasmtime-wasi-http` counts those of a guest.
fn size_in_memory(headers: &HeaderMap) -> usize {
    let names = headers.keys().map(|name| name.as_str().len() + size_of::<HeaderName>());
    let values = headers.values().map(|value| value.len() + size_of::<HeaderValue>());
    names.chain(values).sum()
}
