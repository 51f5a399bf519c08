//! Makes connections to hosts: TCP to the addresses that a request may reach, and TLS.

use std::{sync::Arc, time::Duration};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio_rustls::TlsConnector;
use tower::ServiceExt as _;
use url::Url;

use crate::{
    HttpError,
    connection::Connection,
    meter::{Content, Meter, Metered},
    resolver::Resolver,
};

/// How long a connection may take, with the lookup of its host and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a connection is silent before the system asks whether the other end is still there, and then how often it asks.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// After this many questions without an answer, the connection is lost.
const KEEPALIVE_RETRIES: u32 = 3;

/// How long the other end may take nothing of what was sent.
#[cfg(target_os = "linux")]
const TAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// The protocol of a server that speaks HTTP/2, as TLS negotiates it.
const HTTP2: &[u8] = b"h2";

/// The protocols that TLS offers, the best first.
pub(crate) const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];

/// The part of an address that a connection serves: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    is_encrypted: bool,
    /// The host; an address of IPv6 has brackets.
    host: String,
    port: u16,
}

/// Makes connections for one reach.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: Arc<ClientConfig>,
    tcp: HttpConnector<Resolver>,
}

impl Origin {
    /// The origin of an address; `None` if it has no host, or neither HTTP nor HTTPS.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        let is_encrypted = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        Some(Self { is_encrypted, host: url.host_str()?.to_owned(), port: url.port_or_known_default()? })
    }

    fn uri(&self) -> Result<Uri, http::Error> {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        let authority = format!("{}:{}", self.host, self.port);
        Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build()
    }
}

impl Connector {
    pub(crate) fn new(tls: Arc<ClientConfig>, resolver: Resolver) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Divided among the addresses of a host: one that does not answer leaves time for the next.
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(TAKE_TIMEOUT));
        Self { tls, tcp }
    }

    /// Makes a connection, whose received bytes `meter` counts. Dropping the future closes it.
    ///
    /// # Errors
    /// The reason why there is none.
    pub(crate) async fn connect(&self, origin: &Origin, meter: Arc<Meter>) -> Result<Connection, HttpError> {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.open(origin, meter));
        let too_slow = |_| HttpError::Connect { reason: format!("it took more than {CONNECT_TIMEOUT:?}") };
        connecting.await.map_err(too_slow)?
    }

    async fn open(&self, origin: &Origin, meter: Arc<Meter>) -> Result<Connection, HttpError> {
        let uri = origin.uri().map_err(|error| HttpError::Connect { reason: error.to_string() })?;
        let tcp = self.tcp.clone().oneshot(uri).await.map_err(|error| HttpError::of_connect(&error))?;
        let tcp = Metered::new(tcp.into_inner(), meter.clone());
        if !origin.is_encrypted {
            return Connection::http1(Metered::new(Box::new(tcp) as Content, meter.clone()), meter).await;
        }
        let host = origin.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|error| HttpError::Tls { reason: error.to_string() })?;
        let tls = TlsConnector::from(self.tls.clone()).connect(name, tcp).await;
        let tls = tls.map_err(|error| HttpError::of_connect(&error))?;
        let is_http2 = tls.get_ref().1.alpn_protocol() == Some(HTTP2);
        let stream = Metered::new(Box::new(tls) as Content, meter.clone());
        match is_http2 {
            true => Connection::http2(stream, meter).await,
            false => Connection::http1(stream, meter).await,
        }
    }
}
