//! HTTP requests of a guest: `wasi:http`, of which every guest has the interfaces, and whose requests pass the gateway of the call.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use flow::HttpTarget;
use gateway::{HttpError, HttpRequest, HttpResponse, Timeouts};
use http_body_util::{BodyExt as _, Full};
use wasmtime::component::Linker;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    p2::bindings::http as bindings,
};

use super::HostState;
use crate::call::Outside;

/// The HTTP of one call.
pub(super) struct Http {
    context: WasiHttpCtx,
    requests: Requests,
}

/// Sends the requests of one call.
struct Requests {
    outside: Outside,
    /// The maximum size of the body of a request.
    max_body: u64,
    /// Why the first denied request was denied. Requests go on in the background, so it is shared.
    denied: Denied,
}

/// Why the first denied request was denied.
type Denied = Arc<Mutex<Option<String>>>;

impl Http {
    pub(super) fn new(outside: &Outside, max_body: u64) -> Self {
        let requests = Requests { outside: outside.clone(), max_body, denied: Denied::default() };
        Self { context: WasiHttpCtx::new(), requests }
    }

    /// Why the first denied request was denied, if one was.
    pub(super) fn denied(&self) -> Option<String> {
        self.requests.denied.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
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
    bindings::types::add_to_linker::<_, WasiHttp>(linker, &options, HostState::http)
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sending = Box<dyn Future<Output = Result<(http::Response<WasiBody>, Io), Error>> + Send>;

impl WasiHttpHooks for Requests {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sending {
        let (outside, max_body, denied) = (self.outside.clone(), self.max_body, self.denied.clone());
        Box::new(async move {
            let (head, body) = request.into_parts();
            let uri = &head.uri;
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            let target = HttpTarget::new(head.method.as_str(), uri.scheme_str().unwrap_or_default(), authority, path);
            let target = target.map_err(|_| Error::HttpRequestUriInvalid)?;
            let deny = |reason: String| {
                denied.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
                Error::HttpRequestDenied
            };
            outside.access.check_request(&target).map_err(|denial| deny(denial.to_string()))?;
            let Some(gateway) = outside.gateway else {
                return Err(deny(format!("the HTTP request {target} is denied: no guest has a network here")));
            };
            let mut headers = head.headers;
            // The client takes it from the address.
            headers.remove(http::header::HOST);
            let timeouts = timeouts(options);
            let request = HttpRequest { target, headers, body: read(body, max_body).await?, timeouts };
            match gateway.send(request).await {
                Ok(response) => Ok((received(response), Box::new(async { Ok(()) }) as Io)),
                Err(HttpError::Denied(denial)) => Err(deny(denial.to_string())),
                Err(error) => Err(to_guest(error)),
            }
        })
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

/// Reads the whole body of a request, which the guest writes meanwhile.
async fn read(mut body: WasiBody, max: u64) -> Result<Bytes, Error> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Trailers are dropped: few servers read them.
        let Ok(part) = frame?.into_data() else { continue };
        if read.len() as u64 + part.len() as u64 > max {
            return Err(Error::HttpRequestBodySize(Some(max)));
        }
        read.extend_from_slice(&part);
    }
    Ok(read.freeze())
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
        error @ (HttpError::Protocol { .. } | HttpError::Secret { .. }) => {
            Error::InternalError(Some(error.to_string()))
        }
    }
}
