//! Ports that nobody uses.

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

/// Below the ports that operating systems give to outgoing connections: from among those, a client that tries to reach a
/// node which is down may be given the very port it tries, and then talks to itself.
const RANGE: Range<u16> = 20_000..32_000;

/// The ports of one node.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) amqp: u16,
    /// Where nodes of a cluster would meet.
    pub(crate) distribution: u16,
    /// Where Erlang's port mapper listens.
    pub(crate) names: u16,
}

impl Ports {
    /// Three ports that are free now. Two calls in one process never give the same; two processes hardly ever.
    pub(crate) fn free() -> Result<Self> {
        Ok(Self { amqp: free_port()?, distribution: free_port()?, names: free_port()? })
    }
}

/// A port that is free now. Two calls in one process never give the same; two processes hardly ever.
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

/// Where this process starts to look: processes that start together start apart.
fn start() -> u16 {
    static START: LazyLock<u16> = LazyLock::new(|| {
        let mut hasher = DefaultHasher::new();
        (process::id(), SystemTime::now()).hash(&mut hasher);
        let [first, second, ..] = hasher.finish().to_be_bytes();
        u16::from_be_bytes([first, second])
    });
    *START
}

/// The port `count` steps after `start`, round and round in the range.
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
    fn a_port_is_given_once() {
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
