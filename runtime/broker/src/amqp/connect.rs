//! Opens one connection, and explains failures.

use std::{io, sync::Arc, time::Duration};

use credentials::FileError;
use futures::{AsyncRead, AsyncWrite};
use lapin::{
    Connection, ConnectionProperties, ErrorKind,
    tcp::{AMQPUriTcpExt as _, AsyncTcpStream, RustlsConnector, TLSConfig},
    uri::{AMQPScheme, AMQPUri},
};
use tokio::{task::spawn_blocking, time};

use super::{options::Endpoint, parameters::TlsOptions, refusal};

/// The time limit from the first packet to an open connection, if the address sets no `connection_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a connection could not be opened. No variant and no message holds the password.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is malformed.
    #[error("the broker's address cannot be used: {reason}")]
    BadUrl {
        /// The error.
        reason: String,
    },
    /// A file of trusted certificates, of this client's certificate or of its key cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nothing answers at the address.
    #[error("no broker answers at {address}; check that it runs and that this host and port are right")]
    Unreachable {
        /// Host and port.
        address: String,
        /// The operating system's error.
        source: Arc<io::Error>,
    },
    /// The broker does not answer in time.
    #[error("the broker at {address} did not answer within {limit:?}; check host and port, and firewalls between")]
    Silent {
        /// Host and port.
        address: String,
        /// The time limit.
        limit: Duration,
    },
    /// The TLS handshake failed.
    #[error(
        "the TLS handshake with {address} failed; check that this port uses TLS, that its certificate is trusted, and that \
         the broker accepts the certificate of this client (certfile) if it asks for one"
    )]
    Tls {
        /// Host and port.
        address: String,
        /// The TLS error.
        source: Arc<io::Error>,
    },
    /// The user or the password is wrong, or this user may not connect from this host.
    #[error(
        "the broker at {address} refused user {user:?} with this password; check both (by default, guest may connect only \
         from the broker's own machine)"
    )]
    Credentials {
        /// Host and port.
        address: String,
        /// The user.
        user: String,
    },
    /// The certificate of this client is no login.
    #[error(
        "the broker at {address} does not accept the certificate of this client as a login; check that it has the plugin \
         rabbitmq_auth_mechanism_ssl, and a user with the name in the certificate"
    )]
    CertificateLogin {
        /// Host and port.
        address: String,
    },
    /// The virtual host does not exist, or this user may not use it.
    #[error(
        "the broker at {address} has no virtual host {vhost:?} for user {user:?} ({reason}); check the path of the \
         address, or create the virtual host"
    )]
    VirtualHost {
        /// Host and port.
        address: String,
        /// The virtual host.
        vhost: String,
        /// The user.
        user: String,
        /// The broker's message.
        reason: String,
    },
    /// The connection ended early, or the other side is not an AMQP broker.
    #[error(
        "the connection to {address} ended before it was open; check that an AMQP 0.9.1 broker listens there, and \
         whether it requires amqps://"
    )]
    Interrupted {
        /// Host and port.
        address: String,
        /// The last error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Opens one connection.
pub(super) async fn connect(endpoint: &Endpoint) -> Result<Connection, ConnectError> {
    let encryption = Encryption::read(endpoint).await?;
    let properties = ConnectionProperties::default().with_connection_name(endpoint.name.as_str().into());
    let connection = async {
        let runtime = lapin::runtime::default_runtime()?;
        Connection::connector(
            unencrypted(endpoint),
            runtime,
            async move |uri, runtime| {
                let stream = uri.connect_with_config_async(TLSConfig::default(), &runtime).await?;
                Ok(encryption.encrypt(stream).await?)
            },
            properties,
        )
        .await
    };
    let limit = endpoint.uri.query.connection_timeout.map_or(CONNECT_TIMEOUT, Duration::from_millis);
    match time::timeout(limit, connection).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(explain(endpoint, error)),
        Err(_) => Err(ConnectError::Silent { address: endpoint.address(), limit }),
    }
}

/// The address of the endpoint, for a stream that [`Encryption`] encrypts: lapin would only add to the certificates that this
/// machine trusts, and would check no other name than that of the host.
pub(super) fn unencrypted(endpoint: &Endpoint) -> AMQPUri {
    AMQPUri { scheme: AMQPScheme::AMQP, ..endpoint.uri.clone() }
}

/// Encrypts a stream if the address says so.
pub(super) struct Encryption(Option<(RustlsConnector, String)>);

impl Encryption {
    /// Reads the certificates for each connection, so that a renewed file takes effect with the next connection.
    pub(super) async fn read(endpoint: &Endpoint) -> Result<Self, ConnectError> {
        let Some(TlsOptions { client, server_name }) = endpoint.tls.clone() else { return Ok(Self(None)) };
        match spawn_blocking(move || client.config()).await {
            Ok(config) => Ok(Self(Some((config?.into(), server_name)))),
            // The process ends.
            Err(error) => Err(ConnectError::Interrupted { address: endpoint.address(), source: Box::new(error) }),
        }
    }

    pub(super) async fn encrypt<Stream>(&self, stream: AsyncTcpStream<Stream>) -> io::Result<AsyncTcpStream<Stream>>
    where
        Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        match &self.0 {
            Some((connector, server_name)) => stream.into_rustls(connector, server_name).await,
            None => Ok(stream),
        }
    }
}

fn explain(endpoint: &Endpoint, error: lapin::Error) -> ConnectError {
    let address = endpoint.address();
    match error.kind() {
        ErrorKind::IOError(source) if is_specific(endpoint, source) => explain_io(endpoint, source.clone()),
        ErrorKind::ProtocolError(protocol_error) => match protocol_error.get_id() {
            refusal::ACCESS_REFUSED if endpoint.logs_in_with_certificate() => {
                ConnectError::CertificateLogin { address }
            }
            refusal::ACCESS_REFUSED => ConnectError::Credentials { address, user: endpoint.user().to_owned() },
            refusal::NOT_ALLOWED => ConnectError::VirtualHost {
                address,
                vhost: endpoint.uri.vhost.clone(),
                user: endpoint.user().to_owned(),
                reason: protocol_error.get_message().to_string(),
            },
            _ => ConnectError::Interrupted { address, source: Box::new(error) },
        },
        // lapin's enum of kinds is non-exhaustive.
        _ => ConnectError::Interrupted { address, source: Box::new(error) },
    }
}

/// Explains an error of the connection itself.
pub(super) fn explain_io(endpoint: &Endpoint, source: Arc<io::Error>) -> ConnectError {
    let address = endpoint.address();
    if endpoint.tls.is_some() && is_tls_error(&source) {
        ConnectError::Tls { address, source }
    } else if is_after_connect(&source) || source.kind() == io::ErrorKind::Other {
        ConnectError::Interrupted { address, source: Box::new(source) }
    } else {
        ConnectError::Unreachable { address, source }
    }
}

/// Whether an error gives a cause, and not only the end of the connection.
fn is_specific(endpoint: &Endpoint, error: &io::Error) -> bool {
    endpoint.tls.is_some() && is_tls_error(error) || !is_after_connect(error)
}

/// lapin reports its own kind of abort when the other side closes.
fn is_after_connect(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// rustls reports these kinds; TCP errors have other kinds.
fn is_tls_error(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof)
}
