//! Counts the HTTP requests of a call, and records them with what the guest got, up to a limit.
//!
//! The recorder stands between the guest and the gateway. So it sees a request before the gateway inserts a secret, and a response
//! after the gateway has removed it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use flow::HttpTarget;
use futures::future::BoxFuture;
use gateway::{HttpError, HttpRequest, HttpResponse, Outbound};
use protocol::{
    HttpExchange, HttpExchanges, MAX_HTTP_RECORD_BYTES, RecordedAnswer, RecordedHttpFailure, RecordedRequest,
};

/// Sends the requests of one call through another gateway.
#[derive(Debug)]
pub(crate) struct HttpRecorder {
    inner: Arc<dyn Outbound>,
    noted: Arc<Mutex<Noted>>,
}

/// What was noted so far.
#[derive(Debug)]
struct Noted {
    counts: HttpCounts,
    record: Option<PartialRecord>,
}

/// The exchanges so far, and the bytes that may still follow.
#[derive(Debug)]
struct PartialRecord {
    exchanges: HttpExchanges,
    left: usize,
}

/// What the requests of a call have used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HttpCounts {
    pub(crate) requests: u64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
}

impl HttpRecorder {
    /// Counts and records.
    pub(crate) fn recording(inner: Arc<dyn Outbound>) -> Self {
        let record = PartialRecord { exchanges: HttpExchanges::default(), left: MAX_HTTP_RECORD_BYTES };
        Self::new(inner, Some(record))
    }

    /// Only counts.
    pub(crate) fn counting(inner: Arc<dyn Outbound>) -> Self {
        Self::new(inner, None)
    }

    fn new(inner: Arc<dyn Outbound>, record: Option<PartialRecord>) -> Self {
        Self { inner, noted: Arc::new(Mutex::new(Noted { counts: HttpCounts::default(), record })) }
    }

    /// What was counted and recorded so far; no exchanges if it only counts.
    pub(crate) fn take(&self) -> (HttpCounts, Option<HttpExchanges>) {
        let mut noted = lock(&self.noted);
        (noted.counts, noted.record.take().map(|record| record.exchanges))
    }
}

