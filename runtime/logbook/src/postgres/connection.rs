//! The address of a database: how it is parsed, how a connection to it is opened, and what the errors of a connection mean.

use std::{error::Error as _, time::Duration};

use deadpool_postgres::{HookError, PoolError};
use tokio_postgres::{Config, Error, config::Host};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    schema::SchemaError,
    tls::{self, TlsOptions},
};
use crate::{OpenError, address};

/// The time limit for opening a connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the server may leave sent bytes unacknowledged before the connection counts as lost.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// A database server, and how to connect to it.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) config: Config,
    tls: TlsOptions,
}

impl Endpoint {
    /// The TLS connector of the endpoint. Certificates are read each time, so that a renewed file takes effect.
    pub(super) fn connector(&self) -> Result<MakeRustlsConnect, OpenError> {
        tls::connector(self.config.get_ssl_mode(), &self.tls)
            .map_err(|reason| OpenError::Unavailable { location: location(&self.config), reason })
    }
}

/// Parses an address. Its TLS parameters are those of libpq: `sslmode`, `sslrootcert`, `sslcert` and `sslkey`. Each mode
/// from `require` on checks the server's certificate and its name, and so does an address of another machine without a mode.
pub(super) fn parse(url: &str) -> Result<Endpoint, OpenError> {
    let (address, parameters) = url.split_once('?').unwrap_or((url, ""));
    let (mut tls, mut others) = (TlsOptions::default(), Vec::new());
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match (name, value) {
            ("sslmode", mode) => {
                tls.has_mode = true;
                // The driver knows only the first three.
                let mode = if matches!(mode, "verify-full" | "verify-ca") { "require" } else { mode };
                others.push(format!("sslmode={mode}"));
            }
            ("sslrootcert", path) => tls.root_certificates = Some(percent_decoded(path).into()),
            ("sslcert", path) => tls.certificate = Some(percent_decoded(path).into()),
            ("sslkey", path) => tls.key = Some(percent_decoded(path).into()),
            _ => others.push(parameter.to_owned()),
        }
    }
    let separator = if others.is_empty() { "" } else { "?" };
    let url_for_driver = format!("{address}{separator}{}", others.join("&"));
    // The driver's message about a malformed address may quote the password.
    let mut config: Config = url_for_driver.parse().map_err(|_| address::address_error(url))?;
    if !tls.has_mode {
        config.ssl_mode(tls::default_mode(&config));
    }
    Ok(Endpoint { config, tls })
}

/// A parameter of an address, with its escapes replaced.
fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Sets defaults for the options that the address does not set.
pub(super) fn apply_defaults(config: &mut Config) {
    if config.get_application_name().is_none() {
        config.application_name("waft");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    config.keepalives_idle(TCP_USER_TIMEOUT);
}

/// The location of the database, without the password.
pub(super) fn location(config: &Config) -> String {
    let user = config.get_user().map(|user| format!("{user}@")).unwrap_or_default();
    let ports = config.get_ports();
    let host = |(index, host): (usize, &Host)| {
        let host = match host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        };
        let port = ports.get(index).or(ports.first()).map(|port| format!(":{port}"));
        host + &port.unwrap_or_default()
    };
    let hosts: Vec<String> = config.get_hosts().iter().enumerate().map(host).collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("postgres://{user}{}/{database}", hosts.join(","))
}

pub(super) fn open_error(location: String, error: SchemaError) -> OpenError {
    match error {
        SchemaError::Newer { found, known } => OpenError::Newer { location, found, known },
        SchemaError::Foreign(reason) => OpenError::Damaged { location, reason },
        SchemaError::Failed(error) => OpenError::Unavailable { location, reason: reason(&error) },
    }
}

/// The reason for people why there is no connection.
pub(super) fn pool_reason(error: &PoolError) -> String {
    match error {
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => reason(error),
        PoolError::Timeout(_) => "no connection within the time limit".to_owned(),
        PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(HookError::Message(_)) => {
            error.to_string()
        }
    }
}

