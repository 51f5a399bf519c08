//! The HTTP clients. Each sends the requests of one call, over connections that no other call uses and that end with the call.

use std::sync::Arc;

use bytes::Bytes;
use flow::{Namespace, Reach};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use rustls::ClientConfig;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::{
    HttpError,
    budget::Budget,
    connection::{Connection, SendError},
    connector::{Connector, Origin, PROTOCOLS},
    idle::{Destination, IdleConnections},
    lookups::Lookups,
    meter::Meter,
    resolver::Resolver,
};

/// Makes the clients of all calls.
#[derive(Debug)]
pub(crate) struct Clients {
    /// Its sessions are shared, so that a further connection to a server needs no full handshake.
    tls: Arc<ClientConfig>,
    lookups: Arc<Lookups>,
    /// The tasks that watch unused connections: each ends with its connection.
    watches: TaskTracker,
}

/// Sends requests of one call with one reach.
///
/// It follows no redirects, since the guest decides and its next request is checked; uses no proxy, which would look up the host itself;
/// and repeats no request, which may have had an effect.
pub(crate) struct Client {
    connector: Connector,
    reach: Arc<Reach>,
    idle: IdleConnections,
    /// What the call may still receive.
    budget: Arc<Budget>,
    watches: TaskTracker,
}

/// A request of a client.
pub(crate) struct ClientRequest {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// The headers, without `host` and `content-length`.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A response whose body is being received. Dropping it closes the connection.
pub(crate) struct ClientResponse {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// `None` after the end of the body.
    receiving: Option<Receiving>,
}

/// The rest of a response.
struct Receiving {
    body: Incoming,
    connection: Connection,
    sent: SentBody,
    destination: Destination,
    idle: IdleConnections,
    watches: TaskTracker,
}

/// Knows whether the body of a request is still in memory.
struct SentBody(Arc<()>);

impl Clients {
    pub(crate) fn new(mut tls: ClientConfig, lookups: Arc<Lookups>) -> Self {
        tls.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Self { tls: Arc::new(tls), lookups, watches: TaskTracker::new() }
    }

    /// The client of a call for requests with this reach. `idle` has the unused connections of the call.
    pub(crate) fn of_call(
        &self,
        idle: &IdleConnections,
        budget: &Arc<Budget>,
        namespace: Option<&Namespace>,
        reach: Reach,
    ) -> Client {
        let reach = Arc::new(reach);
        let resolver = Resolver { reach: reach.clone(), lookups: self.lookups.of(namespace) };
        self.client(resolver, reach, idle.clone(), budget.clone())
    }

    /// A client for the servers that an operator names: it may reach every address. It receives at most `max_bytes`.
    pub(crate) fn for_operator(&self, max_bytes: u64) -> Client {
        self.for_operator_within(Reach::everywhere(), max_bytes)
    }

    /// A client for the servers that an operator names, for requests with this reach.
    pub(crate) fn for_operator_within(&self, reach: Reach, max_bytes: u64) -> Client {
        let reach = Arc::new(reach);
        let resolver = Resolver { reach: reach.clone(), lookups: self.lookups.for_operator() };
        self.client(resolver, reach, IdleConnections::default(), Arc::new(Budget::new(max_bytes)))
    }

