//! A lookup of a host. It goes through the places that all calls of the worker share: the machine's resolver blocks a thread for it.

use std::{io, net::IpAddr, sync::Arc, vec};

use flow::SocketHost;
use futures::FutureExt as _;
use gateway::LookupShare;
use tokio::sync::Semaphore;
use wasmtime_wasi::{
    async_trait,
    p2::{SocketResult, bindings::sockets::network::ErrorCode},
    runtime::{AbortOnDropJoinHandle, spawn},
};
use wasmtime_wasi_io::poll::Pollable;

/// A lookup of a guest.
pub(super) struct Lookup {
    host: SocketHost,
    state: State,
}

enum State {
    /// A task of its own: a guest may never ask for its end, and others wait behind it.
    Running(AbortOnDropJoinHandle<io::Result<Vec<IpAddr>>>),
    Ended(Result<vec::IntoIter<IpAddr>, ErrorCode>),
}

/// The address that a host is, which nobody has to look up.
fn address(host: &SocketHost) -> Option<IpAddr> {
    let text = host.is_address().then(|| host.to_string())?;
    text.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

impl Lookup {
    /// Begins a lookup, once `own` has a place for one more of the call.
    pub(super) fn start(host: SocketHost, lookups: LookupShare, own: Arc<Semaphore>) -> Self {
        if let Some(address) = address(&host) {
            return Self { host, state: State::Ended(Ok(vec![address].into_iter())) };
        }
        // The checked form of the name, and not the one of the guest.
        let name = host.to_string();
        let lookup = async move {
            let _own = own.acquire().await.map_err(io::Error::other)?;
            let found = lookups.lookup(&name).await?;
            Ok(found.into_iter().map(|address| address.ip().to_canonical()).collect())
        };
        Self { host, state: State::Running(spawn(lookup)) }
    }

    pub(super) fn host(&self) -> &SocketHost {
        &self.host
    }

    /// The next address that was found; `None` after the last one.
    pub(super) fn next(&mut self) -> SocketResult<Option<IpAddr>> {
        if let State::Running(lookup) = &mut self.state
            && let Some(found) = lookup.now_or_never()
        {
            self.end(found);
        }
        match &mut self.state {
            State::Running(_) => Err(ErrorCode::WouldBlock.into()),
            State::Ended(Ok(addresses)) => Ok(addresses.next()),
            State::Ended(Err(error)) => Err((*error).into()),
        }
    }

    fn end(&mut self, found: io::Result<Vec<IpAddr>>) {
        self.state = State::Ended(match found {
            Ok(addresses) => Ok(addresses.into_iter()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(ErrorCode::TemporaryResolverFailure),
            Err(_) => Err(ErrorCode::NameUnresolvable),
        });
    }
}

#[async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        if let State::Running(lookup) = &mut self.state {
            let found = lookup.await;
            self.end(found);
        }
    }
}