/// The driver's message with its sources: the outer message alone is vague.
pub(super) fn reason(error: &Error) -> String {
    if let Some(error) = error.as_db_error() {
        let detail = error.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        return format!("{}{detail}", error.message());
    }
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !reason.contains(&text) {
            reason = format!("{reason}: {text}");
        }
        source = error.source();
    }
    let advice = tls_advice(&reason).map(|advice| format!("; {advice}")).unwrap_or_default();
    reason + &advice
}

/// What to do about a failed TLS handshake.
fn tls_advice(reason: &str) -> Option<&'static str> {
    if reason.contains("invalid peer certificate") {
        Some("name the certificates to trust with ?sslrootcert=FILE in the address")
    } else if reason.contains("received fatal alert") {
        Some("the server may refuse this client's certificate: check ?sslcert=FILE and &sslkey=FILE in the address")
    } else if reason.contains("server does not support TLS") {
        Some("turn TLS on there, or write ?sslmode=disable in the address if nobody can listen in between")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;

    #[test]
    fn a_location_is_shown_without_its_password() {
        for (url, expected) in [
            ("postgres://u:secret@h:5433/d", "postgres://u@h:5433/d"),
            ("postgresql://h/d?user=u&password=secret", "postgres://u@h:5432/d"),
            ("postgres://u:secret@a:1,b:2/d?sslmode=verify-full", "postgres://u@a:1,b:2/d"),
            ("postgres:///d?host=/run/postgresql&user=u", "postgres://u@/run/postgresql/d"),
        ] {
            assert_eq!(location(&parse(url).unwrap().config), expected);
        }
    }

    #[test]
    fn a_server_on_another_machine_has_to_show_a_trusted_certificate() {
        for (address, expected) in [
            ("postgres://h/d", SslMode::Require),
            ("postgres://u:p@10.0.0.7,localhost/d", SslMode::Require),
            ("postgres://localhost/d", SslMode::Prefer),
            ("postgres://127.0.0.1:5433,[::1]/d", SslMode::Prefer),
            ("postgres:///d?host=/run/postgresql&user=u", SslMode::Prefer),
            ("postgres://h/d?sslmode=prefer", SslMode::Prefer),
            ("postgres://h/d?sslmode=disable", SslMode::Disable),
            ("postgres://localhost/d?sslmode=require", SslMode::Require),
            ("postgres://h/d?application_name=x&sslmode=verify-ca", SslMode::Require),
            ("postgres://h/d?sslmode=verify-full&application_name=x", SslMode::Require),
        ] {
            assert_eq!(parse(address).unwrap().config.get_ssl_mode(), expected, "{address}");
        }
        let unknown = parse("postgres://u:secret@h/d?sslmode=sometimes").unwrap_err().to_string();
        assert!(!unknown.contains("secret"), "{unknown}");
    }

    #[test]
    fn the_files_of_certificates_are_parameters_of_the_address() {
        let endpoint =
            parse("postgres://h/d?sslrootcert=/a%20b/ca.pem&sslcert=c.pem&application_name=x&sslkey=k.pem").unwrap();
        let expected = TlsOptions {
            has_mode: false,
            root_certificates: Some("/a b/ca.pem".into()),
            certificate: Some("c.pem".into()),
            key: Some("k.pem".into()),
        };
        assert_eq!((endpoint.tls.clone(), endpoint.config.get_application_name()), (expected, Some("x")));
        let missing = endpoint.connector().err().unwrap().to_string();
        assert!(missing.contains("/a b/ca.pem cannot be used"), "{missing}");
        let alone = parse("postgres://h/d?sslcert=c.pem").unwrap().connector().err().unwrap().to_string();
        assert!(alone.contains("sslcert and sslkey belong together"), "{alone}");
    }
}
