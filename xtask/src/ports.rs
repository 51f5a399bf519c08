//! Chooses free ports.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    process,
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
    time::SystemTime,
};

use anyhow::{Context, Result};

/// Below the range that operating systems use for outgoing connections. In that range, a client of a stopped node may get
/// the very port it tries to reach, and then talks to itself.
const RANGE: Range<u16> = 20_000..32_000;

/// The ports of one node.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) amqp: u16,
    /// The port for connections between cluster nodes.
    pub(crate) distribution: u16,
    /// The port of Erlang's port mapper.
    pub(crate) names: u16,
}

impl Ports {
    /// Chooses three free ports. Two calls in one process never return the same; two processes hardly ever do.
    pub(crate) fn free() -> Result<Self> {
        Ok(Self { amqp: free_port()?, distribution: free_port()?, names: free_port()? })
    }
}

/// Chooses a free port. Two calls in one process never return the same; two processes hardly ever do.
///
/// # Errors
///
/// When there is none.
pub fn free_port() -> Result<u16> {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let mut candidates = (0..RANGE.len()).map(|_| nth(start(), TAKEN.fetch_add(1, Ordering::Relaxed)));
    first_free(&mut candidates).with_context(|| format!("no port between {} and {} is free", RANGE.start, RANGE.end))
}

fn first_free(mut candidates: impl Iterator<Item = u16>) -> Option<u16> {
    candidates.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
}

/// The first port to try: processes that start together start apart.
fn start() -> u16 {
    static START: LazyLock<u16> = LazyLock::new(|| {
        let mut hasher = DefaultHasher::new();
        (process::id(), SystemTime::now()).hash(&mut hasher);
        let [first, second, ..] = hasher.finish().to_be_bytes();
        u16::from_be_bytes([first, second])
    });
    *START
}

/// The port `count` steps after `start`, with wrap-around in the range.
fn nth(start: u16, count: u16) -> u16 {
    let length = u32::from(RANGE.end - RANGE.start);
    let step = (u32::from(start) + u32::from(count)) % length;
    RANGE.start + u16::try_from(step).expect("a step is shorter than the range")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_port_is_in_the_range_and_all_of_it_is_used() {
        let ports: BTreeSet<u16> = (0..=u16::MAX).map(|count| nth(54_321, count)).collect();
        assert_eq!(ports.len(), RANGE.len());
        assert!(ports.iter().all(|port| RANGE.contains(port)));
    }

    #[test]
    fn a_port_is_allocated_once() {
        let nodes: Vec<Ports> = (0..10).map(|_| Ports::free().unwrap()).collect();
        let ports: BTreeSet<u16> =
            nodes.iter().flat_map(|ports| [ports.amqp, ports.distribution, ports.names]).collect();
        assert_eq!(ports.len(), 30);
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = listener.local_addr().unwrap().port();
        assert_eq!(first_free([taken].into_iter()), None);
        let free = Ports::free().unwrap().amqp;
        assert_eq!(first_free([taken, free].into_iter()), Some(free));
    }
}
