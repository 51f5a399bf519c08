//! The names that a broker has given to the private queues of one connection.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The broker's name of each private queue. The queues end with their connection, and so does this.
#[derive(Debug, Default)]
pub(super) struct PrivateNames(Mutex<HashMap<String, String>>);

impl PrivateNames {
    /// The broker's name of a private queue; `None` if this connection has no such queue.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.lock().get(name).cloned()
    }

    /// Notes the name of a new private queue.
    pub(super) fn insert(&self, name: &str, at_broker: String) {
        self.lock().insert(name.to_owned(), at_broker);
    }

    /// Forgets a queue that no longer exists.
    pub(super) fn remove(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        // Each change is a single operation, so the map is always consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
