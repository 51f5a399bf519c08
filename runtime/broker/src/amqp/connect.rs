//! Opens one connection, and explains failures.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use lapin::{Connection, ConnectionProperties, ErrorKind, tcp::OwnedTLSConfig};
use tokio::time;

use super::{options::Endpoint, refusal};

/// The time limit from the first packet to an open connection.
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
    /// The file of trusted certificates cannot be read.
    #[error("could not read the certificates in {}", path.display())]
    TlsCa {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Nothing answers at the address.
    #[error("no broker answers at {address}; check that it runs and that this host and port are right")]
    Unreachable {
        /// Host and port.
        address: String,
        /// The operating system's error.
        source: Arc<io::Error>,
    },
    /// The broker does not answer in time.
    #[error(
        "the broker at {address} did not answer within {} seconds; check host and port, and firewalls between",
        CONNECT_TIMEOUT.as_secs()
    )]
    Silent {
        /// Host and port.
        address: String,
    },
    /// The TLS handshake failed.
    #[error(
        "the TLS handshake with {address} failed; check that this port uses TLS and that its certificate is trusted"
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
    let tls = OwnedTLSConfig { identity: None, cert_chain: certificates(endpoint).await? };
    let properties = ConnectionProperties::default().with_connection_name(endpoint.name.as_str().into());
    let connection = async {
        let runtime = lapin::runtime::default_runtime()?;
        Connection::connect_uri_with_config(endpoint.uri.clone(), properties, tls, runtime).await
    };
    match time::timeout(CONNECT_TIMEOUT, connection).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(explain(endpoint, error)),
        Err(_) => Err(ConnectError::Silent { address: endpoint.address() }),
    }
}

/// Reads the certificates for each connection, so that a renewed file takes effect with the next connection.
pub(super) async fn certificates(endpoint: &Endpoint) -> Result<Option<String>, ConnectError> {
    let Some(path) = endpoint.tls_ca.as_ref().filter(|_| endpoint.uses_tls()) else {
        return Ok(None);
    };
    let unreadable = |source| ConnectError::TlsCa { path: path.clone(), source };
    let text = tokio::fs::read_to_string(path).await.map_err(unreadable)?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        let source = io::Error::new(io::ErrorKind::InvalidData, "it contains no certificate (PEM)");
        return Err(unreadable(source));
    }
    Ok(Some(text))
}

fn explain(endpoint: &Endpoint, error: lapin::Error) -> ConnectError {
    let address = endpoint.address();
    match error.kind() {
        ErrorKind::IOError(source) if is_specific(endpoint, source) => explain_io(endpoint, source.clone()),
        ErrorKind::ProtocolError(protocol_error) => match protocol_error.get_id() {
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
    if endpoint.uses_tls() && is_tls_error(&source) {
        ConnectError::Tls { address, source }
    } else if is_after_connect(&source) || source.kind() == io::ErrorKind::Other {
        ConnectError::Interrupted { address, source: Box::new(source) }
    } else {
        ConnectError::Unreachable { address, source }
    }
}

/// Whether an error gives a cause, and not only the end of the connection.
fn is_specific(endpoint: &Endpoint, error: &io::Error) -> bool {
    endpoint.uses_tls() && is_tls_error(error) || !is_after_connect(error)
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
