//! Patterns of TCP connections, such as `db.example.com:5432`, and what a call may connect to.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use url::Host;

use super::{
    AccessDenial, CallAccess, Grant, Network, Reach,
    host::{HostPattern, canonical},
};

/// The longest pattern, and the longest name of a host, in bytes: names have at most 253.
const MAX_HOST_BYTES: usize = 300;

/// A pattern of TCP connections: a host and a port. The host may be all subdomains of a domain, `*.example.com`, or any, `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketPattern {
    pub(super) host: HostPattern,
    port: u16,
}

/// Why a text is no pattern of connections.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no host with a port: {reason}")]
pub struct InvalidSocketPattern {
    /// The refused text, cut to what fits a line.
    pub text: String,
    /// What is wrong, and what to write.
    pub reason: String,
}

/// A host that a guest looks up or connects to, in the form in which it is compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketHost(Host<String>);

impl SocketHost {
    /// Parses a name or an address as a guest gives it; `None` if it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_HOST_BYTES {
            return None;
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::of(address));
        }
        Some(Self(canonical(Host::parse(text).ok()?)))
    }

    /// Whether it is an address, which nobody has to look up.
    #[must_use]
    pub fn is_address(&self) -> bool {
        !matches!(self.0, Host::Domain(_))
    }

    /// An address as a host.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => Host::Ipv4(address),
            IpAddr::V6(address) => Host::Ipv6(address),
        })
    }
}

impl SocketPattern {
    fn matches(&self, host: &SocketHost, port: u16) -> bool {
        self.port == port && self.host.matches(&host.0)
    }

    pub(super) fn covers(&self, other: &Self) -> bool {
        self.port == other.port && self.host.covers(&other.host)
    }
}

impl Grant {
    /// The networks that a granted connection may reach although they are not public.
    fn networks_of_socket(&self, host: &SocketHost, port: u16) -> impl Iterator<Item = Network> {
        let matching = self.access.sockets.iter().filter(move |pattern| pattern.matches(host, port));
        let named = matching.filter_map(|pattern| pattern.host.named_network());
        self.networks.iter().copied().chain(named.flatten())
    }

    pub(super) fn reaches_socket(&self, asked: &SocketPattern, address: IpAddr) -> bool {
        let mut covering = self.access.sockets.iter().filter(|pattern| pattern.covers(asked)).peekable();
        covering.peek().is_some()
            && (super::is_public(address)
                || self.networks.iter().any(|network| network.contains(address))
                || covering.any(|pattern| pattern.host.address() == Some(address)))
    }
}

impl CallAccess {
    /// Whether the flow asks for connections, and a rule grants some.
    ///
    /// # Errors
    /// [`AccessDenial`] when the call can have none.
    pub fn check_sockets(&self) -> Result<(), AccessDenial> {
        let tried = || "a TCP connection".to_owned();
        if self.asked().sockets.is_empty() {
            return Err(AccessDenial::NotAsked {
                tried: tried(),
                ask: "allow = { sockets = [\"db.example.com:5432\"] }".into(),
            });
        }
        match self.grants().iter().any(|grant| !grant.access.sockets.is_empty()) {
            true => Ok(()),
            false => Err(AccessDenial::NotGranted { tried: tried() }),
        }
    }

    /// Checks that the call may look up a host: one that it may connect to, at some port.
    ///
    /// # Errors
    /// [`AccessDenial`] when the flow or the operator does not allow it.
    pub fn check_lookup(&self, host: &SocketHost) -> Result<(), AccessDenial> {
        let tried = || format!("the lookup of the host {host}");
        if !self.asked().sockets.iter().any(|pattern| pattern.host.matches(&host.0)) {
            return Err(AccessDenial::NotAsked {
                tried: tried(),
                ask: format!("allow = {{ sockets = [\"{host}:PORT\"] }}"),
            });
        }
        let grants = |grant: &Grant| grant.access.sockets.iter().any(|pattern| pattern.host.matches(&host.0));
        if self.grants().iter().any(grants) { Ok(()) } else { Err(AccessDenial::NotGranted { tried: tried() }) }
    }

    /// Checks a connection. `names` are the hosts that the call has looked up, and that have this address.
    ///
    /// # Errors
    /// [`AccessDenial`] when the flow or the operator does not allow it.
    pub fn check_connect(&self, address: SocketAddr, names: &[SocketHost]) -> Result<(), AccessDenial> {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let own = SocketHost::of(ip);
        let hosts = || names.iter().chain([&own]);
        let shown = names.first().unwrap_or(&own);
        let tried = || match names.first() {
            Some(name) => format!("the TCP connection to {name}:{port}"),
            None => format!("the TCP connection to {own}:{port}"),
        };
        let is_asked = |host: &&SocketHost| self.asked().sockets.iter().any(|pattern| pattern.matches(host, port));
        if !hosts().any(|host| is_asked(&host)) {
            return Err(AccessDenial::NotAsked {
                tried: tried(),
                ask: format!("allow = {{ sockets = [\"{shown}:{port}\"] }}"),
            });
        }
        let mut is_granted = false;
        for host in hosts().filter(is_asked) {
            for grant in self.grants() {
                if grant.access.sockets.iter().any(|pattern| pattern.matches(host, port)) {
                    is_granted = true;
                    let reach = Reach::of(grant.networks_of_socket(host, port));
                    if reach.contains(ip) {
                        return Ok(());
                    }
                }
            }
        }
        match is_granted {
            true => Err(AccessDenial::PrivateAddress { tried: tried(), address: ip }),
            false => Err(AccessDenial::NotGranted { tried: tried() }),
        }
    }
}

impl FromStr for SocketPattern {
    type Err = InvalidSocketPattern;

    fn from_str(text: &str) -> Result<Self, InvalidSocketPattern> {
        parse(text).map_err(|reason| InvalidSocketPattern { text: text.chars().take(200).collect(), reason })
    }
}

fn parse(text: &str) -> Result<SocketPattern, String> {
    const EXAMPLE: &str = "write \"db.example.com:5432\"";
    if text.len() > MAX_HOST_BYTES {
        return Err(format!("it is longer than {MAX_HOST_BYTES} bytes"));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("it has no port: {EXAMPLE}"))?;
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| is_number && *port != 0);
    let port = port.ok_or_else(|| format!("its port is no number from 1 to 65535: {EXAMPLE}"))?;
    let host = Host::parse(host).map_err(|error| format!("its host is invalid ({error}): {EXAMPLE}"))?;
    let pattern = SocketPattern { host: HostPattern::of(Some(canonical(host)))?, port };
    // A message contains the form in which it is shown, where a host may be longer.
    match pattern.to_string().len() > MAX_HOST_BYTES {
        true => Err(format!("it is longer than {MAX_HOST_BYTES} bytes")),
        false => Ok(pattern),
    }
}

/// The pattern as it is written.
impl fmt::Display for SocketPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.host, self.port)
    }
}

impl fmt::Display for SocketHost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}
