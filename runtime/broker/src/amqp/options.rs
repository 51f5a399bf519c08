//! The connection options: the caller's settings, and the checked endpoint.

use std::{fmt, path::PathBuf};

use lapin::uri::{AMQPUri, SASLMechanism};

use super::{
    ConnectError,
    parameters::{self, TlsOptions},
};

/// The heartbeat interval in seconds. A dead connection is noticed after two intervals.
const HEARTBEAT: u16 = 15;

const MISPLACED_AT: &str = "there is an @ after its host; in a user, a password or a virtual host, write / as %2F, \
    ? as %3F, # as %23 and @ as %40";

/// The connection options. There is no `Debug`: the address holds the password.
#[derive(Clone)]
pub struct Options {
    /// `amqp://user:password@host:port/vhost`, or `amqps://` for TLS. The parameters after a `?` are those of RabbitMQ's URI
    /// specification: for TLS `cacertfile`, `certfile`, `keyfile` and `server_name_indication`, and for a login with the
    /// certificate `auth_mechanism=external`.
    pub url: String,
    /// The connection's name in the broker's list of connections.
    pub name: String,
    /// A file of trusted certificates (PEM), in addition to the system's; `cacertfile` replaces the system's.
    pub tls_ca: Option<PathBuf>,
}

impl Options {
    /// Default options for an address.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), name: "waft".to_owned(), tls_ca: None }
    }

    /// Host and port, and the user, to show to users; `None` if the address is invalid.
    #[must_use]
    pub fn address_and_user(&self) -> Option<(String, String)> {
        let endpoint = Endpoint::parse(self.clone()).ok()?;
        Some((endpoint.address(), endpoint.user().to_owned()))
    }
}

/// A checked address, with everything that a connection needs.
pub(super) struct Endpoint {
    pub(super) uri: AMQPUri,
    pub(super) name: String,
    /// `None` without TLS.
    pub(super) tls: Option<TlsOptions>,
}

impl Endpoint {
    pub(super) fn parse(options: Options) -> Result<Self, ConnectError> {
        let Options { url, name, tls_ca } = options;
        let uri = parse(&url).map_err(|reason| ConnectError::BadUrl { reason })?;
        let tls = parameters::tls_options(&url, &uri, tls_ca).map_err(|reason| ConnectError::BadUrl { reason })?;
        Ok(Self { uri, name, tls })
    }

    /// Whether the certificate is the login, in place of user and password.
    pub(super) fn logs_in_with_certificate(&self) -> bool {
        self.uri.query.auth_mechanism == Some(SASLMechanism::External)
    }

    /// The user, to show to users.
    pub(super) fn user(&self) -> &str {
        if self.logs_in_with_certificate() { "(certificate)" } else { &self.uri.authority.userinfo.username }
    }

    /// Host and port, to show to users.
    pub(super) fn address(&self) -> String {
        let authority = &self.uri.authority;
        if authority.host.contains(':') {
            format!("[{}]:{}", authority.host, authority.port)
        } else {
            format!("{}:{}", authority.host, authority.port)
        }
    }
}

/// Parses an address. The error never quotes it: a malformed address may hold a password anywhere.
fn parse(url: &str) -> Result<AMQPUri, String> {
    let rest = url
        .strip_prefix("amqp://")
        .or_else(|| url.strip_prefix("amqps://"))
        .ok_or("it does not start with amqp:// or amqps://")?;
    let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // The start of such a password would be parsed and shown as a port.
    if after.contains('@') {
        return Err(MISPLACED_AT.to_owned());
    }
    let mut uri = url.parse::<AMQPUri>().map_err(|reason| match url.split_once('?') {
        Some((address, _)) if address.parse::<AMQPUri>().is_ok() => {
            format!("a setting after its ? cannot be read: {reason}")
        }
        Some(_) | None => reason,
    })?;
    match authority.rsplit_once('@').map_or(authority, |(_, host)| host) {
        "" => return Err("it names no host".to_owned()),
        // The parser of AMQP addresses skips a host in brackets, and uses localhost.
        host => {
            if let Some((host, _)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
                host.clone_into(&mut uri.authority.host);
            }
        }
    }
    // Users write a trailing slash, but do not mean the virtual host with the empty name.
    if uri.vhost.is_empty() {
        "/".clone_into(&mut uri.vhost);
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    Ok(uri)
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("address", &self.address()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, address: &str, vhost: &str) {
        let endpoint = Endpoint::parse(Options::new(url)).unwrap();
        assert_eq!(endpoint.address(), address, "of {url}");
        assert_eq!(endpoint.uri.vhost, vhost, "of {url}");
    }

    #[test]
    fn an_address_may_leave_out_all_but_the_host() {
        check("amqp://broker", "broker:5672", "/");
        check("amqp://broker/", "broker:5672", "/");
        check("amqps://broker", "broker:5671", "/");
        check("amqp://me:secret@10.0.0.1:99/%2f", "10.0.0.1:99", "/");
        check("amqp://me:secret@[::1]:99/kitchen", "[::1]:99", "kitchen");
    }

    #[test]
    fn a_heartbeat_is_always_requested() {
        let heartbeat = |url: &str| Endpoint::parse(Options::new(url)).unwrap().uri.query.heartbeat;
        assert_eq!(heartbeat("amqp://broker"), Some(HEARTBEAT));
        assert_eq!(heartbeat("amqp://broker?heartbeat=40"), Some(40));
    }

    #[test]
    fn a_rejected_address_shows_no_password() {
        for url in [
            "me:secret@broker:5672",
            "http://me:secret@broker",
            "amqp://me:secret@broker:port",
            "amqp://me:secret/broker",
            "amqp://me:secret@broker/%ff",
            "amqp://",
            "amqp://me:secret@/kitchen",
            "amqp://me:1/secret@broker",
            "amqp://me:1?secret@broker",
            "amqp://me:1#secret@broker/kitchen",
            "amqp://me:secret@broker?heartbeat=soon",
        ] {
            let Err(error) = Endpoint::parse(Options::new(url)) else {
                panic!("{url} is accepted");
            };
            let text = format!("{error} {error:?}");
            assert!(matches!(error, ConnectError::BadUrl { .. }));
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
