//! Patterns of hosts: a name, an address, all subdomains of a name, or any host.

use std::{fmt, net::IpAddr};

use url::Host;

use super::Network;

/// A pattern of hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostPattern {
    Any,
    /// The domain with a dot before it.
    Subdomains(String),
    Domain(String),
    Address(IpAddr),
}

impl HostPattern {
    pub(super) fn matches(&self, host: &Host<String>) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Subdomains(suffix), Host::Domain(domain)) => domain.len() > suffix.len() && domain.ends_with(suffix),
            (Self::Domain(own), Host::Domain(domain)) => own == domain,
            (Self::Address(IpAddr::V4(own)), Host::Ipv4(address)) => own == address,
            (Self::Address(IpAddr::V6(own)), Host::Ipv6(address)) => own == address,
            (Self::Subdomains(_) | Self::Domain(_) | Self::Address(_), _) => false,
        }
    }

    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Subdomains(suffix), Self::Subdomains(domain) | Self::Domain(domain)) => {
                domain.len() > suffix.len() && domain.ends_with(suffix) || self == other
            }
            (Self::Subdomains(_) | Self::Domain(_) | Self::Address(_), _) => self == other,
        }
    }

    /// The address, if it is one instead of names.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Any | Self::Subdomains(_) | Self::Domain(_) => None,
        }
    }

    /// The addresses that it names: they may be some that are not public.
    pub(super) fn named_network(&self) -> Option<Vec<Network>> {
        match self {
            Self::Address(address) => Some(vec![Network::of(*address)]),
            Self::Domain(domain) if domain == "localhost" => Some(Network::loopback()),
            Self::Any | Self::Subdomains(_) | Self::Domain(_) => None,
        }
    }

    /// The pattern of a parsed host, in which `*` is left.
    pub(super) fn of(host: Option<Host<String>>) -> Result<Self, String> {
        const HINT: &str = "write a name, *.example.com for the subdomains of a name, or * for any";
        match host {
            None => Err(format!("its address has no host: {HINT}")),
            Some(Host::Ipv4(address)) => Ok(Self::Address(address.into())),
            Some(Host::Ipv6(address)) => Ok(Self::Address(address.into())),
            Some(Host::Domain(domain)) => match domain.strip_prefix('*') {
                Some("") => Ok(Self::Any),
                Some(suffix) if suffix.starts_with('.') && !suffix.contains('*') && !has_empty_label(&suffix[1..]) => {
                    Ok(Self::Subdomains(suffix.to_owned()))
                }
                None if !domain.contains('*') && !has_empty_label(&domain) => Ok(Self::Domain(domain)),
                Some(_) | None => Err(format!("its host is {domain:?}: {HINT}")),
            },
        }
    }
}

/// Whether a domain has two dots in a row, or one at an end.
fn has_empty_label(domain: &str) -> bool {
    domain.split('.').any(str::is_empty)
}

/// A host that several texts name, as one. An address of IPv4 may be written as one of IPv6, and a name may end with a dot.
pub(super) fn canonical(host: Host<String>) -> Host<String> {
    match host {
        Host::Ipv6(address) => address.to_ipv4_mapped().map_or(Host::Ipv6(address), Host::Ipv4),
        Host::Domain(domain) => Host::Domain(domain.strip_suffix('.').map(str::to_owned).unwrap_or(domain)),
        Host::Ipv4(_) => host,
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => out.write_str("*"),
            Self::Subdomains(suffix) => write!(out, "*{suffix}"),
            Self::Domain(domain) => out.write_str(domain),
            Self::Address(IpAddr::V4(address)) => write!(out, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(out, "[{address}]"),
        }
    }
}
