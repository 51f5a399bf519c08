//! The gateway of a worker, and what one call may send through it.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use credentials::{ClientTls, FileError};
use flow::{AccessDenial, CallAccess, HttpTarget, Namespace, Reach};
use futures::future::BoxFuture;
use http::{HeaderValue, StatusCode, Version, header};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::{
    HttpError, HttpRequest, HttpResponse, LookupShare, Outbound, Rules, Timeouts, UsedSecrets,
    budget::Budget,
    clients::{Client, ClientRequest, ClientResponse, Clients},
    headers,
    idle::IdleConnections,
    lookups::Lookups,
    redaction::TooLong,
    secrets::{Context, FetchedValues},
    trace_hosts::TraceHosts,
};

/// The maximum number of requests of one call that have no response yet.
pub const MAX_CONCURRENT_REQUESTS: usize = 16;

/// The maximum length of an address with its secrets, in bytes. Servers refuse longer ones.
const MAX_ADDRESS_BYTES: usize = 16 << 10;

/// The maximum size of what a server that an operator names sends for one value, in bytes: more than the largest answer.
pub(crate) const MAX_OPERATOR_BYTES: u64 = 2 << 20;

/// A longer body is searched for secrets on a thread that may block, in bytes.
const LONG_BODY_BYTES: usize = 64 << 10;

/// Sends the requests of all calls of a worker.
#[derive(Debug)]
pub struct Gateway {
    tls: ClientTls,
    /// Opened for the first request: few workers send any.
    clients: OnceCell<Clients>,
    /// The lookups of all calls, also for their sockets.
    lookups: Arc<Lookups>,
    /// The values of secrets that were fetched, for all calls.
    fetched: FetchedValues,
    /// The hosts whose requests name the trace of their call.
    trace_hosts: TraceHosts,
}

/// Sends the requests of one call, as far as it may.
#[derive(Debug, Clone)]
pub struct CallGateway {
    gateway: Arc<Gateway>,
    namespace: Option<Namespace>,
    idle: IdleConnections,
    access: Arc<CallAccess>,
    /// The rules when the call started.
    rules: Arc<Rules>,
    /// The values of secrets that the call has used so far.
    used: UsedSecrets,
    budget: Arc<Budget>,
    concurrent: Arc<Semaphore>,
    /// The header `traceparent` for the hosts that receive it.
    traceparent: Option<HeaderValue>,
}

/// Denies every request of a call, with the reason: where an operator grants nothing, there is no gateway.
#[derive(Debug)]
pub struct Closed(pub Arc<CallAccess>);

impl Gateway {
    /// Creates a gateway that trusts these authorities.
    #[must_use]
    pub fn new(tls: ClientTls) -> Self {
        Self {
            tls,
            clients: OnceCell::new(),
            lookups: Arc::default(),
            fetched: FetchedValues::default(),
            trace_hosts: TraceHosts::default(),
        }
    }

    /// Tells these hosts which trace a request of a call belongs to.
    #[must_use]
    pub fn with_trace_hosts(self, trace_hosts: TraceHosts) -> Self {
        Self { trace_hosts, ..self }
    }

    /// Reads the certificates that this machine trusts, unless it has read them. Without it, the first request does.
    ///
    /// # Errors
    /// [`FileError`] when they cannot be read.
    pub async fn open(&self) -> Result<(), FileError> {
        self.clients().await.map(|_| ())
    }

    /// What looks up hosts for the calls of a namespace.
    #[must_use]
    pub fn lookups(&self, namespace: Option<&Namespace>) -> LookupShare {
        self.lookups.of(namespace)
    }

    /// Sends a request of this process to a server that its operator names, such as that of a webhook; returns the status of the response.
    /// It follows no redirect. The server may send at most `max_bytes` before that.
    ///
    /// # Errors
    /// [`HttpError`] when there is no response; [`HttpError::Denied`] for an address that `reach` does not contain.
    pub async fn notify(&self, request: HttpRequest, reach: Reach, max_bytes: u64) -> Result<StatusCode, HttpError> {
        if let Some(address) = request.target.address().filter(|address| !reach.contains(*address)) {
            // Its path may be secret, as the query is.
            return Err(AccessDenial::PrivateAddress { tried: format!("a connection to {address}"), address }.into());
        }
        let limit = request.timeouts.response;
        let sent = async {
            let clients = self.clients().await.map_err(|error| HttpError::Tls { reason: error.to_string() })?;
            let response = clients.for_operator_within(reach, max_bytes).send(to_send(request)).await?;
            Ok(response.status)
        };
        within(limit, sent).await?
    }

