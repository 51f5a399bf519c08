//! The shares of senders in something of which a server has only so much, such as bytes for bodies. Nobody gets all of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flow::Namespace;

/// Who has a share: all senders of a namespace together, or a sender that is not limited to one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sender {
    /// The senders that are limited to the namespace.
    Namespace(Namespace),
    /// The token of this name, or words in parentheses.
    Token(String),
}

/// Units that senders share.
pub(crate) struct Shares {
    total: usize,
    max_of_sender: usize,
    taken: Mutex<BTreeMap<Sender, usize>>,
}

/// Units that a sender has taken. Dropping it gives them back.
pub(crate) struct Share {
    shares: Arc<Shares>,
    sender: Sender,
    units: usize,
}

/// Why a share could not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    /// Too few units are left.
    All,
    /// The sender has too many already.
    OfSender,
}

impl Shares {
    pub(crate) fn new(total: usize, max_of_sender: usize) -> Arc<Self> {
        Arc::new(Self { total, max_of_sender, taken: Mutex::default() })
    }

    /// Takes units for a sender.
    ///
    /// # Errors
    /// [`Exhausted`] when there are not enough, or the sender would have more than its part.
    pub(crate) fn take(self: &Arc<Self>, sender: &Sender, units: usize) -> Result<Share, Exhausted> {
        let mut taken = self.taken();
        let of_sender = taken.get(sender).copied().unwrap_or_default().saturating_add(units);
        if of_sender > self.max_of_sender {
            return Err(Exhausted::OfSender);
        }
        if taken.values().sum::<usize>().saturating_add(units) > self.total {
            return Err(Exhausted::All);
        }
        taken.insert(sender.clone(), of_sender);
        Ok(Share { shares: self.clone(), sender: sender.clone(), units })
    }

    /// Gives units of a sender back.
    fn give_back(&self, sender: &Sender, units: usize) {
        let mut taken = self.taken();
        let left = taken.get(sender).copied().unwrap_or_default().saturating_sub(units);
        if left == 0 {
            taken.remove(sender);
        } else {
            taken.insert(sender.clone(), left);
        }
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<Sender, usize>> {
        // Each change is a single operation on the map.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    /// The namespace that the sender is limited to.
    pub(crate) fn namespace(&self) -> Option<&Namespace> {
        match self {
            Self::Namespace(namespace) => Some(namespace),
            Self::Token(_) => None,
        }
    }
}

impl Share {
    /// The number of its units.
    pub(crate) fn units(&self) -> usize {
        self.units
    }

    /// Changes the number of its units. It keeps those that it has if there are not enough.
    ///
    /// # Errors
    /// As [`Shares::take`].
    pub(crate) fn resize(&mut self, units: usize) -> Result<(), Exhausted> {
        let Some(missing) = units.checked_sub(self.units) else {
            self.shrink_to(units);
            return Ok(());
        };
        let mut more = self.shares.take(&self.sender, missing)?;
        self.units += std::mem::take(&mut more.units);
        Ok(())
    }

    /// Gives back all but these units, if it has more.
    pub(crate) fn shrink_to(&mut self, units: usize) {
        let surplus = self.units.saturating_sub(units);
        self.units -= surplus;
        self.shares.give_back(&self.sender, surplus);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shares.give_back(&self.sender, self.units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_its_part_and_a_dropped_share_is_free() {
        let shares = Shares::new(10, 4);
        let [ann, bob, shop] =
            [Sender::Token("ann".into()), Sender::Token("bob".into()), Sender::Namespace("ann".parse().unwrap())];
        let first = shares.take(&ann, 3).unwrap();
        assert_eq!(shares.take(&ann, 2).err(), Some(Exhausted::OfSender));
        let second = shares.take(&ann, 1).unwrap();
        let _of_bob = shares.take(&bob, 4).unwrap();
        assert_eq!(shares.take(&shop, 3).err(), Some(Exhausted::All));
        let _of_shop = shares.take(&shop, 2).unwrap();
        drop(first);
        assert_eq!(shares.take(&ann, 4).err(), Some(Exhausted::OfSender), "it has one still");
        drop(second);
        assert_eq!(*shares.taken(), [(bob, 4), (shop, 2)].into());
        let mut third = shares.take(&ann, 4).unwrap();
        third.shrink_to(1);
        third.shrink_to(3);
        assert_eq!(shares.take(&ann, 4).err(), Some(Exhausted::OfSender));
        drop(shares.take(&ann, 3).unwrap());
        drop(third);
        assert!(shares.take(&ann, 4).is_ok());
        assert_eq!(shares.take(&ann, usize::MAX).err(), Some(Exhausted::OfSender));
        let mut fourth = shares.take(&ann, 1).unwrap();
        assert_eq!((fourth.resize(3), fourth.units()), (Ok(()), 3));
        assert_eq!((fourth.resize(5), fourth.units()), (Err(Exhausted::OfSender), 3));
        assert_eq!(shares.take(&ann, 2).err(), Some(Exhausted::OfSender));
        assert_eq!((fourth.resize(1), fourth.units()), (Ok(()), 1));
        assert!(shares.take(&ann, 3).is_ok());
        drop(fourth);
        assert!(shares.take(&ann, 4).is_ok(), "all of it is given back");
    }
}
