//! Looks up hosts, and lets a connection reach only the addresses that it may.

use std::{
    net::{IpAddr, SocketAddr},
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
pub(crate) const MAX_LOOKUPS: usize = 16;

/// Looks up the hosts of one client. A connection is made to an address that this returned, and to no other.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    pub(crate) reach: Arc<Reach>,
    pub(crate) lookups: Arc<Semaphore>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            match tokio::time::timeout(LOOKUP_TIMEOUT, this.look_up(&host)).await {
                Ok(found) => Ok(found?),
                Err(_) => Err(no_address(host, format!("the lookup took more than {LOOKUP_TIMEOUT:?}")).into()),
            }
        })
    }
}

impl Resolver {
    async fn look_up(&self, host: &str) -> Result<Addrs, HttpError> {
        let _permit = self.lookups.acquire().await.expect("the semaphore is never closed");
        let found = tokio::net::lookup_host((host, 0)).await;
        let found: Vec<SocketAddr> = found.map_err(|error| no_address(host.to_owned(), error.to_string()))?.collect();
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
