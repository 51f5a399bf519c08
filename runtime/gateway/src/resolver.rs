//! Lets a connection reach only the addresses of a host that it may.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use flow::{AccessDenial, Reach};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::{HttpError, LookupShare};

/// Looks up the hosts of one client. A connection is made to an address that this returned, and to no other.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    pub(crate) reach: Arc<Reach>,
    pub(crate) lookups: LookupShare,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let found = this.lookups.lookup(name.as_str()).await;
            Ok(this.reachable(name.as_str(), found)?)
        })
    }
}

impl Resolver {
    /// Those of the found addresses that a connection may reach.
    fn reachable(&self, host: &str, found: io::Result<Vec<SocketAddr>>) -> Result<Addrs, HttpError> {
        let found = found.map_err(|error| no_address(host.to_owned(), error.to_string()))?;
        let (allowed, refused): (Vec<SocketAddr>, Vec<SocketAddr>) =
            found.into_iter().partition(|address| self.reach.contains(address.ip()));
        match (allowed.is_empty(), refused.first()) {
            (true, Some(refused)) => Err(private(host, refused.ip()).into()),
            (true, None) => Err(no_address(host.to_owned(), "the lookup found none".into())),
            (false, _) => Ok(Box::new(allowed.into_iter())),
        }
    }
}

fn private(host: &str, address: IpAddr) -> AccessDenial {
    AccessDenial::PrivateAddress { tried: format!("a connection to {host}"), address }
}

fn no_address(host: String, reason: String) -> HttpError {
    HttpError::NoAddress { host, reason }
}