    fn client(&self, resolver: Resolver, reach: Arc<Reach>, idle: IdleConnections, budget: Arc<Budget>) -> Client {
        let connector = Connector::new(self.tls.clone(), resolver);
        Client { connector, reach, idle, budget, watches: self.watches.clone() }
    }
}

impl Client {
    /// Sends a request, and receives the head of its response. Dropping the future closes the connection.
    ///
    /// # Errors
    /// The reason why there is no response.
    pub(crate) async fn send(&self, mut request: ClientRequest) -> Result<ClientResponse, HttpError> {
        let invalid = || HttpError::Protocol { reason: "the address cannot be sent".to_owned() };
        let origin = Origin::of(&request.url).ok_or_else(invalid)?;
        let destination = Destination { origin, reach: self.reach.clone() };
        request.headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        let (sent, body) = SentBody::new(std::mem::take(&mut request.body));
        loop {
            let unused = self.idle.take(&destination).await;
            let is_reused = unused.is_some();
            let mut connection = match unused {
                Some(connection) => connection,
                None => {
                    let meter = Arc::new(Meter::new(self.budget.clone()));
                    self.connector.connect(&destination.origin, meter).await?
                }
            };
            let whole = request.with_body(body.clone(), connection.is_http2())?;
            let response = match connection.send(whole).await {
                Ok(response) => response,
                // The server has closed the connection while nobody used it.
                Err(SendError::NotSent(_)) if is_reused => continue,
                Err(SendError::NotSent(error) | SendError::Failed(error)) => return Err(error),
            };
            drop(body);
            let (head, body) = response.into_parts();
            let (idle, watches) = (self.idle.clone(), self.watches.clone());
            let receiving = Receiving { body, connection, sent, destination, idle, watches };
            return Ok(ClientResponse {
                status: head.status,
                version: head.version,
                headers: head.headers,
                receiving: Some(receiving),
            });
        }
    }
}

impl ClientRequest {
    /// The request as a connection takes it.
    fn with_body(&self, body: Bytes, is_http2: bool) -> Result<http::Request<Full<Bytes>>, HttpError> {
        let invalid =
            |error: http::Error| HttpError::Protocol { reason: format!("the address cannot be sent: {error}") };
        let url = &self.url;
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        // A name and password in the address are no part of it.
        let host = url.host_str().unwrap_or_default();
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let mut headers = self.headers.clone();
        let uri = if is_http2 {
            Uri::builder().scheme(url.scheme()).authority(authority).path_and_query(path).build().map_err(invalid)?
        } else {
            let authority = HeaderValue::try_from(authority).map_err(|error| invalid(error.into()))?;
            headers.insert(header::HOST, authority);
            Uri::from(PathAndQuery::try_from(path).map_err(|error| invalid(error.into()))?)
        };
        let mut request = http::Request::new(Full::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

impl ClientResponse {
    /// The next part of the body; `None` at its end. The headers after the body are dropped.
    ///
    /// # Errors
    /// The reason why the rest of the body does not come.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        while let Some(Receiving { body, connection, .. }) = &mut self.receiving {
            match connection.during(body.frame()).await {
                Some(Ok(frame)) => {
                    if let Ok(part) = frame.into_data() {
                        return Ok(Some(part));
                    }
                }
                Some(Err(error)) => {
                    let error = connection.error(&error);
                    self.receiving = None;
                    return Err(error);
                }
                None => {
                    // The library takes a reset without an error for the end of a body.
                    let is_cut = connection.is_http2() && !body.is_end_stream();
                    let cut = || HttpError::Protocol { reason: "the server ended the response early".to_owned() };
                    if let Some(failure) = connection.failure().or_else(|| is_cut.then(cut)) {
                        self.receiving = None;
                        return Err(failure);
                    }
                    if let Some(received) = self.receiving.take() {
                        received.end().await;
                    }
                }
            }
        }
        Ok(None)
    }
}

impl Receiving {
    /// Keeps the connection for the next request, if it can take one.
    async fn end(self) {
        let Self { body, mut connection, sent, destination, idle, watches } = self;
        drop(body);
        connection.advance().await;
        // A server that has answered before it had the whole body may never take the rest.
        if !sent.is_gone() {
            return;
        }
        connection.complete();
        if connection.is_ready() {
            idle.keep(destination, connection, &watches);
        }
    }
}

impl SentBody {
    /// What knows about a body, and the body.
    fn new(body: Bytes) -> (Self, Bytes) {
        /// Owns the body until its last part is dropped.
        struct Owner {
            body: Bytes,
            _alive: Arc<()>,
        }
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                &self.body
            }
        }
        let alive = Arc::new(());
        let sent = Self(alive.clone());
        match body.is_empty() {
            true => (sent, body),
            false => (sent, Bytes::from_owner(Owner { body, _alive: alive })),
        }
    }

    fn is_gone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}
