//! The places of connections: how many there are, and which connection yields to a new one.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::answered::is_idle;

/// Minimum time that a connection has for its first request, unless all others are younger.
const MIN_TIME_TO_REQUEST: Duration = Duration::from_secs(1);

/// The open connections.
pub(super) struct Connections {
    max: usize,
    max_of_network: usize,
    open: Arc<Mutex<BTreeMap<u64, OpenConnection>>>,
    next: AtomicU64,
}

/// An open connection. Its number says how old it is.
struct OpenConnection {
    network: IpAddr,
    opened_at: Instant,
    /// The number of requests in progress.
    requests: Arc<AtomicUsize>,
    evicted: CancellationToken,
}

impl OpenConnection {
    fn is_idle(&self) -> bool {
        is_idle(&self.requests)
    }
}

/// The place of one connection. Dropping it makes room for another one.
pub(super) struct Place {
    number: u64,
    open: Arc<Mutex<BTreeMap<u64, OpenConnection>>>,
    pub(super) requests: Arc<AtomicUsize>,
    /// Cancelled when the connection has to yield.
    pub(super) evicted: CancellationToken,
}

impl Connections {
    pub(super) fn new(max: usize, max_of_network: usize) -> Self {
        Self { max, max_of_network, open: Arc::default(), next: AtomicU64::new(0) }
    }

    /// Returns a place for a new connection; one without a request yields to it if there are too many. `None` if all have
    /// requests in progress.
    pub(super) fn admit(&self, peer: IpAddr) -> Option<Place> {
        let mut open = lock(&self.open);
        let network = network(peer);
        let of_network = open.values().filter(|connection| connection.network == network).count();
        let oldest = if of_network >= self.max_of_network {
            Some(yielding(open.iter().filter(|(_, connection)| connection.network == network))?)
        } else if open.len() >= self.max {
            Some(yielding(open.iter())?)
        } else {
            None
        };
        if let Some(oldest) = oldest {
            open.remove(&oldest)?.evicted.cancel();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (requests, evicted) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        open.insert(
            number,
            OpenConnection { network, opened_at: Instant::now(), requests: requests.clone(), evicted: evicted.clone() },
        );
        Some(Place { number, open: self.open.clone(), requests, evicted })
    }
}

/// The connection that yields: without a request, of the network with the most such connections, and the oldest of those. One
/// that is just about to send its first request yields only to an older one.
fn yielding<'a>(open: impl Iterator<Item = (&'a u64, &'a OpenConnection)>) -> Option<u64> {
    let mut idle: BTreeMap<(bool, IpAddr), (usize, u64)> = BTreeMap::new();
    for (number, connection) in open.filter(|(_, connection)| connection.is_idle()) {
        let had_time = connection.opened_at.elapsed() >= MIN_TIME_TO_REQUEST;
        idle.entry((had_time, connection.network)).or_insert((0, *number)).0 += 1;
    }
    let had_time = idle.keys().any(|(had_time, _)| *had_time);
    let candidates = idle.into_iter().filter(|((its, _), _)| *its == had_time).map(|(_, counted)| counted);
    candidates.max_by_key(|(count, oldest)| (*count, Reverse(*oldest))).map(|(_, oldest)| oldest)
}

/// The network of an address, whose connections count together: whoever has one address there, has all of them. These are this
/// machine's addresses, and the 64 bits of an IPv6 network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address if address.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

fn lock(open: &Mutex<BTreeMap<u64, OpenConnection>>) -> MutexGuard<'_, BTreeMap<u64, OpenConnection>> {
    // Each change is a single operation on the map.
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.open).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::answered::InProgress, *};

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn the_oldest_idle_connection_of_the_busiest_peer_yields() {
        let connections = Connections::new(4, 4);
        let places: Vec<Place> =
            [OTHER, PEER, PEER, PEER].into_iter().map(|peer| connections.admit(peer).unwrap()).collect();
        let in_progress = InProgress::begin(&places[1].requests);
        let fifth = connections.admit(OTHER).unwrap();
        let evicted = |places: &[Place]| places.iter().map(|place| place.evicted.is_cancelled()).collect::<Vec<_>>();
        assert_eq!(evicted(&places), [false, false, true, false], "the first of that peer has a request");
        drop(in_progress);
        drop(fifth);
        assert_eq!(lock(&connections.open).len(), 3, "the places of closed connections are free");
    }

    #[test]
    fn a_connection_is_refused_when_all_have_requests() {
        let connections = Connections::new(2, 2);
        let places = [connections.admit(PEER).unwrap(), connections.admit(PEER).unwrap()];
        let _requests = places.each_ref().map(|place| InProgress::begin(&place.requests));
        assert!(connections.admit(OTHER).is_none());
    }

    #[test]
    fn a_peer_leaves_room_for_others() {
        let connections = Connections::new(4, 3);
        let mut places: Vec<Place> = (0..3).map(|_| connections.admit(PEER).unwrap()).collect();
        let requests: Vec<InProgress> = places.iter().map(|place| InProgress::begin(&place.requests)).collect();
        assert!(connections.admit(PEER).is_none(), "all of its connections have requests");
        let other = connections.admit(OTHER).unwrap();
        drop(requests);
        places.push(connections.admit(PEER).unwrap());
        assert!(places[0].evicted.is_cancelled() && !other.evicted.is_cancelled(), "its own oldest yields");
    }

    #[test]
    fn an_address_counts_as_its_network() {
        let network_of = |address: &str| network(address.parse().unwrap()).to_string();
        assert_eq!(network_of("127.9.8.7"), "127.0.0.1");
        assert_eq!(network_of("::1"), "127.0.0.1");
        assert_eq!(network_of("::ffff:10.0.0.2"), "10.0.0.2");
        assert_eq!(network_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }

    #[test]
    fn a_new_connection_has_time_for_its_request() {
        let connections = Connections::new(3, 3);
        let old = connections.admit(OTHER).unwrap();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        lock(&connections.open).values_mut().for_each(|connection| connection.opened_at = long_ago);
        let new = [connections.admit(PEER).unwrap(), connections.admit(PEER).unwrap()];
        let _fourth = connections.admit(PEER).unwrap();
        assert!(old.evicted.is_cancelled(), "although its network has fewer");
        let _fifth = connections.admit(OTHER).unwrap();
        assert_eq!(new.each_ref().map(|place| place.evicted.is_cancelled()), [true, false], "the oldest of the young");
    }
}