    async fn clients(&self) -> Result<&Clients, FileError> {
        let open = || async {
            let tls = self.tls.clone();
            // Reading certificates blocks.
            let config = tokio::task::spawn_blocking(move || tls.config()).await;
            Ok(Clients::new(config.expect("reading certificates does not panic")?, self.lookups.clone()))
        };
        self.clients.get_or_try_init(open).await
    }

    /// What a call sends through the gateway. `rules` are those that were in use when the call started; `max_bytes` is the maximum size of all its requests and responses together, with
    /// their headers.
    #[must_use]
    pub fn for_call(
        self: &Arc<Self>,
        namespace: Option<Namespace>,
        access: Arc<CallAccess>,
        rules: Arc<Rules>,
        max_bytes: u64,
    ) -> CallGateway {
        self.fetched.remember_for(&rules);
        CallGateway {
            gateway: self.clone(),
            namespace,
            idle: IdleConnections::default(),
            access,
            rules,
            used: UsedSecrets::default(),
            budget: Arc::new(Budget::new(max_bytes)),
            concurrent: Arc::new(Semaphore::new(MAX_CONCURRENT_REQUESTS)),
            traceparent: None,
        }
    }
}

impl Outbound for CallGateway {
    fn check(&self, target: &HttpTarget) -> Result<(), String> {
        self.access.check_request(target).map_err(|denial| denial.to_string())
    }

    fn send(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpResponse, HttpError>> {
        let this = self.clone();
        Box::pin(async move {
            let sent = this.exchange(request).await;
            // A server can put what it has received into the errors of a connection.
            sent.map_err(|error| this.used.redact_error(error))
        })
    }
}

impl Outbound for Closed {
    fn check(&self, target: &HttpTarget) -> Result<(), String> {
        self.0.check_request(target).map_err(|denial| denial.to_string())?;
        Err("no guest has a network here".to_owned())
    }

    fn send(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpResponse, HttpError>> {
        let reason = self.check(&request.target).err().unwrap_or_default();
        Box::pin(async { Err(HttpError::Denied(reason)) })
    }
}

impl CallGateway {
    /// The values of secrets that the requests of the call have contained so far.
    #[must_use]
    pub fn used_secrets(&self) -> UsedSecrets {
        self.used.clone()
    }

    /// Lets the requests say which trace they belong to, to the hosts that the operator names. `traceparent` is the header.
    #[must_use]
    pub fn with_traceparent(self, traceparent: Option<&str>) -> Self {
        let is_told = !self.gateway.trace_hosts.is_empty();
        let traceparent = traceparent.filter(|_| is_told).and_then(|text| HeaderValue::from_str(text).ok());
        Self { traceparent, ..self }
    }

    async fn exchange(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Timeouts { response: limit, between_bytes } = request.timeouts;
        let target = request.target.clone();
        // Fetching its secrets is a part of the request.
        let begin = async {
            let (client, permit) = self.admit(&request).await?;
            self.insert_secrets(&mut request).await?;
            // It does not count for the budget: whether a call succeeds does not depend on its trace.
            if let Some(traceparent) = &self.traceparent {
                self.gateway.trace_hosts.add_to(&mut request, traceparent);
            }
            let response = client.send(to_send(request)).await?;
            Ok::<_, HttpError>((response, permit))
        };
        let (response, _permit) = within(limit, begin).await??;
        let response = self.receive(response, between_bytes).await?;
        // Other calls may have sent the server their secrets meanwhile.
        self.rules.secrets.note_known(&self.secret_context(), &target).await;
        let size_before = headers::size_on_wire(&response.headers) + response.body.len() as u64;
        let response = self.redacted(response).await?;
        let size = headers::size_on_wire(&response.headers) + response.body.len() as u64;
        self.budget.take(size.saturating_sub(size_before))?;
        headers::check_response_size(&response.headers)?;
        Ok(response)
    }

    /// A response without the values of secrets.
    async fn redacted(&self, mut response: HttpResponse) -> Result<HttpResponse, HttpError> {
        let (used, left) = (self.used.clone(), self.budget.left());
        let is_long = response.body.len() > LONG_BODY_BYTES && !used.is_empty();
        let redact = move || used.redact_response(&mut response, left).map(|()| response);
        let redacted = match is_long {
            true => tokio::task::spawn_blocking(redact).await.expect("redaction does not panic"),
            false => redact(),
        };
        redacted.map_err(|TooLong| self.budget.exceeded())
    }

