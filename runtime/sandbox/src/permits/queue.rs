//! The order in which requests get one of a few places: owners take turns, and each owner's requests keep their order. The last
//! free place is for an owner that has none: so an owner with slow requests leaves a place for another owner.
//!
//! A plain value without tasks and channels: the file above has those.

use std::collections::{BTreeMap, VecDeque};

use flow::Namespace;

/// Whose request it is: that of a namespace, or of none.
pub type Owner = Option<Namespace>;

/// Some places, and the requests that wait for one.
#[derive(Debug)]
pub(crate) struct Queue<Waiter> {
    free: usize,
    /// The maximum number of requests of one owner that wait.
    max_waiting: usize,
    /// The number of places that each owner has, if any.
    taken: BTreeMap<Owner, usize>,
    /// The owners with waiting requests, the next one first.
    waiting: VecDeque<(Owner, VecDeque<Waiter>)>,
}

/// The owner has as many waiting requests as are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl<Waiter> Queue<Waiter> {
    pub(crate) const fn new(places: usize, max_waiting: usize) -> Self {
        Self { free: places, max_waiting, taken: BTreeMap::new(), waiting: VecDeque::new() }
    }

    /// Takes a place for an owner, if it may have one now. Its requests that wait already were refused one, so none of them
    /// is overtaken.
    pub(crate) fn take(&mut self, owner: &Owner) -> bool {
        let may_take = self.may_take(owner);
        if may_take {
            self.free -= 1;
            *self.taken.entry(owner.clone()).or_default() += 1;
        }
        may_take
    }

    fn may_take(&self, owner: &Owner) -> bool {
        match self.free {
            0 => false,
            1 => !self.taken.contains_key(owner),
            _ => true,
        }
    }

    /// Lets a request of an owner wait. Those that do not wait any more, by `is_gone`, make room.
    pub(crate) fn wait(&mut self, owner: Owner, waiter: Waiter, is_gone: impl Fn(&Waiter) -> bool) -> Result<(), Full> {
        let Some((_, waiters)) = self.waiting.iter_mut().find(|(known, _)| *known == owner) else {
            self.waiting.push_back((owner, VecDeque::from([waiter])));
            return Ok(());
        };
        waiters.retain(|waiter| !is_gone(waiter));
        if waiters.len() >= self.max_waiting {
            return Err(Full);
        }
        waiters.push_back(waiter);
        Ok(())
    }

    /// Gives an owner's place back. [`next`](Self::next) then has it for others.
    pub(crate) fn give_back(&mut self, owner: &Owner) {
        self.free += 1;
        let taken = self.taken.get_mut(owner).expect("the owner has a place");
        *taken -= 1;
        if *taken == 0 {
            self.taken.remove(owner);
        }
    }

    /// Gives a free place to the next request that may have it. A place may stay free although requests wait.
    pub(crate) fn next(&mut self) -> Option<(Owner, Waiter)> {
        let next = self.waiting.iter().position(|(owner, _)| self.may_take(owner))?;
        let (owner, mut waiters) = self.waiting.remove(next).expect("it was found there");
        let waiter = waiters.pop_front().expect("an owner in the queue has a request");
        if !waiters.is_empty() {
            self.waiting.push_back((owner.clone(), waiters));
        }
        let is_taken = self.take(&owner);
        debug_assert!(is_taken, "the owner may take a place");
        Some((owner, waiter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_WAITING: usize = 16;

    fn owner(name: &str) -> Owner {
        Some(Namespace::new(name).unwrap())
    }

    /// A queue whose places are all taken, by owners that never come again.
    fn taken(places: usize) -> Queue<String> {
        let mut queue = Queue::new(places, MAX_WAITING);
        assert!((0..places).all(|number| queue.take(&owner(&format!("first{number}")))));
        queue
    }

    /// The requests that get the places of the first owners, and then of one another, until none waits.
    fn order(mut queue: Queue<String>) -> Vec<String> {
        let mut order = Vec::new();
        while let Some(last) = queue.taken.keys().next().cloned() {
            queue.give_back(&last);
            order.extend(std::iter::from_fn(|| queue.next()).map(|(_, waiter)| waiter));
        }
        order
    }

    /// Lets requests wait that are named after their owner and their number.
    fn wait(queue: &mut Queue<String>, name: &str, numbers: std::ops::Range<usize>) {
        numbers.for_each(|number| queue.wait(owner(name), format!("{name}{number}"), |_| false).unwrap());
    }

    #[test]
    fn owners_take_turns() {
        let mut queue = taken(1);
        wait(&mut queue, "a", 0..3);
        queue.wait(None, "none".into(), |_| false).unwrap();
        wait(&mut queue, "b", 0..2);
        assert_eq!(order(queue), ["a0", "none", "b0", "a1", "b1", "a2"]);
    }

    #[test]
    fn an_owner_that_comes_again_is_last() {
        let mut queue = taken(1);
        wait(&mut queue, "a", 0..2);
        wait(&mut queue, "b", 0..1);
        queue.give_back(&owner("first0"));
        assert_eq!(queue.next().unwrap(), (owner("a"), "a0".into()));
        wait(&mut queue, "a", 2..3);
        wait(&mut queue, "c", 0..1);
        assert_eq!(order(queue), ["b0", "a1", "c0", "a2"]);
    }

    #[test]
    fn only_so_many_requests_of_one_owner_wait() {
        let mut queue = taken(1);
        wait(&mut queue, "a", 0..MAX_WAITING);
        assert_eq!(queue.wait(owner("a"), "a".into(), |_| false), Err(Full));
        wait(&mut queue, "b", 0..MAX_WAITING);
        // Those that do not wait any more take no room.
        queue.wait(owner("a"), "late".into(), |waiter| waiter == "a0").unwrap();
        let order = order(queue);
        assert!(order.len() == 2 * MAX_WAITING && order.starts_with(&["a1".into(), "b0".into()]), "{order:?}");
        assert_eq!(order.last().unwrap(), "b15");
    }

    #[test]
    fn the_last_place_is_for_an_owner_that_has_none() {
        let mut queue: Queue<String> = Queue::new(3, MAX_WAITING);
        assert!(queue.take(&owner("a")) && queue.take(&owner("a")), "nobody else needs these");
        assert!(!queue.take(&owner("a")));
        wait(&mut queue, "a", 0..2);
        assert_eq!(queue.next(), None);
        assert!(queue.take(&owner("b")), "it does not wait for the others");
        assert!(!queue.take(&owner("c")));
        wait(&mut queue, "c", 0..1);
        queue.give_back(&owner("b"));
        assert_eq!(queue.next(), Some((owner("c"), "c0".into())), "it overtakes an owner that has places");
        queue.give_back(&owner("a"));
        assert_eq!(queue.next(), None, "the last place stays free");
        queue.give_back(&owner("c"));
        assert_eq!(queue.next(), Some((owner("a"), "a0".into())));
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn one_place_can_be_enough_for_two_requests() {
        let mut queue: Queue<String> = Queue::new(3, MAX_WAITING);
        assert!(queue.take(&owner("a")) && queue.take(&owner("b")));
        wait(&mut queue, "b", 0..1);
        wait(&mut queue, "a", 0..1);
        assert_eq!(queue.next(), None, "each of them has a place");
        queue.give_back(&owner("a"));
        let next: Vec<String> = std::iter::from_fn(|| queue.next()).map(|(_, waiter)| waiter).collect();
        assert_eq!(next, ["b0", "a0"]);
    }

    #[test]
    fn a_single_place_is_for_everybody() {
        let mut queue: Queue<String> = Queue::new(1, MAX_WAITING);
        assert!(queue.take(&None) && !queue.take(&None));
        queue.give_back(&None);
        assert!(queue.take(&None));
    }
}
