//! The firings of a run, and the sum of what they hold: each change goes through this type, so that the sum is always known.

use std::{collections::BTreeMap, ops::Deref};

use flow::Firing;

use super::firing::FiringMachine;

/// The firings of a run by number.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Firings {
    by_number: BTreeMap<Firing, FiringMachine>,
    held: u64,
}

impl Firings {
    /// The bytes that their nodes hold together.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held
    }

    pub(super) fn insert(&mut self, firing: FiringMachine) {
        let after = firing.held_bytes();
        let old = self.by_number.insert(firing.firing, firing);
        self.count(old.map_or(0, |old| old.held_bytes()), after);
    }

    pub(super) fn remove(&mut self, number: Firing) {
        let old = self.by_number.remove(&number);
        self.count(old.map_or(0, |old| old.held_bytes()), 0);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Changes a firing; `None` if there is none with this number.
    pub(super) fn change<T>(&mut self, number: Firing, change: impl FnOnce(&mut FiringMachine) -> T) -> Option<T> {
        let firing = self.by_number.get_mut(&number)?;
        let before = firing.held_bytes();
        let result = change(firing);
        let after = firing.held_bytes();
        self.count(before, after);
        Some(result)
    }

    /// Changes all firings, up to the first that cannot be changed.
    ///
    /// # Errors
    /// Why it cannot be changed.
    pub(super) fn change_all(
        &mut self,
        change: impl FnMut(&mut FiringMachine) -> Result<(), String>,
    ) -> Result<(), String> {
        let changed = self.by_number.values_mut().try_for_each(change);
        self.held = self.by_number.values().map(FiringMachine::held_bytes).fold(0, u64::saturating_add);
        changed
    }

    fn count(&mut self, before: u64, after: u64) {
        self.held = self.held.saturating_add(after).saturating_sub(before);
    }
}

impl Deref for Firings {
    type Target = BTreeMap<Firing, FiringMachine>;

    fn deref(&self) -> &Self::Target {
        &self.by_number
    }
}
