//! HTTP requests and their responses in messages: a child has no network, so its parent sends its requests.

use std::{io, time::Duration};

use bytes::Bytes;
use flow::HttpTarget;
use gateway::{HttpError, HttpRequest, HttpResponse, Timeouts};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::{ExchangeNumber, Tag, invalid, json};

/// A request; its body is that of the message.
#[derive(Serialize, Deserialize)]
struct RequestHead {
    method: String,
    scheme: String,
    authority: String,
    path_with_query: String,
    headers: Vec<(String, Vec<u8>)>,
    response_timeout: Option<Duration>,
    between_bytes_timeout: Option<Duration>,
}

/// A response, or why there is none; the body is that of the message.
#[derive(Serialize, Deserialize)]
enum ResponseHead {
    Response { status: u16, headers: Vec<(String, Vec<u8>)> },
    Failed(HttpError),
}

/// The message with which a child asks its parent to send a request.
pub(in crate::isolation) fn encode_request(exchange: ExchangeNumber, request: &HttpRequest) -> io::Result<Vec<u8>> {
    let HttpRequest { target, headers, body, timeouts: Timeouts { response, between_bytes } } = request;
    let url = target.url();
    let query = url.query().map(|query| format!("?{query}"));
    let head = RequestHead {
        method: target.method().to_owned(),
        scheme: url.scheme().to_owned(),
        authority: url.authority().to_owned(),
        path_with_query: format!("{}{}", url.path(), query.unwrap_or_default()),
        headers: headers_to_wire(headers),
        response_timeout: *response,
        between_bytes_timeout: *between_bytes,
    };
    exchange.message(Tag::HttpRequest, &head, &[body])
}

/// Decodes a request of a child, which may be hostile.
pub(super) fn decode_request(head: &[u8], body: Vec<u8>) -> io::Result<HttpRequest> {
    let head: RequestHead = json(head)?;
    let target = HttpTarget::new(&head.method, &head.scheme, &head.authority, &head.path_with_query);
    Ok(HttpRequest {
        target: target.map_err(|error| invalid(&error.to_string()))?,
        headers: headers_from_wire(head.headers)?,
        body: Bytes::from(body),
        timeouts: Timeouts { response: head.response_timeout, between_bytes: head.between_bytes_timeout },
    })
}

/// The message with which a parent answers.
pub(in crate::isolation) fn encode_response(
    exchange: ExchangeNumber,
    response: Result<HttpResponse, HttpError>,
) -> io::Result<Vec<u8>> {
    match response {
        Ok(HttpResponse { status, headers, body }) => {
            let head = ResponseHead::Response { status: status.as_u16(), headers: headers_to_wire(&headers) };
            exchange.message(Tag::HttpResponse, &head, &[&body])
        }
        Err(error) => exchange.message(Tag::HttpResponse, &ResponseHead::Failed(error), &[]),
    }
}

/// Decodes the answer of the parent.
pub(in crate::isolation) fn decode_response(
    tag: Tag,
    head: &[u8],
    body: Vec<u8>,
) -> io::Result<Result<HttpResponse, HttpError>> {
    if tag != Tag::HttpResponse {
        return Err(invalid("another message than a response"));
    }
    match json(head)? {
        ResponseHead::Failed(error) => Ok(Err(error)),
        ResponseHead::Response { status, headers } => {
            let status = StatusCode::from_u16(status).map_err(|_| invalid("an invalid status"))?;
            Ok(Ok(HttpResponse { status, headers: headers_from_wire(headers)?, body: Bytes::from(body) }))
        }
    }
}

fn headers_to_wire(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

fn headers_from_wire(headers: Vec<(String, Vec<u8>)>) -> io::Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::try_from(name).map_err(|_| invalid("an invalid name of a header"))?;
        let value = HeaderValue::try_from(value).map_err(|_| invalid("an invalid header"))?;
        map.try_append(name, value).map_err(|_| invalid("too many headers"))?;
    }
    Ok(map)
}