    fn secret_context(&self) -> Context<'_> {
        Context { access: &self.access, fetched: &self.gateway.fetched, used: &self.used }
    }

    /// Replaces the secrets in a request by their values, and checks what it has become.
    async fn insert_secrets(&self, request: &mut HttpRequest) -> Result<(), HttpError> {
        let size_before = size_on_wire(request);
        let gateway = self.gateway.clone();
        let client = move || {
            let gateway = gateway.clone();
            async move {
                let clients = gateway.clients().await.map_err(|error| HttpError::Tls { reason: error.to_string() })?;
                Ok(clients.for_operator(MAX_OPERATOR_BYTES))
            }
        };
        self.rules.secrets.insert(&self.secret_context(), request, client).await?;
        self.budget.take(size_on_wire(request).saturating_sub(size_before))?;
        if !self.used.is_empty() || self.rules.secrets.may_be_in(&self.access, &request.target) {
            // A response in parts or compressed would show parts of the value, or all of it.
            for name in [header::RANGE, header::IF_RANGE, header::ACCEPT_ENCODING] {
                request.headers.remove(name);
            }
        }
        headers::check_request_size(&request.headers, &request.target)?;
        if request.target.url().as_str().len() > MAX_ADDRESS_BYTES {
            let reason = format!("with its secrets, its address is longer than {} KiB", MAX_ADDRESS_BYTES >> 10);
            return Err(HttpError::Denied(format!("the HTTP request {} is denied: {reason}", request.target)));
        }
        Ok(())
    }

    /// Checks a request; returns the client for it, and its place among the requests of the call.
    async fn admit(&self, request: &HttpRequest) -> Result<(Client, OwnedSemaphorePermit), HttpError> {
        self.access.check_request(&request.target)?;
        headers::check_names(&request.headers, &request.target)?;
        headers::check_request_size(&request.headers, &request.target)?;
        let too_many = |_| HttpError::TooMany { limit: MAX_CONCURRENT_REQUESTS };
        let permit = self.concurrent.clone().try_acquire_owned().map_err(too_many)?;
        self.budget.take(size_on_wire(request))?;
        let clients = self.gateway.clients().await;
        let clients = clients.map_err(|error| HttpError::Tls { reason: error.to_string() })?;
        let reach = self.access.reach(&request.target);
        Ok((clients.of_call(&self.idle, &self.budget, self.namespace.as_ref(), reach), permit))
    }

    async fn receive(
        &self,
        mut response: ClientResponse,
        between_bytes: Option<Duration>,
    ) -> Result<HttpResponse, HttpError> {
        let headers = std::mem::take(&mut response.headers);
        // The connection has counted its bytes. HTTP/2 compresses headers, so a few bytes may have become many.
        if response.version == Version::HTTP_2 {
            self.budget.take(headers::size_on_wire(&headers))?;
        }
        headers::check_response_size(&headers)?;
        let mut body = BytesMut::new();
        while let Some(part) = within(between_bytes, response.chunk()).await?? {
            body.extend_from_slice(&part);
        }
        Ok(HttpResponse { status: response.status, headers, body: body.freeze() })
    }
}

/// Waits for at most this time.
async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Result<T, HttpError> {
    match limit {
        None => Ok(work.await),
        Some(after) => tokio::time::timeout(after, work).await.map_err(|_| HttpError::Timeout { after }),
    }
}

fn to_send(HttpRequest { target, mut headers, body, timeouts: _ }: HttpRequest) -> ClientRequest {
    let method = http::Method::from_bytes(target.method().as_bytes()).expect("a target has a method of HTTP");
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(concat!("waft/", env!("CARGO_PKG_VERSION"))));
    // The guest wrote it before secrets were inserted, or wrongly: the client computes it.
    headers.remove(header::CONTENT_LENGTH);
    // Some servers want a length even of an empty body, where others are usual (RFC 9110, section 8.6).
    if body.is_empty() && matches!(target.method(), "POST" | "PUT" | "PATCH") {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    // A server that does not read the body takes it for the next request on the connection. HTTP/2, which has no such header, is not
    // mistaken there.
    if !body.is_empty() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    ClientRequest { method, url: target.url().clone(), headers, body }
}

/// The bytes of a request, about as HTTP/1.1 writes them.
fn size_on_wire(HttpRequest { target, headers, body, timeouts: _ }: &HttpRequest) -> u64 {
    (target.url().as_str().len() + body.len()) as u64 + headers::size_on_wire(headers)
}

#[cfg(test)]
mod tests;
