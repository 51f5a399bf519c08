//! HTTP requests of a guest: `wasi:http`, of which every guest has the interfaces, and whose requests pass the gateway of the call.

mod bounded;
mod memory;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};
use flow::HttpTarget;
use gateway::{HttpError, HttpRequest, HttpResponse, MAX_CONCURRENT_REQUESTS, MAX_HEADERS_BYTES, Outbound, Timeouts};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Linker;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    p2::bindings::http as bindings,
};

use super::{HostState, denied::Denied};
use crate::call::Outside;
pub(super) use memory::HttpMemory;

use memory::HeldBody;

/// The maximum size of one write to the body of a request, in bytes. `wasmtime-wasi-http` keeps two writes that nobody has read.
const BODY_CHUNK_BYTES: usize = 64 << 10;
const BODY_CHUNKS: usize = 2;

/// The maximum number of bodies of a call that are not read to their end: those of requests on their way, and as many of requests that
/// are not sent yet.
const MAX_UNREAD_BODIES: usize = 2 * MAX_CONCURRENT_REQUESTS;

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
    /// The places of bodies that are not read to their end.
    unread: Arc<Semaphore>,
    memory: HttpMemory,
    denied: Denied,
}

/// The place of a body that is not read to its end.
struct UnreadBody {
    _place: OwnedSemaphorePermit,
    _held: HeldBody,
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
            unread: Arc::new(Semaphore::new(MAX_UNREAD_BODIES)),
            memory: HttpMemory::default(),
            denied,
        };
        Self { context, requests }
    }

    /// What requests and responses have in memory.
    pub(super) fn memory(&self) -> &HttpMemory {
        &self.requests.memory
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
        let (bodies, memory, denied) = (self.bodies.clone(), self.memory.clone(), self.denied.clone());
        Box::new(async move {
            let (gateway, target, _place) = admitted?;
            let mut headers = head.headers;
            // The client takes it from the address.
            headers.remove(http::header::HOST);
            // Until the request is sent.
            let mut held = memory.hold(0);
            let (body, timeouts) = (bodies.read(body, &mut held).await?, timeouts(options));
            match gateway.send(HttpRequest { target, headers, body, timeouts }).await {
                Ok(response) => Ok((received(response, &memory), Box::new(async { Ok(()) }) as Io)),
                Err(HttpError::Denied(reason)) => Err(refuse(&denied, reason)),
                Err(error) => Err(to_guest(error)),
            }
        })
    }

    /// `wasmtime-wasi-http` adds one.
    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        BODY_CHUNKS - 1
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }
}

impl Requests {
    /// The place of a body that a guest is about to write. It holds what nobody has read, also if its request is never sent.
    ///
    /// # Errors
    /// When the call has too many: the guest is stopped.
    fn unread_body(&self) -> wasmtime::Result<UnreadBody> {
        let place = self.unread.clone().try_acquire_owned().map_err(|_| {
            wasmtime::Error::msg(format!(
                "it writes the bodies of more than {MAX_UNREAD_BODIES} HTTP requests at the same time: send a request, or drop it, \
                 before you make the next one"
            ))
        })?;
        Ok(UnreadBody { _place: place, _held: self.memory.hold((BODY_CHUNKS * BODY_CHUNK_BYTES) as u64) })
    }

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
    async fn read(&self, mut body: WasiBody, held: &mut HeldBody) -> Result<Bytes, Error> {
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            // Trailers are dropped: few servers read them.
            let Ok(part) = frame?.into_data() else { continue };
            let size = part.len() as u64;
            let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(size));
            taken.map_err(|_| Error::HttpRequestBodySize(None))?;
            held.grow(size);
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

fn received(HttpResponse { status, headers, body }: HttpResponse, memory: &HttpMemory) -> http::Response<WasiBody> {
    memory.add_received(&headers);
    let held = memory.hold(body.len() as u64);
    let body = keeping(Full::new(body).map_err(|never| match never {}).boxed_unsync(), held);
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A body that keeps something until it is dropped.
fn keeping(body: WasiBody, kept: impl Send + 'static) -> WasiBody {
    let keep = move |frame| {
        let _ = &kept;
        frame
    };
    body.map_frame(keep).boxed_unsync()
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
