//! Looks up hosts, and lets a connection reach only the addresses that it may.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use flow::{AccessDenial, Reach};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use crate::HttpError;

/// How long a lookup may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);

/// The maximum number of concurrent lookups: each blocks a thread.
pub(crate) const MAX_LOOKUPS: usize = 32;

/// The maximum number of concurrent lookups of one namespace, so that others have some.
pub(crate) const MAX_OWN_LOOKUPS: usize = 4;

/// Looks up the hosts of one client. A connection is made to an address that this returned, and to no other.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    pub(crate) reach: Arc<Reach>,
    pub(crate) lookups: Arc<Semaphore>,
    /// The share of its namespace among them.
    pub(crate) own_lookups: Arc<Semaphore>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            // The own share first: who waits for it must not keep a place from others.
            let own_permit = this.own_lookups.clone().acquire_owned().await;
            let permits = (own_permit, this.lookups.clone().acquire_owned().await);
            let (host, looked_up) = (name.as_str().to_owned(), name.as_str().to_owned());
            // The thread keeps the permits: it goes on when nobody waits for it any more.
            let lookup = tokio::task::spawn_blocking(move || {
                let _permits = permits;
                (looked_up.as_str(), 0).to_socket_addrs().map(Iterator::collect)
            });
            match tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await {
                Ok(found) => Ok(this.reachable(&host, found?)?),
                Err(_) => Err(no_address(host, format!("the lookup took more than {LOOKUP_TIMEOUT:?}")).into()),
            }
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
