//! HTTP requests of a guest: `wasi:http`, of which every guest has the interfaces, and whose requests pass the gateway of the call.

mod bounded;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};
use flow::HttpTarget;
use gateway::{HttpError, HttpRequest, HttpResponse, MAX_CONCURRENT_REQUESTS, MAX_HEADERS_BYTES, Outbound, Timeouts};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    p2::bindings::http as bindings,
};

use super::{HostState, denied::Denied};
use crate::call::Outside;

/// The HTTP of one call.
pub(super) struct Http {
    context: WasiHttpCtx,
    requests: Requests,
}

/// Sends the requests of one call.
struct Requests {
    gateway: Option<Arc<dyn Outbound>>,
    bodies: Bodies,
    /// The places of requests without a response.
    places: Arc<Semaphore>,
    denied: Denied,
}

/// The bytes that the bodies of all requests of the call may still have.
#[derive(Clone)]
struct Bodies(Arc<AtomicU64>);

impl Http {
    pub(super) fn new(outside: &Outside, max_bytes: u64, denied: Denied) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(MAX_HEADERS_BYTES);
        let requests = Requests {
            gateway: outside.gateway.clone(),
            bodies: Bodies(Arc::new(AtomicU64::new(max_bytes))),
            places: Arc::new(Semaphore::new(MAX_CONCURRENT_REQUESTS)),
            denied,
        };
        Self { context, requests }
    }
}

/// Notes why a request is denied.
fn refuse(denied: &Denied, reason: String) -> Error {
    denied.note(|| reason);
    Error::HttpRequestDenied
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let Http { context, requests } = &mut self.http;
        WasiHttpCtxView { hooks: requests, table: &mut self.table, ctx: context }
    }
}

/// Links the interfaces for outgoing requests.
pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let options = bindings::types::LinkOptions::default();
    bindings::outgoing_handler::add_to_linker::<_, WasiHttp>(linker, HostState::http)?;
    bindings::types::add_to_linker::<_, WasiHttp>(linker, &options, HostState::http)?;
    bounded::link(linker)
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sending = Box<dyn Future<Output = Result<(http::Response<WasiBody>, Io), Error>> + Send>;

impl WasiHttpHooks for Requests {
    /// Checks a request at once, so that a denial counts even if the guest does not wait for the response.
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sending {
        let (head, body) = request.into_parts();
        let admitted = self.admit(&head).and_then(|(gateway, target)| {
            let place = self.places.clone().try_acquire_owned().map_err(|_| Error::ConnectionLimitReached)?;
            Ok((gateway, target, place))
        });
        let (bodies, denied) = (self.bodies.clone(), self.denied.clone());
        Box::new(async move {
            let (gateway, target, _place) = admitted?;
            let mut headers = head.headers;
            // The client takes it from the address.
            headers.remove(http::header::HOST);
            let (body, timeouts) = (bodies.read(body).await?, timeouts(options));
            match gateway.send(HttpRequest { target, headers, body, timeouts }).await {
                Ok(response) => Ok((received(response), Box::new(async { Ok(()) }) as Io)),
                Err(HttpError::Denied(reason)) => Err(refuse(&denied, reason)),
                Err(error) => Err(to_guest(error)),
            }
        })
    }
}

impl Requests {
    /// What sends a request, and its target, if the call may send it.
    fn admit(&self, head: &http::request::Parts) -> Result<(Arc<dyn Outbound>, HttpTarget), Error> {
        let uri = &head.uri;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let target = HttpTarget::new(head.method.as_str(), uri.scheme_str().unwrap_or_default(), authority, path);
        let target = target.map_err(|error| refuse(&self.denied, error.to_string()))?;
        let Some(gateway) = self.gateway.clone() else {
            let reason = format!("the HTTP request {target} is denied: no guest has a network here");
            return Err(refuse(&self.denied, reason));
        };
        gateway.check(&target).map_err(|reason| refuse(&self.denied, reason))?;
        Ok((gateway, target))
    }
}

impl Bodies {
    /// Reads the whole body of a request, which the guest writes meanwhile.
    async fn read(&self, mut body: WasiBody) -> Result<Bytes, Error> {
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            // Trailers are dropped: few servers read them.
            let Ok(part) = frame?.into_data() else { continue };
            let size = part.len() as u64;
            let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(size));
            taken.map_err(|_| Error::HttpRequestBodySize(None))?;
            read.extend_from_slice(&part);
        }
        Ok(read.freeze())
    }
}

fn timeouts(options: Option<RequestOptions>) -> Timeouts {
    let Some(RequestOptions { connect_timeout, first_byte_timeout, between_bytes_timeout }) = options else {
        return Timeouts::default();
    };
    let response = match (connect_timeout, first_byte_timeout) {
        (Some(connect), Some(first_byte)) => Some(connect.saturating_add(first_byte)),
        (_, first_byte) => first_byte,
    };
    Timeouts { response, between_bytes: between_bytes_timeout }
}

fn received(HttpResponse { status, headers, body }: HttpResponse) -> http::Response<WasiBody> {
    let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The error code of WASI that is nearest. Its texts reach the guest, which may need them.
fn to_guest(error: HttpError) -> Error {
    match error {
        HttpError::Denied(_) => Error::HttpRequestDenied,
        HttpError::NoAddress { reason, .. } => Error::DnsError { rcode: Some(reason), info_code: None },
        HttpError::Connect { .. } => Error::ConnectionRefused,
        HttpError::Tls { .. } => Error::TlsCertificateError,
        HttpError::Timeout { .. } => Error::HttpResponseTimeout,
        HttpError::TooLarge { limit } => Error::HttpResponseBodySize(Some(limit)),
        HttpError::TooMany { .. } => Error::ConnectionLimitReached,
        HttpError::Protocol { reason } => Error::InternalError(Some(reason)),
        error @ HttpError::Secret { .. } => Error::InternalError(Some(error.to_string())),
    }
}
