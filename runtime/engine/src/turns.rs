//! Entries that take turns.

use std::collections::{BTreeMap, VecDeque};

/// What becomes of an entry that was asked for an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is asked first again.
    GoesOn,
    /// It is asked again behind all others.
    IsOver,
    /// It is removed.
    WasLast,
}

/// Entries by key, in the order in which they are asked. A new one comes last.
pub(crate) struct Turns<Key, Entry> {
    entries: BTreeMap<Key, Entry>,
    /// Each key once.
    order: VecDeque<Key>,
}

impl<Key, Entry> Default for Turns<Key, Entry> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<Key: Ord + Clone, Entry: Default> Turns<Key, Entry> {
    /// The entry of a key, which is added if it is new.
    pub(crate) fn entry(&mut self, key: Key) -> &mut Entry {
        self.entries.entry(key).or_insert_with_key(|key| {
            self.order.push_back(key.clone());
            Entry::default()
        })
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Asks each entry once at most, until one has an item.
    pub(crate) fn take<Item>(&mut self, mut ask: impl FnMut(&mut Entry) -> (Option<Item>, Turn)) -> Option<Item> {
        for _ in 0..self.order.len() {
            let key = self.order.pop_front()?;
            let (item, turn) = ask(self.entries.get_mut(&key)?);
            match turn {
                Turn::GoesOn => self.order.push_front(key),
                Turn::IsOver => self.order.push_back(key),
                Turn::WasLast => drop(self.entries.remove(&key)),
            }
            if item.is_some() {
                return item;
            }
        }
        None
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.entries.keys()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&Key, &mut Entry)> {
        self.entries.iter_mut()
    }

    /// Removes the entry of a key.
    pub(crate) fn remove(&mut self, key: &Key) {
        if self.entries.remove(key).is_some() {
            self.order.retain(|other| other != key);
        }
    }

    /// Removes the entries of all other keys.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&Key) -> bool) {
        self.entries.retain(|key, _| is_kept(key));
        self.order.retain(is_kept);
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.values_mut()
    }
}