fn lock(noted: &Mutex<Noted>) -> MutexGuard<'_, Noted> {
    // A panic in another thread cannot leave it half changed: each change is one push or one assignment.
    noted.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbound for HttpRecorder {
    fn check(&self, target: &HttpTarget) -> Result<(), String> {
        self.inner.check(target).inspect_err(|reason| {
            let mut noted = lock(&self.noted);
            noted.counts.requests += 1;
            if let Some(record) = &mut noted.record
                && let Some(index) = record.begin(|| recorded_target(target))
            {
                record.end(index, RecordedAnswer::DeniedAtOnce(reason.clone()), Duration::ZERO);
            }
        })
    }

    fn send(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpResponse, HttpError>> {
        let index = {
            let mut noted = lock(&self.noted);
            noted.counts.requests += 1;
            noted.counts.request_bytes += request_size(&request);
            noted.record.as_mut().and_then(|record| record.begin(|| recorded_request(&request)))
        };
        let (sending, noted) = (self.inner.send(request), self.noted.clone());
        Box::pin(async move {
            let started = Instant::now();
            let result = sending.await;
            let mut noted = lock(&noted);
            noted.counts.response_bytes += result.as_ref().map_or(0, response_size);
            if let Some((record, index)) = noted.record.as_mut().zip(index) {
                record.end(index, recorded_answer(&result), started.elapsed());
            }
            result
        })
    }
}

impl PartialRecord {
    /// Adds a request; returns its index, or `None` once the record is cut.
    fn begin(&mut self, request: impl FnOnce() -> RecordedRequest) -> Option<usize> {
        if self.exchanges.cut {
            return None;
        }
        let request = request();
        if !self.take(request.size()) {
            return None;
        }
        self.exchanges.exchanges.push(HttpExchange { request, answer: RecordedAnswer::None, took: Duration::ZERO });
        Some(self.exchanges.exchanges.len() - 1)
    }

    /// Adds the answer of a recorded request. One that is too large is left out, and no request follows it.
    fn end(&mut self, index: usize, answer: RecordedAnswer, took: Duration) {
        if self.take(answer.size()) {
            let exchange = &mut self.exchanges.exchanges[index];
            (exchange.answer, exchange.took) = (answer, took);
        }
    }

    /// Takes bytes of those that are left, or cuts the record where they are too few.
    fn take(&mut self, size: usize) -> bool {
        match self.left.checked_sub(size) {
            Some(left) => self.left = left,
            None => {
                self.exchanges.cut = true;
                return false;
            }
        }
        true
    }
}

/// The form in which requests are compared and recorded: without the timeouts, which come from the guest's program.
pub(crate) fn recorded_request(request: &HttpRequest) -> RecordedRequest {
    let HttpRequest { target, headers, body, timeouts: _ } = request;
    RecordedRequest { headers: recorded_headers(headers), body: body.to_vec(), ..recorded_target(target) }
}

/// A request of which only the target is known.
fn recorded_target(target: &HttpTarget) -> RecordedRequest {
    let (method, url) = (target.method().to_owned(), target.url().to_string());
    RecordedRequest { method, url, headers: Vec::new(), body: Vec::new() }
}

/// The headers by name; several of one name stay in their order.
fn recorded_headers(headers: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    let pair =
        |(name, value): (&http::HeaderName, &http::HeaderValue)| (name.as_str().to_owned(), value.as_bytes().to_vec());
    let mut headers: Vec<_> = headers.iter().map(pair).collect();
    headers.sort_by(|(one, _), (other, _)| one.cmp(other));
    headers
}

fn recorded_answer(result: &Result<HttpResponse, HttpError>) -> RecordedAnswer {
    use RecordedHttpFailure as Failure;
    RecordedAnswer::Failed(match result {
        Ok(HttpResponse { status, headers, body }) => {
            let (status, headers) = (status.as_u16(), recorded_headers(headers));
            return RecordedAnswer::Response { status, headers, body: body.to_vec() };
        }
        Err(HttpError::Denied(reason)) => Failure::Denied(reason.clone()),
        Err(HttpError::Secret { name, reason }) => Failure::Secret { name: name.clone(), reason: reason.clone() },
        Err(HttpError::NoAddress { host, reason }) => Failure::NoAddress { host: host.clone(), reason: reason.clone() },
        Err(HttpError::Connect { reason }) => Failure::Connect(reason.clone()),
        Err(HttpError::Tls { reason }) => Failure::Tls(reason.clone()),
        Err(HttpError::Timeout { after }) => Failure::Timeout(*after),
        Err(HttpError::TooLarge { limit }) => Failure::TooLarge(*limit),
        Err(HttpError::TooMany { limit }) => Failure::TooMany(*limit as u64),
        Err(HttpError::Protocol { reason }) => Failure::Protocol(reason.clone()),
    })
}

/// What the guest got, from its record.
///
/// # Errors
/// What the guest got in place of a response; `None` if nothing was recorded.
pub(crate) fn replayed_answer(answer: RecordedAnswer) -> Option<Result<HttpResponse, HttpError>> {
    use RecordedHttpFailure as Failure;
    Some(Err(match answer {
        RecordedAnswer::Response { status, headers, body } => return Some(response(status, headers, body)),
        RecordedAnswer::None => return None,
        RecordedAnswer::DeniedAtOnce(reason) | RecordedAnswer::Failed(Failure::Denied(reason)) => {
            HttpError::Denied(reason)
        }
        RecordedAnswer::Failed(Failure::Secret { name, reason }) => HttpError::Secret { name, reason },
        RecordedAnswer::Failed(Failure::NoAddress { host, reason }) => HttpError::NoAddress { host, reason },
        RecordedAnswer::Failed(Failure::Connect(reason)) => HttpError::Connect { reason },
        RecordedAnswer::Failed(Failure::Tls(reason)) => HttpError::Tls { reason },
        RecordedAnswer::Failed(Failure::Timeout(after)) => HttpError::Timeout { after },
        RecordedAnswer::Failed(Failure::TooLarge(limit)) => HttpError::TooLarge { limit },
        RecordedAnswer::Failed(Failure::TooMany(limit)) => {
            HttpError::TooMany { limit: usize::try_from(limit).unwrap_or(usize::MAX) }
        }
        RecordedAnswer::Failed(Failure::Protocol(reason)) => HttpError::Protocol { reason },
    }))
}

/// A response, as far as a record has one: nothing in a record is trusted.
fn response(status: u16, headers: Vec<(String, Vec<u8>)>, body: Vec<u8>) -> Result<HttpResponse, HttpError> {
    let invalid = |what: &str| HttpError::Protocol { reason: format!("the recorded response has an invalid {what}") };
    let status = http::StatusCode::from_u16(status).map_err(|_| invalid("status"))?;
    let mut map = http::HeaderMap::new();
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("header"))?;
        map.append(name, http::HeaderValue::from_bytes(&value).map_err(|_| invalid("header"))?);
    }
    Ok(HttpResponse { status, headers: map, body: Bytes::from(body) })
}

fn request_size(request: &HttpRequest) -> u64 {
    let address = request.target.url().as_str().len() + request.target.method().len();
    (address + headers_size(&request.headers) + request.body.len()) as u64
}

fn response_size(response: &HttpResponse) -> u64 {
    (headers_size(&response.headers) + response.body.len()) as u64
}

/// The bytes of headers, as HTTP/1.1 writes them.
fn headers_size(headers: &http::HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}

#[cfg(test)]
mod tests;
