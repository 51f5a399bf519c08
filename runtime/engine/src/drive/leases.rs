//! Calls that workers have under a lease, and when each was heard of last.
//!
//! That a call is under a lease is a record; when it was heard of last is not: an engine that takes a shard over gives
//! every lease its full time again.

use std::collections::{BTreeMap, BTreeSet};

use flow::{CallId, Timestamp, WorkerName};

/// A call, and who has it.
pub(super) type Held = (CallId, WorkerName);

/// When the leases of a shard's calls are missed.
#[derive(Debug, Default)]
pub(super) struct Leases {
    expiry: BTreeMap<Held, Timestamp>,
    order: BTreeSet<(Timestamp, Held)>,
}

impl Leases {
    /// A call was heard of: its lease lasts until then.
    pub(super) fn renew(&mut self, call: Held, until: Timestamp) {
        self.end(&call);
        self.order.insert((until, call.clone()));
        self.expiry.insert(call, until);
    }

    /// Whether a call is under a lease.
    pub(super) fn holds(&self, call: &Held) -> bool {
        self.expiry.contains_key(call)
    }

    /// A call is not under a lease any more.
    pub(super) fn end(&mut self, call: &Held) {
        if let Some(until) = self.expiry.remove(call) {
            self.order.remove(&(until, call.clone()));
        }
    }

    /// Takes out what is missed by now.
    pub(super) fn missed(&mut self, now: Timestamp) -> Vec<Held> {
        let mut missed = Vec::new();
        while let Some((until, call)) = self.order.first().filter(|(until, _)| *until <= now).cloned() {
            self.order.remove(&(until, call.clone()));
            self.expiry.remove(&call);
            missed.push(call);
        }
        missed
    }

    /// When the next one is missed.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.order.first().map(|(until, _)| *until)
    }
}
