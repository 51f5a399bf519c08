//! What the requests and responses of a call have in the memory of the host, so that a call that waits counts with it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use gateway::MAX_HEADERS_BYTES;
use http::HeaderMap;

use super::super::MAX_RESOURCES;

/// The maximum memory of all lists of headers, in bytes: each is a resource of the guest.
const MAX_HEADER_LISTS_BYTES: u64 = MAX_RESOURCES as u64 * MAX_HEADERS_BYTES as u64;

/// What a header takes in memory besides its name and its value, in bytes: its entry in the list, and the allocations of both.
const HEADER_OVERHEAD: u64 = 128;

/// The memory of all requests and responses of one call. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct HttpMemory(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    /// The bodies in memory now.
    bodies: AtomicU64,
    /// All headers that the guest has ever set or received: nobody notices when it drops a list of them.
    headers: AtomicU64,
}

/// The memory of a body, until this is dropped.
#[derive(Debug)]
pub(super) struct HeldBody {
    memory: HttpMemory,
    bytes: u64,
}

impl HttpMemory {
    /// At least the bytes in memory now.
    pub(crate) fn held(&self) -> u64 {
        let Counters { bodies, headers } = &*self.0;
        bodies.load(Ordering::Relaxed).saturating_add(headers.load(Ordering::Relaxed).min(MAX_HEADER_LISTS_BYTES))
    }

    /// Counts a body of some bytes.
    pub(super) fn hold(&self, bytes: u64) -> HeldBody {
        let mut held = HeldBody { memory: self.clone(), bytes: 0 };
        held.grow(bytes);
        held
    }

    /// Counts headers that a guest sets, by their names and values.
    pub(super) fn add_headers<'a>(&self, headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
        let sizes = headers.into_iter().map(|(name, value)| (name.len() + value.len()) as u64 + HEADER_OVERHEAD);
        self.add_header_bytes(sizes.sum());
    }

    /// Counts the headers of a response.
    pub(super) fn add_received(&self, headers: &HeaderMap) {
        self.add_headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
    }

    /// Counts a copy of a list of headers. It takes memory of its own once the guest changes it.
    pub(super) fn add_header_list(&self) {
        self.add_header_bytes(MAX_HEADERS_BYTES as u64);
    }

    fn add_header_bytes(&self, bytes: u64) {
        // It stays far below the maximum of a `u64`: a guest has hours, and copies gigabytes in a second.
        self.0.headers.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl HeldBody {
    /// Counts more bytes of the body.
    pub(super) fn grow(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.memory.0.bodies.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for HeldBody {
    fn drop(&mut self) {
        self.memory.0.bodies.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_counts_until_it_is_dropped_and_headers_up_to_what_all_lists_may_have() {
        let memory = HttpMemory::default();
        let mut body = memory.hold(100);
        body.grow(20);
        assert_eq!(memory.held(), 120);
        memory.add_headers([("name", &b"value"[..])]);
        assert_eq!(memory.held(), 120 + 9 + HEADER_OVERHEAD);
        drop(body);
        assert_eq!(memory.held(), 9 + HEADER_OVERHEAD);
        (0..2 * MAX_RESOURCES).for_each(|_| memory.add_header_list());
        assert_eq!(memory.held(), MAX_HEADER_LISTS_BYTES);
    }
}
