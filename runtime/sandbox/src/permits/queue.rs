//! The order in which requests get one of a few places: owners take turns, and each owner's requests keep their order.
//!
//! A plain value without tasks and channels: the file above has those.

use std::collections::VecDeque;

use flow::Namespace;

/// The maximum number of requests of one owner that wait: more would only wait for minutes.
pub(crate) const MAX_WAITING: usize = 16;

/// Whose request it is: that of a namespace, or of none.
pub(crate) type Owner = Option<Namespace>;

/// Some places, and the requests that wait for one. While a place is free, nothing waits.
#[derive(Debug)]
pub(crate) struct Queue<Waiter> {
    free: usize,
    /// The owners with waiting requests, the next one first.
    waiting: VecDeque<(Owner, VecDeque<Waiter>)>,
}

/// The owner has as many waiting requests as are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl<Waiter> Queue<Waiter> {
    pub(crate) const fn new(places: usize) -> Self {
        Self { free: places, waiting: VecDeque::new() }
    }

    /// Takes a place, if one is free.
    pub(crate) fn take(&mut self) -> bool {
        let is_free = self.free > 0;
        self.free -= usize::from(is_free);
        is_free
    }

    /// Lets a request of an owner wait. Those that do not wait any more, by `is_gone`, make room.
    pub(crate) fn wait(&mut self, owner: Owner, waiter: Waiter, is_gone: impl Fn(&Waiter) -> bool) -> Result<(), Full> {
        let Some((_, waiters)) = self.waiting.iter_mut().find(|(known, _)| *known == owner) else {
            self.waiting.push_back((owner, VecDeque::from([waiter])));
            return Ok(());
        };
        waiters.retain(|waiter| !is_gone(waiter));
        if waiters.len() >= MAX_WAITING {
            return Err(Full);
        }
        waiters.push_back(waiter);
        Ok(())
    }

    /// Gives a place back: returns the request that has it now. If nothing waits, the place is free.
    pub(crate) fn give_back(&mut self) -> Option<Waiter> {
        while let Some((owner, mut waiters)) = self.waiting.pop_front() {
            let Some(waiter) = waiters.pop_front() else { continue };
            if !waiters.is_empty() {
                self.waiting.push_back((owner, waiters));
            }
            return Some(waiter);
        }
        self.free += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        Some(Namespace::new(name).unwrap())
    }

    fn next(queue: &mut Queue<String>) -> Option<String> {
        queue.give_back()
    }

    /// Lets requests wait that are named after their owner and their number.
    fn wait(queue: &mut Queue<String>, name: &str, numbers: std::ops::Range<usize>) {
        numbers.for_each(|number| queue.wait(owner(name), format!("{name}{number}"), |_| false).unwrap());
    }

    #[test]
    fn owners_take_turns() {
        let mut queue = Queue::new(2);
        assert!(queue.take() && queue.take() && !queue.take());
        wait(&mut queue, "a", 0..3);
        queue.wait(None, "none".into(), |_| false).unwrap();
        wait(&mut queue, "b", 0..2);
        let order: Vec<String> = std::iter::from_fn(|| next(&mut queue)).collect();
        assert_eq!(order, ["a0", "none", "b0", "a1", "b1", "a2"]);
        assert!(queue.take(), "nothing waited for the last place");
    }

    #[test]
    fn an_owner_that_comes_again_is_last() {
        let mut queue = Queue::new(0);
        wait(&mut queue, "a", 0..2);
        wait(&mut queue, "b", 0..1);
        assert_eq!(next(&mut queue).unwrap(), "a0");
        wait(&mut queue, "a", 2..3);
        wait(&mut queue, "c", 0..1);
        let order: Vec<String> = std::iter::from_fn(|| next(&mut queue)).collect();
        assert_eq!(order, ["b0", "a1", "c0", "a2"]);
    }

    #[test]
    fn only_so_many_requests_of_one_owner_wait() {
        let mut queue = Queue::new(0);
        wait(&mut queue, "a", 0..MAX_WAITING);
        assert_eq!(queue.wait(owner("a"), "a".into(), |_| false), Err(Full));
        wait(&mut queue, "b", 0..MAX_WAITING);
        // Those that do not wait any more take no room.
        queue.wait(owner("a"), "late".into(), |waiter| waiter == "a0").unwrap();
        let order: Vec<String> = std::iter::from_fn(|| next(&mut queue)).collect();
        assert!(order.len() == 2 * MAX_WAITING && order.starts_with(&["a1".into(), "b0".into()]), "{order:?}");
        assert_eq!(order.last().unwrap(), "b15");
    }
}
