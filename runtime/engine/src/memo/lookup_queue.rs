//! The calls whose lookups have not begun, in turns: a namespace, and in it a run, waits for one call of each other, however many those have.

use std::collections::{BTreeMap, VecDeque};

use flow::{CallId, Namespace, RunId};
use protocol::MemoAddress;
use tokio::time::{Duration, Instant};

type WaitingCall = (CallId, MemoAddress);

/// The waiting calls. A plain value.
#[derive(Default)]
pub(super) struct LookupQueue {
    namespaces: Turns<Option<Namespace>, Turns<RunId, VecDeque<WaitingCall>>>,
    /// The calls in the order of their arrival, also those that were taken since.
    arrivals: VecDeque<(Instant, CallId)>,
}

/// Queues that take turns. None of them is empty.
struct Turns<Key, Queue> {
    queues: BTreeMap<Key, Queue>,
    order: VecDeque<Key>,
}

impl<Key, Queue> Default for Turns<Key, Queue> {
    fn default() -> Self {
        Self { queues: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<Key: Ord + Clone, Queue: Default> Turns<Key, Queue> {
    fn queue(&mut self, key: Key) -> &mut Queue {
        if !self.queues.contains_key(&key) {
            self.order.push_back(key.clone());
        }
        self.queues.entry(key).or_default()
    }

    /// Takes from the queue whose turn it is. `take` returns what it took, and whether the queue is empty now.
    fn take<T>(&mut self, take: impl FnOnce(&mut Queue) -> (T, bool)) -> Option<T> {
        let key = self.order.pop_front()?;
        let (taken, is_empty) = take(self.queues.get_mut(&key)?);
        if is_empty {
            self.queues.remove(&key);
        } else {
            self.order.push_back(key);
        }
        Some(taken)
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl LookupQueue {
    pub(super) fn push(&mut self, call: CallId, address: MemoAddress) {
        self.arrivals.push_back((Instant::now(), call.clone()));
        self.namespaces.queue(address.namespace.clone()).queue(call.run.clone()).push_back((call, address));
    }

    /// Takes the next call.
    pub(super) fn pop(&mut self) -> Option<WaitingCall> {
        let of_run = |calls: &mut VecDeque<WaitingCall>| (calls.pop_front(), calls.is_empty());
        let of_namespace = |runs: &mut Turns<RunId, _>| (runs.take(of_run).flatten(), runs.is_empty());
        self.namespaces.take(of_namespace).flatten()
    }

    /// Returns the oldest call if it came this long ago, and forgets its time. It may have been taken since.
    pub(super) fn next_arrived_before(&mut self, time: Duration) -> Option<CallId> {
        let (_, call) = self.arrivals.pop_front_if(|(at, _)| at.elapsed() >= time)?;
        Some(call)
    }
}
