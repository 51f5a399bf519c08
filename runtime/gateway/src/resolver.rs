//! Lets a connection reach only the addresses of a host that it may.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
};

use flow::{AccessDenial, Reach};
use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;

use crate::{HttpError, LookupShare};

/// Looks up the hosts of one client. A connection to a host with a name is made to an address that this returned, and to no other; an
/// address in place of a name was checked with the request.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    pub(crate) reach: Arc<Reach>,
    pub(crate) lookups: LookupShare,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = HttpError;
    type Future = BoxFuture<'static, Result<Self::Response, HttpError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HttpError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let found = this.lookups.lookup(name.as_str()).await;
            Ok(this.reachable(name.as_str(), found)?.into_iter())
        })
    }
}

impl Resolver {
    /// Those of the found addresses that a connection may reach.
    fn reachable(&self, host: &str, found: io::Result<Vec<SocketAddr>>) -> Result<Vec<SocketAddr>, HttpError> {
        let found = found.map_err(|error| no_address(host.to_owned(), error.to_string()))?;
        let (allowed, refused): (Vec<SocketAddr>, Vec<SocketAddr>) =
            found.into_iter().partition(|address| self.reach.contains(address.ip()));
        match (allowed.is_empty(), refused.first()) {
            (true, Some(refused)) => Err(private(host, refused.ip()).into()),
            (true, None) => Err(no_address(host.to_owned(), "the lookup found none".into())),
            (false, _) => Ok(allowed),
        }
    }
}

fn private(host: &str, address: IpAddr) -> AccessDenial {
    AccessDenial::PrivateAddress { tried: format!("a connection to {host}"), address }
}

fn no_address(host: String, reason: String) -> HttpError {
    HttpError::NoAddress { host, reason }
}
