//! A queue in which runs alternate: higher priority first, then one call of each run after the other. The calls of
//! one run keep their order of arrival.
//!
//! A run that was served goes behind all other waiting runs, and so does a new run. So a run waits for at most one
//! call of each other run, however many calls that run has. A plain value.

use std::{cmp::Reverse, collections::BTreeMap};

use flow::RunId;

/// The position of a call in the queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueuePosition {
    pub(crate) priority: i32,
    pub(crate) run: RunId,
    /// Its arrival number, which increases over all calls.
    pub(crate) arrival: u64,
}

/// The calls of one run with one priority.
struct RunQueue<Call> {
    next_turn: u64,
    calls: BTreeMap<u64, Call>,
}

/// The waiting calls.
pub(crate) struct FairQueue<Call> {
    queues: BTreeMap<(i32, RunId), RunQueue<Call>>,
    /// The order in which the runs are served.
    rotation: BTreeMap<(Reverse<i32>, u64), RunId>,
    turn: u64,
}

impl<Call> Default for FairQueue<Call> {
    fn default() -> Self {
        Self { queues: BTreeMap::new(), rotation: BTreeMap::new(), turn: 0 }
    }
}

impl<Call> FairQueue<Call> {
    /// Inserts a call. Returns whether it is new.
    pub(crate) fn insert(&mut self, position: &QueuePosition, call: Call) -> bool {
        let QueuePosition { priority, run, arrival } = position;
        let queue = self.queues.entry((*priority, run.clone())).or_insert_with(|| {
            self.turn += 1;
            self.rotation.insert((Reverse(*priority), self.turn), run.clone());
            RunQueue { next_turn: self.turn, calls: BTreeMap::new() }
        });
        queue.calls.insert(*arrival, call).is_none()
    }

    /// Removes a call, if it is there.
    pub(crate) fn remove(&mut self, position: &QueuePosition) -> Option<Call> {
        let key = (position.priority, position.run.clone());
        let queue = self.queues.get_mut(&key)?;
        let call = queue.calls.remove(&position.arrival);
        if queue.calls.is_empty() {
            self.rotation.remove(&(Reverse(position.priority), queue.next_turn));
            self.queues.remove(&key);
        }
        call
    }

    /// A call of a run was served: all other runs come before its next one.
    pub(crate) fn mark_served(&mut self, priority: i32, run: &RunId) {
        if let Some(queue) = self.queues.get_mut(&(priority, run.clone())) {
            self.rotation.remove(&(Reverse(priority), queue.next_turn));
            self.turn += 1;
            queue.next_turn = self.turn;
            self.rotation.insert((Reverse(priority), queue.next_turn), run.clone());
        }
    }

    /// Returns the next calls, at most `most`, in the order in which they are served if no others arrive.
    pub(crate) fn first(&self, max: usize) -> Vec<&Call> {
        let mut first = Vec::new();
        let mut turns = self.rotation.iter().peekable();
        while let Some(((priority, _), _)) = turns.peek().copied() {
            let mut queues = Vec::new();
            // Each queue has a call, so runs further behind are not reached.
            while first.len() + queues.len() < max
                && let Some((_, run)) = turns.next_if(|((other, _), _)| other == priority)
            {
                queues.extend(self.queues.get(&(priority.0, run.clone())).map(|queue| queue.calls.values()));
            }
            while !queues.is_empty() && first.len() < max {
                queues.retain_mut(|calls| match calls.next() {
                    Some(call) => {
                        first.push(call);
                        true
                    }
                    None => false,
                });
            }
            first.truncate(max);
            if first.len() == max {
                break;
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(run: &str, priority: i32, arrival: u64) -> QueuePosition {
        QueuePosition { priority, run: run.parse().unwrap(), arrival }
    }

    /// Serves all waiting calls in order.
    fn served(queue: &mut FairQueue<QueuePosition>) -> String {
        let mut order = String::new();
        while let Some(next) = queue.first(1).first().map(|position| (*position).clone()) {
            assert!(queue.remove(&next).is_some());
            queue.mark_served(next.priority, &next.run);
            order.push_str(&format!("{}{} ", next.run, next.arrival));
        }
        assert!(queue.queues.is_empty() && queue.rotation.is_empty(), "nothing is left of it");
        order.trim_end().to_owned()
    }

    #[test]
    fn runs_alternate_and_calls_of_a_run_keep_their_order() {
        let mut queue = FairQueue::default();
        for arrival in 0..4 {
            let position = position("a", 0, arrival);
            queue.insert(&position, position.clone());
        }
        for (run, priority, arrival) in [("b", 0, 4), ("c", 0, 5), ("b", 0, 6), ("urgent", 5, 7)] {
            let position = position(run, priority, arrival);
            queue.insert(&position, position.clone());
        }
        let order: Vec<String> =
            queue.first(6).iter().map(|position| format!("{}{}", position.run, position.arrival)).collect();
        assert_eq!(order, ["urgent7", "a0", "b4", "c5", "a1", "b6"], "the order is known in advance");
        assert_eq!(queue.first(100).len(), 8);
        assert_eq!(served(&mut queue), "urgent7 a0 b4 c5 a1 b6 a2 a3");
    }

    #[test]
    fn a_new_run_waits_for_one_call_of_each_other_run() {
        let mut queue = FairQueue::default();
        for arrival in 0..1_000 {
            let position = position("z", 0, arrival);
            queue.insert(&position, position.clone());
        }
        let next = queue.first(1)[0].clone();
        queue.remove(&next);
        queue.mark_served(0, &next.run);
        let new = position("a", 0, 1_000);
        queue.insert(&new, new.clone());
        let order: Vec<u64> = queue.first(3).iter().map(|position| position.arrival).collect();
        assert_eq!(order, [1, 1_000, 2]);
    }
}
