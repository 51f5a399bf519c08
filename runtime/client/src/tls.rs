//! TLS to a server, with ring and the certificates that the machine trusts.

use std::sync::Arc;

use reqwest::Url;
use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// The TLS configuration for an address. Without TLS no certificate is trusted, since reading all of them takes longer
/// than most requests.
///
/// # Errors
/// Why TLS is not possible here.
pub(crate) fn config(server: &Url) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if server.scheme() == "https" {
        // Some of a machine's certificates may be unreadable, while the others are good.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
