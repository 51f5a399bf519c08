//! The notifications that a run has received, so that a duplicate counts once.

use std::collections::VecDeque;

use crate::{Event, Fact, Record};
use flow::{NodeIndex, NodeName, TaskResult, Timestamp, graph::Role};

use super::{Machine, condition_budget::ConditionBudget};

/// The maximum number of notifications that a run remembers; it drops the oldest first.
const MAX_NOTIFICATION_KEYS: usize = 4_096;

/// The keys of the last notifications that a run has received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotificationKeys {
    /// The hashes of task and key, oldest first.
    hashes: VecDeque<u64>,
}

impl NotificationKeys {
    /// Creates the keys from their hashes, oldest first.
    #[must_use]
    pub fn from_hashes(hashes: impl IntoIterator<Item = u64>) -> Self {
        Self { hashes: hashes.into_iter().collect() }
    }

    /// The hashes of the keys, oldest first.
    pub fn hashes(&self) -> impl Iterator<Item = u64> + '_ {
        self.hashes.iter().copied()
    }

    pub(super) fn has(&self, task: &NodeName, key: &str) -> bool {
        self.hashes.contains(&hash(task, key))
    }

    pub(super) fn add(&mut self, task: &NodeName, key: &str) {
        if self.hashes.len() >= MAX_NOTIFICATION_KEYS {
            self.hashes.pop_front();
        }
        self.hashes.push_back(hash(task, key));
    }
}

/// The 64-bit FNV-1a hash of a task's name and a key.
fn hash(task: &NodeName, key: &str) -> u64 {
    let bytes = task.as_str().bytes().chain([0]).chain(key.bytes());
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

impl Machine {
    /// Whether the run has received a notification of this task with this key. A key identifies one notification as long as
    /// the run remembers it: a task that waits again needs another key.
    #[must_use]
    pub fn has_received(&self, task: &NodeName, key: &str) -> bool {
        self.notifications.has(task, key)
    }

    /// Decides about a notification that was sent to one task.
    ///
    /// # Errors
    /// Why it is refused, for people.
    pub(super) fn decide_notify(
        &self,
        now: Timestamp,
        task: &NodeName,
        result: &TaskResult,
        (event, budget): (&Event, &ConditionBudget),
    ) -> Result<Vec<Record>, String> {
        let key = if let Event::Notify { key, .. } = event { key.as_deref() } else { None };
        if key.is_some_and(|key| self.has_received(task, key)) {
            return Ok(Vec::new());
        }
        if let Some(refusal) = self.notification_error(task, result) {
            return Err(refusal);
        }
        let mut records = self.decide_other(now, event, budget);
        let waiting_task = self.tasks.get(task).filter(|index| matches!(self.flow.node(**index).role, Role::Wait(_)));
        // The record of a firing contains the key itself.
        if let (Some(node), Some(key), false) = (waiting_task, key, records.is_empty()) {
            let fact = Fact::NotificationReceived { node: *node, key: key.into() };
            records.insert(0, Record { at: now, firing: None, fact });
        }
        Ok(records)
    }

    /// Remembers a notification from a record.
    pub(super) fn remember_notification(&mut self, node: NodeIndex, key: &str) -> Result<(), String> {
        let node = self.flow.nodes.get(node.0 as usize).ok_or("it names a node that the flow does not have")?;
        self.notifications.add(&node.name, key);
        Ok(())
    }
}
