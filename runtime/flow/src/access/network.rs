//! Networks: which addresses are public, and ranges of addresses that an operator names.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A range of addresses, such as `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpNet);

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network: write one as \"10.0.0.0/8\", or an address as \"10.1.2.3\"")]
pub struct InvalidNetwork(String);

impl Network {
    /// Only this address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(address.to_canonical().into())
    }

    /// The networks with all addresses.
    pub(super) fn all() -> [Self; 2] {
        let of_v4 = Ipv4Net::new(Ipv4Addr::UNSPECIFIED, 0).expect("0 is a length of a prefix");
        let of_v6 = Ipv6Net::new(Ipv6Addr::UNSPECIFIED, 0).expect("0 is a length of a prefix");
        [Self(of_v4.into()), Self(of_v6.into())]
    }

    /// The addresses with which a machine reaches itself.
    pub(super) fn loopback() -> Vec<Self> {
        let of_v4 = Ipv4Net::new(Ipv4Addr::LOCALHOST, 8).expect("8 is a length of a prefix");
        vec![Self(of_v4.into()), Self::of(Ipv6Addr::LOCALHOST.into())]
    }

    /// Whether an address is in the network. An address of IPv4 may be written as one of IPv6.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let network = text.parse::<IpNet>().ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.into()));
        let is_mapped =
            |network: &IpNet| matches!(network.addr(), IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
        let network = network.filter(|network| !is_mapped(network));
        network.map(|network| Self(network.trunc())).ok_or_else(|| InvalidNetwork(text.chars().take(100).collect()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(out) } else { self.0.fmt(out) }
    }
}

/// The ranges of IPv4 that no public host has, from the registry of special-purpose addresses (RFC 6890).
const SPECIAL_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 52, 193, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast, and what is reserved above it.
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// The global unicast addresses of IPv6 (RFC 4291), and the ranges among them that no public host has. 2002::/16 (6to4) and
/// 2001::/32 (Teredo) contain addresses of IPv4, which may be private.
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const SPECIAL_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether an address is one of a public host: not of a private network, of the machine itself, or of a special purpose.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            !SPECIAL_V4.iter().any(|(start, length)| Ipv4Net::new_assert(*start, *length).contains(&address))
        }
        IpAddr::V6(address) => {
            let is_in = |(start, length): &(Ipv6Addr, u8)| Ipv6Net::new_assert(*start, *length).contains(&address);
            is_in(&GLOBAL_V6) && !SPECIAL_V6.iter().any(is_in)
        }
    }
}
