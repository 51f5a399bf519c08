//! TLS to the server: which certificates are trusted, and which certificate is shown to the server.

use std::{net::IpAddr, path::PathBuf};

use credentials::{ClientTls, Identity, Trust};
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How a connection is encrypted: the parameters of the address that begin with `ssl`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TlsOptions {
    /// Whether the address sets the mode.
    pub(super) has_mode: bool,
    /// The file with the certificates to trust, in place of this machine's.
    pub(super) root_certificates: Option<PathBuf>,
    /// The file with this client's certificate.
    pub(super) certificate: Option<PathBuf>,
    /// The file with the key of this client's certificate.
    pub(super) key: Option<PathBuf>,
}

/// The mode of a connection whose address sets none: a server on another machine must show a certificate that is trusted, since
/// it is sent the password and all records.
pub(super) fn default_mode(config: &Config) -> SslMode {
    if config.get_hosts().iter().all(is_local) { SslMode::Prefer } else { SslMode::Require }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// Builds the TLS connector. `require` checks the server's certificate; `prefer` accepts any certificate: an attacker in
/// between could as well have refused to encrypt.
///
/// # Errors
/// Which file cannot be used, and why.
pub(super) fn connector(mode: SslMode, options: &TlsOptions) -> Result<MakeRustlsConnect, String> {
    let trust = match &options.root_certificates {
        Some(file) => Trust::Only(file.clone()),
        None if matches!(mode, SslMode::Disable | SslMode::Prefer) => Trust::Unverified,
        // The enum of modes is open: any new mode checks the certificate.
        None => Trust::Machine,
    };
    let identity = match (options.certificate.clone(), options.key.clone()) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        (None, None) => None,
        _ => return Err("sslcert and sslkey belong together: give both or none".into()),
    };
    let config = ClientTls { trust, identity }.config().map_err(|error| error.to_string())?;
    Ok(MakeRustlsConnect::new(config))
}
