//! Looks up hosts. Each lookup blocks a thread until the machine's resolver answers, also when nobody waits for it any more: so all calls
//! of a worker together make a bounded number of them, and each namespace a few.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use flow::Namespace;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a lookup may take, once it has a place.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);

/// The maximum number of concurrent lookups.
const MAX_LOOKUPS: usize = 32;

/// The maximum number of concurrent lookups of one namespace, so that others have some.
const MAX_OWN_LOOKUPS: usize = 4;

/// The maximum number of addresses of a host. A server may answer with thousands, and calls hold what they have found.
const MAX_ADDRESSES: usize = 64;

/// The lookups of all calls of a worker.
#[derive(Debug)]
pub(crate) struct Lookups {
    all: Arc<Semaphore>,
    shares: Mutex<HashMap<Option<Namespace>, Weak<Semaphore>>>,
    operator: Arc<Semaphore>,
}

/// The lookups of one namespace. Cheap to clone: all clones share its places.
#[derive(Debug, Clone)]
pub struct LookupShare {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

/// A place among the lookups, until it is dropped.
#[derive(Debug)]
pub struct LookupPlace {
    _own: Option<OwnedSemaphorePermit>,
    _all: Option<OwnedSemaphorePermit>,
}

impl Default for Lookups {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            shares: Mutex::default(),
            operator: Arc::new(Semaphore::new(MAX_OWN_LOOKUPS)),
        }
    }
}

impl Lookups {
    /// The share of a namespace; flows without a namespace have one together.
    pub(crate) fn of(&self, namespace: Option<&Namespace>) -> LookupShare {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shares.get(&namespace.cloned()).and_then(Weak::upgrade);
        let own = known.unwrap_or_else(|| {
            shares.retain(|_, share| share.strong_count() > 0);
            let own = Arc::new(Semaphore::new(MAX_OWN_LOOKUPS));
            shares.insert(namespace.cloned(), Arc::downgrade(&own));
            own
        });
        LookupShare { all: self.all.clone(), own }
    }

    /// The share for the servers that an operator names.
    pub(crate) fn for_operator(&self) -> LookupShare {
        LookupShare { all: self.all.clone(), own: self.operator.clone() }
    }
}

/// The share of a process that looks up no other hosts.
impl Default for LookupShare {
    fn default() -> Self {
        Lookups::default().for_operator()
    }
}

impl LookupShare {
    /// The addresses of a host, at most 64. The caller has to be polled until they are there: others may wait behind it.
    ///
    /// # Errors
    /// When the resolver of the machine finds none, or takes too long ([`io::ErrorKind::TimedOut`]).
    pub async fn lookup(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let (place, host) = (self.place().await, host.to_owned());
        // The thread keeps the place: it goes on when nobody waits for it any more.
        let lookup = tokio::task::spawn_blocking(move || {
            let _place = place;
            (host.as_str(), 0).to_socket_addrs().map(first_addresses)
        });
        match tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await {
            Ok(found) => found.map_err(io::Error::other)?,
            Err(_) => {
                let reason = format!("the lookup took more than {LOOKUP_TIMEOUT:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, reason))
            }
        }
    }

    /// Waits for a place.
    pub async fn place(&self) -> LookupPlace {
        // The own share first: who waits for it must not keep a place from others. Neither is ever closed.
        let own = self.own.clone().acquire_owned().await.ok();
        LookupPlace { _own: own, _all: self.all.clone().acquire_owned().await.ok() }
    }
}

/// The first addresses of an answer, each once.
fn first_addresses(answer: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for address in answer {
        if addresses.len() == MAX_ADDRESSES {
            break;
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures::{FutureExt as _, future::join_all};

    use super::*;

    #[test]
    fn only_the_first_addresses_of_an_answer_are_kept() {
        let address = |index: u32| SocketAddr::new(IpAddr::V4(index.into()), 0);
        let mut read = 0;
        let long = (0..3_000).map(address).inspect(|_| read += 1);
        let expected: Vec<SocketAddr> = (0..64).map(address).collect();
        assert_eq!(first_addresses(long), expected);
        assert!(read <= 65, "the rest is not read: {read}");
        let repeated = (0..3_000).map(|index| address(index % 3));
        assert_eq!(first_addresses(repeated), expected[..3], "each is there once");
    }

    #[tokio::test]
    async fn a_namespace_has_some_of_all_places() {
        let lookups = Lookups::default();
        let names: Vec<Namespace> = (0..9).map(|index| Namespace::new(format!("n{index}")).unwrap()).collect();
        let of = |index: usize| lookups.of(names.get(index));
        let first = join_all((0..MAX_OWN_LOOKUPS).map(|_| async { of(0).place().await })).await;
        assert!(of(0).lookup("localhost").now_or_never().is_none(), "it waits");
        assert!(!of(1).lookup("localhost").await.unwrap().is_empty());
        let seven = (1..8).flat_map(|index| (0..MAX_OWN_LOOKUPS).map(move |_| index));
        let others = join_all(seven.map(|index| async move { of(index).place().await })).await;
        assert!(of(8).place().now_or_never().is_none(), "all places are taken");
        assert!(lookups.for_operator().place().now_or_never().is_none());
        drop(first);
        assert!(of(8).place().now_or_never().is_some());
        assert!(of(0).place().now_or_never().is_some());
        drop(others);
        let known = lookups.shares.lock().unwrap().len();
        assert!(known <= names.len(), "{known}");
    }
}
