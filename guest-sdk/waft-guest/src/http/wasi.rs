//! Sends requests by `wasi:http`.

use super::{Error, ErrorKind, Request, Response};
use bindings::wasi::{
    http::{
        outgoing_handler,
        types::{ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme},
    },
    io::streams::{InputStream, StreamError},
};

mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "http",
        generate_all,
    });
}

/// The bytes that a stream takes at once.
const WRITE_BYTES: usize = 4_096;

/// The bytes that are read at once.
const READ_BYTES: u64 = 64 << 10;

pub(super) fn send(request: &Request) -> Result<Response, Error> {
    exchange(request).map_err(|kind| request.error(kind))
}

fn exchange(request: &Request) -> Result<Response, ErrorKind> {
    let invalid = |reason: &str| ErrorKind::InvalidRequest(reason.to_owned());
    let fields = Fields::from_list(&request.headers).map_err(|error| invalid(&format!("a header: {error:?}")))?;
    let outgoing = OutgoingRequest::new(fields);
    let (scheme, rest) = request.url.split_once("://").ok_or_else(|| invalid("its address has no scheme"))?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        other => return Err(invalid(&format!("its scheme is {other:?}"))),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let body = outgoing.body().map_err(|()| invalid("it has no body"))?;
    outgoing.set_method(&method(&request.method)).map_err(|()| invalid("its method"))?;
    outgoing.set_scheme(Some(&scheme)).map_err(|()| invalid("its scheme"))?;
    outgoing.set_authority(Some(authority)).map_err(|()| invalid("its host"))?;
    outgoing.set_path_with_query(Some(&path)).map_err(|()| invalid("its path"))?;
    let options = request.timeout.map(|timeout| {
        let nanoseconds = Some(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        let options = RequestOptions::new();
        // A host without timeouts has that of the call.
        let _ = options.set_first_byte_timeout(nanoseconds);
        let _ = options.set_between_bytes_timeout(nanoseconds);
        options
    });
    let response = outgoing_handler::handle(outgoing, options).map_err(kind)?;
    // A host that has refused the request does not read its body, and its response says why.
    let written = write(body, &request.body);
    response.subscribe().block();
    let response = response.get().and_then(Result::ok).ok_or_else(|| ErrorKind::Exchange("no response".into()))?;
    let response = response.map_err(kind)?;
    written?;
    receive(request, &response)
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), ErrorKind> {
    let stream = body.write().map_err(|()| ErrorKind::Exchange("the body cannot be written".into()))?;
    for part in bytes.chunks(WRITE_BYTES) {
        stream.blocking_write_and_flush(part).map_err(|error| stream_kind(&error))?;
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(kind)
}

fn receive(request: &Request, response: &IncomingResponse) -> Result<Response, ErrorKind> {
    let lost = |()| ErrorKind::Exchange("the body of the response is gone".into());
    let incoming = response.consume().map_err(lost)?;
    let stream = incoming.stream().map_err(lost)?;
    let body = read(&stream)?;
    let (status, headers) = (response.status(), response.headers().entries());
    Ok(Response { request: request.describe(), status, headers, body })
}

fn read(stream: &InputStream) -> Result<Vec<u8>, ErrorKind> {
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(part) => body.extend(part),
            Err(StreamError::Closed) => return Ok(body),
            Err(error) => return Err(stream_kind(&error)),
        }
    }
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn stream_kind(error: &StreamError) -> ErrorKind {
    match error {
        StreamError::LastOperationFailed(error) => {
            let code = bindings::wasi::http::types::http_error_code(error);
            code.map_or_else(|| ErrorKind::Exchange("the connection was lost".into()), kind)
        }
        StreamError::Closed => ErrorKind::Exchange("the connection was closed".into()),
    }
}

fn kind(code: ErrorCode) -> ErrorKind {
    match code {
        ErrorCode::HttpRequestDenied => ErrorKind::Denied,
        ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestMethodInvalid | ErrorCode::HttpRequestUriTooLong => {
            ErrorKind::InvalidRequest("its method or address".into())
        }
        ErrorCode::HttpRequestBodySize(_) => {
            ErrorKind::InvalidRequest("the bodies of the requests are larger than http_bytes".into())
        }
        ErrorCode::DnsError(error) => ErrorKind::Unreachable(error.rcode.unwrap_or_else(|| "it has no address".into())),
        ErrorCode::ConnectionRefused => ErrorKind::Unreachable("there is no connection".into()),
        ErrorCode::TlsCertificateError => ErrorKind::Unreachable("its certificate is not valid or not trusted".into()),
        ErrorCode::HttpResponseTimeout => ErrorKind::Timeout,
        ErrorCode::HttpResponseBodySize(_) => {
            ErrorKind::InvalidResponse("the requests and responses of the call are larger than http_bytes".into())
        }
        ErrorCode::ConnectionLimitReached => ErrorKind::Exchange("too many requests at the same time".into()),
        ErrorCode::InternalError(Some(reason)) => ErrorKind::Exchange(reason),
        other => ErrorKind::Exchange(format!("{other:?}")),
    }
}
