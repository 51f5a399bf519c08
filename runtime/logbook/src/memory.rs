//! A logbook that lasts as long as its process.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use flow::{Record, RunId};

use crate::{Append, AppendError, Appended, LoadError, Logbook, Version};

/// A logbook that lasts as long as its process.
#[derive(Debug, Default)]
pub struct Memory {
    runs: Mutex<BTreeMap<RunId, Vec<Record>>>,
}

impl Memory {
    /// A logbook without runs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Logbook for Memory {
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<Appended>, AppendError> {
        // A panic elsewhere cannot leave the map half written: each insertion is whole.
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let append = |Append { run, follows, records }: Append| {
            let known = runs.get(&run).map_or(0, Vec::len) as u64;
            if follows.get() != known {
                return Appended::Conflict(Version::new(known));
            }
            runs.entry(run).or_default().extend(records);
            Appended::Durable
        };
        Ok(appends.into_iter().map(append).collect())
    }

    async fn load(&self, run: &RunId) -> Result<Vec<Record>, LoadError> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.get(run).cloned().ok_or_else(|| LoadError::Missing { run: run.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_keeps_the_contract() {
        crate::contract::all(|| async { Memory::new() }).await;
    }
}
